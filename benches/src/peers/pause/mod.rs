//! The longest that a worker is busy with one turn in which every packet wants to begin a flow, and with what else a turn may have to do
//! meanwhile: how long whatever comes behind it waits.
//!
//! ```text
//!            turn 1   turn 2   turn 3   …            the same turns in each run: same keys, same packets, same clock
//!   run 1      7.1     31.0      7.3   …
//!   run 2      7.0      7.2     99.4   …              31.0 and 99.4: the core was somebody else's
//!   run 7      7.2      7.1      7.2   …
//!   least      7.0      7.1      7.2   …  ─► the longest of these
//! ```
//!
//! A clock on the wall cannot tell levee's work from what an interrupt, the scheduler or a hypervisor takes of the core meanwhile, and that is
//! more, and longer. But what a worker does is settled by what comes in: nothing in it is drawn by lot once its keys are. So
//! the same turns are played several times, each time by a worker of its own, and a turn takes what it took when it was disturbed least. What
//! levee does for long, it does for long in each run, and it stays in; what happens to a turn in one run and not in another is not levee's.
//! That the runs are the same is looked at, turn by turn and flow by flow.
//!
//! What this cannot show: caches, TLB and memory as they are when others use them too; a kernel's part; and packets that are not
//! played. That no turn's *work* can be more than so much is `flows::effort`'s to say, and tests count it.

mod lanes;

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crossbeam_channel::bounded;
use levee_api::program::Mode;
use levee_dataplane::counters::Counter;
use levee_dataplane::flows::Millis;
use levee_dataplane::intake::limits::FLUSH_PAGE;
use levee_dataplane::worker::{BATCH, Command, FlushAnswer, FlushQuery};
use serde_json::{Value, json};

use self::lanes::Lanes;
use crate::rig::{Rig, syn};

/// Times that everything is played.
const RUNS: usize = 7;

/// Turns of a run that are measured.
const TURNS: u32 = 5_000;

/// Turns at the beginning of a run for which little is in any cache: for the worker's very first, no code and no table.
const COLD: usize = 10;

/// How long after a turn the next one is, by the worker's clock: as much as there is for it to be behind with. It then looks for flows whose
/// time is over at as many entries as it ever does in one turn.
const APART: Millis = 11;

/// Flows that there is room for.
const ROOM: u32 = 1_000_000;

/// What a turn has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A batch of newcomers, by one lane.
    Batch,
    /// The same, and then a page of flows to forget, as `levee flow flush` asks for one after the other.
    Page,
    /// A batch of newcomers from each of a node's two ports and another from another worker.
    Lanes,
}

impl Kind {
    /// In the order of tables.
    pub const ALL: [Kind; 3] = [Kind::Batch, Kind::Page, Kind::Lanes];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Batch => f.write_str("a batch"),
            Kind::Page => write!(f, "a batch, and a page of {FLUSH_PAGE} flows flushed"),
            Kind::Lanes => f.write_str("three batches: uplink, pods, another worker"),
        }
    }
}

/// What newcomers come into.
#[derive(Debug, Clone, Copy)]
struct Scene {
    kind: Kind,
    /// As tables call it.
    name: &'static str,
    /// Of the one Service.
    backends: u16,
    room: u32,
    /// Flows that have had their SYN, …
    begun: u32,
    /// … and those of them that were acknowledged.
    acknowledged: u32,
    /// How long ago that was.
    ago: Millis,
    /// Whether tables change before each turn: what a worker has looked up before is then to be looked up again.
    changes: bool,
}

/// Half-open flows live for a minute: all turns of a run are within one.
const SCENES: [Scene; 9] = {
    let room = Scene {
        kind: Kind::Batch,
        name: "a table with room",
        backends: 100,
        room: ROOM,
        begun: 0,
        acknowledged: 0,
        ago: 0,
        changes: false,
    };
    // More than there is room for, so that none is left.
    let full = Scene { name: "a table full of half-open flows", begun: ROOM / 5 * 6, ..room };
    // As many as all turns of a run flush, so that there is a whole page for each of them.
    let flushed = TURNS * FLUSH_PAGE as u32;
    let flushed = if flushed > ROOM { flushed } else { ROOM };
    [
        room,
        Scene { name: "a table with room, other tables each turn", changes: true, ..room },
        full,
        Scene { name: "a table full of flows whose time is over", ago: 61_000, ..full },
        Scene { name: "a table full of established flows", acknowledged: ROOM, begun: ROOM, ..room },
        // Four addresses have 258,048 of them.
        Scene {
            name: "every source port towards the one backend in use",
            backends: 1,
            begun: 400_000,
            acknowledged: 400_000,
            ..room
        },
        Scene {
            kind: Kind::Page,
            name: "a table full of established flows",
            room: flushed,
            acknowledged: flushed,
            begun: flushed,
            ..room
        },
        Scene { kind: Kind::Lanes, ..room },
        Scene { kind: Kind::Lanes, name: "a table with room, other tables each turn", changes: true, ..room },
    ]
};

/// What newcomers took in one scene. See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Pause {
    /// What turns had to do.
    pub kind: Kind,
    /// What newcomers came into.
    pub scene: &'static str,
    /// Microseconds of each turn in the order of the run, each as it was when least disturbed.
    pub turns: Vec<f64>,
    /// Microseconds of the longest turn of any run, whoever made it long.
    pub seen: f64,
}

/// One run.
#[derive(Debug, Default)]
struct Run {
    /// What turns took.
    times: Vec<Duration>,
    /// What was done.
    deeds: Deeds,
}

/// What a worker has done: the same in each run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Deeds {
    /// After each turn: frames sent on, and flows begun.
    turns: Vec<(u64, u64)>,
    /// Flows that were forgotten because somebody asked for it.
    flushed: u64,
    /// At the end: everything that is counted.
    counters: Vec<(&'static str, u64)>,
    /// All flows in their order, with their ends, states and times.
    flows: u64,
}

impl Pause {
    /// All scenes: half a minute, and 200 MiB at a time. A scene's runs are not one after another: what disturbs
    /// the machine for a second disturbs one of them.
    ///
    /// # Panics
    /// If two runs are not the same; out of memory.
    #[must_use]
    pub fn all() -> Vec<Pause> {
        let mut runs = SCENES.map(|_| Vec::new());
        for _ in 0..RUNS {
            for (scene, runs) in SCENES.iter().zip(&mut runs) {
                runs.push(scene.run(TURNS));
            }
        }
        SCENES.iter().zip(&runs).map(|(scene, runs)| Pause::from(scene.kind, scene.name, runs)).collect()
    }

    /// What comes of some runs.
    fn from(kind: Kind, scene: &'static str, runs: &[Run]) -> Pause {
        let Some(first) = runs.first() else { return Pause { kind, scene, turns: Vec::new(), seen: 0.0 } };
        for run in runs {
            let same = first.deeds.turns.iter().zip(&run.deeds.turns).take_while(|(one, other)| one == other).count();
            assert!(
                first.deeds == run.deeds,
                "{scene}: two runs are the same for {same} turns, and then they are not: what their turns took cannot be compared"
            );
        }
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let least = |turn: usize| runs.iter().filter_map(|run| run.times.get(turn)).min().copied();
        let turns = (0..first.times.len()).filter_map(least).map(micros).collect();
        let seen = runs.iter().flat_map(|run| &run.times).max().copied().unwrap_or_default();
        Pause { kind, scene, turns, seen: micros(seen) }
    }

    /// The longest turn.
    #[must_use]
    pub fn longest(&self) -> f64 {
        self.at(1.0)
    }

    /// What this part of turns is not longer than.
    #[must_use]
    pub fn at(&self, part: f64) -> f64 {
        let mut sorted = self.turns.clone();
        sorted.sort_by(f64::total_cmp);
        let index = (part * sorted.len().saturating_sub(1) as f64) as usize;
        sorted.get(index).copied().unwrap_or(f64::NAN)
    }

    /// Which turn that was, from 1: one of many like it, or the first, which finds nothing in a cache.
    #[must_use]
    pub fn turn(&self) -> usize {
        1 + self.turns.iter().position(|time| *time == self.longest()).unwrap_or_default()
    }

    /// The longest of those that found the worker's own code and tables in caches: of all but the first ten.
    #[must_use]
    pub fn settled(&self) -> f64 {
        self.turns.iter().skip(COLD).copied().fold(f64::NAN, f64::max)
    }

    /// For `--json`.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "kind": self.kind.to_string(), "scene": self.scene, "turns": self.turns.len(), "p50_us": self.at(0.5), "p99_us": self.at(0.99),
            "longest_us": self.longest(), "longest_turn": self.turn(), "longest_settled_us": self.settled(),
            "longest_seen_us": self.seen, "turns_us": self.turns,
        })
    }
}

impl Scene {
    /// Plays it once.
    fn run(&self, turns: u32) -> Run {
        let room = self.room as usize;
        let (mut rig, mut lanes) = match self.kind {
            Kind::Batch | Kind::Page => (Rig::new(Mode::Nat, self.backends, room), None),
            Kind::Lanes => {
                let (rig, lanes) = Lanes::new(self.backends, room);
                (rig, Some(lanes))
            }
        };
        rig.establish(self.acknowledged);
        let mut segment = syn();
        rig.play(&mut segment, &mut (self.acknowledged..self.begun), u64::from(self.begun - self.acknowledged));
        rig.wait(self.ago);
        let mut run = Run::default();
        let (mut newcomers, mut cursor) = (self.begun.., 0);
        for _ in 0..turns {
            rig.wait(APART);
            if self.changes {
                rig.change_another();
            }
            let flushed = (self.kind == Kind::Page).then(|| flush(&rig, cursor));
            run.times.push(match &mut lanes {
                Some(lanes) => lanes.turn(&mut rig),
                None => rig.play(&mut segment, &mut newcomers, BATCH as u64),
            });
            if let Some(flushed) = flushed {
                let answer = flushed.try_recv().expect("it was asked before its turn");
                (cursor, run.deeds.flushed) = (answer.next.unwrap_or(0), run.deeds.flushed + answer.flushed);
            }
            run.deeds.turns.push((rig.forwarded(), rig.handle.counters.get(Counter::FlowsCreated)));
        }
        let counted = Counter::ALL.iter().map(|counter| (counter.name(), rig.handle.counters.get(*counter)));
        run.deeds.counters = counted.chain(rig.drops()).collect();
        let mut flows = DefaultHasher::new();
        rig.each_flow(|flow| {
            let ends = [flow.client(), flow.frontend(), flow.backend(), flow.source()];
            (ends, flow.last(), flow.state as u8).hash(&mut flows);
        });
        run.deeds.flows = flows.finish();
        run
    }
}

/// Asks for a page of flows to be forgotten, in the next turn.
fn flush(rig: &Rig, cursor: u32) -> crossbeam_channel::Receiver<FlushAnswer> {
    let (answer, answered) = bounded(1);
    let query = FlushQuery { cursor, looks: FLUSH_PAGE, which: Box::new(|_| true), answer };
    assert!(rig.handle.ask(Command::Flush(query)).is_ok(), "a worker that is turned by hand has time");
    answered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_takes_what_it_took_when_least_disturbed_and_the_longest_of_those_counts() {
        let run = |times: [u64; 3]| Run { times: times.map(Duration::from_micros).into(), ..Run::default() };
        let pause = Pause::from(Kind::Batch, "it", &[run([7, 31, 8]), run([6, 12, 99]), run([80, 40, 9])]);
        assert_eq!(pause, Pause { kind: Kind::Batch, scene: "it", turns: vec![6.0, 12.0, 8.0], seen: 99.0 });
        assert_eq!((pause.at(0.0), pause.at(0.5), pause.longest(), pause.turn()), (6.0, 8.0, 12.0, 2));
        assert!(pause.settled().is_nan());
        let cold_at_first = (0..20).map(|turn| if turn < 10 { 50 - turn } else { turn }).map(f64::from);
        let pause = Pause { turns: cold_at_first.collect(), ..pause };
        assert_eq!((pause.longest(), pause.turn(), pause.settled()), (50.0, 1, 19.0));
        assert!(Pause::from(Kind::Batch, "nothing", &[]).longest().is_nan());
    }

    #[test]
    #[should_panic(expected = "two runs are the same for 1 turns")]
    fn runs_that_are_not_the_same_are_no_measurement() {
        let run = |turns: [(u64, u64); 2]| Run {
            times: vec![Duration::ZERO; 2],
            deeds: Deeds { turns: turns.into(), ..Deeds::default() },
        };
        let _ = Pause::from(Kind::Batch, "it", &[run([(64, 64), (128, 128)]), run([(64, 64), (128, 127)])]);
    }

    /// What each scene claims to be, in the small: what newcomers find there, and that they find it in each run.
    #[test]
    fn each_scene_is_what_it_is_called_and_the_same_again() {
        let small = |scene: &Scene| Scene {
            room: 10_000,
            begun: scene.begun / 100,
            acknowledged: scene.acknowledged / 100,
            ..*scene
        };
        let sent_on_and_begun = SCENES.map(|scene| {
            let scene = small(&scene);
            let (one, other) = (scene.run(20), scene.run(20));
            assert_eq!(one.deeds, other.deeds, "{}", scene.name);
            assert_eq!(one.times.len(), 20);
            let (first, last) = (one.deeds.turns[0], one.deeds.turns[19]);
            let pages = if scene.kind == Kind::Page { 20 } else { 0 };
            assert_eq!(one.deeds.flushed, pages * FLUSH_PAGE as u64, "{}", scene.name);
            (last.0 - first.0, last.1 - first.1)
        });
        let all = (19 * 64, 19 * 64);
        let three = (3 * all.0, 3 * all.1);
        // A 64th of the ports of the one with a single backend are in use here.
        assert_eq!(sent_on_and_begun, [all, all, all, all, (0, 0), all, all, three, three]);
    }
}
