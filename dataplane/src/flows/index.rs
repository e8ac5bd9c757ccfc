//! From hashes to entries: buckets of one cache line, two to choose from.
//!
//! ```text
//!   hash: | first bucket …………… | second bucket … tag |        bucket: | 12 × tag | 12 × entry | away |
//!         64                     32               16  0                0          24           62     64
//! ```
//!
//! A tag is 16 bits of the hash, none of which choose the first bucket; an entry's number is 24 bits, which is as many flows as a
//! table has room for. So 12 keys share a cache line, one comparison of all tags finds the one that is looked for, and a full table
//! costs 16 bytes a flow for both of its tuples. A wrong tag costs a look at an entry that is another's, once in
//! some thousands of lookups.
//!
//! The first bucket is filled to three quarters before the second is looked at: nine of ten flows are then found with one
//! cache line, and still both are full for one flow in millions, and that only in a table that is full itself (Azar and others, "Balanced
//! allocations", 1994). One of the two dozen that stand there then goes to its other bucket (Pagh and Rodler, "Cuckoo hashing", 2001, of
//! which one step is enough here). Each bucket counts those that went away from it, so that who is not there, and has never been, is known
//! to be nowhere by one line too.

use std::io;

use crate::mem::lanes;
use crate::mem::pages::Pages;
use crate::mem::prefetch;

const WAYS: usize = 12;
/// Slots of four buckets that are in use when the table is full, on average: with 34, where flows come and go in a full table, both buckets of
/// ten keys in a million would be full; with 33, of one.
const FULL: usize = 33;
/// Slots of its first bucket that a key may take; with more in use, it goes where more are free.
const ENOUGH: usize = WAYS * 3 / 4;

/// Entries that can be named.
pub const MOST: usize = 1 << 24;

#[derive(Clone, Copy, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Bucket {
    /// 0 is an empty slot.
    tags: [u16; WAYS],
    /// Three octets each, the lowest first; and two that are spare, so that three can be read as four.
    entries: [u8; WAYS * 3 + 2],
    /// Keys whose first bucket this is, and who are in their second.
    away: u16,
}

const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    /// A bit for each slot that has this tag.
    #[inline(always)]
    fn matches(&self, tag: u16) -> u32 {
        lanes::equal(&self.tags, tag)
    }

    /// A bit for each slot that is empty.
    #[inline(always)]
    fn empty(&self) -> u32 {
        self.matches(0)
    }

    /// The entry in a slot, if there is such a slot.
    #[inline(always)]
    fn entry(&self, way: usize) -> Option<u32> {
        let octets = self.entries.get(way * 3..)?.first_chunk()?;
        Some(u32::from_le_bytes(*octets) & 0xff_ffff)
    }

    /// The slot with this tag and entry.
    #[inline]
    fn way(&self, tag: u16, entry: u32) -> Option<usize> {
        ways(self.matches(tag)).find(|way| self.entry(*way) == Some(entry))
    }
}

/// The slots that have bits.
#[inline(always)]
fn ways(mut bits: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let way = (bits != 0).then_some(bits.trailing_zeros() as usize);
        bits &= bits.wrapping_sub(1);
        way
    })
}

pub(super) struct Index {
    buckets: Pages<Bucket>,
}

/// What one look at the first bucket of a hash says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// This entry may have it.
    Entry(u32),
    /// It may be in the second bucket, which is asked for.
    Away,
    /// No entry has it.
    Nowhere,
}

/// Where a key may stand, and how its slot is told from others'.
#[derive(Clone, Copy)]
struct Place {
    buckets: [usize; 2],
    tag: u16,
}

/// Whether no more than `WAYS - ENOUGH` slots are empty: counting them all would take twice as long, where the processor need not have an
/// instruction for it.
#[inline(always)]
const fn is_short(mut room: u32) -> bool {
    let mut left = WAYS - ENOUGH;
    while left > 0 {
        room &= room.wrapping_sub(1);
        left -= 1;
    }
    room == 0
}

const _: () = assert!(is_short(0b111) && is_short(0) && !is_short(0b1111) && is_short(0b1000_0001) && !is_short(0xfff));

/// Where an entry would stand, by one look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seat {
    bucket: usize,
    /// The first one of its hash.
    home: usize,
    /// Beyond the last if both buckets are full.
    way: usize,
    tag: u16,
}

impl Index {
    /// Room for two keys of each of `capacity` entries, seven tenths full then.
    ///
    /// # Errors
    /// Out of memory; or more entries than [`MOST`].
    pub(super) fn new(capacity: usize) -> io::Result<Self> {
        if capacity > MOST {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        Ok(Index { buckets: Pages::new((capacity * 8).div_ceil(FULL).max(2))? })
    }

    /// Bytes that it has.
    pub(super) fn bytes(&self) -> usize {
        self.buckets.len() * size_of::<Bucket>()
    }

    #[inline(always)]
    fn first(&self, hash: u64) -> usize {
        (((hash >> 32) * self.buckets.len() as u64) >> 32) as usize
    }

    /// Never 0, which an empty slot has.
    #[inline(always)]
    fn tag(hash: u64) -> u16 {
        hash as u16 | 1
    }

    #[inline]
    fn place(&self, hash: u64) -> Place {
        let first = self.first(hash);
        let second = (((hash & 0xffff_ffff) * self.buckets.len() as u64) >> 32) as usize;
        // Always another one.
        let second = if second == first { (first + 1) % self.buckets.len() } else { second };
        Place { buckets: [first, second], tag: Self::tag(hash) }
    }

    /// Asks for the first bucket of a hash.
    #[inline(always)]
    pub(super) fn prefetch(&self, hash: u64) {
        if let Some(bucket) = self.buckets.get(self.first(hash)) {
            prefetch::read(bucket);
        }
    }

    /// Asks for both buckets of a hash: where one that is not there would stand follows from both, unless the first has room.
    #[inline(always)]
    pub(super) fn prefetch_both(&self, hash: u64) {
        for bucket in self.place(hash).buckets {
            if let Some(bucket) = self.buckets.get(bucket) {
                prefetch::read(bucket);
            }
        }
    }

    /// The first entry in the first bucket that may have this hash, or what else it says.
    #[inline(always)]
    pub(super) fn look(&self, hash: u64) -> Look {
        let Some(bucket) = self.buckets.get(self.first(hash)) else { return Look::Nowhere };
        let way = bucket.matches(Self::tag(hash)).trailing_zeros() as usize;
        match bucket.entry(way) {
            Some(entry) => Look::Entry(entry),
            None if bucket.away == 0 => Look::Nowhere,
            None => {
                let [_, second] = self.place(hash).buckets;
                if let Some(bucket) = self.buckets.get(second) {
                    prefetch::read(bucket);
                }
                Look::Away
            }
        }
    }

    /// The first entry in the second bucket that may have this hash.
    #[inline]
    pub(super) fn look_away(&self, hash: u64) -> Option<u32> {
        let Place { buckets: [_, second], tag } = self.place(hash);
        let bucket = self.buckets.get(second)?;
        bucket.entry(bucket.matches(tag).trailing_zeros() as usize)
    }

    /// The first of the entries that may have this hash for which `wanted` has an answer; or, if none has one, where an entry with this
    /// hash would stand.
    #[inline]
    pub(super) fn find<T>(&self, hash: u64, mut wanted: impl FnMut(u32) -> Option<T>) -> Result<T, Seat> {
        let Place { buckets: [home, second], tag } = self.place(hash);
        let nowhere = Seat { bucket: home, home, way: WAYS, tag };
        let (Some(one), Some(other)) = (self.buckets.get(home), self.buckets.get(second)) else { return Err(nowhere) };
        let mut within = |bucket: &Bucket| {
            let mut entries = ways(bucket.matches(tag)).filter_map(|way| bucket.entry(way));
            entries.find_map(&mut wanted)
        };
        if let Some(answer) = within(one).or_else(|| if one.away == 0 { None } else { within(other) }) {
            return Ok(answer);
        }
        let (mut bucket, mut room) = (home, one.empty());
        if is_short(room) {
            let more = other.empty();
            if more.count_ones() > room.count_ones() {
                (bucket, room) = (second, more);
            }
        }
        Err(Seat { bucket, home, way: room.trailing_zeros() as usize, tag })
    }

    /// Puts an entry where a look for its hash has said that it would stand. False if both buckets are full, or somebody has sat down there
    /// since.
    #[inline]
    pub(super) fn sit(&mut self, seat: Seat, entry: u32) -> bool {
        let Some(Bucket { tags, entries, .. }) = self.buckets.get_mut(seat.bucket) else { return false };
        let tag = tags.get_mut(seat.way).filter(|tag| **tag == 0);
        let place = entries.get_mut(seat.way * 3..).and_then(|place| place.first_chunk_mut());
        let (Some(tag), Some(place)) = (tag, place) else { return false };
        let [a, b, c, _] = entry.to_le_bytes();
        (*tag, *place) = (seat.tag, [a, b, c]);
        if seat.bucket != seat.home
            && let Some(home) = self.buckets.get_mut(seat.home)
        {
            home.away = home.away.saturating_add(1);
        }
        true
    }

    /// The same wherever there is room for the hash.
    pub(super) fn insert(&mut self, hash: u64, entry: u32) -> bool {
        match self.find(hash, |_| None::<()>) {
            Ok(()) => false,
            Err(seat) => self.sit(seat, entry),
        }
    }

    pub(super) fn remove(&mut self, hash: u64, entry: u32) {
        let Place { buckets: [home, second], tag } = self.place(hash);
        if self.leave(home, tag, entry) {
            return;
        }
        if self.leave(second, tag, entry)
            && let Some(home) = self.buckets.get_mut(home)
        {
            home.away = home.away.saturating_sub(1);
        }
    }

    /// The entries that stand in the buckets of a hash.
    pub(super) fn tenants(&self, hash: u64) -> impl Iterator<Item = u32> + use<> {
        let buckets = self.place(hash).buckets.map(|bucket| self.buckets.get(bucket).copied());
        let within = |bucket: Bucket| {
            (0..WAYS)
                .filter_map(move |way| bucket.entry(way).filter(|_| bucket.tags.get(way).is_some_and(|tag| *tag != 0)))
        };
        buckets.into_iter().flatten().flat_map(within)
    }

    /// Lets an entry that stands under `its` hash in a bucket of `hash` go to its other bucket. False if it does not stand there, or
    /// its other bucket is full too.
    pub(super) fn step_aside(&mut self, hash: u64, its: u64, entry: u32) -> bool {
        let crowded = self.place(hash).buckets;
        let Place { buckets: [home, second], tag } = self.place(its);
        for (from, to) in [(home, second), (second, home)] {
            let room = self.buckets.get(to).map_or(0, Bucket::empty);
            if room == 0 || !crowded.contains(&from) || !self.leave(from, tag, entry) {
                continue;
            }
            if from == second
                && let Some(home) = self.buckets.get_mut(home)
            {
                home.away = home.away.saturating_sub(1);
            }
            return self.sit(Seat { bucket: to, home, way: room.trailing_zeros() as usize, tag }, entry);
        }
        false
    }

    /// Takes an entry out of a bucket. False if it is not there.
    #[inline]
    fn leave(&mut self, bucket: usize, tag: u16, entry: u32) -> bool {
        let Some(bucket) = self.buckets.get_mut(bucket) else { return false };
        match bucket.way(tag, entry).and_then(|way| bucket.tags.get_mut(way)) {
            Some(tag) => {
                *tag = 0;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    impl Index {
        /// Whether nobody stands anywhere, and none is missing from home.
        pub(in super::super) fn is_empty(&self) -> bool {
            self.buckets.iter().all(|bucket| bucket.tags == [0; WAYS] && bucket.away == 0)
        }
    }

    /// A hash of which little is left: many share buckets, and some tags besides.
    fn hash(number: u16) -> u64 {
        let spread = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        spread & 0xffff_0000_ffff_0007
    }

    fn found(index: &Index, hash: u64, entry: u32) -> bool {
        index.find(hash, |found| (found == entry).then_some(())).is_ok()
    }

    proptest! {
        /// Two buckets for each of many, so that most have more than their first one can hold.
        #[test]
        fn what_sits_is_found_and_nothing_else(steps in proptest::collection::vec((0..60u16, any::<bool>()), 0..400)) {
            let mut index = Index::new(16).unwrap();
            let mut there = BTreeMap::new();
            for (number, sits) in steps {
                let entry = u32::from(number) << 12 | 0xabc;
                if sits && !there.contains_key(&number) {
                    if index.insert(hash(number), entry) {
                        there.insert(number, entry);
                    }
                } else if let Some(entry) = there.remove(&number) {
                    index.remove(hash(number), entry);
                }
                for number in 0..60u16 {
                    let (hash, entry) = (hash(number), u32::from(number) << 12 | 0xabc);
                    prop_assert_eq!(found(&index, hash, entry), there.contains_key(&number));
                    // What one line says is so.
                    match index.look(hash) {
                        Look::Nowhere => prop_assert!(!there.contains_key(&number)),
                        Look::Away => prop_assert!(!there.contains_key(&number) || index.look_away(hash).is_some()),
                        Look::Entry(_) => {}
                    }
                }
            }
            for (number, entry) in there {
                index.remove(hash(number), entry);
            }
            prop_assert!(index.is_empty());
        }
    }

    #[test]
    fn a_full_table_has_room_for_all_and_most_are_at_home() {
        const COUNT: u32 = 1 << 20;
        let hash = |key: u32| crate::hash::Key([7, 9]).word(u64::from(key));
        let mut index = Index::new(COUNT as usize).unwrap();
        for key in 0..COUNT * 2 {
            assert!(index.insert(hash(key), key / 2), "{key}");
        }
        let away: u32 = index.buckets.iter().map(|bucket| u32::from(bucket.away)).sum();
        assert!(away < COUNT * 2 / 10, "{away}");
        let wrong =
            (0..COUNT * 2).filter(|key| matches!(index.look(hash(*key)), Look::Entry(entry) if entry != key / 2));
        assert!(wrong.count() < 2_000);
        assert!(Index::new(MOST + 1).is_err());
    }
}
