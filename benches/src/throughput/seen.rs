//! One frame as the sink sees it, read by a parser that is not levee's.

use std::net::Ipv4Addr;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use levee_api::net::Mac;

/// A TCP segment over IPv4 whose checksums are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Source and destination.
    pub macs: (Mac, Mac),
    /// Source address and port.
    pub from: (Ipv4Addr, u16),
    /// Destination address and port.
    pub to: (Ipv4Addr, u16),
}

impl Seen {
    /// Reads it; `None` if it is something else, as forwarders have to say to their neighbours: the generator sent none of those.
    ///
    /// # Errors
    /// What is wrong with it: cut off, or which checksum.
    pub fn read(frame: &[u8]) -> Result<Option<Seen>, String> {
        let packet = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
        let ethernet = packet.link.as_ref().and_then(|link| link.to_header()).and_then(|link| link.ethernet2());
        let (Some(ethernet), Some(NetSlice::Ipv4(internet)), Some(TransportSlice::Tcp(tcp))) =
            (ethernet, &packet.net, &packet.transport)
        else {
            return Ok(None);
        };
        let header = internet.header();
        if header.header_checksum() != header.to_header().calc_header_checksum() {
            return Err("the header's checksum is wrong".into());
        }
        let expected =
            tcp.calc_checksum_ipv4(header.source(), header.destination()).map_err(|error| error.to_string())?;
        if tcp.checksum() != expected {
            return Err(format!("TCP's checksum is {:#06x}, not {expected:#06x}", tcp.checksum()));
        }
        Ok(Some(Seen {
            macs: (Mac(ethernet.source), Mac(ethernet.destination)),
            from: (header.source_addr(), tcp.source_port()),
            to: (header.destination_addr(), tcp.destination_port()),
        }))
    }

    /// Whether it is from one MAC to another.
    ///
    /// # Errors
    /// If not, from and to which.
    pub fn has_macs(&self, from: Mac, to: Mac) -> Result<(), String> {
        if self.macs == (from, to) {
            return Ok(());
        }
        Err(format!("it is from {} to {}, not from {from} to {to}", self.macs.0, self.macs.1))
    }

    /// Whether it is for an address.
    ///
    /// # Errors
    /// If not, for which.
    pub fn goes_to(&self, address: Ipv4Addr) -> Result<(), String> {
        if self.to.0 == address { Ok(()) } else { Err(format!("it is for {}, not for {address}", self.to.0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::tcp;

    const MACS: (Mac, Mac) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
    const FROM: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 1024);
    const TO: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 2), 80);

    #[test]
    fn a_right_segment_is_read() {
        let seen = Seen::read(&tcp(MACS, FROM, TO, false)).unwrap().unwrap();
        assert_eq!(seen, Seen { macs: MACS, from: FROM, to: TO });
        assert!(seen.has_macs(MACS.0, MACS.1).is_ok() && seen.goes_to(TO.0).is_ok());
        assert!(seen.has_macs(MACS.1, MACS.0).unwrap_err().contains(&MACS.0.to_string()));
        assert!(seen.goes_to(FROM.0).unwrap_err().contains("192.0.2.1"));
    }

    #[test]
    fn a_changed_byte_is_seen() {
        let right = tcp(MACS, FROM, TO, false);
        // From the IP header to the end of the TCP header: addresses, ports, flags, checksums themselves.
        for at in [22, 26, 33, 34, 36, 47, 50, 51] {
            let mut wrong = right.clone();
            wrong[at] ^= 0x10;
            assert!(Seen::read(&wrong).is_err(), "byte {at}");
        }
        assert!(Seen::read(&right[..40]).is_err());
        assert!(Seen::read(&[]).is_err());
    }

    #[test]
    fn what_neighbours_say_to_each_other_is_no_segment() {
        let mut arp = tcp(MACS, FROM, TO, false);
        arp[12..14].copy_from_slice(&[0x08, 0x06]);
        arp[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
        assert_eq!(Seen::read(&arp), Ok(None));
    }
}
