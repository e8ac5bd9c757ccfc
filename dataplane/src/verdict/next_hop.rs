//! A next hop in one word: the port that leads to it, and its MAC.

use bytemuck::{Pod, Zeroable};
use levee_api::net::Mac;

use super::PortId;

/// See the module's documentation. The six lowest octets are the MAC as it stands in a frame, the seventh is the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(transparent)]
pub struct NextHop(u64);

impl NextHop {
    /// Through a port, to a MAC.
    #[inline]
    #[must_use]
    pub const fn new(port: PortId, mac: Mac) -> Self {
        let [a, b, c, d, e, f] = mac.0;
        NextHop(u64::from_le_bytes([a, b, c, d, e, f, port.0, 0]))
    }

    /// The port.
    #[inline(always)]
    #[must_use]
    pub const fn port(self) -> PortId {
        PortId((self.0 >> 48) as u8)
    }

    /// The MAC.
    #[inline(always)]
    #[must_use]
    pub const fn mac(self) -> Mac {
        let [a, b, c, d, e, f, ..] = self.0.to_le_bytes();
        Mac([a, b, c, d, e, f])
    }

    /// The MAC as the first six octets of a word; the others are not.
    #[inline(always)]
    #[must_use]
    pub const fn word(self) -> u64 {
        self.0
    }
}

impl From<(PortId, Mac)> for NextHop {
    fn from((port, mac): (PortId, Mac)) -> Self {
        NextHop::new(port, mac)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_out_as_it_went_in() {
        for (port, mac) in [(PortId(3), Mac([2, 0, 94, 16, 0, 1])), (PortId::TUNNEL, Mac([0xfe; 6]))] {
            let hop = NextHop::from((port, mac));
            assert_eq!((hop.port(), hop.mac()), (port, mac));
        }
    }
}
