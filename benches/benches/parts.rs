//! The parts of the packet's way, each by itself.

use std::hint::black_box;
use std::net::IpAddr;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use levee_api::net::Role;
use levee_api::program::{Delta, Mode};
use levee_benches::delta;
use levee_benches::frames::client;
use levee_benches::peers::pipeline::LOOKUP;
use levee_benches::rig::{Rig, UPLINK, VIP, acks, director, memory, service, syns};
use levee_dataplane::address::Address;
use levee_dataplane::checksum::{Sum, Update};
use levee_dataplane::classify::classify;
use levee_dataplane::decide::{Scene, decide};
use levee_dataplane::flows::state::State;
use levee_dataplane::flows::{Flow, Tuple};
use levee_dataplane::maglev::Maglev;
use levee_dataplane::mem::publication;
use levee_dataplane::parse::parse;
use levee_dataplane::tables::service::FrontendKey;
use levee_dataplane::verdict::Endpoint;

fn parsing(criterion: &mut Criterion) {
    let frame = acks(0..1).remove(0);
    criterion.bench_function("parse, TCP over IPv4", |bencher| bencher.iter(|| parse(black_box(&frame))));
}

fn checksums(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("checksum");
    for length in [20, 60, 1460] {
        let bytes = vec![0xa5; length];
        group.bench_with_input(BenchmarkId::new("sum", length), &bytes, |bencher, bytes| {
            bencher.iter(|| Sum::of(black_box(bytes)).checksum());
        });
    }
    group.bench_function("update, two addresses and two ports", |bencher| {
        bencher.iter(|| {
            let update = Update::NONE.u32(black_box(1), black_box(2)).u32(black_box(3), black_box(4));
            update.u16(black_box(5), black_box(6)).u16(black_box(7), black_box(8)).apply(black_box(9))
        });
    });
    group.finish();
}

fn maglev(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("maglev, build");
    for count in [10u16, 100, 1_000] {
        let endpoint = |index| Endpoint { address: Address::v4(0x0af5_0000 + u32::from(index)), port: 8080 };
        let backends: Vec<_> = (0..count).map(|index| (index, endpoint(index))).collect();
        group.bench_with_input(BenchmarkId::from_parameter(count), &backends, |bencher, backends| {
            bencher.iter(|| Maglev::build(black_box(backends)));
        });
    }
    group.finish();
}

fn deciding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide");
    for (mode, name) in [(Mode::Nat, "nat"), (Mode::Dnat, "dnat"), (Mode::Dsr, "dsr")] {
        let (master, mut memory) = (director(mode, 100), memory(4096));
        let scene = Scene { tables: master.tables(), ingress: UPLINK, worker: 0, now: 1000 };
        let headers = |frames: Vec<Vec<u8>>| frames.iter().map(|frame| parse(frame).expect("good")).collect::<Vec<_>>();
        for headers in headers(syns(0..1000)) {
            black_box(decide(&classify(&headers, scene.tables, UPLINK), &headers, &scene, &mut memory));
        }
        assert_eq!(memory.flows.len(), 1000);
        let established = headers(acks(0..1000));
        let mut next = established.iter().cycle();
        group.bench_function(format!("classify and decide, {name}, established"), |bencher| {
            bencher.iter(|| {
                let headers = next.next().expect("endless");
                decide(&classify(headers, scene.tables, UPLINK), headers, &scene, &mut memory)
            });
        });
    }
    group.finish();
}

fn tuple(flow: u32) -> Tuple {
    let (address, port) = client(flow);
    Tuple {
        source: Endpoint { address: address.into(), port },
        destination: Endpoint { address: VIP.into(), port: 80 },
        protocol: 6,
    }
}

fn flow(number: u32) -> Flow {
    let backend = Endpoint { address: Address::v4(0x0af5_0001), port: 8080 };
    let tuple = tuple(number);
    Flow::new(&tuple, backend, tuple.source, Mode::Dnat, State::Established, 0)
}

fn flows(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("flows");
    for count in [1_000u32, 100_000, 1_000_000] {
        let mut table = memory(1 << 20).flows;
        for number in 0..count {
            table.insert(&flow(number), 0).expect("room");
        }
        let mut number = 0u32;
        group.bench_with_input(BenchmarkId::new("find", count), &count, |bencher, count| {
            bencher.iter(|| {
                number = (number.wrapping_mul(747_796_405).wrapping_add(2_891_336_453)) % count;
                table.find(black_box(&tuple(number)))
            });
        });
        number = 0;
        group.bench_with_input(BenchmarkId::new("insert and remove", count), &count, |bencher, count| {
            bencher.iter(|| {
                number = (number + 1) % 1000;
                if let Some(id) = table.insert(&black_box(flow(count + number)), 0) {
                    table.remove(id);
                }
            });
        });
    }
    group.finish();
}

/// The address and port of a packet to any of so many Services: whose it is, and where a new flow goes. Each is asked for as
/// rarely as there are many, so that what does not fit into a cache is not found there.
fn services(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(LOOKUP);
    for count in [1usize, 5_000, 25_000, 100_000] {
        let mut master = director(Mode::Nat, 1);
        for some in (0..count).collect::<Vec<_>>().chunks(20_000) {
            let base = master.generation();
            let upsert_services = some.iter().map(|number| delta::service(number + 1)).collect();
            let delta = Delta { base, generation: base + 1, upsert_services, ..Delta::default() };
            master.amend(delta).expect("a change that can be made");
        }
        let tables = master.tables();
        let key = |number: u32| {
            let IpAddr::V4(vip) = delta::vip(number as usize % count + 1) else { return None };
            Some(FrontendKey::new(vip.into(), 80, 6, Role::Uplink))
        };
        let mut number = 0u32;
        group.bench_with_input(BenchmarkId::from_parameter(count), &count, |bencher, _| {
            bencher.iter(|| {
                number = number.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
                // High bits: low ones of such a sequence go round soon.
                let frontend = tables.frontends.get(&key(number >> 8)?)?;
                let service = tables.services.get(frontend.service)?;
                service.pick(frontend.pool, u64::from(number) << 32).map(|backend| backend.endpoint)
            });
        });
        group.bench_with_input(BenchmarkId::new("nobody's", count), &count, |bencher, _| {
            bencher.iter(|| {
                number = number.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
                let key = FrontendKey { port: 81, ..key(number >> 8)? };
                tables.frontends.get(&key).copied()
            });
        });
    }
    group.finish();
}

fn publishing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publication");
    let (_publisher, mut readers) = publication::channel(7u64, 1);
    let mut reader = readers.remove(0);
    group.bench_function("read", |bencher| bencher.iter(|| *reader.current()));

    // One backend of one Service among many: from the change to tables that a worker has seen.
    let mut rig = Rig::new(Mode::Nat, 10, 1024);
    let mut program = rig.master.program();
    for number in 0..5_000u16 {
        let [high, low] = number.to_be_bytes();
        let name = format!("default/s{number}:http");
        program.services.push(service(&name, [10, 97, high, low].into(), 80, Mode::Nat, 10));
    }
    program.generation += 1;
    rig.master.load(program.canonical()).expect("a program that can be run");
    let mut count = 9;
    group.sample_size(20).bench_function("one backend of 5,000 services × 10, to the worker", |bencher| {
        bencher.iter(|| {
            count = 19 - count;
            let base = rig.master.generation();
            let delta = Delta {
                base,
                generation: base + 1,
                upsert_services: vec![service("default/s77:http", [10, 97, 0, 77].into(), 80, Mode::Nat, count)],
                ..Delta::default()
            };
            rig.master.amend(delta).expect("a change that can be made");
            rig.publisher.publish(rig.master.snapshot());
            rig.turn();
            rig.publisher.reclaim()
        });
    });
    group.finish();
}

criterion_group!(parts, parsing, checksums, maglev, deciding, services, flows, publishing);
criterion_main!(parts);
