//! How many frames a second get through, end to end over veth, by levee and by its yardsticks, in one run.
//!
//! Contestants take turns, several rounds of it, so that whatever the machine does meanwhile happens to all of them; what
//! counts is each round's ratio to the bare bounce, for the time that each had its core, and the median of those. Absolute figures are of this machine and hour.

pub mod contestants;
pub mod generator;
pub mod topology;

use std::time::{Duration, Instant};

use self::contestants::Contestant;
use self::generator::Stream;
use self::topology::Topology;

/// What one contestant did in one round.
#[derive(Debug, Clone, Copy)]
pub struct Score {
    /// Millions of frames a second that reached the sink.
    pub arrived: f64,
    /// Millions of frames a second that were sent.
    pub sent: f64,
    /// The part of its core that it had; less than 1 where the machine had other things to do. `None` for the kernel.
    pub core: Option<f64>,
}

impl Score {
    /// Millions of frames for each second that it had its core: what arrived, where the core was all its own. So a busy
    /// machine disturbs a comparison less. One that is never idle, as everybody is here who polls.
    #[must_use]
    pub fn deserved(&self) -> f64 {
        self.arrived / self.core.unwrap_or(1.0)
    }
}

/// Where things run and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Times that each contestant gets its turn.
    pub rounds: usize,
    /// How long each is measured.
    pub window: Duration,
    /// The generator's core.
    pub source: usize,
    /// The contestant's core.
    pub forwarder: usize,
}

/// One contestant's turn.
///
/// # Panics
/// If it does not start, or forwards nothing at all.
#[must_use]
pub fn measure(contestant: Contestant, topology: &Topology, plan: &Plan) -> Score {
    let running = contestant.start(topology, plan.forwarder);
    let (first, then) = contestant.patterns();
    let stream = Stream::start(&topology.source, "g0", plan.source, first, then);
    // Until flows have begun and caches are warm.
    let patience = Instant::now() + Duration::from_secs(10);
    while stream.sent() == 0 && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(plan.window / 4);
    let look = || (Instant::now(), topology.arrived(), stream.sent(), running.busy());
    let before = look();
    std::thread::sleep(plan.window);
    let after = look();
    let seconds = (after.0 - before.0).as_secs_f64();
    let rate = |before: u64, after: u64| (after - before) as f64 / seconds / 1e6;
    let core = before.3.zip(after.3).map(|(before, after)| (after - before).as_secs_f64() / seconds);
    let score = Score { arrived: rate(before.1, after.1), sent: rate(before.2, after.2), core };
    stream.stop();
    assert!(score.arrived > 0.0, "{} forwards nothing: {}", contestant.name(), running.story());
    score
}

/// Middle, least and most of some figures.
///
/// # Panics
/// If there are none.
#[must_use]
pub fn spread(figures: impl IntoIterator<Item = f64>) -> (f64, f64, f64) {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    let median =
        if figures.len() % 2 == 1 { figures[middle] } else { f64::midpoint(figures[middle - 1], figures[middle]) };
    (median, figures[0], figures[figures.len() - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(spread([3.0, 1.0, 2.0]), (2.0, 1.0, 3.0));
        assert_eq!(spread([4.0, 1.0, 2.0, 3.0]), (2.5, 1.0, 4.0));
    }
}
