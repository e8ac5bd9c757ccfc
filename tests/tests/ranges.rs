//! Ranges of ports, whole addresses, and flows that end: on a wire, with real clients and servers, through a balancer.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use levee_api::net::{Family, Protocol};
use levee_api::program::{
    Backend, FlowPolicy, Frontend, MidStream, Mode, Pool, Program, Service, Side, Vip, WhenEmpty,
};
use levee_tests::levee::{Dataplane, Ports, Take, at};
use levee_tests::traffic::{EchoServer, RawEcho, connect, connect_many, datagram, raw_round_trips, udp_round_trips};
use levee_tests::{Host, Namespace, Pod, Scene};

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 250);
/// A client in another network, to which the nodes' way leads over the balancer.
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// For experiments and testing (RFC 3692): no kernel has anything for it.
const PROTOCOL: u8 = 253;

/// Two nodes with a pod each, a balancer, and a client beyond it.
struct Balanced {
    dataplane: Dataplane,
    client: Host,
    pods: Vec<Pod>,
    _scene: Scene,
}

impl Balanced {
    fn start() -> Option<Balanced> {
        let scene = Scene::start(&[1, 1], Take::Owned)?;
        let balancer = Host::new(&scene.lab, &scene.fabric, "balancer", 230);
        balancer.route_to_pods(&scene.routes());
        let client = scene.host("client", 201);
        let dataplane = Dataplane::start(&balancer.namespace, Ports::Balancer(Take::All));
        client.namespace.ip_batch(&format!(
            "addr flush dev eth0
             addr add {CLIENT}/32 dev eth0
             route add 192.0.2.0/24 dev eth0"
        ));
        balancer.namespace.ip("route add 198.51.100.0/24 dev eth0");
        for node in &scene.nodes {
            node.namespace().ip(&format!("route add 198.51.100.0/24 via {} dev eth0", balancer.address));
        }
        let pods = scene.nodes.iter().map(|node| node.pods()[0].clone()).collect();
        Some(Balanced { dataplane, client, pods, _scene: scene })
    }

    /// A service of some pods at the port that clients choose, or at one.
    fn service(&self, name: &str, protocol: Protocol, ports: (u16, Option<u16>), mode: Mode, pods: &[&Pod]) -> Service {
        let (port, last_port) = ports;
        let own = if last_port.is_some() { 0 } else { port };
        let backend =
            |pod: &&Pod| Backend { address: pod.address.into(), port: own, pools: vec![Pool::Cluster], via: None };
        Service {
            name: format!("default/{name}"),
            protocol,
            family: Family::Ipv4,
            frontends: vec![Frontend {
                address: VIP.into(),
                port,
                last_port,
                from: Side::Any,
                mode,
                pool: Pool::Cluster,
                when_empty: WhenEmpty::Reject,
                source_ranges: Vec::new(),
            }],
            backends: pods.iter().map(backend).collect(),
            affinity: None,
            quic: Vec::new(),
            flows: FlowPolicy::default(),
        }
    }

    fn program(&self, generation: u64, services: Vec<Service>) {
        let vips = vec![Vip { address: VIP.into(), announce: true }];
        self.dataplane.program(&Program { generation, vips, services, ..Program::default() });
    }

    fn namespace(&self) -> &Namespace {
        &self.client.namespace
    }
}

#[test]
fn every_port_of_a_range_is_served_small_and_in_fragments_and_no_port_beside_it() {
    let Some(lab) = Balanced::start() else { return };
    let pods: Vec<_> = lab.pods.iter().collect();
    let _servers: Vec<_> = [10_000, 15_000, 20_000]
        .into_iter()
        .flat_map(|port| lab.pods.iter().map(move |pod| EchoServer::start(&pod.namespace, port)))
        .collect();
    let _exact = EchoServer::start(&lab.pods[0].namespace, 15_001);
    for (generation, mode) in [(1, Mode::Nat), (2, Mode::Dnat)] {
        lab.program(
            generation,
            vec![
                lab.service("media:rtp", Protocol::Udp, (10_000, Some(20_000)), mode, &pods),
                lab.service("media:tcp", Protocol::Tcp, (10_000, Some(20_000)), mode, &pods),
                lab.service("media:one", Protocol::Udp, (15_001, None), mode, &pods[..1]),
            ],
        );
        for port in [10_000, 15_000, 20_000] {
            for length in [200, 8_000] {
                let outcome = udp_round_trips(lab.namespace(), at(VIP, port), 20, length);
                assert_eq!(outcome.succeeded, 20, "{mode} {port} {length}: {outcome}\n{}", lab.dataplane.counters());
            }
            let outcome = connect_many(lab.namespace(), at(VIP, port), 20);
            assert_eq!(outcome.succeeded, 20, "{mode} {port}: {outcome}\n{}", lab.dataplane.counters());
        }
        let outcome = udp_round_trips(lab.namespace(), at(VIP, 15_001), 20, 200);
        assert_eq!(outcome.succeeded, 20, "the one pod that serves this port by itself: {outcome}");
        assert_eq!(datagram(lab.namespace(), at(VIP, 9_999)), ErrorKind::ConnectionRefused);
        assert_eq!(connect(lab.namespace(), at(VIP, 20_001)).0, Err(ErrorKind::ConnectionRefused));
        // A port of the range that no pod listens on: the pod's own refusal comes back as the VIP's.
        assert_eq!(datagram(lab.namespace(), at(VIP, 12_345)), ErrorKind::ConnectionRefused);
        assert_eq!(connect(lab.namespace(), at(VIP, 12_345)).0, Err(ErrorKind::ConnectionRefused));
    }
    let list = lab.dataplane.cli().args(["vip", "list"]).output().expect("levee runs");
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(list.contains("10000-20000") && list.contains("default/media:rtp"), "{list}");
}

#[test]
fn a_whole_address_carries_protocols_without_ports_and_every_port_and_is_pinged() {
    let Some(lab) = Balanced::start() else { return };
    let pods: Vec<_> = lab.pods.iter().collect();
    let _raw: Vec<_> = lab.pods.iter().map(|pod| RawEcho::start(&pod.namespace, PROTOCOL)).collect();
    let _echo: Vec<_> = lab.pods.iter().map(|pod| EchoServer::start(&pod.namespace, 4711)).collect();
    let _web = EchoServer::start(&lab.pods[1].namespace, 80);
    let whole = Service {
        backends: pods.iter().map(|pod| backend(pod, 0)).collect(),
        ..lab.service("vpn:*", Protocol::Any, (0, None), Mode::Dnat, &pods)
    };
    let web = lab.service("web:http", Protocol::Tcp, (80, None), Mode::Dnat, &pods[1..]);
    lab.program(1, vec![whole.clone(), web]);
    // Of one fragment, and of several, which only the first byte behind the IP header is in the first of.
    for length in [40, 1_000, 6_000] {
        let outcome = raw_round_trips(lab.namespace(), PROTOCOL, VIP, 10, length);
        assert_eq!(outcome.succeeded, 10, "{length}: {outcome}\n{}", lab.dataplane.counters());
    }
    let outcome = udp_round_trips(lab.namespace(), at(VIP, 4711), 20, 1_000);
    assert_eq!(outcome.succeeded, 20, "{outcome}\n{}", lab.dataplane.counters());
    let outcome = connect_many(lab.namespace(), at(VIP, 4711), 20);
    assert_eq!(outcome.succeeded, 20, "{outcome}\n{}", lab.dataplane.counters());
    let outcome = connect_many(lab.namespace(), at(VIP, 80), 20);
    assert_eq!(outcome.succeeded, 20, "only the pod that has the port by itself listens on it: {outcome}");
    assert_eq!(lab.namespace().pings(VIP, 3, 56), 3);
    assert!(lab.dataplane.counter("echo_answered") >= 3, "by levee itself: {}", lab.dataplane.counters());
    let flows = lab.dataplane.cli().args(["flow", "list"]).output().expect("levee runs");
    let flows = String::from_utf8_lossy(&flows.stdout).into_owned();
    assert!(flows.contains("253"), "{flows}");
    let explained = lab
        .dataplane
        .cli()
        .args(["explain", "--packet", &format!("esp {CLIENT} > {VIP}")])
        .output()
        .expect("levee runs");
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(explained.contains("default/vpn:*"), "{explained}");

    // To nobody and back: told at once, and then served again.
    lab.program(2, vec![Service { backends: Vec::new(), ..whole.clone() }]);
    assert_eq!(datagram(lab.namespace(), at(VIP, 4711)), ErrorKind::ConnectionRefused);
    assert_eq!(connect(lab.namespace(), at(VIP, 4711)).0, Err(ErrorKind::ConnectionRefused));
    assert_eq!(raw_round_trips(lab.namespace(), PROTOCOL, VIP, 1, 40).succeeded, 0);
    lab.program(3, vec![whole]);
    assert_eq!(raw_round_trips(lab.namespace(), PROTOCOL, VIP, 5, 40).succeeded, 5);
    assert_eq!(udp_round_trips(lab.namespace(), at(VIP, 4711), 5, 100).succeeded, 5);
}

fn backend(pod: &Pod, port: u16) -> Backend {
    Backend { address: pod.address.into(), port, pools: vec![Pool::Cluster], via: None }
}

/// A connection through the VIP, by both of its ends.
struct Connection {
    client: TcpStream,
    server: TcpStream,
}

impl Connection {
    fn open(lab: &Balanced, listener: &TcpListener, port: u16) -> Connection {
        let client = lab.namespace().enter(|| TcpStream::connect(at(VIP, port))).unwrap_or_else(|error| {
            panic!("{error}\n{}", lab.dataplane.counters());
        });
        let (server, _) = listener.accept().expect("it was connected");
        for end in [&client, &server] {
            end.set_read_timeout(Some(Duration::from_secs(3))).expect("it is a duration");
            end.set_nodelay(true).expect("it is a connection");
        }
        Connection { client, server }
    }

    /// Says something from one end to the other.
    fn say(from: &mut TcpStream, to: &mut TcpStream) -> std::io::Result<()> {
        from.write_all(b"hello")?;
        to.read_exact(&mut [0; 5])
    }

    fn both_ways(&mut self) -> std::io::Result<()> {
        Connection::say(&mut self.client, &mut self.server)?;
        Connection::say(&mut self.server, &mut self.client)
    }
}

#[test]
fn a_backend_that_drains_keeps_a_connection_until_the_deadline_and_then_both_ends_are_reset() {
    const DEADLINE: u32 = 4;
    let Some(lab) = Balanced::start() else { return };
    let pods: Vec<_> = lab.pods.iter().collect();
    let (leaves, stays) = (&lab.pods[0], &lab.pods[1]);
    let listen = |pod: &Pod| {
        pod.namespace.enter(|| TcpListener::bind(SocketAddr::from((pod.address, 9_000)))).expect("a free port")
    };
    let (old, _new) = (listen(leaves), listen(stays));
    let _echo: Vec<_> = lab.pods.iter().map(|pod| EchoServer::start(&pod.namespace, 7)).collect();
    for (round, mode) in [(1, Mode::Nat), (2, Mode::Dnat)] {
        // What has ended is remembered for some seconds, and counted: each round has a service of its own.
        let service = lab.service(&format!("long-{round}:tcp"), Protocol::Tcp, (9_000, None), mode, &pods[..1]);
        let udp = lab.service(&format!("long-{round}:udp"), Protocol::Udp, (7, None), mode, &pods[..1]);
        lab.program(round * 10, vec![service.clone(), udp.clone()]);
        let mut connections = [Connection::open(&lab, &old, 9_000), Connection::open(&lab, &old, 9_000)];
        connections.iter_mut().for_each(|connection| connection.both_ways().expect("nothing has happened yet"));

        let drains = |mut service: Service| {
            let port = service.frontends[0].port;
            service.backends = vec![Backend { pools: Vec::new(), ..backend(leaves, port) }, backend(stays, port)];
            service.flows.drain_seconds = Some(DEADLINE);
            service
        };
        let begun = Instant::now();
        lab.program(round * 10 + 1, vec![drains(service), drains(udp)]);
        while begun.elapsed() < Duration::from_secs(u64::from(DEADLINE) - 2) {
            connections.iter_mut().for_each(|connection| connection.both_ways().expect("there is time"));
            std::thread::sleep(Duration::from_millis(100));
        }
        let drains = lab.dataplane.get("/v1/drains");
        let drain = drains.as_array().and_then(|all| all.iter().find(|drain| drain["service"]["protocol"] == "tcp"));
        let (left, flows) =
            drain.map_or((None, None), |drain| (drain["left_seconds"].as_u64(), drain["flows"].as_u64()));
        assert!(left.is_some_and(|left| (1..=3).contains(&left)) && flows == Some(2), "{drains}");

        std::thread::sleep(Duration::from_secs(u64::from(DEADLINE) + 1).saturating_sub(begun.elapsed()));
        assert_eq!(lab.dataplane.get("/v1/drains").as_array().map(Vec::len), Some(0));
        let events = lab.dataplane.cli().args(["-o", "json", "events"]).output().expect("levee runs");
        let events = String::from_utf8_lossy(&events.stdout).into_owned();
        let ends = events.matches("has drained for as long as it may").count();
        assert_eq!(ends, 2 * round as usize, "one of TCP and one of UDP each time: {events}");
        // The client speaks first, or the server does: whoever it is is reset, and then the other when it speaks.
        let [one, other] = &mut connections;
        for (first, second) in [(&mut one.client, &mut one.server), (&mut other.server, &mut other.client)] {
            for end in [first, second] {
                end.write_all(b"hello?").unwrap_or_default();
                let heard = end.read(&mut [0; 16]).map_err(|error| error.kind());
                assert_eq!(heard, Err(ErrorKind::ConnectionReset), "{mode}\n{}", lab.dataplane.counters());
            }
        }
        assert_eq!(udp_round_trips(lab.namespace(), at(VIP, 7), 3, 100).succeeded, 3, "by who stays");
    }
}

#[test]
fn a_segment_of_no_flow_is_reset_or_finds_its_backend_after_the_balancer_has_forgotten() {
    let Some(lab) = Balanced::start() else { return };
    let pods: Vec<_> = lab.pods.iter().collect();
    let listener = lab.pods[0].namespace.enter(|| TcpListener::bind(("0.0.0.0", 9_000))).expect("a free port");
    let mut service = lab.service("long:tcp", Protocol::Tcp, (9_000, None), Mode::Dnat, &pods[..1]);
    for (generation, mid_stream) in [(1, MidStream::Reset), (2, MidStream::Hash), (3, MidStream::Drop)] {
        service.flows.mid_stream = Some(mid_stream);
        lab.program(generation, vec![service.clone()]);
        let mut connection = Connection::open(&lab, &listener, 9_000);
        connection.both_ways().expect("nothing has happened yet");
        let (status, _) = lab.dataplane.request("DELETE", "/v1/flows", None);
        assert_eq!(status, 200);
        let heard = Connection::say(&mut connection.client, &mut connection.server).map_err(|error| error.kind());
        match mid_stream {
            MidStream::Reset => {
                assert_eq!(heard, Err(ErrorKind::WouldBlock), "it did not arrive");
                let told = connection.client.read(&mut [0; 16]).map_err(|error| error.kind());
                assert_eq!(told, Err(ErrorKind::ConnectionReset), "{}", lab.dataplane.counters());
            }
            MidStream::Hash => {
                assert_eq!(heard, Ok(()), "{}", lab.dataplane.counters());
                connection.both_ways().expect("it is known again, both ways");
            }
            MidStream::Drop => {
                assert_eq!(heard, Err(ErrorKind::WouldBlock));
                assert!(lab.dataplane.counter("mid_stream") > 0, "{}", lab.dataplane.counters());
                connection.client.set_nonblocking(true).expect("it is a socket");
                let told = connection.client.read(&mut [0; 16]).map_err(|error| error.kind());
                assert_eq!(told, Err(ErrorKind::WouldBlock), "nobody has told the client anything");
            }
        }
    }
}
