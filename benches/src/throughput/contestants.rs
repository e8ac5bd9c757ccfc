//! Who forwards: levee twice, the least that AF_XDP can do, and Linux.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use levee_api::program::{Local, Mode, Pod, Program, Vip};
use levee_tests::Daemon;
use levee_tests::levee::{Dataplane, binary};

use super::generator::Pattern;
use super::topology::{FAR, IN_MAC, NEXT, POD, POD_MAC, Topology};
use crate::frames::tcp;
use crate::rig;

/// Flows in each pattern.
const FLOWS: u32 = 1024;
const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contestant {
    /// The example of the `af-xdp` crate: swaps MACs, and has no idea of anything else.
    Bounce,
    /// levee as a node: from the pods' port to the uplink.
    Rewriting,
    /// levee as a balancer: sources and destinations rewritten.
    Nat,
    /// The kernel's own forwarding, without a rule.
    Linux,
}

/// One that runs; it ends when this is dropped.
pub enum Running {
    /// levee.
    Levee(Box<Dataplane>),
    /// Another process.
    Process(Daemon),
    /// The kernel.
    Kernel,
}

impl Contestant {
    /// In the order of a round.
    pub const ALL: [Contestant; 4] = [Contestant::Bounce, Contestant::Rewriting, Contestant::Nat, Contestant::Linux];

    /// As tables call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Contestant::Bounce => "bare AF_XDP bounce",
            Contestant::Rewriting => "levee, MAC rewriting",
            Contestant::Nat => "levee, nat",
            Contestant::Linux => "Linux forwarding",
        }
    }

    /// As `--json` calls it.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Contestant::Bounce => "bounce",
            Contestant::Rewriting => "levee_mac_rewriting",
            Contestant::Nat => "levee_nat",
            Contestant::Linux => "linux_forwarding",
        }
    }

    /// What is sent to it: once for each flow, if flows must begin; then without end.
    #[must_use]
    pub fn patterns(self) -> (Option<Pattern>, Pattern) {
        let pattern = |to, syn| {
            let frame = tcp((POD_MAC, IN_MAC), (POD, 10_000), to, syn);
            Pattern { frame, flows: FLOWS }
        };
        match self {
            Contestant::Nat => (Some(pattern((VIP, 80), true)), pattern((VIP, 80), false)),
            _ => (None, pattern((FAR, 80), false)),
        }
    }

    /// Starts it on a core.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(self, topology: &Topology, core: usize) -> Running {
        let forwarder = &topology.forwarder;
        match self {
            Contestant::Bounce => {
                let mut command = forwarder.command("taskset");
                command.args(["-c", &core.to_string()]).arg(binary("examples/bounce"));
                command.args(["in0", "--to", "out0"]);
                let mut daemon = forwarder.start("bounce", command);
                daemon.wait_until("both interfaces are taken", Duration::from_secs(10), |daemon| {
                    daemon.log().contains("in0 queue") && daemon.log().contains("out0 queue")
                });
                Running::Process(daemon)
            }
            Contestant::Rewriting => {
                let dataplane = Dataplane::start_as(forwarder, |socket| {
                    let ports =
                        "  - {interface: out0, role: uplink}\n  - {interface: in0, role: pods, neighbours: in0}\n";
                    configuration(ports, core, socket, "")
                });
                dataplane.program(&Program {
                    generation: 1,
                    local: Local {
                        prefixes: vec!["10.244.1.0/24".parse().expect("a prefix")],
                        pods: vec![Pod { address: POD.into(), mac: Some(POD_MAC) }],
                    },
                    ..Program::default()
                });
                ready(dataplane)
            }
            Contestant::Nat => {
                let dataplane = Dataplane::start_as(forwarder, |socket| {
                    let ports = "  - {interface: in0, role: uplink}\n  - {interface: out0, role: uplink}\n";
                    configuration(ports, core, socket, "snat: [{address: 192.0.2.100, ports: 1024-65535}]\n")
                });
                dataplane.program(&Program {
                    generation: 1,
                    vips: vec![Vip { address: VIP.into(), announce: false }],
                    services: vec![rig::service("default/web:http", VIP, 80, Mode::Nat, 100)],
                    ..Program::default()
                });
                ready(dataplane)
            }
            Contestant::Linux => Running::Kernel,
        }
    }
}

fn configuration(ports: &str, core: usize, socket: &Path, more: &str) -> String {
    format!(
        "ports:\n{ports}workers: [{core}]\nidle: poll\nsocket: {}\nflows: {{capacity: 65536}}\n{more}",
        socket.display()
    )
}

fn ready(dataplane: Dataplane) -> Running {
    dataplane.wait_for_generation(1);
    dataplane.wait_for_neighbours(&[NEXT]);
    Running::Levee(Box::new(dataplane))
}

impl Running {
    /// Time that it has spent on a core so far; `None` for the kernel, whose work is everybody's.
    #[must_use]
    pub fn busy(&self) -> Option<Duration> {
        let pid = match self {
            Running::Levee(dataplane) => dataplane.daemon.pid(),
            Running::Process(daemon) => daemon.pid(),
            Running::Kernel => return None,
        };
        let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        // The first figure is nanoseconds on a core (Documentation/scheduler/sched-stats.rst).
        let of = |thread: fs::DirEntry| {
            let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        };
        Some(Duration::from_nanos(threads.flatten().filter_map(of).sum()))
    }

    /// What to show if it does not forward.
    #[must_use]
    pub fn story(&self) -> String {
        match self {
            Running::Levee(dataplane) => format!("{}\n{}", dataplane.counters(), dataplane.daemon.log()),
            Running::Process(daemon) => daemon.log(),
            Running::Kernel => String::new(),
        }
    }
}
