//! Longest-prefix match for both families.
//!
//! One hash map, keyed by (prefix, length), asked once for each length that exists, longest first. A node's table has
//! three or four lengths (pod CIDRs, the node network, the default), so a lookup is three or four probes; a trie would
//! be better only for tables of another kind than a cluster's.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use ipnet::IpNet;

use super::map::{Key, Map};
use crate::address::Address;
use crate::hash::MAGLEV_KEY;

#[derive(Clone, Copy, PartialEq, Eq)]
struct Prefix {
    network: Address,
    length: u8,
}

impl Key for Prefix {
    #[inline]
    fn hash(&self) -> u64 {
        MAGLEV_KEY.address(self.network, u64::from(self.length))
    }
}

/// A table from prefixes to values. Cloning is cheap; see [`Map`].
#[derive(Clone)]
pub struct Lpm<V> {
    prefixes: Map<Prefix, V>,
    /// (IPv4-mapped length, number of prefixes), longest first.
    lengths: Vec<(u8, u32)>,
}

impl<V: Clone> Default for Lpm<V> {
    fn default() -> Self {
        Lpm { prefixes: Map::default(), lengths: Vec::new() }
    }
}

#[inline]
fn masked(address: Address, length: u8) -> Address {
    let bits = address.bits();
    match 128u32.checked_sub(u32::from(length)) {
        Some(128) | None => Address::v6(0),
        Some(host) => Address::v6(bits >> host << host),
    }
}

/// Length in the mapped space: IPv4 prefixes lie below `::ffff:0:0/96`, so the families never meet.
fn prefix(net: IpNet) -> Prefix {
    let length = match net {
        IpNet::V4(net) => 96 + net.prefix_len(),
        IpNet::V6(net) => net.prefix_len(),
    };
    Prefix { network: masked(Address::from(net.addr()), length), length }
}

impl<V: Clone> Lpm<V> {
    /// Whether there are no prefixes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    /// Sets a prefix's value.
    pub fn insert(&mut self, net: IpNet, value: V) {
        let prefix = prefix(net);
        if self.prefixes.insert(prefix, value).is_none() {
            match self.lengths.iter_mut().find(|(length, _)| *length == prefix.length) {
                Some((_, count)) => *count += 1,
                None => {
                    self.lengths.push((prefix.length, 1));
                    self.lengths.sort_unstable_by(|a, b| b.cmp(a));
                }
            }
        }
    }

    /// The value of the longest prefix that holds the address.
    #[inline]
    #[must_use]
    pub fn get(&self, address: Address) -> Option<&V> {
        let v4 = address.is_v4();
        for (length, _) in &self.lengths {
            // `::/0` must not answer for IPv4, nor any IPv6 prefix shorter than the mapped range.
            if v4 && *length < 96 {
                return None;
            }
            if let Some(value) = self.prefixes.get(&Prefix { network: masked(address, *length), length: *length }) {
                return Some(value);
            }
        }
        None
    }

    /// Every value.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.prefixes.iter().map(|(_, value)| value)
    }

    /// Whether any prefix holds the address.
    #[inline]
    #[must_use]
    pub fn contains(&self, address: Address) -> bool {
        self.get(address).is_some()
    }
}

impl<V: Clone> FromIterator<(IpNet, V)> for Lpm<V> {
    fn from_iter<I: IntoIterator<Item = (IpNet, V)>>(prefixes: I) -> Self {
        let mut table = Lpm::default();
        for (net, value) in prefixes {
            table.insert(net, value);
        }
        table
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use ipnet::{Ipv4Net, Ipv6Net};
    use proptest::prelude::*;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    fn net() -> impl Strategy<Value = IpNet> {
        prop_oneof![
            (0..4u32, 0..=32u8).prop_map(|(bits, length)| Ipv4Net::new(
                Ipv4Addr::from_bits(bits.wrapping_mul(0x4100_0001)),
                length
            )
            .unwrap()
            .trunc()
            .into()),
            (0..4u128, 0..=128u8).prop_map(|(bits, length)| Ipv6Net::new(
                Ipv6Addr::from_bits(bits.wrapping_mul(0x4100_0001 << 90 | 1)),
                length
            )
            .unwrap()
            .trunc()
            .into()),
        ]
    }

    proptest! {
        #[test]
        fn it_finds_what_a_search_over_all_finds(nets in proptest::collection::vec(net(), 0..20), v4 in 0..8u32, v6 in 0..8u128) {
            let table: Lpm<IpNet> = nets.iter().map(|net| (*net, *net)).collect();
            for address in [IpAddr::from(Ipv4Addr::from_bits(v4.wrapping_mul(0x4100_0001))), IpAddr::from(Ipv6Addr::from_bits(v6.wrapping_mul(0x4100_0001 << 90 | 1)))] {
                let expected = nets.iter().filter(|net| net.contains(&address)).max_by_key(|net| net.prefix_len());
                prop_assert_eq!(table.get(address.into()), expected);
            }
        }
    }
}
