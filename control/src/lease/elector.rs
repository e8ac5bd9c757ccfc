//! One candidate for one Lease: a state machine without I/O, which is told the time.
//!
//! ```text
//!                 free, or unchanged for its duration
//!      ┌─► Read ───────────────────────────────────────► Write(Take) ──► holder ──► Write(Renew), every `retry`
//!      │     │ another's                                     │             │ ▲          │
//!      └─────┴── wait `retry` ◄──── conflict, no answer ─────┴─────────────┘ └──────────┘
//!                                                            release() ──► Write(Release)
//! ```
//!
//! What it does not know it reads: after a conflict or an answer that was lost, nothing is written before the object was read
//! again. A write that was lost may still be carried out late; it carries the version that it was made for, so it then
//! changes what nobody else has changed, or nothing.

use std::time::Duration;

use super::{Moment, Terms};

/// A Lease as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its resourceVersion.
    pub version: String,
    /// Who holds it; `None` if nobody does.
    pub holder: Option<String>,
    /// How long it lasts since it was seen to change. Zero: for ever, which nobody writes.
    pub duration: Duration,
    /// How often it has changed hands.
    pub transitions: u32,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Read it, and report with [`Elector::finished`].
    Read,
    /// Write it, and report with [`Elector::finished`].
    Write(Write),
    /// Nothing before this.
    WaitUntil(Moment),
    /// Nothing before what is under way has finished.
    WaitForAnswer,
}

/// What to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The version that it replaces; `None` creates the object. If there is another, nothing may be written: conflict.
    pub version: Option<String>,
    /// What for.
    pub change: Change,
    /// The holder; `None` after a release.
    pub holder: Option<String>,
    /// How often it has changed hands then.
    pub transitions: u32,
}

/// What a write is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was nobody's, or its holder's time was over.
    Take,
    /// It is ours and stays so.
    Renew,
    /// It was ours.
    Release,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The object, or that there is none.
    Read(Option<Record>),
    /// It was written, and has this version now.
    Written(String),
    /// There was another version.
    Conflict,
    /// No answer, or one that says nothing: it may or may not have been written.
    Failed,
}

/// Time in which a Lease is ours without a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tenure {
    /// Since when. Another beginning is another tenure: in between, it may have been somebody else's.
    pub since: Moment,
    /// Ours until then, and not at that moment any more.
    pub until: Moment,
}

impl Tenure {
    /// Whether it is ours.
    #[must_use]
    pub fn covers(&self, now: Moment) -> bool {
        self.since <= now && now < self.until
    }
}

#[derive(Debug)]
struct Seen {
    record: Option<Record>,
    since: Moment,
}

#[derive(Debug)]
enum UnderWay {
    Read,
    Write(Write, Moment),
}

/// See the [module](self).
#[derive(Debug)]
pub struct Elector {
    me: String,
    terms: Terms,
    /// What is known to be there, and since when we have seen it so.
    seen: Option<Seen>,
    /// Whether it must be read before anything is written.
    blind: bool,
    tenure: Option<Tenure>,
    /// When the last renewal that was confirmed was sent.
    confirmed: Option<Moment>,
    under_way: Option<UnderWay>,
    next: Moment,
    releasing: bool,
}

impl Elector {
    /// A candidate by this name, which must be no other's, nor an earlier process's: see [`identity`](super::identity).
    #[must_use]
    pub fn new(me: impl Into<String>, terms: Terms) -> Elector {
        Elector {
            me: me.into(),
            terms,
            seen: None,
            blind: true,
            tenure: None,
            confirmed: None,
            under_way: None,
            next: Moment::default(),
            releasing: false,
        }
    }

    /// Who it is.
    #[must_use]
    pub fn me(&self) -> &str {
        &self.me
    }

    /// Its times.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The time in which it is ours, if `now` is in it.
    #[must_use]
    pub fn tenure(&self, now: Moment) -> Option<Tenure> {
        self.tenure.filter(|tenure| !self.releasing && tenure.covers(now))
    }

    /// Makes the time in which it is ours longer, if `now` is in it. For who has been promised by all others that they
    /// will not take it before: see [`election`](crate::election).
    pub fn extend(&mut self, until: Moment, now: Moment) {
        if let Some(tenure) = self.tenure.as_mut().filter(|tenure| tenure.covers(now)) {
            tenure.until = tenure.until.max(until);
        }
    }

    /// When the last write that was confirmed was sent.
    #[must_use]
    pub fn confirmed(&self) -> Option<Moment> {
        self.confirmed
    }

    /// Who holds it, as far as was seen.
    #[must_use]
    pub fn holder(&self) -> Option<&str> {
        self.seen.as_ref()?.record.as_ref()?.holder.as_deref()
    }

    /// Gives it up, and takes it no more. It is not ours from now on: what is done under it must have ended before.
    pub fn release(&mut self) {
        self.releasing = true;
        self.next = Moment::default();
    }

    /// Whether a release is done, or there is nothing to release.
    #[must_use]
    pub fn is_released(&self) -> bool {
        self.releasing && self.under_way.is_none() && !self.blind && self.holder() != Some(&self.me)
    }

    /// What to do now.
    pub fn step(&mut self, now: Moment) -> Step {
        if self.under_way.is_some() {
            return Step::WaitForAnswer;
        }
        if self.is_released() {
            return Step::WaitUntil(now + Terms::LONGEST);
        }
        if now < self.next {
            return Step::WaitUntil(self.next);
        }
        // A moment after this one, whatever comes of it.
        self.next = now + self.terms.retry();
        let Some(seen) = self.seen.as_ref().filter(|_| !self.blind) else {
            self.under_way = Some(UnderWay::Read);
            return Step::Read;
        };
        let record = seen.record.as_ref();
        let change = match record.and_then(|record| record.holder.as_deref()) {
            Some(holder) if holder == self.me => {
                if self.releasing {
                    Change::Release
                } else {
                    Change::Renew
                }
            }
            _ => Change::Take,
        };
        let transitions = record.map_or(0, |record| record.transitions);
        let write = Write {
            version: record.map(|record| record.version.clone()),
            change,
            holder: (change != Change::Release).then(|| self.me.clone()),
            transitions: transitions.saturating_add(u32::from(change == Change::Take && record.is_some())),
        };
        self.under_way = Some(UnderWay::Write(write.clone(), now));
        Step::Write(write)
    }

    /// What was under way has come to this.
    pub fn finished(&mut self, now: Moment, outcome: Outcome) {
        match (self.under_way.take(), outcome) {
            (Some(UnderWay::Read), Outcome::Read(record)) => self.saw(record, now),
            (Some(UnderWay::Write(write, sent)), Outcome::Written(version)) => self.wrote(write, version, sent, now),
            // Whatever it was: look again. At once, since there is something to see; a failure waits.
            (_, Outcome::Conflict) => {
                self.blind = true;
                self.next = now;
            }
            _ => self.blind = true,
        }
    }

    fn saw(&mut self, record: Option<Record>, now: Moment) {
        let changed = self.seen.as_ref().is_none_or(|seen| {
            seen.record.as_ref().map(|record| &record.version) != record.as_ref().map(|record| &record.version)
        });
        let since = match &self.seen {
            Some(seen) if !changed => seen.since,
            _ => now,
        };
        let seen = Seen { record, since };
        let holder = seen.record.as_ref().and_then(|record| record.holder.as_deref());
        let mine = holder == Some(&self.me);
        if !mine {
            self.tenure = None;
        }
        let over = match &seen.record {
            Some(record) if holder.is_some() => !record.duration.is_zero() && now.since(since) >= record.duration,
            _ => true,
        };
        // What is another's is read again before it is written.
        self.blind = !mine && !over && !self.releasing;
        if mine || over {
            self.next = now;
        }
        self.seen = Some(seen);
    }

    fn wrote(&mut self, write: Write, version: String, sent: Moment, now: Moment) {
        let until = sent + self.terms.deadline();
        self.confirmed = Some(sent);
        self.tenure = match (write.change, self.tenure) {
            (Change::Release, _) => None,
            // The one before covered all the time until this answer: no break.
            (Change::Renew, Some(tenure)) if tenure.covers(now) => {
                Some(Tenure { until: until.max(tenure.until), ..tenure })
            }
            _ => Some(Tenure { since: now, until }),
        };
        let record =
            Record { version, holder: write.holder, duration: self.terms.duration(), transitions: write.transitions };
        self.seen = Some(Seen { record: Some(record), since: now });
        self.next = sent + self.terms.retry();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests;
