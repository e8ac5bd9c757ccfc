//! One kind of frame.
//!
//! Most of it is the same each time. What varies is the client's address and port, perhaps the server's address, and the stamp.
//! The checksums' sums over all the rest are taken here, once: in one's complement arithmetic the program has only to add what
//! varies and to fold (RFC 1071, sections 1 and 2: in whatever byte order, as long as it is the same throughout).

use std::net::IpAddr;

use etherparse::PacketBuilder;
use levee_api::net::{Mac, Protocol};

use crate::config::{Segment, Traffic};

/// What a stamp begins with. After it: the stamp's number (4 bytes, network order) and the time of sending (8 bytes, this
/// machine's order: nanoseconds of `CLOCK_MONOTONIC`).
pub const STAMP_MAGIC: [u8; 4] = *b"lvSt";

/// Bytes of a stamp.
pub(crate) const STAMP: usize = 16;

const ETHERNET: usize = 14;
/// Sequence number of every SYN.
const SEQUENCE: u32 = 0x0102_0304;
/// That of every answer to one: so segments that follow can be written without having seen it.
pub(crate) const SERVERS_SEQUENCE: u32 = 0x0506_0708;
/// The check sequence, which the wire has and memory has not.
pub(crate) const FCS: usize = 4;

/// One kind of frame: bytes, and where the program writes what varies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// As long as it is in memory, without check sequence. What varies is zero, and so are checksums.
    pub bytes: Vec<u8>,
    /// The client's address, or the last four bytes of it.
    pub client: usize,
    /// The same of the server's, if there is more than one.
    pub server: Option<usize>,
    /// The client's port.
    pub port: usize,
    /// IPv4's own checksum, with the sum of what is the same each time.
    pub header_checksum: Option<(usize, u64)>,
    /// TCP's or UDP's.
    pub checksum: (usize, u64),
    /// Whether a checksum of zero is to be sent as 0xffff (RFC 768).
    pub udp: bool,
    /// Where the stamp is.
    pub stamp: Option<usize>,
    /// Whether it begins a flow.
    pub begins: bool,
}

impl Template {
    /// A frame of these bytes on the wire, or as many more as it needs. Without a segment it begins a flow.
    #[must_use]
    pub fn new(macs: (Mac, Mac), traffic: &Traffic, on_wire: u16, segment: Option<Segment>, stamped: bool) -> Template {
        let tcp = traffic.protocol == Protocol::Tcp;
        let (internet, transport) = (if traffic.to.is_ipv4() { 20 } else { 40 }, if tcp { 20 } else { 8 });
        let payload_at = ETHERNET + internet + transport;
        let length = (usize::from(on_wire) - FCS).max(payload_at + if stamped { STAMP } else { 0 });
        let payload = vec![0; length - payload_at];
        let ethernet = PacketBuilder::ethernet2(macs.0.0, macs.1.0);
        let internet_header = match (traffic.from.network(), traffic.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), 64),
            (from, to) => ethernet.ipv6(octets(from), octets(to), 64),
        };
        let mut bytes = Vec::with_capacity(length);
        let written = if tcp {
            let next = if segment.is_some() { SEQUENCE.wrapping_add(1) } else { SEQUENCE };
            let builder = internet_header.tcp(0, traffic.to.port(), next, 65_000);
            let builder = match segment {
                None => builder.syn(),
                Some(segment) => {
                    let builder = builder.ack(SERVERS_SEQUENCE.wrapping_add(1));
                    match segment {
                        Segment::Acknowledgement => builder,
                        Segment::Request => builder.psh(),
                        Segment::Finish => builder.fin(),
                    }
                }
            };
            builder.write(&mut bytes, &payload)
        } else {
            internet_header.udp(0, traffic.to.port()).write(&mut bytes, &payload)
        };
        // A vector takes everything; lengths are below 1,600.
        debug_assert!(written.is_ok(), "{written:?}");
        let (client, server) =
            if internet == 20 { (ETHERNET + 12, ETHERNET + 16) } else { (ETHERNET + 20, ETHERNET + 36) };
        let port = ETHERNET + internet;
        let checksum = port + if tcp { 16 } else { 6 };
        clear(&mut bytes, client, 4);
        clear(&mut bytes, checksum, 2);
        let server = (traffic.servers > 1).then_some(server);
        if let Some(server) = server {
            clear(&mut bytes, server, 4);
        }
        let stamp = stamped.then_some(payload_at);
        if let Some(at) = stamp
            && let Some(magic) = bytes.get_mut(at..at + STAMP_MAGIC.len())
        {
            magic.copy_from_slice(&STAMP_MAGIC);
        }
        let header_checksum = (internet == 20).then(|| {
            clear(&mut bytes, ETHERNET + 10, 2);
            (ETHERNET + 10, sum(bytes.get(ETHERNET..ETHERNET + 20).unwrap_or_default()))
        });
        // The pseudo-header: addresses, protocol, length (RFC 9293, section 3.1; RFC 8200, section 8.1).
        let addresses = if internet == 20 { ETHERNET + 12..ETHERNET + 20 } else { ETHERNET + 8..ETHERNET + 40 };
        let covered = (length - port) as u16;
        let rest = [[0, traffic.protocol.number()], covered.to_be_bytes()].concat();
        let covered = [bytes.get(addresses).unwrap_or_default(), bytes.get(port..).unwrap_or_default(), &rest];
        let checksum = (checksum, covered.into_iter().map(sum).sum());
        Template { bytes, client, server, port, header_checksum, checksum, udp: !tcp, stamp, begins: segment.is_none() }
    }

    /// Bytes that the program writes each time: headers, and what the headers and stamps of other kinds may have left.
    #[must_use]
    pub fn written(&self) -> usize {
        /// TCP over IPv6, and a stamp.
        const MOST: usize = ETHERNET + 40 + 20 + STAMP;
        self.bytes.len().min(MOST.next_multiple_of(4))
    }
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn clear(bytes: &mut [u8], at: usize, length: usize) {
    if let Some(bytes) = bytes.get_mut(at..at + length) {
        bytes.fill(0);
    }
}

/// Sum of 16-bit words in this machine's order, an odd last byte with a zero behind it; not folded.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<2>();
    let last = rest.first().map_or(0, |byte| u64::from(u16::from_ne_bytes([*byte, 0])));
    words.iter().map(|word| u64::from(u16::from_ne_bytes(*word))).sum::<u64>() + last
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACS: (Mac, Mac) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));

    fn traffic(tcp: bool, six: bool) -> Traffic {
        let (from, to) =
            if six { ("2001:db8:1::/64", "[2001:db8:2::5]:80") } else { ("198.18.0.0/15", "10.96.0.1:80") };
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        if tcp { Traffic::tcp(from, to) } else { Traffic::udp(from, to) }
    }

    #[test]
    fn lengths_are_those_of_the_wire_or_what_headers_need() {
        let length = |tcp, six, on_wire, stamped| {
            Template::new(MACS, &traffic(tcp, six), on_wire, Some(Segment::Acknowledgement), stamped).bytes.len() + FCS
        };
        assert_eq!(length(true, false, 64, false), 64);
        assert_eq!(length(true, true, 64, false), 78);
        assert_eq!(length(true, false, 64, true), 74);
        assert_eq!(length(true, true, 64, true), 94);
        assert_eq!(length(false, false, 1518, true), 1518);
    }

    #[test]
    fn what_is_written_covers_all_headers_and_stamps() {
        for (tcp, six) in [(true, false), (true, true), (false, false), (false, true)] {
            let template = Template::new(MACS, &traffic(tcp, six), 1518, None, true);
            assert!(template.written() >= template.stamp.unwrap() + STAMP);
            assert!(template.written().is_multiple_of(4));
        }
    }
}
