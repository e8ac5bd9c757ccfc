//! Ageing: a clock hand that goes round the entries and forgets flows whose time is up.
//!
//! ```text
//!        ┌──► | flow | flow | free | flow | ──┐      a few each turn, as many as are due for a lap in ten seconds
//!        └────────────────────────────────────┘
//! ```
//!
//! Nobody waits for it: what one call costs is bounded, and what is left then stays owed, up to a lap. A worker that has nothing else to do does not
//! sleep before it is paid. Where a table is full, whoever wants room moves the same hand
//! ([`doomed`](super::doomed)), so that the burden of choosing goes round too.

use super::effort::Effort;
use super::{FlowId, Flows, Millis};

/// How long the hand takes to come round, in milliseconds: what flows may live beyond their time.
pub(super) const LAP: Millis = 10_000;
/// How many entries it looks at in a turn at most, after a pause: some 48 KiB read in order, a few microseconds.
const MOST_LOOKS: u64 = 1024;
/// How many flows are forgotten in one turn: each costs three cache lines that are anywhere.
pub(super) const MOST_FORGOTTEN: usize = 16;

impl Flows {
    /// Moves the clock hand on and forgets flows whose time is up; returns how many. Called at the end of each turn: what a turn may spend
    /// on making room is whole again then. The hand comes round every
    /// ten seconds, however seldom turns are, if whoever calls does so again while it [is behind](Self::is_behind); never does it look at more than
    /// [`MOST_LOOKS`] entries nor forget more than [`MOST_FORGOTTEN`] flows, which is what one call can cost.
    pub fn expire(&mut self, now: Millis) -> usize {
        let since = now.wrapping_sub(std::mem::replace(&mut self.aged, now));
        self.effort = Effort::WHOLE;
        if self.is_empty() {
            self.owed = 0;
            return 0;
        }
        let (lap, entries) = (u64::from(LAP), self.entries.len() as u64);
        // Who has been round once has looked at them all.
        self.owed = (self.owed + u64::from(since) * entries).min(lap * entries);
        let due = (self.owed / lap).min(MOST_LOOKS);
        let (mut looks, mut expired) = (0, 0);
        while looks < due && expired < MOST_FORGOTTEN {
            looks += 1;
            let here = self.turn();
            if let Some((state, idle)) = self.age(here, now)
                && idle >= self.timeouts.of(state)
            {
                self.remove(here);
                expired += 1;
            }
        }
        self.owed -= looks * lap;
        expired
    }

    /// Whether there are entries that the hand should have been at by now, as one call does only so much: a thousandth of a table of a million, or
    /// sixteen flows that were forgotten. It is over after as many more calls as that goes into a lap.
    #[inline]
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.owed >= u64::from(LAP)
    }

    /// The entry under the hand, which moves on.
    #[inline(always)]
    pub(super) fn turn(&mut self) -> FlowId {
        let here = self.hand;
        self.hand = if here + 1 < self.entries.len() { here + 1 } else { 0 };
        FlowId(here as u32)
    }
}
