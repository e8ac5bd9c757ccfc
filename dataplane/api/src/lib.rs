//! What levee's processes say to each other.
//!
//! ```text
//!  levee-control ──Program / Delta──►  levee-dataplane
//!  levee (CLI)   ◄──report::*────────  levee-dataplane, levee-control
//! ```
//!
//! Everything here is a plain value: no I/O, no clock, no `async`, no `unsafe`. The dataplane knows addresses, MACs,
//! services and backends; nothing in this crate has heard of Kubernetes.
//!
//! - [`net`]: link-layer and transport words that `std` lacks ([`Mac`](net::Mac), [`Protocol`](net::Protocol)).
//! - [`program`]: what the dataplane is told to do, whole ([`Program`](program::Program)) or as a change
//!   ([`Delta`](program::Delta)), each under a generation.
//! - [`quic`]: connection IDs that name their server.
//! - [`report`]: what a running dataplane says about itself.
//! - [`term`]: which addresses are announced, and for how long.
//! - [`explain`]: one packet's fate, in words.
//! - [`metrics`]: what Prometheus reads, declared once, as text.
//! - [`diagnostic`], [`yaml`] and [`word`]: how bad input is told, with file, line and column, and what was meant.

// Nothing that comes out of a file or a socket may end the process.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::unreachable)
)]

pub mod diagnostic;
pub mod explain;
pub mod metrics;
pub mod net;
pub mod program;
pub mod quic;
pub mod report;
pub mod term;
pub mod tunnel;
pub mod word;
pub mod yaml;
