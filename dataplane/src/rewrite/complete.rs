//! Finishing what a sender left to hardware that its frame never met.
//!
//! A kernel with transmit checksum offload writes only the pseudo header's sum into the TCP or UDP checksum field, and a
//! veth pair hands the frame over like that ([`checksum`]). Such a frame looks like any other with
//! a wrong checksum, but for what the wrong one is. It is best not to get any (`ethtool -K IF tx off` on the sender);
//! where one cannot be sure, this comes before [`forward`](super::forward()).

use crate::checksum::{self, Sum};
use crate::headers::{Fragment, Headers, Network, Transport};
use crate::reason::Reason;
use crate::wire::tcp::{self, TcpHeader};
use crate::wire::udp::{self, UdpHeader};

/// Finishes the TCP or UDP checksum if only the pseudo header is in it, and says whether it was so.
///
/// What it costs a frame with a finished checksum is the sum of the pseudo header; one in 65,536 of those looks
/// unfinished, and is summed up to see that it is right as it is. A frame that was broken on the way looks unfinished
/// equally rarely, and is then taken for a good one: as rarely as the checksum itself is fooled.
///
/// # Errors
///
/// [`Runt`](Reason::Runt): headers and frame do not belong together.
#[inline]
pub fn complete(headers: &Headers, frame: &mut [u8]) -> Result<bool, Reason> {
    let Network::Ip(ip) = &headers.network else { return Ok(false) };
    // A kernel never leaves fragments unfinished: it could not know what hardware would have to sum.
    if ip.fragment != Fragment::Whole {
        return Ok(false);
    }
    let payload = frame.get_mut(usize::from(ip.l4)..usize::from(ip.end)).ok_or(Reason::Runt)?;
    match ip.transport {
        Transport::Tcp(_) => {
            let field = TcpHeader::new_checked(payload).ok_or(Reason::Runt)?.checksum();
            let pseudo = ip.pseudo(tcp::PROTOCOL, payload.len() as u16);
            if field != pseudo.fold() {
                return Ok(false);
            }
            Ok(finish(payload, pseudo, |payload, value| {
                if let Some(mut header) = TcpHeader::new_checked_mut(payload) {
                    header.set_checksum(value);
                }
            }))
        }
        Transport::Udp(_) => {
            let header = UdpHeader::new_checked(payload).ok_or(Reason::Runt)?;
            let (field, length) = (header.checksum(), header.length());
            let pseudo = ip.pseudo(udp::PROTOCOL, length);
            if field != pseudo.fold() {
                return Ok(false);
            }
            let datagram = payload.get_mut(..usize::from(length)).ok_or(Reason::Runt)?;
            Ok(finish(datagram, pseudo, |datagram, value| {
                if let Some(mut header) = UdpHeader::new_checked_mut(datagram) {
                    header.set_checksum(checksum::udp(value));
                }
            }))
        }
        Transport::Sctp(_) | Transport::Icmp(_) | Transport::Other => Ok(false),
    }
}

/// `payload` has the folded pseudo header in its checksum field, so that its own sum is that of both.
#[cold]
fn finish(payload: &mut [u8], pseudo: Sum, set: impl FnOnce(&mut [u8], u16)) -> bool {
    let sum = Sum::of(payload);
    if sum.and(pseudo).checksum() == 0 {
        return false;
    }
    set(payload, sum.checksum());
    true
}
