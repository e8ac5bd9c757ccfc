//! The kernel's messages put together, and what of it changed for levee. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use levee_api::net::{Family, Mac};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHopFlags, RouteProtocol, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Address, Key, PortNames, Route, Update};
use crate::verdict::PortId;

/// Everything that the kernel said, by its own indexes.
#[derive(Debug, Default)]
pub(super) struct View {
    names: Vec<PortNames>,
    links: BTreeMap<u32, Link>,
    addresses: BTreeSet<(IpAddr, u32)>,
    /// By prefix and metric, so that the least metric comes first.
    routes: BTreeMap<(IpNet, u32), Vec<Hop>>,
    neighbours: BTreeMap<(u32, IpAddr), Neighbour>,
    changed: Changed,
    /// What the director was told, so that only differences are told.
    told: Told,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    name: String,
    mac: Mac,
    up: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hop {
    link: u32,
    via: Option<IpAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Neighbour {
    mac: Option<Mac>,
    state: &'static str,
    keeper: Keeper,
}

/// Who sees to it that a neighbour stays known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeper {
    /// Nobody in particular: the kernel learnt it, and may forget it.
    Nobody,
    /// This daemon, or one before it that was killed: it bears our mark.
    Levee,
    /// Somebody else: it is static, or managed without our mark.
    Other,
}

/// Our mark on neighbours (`NDA_PROTOCOL`; `ip neigh` shows `proto 76`). A number that iproute2's `rt_protos` gives to nobody.
pub(super) const MARK: RouteProtocol = RouteProtocol::Other(76);

#[derive(Debug, Default)]
struct Changed {
    links: bool,
    addresses: bool,
    routes: bool,
    neighbours: BTreeSet<(u32, IpAddr)>,
    /// Read everything anew: the kernel has changed something without saying.
    stale: bool,
}

#[derive(Debug, Default)]
struct Told {
    links: BTreeMap<PortId, (bool, Mac)>,
    addresses: Option<Vec<Address>>,
    routes: Option<Vec<Route>>,
    neighbours: BTreeMap<Key, Neighbour>,
}

impl View {
    pub(super) fn new(names: Vec<PortNames>) -> Self {
        View { names, ..View::default() }
    }

    /// Forgets what the kernel said, but not what the director was told: a new reading follows.
    pub(super) fn restart(&mut self) {
        let names = std::mem::take(&mut self.names);
        let told = std::mem::take(&mut self.told);
        *self = View { names, told, ..View::default() };
    }

    /// The interface whose neighbour table a port uses.
    pub(super) fn neighbour_link(&self, port: PortId) -> Option<u32> {
        let names = self.names.iter().find(|names| names.port == port)?;
        self.link_named(&names.neighbours)
    }

    /// What this host's processes send from on one of these ports: the address that is preferred, or another.
    pub(super) fn source(&self, ports: &[PortId], preferred: Option<IpAddr>, family: Family) -> Option<IpAddr> {
        let own = self.own_addresses().into_iter().filter(|own| own.port.is_some_and(|port| ports.contains(&port)));
        let mut own = own.map(|own| own.address).filter(|address| {
            let of_the_link = match address {
                IpAddr::V4(v4) => v4.is_link_local(),
                IpAddr::V6(v6) => v6.is_unicast_link_local(),
            };
            Family::of(*address) == family && !address.is_loopback() && !of_the_link
        });
        let first = own.next();
        preferred.filter(|preferred| first == Some(*preferred) || own.any(|address| address == *preferred)).or(first)
    }

    /// Who keeps a neighbour.
    pub(super) fn keeper(&self, link: u32, address: IpAddr) -> Keeper {
        self.neighbours.get(&(link, address)).map_or(Keeper::Nobody, |neighbour| neighbour.keeper)
    }

    /// Neighbours on ports that bear our mark.
    pub(super) fn marked(&self) -> Vec<Key> {
        let marked = self.neighbours.iter().filter(|(_, neighbour)| neighbour.keeper == Keeper::Levee);
        marked.filter_map(|((link, address), _)| Some((self.neighbour_port(*link)?, *address))).collect()
    }

    fn link_named(&self, name: &str) -> Option<u32> {
        self.links.iter().find(|(_, link)| link.name == name).map(|(index, _)| *index)
    }

    /// The port that leads to an interface: its own, or its bridge.
    fn port_of(&self, link: u32) -> Option<PortId> {
        let name = &self.links.get(&link)?.name;
        self.names.iter().find(|names| names.interface == *name || names.neighbours == *name).map(|names| names.port)
    }

    /// The port whose neighbours are those of an interface.
    fn neighbour_port(&self, link: u32) -> Option<PortId> {
        let name = &self.links.get(&link)?.name;
        self.names.iter().find(|names| names.neighbours == *name).map(|names| names.port)
    }

    /// Whether everything has to be read anew. Asked once, it is taken as done.
    pub(super) fn take_stale(&mut self) -> bool {
        std::mem::take(&mut self.changed.stale)
    }

    /// Takes one message of the kernel, from a dump or a notification.
    pub(super) fn apply(&mut self, message: &RouteNetlinkMessage) {
        match message {
            RouteNetlinkMessage::NewLink(link) => self.link(link),
            RouteNetlinkMessage::DelLink(link) => self.no_link(link),
            RouteNetlinkMessage::NewAddress(address) => self.address(address, true),
            RouteNetlinkMessage::DelAddress(address) => self.address(address, false),
            RouteNetlinkMessage::NewRoute(route) => self.route(route, true),
            RouteNetlinkMessage::DelRoute(route) => self.route(route, false),
            RouteNetlinkMessage::NewNeighbour(neighbour) => self.neighbour(neighbour, true),
            RouteNetlinkMessage::DelNeighbour(neighbour) => self.neighbour(neighbour, false),
            _ => {}
        }
    }

    fn link(&mut self, message: &LinkMessage) {
        if of_a_bridge(message) {
            return;
        }
        let Some(link) = read_link(message) else { return };
        let index = message.header.index;
        let new = Link { name: link.name, mac: link.mac.unwrap_or_default(), up: link.up };
        let old = self.links.insert(index, new.clone());
        if old.as_ref() == Some(&new) {
            return;
        }
        self.changed.links = true;
        // A link that goes down takes its IPv4 routes with it, and the kernel does not announce their going.
        let went_down = old.as_ref().is_some_and(|old| old.up && !new.up);
        // One that is new, renamed or up again may be a port's; its neighbours and routes then count, and those that are wanted can
        // be installed.
        let returned = old.is_none_or(|old| old.name != new.name || !old.up && new.up) && self.is_ours(&new.name);
        self.changed.stale |= returned || went_down && self.routes_through(index);
    }

    fn no_link(&mut self, message: &LinkMessage) {
        // A link that leaves a bridge is told as deleted, of the bridge's family.
        if of_a_bridge(message) {
            return;
        }
        let index = message.header.index;
        let gone = self.links.remove(&index);
        self.changed.links |= gone.is_some();
        self.changed.stale |= gone.is_some_and(|gone| self.is_ours(&gone.name)) || self.routes_through(index);
    }

    fn is_ours(&self, name: &str) -> bool {
        self.names.iter().any(|names| names.interface == name || names.neighbours == name)
    }

    fn routes_through(&self, link: u32) -> bool {
        self.routes.values().flatten().any(|hop| hop.link == link)
    }

    fn address(&mut self, message: &AddressMessage, there: bool) {
        let Some(address) = read_address(message) else { return };
        let key = (address, message.header.index);
        self.changed.addresses |= if there { self.addresses.insert(key) } else { self.addresses.remove(&key) };
        // With an address go the routes that prefer it, silently.
        self.changed.stale |= !there;
    }

    fn route(&mut self, message: &RouteMessage, there: bool) {
        let Some((key, hops)) = read_route(message) else { return };
        match key.0 {
            IpNet::V4(_) if there => drop(self.routes.insert(key, hops)),
            IpNet::V4(_) => drop(self.routes.remove(&key)),
            // Of IPv6 routes several of one prefix and metric stand side by side, each told and deleted by itself. What is left is
            // read anew.
            IpNet::V6(_) if there => {
                let known = self.routes.entry(key).or_default();
                let new: Vec<Hop> = hops.into_iter().filter(|hop| !known.contains(hop)).collect();
                known.extend(new);
            }
            IpNet::V6(_) => self.changed.stale = true,
        }
        self.changed.routes = true;
    }

    fn neighbour(&mut self, message: &NeighbourMessage, there: bool) {
        let Some((key, neighbour)) = read_neighbour(message) else { return };
        if there {
            self.neighbours.insert(key, neighbour);
        } else {
            self.neighbours.remove(&key);
        }
        self.changed.neighbours.insert(key);
    }

    /// What changed for levee since it was asked last.
    pub(super) fn updates(&mut self) -> Vec<Update> {
        let changed = std::mem::take(&mut self.changed);
        self.changed.stale = changed.stale;
        let mut updates = Vec::new();
        if changed.links {
            self.link_updates(&mut updates);
        }
        if changed.links || changed.addresses {
            let addresses = self.own_addresses();
            if self.told.addresses.as_ref() != Some(&addresses) {
                self.told.addresses = Some(addresses.clone());
                updates.push(Update::Addresses(addresses));
            }
        }
        if changed.links || changed.routes {
            let routes = self.port_routes();
            if self.told.routes.as_ref() != Some(&routes) {
                self.told.routes = Some(routes.clone());
                updates.push(Update::Routes(routes));
            }
        }
        if changed.links {
            self.all_neighbours(&mut updates);
        } else {
            for (link, address) in changed.neighbours {
                let Some(port) = self.neighbour_port(link) else { continue };
                let now = self.neighbours.get(&(link, address)).copied();
                self.tell_neighbour((port, address), now, &mut updates);
            }
        }
        updates
    }

    fn link_updates(&mut self, updates: &mut Vec<Update>) {
        for names in &self.names {
            let link = self.links.get(&names.index);
            let mac =
                link.map_or_else(|| self.told.links.get(&names.port).map_or(Mac::ZERO, |told| told.1), |link| link.mac);
            let now = (link.is_some_and(|link| link.up), mac);
            if self.told.links.insert(names.port, now) != Some(now) {
                updates.push(Update::Link { port: names.port, up: now.0, mac: now.1 });
            }
        }
    }

    fn own_addresses(&self) -> Vec<Address> {
        let mut addresses: BTreeMap<IpAddr, Option<PortId>> = BTreeMap::new();
        for (address, link) in &self.addresses {
            let name = self.links.get(link).map(|link| &link.name);
            let port = self.names.iter().find(|names| Some(&names.interface) == name).map(|names| names.port);
            let entry = addresses.entry(*address).or_default();
            *entry = entry.or(port);
        }
        addresses.into_iter().map(|(address, port)| Address { address, port }).collect()
    }

    fn port_routes(&self) -> Vec<Route> {
        let mut routes = Vec::new();
        let mut done = None;
        for ((net, _), hops) in &self.routes {
            // Only the route of the least metric counts, even if it leads elsewhere.
            if done.replace(*net) == Some(*net) {
                continue;
            }
            let hop = hops.iter().find_map(|hop| Some((self.port_of(hop.link)?, hop.via)));
            routes.push(hop.map_or((*net, None, None), |(port, via)| (*net, Some(port), via)));
        }
        routes
    }

    fn all_neighbours(&mut self, updates: &mut Vec<Update>) {
        let now: BTreeMap<Key, Neighbour> = self
            .neighbours
            .iter()
            .filter_map(|((link, address), neighbour)| Some(((self.neighbour_port(*link)?, *address), *neighbour)))
            .collect();
        let gone: Vec<Key> = self.told.neighbours.keys().filter(|key| !now.contains_key(key)).copied().collect();
        for key in gone {
            self.tell_neighbour(key, None, updates);
        }
        for (key, neighbour) in now {
            self.tell_neighbour(key, Some(neighbour), updates);
        }
    }

    fn tell_neighbour(&mut self, key: Key, now: Option<Neighbour>, updates: &mut Vec<Update>) {
        let told = match now {
            Some(now) => self.told.neighbours.insert(key, now),
            None => self.told.neighbours.remove(&key),
        };
        if told.map(|told| (told.mac, told.state)) != now.map(|now| (now.mac, now.state)) {
            let (mac, state) = (now.and_then(|now| now.mac), now.map(|now| now.state));
            updates.push(Update::Neighbour { key, mac, state });
        }
    }
}

/// The address of ours that a message is about. Behind a point-to-point peer, IFA_LOCAL is ours and IFA_ADDRESS the other's; IPv6 has
/// IFA_ADDRESS alone.
pub(super) fn read_address(message: &AddressMessage) -> Option<IpAddr> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

/// A link's attributes, as far as levee reads them.
pub(super) struct LinkFacts {
    pub(super) name: String,
    pub(super) mac: Option<Mac>,
    pub(super) mtu: u32,
    pub(super) up: bool,
    /// The interface at the other end, if it is in this namespace.
    pub(super) peer: Option<u32>,
}

pub(super) fn read_link(message: &LinkMessage) -> Option<LinkFacts> {
    let ethernet = message.header.link_layer_type == netlink_packet_route::link::LinkLayerType::Ether;
    let mut facts = LinkFacts {
        name: String::new(),
        mac: None,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        peer: None,
    };
    let mut elsewhere = false;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => facts.name.clone_from(name),
            LinkAttribute::Address(bytes) if ethernet => facts.mac = mac_of(bytes),
            LinkAttribute::Mtu(mtu) => facts.mtu = *mtu,
            LinkAttribute::Link(peer) => facts.peer = Some(*peer).filter(|peer| *peer != 0),
            LinkAttribute::LinkNetNsId(_) => elsewhere = true,
            _ => {}
        }
    }
    if elsewhere {
        facts.peer = None;
    }
    (!facts.name.is_empty()).then_some(facts)
}

/// Whether a bridge speaks of its port: a message of a family of its own, without most attributes.
fn of_a_bridge(message: &LinkMessage) -> bool {
    message.header.interface_family != AddressFamily::Unspec
}

fn mac_of(bytes: &[u8]) -> Option<Mac> {
    bytes.first_chunk().filter(|_| bytes.len() == 6).map(|octets| Mac(*octets))
}

/// A route of the main table; without hops if it leads nowhere.
fn read_route(message: &RouteMessage) -> Option<((IpNet, u32), Vec<Hop>)> {
    let header = &message.header;
    let mut table = u32::from(header.table);
    let mut metric = 0;
    let mut destination = None;
    let (mut link, mut via) = (None, None);
    let mut hops = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Destination(address) => destination = Some(address_of(address)?),
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::Gateway(address) => via = Some(address_of(address)?),
            RouteAttribute::MultiPath(several) => {
                let alive = several
                    .iter()
                    .filter(|hop| !hop.flags.intersects(RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown));
                hops.extend(alive.map(|hop| Hop {
                    link: hop.interface_index,
                    via: hop.attributes.iter().find_map(|attribute| match attribute {
                        RouteAttribute::Gateway(address) => address_of(address),
                        _ => None,
                    }),
                }));
            }
            _ => {}
        }
    }
    // A clone is the kernel's note about one destination (its path's MTU), not a route.
    let main = table == u32::from(RouteHeader::RT_TABLE_MAIN) && !header.flags.contains(RouteFlags::Cloned);
    let counts =
        matches!(header.kind, RouteType::Unicast | RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit);
    if !main || !counts || header.tos != 0 || header.source_prefix_length != 0 {
        return None;
    }
    let unspecified: IpAddr = match header.address_family {
        AddressFamily::Inet => std::net::Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let net = IpNet::new(destination.unwrap_or(unspecified), header.destination_prefix_length).ok()?;
    // Every interface has one of these, and nothing link-local is forwarded.
    if matches!(net, IpNet::V6(net) if net.addr().is_unicast_link_local() || net.addr().is_multicast()) {
        return None;
    }
    hops.extend(link.map(|link| Hop { link, via }));
    Some(((net, metric), hops))
}

fn address_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

fn read_neighbour(message: &NeighbourMessage) -> Option<((u32, IpAddr), Neighbour)> {
    let mut address = None;
    let mut mac = None;
    let (mut managed, mut marked) = (false, false);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::ExtFlags(flags) => managed = flags.contains(NeighbourExtFlags::Managed),
            NeighbourAttribute::Protocol(protocol) => marked = *protocol == MARK,
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => address = Some(IpAddr::from(*ip)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => address = Some(IpAddr::from(*ip)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = mac_of(bytes),
            _ => {}
        }
    }
    // The forwarding databases of bridges come without an address; groups need no resolution.
    let address = address.filter(|address| !address.is_multicast())?;
    // The kernel sends while a state is valid (`NUD_VALID`, `include/net/neighbour.h`).
    let (state, valid) = match message.header.state {
        NeighbourState::Incomplete => ("incomplete", false),
        NeighbourState::Reachable => ("reachable", true),
        NeighbourState::Stale => ("stale", true),
        NeighbourState::Delay => ("delay", true),
        NeighbourState::Probe => ("probe", true),
        NeighbourState::Failed => ("failed", false),
        NeighbourState::Noarp => ("noarp", true),
        NeighbourState::Permanent => ("permanent", true),
        _ => ("none", false),
    };
    let mac = mac.filter(|mac| valid && mac.is_station());
    let keeper = match message.header.state {
        NeighbourState::Permanent | NeighbourState::Noarp => Keeper::Other,
        _ if managed && marked => Keeper::Levee,
        _ if managed => Keeper::Other,
        _ => Keeper::Nobody,
    };
    Some(((message.header.ifindex, address), Neighbour { mac, state, keeper }))
}
