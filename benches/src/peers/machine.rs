//! Where figures come from: they mean nothing without it.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

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
    /// The day, by the calendar of UTC: `2026-11-20`.
    pub date: String,
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
            date: date(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()),
        }
    }

    /// In one line.
    #[must_use]
    pub fn line(&self) -> String {
        let Machine { processor, cores, kernel, commit, command, date } = self;
        format!("{processor}, {cores} cores, Linux {kernel}, veth; commit {commit}, {date}; {command}")
    }

    /// What stands over figures in a page: by what, on what and when they were made.
    #[must_use]
    pub fn origin(&self) -> String {
        let Machine { processor, cores, kernel, commit, command, date } = self;
        format!(
            "Made by `{command}`; not by hand. {processor}, {cores} cores, Linux {kernel}; commit {commit}, {date}."
        )
    }

    /// For `--json`.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({ "processor": self.processor, "cores": self.cores, "kernel": self.kernel, "commit": self.commit, "command": self.command, "date": self.date })
    }
}

/// The day of a second since 1970.
fn date(seconds: u64) -> String {
    // Hinnant, "chrono-compatible low-level date algorithms": years begin in March, so that the day that is not always there is the last.
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    format!("{:04}-{month:02}-{day:02}", era * 400 + year + u64::from(month <= 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_the_calendars() {
        for (seconds, day) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_709_164_800, "2024-02-29"),
            (1_798_761_599, "2026-12-31"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(date(seconds), day);
        }
    }
}
