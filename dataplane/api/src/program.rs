//! What the dataplane is told to do.
//!
//! A [`Program`] is the whole; a [`Delta`] is a change from one generation to the next. Applying a delta to the program
//! it was made for gives the program of its generation ([`Delta::apply`]); [`Delta::between`] makes one. Both are pure,
//! and [`Program::canonical`] orders everything, so that the same state gives the same bytes (`service-rules` 13).

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::net::{Family, Mac, PortRange, Protocol};
use crate::quic;
use crate::tunnel::Tunnel;

/// Counts programs. 0 is "nothing was ever programmed".
pub type Generation = u64;

/// Everything that a dataplane is told, at one generation.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Chosen by the programmer; must be greater than 0.
    pub generation: Generation,
    /// What lives on this node. Empty on a dedicated balancer.
    #[serde(default)]
    pub local: Local,
    /// Ranges out of which service addresses are taken; an address inside that is no VIP is dropped, never forwarded.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub service_ranges: Vec<IpNet>,
    /// Addresses that are levee's alone.
    #[serde(default)]
    pub vips: Vec<Vip>,
    /// Whether [`Vip::announce`] holds only while a [`Term`](crate::term::Term) names the address: others may announce it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub announce_in_term: bool,
    /// Services, each by itself.
    #[serde(default)]
    pub services: Vec<Service>,
    /// Tunnels that end here, each kind and port once. Packets are wrapped for the first, and unwrapped from all: so a
    /// cluster moves from one kind to another without a gap.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tunnels: Vec<Tunnel>,
}

/// The pods of this node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Local {
    /// Prefixes that are this node's alone (its pod CIDRs): every address inside is a pod here or nobody.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub prefixes: Vec<IpNet>,
    /// Pods known one by one, inside or outside of the prefixes.
    #[serde(default)]
    pub pods: Vec<Pod>,
}

/// One pod of this node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Pod {
    /// Its address.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub address: IpAddr,
    /// Its MAC, if the programmer knows it; otherwise the kernel's neighbour table on the pods' bridge is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub mac: Option<Mac>,
}

/// An address that belongs to levee alone: every packet to it is levee's, and a port it does not have is refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Vip {
    /// The address.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub address: IpAddr,
    /// Whether this dataplane owns it on the fabric: answers ARP for it on uplinks and announces it.
    #[serde(default)]
    pub announce: bool,
}

/// What names a service: the programmer's name for it (`namespace/name:port`), its protocol and its IP family. A
/// dual-stack service port is two services here, of one name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ServiceKey {
    /// Opaque to the dataplane.
    pub name: String,
    /// With the name and the family, the key.
    pub protocol: Protocol,
    /// With the name and the protocol, the key.
    #[serde(default)]
    pub family: Family,
}

/// One service port: addresses in front, backends behind. All in one IP family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Opaque to the dataplane: `namespace/name:port`.
    pub name: String,
    /// With the name and the family, the key.
    pub protocol: Protocol,
    /// The family of every address of its frontends and backends.
    #[serde(default)]
    pub family: Family,
    /// Where clients send to. No two services share a (side, address, port, protocol).
    pub frontends: Vec<Frontend>,
    /// Where packets go.
    pub backends: Vec<Backend>,
    /// Clients stay with a backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// How its backends make QUIC connection IDs, each configuration under a rotation of its own: a client that has changed its
    /// address stays with the backend that its connection ID names. UDP only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quic: Vec<quic::Config>,
    /// What becomes of its flows when something ends.
    #[serde(default, skip_serializing_if = "FlowPolicy::is_default")]
    pub flows: FlowPolicy,
}

/// What becomes of a service's flows when their backend, or what is known of them, ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FlowPolicy {
    /// Seconds for which a backend in no pool keeps its flows. Then TCP is reset at its next packet, at either end, and anything else
    /// moves to another backend. Absent: until they end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_seconds: Option<u32>,
    /// What becomes of a TCP segment that begins nothing and is of no flow. Absent: `reset` with `nat` and `dnat`, `hash` with `dsr`
    /// and `tunnel`, where backends reset what they do not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mid_stream: Option<MidStream>,
}

impl FlowPolicy {
    fn is_default(&self) -> bool {
        *self == FlowPolicy::default()
    }
}

/// What becomes of a TCP segment in the middle of a connection that nobody here knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum MidStream {
    /// Its sender is told, by RST, and begins anew at once.
    Reset,
    /// It is sent where its hash says, which is where every dataplane with the same backends sends it: connections outlive a restart or a
    /// failover, unless backends have changed. With `nat`, whose translation is lost, it is reset.
    Hash,
    /// It is dropped and counted: its sender tries on until it gives up.
    Drop,
}

/// One address and port of a service, as one side of levee sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Frontend {
    /// A VIP, or an address that levee shares with the kernel (a node's own, for NodePorts); then only this port is taken.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub address: IpAddr,
    /// Transport port, 1 to 65535. 0 with protocol `any`, and only there: a VIP is served whole, but for what other services
    /// have of it.
    pub port: u16,
    /// Last port of a range that begins with `port`; absent: `port` alone. Ranges are on VIPs, and none overlaps another of its
    /// protocol. Where a service has one of their ports by itself, that service is the one that is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_port: Option<u16>,
    /// Whose packets it serves.
    #[serde(default)]
    pub from: Side,
    /// How backends are reached.
    pub mode: Mode,
    /// Which backends are candidates.
    #[serde(default)]
    pub pool: Pool,
    /// What happens when the pool has nobody.
    #[serde(default)]
    pub when_empty: WhenEmpty,
    /// Clients that may begin flows here; empty: everybody. Flows that there are go on when this changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub source_ranges: Vec<IpNet>,
}

impl Frontend {
    /// Its ports; none with protocol `any`.
    #[must_use]
    pub fn ports(&self) -> Option<PortRange> {
        (self.port != 0).then(|| PortRange { first: self.port, last: self.last_port.unwrap_or(self.port) })
    }

    /// Whether it has more than one port, and so its backends have the port that the client has chosen.
    #[must_use]
    pub fn is_wide(&self) -> bool {
        self.port == 0 || self.last_port.is_some()
    }
}

/// Whose packets a frontend serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Packets from an uplink or from pods.
    #[default]
    Any,
    /// Packets that came in on an uplink.
    Uplink,
    /// Packets that came in from this node: from its pods, and from its own processes where there is a way for them.
    Pods,
    /// Packets that a peer of one of the tunnels sent, unwrapped.
    Tunnel,
}

/// How a packet reaches its backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Source and destination are rewritten: works everywhere, hides the client's address.
    Nat,
    /// Only the destination is rewritten; the way back must pass this levee. Where it would not (client and backend on
    /// the same pods' bridge), the dataplane falls back to `nat` for that flow.
    Dnat,
    /// Only the destination MAC changes; the backend holds the VIP itself and answers the client directly.
    Dsr,
    /// Nothing changes; the packet is wrapped and sent to the backend's node ([`Backend::via`]), whose levee unwraps it,
    /// chooses among its own backends, and sends replies straight to the client.
    Tunnel,
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Mode::Nat => "nat",
            Mode::Dnat => "dnat",
            Mode::Dsr => "dsr",
            Mode::Tunnel => "tunnel",
        })
    }
}

/// Which of a service's backends a frontend may choose: its traffic policy, already evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Pool {
    /// Every usable backend of the cluster, or those of them that the cluster would have this node use.
    #[default]
    Cluster,
    /// Every usable backend of the cluster, the same for everybody who knows them.
    All,
    /// Backends on this node only.
    Local,
}

/// What happens to a packet whose pool is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum WhenEmpty {
    /// TCP RST, or ICMP port unreachable.
    #[default]
    Reject,
    /// Dropped and counted: there are backends, but none that this pool may use.
    Drop,
}

/// One place that a service's packets go to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// Address, of the family of the service's frontends.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub address: IpAddr,
    /// Transport port, 1 to 65535. 0 in services with ranges or protocol `any`: the port that the client has chosen.
    pub port: u16,
    /// In which pools new flows may choose it. Empty: it drains, keeping only the flows that it has. A backend that is
    /// not listed at all is deleted: its flows end.
    #[serde(default)]
    pub pools: Vec<Pool>,
    /// The far end of the tunnel through which it is reached. Mode `tunnel` needs one for each backend. With `nat` and `dnat`
    /// the translated packet is wrapped, which is how pods on an overlay of VXLAN (flannel's) are reached without one's own
    /// node in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<Via>,
}

/// The far end of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Via {
    /// Where wrapped packets are sent, of either family.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub address: IpAddr,
    /// The inner frame's destination MAC (`vxlan`, `geneve`): a kernel takes no frame for another's. levee does not look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub mac: Option<Mac>,
}

/// Flows of one client address go to one backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Affinity {
    /// Seconds without a new connection after which the client is forgotten.
    pub timeout_seconds: u32,
}

/// A change from generation `base` to `generation`. Whatever is `None` or not named stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Delta {
    /// The generation that the change was made against; another is answered 409.
    pub base: Generation,
    /// The generation afterwards; must be greater than `base`.
    pub generation: Generation,
    /// The new [`Program::local`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<Local>,
    /// The new [`Program::service_ranges`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<String>>))]
    pub service_ranges: Option<Vec<IpNet>>,
    /// The new [`Program::announce_in_term`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announce_in_term: Option<bool>,
    /// VIPs that are new or changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upsert_vips: Vec<Vip>,
    /// VIPs that are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub remove_vips: Vec<IpAddr>,
    /// Services that are new or changed, each whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upsert_services: Vec<Service>,
    /// Services that are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_services: Vec<ServiceKey>,
    /// The new [`Program::tunnels`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnels: Option<Vec<Tunnel>>,
}

impl Service {
    /// The service's key.
    #[must_use]
    pub fn key(&self) -> ServiceKey {
        ServiceKey { name: self.name.clone(), protocol: self.protocol, family: self.family }
    }

    /// Whether clients choose the port, by ranges or by protocol `any`: then backends have none of their own.
    #[must_use]
    pub fn is_wide(&self) -> bool {
        self.protocol == Protocol::Any || self.frontends.iter().any(Frontend::is_wide)
    }

    /// The same service with everything ordered and doubles removed.
    #[must_use]
    pub fn canonical(mut self) -> Self {
        for frontend in &mut self.frontends {
            frontend.source_ranges.sort();
            frontend.source_ranges.dedup();
        }
        self.frontends.sort();
        self.frontends.dedup();
        for backend in &mut self.backends {
            backend.pools.sort();
            backend.pools.dedup();
        }
        self.backends.sort();
        self.backends.dedup();
        for config in &mut self.quic {
            config.servers.sort();
            config.servers.dedup();
        }
        self.quic.sort();
        self.quic.dedup();
        self
    }
}

impl Program {
    /// The same program as it may be shown: without its keys.
    #[must_use]
    pub fn without_keys(&self) -> Self {
        let mut shown = self.clone();
        for config in shown.services.iter_mut().flat_map(|service| &mut service.quic) {
            *config = config.without_key();
        }
        shown
    }

    /// The same program with everything ordered and doubles removed, so that equal states are equal values.
    #[must_use]
    pub fn canonical(mut self) -> Self {
        self.local.prefixes.sort();
        self.local.prefixes.dedup();
        self.local.pods.sort();
        self.local.pods.dedup();
        self.service_ranges.sort();
        self.service_ranges.dedup();
        self.vips.sort();
        self.vips.dedup();
        self.services = self.services.into_iter().map(Service::canonical).collect();
        for tunnel in &mut self.tunnels {
            tunnel.addresses.sort();
            tunnel.addresses.dedup();
            tunnel.peers.sort();
            tunnel.peers.dedup();
        }
        self.services.sort_by(|a, b| (&a.name, a.protocol, a.family).cmp(&(&b.name, b.protocol, b.family)));
        self
    }
}

impl Delta {
    /// The change that turns `old` into `new`. Both should be canonical, or order alone will count as change.
    #[must_use]
    pub fn between(old: &Program, new: &Program) -> Self {
        let old_vips: BTreeMap<_, _> = old.vips.iter().map(|vip| (vip.address, vip)).collect();
        let new_vips: BTreeMap<_, _> = new.vips.iter().map(|vip| (vip.address, vip)).collect();
        let old_services: BTreeMap<_, _> =
            old.services.iter().map(|service| ((&service.name, service.protocol, service.family), service)).collect();
        let new_services: BTreeMap<_, _> =
            new.services.iter().map(|service| ((&service.name, service.protocol, service.family), service)).collect();
        Delta {
            base: old.generation,
            generation: new.generation,
            local: (old.local != new.local).then(|| new.local.clone()),
            service_ranges: (old.service_ranges != new.service_ranges).then(|| new.service_ranges.clone()),
            announce_in_term: (old.announce_in_term != new.announce_in_term).then_some(new.announce_in_term),
            upsert_vips: new_vips
                .iter()
                .filter(|(address, vip)| old_vips.get(*address) != Some(vip))
                .map(|(_, vip)| (*vip).clone())
                .collect(),
            remove_vips: old_vips.keys().filter(|address| !new_vips.contains_key(*address)).copied().collect(),
            upsert_services: new_services
                .iter()
                .filter(|(key, service)| old_services.get(*key) != Some(service))
                .map(|(_, service)| (*service).clone())
                .collect(),
            remove_services: old_services
                .iter()
                .filter(|(key, _)| !new_services.contains_key(*key))
                .map(|(_, service)| service.key())
                .collect(),
            tunnels: (old.tunnels != new.tunnels).then(|| new.tunnels.clone()),
        }
    }

    /// Whether anything but the generation changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.local.is_none()
            && self.service_ranges.is_none()
            && self.announce_in_term.is_none()
            && self.upsert_vips.is_empty()
            && self.remove_vips.is_empty()
            && self.upsert_services.is_empty()
            && self.remove_services.is_empty()
            && self.tunnels.is_none()
    }

    /// The program after the change, in canonical order. The caller has compared `base` with the program's generation.
    /// Removals come before upserts, so a key named by both ends up present.
    #[must_use]
    pub fn apply(&self, program: &Program) -> Program {
        let mut vips: BTreeMap<_, _> = program.vips.iter().map(|vip| (vip.address, vip.clone())).collect();
        for address in &self.remove_vips {
            vips.remove(address);
        }
        for vip in &self.upsert_vips {
            vips.insert(vip.address, vip.clone());
        }
        let mut services: BTreeMap<_, _> =
            program.services.iter().map(|service| (service.key(), service.clone())).collect();
        for key in &self.remove_services {
            services.remove(key);
        }
        for service in &self.upsert_services {
            services.insert(service.key(), service.clone());
        }
        Program {
            generation: self.generation,
            local: self.local.clone().unwrap_or_else(|| program.local.clone()),
            service_ranges: self.service_ranges.clone().unwrap_or_else(|| program.service_ranges.clone()),
            announce_in_term: self.announce_in_term.unwrap_or(program.announce_in_term),
            vips: vips.into_values().collect(),
            services: services.into_values().collect(),
            tunnels: self.tunnels.clone().unwrap_or_else(|| program.tunnels.clone()),
        }
        .canonical()
    }
}

/// The answer to a program or a delta that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Applied {
    /// The generation that every worker now runs.
    pub generation: Generation,
}
