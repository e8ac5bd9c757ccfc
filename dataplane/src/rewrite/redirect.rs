//! [`forward`](super::forward()) for plain packets: MACs, addresses, ports and TTL of what [`glance`](crate::parse::glance()) has seen.
//!
//! The same bytes come out (`worker::tests::established` compares them); fewer questions are asked. What changes of IPv4 lies
//! together, addresses and ports, and a flow has it as it stands there: nothing is turned round, since sums do not care in
//! which order a machine has its bytes, as long as all of them are in the same (RFC 1071, 2 (B)).

use crate::checksum::Update;
use crate::ends::Endpoint;
use crate::headers::Glance;
use crate::reason::Reason;
use crate::rewrite::address;
use crate::rewrite::origin::Origin;
use crate::verdict::Course;
use crate::wire::ethernet;
use crate::wire::ipv4::LEN as LEN_V4;
use crate::wire::ipv6::{Ipv6Header, LEN as LEN_V6};
use crate::wire::plain::PlainHeader;
use crate::wire::tcp::{self, TcpHeader};
use crate::wire::udp::UdpHeader;

/// Sends a plain IPv4 packet on its course.
///
/// # Errors
/// [`Runt`](Reason::Runt): glance and frame do not belong together; the frame may have been changed in part.
#[inline(always)]
pub fn redirect(glance: &Glance, course: &Course, origin: &Origin, frame: &mut [u8]) -> Result<(), Reason> {
    let head: &mut [u8; Glance::REACH] = frame.first_chunk_mut().ok_or(Reason::Runt)?;
    ipv4(glance, course, origin, head).ok_or(Reason::Runt)
}

#[inline(always)]
fn ipv4(glance: &Glance, course: &Course, origin: &Origin, head: &mut [u8; Glance::REACH]) -> Option<()> {
    const L4: usize = ethernet::LEN + LEN_V4;
    let Course { hop, ends, shifts } = *course;
    let mut plain = PlainHeader::new_checked_mut(head)?;
    origin.address(&mut plain, hop);
    plain.set_ttl(plain.ttl().wrapping_sub(1));
    let checksum = u16::from_ne_bytes(plain.checksum());
    plain.set_checksum(shifts.network.apply(checksum).to_ne_bytes());

    if glance.protocol == tcp::PROTOCOL {
        let mut header = TcpHeader::new_checked_mut(head.get_mut(L4..)?)?;
        header.set_checksum(u16::from_be(shifts.transport.apply(header.checksum().to_be())));
    } else {
        let mut header = UdpHeader::new_checked_mut(head.get_mut(L4..)?)?;
        header.set_checksum(u16::from_be(shifts.transport.apply_udp(header.checksum().to_be())));
    }
    *head.get_mut(L4 - 8..)?.first_chunk_mut()? = ends.bytes();
    Some(())
}

/// The same of IPv6; `heads` are the first 96 bits of its new addresses.
///
/// # Errors
/// As there.
#[inline(never)]
pub fn redirect_v6(
    glance: &Glance,
    (course, heads): (&Course, [[u32; 3]; 2]),
    origin: &Origin,
    frame: &mut [u8],
) -> Result<(), Reason> {
    address(frame, course.hop.mac(), origin.mac())?;
    ipv6(glance, course.ends.endpoints(heads), frame).ok_or(Reason::Runt)
}

fn ipv6(glance: &Glance, [from, to]: [Endpoint; 2], frame: &mut [u8]) -> Option<()> {
    let (header, payload) = frame.get_mut(ethernet::LEN..)?.split_at_mut_checked(LEN_V6)?;
    let mut header = Ipv6Header::new_checked_mut(header)?;
    let update = Update::NONE.u128(header.source(), from.address.bits()).u128(header.destination(), to.address.bits());
    if glance.protocol == tcp::PROTOCOL {
        let mut header = TcpHeader::new_checked_mut(payload)?;
        let update = update.u16(header.source(), from.port).u16(header.destination(), to.port);
        let checksum = update.apply(header.checksum());
        header.set_source(from.port);
        header.set_destination(to.port);
        header.set_checksum(checksum);
    } else {
        let mut header = UdpHeader::new_checked_mut(payload)?;
        let update = update.u16(header.source(), from.port).u16(header.destination(), to.port);
        let checksum = update.apply_udp(header.checksum());
        header.set_source(from.port);
        header.set_destination(to.port);
        header.set_checksum(checksum);
    }
    header.set_hop_limit(header.hop_limit().checked_sub(1)?);
    header.set_source(from.address.bits());
    header.set_destination(to.address.bits());
    Some(())
}
