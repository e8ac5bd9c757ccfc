//! The two daemons, and what is heard and read of them.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use futures_util::{StreamExt as _, TryStreamExt as _};
use levee_api::metrics::{Sample, parse};
use levee_tests::levee::{Dataplane, Ports, Take, binary};
use levee_tests::{Daemon, Fabric, Host, Lab, Node, Uplink};

use super::cluster::set_endpoints;
use super::{Cluster, ENDPOINTS};
use crate::memory::{Resident, resident};

/// How long anything may take before it is taken for a failure.
const PATIENCE: Duration = Duration::from_secs(120);

/// Stillness between two changes, at least.
const STILL: Duration = Duration::from_millis(25);

/// A node with a dataplane. Dropped from the top.
pub struct Stage {
    control: Option<Control>,
    dataplane: Dataplane,
    empty: u64,
    _router: Host,
    _node: Node,
    _fabric: Fabric,
}

struct Control {
    daemon: Daemon,
    socket: PathBuf,
    /// Generations that every worker runs, and when that was heard.
    running: Receiver<(Instant, u64)>,
}

/// From nothing to a whole program that runs.
#[derive(Debug, Clone, Copy)]
pub struct Cold {
    /// Seconds from the start of levee-control's process until every worker runs the program.
    pub total: f64,
    /// … of which from when the last list had arrived.
    pub after_lists: f64,
    /// … of which the control process took to validate and compile.
    pub compile: f64,
    /// … and the dataplane, from a program that was read until every worker ran it.
    pub dataplane: f64,
    /// Bytes of the program, as it went over the socket.
    pub bytes: u64,
    /// Resident memory of levee-control afterwards, and its most until then, in bytes.
    pub control: Resident,
    /// The dataplane's, afterwards, and its most.
    pub dataplane_memory: Resident,
    /// The dataplane's before it was programmed: frames, flow tables and stacks, which do not depend on the cluster.
    pub dataplane_empty: u64,
}

/// One change of one slice. Times in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Parts {
    /// From the API server's answer until it was heard that every worker runs it.
    pub total: f64,
    /// Until levee-control took it in, and what hearing of the end took.
    pub watch: f64,
    /// To validate and compile.
    pub compile: f64,
    /// To send it and get the answer, and whatever waiting there was.
    pub send: f64,
    /// The dataplane, from a delta that was read until every worker ran it.
    pub dataplane: f64,
    /// Bytes of the delta, as it went over the socket.
    pub bytes: u64,
}

/// Many changes at once. Times in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Burst {
    /// Slices that were changed.
    pub changes: usize,
    /// The API server took so long to take the writes.
    pub writing: f64,
    /// Programs that they came to the workers in.
    pub programs: usize,
    /// From its last answer until every worker ran everything.
    pub late: f64,
}

/// What both daemons have counted so far.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    compile: f64,
    programming: f64,
    apply: f64,
    bytes: f64,
    backends: f64,
}

impl Stage {
    /// A node with a dataplane that knows nothing, on a fabric where somebody has the way to all pods.
    #[must_use]
    pub fn build(lab: &Lab) -> Stage {
        let fabric = Fabric::new(lab);
        let mut node = Node::new(lab, &fabric, 1, 0);
        node.connect(Uplink::Levee, &[]);
        let router = Host::new(lab, &fabric, "router", 200);
        node.namespace().ip(&format!("route add 10.128.0.0/9 via {} dev eth0", router.address));
        let dataplane = Dataplane::start(node.namespace(), Ports::Node(Take::Owned));
        let empty = resident(dataplane.daemon.pid()).now;
        Stage { control: None, dataplane, empty, _router: router, _node: node, _fabric: fabric }
    }

    /// Starts levee-control, and waits until the dataplane runs all of the cluster.
    ///
    /// # Panics
    /// If it does not come to that.
    pub fn start_control(&mut self, cluster: &Cluster) -> Cold {
        let running = listen(self.dataplane.socket());
        let namespace = cluster.namespace();
        let file = |ending: &str| namespace.directory().join(format!("control.{ending}"));
        let (configuration, socket) = (file("yaml"), file("sock"));
        let text = format!(
            "node: node-1\nrole: node\nsources:\n  - kubernetes: {{kubeconfig: {}}}\ndataplane: {}\nsocket: {}\n",
            cluster.kubeconfig().display(),
            self.dataplane.socket().display(),
            socket.display()
        );
        fs::write(&configuration, text).expect("the lab's directory can be written");
        let mut command = namespace.command(binary("levee-control"));
        command.arg("--config").arg(&configuration);
        let begun = Instant::now();
        let daemon = namespace.start("control", command);
        let (at, _) = running.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no program:\n{}", daemon.log()));
        self.control = Some(Control { daemon, socket, running });
        let counted = self.settle(cluster.services() * ENDPOINTS);
        let control = self.control();
        Cold {
            total: between(begun, at),
            after_lists: counted.programming,
            compile: counted.compile,
            dataplane: counted.apply,
            bytes: counted.bytes as u64,
            control: resident(control.daemon.pid()),
            dataplane_memory: resident(self.dataplane.daemon.pid()),
            dataplane_empty: self.empty,
        }
    }

    /// Takes endpoints away from slices and gives them back, one change at a time.
    ///
    /// # Panics
    /// If a change does not arrive, or another one than was made.
    pub fn change(&mut self, cluster: &Cluster, changes: usize) -> Vec<Parts> {
        let whole = cluster.services() * ENDPOINTS;
        let stage = &*self;
        cluster.work(async |client| {
            let mut measured = Vec::with_capacity(changes);
            for change in 0..changes {
                // Every other change gives back what the one before took. The step visits all Services, far from each other.
                let (number, endpoints) = ((change / 2 * 7_919) % cluster.services(), ENDPOINTS - (change + 1) % 2);
                let before = stage.counted();
                while stage.control().running.try_recv().is_ok() {}
                // Not in step with anything that beats once a second.
                tokio::time::sleep(STILL + Duration::from_micros(change as u64 * 7_727 % 40_000)).await;
                set_endpoints(&client, number, endpoints).await?;
                let answered = Instant::now();
                let (heard, _) = stage.control().running.recv_timeout(PATIENCE).expect("the change arrives");
                let after = stage.settle(whole - (ENDPOINTS - endpoints));
                let total = between(answered, heard);
                let (compile, programming) = (after.compile - before.compile, after.programming - before.programming);
                let dataplane = after.apply - before.apply;
                measured.push(Parts {
                    total,
                    watch: total - programming,
                    compile,
                    send: programming - compile - dataplane,
                    dataplane,
                    bytes: (after.bytes - before.bytes) as u64,
                });
            }
            Ok(measured)
        })
    }

    /// Takes an endpoint from so many slices as fast as the API server takes it, then gives them back.
    ///
    /// # Panics
    /// If the dataplane does not follow.
    pub fn burst(&mut self, cluster: &Cluster, changes: usize) -> Burst {
        let burst = self.set_many(cluster, changes, ENDPOINTS - 1);
        self.set_many(cluster, changes, ENDPOINTS);
        burst
    }

    fn set_many(&mut self, cluster: &Cluster, changes: usize, endpoints: usize) -> Burst {
        let stage = &*self;
        let services = cluster.services();
        cluster.work(async |client| {
            let begun = Instant::now();
            let writes = (0..changes).map(|change| {
                let client = client.clone();
                async move { set_endpoints(&client, change * 7 % services, endpoints).await }
            });
            futures_util::stream::iter(writes).buffer_unordered(32).try_collect::<()>().await?;
            let answered = Instant::now();
            stage.settle(services * ENDPOINTS - changes * (ENDPOINTS - endpoints));
            let heard: Vec<_> = stage.control().running.try_iter().collect();
            let last = heard.last().map_or(answered, |(at, _)| *at);
            let writing = between(begun, answered);
            Ok(Burst { changes, writing, programs: heard.len(), late: between(answered, last) })
        })
    }

    fn control(&self) -> &Control {
        self.control.as_ref().expect("start_control comes first")
    }

    fn counted(&self) -> Counted {
        let control = get(&self.control().socket, "/metrics");
        let dataplane = get(self.dataplane.socket(), "/metrics");
        let (control, dataplane) = (parse(&control), parse(&dataplane));
        Counted {
            compile: sum(&control, "levee_control_compile_seconds_sum"),
            programming: sum(&control, "levee_control_programming_seconds_sum"),
            apply: sum(&dataplane, "levee_program_apply_seconds_sum"),
            bytes: sum(&control, "levee_control_sent_bytes_total"),
            backends: sum(&dataplane, "levee_backends"),
        }
    }

    /// Waits until both know that the dataplane has so many backends.
    fn settle(&self, backends: usize) -> Counted {
        let end = Instant::now() + PATIENCE;
        loop {
            let counted = self.counted();
            let control = get(&self.control().socket, "/metrics");
            let behind = sum(&parse(&control), "levee_control_dataplane_behind_seconds");
            if counted.backends == backends as f64 && behind == 0.0 {
                return self.counted();
            }
            assert!(Instant::now() < end, "the dataplane has {} backends, not {backends}", counted.backends);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Seconds from one to the other; negative where the other was first: a change can run before the answer to its write is there.
fn between(one: Instant, other: Instant) -> f64 {
    if other >= one { (other - one).as_secs_f64() } else { -(one - other).as_secs_f64() }
}

/// All samples of a name.
fn sum(samples: &Result<Vec<Sample>, String>, name: &str) -> f64 {
    let samples = samples.as_ref().expect("our own page");
    samples.iter().filter(|sample| sample.name == name).map(|sample| sample.value).sum()
}

/// Hears of every generation that every worker runs, from now on.
fn listen(socket: &Path) -> Receiver<(Instant, u64)> {
    let (running, heard) = unbounded();
    let mut stream = request(socket, "/v1/events?follow=true");
    let mut past = String::new();
    // The answer's head, and what happened before, which comes with it.
    while !past.contains("\"started\"") {
        let mut bytes = [0; 4096];
        let length = stream.read(&mut bytes).expect("the dataplane answers");
        assert!(length > 0, "the dataplane has hung up");
        past.push_str(&String::from_utf8_lossy(&bytes[..length]));
    }
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let at = Instant::now();
            // Lines between are the sizes of chunks.
            let generation = line
                .split_once("\"message\":\"generation ")
                .and_then(|(_, rest)| rest.split_once(" runs")?.0.parse().ok());
            if let Some(generation) = generation
                && running.send((at, generation)).is_err()
            {
                return;
            }
        }
    });
    heard
}

fn request(socket: &Path, path: &str) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap_or_else(|error| panic!("{}: {error}", socket.display()));
    write!(stream, "GET {path} HTTP/1.1\r\nhost: levee\r\nconnection: close\r\n\r\n").expect("it reads");
    stream
}

fn get(socket: &Path, path: &str) -> String {
    let mut answer = String::new();
    request(socket, path).read_to_string(&mut answer).expect("it answers");
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}
