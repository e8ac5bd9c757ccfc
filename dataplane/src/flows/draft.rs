//! A flow of IPv4 that a SYN opens, as its entry will be, before it is anywhere.
//!
//! It is written down while the memory that it will stand in is on its way. What is left to do then is to look whether both of its tuples are
//! vacant, and to copy it: 48 bytes in one piece.

use super::entry::Entry;
use super::flow::Opening;
use super::{Flows, Millis, Vacancy};
use crate::ends::Ends;
use crate::verdict::{Course, NextHop};

/// See the module's documentation.
#[derive(Debug, Clone, Copy)]
pub struct Draft {
    pub(super) entry: Entry,
    pub(super) hop: NextHop,
    /// Of the client's packets, and of the backend's.
    hashes: [u64; 2],
}

impl Draft {
    /// Of a flow whose tuples have these hashes: the client's, and the backend's.
    #[inline(always)]
    #[must_use]
    pub fn new(opening: &Opening, hashes: [u64; 2], now: Millis) -> Self {
        Draft { entry: Entry::opened(opening, now), hop: opening.hop, hashes }
    }

    /// The same with other ends towards the backend, which have this hash.
    #[must_use]
    pub fn by(&self, reverse: Ends, hash: u64) -> Self {
        let Draft { entry, hop, hashes: [forward, _] } = *self;
        let opening = Opening {
            forward: entry.forward,
            reverse,
            protocol: entry.protocol(),
            mode: entry.mode(),
            from: entry.from(),
            service_slot: entry.service_slot,
            stamp: entry.stamp,
            hop,
        };
        Draft::new(&opening, [forward, hash], entry.last)
    }

    /// What its client's packets carry.
    #[inline(always)]
    #[must_use]
    pub fn forward(&self) -> Ends {
        self.entry.forward
    }

    /// What its backend's packets carry.
    #[inline(always)]
    #[must_use]
    pub fn reverse(&self) -> Ends {
        self.entry.reverse
    }

    /// Protocol number.
    #[inline(always)]
    #[must_use]
    pub fn protocol(&self) -> u8 {
        self.entry.protocol()
    }

    /// Towards the backend.
    #[inline(always)]
    #[must_use]
    pub fn hop(&self) -> NextHop {
        self.hop
    }
}

impl Flows {
    /// That the tuple of a draft's client is nobody's. `None`: there may be a flow, for [`find`](Flows::find) to say.
    #[inline(always)]
    #[must_use]
    pub fn forward_vacancy(&self, draft: &Draft) -> Option<Vacancy> {
        let [hash, _] = draft.hashes;
        self.vacancy_v4(hash, &draft.entry.forward, draft.protocol())
    }

    /// The same of its backend's.
    #[inline(always)]
    #[must_use]
    pub fn reverse_vacancy(&self, draft: &Draft) -> Option<Vacancy> {
        let [_, hash] = draft.hashes;
        self.vacancy_v4(hash, &draft.entry.reverse, draft.protocol())
    }

    /// Adds the flow, and says where its client's packet goes. `None` if there is no room, or if either of its tuples is somebody's after
    /// all.
    #[inline(always)]
    pub fn open(&mut self, draft: &Draft, forward: &Vacancy, reverse: &Vacancy, now: Millis) -> Option<Course> {
        // Nothing else is inserted between looking and opening.
        if forward.as_of != self.inserted || reverse.as_of != self.inserted {
            return self.open_late(draft, now);
        }
        let Draft { entry, hop, .. } = draft;
        self.make_room(1, now)?;
        self.place(entry, (forward, Some(reverse)), [Some(*hop), None])?;
        let (ends, shifts) = entry.onward(entry.forward);
        Some(Course { hop: *hop, ends, shifts })
    }

    #[cold]
    #[inline(never)]
    fn open_late(&mut self, draft: &Draft, now: Millis) -> Option<Course> {
        let (forward, reverse) = (self.forward_vacancy(draft)?, self.reverse_vacancy(draft)?);
        self.open(draft, &forward, &reverse, now)
    }
}
