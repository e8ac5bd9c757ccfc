//! What follows from a program outside of the tables: what XDP programs take, whose MACs are wanted, what is announced.
//!
//! Each is a set over all services, and few changes of a program change any of them: a backend that comes or goes changes none
//! but where it is a neighbour itself, and neither does a Service whose address is in a range that is steered whole, as ClusterIPs are.
//! So a change says what it may have changed ([`Around`]), and only that is looked at
//! again. Wanted neighbours are counted by who wants them, since every change of backends could change those.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use levee_api::net::{Mac, PortRange, Protocol};

use super::{Master, Steered};
use crate::address::Address;
use crate::tables::{Route, Tables};
use crate::verdict::PortId;

/// What may be something else than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Around {
    /// [`Master::steered`].
    pub steered: bool,
    /// [`Master::wanted_neighbours`].
    pub wanted: bool,
    /// [`Master::announced`], [`Master::pods`] and [`Master::needs_term`].
    pub announced: bool,
}

impl Around {
    /// Everything.
    pub const ALL: Around = Around { steered: true, wanted: true, announced: true };
}

/// Neighbours that backends are reached by, with the number of backends of each.
#[derive(Default)]
pub(super) struct Wanted {
    counts: BTreeMap<(PortId, IpAddr), usize>,
    /// How addresses are reached is something else: everything is to be counted anew.
    moved: bool,
    /// Addresses that are something else than before. Few of them are backends'.
    doubtful: BTreeSet<Address>,
    /// Neighbours that backends have come to or gone from, and whether each was wanted before.
    touched: BTreeMap<(PortId, IpAddr), bool>,
}

impl Wanted {
    /// Addresses are reached in another way than before, some of them.
    pub(super) fn move_all(&mut self) {
        self.moved = true;
    }

    /// An address is something else than before.
    pub(super) fn doubt(&mut self, address: Address) {
        if !self.moved {
            self.doubtful.insert(address);
        }
    }

    /// A backend, or the far end of a tunnel to some, comes or goes.
    pub(super) fn touch(&mut self, tables: &Tables, address: Address, comes: bool) {
        // One that is in doubt may have been counted as what it was before.
        self.moved |= self.doubtful.contains(&address);
        if self.moved {
            return;
        }
        let Some(neighbour) = neighbour(tables, address) else { return };
        let count = self.counts.get(&neighbour).copied().unwrap_or(0);
        self.touched.entry(neighbour).or_insert(count > 0);
        match if comes { count + 1 } else { count.saturating_sub(1) } {
            0 => self.counts.remove(&neighbour),
            count => self.counts.insert(neighbour, count),
        };
    }

    /// Brings the counts up to date. Returns whether other neighbours are wanted than the last time.
    fn settle(&mut self, tables: &Tables) -> bool {
        let (touched, doubtful) = (std::mem::take(&mut self.touched), std::mem::take(&mut self.doubtful));
        let moved = std::mem::take(&mut self.moved)
            || !doubtful.is_empty() && reached(tables).any(|address| doubtful.contains(&address));
        if !moved {
            return touched.into_iter().any(|(key, before)| self.counts.contains_key(&key) != before);
        }
        self.counts.clear();
        for address in reached(tables) {
            if let Some(neighbour) = neighbour(tables, address) {
                *self.counts.entry(neighbour).or_default() += 1;
            }
        }
        true
    }
}

/// What packets are sent to: backends, and the far ends of tunnels to them.
fn reached(tables: &Tables) -> impl Iterator<Item = Address> + '_ {
    let backends = tables.backends.iter().map(|(key, _)| key.endpoint.address);
    backends.chain(tables.services.iter().flat_map(|(_, service)| service.vias()))
}

/// The neighbour whose MAC an address is sent to, unless the kernel or the program has it: the address itself, or a gateway.
pub(super) fn neighbour(tables: &Tables, address: Address) -> Option<(PortId, IpAddr)> {
    let owner = tables.owner(address);
    if owner.kernel {
        return None;
    }
    if tables.is_local_pod(address, owner) {
        let pods = tables.port_with(levee_api::net::Role::Pods).filter(|_| owner.mac == Mac::ZERO)?;
        return Some((pods, address.into()));
    }
    match tables.routes.get(address) {
        Some(Route { port: Some(port), via, .. }) => Some((*port, via.unwrap_or(address).into())),
        _ => None,
    }
}

impl Master {
    /// What may have changed since this was asked last.
    pub fn take_around(&mut self) -> Around {
        let wanted = self.wanted.settle(&self.tables);
        let around = std::mem::take(&mut self.around);
        Around { wanted: around.wanted | wanted, ..around }
    }

    /// Neighbours worth knowing before the first packet: gateways of routes, and backends that are neighbours
    /// themselves. As they were when [`Master::take_around`] was asked last.
    #[must_use]
    pub fn wanted_neighbours(&self) -> BTreeSet<(PortId, IpAddr)> {
        let gateways = self.tables.routes.values().filter_map(|route| match route {
            Route { port: Some(port), via: Some(via), .. } => Some((*port, (*via).into())),
            _ => None,
        });
        gateways.chain(self.wanted.counts.keys().copied()).collect()
    }

    /// Whether an address is steered here by a prefix that it lies in. Not where tunnels end, which are shared with the kernel unless they are
    /// owned by themselves.
    pub(super) fn is_covered(&self, ip: IpAddr) -> bool {
        let mut prefixes = self.service_ranges.iter().chain(&self.local.prefixes);
        let address = Address::from(ip);
        prefixes.any(|net| net.contains(&ip))
            && !self.tables.tunnels.iter().any(|tunnel| tunnel.end(ip.is_ipv4()) == Some(address))
    }

    /// What the XDP program of an uplink must take, and what the kernel must route here.
    #[must_use]
    pub fn steered(&self) -> Steered {
        let mut steered = Steered::default();
        let vips = self.vips.keys().copied();
        let pods = self.local.pods.iter().map(|pod| pod.address);
        let snat = self.setup.snat.iter().map(|range| IpAddr::from(range.address));
        // What a prefix says already is not said again for each address in it: of those there can be more than an XDP map has room for.
        let alone = vips.clone().chain(pods).chain(snat);
        let alone = alone.filter(|address| !self.kernel.contains(address) && !self.is_covered(*address));
        steered.owned.extend(alone.map(IpNet::from));
        steered.owned.extend(self.local.prefixes.iter().copied());
        // Only who gets them can drop what is sent to a service address that nobody has; the kernel would route it back out.
        steered.owned.extend(self.service_ranges.iter().copied());
        let host = !self.setup.host_snat.is_empty();
        if host {
            let known = |vip: &IpAddr| self.service_ranges.iter().any(|range| range.contains(vip));
            let outside = vips.filter(|vip| !self.kernel.contains(vip) && !known(vip));
            steered.diverted.extend(outside.map(IpNet::from));
            steered.diverted.extend(self.service_ranges.iter().copied());
        }
        let inside = |address: &IpAddr| steered.owned.iter().any(|net| net.contains(address));
        steered.kernel = self.kernel.iter().filter(|address| inside(address)).copied().collect();
        for range in &self.setup.snat {
            let address = IpAddr::from(range.address);
            if self.kernel.contains(&address) {
                steered.shared.insert(address);
                steered.ports.insert((Protocol::Tcp, range.ports));
                steered.ports.insert((Protocol::Udp, range.ports));
                steered.ports.insert((Protocol::Sctp, range.ports));
            }
        }
        for tunnel in self.tables.tunnels.iter() {
            for end in tunnel.ends().map(IpAddr::from) {
                steered.shared.insert(end);
                match tunnel.port {
                    0 => steered.ip_in_ip = true,
                    port => {
                        steered.ports.insert((Protocol::Udp, PortRange { first: port, last: port }));
                        steered.far_ports.insert(port);
                    }
                }
            }
        }
        for entry in self.services.values() {
            // Ranges are VIPs', which are here already.
            for frontend in entry.program.frontends.iter().filter(|frontend| !frontend.is_wide()) {
                if !self.vips.contains_key(&frontend.address) {
                    steered.shared.insert(frontend.address);
                    let ports = PortRange { first: frontend.port, last: frontend.port };
                    steered.ports.insert((entry.program.protocol, ports));
                    if host && self.kernel.contains(&frontend.address) {
                        let port = (frontend.address, entry.program.protocol, frontend.port);
                        steered.diverted_ports.insert(port);
                    }
                }
            }
        }
        steered
    }
}
