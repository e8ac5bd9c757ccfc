//! Frames that levee sends of its own accord: they keep caches and the switches' tables fresh.

use std::net::{IpAddr, Ipv4Addr};

use levee_api::net::Mac;

use super::advertisement;
use crate::address::Address;
use crate::headers::Vlans;
use crate::wire::arp::{self, ArpPacket};
use crate::wire::ethernet::{self, EthernetHeader, MIN_FRAME, TAG_LEN, VlanTag, ethertype};
use crate::wire::ndp::{self, flag};

/// Room that every announcement fits into, in bytes.
pub const ROOM: usize = 128;

/// Writes to the start of `out` that `address` is at `mac`, to everybody: an ARP announcement (RFC 5227, 3), or an
/// unsolicited neighbour advertisement that replaces what is known (RFC 4861, 7.2.6). Everybody who has `address` in a
/// cache takes the new MAC, and every switch on the way learns where `mac` is.
///
/// One tag is a customer tag; of two, the outer is a service tag (IEEE 802.1ad).
///
/// Returns the length of the frame in bytes, at least 60; `None` if `out` is too small, or there are more than two tags.
#[must_use]
pub fn announcement(mac: Mac, address: IpAddr, vlans: Vlans, out: &mut [u8]) -> Option<usize> {
    match address {
        IpAddr::V4(address) => gratuitous_arp(mac, address, vlans, out),
        IpAddr::V6(address) => {
            let (length, packet) = link(mac, Mac(ndp::ALL_NODES_MAC), vlans, ethertype::IPV6, advertisement::LEN, out)?;
            advertisement::write(packet, mac, address.into(), Address::v6(ndp::ALL_NODES), flag::OVERRIDE)?;
            Some(length)
        }
    }
}

/// A broadcast request for `address`, sent by `address` at `mac`.
fn gratuitous_arp(mac: Mac, address: Ipv4Addr, vlans: Vlans, out: &mut [u8]) -> Option<usize> {
    let (length, packet) = link(mac, Mac::BROADCAST, vlans, ethertype::ARP, arp::LEN, out)?;
    let mut packet = ArpPacket::new_checked_mut(packet)?;
    packet.set_hardware(arp::ETHERNET);
    packet.set_protocol(ethertype::IPV4);
    packet.set_hardware_len(6);
    packet.set_protocol_len(4);
    packet.set_operation(arp::REQUEST);
    packet.set_sender_mac(mac.0);
    packet.set_sender(address.to_bits());
    packet.set_target(address.to_bits());
    Some(length)
}

/// Writes Ethernet and tags for a packet of `len` bytes. Returns the length of the frame, and where the packet goes: zeros.
fn link(
    source: Mac,
    destination: Mac,
    vlans: Vlans,
    behind: u16,
    len: usize,
    out: &mut [u8],
) -> Option<(usize, &mut [u8])> {
    let tags = vlans.tci.get(..usize::from(vlans.count))?;
    let length = MIN_FRAME.max(ethernet::LEN + tags.len() * TAG_LEN + len);
    let frame = out.get_mut(..length)?;
    frame.fill(0);

    let tpid = |left: usize| match left {
        0 => behind,
        1 => ethertype::VLAN,
        _ => ethertype::SERVICE_VLAN,
    };
    let mut link = EthernetHeader::new_checked_mut(frame)?;
    link.set_destination(destination.0);
    link.set_source(source.0);
    link.set_ethertype(tpid(tags.len()));

    let mut rest = frame.get_mut(ethernet::LEN..)?;
    for (index, tci) in tags.iter().enumerate() {
        let mut tag = VlanTag::new_checked_mut(rest)?;
        tag.set_tci(*tci);
        tag.set_ethertype(tpid(tags.len() - 1 - index));
        rest = rest.get_mut(TAG_LEN..)?;
    }
    Some((length, rest))
}
