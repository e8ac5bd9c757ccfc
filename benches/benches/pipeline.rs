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
use levee_benches::rig::{PODS, Rig, UPLINK, ack, from_pod, syns};
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

/// Packets that each begin a flow: into a table with room, and into a full one, where each has another forgotten.
fn new_flows(criterion: &mut Criterion) {
    const FLOWS: u32 = 200_000;
    let mut group = criterion.benchmark_group("pipeline, new flows");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    let frames = syns(0..FLOWS);
    for (mode, name) in [(Mode::Nat, "nat"), (Mode::Dnat, "dnat")] {
        group.bench_function(format!("{name}, room"), |bencher| {
            bencher.iter_custom(|packets| {
                let (mut taken, mut left) = (Duration::ZERO, packets);
                while left > 0 {
                    let some = left.min(u64::from(FLOWS));
                    taken += Rig::new(mode, 100, 262_144).run(UPLINK, &frames, some);
                    left -= some;
                }
                taken
            });
        });
        let mut rig = Rig::new(mode, 100, 65_536);
        let mut source = frames.iter().map(Vec::as_slice).cycle();
        rig.run_from(UPLINK, &mut source, 70_000);
        group.bench_function(format!("{name}, full table"), |bencher| {
            bencher.iter_custom(|packets| rig.run_from(UPLINK, &mut source, packets));
        });
    }
    group.finish();
}

criterion_group!(pipeline, established, growth, new_flows);
criterion_main!(pipeline);
