//! How long frames are under way at a tenth of the load: from the generator's writing them until they are where they end, one way,
//! on the clock of both (`CLOCK_MONOTONIC`), with no user space at either end.
//!
//! In windows of a quarter of a second. Whoever else has a turn of a tick on the forwarder's core is the p99.9 of the window in which that is,
//! however long the window; in short ones it is not that of the others. The median of many windows says what levee does, the most
//! what the machine does to it.

use std::time::Duration;

use levee_pktgen::{Config, Generator, Latency, Receiver};

use crate::throughput::{Entry, OPENING, Plan};

/// One stamped frame in so many.
const STAMPED: u16 = 2;

/// How long is measured at a time.
const WINDOW: Duration = Duration::from_millis(250);

/// A quantile's name, and where [`Times`] has it.
type Quantile = (&'static str, fn(&Times) -> f64);

/// Those that are told.
pub(super) const QUANTILES: [Quantile; 3] =
    [("p50", |times| times.p50), ("p99", |times| times.p99), ("p99.9", |times| times.p999)];

/// What was measured of one contestant in a window.
#[derive(Debug, Clone)]
pub struct Times {
    /// As `--json` calls it.
    pub key: String,
    /// As tables call it.
    pub name: String,
    /// Frames that were sent, and those that arrived.
    pub frames: (u64, u64),
    /// Microseconds that half of the frames did not exceed.
    pub p50: f64,
    /// … and 99 of 100.
    pub p99: f64,
    /// … and 999 of 1,000.
    pub p999: f64,
}

/// Measures one contestant at a load in frames a second, in as many windows as a round has room for.
///
/// # Panics
/// If it does not start, or the kernel refuses the generator.
#[must_use]
pub fn time(entry: &Entry, plan: &Plan, rate: f64) -> Vec<Times> {
    let (contestant, topology) = (&entry.contestant, &entry.topology);
    let running = contestant.start(topology, plan.forwarder);
    let receiver = topology.sink.enter(|| Receiver::attach("s0")).unwrap_or_else(|error| panic!("s0: {error}"));
    let received = || receiver.received().unwrap_or_else(|error| panic!("the receiver's counters: {error}"));
    let offer = contestant.offer();
    let config = Config { rate: Some(rate), duration: Some(WINDOW), stamp_every: STAMPED, ..offer.config(plan.source) };
    let sent = |config: Config| {
        let stream = topology.source.enter(|| Generator::new(config)?.start()?.wait());
        stream.unwrap_or_else(|error| panic!("{}: {error}\n{}", contestant.name(), running.story()))
    };
    if offer.opened() {
        let _ = sent(config.opening(OPENING.0, OPENING.1));
    }
    let window = || {
        let before = received();
        let sent = sent(config.clone());
        std::thread::sleep(Duration::from_millis(50));
        let arrived = received().since(&before);
        let at = |part| microseconds(&arrived.latency, part);
        Times {
            key: contestant.key(),
            name: contestant.name(),
            frames: (sent.frames, arrived.frames),
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
        }
    };
    let windows = (plan.window.as_secs_f64() / WINDOW.as_secs_f64()).max(1.0) as usize;
    std::iter::repeat_with(window).take(windows).collect()
}

/// No time where there are too few frames to know it.
fn microseconds(latency: &Latency, part: f64) -> f64 {
    latency.quantile(part).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
}
