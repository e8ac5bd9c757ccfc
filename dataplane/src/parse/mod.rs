//! Bytes to [`Headers`]: the only place that judges what came off a wire.
//!
//! ```text
//!  frame ─► ethernet, VLAN tags (here) ─┬─► arp (here)
//!                                       ├─► ipv4 ─┬─► transport ─► Headers
//!                                       └─► ipv6 ─┴─► ndp (neighbour discovery)
//!                     any of them may end in a Reason
//! ```
//!
//! [`glance()`] reads the plainest packets, faster, and says nothing of others.
//!
//! Judged here is form alone: versions, lengths, the IPv4 header checksum, addresses that cannot be on a wire in any
//! network (a group as source MAC, IPv4-mapped IPv6). Whether an address may be a source *here* is policy, and `decide`'s:
//! DHCP and ARP probes rightly come from 0.0.0.0. Transport checksums are not verified: they are end to end, and levee
//! updates them without ever making a wrong one right. Neighbour Discovery, which ends here, is.
//!
//! Never: a table, a socket, an allocation, a panic on any input.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod glance;
mod ipv4;
mod ipv6;
mod ndp;
mod piece;
mod quote;
mod transport;
mod tunnelled;

pub use glance::{Sight, between, glance, glance_v6, sight_v4};
pub use tunnelled::tunnelled;

pub use piece::piece;
pub use quote::{is_right, quote};

use levee_api::net::Mac;

use crate::address::Address;
use crate::headers::{Arp, ArpOperation, Headers, Network, Vlans};
use crate::reason::Reason;
use crate::wire::arp::{self, ArpPacket};
use crate::wire::ethernet::{self, EthernetHeader, TAG_LEN, VlanTag, ethertype};

/// Reads the headers of a frame, its check sequence not included.
///
/// # Errors
///
/// The reason for which the frame is to be dropped: [`Runt`](Reason::Runt), [`Giant`](Reason::Giant) (over 65,535 bytes),
/// [`VlanTooDeep`](Reason::VlanTooDeep), [`SourceMacInvalid`](Reason::SourceMacInvalid), and the `Malformed` and
/// `Checksum` reasons of each protocol.
#[inline]
pub fn parse(frame: &[u8]) -> Result<Headers, Reason> {
    let length = u16::try_from(frame.len()).map_err(|_| Reason::Giant)?;
    let ethernet = EthernetHeader::new_checked(frame).ok_or(Reason::Runt)?;
    if !Mac(ethernet.source()).is_station() {
        return Err(Reason::SourceMacInvalid);
    }
    let ethertype = ethernet.ethertype();
    let mut link = Link { ethernet, vlans: Vlans::default(), ethertype, l3: ethernet::LEN as u16, length };
    if ethertype::is_vlan(link.ethertype) {
        (link.vlans, link.ethertype) = tags(frame)?;
        link.l3 += u16::from(link.vlans.count) * TAG_LEN as u16;
    }

    let packet = frame.get(usize::from(link.l3)..).ok_or(Reason::Runt)?;
    match link.ethertype {
        ethertype::IPV4 => ipv4::parse(packet, link),
        ethertype::IPV6 => ipv6::parse(packet, link),
        ethertype::ARP => arp(packet, link),
        _ => Ok(link.carrying(Network::Other)),
    }
}

/// The link layer, which each network layer completes to [`Headers`] by itself: built once, where they are wanted. Handed
/// from stage to stage they would be copied, and a copy of what was just written in small pieces stalls a core for longer
/// than all the reading takes.
#[derive(Clone, Copy)]
struct Link<'a> {
    ethernet: EthernetHeader<&'a [u8; ethernet::LEN]>,
    vlans: Vlans,
    ethertype: u16,
    l3: u16,
    length: u16,
}

impl Link<'_> {
    #[inline(always)]
    fn carrying(self, network: Network) -> Headers {
        let Link { ethernet, vlans, ethertype, l3, length } = self;
        let (destination, source) = (Mac(ethernet.destination()), Mac(ethernet.source()));
        Headers { destination, source, vlans, ethertype, l3, length, network }
    }
}

/// The tags of a tagged frame, and the EtherType behind them.
fn tags(frame: &[u8]) -> Result<(Vlans, u16), Reason> {
    let mut vlans = Vlans::default();
    let mut rest = frame.get(ethernet::LEN..).ok_or(Reason::Runt)?;
    let mut announced = ethertype::VLAN;
    for tci in &mut vlans.tci {
        if !ethertype::is_vlan(announced) {
            break;
        }
        let tag = VlanTag::new_checked(rest).ok_or(Reason::Runt)?;
        *tci = tag.tci();
        announced = tag.ethertype();
        vlans.count += 1;
        rest = rest.get(TAG_LEN..).ok_or(Reason::Runt)?;
    }
    if ethertype::is_vlan(announced) { Err(Reason::VlanTooDeep) } else { Ok((vlans, announced)) }
}

/// An ARP packet (RFC 826). Bytes behind it are padding.
#[inline(always)]
fn arp(packet: &[u8], link: Link<'_>) -> Result<Headers, Reason> {
    let arp = ArpPacket::new_checked(packet).ok_or(Reason::Runt)?;
    let form = (arp.hardware(), arp.protocol(), arp.hardware_len(), arp.protocol_len());
    if form != (arp::ETHERNET, ethertype::IPV4, 6, 4) {
        return Err(Reason::ArpMalformed);
    }
    let operation = match arp.operation() {
        arp::REQUEST => ArpOperation::Request,
        arp::REPLY => ArpOperation::Reply,
        _ => return Err(Reason::ArpMalformed),
    };
    Ok(link.carrying(Network::Arp(Arp {
        operation,
        sender_mac: Mac(arp.sender_mac()),
        sender: Address::v4(arp.sender()),
        target_mac: Mac(arp.target_mac()),
        target: Address::v4(arp.target()),
    })))
}
