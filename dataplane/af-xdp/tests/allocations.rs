//! A worker's round allocates nothing: neither while frames flow, nor while the link is down.

#![allow(unsafe_code)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use af_xdp::Frame;
use common::{in_namespace, ip, numbered, tap, umem, veth, wait_for};

/// The system's allocator, counting what each thread asks of it.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is left to the system's allocator; the counter is a plain cell that needs none.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_round_allocates_nothing() {
    in_namespace(|| {
        veth("left", "right", "");
        let (umem, mut pool) = umem(8192);
        let mut left = tap(&umem, &mut pool, "left");
        let mut right = tap(&umem, &mut pool, "right");
        let mut there: Vec<Frame> = Vec::with_capacity(512);
        let mut back: Vec<Frame> = Vec::with_capacity(512);
        there.extend(numbered(&umem, &mut pool, 0..64, 60));

        // 64 frames go round and round between the two ends.
        let start = ALLOCATIONS.get();
        wait_for("100,000 frames to go round", || {
            for (socket, batch) in [(&mut left.socket, &mut there), (&mut right.socket, &mut back)] {
                socket.complete(&mut pool);
                socket.fill(&mut pool);
                socket.transmit(batch);
                socket.kick().unwrap();
                socket.wake_receiver().unwrap();
                socket.receive(batch, 64);
            }
            left.socket.counters().received >= 100_000
        });
        assert_eq!(ALLOCATIONS.get() - start, 0, "allocations while frames flow");
        pool.give_all(&mut there);
        pool.give_all(&mut back);

        ip("link set left down");
        there.extend(numbered(&umem, &mut pool, 0..1, 60));
        left.socket.transmit(&mut there);
        let start = ALLOCATIONS.get();
        for _ in 0..100 {
            assert!(left.socket.kick().is_err());
        }
        assert_eq!(ALLOCATIONS.get() - start, 0, "allocations while the link is down");
        assert!(ALLOCATIONS.get() > 0, "the counter does not count");
    });
}
