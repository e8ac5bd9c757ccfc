//! Tunnels as workers see them.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use levee_api::net::{Family, Mac, Role};
use levee_api::program;
use levee_api::tunnel::Encapsulation;

use super::Port;
use super::lpm::Lpm;
use crate::address::Address;

/// Source of frames that are made of what was unwrapped, and destination: the tunnel port's MAC. On no wire.
pub const INSIDE: Mac = Mac([0x02, 0, 0, 0, 0, 0x04]);

/// One end of one kind of tunnel.
#[derive(Clone)]
pub struct Tunnel {
    /// What is put in front of packets.
    pub kind: Encapsulation,
    /// UDP port; 0 for kinds without.
    pub port: u16,
    /// Virtual network identifier; 0 for kinds without.
    pub network: u32,
    /// The longest outer packet in bytes, if it is not the port's MTU that says so.
    pub mtu: Option<u16>,
    v4: Option<Address>,
    v6: Option<Address>,
    peers: Lpm<()>,
}

/// The far end of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remote {
    /// Where wrapped packets are sent.
    pub address: Address,
    /// The inner frame's destination, for kinds that have one.
    pub mac: Mac,
}

impl Tunnel {
    /// From what the program says; `own` are this host's addresses, of which the first of a family stands in for one that is not given.
    #[must_use]
    pub fn new(tunnel: &levee_api::tunnel::Tunnel, own: &[Address]) -> Self {
        let end = |v4: bool| {
            let given = tunnel.addresses.iter().map(|address| Address::from(*address));
            given.chain(own.iter().copied()).find(|address| address.is_v4() == v4)
        };
        Tunnel {
            kind: tunnel.kind,
            port: tunnel.udp_port(),
            network: tunnel.network(),
            mtu: tunnel.mtu,
            v4: end(true),
            v6: end(false),
            peers: tunnel.peers.iter().map(|net| (*net, ())).collect(),
        }
    }

    /// The port that unwrapped packets come in on.
    #[must_use]
    pub fn inside() -> Port {
        Port { name: "tunnel".into(), role: Role::Tunnel, mac: INSIDE, passes: false, mtu: u16::MAX }
    }

    /// This end's address of a family.
    #[inline]
    #[must_use]
    pub fn end(&self, v4: bool) -> Option<Address> {
        if v4 { self.v4 } else { self.v6 }
    }

    /// Both of them, as far as they are there.
    pub fn ends(&self) -> impl Iterator<Item = Address> {
        self.v4.into_iter().chain(self.v6)
    }

    /// Whether packets of this sender are unwrapped.
    #[inline]
    #[must_use]
    pub fn admits(&self, peer: Address) -> bool {
        self.peers.contains(peer)
    }

    /// The length in bytes of the outer headers of a family.
    #[inline]
    #[must_use]
    pub fn overhead(&self, v4: bool) -> u16 {
        self.kind.overhead(if v4 { Family::Ipv4 } else { Family::Ipv6 })
    }

    /// The longest packet in bytes that fits behind the outer headers of a family on the way out of a port.
    #[inline]
    #[must_use]
    pub fn room(&self, out: &Port, v4: bool) -> u16 {
        let mtu = self.mtu.map_or(out.mtu, |mtu| mtu.min(out.mtu));
        mtu.saturating_sub(self.overhead(v4))
    }
}

impl From<program::Via> for Remote {
    fn from(via: program::Via) -> Self {
        Remote { address: via.address.into(), mac: via.mac.unwrap_or(INSIDE) }
    }
}
