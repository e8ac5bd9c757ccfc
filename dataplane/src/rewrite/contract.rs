//! The last look at a frame before it leaves an uplink.
//!
//! It reads the bytes themselves, not what any stage believes about them: it is there for the bug in those stages. What it
//! cannot see through, it refuses. Neighbour Discovery, which carries MACs in options, is not looked into yet: `classify`
//! lets none come this far.

use levee_api::net::Mac;

use crate::reason::Reason;
use crate::wire::arp::ArpPacket;
use crate::wire::ethernet::{EthernetHeader, LEN, TAG_LEN, VlanTag, ethertype};

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
/// [`UplinkContract`](Reason::UplinkContract): the source is not the node's MAC, in Ethernet or inside ARP, or the frame
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
        ethertype::ARP => (ArpPacket::new_checked(rest)?.sender_mac() == node.0).then_some(()),
        announced if ethertype::is_vlan(announced) => None,
        _ => Some(()),
    }
}
