//! Unwrapping: the packet that another one carried becomes a frame of its own, without being moved.
//!
//! ```text
//!  before   | link | outer IP | UDP | tunnel | … | inner packet … | padding |
//!  after                            |  Ethernet  | inner packet … |
//! ```
//!
//! What was marked about congestion on the way between the ends is marked on the inner packet (RFC 6040, 4.2). Nothing else of the
//! outer headers is kept.

use levee_api::net::Mac;

use super::PacketBuf;
use crate::checksum::Update;
use crate::headers::Tunnelled;
use crate::reason::Reason;
use crate::wire::ethernet::{self, EthernetHeader, ethertype};
use crate::wire::ipv4::Ipv4Header;
use crate::wire::ipv6::Ipv6Header;

/// The ECN field of a type of service (RFC 3168, 5).
const ECN: u8 = 0b11;
const NOT_CAPABLE: u8 = 0b00;
const CAPABLE_0: u8 = 0b10;
const CAPABLE_1: u8 = 0b01;
const CONGESTED: u8 = 0b11;

/// Makes a frame, from `source` to `destination`, of what was found inside of one.
///
/// # Errors
///
/// The frame is then to be dropped. [`TunnelCongestion`](Reason::TunnelCongestion): congestion is marked on the outer packet, and the inner
/// one cannot say so. [`Runt`](Reason::Runt): the inner packet is shorter than its header, or does not belong to this frame.
pub fn unwrap(tunnelled: &Tunnelled, destination: Mac, source: Mac, packet: &mut PacketBuf<'_>) -> Result<(), Reason> {
    if usize::from(tunnelled.end) > packet.len() {
        return Err(Reason::Runt);
    }
    packet.resize(usize::from(tunnelled.end))?;
    packet.cut_front(usize::from(tunnelled.l3).checked_sub(ethernet::LEN).ok_or(Reason::Runt)?)?;
    let (link, inner) = packet.frame_mut().split_at_mut_checked(ethernet::LEN).ok_or(Reason::Runt)?;
    congestion(tunnelled, inner)?;
    let mut link = EthernetHeader::new_checked_mut(link).ok_or(Reason::Runt)?;
    link.set_destination(destination.0);
    link.set_source(source.0);
    link.set_ethertype(tunnelled.ethertype);
    Ok(())
}

/// RFC 6040, figure 4: see [`take_over`].
fn congestion(tunnelled: &Tunnelled, inner: &mut [u8]) -> Result<(), Reason> {
    let outer = tunnelled.tos & ECN;
    if tunnelled.ethertype == ethertype::IPV4 {
        let mut header = Ipv4Header::new_checked_mut(inner).ok_or(Reason::Runt)?;
        let (before, word) = (header.tos(), |tos| u16::from_be_bytes([header.version_ihl(), tos]));
        if let Some(after) = take_over(before, outer)? {
            let checksum = Update::NONE.u16(word(before), word(after)).apply(header.checksum());
            header.set_tos(after);
            header.set_checksum(checksum);
        }
    } else {
        let mut header = Ipv6Header::new_checked_mut(inner).ok_or(Reason::Runt)?;
        if let Some(after) = take_over(header.traffic_class(), outer)? {
            let rest = header.version_class_flow() & !(0xff << 20);
            header.set_version_class_flow(rest | u32::from(after) << 20);
        }
    }
    Ok(())
}

/// The inner type of service, if it changes. The more severe mark of the two counts, ECT(0) being the least severe (RFC 6040, 4.2: ECT(1)
/// is what a router that knows of it may make of ECT(0), as a milder word than "congestion experienced"). But who knows of no
/// marks gets none, and a packet of his that was marked as congested is lost, as it would have been without ECN.
fn take_over(inner: u8, outer: u8) -> Result<Option<u8>, Reason> {
    match (inner & ECN, outer) {
        (NOT_CAPABLE, CONGESTED) => Err(Reason::TunnelCongestion),
        (NOT_CAPABLE | CONGESTED, _) => Ok(None),
        (_, CONGESTED) => Ok(Some(inner | CONGESTED)),
        (CAPABLE_0, CAPABLE_1) => Ok(Some(inner & !ECN | CAPABLE_1)),
        _ => Ok(None),
    }
}
