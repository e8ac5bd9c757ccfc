//! Between whom a packet goes: as a tuple, for tables and decisions, and as it stands on the wire, for those who are in a hurry.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use bytemuck::{Pod, Zeroable};

use crate::address::Address;
use crate::checksum::{Deltas, Update};

/// An address and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Address.
    pub address: Address,
    /// Port.
    pub port: u16,
}

/// A packet's addresses, ports and protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    /// Where it comes from.
    pub source: Endpoint,
    /// Where it goes.
    pub destination: Endpoint,
    /// Protocol number.
    pub protocol: u8,
}

/// What a packet is compared with first, as it stands on the wire: the last four octets of its addresses, source before
/// destination, and its ports. Of an IPv4 packet without options it is what stands at 12 in its header, and the four octets
/// behind: no byte of it is turned round on its way through the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C, packed(4))]
pub struct Ends {
    /// Both addresses, the source in the first four octets.
    addresses: u64,
    /// Both ports.
    ports: u32,
}

impl Ends {
    /// Of a packet from `source` to `destination`.
    #[inline(always)]
    #[must_use]
    pub fn of(source: Endpoint, destination: Endpoint) -> Self {
        let tails = [source.address, destination.address].map(|address| address.tail().to_be_bytes());
        Ends {
            addresses: bytemuck::must_cast(tails),
            ports: bytemuck::must_cast([source.port, destination.port].map(u16::to_be_bytes)),
        }
    }

    /// As they stand in an IPv4 packet.
    #[inline(always)]
    #[must_use]
    pub fn read(bytes: &[u8; 12]) -> Self {
        bytemuck::must_cast(*bytes)
    }

    /// As they are to stand in one.
    #[inline(always)]
    #[must_use]
    pub fn bytes(self) -> [u8; 12] {
        bytemuck::must_cast(self)
    }

    /// The tuple of an IPv4 packet.
    #[must_use]
    pub fn tuple_v4(self, protocol: u8) -> Tuple {
        let [source, destination] = self.endpoints([Address::UNSPECIFIED_V4.head(); 2]);
        Tuple { source, destination, protocol }
    }

    /// The last four octets of the address that it goes to, and the port, as numbers.
    #[inline(always)]
    #[must_use]
    pub fn to(self) -> (u32, u16) {
        let [_, (address, port)] = self.numbers();
        (address, port)
    }

    /// The last four octets of each address, and its port, as numbers.
    #[inline(always)]
    fn numbers(self) -> [(u32, u16); 2] {
        let [a, b]: [[u8; 4]; 2] = bytemuck::must_cast(self.addresses);
        let [from, to]: [[u8; 2]; 2] = bytemuck::must_cast(self.ports);
        [(a, from), (b, to)].map(|(address, port)| (u32::from_be_bytes(address), u16::from_be_bytes(port)))
    }

    /// Of the answer to that packet.
    #[inline(always)]
    #[must_use]
    pub fn turned_round(self) -> Self {
        // Halves change places alike in either byte order.
        Ends { addresses: self.addresses.rotate_left(32), ports: self.ports.rotate_left(16) }
    }

    /// What translating a packet of these ends does to its checksums, of words in the machine's byte order.
    #[inline(always)]
    #[must_use]
    pub fn deltas_to(self, new: Ends) -> Deltas {
        let words = |ends: Ends| [ends.addresses as u32, (ends.addresses >> 32) as u32, ends.ports];
        let ([a, b, ports], [c, d, new_ports]) = (words(self), words(new));
        let addresses = Update::NONE.u32(a, c).u32(b, d);
        Deltas { network: addresses.folded(), transport: addresses.u32(ports, new_ports).folded() }
    }

    /// Both addresses, and the ports, in the machine's byte order: for hashing, and for sums, which do not care.
    #[inline(always)]
    #[must_use]
    pub fn halves(self) -> (u64, u32) {
        (self.addresses, self.ports)
    }

    /// With the first 96 bits of both addresses.
    #[must_use]
    pub fn endpoints(self, [source, destination]: [[u32; 3]; 2]) -> [Endpoint; 2] {
        let [(from, from_port), (to, to_port)] = self.numbers();
        [
            Endpoint { address: Address::joined(source, from), port: from_port },
            Endpoint { address: Address::joined(destination, to), port: to_port },
        ]
    }
}
