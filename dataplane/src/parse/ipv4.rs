//! IPv4 (RFC 791), its options skipped; but for source routes, which are refused (RFC 7126, 4.3 and 4.4).

use super::{Link, transport};
use crate::address::Address;
use crate::checksum;
use crate::headers::{Fragment, Headers, Ip, Network};
use crate::reason::Reason;
use crate::wire::icmp;
use crate::wire::ipv4::{Ipv4Header, LEN, MORE_FRAGMENTS, OFFSET_MASK, option};

/// `packet` starts with the header and goes on to the end of the frame.
#[inline(always)]
pub(super) fn parse(packet: &[u8], link: Link<'_>) -> Result<Headers, Reason> {
    let header = Ipv4Header::new_checked(packet).ok_or(Reason::Runt)?;
    let header_len = header.header_len();
    let total_length = header.total_length();
    if header.version() != 4 || header_len < LEN {
        return Err(Reason::Ipv4Malformed);
    }
    let datagram = packet.get(..usize::from(total_length)).ok_or(Reason::Ipv4Malformed)?;
    let (full_header, payload) = datagram.split_at_checked(header_len).ok_or(Reason::Ipv4Malformed)?;

    // Routers must verify it (RFC 1812, 5.2.2). It costs a nanosecond, and what is wrong here went to a wrong address.
    if header_len != LEN {
        with_options(full_header)?;
    } else if !checksum::is_right(header.bytes()) {
        return Err(Reason::Ipv4Checksum);
    }

    let fragment = match header.flags_offset() & (MORE_FRAGMENTS | OFFSET_MASK) {
        0 => Fragment::Whole,
        MORE_FRAGMENTS => Fragment::First,
        _ => Fragment::Later,
    };
    let protocol = header.protocol();
    transport::parse(
        protocol,
        icmp::PROTOCOL,
        fragment,
        payload,
        #[inline(always)]
        |transport| {
            link.carrying(Network::Ip(Ip {
                source: Address::v4(header.source()),
                destination: Address::v4(header.destination()),
                protocol,
                ttl: header.ttl(),
                tos: header.tos(),
                fragment,
                l4: link.l3 + header_len as u16,
                end: link.l3 + total_length,
                transport,
            }))
        },
    )
}

/// Kept apart, so that the sum of a header without options is five additions without a loop.
#[cold]
#[inline(never)]
fn with_options(header: &[u8]) -> Result<(), Reason> {
    if !checksum::is_right(header) {
        return Err(Reason::Ipv4Checksum);
    }
    if header.get(LEN..).is_some_and(is_source_routed) { Err(Reason::Ipv4SourceRoute) } else { Ok(()) }
}

/// Whether a sender has said by whom his packet is to go (RFC 791, 3.1). Wherever its pointer is: what has been everywhere can ask for
/// the answer to come back the same way.
fn is_source_routed(mut options: &[u8]) -> bool {
    loop {
        options = match *options {
            [option::LOOSE_SOURCE_ROUTE | option::STRICT_SOURCE_ROUTE, ..] => return true,
            [option::NO_OPERATION, ref rest @ ..] => rest,
            [option::END, ..] => return false,
            // One that goes past the header ends the list: no host reads on behind it.
            [_, length @ 2..=u8::MAX, ..] => options.get(usize::from(length)..).unwrap_or_default(),
            _ => return false,
        }
    }
}
