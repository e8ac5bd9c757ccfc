//! Flows while backends come and go: nothing hangs, nothing goes to the dead, nothing leaves untranslated.

use std::time::Duration;

use levee_api::program::MidStream;

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

/// Programs `mid_stream` for both services.
fn policy(mode: Mode, backends: &[[u8; 4]], mid_stream: Option<MidStream>) -> Program {
    let mut program = program(mode, backends);
    program.services.iter_mut().for_each(|service| service.flows.mid_stream = mid_stream);
    program
}

#[test]
fn a_segment_of_no_flow_ends_as_its_service_says_and_never_goes_out_as_it_came() {
    const BACKENDS: [[u8; 4]; 3] = [REMOTE_IP, OTHER, [10, 244, 4, 5]];
    let segment = |port| tcp((PEER, NODE), (CLIENT, VIP), (port, 80), "A");
    let hash = Some(MidStream::Hash);
    for (mode, mid_stream) in
        [(Mode::Nat, None), (Mode::Nat, hash), (Mode::Dnat, None), (Mode::Dsr, Some(MidStream::Reset))]
    {
        let mut lab = Lab::new(1, policy(mode, &BACKENDS, mid_stream));
        assert!(tcp_flags_of(&lab.one(UPLINK, &segment(4000)).1).0, "{mode}");
        // Its own reset is nothing to answer.
        lab.dropped(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4001, 80), "R"), Reason::NoReplyAllowed);
    }
    for mode in [Mode::Nat, Mode::Dnat, Mode::Dsr] {
        let mut lab = Lab::new(1, policy(mode, &BACKENDS, Some(MidStream::Drop)));
        lab.dropped(UPLINK, &segment(4000), Reason::MidStream);
        lab.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "S"));
        lab.one(UPLINK, &segment(4000));
    }
    for (mode, mid_stream) in [(Mode::Dnat, hash), (Mode::Dsr, None), (Mode::Dsr, hash)] {
        let mut one = Lab::new(1, policy(mode, &BACKENDS, mid_stream));
        let mut other = Lab::new(1, policy(mode, &BACKENDS, mid_stream));
        for port in 4000..4020 {
            let begun = read(&one.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (port, 80), "S")).1);
            let gone_on = read(&other.one(UPLINK, &segment(port)).1);
            assert_eq!((gone_on.1, gone_on.3), (begun.1, begun.3));
        }
    }
}

/// The first backend of both services drains, for so long.
fn drains(mode: Mode, seconds: Option<u32>) -> Delta {
    let services = [Protocol::Tcp, Protocol::Udp].map(|protocol| {
        let mut service = service(protocol, mode, &[REMOTE_IP, OTHER]);
        service.backends[0].pools.clear();
        service.flows.drain_seconds = seconds;
        service
    });
    Delta { upsert_services: services.into(), ..Delta::default() }
}

/// The director's clock strikes.
fn strike(lab: &mut Lab, seconds: u64) -> bool {
    let ended = lab.master.follow_drains(Duration::from_secs(seconds));
    lab.publish();
    !ended.is_empty()
}

#[test]
fn a_backend_that_drains_keeps_its_flows_until_its_time_is_over_and_then_both_ends_are_told() {
    for mode in [Mode::Nat, Mode::Dnat] {
        let mut lab = Lab::new(1, program(mode, &[REMOTE_IP]));
        let to_service = |flags| tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), flags);
        let source = read(&lab.one(UPLINK, &to_service("S")).1).2;
        lab.one(UPLINK, &to_service("A"));
        let of_backend = tcp((PEER, NODE), (REMOTE_IP, source.0), (8080, source.1), "A");
        let question = udp((PEER, NODE), (CLIENT, VIP), (4000, 80));
        assert_eq!(read(&lab.one(UPLINK, &question).1).3.0, REMOTE_IP);

        lab.amend(drains(mode, Some(60)));
        assert!(!strike(&mut lab, 100), "the time begins");
        assert_eq!(lab.master.next_drain(), Some(Duration::from_secs(160)));
        assert_eq!(lab.master.draining().len(), 2);
        assert!(!strike(&mut lab, 159));
        assert_eq!(read(&lab.one(UPLINK, &to_service("A")).1).3, (REMOTE_IP, 8080), "flows go on");
        assert_eq!(read(&lab.one(UPLINK, &of_backend).1).3, (CLIENT, 4000));
        assert_eq!(read(&lab.one(UPLINK, &question).1).3.0, REMOTE_IP);
        // A change of the program in between begins no new time.
        lab.amend(drains(mode, Some(60)));
        assert!(strike(&mut lab, 160));
        assert_eq!((lab.master.next_drain(), lab.master.draining().len()), (None, 0));

        // Whoever speaks first is told, and so is the other: by whom it believes to speak with.
        let (_, frame) = lab.one(UPLINK, &of_backend);
        assert!(tcp_flags_of(&frame).0);
        assert_eq!((read(&frame).2, read(&frame).3), (source, (REMOTE_IP, 8080)));
        let (_, frame) = lab.one(UPLINK, &to_service("A"));
        assert!(tcp_flags_of(&frame).0);
        assert_eq!(read(&frame).3, (CLIENT, 4000));
        assert!(tcp_flags_of(&lab.one(UPLINK, &of_backend).1).0, "and still is");
        assert_eq!(read(&lab.one(UPLINK, &question).1).3.0, OTHER, "a flow without a connection moves at once");
        assert_eq!(read(&lab.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "S")).1).3.0, OTHER);

        // Back in its pool, it is as good as new; and the next time is a new one.
        lab.amend(Delta { upsert_services: vec![service(Protocol::Tcp, mode, &[REMOTE_IP])], ..Delta::default() });
        assert!(!strike(&mut lab, 161));
        assert_eq!(read(&lab.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4001, 80), "S")).1).3.0, REMOTE_IP);
        lab.amend(drains(mode, Some(60)));
        assert!(!strike(&mut lab, 162));
        assert_eq!(lab.master.next_drain(), Some(Duration::from_secs(222)));
    }
}

/// levee-control was started again, and says all of it once more.
#[test]
fn a_whole_program_begins_no_new_time_for_a_backend_that_drains() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[REMOTE_IP]));
    lab.amend(drains(Mode::Nat, Some(60)));
    assert!(!strike(&mut lab, 100), "the time begins");
    let again = Program { generation: lab.master.generation() + 1, ..lab.master.program() };
    lab.master.load(again.clone()).unwrap();
    assert!(!strike(&mut lab, 130));
    assert_eq!(lab.master.next_drain(), Some(Duration::from_secs(160)));
    // With something else about the service, too.
    let mut other = Program { generation: again.generation + 1, ..again };
    other.services.iter_mut().for_each(|service| service.flows.drain_seconds = Some(90));
    lab.master.load(other).unwrap();
    assert!(!strike(&mut lab, 189));
    assert!(strike(&mut lab, 190), "of 90 seconds since 100");
}

#[test]
fn without_a_deadline_flows_of_a_backend_that_drains_go_on_and_a_deadline_may_come_later() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[REMOTE_IP]));
    let to_service = |flags| tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), flags);
    lab.one(UPLINK, &to_service("S"));
    lab.amend(drains(Mode::Nat, None));
    assert!(!strike(&mut lab, 1));
    assert!(!strike(&mut lab, 1_000_000));
    assert_eq!(lab.master.next_drain(), None);
    assert_eq!(read(&lab.one(UPLINK, &to_service("A")).1).3.0, REMOTE_IP);
    lab.amend(drains(Mode::Nat, Some(5)));
    assert!(strike(&mut lab, 1_000_000), "since it has drained for longer");
    assert!(tcp_flags_of(&lab.one(UPLINK, &to_service("A")).1).0);
    // A service that goes takes its drains along.
    let remove_services = lab.master.program().services.iter().map(Service::key).collect();
    lab.amend(Delta { remove_services, ..Delta::default() });
    assert!(lab.master.draining().is_empty());
}
