//! A vector of shared objects whose copies share what they have in common, and when each place in it last changed.
//!
//! A service keeps its slot for as long as it exists, so a flow can name it by number. What a flow remembers of its service holds
//! while [`Slots::changed`] says the same: a change of one service leaves the flows of all others alone. Stamps have rows of
//! their own, 4 bytes a slot, so that asking costs one cache line and no look at the service.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;

use super::rows::Rows;

/// Objects in one chunk: a change copies this many references.
const CHUNK: usize = 32;

type Chunk<T> = Arc<[Option<Arc<T>>]>;

/// Slots by number. Cloning is a reference count or two.
pub struct Slots<T> {
    /// 64 chunks a row: 100,000 services are 49 rows.
    chunks: Rows<Chunk<T>, 64>,
    /// 100,000 services are 98 rows.
    changed: Rows<u32, 1024>,
}

impl<T> Clone for Slots<T> {
    fn clone(&self) -> Self {
        Slots { chunks: self.chunks.clone(), changed: self.changed.clone() }
    }
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots { chunks: Rows::default(), changed: Rows::default() }
    }
}

impl<T> Slots<T> {
    /// The object in a slot.
    #[inline]
    #[must_use]
    pub fn get(&self, slot: u32) -> Option<&Arc<T>> {
        let slot = slot as usize;
        self.chunks.get(slot / CHUNK)?.get(slot % CHUNK)?.as_ref()
    }

    /// The stamp with which the slot was last set; 0 if it never was.
    #[inline]
    #[must_use]
    pub fn changed(&self, slot: u32) -> u32 {
        self.changed.get(slot as usize).copied().unwrap_or(0)
    }

    /// Puts an object into a slot, or empties it. `stamp` is what [`changed`](Self::changed) says of it from now on.
    pub fn set(&mut self, slot: u32, object: Option<Arc<T>>, stamp: u32) {
        let slot = slot as usize;
        self.chunks.reach(slot / CHUNK, &std::iter::repeat_n(None, CHUNK).collect());
        if let Some(chunk) = self.chunks.get_mut(slot / CHUNK)
            && let Some(place) = Arc::make_mut(chunk).get_mut(slot % CHUNK)
        {
            *place = object;
        }
        self.changed.reach(slot, &0);
        if let Some(changed) = self.changed.get_mut(slot) {
            *changed = stamp;
        }
    }

    /// Every object with its slot, in the order of slots.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Arc<T>)> {
        self.chunks
            .iter()
            .flat_map(|chunk| chunk.iter())
            .zip(0..)
            .filter_map(|(object, slot)| object.as_ref().map(|object| (slot, object)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn slots_hold_what_was_put_there_and_snapshots_keep_it() {
        let mut slots = Slots::default();
        slots.set(5, Some(Arc::new("five")), 1);
        slots.set(1000, Some(Arc::new("thousand")), 2);
        let before = slots.clone();
        slots.set(5, None, 3);
        assert_eq!(slots.get(5), None);
        assert_eq!(before.get(5).map(|object| **object), Some("five"));
        assert_eq!(slots.get(1000).map(|object| **object), Some("thousand"));
        assert_eq!(slots.get(1_000_000), None);
        assert_eq!(slots.iter().map(|(slot, _)| slot).collect::<Vec<_>>(), [1000]);
        let chunk = |slots: &Slots<&'static str>| Arc::clone(slots.chunks.get(1000 / CHUNK).unwrap());
        assert!(Arc::ptr_eq(&chunk(&before), &chunk(&slots)), "an untouched chunk is shared");
    }

    #[derive(Debug, Clone)]
    enum Change {
        Set(u32, Option<u8>),
        Snapshot,
    }

    fn change() -> impl Strategy<Value = Change> {
        // Dense at the front, and now and then far out: beyond a chunk, a row of chunks, rows of stamps.
        let slot = prop_oneof![3 => 0..40u32, 1 => 1000..1100u32, 1 => 2040..2060u32, 1 => Just(5_000u32)];
        prop_oneof![
            4 => (slot, any::<Option<u8>>()).prop_map(|(slot, object)| Change::Set(slot, object)),
            1 => Just(Change::Snapshot),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn each_snapshot_says_what_was_where_and_since_when(changes in proptest::collection::vec(change(), 0..120)) {
            let mut slots = Slots::default();
            let mut model: BTreeMap<u32, (Option<u8>, u32)> = BTreeMap::new();
            let mut snapshots = Vec::new();
            for (change, stamp) in changes.into_iter().zip(1..) {
                match change {
                    Change::Set(slot, object) => {
                        slots.set(slot, object.map(Arc::new), stamp);
                        model.insert(slot, (object, stamp));
                    }
                    Change::Snapshot => snapshots.push((slots.clone(), model.clone())),
                }
            }
            snapshots.push((slots, model));
            for (slots, model) in &snapshots {
                // Those that were set, and the ones beside them.
                for slot in model.keys().flat_map(|slot| [*slot, slot + 1]).chain([0, 31, 32, 1023, 2048, u32::MAX]) {
                    let (object, stamp) = model.get(&slot).copied().unwrap_or((None, 0));
                    prop_assert_eq!(slots.get(slot).map(|object| **object), object);
                    prop_assert_eq!(slots.changed(slot), stamp);
                }
                let held: Vec<u32> = slots.iter().map(|(slot, _)| slot).collect();
                let expected = model.iter().filter(|(_, (object, _))| object.is_some());
                prop_assert_eq!(held, expected.map(|(slot, _)| *slot).collect::<Vec<_>>());
            }
        }
    }
}
