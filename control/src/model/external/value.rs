//! Values that several kinds have: addresses, prefixes, ports, protocols.

use std::net::IpAddr;
use std::num::NonZeroU16;

use ipnet::IpNet;
use levee_api::net::Protocol;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

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
pub(in crate::model) fn address(text: &str) -> Result<IpAddr, String> {
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

pub(super) fn prefix(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .map(|net| net.trunc())
        .map_err(|_| format!("`{text}` is not an IP prefix: expected one such as `10.96.0.0/12` or `2001:db8::/64`"))
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        prefix(&String::deserialize(deserializer)?).map(Prefix).map_err(D::Error::custom)
    }
}
