//! Frames of many flows.

use std::net::Ipv4Addr;

use etherparse::PacketBuilder;
use levee_api::net::Mac;

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

/// The client of flow `number`: 64 ports of each address out of 198.18.0.0/15 (RFC 2544's own), up to 8 million flows.
#[must_use]
pub fn client(number: u32) -> (Ipv4Addr, u16) {
    let address = Ipv4Addr::from_bits(0xc612_0000 + (number >> 6) % 0x2_0000);
    (address, 1024 + (number & 63) as u16 * 977)
}
