//! Large tables: zeroed anonymous memory, on huge pages where the kernel has them, faulted in before first use.
//!
//! A flow table of a million entries is 60 MB; with 4 KiB pages each lookup would miss the TLB as well as the cache,
//! and the first touch of each page would stop a worker for a fault. So the memory is asked for whole, marked for
//! transparent huge pages (`madvise(MADV_HUGEPAGE)`), and touched once at start.

#![allow(unsafe_code)]

use std::io;
use std::ops::{Deref, DerefMut};

use bytemuck::Zeroable;
use memmap2::{Advice, MmapMut};

/// A fixed slice of `T` that starts zeroed.
pub struct Pages<T: Zeroable + Copy> {
    map: MmapMut,
    length: usize,
    _element: std::marker::PhantomData<T>,
}

impl<T: Zeroable + Copy> Pages<T> {
    /// Maps and faults in `length` elements.
    ///
    /// # Errors
    /// Whatever `mmap(2)` answers; `OutOfMemory` if the size does not fit into an address.
    pub fn new(length: usize) -> io::Result<Self> {
        const { assert!(align_of::<T>() <= 4096, "a mapping is aligned to a page, not to more") };
        let bytes = length.checked_mul(size_of::<T>()).ok_or(io::ErrorKind::OutOfMemory)?.max(1);
        let mut map = MmapMut::map_anon(bytes)?;
        // Refused on kernels without transparent huge pages; small pages work too.
        let _ = map.advise(Advice::HugePage);
        for page in map.chunks_mut(4096) {
            if let Some(byte) = page.first_mut() {
                *byte = std::hint::black_box(0);
            }
        }
        Ok(Pages { map, length, _element: std::marker::PhantomData })
    }
}

impl<T: Zeroable + Copy> Deref for Pages<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: the mapping holds `length` elements, is page-aligned (asserted enough in `new`), started zeroed, which
        // `Zeroable` makes valid, and is only written through `&mut [T]`; the borrow of `self` keeps it mapped.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast::<T>(), self.length) }
    }
}

impl<T: Zeroable + Copy> DerefMut for Pages<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and the unique borrow of `self` makes this the only view.
        unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr().cast::<T>(), self.length) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn pages_start_zeroed_and_keep_what_is_written() {
        let mut pages = Pages::<u64>::new(10_000).expect("40 KB");
        assert_eq!(pages.len(), 10_000);
        assert!(pages.iter().all(|value| *value == 0));
        pages[9_999] = 7;
        assert_eq!(pages[9_999], 7);
        assert_eq!(pages[9_998], 0);
    }

    #[test]
    fn nothing_and_too_much_are_both_answered() {
        assert!(Pages::<u64>::new(0).expect("empty").is_empty());
        assert!(Pages::<u64>::new(usize::MAX).is_err());
    }
}
