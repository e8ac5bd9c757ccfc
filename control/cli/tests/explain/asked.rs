//! Questions to the real binary, and the whole answers that are expected.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

/// A pod of node-1.
pub(crate) const POD: &str = "10.244.1.5";
/// A pod of node-2.
pub(crate) const FAR_POD: &str = "10.244.2.5";
/// A client outside of the cluster.
pub(crate) const OUTSIDE: &str = "198.51.100.7";

/// Backends of most clusters: one on each node.
pub(crate) const ALL: [&str; 3] = ["10.244.1.10:8080", "10.244.2.10:8080", "10.244.3.10:8080"];
/// The service of most clusters.
pub(crate) const WEB: &str = "default/web:http";

/// Somewhere that questions are asked: a cluster, as a dataplane sees it.
pub(crate) struct Place {
    cluster: PathBuf,
    node: &'static str,
    role: &'static str,
}

/// As the node's dataplane sees it.
pub(crate) fn on_node(cluster: &str, node: &'static str) -> Place {
    Place { cluster: file(cluster), node, role: "node" }
}

/// As a dedicated balancer's dataplane sees it.
pub(crate) fn on_balancer(cluster: &str) -> Place {
    Place { cluster: file(cluster), node: "balancer-1", role: "balancer" }
}

/// The file of a cluster.
pub(crate) fn file(cluster: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/explain/clusters").join(format!("{cluster}.yaml"))
}

/// Runs the binary.
pub(crate) fn levee<A: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = A>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_levee")).args(arguments).output().expect("levee runs")
}

/// One answer, and what was asked.
pub(crate) struct Answer {
    /// What addresses of the node's pods begin with.
    here: String,
    packet: String,
    pub(crate) answer: Value,
}

impl Place {
    pub(crate) fn tcp(&self, source: &str, destination: &str) -> Answer {
        self.ask(&format!("tcp {source}:40000 > {destination}"), &[])
    }

    pub(crate) fn udp(&self, source: &str, destination: &str) -> Answer {
        self.ask(&format!("udp {source}:40000 > {destination}"), &[])
    }

    pub(crate) fn sctp(&self, source: &str, destination: &str) -> Answer {
        self.ask(&format!("sctp {source}:40000 > {destination}"), &[])
    }

    pub(crate) fn ping(&self, source: &str, destination: &str) -> Answer {
        self.ask(&format!("icmp {source} > {destination}"), &[])
    }

    pub(crate) fn ask(&self, packet: &str, more: &[&str]) -> Answer {
        let (nodes, cluster) = (file("nodes"), self.cluster.display().to_string());
        let nodes = nodes.display().to_string();
        let arguments =
            ["explain", "--cluster", &nodes, "--cluster", &cluster, "--node", self.node, "--role", self.role];
        let output = levee(arguments.iter().chain(&["--packet", packet, "-o", "json"]).chain(more));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{packet}: {said}");
        let answer = serde_json::from_slice(&output.stdout).expect("one JSON object");
        Answer { here: self.node.replace("node-", "10.244.") + ".", packet: packet.to_owned(), answer }
    }
}

impl Answer {
    /// The backend that the packet gets.
    pub(crate) fn backend(&self) -> &str {
        self.answer["backend"].as_str().unwrap_or_else(|| panic!("no backend in {}", self.answer))
    }

    /// Goes to one of these backends of a service. With `nat`, the backend does not see the client's address.
    pub(crate) fn forwards(&self, from: &str, service: &str, mode: &str, candidates: &[&str]) {
        let backend = self.backend();
        assert!(candidates.contains(&backend), "{backend} is none of {candidates:?}");
        self.is(json!({
            "packet": self.packet,
            "from": from,
            "verdict": "forward",
            "reason": "service",
            "service": service,
            "candidates": candidates,
            "backend": backend,
            "mode": mode,
            "client_address_kept": mode != "nat",
        }));
    }

    /// Goes from a pod of this node to one of these backends. The client's address is kept, for the way back passes here;
    /// but not if client and backend are on one bridge, where the answer would go past levee.
    pub(crate) fn reaches_from_pod(&self, service: &str, candidates: &[&str]) {
        let mode = if self.backend().starts_with(&self.here) { "nat" } else { "dnat" };
        self.forwards("pods", service, mode, candidates);
    }

    /// Refused at once, because the service has nobody.
    pub(crate) fn rejects(&self, from: &str, service: &str) {
        self.ends(from, "reject", "no_endpoints", Some(service));
    }

    /// Refused at once, because the address has no such port.
    pub(crate) fn is_closed(&self, from: &str) {
        self.ends(from, "reject", "closed_port", None);
    }

    /// Dropped, and counted.
    pub(crate) fn drops(&self, from: &str, reason: &str, service: Option<&str>) {
        self.ends(from, "drop", reason, service);
    }

    /// Answered by levee.
    pub(crate) fn is_answered(&self, from: &str) {
        self.ends(from, "hairpin", "ping", None);
    }

    /// The kernel's.
    pub(crate) fn passes(&self, from: &str) {
        self.ends(from, "pass", "kernel", None);
    }

    /// The node's own, which the kernel does not lead to levee.
    pub(crate) fn is_own_traffic(&self) {
        self.ends("host", "pass", "own_traffic", None);
    }

    /// Sent on, and no service has to do with it.
    pub(crate) fn is_plain(&self, from: &str) {
        self.ends(from, "forward", "plain", None);
    }

    fn ends(&self, from: &str, verdict: &str, reason: &str, service: Option<&str>) {
        self.is(json!({
            "packet": self.packet,
            "from": from,
            "verdict": verdict,
            "reason": reason,
            "service": service,
            "candidates": [],
            "backend": null,
            "mode": null,
            "client_address_kept": null,
        }));
    }

    fn is(&self, expected: Value) {
        assert_eq!(self.answer, expected, "\nanswered: {:#}\nexpected: {expected:#}", self.answer);
    }
}

/// A directory of this test's own.
pub(crate) fn tests_directory(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("levee-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    directory
}
