//! End-to-end throughput. Called by `scripts/bench`; `--help` says with what.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, value_parser};
use levee_benches::program::{Output, has_cores, number};
use levee_benches::services::Services;
use levee_benches::throughput::contestants::{Bounce, Contestant, Levee, Linux, On, Way};
use levee_benches::throughput::{Entry, Field, Plan, Score, measure, spread};
use serde_json::json;

/// What levee must reach of the bare bounce.
const FLOOR: f64 = 0.9;

/// levee end to end over veth, beside a bare bounce and Linux
#[derive(Parser)]
#[command(disable_version_flag = true)]
struct Options {
    /// Times that each contestant gets its turn
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = number(1..=1_000))]
    rounds: usize,
    /// Seconds that each is measured
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = value_parser!(u64).range(1..=1_000))]
    seconds: u64,
    #[command(flatten)]
    output: Output,
}

fn main() -> ExitCode {
    let Options { rounds, seconds, output } = Options::parse();
    let plan = Plan { rounds, window: Duration::from_secs(seconds), source: 0, forwarder: 1 };
    if has_cores("throughput", 2, "one for the generator and one for who forwards") {
        run(&plan, &output)
    } else {
        ExitCode::SUCCESS
    }
}

fn run(plan: &Plan, output: &Output) -> ExitCode {
    let contestants: Vec<Box<dyn Contestant>> = vec![
        Box::new(Bounce),
        Box::new(Levee::new(Way::MacRewriting)),
        Box::new(Levee::new(Way::Nat(Services { count: 1 }))),
        Box::new(Linux(On::Receiving)),
    ];
    let wanted = contestants.len();
    let Some(field) = Field::build(contestants, plan) else { return ExitCode::SUCCESS };
    if field.entries.len() < wanted {
        return ExitCode::FAILURE;
    }
    let mut scores: BTreeMap<String, Vec<Score>> = BTreeMap::new();
    for round in 1..=plan.rounds {
        for Entry { contestant, topology } in &field.entries {
            let score = measure(&**contestant, topology, plan);
            let core = score.core.map_or_else(String::new, |core| format!(", {:.0} % of its core", core * 100.0));
            eprintln!("round {round}: {:36} {:.3} Mpps of {:.2}{core}", contestant.name(), score.arrived, score.sent);
            scores.entry(contestant.key()).or_default().push(score);
        }
    }
    let bounce: Vec<f64> = scores[&Bounce.key()].iter().map(Score::deserved).collect();
    println!(
        "\n{} rounds of {} s, 64-byte TCP of 1,024 flows, generator on core {}, forwarder on core {}",
        plan.rounds,
        plan.window.as_secs(),
        plan.source,
        plan.forwarder
    );
    println!("{:36} {:>8} {:>15} {:>10} {:>13} {:>9}", "", "Mpps", "least–most", "÷ bounce", "least–most", "its core");
    let (mut figures, mut missed) = (serde_json::Map::new(), Vec::new());
    for Entry { contestant, .. } in &field.entries {
        let of = &scores[&contestant.key()];
        let (median, least, most) = spread(of.iter().map(|score| score.arrived));
        let ratios = of.iter().zip(&bounce).map(|(score, bounce)| score.deserved() / bounce);
        let core = of.iter().filter_map(|score| score.core).fold(f64::INFINITY, f64::min);
        let core = if core.is_finite() { format!("{:.0} %", core * 100.0) } else { "–".into() };
        let (ratio, lowest, highest) = spread(ratios);
        let name = contestant.name();
        let (rates, ratios) = (format!("{least:.3}–{most:.3}"), format!("{lowest:.2}–{highest:.2}"));
        println!("{name:36} {median:>8.3} {rates:>15} {ratio:>10.2} {ratios:>13} {core:>9}");
        figures.insert(
            contestant.key(),
            json!({
                "mpps": { "median": median, "least": least, "most": most },
                "ratio_to_bounce": { "median": ratio, "least": lowest, "most": highest },
                "rounds": of.iter().map(|score| json!({ "mpps": score.arrived, "sent_mpps": score.sent, "core": score.core })).collect::<Vec<_>>(),
            }),
        );
        if contestant.key().starts_with("levee") && ratio < FLOOR {
            missed
                .push(format!("{name} is below the floor: {ratio:.2} of the bare bounce, where {FLOOR} is the least"));
        }
    }
    println!(
        "÷ bounce: in the same round, for the time that each had its core. Its core: the least part of it in any round."
    );
    output.end(&json!({ "floor": FLOOR, "reached": missed.is_empty(), "throughput": figures }), &missed)
}
