//! What to say to the dataplane next: a state machine without I/O, which is told the time.
//!
//! ```text
//!              ┌───────────────────────── unreachable ──► back off ──┐
//!              ▼                                                     │
//!   start ─► Status ─► other generation or process? ─► Full ─► in step ◄─► Delta (whenever another program is wanted)
//!              ▲                                                  │
//!              └────────────── every `resync` ────────────────────┘        409 anywhere ─► Full
//! ```
//!
//! It never assumes what it does not know: a delta goes out only on top of a program that the dataplane said it runs.
//! Generations only grow, also over a restart of either side: a full program goes out above whatever generation the
//! dataplane reports.
//!
//! It keeps one whole program, the wanted one, and beside it only the way back to what runs: the old value of each key that is
//! another there. A change is put into the first and its return into the second, so that nothing costs more than what changes;
//! a change that is taken back before it was sent leaves nothing to send.
//!
//! ```text
//!   runs ◄──────── under way ─────── sent ◄──────── back ─────── wanted
//!     ▲      (while a delta is out)                                 │
//!     └───────────── both, should it be refused ────────────────────┘
//! ```

use std::time::{Duration, Instant};

use levee_api::program::Generation;

use super::{Outcome, Request};
use crate::plan::{Change, Plan};

/// Times of the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How often a quiet dataplane is asked which generation it runs. A restarted dataplane has no program until then, so
    /// this bounds how long it stands empty; the question costs it microseconds.
    pub resync: Duration,
    /// First pause after a failure; doubled with each further one.
    pub first_pause: Duration,
    /// Longest pause.
    pub longest_pause: Duration,
    /// When to try a refused program again, if no other is wanted meanwhile: its cause may have been on the other side.
    pub retry_refused: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            resync: Duration::from_secs(1),
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(2),
            retry_refused: Duration::from_secs(30),
        }
    }
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Carry this, and report with [`Sync::finished`].
    Send(Request),
    /// Nothing until this instant, unless another program is wanted before.
    WaitUntil(Instant),
    /// Nothing until what is under way has finished.
    WaitForAnswer,
}

/// How the dataplane and we stand, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Not asked yet.
    Unknown,
    /// It answers, and does not run what is wanted yet; or nothing is wanted yet.
    Reached,
    /// It runs what is wanted.
    InStep,
    /// It does not take what is wanted; it runs what it had.
    Refused(String),
    /// It cannot be reached.
    Unreachable(String),
}

/// What is under way.
#[derive(Debug)]
enum UnderWay {
    /// A question.
    Status,
    /// A program of this generation.
    Program {
        generation: Generation,
        /// The way from it to what runs, if that is known: for a delta.
        back: Option<Change>,
    },
}

/// The state machine that decides what is said to a dataplane, and when.
#[derive(Debug)]
pub struct Sync {
    settings: Settings,
    wanted: Option<Plan>,
    /// Process and generation that the dataplane told last; forgotten when it could have changed unseen.
    told: Option<(u32, Generation)>,
    /// Process and generation whose program we know to the last byte: `back` leads to it (while something is under way,
    /// `back` leads to that).
    running: Option<(u32, Generation)>,
    /// The way from what is wanted to what runs, or will when what is under way has arrived.
    back: Change,
    under_way: Option<UnderWay>,
    /// Failures in a row.
    failures: u32,
    not_before: Option<Instant>,
    next_check: Option<Instant>,
    /// `wanted` was refused; this is when to try again.
    refused_until: Option<Instant>,
    /// Greatest generation that we have used or seen.
    highest: Generation,
    link: Link,
}

impl Sync {
    /// Nothing is wanted and nothing known.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Sync {
            settings,
            wanted: None,
            told: None,
            running: None,
            back: Change::default(),
            under_way: None,
            failures: 0,
            not_before: None,
            next_check: None,
            refused_until: None,
            highest: 0,
            link: Link::Unknown,
        }
    }

    /// From now on this should run, which is the wanted program with a change; the first makes it out of nothing. Returns
    /// whether that is something new.
    pub fn want(&mut self, change: Change) -> bool {
        let is_first = self.wanted.is_none();
        let wanted = self.wanted.get_or_insert_default();
        let back = wanted.apply(change);
        let is_new = is_first || !back.is_empty();
        if is_new {
            // Without something to lead back to, everything is sent.
            if self.running.is_some() || matches!(self.under_way, Some(UnderWay::Program { .. })) {
                let before = std::mem::take(&mut self.back);
                self.back = back.then(before).without(wanted);
            }
            self.refused_until = None;
            if self.link == Link::InStep && self.is_behind() {
                self.link = Link::Reached;
            }
        }
        is_new
    }

    /// What is wanted.
    #[must_use]
    pub fn wanted(&self) -> Option<&Plan> {
        self.wanted.as_ref()
    }

    /// How the dataplane and we stand.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The generation that the dataplane runs, as far as we know.
    #[must_use]
    pub fn generation(&self) -> Option<Generation> {
        self.told.map(|(_, generation)| generation)
    }

    /// Whether the dataplane is known to run what is wanted.
    #[must_use]
    pub fn is_in_step(&self) -> bool {
        self.wanted.is_some() && !self.is_behind() && self.told.is_some()
    }

    /// Whether something else is wanted than what is known to run.
    fn is_behind(&self) -> bool {
        let on_the_way = matches!(self.under_way, Some(UnderWay::Program { .. }));
        self.wanted.is_some() && (self.running.is_none() || on_the_way || !self.back.is_empty())
    }

    /// What to do now.
    pub fn step(&mut self, now: Instant) -> Step {
        if self.under_way.is_some() {
            return Step::WaitForAnswer;
        }
        if let Some(not_before) = self.not_before.filter(|not_before| *not_before > now) {
            return Step::WaitUntil(not_before);
        }
        let Some((pid, _)) = self.told else {
            return self.ask();
        };
        if self.refused_until.is_some_and(|until| until <= now) {
            self.refused_until = None;
        }
        if self.is_behind() && self.refused_until.is_none() {
            return self.send(pid);
        }
        match self.next_check {
            Some(next_check) if next_check > now => {
                Step::WaitUntil(self.refused_until.map_or(next_check, |until| until.min(next_check)))
            }
            _ => self.ask(),
        }
    }

    fn ask(&mut self) -> Step {
        self.under_way = Some(UnderWay::Status);
        Step::Send(Request::Status)
    }

    /// Sends what is wanted: as a change of what runs, if that is known.
    fn send(&mut self, pid: u32) -> Step {
        let wanted = self.wanted.get_or_insert_default();
        let generation = self.highest.saturating_add(1);
        self.highest = generation;
        // From here on, what changes is on top of what is sent.
        let back = std::mem::take(&mut self.back);
        let (request, back) = match self.running {
            Some((running, base)) if running == pid => {
                (Request::Delta(wanted.delta(&back, base, generation)), Some(back))
            }
            _ => (Request::Full(wanted.program(generation)), None),
        };
        self.under_way = Some(UnderWay::Program { generation, back });
        Step::Send(request)
    }

    /// What was under way has come to this.
    pub fn finished(&mut self, now: Instant, outcome: Outcome) {
        let (sent, back) = match self.under_way.take() {
            Some(UnderWay::Program { generation, back }) => (Some(generation), back),
            Some(UnderWay::Status) | None => (None, None),
        };
        match outcome {
            Outcome::Status { generation, pid } => {
                self.highest = self.highest.max(generation);
                self.told = Some((pid, generation));
                if self.running != self.told {
                    self.running = None;
                }
                self.succeeded(now);
            }
            Outcome::Applied { generation } => match self.told {
                Some((pid, _)) if sent == Some(generation) => {
                    self.told = Some((pid, generation));
                    self.running = self.told;
                    self.succeeded(now);
                }
                _ => {
                    self.running = None;
                    self.failed(
                        now,
                        format!("it answers that it runs generation {generation}, which was not asked for"),
                    );
                }
            },
            Outcome::Conflict { generation } => {
                // Somebody else has programmed it, or it has started anew. The full program goes out above it; at once the
                // first time, with pauses if that should repeat itself.
                self.running = None;
                self.highest = self.highest.max(generation.unwrap_or(0));
                if generation.is_none() {
                    self.told = None;
                }
                self.failures = self.failures.saturating_add(1);
                self.not_before = (self.failures > 1).then(|| now + self.pause());
            }
            Outcome::Refused(message) => {
                // It runs what it had, to which both ways together lead back.
                if let (Some(back), Some(wanted)) = (back, &self.wanted) {
                    self.back = std::mem::take(&mut self.back).then(back).without(wanted);
                } else if sent.is_some() {
                    self.running = None;
                }
                self.refused_until = Some(now + self.settings.retry_refused);
                self.next_check = Some(now + self.settings.resync);
                self.link = Link::Refused(message);
            }
            Outcome::Unreachable(message) => {
                // A program whose answer was lost may have been taken: then what runs is not known any more.
                if sent.is_some() {
                    self.running = None;
                }
                self.failed(now, message);
            }
        }
        if self.running.is_none() {
            self.back = Change::default();
        }
    }

    fn succeeded(&mut self, now: Instant) {
        self.failures = 0;
        self.not_before = None;
        self.next_check = Some(now + self.settings.resync);
        // A refusal stays on record until something else is wanted or taken.
        if !self.is_behind() || self.refused_until.is_none() {
            self.refused_until = None;
            self.link = if self.is_in_step() { Link::InStep } else { Link::Reached };
        }
    }

    fn failed(&mut self, now: Instant, message: String) {
        self.told = None;
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + self.pause());
        self.link = Link::Unreachable(message);
    }

    /// Doubled with each failure in a row, up to a limit.
    fn pause(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(16);
        self.settings.first_pause.saturating_mul(1 << doublings).min(self.settings.longest_pause)
    }
}

#[cfg(test)]
mod tests;
