//! Source addresses for `nat`, and which worker owns which of their ports.
//!
//! A reply to a translated flow may come in on another queue than its requests went out on. So each worker takes ports
//! out of its own part of the range, and any worker can tell from the port whose flow a reply belongs to.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use levee_api::net::PortRange;

use crate::address::Address;

/// An address with the ports of it that are levee's to use as a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnatRange {
    /// The address.
    pub address: Address,
    /// Its ports.
    pub ports: PortRange,
}

/// Levee's addresses towards this host's own IP stack, all ports of them: 169.254.76.1, a link-local one (RFC 3927), since
/// that link has two stations and its packets are on no other; and `fd76:6c65:7665:6500::1`, a unique local one (RFC 4193),
/// because a reply to a link-local address of IPv6 would have to name the link.
pub const INWARD: [SnatRange; 2] = [
    SnatRange { address: Address::v4(0xa9fe_4c01), ports: INWARD_PORTS },
    SnatRange { address: Address::v6(0xfd76_6c65_7665_6500_0000_0000_0000_0001), ports: INWARD_PORTS },
];

/// The worker that has every flow of `nat` in protocols without ports. A reply of those names nothing but two addresses, which all
/// clients of a backend have in common: only who has all of these flows can tell that a pair is taken.
pub const WITHOUT_PORTS: usize = 0;

const INWARD_PORTS: PortRange = PortRange { first: 1024, last: 65535 };

impl SnatRange {
    /// The ports of one worker out of `workers`; empty if there are more workers than ports.
    #[must_use]
    #[inline]
    pub fn part(&self, worker: usize, workers: usize) -> std::ops::Range<u32> {
        if workers <= 1 {
            // What comes out below, without two divisions.
            let end = u32::from(self.ports.first) + self.ports.count();
            return if worker == 0 { u32::from(self.ports.first)..end } else { end..end };
        }
        let bound = |n: usize| {
            let share = u64::from(self.ports.count()) * n as u64 / workers.max(1) as u64;
            u32::from(self.ports.first) + u32::try_from(share).unwrap_or(u32::MAX)
        };
        bound(worker)..bound(worker + 1)
    }

    /// The worker that owns a port of the range.
    #[must_use]
    pub fn worker(&self, port: u16, workers: usize) -> Option<usize> {
        if !self.ports.contains(port) {
            return None;
        }
        // The inverse of `part`: worker w has offset o when ⌊count·w/workers⌋ ≤ o < ⌊count·(w+1)/workers⌋.
        let offset = u64::from(port - self.ports.first);
        Some((((offset + 1) * workers.max(1) as u64 - 1) / u64::from(self.ports.count())) as usize)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_port_has_exactly_one_worker(first in 1u16.., count in 1u16..5000, workers in 1usize..17) {
            let last = first.saturating_add(count - 1);
            let range = SnatRange { address: Address::v4(1), ports: PortRange { first, last } };
            for port in first..=last {
                let owners: Vec<_> = (0..workers).filter(|worker| range.part(*worker, workers).contains(&u32::from(port))).collect();
                prop_assert_eq!(owners.len(), 1);
                prop_assert_eq!(range.worker(port, workers), owners.first().copied());
            }
            prop_assert_eq!(range.worker(first.wrapping_sub(1), workers), None);
        }
    }
}
