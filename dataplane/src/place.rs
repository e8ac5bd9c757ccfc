//! Where levee's threads run, and before whom: `docs/decisions/0031-scheduling.md`.
//!
//! ```text
//!   core of a worker:   worker-N, and nothing else of levee's
//!   other cores:        main, director, neighbours
//! ```

use af_xdp::schedule::Schedule;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::config::Scheduling;
use crate::events::{Events, Kind};

/// Keeps the calling thread, and those that it starts, off the cores of workers: a director that makes tables for some milliseconds
/// would take turns with a worker, which has no more weight than it. Where all cores are workers', they have to.
pub(crate) fn leave_to_workers(workers: &[usize]) {
    let left = sched_getaffinity(None).map(|mut cores| {
        workers.iter().filter(|core| **core < CpuSet::MAX_CPU).for_each(|core| cores.unset(*core));
        cores
    });
    let done = match left {
        Ok(left) if left.count() > 0 => sched_setaffinity(None, &left),
        other => other.map(drop),
    };
    if let Err(error) = done {
        tracing::warn!(%error, "levee's other threads may run on the cores of workers");
    }
}

/// A worker's place: its core, and, where that is real time, before whom there.
pub(crate) fn take(core: usize, scheduling: Scheduling, events: &Events) {
    // By number, from inside: the mask of the process may not have isolated cores.
    let mut cores = CpuSet::new();
    cores.set(core);
    if let Err(error) = sched_setaffinity(None, &cores) {
        events.record(Kind::Degraded, format!("a worker could not be pinned to core {core}: {error}"));
    }
    let schedule = match scheduling {
        // As the whole process.
        Scheduling::Fair { .. } => return,
        Scheduling::Fifo { priority } => Schedule::Fifo { priority },
        Scheduling::RoundRobin { priority } => Schedule::RoundRobin { priority },
    };
    go_first(schedule, &format!("the worker on core {core}"), events);
}

/// Has the calling thread scheduled so. Where it may not, levee works, but is taken off its cores for others.
pub(crate) fn go_first(schedule: Schedule, who: &str, events: &Events) {
    match schedule.apply() {
        Ok(()) => tracing::info!(%schedule, "{who} is scheduled"),
        Err(error) => {
            let help = error.help().map(|help| format!("; {help}")).unwrap_or_default();
            events.record(Kind::Degraded, format!("{who} is one among many on its cores: {error}{help}"));
        }
    }
}

/// Where the scheduler shares time by session (sched(7), "autogroup"), a thread's niceness counts within its own session only, and the
/// session's own beside others. A daemon's session is its own; one that was started from a shell shares it, and leaves it as it is.
/// Best effort: where there are control groups for the processor, as in containers, these share time, and this is nothing.
pub(crate) fn weigh_session(nice: i8) {
    let leads = std::fs::read_to_string("/proc/self/stat").is_ok_and(|stat| leads_its_session(&stat));
    if leads && let Err(error) = std::fs::write("/proc/self/autogroup", nice.to_string()) {
        tracing::debug!(%error, "the session's weight stays");
    }
}

/// Whether the process of this `/proc/PID/stat` (proc_pid_stat(5): `pid (comm) state ppid pgrp session …`) began its session.
///
/// Not by getsid(2), which says 0 where the leader is outside of the process's PID namespace: rustix's `Pid` cannot be that.
fn leads_its_session(stat: &str) -> bool {
    let Some((pid, rest)) = stat.split_once(' ') else { return false };
    // The name may hold anything, brackets too.
    let behind_name = rest.rsplit_once(')').map(|(_, behind)| behind);
    behind_name.and_then(|behind| behind.split_whitespace().nth(3)) == Some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leads_a_session_is_seen_whatever_its_name() {
        for (stat, leads) in [
            ("41 (levee-dataplane) S 1 41 41 0 -1 4194560", true),
            ("41 (levee) S 9) S 1 41 41 0 -1", true),
            ("41 (levee-dataplane) S 1 41 7 0 -1", false),
            // Its leader is in a PID namespace that cannot be seen from here.
            ("1 (levee-dataplane) S 0 0 0 0 -1", false),
            ("0 (x) S", false),
            ("", false),
        ] {
            assert_eq!(leads_its_session(stat), leads, "{stat}");
        }
    }
}
