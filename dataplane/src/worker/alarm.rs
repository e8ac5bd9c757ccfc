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

    /// Waits until it is rung, one of the sockets is readable, or the time is over. The list of them is written into `room`.
    pub(super) fn wait<'a>(&self, sockets: impl Iterator<Item = BorrowedFd<'a>>, time: Duration, room: &mut Room) {
        let Room(kept) = room;
        let mut fds: Vec<PollFd<'_>> = std::mem::take(kept);
        fds.extend(sockets.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        fds.push(PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN));
        let time = Timespec::try_from(time).ok();
        // Interrupted is as good as woken.
        let _ = poll(&mut fds, time.as_ref());
        *kept = emptied(fds);
    }
}

/// Room for a list of sockets, kept from one sleep to the next: a worker allocates nothing once it runs.
pub(super) struct Room(Vec<PollFd<'static>>);

impl Room {
    /// For most workers, which have a queue or a few of each port; one with more makes itself more at its first sleep.
    pub(super) fn new() -> Self {
        Room(Vec::with_capacity(64))
    }
}

/// A list without what it borrowed, and with its room: a vector that is collected from another of the same layout takes that one's over
/// ("in-place iteration" in the standard library's `Vec`). No more than a habit of the library's, so a test holds it to it.
fn emptied<'a>(mut fds: Vec<PollFd<'_>>) -> Vec<PollFd<'a>> {
    fds.clear();
    fds.into_iter().map_while(|_| None).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn room_is_kept() {
        let (alarm, other) = (Alarm::new().unwrap(), Alarm::new().unwrap());
        let mut room = Room::new();
        let was = (room.0.as_ptr(), room.0.capacity());
        for _ in 0..3 {
            let sockets = std::iter::repeat_n(other.0.as_fd(), 40);
            alarm.wait(sockets, Duration::from_millis(1), &mut room);
            assert_eq!((room.0.as_ptr(), room.0.capacity(), room.0.len()), (was.0, was.1, 0));
        }
    }
}
