//! Ethernet II (IEEE 802.3) and its VLAN tags (IEEE 802.1Q).
//!
//! ```text
//!  0             6        12     14            l3
//!  | destination | source | TPID | TCI | type | …       a tagged frame: the type at 12 announces a tag, and the tag
//!                                |  VlanTag   |         ends with the next type
//! ```

use super::header;

header! {
    /// An Ethernet header.
    EthernetHeader, LEN = 14 {
        /// Destination MAC.
        0 destination set_destination: [u8; 6],
        /// Source MAC.
        6 source set_source: [u8; 6],
        /// EtherType if at least 0x0600, else the length of an 802.3 frame: see [`ethertype`].
        12 ethertype set_ethertype: u16,
    }
}

header! {
    /// What follows a [`TPID`](ethertype::is_vlan): the tag's control information, and the type of what comes next.
    VlanTag, TAG_LEN = 4 {
        /// Tag control information: priority, drop eligibility, VLAN identifier.
        0 tci set_tci: u16,
        /// EtherType of what follows.
        2 ethertype set_ethertype: u16,
    }
}

/// Shortest frame on a wire, without its check sequence (IEEE 802.3, 3.2.8).
pub const MIN_FRAME: usize = 60;

/// EtherTypes (IANA, "IEEE 802 Numbers").
pub mod ethertype {
    /// IPv4 (RFC 894).
    pub const IPV4: u16 = 0x0800;
    /// ARP (RFC 826).
    pub const ARP: u16 = 0x0806;
    /// Customer VLAN tag (IEEE 802.1Q).
    pub const VLAN: u16 = 0x8100;
    /// IPv6 (RFC 2464).
    pub const IPV6: u16 = 0x86dd;
    /// Service VLAN tag (IEEE 802.1ad, now in 802.1Q).
    pub const SERVICE_VLAN: u16 = 0x88a8;

    /// Whether a VLAN tag follows.
    #[inline(always)]
    #[must_use]
    pub const fn is_vlan(ethertype: u16) -> bool {
        matches!(ethertype, VLAN | SERVICE_VLAN)
    }
}
