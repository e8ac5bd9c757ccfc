//! `parse::quote` and `rewrite::error`: an error about a translated packet is, byte for byte, what a router would have said
//! about the packet before its translation.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{EtherType, Icmpv4Type, Icmpv6Type, IpNumber, icmpv4};
use levee_api::net::Mac;
use levee_dataplane::headers::{Network, Ports, Transport};
use levee_dataplane::parse::{parse, quote};
use levee_dataplane::reason::Reason;
use levee_dataplane::rewrite::{error, forward};
use levee_dataplane::verdict::{Endpoint, Rewrite};
use proptest::prelude::*;

use crate::build::*;
use crate::oracle;

const MACS: Rewrite = Rewrite {
    destination_mac: Mac([0x02, 0, 0x5e, 0x10, 0, 0xbb]),
    source_mac: Mac([0x02, 0, 0x5e, 0x10, 0, 0xaa]),
    source: None,
    destination: None,
    decrement_ttl: false,
};

/// An error to the client about a packet of its own, as much of which is quoted as `cut`; both families.
fn about(v4: bool, quoted: &[u8], cut: usize) -> Vec<u8> {
    let quoted = &quoted[..quoted.len().min(cut)];
    if v4 {
        let kind = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::FragmentationNeeded {
            next_hop_mtu: 1300,
        });
        ethernet(
            EtherType::IPV4,
            &ipv4_with(IpNumber::ICMP, &icmp(kind, quoted), |header| {
                (header.source, header.destination) = (VIP, CLIENT);
            }),
        )
    } else {
        let addresses = Addresses::V6(VIP_V6, CLIENT_V6);
        let message = icmp_v6(addresses, Icmpv6Type::PacketTooBig { mtu: 1300 }, quoted);
        ethernet(
            EtherType::IPV6,
            &ipv6_with(IpNumber::IPV6_ICMP, &message, |header| {
                (header.source, header.destination) = (VIP_V6, CLIENT_V6);
            }),
        )
    }
}

/// An IP packet from the client.
fn packet(v4: bool, protocol: u8, data: usize) -> Vec<u8> {
    let addresses = if v4 { V4 } else { V6 };
    let (number, transport) = match protocol {
        0 => (IpNumber::TCP, tcp_with(addresses, &payload(data), |header| header.syn = true)),
        1 => (IpNumber::UDP, udp(addresses, &payload(data))),
        _ => (IpNumber::SCTP, sctp(CLIENT_PORT, VIP_PORT, &payload(data.max(4)))),
    };
    if v4 { ipv4(number, &transport) } else { ipv6(number, &transport) }
}

fn endpoint(v4: bool, bits: u128, port: u16) -> Endpoint {
    let address = if v4 {
        Ipv4Addr::from_bits(bits as u32 | 1 << 24).into()
    } else {
        Ipv6Addr::from_bits(bits >> 8 | 0x20 << 120).into()
    };
    Endpoint { address, port }
}

proptest! {
    #[test]
    fn an_error_is_what_would_have_been_said_about_the_untranslated_packet(
        v4: bool, protocol in 0u8..3, data in 0usize..200, cut in 48usize..300,
        source in prop::option::of(any::<(u128, u16)>()), destination in prop::option::of(any::<(u128, u16)>()),
    ) {
        let quoted = packet(v4, protocol, data);
        let frame = about(v4, &quoted, cut);
        let headers = parse(&frame).unwrap();
        let read = quote(&headers, &frame).unwrap();
        prop_assert_eq!(read.ports, Some(Ports { source: CLIENT_PORT, destination: VIP_PORT }));
        prop_assert_eq!(read.mtu, Some(1300));
        let end = |end: Option<(u128, u16)>| end.map(|(bits, port)| endpoint(v4, bits, port));
        let (source, destination) = (end(source), end(destination));
        let rewrite = Rewrite { source, destination, ..MACS };
        let mut out = frame.clone();
        error(&headers, &read, &rewrite, &mut out).unwrap();

        // The same packet, translated whole and from its own frame, and then quoted anew.
        let ether_type = if v4 { EtherType::IPV4 } else { EtherType::IPV6 };
        let mut whole = ethernet(ether_type, &quoted);
        // The CRC of SCTP in a quote stays what it was.
        let crc = (protocol == 2).then(|| whole[whole.len() - data.max(4) - 4..][..4].to_vec());
        let mirrored = Rewrite { source: destination, destination: source, ..MACS };
        forward(&parse(&whole).unwrap(), &mirrored, &mut whole).unwrap();
        if let Some(crc) = crc {
            let at = whole.len() - data.max(4) - 4;
            whole[at..][..4].copy_from_slice(&crc);
        }
        let mut translated = whole[14..].to_vec();
        // TCP's checksum, where the quote ends before it.
        let header_len = if v4 { 20 } else { 40 };
        if protocol == 0 && cut < header_len + 18 {
            translated[header_len + 16..][..2].copy_from_slice(&quoted[header_len + 16..][..2]);
        }
        let mut expected = about(v4, &translated, cut);
        // And its own header, by a recomputation.
        let outer = Rewrite { source, destination, ..MACS };
        forward(&parse(&expected).unwrap(), &outer, &mut expected).unwrap();
        prop_assert_eq!(&out, &expected);
        oracle::assert_checksums(&out);
    }

    /// Whatever a stranger quotes: an answer, never a panic, and what is read lies inside the frame.
    #[test]
    fn any_bytes_may_be_quoted(v4: bool, bytes in prop::collection::vec(any::<u8>(), 0..120), version: bool) {
        let mut bytes = bytes;
        if let (true, Some(first)) = (version, bytes.first_mut()) {
            *first = if v4 { 0x45 | *first & 0x0a } else { 0x60 };
        }
        let frame = about(v4, &bytes, bytes.len());
        let headers = parse(&frame).unwrap();
        if let Ok(read) = quote(&headers, &frame) {
            let Network::Ip(ip) = headers.network else { panic!("IP went in") };
            prop_assert!(ip.l4 < read.l3 && read.l3 < read.l4 && read.l4 + 8 <= ip.end);
            let rewrite = Rewrite {
                source: Some(endpoint(v4, 7, 7)), destination: Some(endpoint(v4, 9, 9)), decrement_ttl: true, ..MACS
            };
            let mut out = frame.clone();
            error(&headers, &read, &rewrite, &mut out).unwrap();
            oracle::assert_checksums(&out);
        }
    }
}

#[test]
fn what_is_no_error_has_no_quote() {
    let frame = ethernet(EtherType::IPV4, &packet(true, 0, 0));
    assert_eq!(quote(&parse(&frame).unwrap(), &frame), Err(Reason::IcmpMalformed));
    let echo = Icmpv4Type::EchoRequest(etherparse::IcmpEchoHeader { id: 1, seq: 2 });
    let frame = ethernet(EtherType::IPV4, &ipv4(IpNumber::ICMP, &icmp(echo, &packet(true, 0, 0))));
    let headers = parse(&frame).unwrap();
    assert!(matches!(headers.network, Network::Ip(ip) if matches!(ip.transport, Transport::Icmp(_)) && !ip.is_error()));
    assert_eq!(quote(&headers, &frame), Err(Reason::IcmpMalformed));
}

#[test]
fn quoted_udp_without_a_checksum_stays_without() {
    let mut quoted = packet(true, 1, 40);
    quoted[26..28].fill(0);
    let frame = about(true, &quoted, 600);
    let headers = parse(&frame).unwrap();
    let rewrite = Rewrite { source: Some(endpoint(true, 5, 6)), destination: Some(endpoint(true, 7, 8)), ..MACS };
    let mut out = frame.clone();
    error(&headers, &quote(&headers, &frame).unwrap(), &rewrite, &mut out).unwrap();
    let at = 14 + 20 + 8 + 20 + 6;
    assert_eq!(out[at..][..2], [0, 0]);
    oracle::assert_checksums(&out);
}
