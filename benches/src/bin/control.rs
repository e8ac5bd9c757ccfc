//! What a change of the cluster costs. Called by `scripts/bench control`; `--help` says with what.

use std::process::ExitCode;

use clap::Parser;
use levee_benches::control::{Burst, Cluster, Cold, ENDPOINTS, Parts, Stage, quantile};
use levee_benches::page::Docs;
use levee_benches::program::{Output, number};
use levee_tests::Lab;
use serde_json::{Value, json};

/// One changed slice of 5,000 Services: milliseconds at most, in the median; and the dataplane's part of it.
const ONE_CHANGE: (usize, f64, f64) = (5_000, 10.0, 1.0);

/// All of 25,000 Services: seconds at most, after the lists have arrived.
const EVERYTHING: (usize, f64) = (25_000, 2.0);

/// What a change of the cluster costs: one slice of an API server's, and everything from nothing
#[derive(Parser)]
#[command(disable_version_flag = true)]
struct Options {
    /// Numbers of Services, each of ten endpoints
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [ONE_CHANGE.0, EVERYTHING.0], value_parser = number(1..=60_000))]
    services: Vec<usize>,
    /// Slices changed, one after the other
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = number(1..=60_000))]
    changes: usize,
    #[command(flatten)]
    docs: Docs,
    #[command(flatten)]
    output: Output,
}

fn main() -> ExitCode {
    let mut options = Options::parse();
    // The cluster only grows.
    options.services.sort_unstable();
    run(&options)
}

fn run(options: &Options) -> ExitCode {
    let Some(lab) = Lab::start() else { return ExitCode::SUCCESS };
    let Some(mut cluster) = Cluster::start(&lab) else { return ExitCode::SUCCESS };
    let (mut rows, mut missed, mut page) = (Vec::new(), Vec::new(), String::new());
    for services in &options.services {
        let took = cluster.grow_to(*services);
        eprintln!("{services} Services × {ENDPOINTS}: made in {:.0} s (the API server's time)", took.as_secs_f64());
        let lab = Lab::start().expect("there was one a moment ago");
        let mut stage = Stage::build(&lab);
        let cold = stage.start_control(&cluster);
        let changes = stage.change(&cluster, options.changes);
        let burst = stage.burst(&cluster, (services / 5).min(1_000));
        let row = Row { services: *services, cold, changes, burst };
        let text = row.text();
        print!("{text}");
        page.push_str(&format!("```text\n{}\n```\n\n", text.trim()));
        missed.extend(row.missed());
        rows.push(row.json());
    }
    missed.extend(options.docs.write("control", &page).err());
    options.output.end(&json!({ "control": rows, "missed": missed }), &missed)
}

/// What was measured with so many Services.
struct Row {
    services: usize,
    cold: Cold,
    changes: Vec<Parts>,
    burst: Burst,
}

/// A part of a change: its name, and where it is.
type Part = (&'static str, fn(&Parts) -> f64);

const PARTS: [Part; 5] = [
    ("answer to running", |parts| parts.total),
    ("  API server, watch", |parts| parts.watch),
    ("  validate, compile", |parts| parts.compile),
    ("  send, wait", |parts| parts.send),
    ("  dataplane", |parts| parts.dataplane),
];

impl Row {
    /// Milliseconds of a part, sorted.
    fn sorted(&self, part: fn(&Parts) -> f64) -> Vec<f64> {
        let mut sorted: Vec<f64> = self.changes.iter().map(|change| part(change) * 1e3).collect();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    fn text(&self) -> String {
        use std::fmt::Write as _;
        let (mut text, cold, burst) = (String::new(), &self.cold, &self.burst);
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let _ = writeln!(text, "\n{} Services × {ENDPOINTS} endpoints", self.services);
        let _ = writeln!(
            text,
            "one slice changed, ms ({} times) {:>10} {:>8} {:>8}",
            self.changes.len(),
            "median",
            "p99",
            "most"
        );
        for (name, part) in PARTS {
            let sorted = self.sorted(part);
            let at = |quantile_of| quantile(&sorted, quantile_of);
            let _ = writeln!(text, "  {name:32} {:>8.2} {:>8.2} {:>8.2}", at(0.5), at(0.99), at(1.0));
        }
        let bytes = self.changes.iter().map(|change| change.bytes).max().unwrap_or(0);
        let _ = writeln!(text, "  bytes over the socket, at most {bytes:>11}");
        let _ = writeln!(
            text,
            "{} slices changed at once: written in {:.2} s, came as {} programs, the last ran {:.0} ms after the last answer",
            burst.changes,
            burst.writing,
            burst.programs,
            burst.late * 1e3
        );
        let _ = writeln!(
            text,
            "from nothing: {:.2} s from the start of levee-control; after the lists had arrived {:.2} s \
             (compile {:.2}, dataplane {:.2}); {:.1} MiB over the socket",
            cold.total,
            cold.after_lists,
            cold.compile,
            cold.dataplane,
            mib(cold.bytes)
        );
        let _ = writeln!(
            text,
            "resident: levee-control {:.0} MiB (at most {:.0}); levee-dataplane {:.0} MiB (at most {:.0}), {:.0} of them before \
             it was programmed",
            mib(cold.control.now),
            mib(cold.control.most),
            mib(cold.dataplane_memory.now),
            mib(cold.dataplane_memory.most),
            mib(cold.dataplane_empty)
        );
        text
    }

    fn json(&self) -> Value {
        let parts: serde_json::Map<String, Value> = PARTS
            .iter()
            .map(|(name, part)| {
                let sorted = self.sorted(*part);
                let at = |quantile_of| quantile(&sorted, quantile_of);
                (name.trim().to_owned(), json!({ "median": at(0.5), "p99": at(0.99), "most": at(1.0) }))
            })
            .collect();
        let (cold, burst) = (&self.cold, &self.burst);
        json!({
            "services": self.services,
            "endpoints": ENDPOINTS,
            "one_change_ms": parts,
            "one_change_bytes": self.changes.iter().map(|change| change.bytes).max(),
            "burst": { "changes": burst.changes, "writing_s": burst.writing, "programs": burst.programs, "late_s": burst.late },
            "cold_s": { "total": cold.total, "after_lists": cold.after_lists, "compile": cold.compile, "dataplane": cold.dataplane },
            "program_bytes": cold.bytes,
            "resident_bytes": {
                "control": cold.control.now, "control_most": cold.control.most,
                "dataplane": cold.dataplane_memory.now, "dataplane_most": cold.dataplane_memory.most,
                "dataplane_empty": cold.dataplane_empty,
            },
        })
    }

    /// Which bars it does not reach.
    fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        let mut bar = |what: &str, is: f64, most: f64| {
            if is > most {
                missed.push(format!("{} Services: {what} {is:.2}, where {most} is the most", self.services));
            }
        };
        let median = |part| quantile(&self.sorted(part), 0.5);
        if self.services == ONE_CHANGE.0 {
            bar("one change, ms:", median(|parts| parts.total), ONE_CHANGE.1);
            bar("the dataplane's part of it, ms:", median(|parts| parts.dataplane), ONE_CHANGE.2);
        }
        if self.services == EVERYTHING.0 {
            bar("everything after the lists, s:", self.cold.after_lists, EVERYTHING.1);
        }
        missed
    }
}
