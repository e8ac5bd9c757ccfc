//! Frames of many flows.

use std::net::Ipv4Addr;

use etherparse::PacketBuilder;
use levee_api::net::Mac;
use levee_dataplane::checksum::Update;
use levee_dataplane::wire::ipv4::Ipv4Header;
use levee_dataplane::wire::tcp::TcpHeader;

/// A TCP segment of 60 bytes with its Ethernet header, padding included: 64 on a wire, with the check sequence.
#[must_use]
pub fn tcp(macs: (Mac, Mac), from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), syn: bool) -> Vec<u8> {
    let (source, destination) = macs;
    let builder = PacketBuilder::ethernet2(source.0, destination.0).ipv4(from.0.octets(), to.0.octets(), 64).tcp(
        from.1,
        to.1,
        0x0102_0304,
        65000,
    );
    let builder = if syn { builder.syn() } else { builder.ack(77) };
    let mut frame = Vec::with_capacity(60);
    builder.write(&mut frame, &[]).expect("a vector takes everything");
    frame.resize(60, 0);
    frame
}

/// The client of flow `number`: 128 ports of each address out of 198.18.0.0/15 (RFC 2544's own), up to 16 million flows.
#[must_use]
pub fn client(number: u32) -> (Ipv4Addr, u16) {
    let address = Ipv4Addr::from_bits(0xc612_0000 + (number >> 7) % 0x2_0000);
    (address, 1024 + (number & 127) as u16 * 503)
}

/// Numbers below `count`, each as likely as any other, the same ones each time: an order in which no cache and no prefetcher of a
/// processor's finds one that it could learn.
pub fn at_random(count: u32) -> impl Iterator<Item = u32> {
    // Steele and others, "Fast splittable pseudorandom number generators", 2014.
    let mut state = 0_u64;
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((mixed >> 32) * u64::from(count)) >> 32) as u32
    })
}

/// One segment that is made another flow's as often as wanted: ten million frames would not fit into memory, let alone into
/// a cache.
pub struct Segment {
    frame: Vec<u8>,
}

impl Segment {
    /// From a frame that [`tcp`] made.
    #[must_use]
    pub fn new(frame: Vec<u8>) -> Self {
        Segment { frame }
    }

    /// The segment of this flow's [`client`], to where it was sent before.
    ///
    /// # Panics
    /// If the frame is no TCP over IPv4.
    pub fn of(&mut self, flow: u32) -> &[u8] {
        let (ip, tcp) = self.headers();
        let to = (Ipv4Addr::from_bits(ip.destination()), tcp.destination());
        self.between(client(flow), to)
    }

    /// The segment from one end to another.
    ///
    /// # Panics
    /// If the frame is no TCP over IPv4.
    pub fn between(&mut self, from: (Ipv4Addr, u16), to: (Ipv4Addr, u16)) -> &[u8] {
        let (mut ip, mut tcp) = self.headers();
        let update = Update::NONE.u32(ip.source(), from.0.to_bits()).u32(ip.destination(), to.0.to_bits());
        ip.set_checksum(update.apply(ip.checksum()));
        let update = update.u16(tcp.source(), from.1).u16(tcp.destination(), to.1);
        tcp.set_checksum(update.apply(tcp.checksum()));
        ip.set_source(from.0.to_bits());
        ip.set_destination(to.0.to_bits());
        tcp.set_source(from.1);
        tcp.set_destination(to.1);
        &self.frame
    }

    fn headers(&mut self) -> (Ipv4Header<&mut [u8; 20]>, TcpHeader<&mut [u8; 20]>) {
        let (_, packet) = self.frame.split_at_mut(14);
        let (ip, payload) = packet.split_at_mut(20);
        (Ipv4Header::new_checked_mut(ip).expect("IPv4"), TcpHeader::new_checked_mut(payload).expect("TCP"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_made_anothers_is_what_that_one_would_send() {
        let macs = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        let to = (Ipv4Addr::new(10, 96, 0, 1), 80);
        let mut segment = Segment::new(tcp(macs, client(0), to, false));
        for flow in at_random(16_000_000).take(100) {
            assert_eq!(segment.of(flow), tcp(macs, client(flow), to, false));
            let back = (to.0, 1024 + (flow % 60_000) as u16);
            assert_eq!(segment.between(client(flow), back), tcp(macs, client(flow), back, false));
            segment.between(client(flow), to);
        }
    }

    #[test]
    fn at_random_all_are_reached() {
        let reached: std::collections::BTreeSet<u32> = at_random(1000).take(20_000).collect();
        assert_eq!((reached.len(), reached.last()), (1000, Some(&999)));
    }
}
