//! Floods of new flows: what is established goes on, in fixed memory.

use levee_api::program::{MidStream, Via};
use levee_api::tunnel::Tunnel;

use super::*;
use crate::limits::Ledger;

fn limited(mut lab: Lab, of_vip: u32, of_source: u32) -> Lab {
    let limit = |rate| (rate > 0).then(|| Ledger::new(rate, MAGLEV_KEY));
    lab.workers[0].bench.memory.newcomers = Newcomers { of_vip: limit(of_vip), of_source: limit(of_source) };
    lab
}

fn syn(lab: &mut Lab, client: [u8; 4], port: u16) -> usize {
    lab.arrive(UPLINK, &tcp((PEER, NODE), (client, VIP), (port, 80), "S")).len()
}

/// A SYN of each of many clients.
fn flood(lab: &mut Lab, count: u32) -> usize {
    (0..count).map(|number| syn(lab, Ipv4Addr::from_bits(0xcb00_0000 + number).octets(), 1000)).sum()
}

fn tunnel() -> Lab {
    let mut program = program(Mode::Tunnel, &[REMOTE_IP]);
    program.local = Local::default();
    for backend in program.services.iter_mut().flat_map(|service| &mut service.backends) {
        backend.via = Some(Via { address: [192, 168, 0, 11].into(), mac: None });
    }
    program.tunnels = vec![Tunnel::default()];
    Lab::new(1, program)
}

#[test]
fn beyond_the_rate_flows_go_on_untracked_where_no_answer_passes() {
    for lab in [tunnel(), Lab::new(1, program(Mode::Dsr, &[REMOTE_IP]))] {
        let mut lab = limited(lab, 100, 0);
        assert_eq!(syn(&mut lab, CLIENT, 4000), 1);
        assert_eq!(flood(&mut lab, 500), 500, "all are sent on");
        assert_eq!(lab.workers[0].memory().flows.len(), 100, "and as many are tracked as may begin");
        let untracked = lab.handles[0].counters.get(Counter::OverLimit);
        assert_eq!(untracked, 401);
        // The established one is looked up, not counted.
        assert_eq!(lab.arrive(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "A")).len(), 1);
        assert_eq!(lab.handles[0].counters.get(Counter::OverLimit), untracked);
    }
}

#[test]
fn beyond_the_rate_flows_that_need_a_memory_do_not_begin() {
    for mode in [Mode::Nat, Mode::Dnat] {
        let mut lab = limited(Lab::new(1, program(mode, &[REMOTE_IP])), 100, 0);
        assert_eq!(syn(&mut lab, CLIENT, 4000), 1);
        assert_eq!(flood(&mut lab, 500), 99);
        assert_eq!(lab.count(Reason::NewFlowsOfVip), 401);
        assert_eq!(lab.arrive(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "A")).len(), 1);
        // A second later, there is room again.
        lab.now += 1000;
        assert_eq!(syn(&mut lab, CLIENT, 4001), 1);
    }
}

#[test]
fn one_source_does_not_take_what_is_for_all() {
    let mut lab = limited(Lab::new(1, program(Mode::Nat, &[REMOTE_IP])), 1000, 10);
    let begun: usize = (0..100).map(|port| syn(&mut lab, [203, 0, 113, 1], 1000 + port)).sum();
    assert_eq!(begun, 10);
    assert_eq!(lab.count(Reason::NewFlowsOfSource), 90);
    assert_eq!(syn(&mut lab, CLIENT, 4000), 1);
}

#[test]
fn half_open_connections_give_their_snat_ports_to_those_who_need_them_and_established_ones_do_not() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[REMOTE_IP]));
    let (_, first) = lab.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "S"));
    let source = read(&first).2;
    lab.one(UPLINK, &tcp((PEER, NODE), (REMOTE_IP, NODE_IP), (8080, source.1), "SA"));
    lab.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "A"));
    // 1,000 ports, one of them in use for good: after a while, every try finds each of its ports half open.
    for round in 0..3 {
        assert!(flood(&mut lab, 2000) >= if round == 0 { 800 } else { 1 }, "{round}");
        lab.now += 250;
        assert_eq!(syn(&mut lab, [192, 0, 2, 8], 5000 + round), 1, "there is a port for one who means it");
    }
    let (_, answer) = lab.one(UPLINK, &tcp((PEER, NODE), (REMOTE_IP, NODE_IP), (8080, source.1), "A"));
    assert_eq!(read(&answer).3, (CLIENT, 4000), "the established one has kept its own");
}

/// Two segments of each of many clients, the second of which makes a connection of it, if one believes clients.
fn flood_of_acks(lab: &mut Lab, segments: [&str; 2], count: u32) {
    for number in 0..count {
        let client = Ipv4Addr::from_bits(0xcb00_0000 + number).octets();
        for flags in segments {
            lab.arrive(UPLINK, &tcp((PEER, NODE), (client, VIP), (1000, 80), flags));
        }
    }
}

/// The table of [`Lab`] has room for 1,024 flows.
#[test]
fn clients_who_acknowledge_what_nobody_has_said_block_no_table() {
    // In the modes in which answers pass here, and where segments may begin flows in the middle of a connection and where not.
    for (mode, mid_stream, segments) in [
        (Mode::Dnat, MidStream::Hash, ["A", "A"]),
        (Mode::Dnat, MidStream::Hash, ["S", "A"]),
        (Mode::Dnat, MidStream::Reset, ["S", "A"]),
        (Mode::Nat, MidStream::Reset, ["S", "A"]),
    ] {
        let mut program = program(mode, &[REMOTE_IP]);
        program.services.iter_mut().for_each(|service| service.flows.mid_stream = Some(mid_stream));
        let mut lab = Lab::new(1, program);
        lab.now = 5;
        let (_, first) = lab.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "S"));
        let (source, target) = (read(&first).2, read(&first).3);
        let answer = |flags| tcp((PEER, NODE), (target.0, source.0), (target.1, source.1), flags);
        lab.one(UPLINK, &answer("SA"));
        lab.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "A"));
        flood_of_acks(&mut lab, segments, 3000);
        // With `nat` there are fewer ports than that, and they are given up after a while.
        lab.now += 250;
        for port in 5000..5100 {
            assert_eq!(syn(&mut lab, [192, 0, 2, 8], port), 1, "{mode} {mid_stream:?} {segments:?} {:?}", lab.drops());
        }
        assert_eq!(lab.count(Reason::FlowTableFull), 0, "{mode}");
        // Who was answered is still there, for both ends.
        assert_eq!(read(&lab.one(UPLINK, &answer("A")).1).3, (CLIENT, 4000), "{mode}");
        let goes = lab.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "A"));
        assert_eq!(read(&goes.1).3, target, "{mode}");
    }
}

/// Where no answers pass, one segment makes no flow that is kept.
#[test]
fn single_segments_of_no_connection_make_room_for_those_who_need_it() {
    let mut both = program(Mode::Dsr, &[REMOTE_IP]);
    let mut other = service(Protocol::Tcp, Mode::Dnat, &[REMOTE_IP]);
    (other.name, other.frontends[0].port) = ("default/other:http".into(), 81);
    both.services.push(other);
    let mut lab = Lab::new(1, both);
    for segment in ["S", "A", "A"] {
        lab.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), segment));
    }
    let held = lab.workers[0].memory().flows.search(&dsr(CLIENT, 4000)).unwrap();
    for number in 0..3000 {
        let client = Ipv4Addr::from_bits(0xcb00_0000 + number).octets();
        let flags = if number % 2 == 0 { "A" } else { "FA" };
        lab.one(UPLINK, &tcp((PEER, NODE), (client, VIP), (1000, 80), flags));
    }
    for port in 5000..5100 {
        lab.one(UPLINK, &tcp((PEER, NODE), ([192, 0, 2, 8], VIP), (port, 81), "S"));
    }
    assert_eq!(lab.workers[0].memory().flows.search(&dsr(CLIENT, 4000)).unwrap(), held, "it has said more than that");
    // Quiet for long, it still is the last that has to go.
    lab.now += 61_000;
    flood(&mut lab, 3000);
    assert_eq!(lab.workers[0].memory().flows.search(&dsr(CLIENT, 4000)).unwrap(), held);
}

fn dsr(client: [u8; 4], port: u16) -> crate::ends::Tuple {
    let end = |address: [u8; 4], port| crate::verdict::Endpoint { address: Ipv4Addr::from(address).into(), port };
    crate::ends::Tuple { source: end(client, port), destination: end(VIP, 80), protocol: 6 }
}
