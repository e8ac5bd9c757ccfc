//! The entries of a table, and which of them nobody has.
//!
//! ```text
//!   free ─► 3 ─► 7 ─► 4 ─► …        each free entry leads to the next
//!
//!   | flow | flow | ext. |  3  |  4  | flow | ext. |  7  |
//!      │             ▲                    │      ▲
//!      └── of IPv6 ──┘                    └──────┘
//! ```
//!
//! A flow of IPv6 has a second entry for the first 96 bits of its addresses. That is no flow: whoever goes through all entries is told.

use std::io;

use super::Millis;
use super::entry::{Entry, Extension};
use super::state::State;
use crate::mem::pages::Pages;
use crate::mem::prefetch;

/// See the module's documentation.
pub(super) struct Pool {
    entries: Pages<Entry>,
    /// A bit for each entry that is another one's extension.
    extensions: Box<[u64]>,
    /// The first free entry + 1; each leads to the next.
    free: u32,
    unused: usize,
}

impl Pool {
    /// So many, all memory faulted in.
    ///
    /// # Errors
    /// Out of memory.
    pub(super) fn new(capacity: usize) -> io::Result<Self> {
        let mut entries: Pages<Entry> = Pages::new(capacity)?;
        let count = u32::try_from(capacity).map_err(|_| io::ErrorKind::OutOfMemory)?;
        for (entry, next) in entries.iter_mut().zip(2..) {
            entry.link = if next <= count { next } else { 0 };
        }
        Ok(Pool { entries, extensions: vec![0; capacity.div_ceil(64)].into(), free: count.min(1), unused: capacity })
    }

    /// How many there are, in use or not.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many nobody has.
    #[inline(always)]
    pub(super) fn unused(&self) -> usize {
        self.unused
    }

    /// Bytes that they take.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.entries) + size_of_val(&*self.extensions)
    }

    /// An entry, whatever it is: all zeros but for its link if it is free, as no flow is.
    #[inline(always)]
    pub(super) fn get(&self, id: u32) -> Option<&Entry> {
        self.entries.get(id as usize)
    }

    /// The same.
    #[inline(always)]
    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Entry> {
        self.entries.get_mut(id as usize)
    }

    /// An entry that is a flow's first.
    #[inline]
    pub(super) fn flow(&self, id: u32) -> Option<&Entry> {
        let entry = self.get(id).filter(|_| !self.is_extension(id))?;
        (!entry.is_free()).then_some(entry)
    }

    /// The same.
    #[inline]
    pub(super) fn flow_mut(&mut self, id: u32) -> Option<&mut Entry> {
        let is_extension = self.is_extension(id);
        self.get_mut(id).filter(|entry| !is_extension && !entry.is_free())
    }

    /// What a flow is taken for, and how long ago its last packet was.
    #[inline]
    pub(super) fn age(&self, id: u32, now: Millis) -> Option<(State, Millis)> {
        self.flow(id).map(|entry| (entry.taken_for(), now.wrapping_sub(entry.last)))
    }

    /// What else belongs to a flow of IPv6.
    #[inline]
    pub(super) fn extension(&self, entry: &Entry) -> Option<&Extension> {
        Some(bytemuck::must_cast_ref(self.get(entry.extension()?)?))
    }

    #[inline]
    pub(super) fn is_extension(&self, id: u32) -> bool {
        self.extensions.get(id as usize / 64).is_some_and(|bits| bits >> (id % 64) & 1 == 1)
    }

    fn mark(&mut self, id: u32, extension: bool) {
        if let Some(bits) = self.extensions.get_mut(id as usize / 64) {
            *bits = *bits & !(1 << (id % 64)) | u64::from(extension) << (id % 64);
        }
    }

    /// A free entry. `None` if there is none.
    #[inline]
    pub(super) fn take(&mut self) -> Option<u32> {
        let id = self.free.checked_sub(1)?;
        self.free = self.get(id)?.link;
        self.unused -= 1;
        // The next flow's, so that it need not wait for it.
        if let Some(next) = self.free.checked_sub(1).and_then(|next| self.get(next)) {
            prefetch::read(next);
        }
        Some(id)
    }

    /// The same for what else belongs to a flow of IPv6.
    pub(super) fn take_for(&mut self, extension: Extension) -> Option<u32> {
        let id = self.take()?;
        *self.get_mut(id)? = bytemuck::must_cast(extension);
        self.mark(id, true);
        Some(id)
    }

    /// An entry that nobody has any more, and its extension.
    pub(super) fn give(&mut self, id: u32, extension: Option<u32>) {
        self.give_one(id);
        if let Some(extension) = extension {
            self.mark(extension, false);
            self.give_one(extension);
        }
    }

    #[inline(always)]
    fn give_one(&mut self, id: u32) {
        if let Some(entry) = self.entries.get_mut(id as usize) {
            *entry = Entry::free(self.free);
            self.free = id + 1;
            self.unused += 1;
        }
    }
}
