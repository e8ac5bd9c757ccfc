//! RSTs that somebody has forged, or that their receiver does not believe; and those that end a connection.

use super::*;

const HOUR: u32 = 3_600_000;
/// After what `timeouts.tcp_closed` leaves of a flow, and what the hand takes to come round.
const LATER: u32 = 25_000;

/// A connection through a balancer: its client, and its backend as it is seen behind.
struct Connection {
    lab: Lab,
    source: ([u8; 4], u16),
}

impl Connection {
    /// Established, both ends heard.
    fn new(mode: Mode) -> Self {
        let mut lab = Lab::new(1, program(mode, &[REMOTE_IP]));
        let (_, syn) = lab.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "S"));
        let mut connection = Connection { source: read(&syn).2, lab };
        for (client, flags) in [(false, "SA"), (true, "A"), (true, "PA"), (false, "PA")] {
            assert!(connection.passes(client, flags));
        }
        assert_eq!(connection.state(), Some("established"));
        connection
    }

    fn says(&mut self, client: bool, flags: &str) -> Vec<(PortId, Vec<u8>)> {
        let frame = if client {
            tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), flags)
        } else {
            tcp((PEER, NODE), (REMOTE_IP, self.source.0), (8080, self.source.1), flags)
        };
        self.lab.arrive(UPLINK, &frame)
    }

    /// Whether a segment of either end gets to the other, translated as those before.
    fn passes(&mut self, client: bool, flags: &str) -> bool {
        let sent = self.says(client, flags);
        let [(_, frame)] = &sent[..] else { panic!("{sent:?} {:?}", self.lab.drops()) };
        let (_, _, source, destination, _) = read(frame);
        let ends = if client { (self.source, (REMOTE_IP, 8080)) } else { ((VIP, 80), (CLIENT, 4000)) };
        (source, destination) == ends
    }

    fn waits(&mut self, time: u32) {
        // The hand goes round step by step, and time does not wrap meanwhile.
        for _ in 0..time / 5000 {
            self.lab.now += 5000;
            self.lab.settle();
        }
    }

    fn state(&self) -> Option<&'static str> {
        let flows = &self.lab.workers[0].memory().flows;
        flows.page(0, flows.capacity()).0.next().map(|(_, flow)| flow.state.name())
    }
}

#[test]
fn a_blind_reset_that_is_challenged_costs_a_connection_nothing() {
    for (mode, forged_as_client) in [(Mode::Nat, true), (Mode::Nat, false), (Mode::Dnat, true), (Mode::Dnat, false)] {
        let mut connection = Connection::new(mode);
        assert!(connection.passes(forged_as_client, "R"), "its receiver is to judge it");
        assert_eq!(connection.state(), Some("reset"));
        assert!(connection.passes(!forged_as_client, "A"), "the challenge");
        assert!(connection.passes(true, "PA"), "data goes on");
        assert!(connection.passes(false, "A"));
        assert_eq!(connection.state(), Some("established"), "{mode:?} {forged_as_client}");
        connection.waits(2 * HOUR);
        assert!(connection.passes(false, "PA"), "after two hours of silence");
        assert!(connection.passes(true, "PA"));
    }
}

#[test]
fn one_that_is_ignored_costs_nothing_if_the_client_speaks_before_it_is_forgotten() {
    let mut connection = Connection::new(Mode::Nat);
    assert!(connection.passes(false, "R"));
    connection.waits(5_000);
    assert!(connection.passes(true, "PA"));
    assert!(connection.passes(false, "PA"));
    connection.waits(2 * HOUR);
    assert!(connection.passes(true, "PA"));
}

#[test]
fn a_client_whose_backend_has_challenged_has_as_long_as_a_handshake_to_speak() {
    let mut connection = Connection::new(Mode::Nat);
    assert!(connection.passes(true, "R"));
    assert!(connection.passes(false, "A"));
    assert_eq!(connection.state(), Some("syn"));
    connection.waits(45_000);
    assert!(connection.passes(true, "PA"));
    assert_eq!(connection.state(), Some("established"));
}

#[test]
fn a_real_reset_ends_it_whatever_was_under_way() {
    for by_client in [true, false] {
        let mut connection = Connection::new(Mode::Nat);
        // Three segments meet a socket that is gone, which answers each.
        assert!(connection.passes(by_client, "RA"));
        for _ in 0..3 {
            assert!(connection.passes(!by_client, "PA"));
            assert!(connection.passes(by_client, "R"));
        }
        assert_eq!(connection.state(), Some("reset"));
        connection.waits(LATER);
        assert_eq!(connection.state(), None, "by the client: {by_client}");
    }
}

#[test]
fn a_client_that_resets_and_never_answers_again_is_forgotten_as_one_that_never_acknowledged() {
    let mut connection = Connection::new(Mode::Nat);
    assert!(connection.passes(true, "RA"));
    // What was under way when it was gone; a firewall before it keeps silent.
    for flags in ["PA", "A", "PA"] {
        assert!(connection.passes(false, flags));
    }
    assert_eq!(connection.state(), Some("syn"));
    connection.waits(60_000 + LATER);
    assert_eq!(connection.state(), None);
}

#[test]
fn one_that_both_have_closed_is_over_after_the_last_acknowledgement() {
    for client_first in [true, false] {
        let mut connection = Connection::new(Mode::Nat);
        for (client, flags) in [
            (client_first, "FA"),
            (!client_first, "A"),
            (!client_first, "FA"),
            (client_first, "A"),
            (client_first, "R"),
        ] {
            assert!(connection.passes(client, flags));
        }
        assert_eq!(connection.state(), Some("closed"));
        connection.waits(LATER);
        assert_eq!(connection.state(), None);
    }
}

#[test]
fn a_port_that_is_used_again_after_a_reset_begins_another_connection() {
    let mut connection = Connection::new(Mode::Nat);
    assert!(connection.passes(true, "R"));
    let sent = connection.says(true, "S");
    connection.source = read(&sent[0].1).2;
    assert_eq!(connection.state(), Some("syn"));
    for (client, flags) in [(false, "SA"), (true, "A")] {
        assert!(connection.passes(client, flags));
    }
    assert_eq!(connection.state(), Some("established"));
}
