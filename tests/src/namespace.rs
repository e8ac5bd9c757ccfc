//! One network namespace: commands, daemons and closures run in it.

use std::fs::{self, File};
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

use crate::daemon::Daemon;
use crate::lab::live;

/// A namespace of a [`crate::Lab`]. Clones are the same namespace; it is deleted with the last one.
#[derive(Clone)]
pub struct Namespace(Arc<Inner>);

struct Inner {
    name: String,
    directory: PathBuf,
    kept: Arc<AtomicBool>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        live().namespaces.remove(&self.name);
        if !self.kept.load(Ordering::Relaxed) {
            let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
        }
    }
}

impl Namespace {
    pub(crate) fn create(name: String, directory: PathBuf, kept: Arc<AtomicBool>) -> Self {
        let output = Command::new("ip").args(["netns", "add", &name]).output().expect("`ip` can be run");
        check(&format!("ip netns add {name}"), &output);
        live().namespaces.insert(name.clone());
        let namespace = Namespace(Arc::new(Inner { name, directory, kept }));
        for (key, value) in [
            // Before there are interfaces, so that no router solicitation or multicast report is ever sent.
            ("net.ipv6.conf.all.disable_ipv6", "1"),
            ("net.ipv6.conf.default.disable_ipv6", "1"),
            // Several stations share this kernel, so addresses that look foreign to one of them are normal.
            ("net.ipv4.conf.all.rp_filter", "0"),
            ("net.ipv4.conf.default.rp_filter", "0"),
            // Bridged frames are not to visit iptables: on a node of 2026 with a pods' bridge they do not either.
            ("net.bridge.bridge-nf-call-iptables", "0"),
            ("net.bridge.bridge-nf-call-arptables", "0"),
        ] {
            namespace.sysctl_if_there(key, value);
        }
        namespace.ip("link set lo up");
        namespace
    }

    /// As `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The lab's directory, for files that belong to this namespace.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// Whether the lab is to stay up when this process ends.
    pub(crate) fn is_kept(&self) -> bool {
        self.0.kept.load(Ordering::Relaxed)
    }

    /// A command that will run in this namespace, with its view of `/sys`.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", self.name()]).arg(program).stdin(Stdio::null());
        command
    }

    /// Runs `ip` with the words of a line, in this namespace.
    ///
    /// # Panics
    /// With the line and the error, if `ip` refuses.
    pub fn ip(&self, line: &str) -> String {
        let output = Command::new("ip").args(["-n", self.name()]).args(line.split_whitespace()).output();
        check(&format!("ip -n {} {line}", self.name()), &output.expect("`ip` can be run"))
    }

    /// Runs several lines of `ip` in one go.
    ///
    /// # Panics
    /// With the error, if `ip` refuses one of them.
    pub fn ip_batch(&self, lines: &str) {
        let mut child = Command::new("ip")
            .args(["-n", self.name(), "-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("`ip` can be run");
        child.stdin.take().expect("asked for").write_all(lines.as_bytes()).expect("`ip -batch` reads all");
        check(&format!("ip -n {} -batch <<\n{lines}", self.name()), &child.wait_with_output().expect("`ip` ends"));
    }

    /// Runs a command line, split at white space, and gives its standard output.
    ///
    /// # Panics
    /// With the line and its standard error, if it fails.
    pub fn run(&self, line: &str) -> String {
        check(&format!("[{}] {line}", self.name()), &self.try_run(line))
    }

    /// Runs a command line, split at white space, whatever comes of it.
    ///
    /// # Panics
    /// If it cannot be started at all.
    pub fn try_run(&self, line: &str) -> Output {
        let mut words = line.split_whitespace();
        let program = words.next().expect("a command line has a first word");
        let output = self.command(program).args(words).output();
        output.unwrap_or_else(|error| panic!("[{}] cannot run {line}: {error}", self.name()))
    }

    /// Starts a daemon in this namespace; it ends when the [`Daemon`] is dropped.
    #[must_use]
    pub fn start(&self, name: &str, command: Command) -> Daemon {
        Daemon::start(self, name, command)
    }

    /// Runs a closure on a thread of its own inside the namespace. Sockets that it opens stay there wherever they are
    /// used later.
    ///
    /// # Panics
    /// If the closure does.
    pub fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        let outcome = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    let path = Path::new("/run/netns").join(self.name());
                    let namespace = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                    setns(namespace, CloneFlags::CLONE_NEWNET)
                        .unwrap_or_else(|error| panic!("cannot enter {}: {error}", self.name()));
                    work()
                })
                .join()
        });
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Sets `net.…`.
    ///
    /// # Panics
    /// If the kernel has no such setting or refuses the value.
    pub fn sysctl(&self, key: &str, value: &str) {
        if let Err(error) = self.write_sysctl(key, value) {
            panic!("[{}] cannot set {key} to {value}: {error}", self.name());
        }
    }

    /// Sets `net.…` on kernels that have it.
    fn sysctl_if_there(&self, key: &str, value: &str) {
        match self.write_sysctl(key, value) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                panic!("[{}] cannot set {key} to {value}: {error}", self.name())
            }
            _ => {}
        }
    }

    /// `/proc/sys/net` shows the namespace of whoever looks.
    fn write_sysctl(&self, key: &str, value: &str) -> std::io::Result<()> {
        let path = Path::new("/proc/sys").join(key.replace('.', "/"));
        self.enter(|| fs::write(path, value))
    }

    /// How many of `count` pings of `size` bytes are answered, each within two seconds. They are single ones: once it has had an
    /// answer, ping(8) waits for the last of several no longer than its interval, or twice the longest answer so far, whatever
    /// `-W` says. On a busy machine an answer may take longer, and is none the worse for it.
    ///
    /// # Panics
    /// If ping is missing.
    #[must_use]
    pub fn pings(&self, to: impl Into<IpAddr>, count: usize, size: usize) -> usize {
        let line = format!("ping -n -c 1 -W 2 -s {size} {}", to.into());
        (0..count).filter(|_| self.try_run(&line).status.success()).count()
    }

    /// Waits until a ping to the address is answered.
    ///
    /// # Panics
    /// If there is no answer in time.
    pub fn wait_for_ping(&self, address: IpAddr, patience: Duration) {
        let end = Instant::now() + patience;
        while !self.try_run(&format!("ping -n -c 1 -W 1 {address}")).status.success() {
            assert!(Instant::now() < end, "[{}] no answer to ping from {address} in {patience:?}", self.name());
        }
    }
}

/// The standard output of a command that succeeded.
fn check(what: &str, output: &Output) -> String {
    assert!(
        output.status.success(),
        "{what}\n{}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
