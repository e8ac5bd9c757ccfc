//! Mode `tunnel`: a balancer and a node, one after the other, over memory.

use etherparse::{IpNumber, Ipv4Header, UdpHeader};
use levee_api::program::Via;
use levee_api::tunnel::{Encapsulation, Tunnel};

use super::*;
use crate::address::Address;

/// The balancer's end. The node's is [`NODE_IP`].
pub(super) const BALANCER_IP: [u8; 4] = [192, 168, 0, 9];

pub(super) fn tunnel(kind: Encapsulation) -> Tunnel {
    Tunnel { kind, ..Tunnel::default() }
}

pub(super) fn balancer(kind: Encapsulation) -> Lab {
    balancer_with(kind, |_| ())
}

fn balancer_with(kind: Encapsulation, change: impl FnOnce(&mut crate::tables::master::Setup)) -> Lab {
    let mut program = program(Mode::Tunnel, &[POD_IP, REMOTE_IP]);
    program.local = Local::default();
    for backend in program.services.iter_mut().flat_map(|service| &mut service.backends) {
        backend.via = Some(Via { address: NODE_IP.into(), mac: None });
    }
    program.tunnels = vec![Tunnel { addresses: vec![BALANCER_IP.into()], ..tunnel(kind) }];
    let mut lab = Lab::with(1, program, change);
    lab.master.set_kernel_addresses([IpAddr::from(BALANCER_IP)]);
    lab.publish();
    lab
}

/// The same for a service of IPv6, over IPv4.
pub(super) fn balancer_v6() -> Lab {
    let mut program = ipv6::program(Mode::Tunnel, &[ipv6::REMOTE_IP]);
    program.local = Local::default();
    for backend in program.services.iter_mut().flat_map(|service| &mut service.backends) {
        backend.via = Some(Via { address: NODE_IP.into(), mac: None });
    }
    program.tunnels = vec![Tunnel { addresses: vec![BALANCER_IP.into()], ..tunnel(Encapsulation::Vxlan) }];
    let mut lab = Lab::new(1, program);
    lab.master.set_kernel_addresses([IpAddr::from(BALANCER_IP)]);
    lab.publish();
    lab
}

fn node(workers: usize, kind: Encapsulation, backends: &[[u8; 4]]) -> Lab {
    node_with(workers, kind, backends, |_| ())
}

fn node_with(
    workers: usize,
    kind: Encapsulation,
    backends: &[[u8; 4]],
    change: impl FnOnce(&mut crate::tables::master::Setup),
) -> Lab {
    let mut program = program(Mode::Dnat, backends);
    for service in &mut program.services {
        for backend in &mut service.backends {
            backend.pools.push(Pool::Local);
        }
        let frontend = &mut service.frontends[0];
        (frontend.from, frontend.pool, frontend.when_empty) = (Side::Tunnel, Pool::Local, WhenEmpty::Drop);
    }
    program.vips[0].announce = false;
    program.tunnels = vec![Tunnel { peers: vec![IpAddr::from(BALANCER_IP).into()], ..tunnel(kind) }];
    Lab::with(workers, program, change)
}

/// What the fabric does: the same frame, to the node.
fn to_the_node(mut frame: Vec<u8>) -> Vec<u8> {
    frame[..6].copy_from_slice(&NODE.0);
    frame[6..12].copy_from_slice(&PEER.0);
    frame
}

fn wrapped(kind: Encapsulation, flags: &str) -> Vec<u8> {
    let syn = tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), flags);
    let (port, frame) = balancer(kind).one(UPLINK, &syn);
    assert_eq!(port, UPLINK);
    frame
}

#[test]
fn a_packet_goes_through_the_tunnel_to_a_pod_and_its_answer_straight_to_the_client() {
    for kind in Encapsulation::ALL {
        let frame = wrapped(kind, "S");
        let outer = Ipv4Header::from_slice(&frame[14..]).unwrap().0;
        assert_eq!((outer.source, outer.destination, outer.time_to_live), (BALANCER_IP, NODE_IP, 64));
        assert!(outer.dont_fragment);
        let inner = usize::from(kind.overhead(Family::Ipv4));
        assert_eq!(frame.len(), 14 + inner + 40, "{kind}");
        let inside = Ipv4Header::from_slice(&frame[14 + inner..]).unwrap().0;
        assert_eq!((inside.source, inside.destination, inside.time_to_live), (CLIENT, VIP, 63), "left alone");

        let mut node = node(1, kind, &[POD_IP]);
        let (port, frame) = node.one(UPLINK, &to_the_node(frame));
        assert_eq!(port, PODS);
        assert_eq!(read(&frame), (INSIDE, POD, (CLIENT, 4000), (POD_IP, 8080), 62));
        let answer = tcp((POD, INSIDE), (POD_IP, CLIENT), (8080, 4000), "SA");
        let (port, frame) = node.one(PODS, &answer);
        assert_eq!(port, UPLINK);
        assert_eq!(
            read(&frame),
            (NODE, PEER, (VIP, 80), (CLIENT, 4000), 63),
            "from the VIP, by the route to the client"
        );
    }
}

#[test]
fn any_worker_unwraps_and_the_one_that_owns_the_client_sends_on() {
    for worker in 0..2 {
        let mut node = node(2, Encapsulation::Vxlan, &[POD_IP]);
        let sent = node.arrive_at(worker, UPLINK, &to_the_node(wrapped(Encapsulation::Vxlan, "S")));
        assert_eq!(sent.len(), 1, "{:?}", node.drops());
        assert_eq!(read(&sent[0].1), (INSIDE, POD, (CLIENT, 4000), (POD_IP, 8080), 62));
    }
}

#[test]
fn entropy_is_the_flows_and_of_the_dynamic_ports() {
    let mut lab = balancer(Encapsulation::Vxlan);
    let mut port = |client: u16, flags: &str| {
        let (_, frame) = lab.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (client, 80), flags));
        UdpHeader::from_slice(&frame[34..]).unwrap().0
    };
    let header = port(4000, "S");
    assert_eq!((header.destination_port, header.checksum), (4789, 0));
    assert_eq!(port(4000, "A").source_port, header.source_port);
    let ports: std::collections::BTreeSet<u16> = (4000..4064).map(|client| port(client, "S").source_port).collect();
    assert!(ports.iter().all(|port| *port >= 0xc000));
    assert!(ports.len() > 60, "{ports:?}");
}

#[test]
fn only_a_peer_is_heard_only_about_a_service_and_never_twice_wrapped() {
    let kind = Encapsulation::Vxlan;
    let good = to_the_node(wrapped(kind, "S"));
    let mut node = node(1, kind, &[POD_IP]);

    // From somebody else; the header's checksum follows.
    let mut stranger = good.clone();
    let mut outer = Ipv4Header::from_slice(&good[14..]).unwrap().0;
    outer.source = CLIENT;
    outer.header_checksum = outer.calc_header_checksum();
    stranger[14..34].copy_from_slice(&outer.to_bytes());
    node.dropped(UPLINK, &stranger, Reason::TunnelStranger);

    let mut other = good.clone();
    other[14 + 20 + 8 + 6] ^= 1;
    node.dropped(UPLINK, &other, Reason::TunnelNetwork);
    let mut invalid = good.clone();
    invalid[14 + 20 + 8] = 0;
    node.dropped(UPLINK, &invalid, Reason::TunnelMalformed);
    // Of the inner Ethernet frame, IPv6 is announced, and IPv4 is there.
    let mut lie = good.clone();
    lie[14 + 50 - 2..14 + 50].copy_from_slice(&[0x86, 0xdd]);
    node.dropped(UPLINK, &lie, Reason::Ipv6Malformed);

    // A fragment of the tunnel's packet.
    let mut fragment = good.clone();
    outer.source = BALANCER_IP;
    (outer.dont_fragment, outer.more_fragments) = (false, true);
    outer.header_checksum = outer.calc_header_checksum();
    fragment[14..34].copy_from_slice(&outer.to_bytes());
    node.dropped(UPLINK, &fragment, Reason::TunnelFragment);

    // An address that no service has, a pod, the node itself.
    for destination in [[10, 96, 0, 9], POD_IP, NODE_IP] {
        let inner = tcp((PEER, NODE), (CLIENT, destination), (4000, 80), "S");
        node.dropped(UPLINK, &vxlan(&inner[14..]), Reason::TunnelNotService);
    }
    // A tunnel in the tunnel, of either sort.
    node.dropped(UPLINK, &vxlan(&good[14..]), Reason::TunnelNested);
    let mut header = Ipv4Header::new(20, 64, IpNumber::IPV4, CLIENT, VIP).unwrap();
    header.header_checksum = header.calc_header_checksum();
    let ipip = [&header.to_bytes()[..], &[0; 20]].concat();
    node.dropped(UPLINK, &vxlan(&ipip), Reason::TunnelNested);
    // A pod cannot.
    let mut from_a_pod = good.clone();
    from_a_pod[..6].copy_from_slice(&INSIDE.0);
    from_a_pod[6..12].copy_from_slice(&POD.0);
    assert_eq!(node.arrive(PODS, &from_a_pod), []);
    assert_eq!(node.count(Reason::TunnelStranger), 1, "and nobody unwraps it");

    assert_eq!(node.one(UPLINK, &good).0, PODS, "which does not harm the good");
}

/// An IPv4 packet from the balancer to the node by VXLAN.
fn vxlan(inner: &[u8]) -> Vec<u8> {
    let ethernet = [&[0; 12][..], &[8, 0], inner].concat();
    let payload = [&[8, 0, 0, 0, 0, 0, 1, 0][..], &ethernet].concat();
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(PEER.0, NODE.0).ipv4(BALANCER_IP, NODE_IP, 64).udp(50_000, 4789);
    builder.write(&mut frame, &payload).unwrap();
    frame
}

#[test]
fn what_does_not_fit_is_answered_with_what_would() {
    for kind in Encapsulation::ALL {
        let mut lab = balancer(kind);
        let room = 1500 - usize::from(kind.overhead(Family::Ipv4));
        let big = |length: usize| {
            let mut frame = Vec::new();
            let builder = PacketBuilder::ethernet2(PEER.0, NODE.0).ipv4(CLIENT, VIP, 64).udp(4000, 80);
            builder.write(&mut frame, &vec![7; length - 28]).unwrap();
            frame
        };
        let (_, frame) = lab.one(UPLINK, &big(room));
        assert_eq!(frame.len(), 1514, "{kind}");
        let (port, frame) = lab.one(UPLINK, &big(room + 1));
        assert_eq!(port, UPLINK);
        let packet = SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(etherparse::TransportSlice::Icmpv4(message)) = packet.transport else { panic!("{kind}") };
        let expected = etherparse::icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: room as u16 };
        assert_eq!(message.header().icmp_type, etherparse::Icmpv4Type::DestinationUnreachable(expected));
        assert_eq!(lab.handles[0].counters.get(Counter::TooBigsSent), 1);
    }
}

#[test]
fn a_flow_lives_as_long_as_its_node_has_any_backend() {
    let mut lab = balancer(Encapsulation::Gue);
    lab.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "S"));
    let chosen = lab.workers[0].memory().flows.page(0, 10).0.next().unwrap().1.backend();
    let mut services = lab.master.program().services;
    let keep = |services: &mut Vec<Service>, keep: &dyn Fn(IpAddr) -> bool| {
        services.iter_mut().for_each(|service| service.backends.retain(|backend| keep(backend.address)));
    };
    // The one that the balancer chose is gone; the node has another, and its own memory of which it chose.
    keep(&mut services, &|address| Address::from(address) != chosen.address);
    lab.amend(Delta { upsert_services: services.clone(), ..Delta::default() });
    let (_, frame) = lab.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "A"));
    assert_eq!(Ipv4Header::from_slice(&frame[14..]).unwrap().0.destination, NODE_IP);
    // Nobody is left.
    keep(&mut services, &|_| false);
    lab.amend(Delta { upsert_services: services, ..Delta::default() });
    let (_, frame) = lab.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "A"));
    assert!(tcp_flags_of(&frame).0, "reset");
}

#[test]
fn a_node_answers_the_client_itself_where_the_backend_is_gone() {
    let kind = Encapsulation::Geneve;
    let mut node = node(1, kind, &[POD_IP]);
    node.one(UPLINK, &to_the_node(wrapped(kind, "S")));
    let mut services = node.master.program().services;
    services.iter_mut().for_each(|service| service.backends.clear());
    node.amend(Delta { upsert_services: services, ..Delta::default() });
    let segment = to_the_node(wrapped(kind, "A"));
    let (port, frame) = node.one(UPLINK, &segment);
    assert_eq!(port, UPLINK);
    let (source, destination, from, to, _) = read(&frame);
    assert_eq!((source, destination, from, to), (NODE, PEER, (VIP, 80), (CLIENT, 4000)));
    // A new connection is another matter: the balancer may know better already, and the client will try again.
    let syn = balancer(kind).one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4001, 80), "S")).1;
    node.dropped(UPLINK, &to_the_node(syn), Reason::NoLocalBackend);
}

#[test]
fn a_translated_packet_can_be_wrapped_for_pods_on_an_overlay() {
    const VTEP: Mac = Mac([0x0a, 0x58, 1, 2, 3, 4]);
    let mut program = program(Mode::Nat, &[REMOTE_IP]);
    program.local = Local::default();
    program.tunnels = vec![Tunnel { port: Some(8472), ..tunnel(Encapsulation::Vxlan) }];
    for backend in program.services.iter_mut().flat_map(|service| &mut service.backends) {
        backend.via = Some(Via { address: [192, 168, 0, 11].into(), mac: Some(VTEP) });
    }
    let mut lab = Lab::new(1, program);
    let (_, frame) = lab.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "S"));
    let outer = Ipv4Header::from_slice(&frame[14..]).unwrap().0;
    assert_eq!((outer.source, outer.destination), (NODE_IP, [192, 168, 0, 11]));
    let (source, destination, from, to, ttl) = read(&frame[14 + 36..]);
    assert_eq!((source, destination, to, ttl), (NODE, VTEP, (REMOTE_IP, 8080), 63));
    assert_eq!(from.0, NODE_IP, "translated");
    // Its answer is routed, as any.
    let (_, frame) = lab.one(UPLINK, &tcp((PEER, NODE), (REMOTE_IP, NODE_IP), (8080, from.1), "SA"));
    assert_eq!(read(&frame), (NODE, PEER, (VIP, 80), (CLIENT, 4000), 63));
}

#[test]
fn an_error_about_an_answer_follows_the_flow_through_the_tunnel_to_the_pod() {
    use super::errors::{error, packet, read_error, too_big};
    let kind = Encapsulation::Vxlan;
    let (mut balancer, mut node) = (balancer(kind), node(1, kind, &[POD_IP]));
    let syn = balancer.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "S")).1;
    node.one(UPLINK, &to_the_node(syn));
    // The node sent this to the client; a router on the way could not, and tells the VIP, which is the balancer's.
    let answer = tcp((PEER, NODE), (VIP, CLIENT), (80, 4000), "SA");
    for known in [true, false] {
        if !known {
            // Another balancer gets it, or this one has forgotten: the hash leads to the same node.
            let id = balancer.workers[0].memory().flows.page(0, 10).0.next().map(|(id, _)| id).unwrap();
            balancer.workers[0].bench.memory.flows.remove(id);
        }
        let told = balancer.one(UPLINK, &error(VIP, too_big(1300), packet(&answer), 28)).1;
        let (port, told) = node.one(UPLINK, &to_the_node(told));
        assert_eq!(port, PODS);
        let told = read_error(&told);
        assert_eq!((told.to, told.kind, told.about), (POD_IP, (3, 4), ((POD_IP, 8080), (CLIENT, 4000))), "{known}");
    }
}

#[test]
fn without_a_tunnel_there_is_no_way() {
    let mut lab = balancer(Encapsulation::Ipip);
    lab.amend(Delta { tunnels: Some(Vec::new()), ..Delta::default() });
    lab.dropped(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "S"), Reason::NoTunnel);
}

#[test]
fn the_clamp_is_the_nodes_too_since_answers_do_not_pass_the_balancer() {
    let with_mss = |macs: (Mac, Mac), ips: ([u8; 4], [u8; 4]), ports: (u16, u16), acknowledges: bool| {
        let tcp = PacketBuilder::ethernet2(macs.0.0, macs.1.0).ipv4(ips.0, ips.1, 64).tcp(ports.0, ports.1, 1, 9).syn();
        let tcp = if acknowledges { tcp.ack(1) } else { tcp };
        let mut frame = Vec::new();
        let options = [etherparse::TcpOptionElement::MaximumSegmentSize(1460)];
        tcp.options(&options).unwrap().write(&mut frame, &[]).unwrap();
        frame
    };
    let offered = |packet: &[u8]| u16::from_be_bytes([packet[20 + 20 + 2], packet[20 + 20 + 3]]);
    for (on_balancer, on_node) in [(false, false), (true, false), (false, true), (true, true)] {
        let clamp = |on: bool| if on { 1410 } else { 0 };
        let kind = Encapsulation::Vxlan;
        let mut balancer = balancer_with(kind, |setup| setup.mss_clamp = clamp(on_balancer));
        let mut node = node_with(1, kind, &[POD_IP], |setup| setup.mss_clamp = clamp(on_node));
        let syn = balancer.one(UPLINK, &with_mss((PEER, NODE), (CLIENT, VIP), (4000, 80), false)).1;
        let (_, syn) = node.one(UPLINK, &to_the_node(syn));
        read(&syn);
        assert_eq!(offered(&syn[14..]), if on_balancer || on_node { 1410 } else { 1460 }, "what the pod may send");
        let (_, answer) = node.one(PODS, &with_mss((POD, INSIDE), (POD_IP, CLIENT), (8080, 4000), true));
        assert_eq!(read(&answer).2, (VIP, 80));
        // Of this the balancer sees nothing; and it is what the client then sends through the tunnel.
        assert_eq!(offered(&answer[14..]), if on_node { 1410 } else { 1460 }, "what the client may send");
    }
}
