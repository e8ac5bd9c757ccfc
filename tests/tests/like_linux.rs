//! ICMP errors beside Linux: the same packets on the same path, once through levee and once through the kernel's own NAT with
//! nftables in its place. What the client and the backend get is the same, field by field.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use etherparse::checksum::Sum16BitWords;
use etherparse::{Icmpv4Header, IpNumber, Ipv4Header, Ipv6Header};
use levee_api::net::{Family, Protocol};
use levee_api::program::Mode;
use levee_tests::dual::{of, v6};
use levee_tests::path::balanced::Balanced;
use levee_tests::path::{BACKEND, CLIENT, Path, VIP, kernel};
use levee_tests::{Direction, Namespace};

/// The Service's port, which nobody serves at first.
const PORT: u16 = 9;
/// The client's.
const FROM: u16 = 40_009;

/// What stands in an ICMP error, but for what each stack chooses for itself: identifications, and the SNAT port.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    by: IpAddr,
    to: IpAddr,
    ttl: u8,
    tos: u8,
    kind: [u8; 2],
    rest: [u8; 4],
    about: (IpAddr, u16, IpAddr, u16),
    quoted_ttl: u8,
    quoted_length: u16,
    /// Behind the quoted ports: UDP's length, and its data.
    length: [u8; 2],
    data: Vec<u8>,
}

/// Reads one, and sums all its checksums up. The port of a SNAT address is told as 0.
fn told(frame: &[u8]) -> Option<Told> {
    match frame.get(12..14)? {
        [0x08, 0x00] => told_v4(frame),
        [0x86, 0xdd] => told_v6(frame),
        _ => None,
    }
}

/// A port, unless it is a balancer's choice.
fn chosen(address: IpAddr, port: u16) -> u16 {
    let balancer = Ipv4Addr::new(192, 0, 2, 230);
    if [balancer.into(), v6(balancer).into()].contains(&address) { 0 } else { port }
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn told_v4(frame: &[u8]) -> Option<Told> {
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
    if usize::from(inner.total_len) == quoted.len() {
        let header = etherparse::UdpHeader::from_slice(udp).expect("a UDP header is quoted").0;
        let sum = header.calc_checksum_ipv4_raw(inner.source, inner.destination, &udp[8..]).expect("it is short");
        assert_eq!(header.checksum, sum, "the quoted datagram's");
    }
    let (source, destination) = (IpAddr::from(inner.source), IpAddr::from(inner.destination));
    Some(Told {
        by: ip.source.into(),
        to: ip.destination.into(),
        ttl: ip.time_to_live,
        tos: frame[15],
        kind: [message[0], message[1]],
        rest: [message[4], message[5], message[6], message[7]],
        about: (source, chosen(source, half(udp, 0)), destination, chosen(destination, half(udp, 2))),
        quoted_ttl: inner.time_to_live,
        quoted_length: inner.total_len,
        length: [udp[4], udp[5]],
        data: udp[8..].to_vec(),
    })
}

fn told_v6(frame: &[u8]) -> Option<Told> {
    let (ip, message) = Ipv6Header::from_slice(frame.get(14..)?).ok()?;
    let message = message.get(..usize::from(ip.payload_length))?;
    if ip.next_header != IpNumber::IPV6_ICMP || !matches!(message.first(), Some(1 | 2)) {
        return None;
    }
    let mut sum = Sum16BitWords::new().add_16bytes(ip.source).add_16bytes(ip.destination);
    let sum = sum.add_4bytes((message.len() as u32).to_be_bytes()).add_4bytes([0, 0, 0, 58]).add_slice(message);
    assert_eq!(sum.ones_complement(), 0);
    let (inner, udp) = Ipv6Header::from_slice(message.get(8..)?).ok()?;
    assert_eq!(inner.next_header, IpNumber::UDP);
    if usize::from(inner.payload_length) == udp.len() {
        let header = etherparse::UdpHeader::from_slice(udp).expect("a UDP header is quoted").0;
        let sum = header.calc_checksum_ipv6_raw(inner.source, inner.destination, &udp[8..]).expect("it is short");
        assert_eq!(header.checksum, sum, "the quoted datagram's");
    }
    let (source, destination) = (IpAddr::from(inner.source), IpAddr::from(inner.destination));
    Some(Told {
        by: ip.source.into(),
        to: ip.destination.into(),
        ttl: ip.hop_limit,
        tos: ip.traffic_class,
        kind: [message[0], message[1]],
        rest: [message[4], message[5], message[6], message[7]],
        about: (source, chosen(source, half(udp, 0)), destination, chosen(destination, half(udp, 2))),
        quoted_ttl: inner.hop_limit,
        quoted_length: inner.payload_length,
        length: [udp[4], udp[5]],
        data: udp[8..].to_vec(),
    })
}

fn socket(namespace: &Namespace, at: (IpAddr, u16)) -> UdpSocket {
    let socket = namespace.enter(|| UdpSocket::bind(at).expect("the port is free"));
    socket.set_read_timeout(Some(Duration::from_secs(2))).expect("it is a duration");
    socket
}

/// Makes errors of each kind on either side, and gives those that client and backend got, in this order: a closed port of the
/// backend; a client that is gone; a packet too big for the client's side; one too big for the backend's.
fn errors(path: &Path, family: Family) -> Vec<Told> {
    let (vip, client_address, backend_address) =
        (SocketAddr::new(of(family, VIP), PORT), of(family, CLIENT), of(family, BACKEND));
    let tap = path.fabric.tap();
    let mut errors = Vec::new();
    let mut heard = |what: &str, towards: &str, to: IpAddr| {
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
    let client = socket(&path.client, (client_address, FROM));
    client.send_to(b"anybody?", vip).expect("it can be sent");
    heard("a closed port", "inner", client_address);

    let server = socket(&path.backend, (backend_address, PORT));
    client.send_to(b"and off", vip).expect("it can be sent");
    let (_, asked_by) = server.recv_from(&mut [0; 2000]).expect("the question comes");
    drop(client);
    server.send_to(b"too late", asked_by).expect("it can be sent");
    heard("a client that is gone", "before", backend_address);

    let client = socket(&path.client, (client_address, FROM));
    path.narrow(1300, 1500);
    client.send_to(b"much?", vip).expect("it can be sent");
    let (_, asked_by) = server.recv_from(&mut [0; 2000]).expect("the question comes");
    server.send_to(&[7; 1400], asked_by).expect("it can be sent");
    heard("too big for the client's side", "before", backend_address);

    path.narrow(1500, 1300);
    client.send_to(&[8; 1400], vip).expect("it can be sent");
    heard("too big for the backend's side", "inner", client_address);
    errors
}

#[test]
fn errors_are_translated_as_the_kernels_nat_translates_them() {
    let both = [Family::Ipv4, Family::Ipv6];
    for (mode, family) in [Mode::Nat, Mode::Dnat].into_iter().flat_map(|mode| both.map(|family| (mode, family))) {
        let Some(path) = Path::start(1) else { return };
        if !kernel::can_be_asked(&path) {
            return;
        }
        let by_levee = {
            let _dataplane = Balanced { mode, family, protocol: Protocol::Udp, ports: (PORT, PORT) }.start(&path);
            errors(&path, family)
        };
        drop(path);
        let path = Path::start(1).expect("there was one");
        kernel::nat(&path, mode, family, PORT);
        let by_linux = errors(&path, family);
        assert_eq!(by_levee.len(), 4);
        for (levee, linux) in by_levee.iter().zip(&by_linux) {
            assert_eq!(levee, linux, "{mode}, {family:?}: levee on the left, Linux on the right");
        }
    }
}
