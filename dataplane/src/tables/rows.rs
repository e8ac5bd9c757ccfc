//! A long vector whose copies share what they have in common.
//!
//! ```text
//!   Rows ──► [ row, row, row, … ]      one Arc
//!               │
//!               └► [ T; WIDTH ]        one Arc each
//! ```
//!
//! A copy is one reference count. A change after a copy makes anew the vector of rows and the one row that it touches: with n
//! elements that is n / WIDTH + WIDTH of them, and never n. What tables hold by the hundred thousand is kept in these, with
//! widths near the square root of what there may be. A look is two dependent loads, of which the first is of a vector small enough
//! to stay in a core's cache.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;

/// See the module's documentation. `WIDTH` should be a power of two.
pub struct Rows<T, const WIDTH: usize> {
    rows: Arc<[Arc<[T]>]>,
}

impl<T, const WIDTH: usize> Clone for Rows<T, WIDTH> {
    fn clone(&self) -> Self {
        Rows { rows: Arc::clone(&self.rows) }
    }
}

impl<T, const WIDTH: usize> Default for Rows<T, WIDTH> {
    fn default() -> Self {
        Rows { rows: Arc::new([]) }
    }
}

impl<T: Clone, const WIDTH: usize> Rows<T, WIDTH> {
    /// The element, if there is a row that has it.
    #[inline]
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.rows.get(index / WIDTH)?.get(index % WIDTH)
    }

    /// The element, to be changed in this copy alone.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        let row = Arc::make_mut(&mut self.rows).get_mut(index / WIDTH)?;
        Arc::make_mut(row).get_mut(index % WIDTH)
    }

    /// Sees to it that there is an element of this index; new ones are `empty`. Whole rows are added.
    pub fn reach(&mut self, index: usize, empty: &T) {
        let Some(missing) = (index / WIDTH + 1).checked_sub(self.rows.len()).filter(|missing| *missing > 0) else {
            return;
        };
        // One row for all that are new, until they differ.
        let row: Arc<[T]> = std::iter::repeat_n(empty, WIDTH).cloned().collect();
        self.rows = self.rows.iter().cloned().chain(std::iter::repeat_n(row, missing)).collect();
    }

    /// Every element, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.rows.iter().flat_map(|row| row.iter())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn a_change_makes_one_row_anew_and_copies_keep_what_they_had() {
        let mut rows = Rows::<u32, 8>::default();
        assert_eq!(rows.get(0), None);
        rows.reach(20, &7);
        assert_eq!(rows.iter().count(), 24);
        *rows.get_mut(20).unwrap() = 20;
        let before = rows.clone();
        *rows.get_mut(3).unwrap() = 3;
        assert_eq!((before.get(3), rows.get(3), rows.get(20), rows.get(24)), (Some(&7), Some(&3), Some(&20), None));
        let shared = before.rows.iter().zip(rows.rows.iter()).map(|(one, other)| Arc::ptr_eq(one, other));
        assert_eq!(shared.collect::<Vec<_>>(), [false, true, true]);
        rows.reach(2, &0);
        assert_eq!(rows.iter().count(), 24, "it only grows");
    }
}
