//! ICMP errors about packets of flows: whose flow it is, and where the error goes.
//!
//! ```text
//!   client C ─────── router ─────── levee ─────── router ─────── backend B
//!               ▲ sends an error               ▲ sends an error
//!               │ about V→C, to V              │ about S→B, to S (nat) or C (dnat)
//!               ▼                              ▼
//!         goes where an answer           goes where an answer
//!         C→V would go: to B             B→S would go: to C
//! ```
//!
//! An error about a packet travels as the answer to that packet would: the quoted tuple, turned round, finds the flow and
//! the direction. The outer header gets what the answer would get; the quoted one gets the same the other way round
//! (`rewrite::error`), so that its receiver reads about the packet that it sent. Linux does the same
//! (`nf_nat_icmp_reply_translation`), down to hiding routers behind the VIP and the SNAT address.
//!
//! An error may come in anywhere: its sender is not part of the flow, so neither RSS nor ECMP keep it with its flow. Which
//! worker has the flow is told by the SNAT port or the client's address, and else asked from one to the next; where
//! another balancer has it, the backend is the one that every balancer computes.

use levee_api::net::Role;
use levee_api::program::Mode;

use super::fits::mtu_floor;
use super::{
    Decision, Memory, Rewritten, Scene, dropped, forward_plain, owner, renew, send, to_backend, to_client, whose, wrap,
};
use crate::classify::Plain;
use crate::flows::state::State;
use crate::flows::{Direction, Tuple};
use crate::headers::{Headers, Ip, Network, Ports, Quote};
use crate::reason::Reason;
use crate::tables::Hop;
use crate::tables::ranges::has_ports;
use crate::tables::service::{Frontend, FrontendKey};
use crate::tables::snat::WITHOUT_PORTS;
use crate::verdict::{Endpoint, Verdict};

/// How far the search for the worker that has the flow has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Search {
    /// No other worker has been asked.
    pub first: bool,
    /// No other worker is left to be asked.
    pub last: bool,
}

/// Decides on an ICMP error that quotes `quote`, and goes as `plain` if it is about no flow.
#[must_use]
pub fn decide_error(
    plain: &Plain,
    quote: &Quote,
    headers: &Headers,
    scene: &Scene<'_>,
    memory: &mut Memory,
    search: Search,
) -> Decision {
    let (Network::Ip(ip), Some(answer)) = (&headers.network, answer(quote)) else {
        return forward_plain(plain, headers, scene);
    };
    // Who is told of it must be who sent it.
    if quote.source != ip.destination {
        let ours = matches!(plain, Plain::Nowhere(Reason::IcmpNoFlow));
        return if ours { dropped(Reason::IcmpSpoofed) } else { forward_plain(plain, headers, scene) };
    }
    let tables = scene.tables;
    let frontend = frontend(&answer, scene);
    let place = place(&answer, frontend, scene);
    match place {
        Place::Nowhere => return forward_plain(plain, headers, scene),
        Place::Port(worker) | Place::Client(worker) if worker != scene.worker => return Decision::HandOver(worker),
        Place::Port(_) | Place::Client(_) | Place::Any => {}
    }
    if let Some((id, direction)) = memory.flows.find(&answer)
        && let Some(mut flow) = memory.flows.get(id)
        && flow.state != State::Dead
    {
        if let Err(reason) = believable(quote, ip) {
            return dropped(reason);
        }
        if !memory.errors.about(key(flow.client(), flow.frontend()), scene.now) {
            return dropped(Reason::IcmpRateLimited);
        }
        let goes = if direction == Direction::Forward {
            match tables.services.get(flow.service_slot) {
                Some(service) if renew(&mut flow, Some(service), tables) => to_backend(&mut flow, service, scene),
                _ => return dropped(Reason::IcmpNoFlow),
            }
        } else {
            let service = tables.services.get(flow.service_slot).map(AsRef::as_ref);
            renew(&mut flow, service, tables);
            to_client(&mut flow, scene)
        };
        memory.flows.store(id, &flow);
        return goes;
    }
    let elsewhere = matches!(place, Place::Any) && !search.last;
    let guess = frontend.filter(|frontend| frontend.mode != Mode::Nat);
    if matches!(place, Place::Port(_)) {
        return dropped(Reason::IcmpNoFlow);
    }
    if !elsewhere && guess.is_none() {
        return forward_plain(plain, headers, scene);
    }
    // What is done for errors about unknown flows is done for anybody who makes some up.
    if search.first && !memory.errors.about_unknown(ip.source, scene.now) {
        return dropped(Reason::IcmpRateLimited);
    }
    match guess {
        _ if elsewhere => Decision::Seek,
        Some(frontend) => match believable(quote, ip) {
            Ok(()) => by_hash(frontend, &answer, scene, memory),
            Err(reason) => dropped(reason),
        },
        None => forward_plain(plain, headers, scene),
    }
}

/// The tuple of an answer to the quoted packet, which a flow may have.
fn answer(quote: &Quote) -> Option<Tuple> {
    let ports = match quote.ports {
        None if quote.is_icmp() => return None,
        ports => ports.unwrap_or(Ports { source: 0, destination: 0 }),
    };
    Some(Tuple {
        source: Endpoint { address: quote.destination, port: ports.destination },
        destination: Endpoint { address: quote.source, port: ports.source },
        protocol: quote.protocol,
    })
}

/// Which worker may have a flow.
enum Place {
    /// The one whose SNAT port it is: nobody else's packet was quoted, not the kernel's either.
    Port(usize),
    /// The one that such flows of this client belong to.
    Client(usize),
    /// Nothing but the table tells.
    Any,
    /// None: it is no flow that levee could have.
    Nowhere,
}

fn place(answer: &Tuple, frontend: Option<&Frontend>, scene: &Scene<'_>) -> Place {
    let tables = scene.tables;
    let Tuple { source, destination, protocol } = *answer;
    let to = tables.owner(destination.address);
    if !has_ports(protocol) && (to.snat && !to.kernel || to.inward) {
        return Place::Port(WITHOUT_PORTS);
    }
    if let Some(range) = tables.snat_range(destination.address, destination.port) {
        return range.worker(destination.port, tables.workers).map_or(Place::Nowhere, Place::Port);
    }
    if let Some(frontend) = frontend {
        let service = tables.services.get(frontend.service);
        let whose = service.and_then(|service| whose(frontend, service, answer, scene));
        return whose.map_or(Place::Any, Place::Client);
    }
    if tables.may_reply(source, protocol, tables.owner(source.address)) {
        return Place::Client(owner(destination.address, tables));
    }
    Place::Nowhere
}

/// The frontend whose packet is quoted, if it is a frontend's: of the side that the error came from, or else of another.
fn frontend<'a>(answer: &Tuple, scene: &Scene<'a>) -> Option<&'a Frontend> {
    let here = scene.tables.port(scene.ingress)?.role;
    let Endpoint { address, port } = answer.destination;
    let wide = scene.tables.owner(address).wide;
    let at = |role| scene.tables.frontend(&FrontendKey::new(address, port, answer.protocol, role), wide);
    [here, Role::Uplink, Role::Pods].into_iter().find_map(at)
}

fn believable(quote: &Quote, ip: &Ip) -> Result<(), Reason> {
    match quote.mtu {
        Some(mtu) if mtu < mtu_floor(ip.source.is_v4()) => Err(Reason::IcmpMtu),
        _ if ip.ttl <= 1 => Err(Reason::TtlExceeded),
        _ => Ok(()),
    }
}

pub(super) fn key(one: Endpoint, other: Endpoint) -> u64 {
    let fold = |Endpoint { address, port }: Endpoint| {
        let [high, low] = address.halves();
        high ^ low ^ u64::from(port) << 48
    };
    fold(one).rotate_left(32) ^ fold(other)
}

/// To the backend that a packet from this client gets here, since it gets the same one on every balancer.
fn by_hash(frontend: &Frontend, answer: &Tuple, scene: &Scene<'_>, memory: &Memory) -> Decision {
    let Some(service) = scene.tables.services.get(frontend.service) else { return dropped(Reason::IcmpNoFlow) };
    let remembered = service.affinity_ms.and_then(|timeout| {
        let backend = memory.affinities.get(service.id, answer.source.address, timeout, scene.now)?;
        service.backend(backend).filter(|backend| backend.is_in(frontend.pool))
    });
    let hash = service.hash(answer.source, answer.destination);
    let Some(backend) = remembered.or_else(|| service.pick(frontend.pool, hash)) else {
        return dropped(Reason::IcmpNoFlow);
    };
    let destination = (frontend.mode == Mode::Dnat).then(|| service.target(backend, answer.destination));
    let remote = service.via(backend.via);
    match scene.tables.hop(remote.map_or(backend.endpoint.address, |remote| remote.address)) {
        Hop::To(port, mac) => {
            let sent = send(port, mac, scene, Rewritten { source: None, destination, routed: true });
            let entropy = || wrap::entropy(answer.source, answer.destination, answer.protocol);
            match (remote, sent) {
                (Some(remote), Decision::Ends(Verdict::Forward(port, rewrite))) => {
                    wrap::wrap(remote, entropy(), port, rewrite, scene)
                }
                (_, sent) => sent,
            }
        }
        Hop::Unresolved(key) => Decision::Awaits(key),
        Hop::Kernel => dropped(Reason::HostNetwork),
        Hop::Broadcast => dropped(Reason::MartianDestination),
        Hop::NoRoute => dropped(Reason::NoRoute),
    }
}
