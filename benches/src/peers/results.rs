//! Everything that one run has measured, and how it is told: as Markdown (a terminal shows it as well), as JSON, as pictures.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::bars::{Bar, Limit, Verdict, bars};
use super::plot::{Plot, Series};
use super::{Changes, Flood, Idle, Machine, Spread, Times};

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
    /// Nanoseconds a packet over memory.
    pub pipeline: Vec<Pipeline>,
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

/// What a packet takes over memory with so many flows, as `cargo bench --bench pipeline` has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pipeline {
    /// Established flows.
    pub flows: f64,
    /// Nanoseconds a packet.
    pub ns: Spread,
}

impl Pipeline {
    /// Those of `nat` among criterion's figures (`[{"name", "ns", "least", "most"}]`, as `scripts/bench` gathers them); none of
    /// what looks otherwise.
    #[must_use]
    pub fn read(figures: &Value) -> Vec<Pipeline> {
        let all = figures.as_array().into_iter().flatten();
        let mut found: Vec<Pipeline> = all
            .filter_map(|figure| {
                let flows = flows(figure["name"].as_str()?)?;
                let median = figure["ns"].as_f64()?;
                let or = |name: &str| figure[name].as_f64().unwrap_or(median);
                Some(Pipeline { flows, ns: Spread { median, least: or("least"), most: or("most") } })
            })
            .collect();
        found.sort_by(|one, other| one.flows.total_cmp(&other.flows));
        found.dedup_by(|one, other| one.flows.total_cmp(&other.flows).is_eq());
        found
    }
}

/// `pipeline/nat, 100000 flows`, also `100_000`, `100k`, `10M`.
fn flows(name: &str) -> Option<f64> {
    let rest = name.strip_prefix("pipeline/nat, ").or_else(|| name.strip_prefix("pipeline/nat/"))?;
    let number = rest.strip_suffix("flows").unwrap_or(rest).trim();
    let (digits, times) = match number.strip_suffix(['k', 'M']) {
        Some(digits) if number.ends_with('k') => (digits.trim(), 1e3),
        Some(digits) => (digits.trim(), 1e6),
        None => (number, 1.0),
    };
    digits.replace(['_', ','], "").parse::<u32>().ok().map(|number| f64::from(number) * times)
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

    /// All of it as Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "# Figures\n\nMade by `{}`; not by hand.\n", self.machine.command);
        let Machine { processor, cores, kernel, commit, .. } = &self.machine;
        let Plan { rounds, window, source, forwarder } = &self.plan;
        let _ = writeln!(
            text,
            "{processor}, {cores} cores, Linux {kernel}, veth; commit {commit}. {rounds} rounds of {} s, 64-byte TCP of 1,024 flows; \
             generator on core {source}, who forwards on core {forwarder}. Medians; least and most of the rounds.\n",
            window.as_secs_f64()
        );
        self.tell_bars(&mut text);
        self.tell_throughput(&mut text);
        self.tell_latency(&mut text);
        self.tell_flood(&mut text);
        self.tell_changes(&mut text);
        self.tell_idle(&mut text);
        self.tell_pipeline(&mut text);
        text
    }

    fn tell_bars(&self, text: &mut String) {
        text.push_str("## What is wanted\n\n| | measured | least–most | wanted | |\n|---|---:|---:|---:|---|\n");
        for bar in bars(self) {
            let (measured, range) = match &bar.measured {
                Ok(spread) => (figure(spread.median, bar.unit), range(spread, bar.unit)),
                Err(reason) => (reason.clone(), "–".into()),
            };
            let verdict = match bar.verdict() {
                Verdict::Met => "met",
                Verdict::Missed => "**missed**",
                Verdict::Unknown => "not measured",
            };
            let _ = writeln!(text, "| {} | {measured} | {range} | {} | {verdict} |", bar.what, limit(&bar));
        }
    }

    fn tell_throughput(&self, text: &mut String) {
        text.push_str(
            "\n## Throughput\n\n| | Mpps | least–most | ÷ bounce | least–most | lost of what was sent | its own time on its core | that core was busy |\n\
             |---|---:|---:|---:|---:|---:|---:|---:|\n",
        );
        for row in &self.rows {
            let of = |what: fn(&Score) -> f64| Spread::of(row.scores.iter().map(what));
            let Some((arrived, lost, busy)) =
                of(|score| score.arrived).zip(of(Score::lost)).zip(of(|score| score.busy)).map(|((a, b), c)| (a, b, c))
            else {
                continue;
            };
            let (ratio, ratios) = self
                .ratio(&row.key, "bounce")
                .map_or_else(|_| ("–".into(), "–".into()), |ratio| (figure(ratio.median, ""), range(&ratio, "")));
            let own = Spread::of(row.scores.iter().filter_map(|score| score.core));
            let own = own.map_or_else(|| "–".into(), |own| percent(own.median));
            let _ = writeln!(
                text,
                "| {} | {:.3} | {:.3}–{:.3} | {ratio} | {ratios} | {} | {own} | {} |",
                row.name,
                arrived.median,
                arrived.least,
                arrived.most,
                percent(lost.median),
                percent(busy.median)
            );
        }
        for (_, name, reason) in &self.missing {
            let _ = writeln!(text, "| {name} | SKIPPED: {} | | | | | | |", first_line(reason));
        }
    }

    fn tell_latency(&self, text: &mut String) {
        if self.times.is_empty() {
            return;
        }
        let _ = writeln!(
            text,
            "\n## Latency at a tenth of the load\n\nMicroseconds, one way, {:.0} frames a second.\n\n\
             | | p50 | p99 | p99.9 | lost of what was sent |\n|---|---:|---:|---:|---:|",
            self.tenth
        );
        for rounds in &self.times {
            let Some(first) = rounds.first() else { continue };
            let cells = QUANTILES.map(|(_, quantile)| {
                Spread::of(rounds.iter().map(quantile))
                    .map_or_else(|| "–".into(), |spread| format!("{:.1}", spread.median))
            });
            let sent: u64 = rounds.iter().map(|times| times.frames.0).sum();
            let arrived: u64 = rounds.iter().map(|times| times.frames.1).sum();
            let lost = sent.saturating_sub(arrived);
            let _ = writeln!(text, "| {} | {} | {lost} of {sent} |", first.name, cells.join(" | "));
        }
    }

    fn tell_flood(&self, text: &mut String) {
        let Some(flood) = &self.flood else { return };
        let (sent, lost) = flood.established;
        let _ = writeln!(
            text,
            "\n## Established flows beside beginning ones\n\n{:.0} frames a second, nineteen of twenty the first of a flow (at most {:.0} a \
             second got through): of {sent} frames of established flows {lost} were lost; of {} SYNs {} arrived. {} \
             frames found levee's rings full.",
            flood.rate, flood.most, flood.begun.0, flood.begun.1, flood.unseen
        );
        if !flood.dropped.is_empty() {
            let reasons: Vec<_> = flood.dropped.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
            let _ = writeln!(text, "levee dropped: {}.", reasons.join(", "));
        }
    }

    fn tell_changes(&self, text: &mut String) {
        let Some(changes) = &self.changes else { return };
        let _ = writeln!(
            text,
            "\n## One backend changed, {}\n\n| from request to answer, µs | changes | p50 | p99 | most |\n|---|---:|---:|---:|---:|",
            changes.services
        );
        for (name, sorted) in
            [("nothing else to do", &changes.alone), ("under full load, on the same two cores", &changes.loaded)]
        {
            let at = |part| Changes::at(sorted, part);
            let _ = writeln!(text, "| {name} | {} | {:.0} | {:.0} | {:.0} |", sorted.len(), at(0.5), at(0.99), at(1.0));
        }
        if let Some((kept, all)) = changes.kept.zip(changes.kept_of_all) {
            let _ = writeln!(
                text,
                "\nForwarding with {:.0} changes a second, as a part of what it is without: {} ({}) for the time that the worker had its \
                 core, {} ({}) in all.",
                changes.rate,
                figure(kept.median, ""),
                range(&kept, ""),
                figure(all.median, ""),
                range(&all, "")
            );
        }
    }

    fn tell_idle(&self, text: &mut String) {
        if self.idle.is_empty() {
            return;
        }
        text.push_str(
            "\n## Nothing to do\n\n| `idle` | Services | of a core | resident, MiB |\n|---|---:|---:|---:|\n",
        );
        for idle in &self.idle {
            let resident = idle.resident as f64 / f64::from(1 << 20);
            let _ =
                writeln!(text, "| `{}` | {} | {} | {resident:.0} |", idle.how, idle.services.count, percent(idle.core));
        }
    }

    fn tell_pipeline(&self, text: &mut String) {
        if self.pipeline.is_empty() {
            return;
        }
        text.push_str("\n## Over memory, `nat`, established flows\n\n| flows | ns a packet | 95 % of medians |\n|---:|---:|---:|\n");
        for point in &self.pipeline {
            let Spread { median, least, most } = point.ns;
            let _ = writeln!(text, "| {} | {median:.1} | {least:.1}–{most:.1} |", super::plot::count(point.flows));
        }
    }

    /// All of it as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let spread = |spread: &Spread| json!({ "median": spread.median, "least": spread.least, "most": spread.most });
        let maybe = |of: Option<Spread>| of.as_ref().map(spread);
        let bars: Vec<_> = bars(self)
            .iter()
            .map(|bar| {
                let (at_least, at_most) = match bar.limit {
                    Limit::AtLeast(limit) => (Some(limit), None),
                    Limit::AtMost(limit) => (None, Some(limit)),
                };
                json!({
                    "what": bar.what, "unit": bar.unit, "at_least": at_least, "at_most": at_most,
                    "measured": bar.measured.as_ref().ok().map(spread), "reason": bar.measured.as_ref().err(),
                    "met": bar.verdict() == Verdict::Met,
                })
            })
            .collect();
        let rows: serde_json::Map<String, Value> = self
            .rows
            .iter()
            .map(|row| {
                let rounds: Vec<_> = row
                    .scores
                    .iter()
                    .map(|score| json!({ "mpps": score.arrived, "sent_mpps": score.sent, "core": score.core, "core_busy": score.busy }))
                    .collect();
                let mpps = maybe(Spread::of(row.scores.iter().map(|score| score.arrived)));
                (row.key.clone(), json!({ "name": row.name, "mpps": mpps, "rounds": rounds }))
            })
            .collect();
        let times: serde_json::Map<String, Value> = self
            .times
            .iter()
            .filter_map(|rounds| {
                let of = |quantile: fn(&Times) -> f64| maybe(Spread::of(rounds.iter().map(quantile)));
                let quantiles: serde_json::Map<_, _> =
                    QUANTILES.iter().map(|(name, quantile)| ((*name).to_owned(), json!(of(*quantile)))).collect();
                Some((rounds.first()?.key.clone(), Value::Object(quantiles)))
            })
            .collect();
        let changes = self.changes.as_ref().map(|changes| {
            let at = |sorted: &[f64]| json!({ "count": sorted.len(), "p50": Changes::at(sorted, 0.5), "p99": Changes::at(sorted, 0.99), "most": Changes::at(sorted, 1.0) });
            json!({
                "services": changes.services.count, "alone_us": at(&changes.alone), "loaded_us": at(&changes.loaded),
                "per_second": changes.rate, "kept": maybe(changes.kept), "kept_of_all": maybe(changes.kept_of_all),
            })
        });
        let flood = self.flood.as_ref().map(|flood| {
            json!({
                "most_per_second": flood.most, "per_second": flood.rate,
                "established": { "sent": flood.established.0, "lost": flood.established.1 },
                "begun": { "sent": flood.begun.0, "arrived": flood.begun.1 },
                "ring_full": flood.unseen, "dropped": flood.dropped.iter().map(|(reason, count)| (reason.clone(), json!(count))).collect::<serde_json::Map<_, _>>(),
            })
        });
        json!({
            "machine": self.machine.json(),
            "plan": { "rounds": self.plan.rounds, "seconds": self.plan.window.as_secs_f64(), "services": self.services },
            "bars": bars,
            "throughput": rows,
            "skipped": self.missing.iter().map(|(key, _, reason)| (key.clone(), json!(reason))).collect::<serde_json::Map<_, _>>(),
            "latency_us": { "frames_per_second": self.tenth, "of": times },
            "flood": flood,
            "changes": changes,
            "idle": self.idle.iter().map(|idle| json!({
                "idle": idle.how, "services": idle.services.count, "core": idle.core, "resident_bytes": idle.resident,
            })).collect::<Vec<_>>(),
            "memory_per_service_bytes": self.memory_per_service(),
            "pipeline_ns": self.pipeline.iter().map(|point| json!({ "flows": point.flows, "ns": spread(&point.ns) })).collect::<Vec<_>>(),
        })
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
        let under = self.machine.line();
        let throughput = Plot {
            title: "Throughput by number of Services, 10 endpoints each, 64-byte TCP of 1,024 flows, one core".into(),
            x: "Services",
            y: "million frames a second",
            under: under.clone(),
            series,
        };
        let packets = Plot {
            title: "A packet's way over memory, nat, established flows".into(),
            x: "flows",
            y: "nanoseconds a packet",
            under,
            series: vec![Series {
                name: "levee, nat".into(),
                points: self.pipeline.iter().map(|point| (point.flows, point.ns)).collect(),
                reference: false,
            }],
        };
        [("throughput-by-services.svg", throughput), ("ns-by-flows.svg", packets)]
            .into_iter()
            .filter(|(_, plot)| plot.series.iter().any(|series| !series.points.is_empty()))
            .collect()
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}

/// With its unit, and as many digits as it deserves.
fn figure(figure: f64, unit: &str) -> String {
    match unit {
        "" => format!("{figure:.2}"),
        "KiB" => format!("{figure:.1} {unit}"),
        _ => format!("{figure:.0} {unit}"),
    }
}

fn range(spread: &Spread, unit: &str) -> String {
    match unit {
        "" => format!("{:.2}–{:.2}", spread.least, spread.most),
        _ if spread.least.total_cmp(&spread.most).is_eq() => "–".into(),
        _ => format!("{:.0}–{:.0}", spread.least, spread.most),
    }
}

fn limit(bar: &Bar) -> String {
    match bar.limit {
        Limit::AtLeast(least) => format!("≥ {}", figure(least, bar.unit)),
        Limit::AtMost(most) => format!("≤ {}", figure(most, bar.unit)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

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
            pipeline: Vec::new(),
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
        assert_eq!(json["bars"][0]["met"], true);
        assert_eq!(json["throughput"]["bounce"]["mpps"]["median"], 1.0);
        assert_eq!(json["skipped"]["dpdk_testpmd"], "is missing\nand more");
    }

    #[test]
    fn criterions_names_are_read_in_any_of_their_forms() {
        let figures = json!([
            { "name": "pipeline/nat, 100000 flows", "ns": 50.0, "least": 49.0, "most": 51.0 },
            { "name": "pipeline/nat, 1000 flows", "ns": 30.0 },
            { "name": "pipeline/nat/10M", "ns": 90.0 },
            { "name": "pipeline/dnat, 1000 flows", "ns": 20.0 },
            { "name": "pipeline/mac rewriting", "ns": 10.0 },
            { "name": "maglev/build", "ns": 10.0 },
            { "nonsense": 1 },
        ]);
        let read: Vec<_> =
            Pipeline::read(&figures).iter().map(|point| (point.flows, point.ns.median, point.ns.most)).collect();
        assert_eq!(read, [(1e3, 30.0, 30.0), (1e5, 50.0, 51.0), (1e7, 90.0, 90.0)]);
        assert!(Pipeline::read(&json!({})).is_empty());
    }

    #[test]
    fn there_is_a_picture_of_what_was_measured_and_of_nothing_else() {
        let names: Vec<_> = results().plots().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["throughput-by-services.svg"]);
    }
}
