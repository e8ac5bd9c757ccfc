//! Where frames come from and go to.
//!
//! ```text
//!            reclaim                      receive
//!   pool ───────────────► fill ring ─────────────► worker
//!     ▲                                              │ transmit, flush
//!     └───── reclaim ◄── completion ring ◄───────────┘
//! ```
//!
//! A [`Port`] is one queue of one interface. It moves frames and knows nothing of packets. [`memory`] does it without a
//! kernel, for tests, fuzzing and benchmarks; [`xdp`] over an AF_XDP socket; [`host`] towards this host's own IP stack, over a TAP
//! device. All use the same UMEM and the same frames.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod any;
pub mod host;
pub mod memory;
pub mod steer;
pub mod xdp;

use std::os::fd::BorrowedFd;

use af_xdp::{Frame, FramePool};

/// One queue of one interface.
pub trait Port {
    /// Takes up to `max` received frames, and says how many.
    fn receive(&mut self, into: &mut Vec<Frame>, max: usize) -> usize;

    /// Gives frames to be sent, from the front, as many as there is room for; the rest stay. Says how many.
    fn transmit(&mut self, from: &mut Vec<Frame>) -> usize;

    /// Takes back what has been sent, and tops up what may be received into.
    fn reclaim(&mut self, pool: &mut FramePool);

    /// Has what was given be sent. Called every turn.
    fn flush(&mut self);

    /// Whether frames given to be sent are still on their way.
    fn sending(&self) -> bool;

    /// Gives a copy of a frame to the kernel. False if there is no way to it, or it did not take the frame.
    fn pass(&mut self, frame: &[u8]) -> bool;

    /// What becomes readable when a frame has been received; `None` where nobody can wait.
    fn readiness(&self) -> Option<BorrowedFd<'_>>;
}
