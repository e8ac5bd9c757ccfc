//! The rights that a dataplane started from here could have.

use super::{Finding, Host};

/// What boot needs, with their numbers (`include/uapi/linux/capability.h`).
const NEEDED: [(&str, u32); 3] = [("NET_ADMIN", 12), ("NET_RAW", 13), ("BPF", 39)];

/// With which workers go before others (`scheduling`); they can do without.
const SYS_NICE: u32 = 23;

pub(super) fn check(host: &Host<'_>) -> Vec<Finding> {
    let lacks = |set: u64| -> Vec<&str> {
        NEEDED.iter().filter(|(_, bit)| set & (1 << bit) == 0).map(|(name, _)| *name).collect()
    };
    let (never, now) = (lacks(host.facts.bounding), lacks(host.facts.effective));
    let mut findings = vec![if !never.is_empty() {
        Finding::fail(
            "right",
            format!("nothing that is started from here can have {}", never.join(", ")),
            "in a container: add these capabilities (no `privileged`); configs/kubernetes has them",
        )
    } else if !now.is_empty() {
        Finding::warn(
            "right",
            format!("this user has not {}; some of what follows could not be read", now.join(", ")),
            "run the doctor as root; the units and manifests in configs/ give the daemon its rights",
        )
    } else {
        Finding::ok("right", "NET_ADMIN, NET_RAW and BPF can be had")
    }];
    if host.facts.bounding & (1 << SYS_NICE) == 0 {
        findings.push(Finding::warn(
            "right",
            "nothing that is started from here can have SYS_NICE: workers are taken off their cores for anybody",
            "add this capability; configs/ has it. Cores that are isolated do without",
        ));
    }
    findings
}
