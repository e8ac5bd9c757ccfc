//! The bridge that pods sit on: between it and the fabric is levee, and nothing else.

use std::net::IpAddr;

use levee_dataplane::config::Placed;

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
    findings.extend(gateways(bridge, &pods.name, &port.gateways));
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

/// Addresses of the kernel's on the bridge: what pods send there does not pass levee.
fn gateways(bridge: &Interface, pods: &str, gateways: &[Placed<IpAddr>]) -> Vec<Finding> {
    let name = &bridge.name;
    let link_local = |address: &IpAddr| match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    let is_gateway = |address: &IpAddr| gateways.iter().any(|gateway| gateway.value == *address);
    let held = bridge.addresses.iter().filter(|address| is_gateway(address) || !link_local(address));
    held.map(|address| {
        let (what, of) = if is_gateway(address) {
            (format!("{name} has {address}, which is one of `gateways`: the kernel answers for it"), "what pods send there")
        } else {
            (format!("{name} has {address}"), "what pods send whose gateway it is")
        };
        Finding::warn(
            "bridge",
            format!("{what}; {of} goes to the kernel, and their Services past levee"),
            format!(
                "take it off {name} (`ip addr del`), keep the route to the pods (`ip route add PREFIX dev {name}`), and have levee \
                 answer for it: `gateways: [{address}]` at {pods}"
            ),
        )
    })
    .collect()
}
