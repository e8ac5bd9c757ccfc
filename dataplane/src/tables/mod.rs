//! Everything that a worker decides by: one immutable snapshot.
//!
//! ```text
//!   program ─┐
//!   routes  ─┼─► Master (one thread, mutable) ── snapshot ──► Tables ── publication ──► workers
//!   neighbours                                     (shares with the one before whatever did not change)
//! ```
//!
//! Workers read a [`Tables`] once per batch and never change it. Stamps spare them work: they count the changes of any kind, and what
//! a flow remembers as of a [`Tables::stamp`] holds as long as neither [`Tables::hops_stamp`] nor what
//! [`Tables::service_changed`] says of its service is newer ([`is_newer`]).

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod connections;
pub mod deadline;
pub mod lpm;
pub mod map;
pub mod master;
pub mod ranges;
pub mod rows;
pub mod service;
pub mod slots;
pub mod snat;
pub mod sources;
pub mod tunnel;
mod validate;

use std::sync::Arc;

use ipnet::IpNet;
use levee_api::net::{Mac, Role};
use levee_api::program::Generation;

use self::deadline::Deadline;
use self::lpm::Lpm;
use self::map::{Key, Map};
use self::ranges::{Ranges, RangesKey};
use self::service::{BackendKey, Frontend, FrontendKey, Service};
use self::slots::Slots;
use self::snat::SnatRange;
use self::sources::Sources;
use self::tunnel::Tunnel;
use crate::address::Address;
use crate::hash::MAGLEV_KEY;
use crate::verdict::{Endpoint, PortId};

/// One snapshot.
#[derive(Clone, Default)]
pub struct Tables {
    /// The program's generation.
    pub generation: Generation,
    /// When a service last changed, of all changes. Never 0.
    pub services_stamp: u32,
    /// When a route, a neighbour, a port, a pod or what an address is last changed. Never 0.
    pub hops_stamp: u32,
    /// Ports, by [`PortId`].
    pub ports: Arc<[Port]>,
    /// Uplinks that leave it to another one of their segment to answer for pods and VIPs.
    pub standing_by: Arc<[PortId]>,
    /// Until when what is announced in a term may be.
    pub term: Deadline,
    /// What single addresses are.
    pub owners: Map<Address, Owner>,
    /// Where services are reached.
    pub frontends: Map<FrontendKey, Frontend>,
    /// Where services are reached by ranges of ports, or by an address whole.
    pub ranges: Map<RangesKey, Arc<Ranges>>,
    /// Services by slot.
    pub services: Slots<Service>,
    /// Endpoints whose packets may be replies of translated flows, with the number of services that have them.
    pub backends: Map<BackendKey, u32>,
    /// Prefixes that are this node's.
    pub local: Lpm<()>,
    /// Prefixes out of which service addresses are taken.
    pub service_ranges: Lpm<()>,
    /// Groups that pods may send to the fabric.
    pub multicast: Lpm<()>,
    /// Routes that leave through a port of ours.
    pub routes: Lpm<Route>,
    /// MACs by port and address.
    pub neighbours: Map<NeighbourKey, Mac>,
    /// Source addresses for `nat`.
    pub snat: Arc<Sources>,
    /// Sources for `nat` towards this host's own IP stack, which lead the answers back here; none where there is no port
    /// of role `host`.
    pub host_snat: Arc<Sources>,
    /// Far ends of tunnels that backends are behind, with the number of services that have them.
    pub far_ends: Map<Address, u32>,
    /// Tunnels that end here; packets are wrapped for the first.
    pub tunnels: Arc<[Tunnel]>,
    /// The port of [`PortId::TUNNEL`]; `None` while no tunnel ends here.
    pub inside: Option<Port>,
    /// The smallest MTU of all ports, in bytes.
    pub narrowest: u16,
    /// The largest segment that SYNs of services may offer, in bytes over IPv4; 0 for any.
    pub mss_clamp: u16,
    /// Number of workers, among which SNAT ports and clients are divided.
    pub workers: usize,
    /// How much there is, for reports.
    pub size: Size,
}

/// How much a program has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// Services.
    pub services: usize,
    /// VIPs.
    pub vips: usize,
    /// Backends, over all services.
    pub backends: usize,
}

/// A port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Interface name.
    pub name: Arc<str>,
    /// What it faces.
    pub role: Role,
    /// Its MAC: the node's, towards that side.
    pub mac: Mac,
    /// Whether frames that are nobody's here go to the kernel (`take: all` with a TAP device).
    pub passes: bool,
    /// The longest IP packet in bytes that leaves by it.
    pub mtu: u16,
}

/// What an address is. Several can be true: a node's own address has NodePorts and SNAT ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    /// Levee's alone.
    pub vip: bool,
    /// Announced on the fabric by us.
    pub announce: bool,
    /// … and only until [`Tables::term`].
    pub leased: bool,
    /// An address of this host's kernel.
    pub kernel: bool,
    /// Shared with the kernel: some ports of it are levee's.
    pub shared: bool,
    /// A pod of this node.
    pub pod: bool,
    /// Where pods send what is not on their link; nobody else's. Answered for towards them, and pinged by them.
    pub gateway: bool,
    /// A source address of translated flows.
    pub snat: bool,
    /// An end of a tunnel.
    pub tunnel: bool,
    /// Levee's address towards this host's own IP stack, on no wire.
    pub inward: bool,
    /// A VIP that is served by ranges of ports, or whole: see [`ranges`].
    pub wide: bool,
    /// A backend's address, any of whose packets may be a reply of a translated flow.
    pub answers: bool,
    /// The pod's MAC, if the program gave it; zero otherwise.
    pub mac: Mac,
}

/// A route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The port that it leads through; `None` if it leads elsewhere, which is the kernel's affair: through an interface that is not levee's,
    /// or nowhere (`blackhole`).
    pub port: Option<PortId>,
    /// The gateway; `None` if destinations are neighbours themselves.
    pub via: Option<Address>,
    /// The broadcast address of the network that it leads to, where destinations are neighbours themselves: no router forwards to it
    /// (RFC 2644).
    pub broadcast: Option<Address>,
}

impl Route {
    /// To a network, through a port, by a gateway.
    #[must_use]
    pub fn new(to: IpNet, port: Option<PortId>, via: Option<Address>) -> Self {
        let broadcast = match to {
            // The last two prefixes are too small to have one (RFC 3021).
            IpNet::V4(net) if port.is_some() && via.is_none() && net.prefix_len() <= 30 => Some(net.broadcast().into()),
            _ => None,
        };
        Route { port, via, broadcast }
    }
}

/// A neighbour's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighbourKey {
    /// The port that it is reached through.
    pub port: PortId,
    /// Its address.
    pub address: Address,
}

impl Key for NeighbourKey {
    #[inline]
    fn hash(&self) -> u64 {
        MAGLEV_KEY.address(self.address, u64::from(self.port.0))
    }
}

impl Key for Address {
    #[inline]
    fn hash(&self) -> u64 {
        MAGLEV_KEY.address(*self, 0)
    }
}

/// Where a packet to an address leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// Through this port, to this MAC.
    To(PortId, Mac),
    /// Through this port, once the MAC of this neighbour is known.
    Unresolved(NeighbourKey),
    /// It is an address of this host's kernel to which levee has no port, or one that only the kernel has a way to.
    Kernel,
    /// Nowhere: it is the broadcast address of a network that is near.
    Broadcast,
    /// Nowhere.
    NoRoute,
}

/// Whether one stamp is of a later change than the other. They wrap: of two that are 2³¹ changes apart it says the wrong one.
#[inline(always)]
#[must_use]
pub const fn is_newer(stamp: u32, than: u32) -> bool {
    stamp.wrapping_sub(than).cast_signed() > 0
}

impl Tables {
    /// The last change of all.
    #[inline(always)]
    #[must_use]
    pub const fn stamp(&self) -> u32 {
        if is_newer(self.services_stamp, self.hops_stamp) { self.services_stamp } else { self.hops_stamp }
    }

    /// The port.
    #[inline]
    #[must_use]
    pub fn port(&self, id: PortId) -> Option<&Port> {
        match self.ports.get(usize::from(id.0)) {
            None if id == PortId::TUNNEL => self.inside.as_ref(),
            port => port,
        }
    }

    /// The first port of a role.
    #[must_use]
    pub fn port_with(&self, role: Role) -> Option<PortId> {
        self.ports.iter().zip(0..).find(|(port, _)| port.role == role).map(|(_, id)| PortId(id))
    }

    /// The [`services_stamp`](Self::services_stamp) with which the service in a slot last came, changed or went; 0 if none was ever
    /// there. One cache line.
    #[inline]
    #[must_use]
    pub fn service_changed(&self, slot: u32) -> u32 {
        self.services.changed(slot)
    }

    /// Asks for the cache line in which a frontend's entry begins, for a look at it soon.
    #[inline]
    pub fn prefetch_frontend(&self, key: &FrontendKey) {
        self.frontends.prefetch(key);
    }

    /// What an address is; nothing in particular if it is not in the table.
    #[inline]
    #[must_use]
    pub fn owner(&self, address: Address) -> Owner {
        self.owners.get(&address).copied().unwrap_or_default()
    }

    /// What serves an address and port: a service that has the port by itself, or a range, or the address whole. Port 0 is a packet
    /// without ports. `wide` is the address's [`Owner::wide`].
    #[inline]
    #[must_use]
    pub fn frontend(&self, key: &FrontendKey, wide: bool) -> Option<&Frontend> {
        match self.frontends.get(key) {
            None if wide => self.ranges.get(&key.ranges())?.get(key.protocol, key.port),
            found => found,
        }
    }

    /// Whether what an endpoint sends may be a reply of a translated flow.
    #[inline]
    #[must_use]
    pub fn may_reply(&self, endpoint: Endpoint, protocol: u8, owner: Owner) -> bool {
        owner.answers || self.backends.get(&BackendKey { endpoint, protocol }).is_some()
    }

    /// Whether an address that is announced in a term is named by none any more, at this time of the workers' clock.
    #[inline]
    #[must_use]
    pub fn has_lapsed(&self, address: Address, now: u32) -> bool {
        self.owner(address).leased && self.term.is_over(now)
    }

    /// Whether the address is a pod of this node, or inside a prefix that is this node's (and not the kernel's own).
    #[inline]
    #[must_use]
    pub fn is_local_pod(&self, address: Address, owner: Owner) -> bool {
        owner.pod || (!owner.kernel && !owner.vip && !owner.snat && !owner.gateway && self.local.contains(address))
    }

    /// Whether somebody here has the address for certain: it is named by itself, or the pods' bridge knows who has it. Any other address
    /// of a prefix of this node's may be nobody's.
    #[must_use]
    pub fn is_in_use(&self, address: Address) -> bool {
        let owner = self.owner(address);
        let is_neighbour = |port| self.neighbours.get(&NeighbourKey { port, address }).is_some();
        owner.vip || owner.snat || owner.pod || owner.gateway || self.port_with(Role::Pods).is_some_and(is_neighbour)
    }

    /// Whether an uplink leaves it to another to answer for pods and VIPs.
    #[must_use]
    pub fn stands_by(&self, port: PortId) -> bool {
        self.standing_by.contains(&port)
    }

    /// Whether a MAC is one of our ports'.
    #[must_use]
    pub fn is_own_mac(&self, mac: Mac) -> bool {
        self.ports.iter().any(|port| port.mac == mac)
    }

    /// The next hop towards an address.
    #[must_use]
    pub fn hop(&self, destination: Address) -> Hop {
        let owner = self.owner(destination);
        if owner.kernel {
            return self.hop_to_host();
        }
        if self.is_local_pod(destination, owner) {
            return self.hop_to_pod(destination, owner.mac);
        }
        self.hop_by_route(destination)
    }

    /// The next hop towards a pod of this node, whose MAC the program gave, or zero.
    #[must_use]
    pub fn hop_to_pod(&self, pod: Address, mac: Mac) -> Hop {
        let Some(port) = self.port_with(Role::Pods) else { return Hop::NoRoute };
        if mac != Mac::ZERO {
            return Hop::To(port, mac);
        }
        self.neighbour(NeighbourKey { port, address: pod })
    }

    /// The next hop towards this host's own IP stack.
    #[must_use]
    pub fn hop_to_host(&self) -> Hop {
        match self.port_with(Role::Host).and_then(|id| Some((id, self.port(id)?.mac))) {
            // Both ends of that link have one MAC: see `port::host`.
            Some((id, mac)) => Hop::To(id, mac),
            None => Hop::Kernel,
        }
    }

    /// The next hop towards an address that is neither the kernel's nor a pod's here.
    #[must_use]
    pub fn hop_by_route(&self, destination: Address) -> Hop {
        match self.routes.get(destination) {
            Some(Route { broadcast: Some(broadcast), .. }) if *broadcast == destination => Hop::Broadcast,
            Some(Route { port: Some(port), via, .. }) => {
                self.neighbour(NeighbourKey { port: *port, address: via.unwrap_or(destination) })
            }
            Some(Route { port: None, .. }) => Hop::Kernel,
            None => Hop::NoRoute,
        }
    }

    /// Whether the MAC of a neighbour is known.
    #[must_use]
    pub fn resolved(&self, key: &NeighbourKey) -> bool {
        self.neighbours.get(key).is_some() || self.owner(key.address).mac != Mac::ZERO
    }

    fn neighbour(&self, key: NeighbourKey) -> Hop {
        match self.neighbours.get(&key) {
            Some(mac) => Hop::To(key.port, *mac),
            None => Hop::Unresolved(key),
        }
    }

    /// The SNAT range that an endpoint lies in.
    #[inline]
    #[must_use]
    pub fn snat_range(&self, address: Address, port: u16) -> Option<&SnatRange> {
        let mut all = self.snat.ranges().iter().chain(self.host_snat.ranges());
        all.find(|range| range.address == address && range.ports.contains(port))
    }
}
