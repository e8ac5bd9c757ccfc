//! levee's packet generator, and what is measured with it.
//!
//! ```text
//!              control map: stop, limit                        state map: frames, bytes, SYNs, first and last time
//!                      │                                               ▲
//!                      ▼                                               │
//!  kernel: live frame ─► [pace: is it time?] ─► [which kind?] ─► [write it whole] ─► redirect ─► the wire of a veth or NIC
//!              ▲              │ not yet: drop
//!              └── next run ◄─┘
//! ```
//!
//! | noun | what it is |
//! |---|---|
//! | [`Config`], [`Traffic`], [`Sizes`] | what is to be sent, how fast, how long; judged whole before anything is |
//! | [`Generator`], [`Stream`], [`Sent`] | a program that the kernel has verified; its running; what it has sent |
//! | [`Receiver`], [`Received`], [`Latency`] | what arrives at the other end: how much, and how long it took |
//! | [`Template`] | one kind of frame: its bytes, what varies in it, and sums for its checksums |
//! | [`search`] | the highest rate, or number, that a device manages: RFC 2544's throughput |
//! | [`ends`] | clients and a server that answer each other, in the kernel |
//! | [`connections`] | RFC 9693: how fast connections begin and end, and how many there can be |
//! | [`schedule`] | in which order kinds come, so that shares are right over every stretch |
//!
//! The generator is an XDP program that the kernel runs over and over on frames of its own (`BPF_PROG_TEST_RUN` with
//! `BPF_F_TEST_XDP_LIVE_FRAMES`), several million times a second on one core, which sending through a socket does not reach by
//! far. It takes that core for itself, and where the wire is a veth, the kernel's receiving at its other end runs there as well.
//!
//! It uses nothing of levee's but MACs: any device can be under test.

mod config;
pub mod connections;
pub mod ends;
mod error;
mod frame;
mod generator;
pub mod latency;
mod program;
mod receiver;
pub mod schedule;
pub mod search;

pub use config::{Config, Segment, Sizes, Traffic};
pub use error::Error;
pub use frame::{STAMP_MAGIC, Template};
pub use generator::{Generator, Sent, Stream, pin};
pub use latency::Latency;
pub use receiver::{Received, Receiver};
