//! The longest that a worker is busy with one batch in which every packet wants to begin a flow: how long whatever comes behind it waits.
//!
//! ```text
//! cargo run --release -p levee-benches --bin pause
//! ```
//!
//! Wall-clock time of each turn with 64 such packets, over memory: in a table with room, in one that half-open flows fill, in one of which
//! nothing may be forgotten, and with every source port towards the backend in use. On a machine that does other things besides, the
//! longest are those in which the core was taken away. So there are two maxima: of all turns, and of those in which the scheduler did
//! not take it (`ru_nivcsw`); interrupts and what a hypervisor takes are in both. That no turn's work can be more than this is not a
//! measurement's to say: `flows::effort` says so, and tests count.

use std::time::Duration;

use levee_api::program::Mode;
use levee_benches::rig::{Rig, syn};
use levee_dataplane::worker::BATCH;
use nix::sys::resource::{UsageWho, getrusage};

/// Turns of each kind, but for the first.
const TURNS: u32 = 20_000;

fn main() {
    println!(
        "{:<44} {:>8} {:>9} {:>9} {:>11} {:>12}",
        "64 packets a turn; µs", "p50", "p99", "p99.99", "undisturbed", "longest"
    );
    let room = TURNS / 5 * BATCH as u32;
    let mut rig = Rig::new(Mode::Nat, 100, room as usize);
    tell("a table with room", &mut rig, 0, TURNS / 5);
    let mut rig = Rig::new(Mode::Nat, 100, 65_536);
    rig.play(&mut syn(), &mut (0..80_000), 80_000);
    tell("a table full of half-open flows", &mut rig, 80_000, TURNS);
    let mut rig = Rig::new(Mode::Nat, 100, 1_000_000);
    rig.establish(1_000_000);
    tell("a table full of established flows", &mut rig, 1_000_000, TURNS);
    let mut rig = Rig::new(Mode::Nat, 1, 524_288);
    rig.establish(400_000);
    tell("every source port towards a backend in use", &mut rig, 400_000, TURNS);
}

/// Has `turns` batches of flows from number `first` on begin.
fn tell(what: &str, rig: &mut Rig, first: u32, turns: u32) {
    let (mut segment, mut flows) = (syn(), (first..).map(|flow| flow % 16_000_000));
    let mut times: Vec<(Duration, bool)> = Vec::with_capacity(turns as usize);
    for _ in 0..turns {
        let before = switches();
        let time = rig.play(&mut segment, &mut flows, BATCH as u64);
        times.push((time, before == switches()));
    }
    let undisturbed = times.iter().filter(|(_, alone)| *alone).map(|(time, _)| *time).max().unwrap_or_default();
    times.sort_unstable();
    let at =
        |part: f64| times.get((part * (times.len() - 1) as f64) as usize).map_or(Duration::ZERO, |(time, _)| *time);
    let [p50, p99, p9999, longest] = [0.5, 0.99, 0.9999, 1.0].map(|part| micros(at(part)));
    println!("{what:<44} {p50:>8.1} {p99:>9.1} {p9999:>9.1} {:>11.1} {longest:>12.1}", micros(undisturbed));
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// How often this thread's core was given to another.
fn switches() -> i64 {
    getrusage(UsageWho::RUSAGE_THREAD).map_or(0, |usage| usage.involuntary_context_switches())
}
