//! The interfaces by themselves: that they are Ethernet, up, nobody else's, and have queues for the workers.

use super::{Finding, Host, Looked};
use crate::output::count;

pub(super) fn check(host: &Host<'_>) -> Vec<Finding> {
    if host.ports.is_empty() {
        let none = "no interface with a device, and none that leads to the default gateway";
        return vec![Finding::warn("interface", none, "name yours: `levee doctor --interface NAME`, or --config FILE")];
    }
    let mut findings: Vec<Finding> = host.ports.iter().map(|looked| one(host, *looked)).collect();
    if let Some(config) = host.config {
        let (queues, workers) = (host.queues().len(), config.workers.len());
        if queues >= workers {
            findings.push(Finding::ok(
                "interface",
                format!(
                    "{} for {}",
                    count(queues as u64, "queue", "queues"),
                    count(workers as u64, "worker", "workers")
                ),
            ));
        }
    }
    findings
}

fn one(host: &Host<'_>, Looked { interface, port }: Looked<'_>) -> Finding {
    let name = &interface.name;
    let what = format!("{name}: {}", interface.driver.as_deref().unwrap_or("no driver told"));
    let master = interface.master.and_then(|master| host.facts.by_index(master));
    if !interface.ethernet {
        return Finding::fail(
            "interface",
            format!("{what}, and it is not Ethernet"),
            "name one that has a MAC address",
        );
    }
    if let Some(master) = master {
        let kind = master.kind.as_deref().unwrap_or("interface");
        // What comes in would be levee's; what goes out, and who has the address, would be the other's.
        return Finding::fail(
            "interface",
            format!("{what}, a member of the {kind} {}", master.name),
            if kind == "bond" {
                format!("name {} in the configuration, not its member", master.name)
            } else {
                format!("ip link set {name} nomaster, and move its addresses: ip addr add ADDRESS dev {name}")
            },
        );
    }
    if !interface.up {
        return Finding::warn("interface", format!("{what}, down"), format!("ip link set {name} up; is the cable in?"));
    }
    let listed = port.and_then(|port| port.queues.as_ref()).map(Vec::len);
    match listed {
        Some(listed) if listed < interface.queues as usize => Finding::warn(
            "interface",
            format!(
                "{what}, {listed} of {} queues are levee's: what arrives at the others is left to the kernel",
                interface.queues
            ),
            format!("ethtool -L {name} combined {listed}, or steer by `ethtool -X` and `ethtool -N`"),
        ),
        _ => Finding::ok("interface", format!("{what}, up, queues: {}", interface.queues)),
    }
}
