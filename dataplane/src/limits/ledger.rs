//! Rate limits that no crowd can spend for somebody else, in fixed memory: accounts of those who have taken most lately.
//!
//! ```text
//!   who ──hash──► a set of four accounts, one cache line:  4 × (who, missing, last)
//!                 found: it pays; not found: it takes the place of the one that has spent least
//! ```
//!
//! A bucket chosen by hash alone is shared by whoever falls into it: under a flood from a million addresses, every bucket is
//! empty and every newcomer pays for it. Here an account is somebody's own. Strangers of one packet each replace one another, whose
//! accounts are nearly full, and never the account of one who takes a lot. So the ledger errs one way only:
//!
//! - who stays within the rate is never refused, whatever others do;
//! - who is beyond it is held to it for as long as fewer than four of its set have spent more.
//!
//! 4,096 accounts of 16 bytes stay in the second-level cache.

use crate::flows::Millis;
use crate::hash::Key;

use super::{Bucket, spendable};

const SETS: usize = 1024;
const WAYS: usize = 4;

#[derive(Clone, Copy, Default)]
struct Account {
    /// Hash of whose it is. Two who share all 64 bits share their account.
    who: u64,
    bucket: Bucket,
}

/// One cache line.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Set([Account; WAYS]);

const _: () = assert!(size_of::<Set>() == 64);

/// A limit on how often something is done for each of very many.
pub struct Ledger {
    sets: Box<[Set]>,
    key: Key,
    /// Per second; also the most at once.
    rate: u32,
}

impl Ledger {
    /// At most `rate` a second for each, and as many at once. `key` should be random, so that nobody can choose their set.
    #[must_use]
    pub fn new(rate: u32, key: Key) -> Self {
        Ledger { sets: vec![Set::default(); SETS].into(), key, rate: spendable(rate) }
    }

    /// Takes a token for somebody, if they have one left.
    #[inline]
    pub fn take(&mut self, who: u64, now: Millis) -> bool {
        let (who, rate) = (self.key.word(who), self.rate);
        let Some(Set(accounts)) = self.sets.get_mut(who as usize % SETS) else { return false };
        let account = match accounts.iter().position(|account| account.who == who) {
            Some(at) => accounts.get_mut(at),
            None => accounts.iter_mut().min_by_key(|account| account.bucket.missing(rate, now)).map(|account| {
                *account = Account { who, bucket: Bucket::default() };
                account
            }),
        };
        account.is_some_and(|account| account.bucket.take(rate, now))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;
    use crate::hash::MAGLEV_KEY;
    use proptest::prelude::*;

    /// The same without bounds and without hashing: a bucket for everybody that there ever was, in exact arithmetic.
    struct Naive {
        rate: u64,
        /// Thousandths of a token that are there, and when that was.
        buckets: HashMap<u64, (u64, u64)>,
    }

    impl Naive {
        fn take(&mut self, who: u64, now: u64) -> bool {
            let full = self.rate * 1000;
            let (tokens, last) = self.buckets.get(&who).copied().unwrap_or((full, now));
            let tokens = (tokens + (now - last) * self.rate).min(full);
            let allowed = tokens >= 1000;
            self.buckets.insert(who, (if allowed { tokens - 1000 } else { tokens }, now));
            allowed
        }
    }

    fn steps(who: std::ops::Range<u64>) -> impl Strategy<Value = Vec<(u64, u32)>> {
        proptest::collection::vec((who, 0u32..30), 1..800)
    }

    proptest! {
        /// Where all fit into one set, whichever that is, it is the naive model.
        #[test]
        fn of_few_each_gets_exactly_its_rate(rate in 1u32..200, steps in steps(0..WAYS as u64)) {
            let mut ledger = Ledger::new(rate, MAGLEV_KEY);
            let mut naive = Naive { rate: rate.into(), buckets: HashMap::new() };
            let mut now = 0;
            for (who, later) in steps {
                now += later;
                prop_assert_eq!(ledger.take(who, now), naive.take(who, now.into()));
            }
        }

        /// Whatever the others do, and however many they are: nobody is refused whom the naive model has never refused.
        #[test]
        fn who_is_within_the_rate_is_never_refused(rate in 1u32..20, steps in steps(0..50), crowd in 0u64..3000) {
            let mut ledger = Ledger::new(rate, MAGLEV_KEY);
            let mut naive = Naive { rate: rate.into(), buckets: HashMap::new() };
            let (mut now, mut stranger, mut beyond) = (0, 1000, HashSet::new());
            for (who, later) in steps {
                now += later;
                for _ in 0..crowd / 100 {
                    stranger += 1;
                    prop_assert!(ledger.take(stranger, now), "one who comes for the first time");
                }
                if !naive.take(who, now.into()) {
                    beyond.insert(who);
                }
                prop_assert!(ledger.take(who, now) || beyond.contains(&who));
            }
        }
    }

    #[test]
    fn one_who_takes_a_lot_is_held_to_the_rate_amid_a_crowd() {
        let mut ledger = Ledger::new(100, MAGLEV_KEY);
        let (mut taken, mut stranger) = (0u32, 1u64 << 32);
        // Ten seconds: 10,000 a second of one, and 100,000 a second of others, who come once each.
        for now in 0..10_000 {
            taken += (0..10).map(|_| u32::from(ledger.take(7, now))).sum::<u32>();
            for _ in 0..100 {
                stranger += 1;
                assert!(ledger.take(stranger, now), "nobody pays for the others");
            }
        }
        assert!((1000..=1101).contains(&taken), "{taken} in ten seconds, of a hundred a second and a hundred at once");
    }

    #[test]
    fn time_may_wrap() {
        let mut ledger = Ledger::new(10, MAGLEV_KEY);
        assert_eq!((0..100).filter(|_| ledger.take(1, u32::MAX - 100)).count(), 10);
        assert_eq!((0..100).filter(|_| ledger.take(1, 399)).count(), 5, "half a second later, on the other side");
        assert!(!Ledger::new(0, MAGLEV_KEY).take(1, 0));
    }
}
