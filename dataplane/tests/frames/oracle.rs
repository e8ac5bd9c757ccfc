//! What etherparse reads in a frame, in levee's words, and whether it finds the checksums right.
//!
//! Every byte is read by etherparse, layer by layer. The rules in which levee is stricter, or stops earlier, are written
//! out here, each with its reason; everything else must agree, values included.

use etherparse::icmpv6::NeighborSolicitationPayloadSlice;
use etherparse::{
    ArpPacketSlice, EtherType, Ethernet2HeaderSlice, Icmpv4Header, Icmpv4Slice, Icmpv6Header, Icmpv6Slice, IpNumber,
    Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice, Ipv6RawExtHeaderSlice, SingleVlanHeaderSlice,
    TcpHeaderSlice, UdpHeaderSlice, ip_number,
};
use levee_api::net::Mac;
use levee_dataplane::headers::{
    Arp, ArpOperation, Discovery, DiscoveryKind, Fragment, Headers, Icmp, Ip, Network, Ports, Tcp, Transport, Udp,
    Vlans,
};

use crate::build::crc32c;

/// What `parse` should say; `None` where it should refuse.
pub(crate) fn headers(frame: &[u8]) -> Option<Headers> {
    let length = u16::try_from(frame.len()).ok()?;
    let link = Ethernet2HeaderSlice::from_slice(frame).ok()?;
    let (destination, source) = (Mac(link.destination()), Mac(link.source()));
    // Stricter: nobody can be a group, or nobody.
    if !source.is_station() {
        return None;
    }
    let (mut rest, mut ether_type, mut vlans) = (&frame[14..], link.ether_type(), Vlans::default());
    while [EtherType::VLAN_TAGGED_FRAME, EtherType::PROVIDER_BRIDGING].contains(&ether_type) {
        let tag = SingleVlanHeaderSlice::from_slice(rest).ok()?;
        // Stricter: two are enough for anybody.
        let tci = vlans.tci.get_mut(usize::from(vlans.count))?;
        *tci = u16::from(tag.priority_code_point().value()) << 13
            | u16::from(tag.drop_eligible_indicator()) << 12
            | tag.vlan_identifier().value();
        vlans.count += 1;
        (rest, ether_type) = (&rest[4..], tag.ether_type());
    }
    let l3 = length - rest.len() as u16;
    let network = match ether_type {
        EtherType::ARP => Network::Arp(arp(rest)?),
        EtherType::IPV4 => Network::Ip(ipv4(rest, l3)?),
        EtherType::IPV6 => {
            let ip = ipv6(rest, l3)?;
            match ip.transport {
                // RFC 6980, 5: an atomic fragment is one as well.
                Transport::Icmp(Icmp { kind: 133..=137, .. }) if has_fragment_header(rest) => return None,
                Transport::Icmp(Icmp { kind: 133..=137, .. }) => {
                    Network::Discovery(discovery(&ip, &frame[..usize::from(ip.end)])?)
                }
                _ => Network::Ip(ip),
            }
        }
        _ => Network::Other,
    };
    Some(Headers { destination, source, vlans, ethertype: ether_type.0, l3, length, network })
}

fn arp(packet: &[u8]) -> Option<Arp> {
    let arp = ArpPacketSlice::from_slice(packet).ok()?.to_packet().try_eth_ipv4().ok()?;
    // Stricter: of the 25 operations only these two are ARP.
    let operation = match arp.operation.0 {
        1 => ArpOperation::Request,
        2 => ArpOperation::Reply,
        _ => return None,
    };
    Some(Arp {
        operation,
        sender_mac: Mac(arp.sender_mac),
        sender: arp.sender_ipv4_addr().into(),
        target_mac: Mac(arp.target_mac),
        target: arp.target_ipv4_addr().into(),
    })
}

fn ipv4(packet: &[u8], l3: u16) -> Option<Ip> {
    let header = Ipv4HeaderSlice::from_slice(packet).ok()?;
    let total = usize::from(header.total_len());
    let payload = packet.get(..total)?.get(header.slice().len()..)?;
    // Stricter: etherparse leaves the checksum to its caller.
    if plain_sum(header.slice()) != 0xffff {
        return None;
    }
    // Stricter: who is to be passed is not for the sender to say.
    if source_routed(&header.slice()[20..]) {
        return None;
    }
    let fragment = fragment(header.fragments_offset().value(), header.more_fragments());
    Some(Ip {
        source: header.source_addr().into(),
        destination: header.destination_addr().into(),
        protocol: header.protocol().0,
        ttl: header.ttl(),
        tos: header.dcp().value() << 2 | header.ecn().value(),
        fragment,
        l4: l3 + header.slice().len() as u16,
        end: l3 + total as u16,
        // Stops earlier: etherparse would look behind an authentication header.
        transport: transport(header.protocol(), IpNumber::ICMP, fragment, payload)?,
    })
}

fn source_routed(options: &[u8]) -> bool {
    let mut at = 0;
    while at < options.len() && options[at] != 0 {
        if [0x83, 0x89].contains(&options[at]) {
            return true;
        }
        at += match (options[at], options.get(at + 1)) {
            (1, _) => 1,
            (_, Some(length)) if *length >= 2 => usize::from(*length),
            _ => return false,
        };
    }
    false
}

fn ipv6(packet: &[u8], l3: u16) -> Option<Ip> {
    let header = Ipv6HeaderSlice::from_slice(packet).ok()?;
    // Stricter: a length of 0 is 0, not a jumbogram.
    let end = 40 + usize::from(header.payload_length());
    let mut rest = packet.get(40..end)?;
    // Stricter: mapped addresses are for sockets, not for wires.
    if header.source_addr().to_ipv4_mapped().is_some() || header.destination_addr().to_ipv4_mapped().is_some() {
        return None;
    }
    let (mut next, mut place, mut in_fragment, mut in_transit) = (header.next_header(), 0, Fragment::Whole, false);
    while in_fragment != Fragment::Later {
        match next {
            ip_number::IPV6_HOP_BY_HOP if place > 0 => return None,
            // Stricter: RFC 8200 has no use for more than five.
            ip_number::IPV6_HOP_BY_HOP
            | ip_number::IPV6_ROUTE
            | ip_number::IPV6_DEST_OPTIONS
            | ip_number::IPV6_FRAG
                if place == 5 =>
            {
                return None;
            }
            ip_number::IPV6_HOP_BY_HOP | ip_number::IPV6_ROUTE | ip_number::IPV6_DEST_OPTIONS => {
                // Stops earlier: on a packet still on its way through a list of nodes, what follows is not for us. Of
                // this header only the fixed part is read.
                if next == ip_number::IPV6_ROUTE && *rest.get(3)? > 0 {
                    // Stricter: RFC 5095.
                    if *rest.get(2)? == 0 {
                        return None;
                    }
                    in_transit = true;
                    break;
                }
                let extension = Ipv6RawExtHeaderSlice::from_slice(rest).ok()?;
                (next, rest) = (extension.next_header(), &rest[extension.slice().len()..]);
            }
            ip_number::IPV6_FRAG => {
                let extension = Ipv6FragmentHeaderSlice::from_slice(rest).ok()?;
                in_fragment = match fragment(extension.fragment_offset().value(), extension.more_fragments()) {
                    // Saying "not fragmented" does not take back what an earlier header said.
                    Fragment::Whole => in_fragment,
                    fragment => fragment,
                };
                (next, rest) = (extension.next_header(), &rest[8..]);
            }
            _ => break,
        }
        place += 1;
    }
    Some(Ip {
        source: header.source_addr().into(),
        destination: header.destination_addr().into(),
        protocol: next.0,
        ttl: header.hop_limit(),
        tos: header.traffic_class(),
        fragment: in_fragment,
        l4: l3 + (end - rest.len()) as u16,
        end: l3 + end as u16,
        transport: if in_transit { Transport::Other } else { transport(next, IpNumber::IPV6_ICMP, in_fragment, rest)? },
    })
}

/// Whether one of the extension headers of a packet whose headers are all there is for fragments.
fn has_fragment_header(packet: &[u8]) -> bool {
    let (mut next, mut at) = (packet[6], 40);
    while let 0 | 43 | 60 = next {
        (next, at) = (packet[at], at + 8 + usize::from(packet[at + 1]) * 8);
    }
    next == 44
}

/// Stricter, all of it: etherparse reads these messages, but judges none (RFC 4861, 7.1).
fn discovery(ip: &Ip, frame: &[u8]) -> Option<Discovery> {
    let message = &frame[usize::from(ip.l4)..];
    let v6 = |address: levee_dataplane::address::Address| match std::net::IpAddr::from(address) {
        std::net::IpAddr::V6(address) => address,
        std::net::IpAddr::V4(_) => unreachable!(),
    };
    let (source, destination) = (v6(ip.source), v6(ip.destination));
    let (_, body) = Icmpv6Header::from_slice(message).ok()?;
    let length = (message.len() as u32).to_be_bytes();
    let mut summed = [&source.octets()[..], &destination.octets(), &length, &[0, 0, 0, 58], message].concat();
    summed.resize(summed.len().next_multiple_of(2), 0);
    // Of a header that was read, etherparse's own computation forgets the reserved bits.
    let right = plain_sum(&summed) == 0xffff;
    if !right || message[1] != 0 || ip.ttl != 255 || ip.fragment != Fragment::Whole {
        return None;
    }
    let unspecified = levee_dataplane::address::Address::from(std::net::Ipv6Addr::UNSPECIFIED);
    let (kind, fixed) = match message[0] {
        133 => (DiscoveryKind::RouterSolicitation, 8),
        134 => (DiscoveryKind::RouterAdvertisement, 16),
        135 => (DiscoveryKind::Solicitation, 24),
        136 => (DiscoveryKind::Advertisement, 24),
        _ => (DiscoveryKind::Redirect, 40),
    };
    let mut options = message.get(fixed..)?;
    let mut macs = [None, None];
    for _ in 0..32 {
        if options.is_empty() {
            break;
        }
        let length = usize::from(*options.get(1)?) * 8;
        if length == 0 {
            return None;
        }
        let option = options.get(..length)?;
        if matches!(option[0], 1 | 2) {
            macs[usize::from(option[0] - 1)] = Some(Mac(<[u8; 6]>::try_from(&option[2..]).ok()?));
        }
        options = &options[length..];
    }
    if !options.is_empty() {
        return None;
    }
    let target = match NeighborSolicitationPayloadSlice::from_slice(body) {
        Ok(read) if fixed >= 24 => read.target_address(),
        _ => std::net::Ipv6Addr::UNSPECIFIED,
    };
    let group = |prefix: &str| prefix.parse::<ipnet::Ipv6Net>().unwrap().contains(&destination);
    let allowed = match kind {
        DiscoveryKind::Solicitation => ip.source != unspecified || (group("ff02::1:ff00:0/104") && macs[0].is_none()),
        DiscoveryKind::Advertisement => !group("ff00::/8") || message[4] & 0x40 == 0,
        _ => true,
    };
    if !allowed || target.is_multicast() || target.to_ipv4_mapped().is_some() {
        return None;
    }
    let by_target = matches!(kind, DiscoveryKind::Advertisement | DiscoveryKind::Redirect);
    Some(Discovery {
        kind,
        source: ip.source,
        destination: ip.destination,
        target: target.into(),
        mac: macs[usize::from(by_target)],
        l4: ip.l4,
        end: ip.end,
    })
}

fn fragment(offset: u16, more: bool) -> Fragment {
    match (offset, more) {
        (0, false) => Fragment::Whole,
        (0, true) => Fragment::First,
        _ => Fragment::Later,
    }
}

fn transport(protocol: IpNumber, icmp: IpNumber, fragment: Fragment, payload: &[u8]) -> Option<Transport> {
    if fragment == Fragment::Later {
        return Some(Transport::Other);
    }
    Some(match protocol {
        IpNumber::TCP => {
            let tcp = TcpHeaderSlice::from_slice(payload).ok()?;
            Transport::Tcp(Tcp {
                ports: Ports { source: tcp.source_port(), destination: tcp.destination_port() },
                sequence: tcp.sequence_number(),
                acknowledgement: tcp.acknowledgment_number(),
                flags: [tcp.fin(), tcp.syn(), tcp.rst(), tcp.psh(), tcp.ack(), tcp.urg(), tcp.ece(), tcp.cwr()]
                    .iter()
                    .rev()
                    .fold(0, |flags, flag| flags << 1 | u8::from(*flag)),
                payload: (payload.len() - tcp.slice().len()) as u16,
            })
        }
        IpNumber::UDP => {
            let udp = UdpHeaderSlice::from_slice(payload).ok()?;
            let length = usize::from(udp.length());
            // Stricter: a length of 0 is a lie, not "to the end".
            if length < 8 || (fragment == Fragment::Whole && length > payload.len()) {
                return None;
            }
            Transport::Udp(Udp { ports: Ports { source: udp.source_port(), destination: udp.destination_port() } })
        }
        // etherparse does not know SCTP.
        IpNumber::SCTP => {
            let [a, b, c, d, ..] = *payload.first_chunk::<12>()?;
            Transport::Sctp(Ports { source: u16::from_be_bytes([a, b]), destination: u16::from_be_bytes([c, d]) })
        }
        // Laxer: etherparse refuses timestamp messages that are longer than they need be.
        number if number == icmp => {
            let [kind, code, ..] = *payload.first_chunk::<8>()?;
            if let Ok(read) = Icmpv4Slice::from_slice(payload) {
                assert_eq!((read.type_u8(), read.code_u8()), (kind, code));
            }
            if let Ok(read) = Icmpv6Slice::from_slice(payload) {
                assert_eq!((read.type_u8(), read.code_u8()), (kind, code));
            }
            Transport::Icmp(Icmp { kind, code })
        }
        _ => Transport::Other,
    })
}

/// The one's complement sum of an even number of bytes, as RFC 1071 says it. etherparse's own computation for a header
/// that was read is of no use here: it forgets the reserved bits.
pub(crate) fn plain_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0;
    for word in bytes.chunks(2) {
        sum += u32::from(word[0]) << 8 | u32::from(word[1]);
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

/// Every checksum of a frame that the oracle accepts, as it stands there and as etherparse computes it: IPv4, then
/// transport. Not the transport's of a fragment.
pub(crate) fn checksums(frame: &[u8]) -> Vec<(u32, u32)> {
    let headers = headers(frame).expect("a frame that the oracle accepts");
    let packet = &frame[usize::from(headers.l3)..];
    let ip = match headers.network {
        Network::Ip(ip) => ip,
        Network::Discovery(_) => ipv6(packet, headers.l3).expect("it was read once"),
        _ => return Vec::new(),
    };
    let mut sums = Vec::new();
    if let Ok(header) = Ipv4HeaderSlice::from_slice(packet) {
        sums.push((header.header_checksum().into(), header.to_header().calc_header_checksum().into()));
    }
    if ip.fragment == Fragment::Whole {
        sums.extend(transport_checksum(&ip, packet, &frame[usize::from(ip.l4)..usize::from(ip.end)]));
    }
    sums
}

/// The transport's checksum, of a packet that starts with `packet` and has all of `payload` behind its IP headers.
pub(crate) fn transport_checksum(ip: &Ip, packet: &[u8], payload: &[u8]) -> Option<(u32, u32)> {
    let v4 = Ipv4HeaderSlice::from_slice(packet).ok().map(|header| (header.source(), header.destination()));
    let v6 = Ipv6HeaderSlice::from_slice(packet).ok().map(|header| (header.source(), header.destination()));
    let (stored, computed) = match ip.transport {
        Transport::Tcp(_) => {
            let tcp = TcpHeaderSlice::from_slice(payload).unwrap();
            let data = &payload[tcp.slice().len()..];
            let computed = match (v4, v6) {
                (Some((from, to)), _) => tcp.calc_checksum_ipv4_raw(from, to, data).unwrap(),
                (_, Some((from, to))) => tcp.calc_checksum_ipv6_raw(from, to, data).unwrap(),
                _ => unreachable!(),
            };
            (tcp.checksum(), computed)
        }
        Transport::Udp(_) => {
            let udp = UdpHeaderSlice::from_slice(payload).unwrap();
            let data = &payload[8..usize::from(udp.length())];
            let computed = match (v4, v6) {
                _ if udp.checksum() == 0 => 0,
                (Some((from, to)), _) => udp.to_header().calc_checksum_ipv4_raw(from, to, data).unwrap(),
                (_, Some((from, to))) => udp.to_header().calc_checksum_ipv6_raw(from, to, data).unwrap(),
                _ => unreachable!(),
            };
            (udp.checksum(), computed)
        }
        Transport::Icmp(_) => match (v4, v6) {
            (Some(_), _) => {
                let (header, data) = Icmpv4Header::from_slice(payload).unwrap();
                (header.checksum, Icmpv4Header::with_checksum(header.icmp_type, data).checksum)
            }
            (_, Some((from, to))) => {
                let (header, data) = Icmpv6Header::from_slice(payload).unwrap();
                (header.checksum, Icmpv6Header::with_checksum(header.icmp_type, from, to, data).unwrap().checksum)
            }
            _ => unreachable!(),
        },
        Transport::Sctp(_) => {
            let mut blank = payload.to_vec();
            blank[8..12].fill(0);
            return Some((u32::from_le_bytes(*payload[8..].first_chunk().unwrap()), crc32c(&blank)));
        }
        Transport::Other => return None,
    };
    Some((stored.into(), computed.into()))
}

/// Asserts that every checksum is right.
#[track_caller]
pub(crate) fn assert_checksums(frame: &[u8]) {
    for (stored, computed) in checksums(frame) {
        assert_eq!(stored, computed, "{stored:#x} stands in {frame:02x?}");
    }
}
