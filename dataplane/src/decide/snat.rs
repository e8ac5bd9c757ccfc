//! Whom a backend sees with `nat`: a source address and port out of this worker's part of `snat`, that no other flow has with
//! this backend.
//!
//! A few ports are looked at, anywhere, and the first free one is taken. If none of them is free, one is taken over
//! from a flow that is over, or that has never become one: else a backend could be given no more connections a second
//! than there are ports, divided by how long a flow is remembered.

use super::{Place, Scene};
use crate::flows::state::State;
use crate::flows::{FlowId, Flows, Millis, Tuple, Vacancy};
use crate::hash::{MAGLEV_KEY, spread};
use crate::reason::Reason;
use crate::tables::Tables;
use crate::tables::ranges::has_ports;
use crate::tables::snat::WITHOUT_PORTS;
use crate::tables::sources::{Pool, Sources};
use crate::verdict::Endpoint;

/// How many ports are looked at for a new flow. They are looked at independently of each other: with three quarters
/// of them towards one backend in use, all are in use for one flow in 10,000, with half of it, for one in 2³².
const TRIES: u32 = 32;

/// For so long, in milliseconds, a finished connection keeps its port, for what was sent again meanwhile; and one whose client has
/// not acknowledged: longer than a round trip, far shorter than `timeouts.tcp_syn`.
const QUIET: Millis = 200;

/// The source of a new flow, and the vacancy of the reply's tuple where the look for it has said so. It stays free until a flow with it
/// is inserted.
///
/// # Errors
/// There is no address of the backend's family, or all ports that were looked at belong to flows that go on.
pub(super) fn source(
    backend: Endpoint,
    place: Place,
    tuple: &Tuple,
    hash: u64,
    scene: &Scene<'_>,
    flows: &mut Flows,
) -> Result<(Endpoint, Option<Vacancy>), Reason> {
    if !has_ports(tuple.protocol) {
        return without_ports(backend, place, tuple.protocol, scene, flows).map(|source| (source, None));
    }
    Looks { seed: seed(tuple.source, hash), kernel: place.kernel }.source(backend, tuple.protocol, scene, flows)
}

/// Where [`source()`] looks for a flow of TCP or UDP.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looks {
    seed: u64,
    /// Whether the backend is this host's kernel.
    kernel: bool,
}

impl Looks {
    /// The first port, and where the others are. `None` if there is none.
    #[inline(always)]
    pub(super) fn first(
        backend: Endpoint,
        place: Place,
        client: Endpoint,
        hash: u64,
        scene: &Scene<'_>,
    ) -> Option<(Endpoint, Self)> {
        let looks = Looks { seed: seed(client, hash), kernel: place.kernel };
        Some((look(pool(backend, place.kernel, scene).ok()?, looks.seed, 0)?, looks))
    }

    /// What [`source()`] says.
    ///
    /// # Errors
    /// As there.
    #[inline(never)]
    pub(super) fn source(
        self,
        backend: Endpoint,
        protocol: u8,
        scene: &Scene<'_>,
        flows: &mut Flows,
    ) -> Result<(Endpoint, Option<Vacancy>), Reason> {
        let Looks { seed, kernel } = self;
        let pool = pool(backend, kernel, scene)?;
        let mut least: Option<((Worth, Millis), FlowId, Endpoint)> = None;
        for step in 0..TRIES {
            let Some(source) = look(pool, seed, step) else { break };
            if step > 0 {
                if flows.ports_left() == 0 {
                    break;
                }
                flows.looked(1);
            }
            let reply = Tuple { source: backend, destination: source, protocol };
            let id = match flows.search(&reply) {
                Ok((id, _)) => id,
                Err(vacancy) => return Ok((source, Some(vacancy))),
            };
            if let Some(worth) = worth(id, scene.now, flows)
                && least.is_none_or(|(most, ..)| worth > most)
            {
                least = Some((worth, id, source));
            }
        }
        match least {
            Some((_, id, source)) => {
                flows.remove(id);
                Ok((source, None))
            }
            None => Err(Reason::NoSnatPort),
        }
    }
}

/// This worker's sources towards a backend; or what is missing.
#[inline(always)]
fn pool<'a>(backend: Endpoint, kernel: bool, scene: &Scene<'a>) -> Result<&'a Pool, Reason> {
    let (missing, sources) = sources(kernel, scene.tables);
    sources.pool(scene.worker, backend.address.is_v4()).ok_or(missing)
}

/// The source that is looked at in one step; `None` if there are not so many. One after another would do among few only: among many,
/// ports in use would grow together to runs longer than anybody looks.
#[inline(always)]
fn look(pool: &Pool, seed: u64, step: u32) -> Option<Endpoint> {
    let count = pool.count();
    if step >= count {
        return None;
    }
    if step == 0 {
        pool.pick(seed)
    } else if count <= TRIES {
        pool.get((spread(seed, count as usize) as u32 + step) % count)
    } else {
        pool.pick(MAGLEV_KEY.word(seed ^ u64::from(step)))
    }
}

/// Where sources towards a backend are taken from, which is this host's kernel or is not; and what is missing if none of them is of its family.
#[inline(always)]
fn sources(kernel: bool, tables: &Tables) -> (Reason, &Sources) {
    if kernel { (Reason::HostNetwork, &tables.host_snat) } else { (Reason::NoSnatAddress, &tables.snat) }
}

/// The client's port makes each flow's first look its own.
#[inline(always)]
fn seed(client: Endpoint, hash: u64) -> u64 {
    hash ^ MAGLEV_KEY.word(u64::from(client.port))
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
        State::Reset | State::Closed | State::Dead => Worth::Over,
        State::Syn => Worth::HalfOpen,
        _ => return None,
    };
    (worth == Worth::Forgotten || idle >= QUIET).then_some((worth, idle))
}

/// A source address towards a backend in a protocol without ports: one that no other client has with that backend. It must be levee's
/// alone, for of one that it shares with the kernel only ports come here.
fn without_ports(
    backend: Endpoint,
    place: Place,
    protocol: u8,
    scene: &Scene<'_>,
    flows: &Flows,
) -> Result<Endpoint, Reason> {
    let (_, sources) = sources(place.kernel, scene.tables);
    let mut reason = Reason::NoSnatAddress;
    // Affinity remembers a backend that is reached by `nat` where the one that others get is not.
    if scene.worker != WITHOUT_PORTS {
        return Err(Reason::NoSnatPort);
    }
    for range in sources.ranges().iter().filter(|range| range.address.is_v4() == backend.address.is_v4()) {
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
