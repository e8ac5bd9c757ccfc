//! Where plain packets of no flow went a moment ago: those that levee sends on as they are but for their MACs.
//!
//! What [`classify`](fn@crate::classify::classify) says of such a packet, and where its route leads, follows from its addresses, ports and protocol, the
//! port that it came in on, and the tables: as long as the tables are the same, so is the answer. This remembers it, in 32
//! bytes at the place that the packet's hash names; what comes to the same place later replaces what was there. It is a
//! cache and nothing else: exact, forgotten with every change of the tables, and never asked about packets that anything is
//! remembered of elsewhere.

use bytemuck::{Pod, Zeroable};
use levee_api::net::Mac;

use crate::flows::Ends;
use crate::mem::prefetch;
use crate::verdict::PortId;

/// Packets that are remembered: 128 KiB, which the second-level cache of a core holds.
const PLACES: usize = 4096;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(32))]
struct Place {
    between: Between,
    mac: [u8; 6],
    port: u8,
    unused: [u8; 7],
    /// Of the tables; 0 is never.
    stamp: u32,
}

/// Which packets: of these ends and this protocol, from this port.
#[derive(Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Between {
    ends: Ends,
    protocol: u8,
    ingress: u8,
}

impl Between {
    pub(super) fn new(ends: Ends, protocol: u8, ingress: PortId) -> Self {
        Between { ends, protocol, ingress: ingress.0 }
    }
}

pub(super) struct Recent {
    places: Box<[Place; PLACES]>,
}

impl Default for Recent {
    fn default() -> Self {
        Recent { places: bytemuck::zeroed_box() }
    }
}

impl Recent {
    #[inline(always)]
    fn place(hash: u64) -> usize {
        hash as usize % PLACES
    }

    #[inline(always)]
    pub(super) fn prefetch(&self, hash: u64) {
        if let Some(place) = self.places.get(Self::place(hash)) {
            prefetch::read(place);
        }
    }

    /// Where they go, by tables of this stamp.
    #[inline(always)]
    pub(super) fn get(&self, hash: u64, between: Between, stamp: u32) -> Option<(PortId, Mac)> {
        let place = self.places.get(Self::place(hash))?;
        (place.stamp == stamp && place.between == between).then_some((PortId(place.port), Mac(place.mac)))
    }

    pub(super) fn note(&mut self, hash: u64, between: Between, stamp: u32, (port, mac): (PortId, Mac)) {
        if let Some(place) = self.places.get_mut(Self::place(hash)) {
            *place = Place { between, mac: mac.0, port: port.0, unused: [0; 7], stamp };
        }
    }
}
