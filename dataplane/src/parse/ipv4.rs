//! IPv4 (RFC 791), its options skipped.

use super::transport;
use crate::address::Address;
use crate::headers::{Fragment, Ip};
use crate::reason::Reason;
use crate::wire::checksum::Sum;
use crate::wire::icmp;
use crate::wire::ipv4::{Ipv4Header, LEN, MORE_FRAGMENTS, OFFSET_MASK};

/// A packet that starts at byte `l3` of its frame; `packet` goes on to the end of the frame.
#[inline]
pub(super) fn parse(packet: &[u8], l3: u16) -> Result<Ip, Reason> {
    let header = Ipv4Header::new_checked(packet).ok_or(Reason::Runt)?;
    let header_len = header.header_len();
    let total_length = header.total_length();
    if header.version() != 4 || header_len < LEN {
        return Err(Reason::Ipv4Malformed);
    }
    let datagram = packet.get(..usize::from(total_length)).ok_or(Reason::Ipv4Malformed)?;
    let (full_header, payload) = datagram.split_at_checked(header_len).ok_or(Reason::Ipv4Malformed)?;

    // Routers must verify it (RFC 1812, 5.2.2). It costs a nanosecond, and what is wrong here went to a wrong address.
    let sum = if header_len == LEN { Sum::of(header.bytes()) } else { Sum::of(full_header) };
    if sum.checksum() != 0 {
        return Err(Reason::Ipv4Checksum);
    }

    let fragment = match header.flags_offset() & (MORE_FRAGMENTS | OFFSET_MASK) {
        0 => Fragment::Whole,
        MORE_FRAGMENTS => Fragment::First,
        _ => Fragment::Later,
    };
    let protocol = header.protocol();
    Ok(Ip {
        source: Address::v4(header.source()),
        destination: Address::v4(header.destination()),
        protocol,
        ttl: header.ttl(),
        tos: header.tos(),
        fragment,
        l4: l3 + header_len as u16,
        end: l3 + total_length,
        transport: transport::parse(protocol, icmp::PROTOCOL, fragment, payload)?,
    })
}
