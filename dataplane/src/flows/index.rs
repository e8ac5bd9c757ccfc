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
    /// A bit for each way with this tag. Written so that it becomes two vector compares, not eight branches.
    #[inline]
    fn matches(&self, tag: u32) -> u32 {
        self.tags.iter().enumerate().fold(0, |mask, (way, found)| mask | u32::from(*found == tag) << way)
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

    /// The first of the entries that may have this hash for which `wanted` has an answer.
    #[inline]
    pub(super) fn find<T>(&self, hash: u64, mut wanted: impl FnMut(u32) -> Option<T>) -> Option<T> {
        let (places, tag) = self.places(hash);
        for place in places {
            let bucket = self.buckets.get(place)?;
            let mut matches = bucket.matches(tag);
            while matches != 0 {
                let way = matches.trailing_zeros() as usize;
                matches &= matches - 1;
                if let Some(entry) = bucket.entries.get(way).and_then(|entry| entry.checked_sub(1))
                    && let Some(answer) = wanted(entry)
                {
                    return Some(answer);
                }
            }
        }
        None
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
