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
    /// It runs what is wanted, or will as soon as the request under way is answered.
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

/// The state machine: see the [module](self).
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
            self.link = Link::InStep;
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
    let Program { generation: _, local, service_ranges, vips, services } = a;
    *local == b.local && *service_ranges == b.service_ranges && *vips == b.vips && *services == b.services
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::net::IpAddr;

    use levee_api::program::Vip;
    use proptest::prelude::*;

    use super::*;

    fn program(vips: &[u8]) -> Program {
        let vips = vips.iter().map(|last| Vip { address: IpAddr::from([192, 0, 2, *last]), announce: true });
        Program { vips: vips.collect(), generation: 1, ..Program::default() }.canonical()
    }

    /// A dataplane as the protocol says it is.
    struct Dataplane {
        pid: u32,
        program: Program,
        seen: Vec<&'static str>,
    }

    impl Dataplane {
        fn new(pid: u32) -> Self {
            Dataplane { pid, program: Program::default(), seen: Vec::new() }
        }

        fn answer(&mut self, request: Request) -> Outcome {
            match request {
                Request::Status => {
                    self.seen.push("status");
                    Outcome::Status { generation: self.program.generation, pid: self.pid }
                }
                Request::Full(program) => {
                    self.seen.push("full");
                    if program.generation <= self.program.generation {
                        return Outcome::Conflict { generation: Some(self.program.generation) };
                    }
                    self.program = program;
                    Outcome::Applied { generation: self.program.generation }
                }
                Request::Delta(delta) => {
                    self.seen.push("delta");
                    if delta.base != self.program.generation || delta.generation <= delta.base {
                        return Outcome::Conflict { generation: Some(self.program.generation) };
                    }
                    self.program = delta.apply(&self.program);
                    Outcome::Applied { generation: self.program.generation }
                }
            }
        }
    }

    /// Runs until there is nothing to do at this instant.
    fn settle(sync: &mut Sync, dataplane: &mut Dataplane, now: Instant) {
        for _ in 0..20 {
            match sync.step(now) {
                Step::Send(request) => {
                    let outcome = dataplane.answer(request);
                    sync.finished(now, outcome);
                }
                Step::WaitUntil(until) => {
                    assert!(until > now);
                    return;
                }
                Step::WaitForAnswer => panic!("nothing is under way"),
            }
        }
        panic!("it does not settle: {sync:?}");
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn first_everything_then_changes() {
        let (now, mut sync, mut dataplane) = (Instant::now(), Sync::new(Settings::default()), Dataplane::new(1));
        settle(&mut sync, &mut dataplane, now);
        assert_eq!(dataplane.seen, ["status"], "nothing is wanted yet");
        assert!(sync.want(program(&[1])));
        settle(&mut sync, &mut dataplane, now);
        assert!(sync.want(program(&[1, 2])));
        assert!(!sync.want(program(&[1, 2])), "the same again is nothing new");
        settle(&mut sync, &mut dataplane, now);
        assert_eq!(dataplane.seen, ["status", "full", "delta"]);
        assert_eq!(dataplane.program.vips, program(&[1, 2]).vips);
        assert!(sync.is_in_step());
        assert_eq!((sync.generation(), sync.link()), (Some(2), &Link::InStep));
    }

    #[test]
    fn a_new_control_process_goes_on_above_the_dataplanes_generation() {
        let (now, mut dataplane) = (Instant::now(), Dataplane::new(1));
        dataplane.program.generation = 41;
        let mut sync = Sync::new(Settings::default());
        sync.want(program(&[1]));
        settle(&mut sync, &mut dataplane, now);
        assert_eq!(dataplane.program.generation, 42);
    }

    #[test]
    fn a_new_dataplane_gets_everything_within_one_check() {
        let (now, mut sync, mut dataplane) = (Instant::now(), Sync::new(Settings::default()), Dataplane::new(1));
        sync.want(program(&[1]));
        settle(&mut sync, &mut dataplane, now);
        let mut restarted = Dataplane::new(2);
        settle(&mut sync, &mut restarted, now + seconds(1));
        assert_eq!(restarted.seen, ["status", "full"]);
        // Also one that somebody has brought to the very generation that we know.
        let mut impostor = Dataplane::new(3);
        impostor.program.generation = restarted.program.generation;
        settle(&mut sync, &mut impostor, now + seconds(2));
        assert_eq!(impostor.program.vips, program(&[1]).vips);
    }

    #[test]
    fn a_dataplane_that_changed_unseen_is_told_everything() {
        let (now, mut sync, mut dataplane) = (Instant::now(), Sync::new(Settings::default()), Dataplane::new(1));
        sync.want(program(&[1]));
        settle(&mut sync, &mut dataplane, now);
        // Somebody else programs it between two checks; our delta meets 409.
        dataplane.program = Program { generation: 100, ..program(&[9]) };
        sync.want(program(&[1, 2]));
        settle(&mut sync, &mut dataplane, now);
        assert_eq!(dataplane.seen, ["status", "full", "delta", "full"]);
        assert_eq!((dataplane.program.generation, &dataplane.program.vips), (101, &program(&[1, 2]).vips));
        // Or a check finds it out.
        dataplane.program = Program { generation: 200, ..program(&[9]) };
        settle(&mut sync, &mut dataplane, now + seconds(1));
        assert_eq!(dataplane.program.vips, program(&[1, 2]).vips);
    }

    #[test]
    fn conflicts_that_repeat_themselves_are_met_with_pauses() {
        let (now, mut sync) = (Instant::now(), Sync::new(Settings::default()));
        sync.want(program(&[1]));
        let mut requests = 0;
        loop {
            match sync.step(now) {
                Step::Send(Request::Status) => sync.finished(now, Outcome::Status { generation: 5, pid: 1 }),
                Step::Send(_) => {
                    requests += 1;
                    sync.finished(now, Outcome::Conflict { generation: Some(requests * 1000) });
                }
                Step::WaitUntil(_) => break,
                Step::WaitForAnswer => panic!("nothing is under way"),
            }
            assert!(requests < 10, "no pause");
        }
        assert_eq!(requests, 2);
    }

    #[test]
    fn a_refused_program_is_not_said_again_and_again() {
        let (now, mut sync) = (Instant::now(), Sync::new(Settings::default()));
        sync.want(program(&[1]));
        let mut programs = 0;
        let mut now = now;
        let end = now + seconds(65);
        while now < end {
            match sync.step(now) {
                Step::Send(Request::Status) => sync.finished(now, Outcome::Status { generation: 0, pid: 1 }),
                Step::Send(_) => {
                    programs += 1;
                    sync.finished(now, Outcome::Refused("no room".to_owned()));
                }
                Step::WaitUntil(until) => now = until,
                Step::WaitForAnswer => panic!("nothing is under way"),
            }
        }
        assert_eq!(programs, 3, "at once, after 30 s, after 60 s");
        assert_eq!(sync.link(), &Link::Refused("no room".to_owned()));
        // Another one is tried at once, and the record is clean when it is taken.
        let mut dataplane = Dataplane::new(1);
        sync.want(program(&[2]));
        settle(&mut sync, &mut dataplane, now);
        assert_eq!((sync.link(), dataplane.program.vips), (&Link::InStep, program(&[2]).vips));
    }

    #[test]
    fn an_absent_dataplane_is_asked_with_growing_pauses() {
        let (start, mut sync) = (Instant::now(), Sync::new(Settings::default()));
        sync.want(program(&[1]));
        let mut now = start;
        let mut pauses = Vec::new();
        while pauses.len() < 10 {
            match sync.step(now) {
                Step::Send(request) => {
                    assert_eq!(request, Request::Status);
                    sync.finished(now, Outcome::Unreachable("nobody".to_owned()));
                }
                Step::WaitUntil(until) => {
                    pauses.push((until - now).as_millis());
                    now = until;
                }
                Step::WaitForAnswer => panic!("nothing is under way"),
            }
        }
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1600, 2000, 2000, 2000, 2000]);
        assert!(matches!(sync.link(), Link::Unreachable(_)));
    }

    #[test]
    fn a_lost_answer_to_a_program_leads_to_everything_again_a_lost_status_does_not() {
        let (now, mut sync, mut dataplane) = (Instant::now(), Sync::new(Settings::default()), Dataplane::new(1));
        sync.want(program(&[1]));
        settle(&mut sync, &mut dataplane, now);
        // The check is lost: a delta goes out afterwards.
        let now = now + seconds(1);
        assert_eq!(sync.step(now), Step::Send(Request::Status));
        sync.finished(now, Outcome::Unreachable("slow".to_owned()));
        sync.want(program(&[1, 2]));
        let now = now + seconds(1);
        settle(&mut sync, &mut dataplane, now);
        assert_eq!(dataplane.seen, ["status", "full", "status", "delta"]);
        // The delta is taken, but its answer is lost.
        sync.want(program(&[1, 2, 3]));
        let Step::Send(request) = sync.step(now) else { panic!("a delta") };
        assert!(matches!(dataplane.answer(request), Outcome::Applied { .. }));
        sync.finished(now, Outcome::Unreachable("slow".to_owned()));
        settle(&mut sync, &mut dataplane, now + seconds(1));
        assert_eq!(dataplane.seen, ["status", "full", "status", "delta", "delta", "status", "full"]);
        assert_eq!(dataplane.program.vips, program(&[1, 2, 3]).vips);
    }

    #[test]
    fn what_is_wanted_while_something_is_under_way_follows_it() {
        let (now, mut sync, mut dataplane) = (Instant::now(), Sync::new(Settings::default()), Dataplane::new(1));
        sync.want(program(&[1]));
        let Step::Send(status) = sync.step(now) else { panic!("status") };
        let outcome = dataplane.answer(status);
        sync.finished(now, outcome);
        let Step::Send(full) = sync.step(now) else { panic!("full") };
        sync.want(program(&[2]));
        sync.want(program(&[3]));
        assert_eq!(sync.step(now), Step::WaitForAnswer);
        let outcome = dataplane.answer(full);
        sync.finished(now, outcome);
        assert!(!sync.is_in_step());
        settle(&mut sync, &mut dataplane, now);
        assert_eq!(dataplane.seen, ["status", "full", "delta"]);
        assert_eq!(dataplane.program.vips, program(&[3]).vips);
    }

    /// What may happen.
    #[derive(Debug, Clone)]
    enum Happening {
        Want(Vec<u8>),
        Pass(u16),
        Restart,
        Meddle(u8),
        LoseAnswer,
        LoseRequest,
        Answer,
    }

    fn happening() -> impl Strategy<Value = Happening> {
        prop_oneof![
            3 => proptest::collection::vec(0..4u8, 0..3).prop_map(Happening::Want),
            3 => (0..3000u16).prop_map(Happening::Pass),
            1 => Just(Happening::Restart),
            1 => (0..9u8).prop_map(Happening::Meddle),
            1 => Just(Happening::LoseAnswer),
            1 => Just(Happening::LoseRequest),
            8 => Just(Happening::Answer),
        ]
    }

    proptest! {
        #[test]
        fn whatever_happened_it_ends_in_step(happenings in proptest::collection::vec(happening(), 0..60)) {
            let mut now = Instant::now();
            let mut sync = Sync::new(Settings::default());
            let mut dataplane = Dataplane::new(1);
            let mut wanted = program(&[7]);
            sync.want(wanted.clone());
            let mut highest = 0;
            for happening in happenings {
                match happening {
                    Happening::Want(vips) => {
                        wanted = program(&vips);
                        sync.want(wanted.clone());
                    }
                    Happening::Pass(milliseconds) => now += Duration::from_millis(milliseconds.into()),
                    Happening::Restart => dataplane = Dataplane::new(dataplane.pid + 1),
                    Happening::Meddle(by) => {
                        dataplane.program = Program { generation: dataplane.program.generation + u64::from(by), ..program(&[by]) };
                        // A meddler that keeps the generation cannot be seen; the protocol forbids it.
                        if by == 0 {
                            dataplane.program.generation += 1;
                        }
                    }
                    Happening::LoseAnswer | Happening::LoseRequest | Happening::Answer => {
                        if let Step::Send(request) = sync.step(now) {
                            if let Request::Full(Program { generation, .. }) | Request::Delta(Delta { generation, .. }) = request {
                                prop_assert!(generation > highest, "generations only grow");
                                highest = generation;
                            }
                            let outcome = match happening {
                                Happening::LoseRequest => Outcome::Unreachable("lost".to_owned()),
                                Happening::LoseAnswer => {
                                    let _ = dataplane.answer(request);
                                    Outcome::Unreachable("lost".to_owned())
                                }
                                _ => dataplane.answer(request),
                            };
                            sync.finished(now, outcome);
                        }
                    }
                }
            }
            // Left in peace, it is in step after the longest pause and one check.
            for _ in 0..6 {
                now += seconds(3);
                settle(&mut sync, &mut dataplane, now);
            }
            prop_assert!(sync.is_in_step());
            prop_assert_eq!(&dataplane.program.vips, &wanted.vips);
        }
    }
}
