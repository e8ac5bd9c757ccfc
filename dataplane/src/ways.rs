//! What the ways to tunnels' far ends carry, as routers on them have said.
//!
//! ```text
//!   balancer ══ 1500 ══ router ── 1400 ── router ══ 1500 ══ node        far end ─► 1400, for ten minutes
//!      ▲                  │
//!      └── "1400 bytes" ──┘   about a packet that levee wrapped
//! ```
//!
//! What a router says arrives at any worker, and all of them wrap; so there is one table for all, of atomic words: whoever reads sees
//! a whole entry or none. An entry is 16 bits of a keyed hash, the MTU, and when it was told:
//!
//! ```text
//!   | tag 16 | MTU 16 | time, in milliseconds 32 |
//! ```
//!
//! Two far ends of the same tag and set (one pair in 2²⁴) share what is told of either, which costs room and no packets. A full set
//! gives up what was told longest ago, and the next packet that is too big has it told again. So nobody can make the table grow,
//! nor, not knowing the key, aim at it.
//!
//! Whether a router has seen a packet of levee's at all, the packet itself says: [`Marks`].
//!
//! An MTU goes down when a router says so, never up, and is forgotten after ten minutes (RFC 1191, 6.3; RFC 8201, 4): then a packet
//! of full size goes out once more and finds out.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod marks;

use std::sync::atomic::{AtomicU64, Ordering};

pub use self::marks::Marks;

use crate::address::Address;
use crate::flows::Millis;
use crate::hash::Key;

const SETS: usize = 256;
const PER_SET: usize = 4;

/// How long a router is believed. Both standards ask for ten minutes.
pub const LIFETIME: Millis = 10 * 60 * 1000;

/// See the module's documentation.
pub struct Ways {
    sets: Box<[[AtomicU64; PER_SET]]>,
    key: Key,
    /// What is written into outer headers, for quotes to be known by.
    pub marks: Marks,
}

#[derive(Clone, Copy)]
struct Entry {
    tag: u16,
    mtu: u16,
    at: Millis,
}

impl Entry {
    /// An empty place is an entry with an MTU of 0.
    fn read(place: &AtomicU64) -> Option<Entry> {
        let word = place.load(Ordering::Relaxed);
        let entry = Entry { tag: (word >> 48) as u16, mtu: (word >> 32) as u16, at: word as Millis };
        (entry.mtu != 0).then_some(entry)
    }

    fn word(self) -> u64 {
        u64::from(self.tag) << 48 | u64::from(self.mtu) << 32 | u64::from(self.at)
    }

    fn counts(self, tag: u16, now: Millis) -> bool {
        self.tag == tag && self.age(now) < LIFETIME
    }

    fn age(self, now: Millis) -> Millis {
        // Workers read their clocks one after the other: what another one has just heard is not from the future.
        let age = now.wrapping_sub(self.at);
        if age > Millis::MAX / 2 { 0 } else { age }
    }
}

impl Ways {
    /// Nothing is known yet. `key` must be random.
    #[must_use]
    pub fn new(key: Key) -> Self {
        // Another function of the same key: a place in the table says nothing about a mark.
        let marks = Marks::new(Key([key.word(1), key.word(2)]));
        let empty = || std::array::from_fn(|_| AtomicU64::new(0));
        Ways { sets: (0..SETS).map(|_| empty()).collect(), key, marks }
    }

    fn place(&self, far_end: Address) -> (u16, &[AtomicU64]) {
        let hash = self.key.address(far_end, 0);
        let set = self.sets.get(hash as usize % SETS).map_or(&[][..], |set| set.as_slice());
        ((hash >> 48) as u16, set)
    }

    /// The longest packet in bytes that the way to a far end carries, if a router has said so lately.
    #[must_use]
    pub fn mtu(&self, far_end: Address, now: Millis) -> Option<u16> {
        self.known(far_end, now).map(|entry| entry.mtu).min()
    }

    /// The same, and for how many milliseconds more it is believed.
    #[must_use]
    pub fn learnt(&self, far_end: Address, now: Millis) -> Option<(u16, Millis)> {
        let narrowest = self.known(far_end, now).min_by_key(|entry| entry.mtu)?;
        Some((narrowest.mtu, LIFETIME.saturating_sub(narrowest.age(now))))
    }

    fn known(&self, far_end: Address, now: Millis) -> impl Iterator<Item = Entry> {
        let (tag, set) = self.place(far_end);
        set.iter().filter_map(Entry::read).filter(move |entry| entry.counts(tag, now))
    }

    /// Believes that the way carries no more than so many bytes. Whether that is less than was known, or as much once more.
    pub fn lower(&self, far_end: Address, mtu: u16, now: Millis) -> bool {
        if self.mtu(far_end, now).is_some_and(|known| known < mtu) {
            return false;
        }
        let (tag, set) = self.place(far_end);
        // Its own place, or an empty one, or the one that was told of longest ago.
        let worth = |place: &&AtomicU64| match Entry::read(place) {
            Some(entry) if entry.tag == tag => 0,
            None => 1,
            Some(entry) => 2 + u64::from(Millis::MAX - entry.age(now)),
        };
        if let Some(place) = set.iter().min_by_key(worth) {
            // Two workers at once: one entry is lost, or there are two, of which the smaller counts.
            place.store(Entry { tag, mtu, at: now }.word(), Ordering::Relaxed);
        }
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::hash::MAGLEV_KEY;
    use proptest::prelude::*;

    fn end(number: u32) -> Address {
        Address::v4(0x0a00_0000 + number)
    }

    #[test]
    fn an_mtu_goes_down_and_not_up_and_is_forgotten_after_ten_minutes() {
        let ways = Ways::new(MAGLEV_KEY);
        assert_eq!(ways.mtu(end(1), 0), None);
        assert!(ways.lower(end(1), 1400, 1000));
        assert_eq!(ways.mtu(end(1), 1000), Some(1400));
        assert_eq!(ways.mtu(end(2), 1000), None);
        assert!(!ways.lower(end(1), 1450, 2000), "no router makes a way wider");
        assert_eq!(ways.mtu(end(1), 2000), Some(1400));
        assert!(ways.lower(end(1), 1300, 3000));
        assert_eq!(ways.mtu(end(1), 3000 + LIFETIME - 1), Some(1300));
        assert_eq!(ways.learnt(end(1), 3000 + LIFETIME - 1), Some((1300, 1)));
        assert_eq!(ways.learnt(end(1), 3000), Some((1300, LIFETIME)));
        assert_eq!(ways.learnt(end(1), 3000 + LIFETIME), None);
        assert_eq!(ways.mtu(end(1), 3000 + LIFETIME), None);
        assert!(ways.lower(end(1), 1450, 3000 + LIFETIME), "the way is another one by now");
        assert_eq!(ways.mtu(end(1), 3000 + LIFETIME), Some(1450));
    }

    #[test]
    fn being_told_again_prolongs_it() {
        let ways = Ways::new(MAGLEV_KEY);
        assert!(ways.lower(end(1), 1400, 0));
        assert!(ways.lower(end(1), 1400, LIFETIME - 1));
        assert_eq!(ways.mtu(end(1), 2 * LIFETIME - 2), Some(1400));
    }

    #[test]
    fn the_clock_may_wrap_and_another_worker_may_be_ahead() {
        let ways = Ways::new(MAGLEV_KEY);
        assert!(ways.lower(end(1), 1400, Millis::MAX));
        assert_eq!(ways.mtu(end(1), 5), Some(1400));
        assert_eq!(ways.mtu(end(1), Millis::MAX - 3), Some(1400));
    }

    #[test]
    fn a_full_table_gives_up_what_is_oldest() {
        let ways = Ways::new(MAGLEV_KEY);
        for number in 0..100_000 {
            assert!(ways.lower(end(number), 1400, number));
            assert_eq!(ways.mtu(end(number), number), Some(1400), "the newest is known");
        }
        let known = (0..100_000).filter(|number| ways.mtu(end(*number), 100_000).is_some()).count();
        assert!((SETS..SETS * PER_SET * 2).contains(&known), "{known}");
    }

    proptest! {
        #[test]
        fn no_more_is_known_than_the_least_that_was_told_lately(told in prop::collection::vec((0u32..4, 552u16..1500, 0u32..LIFETIME / 4), 1..40)) {
            let ways = Ways::new(MAGLEV_KEY);
            let mut now = 0;
            let mut model = [None::<(u16, Millis)>; 4];
            for (number, mtu, step) in told {
                now += step;
                let known = &mut model[number as usize];
                *known = known.filter(|(_, at)| now - at < LIFETIME);
                let lower = known.is_none_or(|(known, _)| mtu <= known);
                prop_assert_eq!(ways.lower(end(number), mtu, now), lower);
                if lower {
                    *known = Some((mtu, now));
                }
                prop_assert_eq!(ways.mtu(end(number), now), known.map(|(mtu, _)| mtu));
            }
        }
    }
}
