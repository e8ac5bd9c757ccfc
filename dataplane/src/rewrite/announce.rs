//! Frames that levee sends of its own accord: they keep the switches' tables fresh.

use std::net::Ipv4Addr;

use levee_api::net::Mac;

use crate::headers::Vlans;
use crate::wire::arp::{self, ArpPacket};
use crate::wire::ethernet::{self, EthernetHeader, MIN_FRAME, TAG_LEN, VlanTag, ethertype};

/// Writes an ARP announcement to the start of `out`: a broadcast request for `address`, sent by `address` at `mac` (RFC
/// 5227, 3). Everybody who has `address` in a cache takes the new MAC, and every switch on the way learns where `mac` is.
///
/// One tag is a customer tag; of two, the outer is a service tag (IEEE 802.1ad).
///
/// Returns the length of the frame in bytes, at least 60; `None` if `out` is too small, or there are more than two tags.
#[must_use]
pub fn gratuitous_arp(mac: Mac, address: Ipv4Addr, vlans: Vlans, out: &mut [u8]) -> Option<usize> {
    let tags = vlans.tci.get(..usize::from(vlans.count))?;
    let length = MIN_FRAME.max(ethernet::LEN + tags.len() * TAG_LEN + arp::LEN);
    let frame = out.get_mut(..length)?;
    frame.fill(0);

    let tpid = |behind: usize| match behind {
        0 => ethertype::ARP,
        1 => ethertype::VLAN,
        _ => ethertype::SERVICE_VLAN,
    };
    let mut link = EthernetHeader::new_checked_mut(frame)?;
    link.set_destination(Mac::BROADCAST.0);
    link.set_source(mac.0);
    link.set_ethertype(tpid(tags.len()));

    let mut rest = frame.get_mut(ethernet::LEN..)?;
    for (index, tci) in tags.iter().enumerate() {
        let mut tag = VlanTag::new_checked_mut(rest)?;
        tag.set_tci(*tci);
        tag.set_ethertype(tpid(tags.len() - 1 - index));
        rest = rest.get_mut(TAG_LEN..)?;
    }

    let mut packet = ArpPacket::new_checked_mut(rest)?;
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
