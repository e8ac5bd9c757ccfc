//! QUIC connection IDs that say which server they are of (QUIC-LB, draft-ietf-quic-load-balancers-21).
//!
//! ```text
//!  | rotation (3 bits), length or random (5) | server ID | nonce |      the server's choice, in each packet that it is sent
//!                                            └── encrypted, if there is a key ──┘
//! ```
//!
//! A client that changes its address keeps its connection, and so must reach the server that has it. A [`Config`] is what
//! servers and balancers agree on; up to seven are told apart by the rotation bits, so that one can replace another while
//! connections of both live. The key is a secret: it is never written by `Debug`, and not by a dataplane that is asked for its
//! program.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The rotation bits 0b111 mean "not routable" (3.2).
pub const ROTATIONS: u8 = 7;
/// A server ID has at most as many octets (appendix A).
pub const MOST_ID: u8 = 15;
/// A nonce has at least as many octets (5.3).
pub const LEAST_NONCE: u8 = 4;
/// Server ID and nonce together: version 1 of QUIC has room for 20 octets, one of them the first (5.3).
pub const MOST: u8 = 19;

/// What stands in the place of a key that is not shown.
const HIDDEN: &str = "hidden";

/// How servers make connection IDs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The first three bits of each connection ID: 0 to 6.
    pub rotation: u8,
    /// Octets of a server ID: 1 to 15.
    pub server_id_length: u8,
    /// Octets of a nonce: 4 to 18, and with the server ID at most 19.
    pub nonce_length: u8,
    /// With it, server ID and nonce are encrypted: AES-128, in one pass if they are 16 octets, else in four (5.4). Without it, whoever
    /// sees a connection ID knows its server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub key: Option<Key>,
    /// Whether servers write the length of what follows into the other five bits of the first octet. Then a connection ID of which that
    /// is not true is no server's, which a balancer sees for all those that clients have chosen but one of 32 (4.1).
    #[serde(default)]
    pub encodes_length: bool,
    /// Which server has which ID. Empty: each has the last octets of its address; see [`Config::server_ids`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<Server>,
}

/// One server's ID.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// As many octets as the configuration says, in hexadecimal digits.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub id: ServerId,
    /// The backend's address.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub address: IpAddr,
}

impl Config {
    /// What is wrong with it, in words.
    ///
    /// # Errors
    /// The first thing that is.
    pub fn check(&self) -> Result<(), String> {
        let Config { rotation, server_id_length: id, nonce_length: nonce, servers, .. } = self;
        if *rotation >= ROTATIONS {
            return Err(format!("rotation {rotation}: expected 0 to 6; 7 is for connection IDs that cannot be routed"));
        }
        if !(1..=MOST_ID).contains(id) {
            return Err(format!("a server ID of {id} octets: expected 1 to {MOST_ID}"));
        }
        if *nonce < LEAST_NONCE {
            return Err(format!("a nonce of {nonce} octets: expected {LEAST_NONCE} or more"));
        }
        if u16::from(*id) + u16::from(*nonce) > u16::from(MOST) {
            return Err(format!("{id} octets of server ID and {nonce} of nonce: together they may be {MOST} at most"));
        }
        if self.key.as_ref().is_some_and(Key::is_hidden) {
            return Err("its key is hidden: expected 32 hexadecimal digits".into());
        }
        if let Some(server) = servers.iter().find(|server| server.id.octets().len() != usize::from(*id)) {
            return Err(format!("server ID {} has not {id} octets", server.id));
        }
        for (index, server) in servers.iter().enumerate() {
            // One server may have several IDs; one ID is one server's. (Of few: they are listed by hand.)
            let same = |other: &&Server| other.id == server.id;
            if let Some(other) = servers.iter().skip(index + 1).find(same) {
                return Err(format!("server ID {} is given to {} and to {}", server.id, server.address, other.address));
            }
        }
        Ok(())
    }

    /// Octets of server ID and nonce.
    #[must_use]
    pub fn length(&self) -> u8 {
        self.server_id_length.saturating_add(self.nonce_length)
    }

    /// The IDs of the server at an address: those that are listed; where none at all is, the last octets of the address, as they stand
    /// on the wire, behind zeroes if the address is shorter. So a pod knows its own from nothing but `status.podIP`.
    pub fn server_ids(&self, address: IpAddr) -> impl Iterator<Item = ServerId> {
        let derived = self.servers.is_empty().then(|| ServerId::of_address(address, self.server_id_length));
        let listed = self.servers.iter().filter(move |server| server.address == address);
        listed.map(|server| server.id.clone()).chain(derived)
    }

    /// The same without its key.
    #[must_use]
    pub fn without_key(&self) -> Config {
        Config { key: self.key.as_ref().map(|_| Key::HIDDEN), ..self.clone() }
    }
}

/// What a server is recognised by in its connection IDs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(Box<[u8]>);

impl ServerId {
    /// From its octets.
    #[must_use]
    pub fn new(octets: &[u8]) -> Self {
        ServerId(octets.into())
    }

    /// The last octets of an address, behind zeroes if it is shorter.
    #[must_use]
    pub fn of_address(address: IpAddr, length: u8) -> Self {
        let bits = match address {
            IpAddr::V4(v4) => u128::from(v4.to_bits()),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        let octets = bits.to_be_bytes();
        ServerId(octets.iter().skip(octets.len().saturating_sub(usize::from(length))).copied().collect())
    }

    /// Its octets.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl FromStr for ServerId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        octets(text)
            .filter(|octets| (1..=usize::from(MOST_ID)).contains(&octets.len()))
            .map(|octets| ServerId(octets.into()))
            .ok_or_else(|| {
                let shown: String = text.chars().take(40).collect();
                format!("`{shown}` is no server ID: expected 2 to 30 hexadecimal digits, two for each octet")
            })
    }
}

impl Serialize for ServerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ServerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A key of AES-128. It is written to whoever must have it, and shown to nobody.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(Option<[u8; 16]>);

impl Key {
    /// One that is not known here.
    pub const HIDDEN: Key = Key(None);

    /// From its octets.
    #[must_use]
    pub fn new(octets: [u8; 16]) -> Self {
        Key(Some(octets))
    }

    /// Its octets, unless it is hidden.
    #[must_use]
    pub fn octets(&self) -> Option<&[u8; 16]> {
        self.0.as_ref()
    }

    fn is_hidden(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl FromStr for Key {
    type Err = String;

    /// What was given is not repeated: it may be a key but for one digit.
    fn from_str(text: &str) -> Result<Self, String> {
        let octets = octets(text).and_then(|octets| <[u8; 16]>::try_from(octets).ok());
        octets.map(Key::new).ok_or_else(|| "not a key: expected 32 hexadecimal digits".into())
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(octets) => serializer.collect_str(&format_args!("{:032x}", u128::from_be_bytes(octets))),
            None => serializer.serialize_str(HIDDEN),
        }
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == HIDDEN { Ok(Key::HIDDEN) } else { text.parse().map_err(serde::de::Error::custom) }
    }
}

/// A connection ID that is asked about.
///
/// # Errors
/// What is expected.
pub fn connection_id(text: &str) -> Result<Vec<u8>, String> {
    octets(text).filter(|octets| (1..=20).contains(&octets.len())).ok_or_else(|| {
        let shown: String = text.chars().take(60).collect();
        format!("`{shown}` is no connection ID: expected 2 to 40 hexadecimal digits, two for each octet")
    })
}

/// Hexadecimal digits, two for each octet.
fn octets(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|digit| digit.to_digit(16).map(|value| value as u8)).collect();
    let (pairs, rest) = digits.as_deref()?.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "8f95f09245765f80256934e50c66207f";

    fn config() -> Config {
        Config {
            rotation: 0,
            server_id_length: 3,
            nonce_length: 4,
            key: Some(KEY.parse().expect("a key")),
            encodes_length: true,
            servers: Vec::new(),
        }
    }

    #[test]
    fn keys_are_written_to_who_must_have_them_and_shown_to_nobody() {
        let config = config();
        let written = serde_json::to_string(&config).expect("JSON");
        assert!(written.contains(KEY));
        assert_eq!(serde_json::from_str::<Config>(&written).expect("itself"), config);
        assert!(!format!("{config:?}").contains("8f95"), "{config:?}");
        let shown = serde_json::to_string(&config.without_key()).expect("JSON");
        assert!(shown.contains("\"hidden\"") && !shown.contains("8f95"), "{shown}");
        let taken: Config = serde_json::from_str(&shown).expect("of the right form");
        assert!(taken.check().expect_err("of no use").contains("32 hexadecimal digits"));
        let mistyped = "8f95f09245765f80256934e50c66207".parse::<Key>().expect_err("a digit is missing");
        assert!(!mistyped.contains("8f95"), "{mistyped}");
    }

    #[test]
    fn a_server_has_the_last_octets_of_its_address_unless_any_is_listed() {
        let mut config = config();
        let ids = |config: &Config, address: &str| {
            let ids = config.server_ids(address.parse().expect("an address"));
            ids.map(|id| id.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(ids(&config, "10.244.1.7"), ["f40107"]);
        assert_eq!(ids(&config, "2001:db8::1:2:3"), ["020003"]);
        config.server_id_length = 6;
        assert_eq!(ids(&config, "10.244.1.7"), ["00000af40107"]);
        let address = "10.244.1.7".parse().expect("an address");
        config.servers = ["c4605e", "c4605f"].map(|id| Server { id: id.parse().expect("an ID"), address }).into();
        assert_eq!(ids(&config, "10.244.1.7"), ["c4605e", "c4605f"]);
        assert_eq!(ids(&config, "10.244.1.8"), [""; 0], "who is not listed has none");
    }

    #[test]
    fn what_cannot_be_is_told() {
        let good = config();
        assert_eq!(good.check(), Ok(()));
        let server = |id: &str, last| Server { id: id.parse().expect("an ID"), address: [10, 0, 0, last].into() };
        for (config, expected) in [
            (Config { rotation: 7, ..good.clone() }, "expected 0 to 6"),
            (Config { server_id_length: 0, ..good.clone() }, "expected 1 to 15"),
            (Config { server_id_length: 16, ..good.clone() }, "expected 1 to 15"),
            (Config { nonce_length: 3, ..good.clone() }, "expected 4 or more"),
            (Config { server_id_length: 15, nonce_length: 5, ..good.clone() }, "19 at most"),
            (Config { nonce_length: 255, ..good.clone() }, "19 at most"),
            (Config { servers: vec![server("c460", 1)], ..good.clone() }, "has not 3 octets"),
            (
                Config { servers: vec![server("c4605e", 1), server("c4605e", 2)], ..good.clone() },
                "given to 10.0.0.1 and to 10.0.0.2",
            ),
        ] {
            let told = config.check().expect_err(expected);
            assert!(told.contains(expected), "{told}");
        }
        for text in ["", "c", "c46", "xy", "c4 60", &"00".repeat(16)] {
            assert!(text.parse::<ServerId>().is_err(), "{text}");
        }
    }
}
