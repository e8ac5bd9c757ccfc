//! What levee costs when there is nothing to do, and what Services and flows cost in memory.

use std::time::Instant;

use levee_dataplane::flows::{Flows, Timeouts};
use levee_dataplane::hash::Key;

use crate::memory::resident;
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
    let levee = Levee { idle: how, ..Levee::new(Way::Nat(services)) };
    let dataplane = levee.dataplane(topology, plan.forwarder);
    let pid = dataplane.daemon.pid();
    let running = Running::Levee(Box::new(dataplane));
    // What loading the program has left to do.
    std::thread::sleep(plan.window / 2);
    let before = (Instant::now(), running.work().unwrap_or_default());
    std::thread::sleep(plan.window);
    let busy = running.work().unwrap_or_default().all_since(&before.1);
    let core = busy.as_secs_f64() / before.0.elapsed().as_secs_f64();
    Idle { how, services, core, resident: resident(pid).now }
}

/// Bytes that room for a flow of IPv4 takes of this process, its part of the index included.
///
/// # Panics
/// Out of memory.
#[must_use]
pub fn per_flow() -> f64 {
    const FLOWS: usize = 4 << 20;
    let here = || resident(std::process::id()).now;
    let before = here();
    let flows = Flows::new(FLOWS, Key([1, 2]), Timeouts::default()).expect("memory for flows");
    let taken = here().saturating_sub(before);
    drop(flows);
    taken as f64 / FLOWS as f64
}
