//! Flow tables beside each other, and how many frames to take at once. Called by `scripts/bench`; `--help` says with what.
//!
//! Wants nothing but memory (4 GiB for ten million flows) and a core that is quiet; no root.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use levee_benches::batches;
use levee_benches::peers::Machine;
use levee_benches::program::{Output, number, write};
use levee_benches::tables::contest::{self, Plan};
use levee_benches::tables::page::Page;
use levee_pktgen::pin;
use serde_json::json;

/// Flow tables beside each other, and how many frames to take at once
#[derive(Parser)]
#[command(disable_version_flag = true)]
struct Options {
    /// Times that each has its turn
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = number(1..=1_000))]
    rounds: usize,
    /// Flows
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1_000, 100_000, 1_000_000, 10_000_000],
          value_parser = clap::value_parser!(u32).range(256..=16_000_000))]
    flows: Vec<u32>,
    /// Where to write the tables, for people
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// What was built
    #[arg(long, value_name = "COMMIT", default_value = "unknown")]
    commit: String,
    /// What was called
    #[arg(long, value_name = "COMMAND", default_value = "tables")]
    command: String,
    /// The core that it runs on
    #[arg(long, value_name = "CORE", default_value_t = 1)]
    core: usize,
    #[command(flatten)]
    output: Output,
}

fn main() -> ExitCode {
    let options = Options::parse();
    // Before there is one core left.
    let machine = Machine::here(&options.commit, &options.command);
    if let Err(problem) = pin(options.core) {
        eprintln!("tables: {problem}");
        return ExitCode::FAILURE;
    }
    let step = |what: &str| eprintln!("    {what}");
    let (rounds, plan) = (options.rounds, Plan::rounds(options.rounds));
    let page = Page {
        machine,
        rounds,
        tables: options.flows.iter().flat_map(|flows| contest::measure(*flows, &plan, step)).collect(),
        batches: options.flows.iter().flat_map(|flows| batches::measure(*flows, &plan, step)).collect(),
    };
    let text = page.text();
    print!("\n{text}");
    let missed: Vec<String> = options.page.iter().filter_map(|file| write(file, &text).err()).collect();
    let rows: Vec<_> = page.tables.iter().map(|row| row.json()).collect();
    let batches: Vec<_> = page.batches.iter().map(batches::Row::json).collect();
    options.output.end(&json!({ "tables": rows, "batches": batches }), &missed)
}
