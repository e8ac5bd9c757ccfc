//! What each worker may take a source out of, ready to be taken: its ports of all SNAT addresses of a family, as one pool.
//!
//! ```text
//!   ranges:   192.0.2.1  1024-65535      192.0.2.2  1024-65535        two workers
//!                │ first half │ second      │ first half │ second
//!   pool of worker 0:  0 ………… 32255 | 32256 ………… 64511
//! ```
//!
//! The addresses are as if they were one range, so that the first is not used up before the second is looked at. They are set when the
//! dataplane starts, and counted then: a flow that begins finds its port by one number. Which worker has which port is said by
//! [`SnatRange::part`].

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::snat::SnatRange;
use crate::hash::spread;
use crate::verdict::Endpoint;

/// Addresses that serve as sources, whole and by worker.
#[derive(Default)]
pub struct Sources {
    ranges: Box<[SnatRange]>,
    /// Of each worker, that of IPv6 before that of IPv4.
    pools: Box<[Pool]>,
}

/// One worker's sources of one family.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pool {
    parts: Box<[Part]>,
    count: u32,
}

/// Those of one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    /// The first port.
    first: Endpoint,
    /// How many there are before it, and how many in it.
    begin: u32,
    count: u32,
}

impl Part {
    /// One of the pool's sources, if it is in this part.
    #[inline(always)]
    fn get(&self, number: u32) -> Option<Endpoint> {
        let offset = number.wrapping_sub(self.begin);
        (offset < self.count).then(|| Endpoint { port: self.first.port.wrapping_add(offset as u16), ..self.first })
    }
}

impl Sources {
    /// Those in `ranges`, for so many workers.
    #[must_use]
    pub fn new(ranges: &[SnatRange], workers: usize) -> Self {
        let families = (0..workers.max(1)).flat_map(|worker| [(worker, false), (worker, true)]);
        Sources {
            ranges: ranges.into(),
            pools: families.map(|(worker, v4)| Pool::new(ranges, v4, worker, workers)).collect(),
        }
    }

    /// All of them.
    #[inline]
    #[must_use]
    pub fn ranges(&self) -> &[SnatRange] {
        &self.ranges
    }

    /// A worker's of one family; `None` if there are none of that family, whoever's.
    #[inline(always)]
    #[must_use]
    pub fn pool(&self, worker: usize, v4: bool) -> Option<&Pool> {
        self.pools.get(worker * 2 + usize::from(v4)).filter(|pool| !pool.parts.is_empty())
    }
}

impl Pool {
    fn new(ranges: &[SnatRange], v4: bool, worker: usize, workers: usize) -> Self {
        let mut all = 0;
        let of_family = ranges.iter().filter(|range| range.address.is_v4() == v4);
        let parts = of_family.map(|range| {
            let part = range.part(worker, workers);
            let (begin, count) = (all, part.end.saturating_sub(part.start));
            all += count;
            // A part without ports may begin beyond the last; its first port is never asked for.
            let port = u16::try_from(part.start).unwrap_or(u16::MAX);
            Part { first: Endpoint { address: range.address, port }, begin, count }
        });
        Pool { parts: parts.collect(), count: all }
    }

    /// How many sources there are: addresses × ports.
    #[inline(always)]
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// One of them; `None` beyond the last.
    #[inline]
    #[must_use]
    pub fn get(&self, number: u32) -> Option<Endpoint> {
        self.parts.iter().find_map(|part| part.get(number))
    }

    /// The one that a hash names: each as likely as any other. `None` if there is none.
    #[inline(always)]
    #[must_use]
    pub fn pick(&self, hash: u64) -> Option<Endpoint> {
        let number = spread(hash, self.count as usize) as u32;
        // Where all addresses have as many ports, as they nearly always have, it need not be looked for.
        let likely = self.parts.get(spread(hash, self.parts.len()));
        likely.and_then(|part| part.get(number)).or_else(|| self.get(number))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use levee_api::net::PortRange;
    use proptest::prelude::*;

    use super::*;
    use crate::address::Address;

    fn range() -> impl Strategy<Value = SnatRange> {
        (0u32..4, any::<bool>(), 1u16.., 0u16..40).prop_map(|(last, v4, first, more)| SnatRange {
            address: if v4 { Address::v4(0xc000_0200 + last) } else { Address::v6(0x2001 << 112 | u128::from(last)) },
            ports: PortRange { first, last: first.saturating_add(more) },
        })
    }

    proptest! {
        #[test]
        fn a_pool_is_all_ports_of_its_worker_and_family_one_after_the_other(
            ranges in proptest::collection::vec(range(), 0..6), workers in 1usize..9, hash: u64,
        ) {
            let sources = Sources::new(&ranges, workers);
            prop_assert_eq!(sources.ranges(), &ranges);
            for (worker, v4) in (0..workers).flat_map(|worker| [(worker, false), (worker, true)]) {
                let mut expected = Vec::new();
                for range in ranges.iter().filter(|range| range.address.is_v4() == v4) {
                    expected.extend(range.part(worker, workers).map(|port| Endpoint { address: range.address, port: port as u16 }));
                }
                let pool = sources.pool(worker, v4);
                prop_assert_eq!(pool.is_some(), ranges.iter().any(|range| range.address.is_v4() == v4));
                let pool = pool.cloned().unwrap_or_default();
                prop_assert_eq!(pool.count() as usize, expected.len());
                prop_assert_eq!(pool.pick(hash), expected.get(spread(hash, expected.len())).copied());
                prop_assert_eq!((0..pool.count()).map(|number| pool.get(number).unwrap()).collect::<Vec<_>>(), expected);
                prop_assert_eq!(pool.get(pool.count()), None);
            }
            prop_assert!(sources.pool(workers, true).is_none());
        }
    }
}
