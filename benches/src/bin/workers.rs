//! What a second worker adds: `workers [--rounds N] [--seconds N] [--cores A,B,…] [--json FILE]`. Called by `scripts/bench`.
//!
//! Wants nothing but memory and cores that are quiet; no root.

use std::process::ExitCode;
use std::time::Duration;

use levee_api::program::Mode;
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

struct Options {
    rounds: usize,
    window: Duration,
    cores: Vec<usize>,
    file: Option<String>,
}

fn main() -> ExitCode {
    match options() {
        Ok(options) => run(&options),
        Err(problem) => {
            eprintln!("workers: {problem}\nusage: workers [--rounds N] [--seconds N] [--cores A,B[,…]] [--json FILE]");
            ExitCode::from(2)
        }
    }
}

fn options() -> Result<Options, String> {
    let mut options = Options { rounds: 7, window: Duration::from_secs(1), cores: vec![0, 1], file: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} wants a value"));
        let number = |text: &str| match text.parse::<usize>() {
            Ok(number) if number <= 1000 => Ok(number),
            _ => Err(format!("expected a number up to 1000, got `{text}`")),
        };
        match argument.as_str() {
            "--rounds" => options.rounds = number(&value()?)?.max(1),
            "--seconds" => options.window = Duration::from_secs(number(&value()?)?.max(1) as u64),
            "--cores" => options.cores = value()?.split(',').map(number).collect::<Result<_, _>>()?,
            "--json" => options.file = Some(value()?),
            other => return Err(format!("unexpected `{other}`")),
        }
    }
    if options.cores.len() < 2 {
        return Err("two cores at least, one for each worker".into());
    }
    Ok(options)
}

fn run(options: &Options) -> ExitCode {
    let here = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if here < options.cores.len() {
        println!("SKIPPED: {} workers want a core each; here is {here}", options.cores.len());
        return ExitCode::SUCCESS;
    }
    let workers = options.cores.len();
    println!(
        "\n{} rounds of {} s, 64-byte TCP, 100 backends, over memory; workers on cores {:?}",
        options.rounds,
        options.window.as_secs(),
        options.cores
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
    let (mut figures, mut reached) = (Vec::new(), true);
    for (name, traffic, bar) in SCENES {
        let scenes: Vec<[Score; 3]> = (0..options.rounds)
            .map(|round| {
                // Alone on each of the cores in turn: they need not be alike.
                let alone = &options.cores[round % workers..][..1];
                [
                    measure(traffic, alone, Together::Sharing, options.window),
                    measure(traffic, &options.cores, Together::Sharing, options.window),
                    measure(traffic, &options.cores, Together::Apart, options.window),
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
        figures.push(json!({
            "name": name, "flows_per_worker": traffic.flows, "one_mpps": one, "all_mpps": all,
            "ratio": { "median": ratio, "least": least, "most": most }, "ratio_apart": apart,
            "handed_over": handed, "lost": lost, "least_core": core,
        }));
        let floor = FLOOR / 2.0 * workers as f64;
        if bar && ratio < floor {
            reached = false;
            eprintln!("{name}: {workers} workers do {ratio:.2} times the work of one, where {floor} is the least");
        }
    }
    println!(
        "Ratio: all workers to one, in the same round, by frames for each second that a worker had its core.\n\
         Apart: the same by dataplanes that share nothing, which is what these cores can do.\n\
         Handed: of all frames received, those given to the worker that owns their flow. Lost: dropped in full inboxes.\n\
         Core: the least part of its core that a worker had in any round."
    );
    if let Some(file) = &options.file {
        let document =
            json!({ "workers": { "floor": FLOOR, "reached": reached, "cores": options.cores, "scenes": figures } });
        if let Err(error) = std::fs::write(file, format!("{document:#}\n")) {
            eprintln!("{file}: {error}");
            return ExitCode::FAILURE;
        }
    }
    if reached { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
