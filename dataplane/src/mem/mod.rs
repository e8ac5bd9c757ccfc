//! Memory that needs more than safe Rust gives, each piece with a safe face. With `af-xdp`, the only home of `unsafe`.
//!
//! - [`prefetch`]: ask for a cache line before it is needed.
//! - [`lanes`]: several words compared at once.
//! - [`pages`]: large zeroed tables on huge pages, faulted in at start.
//! - [`publication`]: how workers see new tables. It needs no `unsafe`, but it belongs to memory: who frees what, and when.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod lanes;
pub mod pages;
pub mod prefetch;
pub mod publication;
