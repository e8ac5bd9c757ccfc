//! Neighbour Discovery (RFC 4861): messages of ICMPv6, each followed by options, in some of which there are MACs.
//!
//! ```text
//!  | type | code | checksum | flags | target |  option  |  option  | …        solicitation, advertisement
//!                                            | kind | length / 8 | content |
//! ```

use super::header;

header! {
    /// A neighbour solicitation or advertisement (RFC 4861, 4.3 and 4.4) without its options.
    NeighbourMessage, LEN = 24 {
        /// Type: see [`kind`].
        0 kind set_kind: u8,
        /// Code: 0.
        1 code set_code: u8,
        /// Checksum over pseudo header and message.
        2 checksum set_checksum: u16,
        /// Of an advertisement: [`flag`]s; else reserved.
        4 flags set_flags: u32,
        /// The address that is asked for, or told about.
        8 target set_target: u128,
    }
}

header! {
    /// A link-layer address option for Ethernet (RFC 4861, 4.6.1; RFC 2464, 6).
    LinkOption, LINK_OPTION_LEN = 8 {
        /// [`option::SOURCE_LINK`] or [`option::TARGET_LINK`].
        0 kind set_kind: u8,
        /// Length in units of 8 bytes: 1.
        1 length set_length: u8,
        /// The MAC.
        2 mac set_mac: [u8; 6],
    }
}

/// Types of messages (RFC 4861, 4).
pub mod kind {
    /// Router solicitation.
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// Router advertisement.
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    /// Neighbour solicitation: who has this address?
    pub const SOLICITATION: u8 = 135;
    /// Neighbour advertisement: this address is there.
    pub const ADVERTISEMENT: u8 = 136;
    /// Redirect.
    pub const REDIRECT: u8 = 137;
}

/// Bits of [`NeighbourMessage::flags`].
pub mod flag {
    /// The sender is a router.
    pub const ROUTER: u32 = 1 << 31;
    /// It answers a solicitation.
    pub const SOLICITED: u32 = 1 << 30;
    /// It replaces what is known.
    pub const OVERRIDE: u32 = 1 << 29;
}

/// Kinds of options.
pub mod option {
    /// The MAC of the message's sender.
    pub const SOURCE_LINK: u8 = 1;
    /// The MAC of the target.
    pub const TARGET_LINK: u8 = 2;
}

/// The hop limit of every message: one that is less has come through a router (RFC 4861, 3.1).
pub const HOP_LIMIT: u8 = 255;
/// `ff02::1`, all nodes of the link.
pub const ALL_NODES: u128 = 0xff02_0000_0000_0000_0000_0000_0000_0001;
/// The MAC of [`ALL_NODES`] (RFC 2464, 7).
pub const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
/// The first 104 bits of each solicited-node group (RFC 4291, 2.7.1); the rest are the address' last 24.
pub const SOLICITED_NODE: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;

/// Whether an address is a solicited-node group.
#[must_use]
pub const fn is_solicited_node(address: u128) -> bool {
    address >> 24 == SOLICITED_NODE >> 24
}

/// Where the options of a message of this type start, in bytes from its own start; `None` if it is none of Neighbour
/// Discovery. What is shorter is malformed.
#[inline(always)]
#[must_use]
pub const fn options_at(kind: u8) -> Option<usize> {
    match kind {
        kind::ROUTER_SOLICITATION => Some(8),
        kind::ROUTER_ADVERTISEMENT => Some(16),
        kind::SOLICITATION | kind::ADVERTISEMENT => Some(24),
        kind::REDIRECT => Some(40),
        _ => None,
    }
}

/// Length in bytes of the option that `options` start with; `None` if it is 0 or goes past them (RFC 4861, 4.6).
#[must_use]
pub fn option_len(options: &[u8]) -> Option<usize> {
    let length = usize::from(*options.get(1)?) * 8;
    (1..=options.len()).contains(&length).then_some(length)
}

/// Whether an option of this kind has a MAC in it.
#[must_use]
pub const fn has_mac(kind: u8) -> bool {
    matches!(kind, option::SOURCE_LINK | option::TARGET_LINK)
}
