//! Fragments of packets to and from services: only the first has ports, and the others follow it.
//!
//! ```text
//!   first fragment ── decided on as a whole packet is ──► course, noted under the datagram ──► goes
//!   later fragment ── course of its datagram? ── known ──► the same course, addresses translated alone
//!                                             └─ not yet ──► waits for the first, a moment (`worker`)
//! ```
//!
//! A datagram is known by source, destination and identification, and in IPv4 by its protocol (RFC 791, 3.2). In IPv6 a protocol
//! stands in each fragment's header, and only the first one's counts (RFC 8200, 4.5): of a datagram with destination options among
//! what was cut, the first is of UDP, and the others are of "options". The table has a fixed number of places, four for
//! each value of a keyed hash; where all are taken, the datagram that was seen last longest ago gives its
//! place up. So a flood of first fragments costs a flood of entries, and datagrams whose fragments come one after the other, as
//! hosts send them, need theirs for microseconds. A datagram that is complete is forgotten at once: its identification may come
//! again soon (RFC 4963).
//!
//! Which parts have been seen is kept as a few spans. A fragment inside of one is a duplicate and ends here; one that overlaps a
//! span ends its whole datagram, this fragment and all to come (RFC 5722, which Linux follows for IPv4 too): overlaps are
//! for rewriting ports behind a filter's back (RFC 1858). A first fragment that comes again goes on as the one before it did, so
//! that its receiver sees a duplicate; if something else has been decided for it, it begins its datagram anew: it may be of another
//! one under a used identification.
//!
//! Never: a frame, an allocation after start, a reassembly.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::address::Address;
use crate::flows::Millis;
use crate::hash::Key;
use crate::headers::{Ip, Piece};
use crate::reason::Reason;
use crate::verdict::{Outer, PortId, Rewrite};

const WAYS: usize = 4;
/// Datagrams in flight that a worker knows. At 100,000 fragmented datagrams a second each has 40 ms: a path that takes longer
/// between two fragments of a datagram is broken.
const SETS: usize = 1024;
/// How long a datagram is known without a fragment. Linux waits 30 s to reassemble (`ipfrag_time`); but at 10,000 datagrams
/// a second an identification comes again after 6.5 s.
const LIFETIME: Millis = 2_000;
/// Spans of a datagram, and so gaps between them. In order there is one; each fragment that overtakes others makes one more.
const SPANS: usize = 6;
/// Counters of identifications, by destination.
const COUNTERS: usize = 256;

/// What fragments of one datagram have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram {
    source: Address,
    destination: Address,
    identification: u32,
    /// Of IPv4. In IPv6 it is not the same in all fragments, and this is 0.
    protocol: u8,
}

impl Datagram {
    /// The datagram of a fragment.
    #[must_use]
    pub fn of(ip: &Ip, piece: &Piece) -> Self {
        Datagram {
            source: ip.source,
            destination: ip.destination,
            identification: piece.identification,
            protocol: if ip.source.is_v4() { ip.protocol } else { 0 },
        }
    }
}

/// What becomes of a datagram's fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// Out of this port, so rewritten, under this identification if the source is.
    Forward(PortId, Rewrite, u32),
    /// The same, wrapped.
    Wrap(PortId, Rewrite, Outer, u32),
    /// To the kernel.
    Pass,
    /// To the worker that owns the flow.
    Worker(usize),
    /// Nowhere.
    Drop(Reason),
}

impl Course {
    /// Whether it leads to the same place in the same form, whatever the identification. Of what goes nowhere, nothing is the same.
    fn is_as(&self, other: &Course) -> bool {
        match (self, other) {
            (Course::Forward(port, rewrite, _), Course::Forward(other_port, other_rewrite, _)) => {
                (port, rewrite) == (other_port, other_rewrite)
            }
            (Course::Wrap(port, rewrite, outer, _), Course::Wrap(other_port, other_rewrite, other_outer, _)) => {
                (port, rewrite, outer) == (other_port, other_rewrite, other_outer)
            }
            (Course::Pass, Course::Pass) => true,
            _ => false,
        }
    }
}

/// What the table says to a first fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begins {
    /// It goes this way, and so do those that follow it.
    Course(Course),
    /// It ends here, and perhaps its datagram.
    Drop(Reason),
}

/// What the table says to a fragment other than a first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    /// As its first fragment.
    Course(Course),
    /// Its first fragment has not been seen.
    Unknown,
    /// It ends here.
    Drop(Reason),
}

/// Units of 8 bytes, from and to.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    start: u16,
    end: u16,
}

#[derive(Clone, Copy)]
struct Entry {
    datagram: Datagram,
    course: Course,
    last: Millis,
    /// Where its first fragment ends.
    first: u16,
    /// Where the datagram ends, once the last fragment was seen; 0 before.
    total: u16,
    /// Sorted, apart from each other; the unused ones are empty and at the end.
    spans: [Span; SPANS],
}

/// See the module's documentation.
pub struct Fragments {
    sets: Box<[[Option<Entry>; WAYS]]>,
    key: Key,
}

impl Fragments {
    /// An empty table. `key` should be random.
    #[must_use]
    pub fn new(key: Key) -> Self {
        Fragments { sets: vec![[None; WAYS]; SETS].into(), key }
    }

    fn set(&mut self, datagram: &Datagram) -> Option<&mut [Option<Entry>; WAYS]> {
        let Datagram { source, destination, identification, protocol } = *datagram;
        let hash = self.key.tuple(source, destination, identification, protocol);
        self.sets.get_mut(hash as usize % SETS)
    }

    /// Notes what was decided for a first fragment, and so for all; unless it has come before, and then nothing new is to begin:
    /// its course is the one that was noted then, whose identification its datagram has at its receiver.
    pub fn begin(&mut self, datagram: Datagram, piece: &Piece, course: Course, now: Millis) -> Begins {
        let Some(set) = self.set(&datagram) else { return Begins::Course(course) };
        let new = span(piece);
        let mut known = set.iter_mut().flatten().filter(|entry| entry.is_of(&datagram, now));
        if let Some(entry) = known.next()
            && let Some(begins) = entry.again(new, course)
        {
            entry.last = now;
            return begins;
        }
        let age = |entry: &Option<Entry>| match entry {
            Some(entry) if entry.datagram == datagram => u64::MAX,
            Some(entry) => u64::from(now.wrapping_sub(entry.last)),
            None => u64::MAX - 1,
        };
        let mut spans = [Span::default(); SPANS];
        if let Some(first) = spans.first_mut() {
            *first = new;
        }
        if let Some(oldest) = set.iter_mut().max_by_key(|entry| age(entry)) {
            *oldest = Some(Entry { datagram, course, last: now, first: new.end, total: 0, spans });
        }
        Begins::Course(course)
    }

    /// What becomes of a fragment other than a first one.
    pub fn follow(&mut self, datagram: &Datagram, piece: &Piece, now: Millis) -> Follows {
        let known = |entry: &&mut Option<Entry>| entry.as_ref().is_some_and(|entry| entry.is_of(datagram, now));
        let Some(place) = self.set(datagram).and_then(|set| set.iter_mut().find(known)) else {
            return Follows::Unknown;
        };
        let Some(entry) = place else { return Follows::Unknown };
        entry.last = now;
        let course = entry.course;
        // The spans are the business of whoever sends it on.
        if matches!(course, Course::Worker(_) | Course::Drop(_)) {
            return Follows::Course(course);
        }
        match entry.cover(piece) {
            Cover::New { complete: true } => {
                *place = None;
                Follows::Course(course)
            }
            Cover::New { complete: false } => Follows::Course(course),
            Cover::Duplicate => Follows::Drop(Reason::FragmentDuplicate),
            Cover::Overlap => {
                entry.course = Course::Drop(Reason::FragmentOverlap);
                Follows::Drop(Reason::FragmentOverlap)
            }
        }
    }
}

enum Cover {
    New { complete: bool },
    Duplicate,
    Overlap,
}

fn span(piece: &Piece) -> Span {
    let unit = |bytes: u32| u16::try_from(bytes.div_ceil(8)).unwrap_or(u16::MAX);
    Span { start: unit(piece.offset), end: unit(piece.offset + piece.length) }
}

impl Entry {
    /// Whether it is this datagram's, and not one that had its identification long ago.
    fn is_of(&self, datagram: &Datagram, now: Millis) -> bool {
        self.datagram == *datagram && now.wrapping_sub(self.last) < LIFETIME
    }

    /// What becomes of a first fragment whose datagram has begun; `None` if it begins another.
    fn again(&mut self, new: Span, course: Course) -> Option<Begins> {
        // The spans are the business of whoever sends it on; what has ended may come once more.
        if matches!(self.course, Course::Worker(_) | Course::Drop(_)) {
            return None;
        }
        if new.end == self.first {
            return self.course.is_as(&course).then_some(Begins::Course(self.course));
        }
        if self.spans.first().is_some_and(|seen| new.end <= seen.end) {
            return Some(Begins::Drop(Reason::FragmentDuplicate));
        }
        self.course = Course::Drop(Reason::FragmentOverlap);
        Some(Begins::Drop(Reason::FragmentOverlap))
    }

    /// Marks a part as seen.
    fn cover(&mut self, piece: &Piece) -> Cover {
        let new = span(piece);
        // Data behind the end, another end, or an end before data: also where it says nothing else that is new.
        let beyond = self.total != 0 && new.end > self.total;
        let another = !piece.more && self.total != 0 && new.end != self.total;
        let early = !piece.more && self.spans.iter().any(|seen| seen.end > new.end);
        if beyond || another || early {
            return Cover::Overlap;
        }
        if self.spans.iter().any(|seen| seen.start <= new.start && new.end <= seen.end) {
            return Cover::Duplicate;
        }
        let overlaps = self.spans.iter().any(|seen| new.start < seen.end && seen.start < new.end);
        if overlaps || !self.add(new) {
            return Cover::Overlap;
        }
        if !piece.more {
            self.total = new.end;
        }
        let first = self.spans.first().copied().unwrap_or_default();
        Cover::New { complete: self.total != 0 && first.start == 0 && first.end == self.total }
    }

    /// Adds a span that overlaps none, grown together with those that it touches. False if there is no room for it.
    fn add(&mut self, mut new: Span) -> bool {
        for seen in &mut self.spans {
            if seen.start == seen.end {
                continue;
            }
            if seen.end == new.start {
                new.start = seen.start;
                *seen = Span::default();
            } else if new.end == seen.start {
                new.end = seen.end;
                *seen = Span::default();
            }
        }
        let Some(free) = self.spans.iter_mut().find(|seen| seen.start == seen.end) else { return false };
        *free = new;
        self.spans.sort_unstable_by_key(|seen| if seen.start == seen.end { u32::MAX } else { u32::from(seen.start) });
        true
    }
}

/// Identifications for datagrams whose source address becomes one that others send from too.
///
/// Two clients behind one SNAT address may use the same identification towards one backend, and a VIP's backends the
/// same towards one client: fragments of two datagrams would be put together as one. Whoever shares an address among
/// hosts must see to it (RFC 6864, 5.3.1), for every packet that is, or may come to be, fragmented. Workers have parts of
/// their own; each destination has (nearly) its own counter, so that a number comes again as late as can be.
pub struct Identifications {
    counters: Box<[u32]>,
    key: Key,
    worker: u32,
    workers: u32,
}

impl Identifications {
    /// For one worker of so many. `key` should be random, and the same for all of them.
    #[must_use]
    pub fn new(worker: usize, workers: usize, key: Key) -> Self {
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let (worker, workers) = (small(worker), small(workers).max(1));
        Identifications { counters: vec![0; COUNTERS].into(), key, worker, workers }
    }

    /// The next one towards a destination. IPv4 has 16 bits of it.
    pub fn next(&mut self, destination: Address) -> u32 {
        let hash = self.key.address(destination, 0);
        let Some(counter) = self.counters.get_mut(hash as usize % COUNTERS) else { return 0 };
        *counter = counter.wrapping_add(1);
        // Where the 16 bits end, every worker's part must end too.
        let most = if destination.is_v4() { 1 << 16 } else { u32::MAX } / self.workers;
        let turn = *counter % most.max(1);
        (turn * self.workers + self.worker).wrapping_add((hash >> 32) as u32)
    }
}

#[cfg(test)]
mod tests;
