//! From hashes to entries: buckets of one cache line, two to choose from.

use std::io;

use crate::mem::pages::Pages;
use crate::mem::prefetch;

const WAYS: usize = 8;

/// One cache line: tags first, so that a miss touches nothing else.
#[derive(Clone, Copy, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Bucket {
    /// 32 bits of the hash that the choice of bucket does not use.
    tags: [u32; WAYS],
    /// Entry + 1; 0 is an empty way.
    entries: [u32; WAYS],
}

impl Bucket {
    #[inline]
    fn ways(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.tags.iter().copied().zip(self.entries.iter().copied())
    }

    fn used(&self) -> usize {
        self.entries.iter().filter(|entry| **entry != 0).count()
    }
}

pub(super) struct Index {
    buckets: Pages<Bucket>,
    mask: usize,
}

impl Index {
    /// Room for two keys of each of `capacity` flows, at most half full.
    pub(super) fn new(capacity: usize) -> io::Result<Self> {
        let buckets = capacity.saturating_mul(4).div_ceil(WAYS).max(2).checked_next_power_of_two();
        let buckets = buckets.ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Index { buckets: Pages::new(buckets)?, mask: buckets - 1 })
    }

    /// The two buckets of a hash, always different, and its tag.
    #[inline]
    fn places(&self, hash: u64) -> ([usize; 2], u32) {
        let first = hash as usize & self.mask;
        let second = (hash >> 20) as usize & self.mask;
        let second = if second == first { first ^ 1 } else { second };
        ([first, second], (hash >> 32) as u32)
    }

    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        for place in self.places(hash).0 {
            if let Some(bucket) = self.buckets.get(place) {
                prefetch::read(bucket);
            }
        }
    }

    /// Entries that may have this hash.
    #[inline]
    pub(super) fn candidates(&self, hash: u64) -> impl Iterator<Item = u32> + '_ {
        let (places, tag) = self.places(hash);
        places
            .into_iter()
            .filter_map(|place| self.buckets.get(place))
            .flat_map(Bucket::ways)
            .filter_map(move |(found, entry)| if found == tag { entry.checked_sub(1) } else { None })
    }

    /// False if both buckets are full.
    pub(super) fn insert(&mut self, hash: u64, entry: u32) -> bool {
        let ([first, second], tag) = self.places(hash);
        let used = |place: usize| self.buckets.get(place).map_or(WAYS, Bucket::used);
        let place = if used(second) < used(first) { second } else { first };
        let Some(bucket) = self.buckets.get_mut(place) else { return false };
        let way = bucket.tags.iter_mut().zip(bucket.entries.iter_mut()).find(|(_, entry)| **entry == 0);
        match way {
            Some((way_tag, way_entry)) => {
                *way_tag = tag;
                *way_entry = entry + 1;
                true
            }
            None => false,
        }
    }

    pub(super) fn remove(&mut self, hash: u64, entry: u32) {
        let (places, tag) = self.places(hash);
        for place in places {
            let Some(bucket) = self.buckets.get_mut(place) else { continue };
            for (way_tag, way_entry) in bucket.tags.iter_mut().zip(bucket.entries.iter_mut()) {
                if *way_tag == tag && *way_entry == entry + 1 {
                    *way_entry = 0;
                    return;
                }
            }
        }
    }
}
