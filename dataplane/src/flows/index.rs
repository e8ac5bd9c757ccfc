//! From hashes to entries: buckets of one cache line, two to choose from.
//!
//! ```text
//!   hash: | first bucket ……… | tag | …………… second bucket |        slot: | tag | entry + 1 |   16 slots a bucket
//! ```
//!
//! A slot is four bytes: as many bits as entries need, and the rest of the hash's for a tag, 12 bits in a table of a
//! million flows. So 16 keys share a cache line, and a table filled to three quarters costs 11 bytes a flow for both of its
//! tuples. A wrong tag costs a look at an entry that is another's, once in some 250 lookups there.
//!
//! The first bucket is filled to three quarters before the second is looked at: nearly every flow is then found with one
//! cache line, and still both are full only in tables far beyond their capacity (Azar and others, "Balanced allocations",
//! 1994).

use std::io;

use crate::mem::lanes;
use crate::mem::pages::Pages;
use crate::mem::prefetch;

const WAYS: usize = 16;
/// Slots of its first bucket that a key may take; with more in use, it goes where more are free.
const ENOUGH: usize = WAYS * 3 / 4;

#[derive(Clone, Copy, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Bucket {
    /// Tag and entry + 1; 0 is an empty slot.
    slots: [u32; WAYS],
}

impl Bucket {
    /// A bit for each slot that is `wanted` under `mask`.
    #[inline(always)]
    fn matches(&self, mask: u32, wanted: u32) -> u32 {
        lanes::equal(&self.slots, mask, wanted)
    }

    /// A bit for each slot that is empty.
    #[inline(always)]
    fn empty(&self) -> u32 {
        self.matches(u32::MAX, 0)
    }
}

pub(super) struct Index {
    buckets: Pages<Bucket>,
    /// Bits of a slot that name the entry.
    entry_bits: u32,
}

/// Where a key may stand, and how its slot is told from others'.
#[derive(Clone, Copy)]
struct Place {
    buckets: [usize; 2],
    tag: u32,
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

const _: () =
    assert!(is_short(0b1111) && is_short(0) && !is_short(0b1_1111) && is_short(0b1000_0001) && !is_short(0xffff));

/// Where an entry would stand, by one look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seat {
    bucket: usize,
    /// Beyond the last if both buckets are full.
    way: usize,
    tag: u32,
}

impl Index {
    /// Room for two keys of each of `capacity` entries, three quarters full then.
    pub(super) fn new(capacity: usize) -> io::Result<Self> {
        let keys = capacity.checked_mul(2).ok_or(io::ErrorKind::OutOfMemory)?;
        let entry_bits = usize::BITS - capacity.leading_zeros();
        if entry_bits >= u32::BITS {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        Ok(Index { buckets: Pages::new(keys.div_ceil(ENOUGH).max(2))?, entry_bits })
    }

    /// Bytes that it has.
    pub(super) fn bytes(&self) -> usize {
        self.buckets.len() * size_of::<Bucket>()
    }

    #[inline(always)]
    fn first(&self, hash: u64) -> usize {
        (((hash >> 32) * self.buckets.len() as u64) >> 32) as usize
    }

    /// The lower bits of the half whose upper bits choose the first bucket. Never 0, which an empty slot has.
    #[inline(always)]
    fn tag(&self, hash: u64) -> u32 {
        (((hash >> 32) as u32) << self.entry_bits).max(1 << self.entry_bits)
    }

    #[inline]
    fn place(&self, hash: u64) -> Place {
        let first = self.first(hash);
        let second = (((hash & 0xffff_ffff) * self.buckets.len() as u64) >> 32) as usize;
        // Always another one.
        let second = if second == first { (first + 1) % self.buckets.len() } else { second };
        Place { buckets: [first, second], tag: self.tag(hash) }
    }

    #[inline(always)]
    fn tag_mask(&self) -> u32 {
        u32::MAX << self.entry_bits
    }

    /// Asks for the first bucket of a hash.
    #[inline(always)]
    pub(super) fn prefetch(&self, hash: u64) {
        if let Some(bucket) = self.buckets.get(self.first(hash)) {
            prefetch::read(bucket);
        }
    }

    /// Asks for both buckets of a hash.
    #[inline]
    pub(super) fn prefetch_both(&self, hash: u64) {
        for bucket in self.place(hash).buckets {
            if let Some(bucket) = self.buckets.get(bucket) {
                prefetch::read(bucket);
            }
        }
    }

    /// The first entry in the first bucket that may have this hash; otherwise the second bucket is asked for.
    #[inline(always)]
    pub(super) fn candidate(&self, hash: u64) -> Option<u32> {
        let bucket = self.buckets.get(self.first(hash))?;
        let matches = bucket.matches(self.tag_mask(), self.tag(hash));
        match bucket.slots.get(matches.trailing_zeros() as usize) {
            Some(slot) => self.entry(*slot),
            None => {
                let [_, second] = self.place(hash).buckets;
                if let Some(bucket) = self.buckets.get(second) {
                    prefetch::read(bucket);
                }
                None
            }
        }
    }

    #[inline(always)]
    fn entry(&self, slot: u32) -> Option<u32> {
        (slot & !self.tag_mask()).checked_sub(1)
    }

    /// The first of the entries that may have this hash for which `wanted` has an answer; or, if none has one, where an entry with this
    /// hash would stand.
    #[inline]
    pub(super) fn find<T>(&self, hash: u64, mut wanted: impl FnMut(u32) -> Option<T>) -> Result<T, Seat> {
        let Place { buckets: [first, second], tag } = self.place(hash);
        let nowhere = Seat { bucket: first, way: WAYS, tag };
        let (Some(one), Some(other)) = (self.buckets.get(first), self.buckets.get(second)) else { return Err(nowhere) };
        for bucket in [one, other] {
            let mut matches = bucket.matches(self.tag_mask(), tag);
            while matches != 0 {
                let way = matches.trailing_zeros() as usize;
                matches &= matches - 1;
                if let Some(entry) = bucket.slots.get(way).and_then(|slot| self.entry(*slot))
                    && let Some(answer) = wanted(entry)
                {
                    return Ok(answer);
                }
            }
        }
        let (mut bucket, mut room) = (first, one.empty());
        if is_short(room) {
            let more = other.empty();
            if more.count_ones() > room.count_ones() {
                (bucket, room) = (second, more);
            }
        }
        Err(Seat { bucket, way: room.trailing_zeros() as usize, tag })
    }

    /// Puts an entry where a look for its hash has said that it would stand. False if both buckets are full, or somebody has sat down there
    /// since.
    #[inline]
    pub(super) fn sit(&mut self, seat: Seat, entry: u32) -> bool {
        let slot = self.buckets.get_mut(seat.bucket).and_then(|bucket| bucket.slots.get_mut(seat.way));
        match slot.filter(|slot| **slot == 0) {
            Some(slot) => {
                *slot = seat.tag | (entry + 1);
                true
            }
            None => false,
        }
    }

    /// The same wherever there is room for the hash.
    pub(super) fn insert(&mut self, hash: u64, entry: u32) -> bool {
        match self.find(hash, |_| None::<()>) {
            Ok(()) => false,
            Err(seat) => self.sit(seat, entry),
        }
    }

    pub(super) fn remove(&mut self, hash: u64, entry: u32) {
        let Place { buckets, tag } = self.place(hash);
        let there = tag | (entry + 1);
        for bucket in buckets {
            let Some(bucket) = self.buckets.get_mut(bucket) else { continue };
            let way = bucket.matches(u32::MAX, there).trailing_zeros() as usize;
            if let Some(slot) = bucket.slots.get_mut(way) {
                *slot = 0;
                return;
            }
        }
    }
}
