//! IPv4 (RFC 791).

use super::header;
use crate::checksum::Sum;

header! {
    /// An IPv4 header without its options.
    Ipv4Header, LEN = 20 {
        /// Version (4 bits) and header length in 32-bit words (4 bits).
        0 version_ihl set_version_ihl: u8,
        /// Type of service: DSCP and ECN (RFC 2474, RFC 3168).
        1 tos set_tos: u8,
        /// Length in bytes of header and payload.
        2 total_length set_total_length: u16,
        /// Identification, for reassembly.
        4 identification set_identification: u16,
        /// Flags (3 bits) and fragment offset in units of 8 bytes (13 bits).
        6 flags_offset set_flags_offset: u16,
        /// Time to live.
        8 ttl set_ttl: u8,
        /// Protocol (IANA, "Assigned Internet Protocol Numbers").
        9 protocol set_protocol: u8,
        /// Checksum over the header.
        10 checksum set_checksum: u16,
        /// Source address.
        12 source set_source: u32,
        /// Destination address.
        16 destination set_destination: u32,
    }
}

/// [`Ipv4Header::version_ihl`] of a header without options.
pub const VERSION_IHL: u8 = 0x45;
/// The protocol number of IPv4 inside of another packet (RFC 2003).
pub const PROTOCOL: u8 = 4;
/// "Don't fragment", in [`Ipv4Header::flags_offset`].
pub const DONT_FRAGMENT: u16 = 0x4000;
/// "More fragments", in [`Ipv4Header::flags_offset`].
pub const MORE_FRAGMENTS: u16 = 0x2000;
/// The fragment offset, in [`Ipv4Header::flags_offset`].
pub const OFFSET_MASK: u16 = 0x1fff;

/// Kinds of options (RFC 791, 3.1).
pub mod option {
    /// The end of the list.
    pub const END: u8 = 0;
    /// Nothing, to align the next one.
    pub const NO_OPERATION: u8 = 1;
    /// Loose source and record route.
    pub const LOOSE_SOURCE_ROUTE: u8 = 131;
    /// Strict source and record route.
    pub const STRICT_SOURCE_ROUTE: u8 = 137;
}

impl<B: core::borrow::Borrow<[u8; LEN]>> Ipv4Header<B> {
    /// Version: 4.
    #[inline(always)]
    pub fn version(&self) -> u8 {
        self.version_ihl() >> 4
    }

    /// Length in bytes of the header with its options, 0 to 60.
    #[inline(always)]
    pub fn header_len(&self) -> usize {
        usize::from(self.version_ihl() & 0xf) * 4
    }
}

impl<B: core::borrow::BorrowMut<[u8; LEN]>> Ipv4Header<B> {
    /// Computes the checksum of a header without options afresh.
    #[inline]
    pub fn fill_checksum(&mut self) {
        self.set_checksum(0);
        let checksum = Sum::of(self.bytes()).checksum();
        self.set_checksum(checksum);
    }
}
