//! `v1` Node and Pod, and `networking.k8s.io/v1` ServiceCIDR, as they are written.

use serde::Deserialize;

use super::value::{Address, Prefix};
use super::{Meta, or_empty};
use crate::model::Placed;

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
