//! `discovery.k8s.io/v1` EndpointSlice, as it is written.

use serde::Deserialize;

use super::value::TransportProtocol;
use super::{Meta, or_empty};
use crate::model::Placed;

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
