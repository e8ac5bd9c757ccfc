#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;

use levee_api::net::Mac;
use proptest::prelude::*;

use super::*;
use crate::hash::MAGLEV_KEY;
use crate::verdict::Endpoint;

fn datagram(identification: u32) -> Datagram {
    Datagram { source: Address::v4(1), destination: Address::v4(2), identification, protocol: 17 }
}

fn piece(offset: u32, length: u32, more: bool) -> Piece {
    Piece { identification: 7, offset, length, more, header: 14 }
}

fn begun() -> Fragments {
    let mut table = Fragments::new(MAGLEV_KEY);
    table.begin(datagram(7), &piece(0, 1480, true), Course::Pass, 1_000);
    table
}

#[test]
fn later_fragments_follow_their_first_and_nobody_elses() {
    let mut table = begun();
    assert_eq!(table.follow(&datagram(7), &piece(1480, 1480, true), 1_000), Follows::Course(Course::Pass));
    assert_eq!(table.follow(&datagram(8), &piece(1480, 1480, true), 1_000), Follows::Unknown);
    let other = Datagram { protocol: 6, ..datagram(7) };
    assert_eq!(table.follow(&other, &piece(1480, 1480, true), 1_000), Follows::Unknown);
}

#[test]
fn a_complete_datagram_is_forgotten_and_an_incomplete_one_after_its_time() {
    let mut table = begun();
    // The last one overtakes the one in the middle.
    assert_eq!(table.follow(&datagram(7), &piece(2960, 5, false), 1_000), Follows::Course(Course::Pass));
    assert_eq!(table.follow(&datagram(7), &piece(1480, 1480, true), 1_000), Follows::Course(Course::Pass));
    assert_eq!(table.follow(&datagram(7), &piece(1480, 1480, true), 1_000), Follows::Unknown);
    let mut table = begun();
    assert_eq!(table.follow(&datagram(7), &piece(1480, 1480, true), 2_999), Follows::Course(Course::Pass));
    assert_eq!(table.follow(&datagram(7), &piece(2960, 1480, true), 4_999), Follows::Unknown);
}

#[test]
fn duplicates_end_and_overlaps_end_their_datagram() {
    let mut table = begun();
    let follow = |table: &mut Fragments, piece| table.follow(&datagram(7), &piece, 1_000);
    assert_eq!(follow(&mut table, piece(1480, 1480, true)), Follows::Course(Course::Pass));
    assert_eq!(follow(&mut table, piece(1480, 1480, true)), Follows::Drop(Reason::FragmentDuplicate));
    assert_eq!(follow(&mut table, piece(1488, 8, true)), Follows::Drop(Reason::FragmentDuplicate));
    // The ports of the first, rewritten by another: RFC 1858.
    assert_eq!(follow(&mut table, piece(8, 16, true)), Follows::Drop(Reason::FragmentDuplicate));
    assert_eq!(follow(&mut table, piece(2952, 16, true)), Follows::Drop(Reason::FragmentOverlap));
    let ended = Follows::Course(Course::Drop(Reason::FragmentOverlap));
    assert_eq!(follow(&mut table, piece(2960, 8, false)), ended);
    for (what, pieces) in [
        ("a second end", [piece(1480, 80, false), piece(2000, 80, false)]),
        ("data behind the end", [piece(1480, 80, false), piece(1560, 80, true)]),
        ("an end before data", [piece(2960, 80, true), piece(1480, 80, false)]),
        ("a second end inside of the last", [piece(1480, 80, false), piece(1480, 72, false)]),
        ("an end inside of what there was", [piece(1480, 80, true), piece(1480, 72, false)]),
    ] {
        // Not complete: a hole is left.
        let mut table = Fragments::new(MAGLEV_KEY);
        table.begin(datagram(7), &piece(0, 1472, true), Course::Pass, 1_000);
        assert_eq!(follow(&mut table, pieces[0]), Follows::Course(Course::Pass), "{what}");
        assert_eq!(follow(&mut table, pieces[1]), Follows::Drop(Reason::FragmentOverlap), "{what}");
    }
}

#[test]
fn a_datagram_of_nothing_but_holes_ends() {
    let mut table = begun();
    let mut follow = |at: u32| table.follow(&datagram(7), &piece(1480 + at * 16, 8, true), 1_000);
    for at in 1..SPANS as u32 {
        assert_eq!(follow(at), Follows::Course(Course::Pass), "{at}");
    }
    assert_eq!(follow(SPANS as u32), Follows::Drop(Reason::FragmentOverlap));
}

fn forward(port: u16, identification: u32) -> Course {
    let rewrite = Rewrite {
        destination_mac: Mac([2, 0, 0, 0, 0, 1]),
        source_mac: Mac([2, 0, 0, 0, 0, 2]),
        source: Some(Endpoint { address: Address::v4(9), port }),
        destination: None,
        decrement_ttl: true,
    };
    Course::Forward(PortId(0), rewrite, identification)
}

#[test]
fn a_first_fragment_that_comes_again_goes_on_as_it_did_and_ends_nothing() {
    let mut table = Fragments::new(MAGLEV_KEY);
    let first = piece(0, 1480, true);
    assert_eq!(table.begin(datagram(7), &first, forward(61_000, 1), 0), Begins::Course(forward(61_000, 1)));
    assert_eq!(table.follow(&datagram(7), &piece(1480, 1480, true), 1_500), Follows::Course(forward(61_000, 1)));
    // Its course has been drawn another identification by now, and counts for nothing.
    assert_eq!(table.begin(datagram(7), &first, forward(61_000, 2), 3_000), Begins::Course(forward(61_000, 1)));
    let again = table.follow(&datagram(7), &piece(1480, 1480, true), 4_500);
    assert_eq!(again, Follows::Drop(Reason::FragmentDuplicate), "what was seen is seen, and for as long");
    assert_eq!(table.follow(&datagram(7), &piece(2960, 5, false), 4_500), Follows::Course(forward(61_000, 1)));
    // Complete, and so it is another datagram's now.
    assert_eq!(table.begin(datagram(7), &first, forward(61_000, 3), 4_500), Begins::Course(forward(61_000, 3)));
}

#[test]
fn a_first_fragment_that_is_decided_otherwise_or_comes_late_begins_anew() {
    for (course, now) in [(forward(61_001, 2), 1), (Course::Pass, 1), (forward(61_000, 2), 2_000)] {
        let mut table = Fragments::new(MAGLEV_KEY);
        table.begin(datagram(7), &piece(0, 1480, true), forward(61_000, 1), 0);
        table.follow(&datagram(7), &piece(1480, 1480, true), 0);
        assert_eq!(table.begin(datagram(7), &piece(0, 1480, true), course, now), Begins::Course(course));
        assert_eq!(table.follow(&datagram(7), &piece(1480, 1480, true), now), Follows::Course(course));
    }
    // Of what went nowhere, each first fragment is told anew.
    let mut table = begun();
    let (limited, refused) = (Course::Drop(Reason::ReplyRateLimited), Course::Drop(Reason::NoReplyAllowed));
    table.begin(datagram(8), &piece(0, 1480, true), limited, 1_000);
    table.begin(datagram(8), &piece(0, 1480, true), refused, 1_000);
    assert_eq!(table.follow(&datagram(8), &piece(1480, 1480, true), 1_000), Follows::Course(refused));
}

/// As among the later ones: inside of what was seen it is a duplicate, and past it an overlap.
#[test]
fn a_first_fragment_of_another_length_is_not_believed() {
    let mut table = begun();
    let begin = |table: &mut Fragments, length| table.begin(datagram(7), &piece(0, length, true), Course::Pass, 1_000);
    assert_eq!(begin(&mut table, 8), Begins::Drop(Reason::FragmentDuplicate));
    assert_eq!(begin(&mut table, 1480), Begins::Course(Course::Pass));
    assert_eq!(begin(&mut table, 1488), Begins::Drop(Reason::FragmentOverlap));
    let ended = Follows::Course(Course::Drop(Reason::FragmentOverlap));
    assert_eq!(table.follow(&datagram(7), &piece(1480, 1480, true), 1_000), ended);
    assert_eq!(begin(&mut table, 1488), Begins::Course(Course::Pass), "all of it may come once more");
}

/// RFC 8200, 4.5: "only those headers in the Offset zero fragment packet are retained".
#[test]
fn fragments_of_ipv6_are_of_one_datagram_whatever_header_they_name() {
    let of = |(source, destination): (Address, Address), protocol| {
        let (fragment, transport) = (crate::headers::Fragment::Later, crate::headers::Transport::Other);
        let ip = Ip { source, destination, protocol, ttl: 64, tos: 0, fragment, l4: 62, end: 70, transport };
        Datagram::of(&ip, &piece(1480, 8, true))
    };
    let v4 = (Address::v4(1), Address::v4(2));
    let v6 = (Address::v6(1 << 120), Address::v6(2 << 120));
    assert_eq!(of(v6, 17), of(v6, 60));
    assert_ne!(of(v4, 17), of(v4, 6));
}

#[test]
fn a_flood_of_first_fragments_takes_the_places_of_the_oldest() {
    let mut table = begun();
    for identification in 100..100_000 {
        table.begin(datagram(identification), &piece(0, 8, true), Course::Pass, 1_001);
    }
    assert_eq!(table.follow(&datagram(7), &piece(1480, 1480, true), 1_001), Follows::Unknown);
    table.begin(datagram(7), &piece(0, 1480, true), Course::Pass, 1_002);
    assert_eq!(table.follow(&datagram(7), &piece(1480, 1480, true), 1_002), Follows::Course(Course::Pass));
}

#[test]
fn identifications_of_workers_are_apart_and_come_again_late() {
    for workers in [1, 2, 3, 16] {
        let mut seen = BTreeSet::new();
        let mut all: Vec<_> = (0..workers).map(|worker| Identifications::new(worker, workers, MAGLEV_KEY)).collect();
        for _ in 0..65_536 / workers {
            for one in &mut all {
                assert!(seen.insert(one.next(Address::v4(9)) as u16), "{workers} workers");
            }
        }
    }
}

proptest! {
    /// However they are cut and in whatever order they come: each fragment goes once, and then the datagram is forgotten;
    /// unless they are in more pieces at a time than are kept apart, and then it ends as a whole.
    #[test]
    fn fragments_in_any_order_pass_once(
        cuts in prop::collection::btree_set(1u32..1000, 1..24), tail in 1u32..9, order in any::<u64>(),
    ) {
        let mut bounds: Vec<u32> = std::iter::once(0).chain(cuts).map(|cut| cut * 8).collect();
        let last = *bounds.last().unwrap();
        bounds.push(last + tail);
        let mut pieces: Vec<_> =
            bounds.windows(2).map(|ends| piece(ends[0], ends[1] - ends[0], ends[1] != last + tail)).collect();
        let first = pieces.remove(0);
        let mut key = order;
        pieces.sort_by_cached_key(|piece| { key = key.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1); key ^ u64::from(piece.offset) << 20 });
        let mut table = Fragments::new(MAGLEV_KEY);
        table.begin(datagram(7), &first, Course::Pass, 0);
        let mut ended = false;
        for piece in &pieces {
            match table.follow(&datagram(7), piece, 0) {
                Follows::Course(Course::Pass) => prop_assert!(!ended),
                Follows::Drop(Reason::FragmentOverlap) | Follows::Course(Course::Drop(Reason::FragmentOverlap)) => {
                    prop_assert!(pieces.len() > SPANS);
                    ended = true;
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
        if !ended {
            prop_assert_eq!(table.follow(&datagram(7), &pieces[0], 0), Follows::Unknown);
        }
    }
}
