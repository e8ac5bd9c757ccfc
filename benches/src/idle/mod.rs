//! What a worker costs that has nothing to do, and what its sleep costs the first packet after a pause.
//!
//! ```text
//!  ┌ pod ────┐      ┌ node ───────────────┐      ┌ far ─────┐
//!  │     g0 ════════ in0   levee    out0 ═════════ s0       │
//!  └─────────┘      └─────────────────────┘      └──────────┘
//!    ping, core 0          worker, core 1          the kernel answers
//! ```
//!
//! A ping goes through the worker twice. At long intervals it finds it asleep, if it sleeps; back to back it does not. The kernel,
//! forwarding the same pings in the place of levee, is what they are compared with.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use levee_api::net::Mac;
use levee_api::program::{Local, Pod, Program};
use levee_tests::levee::Dataplane;
use levee_tests::{Lab, Namespace};

const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 5);
const POD_MAC: Mac = Mac([2, 0, 0, 0, 1, 5]);
const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
const FAR_MAC: Mac = Mac([2, 0, 0, 0, 2, 9]);
const IN_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const OUT_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);

/// Who forwards, and what it does when there is nothing to forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The kernel, without a rule.
    Linux,
    /// levee, `idle: sleep`.
    Sleep,
    /// levee, `idle: poll`.
    Poll,
}

impl Mode {
    /// In the order of a round.
    pub const ALL: [Mode; 3] = [Mode::Linux, Mode::Sleep, Mode::Poll];

    /// As tables call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Mode::Linux => "Linux forwarding",
            Mode::Sleep => "levee, idle: sleep",
            Mode::Poll => "levee, idle: poll",
        }
    }
}

/// How it is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Pings of each kind.
    pub pings: usize,
    /// How long nothing happens.
    pub quiet: Duration,
    /// The core of ping and of the kernel that answers it.
    pub source: usize,
    /// The worker's core.
    pub worker: usize,
}

/// What was seen.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Of a core, while nothing came; `None` for the kernel, whose threads are everybody's.
    pub idle: Option<f64>,
    /// Of a core, while a ping came every [`PAUSE`].
    pub pinged: Option<f64>,
    /// Round trips after pauses, sorted.
    pub after_pauses: Vec<Duration>,
    /// Round trips without pauses, sorted.
    pub back_to_back: Vec<Duration>,
}

/// Between pings, for a worker to fall asleep: a hundred times as long as it searches.
pub const PAUSE: Duration = Duration::from_millis(10);

/// One of the sorted round trips: 0.5 is the median.
///
/// # Panics
/// If there are none.
#[must_use]
pub fn quantile(sorted: &[Duration], part: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * part).round() as usize]
}

/// Three namespaces in a row.
pub struct Row {
    pod: Namespace,
    node: Namespace,
    _far: Namespace,
    _lab: Lab,
}

impl Row {
    /// Builds it; `None`, said aloud, where the machine cannot have it.
    #[must_use]
    pub fn build() -> Option<Row> {
        let lab = Lab::start()?;
        let (pod, node, far) = (lab.namespace("pod"), lab.namespace("node"), lab.namespace("far"));
        node.ip_batch(&format!(
            "link add in0 address {IN_MAC} type veth peer name g0 address {POD_MAC} netns {}
             link add out0 address {OUT_MAC} type veth peer name s0 address {FAR_MAC} netns {}
             addr add 10.244.1.1/24 dev in0
             addr add 192.0.2.1/24 dev out0
             link set in0 up
             link set out0 up",
            pod.name(),
            far.name()
        ));
        pod.ip_batch(&format!(
            "addr add {POD}/24 dev g0
             link set g0 up
             neigh replace 10.244.1.1 lladdr {IN_MAC} dev g0 nud permanent
             route add default via 10.244.1.1"
        ));
        far.ip_batch(&format!(
            "addr add {FAR}/24 dev s0
             link set s0 up
             neigh replace 192.0.2.1 lladdr {OUT_MAC} dev s0 nud permanent
             route add default via 192.0.2.1"
        ));
        node.ip_batch(&format!(
            "neigh replace {FAR} lladdr {FAR_MAC} dev out0 nud permanent
             neigh replace {POD} lladdr {POD_MAC} dev in0 nud permanent"
        ));
        node.sysctl("net.ipv4.ip_forward", "1");
        Some(Row { pod, node, _far: far, _lab: lab })
    }

    /// One mode's turn.
    ///
    /// # Panics
    /// If pings are lost.
    #[must_use]
    pub fn measure(&self, mode: Mode, plan: &Plan) -> Seen {
        let levee = match mode {
            Mode::Linux => None,
            Mode::Sleep => Some(self.levee("sleep", plan.worker)),
            Mode::Poll => Some(self.levee("poll", plan.worker)),
        };
        let busy = || levee.as_ref().map(|levee| on_core(levee.daemon.pid()));
        // What was said at the start is over, and everybody knows the way.
        let _ = self.ping(10, false, plan);
        std::thread::sleep(Duration::from_millis(500));
        let part = |what: &mut dyn FnMut()| {
            let (start, before) = (Instant::now(), busy());
            what();
            let elapsed = start.elapsed().as_secs_f64();
            before.zip(busy()).map(|(before, after)| after.saturating_sub(before).as_secs_f64() / elapsed)
        };
        let idle = part(&mut || std::thread::sleep(plan.quiet));
        let mut after_pauses = Vec::new();
        let pinged = part(&mut || after_pauses = self.ping(plan.pings, true, plan));
        let back_to_back = self.ping(plan.pings, false, plan);
        Seen { idle, pinged, after_pauses, back_to_back }
    }

    fn levee(&self, idle: &str, core: usize) -> Dataplane {
        let dataplane = Dataplane::start_as(&self.node, |socket| {
            format!(
                "ports:\n  - {{interface: out0, role: uplink}}\n  - {{interface: in0, role: pods, neighbours: in0}}\n\
                 host: false\nworkers: [{core}]\nidle: {idle}\nsocket: {}\nflows: {{capacity: 16384}}\n",
                socket.display()
            )
        });
        dataplane.program(&Program {
            generation: 1,
            local: Local {
                prefixes: vec!["10.244.1.0/24".parse().expect("a prefix")],
                pods: vec![Pod { address: POD.into(), mac: Some(POD_MAC) }],
            },
            ..Program::default()
        });
        dataplane.wait_for_generation(1);
        dataplane.wait_for_neighbours(&[FAR]);
        dataplane
    }

    /// Pings the far end, and gives the round trips, sorted.
    fn ping(&self, count: usize, pauses: bool, plan: &Plan) -> Vec<Duration> {
        let mut command = self.pod.command("taskset");
        command.args(["-c", &plan.source.to_string(), "ping", "-n", "-c", &count.to_string(), "-W", "1"]);
        match pauses {
            true => command.args(["-i", &PAUSE.as_secs_f64().to_string()]),
            // The next as soon as the last one is answered.
            false => command.arg("-A"),
        };
        let output = command.arg(FAR.to_string()).stdin(Stdio::null()).output().expect("ping can be run");
        let text = String::from_utf8_lossy(&output.stdout);
        let mut times: Vec<Duration> = text
            .lines()
            .filter_map(|line| line.split_once("time=")?.1.split_once(" ms")?.0.parse::<f64>().ok())
            .map(|millis| Duration::from_secs_f64(millis / 1000.0))
            .collect();
        assert!(times.len() >= count - count.div_ceil(100), "{} of {count} pings came back: {text}", times.len());
        times.sort();
        times
    }
}

/// Time that the threads of a process have spent on cores so far.
fn on_core(process: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    // The first figure is nanoseconds on a core (Documentation/scheduler/sched-stats.rst).
    let of = |thread: fs::DirEntry| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(threads.filter_map(of).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_there_is() {
        let sorted: Vec<_> = (0..=100).map(Duration::from_micros).collect();
        assert_eq!(quantile(&sorted, 0.5), Duration::from_micros(50));
        assert_eq!(quantile(&sorted, 0.99), Duration::from_micros(99));
        assert_eq!(quantile(&sorted[..1], 0.99), Duration::ZERO);
    }
}
