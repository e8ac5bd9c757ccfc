//! A node in this thread's namespace, with a fabric and a pod in namespaces of sleeping children:
//!
//! ```text
//!  far0 (192.0.2.1, 10.2.0.5) ── eth0 [daemon] levee0 ══ levee1 ── br-ex (10.1.0.1) ── pod0 ── eth0 (10.1.0.5)
//!  fabric's namespace             192.0.2.10                                                 pod's namespace
//! ```

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Scratch, daemon, ip};

pub(super) struct Node {
    children: Vec<Child>,
    pub(super) fabric: u32,
    pub(super) pod: u32,
    pub(super) scratch: Scratch,
}

impl Node {
    pub(super) fn new() -> Self {
        let mut node = Node { children: Vec::new(), fabric: 0, pod: 0, scratch: Scratch::new() };
        node.fabric = node.sleeper();
        node.pod = node.sleeper();
        ip("link set lo up");
        ip(&format!("link add eth0 type veth peer name far0 netns {}", node.fabric));
        ip("addr add 192.0.2.10/24 dev eth0");
        ip("link set eth0 up");
        for command in [
            "ip addr add 192.0.2.1/24 dev far0",
            "ip addr add 10.2.0.5/32 dev far0",
            "ethtool -K far0 tx off",
            "ip link set far0 up",
            "ip route add 10.1.0.0/24 dev far0",
        ] {
            inside(node.fabric, command);
        }
        ip("route add 10.2.0.0/16 via 192.0.2.1");
        ip("link add br-ex type bridge");
        ip("addr add 10.1.0.1/24 dev br-ex");
        ip("link set br-ex up");
        ip("link add levee0 type veth peer name levee1");
        ip("link set levee1 master br-ex");
        ip("link set levee1 up");
        ip("link set levee0 up");
        ip(&format!("link add pod0 type veth peer name eth0 netns {}", node.pod));
        ip("link set pod0 master br-ex");
        ip("link set pod0 up");
        for command in ["ip addr add 10.1.0.5/24 dev eth0", "ip link set eth0 up", "ip route add default dev eth0"] {
            inside(node.pod, command);
        }
        node
    }

    /// A process that holds a network namespace of its own.
    fn sleeper(&mut self) -> u32 {
        let child = Command::new("unshare").args(["-n", "sleep", "120"]).spawn().expect("unshare");
        let id = child.id();
        self.children.push(child);
        let ours = std::fs::read_link("/proc/thread-self/ns/net").expect("our namespace");
        wait("a namespace", || std::fs::read_link(format!("/proc/{id}/ns/net")).is_ok_and(|theirs| theirs != ours));
        id
    }

    pub(super) fn config(&self, more: &str) -> PathBuf {
        let socket = self.scratch.0.join("dataplane.sock");
        let workers = if more.contains("workers:") { "" } else { "workers: [0]\n" };
        let text = format!(
            "ports:\n  - {{interface: eth0, role: uplink}}\n  - {{interface: levee0, role: pods, neighbours: br-ex}}\n\
             {workers}socket: {}\nflows: {{capacity: 4096}}\nmemory: {{frames: 8192}}\n{more}",
            socket.display()
        );
        self.scratch.write("dataplane.yaml", text)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A command in another process's network namespace; what it said, if it succeeded.
pub(super) fn attempt(pid: u32, command: &str) -> Result<String, String> {
    let output = Command::new("nsenter")
        .args(["-n", "-t", &pid.to_string()])
        .args(command.split(' '))
        .output()
        .expect("nsenter");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(said(&output.stdout)) } else { Err(said(&output.stderr) + &said(&output.stdout)) }
}

pub(super) fn inside(pid: u32, command: &str) -> String {
    attempt(pid, command).unwrap_or_else(|said| panic!("{command}: {said}"))
}

pub(super) fn wait(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A running daemon.
pub(super) struct Daemon {
    pub(super) child: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Daemon {
    pub(super) fn start(node: &Node, more: &str) -> Self {
        let mut daemon = Self::spawn(node, more);
        let deadline = Instant::now() + Duration::from_secs(20);
        while !daemon.attempt("GET", "/v1/health", "").is_ok_and(|(status, _)| status == 200) {
            let ended = daemon.child.try_wait().expect("the daemon's status");
            assert!(ended.is_none() && Instant::now() < deadline, "{ended:?}\n{}", daemon.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        daemon
    }

    pub(super) fn spawn(node: &Node, more: &str) -> Self {
        let config = node.config(more);
        let log = node.scratch.0.join("daemon.log");
        let file = std::fs::File::options().create(true).append(true).open(&log).expect("a log");
        let child =
            daemon().arg("--config").arg(config).stderr(file).stdout(Stdio::null()).spawn().expect("the daemon");
        Daemon { child, socket: node.scratch.0.join("dataplane.sock"), log }
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    fn attempt(&self, method: &str, path: &str, body: &str) -> Result<(u16, String), String> {
        let output = Command::new("curl")
            .args(["-sS", "-m", "30", "-w", "\n%{http_code}", "-X", method, "--unix-socket"])
            .arg(&self.socket)
            .args(if body.is_empty() { vec![] } else { vec!["-d", body] })
            .arg(format!("http://levee{path}"))
            .output()
            .expect("curl");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        match said.rsplit_once('\n') {
            Some((body, status)) if output.status.success() => Ok((status.parse().expect("a status"), body.to_owned())),
            _ => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    pub(super) fn ask(&self, method: &str, path: &str, body: &str) -> (u16, serde_json::Value) {
        let (status, body) =
            self.attempt(method, path, body).unwrap_or_else(|said| panic!("{path}: {said}\n{}", self.log()));
        (status, serde_json::from_str(&body).unwrap_or(serde_json::Value::String(body)))
    }

    pub(super) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("kill");
        assert!(sent.success());
    }

    /// Ends it, and gives its status. It ends in order: nothing that it takes down itself takes it by surprise.
    pub(super) fn stop(mut self) -> Option<i32> {
        let before = self.log().len();
        self.signal("-TERM");
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.child.try_wait().expect("the daemon's status") {
                let log = self.log();
                let end = log.get(before..).unwrap_or_default();
                assert!(!end.contains("kernel-resync") && !end.contains("WARN"), "{end}");
                return status.code();
            }
            assert!(Instant::now() < deadline, "does not end\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
