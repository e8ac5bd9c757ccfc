//! The addresses of one family that a pool has, and which of them are in use.
//!
//! ```text
//!  ranges        192.0.2.10-19          198.51.100.0-99
//!  places        0 ……………… 9           10 …………………… 109
//!  in use            [2..=4]                 [40..=40]            runs: neighbours are one
//! ```
//!
//! Ranges are laid end to end, so that an address is a number, its place. Places in use are kept as runs, so that finding the next
//! free one costs O(log n) also in a pool that is nearly full, and a /64 costs no more than a /24.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::AddressRange;

/// See the [module](self).
#[derive(Debug, Clone, Default)]
pub(super) struct Space {
    /// Place of its first address, first address as a number, number of addresses; in order of all three.
    ranges: Vec<(u128, u128, u128)>,
    size: u128,
    is_v4: bool,
    /// In use: first to last place; no two runs touch.
    runs: BTreeMap<u128, u128>,
    used: u128,
}

impl Space {
    /// Of ranges of one family that do not overlap, in order.
    pub(super) fn of<'a>(ranges: impl Iterator<Item = &'a AddressRange>) -> Self {
        let mut space = Space::default();
        for range in ranges {
            space.is_v4 = range.first.is_ipv4();
            let (first, last) = (number(range.first), number(range.last));
            let length = last.saturating_sub(first).saturating_add(1);
            space.ranges.push((space.size, first, length));
            space.size = space.size.saturating_add(length);
        }
        space
    }

    /// How many addresses it has.
    pub(super) fn size(&self) -> u128 {
        self.size
    }

    /// How many of them are in use.
    pub(super) fn used(&self) -> u128 {
        self.used
    }

    /// The place of an address that is in it.
    pub(super) fn place(&self, address: IpAddr) -> Option<u128> {
        let wanted = number(address);
        let after = self.ranges.partition_point(|(_, first, _)| *first <= wanted);
        let (at, first, length) = self.ranges.get(after.checked_sub(1)?)?;
        (wanted - first < *length).then(|| at + (wanted - first))
    }

    /// The address at a place.
    pub(super) fn address(&self, place: u128) -> Option<IpAddr> {
        let after = self.ranges.partition_point(|(at, ..)| *at <= place);
        let (at, first, length) = self.ranges.get(after.checked_sub(1)?)?;
        let offset = place.checked_sub(*at).filter(|offset| offset < length)?;
        let value = first.checked_add(offset)?;
        Some(match u32::try_from(value) {
            Ok(value) if self.is_v4 => Ipv4Addr::from_bits(value).into(),
            _ => Ipv6Addr::from_bits(value).into(),
        })
    }

    /// The first place that is not in use, from a place on, and around.
    pub(super) fn next_free(&self, from: u128) -> Option<u128> {
        if self.used >= self.size {
            return None;
        }
        let after = |place: u128| match self.runs.range(..=place).next_back() {
            Some((_, last)) if *last >= place => last + 1,
            _ => place,
        };
        let found = after(from);
        Some(if found < self.size { found } else { after(0) })
    }

    /// Puts a place to use. It must be free.
    pub(super) fn take(&mut self, place: u128) {
        self.used += 1;
        let (mut first, mut last) = (place, place);
        if let Some((before, end)) = self.runs.range(..place).next_back().map(|(first, last)| (*first, *last))
            && end.checked_add(1) == Some(place)
        {
            first = before;
        }
        if let Some(end) = place.checked_add(1).and_then(|next| self.runs.remove(&next)) {
            last = end;
        }
        self.runs.insert(first, last);
    }

    /// Puts every place of a range of addresses to use that is still free.
    pub(super) fn withhold(&mut self, range: &AddressRange) {
        let (Some(mut first), Some(mut last)) = (self.place(range.first), self.place(range.last)) else { return };
        // Runs that it meets become one with it.
        while let Some((begin, end)) = self.runs.range(..=last).next_back().map(|(begin, end)| (*begin, *end))
            && end >= first
        {
            self.runs.remove(&begin);
            self.used -= end - begin + 1;
            (first, last) = (first.min(begin), last.max(end));
        }
        // `take` joins it with those that it touches.
        self.used += last - first;
        if let Some(end) = self.runs.remove(&(last + 1)) {
            last = end;
        }
        if first < last {
            self.runs.insert(first + 1, last);
        }
        self.take(first);
    }

    /// Gives back a place that is in use.
    pub(super) fn free(&mut self, place: u128) {
        let Some((first, last)) = self.runs.range(..=place).next_back().map(|(first, last)| (*first, *last)) else {
            return;
        };
        if last < place {
            return;
        }
        self.used -= 1;
        self.runs.remove(&first);
        if first < place {
            self.runs.insert(first, place - 1);
        }
        if place < last {
            self.runs.insert(place + 1, last);
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn space(ranges: &[&str]) -> Space {
        let ranges: Vec<AddressRange> = ranges.iter().map(|range| range.parse().expect("a range")).collect();
        Space::of(ranges.iter())
    }

    #[test]
    fn places_are_addresses_in_order() {
        let space = space(&["192.0.2.10-192.0.2.19", "198.51.100.0/30"]);
        assert_eq!(space.size(), 14);
        for place in 0..14 {
            assert_eq!(space.place(space.address(place).expect("inside")), Some(place));
        }
        assert_eq!(space.address(10), Some("198.51.100.0".parse().unwrap()));
        assert_eq!((space.address(14), space.place("192.0.2.9".parse().unwrap())), (None, None));
    }

    #[test]
    fn a_large_prefix_costs_nothing() {
        let mut space = space(&["2001:db8::/32"]);
        let place = space.next_free(1 << 90).expect("free");
        space.take(place);
        assert_eq!(space.next_free(1 << 90), Some((1 << 90) + 1));
        assert_eq!(space.address(place), Some("2001:db8:400:0:0:0:0:0".parse().unwrap()));
    }

    #[test]
    fn what_is_withheld_meets_what_is_in_use() {
        let mut space = space(&["192.0.2.0/28"]);
        for place in [2, 5, 9] {
            space.take(place);
        }
        space.withhold(&"192.0.2.4-192.0.2.8".parse().unwrap());
        assert_eq!((space.used(), space.next_free(3), space.next_free(4)), (7, Some(3), Some(10)));
        assert_eq!(space.runs, BTreeMap::from([(2, 2), (4, 9)]));
    }

    proptest! {
        #[test]
        fn runs_are_a_set(steps in proptest::collection::vec((0..12u128, 0..3u8), 0..60), from in 0..12u128) {
            let mut space = space(&["192.0.2.0-192.0.2.4", "192.0.2.9-192.0.2.15"]);
            let mut model = BTreeSet::new();
            for (place, what) in steps {
                match what {
                    0 if !model.contains(&place) => { space.take(place); model.insert(place); }
                    1 if model.contains(&place) => { space.free(place); model.remove(&place); }
                    2 => {
                        let address = space.address(place).unwrap();
                        space.withhold(&AddressRange::one(address));
                        model.insert(place);
                    }
                    _ => {}
                }
            }
            let expected = (from..12).chain(0..from).find(|place| !model.contains(place));
            prop_assert_eq!(space.next_free(from), expected);
            prop_assert_eq!(space.used(), model.len() as u128);
            let mut ends: Vec<_> = space.runs.iter().collect();
            ends.dedup_by(|(first, _), (_, last)| *last + 1 >= **first);
            prop_assert_eq!(ends.len(), space.runs.len(), "no two touch");
        }
    }
}
