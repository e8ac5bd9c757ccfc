//! `/proc` and `/sys`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::command::doctor::facts::{Core, HugePages, Interrupt};

/// A file of one line.
pub(super) fn word(path: impl AsRef<Path>) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// A file of one number.
pub(super) fn number<T: std::str::FromStr>(path: impl AsRef<Path>) -> Option<T> {
    word(path)?.parse().ok()
}

/// A setting, by sysctl(8)'s name: dots divide, a slash is a dot.
pub(super) fn sysctl(key: &str) -> Option<String> {
    let path: String = key
        .chars()
        .map(|letter| match letter {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect();
    word(Path::new("/proc/sys").join(path))
}

/// The numbers in a list such as `0-3,8`.
pub(super) fn numbers(list: &str) -> Vec<usize> {
    let ranges = list.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    });
    ranges.flatten().collect()
}

pub(super) fn has_af_xdp() -> Option<bool> {
    let protocols = fs::read_to_string("/proc/net/protocols").ok()?;
    Some(protocols.lines().any(|line| line.split_whitespace().next() == Some("XDP")))
}

/// Effective ones, and the bounding set.
pub(super) fn capabilities() -> (u64, u64) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    (set("CapEff:").unwrap_or_default(), set("CapBnd:").unwrap_or_default())
}

/// Soft limit, bytes; `None` is none.
pub(super) fn locked_memory() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    line.split_whitespace().next()?.parse().ok()
}

pub(super) fn huge_pages() -> BTreeMap<u64, HugePages> {
    let sizes = fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let read = sizes.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let size = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let count = |file: &str| number(entry.path().join(file));
        Some((size, HugePages { reserved: count("nr_hugepages")?, free: count("free_hugepages")? }))
    });
    read.collect()
}

pub(super) fn cores() -> BTreeMap<usize, Core> {
    let online = word("/sys/devices/system/cpu/online").unwrap_or_default();
    let core = |number: usize| {
        let at = format!("/sys/devices/system/cpu/cpu{number}");
        let siblings =
            word(format!("{at}/topology/thread_siblings_list")).map(|list| numbers(&list)).unwrap_or_default();
        let entries = fs::read_dir(&at).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let numa = names.filter_map(|name| name.strip_prefix("node")?.parse().ok()).next();
        let governor = word(format!("{at}/cpufreq/scaling_governor"));
        (number, Core { siblings, numa, governor })
    };
    numbers(&online).into_iter().map(core).collect()
}

/// Those of devices, with the cores that they fire on.
pub(super) fn interrupts() -> Vec<Interrupt> {
    let table = fs::read_to_string("/proc/interrupts").unwrap_or_default();
    let rows = table.lines().filter_map(|line| {
        let (number, rest) = line.split_once(':')?;
        let number: u32 = number.trim().parse().ok()?;
        let fired: u64 = rest.split_whitespace().map_while(|word| word.parse::<u64>().ok()).sum();
        let name = rest.split_whitespace().last()?.to_owned();
        let cores = word(format!("/proc/irq/{number}/effective_affinity_list"))?;
        // One that never fires takes no time.
        (fired > 0).then(|| Interrupt { number, name, cores: numbers(&cores) })
    });
    rows.collect()
}

/// Which of these run.
pub(super) fn processes(wanted: &[&str]) -> Vec<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| {
        entry.file_name().to_str()?.parse::<u32>().ok()?;
        word(entry.path().join("comm"))
    });
    let names: Vec<String> = names.collect();
    wanted.iter().filter(|wanted| names.iter().any(|name| name == *wanted)).map(|name| (*name).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_a_core_capabilities_and_settings() {
        assert_eq!(numbers("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(numbers(""), [0usize; 0]);
        assert!(!cores().is_empty());
        assert!(capabilities().1 > 0);
        assert!(sysctl("net.ipv4.conf.lo.rp_filter").is_some_and(|value| value.parse::<u8>().is_ok()));
        assert_eq!(sysctl("net.ipv4.conf.no/such.rp_filter"), None);
        assert!(processes(&["no such process"]).is_empty());
    }
}
