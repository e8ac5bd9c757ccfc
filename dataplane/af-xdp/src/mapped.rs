//! Ring memory that the kernel maps for a socket.
//!
//! The only place where a ring touches memory that somebody else writes: indices and flags as atomics, slots by raw
//! pointer, and never a Rust reference to a slot.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use memmap2::MmapRaw;

use crate::error::Error;
use crate::ring::Memory;

/// A descriptor of the rx and tx rings: `struct xdp_desc`, include/uapi/linux/if_xdp.h.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Desc {
    pub(crate) address: u64,
    pub(crate) len: u32,
    pub(crate) options: u32,
}

/// A mapped ring. `T` is `u64` (fill, completion) or [`Desc`] (rx, tx): any bits are a value of either.
#[derive(Debug)]
pub(crate) struct Mapped<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    slots: NonNull<T>,
    size: u32,
    /// Unmapped when dropped, and not before: the pointers above lead into it.
    _map: MmapRaw,
}

// SAFETY: the pointers lead into the mapping that the value owns, and nothing in it belongs to a thread.
unsafe impl<T: Send> Send for Mapped<T> {}

impl<T: Copy> Mapped<T> {
    /// A view of `map`, in which the kernel says that the parts are at `offsets`.
    pub(crate) fn new(map: MmapRaw, offsets: &libc::xdp_ring_offset, size: u32) -> Result<Self, Error> {
        let place = |offset: u64, len: usize, align: usize| {
            let offset = usize::try_from(offset).ok().filter(|offset| offset % align == 0);
            let end = offset.and_then(|offset| offset.checked_add(len));
            match (offset, end) {
                (Some(offset), Some(end)) if end <= map.len() => {
                    // SAFETY: `offset` was just seen to be inside the mapping.
                    Ok(unsafe { map.as_mut_ptr().add(offset) })
                }
                _ => Err(Error::invalid("ring offsets", "the kernel's do not fit the ring's mapping")),
            }
        };
        let index = |offset| place(offset, size_of::<u32>(), align_of::<u32>()).map(<*mut u8>::cast::<AtomicU32>);
        let slots = place(offsets.desc, size as usize * size_of::<T>(), align_of::<T>())?.cast::<T>();
        let (producer, consumer, flags) = (index(offsets.producer)?, index(offsets.consumer)?, index(offsets.flags)?);
        let null = || Error::invalid("ring offsets", "the ring is mapped at address 0");
        Ok(Mapped {
            producer: NonNull::new(producer).ok_or_else(null)?,
            consumer: NonNull::new(consumer).ok_or_else(null)?,
            flags: NonNull::new(flags).ok_or_else(null)?,
            slots: NonNull::new(slots).ok_or_else(null)?,
            size,
            _map: map,
        })
    }

    #[inline]
    fn slot(&self, index: u32) -> NonNull<T> {
        // SAFETY: `new` has checked that `size` slots are inside the mapping, and `size` is a power of two, so the
        // masked index is below it.
        unsafe { self.slots.add((index & (self.size - 1)) as usize) }
    }
}

impl<T: Copy> Memory for Mapped<T> {
    type Item = T;

    #[inline]
    fn size(&self) -> u32 {
        self.size
    }

    #[inline]
    fn load_producer(&self, ordering: Ordering) -> u32 {
        // SAFETY: `new` has checked place and alignment; the kernel accesses it atomically too.
        unsafe { self.producer.as_ref() }.load(ordering)
    }

    #[inline]
    fn store_producer(&self, index: u32, ordering: Ordering) {
        // SAFETY: as in `load_producer`.
        unsafe { self.producer.as_ref() }.store(index, ordering);
    }

    #[inline]
    fn load_consumer(&self, ordering: Ordering) -> u32 {
        // SAFETY: as in `load_producer`.
        unsafe { self.consumer.as_ref() }.load(ordering)
    }

    #[inline]
    fn store_consumer(&self, index: u32, ordering: Ordering) {
        // SAFETY: as in `load_producer`.
        unsafe { self.consumer.as_ref() }.store(index, ordering);
    }

    #[inline]
    fn flags(&self) -> u32 {
        // SAFETY: as in `load_producer`. Relaxed: a flag seen late is seen in the next round.
        unsafe { self.flags.as_ref() }.load(Ordering::Relaxed)
    }

    #[inline]
    fn read(&self, index: u32) -> T {
        let slot = self.slot(index);
        // SAFETY: inside the mapping and aligned; any bits are a value of `T`; the kernel does not write a slot
        // between publishing it and our releasing it, and the acquire load of its index came before this.
        unsafe { slot.read() }
    }

    #[inline]
    fn write(&self, index: u32, item: T) {
        let slot = self.slot(index);
        // SAFETY: inside the mapping and aligned; the kernel does not read a slot that it has released and that we
        // have not published.
        unsafe { slot.write(item) };
    }
}
