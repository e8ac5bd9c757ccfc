//! The real program, on named frames, by BPF_PROG_TEST_RUN; what it decided is read from its counters.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::Ipv6Addr;

use af_xdp::xdp::{Action, TestRun};
use etherparse::{ArpHardwareId, ArpOperation, ArpPacket};
use etherparse::{EtherType, IpNumber, PacketBuilder, PacketBuilderStep, VlanId};
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

const POD: [u8; 4] = [10, 244, 1, 7];
const VIP: [u8; 4] = [192, 0, 2, 80];
const NODE: [u8; 4] = [192, 0, 2, 1];
const PEER: [u8; 4] = [192, 0, 2, 9];
const NODE_PORT: u16 = 30_080;
const SNAT_PORT: u16 = 61_234;
const FAR_PORT: u16 = 4789;

fn pod6() -> Ipv6Addr {
    "2001:db8:1::7".parse().unwrap()
}

fn node6() -> Ipv6Addr {
    "2001:db8::1".parse().unwrap()
}

fn peer6() -> Ipv6Addr {
    "2001:db8::9".parse().unwrap()
}

fn example() -> SteeringSet {
    let net = |text: &str| text.parse::<IpNet>().unwrap();
    let range = |text: &str| text.parse::<PortRange>().unwrap();
    SteeringSet {
        take: Take::Owned,
        own: [net("10.244.1.0/24"), net("192.0.2.80/32"), net("2001:db8:1::/64")].into(),
        share: [IpAddr::from(NODE), IpAddr::from(node6())].into(),
        ports: [
            (Protocol::Tcp, range("30080")),
            (Protocol::Tcp, range("61000-65535")),
            (Protocol::Udp, range("61000-65535")),
            (Protocol::Sctp, range("30080")),
        ]
        .into(),
        ip_in_ip: true,
        far_ports: [FAR_PORT].into(),
    }
}

/// Steering that does `set`, if this process may load programs.
fn steering(set: &SteeringSet) -> Option<Steering> {
    match Steering::new(1, false) {
        Ok(mut steering) => {
            steering.apply(set).unwrap();
            Some(steering)
        }
        Err(error) if error.errno() == Some(rustix::io::Errno::PERM.raw_os_error()) => {
            eprintln!("SKIPPED: loading an XDP program needs CAP_BPF and CAP_NET_ADMIN ({error})");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// What the program decides on a frame. There is no socket, so what it takes is passed in the end, and counted as
/// such too.
#[track_caller]
fn decide(steering: &Steering, frame: &[u8]) -> Class {
    let before = steering.counts().unwrap();
    let outcome = steering.program.test_run(frame, TestRun::default()).unwrap();
    assert_eq!(outcome.action, Action::Pass);
    assert_eq!(outcome.frame, frame, "the program changed the frame");
    let after = steering.counts().unwrap();
    let grown = |class: &Class| after.get(*class) - before.get(*class);
    let classes: Vec<Class> = Class::ALL.into_iter().filter(|class| grown(class) > 0).collect();
    match classes[..] {
        [class] if !class.is_taken() && grown(&class) == 1 => class,
        [class, Class::NoSocket] if class.is_taken() && grown(&class) == 1 && grown(&Class::NoSocket) == 1 => class,
        _ => panic!("counted as {classes:?}"),
    }
}

fn ethernet() -> PacketBuilderStep<etherparse::Ethernet2Header> {
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1])
}

fn v4(destination: [u8; 4]) -> PacketBuilderStep<etherparse::IpHeaders> {
    ethernet().ipv4(PEER, destination, 64)
}

fn v6(destination: Ipv6Addr) -> PacketBuilderStep<etherparse::IpHeaders> {
    ethernet().ipv6(peer6().octets(), destination.octets(), 64)
}

fn tcp(step: PacketBuilderStep<etherparse::IpHeaders>, port: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    step.tcp(40_000, port, 1, 1024).write(&mut frame, b"payload").unwrap();
    frame
}

fn udp(step: PacketBuilderStep<etherparse::IpHeaders>, port: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    step.udp(40_000, port).write(&mut frame, b"payload").unwrap();
    frame
}

fn arp(operation: ArpOperation, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let packet = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        operation,
        &[2, 0, 0, 0, 0, 9],
        &sender,
        &[0; 6],
        &target,
    );
    let mut frame = Vec::new();
    ethernet().arp(packet.unwrap()).write(&mut frame).unwrap();
    frame
}

/// Neighbour solicitation (135) or advertisement (136), RFC 4861.
fn neighbour(kind: u8, destination: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let mut frame = Vec::new();
    v6(destination).icmpv6_raw(kind, 0, [0; 4]).write(&mut frame, &target.octets()).unwrap();
    frame
}

/// IPv4 with that many words of options, all of them "no operation".
fn with_options(words: usize, port: u16) -> Vec<u8> {
    let mut frame = tcp(v4(NODE), port);
    frame.splice(34..34, vec![1u8; words * 4]);
    frame[14] = 0x45 + words as u8;
    frame
}

/// An ICMP error to the node about a packet of its own, from this port.
fn error(kind: u8, protocol: u8, from: u16, options: usize) -> Vec<u8> {
    let mut quoted = with_options(options, 0)[14..][..20 + options * 4 + 8].to_vec();
    quoted[9] = protocol;
    quoted[20 + options * 4..][..2].copy_from_slice(&from.to_be_bytes());
    let mut frame = Vec::new();
    v4(NODE).icmpv4_raw(kind, 4, [0, 0, 5, 20]).write(&mut frame, &quoted).unwrap();
    frame
}

/// The same about a packet to the port of a tunnel's far end; behind an IP header of that length.
fn about(mut error: Vec<u8>, header: usize) -> Vec<u8> {
    let quoted = if error[12] == 0x86 { 62 } else { 42 };
    error[quoted + header + 2..][..2].copy_from_slice(&FAR_PORT.to_be_bytes());
    error
}

/// As [`error`], of IPv6.
fn error6(kind: u8, from: u16) -> Vec<u8> {
    let mut quoted = tcp(v6(peer6()), 0)[14..][..48].to_vec();
    quoted[40..42].copy_from_slice(&from.to_be_bytes());
    let mut frame = Vec::new();
    v6(node6()).icmpv6_raw(kind, 0, [0, 0, 5, 20]).write(&mut frame, &quoted).unwrap();
    frame
}

/// TCP to the node, behind a fragment header.
fn fragment6(port: u16, identification: u8, offset: u16, more: bool) -> Vec<u8> {
    let mut frame = tcp(v6(node6()), port);
    let field = (offset | u16::from(more)).to_be_bytes();
    frame.splice(54..54, [6, 0, field[0], field[1], 0, 0, 0, identification]);
    frame[20] = 44;
    frame
}

/// Every case by name: the frame, and what becomes of it under [`example`].
fn cases() -> Vec<(&'static str, Vec<u8>, Class)> {
    let fragment = |offset: u16, more: bool| {
        let mut frame = tcp(v4(NODE), NODE_PORT);
        let field = offset | if more { 0x2000 } else { 0 };
        // Of another datagram than first ones.
        frame[19] = u8::from(offset > 0);
        frame[20..22].copy_from_slice(&field.to_be_bytes());
        frame
    };
    let vlan = |destination| {
        let step = ethernet().single_vlan(VlanId::try_new(7).unwrap());
        tcp(step.ipv4(PEER, destination, 64), 80)
    };
    let qinq = |destination| {
        let step = ethernet().double_vlan(VlanId::try_new(7).unwrap(), VlanId::try_new(8).unwrap());
        tcp(step.ipv4(PEER, destination, 64), 80)
    };
    let three_tags = || {
        let mut frame = qinq(POD);
        frame.splice(12..12, [0x81, 0, 0, 1]);
        frame
    };
    let set = |mut frame: Vec<u8>, at: usize, value: u8| {
        frame[at] = value;
        frame
    };
    let sctp = |port: u16| {
        let mut frame = Vec::new();
        let header = [0x9c, 0x40, (port >> 8) as u8, port as u8, 0, 0, 0, 0, 0, 0, 0, 0];
        v4(NODE).write(&mut frame, IpNumber::SCTP, &header).unwrap();
        frame
    };
    let inside = |protocol: u8| {
        let mut frame = Vec::new();
        v4(NODE).write(&mut frame, IpNumber(protocol), &[0; 20]).unwrap();
        frame
    };
    let ping = |destination| {
        let mut frame = Vec::new();
        v4(destination).icmpv4_echo_request(1, 1).write(&mut frame, b"ping").unwrap();
        frame
    };
    let from_pod = |mut frame: Vec<u8>| {
        frame[22..38].copy_from_slice(&pod6().octets());
        frame
    };
    let solicited: Ipv6Addr = "ff02::1:ff00:7".parse().unwrap();
    vec![
        ("v4_pod", tcp(v4(POD), 80), Class::Address4),
        ("v4_vip", udp(v4(VIP), 53), Class::Address4),
        ("v4_vip_ping", ping(VIP), Class::Address4),
        ("v4_other", tcp(v4(PEER), 80), Class::OtherAddress),
        ("v4_beside_the_prefix", tcp(v4([10, 244, 2, 7]), 80), Class::OtherAddress),
        ("vlan_pod", vlan(POD), Class::Address4),
        ("vlan_other", vlan(PEER), Class::OtherAddress),
        ("qinq_pod", qinq(POD), Class::Address4),
        ("qinq_other", qinq(PEER), Class::OtherAddress),
        ("three_tags", three_tags(), Class::OtherProtocol),
        ("arp_request_for_pod", arp(ArpOperation::REQUEST, PEER, POD), Class::ArpTarget),
        ("arp_request_for_vip", arp(ArpOperation::REQUEST, PEER, VIP), Class::ArpTarget),
        ("arp_probe_for_vip", arp(ArpOperation::REQUEST, [0; 4], VIP), Class::ArpTarget),
        ("arp_announcement_of_vip", arp(ArpOperation::REQUEST, VIP, VIP), Class::ArpTarget),
        ("arp_reply_by_who_has_our_vip", arp(ArpOperation::REPLY, VIP, PEER), Class::ArpSender),
        ("arp_vip_asks_for_the_node", arp(ArpOperation::REQUEST, VIP, NODE), Class::ArpSender),
        ("arp_request_for_other", arp(ArpOperation::REQUEST, PEER, [192, 0, 2, 33]), Class::ArpOther),
        ("arp_request_for_the_node", arp(ArpOperation::REQUEST, PEER, NODE), Class::ArpOther),
        ("arp_reply_to_the_kernel", arp(ArpOperation::REPLY, PEER, NODE), Class::ArpOther),
        ("arp_of_wrong_hardware", set(arp(ArpOperation::REQUEST, PEER, POD), 15, 6), Class::Malformed),
        ("arp_of_wrong_length", set(arp(ArpOperation::REQUEST, PEER, POD), 18, 8), Class::Malformed),
        ("node_port_tcp", tcp(v4(NODE), NODE_PORT), Class::SharedPort),
        ("node_port_sctp", sctp(NODE_PORT), Class::SharedPort),
        ("node_port_of_another_protocol", udp(v4(NODE), NODE_PORT), Class::SharedOther),
        ("snat_reply_tcp", tcp(v4(NODE), SNAT_PORT), Class::SharedPort),
        ("snat_reply_udp", udp(v4(NODE), SNAT_PORT), Class::SharedPort),
        ("snat_first_port", udp(v4(NODE), 61_000), Class::SharedPort),
        ("snat_last_port", udp(v4(NODE), 65_535), Class::SharedPort),
        ("one_below_the_snat_ports", udp(v4(NODE), 60_999), Class::SharedOther),
        ("ssh_to_the_node", tcp(v4(NODE), 22), Class::SharedOther),
        ("ping_of_the_node", ping(NODE), Class::SharedOther),
        ("ipip_to_the_node", inside(4), Class::SharedPort),
        ("sit_to_the_node", inside(41), Class::SharedPort),
        ("gre_to_the_node", inside(47), Class::SharedOther),
        ("node_port_with_options", with_options(3, NODE_PORT), Class::SharedPort),
        ("node_port_with_all_options", with_options(10, NODE_PORT), Class::SharedPort),
        ("ssh_with_options", with_options(10, 22), Class::SharedOther),
        ("first_fragment_to_node_port", fragment(0, true), Class::SharedPort),
        ("later_fragment_to_the_node", fragment(64, true), Class::SharedFragment),
        ("last_fragment_to_the_node", fragment(64, false), Class::SharedFragment),
        ("error_about_a_snat_port", error(3, 6, SNAT_PORT, 0), Class::SharedError),
        ("time_exceeded_about_a_node_port", error(11, 6, NODE_PORT, 0), Class::SharedError),
        ("error_about_udp_with_options", error(3, 17, SNAT_PORT, 7), Class::SharedError),
        ("error_about_another_protocols_port", error(3, 17, NODE_PORT, 0), Class::SharedOther),
        ("error_about_the_nodes_own", error(3, 6, 40_000, 0), Class::SharedOther),
        ("error_about_gre", error(3, 47, SNAT_PORT, 0), Class::SharedOther),
        ("redirect_about_a_snat_port", error(5, 6, SNAT_PORT, 0), Class::SharedOther),
        ("too_big_about_a_tunnels_packet", about(error(3, 17, 50_000, 0), 20), Class::SharedError),
        ("too_big_about_a_tunnels_packet_with_options", about(error(3, 17, 50_000, 7), 48), Class::SharedError),
        ("unreachable_about_tcp_to_that_port", about(error(3, 6, 50_000, 0), 20), Class::SharedOther),
        ("v6_too_big_about_a_tunnels_packet", about(set(error6(2, 50_000), 68, 17), 40), Class::SharedError),
        ("v6_too_big_about_tcp_to_that_port", about(error6(2, 50_000), 40), Class::SharedOther),
        ("v6_too_big_about_a_snat_port", error6(2, SNAT_PORT), Class::SharedError),
        ("v6_too_big_about_the_nodes_own", error6(2, 40_000), Class::SharedOther),
        ("v6_first_fragment_to_a_snat_port", fragment6(SNAT_PORT, 0, 0, true), Class::SharedPort),
        ("v6_first_fragment_to_ssh", fragment6(22, 1, 0, true), Class::SharedOther),
        ("v6_atomic_fragment_to_a_snat_port", fragment6(SNAT_PORT, 2, 0, false), Class::SharedPort),
        ("v6_later_fragment_to_the_node", fragment6(7, 3, 64, true), Class::SharedFragment),
        ("v6_redirect_about_a_snat_port", error6(137, SNAT_PORT), Class::OtherAddress),
        ("v4_of_version_6", set(tcp(v4(POD), 80), 14, 0x65), Class::Malformed),
        ("v4_of_header_length_4", set(tcp(v4(NODE), NODE_PORT), 14, 0x44), Class::Malformed),
        ("v6_pod", tcp(v6(pod6()), 80), Class::Address6),
        ("v6_other", tcp(v6(peer6()), 80), Class::OtherAddress),
        ("v6_node_port", tcp(v6(node6()), NODE_PORT), Class::SharedPort),
        ("v6_ssh_to_the_node", tcp(v6(node6()), 22), Class::SharedOther),
        ("v6_of_version_4", set(tcp(v6(pod6()), 80), 14, 0x40), Class::Malformed),
        ("v6_to_a_group", udp(v6("ff02::fb".parse().unwrap()), 5353), Class::OtherAddress),
        ("v6_link_local", tcp(v6("fe80::1".parse().unwrap()), 80), Class::OtherAddress),
        ("v6_ping_of_the_node", neighbour(128, node6(), pod6()), Class::OtherAddress),
        ("ns_from_who_has_our_pod", from_pod(neighbour(135, solicited, peer6())), Class::NeighbourSource),
        ("na_to_the_node_from_our_pod", from_pod(neighbour(136, node6(), peer6())), Class::NeighbourSource),
        ("ns_for_pod", neighbour(135, solicited, pod6()), Class::NeighbourTarget),
        ("na_of_pod_to_all", neighbour(136, "ff02::1".parse().unwrap(), pod6()), Class::NeighbourTarget),
        ("na_of_pod_to_the_node", neighbour(136, node6(), pod6()), Class::NeighbourTarget),
        ("ns_for_the_node", neighbour(135, solicited, node6()), Class::OtherAddress),
        ("na_to_the_kernel", neighbour(136, node6(), peer6()), Class::OtherAddress),
        ("router_advertisement", neighbour(134, "ff02::1".parse().unwrap(), pod6()), Class::OtherAddress),
        ("lldp", set(tcp(v4(POD), 80), 12, 0x88), Class::OtherProtocol),
        ("runt", vec![0; 14], Class::OtherProtocol),
    ]
}

/// The same decision, written again from the table in the module's header.
fn expected(set: &SteeringSet, frame: &[u8]) -> Class {
    if set.take == Take::All {
        return Class::All;
    }
    let half = |at: usize| Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().unwrap()));
    let whose = |address: IpAddr| {
        let host = IpNet::from(address);
        if set.own.contains(&host) {
            Some(true)
        } else if set.share.contains(&address) {
            Some(false)
        } else {
            set.own.iter().any(|prefix| prefix.contains(&address)).then_some(true)
        }
    };
    let port = |protocol: u8, at: usize| {
        if matches!(protocol, 4 | 41) && set.ip_in_ip {
            return Class::SharedPort;
        }
        let Some(protocol) = Protocol::from_number(protocol) else { return Class::SharedOther };
        let Some(_) = frame.get(at..at + 4) else { return Class::Malformed };
        let port = half(at + 2).unwrap();
        let ours = set.ports.iter().any(|(of, range)| *of == protocol && range.contains(port));
        if ours { Class::SharedPort } else { Class::SharedOther }
    };
    let quoted = |protocol: u8, transport: &[u8]| {
        let ours = |from| {
            let mut ranges = set.ports.iter();
            ranges.any(|(of, range)| Some(*of) == Protocol::from_number(protocol) && range.contains(from))
        };
        match transport {
            _ if matches!(protocol, 4 | 41) && set.ip_in_ip => Class::SharedPort,
            [high, low, _, _, ..] if ours(u16::from_be_bytes([*high, *low])) => Class::SharedError,
            [_, _, high, low, ..] if protocol == 17 && set.far_ports.contains(&u16::from_be_bytes([*high, *low])) => {
                Class::SharedError
            }
            _ => Class::SharedOther,
        }
    };
    // An ICMP message of IPv4.
    let about = |message: &[u8]| match message {
        [3 | 11 | 12, _, _, _, _, _, _, _, packet @ ..] if packet.len() >= 20 && (0x45..=0x4f).contains(&packet[0]) => {
            quoted(packet[9], packet.get(usize::from(packet[0] & 15) * 4..).unwrap_or_default())
        }
        _ => Class::SharedOther,
    };
    let (mut at, mut ethertype) = (14, half(12));
    for _ in 0..2 {
        if matches!(ethertype, Some(0x8100 | 0x88a8)) {
            (at, ethertype) = (at + 4, half(at + 2));
        }
    }
    let rest = frame.get(at..).unwrap_or_default();
    let address4 = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&rest[at..at + 4]).unwrap());
    let address6 = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&rest[at..at + 16]).unwrap());
    match ethertype {
        None => Class::Malformed,
        Some(0x0806) if rest.len() < 28 || rest[..6] != [0, 1, 8, 0, 6, 4] => Class::Malformed,
        Some(0x0806) if whose(address4(24)) == Some(true) => Class::ArpTarget,
        Some(0x0806) if whose(address4(14)) == Some(true) => Class::ArpSender,
        Some(0x0806) => Class::ArpOther,
        Some(0x0800) if set.take == Take::Ip => Class::All,
        Some(0x0800) if rest.len() < 20 || rest[0] >> 4 != 4 => Class::Malformed,
        Some(0x0800) => match whose(address4(16)) {
            Some(true) => Class::Address4,
            None => Class::OtherAddress,
            Some(false) if half(at + 6).unwrap() & 0x1fff != 0 => Class::SharedFragment,
            Some(false) if matches!(rest[9], 4 | 41) => port(rest[9], at),
            Some(false) if rest[9] == 1 && half(at + 6).unwrap() & 0x3fff == 0 => match rest[0] & 15 {
                ..5 => Class::Malformed,
                words => about(rest.get(usize::from(words) * 4..).unwrap_or_default()),
            },
            Some(false) if Protocol::from_number(rest[9]).is_none() => Class::SharedOther,
            Some(false) if rest[0] & 15 < 5 => Class::Malformed,
            Some(false) => port(rest[9], at + usize::from(rest[0] & 15) * 4),
        },
        Some(0x86dd) if rest.len() < 40 || rest[0] >> 4 != 6 => Class::Malformed,
        Some(0x86dd)
            if set.take == Take::Ip
                && !(rest[6] == 58 && rest.get(40).is_some_and(|kind| (133..=137).contains(kind))) =>
        {
            let IpAddr::V6(to) = address6(24) else { unreachable!() };
            if to.is_multicast() || to.is_unicast_link_local() { Class::OtherAddress } else { Class::All }
        }
        Some(0x86dd) => match whose(address6(24)) {
            Some(true) if set.take == Take::Owned => Class::Address6,
            _ if set.take == Take::Ip && (rest.len() < 64 || !matches!(rest[40], 135 | 136)) => Class::OtherAddress,
            _ if rest[6] == 58 && rest.len() >= 64 && matches!(rest[40], 135 | 136) => {
                match (whose(address6(48)), whose(address6(8))) {
                    (Some(true), _) => Class::NeighbourTarget,
                    (_, Some(true)) => Class::NeighbourSource,
                    _ => Class::OtherAddress,
                }
            }
            Some(false) if rest[6] == 58 && rest.len() >= 88 && matches!(rest[40], 1..=4) => {
                quoted(rest[54], rest.get(88..).unwrap_or_default())
            }
            _ if rest[6] == 58 => Class::OtherAddress,
            None => Class::OtherAddress,
            Some(false) if rest[6] == 44 => match rest.get(40..48) {
                None => Class::Malformed,
                Some([next, _, 0, 0..8, ..]) => port(*next, at + 48),
                Some(_) => Class::SharedFragment,
            },
            Some(false) => port(rest[6], at + 40),
            Some(true) => unreachable!("taken, or neighbour discovery"),
        },
        Some(_) => Class::OtherProtocol,
    }
}

#[test]
fn every_named_frame_ends_where_it_should() {
    let Some(steering) = steering(&example()) else { return };
    for (name, frame, class) in cases() {
        assert_eq!(decide(&steering, &frame), class, "{name}");
        assert_eq!(expected(&example(), &frame), class, "{name}: the second implementation is wrong");
    }
    let counts = steering.counts().unwrap();
    assert_eq!(counts.taken() + counts.passed(), cases().len() as u64);
    assert_eq!(counts.get(Class::NoSocket), counts.taken());
}

/// Only the first has ports: the others go where it went, until the identification comes again.
#[test]
fn fragments_on_a_shared_address_follow_their_first() {
    let Some(steering) = steering(&example()) else { return };
    let fragment = |port, identification: u8, offset: u16, last: bool| {
        let mut frame = tcp(v4(NODE), port);
        frame[19] = identification;
        frame[20..22].copy_from_slice(&(offset | u16::from(!last) << 13).to_be_bytes());
        frame
    };
    let later = |identification, last| decide(&steering, &fragment(7, identification, 64, last));
    assert_eq!(later(1, false), Class::SharedFragment);
    assert_eq!(decide(&steering, &fragment(SNAT_PORT, 1, 0, false)), Class::SharedPort);
    assert_eq!((later(1, false), later(1, true)), (Class::SharedFollower, Class::SharedFollower));
    assert_eq!(later(2, true), Class::SharedFragment);
    let mut other_protocol = fragment(7, 1, 64, true);
    other_protocol[23] = 17;
    assert_eq!(decide(&steering, &other_protocol), Class::SharedFragment);
    assert_eq!(decide(&steering, &fragment(22, 1, 0, false)), Class::SharedOther);
    assert_eq!(later(1, true), Class::SharedFragment, "the identification is the kernel's by now");
    let decide6 = |port, offset| decide(&steering, &fragment6(port, 9, offset, true));
    assert_eq!(decide6(7, 64), Class::SharedFragment);
    assert_eq!((decide6(SNAT_PORT, 0), decide6(7, 64)), (Class::SharedPort, Class::SharedFollower));
    assert_eq!((decide6(22, 0), decide6(7, 64)), (Class::SharedOther, Class::SharedFragment));
}

/// RFC 8200, 4.5: "the Next Header values in the Fragment headers of different fragments of the same original packet may differ".
#[test]
fn fragments_of_ipv6_follow_their_first_whatever_header_they_name() {
    let Some(steering) = steering(&example()) else { return };
    let decide_as = |next: u8, port, offset| {
        let mut frame = fragment6(port, 9, offset, true);
        frame[54] = next;
        decide(&steering, &frame)
    };
    assert_eq!(decide_as(6, SNAT_PORT, 0), Class::SharedPort);
    assert_eq!([6, 17, 60].map(|next| decide_as(next, 7, 64)), [Class::SharedFollower; 3]);
    // The identification comes again, of something that has no ports.
    assert_eq!(decide_as(58, 7, 0), Class::SharedOther);
    assert_eq!([6, 58].map(|next| decide_as(next, 7, 64)), [Class::SharedFragment; 2]);
}

#[test]
fn every_truncation_is_passed_or_was_ours_anyway() {
    let Some(steering) = steering(&example()) else { return };
    for (name, frame, whole) in cases() {
        // Below 14 bytes there is no Ethernet frame, and the kernel refuses to try one.
        for len in 14..frame.len() {
            let class = decide(&steering, &frame[..len]);
            assert_eq!(class, expected(&example(), &frame[..len]), "{name} cut to {len}");
            assert!(!class.is_taken() || class == whole, "{name} cut to {len} is taken as {class}");
        }
    }
}

#[test]
fn take_all_takes_all() {
    let Some(mut steering) = steering(&SteeringSet { take: Take::All, ..example() }) else { return };
    for (name, frame, _) in cases() {
        assert_eq!(decide(&steering, &frame), Class::All, "{name}");
    }
    steering.set_take(Take::Ip).unwrap();
    for (name, frame, class) in cases() {
        let expected = expected(&SteeringSet { take: Take::Ip, ..example() }, &frame);
        assert_eq!(decide(&steering, &frame), expected, "{name}");
        assert!(
            matches!(class, Class::ArpOther) <= (expected == Class::ArpOther),
            "{name}: the kernel's own questions"
        );
    }
    steering.set_take(Take::Owned).unwrap();
    assert_eq!(decide(&steering, &tcp(v4(PEER), 80)), Class::OtherAddress);
}

#[test]
fn nothing_is_ours_before_we_say_so() {
    let Some(steering) = steering(&SteeringSet::default()) else { return };
    for (name, frame, _) in cases() {
        assert!(!decide(&steering, &frame).is_taken(), "{name}");
    }
}

#[test]
fn one_thing_at_a_time() {
    let Some(mut steering) = steering(&SteeringSet::default()) else { return };
    let to_pod = tcp(v4(POD), 80);
    // Host bits behind a prefix do not matter.
    let prefix: IpNet = "10.244.1.9/24".parse().unwrap();
    steering.own(prefix).unwrap();
    assert_eq!(decide(&steering, &to_pod), Class::Address4);
    // A shared address inside an owned prefix is the more exact one.
    steering.share(IpAddr::from(POD)).unwrap();
    assert_eq!(decide(&steering, &to_pod), Class::SharedOther);
    let http: PortRange = "80".parse().unwrap();
    let low: PortRange = "1-1023".parse().unwrap();
    steering.take_ports(Protocol::Tcp, http).unwrap();
    steering.take_ports(Protocol::Tcp, low).unwrap();
    assert_eq!(decide(&steering, &to_pod), Class::SharedPort);
    // Still in the other range.
    steering.release_ports(Protocol::Tcp, http).unwrap();
    assert_eq!(decide(&steering, &to_pod), Class::SharedPort);
    steering.release_ports(Protocol::Tcp, low).unwrap();
    assert_eq!(decide(&steering, &to_pod), Class::SharedOther);
    // Owned as a whole address as well: owned.
    steering.own(IpNet::from(IpAddr::from(POD))).unwrap();
    assert_eq!(decide(&steering, &to_pod), Class::Address4);
    steering.unshare(IpAddr::from(POD)).unwrap();
    steering.disown(&IpNet::from(IpAddr::from(POD))).unwrap();
    assert_eq!(decide(&steering, &to_pod), Class::Address4, "the prefix is still ours");
    steering.disown(&prefix).unwrap();
    assert_eq!(decide(&steering, &to_pod), Class::OtherAddress);
    assert_eq!(steering.current(), &SteeringSet::default());
}

#[test]
fn what_is_ours_goes_to_the_socket_of_its_queue() {
    let Some(steering) = steering(&example()) else { return };
    // In a thread with a network namespace of its own, on that one's loopback.
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let (umem, _pool) = af_xdp::Umem::new(af_xdp::UmemConfig { frames: 64, ..Default::default() }).unwrap();
        let loopback = af_xdp::interface::index("lo").unwrap();
        let socket = Socket::open(&umem, &af_xdp::SocketConfig::new(loopback, 0)).unwrap();
        steering.insert_socket(0, &socket).unwrap();
        for (name, frame, class) in cases() {
            let expected = if class.is_taken() { Action::Redirect } else { Action::Pass };
            let how = TestRun { from: Some((loopback, 0)), ..TestRun::default() };
            assert_eq!(steering.program.test_run(&frame, how).unwrap().action, expected, "{name}");
        }
        assert_eq!(steering.counts().unwrap().get(Class::NoSocket), 0);
        assert!(steering.insert_socket(1, &socket).is_err(), "there is no queue 1");
    });
    thread.join().unwrap();
}

#[test]
fn two_capabilities_load_it_and_none_changes_it() {
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
    if steering(&SteeringSet::default()).is_none() {
        return;
    }
    let only = |set: CapabilitySet| {
        let sets = CapabilitySets { effective: set, permitted: set, inheritable: CapabilitySet::empty() };
        set_capabilities(None, sets).unwrap();
    };
    // In a thread of its own, because capabilities are a thread's and do not come back.
    let thread = std::thread::spawn(move || {
        only(CapabilitySet::BPF | CapabilitySet::NET_ADMIN);
        let mut steering = Steering::new(1, true).unwrap();
        only(CapabilitySet::empty());
        assert!(Steering::new(1, false).is_err(), "the capabilities were not dropped");
        steering.apply(&example()).unwrap();
        steering.apply(&SteeringSet::default()).unwrap();
        assert_eq!(steering.counts().unwrap().taken(), 0);
    });
    thread.join().unwrap();
}

#[test]
fn the_program_is_small() {
    let Some(steering) = steering(&SteeringSet::default()) else { return };
    let code = program::assemble(&steering.maps).unwrap();
    assert!(code.len() < 800, "{} instructions: time for another language", code.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Frames damaged anywhere, against the second implementation.
    #[test]
    fn damaged_frames(
        changes in prop::collection::vec((any::<Index>(), any::<Index>(), any::<u8>()), 1..12)
    ) {
        let Some(steering) = steering(&example()) else { return Ok(()) };
        for (name, whole, _) in cases() {
            let mut frame = whole.clone();
            for (at, from, value) in &changes {
                // Half of the time a byte of another place of the frame, so that addresses and types meet.
                let value = if value & 1 == 0 { *value } else { whole[from.index(whole.len())] };
                frame[at.index(whole.len())] = value;
            }
            let class = match decide(&steering, &frame) {
                // Damage can make it a fragment of a datagram that was damaged before.
                Class::SharedFollower => Class::SharedFragment,
                class => class,
            };
            prop_assert_eq!(class, expected(&example(), &frame), "{} {:02x?}", name, frame);
        }
    }

    /// From any set to any other by difference is the same as from nothing.
    #[test]
    fn differences_end_where_a_fresh_start_would(
        sets in prop::collection::vec(
            (0..8u8, any::<[bool; 4]>(), any::<[bool; 3]>(), any::<[bool; 3]>()), 1..6)
    ) {
        let Some(mut steering) = steering(&SteeringSet::default()) else { return Ok(()) };
        let own = ["10.244.1.0/24", "192.0.2.0/24", "192.0.2.1/32", "2001:db8::/32"];
        let own = own.map(|text| text.parse::<IpNet>().unwrap());
        let share = [IpAddr::from(NODE), IpAddr::from(POD), IpAddr::from(node6())];
        let ports = ["1-1023", "80", "30000-65535"].map(|text| (Protocol::Tcp, text.parse::<PortRange>().unwrap()));
        for (rare, owned, shared, taken) in sets {
            fn chosen<T: Ord + Copy>(from: &[T], which: &[bool]) -> BTreeSet<T> {
                from.iter().zip(which).filter(|(_, chosen)| **chosen).map(|(item, _)| *item).collect()
            }
            let set = SteeringSet {
                take: [Take::Ip, Take::All].get(usize::from(rare)).copied().unwrap_or_default(),
                own: chosen(&own, &owned),
                share: chosen(&share, &shared),
                ports: chosen(&ports, &taken),
                ip_in_ip: owned.first() == Some(&true),
                far_ports: [FAR_PORT].into_iter().filter(|_| owned.last() == Some(&true)).collect(),
            };
            steering.apply(&set).unwrap();
            for (name, frame, _) in cases() {
                prop_assert_eq!(decide(&steering, &frame), expected(&set, &frame), "{}", name);
            }
        }
    }
}
