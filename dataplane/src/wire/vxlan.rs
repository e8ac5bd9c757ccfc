//! VXLAN (RFC 7348).

use super::header;

header! {
    /// A VXLAN header; an Ethernet frame follows it.
    VxlanHeader, LEN = 8 {
        /// Flags (8 bits, see [`NETWORK_IS_VALID`]), reserved (24 bits). What is reserved is sent as 0 and ignored (RFC 7348, 5).
        0 flags_reserved set_flags_reserved: u32,
        /// Virtual network identifier (24 bits), reserved (8 bits).
        4 network_reserved set_network_reserved: u32,
    }
}

/// The only flag, in [`VxlanHeader::flags_reserved`]: the network identifier counts. Must be set.
pub const NETWORK_IS_VALID: u32 = 0x08 << 24;

impl<B: core::borrow::Borrow<[u8; LEN]>> VxlanHeader<B> {
    /// The virtual network identifier, 0 to 2²⁴ − 1.
    #[inline(always)]
    pub fn network(&self) -> u32 {
        self.network_reserved() >> 8
    }
}
