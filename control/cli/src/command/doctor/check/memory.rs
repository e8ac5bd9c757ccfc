//! Memory for frames: that it may be locked, and in huge pages, that there are so many.

use super::{Finding, Host};

/// CAP_IPC_LOCK, with which RLIMIT_MEMLOCK does not count.
const IPC_LOCK: u32 = 14;

pub(super) fn check(host: &Host<'_>) -> Vec<Finding> {
    let Some(config) = host.config else { return vec![limit(host, None)] };
    let need = u64::from(config.frames(host.queues().len())) * u64::from(config.memory.frame_size);
    let mut findings = vec![limit(host, Some(need))];
    if config.memory.huge_pages {
        findings.push(huge_pages(host, need));
    }
    findings
}

fn limit(host: &Host<'_>, need: Option<u64>) -> Finding {
    let may_lock = host.facts.effective & (1 << IPC_LOCK) != 0;
    match (host.facts.locked_memory, need) {
        (None, _) => Finding::ok("memory", "any amount may be locked"),
        (Some(_), _) if may_lock => Finding::ok("memory", "any amount may be locked with IPC_LOCK"),
        (Some(limit), Some(need)) if limit >= need => {
            Finding::ok("memory", format!("{} may be locked, and frames take {}", mebibytes(limit), mebibytes(need)))
        }
        (Some(limit), Some(need)) => Finding::fail(
            "memory",
            format!("{} may be locked, and frames take {}", mebibytes(limit), mebibytes(need)),
            "`LimitMEMLOCK=infinity` in the unit, capability IPC_LOCK in a container, or fewer `memory: {frames: …}`",
        ),
        (Some(limit), None) => Finding::warn(
            "memory",
            format!("{} may be locked; each queue's frames take 16 MiB", mebibytes(limit)),
            "`LimitMEMLOCK=infinity` in the unit, or capability IPC_LOCK in a container; configs/ has both",
        ),
    }
}

/// The size that memfd takes without more ado: 2 MiB.
fn huge_pages(host: &Host<'_>, need: u64) -> Finding {
    let pages = need.div_ceil(2 << 20);
    match host.facts.huge_pages.get(&2048) {
        Some(there) if there.free >= pages => {
            Finding::ok("memory", format!("{} huge pages are free, and frames take {pages}", there.free))
        }
        there => {
            let (free, reserved) = there.map_or((0, 0), |there| (there.free, there.reserved));
            Finding::fail(
                "memory",
                format!("{free} huge pages of 2 MiB are free, and frames take {pages}"),
                format!("sysctl -w vm.nr_hugepages={}", reserved + pages - free),
            )
        }
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}
