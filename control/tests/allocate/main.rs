//! Addresses for Services of type LoadBalancer: what holds for every set of Services and pools, and who gets what in the cases
//! that people meet.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod cases;
mod files;
mod plans;
mod pools;
mod properties;
