//! Who takes part, and what is counted.
//!
//! A machine is seldom quiet, and whatever disturbs it makes things longer, never shorter. But here everything is the same each time: connections, their
//! order, packets, keys. So everything is done in several rounds, in each of which all have a turn, from nothing; it is timed in windows of some microseconds,
//! and of each window the *least* of its times in all rounds counts. What a table does for long, it does for long in each
//! round, and it stays in: a map that moves everything does so at the same connection each time.
//!
//! One thing is not the same each time: the default hash of hashbrown, which is drawn anew for each map. What it costs is; which connection has to wait
//! for a map to put itself in order, in a full one, is not. There nothing is said of it.

use std::time::{Duration, Instant};

use levee_dataplane::ends::Ends;
use serde_json::{Value, json};

use super::first::First;
use super::swiss::{Keyed, Swiss};
use super::today::Today;
use super::{Connection, Followed, Table};
use crate::frames::at_random;
use crate::memory::resident;

/// Connections that begin or end at a time.
const BATCH: usize = levee_dataplane::worker::BATCH;
/// Packets that are followed at a time, from frame by frame on.
pub const AT_ONCE: [usize; 8] = [1, 4, 8, 16, 32, 64, 128, 256];
/// Packets in a window.
const WINDOW: usize = 1024;

/// How much is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Times that everybody has a turn.
    pub rounds: usize,
    /// Windows of packets that count; a quarter as many come before them, until caches have what they ever will.
    pub windows: usize,
    /// Connections that begin in a round at least, and that are replaced: twice as many as there are, but no fewer than this.
    pub connections: u32,
}

impl Plan {
    /// In so many rounds.
    #[must_use]
    pub fn rounds(rounds: usize) -> Plan {
        Plan { rounds, windows: 512, connections: 100_000 }
    }

    /// Windows that do not count.
    #[must_use]
    pub fn warm(&self) -> usize {
        self.windows / 4
    }
}

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contestant {
    /// levee's.
    Today,
    /// levee's, as it was at first.
    First,
    /// hashbrown, told how much there will be, by levee's hash.
    Keyed,
    /// The same by its own hash.
    Reserved,
    /// The same, and not told.
    Growing,
}

impl Contestant {
    /// All of them.
    pub const ALL: [Contestant; 5] =
        [Contestant::Today, Contestant::First, Contestant::Keyed, Contestant::Reserved, Contestant::Growing];

    /// As tables call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Contestant::Today => "levee",
            Contestant::First => "levee, at first",
            Contestant::Keyed => "hashbrown, reserved, levee's hash",
            Contestant::Reserved => "hashbrown, reserved",
            Contestant::Growing => "hashbrown, growing",
        }
    }

    /// An empty one for so many connections.
    ///
    /// # Panics
    /// Out of memory.
    #[must_use]
    pub fn table(self, room: usize) -> Box<dyn Table> {
        match self {
            Contestant::Today => Box::new(Today::new(room).expect("memory")),
            Contestant::First => Box::new(First::new(room).expect("memory")),
            Contestant::Keyed => Box::new(Swiss::<Keyed>::reserved(room)),
            Contestant::Reserved => Box::new(Swiss::<hashbrown::DefaultHashBuilder>::reserved(room)),
            Contestant::Growing => Box::new(Swiss::<hashbrown::DefaultHashBuilder>::growing()),
        }
    }

    /// Whether it does the same each time.
    fn repeats(self) -> bool {
        !matches!(self, Contestant::Reserved | Contestant::Growing)
    }
}

/// What windows took when they were disturbed least.
#[derive(Debug, Clone, Default)]
pub struct Least {
    nanos: Vec<u64>,
    next: usize,
}

impl Least {
    /// From the first window on.
    pub fn again(&mut self) {
        self.next = 0;
    }

    /// The next window.
    pub fn note(&mut self, taken: Duration) {
        let taken = u64::try_from(taken.as_nanos()).unwrap_or(u64::MAX);
        match self.nanos.get_mut(self.next) {
            Some(least) => *least = taken.min(*least),
            None => self.nanos.push(taken),
        }
        self.next += 1;
    }

    /// Nanoseconds of all windows together.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.nanos.iter().sum::<u64>() as f64
    }

    /// The longest window's.
    #[must_use]
    pub fn longest(&self) -> f64 {
        self.nanos.iter().max().copied().unwrap_or_default() as f64
    }
}

/// What one did with so many connections.
#[derive(Debug, Clone)]
pub struct Row {
    /// Who.
    pub contestant: Contestant,
    /// Connections.
    pub flows: u32,
    /// Nanoseconds for a connection to begin where there is room, …
    pub begins: f64,
    /// … and for the [`BATCH`] of them that took longest.
    pub longest_begin: f64,
    /// Nanoseconds a packet, for each of [`AT_ONCE`].
    pub follows: Vec<f64>,
    /// Nanoseconds for one to end and another to begin in a full table, …
    pub replaces: f64,
    /// … and for the [`BATCH`] that took longest, if that is the same each time.
    pub longest_replace: Option<f64>,
    /// Bytes, for all connections.
    pub bytes: usize,
    /// Bytes of the process on huge pages.
    pub huge: u64,
}

impl Row {
    /// Nanoseconds a packet where so many are followed at a time.
    #[must_use]
    pub fn follow(&self, at_once: usize) -> Option<f64> {
        AT_ONCE.iter().zip(&self.follows).find(|(size, _)| **size == at_once).map(|(_, ns)| *ns)
    }

    /// For `--json`.
    #[must_use]
    pub fn json(&self) -> Value {
        let follows: Vec<_> =
            AT_ONCE.iter().zip(&self.follows).map(|(at_once, ns)| json!({ "at_once": at_once, "ns": ns })).collect();
        json!({
            "table": self.contestant.name(), "flows": self.flows, "begin_ns": self.begins,
            "longest_batch_of_begins_ns": self.longest_begin, "follow": follows, "replace_ns": self.replaces,
            "longest_batch_of_replacements_ns": self.longest_replace, "bytes": self.bytes, "bytes_on_huge_pages": self.huge,
        })
    }
}

/// What one has done in all rounds so far.
#[derive(Default)]
struct Score {
    begins: Least,
    follows: [Least; AT_ONCE.len()],
    replaces: Least,
    bytes: usize,
    huge: u64,
}

/// All of them with so many connections. `step` is told what begins.
///
/// # Panics
/// If one does not do what it should; out of memory.
pub fn measure(flows: u32, plan: &Plan, mut step: impl FnMut(&str)) -> Vec<Row> {
    let rounds = plan.rounds;
    let mut scores = Contestant::ALL.map(|_| Score::default());
    for round in 1..=rounds {
        for (contestant, score) in Contestant::ALL.into_iter().zip(&mut scores) {
            step(&format!("{flows} flows, round {round} of {rounds}: {}", contestant.name()));
            score.round(contestant, flows, plan);
        }
    }
    Contestant::ALL.into_iter().zip(&scores).map(|(contestant, score)| score.row(contestant, flows)).collect()
}

impl Score {
    fn round(&mut self, contestant: Contestant, flows: u32, plan: &Plan) {
        let mut table = contestant.table(flows as usize);
        // Few connections are soon there: again, until there were some.
        for _ in 1..(plan.connections / flows).max(1) {
            self.begin(&mut *table, flows);
            table = contestant.table(flows as usize);
        }
        self.begin(&mut *table, flows);
        (self.bytes, self.huge) = (table.bytes(), resident(std::process::id()).huge);
        for from in (0..flows).step_by(BATCH) {
            let some: Vec<_> = (from..flows.min(from + BATCH as u32)).map(Connection::number).collect();
            table.establish(&some);
        }
        let mut packets = at_random(flows * 2);
        for (at_once, least) in AT_ONCE.into_iter().zip(&mut self.follows) {
            follow(&mut *table, &mut packets, (flows, at_once, plan), least);
        }
        self.replace(&mut *table, flows, plan);
    }

    fn begin(&mut self, table: &mut dyn Table, flows: u32) {
        let mut some = Vec::with_capacity(BATCH);
        self.begins.again();
        for from in (0..flows).step_by(BATCH) {
            some.clear();
            some.extend((from..flows.min(from + BATCH as u32)).map(Connection::number));
            let start = Instant::now();
            let began = table.begin(&some, 0);
            self.begins.note(start.elapsed());
            assert_eq!(began, some.len(), "from connection {from} on");
        }
    }

    /// Has connections end, as if by lot, and others begin in their place: each twice, or four million.
    fn replace(&mut self, table: &mut dyn Table, flows: u32, plan: &Plan) {
        // Prime to every number of connections: all have their turn before one has its second.
        let mut orders = (0..(flows * 2).clamp(plan.connections, 1 << 22)).map(|count| {
            let (place, times) = ((u64::from(count) * 7_919 % u64::from(flows)) as u32, count / flows);
            let number = |times| Connection::number(place + times * flows);
            (number(times).forward, number(times + 1))
        });
        let (mut old, mut new) = (Vec::<Ends>::with_capacity(BATCH), Vec::with_capacity(BATCH));
        self.replaces.again();
        loop {
            old.clear();
            new.clear();
            for (ends, begins) in orders.by_ref().take(BATCH) {
                old.push(ends);
                new.push(begins);
            }
            if old.len() < BATCH {
                return;
            }
            let start = Instant::now();
            let (ended, began) = (table.end(&old), table.begin(&new, 0));
            self.replaces.note(start.elapsed());
            assert_eq!((ended, began), (BATCH, BATCH), "in a full table");
        }
    }

    fn row(&self, contestant: Contestant, flows: u32) -> Row {
        let per = |least: &Least, each: usize| least.sum() / (least.nanos.len() * each) as f64;
        Row {
            contestant,
            flows,
            begins: self.begins.sum() / f64::from(flows),
            longest_begin: self.begins.longest(),
            follows: self.follows.iter().map(|least| per(least, WINDOW)).collect(),
            replaces: per(&self.replaces, BATCH),
            longest_replace: contestant.repeats().then(|| self.replaces.longest()),
            bytes: self.bytes,
            huge: self.huge,
        }
    }
}

fn follow(
    table: &mut dyn Table,
    numbers: &mut impl Iterator<Item = u32>,
    (flows, at_once, plan): (u32, usize, &Plan),
    least: &mut Least,
) {
    let mut packets = Vec::with_capacity(WINDOW);
    least.again();
    for window in 0..plan.warm() + plan.windows {
        let mut wanted = Followed::default();
        packets.clear();
        packets.extend(numbers.by_ref().take(WINDOW).map(|number| {
            let (carries, leaves) = Connection::number(number >> 1).packet(number & 1 == 1);
            wanted.note(leaves.to());
            carries
        }));
        let start = Instant::now();
        let followed = table.follow_all(&packets, at_once, window as u32);
        let taken = start.elapsed();
        assert_eq!(followed, wanted, "{flows} flows, {at_once} packets at a time");
        if window >= plan.warm() {
            least.note(taken);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_window_the_least_counts() {
        let mut least = Least::default();
        for round in [[7, 900, 8], [6, 9, 500]] {
            least.again();
            round.into_iter().for_each(|nanos| least.note(Duration::from_nanos(nanos)));
        }
        assert_eq!((least.sum(), least.longest()), (23.0, 9.0));
    }

    #[test]
    fn in_the_small_all_finish() {
        let rows = measure(200, &Plan { rounds: 1, windows: 4, connections: 1_000 }, |_| {});
        assert_eq!(rows.len(), Contestant::ALL.len());
        for row in &rows {
            let figures = [row.begins, row.longest_begin, row.replaces].into_iter().chain(row.follows.iter().copied());
            assert!(figures.clone().all(|figure| figure > 0.0), "{row:?}");
            assert_eq!((row.follow(64), row.follow(63)), (Some(row.follows[5]), None));
            assert!(row.longest_begin >= row.begins && row.bytes > 0);
        }
    }
}
