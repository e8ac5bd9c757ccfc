//! What a process has in memory, as the kernel tells (`proc_pid_status(5)`).

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resident {
    /// Now.
    pub now: u64,
    /// At most until now.
    pub most: u64,
}

/// Resident memory of a process; nothing, if it is gone.
#[must_use]
pub fn resident(pid: u32) -> Resident {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    Resident { now: bytes("VmRSS:"), most: bytes("VmHWM:") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_some_and_one_that_is_not_there_none() {
        let own = resident(std::process::id());
        assert!(own.now > 1 << 18 && own.most >= own.now, "{own:?}");
        assert_eq!(resident(u32::MAX), Resident { now: 0, most: 0 });
    }
}
