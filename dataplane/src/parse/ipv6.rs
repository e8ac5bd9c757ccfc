//! IPv6 (RFC 8200), down the chain of its extension headers.

use super::{Link, ndp, transport};
use crate::address::Address;
use crate::headers::{Discovery, Fragment, Headers, Ip, Network, Transport};
use crate::reason::Reason;
use crate::wire::icmp;
use crate::wire::ipv6::{
    ExtensionHeader, FRAGMENT_LEN, FragmentHeader, Ipv6Header, LEN, MORE_FRAGMENTS, OFFSET_MASK, next,
};

/// Most extension headers that are walked. Each kind may come once, destination options twice (RFC 8200, 4.1); a longer
/// chain is an attack on whoever follows it.
const MAX_EXTENSIONS: usize = 5;

/// `packet` starts with the header and goes on to the end of the frame.
#[inline(always)]
pub(super) fn parse(packet: &[u8], link: Link<'_>) -> Result<Headers, Reason> {
    let header = Ipv6Header::new_checked(packet).ok_or(Reason::Runt)?;
    if header.version() != 6 {
        return Err(Reason::Ipv6Malformed);
    }
    let end = LEN + usize::from(header.payload_length());
    let payload = packet.get(LEN..end).ok_or(Reason::Ipv6Malformed)?;
    let (source, destination) = (Address::v6(header.source()), Address::v6(header.destination()));
    if source.is_v4() || destination.is_v4() {
        return Err(Reason::Ipv6Malformed);
    }

    let mut chain = Chain::new(header.next_header(), payload);
    if next::is_extension(chain.next) {
        chain = walk(chain)?;
    }
    let transport = if chain.in_transit {
        Transport::Other
    } else {
        transport::parse(chain.next, icmp::PROTOCOL_V6, chain.fragment, chain.rest, |transport| transport)?
    };
    let (l4, end) = (link.l3 + (end - chain.rest.len()) as u16, link.l3 + end as u16);
    if let Transport::Icmp(icmp) = transport
        && ndp::is(icmp.kind)
    {
        let discovery = ndp::parse(&header, chain.fragmented, chain.rest)?;
        return Ok(link.carrying(Network::Discovery(Discovery { l4, end, ..discovery })));
    }
    Ok(link.carrying(Network::Ip(Ip {
        source,
        destination,
        protocol: chain.next,
        ttl: header.hop_limit(),
        tos: header.traffic_class(),
        fragment: chain.fragment,
        l4,
        end,
        transport,
    })))
}

/// Where the walk along a chain of extension headers ended.
pub(super) struct Chain<'a> {
    pub(super) next: u8,
    pub(super) rest: &'a [u8],
    pub(super) fragment: Fragment,
    /// A routing header names nodes still to be visited: the destination is not the last one, the pseudo header has
    /// another, and what follows is not for the nodes on the way to read (RFC 8200, 4.4).
    pub(super) in_transit: bool,
    /// There was a fragment header, be it of an atomic fragment.
    pub(super) fragmented: bool,
}

impl<'a> Chain<'a> {
    /// At its beginning.
    #[inline(always)]
    pub(super) fn new(next: u8, rest: &'a [u8]) -> Self {
        Chain { next, rest, fragment: Fragment::Whole, in_transit: false, fragmented: false }
    }
}

#[inline(never)]
pub(super) fn walk(mut chain: Chain<'_>) -> Result<Chain<'_>, Reason> {
    let mut walked = 0;
    while chain.fragment != Fragment::Later && next::is_extension(chain.next) {
        if walked == MAX_EXTENSIONS || (walked > 0 && chain.next == next::HOP_BY_HOP) {
            return Err(Reason::Ipv6ChainInvalid);
        }
        walked += 1;
        let length = if chain.next == next::FRAGMENT {
            let header = FragmentHeader::new_checked(chain.rest).ok_or(Reason::Ipv6Malformed)?;
            chain.next = header.next_header();
            chain.fragmented = true;
            // An atomic fragment is a whole packet (RFC 6946).
            chain.fragment = match header.offset_more() & (OFFSET_MASK | MORE_FRAGMENTS) {
                0 => chain.fragment,
                MORE_FRAGMENTS => Fragment::First,
                _ => Fragment::Later,
            };
            FRAGMENT_LEN
        } else {
            let header = ExtensionHeader::new_checked(chain.rest).ok_or(Reason::Ipv6Malformed)?;
            if chain.next == next::ROUTING && header.segments_left() > 0 {
                if header.routing_type() == 0 {
                    return Err(Reason::Ipv6SourceRoute);
                }
                chain.in_transit = true;
                return Ok(chain);
            }
            chain.next = header.next_header();
            header.header_len()
        };
        chain.rest = chain.rest.get(length..).ok_or(Reason::Ipv6Malformed)?;
    }
    Ok(chain)
}
