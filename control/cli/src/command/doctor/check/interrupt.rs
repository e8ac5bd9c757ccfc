//! Where interrupts fire. A worker's core is for its worker; the interrupts of the queues that it reads are welcome there, since
//! the frames are then in that core's cache. Others take its time.

use std::collections::BTreeSet;

use super::{Finding, Host};
use crate::command::doctor::facts::Interrupt;

pub(super) fn check(host: &Host<'_>) -> Vec<Finding> {
    let Some(config) = host.config else { return Vec::new() };
    let mut findings = Vec::new();
    for (worker, core) in config.workers.iter().map(|core| core.value).enumerate() {
        let own: BTreeSet<u32> = host
            .queues()
            .iter()
            .filter(|(_, _, of)| *of == worker)
            .flat_map(|(looked, ..)| looked.interface.interrupts.iter().copied())
            .collect();
        let strangers: Vec<&Interrupt> = host
            .facts
            .interrupts
            .iter()
            .filter(|interrupt| interrupt.cores.contains(&core) && !own.contains(&interrupt.number))
            .collect();
        if let Some(first) = strangers.first() {
            let names: Vec<String> = strangers
                .iter()
                .take(3)
                .map(|interrupt| format!("{} ({})", interrupt.number, interrupt.name))
                .collect();
            let more = if strangers.len() > 3 { ", …" } else { "" };
            let other = host.facts.cores.keys().find(|other| config.workers.iter().all(|core| core.value != **other));
            findings.push(Finding::warn(
                "interrupt",
                format!("core {core} is a worker's, and gets interrupts of others: {}{more}", names.join(", ")),
                match other {
                    Some(other) => format!("echo {other} > /proc/irq/{}/smp_affinity_list, and so on", first.number),
                    None => "leave the kernel a core that is no worker's".to_owned(),
                },
            ));
        } else {
            findings.push(Finding::ok("interrupt", format!("core {core}: no other device's")));
        }
    }
    if host.facts.runs("irqbalance") {
        findings.push(Finding::warn(
            "interrupt",
            "irqbalance moves interrupts about, onto workers' cores too",
            "IRQBALANCE_BANNED_CPULIST in /etc/default/irqbalance with the workers' cores, or systemctl disable --now irqbalance",
        ));
    }
    findings
}
