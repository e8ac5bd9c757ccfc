//! How much may be answered: RSTs, unreachables, echo replies, "too big".
//!
//! ```text
//!   a packet that would be answered ──► its source's bucket ──► everybody's bucket ──► the answer
//!                                       a tenth of the rate      the rate
//! ```
//!
//! Sources are easily forged, and an answer to a forged one goes to somebody who has not asked. So what a worker answers altogether is
//! bounded, whoever asks: a flood is not turned round at its own rate. The share of each source is asked first, so that one alone
//! cannot spend what is there for all.

use crate::address::Address;
use crate::flows::Millis;
use crate::hash::Key;

use super::together::Together;

/// One source may have this part of what all may have.
const SHARE: u32 = 10;

/// A limit on answers of one worker.
pub struct Replies(Together);

impl Replies {
    /// At most `rate` a second and as many at once, of which a tenth, or one, for each source: an IPv4 address, or an IPv6 /64.
    #[must_use]
    pub fn new(rate: u32, key: Key) -> Self {
        let share = (rate / SHARE).max(rate.min(1));
        Replies(Together::new(share, rate, key))
    }

    /// Takes a token for an answer to this source, if there is one left.
    #[inline]
    pub fn take(&mut self, source: Address, now: Millis) -> bool {
        let Replies(together) = self;
        together.take(source, now)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::hash::MAGLEV_KEY;

    fn answered(replies: &mut Replies, sources: impl IntoIterator<Item = u32>, now: Millis) -> usize {
        sources.into_iter().filter(|source| replies.take(Address::v4(0x0a00_0000 + source), now)).count()
    }

    #[test]
    fn ten_thousand_sources_together_get_the_rate_and_not_the_rate_each() {
        let mut replies = Replies::new(1000, MAGLEV_KEY);
        assert_eq!(answered(&mut replies, 0..10_000, 0), 1000);
        assert_eq!(answered(&mut replies, 0..10_000, 0), 0);
        assert_eq!(answered(&mut replies, 10_000..20_000, 250), 250, "a quarter of a second later");
        assert_eq!(answered(&mut replies, 20_000..30_000, 100_000), 1000, "never more than one second's at once");
    }

    #[test]
    fn one_source_gets_its_share_and_leaves_the_others_theirs() {
        let mut replies = Replies::new(1000, MAGLEV_KEY);
        assert_eq!(answered(&mut replies, std::iter::repeat_n(7, 10_000), 0), 100);
        assert_eq!(answered(&mut replies, 1000..2000, 0), 900);
    }

    #[test]
    fn one_ipv6_network_is_one_source() {
        let mut replies = Replies::new(1000, MAGLEV_KEY);
        let hosts = (1..=10_000).map(|host: u128| Address::v6(0x2001_0db8 << 96 | host));
        assert_eq!(hosts.filter(|host| replies.take(*host, 0)).count(), 100);
    }

    #[test]
    fn the_smallest_rate_answers_one_and_none_answers_none() {
        assert_eq!(answered(&mut Replies::new(1, MAGLEV_KEY), 0..100, 0), 1);
        assert_eq!(answered(&mut Replies::new(0, MAGLEV_KEY), 0..100, 0), 0);
    }
}
