//! Where in a datagram the destination connection ID stands: the part that is the same in all versions of QUIC (RFC 8999, 5).
//!
//! ```text
//!   long   | 1xxxxxxx | version (32) | length | destination connection ID … | length | source …
//!   short  | 0xxxxxxx | destination connection ID, of a length that only its server knows …
//! ```

use super::MOST;

/// A destination connection ID as a packet has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionId<'a> {
    /// It, or what begins with it if [`exact`](Self::exact) is false; 1 to 20 octets.
    pub octets: &'a [u8],
    /// Whether the packet says how long it is.
    pub exact: bool,
}

/// The destination connection ID of the first packet in a datagram. `None` if there is none, or it is longer than levee reads.
#[inline]
#[must_use]
pub fn destination(datagram: &[u8]) -> Option<ConnectionId<'_>> {
    let (first, rest) = datagram.split_first()?;
    if first & 0x80 == 0 {
        let octets = rest.get(..MOST).unwrap_or(rest);
        return (!octets.is_empty()).then_some(ConnectionId { octets, exact: false });
    }
    let (_version, rest) = rest.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first()?;
    let octets = rest.get(..usize::from(*length))?;
    (1..=MOST).contains(&octets.len()).then_some(ConnectionId { octets, exact: true })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn long_headers_say_how_long_it_is_and_short_ones_do_not() {
        // The client's first packet of RFC 9001, A.2: version 1, 8 octets.
        let initial = [0xc0, 0, 0, 0, 1, 8, 0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08, 0, 0, 0x44, 0x9e];
        let expected = ConnectionId { octets: &[0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08], exact: true };
        assert_eq!(destination(&initial), Some(expected));
        let short: Vec<u8> = (0x40..0x80).collect();
        assert_eq!(destination(&short), Some(ConnectionId { octets: &short[1..21], exact: false }));
        assert_eq!(destination(&short[..5]), Some(ConnectionId { octets: &short[1..5], exact: false }));
    }

    #[test]
    fn what_is_cut_short_or_too_long_has_none() {
        for datagram in [
            &[][..],
            &[0x40],
            &[0xc0],
            &[0xc0, 0, 0, 0],
            &[0xc0, 0, 0, 0, 1],
            &[0xc0, 0, 0, 0, 1, 0],
            &[0xc0, 0, 0, 0, 1, 2, 7],
            &[[0xc0, 0, 0, 0, 1, 21].as_slice(), &[7; 40]].concat(),
            &[[0xc0, 0, 0, 0, 1, 255].as_slice(), &[7; 255]].concat(),
        ] {
            assert_eq!(destination(datagram), None, "{datagram:?}");
        }
    }

    proptest! {
        #[test]
        fn it_lies_inside_whatever_comes(datagram in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Some(id) = destination(&datagram) {
                prop_assert!((1..=MOST).contains(&id.octets.len()));
                prop_assert!(datagram.windows(id.octets.len()).any(|part| part == id.octets));
                prop_assert_eq!(id.exact, datagram[0] & 0x80 != 0);
            }
        }
    }
}
