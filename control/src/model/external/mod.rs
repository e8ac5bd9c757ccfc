//! The external model: the parts of Kubernetes objects (and of levee's own) that are read, as they are written.
//!
//! Names and nesting are those of the API, so a page of `kubectl get -o yaml` is valid input. Unknown fields of Kubernetes
//! objects are accepted, because a newer API server has more of them; wrong types and values in fields that we do read are
//! errors, at their line and column. For [`AddressPool`], which is ours, unknown fields are errors too.
//!
//! A field that Go writes as `null` when a list or map is empty (`endpoints: null`) is read as empty. Nothing is checked
//! here beyond the form of a single value; see [`validate`](fn@super::validate).

mod node;
mod pool;
mod service;
mod slice;
mod value;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::Placed;

pub use node::{Node, NodeAddress, NodeSpec, NodeStatus, Pod, PodIp, PodSpec, PodStatus, ServiceCidr, ServiceCidrSpec};
pub use pool::{AddressPool, AddressPoolSpec, AddressPoolStatus, AddressRange, Sharing, Usage};
pub use service::{
    ClientIpConfig, ClusterIp, Ingress, IngressPort, IpFamily, IpFamilyPolicy, IpMode, LoadBalancerStatus, Service,
    ServicePort, ServiceSpec, ServiceStatus, ServiceType, SessionAffinity, SessionAffinityConfig, SourceRange,
    TrafficPolicy,
};
pub use slice::{AddressType, Conditions, Endpoint, EndpointPort, EndpointSlice, Hints, Named};
pub(super) use value::address;
pub use value::{Address, Port, Prefix, TransportProtocol};

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
    /// What tells this object from another of its name, before or after it.
    pub uid: Option<Box<str>>,
    /// What tells this state of it from others.
    #[serde(rename = "resourceVersion")]
    pub resource_version: Option<Box<str>>,
    /// Counts changes of its `spec`, for the kinds that have it.
    pub generation: Option<i64>,
}

/// One entry of `status.conditions`, as far as it is of interest here.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about; unique in its list.
    #[serde(rename = "type", default, deserialize_with = "or_empty")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    #[serde(default, deserialize_with = "or_empty")]
    pub status: String,
    /// One word, for programs.
    #[serde(default, deserialize_with = "or_empty")]
    pub reason: String,
    /// For people.
    #[serde(default, deserialize_with = "or_empty")]
    pub message: String,
    /// `metadata.generation` when it was found.
    pub observed_generation: Option<i64>,
    /// Since when `status` is what it is (RFC 3339).
    #[serde(default, deserialize_with = "or_empty")]
    pub last_transition_time: String,
}

/// `null` is what Go writes for an empty list or map.
fn or_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
