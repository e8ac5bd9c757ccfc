//! Rules of others on the way: what levee takes never meets them, and what they were for may be lost without a word.

use super::{Finding, Host};

pub(super) fn check(host: &Host<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &host.facts.chains {
        None => findings.push(Finding::warn(
            "filter",
            "rules of nftables could not be listed",
            "as root, with nft installed: nft list chains",
        )),
        Some(chains) => {
            for chain in chains {
                let place = format!("table {} {}, chain {}", chain.family, chain.table, chain.name);
                let list = format!("nft list chain {} {} {}", chain.family, chain.table, chain.name);
                let of_port = chain
                    .device
                    .as_ref()
                    .is_some_and(|device| host.ports.iter().any(|looked| looked.interface.name == *device));
                if chain.family == "netdev" && of_port {
                    findings.push(Finding::warn(
                        "filter",
                        format!(
                            "{place}: rules at {} of a port of levee's; they do not see what levee takes",
                            chain.hook
                        ),
                        format!("{list}; move what matters to `loadBalancerSourceRanges` or a switch"),
                    ));
                } else if chain.family == "bridge" && host.pods().is_some() {
                    findings.push(Finding::warn(
                        "filter",
                        format!("{place}: rules of a bridge; those that rewrite MACs did levee's work, by half"),
                        format!("{list}; nft delete chain … if it is that"),
                    ));
                }
            }
        }
    }
    if host.facts.runs("kube-proxy") {
        findings.push(Finding::ok(
            "filter",
            "kube-proxy runs: it serves this host's own processes, and what levee does not take",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok("filter", "no rules on levee's ports"));
    }
    findings
}
