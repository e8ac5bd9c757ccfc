//! ICMP (RFC 792) and ICMPv6 (RFC 4443), which share the shape of their header.

use super::header;

header! {
    /// An ICMP or ICMPv6 header.
    IcmpHeader, LEN = 8 {
        /// Type: see [`v4`] and [`v6`].
        0 kind set_kind: u8,
        /// Code.
        1 code set_code: u8,
        /// Checksum over the message; for ICMPv6 over a pseudo header too.
        2 checksum set_checksum: u16,
        /// What the type makes of it: identifier and sequence number of an echo, unused in "destination unreachable".
        4 rest set_rest: u32,
    }
}

/// The protocol number of ICMP.
pub const PROTOCOL: u8 = 1;
/// The next-header value of ICMPv6.
pub const PROTOCOL_V6: u8 = 58;

/// Types and codes of ICMP (IANA, "ICMP Type Numbers").
pub mod v4 {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Code of [`UNREACHABLE`]: port.
    pub const UNREACHABLE_PORT: u8 = 3;
    /// Code of [`UNREACHABLE`]: too big, and not to be fragmented. The next hop's MTU is the low half of
    /// [`rest`](super::IcmpHeader::rest) (RFC 1191, 4).
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Time exceeded; with code 0, the TTL in transit.
    pub const TIME_EXCEEDED: u8 = 11;

    /// Whether a message of this type reports an error (RFC 1122, 3.2.2): no error may be sent about it. Types that
    /// nobody has assigned count as errors, so that they are never answered either.
    #[must_use]
    pub const fn is_error(kind: u8) -> bool {
        !matches!(kind, ECHO_REPLY | ECHO_REQUEST | 9 | 10 | 13..=18)
    }
}

/// Types and codes of ICMPv6 (IANA, "ICMPv6 type Numbers").
pub mod v6 {
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 1;
    /// Code of [`UNREACHABLE`]: port.
    pub const UNREACHABLE_PORT: u8 = 4;
    /// Packet too big. The next hop's MTU is [`rest`](super::IcmpHeader::rest) (RFC 4443, 3.2).
    pub const TOO_BIG: u8 = 2;
    /// Time exceeded; with code 0, the hop limit in transit.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Redirect.
    pub const REDIRECT: u8 = super::super::ndp::kind::REDIRECT;

    /// Whether a message of this type reports an error (RFC 4443, 2.1): no error may be sent about it, nor about a
    /// redirect (2.4 e).
    #[must_use]
    pub const fn is_error(kind: u8) -> bool {
        kind < 128 || kind == REDIRECT
    }
}
