//! levee beside its peers, in one run. Called by `scripts/bench peers`; [`levee_benches::peers`] says what is measured.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use levee_benches::peers::{Flood, Machine, Pause, Pipeline, Results, Row, Times, change, flood, idle, per_flow, time};
use levee_benches::program::{Output, has_cores, write};
use levee_benches::services::{MOST, Services};
use levee_benches::throughput::contestants::{
    Bounce, Bridge, Contestant, Ipvs, Levee, Linux, Nftables, On, Testpmd, Way, inline,
};
use levee_benches::throughput::{Field, Plan, measure, spread};
use serde_json::Value;

/// Rounds of latency and of floods, at least: what happens once a second happens to some frames in a thousand in any of them, and a
/// median of three is two bad ones.
const TIMES: usize = 5;

/// The part of levee's throughput at which latency is measured.
const TENTH: f64 = 0.1;

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Frames a second of everybody
    Throughput,
    /// Time under way at a tenth of the load
    Latency,
    /// Established flows beside beginning ones
    Flood,
    /// One backend changed, again and again
    Changes,
    /// Nothing to do
    Idle,
    /// Turns full of newcomers, over memory
    Pause,
}

#[derive(Parser)]
#[command(about = "levee beside its peers, in one run", disable_version_flag = true)]
struct Options {
    /// Times that each contestant gets its turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Seconds that each is measured
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=60))]
    seconds: u16,
    /// Numbers of Services, each of ten endpoints
    #[arg(long, value_delimiter = ',', default_value = "1,5000,25000", value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST)))]
    services: Vec<u32>,
    #[command(flatten)]
    output: Output,
    /// Only these parts, with a round of throughput of those that they need
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// levee with this line of its configuration as well, in turn with levee as it is; may be given several times
    #[arg(long = "with", value_name = "YAML")]
    with: Vec<String>,
    /// The directory for figures.md and the plots
    #[arg(long)]
    figures: Option<PathBuf>,
    /// Criterion's figures of the way over memory, as scripts/bench gathers them
    #[arg(long)]
    pipeline: Option<PathBuf>,
    /// What scripts/instructions --json has counted
    #[arg(long)]
    instructions: Option<PathBuf>,
    /// What was built
    #[arg(long, default_value = "unknown")]
    commit: String,
    /// What was called
    #[arg(long, default_value = "peers")]
    command: String,
}

impl Options {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// Whether anything is measured that needs somebody to forward.
    fn wants_a_field(&self) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| *part != Part::Pause)
    }

    /// levee as it is, and with each of the lines.
    fn levees(&self, services: Services) -> Vec<Levee> {
        let all = std::iter::once("").chain(self.with.iter().map(String::as_str));
        all.map(|more| Levee::with(Way::Nat(services), more)).collect()
    }
}

fn main() -> ExitCode {
    let mut options = Options::parse();
    options.services.sort_unstable();
    options.services.dedup();
    if !has_cores("peers", 2, "one for the generator and one for who forwards") {
        return ExitCode::SUCCESS;
    }
    let Some(results) = run(&options) else { return ExitCode::SUCCESS };
    let text = results.markdown();
    println!("\n{text}");
    if let Err(problem) = keep(&options, &results, &text) {
        eprintln!("peers: {problem}");
        return ExitCode::FAILURE;
    }
    // Of a part there is nothing to be judged by.
    let failures = if options.only.is_empty() { results.failures() } else { Vec::new() };
    for failure in &failures {
        eprintln!("missed: {failure}");
    }
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn contestants(options: &Options, services: &[Services]) -> Vec<Box<dyn Contestant>> {
    if !options.wants_a_field() {
        return Vec::new();
    }
    let mut all: Vec<Box<dyn Contestant>> = vec![Box::new(Bounce), Box::new(Testpmd)];
    if !options.wants(Part::Throughput) {
        // Who is compared in the other parts.
        for levee in services.first().into_iter().flat_map(|services| options.levees(*services)) {
            all.push(Box::new(levee));
        }
        if options.wants(Part::Latency) {
            all.extend([On::ItsCore, On::Receiving].map(|on| Box::new(Linux(on)) as Box<dyn Contestant>));
        } else {
            all.drain(..2);
        }
        return all;
    }
    for (index, services) in services.iter().copied().enumerate() {
        for levee in options.levees(services).into_iter().take(if index == 0 { usize::MAX } else { 1 }) {
            all.push(Box::new(levee));
        }
        for on in [On::ItsCore, On::Receiving] {
            all.push(Box::new(Nftables { services, on }));
        }
        all.push(Box::new(Ipvs { services, on: On::ItsCore }));
    }
    all.push(Box::new(Levee::new(Way::MacRewriting)));
    for on in [On::ItsCore, On::Receiving] {
        all.push(Box::new(Bridge(on)));
        all.push(Box::new(Linux(on)));
    }
    all
}

fn run(options: &Options) -> Option<Results> {
    let plan = Plan {
        rounds: options.rounds.into(),
        window: Duration::from_secs(options.seconds.into()),
        source: 0,
        forwarder: 1,
    };
    let services: Vec<Services> = options.services.iter().map(|count| Services { count: *count }).collect();
    let begun = Instant::now();
    let step = |what: &str| eprintln!("{:4.0} s: {what}", begun.elapsed().as_secs_f64());
    let mut pauses = Vec::new();
    if options.wants(Part::Pause) {
        // First, while there is no place yet in which anything could be left to do.
        step("turns full of newcomers, over memory");
        pauses = Pause::all();
        for pause in &pauses {
            let [p50, p99, longest] = [0.5, 0.99, 1.0].map(|part| pause.at(part));
            eprintln!("        {}, {:50} {p50:.1} / {p99:.1} / {longest:.1} µs", pause.kind, pause.scene);
        }
    }
    step("building places, and looking at what each contestant makes of frames");
    let field = Field::build(contestants(options, &services), &plan)?;
    let mut rows: Vec<Row> = field
        .entries
        .iter()
        .map(|entry| Row { key: entry.contestant.key(), name: entry.contestant.name(), scores: Vec::new() })
        .collect();
    for round in 1..=plan.rounds {
        if field.entries.is_empty() {
            break;
        }
        step(&format!("round {round} of {}", plan.rounds));
        for (entry, row) in field.entries.iter().zip(&mut rows) {
            let score = measure(&*entry.contestant, &entry.topology, &plan);
            let core = score.core.map_or_else(String::new, |core| format!(", {:.0} % of its core", core * 100.0));
            eprintln!("        {:46} {:.3} Mpps of {:.2}{core}", row.name, score.arrived, score.sent);
            row.scores.push(score);
        }
    }
    let (few, many) = (*services.first()?, *services.last()?);
    let levees = options.levees(few);
    let levee = Levee::new(Way::Nat(few));
    let mut results = Results {
        machine: Machine::here(&options.commit, &options.command),
        plan,
        services: options.services.clone(),
        rows,
        missing: field.missing.clone(),
        tenth: 0.0,
        times: Vec::new(),
        floods: Vec::new(),
        changes: None,
        idle: Vec::new(),
        per_flow: None,
        pipeline: pipeline(options),
        pauses,
    };
    // levee itself does not forward: everything else would be the same failure again.
    let Some(entry) = field.entry(&levee.key()) else { return Some(results) };
    let own = results.rows.iter().find(|row| row.key == levee.key())?;
    results.tenth = spread(own.scores.iter().map(|score| score.arrived)).0 * 1e6 * TENTH;
    let again = plan.rounds.max(TIMES);
    let (linux, rules) = (Linux(On::ItsCore).key(), Nftables { services: few, on: On::ItsCore }.key());
    let mut keys: Vec<String> = levees.iter().map(Levee::key).collect();
    keys.extend([linux.clone(), inline(&linux), inline(&rules), rules, Testpmd.key(), Bounce.key()]);
    let timed = || keys.iter().filter(|_| options.wants(Part::Latency)).filter_map(|key| field.entry(key));
    results.times = timed().map(|_| Vec::new()).collect();
    for round in 1..=again {
        if !options.wants(Part::Latency) {
            break;
        }
        step(&format!("latency at a tenth of the load, round {round} of {again}"));
        for (entry, rounds) in timed().zip(&mut results.times) {
            for times in time(entry, &plan, results.tenth) {
                let Times { name, p50, p99, p999, .. } = &times;
                eprintln!("        {name:46} {p50:.1} / {p99:.1} / {p999:.1} µs");
                rounds.push(times);
            }
        }
    }
    let topology = &entry.topology;
    if options.wants(Part::Flood) {
        for round in 1..=again {
            step(&format!("established flows beside beginning ones, round {round} of {again}"));
            let floods = flood(&levees, topology, &plan);
            results.floods.resize(floods.len(), Vec::new());
            for (flood, rounds) in floods.into_iter().zip(&mut results.floods) {
                let ((sent, lost), syns) = (flood.established, Flood::share(flood.syns));
                eprintln!("        {:40} {syns} {lost} of {sent} lost, {} found a ring full", flood.name, flood.unseen);
                rounds.push(flood);
            }
        }
    }
    if options.wants(Part::Changes) {
        step("one backend changed, again and again");
        results.changes = Some(change(many, topology, &plan));
    }
    if options.wants(Part::Idle) {
        step("nothing to do");
        results.idle = [("sleep", few), ("sleep", many), ("poll", few)]
            .into_iter()
            .map(|(how, services)| idle(how, services, topology, &plan))
            .collect();
        results.per_flow = Some(per_flow());
    }
    step("done");
    Some(results)
}

/// What there is of it; nothing is no reason to measure nothing else.
fn pipeline(options: &Options) -> Pipeline {
    let read = |file: &Option<PathBuf>, what: &str| {
        let Some(file) = file else { return Value::Null };
        let text = fs::read_to_string(file).map_err(|error| error.to_string());
        text.and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string())).unwrap_or_else(|problem| {
            eprintln!("SKIPPED: {what}: {}: {problem}", file.display());
            Value::Null
        })
    };
    let figures = read(&options.pipeline, "the way over memory");
    let pipeline = Pipeline::read(&figures, &read(&options.instructions, "instructions"));
    if pipeline.established.is_empty() && options.pipeline.is_some() {
        eprintln!("SKIPPED: the way over memory: criterion has left no figure of `nat` with a number of flows");
    }
    pipeline
}

fn keep(options: &Options, results: &Results, text: &str) -> Result<(), String> {
    options.output.write(&results.json())?;
    if let Some(directory) = &options.figures {
        fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        write(&directory.join("figures.md"), text)?;
        for (name, plot) in results.plots() {
            write(&directory.join(name), &plot.svg()?)?;
        }
    }
    Ok(())
}
