//! Where in its datagram a fragment is (RFC 791, 3.2; RFC 8200, 4.5). Read only of fragments: packets that are whole pay nothing
//! for it.

use crate::headers::{Headers, Ip, Network, Piece};
use crate::reason::Reason;
use crate::wire::ipv4::{self, Ipv4Header};
use crate::wire::ipv6::{self, ExtensionHeader, FRAGMENT_LEN, FragmentHeader, Ipv6Header, next};

/// Most bytes that the fragments of one datagram make.
const LARGEST: u32 = 65_535;

/// Reads the fields that are a fragment's alone. `frame` is the one that `headers` were parsed from.
///
/// # Errors
/// [`FragmentMalformed`](Reason::FragmentMalformed): it is no fragment, has no data, ends past 65,535 bytes, or is not the last
/// and its length no multiple of 8.
pub fn piece(headers: &Headers, frame: &[u8]) -> Result<Piece, Reason> {
    let bad = Reason::FragmentMalformed;
    let Network::Ip(ip) = &headers.network else { return Err(bad) };
    let packet = frame.get(usize::from(headers.l3)..usize::from(ip.end)).ok_or(bad)?;
    let piece = if ip.source.is_v4() { v4(headers.l3, ip, packet) } else { v6(headers.l3, packet) }.ok_or(bad)?;
    let whole = piece.offset == 0 && !piece.more;
    let uneven = piece.more && !piece.length.is_multiple_of(8);
    if whole || uneven || piece.length == 0 || piece.offset + piece.length > LARGEST { Err(bad) } else { Ok(piece) }
}

fn v4(l3: u16, ip: &Ip, packet: &[u8]) -> Option<Piece> {
    let header = Ipv4Header::new_checked(packet)?;
    Some(Piece {
        identification: u32::from(header.identification()),
        offset: u32::from(header.flags_offset() & ipv4::OFFSET_MASK) * 8,
        length: u32::from(ip.end.checked_sub(ip.l4)?),
        more: header.flags_offset() & ipv4::MORE_FRAGMENTS != 0,
        header: l3,
    })
}

/// The chain was walked by `parse`, so that it is sound up to the fragment header; of several, the first counts: what is
/// behind it is not this packet's to say.
fn v6(l3: u16, packet: &[u8]) -> Option<Piece> {
    let mut announced = Ipv6Header::new_checked(packet)?.next_header();
    let mut rest = packet.get(ipv6::LEN..)?;
    while next::is_extension(announced) {
        if announced == next::FRAGMENT {
            let header = FragmentHeader::new_checked(rest)?;
            return Some(Piece {
                identification: header.identification(),
                offset: u32::from(header.offset_more() & ipv6::OFFSET_MASK),
                length: (rest.len() - FRAGMENT_LEN) as u32,
                more: header.offset_more() & ipv6::MORE_FRAGMENTS != 0,
                header: l3 + (packet.len() - rest.len()) as u16,
            });
        }
        let header = ExtensionHeader::new_checked(rest)?;
        announced = header.next_header();
        rest = rest.get(header.header_len()..)?;
    }
    None
}
