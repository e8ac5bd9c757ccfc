//! The agreement between a worker that wants to sleep and those who have something for it: nobody is woken who is awake, and
//! nobody sleeps over what was meant for him.
//!
//! ```text
//!   sleeper                              who has something
//!   ───────                              ─────────────────
//!   prepare: "I sleep"                   writes it
//!   ─────────────── fence ───────────────────── fence ──────
//!   looks at its queues once more        wake: does it sleep? then the alarm rings
//!   waits for the alarm
//!   awake: "I do not"
//! ```
//!
//! The fences order each side's write before its read, so that at least one of them sees the other's (Dekker's mutual exclusion;
//! `tests/loom` runs this file under every interleaving). While a worker is awake, waking it is a load; once it sleeps, a system call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use super::alarm::Alarm;

/// Wakes a worker that sleeps. Clones wake the same one.
#[derive(Clone)]
pub struct Waker(Arc<Sleep>);

/// Its lines are its own: what stands beside it would be slow to read whenever this worker goes to sleep.
#[repr(align(128))]
struct Sleep {
    alarm: Alarm,
    sleeping: AtomicBool,
}

impl Waker {
    /// A waker of a worker that does not sleep yet.
    ///
    /// # Errors
    /// Out of file descriptors.
    pub fn new() -> std::io::Result<Self> {
        Ok(Waker(Arc::new(Sleep { alarm: Alarm::new()?, sleeping: AtomicBool::new(false) })))
    }

    /// Wakes it, if it sleeps or is about to. What it is to see must have been written before.
    #[inline]
    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.0.sleeping.load(Ordering::Relaxed) {
            self.0.alarm.ring();
        }
    }

    /// Whether it sleeps, or is about to.
    #[must_use]
    pub fn is_sleeping(&self) -> bool {
        self.0.sleeping.load(Ordering::Relaxed)
    }

    /// Says that the worker is about to sleep. It must look at its queues once more before it does.
    pub(super) fn prepare(&self) {
        self.0.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Says that it is awake.
    pub(super) fn awake(&self) {
        self.0.sleeping.store(false, Ordering::Relaxed);
        // Rung by somebody who has seen it asleep a moment ago, it would end the next sleep at once; no harm is done by that.
        self.0.alarm.reset();
    }

    /// What rings.
    pub(super) fn alarm(&self) -> &Alarm {
        &self.0.alarm
    }
}
