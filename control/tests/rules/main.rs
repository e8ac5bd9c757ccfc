//! Each rule of how a Service is read, with a test that carries its number. The numbers are those of the table in
//! `control/RULES.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;
mod endpoints;
mod joining;
mod latency;
mod overlay;
mod packets;
mod quic;
mod wide;
