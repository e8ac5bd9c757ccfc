//! How long frames were under way, as a histogram that the kernel fills.
//!
//! Buckets are log-linear, as HdrHistogram's: each power of two in 32 parts, so that a figure is right to 3 %. Up to 31 ns each
//! has its own; from 68 s on all are in the last. A figure is given as its bucket's upper end: never too good.

use std::time::Duration;

/// Parts of a power of two, as a power of two.
pub(crate) const PARTS: u32 = 5;
/// The highest power of two that is told apart.
const HIGHEST: u32 = 35;
/// Number of buckets.
pub(crate) const BUCKETS: usize = ((HIGHEST - PARTS + 2) << PARTS) as usize;
/// What is longer counts as this.
pub(crate) const LONGEST: u64 = (1 << (HIGHEST + 1)) - 1;

/// Which bucket a time belongs to. The receiver's program says the same in its own words; a test compares them.
#[must_use]
pub fn bucket(nanoseconds: u64) -> usize {
    let time = nanoseconds.min(LONGEST);
    match time.checked_ilog2() {
        Some(power) if power >= PARTS => {
            let part = (time >> (power - PARTS)) & ((1 << PARTS) - 1);
            (((power - PARTS + 1) << PARTS) as usize) + part as usize
        }
        _ => time as usize,
    }
}

/// The longest time that belongs to a bucket.
#[must_use]
pub fn upper_end(bucket: usize) -> u64 {
    let (row, part) = (bucket >> PARTS, (bucket & ((1 << PARTS) - 1)) as u64);
    match row {
        0 => part,
        _ => (((1 << PARTS) + part + 1) << (row - 1)) - 1,
    }
}

/// Times of frames.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Latency {
    counts: Vec<u64>,
}

impl Latency {
    /// From how many there are in each bucket.
    #[must_use]
    pub fn new(counts: Vec<u64>) -> Latency {
        Latency { counts }
    }

    /// Frames that were timed.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The time that this part of the frames (from 0 to 1) did not exceed; `None` without frames, or where there are too few
    /// of them for that to be known: one in a thousand takes more than a thousand.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let samples = self.samples();
        let rank = (part * samples as f64).ceil().max(1.0) as u64;
        if samples == 0 || part < 1.0 && (1.0 - part) * (samples as f64) < 1.0 {
            return None;
        }
        let mut seen = 0;
        let reached = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        reached.map(|bucket| Duration::from_nanos(upper_end(bucket)))
    }

    /// What was added since an earlier look.
    #[must_use]
    pub fn since(&self, earlier: &Latency) -> Latency {
        let before = earlier.counts.iter().copied().chain(std::iter::repeat(0));
        Latency { counts: self.counts.iter().zip(before).map(|(now, before)| now - before).collect() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_by_hand() {
        assert_eq!([0, 31, 32, 63, 64, 65, 66].map(bucket), [0, 31, 32, 63, 64, 64, 65]);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(upper_end(BUCKETS - 1), LONGEST);
    }

    #[test]
    fn quantiles_by_hand() {
        let mut counts = vec![0; BUCKETS];
        counts[bucket(10)] = 990;
        counts[bucket(20)] = 9;
        counts[bucket(30)] = 1;
        let latency = Latency::new(counts);
        let at = |part| latency.quantile(part).map(|time| time.as_nanos());
        assert_eq!((at(0.5), at(0.99), at(0.999), at(1.0)), (Some(10), Some(10), Some(20), Some(30)));
        assert_eq!(at(0.9999), None, "a thousand frames do not know it");
        assert_eq!(Latency::default().quantile(0.5), None);
    }

    proptest! {
        #[test]
        fn a_bucket_holds_its_times_and_is_narrow(time in 0..=LONGEST) {
            let bucket = bucket(time);
            prop_assert!(time <= upper_end(bucket));
            prop_assert!(bucket == 0 || time > upper_end(bucket - 1));
            prop_assert!(upper_end(bucket) as f64 <= time as f64 * (1.0 + 1.0 / 32.0));
        }
    }
}
