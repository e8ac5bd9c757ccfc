//! A verdict's values into the bytes of its frame. No tables: what is written stands in the verdict.
//!
//! | | |
//! |---|---|
//! | [`fn@forward`] | MACs, addresses, ports, TTL, and every checksum over them (RFC 1624), in place |
//! | [`fn@redirect`] | the same for a plain packet of a flow, from the port that an [`Origin`] is |
//! | [`fn@clamp`] | a smaller maximum segment size in a SYN |
//! | [`fn@identify`] | another identification for what may be fragmented, where addresses are shared |
//! | [`fn@error`] | the same in an ICMP error, and the other way round in the packet that it quotes |
//! | [`fn@reply`] | the frame becomes its own answer: ARP, echo, RST, unreachable |
//! | [`fn@complete`] | finishes the checksum of a frame whose sender left it to hardware |
//! | [`fn@wrap`], [`fn@unwrap`] | the frame's packet becomes the payload of another; and the other way round |
//! | [`announce`] | a gratuitous ARP or an unsolicited neighbour advertisement, from nothing |
//! | [`fn@contract`] | the last look before an uplink: does the frame show no MAC but the node's? |
//!
//! The offsets in [`Headers`](crate::headers::Headers) are used, not trusted: where they do not fit the bytes, the frame
//! is left as it is and the answer is [`Runt`](crate::reason::Reason::Runt), a bug that shows in a counter. Never: a
//! table, an allocation, a panic.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod advertisement;
pub mod announce;
mod clamp;
mod complete;
mod contract;
mod error;
mod forward;
mod identify;
mod origin;
mod own_header;
mod packet_buf;
mod redirect;
mod reply;
mod unwrap;
mod wrap;

pub use clamp::clamp;
pub use complete::complete;
pub use contract::{Groups, contract};
pub use error::error;
pub use forward::forward;
pub use identify::identify;
pub use origin::Origin;
pub use packet_buf::PacketBuf;
pub use redirect::{redirect, redirect_v6};
pub use reply::reply;
pub use unwrap::unwrap;
pub use wrap::wrap;

use levee_api::net::Mac;

use crate::checksum::Sum;
use crate::headers::Ip;
use crate::reason::Reason;
use crate::wire::ethernet::EthernetHeader;

/// Gives a frame other MACs.
///
/// # Errors
/// [`Runt`](Reason::Runt): it is shorter than an Ethernet header.
pub fn address(frame: &mut [u8], destination: Mac, source: Mac) -> Result<(), Reason> {
    let mut link = EthernetHeader::new_checked_mut(frame).ok_or(Reason::Runt)?;
    link.set_destination(destination.0);
    link.set_source(source.0);
    Ok(())
}

impl Ip {
    /// The sum of the pseudo header for a payload of `length` bytes, going either way: it is the same with the addresses
    /// swapped.
    #[inline]
    fn pseudo(&self, protocol: u8, length: u16) -> Sum {
        match (self.source.to_v4(), self.destination.to_v4()) {
            (Some(source), Some(destination)) => {
                Sum::pseudo_v4(source.to_bits(), destination.to_bits(), protocol, length)
            }
            _ => Sum::pseudo_v6(self.source.bits(), self.destination.bits(), protocol, u32::from(length)),
        }
    }
}
