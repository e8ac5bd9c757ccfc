//! The cores that workers poll on.

use levee_dataplane::config::{Config, Idle, Scheduling};

use super::kernel::is_before;
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
        let isolated = host.facts.isolated.contains(core);
        if config.idle == Idle::Poll && !isolated {
            findings.push(Finding::warn(
                "core",
                format!("`idle: poll` on core {core}, which the scheduler gives to others too"),
                format!(
                    "isolcpus={core} nohz_full={core} rcu_nocbs={core} on the kernel's command line, or `idle: sleep`"
                ),
            ));
        }
        if isolated && host.facts.tickless.as_ref().is_some_and(|tickless| !tickless.contains(core)) {
            findings.push(Finding::warn(
                "core",
                format!("core {core} is isolated, and its tick takes it from its worker hundreds of times a second"),
                format!("nohz_full={core} rcu_nocbs={core} on the kernel's command line"),
            ));
        }
        if let Some(governor) = facts.governor.as_ref().filter(|governor| *governor != "performance") {
            findings.push(Finding::warn(
                "core",
                format!("the frequency of core {core} follows its load (governor `{governor}`): the first frames after a pause are slow"),
                format!("echo performance > /sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor"),
            ));
        }
        if config.scheduling.is_real_time() && !isolated {
            findings.push(Finding::warn(
                "core",
                format!("a real-time worker on core {core}, which is not isolated: ordinary tasks there, the kernel's own too, wait for it"),
                format!("isolcpus={core} on the kernel's command line, or `scheduling: {{policy: fair}}`"),
            ));
        }
    }
    findings.extend(place(host, config));
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

/// What workers' places among the tasks of their cores are worth here.
fn place(host: &Host<'_>, config: &Config) -> Option<Finding> {
    let limited = host.facts.sysctl("kernel.sched_rt_runtime_us").is_some_and(|limit| limit != "-1");
    if config.scheduling.is_real_time() {
        // Later kernels take the time only where an ordinary task waits (the fair server).
        return (limited && is_before(&host.facts.kernel, (6, 12))).then(|| {
            Finding::warn(
                "core",
                "real-time workers that poll are stopped for 50 ms of each second (kernel.sched_rt_runtime_us)",
                "sysctl -w kernel.sched_rt_runtime_us=-1, or Linux 6.12, which does so only where somebody waits",
            )
        });
    }
    let slice = matches!(config.scheduling, Scheduling::Fair { slice: Some(_), .. });
    (slice && is_before(&host.facts.kernel, (6, 12))).then(|| {
        Finding::warn(
            "core",
            "`scheduling.slice` is nothing to a kernel before 6.12",
            "a newer kernel, or remove the key",
        )
    })
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
