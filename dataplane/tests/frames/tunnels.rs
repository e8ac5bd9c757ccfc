//! `rewrite::wrap`, `parse::tunnelled` and `rewrite::unwrap`: what was wrapped is unwrapped as it was, and etherparse finds the
//! outer headers right.

use etherparse::{EtherType, Ipv4HeaderSlice, Ipv6HeaderSlice};
use levee_api::net::{Family, Mac};
use levee_api::tunnel::Encapsulation;
use levee_dataplane::headers::{Headers, Ip, Network, Tunnelled};
use levee_dataplane::parse::{parse, tunnelled};
use levee_dataplane::reason::Reason;
use levee_dataplane::rewrite::{PacketBuf, unwrap, wrap};
use levee_dataplane::verdict::{Endpoint, Outer};
use proptest::prelude::*;

use crate::build::*;
use crate::oracle;
use crate::parsing::any_frame;

const NETWORK: u32 = 0x12_3456;
/// A flow label; of which an identification has the lower bits.
const MARK: u32 = 0xa_bcde;
const INNER_SOURCE: Mac = Mac([2, 0, 0, 0, 0, 1]);
const INNER_DESTINATION: Mac = Mac([2, 0, 0, 0, 0, 2]);
const INSIDE: Mac = Mac([2, 0, 0, 0, 0, 3]);

fn outer(kind: Encapsulation, family: Family) -> Outer {
    let (source, destination) = match family {
        Family::Ipv4 => ("198.51.100.1", "198.51.100.2"),
        Family::Ipv6 => ("2001:db8:1::1", "2001:db8:1::2"),
    };
    let address = |text: &str| text.parse::<std::net::IpAddr>().unwrap().into();
    Outer {
        kind,
        source: Endpoint { address: address(source), port: 0xc123 },
        destination: Endpoint { address: address(destination), port: kind.default_port().unwrap_or(0) },
        mark: MARK,
        network: if kind.has_network() { NETWORK } else { 0 },
        inner_source: INNER_SOURCE,
        inner_destination: INNER_DESTINATION,
    }
}

fn every_way() -> impl Iterator<Item = (Encapsulation, Family)> {
    Encapsulation::ALL.into_iter().flat_map(|kind| [Family::Ipv4, Family::Ipv6].map(|family| (kind, family)))
}

/// In a chunk full of what others left there, where the kernel would have put it.
fn within<T>(frame: &[u8], change: impl FnOnce(&mut PacketBuf<'_>) -> Result<T, Reason>) -> Result<Vec<u8>, Reason> {
    let mut chunk = vec![0xee; 256 + frame.len() + 64];
    chunk[256..256 + frame.len()].copy_from_slice(frame);
    let mut packet = PacketBuf::new(&mut chunk, 256, frame.len()).unwrap();
    change(&mut packet)?;
    Ok(packet.frame().to_vec())
}

fn wrapped(frame: &[u8], outer: &Outer) -> Result<Vec<u8>, Reason> {
    within(frame, |packet| wrap(&parse(frame).unwrap(), outer, packet))
}

fn unwrapped(frame: &[u8], kind: Encapsulation, network: u32) -> Result<Vec<u8>, Reason> {
    let carried = tunnelled(&parse(frame).unwrap(), frame, kind, network)?;
    within(frame, |packet| unwrap(&carried, INSIDE, INSIDE, packet))
}

fn ip(headers: &Headers) -> &Ip {
    let Network::Ip(ip) = &headers.network else { panic!("not IP") };
    ip
}

/// The IP packet of a frame.
fn packet(frame: &[u8]) -> &[u8] {
    let headers = parse(frame).unwrap();
    &frame[usize::from(headers.l3)..usize::from(ip(&headers).end)]
}

#[test]
fn known_answers() {
    let inner = ethernet(EtherType::IPV4, &ipv4(etherparse::IpNumber::UDP, &udp(V4, b"x")));
    let hex = |kind| {
        let frame = wrapped(&inner, &outer(kind, Family::Ipv4)).unwrap();
        let tunnel = &frame[14 + 20..frame.len() - 29];
        tunnel.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    // Source and destination port, length, no checksum; flags, VNI; destination, source, type.
    assert_eq!(
        hex(Encapsulation::Vxlan),
        "c12312b5003b00000800000012345600020000000002020000000001".to_owned() + "0800"
    );
    assert_eq!(
        hex(Encapsulation::Geneve),
        "c12317c1003b00000000655812345600020000000002020000000001".to_owned() + "0800"
    );
    assert_eq!(hex(Encapsulation::Gue), "c12317c00029000000040000");
    assert_eq!(hex(Encapsulation::Ipip), "");
}

#[test]
fn congestion_is_carried_in_and_out_as_rfc_6040_says() {
    // Rows: inner Not-ECT, ECT(0), ECT(1), CE; columns: outer the same. Cell for cell figure 4, with ECT(0) 10 and ECT(1) 01; None is
    // "drop".
    const EXPECTED: [[Option<u8>; 4]; 4] = [
        [Some(0b00), Some(0b00), Some(0b00), None],
        [Some(0b10), Some(0b10), Some(0b01), Some(0b11)],
        [Some(0b01), Some(0b01), Some(0b01), Some(0b11)],
        [Some(0b11), Some(0b11), Some(0b11), Some(0b11)],
    ];
    const ORDER: [u8; 4] = [0b00, 0b10, 0b01, 0b11];
    for (kind, family) in every_way() {
        for (row, inner_ecn) in EXPECTED.iter().zip(ORDER) {
            for (expected, outer_ecn) in row.iter().zip(ORDER) {
                let dscp = 0b101_110 << 2;
                let v4 = ipv4_with(etherparse::IpNumber::TCP, &tcp_with(V4, b"x", |_| ()), |ip| {
                    (ip.dscp, ip.ecn) = (0b101_110.try_into().unwrap(), inner_ecn.try_into().unwrap());
                });
                let v6 = ipv6_with(etherparse::IpNumber::TCP, &tcp_with(V6, b"x", |_| ()), |ip| {
                    ip.traffic_class = dscp | inner_ecn
                });
                for inner in [ethernet(EtherType::IPV4, &v4), ethernet(EtherType::IPV6, &v6)] {
                    let mut frame = wrapped(&inner, &outer(kind, family)).unwrap();
                    assert_eq!(ip(&parse(&frame).unwrap()).tos, dscp | inner_ecn, "outward: the normal mode");
                    set_tos(&mut frame, outer_ecn);
                    match (unwrapped(&frame, kind, outer(kind, family).network), expected) {
                        (Ok(out), Some(expected)) => assert_eq!(ip(&parse(&out).unwrap()).tos, dscp | expected),
                        (out, None) => assert_eq!(out, Err(Reason::TunnelCongestion)),
                        (out, _) => panic!("{out:?}"),
                    }
                }
            }
        }
    }
}

/// Of a frame without tags.
fn set_tos(frame: &mut [u8], tos: u8) {
    if frame[12..14] == [8, 0] {
        frame[15] = tos;
        let mut header = etherparse::Ipv4Header::from_slice(&frame[14..]).unwrap().0;
        header.header_checksum = header.calc_header_checksum();
        frame[14..34].copy_from_slice(&header.to_bytes());
    } else {
        frame[14] = frame[14] & 0xf0 | tos >> 4;
        frame[15] = frame[15] & 0x0f | tos << 4;
    }
}

#[test]
fn headers_that_mean_something_else_are_refused() {
    let inner = ethernet(EtherType::IPV4, &ipv4(etherparse::IpNumber::UDP, &udp(V4, b"x")));
    // Behind Ethernet, IPv4 and UDP.
    let at = 14 + 20 + 8;
    let changed = |kind, change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = wrapped(&inner, &outer(kind, Family::Ipv4)).unwrap();
        change(&mut frame);
        unwrapped(&frame, kind, outer(kind, Family::Ipv4).network).map(|_| ())
    };
    let bad = Err(Reason::TunnelMalformed);
    use Encapsulation::{Geneve, Gue, Vxlan};
    assert_eq!(changed(Vxlan, &|frame| frame[at] = 0), bad, "no network");
    assert_eq!(changed(Vxlan, &|frame| frame[at] |= 0x04), Ok(()), "reserved");
    assert_eq!(changed(Vxlan, &|frame| frame[at + 4] ^= 1), Err(Reason::TunnelNetwork));
    assert_eq!(changed(Vxlan, &|frame| frame[at + 8 + 12] = 0x81), bad, "neither IPv4 nor IPv6 inside");
    assert_eq!(changed(Geneve, &|frame| frame[at] |= 0x40), bad, "version 1");
    assert_eq!(changed(Geneve, &|frame| frame[at + 1] |= 0x80), bad, "control");
    assert_eq!(changed(Geneve, &|frame| frame[at + 1] |= 0x40), bad, "critical options");
    assert_eq!(changed(Geneve, &|frame| frame[at] |= 0x3f), bad, "options past the end");
    assert_eq!(changed(Geneve, &|frame| frame[at + 3] ^= 1), bad, "another protocol");
    assert_eq!(changed(Geneve, &|frame| frame[at + 5] ^= 1), Err(Reason::TunnelNetwork));
    assert_eq!(changed(Gue, &|frame| frame[at] |= 0x20), bad, "control");
    assert_eq!(changed(Gue, &|frame| frame[at] |= 0x80), bad, "variant 2");
    assert_eq!(changed(Gue, &|frame| frame[at + 1] = 6), bad, "TCP inside");
    assert_eq!(changed(Gue, &|frame| frame[at + 3] = 1), bad, "an unknown field");
    // A checksum where there need be none must be right.
    assert_eq!(changed(Vxlan, &|frame| frame[at - 1] = 1), bad);
}

#[test]
fn options_of_geneve_and_the_second_variant_of_gue_are_understood() {
    let inner = ipv4(etherparse::IpNumber::UDP, &udp(V4, b"x"));
    let carried = |port: u16, payload: &[u8]| {
        let mut frame = Vec::new();
        let builder = etherparse::PacketBuilder::ethernet2(CLIENT_MAC, NODE_MAC)
            .ipv4([198, 51, 100, 1], [198, 51, 100, 2], 64)
            .udp(50_000, port);
        builder.write(&mut frame, payload).unwrap();
        frame
    };
    let options = [&[2, 0, 8, 0, 0x12, 0x34, 0x56, 0][..], &[0xff; 8], &inner].concat();
    assert_eq!(packet(&unwrapped(&carried(6081, &options), Encapsulation::Geneve, NETWORK).unwrap()), inner);
    assert_eq!(packet(&unwrapped(&carried(6080, &inner), Encapsulation::Gue, 0).unwrap()), inner);
}

proptest! {
    #[test]
    fn what_is_wrapped_comes_out_as_it_went_in(frame in any_frame(), way in 0usize..8) {
        let Ok(headers) = parse(&frame) else { return Ok(()) };
        prop_assume!(matches!(headers.network, Network::Ip(_)));
        let (kind, family) = every_way().nth(way).unwrap();
        let outer = outer(kind, family);
        let out = wrapped(&frame, &outer).unwrap();
        // Tags and MACs are the frame's.
        let tags = usize::from(headers.l3) - 2;
        prop_assert_eq!(&out[..tags], &frame[..tags]);

        let read = oracle::headers(&out).expect("etherparse reads the outer packet");
        prop_assert_eq!(&read, &parse(&out).unwrap());
        for (stored, computed) in oracle::checksums(&out) {
            prop_assert_eq!(stored, computed);
        }
        let l3 = usize::from(read.l3);
        let overhead = usize::from(kind.overhead(family));
        prop_assert_eq!(out.len(), l3 + overhead + packet(&frame).len());
        prop_assert_eq!(usize::from(ip(&read).end), out.len(), "no padding is carried");
        prop_assert_eq!(ip(&read).tos, ip(&headers).tos);
        prop_assert_eq!(ip(&read).ttl, 64);
        match family {
            Family::Ipv4 => {
                let header = Ipv4HeaderSlice::from_slice(&out[l3..]).unwrap();
                prop_assert!(header.dont_fragment());
                prop_assert_eq!(header.identification(), 0xbcde);
            }
            Family::Ipv6 => {
                let header = Ipv6HeaderSlice::from_slice(&out[l3..]).unwrap();
                prop_assert_eq!(header.flow_label().value(), MARK);
            }
        }

        let back = unwrapped(&out, kind, outer.network).unwrap();
        prop_assert_eq!(packet(&back), packet(&frame));
        prop_assert_eq!(&back[..12], &[INSIDE.0, INSIDE.0].concat()[..]);
    }

    #[test]
    fn nothing_that_arrives_is_more_than_refused(frame in any_frame(), junk in any::<[u8; 24]>(), at in 0usize..64, way in 0usize..8) {
        let Ok(headers) = parse(&frame) else { return Ok(()) };
        let (kind, family) = every_way().nth(way).unwrap();
        let outer = outer(kind, family);
        // As it is, and wrapped with something changed behind the outer IP header.
        let _ = tunnelled(&headers, &frame, kind, outer.network);
        prop_assume!(matches!(headers.network, Network::Ip(_)));
        let mut out = wrapped(&frame, &outer).unwrap();
        let start = (usize::from(headers.l3) + 20 + at).min(out.len());
        for (byte, junk) in out[start..].iter_mut().zip(junk) {
            *byte = junk;
        }
        let Ok(read) = parse(&out) else { return Ok(()) };
        if let Ok(Tunnelled { l3, end, .. }) = tunnelled(&read, &out, kind, outer.network) {
            prop_assert!(l3 < end && usize::from(end) <= out.len());
            let _ = unwrapped(&out, kind, outer.network);
        }
    }
}
