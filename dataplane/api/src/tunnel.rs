//! Tunnels: how packets are carried to the node of their backend, as they are.
//!
//! ```text
//!  balancer │ Ethernet │ outer IP │ UDP │ VXLAN │ Ethernet │ client ► VIP … │ node
//!                        balancer ► node                     left alone
//! ```
//!
//! A [`Tunnel`] is one end's account of one encapsulation. Both ends must agree on its kind, port and network; each names the
//! others whose packets it unwraps.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};

use crate::net::Family;

/// What is put in front of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Encapsulation {
    /// RFC 7348: UDP and an Ethernet header. What flannel and the kernel's `vxlan` devices speak.
    #[default]
    Vxlan,
    /// RFC 8926: UDP and an Ethernet header.
    Geneve,
    /// draft-ietf-intarea-gue: UDP, and the packet at once.
    Gue,
    /// RFC 2003, RFC 2473, RFC 4213: the packet behind another IP header. Nothing in it spreads flows over paths and queues but
    /// the outer flow label of IPv6.
    Ipip,
}

impl Encapsulation {
    /// All kinds.
    pub const ALL: [Encapsulation; 4] =
        [Encapsulation::Vxlan, Encapsulation::Geneve, Encapsulation::Gue, Encapsulation::Ipip];

    /// The UDP port that IANA gave it; `None` if it does not use UDP.
    #[must_use]
    pub const fn default_port(self) -> Option<u16> {
        match self {
            Encapsulation::Vxlan => Some(4789),
            Encapsulation::Geneve => Some(6081),
            Encapsulation::Gue => Some(6080),
            Encapsulation::Ipip => None,
        }
    }

    /// Whether it has a network identifier.
    #[must_use]
    pub const fn has_network(self) -> bool {
        matches!(self, Encapsulation::Vxlan | Encapsulation::Geneve)
    }

    /// Bytes that it puts in front of an IP packet: from the outer IP header, of this family, on.
    #[must_use]
    pub const fn overhead(self, outer: Family) -> u16 {
        let ip = match outer {
            Family::Ipv4 => 20,
            Family::Ipv6 => 40,
        };
        // UDP and header, and an Ethernet header in two of them.
        ip + match self {
            Encapsulation::Vxlan | Encapsulation::Geneve => 8 + 8 + 14,
            Encapsulation::Gue => 8 + 4,
            Encapsulation::Ipip => 0,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Encapsulation::Vxlan => "vxlan",
            Encapsulation::Geneve => "geneve",
            Encapsulation::Gue => "gue",
            Encapsulation::Ipip => "ipip",
        }
    }
}

impl fmt::Display for Encapsulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Encapsulation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Encapsulation::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            format!("`{shown}` is no encapsulation: expected `vxlan`, `geneve`, `gue` or `ipip`")
        })
    }
}

/// The network identifier where none is given: flannel's, too.
const DEFAULT_VNI: u32 = 1;
/// Network identifiers have 24 bits.
const MAX_VNI: u32 = (1 << 24) - 1;
/// No link has a smaller one (RFC 791, 3.1; RFC 8200, 5), and an inner IPv6 packet of 1,280 bytes must fit behind the outer
/// headers.
const MIN_MTU: u16 = 1280 + 70;

/// One end of one kind of tunnel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Tunnel {
    /// What is put in front of packets.
    pub kind: Encapsulation,
    /// UDP port that packets are sent to and taken from; default: the kind's own. None with `ipip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Network identifier of `vxlan` and `geneve`, 0 to 16,777,215; default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<u32>,
    /// This end's addresses, at most one of a family: where packets come from that it wraps, and where packets go to that it
    /// unwraps. A family without one: the first uplink's own first address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub addresses: Vec<IpAddr>,
    /// Who may send packets to be unwrapped, addresses or prefixes; empty: nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "peers")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub peers: Vec<IpNet>,
    /// The longest outer packet in bytes; default: the MTU of the port that it leaves by. Less, where the way between the ends
    /// carries less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
}

fn peers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let peer = |text: &String| {
        let address = || text.parse::<IpAddr>().map(IpNet::from);
        text.parse::<IpNet>().or_else(|_| address()).map_err(|_| {
            let shown: String = text.chars().take(60).collect();
            serde::de::Error::custom(format!("`{shown}` is neither an address nor a prefix, such as `192.0.2.0/28`"))
        })
    };
    Vec::<String>::deserialize(deserializer)?.iter().map(peer).collect()
}

impl Tunnel {
    /// The UDP port in use; 0 if the kind has none.
    #[must_use]
    pub fn udp_port(&self) -> u16 {
        self.kind.default_port().map_or(0, |default| self.port.unwrap_or(default))
    }

    /// The network identifier in use; 0 if the kind has none.
    #[must_use]
    pub fn network(&self) -> u32 {
        if self.kind.has_network() { self.vni.unwrap_or(DEFAULT_VNI) } else { 0 }
    }

    /// What is wrong with it, in words.
    ///
    /// # Errors
    /// One line: what, and what was expected.
    pub fn check(&self) -> Result<(), String> {
        let kind = self.kind;
        match (self.port, kind.default_port()) {
            (Some(port), None) => {
                return Err(format!("tunnel `{kind}` has port {port}, but uses no UDP: leave it out"));
            }
            (Some(0), Some(default)) => {
                return Err(format!("tunnel `{kind}` has port 0: expected 1 to 65535; default {default}"));
            }
            _ => {}
        }
        match self.vni {
            Some(vni) if !kind.has_network() => {
                return Err(format!("tunnel `{kind}` has `vni` {vni}, but no network identifier: leave it out"));
            }
            Some(vni) if vni > MAX_VNI => {
                return Err(format!("tunnel `{kind}` has `vni` {vni}: expected 0 to {MAX_VNI}"));
            }
            _ => {}
        }
        if let Some(mtu) = self.mtu.filter(|mtu| *mtu < MIN_MTU) {
            return Err(format!("tunnel `{kind}` has `mtu` {mtu}: expected {MIN_MTU} or more, so that IPv6 passes"));
        }
        for (index, address) in self.addresses.iter().enumerate() {
            if address.is_unspecified() || address.is_loopback() || address.is_multicast() {
                return Err(format!("tunnel `{kind}` cannot end at {address}: expected an address of this host"));
            }
            if self.addresses.iter().skip(index + 1).any(|other| other.is_ipv4() == address.is_ipv4()) {
                let family = Family::of(*address);
                return Err(format!("tunnel `{kind}` has two addresses of {family}: one end has one of each family"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_end_can_be_is_refused_with_what_was_expected() {
        let tunnel = |change: fn(&mut Tunnel)| {
            let mut tunnel = Tunnel::default();
            change(&mut tunnel);
            tunnel.check()
        };
        assert_eq!(tunnel(|_| {}), Ok(()));
        assert_eq!(tunnel(|tunnel| tunnel.vni = Some(MAX_VNI)), Ok(()));
        type Refused = (fn(&mut Tunnel), &'static str);
        let refused: [Refused; 7] = [
            (|tunnel| tunnel.port = Some(0), "default 4789"),
            (|tunnel| tunnel.vni = Some(MAX_VNI + 1), "expected 0 to 16777215"),
            (|tunnel| *tunnel = Tunnel { kind: Encapsulation::Gue, vni: Some(1), ..Tunnel::default() }, "leave it out"),
            (|tunnel| *tunnel = Tunnel { kind: Encapsulation::Ipip, port: Some(4), ..Tunnel::default() }, "no UDP"),
            (|tunnel| tunnel.mtu = Some(1349), "expected 1350 or more"),
            (|tunnel| tunnel.addresses = vec![[127, 0, 0, 1].into()], "an address of this host"),
            (|tunnel| tunnel.addresses = vec![[192, 0, 2, 1].into(), [192, 0, 2, 2].into()], "one of each family"),
        ];
        for (change, expected) in refused {
            let message = tunnel(change).expect_err(expected);
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn kinds_are_written_as_they_are_read() {
        for kind in Encapsulation::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert!("vxlan6".parse::<Encapsulation>().unwrap_err().contains("`geneve`"));
        assert_eq!(Encapsulation::Vxlan.overhead(Family::Ipv4), 50, "as everybody knows");
        assert_eq!(Encapsulation::Ipip.overhead(Family::Ipv6), 40);
    }
}
