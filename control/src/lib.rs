//! levee-control: turns cluster state into a program, and keeps a dataplane running it.
//!
//! ```text
//!  YAML files,
//!  API server ──► watch ──► model ──► compile ──► program ──► levee-dataplane
//!                 events    objects   pure:       loop over   (HTTP + JSON on
//!                 of each   → proven  cluster,    a transport  a Unix socket)
//!                 source    cluster   view →
//!                                     Program
//! ```
//!
//! - [`watch`]: sources of objects, and the store of what they all say. Never the dataplane's socket.
//! - [`model`]: objects as they are written, and the [`ValidatedCluster`](model::ValidatedCluster) that they amount to.
//! - [`allocate`]: which Service of type LoadBalancer has which address. As pure as the next.
//! - [`compile`]: what one dataplane is told. No I/O, clock, randomness or hash-map order.
//! - [`plan`]: a program by key, and changes of it.
//! - [`program`]: keeps a dataplane on the program that was compiled last. Has never heard of Kubernetes.
//! - [`lease`]: what only one may do, with the API server as the arbiter.
//! - [`config`], [`daemon`]: one screen of configuration, and the loop around it all.
//! - [`offline`]: from files to a program without a daemon, for the command line.
//!
//! It never sees a packet. How a Service is read is written down in `RULES.md` beside this crate's manifest; tests carry
//! the rules' numbers.

// Nothing that comes out of a file or a socket may end the process.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::unreachable)
)]

pub mod allocate;
pub mod compile;
pub mod config;
pub mod daemon;
pub mod election;
pub mod lease;
pub mod model;
pub mod notice;
pub mod offline;
pub mod plan;
pub mod program;
pub mod publish;
pub mod watch;
