//! QUIC connections whose clients change their address, over a balancer that reads connection IDs: real sockets, real kernels.
//!
//! Client and servers speak just enough of QUIC to have connection IDs: a client's first packet has a long header and an ID of its own
//! choice, a server answers with its name and an ID that it has made, and from then on there are short headers.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use levee_api::net::{Family, Protocol};
use levee_api::program::{Backend, Frontend, Mode, Pool, Program, Service, Side, Vip, WhenEmpty};
use levee_api::quic::Config;
use levee_dataplane::quic::Code;
use levee_tests::cluster::{Cluster, Endpoint, State};
use levee_tests::levee::{Control, Dataplane, Ports, Role, Take};
use levee_tests::{Fabric, Host, Lab, Namespace};

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 250);
const PORT: u16 = 443;
/// Times that each client moves.
const MOVES: usize = 20;

fn config(rotation: u8, nonce_length: u8, key: Option<&str>) -> Config {
    Config {
        rotation,
        server_id_length: 4,
        nonce_length,
        key: key.map(|key| key.parse().expect("a key")),
        encodes_length: true,
        servers: Vec::new(),
    }
}

/// In the clear, in four passes, in one.
fn configs() -> [Config; 3] {
    const KEY: Option<&str> = Some("8f95f09245765f80256934e50c66207f");
    [config(0, 4, None), config(1, 5, KEY), config(2, 12, KEY)]
}

/// Answers each datagram with its address and a connection ID of its own. Dropped, it ends.
struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(host: &Host, config: &Config) -> Server {
        let address = host.address;
        let socket = host.namespace.enter(|| UdpSocket::bind((address, PORT)).expect("the port is free"));
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("it is a duration");
        let stop = Arc::new(AtomicBool::new(false));
        let code = Code::new(config);
        let id = config.server_ids(address.into()).next().expect("it has one");
        let nonce_length = usize::from(config.nonce_length);
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let (mut buffer, mut count) = ([0; 1500], 0u32);
                while !stop.load(Ordering::Relaxed) {
                    let Ok((_, peer)) = socket.recv_from(&mut buffer) else { continue };
                    count += 1;
                    let mut nonce = vec![0; nonce_length];
                    nonce[..4].copy_from_slice(&count.wrapping_mul(0x9e37_79b1).to_be_bytes());
                    let made = code.connection_id(id.octets(), &nonce, 0).expect("as long as it is said to be");
                    let _ = socket.send_to(&[&address.octets()[..], &made].concat(), peer);
                }
            }
        });
        Server { stop, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends a packet out of a new socket, which is a new address: who answered, and the connection ID that it gave.
fn ask(client: &Namespace, packet: &[u8]) -> (Ipv4Addr, Vec<u8>) {
    // One that nobody has had: the kernel gives out ports again, and with them somebody else's flow.
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    let port = NEXT.fetch_add(1, Ordering::Relaxed);
    client.enter(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).expect("the port is free");
        socket.connect((VIP, PORT)).expect("it is an address");
        socket.set_read_timeout(Some(Duration::from_secs(1))).expect("it is a duration");
        let mut answer = [0; 64];
        for _ in 0..5 {
            socket.send(packet).expect("it can be sent");
            if let Ok(length) = socket.recv(&mut answer) {
                let (server, id) = answer[..length].split_first_chunk::<4>().expect("it says who it is");
                return (Ipv4Addr::from(*server), id.to_vec());
            }
        }
        panic!("nobody answers {packet:02x?}");
    })
}

fn initial(number: usize) -> Vec<u8> {
    // The first three bits say "not routable", which a client's own ID may also say by accident.
    [&[0xc3, 0, 0, 0, 1, 8, 0xff], &(number as u64).to_be_bytes()[1..], &[0; 1180]].concat()
}

fn short(id: &[u8]) -> Vec<u8> {
    [&[0x43], id, &[0xee; 40]].concat()
}

struct Balanced {
    dataplane: Dataplane,
    clients: [Host; 2],
    backends: Vec<Host>,
    balancer: Host,
    _fabric: Fabric,
    lab: Lab,
}

impl Balanced {
    fn start() -> Option<Balanced> {
        let lab = Lab::start()?;
        let fabric = Fabric::new(&lab);
        let host = |name: &str, number| Host::new(&lab, &fabric, name, number);
        let balancer = host("balancer", 230);
        let clients = [host("wifi", 201), host("mobile", 202)];
        let backends = vec![host("one", 211), host("two", 212), host("three", 213)];
        let dataplane = Dataplane::start(&balancer.namespace, Ports::Balancer(Take::Owned));
        Some(Balanced { dataplane, clients, backends, balancer, _fabric: fabric, lab })
    }

    fn program(&self, generation: u64, quic: Vec<Config>) {
        self.dataplane.program(&Program {
            generation,
            vips: vec![Vip { address: VIP.into(), announce: true }],
            services: vec![Service {
                name: "default/web:h3".into(),
                protocol: Protocol::Udp,
                family: Family::Ipv4,
                frontends: vec![Frontend {
                    address: VIP.into(),
                    port: PORT,
                    last_port: None,
                    from: Side::Any,
                    mode: Mode::Nat,
                    pool: Pool::Cluster,
                    when_empty: WhenEmpty::Reject,
                    source_ranges: Vec::new(),
                }],
                backends: self
                    .backends
                    .iter()
                    .map(|host| Backend {
                        address: host.address.into(),
                        port: PORT,
                        pools: vec![Pool::Cluster],
                        via: None,
                    })
                    .collect(),
                affinity: None,
                flows: Default::default(),
                quic,
            }],
            ..Program::default()
        });
    }

    /// Begins connections and moves each client about, first on one host, then to another: how many moves met another server.
    fn lost(&self) -> usize {
        let mut lost = 0;
        for number in 0..3 {
            let (server, mut id) = ask(&self.clients[0].namespace, &initial(number));
            for place in 0..MOVES {
                let (met, next) = ask(&self.clients[place * 2 / MOVES].namespace, &short(&id));
                if met == server {
                    // Each address gets an ID of its own, as RFC 9000, 9.5, asks.
                    id = next;
                } else {
                    lost += 1;
                }
            }
        }
        lost
    }
}

#[test]
fn a_client_that_changes_its_address_stays_with_its_server() {
    let Some(lab) = Balanced::start() else { return };
    let mut generation = 0;
    for config in configs() {
        let servers: Vec<_> = lab.backends.iter().map(|host| Server::start(host, &config)).collect();
        let before = lab.dataplane.counter("by_connection_id");
        generation += 1;
        lab.program(generation, vec![config.clone()]);
        assert_eq!(lab.lost(), 0, "{config:?}; {}", lab.dataplane.counters());
        assert_eq!(lab.dataplane.counter("by_connection_id") - before, 3 * MOVES as u64);
        // The same without is what a balancer by address does: all sixty stay by chance once in 3⁶⁰ runs.
        generation += 1;
        lab.program(generation, Vec::new());
        assert!(lab.lost() > 0, "the hash alone keeps nobody");
        drop(servers);
    }
}

#[test]
fn connections_of_the_key_before_live_on_beside_those_of_the_new_one() {
    let Some(lab) = Balanced::start() else { return };
    let [_, old, new] = configs();
    lab.program(1, vec![old.clone()]);
    let servers: Vec<_> = lab.backends.iter().map(|host| Server::start(host, &old)).collect();
    let (server, id) = ask(&lab.clients[0].namespace, &initial(1));
    lab.program(2, vec![old, new.clone()]);
    drop(servers);
    let _servers: Vec<_> = lab.backends.iter().map(|host| Server::start(host, &new)).collect();
    // An ID of the old key, which servers still understand, and then one of the new key.
    let (met, next) = ask(&lab.clients[1].namespace, &short(&id));
    assert_eq!(met, server);
    assert_eq!((id[0] >> 5, next[0] >> 5), (1, 2));
    let (met, _) = ask(&lab.clients[0].namespace, &short(&next));
    assert_eq!(met, server);
    let explained = |id: &[u8]| {
        let id: String = id.iter().map(|octet| format!("{octet:02x}")).collect();
        let packet = format!("udp 203.0.113.9:4433 > {} cid {id}", SocketAddr::new(IpAddr::from(VIP), PORT));
        let output = lab
            .dataplane
            .cli()
            .args(["-o", "json", "explain", "--packet", &packet])
            .output()
            .expect("levee can be run");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for id in [&id, &next] {
        let told = explained(id);
        assert!(told.contains("connection_id") && told.contains(&server.to_string()), "{told}");
    }
    let shown = lab.dataplane.get("/v1/program").to_string();
    assert!(shown.contains("hidden") && !shown.contains("8f95f0"), "{shown}");
    let all: BTreeSet<_> = (0..30).map(|number| ask(&lab.clients[0].namespace, &initial(number)).0).collect();
    assert_eq!(all.len(), 3, "and new connections are spread as ever");
}

#[test]
fn a_cluster_says_by_annotation_that_connections_stay_and_a_key_by_its_file() {
    let Some(lab) = Balanced::start() else { return };
    let [old, new] = ["8f95f09245765f80256934e50c66207f", "00112233445566778899aabbccddeeff"];
    let cluster = Cluster::new(&lab.lab, []);
    let endpoint = |host: &Host| Endpoint { address: host.address, node: "elsewhere".into(), state: State::Ready };
    let web = levee_tests::cluster::Service {
        vip: Some(VIP),
        protocol: Protocol::Udp,
        port: PORT,
        target_port: PORT,
        mode: Some(Mode::Nat),
        endpoints: lab.backends.iter().map(endpoint).collect(),
        ..levee_tests::cluster::Service::new("h3", Ipv4Addr::new(10, 96, 0, 10))
    };
    // Not yet annotated: the hash alone.
    cluster.apply(&web);
    let key = lab.lab.directory().join("blue.key");
    let give = |content: &str| {
        let staged = key.with_extension("new");
        std::fs::write(&staged, content).expect("the lab's directory can be written");
        std::fs::rename(&staged, &key).expect("a file can be renamed in its directory");
    };
    give(old);
    let lines = format!(
        "sources:\n  - path: {}\nquic_lb:\n  - {{name: blue, rotation: 1, server_id_length: 4, nonce_length: 5, \
         encodes_length: true, key_file: {}}}\n",
        cluster.directory().display(),
        key.display()
    );
    let control = Control::start_as(&lab.balancer.namespace, Role::Balancer, "balancer", &lines, &lab.dataplane);
    let serve =
        |key| -> Vec<_> { lab.backends.iter().map(|host| Server::start(host, &config(1, 5, Some(key)))).collect() };
    let named = || lab.dataplane.counter("by_connection_id");
    let generation = || lab.dataplane.get("/v1/status")["generation"].as_u64().expect("status has a generation");

    let servers = serve(old);
    assert!(lab.lost() > 0, "without the annotation the hash alone keeps nobody");
    assert_eq!(named(), 0);
    let before = generation();
    let yaml =
        web.yaml().replace("    levee.dev/mode: nat\n", "    levee.dev/mode: nat\n    levee.dev/quic-lb: blue\n");
    cluster.write("h3.yaml", &yaml);
    lab.dataplane.wait_for_generation(before + 1);
    assert_eq!(lab.lost(), 0, "{}", lab.dataplane.counters());
    assert_eq!(named(), 3 * MOVES as u64);
    drop(servers);

    // Servers and the file get another key.
    let before = generation();
    give(new);
    lab.dataplane.wait_for_generation(before + 1);
    let _servers = serve(new);
    assert_eq!(lab.lost(), 0, "{}", lab.dataplane.counters());
    assert_eq!(named(), 6 * MOVES as u64);

    // A file that holds none is told with its place, and the last good key stays.
    let before = generation();
    give("8f95\n");
    let told = || control.get("/v1/status").1["mistakes"].to_string();
    let patience = std::time::Instant::now() + Duration::from_secs(10);
    while !told().contains("blue.key") {
        assert!(std::time::Instant::now() < patience, "nobody is told: {}", told());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(told().contains("32 hexadecimal digits") && told().contains("\"column\":5"), "{}", told());
    assert!(!told().contains("8f95"), "{}", told());
    assert_eq!(lab.lost(), 0, "{}", lab.dataplane.counters());
    assert_eq!(generation(), before);
}
