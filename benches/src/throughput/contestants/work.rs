//! Time that the threads of a process have spent on cores: of each by itself, for some end while they are watched.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// Nanoseconds so far, by thread.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Work(BTreeMap<u32, u64>);

impl Work {
    /// Of a process, as it is now; `None` if it is gone.
    pub(super) fn of(pid: u32) -> Option<Work> {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        let of = |thread: fs::DirEntry| {
            let number = thread.file_name().to_str()?.parse().ok()?;
            // The first figure is nanoseconds on a core (Documentation/scheduler/sched-stats.rst).
            let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            Some((number, text.split_whitespace().next()?.parse().ok()?))
        };
        Some(Work(threads.flatten().filter_map(of).collect()))
    }

    fn each_since<'a>(&'a self, earlier: &'a Work) -> impl Iterator<Item = Duration> + 'a {
        let before = |thread| earlier.0.get(thread).copied().unwrap_or(0);
        self.0.iter().map(move |(thread, now)| Duration::from_nanos(now.saturating_sub(before(thread))))
    }

    /// Of all threads that are still there.
    #[must_use]
    pub fn all_since(&self, earlier: &Work) -> Duration {
        self.each_since(earlier).sum()
    }

    /// Of the one that did most: who polls.
    #[must_use]
    pub fn most_since(&self, earlier: &Work) -> Duration {
        self.each_since(earlier).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_end_and_begin_disturb_nobody() {
        let work = |threads: &[(u32, u64)]| Work(threads.iter().copied().collect());
        let (before, after) = (work(&[(1, 100), (2, 5_000), (3, 900)]), work(&[(1, 700), (3, 950), (4, 20)]));
        assert_eq!(after.all_since(&before), Duration::from_nanos(600 + 50 + 20));
        assert_eq!(after.most_since(&before), Duration::from_nanos(600));
        assert_eq!(work(&[]).most_since(&before), Duration::ZERO);
    }

    #[test]
    fn this_process_has_worked() {
        let now = Work::of(std::process::id()).expect("it runs");
        assert!(now.all_since(&Work::default()) > Duration::ZERO);
        assert_eq!(Work::of(u32::MAX), None);
    }
}
