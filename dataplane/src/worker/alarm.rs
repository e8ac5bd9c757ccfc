//! What wakes a sleeping worker, and what it sleeps in: an eventfd, which `poll(2)` waits for beside the worker's sockets.
//!
//! It knows nothing of when to sleep ([`Idle`](super::Idle)) and when to ring ([`Waker`](super::Waker)).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

/// See the module's documentation.
pub(super) struct Alarm(OwnedFd);

impl Alarm {
    /// One that has not been rung.
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Alarm(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?))
    }

    /// Ends the wait that there is, or else the next one.
    pub(super) fn ring(&self) {
        // Full is as good as written: it is readable.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Forgets that it was rung.
    pub(super) fn reset(&self) {
        let mut count = [0u8; 8];
        let _ = rustix::io::read(&self.0, &mut count);
    }

    /// Waits until it is rung, one of the sockets is readable, or the time is over.
    pub(super) fn wait<'a>(&self, sockets: impl Iterator<Item = BorrowedFd<'a>>, time: Duration) {
        let mut fds: Vec<PollFd<'_>> = sockets.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        fds.push(PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN));
        let time = Timespec::try_from(time).ok();
        // Interrupted is as good as woken.
        let _ = poll(&mut fds, time.as_ref());
    }
}
