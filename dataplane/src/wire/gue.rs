//! Generic UDP Encapsulation (draft-ietf-intarea-gue-09, as `net/ipv4/fou_core.c` of Linux has it).

use super::header;

header! {
    /// The fixed part of a GUE header of variant 0; its optional fields and then a packet follow it.
    ///
    /// In variant 1 there is no header: the first two bits are those of an IP version, and the packet is there at once.
    GueHeader, LEN = 4 {
        /// Variant (2 bits), control (1 bit), length of the optional fields in units of 4 bytes (5 bits).
        0 variant_control_length set_variant_control_length: u8,
        /// Protocol number of what is carried, or the type of a control message.
        1 protocol set_protocol: u8,
        /// Which optional fields there are.
        2 flags set_flags: u16,
    }
}

/// The control bit, in [`GueHeader::variant_control_length`]: no packet is carried.
pub const CONTROL: u8 = 0x20;

impl<B: core::borrow::Borrow<[u8; LEN]>> GueHeader<B> {
    /// Variant: 0, or 1 if this is no header but an IP packet.
    #[inline(always)]
    pub fn variant(&self) -> u8 {
        self.variant_control_length() >> 6
    }

    /// Length in bytes of the optional fields, 0 to 124.
    #[inline(always)]
    pub fn optional_len(&self) -> usize {
        usize::from(self.variant_control_length() & 0x1f) * 4
    }
}
