//! What a second worker adds. Called by `scripts/bench`; `--help` says with what.
//!
//! Wants nothing but memory and cores that are quiet; no root.

use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, value_parser};
use levee_api::program::Mode;
use levee_benches::page::Docs;
use levee_benches::program::{Output, has_cores, number};
use levee_benches::throughput::spread;
use levee_benches::workers::crew::Traffic;
use levee_benches::workers::{Score, Together, measure};
use serde_json::json;

/// What two workers must do of one's work.
const FLOOR: f64 = 1.8;

/// What is measured: a name, what arrives, and whether it must reach the floor.
const SCENES: [(&str, Traffic, bool); 4] = [
    ("nat, requests", Traffic { mode: Mode::Nat, flows: 1000, answers: false }, true),
    ("nat, 16,000 flows each", Traffic { mode: Mode::Nat, flows: 16_000, answers: false }, true),
    ("nat, answers anywhere", Traffic { mode: Mode::Nat, flows: 1000, answers: true }, false),
    ("dnat, answers anywhere", Traffic { mode: Mode::Dnat, flows: 1000, answers: true }, false),
];

/// What a second worker adds, over memory
#[derive(Parser)]
#[command(name = "workers", disable_version_flag = true)]
struct Options {
    /// Times that each scene gets its turn
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = number(1..=1_000))]
    rounds: usize,
    /// Seconds that each is measured
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u64).range(1..=1_000))]
    seconds: u64,
    /// A core for each worker, two at least
    #[arg(long, value_name = "CORE", value_delimiter = ',', default_values_t = [0, 1])]
    cores: Vec<usize>,
    #[command(flatten)]
    docs: Docs,
    #[command(flatten)]
    output: Output,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.cores.len() < 2 {
        Options::command().error(ErrorKind::TooFewValues, "--cores wants two at least, one for each worker").exit();
    }
    if has_cores("workers", options.cores.len(), "one for each worker") { run(&options) } else { ExitCode::SUCCESS }
}

fn run(options: &Options) -> ExitCode {
    let window = Duration::from_secs(options.seconds);
    let workers = options.cores.len();
    println!(
        "\n{} rounds of {} s, 64-byte TCP, 100 backends, over memory; workers on cores {:?}",
        options.rounds, options.seconds, options.cores
    );
    println!(
        "{:24} {:>9} {:>9} {:>7} {:>12} {:>8} {:>8} {:>7} {:>6}",
        "Mpps per core's second",
        "1 worker",
        format!("{workers}"),
        "ratio",
        "least–most",
        "apart",
        "handed",
        "lost",
        "core"
    );
    let (mut figures, mut missed) = (Vec::new(), Vec::new());
    let mut page = format!(
        "{} rounds of {} s on cores {:?}; a worker had at least as much of its core as the last column says.\n\n\
         | | 1 worker | {workers} workers | ratio | two or more that share nothing | handed over | lost | core |\n|---|---:|---:|---:|---:|---:|---:|---:|\n",
        options.rounds, options.seconds, options.cores
    );
    for (name, traffic, bar) in SCENES {
        let scenes: Vec<[Score; 3]> = (0..options.rounds)
            .map(|round| {
                // Alone on each of the cores in turn: they need not be alike.
                let alone = &options.cores[round % workers..][..1];
                [
                    measure(traffic, alone, Together::Sharing, window),
                    measure(traffic, &options.cores, Together::Sharing, window),
                    measure(traffic, &options.cores, Together::Apart, window),
                ]
            })
            .collect();
        let middle = |of: fn(&[Score; 3]) -> f64| spread(scenes.iter().map(of));
        let (one, ..) = middle(|[one, ..]| one.rate());
        let (all, ..) = middle(|[_, all, _]| all.rate());
        let (ratio, least, most) = middle(|[one, all, _]| all.rate() / one.rate());
        let (apart, ..) = middle(|[one, _, apart]| apart.rate() / one.rate());
        let (handed, ..) = middle(|[_, all, _]| all.handed_over);
        let (lost, ..) = middle(|[_, all, _]| all.dropped);
        let core = scenes.iter().flatten().map(|score| score.core).fold(f64::INFINITY, f64::min);
        println!(
            "{name:24} {one:>9.2} {all:>9.2} {ratio:>7.2} {:>12} {apart:>8.2} {:>8} {:>7} {:>6}",
            format!("{least:.2}–{most:.2}"),
            format!("{:.0} %", handed * 100.0),
            format!("{:.1} %", lost * 100.0),
            format!("{:.0} %", core * 100.0),
        );
        page.push_str(&format!(
            "| {name} | {one:.1} M/s | {all:.1} M/s | **{ratio:.2}** ({least:.2}–{most:.2}) | {apart:.2} | {:.0} % | {:.1} % | {:.0} % |\n",
            handed * 100.0,
            lost * 100.0,
            core * 100.0
        ));
        figures.push(json!({
            "name": name, "flows_per_worker": traffic.flows, "one_mpps": one, "all_mpps": all,
            "ratio": { "median": ratio, "least": least, "most": most }, "ratio_apart": apart,
            "handed_over": handed, "lost": lost, "least_core": core,
        }));
        let floor = FLOOR / 2.0 * workers as f64;
        if bar && ratio < floor {
            missed.push(format!(
                "{name}: {workers} workers do {ratio:.2} times the work of one, where {floor} is the least"
            ));
        }
    }
    println!(
        "Ratio: all workers to one, in the same round, by frames for each second that a worker had its core.\n\
         Apart: the same by dataplanes that share nothing, which is what these cores can do.\n\
         Handed: of all frames received, those given to the worker that owns their flow. Lost: dropped in full inboxes.\n\
         Core: the least part of its core that a worker had in any round."
    );
    missed.extend(options.docs.write("workers", &page).err());
    let figures = json!({ "floor": FLOOR, "reached": missed.is_empty(), "cores": options.cores, "scenes": figures });
    options.output.end(&json!({ "workers": figures }), &missed)
}
