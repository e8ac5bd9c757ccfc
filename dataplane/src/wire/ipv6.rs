//! IPv6 (RFC 8200) and the extension headers that may stand before the transport header.

use super::header;

header! {
    /// An IPv6 header.
    Ipv6Header, LEN = 40 {
        /// Version (4 bits), traffic class (8 bits), flow label (20 bits).
        0 version_class_flow set_version_class_flow: u32,
        /// Length in bytes of what follows this header.
        4 payload_length set_payload_length: u16,
        /// What follows this header: see [`next`].
        6 next_header set_next_header: u8,
        /// Hop limit.
        7 hop_limit set_hop_limit: u8,
        /// Source address.
        8 source set_source: u128,
        /// Destination address.
        24 destination set_destination: u128,
    }
}

header! {
    /// Hop-by-hop options, routing, and destination options begin alike (RFC 8200, 4.3, 4.4, 4.6).
    ExtensionHeader, EXTENSION_LEN = 4 {
        /// What follows this header.
        0 next_header set_next_header: u8,
        /// Length in units of 8 bytes, the first 8 bytes not counted.
        1 length set_length: u8,
        /// Of a routing header: its type.
        2 routing_type set_routing_type: u8,
        /// Of a routing header: how many nodes are still to be visited.
        3 segments_left set_segments_left: u8,
    }
}

header! {
    /// A fragment header (RFC 8200, 4.5).
    FragmentHeader, FRAGMENT_LEN = 8 {
        /// What the fragmented part starts with.
        0 next_header set_next_header: u8,
        /// Offset in units of 8 bytes (13 bits), reserved (2 bits), more fragments (1 bit).
        2 offset_more set_offset_more: u16,
        /// Identification, for reassembly.
        4 identification set_identification: u32,
    }
}

/// [`Ipv6Header::version_class_flow`] of class 0 and flow 0.
pub const VERSION: u32 = 6 << 28;
/// The flow label, in [`Ipv6Header::version_class_flow`].
pub const FLOW_LABEL: u32 = 0xf_ffff;
/// The protocol number of IPv6 inside of another packet (RFC 2473).
pub const PROTOCOL: u8 = 41;
/// The fragment offset, in [`FragmentHeader::offset_more`].
pub const OFFSET_MASK: u16 = 0xfff8;
/// "More fragments", in [`FragmentHeader::offset_more`].
pub const MORE_FRAGMENTS: u16 = 1;

/// Next-header values that `parse` walks over (IANA, "IPv6 Extension Header Types").
pub mod next {
    /// Hop-by-hop options; only directly behind the IPv6 header.
    pub const HOP_BY_HOP: u8 = 0;
    /// Routing.
    pub const ROUTING: u8 = 43;
    /// Fragment.
    pub const FRAGMENT: u8 = 44;
    /// Destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;

    /// Whether it is one of these.
    #[inline(always)]
    #[must_use]
    pub const fn is_extension(next_header: u8) -> bool {
        matches!(next_header, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS)
    }
}

impl<B: core::borrow::Borrow<[u8; LEN]>> Ipv6Header<B> {
    /// Version: 6.
    #[inline(always)]
    pub fn version(&self) -> u8 {
        (self.version_class_flow() >> 28) as u8
    }

    /// Traffic class: DSCP and ECN.
    #[inline(always)]
    pub fn traffic_class(&self) -> u8 {
        (self.version_class_flow() >> 20) as u8
    }
}

impl<B: core::borrow::Borrow<[u8; EXTENSION_LEN]>> ExtensionHeader<B> {
    /// Length in bytes of the whole extension header, 8 to 2048.
    #[inline(always)]
    pub fn header_len(&self) -> usize {
        (usize::from(self.length()) + 1) * 8
    }
}
