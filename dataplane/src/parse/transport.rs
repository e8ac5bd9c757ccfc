//! TCP, UDP, SCTP, ICMP: the fixed part of each must lie in its packet, and must not lie about its length.
//!
//! In a first fragment, too, the whole header must be there: the tricks with tiny fragments (RFC 1858, RFC 3128) live from
//! filters that let others pass, and RFC 7112 asks for the same in IPv6.

use crate::headers::{Fragment, Icmp, Ports, Tcp, Transport, Udp};
use crate::reason::Reason;
use crate::wire::icmp::IcmpHeader;
use crate::wire::sctp::{self, SctpHeader};
use crate::wire::tcp::{self, TcpHeader};
use crate::wire::udp::{self, UdpHeader};

/// What `payload`, the rest of an IP packet or of a first fragment, starts with, handed to `then`. `icmp` is the protocol
/// number of the IP version's own ICMP: the other version's is an unknown protocol here.
///
/// `then` stands in each arm by itself, so that it is compiled knowing which transport it got: headers that are built at
/// the end, from whichever it was, cost a fifth more.
#[inline(always)]
pub(super) fn parse<T>(
    protocol: u8,
    icmp: u8,
    fragment: Fragment,
    payload: &[u8],
    then: impl Fn(Transport) -> T,
) -> Result<T, Reason> {
    let bad = Reason::TransportMalformed;
    match protocol {
        _ if fragment == Fragment::Later => Ok(then(Transport::Other)),
        tcp::PROTOCOL => Ok(then(Transport::Tcp(tcp(payload).ok_or(bad)?))),
        udp::PROTOCOL => Ok(then(Transport::Udp(udp(payload, fragment).ok_or(bad)?))),
        sctp::PROTOCOL => Ok(then(Transport::Sctp(sctp(payload).ok_or(bad)?))),
        protocol if protocol == icmp => Ok(then(Transport::Icmp(self::icmp(payload).ok_or(bad)?))),
        _ => Ok(then(Transport::Other)),
    }
}

#[inline(always)]
fn tcp(payload: &[u8]) -> Option<Tcp> {
    let header = TcpHeader::new_checked(payload)?;
    if header.header_len() < tcp::LEN {
        return None;
    }
    Some(Tcp {
        ports: Ports { source: header.source(), destination: header.destination() },
        sequence: header.sequence(),
        acknowledgement: header.acknowledgement(),
        flags: header.flags(),
        payload: payload.len().checked_sub(header.header_len())? as u16,
    })
}

#[inline(always)]
fn udp(payload: &[u8], fragment: Fragment) -> Option<Udp> {
    let header = UdpHeader::new_checked(payload)?;
    let length = usize::from(header.length());
    // Of a fragmented datagram the rest is in the other fragments.
    if length < udp::LEN || (fragment == Fragment::Whole && length > payload.len()) {
        return None;
    }
    Some(Udp { ports: Ports { source: header.source(), destination: header.destination() } })
}

fn sctp(payload: &[u8]) -> Option<Ports> {
    let header = SctpHeader::new_checked(payload)?;
    Some(Ports { source: header.source(), destination: header.destination() })
}

fn icmp(payload: &[u8]) -> Option<Icmp> {
    let header = IcmpHeader::new_checked(payload)?;
    Some(Icmp { kind: header.kind(), code: header.code() })
}
