//! ICMP errors about packets that levee has wrapped: not a flow's, but the way's between the ends of a tunnel.
//!
//! Who they are told to is this end itself. "Too big" is believed, for that way alone and for a while ([`Ways`](crate::ways)); the
//! client is told when its next packet does not fit ([`wrap::fits`](super::wrap)). That costs one packet more than telling it at once
//! would, and needs no trust in what a router quotes behind 8 bytes, if it quotes it at all.
//!
//! What is quoted must be a packet of ours, by all that a quote surely has: from this end, to a far end that a backend is behind, of
//! the tunnel's kind, out of the ports that flows are spread over, longer than what is said to fit, and with the mark that levee
//! put on it ([`Marks`](crate::ways::Marks)). A mark can be guessed, one time in 65,536; so guesses are limited for each far end, and true news waits
//! with them while somebody tries. The other news, that nobody is there or nobody listens, changes nothing here: what is sent
//! where is the program's affair, and it is counted.
//!
//! Less than what any host must be able to send, with the outer headers, is not believed: see [`floor`].

use super::error::key;
use super::fits::mtu_floor;
use super::wrap::DYNAMIC_PORTS;
use super::{Decision, Memory, Scene, dropped};
use crate::headers::{Headers, Network, Quote};
use crate::reason::Reason;
use crate::tables::tunnel::Tunnel;
use crate::verdict::Endpoint;

/// Decides on an ICMP error about a tunnel's packet; `None` if it is about something else. `is_right`: whether its checksum is, which is asked
/// when all else is.
#[must_use]
pub fn decide_about_tunnel(
    quote: &Quote,
    headers: &Headers,
    scene: &Scene<'_>,
    memory: &mut Memory,
    is_right: impl FnOnce() -> bool,
) -> Option<Decision> {
    let Network::Ip(ip) = &headers.network else { return None };
    if !scene.tables.owner(ip.destination).tunnel {
        return None;
    }
    let v4 = ip.destination.is_v4();
    let of_it = |tunnel: &&Tunnel| {
        let carried = match quote.ports {
            Some(ports) => quote.is_udp() && tunnel.port != 0 && ports.destination == tunnel.port,
            None => tunnel.port == 0 && quote.is_ip_in_ip(),
        };
        carried && tunnel.end(v4) == Some(ip.destination)
    };
    let tunnel = scene.tables.tunnels.iter().find(of_it)?;

    let sent_by_us = quote.source == ip.destination && quote.ports.is_none_or(|ports| ports.source >= DYNAMIC_PORTS);
    if !sent_by_us {
        return Some(dropped(Reason::TunnelErrorSpoofed));
    }
    let far_end = quote.destination;
    if scene.tables.far_ends.get(&far_end).is_none() {
        return Some(dropped(Reason::TunnelErrorStranger));
    }
    let Some(mtu) = quote.mtu else { return Some(dropped(Reason::TunnelError)) };
    if mtu < floor(tunnel, v4) {
        return Some(dropped(Reason::IcmpMtu));
    }
    if mtu >= quote.length {
        return Some(dropped(Reason::TunnelErrorSpoofed));
    }
    let at = |address| Endpoint { address, port: 0 };
    if !memory.errors.about(key(at(far_end), at(ip.destination)), scene.now) {
        return Some(dropped(Reason::IcmpRateLimited));
    }
    let port = quote.ports.map(|ports| ports.source);
    if !memory.ways.marks.is_ours(quote.mark, far_end, port, quote.length) {
        return Some(dropped(Reason::TunnelErrorSpoofed));
    }
    if !is_right() {
        return Some(dropped(Reason::IcmpMalformed));
    }
    // It is less than a length, and so has 16 bits but for IPv6 packets of the largest size.
    memory.ways.lower(far_end, u16::try_from(mtu).unwrap_or(u16::MAX), scene.now);
    Some(dropped(Reason::TunnelMtuLearnt))
}

/// The smallest MTU that is believed of a way: one on which any client's packets still fit behind the outer headers, 552 bytes of
/// IPv4 (IPv6 clients are then believed to get their 1,280 through: [`fits_in_tunnel`](super::fits_in_tunnel)); and 1,280 where the way itself is of IPv6.
fn floor(tunnel: &Tunnel, v4: bool) -> u32 {
    let inside = mtu_floor(true) + u32::from(tunnel.overhead(v4));
    inside.max(mtu_floor(v4))
}
