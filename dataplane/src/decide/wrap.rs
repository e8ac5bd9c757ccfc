//! Packets that reach their backend through a tunnel.

use super::fits::mtu_floor;
use super::{Decision, Memory, Scene, dropped, limited};
use crate::hash::MAGLEV_KEY;
use crate::headers::{Fragment, Headers, Ip};
use crate::reason::Reason;
use crate::tables::tunnel::Remote;
use crate::verdict::{Endpoint, Outer, PortId, Reply, Rewrite, Verdict};

/// First of the dynamic ports (RFC 6335, 6), out of which outer source ports are (RFC 7348, 5).
pub(super) const DYNAMIC_PORTS: u16 = 0xc000;

/// Wraps a packet for the far end of a tunnel, to whose next hop `port` and `rewrite` lead.
pub(super) fn wrap(remote: &Remote, entropy: u16, port: PortId, rewrite: Rewrite, scene: &Scene<'_>) -> Decision {
    let v4 = remote.address.is_v4();
    let Some((tunnel, end)) = scene.tables.tunnels.first().and_then(|tunnel| Some((tunnel, tunnel.end(v4)?))) else {
        return dropped(Reason::NoTunnel);
    };
    let outer = Outer {
        kind: tunnel.kind,
        source: Endpoint { address: end, port: entropy },
        destination: Endpoint { address: remote.address, port: tunnel.port },
        // It is made of the length, too, which is looked at when it is asked whether that fits.
        mark: 0,
        network: tunnel.network,
        inner_source: rewrite.source_mac,
        inner_destination: remote.mac,
    };
    Decision::Ends(Verdict::Wrap(port, rewrite, outer))
}

/// The same for all packets of a flow, so that they stay in order, and another for most others, so that the ways and queues
/// between the ends are all used.
pub(super) fn entropy(client: Endpoint, frontend: Endpoint, protocol: u8) -> u16 {
    let ports = u32::from(client.port) << 16 | u32::from(frontend.port);
    let hash: u64 = MAGLEV_KEY.tuple(client.address, frontend.address, ports, protocol);
    DYNAMIC_PORTS | hash as u16 & !DYNAMIC_PORTS
}

/// A wrapped packet that does not fit on its way is turned round with the news of what would (RFC 1191, RFC 8201), whether or not it
/// may be fragmented: fragments of it, each with outer headers of its own, would be the node's to put together. A sender
/// that may fragment does it itself from then on.
///
/// What a router has said of the way is believed down to what any host must be able to send: 552 bytes of IPv4, 1,280 of IPv6. Below
/// that it does not matter whether the router is right: nobody could make anything of it.
///
/// Who cannot be told is the sender of what no host makes smaller, of an ICMP error, or of a later fragment (RFC 1122, 3.2.2).
///
/// What fits gets its mark here ([`Marks`](crate::ways::Marks)): so everything that is wrapped must come by.
#[must_use]
pub fn fits_in_tunnel(
    mut decision: Decision,
    headers: &Headers,
    ip: &Ip,
    scene: &Scene<'_>,
    memory: &mut Memory,
) -> Decision {
    let Decision::Ends(Verdict::Wrap(port, _, outer)) = &mut decision else { return decision };
    let (Some(tunnel), Some(out)) = (scene.tables.tunnels.first(), scene.tables.port(*port)) else {
        return dropped(Reason::NoTunnel);
    };
    let far_end = outer.destination.address;
    let length = ip.end.saturating_sub(headers.l3);
    let overhead = tunnel.overhead(far_end.is_v4());
    let mut room = tunnel.room(out, far_end.is_v4());
    let least = mtu_floor(ip.source.is_v4()) as u16;
    if length > least
        && let Some(mtu) = memory.ways.mtu(far_end, scene.now)
    {
        room = room.min(mtu.saturating_sub(overhead).max(least));
    }
    if length <= room {
        let length = length.saturating_add(overhead);
        outer.mark = memory.ways.marks.mark(far_end, tunnel.port != 0, outer.source.port, length);
        return decision;
    }
    if length <= least || ip.is_error() || ip.fragment == Fragment::Later {
        return dropped(Reason::TunnelNarrow);
    }
    let mtu = room.max(least);
    limited(ip, scene, memory, |mac| Reply::TooBig { mac, mtu })
}
