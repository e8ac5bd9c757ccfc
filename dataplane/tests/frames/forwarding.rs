//! `rewrite::forward` and `rewrite::complete`: what leaves is what came, but for what was asked, with every checksum as
//! etherparse computes it from nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{EtherType, IpNumber, Ipv4Header, TcpHeader, UdpHeader};
use levee_api::net::Mac;
use levee_dataplane::headers::{Discovery, DiscoveryKind, Fragment, Headers, Ip, Network, Ports, Transport};
use levee_dataplane::parse::parse;
use levee_dataplane::reason::Reason;
use levee_dataplane::rewrite::{complete, forward};
use levee_dataplane::verdict::{Endpoint, Rewrite};
use proptest::prelude::*;

use crate::build::*;
use crate::parsing::any_frame;
use crate::{fixtures, oracle};

const SOURCE_MAC: Mac = Mac([0x02, 0, 0x5e, 0x10, 0, 0xaa]);
const DESTINATION_MAC: Mac = Mac([0x02, 0, 0x5e, 0x10, 0, 0xbb]);
const BRIDGED: Rewrite = Rewrite {
    destination_mac: DESTINATION_MAC,
    source_mac: SOURCE_MAC,
    source: None,
    destination: None,
    decrement_ttl: false,
};

fn endpoint(address: impl Into<IpAddr>, port: u16) -> Option<Endpoint> {
    Some(Endpoint { address: address.into().into(), port })
}

/// Full NAT of IPv4: both ends and the TTL.
fn nat() -> Rewrite {
    Rewrite {
        source: endpoint([198, 51, 100, 1], 61000),
        destination: endpoint([10, 1, 2, 3], 8080),
        decrement_ttl: true,
        ..BRIDGED
    }
}

fn fixture(name: &str) -> Vec<u8> {
    fixtures::all().into_iter().find(|fixture| fixture.name == name).unwrap().frame
}

fn forwarded(frame: &[u8], rewrite: &Rewrite) -> Vec<u8> {
    let mut out = frame.to_vec();
    forward(&parse(frame).unwrap(), rewrite, &mut out).unwrap();
    out
}

/// What `headers` should be after `rewrite`.
fn expected(mut headers: Headers, rewrite: &Rewrite) -> Headers {
    headers.source = rewrite.source_mac;
    headers.destination = rewrite.destination_mac;
    match &mut headers.network {
        Network::Arp(arp) => arp.sender_mac = rewrite.source_mac,
        Network::Discovery(said) => said.mac = said.mac.map(|_| rewrite.source_mac),
        Network::Ip(ip) => {
            let ports: Option<&mut Ports> = match &mut ip.transport {
                Transport::Tcp(tcp) => Some(&mut tcp.ports),
                Transport::Udp(udp) => Some(&mut udp.ports),
                Transport::Sctp(ports) => Some(ports),
                Transport::Icmp(_) | Transport::Other => None,
            };
            let mut unused = Ports { source: 0, destination: 0 };
            let ports = ports.unwrap_or(&mut unused);
            if let Some(source) = rewrite.source {
                (ip.source, ports.source) = (source.address, source.port);
            }
            if let Some(destination) = rewrite.destination {
                (ip.destination, ports.destination) = (destination.address, destination.port);
            }
            ip.ttl -= u8::from(rewrite.decrement_ttl);
        }
        Network::Other => {}
    }
    headers
}

/// Where MACs stand in a message of Neighbour Discovery.
fn macs_at(said: &Discovery, frame: &[u8]) -> Vec<u16> {
    let fixed = match said.kind {
        DiscoveryKind::RouterSolicitation => 8,
        DiscoveryKind::RouterAdvertisement => 16,
        DiscoveryKind::Solicitation | DiscoveryKind::Advertisement => 24,
        DiscoveryKind::Redirect => 40,
    };
    let (mut at, mut found) = (said.l4 + fixed, Vec::new());
    while at < said.end {
        if matches!(frame[usize::from(at)], 1 | 2) {
            found.push(at + 2);
        }
        at += u16::from(frame[usize::from(at) + 1]) * 8;
    }
    found
}

/// The frame without what a rewrite may change.
fn rest(frame: &[u8]) -> Vec<u8> {
    let headers = parse(frame).unwrap();
    let mut rest = frame.to_vec();
    let mut blank = |at: u16, length: usize| rest[usize::from(at)..][..length].fill(0);
    blank(0, 12);
    match headers.network {
        Network::Arp(_) => blank(headers.l3 + 8, 6),
        Network::Discovery(said) => {
            blank(said.l4 + 2, 2);
            for at in macs_at(&said, frame) {
                blank(at, 6);
            }
        }
        Network::Ip(ip) => {
            if ip.source.is_v4() {
                blank(headers.l3 + 8, 1);
                blank(headers.l3 + 10, 10);
            } else {
                blank(headers.l3 + 7, 33);
            }
            match ip.transport {
                Transport::Tcp(_) => {
                    blank(ip.l4, 4);
                    blank(ip.l4 + 16, 2);
                }
                Transport::Udp(_) => {
                    blank(ip.l4, 4);
                    blank(ip.l4 + 6, 2);
                }
                Transport::Sctp(_) => {
                    blank(ip.l4, 4);
                    blank(ip.l4 + 8, 4);
                }
                Transport::Icmp(_) => blank(ip.l4 + 2, 2),
                Transport::Other => {}
            }
        }
        Network::Other => {}
    }
    rest
}

fn ip(frame: &[u8]) -> Ip {
    match parse(frame).unwrap().network {
        Network::Ip(ip) => ip,
        network => panic!("not IP: {network:?}"),
    }
}

fn any_rewrite(v4: bool) -> impl Strategy<Value = Rewrite> {
    let end = move || {
        prop::option::of(any::<(u128, u16)>()).prop_map(move |end| {
            let (bits, port) = end?;
            // 2000::/8: not IPv4-mapped.
            let v6 = Ipv6Addr::from_bits(bits >> 8 | 0x20 << 120);
            endpoint(if v4 { IpAddr::V4(Ipv4Addr::from_bits(bits as u32)) } else { IpAddr::V6(v6) }, port)
        })
    };
    (end(), end(), any::<bool>()).prop_map(|(source, destination, decrement_ttl)| Rewrite {
        source,
        destination,
        decrement_ttl,
        ..BRIDGED
    })
}

fn any_frame_and_rewrite() -> impl Strategy<Value = (Vec<u8>, Rewrite)> {
    any_frame().prop_flat_map(|frame| {
        let rewrite = any_rewrite(ip(&frame).source.is_v4());
        (Just(frame), rewrite)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn any_rewrite_of_any_frame((frame, rewrite) in any_frame_and_rewrite()) {
        let out = forwarded(&frame, &rewrite);
        prop_assert_eq!(parse(&out).unwrap(), expected(parse(&frame).unwrap(), &rewrite));
        prop_assert_eq!(rest(&out), rest(&frame));
        oracle::assert_checksums(&out);
    }

    #[test]
    fn there_and_back_is_the_same_frame((frame, rewrite) in any_frame_and_rewrite()) {
        let before = ip(&frame);
        let ports = before.transport.ports().unwrap_or(Ports { source: 0, destination: 0 });
        let headers = parse(&frame).unwrap();
        let back = Rewrite {
            destination_mac: headers.destination,
            source_mac: headers.source,
            source: Some(Endpoint { address: before.source, port: ports.source }),
            destination: Some(Endpoint { address: before.destination, port: ports.destination }),
            decrement_ttl: false,
        };
        let there = forwarded(&frame, &Rewrite { decrement_ttl: false, ..rewrite });
        prop_assert_eq!(forwarded(&there, &back), frame);
    }

    /// A packet that was damaged on the way is not made good.
    #[test]
    fn a_wrong_checksum_stays_wrong((frame, rewrite) in any_frame_and_rewrite(), at: prop::sample::Index, bit in 0..8u8) {
        let before = ip(&frame);
        let payload = usize::from(before.l4)..usize::from(before.end);
        prop_assume!(before.transport != Transport::Other);
        let mut damaged = frame.clone();
        damaged[payload.start + at.index(payload.len())] ^= 1 << bit;
        prop_assume!(parse(&damaged).is_ok() && std::mem::discriminant(&ip(&damaged).transport)
            == std::mem::discriminant(&before.transport));
        let wrong = |frame: &[u8]| match oracle::checksums(frame).last() {
            Some((stored, computed)) => stored != computed,
            None => false,
        };
        // One flip may turn "no checksum" on or off.
        prop_assume!(wrong(&damaged));
        prop_assert!(wrong(&forwarded(&damaged, &rewrite)));
    }

    /// Headers of one frame, bytes of another: an error and nothing touched, or something harmless. Never a panic.
    #[test]
    fn headers_of_another_frame((frame, rewrite) in any_frame_and_rewrite(), other in any_frame(), cut: prop::sample::Index) {
        let headers = parse(&frame).unwrap();
        let mut other = other;
        other.truncate(cut.index(other.len() + 1));
        let before = other.clone();
        if forward(&headers, &rewrite, &mut other).is_err() {
            prop_assert_eq!(&other, &before);
        }
        let before = other.clone();
        if complete(&headers, &mut other) != Ok(true) {
            prop_assert_eq!(&other, &before);
        }
    }

    #[test]
    fn finished_checksums_are_left_alone(frame in any_frame()) {
        let mut out = frame.clone();
        prop_assert_eq!(complete(&parse(&frame).unwrap(), &mut out), Ok(false));
        prop_assert_eq!(out, frame);
    }

    /// Both fragments of a datagram, rewritten each by itself, make a datagram with a right checksum.
    #[test]
    fn fragments_add_up(data in prop::collection::vec(any::<u8>(), 100..300), cut in 3..12usize, tcp: bool) {
        let (protocol, datagram) = if tcp {
            (IpNumber::TCP, tcp_with(V4, &data, |_| ()))
        } else {
            (IpNumber::UDP, udp(V4, &data))
        };
        let fragment = |offset: usize, payload: &[u8], more| {
            ethernet(EtherType::IPV4, &ipv4_with(protocol, payload, |ip| {
                ip.dont_fragment = false;
                ip.more_fragments = more;
                ip.fragment_offset = (offset as u16).try_into().unwrap();
            }))
        };
        let first = forwarded(&fragment(0, &datagram[..cut * 8], true), &nat());
        let later = forwarded(&fragment(cut, &datagram[cut * 8..], false), &nat());
        prop_assert_eq!((ip(&first).fragment, ip(&later).fragment), (Fragment::First, Fragment::Later));
        oracle::assert_checksums(&first);
        oracle::assert_checksums(&later);
        let whole = [&first[34..], &later[34..]].concat();
        let (stored, computed) = oracle::transport_checksum(&ip(&first), &first[14..], &whole).unwrap();
        prop_assert_eq!(stored, computed);
        prop_assert_eq!(&later[34..], &datagram[cut * 8..]);
    }
}

#[test]
fn every_fixture_rewritten() {
    for fixture in fixtures::all().into_iter().filter(|fixture| fixture.outcome.is_ok()) {
        let headers = parse(&fixture.frame).unwrap();
        let v4 = matches!(headers.network, Network::Ip(ip) if ip.source.is_v4());
        let rewrite = if v4 { nat() } else { BRIDGED };
        let out = forwarded(&fixture.frame, &rewrite);
        assert_eq!(parse(&out).unwrap(), expected(headers, &rewrite), "{}", fixture.name);
        assert_eq!(rest(&out), rest(&fixture.frame), "{}", fixture.name);
        if !fixture.name.contains("partial") {
            oracle::assert_checksums(&out);
        }
    }
}

#[test]
fn macs_alone_touch_nothing_else() {
    for fixture in fixtures::all().into_iter().filter(|fixture| fixture.outcome.is_ok()) {
        let out = forwarded(&fixture.frame, &BRIDGED);
        let mut expected = fixture.frame.clone();
        expected[..6].copy_from_slice(&DESTINATION_MAC.0);
        expected[6..12].copy_from_slice(&SOURCE_MAC.0);
        match parse(&fixture.frame).unwrap() {
            Headers { network: Network::Arp(_), l3, .. } => {
                expected[usize::from(l3) + 8..][..6].copy_from_slice(&SOURCE_MAC.0);
            }
            Headers { network: Network::Discovery(said), .. } => {
                for at in macs_at(&said, &fixture.frame) {
                    expected[usize::from(at)..][..6].copy_from_slice(&SOURCE_MAC.0);
                }
                expected[usize::from(said.l4) + 2..][..2].copy_from_slice(&out[usize::from(said.l4) + 2..][..2]);
                oracle::assert_checksums(&out);
            }
            _ => {}
        }
        assert_eq!(out, expected, "{}", fixture.name);
    }
}

#[test]
fn udp_without_checksum_stays_without() {
    let out = forwarded(&fixture("udp_zero_checksum"), &nat());
    assert_eq!(out[34 + 6..34 + 8], [0, 0]);
}

/// Every port, and so every possible checksum: among them the 0 that is sent as 0xffff, and the way back from it.
#[test]
fn udp_checksums_of_every_port() {
    let frame = fixture("udp");
    let mut zeros = 0;
    for port in 0..=u16::MAX {
        let there = Rewrite { destination: endpoint([10, 1, 2, 3], port), ..BRIDGED };
        let out = forwarded(&frame, &there);
        let (header, payload) = UdpHeader::from_slice(&out[34..]).unwrap();
        let computed = header.calc_checksum_ipv4_raw(CLIENT, [10, 1, 2, 3], payload).unwrap();
        assert_eq!(header.checksum, computed, "port {port}");
        assert_ne!(header.checksum, 0, "port {port}: this says that there is none");
        zeros += usize::from(header.checksum == 0xffff);
        let back = Rewrite { destination: endpoint(VIP, VIP_PORT), ..BRIDGED };
        assert_eq!(forwarded(&out, &back)[34..], frame[34..], "port {port}");
    }
    assert_eq!(zeros, 1);
}

#[test]
fn a_ttl_that_ends_here() {
    for ttl in [0, 1] {
        let packet = ipv4_with(IpNumber::TCP, &tcp_with(V4, &[], |_| ()), |ip| ip.time_to_live = ttl);
        let frame = ethernet(EtherType::IPV4, &packet);
        let mut out = frame.clone();
        assert_eq!(forward(&parse(&frame).unwrap(), &nat(), &mut out), Err(Reason::TtlExceeded));
        assert_eq!(out, frame);
        // A bridge does not look at it.
        assert_eq!(forward(&parse(&frame).unwrap(), &BRIDGED, &mut out), Ok(()));
    }
}

#[test]
fn an_address_of_the_other_family() {
    let v6 = Rewrite { source: endpoint(Ipv6Addr::LOCALHOST, 1), ..BRIDGED };
    let v4 = Rewrite { destination: endpoint(Ipv4Addr::LOCALHOST, 1), ..BRIDGED };
    for (name, rewrite) in [("tcp_syn", v6), ("ipv6_tcp", v4)] {
        let frame = fixture(name);
        let mut out = frame.clone();
        assert_eq!(forward(&parse(&frame).unwrap(), &rewrite, &mut out), Err(Reason::Runt));
        assert_eq!(out, frame);
    }
}

#[test]
fn an_sctp_fragment_keeps_its_ports() {
    let packet = ipv4_with(IpNumber::SCTP, &sctp(CLIENT_PORT, VIP_PORT, &payload(20))[..24], |ip| {
        (ip.dont_fragment, ip.more_fragments) = (false, true);
    });
    let frame = ethernet(EtherType::IPV4, &packet);
    let mut out = frame.clone();
    assert_eq!(forward(&parse(&frame).unwrap(), &nat(), &mut out), Err(Reason::ServiceFragment));
    assert_eq!(out, frame);
    let addresses = Rewrite { destination: endpoint([10, 1, 2, 3], VIP_PORT), ..BRIDGED };
    let out = forwarded(&frame, &addresses);
    assert_eq!(out[34..], frame[34..], "its checksum covers no address");
    oracle::assert_checksums(&out);
}

#[test]
fn partial_checksums_are_finished() {
    for name in ["tcp", "udp"] {
        let good = fixture(if name == "tcp" { "tcp_data" } else { "udp" });
        let mut frame = fixture(&format!("{name}_partial_checksum"));
        let headers = parse(&frame).unwrap();
        assert_eq!(complete(&headers, &mut frame), Ok(true), "{name}");
        assert_eq!(frame, good, "{name}");
        assert_eq!(complete(&headers, &mut frame), Ok(false), "{name}");
        oracle::assert_checksums(&forwarded(&frame, &nat()));
    }
}

#[test]
fn a_partial_checksum_of_udp_that_comes_to_zero_is_sent_as_ffff() {
    // The two bytes of payload that are left over after the rest is summed up.
    let rest = udp(V4, &[0, 0]);
    let frame = ethernet(EtherType::IPV4, &ipv4(IpNumber::UDP, &udp(V4, &rest[6..8])));
    assert_eq!(frame[40..42], [0xff, 0xff]);
    let mut partial = frame.clone();
    let pseudo = 0xc000_u32 + 0x0207 + 0x0a60 + 0x0001 + 17 + 10;
    partial[40..42].copy_from_slice(&(pseudo as u16).to_be_bytes());
    assert_eq!(complete(&parse(&partial).unwrap(), &mut partial), Ok(true));
    assert_eq!(partial, frame);
}

/// One finished frame in 65,536 has, by chance, what an unfinished one would have.
#[test]
fn a_finished_checksum_that_looks_unfinished() {
    let pseudo: u16 = 0xcce6;
    let mut found = 0;
    for window in 0..=u16::MAX {
        let segment = tcp_with(V4, &payload(100), |tcp| tcp.window_size = window);
        let (header, _) = TcpHeader::from_slice(&segment).unwrap();
        if header.checksum == pseudo {
            let frame = ethernet(EtherType::IPV4, &ipv4(IpNumber::TCP, &segment));
            let mut out = frame.clone();
            assert_eq!(complete(&parse(&frame).unwrap(), &mut out), Ok(false));
            assert_eq!(out, frame);
            found += 1;
        }
    }
    assert_eq!(found, 1);
}

/// The table in the header of `forward.rs`: IPv4 header checksum as RFC 1812, 5.3.1, wants it after a router.
#[test]
fn ttl_alone() {
    let frame = fixture("icmp_echo");
    let out = forwarded(&frame, &Rewrite { decrement_ttl: true, ..BRIDGED });
    let (header, _) = Ipv4Header::from_slice(&out[14..]).unwrap();
    assert_eq!(header.time_to_live, 63);
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    assert_eq!(out[34..], frame[34..]);
}
