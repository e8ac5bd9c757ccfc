//! A port without a kernel: frames are put in and taken out by hand.
//!
//! It keeps the discipline of the rings: what is received lands in frames that the worker gave for it, and what is sent
//! comes back only by [`reclaim`](Port::reclaim). So a test over it can say that no frame was lost or used twice.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use af_xdp::{Frame, FramePool, Umem};

use super::Port;

/// See the module's documentation.
pub struct MemoryPort {
    umem: Arc<Umem>,
    ring: usize,
    fill: Vec<Frame>,
    received: Vec<Frame>,
    sent: Vec<Frame>,
    /// Room in the transmit ring; tests lower it to see what a full ring does.
    pub tx_room: usize,
    /// Copies of what was sent, if [`keep`](Self::keep) says so.
    outgoing: VecDeque<Vec<u8>>,
    keep: bool,
    /// Copies of what was passed to the kernel.
    passed: Vec<Vec<u8>>,
    passes: bool,
}

impl MemoryPort {
    /// A port whose rings have `ring` entries.
    #[must_use]
    pub fn new(umem: &Arc<Umem>, ring: usize) -> Self {
        MemoryPort {
            umem: Arc::clone(umem),
            ring,
            fill: Vec::with_capacity(ring),
            received: Vec::with_capacity(ring),
            sent: Vec::with_capacity(ring),
            tx_room: ring,
            outgoing: VecDeque::new(),
            keep: true,
            passed: Vec::new(),
            passes: true,
        }
    }

    /// Whether copies of sent and passed frames are kept; benchmarks do without.
    #[must_use]
    pub fn keep(mut self, keep: bool) -> Self {
        self.keep = keep;
        self
    }

    /// Whether there is a way to the kernel.
    #[must_use]
    pub fn passes(mut self, passes: bool) -> Self {
        self.passes = passes;
        self
    }

    /// Makes a frame arrive. False if the fill ring is empty or it does not fit into a frame: the kernel would drop it.
    pub fn deliver(&mut self, bytes: &[u8]) -> bool {
        let Some(mut frame) = self.fill.pop() else { return false };
        if self.umem.write(&mut frame, bytes).is_err() {
            self.fill.push(frame);
            return false;
        }
        self.received.push(frame);
        true
    }

    /// The next frame that was sent.
    pub fn sent(&mut self) -> Option<Vec<u8>> {
        self.outgoing.pop_front()
    }

    /// Everything passed to the kernel since the last call.
    pub fn passed(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.passed)
    }

    /// Frames that the port holds now, in all of its rings.
    #[must_use]
    pub fn held(&self) -> usize {
        self.fill.len() + self.received.len() + self.sent.len()
    }
}

impl Port for MemoryPort {
    fn receive(&mut self, into: &mut Vec<Frame>, max: usize) -> usize {
        let count = self.received.len().min(max);
        into.extend(self.received.drain(..count));
        count
    }

    fn transmit(&mut self, from: &mut Vec<Frame>) -> usize {
        let count = from.len().min(self.tx_room.saturating_sub(self.sent.len()));
        if self.keep {
            let kept = from.iter().take(count).map(|frame| self.umem.bytes(frame).to_vec());
            self.outgoing.extend(kept);
        }
        self.sent.extend(from.drain(..count));
        count
    }

    fn reclaim(&mut self, pool: &mut FramePool) {
        pool.give_all(&mut self.sent);
        let missing = self.ring.saturating_sub(self.fill.len() + self.received.len());
        pool.take_many(&mut self.fill, missing);
    }

    fn flush(&mut self) {}

    fn sending(&self) -> bool {
        !self.sent.is_empty()
    }

    fn pass(&mut self, frame: &[u8]) -> bool {
        if self.passes && self.keep {
            self.passed.push(frame.to_vec());
        }
        self.passes
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
