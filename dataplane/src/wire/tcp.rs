//! TCP (RFC 9293).

use super::header;

header! {
    /// A TCP header without its options.
    TcpHeader, LEN = 20 {
        /// Source port.
        0 source set_source: u16,
        /// Destination port.
        2 destination set_destination: u16,
        /// Sequence number.
        4 sequence set_sequence: u32,
        /// Acknowledgement number.
        8 acknowledgement set_acknowledgement: u32,
        /// Data offset in 32-bit words (4 bits) and reserved bits.
        12 data_offset set_data_offset: u8,
        /// The flag octet: see [`tcp_flags`](crate::headers::tcp_flags).
        13 flags set_flags: u8,
        /// Window.
        14 window set_window: u16,
        /// Checksum over pseudo header and segment.
        16 checksum set_checksum: u16,
        /// Urgent pointer.
        18 urgent set_urgent: u16,
    }
}

/// The protocol number of TCP.
pub const PROTOCOL: u8 = 6;
/// [`TcpHeader::data_offset`] of a header without options.
pub const DATA_OFFSET: u8 = 5 << 4;

impl<B: core::borrow::Borrow<[u8; LEN]>> TcpHeader<B> {
    /// Length in bytes of the header with its options, 0 to 60.
    #[inline(always)]
    pub fn header_len(&self) -> usize {
        usize::from(self.data_offset() >> 4) * 4
    }
}
