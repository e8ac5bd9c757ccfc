//! A packet's whole story. One worker, one core, one loop:
//!
//! ```text
//!        ┌────────────────────────────── turn ──────────────────────────────┐
//!        │ tables = the current snapshot, now = the time: once for the batch │
//!        ▼                                                                   │
//!   port.receive ─► established: the short way of nearly all packets ─────────────► redirect ─► contract ─► port.transmit
//!        └─────────► parse ─► classify ─► decide ─┬─► Forward ─► rewrite ─► contract ─► port.transmit
//!   other workers ──────────────┘                ├─► Hairpin ─► reply ──────┘
//!                                                ├─► Pass ─► TAP
//!                                                ├─► Drop(reason) ─► pool
//!                                                ├─► waits for a next hop ─► classify, later
//!                                                └─► another worker's ─► its inbox
//! ```
//!
//! Each stage is a module that knows nothing of the others; only this one composes them. Everything that it touches is
//! the worker's own, but for the snapshot, which never changes. Always true: frames received = forwarded + hairpinned +
//! passed + dropped + waiting, over all workers, and every frame of the UMEM is in exactly one place.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod alarm;
mod connection;
mod doors;
mod established;
mod handle;
mod handover;
mod idle;
mod notices;
mod opening;
mod recent;
mod reshape;
mod shared;
mod special;
mod tally;
mod waiting;
mod waker;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use af_xdp::{Frame, FramePool, Umem};
use crossbeam_queue::ArrayQueue;

use self::doors::Doors;
use self::established::Looks;
pub use self::handle::{Command, FlowsAnswer, FlowsQuery, FlushAnswer, FlushQuery, Handle, Message, Pulse};
pub use self::handover::Handover;
pub use self::idle::Idle;
pub use self::notices::{Claim, Noticed, Notices};
use self::recent::Recent;
pub use self::shared::Shared;
use self::special::Kind;
use self::waiting::{Patience, Wait, Waiting};
pub use self::waker::Waker;
use crate::address::Address;
use crate::classify::{Class, classify};
use crate::counters::{Counter, Counters};
use crate::decide::{Decision, Memory, Scene, decide};
use crate::flows::Millis;
use crate::fragments::{Datagram, Fragments, Identifications};
use crate::hash::Key;
use crate::headers::{Headers, Network};
use crate::mem::publication::Reader;
use crate::parse::parse;
use crate::port::Port;
use crate::reason::Reason;
use crate::rewrite::{self, Groups};
use crate::tables::{NeighbourKey, Tables};
use crate::verdict::{PortId, Reply, Rewrite, Verdict};
use levee_api::net::Role;

/// Frames taken from a port at once. Large enough that a turn's costs (time, snapshot, rings, system call) are shared by many, and that all the
/// misses that a core can have under way are; small enough that what a batch touches stays in the first-level cache (for each frame 32 bytes of
/// what is known of it, its first line, its flow's bucket and one or two lines of its flow: some 16 KiB), and that its first frame does
/// not wait for many others. Measured: `docs/decisions/0032-batches.md`.
pub const BATCH: usize = 64;
/// Frames that may wait for a transmit ring; more are dropped. Four batches: what one turn of a worker with four queues
/// can bring for one port.
const BACKLOG: usize = 4 * BATCH;

/// A queue of a port that a worker serves.
struct Lane<P> {
    id: PortId,
    port: P,
    /// Decided frames for which the transmit ring had no room yet.
    backlog: Vec<Frame>,
}

/// How a worker reaches a port.
#[derive(Clone)]
enum Egress {
    /// By a queue of its own.
    Lane(usize),
    /// By another worker, which has one.
    Worker(usize),
    /// The port has no queue.
    None,
}

/// What a worker is made of.
pub struct Parts<P> {
    /// Index, from 0.
    pub worker: usize,
    /// Its queues, each with the port that it belongs to.
    pub lanes: Vec<(PortId, P)>,
    /// For each port, the worker that sends what this one has no queue for; by [`PortId`].
    pub senders: Vec<Option<usize>>,
    /// Its frames.
    pub pool: FramePool,
    /// Its flows and limits.
    pub memory: Memory,
    /// The snapshots.
    pub tables: Reader<Tables>,
    /// What it shares with the others.
    pub shared: Shared,
    /// Its ends of the rings to and from them.
    pub handover: Handover,
    /// Where it tells what it cannot do itself.
    pub notices: Notices,
    /// What it does when there is nothing to do.
    pub idle: Idle,
    /// Zero of its clock, the same for all workers.
    pub epoch: Instant,
    /// For tables that nobody outside may aim at; random, and the same for all workers.
    pub key: Key,
}

impl idle::Slumber for Reader<Tables> {
    fn rest(&mut self) {
        Reader::rest(self);
    }

    fn resume(&mut self) {
        Reader::resume(self);
    }
}

/// See the module's documentation.
pub struct Worker<P> {
    tables: Reader<Tables>,
    lanes: Vec<Lane<P>>,
    /// Frames that it takes from a port at once: [`BATCH`], but while others are measured.
    at_once: usize,
    batch: Vec<Frame>,
    looks: Looks,
    ripe: Vec<(PortId, Frame)>,
    taken: Vec<Message>,
    /// Among them, frames whose flow is ours.
    handed: Vec<(PortId, Frame)>,
    commands: Arc<ArrayQueue<Command>>,
    idle: Idle,
    epoch: Instant,
    hops_stamp: u32,
    pulse: Arc<Pulse>,
    bench: Bench,
}

/// Everything that a frame may meet on its way, apart from the lanes that it came in by.
struct Bench {
    worker: usize,
    umem: Arc<Umem>,
    pool: FramePool,
    memory: Memory,
    waiting: Waiting<NeighbourKey>,
    fragments: Fragments,
    /// Fragments that came before the first one of their datagram.
    orphans: Waiting<Datagram>,
    /// Those that have found it, on their way.
    found: Vec<(PortId, Frame)>,
    identifications: Identifications,
    recent: Recent,
    doors: Doors,
    counters: Arc<Counters>,
    shared: Shared,
    notices: Notices,
    egress: Vec<Egress>,
    handover: Handover,
    /// Whether another worker was shown something since it was last woken.
    owes: bool,
}

impl<P: Port> Worker<P> {
    /// Puts a worker together, and the handle by which slow threads reach it.
    #[must_use]
    pub fn new(parts: Parts<P>) -> (Self, Handle) {
        let counters = Arc::new(Counters::default());
        let pulse = Arc::new(Pulse::default());
        let commands = Arc::new(ArrayQueue::new(64));
        let capacity = u32::try_from(parts.memory.flows.capacity()).unwrap_or(u32::MAX);
        pulse.flow_capacity.store(capacity, Ordering::Relaxed);
        let egress = parts
            .senders
            .iter()
            .zip(0..)
            .map(|(sender, id)| match parts.lanes.iter().position(|(lane, _)| *lane == PortId(id)) {
                Some(lane) => Egress::Lane(lane),
                None => sender.filter(|sender| *sender != parts.worker).map_or(Egress::None, Egress::Worker),
            })
            .collect();
        let workers = parts.shared.workers();
        let waker = parts.shared.wakers.get(parts.worker).cloned();
        let handle = Handle {
            worker: parts.worker,
            counters: Arc::clone(&counters),
            pulse: Arc::clone(&pulse),
            waker: waker.unwrap_or_else(|| parts.idle.waker().clone()),
            commands: Arc::clone(&commands),
        };
        let lanes = parts.lanes.into_iter();
        let worker = Worker {
            tables: parts.tables,
            lanes: lanes.map(|(id, port)| Lane { id, port, backlog: Vec::with_capacity(BACKLOG) }).collect(),
            at_once: BATCH,
            batch: Vec::with_capacity(BATCH),
            looks: Looks::new(BATCH),
            ripe: Vec::with_capacity(BATCH),
            taken: Vec::with_capacity(BATCH),
            handed: Vec::with_capacity(BATCH),
            commands,
            idle: parts.idle,
            epoch: parts.epoch,
            hops_stamp: 0,
            pulse,
            bench: Bench {
                worker: parts.worker,
                umem: Arc::clone(parts.pool.umem()),
                pool: parts.pool,
                memory: parts.memory,
                waiting: Waiting::new(Patience::NEXT_HOP),
                fragments: Fragments::new(parts.key),
                orphans: Waiting::new(Patience::FIRST_FRAGMENT),
                found: Vec::with_capacity(BATCH),
                identifications: Identifications::new(parts.worker, workers, parts.key),
                recent: Recent::new(workers),
                doors: Doors::default(),
                counters,
                shared: parts.shared,
                notices: parts.notices,
                egress,
                handover: parts.handover,
                owes: false,
            },
        };
        (worker, handle)
    }

    /// Takes so many frames at once from now on: how [`BATCH`] was found, and is found again on other machines (`benches`). What it hands
    /// over, and what may wait to be sent, stays as it is.
    pub fn take_at_once(&mut self, frames: usize) {
        self.at_once = frames;
        self.batch.reserve(frames);
        // What others hand over comes by batches of their own.
        self.looks = Looks::new(frames.max(BATCH));
    }

    /// Runs until told to stop; then sends what is decided, and drops what still waits.
    pub fn run(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            // Wraps after 49 days, as `Millis` does.
            let now = self.epoch.elapsed().as_millis() as Millis;
            if self.turn(now) {
                self.idle.busy();
            } else {
                let lanes = &self.lanes;
                let quiet = self.commands.is_empty()
                    && self.bench.handover.is_empty()
                    && lanes.iter().all(|lane| lane.backlog.is_empty())
                    && !self.bench.memory.flows.is_behind();
                let waiting = self.bench.waiting.len() + self.bench.orphans.len();
                let patient = waiting == 0 && lanes.iter().all(|lane| !lane.port.sending());
                let sockets = lanes.iter().filter_map(|lane| lane.port.readiness());
                self.idle.nothing_to_do(quiet, patient, &mut self.tables, sockets);
            }
        }
        self.drain();
    }

    /// One turn of the loop. Says whether there was anything to do.
    pub fn turn(&mut self, now: Millis) -> bool {
        let Worker { tables, lanes, at_once, batch, looks, ripe, taken, handed, bench, .. } = self;
        let tables = tables.current();
        let mut worked = false;

        // Frames whose flow or port is ours, from other workers.
        bench.take(taken);
        for message in taken.drain(..) {
            worked = true;
            match message {
                Message::Process(ingress, frame) => handed.push((ingress, frame)),
                Message::Seek(ingress, frame, left) => bench.seek(frame, ingress, left, tables, now, lanes),
                Message::Fragment(ingress, frame) => bench.keep(frame, ingress, tables, now, lanes),
                // A port that this worker has no queue of either was dealt out wrongly: dropped, not sent round in a ring.
                Message::Transmit(port, frame, counter) if lanes.iter().any(|lane| lane.id == port) => {
                    bench.send(port, frame, counter, lanes);
                }
                Message::Transmit(_, frame, counter) => bench.refuse(frame, counter, Reason::NoRoute),
                Message::Pass(port, frame) if lanes.iter().any(|lane| lane.id == port) => {
                    bench.pass(port, frame, lanes)
                }
                Message::Pass(_, frame) => bench.drop(frame, Reason::PassFailed),
            }
        }

        // Frames whose next hop may be known by now, or never in time.
        if bench.waiting.len() > 0 {
            if self.hops_stamp != tables.hops_stamp {
                bench.waiting.release(|key| tables.resolved(key), ripe);
                worked |= !ripe.is_empty();
                for (ingress, frame) in ripe.drain(..) {
                    bench.process(frame, ingress, tables, now, lanes);
                }
            }
            bench.waiting.expire(now, ripe);
            for (_, frame) in ripe.drain(..) {
                bench.drop(frame, Reason::NextHopUnresolved);
            }
        }
        self.hops_stamp = tables.hops_stamp;
        if bench.orphans.len() > 0 {
            bench.orphans.expire(now, ripe);
            for (_, frame) in ripe.drain(..) {
                bench.drop(frame, Reason::FragmentOrphan);
            }
        }

        // Frames of our flows from other workers, a port's at a time; then frames from the wire.
        let mut queues = 0..lanes.len();
        loop {
            let (ingress, bytes) = if let Some(&(ingress, _)) = handed.first() {
                batch.extend(handed.extract_if(.., |(from, _)| *from == ingress).map(|(_, frame)| frame));
                (ingress, bytes(batch))
            } else {
                let Some(lane) = queues.next().and_then(|index| lanes.get_mut(index)) else { break };
                lane.port.reclaim(&mut bench.pool);
                if lane.port.receive(batch, *at_once) == 0 {
                    continue;
                }
                worked = true;
                let bytes = bytes(batch);
                bench.counters.add(Counter::Rx, batch.len() as u64);
                bench.counters.add(Counter::RxBytes, bytes);
                (lane.id, bytes)
            };
            let scene = Scene { tables, ingress, worker: bench.worker, now };
            bench.forward((batch, bytes), looks, &scene, lanes);
            bench.show();
        }

        // Before this worker sends what is its own: the others can begin meanwhile.
        bench.wake();
        for lane in lanes.iter_mut() {
            if !lane.backlog.is_empty() {
                lane.port.transmit(&mut lane.backlog);
            }
            lane.port.flush();
        }
        bench.settle(now);
        let generation = tables.generation;
        self.report(generation);
        // One at a time: frames wait meanwhile.
        if let Some(command) = self.commands.pop() {
            worked = true;
            self.obey(command, now);
        }
        worked
    }

    fn report(&self, generation: u64) {
        // One writer: a load and a store.
        self.pulse.turns.store(self.pulse.turns.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        self.pulse.flows.store(self.bench.memory.flows.len() as u32, Ordering::Relaxed);
        self.pulse.generation.store(generation, Ordering::Release);
    }

    fn obey(&mut self, command: Command, now: Millis) {
        let flows = &mut self.bench.memory.flows;
        match command {
            Command::Flows(mut query) => {
                let (page, next) = flows.page(query.cursor, query.looks);
                query.flows.extend(page.map(|(_, flow)| flow));
                // Whoever asked may have gone away.
                let _ = query.answer.try_send(FlowsAnswer { flows: query.flows, next, now });
            }
            Command::Flush(query) => {
                let (flushed, next) = flows.flush(query.cursor, query.looks, &query.which);
                let _ = query.answer.try_send(FlushAnswer { flushed, next, which: query.which });
            }
            Command::Inject(port, bytes) => {
                let bench = &mut self.bench;
                let Some(mut frame) = bench.pool.take() else { return };
                let contract = match self.tables.current().port(port) {
                    Some(port) => rewrite::contract(&bytes, port.mac, Groups::Allowed),
                    None => Err(Reason::NoRoute),
                };
                if contract.is_err() || bench.umem.write(&mut frame, &bytes).is_err() {
                    let _ = bench.pool.give(frame);
                    return;
                }
                bench.send(port, frame, Counter::Announced, &mut self.lanes);
            }
        }
    }

    /// Gives every decided frame its chance, and drops what still waits.
    fn drain(&mut self) {
        let Worker { lanes, bench, ripe, .. } = self;
        for lane in lanes.iter_mut() {
            lane.port.transmit(&mut lane.backlog);
            lane.port.flush();
            // They were counted when they were decided.
            bench.pool.give_all(&mut lane.backlog);
        }
        bench.waiting.release(|_| true, ripe);
        bench.orphans.release(|_| true, ripe);
        for (_, frame) in ripe.drain(..) {
            bench.drop(frame, Reason::Shutdown);
        }
        bench.counters.set(Counter::Waiting, 0);
    }

    /// The port of a lane, in the order in which they were given.
    pub fn port_mut(&mut self, lane: usize) -> Option<&mut P> {
        self.lanes.get_mut(lane).map(|lane| &mut lane.port)
    }

    /// Frames that are in no port: in the pool, in backlogs, waiting, handed over to this worker.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.bench.pool.free() + self.pending() + self.bench.handover.frames()
    }

    /// Frames that came and are still here: those that wait for a next hop, and those that wait for room in a ring.
    #[must_use]
    pub fn pending(&self) -> usize {
        let backlog: usize = self.lanes.iter().map(|lane| lane.backlog.len()).sum();
        self.bench.waiting.len() + self.bench.orphans.len() + backlog
    }

    /// The flows, for tests.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.bench.memory
    }
}

/// A term that is over counts from that moment on, also before the director has been able to publish it: an address that
/// is announced in a term is then neither answered for nor defended.
#[inline]
fn in_term(class: Class, headers: &Headers, tables: &Tables, ingress: PortId, now: Millis) -> Class {
    let (about, ignored) = match (&class, &headers.network) {
        (Class::IsAt { .. } | Class::Claim, Network::Arp(arp)) => ([arp.target, arp.sender], Reason::ArpIgnored),
        (Class::IsAt { .. } | Class::Claim, Network::Discovery(said)) => {
            ([said.target, said.source], Reason::NdpIgnored)
        }
        _ => return class,
    };
    if about.iter().any(|address| tables.has_lapsed(*address, now))
        && tables.port(ingress).is_some_and(|port| port.role == Role::Uplink)
    {
        return Class::Ends(ignored);
    }
    class
}

impl Bench {
    /// From bytes to the end, for a frame outside of a batch.
    fn process<P: Port>(&mut self, frame: Frame, ingress: PortId, tables: &Tables, now: Millis, lanes: &mut [Lane<P>]) {
        match parse(self.umem.bytes(&frame)) {
            Ok(headers) => self.conclude(frame, &headers, ingress, tables, now, lanes),
            Err(reason) => self.drop(frame, reason),
        }
    }

    /// From headers to the end.
    #[inline]
    fn conclude<P: Port>(
        &mut self,
        frame: Frame,
        headers: &Headers,
        ingress: PortId,
        tables: &Tables,
        now: Millis,
        lanes: &mut [Lane<P>],
    ) {
        let class = in_term(classify(headers, tables, ingress), headers, tables, ingress, now);
        let scene = Scene { tables, ingress, worker: self.worker, now };
        if let Class::Error(_) | Class::Fragment = class {
            return self.special(frame, headers, &class, &scene, lanes);
        }
        let class = self.named(class, &frame, headers, tables);
        let decision = decide(&class, headers, &scene, &mut self.memory);
        self.follow(decision, frame, headers, Kind::Ordinary, &scene, lanes);
    }

    /// From a decision to the end.
    #[inline]
    fn follow<P: Port>(
        &mut self,
        decision: Decision,
        frame: Frame,
        headers: &Headers,
        kind: Kind<'_>,
        scene: &Scene<'_>,
        lanes: &mut [Lane<P>],
    ) {
        let Scene { ingress, now, .. } = *scene;
        match decision {
            Decision::Ends(verdict) => self.carry_out(&verdict, frame, headers, kind, scene, lanes),
            Decision::Awaits(key) => match self.waiting.add(frame, ingress, key, now) {
                Wait::First => self.notices.resolve(key),
                Wait::Queued => {}
                Wait::Full(frame) => self.drop(frame, Reason::NextHopQueueFull),
            },
            Decision::HandOver(worker) => self.hand_over(worker, Message::Process(ingress, frame)),
            // Only of errors, and handled there.
            Decision::Seek => self.drop(frame, Reason::NotForwardable),
            Decision::Unwrap(tunnel) => self.unwrap(tunnel, frame, headers, scene, lanes),
        }
    }

    /// A verdict's values into the frame, and the frame to its end.
    #[inline]
    fn carry_out<P: Port>(
        &mut self,
        verdict: &Verdict,
        mut frame: Frame,
        headers: &Headers,
        kind: Kind<'_>,
        scene: &Scene<'_>,
        lanes: &mut [Lane<P>],
    ) {
        match verdict {
            Verdict::Forward(port, rewrite) => {
                let length = frame.len() as u64;
                let groups = if rewrite.destination_mac == headers.destination && headers.destination.is_multicast() {
                    Groups::Allowed
                } else {
                    Groups::Refused
                };
                let done = self
                    .rewrite(rewrite, &mut frame, headers, kind, scene.tables.mss_clamp)
                    .and_then(|()| look_again(self.umem.bytes(&frame), *port, scene.tables, groups));
                match done {
                    Ok(()) => {
                        self.counters.add(Counter::ForwardedBytes, length);
                        self.send(*port, frame, Counter::Forwarded, lanes);
                    }
                    Err(reason) => self.drop(frame, reason),
                }
            }
            Verdict::Wrap(port, rewrite, outer) => {
                match self.wrap((*port, rewrite, outer), &mut frame, headers, kind, scene) {
                    Ok(()) => {
                        self.counters.add(Counter::Wrapped, 1);
                        self.counters.add(Counter::ForwardedBytes, frame.len() as u64);
                        self.send(*port, frame, Counter::Forwarded, lanes);
                    }
                    Err(reason) => self.drop(frame, reason),
                }
            }
            Verdict::Hairpin(reply) => match self.turn_round(reply, &mut frame, headers, scene) {
                Ok(port) => {
                    self.counters.add(answered(reply), 1);
                    self.send(port, frame, Counter::Hairpinned, lanes);
                }
                Err(reason) => self.drop(frame, reason),
            },
            Verdict::Pass => self.pass(scene.ingress, frame, lanes),
            Verdict::Drop(reason) => {
                if let Reason::ArpConflict | Reason::NdpConflict = reason
                    && let Some((address, mac)) = headers.speaker()
                {
                    self.notices.claim(Claim { port: scene.ingress, vlans: headers.vlans, address, mac });
                }
                self.drop(frame, *reason);
            }
        }
    }

    /// Puts a frame on its way out of a port and counts it, or drops it. Says whether it leaves by a queue of this worker's.
    #[inline]
    fn send<P: Port>(&mut self, port: PortId, frame: Frame, counter: Counter, lanes: &mut [Lane<P>]) -> bool {
        match self.egress.get(usize::from(port.0)) {
            Some(Egress::Lane(lane)) => match lanes.get_mut(*lane) {
                Some(lane) if lane.backlog.len() < BACKLOG => {
                    lane.backlog.push(frame);
                    self.counters.add(counter, 1);
                    return true;
                }
                _ => self.refuse(frame, counter, Reason::TxFull),
            },
            Some(Egress::Worker(worker)) => {
                if let Err(frame) = self.post(*worker, Message::Transmit(port, frame, counter)) {
                    self.refuse(frame, counter, Reason::HandoverFull);
                }
            }
            Some(Egress::None) | None => self.refuse(frame, counter, Reason::NoRoute),
        }
        false
    }

    /// Drops a frame for which there was no way out. One of levee's own was never received, and is no drop of a frame that
    /// was: it has a counter of its own.
    fn refuse(&mut self, frame: Frame, counter: Counter, reason: Reason) {
        if counter == Counter::Announced {
            self.counters.add(Counter::NotAnnounced, 1);
            let _ = self.pool.give(frame);
        } else {
            self.drop(frame, reason);
        }
    }

    /// Gives a frame to the kernel through the port that it came in on, whose queue may be another worker's: a reply is
    /// handed to the worker that would know its flow, and may turn out to have none.
    fn pass<P: Port>(&mut self, ingress: PortId, frame: Frame, lanes: &mut [Lane<P>]) {
        match self.egress.get(usize::from(ingress.0)) {
            Some(Egress::Lane(lane)) => {
                let lane = lanes.get_mut(*lane);
                if lane.is_some_and(|lane| lane.port.pass(self.umem.bytes(&frame))) {
                    self.counters.add(Counter::Passed, 1);
                    let _ = self.pool.give(frame);
                } else {
                    self.drop(frame, Reason::PassFailed);
                }
            }
            Some(Egress::Worker(worker)) => {
                if let Err(frame) = self.post(*worker, Message::Pass(ingress, frame)) {
                    self.drop(frame, Reason::HandoverFull);
                }
            }
            Some(Egress::None) | None => self.drop(frame, Reason::PassFailed),
        }
    }

    #[inline]
    fn drop(&mut self, frame: Frame, reason: Reason) {
        self.counters.note_drop(reason);
        // One UMEM for all: the pool takes every frame that there is.
        let _ = self.pool.give(frame);
    }

    /// What is done once a turn, not once a packet.
    fn settle(&mut self, now: Millis) {
        self.counters.set(Counter::Waiting, (self.waiting.len() + self.orphans.len()) as u64);
        let expired = self.memory.flows.expire(now);
        if expired > 0 {
            self.counters.add(Counter::FlowsExpired, expired as u64);
        }
        self.tally();
        if self.shared.workers() > 1 {
            self.share();
        }
    }
}

/// What the frames of a batch have together.
fn bytes(batch: &[Frame]) -> u64 {
    batch.iter().map(|frame| frame.len() as u64).sum()
}

/// Whom a packet is for once it is rewritten.
fn recipient(headers: &Headers, rewrite: &Rewrite) -> Address {
    match (rewrite.destination, &headers.network) {
        (Some(to), _) => to.address,
        (None, Network::Ip(ip)) => ip.destination,
        _ => Address::UNSPECIFIED_V4,
    }
}

/// The contract at the choke point: nothing leaves an uplink that breaks it.
#[inline]
fn look_again(bytes: &[u8], port: PortId, tables: &Tables, groups: Groups) -> Result<(), Reason> {
    match tables.port(port) {
        Some(port) if port.role == Role::Uplink => rewrite::contract(bytes, port.mac, groups),
        Some(_) => Ok(()),
        None => Err(Reason::NoRoute),
    }
}

fn answered(reply: &Reply) -> Counter {
    match reply {
        Reply::ArpIsAt { .. } => Counter::ArpAnswered,
        Reply::NeighbourIsAt { .. } => Counter::NdpAnswered,
        Reply::Echo { .. } => Counter::EchoAnswered,
        Reply::TcpReset { .. } => Counter::ResetsSent,
        Reply::PortUnreachable { .. } => Counter::UnreachablesSent,
        Reply::TooBig { .. } => Counter::TooBigsSent,
        Reply::TimeExceeded { .. } => Counter::TimeExceededsSent,
    }
}
