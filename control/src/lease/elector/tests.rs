//! Known stories, and a model check: candidates under clocks that drift and stand still, and a network that delays, loses and
//! reorders, before the write and after it.

use proptest::prelude::*;

use super::*;

fn at(millis: u64) -> Moment {
    Moment::since_boot(Duration::from_millis(millis))
}

fn held(version: &str, holder: &str) -> Option<Record> {
    let duration = Terms::balancer().duration();
    Some(Record { version: version.into(), holder: Some(holder.into()), duration, transitions: 3 })
}

#[test]
fn a_lease_that_is_not_there_is_created_and_renewed() {
    let mut elector = Elector::new("a", Terms::balancer());
    assert_eq!(elector.step(at(0)), Step::Read);
    assert_eq!(elector.step(at(0)), Step::WaitForAnswer);
    elector.finished(at(5), Outcome::Read(None));
    let Step::Write(write) = elector.step(at(5)) else { panic!("not taken") };
    assert_eq!((write.version, write.change, write.holder.as_deref()), (None, Change::Take, Some("a")));
    assert_eq!(elector.tenure(at(9)), None, "not before the answer");
    elector.finished(at(10), Outcome::Written("1".into()));
    // From before it was sent, not from when the answer came.
    assert_eq!(elector.tenure(at(10)), Some(Tenure { since: at(10), until: at(755) }));
    assert_eq!(elector.step(at(10)), Step::WaitUntil(at(205)));
    let Step::Write(write) = elector.step(at(205)) else { panic!("not renewed") };
    assert_eq!((write.version.as_deref(), write.change, write.transitions), (Some("1"), Change::Renew, 0));
    elector.finished(at(210), Outcome::Written("2".into()));
    assert_eq!(elector.tenure(at(210)), Some(Tenure { since: at(10), until: at(955) }), "the same tenure, longer");
    assert_eq!(elector.tenure(at(955)), None);
}

#[test]
fn anothers_lease_is_taken_when_it_was_not_seen_to_change() {
    let mut elector = Elector::new("a", Terms::balancer());
    elector.step(at(0));
    elector.finished(at(50), Outcome::Read(held("7", "b")));
    for (now, version) in [(250, "8"), (450, "8"), (650, "8"), (850, "8"), (1050, "8")] {
        assert_eq!(elector.step(at(now)), Step::Read);
        elector.finished(at(now), Outcome::Read(held(version, "b")));
        assert_eq!(elector.tenure(at(now)), None);
    }
    elector.step(at(1460));
    elector.finished(at(1460), Outcome::Read(held("8", "b")));
    let Step::Write(write) = elector.step(at(1460)) else { panic!("not taken after a second without a change") };
    assert_eq!((write.version.as_deref(), write.transitions), (Some("8"), 4));
    elector.finished(at(1470), Outcome::Conflict);
    assert_eq!(elector.step(at(1470)), Step::Read, "somebody was faster");
}

#[test]
fn a_break_is_another_tenure() {
    let mut elector = Elector::new("a", Terms::balancer());
    elector.step(at(0));
    elector.finished(at(0), Outcome::Read(None));
    elector.step(at(0));
    elector.finished(at(0), Outcome::Written("1".into()));
    elector.step(at(200));
    elector.finished(at(575), Outcome::Failed);
    assert_eq!(elector.tenure(at(749)).map(|tenure| tenure.until), Some(at(750)));
    assert_eq!(elector.step(at(600)), Step::Read, "what became of it is not known");
    elector.finished(at(800), Outcome::Read(held("2", "a")));
    assert_eq!(elector.tenure(at(800)), None, "ours by name, and not by time");
    elector.step(at(800));
    elector.finished(at(810), Outcome::Written("3".into()));
    assert_eq!(elector.tenure(at(810)), Some(Tenure { since: at(810), until: at(1550) }));
}

#[test]
fn what_is_released_is_free_at_once_and_stays_so() {
    let mut elector = Elector::new("a", Terms::balancer());
    elector.step(at(0));
    elector.finished(at(0), Outcome::Read(None));
    elector.step(at(0));
    elector.finished(at(0), Outcome::Written("1".into()));
    elector.release();
    assert_eq!(elector.tenure(at(1)), None);
    let Step::Write(write) = elector.step(at(1)) else { panic!("not released") };
    assert_eq!((write.change, write.holder), (Change::Release, None));
    elector.finished(at(2), Outcome::Written("2".into()));
    assert!(elector.is_released());
    assert!(matches!(elector.step(at(5000)), Step::WaitUntil(_)));
}

/// The server, as far as it matters: one object under a version.
#[derive(Default)]
struct Server {
    record: Option<Record>,
    writes: u64,
}

impl Server {
    fn carry(&mut self, step: &Step, duration: Duration) -> Outcome {
        match step {
            Step::Read => Outcome::Read(self.record.clone()),
            Step::Write(write) => {
                if write.version != self.record.as_ref().map(|record| record.version.clone()) {
                    return Outcome::Conflict;
                }
                self.writes += 1;
                let version = self.writes.to_string();
                let (holder, transitions) = (write.holder.clone(), write.transitions);
                self.record = Some(Record { version: version.clone(), holder, duration, transitions });
                Outcome::Written(version)
            }
            _ => Outcome::Failed,
        }
    }
}

/// One candidate's machine. Its clock began some time ago, and is up to 1 % fast or slow.
struct Machine {
    elector: Elector,
    ahead: u64,
    percent: i64,
    /// Real time at which it turns next.
    wakes: u64,
    /// A request on its way: when it is carried out, when its answer arrives, and the answer, once there is one.
    under_way: Option<UnderWay>,
    /// Requests that it has given up, and that may be carried out all the same.
    late: Vec<(u64, Step)>,
}

struct UnderWay {
    step: Option<Step>,
    carried: u64,
    answered: u64,
    outcome: Option<Outcome>,
}

impl Machine {
    fn clock(&self, real: u64) -> Moment {
        let drift = i64::try_from(real).unwrap() * self.percent / 100;
        at(real.checked_add_signed(drift).unwrap() + self.ahead)
    }
}

/// What the world does to one request or one turn; taken in order, again and again.
#[derive(Debug, Clone)]
struct Chance {
    /// Time to the server, and back.
    there: u64,
    back: u64,
    /// The machine stands still for so long before it turns again.
    pause: u64,
    release: bool,
}

fn chances() -> impl Strategy<Value = Vec<Chance>> {
    // Mostly quick; sometimes slower than patience, deadline or duration.
    let delay = prop_oneof![8 => 0u64..40, 2 => 0u64..600, 1 => 0u64..4000];
    let pause = prop_oneof![12 => Just(0u64), 2 => 0u64..700, 1 => 0u64..5000];
    let one = (delay.clone(), delay, pause, proptest::bool::weighted(0.004));
    proptest::collection::vec(
        one.prop_map(|(there, back, pause, release)| Chance { there, back, pause, release }),
        40..400,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// At every millisecond of a minute, at most one machine believes by its own clock that the Lease is its.
    #[test]
    fn there_are_never_two(
        clocks in proptest::collection::vec((0u64..100_000, -1i64..=1), 2..5),
        chances in chances(),
    ) {
        let terms = Terms::balancer();
        let mut server = Server::default();
        let mut machines: Vec<Machine> = clocks.iter().enumerate().map(|(index, (ahead, percent))| Machine {
            elector: Elector::new(format!("m{index}"), terms),
            ahead: *ahead,
            percent: *percent,
            wakes: 0,
            under_way: None,
            late: Vec::new(),
        }).collect();
        let mut chances = chances.iter().cycle();
        let mut tenures = 0;
        let mut last = None;
        for real in 0..60_000u64 {
            for machine in &mut machines {
                // What was given up is carried out late, or never noticed.
                machine.late.retain(|(when, step)| {
                    if *when <= real {
                        server.carry(step, terms.duration());
                    }
                    *when > real
                });
                if let Some(under_way) = machine.under_way.as_mut().filter(|it| it.outcome.is_none() && it.carried <= real) {
                    under_way.outcome = under_way.step.take().map(|step| server.carry(&step, terms.duration()));
                }
                if machine.wakes > real {
                    continue;
                }
                let now = machine.clock(real);
                if let Some(under_way) = machine.under_way.take_if(|it| it.answered <= real) {
                    machine.elector.finished(now, under_way.outcome.unwrap_or(Outcome::Failed));
                    continue;
                }
                if let step @ (Step::Read | Step::Write(_)) = machine.elector.step(now) {
                    let chance = chances.next().unwrap();
                    let patience = u64::try_from(terms.patience().as_millis()).unwrap();
                    let carried = real + chance.there;
                    let lost = chance.there + chance.back > patience;
                    machine.under_way = Some(if lost {
                        // Given up; carried out all the same, before or after that.
                        machine.late.push((carried, step));
                        UnderWay { step: None, carried: u64::MAX, answered: real + patience, outcome: Some(Outcome::Failed) }
                    } else {
                        UnderWay { step: Some(step), carried, answered: carried + chance.back, outcome: None }
                    });
                    if chance.pause > 0 {
                        machine.wakes = real + chance.pause;
                    }
                    if chance.release && machine.elector.tenure(now).is_some() {
                        let me = machine.elector.me().to_owned();
                        machine.elector.release();
                        prop_assert!(machine.elector.tenure(now).is_none());
                        // It begins anew, as another process; the old one is as if killed.
                        machine.elector = Elector::new(format!("{me}'"), terms);
                        machine.under_way = None;
                    }
                }
            }
            let holders: Vec<&str> = machines
                .iter()
                .filter(|machine| machine.elector.tenure(machine.clock(real)).is_some())
                .map(|machine| machine.elector.me())
                .collect();
            prop_assert!(holders.len() <= 1, "at {real}: {holders:?}");
            if let Some(holder) = holders.first().filter(|holder| last.as_deref() != Some(**holder)) {
                last = Some((*holder).to_owned());
                tenures += 1;
            }
        }
        // A check in which nobody ever holds anything would be none.
        prop_assert!(tenures > 0);
    }
}
