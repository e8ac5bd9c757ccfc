//! What becomes of a frame: its class, the tables and this worker's flows in, a decision out. No bytes, no locks.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod error;
mod established;
mod fits;
mod opening;
mod places;
mod snat;
mod way;
mod wrap;

pub use error::{Search, decide_error};
pub use established::{established, likely};
pub use opening::{Offer, Opened, Proposal, open, propose};
pub use places::{Place, Places};
pub use way::decide_about_tunnel;
pub use wrap::fits_in_tunnel;

use std::sync::Arc;

use levee_api::net::{Mac, Role};
use levee_api::program::{MidStream, Mode, WhenEmpty};

use crate::address::Address;
use crate::classify::{Class, Plain};
use crate::flows::affinity::Affinities;
use crate::flows::state::State;
use crate::flows::{Direction, Flow, FlowId, Flows, Millis, Tuple, Vacancy};
use crate::hash::{MAGLEV_KEY, spread};
use crate::headers::{Headers, Ip, Network, Transport, tcp_flags};
use crate::limits::{Errors, Limit, Newcomers, Replies, Welcome};
use crate::reason::Reason;
use crate::tables::ranges::has_ports;
use crate::tables::service::{Backend, Frontend, Service};
use crate::tables::snat::WITHOUT_PORTS;
use crate::tables::{Hop, NeighbourKey, Tables, is_newer};
use crate::verdict::{Endpoint, NextHop, PortId, Reply, Rewrite, Verdict};
use crate::ways::Ways;

/// What a worker decides with: its own, and bounded.
pub struct Memory {
    /// Flows.
    pub flows: Flows,
    /// Session affinity.
    pub affinities: Affinities,
    /// ARP and neighbour discovery answers by asker.
    pub arp: Limit,
    /// RST, unreachable, echo and "too big" answers, all together and by sender.
    pub replies: Replies,
    /// ICMP errors about flows, and about none that is known.
    pub errors: Errors,
    /// Flows that may begin.
    pub newcomers: Newcomers,
    /// Where flows begin to.
    pub places: Places,
    /// What the ways to tunnels' far ends carry: the one thing here that all workers share, without locks.
    pub ways: Arc<Ways>,
    /// Flows begun since the worker last looked.
    pub created: u32,
    /// Packets sent on without a flow since the worker last looked, because the table was full.
    pub untracked: u32,
    /// The same, because more began at their VIP than may.
    pub over_limit: u32,
    /// Flows begun at the backend that their connection ID names since the worker last looked.
    pub by_connection: u32,
}

/// Where and when a frame is decided on.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// This batch's snapshot.
    pub tables: &'a Tables,
    /// The port that the frame came in on.
    pub ingress: PortId,
    /// The worker that decides.
    pub worker: usize,
    /// The time of this batch.
    pub now: Millis,
}

/// A verdict, or why there is none yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The frame ends so.
    Ends(Verdict),
    /// It ends when this neighbour's MAC is known, or when that takes too long.
    Awaits(NeighbourKey),
    /// Another worker has its flow.
    HandOver(usize),
    /// It is about a flow that any worker may have, and this one has not.
    Seek,
    /// It is the packet that it carries, by this tunnel.
    Unwrap(u8),
}

const fn dropped(reason: Reason) -> Decision {
    Decision::Ends(Verdict::Drop(reason))
}

/// Decides.
#[inline]
#[must_use]
pub fn decide(class: &Class, headers: &Headers, scene: &Scene<'_>, memory: &mut Memory) -> Decision {
    match (class, &headers.network) {
        (Class::Ends(reason), _) => dropped(*reason),
        (Class::Kernel, _) => Decision::Ends(Verdict::Pass),
        (Class::IsAt { .. }, Network::Arp(arp)) if !asked_too_often(headers, arp.sender, scene, memory) => {
            answer(scene, |mac| Reply::ArpIsAt { mac })
        }
        (Class::IsAt { .. }, Network::Arp(_)) => dropped(Reason::ArpRateLimited),
        (Class::IsAt { proxied }, Network::Discovery(asked))
            if !asked_too_often(headers, asked.source, scene, memory) =>
        {
            answer(scene, |mac| Reply::NeighbourIsAt { mac, proxied: *proxied })
        }
        (Class::IsAt { .. }, Network::Discovery(_)) => dropped(Reason::NdpRateLimited),
        (Class::Claim, network) => claim(network, headers, scene, memory),
        (Class::Plain(plain), _) => fits::fits(forward_plain(plain, headers, scene), headers, scene, memory),
        (Class::Ping, Network::Ip(ip)) => limited(ip, scene, memory, |mac| Reply::Echo { mac }),
        (Class::ClosedPort, Network::Ip(ip)) => reject(ip, scene, memory),
        (Class::Service(frontend) | Class::Connection(frontend, _), Network::Ip(ip)) => {
            let decision = service(frontend, named(class), ip, scene, memory);
            if let Decision::Ends(Verdict::Wrap(..)) = decision {
                return fits_in_tunnel(decision, headers, ip, scene, memory);
            }
            fits::fits(decision, headers, scene, memory)
        }
        (Class::Tunnelled(tunnel), _) => Decision::Unwrap(*tunnel),
        (Class::SnatReply { worker }, Network::Ip(ip)) => {
            if *worker != scene.worker {
                return Decision::HandOver(*worker);
            }
            let decision = reply(ip, scene, memory).unwrap_or(dropped(Reason::NoSnatFlow));
            fits::fits(decision, headers, scene, memory)
        }
        (Class::Reply(plain), Network::Ip(ip)) => {
            let owner = owner(ip.destination, scene.tables);
            if owner != scene.worker {
                return Decision::HandOver(owner);
            }
            let decision = reply(ip, scene, memory).unwrap_or_else(|| forward_plain(plain, headers, scene));
            fits::fits(decision, headers, scene, memory)
        }
        // `classify` gives these classes only to packets of these kinds.
        _ => dropped(Reason::NotForwardable),
    }
}

/// The worker that owns all flows of a client whose replies are recognised by the client's address alone.
#[must_use]
pub fn owner(client: Address, tables: &Tables) -> usize {
    if tables.workers <= 1 { 0 } else { spread(MAGLEV_KEY.address(client, 1), tables.workers) }
}

/// Whether a station has had its share of answers about addresses.
fn asked_too_often(headers: &Headers, sender: Address, scene: &Scene<'_>, memory: &mut Memory) -> bool {
    let [_, low] = sender.halves();
    !memory.arp.take(u64::from_be_bytes(mac_word(headers.source)) ^ low, scene.now)
}

/// Somebody's claim to an address of ours. Each is told to slow threads, so a station has no more of them than of answers, and neither has an
/// address, whoever claims it. All addresses of a prefix that nobody has count as one, for there may be 2⁶⁴: claims to them do not hide
/// one to an address that somebody has.
fn claim(network: &Network, headers: &Headers, scene: &Scene<'_>, memory: &mut Memory) -> Decision {
    let (conflict, too_often) = match network {
        Network::Arp(_) => (Reason::ArpConflict, Reason::ArpRateLimited),
        _ => (Reason::NdpConflict, Reason::NdpRateLimited),
    };
    let claimed = headers.speaker().map(|(address, _)| address).filter(|address| scene.tables.is_in_use(*address));
    let claimed = claimed.unwrap_or(Address::UNSPECIFIED_V4);
    let few =
        !asked_too_often(headers, claimed, scene, memory) && memory.arp.take(MAGLEV_KEY.address(claimed, 0), scene.now);
    dropped(if few { conflict } else { too_often })
}

/// The worker that keeps the fragments of a datagram together, and knows them by their addresses alone: the client's, so that
/// with `dnat` it has the flow as well.
#[must_use]
pub fn keeper(ip: &Ip, tables: &Tables) -> usize {
    let to = tables.owner(ip.destination);
    owner(if to.vip || to.shared || to.snat || to.inward { ip.source } else { ip.destination }, tables)
}

fn mac_word(mac: Mac) -> [u8; 8] {
    let [a, b, c, d, e, f] = mac.0;
    [0, 0, a, b, c, d, e, f]
}

fn answer(scene: &Scene<'_>, reply: impl FnOnce(Mac) -> Reply) -> Decision {
    match scene.tables.port(scene.ingress) {
        Some(port) => Decision::Ends(Verdict::Hairpin(reply(port.mac))),
        None => dropped(Reason::NotOwned),
    }
}

fn limited(ip: &Ip, scene: &Scene<'_>, memory: &mut Memory, reply: impl FnOnce(Mac) -> Reply) -> Decision {
    if memory.replies.take(ip.source, scene.now) { answer(scene, reply) } else { dropped(Reason::ReplyRateLimited) }
}

/// RST, or ICMP port unreachable.
fn reject(ip: &Ip, scene: &Scene<'_>, memory: &mut Memory) -> Decision {
    match ip.transport {
        // RFC 9293, 3.5.2: a reset is never answered with a reset.
        Transport::Tcp(tcp) if tcp.flags & tcp_flags::RST != 0 => dropped(Reason::NoReplyAllowed),
        Transport::Tcp(_) => limited(ip, scene, memory, |mac| Reply::TcpReset { mac }),
        // Whatever the protocol, as Linux' REJECT does.
        Transport::Udp(_) | Transport::Sctp(_) | Transport::Other => {
            limited(ip, scene, memory, |mac| Reply::PortUnreachable { mac })
        }
        Transport::Icmp(_) => dropped(Reason::VipProtocol),
    }
}

fn forward_plain(plain: &Plain, headers: &Headers, scene: &Scene<'_>) -> Decision {
    match plain {
        Plain::Nowhere(reason) => dropped(*reason),
        Plain::Kernel => Decision::Ends(Verdict::Pass),
        Plain::Multicast(uplink) => send(*uplink, headers.destination, scene, Rewritten::default()),
        Plain::Pod(pod, mac) => send_by(scene.tables.hop_to_pod(*pod, *mac), scene),
        Plain::Route(destination) => send_by(scene.tables.hop_by_route(*destination), scene),
    }
}

fn send_by(hop: Hop, scene: &Scene<'_>) -> Decision {
    match hop {
        Hop::To(port, mac) => send(port, mac, scene, Rewritten::default()),
        Hop::Unresolved(key) => Decision::Awaits(key),
        Hop::Kernel => Decision::Ends(Verdict::Pass),
        Hop::Broadcast => dropped(Reason::MartianDestination),
        Hop::NoRoute => dropped(Reason::NoRoute),
    }
}

/// What changes besides the MACs.
#[derive(Default)]
struct Rewritten {
    source: Option<Endpoint>,
    destination: Option<Endpoint>,
    routed: bool,
}

/// The source MAC is the port's own, always: this is where the contract of the uplink is made.
fn send(port: PortId, mac: Mac, scene: &Scene<'_>, rewritten: Rewritten) -> Decision {
    let Some(out) = scene.tables.port(port) else { return dropped(Reason::NoRoute) };
    Decision::Ends(Verdict::Forward(
        port,
        Rewrite {
            destination_mac: mac,
            source_mac: out.mac,
            source: rewritten.source,
            destination: rewritten.destination,
            decrement_ttl: rewritten.routed,
        },
    ))
}

/// The index of the backend that a packet itself names.
fn named(class: &Class) -> Option<u16> {
    if let Class::Connection(_, backend) = class { Some(*backend) } else { None }
}

/// A packet from a client to a service; `named` is the backend that it names.
fn service(frontend: &Frontend, named: Option<u16>, ip: &Ip, scene: &Scene<'_>, memory: &mut Memory) -> Decision {
    let (Some(tuple), Some(service)) = (ip.tuple(), scene.tables.services.get(frontend.service)) else {
        return dropped(Reason::ServiceUnallocated);
    };
    // Replies to `dnat` come back to any queue, and only the client's address in them is known; and a client with
    // affinity must meet the same memory with each connection. Both belong to the worker that the address names.
    if let Some(owner) = whose(frontend, service, &tuple, scene)
        && owner != scene.worker
    {
        return Decision::HandOver(owner);
    }
    if ip.ttl <= 1 {
        return limited(ip, scene, memory, |mac| Reply::TimeExceeded { mac });
    }
    let vacancy = match memory.flows.search(&tuple) {
        Ok((id, Direction::Forward)) => match known(id, service, ip, scene, memory) {
            Known::Goes(decision) => return decision,
            Known::Over => {
                memory.flows.remove(id);
                memory.flows.search(&tuple).err()
            }
        },
        // What it says is somebody's reply: it goes as a packet of no flow does.
        Ok((_, Direction::Reverse)) => None,
        Err(vacancy) => Some(vacancy),
    };
    begin(frontend, service, named, (&tuple, vacancy), ip, scene, memory)
}

/// The worker that a client's flow belongs to, if it is not the one that it came in on.
fn whose(frontend: &Frontend, service: &Service, tuple: &Tuple, scene: &Scene<'_>) -> Option<usize> {
    if !has_ports(tuple.protocol) {
        let backend = service.pick(frontend.pool, service.hash(tuple.source, tuple.destination))?;
        let (client, backend) = (tuple.source.address, backend.endpoint.address);
        if effective_mode(frontend.mode, client, backend, scene) == Mode::Nat {
            return Some(WITHOUT_PORTS);
        }
    }
    let by_client = frontend.mode == Mode::Dnat || service.affinity_ms.is_some();
    by_client.then(|| owner(tuple.source.address, scene.tables))
}

/// What a flow that is in the table says to a packet from its client.
enum Known {
    Goes(Decision),
    /// It is finished, and this packet begins another one with the same tuple.
    Over,
}

fn known(id: FlowId, service: &Service, ip: &Ip, scene: &Scene<'_>, memory: &mut Memory) -> Known {
    let Some(mut flow) = memory.flows.get(id) else { return Known::Over };
    if !renew(&mut flow, Some(service), scene.tables) {
        flow.state = State::Dead;
        flow.stamp = scene.tables.stamp();
        flow.touch(scene.now);
    }
    let goes = if let Transport::Tcp(tcp) = ip.transport {
        match flow.state {
            State::Dead if tcp.opens() => return Known::Over,
            State::Dead => reject(ip, scene, memory),
            // The client reuses its port: RFC 9293, 3.6.1, allows it out of TIME-WAIT.
            State::Reset | State::Closed | State::ClosedByClient | State::ClosedByBackend if tcp.opens() => {
                return Known::Over;
            }
            state => {
                flow.state = state.after(tcp.flags, Direction::Forward);
                flow.touch(scene.now);
                to_backend(&mut flow, service, scene)
            }
        }
    } else if flow.state == State::Dead {
        return Known::Over;
    } else {
        flow.touch(scene.now);
        to_backend(&mut flow, service, scene)
    };
    memory.flows.store(id, &flow);
    Known::Goes(goes)
}

/// Brings what a flow remembers up to these tables: its next hops are forgotten if any have changed, and its service is looked at if
/// that has. False if its service, which is this one, does not have its backend any more.
fn renew(flow: &mut Flow, service: Option<&Service>, tables: &Tables) -> bool {
    if flow.stamp == tables.stamp() {
        return true;
    }
    if is_newer(tables.hops_stamp, flow.stamp) {
        (flow.forward_hop, flow.reverse_hop) = (None, None);
    }
    let holds = !is_newer(tables.service_changed(flow.service_slot), flow.stamp)
        || service.is_some_and(|service| service.slot == flow.service_slot && still_there(flow, service));
    if holds {
        flow.stamp = tables.stamp();
    }
    holds
}

/// Whether the service still has a flow's backend; if it does, by which tunnel. In mode `tunnel` the backend is its node's to choose, and
/// the flow's own only counts there: here it lives as long as the node has any.
fn still_there(flow: &mut Flow, service: &Service) -> bool {
    let via = match flow.far_end() {
        Some(far_end) => service.via_to(far_end),
        None => service.backend(flow.backend()).map(|backend| backend.via),
    };
    flow.via = via.unwrap_or(0);
    via.is_some()
}

/// The next hop of one direction of a flow: what the flow remembers, or what the tables say and the flow remembers from
/// now on. An error is why there is none.
fn cached_hop(cached: &mut Option<NextHop>, to: Address, scene: &Scene<'_>) -> Result<(PortId, Mac), Lost> {
    if let Some(hop) = *cached {
        return Ok((hop.port(), hop.mac()));
    }
    match scene.tables.hop(to) {
        Hop::To(port, mac) => {
            *cached = Some(NextHop::new(port, mac));
            Ok((port, mac))
        }
        Hop::Unresolved(key) => Err(Lost::Unresolved(key)),
        Hop::Kernel => Err(Lost::Nowhere(Reason::HostNetwork)),
        Hop::Broadcast => Err(Lost::Nowhere(Reason::MartianDestination)),
        Hop::NoRoute => Err(Lost::Nowhere(Reason::NoRoute)),
    }
}

/// Why a packet of a flow has no next hop: a word for it that is smaller than a decision.
enum Lost {
    Unresolved(NeighbourKey),
    Nowhere(Reason),
}

impl From<Lost> for Decision {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Unresolved(key) => Decision::Awaits(key),
            Lost::Nowhere(reason) => dropped(reason),
        }
    }
}

/// Sends a packet of a flow to its backend.
fn to_backend(flow: &mut Flow, service: &Service, scene: &Scene<'_>) -> Decision {
    let remote = service.via(flow.via);
    let towards = remote.map_or(flow.backend().address, |remote| remote.address);
    let (port, mac) = match cached_hop(&mut flow.forward_hop, towards, scene) {
        Ok(hop) => hop,
        Err(lost) => return lost.into(),
    };
    let rewritten = match flow.mode() {
        Mode::Nat => Rewritten { source: Some(flow.source()), destination: Some(flow.backend()), routed: true },
        Mode::Dnat => Rewritten { source: None, destination: Some(flow.backend()), routed: true },
        Mode::Dsr | Mode::Tunnel => Rewritten { routed: true, ..Rewritten::default() },
    };
    match (remote, send(port, mac, scene, rewritten)) {
        (Some(remote), Decision::Ends(Verdict::Forward(port, rewrite))) => {
            wrap::wrap(remote, wrap::entropy(flow.client(), flow.frontend(), flow.protocol()), port, rewrite, scene)
        }
        (_, decision) => decision,
    }
}

/// The first packet of a flow, or one that the table has forgotten.
fn begin(
    frontend: &Frontend,
    service: &Service,
    named: Option<u16>,
    (tuple, vacancy): (&Tuple, Option<Vacancy>),
    ip: &Ip,
    scene: &Scene<'_>,
    memory: &mut Memory,
) -> Decision {
    if !service.admits(frontend.clients, tuple.source.address) {
        return dropped(Reason::SourceNotAllowed);
    }
    let state = match ip.transport {
        Transport::Tcp(tcp) if tcp.opens() => State::Syn,
        Transport::Tcp(tcp) if tcp.flags & tcp_flags::RST != 0 => return dropped(Reason::NoReplyAllowed),
        // In the middle of a connection that nobody here knows.
        Transport::Tcp(tcp) => match service.mid_stream(frontend.mode) {
            MidStream::Reset => return reject(ip, scene, memory),
            MidStream::Drop => return dropped(Reason::MidStream),
            // One segment makes no connection of anything: the next one will, if there is one.
            MidStream::Hash if tcp.flags & tcp_flags::FIN != 0 => State::Closed,
            MidStream::Hash => State::Syn,
        },
        _ => State::Udp,
    };
    // Untracked, the next segment is of no flow; and with `dnat` the answer would leave as it came.
    let untracked =
        matches!(frontend.mode, Mode::Dsr | Mode::Tunnel) && service.mid_stream(frontend.mode) == MidStream::Hash;
    let tracked = match memory.newcomers.welcome(tuple.source.address, tuple.destination, scene.now) {
        Welcome::Come => true,
        Welcome::TooManyOfSource => return dropped(Reason::NewFlowsOfSource),
        // Where no answer comes by here, nothing need be remembered: the same hash finds the same backend.
        Welcome::TooManyOfVip if untracked => false,
        Welcome::TooManyOfVip => return dropped(Reason::NewFlowsOfVip),
    };
    let hash = service.hash(tuple.source, tuple.destination);
    let remembered = service.affinity_ms.and_then(|timeout| {
        let backend = memory.affinities.get(service.id, tuple.source.address, timeout, scene.now)?;
        service.backend(backend).filter(|backend| backend.is_in(frontend.pool))
    });
    // One that drains keeps the connections that it has, wherever their clients go.
    let drains = |backend: &Backend| backend.pools().next().is_none() && !backend.drained;
    let serves = |backend: &&Backend| backend.is_in(frontend.pool) || drains(backend);
    let named = named.and_then(|index| service.backends.get(usize::from(index))).filter(serves);
    memory.by_connection += u32::from(named.is_some());
    let Some(backend) = named.or(remembered).or_else(|| service.pick(frontend.pool, hash)) else {
        return match frontend.when_empty {
            WhenEmpty::Reject => reject(ip, scene, memory),
            WhenEmpty::Drop => dropped(Reason::NoLocalBackend),
        };
    };
    if service.affinity_ms.is_some() {
        memory.affinities.note(service.id, tuple.source.address, backend.endpoint, scene.now);
    }
    let target = service.target(backend, tuple.destination);
    let place = memory.places.get(target.address, scene.tables);
    let from = scene.tables.port(scene.ingress).map(|port| port.role);
    let mode = effective(frontend.mode, tuple.source.address, target.address, place, from);
    let begins = !matches!(ip.transport, Transport::Tcp(tcp) if !tcp.opens());
    if mode != frontend.mode && !begins {
        return reject(ip, scene, memory);
    }
    let mut reply = None;
    let source = if mode == Mode::Nat {
        match snat::source(target, place, tuple, hash, scene, &mut memory.flows) {
            Ok((source, vacancy)) => {
                reply = vacancy;
                source
            }
            Err(reason) => return dropped(reason),
        }
    } else if mode == Mode::Tunnel {
        match service.via(backend.via) {
            Some(remote) => Endpoint { address: remote.address, port: 0 },
            None => return dropped(Reason::NoTunnel),
        }
    } else {
        tuple.source
    };
    let mut flow = Flow::new(tuple, target, source, mode, state, scene.now);
    flow.via = backend.via;
    flow.service_slot = service.slot;
    flow.stamp = scene.tables.stamp();
    flow.from = from.unwrap_or(Role::Uplink);
    if flow.via == 0 {
        flow.forward_hop = place.hop;
    }
    let goes = to_backend(&mut flow, service, scene);
    if !tracked && mode != Mode::Nat {
        memory.over_limit += 1;
    } else if vacancy.and_then(|vacancy| memory.flows.begin(&flow, vacancy, reply, scene.now)).is_some() {
        memory.created += 1;
    } else if !untracked || mode == Mode::Nat {
        return dropped(Reason::FlowTableFull);
    } else {
        memory.untracked += 1;
    }
    goes
}

/// `dnat` needs the way back to pass here. A backend on the same pods' bridge as its client answers it directly, so that
/// flow's source is rewritten too. So is that of a pod that reaches itself through its Service (hairpin), wherever that is
/// balanced: no host takes a packet from its own address off a wire. And what this host itself answers, or asks, goes by its
/// kernel's routes, which lead back here only by a source or towards a destination of levee's.
#[must_use]
pub fn effective_mode(mode: Mode, client: Address, backend: Address, scene: &Scene<'_>) -> Mode {
    let owner = scene.tables.owner(backend);
    let local = scene.tables.is_local_pod(backend, owner);
    let from = scene.tables.port(scene.ingress).map(|port| port.role);
    effective(mode, client, backend, Place { kernel: owner.kernel, local, hop: None }, from)
}

/// The same, with what is known of where the backend is.
#[inline]
fn effective(mode: Mode, client: Address, backend: Address, place: Place, from: Option<Role>) -> Mode {
    let beside = from == Some(Role::Pods) && place.local;
    if place.kernel || from == Some(Role::Host) || mode == Mode::Dnat && (client == backend || beside) {
        Mode::Nat
    } else {
        mode
    }
}

/// A packet from a backend, if a flow knows it.
fn reply(ip: &Ip, scene: &Scene<'_>, memory: &mut Memory) -> Option<Decision> {
    let tuple = ip.tuple()?;
    let (id, Direction::Reverse) = memory.flows.find(&tuple)? else { return None };
    let mut flow = memory.flows.get(id)?;
    if ip.ttl <= 1 {
        return Some(limited(ip, scene, memory, |mac| Reply::TimeExceeded { mac }));
    }
    if let Transport::Tcp(tcp) = ip.transport {
        let service = scene.tables.services.get(flow.service_slot);
        if flow.state == State::Dead || service.is_some_and(|service| service.has_drained(flow.backend())) {
            flow.state = State::Dead;
            memory.flows.store(id, &flow);
            // The client is told at its own next segment; the backend, that nobody is there.
            return Some(reject(ip, scene, memory));
        }
        flow.state = flow.state.after(tcp.flags, Direction::Reverse);
    }
    if flow.state != State::Dead {
        flow.touch(scene.now);
        flow.answered = true;
    }
    // What a backend still says goes to the client, also when no new packet would go to it.
    let service = scene.tables.services.get(flow.service_slot);
    renew(&mut flow, service.map(AsRef::as_ref), scene.tables);
    let goes = to_client(&mut flow, scene);
    memory.flows.store(id, &flow);
    Some(goes)
}

/// Sends a packet of a flow to its client.
fn to_client(flow: &mut Flow, scene: &Scene<'_>) -> Decision {
    let client = flow.client().address;
    let (port, mac) = match cached_hop(&mut flow.reverse_hop, client, scene) {
        Ok(hop) => hop,
        Err(lost) => return lost.into(),
    };
    let destination = (flow.mode() == Mode::Nat).then(|| flow.client());
    send(port, mac, scene, Rewritten { source: Some(flow.frontend()), destination, routed: true })
}
