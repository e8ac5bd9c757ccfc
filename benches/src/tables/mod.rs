//! Flow tables beside each other, at the same work: levee's, what levee's was at first, and hashbrown's map.
//!
//! ```text
//!   connection n ──► begin ──► table ◄── follow: packets of either direction, drawn at random, some at a time
//!                                ▲
//!                                └────── end one, begin another, in a full table
//! ```
//!
//! Whoever takes part does what a worker wants of it: both tuples of a connection lead to one entry; a packet gets the ends that it leaves with, and
//! its flow notes the time; a connection begins only if both of its tuples are nobody's. Everybody is given some packets at a time and may look
//! ahead among them as its interface lets it. That all of them did it is looked at in every window: how many, and where to.
//!
//! | | |
//! |---|---|
//! | [`today`] | `levee_dataplane::flows`, as the worker's short way uses it |
//! | [`first`] | the same as it was at first |
//! | [`swiss`] | `hashbrown::HashMap`, two keys a connection, entries beside it |
//! | [`contest`] | who takes part, how often, and what is counted |
//! | [`page`] | `docs/performance/tables.md` |

pub mod contest;
pub mod first;
pub mod page;
pub mod swiss;
pub mod today;

use levee_dataplane::address::Address;
use levee_dataplane::ends::Ends;
use levee_dataplane::flows::Millis;
use levee_dataplane::hash::Key;
use levee_dataplane::verdict::Endpoint;

/// As many packets as anybody is given at a time.
pub const MOST: usize = 256;
/// All connections are TCP's.
pub const PROTOCOL: u8 = 6;
/// Of every keyed hash: the same each time, so that a table does the same each time.
pub const KEY: Key = Key([0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03]);

/// What each direction's packets carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// From the client, to a Service.
    pub forward: Ends,
    /// From the backend, to a source port of levee's.
    pub reverse: Ends,
}

impl Connection {
    /// One of four milliards. Clients have 128 ports of an address, backends are 1,000, source ports 60,000 of each address.
    #[must_use]
    pub fn number(number: u32) -> Self {
        let end = |address, port: u32| Endpoint { address: Address::v4(address), port: port as u16 };
        let client = end(0x4000_0000 + (number >> 7), 1024 + (number & 127) * 503);
        let backend = end(0x0af5_0000 + number % 1_000, 8080);
        let source = end(0xc000_0200 + number / 60_000, 1024 + number % 60_000);
        Connection { forward: Ends::of(client, end(0x0a60_0001, 80)), reverse: Ends::of(backend, source) }
    }

    /// What the packet of one direction carries, and what it leaves with.
    #[must_use]
    pub fn packet(&self, back: bool) -> (Ends, Ends) {
        let (forward, reverse) = (self.forward, self.reverse);
        if back { (reverse, forward.turned_round()) } else { (forward, reverse.turned_round()) }
    }
}

/// Where packets go, all of them together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Followed {
    /// Of which a flow was found.
    pub packets: usize,
    /// Addresses and ports, added up.
    pub to: u64,
}

impl Followed {
    /// One more.
    #[inline(always)]
    pub fn note(&mut self, (address, port): (u32, u16)) {
        self.packets += 1;
        self.to = self.to.wrapping_add(u64::from(address) << 16 | u64::from(port));
    }

    /// Others.
    #[inline(always)]
    pub fn add(&mut self, others: Followed) {
        self.packets += others.packets;
        self.to = self.to.wrapping_add(others.to);
    }
}

/// Who takes part. Of all methods, `some` is [`MOST`] at most.
pub trait Table {
    /// Begins connections, and says how many began: those of which neither tuple is somebody's, while there is room.
    fn begin(&mut self, some: &[Connection], now: Millis) -> usize;

    /// Has these connections, which have begun, be as they are once they go on.
    fn establish(&mut self, some: &[Connection]);

    /// Follows packets of connections that go on.
    fn follow(&mut self, some: &[Ends], now: Millis) -> Followed;

    /// Follows any number of packets, so many at a time.
    fn follow_all(&mut self, packets: &[Ends], at_once: usize, now: Millis) -> Followed {
        let mut all = Followed::default();
        for some in packets.chunks(at_once) {
            all.add(self.follow(some, now));
        }
        all
    }

    /// Ends connections by what their clients' packets carry, and says how many there were.
    fn end(&mut self, some: &[Ends]) -> usize;

    /// Bytes that it has.
    fn bytes(&self) -> usize;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::contest::Contestant;
    use super::*;

    const ROOM: u32 = 3_000;

    fn each(mut check: impl FnMut(&str, &mut dyn Table)) {
        for contestant in Contestant::ALL {
            check(contestant.name(), &mut *contestant.table(ROOM as usize));
        }
    }

    fn some(numbers: std::ops::Range<u32>) -> Vec<Connection> {
        numbers.map(Connection::number).collect()
    }

    fn begin(table: &mut dyn Table, connections: &[Connection]) -> usize {
        let began = connections.chunks(64).map(|some| table.begin(some, 0)).sum();
        connections.chunks(64).for_each(|some| table.establish(some));
        began
    }

    /// Both directions of some, as tables are told, and what must come of it.
    fn packets(connections: &[Connection]) -> (Vec<Ends>, Followed) {
        let mut all = Followed::default();
        let both = connections.iter().flat_map(|connection| [false, true].map(|back| connection.packet(back)));
        let packets = both.map(|(carries, leaves)| {
            all.note(leaves.to());
            carries
        });
        (packets.collect(), all)
    }

    #[test]
    fn connections_have_tuples_of_their_own() {
        let mut seen = BTreeMap::new();
        // Where ports and addresses go round.
        for number in (0..130_000).chain(16_000_000..16_130_000) {
            let Connection { forward, reverse } = Connection::number(number);
            for ends in [forward, reverse] {
                assert_eq!(seen.insert(ends.bytes(), number), None, "{number}");
            }
        }
    }

    #[test]
    fn everybody_finds_both_directions_however_many_at_a_time() {
        each(|name, table| {
            let connections = some(0..ROOM);
            assert_eq!(begin(table, &connections), ROOM as usize, "{name}");
            let (packets, all) = packets(&connections);
            assert_eq!(all.packets, 2 * ROOM as usize);
            for at_once in [1, 3, 64, MOST] {
                assert_eq!(table.follow_all(&packets, at_once, 7), all, "{name}, {at_once} at a time");
            }
        });
    }

    #[test]
    fn nobody_finds_what_is_not_there() {
        each(|name, table| {
            begin(table, &some(0..ROOM));
            let (strangers, _) = packets(&some(ROOM..2 * ROOM));
            assert_eq!(table.follow_all(&strangers, 64, 7), Followed::default(), "{name}");
            // One end is known, and one is not.
            let mixed: Vec<Ends> = strangers
                .iter()
                .zip(0..)
                .map(|(ends, number)| {
                    let from = ends.tuple_v4(PROTOCOL).source;
                    let to = Connection::number(number % ROOM).forward.tuple_v4(PROTOCOL).destination;
                    Ends::of(from, to)
                })
                .filter(|ends| !strangers.contains(ends))
                .collect();
            assert_eq!(table.follow_all(&mixed, 64, 7), Followed::default(), "{name}");
        });
    }

    #[test]
    fn what_ended_is_gone_both_ways_and_its_room_is_anothers() {
        each(|name, table| {
            begin(table, &some(0..ROOM));
            for round in 0..20 {
                let (old, new) = (round * 64, ROOM + round * 64);
                let (olds, news) = (some(old..old + 64), some(new..new + 64));
                let clients: Vec<Ends> = olds.iter().map(|old| old.forward).collect();
                assert_eq!(table.end(&clients), 64, "{name}");
                assert_eq!(table.end(&clients), 0, "{name}");
                assert_eq!(table.follow_all(&packets(&olds).0, 64, 7), Followed::default(), "{name}");
                assert_eq!(begin(table, &news), 64, "{name}");
                let (packets, all) = packets(&news);
                assert_eq!(table.follow_all(&packets, 64, 7), all, "{name}");
            }
            let (packets, all) = packets(&some(20 * 64..ROOM + 20 * 64));
            assert_eq!(table.follow_all(&packets, 64, 7), all, "{name}: the others are as they were");
        });
    }

    #[test]
    fn a_tuple_is_one_connections() {
        each(|name, table| {
            begin(table, &some(0..100));
            assert_eq!(table.begin(&some(0..100), 0), 0, "{name}");
            // A client of its own, and another's answers.
            let thief = Connection { reverse: Connection::number(5).reverse, ..Connection::number(1_000) };
            assert_eq!(table.begin(&[thief], 0), 0, "{name}");
            assert_eq!(table.follow_all(&[thief.forward], 1, 7), Followed::default(), "{name}: nothing is left of it");
            let (packets, all) = packets(&some(0..100));
            assert_eq!(table.follow_all(&packets, 64, 7), all, "{name}");
        });
    }

    #[test]
    fn everybody_says_what_it_has() {
        each(|name, table| {
            begin(table, &some(0..ROOM));
            let per_flow = table.bytes() / ROOM as usize;
            // Two keys of twelve octets, or 16 bits of each, and somewhere to go.
            assert!((48..400).contains(&per_flow), "{name}: {per_flow}");
        });
    }
}
