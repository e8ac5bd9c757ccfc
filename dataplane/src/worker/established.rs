//! The short way: plain packets of flows that are going on, a batch at a time.
//!
//! ```text
//!   frames ─► glance ─► hash, first bucket asked for ─► candidate, its entry asked for ─► follow ─► redirect ─► contract ─► port
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

use super::{Bench, Lane, look_again};
use crate::counters::Counter;
use crate::decide::{Scene, established};
use crate::flows::{FlowId, Tuple};
use crate::headers::{Headers, Network};
use crate::mem::prefetch;
use crate::parse::{Glance, glance, parse};
use crate::port::Port;
use crate::reason::Reason;
use crate::rewrite::{self, Groups};
use crate::tables::Tables;
use crate::verdict::{Endpoint, PortId};
use levee_api::net::{Mac, Role};

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
    hash: u64,
    candidate: Option<FlowId>,
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
        for frame in batch {
            if let Some(first) = self.umem.bytes(frame).first() {
                prefetch::read(first);
            }
        }
        let flows = &self.memory.flows;
        // With no flows, no packet is of one.
        let station = station.filter(|_| !flows.is_empty());
        looks.seen.clear();
        looks.parsed.clear();
        for frame in batch {
            let bytes = self.umem.bytes(frame);
            let glance = station.and_then(|station| glance(bytes, station));
            let hash = match &glance {
                Some(glance) => Some(flows.hash(&glance.tuple)),
                None => {
                    looks.parsed.push(parse(bytes));
                    looks
                        .parsed
                        .last()
                        .and_then(|headers| tuple(headers.as_ref().ok()?))
                        .map(|tuple| flows.hash(&tuple))
                }
            };
            if let Some(hash) = hash {
                flows.prefetch(hash);
            }
            looks.seen.push(Seen { glance, hash: hash.unwrap_or_default(), candidate: None });
        }
        for seen in &mut looks.seen {
            seen.candidate = flows.candidate(seen.hash);
        }
    }

    /// Sends a plain packet of an established flow on its way. Gives the frame back if it is none.
    #[inline(always)]
    pub(super) fn short<P: Port>(
        &mut self,
        mut frame: Frame,
        glance: &Glance,
        seen: &Seen,
        from: Role,
        scene: &Scene<'_>,
        lanes: &mut [Lane<P>],
    ) -> Result<(), Frame> {
        if glance.length > scene.tables.narrowest {
            return Err(frame);
        }
        let Some(course) = established(seen.candidate, &glance.tuple, from, scene, &mut self.memory) else {
            return Err(frame);
        };
        let Some(out) = scene.tables.port(course.port) else { return Err(frame) };
        let bytes = self.umem.bytes_mut(&mut frame);
        let length = bytes.len() as u64;
        let done = rewrite::redirect(&glance.tuple, &course, out.mac, bytes)
            .and_then(|()| look_again(bytes, course.port, scene.tables, Groups::Refused));
        match done {
            Ok(()) => {
                self.counters.add(Counter::ForwardedBytes, length);
                self.send(course.port, frame, Counter::Forwarded, lanes);
            }
            Err(reason) => self.drop(frame, reason),
        }
        Ok(())
    }
}

fn tuple(headers: &Headers) -> Option<Tuple> {
    let Network::Ip(ip) = &headers.network else { return None };
    let ports = ip.transport.ports()?;
    Some(Tuple {
        source: Endpoint { address: ip.source, port: ports.source },
        destination: Endpoint { address: ip.destination, port: ports.destination },
        protocol: ip.protocol,
    })
}
