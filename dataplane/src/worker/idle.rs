//! What a worker does when there is nothing to do: poll on, or sleep until there is.
//!
//! ```text
//!            work          work, or SPINS turns not over
//!          ┌──────┐          ┌──────┐
//!          ▼      │          ▼      │       nothing once more
//!       working ──┴─────► searching ┴────► about to sleep ────► asleep in poll(2)
//!          ▲   nothing                          │ work             │ a frame, the waker, or time
//!          └────────────────────────────────────┴──────────────────┘
//! ```
//!
//! Polling answers soonest and burns a core; it is for cores that are the worker's alone. Sleeping waits in `poll(2)` for any of
//! its sockets, or for its waker, and costs a system call and a wake-up, some 10 to 50 µs, for the first frame after a
//! pause. So it sleeps only after [`Idle::SPINS`] turns in a row brought nothing: under load it never does. Whoever changes tables
//! does not wait for a sleeper: it takes what is current when it wakes, before its first frame.
//! `docs/performance/idle.md` has measured both.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::waker::Waker;

/// What is not used during sleep, and looked at anew after it: tables.
pub(super) trait Slumber {
    /// Nobody need wait until it is looked at.
    fn rest(&mut self);
    /// Looks at it.
    fn resume(&mut self);
}

/// There is nothing.
impl Slumber for () {
    fn rest(&mut self) {}
    fn resume(&mut self) {}
}

/// The policy, and how long there has been nothing.
pub struct Idle {
    waker: Waker,
    sleeps: bool,
    empty_turns: u32,
}

impl Idle {
    /// Turns without work before a worker sleeps: about 100 µs, longer than the gap between two packets of a flow that is
    /// in progress on a local network.
    const SPINS: u32 = 200;

    /// Longest sleep: the flow table ages, and a stop is seen, this often.
    const LONGEST: Duration = Duration::from_millis(100);

    /// Longest sleep while frames wait for a next hop, or to be sent: in copy mode the kernel sends only when asked.
    const SHORT: Duration = Duration::from_millis(1);

    /// Never sleeps.
    #[must_use]
    pub fn spin(waker: Waker) -> Self {
        Idle { waker, sleeps: false, empty_turns: 0 }
    }

    /// Sleeps when idle.
    #[must_use]
    pub fn sleep(waker: Waker) -> Self {
        Idle { waker, sleeps: true, empty_turns: 0 }
    }

    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// There was something to do.
    #[inline]
    pub(super) fn busy(&mut self) {
        // It has said that it was about to sleep. Left to stand, whoever hands it a frame would make a system call for it.
        if self.empty_turns >= Self::SPINS {
            self.waker.awake();
        }
        self.empty_turns = 0;
    }

    /// `quiet`: the queues from other threads were empty a moment ago. `patient`: no frame waits
    /// for a next hop, or in a transmit ring.
    pub(super) fn nothing_to_do<'a>(
        &mut self,
        quiet: bool,
        patient: bool,
        tables: &mut impl Slumber,
        sockets: impl Iterator<Item = BorrowedFd<'a>>,
    ) {
        if !self.sleeps {
            std::hint::spin_loop();
            return;
        }
        self.empty_turns = self.empty_turns.saturating_add(1);
        match self.empty_turns.cmp(&Self::SPINS) {
            std::cmp::Ordering::Less => std::hint::spin_loop(),
            // One more turn with the flag up: what was written before a waker saw it is seen now.
            std::cmp::Ordering::Equal => self.waker.prepare(),
            std::cmp::Ordering::Greater => {
                if quiet {
                    tables.rest();
                    self.waker.alarm().wait(sockets, if patient { Self::LONGEST } else { Self::SHORT });
                    tables.resume();
                }
                self.waker.awake();
                self.empty_turns = 0;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn nothing(idle: &mut Idle, turns: u32) {
        for _ in 0..turns {
            idle.nothing_to_do(true, true, &mut (), std::iter::empty());
        }
    }

    #[test]
    fn who_polls_never_sleeps() {
        let waker = Waker::new().unwrap();
        let mut idle = Idle::spin(waker.clone());
        let start = std::time::Instant::now();
        nothing(&mut idle, 10 * Idle::SPINS);
        assert!(!waker.is_sleeping());
        assert!(start.elapsed() < Idle::LONGEST);
    }

    #[test]
    fn a_worker_that_finds_work_at_the_last_moment_is_awake_for_everybody() {
        let waker = Waker::new().unwrap();
        let mut idle = Idle::sleep(waker.clone());
        nothing(&mut idle, Idle::SPINS - 1);
        assert!(!waker.is_sleeping());
        nothing(&mut idle, 1);
        assert!(waker.is_sleeping(), "it looks once more, with the flag up");
        waker.wake();
        idle.busy();
        assert!(!waker.is_sleeping(), "who hands it a frame now need make no system call");
        // And the alarm that rang meanwhile does not cut the next sleep short.
        let start = std::time::Instant::now();
        nothing(&mut idle, Idle::SPINS + 1);
        assert!(start.elapsed() >= Idle::LONGEST);
    }

    #[test]
    fn what_is_rung_before_it_sleeps_and_while_it_does_ends_the_sleep() {
        let waker = Waker::new().unwrap();
        let mut idle = Idle::sleep(waker.clone());
        nothing(&mut idle, Idle::SPINS);
        waker.wake();
        let start = std::time::Instant::now();
        nothing(&mut idle, 1);
        assert!(start.elapsed() < Idle::LONGEST, "it was rung before");
        nothing(&mut idle, Idle::SPINS);
        let other = waker.clone();
        let ringing = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(5));
            other.wake();
        });
        let start = std::time::Instant::now();
        nothing(&mut idle, 1);
        assert!(start.elapsed() < Idle::LONGEST, "it was rung meanwhile");
        ringing.join().unwrap();
    }

    #[test]
    fn frames_that_wait_make_sleeps_short_and_queues_that_are_not_empty_make_none() {
        let waker = Waker::new().unwrap();
        let mut idle = Idle::sleep(waker);
        nothing(&mut idle, Idle::SPINS);
        let start = std::time::Instant::now();
        idle.nothing_to_do(true, false, &mut (), std::iter::empty());
        assert!(start.elapsed() >= Idle::SHORT && start.elapsed() < Idle::LONGEST, "{:?}", start.elapsed());
        nothing(&mut idle, Idle::SPINS);
        let start = std::time::Instant::now();
        idle.nothing_to_do(false, true, &mut (), std::iter::empty());
        assert!(start.elapsed() < Idle::LONGEST);
    }
}
