//! Ageing: a clock hand that goes round the entries and forgets flows whose time is up.
//!
//! ```text
//!        ┌──► | flow | flow | free | flow | ──┐      a few each turn, as many as are due for a lap in ten seconds
//!        └────────────────────────────────────┘
//! ```
//!
//! Nobody waits for it: what one call costs is bounded. Where a table is full, whoever wants room moves the same hand
//! ([`doomed`](super::doomed)), so that the burden of choosing goes round too.

use super::effort::Effort;
use super::{FlowId, Flows, Millis};

/// How long the hand takes to come round, in milliseconds: what flows may live beyond their time.
pub(super) const LAP: Millis = 10_000;
/// How many entries it looks at in a turn, so that small tables, of which less than one is due in a millisecond, are gone round too;
const LEAST_LOOKS: usize = 1;
/// and at most, after a pause: some 48 KiB read in order, a few microseconds.
const MOST_LOOKS: usize = 1024;
/// How many flows are forgotten in one turn: each costs three cache lines that are anywhere.
pub(super) const MOST_FORGOTTEN: usize = 16;

impl Flows {
    /// Moves the clock hand on and forgets flows whose time is up; returns how many. Called at the end of each turn: what a turn may spend
    /// on making room is whole again then. The hand comes round every
    /// ten seconds, however seldom turns are; never does it look at more than [`MOST_LOOKS`] entries nor forget more than
    /// [`MOST_FORGOTTEN`] flows, which is what one call can cost.
    pub fn expire(&mut self, now: Millis) -> usize {
        let since = now.wrapping_sub(std::mem::replace(&mut self.aged, now));
        self.effort = Effort::WHOLE;
        if self.is_empty() {
            return 0;
        }
        let due = (u64::from(since) * self.entries.len() as u64 / u64::from(LAP)) as usize;
        let mut expired = 0;
        for _ in 0..due.clamp(LEAST_LOOKS, MOST_LOOKS).min(self.entries.len()) {
            let here = self.turn();
            if let Some((state, idle)) = self.age(here, now)
                && idle >= self.timeouts.of(state)
            {
                self.remove(here);
                expired += 1;
                if expired == MOST_FORGOTTEN {
                    break;
                }
            }
        }
        expired
    }

    /// The entry under the hand, which moves on.
    #[inline(always)]
    pub(super) fn turn(&mut self) -> FlowId {
        let here = self.hand;
        self.hand = if here + 1 < self.entries.len() { here + 1 } else { 0 };
        FlowId(here as u32)
    }
}
