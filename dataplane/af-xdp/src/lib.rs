//! AF_XDP for Rust, safe to use: memory, rings, sockets, and the XDP program that feeds them.
//!
//! | to | use |
//! |---|---|
//! | make memory for frames | [`Umem`], [`FramePool`], [`Frame`] |
//! | receive and send on a queue of an interface | [`Socket`] |
//! | say which frames go to the sockets | [`xdp`] |
//! | know an interface by index, name and queues; its driver's settings | [`interface`], [`ethtool`] |
//! | hear groups that nobody has joined | [`groups`] |
//! | hand frames to the kernel's own stack | [`tap`] |
//! | keep the thread that polls on its core | [`schedule`] |
//!
//! This crate is the home of `unsafe`: one operation per block, each with the reason why it holds. Its safe face is
//! complete, so that nothing that is built on it needs any; the two functions that take over the work of another
//! process ([`Umem::adopt`], [`Socket::adopt`]) are unsafe, because only their caller can know that the other has
//! stopped.

// The workspace denies unsafe code; this crate is where it lives.
#![allow(unsafe_code)]
#![deny(unsafe_op_in_unsafe_fn)]

// The README's example is compiled with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod config;
mod error;
pub mod ethtool;
pub mod frame;
pub mod groups;
pub mod interface;
mod ioctl;
mod mapped;
pub mod pool;
mod queues;
pub mod ring;
pub mod schedule;
pub mod socket;
pub mod tap;
pub mod umem;
pub mod xdp;

pub use config::{BusyPoll, Mode, Registration, RingSizes, SocketConfig};
pub use error::{Error, KickError};
pub use frame::{Frame, OutOfChunk};
pub use pool::FramePool;
pub use queues::{Counters, Held};
pub use socket::{Observer, Socket, Statistics};
pub use umem::{FrameSize, HugePages, KERNEL_HEADROOM, Umem, UmemConfig};
