//! Ethernet, IPv4 without options, and TCP's fixed part or UDP's, read and written some fields at a time.
//!
//! ```text
//!  0             6        12  14                         22                26       30            34     38     54
//!  | destination | source | type | version … fragment    | TTL … checksum  | source | destination | ports | …    |
//!  |<-- link ------->|           |<------- opening ----->|<------- middle ------->|
//!                |<--- origin -->|                                         |<---- addresses ----->|
//! ```
//!
//! Eight octets are one load, where the fields in them are five. What the words mean is the protocols' own files' to say; here
//! are only their places. A word is what stands in memory, its first octet the lowest: sums do not care in which order a
//! machine has its bytes, as long as all of them are in the same (RFC 1071, 2 (B)).

use super::{Field, header};

/// As they stand in memory, the first octet the lowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Octets<T>(pub T);

impl Field<8> for Octets<u64> {
    #[inline(always)]
    fn from_wire(bytes: [u8; 8]) -> Self {
        Octets(u64::from_le_bytes(bytes))
    }
    #[inline(always)]
    fn to_wire(self) -> [u8; 8] {
        self.0.to_le_bytes()
    }
}

impl Field<4> for Octets<u32> {
    #[inline(always)]
    fn from_wire(bytes: [u8; 4]) -> Self {
        Octets(u32::from_le_bytes(bytes))
    }
    #[inline(always)]
    fn to_wire(self) -> [u8; 4] {
        self.0.to_le_bytes()
    }
}

header! {
    /// The head of a plain IPv4 packet's frame.
    PlainHeader, LEN = 54 {
        /// Destination MAC, and two octets of the source.
        0 link set_link: Octets<u64>,
        /// Source MAC, EtherType.
        6 origin set_origin: Octets<u64>,
        /// The last four octets of the source.
        8 link_end set_link_end: Octets<u32>,
        /// Version and header length, type of service, total length, identification, flags and fragment offset.
        14 opening set_opening: Octets<u64>,
        /// Total length.
        16 total_length set_total_length: u16,
        /// Flags and fragment offset.
        20 flags_offset set_flags_offset: u16,
        /// TTL, protocol, checksum, source address.
        22 middle set_middle: Octets<u64>,
        /// TTL.
        22 ttl set_ttl: u8,
        /// Protocol number.
        23 protocol set_protocol: u8,
        /// Header checksum.
        24 checksum set_checksum: [u8; 2],
        /// Destination address.
        30 destination set_destination: Octets<u32>,
    }
}

/// A MAC as the first six octets of a word, and the others zero.
#[inline(always)]
#[must_use]
pub const fn mac_word([a, b, c, d, e, f]: [u8; 6]) -> u64 {
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
}
