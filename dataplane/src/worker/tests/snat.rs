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

/// A batch of newcomers for whom there is none looks at so many ports, and not at as many for each.
#[test]
fn a_turn_looks_at_so_many_ports_and_no_more() {
    let mut lab = Lab::with(1, program(Mode::Nat, &[REMOTE_IP]), |setup| {
        setup.snat[0].ports.last = setup.snat[0].ports.first + 31;
    });
    for client in 0..32 {
        segment(&mut lab, client, "S").unwrap_or_else(|| panic!("{client}: {:?}", lab.drops()));
        segment(&mut lab, client, "A").unwrap();
    }
    let whole = lab.workers[0].memory().flows.ports_left();
    let now = lab.now;
    for (done, client) in (1..=60).zip(100u8..) {
        let Worker { tables, lanes, bench, .. } = &mut lab.workers[0];
        let mut frame = bench.pool.take().unwrap();
        let syn = tcp((PEER, NODE), ([203, 0, 113, client], VIP), (1000, 80), "S");
        lab.umem.write(&mut frame, &syn).unwrap();
        bench.counters.add(Counter::Rx, 1);
        bench.process(frame, UPLINK, tables.current(), now, lanes);
        assert_eq!(bench.memory.flows.ports_left(), whole.saturating_sub(31 * done));
    }
    assert_eq!(lab.settle(), []);
    assert_eq!(lab.count(Reason::NoSnatPort), 60);
    assert_eq!(lab.workers[0].memory().flows.ports_left(), whole);
}

#[test]
fn all_addresses_are_used_alike_and_a_batch_finds_the_last_third_too() {
    let own = [[192, 168, 0, 51], [192, 168, 0, 52], [192, 168, 0, 53]];
    let ports = PortRange { first: 61_000, last: 61_299 };
    let mut lab = Lab::with(1, program(Mode::Nat, &[REMOTE_IP]), |setup| {
        setup.snat = own.map(|address| SnatRange { address: Ipv4Addr::from(address).into(), ports }).into();
    });
    let mut uses = std::collections::HashMap::new();
    for batch in 0..20 {
        for client in batch * 30..(batch + 1) * 30 {
            let address = Ipv4Addr::from_bits(0xcb00_0000 + client).octets();
            let syn = tcp((PEER, NODE), (address, VIP), (1000, 80), "S");
            assert!(lab.workers[0].port_mut(0).unwrap().deliver(&syn));
        }
        let sent = lab.settle();
        assert_eq!(sent.len(), 30, "batch {batch}: {:?}", lab.drops());
        for (_, frame) in sent {
            *uses.entry(read(&frame).2.0).or_insert(0) += 1;
        }
    }
    assert!(own.iter().all(|address| (150..250).contains(&uses[address])), "{uses:?}");
}
