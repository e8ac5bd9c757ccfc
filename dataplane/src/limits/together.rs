//! A limit on each source, and behind it one on all of them together: sources are easily forged, and one alone must not spend what is there
//! for all.

use crate::address::Address;
use crate::flows::Millis;
use crate::hash::Key;

use super::{Bucket, Limit, network, spendable};

/// See the module's documentation.
pub(super) struct Together {
    of_source: Limit,
    of_all: Bucket,
    /// Per second; also the most at once.
    rate: u32,
}

impl Together {
    /// At most `each` a second, and as many at once, by one source, an IPv4 address or an IPv6 /64; and `all` by all.
    pub(super) fn new(each: u32, all: u32, key: Key) -> Self {
        Together { of_source: Limit::new(each, key), of_all: Bucket::default(), rate: spendable(all) }
    }

    /// Takes a token for this source, if there is one left.
    #[inline]
    pub(super) fn take(&mut self, source: Address, now: Millis) -> bool {
        self.of_source.take(network(source), now) && self.of_all.take(self.rate, now)
    }
}
