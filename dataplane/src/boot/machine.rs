//! A look at the machine: its interfaces and its cores.

use std::io;

use crate::config::Machine;
use crate::neighbours;

/// Reads what a configuration is checked against. Needs no rights.
///
/// # Errors
/// No netlink, or no `/sys`.
pub fn look() -> io::Result<Machine> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // An interface can vanish between the two questions; then it has no queues.
    let interfaces = runtime.block_on(neighbours::interfaces(|name| af_xdp::interface::queues(name).unwrap_or(0)))?;
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online")?;
    Ok(Machine { interfaces, cores: cores(&online) })
}

/// The numbers in a list such as `0-3,8` (Documentation/admin-guide/cputopology.rst). Not the affinity mask of this process: isolated
/// cores, which are the best ones, are not in it.
fn cores(list: &str) -> Vec<usize> {
    let ranges = list.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    });
    ranges.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores_are_read() {
        assert_eq!(cores("0\n"), [0]);
        assert_eq!(cores("0-3,8,10-11\n"), [0, 1, 2, 3, 8, 10, 11]);
        assert_eq!(cores("\n"), Vec::<usize>::new());
    }

    #[test]
    fn this_machine_has_a_loopback_and_a_core() {
        let machine = look().unwrap();
        let lo = machine.interface("lo").unwrap();
        assert_eq!((lo.index, lo.mac.map(|mac| mac.0)), (1, None));
        assert!(!machine.cores.is_empty());
    }
}
