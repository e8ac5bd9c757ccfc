//! Hashes of levee's own: 64-bit, keyed, a few multiplications each.
//!
//! The mixing step is the folded multiply of wyhash (Wang Yi, 2019): the high half of a 128-bit product, xored into the low half.
//! Two uses, with two kinds of key:
//! - *Steering* ([`MAGLEV_KEY`]): the same on every balancer and in every version, or a fail-over would move flows.
//!   `known_answers` below pins it.
//! - *Flow tables*: a key drawn at start, so that nobody outside can aim packets at one bucket.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::address::Address;

/// A hash function's key.
#[derive(Debug, Clone, Copy)]
pub struct Key(pub [u64; 2]);

/// The key of everything that several balancers must agree on. The digits of pi: nothing up the sleeve.
pub const MAGLEV_KEY: Key = Key([0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344]);

const ODD: u64 = 0xa076_1d64_78bd_642f;

#[inline]
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

impl Key {
    /// Hash of one word.
    #[inline]
    #[must_use]
    pub const fn word(self, word: u64) -> u64 {
        let [a, b] = self.0;
        fold(fold(word ^ a, b ^ ODD), ODD ^ a)
    }

    /// Hash of an address and one more word.
    #[inline]
    #[must_use]
    pub const fn address(self, address: Address, word: u64) -> u64 {
        let [a, b] = self.0;
        let [high, low] = address.halves();
        fold(fold(high ^ a, low ^ b) ^ a, word ^ b ^ ODD)
    }

    /// Hash of twelve octets and one: the ends of an IPv4 packet and its protocol. For tables of one machine: it depends on the
    /// order of its bytes.
    #[inline(always)]
    #[must_use]
    pub const fn ends(self, (addresses, ports): (u64, u32), protocol: u8) -> u64 {
        let [one, other] = self.0;
        let right = (ports as u64) << 8 | protocol as u64;
        fold(fold(addresses ^ one, right ^ other) ^ ODD, one)
    }

    /// Hash of a five-tuple: source and destination with their ports, and the protocol.
    #[inline]
    #[must_use]
    pub const fn tuple(self, source: Address, destination: Address, ports: u32, protocol: u8) -> u64 {
        let [a, b] = self.0;
        let word = (ports as u64) << 8 | protocol as u64;
        let [source_high, source_low] = source.halves();
        let [destination_high, destination_low] = destination.halves();
        let left = fold(source_high ^ a, source_low ^ b);
        let right = fold(destination_high ^ b ^ ODD, destination_low ^ a);
        fold(left ^ word ^ a, right ^ b ^ ODD)
    }
}

/// Spreads a hash over `0..count` without a division (Lemire, "Fast random integer generation in an interval", 2019).
#[inline]
#[must_use]
pub const fn spread(hash: u64, count: usize) -> usize {
    ((hash as u128 * count as u128) >> 64) as usize
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        // These may never change: balancers of different versions stand side by side during an upgrade.
        let client = Address::v4(0xc000_0207);
        let vip = Address::v4(0x0a60_0001);
        assert_eq!(MAGLEV_KEY.tuple(client, vip, 40_000 << 16 | 80, 6), KNOWN_TUPLE);
        assert_eq!(MAGLEV_KEY.address(client, 80), KNOWN_ADDRESS);
    }
    const KNOWN_TUPLE: u64 = 12_745_782_019_676_639_177;
    const KNOWN_ADDRESS: u64 = 9_875_200_028_870_414_736;

    #[test]
    fn spread_is_even_over_clients_that_differ_little() {
        let vip = Address::v4(0x0a60_0001);
        let mut slots = [0u32; 64];
        for client in 0..6_400u32 {
            let hash = MAGLEV_KEY.tuple(Address::v4(0x0a00_0000 + client), vip, 40_000 << 16 | 80, 6);
            slots[spread(hash, 64)] += 1;
        }
        assert!(slots.iter().all(|count| (50..=160).contains(count)), "{slots:?}");
        let mut slots = [0u32; 64];
        for port in 0..6_400u32 {
            let hash = MAGLEV_KEY.tuple(Address::v4(0x0a00_0001), vip, (1024 + port) << 16 | 80, 6);
            slots[spread(hash, 64)] += 1;
        }
        assert!(slots.iter().all(|count| (50..=160).contains(count)), "{slots:?}");
    }
}
