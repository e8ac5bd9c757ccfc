//! The checksum of SCTP (RFC 9260, appendix A): CRC32c, a bit at a time, as the definition has it.

/// Where it stands in a packet.
const AT: std::ops::Range<usize> = 8..12;

/// The checksum that a packet should have; `None` if it is too short for one.
#[must_use]
pub fn checksum(packet: &[u8]) -> Option<u32> {
    packet.get(AT)?;
    let octets = packet.iter().enumerate().map(|(at, octet)| if AT.contains(&at) { 0 } else { *octet });
    let sum = octets.fold(u32::MAX, |sum, octet| {
        (0..8).fold(sum ^ u32::from(octet), |sum, _| sum >> 1 ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 })
    });
    Some(!sum)
}

/// Whether a packet has the checksum that it should have.
#[must_use]
pub fn is_right(packet: &[u8]) -> Option<bool> {
    let [a, b, c, d] = *packet.get(AT)? else { return None };
    // The least significant octet goes first.
    Some(checksum(packet)? == u32::from_le_bytes([a, b, c, d]))
}

/// Gives a packet the checksum that it should have, if it is long enough.
pub fn seal(packet: &mut [u8]) {
    if let Some(sum) = checksum(packet) {
        packet[AT].copy_from_slice(&sum.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_crc_of_the_standard() {
        // RFC 3720, B.4: 32 octets of zeroes, sent as aa 36 91 8a.
        assert_eq!(checksum(&[0; 32]), Some(u32::from_le_bytes([0xaa, 0x36, 0x91, 0x8a])));
        let mut packet = [7; 40];
        assert_eq!(is_right(&packet), Some(false));
        seal(&mut packet);
        assert_eq!(is_right(&packet), Some(true));
        assert_eq!(is_right(&packet[..11]), None);
    }
}
