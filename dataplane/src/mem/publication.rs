//! How one writer hands new values to readers that may never wait.
//!
//! ```text
//!   writer                      shared                      reader (a worker, once per batch)
//!   publish(value) ──►  current: Mutex<Arc<T>>
//!                       version: AtomicU64  ◄── acquire load, compare with the version it has: nothing new, go on
//!                                               something new: try_lock, clone the Arc, store the version as seen
//!   reclaim()      ◄──  seen[reader]: AtomicU64
//!      drops what every reader has moved past
//! ```
//!
//! The steady state of a reader is one load and one compare (0.3 ns). A reader never blocks: if the writer holds the
//! lock just then, the reader keeps its old value for one more batch. A reader never frees: the writer keeps each old
//! value until all readers have reported a later version, so the last reference is always dropped by the writer.
//! This is quiescent-state reclamation (McKenney, "Is Parallel Programming Hard", 9.5) without raw pointers.
//! `tests/loom` runs this very file under every interleaving.
//!
//! **Away.** A reader that sleeps uses no value at all, so nobody need wait for it to wake up: it says that it is away ([`Reader::rest`]), and
//! when it is back ([`Reader::resume`]) it takes what is current then before it does anything else. While it is away it counts as one that has
//! [`seen`](Publisher::seen) everything; what it holds is kept for it all the same.

use std::collections::VecDeque;
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering, fence},
};

struct Shared<T> {
    current: Mutex<(u64, Arc<T>)>,
    version: AtomicU64,
    seats: Box<[Seat]>,
}

/// What one reader shows.
struct Seat {
    /// The version that it holds.
    held: AtomicU64,
    /// It uses none, and will take the current one before it uses one again.
    away: AtomicBool,
}

/// The one writer.
pub struct Publisher<T> {
    shared: Arc<Shared<T>>,
    /// Each value with the version that replaced it.
    retired: VecDeque<(u64, Arc<T>)>,
}

/// One reader; owned by one worker.
pub struct Reader<T> {
    shared: Arc<Shared<T>>,
    index: usize,
    version: u64,
    value: Arc<T>,
}

/// Makes a publisher with a first value, and its readers.
pub fn channel<T>(value: T, readers: usize) -> (Publisher<T>, Vec<Reader<T>>) {
    let value = Arc::new(value);
    let shared = Arc::new(Shared {
        current: Mutex::new((0, Arc::clone(&value))),
        version: AtomicU64::new(0),
        seats: (0..readers).map(|_| Seat { held: AtomicU64::new(0), away: AtomicBool::new(false) }).collect(),
    });
    let readers = (0..readers)
        .map(|index| Reader { shared: Arc::clone(&shared), index, version: 0, value: Arc::clone(&value) })
        .collect();
    (Publisher { shared, retired: VecDeque::new() }, readers)
}

impl<T> Publisher<T> {
    /// Makes `value` the current one and returns its version. Readers see it at their next batch.
    pub fn publish(&mut self, value: T) -> u64 {
        let value = Arc::new(value);
        let mut current = lock(&self.shared.current);
        let version = current.0 + 1;
        let (_, old) = std::mem::replace(&mut *current, (version, value));
        // Release: whoever sees the version finds the value under the lock.
        self.shared.version.store(version, Ordering::Release);
        drop(current);
        // With the fence in `resume`: either a reader that comes back finds this version, or `seen` finds that it is back.
        fence(Ordering::SeqCst);
        self.retired.push_back((version, old));
        self.reclaim();
        version
    }

    /// Drops every value that all readers have moved past; returns how many are still held.
    pub fn reclaim(&mut self) -> usize {
        let held = self.shared.seats.iter().map(|seat| seat.held.load(Ordering::Acquire)).min().unwrap_or(u64::MAX);
        // The oldest comes first.
        while self.retired.front().is_some_and(|(replaced_by, _)| *replaced_by <= held) {
            self.retired.pop_front();
        }
        self.retired.len()
    }

    /// The version that every reader has reached, or will before it uses one.
    #[must_use]
    pub fn seen(&self) -> u64 {
        let used = self.shared.seats.iter().filter(|seat| !seat.away.load(Ordering::Acquire));
        used.map(|seat| seat.held.load(Ordering::Acquire)).min().unwrap_or(u64::MAX)
    }

    /// The version last published.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.shared.version.load(Ordering::Acquire)
    }
}

impl<T> Reader<T> {
    /// The current value. Call it once per batch: calling it says that no reference from before is in use, which the
    /// borrow makes true.
    #[inline]
    pub fn current(&mut self) -> &T {
        if self.shared.version.load(Ordering::Acquire) != self.version {
            self.move_on();
        }
        &self.value
    }

    /// Says that no value is used until [`resume`](Self::resume): nobody waits for this reader meanwhile. Call it before sleeping.
    pub fn rest(&mut self) {
        if let Some(seat) = self.shared.seats.get(self.index) {
            // Release: what was done by the value is done before the publisher may think it out of use.
            seat.away.store(true, Ordering::Release);
        }
    }

    /// Says that values are used again, and takes the current one. The only wait of a reader, after a sleep that was longer: for as
    /// long as the writer puts one pointer in the place of another, because what is current may be relied upon already.
    pub fn resume(&mut self) {
        if let Some(seat) = self.shared.seats.get(self.index) {
            seat.away.store(false, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
        while self.shared.version.load(Ordering::Acquire) != self.version {
            self.move_on();
            std::hint::spin_loop();
        }
    }

    #[cold]
    fn move_on(&mut self) {
        let Ok(current) = self.shared.current.try_lock() else { return };
        let (version, value) = (current.0, Arc::clone(&current.1));
        drop(current);
        // The publisher still holds the old value in `retired`, so this never frees.
        self.value = value;
        self.version = version;
        if let Some(seat) = self.shared.seats.get(self.index) {
            // Release: the old value is out of use before the publisher may drop it.
            seat.held.store(version, Ordering::Release);
        }
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        // A reader that is gone holds nothing back.
        if let Some(seat) = self.shared.seats.get(self.index) {
            seat.held.store(u64::MAX, Ordering::Release);
        }
    }
}

/// A panic while the lock was held cannot have left half a value: the pair is replaced whole.
fn lock<T>(mutex: &Mutex<T>) -> impl std::ops::DerefMut<Target = T> + '_ {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    struct Counted(u32, Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_value_is_dropped_by_the_publisher_once_all_readers_have_moved_on() {
        let drops = Arc::new(AtomicUsize::new(0));
        let (mut publisher, mut readers) = channel(Counted(0, Arc::clone(&drops)), 2);
        publisher.publish(Counted(1, Arc::clone(&drops)));
        assert_eq!(readers[0].current().0, 1);
        assert_eq!(publisher.reclaim(), 1, "the second reader still has the first value");
        assert_eq!(drops.load(Ordering::SeqCst), 0);
        assert_eq!(readers[1].current().0, 1);
        assert_eq!(drops.load(Ordering::SeqCst), 0, "readers never free");
        assert_eq!(publisher.reclaim(), 0);
        assert_eq!(drops.load(Ordering::SeqCst), 1);
        assert_eq!(publisher.seen(), 1);
    }

    #[test]
    fn a_reader_that_is_away_is_not_waited_for_and_comes_back_to_the_newest() {
        let drops = Arc::new(AtomicUsize::new(0));
        let (mut publisher, mut readers) = channel(Counted(0, Arc::clone(&drops)), 1);
        readers[0].rest();
        for number in 1..4 {
            let version = publisher.publish(Counted(number, Arc::clone(&drops)));
            assert!(publisher.seen() >= version);
        }
        assert_eq!(
            (publisher.reclaim(), drops.load(Ordering::SeqCst)),
            (3, 0),
            "what it holds, and all since, is kept"
        );
        readers[0].resume();
        assert_eq!((readers[0].current().0, publisher.seen()), (3, 3));
        assert_eq!((publisher.reclaim(), drops.load(Ordering::SeqCst)), (0, 3));
        let version = publisher.publish(Counted(4, drops));
        assert!(publisher.seen() < version, "it is back, and has not taken this one");
    }

    #[test]
    fn a_reader_that_is_gone_holds_nothing_back() {
        let (mut publisher, mut readers) = channel(0, 2);
        drop(readers.pop());
        publisher.publish(1);
        assert_eq!(*readers[0].current(), 1);
        assert_eq!(publisher.seen(), 1);
        assert_eq!(publisher.reclaim(), 0);
    }
}
