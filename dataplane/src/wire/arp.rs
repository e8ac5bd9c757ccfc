//! ARP (RFC 826), in its only living form: Ethernet and IPv4.

use super::header;

header! {
    /// An ARP packet for Ethernet and IPv4. For other hardware or protocols the fields from `sender_mac` on mean nothing.
    ArpPacket, LEN = 28 {
        /// `ar$hrd`: [`ETHERNET`].
        0 hardware set_hardware: u16,
        /// `ar$pro`: an EtherType.
        2 protocol set_protocol: u16,
        /// `ar$hln`: 6 for Ethernet.
        4 hardware_len set_hardware_len: u8,
        /// `ar$pln`: 4 for IPv4.
        5 protocol_len set_protocol_len: u8,
        /// `ar$op`: [`REQUEST`] or [`REPLY`].
        6 operation set_operation: u16,
        /// `ar$sha`.
        8 sender_mac set_sender_mac: [u8; 6],
        /// `ar$spa`.
        14 sender set_sender: u32,
        /// `ar$tha`.
        18 target_mac set_target_mac: [u8; 6],
        /// `ar$tpa`.
        24 target set_target: u32,
    }
}

/// `ar$hrd` of Ethernet.
pub const ETHERNET: u16 = 1;
/// `ar$op` of a request.
pub const REQUEST: u16 = 1;
/// `ar$op` of a reply.
pub const REPLY: u16 = 2;
