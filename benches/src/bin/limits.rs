//! Where devices end: `limits throughput`, `limits connections`. Called by `scripts/bench limits`.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use levee_benches::limits::connections::{Levee as Device, config};
use levee_benches::limits::throughput;
use levee_benches::page::Docs;
use levee_benches::program::{Output, has_cores};
use levee_benches::services::Services;
use levee_benches::throughput::contestants::{Bounce, Contestant, Levee, Linux, On, Way};
use levee_benches::throughput::topology::Topology;
use levee_benches::throughput::{Field, Plan};
use levee_pktgen::connections::{self, capacity, closing_rate, establishment_rate, tear_down};
use levee_pktgen::search::{Found, Search};
use levee_pktgen::{Error, Sizes};
use serde_json::{Value, json};

/// What levee and its yardsticks can do before they lose something. Needs root, and two cores that have nothing else to do.
#[derive(Parser)]
#[command(max_term_width = 110)]
struct Options {
    #[command(subcommand)]
    what: What,
    /// How long a trial is. RFC 2544 wants 60 for what is published.
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How often a failed trial is tried again before it counts; RFC 2544 says never.
    #[arg(long, global = true, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=10))]
    chances: u32,
    #[command(flatten)]
    docs: Docs,
    #[command(flatten)]
    output: Output,
}

#[derive(Subcommand)]
enum What {
    /// RFC 2544, section 26.1: the highest rate at a loss of at most 0.001 %.
    Throughput {
        /// 7 frames of 64 bytes to 4 of 594 to 1 of 1518, instead of 64 alone.
        #[arg(long)]
        imix: bool,
    },
    /// RFC 9693, sections 4.5 to 4.9: connections of levee's `nat`.
    Connections {
        /// Connections in each trial of a rate.
        #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
        flows: u32,
        /// Room that levee is given for flows.
        #[arg(long, value_name = "N", default_value_t = 131_072, value_parser = clap::value_parser!(u32).range(1024..=16_777_216))]
        capacity: u32,
        /// A rate at which it surely manages.
        #[arg(long, value_name = "PER_SECOND", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
        gentle: u32,
    },
}

fn main() -> ExitCode {
    let options = Options::parse();
    if !has_cores("limits", 2, "one for the generator and one for who forwards") {
        return ExitCode::SUCCESS;
    }
    let plan = Plan { rounds: 1, window: Duration::from_secs(options.seconds), source: 0, forwarder: 1 };
    let chances = options.chances;
    let done = match options.what {
        What::Throughput { imix } => {
            let one = Services { count: 1 };
            let contestants: Vec<Box<dyn Contestant>> = vec![
                Box::new(Bounce),
                Box::new(Levee::new(Way::MacRewriting)),
                Box::new(Levee::new(Way::Nat(one))),
                Box::new(Linux(On::ItsCore)),
            ];
            match Field::build(contestants, &plan) {
                Some(field) => throughputs(&field, imix, chances, &plan, &options.docs),
                None => return ExitCode::SUCCESS,
            }
        }
        What::Connections { flows, capacity, gentle } => match Topology::build() {
            Some(topology) => {
                let search = Search { chances, precision: 0.05, ..Search::lossless(f64::from(gentle) / 10.0, 2e6) };
                let how = connections::Plan { flows, gentle: gentle.into(), search };
                of_connections(&topology, capacity, &how, &plan, &options.docs)
            }
            None => return ExitCode::SUCCESS,
        },
    };
    let written = done.and_then(|figures| options.output.write(&figures));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("limits: {error}");
            ExitCode::FAILURE
        }
    }
}

fn of_search(found: &Found) -> Value {
    let trials = found.trials.iter().map(|trial| {
        json!({ "rate": trial.rate, "offered": trial.offered, "sent": trial.sent, "received": trial.received, "loss": trial.loss() })
    });
    json!({
        "rate": found.best.map(|trial| trial.offered), "loss": found.best.map(|trial| trial.loss()),
        "device_may_do_more": found.device_may_do_more, "trials": trials.collect::<Vec<_>>(),
    })
}

fn throughputs(field: &Field, imix: bool, chances: u32, plan: &Plan, docs: &Docs) -> Result<Value, String> {
    let sizes = if imix { Sizes::imix() } else { Sizes::fixed(64) };
    let head = format!(
        "RFC 2544 throughput, {}, 1,024 flows, trials of {} s with {chances} more for one that fails, loss ≤ 0.001 %",
        if imix { "IMIX" } else { "64-byte frames" },
        plan.window.as_secs()
    );
    println!("{head}");
    let mut page = format!("{head}\n\n| | Mpps | trials | |\n|---|---:|---:|---|\n");
    let mut figures = serde_json::Map::new();
    for entry in &field.entries {
        let name = entry.contestant.name();
        eprintln!("{name}:");
        let found = throughput(entry, &sizes, chances, plan).map_err(|error| error.to_string())?;
        let more = if found.device_may_do_more { ", and may do more" } else { "" };
        println!("{name:32} {:>9.3} Mpps in {} trials{more}", found.rate() / 1e6, found.trials.len());
        let more = if found.device_may_do_more { "may do more" } else { "" };
        page.push_str(&format!("| {name} | {:.3} | {} | {more} |\n", found.rate() / 1e6, found.trials.len()));
        figures.insert(entry.contestant.key(), of_search(&found));
    }
    docs.write(if imix { "throughput of a mix" } else { "throughput" }, &page)?;
    Ok(json!({ "rfc2544_throughput": figures }))
}

fn of_connections(
    topology: &Topology,
    room: u32,
    how: &connections::Plan,
    plan: &Plan,
    docs: &Docs,
) -> Result<Value, String> {
    let said = |error: Error| error.to_string();
    let connections::Plan { flows, gentle, .. } = *how;
    let mut levee = Device::start(topology, plan.forwarder, room);
    let config = config(plan.source);
    let head = format!("RFC 9693, levee, nat, ten endpoints, {flows} TCP connections a trial, room for {room} flows");
    println!("{head}");
    let begin = establishment_rate(topology, &mut levee, &config, how).map_err(said)?;
    println!(
        "{:40} {:>12.0} /s in {} trials (4.5, validated as in 4.6)",
        "connections established",
        begin.rate(),
        begin.trials.len()
    );
    let end = closing_rate(topology, &mut levee, &config, how).map_err(said)?;
    println!("{:40} {:>12.0} /s in {} trials", "connections closed from both ends", end.rate(), end.trials.len());
    let (forgotten, took) = tear_down(topology, &mut levee, &config, how).map_err(said)?;
    let rate = forgotten as f64 / took.as_secs_f64();
    println!("{:40} {rate:>12.0} /s: {forgotten} in {took:.1?} (4.8)", "connections torn down on demand");
    let most = capacity(topology, &mut levee, &config, how, room.saturating_mul(2)).map_err(said)?;
    let more = if most.device_may_do_more { ", and may have room for more" } else { "" };
    println!("{:40} {:>12.0} in {} trials (4.9){more}", "connections at a time", most.rate(), most.trials.len());
    if begin.best.is_none() || end.best.is_none() {
        eprintln!("levee: {}\n{}", levee.dataplane.counters(), levee.dataplane.daemon.log());
    }
    let page = format!(
        "{head}\n\n| | | trials |\n|---|---:|---:|\n\
         | connections established (4.5, validated as in 4.6) | {:.0} /s | {} |\n\
         | connections closed from both ends | {:.0} /s | {} |\n\
         | connections torn down on demand (4.8) | {rate:.0} /s | {forgotten} in {took:.1?} |\n\
         | connections at a time{more} (4.9) | {:.0} | {} |\n",
        begin.rate(),
        begin.trials.len(),
        end.rate(),
        end.trials.len(),
        most.rate(),
        most.trials.len()
    );
    docs.write("connections", &page)?;
    Ok(json!({ "rfc9693": {
        "flows": flows, "room": room, "gentle": gentle, "established_per_second": of_search(&begin),
        "closed_per_second": of_search(&end), "torn_down": { "flows": forgotten, "seconds": took.as_secs_f64(), "per_second": rate },
        "capacity": of_search(&most),
    } }))
}
