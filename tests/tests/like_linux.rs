//! ICMP errors beside Linux: the same packets on the same path, once through levee and once through the kernel's own NAT with
//! nftables in its place. What the client and the backend get is the same, field by field.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use etherparse::{Icmpv4Header, IpNumber, Ipv4Header};
use levee_api::net::{Family, Protocol};
use levee_api::program::{Backend, Frontend, Mode, Pool, Program, Service, Side, Vip, WhenEmpty};
use levee_tests::levee::{Dataplane, Ports, Take};
use levee_tests::path::{BACKEND, CLIENT, Path, VIP};
use levee_tests::{Direction, Namespace};

/// The Service's port, which nobody serves at first.
const PORT: u16 = 9;
/// The client's.
const FROM: u16 = 40_009;

/// What stands in an ICMP error, but for what each stack chooses for itself: identifications, and the SNAT port.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    by: Ipv4Addr,
    to: Ipv4Addr,
    ttl: u8,
    tos: u8,
    kind: [u8; 2],
    rest: [u8; 4],
    about: (Ipv4Addr, u16, Ipv4Addr, u16),
    quoted_ttl: u8,
    quoted_length: u16,
    /// Behind the quoted ports: UDP's length, and its data.
    length: [u8; 2],
    data: Vec<u8>,
}

/// Reads one, and sums all its checksums up. The port of a SNAT address is told as 0.
fn told(frame: &[u8]) -> Option<Told> {
    let (ip, message) = Ipv4Header::from_slice(frame.get(14..)?).ok()?;
    let message = message.get(..usize::from(ip.total_len) - ip.header_len())?;
    if ip.protocol != IpNumber::ICMP || !matches!(message.first(), Some(3)) {
        return None;
    }
    assert_eq!(ip.header_checksum, ip.calc_header_checksum());
    let (icmp, quoted) = Icmpv4Header::from_slice(message).ok()?;
    assert_eq!(icmp.checksum, Icmpv4Header::with_checksum(icmp.icmp_type.clone(), quoted).checksum);
    let (inner, udp) = Ipv4Header::from_slice(quoted).ok()?;
    assert_eq!(inner.header_checksum, inner.calc_header_checksum(), "the quoted header");
    let half = |at: usize| u16::from_be_bytes([udp[at], udp[at + 1]]);
    if usize::from(inner.total_len) == quoted.len() {
        let header = etherparse::UdpHeader::from_slice(udp).expect("a UDP header is quoted").0;
        let sum = header.calc_checksum_ipv4_raw(inner.source, inner.destination, &udp[8..]).expect("it is short");
        assert_eq!(header.checksum, sum, "the quoted datagram's");
    }
    let port = |address: [u8; 4], port| if address == [192, 0, 2, 230] { 0 } else { port };
    Some(Told {
        by: ip.source.into(),
        to: ip.destination.into(),
        ttl: ip.time_to_live,
        tos: frame[15],
        kind: [message[0], message[1]],
        rest: [message[4], message[5], message[6], message[7]],
        about: (
            inner.source.into(),
            port(inner.source, half(0)),
            inner.destination.into(),
            port(inner.destination, half(2)),
        ),
        quoted_ttl: inner.time_to_live,
        quoted_length: inner.total_len,
        length: [udp[4], udp[5]],
        data: udp[8..].to_vec(),
    })
}

/// What levee does in a mode.
fn levee(path: &Path, mode: Mode) -> Dataplane {
    let take = if mode == Mode::Dnat { Take::All } else { Take::Owned };
    let dataplane = Dataplane::start(&path.balancer.namespace, Ports::Balancer(take));
    dataplane.program(&Program {
        generation: 1,
        vips: vec![Vip { address: VIP.into(), announce: true }],
        services: vec![Service {
            name: "default/late:main".into(),
            protocol: Protocol::Udp,
            family: Family::Ipv4,
            frontends: vec![Frontend {
                address: VIP.into(),
                port: PORT,
                from: Side::Any,
                mode,
                pool: Pool::Cluster,
                when_empty: WhenEmpty::Reject,
                last_port: None,
                source_ranges: Vec::new(),
            }],
            backends: vec![Backend { address: BACKEND.into(), port: PORT, pools: vec![Pool::Cluster], via: None }],
            affinity: None,
            quic: Vec::new(),
            flows: Default::default(),
        }],
        ..Program::default()
    });
    dataplane
}

/// The same by the kernel.
fn linux(path: &Path, mode: Mode) {
    let router = &path.balancer.namespace;
    router.sysctl("net.ipv4.ip_forward", "1");
    router.sysctl("net.ipv4.conf.all.send_redirects", "0");
    router.sysctl("net.ipv4.conf.eth0.send_redirects", "0");
    router.ip(&format!("addr add {VIP}/32 dev eth0"));
    let mut rules = format!(
        "add table ip nat
         add chain ip nat before {{ type nat hook prerouting priority dstnat ; }}
         add rule ip nat before ip daddr {VIP} udp dport {PORT} dnat to {BACKEND}:{PORT}\n"
    );
    if mode == Mode::Nat {
        rules += &format!(
            "add chain ip nat after {{ type nat hook postrouting priority srcnat ; }}
             add rule ip nat after ip daddr {BACKEND} udp dport {PORT} snat to {}:61000-65535\n",
            path.balancer.address
        );
    }
    let file = router.directory().join("nat.nft");
    std::fs::write(&file, rules).expect("the lab's directory can be written");
    router.run(&format!("nft -f {}", file.display()));
}

fn socket(namespace: &Namespace, at: (Ipv4Addr, u16)) -> UdpSocket {
    let socket = namespace.enter(|| UdpSocket::bind(at).expect("the port is free"));
    socket.set_read_timeout(Some(Duration::from_secs(2))).expect("it is a duration");
    socket
}

/// Makes errors of each kind on either side, and gives those that client and backend got, in this order: a closed port of the
/// backend; a client that is gone; a packet too big for the client's side; one too big for the backend's.
fn errors(path: &Path) -> Vec<Told> {
    let vip = SocketAddr::from((VIP, PORT));
    let tap = path.fabric.tap();
    let mut errors = Vec::new();
    let mut heard = |what: &str, towards: &str, to: Ipv4Addr| {
        let end = Instant::now() + Duration::from_secs(3);
        loop {
            let frames = tap.frames();
            let found = frames.iter().filter(|f| f.direction == Direction::Out && *f.interface == *towards);
            if let Some(told) = found.filter_map(|frame| told(&frame.bytes)).find(|told| told.to == to) {
                tap.clear();
                errors.push(told);
                return;
            }
            assert!(Instant::now() < end, "{what}: nothing came to {to}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let client = socket(&path.client, (CLIENT, FROM));
    client.send_to(b"anybody?", vip).expect("it can be sent");
    heard("a closed port", "inner", CLIENT);

    let server = socket(&path.backend, (BACKEND, PORT));
    client.send_to(b"and off", vip).expect("it can be sent");
    let (_, asked_by) = server.recv_from(&mut [0; 2000]).expect("the question comes");
    drop(client);
    server.send_to(b"too late", asked_by).expect("it can be sent");
    heard("a client that is gone", "before", BACKEND);

    let client = socket(&path.client, (CLIENT, FROM));
    path.narrow(1300, 1500);
    client.send_to(b"much?", vip).expect("it can be sent");
    let (_, asked_by) = server.recv_from(&mut [0; 2000]).expect("the question comes");
    server.send_to(&[7; 1400], asked_by).expect("it can be sent");
    heard("too big for the client's side", "before", BACKEND);

    path.narrow(1500, 1300);
    client.send_to(&[8; 1400], vip).expect("it can be sent");
    heard("too big for the backend's side", "inner", CLIENT);
    errors
}

#[test]
fn errors_are_translated_as_the_kernels_nat_translates_them() {
    for mode in [Mode::Nat, Mode::Dnat] {
        let Some(path) = Path::start(1) else { return };
        if path.client.try_run("nft --version").status.code() != Some(0) {
            eprintln!("SKIPPED: `nft` is missing: apt-get install nftables");
            return;
        }
        let by_levee = {
            let _dataplane = levee(&path, mode);
            errors(&path)
        };
        drop(path);
        let path = Path::start(1).expect("there was one");
        linux(&path, mode);
        let by_linux = errors(&path);
        assert_eq!(by_levee.len(), 4);
        for (levee, linux) in by_levee.iter().zip(&by_linux) {
            assert_eq!(levee, linux, "{mode}: levee on the left, Linux on the right");
        }
    }
}
