//! CPU while nothing comes, and round trips, of each way to wait. Called by `scripts/bench`; `--help` says with what.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use levee_benches::idle::{Mode, PAUSE, Plan, Row, Seen, quantile};
use levee_benches::page::Docs;
use levee_benches::program::{Output, has_cores, number};
use levee_benches::throughput::spread;
use serde_json::json;

/// CPU while nothing comes, and round trips, of each way to wait
#[derive(Parser)]
#[command(disable_version_flag = true)]
struct Options {
    /// Times that each way gets its turn
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = number(1..=1_000))]
    rounds: usize,
    /// Pings of each kind in a round
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = number(1..=100_000))]
    pings: usize,
    #[command(flatten)]
    docs: Docs,
    #[command(flatten)]
    output: Output,
}

fn main() -> ExitCode {
    let Options { rounds, pings, docs, output } = Options::parse();
    let plan = Plan { pings, quiet: Duration::from_secs(2), source: 0, worker: 1 };
    if has_cores("idle", 2, "one for the worker and one for who pings") {
        run(rounds, &plan, &docs, &output)
    } else {
        ExitCode::SUCCESS
    }
}

fn run(rounds: usize, plan: &Plan, docs: &Docs, output: &Output) -> ExitCode {
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
    let mut page = format!(
        "Medians of {} rounds of {} pings; ping on core {}, the worker on core {}.\n\n\
         | | CPU idle | CPU at 100 pings/s | paused p50 / p99 | in a row p50 / p99 |\n|---|---:|---:|---:|---:|\n",
        rounds.len(),
        plan.pings,
        plan.source,
        plan.worker
    );
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
        page.push_str(&format!(
            "| {} | {} | {} | {:.0} / {:.0} µs | {:.0} / {:.0} µs |\n",
            mode.name(),
            percent(idle),
            percent(pinged),
            paused[0],
            paused[1],
            row[0],
            row[1]
        ));
        let times = |of: [f64; 2]| json!({ "p50": of[0], "p99": of[1] });
        figures.insert(
            mode.name().into(),
            json!({ "core_idle": idle, "core_pinged": pinged, "micros_after_pauses": times(paused), "micros_back_to_back": times(row) }),
        );
    }
    println!("Medians over the rounds, of each round's own. A ping goes through the worker twice.");
    let missed: Vec<String> = docs.write("idle", &page).err().into_iter().collect();
    output.end(&json!({ "idle": figures }), &missed)
}
