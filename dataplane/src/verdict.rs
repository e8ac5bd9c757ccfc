//! How a frame ends. Exactly one of these for each frame, and each is counted.
//!
//! A verdict carries values only: whatever `rewrite` needs stands in it, so that rewriting never looks into a table.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod next_hop;

use levee_api::net::Mac;
use levee_api::tunnel::Encapsulation;

use crate::checksum::Shifts;
use crate::ends::Ends;
use crate::reason::Reason;

pub use self::next_hop::NextHop;
pub use crate::ends::Endpoint;

/// Index of a port in the dataplane's configuration, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u8);

impl PortId {
    /// No interface: where packets come in that were unwrapped.
    pub const TUNNEL: PortId = PortId(u8::MAX);
}

/// The one way in which a frame ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Rewritten and sent out of a port (possibly the one it came in on).
    Forward(PortId, Rewrite),
    /// Rewritten, wrapped into another packet, and sent out of a port.
    Wrap(PortId, Rewrite, Outer),
    /// Turned into its own answer, out of the port it came in on.
    Hairpin(Reply),
    /// Left to the kernel.
    Pass,
    /// Dropped, and counted under its reason.
    Drop(Reason),
}

/// What changes in a frame that is sent on. Checksums follow by themselves (RFC 1624).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewrite {
    /// New destination MAC.
    pub destination_mac: Mac,
    /// New source MAC.
    pub source_mac: Mac,
    /// New IP source and transport source port, if they change.
    pub source: Option<Endpoint>,
    /// New IP destination and transport destination port, if they change.
    pub destination: Option<Endpoint>,
    /// Whether levee is a router for this packet (RFC 1812, 5.3.1); MAC rewriting alone is bridging and leaves the TTL.
    pub decrement_ttl: bool,
}

/// Where a packet of a flow goes that begins and ends nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Course {
    /// The next hop.
    pub hop: NextHop,
    /// Its ends from now on.
    pub ends: Ends,
    /// What that does to its checksums; of IPv6 it is not said.
    pub shifts: Shifts,
}

/// What is put in front of a packet that is wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outer {
    /// The encapsulation.
    pub kind: Encapsulation,
    /// This end. The port is the flow's entropy (RFC 7348, 5; RFC 8926, 3.3), of the dynamic ports.
    pub source: Endpoint,
    /// The far end, of the same family.
    pub destination: Endpoint,
    /// Its IPv4 identification or IPv6 flow label: see [`Marks`](crate::ways::Marks).
    pub mark: u32,
    /// Virtual network identifier; 0 for kinds without.
    pub network: u32,
    /// Source MAC of the inner frame, for kinds that have one.
    pub inner_source: Mac,
    /// Its destination MAC.
    pub inner_destination: Mac,
}

/// What a frame is turned into. MACs and addresses are taken from the frame itself and swapped, except where given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// ARP reply: the asked-for address is at `mac` (RFC 826). Sent from `mac`.
    ArpIsAt {
        /// The node's MAC.
        mac: Mac,
    },
    /// Neighbour advertisement: the asked-for address is at `mac` (RFC 4861, 7.2.4). Sent from `mac`.
    NeighbourIsAt {
        /// The node's MAC.
        mac: Mac,
        /// Answered for somebody else, whose own answer would count for more: the override flag is 0 (RFC 4861, 7.2.8).
        proxied: bool,
    },
    /// ICMP or ICMPv6 echo reply (RFC 792, RFC 4443), same identifier, sequence and data.
    Echo {
        /// The node's MAC, which the answer is sent from.
        mac: Mac,
    },
    /// TCP RST for the segment (RFC 9293, 3.5.2: with the segment's ACK as sequence, or acknowledging it).
    TcpReset {
        /// The node's MAC.
        mac: Mac,
    },
    /// ICMP fragmentation needed (RFC 1191, 4) or ICMPv6 packet too big (RFC 4443, 3.2), from the address that the packet was sent to.
    TooBig {
        /// The node's MAC.
        mac: Mac,
        /// The longest packet in bytes that would have passed.
        mtu: u16,
    },
    /// ICMP or ICMPv6 time exceeded in transit (RFC 1812, 5.3.1; RFC 4443, 3.3), from the address that the packet was sent to.
    TimeExceeded {
        /// The node's MAC.
        mac: Mac,
    },
    /// ICMP destination unreachable, code port (RFC 792, RFC 1812 4.3.2: with as much of the packet as 576 bytes hold),
    /// from the address that the packet was sent to.
    PortUnreachable {
        /// The node's MAC.
        mac: Mac,
    },
}
