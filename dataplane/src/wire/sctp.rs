//! SCTP (RFC 9260): the common header, and how its checksum follows a change of ports.

use super::header;

header! {
    /// An SCTP common header.
    SctpHeader, LEN = 12 {
        /// Source port.
        0 source set_source: u16,
        /// Destination port.
        2 destination set_destination: u16,
        /// Verification tag.
        4 tag set_tag: u32,
        /// CRC32c over the packet with this field zero, least significant byte first (RFC 9260, appendix A). It covers
        /// no address, so that a change of addresses leaves it alone.
        8 checksum set_checksum: u32,
    }
}

/// The protocol number of SCTP.
pub const PROTOCOL: u8 = 132;

/// The checksum of a packet of which the first four bytes, the ports, change from `old` to `new`; `length` is the packet's
/// length in bytes.
///
/// A CRC is linear: the new one differs from the old by the CRC, without initial value and complement, of the difference
/// followed by zeros. So a wrong checksum stays wrong, as with [`Update`](crate::checksum::Update). A zero bit
/// more is a multiplication by x, and so many of them one by a power of x, found by squaring: the packet itself is not read, and a
/// long one costs hardly more than a short one.
#[must_use]
pub fn update_ports(checksum: u32, old: u32, new: u32, length: usize) -> u32 {
    let mut crc = 0;
    for byte in (old ^ new).to_be_bytes() {
        crc = step(crc, byte);
    }
    crc = multiply(crc, zeros(length.saturating_sub(4)));
    // The field holds the least significant byte first.
    checksum ^ crc.swap_bytes()
}

/// The polynomial of CRC32c (Castagnoli), reflected: the highest bit is x⁰.
const POLYNOMIAL: u32 = 0x82f6_3b78;
const ONE: u32 = 1 << 31;

/// What a CRC is multiplied by for that many zero bytes behind what it was of: x⁸ to their power.
fn zeros(mut bytes: usize) -> u32 {
    let (mut product, mut power) = (ONE, ONE >> 8);
    while bytes > 0 {
        if bytes & 1 == 1 {
            product = multiply(product, power);
        }
        power = multiply(power, power);
        bytes >>= 1;
    }
    product
}

/// The product of two polynomials modulo [`POLYNOMIAL`].
const fn multiply(a: u32, mut b: u32) -> u32 {
    let (mut product, mut place) = (0, ONE);
    while place != 0 {
        product ^= b & ((a & place != 0) as u32).wrapping_neg();
        b = (b >> 1) ^ (POLYNOMIAL & (b & 1).wrapping_neg());
        place >>= 1;
    }
    product
}

/// One byte through CRC32c.
const fn step(crc: u32, byte: u8) -> u32 {
    let mut crc = crc ^ byte as u32;
    let mut bit = 0;
    while bit < 8 {
        crc = (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg());
        bit += 1;
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crc32c(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, byte| step(crc, *byte))
    }

    #[test]
    fn check_value_of_crc32c() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn ports_change_as_in_a_recomputation() {
        for length in [4, 5, 12, 13, 1400, 9000, 65_515] {
            let mut packet: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
            let old = crc32c(&packet).swap_bytes();
            let ports = 0x1234_5678_u32;
            packet.splice(..4, ports.to_be_bytes());
            assert_eq!(update_ports(old, 0x0001_0203, ports, length), crc32c(&packet).swap_bytes());
        }
    }
}
