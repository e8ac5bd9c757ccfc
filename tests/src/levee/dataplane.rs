//! `levee-dataplane` in a namespace.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use levee_api::net::Mac;
use levee_api::program::Program;
use serde_json::Value;

use super::{START, binary, cli, request};
use crate::daemon::Daemon;
use crate::namespace::Namespace;

/// Which frames of the uplink are levee's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// Those for its addresses; the kernel has the rest.
    Owned,
    /// All; the kernel's come to it through a TAP device.
    All,
}

/// The ports of a dataplane in the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// `eth0` is an uplink, `levee0` faces the pods on `br-ex`.
    Node(Take),
    /// `eth0` is an uplink, and that is all.
    Balancer(Take),
}

/// A running dataplane.
pub struct Dataplane {
    /// The process.
    pub daemon: Daemon,
    namespace: Namespace,
    configuration: PathBuf,
    socket: PathBuf,
}

impl Dataplane {
    /// Starts it, and waits until it is healthy.
    ///
    /// # Panics
    /// If it does not become so.
    #[must_use]
    pub fn start(namespace: &Namespace, ports: Ports) -> Dataplane {
        // Dataplanes are dealt out over the cores by their names, since none of them knows of the others.
        let core = namespace.name().bytes().map(usize::from).sum::<usize>() % cores();
        Dataplane::start_with(namespace, ports, &[core], "")
    }

    /// The same with a worker on each of these cores, and more lines of configuration.
    ///
    /// # Panics
    /// If it does not become healthy.
    #[must_use]
    pub fn start_with(namespace: &Namespace, ports: Ports, workers: &[usize], more: &str) -> Dataplane {
        Dataplane::start_as(namespace, |socket| yaml(ports, workers, socket, more))
    }

    /// The same with a configuration of the caller's own, which is told where the socket is to be.
    ///
    /// # Panics
    /// If it does not become healthy.
    #[must_use]
    pub fn start_as(namespace: &Namespace, configured: impl FnOnce(&Path) -> String) -> Dataplane {
        let file = |ending: &str| namespace.directory().join(format!("{}-dataplane.{ending}", namespace.name()));
        let (configuration, socket) = (file("yaml"), file("sock"));
        fs::write(&configuration, configured(&socket)).expect("the lab's directory can be written");
        let daemon = launch(namespace, &configuration);
        let mut dataplane = Dataplane { daemon, namespace: namespace.clone(), configuration, socket };
        dataplane.wait_until_healthy();
        dataplane
    }

    /// Starts it once more after it was stopped or killed, with the same configuration.
    ///
    /// # Panics
    /// If it does not become healthy.
    pub fn restart(&mut self) {
        assert!(!self.daemon.is_running(), "stop or kill it first");
        self.daemon = launch(&self.namespace, &self.configuration);
        self.wait_until_healthy();
    }

    fn wait_until_healthy(&mut self) {
        let socket = self.socket.clone();
        self.daemon.wait_until("it is healthy", START, |_| request(&socket, "GET", "/v1/health", None).0 == 200);
    }

    /// Its control socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The command line, asking it.
    #[must_use]
    pub fn cli(&self) -> Command {
        cli(&self.socket, None)
    }

    /// `GET`s a path of its socket.
    ///
    /// # Panics
    /// If the answer is no success.
    #[must_use]
    pub fn get(&self, path: &str) -> Value {
        let (status, body) = request(&self.socket, "GET", path, None);
        assert_eq!(status, 200, "GET {path}: {body}");
        body
    }

    /// Any request on its socket: status and body.
    #[must_use]
    pub fn request(&self, method: &str, path: &str, body: Option<&str>) -> (u16, Value) {
        request(&self.socket, method, path, body)
    }

    /// Loads a whole program.
    ///
    /// # Panics
    /// If it is refused.
    pub fn program(&self, program: &Program) {
        let body = serde_json::to_string(program).expect("programs can be written as JSON");
        let (status, answer) = request(&self.socket, "PUT", "/v1/program", Some(&body));
        assert_eq!(status, 200, "PUT /v1/program: {answer}\n{body}");
    }

    /// One of its totals, or the frames dropped for a reason; 0 for a name that it does not have.
    #[must_use]
    pub fn counter(&self, name: &str) -> u64 {
        let counters = self.get("/v1/counters");
        let found = ["totals", "drops"].iter().find_map(|group| counters[group][name].as_u64());
        found.unwrap_or(0)
    }

    /// All counters that are not zero, for messages.
    #[must_use]
    pub fn counters(&self) -> String {
        let counters = self.get("/v1/counters");
        let mut text = String::new();
        for group in ["totals", "drops"] {
            for (name, value) in counters[group].as_object().into_iter().flatten().filter(|(_, value)| **value != 0) {
                let _ = write!(text, "{name} {value}  ");
            }
        }
        text
    }

    /// Waits until the workers run this generation, or a later one.
    ///
    /// # Panics
    /// If they do not in time.
    pub fn wait_for_generation(&self, generation: u64) {
        self.wait_for("its generation", |dataplane| {
            dataplane.get("/v1/status")["generation"].as_u64() >= Some(generation)
        });
    }

    /// Waits until the next hops towards these addresses have MACs.
    ///
    /// # Panics
    /// If they have none in time.
    pub fn wait_for_neighbours<A: ToString>(&self, addresses: &[A]) {
        self.wait_for("its neighbours", |dataplane| {
            let known = dataplane.get("/v1/neighbours");
            let resolved = |address: &A| {
                let address = address.to_string();
                known.as_array().into_iter().flatten().any(|entry| {
                    let mac = entry["mac"].as_str().and_then(|mac| mac.parse::<Mac>().ok());
                    entry["address"].as_str() == Some(&address) && mac.is_some()
                })
            };
            addresses.iter().all(resolved)
        });
    }

    /// Waits until something holds of it.
    ///
    /// # Panics
    /// If it does not in time, with its counters.
    pub fn wait_for(&self, what: &str, ready: impl Fn(&Dataplane) -> bool) {
        let end = Instant::now() + START;
        while !ready(self) {
            assert!(
                Instant::now() < end,
                "the dataplane in {} does not have {what} after {START:?}; {}",
                self.namespace.name(),
                self.counters()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn launch(namespace: &Namespace, configuration: &Path) -> Daemon {
    let mut command = namespace.command(binary("levee-dataplane"));
    command.arg("--config").arg(configuration);
    namespace.start("dataplane", command)
}

/// A configuration for a machine that runs a whole fabric: small tables.
fn yaml(ports: Ports, workers: &[usize], socket: &Path, more: &str) -> String {
    let take = |take| if take == Take::All { "all" } else { "owned" };
    let mut text = String::from("ports:\n");
    let (Ports::Node(uplink) | Ports::Balancer(uplink)) = ports;
    let _ = write!(text, "  - interface: eth0\n    role: uplink\n    take: {}\n", take(uplink));
    if matches!(ports, Ports::Node(_)) {
        text.push_str("  - interface: levee0\n    role: pods\n    neighbours: br-ex\n");
    }
    let _ = write!(
        text,
        "workers: {workers:?}\nsocket: {}\nflows: {{capacity: 16384}}\nmemory: {{frames: 8192}}\n{more}",
        socket.display()
    );
    text
}

/// Cores of this machine.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
