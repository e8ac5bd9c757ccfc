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
//! | too big | TCP in both directions while a hop carries 1,300 bytes: on the client's side, then on the backend's |

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use levee_api::net::{Family, Protocol};
use levee_api::program::{Backend, Frontend, Mode, Pool, Program, Service, Side, Vip, WhenEmpty};
use levee_tests::Namespace;
use levee_tests::dual::v6;
use levee_tests::levee::{Dataplane, Ports, Take, cores};
use levee_tests::path::{BACKEND, CLIENT, Path, VIP};
use levee_tests::traffic::{EchoServer, bulk, connect_many, udp_round_trips};

/// Where the servers listen.
const ECHO: u16 = 7;
/// Where nobody does.
const NOBODY: u16 = 9;
/// Where somebody answers late.
const LATE: u16 = 10;

/// An address of the path in a family.
fn of(family: Family, address: Ipv4Addr) -> IpAddr {
    match family {
        Family::Ipv4 => address.into(),
        Family::Ipv6 => v6(address).into(),
    }
}

fn program(mode: Mode, family: Family, backend: Ipv4Addr) -> Program {
    let (vip, backend) = (of(family, VIP), of(family, backend));
    let service = |name: &str, protocol, port| Service {
        name: format!("default/{name}:main"),
        protocol,
        family,
        frontends: vec![Frontend {
            address: vip,
            port,
            from: Side::Any,
            mode,
            pool: Pool::Cluster,
            when_empty: WhenEmpty::Reject,
            last_port: None,
            source_ranges: Vec::new(),
        }],
        backends: vec![Backend { address: backend, port, pools: vec![Pool::Cluster], via: None }],
        affinity: None,
    };
    Program {
        generation: 1,
        vips: vec![Vip { address: vip, announce: true }],
        services: vec![
            service("echo", Protocol::Tcp, ECHO),
            service("echo", Protocol::Udp, ECHO),
            service("nobody", Protocol::Udp, NOBODY),
            service("late", Protocol::Udp, LATE),
        ],
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
    path: Path,
}

impl Way {
    fn start(mode: Mode, family: Family, workers: u8) -> Option<Way> {
        let path = Path::start(workers)?;
        // Replies to the client's own address pass the balancer, and are for it to take.
        let take = if mode == Mode::Dnat { Take::All } else { Take::Owned };
        let namespace = &path.balancer.namespace;
        let dataplane = match workers {
            1 => Dataplane::start(namespace, Ports::Balancer(take)),
            _ => {
                let on_cores: Vec<_> = (0..workers.into()).collect();
                Dataplane::start_with(namespace, Ports::Balancer(take), &on_cores, "")
            }
        };
        let address = if mode == Mode::Dsr { path.direct.address } else { BACKEND };
        dataplane.program(&program(mode, family, address));
        let listens = if mode == Mode::Dsr { VIP } else { BACKEND };
        let backend = if mode == Mode::Dsr { &path.direct.namespace } else { &path.backend };
        let echo = EchoServer::at(backend, SocketAddr::new(of(family, listens), ECHO));
        Some(Way { mode, family, _echo: echo, dataplane, path })
    }

    fn backend(&self) -> &Namespace {
        if self.mode == Mode::Dsr { &self.path.direct.namespace } else { &self.path.backend }
    }

    /// Where the backend's servers listen.
    fn listens(&self, port: u16) -> SocketAddr {
        SocketAddr::new(of(self.family, if self.mode == Mode::Dsr { VIP } else { BACKEND }), port)
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
        let server = self.backend().enter(|| UdpSocket::bind(self.listens(LATE)).expect("the port is free"));
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
                .map_err(|error| format!("{what}: {error}; {}", self.dataplane.counters()))
        };
        self.path.narrow(1300, 1500);
        transfer("a narrow hop on the client's side")?;
        let peer = if self.mode == Mode::Nat { self.path.balancer.address } else { CLIENT };
        let learnt = Way::learnt(self.backend(), of(self.family, peer));
        if !learnt.contains("mtu 1300") {
            return Err(format!("the backend has not learnt the client's side's MTU: {learnt}"));
        }
        if self.mode == Mode::Dsr {
            return Ok("400 kB, hop of 1300 before the client".into());
        }
        self.path.narrow(1500, 1300);
        transfer("a narrow hop on the backend's side")?;
        let learnt = Way::learnt(&self.path.client, of(self.family, VIP));
        if !learnt.contains("mtu 1300") {
            return Err(format!("the client has not learnt the backend's side's MTU: {learnt}"));
        }
        Ok("400 kB each, hop of 1300 on either side".into())
    }

    fn rows(&self) -> Vec<Row> {
        let (mode, family) = (self.mode, self.family);
        vec![
            (mode, family, "tcp", self.tcp()),
            (mode, family, "udp", self.udp(512)),
            (mode, family, "icmp error", self.errors()),
            (mode, family, "fragment", self.udp(8_000)),
            (mode, family, "too big", self.too_big()),
        ]
    }
}

#[test]
fn every_packet_passes_in_every_mode() {
    every_packet_passes(&[Mode::Nat, Mode::Dnat, Mode::Dsr], 1);
}

/// Each with a queue: what belongs together comes in on both.
#[test]
fn every_packet_passes_by_two_workers() {
    if cores() < 2 {
        eprintln!("SKIPPED: two workers need two cores");
        return;
    }
    every_packet_passes(&[Mode::Nat, Mode::Dnat], 2);
}

fn every_packet_passes(modes: &[Mode], workers: u8) {
    let mut rows = Vec::new();
    let mut counters = String::new();
    for family in [Family::Ipv4, Family::Ipv6] {
        for &mode in modes {
            let Some(way) = Way::start(mode, family, workers) else { return };
            rows.extend(way.rows());
            let handed_over = way.dataplane.counter("handed_over");
            assert_eq!(handed_over > 0, workers > 1, "{mode:?} {family:?}: {}", way.dataplane.counters());
            let _ = writeln!(counters, "{mode:?} {family:?}: {}", way.dataplane.counters());
        }
    }
    let mut table =
        String::from("\n| mode | family | packet     | result |\n|------|--------|------------|--------|\n");
    for (mode, family, packet, result) in &rows {
        let (verdict, what) = match result {
            Ok(what) => ("ok", what),
            Err(what) => ("FAILED", what),
        };
        let _ = writeln!(table, "| {:4} | {family:?}   | {packet:10} | {verdict}: {what} |", mode.to_string());
    }
    println!("{table}");
    assert!(rows.iter().all(|(_, _, _, result)| result.is_ok()), "{table}\n{counters}");
}
