//! Several queues on one port, dealt out to several workers: packets of one connection come in on different queues, and meet all
//! the same.
//!
//! A veth with several queues spreads frames over them as a NIC does, by a hash of their addresses and ports. What a backend answers
//! has others than what the client asked, so half of the answers come in on a queue of the worker that does not have the flow.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use levee_api::net::{Family, Protocol};
use levee_api::program::{Backend, Frontend, Mode, Pool, Program, Service, Side, Vip, WhenEmpty};
use levee_tests::Namespace;
use levee_tests::dual::of;
use levee_tests::levee::{Dataplane, Ports, Take, cores};
use levee_tests::path::{BACKEND, Path, VIP};
use levee_tests::traffic::{Curl, EchoServer, Iperf, Nginx, Stream, connect_many, udp_round_trips};
use serde_json::Value;

const ECHO: u16 = 7;
const WEB: u16 = 80;
const IPERF: u16 = 5201;

fn program(mode: Mode, family: Family) -> Program {
    let service = |name: &str, protocol, port| Service {
        name: format!("default/{name}:main"),
        protocol,
        family,
        frontends: vec![Frontend {
            address: of(family, VIP),
            port,
            last_port: None,
            from: Side::Any,
            mode,
            pool: Pool::Cluster,
            when_empty: WhenEmpty::Reject,
            source_ranges: Vec::new(),
        }],
        backends: vec![Backend { address: of(family, BACKEND), port, pools: vec![Pool::Cluster], via: None }],
        affinity: None,
        quic: Vec::new(),
        flows: Default::default(),
    };
    Program {
        generation: 1,
        vips: vec![Vip { address: of(family, VIP), announce: true }],
        services: vec![
            service("web", Protocol::Tcp, WEB),
            service("echo", Protocol::Tcp, ECHO),
            service("echo", Protocol::Udp, ECHO),
            service("iperf", Protocol::Tcp, IPERF),
            service("iperf", Protocol::Udp, IPERF),
        ],
        ..Program::default()
    }
}

/// What the workers and the queues say, for messages.
fn story(dataplane: &Dataplane) -> String {
    let mut story = dataplane.counters();
    let status = dataplane.cli().args(["status", "-o", "wide"]).output().expect("levee can be run");
    let ports = dataplane.cli().args(["port", "list", "-o", "wide"]).output().expect("levee can be run");
    for output in [status, ports] {
        let _ = write!(story, "\n{}", String::from_utf8_lossy(&output.stdout));
    }
    story
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("no `{name}`: {value}"))
}

/// Of all workers together.
fn total(status: &Value, name: &str) -> u64 {
    status["workers"].as_array().expect("a list").iter().map(|worker| number(worker, name)).sum()
}

/// Has a client be at this address from now on.
fn speak_as(client: &Namespace, address: IpAddr) {
    let (length, gateway) = if address.is_ipv4() { (24, "198.51.100.1") } else { (64, "2001:db8:198::1") };
    let nodad = if address.is_ipv4() { "" } else { "nodad" };
    client.ip(&format!("addr replace {address}/{length} dev eth0 {nodad}"));
    client.ip(&format!("route replace default via {gateway} src {address}"));
}

/// Two workers over so many queues.
fn two_workers_over(queues: u8, mode: Mode, family: Family) {
    let Some(path) = Path::start(queues) else { return };
    // Replies to the client's own address pass the balancer, and are for it to take.
    let take = if mode == Mode::Dnat { Take::All } else { Take::Owned };
    let dataplane = Dataplane::start_with(&path.balancer.namespace, Ports::Balancer(take), &[0, 1], "");
    dataplane.program(&program(mode, family));
    let _web = Nginx::start(&path.backend, "web", WEB);
    let _echo = EchoServer::start(&path.backend, ECHO);
    let iperf = Iperf::start(&path.backend, IPERF);
    let vip = |port| SocketAddr::new(of(family, VIP), port);
    let what = format!("{mode}, {family:?}, {queues} queues");

    // What has to arrive to the last packet. From several addresses: with `dnat` a client's flows are all of one worker.
    for client in [2, 3, 4, 5] {
        speak_as(&path.client, of(family, Ipv4Addr::new(198, 51, 100, client)));
        let tally = Curl::many(&path.client, vip(WEB), 2, 25);
        assert_eq!(tally.answered(), 50, "{what}: {tally}\n{}", story(&dataplane));
        let outcome = connect_many(&path.client, vip(ECHO), 12);
        assert_eq!(outcome.succeeded, 12, "{what}: {outcome}\n{}", story(&dataplane));
        let outcome = udp_round_trips(&path.client, vip(ECHO), 25, 512);
        assert_eq!(outcome.succeeded, 25, "{what}: {outcome}\n{}", story(&dataplane));
    }
    let moved = Iperf::run(&path.client, vip(IPERF), Stream::Udp { flows: 4, megabits: 2 }, 1);
    let moved = moved.unwrap_or_else(|error| panic!("{what}: {error}\n{}", story(&dataplane)));
    assert!(moved.datagrams > 400 && moved.lost == 0, "{what}: {moved:?}\n{}", story(&dataplane));
    assert_eq!(dataplane.counter("dropped"), 0, "{what}: {}", story(&dataplane));

    // What takes all the room that there is. Full rings may lose some of it; TCP fills in.
    let moved = Iperf::run(&path.client, vip(IPERF), Stream::Tcp { connections: 4 }, 1);
    let moved = moved.unwrap_or_else(|error| panic!("{what}: {error}\n{}\n{}", story(&dataplane), iperf.daemon.log()));
    assert!(moved.bytes > 1_000_000, "{what}: {moved:?}\n{}", story(&dataplane));

    // What a busy machine still has under way arrives after iperf3 has ended: then all of it is counted, by each worker its own.
    dataplane.wait_for("what was handed over taken over, and all of it counted", |dataplane| {
        let (status, rx) = (dataplane.get("/v1/status"), dataplane.counter("rx"));
        total(&status, "received") == rx && dataplane.counter("handed_over") == dataplane.counter("taken_over")
    });
    let status = dataplane.get("/v1/status");
    let workers = status["workers"].as_array().expect("a list");
    assert_eq!(workers.len(), 2);
    for worker in workers {
        for count in ["received", "forwarded", "handed_over", "taken_over", "flows"] {
            assert!(number(worker, count) > 10, "{what}: both workers do their part: {}", story(&dataplane));
        }
    }
    let ports = dataplane.get("/v1/ports");
    let served = ports[0]["queues"].as_array().expect("a list");
    assert_eq!(served.len(), usize::from(queues));
    for queue in served {
        assert_eq!(number(queue, "worker"), number(queue, "queue") % 2, "{what}: dealt out in turn");
        assert!(number(queue, "rx_frames") > 0, "{what}: {}", story(&dataplane));
    }
    println!("{what}: {moved:?}\n{}", story(&dataplane));
}

fn two_workers(mode: Mode, family: Family) {
    if cores() < 2 {
        eprintln!("SKIPPED: two workers need two cores");
        return;
    }
    for queues in [2, 4] {
        two_workers_over(queues, mode, family);
    }
}

#[test]
fn nat_by_two_workers() {
    two_workers(Mode::Nat, Family::Ipv4);
}

#[test]
fn nat_by_two_workers_over_ipv6() {
    two_workers(Mode::Nat, Family::Ipv6);
}

#[test]
fn dnat_by_two_workers() {
    two_workers(Mode::Dnat, Family::Ipv4);
}

#[test]
fn dnat_by_two_workers_over_ipv6() {
    two_workers(Mode::Dnat, Family::Ipv6);
}
