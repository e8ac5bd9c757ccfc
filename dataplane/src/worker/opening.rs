//! The way of packets that open connections: plain SYNs of IPv4 for services.
//!
//! ```text
//!   frames ─► opening ─► hash, bucket asked for ─► door, propose, reply's bucket asked for ─► open ─► redirect ─► contract ─► port
//!                                                    │                                         │
//!                                                    └────► parse ─► classify ─► decide … ◄────┘
//! ```
//!
//! Beside the short way, and as it: a batch at a time, so that the memory that each step needs is under way while the others are
//! looked at; nothing is changed before it is certain that the long way would have come to the same; and whoever is not sure takes that.
//! A flood of SYNs is made of these, and of batches that are nothing else: those go in one circle.

use af_xdp::Frame;

use super::established::{Out, Step};
use super::special::Kind;
use super::{Bench, Lane};
use crate::classify::{Class, classify};
use crate::decide::{Offer, Opened, Proposal, Scene, decide, open, propose};
use crate::headers::Glance;
use crate::parse::parse;
use crate::port::Port;
use crate::reason::Reason;
use crate::rewrite;
use levee_api::net::Role;

/// A frame that opens a connection.
pub(super) struct Opener {
    pub(super) glance: Glance,
    pub(super) hash: u64,
    /// What was made of it, if it is what most are.
    proposal: Option<Proposal>,
}

impl Opener {
    pub(super) fn new(glance: Glance, hash: u64) -> Self {
        Opener { glance, hash, proposal: None }
    }
}

impl Bench {
    /// Proposes flows for those of a batch.
    #[inline(never)]
    pub(super) fn propose(&mut self, openers: &mut [Opener], from: Role, scene: &Scene<'_>) {
        let stamp = scene.tables.stamp();
        let (mut to, mut offer) = (None, None);
        for Opener { glance, hash, proposal } in openers {
            // Most of a batch go where the one before them goes.
            let there = glance.ends.to();
            if to != Some(there) {
                to = Some(there);
                let vip = glance.ends.tuple_v4(glance.protocol).destination;
                let door = self.doors.get(glance.ends, scene.ingress, stamp);
                offer = door.and_then(|frontend| Offer::new(frontend, vip, from, scene));
            }
            if let Some(offer) = &offer {
                *proposal = propose(glance, *hash, offer, scene, &mut self.memory);
            }
        }
    }

    /// Begins the first flows of a batch of nothing but openers, as long as they leave by one port, and says how many they are; and
    /// why the next one must not leave, if it has one. Most of a flood's batches are such, and all of them at once.
    #[inline(never)]
    pub(super) fn open_first(
        &mut self,
        batch: &mut [Frame],
        openers: &[Opener],
        scene: &Scene<'_>,
        out: &mut Out,
    ) -> (usize, Option<Reason>) {
        for (done, (frame, opener)) in batch.iter_mut().zip(openers).enumerate() {
            if done > 0 && opener.proposal.as_ref().is_none_or(|proposal| proposal.leaves_by() != out.port()) {
                return (done, None);
            }
            match self.begin(frame, opener, scene, out) {
                Step::Goes(_) => {}
                Step::Ends(reason) => return (done, Some(reason)),
                Step::Stays | Step::Crosses(_) => return (done, None),
            }
        }
        (batch.len(), None)
    }

    /// The same of one.
    #[inline(never)]
    pub(super) fn open(&mut self, frame: &mut Frame, opener: &Opener, scene: &Scene<'_>, out: &mut Out) -> Step {
        self.begin(frame, opener, scene, out)
    }

    /// Begins what was proposed, and rewrites the packet.
    #[inline(always)]
    fn begin(&mut self, frame: &mut Frame, opener: &Opener, scene: &Scene<'_>, out: &mut Out) -> Step {
        let late;
        let proposal = match &opener.proposal {
            Some(proposal) => proposal,
            None => {
                late = self.propose_late(opener, scene);
                let Some(proposal) = &late else { return Step::Stays };
                proposal
            }
        };
        match open(proposal, scene, &mut self.memory) {
            Opened::Goes(course) => out.take(course.hop, scene.tables, self.umem.bytes_mut(frame), |origin, bytes| {
                rewrite::redirect(&opener.glance, &course, origin, bytes)
            }),
            Opened::Dropped(reason) => Step::Ends(reason),
            Opened::Undecided => Step::Stays,
        }
    }

    /// Proposes a flow for one of which nothing was known when its batch was looked at: by the first one of the batch that went there, it
    /// may be now. So a worker's first batch, too, goes the long way once and not as often as it has packets.
    #[cold]
    #[inline(never)]
    fn propose_late(&mut self, opener: &Opener, scene: &Scene<'_>) -> Option<Proposal> {
        let Opener { glance, hash, .. } = opener;
        let from = scene.tables.port(scene.ingress)?.role;
        let frontend = self.doors.get(glance.ends, scene.ingress, scene.tables.stamp())?;
        let vip = glance.ends.tuple_v4(glance.protocol).destination;
        let offer = Offer::new(frontend, vip, from, scene)?;
        propose(glance, *hash, &offer, scene, &mut self.memory)
    }

    /// The next ones to the same frontend need not be classified.
    #[inline(never)]
    pub(super) fn open_by_the_long_way<P: Port>(
        &mut self,
        frame: Frame,
        opener: &Opener,
        scene: &Scene<'_>,
        lanes: &mut [Lane<P>],
    ) {
        let headers = match parse(self.umem.bytes(&frame)) {
            Ok(headers) => headers,
            Err(reason) => return self.drop(frame, reason),
        };
        match classify(&headers, scene.tables, scene.ingress) {
            class @ Class::Service(frontend) => {
                self.doors.note(opener.glance.ends, scene.ingress, scene.tables.stamp(), frontend);
                let decision = decide(&class, &headers, scene, &mut self.memory);
                self.follow(decision, frame, &headers, Kind::Ordinary, scene, lanes);
            }
            _ => self.conclude(frame, &headers, scene.ingress, scene.tables, scene.now, lanes),
        }
    }
}
