//! Neighbour advertisements (RFC 4861, 4.4), asked for or not: one writer for both.

use levee_api::net::Mac;

use crate::address::Address;
use crate::checksum::Sum;
use crate::wire::icmp;
use crate::wire::ipv6::{self, Ipv6Header};
use crate::wire::ndp::{self, LINK_OPTION_LEN, LinkOption, NeighbourMessage, kind, option};

/// Length in bytes of the IPv6 packet: header, message, and the target's link-layer address.
pub(super) const LEN: usize = ipv6::LEN + MESSAGE_LEN;
const MESSAGE_LEN: usize = ndp::LEN + LINK_OPTION_LEN;

/// Writes to the start of `packet` that `target` is at `mac`, said by the target itself: as levee shows no address of its
/// own to anybody, a switch that binds addresses to MACs sees one binding.
///
/// `None` if there is no room, or an address is not IPv6.
pub(super) fn write(packet: &mut [u8], mac: Mac, target: Address, to: Address, flags: u32) -> Option<()> {
    if target.is_v4() || to.is_v4() {
        return None;
    }
    let (header, message) = packet.get_mut(..LEN)?.split_at_mut_checked(ipv6::LEN)?;
    message.fill(0);
    let mut body = NeighbourMessage::new_checked_mut(message)?;
    body.set_kind(kind::ADVERTISEMENT);
    body.set_flags(flags);
    body.set_target(target.bits());
    let mut link = LinkOption::new_checked_mut(message.get_mut(ndp::LEN..)?)?;
    link.set_kind(option::TARGET_LINK);
    link.set_length(1);
    link.set_mac(mac.0);
    let pseudo = Sum::pseudo_v6(target.bits(), to.bits(), icmp::PROTOCOL_V6, MESSAGE_LEN as u32);
    let checksum = pseudo.and(Sum::of(message)).checksum();
    NeighbourMessage::new_checked_mut(message)?.set_checksum(checksum);

    let mut header = Ipv6Header::new_checked_mut(header)?;
    header.set_version_class_flow(ipv6::VERSION);
    header.set_payload_length(MESSAGE_LEN as u16);
    header.set_next_header(icmp::PROTOCOL_V6);
    header.set_hop_limit(ndp::HOP_LIMIT);
    header.set_source(target.bits());
    header.set_destination(to.bits());
    Some(())
}
