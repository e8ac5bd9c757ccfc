//! A process in a namespace: its log, its end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::live;
use crate::namespace::Namespace;

/// How long to wait between two looks at a process or its log.
const LOOK: Duration = Duration::from_millis(10);

/// Lines of the log that a failing test shows.
const TAIL: usize = 60;

/// A child process. Dropped, it is killed; while a test is failing, the end of its log is shown first.
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
    namespace: Namespace,
}

impl Daemon {
    /// Standard output and error go to `<directory>/<namespace>-<name>.log`, appended to across restarts.
    pub(crate) fn start(namespace: &Namespace, name: &str, mut command: Command) -> Self {
        let log = namespace.directory().join(format!("{}-{name}.log", namespace.name()));
        let open = || File::options().create(true).append(true).open(&log);
        let file = open().unwrap_or_else(|error| panic!("cannot write {}: {error}", log.display()));
        let errors = file.try_clone().expect("a file descriptor is free");
        command.stdin(Stdio::null()).stdout(file).stderr(errors);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        live().processes.insert(child.id().cast_signed());
        Daemon { name: name.to_owned(), child, log, namespace: namespace.clone() }
    }

    /// Process id: of the daemon itself, since `ip netns exec` becomes what it executes.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Where that is.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Waits until `ready` holds.
    ///
    /// # Panics
    /// If the daemon ends first, or does not get there in time.
    pub fn wait_until(&mut self, what: &str, patience: Duration, mut ready: impl FnMut(&Daemon) -> bool) {
        let end = Instant::now() + patience;
        while !ready(self) {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("{} ended ({status}) before {what}:\n{}", self.name, self.tail());
            }
            assert!(Instant::now() < end, "{} took more than {patience:?} until {what}:\n{}", self.name, self.tail());
            std::thread::sleep(LOOK);
        }
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// If the process is gone.
    pub fn signal(&self, signal: Signal) {
        kill(self.as_pid(), signal).unwrap_or_else(|error| panic!("cannot send {signal} to {}: {error}", self.name));
    }

    /// SIGTERM, and its exit status.
    ///
    /// # Panics
    /// If it has not ended in time.
    pub fn stop(&mut self, patience: Duration) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait_for_end(patience)
    }

    /// Waits for its end, which somebody else has brought about.
    ///
    /// # Panics
    /// If it has not ended in time.
    pub fn wait_for_end(&mut self, patience: Duration) -> ExitStatus {
        let end = Instant::now() + patience;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                live().processes.remove(&self.as_pid().as_raw());
                return status;
            }
            assert!(Instant::now() < end, "{} has not ended within {patience:?}:\n{}", self.name, self.tail());
            std::thread::sleep(LOOK);
        }
    }

    /// SIGKILL, and wait for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        live().processes.remove(&self.as_pid().as_raw());
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn as_pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// The end of the log.
    fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- end of the log of {} in {}:\n{}\n---", self.name, self.namespace.name(), self.tail());
        } else if self.namespace.is_kept() {
            live().processes.remove(&self.as_pid().as_raw());
            return;
        }
        self.kill();
    }
}
