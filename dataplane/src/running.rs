//! A running dataplane, as its control socket shows it.
//!
//! Most of it is read from what workers, kernel and director leave to be read, so that a look never waits for a change; only a
//! program, and the programming, go through the director's queue. Flows are asked of their workers, a page at a time, between two
//! batches.

mod tunnels;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use af_xdp::RingSizes;
use af_xdp::schedule::Schedule;
use crossbeam_channel::Sender;
use levee_api::explain::{Explanation, Packet, Question};
use levee_api::net::{Family, PortRange, Protocol, Role};
use levee_api::program::{Applied, Delta, Pool, Program, ServiceKey, Side};
use levee_api::report::{
    BackendEntry, Counters, Drain, Drop, Flow, FlowFilter, Flushed, Health, Neighbour, Port, Queue, Rings, Scheduling,
    Status, TunnelEntry, VipEntry, WorkerStatus,
};
use levee_api::term::{Term, TermStatus};
use tokio::sync::oneshot;

use crate::address::Address;
use crate::config::Take;
use crate::counters::{self, Counter};
use crate::director::{Answer, Message, Shares, boot_millis};
use crate::events::Events;
use crate::explain;
use crate::flows::{self, Millis, Timeouts};
use crate::intake::{FlowCursor, FlowPage, Measures, Pending, Programming, Refusal, Subject, limits};
use crate::port::steer;
use crate::port::xdp::Traffic;
use crate::reason::Reason;
use crate::tables::master::Draining;
use crate::tables::ranges::{Ranges, RangesKey, has_ports};
use crate::tables::service::{Frontend, FrontendKey};
use crate::tables::{Hop, Size, Tables, is_newer};
use crate::verdict::{Endpoint, PortId};
use crate::ways::Ways;
use crate::worker::{Command, FlowsQuery, FlushQuery, Handle};

/// How long a worker may take to answer: it does so between two batches, so that anything near this means that it hangs.
const WORKER_TIME: Duration = Duration::from_secs(2);

/// What does not change about a port.
#[derive(Debug)]
pub struct PortFacts {
    /// Interface.
    pub interface: String,
    /// Its kernel index.
    pub ifindex: u32,
    /// What it faces.
    pub role: Role,
    /// Which frames are taken.
    pub take: Take,
    /// `zero-copy` or `copy`, as granted.
    pub mode: &'static str,
    /// `native` or `skb`, as attached.
    pub attached: &'static str,
    /// Slots of its queues' rings, if they have any.
    pub rings: Option<RingSizes>,
    /// Its queues.
    pub queues: Vec<QueueFacts>,
    /// What its XDP program counts, if it has one.
    pub steering: Option<steer::Observer>,
}

/// What does not change about a worker.
#[derive(Debug, Clone)]
pub struct WorkerFacts {
    /// The core it is pinned to.
    pub core: usize,
    /// The kernel's number of its thread (gettid(2)), which the thread itself puts here; 0 until then.
    pub thread: Arc<AtomicI32>,
}

impl WorkerFacts {
    /// How the kernel schedules it.
    fn scheduling(&self) -> Option<Scheduling> {
        let thread = self.thread.load(Ordering::Relaxed);
        // 0 would be the thread that asks.
        let schedule = (thread != 0).then(|| Schedule::of(thread))?.ok()?;
        Some(match schedule {
            Some(Schedule::Fair { nice, slice }) => {
                let slice = slice.map(|slice| u64::try_from(slice.as_micros()).unwrap_or(u64::MAX));
                Scheduling::Fair { nice, slice_microseconds: slice }
            }
            Some(Schedule::Fifo { priority }) => Scheduling::Fifo { priority },
            Some(Schedule::RoundRobin { priority }) => Scheduling::RoundRobin { priority },
            None => Scheduling::Other,
        })
    }
}

/// What does not change about a queue, and where its counts are.
#[derive(Debug)]
pub struct QueueFacts {
    /// Queue of the interface.
    pub queue: u32,
    /// The worker that serves it.
    pub worker: usize,
    /// The kernel's counts, of an AF_XDP socket.
    pub observer: Option<af_xdp::Observer>,
    /// Levee's.
    pub traffic: Arc<Traffic>,
}

/// See the module's documentation.
pub struct Running {
    /// The director's queue.
    pub inbox: Sender<Message>,
    /// The workers, by index.
    pub handles: Vec<Handle>,
    /// What does not change about them, by index.
    pub workers: Vec<WorkerFacts>,
    /// What the director lets be read.
    pub shares: Arc<Shares>,
    /// Ports, by [`PortId`].
    pub ports: Vec<PortFacts>,
    /// What happened.
    pub events: Events,
    /// When the dataplane started.
    pub started: Instant,
    /// What the ways to tunnels' far ends carry.
    pub ways: Arc<Ways>,
    /// What flows age by.
    pub timeouts: Timeouts,
    /// What became of programs and deltas. Each change is one call, so a panic elsewhere leaves nothing half-done.
    pub programming: Mutex<Programming>,
}

impl Running {
    fn tell(&self, message: Message) -> Result<(), Refusal> {
        let busy =
            |_| Refusal::Unavailable("the dataplane is busy with other changes, or stopping; try again".to_owned());
        self.inbox.try_send(message).map_err(busy)
    }

    async fn program(&self, whole: bool, message: impl FnOnce(Answer) -> Message) -> Result<Applied, Refusal> {
        let begun = Instant::now();
        let (answer, answered) = oneshot::channel();
        let stopping = |_| Err(Refusal::Unavailable("the dataplane is stopping".to_owned()));
        let outcome = match self.tell(message(answer)) {
            Ok(()) => answered.await.unwrap_or_else(stopping),
            Err(refusal) => Err(refusal),
        };
        let mut programming = self.programming.lock().unwrap_or_else(PoisonError::into_inner);
        programming.note(whole, &outcome, begun.elapsed());
        outcome
    }

    /// Why this dataplane should announce nothing: it could not serve it.
    fn unfit(&self) -> Vec<String> {
        let mut problems = self.shares.problems();
        if self.shares.running() == 0 {
            problems.push("nothing was programmed yet".to_owned());
        }
        let dead = self.handles.iter().filter(|handle| !self.shares.is_alive(handle.worker));
        problems.extend(dead.map(|handle| format!("worker {} does not turn", handle.worker)));
        let mut uplinks = self.ports.iter().zip(0..).filter(|(port, _)| port.role == Role::Uplink);
        if !uplinks.any(|(_, id)| self.shares.link_state(PortId(id)).up) {
            problems.push("no uplink is up".to_owned());
        }
        problems
    }

    /// A page of a worker's flows, and its time.
    async fn page(&self, worker: usize, cursor: u32) -> Result<crate::worker::FlowsAnswer, String> {
        let handle = self.handles.get(worker).cloned().ok_or_else(|| format!("there is no worker {worker}"))?;
        let (answer, answered) = crossbeam_channel::bounded(1);
        let looks = limits::FLOW_PAGE;
        let query = FlowsQuery { cursor, looks, flows: Vec::with_capacity(looks), answer };
        handle.ask(Command::Flows(query)).map_err(|_| busy(worker))?;
        ask_elsewhere(worker, move || answered.recv_timeout(WORKER_TIME).ok()).await
    }

    async fn flush_worker(&self, worker: usize, filter: &FlowFilter) -> Result<u64, String> {
        let handle = self.handles.get(worker).cloned().ok_or_else(|| format!("there is no worker {worker}"))?;
        let mut which: Box<dyn Fn(&flows::Flow) -> bool + Send> = Box::new(raw_filter(filter, &self.shares.tables()));
        let (mut cursor, mut flushed) = (0, 0);
        loop {
            let (answer, answered) = crossbeam_channel::bounded(1);
            let query = FlushQuery { cursor, looks: limits::FLUSH_PAGE, which, answer };
            handle.ask(Command::Flush(query)).map_err(|_| busy(worker))?;
            let page = ask_elsewhere(worker, move || answered.recv_timeout(WORKER_TIME).ok()).await?;
            flushed += page.flushed;
            which = page.which;
            match page.next {
                Some(next) => cursor = next,
                None => return Ok(flushed),
            }
        }
    }

    fn worker_status(&self, handle: &Handle) -> WorkerStatus {
        let counters = &handle.counters;
        let facts = self.workers.get(handle.worker);
        WorkerStatus {
            worker: handle.worker,
            core: facts.map(|facts| facts.core).unwrap_or_default(),
            scheduling: facts.and_then(WorkerFacts::scheduling),
            // One that sleeps has not looked yet, and will before its next frame.
            generation: handle.pulse.generation.load(Ordering::Acquire).max(self.shares.running()),
            flows: handle.pulse.flows.load(Ordering::Relaxed).into(),
            flow_capacity: handle.pulse.flow_capacity.load(Ordering::Relaxed).into(),
            alive: self.shares.is_alive(handle.worker),
            received: counters.get(Counter::Rx),
            forwarded: counters.get(Counter::Forwarded),
            dropped: counters.dropped_total(),
            handed_over: counters.get(Counter::HandedOver),
            taken_over: counters.get(Counter::TakenOver),
        }
    }

    /// The packet's flow, if a worker has one: the packet may belong to either direction of it.
    async fn flow_of(&self, packet: &Packet) -> Option<flows::Flow> {
        let protocol = packet.carries.number(packet.source.is_ipv4());
        let (source, destination) = (endpoint(packet.source), endpoint(packet.destination));
        for worker in 0..self.handles.len() {
            let mut cursor = 0;
            loop {
                let page = self.page(worker, cursor).await.ok()?;
                let found = page.flows.iter().find(|flow| {
                    flow.protocol() == protocol && flow.client() == source && flow.frontend() == destination
                });
                if let Some(flow) = found {
                    return Some(*flow);
                }
                match page.next {
                    Some(next) => cursor = next,
                    None => break,
                }
            }
        }
        None
    }
}

fn busy(worker: usize) -> String {
    format!("worker {worker} has too much to answer; try again")
}

/// Waits for a worker on a thread where waiting is allowed.
async fn ask_elsewhere<T: Send + 'static>(
    worker: usize,
    wait: impl FnOnce() -> Option<T> + Send + 'static,
) -> Result<T, String> {
    let answer = tokio::task::spawn_blocking(wait).await.ok().flatten();
    answer
        .ok_or_else(|| format!("worker {worker} did not answer within {} s; see GET /v1/health", WORKER_TIME.as_secs()))
}

impl Subject for Running {
    fn status(&self) -> Status {
        let tables = self.shares.tables();
        let workers: Vec<WorkerStatus> = self.handles.iter().map(|handle| self.worker_status(handle)).collect();
        let Size { services, vips, backends } = tables.size;
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: self.started.elapsed().as_secs(),
            generation: self.shares.running(),
            health: self.health(),
            services,
            vips,
            backends,
            flows: workers.iter().map(|worker| worker.flows).sum(),
            flow_capacity: workers.iter().map(|worker| worker.flow_capacity).sum(),
            workers,
        }
    }

    fn health(&self) -> Health {
        let mut problems = self.shares.problems();
        for handle in self.handles.iter().filter(|handle| !self.shares.is_alive(handle.worker)) {
            problems.push(format!("worker {} does not turn", handle.worker));
        }
        for (port, id) in self.ports.iter().zip(0..) {
            if !self.shares.link_state(PortId(id)).up {
                problems.push(format!("{} is down", port.interface));
            }
        }
        Health { healthy: problems.is_empty(), problems }
    }

    fn program(&self) -> Pending<'_, Result<Arc<Program>, String>> {
        Box::pin(async {
            let (answer, answered) = oneshot::channel();
            if self.inbox.try_send(Message::Show(answer)).is_err() {
                return Err("the dataplane is busy with other changes, or stopping; try again".to_owned());
            }
            answered.await.map_err(|_| "the dataplane is stopping".to_owned())
        })
    }

    fn counters(&self) -> Counters {
        counters::report(self.handles.iter().map(|handle| handle.counters.as_ref()))
    }

    fn drops(&self) -> Vec<Drop> {
        let frames = |reason| self.handles.iter().map(|handle| handle.counters.dropped(reason)).sum();
        Reason::ALL
            .iter()
            .map(|reason| Drop {
                reason: reason.name().to_owned(),
                frames: frames(*reason),
                meaning: reason.meaning().to_owned(),
            })
            .collect()
    }

    fn vips(&self) -> Vec<VipEntry> {
        vip_entries(&self.shares.tables())
    }

    fn backends(&self) -> Vec<BackendEntry> {
        backend_entries(&self.shares.tables())
    }

    fn drains(&self) -> Vec<Drain> {
        let now = self.started.elapsed();
        let drain = |draining: Draining| Drain {
            service: draining.service,
            address: SocketAddr::new(draining.address, draining.port),
            draining_seconds: now.saturating_sub(draining.since).as_secs(),
            // Rounded up: with none left it is over.
            left_seconds: draining.until.map(|until| until.saturating_sub(now).as_millis().div_ceil(1000) as u64),
            flows: 0,
        };
        self.shares.draining().into_iter().map(drain).collect()
    }

    fn tunnels(&self) -> Vec<TunnelEntry> {
        // The workers' clock, which began when the dataplane did.
        tunnels::entries(&self.shares.tables(), &self.ways, self.started.elapsed().as_millis() as Millis)
    }

    fn neighbours(&self) -> Vec<Neighbour> {
        let tables = self.shares.tables();
        let name = |port: PortId| tables.port(port).map_or_else(String::new, |port| port.name.to_string());
        let kernel = self.shares.neighbours().into_iter().map(|((port, address), (mac, state))| {
            ((name(port), address), Neighbour { address, mac, port: name(port), state: state.to_owned() })
        });
        let pods = tables.port_with(Role::Pods);
        let programmed = tables.owners.iter().filter(|(_, owner)| owner.pod && owner.mac.is_station());
        let programmed = programmed.filter_map(|(address, owner)| {
            let (address, port) = (IpAddr::from(*address), name(pods?));
            let state = "programmed".to_owned();
            Some(((port.clone(), address), Neighbour { address, mac: Some(owner.mac), port, state }))
        });
        // What the program says is what is used.
        kernel.chain(programmed).collect::<BTreeMap<_, _>>().into_values().collect()
    }

    fn ports(&self) -> Vec<Port> {
        let ports = self.ports.iter().zip(0..);
        ports
            .map(|(port, id)| {
                let link = self.shares.link_state(PortId(id));
                Port {
                    interface: port.interface.clone(),
                    ifindex: port.ifindex,
                    role: port.role,
                    mac: link.mac,
                    up: link.up,
                    take: port.take.to_string(),
                    mode: port.mode.to_owned(),
                    attached: port.attached.to_owned(),
                    rings: port.rings.map(|RingSizes { fill, rx, tx, completion }| Rings {
                        receive: rx,
                        fill,
                        transmit: tx,
                        completion,
                    }),
                    queues: port.queues.iter().map(queue).collect(),
                }
            })
            .collect()
    }

    fn explain(&self, question: Question) -> Pending<'_, Result<Explanation, String>> {
        Box::pin(async move {
            let tables = self.shares.tables();
            let mut explanation = explain::explain(&tables, &question)?;
            if explanation.service.is_some()
                && let Some(flow) = self.flow_of(&question.packet.parse()?).await
            {
                explain::with_flow(&mut explanation, &flow);
            }
            Ok(explanation)
        })
    }

    fn load(&self, program: Program) -> Pending<'_, Result<Applied, Refusal>> {
        Box::pin(self.program(true, |answer| Message::Load(program, answer)))
    }

    fn amend(&self, delta: Delta) -> Pending<'_, Result<Applied, Refusal>> {
        Box::pin(self.program(false, |answer| Message::Amend(delta, answer)))
    }

    fn term(&self) -> TermStatus {
        let (needed, announced, facts) = self.shares.announcing();
        let left_ms = facts.holder.is_some().then(|| facts.until.saturating_sub(boot_millis()));
        let (holder, lapses, gained, lost) = (facts.holder, facts.lapses, facts.gained, facts.lost);
        TermStatus { needed, holder, left_ms, announced, lapses, gained, lost, problems: self.unfit() }
    }

    fn announce(&self, term: Term) -> Pending<'_, Result<(), Refusal>> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            self.tell(Message::Announce(term, answer))?;
            let stopping = |_| Err(Refusal::Unavailable("the dataplane is stopping".to_owned()));
            answered.await.unwrap_or_else(stopping)
        })
    }

    fn flows(&self, filter: FlowFilter, cursor: Option<FlowCursor>) -> Pending<'_, Result<FlowPage, String>> {
        Box::pin(async move {
            let FlowCursor { worker, position } = cursor.unwrap_or(FlowCursor { worker: 0, position: 0 });
            let page = self.page(worker, u32::try_from(position).unwrap_or(u32::MAX)).await?;
            let tables = self.shares.tables();
            let wanted = raw_filter(&filter, &tables);
            let flows = page.flows.iter().filter(|flow| wanted(flow));
            let flows = flows.filter_map(|flow| report_flow(flow, worker, &tables, page.now, &self.timeouts)).collect();
            let next = match page.next {
                Some(next) => Some(FlowCursor { worker, position: next.into() }),
                None => {
                    Some(FlowCursor { worker: worker + 1, position: 0 }).filter(|next| next.worker < self.handles.len())
                }
            };
            Ok(FlowPage { flows, next })
        })
    }

    fn flush(&self, filter: FlowFilter) -> Pending<'_, Result<Flushed, String>> {
        Box::pin(async move {
            let mut flows = 0;
            for worker in 0..self.handles.len() {
                flows += self.flush_worker(worker, &filter).await?;
            }
            Ok(Flushed { flows })
        })
    }

    fn events(&self) -> &Events {
        &self.events
    }

    fn measures(&self) -> Measures {
        let steered = self.ports.iter().filter_map(|port| {
            let counts = port.steering.as_ref()?.counts().ok()?;
            Some((port.interface.clone(), counts.iter().map(|(class, frames)| (class.name(), frames)).collect()))
        });
        let programming = *self.programming.lock().unwrap_or_else(PoisonError::into_inner);
        Measures { steered: steered.collect(), programming }
    }
}

fn queue(queue: &QueueFacts) -> Queue {
    // A socket that is open has statistics.
    let kernel = queue.observer.as_ref().and_then(|observer| observer.statistics().ok()).unwrap_or_default();
    Queue {
        queue: queue.queue,
        worker: queue.worker,
        rx_frames: queue.traffic.received.load(Ordering::Relaxed),
        tx_frames: queue.traffic.sent.load(Ordering::Relaxed),
        rx_dropped: kernel.rx_dropped,
        rx_ring_full: kernel.rx_ring_full,
        fill_ring_empty: kernel.rx_fill_ring_empty,
        invalid_descriptors: kernel.rx_invalid + kernel.tx_invalid,
    }
}

fn vip_entries(tables: &Tables) -> Vec<VipEntry> {
    let one = |(key, frontend): (&FrontendKey, &Frontend)| {
        let ports = PortRange { first: key.port, last: key.port };
        (key.address, key.from, Some((key.protocol, ports)), *frontend)
    };
    let several = |(key, ranges): (&RangesKey, &Arc<Ranges>)| {
        let frontends: Vec<_> = ranges.frontends().map(|(at, frontend)| (at, *frontend)).collect();
        let key = *key;
        frontends.into_iter().map(move |(at, frontend)| (key.address, key.from, at, frontend))
    };
    let all = tables.frontends.iter().map(one).chain(tables.ranges.iter().flat_map(several));
    let mut sides: BTreeMap<_, Vec<VipEntry>> = BTreeMap::new();
    for (address, from, at, frontend) in all {
        let Some(service) = tables.services.get(frontend.service) else { continue };
        let entry = VipEntry {
            address: address.into(),
            port: at.map_or(0, |(_, ports)| ports.first),
            last_port: at.map(|(_, ports)| ports).filter(|ports| ports.count() > 1).map(|ports| ports.last),
            protocol: service.protocol,
            from: match from {
                Role::Uplink => Side::Uplink,
                Role::Pods | Role::Host => Side::Pods,
                Role::Tunnel => Side::Tunnel,
            },
            service: service.name.to_string(),
            mode: frontend.mode,
            announced: tables.owner(address).announce,
            candidates: service.backends.iter().filter(|backend| backend.is_in(frontend.pool)).count(),
            draining: service
                .backends
                .iter()
                .filter(|backend| backend.pools().next().is_none() && !backend.drained)
                .count(),
        };
        sides.entry((entry.address, entry.port, entry.last_port, entry.protocol)).or_default().push(entry);
    }
    // A frontend for both sides stands in the tables once for each; where they are alike, they are one here.
    let merged = sides.into_values().flat_map(|mut entries| {
        entries.sort_by_key(|entry| entry.from);
        match entries.as_slice() {
            [one, other] if (VipEntry { from: other.from, ..one.clone() }) == *other => {
                vec![VipEntry { from: Side::Any, ..one.clone() }]
            }
            _ => entries,
        }
    });
    merged.collect()
}

fn backend_entries(tables: &Tables) -> Vec<BackendEntry> {
    let mut entries = Vec::new();
    for (_, service) in tables.services.iter() {
        for backend in &service.backends {
            let pools: Vec<Pool> = backend.pools().collect();
            let next_hop = match tables.hop(backend.endpoint.address) {
                Hop::To(_, mac) => Some(mac),
                Hop::Unresolved(_) | Hop::Kernel | Hop::Broadcast | Hop::NoRoute => None,
            };
            entries.push(BackendEntry {
                service: ServiceKey {
                    name: service.name.to_string(),
                    protocol: service.protocol,
                    family: if backend.endpoint.address.is_v4() { Family::Ipv4 } else { Family::Ipv6 },
                },
                address: socket_address(backend.endpoint),
                state: match (pools.is_empty(), backend.drained) {
                    (false, _) => "active",
                    (true, false) => "draining",
                    (true, true) => "drained",
                }
                .to_owned(),
                pools,
                next_hop,
            });
        }
    }
    entries.sort_by(|a, b| (&a.service, a.address).cmp(&(&b.service, b.address)));
    entries
}

fn socket_address(endpoint: Endpoint) -> SocketAddr {
    SocketAddr::new(endpoint.address.into(), endpoint.port)
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint { address: address.ip().into(), port: address.port() }
}

/// A filter on the raw flow, without a look at names or an allocation: a worker runs it.
fn raw_filter(filter: &FlowFilter, tables: &Tables) -> impl Fn(&flows::Flow) -> bool + Send + use<> {
    let client = filter.client.map(Address::from);
    let frontend = filter.frontend.map(Address::from);
    let backend = filter.backend.map(Address::from);
    let (port, protocol) = (filter.port, filter.protocol.map(Protocol::number));
    // One name can be several services: of two protocols, or two families.
    let services: Option<Vec<u32>> = filter.service.as_ref().map(|name| {
        tables.services.iter().filter(|(_, service)| *service.name == **name).map(|(slot, _)| slot).collect()
    });
    move |flow| {
        client.is_none_or(|client| flow.client().address == client)
            && frontend.is_none_or(|frontend| flow.frontend().address == frontend)
            && backend.is_none_or(|backend| flow.backend().address == backend)
            && port.is_none_or(|port| flow.frontend().port == port || flow.backend().port == port)
            && protocol.is_none_or(|protocol| flow.protocol() == protocol)
            && services.as_ref().is_none_or(|services| services.contains(&flow.service_slot))
    }
}

fn report_flow(flow: &flows::Flow, worker: usize, tables: &Tables, now: Millis, timeouts: &Timeouts) -> Option<Flow> {
    let idle = now.wrapping_sub(flow.last());
    // Another service may have its slot by now.
    let service = tables.services.get(flow.service_slot).filter(|service| {
        !is_newer(tables.service_changed(flow.service_slot), flow.stamp)
            || match flow.far_end() {
                Some(far_end) => service.via_to(far_end).is_some(),
                None => service.backend(flow.backend()).is_some(),
            }
    });
    Some(Flow {
        worker,
        protocol: Protocol::from_number(flow.protocol()).unwrap_or(Protocol::Any),
        number: Some(flow.protocol()).filter(|number| !has_ports(*number)),
        client: socket_address(flow.client()),
        frontend: socket_address(flow.frontend()),
        backend: socket_address(flow.backend()),
        snat: Some(flow.source()).filter(|source| *source != flow.client()).map(socket_address),
        // A service that is gone leaves flows behind until they end.
        service: service.map_or_else(String::new, |service| service.name.to_string()),
        mode: flow.mode(),
        state: flow.state.name().to_owned(),
        idle_seconds: u64::from(idle / 1000),
        expires_seconds: u64::from(timeouts.of(flow.state).saturating_sub(idle) / 1000),
    })
}
