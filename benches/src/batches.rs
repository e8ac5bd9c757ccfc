//! How many frames a worker should take at once: the whole packet's way over memory, by bursts of each size.
//!
//! A burst of one is frame by frame: each goes its whole way, and waits for each piece of memory that it needs, before the next one is looked at. In
//! larger ones each stage goes over all of them before the next one begins, and their misses are under way together. What a turn costs besides is
//! in all of these figures, as it is on a port; what reading the clock takes is not.

use std::hint::black_box;
use std::time::{Duration, Instant};

use levee_api::program::Mode;
use levee_dataplane::counters::Counter;
use serde_json::{Value, json};

use crate::frames::at_random;
use crate::rig::{Rig, ack};
use crate::tables::contest::{Least, Plan};

/// Frames at once.
pub const SIZES: [usize; 7] = [1, 8, 16, 32, 64, 128, 256];
/// Packets in a window; a number of whole bursts of each size.
const WINDOW: u64 = 1024;

/// One size with so many flows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// Established flows, through `nat`.
    pub flows: u32,
    /// Frames at once.
    pub at_once: usize,
    /// Nanoseconds a packet.
    pub ns: f64,
}

impl Row {
    /// For `--json`.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({ "flows": self.flows, "at_once": self.at_once, "ns": self.ns })
    }
}

/// All sizes with so many flows; of each window of packets the least of its times counts
/// ([`contest`](crate::tables::contest) says why). `step` is told what begins.
///
/// # Panics
/// If a packet does not come through; out of memory.
pub fn measure(flows: u32, plan: &Plan, mut step: impl FnMut(&str)) -> Vec<Row> {
    let rounds = plan.rounds;
    step(&format!("{flows} flows begin"));
    let mut rig = Rig::new(Mode::Nat, 100, (flows as usize).max(65_536));
    rig.establish(flows);
    let clock = clock();
    let mut least = SIZES.map(|_| Least::default());
    for round in 1..=rounds {
        step(&format!("{flows} flows, round {round} of {rounds}: {SIZES:?} frames at once"));
        let mut packets = at_random(flows);
        for (at_once, least) in SIZES.into_iter().zip(&mut least) {
            rig.take_at_once(at_once);
            play(&mut rig, &mut packets, clock * (WINDOW as u32 / at_once as u32), (plan, least));
        }
    }
    let ns = |least: &Least| least.sum() / (plan.windows as u64 * WINDOW) as f64;
    SIZES.into_iter().zip(&least).map(|(at_once, least)| Row { flows, at_once, ns: ns(least) }).collect()
}

/// `clock` is what reading it took of each window.
fn play(rig: &mut Rig, packets: &mut impl Iterator<Item = u32>, clock: Duration, (plan, least): (&Plan, &mut Least)) {
    let windows = plan.warm() + plan.windows;
    let counted =
        |rig: &Rig| [Counter::Forwarded, Counter::Established].map(|counter| rig.handle.counters.get(counter));
    let (mut segment, before) = (ack(), counted(rig));
    least.again();
    for window in 0..windows {
        let taken = rig.play(&mut segment, packets, WINDOW);
        if window >= plan.warm() {
            least.note(taken.saturating_sub(clock));
        }
    }
    let (after, wanted) = (counted(rig), windows as u64 * WINDOW);
    let [forwarded, followed] = [after[0] - before[0], after[1] - before[1]];
    assert_eq!(forwarded, wanted, "{:?}", rig.drops());
    // One checksum in 65,536 may be an unfinished one, which the long way looks into.
    assert!(followed >= wanted - wanted.div_ceil(1_000), "{followed} of {wanted} went the short way");
}

/// What reading the clock adds to what is measured by it.
fn clock() -> Duration {
    let times = (0..10_000).map(|_| black_box(Instant::now()).elapsed());
    times.min().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_sizes_let_every_packet_through() {
        let rows = measure(500, &Plan { rounds: 1, windows: 2, connections: 0 }, |_| {});
        assert_eq!(rows.iter().map(|row| row.at_once).collect::<Vec<_>>(), SIZES);
        assert!(rows.iter().all(|row| row.ns > 0.0), "{rows:?}");
    }

    #[test]
    fn windows_are_whole_bursts() {
        assert!(SIZES.iter().all(|size| (WINDOW as usize).is_multiple_of(*size)));
    }
}
