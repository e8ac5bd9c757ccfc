//! Where frames come from when they leave a port: its MAC, ready to be written, and to be looked for again.
//!
//! [`contract`](super::contract()) is the last look at any frame. That a plain IPv4 frame keeps it shows in twelve of its octets, and of
//! those the same eight are right for all that leave one port: two loads and three comparisons instead of a walk.

use levee_api::net::{Mac, Role};

use crate::headers::Glance;
use crate::reason::Reason;
use crate::rewrite::{Groups, address, contract};
use crate::verdict::NextHop;
use crate::wire::ethernet::ethertype;
use crate::wire::plain::{Octets, PlainHeader, mac_word};

/// A port's MAC, in the words in which it stands in frames.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    mac: Mac,
    /// Source and EtherType of IPv4.
    plain: u64,
    /// Whether the port is an uplink, where the contract holds.
    guarded: bool,
}

impl Origin {
    /// That of a port with this MAC and role.
    #[must_use]
    pub fn new(mac: Mac, role: Role) -> Self {
        let plain = mac_word(mac.0) | u64::from(ethertype::IPV4.swap_bytes()) << 48;
        Origin { mac, plain, guarded: role == Role::Uplink }
    }

    /// The MAC.
    #[must_use]
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// Gives a frame the MACs of its way to a next hop.
    #[inline(always)]
    pub fn address(&self, head: &mut PlainHeader<&mut [u8; Glance::REACH]>, hop: NextHop) {
        // Two octets beyond the MAC, which are then the source's.
        head.set_link(Octets(hop.word()));
        head.set_origin(Octets(self.plain));
    }

    /// The same of any frame.
    ///
    /// # Errors
    /// [`Runt`](Reason::Runt): it is shorter than an Ethernet header.
    #[inline(always)]
    pub fn readdress(&self, frame: &mut [u8], hop: NextHop) -> Result<(), Reason> {
        match PlainHeader::new_checked_mut(frame) {
            Some(mut head) => self.address(&mut head, hop),
            None => address(frame, hop.mac(), self.mac)?,
        }
        Ok(())
    }

    /// The last look at a frame that is on its way to one station.
    ///
    /// # Errors
    /// What [`contract`](super::contract()) says.
    #[inline(always)]
    pub fn look_again(&self, frame: &[u8]) -> Result<(), Reason> {
        if let Some(head) = PlainHeader::new_checked(frame) {
            // No more of the destination than was written in one piece: the processor would wait until two were in the cache.
            let (Octets(origin), Octets(station)) = (head.origin(), head.station());
            // An even number that is not 0: turned by a bit, the group's bit is the sign.
            if origin == self.plain && station.rotate_right(1).cast_signed() > 0 {
                return Ok(());
            }
        }
        if self.guarded { contract(frame, self.mac, Groups::Refused) } else { Ok(()) }
    }
}
