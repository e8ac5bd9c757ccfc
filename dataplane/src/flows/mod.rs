//! Which flow goes where: one worker's own table, fixed in size, never locked, never resized.
//!
//! ```text
//!   tuple ──hash──► a bucket, one cache line:  12 × (tag, entry)
//!                                                     │
//!                   entries: [48 bytes; capacity] ◄───┘   both directions in one
//! ```
//!
//! A flow stands in the index twice: under the client's tuple and under the backend's reply, so that both directions of a
//! translated flow are one lookup each and share one state. Where an insert finds no room, in the index or among the entries, the
//! table says so and the caller goes on without tracking: it is never a reason to stop.
//!
//! Outside of this module a flow is a [`Flow`], a value of comfortable size that is copied out and stored back. What lies in
//! memory is smaller ([`entry`], [`hops`], [`index`]): at ten million flows every byte of an entry is ten megabytes that the
//! caches have not. Packets of flows that are simply going on never see a `Flow`: [`follow_v4`](Flows::follow_v4) reads the entry where it is.
//!
//! Ageing is a clock hand: each batch looks at a few entries and forgets those whose time is up. When the table is full,
//! the hand takes what is worth least ([`doomed`]): an established TCP flow that was ever answered is never evicted.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod affinity;
mod doomed;
mod draft;
mod effort;
mod entry;
mod flow;
mod hand;
mod hops;
mod index;
mod pool;
pub mod state;
mod timeouts;
mod vacancy;

use std::io;

use levee_api::net::Role;

pub use self::draft::Draft;
pub use self::flow::{Direction, Flow, Opening};
pub use self::index::MOST;
pub use self::timeouts::Timeouts;
pub use self::vacancy::Vacancy;
pub use crate::ends::Tuple;

use self::doomed::{Doomed, Prices};
use self::effort::Effort;
use self::entry::{Entry, Extension};
use self::hops::{HopId, Hops};
use self::index::{Index, Look};
use self::pool::Pool;
use self::state::State;
use crate::ends::Ends;
use crate::hash::Key;
use crate::mem::prefetch;
use crate::verdict::{Course, NextHop};

/// Milliseconds since the dataplane started. Wraps after 49 days; all comparisons are of differences.
pub type Millis = u32;

/// Names an entry while it is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowId(u32);

impl FlowId {
    /// No entry's.
    pub const NONE: FlowId = FlowId(u32::MAX);
    /// No entry's that is known yet.
    pub const AWAY: FlowId = FlowId(u32::MAX - 1);
}

/// When and from where a packet came that may be of a flow.
#[derive(Debug, Clone, Copy)]
pub struct Coming {
    /// The side that it came in on.
    pub from: Role,
    /// [`Tables::stamp`](crate::tables::Tables::stamp) of now.
    pub stamp: u32,
    /// The time.
    pub now: Millis,
}

/// One worker's flows.
pub struct Flows {
    entries: Pool,
    flows: usize,
    index: Index,
    hops: Hops,
    key: Key,
    hand: usize,
    /// When the hand moved last.
    aged: Millis,
    /// What it owes since: entries to be looked at, times a lap's milliseconds.
    owed: u64,
    /// Who is forgotten next if the table is full, as it was when it was chosen.
    doomed: Doomed,
    prices: Prices,
    effort: Effort,
    /// Flows that were ever inserted, for vacancies. Wraps.
    inserted: u32,
    timeouts: Timeouts,
}

impl Flows {
    /// A table with room for `capacity` flows of IPv4, or half as many of IPv6, all memory faulted in. `key` should be random.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(capacity: usize, key: Key, timeouts: Timeouts) -> io::Result<Self> {
        Ok(Flows {
            entries: Pool::new(capacity)?,
            flows: 0,
            index: Index::new(capacity)?,
            hops: Hops::new(),
            key,
            hand: 0,
            aged: 0,
            owed: 0,
            doomed: Doomed::NOBODY,
            prices: Prices::new(&timeouts),
            effort: Effort::WHOLE,
            inserted: 0,
            timeouts,
        })
    }

    /// Flows in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.flows
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Flows that there is room for, if all are of IPv4.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// Bytes that it has for them all, but for the next hops: 512 KiB.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.entries.bytes() + self.index.bytes()
    }

    /// The timeouts that it ages by.
    #[must_use]
    pub fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// The hash that a tuple's flow is found by.
    #[inline]
    #[must_use]
    pub fn hash(&self, tuple: &Tuple) -> u64 {
        let (source, destination) = (tuple.source, tuple.destination);
        if source.address.is_v4() && destination.address.is_v4() {
            return self.hash_v4(Ends::of(source, destination), tuple.protocol);
        }
        let ports = u32::from(source.port) << 16 | u32::from(destination.port);
        self.key.tuple(source.address, destination.address, ports, tuple.protocol)
    }

    /// The same of an IPv4 packet, from what stands in it.
    #[inline(always)]
    #[must_use]
    pub fn hash_v4(&self, ends: Ends, protocol: u8) -> u64 {
        self.key.ends(ends.halves(), protocol)
    }

    /// Asks for the bucket that [`candidate`](Self::candidate) will read for a hash.
    #[inline(always)]
    pub fn prefetch(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Asks for both buckets that a flow with this hash may stand in, for one that is to begin: they are two places anywhere, and a full table
    /// has few first ones with room.
    #[inline(always)]
    pub fn prefetch_both(&self, hash: u64) {
        self.index.prefetch_both(hash);
    }

    /// The flow that a packet with this hash is most likely of, asked for; [`FlowId::NONE`] if it is of none; and
    /// [`FlowId::AWAY`] if that is for [`candidate_away`](Self::candidate_away) to say, as soon as what it will read has come.
    #[inline(always)]
    #[must_use]
    pub fn candidate(&self, hash: u64) -> FlowId {
        match self.index.look(hash) {
            Look::Entry(entry) => self.asked_for(entry),
            Look::Away => FlowId::AWAY,
            Look::Nowhere => FlowId::NONE,
        }
    }

    /// The same of a packet whose flow is not in the first place to look.
    #[inline]
    #[must_use]
    pub fn candidate_away(&self, hash: u64) -> FlowId {
        self.index.look_away(hash).map_or(FlowId::NONE, |entry| self.asked_for(entry))
    }

    #[inline(always)]
    fn asked_for(&self, entry: u32) -> FlowId {
        let Some(place) = self.entries.get(entry) else { return FlowId::NONE };
        prefetch::read(place);
        // Every second one ends in the next cache line.
        prefetch::read(&place.via);
        FlowId(entry)
    }

    /// Where an IPv4 packet goes that is of a flow, and begins and ends nothing; the flow has then had it. `None`: something has to be
    /// decided, by [`find`](Self::find) and what follows. `holds` says whether what was decided as of a stamp, for a service,
    /// is so still.
    #[inline(always)]
    pub fn follow_v4(
        &mut self,
        FlowId(candidate): FlowId,
        (ends, protocol): (Ends, u8),
        coming: Coming,
        holds: impl Fn(u32, u32) -> bool,
    ) -> Option<Course> {
        let entry = self.entries.get_mut(candidate)?;
        let ((ends, shifts), hop) = if entry.forward == ends {
            // What is wrapped is the long way's, whatever is done to the packet besides.
            if !entry.is_steady_v4(protocol, Some(coming.from)) {
                return None;
            }
            (entry.onward(ends), entry.forward_hop)
        } else if entry.reverse == ends && entry.replies_pass() && entry.is_steady_v4(protocol, None) {
            (entry.back(), entry.reverse_hop)
        } else {
            return None;
        };
        if !renew(entry, coming, holds) {
            return None;
        }
        let hop = self.hops.get(hop)?;
        entry.last = coming.now;
        Some(Course { hop, ends, shifts })
    }

    /// The same of any packet; and the first 96 bits of its new addresses.
    #[inline(never)]
    pub fn follow(
        &mut self,
        tuple: &Tuple,
        coming: Coming,
        holds: impl Fn(u32, u32) -> bool,
    ) -> Option<(Course, [[u32; 3]; 2])> {
        let (FlowId(id), direction) = self.find(tuple)?;
        let entry = self.entries.get_mut(id)?;
        let hop = match direction {
            Direction::Forward if entry.from() != coming.from || entry.via != 0 => return None,
            Direction::Forward => entry.forward_hop,
            Direction::Reverse => entry.reverse_hop,
        };
        if !entry.is_steady() || !renew(entry, coming, holds) {
            return None;
        }
        let hop = self.hops.get(hop)?;
        entry.last = coming.now;
        let entry = self.entries.get(id)?;
        let extension = self.entries.extension(entry).unwrap_or(&Extension::V4);
        let ((ends, shifts), heads) = match direction {
            Direction::Forward if !entry.replies_pass() => {
                let ends = Ends::of(tuple.source, tuple.destination);
                (entry.onward(ends), [tuple.source, tuple.destination].map(|end| end.address.head()))
            }
            Direction::Forward => (entry.onward(Ends::default()), extension.reverse_turned_round()),
            Direction::Reverse => (entry.back(), extension.forward_turned_round()),
        };
        Some((Course { hop, ends, shifts }, heads))
    }

    /// Which direction of a flow a tuple is, if it is of this one.
    #[inline]
    fn direction(&self, FlowId(id): FlowId, tuple: &Tuple) -> Option<Direction> {
        // A free entry is all zeros, as no tuple is: nothing comes from 0.0.0.0.
        let entry = self.entries.get(id).filter(|entry| entry.protocol() == tuple.protocol)?;
        let ends = Ends::of(tuple.source, tuple.destination);
        let direction = entry.direction(ends)?;
        let (source, destination) = (tuple.source.address, tuple.destination.address);
        if !entry.is_extended() {
            return (source.is_v4() && destination.is_v4()).then_some(direction);
        }
        let extension = self.entries.extension(entry)?;
        match direction {
            Direction::Forward if extension.is_forward(source, destination) => Some(direction),
            // The tails of both directions may be the same, and the heads tell.
            _ if entry.reverse == ends && entry.replies_pass() && extension.is_reverse(source, destination) => {
                Some(Direction::Reverse)
            }
            _ => None,
        }
    }

    /// The flow that a packet with this tuple belongs to, and its direction.
    #[inline]
    #[must_use]
    pub fn find(&self, tuple: &Tuple) -> Option<(FlowId, Direction)> {
        self.search(tuple).ok()
    }

    /// The flow.
    #[inline]
    #[must_use]
    pub fn get(&self, id: FlowId) -> Option<Flow> {
        let entry = self.entries.flow(id.0)?;
        let mut flow = entry.flow(self.entries.extension(entry));
        flow.forward_hop = self.hops.get(entry.forward_hop);
        flow.reverse_hop = self.hops.get(entry.reverse_hop);
        Some(flow)
    }

    /// Stores what has become of a flow. Its tuples stay what they are.
    pub fn store(&mut self, id: FlowId, flow: &Flow) {
        let Some(entry) = self.entries.flow_mut(id.0) else { return };
        entry.update(flow);
        entry.forward_hop = rehold(&mut self.hops, entry.forward_hop, flow.forward_hop);
        entry.reverse_hop = rehold(&mut self.hops, entry.reverse_hop, flow.reverse_hop);
        if flow.answered {
            entry.note_answer();
        }
    }

    /// The same; or, where there is none, what [`begin`](Self::begin) wants to know of that.
    ///
    /// # Errors
    /// The vacancy: the tuple is nobody's.
    #[inline]
    pub fn search(&self, tuple: &Tuple) -> Result<(FlowId, Direction), Vacancy> {
        let hash = self.hash(tuple);
        let found = self.index.find(hash, |entry| Some((FlowId(entry), self.direction(FlowId(entry), tuple)?)));
        found.map_err(|seat| Vacancy { hash, seat, as_of: self.inserted })
    }

    /// Adds a flow. `None` if there is no room, or if either of its tuples is already somebody's.
    pub fn insert(&mut self, flow: &Flow, now: Millis) -> Option<FlowId> {
        let vacancy = self.search(&flow.forward()).err()?;
        self.begin(flow, vacancy, None, now)
    }

    /// The same for the ends of an IPv4 packet, of which the hash is known. `None`: there may be a flow, for [`find`](Self::find) to say.
    #[inline(always)]
    fn vacancy_v4(&self, hash: u64, ends: &Ends, protocol: u8) -> Option<Vacancy> {
        let is_like = |entry| {
            let entry = self.entries.get(entry).filter(|entry| entry.protocol() == protocol)?;
            entry.direction(*ends)
        };
        let seat = self.index.find(hash, is_like).err()?;
        Some(Vacancy { hash, seat, as_of: self.inserted })
    }

    /// Adds a flow whose client's tuple is vacant; and so is the reply's, if that has been looked for. `None` if there is no room, or if
    /// either is somebody's after all.
    pub fn begin(&mut self, flow: &Flow, forward: Vacancy, reverse: Option<Vacancy>, now: Millis) -> Option<FlowId> {
        let forward = self.still(forward, || flow.forward())?;
        let reverse = match (flow.reverse(), reverse) {
            (None, _) => None,
            (Some(tuple), Some(vacancy)) => Some(self.still(vacancy, || tuple)?),
            (Some(tuple), None) => Some(self.search(&tuple).err()?),
        };
        let mut entry = Entry::new(flow);
        if entry.is_extended() {
            self.make_room(2, now)?;
            entry.link = self.entries.take_for(Extension::new(flow))? + 1;
        } else {
            self.make_room(1, now)?;
        }
        let id = self.place(&entry, (&forward, reverse.as_ref()), [flow.forward_hop, flow.reverse_hop])?;
        if flow.answered {
            self.entries.get_mut(id.0)?.note_answer();
        }
        Some(id)
    }

    /// Sees to it that so many entries are unused.
    #[inline(always)]
    fn make_room(&mut self, need: usize, now: Millis) -> Option<()> {
        while self.entries.unused() < need {
            if !self.evict(now) {
                return None;
            }
        }
        Some(())
    }

    /// Puts an entry, which has its extension, where its hashes say.
    #[inline(always)]
    fn place(
        &mut self,
        entry: &Entry,
        (forward, reverse): (&Vacancy, Option<&Vacancy>),
        [forward_hop, reverse_hop]: [Option<NextHop>; 2],
    ) -> Option<FlowId> {
        let id = self.entries.take()?;
        let placed = self.sit(forward, id)
            && reverse.is_none_or(|reverse| {
                let placed = self.sit(reverse, id);
                if !placed {
                    self.index.remove(forward.hash, id);
                }
                placed
            });
        if !placed {
            self.entries.give(id, entry.extension());
            return None;
        }
        let forward_hop = forward_hop.map_or(0, |to| self.hops.hold(to));
        let reverse_hop = reverse_hop.map_or(0, |to| self.hops.hold(to));
        if let Some(place) = self.entries.get_mut(id) {
            *place = *entry;
            (place.forward_hop, place.reverse_hop) = (forward_hop, reverse_hop);
        }
        self.flows += 1;
        self.inserted = self.inserted.wrapping_add(1);
        Some(FlowId(id))
    }

    /// Puts an entry into the index where a tuple is vacant.
    #[inline(always)]
    fn sit(&mut self, vacancy: &Vacancy, id: u32) -> bool {
        self.index.sit(vacancy.seat, id) || self.squeeze(vacancy.hash, id)
    }

    /// The same where the seat is somebody's by now, as both tuples of a flow may have been shown the same one; or where there was none.
    #[cold]
    #[inline(never)]
    fn squeeze(&mut self, hash: u64, id: u32) -> bool {
        self.index.insert(hash, id) || self.make_way(hash, id) && self.index.insert(hash, id)
    }

    /// Has one of those that fill both buckets of a hash go to its other one: any but the entry that is to sit down, which may have been
    /// put under its first tuple but stands nowhere yet. Looks at two dozen entries, at most.
    fn make_way(&mut self, hash: u64, id: u32) -> bool {
        self.index.tenants(hash).filter(|tenant| *tenant != id).any(|tenant| {
            let Some(entry) = self.entries.get(tenant) else { return false };
            let (forward, reverse) = self.hashes_of(entry);
            [Some(forward), reverse].into_iter().flatten().any(|its| self.index.step_aside(hash, its, tenant))
        })
    }

    /// The vacancy of a tuple, if it is vacant still.
    #[inline(always)]
    fn still(&self, vacancy: Vacancy, tuple: impl Fn() -> Tuple) -> Option<Vacancy> {
        debug_assert_eq!(vacancy.hash, self.hash(&tuple()), "another tuple's vacancy");
        if vacancy.as_of == self.inserted { Some(vacancy) } else { self.search(&tuple()).err() }
    }

    /// Forgets a flow.
    pub fn remove(&mut self, id: FlowId) {
        if let Some(entry) = self.entries.flow(id.0) {
            self.forget(id, self.hashes_of(entry));
        }
    }

    /// Forgets a flow that stands in the index under these hashes.
    #[inline(always)]
    fn forget(&mut self, id: FlowId, (forward, reverse): Hashes) {
        let Some(entry) = self.entries.get(id.0) else { return };
        let extension = entry.extension();
        let hops = [entry.forward_hop, entry.reverse_hop];
        // Whoever gets the entry next is another flow.
        if self.doomed.id == id {
            self.doomed.id = FlowId::NONE;
        }
        self.index.remove(forward, id.0);
        if let Some(reverse) = reverse {
            self.index.remove(reverse, id.0);
        }
        hops.into_iter().for_each(|hop| self.hops.release(hop));
        self.flows -= 1;
        self.entries.give(id.0, extension);
    }

    #[inline(always)]
    fn hashes_of(&self, entry: &Entry) -> Hashes {
        if entry.is_extended() {
            return self.hashes_of_extended(entry);
        }
        let hash = |ends| self.hash_v4(ends, entry.protocol());
        (hash(entry.forward), entry.replies_pass().then(|| hash(entry.reverse)))
    }

    #[inline(never)]
    fn hashes_of_extended(&self, entry: &Entry) -> Hashes {
        let [client, frontend, backend, source] = entry.endpoints(self.entries.extension(entry));
        let hash = |source, destination| self.hash(&Tuple { source, destination, protocol: entry.protocol() });
        (hash(client, frontend), entry.replies_pass().then(|| hash(backend, source)))
    }

    /// Milliseconds until the flow is forgotten if no packet comes; 0 if its time is up.
    #[must_use]
    pub fn remaining(&self, flow: &Flow, now: Millis) -> Millis {
        self.timeouts.of(flow.taken_for()).saturating_sub(now.wrapping_sub(flow.last))
    }

    /// How many SNAT ports more than each flow's first this turn may still look at.
    #[inline]
    #[must_use]
    pub fn ports_left(&self) -> u32 {
        self.effort.ports
    }

    /// It has looked at so many of them.
    #[inline]
    pub fn looked(&mut self, ports: u32) {
        self.effort.ports = self.effort.ports.saturating_sub(ports);
    }

    /// What a flow is taken for ([`State::taken_for`]), and how long ago its last packet was.
    #[inline]
    #[must_use]
    pub fn age(&self, id: FlowId, now: Millis) -> Option<(State, Millis)> {
        self.entries.age(id.0, now)
    }

    /// Up to `limit` flows from entry `cursor` on, for reports; the next cursor, or `None` at the end.
    pub fn page(&self, cursor: u32, limit: usize) -> (impl Iterator<Item = (FlowId, Flow)>, Option<u32>) {
        let (range, next) = self.range(cursor, limit);
        (range.filter_map(|id| Some((FlowId(id), self.get(FlowId(id))?))), next)
    }

    /// Forgets those of them that are `wanted`; how many, and the next cursor, or `None` at the end.
    pub fn flush(&mut self, cursor: u32, limit: usize, wanted: impl Fn(&Flow) -> bool) -> (u64, Option<u32>) {
        let (range, next) = self.range(cursor, limit);
        let mut flushed = 0;
        for id in range.map(FlowId) {
            if self.get(id).is_some_and(|flow| wanted(&flow)) {
                self.remove(id);
                flushed += 1;
            }
        }
        (flushed, next)
    }

    /// `limit` entries from `cursor` on, and the next cursor.
    fn range(&self, cursor: u32, limit: usize) -> (std::ops::Range<u32>, Option<u32>) {
        let count = self.entries.len() as u32;
        let first = cursor.min(count);
        let end = first.saturating_add(u32::try_from(limit).unwrap_or(u32::MAX)).min(count);
        (first..end, (end < count).then_some(end))
    }
}

/// What a flow stands in the index under: its client's tuple, and the reply's where replies pass.
type Hashes = (u64, Option<u64>);

/// Whether what a flow remembers holds; it is then as of now.
#[inline(always)]
fn renew(entry: &mut Entry, coming: Coming, holds: impl Fn(u32, u32) -> bool) -> bool {
    if entry.stamp != coming.stamp {
        if !holds(entry.stamp, entry.service_slot) {
            return false;
        }
        entry.stamp = coming.stamp;
    }
    true
}

/// Holds another next hop instead of one, if it is another.
fn rehold(hops: &mut Hops, held: HopId, wanted: Option<NextHop>) -> HopId {
    if hops.get(held) == wanted {
        return held;
    }
    hops.release(held);
    wanted.map_or(0, |to| hops.hold(to))
}

#[cfg(test)]
mod tests;
