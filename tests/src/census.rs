//! What reached a wire, sorted by why it did.

use std::fmt;

use etherparse::{ArpPacketSlice, EtherType, Ethernet2Slice};
use levee_api::net::Mac;

use crate::tap::{Captured, Direction};

/// Why a frame is on a station's wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is addressed to the station.
    Own,
    /// It is addressed to some other station: the fabric did not know where that is, and flooded it.
    UnknownUnicast,
    /// ARP to everybody.
    ArpBroadcast,
    /// Any other frame to everybody or to a group.
    Group,
    /// Shorter than an Ethernet header.
    Runt,
}

impl Kind {
    /// The kind of a frame on the wire of a station.
    #[must_use]
    pub fn of(frame: &[u8], station: Mac) -> Kind {
        let Ok(ethernet) = Ethernet2Slice::from_slice_without_fcs(frame) else { return Kind::Runt };
        let destination = Mac(ethernet.destination());
        match ethernet.ether_type() {
            _ if destination == station => Kind::Own,
            _ if !destination.is_multicast() => Kind::UnknownUnicast,
            EtherType::ARP if destination.is_broadcast() => Kind::ArpBroadcast,
            _ => Kind::Group,
        }
    }
}

/// How many frames of each kind reached one station.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Census {
    /// See [`Kind::Own`].
    pub own: usize,
    /// See [`Kind::UnknownUnicast`].
    pub unknown_unicast: usize,
    /// See [`Kind::ArpBroadcast`].
    pub arp_broadcast: usize,
    /// See [`Kind::Group`].
    pub group: usize,
    /// See [`Kind::Runt`].
    pub runt: usize,
}

impl Census {
    /// Counts what went out of `interface` towards `station`.
    #[must_use]
    pub fn towards(station: Mac, interface: &str, frames: &[Captured]) -> Census {
        let mut census = Census::default();
        for frame in frames.iter().filter(|frame| frame.direction == Direction::Out && &*frame.interface == interface) {
            *match Kind::of(&frame.bytes, station) {
                Kind::Own => &mut census.own,
                Kind::UnknownUnicast => &mut census.unknown_unicast,
                Kind::ArpBroadcast => &mut census.arp_broadcast,
                Kind::Group => &mut census.group,
                Kind::Runt => &mut census.runt,
            } += 1;
        }
        census
    }

    /// Frames that a station without part in the traffic should not have seen.
    #[must_use]
    pub fn flooded(&self) -> usize {
        self.unknown_unicast + self.arp_broadcast
    }
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Census { own, unknown_unicast, arp_broadcast, group, runt } = self;
        write!(f, "{unknown_unicast} unknown unicast, {arp_broadcast} ARP broadcast, {group} other group, {own} own")?;
        if *runt > 0 { write!(f, ", {runt} runts") } else { Ok(()) }
    }
}

/// An ARP packet, in the words of RFC 826.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// Ethernet source and destination of the frame that carries it.
    pub ethernet: (Mac, Mac),
    /// 1 is a request, 2 a reply.
    pub operation: u16,
    /// Who speaks.
    pub sender: (Mac, std::net::Ipv4Addr),
    /// Who is spoken of.
    pub target: (Mac, std::net::Ipv4Addr),
}

impl Arp {
    /// The ARP packet in a frame, if it is one for IPv4 over Ethernet.
    #[must_use]
    pub fn of(frame: &[u8]) -> Option<Arp> {
        let ethernet = Ethernet2Slice::from_slice_without_fcs(frame).ok()?;
        if ethernet.ether_type() != EtherType::ARP {
            return None;
        }
        let arp = ArpPacketSlice::from_slice(ethernet.payload().payload).ok()?;
        let mac = |bytes: &[u8]| bytes.try_into().map(Mac).ok();
        let address = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).map(Into::into).ok();
        Some(Arp {
            ethernet: (Mac(ethernet.source()), Mac(ethernet.destination())),
            operation: arp.operation().0,
            sender: (mac(arp.sender_hw_addr())?, address(arp.sender_protocol_addr())?),
            target: (mac(arp.target_hw_addr())?, address(arp.target_protocol_addr())?),
        })
    }
}

/// A neighbour solicitation or advertisement, in the words of RFC 4861.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ndp {
    /// Ethernet source and destination of the frame that carries it.
    pub ethernet: (Mac, Mac),
    /// IPv6 source and destination.
    pub ip: (std::net::Ipv6Addr, std::net::Ipv6Addr),
    /// Hop limit.
    pub hop_limit: u8,
    /// 135 is a solicitation, 136 an advertisement.
    pub kind: u8,
    /// Router, solicited, override: the upper three bits.
    pub flags: u8,
    /// Who is spoken of.
    pub target: std::net::Ipv6Addr,
    /// The MAC in its first option, if that is a link-layer address.
    pub mac: Option<Mac>,
}

impl Ndp {
    /// The message in a frame, if it is one, directly behind its IPv6 header.
    #[must_use]
    pub fn of(frame: &[u8]) -> Option<Ndp> {
        let ethernet = Ethernet2Slice::from_slice_without_fcs(frame).ok()?;
        if ethernet.ether_type() != EtherType::IPV6 {
            return None;
        }
        let ip = etherparse::Ipv6HeaderSlice::from_slice(ethernet.payload().payload).ok()?;
        let message = frame.get(54..54 + usize::from(ip.payload_length()))?;
        if ip.next_header() != etherparse::IpNumber::IPV6_ICMP || !matches!(message.first(), Some(135 | 136)) {
            return None;
        }
        let target = <[u8; 16]>::try_from(message.get(8..24)?).ok()?;
        let option = message.get(24..32).filter(|option| matches!(option, [1 | 2, 1, ..]));
        Some(Ndp {
            ethernet: (Mac(ethernet.source()), Mac(ethernet.destination())),
            ip: (ip.source_addr(), ip.destination_addr()),
            hop_limit: ip.hop_limit(),
            kind: message[0],
            flags: message[4] & 0xe0,
            target: target.into(),
            mac: option.and_then(|option| <[u8; 6]>::try_from(&option[2..]).ok()).map(Mac),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn frame(destination: Mac, ether_type: u16) -> Vec<u8> {
        let mut bytes = destination.0.to_vec();
        bytes.extend(OTHER.0);
        bytes.extend(ether_type.to_be_bytes());
        bytes.resize(60, 0);
        bytes
    }

    #[test]
    fn each_kind_is_told_from_the_others() {
        assert_eq!(Kind::of(&frame(ME, 0x0800), ME), Kind::Own);
        assert_eq!(Kind::of(&frame(ME, 0x0806), ME), Kind::Own);
        assert_eq!(Kind::of(&frame(OTHER, 0x0800), ME), Kind::UnknownUnicast);
        assert_eq!(Kind::of(&frame(OTHER, 0x0806), ME), Kind::UnknownUnicast);
        assert_eq!(Kind::of(&frame(Mac::BROADCAST, 0x0806), ME), Kind::ArpBroadcast);
        assert_eq!(Kind::of(&frame(Mac::BROADCAST, 0x0800), ME), Kind::Group);
        assert_eq!(Kind::of(&frame(Mac([1, 0, 0x5e, 0, 0, 1]), 0x0806), ME), Kind::Group);
        assert_eq!(Kind::of(&[0; 13], ME), Kind::Runt);
    }

    #[test]
    fn only_what_goes_towards_the_station_counts() {
        let captured = |interface: &str, direction| Captured {
            time: std::time::Duration::ZERO,
            interface: interface.into(),
            direction,
            bytes: frame(OTHER, 0x0800),
            length: 60,
        };
        let frames = [
            captured("a", Direction::Out),
            captured("a", Direction::In),
            captured("b", Direction::Out),
            captured("a", Direction::Out),
        ];
        assert_eq!(Census::towards(ME, "a", &frames), Census { unknown_unicast: 2, ..Census::default() });
        assert_eq!(Census::towards(OTHER, "a", &frames), Census { own: 2, ..Census::default() });
    }
}
