//! From a cluster to what one dataplane is told: (`&ValidatedCluster`, `&View`) → ([`Program`], notices).
//!
//! ```text
//!              each Service port, in each family                       what this dataplane is
//!   slices ──► gather (rules 5–11) ──► select (17–25) ──► backends ─┐   View: node, role
//!   Service ─► frontends: address × side → mode, pool, when_empty ──┴─► program::Service
//!   Node, Pod, endpoints here ────────────────────────────────────────► program::Local
//! ```
//!
//! Pure and deterministic: no I/O, clock, randomness or hash-map order; the same cluster and view give the same bytes
//! (rule 13). Every Service is compiled by itself ([`service`](fn@service)). A [`Compiler`] remembers what came of each and
//! compiles again only what a change concerns; [`compile`] is one that has nothing to remember yet. Both end in the same bytes,
//! whatever the way there was (`control/tests/properties.rs`).
//!
//! A Service port is one of `spec.ports`, or a range or the whole of its addresses by annotation ([`Wide`](crate::model::Wide)): all of the
//! Service's endpoints serve those, at the port that the client has chosen, and node ports have none.
//!
//! # Who gets which frontends
//!
//! | address | on a node, from pods | on a node, from the uplink | on a balancer |
//! |---|---|---|---|
//! | ClusterIP | `dnat` | `nat` | annotation (but for `dsr`), or `nat` |
//! | load balancer, policy Cluster | `dnat` | `nat` | annotation, or `nat`; announced |
//! | the same, mode `tunnel` | as its policy says | as its policy says; from tunnels `dnat`, Local pool | `tunnel`, Cluster pool; announced |
//! | load balancer, policy Local | `dnat`, Cluster pool (rule 32) | `dnat`, Local pool | `dnat` or `dsr`, Cluster pool; announced |
//! | node port, policy Cluster | `dnat` | `nat` | none |
//! | node port, policy Local | `dnat`, Cluster pool | `dnat`, Local pool | none |
//!
//! From pods, the way back passes this levee anyway, so the client's address is kept; from the uplink it does only if the
//! backend is here, which policy Local guarantees. On a balancer, policy Local means that the client's address is kept.
//!
//! Services of files that have no load-balancer address in their status get one from the pools among the files
//! ([`allocate::in_files`](crate::allocate::in_files)); in a cluster, whoever is the leader writes it there.
//!
//! # Where it differs from kube-proxy, besides `service-rules`
//! - An endpoint on the host network of the very node that balances sees an address of levee's, also under policy Local: the
//!   host's own processes would answer their client directly, from an address that it never asked.
//! - Topology hints count on a node, for ClusterIPs and node ports. Load-balancer addresses, and everything on a balancer, have
//!   all usable endpoints: every balancer must choose among the same.

mod compiler;
mod frontends;
mod local;
mod quic;
mod select;
mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use levee_api::net::Family;
use levee_api::program::{FlowPolicy, Program, Via};
use levee_api::quic::Config;
use levee_api::tunnel::Tunnel;
use serde::{Deserialize, Serialize};

use crate::model::{Node, ObjectName, ValidatedCluster};
use crate::notice::Notice;
use crate::plan::Plan;

pub use compiler::{Compiler, Size};
pub use service::{CompiledService, service};

/// What the dataplane does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Serves the pods of one node.
    #[default]
    Node,
    /// Owns Service addresses and has no pods.
    Balancer,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Node => "node",
            Role::Balancer => "balancer",
        })
    }
}

/// Whose program is compiled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// Name of the Node that the dataplane runs on. A balancer may be none.
    pub node: String,
    /// What the dataplane does.
    pub role: Role,
    /// Ranges of ClusterIPs, beside those that ServiceCIDR objects give.
    pub service_cidrs: Vec<IpNet>,
    /// Leave Services of type LoadBalancer without `loadBalancerClass` to somebody else (rule 41).
    pub class_required: bool,
    /// Tunnels that end at the dataplane: see [`Program::tunnels`].
    pub tunnels: Vec<Tunnel>,
    /// How servers make connection IDs that name them, by the names that Services refer to.
    pub quic: BTreeMap<String, Config>,
    /// Announce addresses only in terms: another balancer may have them.
    pub elected: bool,
    /// What becomes of flows when something ends, where a Service does not say. Without a word on
    /// [`mid_stream`](FlowPolicy::mid_stream) the mode says.
    pub flows: FlowPolicy,
    /// The overlay that pods are reached by: a balancer that is no part of it wraps packets itself.
    pub overlay: Option<Overlay>,
}

/// An overlay network of pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overlay {
    /// Flannel with its backend `vxlan`: its Nodes say where it ends.
    Flannel,
}

impl View {
    /// As a node's dataplane sees the cluster.
    #[must_use]
    pub fn node(name: impl Into<String>) -> Self {
        View { node: name.into(), role: Role::Node, ..View::default() }
    }

    /// As a balancer's dataplane sees the cluster.
    #[must_use]
    pub fn balancer(name: impl Into<String>) -> Self {
        View { node: name.into(), role: Role::Balancer, ..View::default() }
    }
}

/// What compiling a Service needs to know of the place where it is done.
#[derive(Debug, Clone)]
pub struct Context<'a> {
    role: Role,
    node: &'a str,
    zone: Option<&'a str>,
    /// Where node ports are served: nowhere on a balancer.
    node_port_addresses: &'a BTreeSet<IpAddr>,
    class_required: bool,
    /// Whether packets can be wrapped here, or unwrapped, for Services of mode `tunnel`.
    tunnels: bool,
    /// See [`View::quic`].
    quic: &'a BTreeMap<String, Config>,
    flows: FlowPolicy,
    /// The network identifier of the overlay that pods are reached by, if any.
    overlay: Option<u32>,
    /// The nodes that packets are wrapped for.
    cluster: &'a ValidatedCluster,
}

impl<'a> Context<'a> {
    /// Of a view in a cluster.
    #[must_use]
    pub fn new(cluster: &'a ValidatedCluster, view: &'a View) -> Self {
        static NOBODY: Node = Node {
            pod_cidrs: BTreeSet::new(),
            internal_ips: BTreeSet::new(),
            addresses: BTreeSet::new(),
            zone: None,
            excluded: false,
            overlay: BTreeMap::new(),
        };
        let node = cluster.node(&view.node).unwrap_or(&NOBODY);
        Context {
            role: view.role,
            node: &view.node,
            zone: node.zone.as_deref(),
            node_port_addresses: if view.role == Role::Node { &node.internal_ips } else { &NOBODY.internal_ips },
            class_required: view.class_required,
            tunnels: !view.tunnels.is_empty() && view.overlay.is_none(),
            overlay: view.overlay.and(view.tunnels.first()).map(Tunnel::network),
            quic: &view.quic,
            flows: view.flows,
            cluster,
        }
    }

    /// Whether pods are reached by wrapping packets for an overlay, here. On its own nodes that is the kernel's to do.
    fn wraps_for_overlay(&self) -> bool {
        self.overlay.is_some() && self.role == Role::Balancer
    }

    /// Where a node's end of the overlay is, for pods of this family; or why nothing can be sent there.
    fn vtep(&self, node: &str, family: Family) -> Result<Via, String> {
        let vtep = match self.cluster.node(node).and_then(|node| node.overlay.get(&family)) {
            Some(Ok(vtep)) => vtep,
            Some(Err(why)) => return Err(format!("Node {node}: {why}")),
            None => return Err(format!("Node {node} has no annotations of flannel's for {family}")),
        };
        match self.overlay {
            Some(vni) if vni != vtep.vni => {
                Err(format!("Node {node} is on network {}, and `tunnels` has {vni}", vtep.vni))
            }
            _ => Ok(Via { address: vtep.address, mac: Some(vtep.mac) }),
        }
    }

    /// Where a node unwraps packets: its internal address, of this family if it has one.
    fn tunnel_end(&self, node: &str, family: Family) -> Option<IpAddr> {
        let internal = &self.cluster.node(node)?.internal_ips;
        internal.iter().find(|address| Family::of(**address) == family).or(internal.first()).copied()
    }
}

/// A view's tunnels, as its dataplane is told: on a node they end at the addresses that balancers send to, its internal ones.
fn tunnels(view: &View, node: Option<&Node>) -> Vec<Tunnel> {
    let mut tunnels = view.tunnels.clone();
    let internal = node.filter(|_| view.role == Role::Node).map(|node| &node.internal_ips);
    for tunnel in tunnels.iter_mut().filter(|tunnel| tunnel.addresses.is_empty()) {
        for address in internal.into_iter().flatten() {
            if tunnel.addresses.iter().all(|other| other.is_ipv4() != address.is_ipv4()) {
                tunnel.addresses.push(*address);
            }
        }
    }
    tunnels
}

/// Where each Service's health check is answered (rule 39), and with how many endpoints.
pub type HealthChecks = BTreeMap<ObjectName, BTreeMap<SocketAddr, usize>>;

/// Compiles the program of one dataplane, in canonical order. Its generation is 1: who sends it gives it its own.
#[must_use]
pub fn compile(cluster: &ValidatedCluster, view: &View) -> (Program, Vec<Notice>) {
    let mut compiler = Compiler::new(view.clone());
    let mut plan = Plan::default();
    plan.apply(compiler.everything(cluster));
    (plan.program(1), compiler.notices(cluster))
}
