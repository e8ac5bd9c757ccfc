//! What a second worker adds: workers over memory, each on a core of its own, first one, then several, in turn.
//!
//! ```text
//!   core 0: deliver a batch ─► turn ─► deliver …      one UMEM, one snapshot, inboxes between them
//!   core 1: deliver a batch ─► turn ─► deliver …
//! ```
//!
//! Delivering stands for what a NIC and the kernel do, and is part of what is measured; it shares nothing. Figures are of frames
//! sent on for each second that a worker had its core: on a busy machine the scheduler takes cores away, which is no property of
//! levee's. So that what two cores of this machine cannot do anyway (caches and memory are theirs together, and so is the clock)
//! is not taken for levee's doing either, the same is measured with dataplanes that share nothing at all.

pub mod crew;

use std::fs;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use levee_dataplane::counters::Counter;
use levee_dataplane::worker::BATCH;
use levee_pktgen::pin;

use self::crew::{Crew, Hand, Traffic};

/// What some workers did in one round, each for itself.
#[derive(Debug, Clone)]
pub struct Score {
    /// Of each worker: millions of frames sent on for each second on its core.
    pub rates: Vec<f64>,
    /// Of all frames that were received, those that were handed over.
    pub handed_over: f64,
    /// … and those that were dropped, in full inboxes.
    pub dropped: f64,
    /// The least part of its core that a worker had.
    pub core: f64,
}

impl Score {
    /// Millions of frames a second of all.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.rates.iter().sum()
    }
}

/// How workers are brought together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Together {
    /// As one dataplane.
    Sharing,
    /// As a dataplane each, which share the machine and nothing else.
    Apart,
}

/// What one worker did.
struct Share {
    forwarded: u64,
    on_core: Duration,
    elapsed: Duration,
}

/// Runs workers on these cores for a while.
///
/// # Panics
/// Where cores, or memory, are missing.
#[must_use]
pub fn measure(traffic: Traffic, cores: &[usize], together: Together, window: Duration) -> Score {
    let mut crews = match together {
        Together::Sharing => vec![Crew::new(cores.len(), traffic)],
        Together::Apart => cores.iter().map(|_| Crew::new(1, traffic)).collect(),
    };
    let handles: Vec<_> =
        crews.iter().flat_map(|crew| &crew.hands).map(|hand| std::sync::Arc::clone(&hand.handle.counters)).collect();
    let sum = |counter| handles.iter().map(|counters| counters.get(counter)).sum::<u64>() as f64;
    let dropped = || handles.iter().map(|counters| counters.dropped_total()).sum::<u64>() as f64;
    let before = (sum(Counter::Rx), sum(Counter::HandedOver), dropped());
    let barrier = Barrier::new(cores.len());
    let shares: Vec<Share> = std::thread::scope(|scope| {
        let hands = crews.iter_mut().flat_map(|crew| &mut crew.hands);
        let threads: Vec<_> = hands
            .zip(cores)
            .map(|(hand, core)| {
                let barrier = &barrier;
                scope.spawn(move || {
                    pin(*core).unwrap_or_else(|error| panic!("{error}"));
                    barrier.wait();
                    // Until caches are warm, and the other one is there.
                    drive(hand, window / 4);
                    drive(hand, window)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a worker")).collect()
    });
    let received = sum(Counter::Rx) - before.0;
    let core = |share: &Share| share.on_core.as_secs_f64() / share.elapsed.as_secs_f64();
    Score {
        rates: shares.iter().map(|share| share.forwarded as f64 / share.on_core.as_secs_f64() / 1e6).collect(),
        handed_over: (sum(Counter::HandedOver) - before.1) / received,
        dropped: (dropped() - before.2) / received,
        core: shares.iter().map(core).fold(f64::INFINITY, f64::min),
    }
}

/// As much as one worker can do in a time.
fn drive(hand: &mut Hand, time: Duration) -> Share {
    let forwarded = |hand: &Hand| hand.handle.counters.get(Counter::Forwarded);
    let (start, on_core, before) = (Instant::now(), on_core(), forwarded(hand));
    let frames = std::mem::take(&mut hand.frames);
    let mut source = frames.iter().cycle();
    while start.elapsed() < time {
        // Some batches for each look at the clock.
        for _ in 0..16 {
            let Some(port) = hand.worker.port_mut(0) else { break };
            for frame in source.by_ref().take(BATCH) {
                // A fill ring that is empty loses it, as a NIC would.
                port.deliver(frame);
            }
            hand.worker.turn(0);
        }
    }
    let share = Share {
        forwarded: forwarded(hand) - before,
        on_core: self::on_core().saturating_sub(on_core),
        elapsed: start.elapsed(),
    };
    hand.frames = frames;
    share
}

/// Time that this thread has spent on a core so far.
fn on_core() -> Duration {
    // The first figure is nanoseconds on a core (Documentation/scheduler/sched-stats.rst).
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use levee_api::program::Mode;

    use super::*;

    #[test]
    fn answers_are_handed_over_and_all_come_through() {
        for (mode, least) in [(Mode::Nat, 0.1), (Mode::Dnat, 0.3)] {
            let traffic = Traffic { mode, flows: 256, answers: true };
            let mut crew = Crew::new(2, traffic);
            // In turn, on one thread: nothing is late.
            for _ in 0..32 {
                for hand in &mut crew.hands {
                    let port = hand.worker.port_mut(0).expect("the uplink");
                    for frame in hand.frames.iter().take(32) {
                        assert!(port.deliver(frame));
                    }
                    hand.frames.rotate_left(32);
                    hand.worker.turn(0);
                }
            }
            for hand in &mut crew.hands {
                hand.worker.turn(0);
            }
            let sum = |counter| crew.hands.iter().map(|hand| hand.handle.counters.get(counter)).sum::<u64>();
            let dropped: u64 = crew.hands.iter().map(|hand| hand.handle.counters.dropped_total()).sum();
            assert_eq!((dropped, sum(Counter::Forwarded)), (0, sum(Counter::Rx)), "{mode}");
            let part = sum(Counter::HandedOver) as f64 / sum(Counter::Rx) as f64;
            assert!(part > least && part < 0.6, "{mode}: {part}");
        }
    }
}
