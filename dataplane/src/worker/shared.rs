//! What several workers share, and how frames go from one to another: through inboxes, and through a store of spare ones.
//!
//! All of it is bounded and lock-free. What a worker takes out of its inbox is in `taken.rs`.

use std::sync::Arc;

use af_xdp::{Frame, Umem};
use crossbeam_queue::ArrayQueue;

use super::handle::Message;
use super::waker::Waker;
use super::{BATCH, Bench};
use crate::counters::Counter;
use crate::reason::Reason;

/// Frames that a pool may have to spare before it shares them with other workers' pools, and how many it takes when it
/// runs out. Frames that are handed over change pools, and in one direction only when traffic is lopsided.
const SHARED_AT_ONCE: usize = BATCH;
/// Frames that may be handed over to a worker and not yet taken, at most: eight turns' worth, in a queue of some 20 KB,
/// which does not leave the first-level cache.
const INBOX: usize = 8 * BATCH;
/// … and of a worker's share of all frames at most one in so many, so that a worker that is stuck does not keep so much of another's
/// that this one is left with nothing to receive into.
const INBOX_SHARE: usize = 8;

/// What several workers share. All of it is lock-free.
#[derive(Clone)]
pub struct Shared {
    pub(super) inboxes: Arc<[Arc<ArrayQueue<Message>>]>,
    pub(super) wakers: Arc<[Waker]>,
    /// Free frames on their way from pools that have many to pools that have few.
    pub(super) spare: Arc<ArrayQueue<Frame>>,
}

impl Shared {
    /// For this many workers over one UMEM.
    ///
    /// # Errors
    /// Out of file descriptors.
    pub fn new(workers: usize, umem: &Umem) -> std::io::Result<Self> {
        let wakers: std::io::Result<Vec<Waker>> = (0..workers).map(|_| Waker::new()).collect();
        let share = umem.frames() as usize / workers.max(1);
        let room = (share / INBOX_SHARE).clamp(BATCH, INBOX);
        Ok(Shared {
            inboxes: (0..workers).map(|_| Arc::new(ArrayQueue::new(room))).collect(),
            wakers: wakers?.into(),
            spare: Arc::new(ArrayQueue::new((umem.frames() as usize).max(1))),
        })
    }

    /// The alarm clock of a worker, by index.
    #[must_use]
    pub fn waker(&self, worker: usize) -> Option<Waker> {
        self.wakers.get(worker).cloned()
    }

    /// Frames that are between workers now: handed over and not yet taken, or spare.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.spare.len() + self.inboxes.iter().map(|inbox| inbox.len()).sum::<usize>()
    }
}

impl Bench {
    pub(super) fn hand_over(&mut self, worker: usize, message: Message) {
        if let Err(frame) = self.post(worker, message) {
            self.drop(frame, Reason::HandoverFull);
        }
    }

    pub(super) fn post(&mut self, worker: usize, message: Message) -> Result<(), Frame> {
        let (Some(inbox), Some(owed)) = (self.shared.inboxes.get(worker), self.owed.get_mut(worker)) else {
            return Err(frame_of(message));
        };
        inbox.push(message).map_err(frame_of)?;
        self.counters.add(Counter::HandedOver, 1);
        (*owed, self.owes) = (true, true);
        Ok(())
    }

    /// Wakes whoever was given something: once a turn, since it is a fence even for one that is awake.
    pub(super) fn wake(&mut self) {
        if std::mem::take(&mut self.owes) {
            for (owed, waker) in self.owed.iter_mut().zip(self.shared.wakers.iter()) {
                if std::mem::take(owed) {
                    waker.wake();
                }
            }
        }
    }

    /// Evens out the pools of workers.
    pub(super) fn share(&mut self) {
        let fair = self.umem.frames() as usize / self.shared.inboxes.len();
        if self.pool.free() < SHARED_AT_ONCE {
            for _ in 0..SHARED_AT_ONCE {
                let Some(frame) = self.shared.spare.pop() else { break };
                let _ = self.pool.give(frame);
            }
        } else if self.pool.free() > fair {
            for _ in 0..SHARED_AT_ONCE {
                let Some(frame) = self.pool.take() else { break };
                if let Err(frame) = self.shared.spare.push(frame) {
                    let _ = self.pool.give(frame);
                    break;
                }
            }
        }
    }
}

fn frame_of(message: Message) -> Frame {
    match message {
        Message::Process(_, frame)
        | Message::Seek(_, frame, _)
        | Message::Fragment(_, frame)
        | Message::Transmit(_, frame, _)
        | Message::Pass(_, frame) => frame,
    }
}
