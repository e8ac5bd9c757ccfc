//! The cores that workers poll on.

use levee_dataplane::config::Idle;

use super::{Finding, Host};

pub(super) fn check(host: &Host<'_>) -> Vec<Finding> {
    let Some(config) = host.config else { return Vec::new() };
    let workers: Vec<usize> = config.workers.iter().map(|core| core.value).collect();
    let mut findings = Vec::new();
    for core in &workers {
        let Some(facts) = host.facts.cores.get(core) else {
            findings.push(Finding::fail(
                "core",
                format!("core {core} is not online"),
                format!("echo 1 > /sys/devices/system/cpu/cpu{core}/online, or another of `workers`"),
            ));
            continue;
        };
        let before = facts.siblings.iter().find(|sibling| *sibling < core && workers.contains(sibling));
        if let Some(sibling) = before {
            findings.push(Finding::warn(
                "core",
                format!("cores {sibling} and {core} are two threads of one: two workers share its units"),
                "choose one of each pair: /sys/devices/system/cpu/cpu*/topology/thread_siblings_list",
            ));
        }
        if config.idle == Idle::Poll && !host.facts.isolated.contains(core) {
            findings.push(Finding::warn(
                "core",
                format!("`idle: poll` on core {core}, which the scheduler gives to others too"),
                format!(
                    "isolcpus={core} nohz_full={core} rcu_nocbs={core} on the kernel's command line, or `idle: sleep`"
                ),
            ));
        }
    }
    if workers.contains(&0) && host.facts.cores.len() > 1 {
        findings.push(Finding::warn(
            "core",
            "core 0 has the kernel's own work",
            "another core for the worker; `lscpu -e` lists them",
        ));
    }
    findings.extend(far_memory(host, &workers));
    if findings.is_empty() {
        findings.push(Finding::ok("core", format!("workers on {workers:?}, and each is online")));
    }
    findings
}

/// A worker on another NUMA node than its NIC reads every frame from far away.
fn far_memory(host: &Host<'_>, workers: &[usize]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for (looked, queue, worker) in host.queues() {
        let core = workers.get(worker).copied().unwrap_or_default();
        let (Some(near), Some(here)) = (looked.interface.numa, host.facts.cores.get(&core).and_then(|core| core.numa))
        else {
            continue;
        };
        if near != here {
            let name = &looked.interface.name;
            findings.push(Finding::warn(
                "core",
                format!("queue {queue} of {name} is on NUMA node {near}, and its worker's core {core} on {here}"),
                format!("cores of node {near}: cat /sys/devices/system/node/node{near}/cpulist"),
            ));
        }
    }
    findings
}
