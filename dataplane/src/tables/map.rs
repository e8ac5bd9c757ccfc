//! A hash map whose copies share what they have in common, and that grows without a pause.
//!
//! ```text
//!   Map ──► [ row, row, … ] ──► [ shard × 64 ] ──► open addressing, linear probing, at most half full
//!            one Arc             one Arc a row       one Arc a shard, some 48 entries
//! ```
//!
//! The director owns one and changes it; each snapshot is a clone, which copies one pointer. A change after a clone
//! copies the one shard that it touches and the way to it: n / 3,000 + 64 references and some 5 KB, so that one changed Service among 100,000
//! costs microseconds. It grows by a shard at a time (Litwin, "Linear Hashing", VLDB 1980), so that no change pays for
//! all that came before it.
//!
//! A lookup is a hash and four dependent loads, of which rows and shards' pointers (16 bytes for some 48 entries) stay in a core's
//! second-level cache at a million entries: what can miss is the entry's own cache line, or two where it straddles them. [`Map::prefetch`] asks for that one.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;

use super::rows::Rows;
use crate::mem::prefetch;

/// What a map may be keyed by.
pub trait Key: Copy + Eq {
    /// A well-mixed 64-bit hash.
    fn hash(&self) -> u64;
}

/// Entries for each shard that there is; one more, and one more shard is made.
const SHARD_ENTRIES: usize = 48;

/// A power of two of slots, of which at least half are empty; or none at all.
type Shard<K, V> = Arc<[Option<(K, V)>]>;

/// The map. Cloning is one reference count.
#[derive(Clone)]
pub struct Map<K, V> {
    shards: Rows<Shard<K, V>, 64>,
    /// Shards in use, at least 1.
    count: usize,
    /// The largest power of two that is not above `count`, less one: shards before `count - (mask + 1)` have been split.
    mask: usize,
    length: usize,
}

impl<K: Key, V: Clone> Default for Map<K, V> {
    fn default() -> Self {
        Map { shards: Rows::default(), count: 1, mask: 0, length: 0 }
    }
}

impl<K: Key, V: Clone> Map<K, V> {
    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// High bits choose the shard, low bits the slot in it. With twice as many shards as the mask says, the one of a hash is known; where that
    /// one is not there yet, the one that it will be split off from has its entries.
    #[inline]
    fn shard_of(&self, hash: u64) -> usize {
        let bits = (hash >> 40) as usize;
        let doubled = bits & (self.mask << 1 | 1);
        if doubled < self.count { doubled } else { bits & self.mask }
    }

    /// The value of a key.
    #[inline]
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        let hash = key.hash();
        let shard = self.shards.get(self.shard_of(hash))?;
        let mut index = hash as usize;
        // Ends: at least one slot is empty, or there is none.
        loop {
            match shard.get(index & shard.len().wrapping_sub(1)) {
                Some(Some((found, value))) if found == key => return Some(value),
                Some(Some(_)) => index = index.wrapping_add(1),
                _ => return None,
            }
        }
    }

    /// Asks for the cache line in which a key's entry begins, if it is where its hash says.
    #[inline]
    pub fn prefetch(&self, key: &K) {
        let hash = key.hash();
        let Some(shard) = self.shards.get(self.shard_of(hash)) else { return };
        if let Some(slot) = shard.get(hash as usize & shard.len().wrapping_sub(1)) {
            prefetch::read(slot);
        }
    }

    /// Sets the value of a key and returns the one it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        if self.length >= self.count * SHARD_ENTRIES {
            self.split();
        }
        let index = self.shard_of(key.hash());
        self.shards.reach(index, &Shard::default());
        let old = put(self.shards.get_mut(index)?, key, value);
        self.length += usize::from(old.is_none());
        old
    }

    /// Removes a key and returns the value it had.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.get(key)?;
        let index = self.shard_of(key.hash());
        let old = take(self.shards.get_mut(index)?, key);
        self.length -= usize::from(old.is_some());
        old
    }

    /// All entries, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter().flatten().map(|(key, value)| (key, value)))
    }

    /// Makes one more shard, of the entries that are its own by one more bit.
    fn split(&mut self) {
        let new = self.count;
        self.shards.reach(new, &Shard::default());
        let old = self.shards.get_mut(new & self.mask).map(std::mem::take);
        self.count += 1;
        if self.count > self.mask << 1 | 1 {
            self.mask = self.mask << 1 | 1;
        }
        for (key, value) in old.iter().flat_map(|shard| shard.iter().flatten()) {
            let index = self.shard_of(key.hash());
            if let Some(shard) = self.shards.get_mut(index) {
                put(shard, *key, value.clone());
            }
        }
    }
}

fn put<K: Key, V: Clone>(shard: &mut Shard<K, V>, key: K, value: V) -> Option<V> {
    let length = shard.iter().flatten().count();
    if (length + 1) * 2 > shard.len() {
        let mut larger: Shard<K, V> = std::iter::repeat_n(None, (shard.len() * 2).max(4)).collect();
        if let Some(slots) = Arc::get_mut(&mut larger) {
            for (key, value) in shard.iter().flatten() {
                seat(slots, *key, value.clone());
            }
        }
        *shard = larger;
    }
    seat(Arc::make_mut(shard), key, value)
}

fn seat<K: Key, V>(slots: &mut [Option<(K, V)>], key: K, value: V) -> Option<V> {
    let mask = slots.len().wrapping_sub(1);
    let mut index = key.hash() as usize & mask;
    while let Some(slot) = slots.get_mut(index) {
        match slot {
            Some((found, old)) if *found == key => return Some(std::mem::replace(old, value)),
            Some(_) => index = (index + 1) & mask,
            None => {
                *slot = Some((key, value));
                return None;
            }
        }
    }
    None
}

fn take<K: Key, V: Clone>(shard: &mut Shard<K, V>, key: &K) -> Option<V> {
    let slots = Arc::make_mut(shard);
    let mask = slots.len().wrapping_sub(1);
    let is_key = |slot: &Option<(K, V)>| slot.as_ref().is_some_and(|(found, _)| found == key);
    let index = slots.iter().position(is_key)?;
    let (_, value) = slots.get_mut(index)?.take()?;
    // Those behind it may have come here only because it was in the way: each is seated again, up to the next gap.
    let mut index = (index + 1) & mask;
    while let Some((key, value)) = slots.get_mut(index).and_then(Option::take) {
        seat(slots, key, value);
        index = (index + 1) & mask;
    }
    Some(value)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::hash::MAGLEV_KEY;
    use proptest::prelude::*;
    use std::collections::HashMap;

    impl Key for u32 {
        fn hash(&self) -> u64 {
            MAGLEV_KEY.word(u64::from(*self))
        }
    }

    #[derive(Debug, Clone)]
    enum Change {
        Insert(u32, u32),
        Remove(u32),
        Snapshot,
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            4 => (0..600u32, any::<u32>()).prop_map(|(key, value)| Change::Insert(key, value)),
            2 => (0..600u32).prop_map(Change::Remove),
            1 => Just(Change::Snapshot),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_does_what_a_hash_map_does_and_snapshots_never_change(changes in proptest::collection::vec(change(), 0..800)) {
            let mut map = Map::default();
            let mut model = HashMap::new();
            let mut snapshots = Vec::new();
            for change in changes {
                match change {
                    Change::Insert(key, value) => prop_assert_eq!(map.insert(key, value), model.insert(key, value)),
                    Change::Remove(key) => prop_assert_eq!(map.remove(&key), model.remove(&key)),
                    Change::Snapshot => snapshots.push((map.clone(), model.clone())),
                }
                prop_assert_eq!(map.len(), model.len());
            }
            snapshots.push((map, model));
            for (map, model) in &snapshots {
                prop_assert_eq!(map.iter().map(|(key, value)| (*key, *value)).collect::<HashMap<_, _>>(), model.clone());
                for key in 0..600 {
                    prop_assert_eq!(map.get(&key), model.get(&key));
                }
            }
        }
    }

    #[test]
    fn a_change_shares_all_but_one_shard() {
        let mut map = Map::default();
        for key in 0..10_000u32 {
            map.insert(key, key);
        }
        let before = map.clone();
        map.insert(77, 0);
        let shards = map.shards.iter().count();
        let same = before.shards.iter().zip(map.shards.iter()).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert_eq!(same, shards - 1);
        assert!(map.count > 10_000 / SHARD_ENTRIES && map.shards.iter().all(|shard| shard.len() <= 256));
    }
}
