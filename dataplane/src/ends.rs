//! Between whom a packet goes: as a tuple, for tables and decisions, and as it stands on the wire, for those who are in a hurry.

use bytemuck::{Pod, Zeroable};

use crate::address::Address;

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
#[repr(C)]
pub struct Ends {
    addresses: [[u8; 4]; 2],
    ports: [[u8; 2]; 2],
}

impl Ends {
    /// Of a packet from `source` to `destination`.
    #[inline(always)]
    #[must_use]
    pub fn of(source: Endpoint, destination: Endpoint) -> Self {
        Ends {
            addresses: [source.address, destination.address].map(|address| address.tail().to_be_bytes()),
            ports: [source.port, destination.port].map(u16::to_be_bytes),
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
        let Ends { addresses: [_, address], ports: [_, port] } = self;
        (u32::from_be_bytes(address), u16::from_be_bytes(port))
    }

    /// Of the answer to that packet.
    #[inline(always)]
    #[must_use]
    pub fn turned_round(self) -> Self {
        let Ends { addresses: [source, destination], ports: [from, to] } = self;
        Ends { addresses: [destination, source], ports: [to, from] }
    }

    /// Its words, in the machine's byte order: for hashing, and for sums, which do not care.
    #[inline(always)]
    #[must_use]
    pub fn words(self) -> [u32; 3] {
        bytemuck::must_cast::<Ends, [[u8; 4]; 3]>(self).map(u32::from_ne_bytes)
    }

    /// Both addresses, and the ports, in the machine's byte order.
    #[inline(always)]
    #[must_use]
    pub fn halves(self) -> (u64, u32) {
        let [a, b, c, d, e, f, g, h, rest @ ..] = self.bytes();
        (u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u32::from_ne_bytes(rest))
    }

    /// Both addresses' words.
    #[inline(always)]
    #[must_use]
    pub fn addresses(self) -> [u32; 2] {
        let [source, destination, _] = self.words();
        [source, destination]
    }

    /// With the first 96 bits of both addresses.
    #[must_use]
    pub fn endpoints(self, [source, destination]: [[u32; 3]; 2]) -> [Endpoint; 2] {
        let Ends { addresses: [a, b], ports: [from, to] } = self;
        let joined = |head, tail, port| Endpoint {
            address: Address::joined(head, u32::from_be_bytes(tail)),
            port: u16::from_be_bytes(port),
        };
        [joined(source, a, from), joined(destination, b, to)]
    }
}
