//! `v1` Service, as it is written.

use std::net::IpAddr;

use ipnet::IpNet;
use levee_api::net::Family;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::value::{Address, Port, TransportProtocol, address, prefix};
use super::{Condition, Meta, or_empty};
use crate::model::Placed;

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
    /// Absent: SingleStack.
    pub ip_family_policy: Option<IpFamilyPolicy>,
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
    /// Where nodes tell external balancers whether they have local endpoints; 0 or absent: nowhere.
    pub health_check_node_port: Option<u16>,
    /// Which implementation the Service is for.
    pub load_balancer_class: Option<String>,
    /// Deprecated since 1.24 in favour of implementations' annotations.
    #[serde(rename = "loadBalancerIP")]
    pub load_balancer_ip: Option<String>,
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
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// The addresses that it got.
    #[serde(default, deserialize_with = "or_empty")]
    pub load_balancer: LoadBalancerStatus,
    /// How it stands, in the eyes of several.
    #[serde(default, deserialize_with = "or_empty")]
    pub conditions: Vec<Condition>,
}

/// `status.loadBalancer` of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct LoadBalancerStatus {
    /// One for each address or host name.
    #[serde(default, deserialize_with = "or_empty")]
    pub ingress: Vec<Ingress>,
}

/// One entry of `status.loadBalancer.ingress`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ingress {
    /// Absent where there is a host name instead.
    pub ip: Option<Placed<Address>>,
    /// Absent where there is an address instead.
    pub hostname: Option<String>,
    /// Absent: VIP.
    pub ip_mode: Option<IpMode>,
    /// What became of each port; empty where the implementation does not say.
    #[serde(default, deserialize_with = "or_empty")]
    pub ports: Vec<IngressPort>,
}

/// One entry of `status.loadBalancer.ingress[].ports`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct IngressPort {
    /// The Service's port.
    pub port: u16,
    /// Absent: TCP.
    pub protocol: Option<TransportProtocol>,
    /// Why it is not served.
    pub error: Option<String>,
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

/// `spec.ipFamilyPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum IpFamilyPolicy {
    /// One family.
    #[default]
    SingleStack,
    /// Two, if the cluster has both.
    PreferDualStack,
    /// Two.
    RequireDualStack,
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

/// An entry of `loadBalancerSourceRanges`; blanks around it are allowed there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceRange(pub IpNet);

impl<'de> Deserialize<'de> for SourceRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        prefix(String::deserialize(deserializer)?.trim()).map(SourceRange).map_err(D::Error::custom)
    }
}
