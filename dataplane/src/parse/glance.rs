//! The plainest packets, read at one glance.
//!
//! Nearly every packet that a balancer sees is an ordinary TCP segment or UDP datagram of a flow that is there. All that has to
//! be known of one of those is here in as many loads as it has fields; everything else is [`parse`](super::parse)'s, which would say the
//! same of these (a property test holds the two together) and a hundred things of others.
//!
//! | plain is | |
//! |---|---|
//! | link | to this station, from one, without VLAN tags |
//! | IPv4 | no options, no fragment and not to become one (its identification is then nobody's to read: RFC 6864, 4.1), header checksum right; IPv6: no extension headers |
//! | TTL | not about to end |
//! | TCP | no SYN, FIN or RST; UDP |
//! | checksum | finished: not left to hardware by a sender on this host |

use levee_api::net::Mac;

use crate::address::Address;
use crate::checksum::{self, Sum};
use crate::ends::{Endpoint, Ends, Tuple};
use crate::headers::{Glance, tcp_flags};
use crate::wire::ethernet::{self, EthernetHeader, ethertype};
use crate::wire::ipv4::{DONT_FRAGMENT, LEN as LEN_V4, VERSION_IHL};
use crate::wire::ipv6::{Ipv6Header, LEN as LEN_V6};
use crate::wire::plain::{Octets, PlainHeader, mac_word};
use crate::wire::tcp::{self, TcpHeader};
use crate::wire::udp::{self, UdpHeader};

/// Between whom a plain packet goes: `frame` is the one that it was seen in.
#[must_use]
pub fn between(glance: &Glance, frame: &[u8]) -> Tuple {
    if glance.v4 {
        return glance.ends.tuple_v4(glance.protocol);
    }
    let header = frame.get(ethernet::LEN..).and_then(Ipv6Header::new_checked);
    let heads = header.map(|header| [header.source(), header.destination()].map(|end| Address::v6(end).head()));
    let [source, destination] = glance.ends.endpoints(heads.unwrap_or_default());
    Tuple { source, destination, protocol: glance.protocol }
}

/// What is to be known of a frame that came to `station`, if it is plain.
#[inline]
#[must_use]
pub fn glance(frame: &[u8], station: Mac) -> Option<Glance> {
    let (head, length) = (frame.first_chunk()?, frame.len());
    match sight_v4(head, length, station) {
        Sight::Plain(glance) => Some(glance),
        Sight::Opening(_) | Sight::Other => glance_v6(frame, station),
    }
}

/// What a frame of IPv4 looks like at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// Plain.
    Plain(Glance),
    /// It would be plain if it did not open a connection: a TCP segment with SYN, and without ACK, FIN or RST.
    Opening(Glance),
    /// Neither.
    Other,
}

/// The same of IPv4, from the head of a frame of `length` bytes, and of those that open connections.
#[inline(always)]
#[must_use]
pub fn sight_v4(head: &[u8; Glance::REACH], length: usize, station: Mac) -> Sight {
    seen_v4(head, length, station).unwrap_or(Sight::Other)
}

#[inline(always)]
fn seen_v4(head: &[u8; Glance::REACH], length: usize, station: Mac) -> Option<Sight> {
    const L4: usize = ethernet::LEN + LEN_V4;
    let plain = PlainHeader::new_checked(head)?;
    let (Octets(link), Octets(source), Octets(source_end)) = (plain.link(), plain.source(), plain.source_end());
    if (link ^ mac_word(station.0)) & STATIONS != 0
        || source | u32::from(source_end) == 0
        || plain.ethertype() != ethertype::IPV4
        || plain.version() != VERSION_IHL
        || plain.flags_offset() != DONT_FRAGMENT
        || plain.ttl() <= 1
    {
        return None;
    }
    let ends = Ends::read(head.get(L4 - 8..)?.first_chunk()?);
    let ((addresses, _), Octets(opening), Octets(middle)) = (ends.halves(), plain.opening(), plain.middle());
    let (total, protocol) = (plain.total_length(), plain.protocol());
    if usize::from(total) + ethernet::LEN > length || !checksum::are_right([opening, addresses], middle) {
        return None;
    }
    let glance = Glance { ends, length: total, protocol, v4: true };
    match protocol {
        tcp::PROTOCOL => {
            let header = TcpHeader::new_checked(head.get(L4..)?)?;
            let offset = header.header_len();
            if offset < tcp::LEN
                || offset + LEN_V4 > usize::from(total)
                || checksum::is_partial(addresses, protocol, total, LEN_V4 as u16, header.checksum())
            {
                return None;
            }
            if header.flags() & BEGINS_OR_ENDS != 0 {
                let opens = header.flags() & (BEGINS_OR_ENDS | tcp_flags::ACK) == tcp_flags::SYN;
                return opens.then_some(Sight::Opening(glance));
            }
        }
        udp::PROTOCOL => {
            let header = UdpHeader::new_checked(head.get(L4..)?)?;
            let length = header.length();
            if usize::from(length) < udp::LEN
                || usize::from(length) + LEN_V4 > usize::from(total)
                || checksum::is_partial(addresses, protocol, length, 0, header.checksum())
            {
                return None;
            }
        }
        _ => return None,
    }
    Some(Sight::Plain(glance))
}

/// What tells in the first eight octets: the destination, and that the source is no group.
const STATIONS: u64 = mac_word([0xff; 6]) | 1 << 48;

const BEGINS_OR_ENDS: u8 = tcp_flags::SYN | tcp_flags::FIN | tcp_flags::RST;

/// The same of IPv6.
#[inline(never)]
#[must_use]
pub fn glance_v6(frame: &[u8], station: Mac) -> Option<Glance> {
    let link = EthernetHeader::new_checked(frame)?;
    if link.ethertype() != ethertype::IPV6 || link.destination() != station.0 || !Mac(link.source()).is_station() {
        return None;
    }
    let packet = frame.get(ethernet::LEN..).filter(|_| frame.len() >= Glance::REACH)?;
    let header = Ipv6Header::new_checked(packet)?;
    let (source, destination) = (header.source(), header.destination());
    let ends = (Address::v6(source), Address::v6(destination));
    if header.version() != 6 || header.hop_limit() <= 1 || ends.0.is_v4() || ends.1.is_v4() {
        return None;
    }
    let end = LEN_V6 + usize::from(header.payload_length());
    let payload = packet.get(LEN_V6..end)?;
    let pseudo = |protocol, length| Sum::pseudo_v6(source, destination, protocol, u32::from(length));
    let tuple = transport(header.next_header(), payload, ends, pseudo)?;
    let ends = Ends::of(tuple.source, tuple.destination);
    Some(Glance { ends, length: u16::try_from(end).ok()?, protocol: tuple.protocol, v4: false })
}

/// Of IPv6.
#[inline]
fn transport(
    protocol: u8,
    payload: &[u8],
    (source, destination): (Address, Address),
    pseudo: impl Fn(u8, u16) -> Sum,
) -> Option<Tuple> {
    let (from, to) = match protocol {
        tcp::PROTOCOL => {
            let header = TcpHeader::new_checked(payload)?;
            let length = header.header_len();
            let unfinished = header.checksum() == pseudo(protocol, payload.len() as u16).fold();
            if header.flags() & BEGINS_OR_ENDS != 0 || length < tcp::LEN || length > payload.len() || unfinished {
                return None;
            }
            (header.source(), header.destination())
        }
        udp::PROTOCOL => {
            let header = UdpHeader::new_checked(payload)?;
            let length = header.length();
            let unfinished = header.checksum() == pseudo(protocol, length).fold();
            if usize::from(length) < udp::LEN || usize::from(length) > payload.len() || unfinished {
                return None;
            }
            (header.source(), header.destination())
        }
        _ => return None,
    };
    Some(Tuple {
        source: Endpoint { address: source, port: from },
        destination: Endpoint { address: destination, port: to },
        protocol,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::*;
    use crate::headers::{Fragment, Headers, Ip, Network, Transport};
    use crate::parse::parse;

    const STATION: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn packet() -> impl Strategy<Value = Vec<u8>> {
        let parts = (any::<bool>(), any::<bool>(), any::<[u8; 4]>(), any::<[u8; 16]>(), any::<(u16, u16)>(), 1..=255u8);
        (parts, proptest::collection::vec(any::<u8>(), 0..40)).prop_map(
            |((v6, udp, four, six, ports, ttl), payload)| {
                let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], STATION.0);
                let ip = if v6 { link.ipv6(six, [0xfd; 16], ttl) } else { link.ipv4(four, [10, 0, 0, 1], ttl) };
                let mut frame = Vec::new();
                if udp {
                    ip.udp(ports.0, ports.1).write(&mut frame, &payload).unwrap();
                } else {
                    ip.tcp(ports.0, ports.1, 7, 9).ack(3).write(&mut frame, &payload).unwrap();
                }
                frame
            },
        )
    }

    /// All that the table in the module's documentation says.
    fn is_plain(headers: &Headers) -> bool {
        let Network::Ip(ip) = &headers.network else { return false };
        let transport = match ip.transport {
            Transport::Tcp(tcp) => tcp.flags & (tcp_flags::SYN | tcp_flags::FIN | tcp_flags::RST) == 0,
            Transport::Udp(_) => true,
            _ => false,
        };
        let direct = ip.l4 - headers.l3 == if ip.source.is_v4() { 20 } else { 40 };
        let link =
            headers.destination == STATION && headers.vlans.count == 0 && usize::from(headers.length) >= Glance::REACH;
        transport && direct && link && ip.fragment == Fragment::Whole && ip.ttl > 1
    }

    proptest! {
        #[test]
        fn an_opening_is_what_would_be_plain_without_its_syn(
            mut frame in packet(),
            flags in any::<u8>(),
            changes in proptest::collection::vec((0..60usize, any::<u8>()), 0..2),
        ) {
            // A finished checksum stays one, whatever the flags are: it is not looked at.
            if let (Some(true), Some(byte)) = (frame.get(23).map(|protocol| *protocol == 6), frame.get_mut(47)) {
                *byte = flags;
            }
            for (at, value) in changes {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            let opens = parse(&frame).is_ok_and(|headers| {
                let Network::Ip(Ip { transport: Transport::Tcp(tcp), source, .. }) = headers.network else { return false };
                source.is_v4() && tcp.opens() && tcp.flags & tcp_flags::FIN == 0
            });
            let seen = frame.first_chunk().and_then(|head| match sight_v4(head, frame.len(), STATION) {
                Sight::Opening(glance) => Some(glance),
                _ => None,
            });
            prop_assert!(seen.is_none() || opens);
            if opens && let Some(byte) = frame.get_mut(47) {
                *byte = tcp_flags::ACK;
            }
            prop_assert_eq!(seen, glance(&frame, STATION).filter(|_| opens));
        }

        #[test]
        fn it_says_what_parse_says_and_of_plain_packets_always(
            mut frame in packet(),
            changes in proptest::collection::vec((0..80usize, any::<u8>()), 0..3),
            cut in proptest::option::weighted(0.2, 0..100usize),
        ) {
            let changed = !changes.is_empty();
            for (at, value) in changes {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            if let Some(cut) = cut {
                frame.truncate(cut);
            }
            match (glance(&frame, STATION), parse(&frame)) {
                (Some(seen), Ok(headers)) => {
                    prop_assert!(is_plain(&headers), "{headers:?}");
                    let Network::Ip(ip) = &headers.network else { unreachable!() };
                    let ports = ip.transport.ports().unwrap();
                    let tuple = between(&seen, &frame);
                    prop_assert_eq!((tuple.source.address, tuple.source.port), (ip.source, ports.source));
                    let to = tuple.destination;
                    prop_assert_eq!((to.address, to.port), (ip.destination, ports.destination));
                    prop_assert_eq!((tuple.protocol, seen.length), (ip.protocol, ip.end - headers.l3));
                }
                (Some(seen), Err(reason)) => prop_assert!(false, "{seen:?} {reason:?}"),
                // What was changed may look unfinished, or may be fragmented.
                (None, Ok(headers)) => prop_assert!(changed || !is_plain(&headers), "{headers:?}"),
                (None, Err(_)) => {}
            }
        }
    }
}
