//! Ports of `nat`: whoever may have one gets one, as long as there are any that nobody needs.

use super::*;
use crate::flows::Tuple;
use crate::verdict::Endpoint;

/// A segment of a client's connection from a port.
fn segment(lab: &mut Lab, client: u32, flags: &str) -> Option<Seen> {
    let address = Ipv4Addr::from_bits(0xcb00_0000 + client).octets();
    let sent = lab.arrive(UPLINK, &tcp((PEER, NODE), (address, VIP), (1000, 80), flags));
    sent.first().map(|(_, frame)| read(frame))
}

#[test]
fn finished_connections_give_their_ports_to_those_who_come() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[REMOTE_IP]));
    // Three times as many as there are ports, within less than the ten seconds for which each is remembered.
    for client in 0..3_000 {
        let begun = segment(&mut lab, client, "S").unwrap_or_else(|| panic!("{client}: {:?}", lab.drops()));
        assert_eq!(begun.3, (REMOTE_IP, 8080));
        segment(&mut lab, client, "A").unwrap();
        segment(&mut lab, client, "R").unwrap();
        lab.now += 1;
    }
    assert!(lab.now < Timeouts::default().closed);
}

#[test]
fn connections_that_go_on_keep_theirs_and_the_last_third_is_found() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[REMOTE_IP]));
    let mut theirs = Vec::new();
    for client in 0..700 {
        theirs.push(segment(&mut lab, client, "S").unwrap().2);
        segment(&mut lab, client, "A").unwrap();
    }
    for client in 1_000..4_000 {
        let (_, _, source, ..) =
            segment(&mut lab, client, "S").unwrap_or_else(|| panic!("{client}: {:?}", lab.drops()));
        assert!(!theirs.contains(&source));
        let reply = Tuple {
            source: Endpoint { address: Address::v4(u32::from_be_bytes(REMOTE_IP)), port: 8080 },
            destination: Endpoint { address: Address::v4(u32::from_be_bytes(source.0)), port: source.1 },
            protocol: 6,
        };
        let flows = &mut lab.workers[0].bench.memory.flows;
        let (newcomer, _) = flows.find(&reply).unwrap();
        flows.remove(newcomer);
    }
    for (client, source) in (0..).zip(theirs) {
        assert_eq!(segment(&mut lab, client, "A").unwrap().2, source);
    }
}
