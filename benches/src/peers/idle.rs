//! What levee costs when there is nothing to do, and what Services cost in memory.

use std::fs;
use std::time::Instant;

use crate::services::Services;
use crate::throughput::Plan;
use crate::throughput::contestants::{Levee, Running, Way};
use crate::throughput::topology::Topology;

/// One way to be idle, with so many Services.
#[derive(Debug, Clone)]
pub struct Idle {
    /// As the configuration calls it.
    pub how: &'static str,
    /// What it knows of.
    pub services: Services,
    /// The part of a core that all of its threads take.
    pub core: f64,
    /// Resident memory, in bytes.
    pub resident: u64,
}

/// Measures one.
///
/// # Panics
/// If levee does not start.
#[must_use]
pub fn idle(how: &'static str, services: Services, topology: &Topology, plan: &Plan) -> Idle {
    let levee = Levee { way: Way::Nat(services), idle: how };
    let dataplane = levee.dataplane(topology, plan.forwarder);
    let pid = dataplane.daemon.pid();
    let running = Running::Levee(Box::new(dataplane));
    // What loading the program has left to do.
    std::thread::sleep(plan.window / 2);
    let before = (Instant::now(), running.work().unwrap_or_default());
    std::thread::sleep(plan.window);
    let busy = running.work().unwrap_or_default().all_since(&before.1);
    let core = busy.as_secs_f64() / before.0.elapsed().as_secs_f64();
    Idle { how, services, core, resident: resident(pid) }
}

/// Resident memory of a process, in bytes; 0 if it is gone.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}
