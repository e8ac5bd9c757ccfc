//! `rewrite::reply`: each answer against the one that etherparse builds, or reads again.

use etherparse::{
    ArpEthIpv4Packet, ArpOperation, EtherType, Icmpv4Type, Icmpv6Type, IpNumber, Ipv4Header, SlicedPacket, TcpHeader,
    TransportSlice, icmpv4, icmpv6,
};
use levee_api::net::Mac;
use levee_dataplane::headers::{Fragment, Headers, Network, Transport};
use levee_dataplane::parse::parse;
use levee_dataplane::reason::Reason;
use levee_dataplane::rewrite::{PacketBuf, reply};
use levee_dataplane::verdict::Reply;
use proptest::prelude::*;

use crate::build::*;
use crate::parsing::any_frame;
use crate::{fixtures, oracle};

const MAC: Mac = Mac([0x02, 0, 0x5e, 0x10, 0, 0xaa]);
const ARP: Reply = Reply::ArpIsAt { mac: MAC };
const ECHO: Reply = Reply::Echo { mac: MAC };
const RESET: Reply = Reply::TcpReset { mac: MAC };
const UNREACHABLE: Reply = Reply::PortUnreachable { mac: MAC };

/// The answer to `frame`, in a chunk of 2,048 bytes full of what others left there.
fn answer(frame: &[u8], kind: &Reply) -> Result<Vec<u8>, Reason> {
    let mut chunk = vec![0xee; 2048.max(frame.len() + 512)];
    chunk[256..256 + frame.len()].copy_from_slice(frame);
    let mut packet = PacketBuf::new(&mut chunk, 256, frame.len()).unwrap();
    reply(&parse(frame).unwrap(), kind, &mut packet)?;
    assert_eq!(packet.start(), 256);
    Ok(packet.frame().to_vec())
}

fn fixture(name: &str) -> Vec<u8> {
    fixtures::all().into_iter().find(|fixture| fixture.name == name).unwrap().frame
}

/// A frame back to the client from `MAC`.
fn back(ether_type: EtherType, packet: &[u8]) -> Vec<u8> {
    let mut frame = ethernet(ether_type, packet);
    frame[..6].copy_from_slice(&CLIENT_MAC);
    frame[6..12].copy_from_slice(&MAC.0);
    padded(frame)
}

/// An IPv4 packet back from the VIP.
fn back_v4(protocol: IpNumber, tos: u8, payload: &[u8]) -> Vec<u8> {
    let packet = ipv4_with(protocol, payload, |ip| {
        (ip.source, ip.destination, ip.identification) = (VIP, CLIENT, 0);
        (ip.dscp, ip.ecn) = ((tos >> 2).try_into().unwrap(), (tos & 3).try_into().unwrap());
    });
    back(EtherType::IPV4, &packet)
}

const BACK_V4: Addresses = Addresses::V4(VIP, CLIENT);
const BACK_V6: Addresses = Addresses::V6(VIP_V6, CLIENT_V6);

fn back_v6(payload: &[u8], next: IpNumber) -> Vec<u8> {
    let packet = ipv6_with(next, payload, |ip| {
        (ip.source, ip.destination, ip.flow_label) = (VIP_V6, CLIENT_V6, etherparse::Ipv6FlowLabel::ZERO);
    });
    back(EtherType::IPV6, &packet)
}

fn is_at(target: [u8; 4]) -> Vec<u8> {
    let packet = ArpEthIpv4Packet {
        operation: ArpOperation::REPLY,
        sender_mac: MAC.0,
        sender_ipv4: VIP,
        target_mac: CLIENT_MAC,
        target_ipv4: target,
    };
    back(EtherType::ARP, &packet.to_bytes())
}

#[test]
fn arp_requests_and_probes() {
    assert_eq!(answer(&fixture("arp_request"), &ARP).unwrap(), is_at(CLIENT));
    assert_eq!(answer(&fixture("arp_probe"), &ARP).unwrap(), is_at([0; 4]));
    assert_eq!(answer(&fixture("arp_reply"), &ARP), Err(Reason::NoReplyAllowed));
}

/// RFC 4861, 7.2.4 and 7.2.8: as etherparse would write them. A probe is answered to all nodes, but on the wire to the asker
/// alone.
#[test]
fn solicitations_and_probes() {
    let own = Reply::NeighbourIsAt { mac: MAC, proxied: false };
    let proxied = Reply::NeighbourIsAt { mac: MAC, proxied: true };
    let advertised = |flags, to: [u8; 16]| {
        let frame = discovery(136, flags, &[&VIP_V6[..], &[2, 1], &MAC.0].concat(), &|ip| {
            (ip.source, ip.destination, ip.flow_label) = (VIP_V6, to, etherparse::Ipv6FlowLabel::ZERO);
        });
        back(EtherType::IPV6, &frame[14..])
    };
    for name in ["ipv6_neighbour_solicitation", "ipv6_neighbour_solicitation_unicast"] {
        assert_eq!(answer(&fixture(name), &own).unwrap(), advertised(0x60, CLIENT_V6), "{name}");
        assert_eq!(answer(&fixture(name), &proxied).unwrap(), advertised(0x40, CLIENT_V6), "{name}");
    }
    for name in ["ipv6_neighbour_probe", "ipv6_neighbour_nonce"] {
        assert_eq!(answer(&fixture(name), &own).unwrap(), advertised(0x20, ALL_NODES), "{name}");
        assert_eq!(answer(&fixture(name), &proxied).unwrap(), advertised(0, ALL_NODES), "{name}");
    }
    let tagged = answer(&fixture("vlan_ndp"), &own).unwrap();
    assert_eq!(tagged[12..18], fixture("vlan_ndp")[12..18]);
    assert_eq!(tagged[18..], advertised(0x60, CLIENT_V6)[14..]);
    for name in ["ipv6_neighbour_advertisement", "ipv6_router_solicitation", "ipv6_redirect", "arp_request", "udp"] {
        assert_eq!(answer(&fixture(name), &own), Err(Reason::NoReplyAllowed), "{name}");
    }
}

/// The Ethernet answer goes where the question came from; inside stands who asked. A bridge that rewrites source MACs
/// makes them two.
#[test]
fn arp_from_behind_a_rewriting_bridge() {
    let mut frame = fixture("arp_request");
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    let mut expected = is_at(CLIENT);
    expected[..6].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    assert_eq!(answer(&frame, &ARP).unwrap(), expected);
}

#[test]
fn what_stood_in_the_padding_is_not_sent_back() {
    let mut frame = fixture("arp_request");
    frame[42..].fill(0x55);
    frame.extend([0x55; 20]);
    assert_eq!(answer(&frame, &ARP).unwrap(), is_at(CLIENT));
    let echo = etherparse::IcmpEchoHeader { id: 1, seq: 2 };
    let mut frame =
        padded(ethernet(EtherType::IPV4, &ipv4(IpNumber::ICMP, &icmp(Icmpv4Type::EchoRequest(echo), b"x"))));
    frame[43..].fill(0x55);
    assert_eq!(answer(&frame, &ECHO).unwrap(), back_v4(IpNumber::ICMP, 0, &icmp(Icmpv4Type::EchoReply(echo), b"x")));
}

#[test]
fn tags_are_kept() {
    let out = answer(&fixture("vlan_arp"), &ARP).unwrap();
    assert_eq!(out[12..18], fixture("vlan_arp")[12..18]);
    assert_eq!(out[18..46], is_at(CLIENT)[14..42]);
    for name in ["vlan", "qinq"] {
        for kind in [RESET, UNREACHABLE] {
            let frame = fixture(name);
            let (before, after) = (parse(&frame).unwrap(), parse(&answer(&frame, &kind).unwrap()).unwrap());
            assert_eq!((after.vlans, after.l3), (before.vlans, before.l3), "{name}");
        }
    }
}

#[test]
fn echo() {
    let echo = etherparse::IcmpEchoHeader { id: 0x1234, seq: 1 };
    let v4 = icmp(Icmpv4Type::EchoReply(echo), &payload(56));
    assert_eq!(answer(&fixture("icmp_echo"), &ECHO).unwrap(), back_v4(IpNumber::ICMP, 0, &v4));
    let v6 = icmp_v6(BACK_V6, Icmpv6Type::EchoReply(echo), &payload(56));
    assert_eq!(answer(&fixture("ipv6_icmp_echo"), &ECHO).unwrap(), back_v6(&v6, IpNumber::IPV6_ICMP));
}

#[test]
fn echo_without_the_options_of_the_way_here() {
    let echo = etherparse::IcmpEchoHeader { id: 0x1234, seq: 1 };
    let request = icmp(Icmpv4Type::EchoRequest(echo), &payload(56));
    let packet = ipv4_with(IpNumber::ICMP, &request, |ip| {
        (ip.options, ip.dscp) = ([7, 7, 4, 0, 0, 0, 0, 0].into(), 10.try_into().unwrap());
        ip.set_payload_len(request.len()).unwrap();
    });
    let expected = back_v4(IpNumber::ICMP, 10 << 2, &icmp(Icmpv4Type::EchoReply(echo), &payload(56)));
    assert_eq!(answer(&ethernet(EtherType::IPV4, &packet), &ECHO).unwrap(), expected);

    let request = icmp_v6(V6, Icmpv6Type::EchoRequest(echo), &payload(56));
    let packet = ipv6(etherparse::ip_number::IPV6_HOP_BY_HOP, &extension(IpNumber::IPV6_ICMP, &PADDING, &request));
    let expected = back_v6(&icmp_v6(BACK_V6, Icmpv6Type::EchoReply(echo), &payload(56)), IpNumber::IPV6_ICMP);
    assert_eq!(answer(&ethernet(EtherType::IPV6, &packet), &ECHO).unwrap(), expected);
}

/// RFC 9293, 3.5.2, group 1, and 3.10.7.1: the segment's flags and payload; sequence, acknowledgement and flags of the RST.
#[test]
fn resets() {
    const SEQ: u32 = 0x0102_0304;
    const ACKED: u32 = 0x5566_7788;
    let ack = |tcp: &mut TcpHeader| (tcp.ack, tcp.acknowledgment_number) = (true, ACKED);
    type Case<'a> = (&'a str, &'a dyn Fn(&mut TcpHeader), usize, (u32, u32, bool));
    let cases: [Case<'_>; 9] = [
        ("SYN counts one", &|tcp| tcp.syn = true, 0, (0, SEQ + 1, true)),
        ("SYN with data (fast open)", &|tcp| tcp.syn = true, 10, (0, SEQ + 11, true)),
        ("FIN counts one", &|tcp| tcp.fin = true, 0, (0, SEQ + 1, true)),
        ("SYN and FIN", &|tcp| (tcp.syn, tcp.fin) = (true, true), 0, (0, SEQ + 2, true)),
        ("nothing", &|_| (), 0, (0, SEQ, true)),
        ("data", &|_| (), 100, (0, SEQ + 100, true)),
        ("sequence numbers wrap", &|tcp| (tcp.syn, tcp.sequence_number) = (true, u32::MAX), 0, (0, 0, true)),
        ("ACK", &|tcp| ack(tcp), 0, (ACKED, 0, false)),
        ("SYN and ACK, with data", &|tcp| (ack(tcp), tcp.syn = true).1, 5, (ACKED, 0, false)),
    ];
    for (name, change, length, (sequence, acknowledgement, acks)) in cases {
        let rst = |tcp: &mut TcpHeader| {
            (tcp.source_port, tcp.destination_port, tcp.window_size) = (VIP_PORT, CLIENT_PORT, 0);
            (tcp.sequence_number, tcp.acknowledgment_number) = (sequence, acknowledgement);
            (tcp.rst, tcp.ack) = (true, acks);
        };
        let segment = tcp_with(V4, &payload(length), change);
        let out = answer(&ethernet(EtherType::IPV4, &ipv4(IpNumber::TCP, &segment)), &RESET).unwrap();
        assert_eq!(out, back_v4(IpNumber::TCP, 0, &tcp_with(BACK_V4, &[], rst)), "{name}");

        let segment = tcp_with(V6, &payload(length), change);
        let out = answer(&ethernet(EtherType::IPV6, &ipv6(IpNumber::TCP, &segment)), &RESET).unwrap();
        assert_eq!(out, back_v6(&tcp_with(BACK_V6, &[], rst), IpNumber::TCP), "{name}, IPv6");
    }
}

#[test]
fn a_reset_of_a_segment_with_options_and_tos() {
    let mut segment = TcpHeader::new(CLIENT_PORT, VIP_PORT, 9, 0);
    segment.syn = true;
    segment.set_options_raw(&[1; 40]).unwrap();
    let packet = ipv4_with(IpNumber::TCP, &segment.to_bytes(), |ip| {
        (ip.options, ip.dscp, ip.ecn) = ([1; 40].into(), 46.try_into().unwrap(), 2.try_into().unwrap());
        ip.set_payload_len(60).unwrap();
    });
    let rst = tcp_with(BACK_V4, &[], |tcp| {
        (tcp.source_port, tcp.destination_port, tcp.window_size) = (VIP_PORT, CLIENT_PORT, 0);
        (tcp.sequence_number, tcp.acknowledgment_number, tcp.rst, tcp.ack) = (0, 10, true, true);
    });
    // DSCP 46 stays; ECT does not.
    assert_eq!(answer(&ethernet(EtherType::IPV4, &packet), &RESET).unwrap(), back_v4(IpNumber::TCP, 46 << 2, &rst));
}

#[test]
fn unreachable_quotes_what_fits() {
    let port = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port);
    let port_v6 = Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::Port);
    for length in [0, 1, 18, 100, 519, 520, 521, 1400] {
        let packet = ipv4(IpNumber::UDP, &udp(V4, &payload(length)));
        let out = answer(&padded(ethernet(EtherType::IPV4, &packet)), &UNREACHABLE).unwrap();
        let quoted = &packet[..packet.len().min(576 - 28)];
        assert_eq!(out, back_v4(IpNumber::ICMP, 0xc0, &icmp(port.clone(), quoted)), "{length}");
        assert!(out.len() <= 14 + 576);

        let packet = ipv6(IpNumber::UDP, &udp(V6, &payload(length)));
        let out = answer(&padded(ethernet(EtherType::IPV6, &packet)), &UNREACHABLE).unwrap();
        let quoted = &packet[..packet.len().min(1280 - 48)];
        let expected = icmp_v6(BACK_V6, port_v6, quoted);
        assert_eq!(out, back_v6(&expected, IpNumber::IPV6_ICMP), "{length}, IPv6");
        assert!(out.len() <= 14 + 1280);
    }
}

#[test]
fn the_giant_is_quoted_too() {
    assert_eq!(answer(&fixture("giant"), &UNREACHABLE).unwrap().len(), 14 + 576);
}

/// RFC 1122, 3.2.2; RFC 4443, 2.4 (e); RFC 9293, 3.5.2.
#[test]
fn what_may_not_be_answered() {
    let v4 =
        |change: &dyn Fn(&mut Ipv4Header)| ethernet(EtherType::IPV4, &ipv4_with(IpNumber::UDP, &udp(V4, b""), change));
    let broadcast = |mut frame: Vec<u8>| {
        frame[..6].fill(0xff);
        frame
    };
    let echo = etherparse::IcmpEchoHeader { id: 0x1234, seq: 1 };
    let long_echo = ipv4_with(IpNumber::ICMP, &icmp(Icmpv4Type::EchoRequest(echo), &payload(64)), |ip| {
        (ip.dont_fragment, ip.more_fragments) = (false, true);
    });
    let odd_echo = Icmpv4Type::Unknown { type_u8: 8, code_u8: 1, bytes5to8: [0; 4] };
    let cases = [
        ("RST", fixture("tcp_rst"), RESET),
        ("ICMP error", fixture("icmp_unreachable"), UNREACHABLE),
        ("ICMPv6 redirect", fixture("ipv6_redirect"), UNREACHABLE),
        ("later fragment", fixture("ipv4_fragment_later"), UNREACHABLE),
        ("later fragment, IPv6", fixture("ipv6_fragment_later"), UNREACHABLE),
        ("broadcast MAC", broadcast(fixture("udp")), UNREACHABLE),
        ("broadcast MAC, TCP", broadcast(fixture("tcp_syn")), RESET),
        ("broadcast MAC, echo", broadcast(fixture("icmp_echo")), ECHO),
        ("group destination", v4(&|ip| ip.destination = [224, 0, 0, 1]), UNREACHABLE),
        ("from nobody", v4(&|ip| ip.source = [0; 4]), UNREACHABLE),
        ("from loopback", v4(&|ip| ip.source = [127, 0, 0, 1]), UNREACHABLE),
        ("from a group", v4(&|ip| ip.source = [239, 1, 1, 1]), UNREACHABLE),
        ("from everybody", v4(&|ip| ip.source = [255; 4]), UNREACHABLE),
        ("echo reply", fixture("icmp_echo_reply"), ECHO),
        ("echo with a code", ethernet(EtherType::IPV4, &ipv4(IpNumber::ICMP, &icmp(odd_echo, b""))), ECHO),
        ("a piece of an echo", ethernet(EtherType::IPV4, &long_echo), ECHO),
        ("not TCP", fixture("udp"), RESET),
        ("not ICMP", fixture("udp"), ECHO),
        ("not ARP", fixture("udp"), ARP),
        ("not IP", fixture("arp_request"), UNREACHABLE),
        ("not known", fixture("lldp"), UNREACHABLE),
    ];
    for (name, frame, kind) in cases {
        assert_eq!(answer(&frame, &kind), Err(Reason::NoReplyAllowed), "{name}");
    }
}

#[test]
fn a_chunk_without_room() {
    let frame = fixture("udp");
    let headers = parse(&frame).unwrap();
    let mut chunk = frame.clone();
    let length = chunk.len();
    let mut packet = PacketBuf::new(&mut chunk, 0, length).unwrap();
    assert_eq!(reply(&headers, &UNREACHABLE, &mut packet), Err(Reason::Giant));
    assert_eq!(packet.frame(), frame);
    assert!(PacketBuf::new(&mut chunk, 1, length).is_none());
    assert!(PacketBuf::new(&mut chunk, usize::MAX, 2).is_none());
}

#[test]
fn a_packet_buf_grows_by_zeros() {
    let mut chunk = [0xee; 16];
    let mut packet = PacketBuf::new(&mut chunk, 4, 4).unwrap();
    packet.frame_mut().copy_from_slice(&[1, 2, 3, 4]);
    packet.resize(2).unwrap();
    packet.resize(6).unwrap();
    assert_eq!(packet.frame(), [1, 2, 0, 0, 0, 0]);
    assert_eq!(packet.resize(13), Err(Reason::Giant));
    assert_eq!(packet.len(), 6);
    packet.resize(12).unwrap();
    assert_eq!(chunk, [0xee, 0xee, 0xee, 0xee, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

/// What holds for every answer.
#[track_caller]
fn is_an_answer(before: &Headers, out: &[u8]) {
    let after = oracle::headers(out).expect("a frame that the oracle accepts");
    assert!(out.len() >= 60);
    assert_eq!((after.source, after.destination), (MAC, before.source));
    assert_eq!((after.vlans, after.ethertype, after.l3), (before.vlans, before.ethertype, before.l3));
    oracle::assert_checksums(out);
    let (Network::Ip(asked), Network::Ip(answered)) = (before.network, after.network) else {
        panic!("only IP is answered here")
    };
    assert_eq!((answered.source, answered.destination), (asked.destination, asked.source));
    assert_eq!((answered.ttl, answered.fragment), (64, Fragment::Whole));
    assert!(out[usize::from(answered.end)..].iter().all(|byte| *byte == 0));
    match SlicedPacket::from_ethernet(out).unwrap().transport {
        Some(TransportSlice::Tcp(tcp)) => assert!(tcp.rst() && tcp.payload().is_empty()),
        Some(TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_)) => {}
        transport => panic!("{transport:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn any_answer_to_any_frame(frame in any_frame(), which in 0..3usize) {
        let headers = parse(&frame).unwrap();
        let Network::Ip(ip) = headers.network else { unreachable!() };
        let wanted = matches!((which, ip.transport), (0, Transport::Icmp(_)) | (1, Transport::Tcp(_)) | (2, _));
        let answerable = !ip.source.is_martian() && !ip.destination.is_multicast()
            && !matches!((which, ip.transport), (1, Transport::Tcp(tcp)) if tcp.flags & 4 != 0);
        match answer(&frame, [&ECHO, &RESET, &UNREACHABLE][which]) {
            Ok(out) => {
                prop_assert!(wanted && answerable);
                // Of an answer from a martian the oracle has no opinion.
                is_an_answer(&headers, &out);
            }
            Err(reason) => {
                prop_assert_eq!(reason, Reason::NoReplyAllowed);
                prop_assert!(!(wanted && answerable));
            }
        }
    }

    /// Headers of one frame, bytes of another, chunks of any size: no panic, and never a byte outside the chunk.
    #[test]
    fn headers_of_another_frame(
        frame in any_frame(), other in any_frame(), start in 0..64usize, cut: prop::sample::Index, room in 0..700usize,
        which in 0..4usize,
    ) {
        let headers = parse(&frame).unwrap();
        let length = cut.index(other.len() + 1);
        let mut chunk = vec![0xee; start];
        chunk.extend(&other[..length]);
        chunk.resize(chunk.len() + room, 0xee);
        let mut packet = PacketBuf::new(&mut chunk, start, length).unwrap();
        let _ = reply(&headers, [&ARP, &ECHO, &RESET, &UNREACHABLE][which], &mut packet);
        prop_assert!(packet.start() == start && packet.frame().len() == packet.len());
        prop_assert!(chunk[..start].iter().all(|byte| *byte == 0xee));
    }
}
