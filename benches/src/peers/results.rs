//! Everything that one run has measured.

use super::{Changes, Flood, Idle, Machine, Pause, Pipeline, Spread, Times};
use crate::throughput::{Plan, Score};

/// See the module.
#[derive(Debug)]
pub struct Results {
    /// Where.
    pub machine: Machine,
    /// How.
    pub plan: Plan,
    /// Numbers of Services, from few to many.
    pub services: Vec<u32>,
    /// Who forwarded how much, in the order of a round.
    pub rows: Vec<Row>,
    /// Who could not be had: keys, names and reasons.
    pub missing: Vec<(String, String, String)>,
    /// Frames a second at which latency was measured.
    pub tenth: f64,
    /// Latency: of each contestant all rounds.
    pub times: Vec<Vec<Times>>,
    /// Established flows beside beginning ones: of each who was flooded all rounds, levee as it is first.
    pub floods: Vec<Vec<Flood>>,
    /// One backend changed.
    pub changes: Option<Changes>,
    /// Nothing to do.
    pub idle: Vec<Idle>,
    /// Bytes that room for a flow takes.
    pub per_flow: Option<f64>,
    /// Packets over memory.
    pub pipeline: Pipeline,
    /// Turns full of newcomers, over memory.
    pub pauses: Vec<Pause>,
}

/// One contestant's throughput.
#[derive(Debug, Clone)]
pub struct Row {
    /// As `--json` calls it.
    pub key: String,
    /// As tables call it.
    pub name: String,
    /// One for each round.
    pub scores: Vec<Score>,
}

impl Results {
    pub(super) fn row(&self, key: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.key == key)
    }

    /// How tables call a contestant.
    pub(super) fn name(&self, key: &str) -> String {
        let missing = || self.missing.iter().find(|(missing, _, _)| missing == key).map(|(_, name, _)| name);
        self.row(key).map(|row| &row.name).or_else(missing).cloned().unwrap_or_else(|| key.to_owned())
    }

    /// Why there is no figure of it.
    fn absent(&self, key: &str) -> String {
        let known = self.missing.iter().find(|(missing, _, _)| missing == key);
        known.map_or_else(
            || format!("{key} was not measured"),
            |(_, name, reason)| format!("{name}: {}", reason.lines().next().unwrap_or_default()),
        )
    }

    /// What one does for each that another does, in each round.
    ///
    /// # Errors
    /// Which of them there is no figure of, and why.
    pub fn ratio(&self, ours: &str, theirs: &str) -> Result<Spread, String> {
        let of = |key: &str| self.row(key).ok_or_else(|| self.absent(key));
        let (ours, theirs) = (of(ours)?, of(theirs)?);
        let rounds = ours.scores.iter().zip(&theirs.scores).map(|(ours, theirs)| ours.deserved() / theirs.deserved());
        Spread::of(rounds).ok_or_else(|| "no round was finished".into())
    }

    /// The one of these that forwards most; the first, where none was measured.
    #[must_use]
    pub(super) fn best<'k>(&self, keys: &[&'k str]) -> &'k str {
        let median = |key: &str| {
            let scores = self.row(key).map(|row| row.scores.iter().map(Score::deserved));
            scores.and_then(Spread::of).map_or(f64::NEG_INFINITY, |spread| spread.median)
        };
        let mut best = keys[0];
        for key in &keys[1..] {
            if median(key) > median(best) {
                best = key;
            }
        }
        best
    }

    fn rounds(&self, key: &str) -> Result<&[Times], String> {
        let found = self.times.iter().find(|rounds| rounds.first().is_some_and(|times| times.key == key));
        found.map(Vec::as_slice).ok_or_else(|| self.absent(key))
    }

    /// How long one takes for each microsecond that another takes, in each round.
    ///
    /// # Errors
    /// Which of them there is no figure of, and why.
    pub fn latency_ratio(&self, ours: &str, theirs: &str, quantile: fn(&Times) -> f64) -> Result<Spread, String> {
        let (ours, theirs) = (self.rounds(ours)?, self.rounds(theirs)?);
        Spread::of(ours.iter().zip(theirs).map(|(ours, theirs)| quantile(ours) / quantile(theirs)))
            .ok_or_else(|| "too few frames".into())
    }

    /// Bytes that each Service takes, from the difference between the fewest and the most.
    #[must_use]
    pub fn memory_per_service(&self) -> Option<f64> {
        let (few, many) = (
            self.idle.iter().min_by_key(|idle| idle.services.count)?,
            self.idle.iter().max_by_key(|idle| idle.services.count)?,
        );
        let more = many.services.count - few.services.count;
        (more > 0).then(|| many.resident.saturating_sub(few.resident) as f64 / f64::from(more))
    }
}
