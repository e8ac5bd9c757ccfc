//! CPU while nothing comes, and round trips, of each way to wait: `idle [--rounds N] [--pings N] [--json FILE]`. Called by
//! `scripts/bench`.

use std::process::ExitCode;
use std::time::Duration;

use levee_benches::idle::{Mode, PAUSE, Plan, Row, Seen, quantile};
use levee_benches::throughput::spread;
use serde_json::json;

fn main() -> ExitCode {
    match options() {
        Ok((rounds, plan, file)) => run(rounds, &plan, file.as_deref()),
        Err(problem) => {
            eprintln!("idle: {problem}\nusage: idle [--rounds N] [--pings N] [--json FILE]");
            ExitCode::from(2)
        }
    }
}

fn options() -> Result<(usize, Plan, Option<String>), String> {
    let mut plan = Plan { pings: 500, quiet: Duration::from_secs(2), source: 0, worker: 1 };
    let (mut rounds, mut file) = (3, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} wants a value"));
        let number = |text: String| match text.parse::<usize>() {
            Ok(number) if (1..=100_000).contains(&number) => Ok(number),
            _ => Err(format!("expected a number from 1 to 100000, got `{text}`")),
        };
        match argument.as_str() {
            "--rounds" => rounds = number(value()?)?,
            "--pings" => plan.pings = number(value()?)?,
            "--json" => file = Some(value()?),
            other => return Err(format!("unexpected `{other}`")),
        }
    }
    Ok((rounds, plan, file))
}

fn run(rounds: usize, plan: &Plan, file: Option<&str>) -> ExitCode {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if cores < 2 {
        println!("SKIPPED: idle wants two cores, one for the worker and one for who pings; here is {cores}");
        return ExitCode::SUCCESS;
    }
    let Some(row) = Row::build() else { return ExitCode::SUCCESS };
    let rounds: Vec<Vec<Seen>> = (0..rounds).map(|_| Mode::ALL.map(|mode| row.measure(mode, plan)).into()).collect();
    println!(
        "\n{} rounds of {} pings, {} ms apart and then back to back; ping on core {}, the worker on core {}",
        rounds.len(),
        plan.pings,
        PAUSE.as_millis(),
        plan.source,
        plan.worker
    );
    println!(
        "{:20} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}   of a core; µs there and back",
        "", "CPU idle", "CPU pinged", "paused p50", "p99", "row p50", "p99"
    );
    let mut figures = serde_json::Map::new();
    for (index, mode) in Mode::ALL.into_iter().enumerate() {
        let of = |what: &dyn Fn(&Seen) -> f64| spread(rounds.iter().filter_map(|round| round.get(index)).map(what)).0;
        let core =
            |what: fn(&Seen) -> Option<f64>| (mode != Mode::Linux).then(|| of(&|seen| what(seen).unwrap_or_default()));
        let percent = |part: Option<f64>| part.map_or_else(|| "–".into(), |part| format!("{:.1} %", part * 100.0));
        let micros =
            |times: fn(&Seen) -> &Vec<Duration>, part| of(&|seen| quantile(times(seen), part).as_secs_f64() * 1e6);
        let (idle, pinged) = (core(|seen| seen.idle), core(|seen| seen.pinged));
        let paused = [0.5, 0.99].map(|part| micros(|seen| &seen.after_pauses, part));
        let row = [0.5, 0.99].map(|part| micros(|seen| &seen.back_to_back, part));
        println!(
            "{:20} {:>10} {:>10} {:>10.0} {:>10.0} {:>10.0} {:>10.0}",
            mode.name(),
            percent(idle),
            percent(pinged),
            paused[0],
            paused[1],
            row[0],
            row[1]
        );
        let times = |of: [f64; 2]| json!({ "p50": of[0], "p99": of[1] });
        figures.insert(
            mode.name().into(),
            json!({ "core_idle": idle, "core_pinged": pinged, "micros_after_pauses": times(paused), "micros_back_to_back": times(row) }),
        );
    }
    println!("Medians over the rounds, of each round's own. A ping goes through the worker twice.");
    if let Some(file) = file {
        let document = json!({ "idle": figures });
        if let Err(error) = std::fs::write(file, format!("{document:#}\n")) {
            eprintln!("{file}: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
