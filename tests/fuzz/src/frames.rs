//! Frames from named parts, and what may be done to them. Most are right in every field, so that they come far; then bytes
//! are changed, ends cut off, and lengths made to lie.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::OnceLock;

use arbitrary::{Result, Unstructured};
use etherparse::{
    ArpEthIpv4Packet, ArpOperation, Icmpv6Header, Icmpv6Type, IpNumber, Ipv4Header, Ipv6Header, TcpHeader, UdpHeader,
};
use levee_api::net::Mac;
use levee_dataplane::headers::{Headers, Ip, Network, Transport, tcp_flags};
use levee_dataplane::parse::parse;

use crate::cast::{ADDRESSES, MACS, NODE, PEER, PORTS, QUIC, RANGE, WHOLE, twin};
use crate::connection;
use crate::script::Edition;
use crate::sctp;

const FLAGS: [u8; 8] = [
    tcp_flags::SYN,
    tcp_flags::ACK,
    tcp_flags::PSH | tcp_flags::ACK,
    tcp_flags::FIN | tcp_flags::ACK,
    tcp_flags::RST,
    tcp_flags::RST | tcp_flags::ACK,
    tcp_flags::SYN | tcp_flags::ACK,
    0,
];

/// What everybody speaks.
#[derive(Debug, Clone, Copy)]
pub struct Tongue {
    /// IPv6, and Neighbour Discovery in place of ARP.
    pub six: bool,
    /// Between the ends of tunnels, the other one.
    pub crossed: bool,
}

/// The link layer of a frame.
#[derive(Debug, Clone)]
struct Link {
    destination: Mac,
    source: Mac,
    /// TPID and tag control information, outer first.
    tags: Vec<(u16, u16)>,
}

/// An IPv4 packet in parts.
#[derive(Debug, Clone)]
struct Packet {
    source: [u8; 4],
    destination: [u8; 4],
    ttl: u8,
    options: bool,
    /// In units of 8 bytes.
    offset: u16,
    more: bool,
    /// Of a fragment of IPv6: whether what was cut begins with destination options, or is said to.
    optional: bool,
    transport: Part,
    /// What the payload begins with.
    head: Vec<u8>,
    payload: usize,
}

#[derive(Debug, Clone, Copy)]
enum Part {
    Tcp { source: u16, destination: u16, flags: u8 },
    Udp { source: u16, destination: u16, sum: bool },
    Icmp { kind: u8, code: u8 },
    Sctp { source: u16, destination: u16 },
    Other { protocol: u8, source: u16, destination: u16 },
}

/// Any frame; `to` is the MAC of the port that it arrives at.
pub fn draw(source: &mut Unstructured<'_>, to: Mac, tongue: Tongue, edition: Edition) -> Result<Vec<u8>> {
    let six = tongue.six;
    let mut frame = match source.int_in_range(0..=15u8)? {
        0 => {
            let length = source.int_in_range(0..=80)?;
            return Ok(source.bytes(length.min(source.len()))?.to_vec());
        }
        1 | 2 => source.choose(fixtures())?.clone(),
        3..=5 if six => {
            let link = link(source, to)?;
            let message = discovery(source, link.source)?;
            link.frame(0x86dd, &message)
        }
        3..=5 => {
            let link = link(source, to)?;
            link.frame(0x0806, &arp(source, link.source)?)
        }
        6 => link(source, to)?.frame(*source.choose(&[0x86dd, 0x88cc, 0x8906, 0x0026])?, &[0; 46]),
        _ => {
            let link = link(source, to)?;
            let packet = packet(source, edition, six)?;
            let packet = if six { packet.six() } else { packet.bytes() };
            if edition >= Edition::Third && source.ratio(1, 4)? {
                let outer = six != tongue.crossed;
                let wrapped = wrapped(source, &packet, six, outer)?;
                link.frame(if outer { 0x86dd } else { 0x0800 }, &wrapped)
            } else {
                link.frame(if six { 0x86dd } else { 0x0800 }, &packet)
            }
        }
    };
    if source.ratio(1, 6)? {
        damage(source, &mut frame)?;
    }
    Ok(frame)
}

/// What the other node wraps: mostly an IP packet to this node, as the standards of tunnels have it.
fn wrapped(source: &mut Unstructured<'_>, inner: &[u8], six: bool, outer: bool) -> Result<Vec<u8>> {
    let (ethertype, protocol): (u16, u8) = if six { (0x86dd, 41) } else { (0x0800, 4) };
    let network = if source.ratio(7, 8)? { 1 } else { source.arbitrary()? };
    let bridged = [&[2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8][..], &ethertype.to_be_bytes(), inner].concat();
    let (port, payload) = match source.int_in_range(0..=5u8)? {
        0 | 1 => (4789, [&[8, 0, 0, 0, 0, 0, network, 0][..], &bridged].concat()),
        2 if source.ratio(1, 4)? => (6081, [&[1, 0, 0x65, 0x58, 0, 0, network, 0, 1, 2, 3, 4][..], &bridged].concat()),
        2 => (6081, [&[0, 0, 0x65, 0x58, 0, 0, network, 0][..], &bridged].concat()),
        3 if source.ratio(1, 4)? => (6080, inner.to_vec()),
        3 => (6080, [&[0, protocol, 0, 0][..], inner].concat()),
        _ => (0, inner.to_vec()),
    };
    let from = if source.ratio(7, 8)? { PEER.octets() } else { address(source)? };
    let to = if source.ratio(7, 8)? { NODE.octets() } else { address(source)? };
    let (from6, to6) = (twin(from.into()).octets(), twin(to.into()).octets());
    let (protocol, datagram) = if port == 0 {
        (protocol, payload)
    } else {
        let length = (UdpHeader::LEN + payload.len()) as u16;
        let mut header = UdpHeader { source_port: 0xc123, destination_port: port, length, checksum: 0 };
        if source.arbitrary()? {
            let sum = if outer {
                header.calc_checksum_ipv6_raw(from6, to6, &payload)
            } else {
                header.calc_checksum_ipv4_raw(from, to, &payload)
            };
            header.checksum = sum.unwrap_or_default();
        }
        (17, [&header.to_bytes()[..], &payload].concat())
    };
    if outer {
        return Ok(header_six(IpNumber(protocol), ttl(source)?, from6, to6, &datagram));
    }
    let Ok(mut header) = Ipv4Header::new(datagram.len() as u16, ttl(source)?, IpNumber(protocol), from, to) else {
        return Ok(Vec::new());
    };
    header.ecn = etherparse::IpEcn::try_new(source.int_in_range(0..=3)?).unwrap_or_default();
    header.header_checksum = header.calc_header_checksum();
    Ok([&header.to_bytes()[..], &datagram].concat())
}

/// What somebody on the way says about `sent`, which he could not send on: mostly as RFC 792 and RFC 4443 have it.
pub fn complaint(source: &mut Unstructured<'_>, sent: &[u8], edition: Edition) -> Result<Option<Vec<u8>>> {
    let Ok(headers) = parse(sent) else { return Ok(None) };
    let Network::Ip(ip) = headers.network else { return Ok(None) };
    if !ip.source.is_v4() {
        return if edition >= Edition::Third { complaint_six(source, sent, &headers, &ip) } else { Ok(None) };
    }
    let tags = (0..usize::from(headers.vlans.count)).map(|index| (0x8100, headers.vlans.tci[index])).collect();
    let link = Link { destination: headers.source, source: headers.destination, tags };
    let quoted = sent.get(usize::from(headers.l3)..usize::from(ip.end)).unwrap_or_default();
    let cut = if source.ratio(7, 8)? { *source.choose(&[28, 36, 40, 548])? } else { source.int_in_range(0..=60)? };
    let quoted = quoted.get(..cut.min(quoted.len())).unwrap_or_default();
    let mtu = *source.choose(&[1300u16, 1300, 552, 551, 0, 9000])?;
    let (kind, code) = *source.choose(&[(3u8, 4u8), (3, 4), (3, 3), (11, 0), (12, 0), (4, 0), (5, 1)])?;
    let mut message = [&[kind, code, 0, 0, 0, 0][..], &mtu.to_be_bytes(), quoted].concat();
    let sum = etherparse::checksum::Sum16BitWords::new().add_slice(&message).ones_complement().to_be();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let to = if source.ratio(7, 8)? { octets(ip.source) } else { address(source)? };
    let Ok(mut header) = Ipv4Header::new(message.len() as u16, ttl(source)?, IpNumber::ICMP, address(source)?, to)
    else {
        return Ok(None);
    };
    header.header_checksum = header.calc_header_checksum();
    let mut frame = link.frame(0x0800, &[&header.to_bytes()[..], &message].concat());
    if source.ratio(1, 8)? {
        damage(source, &mut frame)?;
    }
    Ok(Some(frame))
}

/// The same of IPv6.
fn complaint_six(source: &mut Unstructured<'_>, sent: &[u8], headers: &Headers, ip: &Ip) -> Result<Option<Vec<u8>>> {
    let link = Link { destination: headers.source, source: headers.destination, tags: Vec::new() };
    let quoted = sent.get(usize::from(headers.l3)..usize::from(ip.end)).unwrap_or_default();
    let cut = if source.ratio(7, 8)? { *source.choose(&[48, 56, 80, 1192])? } else { source.int_in_range(0..=80)? };
    let quoted = quoted.get(..cut.min(quoted.len())).unwrap_or_default();
    let mtu = *source.choose(&[1300u32, 1300, 1280, 1279, 0, 70_000])?;
    let (type_u8, code_u8) = *source.choose(&[(2u8, 0u8), (2, 0), (1, 4), (3, 0), (4, 0), (137, 0)])?;
    let kind = Icmpv6Type::Unknown { type_u8, code_u8, bytes5to8: mtu.to_be_bytes() };
    let to = if source.ratio(7, 8)? { ip.source.bits().to_be_bytes() } else { twin(address(source)?.into()).octets() };
    let from = twin(address(source)?.into()).octets();
    let Ok(header) = Icmpv6Header::with_checksum(kind, from, to, quoted) else { return Ok(None) };
    let message = [header.to_bytes().as_slice(), quoted].concat();
    let mut frame = link.frame(0x86dd, &header_six(IpNumber::IPV6_ICMP, ttl(source)?, from, to, &message));
    if source.ratio(1, 8)? {
        damage(source, &mut frame)?;
    }
    Ok(Some(frame))
}

/// The frame that somebody who got `sent` would answer with, if it is one that is answered.
pub fn answer(source: &mut Unstructured<'_>, sent: &[u8], edition: Edition) -> Result<Option<Vec<u8>>> {
    if edition >= Edition::Second && source.ratio(1, 6)? {
        return complaint(source, sent, edition);
    }
    let Ok(headers) = parse(sent) else { return Ok(None) };
    let tags = (0..usize::from(headers.vlans.count)).map(|index| (0x8100, headers.vlans.tci[index])).collect();
    let link = Link { destination: headers.source, source: headers.destination, tags };
    Ok(match headers.network {
        Network::Arp(arp) => Some(
            link.frame(
                0x0806,
                &ArpEthIpv4Packet {
                    operation: ArpOperation::REPLY,
                    sender_mac: link.source.0,
                    sender_ipv4: octets(arp.target),
                    target_mac: arp.sender_mac.0,
                    target_ipv4: octets(arp.sender),
                }
                .to_bytes(),
            ),
        ),
        Network::Discovery(asked) => {
            let octets = |address: levee_dataplane::address::Address| address.bits().to_be_bytes();
            let body = [&octets(asked.target)[..], &[2, 1], &link.source.0].concat();
            let message =
                Discovery { kind: 136, flags: 0x60, from: octets(asked.target), to: octets(asked.source), hops: 255 };
            Some(link.frame(0x86dd, &message.bytes(&body)))
        }
        Network::Ip(ip) => {
            let transport = match ip.transport {
                Transport::Tcp(tcp) => Part::Tcp {
                    source: tcp.ports.destination,
                    destination: tcp.ports.source,
                    flags: if tcp.opens() { tcp_flags::SYN | tcp_flags::ACK } else { *source.choose(&FLAGS)? },
                },
                Transport::Udp(udp) => {
                    Part::Udp { source: udp.ports.destination, destination: udp.ports.source, sum: source.ratio(3, 4)? }
                }
                Transport::Sctp(ports) if edition >= Edition::Fourth => {
                    Part::Sctp { source: ports.destination, destination: ports.source }
                }
                Transport::Other if edition >= Edition::Fourth => {
                    Part::Other { protocol: ip.protocol, source: source.arbitrary()?, destination: 0 }
                }
                _ => Part::Icmp { kind: 0, code: 0 },
            };
            let packet = Packet {
                source: octets(ip.destination),
                destination: octets(ip.source),
                ttl: ttl(source)?,
                options: source.ratio(1, 16)?,
                offset: 0,
                more: source.ratio(1, 16)?,
                optional: false,
                transport,
                head: Vec::new(),
                payload: source.int_in_range(0..=40)?,
            };
            let six = |address: levee_dataplane::address::Address| address.bits().to_be_bytes();
            Some(if ip.source.is_v4() {
                link.frame(0x0800, &packet.bytes())
            } else {
                link.frame(0x86dd, &packet.six_between(six(ip.destination), six(ip.source)))
            })
        }
        _ => None,
    })
}

fn octets(address: levee_dataplane::address::Address) -> [u8; 4] {
    address.to_v4().map_or([0; 4], |address| address.octets())
}

fn address(source: &mut Unstructured<'_>) -> Result<[u8; 4]> {
    // The first six are who most stories are about.
    let known = match source.int_in_range(0..=3u8)? {
        0 | 1 => &ADDRESSES[..6],
        _ => &ADDRESSES[..],
    };
    Ok(source.choose(known)?.octets())
}

fn port(source: &mut Unstructured<'_>) -> Result<u16> {
    let known = if source.arbitrary()? { &PORTS[..4] } else { &PORTS[..] };
    Ok(*source.choose(known)?)
}

fn ttl(source: &mut Unstructured<'_>) -> Result<u8> {
    Ok(*source.choose(&[64, 64, 64, 64, 64, 2, 1, 0])?)
}

fn link(source: &mut Unstructured<'_>, to: Mac) -> Result<Link> {
    let destination = if source.ratio(3, 4)? { to } else { *source.choose(&MACS)? };
    let sender = if source.ratio(3, 4)? { MACS[0] } else { *source.choose(&MACS)? };
    let mut tags = Vec::new();
    if source.ratio(1, 8)? {
        for _ in 0..source.int_in_range(1..=3)? {
            tags.push((*source.choose(&[0x8100, 0x88a8])?, source.arbitrary()?));
        }
    }
    Ok(Link { destination, source: sender, tags })
}

fn arp(source: &mut Unstructured<'_>, sender: Mac) -> Result<[u8; 28]> {
    let sender_mac = if source.ratio(3, 4)? { sender } else { *source.choose(&MACS)? };
    let packet = ArpEthIpv4Packet {
        operation: ArpOperation(*source.choose(&[1, 1, 1, 2, 3])?),
        sender_mac: sender_mac.0,
        sender_ipv4: address(source)?,
        target_mac: source.choose(&MACS)?.0,
        target_ipv4: address(source)?,
    };
    Ok(packet.to_bytes())
}

/// Protocols that levee reads no ports of, and SCTP. (4 and 41 are what tunnels are, too.)
const OTHERS: [u8; 10] = [50, 132, 47, 51, 4, 41, 132, 136, 33, 253];

/// To a service whose clients choose the port, if they have any, or to the one of QUIC.
fn chosen(source: &mut Unstructured<'_>, six: bool) -> Result<Packet> {
    let from = address(source)?;
    let (source_port, destination) = (port(source)?, port(source)?);
    let whole = |source: &mut Unstructured<'_>| Ok(if source.arbitrary()? { WHOLE } else { ADDRESSES[5] });
    let other = |protocol| match protocol {
        132 => Part::Sctp { source: source_port, destination },
        _ => Part::Other { protocol, source: source_port, destination },
    };
    let udp = |destination| Part::Udp { source: source_port, destination, sum: true };
    let tcp = |flags| Part::Tcp { source: source_port, destination, flags };
    let (to, transport, head) = match source.int_in_range(0..=7u8)? {
        0 | 1 => (whole(source)?, other(*source.choose(&OTHERS)?), Vec::new()),
        2 if source.arbitrary()? => (whole(source)?, udp(destination), Vec::new()),
        2 => (whole(source)?, tcp(*source.choose(&FLAGS)?), Vec::new()),
        3 | 4 => (RANGE.0, udp(destination), Vec::new()),
        5 => (QUIC.0, tcp(*source.choose(&FLAGS)?), Vec::new()),
        _ => (QUIC.0, udp(QUIC.1), connection::datagram(source, six)?),
    };
    Ok(Packet {
        source: from,
        destination: to.octets(),
        ttl: ttl(source)?,
        options: source.ratio(1, 32)?,
        offset: 0,
        more: source.ratio(1, 32)?,
        optional: false,
        transport,
        head,
        payload: if source.ratio(1, 16)? { 1440 } else { source.int_in_range(0..=40)? },
    })
}

fn packet(source: &mut Unstructured<'_>, edition: Edition, six: bool) -> Result<Packet> {
    if edition >= Edition::Fourth && source.arbitrary()? {
        return chosen(source, six);
    }
    let (from, to) = (address(source)?, address(source)?);
    let (source_port, destination) = (port(source)?, port(source)?);
    let transport = match source.int_in_range(0..=9u8)? {
        0..=4 => {
            let flags = if source.ratio(7, 8)? { *source.choose(&FLAGS)? } else { source.arbitrary()? };
            Part::Tcp { source: source_port, destination, flags }
        }
        5 | 6 => Part::Udp { source: source_port, destination, sum: source.ratio(3, 4)? },
        7 | 8 => Part::Icmp { kind: *source.choose(&[8, 0, 3, 11, 13])?, code: *source.choose(&[0, 0, 0, 1, 3])? },
        _ => Part::Other { protocol: *source.choose(&[132, 47, 1, 6, 17])?, source: source_port, destination },
    };
    let second = edition >= Edition::Second;
    let fragmented = source.ratio(1, if second { 6 } else { 12 })?;
    Ok(Packet {
        source: from,
        destination: to,
        ttl: ttl(source)?,
        options: source.ratio(1, 16)?,
        offset: if fragmented {
            *source.choose(if second { &[0, 0, 1, 6, 12, 185] } else { &[0, 0, 1, 8, 185] })?
        } else {
            0
        },
        more: fragmented && source.arbitrary()?,
        optional: edition >= Edition::Fifth && fragmented && source.arbitrary()?,
        transport,
        head: Vec::new(),
        payload: match source.int_in_range(0..=7u8)? {
            // Of UDP, with its header, as long as a fragment may be that is not the last.
            _ if fragmented && second && source.ratio(3, 4)? => 40,
            0 => 1440,
            1 => source.int_in_range(0..=1500)?,
            _ => source.int_in_range(0..=40)?,
        },
    })
}

/// A message of Neighbour Discovery with its IPv6 header.
struct Discovery {
    kind: u8,
    flags: u8,
    from: [u8; 16],
    to: [u8; 16],
    hops: u8,
}

impl Discovery {
    fn bytes(&self, body: &[u8]) -> Vec<u8> {
        let kind = Icmpv6Type::Unknown { type_u8: self.kind, code_u8: 0, bytes5to8: [self.flags, 0, 0, 0] };
        let header = Icmpv6Header::with_checksum(kind, self.from, self.to, body).expect("it is short");
        let message = [header.to_bytes().as_slice(), body].concat();
        header_six(IpNumber::IPV6_ICMP, self.hops, self.from, self.to, &message)
    }
}

fn discovery(source: &mut Unstructured<'_>, sender: Mac) -> Result<Vec<u8>> {
    let mac = if source.ratio(3, 4)? { sender } else { *source.choose(&MACS)? };
    let kind = *source.choose(&[135, 135, 135, 136, 134])?;
    let kind = if kind == 134 { *source.choose(&[133, 134, 137])? } else { kind };
    let (from, target) = (twin(address(source)?.into()), twin(address(source)?.into()).octets());
    let [.., a, b, c] = target;
    let groups = [[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c], twin(Ipv4Addr::BROADCAST).octets(), target];
    let mut body = match kind {
        133 => Vec::new(),
        134 => vec![0; 8],
        137 => [target, from.octets()].concat(),
        _ => target.to_vec(),
    };
    if !(kind == 135 && from.is_unspecified()) || source.ratio(1, 8)? {
        let length = if source.ratio(1, 8)? { source.arbitrary()? } else { 1 };
        body.extend([if kind >= 136 { 2 } else { 1 }, length]);
        body.extend(mac.0);
    }
    let hops = if source.ratio(1, 8)? { source.arbitrary()? } else { 255 };
    let flags = *source.choose(&[0, 0x20, 0x60, 0xe0])?;
    Ok(Discovery { kind, flags, from: from.octets(), to: *source.choose(&groups)?, hops }.bytes(&body))
}

fn header_six(
    next_header: IpNumber,
    hop_limit: u8,
    source: [u8; 16],
    destination: [u8; 16],
    payload: &[u8],
) -> Vec<u8> {
    let payload_length = payload.len() as u16;
    let header = Ipv6Header { payload_length, next_header, hop_limit, source, destination, ..Ipv6Header::default() };
    [&header.to_bytes()[..], payload].concat()
}

fn tcp(source: u16, destination: u16, flags: u8) -> TcpHeader {
    let mut header = TcpHeader::new(source, destination, 0x0102_0304, 65000);
    header.acknowledgment_number = 77;
    let flag = |flag| flags & flag != 0;
    (header.fin, header.syn, header.rst) = (flag(tcp_flags::FIN), flag(tcp_flags::SYN), flag(tcp_flags::RST));
    (header.psh, header.ack, header.urg) = (flag(tcp_flags::PSH), flag(tcp_flags::ACK), flag(0x20));
    header
}

/// A packet of SCTP (RFC 9260, 3.1), which is right but for its chunks.
fn sctp(source: u16, destination: u16, chunks: &[u8]) -> Vec<u8> {
    let mut packet = [&source.to_be_bytes()[..], &destination.to_be_bytes(), &[1, 2, 3, 4], &[0; 4], chunks].concat();
    sctp::seal(&mut packet);
    packet
}

/// What a wire, or somebody with bad intentions, does to a frame.
fn damage(source: &mut Unstructured<'_>, frame: &mut Vec<u8>) -> Result<()> {
    for _ in 0..source.int_in_range(0..=3)? {
        // Mostly among the headers.
        let end = if source.ratio(7, 8)? { frame.len().min(64) } else { frame.len() };
        let Some(last) = end.checked_sub(1) else { break };
        let at = source.int_in_range(0..=last)?;
        frame[at] = source.arbitrary()?;
    }
    if source.ratio(1, 3)? {
        let length = source.int_in_range(0..=frame.len())?;
        frame.truncate(length);
    }
    if source.ratio(1, 4)? {
        frame.resize(frame.len().max(60), 0xa5);
    }
    Ok(())
}

impl Link {
    fn frame(&self, ethertype: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = [self.destination.0, self.source.0].concat();
        for (tpid, tci) in &self.tags {
            frame.extend(tpid.to_be_bytes());
            frame.extend(tci.to_be_bytes());
        }
        frame.extend(ethertype.to_be_bytes());
        frame.extend(payload);
        frame
    }
}

impl Packet {
    fn payload(&self) -> Vec<u8> {
        let rest = (0..self.payload).map(|index| (index * 7 + 3) as u8);
        self.head.iter().copied().chain(rest).collect()
    }

    /// The same packet between twins.
    fn six(&self) -> Vec<u8> {
        self.six_between(twin(self.source.into()).octets(), twin(self.destination.into()).octets())
    }

    fn six_between(&self, from: [u8; 16], to: [u8; 16]) -> Vec<u8> {
        let payload = self.payload();
        let (next, mut rest) = match self.transport {
            Part::Tcp { source, destination, flags } => {
                let mut header = tcp(source, destination, flags);
                header.checksum = header.calc_checksum_ipv6_raw(from, to, &payload).unwrap_or_default();
                (IpNumber::TCP, [&header.to_bytes()[..], &payload].concat())
            }
            Part::Udp { source, destination, sum } => {
                let length = (UdpHeader::LEN + payload.len()) as u16;
                let mut header = UdpHeader { source_port: source, destination_port: destination, length, checksum: 0 };
                if sum {
                    header.checksum = header.calc_checksum_ipv6_raw(from, to, &payload).unwrap_or_default();
                }
                (IpNumber::UDP, [&header.to_bytes()[..], &payload].concat())
            }
            Part::Icmp { kind, code } => {
                // The same messages under the numbers of ICMPv6 (RFC 4443).
                let kind = match kind {
                    8 => 128,
                    0 => 129,
                    3 => 1,
                    11 => 3,
                    _ => 2,
                };
                let kind = Icmpv6Type::Unknown { type_u8: kind, code_u8: code, bytes5to8: [0x12, 0x34, 0, 1] };
                let header = Icmpv6Header::with_checksum(kind, from, to, &payload).expect("it is short");
                (IpNumber::IPV6_ICMP, [header.to_bytes().as_slice(), &payload].concat())
            }
            Part::Sctp { source, destination } => (IpNumber::SCTP, sctp(source, destination, &payload)),
            Part::Other { protocol, source, destination } => {
                let ports = [source.to_be_bytes(), destination.to_be_bytes()].concat();
                (IpNumber(protocol), [&ports[..], &payload].concat())
            }
        };
        let mut next = next.0;
        if self.optional {
            if self.offset == 0 {
                rest = [&[next, 0, 1, 4, 0, 0, 0, 0][..], &rest].concat();
            }
            next = 60;
        }
        if self.offset > 0 || self.more {
            let field = (self.offset << 3 | u16::from(self.more)).to_be_bytes();
            rest = [&[next, 0][..], &field, &[0, 0, 0x12, 0x34], &rest].concat();
            next = 44;
        }
        if self.options {
            rest = [&[next, 0, 1, 4, 0, 0, 0, 0][..], &rest].concat();
            next = if self.ttl == 2 { 0 } else { 60 };
        }
        header_six(IpNumber(next), self.ttl, from, to, &rest)
    }

    fn bytes(&self) -> Vec<u8> {
        let payload = self.payload();
        let (protocol, segment) = match self.transport {
            Part::Tcp { source, destination, flags } => {
                let mut header = tcp(source, destination, flags);
                let sum = header.calc_checksum_ipv4_raw(self.source, self.destination, &payload);
                header.checksum = sum.unwrap_or_default();
                (IpNumber::TCP, [&header.to_bytes()[..], &payload].concat())
            }
            Part::Udp { source, destination, sum } => {
                let length = (UdpHeader::LEN + payload.len()) as u16;
                let mut header = UdpHeader { source_port: source, destination_port: destination, length, checksum: 0 };
                if sum {
                    let sum = header.calc_checksum_ipv4_raw(self.source, self.destination, &payload);
                    header.checksum = sum.unwrap_or_default();
                }
                (IpNumber::UDP, [&header.to_bytes()[..], &payload].concat())
            }
            Part::Icmp { kind, code } => {
                let mut message = [&[kind, code, 0, 0, 0x12, 0x34, 0, 1][..], &payload].concat();
                let sum = etherparse::checksum::Sum16BitWords::new().add_slice(&message).ones_complement().to_be();
                message[2..4].copy_from_slice(&sum.to_be_bytes());
                (IpNumber::ICMP, message)
            }
            Part::Sctp { source, destination } => (IpNumber::SCTP, sctp(source, destination, &payload)),
            Part::Other { protocol, source, destination } => {
                let ports = [source.to_be_bytes(), destination.to_be_bytes()].concat();
                (IpNumber(protocol), [&ports[..], &payload].concat())
            }
        };
        let Ok(mut header) = Ipv4Header::new(segment.len() as u16, self.ttl, protocol, self.source, self.destination)
        else {
            return Vec::new();
        };
        if self.options {
            // A record of the route, or a route to be taken.
            let kind = if self.ttl == 2 { 131 } else { 7 };
            header.options = [kind, 7, 4, 0, 0, 0, 0, 0].into();
            let _ = header.set_payload_len(segment.len());
        }
        header.fragment_offset = self.offset.try_into().unwrap_or_default();
        header.more_fragments = self.more;
        header.header_checksum = header.calc_header_checksum();
        [&header.to_bytes()[..], &segment].concat()
    }
}

/// The named frames, in the order of their names.
///
/// # Panics
/// If they are not there.
pub fn fixtures() -> &'static [Vec<u8>] {
    static FIXTURES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    FIXTURES.get_or_init(|| {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/frames");
        let mut paths: Vec<_> = fs::read_dir(&directory)
            .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "bin"))
            .collect();
        paths.sort();
        paths.iter().map(|path| fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).collect()
    })
}
