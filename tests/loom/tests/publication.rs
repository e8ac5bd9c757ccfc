//! Publication (`dataplane/src/mem/publication.rs`) under every interleaving, and the mistakes that this must find.
//!
//! One publisher, two readers. Always: a reader never sees a value older than one that it has seen; a value is dropped by
//! the publisher alone, and after every reader has moved on; at the end nothing is held that nobody uses.
//!
//! One publisher, and one reader that sleeps in between. Always: what the publisher takes for seen is what the reader uses, or newer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use levee_loom::{explore, must_find};
use loom::thread;

/// One copy of the source.
macro_rules! copy {
    ($name:ident) => {
        #[allow(missing_docs, dead_code, unreachable_pub, clippy::all)]
        mod $name {
            include!(concat!(env!("OUT_DIR"), "/publication/", stringify!($name), ".rs"));
        }
    };
}

/// Who dropped what. Of the standard library: the model is not to be asked about its own measure.
struct Ledger {
    drops: AtomicUsize,
    dropped_by_a_reader: AtomicBool,
}

struct Value {
    number: u64,
    publisher: thread::ThreadId,
    ledger: Arc<Ledger>,
}

impl Drop for Value {
    fn drop(&mut self) {
        self.ledger.drops.fetch_add(1, Ordering::SeqCst);
        if thread::current().id() != self.publisher {
            self.ledger.dropped_by_a_reader.store(true, Ordering::SeqCst);
        }
    }
}

/// Two values published to two readers that look twice each, with the source of module `$name`.
macro_rules! story {
    ($name:ident) => {
        || {
            let ledger = Arc::new(Ledger { drops: AtomicUsize::new(0), dropped_by_a_reader: AtomicBool::new(false) });
            let publisher_id = thread::current().id();
            let value = |number| Value { number, publisher: publisher_id, ledger: Arc::clone(&ledger) };
            let (mut publisher, readers) = $name::channel(value(0), 2);
            let threads: Vec<_> = readers
                .into_iter()
                .map(|mut reader| {
                    thread::spawn(move || {
                        let mut newest = 0;
                        for _ in 0..2 {
                            let number = reader.current().number;
                            assert!(number >= newest, "saw {number} after {newest}");
                            newest = number;
                        }
                        // Comes home to be dropped: a worker that ends is no worker that works.
                        reader
                    })
                })
                .collect();
            publisher.publish(value(1));
            publisher.publish(value(2));
            let mut readers: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            assert!(!ledger.dropped_by_a_reader.load(Ordering::SeqCst), "a reader dropped a value");
            for reader in &mut readers {
                assert_eq!(reader.current().number, 2, "nothing is in the way, and yet the newest is not seen");
            }
            assert_eq!(publisher.reclaim(), 0, "all have moved on, and yet something is held");
            assert_eq!(ledger.drops.load(Ordering::SeqCst), 2, "values 0 and 1, and not value 2");
        }
    };
}

/// Two values published to a reader that goes away and comes back, with the source of module `$name`.
macro_rules! nap {
    ($name:ident) => {
        || {
            let ledger = Arc::new(Ledger { drops: AtomicUsize::new(0), dropped_by_a_reader: AtomicBool::new(false) });
            let publisher_id = thread::current().id();
            let value = |number| Value { number, publisher: publisher_id, ledger: Arc::clone(&ledger) };
            let (mut publisher, mut readers) = $name::channel(value(0), 1);
            // What the publisher has told others that every reader has. Of the standard library, as the ledger.
            let relied_upon = Arc::new(AtomicU64::new(0));
            let told = Arc::clone(&relied_upon);
            let mut reader = readers.remove(0);
            let thread = thread::spawn(move || {
                reader.rest();
                reader.resume();
                let number = reader.current().number;
                let told = told.load(Ordering::SeqCst);
                assert!(told <= number, "relied upon {told}, used {number}");
                reader
            });
            for number in 1..=2 {
                let version = publisher.publish(value(number));
                if publisher.seen() >= version {
                    relied_upon.store(number, Ordering::SeqCst);
                }
            }
            let mut reader = thread.join().unwrap();
            assert!(!ledger.dropped_by_a_reader.load(Ordering::SeqCst), "a reader dropped a value");
            assert_eq!(reader.current().number, 2);
            assert_eq!((publisher.reclaim(), publisher.seen()), (0, 2), "it is back, and has moved on");
        }
    };
}

copy!(as_it_is);

#[test]
fn holds_under_every_interleaving() {
    explore(story!(as_it_is));
}

#[test]
fn holds_while_a_reader_is_away() {
    explore(nap!(as_it_is));
}

macro_rules! must_be_found {
    ($story:ident, $says:literal: $($mistake:ident)+) => {$(
        copy!($mistake);

        #[test]
        fn $mistake() {
            must_find($says, $story!($mistake));
        }
    )+};
}

must_be_found! {
    story, "a reader dropped a value":
    reclaims_too_early
    waits_for_one_reader_only
    retires_nothing
    reports_before_it_moves_on
}

must_be_found! {
    nap, "relied upon":
    comes_back_unseen
    looks_for_sleepers_too_early
    comes_back_to_an_old_value
    gives_up_when_the_writer_is_at_it
}
