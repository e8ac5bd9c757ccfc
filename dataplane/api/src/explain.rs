//! One packet's fate, in words: the answer of `levee explain`, offline and from a running dataplane alike.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::net::{Protocol, Role};
use crate::program::Mode;
use crate::quic::connection_id;

/// The packet that is asked about: `tcp 192.0.2.7:40000 > 10.96.0.1:80`, `icmp 192.0.2.7 > 10.96.0.1` for a ping, or
/// `esp 192.0.2.7 > 10.96.0.1` for a protocol without ports, by name or number. One of QUIC may have a connection ID:
/// `udp 192.0.2.7:40000 > 10.96.0.1:443 cid 07c4605e4504cc4f`. Any may have a TTL, or hop limit: `tcp 192.0.2.7:40000 > 10.96.0.1:80 ttl 1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// What it carries. Where that has no ports, its addresses have port 0.
    pub carries: Carries,
    /// Where it comes from.
    pub source: SocketAddr,
    /// Where it goes.
    pub destination: SocketAddr,
    /// The destination connection ID that it has, of UDP.
    pub connection_id: Option<Vec<u8>>,
    /// Its TTL, or hop limit; 64 if nothing is said of it.
    pub ttl: u8,
}

/// What nearly all hosts send with (IANA, "IP Time To Live Parameter").
const TTL: u8 = 64;

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    /// An ICMP echo request.
    Ping,
    /// A protocol with ports.
    Ports(Protocol),
    /// Another protocol, by its number.
    Other(u8),
}

/// Protocols without ports that have a name here (IANA, "Assigned Internet Protocol Numbers").
const NAMED: [(&str, u8); 4] = [("ipip", 4), ("gre", 47), ("esp", 50), ("ah", 51)];

impl Carries {
    /// Its protocol number; a ping's depends on the family.
    #[must_use]
    pub const fn number(self, v4: bool) -> u8 {
        match self {
            Carries::Ping if v4 => 1,
            Carries::Ping => 58,
            Carries::Ports(protocol) => protocol.number(),
            Carries::Other(number) => number,
        }
    }
}

impl fmt::Display for Carries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Carries::Ping => f.write_str("icmp"),
            Carries::Ports(protocol) => protocol.fmt(f),
            Carries::Other(number) => match NAMED.iter().find(|(_, other)| other == number) {
                Some((name, _)) => f.write_str(name),
                None => number.fmt(f),
            },
        }
    }
}

impl FromStr for Carries {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let text = text.to_ascii_lowercase();
        let named = NAMED.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
        let number = named.or_else(|| text.parse().ok());
        Ok(match text.as_str() {
            "tcp" => Carries::Ports(Protocol::Tcp),
            "udp" => Carries::Ports(Protocol::Udp),
            "sctp" => Carries::Ports(Protocol::Sctp),
            "icmp" | "icmpv6" | "ping" => Carries::Ping,
            _ => match number.ok_or(())? {
                1 | 58 => Carries::Ping,
                number => Protocol::from_number(number).map_or(Carries::Other(number), Carries::Ports),
            },
        })
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.carries {
            Carries::Ports(protocol) => write!(f, "{protocol} {} > {}", self.source, self.destination)?,
            carries => write!(f, "{carries} {} > {}", self.source.ip(), self.destination.ip())?,
        }
        if let Some(octets) = &self.connection_id {
            octets.iter().try_fold(f.write_str(" cid ")?, |(), octet| write!(f, "{octet:02x}"))?;
        }
        if self.ttl == TTL { Ok(()) } else { write!(f, " ttl {}", self.ttl) }
    }
}

impl FromStr for Packet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |what: &str| {
            format!(
                "`{text}` is not a packet: {what}; expected `PROTOCOL SOURCE:PORT > DESTINATION:PORT`, such as \
                 `tcp 192.0.2.7:40000 > 10.96.0.1:80`, or `icmp SOURCE > DESTINATION`, and so for `esp`, `gre`, or a number; behind \
                 one of UDP may stand `cid` and a QUIC connection ID, and behind any `ttl` and a number"
            )
        };
        let (protocol, rest) = text.trim().split_once(char::is_whitespace).ok_or_else(|| bad("no protocol"))?;
        let (source, destination) = rest.split_once('>').ok_or_else(|| bad("no `>`"))?;
        let (source, destination) = (source.trim(), destination.trim());
        let (destination, ttl) = match destination.rsplit_once(" ttl ") {
            None => (destination, TTL),
            Some((rest, ttl)) => (rest.trim(), ttl.trim().parse().map_err(|_| bad("the TTL is no number to 255"))?),
        };
        let (destination, id) = match destination.split_once(char::is_whitespace) {
            Some((destination, id)) => (destination, Some(id.trim())),
            None => (destination, None),
        };
        let carries: Carries = protocol
            .parse()
            .map_err(|()| bad("the protocol is none of tcp, udp, sctp, icmp, esp, gre, nor a number to 255"))?;
        let parse = |end: &str| -> Result<SocketAddr, String> {
            if matches!(carries, Carries::Ports(_)) {
                end.parse().map_err(|_| bad(&format!("`{end}` is no ADDRESS:PORT")))
            } else {
                let address: IpAddr = end.parse().map_err(|_| bad(&format!("`{end}` is no address")))?;
                Ok(SocketAddr::new(address, 0))
            }
        };
        let connection_id = match id.map(|id| id.strip_prefix("cid").map(str::trim)) {
            None => None,
            Some(None) => return Err(bad("what follows the destination is no `cid` with a connection ID")),
            Some(Some(id)) if carries == Carries::Ports(Protocol::Udp) => {
                Some(connection_id(id).map_err(|what| bad(&what))?)
            }
            Some(Some(_)) => return Err(bad("only one of UDP has a QUIC connection ID")),
        };
        let packet = Packet { carries, source: parse(source)?, destination: parse(destination)?, connection_id, ttl };
        if packet.source.is_ipv4() != packet.destination.is_ipv4() {
            return Err(bad("source and destination are of different families"));
        }
        Ok(packet)
    }
}

/// A question to a running dataplane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// See [`Packet`].
    pub packet: String,
    /// The side that it comes in on. Absent, its source tells: the node's own address comes from the host, a pod of
    /// this node from pods, anything else from the uplink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Role>,
}

/// How a packet ends, as people say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// Rewritten and sent on.
    Forward,
    /// Answered by levee out of the port it came in on (a ping to a VIP).
    Hairpin,
    /// Left to the kernel.
    Pass,
    /// Dropped under the counter named in `reason`.
    Drop,
    /// Refused: TCP RST or ICMP port unreachable.
    Reject,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Explanation {
    /// The packet, normalised.
    pub packet: String,
    /// The side that it was taken to come in on.
    pub from: Role,
    /// How it ends.
    pub verdict: Fate,
    /// Why: a counter's name for a drop, one of a closed set of words otherwise.
    pub reason: String,
    /// `namespace/name:port` of the service, if one was hit.
    pub service: Option<String>,
    /// Sorted `ip:port` of the backends that a new flow may get.
    pub candidates: Vec<String>,
    /// The backend that this packet gets.
    pub backend: Option<String>,
    /// The far end of the tunnel that leads to it, if one does: `vxlan to 192.0.2.1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<String>,
    /// How the backend is reached.
    pub mode: Option<Mode>,
    /// Whether the backend sees the client's own address.
    pub client_address_kept: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_read_and_written_alike() {
        for text in [
            "tcp 192.0.2.7:40000 > 10.96.0.1:80",
            "udp [2001:db8::1]:53 > [2001:db8::2]:53",
            "icmp 192.0.2.7 > 10.96.0.1",
            "esp 192.0.2.7 > 10.96.0.1",
            "99 2001:db8::1 > 2001:db8::2",
            "udp 192.0.2.7:40000 > 10.96.0.1:443 cid 07c4605e4504cc4f",
            "udp 192.0.2.7:40000 > 10.96.0.1:443 cid 07c4605e4504cc4f ttl 1",
            "icmp 192.0.2.7 > 10.96.0.1 ttl 255",
        ] {
            assert_eq!(text.parse::<Packet>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_packet_says_what_is_expected() {
        for text in [
            "",
            "tcp",
            "tcp 1.2.3.4:5",
            "tcp 1.2.3.4 > 5.6.7.8:9",
            "gre 1.2.3.4:5 > 5.6.7.8:9",
            "256 1.2.3.4 > 5.6.7.8",
            "any 1.2.3.4 > 5.6.7.8",
            "tcp 1.2.3.4:5 > [::1]:9",
            "tcp 1.2.3.4:99999 > 5.6.7.8:9",
            "tcp 1.2.3.4:5 > 5.6.7.8:9 cid 07c4",
            "udp 1.2.3.4:5 > 5.6.7.8:9 cid",
            "udp 1.2.3.4:5 > 5.6.7.8:9 cid 07c",
            "udp 1.2.3.4:5 > 5.6.7.8:9 sid 07c4",
            "udp 1.2.3.4:5 > 5.6.7.8:9 ttl 256",
            "udp 1.2.3.4:5 > 5.6.7.8:9 ttl",
        ] {
            let message = text.parse::<Packet>().expect_err(text);
            assert!(message.contains("expected `PROTOCOL"), "{message}");
        }
    }
}
