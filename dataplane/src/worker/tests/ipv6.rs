//! The same for IPv6: every way of a packet, and neighbour discovery.

use std::net::Ipv6Addr;

use etherparse::{IpNumber, Ipv6Header};

use super::*;
use crate::headers::{Discovery, DiscoveryKind};

pub(super) const NODE_IP: Ipv6Addr = address(0, 1);
pub(super) const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
pub(super) const GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xff);
pub(super) const POD_IP: Ipv6Addr = address(1, 5);
pub(super) const POD_2_IP: Ipv6Addr = address(1, 6);
pub(super) const REMOTE_IP: Ipv6Addr = address(2, 5);
pub(super) const VIP: Ipv6Addr = address(0x96, 1);
pub(super) const CLIENT: Ipv6Addr = address(0xffff, 7);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// `2001:db8:<net>::<host>`
pub(super) const fn address(net: u16, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, host)
}

pub(super) fn program(mode: Mode, backends: &[Ipv6Addr]) -> Program {
    let service = |protocol| Service {
        name: "default/web:http".into(),
        protocol,
        family: Family::Ipv6,
        frontends: vec![Frontend {
            address: VIP.into(),
            port: 80,
            from: Side::Any,
            mode,
            pool: Pool::Cluster,
            when_empty: WhenEmpty::Reject,
            last_port: None,
            source_ranges: vec!["2001:db8::/32".parse().unwrap()],
        }],
        backends: backends
            .iter()
            .map(|address| Backend { address: (*address).into(), port: 8080, pools: vec![Pool::Cluster], via: None })
            .collect(),
        affinity: None,
        quic: Vec::new(),
        flows: Default::default(),
    };
    Program {
        generation: 1,
        local: Local {
            prefixes: vec!["2001:db8:1::/64".parse().unwrap()],
            pods: vec![
                Pod { address: POD_IP.into(), mac: Some(POD) },
                Pod { address: POD_2_IP.into(), mac: Some(POD_2) },
            ],
        },
        service_ranges: vec!["2001:db8:96::/112".parse().unwrap()],
        vips: vec![Vip { address: VIP.into(), announce: true }],
        services: [Protocol::Tcp, Protocol::Udp].map(service).into(),
        ..Program::default()
    }
}

fn tcp(macs: (Mac, Mac), ips: (Ipv6Addr, Ipv6Addr), ports: (u16, u16), flags: &str) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(macs.0.0, macs.1.0).ipv6(ips.0.octets(), ips.1.octets(), 64);
    let tcp = builder.tcp(ports.0, ports.1, 1000, 4096);
    let tcp = if flags.contains('S') { tcp.syn() } else { tcp };
    let tcp = if flags.contains('A') { tcp.ack(2000) } else { tcp };
    let mut frame = Vec::new();
    tcp.write(&mut frame, b"").unwrap();
    frame
}

pub(super) fn udp(macs: (Mac, Mac), ips: (Ipv6Addr, Ipv6Addr), ports: (u16, u16)) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(macs.0.0, macs.1.0).ipv6(ips.0.octets(), ips.1.octets(), 64);
    let mut frame = Vec::new();
    builder.udp(ports.0, ports.1).write(&mut frame, b"hello").unwrap();
    frame
}

/// A datagram from the client to the service, of this length with its IP header.
pub(super) fn datagram(length: usize) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(PEER.0, NODE.0).ipv6(CLIENT.octets(), VIP.octets(), 64);
    let mut frame = Vec::new();
    builder.udp(4000, 80).write(&mut frame, &vec![7; length - 48]).unwrap();
    frame
}

/// (MACs, source and port, destination and port, hop limit).
pub(super) type Seen = ((Mac, Mac), (Ipv6Addr, u16), (Ipv6Addr, u16), u8);

/// What a frame says, after its checksum has been summed up again.
pub(super) fn read(frame: &[u8]) -> Seen {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(etherparse::LinkSlice::Ethernet2(link)) = packet.link else { panic!("no Ethernet") };
    let Some(etherparse::NetSlice::Ipv6(ip)) = packet.net else { panic!("no IPv6") };
    let (from, to) = (ip.header().source(), ip.header().destination());
    let (source, destination) = match packet.transport.unwrap() {
        etherparse::TransportSlice::Tcp(tcp) => {
            assert_eq!(tcp.calc_checksum_ipv6(from, to).unwrap(), tcp.checksum());
            (tcp.source_port(), tcp.destination_port())
        }
        etherparse::TransportSlice::Udp(udp) => {
            let sum = udp.to_header().calc_checksum_ipv6_raw(from, to, udp.payload()).unwrap();
            assert_eq!(sum, udp.checksum());
            (udp.source_port(), udp.destination_port())
        }
        other => panic!("{other:?}"),
    };
    let macs = (Mac(link.source()), Mac(link.destination()));
    (macs, (from.into(), source), (to.into(), destination), ip.header().hop_limit())
}

/// A message of neighbour discovery, with `flags` as its fifth byte.
fn ndp(macs: (Mac, Mac), ips: (Ipv6Addr, Ipv6Addr), kind: u8, flags: u8, content: &[u8]) -> Vec<u8> {
    let raw = etherparse::Icmpv6Type::Unknown { type_u8: kind, code_u8: 0, bytes5to8: [flags, 0, 0, 0] };
    let icmp = etherparse::Icmpv6Header::with_checksum(raw, ips.0.octets(), ips.1.octets(), content).unwrap();
    let message = [&icmp.to_bytes()[..], content].concat();
    let ip = Ipv6Header {
        payload_length: message.len() as u16,
        next_header: IpNumber::IPV6_ICMP,
        hop_limit: 255,
        source: ips.0.octets(),
        destination: ips.1.octets(),
        ..Ipv6Header::default()
    };
    let link = Ethernet2Header { source: macs.0.0, destination: macs.1.0, ether_type: EtherType::IPV6 };
    [&link.to_bytes()[..], &ip.to_bytes(), &message].concat()
}

fn group_of(target: Ipv6Addr) -> (Mac, Ipv6Addr) {
    let [.., a, b, c] = target.octets();
    let group = Ipv6Addr::from_bits(
        0xff02_0000_0000_0000_0000_0001_ff00_0000 | u128::from_be_bytes(target.octets()) & 0xff_ffff,
    );
    (Mac([0x33, 0x33, 0xff, a, b, c]), group)
}

fn asks(sender: (Mac, Ipv6Addr), target: Ipv6Addr) -> Vec<u8> {
    let (mac, group) = group_of(target);
    let content = if sender.1.is_unspecified() {
        target.octets().to_vec()
    } else {
        [&target.octets()[..], &[1, 1], &sender.0.0].concat()
    };
    ndp((sender.0, mac), (sender.1, group), 135, 0, &content)
}

fn tells(sender: Mac, to: (Mac, Ipv6Addr), target: Ipv6Addr, flags: u8) -> Vec<u8> {
    let content = [&target.octets()[..], &[2, 1], &sender.0].concat();
    ndp((sender, to.0), (target, to.1), 136, flags, &content)
}

#[test]
fn macs_are_rewritten_both_ways_and_nothing_else() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[]));
    let (port, frame) = lab.one(PODS, &tcp((POD, INSIDE), (POD_IP, REMOTE_IP), (4000, 80), "S"));
    assert_eq!((port, read(&frame)), (UPLINK, ((NODE, PEER), (POD_IP, 4000), (REMOTE_IP, 80), 64)));
    let (port, frame) = lab.one(UPLINK, &tcp((PEER, NODE), (REMOTE_IP, POD_IP), (80, 4000), "SA"));
    assert_eq!((port, read(&frame)), (PODS, ((INSIDE, POD), (REMOTE_IP, 80), (POD_IP, 4000), 64)));
    let (port, _) = lab.one(UPLINK, &tcp((PEER, POD), (REMOTE_IP, POD_IP), (80, 4000), "A"));
    assert_eq!(port, PODS);
    lab.dropped(UPLINK, &tcp((PEER, POD), (CLIENT, REMOTE_IP), (80, 4000), "A"), Reason::OtherStation);
    lab.dropped(PODS, &tcp((POD, POD_2), (POD_IP, POD_2_IP), (1, 2), "S"), Reason::PodToPod);
    // SCTP and what nobody knows go as they are.
    for protocol in [IpNumber::SCTP, IpNumber(253)] {
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2(POD.0, INSIDE.0).ipv6(POD_IP.octets(), REMOTE_IP.octets(), 64);
        builder.write(&mut frame, protocol, &[7; 12]).unwrap();
        let (port, sent) = lab.one(PODS, &frame);
        assert_eq!((port, &sent[12..]), (UPLINK, &frame[12..]));
    }
}

#[test]
fn what_stays_on_its_link_is_not_forwarded_and_groups_leave_only_by_leave() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[]));
    let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 5);
    for (from, to) in [(link_local, REMOTE_IP), (POD_IP, GATEWAY), (POD_IP, Ipv6Addr::LOCALHOST), (POD_IP, ALL_NODES)] {
        lab.dropped(PODS, &udp((POD, INSIDE), (from, to), (1, 2)), Reason::Ipv6Scope);
    }
    lab.dropped(PODS, &udp((POD, INSIDE), (ALL_NODES, REMOTE_IP), (1, 2)), Reason::MartianSource);
    lab.dropped(PODS, &udp((POD, INSIDE), (VIP, REMOTE_IP), (1, 2)), Reason::MartianSource);
    lab.dropped(UPLINK, &udp((PEER, NODE), (GATEWAY, VIP), (1, 2)), Reason::NotOwned);
    let group = |scope: u16| Ipv6Addr::new(0xff02 + scope, 0, 0, 0, 0, 0, 0, 0xfb);
    let mac = Mac([0x33, 0x33, 0, 0, 0, 0xfb]);
    lab.dropped(PODS, &udp((POD, mac), (link_local, group(0)), (5353, 5353)), Reason::PodMulticast);
    let (port, frame) = lab.one(PODS, &udp((POD, mac), (POD_IP, group(3)), (1, 2)));
    assert_eq!((port, read(&frame).0), (UPLINK, (NODE, mac)));
}

#[test]
fn each_mode_reaches_its_backend_and_answers_come_back_from_the_vip() {
    for mode in [Mode::Nat, Mode::Dnat] {
        let mut lab = Lab::new(1, program(mode, &[REMOTE_IP]));
        for protocol in [tcp, |macs, ips, ports, _: &str| udp(macs, ips, ports)] {
            let (ingress, macs, client) =
                if mode == Mode::Nat { (UPLINK, (PEER, NODE), CLIENT) } else { (PODS, (POD, INSIDE), POD_IP) };
            let (port, frame) = lab.one(ingress, &protocol(macs, (client, VIP), (4000, 80), "S"));
            let (macs, source, destination, hops) = read(&frame);
            assert_eq!((port, macs, destination, hops), (UPLINK, (NODE, PEER), (REMOTE_IP, 8080), 63));
            let expected = if mode == Mode::Nat { NODE_IP } else { POD_IP };
            assert_eq!((source.0, source.1 == 4000), (expected, mode == Mode::Dnat));
            let reply = protocol((PEER, NODE), (REMOTE_IP, source.0), (8080, source.1), "SA");
            let (port, frame) = lab.one(UPLINK, &reply);
            let (_, source, destination, hops) = read(&frame);
            assert_eq!((port, source, destination, hops), (ingress, (VIP, 80), (client, 4000), 63));
        }
    }
    let mut lab = Lab::new(1, program(Mode::Dsr, &[REMOTE_IP]));
    let (_, frame) = lab.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "S"));
    assert_eq!(read(&frame), ((NODE, PEER), (CLIENT, 4000), (VIP, 80), 63));
}

#[test]
fn a_checksum_that_was_left_to_hardware_is_finished() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[REMOTE_IP]));
    let mut frame = tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "S");
    let words = [CLIENT.octets(), VIP.octets()].concat();
    let sum = words.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u32>() + 6 + 20;
    frame[70..72].copy_from_slice(&(((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
    read(&lab.one(UPLINK, &frame).1);
}

#[test]
fn what_cannot_be_served_is_refused_and_pings_are_answered() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[]));
    for port in [80, 81] {
        let (_, frame) = lab.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, port), "S"));
        assert_eq!(tcp_flags_of(&frame), (true, true));
        assert_eq!((read(&frame).1, read(&frame).2), ((VIP, port), (CLIENT, 4000)));
        let (_, frame) = lab.one(UPLINK, &udp((PEER, NODE), (CLIENT, VIP), (4000, port)));
        let packet = SlicedPacket::from_ethernet(&frame).unwrap();
        assert!(matches!(packet.transport, Some(etherparse::TransportSlice::Icmpv6(icmp)) if icmp.type_u8() == 1));
    }
    lab.dropped(UPLINK, &tcp((PEER, NODE), (CLIENT, address(0x96, 9)), (4000, 80), "S"), Reason::ServiceUnallocated);
    let mut ping = Vec::new();
    let builder = PacketBuilder::ethernet2(PEER.0, NODE.0).ipv6(CLIENT.octets(), VIP.octets(), 64);
    builder.icmpv6_echo_request(7, 9).write(&mut ping, b"data").unwrap();
    let (_, frame) = lab.one(UPLINK, &ping);
    let packet = SlicedPacket::from_ethernet(&frame).unwrap();
    let Some(etherparse::TransportSlice::Icmpv6(icmp)) = packet.transport else { panic!("{packet:?}") };
    let echo = etherparse::IcmpEchoHeader { id: 7, seq: 9 };
    assert_eq!(icmp.icmp_type(), etherparse::Icmpv6Type::EchoReply(echo));
    let whole =
        etherparse::Icmpv6Header::with_checksum(icmp.icmp_type(), VIP.octets(), CLIENT.octets(), icmp.payload());
    assert_eq!(whole.unwrap().checksum, icmp.checksum());
}

#[test]
fn source_ranges_hold() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[REMOTE_IP]));
    let stranger = Ipv6Addr::new(0x2001, 0xdb9, 0, 0, 0, 0, 0, 1);
    lab.dropped(UPLINK, &tcp((PEER, NODE), (stranger, VIP), (4000, 80), "S"), Reason::SourceNotAllowed);
    lab.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "S"));
}

#[test]
fn the_kernels_frames_are_passed_where_there_is_a_way() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[]));
    let ssh = tcp((POD, INSIDE), (POD_IP, NODE_IP), (4000, 22), "S");
    assert_eq!(lab.arrive(PODS, &ssh), []);
    assert_eq!(lab.workers[0].port_mut(1).unwrap().passed(), [ssh]);
    lab.dropped(UPLINK, &tcp((PEER, NODE), (CLIENT, NODE_IP), (4000, 22), "S"), Reason::NotOwned);
}

#[test]
fn a_frame_waits_for_its_next_hop_and_goes_when_it_is_known() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[]));
    lab.master.set_routes([("2001:db8:2::/64".parse().unwrap(), UPLINK, None)]);
    lab.publish();
    let frame = tcp((POD, INSIDE), (POD_IP, REMOTE_IP), (4000, 80), "S");
    assert_eq!(lab.arrive(PODS, &frame), []);
    let key = crate::tables::NeighbourKey { port: UPLINK, address: REMOTE_IP.into() };
    assert_eq!(lab.notices.neighbours.try_recv(), Ok(key));
    lab.master.set_neighbour(UPLINK, REMOTE_IP.into(), Some(PEER));
    lab.publish();
    assert_eq!(read(&lab.settle()[0].1).0, (NODE, PEER));
}

/// What an advertisement says, once it has been found right in every respect.
fn advertised(frame: &[u8]) -> (Discovery, u8) {
    let Network::Discovery(said) = parse(frame).unwrap().network else { panic!("{frame:02x?}") };
    assert_eq!(said.kind, DiscoveryKind::Advertisement);
    assert_eq!(said.source, said.target);
    (said, frame[usize::from(said.l4) + 4])
}

#[test]
fn solicitations_of_the_fabric_are_answered_for_pods_and_vips_alone() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[]));
    // Of what is ours alone the answer counts for more than others'; of pods the pod's own would (RFC 4861, 7.2.8).
    for (target, flags) in [(POD_IP, 0x40), (address(1, 0x77), 0x40), (VIP, 0x60)] {
        let (port, frame) = lab.one(UPLINK, &asks((PEER, REMOTE_IP), target));
        let (said, seen) = advertised(&frame);
        assert_eq!((port, &frame[..12]), (UPLINK, &[PEER.0, NODE.0].concat()[..]));
        assert_eq!((said.target, said.destination, said.mac), (target.into(), REMOTE_IP.into(), Some(NODE)));
        assert_eq!(seen, flags, "{target}");
    }
    // Is it free? It is not: said to all nodes, and on the wire to the asker alone (RFC 6085).
    let (_, frame) = lab.one(UPLINK, &asks((PEER, Ipv6Addr::UNSPECIFIED), VIP));
    let (said, flags) = advertised(&frame);
    assert_eq!((said.destination, flags, &frame[..6]), (ALL_NODES.into(), 0x20, &PEER.0[..]));
    // A neighbour makes sure that it still has the right MAC.
    let probe = ndp((PEER, NODE), (REMOTE_IP, POD_IP), 135, 0, &POD_IP.octets());
    assert_eq!(advertised(&lab.one(UPLINK, &probe).1).0.mac, Some(NODE));

    lab.dropped(UPLINK, &asks((PEER, REMOTE_IP), NODE_IP), Reason::NdpIgnored);
    lab.dropped(UPLINK, &asks((PEER, REMOTE_IP), address(7, 7)), Reason::NdpIgnored);
    lab.dropped(UPLINK, &tells(PEER, (NODE, NODE_IP), REMOTE_IP, 0x60), Reason::NdpIgnored);
    let far = [&ndp((PEER, NODE), (REMOTE_IP, POD_IP), 135, 0, &POD_IP.octets())[..21], &[254]].concat();
    let far = [&far[..], &probe[22..]].concat();
    lab.dropped(UPLINK, &far, Reason::NdpHopLimit);
}

#[test]
fn neighbour_discovery_in_fragments_is_nobodys_not_even_in_one() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[]));
    let whole = asks((PEER, REMOTE_IP), VIP);
    // RFC 6980, 5: behind a fragment header, of an atomic fragment, of a first, and behind another header besides.
    for more in [0, 1] {
        let fragment = [58, 0, 0, more, 1, 2, 3, 4];
        let padding = [44, 0, 1, 4, 0, 0, 0, 0];
        for (next, headers) in [(44, fragment.to_vec()), (60, [padding, fragment].concat())] {
            let mut frame = [&whole[..54], &headers, &whole[54..]].concat();
            let length = u16::from_be_bytes([frame[18], frame[19]]) + headers.len() as u16;
            frame[18..20].copy_from_slice(&length.to_be_bytes());
            frame[20] = next;
            lab.dropped(UPLINK, &frame, Reason::NdpFragmented);
        }
    }
    lab.one(UPLINK, &whole);
}

#[test]
fn pods_are_told_of_what_is_elsewhere_and_nothing_of_theirs_leaves() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[]));
    // The node's own address too: its kernel answers for it on the uplink, and not on the pods' bridge.
    for target in [REMOTE_IP, CLIENT, NODE_IP] {
        let (port, frame) = lab.one(PODS, &asks((POD, POD_IP), target));
        let (said, flags) = advertised(&frame);
        assert_eq!((port, said.mac, said.target, flags), (PODS, Some(INSIDE), target.into(), 0x40));
    }
    assert_eq!(advertised(&lab.one(PODS, &asks((POD, POD_IP), VIP)).1).1, 0x60);
    let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 5);
    for target in [POD_2_IP, address(1, 0x99), link_local, LINK_LOCAL] {
        lab.dropped(PODS, &asks((POD, POD_IP), target), Reason::PodNdpKept);
    }
    // A pod that is being made: its own address is free, a VIP is not (RFC 4862, 5.4).
    for target in [POD_IP, address(7, 7), link_local, NODE_IP] {
        lab.dropped(PODS, &asks((POD, Ipv6Addr::UNSPECIFIED), target), Reason::PodNdpKept);
    }
    let (_, frame) = lab.one(PODS, &asks((POD, Ipv6Addr::UNSPECIFIED), VIP));
    assert_eq!((advertised(&frame).0.destination, advertised(&frame).1), (ALL_NODES.into(), 0x20));

    let everybody = (Mac([0x33, 0x33, 0, 0, 0, 1]), ALL_NODES);
    lab.dropped(PODS, &tells(POD, everybody, POD_IP, 0x20), Reason::PodNdpKept);
    lab.dropped(PODS, &tells(POD, (INSIDE, REMOTE_IP), POD_IP, 0x60), Reason::PodNdpKept);
    let router = |kind, content: &[u8]| ndp((POD, everybody.0), (link_local, ALL_NODES), kind, 0, content);
    lab.dropped(PODS, &router(133, &[]), Reason::PodNdpKept);
    lab.dropped(PODS, &router(134, &[0; 8]), Reason::PodRouterAdvertisement);
    lab.dropped(PODS, &router(137, &[REMOTE_IP.octets(), POD_IP.octets()].concat()), Reason::PodRedirect);
}

#[test]
fn somebody_else_who_says_to_have_an_address_of_ours_is_a_conflict_that_is_told() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[]));
    let everybody = (Mac([0x33, 0x33, 0, 0, 0, 1]), ALL_NODES);
    let conflicts = [
        (UPLINK, tells(PEER, everybody, VIP, 0x20), PEER, VIP),
        (UPLINK, tells(PEER, everybody, POD_IP, 0x20), PEER, POD_IP),
        (UPLINK, asks((PEER, VIP), REMOTE_IP), PEER, VIP),
        (PODS, tells(POD, everybody, VIP, 0x20), POD, VIP),
    ];
    for (port, frame, mac, claimed) in conflicts {
        lab.dropped(port, &frame, Reason::NdpConflict);
        let claim = Claim { port, vlans: Vlans::default(), address: claimed.into(), mac };
        assert_eq!(lab.notices.claims.try_recv(), Ok(claim));
    }
    // Our own announcement, come back to us from a fabric that loops.
    lab.dropped(UPLINK, &tells(NODE, everybody, VIP, 0x20), Reason::NdpIgnored);
}

#[test]
fn pods_may_have_a_link_local_gateway() {
    let gateway = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x77);
    let mut lab = Lab::new(1, program(Mode::Nat, &[]));
    lab.dropped(PODS, &asks((POD, POD_IP), gateway), Reason::PodNdpKept);
    let mut lab = Lab::with(1, program(Mode::Nat, &[]), |setup| setup.gateways = vec![gateway.into()]);
    let (port, frame) = lab.one(PODS, &asks((POD, POD_IP), gateway));
    // Solicited, override: it is nobody else's.
    assert_eq!((port, advertised(&frame).1), (PODS, 0x60));
    lab.dropped(UPLINK, &asks((PEER, REMOTE_IP), gateway), Reason::NdpIgnored);
}

#[test]
fn a_storm_of_solicitations_is_limited_by_its_source() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[]));
    let answered = (0..100).filter(|_| !lab.arrive(UPLINK, &asks((PEER, REMOTE_IP), POD_IP)).is_empty()).count();
    assert_eq!(answered, 50);
    assert_eq!(lab.count(Reason::NdpRateLimited), 50);
    assert_eq!(lab.arrive(UPLINK, &asks((PEER, CLIENT), POD_IP)).len(), 1);
}

#[test]
fn whose_hop_limit_ends_here_is_told_so() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[REMOTE_IP]));
    let mut request = udp((PEER, NODE), (CLIENT, VIP), (4000, 80));
    request[14 + 7] = 1;
    let (port, frame) = lab.one(UPLINK, &request);
    let packet = SlicedPacket::from_ethernet(&frame).unwrap();
    let Some(etherparse::NetSlice::Ipv6(ip)) = packet.net else { panic!("no IPv6") };
    assert_eq!((port, ip.header().source(), ip.header().destination()), (UPLINK, VIP.octets(), CLIENT.octets()));
    let Some(etherparse::TransportSlice::Icmpv6(message)) = packet.transport else { panic!("no ICMPv6") };
    assert_eq!((message.type_u8(), message.code_u8()), (3, 0));
    assert!(message.is_checksum_valid(VIP.octets(), CLIENT.octets()));
    assert_eq!(message.payload(), &request[14..], "all of it is quoted");
    assert_eq!(lab.handles[0].counters.get(Counter::TimeExceededsSent), 1);
}
