//! Wrapping: a packet becomes the payload of another one, without being moved.
//!
//! ```text
//!  before   headroom           | link | IP packet … | padding |
//!  after    | link | outer IP | UDP | tunnel | Ethernet | IP packet … |
//!                             └── not with `ipip` ──┘
//!                                            └ `vxlan`, `geneve` ┘
//! ```
//!
//! The link header moves to the front with its tags; the outer headers fill the room between it and the packet.
//!
//! - **Type of service.** The outer one is the inner one's copy: DSCP (RFC 2983, uniform model), and ECN as RFC 6040, 4.1, asks
//!   of the normal mode.
//! - **TTL** of the outer packet is 64. The inner one was decremented by [`forward`](super::forward()), as a router does.
//! - **Fragments.** The outer IPv4 header says "don't fragment": who wraps has made sure that it fits, and a tunnel's fragments
//!   would be lost with one queue in two. What would identify fragments identifies the packet to its sender
//!   ([`Marks`](crate::ways::Marks)).
//! - **UDP checksum.** None over IPv4 (RFC 7348, 4.1; RFC 8926, 3.3): what is inside has its own. Over IPv6 it is computed:
//!   RFC 6935 allows none between ends that have agreed on it, but a kernel has not, by default (`udp6zerocsumrx`), and drops
//!   what comes without.
//! - **Entropy.** The outer source port, and over IPv6 the flow label (RFC 6438), follow from the flow's hash.

use super::own_header::OwnHeader;
use crate::checksum::{self, Sum};
use crate::headers::{Headers, Network};
use crate::reason::Reason;
use crate::verdict::Outer;
use crate::wire::ethernet::{self, EthernetHeader, ethertype};
use crate::wire::geneve::{self, GeneveHeader};
use crate::wire::gue::{self, GueHeader};
use crate::wire::ipv4;
use crate::wire::ipv6;
use crate::wire::udp::{self, UdpHeader};
use crate::wire::vxlan::{self, VxlanHeader};
use levee_api::tunnel::Encapsulation;

use super::PacketBuf;

/// Wraps the packet of the frame that `headers` were parsed from. MACs are as they were.
///
/// # Errors
///
/// [`Giant`](Reason::Giant): no headroom, or too long with the outer headers. [`Runt`](Reason::Runt): headers, outer and frame do
/// not belong together. The frame is then not to be sent.
pub fn wrap(headers: &Headers, outer: &Outer, packet: &mut PacketBuf<'_>) -> Result<(), Reason> {
    let Network::Ip(ip) = &headers.network else { return Err(Reason::Runt) };
    let l3 = usize::from(headers.l3);
    packet.resize(usize::from(ip.end))?;
    let inner = packet.len().checked_sub(l3).ok_or(Reason::Runt)?;
    let inner_type = if ip.source.is_v4() { ethertype::IPV4 } else { ethertype::IPV6 };
    let inner_protocol = if ip.source.is_v4() { ipv4::PROTOCOL } else { ipv6::PROTOCOL };
    let v4 = outer.source.address.is_v4();
    let ip_len = if v4 { ipv4::LEN } else { ipv6::LEN };
    let behind_ip = match outer.kind {
        Encapsulation::Vxlan => udp::LEN + vxlan::LEN + ethernet::LEN,
        Encapsulation::Geneve => udp::LEN + geneve::LEN + ethernet::LEN,
        Encapsulation::Gue => udp::LEN + gue::LEN,
        Encapsulation::Ipip => 0,
    };
    packet.grow_front(ip_len + behind_ip)?;
    let frame = packet.frame_mut();
    let moved = ip_len + behind_ip;
    frame.get(moved..moved + l3).ok_or(Reason::Runt)?;
    frame.copy_within(moved..moved + l3, 0);
    let announced = if v4 { ethertype::IPV4 } else { ethertype::IPV6 };
    let (link, packet) = frame.split_at_mut_checked(l3).ok_or(Reason::Runt)?;
    *link.last_chunk_mut().ok_or(Reason::Runt)? = announced.to_be_bytes();

    let (header, payload) = packet.split_at_mut_checked(ip_len).ok_or(Reason::Runt)?;
    let length = u16::try_from(behind_ip + inner).map_err(|_| Reason::Giant)?;
    let protocol = if behind_ip == 0 { inner_protocol } else { udp::PROTOCOL };
    let (source, destination) = (outer.source.address, outer.destination.address);
    OwnHeader { source, destination, protocol, tos: ip.tos, mark: outer.mark }.write(length, header)?;
    if behind_ip == 0 {
        return Ok(());
    }
    let (datagram, _) = payload.split_at_mut_checked(behind_ip).ok_or(Reason::Runt)?;
    let (udp, tunnel) = datagram.split_at_mut_checked(udp::LEN).ok_or(Reason::Runt)?;
    let mut udp = UdpHeader::new_checked_mut(udp).ok_or(Reason::Runt)?;
    udp.set_source(outer.source.port);
    udp.set_destination(outer.destination.port);
    udp.set_length(length);
    udp.set_checksum(0);
    match outer.kind {
        Encapsulation::Vxlan => {
            let mut header = VxlanHeader::new_checked_mut(tunnel).ok_or(Reason::Runt)?;
            header.set_flags_reserved(vxlan::NETWORK_IS_VALID);
            header.set_network_reserved(outer.network << 8);
            inner_link(outer, inner_type, tunnel.get_mut(vxlan::LEN..))?;
        }
        Encapsulation::Geneve => {
            let mut header = GeneveHeader::new_checked_mut(tunnel).ok_or(Reason::Runt)?;
            header.set_version_options(0);
            header.set_flags(0);
            header.set_protocol(geneve::ETHERNET);
            header.set_network_reserved(outer.network << 8);
            inner_link(outer, inner_type, tunnel.get_mut(geneve::LEN..))?;
        }
        Encapsulation::Gue => {
            let mut header = GueHeader::new_checked_mut(tunnel).ok_or(Reason::Runt)?;
            header.set_variant_control_length(0);
            header.set_protocol(inner_protocol);
            header.set_flags(0);
        }
        Encapsulation::Ipip => {}
    }
    if !v4 {
        let (source, destination) = (outer.source.address.bits(), outer.destination.address.bits());
        let pseudo = Sum::pseudo_v6(source, destination, udp::PROTOCOL, u32::from(length));
        let checksum = checksum::udp(pseudo.and(Sum::of(payload)).checksum());
        UdpHeader::new_checked_mut(payload).ok_or(Reason::Runt)?.set_checksum(checksum);
    }
    Ok(())
}

fn inner_link(outer: &Outer, ethertype: u16, bytes: Option<&mut [u8]>) -> Result<(), Reason> {
    let mut link = EthernetHeader::new_checked_mut(bytes.unwrap_or_default()).ok_or(Reason::Runt)?;
    link.set_destination(outer.inner_destination.0);
    link.set_source(outer.inner_source.0);
    link.set_ethertype(ethertype);
    Ok(())
}
