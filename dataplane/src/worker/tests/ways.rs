//! Path MTU between the ends of a tunnel: who is believed, and who is told.

use etherparse::{Icmpv4Type, Ipv4Header};
use levee_api::tunnel::Encapsulation;

use super::errors::{error, packet, too_big};
use super::tunnel::{BALANCER_IP, balancer};
use super::*;
use crate::ways::LIFETIME;

/// A datagram to the service, of this length with its IP header.
fn datagram(length: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(PEER.0, NODE.0).ipv4(CLIENT, VIP, 64).udp(4000, 80);
    builder.write(&mut frame, &vec![7; length - 28]).unwrap();
    frame
}

/// What a router says about a wrapped frame.
fn told(wrapped: &[u8], mtu: u16) -> Vec<u8> {
    error(BALANCER_IP, too_big(mtu), packet(wrapped), 28)
}

/// The MTU that a client is told.
fn answered(frame: &[u8]) -> u16 {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    match packet.transport {
        Some(etherparse::TransportSlice::Icmpv4(message)) => match message.header().icmp_type {
            Icmpv4Type::DestinationUnreachable(etherparse::icmpv4::DestUnreachableHeader::FragmentationNeeded {
                next_hop_mtu,
            }) => next_hop_mtu,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn is_wrapped(frame: &[u8]) -> bool {
    Ipv4Header::from_slice(&frame[14..]).unwrap().0.source == BALANCER_IP
}

#[test]
fn a_router_between_the_ends_is_believed_for_ten_minutes() {
    for kind in Encapsulation::ALL {
        let mut lab = balancer(kind);
        let overhead = kind.overhead(Family::Ipv4);
        let (_, wrapped) = lab.one(UPLINK, &datagram(1400));
        lab.dropped(UPLINK, &told(&wrapped, 1300), Reason::TunnelMtuLearnt);

        let (_, frame) = lab.one(UPLINK, &datagram(1400));
        assert_eq!(answered(&frame), 1300 - overhead, "{kind}");
        let room = usize::from(1300 - overhead);
        let (_, frame) = lab.one(UPLINK, &datagram(room));
        assert!(is_wrapped(&frame));
        assert_eq!(frame.len(), 14 + 1300, "{kind}: to the byte");
        assert_eq!(answered(&lab.one(UPLINK, &datagram(room + 1)).1), 1300 - overhead);

        // A router further on, and then one that says more.
        let (_, wrapped) = lab.one(UPLINK, &datagram(room));
        lab.dropped(UPLINK, &told(&wrapped, 1200), Reason::TunnelMtuLearnt);
        lab.dropped(UPLINK, &told(&wrapped, 1290), Reason::TunnelMtuLearnt);
        assert_eq!(answered(&lab.one(UPLINK, &datagram(room)).1), 1200 - overhead);

        lab.now += LIFETIME;
        assert!(is_wrapped(&lab.one(UPLINK, &datagram(1400)).1), "{kind}: it is tried again");
    }
}

#[test]
fn what_one_worker_hears_all_know() {
    let mut program = program(Mode::Tunnel, &[POD_IP]);
    program.local = Local::default();
    for backend in program.services.iter_mut().flat_map(|service| &mut service.backends) {
        backend.via = Some(levee_api::program::Via { address: NODE_IP.into(), mac: None });
    }
    let addresses = vec![BALANCER_IP.into()];
    program.tunnels = vec![levee_api::tunnel::Tunnel { addresses, ..super::tunnel::tunnel(Encapsulation::Gue) }];
    let mut lab = Lab::new(2, program);
    lab.master.set_kernel_addresses([IpAddr::from(BALANCER_IP)]);
    lab.publish();
    let wrapped = lab.arrive_at(0, UPLINK, &datagram(1400)).remove(0).1;
    assert_eq!(lab.arrive_at(1, UPLINK, &told(&wrapped, 1300)), []);
    for worker in 0..2 {
        let sent = lab.arrive_at(worker, UPLINK, &datagram(1400));
        assert_eq!(answered(&sent[0].1), 1300 - 32, "worker {worker}");
    }
}

#[test]
fn nobody_shrinks_a_way_by_what_levee_has_not_sent() {
    let kind = Encapsulation::Vxlan;
    let mut lab = balancer(kind);
    let (_, wrapped) = lab.one(UPLINK, &datagram(1400));
    let length = (wrapped.len() - 14) as u16;
    // What is quoted, with something changed in it.
    let forged = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut quoted = wrapped.clone();
        change(&mut quoted);
        told(&quoted, 1300)
    };
    for (what, frame, reason) in [
        ("from another source", forged(&|frame| frame[26..30].copy_from_slice(&CLIENT)), Reason::TunnelErrorSpoofed),
        ("out of a port of no flow", forged(&|frame| frame[34] = 0x10), Reason::TunnelErrorSpoofed),
        ("out of another flow's port", forged(&|frame| frame[35] ^= 1), Reason::TunnelErrorSpoofed),
        ("of another length", forged(&|frame| frame[17] ^= 1), Reason::TunnelErrorSpoofed),
        ("with another mark", forged(&|frame| frame[19] ^= 1), Reason::TunnelErrorSpoofed),
        ("with none", forged(&|frame| frame[18..20].fill(0)), Reason::TunnelErrorSpoofed),
        ("to nobody's node", forged(&|frame| frame[33] = 77), Reason::TunnelErrorStranger),
        ("that fits", told(&wrapped, length), Reason::TunnelErrorSpoofed),
        ("smaller than anybody's, with what is around it", told(&wrapped, 551 + 50), Reason::IcmpMtu),
        ("of a router before RFC 1191", told(&wrapped, 0), Reason::IcmpMtu),
        ("to another port", forged(&|frame| frame[36] = 1), Reason::NotOwned),
    ] {
        println!("{what}");
        lab.dropped(UPLINK, &frame, reason);
    }
    let unreachable = Icmpv4Type::DestinationUnreachable(etherparse::icmpv4::DestUnreachableHeader::Port);
    lab.dropped(UPLINK, &error(BALANCER_IP, unreachable, packet(&wrapped), 28), Reason::TunnelError);
    assert!(is_wrapped(&lab.one(UPLINK, &datagram(1400)).1), "none of them was believed");

    // Nor often: the next ones are told the same way, and cost no more than to be counted.
    for _ in 0..100 {
        lab.arrive(UPLINK, &told(&wrapped, 1300));
    }
    assert!(lab.count(Reason::IcmpRateLimited) > 50, "{:?}", lab.drops());
}

#[test]
fn a_way_that_is_too_narrow_for_any_host_is_counted_and_sends_nobody_round_in_a_ring() {
    let mut lab = balancer(Encapsulation::Vxlan);
    let (_, wrapped) = lab.one(UPLINK, &datagram(1400));
    // No host believes in less than 552, and then sends that: what has no room for it with the outer headers is not believed.
    for mtu in [552, 601] {
        lab.dropped(UPLINK, &told(&wrapped, mtu), Reason::IcmpMtu);
        assert!(is_wrapped(&lab.one(UPLINK, &datagram(1400)).1));
    }
    lab.dropped(UPLINK, &told(&wrapped, 602), Reason::TunnelMtuLearnt);
    assert_eq!(answered(&lab.one(UPLINK, &datagram(553)).1), 552);
    assert!(is_wrapped(&lab.one(UPLINK, &datagram(552)).1), "who has been told that is not sent away again");
}

#[test]
fn who_guesses_marks_is_held_to_the_rate_and_lowers_nothing() {
    let mut lab = balancer(Encapsulation::Vxlan);
    let (_, wrapped) = lab.one(UPLINK, &datagram(1400));
    let right = u16::from_be_bytes([wrapped[18], wrapped[19]]);
    for guess in (0..2000).filter(|guess| *guess != right) {
        let mut quoted = wrapped.clone();
        quoted[18..20].copy_from_slice(&guess.to_be_bytes());
        assert_eq!(lab.arrive(UPLINK, &told(&quoted, 1300)), []);
    }
    assert_eq!(lab.count(Reason::TunnelErrorSpoofed), 20, "errors.rate of the lab");
    assert!(lab.count(Reason::IcmpRateLimited) > 1900);
    assert!(is_wrapped(&lab.one(UPLINK, &datagram(1400)).1));
    lab.now = 1000;
    lab.dropped(UPLINK, &told(&wrapped, 1300), Reason::TunnelMtuLearnt);
}

#[test]
fn ipv6_clients_get_their_1280_bytes_through_whatever_is_said_of_the_way() {
    let mut lab = super::tunnel::balancer_v6();
    let datagram = |length| super::ipv6::datagram(length);
    let (_, wrapped) = lab.one(UPLINK, &datagram(1400));
    assert!(is_wrapped(&wrapped));
    lab.dropped(UPLINK, &told(&wrapped, 602), Reason::TunnelMtuLearnt);
    let (_, frame) = lab.one(UPLINK, &datagram(1400));
    assert_eq!((frame[54], &frame[58..62]), (2, &1280u32.to_be_bytes()[..]), "ICMPv6: too big, 1,280 would fit");
    let (_, frame) = lab.one(UPLINK, &datagram(1280));
    assert!(is_wrapped(&frame) && frame.len() == 14 + 50 + 1280);
}

#[test]
fn an_error_that_does_not_fit_is_not_answered_with_another() {
    let mut lab = balancer(Encapsulation::Vxlan);
    lab.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "S"));
    let (_, wrapped) = lab.one(UPLINK, &datagram(1400));
    lab.dropped(UPLINK, &told(&wrapped, 602), Reason::TunnelMtuLearnt);
    let mut answer = tcp((PEER, NODE), (VIP, CLIENT), (80, 4000), "SA");
    answer.resize(14 + 548, 0);
    lab.dropped(UPLINK, &error(VIP, too_big(1300), packet(&answer), 548), Reason::TunnelNarrow);
    assert!(is_wrapped(&lab.one(UPLINK, &error(VIP, too_big(1300), packet(&answer), 28)).1));
}
