//! How many ICMP errors are carried on.
//!
//! ```text
//!   about a flow that is known here      ──► the flow's bucket ──► translated, to its end
//!   about none that is known here        ──► its sender's bucket ──► everybody's bucket ──► looked for elsewhere
//!                                            the rate                ten times the rate
//! ```
//!
//! Whoever forges an error forges its sender too, and any number of them; each would be taken from one worker to the next. So all that are
//! about nobody's flow have one bucket together, and buckets by sender that are not those of flows: what they spend, no flow
//! that this worker knows misses. What they can hold up is the true error about a flow that another worker has, where
//! nothing but asking finds it.

use crate::address::Address;
use crate::flows::Millis;
use crate::hash::Key;

use super::Limit;
use super::together::Together;

/// All senders together may have so many times what one may have.
const TOGETHER: u32 = 10;

/// A limit on ICMP errors of one worker.
pub struct Errors {
    of_flow: Limit,
    of_nobody: Together,
}

impl Errors {
    /// At most `rate` a second, and as many at once, about one flow; as many by one sender, an IPv4 address or an IPv6 /64, about
    /// flows that are not known, and ten times that by all of them.
    #[must_use]
    pub fn new(rate: u32, key: Key) -> Self {
        Errors { of_flow: Limit::new(rate, key), of_nobody: Together::new(rate, rate.saturating_mul(TOGETHER), key) }
    }

    /// Takes a token for an error about what `flow` stands for, if there is one left.
    #[inline]
    pub fn about(&mut self, flow: u64, now: Millis) -> bool {
        self.of_flow.take(flow, now)
    }

    /// The same for one of this sender about a flow that is not known.
    #[inline]
    pub fn about_unknown(&mut self, sender: Address, now: Millis) -> bool {
        self.of_nobody.take(sender, now)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::hash::MAGLEV_KEY;

    fn carried(errors: &mut Errors, senders: impl IntoIterator<Item = u32>, now: Millis) -> usize {
        senders.into_iter().filter(|sender| errors.about_unknown(Address::v4(0x0a00_0000 + sender), now)).count()
    }

    #[test]
    fn forged_senders_together_get_ten_times_the_rate_and_one_of_them_the_rate() {
        let mut errors = Errors::new(100, MAGLEV_KEY);
        assert_eq!(carried(&mut errors, std::iter::repeat_n(7, 10_000), 0), 100);
        assert_eq!(carried(&mut errors, 1000..11_000, 0), 900);
        assert_eq!(carried(&mut errors, 20_000..30_000, 500), 500, "half a second later");
    }

    #[test]
    fn a_flood_about_nobodys_flows_takes_nothing_from_any_flow() {
        let mut errors = Errors::new(100, MAGLEV_KEY);
        // Enough for every bucket that there is.
        carried(&mut errors, 0..1_000_000, 0);
        assert!((0..1000).all(|flow| errors.about(flow, 0)));
    }
}
