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

use std::time::{Duration, Instant};

use levee_api::program::{Delta, Generation, Program};

use super::{Outcome, Request};

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

/// A dataplane's state as far as we know it.
#[derive(Debug, Clone)]
struct Running {
    pid: u32,
    program: Program,
}

/// The state machine that decides what is said to a dataplane, and when.
#[derive(Debug)]
pub struct Sync {
    settings: Settings,
    wanted: Option<Program>,
    /// Process and generation that the dataplane told last; forgotten when it could have changed unseen.
    told: Option<(u32, Generation)>,
    /// What it runs, if we know it to the last byte.
    running: Option<Running>,
    /// `wanted` is something else than what runs.
    behind: bool,
    /// Under way: the program that it will lead to, if it is one.
    under_way: Option<Option<Program>>,
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
            behind: false,
            under_way: None,
            failures: 0,
            not_before: None,
            next_check: None,
            refused_until: None,
            highest: 0,
            link: Link::Unknown,
        }
    }

    /// This program should run from now on; its generation is of no account. Returns whether that is something new.
    pub fn want(&mut self, program: Program) -> bool {
        let is_new = self.wanted.as_ref().is_none_or(|wanted| !same(wanted, &program));
        if is_new {
            self.wanted = Some(program);
            self.refused_until = None;
            self.compare();
            if self.link == Link::InStep && self.behind {
                self.link = Link::Reached;
            }
        }
        is_new
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
        self.wanted.is_some() && !self.behind && self.running.is_some() && self.told.is_some()
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
            return self.send(Request::Status, None);
        };
        if self.refused_until.is_some_and(|until| until <= now) {
            self.refused_until = None;
        }
        if let Some(wanted) = self.wanted.as_ref().filter(|_| self.behind && self.refused_until.is_none()) {
            let program = Program { generation: self.highest.saturating_add(1), ..wanted.clone() };
            self.highest = program.generation;
            let request = match &self.running {
                Some(running) if running.pid == pid => Request::Delta(Delta::between(&running.program, &program)),
                _ => Request::Full(program.clone()),
            };
            return self.send(request, Some(program));
        }
        match self.next_check {
            Some(next_check) if next_check > now => {
                Step::WaitUntil(self.refused_until.map_or(next_check, |until| until.min(next_check)))
            }
            _ => self.send(Request::Status, None),
        }
    }

    fn send(&mut self, request: Request, leads_to: Option<Program>) -> Step {
        self.under_way = Some(leads_to);
        Step::Send(request)
    }

    /// What was under way has come to this.
    pub fn finished(&mut self, now: Instant, outcome: Outcome) {
        let leads_to = self.under_way.take().flatten();
        match outcome {
            Outcome::Status { generation, pid } => {
                self.highest = self.highest.max(generation);
                self.told = Some((pid, generation));
                let known = |running: &Running| running.pid == pid && running.program.generation == generation;
                if !self.running.as_ref().is_some_and(known) {
                    self.running = None;
                }
                self.succeeded(now);
            }
            Outcome::Applied { generation } => match (leads_to, self.told) {
                (Some(program), Some((pid, _))) if program.generation == generation => {
                    self.told = Some((pid, generation));
                    self.running = Some(Running { pid, program });
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
                self.compare();
            }
            Outcome::Refused(message) => {
                // It runs what it had; `running` still says what that is.
                self.refused_until = Some(now + self.settings.retry_refused);
                self.next_check = Some(now + self.settings.resync);
                self.link = Link::Refused(message);
            }
            Outcome::Unreachable(message) => {
                // A program whose answer was lost may have been taken: then what runs is not known any more.
                if leads_to.is_some() {
                    self.running = None;
                }
                self.failed(now, message);
            }
        }
    }

    fn succeeded(&mut self, now: Instant) {
        self.failures = 0;
        self.not_before = None;
        self.next_check = Some(now + self.settings.resync);
        self.compare();
        // A refusal stays on record until something else is wanted or taken.
        if !self.behind || self.refused_until.is_none() {
            self.refused_until = None;
            self.link = if self.is_in_step() { Link::InStep } else { Link::Reached };
        }
    }

    fn failed(&mut self, now: Instant, message: String) {
        self.told = None;
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + self.pause());
        self.link = Link::Unreachable(message);
        self.compare();
    }

    /// Doubled with each failure in a row, up to a limit.
    fn pause(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(16);
        self.settings.first_pause.saturating_mul(1 << doublings).min(self.settings.longest_pause)
    }

    fn compare(&mut self) {
        self.behind = match (&self.wanted, &self.running) {
            (Some(wanted), Some(running)) => !same(wanted, &running.program),
            (Some(_), None) => true,
            (None, _) => false,
        };
    }
}

/// Whether two programs say the same, whatever their generations.
fn same(a: &Program, b: &Program) -> bool {
    let Program { generation: _, local, service_ranges, vips, announce_in_term, services } = a;
    *announce_in_term == b.announce_in_term
        && *local == b.local
        && *service_ranges == b.service_ranges
        && *vips == b.vips
        && *services == b.services
}

#[cfg(test)]
mod tests;
