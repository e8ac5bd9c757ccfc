//! levee's flow table, as `worker::established` and `worker::opening` use it: each step over all of some packets before the next one needs the
//! memory that it asked for.

use std::io;

use levee_api::net::{Mac, Role};
use levee_api::program::Mode;
use levee_dataplane::ends::Ends;
use levee_dataplane::flows::state::State;
use levee_dataplane::flows::{Coming, Draft, FlowId, Flows, Millis, Opening, Timeouts};
use levee_dataplane::verdict::{NextHop, PortId};

use super::{Connection, Followed, KEY, MOST, PROTOCOL, Table};

/// Where everything goes.
const HOP: NextHop = NextHop::new(PortId(0), Mac([2, 0, 0, 0, 0, 3]));
/// Of tables that never change.
const STAMP: u32 = 1;

/// See the module.
pub struct Today {
    flows: Flows,
    looks: Box<[Look; MOST]>,
    drafts: Vec<Draft>,
}

#[derive(Clone, Copy)]
struct Look {
    hash: u64,
    candidate: FlowId,
}

impl Today {
    /// With room for so many connections.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(room: usize) -> io::Result<Self> {
        let flows = Flows::new(room, KEY, Timeouts::default())?;
        let looks = Box::new([Look { hash: 0, candidate: FlowId::NONE }; MOST]);
        Ok(Today { flows, looks, drafts: Vec::with_capacity(MOST) })
    }
}

impl Table for Today {
    fn begin(&mut self, some: &[Connection], now: Millis) -> usize {
        let Today { flows, drafts, .. } = self;
        drafts.clear();
        for Connection { forward, reverse } in some {
            let hashes = [*forward, *reverse].map(|ends| flows.hash_v4(ends, PROTOCOL));
            hashes.into_iter().for_each(|hash| flows.prefetch_both(hash));
            let opening = Opening {
                forward: *forward,
                reverse: *reverse,
                protocol: PROTOCOL,
                mode: Mode::Nat,
                from: Role::Uplink,
                service_slot: 0,
                stamp: STAMP,
                hop: HOP,
            };
            drafts.push(Draft::new(&opening, hashes, now));
        }
        let mut began = 0;
        for draft in drafts {
            let (Some(forward), Some(reverse)) = (flows.forward_vacancy(draft), flows.reverse_vacancy(draft)) else {
                continue;
            };
            began += usize::from(flows.open(draft, &forward, &reverse, now).is_some());
        }
        began
    }

    fn establish(&mut self, some: &[Connection]) {
        for connection in some {
            let Some((id, _)) = self.flows.find(&connection.forward.tuple_v4(PROTOCOL)) else { continue };
            let Some(mut flow) = self.flows.get(id) else { continue };
            (flow.state, flow.reverse_hop) = (State::Established, Some(HOP));
            self.flows.store(id, &flow);
        }
    }

    fn follow(&mut self, some: &[Ends], now: Millis) -> Followed {
        let Today { flows, looks, .. } = self;
        let coming = Coming { from: Role::Uplink, stamp: STAMP, now };
        let holds = |stamp, _| stamp == STAMP;
        for (ends, look) in some.iter().zip(&mut **looks) {
            look.hash = flows.hash_v4(*ends, PROTOCOL);
            flows.prefetch(look.hash);
        }
        let looks = &mut looks[..some.len()];
        let mut away = false;
        for look in &mut *looks {
            look.candidate = flows.candidate(look.hash);
            away |= look.candidate == FlowId::AWAY;
        }
        if away {
            for look in looks.iter_mut().filter(|look| look.candidate == FlowId::AWAY) {
                look.candidate = flows.candidate_away(look.hash);
            }
        }
        let mut followed = Followed::default();
        for (ends, look) in some.iter().zip(looks) {
            let course = flows.follow_v4(look.candidate, (*ends, PROTOCOL), coming, holds);
            // Another one's, which has the same 16 bits of the hash.
            let course =
                course.or_else(|| flows.follow(&ends.tuple_v4(PROTOCOL), coming, holds).map(|(course, _)| course));
            if let Some(course) = course {
                followed.note(course.ends.to());
            }
        }
        followed
    }

    fn end(&mut self, some: &[Ends]) -> usize {
        let Today { flows, looks, .. } = self;
        for (ends, look) in some.iter().zip(&mut **looks) {
            look.hash = flows.hash_v4(*ends, PROTOCOL);
            flows.prefetch(look.hash);
        }
        for look in &mut looks[..some.len()] {
            // Asks for the entry.
            look.candidate = flows.candidate(look.hash);
        }
        let mut ended = 0;
        for ends in some {
            if let Some((id, _)) = flows.find(&ends.tuple_v4(PROTOCOL)) {
                flows.remove(id);
                ended += 1;
            }
        }
        ended
    }

    fn bytes(&self) -> usize {
        self.flows.bytes()
    }
}
