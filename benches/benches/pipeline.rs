//! The whole packet's way over memory: from a received frame to one that is given to be sent, for each thing that levee
//! does with it. Nanoseconds are per packet, in batches of 64, of the worker alone: putting frames into the port, which
//! the kernel does, is not counted, nor is the kernel.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use levee_api::program::Mode;
use levee_benches::frames::at_random;
use levee_benches::growth::{Growth, Size};
use levee_benches::memory::resident;
use levee_benches::newcomers::{Newcomers, Table};
use levee_benches::peers::pipeline::CHANGED;
use levee_benches::rig::{PODS, Rig, ack, from_pod};
use levee_dataplane::verdict::PortId;

/// Packets of flows that are there already.
fn established(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pipeline");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    let mut measure = |name: &str, rig: &mut Rig, port: PortId, frames: &[Vec<u8>]| {
        let before = rig.forwarded();
        rig.run(port, frames, frames.len() as u64);
        assert_eq!(rig.forwarded() - before, frames.len() as u64, "{name}: {:?}", rig.drops());
        // Across samples, so that all flows are visited, not the first few again and again.
        let mut source = frames.iter().map(Vec::as_slice).cycle();
        group.bench_function(name, |bencher| bencher.iter_custom(|packets| rig.run_from(port, &mut source, packets)));
        black_box(rig);
    };
    measure("mac rewriting", &mut Rig::new(Mode::Nat, 1, 1024), PODS, &from_pod(0..1000));
    let ways: [(Mode, &str, &[u32]); 3] = [
        (Mode::Nat, "nat", &[1_000, 100_000, 1_000_000, 10_000_000]),
        (Mode::Dnat, "dnat", &[1_000, 100_000]),
        (Mode::Dsr, "dsr", &[1_000, 100_000]),
    ];
    for (mode, name, counts) in ways {
        for &flows in counts {
            let mut rig = Rig::new(mode, 100, (flows as usize).max(65_536));
            rig.establish(flows);
            let before = rig.forwarded();
            rig.play(&mut ack(), &mut (0..flows), u64::from(flows));
            assert_eq!(rig.forwarded() - before, u64::from(flows), "{name}: {:?}", rig.drops());
            let (mut segment, mut source) = (ack(), at_random(flows));
            group.bench_function(format!("{name}, {flows} flows"), |bencher| {
                bencher.iter_custom(|packets| rig.play(&mut segment, &mut source, packets));
            });
        }
    }
    group.finish();
}

/// Packets of established flows, both directions, as Services, backends and flows grow together.
fn growth(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("growth");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    for size in Size::STEPS {
        let begun = Instant::now();
        let mut growth = Growth::new(size);
        let (built, all) = (growth.built, begun.elapsed());
        let memory = resident(std::process::id());
        let (now, huge) = (memory.now >> 20, memory.huge >> 20);
        eprintln!(
            "{size}: tables made in {built:.1?}, flows begun in {:.1?}; {now} MiB resident, {huge} on huge pages",
            all - built
        );
        let mut flows = growth.packets();
        group.bench_function(size.to_string(), |bencher| {
            bencher.iter_custom(|packets| growth.play(&mut flows, packets));
        });
    }
    group.finish();
}

/// Packets that each begin a flow: into tables with room, and into full ones, where each has another forgotten.
fn new_flows(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pipeline, new flows");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    for (mode, name, tables) in [(Mode::Nat, "nat", Table::ALL.as_slice()), (Mode::Dnat, "dnat", &Table::ALL[..2])] {
        for table in tables {
            let mut newcomers = Newcomers::new(mode, *table);
            group.bench_function(format!("{name}, {table}"), |bencher| {
                bencher.iter_custom(|packets| newcomers.play(packets));
            });
        }
    }
    group.finish();
}

/// Packets of established flows, each the first of its flow since tables were changed: what a change costs forwarding, a flow.
fn after_a_change(criterion: &mut Criterion) {
    const FLOWS: u32 = 1_000;
    let mut rig = Rig::new(Mode::Nat, 100, 65_536);
    rig.establish(FLOWS);
    let mut segment = ack();
    criterion.bench_function(CHANGED, |bencher| {
        bencher.iter_custom(|packets| {
            let (mut taken, mut left) = (Duration::ZERO, packets);
            while left > 0 {
                rig.change_another();
                let some = left.min(u64::from(FLOWS));
                taken += rig.play(&mut segment, &mut (0..FLOWS), some);
                left -= some;
            }
            taken
        });
    });
}

criterion_group!(pipeline, established, after_a_change, growth, new_flows);
criterion_main!(pipeline);
