//! The director's own state: the program and what the kernel says, from which snapshots are made.
//!
//! One thread owns it. A change is validated whole before anything is touched; then only what it names is recompiled.
//! [`Master::snapshot`] costs a handful of reference counts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use levee_api::net::{Mac, PortRange, Protocol, Role};
use levee_api::program::{self, Delta, Generation, Local, Pod, Program, ServiceKey, Vip};
use levee_api::tunnel;

use super::service::{BackendKey, Frontend, FrontendKey, Service, clients, roles};
use super::snat::SnatRange;
use super::sources::Sources;
use super::tunnel::Tunnel;
use super::{NeighbourKey, Owner, Port, Route, Tables, validate};
use crate::address::Address;
use crate::verdict::{Endpoint, PortId};

mod around;
mod drains;
mod ranges;
mod reached;

pub use around::Around;
use around::Wanted;
pub use drains::Draining;
use reached::Reached;

/// What does not change while the dataplane runs.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Ports, in the order of their [`PortId`]s.
    pub ports: Vec<Port>,
    /// Source addresses for `nat`.
    pub snat: Vec<SnatRange>,
    /// Sources for `nat` towards this host's own IP stack, if there is a port to it.
    pub host_snat: Vec<SnatRange>,
    /// Where tunnels end whose program does not say: this host's addresses on its first uplink.
    pub tunnel_ends: Vec<Address>,
    /// Groups that pods may send to the fabric.
    pub multicast: Vec<IpNet>,
    /// Where pods send what is not on their link.
    pub gateways: Vec<IpAddr>,
    /// The largest segment that SYNs of services may offer, in bytes over IPv4; 0 for any.
    pub mss_clamp: u16,
    /// Number of workers, at least 1.
    pub workers: usize,
}

/// Why a program was not taken. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The delta was made against another generation than the one that runs.
    Stale {
        /// What runs.
        generation: Generation,
    },
    /// It cannot be run; each line says what is wrong.
    Invalid(Vec<String>),
}

/// What a port's XDP program must take, besides everything where `take: all` says so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Steered {
    /// Addresses that are levee's alone.
    pub owned: BTreeSet<IpNet>,
    /// Addresses of which levee has some ports.
    pub shared: BTreeSet<IpAddr>,
    /// Those ports.
    pub ports: BTreeSet<(Protocol, PortRange)>,
    /// Whether IP packets inside of IP packets to those addresses are levee's.
    pub ip_in_ip: bool,
    /// UDP ports that far ends of tunnels listen on: errors about packets to them are levee's.
    pub far_ports: BTreeSet<u16>,
    /// Addresses of the kernel's inside what is owned (a bridge's address in the pods' prefix): they stay the kernel's.
    pub kernel: BTreeSet<IpAddr>,
    /// What of this host's own sending is led here, where there is a port for it: prefixes …
    pub diverted: BTreeSet<IpNet>,
    /// … and ports of the host's own addresses.
    pub diverted_ports: BTreeSet<(IpAddr, Protocol, u16)>,
}

struct Entry {
    program: program::Service,
    id: u32,
    slot: u32,
}

/// A service on its way into the tables.
struct Coming {
    entry: Entry,
    service: Service,
    /// Whether it is reached elsewhere than the one before it.
    frontends: bool,
    /// What it has, and the one before it had not.
    reached: Reached,
}

/// See the module's documentation.
pub struct Master {
    setup: Setup,
    generation: Generation,
    local: Local,
    service_ranges: Vec<IpNet>,
    tunnels: Vec<tunnel::Tunnel>,
    vips: BTreeMap<IpAddr, Vip>,
    /// VIPs are announced only in a term.
    in_term: bool,
    /// What the term names.
    term: BTreeSet<IpAddr>,
    services: BTreeMap<ServiceKey, Entry>,
    kernel: BTreeSet<IpAddr>,
    /// The kernel's routes, as the tables have them.
    routes: BTreeMap<IpNet, Route>,
    /// Addresses of frontends, with the number of frontends that use each.
    fronted: BTreeMap<IpAddr, usize>,
    drains: drains::Drains,
    free_slots: Vec<u32>,
    next_slot: u32,
    next_id: u32,
    wanted: Wanted,
    around: Around,
    tables: Tables,
}

impl Master {
    /// Nothing programmed yet, generation 0.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let mut tables = Tables {
            services_stamp: 1,
            hops_stamp: 1,
            ports: setup.ports.clone().into(),
            snat: Sources::new(&setup.snat, setup.workers).into(),
            host_snat: Sources::new(&setup.host_snat, setup.workers).into(),
            multicast: setup.multicast.iter().map(|net| (*net, ())).collect(),
            narrowest: setup.ports.iter().map(|port| port.mtu).min().unwrap_or(u16::MAX),
            mss_clamp: setup.mss_clamp,
            workers: setup.workers.max(1),
            ..Tables::default()
        };
        for range in &setup.snat {
            let mut owner = tables.owner(range.address);
            owner.snat = true;
            tables.owners.insert(range.address, owner);
        }
        for gateway in &setup.gateways {
            let gateway = Address::from(*gateway);
            let owner = Owner { gateway: true, ..tables.owner(gateway) };
            tables.owners.insert(gateway, owner);
        }
        for range in &setup.host_snat {
            tables.owners.insert(range.address, Owner { inward: true, ..Owner::default() });
        }
        Master {
            setup,
            generation: 0,
            local: Local::default(),
            service_ranges: Vec::new(),
            tunnels: Vec::new(),
            vips: BTreeMap::new(),
            in_term: false,
            term: BTreeSet::new(),
            services: BTreeMap::new(),
            kernel: BTreeSet::new(),
            routes: BTreeMap::new(),
            fronted: BTreeMap::new(),
            drains: drains::Drains::default(),
            free_slots: Vec::new(),
            next_slot: 0,
            next_id: 1,
            wanted: Wanted::default(),
            around: Around::ALL,
            tables,
        }
    }

    /// The generation of the program.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The program as it stands, in canonical order.
    #[must_use]
    pub fn program(&self) -> Program {
        Program {
            generation: self.generation,
            local: self.local.clone(),
            service_ranges: self.service_ranges.clone(),
            vips: self.vips.values().cloned().collect(),
            announce_in_term: self.in_term,
            services: self.services.values().map(|entry| entry.program.clone()).collect(),
            tunnels: self.tunnels.clone(),
        }
        .canonical()
    }

    /// What workers read.
    #[must_use]
    pub fn snapshot(&self) -> Tables {
        self.tables.clone()
    }

    /// The same, borrowed.
    #[must_use]
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Takes a whole program. Services that it shares with the one before keep their identity, and so their flows.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], or [`Refusal::Stale`] of another program with the generation that this one has: whoever wrote that one takes
    /// the number for its own, and would build on what it has not seen. Then nothing has changed.
    pub fn load(&mut self, program: Program) -> Result<(), Refusal> {
        if program.generation == 0 {
            return Err(Refusal::Invalid(vec!["generation 0 means that nothing was programmed; start at 1".into()]));
        }
        if program.generation == self.generation && program.clone().canonical() != self.program() {
            return Err(Refusal::Stale { generation: self.generation });
        }
        let keys: BTreeSet<ServiceKey> = program.services.iter().map(program::Service::key).collect();
        let addresses: BTreeSet<IpAddr> = program.vips.iter().map(|vip| vip.address).collect();
        let mut wrong = Vec::new();
        if keys.len() != program.services.len() {
            let mut seen = BTreeSet::new();
            for service in &program.services {
                if !seen.insert(service.key()) {
                    wrong.push(format!("service `{}` ({}) is there twice", service.name, service.protocol));
                }
            }
        }
        let delta = Delta {
            base: self.generation,
            generation: program.generation,
            remove_services: self.services.keys().filter(|key| !keys.contains(key)).cloned().collect(),
            remove_vips: self.vips.keys().filter(|address| !addresses.contains(address)).copied().collect(),
            local: Some(program.local),
            service_ranges: Some(program.service_ranges),
            announce_in_term: Some(program.announce_in_term),
            tunnels: Some(program.tunnels),
            upsert_vips: program.vips,
            upsert_services: program
                .services
                .into_iter()
                .filter(|service| self.services.get(&service.key()).is_none_or(|entry| entry.program != *service))
                .collect(),
        };
        self.validate(&delta, &mut wrong);
        if !wrong.is_empty() {
            return Err(Refusal::Invalid(wrong));
        }
        self.commit(delta);
        Ok(())
    }

    /// Takes a change.
    ///
    /// # Errors
    /// [`Refusal::Stale`] if it was made against another generation, [`Refusal::Invalid`] if it cannot be run; then
    /// nothing has changed.
    pub fn amend(&mut self, delta: Delta) -> Result<(), Refusal> {
        if delta.base != self.generation || self.generation == 0 {
            return Err(Refusal::Stale { generation: self.generation });
        }
        let mut wrong = Vec::new();
        if let Err(message) = validate::generation(delta.generation, delta.base) {
            wrong.push(message);
        }
        self.validate(&delta, &mut wrong);
        if !wrong.is_empty() {
            return Err(Refusal::Invalid(wrong));
        }
        self.commit(delta);
        Ok(())
    }

    /// Collects everything that is wrong, so that an operator sees it at once.
    fn validate(&self, delta: &Delta, wrong: &mut Vec<String>) {
        let mut note = |result: Result<(), String>| {
            if let Err(message) = result {
                wrong.push(message);
            }
        };
        if let Some(local) = &delta.local {
            note(validate::local(local));
        }
        if let Some(tunnels) = &delta.tunnels {
            note(validate::tunnels(tunnels));
        }
        for vip in &delta.upsert_vips {
            note(validate::vip(vip));
        }
        for service in &delta.upsert_services {
            note(validate::service(service));
        }
        // Frontends must be one service's alone. Those that the delta removes or replaces are free again.
        let replaced: BTreeSet<u32> = delta
            .remove_services
            .iter()
            .cloned()
            .chain(delta.upsert_services.iter().map(program::Service::key))
            .filter_map(|key| self.services.get(&key).map(|entry| entry.slot))
            .collect();
        self.validate_ranges(delta, &replaced, wrong);
        let mut taken: BTreeMap<(IpAddr, u16, Protocol, Role), &str> = BTreeMap::new();
        for service in &delta.upsert_services {
            for frontend in service.frontends.iter().filter(|frontend| !frontend.is_wide()) {
                for from in roles(frontend.from) {
                    let key = (frontend.address, frontend.port, service.protocol, *from);
                    let there = self.tables.frontends.get(&frontend_key(frontend, service.protocol, *from));
                    let other = match there.filter(|there| !replaced.contains(&there.service)) {
                        Some(there) => self.tables.services.get(there.service).map(|service| service.name.as_ref()),
                        None => taken.insert(key, &service.name),
                    };
                    if let Some(other) = other {
                        let (address, port, protocol) = (frontend.address, frontend.port, service.protocol);
                        wrong.push(format!(
                            "services `{other}` and `{}` both want {protocol} {address} port {port} from {from}",
                            service.name
                        ));
                    }
                }
            }
        }
    }

    fn commit(&mut self, delta: Delta) {
        let mut addresses: BTreeSet<IpAddr> = BTreeSet::new();
        if let Some(local) = delta.local.filter(|local| *local != self.local) {
            let pods = |local: &Local| -> BTreeSet<Pod> { local.pods.iter().cloned().collect() };
            addresses.extend(pods(&self.local).symmetric_difference(&pods(&local)).map(|pod| pod.address));
            if local.prefixes != self.local.prefixes {
                self.tables.local = local.prefixes.iter().map(|net| (*net, ())).collect();
                self.move_hops();
                self.around.steered = true;
            }
            self.local = local;
            self.around.announced = true;
        }
        if let Some(ranges) = delta.service_ranges {
            self.tables.service_ranges = ranges.iter().map(|net| (*net, ())).collect();
            self.around.steered |= ranges != self.service_ranges;
            self.service_ranges = ranges;
        }
        if let Some(in_term) = delta.announce_in_term.filter(|in_term| *in_term != self.in_term) {
            self.in_term = in_term;
            self.around.announced = true;
            addresses.extend(self.vips.keys());
        }
        if let Some(tunnels) = delta.tunnels.filter(|tunnels| *tunnels != self.tunnels) {
            let ends = |tables: &Tables| -> Vec<IpAddr> {
                tables.tunnels.iter().flat_map(Tunnel::ends).map(IpAddr::from).collect()
            };
            addresses.extend(ends(&self.tables));
            self.tables.tunnels = tunnels.iter().map(|tunnel| Tunnel::new(tunnel, &self.setup.tunnel_ends)).collect();
            self.tables.inside = (!tunnels.is_empty()).then(Tunnel::inside);
            addresses.extend(ends(&self.tables));
            self.tunnels = tunnels;
            self.around.steered = true;
        }
        for address in delta.remove_vips {
            self.vips.remove(&address);
            addresses.insert(address);
        }
        for vip in delta.upsert_vips {
            addresses.insert(vip.address);
            self.vips.insert(vip.address, vip);
        }
        if !delta.remove_services.is_empty() || !delta.upsert_services.is_empty() {
            self.tables.services_stamp = next_stamp(self.tables.stamp());
        }
        for key in delta.remove_services {
            self.drains.remove(&key);
            if let Some(entry) = self.services.remove(&key) {
                self.withdraw(&entry, &mut addresses);
                self.tables.services.set(entry.slot, None, self.tables.services_stamp);
                self.free_slots.push(entry.slot);
            }
        }
        // What all lose goes before the first gains anything: frontends may move from one service to another.
        let coming: Vec<Coming> =
            delta.upsert_services.into_iter().map(|service| self.prepare(service, &mut addresses)).collect();
        for coming in coming {
            self.install(coming, &mut addresses);
        }
        for address in addresses {
            self.refresh_owner(address);
        }
        self.generation = delta.generation;
        self.tables.generation = delta.generation;
        self.tables.size.services = self.services.len();
        self.tables.size.vips = self.vips.len();
    }

    fn identity(&mut self) -> (u32, u32) {
        let slot = self.free_slots.pop().unwrap_or_else(|| {
            self.next_slot += 1;
            self.next_slot - 1
        });
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1).max(1);
        (id, slot)
    }

    /// Compiles a service, and takes out of the tables what the one before it had and this one has not.
    fn prepare(&mut self, mut program: program::Service, addresses: &mut BTreeSet<IpAddr>) -> Coming {
        // Kept for as long as the service is there; a reader of JSON leaves room for what may follow.
        program.frontends.shrink_to_fit();
        program.backends.shrink_to_fit();
        let before = self.services.remove(&program.key());
        let (id, slot) = before.as_ref().map_or_else(|| self.identity(), |before| (before.id, before.slot));
        let before = before.and_then(|before| Some((before.program, self.tables.services.get(slot).cloned()?)));
        let service = Service::new(id, slot, &program, before.as_ref().map(|(_, compiled)| compiled.as_ref()));
        self.drains.set(&program);
        let key = program.key();
        let over = program.backends.iter().filter(|backend| self.drains.is_over(&key, backend));
        let over: Vec<Endpoint> =
            over.map(|backend| Endpoint { address: backend.address.into(), port: backend.port }).collect();
        let service = service.with_drained(|endpoint| over.contains(&endpoint));
        let reached = Reached::by(&program, &service);
        let Some((before, compiled)) = before else {
            return Coming { entry: Entry { program, id, slot }, service, frontends: true, reached };
        };
        // A frontend says, too, whether its packets are looked at for connection IDs.
        let frontends = before.frontends != program.frontends || before.quic.is_empty() != program.quic.is_empty();
        if frontends {
            self.leave_frontends(&before, addresses);
        }
        let was = Reached::by(&before, &compiled);
        self.leave(&was.beyond(&reached), addresses);
        self.tables.size.backends -= compiled.backends.len();
        Coming { entry: Entry { program, id, slot }, service, frontends, reached: reached.beyond(&was) }
    }

    /// Puts a service into the tables, with what it has and the one before it had not.
    fn install(&mut self, coming: Coming, addresses: &mut BTreeSet<IpAddr>) {
        let Coming { entry, service, frontends, reached } = coming;
        if frontends {
            self.take_frontends(&entry, addresses);
        }
        self.reach(&reached, addresses);
        self.tables.size.backends += service.backends.len();
        self.tables.services.set(entry.slot, Some(Arc::new(service)), self.tables.services_stamp);
        self.services.insert(entry.program.key(), entry);
    }

    /// Takes a service's part out of the tables, but for itself.
    fn withdraw(&mut self, entry: &Entry, addresses: &mut BTreeSet<IpAddr>) {
        self.leave_frontends(&entry.program, addresses);
        if let Some(service) = self.tables.services.get(entry.slot).cloned() {
            self.leave(&Reached::by(&entry.program, &service), addresses);
            self.tables.size.backends -= service.backends.len();
        }
    }

    fn take_frontends(&mut self, entry: &Entry, addresses: &mut BTreeSet<IpAddr>) {
        for frontend in &entry.program.frontends {
            *self.fronted.entry(frontend.address).or_default() += 1;
            addresses.insert(frontend.address);
            for from in roles(frontend.from) {
                let value = Frontend {
                    service: entry.slot,
                    mode: frontend.mode,
                    pool: frontend.pool,
                    when_empty: frontend.when_empty,
                    clients: clients(&entry.program, frontend),
                    by_connection: !entry.program.quic.is_empty(),
                };
                ranges::set(&mut self.tables, frontend, entry.program.protocol, *from, Some(value));
            }
        }
    }

    fn leave_frontends(&mut self, program: &program::Service, addresses: &mut BTreeSet<IpAddr>) {
        for frontend in &program.frontends {
            if let Some(users) = self.fronted.get_mut(&frontend.address) {
                *users -= 1;
                if *users == 0 {
                    self.fronted.remove(&frontend.address);
                }
            }
            addresses.insert(frontend.address);
            for from in roles(frontend.from) {
                ranges::set(&mut self.tables, frontend, program.protocol, *from, None);
            }
        }
    }

    fn reach(&mut self, reached: &Reached, addresses: &mut BTreeSet<IpAddr>) {
        for key in &reached.backends {
            let users = self.tables.backends.get(key).copied().unwrap_or(0);
            self.tables.backends.insert(*key, users + 1);
            if users == 0 {
                self.wanted.touch(&self.tables, key.endpoint.address, true);
            }
        }
        for via in &reached.vias {
            self.wanted.touch(&self.tables, *via, true);
            let users = self.tables.far_ends.get(via).copied().unwrap_or(0);
            self.tables.far_ends.insert(*via, users + 1);
        }
        addresses.extend(reached.answering());
    }

    fn leave(&mut self, reached: &Reached, addresses: &mut BTreeSet<IpAddr>) {
        for via in &reached.vias {
            self.wanted.touch(&self.tables, *via, false);
            match self.tables.far_ends.get(via).copied() {
                Some(users) if users > 1 => self.tables.far_ends.insert(*via, users - 1),
                _ => self.tables.far_ends.remove(via),
            };
        }
        for key in &reached.backends {
            match self.tables.backends.get(key).copied() {
                Some(users) if users > 1 => {
                    self.tables.backends.insert(*key, users - 1);
                }
                _ => {
                    self.wanted.touch(&self.tables, key.endpoint.address, false);
                    self.tables.backends.remove(key);
                }
            }
        }
        addresses.extend(reached.answering());
    }

    /// Puts together what an address is from all that know of it.
    fn refresh_owner(&mut self, ip: IpAddr) {
        let address = Address::from(ip);
        let vip = self.vips.get(&ip);
        let pod = self.local.pods.iter().find(|pod| pod.address == ip);
        let owner = Owner {
            vip: vip.is_some(),
            announce: self.announces(ip),
            leased: vip.is_some_and(|vip| vip.announce) && self.in_term,
            kernel: self.kernel.contains(&ip),
            shared: vip.is_none() && self.fronted.contains_key(&ip),
            pod: pod.is_some(),
            // Where the kernel has it, on the pods' bridge, the kernel answers.
            gateway: self.setup.gateways.contains(&ip) && !self.kernel.contains(&ip),
            snat: self.setup.snat.iter().any(|range| range.address == address),
            tunnel: self.tables.tunnels.iter().any(|tunnel| tunnel.end(ip.is_ipv4()) == Some(address)),
            inward: self.setup.host_snat.iter().any(|range| range.address == address),
            wide: self.is_wide(ip),
            answers: self.tables.backends.get(&BackendKey::any(address)).is_some(),
            mac: pod.and_then(|pod| pod.mac).unwrap_or(Mac::ZERO),
        };
        let way = |tables: &Tables| (tables.owner(address), tables.hop(address), around::neighbour(tables, address));
        let before = way(&self.tables);
        if owner == Owner::default() {
            self.tables.owners.remove(&address);
        } else if before.0 != owner {
            self.tables.owners.insert(address, owner);
        }
        self.around.announced |= before.0.announce != owner.announce;
        // Of a shared address, ports may have come or gone. A Service in a range that is steered whole changes nothing.
        let alone = |owner: Owner| owner.vip || owner.pod;
        self.around.steered |=
            before.0.shared || owner.shared || alone(before.0) != alone(owner) && !self.is_covered(ip);
        // What an address is decides how it is reached: an address inside the pods' prefix is a pod until it is a VIP. A VIP elsewhere is
        // reached as the address was before, and no flow has to look again for it.
        let after = way(&self.tables);
        if before.1 != after.1 {
            self.touch_hops();
        }
        if before.2 != after.2 {
            self.wanted.doubt(address);
        }
    }

    /// Replaces the kernel's routes: prefix, port (none where the route leads elsewhere), gateway. Returns whether that changed anything.
    pub fn set_routes<P: Into<Option<PortId>>>(
        &mut self,
        routes: impl IntoIterator<Item = (IpNet, P, Option<IpAddr>)>,
    ) -> bool {
        let route = |(net, port, via): (IpNet, P, Option<IpAddr>)| {
            (net.trunc(), Route::new(net, port.into(), via.map(Address::from)))
        };
        let routes: BTreeMap<IpNet, Route> = routes.into_iter().map(route).collect();
        if routes == self.routes {
            return false;
        }
        self.tables.routes = routes.iter().map(|(net, route)| (*net, *route)).collect();
        self.routes = routes;
        self.move_hops();
        true
    }

    /// Sets or forgets a neighbour's MAC. Returns whether that changed anything.
    pub fn set_neighbour(&mut self, port: PortId, address: IpAddr, mac: Option<Mac>) -> bool {
        let key = NeighbourKey { port, address: address.into() };
        let before = self.tables.neighbours.get(&key).copied();
        if before == mac {
            return false;
        }
        match mac {
            Some(mac) => self.tables.neighbours.insert(key, mac),
            None => self.tables.neighbours.remove(&key),
        };
        self.touch_hops();
        true
    }

    /// Replaces the set of addresses that are this host's kernel's. Returns whether that changed anything.
    pub fn set_kernel_addresses(&mut self, addresses: impl IntoIterator<Item = IpAddr>) -> bool {
        let addresses: BTreeSet<IpAddr> = addresses.into_iter().collect();
        let changed: Vec<IpAddr> = self.kernel.symmetric_difference(&addresses).copied().collect();
        if changed.is_empty() {
            return false;
        }
        self.kernel = addresses;
        for address in changed {
            self.refresh_owner(address);
        }
        self.move_hops();
        self.around = Around::ALL;
        true
    }

    /// Replaces a port's MAC, as the kernel reports it.
    pub fn set_port_mac(&mut self, id: PortId, mac: Mac) {
        if let Some(port) = self.setup.ports.get_mut(usize::from(id.0)).filter(|port| port.mac != mac) {
            port.mac = mac;
            self.tables.ports = self.setup.ports.clone().into();
            self.touch_hops();
        }
    }

    /// Replaces the set of uplinks that stand by. Returns whether that changed anything.
    pub fn set_standing_by(&mut self, ports: Vec<PortId>) -> bool {
        let changed = *self.tables.standing_by != *ports;
        if changed {
            self.tables.standing_by = ports.into();
        }
        changed
    }

    /// Addresses that this dataplane answers for on the fabric and announces there: its VIPs.
    #[must_use]
    pub fn announced(&self) -> BTreeSet<IpAddr> {
        self.vips.keys().copied().filter(|address| self.announces(*address)).collect()
    }

    /// Sources of `nat` that are levee's alone, and so its to answer for.
    pub fn own_sources(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let all = self.setup.snat.iter().map(|range| IpAddr::from(range.address));
        all.filter(|address| !self.kernel.contains(address))
    }

    /// Whether pods of this node are known by an IPv6 prefix.
    #[must_use]
    pub fn has_ipv6_prefix(&self) -> bool {
        self.local.prefixes.iter().any(|net| net.addr().is_ipv6())
    }

    /// Whether VIPs are announced only in a term.
    #[must_use]
    pub fn needs_term(&self) -> bool {
        self.in_term
    }

    /// Sets what the term names. Returns whether something else is announced now.
    pub fn set_term(&mut self, addresses: &BTreeSet<IpAddr>) -> bool {
        let changed: Vec<IpAddr> = self.term.symmetric_difference(addresses).copied().collect();
        self.term.clone_from(addresses);
        self.around.announced |= !changed.is_empty();
        let mut announced = false;
        for address in changed {
            announced |= self.vips.get(&address).is_some_and(|vip| vip.announce) && self.in_term;
            self.refresh_owner(address);
        }
        announced
    }

    fn announces(&self, address: IpAddr) -> bool {
        self.vips.get(&address).is_some_and(|vip| vip.announce) && (!self.in_term || self.term.contains(&address))
    }

    /// Pods of this node that are known one by one.
    pub fn pods(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.local.pods.iter().map(|pod| pod.address)
    }

    /// How addresses are reached is something else: what flows remember of it, and who is wanted for it.
    fn move_hops(&mut self) {
        self.touch_hops();
        self.wanted.move_all();
        self.around.wanted = true;
    }

    fn touch_hops(&mut self) {
        self.tables.hops_stamp = next_stamp(self.tables.stamp());
    }
}

/// Stamps skip 0, which flows use for "nothing remembered".
fn next_stamp(stamp: u32) -> u32 {
    stamp.wrapping_add(1).max(1)
}

fn frontend_key(frontend: &program::Frontend, protocol: Protocol, from: Role) -> FrontendKey {
    FrontendKey { address: frontend.address.into(), port: frontend.port, protocol: protocol.number(), from }
}

#[cfg(test)]
mod tests;
