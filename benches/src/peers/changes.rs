//! One backend changed, again and again, each time of another Service: how long from the request until the answer, which comes
//! when every worker runs it, and what forwarding loses meanwhile.
//!
//! Changes are of Services that get no traffic, so that what traffic loses is lost to the work of changing. They are timed twice:
//! with nothing else on the machine but levee, whose worker polls; and while the generator sends all it can, when requests,
//! director and generator have to share what the worker leaves of two cores.
//!
//! ```text
//!   without ── with ── without ── with ── without ── …     windows of the same length
//!      └────────┼────────┘                                  a figure: with ÷ the mean of its two neighbours
//! ```
//!
//! What is to be seen is a part in a hundred, and one such figure is worth no more than that: the median of many is, and is told with
//! what the true one lies between.

use std::time::{Duration, Instant};

use levee_api::program::Delta;
use levee_tests::levee::Dataplane;

use super::Spread;
use crate::control::quantile;
use crate::delta::Programmer;
use crate::services::{Services, backend};
use crate::throughput::contestants::{Contestant as _, FLOWS, Levee, Running, Way};
use crate::throughput::topology::Topology;
use crate::throughput::{Plan, send};

/// Between the end of a change and the next.
const PAUSE: Duration = Duration::from_millis(10);

/// Changes that are timed with nothing else to do.
const ALONE: usize = 1000;

/// Windows with changes in a round.
const WINDOWS: usize = 6;

/// What they took.
#[derive(Debug, Clone)]
pub struct Changes {
    /// Services that there were.
    pub services: Services,
    /// Microseconds of each with nothing else to do, sorted.
    pub alone: Vec<f64>,
    /// Microseconds of each under full load, sorted.
    pub loaded: Vec<f64>,
    /// Changes a second under full load.
    pub rate: f64,
    /// Forwarding meanwhile, as a part of what it is without changes, for the time that the worker had its core.
    pub kept: Kept,
    /// The same of all that arrived.
    pub kept_of_all: Kept,
}

/// Parts that were kept, of each window with changes, sorted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Kept(pub Vec<f64>);

impl Kept {
    /// Their median, least and most.
    #[must_use]
    pub fn spread(&self) -> Option<Spread> {
        Spread::of(self.0.iter().copied())
    }

    /// Between what the median of all windows that there could be lies, with 95 %: order statistics, whatever their distribution (Conover,
    /// "Practical Nonparametric Statistics", 3.2). Of fewer than six it is all that is known.
    #[must_use]
    pub fn sure(&self) -> Option<(f64, f64)> {
        let count = self.0.len() as f64;
        let cut = (count / 2.0 - 0.98 * count.sqrt()).max(0.0) as usize;
        Some((*self.0.get(cut)?, *self.0.get(self.0.len() - 1 - cut)?))
    }

    fn of(mut parts: Vec<f64>) -> Kept {
        parts.sort_by(f64::total_cmp);
        Kept(parts)
    }
}

impl Changes {
    /// One of their quantiles.
    #[must_use]
    pub fn at(sorted: &[f64], part: f64) -> f64 {
        if sorted.is_empty() { f64::NAN } else { quantile(sorted, part) }
    }
}

/// Measures them.
///
/// # Panics
/// If levee does not start, or refuses a change.
#[must_use]
pub fn change(services: Services, topology: &Topology, plan: &Plan) -> Changes {
    let levee = Levee::new(Way::Nat(services));
    let dataplane = levee.dataplane(topology, plan.forwarder);
    let mut author = Author::new(&dataplane, services);
    let mut alone: Vec<f64> = (0..ALONE).map(|_| author.change()).collect();
    let stream = send(topology, &levee.offer(), plan.source, None);
    let running = Running::Levee(Box::new(dataplane));
    std::thread::sleep(plan.window);
    let mut loaded = Vec::new();
    let mut window = |changing: bool| {
        let look = || (Instant::now(), topology.arrived(), running.work().unwrap_or_default());
        let before = look();
        while before.0.elapsed() < plan.window {
            if changing {
                loaded.push(author.change());
            }
            std::thread::sleep(PAUSE);
        }
        let after = look();
        let frames = (after.1 - before.1) as f64;
        (frames / after.2.most_since(&before.2).as_secs_f64(), frames / (after.0 - before.0).as_secs_f64())
    };
    // Quiet before and after each, so that whatever the machine does meanwhile happens to both.
    let (mut kept, mut kept_of_all) = (Vec::new(), Vec::new());
    let mut quiet = window(false);
    let windows = WINDOWS * plan.rounds;
    for _ in 0..windows {
        let changing = window(true);
        let after = window(false);
        kept.push(2.0 * changing.0 / (quiet.0 + after.0));
        kept_of_all.push(2.0 * changing.1 / (quiet.1 + after.1));
        quiet = after;
    }
    if let Err(error) = stream.stop() {
        panic!("the generator: {error}\n{}", running.story());
    }
    let rate = loaded.len() as f64 / (plan.window.as_secs_f64() * windows as f64);
    alone.sort_by(f64::total_cmp);
    loaded.sort_by(f64::total_cmp);
    Changes { services, alone, loaded, rate, kept: Kept::of(kept), kept_of_all: Kept::of(kept_of_all) }
}

/// Who makes the changes.
struct Author {
    programmer: Programmer,
    services: Services,
    made: u32,
}

impl Author {
    fn new(dataplane: &Dataplane, services: Services) -> Author {
        Author { programmer: Programmer::after(dataplane.socket(), 1), services, made: 0 }
    }

    /// Puts another backend in the place of a Service's first: microseconds until all workers run it.
    fn change(&mut self) -> f64 {
        // Those behind the ones that get traffic, in an order that no cache likes. With few Services it is the last.
        let (first, made) = (FLOWS.min(self.services.count - 1), self.made);
        self.made += 1;
        let service = first + made.wrapping_mul(7919) % (self.services.count - first);
        let mut service = Services::service(service);
        if let Some(first) = service.backends.first_mut() {
            *first = backend([10, 190, (made >> 8) as u8, made as u8].into());
        }
        let took = self.programmer.amend(Delta { upsert_services: vec![service], ..Delta::default() });
        took.as_secs_f64() * 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_of_many_is_known_better_than_one_window() {
        let kept = |count: u32| Kept::of((0..count).rev().map(|window| 1.0 - f64::from(window) / 1000.0).collect());
        let thirty = kept(30);
        assert_eq!(thirty.spread(), Some(Spread { median: 0.9855, least: 0.971, most: 1.0 }));
        // Ranks 10 and 21 of 30 (Conover, table of the binomial distribution).
        assert_eq!(thirty.sure(), Some((0.98, 0.991)));
        assert_eq!(kept(3).sure(), Some((0.998, 1.0)));
        assert_eq!((kept(0).sure(), kept(0).spread()), (None, None));
    }
}
