//! Which frontends connections were opened to a moment ago.
//!
//! What [`classify`](fn@crate::classify::classify) says of a SYN follows from where it goes, the port that it came in on, and the tables, but for what its
//! source is. This remembers it for those that are to a service, in the place that the destination's hash names. Like [`Recent`](super::recent::Recent)
//! it is a cache and nothing else: exact, forgotten with every change of the tables, and noted on the long way.

use crate::ends::Ends;
use crate::hash::MAGLEV_KEY;
use crate::tables::service::Frontend;
use crate::verdict::PortId;

/// 16 KiB: they stay in the first-level cache if there are few, and in the second-level cache if there are many.
const DOORS: usize = 512;

#[derive(Clone, Copy)]
struct Door {
    to: u64,
    /// Of the tables; 0 is never.
    stamp: u32,
    frontend: Option<Frontend>,
}

/// See the module's documentation.
pub(super) struct Doors {
    doors: Box<[Door]>,
}

impl Default for Doors {
    fn default() -> Self {
        Doors { doors: vec![Door { to: 0, stamp: 0, frontend: None }; DOORS].into() }
    }
}

/// Where a packet of IPv4 goes, in a word: address, port, and the port that it came in on.
#[inline(always)]
fn word(ends: Ends, ingress: PortId) -> u64 {
    let (address, port) = ends.to();
    u64::from(address) << 32 | u64::from(port) << 16 | u64::from(ingress.0)
}

impl Doors {
    /// The frontend that a SYN is to, whatever its source is, by tables of this stamp.
    #[inline]
    pub(super) fn get(&self, ends: Ends, ingress: PortId, stamp: u32) -> Option<&Frontend> {
        let to = word(ends, ingress);
        let door = self.doors.get(MAGLEV_KEY.word(to) as usize % DOORS)?;
        if door.to == to && door.stamp == stamp { door.frontend.as_ref() } else { None }
    }

    pub(super) fn note(&mut self, ends: Ends, ingress: PortId, stamp: u32, frontend: Frontend) {
        let to = word(ends, ingress);
        if let Some(door) = self.doors.get_mut(MAGLEV_KEY.word(to) as usize % DOORS) {
            *door = Door { to, stamp, frontend: Some(frontend) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;
    use crate::verdict::Endpoint;

    fn ends(client: u16, port: u16) -> Ends {
        let end = |last, port| Endpoint { address: Address::v4(0x0a00_0000 + last), port };
        Ends::of(end(u32::from(client), client), end(7, port))
    }

    #[test]
    fn a_door_is_known_to_all_clients_until_the_tables_change_or_it_is_another() {
        let mut doors = Doors::default();
        doors.note(ends(1, 80), PortId(0), 5, Frontend::plainest(3));
        assert_eq!(doors.get(ends(2, 80), PortId(0), 5), Some(&Frontend::plainest(3)));
        assert_eq!(doors.get(ends(1, 80), PortId(0), 6), None, "another stamp");
        assert_eq!(doors.get(ends(1, 80), PortId(1), 5), None, "another side");
        assert_eq!(doors.get(ends(1, 81), PortId(0), 5), None, "another port");
        for port in 0..2000 {
            doors.note(ends(1, port), PortId(0), 5, Frontend::plainest(u32::from(port)));
            assert_eq!(doors.get(ends(9, port), PortId(0), 5), Some(&Frontend::plainest(u32::from(port))));
        }
        let wrong = |port: &u16| {
            let found = doors.get(ends(9, *port), PortId(0), 5);
            found.is_some_and(|found| *found != Frontend::plainest(u32::from(*port)))
        };
        assert_eq!((0..2000).filter(wrong).count(), 0);
    }
}
