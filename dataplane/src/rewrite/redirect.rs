//! [`forward`](super::forward()) for plain packets: MACs, addresses, ports and TTL of what [`glance`](crate::parse::glance()) has seen.
//!
//! The same bytes come out (`worker::tests::established` compares them); fewer questions are asked. What changes of IPv4 lies
//! together, addresses and ports, and a flow has it as it stands there: nothing is turned round, since sums do not care in
//! which order a machine has its bytes, as long as all of them are in the same (RFC 1071, 2 (B)).

use levee_api::net::Mac;

use crate::ends::Ends;
use crate::headers::Glance;
use crate::reason::Reason;
use crate::verdict::Course;
use crate::wire::checksum::Update;
use crate::wire::ethernet::{self, EthernetHeader};
use crate::wire::ipv4::{Ipv4Header, LEN as LEN_V4};
use crate::wire::ipv6::{Ipv6Header, LEN as LEN_V6};
use crate::wire::tcp::{self, TcpHeader};
use crate::wire::udp::UdpHeader;

/// Sends a plain packet on its course, from the MAC `source`.
///
/// # Errors
/// [`Runt`](Reason::Runt): glance, course and frame do not belong together; the frame may have been changed in part.
#[inline(always)]
pub fn redirect(glance: &Glance, course: &Course, source: Mac, frame: &mut [u8]) -> Result<(), Reason> {
    let done = if glance.v4 {
        ipv4(glance.ends, glance.protocol, course, source, frame)
    } else {
        ipv6(glance, course, source, frame)
    };
    done.ok_or(Reason::Runt)
}

#[inline(always)]
fn ipv4(old: Ends, protocol: u8, course: &Course, source: Mac, frame: &mut [u8]) -> Option<()> {
    const ENDS: usize = ethernet::LEN + LEN_V4 - 8;
    let frame: &mut [u8; Glance::REACH] = frame.first_chunk_mut()?;
    address(course.mac, source, frame)?;
    let addresses = old.addresses().into_iter().zip(course.ends.addresses());
    let addresses = addresses.fold(Update::NONE, |update, (old, new)| update.u32(old, new));
    let ([.., old_ports], [.., ports]) = (old.words(), course.ends.words());

    let mut header = Ipv4Header::new_checked_mut(frame.get_mut(ethernet::LEN..)?)?;
    let (ttl, next) = (header.ttl(), header.ttl().checked_sub(1)?);
    let word = |ttl| u16::from_ne_bytes([ttl, protocol]);
    let checksum = addresses.u16(word(ttl), word(next)).apply(header.checksum().to_be());
    header.set_ttl(next);
    header.set_checksum(u16::from_be(checksum));

    let update = addresses.u32(old_ports, ports);
    let payload = frame.get_mut(ethernet::LEN + LEN_V4..)?;
    if protocol == tcp::PROTOCOL {
        let mut header = TcpHeader::new_checked_mut(payload)?;
        header.set_checksum(u16::from_be(update.apply(header.checksum().to_be())));
    } else {
        let mut header = UdpHeader::new_checked_mut(payload)?;
        header.set_checksum(u16::from_be(update.apply_udp(header.checksum().to_be())));
    }
    *frame.get_mut(ENDS..)?.first_chunk_mut()? = course.ends.bytes();
    Some(())
}

#[inline(always)]
fn address(destination: Mac, source: Mac, frame: &mut [u8]) -> Option<()> {
    let mut link = EthernetHeader::new_checked_mut(frame)?;
    link.set_destination(destination.0);
    link.set_source(source.0);
    Some(())
}

#[inline(never)]
fn ipv6(glance: &Glance, course: &Course, source: Mac, frame: &mut [u8]) -> Option<()> {
    address(course.mac, source, frame)?;
    let [from, to] = course.ends.endpoints(course.heads);
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
