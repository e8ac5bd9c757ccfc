//! What a worker does when there is nothing to do: poll on, or sleep until there is.
//!
//! Polling answers soonest and burns a core; it is for cores that are the worker's alone. Sleeping waits in `poll(2)` for any of
//! its sockets, or for its waker, and costs a system call and a wake-up, some 10 to 50 µs, for the first frame after a
//! pause. So it sleeps only after [`Idle::SPINS`] turns in a row brought nothing: under load it never does.

use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::handle::Waker;

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
    const LONGEST: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

    /// Longest sleep while frames wait for a next hop, or to be sent: in copy mode the kernel sends only when asked.
    const SHORT: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

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

    #[inline]
    pub(super) fn busy(&mut self) {
        self.empty_turns = 0;
    }

    /// `quiet`: the queues from other threads were empty a moment ago. `patient`: no frame waits
    /// for a next hop, or in a transmit ring.
    pub(super) fn nothing_to_do<'a>(
        &mut self,
        quiet: bool,
        patient: bool,
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
                    let mut fds: Vec<PollFd<'_>> =
                        sockets.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
                    fds.push(PollFd::from_borrowed_fd(self.waker.readiness(), PollFlags::IN));
                    // Interrupted is as good as woken.
                    let _ = poll(&mut fds, Some(if patient { &Self::LONGEST } else { &Self::SHORT }));
                }
                self.waker.awake();
                self.empty_turns = 0;
            }
        }
    }
}
