//! `levee.dev/v1alpha1` AddressPool, as it is written.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use levee_api::net::Family;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::value::address;
use super::{Condition, Meta, or_empty};
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
    /// What the allocator wrote.
    #[serde(default, deserialize_with = "or_empty")]
    pub status: AddressPoolStatus,
    /// `spec` is not what the object has: that one cannot be read, for this reason, and here stands `status.inForce`.
    #[serde(skip)]
    pub fault: Option<String>,
}

/// `spec` of an AddressPool.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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
    /// Which Services with one `levee.dev/share-key` may share an address. Absent: those of one namespace.
    pub sharing: Option<Sharing>,
}

/// `spec.sharing` of an AddressPool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
pub enum Sharing {
    /// Services of one namespace.
    #[default]
    Namespace,
    /// Services of all namespaces: whoever knows the key may take the ports that are free.
    Cluster,
}

/// `status` of an AddressPool.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddressPoolStatus {
    /// The `spec` that was good last.
    pub in_force: Option<AddressPoolSpec>,
    /// `Accepted`.
    #[serde(default, deserialize_with = "or_empty")]
    pub conditions: Vec<Condition>,
    /// Its IPv4 addresses.
    pub ipv4: Option<Usage>,
    /// Its IPv6 addresses.
    pub ipv6: Option<Usage>,
}

/// How many addresses of one family a pool has. What is neither assigned nor free is withheld: the ends of prefixes, and
/// addresses of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
pub struct Usage {
    /// In its ranges; those of large IPv6 prefixes end the scale.
    pub total: u64,
    /// Given to Services; one that several share counts once.
    pub assigned: u64,
    /// Left.
    pub free: u64,
}

/// First and last address of an entry of a pool, of one family, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressRange {
    /// First address.
    pub first: IpAddr,
    /// Last address.
    pub last: IpAddr,
    /// It was written as a prefix, so its ends may have a meaning of their own on the wire.
    pub is_prefix: bool,
}

impl AddressRange {
    /// One address.
    #[must_use]
    pub const fn one(address: IpAddr) -> Self {
        AddressRange { first: address, last: address, is_prefix: false }
    }

    /// Whether an address lies in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        (self.first..=self.last).contains(&address)
    }

    /// Its ends that no Service should have: as a prefix on the wire, the network and broadcast addresses of IPv4 (RFC 1122,
    /// section 3.2.1.3; not of a /31, RFC 3021), and the subnet-router anycast address of IPv6 (RFC 4291, section 2.6.1; not
    /// of a /127, RFC 6164). Whoever wants them writes a range.
    pub fn ends(&self) -> impl Iterator<Item = (IpAddr, &'static str)> {
        let (network, broadcast) = match (self.is_prefix, self.first, self.last) {
            (true, IpAddr::V4(first), IpAddr::V4(last)) if last.to_bits() - first.to_bits() > 1 => {
                (Some("the network address of its prefix"), Some("the broadcast address of its prefix"))
            }
            (true, IpAddr::V6(first), IpAddr::V6(last)) if last.to_bits() - first.to_bits() > 1 => {
                (Some("the subnet-router anycast address of its prefix"), None)
            }
            _ => (None, None),
        };
        network.map(|what| (self.first, what)).into_iter().chain(broadcast.map(|what| (self.last, what)))
    }
}

impl AddressRange {
    /// As it is written in a pool.
    #[must_use]
    pub fn notation(&self) -> String {
        let bits = match (self.first, self.last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => (first.to_bits() ^ last.to_bits()).leading_zeros(),
            (IpAddr::V6(first), IpAddr::V6(last)) => (first.to_bits() ^ last.to_bits()).leading_zeros(),
            _ => 0,
        };
        if self.is_prefix { format!("{}/{bits}", self.first) } else { self.to_string() }
    }
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
                (true, true) => Ok(AddressRange { first, last, is_prefix: false }),
            };
        }
        if !text.contains('/') {
            return address(text.trim()).map(AddressRange::one);
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
        Ok(AddressRange { first: net.network(), last: net.broadcast(), is_prefix: true })
    }
}

impl<'de> Deserialize<'de> for AddressRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
