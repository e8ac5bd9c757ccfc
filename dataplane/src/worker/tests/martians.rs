//! Packets to this node's MAC for addresses that are no station's.

use super::*;

const LOOPBACK: [u8; 4] = [127, 0, 0, 1];

/// Where no packet goes, whoever sends it: RFC 6890, 2.2, RFC 1122, 3.2.1.3.
const NOWHERE: [[u8; 4]; 6] =
    [[0, 0, 0, 0], [0, 1, 2, 3], LOOPBACK, [127, 255, 255, 254], [240, 0, 0, 1], [255, 255, 255, 254]];
/// Where one goes in other frames.
const MANY: [[u8; 4]; 4] = [[224, 0, 0, 1], [239, 1, 0, 1], [239, 255, 255, 255], [255, 255, 255, 255]];

/// A node whose kernel has its loopback address, as every kernel has, and takes all that the uplink gets.
fn lab() -> Lab {
    let mut lab = Lab::with(1, program(Mode::Nat, &[REMOTE_IP]), |setup| setup.ports[0].passes = true);
    lab.master.set_kernel_addresses([IpAddr::from(NODE_IP), LOOPBACK.into()]);
    lab.publish();
    lab
}

fn packets(macs: (Mac, Mac), ips: ([u8; 4], [u8; 4])) -> [Vec<u8>; 3] {
    let mut ping = Vec::new();
    let builder = PacketBuilder::ethernet2(macs.0.0, macs.1.0).ipv4(ips.0, ips.1, 64).icmpv4_echo_request(7, 9);
    builder.write(&mut ping, b"data").unwrap();
    [tcp(macs, ips, (4000, 10_250), "S"), udp(macs, ips, (4000, 53)), ping]
}

#[test]
fn pods_reach_no_martian_and_not_the_nodes_loopback() {
    let mut lab = lab();
    for to in NOWHERE.into_iter().chain(MANY) {
        for frame in packets((POD, INSIDE), (POD_IP, to)) {
            // More than once: what is remembered of the first must not let the second out.
            for _ in 0..3 {
                lab.dropped(PODS, &frame, Reason::MartianDestination);
            }
        }
    }
    assert_eq!(lab.workers[0].port_mut(1).unwrap().passed(), [] as [Vec<u8>; 0]);
}

#[test]
fn to_a_mac_that_is_another_gateways_neither() {
    let mut lab = lab();
    for to in NOWHERE.into_iter().chain(MANY).filter(|to| *to != LOOPBACK) {
        lab.dropped(PODS, &udp((POD, PEER), (POD_IP, to), (4000, 53)), Reason::MartianDestination);
    }
    lab.dropped(PODS, &udp((POD, PEER), (POD_IP, LOOPBACK), (4000, 53)), Reason::OtherStation);
}

#[test]
fn from_the_fabric_neither_but_what_a_link_may_have_delivered_one_by_one_is_the_kernels() {
    let mut lab = lab();
    for to in NOWHERE {
        for frame in packets((PEER, NODE), (CLIENT, to)) {
            lab.dropped(UPLINK, &frame, Reason::MartianDestination);
        }
    }
    let to_many: Vec<_> = MANY.into_iter().flat_map(|to| packets((PEER, NODE), (CLIENT, to))).collect();
    for frame in &to_many {
        assert_eq!(lab.arrive(UPLINK, frame), []);
    }
    assert_eq!(lab.workers[0].port_mut(0).unwrap().passed(), to_many);
}

#[test]
fn the_broadcast_of_a_near_network_is_not_asked_for_and_that_of_a_far_one_is_its_routers_affair() {
    let mut lab = lab();
    let gateway = IpAddr::from([192, 168, 0, 2]);
    let routes = [
        ("192.168.0.0/24", None),
        // Two stations and no broadcast address (RFC 3021).
        ("192.168.7.0/31", None),
        ("10.9.0.0/16", Some(gateway)),
    ];
    lab.master.set_routes(routes.map(|(net, via)| (net.parse().unwrap(), UPLINK, via)));
    for near in [[192, 168, 0, 254], [192, 168, 7, 1]] {
        lab.master.set_neighbour(UPLINK, near.into(), Some(PEER));
    }
    lab.publish();
    lab.dropped(PODS, &udp((POD, INSIDE), (POD_IP, [192, 168, 0, 255]), (4000, 53)), Reason::MartianDestination);
    assert!(lab.notices.neighbours.is_empty(), "nobody is asked for its MAC");
    for to in [[192, 168, 0, 254], [192, 168, 7, 1], [10, 9, 255, 255]] {
        let (port, frame) = lab.one(PODS, &udp((POD, INSIDE), (POD_IP, to), (4000, 53)));
        assert_eq!((port, read(&frame).1), (UPLINK, PEER), "{to:?}");
    }
}
