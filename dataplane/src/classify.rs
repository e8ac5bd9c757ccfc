//! What a frame is to us: headers and tables in, a class out. No state, no bytes.
//!
//! The questions are asked in the order in which an answer ends them:
//!
//! ```text
//!   link layer    whose frame is it?           another station's, a group's
//!   ARP, ND       who is asked for?            ours on the fabric; not on this node, on the pods' side
//!   destination   a VIP? a shared port?        a service, a ping, a closed port
//!                 a SNAT port?                 a reply of a translated flow
//!   source        a service's backend?         perhaps a reply
//!   destination   the kernel, a pod, a route   plain forwarding
//! ```

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod resolution;

use levee_api::net::{Mac, Role};

use crate::address::Address;
use crate::headers::{Fragment, Headers, Ip, Network, Ports, Transport};
use crate::reason::Reason;
use crate::tables::service::{BackendKey, Frontend, FrontendKey};
use crate::tables::snat::WITHOUT_PORTS;
use crate::tables::tunnel::Tunnel;
use crate::tables::{Owner, Port, Tables};
use crate::verdict::{Endpoint, PortId};

/// What a frame is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Nothing that we send on.
    Ends(Reason),
    /// The kernel's.
    Kernel,
    /// An ARP request or neighbour solicitation that we answer with the node's MAC.
    IsAt {
        /// For somebody else: a pod, or what lies beyond us.
        proxied: bool,
    },
    /// Somebody says by ARP or Neighbour Discovery that an address of ours is at another MAC than ours.
    Claim,
    /// To a frontend of a service.
    Service(Frontend),
    /// The same, with a QUIC connection ID that names the backend with this index.
    Connection(Frontend, u16),
    /// A ping to a VIP, or to pods' gateway.
    Ping,
    /// To a VIP, at a port that it does not have.
    ClosedPort,
    /// To a SNAT address and port: a reply that this worker's flows know.
    SnatReply {
        /// The worker whose port it is.
        worker: usize,
    },
    /// A fragment of a packet to or from a service: it follows the first one of its datagram, or is that.
    Fragment,
    /// An ICMP error: a flow's, if the packet that it quotes is one of a flow, and otherwise this.
    Error(Plain),
    /// To an end of this tunnel, from one of its peers: to be unwrapped.
    Tunnelled(u8),
    /// From a backend of a service: a reply, if a flow knows it, and plain otherwise.
    Reply(Plain),
    /// To be sent on as it is but for its MACs.
    Plain(Plain),
}

/// Where a packet without a flow goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plain {
    /// To this pod of this node, whose MAC the program gave, or zero.
    Pod(Address, Mac),
    /// To this address, wherever its route leads.
    Route(Address),
    /// To a group, out of this port: the first uplink.
    Multicast(PortId),
    /// To the kernel.
    Kernel,
    /// Nowhere.
    Nowhere(Reason),
}

/// Says what a frame is that came in on a port.
#[inline]
#[must_use]
pub fn classify(headers: &Headers, tables: &Tables, ingress: PortId) -> Class {
    as_it_is::<true>(headers, tables, ingress)
}

/// Says what the packet is that a first fragment begins: what [`classify`] would say of it if it were whole.
#[must_use]
pub fn classify_first(headers: &Headers, tables: &Tables, ingress: PortId) -> Class {
    as_it_is::<false>(headers, tables, ingress)
}

#[inline(always)]
fn as_it_is<const FRAGMENTS: bool>(headers: &Headers, tables: &Tables, ingress: PortId) -> Class {
    let Some(port) = tables.port(ingress) else { return Class::Ends(Reason::NotOwned) };
    if !headers.source.is_station() {
        return Class::Ends(Reason::SourceMacInvalid);
    }
    match &headers.network {
        Network::Ip(ip) => {
            if !ip.source.is_v4()
                && let Some(class) = ipv6(headers, ip, port)
            {
                return class;
            }
            self::ip::<FRAGMENTS>(headers, ip, tables, port)
        }
        Network::Arp(arp) => resolution::arp(arp, tables, (ingress, port)),
        Network::Discovery(discovery) => resolution::discovery(headers, discovery, tables, (ingress, port)),
        Network::Other if port.role == Role::Pods && headers.destination.is_broadcast() => {
            Class::Ends(Reason::PodBroadcast)
        }
        Network::Other if port.role == Role::Pods && headers.destination.is_multicast() => {
            Class::Ends(Reason::PodMulticast)
        }
        Network::Other => not_ours(port, Reason::EthertypeUnsupported),
    }
}

/// The kernel's where the port has a way to it; otherwise dropped, under the reason for pods or as not owned.
fn not_ours(port: &Port, from_pods: Reason) -> Class {
    match (port.role, port.passes) {
        (Role::Pods, _) => Class::Ends(from_pods),
        (Role::Tunnel, _) => Class::Ends(Reason::TunnelNotService),
        // The kernel's to begin with; it must not get it twice.
        (Role::Host, _) => Class::Ends(Reason::NotOwned),
        (Role::Uplink, true) => Class::Kernel,
        (Role::Uplink, false) => Class::Ends(Reason::NotOwned),
    }
}

/// What IPv6 has and IPv4 has not: addresses that no router forwards from or to. The rest is the same for both.
fn ipv6(headers: &Headers, ip: &Ip, port: &Port) -> Option<Class> {
    if headers.destination.is_multicast() {
        return None;
    }
    let local = ip.source.stays_on_its_link() || ip.destination.stays_on_its_link() || ip.destination.is_multicast();
    local.then(|| not_ours(port, Reason::Ipv6Scope))
}

/// A packet of either family.
fn ip<const FRAGMENTS: bool>(headers: &Headers, ip: &Ip, tables: &Tables, port: &Port) -> Class {
    if headers.destination.is_multicast() {
        return group(headers, ip, tables, port);
    }
    let source = tables.owner(ip.source);
    if source.announce || source.inward || ip.source.is_martian() {
        return Class::Ends(Reason::MartianSource);
    }
    let owner = tables.owner(ip.destination);
    let local = tables.is_local_pod(ip.destination, owner);
    if port.role == Role::Tunnel {
        return unwrapped::<FRAGMENTS>(ip, tables, owner);
    }
    if headers.destination != port.mac {
        // Peers that still have a pod's own MAC are helped until they have learnt the node's; anything else is a copy
        // of a flood. On the pods' side, a bridge floods what it has not learnt: for pods of this node it delivers the
        // original itself.
        match port.role {
            Role::Uplink if !local => return Class::Ends(Reason::OtherStation),
            Role::Pods if local => return Class::Ends(Reason::PodToPod),
            Role::Pods if owner.kernel => return Class::Ends(Reason::OtherStation),
            Role::Host => return Class::Ends(Reason::OtherStation),
            Role::Uplink | Role::Pods | Role::Tunnel => {}
        }
    }
    if ip.destination.is_martian() {
        return martian(ip, port);
    }
    if owner.tunnel
        && port.role == Role::Uplink
        && let Some(tunnel) = tunnel_of(ip, tables)
    {
        return match tables.tunnels.get(usize::from(tunnel)) {
            Some(end) if end.admits(ip.source) => Class::Tunnelled(tunnel),
            _ => Class::Ends(Reason::TunnelStranger),
        };
    }
    if FRAGMENTS && ip.fragment != Fragment::Whole && is_services(ip, source, owner, tables) {
        return Class::Fragment;
    }
    if owner.vip || owner.shared {
        if let Some(frontend) = frontend(ip, tables, owner, port.role) {
            return Class::Service(*frontend);
        }
        if owner.vip {
            return vip(ip);
        }
    }
    if owner.gateway && port.role == Role::Pods {
        return vip(ip);
    }
    if (owner.snat || owner.inward && port.role == Role::Host)
        && let Some(ports) = ip.transport.ports()
        && let Some(range) = tables.snat_range(ip.destination, ports.destination)
    {
        return match range.worker(ports.destination, tables.workers) {
            Some(worker) => Class::SnatReply { worker },
            None => Class::Ends(Reason::NoSnatFlow),
        };
    }
    // Of protocols without ports, one worker has all flows whose source levee gives: see `decide`.
    if ip.transport == Transport::Other
        && (owner.snat && !owner.kernel || owner.inward && port.role == Role::Host)
        && source.answers
    {
        return Class::SnatReply { worker: WITHOUT_PORTS };
    }
    if owner.snat && !owner.kernel && ip.is_error() {
        return Class::Error(Plain::Nowhere(Reason::IcmpNoFlow));
    }
    let plain = plain(ip, tables, port, owner, local);
    match (ip.transport.ports(), ip.transport) {
        (Some(ports), _) if is_backend(ip, ports, source, tables) => Class::Reply(plain),
        (None, Transport::Other) if source.answers => Class::Reply(plain),
        (None, _) if ip.is_error() => Class::Error(plain),
        _ => Class::Plain(plain),
    }
}

/// A packet to this station alone, for an address that is no station's on any wire. None is forwarded, and to the kernel, which with
/// `route_localnet` would take even its loopback's (CVE-2020-8558), none of them goes but what an uplink got for a group or for all: that
/// a link may have delivered to each of its stations by itself.
fn martian(ip: &Ip, port: &Port) -> Class {
    if port.role == Role::Uplink && ip.destination.is_for_many() {
        not_ours(port, Reason::MartianDestination)
    } else {
        Class::Ends(Reason::MartianDestination)
    }
}

/// The tunnel that a packet to one of its ends is of, by form; whoever sent it.
fn tunnel_of(ip: &Ip, tables: &Tables) -> Option<u8> {
    let port = match ip.transport {
        Transport::Udp(udp) => udp.ports.destination,
        Transport::Other if ip.is_ip_in_ip() => 0,
        _ => return None,
    };
    let is_end = |tunnel: &Tunnel| tunnel.port == port && tunnel.end(ip.destination.is_v4()) == Some(ip.destination);
    // There are eight at most.
    tables.tunnels.iter().zip(0..).find(|(tunnel, _)| is_end(tunnel)).map(|(_, index)| index)
}

/// What a peer has wrapped: for a service, and nothing else. It is not forwarded anywhere, not answered for anybody, and no
/// way into the kernel.
fn unwrapped<const FRAGMENTS: bool>(ip: &Ip, tables: &Tables, owner: Owner) -> Class {
    let frontend = frontend(ip, tables, owner, Role::Tunnel);
    // What a whole address gets, its backend unwraps or nobody.
    if ip.is_ip_in_ip() && frontend.is_none() || owner.tunnel && tunnel_of(ip, tables).is_some() {
        return Class::Ends(Reason::TunnelNested);
    }
    if FRAGMENTS && ip.fragment != Fragment::Whole && owner.vip {
        return Class::Fragment;
    }
    match frontend {
        Some(frontend) => Class::Service(*frontend),
        None if owner.vip && ip.is_error() => Class::Error(Plain::Nowhere(Reason::IcmpNoFlow)),
        None => Class::Ends(Reason::TunnelNotService),
    }
}

/// Broadcast and multicast. From pods, only what `multicast` names leaves, out of the first uplink; from the fabric nothing comes in to pods:
/// it is the kernel's.
fn group(headers: &Headers, ip: &Ip, tables: &Tables, port: &Port) -> Class {
    match port.role {
        Role::Uplink | Role::Host | Role::Tunnel => not_ours(port, Reason::NotOwned),
        Role::Pods if headers.destination.is_broadcast() => Class::Ends(Reason::PodBroadcast),
        Role::Pods => match tables.port_with(Role::Uplink) {
            Some(uplink) if ip.destination.is_multicast() && tables.multicast.contains(ip.destination) => {
                Class::Plain(Plain::Multicast(uplink))
            }
            _ => Class::Ends(Reason::PodMulticast),
        },
    }
}

/// What serves a packet. Pings are answered for every VIP by levee itself, and errors go with the flow that they are about: so no ICMP
/// is a service's, also where the rest of its address is.
fn frontend<'a>(ip: &Ip, tables: &'a Tables, owner: Owner, from: Role) -> Option<&'a Frontend> {
    let port = match ip.transport {
        Transport::Icmp(_) => return None,
        transport => transport.ports().map(|ports| ports.destination),
    };
    if port.is_none() && !owner.wide {
        return None;
    }
    tables.frontend(&FrontendKey::new(ip.destination, port.unwrap_or(0), ip.protocol, from), owner.wide)
}

/// A packet to a VIP that is no frontend's, or to pods' gateway.
fn vip(ip: &Ip) -> Class {
    match ip.transport {
        Transport::Icmp(icmp) if icmp.asks_for_echo(ip.source.is_v4()) => Class::Ping,
        Transport::Icmp(_) if ip.is_error() => Class::Error(Plain::Nowhere(Reason::IcmpNoFlow)),
        Transport::Icmp(_) => Class::Ends(Reason::VipIcmp),
        Transport::Tcp(_) | Transport::Udp(_) | Transport::Sctp(_) => Class::ClosedPort,
        Transport::Other => Class::Ends(Reason::VipProtocol),
    }
}

/// Whether a fragment may be of a packet to or from a service, which its ports, if it has any, do not tell of the others.
fn is_services(ip: &Ip, source: Owner, owner: Owner, tables: &Tables) -> bool {
    let from_backend =
        || source.answers || tables.backends.get(&BackendKey::fragments(ip.source, ip.protocol)).is_some();
    owner.vip || owner.gateway || owner.shared || owner.snat || owner.inward || from_backend()
}

fn is_backend(ip: &Ip, ports: Ports, source: Owner, tables: &Tables) -> bool {
    let endpoint = Endpoint { address: ip.source, port: ports.source };
    tables.may_reply(endpoint, ip.protocol, source)
}

fn plain(ip: &Ip, tables: &Tables, port: &Port, owner: Owner, local: bool) -> Plain {
    if owner.kernel {
        return if port.passes { Plain::Kernel } else { Plain::Nowhere(Reason::NotOwned) };
    }
    if local {
        return Plain::Pod(ip.destination, owner.mac);
    }
    if tables.service_ranges.contains(ip.destination) {
        return Plain::Nowhere(Reason::ServiceUnallocated);
    }
    if owner.inward {
        return Plain::Nowhere(Reason::NotOwned);
    }
    match port.role {
        Role::Pods => Plain::Route(ip.destination),
        Role::Uplink if port.passes => Plain::Kernel,
        // The kernel sends here what is levee's, and finds its other ways itself.
        Role::Uplink | Role::Host | Role::Tunnel => Plain::Nowhere(Reason::NotOwned),
    }
}
