//! Times in buckets: from a tenth of a millisecond, which a delta takes, to ten seconds, which nothing of ours should; and on to
//! five minutes, for what begins with others.

use std::time::Duration;

/// Upper bounds, and how they are written, in seconds.
const BOUNDS: [(Duration, &str); 18] = [
    (Duration::from_micros(100), "0.0001"),
    (Duration::from_micros(250), "0.00025"),
    (Duration::from_micros(500), "0.0005"),
    (Duration::from_millis(1), "0.001"),
    (Duration::from_micros(2500), "0.0025"),
    (Duration::from_millis(5), "0.005"),
    (Duration::from_millis(10), "0.01"),
    (Duration::from_millis(25), "0.025"),
    (Duration::from_millis(50), "0.05"),
    (Duration::from_millis(100), "0.1"),
    (Duration::from_millis(250), "0.25"),
    (Duration::from_millis(500), "0.5"),
    (Duration::from_secs(1), "1"),
    (Duration::from_millis(2500), "2.5"),
    (Duration::from_secs(10), "10"),
    (Duration::from_secs(30), "30"),
    (Duration::from_secs(60), "60"),
    (Duration::from_secs(300), "300"),
];

/// How long something took, each time that it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Histogram {
    /// By bucket, those that are in no lower one; above the last bound, only `count` has them.
    counts: [u64; BOUNDS.len()],
    count: u64,
    sum: Duration,
}

impl Histogram {
    /// It took so long this time.
    pub fn observe(&mut self, time: Duration) {
        self.count += 1;
        self.sum = self.sum.saturating_add(time);
        let bucket = BOUNDS.iter().zip(&mut self.counts).find(|((bound, _), _)| time <= *bound);
        if let Some((_, count)) = bucket {
            *count += 1;
        }
    }

    /// How often it happened.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How long it took, all times together.
    #[must_use]
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// Bounds as they are written, and how often it took at most so long.
    pub(super) fn buckets(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let mut sum = 0;
        let bounded = BOUNDS.iter().zip(self.counts).map(move |((_, bound), count)| {
            sum += count;
            (*bound, sum)
        });
        bounded.chain([("+Inf", self.count)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_what_they_say_and_a_time_on_a_bound_is_inside() {
        for pair in BOUNDS.windows(2) {
            assert!(pair[0].0 < pair[1].0);
        }
        for (bound, written) in BOUNDS {
            let seconds: f64 = written.parse().expect("a number");
            assert!((bound.as_secs_f64() - seconds).abs() < 1e-12, "{written}");
            let mut histogram = Histogram::default();
            histogram.observe(bound);
            histogram.observe(bound + Duration::from_nanos(1));
            let inside = histogram.buckets().find(|(other, _)| *other == written).expect("there");
            assert_eq!(inside, (written, 1));
            assert_eq!(histogram.buckets().last(), Some(("+Inf", 2)));
        }
    }
}
