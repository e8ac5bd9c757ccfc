//! Clients and server: against Linux's own TCP, which believes no wrong checksum and no wrong number, and against each other.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use af_xdp::interface;
use af_xdp::xdp::asm::{Assembler, Reg};
use af_xdp::xdp::{Action, Attach, Program};
use levee_api::net::Mac;
use levee_pktgen::connections::{self, Device, Ends, Place, Plan};
use levee_pktgen::ends::{Clients, Server};
use levee_pktgen::search::Search;
use levee_pktgen::{Config, Error, Generator, Traffic};
use levee_tests::{Lab, Namespace};

const LEFT: Mac = Mac([2, 0, 0, 0, 0, 1]);
const RIGHT: Mac = Mac([2, 0, 0, 0, 0, 2]);

/// Two namespaces and a wire, `g0` at one end and `s0` at the other, with addresses of both families.
struct Wire {
    left: Namespace,
    right: Namespace,
    _lab: Lab,
}

impl Wire {
    fn build() -> Option<Wire> {
        let lab = Lab::start()?;
        let (left, right) = (lab.namespace("left"), lab.namespace("right"));
        for namespace in [&left, &right] {
            namespace.sysctl("net.ipv6.conf.all.disable_ipv6", "0");
            namespace.sysctl("net.ipv6.conf.default.disable_ipv6", "0");
            // Segments without options, as the two ends know them.
            namespace.sysctl("net.ipv4.tcp_timestamps", "0");
        }
        left.ip_batch(&format!(
            "link add g0 address {LEFT} type veth peer name s0 address {RIGHT} netns {}
             addr add 192.0.2.1/24 dev g0
             addr add 2001:db8::1/64 dev g0 nodad
             link set g0 up",
            right.name()
        ));
        right.ip_batch(&format!(
            "addr add 192.0.2.2/24 dev s0
             addr add 2001:db8::2/64 dev s0 nodad
             link set s0 up
             neigh replace 192.0.2.1 lladdr {LEFT} dev s0 nud permanent
             neigh replace 2001:db8::1 lladdr {LEFT} dev s0 nud permanent
             route add 198.18.0.0/15 via 192.0.2.1 dev s0
             route add 2001:2::/48 via 2001:db8::1 dev s0"
        ));
        left.ip_batch(&format!(
            "neigh replace 192.0.2.2 lladdr {RIGHT} dev g0 nud permanent
             neigh replace 2001:db8::2 lladdr {RIGHT} dev g0 nud permanent"
        ));
        // XDP takes XDP frames at the other end by NAPI, and checksums as they will be on a wire.
        left.run("ethtool -K g0 gro on tx off");
        right.run("ethtool -K s0 gro on tx off");
        Some(Wire { left, right, _lab: lab })
    }
}

impl Place for Wire {
    fn with_clients<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.left.enter(work)
    }

    fn with_server<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.right.enter(work)
    }

    fn server(&self) -> &str {
        "s0"
    }
}

/// A wire knows nothing of connections.
struct Nothing;

impl Device for Nothing {
    fn clear(&mut self) -> Result<(u64, Duration), Error> {
        Ok((0, Duration::ZERO))
    }
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse::<IpAddr>().unwrap(), port)
}

#[test]
fn linux_as_a_client_takes_the_server_for_one() {
    let Some(wire) = Wire::build() else { return };
    let server = wire.right.enter(|| Server::attach("s0")).unwrap();
    // What the other end of a veth turns around is seen only where there is a program as well.
    let mut asm = Assembler::new();
    asm.mov(Reg::R0, Action::Pass.number());
    asm.exit();
    let pass = Program::load("pass", &asm.finish().unwrap(), false).unwrap();
    let _link = wire.left.enter(|| pass.attach(interface::index("g0").unwrap(), Attach::Native)).unwrap();
    for (number, to) in [(1, at("192.0.2.2", 80)), (2, at("2001:db8::2", 80))] {
        wire.left.enter(|| {
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5)).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            for words in ["one", "and another", "odd"] {
                stream.write_all(words.as_bytes()).unwrap();
                let mut answer = vec![0; words.len()];
                stream.read_exact(&mut answer).unwrap();
                assert_eq!(answer, words.as_bytes());
            }
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0, "the server has ended it as well");
        });
        let served = server.served().unwrap();
        assert!(served.syns >= number && served.finishes >= number && served.requests >= 3 * number, "{served:?}");
    }
}

#[test]
fn linux_as_a_server_takes_the_clients_for_some() {
    let Some(wire) = Wire::build() else { return };
    for (from, to) in [("198.18.0.0/15", at("192.0.2.2", 80)), ("2001:2::/48", at("2001:db8::2", 80))] {
        let listener = wire.right.enter(|| TcpListener::bind(to)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let traffic = Traffic::tcp(from.parse().unwrap(), to);
        let clients = wire.left.enter(|| Clients::attach("g0", &traffic, 100, 16)).unwrap();
        let config = Config {
            beginning: 0..100,
            established: 0..0,
            syn: 1.0,
            flows_per_client: 16,
            rate: Some(1_000.0),
            frames: Some(100),
            ..Config::new("g0", (LEFT, RIGHT), traffic)
        };
        wire.left.enter(|| Generator::new(config)?.start()?.wait()).unwrap();
        let mut peers = BTreeSet::new();
        for _ in 0..200 {
            while let Ok((_, peer)) = listener.accept() {
                peers.insert(peer);
            }
            if peers.len() == 100 {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let answered = clients.answered().unwrap();
        assert_eq!(peers.len(), 100, "connections that the kernel's server has accepted; {answered:?}");
        assert_eq!((answered.established, answered.strangers), (100, 0), "{answered:?}");
    }
}

#[test]
fn connections_begin_answer_and_end_over_a_bare_wire() {
    let Some(wire) = Wire::build() else { return };
    let config = Config::new("g0", (LEFT, RIGHT), connections::traffic(at("192.0.2.2", 80)));
    let ends = Ends::attach(&wire, &config, 5_000).unwrap();
    for round in [ends.establish(20_000.0), ends.validate(20_000.0), ends.close(20_000.0)] {
        let round = round.unwrap();
        assert_eq!((round.sent.frames, round.answered), (5_000, 5_000), "{}", ends.story().unwrap());
    }
    // Once more: answers come again, and count no more.
    assert_eq!(ends.establish(20_000.0).unwrap().answered, 0);
}

#[test]
fn a_wire_has_room_for_all_connections_and_a_dead_server_for_none() {
    let Some(wire) = Wire::build() else { return };
    let config = Config::new("g0", (LEFT, RIGHT), connections::traffic(at("192.0.2.2", 80)));
    let plan = Plan { flows: 2_000, gentle: 20_000.0, search: Search::lossless(1_000.0, 50_000.0) };
    let most = connections::capacity(&wire, &mut Nothing, &config, &plan, 3_000).unwrap();
    assert_eq!((most.rate(), most.device_may_do_more), (3_000.0, true), "{most:?}");
    let closed = connections::tear_down(&wire, &mut Nothing, &config, &plan).unwrap();
    assert_eq!(closed.0, 0, "a wire forgets nothing");
    // Through a wire that drops everything: nothing is established, and that is said.
    wire.right.ip("link set s0 down");
    let error = connections::tear_down(&wire, &mut Nothing, &config, &plan).expect_err("nothing can be established");
    assert!(error.to_string().contains("0 of 2000 flows"), "{error}");
}
