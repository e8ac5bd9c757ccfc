//! `parse` says what etherparse says, to anything.

use etherparse::{EtherType, Icmpv4Type, Icmpv6Type, IpNumber, Ipv4Header, Ipv4Options, ip_number};
use levee_dataplane::headers::{Headers, Network, Transport};
use levee_dataplane::parse::parse;
use levee_dataplane::reason::Reason;
use proptest::prelude::*;

use crate::build::*;
use crate::{fixtures, oracle};

/// The same values as the oracle, or refused by both; and what holding `Headers` proves.
#[track_caller]
fn agree(frame: &[u8]) {
    let parsed = parse(frame);
    assert_eq!(parsed.ok(), oracle::headers(frame), "{parsed:?} for {frame:02x?}");
    if let Ok(headers) = parsed {
        proofs(&headers, frame);
    }
}

fn proofs(headers: &Headers, frame: &[u8]) {
    let (l3, length) = (usize::from(headers.l3), usize::from(headers.length));
    assert_eq!(length, frame.len());
    assert!((14..=22).contains(&l3) && l3 <= length);
    match headers.network {
        Network::Arp(_) => assert!(l3 + 28 <= length),
        Network::Ip(ip) => {
            let (l4, end) = (usize::from(ip.l4), usize::from(ip.end));
            let fixed = match ip.transport {
                Transport::Tcp(tcp) => 20 + usize::from(tcp.payload),
                Transport::Udp(_) | Transport::Icmp(_) => 8,
                Transport::Sctp(_) => 12,
                Transport::Other => 0,
            };
            assert!(l3 + 20 <= l4 && l4 + fixed <= end && end <= length);
        }
        Network::Discovery(said) => {
            let (l4, end) = (usize::from(said.l4), usize::from(said.end));
            assert!(l3 + 40 <= l4 && l4 + 8 <= end && end <= length);
        }
        Network::Other => {}
    }
}

#[test]
fn fixtures_and_every_truncation_of_them() {
    for fixture in fixtures::all() {
        for length in 0..=fixture.frame.len() {
            agree(&fixture.frame[..length]);
        }
    }
}

#[test]
fn every_bit_of_every_fixture_flipped() {
    for fixture in fixtures::all() {
        let mut frame = fixture.frame;
        for bit in 0..frame.len().min(128) * 8 {
            frame[bit / 8] ^= 1 << (bit % 8);
            agree(&frame);
            mend_ipv4_checksum(&mut frame.clone(), agree);
            frame[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

/// Gives `frame` a right IPv4 header checksum, so that what lies behind is looked at.
fn mend_ipv4_checksum(frame: &mut [u8], then: impl FnOnce(&[u8])) {
    let l3 = match frame.get(12..14) {
        Some([0x08, 0x00]) => 14,
        Some([0x81, 0x00]) => 18,
        Some([0x88, 0xa8]) => 22,
        _ => return,
    };
    let Some(packet) = frame.get_mut(l3..) else { return };
    if let Ok((header, _)) = Ipv4Header::from_slice(packet) {
        packet[10..12].fill(0);
        let checksum = !oracle::plain_sum(&packet[..header.header_len()]);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        then(frame);
    }
}

#[test]
fn source_routes_are_refused_wherever_they_stand_and_wherever_they_point_and_no_other_option_is() {
    // Two addresses: still to go to both, to one, to none.
    let route = |kind, pointer| [&[kind, 11, pointer][..], &[192, 0, 2, 1, 192, 0, 2, 2]].concat();
    let with = |options: &[u8]| {
        let mut options = options.to_vec();
        options.resize(options.len().next_multiple_of(4), 0);
        let packet = ipv4_with(IpNumber::UDP, &udp(V4, b"x"), |ip| {
            ip.options = Ipv4Options::try_from(&options[..]).unwrap();
            ip.set_payload_len(9).unwrap();
        });
        let frame = ethernet(EtherType::IPV4, &packet);
        agree(&frame);
        parse(&frame).map(|_| ())
    };
    for kind in [131, 137] {
        for pointer in [4, 8, 12] {
            let route = route(kind, pointer);
            assert_eq!(with(&route), Err(Reason::Ipv4SourceRoute), "{kind} {pointer}");
            assert_eq!(with(&[&[1, 1][..], &route].concat()), Err(Reason::Ipv4SourceRoute));
            let behind = [&[148, 4, 0, 0][..], &route].concat();
            assert_eq!(with(&behind), Err(Reason::Ipv4SourceRoute), "behind a router alert");
        }
    }
    assert_eq!(with(&route(7, 4)), Ok(()), "a record of the route");
    assert_eq!(with(&[148, 4, 0, 0]), Ok(()));
    assert_eq!(with(&[0, 131, 3, 4]), Ok(()), "behind the end of the list is nothing");
    assert_eq!(with(&[7, 4, 131, 131]), Ok(()), "inside of another option");
    assert_eq!(with(&[7, 0, 131, 3]), Ok(()), "behind one without a length");
}

#[test]
fn longest_and_too_long() {
    let mut frame = ethernet(EtherType(0x88cc), &payload(65521));
    agree(&frame);
    assert!(parse(&frame).is_ok());
    frame.push(0);
    agree(&frame);
    assert!(parse(&frame).is_err());
}

/// A frame with right checksums: 0 to 2 tags, either family, options or extension headers, any transport.
pub(crate) fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let tags = prop::collection::vec(
        (prop::sample::select(vec![EtherType::VLAN_TAGGED_FRAME, EtherType::PROVIDER_BRIDGING]), 0..8u8, 0..4096u16),
        0..=2,
    );
    let v4 = (any_transport_v4(), 0..=10usize, any::<(u8, u16, bool)>()).prop_map(
        |((addresses, protocol, payload), words, (tos, identification, dont_fragment))| {
            let packet = ipv4_with(protocol, &payload, |ip| {
                let Addresses::V4(source, destination) = addresses else { unreachable!() };
                (ip.source, ip.destination) = (source, destination);
                (ip.dscp, ip.ecn) = ((tos >> 2).try_into().unwrap(), (tos & 3).try_into().unwrap());
                (ip.identification, ip.dont_fragment) = (identification, dont_fragment);
                ip.options = Ipv4Options::try_from(&[1; 40][..words * 4]).unwrap();
                ip.set_payload_len(payload.len()).unwrap();
            });
            (EtherType::IPV4, packet)
        },
    );
    let v6 = (any_transport_v6(), any::<[bool; 3]>(), any::<u8>()).prop_map(
        |((addresses, mut next, mut rest), [hop_by_hop, options, atomic], class)| {
            if options {
                (rest, next) = (extension(next, &PADDING, &rest), ip_number::IPV6_DEST_OPTIONS);
            }
            if atomic {
                (rest, next) = (ipv6_fragment(next, 0, false, &rest), ip_number::IPV6_FRAG);
            }
            if hop_by_hop {
                (rest, next) = (extension(next, &PADDING, &rest), ip_number::IPV6_HOP_BY_HOP);
            }
            let packet = ipv6_with(next, &rest, |ip| {
                let Addresses::V6(source, destination) = addresses else { unreachable!() };
                (ip.source, ip.destination, ip.traffic_class) = (source, destination, class);
            });
            (EtherType::IPV6, packet)
        },
    );
    (tags, prop_oneof![v4, v6], any::<bool>()).prop_map(|(tags, (ether_type, packet), pad)| {
        let frame = tagged(&tags, ether_type, &packet);
        if pad { padded(frame) } else { frame }
    })
}

type AnyTransport = (Addresses, IpNumber, Vec<u8>);

fn any_transport_v4() -> impl Strategy<Value = AnyTransport> {
    let addresses = any::<([u8; 4], [u8; 4])>().prop_map(|(from, to)| Addresses::V4(from, to));
    (addresses, 0..5u8, any::<[u16; 3]>(), prop::collection::vec(any::<u8>(), 0..200))
        .prop_map(|(addresses, which, numbers, payload)| any_transport(addresses, which, numbers, &payload))
}

fn any_transport_v6() -> impl Strategy<Value = AnyTransport> {
    let addresses = any::<([u8; 16], [u8; 16])>().prop_map(|(mut from, mut to)| {
        // Not IPv4-mapped.
        (from[0], to[0]) = (0x20, 0x20);
        Addresses::V6(from, to)
    });
    (addresses, 0..5u8, any::<[u16; 3]>(), prop::collection::vec(any::<u8>(), 0..200))
        .prop_map(|(addresses, which, numbers, payload)| any_transport(addresses, which, numbers, &payload))
}

fn any_transport(addresses: Addresses, which: u8, [source, destination, flags]: [u16; 3], data: &[u8]) -> AnyTransport {
    let v4 = matches!(addresses, Addresses::V4(..));
    let (protocol, payload) = match which {
        0 => (
            IpNumber::TCP,
            tcp_with(addresses, data, |tcp| {
                (tcp.source_port, tcp.destination_port) = (source, destination);
                let flag = |bit: u16| flags >> bit & 1 == 1;
                (tcp.fin, tcp.syn, tcp.rst, tcp.psh) = (flag(0), flag(1), flag(2), flag(3));
                (tcp.ack, tcp.urg, tcp.ece, tcp.cwr) = (flag(4), flag(5), flag(6), flag(7));
                tcp.set_options_raw(&[1; 40][..usize::from(flags >> 8) % 11 * 4]).unwrap();
            }),
        ),
        1 => (IpNumber::UDP, udp_with(addresses, data, source, destination)),
        2 => (IpNumber::SCTP, sctp(source, destination, data)),
        3 => {
            let echo = etherparse::IcmpEchoHeader { id: source, seq: destination };
            if v4 {
                (IpNumber::ICMP, icmp(Icmpv4Type::EchoRequest(echo), data))
            } else {
                (IpNumber::IPV6_ICMP, icmp_v6(addresses, Icmpv6Type::EchoRequest(echo), data))
            }
        }
        _ => (IpNumber::GRE, data.to_vec()),
    };
    (addresses, protocol, payload)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn any_frame_is_accepted_with_its_values(frame in any_frame()) {
        prop_assert!(parse(&frame).is_ok());
        agree(&frame);
        oracle::assert_checksums(&frame);
    }

    #[test]
    fn any_bytes(frame in prop::collection::vec(any::<u8>(), 0..200)) {
        agree(&frame);
    }

    #[test]
    fn any_bytes_behind_a_known_ethertype(
        ether_type in prop::sample::select(vec![0x0800u16, 0x0806, 0x86dd, 0x8100, 0x88a8]),
        rest in prop::collection::vec(any::<u8>(), 0..120),
    ) {
        agree(&ethernet(EtherType(ether_type), &rest));
    }

    /// Extension headers in any order and number, fragments and routes among them.
    #[test]
    fn any_chain_of_extension_headers(
        chain in prop::collection::vec((0..4usize, 0..4u8, any::<bool>()), 0..8), cut in 0..8usize,
    ) {
        const KINDS: [IpNumber; 4] = [
            ip_number::IPV6_DEST_OPTIONS, ip_number::IPV6_HOP_BY_HOP, ip_number::IPV6_ROUTE, ip_number::IPV6_FRAG,
        ];
        let mut rest = tcp_with(V6, &payload(20), |_| ());
        let mut next = IpNumber::TCP;
        for (kind, number, more) in chain {
            rest = match KINDS[kind] {
                // Of four numbers one is an offset, or "segments left".
                ip_number::IPV6_FRAG => ipv6_fragment(next, u16::from(number / 3), more, &rest),
                ip_number::IPV6_ROUTE => extension(next, &[4 * u8::from(more), number / 3, 0, 0, 0, 0], &rest),
                _ => extension(next, &[0; 14][..6 + usize::from(more) * 8], &rest),
            };
            next = KINDS[kind];
        }
        rest.truncate(rest.len() - cut);
        agree(&ethernet(EtherType::IPV6, &ipv6(next, &rest)));
    }

    /// Frames with some bytes changed, an end cut off, and the IPv4 checksum mended or not.
    #[test]
    fn any_frame_damaged(
        mut frame in any_frame(),
        damage in prop::collection::vec((0..80usize, any::<u8>()), 0..4),
        cut in prop_oneof![2 => Just(0usize), 1 => 1..100usize],
    ) {
        for (at, byte) in damage {
            if let Some(victim) = frame.get_mut(at) {
                *victim = byte;
            }
        }
        frame.truncate(frame.len().saturating_sub(cut).max(1));
        agree(&frame);
        mend_ipv4_checksum(&mut frame, agree);
    }
}
