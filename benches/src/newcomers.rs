//! Packets that each begin a flow, in tables of every size: into one with room, and into a full one, where each has another forgotten.
//!
//! ```text
//!   with room   ├── begun before ──┤├── begun while it is measured ──┤      then a new table, from the left
//!               0                 1/2                              15/16
//! ```
//!
//! Flows are half-open, and the worker's clock stands still: none is over by itself. Each newcomer is one that was never seen.

use std::fmt;
use std::time::Duration;

use levee_api::program::Mode;
use levee_dataplane::counters::Counter;

use crate::frames;
use crate::peers::plot::count;
use crate::rig::{Rig, UPLINK, VIP, deliver, syn};

/// The table that they come into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// Flows that there is room for.
    pub room: u32,
    /// Whether all of it is taken.
    pub full: bool,
}

impl Table {
    /// Those that `nat` is measured with.
    pub const ALL: [Table; 6] = [
        Table { room: 65_536, full: false },
        Table { room: 65_536, full: true },
        Table { room: 1_000_000, full: false },
        Table { room: 1_000_000, full: true },
        Table { room: 10_000_000, full: false },
        Table { room: 10_000_000, full: true },
    ];

    /// What [`Display`](fmt::Display) has written of one of them.
    #[must_use]
    pub fn read(text: &str) -> Option<Table> {
        Table::ALL.into_iter().find(|table| table.to_string() == text)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let room = count(self.room.into());
        if self.full { write!(f, "a full table of {room}") } else { write!(f, "a table of {room} with room") }
    }
}

/// A worker with such a table. See the module.
pub struct Newcomers {
    rig: Rig,
    mode: Mode,
    table: Table,
    /// The next of them, and the first that there is no room for.
    next: u64,
    end: u64,
}

impl Newcomers {
    /// With the table as it is to be at first.
    ///
    /// # Panics
    /// Out of memory, or if a flow does not begin.
    #[must_use]
    pub fn new(mode: Mode, table: Table) -> Newcomers {
        let room = u64::from(table.room);
        // More than there is room for, so that none is left.
        let (begun, end) = if table.full { (room / 5 * 6, u64::MAX) } else { (room / 2, room / 16 * 15) };
        let rig = Rig::new(mode, 100, table.room as usize);
        let mut newcomers = Newcomers { rig, mode, table, next: 0, end: begun };
        newcomers.begin(begun);
        Newcomers { end, ..newcomers }
    }

    /// Has so many of them come in, and says how long the worker took for them.
    ///
    /// # Panics
    /// If more than one of a hundred begins no flow.
    pub fn play(&mut self, packets: u64) -> Duration {
        let (mut taken, mut left) = (Duration::ZERO, packets);
        while left > 0 {
            if self.next == self.end {
                *self = Newcomers::new(self.mode, self.table);
            }
            let some = left.min(self.end - self.next);
            taken += self.begin(some);
            left -= some;
        }
        taken
    }

    fn begin(&mut self, packets: u64) -> Duration {
        let created = |rig: &Rig| rig.handle.counters.get(Counter::FlowsCreated);
        let before = created(&self.rig);
        let (mut segment, mut next) = (syn(), self.next);
        let taken = self.rig.time(UPLINK, packets, |port| {
            deliver(port, segment.between(client(next), (VIP, 80)));
            next += 1;
        });
        self.next = next;
        let begun = created(&self.rig) - before;
        assert!(
            begun >= packets - packets.div_ceil(100),
            "{}: {begun} of {packets}: {:?}",
            self.table,
            self.rig.drops()
        );
        taken
    }
}

/// As [`frames::client`], for more flows than it has: each sixteen million of them by other ports.
fn client(number: u64) -> (std::net::Ipv4Addr, u16) {
    let (address, port) = frames::client((number & 0xff_ffff) as u32);
    (address, port + ((number >> 24) % 503) as u16)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_packet_begins_a_flow_and_tables_are_as_full_as_they_are_called() {
        for full in [false, true] {
            let table = Table { room: 4096, full };
            let mut newcomers = Newcomers::new(Mode::Nat, table);
            let flows = |newcomers: &Newcomers| newcomers.rig.worker.memory().flows.len();
            assert_eq!(flows(&newcomers), if full { 4096 } else { 2048 });
            newcomers.play(1000);
            assert_eq!(flows(&newcomers), if full { 4096 } else { 3048 });
            // Past 15/16 of it: a new one, and what is left goes there.
            newcomers.play(1000);
            assert_eq!(flows(&newcomers), if full { 4096 } else { 2048 + 2000 - 1792 });
        }
    }

    #[test]
    fn no_newcomer_was_seen_before() {
        let laps = (0..5).flat_map(|lap| (0..200).map(move |flow| client((lap << 24) + flow)));
        assert_eq!(laps.collect::<BTreeSet<_>>().len(), 1000);
    }

    #[test]
    fn a_table_is_read_as_it_was_written() {
        assert_eq!(Table::ALL[1].to_string(), "a full table of 65,536");
        assert_eq!(Table::ALL[4].to_string(), "a table of 10 M with room");
        assert!(Table::ALL.into_iter().all(|table| Table::read(&table.to_string()) == Some(table)));
        assert_eq!(Table::read("room"), None);
    }
}
