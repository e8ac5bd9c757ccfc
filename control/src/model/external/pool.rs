//! `levee.dev/v1alpha1` AddressPool, as it is written.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use levee_api::net::Family;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::value::address;
use super::{Meta, or_empty};
use crate::model::Placed;

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
