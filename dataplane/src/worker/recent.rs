//! Where plain packets of no flow went a moment ago: those that levee sends on as they are but for their MACs.
//!
//! What [`classify`](fn@crate::classify::classify) says of such a packet, and where its route leads, follows from its addresses, ports and protocol, the
//! port that it came in on, and the tables: as long as the tables are the same, so is the answer. This remembers it, in half of
//! the cache line that the packet's hash names; what comes to the same line later replaces what has been there longer. It is
//! a cache and nothing else: exact, forgotten with every change of the tables, and never asked about packets that anything
//! is remembered of elsewhere.

use bytemuck::{Pod, Zeroable};

use crate::ends::Ends;
use crate::mem::prefetch;
use crate::verdict::{NextHop, PortId};

/// Cache lines, of two places each: 256 KiB, which the second-level cache of a core holds.
const LINES: usize = 4096;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(32))]
struct Place {
    between: Between,
    /// Of the tables; 0 is never.
    stamp: u32,
    unused_too: [u8; 4],
    hop: NextHop,
}

/// Which packets: of these ends and this protocol, from this port.
#[derive(Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Between {
    ends: Ends,
    protocol: u8,
    ingress: u8,
    unused: [u8; 2],
}

impl Between {
    pub(super) fn new(ends: Ends, protocol: u8, ingress: PortId) -> Self {
        Between { ends, protocol, ingress: ingress.0, unused: [0; 2] }
    }
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line {
    newer: Place,
    older: Place,
}

pub(super) struct Recent {
    lines: Box<[Line; LINES]>,
}

impl Default for Recent {
    fn default() -> Self {
        Recent { lines: bytemuck::zeroed_box() }
    }
}

impl Recent {
    #[inline(always)]
    fn line(hash: u64) -> usize {
        hash as usize % LINES
    }

    #[inline(always)]
    pub(super) fn prefetch(&self, hash: u64) {
        if let Some(line) = self.lines.get(Self::line(hash)) {
            prefetch::read(line);
        }
    }

    /// Where they go, by tables of this stamp.
    #[inline(always)]
    pub(super) fn get(&self, hash: u64, between: Between, stamp: u32) -> Option<NextHop> {
        let line = self.lines.get(Self::line(hash))?;
        let place = if line.newer.between == between { &line.newer } else { &line.older };
        (place.stamp == stamp && place.between == between).then_some(place.hop)
    }

    pub(super) fn note(&mut self, hash: u64, between: Between, stamp: u32, hop: NextHop) {
        let Some(line) = self.lines.get_mut(Self::line(hash)) else { return };
        if line.newer.between != between {
            line.older = line.newer;
        }
        line.newer = Place { between, stamp, unused_too: [0; 4], hop };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use levee_api::net::Mac;
    use proptest::prelude::*;

    use super::*;
    use crate::address::Address;
    use crate::verdict::Endpoint;

    fn between(number: u8) -> Between {
        let end = |last| Endpoint { address: Address::v4(0x0a00_0000 + last), port: 80 };
        Between::new(Ends::of(end(u32::from(number)), end(7)), 6, PortId(0))
    }

    fn hop(port: u8) -> NextHop {
        NextHop::new(PortId(port), Mac::ZERO)
    }

    proptest! {
        /// All of them meet in one line.
        #[test]
        fn it_says_what_was_noted_last_or_nothing(steps in proptest::collection::vec((0..4u8, 1..3u32, any::<u8>()), 1..60)) {
            let mut recent = Recent::default();
            let mut noted = HashMap::new();
            for (number, stamp, port) in steps {
                recent.note(5, between(number), stamp, hop(port));
                noted.insert(number, (stamp, port));
                prop_assert_eq!(recent.get(5, between(number), stamp), Some(hop(port)));
                for (number, (stamp, port)) in &noted {
                    let found = recent.get(5, between(*number), *stamp);
                    prop_assert!(found.is_none_or(|found| found == hop(*port)));
                    prop_assert_eq!(recent.get(5, between(*number), stamp + 1), None);
                }
            }
        }
    }
}
