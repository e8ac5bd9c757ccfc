//! Where figures come from: they mean nothing without it.

use std::fs;

use serde_json::{Value, json};

/// A machine, and what was run on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// As the kernel calls it.
    pub processor: String,
    /// How many of its cores this process may use.
    pub cores: usize,
    /// Its release.
    pub kernel: String,
    /// What was built, as `git describe` calls it.
    pub commit: String,
    /// The command that did it all.
    pub command: String,
}

impl Machine {
    /// This one.
    #[must_use]
    pub fn here(commit: &str, command: &str) -> Machine {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Machine {
            processor: model.map_or("an unnamed processor", |(_, name)| name.trim()).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            commit: commit.to_owned(),
            command: command.to_owned(),
        }
    }

    /// In one line.
    #[must_use]
    pub fn line(&self) -> String {
        let Machine { processor, cores, kernel, commit, command } = self;
        format!("{processor}, {cores} cores, Linux {kernel}, veth; commit {commit}; {command}")
    }

    /// For `--json`.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({ "processor": self.processor, "cores": self.cores, "kernel": self.kernel, "commit": self.commit, "command": self.command })
    }
}
