//! How busy a core is, with anything: the kernel's forwarding has no process that could be asked.

use std::fs;

/// A core's account of its time since boot, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Cpu {
    busy: u64,
    idle: u64,
}

impl Cpu {
    /// As it is now; zero where the kernel does not tell.
    pub(super) fn now(core: usize) -> Cpu {
        Cpu::read(&fs::read_to_string("/proc/stat").unwrap_or_default(), core).unwrap_or_default()
    }

    /// `cpuN user nice system idle iowait irq softirq steal guest guest_nice` (proc_stat(5)). What the host took away is neither.
    fn read(stat: &str, core: usize) -> Option<Cpu> {
        let name = format!("cpu{core} ");
        let line = stat.lines().find_map(|line| line.strip_prefix(&name))?;
        let ticks: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
        let [user, nice, system, idle, waiting, interrupts, soft, ..] = ticks[..] else { return None };
        Some(Cpu { busy: user + nice + system + interrupts + soft, idle: idle + waiting })
    }

    /// The part of the time since an earlier look in which it was busy.
    pub(super) fn busy_since(&self, earlier: &Cpu) -> f64 {
        let (busy, idle) = (self.busy.saturating_sub(earlier.busy), self.idle.saturating_sub(earlier.idle));
        if busy + idle == 0 { 0.0 } else { busy as f64 / (busy + idle) as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 3 40 5 6 7 8 9 10\ncpu1 100 0 0 0 0 0 0 0 0 0\nintr 5\n";

    #[test]
    fn a_cores_own_line_is_read() {
        assert_eq!(Cpu::read(STAT, 0), Some(Cpu { busy: 19, idle: 45 }));
        assert_eq!(Cpu::read(STAT, 1), Some(Cpu { busy: 100, idle: 0 }));
        assert_eq!(Cpu::read(STAT, 2), None);
        assert_eq!(Cpu::read("cpu0 1 2\n", 0), None);
    }

    #[test]
    fn busy_is_a_part_of_the_time_between() {
        let (before, after) = (Cpu { busy: 10, idle: 10 }, Cpu { busy: 40, idle: 20 });
        assert!((after.busy_since(&before) - 0.75).abs() < 1e-9);
        assert!(before.busy_since(&before).abs() < 1e-9);
    }
}
