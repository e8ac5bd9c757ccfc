//! The frame becomes its own answer, in place, and leaves by the port it came in on.
//!
//! ```text
//!  ARP request     |link| ARP |padding|      ►  |link| ARP |zeros|
//!  solicitation    |link| IPv6 options | ICMPv6 | ►  |link| IPv6 | advertisement |
//!  echo request    |link| IP options | ICMP | ►  |link| IP | ICMP |
//!  TCP segment     |link| IP options | TCP … | ► |link| IP | TCP: RST |zeros|
//!  anything else   |link| IP packet … |      ►  |link| IP | ICMP: error | start of the IP packet |
//! ```
//!
//! The answer goes to the frame's Ethernet source, from the given MAC, with the frame's VLAN tags. Its IP header is new and
//! plain: no options, TTL 64. It is at least 60 bytes long, and no byte of the frame is left behind its end.
//!
//! Whether an answer is wanted, and how often, is `decide`'s. Only what can have none is refused here.

use levee_api::net::Mac;

use super::own_header::OwnHeader;
use super::{PacketBuf, advertisement};
use crate::address::Address;
use crate::checksum::{Sum, Update};
use crate::headers::{
    Arp, ArpOperation, Discovery, DiscoveryKind, Fragment, Headers, Icmp, Ip, Network, Tcp, Transport, tcp_flags,
};
use crate::reason::Reason;
use crate::verdict::Reply;
use crate::wire::arp::{self, ArpPacket};
use crate::wire::ethernet::{EthernetHeader, MIN_FRAME};
use crate::wire::icmp::{self, IcmpHeader};
use crate::wire::ipv4;
use crate::wire::ipv6;
use crate::wire::ndp::{self, flag};
use crate::wire::tcp::{self, TcpHeader};

/// Longest IPv4 packet of an ICMP error (RFC 1812, 4.3.2.3).
const ERROR_MAX_V4: usize = 576;
/// Longest IPv6 packet of an ICMPv6 error: the minimum MTU (RFC 4443, 2.4 c).
const ERROR_MAX_V6: usize = 1280;
/// Precedence "internetwork control", of ICMP errors (RFC 1812, 4.3.2.5).
const ERROR_TOS: u8 = 0xc0;

/// Turns the frame that `headers` were parsed from into `reply`.
///
/// # Errors
///
/// The frame is then not to be sent. [`NoReplyAllowed`](Reason::NoReplyAllowed): the frame is nothing that this answers, or
/// nothing may answer it: a RST, an ICMP error, a fragment other than the first, anything to a group or from no single
/// host (RFC 1122, 3.2.2; RFC 9293, 3.5.2). [`Giant`](Reason::Giant): the chunk has no room for the answer.
/// [`Runt`](Reason::Runt): headers and frame do not belong together.
pub fn reply(headers: &Headers, reply: &Reply, packet: &mut PacketBuf<'_>) -> Result<(), Reason> {
    let mac = match (reply, &headers.network) {
        (Reply::ArpIsAt { mac }, Network::Arp(arp)) => {
            arp_is_at(headers, arp, *mac, packet)?;
            mac
        }
        (Reply::NeighbourIsAt { mac, proxied }, Network::Discovery(asked)) => {
            neighbour_is_at(headers, asked, *mac, *proxied, packet)?;
            mac
        }
        (Reply::Echo { mac }, Network::Ip(ip)) => {
            answerable(headers, ip)?;
            echo(headers, ip, packet)?;
            mac
        }
        (Reply::TcpReset { mac }, Network::Ip(ip)) => {
            answerable(headers, ip)?;
            reset(headers, ip, packet)?;
            mac
        }
        (Reply::PortUnreachable { mac }, Network::Ip(ip)) => {
            answerable(headers, ip)?;
            let (kind, code) = if ip.source.is_v4() {
                (icmp::v4::UNREACHABLE, icmp::v4::UNREACHABLE_PORT)
            } else {
                (icmp::v6::UNREACHABLE, icmp::v6::UNREACHABLE_PORT)
            };
            error(headers, ip, (kind, code, 0), packet)?;
            mac
        }
        (Reply::TimeExceeded { mac }, Network::Ip(ip)) => {
            answerable(headers, ip)?;
            let kind = if ip.source.is_v4() { icmp::v4::TIME_EXCEEDED } else { icmp::v6::TIME_EXCEEDED };
            error(headers, ip, (kind, 0, 0), packet)?;
            mac
        }
        (Reply::TooBig { mac, mtu }, Network::Ip(ip)) => {
            answerable(headers, ip)?;
            let (kind, code) = if ip.source.is_v4() {
                (icmp::v4::UNREACHABLE, icmp::v4::FRAGMENTATION_NEEDED)
            } else {
                (icmp::v6::TOO_BIG, 0)
            };
            error(headers, ip, (kind, code, u32::from(*mtu)), packet)?;
            mac
        }
        _ => return Err(Reason::NoReplyAllowed),
    };
    if packet.len() < MIN_FRAME {
        packet.resize(MIN_FRAME)?;
    }
    let mut link = EthernetHeader::new_checked_mut(packet.frame_mut()).ok_or(Reason::Runt)?;
    link.set_destination(headers.source.0);
    link.set_source(mac.0);
    Ok(())
}

fn arp_is_at(headers: &Headers, request: &Arp, mac: Mac, packet: &mut PacketBuf<'_>) -> Result<(), Reason> {
    let (Some(sender), Some(target)) = (request.sender.to_v4(), request.target.to_v4()) else {
        return Err(Reason::Runt);
    };
    if request.operation != ArpOperation::Request {
        return Err(Reason::NoReplyAllowed);
    }
    let l3 = usize::from(headers.l3);
    packet.resize(l3 + arp::LEN)?;
    let bytes = packet.frame_mut().get_mut(l3..).ok_or(Reason::Runt)?;
    let mut arp = ArpPacket::new_checked_mut(bytes).ok_or(Reason::Runt)?;
    arp.set_operation(arp::REPLY);
    arp.set_target_mac(request.sender_mac.0);
    arp.set_target(sender.to_bits());
    arp.set_sender_mac(mac.0);
    arp.set_sender(target.to_bits());
    Ok(())
}

/// RFC 4861, 7.2.4. A probe from `::` is answered to all nodes, but to the asker's MAC (RFC 6085): nobody else is to hear it.
/// The router flag is 0: what is answered for are hosts, and what lies beyond us is said by nobody to be a router.
fn neighbour_is_at(
    headers: &Headers,
    asked: &Discovery,
    mac: Mac,
    proxied: bool,
    packet: &mut PacketBuf<'_>,
) -> Result<(), Reason> {
    if asked.kind != DiscoveryKind::Solicitation {
        return Err(Reason::NoReplyAllowed);
    }
    let (to, solicited) = match asked.source {
        Address::UNSPECIFIED_V6 => (Address::v6(ndp::ALL_NODES), 0),
        source if source.is_martian() => return Err(Reason::NoReplyAllowed),
        source => (source, flag::SOLICITED),
    };
    let flags = solicited | if proxied { 0 } else { flag::OVERRIDE };
    let l3 = usize::from(headers.l3);
    packet.resize(l3 + advertisement::LEN)?;
    let bytes = packet.frame_mut().get_mut(l3..).ok_or(Reason::Runt)?;
    advertisement::write(bytes, mac, asked.target, to, flags).ok_or(Reason::Runt)
}

/// What RFC 1122, 3.2.2, and RFC 4443, 2.4 (e), ask of every packet that is answered with a packet of our own.
fn answerable(headers: &Headers, ip: &Ip) -> Result<(), Reason> {
    let refused = headers.destination.is_multicast()
        || ip.fragment == Fragment::Later
        || ip.destination.is_multicast()
        || ip.source.is_martian();
    if refused { Err(Reason::NoReplyAllowed) } else { Ok(()) }
}

fn echo(headers: &Headers, ip: &Ip, packet: &mut PacketBuf<'_>) -> Result<(), Reason> {
    let Transport::Icmp(Icmp { kind, code: 0 }) = ip.transport else { return Err(Reason::NoReplyAllowed) };
    let answer = match (ip.source.is_v4(), kind) {
        (true, icmp::v4::ECHO_REQUEST) => icmp::v4::ECHO_REPLY,
        (false, icmp::v6::ECHO_REQUEST) => icmp::v6::ECHO_REPLY,
        _ => return Err(Reason::NoReplyAllowed),
    };
    if ip.fragment != Fragment::Whole {
        return Err(Reason::NoReplyAllowed);
    }
    let length = ip.end.checked_sub(ip.l4).ok_or(Reason::Runt)?;
    let message = usize::from(ip.l4)..usize::from(ip.end);
    let start = usize::from(headers.l3) + header_len(ip);
    if start > message.start || message.end > packet.len() {
        return Err(Reason::Runt);
    }
    // Options, which were for the way here, go: the message moves up to a plain header.
    packet.frame_mut().copy_within(message, start);
    packet.resize(start + usize::from(length))?;
    let bytes = packet.frame_mut().get_mut(start..).ok_or(Reason::Runt)?;
    let mut message = IcmpHeader::new_checked_mut(bytes).ok_or(Reason::Runt)?;
    // The pseudo header of ICMPv6 has the same sum with its addresses swapped.
    let word = |kind| u16::from_be_bytes([kind, 0]);
    let checksum = Update::NONE.u16(word(kind), word(answer)).apply(message.checksum());
    message.set_kind(answer);
    message.set_checksum(checksum);
    let tos = ip.tos;
    plain_header(headers, ip, ip.protocol, tos, length, packet)
}

/// RFC 9293, 3.5.2: a segment with an ACK is reset by what it acknowledges, one without by acknowledging it.
fn reset(headers: &Headers, ip: &Ip, packet: &mut PacketBuf<'_>) -> Result<(), Reason> {
    let Transport::Tcp(segment) = ip.transport else { return Err(Reason::NoReplyAllowed) };
    if segment.flags & tcp_flags::RST != 0 || ip.fragment != Fragment::Whole {
        return Err(Reason::NoReplyAllowed);
    }
    let (sequence, acknowledgement, flags) = if segment.flags & tcp_flags::ACK != 0 {
        (segment.acknowledgement, 0, tcp_flags::RST)
    } else {
        (0, segment.sequence.wrapping_add(segment_length(&segment)), tcp_flags::RST | tcp_flags::ACK)
    };
    let start = usize::from(headers.l3) + header_len(ip);
    packet.resize(start + tcp::LEN)?;
    let bytes = packet.frame_mut().get_mut(start..).ok_or(Reason::Runt)?;
    let mut header = TcpHeader::new_checked_mut(bytes).ok_or(Reason::Runt)?;
    header.set_source(segment.ports.destination);
    header.set_destination(segment.ports.source);
    header.set_sequence(sequence);
    header.set_acknowledgement(acknowledgement);
    header.set_data_offset(tcp::DATA_OFFSET);
    header.set_flags(flags);
    header.set_window(0);
    header.set_checksum(0);
    header.set_urgent(0);
    let checksum = ip.pseudo(tcp::PROTOCOL, tcp::LEN as u16).and(Sum::of(header.bytes())).checksum();
    header.set_checksum(checksum);
    // Its differentiated service, but not its ECN bits: a RST is not sent as ECN-capable (RFC 3168, 6.1).
    plain_header(headers, ip, tcp::PROTOCOL, ip.tos & !3, tcp::LEN as u16, packet)
}

/// SEG.LEN: payload, and one each for SYN and FIN (RFC 9293, 3.4).
fn segment_length(segment: &Tcp) -> u32 {
    let flag = |flag| u32::from(segment.flags & flag != 0);
    u32::from(segment.payload) + flag(tcp_flags::SYN) + flag(tcp_flags::FIN)
}

/// An ICMP error about the packet: its type, its code, and what stands behind the checksum.
fn error(
    headers: &Headers,
    ip: &Ip,
    (kind, code, rest): (u8, u8, u32),
    packet: &mut PacketBuf<'_>,
) -> Result<(), Reason> {
    let v4 = ip.source.is_v4();
    if let Transport::Icmp(message) = ip.transport
        && (if v4 { icmp::v4::is_error(message.kind) } else { icmp::v6::is_error(message.kind) })
    {
        return Err(Reason::NoReplyAllowed);
    }
    let (protocol, longest) = if v4 { (icmp::PROTOCOL, ERROR_MAX_V4) } else { (icmp::PROTOCOL_V6, ERROR_MAX_V6) };
    // The packet moves back behind a header of ours, as much of it as may be quoted.
    let l3 = usize::from(headers.l3);
    let start = l3 + header_len(ip);
    let quoted = usize::from(ip.end).checked_sub(l3).ok_or(Reason::Runt)?.min(longest - header_len(ip) - icmp::LEN);
    if l3 + quoted > packet.len() {
        return Err(Reason::Runt);
    }
    packet.resize(start + icmp::LEN + quoted)?;
    packet.frame_mut().copy_within(l3..l3 + quoted, start + icmp::LEN);

    let length = (icmp::LEN + quoted) as u16;
    let message = packet.frame_mut().get_mut(start..).ok_or(Reason::Runt)?;
    let mut header = IcmpHeader::new_checked_mut(message).ok_or(Reason::Runt)?;
    header.set_kind(kind);
    header.set_code(code);
    header.set_checksum(0);
    header.set_rest(rest);
    let pseudo = if v4 { Sum::default() } else { ip.pseudo(protocol, length) };
    let checksum = pseudo.and(Sum::of(message)).checksum();
    IcmpHeader::new_checked_mut(message).ok_or(Reason::Runt)?.set_checksum(checksum);
    plain_header(headers, ip, protocol, if v4 { ERROR_TOS } else { 0 }, length, packet)
}

/// Length in bytes of a header without options.
fn header_len(ip: &Ip) -> usize {
    if ip.source.is_v4() { ipv4::LEN } else { ipv6::LEN }
}

/// Writes the answer's IP header: the packet's addresses swapped, and nothing else of it. `length` is the payload's.
fn plain_header(
    headers: &Headers,
    ip: &Ip,
    protocol: u8,
    tos: u8,
    length: u16,
    packet: &mut PacketBuf<'_>,
) -> Result<(), Reason> {
    let bytes = packet.frame_mut().get_mut(usize::from(headers.l3)..).ok_or(Reason::Runt)?;
    OwnHeader { source: ip.destination, destination: ip.source, protocol, tos, mark: 0 }.write(length, bytes)
}
