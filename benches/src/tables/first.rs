//! levee's flow table as it was at first (20 November 2026, commit 0810e96), kept so that what came after can be measured against it.
//!
//! ```text
//!   tuple ──hash──► two buckets, one cache line each:  8 × (tag, entry)
//!                                                            │
//!                        entries: [Flow; capacity]  ◄────────┘   128 bytes each, both directions in one
//! ```
//!
//! Its index, its lookup and its flows are what they were; ageing, paging and everything else that is not compared is left out. Only this
//! bench has it. It differs from today's in each thing that [`page`](super::page) gives a reason for: addresses of 16 bytes for
//! both families, flows of two cache lines, both buckets read for every packet, tags compared one after the other, an index whose number of
//! buckets is a power of two, and a look-ahead that ends at the index.

use std::io;

use bytemuck::Zeroable;
use levee_dataplane::address::Address;
use levee_dataplane::ends::{Ends, Tuple};
use levee_dataplane::flows::Millis;
use levee_dataplane::hash::Key;
use levee_dataplane::mem::pages::Pages;
use levee_dataplane::mem::prefetch;
use levee_dataplane::verdict::Endpoint;

use super::{Connection, Followed, KEY, MOST, PROTOCOL, Table};

const WAYS: usize = 8;

/// One cache line: tags first, so that a miss touches nothing else.
#[derive(Clone, Copy, Zeroable)]
#[repr(C, align(64))]
struct Bucket {
    /// 32 bits of the hash that the choice of bucket does not use.
    tags: [u32; WAYS],
    /// Entry + 1; 0 is an empty way.
    entries: [u32; WAYS],
}

impl Bucket {
    #[inline]
    fn ways(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.tags.iter().copied().zip(self.entries.iter().copied())
    }

    fn used(&self) -> usize {
        self.entries.iter().filter(|entry| **entry != 0).count()
    }
}

struct Index {
    buckets: Pages<Bucket>,
    mask: usize,
}

impl Index {
    /// Room for two keys of each of `capacity` flows, at most half full.
    fn new(capacity: usize) -> io::Result<Self> {
        let buckets = capacity.saturating_mul(4).div_ceil(WAYS).max(2).checked_next_power_of_two();
        let buckets = buckets.ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Index { buckets: Pages::new(buckets)?, mask: buckets - 1 })
    }

    /// The two buckets of a hash, always different, and its tag.
    #[inline]
    fn places(&self, hash: u64) -> ([usize; 2], u32) {
        let first = hash as usize & self.mask;
        let second = (hash >> 20) as usize & self.mask;
        let second = if second == first { first ^ 1 } else { second };
        ([first, second], (hash >> 32) as u32)
    }

    #[inline]
    fn prefetch(&self, hash: u64) {
        for place in self.places(hash).0 {
            if let Some(bucket) = self.buckets.get(place) {
                prefetch::read(bucket);
            }
        }
    }

    /// Entries that may have this hash.
    #[inline]
    fn candidates(&self, hash: u64) -> impl Iterator<Item = u32> + '_ {
        let (places, tag) = self.places(hash);
        places
            .into_iter()
            .filter_map(|place| self.buckets.get(place))
            .flat_map(Bucket::ways)
            .filter_map(move |(found, entry)| if found == tag { entry.checked_sub(1) } else { None })
    }

    /// False if both buckets are full.
    fn insert(&mut self, hash: u64, entry: u32) -> bool {
        let ([first, second], tag) = self.places(hash);
        let used = |place: usize| self.buckets.get(place).map_or(WAYS, Bucket::used);
        let place = if used(second) < used(first) { second } else { first };
        let Some(bucket) = self.buckets.get_mut(place) else { return false };
        let way = bucket.tags.iter_mut().zip(bucket.entries.iter_mut()).find(|(_, entry)| **entry == 0);
        match way {
            Some((way_tag, way_entry)) => {
                *way_tag = tag;
                *way_entry = entry + 1;
                true
            }
            None => false,
        }
    }

    fn remove(&mut self, hash: u64, entry: u32) {
        let (places, tag) = self.places(hash);
        for place in places {
            let Some(bucket) = self.buckets.get_mut(place) else { continue };
            for (way_tag, way_entry) in bucket.tags.iter_mut().zip(bucket.entries.iter_mut()) {
                if *way_tag == tag && *way_entry == entry + 1 {
                    *way_entry = 0;
                    return;
                }
            }
        }
    }
}

/// One flow: two cache lines.
#[derive(Clone, Copy, Zeroable)]
#[repr(C, align(64))]
struct Flow {
    client: Address,
    frontend: Address,
    backend: Address,
    source: Address,
    client_port: u16,
    frontend_port: u16,
    backend_port: u16,
    source_port: u16,
    /// Slot and identity of its service, when its backend was last found there, and both next hops.
    rest: [u32; 9],
    last: Millis,
    protocol: u8,
    mode: u8,
    /// 0 is an unused entry.
    state: u8,
    unused: u8,
}

const _: () = assert!(size_of::<Flow>() == 128);

impl Flow {
    fn new(forward: &Tuple, reverse: &Tuple, now: Millis) -> Self {
        Flow {
            client: forward.source.address,
            client_port: forward.source.port,
            frontend: forward.destination.address,
            frontend_port: forward.destination.port,
            backend: reverse.source.address,
            backend_port: reverse.source.port,
            source: reverse.destination.address,
            source_port: reverse.destination.port,
            last: now,
            protocol: forward.protocol,
            state: 2,
            ..Zeroable::zeroed()
        }
    }

    #[inline]
    fn forward(&self) -> Tuple {
        Tuple {
            source: Endpoint { address: self.client, port: self.client_port },
            destination: Endpoint { address: self.frontend, port: self.frontend_port },
            protocol: self.protocol,
        }
    }

    #[inline]
    fn reverse(&self) -> Tuple {
        Tuple {
            source: Endpoint { address: self.backend, port: self.backend_port },
            destination: Endpoint { address: self.source, port: self.source_port },
            protocol: self.protocol,
        }
    }
}

/// See the module.
pub struct First {
    entries: Pages<Flow>,
    free: Vec<u32>,
    index: Index,
    key: Key,
    tuples: Vec<Tuple>,
}

impl First {
    /// With room for so many connections, all memory faulted in.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(capacity: usize) -> io::Result<Self> {
        let entries = Pages::new(capacity)?;
        let count = u32::try_from(capacity).map_err(|_| io::ErrorKind::OutOfMemory)?;
        Ok(First {
            entries,
            free: (0..count).rev().collect(),
            index: Index::new(capacity)?,
            key: KEY,
            tuples: Vec::with_capacity(MOST),
        })
    }

    #[inline]
    fn hash(&self, tuple: &Tuple) -> u64 {
        let ports = u32::from(tuple.source.port) << 16 | u32::from(tuple.destination.port);
        self.key.tuple(tuple.source.address, tuple.destination.address, ports, tuple.protocol)
    }

    /// Which entry a tuple is of, and whether it is the reply's.
    #[inline]
    fn find(&self, tuple: &Tuple) -> Option<(u32, bool)> {
        let hash = self.hash(tuple);
        self.index.candidates(hash).find_map(|entry| {
            let flow = self.entries.get(entry as usize)?;
            if flow.state == 0 {
                None
            } else if flow.forward() == *tuple {
                Some((entry, false))
            } else if flow.reverse() == *tuple {
                Some((entry, true))
            } else {
                None
            }
        })
    }

    fn insert(&mut self, forward: &Tuple, reverse: &Tuple, now: Millis) -> Option<u32> {
        if self.find(forward).is_some() || self.find(reverse).is_some() {
            return None;
        }
        let entry = self.free.pop()?;
        let (forward_hash, reverse_hash) = (self.hash(forward), self.hash(reverse));
        let placed = self.index.insert(forward_hash, entry) && {
            let placed = self.index.insert(reverse_hash, entry);
            if !placed {
                self.index.remove(forward_hash, entry);
            }
            placed
        };
        match self.entries.get_mut(entry as usize) {
            Some(place) if placed => {
                *place = Flow::new(forward, reverse, now);
                Some(entry)
            }
            _ => {
                self.free.push(entry);
                None
            }
        }
    }

    fn remove(&mut self, entry: u32) {
        let Some(flow) = self.entries.get(entry as usize).copied() else { return };
        for tuple in [flow.forward(), flow.reverse()] {
            let hash = self.hash(&tuple);
            self.index.remove(hash, entry);
        }
        if let Some(place) = self.entries.get_mut(entry as usize) {
            place.state = 0;
        }
        self.free.push(entry);
    }
}

impl Table for First {
    fn begin(&mut self, some: &[Connection], now: Millis) -> usize {
        for Connection { forward, reverse } in some {
            for ends in [forward, reverse] {
                self.index.prefetch(self.hash(&ends.tuple_v4(PROTOCOL)));
            }
        }
        let tuples =
            some.iter().map(|Connection { forward, reverse }| [forward, reverse].map(|ends| ends.tuple_v4(PROTOCOL)));
        tuples.filter(|[forward, reverse]| self.insert(forward, reverse, now).is_some()).count()
    }

    fn establish(&mut self, _: &[Connection]) {}

    fn follow(&mut self, some: &[Ends], now: Millis) -> Followed {
        let mut tuples = std::mem::take(&mut self.tuples);
        for ends in some {
            let tuple = ends.tuple_v4(PROTOCOL);
            self.index.prefetch(self.hash(&tuple));
            tuples.push(tuple);
        }
        let mut followed = Followed::default();
        for tuple in tuples.drain(..) {
            let Some((entry, back)) = self.find(&tuple) else { continue };
            let Some(flow) = self.entries.get_mut(entry as usize) else { continue };
            flow.last = now;
            let (address, port) =
                if back { (flow.client, flow.client_port) } else { (flow.backend, flow.backend_port) };
            followed.note((address.tail(), port));
        }
        self.tuples = tuples;
        followed
    }

    fn end(&mut self, some: &[Ends]) -> usize {
        for ends in some {
            self.index.prefetch(self.hash(&ends.tuple_v4(PROTOCOL)));
        }
        let mut ended = 0;
        for ends in some {
            if let Some((entry, _)) = self.find(&ends.tuple_v4(PROTOCOL)) {
                self.remove(entry);
                ended += 1;
            }
        }
        ended
    }

    fn bytes(&self) -> usize {
        self.entries.len() * size_of::<Flow>()
            + self.index.buckets.len() * size_of::<Bucket>()
            + self.free.capacity() * size_of::<u32>()
    }
}
