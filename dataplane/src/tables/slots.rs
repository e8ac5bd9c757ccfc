//! A vector of shared objects whose copies share what they have in common.
//!
//! A service keeps its slot for as long as it exists, so a flow can name it by number. Replacing one object copies its
//! chunk of 128 pointers and the vector of chunks, never the objects.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;

const CHUNK: usize = 128;

type Chunk<T> = Arc<[Option<Arc<T>>]>;

/// Slots by number. Cloning is one reference count.
pub struct Slots<T> {
    chunks: Arc<[Chunk<T>]>,
}

impl<T> Clone for Slots<T> {
    fn clone(&self) -> Self {
        Slots { chunks: Arc::clone(&self.chunks) }
    }
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots { chunks: Arc::new([]) }
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

    /// Puts an object into a slot, or empties it.
    pub fn set(&mut self, slot: u32, object: Option<Arc<T>>) {
        let slot = slot as usize;
        if slot / CHUNK >= self.chunks.len() {
            let empty: Chunk<T> = (0..CHUNK).map(|_| None).collect();
            let missing = slot / CHUNK + 1 - self.chunks.len();
            self.chunks = self.chunks.iter().cloned().chain((0..missing).map(|_| Arc::clone(&empty))).collect();
        }
        if let Some(chunk) = Arc::make_mut(&mut self.chunks).get_mut(slot / CHUNK)
            && let Some(place) = Arc::make_mut(chunk).get_mut(slot % CHUNK)
        {
            *place = object;
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
    use super::*;

    #[test]
    fn slots_hold_what_was_put_there_and_snapshots_keep_it() {
        let mut slots = Slots::default();
        slots.set(5, Some(Arc::new("five")));
        slots.set(1000, Some(Arc::new("thousand")));
        let before = slots.clone();
        slots.set(5, None);
        assert_eq!(slots.get(5), None);
        assert_eq!(before.get(5).map(|object| **object), Some("five"));
        assert_eq!(slots.get(1000).map(|object| **object), Some("thousand"));
        assert_eq!(slots.get(1_000_000), None);
        assert_eq!(slots.iter().map(|(slot, _)| slot).collect::<Vec<_>>(), [1000]);
        assert!(Arc::ptr_eq(&before.chunks[7], &slots.chunks[7]), "an untouched chunk is shared");
    }
}
