//! What a process has in memory, as the kernel tells (`proc_pid_status(5)`, `proc_pid_smaps(5)`).

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resident {
    /// Now.
    pub now: u64,
    /// At most until now.
    pub most: u64,
    /// Of what is there now, what lies on huge pages: a kernel whose memory is in pieces gives fewer than it is asked for.
    pub huge: u64,
}

/// Resident memory of a process; nothing, if it is gone.
#[must_use]
pub fn resident(pid: u32) -> Resident {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let bytes = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    let (status, pages) = (read("status"), read("smaps_rollup"));
    Resident { now: bytes(&status, "VmRSS:"), most: bytes(&status, "VmHWM:"), huge: bytes(&pages, "AnonHugePages:") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_some_and_one_that_is_not_there_none() {
        let own = resident(std::process::id());
        assert!(own.now > 1 << 18 && own.most >= own.now && own.huge <= own.now, "{own:?}");
        assert_eq!(resident(u32::MAX), Resident { now: 0, most: 0, huge: 0 });
    }
}
