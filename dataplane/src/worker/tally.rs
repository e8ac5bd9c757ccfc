//! What deciding has counted since the worker last looked, into its counters: once a turn, not once a packet.

use super::Bench;
use crate::counters::Counter;

impl Bench {
    pub(super) fn tally(&mut self) {
        let memory = &mut self.memory;
        for (counter, count) in [
            (Counter::FlowsCreated, &mut memory.created),
            (Counter::Untracked, &mut memory.untracked),
            (Counter::OverLimit, &mut memory.over_limit),
            (Counter::ByConnection, &mut memory.by_connection),
        ] {
            if *count > 0 {
                self.counters.add(counter, u64::from(std::mem::take(count)));
            }
        }
    }
}
