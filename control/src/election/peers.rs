//! Peers ask each other for promises when the API server is gone: one UDP packet each way, signed.
//!
//! ```text
//!   signature (64)  JSON: {"to", "from", "number", "promise"}
//! ```
//!
//! The key is made at start, and its public half stands in the heartbeat's Lease, beside the address: who may write that Lease
//! is who may speak for that balancer. Nothing but a number comes back, which only who asked knows, so that an old answer is
//! none. What is not from a peer that the Leases name, or is not signed by it, is dropped.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use tokio::net::UdpSocket;

/// Longest packet: two identities of 253 bytes and what is around them.
const LONGEST: usize = 1024;

const SIGNATURE: usize = 64;

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Word {
    /// To whom, by identity.
    pub(super) to: String,
    /// By whom, by identity.
    pub(super) from: String,
    /// Of the question.
    pub(super) number: u64,
    /// The answer; without it, it is the question.
    pub(super) promise: bool,
}

/// This process's end.
pub(super) struct Peers {
    socket: UdpSocket,
    key: Ed25519KeyPair,
    port: u16,
}

impl Peers {
    /// Within a runtime, listens on a port of every address of this host, or of this one; with a key of its own.
    pub(super) fn bind(address: Option<IpAddr>, port: u16) -> std::io::Result<Peers> {
        let mut seed = [0; 32];
        let chance = |_| std::io::Error::other("the system has no random numbers");
        SystemRandom::new().fill(&mut seed).map_err(chance)?;
        let key =
            Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|error| std::io::Error::other(error.to_string()))?;
        let address = address.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        let socket = std::net::UdpSocket::bind((address, port))?;
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket)?;
        let port = socket.local_addr()?.port();
        Ok(Peers { socket, key, port })
    }

    /// What others are told: where, and by which key.
    pub(super) fn told(&self, address: IpAddr) -> String {
        let key: String = self.key.public_key().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{} {key}", SocketAddr::new(address, self.port))
    }

    /// Says something. What is lost is asked again.
    pub(super) async fn say(&self, word: &Word, peer: &str) {
        let Some((address, _)) = parse(peer) else { return };
        let Ok(text) = serde_json::to_vec(word) else { return };
        let mut packet = self.key.sign(&text).as_ref().to_vec();
        packet.extend(text);
        if let Err(error) = self.socket.send_to(&packet, address).await {
            tracing::debug!(%error, %address, "a peer cannot be asked");
        }
    }

    /// Hears something, as it came: who said it is to be seen by [`verify`].
    pub(super) async fn hear(&self) -> Vec<u8> {
        let mut packet = vec![0; LONGEST];
        loop {
            match self.socket.recv_from(&mut packet).await {
                Ok((length, _)) => {
                    packet.truncate(length);
                    return packet;
                }
                // Told of packets that did not arrive (ICMP), or out of memory.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            }
        }
    }
}

/// The word in a packet, if `peer_of` (an identity's heartbeat) says that its sender signed it.
pub(super) fn verify(packet: &[u8], peer_of: impl FnOnce(&str) -> Option<String>) -> Option<Word> {
    let (signature, text) = packet.split_at_checked(SIGNATURE)?;
    let word: Word = serde_json::from_slice(text).ok()?;
    let (_, key) = parse(&peer_of(&word.from)?)?;
    UnparsedPublicKey::new(&ED25519, key).verify(text, signature).ok()?;
    Some(word)
}

fn parse(peer: &str) -> Option<(SocketAddr, Vec<u8>)> {
    let (address, key) = peer.split_once(' ')?;
    let digits = key.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    let key: Option<Vec<u8>> = digits.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect();
    Some((address.parse().ok()?, key.filter(|key| key.len() == 32)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_its_sender_signed_is_heard() {
        let here = IpAddr::from([127, 0, 0, 1]);
        let (a, b) = (Peers::bind(Some(here), 0).unwrap(), Peers::bind(Some(here), 0).unwrap());
        let word = Word { to: "b_1".into(), from: "a_1".into(), number: 7, promise: false };
        a.say(&word, &b.told(here)).await;
        let mut packet = b.hear().await;
        let of_a = a.told(here);
        assert_eq!(verify(&packet, |from| (from == "a_1").then(|| of_a.clone())), Some(word.clone()));
        assert_eq!(verify(&packet, |_| Some(b.told(here))), None, "another's key");
        assert_eq!(verify(&packet, |_| None), None, "nobody's");
        for length in [0, 10, SIGNATURE, packet.len() - 1] {
            assert_eq!(verify(&packet[..length], |_| Some(of_a.clone())), None);
        }
        let last = packet.len() - 3;
        packet[last] ^= 1;
        assert_eq!(verify(&packet, |_| Some(of_a.clone())), None, "changed on its way");
        for senseless in ["", "x", "192.0.2.1:1", "192.0.2.1:1 zz", "192.0.2.1:1 abcd"] {
            assert_eq!(parse(senseless), None, "{senseless}");
        }
    }
}
