//! Frames of many flows.

use std::net::Ipv4Addr;

use etherparse::PacketBuilder;
use levee_api::net::Mac;
use levee_dataplane::wire::checksum::Update;
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

/// One segment that is made another client's as often as wanted: ten million frames would not fit into memory, let alone into
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

    /// The segment of this flow's [`client`].
    ///
    /// # Panics
    /// If the frame is no TCP over IPv4.
    pub fn of(&mut self, flow: u32) -> &[u8] {
        let (address, port) = client(flow);
        let (_, packet) = self.frame.split_at_mut(14);
        let (ip, payload) = packet.split_at_mut(20);
        let mut ip = Ipv4Header::new_checked_mut(ip).expect("IPv4");
        let mut tcp = TcpHeader::new_checked_mut(payload).expect("TCP");
        let update = Update::NONE.u32(ip.source(), address.to_bits());
        ip.set_checksum(update.apply(ip.checksum()));
        tcp.set_checksum(update.u16(tcp.source(), port).apply(tcp.checksum()));
        ip.set_source(address.to_bits());
        tcp.set_source(port);
        &self.frame
    }
}
