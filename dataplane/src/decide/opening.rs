//! The first packet of a connection, where all is as it nearly always is.
//!
//! What `service` decides about a SYN follows from the tables, but for three things: whether the flow is there already, which
//! source port is free, and whether the table has room. So it is done in two steps, for a batch of packets at a time:
//!
//! ```text
//!   offer     tables alone, once for all that go to one frontend: is it plain
//!   propose   tables alone: backend, next hop, the port that is looked at first ──► the reply's bucket is asked for
//!   open      the flow is not there, the port is free, it may begin             ──► inserted; where the packet goes
//! ```
//!
//! Between the two the memory that the second waits for arrives. Either may leave the packet to [`decide`](super::decide()), with nothing changed:
//! whatever is rarer than the plainest SYN of IPv4 for a service in `nat` or `dnat` has one implementation, there. What is
//! decided here is what `decide` would (`worker::tests::established` plays the same story to both).

use levee_api::net::Role;
use levee_api::program::{Mode, Pool};

use super::snat::Looks;
use super::{Memory, Scene, effective, owner};
use crate::address::Address;
use crate::ends::{Ends, Tuple};
use crate::flows::{Draft, Opening, Vacancy};
use crate::headers::Glance;
use crate::limits::Welcome;
use crate::reason::Reason;
use crate::tables::service::{Clients, Frontend, Service};
use crate::verdict::{Course, Endpoint, PortId};

/// What a frontend has for whoever opens a connection to it: asked once for all of a batch that do.
#[derive(Clone, Copy)]
pub struct Offer<'a> {
    service: &'a Service,
    vip: Endpoint,
    mode: Mode,
    pool: Pool,
    /// The side that they come from.
    from: Role,
    /// Of the tables.
    stamp: u32,
}

impl<'a> Offer<'a> {
    /// What a frontend at a VIP has for those who come `from` the fabric's side or the pods'; `None` if it is not plain.
    #[must_use]
    pub fn new(frontend: &Frontend, vip: Endpoint, from: Role, scene: &Scene<'a>) -> Option<Self> {
        let tables = scene.tables;
        let service = tables.services.get(frontend.service)?;
        let Frontend { mode, pool, clients, .. } = *frontend;
        let plain = tables.mss_clamp == 0
            && clients == Clients::All
            && service.affinity_ms.is_none()
            && matches!(mode, Mode::Nat | Mode::Dnat);
        plain.then(|| Offer { service, vip, mode, pool, from, stamp: tables.stamp() })
    }
}

/// A flow that would begin.
#[derive(Debug, Clone, Copy)]
pub struct Proposal {
    draft: Draft,
    /// Other ports, with `nat`.
    ports: Option<Looks>,
}

impl Proposal {
    /// The port that its packet would leave by.
    #[inline(always)]
    #[must_use]
    pub fn leaves_by(&self) -> PortId {
        self.draft.hop().port()
    }
}

/// What becomes of a packet whose flow was proposed.
pub enum Opened {
    /// It is on its way.
    Goes(Course),
    /// It is dropped.
    Dropped(Reason),
    /// It is to be decided on; nothing has changed.
    Undecided,
}

/// What the tables say of a SYN that takes an offer; `hash` is its tuple's. The reply's place in the table of flows is asked for.
#[inline(always)]
#[must_use]
pub fn propose(
    glance: &Glance,
    hash: u64,
    offer: &Offer<'_>,
    scene: &Scene<'_>,
    memory: &mut Memory,
) -> Option<Proposal> {
    let tables = scene.tables;
    let Offer { service, vip, mode, pool, from, stamp } = *offer;
    if glance.length > tables.narrowest {
        return None;
    }
    let Tuple { source: client, .. } = glance.ends.tuple_v4(glance.protocol);
    let source = tables.owner(client.address);
    if source.announce || source.inward || client.address.is_martian() {
        return None;
    }
    if mode == Mode::Dnat && owner(client.address, tables) != scene.worker {
        return None;
    }
    let chosen = service.hash(client, vip);
    let backend = service.pick(pool, chosen).filter(|backend| backend.via == 0)?;
    let target = service.target(backend, vip);
    if !target.address.is_v4() {
        return None;
    }
    let place = memory.places.get_as_of(stamp, target.address, tables);
    let hop = place.hop?;
    let mode = effective(mode, client.address, target.address, place, Some(from));
    let (seen, ports) = if mode == Mode::Nat {
        let (first, looks) = Looks::first(target, place, client, chosen, scene)?;
        (first, Some(looks))
    } else {
        (client, None)
    };
    let reverse = Ends::of(target, seen);
    let reply = memory.flows.hash_v4(reverse, glance.protocol);
    memory.flows.prefetch_both(reply);
    let (forward, protocol, service_slot) = (glance.ends, glance.protocol, service.slot);
    let opening = Opening { forward, reverse, protocol, mode, from, service_slot, stamp, hop };
    Some(Proposal { draft: Draft::new(&opening, [hash, reply], scene.now), ports })
}

/// Begins a flow, if it can be as it was proposed, or by another port.
#[inline(always)]
#[must_use]
pub fn open(proposal: &Proposal, scene: &Scene<'_>, memory: &mut Memory) -> Opened {
    let Proposal { draft, ports } = proposal;
    let Some(forward) = memory.flows.forward_vacancy(draft) else { return Opened::Undecided };
    if memory.newcomers.are_limited() {
        let tuple = draft.forward().tuple_v4(draft.protocol());
        match memory.newcomers.welcome(tuple.source.address, tuple.destination, scene.now) {
            Welcome::Come => {}
            Welcome::TooManyOfSource => return Opened::Dropped(Reason::NewFlowsOfSource),
            Welcome::TooManyOfVip => return Opened::Dropped(Reason::NewFlowsOfVip),
        }
    }
    // From here on it is decided: it has been counted.
    let other;
    let (draft, reverse) = match memory.flows.reverse_vacancy(draft) {
        Some(reverse) => (draft, reverse),
        None => match by_another_port(draft, *ports, scene, memory) {
            Ok((found, reverse)) => {
                other = found;
                (&other, reverse)
            }
            Err(reason) => return Opened::Dropped(reason),
        },
    };
    let Some(course) = memory.flows.open(draft, &forward, &reverse, scene.now) else {
        return Opened::Dropped(Reason::FlowTableFull);
    };
    memory.created += 1;
    Opened::Goes(course)
}

/// The flow by the port that [`source`](super::snat::source()) finds. Without ports to choose from, of two flows with one tuple the second
/// has no room.
#[inline(never)]
fn by_another_port(
    draft: &Draft,
    ports: Option<Looks>,
    scene: &Scene<'_>,
    memory: &mut Memory,
) -> Result<(Draft, Vacancy), Reason> {
    let [backend, _] = draft.reverse().endpoints([Address::UNSPECIFIED_V4.head(); 2]);
    let ports = ports.ok_or(Reason::FlowTableFull)?;
    let (source, vacancy) = ports.source(backend, draft.protocol(), scene, &mut memory.flows)?;
    let reverse = Ends::of(backend, source);
    let draft = draft.by(reverse, memory.flows.hash_v4(reverse, draft.protocol()));
    let vacancy = vacancy.or_else(|| memory.flows.reverse_vacancy(&draft)).ok_or(Reason::FlowTableFull)?;
    Ok((draft, vacancy))
}
