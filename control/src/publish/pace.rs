//! How fast to write: so much in all, and each object no more often than makes sense. Time is handed in.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// So many at once, and then so many a second.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: f64,
    burst: f64,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    pub(super) fn new(rate: u32, burst: u32, now: Instant) -> Self {
        Bucket { rate: rate.into(), burst: burst.into(), tokens: burst.into(), at: now }
    }

    /// Takes one; if there is none, says when there will be.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = passed.mul_add(self.rate, self.tokens).min(self.burst);
        self.at = now.max(self.at);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(now + Duration::from_secs_f64((1.0 - self.tokens) / self.rate))
    }
}

/// Attempts on one object that follow at once on each other: a change of its own, what that makes of others, and a conflict.
const FREE: u32 = 4;
/// The longest pause between two attempts on one object. Somebody who writes it too, and otherwise, is not fought with faster.
const LONGEST: Duration = Duration::from_secs(60);

/// Attempts on objects. Each one beyond [`FREE`] doubles the pause before the next, from one second on; an object that is left alone for
/// [`LONGEST`] is forgotten.
#[derive(Debug)]
pub(super) struct Attempts<T> {
    of: BTreeMap<T, (u32, Instant)>,
}

impl<T> Default for Attempts<T> {
    fn default() -> Self {
        Attempts { of: BTreeMap::new() }
    }
}

impl<T: Ord + Clone> Attempts<T> {
    /// When an object may be written next.
    pub(super) fn not_before(&self, target: &T, least: Duration) -> Option<Instant> {
        let (count, last) = self.of.get(target)?;
        let pause = match count.checked_sub(FREE) {
            None => Duration::ZERO,
            Some(beyond) => Duration::from_secs(1_u64 << beyond.min(6)).min(LONGEST),
        };
        Some(*last + pause.max(least))
    }

    /// An object is being written.
    pub(super) fn made(&mut self, target: &T, now: Instant) {
        let (count, last) = self.of.entry(target.clone()).or_insert((0, now));
        *count = count.saturating_add(1);
        *last = now;
    }

    /// Forgets who was left alone.
    pub(super) fn forget(&mut self, now: Instant) {
        self.of.retain(|_, (_, last)| now.saturating_duration_since(*last) < LONGEST * 2);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, 3, start);
        for _ in 0..3 {
            assert_eq!(bucket.take(start), Ok(()));
        }
        let next = bucket.take(start).expect_err("empty");
        assert!(next > start && next <= start + SECOND / 10 + Duration::from_millis(1));
        assert_eq!(bucket.take(next + Duration::from_millis(1)), Ok(()));
        let later = start + 100 * SECOND;
        let given = (0..100).filter(|_| bucket.take(later).is_ok()).count();
        assert_eq!(given, 3, "it fills to its burst and no further");
    }

    #[test]
    fn who_is_written_again_and_again_waits_longer_and_longer() {
        let start = Instant::now();
        let mut attempts = Attempts::default();
        assert_eq!(attempts.not_before(&1, Duration::ZERO), None);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            attempts.made(&1, start);
            pauses.push(attempts.not_before(&1, Duration::ZERO).expect("known").duration_since(start).as_secs());
        }
        assert_eq!(pauses, [0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(attempts.not_before(&2, SECOND), None);
        attempts.made(&2, start);
        assert_eq!(attempts.not_before(&2, SECOND), Some(start + SECOND));
        attempts.forget(start + 3 * LONGEST);
        assert_eq!(attempts.not_before(&1, Duration::ZERO), None);
    }
}
