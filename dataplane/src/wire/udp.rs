//! UDP (RFC 768).

use super::header;

header! {
    /// A UDP header.
    UdpHeader, LEN = 8 {
        /// Source port.
        0 source set_source: u16,
        /// Destination port.
        2 destination set_destination: u16,
        /// Length in bytes of header and payload.
        4 length set_length: u16,
        /// Checksum over pseudo header and datagram; 0 if the sender computed none.
        6 checksum set_checksum: u16,
    }
}

/// The protocol number of UDP.
pub const PROTOCOL: u8 = 17;
