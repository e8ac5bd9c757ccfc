//! Another identification for a packet that is, or may come to be, fragmented.
//!
//! Where a source address is shared by hosts that do not know of each other, so are its identifications: see
//! [`Identifications`](crate::fragments::Identifications). A packet that is whole and must stay so ("don't fragment"; IPv6 without
//! a fragment header) keeps what it has, which nobody reads (RFC 6864, 4.1).

use crate::checksum::Update;
use crate::headers::{Headers, Network, Piece};
use crate::reason::Reason;
use crate::wire::ipv4::{DONT_FRAGMENT, Ipv4Header, MORE_FRAGMENTS, OFFSET_MASK};
use crate::wire::ipv6::FragmentHeader;

/// Gives the packet that `headers` were parsed from the identification that `next` gives, if it has need of one. `piece`: where
/// it is in its datagram, if it is a fragment.
///
/// # Errors
/// [`Runt`](Reason::Runt): headers and frame do not belong together.
#[inline]
pub fn identify(
    headers: &Headers,
    piece: Option<&Piece>,
    frame: &mut [u8],
    next: impl FnOnce() -> u32,
) -> Result<(), Reason> {
    let Network::Ip(ip) = &headers.network else { return Ok(()) };
    if ip.source.is_v4() {
        let packet = frame.get_mut(usize::from(headers.l3)..).ok_or(Reason::Runt)?;
        let mut header = Ipv4Header::new_checked_mut(packet).ok_or(Reason::Runt)?;
        if header.flags_offset() & (DONT_FRAGMENT | MORE_FRAGMENTS | OFFSET_MASK) == DONT_FRAGMENT {
            return Ok(());
        }
        let identification = next() as u16;
        let update = Update::NONE.u16(header.identification(), identification);
        let checksum = update.apply(header.checksum());
        header.set_identification(identification);
        header.set_checksum(checksum);
    } else if let Some(piece) = piece {
        let bytes = frame.get_mut(usize::from(piece.header)..).ok_or(Reason::Runt)?;
        FragmentHeader::new_checked_mut(bytes).ok_or(Reason::Runt)?.set_identification(next());
    }
    Ok(())
}
