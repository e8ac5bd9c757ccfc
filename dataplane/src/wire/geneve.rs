//! Geneve (RFC 8926).

use super::header;

header! {
    /// The fixed part of a Geneve header; options and then a packet of [`protocol`](Self::protocol) follow it.
    GeneveHeader, LEN = 8 {
        /// Version (2 bits) and length of the options in units of 4 bytes (6 bits).
        0 version_options set_version_options: u8,
        /// Flags: see [`CONTROL`] and [`CRITICAL`]. The others are reserved, sent as 0 and ignored.
        1 flags set_flags: u8,
        /// EtherType of what is carried; see [`ETHERNET`].
        2 protocol set_protocol: u16,
        /// Virtual network identifier (24 bits), reserved (8 bits).
        4 network_reserved set_network_reserved: u32,
    }
}

/// A control packet, which carries none (RFC 8926, 3.4): not for forwarding.
pub const CONTROL: u8 = 0x80;
/// An option is there that whoever does not know it must drop the packet for.
pub const CRITICAL: u8 = 0x40;
/// "Transparent Ethernet bridging", in [`GeneveHeader::protocol`]: an Ethernet frame is carried.
pub const ETHERNET: u16 = 0x6558;

impl<B: core::borrow::Borrow<[u8; LEN]>> GeneveHeader<B> {
    /// Version: 0.
    #[inline(always)]
    pub fn version(&self) -> u8 {
        self.version_options() >> 6
    }

    /// Length in bytes of the options, 0 to 252.
    #[inline(always)]
    pub fn options_len(&self) -> usize {
        usize::from(self.version_options() & 0x3f) * 4
    }

    /// The virtual network identifier, 0 to 2²⁴ − 1.
    #[inline(always)]
    pub fn network(&self) -> u32 {
        self.network_reserved() >> 8
    }
}
