//! Services against each other: who claims what another has already.
//!
//! Of two that claim one thing, the first by namespace and name keeps it; both are named. Whoever is refused claims nothing, so
//! one that goes may let another in, which may keep out a third. All of these hang together by what they claim: a change is
//! judged again with those that hang together with it, in the order of their names, and with nobody else.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use levee_api::net::Protocol;

use super::judged::{Judged, Sound};
use super::register::{Book, Stage};
use super::{About, Findings};
use crate::model::{Key, Kind, Node, ObjectName, Place, Service};

/// What only one Service can have. In the order of addresses, so that those of one address, or prefix, are neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    Address(IpAddr, u16, Protocol),
    NodePort(u16, Protocol),
    /// An address whole.
    Whole(IpAddr),
    /// Ranges of a protocol: several can have some, if they do not overlap.
    Ranges(IpAddr, Protocol),
}

impl Claim {
    /// Whether only one can have it.
    fn is_exclusive(self) -> bool {
        !matches!(self, Claim::Ranges(..))
    }
}

impl std::fmt::Display for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Claim::Address(address, port, protocol) => write!(f, "address {address} with {protocol} port {port}"),
            Claim::NodePort(port, protocol) => write!(f, "{protocol} node port {port}"),
            Claim::Whole(address) => write!(f, "address {address} whole"),
            Claim::Ranges(address, protocol) => write!(f, "ranges of {protocol} ports of address {address}"),
        }
    }
}

impl Service {
    fn addresses(&self) -> impl Iterator<Item = &IpAddr> {
        self.cluster_ips.values().chain(&self.load_balancer_ips)
    }

    fn claims(&self) -> impl Iterator<Item = Claim> {
        let wide = self.addresses().filter(|_| self.wide.is_something()).flat_map(|address| {
            let ranges = self.wide.protocols().into_iter().map(|protocol| Claim::Ranges(*address, protocol));
            ranges.chain(self.wide.whole.then_some(Claim::Whole(*address)))
        });
        let ports = self.ports.iter().flat_map(|port| {
            let vips = self.addresses().map(|address| Claim::Address(*address, port.port.get(), port.protocol));
            vips.chain(port.node_port.map(|node_port| Claim::NodePort(node_port.get(), port.protocol)))
        });
        ports.chain(wide)
    }
}

/// A Service that nobody else is in the way of, yet.
#[derive(Debug)]
struct Candidate {
    service: Arc<Service>,
    judged: Arc<Judged>,
}

/// Services against each other and against Nodes.
#[derive(Debug, Default)]
pub(super) struct Services {
    candidates: BTreeMap<Arc<ObjectName>, Candidate>,
    /// What candidates claim by themselves.
    claims: BTreeSet<(Claim, Arc<ObjectName>)>,
    ground: Ground,
    /// Whom a change concerns.
    dirty: BTreeSet<Arc<ObjectName>>,
}

impl Services {
    /// A Service is another one now, or is none.
    pub(super) fn set(&mut self, key: &Key, candidate: Option<(Arc<Service>, Arc<Judged>)>) {
        let name = Arc::new(ObjectName::named(key));
        if let Some(old) = self.candidates.remove(&name) {
            for claim in old.service.claims() {
                self.claims.remove(&(claim, Arc::clone(&name)));
                // Somebody else may have it now.
                self.dirty.extend(claimants(&self.claims, claim));
            }
        }
        if let Some((service, judged)) = candidate {
            self.claims.extend(service.claims().map(|claim| (claim, Arc::clone(&name))));
            self.candidates.insert(Arc::clone(&name), Candidate { service, judged });
        }
        self.dirty.insert(name);
    }

    /// A Node is another one now.
    pub(super) fn ground(&mut self, name: &str, before: Option<&Node>, now: Option<&Node>) {
        self.ground.set(name, before, false);
        self.ground.set(name, now, true);
        let nodes = || before.into_iter().chain(now);
        let addresses = nodes().flat_map(|node| &node.addresses).map(|address| (*address, *address));
        let prefixes = nodes().flat_map(|node| &node.pod_cidrs).map(|cidr| (cidr.network(), cidr.broadcast()));
        for (first, last) in addresses.chain(prefixes) {
            let from = (Claim::Address(first, 0, Protocol::Tcp), Arc::default());
            let within = self
                .claims
                .range(from..)
                .take_while(|(claim, _)| matches!(claim, Claim::Address(address, ..) if *address <= last));
            self.dirty.extend(within.map(|(_, name)| Arc::clone(name)));
        }
    }

    /// Judges whom changes concern, and those with them. Returns whose Service is another one than before.
    pub(super) fn settle(
        &mut self,
        services: &mut BTreeMap<ObjectName, Arc<Service>>,
        book: &mut Book,
    ) -> Vec<ObjectName> {
        let mut concerned = BTreeSet::new();
        let mut queue: Vec<Arc<ObjectName>> = std::mem::take(&mut self.dirty).into_iter().collect();
        while let Some(name) = queue.pop() {
            if concerned.contains(&name) {
                continue;
            }
            let claims = self.candidates.get(&name).into_iter().flat_map(|candidate| candidate.service.claims());
            let others = claims.flat_map(|claim| claimants(&self.claims, claim));
            queue.extend(others.filter(|other| !concerned.contains(other) && *other != name));
            concerned.insert(name);
        }
        let mut claimed = Claimed::default();
        let mut changed = Vec::new();
        for name in &concerned {
            let mut findings = Findings::default();
            let service = self.candidates.get(name).and_then(|candidate| {
                let mut about = About { findings: &mut findings, subject: candidate.judged.subject() };
                let service = accept(candidate, &self.ground, &claimed, &mut about)?;
                claimed.enter(&service, &candidate.judged);
                Some(service)
            });
            book.enter(Stage::Conflicts, &key(name), findings);
            if services.get(&**name) == service.as_ref() {
                continue;
            }
            let name = ObjectName::clone(name);
            match service {
                Some(service) => drop(services.insert(name.clone(), service)),
                None => drop(services.remove(&name)),
            }
            changed.push(name);
        }
        changed
    }
}

fn key(name: &ObjectName) -> Key {
    Key { kind: Kind::Service, namespace: Some(name.namespace.clone()), name: name.name.clone() }
}

/// All that claim one thing by themselves.
fn claimants(claims: &BTreeSet<(Claim, Arc<ObjectName>)>, claim: Claim) -> impl Iterator<Item = Arc<ObjectName>> {
    let from = (claim, Arc::default());
    claims.range(from..).take_while(move |(other, _)| *other == claim).map(|(_, name)| Arc::clone(name))
}

/// What Services that were accepted have, of those that hang together.
#[derive(Default)]
struct Claimed<'j> {
    exclusive: BTreeMap<Claim, &'j Judged>,
    /// Ranges of a protocol at an address.
    ranges: BTreeMap<Claim, Vec<(Arc<Service>, &'j Judged)>>,
}

impl<'j> Claimed<'j> {
    fn enter(&mut self, service: &Arc<Service>, judged: &'j Judged) {
        for claim in service.claims() {
            if claim.is_exclusive() {
                self.exclusive.insert(claim, judged);
            } else {
                self.ranges.entry(claim).or_default().push((Arc::clone(service), judged));
            }
        }
    }

    /// What of a Service another has already, in words too.
    fn in_the_way(&self, service: &Service) -> Option<(Claim, String, &'j Judged)> {
        service.claims().find_map(|claim| {
            if claim.is_exclusive() {
                return Some((claim, claim.to_string(), *self.exclusive.get(&claim)?));
            }
            let Claim::Ranges(address, of) = claim else { return None };
            self.ranges.get(&claim)?.iter().find_map(|(other, judged)| {
                let what = service.wide.overlap_of(&other.wide, of)?;
                Some((claim, format!("{what} of address {address}"), *judged))
            })
        })
    }
}

/// The Service as it is served, if it is in nobody's way.
fn accept(
    Candidate { service, judged }: &Candidate,
    ground: &Ground,
    claimed: &Claimed<'_>,
    about: &mut About<'_, '_>,
) -> Option<Arc<Service>> {
    // Some balancers report the nodes' addresses as the Service's (k3s does). Taking such an address whole would cut
    // the node off, so it is never a VIP; but the Service is not wrong.
    let mut service = Arc::clone(service);
    if service.load_balancer_ips.iter().any(|address| ground.owner(address).is_some()) {
        Arc::make_mut(&mut service).load_balancer_ips.retain(|address| match ground.owner(address) {
            Some(node) => {
                about.notice(format!("{address} is an address of Node {node}, so it is not served as a VIP"));
                false
            }
            None => true,
        });
    }
    for address in service.cluster_ips.values().chain(&service.load_balancer_ips) {
        if let Some(node) = ground.owner(address) {
            about.refuse_with(
                place(judged, *address),
                format!("its address {address} is an address of Node {node}"),
                "levee takes a Service's address whole, which would cut the node off: give the Service another one",
            );
            return None;
        }
        if let Some((node, cidr)) = ground.pods_with(*address) {
            about.refuse_with(
                place(judged, *address),
                format!("its address {address} is among the pods of Node {node} ({cidr})"),
                "give it an address outside of every `podCIDR`",
            );
            return None;
        }
    }
    if let Some((claim, what, other)) = claimed.in_the_way(&service) {
        let (place, help) = match claim {
            Claim::Address(address, ..) => {
                (place(judged, address), "give one of the two another address or another port")
            }
            Claim::NodePort(..) => (None, "give one of the two another `nodePort`"),
            Claim::Whole(address) => {
                (place(judged, address), "one Service can have an address whole: give one of the two another")
            }
            Claim::Ranges(address, _) => {
                (place(judged, address), "give one of the two another address, or ranges that do not overlap")
            }
        };
        about.refuse_with(
            place,
            format!("it claims {what}, which {} has already ({})", other.key(), other.place()),
            help,
        );
        return None;
    }
    Some(service)
}

/// Where an address stands in a Service.
fn place(judged: &Judged, address: IpAddr) -> Option<Place> {
    match &judged.sound {
        Sound::Service { places, .. } => places.iter().find(|(other, _)| *other == address).map(|(_, place)| *place),
        _ => None,
    }
}

/// What Nodes have.
#[derive(Debug, Default)]
struct Ground {
    addresses: BTreeMap<IpAddr, BTreeSet<String>>,
    prefixes: BTreeMap<IpNet, BTreeSet<String>>,
    /// Lengths of those prefixes, with the number of them, IPv4 and IPv6 alike: there are few.
    lengths: BTreeMap<u8, usize>,
}

impl Ground {
    /// A Node has what it says, or has it no more.
    fn set(&mut self, name: &str, node: Option<&Node>, has: bool) {
        let Some(node) = node else { return };
        for address in &node.addresses {
            put(&mut self.addresses, *address, name, has);
        }
        for cidr in &node.pod_cidrs {
            let count = self.lengths.entry(cidr.prefix_len()).or_default();
            *count = if has { *count + 1 } else { count.saturating_sub(1) };
            put(&mut self.prefixes, *cidr, name, has);
        }
        self.lengths.retain(|_, count| *count > 0);
    }

    /// The Node that has an address; of several, the last by name.
    fn owner(&self, address: &IpAddr) -> Option<&String> {
        self.addresses.get(address)?.last()
    }

    /// The Node whose pods may have an address, and their prefix; of several, the first.
    fn pods_with(&self, address: IpAddr) -> Option<(&String, IpNet)> {
        let within = self.lengths.keys().filter_map(|length| {
            let cidr = IpNet::new(address, *length).ok()?.trunc();
            Some((self.prefixes.get(&cidr)?.first()?, cidr))
        });
        within.min()
    }
}

fn put<K: Ord>(map: &mut BTreeMap<K, BTreeSet<String>>, key: K, name: &str, has: bool) {
    if has {
        map.entry(key).or_default().insert(name.to_owned());
    } else if let Some(names) = map.get_mut(&key) {
        names.remove(name);
        if names.is_empty() {
            map.remove(&key);
        }
    }
}
