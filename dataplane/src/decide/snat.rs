//! Whom a backend sees with `nat`: a source address and port out of this worker's part of `snat`, that no other flow has with
//! this backend.
//!
//! A few ports are looked at, anywhere in the range, and the first free one is taken. If none of them is free, one is taken over
//! from a flow that is over, or that has never become one: else a backend could be given no more connections a second
//! than there are ports, divided by how long a flow is remembered.

use crate::decide::Scene;
use crate::flows::state::State;
use crate::flows::{FlowId, Flows, Millis, Tuple};
use crate::hash::{MAGLEV_KEY, spread};
use crate::reason::Reason;
use crate::tables::ranges::has_ports;
use crate::tables::snat::{SnatRange, WITHOUT_PORTS};
use crate::verdict::Endpoint;

/// How many ports of a range are looked at for a new flow. They are looked at independently of each other: with three quarters
/// of a range towards one backend in use, all are in use for one flow in 10,000, with half of it, for one in 2³².
const TRIES: u32 = 32;

/// For so long, in milliseconds, a finished connection keeps its port, for what was sent again meanwhile; and one whose client has
/// not acknowledged: longer than a round trip, far shorter than `timeouts.tcp_syn`.
const QUIET: Millis = 200;

/// The source of a new flow. It stays free until a flow with it is inserted.
///
/// # Errors
/// There is no address of the backend's family, or all ports that were looked at belong to flows that go on.
pub(super) fn source(
    backend: Endpoint,
    tuple: &Tuple,
    hash: u64,
    scene: &Scene<'_>,
    flows: &mut Flows,
) -> Result<Endpoint, Reason> {
    let (mut reason, ranges) = if scene.tables.owner(backend.address).kernel {
        (Reason::HostNetwork, &*scene.tables.host_snat)
    } else {
        (Reason::NoSnatAddress, &*scene.tables.snat)
    };
    if !has_ports(tuple.protocol) {
        return without_ports(backend, tuple.protocol, ranges, scene, flows);
    }
    let mut least: Option<((Worth, Millis), FlowId, Endpoint)> = None;
    for range in ranges.iter().filter(|range| range.address.is_v4() == backend.address.is_v4()) {
        reason = Reason::NoSnatPort;
        let part = range.part(scene.worker, scene.tables.workers);
        let count = part.end.saturating_sub(part.start);
        for step in 0..TRIES.min(count) {
            // The client's port makes each flow's first look its own. One port after another would do in a small range only: in a
            // large one, ports in use would grow together to runs longer than anybody looks.
            let seed = hash ^ MAGLEV_KEY.word(u64::from(tuple.source.port));
            let offset = if count <= TRIES {
                (spread(seed, count as usize) as u32 + step) % count
            } else {
                spread(if step == 0 { seed } else { MAGLEV_KEY.word(seed ^ u64::from(step)) }, count as usize) as u32
            };
            let port = u16::try_from(part.start + offset).unwrap_or(u16::MAX);
            let source = Endpoint { address: range.address, port };
            let reply = Tuple { source: backend, destination: source, protocol: tuple.protocol };
            let Some((id, _)) = flows.find(&reply) else { return Ok(source) };
            if let Some(worth) = worth(id, scene.now, flows)
                && least.is_none_or(|(most, ..)| worth > most)
            {
                least = Some((worth, id, source));
            }
        }
    }
    match least {
        Some((_, id, source)) => {
            flows.remove(id);
            Ok(source)
        }
        None => Err(reason),
    }
}

/// Whose port is taken over before whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    /// Somebody has asked and not yet acknowledged.
    HalfOpen,
    /// Both ends have closed, or one has reset. A backend that closed first remembers it longer (TIME-WAIT), and takes a
    /// SYN that is newer, or has its client reset what it remembers (RFC 9293, 3.10.7.4; RFC 6191).
    Over,
    /// Its time is up; the table's hand has not come by.
    Forgotten,
}

/// What the flow that has a port may lose it for, and how long it has been quiet; `None` if it keeps it.
fn worth(id: FlowId, now: Millis, flows: &Flows) -> Option<(Worth, Millis)> {
    let (state, idle) = flows.age(id, now)?;
    let worth = match state {
        _ if idle >= flows.timeouts().of(state) => Worth::Forgotten,
        State::Closed | State::Dead => Worth::Over,
        State::Syn => Worth::HalfOpen,
        _ => return None,
    };
    (worth == Worth::Forgotten || idle >= QUIET).then_some((worth, idle))
}

/// A source address towards a backend in a protocol without ports: one that no other client has with that backend. It must be levee's
/// alone, for of one that it shares with the kernel only ports come here.
fn without_ports(
    backend: Endpoint,
    protocol: u8,
    ranges: &[SnatRange],
    scene: &Scene<'_>,
    flows: &Flows,
) -> Result<Endpoint, Reason> {
    let mut reason = Reason::NoSnatAddress;
    // Affinity remembers a backend that is reached by `nat` where the one that others get is not.
    if scene.worker != WITHOUT_PORTS {
        return Err(Reason::NoSnatPort);
    }
    for range in ranges.iter().filter(|range| range.address.is_v4() == backend.address.is_v4()) {
        if scene.tables.owner(range.address).kernel {
            continue;
        }
        let source = Endpoint { address: range.address, port: 0 };
        if flows.find(&Tuple { source: backend, destination: source, protocol }).is_none() {
            return Ok(source);
        }
        reason = Reason::NoSnatPort;
    }
    Err(reason)
}
