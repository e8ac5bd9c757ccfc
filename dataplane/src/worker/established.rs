//! The short way: plain packets of flows that are going on, or that only get other MACs as others did before, a batch at a time.
//!
//! ```text
//!   frames ─► glance ─► hash, first bucket asked for ─► candidate, its entry asked for ─► follow, or recent ─► redirect ─► contract ─► port
//!               │                                                                          │
//!               └──────── not plain: parse ─► classify ─► decide … ◄── no such flow, or ───┘
//!                                                                      something has changed
//! ```
//!
//! Each step runs over the whole batch before the next needs the memory that it asked for, so that many misses are under way
//! at once instead of one after the other. A packet that leaves the short way has lost nothing by having been on it: nothing is
//! written before its flow has been found and holds. What comes out is what the long way would have made
//! (`worker::tests::established` plays the same traffic to both), in the order in which it came in.

use af_xdp::Frame;

use super::handle::Message;
use super::opening::Opener;
use super::recent::{Between, Whither};
use super::special::Kind;
use super::{BACKLOG, Bench, Egress, Lane};
use crate::classify::{Class, classify};
use crate::counters::Counter;
use crate::decide::{Decision, Scene, decide, established, likely};
use crate::flows::{Coming, FlowId};
use crate::headers::{Glance, Headers, Network};
use crate::parse::{Sight, between, glance_v6, parse, sight_v4};
use crate::port::Port;
use crate::reason::Reason;
use crate::rewrite::{self, Origin};
use crate::tables::Tables;
use crate::verdict::{Course, NextHop, PortId, Rewrite, Verdict};
use levee_api::net::{Mac, Role};

/// What is known of a batch, a place for each frame.
pub(super) struct Looks {
    seen: Box<[Seen]>,
    /// The headers of those that are not plain, in their order.
    parsed: Vec<Result<Headers, Reason>>,
    /// Those that open connections, in theirs.
    openers: Vec<Opener>,
    /// The port that frames left by last: very likely the next ones' too.
    port: PortId,
}

/// One frame.
#[derive(Clone, Copy)]
struct Seen {
    /// Not of a frame that is not plain.
    glance: Glance,
    hash: u64,
    /// The flow that it is most likely of.
    candidate: FlowId,
    kind: Look,
}

impl Seen {
    /// Whether it may be of a flow that is going on.
    fn is_likely(&self) -> bool {
        self.kind == Look::V4 && self.candidate != FlowId::NONE
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    V4,
    V6,
    /// Plain but for opening a connection.
    Opening,
    /// Not plain.
    Odd,
}

/// What becomes of a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Rewritten; leaves by this port.
    Goes(PortId),
    /// Rewritten, and must not leave.
    Ends(Reason),
    /// Untouched: this worker's, who owns its flow.
    Crosses(usize),
    /// Untouched: the long way's.
    Stays,
}

impl Looks {
    /// For batches of so many frames at most.
    pub(super) fn new(most: usize) -> Self {
        let nothing = Seen { glance: Glance::default(), hash: 0, candidate: FlowId::NONE, kind: Look::Odd };
        Looks {
            seen: vec![nothing; most].into(),
            parsed: Vec::with_capacity(most),
            openers: Vec::with_capacity(most),
            port: PortId(0),
        }
    }
}

/// The station that plain frames of a port are sent to, and the side that they come from.
fn station(tables: &Tables, ingress: PortId) -> Option<(Mac, Role)> {
    let port = tables.port(ingress).filter(|port| matches!(port.role, Role::Uplink | Role::Pods))?;
    Some((port.mac, port.role))
}

impl Bench {
    /// The frames of a batch, at most as many as there are looks for, each to its end. `bytes` is what they have together.
    #[inline]
    pub(super) fn forward<P: Port>(
        &mut self,
        (batch, bytes): (&mut Vec<Frame>, u64),
        looks: &mut Looks,
        scene: &Scene<'_>,
        lanes: &mut [Lane<P>],
    ) {
        let Looks { seen, parsed, openers, port } = looks;
        let tables = scene.tables;
        let (Some((station, from)), Some(seen)) = (station(tables, scene.ingress), seen.get_mut(..batch.len())) else {
            for frame in batch.drain(..) {
                self.process(frame, scene.ingress, tables, scene.now, lanes);
            }
            return;
        };
        self.look(batch, (station, tables.narrowest), seen, (parsed, openers));
        if !openers.is_empty() {
            self.propose(openers, from, scene);
        }
        let coming = Coming { from, stamp: tables.stamp(), now: scene.now };
        let mut out = Out::by(*port, tables);
        let (mut way, mut begun) = (Counter::Established, 0);
        let (mut first, mut lost) = if openers.len() == batch.len() {
            way = Counter::Opening;
            let (first, lost) = self.open_first(batch, openers, scene, &mut out);
            begun = first + usize::from(lost.is_some());
            (first, lost)
        } else {
            self.follow_first(batch, (seen, &mut out), coming, tables)
        };
        if first == 0 && lost.is_none() {
            (first, lost) = self.readdress_first(batch, (seen, &mut out), scene);
        }
        *port = out.port;
        if first == batch.len() && self.send_all(out.port, way, (batch, bytes), lanes) {
            return;
        }
        let (mut seen, mut parsed, mut openers) = (&*seen, parsed.iter(), openers.iter().skip(begun));
        loop {
            for frame in batch.drain(..first) {
                self.leave(out.port, frame, way, lanes);
            }
            let stopped = usize::from(lost.is_some());
            for (frame, reason) in batch.drain(..stopped).zip(lost) {
                self.drop(frame, reason);
            }
            let Some(rest) = seen.get(first + stopped..).filter(|rest| !rest.is_empty()) else { break };
            // One by one, until a flow may be going on again.
            let alone = rest.iter().skip(1).take_while(|seen| !seen.is_likely()).count() + 1;
            for (mut frame, seen) in batch.drain(..alone).zip(rest) {
                let opener = if seen.kind == Look::Opening { openers.next() } else { None };
                let (step, alone_by) = match opener {
                    Some(opener) => (self.open(&mut frame, opener, scene, &mut out), Counter::Opening),
                    None => (self.step(&mut frame, seen, coming, scene, &mut out), Counter::Established),
                };
                match step {
                    Step::Goes(port) => self.leave(port, frame, alone_by, lanes),
                    Step::Ends(reason) => self.drop(frame, reason),
                    Step::Crosses(owner) => self.hand_over(owner, Message::Process(scene.ingress, frame)),
                    Step::Stays if matches!(seen.kind, Look::V4 | Look::V6) => self.long(frame, seen, scene, lanes),
                    Step::Stays if let Some(opener) = opener => self.open_by_the_long_way(frame, opener, scene, lanes),
                    // Headers are read where they were written: a copy right behind the writing would wait for it.
                    Step::Stays => match parsed.next() {
                        Some(Ok(headers)) => self.conclude(frame, headers, scene.ingress, tables, scene.now, lanes),
                        Some(Err(reason)) => self.drop(frame, *reason),
                        None => self.process(frame, scene.ingress, tables, scene.now, lanes),
                    },
                }
            }
            seen = rest.get(alone..).unwrap_or_default();
            way = Counter::Established;
            (first, lost) = self.follow_first(batch, (seen, &mut out), coming, tables);
        }
    }

    /// Puts a frame that is rewritten on its way.
    fn leave<P: Port>(&mut self, port: PortId, frame: Frame, way: Counter, lanes: &mut [Lane<P>]) {
        self.counters.add(Counter::ForwardedBytes, frame.len() as u64);
        let sent = self.send(port, frame, Counter::Forwarded, lanes);
        self.counters.add(way, u64::from(sent));
    }

    /// Looks at a batch, and asks for the memory that deciding will need.
    #[inline(never)]
    fn look(
        &self,
        batch: &[Frame],
        (station, narrowest): (Mac, u16),
        seen: &mut [Seen],
        (parsed, openers): (&mut Vec<Result<Headers, Reason>>, &mut Vec<Opener>),
    ) {
        let flows = &self.memory.flows;
        parsed.clear();
        openers.clear();
        for (frame, seen) in batch.iter().zip(&mut *seen) {
            let bytes = self.umem.bytes(frame);
            match bytes.first_chunk().map_or(Sight::Other, |head| sight_v4(head, bytes.len(), station)) {
                Sight::Plain(glance) if glance.length <= narrowest => {
                    (seen.glance, seen.kind) = (glance, Look::V4);
                    seen.hash = flows.hash_v4(glance.ends, glance.protocol);
                }
                Sight::Opening(glance) => self.look_at_opener(glance, seen, openers),
                Sight::Plain(_) | Sight::Other => self.look_longer(bytes, station, seen, parsed),
            }
            flows.prefetch(seen.hash);
        }
        let mut away = false;
        for seen in &mut *seen {
            seen.candidate = flows.candidate(seen.hash);
            match seen.candidate {
                FlowId::NONE => self.recent.prefetch(seen.hash),
                FlowId::AWAY => away = true,
                _ => {}
            }
        }
        if away {
            for seen in seen.iter_mut().filter(|seen| seen.candidate == FlowId::AWAY) {
                seen.candidate = flows.candidate_away(seen.hash);
            }
        }
    }

    /// Of one that opens a connection.
    #[cold]
    #[inline(never)]
    fn look_at_opener(&self, glance: Glance, seen: &mut Seen, openers: &mut Vec<Opener>) {
        seen.kind = Look::Opening;
        seen.hash = self.memory.flows.hash_v4(glance.ends, glance.protocol);
        self.memory.flows.prefetch_both(seen.hash);
        openers.push(Opener::new(glance, seen.hash));
    }

    /// The same at a frame that is of IPv6, or not plain. Cold, as is the one before, so that the circle is laid out for the others.
    #[cold]
    #[inline(never)]
    fn look_longer(&self, bytes: &[u8], station: Mac, seen: &mut Seen, parsed: &mut Vec<Result<Headers, Reason>>) {
        let flows = &self.memory.flows;
        if let Some(glance) = glance_v6(bytes, station) {
            (seen.glance, seen.kind) = (glance, Look::V6);
            seen.hash = flows.hash(&between(&glance, bytes));
            return;
        }
        parsed.push(parse(bytes));
        seen.kind = Look::Odd;
        seen.hash = match parsed.last() {
            Some(Ok(Headers { network: Network::Ip(ip), .. })) => ip.tuple().map_or(0, |tuple| flows.hash(&tuple)),
            _ => 0,
        };
    }

    /// Rewrites the first packets of a batch, as long as they are plain ones of IPv4 whose flows are going on and leave by one port,
    /// and says how many they are; and why the next one must not leave, if it is found out too late to leave it as it was.
    ///
    /// In most batches these are all: hence a circle as small as it can be. Where it stops, that packet goes to its end before this begins
    /// anew: a segment may end the flow that another one behind it would still have followed.
    #[inline(never)]
    fn follow_first(
        &mut self,
        batch: &mut [Frame],
        (seen, out): (&[Seen], &mut Out),
        coming: Coming,
        tables: &Tables,
    ) -> (usize, Option<Reason>) {
        let (mut done, mut by) = (0, *out);
        for (frame, seen) in batch.iter_mut().zip(seen) {
            let glance = &seen.glance;
            if seen.kind != Look::V4 {
                break;
            }
            let packet = (glance.ends, glance.protocol);
            let Some(course) = likely(seen.candidate, packet, coming, tables, &mut self.memory) else { break };
            if course.hop.port() != by.port {
                if done > 0 || !out.turn_to(course.hop.port(), tables) {
                    break;
                }
                by = *out;
            }
            let bytes = self.umem.bytes_mut(frame);
            let left = rewrite::redirect(glance, &course, &by.origin, bytes).and_then(|()| by.origin.look_again(bytes));
            if let Err(reason) = left {
                return (done, Some(reason));
            }
            done += 1;
        }
        (done, None)
    }

    /// The same of packets that only get other MACs, as others did before.
    #[inline(never)]
    fn readdress_first(
        &mut self,
        batch: &mut [Frame],
        (seen, out): (&[Seen], &mut Out),
        scene: &Scene<'_>,
    ) -> (usize, Option<Reason>) {
        let (tables, stamp) = (scene.tables, scene.tables.stamp());
        let (mut done, mut by) = (0, *out);
        for (frame, seen) in batch.iter_mut().zip(seen) {
            let glance = &seen.glance;
            // One that may be a flow's is looked at closely.
            if seen.kind != Look::V4 || seen.candidate != FlowId::NONE {
                break;
            }
            let Some(Whither::Hop(hop)) = self.recent.get(seen.hash, key(glance, scene.ingress), stamp) else { break };
            if hop.port() != by.port {
                if done > 0 || !out.turn_to(hop.port(), tables) {
                    break;
                }
                by = *out;
            }
            let bytes = self.umem.bytes_mut(frame);
            let left = by.origin.readdress(bytes, hop).and_then(|()| by.origin.look_again(bytes));
            if let Err(reason) = left {
                return (done, Some(reason));
            }
            done += 1;
        }
        (done, None)
    }

    /// Rewrites a plain packet whose way is known.
    #[inline(never)]
    fn step(&mut self, frame: &mut Frame, seen: &Seen, coming: Coming, scene: &Scene<'_>, out: &mut Out) -> Step {
        let (tables, glance) = (scene.tables, &seen.glance);
        if seen.kind == Look::Odd || glance.length > tables.narrowest {
            return Step::Stays;
        }
        let bytes = self.umem.bytes_mut(frame);
        let redirect =
            |course: Course| move |origin: &Origin, bytes: &mut [u8]| rewrite::redirect(glance, &course, origin, bytes);
        if seen.kind == Look::V4
            && let Some(course) =
                likely(seen.candidate, (glance.ends, glance.protocol), coming, tables, &mut self.memory)
        {
            return out.take(course.hop, tables, bytes, redirect(course));
        }
        match self.recent.get(seen.hash, key(glance, scene.ingress), coming.stamp) {
            Some(Whither::Hop(hop)) => {
                return out.take(hop, tables, bytes, |origin, bytes| origin.readdress(bytes, hop));
            }
            Some(Whither::Worker(owner)) => return Step::Crosses(owner),
            None => {}
        }
        match established(&between(glance, bytes), coming, tables, &mut self.memory) {
            Some((course, _)) if glance.v4 => out.take(course.hop, tables, bytes, redirect(course)),
            Some((course, heads)) => out.take(course.hop, tables, bytes, |origin, bytes| {
                rewrite::redirect_v6(glance, (&course, heads), origin, bytes)
            }),
            None => Step::Stays,
        }
    }

    /// Puts all frames of a batch on their way out of a port of this worker's. False if there is no such port, or not the room.
    #[inline]
    fn send_all<P: Port>(
        &mut self,
        port: PortId,
        way: Counter,
        (batch, bytes): (&mut Vec<Frame>, u64),
        lanes: &mut [Lane<P>],
    ) -> bool {
        let Some(Egress::Lane(lane)) = self.egress.get(usize::from(port.0)) else { return false };
        let Some(lane) = lanes.get_mut(*lane).filter(|lane| lane.backlog.len() + batch.len() <= BACKLOG) else {
            return false;
        };
        self.counters.add(way, batch.len() as u64);
        self.counters.add(Counter::Forwarded, batch.len() as u64);
        self.counters.add(Counter::ForwardedBytes, bytes);
        lane.backlog.append(batch);
        true
    }

    /// The long way of a plain packet. Where it ends with other MACs and nothing else, or with another worker, the next ones like it need not
    /// go it.
    #[inline(never)]
    fn long<P: Port>(&mut self, frame: Frame, seen: &Seen, scene: &Scene<'_>, lanes: &mut [Lane<P>]) {
        let (tables, glance) = (scene.tables, &seen.glance);
        let headers = match parse(self.umem.bytes(&frame)) {
            Ok(headers) => headers,
            Err(reason) => return self.drop(frame, reason),
        };
        if !glance.v4 {
            return self.conclude(frame, &headers, scene.ingress, tables, scene.now, lanes);
        }
        let class = self.named(classify(&headers, tables, scene.ingress), &frame, &headers, tables);
        let decision = decide(&class, &headers, scene, &mut self.memory);
        let whither = match (&decision, &class) {
            (Decision::Ends(Verdict::Forward(port, rewrite)), Class::Plain(_)) => readdressed(*port, rewrite),
            // Before any flow is looked for: it follows from the tables alone.
            (Decision::HandOver(owner), _) => Some(Whither::Worker(*owner)),
            _ => None,
        };
        if let Some(whither) = whither {
            self.recent.note(seen.hash, key(glance, scene.ingress), tables.stamp(), whither);
        }
        self.follow(decision, frame, &headers, Kind::Ordinary, scene, lanes);
    }
}

/// Where a packet goes that only gets other MACs.
fn readdressed(port: PortId, rewrite: &Rewrite) -> Option<Whither> {
    match *rewrite {
        Rewrite { source: None, destination: None, decrement_ttl: false, destination_mac, .. } => {
            Some(Whither::Hop(NextHop::new(port, destination_mac)))
        }
        _ => None,
    }
}

/// The port that the packet before left by: nearly always the next one's too.
#[derive(Clone, Copy)]
pub(super) struct Out {
    port: PortId,
    origin: Origin,
}

impl Out {
    /// By this port, or, where there is none of this number, by none.
    fn by(port: PortId, tables: &Tables) -> Self {
        let mut out = Out { port: PortId::TUNNEL, origin: Origin::new(Mac::ZERO, Role::Uplink) };
        out.turn_to(port, tables);
        out
    }

    /// The port.
    #[inline(always)]
    pub(super) fn port(&self) -> PortId {
        self.port
    }

    /// By another port. False if there is none of this number.
    #[inline(never)]
    fn turn_to(&mut self, port: PortId, tables: &Tables) -> bool {
        let Some(is) = tables.port(port) else { return false };
        *self = Out { port, origin: Origin::new(is.mac, is.role) };
        true
    }

    /// Lets a packet leave towards a next hop, once it is rewritten.
    #[inline(always)]
    pub(super) fn take(
        &mut self,
        hop: NextHop,
        tables: &Tables,
        frame: &mut [u8],
        rewrite: impl FnOnce(&Origin, &mut [u8]) -> Result<(), Reason>,
    ) -> Step {
        if self.port != hop.port() && !self.turn_to(hop.port(), tables) {
            return Step::Ends(Reason::NoRoute);
        }
        let Out { port, origin } = &*self;
        match rewrite(origin, frame).and_then(|()| origin.look_again(frame)) {
            Ok(()) => Step::Goes(*port),
            Err(reason) => Step::Ends(reason),
        }
    }
}

fn key(glance: &Glance, ingress: PortId) -> Between {
    Between::new(glance.ends, glance.protocol, ingress)
}
