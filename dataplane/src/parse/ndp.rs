//! Neighbour Discovery (RFC 4861): believed only if it cannot have come from another link, and only as a whole.
//!
//! | RFC 4861, 7.1 and others | else |
//! |---|---|
//! | hop limit 255 | [`NdpHopLimit`](Reason::NdpHopLimit) |
//! | right checksum | [`NdpChecksum`](Reason::NdpChecksum) |
//! | options of at least 8 bytes, inside the message; of Ethernet's length if they have a MAC | [`NdpOption`](Reason::NdpOption) |
//! | no fragment header, an atomic fragment's neither (RFC 6980, 5) | [`NdpFragmented`](Reason::NdpFragmented) |
//! | code 0, long enough, no group as target | [`NdpMalformed`](Reason::NdpMalformed) |
//! | asked from `::` only of a solicited-node group, and without a MAC; advertised to a group only unasked | the same |

use levee_api::net::Mac;

use crate::address::Address;
use crate::checksum::Sum;
use crate::headers::{Discovery, DiscoveryKind};
use crate::reason::Reason;
use crate::wire::icmp::{self, IcmpHeader};
use crate::wire::ipv6::Ipv6Header;
use crate::wire::ndp::{self, LinkOption, NeighbourMessage, flag, kind, option};

/// Options that are walked. Routers advertise some ten; neighbours have one.
const MAX_OPTIONS: usize = 32;

/// Whether an ICMPv6 message is one of Neighbour Discovery.
#[inline(always)]
pub(super) const fn is(kind: u8) -> bool {
    ndp::options_at(kind).is_some()
}

/// `message` is the whole ICMPv6 message; its places in the frame are the caller's to fill in.
#[cold]
#[inline(never)]
pub(super) fn parse(
    ip: &Ipv6Header<&[u8; crate::wire::ipv6::LEN]>,
    fragmented: bool,
    message: &[u8],
) -> Result<Discovery, Reason> {
    let bad = Reason::NdpMalformed;
    let header = IcmpHeader::new_checked(message).ok_or(bad)?;
    let options = ndp::options_at(header.kind()).and_then(|at| message.get(at..)).ok_or(bad)?;
    if fragmented {
        return Err(Reason::NdpFragmented);
    }
    if header.code() != 0 {
        return Err(bad);
    }
    if ip.hop_limit() != ndp::HOP_LIMIT {
        return Err(Reason::NdpHopLimit);
    }
    let pseudo = Sum::pseudo_v6(ip.source(), ip.destination(), icmp::PROTOCOL_V6, message.len() as u32);
    if pseudo.and(Sum::of(message)).fold() != 0xffff {
        return Err(Reason::NdpChecksum);
    }
    let (source_mac, target_mac) = macs(options).ok_or(Reason::NdpOption)?;
    let (from_nobody, to_group) = (ip.source() == 0, ip.destination() >> 120 == 0xff);
    let body = NeighbourMessage::new_checked(message);
    let target = |allowed: bool| {
        let target = body.map(|body| body.target()).filter(|target| target >> 120 != 0xff && allowed).ok_or(bad)?;
        // A mapped address would be another one's namesake in every table.
        Some(Address::v6(target)).filter(|target| !target.is_v4()).ok_or(bad)
    };
    let (kind, target, mac) = match header.kind() {
        kind::ROUTER_SOLICITATION => (DiscoveryKind::RouterSolicitation, Address::UNSPECIFIED_V6, source_mac),
        kind::ROUTER_ADVERTISEMENT => (DiscoveryKind::RouterAdvertisement, Address::UNSPECIFIED_V6, source_mac),
        kind::SOLICITATION => {
            let probe = ndp::is_solicited_node(ip.destination()) && source_mac.is_none();
            (DiscoveryKind::Solicitation, target(!from_nobody || probe)?, source_mac)
        }
        kind::ADVERTISEMENT => {
            let solicited = body.is_some_and(|body| body.flags() & flag::SOLICITED != 0);
            (DiscoveryKind::Advertisement, target(!to_group || !solicited)?, target_mac)
        }
        _ => (DiscoveryKind::Redirect, target(true)?, target_mac),
    };
    let (source, destination) = (Address::v6(ip.source()), Address::v6(ip.destination()));
    Ok(Discovery { kind, source, destination, target, mac, l4: 0, end: 0 })
}

/// The MACs of the message's source and of its target, where options name them; `None` if the options are not in order.
fn macs(mut options: &[u8]) -> Option<(Option<Mac>, Option<Mac>)> {
    let (mut source, mut target) = (None, None);
    for _ in 0..MAX_OPTIONS {
        if options.is_empty() {
            return Some((source, target));
        }
        let (this, rest) = options.split_at_checked(ndp::option_len(options)?)?;
        if this.first().is_some_and(|kind| ndp::has_mac(*kind)) {
            let link = LinkOption::new_checked(this).filter(|link| link.length() == 1)?;
            let place = if link.kind() == option::SOURCE_LINK { &mut source } else { &mut target };
            *place = Some(Mac(link.mac()));
        }
        options = rest;
    }
    options.is_empty().then_some((source, target))
}
