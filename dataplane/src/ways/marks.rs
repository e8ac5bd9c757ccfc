//! What is written into an outer header so that this end knows its own packet again when a router quotes it.
//!
//! Anybody can send "too big" about a packet that he has never seen, and make up what he quotes of it. What he cannot make up is
//! a word of a keyed hash. It stands where an outer header has bits that mean nothing to anybody else, and that every quote has in
//! it, since every quote has the whole IP header:
//!
//! | outer header | the mark | what goes into the hash |
//! |---|---|---|
//! | IPv4 | identification, 16 bits: of a packet that is never fragmented it means nothing (RFC 6864, 4.1) | far end, source port, length |
//! | IPv6 and UDP | flow label, 20 bits | far end, source port |
//! | IPv6 without ports (`ipip`) | the lower 12 bits of the flow label; the upper 8 are the flow's | far end, those 8 bits |
//!
//! A flow label must be the same for all packets of a flow (RFC 6437, 2), so a length cannot go into it. It still spreads flows
//! over ways as before: it follows from the source port, which does.
//!
//! Nothing is remembered, and only who writes marks reads them: the two ends of a tunnel need not know each other's key, nor have
//! one. Who can see the packets can copy their marks; he could drop them as well.

use crate::address::Address;
use crate::hash::Key;

/// A flow label's bits (RFC 8200, 3).
const LABEL: u32 = 0xf_ffff;
/// The bits of it that are a mark where no port tells flows apart.
const LOWER: u32 = 0xfff;

/// See the module's documentation.
#[derive(Clone, Copy)]
pub struct Marks(Key);

impl Marks {
    /// `key` must be random, or anybody can make them.
    #[must_use]
    pub const fn new(key: Key) -> Self {
        Marks(key)
    }

    /// What an outer packet carries in its identification or its flow label. `entropy` is its flow's, and its source port if it is
    /// of UDP (`udp`); `length` is the whole packet's, in bytes.
    #[inline]
    #[must_use]
    pub fn mark(self, far_end: Address, udp: bool, entropy: u16, length: u16) -> u32 {
        match (far_end.is_v4(), udp) {
            (true, true) => self.hash(far_end, entropy, length) & 0xffff,
            (true, false) => self.hash(far_end, 0, length) & 0xffff,
            (false, true) => self.hash(far_end, entropy, 0) & LABEL,
            (false, false) => self.labelled(far_end, entropy),
        }
    }

    /// Whether a quoted packet has the mark that it was sent with. `port` is its source port, if it has ports.
    #[must_use]
    pub fn is_ours(self, mark: u32, far_end: Address, port: Option<u16>, length: u32) -> bool {
        let Ok(length) = u16::try_from(length) else { return false };
        let entropy = match port {
            Some(port) => port,
            None => (mark >> LOWER.count_ones()) as u16,
        };
        mark == self.mark(far_end, port.is_some(), entropy, length)
    }

    fn labelled(self, far_end: Address, entropy: u16) -> u32 {
        let flow = entropy & 0xff;
        u32::from(flow) << LOWER.count_ones() | self.hash(far_end, flow, 0) & LOWER
    }

    fn hash(self, far_end: Address, entropy: u16, length: u16) -> u32 {
        (self.0.address(far_end, u64::from(entropy) << 16 | u64::from(length)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::MAGLEV_KEY;
    use proptest::prelude::*;

    const FAR_V4: Address = Address::v4(0x0a00_0001);
    const FAR_V6: Address = Address::v6(0x2001_0db8 << 96 | 1);

    #[test]
    fn who_guesses_is_right_once_in_as_many_times_as_there_are_marks() {
        let marks = Marks::new(MAGLEV_KEY);
        let right = |far_end, port, all: u32| (0..all).filter(|mark| marks.is_ours(*mark, far_end, port, 1450)).count();
        assert_eq!(right(FAR_V4, Some(0xc123), 1 << 16), 1);
        assert_eq!(right(FAR_V4, None, 1 << 16), 1);
        assert_eq!(right(FAR_V6, Some(0xc123), 1 << 20), 1);
        assert_eq!(right(FAR_V6, None, 1 << 20), 1 << 8, "one for each flow");
    }

    #[test]
    fn labels_are_the_flows_and_as_many_as_before() {
        let marks = Marks::new(MAGLEV_KEY);
        assert_eq!(marks.mark(FAR_V6, true, 0xc123, 100), marks.mark(FAR_V6, true, 0xc123, 1400));
        let labels = |udp| (0xc000..=0xffff).map(move |port| marks.mark(FAR_V6, udp, port, 100));
        let different: std::collections::BTreeSet<_> = labels(true).collect();
        assert!(different.len() > 16_000, "{}", different.len());
        let different: std::collections::BTreeSet<_> = labels(false).collect();
        assert_eq!(different.len(), 256);
    }

    proptest! {
        #[test]
        fn what_was_sent_is_known_again_and_nothing_else(port in 0xc000u16.., length in 600u16.., v4: bool, udp: bool) {
            let far_end = if v4 { FAR_V4 } else { FAR_V6 };
            let marks = Marks::new(MAGLEV_KEY);
            let mark = marks.mark(far_end, udp, port, length);
            let most = if v4 { 0xffff } else { LABEL };
            prop_assert!(mark <= most);
            prop_assert!(marks.is_ours(mark, far_end, udp.then_some(port), length.into()));
            prop_assert!(!marks.is_ours(mark ^ 1, far_end, udp.then_some(port), length.into()));
        }
    }

    #[test]
    fn another_key_has_other_marks() {
        let (one, other) = (Marks::new(MAGLEV_KEY), Marks::new(Key([1, 2])));
        let same = (600..1500)
            .filter(|length| one.mark(FAR_V4, true, 0xc123, *length) == other.mark(FAR_V4, true, 0xc123, *length));
        assert!(same.count() < 3);
    }
}
