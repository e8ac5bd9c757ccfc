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

/// What `payload`, the rest of an IP packet or of a first fragment, starts with. `icmp` is the protocol number of the IP
/// version's own ICMP: the other version's is an unknown protocol here.
#[inline]
pub(super) fn parse(protocol: u8, icmp: u8, fragment: Fragment, payload: &[u8]) -> Result<Transport, Reason> {
    let parsed = match (fragment, protocol) {
        (Fragment::Later, _) => Some(Transport::Other),
        (_, tcp::PROTOCOL) => tcp(payload).map(Transport::Tcp),
        (_, udp::PROTOCOL) => udp(payload, fragment).map(Transport::Udp),
        (_, sctp::PROTOCOL) => sctp(payload).map(Transport::Sctp),
        (_, protocol) if protocol == icmp => self::icmp(payload).map(Transport::Icmp),
        _ => Some(Transport::Other),
    };
    parsed.ok_or(Reason::TransportMalformed)
}

#[inline]
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

#[inline]
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
