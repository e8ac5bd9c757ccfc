//! What a worker does when there is nothing to do: poll on, or sleep until there is.
//!
//! ```text
//!            work         nothing, and SEARCH not over
//!          ┌──────┐          ┌──────┐
//!          ▼      │          ▼      │       nothing once more
//!       working ──┴─────► searching ┴────► about to sleep ────► asleep in poll(2)
//!          ▲   nothing                          │ work             │ a frame, the waker, or time
//!          └────────────────────────────────────┴──────────────────┘
//! ```
//!
//! Polling answers soonest and burns a core; it is for cores that are the worker's alone. Sleeping waits in `poll(2)` for any of
//! its sockets, or for its waker, and costs a system call and a wake-up for the first frame after a
//! pause. So it sleeps only when nothing has come for [`Idle::SEARCH`]: under load it never does. Whoever changes tables
//! does not wait for a sleeper: it takes what is current when it wakes, before its first frame.
//! `docs/performance/idle.md` has measured both.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::alarm::Room;
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
    stage: Stage,
    room: Room,
}

/// Where it stands between two turns.
#[derive(Clone, Copy)]
enum Stage {
    /// There was something to do.
    Working,
    /// Nothing, since then.
    Searching(Instant),
    /// Nothing for so long that everybody was told that it sleeps.
    AboutToSleep,
}

impl Idle {
    /// Time without work before a worker sleeps: longer than the gap between two packets of a flow that is in progress on a local
    /// network. Time, not turns: an empty one takes from 50 ns to a microsecond, as there are rings to look at and calls to make.
    const SEARCH: Duration = Duration::from_micros(100);

    /// Longest sleep: the flow table ages, and a stop is seen, this often.
    const LONGEST: Duration = Duration::from_millis(100);

    /// Longest sleep while frames wait for a next hop, or to be sent: in copy mode the kernel sends only when asked.
    const SHORT: Duration = Duration::from_millis(1);

    /// Never sleeps.
    #[must_use]
    pub fn spin(waker: Waker) -> Self {
        Idle { waker, sleeps: false, stage: Stage::Working, room: Room::new() }
    }

    /// Sleeps when idle.
    #[must_use]
    pub fn sleep(waker: Waker) -> Self {
        Idle { waker, sleeps: true, stage: Stage::Working, room: Room::new() }
    }

    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    /// There was something to do.
    #[inline]
    pub(super) fn busy(&mut self) {
        // It has said that it was about to sleep. Left to stand, whoever hands it a frame would make a system call for it.
        if let Stage::AboutToSleep = self.stage {
            self.waker.awake();
        }
        self.stage = Stage::Working;
    }

    /// `quiet`: the queues from other threads were empty a moment ago, and the flow table is not behind with its ageing. `patient`: no frame waits
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
        match self.stage {
            Stage::Working => self.stage = Stage::Searching(Instant::now()),
            Stage::Searching(since) if since.elapsed() < Self::SEARCH => std::hint::spin_loop(),
            Stage::Searching(_) => {
                // One more turn with the flag up: what was written before a waker saw it is seen now.
                self.waker.prepare();
                self.stage = Stage::AboutToSleep;
            }
            Stage::AboutToSleep => {
                if quiet {
                    tables.rest();
                    let time = if patient { Self::LONGEST } else { Self::SHORT };
                    self.waker.alarm().wait(sockets, time, &mut self.room);
                    tables.resume();
                }
                self.waker.awake();
                self.stage = Stage::Working;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn nothing(idle: &mut Idle) {
        idle.nothing_to_do(true, true, &mut (), std::iter::empty());
    }

    /// Has nothing to do until it is about to sleep, and says how long that took.
    fn search(idle: &mut Idle, waker: &Waker) -> Duration {
        let start = Instant::now();
        while !waker.is_sleeping() {
            nothing(idle);
        }
        start.elapsed()
    }

    #[test]
    fn who_polls_never_sleeps() {
        let waker = Waker::new().unwrap();
        let mut idle = Idle::spin(waker.clone());
        let start = Instant::now();
        while start.elapsed() < 10 * Idle::SEARCH {
            nothing(&mut idle);
            assert!(!waker.is_sleeping());
        }
    }

    #[test]
    fn a_worker_that_finds_work_at_the_last_moment_is_awake_for_everybody() {
        let waker = Waker::new().unwrap();
        let mut idle = Idle::sleep(waker.clone());
        assert!(search(&mut idle, &waker) >= Idle::SEARCH, "it looks once more, with the flag up");
        waker.wake();
        idle.busy();
        assert!(!waker.is_sleeping(), "who hands it a frame now need make no system call");
        // It searches as long again, and the alarm that rang meanwhile does not cut the next sleep short.
        assert!(search(&mut idle, &waker) >= Idle::SEARCH);
        let start = Instant::now();
        nothing(&mut idle);
        assert!(start.elapsed() >= Idle::LONGEST);
        assert!(!waker.is_sleeping());
    }

    #[test]
    fn what_is_rung_before_it_sleeps_and_while_it_does_ends_the_sleep() {
        let waker = Waker::new().unwrap();
        let mut idle = Idle::sleep(waker.clone());
        search(&mut idle, &waker);
        waker.wake();
        let start = Instant::now();
        nothing(&mut idle);
        assert!(start.elapsed() < Idle::LONGEST, "it was rung before");
        search(&mut idle, &waker);
        let other = waker.clone();
        let ringing = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(5));
            other.wake();
        });
        let start = Instant::now();
        nothing(&mut idle);
        assert!(start.elapsed() < Idle::LONGEST, "it was rung meanwhile");
        ringing.join().unwrap();
    }

    #[test]
    fn frames_that_wait_make_sleeps_short_and_queues_that_are_not_empty_make_none() {
        let waker = Waker::new().unwrap();
        let mut idle = Idle::sleep(waker.clone());
        search(&mut idle, &waker);
        let start = Instant::now();
        idle.nothing_to_do(true, false, &mut (), std::iter::empty());
        assert!(start.elapsed() >= Idle::SHORT && start.elapsed() < Idle::LONGEST, "{:?}", start.elapsed());
        search(&mut idle, &waker);
        let start = Instant::now();
        idle.nothing_to_do(false, true, &mut (), std::iter::empty());
        assert!(start.elapsed() < Idle::LONGEST);
    }
}
