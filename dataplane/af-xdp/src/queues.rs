//! The four rings of a socket, and the frames that are in them.
//!
//! ```text
//!            fill() --> [ fill ring ] --> kernel --> [ rx ring ] --> receive()
//!  FramePool                                                                    Frames
//!            complete() <-- [ completion ring ] <-- kernel <-- [ tx ring ] <-- transmit()
//! ```
//!
//! Here, and in the pool, numbers become frames and frames become numbers. The rule that makes it sound: a chunk's
//! number is put into a ring only by who holds the chunk, who thereby gives it up; and the kernel returns each number
//! once, through the ring that belongs to the one it was put into. The kernel's word is taken for that; where a frame
//! lies is checked.
//!
//! This file knows nothing of sockets: a test plays the kernel on the other ends of the rings.

use std::sync::Arc;

use crate::frame::Frame;
use crate::mapped::Desc;
use crate::pool::FramePool;
use crate::ring::{Consumer, Memory, Producer};
use crate::umem::Umem;

/// More of this packet follows in the next descriptor (`XDP_PKT_CONTD`).
const CONTINUED: u32 = libc::XDP_PKT_CONTD;

/// The least that is a frame: an Ethernet header. The kernel (6.18, veth) takes shorter ones and drops them without a
/// word; here they are counted.
const ETHERNET_HEADER: usize = 14;

/// What a socket has met. Written by its owner only; nothing is ever reset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames received.
    pub received: u64,
    /// Frames given to the kernel to be sent.
    pub transmitted: u64,
    /// Pieces of packets in several descriptors. They are not delivered; their frames go back to the pool.
    pub pieces: u64,
    /// Frames shorter than an Ethernet header that were asked to be sent. They are not sent; their frames go back to
    /// the pool.
    pub runts: u64,
    /// Frames of another UMEM that were asked to be sent. They stay with the caller.
    pub foreign: u64,
    /// Descriptors of the kernel that do not lie inside the UMEM. Their frames, if they are frames, are lost.
    pub invalid: u64,
    /// Calls that asked the kernel to go on: `sendto` and `recvfrom`.
    pub kicks: u64,
    /// Kicks that the kernel answered with EAGAIN, EBUSY or ENOBUFS: it did some work and wants to be asked again.
    pub kicks_again: u64,
}

/// Frames that a socket's rings and the kernel hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Given to be filled, not received yet.
    pub fill: u32,
    /// Given to be sent, not completed yet.
    pub transmit: u32,
    /// On their way back to the pool: pieces and runts; the next [`crate::Socket::fill`] or
    /// [`crate::Socket::complete`] returns them.
    pub returning: u32,
}

impl Held {
    /// All of them.
    #[must_use]
    pub fn total(self) -> u32 {
        self.fill + self.transmit + self.returning
    }
}

#[derive(Debug)]
pub(crate) struct Queues<A, D> {
    umem: Arc<Umem>,
    fill: Producer<A>,
    completion: Consumer<A>,
    rx: Consumer<D>,
    tx: Producer<D>,
    in_fill: u32,
    in_tx: u32,
    /// Chunks to be returned to the pool at the next opportunity. Never grows: whoever would put more in waits.
    returning: Vec<u32>,
    /// The next descriptor continues a packet.
    in_packet: bool,
    pub(crate) counters: Counters,
}

impl<A: Memory<Item = u64>, D: Memory<Item = Desc>> Queues<A, D> {
    /// Takes up four rings where they stand: empty ones of a new socket, or those that another process has left.
    pub(crate) fn new(umem: Arc<Umem>, fill: A, completion: A, rx: D, tx: D) -> Self {
        let (fill, mut completion) = (Producer::new(fill), Consumer::new(completion));
        let (mut rx, tx) = (Consumer::new(rx), Producer::new(tx));
        // What the driver itself holds cannot be seen here: those frames are not counted as held, and are received
        // all the same.
        let in_fill = fill.unconsumed() + rx.available(u32::MAX);
        let in_tx = tx.unconsumed() + completion.available(u32::MAX);
        let returning = Vec::with_capacity((rx.size() + tx.size()) as usize);
        let counters = Counters::default();
        Queues { umem, fill, completion, rx, tx, in_fill, in_tx, returning, in_packet: false, counters }
    }

    #[inline]
    pub(crate) fn umem(&self) -> &Arc<Umem> {
        &self.umem
    }

    pub(crate) fn held(&self) -> Held {
        Held { fill: self.in_fill, transmit: self.in_tx, returning: self.returning.len() as u32 }
    }

    #[inline]
    pub(crate) fn in_tx(&self) -> u32 {
        self.in_tx
    }

    #[inline]
    pub(crate) fn fill_flags(&self) -> u32 {
        self.fill.flags()
    }

    #[inline]
    pub(crate) fn tx_flags(&self) -> u32 {
        self.tx.flags()
    }

    /// Room in `returning`.
    #[inline]
    fn spare(&self) -> usize {
        self.returning.capacity() - self.returning.len()
    }

    #[inline]
    pub(crate) fn receive(&mut self, into: &mut Vec<Frame>, max: usize) -> usize {
        let wanted = max.min(self.spare()).min(self.rx.size() as usize);
        let count = self.rx.available(wanted as u32);
        if count == 0 {
            return 0;
        }
        let before = into.len();
        for _ in 0..count {
            let Some(desc) = self.rx.pop() else { break };
            self.in_fill = self.in_fill.saturating_sub(1);
            match self.umem.mint(desc.address, desc.len) {
                Some(frame) if desc.options & CONTINUED == 0 && !self.in_packet => into.push(frame),
                Some(frame) => self.set_aside(frame, desc.options),
                None => self.lose(),
            }
        }
        self.rx.release();
        let received = into.len() - before;
        self.counters.received += received as u64;
        received
    }

    #[cold]
    fn set_aside(&mut self, frame: Frame, options: u32) {
        self.in_packet = options & CONTINUED != 0;
        self.counters.pieces += 1;
        self.returning.push(frame.surrender());
    }

    #[cold]
    fn lose(&mut self) {
        self.counters.invalid += 1;
        self.umem.add_lost(1);
    }

    #[inline]
    pub(crate) fn transmit(&mut self, from: &mut Vec<Frame>) -> usize {
        let wanted = from.len().min(self.spare()).min(self.tx.size() as usize);
        let mut count = self.tx.reserve(wanted as u32) as usize;
        let id = self.umem.id();
        if let Some(foreign) = from.iter().take(count).position(|frame| frame.umem() != id) {
            self.counters.foreign += 1;
            count = foreign;
        }
        if count == 0 {
            return 0;
        }
        let mut sent = 0;
        for frame in from.drain(..count) {
            let (start, len) = (frame.start() as u64, frame.len());
            let chunk = frame.surrender();
            let desc = Desc { address: self.umem.address(chunk) + start, len: len as u32, options: 0 };
            if len >= ETHERNET_HEADER && self.tx.push(desc) {
                sent += 1;
            } else {
                self.counters.runts += 1;
                self.returning.push(chunk);
            }
        }
        self.tx.publish();
        self.in_tx += sent;
        self.counters.transmitted += u64::from(sent);
        count
    }

    #[inline]
    pub(crate) fn fill(&mut self, pool: &mut FramePool) -> usize {
        if pool.umem().id() != self.umem.id() {
            return 0;
        }
        self.give_back(pool);
        // What was given and not received yet never exceeds the ring. So a socket never holds more for receiving than
        // its fill ring's size, however many frames wait in the rx ring, and pools can be sized.
        let wanted = (self.fill.size() - self.in_fill.min(self.fill.size())).min(pool.free() as u32);
        let count = self.fill.reserve(wanted);
        if count == 0 {
            return 0;
        }
        for _ in 0..count {
            let Some(chunk) = pool.take_chunk() else { break };
            if !self.fill.push(self.umem.address(chunk)) {
                pool.give_chunk(chunk);
                break;
            }
            self.in_fill += 1;
        }
        self.fill.publish();
        count as usize
    }

    #[inline]
    pub(crate) fn complete(&mut self, pool: &mut FramePool) -> usize {
        if pool.umem().id() != self.umem.id() {
            return 0;
        }
        self.give_back(pool);
        if self.in_tx == 0 {
            return 0;
        }
        let count = self.completion.available(self.in_tx);
        if count == 0 {
            return 0;
        }
        while let Some(address) = self.completion.pop() {
            self.in_tx = self.in_tx.saturating_sub(1);
            match self.umem.locate(address) {
                Some((chunk, _)) => pool.give_chunk(chunk),
                None => self.lose(),
            }
        }
        self.completion.release();
        count as usize
    }

    #[inline]
    fn give_back(&mut self, pool: &mut FramePool) {
        for chunk in self.returning.drain(..) {
            pool.give_chunk(chunk);
        }
    }
}

impl<A, D> Drop for Queues<A, D> {
    fn drop(&mut self) {
        let held = u64::from(self.in_fill) + u64::from(self.in_tx) + self.returning.len() as u64;
        self.umem.add_lost(held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::plain::Plain;
    use crate::umem::{HugePages, UmemConfig};
    use proptest::prelude::*;
    use std::collections::VecDeque;

    /// The other ends of the rings.
    struct Kernel {
        fill: Consumer<Plain<u64>>,
        completion: Producer<Plain<u64>>,
        rx: Producer<Plain<Desc>>,
        tx: Consumer<Plain<Desc>>,
    }

    impl Kernel {
        /// A frame arrives; false if there is nowhere to put it.
        fn deliver(&mut self, len: u32, options: u32) -> bool {
            if self.rx.reserve(1) == 0 || self.fill.available(1) == 0 {
                return false;
            }
            let address = self.fill.pop().unwrap() + 256;
            self.fill.release();
            self.deliver_raw(Desc { address, len, options });
            true
        }

        fn deliver_raw(&mut self, desc: Desc) {
            assert!(self.rx.push(desc));
            self.rx.publish();
        }

        /// Takes one off the tx ring.
        fn sent(&mut self) -> Option<Desc> {
            self.tx.available(1);
            let desc = self.tx.pop();
            self.tx.release();
            desc
        }

        fn complete(&mut self, address: u64) {
            assert_eq!(self.completion.reserve(1), 1, "completion ring overflows");
            assert!(self.completion.push(address));
            self.completion.publish();
        }
    }

    type PlainQueues = Queues<Plain<u64>, Plain<Desc>>;

    fn world(frames: u32, ring: u32, start: u32) -> (PlainQueues, Kernel, FramePool) {
        let config = UmemConfig { frames, huge_pages: HugePages::No, ..UmemConfig::default() };
        let (umem, pool) = Umem::new(config).unwrap();
        let (fill, completion) = (Plain::new(ring, start), Plain::new(ring, start));
        let (rx, tx) = (Plain::new(ring, start), Plain::new(ring, start));
        let kernel = Kernel {
            fill: Consumer::new(fill.clone()),
            completion: Producer::new(completion.clone()),
            rx: Producer::new(rx.clone()),
            tx: Consumer::new(tx.clone()),
        };
        (Queues::new(umem, fill, completion, rx, tx), kernel, pool)
    }

    #[test]
    fn a_frame_goes_round() {
        let (mut queues, mut kernel, mut pool) = world(8, 4, u32::MAX - 1);
        let umem = Arc::clone(queues.umem());
        assert_eq!(queues.fill(&mut pool), 4);
        assert_eq!((pool.free(), queues.held().fill), (4, 4));
        assert!(kernel.deliver(60, 0) && kernel.deliver(61, 0));
        let mut frames = Vec::with_capacity(8);
        assert_eq!(queues.receive(&mut frames, 64), 2);
        assert_eq!(frames.iter().map(Frame::len).collect::<Vec<_>>(), [60, 61]);
        umem.bytes_mut(&mut frames[0])[0] = 0xaa;
        assert_eq!(queues.fill(&mut pool), 2);
        assert_eq!(queues.transmit(&mut frames), 2);
        assert!(frames.is_empty());
        assert_eq!(queues.held(), Held { fill: 4, transmit: 2, returning: 0 });
        let first = kernel.sent().unwrap();
        assert_eq!((first.address % 2048, first.len), (256, 60));
        assert_eq!(queues.complete(&mut pool), 0);
        kernel.complete(first.address);
        assert_eq!(queues.complete(&mut pool), 1);
        let second = kernel.sent().unwrap();
        kernel.complete(second.address);
        assert_eq!(queues.complete(&mut pool), 1);
        assert_eq!((pool.free(), queues.held().total()), (4, 4));
    }

    #[test]
    fn pieces_go_back_to_the_pool() {
        let (mut queues, mut kernel, mut pool) = world(8, 8, 0);
        queues.fill(&mut pool);
        for (len, options) in [(60, 0), (2000 - 256, CONTINUED), (1000, CONTINUED), (10, 0), (64, 0)] {
            assert!(kernel.deliver(len, options));
        }
        let mut frames = Vec::new();
        // The chain may even be cut by a batch's end.
        assert_eq!(queues.receive(&mut frames, 3), 1);
        assert_eq!(queues.receive(&mut frames, 3), 1);
        assert_eq!(frames.iter().map(Frame::len).collect::<Vec<_>>(), [60, 64]);
        assert_eq!((queues.counters.pieces, queues.held().returning), (3, 3));
        assert_eq!(queues.complete(&mut pool), 0);
        assert_eq!((pool.free(), queues.held().returning), (3, 0));
        pool.give_all(&mut frames);
    }

    #[test]
    fn what_cannot_be_sent_is_not() {
        let (mut queues, mut kernel, mut pool) = world(8, 4, 0);
        let (_, mut foreign) = Umem::new(UmemConfig { frames: 1, ..UmemConfig::default() }).unwrap();
        let umem = Arc::clone(queues.umem());
        let mut frames = Vec::new();
        pool.take_many(&mut frames, 2);
        umem.write(&mut frames[1], &[0; 60]).unwrap();
        frames.extend(foreign.take());
        pool.take_many(&mut frames, 1);
        // The empty one is set aside, the good one sent, and the foreign one stops the batch.
        assert_eq!(queues.transmit(&mut frames), 2);
        assert_eq!(kernel.sent().map(|desc| desc.len), Some(60));
        assert_eq!(kernel.sent(), None);
        assert_eq!(queues.transmit(&mut frames), 0);
        assert_eq!((queues.counters.runts, queues.counters.foreign, frames.len()), (1, 2, 2));
        queues.complete(&mut pool);
        pool.give_all(&mut frames);
        foreign.give_all(&mut frames);
        assert_eq!((pool.free(), foreign.free(), queues.held().transmit), (7, 1, 1));
        assert_eq!(queues.fill(&mut foreign), 0, "filled from the pool of another UMEM");
        assert_eq!(queues.complete(&mut foreign), 0);
    }

    #[test]
    fn descriptors_outside_are_counted() {
        let (mut queues, mut kernel, mut pool) = world(4, 4, 0);
        for desc in [
            Desc { address: u64::MAX, len: 60, options: 0 },
            Desc { address: 4 * 2048, len: 60, options: 0 },
            Desc { address: 256, len: 4000, options: CONTINUED },
        ] {
            kernel.deliver_raw(desc);
        }
        let mut frames = Vec::new();
        assert_eq!(queues.receive(&mut frames, 64), 0);
        assert_eq!((queues.counters.invalid, queues.umem().lost()), (3, 3));
        // One that was never sent, and lies outside.
        let mut frame = pool.take().unwrap();
        queues.umem().write(&mut frame, &[0; 60]).unwrap();
        assert_eq!(queues.transmit(&mut vec![frame]), 1);
        kernel.complete(u64::MAX);
        assert_eq!(queues.complete(&mut pool), 1);
        assert_eq!(queues.counters.invalid, 4);
    }

    #[test]
    fn what_the_kernel_holds_is_lost_with_the_socket() {
        let (mut queues, mut kernel, mut pool) = world(8, 4, 0);
        let umem = Arc::clone(queues.umem());
        queues.fill(&mut pool);
        kernel.deliver(60, 0);
        let mut frames = Vec::new();
        queues.receive(&mut frames, 1);
        queues.transmit(&mut frames);
        drop(queues);
        assert_eq!((umem.lost(), pool.free()), (4, 4));
    }

    proptest! {
        /// Whatever program and kernel do, each frame is in one place, and none is ever lost.
        #[test]
        fn conserves_frames(start: u32, steps in prop::collection::vec((0u8..7, 0usize..20), 0..400)) {
            const FRAMES: usize = 24;
            let (mut queues, mut kernel, mut pool) = world(FRAMES as u32, 8, start);
            let mut hands = Vec::with_capacity(FRAMES);
            let mut wire = VecDeque::new();
            for (step, count) in steps {
                match step {
                    0 => { queues.fill(&mut pool); }
                    1 => { queues.complete(&mut pool); }
                    2 => { queues.receive(&mut hands, count); }
                    3 => { queues.transmit(&mut hands); }
                    4 => for _ in 0..count {
                        kernel.deliver(60, if count % 5 == 0 { CONTINUED } else { 0 });
                    },
                    5 => for _ in 0..count {
                        wire.extend(kernel.sent());
                    },
                    _ => for _ in 0..count {
                        // Out of order, as a driver may; and only while there is room: the kernel reserves the slot
                        // before it sends.
                        if kernel.completion.reserve(1) == 1 && let Some(desc) = wire.pop_back() {
                            kernel.complete(desc.address);
                        }
                    },
                }
                let held = queues.held();
                prop_assert_eq!(pool.free() + hands.len() + held.total() as usize, FRAMES);
                let mut chunks: Vec<u32> = hands.iter().map(Frame::chunk).collect();
                chunks.sort_unstable();
                chunks.dedup();
                prop_assert_eq!(chunks.len(), hands.len(), "a chunk in two frames");
            }
            prop_assert_eq!(queues.counters.invalid + queues.umem().lost(), 0);
            pool.give_all(&mut hands);
        }
    }
}
