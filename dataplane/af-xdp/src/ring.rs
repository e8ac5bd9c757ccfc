//! One single-producer, single-consumer ring, as the kernel lays it out: two indices, flags, and a power of two of
//! slots.
//!
//! ```text
//!               consumer                producer
//!                  v                       v
//!   +----+----+----+----+----+----+----+----+----+
//!   |    |    |    | ## | ## | ## | ## |    |    |     slot = index & (size - 1)
//!   +----+----+----+----+----+----+----+----+----+
//!                  `--- full: the consumer's ---'
//!                  rest: the producer's
//! ```
//!
//! Both indices are `u32`, only ever grow, and wrap: all arithmetic on them is wrapping, and "how many" is always a
//! difference. A side keeps its own index to itself, and a copy of the other's, which it refreshes (one access to a
//! contended cache line) only when the copy says that there is not enough.
//!
//! **The whole of the synchronisation** is two pairs:
//!
//! | writes, then | reads, after which | so that |
//! |---|---|---|
//! | producer fills slots, stores `producer` with *release* | consumer loads `producer` with *acquire* | the slots it reads are filled |
//! | consumer reads slots, stores `consumer` with *release* | producer loads `consumer` with *acquire* | the slots it fills have been read |
//!
//! The code is written once over [`Memory`]: for the kernel's mapped memory in this crate, for plain memory where a
//! test plays the kernel, and for loom's atomics (`tests/loom.rs`), which tries every interleaving and every value
//! that the orderings permit. Rings carry plain numbers; who may turn a number into a [`crate::Frame`] is settled one
//! level up.

use std::sync::atomic::Ordering;

/// The two indices, the flags and the slots of a ring, wherever they are.
///
/// Orderings are arguments, so that the protocol stands in one place ([`Producer`], [`Consumer`]) and a test can
/// break it.
pub trait Memory {
    /// What a slot holds.
    type Item: Copy;

    /// Number of slots, a power of two, always the same.
    fn size(&self) -> u32;
    /// The producer's index.
    fn load_producer(&self, ordering: Ordering) -> u32;
    /// Sets the producer's index.
    fn store_producer(&self, index: u32, ordering: Ordering);
    /// The consumer's index.
    fn load_consumer(&self, ordering: Ordering) -> u32;
    /// Sets the consumer's index.
    fn store_consumer(&self, index: u32, ordering: Ordering);
    /// The ring's flags: `XDP_RING_NEED_WAKEUP`.
    fn flags(&self) -> u32;
    /// Reads the slot of an index (of any index: the implementation masks it).
    fn read(&self, index: u32) -> Self::Item;
    /// Writes the slot of an index (of any index: the implementation masks it).
    fn write(&self, index: u32, item: Self::Item);
}

/// The side that fills slots: of the fill and tx rings.
#[derive(Debug)]
pub struct Producer<M> {
    memory: M,
    size: u32,
    /// The next slot to fill; ahead of the shared index until [`Producer::publish`].
    next: u32,
    /// The consumer's index as last seen.
    consumer: u32,
}

impl<M: Memory> Producer<M> {
    /// Takes up the producing side where the memory's indices stand.
    pub fn new(memory: M) -> Self {
        let size = memory.size();
        // Relaxed: it is our own index; whoever wrote it before us handed the ring over.
        let next = memory.load_producer(Ordering::Relaxed);
        let consumer = memory.load_consumer(Ordering::Acquire);
        Producer { memory, size, next, consumer }
    }

    /// How many of `wanted` slots are free.
    #[inline]
    pub fn reserve(&mut self, wanted: u32) -> u32 {
        let mut free = self.free();
        if free < wanted {
            // Acquire: the consumer has read these slots before it let go of them.
            self.consumer = self.memory.load_consumer(Ordering::Acquire);
            free = self.free();
        }
        free.min(wanted)
    }

    /// Slots that are free as far as this side knows.
    #[inline]
    fn free(&self) -> u32 {
        // The subtraction wraps with the indices. Should the consumer ever be ahead of us (it cannot), there is
        // nothing free.
        self.size.saturating_sub(self.next.wrapping_sub(self.consumer))
    }

    /// Fills the next slot, not visible to the consumer before [`Producer::publish`]. False, and nothing done, if it
    /// was not [reserved](Producer::reserve).
    #[inline]
    #[must_use]
    pub fn push(&mut self, item: M::Item) -> bool {
        if self.free() == 0 {
            return false;
        }
        self.memory.write(self.next, item);
        self.next = self.next.wrapping_add(1);
        true
    }

    /// Shows the consumer what was pushed.
    #[inline]
    pub fn publish(&mut self) {
        // Release: the slots are filled before the index says so.
        self.memory.store_producer(self.next, Ordering::Release);
    }

    /// Entries that the consumer has not taken yet, looked up now.
    #[must_use]
    pub fn unconsumed(&self) -> u32 {
        self.next.wrapping_sub(self.memory.load_consumer(Ordering::Relaxed))
    }

    /// The ring's flags.
    #[inline]
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.memory.flags()
    }

    /// Number of slots.
    #[inline]
    #[must_use]
    pub fn size(&self) -> u32 {
        self.size
    }
}

/// The side that empties slots: of the rx and completion rings.
#[derive(Debug)]
pub struct Consumer<M> {
    memory: M,
    size: u32,
    /// The next slot to read; ahead of the shared index until [`Consumer::release`].
    next: u32,
    /// The producer's index as last seen.
    producer: u32,
}

impl<M: Memory> Consumer<M> {
    /// Takes up the consuming side where the memory's indices stand.
    pub fn new(memory: M) -> Self {
        let size = memory.size();
        // Relaxed: it is our own index.
        let next = memory.load_consumer(Ordering::Relaxed);
        let producer = memory.load_producer(Ordering::Acquire);
        Consumer { memory, size, next, producer }
    }

    /// How many of `wanted` entries are there.
    #[inline]
    pub fn available(&mut self, wanted: u32) -> u32 {
        let mut full = self.full();
        if full < wanted {
            // Acquire: the producer has filled these slots before it showed them.
            self.producer = self.memory.load_producer(Ordering::Acquire);
            full = self.full();
        }
        full.min(wanted)
    }

    /// Entries that are there as far as this side knows. Never more than slots, whatever the producer's index says.
    #[inline]
    fn full(&self) -> u32 {
        self.producer.wrapping_sub(self.next).min(self.size)
    }

    /// Takes the next entry; its slot stays the consumer's until [`Consumer::release`]. `None` if it was not seen by
    /// [`Consumer::available`].
    #[inline]
    pub fn pop(&mut self) -> Option<M::Item> {
        if self.full() == 0 {
            return None;
        }
        let item = self.memory.read(self.next);
        self.next = self.next.wrapping_add(1);
        Some(item)
    }

    /// Gives the slots that were popped back to the producer.
    #[inline]
    pub fn release(&mut self) {
        // Release: the slots have been read before the index says so.
        self.memory.store_consumer(self.next, Ordering::Release);
    }

    /// Number of slots.
    #[inline]
    #[must_use]
    pub fn size(&self) -> u32 {
        self.size
    }
}

/// Plain memory, on which a test plays the kernel.
#[cfg(test)]
pub(crate) mod plain {
    use super::Memory;
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;
    use std::sync::atomic::Ordering;

    struct Inner<T> {
        producer: Cell<u32>,
        consumer: Cell<u32>,
        slots: RefCell<Vec<T>>,
    }

    /// Both sides hold a clone.
    pub(crate) struct Plain<T>(Rc<Inner<T>>);

    impl<T> Clone for Plain<T> {
        fn clone(&self) -> Self {
            Plain(Rc::clone(&self.0))
        }
    }

    impl<T: Copy + Default> Plain<T> {
        /// An empty ring whose indices stand at `start`.
        pub(crate) fn new(size: u32, start: u32) -> Self {
            assert!(size.is_power_of_two());
            let slots = RefCell::new(vec![T::default(); size as usize]);
            Plain(Rc::new(Inner { producer: Cell::new(start), consumer: Cell::new(start), slots }))
        }
    }

    impl<T: Copy> Memory for Plain<T> {
        type Item = T;

        fn size(&self) -> u32 {
            self.0.slots.borrow().len() as u32
        }
        fn load_producer(&self, _: Ordering) -> u32 {
            self.0.producer.get()
        }
        fn store_producer(&self, index: u32, _: Ordering) {
            self.0.producer.set(index);
        }
        fn load_consumer(&self, _: Ordering) -> u32 {
            self.0.consumer.get()
        }
        fn store_consumer(&self, index: u32, _: Ordering) {
            self.0.consumer.set(index);
        }
        fn flags(&self) -> u32 {
            0
        }
        fn read(&self, index: u32) -> T {
            self.0.slots.borrow()[(index & (self.size() - 1)) as usize]
        }
        fn write(&self, index: u32, item: T) {
            let slot = (index & (self.size() - 1)) as usize;
            self.0.slots.borrow_mut()[slot] = item;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::plain::Plain;
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[test]
    fn wraps_at_the_end_of_u32() {
        let memory = Plain::<u64>::new(4, u32::MAX - 1);
        let (mut producer, mut consumer) = (Producer::new(memory.clone()), Consumer::new(memory.clone()));
        for round in 0..3u64 {
            assert_eq!(producer.reserve(9), 4);
            for item in 0..4 {
                assert!(producer.push(round * 4 + item));
            }
            assert!(!producer.push(99), "a fifth went into four slots");
            assert_eq!(consumer.available(9), 0, "visible before it was published");
            producer.publish();
            assert_eq!(producer.unconsumed(), 4);
            assert_eq!(consumer.available(9), 4);
            for item in 0..4 {
                assert_eq!(consumer.pop(), Some(round * 4 + item));
            }
            assert_eq!(consumer.pop(), None);
            assert_eq!(producer.reserve(9), 0, "free before it was released");
            consumer.release();
        }
        assert_eq!(memory.load_producer(Ordering::Relaxed), (u32::MAX - 1).wrapping_add(12));
    }

    #[test]
    fn is_taken_up_where_it_stands() {
        let memory = Plain::<u64>::new(8, u32::MAX);
        let mut producer = Producer::new(memory.clone());
        assert_eq!(producer.reserve(3), 3);
        assert!(producer.push(1) && producer.push(2) && producer.push(3));
        producer.publish();
        let mut consumer = Consumer::new(memory.clone());
        assert_eq!((consumer.pop(), consumer.pop()), (Some(1), Some(2)));
        consumer.release();
        // A successor of both.
        let (mut producer, mut consumer) = (Producer::new(memory.clone()), Consumer::new(memory));
        assert_eq!(producer.reserve(8), 7);
        assert_eq!((consumer.pop(), consumer.pop()), (Some(3), None));
    }

    #[test]
    fn a_lying_producer_gets_at_most_the_slots_read() {
        let memory = Plain::<u64>::new(4, 0);
        let mut consumer = Consumer::new(memory.clone());
        memory.store_producer(1_000_000, Ordering::Relaxed);
        assert_eq!(consumer.available(u32::MAX), 4);
        let memory = Plain::<u64>::new(4, 0);
        let mut producer = Producer::new(memory.clone());
        assert!(producer.push(0));
        memory.store_consumer(7, Ordering::Relaxed);
        assert_eq!(producer.reserve(4), 0);
    }

    proptest! {
        /// Any interleaving of batches is a queue of at most `size` entries, from any start.
        #[test]
        fn is_a_queue(start: u32, bits in 0u32..6, steps in prop::collection::vec((any::<bool>(), 0u32..40), 0..300)) {
            let memory = Plain::<u64>::new(1 << bits, start);
            let (mut producer, mut consumer) = (Producer::new(memory.clone()), Consumer::new(memory));
            let (mut model, mut next) = (VecDeque::new(), 0u64);
            for (produce, wanted) in steps {
                if produce {
                    let granted = producer.reserve(wanted);
                    prop_assert_eq!(granted, wanted.min((1 << bits) - model.len() as u32));
                    for _ in 0..granted {
                        prop_assert!(producer.push(next));
                        model.push_back(next);
                        next += 1;
                    }
                    producer.publish();
                } else {
                    let granted = consumer.available(wanted);
                    prop_assert_eq!(granted, wanted.min(model.len() as u32));
                    for _ in 0..granted {
                        prop_assert_eq!(consumer.pop(), model.pop_front());
                    }
                    consumer.release();
                }
            }
        }
    }
}
