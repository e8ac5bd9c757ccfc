//! Next hops that flows remember, each once: a flow names one by two bytes instead of holding its eight.
//!
//! ```text
//!   (port, MAC) ──hash──► a set of 8 ──► number = set × 8 + way + 1, for as long as a flow holds it
//! ```
//!
//! Many flows share few next hops: the gateways of a fabric, the nodes of a cluster, the pods of a node. Each is counted by
//! the flows that hold it; one that nobody holds gives its place to the next that wants it. There is room for 32,768, in
//! sets of 8. A next hop that finds no room is not remembered: its flows ask the tables again with each packet.

use crate::hash::MAGLEV_KEY;
use crate::verdict::NextHop;

const SETS: usize = 4096;
const WAYS: usize = 8;

/// Names a next hop; 0 is none.
pub(super) type HopId = u16;

/// None, too, where there was one before: to be told from 0.
pub(super) const FORGOTTEN: HopId = HopId::MAX;

const _: () = assert!(SETS * WAYS < FORGOTTEN as usize);

#[derive(Clone, Copy, Default)]
#[repr(C, align(16))]
struct Hop {
    to: NextHop,
    /// Flows that hold it, each direction for itself.
    held: u32,
}

pub(super) struct Hops {
    hops: Box<[Hop]>,
    /// The one that was held last: very likely the next one too.
    last: HopId,
}

impl Hops {
    pub(super) fn new() -> Self {
        Hops { hops: vec![Hop::default(); SETS * WAYS].into(), last: 0 }
    }

    #[inline(always)]
    pub(super) fn get(&self, id: HopId) -> Option<NextHop> {
        Some(self.hops.get(usize::from(id).wrapping_sub(1))?.to)
    }

    /// Holds a next hop once more, and names it; 0 if there is no room.
    #[inline(always)]
    pub(super) fn hold(&mut self, to: NextHop) -> HopId {
        match self.hops.get_mut(usize::from(self.last).wrapping_sub(1)) {
            Some(hop) if hop.to == to && hop.held > 0 => {
                hop.held = hop.held.saturating_add(1);
                self.last
            }
            _ => self.hold_another(to),
        }
    }

    fn hold_another(&mut self, to: NextHop) -> HopId {
        let hash = MAGLEV_KEY.word(bytemuck::must_cast(to));
        let first = hash as usize % SETS * WAYS;
        let Some(set) = self.hops.get_mut(first..first + WAYS) else { return 0 };
        let known = set.iter().position(|hop| hop.held > 0 && hop.to == to);
        let Some(way) = known.or_else(|| set.iter().position(|hop| hop.held == 0)) else { return 0 };
        let Some(hop) = set.get_mut(way) else { return 0 };
        *hop = Hop { to, held: hop.held.saturating_add(1) };
        self.last = (first + way + 1) as HopId;
        self.last
    }

    /// Lets go of a next hop.
    pub(super) fn release(&mut self, id: HopId) {
        if let Some(hop) = self.hops.get_mut(usize::from(id).wrapping_sub(1)) {
            hop.held = hop.held.saturating_sub(1);
        }
    }

    /// Next hops that are held, and by how many.
    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, u64) {
        let held = self.hops.iter().filter(|hop| hop.held > 0);
        held.fold((0, 0), |(hops, sum), hop| (hops + 1, sum + u64::from(hop.held)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use levee_api::net::Mac;
    use proptest::prelude::*;

    use super::*;
    use crate::verdict::PortId;

    fn hop(port: u8, number: u32) -> NextHop {
        let [a, b, c, d] = number.to_be_bytes();
        NextHop::new(PortId(port), Mac([2, 0, a, b, c, d]))
    }

    proptest! {
        #[test]
        fn what_is_held_stays_what_it_is(steps in proptest::collection::vec((0..50u32, any::<bool>()), 0..300)) {
            let mut hops = Hops::new();
            let mut held: Vec<(u32, HopId)> = Vec::new();
            for (number, hold) in steps {
                if hold {
                    let id = hops.hold(hop(1, number));
                    prop_assert_ne!(id, 0);
                    held.push((number, id));
                } else if let Some(at) = held.iter().position(|(other, _)| *other == number) {
                    hops.release(held.swap_remove(at).1);
                }
                for (number, id) in &held {
                    prop_assert_eq!(hops.get(*id), Some(hop(1, *number)));
                }
            }
            prop_assert_eq!(hops.held().1, held.len() as u64);
        }
    }

    #[test]
    fn a_cluster_has_room_and_a_flood_of_macs_finds_an_end() {
        let mut hops = Hops::new();
        for number in 0..5_000 {
            assert_ne!(hops.hold(hop(0, number)), 0, "{number}");
        }
        let mut refused = 0;
        for number in 5_000..100_000 {
            refused += u32::from(hops.hold(hop(0, number)) == 0);
        }
        assert!(refused > 60_000, "{refused}");
        assert!(hops.held().0 <= SETS * WAYS);
        assert_eq!(hops.get(0), None);
    }
}
