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
//! (`worker::tests::established` plays the same traffic to both).

use af_xdp::Frame;

use super::recent::Between;
use super::special::Kind;
use super::{BACKLOG, Bench, Egress, Lane, look_again};
use crate::classify::{Class, classify};
use crate::counters::Counter;
use crate::decide::{Decision, Scene, decide, established, likely};
use crate::flows::FlowId;
use crate::headers::{Glance, Headers, Network};
use crate::parse::{between, glance, parse};
use crate::port::Port;
use crate::reason::Reason;
use crate::rewrite::{self, Groups};
use crate::tables::Tables;
use crate::verdict::{Course, PortId, Rewrite, Verdict};
use levee_api::net::{Mac, Role};

/// What took the short way, of a batch: added to the counters once.
#[derive(Default)]
pub(super) struct Tally {
    /// Frames that went to a port of this worker's.
    sent: u64,
    /// Bytes of all.
    bytes: u64,
}

/// What is known of a batch before any of it is decided.
#[derive(Default)]
pub(super) struct Looks {
    /// One for each frame.
    pub(super) seen: Vec<Seen>,
    /// The headers of those that are not plain, in their order.
    pub(super) parsed: Vec<Result<Headers, Reason>>,
}

/// One frame.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    /// `None` if it is not plain.
    pub(super) glance: Option<Glance>,
    /// The flow that it is most likely of.
    candidate: Option<FlowId>,
    hash: u64,
}

impl Looks {
    pub(super) fn with_capacity(batch: usize) -> Self {
        Looks { seen: Vec::with_capacity(batch), parsed: Vec::with_capacity(batch) }
    }
}

/// The station that plain frames of a port are sent to, and the side that they come from.
pub(super) fn station(tables: &Tables, ingress: PortId) -> Option<(Mac, Role)> {
    let port = tables.port(ingress).filter(|port| matches!(port.role, Role::Uplink | Role::Pods))?;
    Some((port.mac, port.role))
}

impl Bench {
    /// Looks at a batch, and asks for the memory that deciding will need.
    #[inline]
    pub(super) fn look(&self, batch: &[Frame], station: Option<Mac>, looks: &mut Looks) {
        let flows = &self.memory.flows;
        looks.seen.clear();
        looks.parsed.clear();
        for frame in batch {
            let bytes = self.umem.bytes(frame);
            let glance = station.and_then(|station| glance(bytes, station));
            let hash = match &glance {
                Some(glance) if glance.v4 => flows.hash_v4(glance.ends, glance.protocol),
                Some(glance) => flows.hash(&between(glance, bytes)),
                None => {
                    looks.parsed.push(parse(bytes));
                    match looks.parsed.last() {
                        Some(Ok(Headers { network: Network::Ip(ip), .. })) => {
                            ip.tuple().map_or(0, |tuple| flows.hash(&tuple))
                        }
                        _ => 0,
                    }
                }
            };
            flows.prefetch(hash);
            self.recent.prefetch(hash);
            looks.seen.push(Seen { glance, candidate: None, hash });
        }
        for seen in &mut looks.seen {
            seen.candidate = flows.candidate(seen.hash);
        }
    }

    /// Sends a plain packet on its way whose way is known. Gives the frame back if it is not.
    #[inline(always)]
    pub(super) fn short<P: Port>(
        &mut self,
        mut frame: Frame,
        (seen, glance): (&Seen, &Glance),
        from: Role,
        scene: &Scene<'_>,
        lanes: &mut [Lane<P>],
        tally: &mut Tally,
    ) -> Result<(), Frame> {
        let tables = scene.tables;
        if glance.length > tables.narrowest {
            return Err(frame);
        }
        let likely = if glance.v4 {
            likely(seen.candidate, (glance.ends, glance.protocol), from, scene, &mut self.memory)
        } else {
            None
        };
        let bytes = self.umem.bytes_mut(&mut frame);
        let (port, done) = if let Some(course) = likely {
            (course.port, redirect(glance, &course, tables, bytes))
        } else if let Some(hop) = self.recent.get(seen.hash, key(glance, scene.ingress), tables.stamp()) {
            (hop.0, readdress(hop, tables, bytes))
        } else if let Some(course) = established(&between(glance, bytes), from, scene, &mut self.memory) {
            (course.port, redirect(glance, &course, tables, bytes))
        } else {
            return Err(frame);
        };
        let length = bytes.len() as u64;
        if let Err(reason) = done {
            self.drop(frame, reason);
            return Ok(());
        }
        tally.bytes += length;
        match self.egress.get(usize::from(port.0)) {
            Some(Egress::Lane(lane)) if lanes.get(*lane).is_some_and(|lane| lane.backlog.len() < BACKLOG) => {
                if let Some(lane) = lanes.get_mut(*lane) {
                    lane.backlog.push(frame);
                    tally.sent += 1;
                }
            }
            _ => self.send(port, frame, Counter::Forwarded, lanes),
        }
        Ok(())
    }

    /// The long way of a plain packet. Where it ends with other MACs and nothing else, the next ones like it need not go it.
    #[inline(never)]
    pub(super) fn long<P: Port>(
        &mut self,
        frame: Frame,
        (seen, glance): (&Seen, &Glance),
        scene: &Scene<'_>,
        lanes: &mut [Lane<P>],
    ) {
        let tables = scene.tables;
        let headers = match parse(self.umem.bytes(&frame)) {
            Ok(headers) => headers,
            Err(reason) => return self.drop(frame, reason),
        };
        let class = classify(&headers, tables, scene.ingress);
        if !glance.v4 || !matches!(class, Class::Plain(_)) {
            return self.conclude(frame, &headers, scene.ingress, tables, scene.now, lanes);
        }
        let decision = decide(&class, &headers, scene, &mut self.memory);
        if let Decision::Ends(Verdict::Forward(port, rewrite)) = decision
            && let Rewrite { source: None, destination: None, decrement_ttl: false, destination_mac, .. } = rewrite
        {
            self.recent.note(seen.hash, key(glance, scene.ingress), tables.stamp(), (port, destination_mac));
        }
        self.follow(decision, frame, &headers, Kind::Ordinary, scene, lanes);
    }

    /// What a batch comes to.
    pub(super) fn note(&self, tally: &Tally) {
        self.counters.add(Counter::Established, tally.sent);
        self.counters.add(Counter::Forwarded, tally.sent);
        self.counters.add(Counter::ForwardedBytes, tally.bytes);
    }
}

fn key(glance: &Glance, ingress: PortId) -> Between {
    Between::new(glance.ends, glance.protocol, ingress)
}

#[inline(always)]
fn redirect(glance: &Glance, course: &Course, tables: &Tables, frame: &mut [u8]) -> Result<(), Reason> {
    let out = tables.port(course.port).ok_or(Reason::NoRoute)?;
    rewrite::redirect(glance, course, out.mac, frame)?;
    look_again(frame, course.port, tables, Groups::Refused)
}

#[inline(always)]
fn readdress((port, mac): (PortId, Mac), tables: &Tables, frame: &mut [u8]) -> Result<(), Reason> {
    let out = tables.port(port).ok_or(Reason::NoRoute)?;
    rewrite::address(frame, mac, out.mac)?;
    look_again(frame, port, tables, Groups::Refused)
}
