//! Sending on: MACs, addresses, ports and TTL in place, with every checksum that covers them updated, not recomputed, so
//! that a packet that arrived broken leaves broken (RFC 1624; RFC 3022, 4.1).
//!
//! | changed | IPv4 header | TCP, UDP | ICMPv6 | SCTP, ICMP |
//! |---|---|---|---|---|
//! | address | updated | updated: pseudo header | updated: pseudo header | not covered |
//! | port | | updated | has none | CRC32c updated / has none |
//! | TTL | updated | | | |
//!
//! A zero UDP checksum stays zero. Fragments other than the first have no transport header: theirs is updated in the
//! first, with the same difference. Ports of ICMP and unknown protocols are ignored.

use levee_api::net::Mac;

use crate::address::Address;
use crate::checksum::Update;
use crate::headers::{Discovery, Fragment, Headers, Ip, Network, Transport};
use crate::reason::Reason;
use crate::verdict::{Endpoint, Rewrite};
use crate::wire::arp::ArpPacket;
use crate::wire::ethernet::EthernetHeader;
use crate::wire::icmp::IcmpHeader;
use crate::wire::ipv4::Ipv4Header;
use crate::wire::ipv6::Ipv6Header;
use crate::wire::ndp::{self, LinkOption};
use crate::wire::sctp::{self, SctpHeader};
use crate::wire::tcp::TcpHeader;
use crate::wire::udp::UdpHeader;

/// Rewrites the frame that `headers` were parsed from.
///
/// In ARP the sender's hardware address becomes `rewrite.source_mac` too, and so do the MACs in Neighbour Discovery: an address that no switch has seen as a source
/// must not be taught to anybody.
///
/// # Errors
///
/// The frame is then unchanged. [`TtlExceeded`](Reason::TtlExceeded): the TTL is to be decremented and would reach 0.
/// [`ServiceFragment`](Reason::ServiceFragment): a port changes in the first fragment of an SCTP packet, whose checksum
/// covers the other fragments. [`Runt`](Reason::Runt): headers, rewrite and frame do not belong together.
#[inline]
pub fn forward(headers: &Headers, rewrite: &Rewrite, frame: &mut [u8]) -> Result<(), Reason> {
    let (link, packet) = frame.split_at_mut_checked(usize::from(headers.l3)).ok_or(Reason::Runt)?;
    let mut link = EthernetHeader::new_checked_mut(link).ok_or(Reason::Runt)?;
    match &headers.network {
        Network::Ip(ip) => network(ip, headers.l3, rewrite, packet)?,
        Network::Arp(_) => {
            let mut arp = ArpPacket::new_checked_mut(packet).ok_or(Reason::Runt)?;
            arp.set_sender_mac(rewrite.source_mac.0);
        }
        Network::Discovery(discovery) => options(discovery, headers.l3, rewrite, packet)?,
        Network::Other => {}
    }
    link.set_destination(rewrite.destination_mac.0);
    link.set_source(rewrite.source_mac.0);
    Ok(())
}

/// MACs in options of Neighbour Discovery, and what they do to the checksum.
#[cold]
fn options(discovery: &Discovery, l3: u16, rewrite: &Rewrite, packet: &mut [u8]) -> Result<(), Reason> {
    let place = |at: u16| at.checked_sub(l3).map(usize::from).ok_or(Reason::Runt);
    let message = packet.get_mut(place(discovery.l4)?..place(discovery.end)?).ok_or(Reason::Runt)?;
    let kind = IcmpHeader::new_checked(message).ok_or(Reason::Runt)?.kind();
    let (head, mut options) =
        ndp::options_at(kind).and_then(|at| message.split_at_mut_checked(at)).ok_or(Reason::Runt)?;
    let new = rewrite.source_mac;
    let mut update = Update::NONE;
    while !options.is_empty() {
        // They were walked when the frame was parsed: nothing is left half done.
        let length = ndp::option_len(options).ok_or(Reason::Runt)?;
        let (this, rest) = options.split_at_mut_checked(length).ok_or(Reason::Runt)?;
        let mut link = LinkOption::new_checked_mut(this).ok_or(Reason::Runt)?;
        if ndp::has_mac(link.kind()) {
            update = changed(update, Mac(link.mac()), new);
            link.set_mac(new.0);
        }
        options = rest;
    }
    let mut header = IcmpHeader::new_checked_mut(head).ok_or(Reason::Runt)?;
    let checksum = update.apply(header.checksum());
    header.set_checksum(checksum);
    Ok(())
}

/// What a change of a MAC at an even offset does to the sum over it.
fn changed(update: Update, old: Mac, new: Mac) -> Update {
    let words = |Mac([a, b, c, d, e, f]): Mac| [[a, b], [c, d], [e, f]].map(u16::from_be_bytes);
    words(old).into_iter().zip(words(new)).fold(update, |update, (old, new)| update.u16(old, new))
}

/// `packet` starts with the IP header, `l3` bytes into the frame.
#[inline]
fn network(ip: &Ip, l3: u16, rewrite: &Rewrite, packet: &mut [u8]) -> Result<(), Reason> {
    if rewrite.source.is_none() && rewrite.destination.is_none() && !rewrite.decrement_ttl {
        return Ok(());
    }
    let header_len = usize::from(ip.l4).checked_sub(usize::from(l3)).ok_or(Reason::Runt)?;
    let packet_len = usize::from(ip.end).checked_sub(usize::from(l3)).ok_or(Reason::Runt)?;
    let packet = packet.get_mut(..packet_len).ok_or(Reason::Runt)?;
    let (header, payload) = packet.split_at_mut_checked(header_len).ok_or(Reason::Runt)?;
    if ip.source.is_v4() { ipv4(ip, rewrite, header, payload) } else { ipv6(ip, rewrite, header, payload) }
}

#[inline]
fn ipv4(ip: &Ip, rewrite: &Rewrite, header: &mut [u8], payload: &mut [u8]) -> Result<(), Reason> {
    let mut header = Ipv4Header::new_checked_mut(header).ok_or(Reason::Runt)?;
    let source = v4(rewrite.source)?.unwrap_or(header.source());
    let destination = v4(rewrite.destination)?.unwrap_or(header.destination());
    let addresses = Update::NONE.u32(header.source(), source).u32(header.destination(), destination);
    let ttl = next_ttl(header.ttl(), rewrite)?;
    transport(ip, rewrite, addresses, payload)?;

    let word = |ttl| u16::from_be_bytes([ttl, header.protocol()]);
    let update = addresses.u16(word(header.ttl()), word(ttl));
    let checksum = update.apply(header.checksum());
    header.set_ttl(ttl);
    header.set_source(source);
    header.set_destination(destination);
    header.set_checksum(checksum);
    Ok(())
}

fn ipv6(ip: &Ip, rewrite: &Rewrite, header: &mut [u8], payload: &mut [u8]) -> Result<(), Reason> {
    let mut header = Ipv6Header::new_checked_mut(header).ok_or(Reason::Runt)?;
    let source = v6(rewrite.source)?.unwrap_or(header.source());
    let destination = v6(rewrite.destination)?.unwrap_or(header.destination());
    let addresses = Update::NONE.u128(header.source(), source).u128(header.destination(), destination);
    let hop_limit = next_ttl(header.hop_limit(), rewrite)?;
    transport(ip, rewrite, addresses, payload)?;

    header.set_hop_limit(hop_limit);
    header.set_source(source);
    header.set_destination(destination);
    Ok(())
}

/// The transport header at the start of `payload`: its ports, and what they and `addresses` do to its checksum.
#[inline]
fn transport(ip: &Ip, rewrite: &Rewrite, addresses: Update, payload: &mut [u8]) -> Result<(), Reason> {
    match ip.transport {
        Transport::Tcp(_) => {
            let mut header = TcpHeader::new_checked_mut(payload).ok_or(Reason::Runt)?;
            let source = port(rewrite.source, header.source());
            let destination = port(rewrite.destination, header.destination());
            let update = addresses.u16(header.source(), source).u16(header.destination(), destination);
            let checksum = update.apply(header.checksum());
            header.set_source(source);
            header.set_destination(destination);
            header.set_checksum(checksum);
        }
        Transport::Udp(_) => {
            let mut header = UdpHeader::new_checked_mut(payload).ok_or(Reason::Runt)?;
            let source = port(rewrite.source, header.source());
            let destination = port(rewrite.destination, header.destination());
            let update = addresses.u16(header.source(), source).u16(header.destination(), destination);
            let checksum = update.apply_udp(header.checksum());
            header.set_source(source);
            header.set_destination(destination);
            header.set_checksum(checksum);
        }
        Transport::Sctp(_) => {
            let length = payload.len();
            let mut header = SctpHeader::new_checked_mut(payload).ok_or(Reason::Runt)?;
            let source = port(rewrite.source, header.source());
            let destination = port(rewrite.destination, header.destination());
            let ports = |source, destination| u32::from(source) << 16 | u32::from(destination);
            let (old, new) = (ports(header.source(), header.destination()), ports(source, destination));
            if old != new {
                if ip.fragment != Fragment::Whole {
                    return Err(Reason::ServiceFragment);
                }
                let checksum = sctp::update_ports(header.checksum(), old, new, length);
                header.set_source(source);
                header.set_destination(destination);
                header.set_checksum(checksum);
            }
        }
        Transport::Icmp(_) if !ip.source.is_v4() => {
            let mut header = IcmpHeader::new_checked_mut(payload).ok_or(Reason::Runt)?;
            let checksum = addresses.apply(header.checksum());
            header.set_checksum(checksum);
        }
        Transport::Icmp(_) | Transport::Other => {}
    }
    Ok(())
}

#[inline]
fn port(to: Option<Endpoint>, old: u16) -> u16 {
    to.map_or(old, |endpoint| endpoint.port)
}

#[inline]
fn next_ttl(ttl: u8, rewrite: &Rewrite) -> Result<u8, Reason> {
    if rewrite.decrement_ttl { ttl.checked_sub(1).filter(|ttl| *ttl > 0).ok_or(Reason::TtlExceeded) } else { Ok(ttl) }
}

/// The new IPv4 address, if there is to be one; of the other family it does not belong to this packet.
#[inline]
fn v4(to: Option<Endpoint>) -> Result<Option<u32>, Reason> {
    match to {
        None => Ok(None),
        Some(endpoint) => endpoint.address.to_v4().map(|address| Some(address.to_bits())).ok_or(Reason::Runt),
    }
}

fn v6(to: Option<Endpoint>) -> Result<Option<u128>, Reason> {
    match to.map(|endpoint| endpoint.address) {
        Some(address) if address.is_v4() => Err(Reason::Runt),
        address => Ok(address.map(Address::bits)),
    }
}
