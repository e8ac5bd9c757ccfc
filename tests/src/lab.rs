//! Owner of one test's namespaces, processes and files.
//!
//! Everything that a lab makes carries the lab's name, `lv<pid>x<counter>`, so that labs of parallel tests never meet and
//! what a killed run left behind is recognised by its dead pid. Three ways lead to the same clean machine:
//!
//! - the lab is dropped (also by a panic): its parts take themselves down;
//! - SIGINT, SIGTERM or SIGHUP: [`take_down_everything`] runs on a thread of its own, then the process exits;
//! - SIGKILL: the next lab that starts, in any process, reaps what belongs to a pid that is no more.
//!
//! A demo's lab has a fixed name instead and may be kept; it goes away with [`Lab::tear_down`].

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::namespace::Namespace;

/// Set in environments that promise to be able to run the lab (CI): there, being unable is a failure and not a skip.
const REQUIRED: &str = "LEVEE_LAB_REQUIRED";

/// Commands without which no lab works, and the Debian packages that they come from.
const TOOLS: &[(&str, &str)] = &[("ip", "iproute2"), ("ethtool", "ethtool"), ("ebtables", "iptables")];

/// What must not outlive this process, in the order of its making.
static LIVE: Mutex<Live> = Mutex::new(Live {
    containers: BTreeSet::new(),
    processes: BTreeSet::new(),
    namespaces: BTreeSet::new(),
    files: BTreeSet::new(),
});

pub(crate) struct Live {
    /// Where runc keeps them, and their ids.
    pub(crate) containers: BTreeSet<(PathBuf, String)>,
    pub(crate) processes: BTreeSet<i32>,
    pub(crate) namespaces: BTreeSet<String>,
    pub(crate) files: BTreeSet<PathBuf>,
}

/// The register of what is alive. A panic elsewhere while it was held does not make it wrong: every change is one call.
pub(crate) fn live() -> MutexGuard<'static, Live> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See the module.
pub struct Lab {
    name: String,
    directory: PathBuf,
    kept: Arc<AtomicBool>,
}

impl Lab {
    /// A lab for one test, or `None` with a loud line where the machine cannot have one (not root, a tool is missing).
    ///
    /// # Panics
    /// Where it cannot have one although `LEVEE_LAB_REQUIRED` is set.
    #[must_use]
    pub fn start() -> Option<Lab> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        if let Err(reason) = possible() {
            assert!(std::env::var_os(REQUIRED).is_none(), "{REQUIRED} is set, but there can be no lab: {reason}");
            eprintln!("SKIPPED: {reason}");
            return None;
        }
        reap();
        Some(Lab::make(format!("lv{}x{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))))
    }

    /// A lab with a name of its own, taking the place of an earlier one of that name.
    ///
    /// # Errors
    /// Says why this machine can have none.
    pub fn named(name: &str) -> Result<Lab, String> {
        possible()?;
        reap();
        Lab::tear_down(name);
        Ok(Lab::make(name.to_owned()))
    }

    fn make(name: String) -> Lab {
        static HANDLER: Once = Once::new();
        HANDLER.call_once(|| {
            ctrlc::set_handler(|| {
                take_down_everything();
                std::process::exit(130);
            })
            .expect("no other handler of signals in a process that has labs");
        });
        let directory = std::env::temp_dir().join(&name);
        fs::create_dir_all(&directory).unwrap_or_else(|error| panic!("cannot make {}: {error}", directory.display()));
        live().files.insert(directory.clone());
        Lab { name, directory, kept: Arc::new(AtomicBool::new(false)) }
    }

    /// A new namespace `<lab>-<name>`, its loopback up, IPv6 and the bridge's detours through iptables off: what is then
    /// heard on a wire was caused by the test.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Namespace {
        Namespace::create(format!("{}-{name}", self.name), self.directory.clone(), Arc::clone(&self.kept))
    }

    /// Where logs, configurations and sockets of this lab go; removed with it.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The first part of its namespaces' names.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Leaves namespaces, processes and files in place when the lab and this process go away.
    pub fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    /// Takes down what an earlier process has left under a name: processes in its namespaces, the namespaces, the files.
    pub fn tear_down(name: &str) {
        let prefix = format!("{name}-");
        for namespace in namespaces().filter(|namespace| namespace.starts_with(&prefix)) {
            delete(&namespace);
        }
        let _ = fs::remove_dir_all(std::env::temp_dir().join(name));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        live().files.remove(&self.directory);
        if !self.kept.load(Ordering::Relaxed) {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// Whether this machine can have a lab; if not, why, and what to do.
fn possible() -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("network namespaces and AF_XDP need root: run as root to have this tested".to_owned());
    }
    for (tool, package) in TOOLS {
        if !in_path(tool) {
            return Err(format!("`{tool}` is missing: apt-get install {package} (scripts/test does it)"));
        }
    }
    let probe = format!("lv{}probe", std::process::id());
    let made = Command::new("ip").args(["netns", "add", &probe]).output();
    let _ = Command::new("ip").args(["netns", "del", &probe]).output();
    match made {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            Err(format!("cannot make a network namespace: {}", String::from_utf8_lossy(&output.stderr).trim()))
        }
        Err(error) => Err(format!("cannot run `ip`: {error}")),
    }
}

/// Whether a command is in `PATH`.
pub(crate) fn in_path(tool: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|directory| directory.join(tool).is_file()))
}

/// Kills and deletes all that labs of this process have made. Safe to call from the signal thread at any time.
fn take_down_everything() {
    let live = live();
    for (state, id) in &live.containers {
        crate::container::remove(state, id);
    }
    for &pid in &live.processes {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    for namespace in &live.namespaces {
        delete(namespace);
    }
    for path in &live.files {
        let _ = fs::remove_dir_all(path);
    }
}

/// Takes down what labs of dead processes have left. Every lab that starts does so too.
pub fn reap() {
    for namespace in namespaces() {
        if owner(&namespace).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            eprintln!("lab: {namespace} is left over from a run that was killed: removing it");
            delete(&namespace);
        }
    }
}

/// The pid in `lv<pid>x<counter>-<name>`; `None` for whatever is not a test's namespace.
fn owner(namespace: &str) -> Option<u32> {
    namespace.strip_prefix("lv")?.split_once('x')?.0.parse().ok()
}

fn namespaces() -> impl Iterator<Item = String> {
    let entries = fs::read_dir("/run/netns").into_iter().flatten();
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok())
}

/// Ends the processes of a namespace, by their ids, and deletes it. What is gone already is fine.
fn delete(namespace: &str) {
    if let Ok(output) = Command::new("ip").args(["netns", "pids", namespace]).output() {
        for pid in String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| line.trim().parse().ok()) {
            // A lab's own threads enter its namespaces; the process that is cleaning up is not to be ended by it.
            if pid != std::process::id().cast_signed() {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
    let _ = Command::new("ip").args(["netns", "del", namespace]).output();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_tests_have_an_owner() {
        assert_eq!(owner("lv4711x0-node-1"), Some(4711));
        for other in ["levee-demo-node-1", "lv-node", "lvx1-a", "4711x0-a", "cni-1234", "lv12"] {
            assert_eq!(owner(other), None, "{other}");
        }
    }
}
