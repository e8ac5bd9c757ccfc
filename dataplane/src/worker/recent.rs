//! Where plain packets that are of no flow here went a moment ago: those that levee sends on as they are but for their MACs, and those of
//! flows that another worker owns.
//!
//! What [`classify`](fn@crate::classify::classify) says of such a packet, where its route leads, and whose its flow would be, follow from its
//! addresses, ports and protocol, the port that it came in on, and the tables: as long as the tables are the same, so is the answer. This
//! remembers it, in half of the cache line that the packet's hash names; what comes to the same line later replaces what has been there
//! longer. It is a cache and nothing else: exact, forgotten with every change of the tables, and never asked about packets that
//! anything is remembered of elsewhere.

use bytemuck::{Pod, Zeroable};

use crate::ends::Ends;
use crate::mem::prefetch;
use crate::verdict::{NextHop, PortId};

/// Cache lines, of two places each: 256 KiB, which the second-level cache of a core holds;
const LINES: usize = 4096;
/// and where there are several workers, whose flows each must tell from its own, 2 MiB: they are asked for in time.
const LINES_OF_SEVERAL: usize = 8 * LINES;

/// Where packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whither {
    /// To this next hop, with other MACs.
    Hop(NextHop),
    /// To the worker that owns their flow.
    Worker(usize),
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(32))]
struct Place {
    between: Between,
    /// Of the tables; 0 is never.
    stamp: u32,
    /// The worker's number, and one; 0 where `hop` says it.
    worker: u32,
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
    lines: Box<[Line]>,
    /// One less than there are: a power of two.
    mask: usize,
}

impl Recent {
    /// One of so many workers'.
    pub(super) fn new(workers: usize) -> Self {
        let lines = if workers > 1 { LINES_OF_SEVERAL } else { LINES };
        Recent { lines: bytemuck::zeroed_slice_box(lines), mask: lines - 1 }
    }

    #[inline(always)]
    fn line(&self, hash: u64) -> usize {
        hash as usize & self.mask
    }

    #[inline(always)]
    pub(super) fn prefetch(&self, hash: u64) {
        if let Some(line) = self.lines.get(self.line(hash)) {
            prefetch::read(line);
        }
    }

    /// Where they go, by tables of this stamp.
    #[inline(always)]
    pub(super) fn get(&self, hash: u64, between: Between, stamp: u32) -> Option<Whither> {
        let line = self.lines.get(self.line(hash))?;
        let place = if line.newer.between == between { &line.newer } else { &line.older };
        (place.stamp == stamp && place.between == between).then_some(match place.worker.checked_sub(1) {
            None => Whither::Hop(place.hop),
            Some(worker) => Whither::Worker(worker as usize),
        })
    }

    pub(super) fn note(&mut self, hash: u64, between: Between, stamp: u32, to: Whither) {
        let line = self.line(hash);
        let Some(line) = self.lines.get_mut(line) else { return };
        if line.newer.between != between {
            line.older = line.newer;
        }
        let (worker, hop) = match to {
            Whither::Hop(hop) => (0, hop),
            Whither::Worker(worker) => (worker as u32 + 1, NextHop::zeroed()),
        };
        line.newer = Place { between, stamp, worker, hop };
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

    fn whither(number: u8) -> Whither {
        if number.is_multiple_of(2) {
            Whither::Worker(number.into())
        } else {
            Whither::Hop(NextHop::new(PortId(number), Mac::ZERO))
        }
    }

    proptest! {
        /// All of them meet in one line.
        #[test]
        fn it_says_what_was_noted_last_or_nothing(steps in proptest::collection::vec((0..4u8, 1..3u32, any::<u8>()), 1..60)) {
            let mut recent = Recent::new(1);
            let mut noted = HashMap::new();
            for (number, stamp, port) in steps {
                recent.note(5, between(number), stamp, whither(port));
                noted.insert(number, (stamp, port));
                prop_assert_eq!(recent.get(5, between(number), stamp), Some(whither(port)));
                for (number, (stamp, port)) in &noted {
                    let found = recent.get(5, between(*number), *stamp);
                    prop_assert!(found.is_none_or(|found| found == whither(*port)));
                    prop_assert_eq!(recent.get(5, between(*number), stamp + 1), None);
                }
            }
        }
    }
}
