//! Rate limits, in fixed memory: token buckets.
//!
//! [`Limit`] is for answers: buckets are chosen by hash, two sources may share one and then share its rate, which errs towards
//! answering less. 4,096 buckets of 8 bytes stay in the second-level cache, so that a storm costs no more than a good packet.
//! [`Replies`] is for answers that go to whoever a packet says it is from: all of them together have a bound as well.
//! [`Errors`] is for ICMP errors, which are passed on: those about flows apart from those about none.
//! [`Ledger`] is for flows that would begin, where nobody may pay for what somebody else does: [`Newcomers`].

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod errors;
mod ledger;
mod replies;
mod together;

pub use self::errors::Errors;
pub use self::ledger::Ledger;
pub use self::replies::Replies;
use crate::address::Address;
use crate::flows::Millis;
use crate::hash::{Key, MAGLEV_KEY};
use crate::verdict::Endpoint;

const BUCKETS: usize = 4096;
/// Tokens are counted in thousandths, so that rates of less than one a millisecond add up.
const TOKEN: u64 = 1000;

#[derive(Clone, Copy, Default)]
struct Bucket {
    /// Thousandths of a token that are missing from a full bucket.
    missing: u32,
    last: Millis,
}

impl Bucket {
    /// What is missing now.
    #[inline]
    fn missing(&self, rate: u32, now: Millis) -> u64 {
        let refilled = u64::from(now.wrapping_sub(self.last)) * u64::from(rate);
        u64::from(self.missing).saturating_sub(refilled)
    }

    /// Takes a token out of a bucket of `rate`, if there is one.
    #[inline]
    fn take(&mut self, rate: u32, now: Millis) -> bool {
        let missing = self.missing(rate, now);
        let allowed = missing + TOKEN <= u64::from(rate) * TOKEN;
        let missing = missing + if allowed { TOKEN } else { 0 };
        *self = Bucket { missing: u32::try_from(missing).unwrap_or(u32::MAX), last: now };
        allowed
    }
}

/// The rate, or the highest that a bucket can count.
fn spendable(rate: u32) -> u32 {
    rate.min(u32::MAX / TOKEN as u32)
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
        Limit { buckets: vec![Bucket::default(); BUCKETS].into(), key, rate: spendable(rate) }
    }

    /// Takes a token for a source, if it has one left.
    #[inline]
    pub fn take(&mut self, source: u64, now: Millis) -> bool {
        let index = self.key.word(source) as usize % BUCKETS;
        self.buckets.get_mut(index).is_some_and(|bucket| bucket.take(self.rate, now))
    }
}

/// How many flows may begin: what a flood of them, by one client or by a million, is held to. What is established is never
/// asked.
#[derive(Default)]
pub struct Newcomers {
    /// To one VIP and port, whoever begins them.
    pub of_vip: Option<Ledger>,
    /// By one source: an IPv4 address, or an IPv6 /64, all of which whoever has one address of it has.
    pub of_source: Option<Ledger>,
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
    /// Whether there is any limit.
    #[inline]
    #[must_use]
    pub fn are_limited(&self) -> bool {
        self.of_vip.is_some() || self.of_source.is_some()
    }

    /// Whether one more may begin. The source is asked first, so that one client's flood does not spend what the VIP has for all.
    #[inline]
    pub fn welcome(&mut self, source: Address, vip: Endpoint, now: Millis) -> Welcome {
        if self.of_source.as_mut().is_some_and(|limit| !limit.take(network(source), now)) {
            return Welcome::TooManyOfSource;
        }
        let vip = MAGLEV_KEY.address(vip.address, u64::from(vip.port));
        if self.of_vip.as_mut().is_some_and(|limit| !limit.take(vip, now)) {
            return Welcome::TooManyOfVip;
        }
        Welcome::Come
    }
}

/// What one client has at least: an IPv4 address, or an IPv6 /64 (RFC 7934, 6; RFC 6177).
#[inline]
fn network(source: Address) -> u64 {
    let [high, low] = source.halves();
    if source.is_v4() { low } else { high }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
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

    const VIP: Endpoint = Endpoint { address: Address::v4(0xc000_02fa), port: 443 };

    #[test]
    fn one_clients_flood_does_not_spend_what_others_have() {
        let limit = |rate| Some(Ledger::new(rate, MAGLEV_KEY));
        let mut newcomers = Newcomers { of_vip: limit(100), of_source: limit(10) };
        let mut count =
            |source: u32, which| (0..1000).filter(|_| newcomers.welcome(Address::v4(source), VIP, 0) == which).count();
        assert_eq!(count(1, Welcome::Come), 10);
        assert_eq!(count(2, Welcome::Come), 10);
        assert_eq!(count(1, Welcome::TooManyOfSource), 1000);
        let come = |source: &u32| newcomers.welcome(Address::v4(*source), VIP, 0) == Welcome::Come;
        assert_eq!((100..1000).filter(come).count(), 80, "and all together have a hundred");
        assert_eq!(newcomers.welcome(Address::v4(1000), VIP, 0), Welcome::TooManyOfVip);
        let other = Endpoint { port: 80, ..VIP };
        assert_eq!(newcomers.welcome(Address::v4(1000), other, 0), Welcome::Come, "another port is another VIP's");
        assert_eq!(Newcomers::default().welcome(Address::v4(1), VIP, 0), Welcome::Come);
    }

    #[test]
    fn all_addresses_of_one_ipv6_network_are_one_source() {
        let mut newcomers = Newcomers { of_vip: None, of_source: Some(Ledger::new(10, MAGLEV_KEY)) };
        let mut come = |network: u128, host: u128| {
            let source = Address::v6(0x2001_0db8 << 96 | network << 64 | host);
            newcomers.welcome(source, VIP, 0) == Welcome::Come
        };
        assert_eq!((1..=1000).filter(|host| come(1, *host)).count(), 10);
        assert_eq!((2..=1000).filter(|network| come(*network, 1)).count(), 999, "others are others");
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
