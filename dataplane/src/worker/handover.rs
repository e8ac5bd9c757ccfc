//! Frames from one worker to another.
//!
//! ```text
//!   worker 0 ─ held ═ ring ═► worker 1        a ring for each pair and direction: one writes, one reads
//!   worker 1 ─ held ═ ring ═► worker 0
//! ```
//!
//! All of it is bounded and lock-free. A core that takes a line from another one's cache waits as long as for memory, so what is written
//! together is shown together: messages of a batch are held back and put into the ring at once, and taken out a batch at a time. The
//! frames lie in the other core's cache too; all of a batch are asked for before the first of them is looked at.

use af_xdp::{Frame, Umem};
use rtrb::{Consumer, Producer, RingBuffer};

use super::handle::Message;
use super::{BATCH, Bench};
use crate::counters::Counter;
use crate::mem::prefetch;
use crate::reason::Reason;

/// Frames that may be handed over by one worker to another and not yet taken, at most: eight turns' worth.
const MOST: usize = 8 * BATCH;
/// … and of a worker's share of all frames at most one in so many by all others together, so that a worker that is stuck does not keep so
/// much of another's that this one is left with nothing to receive into.
const SHARE: usize = 8;

/// One worker's ends of all rings.
pub struct Handover {
    /// By worker; nobody has one to itself.
    outboxes: Box<[Option<Outbox>]>,
    inboxes: Box<[Consumer<Message>]>,
    /// The inbox that is looked into first.
    next: usize,
    /// Whether anything is held, in whichever outbox.
    holds: bool,
}

struct Outbox {
    ring: Producer<Message>,
    /// What is not shown yet.
    held: Vec<Message>,
    /// For how many there is room still, at least.
    room: usize,
    /// Whether its owner was shown something since it was last woken.
    owed: bool,
}

impl Outbox {
    fn put(&mut self, message: Message) -> Result<(), Message> {
        if self.room == 0 {
            self.room = self.ring.slots().saturating_sub(self.held.len());
        }
        match self.room.checked_sub(1) {
            Some(room) => {
                self.room = room;
                self.held.push(message);
                Ok(())
            }
            None => Err(message),
        }
    }

    fn show(&mut self) {
        // There is room: it was counted when they were put here.
        if !self.held.is_empty()
            && let Ok(chunk) = self.ring.write_chunk_uninit(self.held.len())
        {
            chunk.fill_from_iter(self.held.drain(..));
            self.owed = true;
        }
    }
}

impl Handover {
    /// Each worker's ends, of this many over one UMEM; by worker.
    #[must_use]
    pub fn between(workers: usize, umem: &Umem) -> Vec<Handover> {
        let share = umem.frames() as usize / workers.max(1);
        let room = (share / SHARE / (workers.max(2) - 1)).clamp(BATCH, MOST);
        let mut inboxes: Vec<Vec<_>> = (0..workers).map(|_| Vec::with_capacity(workers)).collect();
        let outboxes: Vec<Box<[_]>> = (0..workers)
            .map(|from| {
                let to = |(to, inboxes): (usize, &mut Vec<_>)| {
                    (to != from).then(|| {
                        let (ring, inbox) = RingBuffer::new(room);
                        inboxes.push(inbox);
                        Outbox { ring, held: Vec::with_capacity(room), room, owed: false }
                    })
                };
                inboxes.iter_mut().enumerate().map(to).collect()
            })
            .collect();
        let ends = outboxes.into_iter().zip(inboxes);
        ends.map(|(outboxes, inboxes)| Handover { outboxes, inboxes: inboxes.into(), next: 0, holds: false }).collect()
    }

    /// How much there may be on the way to another worker.
    #[cfg(test)]
    pub(super) fn room(&self, worker: usize) -> usize {
        self.outboxes.get(worker).and_then(Option::as_ref).map_or(0, |outbox| outbox.ring.buffer().capacity())
    }

    /// Whether nothing waits to be taken.
    pub(super) fn is_empty(&self) -> bool {
        self.inboxes.iter().all(Consumer::is_empty)
    }

    /// Frames that this worker is to take, and those that it has not shown yet.
    pub(super) fn frames(&self) -> usize {
        let held = self.outboxes.iter().flatten().map(|outbox| outbox.held.len());
        held.chain(self.inboxes.iter().map(Consumer::slots)).sum()
    }
}

impl Message {
    /// Its frame.
    fn frame(&self) -> &Frame {
        match self {
            Message::Process(_, frame)
            | Message::Seek(_, frame, _)
            | Message::Fragment(_, frame)
            | Message::Transmit(_, frame, _)
            | Message::Pass(_, frame) => frame,
        }
    }

    /// The same, and nothing else of it.
    fn into_frame(self) -> Frame {
        match self {
            Message::Process(_, frame)
            | Message::Seek(_, frame, _)
            | Message::Fragment(_, frame)
            | Message::Transmit(_, frame, _)
            | Message::Pass(_, frame) => frame,
        }
    }
}

impl Bench {
    pub(super) fn hand_over(&mut self, worker: usize, message: Message) {
        if let Err(frame) = self.post(worker, message) {
            self.drop(frame, Reason::HandoverFull);
        }
    }

    /// Holds a message for another worker, until the end of the batch.
    pub(super) fn post(&mut self, worker: usize, message: Message) -> Result<(), Frame> {
        let Some(Some(outbox)) = self.handover.outboxes.get_mut(worker) else { return Err(message.into_frame()) };
        outbox.put(message).map_err(Message::into_frame)?;
        self.handover.holds = true;
        self.counters.add(Counter::HandedOver, 1);
        Ok(())
    }

    /// Shows the others what is theirs.
    #[inline]
    pub(super) fn show(&mut self) {
        if std::mem::take(&mut self.handover.holds) {
            self.handover.outboxes.iter_mut().flatten().for_each(Outbox::show);
            self.owes = true;
        }
    }

    /// Wakes whoever was shown something: once a turn, since it is a fence even for one that is awake.
    pub(super) fn wake(&mut self) {
        self.show();
        if std::mem::take(&mut self.owes) {
            for (outbox, waker) in self.handover.outboxes.iter_mut().zip(self.shared.wakers.iter()) {
                if let Some(outbox) = outbox
                    && std::mem::take(&mut outbox.owed)
                {
                    waker.wake();
                }
            }
        }
    }

    /// Takes what others have handed over, a batch at most. `taken` is empty.
    #[inline]
    pub(super) fn take(&mut self, taken: &mut Vec<Message>) {
        let Bench { handover: Handover { inboxes, next, .. }, umem, counters, .. } = self;
        for _ in 0..inboxes.len() {
            let room = BATCH - taken.len();
            if room == 0 {
                break;
            }
            // Whoever was first is last the next time: nobody's inbox waits for another one to be empty.
            *next = if *next + 1 < inboxes.len() { *next + 1 } else { 0 };
            let Some(inbox) = inboxes.get_mut(*next) else { break };
            let Ok(chunk) = inbox.read_chunk(inbox.slots().min(room)) else { continue };
            taken.extend(chunk.into_iter().inspect(|message| {
                if let Some(first) = umem.bytes(message.frame()).first() {
                    prefetch::read(first);
                }
            }));
        }
        if !taken.is_empty() {
            counters.add(Counter::TakenOver, taken.len() as u64);
        }
    }
}
