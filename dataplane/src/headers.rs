//! What `parse` found in a frame: values and offsets, no bytes.
//!
//! ```text
//!  frame   |dst|src|(802.1Q|802.1ad)*|type| IP header (options) | TCP, UDP, ICMP … | padding |
//!          0                               l3                    l4                 end       length
//! ```
//!
//! Holding a [`Headers`] proves that every offset in it lies inside the frame it was parsed from, in the order of the
//! picture, and that the fixed part of each header named by [`Network`] and [`Transport`] lies before `end`.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use levee_api::net::Mac;

use crate::address::Address;
use crate::ends::{Endpoint, Ends, Tuple};

/// One frame's headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// Destination MAC.
    pub destination: Mac,
    /// Source MAC.
    pub source: Mac,
    /// VLAN tags, kept as they are in whatever is sent on or answered.
    pub vlans: Vlans,
    /// EtherType behind the tags.
    pub ethertype: u16,
    /// Where the network header starts, in bytes from the start of the frame.
    pub l3: u16,
    /// Length of the frame in bytes.
    pub length: u16,
    /// What the EtherType announced.
    pub network: Network,
}

impl Headers {
    /// Who speaks in a message of ARP or Neighbour Discovery, and at which MAC it says to be; `None` in anything else. Who asks whether an
    /// address is free is nobody yet: unspecified.
    #[must_use]
    pub fn speaker(&self) -> Option<(Address, Mac)> {
        match &self.network {
            Network::Arp(arp) => Some((arp.sender, arp.sender_mac)),
            Network::Discovery(said) => Some((said.speaker(), said.mac.unwrap_or(self.source))),
            Network::Ip(_) | Network::Other => None,
        }
    }
}

/// At most two tags (IEEE 802.1Q, 802.1ad), outer first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Vlans {
    /// Number of tags, 0 to 2.
    pub count: u8,
    /// Tag control information of each; 0 where there is none.
    pub tci: [u16; 2],
}

/// The network layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// IPv4 over Ethernet ARP (RFC 826).
    Arp(Arp),
    /// ICMPv6 Neighbour Discovery (RFC 4861): to IPv6 what ARP is to IPv4.
    Discovery(Discovery),
    /// IPv4 or IPv6, apart from Neighbour Discovery.
    Ip(Ip),
    /// Anything else.
    Other,
}

/// An ARP packet for Ethernet and IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// Request or reply; others are refused by `parse`.
    pub operation: ArpOperation,
    /// `ar$sha`.
    pub sender_mac: Mac,
    /// `ar$spa`.
    pub sender: Address,
    /// `ar$tha`.
    pub target_mac: Mac,
    /// `ar$tpa`.
    pub target: Address,
}

/// `ar$op`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArpOperation {
    /// 1.
    Request,
    /// 2.
    Reply,
}

/// A message of Neighbour Discovery: right in every respect of RFC 4861, 7.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Discovery {
    /// What it does.
    pub kind: DiscoveryKind,
    /// IPv6 source; `::` if somebody asks whether an address is free (RFC 4862, 5.4).
    pub source: Address,
    /// IPv6 destination.
    pub destination: Address,
    /// The address that is asked for, or told about; `::` in messages of and to routers.
    pub target: Address,
    /// The MAC of the target, of advertisements and redirects, else of the source, if an option names it.
    pub mac: Option<Mac>,
    /// Where the ICMPv6 message starts.
    pub l4: u16,
    /// Where it ends.
    pub end: u16,
}

impl Discovery {
    /// Who speaks: who asks, or who an advertisement tells about.
    #[must_use]
    pub const fn speaker(&self) -> Address {
        match self.kind {
            DiscoveryKind::Advertisement => self.target,
            _ => self.source,
        }
    }
}

/// Which message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiscoveryKind {
    /// Are there routers?
    RouterSolicitation,
    /// I am a router, and these are your prefixes.
    RouterAdvertisement,
    /// Who has this address?
    Solicitation,
    /// I have this address.
    Advertisement,
    /// There is a better way to this address.
    Redirect,
}

/// An IP header of either family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ip {
    /// Source address; its family is the header's.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// IPv4 protocol, or the IPv6 next header behind the extension headers that were walked.
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Type of service or traffic class.
    pub tos: u8,
    /// Where in a fragmented packet this is.
    pub fragment: Fragment,
    /// Where the transport header starts.
    pub l4: u16,
    /// Where the IP packet ends; what follows is Ethernet padding.
    pub end: u16,
    /// The transport layer.
    pub transport: Transport,
}

/// A packet's place in a fragmented one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragment {
    /// Not fragmented.
    Whole,
    /// Offset 0, more to come: it has the transport header.
    First,
    /// Any other: it has none.
    Later,
}

/// The transport layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP (RFC 9293).
    Tcp(Tcp),
    /// UDP (RFC 768).
    Udp(Udp),
    /// SCTP (RFC 9260): only the ports.
    Sctp(Ports),
    /// ICMP or ICMPv6.
    Icmp(Icmp),
    /// Another protocol, or a fragment other than the first.
    Other,
}

/// Source and destination port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
}

/// A TCP header, as far as levee reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tcp {
    /// Ports.
    pub ports: Ports,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// The flag octet: see [`tcp_flags`].
    pub flags: u8,
    /// Bytes of payload.
    pub payload: u16,
}

/// Bits of [`Tcp::flags`] (RFC 9293, 3.1).
pub mod tcp_flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
}

/// A UDP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Udp {
    /// Ports.
    pub ports: Ports,
}

/// An ICMP or ICMPv6 header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
}

/// The packet that an ICMP error is about, as far as the error quotes it.
///
/// ```text
///  | IP | ICMP: type, code, checksum, rest | IP (options) | 8 bytes of transport, or more |
///  l3   l4                                 quote.l3       quote.l4                        end
/// ```
///
/// Holding one proves that the offsets lie in that order inside the frame, with the fixed part of the quoted IP header and
/// 8 bytes of transport between them and `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quote {
    /// Who sent the quoted packet.
    pub source: Address,
    /// Whom it was sent to.
    pub destination: Address,
    /// Its protocol.
    pub protocol: u8,
    /// Its ports, if its protocol has them.
    pub ports: Option<Ports>,
    /// Where its IP header starts, from the start of the frame.
    pub l3: u16,
    /// Where its transport header starts.
    pub l4: u16,
    /// How long it was in bytes, by what its IP header says.
    pub length: u32,
    /// Its IPv4 identification, or its IPv6 flow label: where levee marks what it wraps (see [`Marks`](crate::ways::Marks)).
    pub mark: u32,
    /// What the next hop can carry, if the error says that the packet was too big.
    pub mtu: Option<u32>,
}

impl Quote {
    /// Whether it is a UDP packet, by protocol.
    #[must_use]
    pub const fn is_udp(&self) -> bool {
        self.protocol == 17
    }

    /// As [`Ip::is_ip_in_ip`].
    #[must_use]
    pub const fn is_ip_in_ip(&self) -> bool {
        matches!(self.protocol, 4 | 41)
    }
}

/// Where in its datagram a fragment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Which datagram, of those between two hosts; 16 bits of IPv4, 32 of IPv6.
    pub identification: u32,
    /// Where it begins, in bytes from the start of the fragmented part: a multiple of 8.
    pub offset: u32,
    /// Its length in bytes; a multiple of 8 if there are more.
    pub length: u32,
    /// Whether there are more behind it.
    pub more: bool,
    /// Where the header that says all this starts in the frame: IPv4's, or IPv6's fragment header.
    pub header: u16,
}

impl Quote {
    /// Whether the quoted packet was a message of ICMP or ICMPv6, by protocol.
    #[inline]
    #[must_use]
    pub const fn is_icmp(&self) -> bool {
        matches!(self.protocol, 1 | 58)
    }
}

impl Ip {
    /// Between whom it goes; of a protocol without ports, with 0 for both. `None` for ICMP, which is of no flow by itself.
    #[inline]
    #[must_use]
    pub fn tuple(&self) -> Option<Tuple> {
        let ports = match self.transport {
            Transport::Icmp(_) => return None,
            transport => transport.ports().unwrap_or(Ports { source: 0, destination: 0 }),
        };
        Some(Tuple {
            source: Endpoint { address: self.source, port: ports.source },
            destination: Endpoint { address: self.destination, port: ports.destination },
            protocol: self.protocol,
        })
    }

    /// Whether it is an ICMP error about another packet that may concern a flow: unreachable, too big, time exceeded,
    /// parameter problem. Redirects and source quench are not among them: nobody may follow the ones (RFC 1812, 5.2.7.2,
    /// lets hosts alone do so), nobody may send the others (RFC 6633).
    #[inline]
    #[must_use]
    pub const fn is_error(&self) -> bool {
        match self.transport {
            Transport::Icmp(Icmp { kind, .. }) if self.source.is_v4() => matches!(kind, 3 | 11 | 12),
            Transport::Icmp(Icmp { kind, .. }) => matches!(kind, 1..=4),
            _ => false,
        }
    }

    /// Whether it is an IP packet in an IP packet (RFC 2003, RFC 2473, RFC 4213), by protocol.
    #[inline]
    #[must_use]
    pub const fn is_ip_in_ip(&self) -> bool {
        matches!(self.protocol, 4 | 41)
    }
}

/// The packet inside of a tunnel's packet: see [`tunnelled`](crate::parse::tunnelled).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tunnelled {
    /// Where the inner IP header starts, in bytes from the start of the frame.
    pub l3: u16,
    /// Where what was carried ends.
    pub end: u16,
    /// EtherType of the inner packet: IPv4 or IPv6.
    pub ethertype: u16,
    /// The outer packet's type of service or traffic class.
    pub tos: u8,
}

impl Icmp {
    /// A ping, of ICMP if `v4`, else of ICMPv6.
    #[must_use]
    pub const fn asks_for_echo(&self, v4: bool) -> bool {
        const ECHO_REQUEST: u8 = 8;
        const ECHO_REQUEST_V6: u8 = 128;
        self.kind == (if v4 { ECHO_REQUEST } else { ECHO_REQUEST_V6 }) && self.code == 0
    }
}

impl Tcp {
    /// A SYN that opens a connection: SYN without ACK or RST.
    #[must_use]
    pub const fn opens(&self) -> bool {
        self.flags & (tcp_flags::SYN | tcp_flags::ACK | tcp_flags::RST) == tcp_flags::SYN
    }
}

impl Transport {
    /// The ports, for the protocols that have them.
    #[must_use]
    pub const fn ports(&self) -> Option<Ports> {
        match self {
            Transport::Tcp(tcp) => Some(tcp.ports),
            Transport::Udp(udp) => Some(udp.ports),
            Transport::Sctp(ports) => Some(*ports),
            Transport::Icmp(_) | Transport::Other => None,
        }
    }
}

/// A plain packet, as [`glance`](crate::parse::glance()) sees it: all that there is to know of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Glance {
    /// Its ports, and the last four octets of its addresses.
    pub ends: Ends,
    /// Length of the IP packet in bytes.
    pub length: u16,
    /// TCP or UDP.
    pub protocol: u8,
    /// Whether it is of IPv4; else of IPv6.
    pub v4: bool,
}

impl Glance {
    /// Ethernet, IPv4 and TCP, and nothing else: the bytes in which all lies that is read of a plain IPv4 packet. A shorter
    /// frame has crossed no wire (IEEE 802.3, 3.2.8), and is not plain.
    pub const REACH: usize = 54;
}
