//! Ethernet, IPv4 without options, and TCP's fixed part or UDP's, read and written some fields at a time.
//!
//! ```text
//!  0             6        12  14                         22                26       30            34     38     54
//!  | destination | source | type | version … fragment    | TTL … checksum | source | destination | ports | …    |
//!  |<-- link ------->|           |<------- opening ----->|<--- middle --->|<---- addresses ----->|
//!                |<--- origin -->|
//! ```
//!
//! Eight octets are one load, where the fields in them are five. What the words mean is the protocols' own files' to say; here
//! are only their places. A word is what stands in memory, its first octet the lowest: sums do not care in which order a
//! machine has its bytes, as long as all of them are in the same (RFC 1071, 2 (B)).

use super::{Field, header};

/// As they stand in memory, the first octet the lowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Octets<T>(pub T);

macro_rules! octets {
    ($($word:ident: $len:literal),+) => {$(
        impl Field<$len> for Octets<$word> {
            #[inline(always)]
            fn from_wire(bytes: [u8; $len]) -> Self {
                Octets($word::from_le_bytes(bytes))
            }
            #[inline(always)]
            fn to_wire(self) -> [u8; $len] {
                self.0.to_le_bytes()
            }
        }
    )+};
}

octets!(u16: 2, u32: 4, u64: 8);

header! {
    /// The head of a plain IPv4 packet's frame.
    PlainHeader, LEN = 54 {
        /// Destination MAC, and two octets of the source.
        0 link set_link: Octets<u64>,
        /// The first four octets of the destination MAC.
        0 station set_station: Octets<u32>,
        /// Source MAC, EtherType.
        6 origin set_origin: Octets<u64>,
        /// The first four octets of the source.
        6 source set_source: Octets<u32>,
        /// Its last two.
        10 source_end set_source_end: Octets<u16>,
        /// EtherType.
        12 ethertype set_ethertype: u16,
        /// Version and header length.
        14 version set_version: u8,
        /// Version and header length, type of service, total length, identification, flags and fragment offset.
        14 opening set_opening: Octets<u64>,
        /// Total length.
        16 total_length set_total_length: u16,
        /// Flags and fragment offset.
        20 flags_offset set_flags_offset: u16,
        /// TTL, protocol, checksum.
        22 middle set_middle: Octets<u32>,
        /// TTL.
        22 ttl set_ttl: u8,
        /// Protocol number.
        23 protocol set_protocol: u8,
        /// Header checksum.
        24 checksum set_checksum: [u8; 2],
    }
}

/// A MAC as the first six octets of a word, and the others zero.
#[inline(always)]
#[must_use]
pub const fn mac_word([a, b, c, d, e, f]: [u8; 6]) -> u64 {
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
}
