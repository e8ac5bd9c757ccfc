//! The Internet checksum: whole (RFC 1071), and updated in place (RFC 1624).
//!
//! A checksum is the complement of the one's complement sum of 16-bit words. In that arithmetic `!x` is `-x`, and
//! 0x0000 and 0xffff are both zero; a sum of anything but zeros folds to 0xffff, so that a checksum computed here from
//! real headers is never 0xffff, except in UDP, which sends a computed 0 as 0xffff because 0 means "none".
//!
//! **Partial checksums.** A frame from a sender with checksum offload, read before any hardware saw it (veth!), has only
//! the folded sum of the pseudo header in its TCP or UDP checksum field, *not* complemented, and nobody after an AF_XDP
//! socket will finish it. [`Update`] must not be applied to such a field: it would move it the wrong way (a partial
//! checksum follows its addresses with the opposite sign, and its ports not at all). It is finished first:
//! [`complete`](crate::rewrite::complete) does.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use bytemuck::{Pod, Zeroable};

/// A one's complement sum that is still being added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum(u64);

impl Sum {
    /// The sum of some bytes, as big-endian 16-bit words; an odd last byte is the high half of a word.
    #[inline]
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Sum(u64::from(u16::from_be(fold(native(bytes)))))
    }

    /// The sum of the pseudo header of TCP and UDP over IPv4 (RFC 9293, 3.1): addresses, zero, protocol, length in bytes
    /// of the transport header and payload.
    #[inline]
    #[must_use]
    pub const fn pseudo_v4(source: u32, destination: u32, protocol: u8, length: u16) -> Self {
        Sum(source as u64 + destination as u64 + protocol as u64 + length as u64)
    }

    /// The sum of the pseudo header of IPv6 (RFC 8200, 8.1).
    #[inline]
    #[must_use]
    pub const fn pseudo_v6(source: u128, destination: u128, protocol: u8, length: u32) -> Self {
        Sum(words(source) + words(destination) + protocol as u64 + length as u64)
    }

    /// Both sums together. All but the last must be of an even number of bytes.
    #[inline]
    #[must_use]
    pub const fn and(self, other: Sum) -> Self {
        Sum(self.0 + other.0)
    }

    /// The sum itself, folded to 16 bits: what a partial checksum field holds. Over a header or packet with a right
    /// checksum in it, it is 0xffff.
    #[inline]
    #[must_use]
    pub const fn fold(self) -> u16 {
        fold(self.0)
    }

    /// The checksum: the sum's complement.
    #[inline]
    #[must_use]
    pub const fn checksum(self) -> u16 {
        !fold(self.0)
    }
}

/// Whether the sum of some bytes, with a checksum among them, is the zero that it should be. In either byte order: both
/// zeros read the same backwards.
#[inline(always)]
#[must_use]
pub fn is_right(bytes: &[u8]) -> bool {
    fold(native(bytes)) == 0xffff
}

/// The same of an IPv4 header without options, from words of it as they stand in memory.
#[inline(always)]
#[must_use]
pub const fn are_right([first, last]: [u64; 2], middle: u32) -> bool {
    Sum64(first).and(middle as u64).and(last).is_zero()
}

/// Whether a checksum of TCP or UDP over IPv4 is the folded sum of the pseudo header, and thus not finished; both zeros are one here. The
/// addresses are as they stand in memory. The length of header and payload is `total - less`.
#[inline(always)]
#[must_use]
pub const fn is_partial(addresses: u64, protocol: u8, total: u16, less: u16, checksum: u16) -> bool {
    // What is known beforehand in one constant, so that it is one in the machine's code.
    let known = (protocol as u16).to_be() as u64 + !less.to_be() as u64 + 0xffff;
    Sum64(known - checksum.to_be() as u64 + total.to_be() as u64).and(addresses).is_zero()
}

/// A one's complement sum of 64-bit words, and so of the 16-bit words in them: 2^64, divided by 0xffff, leaves 1.
#[derive(Clone, Copy)]
struct Sum64(u64);

impl Sum64 {
    #[inline(always)]
    const fn and(self, word: u64) -> Self {
        let (sum, carry) = self.0.overflowing_add(word);
        Sum64(sum + carry as u64)
    }

    /// Whether it is one of the zeros: a multiple of 0xffff, which a multiplication by the inverse shows (Granlund and Montgomery,
    /// "Division by invariant integers using multiplication", 1994, section 9), where folding takes eight steps.
    #[inline(always)]
    const fn is_zero(self) -> bool {
        const INVERSE: u64 = 0xfffe_fffe_fffe_ffff;
        const _: () = assert!(INVERSE.wrapping_mul(0xffff) == 1);
        self.0.wrapping_mul(INVERSE) <= u64::MAX / 0xffff
    }
}

/// What a change of fields does to the checksums over them: `~m + m'` summed over every field (RFC 1624, equation 3).
///
/// Only words at an even offset from the start of what is summed may be changed; every field of every header here is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Update(u64);

impl Update {
    /// Nothing changed.
    pub const NONE: Update = Update(0);

    /// A 16-bit field changes: a port, or TTL and protocol, or type and code.
    #[inline(always)]
    #[must_use]
    pub const fn u16(self, old: u16, new: u16) -> Self {
        Update(self.0 + !old as u64 + new as u64)
    }

    /// A 32-bit field changes: an IPv4 address.
    #[inline(always)]
    #[must_use]
    pub const fn u32(self, old: u32, new: u32) -> Self {
        Update(self.0 + !old as u64 + new as u64)
    }

    /// A 128-bit field changes: an IPv6 address.
    #[inline(always)]
    #[must_use]
    pub const fn u128(self, old: u128, new: u128) -> Self {
        Update(self.0 + words(!old) + words(new))
    }

    /// The checksum after the change: `~(~HC + ~m + m')`.
    #[inline(always)]
    #[must_use]
    pub const fn apply(self, checksum: u16) -> u16 {
        !fold(self.0 + !checksum as u64)
    }

    /// The UDP checksum after the change: none stays none, and a computed 0 is sent as 0xffff (RFC 768).
    #[inline(always)]
    #[must_use]
    pub const fn apply_udp(self, checksum: u16) -> u16 {
        if checksum == 0 { 0 } else { udp(self.apply(checksum)) }
    }
}

/// A computed UDP checksum as it is sent: 0 as 0xffff.
#[inline(always)]
#[must_use]
pub const fn udp(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

/// The sum of 16-bit words in the machine's byte order: but for being in that order it is the right one (RFC 1071, 2 (B)).
/// So 32-bit loads into 64 bits do, which the compiler makes vectors of. It would overflow after 2^32 words.
#[inline(always)]
fn native(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    let mut tail = [0; 4];
    for (to, from) in tail.iter_mut().zip(rest) {
        *to = *from;
    }
    sum + u64::from(u32::from_ne_bytes(tail))
}

impl Update {
    /// The same in 16 bits.
    #[inline(always)]
    #[must_use]
    pub const fn folded(self) -> Delta {
        Delta(fold(self.0))
    }
}

/// An [`Update`] in 16 bits, to be kept with a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(transparent)]
pub struct Delta(u16);

impl Delta {
    /// Ready to be applied.
    #[inline(always)]
    #[must_use]
    pub const fn ready(self) -> Shift {
        Shift(self.0 as u32)
    }

    /// The change taken back, ready to be applied.
    #[inline(always)]
    #[must_use]
    pub const fn reversed(self) -> Shift {
        // Not 0, as no update is of fields that have changed.
        Shift(2 * 0xffff - self.0 as u32)
    }
}

/// A [`Delta`] on its way to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shift(u32);

impl Shift {
    /// No change.
    pub const NONE: Shift = Shift(0);

    /// In an IPv4 header the TTL becomes one less besides, which is all that changes of its 16 bits: whatever they are, `~m + m'` is
    /// the same. For words in the machine's byte order.
    #[inline(always)]
    #[must_use]
    pub const fn with_ttl(self) -> Self {
        Shift(self.0 + u16::from_ne_bytes([0xfe, 0xff]) as u32)
    }

    /// The checksum after the change.
    #[inline(always)]
    #[must_use]
    pub const fn apply(self, checksum: u16) -> u16 {
        let sum = self.0 + !checksum as u32;
        !((sum.wrapping_add(sum.rotate_right(16)) >> 16) as u16)
    }

    /// The same of UDP's.
    #[inline(always)]
    #[must_use]
    pub const fn apply_udp(self, checksum: u16) -> u16 {
        if checksum == 0 { 0 } else { udp(self.apply(checksum)) }
    }
}

/// What a translation does to both checksums of a packet: as a flow keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Deltas {
    /// The IPv4 header's: addresses.
    pub network: Delta,
    /// TCP's and UDP's: addresses and ports.
    pub transport: Delta,
}

impl Deltas {
    /// Of packets that are translated so, and sent on as a router does.
    #[inline(always)]
    #[must_use]
    pub const fn ready(self) -> Shifts {
        Shifts { network: self.network.ready().with_ttl(), transport: self.transport.ready() }
    }

    /// Of those of the other direction.
    #[inline(always)]
    #[must_use]
    pub const fn reversed(self) -> Shifts {
        Shifts { network: self.network.reversed().with_ttl(), transport: self.transport.reversed() }
    }
}

/// The same on its way to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shifts {
    /// The IPv4 header's, with its TTL.
    pub network: Shift,
    /// TCP's and UDP's.
    pub transport: Shift,
}

impl Shifts {
    /// Of packets that are only sent on.
    pub const ROUTED: Shifts = Shifts { network: Shift::NONE.with_ttl(), transport: Shift::NONE };
}

/// The four 32-bit words of an IPv6 address, summed.
const fn words(bits: u128) -> u64 {
    const LOW: u64 = 0xffff_ffff;
    let (high, low) = ((bits >> 64) as u64, bits as u64);
    (high >> 32) + (high & LOW) + (low >> 32) + (low & LOW)
}

/// Adds halves, and the carry back in, until 16 bits are left: in a value added to itself turned halfway round, the carry
/// of the lower half goes into the upper. Zero only if the sum is.
#[inline(always)]
const fn fold(sum: u64) -> u16 {
    let sum = (sum.wrapping_add(sum.rotate_right(32)) >> 32) as u32;
    (sum.wrapping_add(sum.rotate_right(16)) >> 16) as u16
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071, 1, word for word.
    fn plain(bytes: &[u8]) -> u16 {
        let mut sum: u32 = 0;
        for word in bytes.chunks(2) {
            sum += u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0));
            sum = (sum >> 16) + (sum & 0xffff);
        }
        sum as u16
    }

    #[test]
    fn rfc_1071_section_3() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::of(&bytes).fold(), 0xddf2);
        assert_eq!(Sum::of(&bytes).checksum(), !0xddf2);
    }

    #[test]
    fn rfc_1624_section_4() {
        assert_eq!(Update::NONE.u16(0x5555, 0x3285).apply(0xdd2f), 0x0000);
    }

    #[test]
    fn udp_zero() {
        let update = Update::NONE.u16(0x5555, 0x3285);
        assert_eq!(update.apply_udp(0), 0, "no checksum stays none");
        assert_eq!(update.apply_udp(0xdd2f), 0xffff, "a computed 0 is sent as ffff");
        assert_eq!(Update::NONE.u16(0x3285, 0x5555).apply_udp(0xffff), 0xdd2f, "and back");
    }

    /// Why a partial checksum must be finished before it is updated: see the module's header.
    #[test]
    fn a_partial_checksum_goes_the_other_way() {
        let (client, vip, backend) = (0xc000_0207, 0x0a60_0001, 0x0a01_0203);
        let before = Sum::pseudo_v4(client, vip, 6, 20).fold();
        let after = Sum::pseudo_v4(client, backend, 6, 20).fold();
        assert_ne!(Update::NONE.u32(vip, backend).apply(before), after);
        assert_eq!(Update::NONE.u32(backend, vip).apply(before), after);
    }

    proptest! {
        #[test]
        fn sums_agree_with_the_plain_one(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Sum::of(&bytes).fold(), plain(&bytes));
            prop_assert_eq!(is_right(&bytes), plain(&bytes) == 0xffff);
            let right = [&bytes[..bytes.len() & !1], &(!plain(&bytes[..bytes.len() & !1])).to_be_bytes()].concat();
            prop_assert_eq!(is_right(&right), right.iter().any(|byte| *byte != 0));
        }

        #[test]
        fn parts_add_up(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..100) {
            let (head, tail) = bytes.split_at((at * 2).min(bytes.len() & !1));
            prop_assert_eq!(Sum::of(head).and(Sum::of(tail)).fold(), plain(&bytes));
        }

        #[test]
        fn pseudo_headers_are_sums_of_their_bytes(
            v4: [u32; 2], v6: [u128; 2], protocol: u8, length: u16, less in 0..60u16, off: u16,
        ) {
            let mut bytes = [v4[0].to_be_bytes(), v4[1].to_be_bytes()].concat();
            bytes.extend([0, protocol]);
            bytes.extend(length.to_be_bytes());
            prop_assert_eq!(Sum::pseudo_v4(v4[0], v4[1], protocol, length).fold(), plain(&bytes));

            let native = v4.map(|word| u32::from_ne_bytes(word.to_be_bytes()));
            let (sum, addresses) = (plain(&bytes), u64::from(native[0]) + u64::from(native[1]));
            let partial = |checksum| is_partial(addresses, protocol, length.wrapping_add(less), less, checksum);
            // Where that is no length, it is not asked.
            if length.checked_add(less).is_some() {
                prop_assert!(partial(sum));
                let other = sum.wrapping_add(off);
                prop_assert_eq!(partial(other), other % 0xffff == sum % 0xffff);
            }

            let mut bytes = [v6[0].to_be_bytes(), v6[1].to_be_bytes()].concat();
            bytes.extend(u32::from(length).to_be_bytes());
            bytes.extend([0, 0, 0, protocol]);
            prop_assert_eq!(Sum::pseudo_v6(v6[0], v6[1], protocol, length.into()).fold(), plain(&bytes));
        }

        /// A version, as every header has it, keeps the sum from being zero: see the module's header.
        #[test]
        fn an_update_is_a_recomputation(
            mut bytes in proptest::collection::vec(any::<u8>(), 40..64),
            short: u16, long: u32, longest: u128,
        ) {
            bytes[0] = 0x45;
            let before = Sum::of(&bytes).checksum();
            let old_short = u16::from_be_bytes(bytes[2..4].try_into().unwrap());
            let old_long = u32::from_be_bytes(bytes[6..10].try_into().unwrap());
            let old_longest = u128::from_be_bytes(bytes[12..28].try_into().unwrap());
            bytes[2..4].copy_from_slice(&short.to_be_bytes());
            bytes[6..10].copy_from_slice(&long.to_be_bytes());
            bytes[12..28].copy_from_slice(&longest.to_be_bytes());
            let update = Update::NONE.u16(old_short, short).u32(old_long, long).u128(old_longest, longest);
            let after = Sum::of(&bytes).checksum();
            prop_assert_eq!(update.apply(before), after);
            // As UDP sends it: a 0 would be none.
            prop_assert_eq!(update.apply_udp(udp(before)), udp(after));
            prop_assert_eq!(update.folded().ready().apply(before), after);
            prop_assert_eq!(update.folded().ready().apply_udp(udp(before)), udp(after));
            prop_assert_eq!(update.folded().reversed().apply(after), before);
        }

        #[test]
        fn a_header_is_judged_by_its_words_as_by_its_bytes(mut header: [u8; 20], off in 0..3u16) {
            header[0] = 0x45;
            header[10..12].copy_from_slice(&[0, 0]);
            let checksum = Sum::of(&header).checksum();
            header[10..12].copy_from_slice(&checksum.wrapping_add(off).to_be_bytes());
            let [first, last] = [0, 12].map(|at| u64::from_le_bytes(header[at..at + 8].try_into().unwrap()));
            let middle = u32::from_le_bytes(header[8..12].try_into().unwrap());
            prop_assert_eq!(are_right([first, last], middle), is_right(&header));
        }

        /// Of one that passes a router, which changes its addresses besides.
        #[test]
        fn a_header_that_is_sent_on_is_right(mut header: [u8; 20], ttl in 1..=255u8, addresses: u64) {
            (header[0], header[8]) = (0x45, ttl);
            header[10..12].copy_from_slice(&[0, 0]);
            let checksum = Sum::of(&header).checksum();
            let native = |word: u64| [word as u32, (word >> 32) as u32];
            let old = native(u64::from_ne_bytes(header[12..].try_into().unwrap()));
            let update = old.into_iter().zip(native(addresses)).fold(Update::NONE, |update, (old, new)| update.u32(old, new));
            header[8] -= 1;
            header[12..].copy_from_slice(&addresses.to_ne_bytes());
            let after = update.folded().ready().with_ttl().apply(u16::from_ne_bytes(checksum.to_be_bytes()));
            prop_assert_eq!(after.to_ne_bytes(), Sum::of(&header).checksum().to_be_bytes());
        }
    }
}
