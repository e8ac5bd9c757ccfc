//! Until when announcements in a term hold: one value, shared by every snapshot.
//!
//! All else in a snapshot stays as it was published. This one thing must count for a worker that was held up, with frames in its
//! rings, before anybody has had the time to publish that the term is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// See the module's documentation. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Deadline(Arc<AtomicU64>);

/// Beside it, the workers' time: a deadline may be at 0.
const RUNS: u64 = 1 << 32;

impl Deadline {
    /// Terms run until this time of the workers' clock (milliseconds, wrapping); `None`: none runs.
    pub fn set(&self, until: Option<u32>) {
        self.0.store(until.map_or(0, |until| RUNS | u64::from(until)), Ordering::Release);
    }

    /// Whether no term runs at this time. A wrapping clock can tell for 24 days what is past; the director takes less.
    #[inline]
    #[must_use]
    pub fn is_over(&self, now: u32) -> bool {
        let value = self.0.load(Ordering::Acquire);
        // The low half is the time.
        value & RUNS == 0 || now.wrapping_sub(value as u32) < u32::MAX / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_from_its_time_on_and_before_it_was_set() {
        let deadline = Deadline::default();
        assert!(deadline.is_over(0));
        for (until, before, after) in [(0, u32::MAX, 0), (1000, 999, 1000), (5, u32::MAX - 5, 6)] {
            deadline.set(Some(until));
            assert!(!deadline.is_over(before), "{before} is before {until}");
            assert!(deadline.is_over(after), "{after} is not before {until}");
        }
        let other = deadline.clone();
        other.set(None);
        assert!(deadline.is_over(0));
    }
}
