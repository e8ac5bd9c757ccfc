//! The ring's two sides under every interleaving, and every value that the memory orderings permit.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test -p af-xdp --test loom --release
//! ```
//!
//! Loom's `UnsafeCell` notices when a slot is read and written at once, or read without the write having happened
//! before; its atomics return any value that the orderings allow. Each seeded mistake, one ordering weakened, must be
//! found.

#![cfg(loom)]

use std::sync::atomic::Ordering;

use af_xdp::ring::{Consumer, Memory, Producer};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::AtomicU32;
use loom::thread;

/// One ordering that is weakened to relaxed.
#[derive(Clone, Copy, PartialEq)]
enum Mistake {
    None,
    ProducerStore,
    ProducerLoad,
    ConsumerStore,
    ConsumerLoad,
}

struct Shared {
    producer: AtomicU32,
    consumer: AtomicU32,
    slots: Vec<UnsafeCell<u64>>,
    mistake: Mistake,
}

#[derive(Clone)]
struct Loom(Arc<Shared>);

// SAFETY: loom checks what this promises: that the cells are never accessed by two threads at once.
#[allow(unsafe_code)]
unsafe impl Send for Loom {}

impl Loom {
    fn new(size: usize, start: u32, mistake: Mistake) -> Self {
        let slots = (0..size).map(|_| UnsafeCell::new(0)).collect();
        Loom(Arc::new(Shared { producer: AtomicU32::new(start), consumer: AtomicU32::new(start), slots, mistake }))
    }

    fn ordering(&self, ordering: Ordering, mistake: Mistake) -> Ordering {
        if self.0.mistake == mistake { Ordering::Relaxed } else { ordering }
    }

    fn slot(&self, index: u32) -> &UnsafeCell<u64> {
        &self.0.slots[(index & (self.size() - 1)) as usize]
    }
}

#[allow(unsafe_code)]
impl Memory for Loom {
    type Item = u64;

    fn size(&self) -> u32 {
        self.0.slots.len() as u32
    }
    fn load_producer(&self, ordering: Ordering) -> u32 {
        self.0.producer.load(self.ordering(ordering, Mistake::ProducerLoad))
    }
    fn store_producer(&self, index: u32, ordering: Ordering) {
        self.0.producer.store(index, self.ordering(ordering, Mistake::ProducerStore));
    }
    fn load_consumer(&self, ordering: Ordering) -> u32 {
        self.0.consumer.load(self.ordering(ordering, Mistake::ConsumerLoad))
    }
    fn store_consumer(&self, index: u32, ordering: Ordering) {
        self.0.consumer.store(index, self.ordering(ordering, Mistake::ConsumerStore));
    }
    fn flags(&self) -> u32 {
        0
    }
    fn read(&self, index: u32) -> u64 {
        // SAFETY: loom fails the test if this is not exclusive of writes.
        self.slot(index).with(|slot| unsafe { *slot })
    }
    fn write(&self, index: u32, item: u64) {
        // SAFETY: loom fails the test if this is not exclusive.
        self.slot(index).with_mut(|slot| unsafe { *slot = item });
    }
}

/// Tries three times to send through two slots, so that a slot may be used twice, across the wrap of the indices,
/// while the other side tries to receive. No waiting: the number of interleavings stays finite.
fn three_through_two(mistake: Mistake) {
    loom::model(move || {
        let memory = Loom::new(2, u32::MAX, mistake);
        let (mut producer, mut consumer) = (Producer::new(memory.clone()), Consumer::new(memory));
        let sender = thread::spawn(move || {
            let mut sent = 0;
            for _ in 0..3 {
                if producer.reserve(1) == 1 {
                    sent += 1;
                    assert!(producer.push(sent));
                    producer.publish();
                }
            }
            sent
        });
        let mut received = 0;
        for _ in 0..2 {
            receive(&mut consumer, &mut received);
        }
        let sent = sender.join().unwrap();
        receive(&mut consumer, &mut received);
        assert_eq!(received, sent, "lost");
    });
}

fn receive(consumer: &mut Consumer<Loom>, received: &mut u64) {
    for _ in 0..consumer.available(2) {
        assert_eq!(consumer.pop(), Some(*received + 1), "lost, doubled or torn");
        *received += 1;
    }
    consumer.release();
}

#[test]
fn nothing_is_lost_doubled_or_torn() {
    three_through_two(Mistake::None);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn slots_shown_before_they_are_filled_are_found() {
    three_through_two(Mistake::ProducerStore);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn slots_read_before_they_are_shown_are_found() {
    three_through_two(Mistake::ProducerLoad);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn slots_let_go_before_they_are_read_are_found() {
    three_through_two(Mistake::ConsumerStore);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn slots_filled_before_they_are_let_go_are_found() {
    three_through_two(Mistake::ConsumerLoad);
}
