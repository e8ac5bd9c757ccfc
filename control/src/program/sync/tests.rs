//! The state machine against a double of the dataplane.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::IpAddr;

use levee_api::program::{Delta, Program, Vip};
use proptest::prelude::*;

use super::*;

fn program(vips: &[u8]) -> Program {
    let vips = vips.iter().map(|last| Vip { address: IpAddr::from([192, 0, 2, *last]), announce: true });
    Program { vips: vips.collect(), generation: 1, ..Program::default() }.canonical()
}

/// Has this program be wanted, by what it changes.
fn want(sync: &mut Sync, program: Program) -> bool {
    let plan = Plan::from(program);
    let change = sync.wanted().unwrap_or(&Plan::default()).to(&plan);
    let is_new = sync.want(change);
    assert_eq!(sync.wanted(), Some(&plan));
    is_new
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
    assert_eq!((sync.is_in_step(), sync.link()), (false, &Link::Reached));
    assert!(want(&mut sync, program(&[1])));
    settle(&mut sync, &mut dataplane, now);
    assert!(want(&mut sync, program(&[1, 2])));
    assert_eq!((sync.is_in_step(), sync.link()), (false, &Link::Reached));
    assert!(!want(&mut sync, program(&[1, 2])), "the same again is nothing new");
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
    want(&mut sync, program(&[1]));
    settle(&mut sync, &mut dataplane, now);
    assert_eq!((dataplane.program.generation, dataplane.seen.as_slice()), (42, &["status", "full"][..]));
}

#[test]
fn a_new_dataplane_gets_everything_within_one_check() {
    let (now, mut sync, mut dataplane) = (Instant::now(), Sync::new(Settings::default()), Dataplane::new(1));
    want(&mut sync, program(&[1]));
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
    want(&mut sync, program(&[1]));
    settle(&mut sync, &mut dataplane, now);
    // Somebody else programs it between two checks; our delta meets 409.
    dataplane.program = Program { generation: 100, ..program(&[9]) };
    want(&mut sync, program(&[1, 2]));
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
    want(&mut sync, program(&[1]));
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
    want(&mut sync, program(&[1]));
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
    want(&mut sync, program(&[2]));
    settle(&mut sync, &mut dataplane, now);
    assert_eq!((sync.link(), dataplane.program.vips), (&Link::InStep, program(&[2]).vips));
}

#[test]
fn an_absent_dataplane_is_asked_with_growing_pauses() {
    let (start, mut sync) = (Instant::now(), Sync::new(Settings::default()));
    want(&mut sync, program(&[1]));
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
    want(&mut sync, program(&[1]));
    settle(&mut sync, &mut dataplane, now);
    // The check is lost: a delta goes out afterwards.
    let now = now + seconds(1);
    assert_eq!(sync.step(now), Step::Send(Request::Status));
    sync.finished(now, Outcome::Unreachable("slow".to_owned()));
    want(&mut sync, program(&[1, 2]));
    let now = now + seconds(1);
    settle(&mut sync, &mut dataplane, now);
    assert_eq!(dataplane.seen, ["status", "full", "status", "delta"]);
    // The delta is taken, but its answer is lost.
    want(&mut sync, program(&[1, 2, 3]));
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
    want(&mut sync, program(&[1]));
    let Step::Send(status) = sync.step(now) else { panic!("status") };
    let outcome = dataplane.answer(status);
    sync.finished(now, outcome);
    let Step::Send(full) = sync.step(now) else { panic!("full") };
    want(&mut sync, program(&[2]));
    want(&mut sync, program(&[3]));
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
    Refuse,
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
        1 => Just(Happening::Refuse),
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
        want(&mut sync, wanted.clone());
        let mut highest = 0;
        for happening in happenings {
            match happening {
                Happening::Want(vips) => {
                    wanted = program(&vips);
                    want(&mut sync, wanted.clone());
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
                Happening::LoseAnswer | Happening::LoseRequest | Happening::Refuse | Happening::Answer => {
                    if let Step::Send(request) = sync.step(now) {
                        if let Request::Full(Program { generation, .. }) | Request::Delta(Delta { generation, .. }) = request {
                            prop_assert!(generation > highest, "generations only grow");
                            highest = generation;
                        }
                        let outcome = match happening {
                            Happening::LoseRequest => Outcome::Unreachable("lost".to_owned()),
                            Happening::Refuse if request != Request::Status => Outcome::Refused("no room".to_owned()),
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
        // Left in peace, it is in step after the longest pause and one check; after half a minute, if it was refused.
        for _ in 0..12 {
            now += seconds(3);
            settle(&mut sync, &mut dataplane, now);
        }
        prop_assert!(sync.is_in_step());
        prop_assert_eq!(&dataplane.program.vips, &wanted.vips);
    }
}
