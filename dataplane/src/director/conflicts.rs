//! Claims of others to addresses of ours: which of them an operator is told of, and which addresses are defended.
//!
//! ```text
//!   claim ─► is it the address's first in 10 s? ─► is there room in these 10 s? ─► told; if somebody here has the address, defended
//!                       └ no: known already              └ no: counted, and told with the others, once
//! ```
//!
//! Whoever is on the fabric can claim what he likes, as fast as he likes, from as many MACs as he likes, and every defence is a broadcast:
//! so both are bounded, whatever comes. Addresses that nobody here is known to have (of a pods' prefix, any) are never defended, and
//! have a bound of their own: a storm of claims to them does not hide one to a VIP. Pure: time comes in.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// One address in conflict is told of, and defended, at most this often; the counters have every frame. RFC 5227, 1.1: DEFEND_INTERVAL.
pub(super) const PAUSE: Duration = Duration::from_secs(10);

/// Conflicts about addresses that are in use here, told in one pause: a station that takes over several VIPs is told of, one by one. More would
/// push everything else out of the memory of events.
const IN_USE: usize = 32;

/// Conflicts about other addresses, told in one pause.
const UNUSED: usize = 4;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Conflicts {
    in_use: VecDeque<(Instant, IpAddr)>,
    unused: VecDeque<(Instant, IpAddr)>,
    /// Claims that were not told, and since when.
    untold: Option<(Instant, u64)>,
}

impl Conflicts {
    /// Whether a claim is to be told, and the address to be defended if somebody here has it.
    pub(super) fn is_news(&mut self, address: IpAddr, in_use: bool, now: Instant) -> bool {
        let (told, most) = if in_use { (&mut self.in_use, IN_USE) } else { (&mut self.unused, UNUSED) };
        while told.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= PAUSE) {
            told.pop_front();
        }
        if told.iter().any(|(_, known)| *known == address) {
            return false;
        }
        if told.len() < most {
            told.push_back((now, address));
            return true;
        }
        self.untold.get_or_insert((now, 0)).1 += 1;
        false
    }

    /// How many claims were not told, once a pause.
    pub(super) fn untold(&mut self, now: Instant) -> Option<u64> {
        self.untold.take_if(|(since, _)| now.saturating_duration_since(*since) >= PAUSE).map(|(_, count)| count)
    }

    /// When there is something to tell next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.untold.map(|(since, _)| since + PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn an_address_is_news_once_a_pause_and_so_many_are_and_no_more() {
        let (mut conflicts, now) = (Conflicts::default(), Instant::now());
        assert!(conflicts.is_news(address(1), true, now));
        assert!(!conflicts.is_news(address(1), true, now + PAUSE / 2), "known");
        let later = now + PAUSE;
        assert!(conflicts.is_news(address(1), true, later));
        assert_eq!(conflicts.untold(later), None, "what is known is not untold");
        let news = (2..60_000).filter(|number| conflicts.is_news(address(*number), true, later)).count();
        assert_eq!(news, IN_USE - 1);
        assert_eq!((conflicts.untold(later), conflicts.next()), (None, Some(later + PAUSE)));
        assert_eq!(conflicts.untold(later + PAUSE), Some(60_000 - 2 - 31));
        assert_eq!((conflicts.untold(later + PAUSE), conflicts.next()), (None, None));
        assert!(conflicts.is_news(address(2), true, later + PAUSE));
    }

    #[test]
    fn claims_to_what_nobody_has_do_not_hide_one_to_what_somebody_has() {
        let (mut conflicts, now) = (Conflicts::default(), Instant::now());
        let news = (0..60_000).filter(|number| conflicts.is_news(address(*number), false, now)).count();
        assert_eq!(news, UNUSED);
        assert!(conflicts.is_news(address(70_000), true, now));
        assert_eq!(conflicts.in_use.len() + conflicts.unused.len(), UNUSED + 1, "nothing else is remembered");
    }
}
