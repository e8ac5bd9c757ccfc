//! What a change costs in the dataplane. Called by `scripts/bench delta`; `--help` says with what.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use levee_benches::control::{ENDPOINTS, quantile};
use levee_benches::delta::Programmer;
use levee_benches::memory::resident;
use levee_benches::program::{Output, number};
use levee_benches::throughput::contestants::{Contestant as _, Levee, Way};
use levee_benches::throughput::send;
use levee_benches::throughput::topology::Topology;
use levee_pktgen::Stream;
use levee_tests::levee::Dataplane;
use serde_json::{Value, json};

/// One backend changed, among so many Services: microseconds at most in the median.
const ONE_CHANGE: (usize, f64) = (25_000, 200.0);

/// What must be left of the throughput while changes are made.
const THROUGHPUT: f64 = 0.99;

/// Changes a second while throughput is measured: a rollout of a large cluster.
const PACE: Duration = Duration::from_millis(20);

/// How long throughput is measured, with changes and without, and how often.
const WINDOW: Duration = Duration::from_secs(1);
const WINDOWS: usize = 5;

/// The generator's core, and the worker's.
const CORES: (usize, usize) = (0, 1);

/// What the worker does while changes are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Worker {
    /// Nothing to do, `idle: sleep`.
    Asleep,
    /// Nothing to do, `idle: poll`.
    Polling,
    /// As many frames as a core can send.
    Forwarding,
}

impl Worker {
    fn name(self) -> &'static str {
        match self {
            Worker::Asleep => "asleep",
            Worker::Polling => "polling",
            Worker::Forwarding => "forwarding",
        }
    }
}

/// What one backend changed, and one Service, cost over the dataplane's own socket
#[derive(Parser)]
#[command(disable_version_flag = true)]
struct Options {
    /// Numbers of Services, each of ten backends
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1, 5_000, ONE_CHANGE.0, 100_000], value_parser = number(1..=200_000))]
    services: Vec<usize>,
    /// Changes of each kind
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = number(1..=200_000))]
    changes: usize,
    /// What the worker does meanwhile; all of it if not said
    #[arg(long = "worker", value_enum, default_values_t = Worker::value_variants().iter().copied())]
    workers: Vec<Worker>,
    #[command(flatten)]
    output: Output,
}

fn main() -> ExitCode {
    let mut options = Options::parse();
    // A program only grows.
    options.services.sort_unstable();
    run(&options)
}

fn run(options: &Options) -> ExitCode {
    let mut rows = Vec::new();
    println!(
        "one change, µs from the request to the answer, {} times each; {ENDPOINTS} backends a Service\n\
         {:10} {:>8}  {:>24}  {:>24}  {:>10}  {:>8}",
        options.changes,
        "worker",
        "Services",
        "backend: median p99 most",
        "Service: median p99 most",
        "throughput",
        "resident"
    );
    for worker in &options.workers {
        let Some(topology) = Topology::build() else { return ExitCode::SUCCESS };
        let dataplane = start(&topology, *worker);
        let stream = (*worker == Worker::Forwarding).then(|| forward(&topology));
        let mut programmer = Programmer::new(dataplane.socket());
        for services in &options.services {
            programmer.grow_to(*services);
            let row =
                measure(&mut programmer, *worker, options.changes, &dataplane, stream.as_ref().map(|_| &topology));
            println!("{}", row.text());
            rows.push(row);
        }
    }
    let missed: Vec<String> = rows.iter().flat_map(Row::missed).collect();
    options.output.end(&json!({ "delta": rows.iter().map(Row::json).collect::<Vec<_>>(), "missed": missed }), &missed)
}

fn start(topology: &Topology, worker: Worker) -> Dataplane {
    let idle = if worker == Worker::Asleep { "sleep" } else { "poll" };
    Dataplane::start_as(&topology.forwarder, |socket| {
        format!(
            "ports:\n  - {{interface: out0, role: uplink}}\n  - {{interface: in0, role: pods, neighbours: in0}}\n\
             workers: [{}]\nidle: {idle}\nsocket: {}\nflows: {{capacity: 65536}}\n",
            CORES.1,
            socket.display()
        )
    })
}

/// From the pods' side to the uplink, which needs no Service.
fn forward(topology: &Topology) -> Stream {
    send(topology, &Levee::new(Way::MacRewriting).offer(), CORES.0, None)
}

struct Row {
    worker: Worker,
    services: usize,
    backend: Vec<f64>,
    service: Vec<f64>,
    /// Of what it was without changes.
    throughput: Option<f64>,
    /// Bytes of the dataplane's process.
    resident: u64,
}

fn measure(
    programmer: &mut Programmer,
    worker: Worker,
    changes: usize,
    dataplane: &Dataplane,
    topology: Option<&Topology>,
) -> Row {
    let services = programmer.services();
    // Far from each other, and each taken away before it is given back.
    let victim = |change: usize| (change / 2 * 7_919) % services;
    let mut sorted = |change: &mut dyn FnMut(&mut Programmer, usize) -> Duration| {
        let mut times: Vec<f64> = (0..changes / 2 * 2)
            .map(|number| {
                // Not in step with anything that beats; and long enough for a worker to fall asleep.
                std::thread::sleep(Duration::from_micros(3_000 + number as u64 * 727 % 2_000));
                change(programmer, number).as_secs_f64() * 1e6
            })
            .collect();
        times.sort_by(f64::total_cmp);
        times
    };
    let backend = sorted(&mut |programmer, number| programmer.change_backend(victim(number), number % 2 == 0));
    let service = sorted(&mut |programmer, number| programmer.change_service(services + number / 2, number % 2 == 1));
    let throughput = topology.map(|topology| {
        let rates = (0..WINDOWS).map(|window| {
            let still = rate(topology, || {});
            let mut change = window * 1_000;
            let changing = rate(topology, || {
                programmer.change_backend(victim(change), change % 2 == 0);
                change += 1;
            });
            changing / still
        });
        let mut rates: Vec<f64> = rates.collect();
        rates.sort_by(f64::total_cmp);
        quantile(&rates, 0.5)
    });
    Row { worker, services, backend, service, throughput, resident: resident(dataplane.daemon.pid()).now }
}

/// Frames a second that arrive while something is done at a pace.
fn rate(topology: &Topology, mut work: impl FnMut()) -> f64 {
    let (begun, before) = (Instant::now(), topology.arrived());
    while begun.elapsed() < WINDOW {
        work();
        std::thread::sleep(PACE);
    }
    (topology.arrived() - before) as f64 / begun.elapsed().as_secs_f64()
}

impl Row {
    fn text(&self) -> String {
        let times = |sorted: &[f64]| {
            let at = |part| quantile(sorted, part);
            format!("{:>8.0} {:>7.0} {:>7.0}", at(0.5), at(0.99), at(1.0))
        };
        let throughput = self.throughput.map_or("–".to_owned(), |ratio| format!("{ratio:.3}"));
        format!(
            "{:10} {:>8}  {}  {}  {throughput:>10}  {:>4} MiB",
            self.worker.name(),
            self.services,
            times(&self.backend),
            times(&self.service),
            self.resident >> 20
        )
    }

    fn json(&self) -> Value {
        let times = |sorted: &[f64]| {
            let at = |part| quantile(sorted, part);
            json!({ "median": at(0.5), "p99": at(0.99), "most": at(1.0) })
        };
        json!({
            "worker": self.worker.name(),
            "services": self.services,
            "backends": self.services * ENDPOINTS,
            "backend_us": times(&self.backend),
            "service_us": times(&self.service),
            "throughput": self.throughput,
            "resident_bytes": self.resident,
        })
    }

    /// Which bars it does not reach.
    fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        let (worker, services) = (self.worker.name(), self.services);
        let median = quantile(&self.backend, 0.5);
        if services == ONE_CHANGE.0 && self.worker != Worker::Forwarding && median > ONE_CHANGE.1 {
            missed.push(format!("{worker}, {services} Services: {median:.0} µs, where {} is the most", ONE_CHANGE.1));
        }
        if let Some(ratio) = self.throughput.filter(|ratio| *ratio < THROUGHPUT) {
            missed.push(format!(
                "{services} Services: {ratio:.3} of the throughput while changes are made, where {THROUGHPUT} is the least"
            ));
        }
        missed
    }
}
