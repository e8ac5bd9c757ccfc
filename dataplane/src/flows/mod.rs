//! Which flow goes where: one worker's own table, fixed in size, never locked, never resized.
//!
//! ```text
//!   tuple ──hash──► two buckets, one cache line each:  8 × (tag, entry)
//!                                                            │
//!                        entries: [Flow; capacity]  ◄────────┘   128 bytes each, both directions in one
//! ```
//!
//! A flow stands in the index twice: under the client's tuple and under the backend's reply, so that both directions of a
//! translated flow are one lookup each and share one state. Buckets are chosen by two independent parts of a keyed hash
//! and filled evenly, so that at the load that the sizes give (at most one half) an insert finds room. Where it does
//! not, or all entries are in use, the table says so and the caller goes on without tracking: it is never a reason to stop.
//!
//! Ageing is a clock hand: each batch looks at a few entries and forgets those whose time is up. When the table is full,
//! the hand takes what is worth least: finished, half-open, then idle; an established TCP flow is never evicted.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod affinity;
mod index;
pub mod state;

use std::io;

use levee_api::net::Mac;
use levee_api::program::Mode;

use self::index::Index;
use self::state::State;
use crate::address::Address;
use crate::hash::Key;
use crate::mem::pages::Pages;
use crate::mem::prefetch;
use crate::verdict::{Endpoint, PortId};

/// Milliseconds since the dataplane started. Wraps after 49 days; all comparisons are of differences.
pub type Millis = u32;

/// A packet's addresses, ports and protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    /// Where it comes from.
    pub source: Endpoint,
    /// Where it goes.
    pub destination: Endpoint,
    /// Protocol number.
    pub protocol: u8,
}

/// Which way a packet of a flow goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client.
    Forward,
    /// From the backend.
    Reverse,
}

/// Names an entry while it is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowId(u32);

/// Where one direction of a flow leaves, as of a stamp of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Zeroable)]
#[repr(C)]
pub struct CachedHop {
    /// [`Tables::hops_stamp`](crate::tables::Tables::hops_stamp) that it holds for; 0 is never.
    pub stamp: u32,
    mac: [u8; 6],
    port: u8,
    unused: u8,
}

impl CachedHop {
    /// Remembers a next hop.
    #[must_use]
    pub fn new(stamp: u32, port: PortId, mac: Mac) -> Self {
        CachedHop { stamp, mac: mac.0, port: port.0, unused: 0 }
    }

    /// The next hop, if it still holds.
    #[inline]
    #[must_use]
    pub fn get(&self, stamp: u32) -> Option<(PortId, Mac)> {
        (self.stamp == stamp).then_some((PortId(self.port), Mac(self.mac)))
    }
}

/// One flow: two cache lines.
#[derive(Debug, Clone, Copy, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub struct Flow {
    client: Address,
    frontend: Address,
    backend: Address,
    source: Address,
    client_port: u16,
    frontend_port: u16,
    backend_port: u16,
    source_port: u16,
    /// Slot of its service.
    pub service_slot: u32,
    /// Identity of its service.
    pub service_id: u32,
    /// [`Tables::services_stamp`](crate::tables::Tables::services_stamp) at which its backend was last found there.
    pub services_stamp: u32,
    /// Towards the backend.
    pub forward_hop: CachedHop,
    /// Towards the client.
    pub reverse_hop: CachedHop,
    last: Millis,
    protocol: u8,
    mode: u8,
    /// Where it is in its life.
    pub state: State,
    unused: u8,
    /// Which of its service's tunnels leads to its backend, as of [`services_stamp`](Self::services_stamp); 0 if none does.
    pub via: u16,
}

const _: () = assert!(size_of::<Flow>() == 128);

impl Flow {
    /// A new flow. `source` is what the backend sees as the sender: the client itself, except with `nat`; and with `tunnel`,
    /// where the tunnel ends.
    #[must_use]
    pub fn new(tuple: &Tuple, backend: Endpoint, source: Endpoint, mode: Mode, state: State, now: Millis) -> Self {
        Flow {
            client: tuple.source.address,
            client_port: tuple.source.port,
            frontend: tuple.destination.address,
            frontend_port: tuple.destination.port,
            backend: backend.address,
            backend_port: backend.port,
            source: source.address,
            source_port: source.port,
            last: now,
            protocol: tuple.protocol,
            mode: match mode {
                Mode::Nat => 0,
                Mode::Dnat => 1,
                Mode::Dsr => 2,
                Mode::Tunnel => 3,
            },
            state,
            ..bytemuck::Zeroable::zeroed()
        }
    }

    /// The client.
    #[inline]
    #[must_use]
    pub fn client(&self) -> Endpoint {
        Endpoint { address: self.client, port: self.client_port }
    }

    /// What the client sends to.
    #[inline]
    #[must_use]
    pub fn frontend(&self) -> Endpoint {
        Endpoint { address: self.frontend, port: self.frontend_port }
    }

    /// Where it is sent.
    #[inline]
    #[must_use]
    pub fn backend(&self) -> Endpoint {
        Endpoint { address: self.backend, port: self.backend_port }
    }

    /// What the backend sees as the sender.
    #[inline]
    #[must_use]
    pub fn source(&self) -> Endpoint {
        if self.mode() == Mode::Tunnel {
            return self.client();
        }
        Endpoint { address: self.source, port: self.source_port }
    }

    /// The far end of the tunnel, with `tunnel`: whatever its service's backends are now.
    #[inline]
    #[must_use]
    pub fn far_end(&self) -> Option<Address> {
        (self.mode() == Mode::Tunnel).then_some(self.source)
    }

    /// Whether replies come by here on their way to the client.
    #[inline]
    #[must_use]
    pub fn replies_pass(&self) -> bool {
        matches!(self.mode(), Mode::Nat | Mode::Dnat)
    }

    /// How the backend is reached.
    #[inline]
    #[must_use]
    pub fn mode(&self) -> Mode {
        match self.mode {
            0 => Mode::Nat,
            1 => Mode::Dnat,
            2 => Mode::Dsr,
            _ => Mode::Tunnel,
        }
    }

    /// Protocol number.
    #[inline]
    #[must_use]
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// When its last packet came.
    #[inline]
    #[must_use]
    pub fn last(&self) -> Millis {
        self.last
    }

    /// Notes a packet.
    #[inline]
    pub fn touch(&mut self, now: Millis) {
        self.last = now;
    }

    /// Whether a tuple of the same protocol is the client's.
    #[inline]
    fn is_forward(&self, tuple: &Tuple) -> bool {
        self.client_port == tuple.source.port
            && self.frontend_port == tuple.destination.port
            && self.client == tuple.source.address
            && self.frontend == tuple.destination.address
    }

    /// Whether a tuple of the same protocol is that of a reply that passes here.
    #[inline]
    fn is_reverse(&self, tuple: &Tuple) -> bool {
        self.backend_port == tuple.source.port
            && self.source_port == tuple.destination.port
            && self.backend == tuple.source.address
            && self.source == tuple.destination.address
            && self.replies_pass()
    }

    fn forward(&self) -> Tuple {
        Tuple { source: self.client(), destination: self.frontend(), protocol: self.protocol }
    }

    /// The reply's tuple; none where replies do not pass.
    fn reverse(&self) -> Option<Tuple> {
        self.replies_pass().then(|| Tuple {
            source: self.backend(),
            destination: self.source(),
            protocol: self.protocol,
        })
    }
}

/// How long a flow of each state is kept without a packet, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// A TCP flow of which only the SYN has been seen.
    pub syn: Millis,
    /// An established TCP flow.
    pub established: Millis,
    /// A TCP flow that one end has closed.
    pub closing: Millis,
    /// A TCP flow that both ends have closed, or one has reset, or whose backend is gone.
    pub closed: Millis,
    /// UDP.
    pub udp: Millis,
}

impl Default for Timeouts {
    /// Linux conntrack's order of magnitude (`nf_conntrack_proto_tcp.c`, `tcp_timeouts`), with one difference: an
    /// established flow is kept for two hours (RFC 5382, REQ-5: at least 2 h 4 min), not five days.
    fn default() -> Self {
        Timeouts { syn: 60_000, established: 7_440_000, closing: 120_000, closed: 10_000, udp: 120_000 }
    }
}

impl Timeouts {
    /// For a state.
    #[inline]
    #[must_use]
    pub fn of(&self, state: State) -> Millis {
        match state {
            State::Free => 0,
            State::Syn => self.syn,
            State::Established => self.established,
            State::ClosedByClient | State::ClosedByBackend => self.closing,
            State::Closed | State::Dead => self.closed,
            State::Udp => self.udp,
        }
    }
}

/// One worker's flows.
pub struct Flows {
    entries: Pages<Flow>,
    free: Vec<u32>,
    index: Index,
    key: Key,
    hand: usize,
    timeouts: Timeouts,
}

/// How many entries an insert into a full table looks at before it gives up.
const EVICTION_LOOKS: usize = 64;
/// And how many before it takes what it has: each look is a cache line, and under a flood of SYNs every insert pays them.
const EVICTION_CHOICE: usize = 8;

impl Flows {
    /// A table with room for `capacity` flows, all memory faulted in. `key` should be random.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(capacity: usize, key: Key, timeouts: Timeouts) -> io::Result<Self> {
        let entries = Pages::new(capacity)?;
        let count = u32::try_from(capacity).map_err(|_| io::ErrorKind::OutOfMemory)?;
        Ok(Flows { entries, free: (0..count).rev().collect(), index: Index::new(capacity)?, key, hand: 0, timeouts })
    }

    /// Flows in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Flows that there is room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.entries.len()
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
        let ports = u32::from(tuple.source.port) << 16 | u32::from(tuple.destination.port);
        self.key.tuple(tuple.source.address, tuple.destination.address, ports, tuple.protocol)
    }

    /// Asks for the buckets that [`find`](Self::find) will read for a hash.
    #[inline]
    pub fn prefetch_buckets(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Asks for the flow that [`find`](Self::find) will read; the buckets should be there by now.
    #[inline]
    pub fn prefetch_entries(&self, hash: u64) {
        self.index.find(hash, |entry| -> Option<()> {
            let flow = self.entries.get(entry as usize)?;
            prefetch::read(&flow.client);
            // The second cache line.
            prefetch::read(&flow.client_port);
            None
        });
    }

    /// The flow that a packet with this tuple belongs to, and its direction.
    #[inline]
    #[must_use]
    pub fn find(&self, tuple: &Tuple) -> Option<(FlowId, Direction)> {
        self.index.find(self.hash(tuple), |entry| {
            let flow = self.entries.get(entry as usize)?;
            if flow.state == State::Free || flow.protocol != tuple.protocol {
                None
            } else if flow.is_forward(tuple) {
                Some((FlowId(entry), Direction::Forward))
            } else if flow.is_reverse(tuple) {
                Some((FlowId(entry), Direction::Reverse))
            } else {
                None
            }
        })
    }

    /// The flow.
    #[inline]
    #[must_use]
    pub fn get(&self, id: FlowId) -> Option<&Flow> {
        self.entries.get(id.0 as usize).filter(|flow| flow.state != State::Free)
    }

    /// The flow, to be changed. Its tuples cannot be.
    #[inline]
    #[must_use]
    pub fn get_mut(&mut self, id: FlowId) -> Option<&mut Flow> {
        self.entries.get_mut(id.0 as usize).filter(|flow| flow.state != State::Free)
    }

    /// Adds a flow. `None` if there is no room, or if either of its tuples is already somebody's.
    pub fn insert(&mut self, flow: Flow, now: Millis) -> Option<FlowId> {
        if flow.state == State::Free || self.find(&flow.forward()).is_some() {
            return None;
        }
        if flow.reverse().is_some_and(|reverse| self.find(&reverse).is_some()) {
            return None;
        }
        if self.free.is_empty() {
            self.evict(now);
        }
        let entry = self.free.pop()?;
        let forward = self.hash(&flow.forward());
        let reverse = flow.reverse().map(|tuple| self.hash(&tuple));
        let placed = self.index.insert(forward, entry)
            && reverse.is_none_or(|reverse| {
                let placed = self.index.insert(reverse, entry);
                if !placed {
                    self.index.remove(forward, entry);
                }
                placed
            });
        match self.entries.get_mut(entry as usize) {
            Some(place) if placed => {
                *place = flow;
                Some(FlowId(entry))
            }
            _ => {
                self.free.push(entry);
                None
            }
        }
    }

    /// Forgets a flow.
    pub fn remove(&mut self, id: FlowId) {
        let Some(flow) = self.get(id).copied() else { return };
        let forward = self.hash(&flow.forward());
        self.index.remove(forward, id.0);
        if let Some(reverse) = flow.reverse() {
            let reverse = self.hash(&reverse);
            self.index.remove(reverse, id.0);
        }
        if let Some(place) = self.entries.get_mut(id.0 as usize) {
            place.state = State::Free;
        }
        self.free.push(id.0);
    }

    /// Milliseconds until the flow is forgotten if no packet comes; 0 if its time is up.
    #[must_use]
    pub fn remaining(&self, flow: &Flow, now: Millis) -> Millis {
        self.timeouts.of(flow.state).saturating_sub(now.wrapping_sub(flow.last))
    }

    /// Moves the clock hand over up to `looks` entries and forgets flows whose time is up. Returns how many.
    pub fn expire(&mut self, now: Millis, looks: usize) -> usize {
        if self.is_empty() {
            return 0;
        }
        let mut expired = 0;
        for _ in 0..looks.min(self.entries.len()) {
            let here = self.turn();
            if let Some(flow) = self.get(here)
                && self.remaining(flow, now) == 0
            {
                self.remove(here);
                expired += 1;
            }
        }
        expired
    }

    /// Up to `limit` flows from entry `cursor` on, for reports; the next cursor, or `None` at the end.
    pub fn page(&self, cursor: u32, limit: usize) -> (impl Iterator<Item = (FlowId, &Flow)>, Option<u32>) {
        let first = cursor as usize;
        let end = first.saturating_add(limit).min(self.entries.len());
        let flows = self.entries.get(first.min(end)..end).unwrap_or_default().iter().zip(cursor..);
        let next = (end < self.entries.len()).then_some(end as u32);
        (flows.filter(|(flow, _)| flow.state != State::Free).map(|(flow, entry)| (FlowId(entry), flow)), next)
    }

    fn turn(&mut self) -> FlowId {
        let here = self.hand;
        self.hand = if here + 1 < self.entries.len() { here + 1 } else { 0 };
        FlowId(here as u32)
    }

    /// Forgets the least valuable of the next few entries under the hand.
    fn evict(&mut self, now: Millis) {
        let mut victim: Option<(u64, FlowId)> = None;
        for look in 0..EVICTION_LOOKS.min(self.entries.len()) {
            if look >= EVICTION_CHOICE && victim.is_some() {
                break;
            }
            let here = self.turn();
            let Some(flow) = self.get(here) else { continue };
            let expired = self.remaining(flow, now) == 0;
            let Some(rank) = flow.state.worth().filter(|_| !expired).or(expired.then_some(0)) else { continue };
            // Cheapest first; among equals the one that has been idle longest.
            let worth = u64::from(rank) << 32 | u64::from(u32::MAX - now.wrapping_sub(flow.last));
            if victim.is_none_or(|(least, _)| worth < least) {
                victim = Some((worth, here));
            }
        }
        if let Some((_, victim)) = victim {
            self.remove(victim);
        }
    }
}

#[cfg(test)]
mod tests;
