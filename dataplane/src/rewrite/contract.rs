//! The last look at a frame before it leaves an uplink.
//!
//! It reads the bytes themselves, not what any stage believes about them: it is there for the bug in those stages. What it
//! cannot see through, it refuses; but what is behind a routing header that is not at its end, or in a later fragment, is not for
//! those on this link to read.

use levee_api::net::Mac;

use crate::reason::Reason;
use crate::wire::arp::{self, ArpPacket};
use crate::wire::ethernet::{EthernetHeader, LEN, TAG_LEN, VlanTag, ethertype};
use crate::wire::icmp;
use crate::wire::ipv6::{ExtensionHeader, FRAGMENT_LEN, FragmentHeader, Ipv6Header, LEN as LEN_V6, OFFSET_MASK, next};
use crate::wire::ndp::{self, LinkOption};

/// Whether a frame may be sent to a group MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Groups {
    /// It was decided so: an announcement, or a group of `multicast`.
    Allowed,
    /// To one station only.
    Refused,
}

/// Whether the frame shows the fabric no MAC but the node's, and is for somebody whom the fabric can know.
///
/// # Errors
///
/// [`UplinkContract`](Reason::UplinkContract): the source is not the node's MAC, in Ethernet or inside ARP, or another MAC
/// stands in Neighbour Discovery, or the frame
/// is such that one cannot see. [`DestinationContract`](Reason::DestinationContract): the destination is all zero, or a
/// group without leave.
#[inline]
pub fn contract(frame: &[u8], node: Mac, groups: Groups) -> Result<(), Reason> {
    let link = EthernetHeader::new_checked(frame).ok_or(Reason::UplinkContract)?;
    if Mac(link.source()) != node {
        return Err(Reason::UplinkContract);
    }
    let destination = Mac(link.destination());
    if destination == Mac::ZERO || (destination.is_multicast() && groups == Groups::Refused) {
        return Err(Reason::DestinationContract);
    }
    match link.ethertype() {
        ethertype::IPV4 => Ok(()),
        announced => payload(announced, frame, node).ok_or(Reason::UplinkContract),
    }
}

/// `None` if what is behind the tags breaks the contract.
fn payload(mut announced: u16, frame: &[u8], node: Mac) -> Option<()> {
    let mut rest = frame.get(LEN..)?;
    for _ in 0..2 {
        if !ethertype::is_vlan(announced) {
            break;
        }
        announced = VlanTag::new_checked(rest)?.ethertype();
        rest = rest.get(TAG_LEN..)?;
    }
    match announced {
        ethertype::ARP => {
            let arp = ArpPacket::new_checked(rest)?;
            // In ARP of another form, nobody knows where the sender's MAC stands.
            let form = (arp.hardware(), arp.protocol(), arp.hardware_len(), arp.protocol_len());
            (form == (arp::ETHERNET, ethertype::IPV4, 6, 4) && arp.sender_mac() == node.0).then_some(())
        }
        ethertype::IPV6 => ipv6(rest, node),
        announced if ethertype::is_vlan(announced) => None,
        _ => Some(()),
    }
}

/// Most extension headers that are looked behind; `parse` lets no more pass.
const MAX_EXTENSIONS: usize = 5;

/// `None` if it is Neighbour Discovery and breaks the contract, or cannot be seen through.
#[inline]
fn ipv6(packet: &[u8], node: Mac) -> Option<()> {
    let header = Ipv6Header::new_checked(packet)?;
    let payload = packet.get(LEN_V6..LEN_V6 + usize::from(header.payload_length()))?;
    match header.next_header() {
        icmp::PROTOCOL_V6 => discovery(payload, node),
        extension if next::is_extension(extension) => behind(extension, payload, node),
        _ => Some(()),
    }
}

#[cold]
fn behind(mut announced: u8, mut rest: &[u8], node: Mac) -> Option<()> {
    for _ in 0..MAX_EXTENSIONS {
        let length = match announced {
            next::FRAGMENT => {
                let header = FragmentHeader::new_checked(rest)?;
                if header.offset_more() & OFFSET_MASK != 0 {
                    return Some(());
                }
                announced = header.next_header();
                FRAGMENT_LEN
            }
            extension if next::is_extension(extension) => {
                let header = ExtensionHeader::new_checked(rest)?;
                if extension == next::ROUTING && header.segments_left() > 0 {
                    return Some(());
                }
                announced = header.next_header();
                header.header_len()
            }
            _ => break,
        };
        rest = rest.get(length..)?;
    }
    match announced {
        icmp::PROTOCOL_V6 => discovery(rest, node),
        announced if next::is_extension(announced) => None,
        _ => Some(()),
    }
}

/// An ICMPv6 message, which may be Neighbour Discovery with MACs in its options (RFC 4861, 4.6.1).
#[inline]
fn discovery(message: &[u8], node: Mac) -> Option<()> {
    let Some(at) = ndp::options_at(*message.first()?) else { return Some(()) };
    let mut options = message.get(at..)?;
    while !options.is_empty() {
        let (this, rest) = options.split_at_checked(ndp::option_len(options)?)?;
        let link = LinkOption::new_checked(this)?;
        if ndp::has_mac(link.kind()) && (link.length() != 1 || link.mac() != node.0) {
            return None;
        }
        options = rest;
    }
    Some(())
}
