//! Everything that one run has measured, and how it is told: as Markdown (a terminal shows it as well), as JSON, as pictures.

mod json;
mod markdown;

use self::markdown::{figure, first_line, limit};
use super::bars::{Bar, Verdict, bars};
use super::plot::{Plot, Series};
use super::{Changes, Flood, Idle, Machine, Pipeline, Spread, Times};
use crate::throughput::{Plan, Score};

/// A quantile's name, and where [`Times`] has it.
type Quantile = (&'static str, fn(&Times) -> f64);

/// Those that are told.
pub(super) const QUANTILES: [Quantile; 3] =
    [("p50", |times| times.p50), ("p99", |times| times.p99), ("p99.9", |times| times.p999)];

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
    /// Established flows beside beginning ones.
    pub flood: Option<Flood>,
    /// One backend changed.
    pub changes: Option<Changes>,
    /// Nothing to do.
    pub idle: Vec<Idle>,
    /// Bytes that room for a flow takes.
    pub per_flow: Option<f64>,
    /// Packets over memory.
    pub pipeline: Pipeline,
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
    fn row(&self, key: &str) -> Option<&Row> {
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
            |(_, name, reason)| format!("{name}: {}", first_line(reason)),
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

    /// Whether something is below what is wanted: what is missed, and what could not be measured although this machine could.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        let peers_alone =
            |bar: &Bar| self.missing.iter().any(|(key, name, _)| !key.starts_with("levee") && bar.what.contains(name));
        bars(self)
            .into_iter()
            .filter(|bar| match bar.verdict() {
                Verdict::Met => false,
                Verdict::Missed => true,
                Verdict::Unknown => !peers_alone(bar),
            })
            .map(|bar| match &bar.measured {
                Ok(spread) => {
                    format!("{}: {} where {} is wanted", bar.what, figure(spread.median, bar.unit), limit(&bar))
                }
                Err(reason) => format!("{}: no figure ({reason})", bar.what),
            })
            .collect()
    }

    /// Pictures, by the names of their files. None where there is nothing to show.
    #[must_use]
    pub fn plots(&self) -> Vec<(&'static str, Plot)> {
        let mpps = |key: &str| Spread::of(self.row(key)?.scores.iter().map(|score| score.arrived));
        let by_services = |name: &str, prefix: &str| {
            let points =
                self.services.iter().filter_map(|count| Some((f64::from(*count), mpps(&format!("{prefix}{count}"))?)));
            Series { name: name.to_owned(), points: points.collect(), reference: false }
        };
        let mut series = vec![
            by_services("levee, nat", "levee_nat_"),
            by_services("Linux, kube-proxy's nftables", "linux_nftables_"),
            by_services("Linux, IPVS", "linux_ipvs_"),
        ];
        for key in ["bounce", "dpdk_testpmd", "linux_forwarding"] {
            let all = mpps(key)
                .into_iter()
                .flat_map(|spread| self.services.iter().map(move |count| (f64::from(*count), spread)));
            series.push(Series {
                name: format!("{} (no Services)", self.name(key)),
                points: all.collect(),
                reference: true,
            });
        }
        let over_flows = |name: &str, points: &mut dyn Iterator<Item = (u32, Spread)>| Series {
            name: name.to_owned(),
            points: points.map(|(flows, ns)| (f64::from(flows), ns)).collect(),
            reference: false,
        };
        let under = self.machine.line();
        let throughput = Plot {
            title: "Throughput by number of Services, 10 endpoints each, 64-byte TCP of 1,024 flows, one core".into(),
            x: "Services",
            y: "million frames a second",
            under: under.clone(),
            series,
        };
        let packets = Plot {
            title: "A packet's way over memory, nat, established flows at random".into(),
            x: "flows",
            y: "nanoseconds a packet",
            under,
            series: vec![
                over_flows(
                    "100 backends of one Service",
                    &mut self.pipeline.established.iter().map(|point| (point.flows, point.ns)),
                ),
                over_flows(
                    "a Service of ten backends for each hundred flows; both directions",
                    &mut self.pipeline.growth.iter().map(|point| (point.size.flows, point.ns)),
                ),
            ],
        };
        [("throughput-by-services.svg", throughput), ("ns-by-flows.svg", packets)]
            .into_iter()
            .filter(|(_, plot)| plot.series.iter().any(|series| !series.points.is_empty()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::growth::Size;

    fn score(arrived: f64) -> Score {
        Score { arrived, sent: 5.0, core: None, busy: 1.0 }
    }

    fn row(key: &str, name: &str, arrived: &[f64]) -> Row {
        Row { key: key.into(), name: name.into(), scores: arrived.iter().copied().map(score).collect() }
    }

    fn results() -> Results {
        Results {
            machine: Machine {
                processor: "a processor".into(),
                cores: 2,
                kernel: "6.18".into(),
                commit: "abc".into(),
                command: "it".into(),
            },
            plan: Plan { rounds: 3, window: Duration::from_secs(2), source: 0, forwarder: 1 },
            services: vec![1],
            rows: vec![
                row("bounce", "bounce", &[1.0, 1.0, 2.0]),
                row("levee_nat_1", "levee, nat", &[0.98, 0.99, 1.0]),
                row("linux_nftables_1", "nftables", &[0.5, 0.5, 0.6]),
            ],
            missing: vec![("dpdk_testpmd".into(), "testpmd".into(), "is missing\nand more".into())],
            tenth: 0.0,
            times: Vec::new(),
            flood: None,
            changes: None,
            idle: Vec::new(),
            per_flow: None,
            pipeline: Pipeline::default(),
        }
    }

    #[test]
    fn ratios_are_those_of_the_same_round() {
        let ratio = results().ratio("levee_nat_1", "bounce").unwrap();
        assert_eq!((ratio.median, ratio.least, ratio.most), (0.98, 0.5, 0.99));
    }

    #[test]
    fn the_better_of_two_is_the_one_to_be_measured_against() {
        let mut results = results();
        results.rows.push(row("linux_nftables_1_inline", "nftables, where it receives", &[0.6, 0.7, 0.5]));
        let keys = ["linux_nftables_1", "linux_nftables_1_inline"];
        assert_eq!(results.best(&keys), "linux_nftables_1_inline");
        assert_eq!(results.best(&["nobody", "linux_nftables_1"]), "linux_nftables_1");
        assert_eq!(results.best(&["nobody", "else"]), "nobody");
        assert!(results.markdown().contains("| levee, nat ÷ nftables, where it receives | 1.63 |"));
    }

    #[test]
    fn who_had_half_of_its_core_is_measured_for_that_half() {
        let mut results = results();
        results.rows[1].scores = vec![Score { arrived: 0.5, sent: 5.0, core: Some(0.5), busy: 1.0 }; 3];
        assert_eq!(results.ratio("levee_nat_1", "bounce").unwrap().most, 1.0);
    }

    #[test]
    fn a_missing_peer_is_no_failure_of_ours_but_anything_else_without_a_figure_is() {
        let failures = results().failures();
        assert!(!failures.iter().any(|failure| failure.contains("testpmd")), "{failures:?}");
        assert!(!failures.iter().any(|failure| failure.contains("levee, nat ÷ bounce")), "{failures:?}");
        assert!(
            failures.iter().any(|failure| failure.contains("levee_mac_rewriting") && failure.contains("no figure"))
        );
        assert!(failures.iter().any(|failure| failure.contains("established flows") && failure.contains("no figure")));
    }

    #[test]
    fn what_is_told_says_who_was_left_out_and_why() {
        let text = results().markdown();
        assert!(text.contains("| testpmd | SKIPPED: is missing |"), "{text}");
        assert!(text.contains("| levee, nat ÷ nftables | 1.96 |"), "{text}");
        let json = results().json();
        let bars = json["bars"].as_array().unwrap();
        let bar = |what: &str| bars.iter().find(|bar| bar["what"] == what).unwrap();
        assert_eq!(bar("levee, nat ÷ bounce")["met"], true);
        assert_eq!(bar("a packet of an established flow")["met"], false);
        assert_eq!(json["throughput"]["bounce"]["mpps"]["median"], 1.0);
        assert_eq!(json["skipped"]["dpdk_testpmd"], "is missing\nand more");
    }

    #[test]
    fn what_was_measured_over_memory_is_held_against_its_bars() {
        let figures = json!([
            { "name": "pipeline/nat, 10000000 flows", "ns": 91.0 },
            { "name": "pipeline, new flows/nat, room", "ns": 149.9 },
            { "name": format!("growth/{}", Size::LEAST), "ns": 25.0, "least": 24.0, "most": 30.0 },
            { "name": format!("growth/{}", Size::MOST), "ns": 75.0, "least": 60.0, "most": 96.0 },
        ]);
        let pipeline = Pipeline::read(&figures, &json!({ "nat": 300 }));
        let results = Results { pipeline, per_flow: Some(64.1), ..results() };
        let text = results.markdown();
        for row in [
            "| over memory, nat, 1,000 established flows: a packet | not measured | – | ≤ 35.0 ns | not measured |",
            "| over memory, nat, 10 M established flows: a packet | 91.0 ns | – | ≤ 90.0 ns | **missed** |",
            "| over memory, nat, new flows only, room: a packet | 149.9 ns | – | ≤ 150.0 ns | met |",
            "| a packet of an established flow | 300 instructions | – | ≤ 300 instructions | met |",
            "| over memory, nat, a packet: 100,000 Services, 1 M backends, 10 M flows ÷ 1 Service, 1 backend, 1 flow \
             | 3.00 | 2.00–4.00 | ≤ 3.00 | met |",
            "| memory of room for a flow of IPv4 | 64.1 B | – | ≤ 64.0 B | **missed** |",
            "| 100,000 | 1 M | 10 M | 75.0 | 60.0–96.0 | 3.00 |",
        ] {
            assert!(text.contains(row), "{row} is not in\n{text}");
        }
        let names: Vec<_> = results.plots().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["throughput-by-services.svg", "ns-by-flows.svg"]);
    }

    #[test]
    fn there_is_a_picture_of_what_was_measured_and_of_nothing_else() {
        let names: Vec<_> = results().plots().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["throughput-by-services.svg"]);
    }
}
