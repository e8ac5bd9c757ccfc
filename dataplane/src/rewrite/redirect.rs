//! [`forward`](super::forward()) for plain packets: MACs, addresses, ports and TTL of what [`glance`](crate::parse::glance) has seen.
//!
//! The same bytes come out (a property test compares them); fewer questions are asked.

use levee_api::net::Mac;

use crate::flows::{Course, Tuple};
use crate::reason::Reason;
use crate::verdict::Endpoint;
use crate::wire::checksum::Update;
use crate::wire::ethernet::{self, EthernetHeader};
use crate::wire::ipv4::{Ipv4Header, LEN as LEN_V4};
use crate::wire::ipv6::{Ipv6Header, LEN as LEN_V6};
use crate::wire::tcp::{self, TcpHeader};
use crate::wire::udp::UdpHeader;

/// Sends a plain packet on its course, from the MAC `source`.
///
/// # Errors
/// [`Runt`](Reason::Runt): tuple, course and frame do not belong together; the frame may have been changed in part.
#[inline(always)]
pub fn redirect(tuple: &Tuple, course: &Course, source: Mac, frame: &mut [u8]) -> Result<(), Reason> {
    plain(tuple, course, source, frame).ok_or(Reason::Runt)
}

#[inline(always)]
fn plain(tuple: &Tuple, course: &Course, source: Mac, frame: &mut [u8]) -> Option<()> {
    let mut link = EthernetHeader::new_checked_mut(frame)?;
    link.set_destination(course.mac.0);
    link.set_source(source.0);
    let packet = frame.get_mut(ethernet::LEN..)?;
    let from = course.source.unwrap_or(tuple.source);
    let to = course.destination.unwrap_or(tuple.destination);
    if tuple.source.address.is_v4() { ipv4(tuple, from, to, packet) } else { ipv6(tuple, from, to, packet) }
}

#[inline(always)]
fn ipv4(tuple: &Tuple, from: Endpoint, to: Endpoint, packet: &mut [u8]) -> Option<()> {
    let (header, payload) = packet.split_at_mut_checked(LEN_V4)?;
    let mut header = Ipv4Header::new_checked_mut(header)?;
    if !from.address.is_v4() || !to.address.is_v4() {
        return None;
    }
    let (source, destination) = (from.address.tail(), to.address.tail());
    let addresses =
        Update::NONE.u32(tuple.source.address.tail(), source).u32(tuple.destination.address.tail(), destination);
    transport(tuple, from, to, addresses, payload)?;
    let (ttl, protocol) = (header.ttl(), header.protocol());
    let next = ttl.checked_sub(1)?;
    let update = addresses.u16(u16::from_be_bytes([ttl, protocol]), u16::from_be_bytes([next, protocol]));
    let checksum = update.apply(header.checksum());
    header.set_ttl(next);
    header.set_checksum(checksum);
    header.set_source(source);
    header.set_destination(destination);
    Some(())
}

#[inline(never)]
fn ipv6(tuple: &Tuple, from: Endpoint, to: Endpoint, packet: &mut [u8]) -> Option<()> {
    let (header, payload) = packet.split_at_mut_checked(LEN_V6)?;
    let mut header = Ipv6Header::new_checked_mut(header)?;
    if from.address.is_v4() || to.address.is_v4() {
        return None;
    }
    let (source, destination) = (from.address.bits(), to.address.bits());
    let addresses =
        Update::NONE.u128(tuple.source.address.bits(), source).u128(tuple.destination.address.bits(), destination);
    transport(tuple, from, to, addresses, payload)?;
    header.set_hop_limit(header.hop_limit().checked_sub(1)?);
    header.set_source(source);
    header.set_destination(destination);
    Some(())
}

/// Ports, and the checksum over them and the addresses.
#[inline(always)]
fn transport(tuple: &Tuple, from: Endpoint, to: Endpoint, addresses: Update, payload: &mut [u8]) -> Option<()> {
    let update = addresses.u16(tuple.source.port, from.port).u16(tuple.destination.port, to.port);
    if tuple.protocol == tcp::PROTOCOL {
        let mut header = TcpHeader::new_checked_mut(payload)?;
        let checksum = update.apply(header.checksum());
        header.set_source(from.port);
        header.set_destination(to.port);
        header.set_checksum(checksum);
    } else {
        let mut header = UdpHeader::new_checked_mut(payload)?;
        let checksum = update.apply_udp(header.checksum());
        header.set_source(from.port);
        header.set_destination(to.port);
        header.set_checksum(checksum);
    }
    Some(())
}
