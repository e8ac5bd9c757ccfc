//! What concerns addresses of load balancers: who wants some, and which there are.
//!
//! The allocator reads nothing else of a cluster. A [`LoadBalancer`] is here as soon as its Service is sound by itself, also if
//! what its status says is in another's way: the allocator is who can mend that.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;

use levee_api::net::{Family, Protocol};

use super::external::{Address, AddressPoolStatus, AddressRange, IngressPort, IpMode, Meta, ServiceStatus};
use super::{Key, ObjectName, Wide};
use crate::notice::Notice;

/// Load balancers and pools of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Balanced {
    /// Services of type LoadBalancer, of whatever class, and Services that once were and have our conditions still.
    pub services: BTreeMap<ObjectName, LoadBalancer>,
    /// Every AddressPool, those included that are not in force.
    pub pools: BTreeMap<String, Pool>,
    /// Objects of a live cluster that are refused.
    pub refusals: Vec<Refusal>,
}

/// One state of one object, as the API server names it; all absent in files that people write.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// `metadata.uid`.
    pub uid: Option<Box<str>>,
    /// `metadata.resourceVersion`.
    pub resource_version: Option<Box<str>>,
    /// `metadata.generation`; Services have none before Kubernetes 1.33.
    pub generation: Option<i64>,
    /// Whether it is an API server's, and not a file's.
    pub live: bool,
}

impl Identity {
    pub(super) fn of(meta: &Meta, live: bool) -> Self {
        Identity {
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            generation: meta.generation,
            live,
        }
    }
}

/// A port, as addresses are shared by it.
pub type PortKey = (Protocol, NonZeroU16);

/// A Service that wants addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoadBalancer {
    /// Which object, and which state of it.
    pub identity: Identity,
    /// Its type is LoadBalancer; otherwise it is only here to have traces of that time removed.
    pub is_wanted: bool,
    /// `spec.loadBalancerClass` (rule 41).
    pub class: Option<String>,
    /// Families of its ClusterIPs: it gets an address of each.
    pub families: BTreeSet<Family>,
    /// `spec.ipFamilyPolicy` is not `PreferDualStack`: without an address of each family something is wrong.
    pub needs_every_family: bool,
    /// Its ports.
    pub ports: BTreeSet<PortKey>,
    /// What it serves besides.
    pub wide: Wide,
    /// Labels, for pools that select by them.
    pub labels: BTreeMap<String, String>,
    /// Addresses that it asks for, by `levee.dev/addresses` or `spec.loadBalancerIP`.
    pub asked: Asked,
    /// The pool that it asks for, by `levee.dev/pool`.
    pub pool: Option<String>,
    /// Annotation `levee.dev/share-key`.
    pub share_key: Option<String>,
    /// Addresses that its status has, in mode VIP, in order.
    pub holds: Vec<Held>,
    /// Its status, as it was read.
    pub status: ServiceStatus,
}

/// Which addresses a Service asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Asked {
    /// Any will do.
    #[default]
    Any,
    /// These; of a family that is not here, any will do.
    For(BTreeMap<Family, IpAddr>),
    /// It cannot be understood, for this reason.
    Wrong(String),
}

/// An address that a Service's status has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held {
    /// The address.
    pub address: IpAddr,
    /// The ports that it was assigned for; `None` where the status does not say.
    pub ports: Option<BTreeSet<PortKey>>,
}

impl Held {
    /// What a status has: its addresses in mode VIP, in order.
    #[must_use]
    pub fn of(status: &ServiceStatus) -> Vec<Held> {
        let vips = status.load_balancer.ingress.iter().filter(|ingress| ingress.ip_mode != Some(IpMode::Proxy));
        let mut holds: Vec<Held> = vips
            .filter_map(|ingress| {
                let Address(address) = ingress.ip?.value;
                let key = |port: &IngressPort| {
                    let protocol = port.protocol.map_or(Protocol::Tcp, Protocol::from);
                    Some((protocol, NonZeroU16::new(port.port)?))
                };
                let ports = (!ingress.ports.is_empty()).then(|| ingress.ports.iter().filter_map(key).collect());
                Some(Held { address, ports })
            })
            .collect();
        holds.sort();
        holds.dedup_by_key(|held| held.address);
        holds
    }
}

/// An AddressPool object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pool {
    /// Which object, and which state of it.
    pub identity: Identity,
    /// What addresses are taken from: its `spec`, or the last one that was good.
    pub in_force: Option<AddressPool>,
    /// What its status says that was in force last.
    pub recorded: Option<AddressPool>,
    /// Why its `spec` is not in force.
    pub refused: Option<String>,
    /// Its status, as it was read.
    pub status: AddressPoolStatus,
}

/// Addresses for Services of type LoadBalancer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AddressPool {
    /// Its ranges, none overlapping another of any pool.
    pub ranges: BTreeSet<AddressRange>,
    /// Whether Services that name no pool get addresses of it.
    pub auto_assign: bool,
    /// Namespaces that may use it; empty: all.
    pub namespaces: BTreeSet<String>,
    /// Labels that a Service must have to use it.
    pub service_selector: BTreeMap<String, String>,
    /// Whether Services of different namespaces may share an address of it.
    pub shares_across_namespaces: bool,
    /// Addresses in its ranges that are given to nobody, and why.
    pub withheld: BTreeMap<AddressRange, String>,
}

impl AddressPool {
    /// Whether a Service may have addresses of it.
    #[must_use]
    pub fn permits(&self, name: &ObjectName, service: &LoadBalancer) -> bool {
        (self.namespaces.is_empty() || self.namespaces.contains(&name.namespace))
            && self.service_selector.iter().all(|(key, value)| service.labels.get(key) == Some(value))
    }

    /// Whether it is for some Services only.
    #[must_use]
    pub fn is_particular(&self) -> bool {
        !self.namespaces.is_empty() || !self.service_selector.is_empty()
    }
}

/// An object of a live cluster that is as if it were not there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// Which object.
    pub key: Key,
    /// Its `metadata.uid`, if it has one.
    pub uid: Option<Box<str>>,
    /// What is wrong with it.
    pub why: String,
}

impl Refusal {
    /// The same for whoever runs levee.
    #[must_use]
    pub fn notice(&self) -> Notice {
        Notice::new(self.key.to_string(), format!("refused, as if it were not there: {}", self.why))
    }
}
