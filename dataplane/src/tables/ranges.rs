//! What an address serves besides single ports: ranges of ports, and all the rest of it.
//!
//! ```text
//!   packet to a VIP ──► its port by itself (`Tables::frontends`) ── found: that one
//!                                   │ not found, and the address is marked (`Owner::wide`)
//!                                   ▼
//!                       the address's Ranges ── a range with its protocol and port ── else what serves the address whole
//! ```
//!
//! So what is more specific wins, and who has neither ranges nor whole addresses pays nothing: the mark stands where the address was
//! looked up anyway. Ranges of one protocol do not overlap, which the [`Master`](super::master::Master) sees to; they are sorted, and a
//! search among them halves. A protocol without ports is only ever an address's as a whole.
//!
//! A backend of such a service has no port of its own: the client's choice is kept. Its answers are recognised by its address alone
//! (`Owner::answers`).

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use levee_api::net::{PortRange, Role};

use super::map::Key;
use super::service::{Frontend, FrontendKey};
use crate::address::Address;
use crate::hash::MAGLEV_KEY;

/// An address as one side of levee sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RangesKey {
    /// The address.
    pub address: Address,
    /// The side: uplink, pods or tunnel.
    pub from: Role,
}

impl Key for RangesKey {
    #[inline]
    fn hash(&self) -> u64 {
        MAGLEV_KEY.address(self.address, super::service::side(self.from))
    }
}

/// A range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Protocol number.
    pub protocol: u8,
    /// Its ports.
    pub ports: PortRange,
    /// What serves them.
    pub frontend: Frontend,
}

/// What an address serves besides single ports. See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ranges {
    /// By protocol and first port.
    ranges: Box<[Range]>,
    whole: Option<Frontend>,
}

impl Ranges {
    /// What serves a port that no service has by itself; port 0 is a packet without ports.
    #[inline]
    #[must_use]
    pub fn get(&self, protocol: u8, port: u16) -> Option<&Frontend> {
        let after = self.ranges.partition_point(|range| (range.protocol, range.ports.first) <= (protocol, port));
        let last = after.checked_sub(1).and_then(|index| self.ranges.get(index));
        let range = last.filter(|range| range.protocol == protocol && range.ports.contains(port));
        range.map(|range| &range.frontend).or(self.whole.as_ref())
    }

    /// The ranges, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Range> {
        self.ranges.iter()
    }

    /// What serves all the rest.
    #[must_use]
    pub fn whole(&self) -> Option<&Frontend> {
        self.whole.as_ref()
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.whole.is_none()
    }

    /// Every frontend, with its protocol and ports; `None` is all the rest.
    pub fn frontends(&self) -> impl Iterator<Item = (Option<(u8, PortRange)>, &Frontend)> {
        let ranges = self.ranges.iter().map(|range| (Some((range.protocol, range.ports)), &range.frontend));
        ranges.chain(self.whole.iter().map(|whole| (None, whole)))
    }

    /// Adds a range, or without one what serves all the rest.
    pub fn insert(&mut self, at: Option<(u8, PortRange)>, frontend: Frontend) {
        match at {
            None => self.whole = Some(frontend),
            Some((protocol, ports)) => {
                let mut ranges = std::mem::take(&mut self.ranges).into_vec();
                let place =
                    ranges.partition_point(|range| (range.protocol, range.ports.first) < (protocol, ports.first));
                ranges.insert(place, Range { protocol, ports, frontend });
                self.ranges = ranges.into();
            }
        }
    }

    /// Removes what was added so.
    pub fn remove(&mut self, at: Option<(u8, PortRange)>) {
        match at {
            None => self.whole = None,
            Some((protocol, ports)) => {
                let mut ranges = std::mem::take(&mut self.ranges).into_vec();
                ranges.retain(|range| (range.protocol, range.ports) != (protocol, ports));
                self.ranges = ranges.into();
            }
        }
    }
}

impl FrontendKey {
    /// Where it is looked for besides single ports.
    #[inline]
    #[must_use]
    pub fn ranges(&self) -> RangesKey {
        RangesKey { address: self.address, from: self.from }
    }
}

/// Whether a protocol has ports that levee reads.
#[inline]
#[must_use]
pub const fn has_ports(protocol: u8) -> bool {
    levee_api::net::Protocol::from_number(protocol).is_some()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Ranges that do not overlap: what lies between every other two of some numbers.
    fn ranges() -> impl Strategy<Value = Vec<(u8, PortRange)>> {
        let of = |protocol: u8| {
            prop::collection::btree_set(1u16..200, 0..12).prop_map(move |marks| {
                let marks: Vec<u16> = marks.into_iter().collect();
                let pairs = marks.chunks_exact(2);
                pairs.map(|pair| (protocol, PortRange { first: pair[0], last: pair[1] })).collect::<Vec<_>>()
            })
        };
        (of(6), of(17)).prop_map(|(tcp, udp)| [tcp, udp].concat()).prop_shuffle()
    }

    proptest! {
        #[test]
        fn a_port_finds_what_a_look_at_every_range_finds(
            ranges in ranges(),
            gone in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
            whole: bool,
        ) {
            let mut table = Ranges::default();
            let mut naive = Vec::new();
            for (service, (protocol, ports)) in ranges.iter().enumerate() {
                table.insert(Some((*protocol, *ports)), Frontend::plainest(service as u32));
                naive.push((*protocol, *ports, service as u32));
            }
            if whole {
                table.insert(None, Frontend::plainest(999));
            }
            for index in gone.iter().filter(|_| !ranges.is_empty()) {
                let (protocol, ports) = ranges[index.index(ranges.len())];
                table.remove(Some((protocol, ports)));
                naive.retain(|(other, others, _)| (*other, *others) != (protocol, ports));
            }
            prop_assert_eq!(table.is_empty(), naive.is_empty() && !whole);
            for protocol in [6, 17, 47, 50, 132] {
                for port in 0..201 {
                    let hit = naive.iter().find(|(other, ports, _)| *other == protocol && ports.contains(port));
                    let expected = hit.map(|(.., service)| *service).or(whole.then_some(999));
                    prop_assert_eq!(table.get(protocol, port).map(|found| found.service), expected);
                }
            }
        }
    }
}
