//! Ranges of ports and whole addresses: what is more specific wins, ports are kept, and what has no ports is told by its addresses.

use super::errors::{error_from, too_big};
use super::fragments::{arrive_all, fragments, together};
use super::*;

use etherparse::{IpNumber, Ipv4Header};

const SNAT_IP: [u8; 4] = [203, 0, 113, 61];
const OTHER_IP: [u8; 4] = [10, 244, 2, 6];
const ESP: u8 = 50;

/// The ordinary service on port 80 of both protocols, a range of UDP around it, and all the rest of the address, each with a backend
/// of its own.
fn wide_program(mode: Mode) -> Program {
    let mut program = program(mode, &[REMOTE_IP]);
    let mut range = wide(service(Protocol::Udp, mode, &[[10, 244, 2, 20]]), "default/web:range");
    (range.frontends[0].port, range.frontends[0].last_port) = (70, Some(90));
    let whole = wide(service(Protocol::Any, mode, &[[10, 244, 2, 30]]), "default/web:*");
    program.services.extend([range, whole]);
    program
}

fn wide(mut service: Service, name: &str) -> Service {
    service.name = name.into();
    service.frontends[0].port = 0;
    service.backends.iter_mut().for_each(|backend| backend.port = 0);
    service
}

/// One address served whole.
fn whole(mode: Mode, backends: &[[u8; 4]]) -> Program {
    let mut program = program(mode, &[]);
    program.services = vec![wide(service(Protocol::Any, mode, backends), "default/vpn:*")];
    program
}

/// With a source for `nat` that is levee's alone, so that it may have protocols without ports.
fn lab(workers: usize, program: Program) -> Lab {
    Lab::with(workers, program, |setup| {
        let ports = PortRange { first: 61_000, last: 61_999 };
        setup.snat = vec![SnatRange { address: Ipv4Addr::from(SNAT_IP).into(), ports }];
    })
}

fn raw(macs: (Mac, Mac), ips: ([u8; 4], [u8; 4]), protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut ip = Ipv4Header::new(payload.len() as u16, 64, IpNumber(protocol), ips.0, ips.1).unwrap();
    ip.header_checksum = ip.calc_header_checksum();
    let link = Ethernet2Header { source: macs.0.0, destination: macs.1.0, ether_type: EtherType::IPV4 };
    [&link.to_bytes()[..], &ip.to_bytes(), payload].concat()
}

/// Source, destination and payload of a packet without ports; the IP checksum is right.
fn read_raw(frame: &[u8]) -> ([u8; 4], [u8; 4], Vec<u8>) {
    let (ip, payload) = Ipv4Header::from_slice(&frame[14..]).unwrap();
    assert_eq!(ip.header_checksum, ip.calc_header_checksum());
    (ip.source, ip.destination, payload[..usize::from(ip.total_len) - ip.header_len()].to_vec())
}

fn hand() -> [u8; 40] {
    std::array::from_fn(|index| index as u8)
}

#[test]
fn the_most_specific_service_wins_and_ports_are_kept() {
    for mode in [Mode::Nat, Mode::Dnat] {
        let mut lab = lab(2, wide_program(mode));
        let mut to = |frame: Vec<u8>| read(&lab.one(UPLINK, &frame).1).3;
        let udp_to = |port| udp((PEER, NODE), (CLIENT, VIP), (4000, port));
        let tcp_to = |port| tcp((PEER, NODE), (CLIENT, VIP), (4000, port), "S");
        assert_eq!(to(udp_to(80)), (REMOTE_IP, 8080), "a port by itself");
        assert_eq!(to(udp_to(70)), ([10, 244, 2, 20], 70), "first of the range");
        assert_eq!(to(udp_to(90)), ([10, 244, 2, 20], 90), "last of the range");
        assert_eq!(to(udp_to(91)), ([10, 244, 2, 30], 91), "the rest");
        assert_eq!(to(udp_to(69)), ([10, 244, 2, 30], 69));
        assert_eq!(to(tcp_to(80)), (REMOTE_IP, 8080));
        assert_eq!(to(tcp_to(70)), ([10, 244, 2, 30], 70), "the range is of another protocol");
        assert_eq!(to(tcp_to(65_535)), ([10, 244, 2, 30], 65_535));
    }
}

#[test]
fn replies_are_recognised_whatever_port_the_client_chose() {
    for mode in [Mode::Nat, Mode::Dnat] {
        let mut lab = lab(2, wide_program(mode));
        for (port, backend) in [(75, [10, 244, 2, 20]), (4711, [10, 244, 2, 30])] {
            let request = udp((PEER, NODE), (CLIENT, VIP), (4000, port));
            let (_, _, source, target, _) = read(&lab.one(UPLINK, &request).1);
            assert_eq!(target, (backend, port));
            for queue in 0..2 {
                let reply = udp((PEER, NODE), (backend, source.0), (port, source.1));
                let sent = lab.arrive_at(queue, UPLINK, &reply);
                assert_eq!(sent.len(), 1, "{:?}", lab.drops());
                let (_, _, from, to, _) = read(&sent[0].1);
                assert_eq!((from, to), ((VIP, port), (CLIENT, 4000)), "{mode}");
            }
        }
    }
}

#[test]
fn a_protocol_without_ports_is_translated_both_ways_on_any_queue() {
    for mode in [Mode::Nat, Mode::Dnat, Mode::Dsr] {
        for (workers, queue) in [(1, 0), (4, 0), (4, 1), (4, 2), (4, 3)] {
            let mut lab = lab(workers, whole(mode, &[REMOTE_IP]));
            let sent = lab.arrive_at(queue, UPLINK, &raw((PEER, NODE), (CLIENT, VIP), ESP, &hand()));
            assert_eq!(sent.len(), 1, "{:?}", lab.drops());
            let (from, to, payload) = read_raw(&sent[0].1);
            assert_eq!(payload, hand(), "no byte of it is taken for a port or a checksum");
            match mode {
                Mode::Nat => assert_eq!((from, to), (SNAT_IP, REMOTE_IP)),
                Mode::Dnat => assert_eq!((from, to), (CLIENT, REMOTE_IP)),
                _ => assert_eq!((from, to), (CLIENT, VIP)),
            }
            if mode == Mode::Dsr {
                continue;
            }
            let reply = raw((PEER, NODE), (REMOTE_IP, from), ESP, &hand());
            for back in 0..workers {
                let sent = lab.arrive_at(back, UPLINK, &reply);
                assert_eq!(sent.len(), 1, "{:?}", lab.drops());
                assert_eq!(read_raw(&sent[0].1), (VIP, CLIENT, hand().to_vec()), "{mode}");
            }
            // Another protocol is another flow, and nobody has begun it.
            let other = raw((PEER, NODE), (REMOTE_IP, from), 47, &hand());
            if mode == Mode::Nat {
                lab.dropped(UPLINK, &other, Reason::NoSnatFlow);
            } else {
                lab.dropped(UPLINK, &other, Reason::NotOwned);
            }
        }
    }
}

#[test]
fn with_nat_one_client_at_a_time_has_a_backend_in_a_protocol_without_ports() {
    let mut lab = lab(2, whole(Mode::Nat, &[REMOTE_IP]));
    lab.one(UPLINK, &raw((PEER, NODE), (CLIENT, VIP), ESP, &hand()));
    let second = raw((PEER, NODE), ([192, 0, 2, 8], VIP), ESP, &hand());
    lab.dropped(UPLINK, &second, Reason::NoSnatPort);
    lab.one(UPLINK, &raw((PEER, NODE), ([192, 0, 2, 8], VIP), 47, &hand()));
    // An address that is shared with the kernel has ports steered here, and nothing else.
    let mut shared = Lab::new(1, whole(Mode::Nat, &[REMOTE_IP]));
    shared.dropped(UPLINK, &second, Reason::NoSnatAddress);
}

#[test]
fn clients_spread_over_backends_and_each_stays_with_its_own() {
    let mut lab = lab(2, whole(Mode::Dnat, &[REMOTE_IP, OTHER_IP]));
    let mut chosen = std::collections::BTreeMap::<[u8; 4], usize>::new();
    for host in 1..=40 {
        let packet = raw((PEER, NODE), ([192, 0, 2, host], VIP), 47, &hand());
        let first = read_raw(&lab.one(UPLINK, &packet).1).1;
        assert_eq!(read_raw(&lab.arrive_at(1, UPLINK, &packet)[0].1).1, first);
        *chosen.entry(first).or_default() += 1;
    }
    assert!(chosen.len() == 2 && chosen.values().all(|count| *count >= 8), "{chosen:?}");
}

#[test]
fn a_whole_address_is_pinged_by_levee_and_refuses_what_nobody_serves() {
    let mut lab = lab(1, whole(Mode::Dnat, &[REMOTE_IP]));
    let mut echo = Vec::new();
    let builder = PacketBuilder::ethernet2(PEER.0, NODE.0).ipv4(CLIENT, VIP, 64).icmpv4_echo_request(7, 1);
    builder.write(&mut echo, b"hello").unwrap();
    let (from, to, message) = read_raw(&lab.one(UPLINK, &echo).1);
    assert_eq!((from, to, message[0]), (VIP, CLIENT, 0), "an echo reply");

    let mut empty = self::lab(1, whole(Mode::Dnat, &[]));
    let (from, to, message) = read_raw(&empty.one(UPLINK, &raw((PEER, NODE), (CLIENT, VIP), ESP, &hand())).1);
    assert_eq!((from, to, &message[..2]), (VIP, CLIENT, &[3, 3][..]));
    let (rst, _) = tcp_flags_of(&empty.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 1234), "S")).1);
    assert!(rst);
}

#[test]
fn errors_about_packets_without_ports_reach_both_ends() {
    for mode in [Mode::Nat, Mode::Dnat] {
        let mut lab = lab(2, whole(mode, &[REMOTE_IP]));
        let request = raw((PEER, NODE), (CLIENT, VIP), ESP, &hand());
        let sent = lab.one(UPLINK, &request).1;
        let (source, ..) = read_raw(&sent);
        // From a router between levee and the backend, about what levee sent.
        let error = error_from([198, 51, 100, 1], source, too_big(1400), &sent[14..], 28);
        for queue in 0..2 {
            let told = lab.arrive_at(queue, UPLINK, &error);
            assert_eq!(told.len(), 1, "{:?}", lab.drops());
            let (from, to, message) = read_raw(&told[0].1);
            assert_eq!((from, to), (VIP, CLIENT));
            let (quoted, _) = Ipv4Header::from_slice(&message[8..]).unwrap();
            assert_eq!((quoted.source, quoted.destination), (CLIENT, VIP), "as if about the client's own packet");
            assert_eq!(&message[28..36], &hand()[..8]);
        }
        // From a router between the client and levee, about the reply.
        let reply = lab.one(UPLINK, &raw((PEER, NODE), (REMOTE_IP, source), ESP, &hand())).1;
        let told = lab.one(UPLINK, &error_from([198, 51, 100, 2], VIP, too_big(1400), &reply[14..], 28)).1;
        let (from, to, message) = read_raw(&told);
        assert_eq!(to, REMOTE_IP);
        assert_eq!(from, if mode == Mode::Nat { SNAT_IP } else { [198, 51, 100, 2] });
        let (quoted, _) = Ipv4Header::from_slice(&message[8..]).unwrap();
        assert_eq!((quoted.source, quoted.destination), (REMOTE_IP, source));
    }
}

#[test]
fn fragments_of_ranges_and_whole_addresses_follow_their_first() {
    for mode in [Mode::Nat, Mode::Dnat] {
        let mut lab = lab(2, wide_program(mode));
        for (port, backend) in [(85, [10, 244, 2, 20]), (5353, [10, 244, 2, 30])] {
            let request = fragments((PEER, NODE), (CLIENT, VIP), (4000, port), 4000, 1400, port);
            let sent = arrive_all(&mut lab, 1, &request);
            let whole = together(&sent);
            assert_eq!(whole.len(), 1, "{:?}", lab.drops());
            let (_, _, source, target, _) = read(&whole[0]);
            assert_eq!(target, (backend, port));
            let answer = fragments((PEER, NODE), (backend, source.0), (port, source.1), 4000, 1400, port);
            let whole = together(&arrive_all(&mut lab, 0, &answer));
            assert_eq!(whole.len(), 1, "{:?}", lab.drops());
            let (_, _, from, to, _) = read(&whole[0]);
            assert_eq!((from, to), ((VIP, port), (CLIENT, 4000)));
        }
    }
}

#[test]
fn what_cannot_be_served_beside_each_other_is_refused_and_says_who() {
    let mut lab = lab(1, wide_program(Mode::Nat));
    let mut refused = |change: &dyn Fn(&mut Service), protocol, words: &str| {
        let mut service = wide(service(protocol, Mode::Nat, &[REMOTE_IP]), "other/thing");
        change(&mut service);
        let base = lab.master.generation();
        let delta = Delta { base, generation: base + 1, upsert_services: vec![service], ..Delta::default() };
        match lab.master.amend(delta) {
            Err(crate::tables::master::Refusal::Invalid(reasons)) => {
                assert!(reasons.iter().any(|reason| reason.contains(words)), "{reasons:?}");
            }
            other => panic!("{other:?}"),
        }
    };
    let range = |first, last| {
        move |service: &mut Service| {
            (service.frontends[0].port, service.frontends[0].last_port) = (first, Some(last));
        }
    };
    refused(&range(90, 95), Protocol::Udp, "`default/web:range` and `other/thing` both want udp ports 90-95");
    refused(&range(60, 70), Protocol::Udp, "both want udp ports 60-70");
    refused(&range(71, 72), Protocol::Udp, "both want");
    refused(&|_| (), Protocol::Any, "`default/web:*` and `other/thing` both want all of 10.96.0.1");
    refused(&range(5, 4), Protocol::Tcp, "ports 5 to 4 are no range");
    refused(&|_| (), Protocol::Tcp, "port 0");
    refused(&|service| service.frontends[0].port = 5, Protocol::Any, "port 0");
    refused(&|service| service.backends[0].port = 5, Protocol::Any, "clients choose the port");
    refused(&|service| service.frontends[0].address = [10, 96, 7, 7].into(), Protocol::Any, "no VIP");
    let base = lab.master.generation();
    let gone = Delta { base, generation: base + 1, remove_vips: vec![VIP.into()], ..Delta::default() };
    assert!(lab.master.amend(gone).is_err(), "its ranges would be steered nowhere");
    // What does not overlap, of another protocol or beside it, is taken; and the place of what goes is free again.
    let mut beside = wide(service(Protocol::Udp, Mode::Nat, &[REMOTE_IP]), "other/thing");
    (beside.frontends[0].port, beside.frontends[0].last_port) = (91, Some(95));
    let mut key = beside.key();
    lab.amend(Delta { upsert_services: vec![beside.clone()], ..Delta::default() });
    assert_eq!(read(&lab.one(UPLINK, &udp((PEER, NODE), (CLIENT, VIP), (4000, 95))).1).3, (REMOTE_IP, 95));
    key.name = "default/web:range".into();
    beside.frontends[0].port = 72;
    lab.amend(Delta { upsert_services: vec![beside], remove_services: vec![key], ..Delta::default() });
    assert_eq!(read(&lab.one(UPLINK, &udp((PEER, NODE), (CLIENT, VIP), (4000, 72))).1).3, (REMOTE_IP, 72));
    assert_eq!(read(&lab.one(UPLINK, &udp((PEER, NODE), (CLIENT, VIP), (4000, 70))).1).3, ([10, 244, 2, 30], 70));
}
