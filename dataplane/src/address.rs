//! An IP address of either family in one shape, for tables and keys.
//!
//! IPv4 addresses are held as IPv4-mapped IPv6 addresses (RFC 4291, 2.5.5.2), so that a comparison or a hash never
//! branches on the family. An IPv4-mapped address cannot be mistaken for a real IPv6 one: `parse` refuses those on the
//! wire (RFC 6890: never a valid source or destination outside of a host).

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const MAPPED: u64 = 0x0000_ffff_0000_0000;

/// An IPv4 or IPv6 address: 16 bytes, no padding, cheap to compare.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, bytemuck::Zeroable)]
#[repr(C)]
pub struct Address {
    high: u64,
    low: u64,
}

impl Address {
    /// `0.0.0.0`.
    pub const UNSPECIFIED_V4: Address = Address::v4(0);

    /// `255.255.255.255`: every station of the link.
    pub const BROADCAST_V4: Address = Address::v4(u32::MAX);

    /// `::`.
    pub const UNSPECIFIED_V6: Address = Address::v6(0);

    /// From the 32 bits of an IPv4 address, host order.
    #[must_use]
    pub const fn v4(bits: u32) -> Self {
        Address { high: 0, low: MAPPED | bits as u64 }
    }

    /// From the 128 bits of an IPv6 address, host order.
    #[must_use]
    pub const fn v6(bits: u128) -> Self {
        Address { high: (bits >> 64) as u64, low: bits as u64 }
    }

    /// Whether it is an IPv4 address.
    #[must_use]
    pub const fn is_v4(self) -> bool {
        self.high == 0 && self.low >> 32 == MAPPED >> 32
    }

    /// The IPv4 address, if it is one.
    #[must_use]
    pub const fn to_v4(self) -> Option<Ipv4Addr> {
        if self.is_v4() { Some(Ipv4Addr::from_bits(self.low as u32)) } else { None }
    }

    /// All 128 bits, IPv4 mapped.
    #[must_use]
    pub const fn bits(self) -> u128 {
        (self.high as u128) << 64 | self.low as u128
    }

    /// The two halves, for hashing.
    #[must_use]
    pub const fn halves(self) -> [u64; 2] {
        [self.high, self.low]
    }

    /// The last 32 bits: all that an IPv4 address has.
    #[inline(always)]
    #[must_use]
    pub const fn tail(self) -> u32 {
        self.low as u32
    }

    /// The 96 bits before the [`tail`](Self::tail), in its family's order.
    #[inline(always)]
    #[must_use]
    pub const fn head(self) -> [u32; 3] {
        [(self.high >> 32) as u32, self.high as u32, (self.low >> 32) as u32]
    }

    /// The address with this head and tail.
    #[inline(always)]
    #[must_use]
    pub const fn joined(head: [u32; 3], tail: u32) -> Self {
        let [a, b, c] = head;
        Address { high: (a as u64) << 32 | b as u64, low: (c as u64) << 32 | tail as u64 }
    }

    /// `0.0.0.0/8`, `127.0.0.0/8` or group and reserved addresses, and their IPv6 fellows: what may never stand as the source of a
    /// packet on a wire, nor as the destination of one to a single station (RFC 1122, 3.2.1.3; RFC 6890, 2.2; RFC 4291, 2.7).
    ///
    /// Link-local IPv4 is not among them: nodes serve pods on it (node-local DNS, metadata), and their routes say where it is.
    #[inline]
    #[must_use]
    pub const fn is_martian(self) -> bool {
        if self.is_v4() {
            let first = (self.low as u32) >> 24;
            first == 0 || first == 127 || first >= 224
        } else {
            // Multicast ff00::/8, unspecified ::, loopback ::1.
            self.high >> 56 == 0xff || (self.high == 0 && self.low <= 1)
        }
    }

    /// An IPv6 address that means something on one link or host only: link-local, unspecified, loopback (RFC 4291, 2.5.2,
    /// 2.5.3, 2.5.6). No router forwards from or to one.
    #[inline]
    #[must_use]
    pub const fn stays_on_its_link(self) -> bool {
        // fe80::/10, ::, ::1.
        self.high >> 54 == 0xfe80 >> 6 || (self.high == 0 && self.low <= 1)
    }

    /// A group address of its family, or `255.255.255.255`: for more than one station.
    #[must_use]
    pub fn is_for_many(self) -> bool {
        self == Address::BROADCAST_V4 || self.is_multicast()
    }

    /// A group address of its family.
    #[must_use]
    pub fn is_multicast(self) -> bool {
        IpAddr::from(self).is_multicast()
    }
}

impl From<Ipv4Addr> for Address {
    fn from(address: Ipv4Addr) -> Self {
        Address::v4(address.to_bits())
    }
}

impl From<Ipv6Addr> for Address {
    fn from(address: Ipv6Addr) -> Self {
        Address::v6(address.to_bits())
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => address.into(),
        }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        match address.to_v4() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6(Ipv6Addr::from_bits(address.bits())),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IpAddr::from(*self).fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn addresses_round_trip(v4 in any::<u32>(), v6 in any::<u128>()) {
            let v4 = IpAddr::V4(Ipv4Addr::from_bits(v4));
            prop_assert_eq!(IpAddr::from(Address::from(v4)), v4);
            prop_assert!(Address::from(v4).is_v4());
            let v6 = Ipv6Addr::from_bits(v6);
            prop_assume!(v6.to_ipv4_mapped().is_none());
            prop_assert_eq!(IpAddr::from(Address::from(v6)), IpAddr::V6(v6));
            for address in [Address::from(v4), Address::from(v6)] {
                prop_assert_eq!(Address::joined(address.head(), address.tail()), address);
            }
        }

        #[test]
        fn martians_are_what_std_says(v4 in any::<u32>(), v6 in any::<u128>(), first in any::<u8>(), few in 0..4u128) {
            for bits in [v4, v4 >> 8 | u32::from(first) << 24] {
                let address = Ipv4Addr::from_bits(bits);
                let [first, ..] = address.octets();
                let martian = first == 0 || address.is_loopback() || first >= 224;
                prop_assert_eq!(Address::from(address).is_martian(), martian);
            }
            for bits in [v6, v6 >> 8 | u128::from(first) << 120, few] {
                let address = Ipv6Addr::from_bits(bits);
                prop_assume!(address.to_ipv4_mapped().is_none());
                let martian = address.is_multicast() || address.is_loopback() || address.is_unspecified();
                prop_assert_eq!(Address::from(address).is_martian(), martian);
            }
        }
    }
}
