//! How workers sleep and are woken (`dataplane/src/worker/waker.rs` and `idle.rs`) under every interleaving, and the mistakes that
//! this must find.
//!
//! One worker that sleeps when idle, one thread that has something for it twice. Always: the worker sees both, without a timeout that
//! would wake it by itself; and one that works does not look as if it slept, so that nobody makes a system call to wake it.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use levee_loom::{explore, must_find};
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

/// The kernel's part. It waits for ever: who is not woken is stuck, which loom finds.
#[derive(Default)]
pub struct Alarm {
    rung: Mutex<bool>,
    changed: Condvar,
}

#[allow(missing_docs, clippy::missing_errors_doc, clippy::missing_panics_doc)]
impl Alarm {
    pub fn new() -> std::io::Result<Self> {
        Ok(Alarm { rung: Mutex::new(false), changed: Condvar::new() })
    }

    pub fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.changed.notify_one();
    }

    pub fn reset(&self) {
        *self.rung.lock().unwrap() = false;
    }

    pub fn wait<'a>(&self, _: impl Iterator<Item = BorrowedFd<'a>>, _: Duration, _: &mut Room) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.changed.wait(rung).unwrap();
        }
    }
}

/// No list of sockets is made here.
#[derive(Default)]
pub struct Room;

#[allow(missing_docs)]
impl Room {
    #[must_use]
    pub fn new() -> Self {
        Room
    }
}

/// One copy of the sources.
macro_rules! copy {
    ($name:ident) => {
        #[allow(missing_docs, dead_code, unreachable_pub, clippy::all)]
        mod $name {
            include!(concat!(env!("OUT_DIR"), "/sleep/", stringify!($name), ".rs"));
        }
    };
}

/// Two things given to a worker that looks, and sleeps when it finds none, with the sources of module `$name`.
macro_rules! story {
    ($name:ident) => {
        || {
            let waker = $name::waker::Waker::new().unwrap();
            let mut idle = $name::idle::Idle::sleep(waker.clone());
            // A queue at its weakest: what is written to it is ordered before nothing but itself.
            let given = Arc::new(AtomicUsize::new(0));
            let giver = thread::spawn({
                let (given, waker) = (Arc::clone(&given), waker.clone());
                move || {
                    for number in 1..=2 {
                        given.store(number, Ordering::Relaxed);
                        waker.wake();
                    }
                }
            });
            let mut seen = 0;
            while seen < 2 {
                let now = given.load(Ordering::Relaxed);
                if now > seen {
                    seen = now;
                    idle.busy();
                    assert!(!waker.is_sleeping(), "works, and looks asleep");
                } else {
                    idle.nothing_to_do(given.load(Ordering::Relaxed) == seen, true, &mut (), std::iter::empty());
                }
            }
            giver.join().unwrap();
        }
    };
}

copy!(as_it_is);

#[test]
fn holds_under_every_interleaving() {
    explore(story!(as_it_is));
}

macro_rules! must_be_found {
    ($($mistake:ident: $how:literal)+) => {$(
        copy!($mistake);

        #[test]
        fn $mistake() {
            must_find($how, story!($mistake));
        }
    )+};
}

must_be_found! {
    wakes_without_a_fence: "deadlock"
    sleeps_without_a_fence: "deadlock"
    sleeps_without_saying_so: "deadlock"
    works_with_the_flag_up: "works, and looks asleep"
}
