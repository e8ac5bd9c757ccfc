//! SYN floods on a wire, beside real connections: what is established goes on, what is real gets in, and memory stays as it is.
//!
//! ```text
//!   client ── routers ──╮                          ╭── routers ── backend
//!                       ╞═ fabric ══ balancer ═════╡
//!   strangers ──────────╯  (VIP)                   ╰── direct (dsr)
//! ```
//!
//! The table has room for 1,024 flows; each flood brings eight times as many. The backend's kernel is flooded as well, and
//! helps itself with SYN cookies, as every Linux does: levee forwards, and leaves that to who answers.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use levee_api::net::{Family, Protocol};
use levee_api::program::{Backend, Frontend, Mode, Pool, Program, Service, Side, Vip, WhenEmpty};
use levee_tests::levee::Dataplane;
use levee_tests::path::{BACKEND, CLIENT, Path, VIP};
use levee_tests::traffic::{EchoServer, Sources, SynFlood, bulk, connect_many};
use levee_tests::{Host, Namespace};

const PORT: u16 = 7;
/// SYNs per second: the table is full in half a second, and the machine has time for everything else.
const RATE: u64 = 2_000;
/// Flows that there is room for: the fewest that can be configured.
const CAPACITY: u64 = 1024;
/// SYNs of a flood.
const FLOOD: u64 = 8 * CAPACITY;
/// Clients that come while it lasts.
const CLIENTS: usize = 10;

fn program(mode: Mode, open_to: &[&str]) -> Program {
    let backend = if mode == Mode::Dsr { Ipv4Addr::new(192, 0, 2, 203) } else { BACKEND };
    Program {
        generation: 1,
        vips: vec![Vip { address: VIP.into(), announce: true }],
        services: vec![Service {
            name: "default/echo:main".into(),
            protocol: Protocol::Tcp,
            family: Family::Ipv4,
            frontends: vec![Frontend {
                address: VIP.into(),
                port: PORT,
                from: Side::Any,
                mode,
                pool: Pool::Cluster,
                when_empty: WhenEmpty::Reject,
                last_port: None,
                source_ranges: open_to.iter().map(|range| range.parse().expect("a prefix")).collect(),
            }],
            backends: vec![Backend { address: backend.into(), port: PORT, pools: vec![Pool::Cluster], via: None }],
            affinity: None,
            flows: Default::default(),
            quic: Vec::new(),
        }],
        ..Program::default()
    }
}

/// A balancer whose one backend is reached in some way, a client, and a station that floods.
struct Flooded {
    mode: Mode,
    _echo: EchoServer,
    dataplane: Dataplane,
    strangers: Host,
    path: Path,
}

impl Flooded {
    fn start(mode: Mode, more: &str, open_to: &[&str]) -> Option<Flooded> {
        let path = Path::start(1)?;
        let strangers = path.strangers();
        let take = if mode == Mode::Dnat { "all" } else { "owned" };
        let dataplane = Dataplane::start_as(&path.balancer.namespace, |socket| {
            format!(
                "ports: [{{interface: eth0, role: uplink, take: {take}}}]\nworkers: [0]\nsocket: {}\n\
                 flows: {{capacity: {CAPACITY}}}\nmemory: {{frames: 8192}}\n{more}",
                socket.display()
            )
        });
        dataplane.program(&program(mode, open_to));
        let backend = if mode == Mode::Dsr { &path.direct.namespace } else { &path.backend };
        let listens = if mode == Mode::Dsr { VIP } else { BACKEND };
        let echo = EchoServer::at(backend, (listens, PORT).into());
        Some(Flooded { mode, _echo: echo, dataplane, strangers, path })
    }

    fn flood(&self, sources: Sources) -> SynFlood {
        let macs = (self.strangers.wire.mac, self.path.balancer.wire.mac);
        SynFlood::start(&self.strangers.namespace, macs, sources, (VIP, PORT), RATE)
    }

    fn backend(&self) -> &Namespace {
        if self.mode == Mode::Dsr { &self.path.direct.namespace } else { &self.path.backend }
    }

    fn vip(&self) -> SocketAddr {
        (VIP, PORT).into()
    }

    fn flows(&self) -> u64 {
        self.dataplane.get("/v1/status")["flows"].as_u64().expect("it says how many flows it has")
    }

    /// Kilobytes of the daemon that are in memory.
    fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.dataplane.daemon.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel says so");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Waits until the flood has filled the table several times over.
    fn until_sent(&self, flood: &SynFlood, count: u64) {
        self.dataplane.wait_for("as many SYNs", |_| flood.sent() >= count);
    }
}

/// A connection that stays open, and says something now and then.
struct Held(TcpStream);

impl Held {
    fn open(client: &Namespace, server: SocketAddr) -> Held {
        client.enter(|| {
            let stream = TcpStream::connect_timeout(&server, Duration::from_secs(4)).expect("nobody floods yet");
            stream.set_read_timeout(Some(Duration::from_secs(3))).expect("it is a duration");
            stream.set_nodelay(true).expect("it is TCP");
            Held(stream)
        })
    }

    fn says(&mut self, word: &str) -> Result<(), String> {
        let mut heard = vec![0; word.len()];
        let done = self.0.write_all(word.as_bytes()).and_then(|()| self.0.read_exact(&mut heard));
        match done {
            Ok(()) if heard == word.as_bytes() => Ok(()),
            Ok(()) => Err(format!("said {word:?}, heard {:?}", String::from_utf8_lossy(&heard))),
            Err(error) => Err(format!("said {word:?}: {error}")),
        }
    }
}

/// Everything at once: a held connection, a transfer, and clients that come, while the table is filled eight times over.
fn goes_on(mode: Mode, more: &str) -> Option<Flooded> {
    let lab = Flooded::start(mode, more, &[])?;
    let mut held = Held::open(&lab.path.client, lab.vip());
    held.says("before").unwrap_or_else(|error| panic!("{mode}: {error}"));
    let memory = lab.memory();
    let flood = lab.flood(Sources::Many);
    std::thread::scope(|scope| {
        let transfer = scope.spawn(|| bulk(&lab.path.client, lab.vip(), 1_000_000));
        while flood.sent() < FLOOD {
            let said = held.says("still here");
            said.unwrap_or_else(|error| panic!("{mode}, held: {error}; {}", lab.dataplane.counters()));
            std::thread::sleep(Duration::from_millis(50));
        }
        let done = transfer.join().expect("a transfer does not panic");
        done.unwrap_or_else(|error| panic!("{mode}, transfer: {error}; {}", lab.dataplane.counters()));
    });
    let outcome = connect_many(&lab.path.client, lab.vip(), CLIENTS);
    assert_eq!(
        outcome.succeeded,
        CLIENTS,
        "{mode}, new clients: {outcome}; {}\nthe backend's kernel: {}",
        lab.dataplane.counters(),
        lab.backend().run("nstat -a")
    );
    let sent = flood.finish();
    held.says("after").unwrap_or_else(|error| panic!("{mode}: {error}"));

    let count = |name| lab.dataplane.counter(name);
    assert!(count("rx") >= sent / 2, "the flood came in: {sent} sent; {}", lab.dataplane.counters());
    assert!(lab.flows() <= CAPACITY, "{} flows", lab.flows());
    // Nothing is lost for want of room, nor is anybody told that a flow is over. (Answers to what was half open and had to give way
    // end as `no_snat_flow`.)
    for name in ["flow_table_full", "resets_sent"] {
        assert_eq!(count(name), 0, "{name}: {}", lab.dataplane.counters());
    }
    let grown = lab.memory().saturating_sub(memory);
    assert!(grown < 2048, "{grown} kB more than before {sent} SYNs");
    println!("{mode}: {sent} SYNs, {} flows, {grown} kB more; {}", lab.flows(), lab.dataplane.counters());
    Some(lab)
}

#[test]
fn with_nat_established_flows_go_on_and_real_clients_get_in() {
    goes_on(Mode::Nat, "");
}

#[test]
fn with_dnat_established_flows_go_on_and_real_clients_get_in() {
    goes_on(Mode::Dnat, "");
}

#[test]
fn with_dsr_beyond_the_rate_nothing_is_remembered_and_real_clients_get_in_by_hash_alone() {
    let Some(lab) = goes_on(Mode::Dsr, "new_flows: {per_vip: 100}\n") else { return };
    let (over, begun) = (lab.dataplane.counter("untracked_over_limit"), lab.dataplane.counter("flows_created"));
    assert!(over > FLOOD / 2, "{}", lab.dataplane.counters());
    assert!(begun < over / 4, "{begun} flows of 100 a second; {}", lab.dataplane.counters());
}

#[test]
fn a_flood_by_one_source_is_its_own_trouble() {
    let Some(lab) = Flooded::start(Mode::Nat, "new_flows: {per_source: 200}\n", &[]) else { return };
    let flood = lab.flood(Sources::One(Ipv4Addr::new(198, 18, 0, 7)));
    lab.until_sent(&flood, FLOOD);
    let outcome = connect_many(&lab.path.client, lab.vip(), CLIENTS);
    assert_eq!(outcome.succeeded, CLIENTS, "{outcome}; {}", lab.dataplane.counters());
    let (sent, refused) = (flood.finish(), lab.dataplane.counter("new_flows_of_source"));
    assert!(refused > sent / 2, "{refused} of {sent}; {}", lab.dataplane.counters());
}

#[test]
fn a_flood_from_outside_of_the_source_ranges_begins_nothing() {
    let ranges = [format!("{CLIENT}/32"), "203.0.113.0/24".to_owned()];
    let ranges: Vec<_> = ranges.iter().map(String::as_str).collect();
    let Some(lab) = Flooded::start(Mode::Nat, "", &ranges) else { return };
    let flood = lab.flood(Sources::Many);
    lab.until_sent(&flood, FLOOD);
    let outcome = connect_many(&lab.path.client, lab.vip(), CLIENTS);
    assert_eq!(outcome.succeeded, CLIENTS, "{outcome}; {}", lab.dataplane.counters());
    let _ = flood.finish();
    assert_eq!(lab.dataplane.counter("flows_created"), CLIENTS as u64, "{}", lab.dataplane.counters());
    assert!(lab.dataplane.counter("source_not_allowed") > FLOOD / 2, "{}", lab.dataplane.counters());
}
