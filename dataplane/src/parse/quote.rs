//! The packet that an ICMP error quotes (RFC 792; RFC 4443, 2.4): an IP header and at least the 8 bytes behind it, in which
//! every transport with ports has them.
//!
//! Read only for errors, by whoever wants to know what they are about: ordinary packets pay nothing for it. The quote was
//! written by a stranger, and cut off where it pleased him. So nothing is believed of its lengths, nor of its checksums,
//! which routers spoil by counting the TTL down. The checksum of the error itself must be right: [`is_right`] is asked for it apart, since
//! it costs as much as the error is long, and most that is forged is about nothing and need not be summed up.

use super::ipv6::{self, Chain};
use crate::address::Address;
use crate::checksum::Sum;
use crate::headers::{Fragment, Headers, Icmp, Network, Ports, Quote, Transport};
use crate::reason::Reason;
use crate::wire::icmp::{self, IcmpHeader};
use crate::wire::ipv4::{self, Ipv4Header};
use crate::wire::ipv6::{Ipv6Header, next};
use crate::wire::{sctp, tcp, udp, udp::UdpHeader};

/// What RFC 792 promises of the quoted packet's transport, in bytes.
const PROMISED: usize = 8;

/// Reads the packet that an ICMP error quotes. `frame` is the one that `headers` were parsed from.
///
/// # Errors
/// [`IcmpMalformed`](Reason::IcmpMalformed): no error, a fragment of one, or one that quotes
/// something else than an IP packet of its own family with 8 bytes of transport. [`IcmpNested`](Reason::IcmpNested): it
/// quotes another error, about which none may be sent (RFC 1122, 3.2.2).
pub fn quote(headers: &Headers, frame: &[u8]) -> Result<Quote, Reason> {
    let Network::Ip(ip) = &headers.network else { return Err(Reason::IcmpMalformed) };
    let message = frame.get(usize::from(ip.l4)..usize::from(ip.end)).ok_or(Reason::IcmpMalformed)?;
    let Transport::Icmp(error) = ip.transport else { return Err(Reason::IcmpMalformed) };
    if !ip.is_error() || ip.fragment != Fragment::Whole {
        return Err(Reason::IcmpMalformed);
    }
    let packet = message.get(icmp::LEN..).ok_or(Reason::IcmpMalformed)?;
    let read = if ip.source.is_v4() { v4(packet) } else { v6(packet) };
    let Quoted { source, destination, protocol, transport, header_len, length, mark } =
        read.ok_or(Reason::IcmpMalformed)?;
    if transport.len() < PROMISED {
        return Err(Reason::IcmpMalformed);
    }
    if is_error(ip.source.is_v4(), protocol, transport) {
        return Err(Reason::IcmpNested);
    }
    let l3 = ip.l4 + icmp::LEN as u16;
    Ok(Quote {
        source,
        destination,
        protocol,
        ports: ports(protocol, transport),
        l3,
        l4: l3 + header_len as u16,
        length,
        mark,
        mtu: mtu(ip.source.is_v4(), error, message),
    })
}

/// What stands in a quoted packet's headers, and what of its transport is quoted.
struct Quoted<'a> {
    source: Address,
    destination: Address,
    protocol: u8,
    transport: &'a [u8],
    header_len: usize,
    length: u32,
    mark: u32,
}

fn v4(packet: &[u8]) -> Option<Quoted<'_>> {
    let header = Ipv4Header::new_checked(packet)?;
    let header_len = header.header_len();
    // Of a fragment other than the first, what follows are no ports.
    let first = header.flags_offset() & ipv4::OFFSET_MASK == 0;
    if header.version() != 4 || header_len < ipv4::LEN || !first {
        return None;
    }
    Some(Quoted {
        source: Address::v4(header.source()),
        destination: Address::v4(header.destination()),
        protocol: header.protocol(),
        transport: packet.get(header_len..)?,
        header_len,
        length: header.total_length().into(),
        mark: header.identification().into(),
    })
}

fn v6(packet: &[u8]) -> Option<Quoted<'_>> {
    let header = Ipv6Header::new_checked(packet)?;
    let (source, destination) = (Address::v6(header.source()), Address::v6(header.destination()));
    if header.version() != 6 || source.is_v4() || destination.is_v4() {
        return None;
    }
    let rest = packet.get(crate::wire::ipv6::LEN..)?;
    let mut chain = Chain::new(header.next_header(), rest);
    if next::is_extension(chain.next) {
        chain = ipv6::walk(chain).ok()?;
    }
    if chain.fragment == Fragment::Later || chain.in_transit {
        return None;
    }
    let header_len = packet.len() - chain.rest.len();
    let length = crate::wire::ipv6::LEN as u32 + u32::from(header.payload_length());
    let mark = header.version_class_flow() & crate::wire::ipv6::FLOW_LABEL;
    Some(Quoted { source, destination, protocol: chain.next, transport: chain.rest, header_len, length, mark })
}

/// Whether the checksum of an ICMP message is right. `frame` is the one that `headers` were parsed from.
#[must_use]
pub fn is_right(headers: &Headers, frame: &[u8]) -> bool {
    let Network::Ip(ip) = &headers.network else { return false };
    let Some(message) = frame.get(usize::from(ip.l4)..usize::from(ip.end)) else { return false };
    let sum = Sum::of(message);
    let sum = if ip.source.is_v4() {
        sum
    } else {
        let length = message.len() as u32;
        sum.and(Sum::pseudo_v6(ip.source.bits(), ip.destination.bits(), icmp::PROTOCOL_V6, length))
    };
    sum.fold() == 0xffff
}

fn is_error(v4: bool, protocol: u8, transport: &[u8]) -> bool {
    let kind = || IcmpHeader::new_checked(transport).map(|header| header.kind());
    match (v4, protocol) {
        (true, icmp::PROTOCOL) => kind().is_some_and(icmp::v4::is_error),
        (false, icmp::PROTOCOL_V6) => kind().is_some_and(icmp::v6::is_error),
        _ => false,
    }
}

/// All three begin with them, and UDP's header is no longer than what is there.
fn ports(protocol: u8, transport: &[u8]) -> Option<Ports> {
    if !matches!(protocol, tcp::PROTOCOL | udp::PROTOCOL | sctp::PROTOCOL) {
        return None;
    }
    let header = UdpHeader::new_checked(transport)?;
    Some(Ports { source: header.source(), destination: header.destination() })
}

fn mtu(v4: bool, error: Icmp, message: &[u8]) -> Option<u32> {
    let rest = IcmpHeader::new_checked(message)?.rest();
    match (v4, error.kind, error.code) {
        (true, icmp::v4::UNREACHABLE, icmp::v4::FRAGMENTATION_NEEDED) => Some(rest & 0xffff),
        (false, icmp::v6::TOO_BIG, _) => Some(rest),
        _ => None,
    }
}
