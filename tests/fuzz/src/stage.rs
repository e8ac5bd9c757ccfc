//! The real thing over memory: one UMEM, the workers with their ports, the director with its tables. Takes steps, and has
//! the judge look after each.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use af_xdp::{Frame, HugePages, Umem, UmemConfig};
use levee_api::net::{Family, Mac};
use levee_api::program::{Delta, Program, Side};
use levee_dataplane::counters::{Counter, Counters};
use levee_dataplane::decide::{Memory, Places};
use levee_dataplane::flows::affinity::Affinities;
use levee_dataplane::flows::{Flow, Flows, Millis, Timeouts};
use levee_dataplane::hash::MAGLEV_KEY;
use levee_dataplane::limits::{Errors, Limit, Newcomers, Replies};
use levee_dataplane::mem::publication::{self, Publisher};
use levee_dataplane::port::memory::MemoryPort;
use levee_dataplane::reason::Reason;
use levee_dataplane::tables::Tables;
use levee_dataplane::tables::master::Master;
use levee_dataplane::verdict::PortId;
use levee_dataplane::ways::Ways;
use levee_dataplane::worker::{Command, FlushQuery, Handle, Handover, Idle, Noticed, Notices, Parts, Shared, Worker};

use crate::cast;
use crate::frames::Tongue;
use crate::judge::{Judge, Totals};
use crate::script::{Layout, Scene, Step};

/// Frames for each worker: enough for its fill rings, and for a storm of 64 on top of all that can wait.
const FRAMES: u32 = 448;
/// And for those of one port more.
const HOST_FRAMES: u32 = 64;
/// Sent frames that can still be answered.
const REMEMBERED: usize = 16;
/// Rounds after which workers that still find something to do are sending frames round in a ring.
const ROUNDS: usize = 32;

/// A queue of a port.
struct Queue {
    worker: usize,
    /// Its place among the worker's queues.
    lane: usize,
    port: PortId,
}

/// See the module's documentation.
pub struct Stage {
    umem: Arc<Umem>,
    shared: Shared,
    workers: Vec<(Worker<MemoryPort>, Handle)>,
    queues: Vec<Queue>,
    master: Master,
    /// What services and VIPs come back as.
    first: Program,
    /// Where services of the family are that everybody speaks.
    places: Vec<usize>,
    /// What the director has.
    program: Program,
    publisher: Publisher<Tables>,
    notices: Noticed,
    now: Millis,
    tongue: Tongue,
    tunnel: bool,
    sent: VecDeque<(PortId, Vec<u8>)>,
    judge: Judge,
}

impl Stage {
    /// Sets the scene.
    ///
    /// # Panics
    /// Out of memory.
    #[must_use]
    pub fn new(scene: &Scene) -> Self {
        let workers = scene.workers as u32;
        let each = FRAMES + if scene.host { HOST_FRAMES } else { 0 };
        let config = UmemConfig { frames: each * workers, huge_pages: HugePages::No, ..UmemConfig::default() };
        let (umem, mut all) = Umem::new(config).expect("memory");
        let shared = Shared::new(scene.workers, &umem).expect("descriptors");
        let mut handovers = Handover::between(scene.workers, &umem).into_iter();
        let master = cast::director(scene);
        let (publisher, readers) = publication::channel(master.snapshot(), scene.workers);
        let (notice, notices) = Notices::new();
        let has = |worker: usize, port: PortId| match scene.layout {
            Layout::Every => true,
            Layout::Apart => worker == if port == cast::UPLINK { 0 } else { scene.workers - 1 },
            Layout::First => worker == 0,
        };
        let ids: Vec<_> = [cast::UPLINK, cast::INNER, cast::HOST][..cast::ports(scene).len()].into();
        let ways = Arc::new(Ways::new(MAGLEV_KEY));
        let (mut stage_workers, mut queues) = (Vec::new(), Vec::new());
        for (worker, tables) in readers.into_iter().enumerate() {
            let mut lanes = Vec::new();
            for (id, port) in ids.iter().copied().zip(cast::ports(scene)) {
                if has(worker, id) {
                    queues.push(Queue { worker, lane: lanes.len(), port: id });
                    lanes.push((id, MemoryPort::new(&umem, scene.ring).passes(port.passes)));
                }
            }
            let waker = levee_dataplane::worker::Waker::new().expect("descriptors");
            stage_workers.push(Worker::new(Parts {
                worker,
                lanes,
                senders: ids.iter().map(|port| (0..scene.workers).find(|worker| has(*worker, *port))).collect(),
                pool: all.split(each as usize),
                memory: Memory {
                    flows: Flows::new(scene.flows, MAGLEV_KEY, Timeouts::default()).expect("memory"),
                    affinities: Affinities::new(8, MAGLEV_KEY).expect("memory"),
                    arp: Limit::new(scene.rate, MAGLEV_KEY),
                    replies: Replies::new(scene.rate, MAGLEV_KEY),
                    errors: Errors::new(scene.rate, MAGLEV_KEY),
                    newcomers: Newcomers::default(),
                    places: Places::default(),
                    ways: Arc::clone(&ways),
                    created: 0,
                    untracked: 0,
                    over_limit: 0,
                    by_connection: 0,
                },
                tables,
                shared: shared.clone(),
                handover: handovers.next().expect("one for each worker"),
                notices: notice.clone(),
                idle: Idle::spin(waker),
                epoch: Instant::now(),
                key: MAGLEV_KEY,
            }));
        }
        let first = master.program();
        let mut stage = Stage {
            judge: Judge::new(master.tables()),
            umem,
            shared,
            workers: stage_workers,
            queues,
            places: places(&first, scene.six),
            program: first.clone(),
            first,
            master,
            publisher,
            notices,
            now: scene.now,
            tongue: Tongue { six: scene.six, crossed: scene.crossed },
            tunnel: scene.tunnel.is_some(),
            sent: VecDeque::with_capacity(REMEMBERED),
        };
        // Fills the fill rings.
        stage.run();
        stage
    }

    /// Number of queues.
    #[must_use]
    pub fn queues(&self) -> usize {
        self.queues.len()
    }

    /// Whether everybody speaks IPv6.
    #[must_use]
    pub fn six(&self) -> bool {
        self.tongue.six
    }

    /// What everybody speaks.
    #[must_use]
    pub fn tongue(&self) -> Tongue {
        self.tongue
    }

    /// The place of a service, or of its twin: those come behind the seven others. Behind all of them are the two for what is
    /// unwrapped, twins first.
    #[must_use]
    pub fn service(&self, index: usize) -> usize {
        match (index, self.tongue.six) {
            (0..7, six) => index + if six { 7 } else { 0 },
            (_, six) => index + if six { 7 } else { 9 },
        }
    }

    /// The places of all services of the family that everybody speaks.
    #[must_use]
    pub fn places(&self) -> &[usize] {
        &self.places
    }

    /// An address, or its twin.
    #[must_use]
    pub fn of_family(&self, address: std::net::Ipv4Addr) -> std::net::IpAddr {
        if self.tongue.six { cast::twin(address).into() } else { address.into() }
    }

    /// The MAC of a queue's port.
    #[must_use]
    pub fn mac(&self, queue: usize) -> Mac {
        self.queues.get(queue).map_or(Mac::ZERO, |queue| self.port_mac(queue.port))
    }

    /// The MAC of a port, as the tables have it.
    #[must_use]
    pub fn port_mac(&self, port: PortId) -> Mac {
        self.master.tables().port(port).map_or(Mac::ZERO, |port| port.mac)
    }

    /// One of the last frames sent, and where.
    #[must_use]
    pub fn sent(&self, index: usize) -> Option<(PortId, &[u8])> {
        let index = index.checked_rem(self.sent.len())?;
        self.sent.get(index).map(|(port, frame)| (*port, frame.as_slice()))
    }

    /// A queue of a port, one of several.
    #[must_use]
    pub fn queue_of(&self, port: PortId, index: usize) -> usize {
        let queues: Vec<_> = (0..self.queues.len()).filter(|queue| self.queues[*queue].port == port).collect();
        index.checked_rem(queues.len()).map_or(0, |index| queues[index])
    }

    /// Does what the step says, and has the outcome judged.
    ///
    /// # Panics
    /// If the judge finds something.
    pub fn take(&mut self, step: Step) {
        match step {
            Step::Arrive { queue, frame, copies, run } => {
                for _ in 0..copies {
                    self.arrive(queue, &frame);
                }
                if !run {
                    return;
                }
            }
            Step::Turn(worker) => {
                self.turn(worker);
                return;
            }
            Step::Wait(time) => self.now = self.now.wrapping_add(time),
            Step::Room(room) => {
                for queue in &self.queues {
                    if let Some(port) = self.workers[queue.worker].0.port_mut(queue.lane) {
                        port.tx_room = room;
                    }
                }
            }
            Step::Flush(protocol) => self.flush(protocol),
            Step::Inject(port, frame) => {
                self.judge.injected(&frame, self.master.tables().port(port));
                let handle = &self.workers[0].1;
                // Too many wait already: as good as not asked.
                let _ = handle.ask(Command::Inject(port, frame.into()));
            }
            change => self.change(change),
        }
        self.run();
    }

    fn arrive(&mut self, queue: usize, frame: &[u8]) {
        let Some(Queue { worker, lane, .. }) = self.queues.get(queue) else { return };
        if self.workers[*worker].0.port_mut(*lane).is_some_and(|port| port.deliver(frame)) {
            let flows = self.workers.iter().map(|(worker, _)| &worker.memory().flows);
            self.judge.received(frame, self.master.tables(), flows);
        }
    }

    /// Changes the tables as the control socket or the kernel would.
    fn change(&mut self, step: Step) {
        let mut program = self.master.program();
        match step {
            Step::Backend { service, backend, pools } => {
                if let Some(service) = program.services.get_mut(service) {
                    let mut template = cast::backend(service.family, backend, pools.as_deref().unwrap_or_default());
                    if service.is_wide() {
                        template.port = 0;
                    }
                    if self.tunnel && service.frontends.iter().all(|frontend| frontend.from != Side::Tunnel) {
                        template.via = Some(cast::via(template.address, self.tongue.crossed));
                    }
                    service.backends.retain(|other| (other.address, other.port) != (template.address, template.port));
                    service.backends.extend(pools.map(|_| template));
                }
            }
            Step::Service(service) => {
                if let Some(service) = self.first.services.get(service) {
                    let key = service.key();
                    let before = program.services.len();
                    program.services.retain(|other| other.key() != key);
                    if program.services.len() == before {
                        program.services.push(service.clone());
                    }
                }
            }
            Step::Reach(service, mode) => {
                if let Some(service) = program.services.get_mut(service) {
                    service.frontends.iter_mut().for_each(|frontend| frontend.mode = mode);
                }
            }
            Step::Range(service, last) => {
                if let Some(service) = program.services.get_mut(service) {
                    let ranges = service.frontends.iter_mut().filter(|frontend| frontend.last_port.is_some());
                    ranges.for_each(|frontend| frontend.last_port = Some(last));
                }
            }
            Step::Quic(service, configs) => {
                if let Some(service) = program.services.get_mut(service) {
                    service.quic = configs;
                }
            }
            Step::MidStream(service, policy) => {
                if let Some(service) = program.services.get_mut(service) {
                    service.flows.mid_stream = policy;
                }
            }
            Step::Vip(vip) => {
                if let Some(vip) = self.first.vips.get(vip) {
                    let before = program.vips.len();
                    program.vips.retain(|other| other.address != vip.address);
                    if program.vips.len() == before {
                        program.vips.push(vip.clone());
                    }
                }
            }
            Step::Pods => {
                program.local.pods = if program.local.pods.is_empty() { cast::pods() } else { Vec::new() };
            }
            Step::Neighbour(port, address, mac) => {
                self.master.set_neighbour(port, address, mac);
            }
            Step::Kernel(node) => {
                let both = [cast::NODE.into(), cast::twin(cast::NODE).into()];
                self.master.set_kernel_addresses(both.into_iter().filter(|_| node));
            }
            Step::Route(default) => {
                self.master.set_routes(cast::routes(default));
            }
            Step::PortMac(port, mac) => {
                self.master.set_port_mac(port, mac);
                self.judge.shows(port, mac);
            }
            _ => {}
        }
        self.program(program);
    }

    /// Loads the program, whole or as a change; both ways must lead to the same.
    fn program(&mut self, program: Program) {
        let old = self.master.program();
        let mut new = program.canonical();
        if new != old {
            new.generation = old.generation + 1;
            let taken = if new.generation.is_multiple_of(2) {
                self.master.amend(Delta::between(&old, &new))
            } else {
                self.master.load(new.clone())
            };
            if taken.is_ok() {
                assert_eq!(self.master.program(), new, "the program that was taken is not the one that was given");
            } else {
                assert_eq!(self.master.program(), old, "a program that was refused has left something behind");
            }
        }
        self.program = self.master.program();
        self.publisher.publish(self.master.snapshot());
        let flows = self.workers.iter().map(|(worker, _)| &worker.memory().flows);
        self.judge.changed(self.master.tables(), flows);
    }

    fn flush(&mut self, protocol: Option<u8>) {
        // What has come must not begin a flow behind the flush, by way of another worker.
        self.run();
        let (answer, answers) = crossbeam_channel::bounded(self.workers.len());
        for (_, handle) in &self.workers {
            let which = Box::new(move |flow: &Flow| protocol.is_none_or(|protocol| flow.protocol() == protocol));
            let query = FlushQuery { cursor: 0, looks: usize::MAX, which, answer: answer.clone() };
            let _ = handle.ask(Command::Flush(query));
        }
        self.run();
        let flows = self.workers.iter().flat_map(|(worker, _)| worker.memory().flows.page(0, usize::MAX).0);
        let left = flows.filter(|(_, flow)| protocol.is_none_or(|protocol| flow.protocol() == protocol)).count();
        assert_eq!(left, 0, "flows outlived their flush; {} workers answered", answers.len());
    }

    /// Turns of all workers until none finds anything to do.
    fn run(&mut self) {
        for _ in 0..ROUNDS {
            let mut worked = false;
            for worker in 0..self.workers.len() {
                worked |= self.turn(worker);
            }
            if !worked {
                self.judge.quiet(&self.totals(), self.pending());
                return;
            }
        }
        panic!("after {ROUNDS} rounds without a new frame the workers still find something to do");
    }

    fn turn(&mut self, worker: usize) -> bool {
        let Some((actor, _)) = self.workers.get_mut(worker) else { return false };
        let worked = actor.turn(self.now);
        self.collect();
        self.account();
        // The slow threads would; nothing depends on it.
        self.notices.neighbours.try_iter().for_each(drop);
        self.notices.claims.try_iter().for_each(drop);
        self.publisher.reclaim();
        let tables = self.master.tables();
        self.judge.changed(tables, self.workers.iter().map(|(worker, _)| &worker.memory().flows));
        for (index, (worker, _)) in self.workers.iter().enumerate() {
            self.judge.flows(&worker.memory().flows, index, tables, &self.program);
        }
        worked
    }

    /// Everything that was sent or passed goes before the judge.
    fn collect(&mut self) {
        for queue in &self.queues {
            let Some(port) = self.workers[queue.worker].0.port_mut(queue.lane) else { continue };
            let mut sent = Vec::new();
            while let Some(frame) = port.sent() {
                sent.push(frame);
            }
            let passed = port.passed();
            let role = self.master.tables().port(queue.port).expect("a port").role;
            for frame in passed {
                self.judge.passed(&frame, role);
            }
            for frame in sent {
                let flows = self.workers.iter().map(|(worker, _)| &worker.memory().flows);
                self.judge.sent(&frame, queue.port, self.master.tables(), flows);
                if self.sent.len() == REMEMBERED {
                    self.sent.pop_front();
                }
                self.sent.push_back((queue.port, frame));
            }
        }
    }

    /// Every frame of the UMEM is in exactly one place.
    fn account(&mut self) {
        let mut held = self.shared.frames();
        for (worker, _) in &self.workers {
            held += worker.frames();
        }
        for queue in &self.queues {
            held += self.workers[queue.worker].0.port_mut(queue.lane).map_or(0, |port| port.held());
        }
        self.judge.frames(held, self.umem.frames() as usize, Frame::leaked());
    }

    /// Frames that came, and that nobody has seen the end of.
    fn pending(&self) -> usize {
        self.workers.iter().map(|(worker, _)| worker.pending()).sum()
    }

    fn totals(&self) -> Totals {
        let all = || self.workers.iter().map(|(_, handle)| &handle.counters);
        let sum = |counter| all().map(|counters: &Arc<Counters>| counters.get(counter)).sum();
        let dropped = |reason| all().map(|counters: &Arc<Counters>| counters.dropped(reason)).sum();
        Totals {
            received: sum(Counter::Rx),
            forwarded: sum(Counter::Forwarded),
            hairpinned: sum(Counter::Hairpinned),
            passed: sum(Counter::Passed),
            dropped: Reason::ALL.iter().map(|reason| dropped(*reason)).sum(),
            waiting: sum(Counter::Waiting),
            bugs: [Reason::UplinkContract, Reason::DestinationContract].map(dropped).iter().sum(),
            not_passed: dropped(Reason::PassFailed),
        }
    }

    /// The workers stop: what is decided goes out, what waits is dropped, and everything has ended.
    ///
    /// # Panics
    /// If the judge finds something.
    pub fn end(&mut self) {
        self.run();
        let stop = AtomicBool::new(true);
        for (worker, _) in &mut self.workers {
            worker.run(&stop);
        }
        self.collect();
        self.account();
        let totals = self.totals();
        assert_eq!(totals.waiting, 0, "nobody waits after the end");
        self.judge.quiet(&totals, self.pending());
    }
}

fn places(program: &Program, six: bool) -> Vec<usize> {
    let family = if six { Family::Ipv6 } else { Family::Ipv4 };
    (0..).zip(&program.services).filter(|(_, service)| service.family == family).map(|(place, _)| place).collect()
}
