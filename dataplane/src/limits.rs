//! Rate limits by source, in fixed memory: token buckets, chosen by hash.
//!
//! Two sources may share a bucket and then share its rate; that errs towards answering less. 4,096 buckets of 8 bytes
//! stay in the second-level cache, so that a storm costs no more than a good packet.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::flows::Millis;
use crate::hash::Key;

const BUCKETS: usize = 4096;
/// Tokens are counted in thousandths, so that rates of less than one a millisecond add up.
const TOKEN: u64 = 1000;

#[derive(Clone, Copy, Default)]
struct Bucket {
    /// Thousandths of a token that are missing from a full bucket.
    missing: u32,
    last: Millis,
}

/// A limit on how often something is done for one source.
pub struct Limit {
    buckets: Box<[Bucket]>,
    key: Key,
    /// Per second; also the most at once.
    rate: u32,
}

impl Limit {
    /// At most `rate` a second for each source, and as many at once.
    #[must_use]
    pub fn new(rate: u32, key: Key) -> Self {
        Limit { buckets: vec![Bucket::default(); BUCKETS].into(), key, rate: rate.min(u32::MAX / TOKEN as u32) }
    }

    /// Takes a token for a source, if it has one left.
    #[inline]
    pub fn take(&mut self, source: u64, now: Millis) -> bool {
        let index = self.key.word(source) as usize % BUCKETS;
        let Some(bucket) = self.buckets.get_mut(index) else { return false };
        let refilled = u64::from(now.wrapping_sub(bucket.last)) * u64::from(self.rate);
        let missing = u64::from(bucket.missing).saturating_sub(refilled);
        let allowed = missing + TOKEN <= u64::from(self.rate) * TOKEN;
        let missing = missing + if allowed { TOKEN } else { 0 };
        *bucket = Bucket { missing: u32::try_from(missing).unwrap_or(u32::MAX), last: now };
        allowed
    }
}

/// How many flows may begin: what a flood of them, by one client or by a million, is held to. What is established is never
/// asked.
#[derive(Default)]
pub struct Newcomers {
    /// To one VIP and port, whoever begins them.
    pub of_vip: Option<Limit>,
    /// By one source address.
    pub of_source: Option<Limit>,
}

/// What becomes of a flow that would begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Welcome {
    /// It begins.
    Come,
    /// Its source has begun too many.
    TooManyOfSource,
    /// Too many have begun at its VIP.
    TooManyOfVip,
}

impl Newcomers {
    /// Whether one more may begin. The source is asked first, so that one client's flood does not spend what the VIP has for all.
    #[inline]
    pub fn welcome(&mut self, source: u64, vip: u64, now: Millis) -> Welcome {
        if self.of_source.as_mut().is_some_and(|limit| !limit.take(source, now)) {
            return Welcome::TooManyOfSource;
        }
        if self.of_vip.as_mut().is_some_and(|limit| !limit.take(vip, now)) {
            return Welcome::TooManyOfVip;
        }
        Welcome::Come
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::hash::MAGLEV_KEY;
    use proptest::prelude::*;

    #[test]
    fn a_source_gets_its_rate_and_no_more_and_others_are_not_disturbed() {
        let mut limit = Limit::new(10, MAGLEV_KEY);
        assert_eq!((0..100).filter(|_| limit.take(1, 0)).count(), 10);
        assert!(limit.take(2, 0));
        assert_eq!((0..100).filter(|_| limit.take(1, 500)).count(), 5);
        assert_eq!(
            (0..100).filter(|_| limit.take(1, 100_000)).count(),
            10,
            "a bucket never holds more than one second"
        );
        assert!(!Limit::new(0, MAGLEV_KEY).take(1, 0));
    }

    #[test]
    fn one_clients_flood_does_not_spend_what_others_have() {
        let limit = |rate| Some(Limit::new(rate, MAGLEV_KEY));
        let mut newcomers = Newcomers { of_vip: limit(100), of_source: limit(10) };
        let mut count = |source, which| (0..1000).filter(|_| newcomers.welcome(source, 7, 0) == which).count();
        assert_eq!(count(1, Welcome::Come), 10);
        assert_eq!(count(2, Welcome::Come), 10);
        assert_eq!(count(1, Welcome::TooManyOfSource), 1000);
        let many = (100..1000).filter(|source| newcomers.welcome(*source, 7, 0) == Welcome::Come).count();
        assert_eq!(many, 80, "and all together have a hundred");
        assert_eq!(newcomers.welcome(1000, 7, 0), Welcome::TooManyOfVip);
        assert_eq!(Newcomers::default().welcome(1, 7, 0), Welcome::Come);
    }

    proptest! {
        #[test]
        fn over_any_time_no_more_than_the_rate_and_one_bucket(rate in 1u32..2000, steps in proptest::collection::vec(0u32..50, 1..500)) {
            let mut limit = Limit::new(rate, MAGLEV_KEY);
            let (mut now, mut taken) = (0, 0u64);
            for step in steps {
                now += step;
                taken += u64::from(limit.take(7, now));
            }
            prop_assert!(taken <= u64::from(rate) + u64::from(now) * u64::from(rate) / 1000 + 1);
        }
    }
}
