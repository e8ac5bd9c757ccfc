//! What a Service takes of the dataplane's memory: the program that it was told, and everything that workers read of it.

use levee_api::net::{Mac, Role};
use levee_api::program::{Delta, Pool, Program, Vip};
use levee_benches::control::ENDPOINTS;
use levee_benches::delta::{service, vip};
use levee_dataplane::tables::Port;
use levee_dataplane::tables::master::{Master, Setup};

/// Bytes that a Service with ten backends may take.
const MOST: i64 = 8 << 10;

/// Adds Services to a director's state, in deltas of a thousand, and says how many bytes each took.
fn bytes_per_service(master: &mut Master, services: std::ops::Range<usize>, pools: &[Pool]) -> i64 {
    let count = services.len() as i64;
    let measured = allocation_counter::measure(|| {
        let numbers: Vec<usize> = services.collect();
        for some in numbers.chunks(1000) {
            let with_pools = |number: &usize| {
                let mut service = service(*number);
                let mut second = service.frontends[0].clone();
                for backend in &mut service.backends {
                    backend.pools = pools.to_vec();
                }
                // Each pool is asked for, as by a node port beside a ClusterIP.
                service.frontends.extend(pools.iter().skip(1).zip(81..).map(|(pool, port)| {
                    (second.pool, second.port) = (*pool, port);
                    second.clone()
                }));
                service
            };
            let base = master.generation();
            let delta = Delta {
                base,
                generation: base + 1,
                upsert_vips: some.iter().map(|number| Vip { address: vip(*number), announce: false }).collect(),
                upsert_services: some.iter().map(with_pools).collect(),
                ..Delta::default()
            };
            master.amend(delta).expect("a change that can be made");
        }
    });
    measured.bytes_current / count
}

fn master() -> Master {
    let port = Port { name: "eth0".into(), role: Role::Uplink, mac: Mac([2, 0, 0, 0, 0, 1]), passes: false, mtu: 1500 };
    let mut master = Master::new(Setup { ports: vec![port], workers: 1, ..Setup::default() });
    master.load(Program { generation: 1, ..Program::default() }).expect("a program that can be run");
    master
}

#[test]
fn a_service_with_ten_backends_takes_less_than_8_kib_however_many_there_are() {
    let mut master = master();
    for services in [0..1_000, 1_000..4_000] {
        let bytes = bytes_per_service(&mut master, services.clone(), &[Pool::Cluster]);
        println!(
            "{ENDPOINTS} backends, one pool: {bytes} bytes a Service, from {} to {}",
            services.start, services.end
        );
        assert!(bytes <= MOST, "{bytes} bytes a Service, where {MOST} is the most");
    }
}

#[test]
fn pools_that_are_the_same_backends_share_one_table() {
    let mut master = master();
    let one = bytes_per_service(&mut master, 0..1_000, &[Pool::Cluster]);
    let two = bytes_per_service(&mut master, 1_000..2_000, &[Pool::Cluster, Pool::All]);
    println!("{ENDPOINTS} backends, two pools of the same: {two} bytes a Service, {one} with one");
    // A frontend more costs its entries; a table more would cost two thousand bytes.
    assert!(two <= MOST && two - one < 1_000, "{two} bytes a Service with two pools, {one} with one");
}
