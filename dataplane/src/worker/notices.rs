//! What workers cannot do themselves, and the director can: find a neighbour, look into a claim to an address of ours.
//!
//! Each kind has a queue of its own, so that no storm of one displaces the other: anybody on the fabric can make claims, and frames wait
//! for neighbours. A queue that is full loses the notice, which costs nothing but time: what is still so is noticed again.

use crossbeam_channel::{Receiver, Sender, bounded};
use levee_api::net::Mac;

use crate::address::Address;
use crate::headers::Vlans;
use crate::tables::NeighbourKey;
use crate::verdict::PortId;

/// Neighbours that may be asked for and not be looked at yet: all that can be waited for by eight workers.
const NEIGHBOURS: usize = 1024;
/// Claims that may be made and not be looked at yet.
const CLAIMS: usize = 64;

/// Another station says that an address of ours is at its MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The port that it was heard on …
    pub port: PortId,
    /// … and the VLAN.
    pub vlans: Vlans,
    /// The address.
    pub address: Address,
    /// Whose it is said to be.
    pub mac: Mac,
}

/// The workers' end; clones share the queues.
#[derive(Debug, Clone)]
pub struct Notices {
    neighbours: Sender<NeighbourKey>,
    claims: Sender<Claim>,
}

/// The director's end.
#[derive(Debug)]
pub struct Noticed {
    /// Frames wait for these neighbours' MACs.
    pub neighbours: Receiver<NeighbourKey>,
    /// Claims to addresses of ours.
    pub claims: Receiver<Claim>,
}

impl Notices {
    /// A pair of ends.
    #[must_use]
    pub fn new() -> (Notices, Noticed) {
        let (neighbours, asked) = bounded(NEIGHBOURS);
        let (claims, claimed) = bounded(CLAIMS);
        (Notices { neighbours, claims }, Noticed { neighbours: asked, claims: claimed })
    }

    /// A frame waits for this neighbour's MAC. Full: the slow side has enough to do, and the frame waits for somebody else's question.
    pub fn resolve(&self, neighbour: NeighbourKey) {
        let _ = self.neighbours.try_send(neighbour);
    }

    /// Somebody claims an address of ours.
    pub fn claim(&self, claim: Claim) {
        let _ = self.claims.try_send(claim);
    }
}
