//! Who is forgotten when a table is full: what is worth least of a few flows under the hand.
//!
//! ```text
//!   hand ─► | syn | syn | closed |          what costs nothing is taken at once;
//!   hand ─► | syn | est. | syn | syn |      half-open ones are everywhere in a flood: the best of four;
//!   hand ─► | udp | est. | … eight … |      others: the best of eight, or the first there is;
//!   hand ─► | dsr | dsr | … sixty-four … |  claimed ones, if there is nothing else at all: the best of all that are looked at
//! ```
//!
//! A TCP flow that is established by its client's word alone costs a stranger two packets. Where answers pass here, one that was never
//! answered is half open ([`State::taken_for`]). Where none pass (`dsr`, `tunnel`) nobody knows: it is *claimed*, keeps its place
//! while something comes now and then ([`CLAIM`]), and gives way last. `docs/decisions/0005-mid-stream.md` says what is lost by that.
//!
//! Each is chosen one insert before it is needed, so that where it stands in the index is on its way by then; and it is looked at again
//! before it is forgotten.

use super::entry::Entry;
use super::state::State;
use super::timeouts::Timeouts;
use super::{FlowId, Flows, Hashes, Millis};

/// How many entries an insert into a full table looks at before it gives up.
const LOOKS: usize = 64;
/// And how many before it takes what it has: each look is a cache line, and under a flood of SYNs every insert pays them.
const CHOICE: usize = 8;
/// How long, in milliseconds, a claimed flow keeps its place in a full table without a packet: longer than what a client at work pauses for,
/// and than most programs' own heartbeats are apart; as long as `timeouts.tcp_syn` grants by default to who says nothing at all.
const CLAIM: Millis = 60_000;

/// A flow that is to be forgotten, and how it was when that was decided. If it is gone, this is nobody.
#[derive(Debug, Clone, Copy)]
pub(super) struct Doomed {
    pub(super) id: FlowId,
    /// What it was taken for.
    state: State,
    last: Millis,
    hashes: Hashes,
}

impl Doomed {
    pub(super) const NOBODY: Doomed = Doomed { id: FlowId::NONE, state: State::Dead, last: 0, hashes: (0, None) };
}

/// What flows are worth, by the numbers of what they are taken for; and claimed ones behind them.
pub(super) struct Prices([Price; State::ALL.len() + 1]);

const CLAIMED: usize = State::ALL.len();

#[derive(Clone, Copy)]
struct Price {
    /// For so long without a packet
    time: Millis,
    /// it has this rank: the cheapest first;
    rank: u64,
    /// then this one.
    late: u64,
}

/// A rank that nothing of has a price; and the first worth that is too much.
const NEVER: u64 = u32::MAX as u64;
const TOO_MUCH: u64 = NEVER << 32;
/// The rank of what is taken if there is nothing else: above what any state is worth.
const LAST: u64 = 4;

impl Prices {
    pub(super) fn new(timeouts: &Timeouts) -> Self {
        let of_claimed = Price { time: CLAIM.min(timeouts.established), rank: NEVER, late: LAST };
        let mut prices = [of_claimed; State::ALL.len() + 1];
        for (price, state) in prices.iter_mut().zip(State::ALL) {
            *price = Price { time: timeouts.of(state), rank: state.worth().map_or(NEVER, u64::from), late: 0 };
        }
        Prices(prices)
    }

    /// Less is cheaper; among equals the one that has been idle longest.
    #[inline(always)]
    fn worth(&self, entry: &Entry, now: Millis) -> u64 {
        let Prices(prices) = self;
        let idle = now.wrapping_sub(entry.last);
        let kind = match entry.taken_for() {
            State::Established if !entry.replies_pass() => CLAIMED,
            state => state as usize,
        };
        let Some(price) = prices.get(kind) else { return TOO_MUCH };
        let rank = if idle >= price.time { price.late } else { price.rank };
        rank << 32 | u64::from(!idle)
    }
}

/// How many looks are enough once something of this worth is found.
#[inline(always)]
const fn enough(worth: u64) -> usize {
    match worth >> 32 {
        // There is nothing cheaper,
        0 => 1,
        // or it would be long in coming.
        1 => CHOICE / 2,
        // There may be something cheaper, and then this is not to go.
        LAST => LOOKS,
        _ => CHOICE,
    }
}

impl Flows {
    /// Forgets a flow that is worth least, of a few. False if there is none to forget.
    pub(super) fn evict(&mut self, now: Millis) -> bool {
        if !self.is_as_it_was() && !self.choose_now(now) {
            return false;
        }
        let Doomed { id, hashes, .. } = self.doomed;
        self.forget(id, hashes);
        self.choose(now);
        true
    }

    /// There was nobody yet, or it has come to life since it was chosen.
    #[cold]
    #[inline(never)]
    fn choose_now(&mut self, now: Millis) -> bool {
        self.choose(now)
    }

    /// Dooms the least valuable of the next few entries under the hand, and asks for where it stands in the index. False if it is nobody.
    #[inline(always)]
    fn choose(&mut self, now: Millis) -> bool {
        self.doomed.id = FlowId::NONE;
        let most = LOOKS.min(self.entries.len()).min(self.effort.entries as usize);
        let (mut victim, mut cheapest, mut wanted) = (FlowId::NONE, TOO_MUCH, most);
        let mut looks = 0;
        while looks < wanted {
            looks += 1;
            let id = self.turn();
            let Some(entry) = self.entries.get(id.0) else { continue };
            let worth = self.prices.worth(entry, now);
            if worth < cheapest && !entry.is_free() && !self.entries.is_extension(id.0) {
                (victim, cheapest, wanted) = (id, worth, enough(worth).min(most));
            }
        }
        self.effort.entries -= looks as u32;
        let Some(entry) = self.entries.get(victim.0) else { return false };
        let hashes = self.hashes_of(entry);
        self.doomed = Doomed { id: victim, state: entry.taken_for(), last: entry.last, hashes };
        let (forward, reverse) = hashes;
        self.index.prefetch(forward);
        if let Some(reverse) = reverse {
            self.index.prefetch(reverse);
        }
        true
    }

    #[inline(always)]
    fn is_as_it_was(&self) -> bool {
        let Doomed { id, state, last, .. } = self.doomed;
        self.entries.get(id.0).is_some_and(|entry| entry.taken_for() == state && entry.last == last && !entry.is_free())
    }
}
