//! Settings of drivers that change frames on their way to levee.

use super::{Finding, Host, Looked};

pub(super) fn check(host: &Host<'_>) -> Vec<Finding> {
    host.ports.iter().flat_map(|looked| one(host, *looked)).collect()
}

fn one(host: &Host<'_>, Looked { interface, .. }: Looked<'_>) -> Vec<Finding> {
    let name = &interface.name;
    let mut findings = Vec::new();
    if interface.lro == Some(true) {
        findings.push(Finding::fail(
            "offload",
            format!("{name}: LRO joins segments to frames that are too long, and most drivers refuse XDP with it"),
            format!("ethtool -K {name} lro off"),
        ));
    }
    if interface.kind.as_deref() == Some("veth") {
        findings.extend(veth(host, interface.peer.and_then(|peer| host.facts.by_index(peer)), name));
    }
    if findings.is_empty() {
        findings.push(Finding::ok("offload", format!("{name}: nothing that changes frames")));
    }
    findings
}

/// What matters is the end that sends into levee's.
fn veth(host: &Host<'_>, peer: Option<&super::Interface>, name: &str) -> Vec<Finding> {
    let Some(peer) = peer else {
        return vec![Finding::warn(
            "offload",
            format!("{name}: its other end is in another namespace, where this cannot look"),
            "there: ethtool -K PEER tx off gro on",
        )];
    };
    let mut findings = Vec::new();
    if peer.tx_checksum == Some(true) {
        // The dataplane does it, and puts it back.
        findings.push(Finding::ok(
            "offload",
            format!("{}: transmit checksum offload is on; levee-dataplane switches it off while it runs", peer.name),
        ));
    }
    let native = host.facts.interface(name).and_then(|interface| interface.xdp_features).unwrap_or_default() != 0;
    if native && peer.gro == Some(false) && peer.xdp.is_none() {
        findings.push(Finding::warn(
            "offload",
            format!("{}: without GRO, frames that levee sends to it are dropped by a veth in native mode", peer.name),
            format!("ethtool -K {} gro on", peer.name),
        ));
    }
    findings
}
