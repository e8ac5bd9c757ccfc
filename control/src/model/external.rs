//! The external model: the parts of Kubernetes objects (and of levee's own) that are read, as they are written.
//!
//! Names and nesting are those of the API, so a page of `kubectl get -o yaml` is valid input. Unknown fields of Kubernetes
//! objects are accepted, because a newer API server has more of them; wrong types and values in fields that we do read are
//! errors, at their line and column. For [`AddressPool`], which is ours, unknown fields are errors too.
//!
//! A field that Go writes as `null` when a list or map is empty (`endpoints: null`) is read as empty. Nothing is checked
//! here beyond the form of a single value; see [`validate`](mod@super::validate).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU16;

use ipnet::IpNet;
use levee_api::net::{Family, Protocol};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::place::Placed;

/// `metadata` of any object.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Meta {
    /// Unique within kind and namespace.
    pub name: Placed<String>,
    /// Absent: `default`, for the kinds that live in one.
    pub namespace: Option<String>,
    /// As the API has them.
    #[serde(default, deserialize_with = "or_empty")]
    pub labels: BTreeMap<String, String>,
    /// As the API has them.
    #[serde(default, deserialize_with = "or_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// `v1` Service.
#[derive(Debug, Clone, Deserialize)]
pub struct Service {
    /// Name, namespace, labels, annotations.
    pub metadata: Meta,
    /// What is asked for.
    pub spec: ServiceSpec,
    /// What was given.
    #[serde(default, deserialize_with = "or_empty")]
    pub status: ServiceStatus,
}

/// `spec` of a Service.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// Absent: ClusterIP.
    #[serde(rename = "type", default, deserialize_with = "or_empty")]
    pub kind: ServiceType,
    /// The first of `clusterIPs`, or the only one in a file written by hand.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<Placed<ClusterIp>>,
    /// One for each of `ipFamilies`.
    #[serde(rename = "clusterIPs", default, deserialize_with = "or_empty")]
    pub cluster_ips: Vec<Placed<ClusterIp>>,
    /// In the order of `clusterIPs`. Absent: told from the addresses.
    #[serde(default, deserialize_with = "or_empty")]
    pub ip_families: Vec<Placed<IpFamily>>,
    /// Absent for ExternalName, and for some headless ones.
    #[serde(default, deserialize_with = "or_empty")]
    pub ports: Vec<ServicePort>,
    /// Absent: Cluster.
    pub external_traffic_policy: Option<TrafficPolicy>,
    /// Absent: Cluster.
    pub internal_traffic_policy: Option<TrafficPolicy>,
    /// Absent: None.
    pub session_affinity: Option<SessionAffinity>,
    /// How long.
    pub session_affinity_config: Option<SessionAffinityConfig>,
    /// Deprecated in 1.36; read to be reported.
    #[serde(rename = "externalIPs", default, deserialize_with = "or_empty")]
    pub external_ips: Vec<String>,
    /// Who may reach the load-balancer addresses.
    #[serde(default, deserialize_with = "or_empty")]
    pub load_balancer_source_ranges: Vec<Placed<SourceRange>>,
    /// Which implementation the Service is for.
    pub load_balancer_class: Option<String>,
}

/// One port of a Service.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Absent or empty where there is only one.
    pub name: Option<String>,
    /// Absent: TCP.
    pub protocol: Option<TransportProtocol>,
    /// Where clients send to.
    pub port: Placed<Port>,
    /// 0 or absent: none.
    pub node_port: Option<Placed<u16>>,
}

/// `status` of a Service.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// The addresses that it got.
    #[serde(default, deserialize_with = "or_empty")]
    pub load_balancer: LoadBalancerStatus,
}

/// `status.loadBalancer` of a Service.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct LoadBalancerStatus {
    /// One for each address or host name.
    #[serde(default, deserialize_with = "or_empty")]
    pub ingress: Vec<Ingress>,
}

/// One entry of `status.loadBalancer.ingress`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ingress {
    /// Absent where there is a host name instead.
    pub ip: Option<Placed<Address>>,
    /// Absent: VIP.
    pub ip_mode: Option<IpMode>,
}

/// `discovery.k8s.io/v1` EndpointSlice.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSlice {
    /// Name, namespace, labels, annotations.
    pub metadata: Meta,
    /// Of all its addresses.
    pub address_type: AddressType,
    /// In no order.
    #[serde(default, deserialize_with = "or_empty")]
    pub endpoints: Vec<Endpoint>,
    /// The same for all its endpoints.
    #[serde(default, deserialize_with = "or_empty")]
    pub ports: Vec<EndpointPort>,
}

/// One endpoint of a slice.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Only the first counts.
    #[serde(default, deserialize_with = "or_empty")]
    pub addresses: Vec<Placed<String>>,
    /// Absent ones mean ready, serving and not terminating.
    #[serde(default, deserialize_with = "or_empty")]
    pub conditions: Conditions,
    /// Where it runs.
    pub node_name: Option<String>,
    /// Where it should be used.
    #[serde(default, deserialize_with = "or_empty")]
    pub hints: Hints,
}

/// `conditions` of an endpoint.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub struct Conditions {
    /// The controller's word.
    pub ready: Option<bool>,
    /// Ready, whether or not it is terminating.
    pub serving: Option<bool>,
    /// Its pod is being deleted.
    pub terminating: Option<bool>,
}

/// `hints` of an endpoint.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hints {
    /// Zones that should use it.
    #[serde(default, deserialize_with = "or_empty")]
    pub for_zones: Vec<Named>,
    /// Nodes that should use it.
    #[serde(default, deserialize_with = "or_empty")]
    pub for_nodes: Vec<Named>,
}

/// A mapping with nothing but a name.
#[derive(Debug, Clone, Deserialize)]
pub struct Named {
    /// The name.
    pub name: String,
}

/// One port of a slice.
#[derive(Debug, Clone, Deserialize)]
pub struct EndpointPort {
    /// The Service port's name; "" is a name, absent is not.
    pub name: Option<String>,
    /// Absent: TCP.
    pub protocol: Option<TransportProtocol>,
    /// The target.
    pub port: Option<u16>,
}

/// `v1` Node.
#[derive(Debug, Clone, Deserialize)]
pub struct Node {
    /// Name, labels.
    pub metadata: Meta,
    /// Absent in a file written by hand, perhaps.
    #[serde(default, deserialize_with = "or_empty")]
    pub spec: NodeSpec,
    /// Absent in a file written by hand, perhaps.
    #[serde(default, deserialize_with = "or_empty")]
    pub status: NodeStatus,
}

/// `spec` of a Node.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct NodeSpec {
    /// The first of `podCIDRs`, or the only one in a file written by hand.
    #[serde(rename = "podCIDR")]
    pub pod_cidr: Option<Placed<Prefix>>,
    /// Prefixes of its pods.
    #[serde(rename = "podCIDRs", default, deserialize_with = "or_empty")]
    pub pod_cidrs: Vec<Placed<Prefix>>,
}

/// `status` of a Node.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct NodeStatus {
    /// Addresses and host names.
    #[serde(default, deserialize_with = "or_empty")]
    pub addresses: Vec<NodeAddress>,
}

/// One address of a Node.
#[derive(Debug, Clone, Deserialize)]
pub struct NodeAddress {
    /// `InternalIP`, `ExternalIP`, `Hostname`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// An address or a host name.
    pub address: Placed<String>,
}

/// `v1` Pod.
#[derive(Debug, Clone, Deserialize)]
pub struct Pod {
    /// Name, namespace.
    pub metadata: Meta,
    /// Where it runs.
    #[serde(default, deserialize_with = "or_empty")]
    pub spec: PodSpec,
    /// What it got.
    #[serde(default, deserialize_with = "or_empty")]
    pub status: PodStatus,
}

/// `spec` of a Pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSpec {
    /// Absent until it is scheduled.
    pub node_name: Option<String>,
    /// Whether it shares the node's own addresses.
    pub host_network: Option<bool>,
}

/// `status` of a Pod.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct PodStatus {
    /// `Succeeded` and `Failed` pods have given their addresses back.
    pub phase: Option<String>,
    /// The first of `podIPs`, or the only one in a file written by hand.
    #[serde(rename = "podIP")]
    pub pod_ip: Option<Placed<Address>>,
    /// One for each family.
    #[serde(rename = "podIPs", default, deserialize_with = "or_empty")]
    pub pod_ips: Vec<PodIp>,
}

/// One entry of `podIPs`.
#[derive(Debug, Clone, Deserialize)]
pub struct PodIp {
    /// The address.
    pub ip: Placed<Address>,
}

/// `networking.k8s.io/v1` ServiceCIDR.
#[derive(Debug, Clone, Deserialize)]
pub struct ServiceCidr {
    /// Name.
    pub metadata: Meta,
    /// What it allots.
    pub spec: ServiceCidrSpec,
}

/// `spec` of a ServiceCIDR.
#[derive(Debug, Clone, Deserialize)]
pub struct ServiceCidrSpec {
    /// Ranges of ClusterIPs.
    #[serde(default, deserialize_with = "or_empty")]
    pub cidrs: Vec<Placed<Prefix>>,
}

/// `levee.dev/v1alpha1` AddressPool: addresses for Services of type LoadBalancer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AddressPool {
    /// Always `levee.dev/v1alpha1` here, or absent in a list.
    pub api_version: Option<String>,
    /// Always `AddressPool` here, or absent in a list.
    pub kind: Option<String>,
    /// Name.
    pub metadata: Meta,
    /// What it gives.
    pub spec: AddressPoolSpec,
    /// Written by the allocator, not read.
    #[serde(default)]
    pub status: Option<serde::de::IgnoredAny>,
}

/// `spec` of an AddressPool.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AddressPoolSpec {
    /// Prefixes (`192.0.2.0/24`), ranges (`192.0.2.10-192.0.2.20`) and single addresses, of both families.
    pub addresses: Vec<Placed<AddressRange>>,
    /// Whether Services that ask for no pool get addresses of this one. Absent: yes.
    pub auto_assign: Option<bool>,
    /// Namespaces that may use it. Empty: all.
    #[serde(default, deserialize_with = "or_empty")]
    pub namespaces: Vec<String>,
    /// Labels that a Service must have to use it. Empty: none.
    #[serde(default, deserialize_with = "or_empty")]
    pub service_selector: BTreeMap<String, String>,
}

/// `spec.type` of a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum ServiceType {
    /// Inside the cluster.
    #[default]
    ClusterIP,
    /// On a port of every node, too.
    NodePort,
    /// On an address of its own, too.
    LoadBalancer,
    /// A DNS alias; nothing to balance.
    ExternalName,
}

/// A traffic policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum TrafficPolicy {
    /// All endpoints.
    #[default]
    Cluster,
    /// Those on the node where the packet is.
    Local,
}

/// `spec.sessionAffinity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum SessionAffinity {
    /// Each connection by itself.
    None,
    /// One endpoint for each client address.
    ClientIP,
}

/// `spec.sessionAffinityConfig`.
#[derive(Debug, Clone, Deserialize)]
pub struct SessionAffinityConfig {
    /// For `ClientIP`.
    #[serde(rename = "clientIP")]
    pub client_ip: Option<ClientIpConfig>,
}

/// `spec.sessionAffinityConfig.clientIP`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientIpConfig {
    /// 1 to 86,400. Absent: 10,800.
    pub timeout_seconds: Option<Placed<u32>>,
}

/// `status.loadBalancer.ingress[].ipMode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum IpMode {
    /// Packets arrive with this destination.
    VIP,
    /// Packets arrive with the node's or pod's own.
    Proxy,
}

/// `addressType` of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum AddressType {
    /// Addresses are IPv4.
    IPv4,
    /// Addresses are IPv6.
    IPv6,
    /// Addresses are names; never used.
    FQDN,
}

/// An entry of `ipFamilies`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum IpFamily {
    /// RFC 791.
    IPv4,
    /// RFC 8200.
    IPv6,
}

impl From<IpFamily> for Family {
    fn from(family: IpFamily) -> Self {
        match family {
            IpFamily::IPv4 => Family::Ipv4,
            IpFamily::IPv6 => Family::Ipv6,
        }
    }
}

/// `protocol` of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TransportProtocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
    /// RFC 9260.
    Sctp,
}

impl From<TransportProtocol> for Protocol {
    fn from(protocol: TransportProtocol) -> Self {
        match protocol {
            TransportProtocol::Tcp => Protocol::Tcp,
            TransportProtocol::Udp => Protocol::Udp,
            TransportProtocol::Sctp => Protocol::Sctp,
        }
    }
}

/// An IP address. IPv4-mapped IPv6 is refused: it would be one address under two names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address(pub IpAddr);

/// Reads an address, with the words that people need when it is none.
pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    match text.parse() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            Err(format!("`{text}` is an IPv4 address in IPv6 form: write it as IPv4"))
        }
        Ok(address) => Ok(address),
        Err(_) => Err(format!("`{text}` is not an IP address: expected one such as `10.96.0.1` or `2001:db8::1`")),
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        address(&String::deserialize(deserializer)?).map(Address).map_err(D::Error::custom)
    }
}

/// `clusterIP`: an address, or word that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterIp {
    /// "None": headless.
    Headless,
    /// "": not allotted yet.
    Unset,
    /// The address.
    Address(IpAddr),
}

impl<'de> Deserialize<'de> for ClusterIp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "None" => Ok(ClusterIp::Headless),
            "" => Ok(ClusterIp::Unset),
            text => address(text)
                .map(ClusterIp::Address)
                .map_err(|error| D::Error::custom(format!("{error}, or `None` for a headless Service"))),
        }
    }
}

/// A port that can be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port(pub NonZeroU16);

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u16::deserialize(deserializer)?;
        NonZeroU16::new(number).map(Port).ok_or_else(|| D::Error::custom("port 0: expected 1 to 65535"))
    }
}

/// An IP prefix; host bits are cleared, as Kubernetes does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix(pub IpNet);

fn prefix(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .map(|net| net.trunc())
        .map_err(|_| format!("`{text}` is not an IP prefix: expected one such as `10.96.0.0/12` or `2001:db8::/64`"))
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        prefix(&String::deserialize(deserializer)?).map(Prefix).map_err(D::Error::custom)
    }
}

/// An entry of `loadBalancerSourceRanges`; blanks around it are allowed there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceRange(pub IpNet);

impl<'de> Deserialize<'de> for SourceRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        prefix(String::deserialize(deserializer)?.trim()).map(SourceRange).map_err(D::Error::custom)
    }
}

/// First and last address of an entry of a pool, of one family, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressRange {
    /// First address.
    pub first: IpAddr,
    /// Last address.
    pub last: IpAddr,
}

impl std::fmt::Display for AddressRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

impl std::str::FromStr for AddressRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((first, last)) = text.split_once('-') {
            let (first, last) = (address(first.trim())?, address(last.trim())?);
            return match (Family::of(first) == Family::of(last), first <= last) {
                (false, _) => Err(format!("`{text}` begins in one IP family and ends in the other")),
                (true, false) => Err(format!("`{text}` ends before it begins: write `{last}-{first}`")),
                (true, true) => Ok(AddressRange { first, last }),
            };
        }
        if !text.contains('/') {
            let address = address(text.trim())?;
            return Ok(AddressRange { first: address, last: address });
        }
        let net: IpNet = text.trim().parse().map_err(|_| {
            format!("`{text}` is neither a prefix (`192.0.2.0/24`), a range (`192.0.2.1-192.0.2.9`) nor an address")
        })?;
        if net != net.trunc() {
            return Err(format!(
                "`{text}` has bits beyond its prefix: write `{}`, or the one address alone",
                net.trunc()
            ));
        }
        Ok(AddressRange { first: net.network(), last: net.broadcast() })
    }
}

impl<'de> Deserialize<'de> for AddressRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// `null` is what Go writes for an empty list or map.
fn or_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
