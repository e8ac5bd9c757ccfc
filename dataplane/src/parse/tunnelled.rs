//! What a tunnel's packet carries: where the inner packet lies, and nothing yet of what is in it.
//!
//! The inner packet is judged like any other, once [`unwrap`](crate::rewrite::unwrap()) has made a frame of it.

use levee_api::tunnel::Encapsulation;

use crate::checksum::Sum;
use crate::headers::{Fragment, Headers, Network, Transport, Tunnelled};
use crate::reason::Reason;
use crate::wire::ethernet::{self, EthernetHeader, ethertype};
use crate::wire::geneve::{self, GeneveHeader};
use crate::wire::gue::{self, GueHeader};
use crate::wire::udp::{self, UdpHeader};
use crate::wire::vxlan::{self, VxlanHeader};
use crate::wire::{ipv4, ipv6};

/// Finds the packet inside of one that `headers` were parsed from, and that is for an end of a tunnel of this kind and network.
///
/// # Errors
///
/// [`TunnelFragment`](Reason::TunnelFragment), [`TunnelMalformed`](Reason::TunnelMalformed),
/// [`TunnelNetwork`](Reason::TunnelNetwork). [`Runt`](Reason::Runt): headers and frame do not belong together.
pub fn tunnelled(headers: &Headers, frame: &[u8], kind: Encapsulation, network: u32) -> Result<Tunnelled, Reason> {
    const BAD: Reason = Reason::TunnelMalformed;
    let Network::Ip(ip) = &headers.network else { return Err(Reason::Runt) };
    if ip.fragment != Fragment::Whole {
        return Err(Reason::TunnelFragment);
    }
    let l4 = usize::from(ip.l4);
    let payload = frame.get(l4..usize::from(ip.end)).ok_or(Reason::Runt)?;
    if kind == Encapsulation::Ipip {
        let ethertype = announced(ip.protocol).ok_or(BAD)?;
        return Ok(Tunnelled { l3: ip.l4, end: ip.end, ethertype, tos: ip.tos });
    }
    let Transport::Udp(_) = ip.transport else { return Err(Reason::Runt) };
    let header = UdpHeader::new_checked(payload).ok_or(Reason::Runt)?;
    let (length, checksum) = (header.length(), header.checksum());
    let datagram = payload.get(..usize::from(length)).ok_or(BAD)?;
    // None is good enough in both families (RFC 7348, 4.1; RFC 6935, 5: the port is one that is set up for it); one that is
    // there must be right, or have been left to hardware by a kernel that shares a machine with us.
    if checksum != 0 {
        let pseudo = match (ip.source.to_v4(), ip.destination.to_v4()) {
            (Some(source), Some(destination)) => {
                Sum::pseudo_v4(source.to_bits(), destination.to_bits(), udp::PROTOCOL, length)
            }
            _ => Sum::pseudo_v6(ip.source.bits(), ip.destination.bits(), udp::PROTOCOL, u32::from(length)),
        };
        if pseudo.and(Sum::of(datagram)).fold() != 0xffff && checksum != pseudo.fold() {
            return Err(BAD);
        }
    }
    let body = datagram.get(udp::LEN..).ok_or(BAD)?;
    let (skipped, ethertype) = match kind {
        Encapsulation::Vxlan => {
            let header = VxlanHeader::new_checked(body).ok_or(BAD)?;
            if header.flags_reserved() & vxlan::NETWORK_IS_VALID == 0 {
                return Err(BAD);
            }
            if header.network() != network {
                return Err(Reason::TunnelNetwork);
            }
            bridged(body, vxlan::LEN)?
        }
        Encapsulation::Geneve => {
            let header = GeneveHeader::new_checked(body).ok_or(BAD)?;
            if header.version() != 0 || header.flags() & (geneve::CONTROL | geneve::CRITICAL) != 0 {
                return Err(BAD);
            }
            if header.network() != network {
                return Err(Reason::TunnelNetwork);
            }
            let start = geneve::LEN + header.options_len();
            match header.protocol() {
                geneve::ETHERNET => bridged(body, start)?,
                carried @ (ethertype::IPV4 | ethertype::IPV6) => (start, carried),
                _ => return Err(BAD),
            }
        }
        Encapsulation::Gue => {
            let header = GueHeader::new_checked(body).ok_or(BAD)?;
            match header.variant() {
                // Fields that we do not know may change what the rest means.
                0 if header.variant_control_length() & gue::CONTROL == 0 && header.flags() == 0 => {
                    (gue::LEN + header.optional_len(), announced(header.protocol()).ok_or(BAD)?)
                }
                1 => (0, versioned(body).ok_or(BAD)?),
                _ => return Err(BAD),
            }
        }
        Encapsulation::Ipip => return Err(Reason::Runt),
    };
    if skipped >= body.len() {
        return Err(BAD);
    }
    // All of it lies in a frame whose length is 16 bits.
    let l3 = (l4 + udp::LEN + skipped) as u16;
    Ok(Tunnelled { l3, end: ip.l4 + length, ethertype, tos: ip.tos })
}

/// Where the packet of an inner frame starts, and its type. Nobody's VLAN is carried.
fn bridged(body: &[u8], at: usize) -> Result<(usize, u16), Reason> {
    let link = body.get(at..).and_then(EthernetHeader::new_checked).ok_or(Reason::TunnelMalformed)?;
    match link.ethertype() {
        carried @ (ethertype::IPV4 | ethertype::IPV6) => Ok((at + ethernet::LEN, carried)),
        _ => Err(Reason::TunnelMalformed),
    }
}

fn announced(protocol: u8) -> Option<u16> {
    match protocol {
        ipv4::PROTOCOL => Some(ethertype::IPV4),
        ipv6::PROTOCOL => Some(ethertype::IPV6),
        _ => None,
    }
}

fn versioned(packet: &[u8]) -> Option<u16> {
    match packet.first()? >> 4 {
        4 => Some(ethertype::IPV4),
        6 => Some(ethertype::IPV6),
        _ => None,
    }
}
