//! An ICMP error about a packet of a flow: its own header gets the flow's addresses as an answer to that packet would, and
//! the quoted headers get the same the other way round.
//!
//! ```text
//!  | IP: source, destination | ICMP | IP: source', destination' | ports', checksum' … |
//!    rewrite.source → outer source, quoted destination     rewrite.destination → outer destination, quoted source
//! ```
//!
//! The quoted checksums are updated (RFC 1624), so that what a router spoilt stays spoilt, and a transport checksum that the
//! quote was cut before is left alone. The ICMP checksum over all of it is computed afresh. SCTP's CRC32c covers data that is
//! not there, and no receiver looks at it in a quote.

use super::forward;
use crate::checksum::{Sum, Update};
use crate::headers::{Headers, Ip, Network, Quote};
use crate::reason::Reason;
use crate::verdict::{Endpoint, Rewrite};
use crate::wire::icmp::{self, IcmpHeader};
use crate::wire::ipv4::Ipv4Header;
use crate::wire::ipv6::Ipv6Header;
use crate::wire::tcp::{self, TcpHeader};
use crate::wire::udp::{self, UdpHeader};

/// Where the checksum of TCP stands, for quotes that end before the header does.
const TCP_CHECKSUM: usize = 16;

/// Rewrites the frame that `headers` and `quote` were parsed from.
///
/// # Errors
/// As [`forward`](super::forward()), and the frame is then not to be sent.
pub fn error(headers: &Headers, quote: &Quote, rewrite: &Rewrite, frame: &mut [u8]) -> Result<(), Reason> {
    let Network::Ip(ip) = &headers.network else { return Err(Reason::Runt) };
    forward(headers, rewrite, frame)?;
    if rewrite.source.is_none() && rewrite.destination.is_none() {
        return Ok(());
    }
    let (outer, message) = frame
        .get_mut(..usize::from(ip.end))
        .and_then(|frame| frame.split_at_mut_checked(usize::from(ip.l4)))
        .ok_or(Reason::Runt)?;
    let start = quote.l3.checked_sub(ip.l4).ok_or(Reason::Runt)?;
    let header_len = quote.l4.checked_sub(quote.l3).ok_or(Reason::Runt)?;
    let quoted = message.get_mut(usize::from(start)..).ok_or(Reason::Runt)?;
    let (header, transport) = quoted.split_at_mut_checked(usize::from(header_len)).ok_or(Reason::Runt)?;

    let addresses = network(ip, rewrite, header)?;
    self::transport(quote, rewrite, addresses, transport)?;
    fill_checksum(ip, headers.l3, outer, message)
}

/// The quoted addresses, and what they do to the sums over them.
fn network(ip: &Ip, rewrite: &Rewrite, header: &mut [u8]) -> Result<Update, Reason> {
    let (new_source, new_destination) = (rewrite.destination, rewrite.source);
    if ip.source.is_v4() {
        let mut header = Ipv4Header::new_checked_mut(header).ok_or(Reason::Runt)?;
        let source = v4(new_source)?.unwrap_or(header.source());
        let destination = v4(new_destination)?.unwrap_or(header.destination());
        let update = Update::NONE.u32(header.source(), source).u32(header.destination(), destination);
        let checksum = update.apply(header.checksum());
        header.set_source(source);
        header.set_destination(destination);
        header.set_checksum(checksum);
        Ok(update)
    } else {
        let mut header = Ipv6Header::new_checked_mut(header).ok_or(Reason::Runt)?;
        let bits = |to: Option<Endpoint>, old| to.map_or(old, |endpoint| endpoint.address.bits());
        let (source, destination) = (bits(new_source, header.source()), bits(new_destination, header.destination()));
        let update = Update::NONE.u128(header.source(), source).u128(header.destination(), destination);
        header.set_source(source);
        header.set_destination(destination);
        Ok(update)
    }
}

/// The quoted ports, and the checksum as far as it is quoted.
fn transport(quote: &Quote, rewrite: &Rewrite, addresses: Update, bytes: &mut [u8]) -> Result<(), Reason> {
    if quote.ports.is_none() {
        return Ok(());
    }
    // TCP, UDP and SCTP begin alike.
    let mut ports = UdpHeader::new_checked_mut(bytes).ok_or(Reason::Runt)?;
    let port = |to: Option<Endpoint>, old| to.map_or(old, |endpoint| endpoint.port);
    let source = port(rewrite.destination, ports.source());
    let destination = port(rewrite.source, ports.destination());
    let update = addresses.u16(ports.source(), source).u16(ports.destination(), destination);
    ports.set_source(source);
    ports.set_destination(destination);
    match quote.protocol {
        udp::PROTOCOL => {
            let checksum = update.apply_udp(ports.checksum());
            ports.set_checksum(checksum);
        }
        tcp::PROTOCOL => {
            if let Some(mut header) = TcpHeader::new_checked_mut(bytes) {
                let checksum = update.apply(header.checksum());
                header.set_checksum(checksum);
            } else if let Some(field) = bytes.get_mut(TCP_CHECKSUM..).and_then(|rest| rest.first_chunk_mut()) {
                *field = update.apply(u16::from_be_bytes(*field)).to_be_bytes();
            }
        }
        _ => {}
    }
    Ok(())
}

/// `outer` is the frame up to the message.
fn fill_checksum(ip: &Ip, l3: u16, outer: &[u8], message: &mut [u8]) -> Result<(), Reason> {
    let pseudo = if ip.source.is_v4() {
        Sum::default()
    } else {
        // The new addresses, which stand there by now.
        let header = outer.get(usize::from(l3)..).and_then(Ipv6Header::new_checked).ok_or(Reason::Runt)?;
        Sum::pseudo_v6(header.source(), header.destination(), icmp::PROTOCOL_V6, message.len() as u32)
    };
    IcmpHeader::new_checked_mut(message).ok_or(Reason::Runt)?.set_checksum(0);
    let checksum = pseudo.and(Sum::of(message)).checksum();
    IcmpHeader::new_checked_mut(message).ok_or(Reason::Runt)?.set_checksum(checksum);
    Ok(())
}

fn v4(to: Option<Endpoint>) -> Result<Option<u32>, Reason> {
    to.map(|endpoint| endpoint.address.to_v4().map(|address| address.to_bits()).ok_or(Reason::Runt)).transpose()
}
