//! Flows while backends come and go: nothing hangs, nothing goes to the dead, nothing leaves untranslated.

use super::*;

const OTHER: [u8; 4] = [10, 244, 3, 5];

fn set(lab: &mut Lab, mode: Mode, backends: &[[u8; 4]]) {
    let services = [Protocol::Tcp, Protocol::Udp].map(|protocol| service(protocol, mode, backends));
    lab.amend(Delta { upsert_services: services.into(), ..Delta::default() });
}

fn question() -> Vec<u8> {
    udp((PEER, NODE), (CLIENT, VIP), (4000, 80))
}

/// Where a datagram of the client's goes; it gets no answers, so that nothing but its own packets can move it.
fn goes_to(lab: &mut Lab) -> [u8; 4] {
    read(&lab.one(UPLINK, &question()).1).3.0
}

#[test]
fn one_way_udp_moves_at_once_when_its_backend_dies_and_through_zero_and_back() {
    for mode in [Mode::Nat, Mode::Dnat] {
        let mut lab = Lab::new(1, program(mode, &[REMOTE_IP]));
        assert_eq!(goes_to(&mut lab), REMOTE_IP);
        set(&mut lab, mode, &[OTHER]);
        assert_eq!(goes_to(&mut lab), OTHER, "{mode}: at once");
        // Zero: the client is told, and the flow is not kept for whoever comes next.
        set(&mut lab, mode, &[]);
        let (_, frame) = lab.one(UPLINK, &question());
        assert_eq!(frame[34..36], [3, 3], "{mode}: port unreachable");
        assert!(lab.workers[0].memory().flows.is_empty());
        set(&mut lab, mode, &[REMOTE_IP]);
        assert_eq!(goes_to(&mut lab), REMOTE_IP, "{mode}: and back");
        // The Service itself goes and comes: another one, with a flow of its own.
        let gone = lab.master.program().services.iter().map(levee_api::program::Service::key).collect();
        lab.amend(Delta { remove_services: gone, ..Delta::default() });
        let (_, frame) = lab.one(UPLINK, &question());
        assert_eq!(frame[34..36], [3, 3]);
        set(&mut lab, mode, &[OTHER]);
        assert_eq!(goes_to(&mut lab), OTHER);
        assert_eq!(lab.drops(), []);
    }
}

#[test]
fn a_backend_that_comes_back_does_not_bring_reset_connections_back() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[REMOTE_IP]));
    let segment = |flags| tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), flags);
    lab.one(UPLINK, &segment("S"));
    lab.one(UPLINK, &segment("A"));
    set(&mut lab, Mode::Nat, &[OTHER]);
    assert!(tcp_flags_of(&lab.one(UPLINK, &segment("A")).1).0);
    set(&mut lab, Mode::Nat, &[REMOTE_IP]);
    assert!(tcp_flags_of(&lab.one(UPLINK, &segment("A")).1).0, "the client was told that it is over");
    assert_eq!(read(&lab.one(UPLINK, &segment("S")).1).3.0, REMOTE_IP);
}

#[test]
fn a_segment_of_no_flow_is_reset_or_goes_where_every_balancer_sends_it_and_never_out_as_it_came() {
    const BACKENDS: [[u8; 4]; 3] = [REMOTE_IP, OTHER, [10, 244, 4, 5]];
    let segment = |port| tcp((PEER, NODE), (CLIENT, VIP), (port, 80), "A");
    let mut nat = Lab::new(1, program(Mode::Nat, &BACKENDS));
    assert!(tcp_flags_of(&nat.one(UPLINK, &segment(4000)).1).0);
    let mut one = Lab::new(1, program(Mode::Dnat, &BACKENDS));
    let mut other = Lab::new(1, program(Mode::Dnat, &BACKENDS));
    for port in 4000..4020 {
        let begun = read(&one.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (port, 80), "S")).1);
        assert_eq!(read(&other.one(UPLINK, &segment(port)).1).3, begun.3);
    }
    // Its own reset is nothing to answer.
    nat.dropped(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4001, 80), "R"), Reason::NoReplyAllowed);
}
