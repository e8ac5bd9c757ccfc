//! What all workers share: how each is woken, and a store of spare frames. What goes from one to another is in `handover.rs`.

use std::sync::Arc;

use af_xdp::{Frame, Umem};
use crossbeam_queue::ArrayQueue;

use super::waker::Waker;
use super::{BATCH, Bench};

/// Frames that a pool may have to spare before it shares them with other workers' pools, and how many it takes when it
/// runs out. Frames that are handed over change pools, and in one direction only when traffic is lopsided.
const SHARED_AT_ONCE: usize = BATCH;

/// What several workers share. All of it is lock-free.
#[derive(Clone)]
pub struct Shared {
    pub(super) wakers: Arc<[Waker]>,
    /// Free frames on their way from pools that have many to pools that have few.
    spare: Arc<ArrayQueue<Frame>>,
}

impl Shared {
    /// For this many workers over one UMEM.
    ///
    /// # Errors
    /// Out of file descriptors.
    pub fn new(workers: usize, umem: &Umem) -> std::io::Result<Self> {
        let wakers: std::io::Result<Vec<Waker>> = (0..workers).map(|_| Waker::new()).collect();
        Ok(Shared { wakers: wakers?.into(), spare: Arc::new(ArrayQueue::new((umem.frames() as usize).max(1))) })
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.wakers.len()
    }

    /// The alarm clock of a worker, by index.
    #[must_use]
    pub fn waker(&self, worker: usize) -> Option<Waker> {
        self.wakers.get(worker).cloned()
    }

    /// Frames that are spare now, in nobody's pool.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.spare.len()
    }
}

impl Bench {
    /// Evens out the pools of workers.
    pub(super) fn share(&mut self) {
        let fair = self.umem.frames() as usize / self.shared.workers();
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
