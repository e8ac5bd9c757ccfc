//! The bridge that pods sit on: between it and the fabric is levee, and nothing else.

use super::{Finding, Host, Interface};

pub(super) fn check(host: &Host<'_>) -> Vec<Finding> {
    let Some((pods, port)) = host.pods() else { return Vec::new() };
    let mut findings = Vec::new();
    let Some(bridge) = port.neighbours.as_ref().and_then(|name| host.facts.interface(&name.value)) else {
        return findings;
    };
    let name = &bridge.name;
    let Some(settings) = &bridge.bridge else {
        let fix = "`neighbours` is the interface whose neighbour table knows the pods, mostly their bridge";
        return vec![Finding::warn("bridge", format!("{name} is no bridge"), fix)];
    };
    match pods.peer.and_then(|peer| host.facts.by_index(peer)) {
        Some(peer) if peer.master == Some(bridge.index) => {}
        Some(peer) => findings.push(Finding::fail(
            "bridge",
            format!("{}, the other end of {}, is not on {name}: no pod reaches levee", peer.name, pods.name),
            format!("ip link set {} master {name} up", peer.name),
        )),
        None if pods.kind.as_deref() == Some("veth") => findings.push(Finding::fail(
            "bridge",
            format!("the other end of {} is not in this namespace, so not on {name}", pods.name),
            format!("ip link add {0} type veth peer name levee1 && ip link set levee1 master {name} up", pods.name),
        )),
        None => {}
    }
    let around = |member: &&Interface| {
        member.master == Some(bridge.index) && member.kind.as_deref() != Some("veth") && member.driver.is_some()
            || host.ports.iter().any(|looked| {
                looked.is_uplink()
                    && looked.interface.master == Some(bridge.index)
                    && looked.interface.index == member.index
            })
    };
    for member in host.facts.interfaces.iter().filter(around) {
        findings.push(Finding::fail(
            "bridge",
            format!("{} is on {name}: the bridge forwards around levee, and its floods go on", member.name),
            format!("ip link set {} nomaster", member.name),
        ));
    }
    if !bridge.up {
        findings.push(Finding::warn("bridge", format!("{name} is down"), format!("ip link set {name} up")));
    }
    if settings.stp {
        findings.push(Finding::warn(
            "bridge",
            format!("{name} speaks STP: each new pod waits for 30 s"),
            format!("ip link set {name} type bridge stp_state 0"),
        ));
    }
    if settings.vlan_filtering {
        findings.push(Finding::warn(
            "bridge",
            format!("{name} filters VLANs: levee's end must be in each pod's"),
            format!("ip link set {name} type bridge vlan_filtering 0, or bridge vlan add … dev of levee's end"),
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok("bridge", format!("{name}: pods, levee, and nothing else")));
    }
    findings
}
