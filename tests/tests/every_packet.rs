//! Every packet that a network carries, through every way to reach a backend: one table, one row each, printed.
//!
//! Real clients, servers and kernels, routers on both ways: see [`levee_tests::path`]. What is shown stands in the rows:
//!
//! | column | what happens |
//! |---|---|
//! | tcp | connections, each with a request and its echo |
//! | udp | datagrams and their echoes |
//! | icmp error | a closed port of the backend refuses the client; a client that is gone refuses its server |
//! | fragment | datagrams of 8 KB and their echoes, cut and put together by the kernels at both ends |
//! | too big | TCP in both directions while a hop carries less: on the client's side, then on the backend's |
//!
//! With `tunnel` the backend is a pod of a node with levee, whose answers pass the balancer by ([`levee_tests::path::node`]). What is too
//! big there is the packet that was wrapped, so that the router's news is for the balancer, and the balancer's for the client.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use levee_api::net::{Family, Protocol};
use levee_api::program::{Backend, Frontend, Mode, Pool, Program, Service, Side, Via, Vip, WhenEmpty};
use levee_api::tunnel::{Encapsulation, Tunnel};
use levee_tests::Namespace;
use levee_tests::dual::of;
use levee_tests::levee::{Dataplane, Ports, Take, cores};
use levee_tests::path::node::{NODE, POD, local};
use levee_tests::path::{BACKEND, CLIENT, Path, VIP};
use levee_tests::traffic::{EchoServer, bulk, connect_many, udp_round_trips};

/// Where the servers listen.
const ECHO: u16 = 7;
/// Where nobody does.
const NOBODY: u16 = 9;
/// Where somebody answers late.
const LATE: u16 = 10;

/// The services that all rows need, reached in one way and from one side.
fn services(family: Family, from: Side, mode: Mode, pool: Pool, backend: (Ipv4Addr, Option<Via>)) -> Vec<Service> {
    let (address, via) = backend;
    let service = |name: &str, protocol, port| Service {
        name: format!("default/{name}:main"),
        protocol,
        family,
        frontends: vec![Frontend {
            address: of(family, VIP),
            port,
            from,
            mode,
            pool,
            when_empty: WhenEmpty::Reject,
            last_port: None,
            source_ranges: Vec::new(),
        }],
        backends: vec![Backend { address: of(family, address), port, pools: vec![pool], via }],
        affinity: None,
        quic: Vec::new(),
        flows: Default::default(),
    };
    vec![
        service("echo", Protocol::Tcp, ECHO),
        service("echo", Protocol::Udp, ECHO),
        service("nobody", Protocol::Udp, NOBODY),
        service("late", Protocol::Udp, LATE),
    ]
}

fn program(mode: Mode, family: Family, backend: Ipv4Addr) -> Program {
    let via = (mode == Mode::Tunnel).then(|| Via { address: of(family, NODE), mac: None });
    Program {
        generation: 1,
        vips: vec![Vip { address: of(family, VIP), announce: true }],
        services: services(family, Side::Any, mode, Pool::Cluster, (backend, via)),
        tunnels: via.map(|_| Tunnel::default()).into_iter().collect(),
        ..Program::default()
    }
}

/// What the node behind the tunnel is told.
fn program_of_node(family: Family, balancer: Ipv4Addr) -> Program {
    Program {
        generation: 1,
        local: local(),
        vips: vec![Vip { address: of(family, VIP), announce: false }],
        services: services(family, Side::Tunnel, Mode::Dnat, Pool::Local, (POD, None)),
        tunnels: vec![Tunnel { peers: vec![of(family, balancer).into()], ..Tunnel::default() }],
        ..Program::default()
    }
}

/// What a row was to show, and what it did.
type Row = (Mode, Family, &'static str, Result<String, String>);

/// A path with levee on its balancer, reaching its one backend in one way.
struct Way {
    mode: Mode,
    family: Family,
    _echo: EchoServer,
    dataplane: Dataplane,
    /// Of the node that a tunnel leads to.
    far: Option<Dataplane>,
    /// Where servers run, and at which address.
    backend: Namespace,
    address: Ipv4Addr,
    path: Path,
}

impl Way {
    fn start(mode: Mode, family: Family, workers: u8) -> Option<Way> {
        let path = Path::start(workers)?;
        // Replies to the client's own address pass the balancer, and are for it to take.
        let take = if mode == Mode::Dnat { Take::All } else { Take::Owned };
        let mut far = None;
        // What the balancer sends to, where that is, and at which address the servers listen there.
        let (target, backend, address) = match mode {
            Mode::Nat | Mode::Dnat => (BACKEND, path.backend.clone(), BACKEND),
            Mode::Dsr => (path.direct.address, path.direct.namespace.clone(), VIP),
            Mode::Tunnel => {
                let pod = path.node_in_the_backends_place();
                let node = Dataplane::start(&path.backend, Ports::Node(Take::Owned));
                node.program(&program_of_node(family, path.balancer.address));
                far = Some(node);
                (POD, pod, POD)
            }
        };
        let namespace = &path.balancer.namespace;
        let dataplane = match workers {
            1 => Dataplane::start(namespace, Ports::Balancer(take)),
            _ => {
                let on_cores: Vec<_> = (0..workers.into()).collect();
                Dataplane::start_with(namespace, Ports::Balancer(take), &on_cores, "")
            }
        };
        dataplane.program(&program(mode, family, target));
        let echo = EchoServer::at(&backend, SocketAddr::new(of(family, address), ECHO));
        Some(Way { mode, family, _echo: echo, dataplane, far, backend, address, path })
    }

    /// Where the backend's servers listen.
    fn listens(&self, port: u16) -> SocketAddr {
        SocketAddr::new(of(self.family, self.address), port)
    }

    /// What levee has counted, all of them.
    fn counters(&self) -> String {
        let far = self.far.as_ref().map(|far| format!("\n  its node: {}", far.counters()));
        format!("{}{}", self.dataplane.counters(), far.unwrap_or_default())
    }

    fn vip(&self, port: u16) -> SocketAddr {
        SocketAddr::new(of(self.family, VIP), port)
    }

    fn tcp(&self) -> Result<String, String> {
        let outcome = connect_many(&self.path.client, self.vip(ECHO), 20);
        if outcome.succeeded == 20 { Ok("20 connections".into()) } else { Err(outcome.to_string()) }
    }

    fn udp(&self, length: usize) -> Result<String, String> {
        let outcome = udp_round_trips(&self.path.client, self.vip(ECHO), 20, length);
        if outcome.succeeded == 20 { Ok(format!("20 × {length} bytes")) } else { Err(outcome.to_string()) }
    }

    fn fragments(&self) -> Result<String, String> {
        if self.mode == Mode::Tunnel {
            // Fragments of full size do not fit behind the outer headers. The first datagram teaches the client.
            let _ = udp_round_trips(&self.path.client, self.vip(ECHO), 1, 8_000);
            let (mtu, learnt) = (1500 - self.overhead(), Way::learnt(&self.path.client, of(self.family, VIP)));
            if !learnt.contains(&format!("mtu {mtu}")) {
                return Err(format!("the client has not learnt the tunnel's MTU of {mtu}: {learnt}"));
            }
        }
        self.udp(8_000)
    }

    /// What a tunnel puts in front of packets.
    fn overhead(&self) -> u16 {
        if self.mode == Mode::Tunnel { Encapsulation::Vxlan.overhead(self.family) } else { 0 }
    }

    fn errors(&self) -> Result<String, String> {
        if self.mode != Mode::Dsr {
            // (There the backend tells the client itself.)
            let refused = self.path.client.enter(|| {
                let socket = UdpSocket::bind((of(self.family, CLIENT), 0)).expect("a port is free");
                socket.connect(self.vip(NOBODY)).expect("it is an address");
                socket.set_read_timeout(Some(Duration::from_secs(2))).expect("it is a duration");
                socket.send(b"anybody?").expect("it can be sent");
                socket.recv(&mut [0; 16]).map(drop).map_err(|error| error.kind())
            });
            if refused != Err(ErrorKind::ConnectionRefused) {
                return Err(format!("a closed port of the backend: the client saw {refused:?}"));
            }
        }
        // A client asks, and is gone before the server answers.
        let server = self.backend.enter(|| UdpSocket::bind(self.listens(LATE)).expect("the port is free"));
        server.set_read_timeout(Some(Duration::from_secs(2))).expect("it is a duration");
        self.path.client.enter(|| {
            let socket = UdpSocket::bind((of(self.family, CLIENT), 0)).expect("a port is free");
            socket.send_to(b"and off", self.vip(LATE)).expect("it can be sent");
        });
        let (_, asked_by) = server.recv_from(&mut [0; 16]).map_err(|error| format!("no question came: {error}"))?;
        server.connect(asked_by).expect("it is an address");
        server.send(b"late").expect("it can be sent");
        match server.recv(&mut [0; 16]) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok("refusals, to both ends".into()),
            other => Err(format!("a client that is gone: the server saw {other:?}")),
        }
    }

    /// What an end has learnt about the way to an address.
    fn learnt(end: &Namespace, address: IpAddr) -> String {
        end.ip(&format!("route get {address}"))
    }

    fn too_big(&self) -> Result<String, String> {
        let transfer = |what: &str| {
            bulk(&self.path.client, self.vip(ECHO), 400_000)
                .map_err(|error| format!("{what}: {error}; {}", self.counters()))
        };
        self.path.narrow(1300, 1500);
        transfer("a narrow hop on the client's side")?;
        let peer = if self.mode == Mode::Nat { self.path.balancer.address } else { CLIENT };
        let learnt = Way::learnt(&self.backend, of(self.family, peer));
        if !learnt.contains("mtu 1300") {
            return Err(format!("the backend has not learnt the client's side's MTU: {learnt}"));
        }
        if self.mode == Mode::Dsr {
            return Ok("400 kB, hop of 1300 before the client".into());
        }
        // A tunnel that carries less than 1,280 bytes inside is none for IPv6.
        let hop = if self.mode == Mode::Tunnel { 1400 } else { 1300 };
        self.path.narrow(1500, hop);
        for family in ["-4", "-6"] {
            self.backend.ip(&format!("{family} route flush cache"));
        }
        transfer("a narrow hop on the backend's side")?;
        let (mtu, learnt) = (hop - self.overhead(), Way::learnt(&self.path.client, of(self.family, VIP)));
        if !learnt.contains(&format!("mtu {mtu}")) {
            return Err(format!("the client has not learnt the backend's side's MTU of {mtu}: {learnt}"));
        }
        if self.mode == Mode::Tunnel && self.dataplane.counter("tunnel_mtu_learnt") == 0 {
            return Err(format!("nobody has told the balancer of the way: {}", self.counters()));
        }
        if self.mode == Mode::Tunnel {
            let tunnels = self.dataplane.get("/v1/tunnels");
            let (told, left) = (&tunnels[0]["learnt"]["mtu"], tunnels[0]["learnt"]["left_seconds"].as_u64());
            if *told != hop || tunnels[0]["mtu"] != 1500 || !left.is_some_and(|left| (500..=600).contains(&left)) {
                return Err(format!("an operator would not see the way of {hop}: {tunnels}"));
            }
        }
        Ok(format!("400 kB each, hop of 1300 before the client, of {hop} before the backend"))
    }

    fn rows(&self) -> Vec<Row> {
        let (mode, family) = (self.mode, self.family);
        vec![
            (mode, family, "tcp", self.tcp()),
            (mode, family, "udp", self.udp(512)),
            (mode, family, "icmp error", self.errors()),
            (mode, family, "fragment", self.fragments()),
            (mode, family, "too big", self.too_big()),
        ]
    }
}

#[test]
fn every_packet_passes_in_every_mode() {
    every_packet_passes(&[Mode::Nat, Mode::Dnat, Mode::Dsr, Mode::Tunnel], 1);
}

/// Each with a queue: what belongs together comes in on both.
#[test]
fn every_packet_passes_by_two_workers() {
    if cores() < 2 {
        eprintln!("SKIPPED: two workers need two cores");
        return;
    }
    every_packet_passes(&[Mode::Nat, Mode::Dnat, Mode::Dsr, Mode::Tunnel], 2);
}

fn every_packet_passes(modes: &[Mode], workers: u8) {
    let mut rows = Vec::new();
    let (mut counters, mut handed_over) = (String::new(), 0);
    for family in [Family::Ipv4, Family::Ipv6] {
        for &mode in modes {
            let Some(way) = Way::start(mode, family, workers) else { return };
            rows.extend(way.rows());
            handed_over += way.dataplane.counter("handed_over");
            let _ = writeln!(counters, "{mode:?} {family:?}: {}", way.counters());
        }
    }
    // In which of them the queues let it happen is by chance.
    assert_eq!(handed_over > 0, workers > 1, "{counters}");
    let mut table =
        String::from("\n| mode   | family | packet     | result |\n|--------|--------|------------|--------|\n");
    for (mode, family, packet, result) in &rows {
        let (verdict, what) = match result {
            Ok(what) => ("ok", what),
            Err(what) => ("FAILED", what),
        };
        let _ = writeln!(table, "| {:6} | {family:?}   | {packet:10} | {verdict}: {what} |", mode.to_string());
    }
    println!("{table}");
    assert!(rows.iter().all(|(_, _, _, result)| result.is_ok()), "{table}\n{counters}");
}
