//! The cluster, as levee understands it: from objects as they are written to a value that proves something.
//!
//! ```text
//!  watch ──► external::* + Origin ──validate()──► ValidatedCluster + refused: [Diagnostic] + notices ──► compile
//!            each value of the right form          every object sound by itself, none in another's way
//! ```
//!
//! What is kept of an object is what it amounts to, not what was written: a [`Judged`]. A [`Register`] takes them in one by one
//! and says what each [changes](Changes); [`validate()`] is a Register that is given all of them.
//!
//! Pure: no I/O, no clock, no hash-map order. Each object is judged by itself first, then against the others. What is
//! wrong is left out and told; a source of files treats any refusal as "keep the last good state", while a live cluster
//! goes on without the refused object alone.
//!
//! Holding a [`ValidatedCluster`] proves that
//! - every address is of the family that it is filed under, and may be an endpoint's (no loopback, link-local, multicast,
//!   unspecified or IPv4-mapped address);
//! - no two Services claim one address, port and protocol, nor one node port, nor ranges that overlap, nor one address whole;
//! - no VIP is a node's own address or inside a node's pods' prefix;
//! - no two address pools that are in force overlap, and what a pool has in common with nodes, pods or ClusterIPs is
//!   withheld;
//! - of each kind, namespace and name there is one object.

pub(crate) mod annotations;
mod balanced;
pub mod external;
pub mod flows;
mod object;
mod place;
mod validate;
mod wide;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use ipnet::IpNet;
use levee_api::net::{Family, Mac, Protocol};

pub use balanced::{AddressPool, Asked, Balanced, Held, Identity, LoadBalancer, Pool, PortKey, Refusal};
pub use external::{AddressRange, TrafficPolicy};
pub use object::{Key, Kind, Object, Sourced};
pub use place::{Origin, Place, Placed};
pub(crate) use validate::is_object_name;
pub use validate::{Changes, Judge, Judged, Register, Validation, validate};
pub use wide::{NamedRange, Overlap, Wide};

use crate::notice::Notice;

/// What names a namespaced object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ObjectName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Slices with their own names, in order.
type NamedSlices = Vec<(Box<str>, Arc<EndpointSlice>)>;

/// A cluster without contradictions: see the [module](self).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ValidatedCluster {
    services: BTreeMap<ObjectName, Arc<Service>>,
    /// By Service; sorted by the slice's own name.
    slices: BTreeMap<ObjectName, NamedSlices>,
    nodes: BTreeMap<String, Node>,
    pods: BTreeMap<ObjectName, Pod>,
    service_cidrs: BTreeSet<IpNet>,
    balanced: Arc<Balanced>,
    notices: Vec<Notice>,
}

impl ValidatedCluster {
    /// Services that have something to balance (rules 1 and 3), by name.
    pub fn services(&self) -> impl Iterator<Item = (&ObjectName, &Service)> {
        self.services.iter().map(|(name, service)| (name, &**service))
    }

    /// A Service, if there is one of this name that has something to balance.
    #[must_use]
    pub fn service(&self, name: &ObjectName) -> Option<&Service> {
        self.services.get(name).map(|service| &**service)
    }

    /// The slices of a Service, by name (rule 6).
    pub fn slices(&self, service: &ObjectName) -> impl Iterator<Item = &EndpointSlice> + Clone {
        self.slices.get(service).into_iter().flatten().map(|(_, slice)| &**slice)
    }

    /// Every name that a Service has, or that slices say they are of.
    pub fn service_names(&self) -> impl Iterator<Item = &ObjectName> {
        let without = self.slices.keys().filter(|name| !self.services.contains_key(*name));
        self.services.keys().chain(without)
    }

    /// The node of this name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = (&String, &Node)> {
        self.nodes.iter()
    }

    /// Pods that hold addresses of their own now.
    pub fn pods(&self) -> impl Iterator<Item = (&ObjectName, &Pod)> {
        self.pods.iter()
    }

    /// A pod that holds addresses of its own now.
    #[must_use]
    pub fn pod(&self, name: &ObjectName) -> Option<&Pod> {
        self.pods.get(name)
    }

    /// Ranges of ClusterIPs, as ServiceCIDR objects give them.
    pub fn service_cidrs(&self) -> impl Iterator<Item = &IpNet> {
        self.service_cidrs.iter()
    }

    /// What concerns addresses of load balancers.
    #[must_use]
    pub fn balanced(&self) -> &Arc<Balanced> {
        &self.balanced
    }

    /// What is worth telling about its objects, whoever reads it.
    #[must_use]
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }
}

/// A Service that has something to balance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its ClusterIP in each family that it has (rule 4).
    pub cluster_ips: BTreeMap<Family, IpAddr>,
    /// Its ports; unique by name and protocol, and by number and protocol.
    pub ports: Vec<ServicePort>,
    /// Whether nodes serve its node ports.
    pub external: External,
    /// Policy for what comes from outside. `Cluster` unless it is reachable from there (rule 22).
    pub external_policy: TrafficPolicy,
    /// Policy for what comes to the ClusterIP.
    pub internal_policy: TrafficPolicy,
    /// Seconds that a client stays with its endpoint (rule 35).
    pub affinity: Option<u32>,
    /// `status.loadBalancer.ingress[].ip` in mode VIP (rule 29), without those that no VIP can be.
    pub load_balancer_ips: BTreeSet<IpAddr>,
    /// Who may reach the load-balancer addresses; empty: everybody (rule 34).
    pub source_ranges: BTreeSet<IpNet>,
    /// `spec.healthCheckNodePort`, where it is in force (rule 39).
    pub health_check_node_port: Option<NonZeroU16>,
    /// `spec.loadBalancerClass` (rule 41).
    pub class: Option<String>,
    /// Annotation `levee.dev/mode`, as written.
    pub mode: Option<String>,
    /// Annotation `levee.dev/quic-lb`, as written.
    pub quic: Option<String>,
    /// Annotation `levee.dev/drain`, as written.
    pub drain: Option<String>,
    /// Annotation `levee.dev/mid-stream`, as written.
    pub mid_stream: Option<String>,
    /// Whether it has `spec.externalIPs`, which are not served (rule 30).
    pub has_external_ips: bool,
    /// What it serves besides its ports.
    pub wide: Wide,
}

impl Service {
    /// Whether balancers are to wrap its packets for their backends' nodes.
    #[must_use]
    pub fn asks_for_tunnel(&self) -> bool {
        self.mode.as_deref() == Some("tunnel")
    }
}

/// How a Service is reachable from outside, by its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum External {
    /// Not at all.
    No,
    /// On node ports.
    NodePorts,
    /// On load-balancer addresses, and on node ports if it has them.
    LoadBalancer,
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServicePort {
    /// Empty where there is only one.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Where clients send to.
    pub port: NonZeroU16,
    /// Where clients of nodes send to.
    pub node_port: Option<NonZeroU16>,
}

/// A slice of a Service's endpoints, all of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Family of every address in it.
    pub family: Family,
    /// Ports that count (rule 8).
    pub ports: Vec<SlicePort>,
    /// Endpoints that have an address (rule 9).
    pub endpoints: Vec<Endpoint>,
}

/// One port of a slice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlicePort {
    /// The Service port's name.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// The target.
    pub port: NonZeroU16,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Its first address (rule 9).
    pub address: IpAddr,
    /// The controller's word (rule 17); absent is true (rule 10).
    pub ready: bool,
    /// Ready but for the termination; absent is true (rule 10).
    pub serving: bool,
    /// Its pod is being deleted; absent is false (rule 10).
    pub terminating: bool,
    /// Where it runs. There are many endpoints, and few nodes: one name is shared by all that are there.
    pub node: Option<Arc<str>>,
    /// Nodes that should use it.
    pub for_nodes: Box<[String]>,
    /// Zones that should use it.
    pub for_zones: Box<[String]>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// Prefixes of its pods.
    pub pod_cidrs: BTreeSet<IpNet>,
    /// Its `InternalIP`s, on which node ports are served.
    pub internal_ips: BTreeSet<IpAddr>,
    /// All its addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// Label `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// Label `node.kubernetes.io/exclude-from-external-load-balancers`, whatever its value: its balancer owns no addresses.
    pub excluded: bool,
    /// Where flannel's VXLAN ends on it, by family; absent where flannel says nothing.
    pub overlay: BTreeMap<Family, Overlay>,
}

/// An endpoint of an overlay, or why what is said of it is not understood.
pub type Overlay = Result<Vtep, String>;

/// A VXLAN tunnel endpoint (RFC 7348, 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vtep {
    /// Where packets to it are sent.
    pub address: IpAddr,
    /// Its MAC inside of the overlay.
    pub mac: Mac,
    /// The overlay's network identifier.
    pub vni: u32,
}

/// A pod with addresses of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Where it runs.
    pub node: String,
    /// Its addresses.
    pub addresses: BTreeSet<IpAddr>,
}
