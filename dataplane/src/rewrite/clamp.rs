//! A smaller maximum segment size in a SYN, for paths on which "too big" does not come back (RFC 9293, 3.7.1; RFC 2923, 2.3).

use crate::checksum::Update;
use crate::headers::{Fragment, Headers, Network, Transport, tcp_flags};
use crate::reason::Reason;
use crate::wire::tcp::{self, TcpHeader};

/// Option kinds (RFC 9293, 3.2).
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const MAXIMUM_SEGMENT_SIZE: u8 = 2;
/// How much longer IPv6's header is: by so much less is a segment.
const LONGER: u16 = 20;

/// Lowers the maximum segment size that a SYN offers to `most`, in bytes over IPv4. What offers less, or nothing, stays.
///
/// # Errors
/// [`Runt`](Reason::Runt): headers and frame do not belong together.
#[inline]
pub fn clamp(headers: &Headers, most: u16, frame: &mut [u8]) -> Result<(), Reason> {
    match &headers.network {
        Network::Ip(ip) => match ip.transport {
            Transport::Tcp(tcp) if tcp.flags & tcp_flags::SYN != 0 && ip.fragment != Fragment::Later => {
                let most = if ip.source.is_v4() { most } else { most.saturating_sub(LONGER) };
                let segment = frame.get_mut(usize::from(ip.l4)..usize::from(ip.end)).ok_or(Reason::Runt)?;
                lower(most, segment).ok_or(Reason::Runt)
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

#[cold]
fn lower(most: u16, segment: &mut [u8]) -> Option<()> {
    let header_len = TcpHeader::new_checked(segment)?.header_len();
    let (header, options) = segment.get_mut(..header_len)?.split_at_mut_checked(tcp::LEN)?;
    let mut at = 0;
    // An option that is cut off, or has no length, ends the list: its sender's mistake, which is left alone.
    loop {
        let length = match (options.get(at).copied(), options.get(at + 1).copied()) {
            (None | Some(END), _) => return Some(()),
            (Some(NO_OPERATION), _) => 1,
            (Some(MAXIMUM_SEGMENT_SIZE), Some(4)) => break,
            (_, Some(length @ 2..)) => usize::from(length),
            _ => return Some(()),
        };
        at += length;
    }
    let Some(field) = options.get_mut(at + 2..).and_then(|rest| rest.first_chunk_mut()) else { return Some(()) };
    let offered = u16::from_be_bytes(*field);
    if offered > most {
        *field = most.to_be_bytes();
        // At an odd place, the sum has its bytes the other way round (RFC 1071, 2 (B)).
        let (old, new) = if at.is_multiple_of(2) { (offered, most) } else { (offered.swap_bytes(), most.swap_bytes()) };
        let mut header = TcpHeader::new_checked_mut(header)?;
        let checksum = Update::NONE.u16(old, new).apply(header.checksum());
        header.set_checksum(checksum);
    }
    Some(())
}
