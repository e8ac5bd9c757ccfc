//! The IP header of what levee says itself: answers, and the outside of tunnels. Plain: no options, never a fragment.

use crate::address::Address;
use crate::reason::Reason;
use crate::wire::ipv4::{self, Ipv4Header};
use crate::wire::ipv6::{self, Ipv6Header};

/// What both need to reach their ends (IANA, "IP Time To Live Parameter"; RFC 2003, 3.1).
const TTL: u8 = 64;

/// What such a header says.
pub(super) struct OwnHeader {
    /// Of the same family as the destination.
    pub(super) source: Address,
    pub(super) destination: Address,
    pub(super) protocol: u8,
    /// Type of service, or traffic class.
    pub(super) tos: u8,
    /// IPv4's identification, of which it takes 16 bits, or IPv6's flow label, of which it takes 20; 0 is none. A packet that is never
    /// fragmented needs no identification, and may have any (RFC 6864, 4.1).
    pub(super) mark: u32,
}

impl OwnHeader {
    /// Writes it to the beginning of `bytes`. `length` is the payload's.
    pub(super) fn write(&self, length: u16, bytes: &mut [u8]) -> Result<(), Reason> {
        match (self.source.to_v4(), self.destination.to_v4()) {
            (Some(source), Some(destination)) => {
                let mut header = Ipv4Header::new_checked_mut(bytes).ok_or(Reason::Runt)?;
                header.set_version_ihl(ipv4::VERSION_IHL);
                header.set_tos(self.tos);
                header.set_total_length(length.checked_add(ipv4::LEN as u16).ok_or(Reason::Giant)?);
                header.set_identification(self.mark as u16);
                header.set_flags_offset(ipv4::DONT_FRAGMENT);
                header.set_ttl(TTL);
                header.set_protocol(self.protocol);
                header.set_source(source.to_bits());
                header.set_destination(destination.to_bits());
                header.fill_checksum();
            }
            (None, None) => {
                let mut header = Ipv6Header::new_checked_mut(bytes).ok_or(Reason::Runt)?;
                let (class, flow) = (u32::from(self.tos) << 20, self.mark & ipv6::FLOW_LABEL);
                header.set_version_class_flow(ipv6::VERSION | class | flow);
                header.set_payload_length(length);
                header.set_next_header(self.protocol);
                header.set_hop_limit(TTL);
                header.set_source(self.source.bits());
                header.set_destination(self.destination.bits());
            }
            _ => return Err(Reason::Runt),
        }
        Ok(())
    }
}
