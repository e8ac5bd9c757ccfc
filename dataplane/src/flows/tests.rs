#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashMap;

use levee_api::program::Mode;
use proptest::prelude::*;

use super::hand::{LAP, MOST_FORGOTTEN};
use super::*;
use crate::address::Address;
use crate::hash::MAGLEV_KEY;
use crate::verdict::Endpoint;

fn tuple(client: u32) -> Tuple {
    Tuple {
        source: Endpoint { address: Address::v4(0x0a00_0000 + client), port: 40_000 },
        destination: Endpoint { address: Address::v4(0x0a60_0001), port: 80 },
        protocol: 6,
    }
}

const BACKEND: Endpoint = Endpoint { address: Address::v4(0x0af4_0101), port: 8080 };

/// One that was answered as soon as it began.
fn flow(client: u32, state: State, now: Millis) -> Flow {
    let source = Endpoint { address: Address::v4(0xc0a8_0001), port: 10_000 + client as u16 };
    Flow { answered: true, ..Flow::new(&tuple(client), BACKEND, source, Mode::Nat, state, now) }
}

/// One that is established by its client's word alone.
fn claimed(client: u32, mode: Mode, now: Millis) -> Flow {
    Flow { answered: false, mode, ..flow(client, State::Established, now) }
}

fn reply(client: u32) -> Tuple {
    Tuple { source: BACKEND, destination: flow(client, State::Syn, 0).source(), protocol: 6 }
}

fn table(capacity: usize) -> Flows {
    Flows::new(capacity, MAGLEV_KEY, Timeouts::default()).unwrap()
}

#[test]
fn both_directions_find_the_same_flow() {
    let mut flows = table(16);
    let id = flows.insert(&flow(1, State::Syn, 0), 0).unwrap();
    assert_eq!(flows.find(&tuple(1)), Some((id, Direction::Forward)));
    assert_eq!(flows.find(&reply(1)), Some((id, Direction::Reverse)));
    assert_eq!(flows.find(&tuple(2)), None);
    assert!(flows.insert(&flow(1, State::Syn, 0), 0).is_none(), "a tuple is one flow's");
    flows.remove(id);
    assert_eq!((flows.find(&tuple(1)), flows.find(&reply(1)), flows.len()), (None, None, 0));
}

#[test]
fn a_full_table_evicts_what_is_worth_least_and_never_an_established_flow() {
    let mut flows = table(8);
    for client in 0..7 {
        flows.insert(&flow(client, State::Established, 0), 0).unwrap();
    }
    flows.insert(&flow(7, State::Syn, 0), 0).unwrap();
    flows.insert(&flow(8, State::Established, 1), 1).expect("the half-open flow makes room");
    assert_eq!(flows.find(&tuple(7)), None);
    assert!(flows.insert(&flow(9, State::Syn, 1), 1).is_none(), "nothing may be evicted");
    assert!((0..7).chain([8]).all(|client| flows.find(&tuple(client)).is_some()));
}

#[test]
fn whom_nobody_has_answered_is_half_open_whatever_its_client_says() {
    let mut flows = table(8);
    for client in 0..7 {
        flows.insert(&flow(client, State::Established, 0), 0).unwrap();
    }
    let id = flows.insert(&claimed(7, Mode::Nat, 0), 0).unwrap();
    assert_eq!(flows.age(id, 0), Some((State::Syn, 0)));
    assert_eq!(flows.remaining(&flows.get(id).unwrap(), 1_000), Timeouts::default().syn - 1_000);
    let id = flows.insert(&claimed(8, Mode::Dnat, 1), 1).expect("the other makes room");
    assert_eq!(flows.find(&tuple(7)), None);
    // An answer is remembered, also when its next hop is not: of that nobody need know any more.
    let hop = NextHop::new(crate::verdict::PortId(1), levee_api::net::Mac([2, 0, 0, 0, 0, 9]));
    let mut answered = flows.get(id).unwrap();
    (answered.answered, answered.reverse_hop) = (true, Some(hop));
    flows.store(id, &answered);
    answered.reverse_hop = None;
    flows.store(id, &answered);
    assert_eq!(flows.get(id), Some(answered));
    assert!(flows.insert(&flow(9, State::Syn, 1), 1).is_none(), "nobody makes room");
    answered.reverse_hop = Some(hop);
    flows.store(id, &answered);
    assert_eq!(flows.get(id), Some(answered));
    assert_eq!(flows.hops.held().1, 1);
    flows.remove(id);
    assert_eq!(flows.hops.held().1, 0);
}

/// Chosen one insert ahead, while it was half open.
#[test]
fn who_is_answered_at_the_last_moment_stays() {
    let mut flows = table(64);
    for client in 0..65 {
        flows.insert(&claimed(client, Mode::Nat, 0), 0).unwrap();
    }
    for client in 65..100 {
        let Doomed { id, .. } = flows.doomed;
        let mut saved = flows.get(id).unwrap();
        saved.answered = true;
        flows.store(id, &saved);
        flows.insert(&claimed(client, Mode::Nat, 0), 0).unwrap();
        assert_eq!(flows.get(id), Some(saved));
    }
}

#[test]
fn where_no_answers_pass_who_is_quiet_for_a_minute_makes_room_and_after_everybody_else() {
    let mut flows = table(64);
    for client in 0..60 {
        flows.insert(&claimed(client, Mode::Dsr, client), client).unwrap();
    }
    let now = 60_100;
    let udp = |client| Flow { state: State::Udp, ..claimed(client, Mode::Dsr, now) };
    for client in 60..100 {
        flows.insert(&udp(client), now).expect("what is worth less goes, as new as it is");
        // What this turn may look at would be used up.
        flows.expire(now);
    }
    assert!((0..60).all(|client| flows.find(&tuple(client)).is_some()));
    // Once these are gone: the one that has been quiet longest of all.
    for client in 100..109 {
        flows.insert(&flow(client, State::Established, now), now).unwrap();
    }
    assert!((0..5).all(|client| flows.find(&tuple(client)).is_none()));
    assert!((5..60).all(|client| flows.find(&tuple(client)).is_some()));
    // While it has said something in the last minute, none does.
    let mut flows = table(64);
    for client in 0..64 {
        flows.insert(&claimed(client, Mode::Tunnel, client), client).unwrap();
    }
    assert!(flows.insert(&flow(64, State::Syn, 59_999), 59_999).is_none());
    assert!(flows.insert(&flow(64, State::Syn, 60_000), 60_000).is_some());
}

/// However many want a place in a table of flows that keep theirs: the entries that are looked at for it are counted, by the hand, which
/// moves by one with each.
#[test]
fn a_turn_looks_at_so_many_entries_for_room_and_no_more() {
    let mut flows = table(50_000);
    for client in 0..50_000 {
        flows.insert(&flow(client, State::Established, 0), 0).unwrap();
    }
    for turn in 1..4 {
        let before = flows.hand;
        for client in 50_000..51_000 {
            assert!(flows.insert(&flow(client, State::Syn, turn), turn).is_none());
        }
        assert_eq!(flows.hand - before, effort::ENTRIES as usize, "turn {turn}");
        assert_eq!(flows.expire(turn), 0);
    }
    // And half-open ones make room for a whole batch and more of them, each at the price of a few looks.
    let mut flows = table(50_000);
    for client in 0..50_000 {
        flows.insert(&flow(client, State::Syn, 0), 0).unwrap();
    }
    for turn in 1..4 {
        for client in 0..100 {
            assert!(
                flows.insert(&flow(50_000 + 100 * turn + client, State::Syn, turn), turn).is_some(),
                "{turn} {client}"
            );
        }
        flows.expire(turn);
    }
}

#[test]
fn who_is_to_be_forgotten_and_has_come_to_life_is_not() {
    let mut flows = table(64);
    for client in 0..64 {
        flows.insert(&flow(client, State::Syn, client), client).unwrap();
    }
    for client in 64..80 {
        flows.insert(&flow(client, State::Syn, client), client).unwrap();
        // Whoever is to go next.
        let Doomed { id, .. } = flows.doomed;
        let mut saved = flows.get(id).unwrap();
        saved.state = State::Established;
        flows.store(id, &saved);
        flows.insert(&flow(client + 100, State::Syn, client), client).unwrap();
        assert_eq!(flows.get(id).map(|flow| (flow.forward(), flow.state)), Some((saved.forward(), State::Established)));
    }
    assert_eq!(flows.len(), 64);
}

/// What one that was to be forgotten stands in the index under is kept for when it is: not for whoever has its entry by then.
#[test]
fn who_gets_the_entry_of_one_that_was_to_be_forgotten_is_another() {
    let mut flows = table(64);
    for client in 0..65 {
        flows.insert(&flow(client, State::Syn, 0), 0).unwrap();
    }
    // Often enough to fill the index with what would be left over.
    for client in 1_000..2_000 {
        let Doomed { id, .. } = flows.doomed;
        flows.remove(id);
        assert_eq!(flows.insert(&flow(client, State::Syn, 0), 0), Some(id));
        flows.insert(&flow(client + 10_000, State::Syn, 0), 0).unwrap();
        flows.expire(0);
        let (page, _) = flows.page(0, 64);
        for (id, flow) in page {
            assert_eq!(flows.find(&flow.forward()), Some((id, Direction::Forward)));
            assert_eq!(flows.find(&flow.reverse().unwrap()), Some((id, Direction::Reverse)));
        }
    }
    assert_eq!(flows.len(), 64);
}

#[test]
fn a_vacancy_that_is_taken_meanwhile_is_none() {
    let mut flows = table(16);
    let wanted = flow(1, State::Syn, 0);
    let (first, second) = (flows.search(&tuple(1)).unwrap_err(), flows.search(&tuple(1)).unwrap_err());
    assert!(flows.begin(&wanted, first, None, 0).is_some());
    assert!(flows.begin(&wanted, second, None, 0).is_none(), "somebody else was there before");
    // One that is old and still one is as good as new.
    let (old, reverse) = (flows.search(&tuple(2)).unwrap_err(), flows.search(&reply(2)).unwrap_err());
    flows.insert(&flow(3, State::Syn, 0), 0).unwrap();
    let id = flows.begin(&flow(2, State::Syn, 0), old, Some(reverse), 0).unwrap();
    assert_eq!(flows.find(&tuple(2)), Some((id, Direction::Forward)));
    assert_eq!(flows.find(&reply(2)), Some((id, Direction::Reverse)));
    // Another flow's reply: not this one's to take.
    let same = Flow::new(&tuple(4), BACKEND, flow(2, State::Syn, 0).source(), Mode::Nat, State::Syn, 0);
    let vacancy = flows.search(&tuple(4)).unwrap_err();
    assert!(flows.begin(&same, vacancy, None, 0).is_none());
    assert_eq!((flows.len(), flows.find(&tuple(4))), (3, None));
}

#[test]
fn the_clock_hand_forgets_flows_whose_time_is_up_across_the_wrap_of_time() {
    let mut flows = table(16);
    let start = u32::MAX - 5_000;
    flows.insert(&flow(1, State::Closed, start), start).unwrap();
    flows.insert(&flow(2, State::Established, start), start).unwrap();
    assert_eq!(flows.expire(start.wrapping_add(9_999)), 0);
    // A lap later: by then it has come by.
    assert_eq!(flows.expire(start.wrapping_add(9_999 + LAP)), 1);
    assert_eq!(flows.find(&tuple(1)), None);
    assert!(flows.find(&tuple(2)).is_some());
}

#[test]
fn the_hand_comes_round_in_time_however_seldom_it_moves_and_never_does_much_at_once() {
    let mut flows = table(20_000);
    for client in 0..2_000 {
        flows.insert(&flow(client, State::Closed, 0), 0).unwrap();
    }
    let closed = Timeouts::default().closed;
    assert_eq!(flows.expire(closed), MOST_FORGOTTEN, "a pause for all of them would be one for what arrives meanwhile");
    let mut now = closed;
    while now < closed + LAP + 100 {
        now += 7;
        assert!(flows.expire(now) <= MOST_FORGOTTEN);
    }
    assert!(flows.is_empty(), "{} are left", flows.len());
}

/// As on a worker that sleeps: it comes by every 100 ms, and owes a hundredth of a lap then.
#[test]
fn a_large_table_is_gone_round_in_time_by_who_seldom_comes() {
    for flows_in_it in [1_000, 50_000] {
        let mut flows = table(1 << 20);
        for client in 0..flows_in_it {
            flows.insert(&flow(client, State::Closed, 0), 0).unwrap();
        }
        // Most of a lap away from them.
        flows.hand = flows_in_it as usize;
        let (mut now, mut calls) = (Timeouts::default().closed, 0);
        flows.expire(now);
        while flows.is_behind() {
            flows.expire(now);
        }
        flows.hand = flows_in_it as usize;
        while now < Timeouts::default().closed + LAP {
            now += 100;
            flows.expire(now);
            calls += 1;
            while flows.is_behind() {
                flows.expire(now);
                calls += 1;
            }
        }
        assert!(flows.is_empty(), "{} are left", flows.len());
        assert!(calls <= 100 * 11 + flows_in_it as usize / MOST_FORGOTTEN, "{calls} calls");
    }
}

/// Who never comes back as soon as there is more still pays what is owed, a little each time, and no more than a lap.
#[test]
fn what_the_hand_owes_is_not_forgotten_and_is_never_more_than_a_lap() {
    let mut flows = table(10_240);
    for client in 0..10_240 {
        flows.insert(&flow(client, State::Established, 0), 0).unwrap();
    }
    flows.expire(100 * LAP);
    let calls = std::iter::from_fn(|| flows.is_behind().then(|| flows.expire(100 * LAP))).count();
    assert_eq!(calls, 9, "ten times 1,024 are all");
    // A small one, of which less than one is due each time, is gone round too.
    let mut flows = table(16);
    flows.insert(&flow(1, State::Closed, 0), 0).unwrap();
    let expired: usize = (0..3 * LAP).map(|now| flows.expire(now)).sum();
    assert_eq!(expired, 1);
}

#[test]
fn a_table_fills_to_its_capacity() {
    let mut flows = table(50_000);
    for client in 0..50_000 {
        assert!(flows.insert(&flow(client, State::Established, 0), 0).is_some(), "flow {client}");
    }
    assert_eq!(flows.len(), 50_000);
    let mut seen = 0;
    let mut cursor = Some(0);
    while let Some(here) = cursor {
        let (page, next) = flows.page(here, 1_000);
        seen += page.count();
        cursor = next;
    }
    assert_eq!(seen, 50_000);
}

/// An index that is too small for its table, so that both buckets are full for many: each of whom another makes way.
#[test]
fn where_both_buckets_are_full_somebody_makes_way() {
    const COUNT: u32 = 10_000;
    let mut flows = table(COUNT as usize);
    flows.index = Index::new(COUNT as usize * 18 / 25).unwrap();
    let mut crowded = 0;
    for client in 0..COUNT {
        for tuple in [tuple(client), reply(client)] {
            crowded += u32::from(flows.index.tenants(flows.hash(&tuple)).count() == 24);
        }
        assert!(flows.insert(&flow(client, State::Syn, 0), 0).is_some(), "{client}");
    }
    assert!(crowded > 100, "{crowded}");
    for client in 0..COUNT {
        let (id, _) = flows.find(&tuple(client)).unwrap();
        assert_eq!(flows.find(&reply(client)), Some((id, Direction::Reverse)));
        flows.remove(id);
        assert_eq!((flows.find(&tuple(client)), flows.find(&reply(client))), (None, None));
    }
    assert!(flows.is_empty() && flows.index.is_empty());
}

#[test]
fn a_flow_costs_less_than_a_cache_line_its_share_of_the_index_included() {
    for capacity in [1_000, 1 << 20, 3_000_000] {
        let each = table(capacity).bytes() as f64 / capacity as f64;
        assert!(each < 64.0, "{each} bytes a flow of {capacity}");
    }
}

/// Of IPv6 it takes two entries: half as many find room, and what they leave is whole again.
#[test]
fn flows_of_ipv6_take_two_entries_and_give_both_back() {
    let v6 = |last: u32| Endpoint { address: Address::v6(0x2001_0db8 << 96 | u128::from(last)), port: 443 };
    let flow = |client: u32| {
        let tuple = Tuple { source: v6(client), destination: v6(1_000_000), protocol: 17 };
        Flow::new(&tuple, v6(2_000_000), tuple.source, Mode::Dnat, State::Udp, 0)
    };
    let mut flows = table(64);
    for round in 0..3 {
        let ids: Vec<_> = (0..32).map(|client| flows.insert(&flow(client), 0).expect("room")).collect();
        assert_eq!((flows.len(), flows.page(0, 64).0.count()), (32, 32), "round {round}");
        for (client, id) in (0..32).zip(ids) {
            assert_eq!(flows.find(&flow(client).forward()), Some((id, Direction::Forward)));
            assert_eq!(flows.find(&flow(client).reverse().unwrap()), Some((id, Direction::Reverse)));
            assert_eq!(flows.get(id), Some(flow(client)));
            flows.remove(id);
        }
        assert!(flows.is_empty());
    }
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u32),
    Remove(u32),
    Find(u32),
}

proptest! {
    #[test]
    fn it_does_what_a_hash_map_does(steps in proptest::collection::vec(prop_oneof![
        (0..60u32).prop_map(Step::Insert), (0..60u32).prop_map(Step::Remove), (0..60u32).prop_map(Step::Find)
    ], 0..400)) {
        let mut flows = table(32);
        let mut model = HashMap::new();
        for step in steps {
            match step {
                Step::Insert(client) => {
                    let inserted = flows.insert(&flow(client, State::Established, 0), 0);
                    prop_assert_eq!(inserted.is_some(), !model.contains_key(&client) && model.len() < 32);
                    if let Some(id) = inserted {
                        model.insert(client, id);
                    }
                }
                Step::Remove(client) => {
                    if let Some(id) = model.remove(&client) {
                        flows.remove(id);
                    }
                }
                Step::Find(client) => {
                    prop_assert_eq!(flows.find(&tuple(client)).map(|(id, _)| id), model.get(&client).copied());
                    prop_assert_eq!(flows.find(&reply(client)).map(|(id, _)| id), model.get(&client).copied());
                }
            }
            prop_assert_eq!(flows.len(), model.len());
        }
    }
}
