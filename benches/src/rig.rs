//! One worker over memory, with tables as a balancer or a node has them.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use af_xdp::{Umem, UmemConfig};
use ipnet::{IpNet, Ipv4Net};
use levee_api::net::{Family, Mac, PortRange, Protocol, Role};
use levee_api::program::{Backend, Delta, Frontend, Local, Mode, Pod, Pool, Program, Service, Side, Vip, WhenEmpty};
use levee_dataplane::counters::Counter;
use levee_dataplane::decide::{Memory, Places};
use levee_dataplane::flows::affinity::Affinities;
use levee_dataplane::flows::{Flow, Flows, Millis, Timeouts};
use levee_dataplane::hash::Key;
use levee_dataplane::limits::{Errors, Limit, Newcomers, Replies};
use levee_dataplane::mem::publication::{self, Publisher};
use levee_dataplane::port::memory::MemoryPort;
use levee_dataplane::reason::Reason;
use levee_dataplane::tables::Tables;
use levee_dataplane::tables::master::{Master, Setup};
use levee_dataplane::tables::snat::SnatRange;
use levee_dataplane::verdict::{Endpoint, PortId};
use levee_dataplane::ways::Ways;
use levee_dataplane::worker::{BATCH, Command, FlowsQuery, Handle, Handover, Idle, Notices, Parts, Shared, Worker};

use crate::frames::{self, Segment};

/// The node's MAC on the fabric.
pub const NODE_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
/// Levee's MAC towards the pods.
pub const INSIDE_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
/// The gateway that clients are behind.
pub const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 254));
/// Its MAC.
pub const GATEWAY_MAC: Mac = Mac([2, 0, 0, 0, 0, 3]);
/// A pod of this node.
pub const POD_MAC: Mac = Mac([2, 0, 0, 0, 0, 4]);
/// That pod.
pub const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 5);
/// What the service is reached at.
pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// The uplink.
pub const UPLINK: PortId = PortId(0);
/// The pods' port.
pub const PODS: PortId = PortId(1);

/// Frames of a worker.
const FRAMES: u32 = 4096;

const HASH_KEY: Key = Key([0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03]);

/// The worker, its two ports, and the director behind it.
pub struct Rig {
    /// Everything on the packet's way.
    pub worker: Worker<MemoryPort>,
    /// Its counters.
    pub handle: Handle,
    /// Where tables are changed.
    pub master: Master,
    /// And published.
    pub publisher: Publisher<Tables>,
    /// Frames that arrive before each turn.
    batch: usize,
    now: Millis,
}

impl Rig {
    /// A service on [`VIP`] port 80 reached in `mode`, with this many backends, and room for this many flows.
    ///
    /// # Panics
    /// Out of memory.
    #[must_use]
    pub fn new(mode: Mode, backends: u16, flows: usize) -> Rig {
        Rig::with(director(mode, backends), flows)
    }

    /// With other tables.
    ///
    /// # Panics
    /// Out of memory.
    #[must_use]
    pub fn with(master: Master, flows: usize) -> Rig {
        let (mut workers, publisher) = workers::<1>(&master, flows);
        let (worker, handle) = workers.remove(0);
        let mut rig = Rig { worker, handle, master, publisher, batch: BATCH, now: 1000 };
        rig.turn();
        rig
    }

    /// The first of two workers of a dataplane, and the second, which has a queue of each port of its own. Tables are to be for two.
    ///
    /// # Panics
    /// Out of memory.
    #[must_use]
    pub fn beside(master: Master, flows: usize) -> (Rig, Worker<MemoryPort>) {
        let (mut workers, publisher) = workers::<2>(&master, flows);
        let ((mut other, _), (worker, handle)) = (workers.remove(1), workers.remove(0));
        let mut rig = Rig { worker, handle, master, publisher, batch: BATCH, now: 1000 };
        rig.turn();
        other.turn(rig.now);
        (rig, other)
    }

    /// The worker's time.
    #[must_use]
    pub fn now(&self) -> Millis {
        self.now
    }

    /// One turn of the worker, and how long it took; time stands still.
    pub fn turn(&mut self) -> Duration {
        let start = Instant::now();
        self.worker.turn(self.now);
        start.elapsed()
    }

    /// A Service that no packet is for comes, or becomes another.
    ///
    /// # Panics
    /// If the change is refused.
    pub fn change_another(&mut self) {
        let base = self.master.generation();
        let mut other = service("default/other:http", Ipv4Addr::new(10, 96, 0, 2), 80, Mode::Nat, 1);
        other.flows.drain_seconds = u32::try_from(base).ok();
        let delta = Delta { base, generation: base + 1, upsert_services: vec![other], ..Delta::default() };
        self.master.amend(delta).expect("a change that can be made");
        self.publisher.publish(self.master.snapshot());
        self.publisher.reclaim();
    }

    /// Has the worker take so many frames at once, and so many arrive before each turn.
    pub fn take_at_once(&mut self, frames: usize) {
        self.worker.take_at_once(frames);
        self.batch = frames;
    }

    /// Lets time pass.
    pub fn wait(&mut self, time: Millis) {
        self.now = self.now.wrapping_add(time);
    }

    /// Has `packets` frames arrive at a port, in batches, and says how long the worker took for them. `deliver` puts one frame into
    /// the port; what that takes is not part of what is measured: on a real port the kernel does it.
    pub fn time(&mut self, port: PortId, packets: u64, mut deliver: impl FnMut(&mut MemoryPort)) -> Duration {
        let mut taken = Duration::ZERO;
        let mut left = packets;
        while left > 0 {
            let batch = left.min(self.batch as u64);
            let lane = self.worker.port_mut(usize::from(port.0)).expect("both ports are there");
            (0..batch).for_each(|_| deliver(lane));
            taken += self.turn();
            left -= batch;
        }
        taken
    }

    /// Sends `packets` frames in turn, in batches, and says how long the worker took for them.
    pub fn run(&mut self, port: PortId, frames: &[Vec<u8>], packets: u64) -> Duration {
        let mut source = frames.iter().map(Vec::as_slice).cycle();
        self.run_from(port, &mut source, packets)
    }

    /// The same with frames from anywhere.
    ///
    /// # Panics
    /// If the port has no room.
    pub fn run_from<'a>(
        &mut self,
        port: PortId,
        frames: &mut impl Iterator<Item = &'a [u8]>,
        packets: u64,
    ) -> Duration {
        self.time(port, packets, |port| frames.next().into_iter().for_each(|frame| deliver(port, frame)))
    }

    /// Sends a segment of each of these flows, `packets` in all, in batches, and says how long the worker took for them.
    ///
    /// # Panics
    /// If the port has no room.
    pub fn play(&mut self, segment: &mut Segment, flows: &mut impl Iterator<Item = u32>, packets: u64) -> Duration {
        self.time(UPLINK, packets, |port| flows.next().into_iter().for_each(|flow| deliver(port, segment.of(flow))))
    }

    /// Begins these flows, and has each be answered, where answers pass, and acknowledged: they are established then.
    pub fn establish(&mut self, flows: u32) {
        self.play(&mut syn(), &mut (0..flows), u64::from(flows));
        let mut answers = Vec::with_capacity(flows as usize);
        self.each_flow(|flow| answers.extend(flow.reverse().map(|reply| [reply.source, reply.destination].map(v4))));
        let (mut answer, mut ends) = (ack(), answers.iter());
        self.time(UPLINK, answers.len() as u64, |port| {
            ends.next().into_iter().for_each(|[from, to]| deliver(port, answer.between(*from, *to)));
        });
        self.play(&mut ack(), &mut (0..flows), u64::from(flows));
    }

    /// Frames that were sent on so far.
    #[must_use]
    pub fn forwarded(&self) -> u64 {
        self.handle.counters.get(Counter::Forwarded)
    }

    /// Shows every flow that there is.
    ///
    /// # Panics
    /// If the worker does not answer.
    pub fn each_flow(&mut self, show: impl FnMut(&Flow)) {
        each_flow(&mut self.worker, &self.handle, self.now, show);
    }

    /// What was dropped, for messages.
    #[must_use]
    pub fn drops(&self) -> Vec<(&'static str, u64)> {
        let drops = Reason::ALL.iter().map(|reason| (reason.name(), self.handle.counters.dropped(*reason)));
        drops.filter(|(_, count)| *count > 0).collect()
    }
}

/// An end of a flow of IPv4.
fn v4(end: Endpoint) -> (Ipv4Addr, u16) {
    match end.address.into() {
        IpAddr::V4(address) => (address, end.port),
        IpAddr::V6(_) => unreachable!("the rig has no others"),
    }
}

/// The workers of one dataplane, each with a queue of each port, and room for so many flows.
fn workers<const COUNT: usize>(
    master: &Master,
    flows: usize,
) -> (Vec<(Worker<MemoryPort>, Handle)>, Publisher<Tables>) {
    let config = UmemConfig { frames: FRAMES * COUNT as u32, ..UmemConfig::default() };
    let (umem, mut pool) = Umem::new(config).expect("8 MiB for each");
    let shared = Shared::new(COUNT, &umem).expect("descriptors");
    let (publisher, readers) = publication::channel(master.snapshot(), COUNT);
    let port = || MemoryPort::new(&umem, 512).keep(false);
    // Nobody listens: a notice that finds no room is not waited for.
    let (notices, _) = Notices::new();
    let worker = |((worker, tables), handover)| {
        Worker::new(Parts {
            worker,
            lanes: vec![(UPLINK, port()), (PODS, port())],
            senders: vec![Some(worker), Some(worker)],
            pool: pool.split(FRAMES as usize),
            memory: memory(flows),
            tables,
            shared: shared.clone(),
            handover,
            notices: notices.clone(),
            idle: Idle::spin(shared.waker(worker).expect("one for each worker")),
            epoch: Instant::now(),
            key: HASH_KEY,
        })
    };
    (readers.into_iter().enumerate().zip(Handover::between(COUNT, &umem)).map(worker).collect(), publisher)
}

/// Puts a frame into a port.
///
/// # Panics
/// If it has no room.
pub fn deliver(port: &mut MemoryPort, frame: &[u8]) {
    assert!(port.deliver(frame), "the fill ring is empty");
}

/// Shows every flow of a worker's, as whoever lists flows gets them: by pages.
///
/// # Panics
/// If it does not answer.
pub fn each_flow(worker: &mut Worker<MemoryPort>, handle: &Handle, now: Millis, mut show: impl FnMut(&Flow)) {
    const PAGE: usize = 4096;
    let mut cursor = Some(0);
    while let Some(from) = cursor {
        let (answer, answered) = crossbeam_channel::bounded(1);
        let query = FlowsQuery { cursor: from, looks: PAGE, flows: Vec::with_capacity(PAGE), answer };
        assert!(handle.ask(Command::Flows(query)).is_ok(), "a worker that is turned by hand has time");
        worker.turn(now);
        let page = answered.recv().expect("it was asked");
        page.flows.iter().for_each(&mut show);
        cursor = page.next;
    }
}

/// A worker's own memory.
///
/// # Panics
/// Out of memory.
#[must_use]
pub fn memory(flows: usize) -> Memory {
    Memory {
        flows: Flows::new(flows, HASH_KEY, Timeouts::default()).expect("memory for flows"),
        affinities: Affinities::new(65_536, HASH_KEY).expect("memory for affinity"),
        arp: Limit::new(50, HASH_KEY),
        replies: Replies::new(10_000, HASH_KEY),
        errors: Errors::new(100, HASH_KEY),
        newcomers: Newcomers::default(),
        places: Places::default(),
        ways: Arc::new(Ways::new(HASH_KEY)),
        created: 0,
        untracked: 0,
        over_limit: 0,
        by_connection: 0,
    }
}

/// The director of a node with one pod and a service with backends on another network.
///
/// # Panics
/// If the program is refused.
#[must_use]
pub fn director(mode: Mode, backends: u16) -> Master {
    director_of(1, mode, backends)
}

/// The same for so many workers.
///
/// # Panics
/// If the program is refused.
#[must_use]
pub fn director_of(workers: usize, mode: Mode, backends: u16) -> Master {
    let mut master = unprogrammed(workers);
    master
        .load(
            Program {
                generation: 1,
                local: Local {
                    prefixes: vec!["10.244.1.0/24".parse().expect("a prefix")],
                    pods: vec![Pod { address: POD.into(), mac: Some(POD_MAC) }],
                },
                service_ranges: vec!["10.96.0.0/16".parse().expect("a prefix")],
                vips: vec![Vip { address: VIP.into(), announce: false }],
                announce_in_term: false,
                services: vec![service("default/web:http", VIP, 80, mode, backends)],
                tunnels: Vec::new(),
            }
            .canonical(),
        )
        .expect("a program that can be run");
    master
}

/// A director that knows its ports, its SNAT addresses and the gateway, and no program yet.
///
/// # Panics
/// Never: what it knows is right.
#[must_use]
pub fn unprogrammed(workers: usize) -> Master {
    let port =
        |name: &str, role, mac| levee_dataplane::tables::Port { name: name.into(), role, mac, passes: true, mtu: 1500 };
    let ports = PortRange { first: 1024, last: 65535 };
    let mut master = Master::new(Setup {
        ports: vec![port("eth0", Role::Uplink, NODE_MAC), port("levee0", Role::Pods, INSIDE_MAC)],
        snat: (0..4).map(|last| SnatRange { address: Ipv4Addr::new(192, 0, 2, 240 + last).into(), ports }).collect(),
        host_snat: Vec::new(),
        tunnel_ends: Vec::new(),
        multicast: Vec::new(),
        gateways: Vec::new(),
        mss_clamp: 0,
        workers,
    });
    master.set_routes([(IpNet::from(Ipv4Net::default()), UPLINK, Some(GATEWAY))]);
    master.set_neighbour(UPLINK, GATEWAY, Some(GATEWAY_MAC));
    master
}

/// A service with its backends in 10.245.0.0/16.
#[must_use]
pub fn service(name: &str, vip: Ipv4Addr, port: u16, mode: Mode, backends: u16) -> Service {
    let backend = |number: u16| {
        let [high, low] = number.to_be_bytes();
        Backend { address: [10, 245, high, low].into(), port: 8080, pools: vec![Pool::Cluster], via: None }
    };
    Service {
        name: name.into(),
        protocol: Protocol::Tcp,
        family: Family::Ipv4,
        frontends: vec![Frontend {
            address: vip.into(),
            port,
            from: Side::Any,
            mode,
            pool: Pool::Cluster,
            when_empty: WhenEmpty::Reject,
            last_port: None,
            source_ranges: Vec::new(),
        }],
        backends: (1..=backends).map(backend).collect(),
        affinity: None,
        quic: Vec::new(),
        flows: Default::default(),
    }
}

/// A SYN to the service from outside, of any flow.
#[must_use]
pub fn syn() -> Segment {
    Segment::new(frames::tcp((GATEWAY_MAC, NODE_MAC), frames::client(0), (VIP, 80), true))
}

/// A later segment.
#[must_use]
pub fn ack() -> Segment {
    Segment::new(frames::tcp((GATEWAY_MAC, NODE_MAC), frames::client(0), (VIP, 80), false))
}

/// SYNs of flows to the service from outside: the first of each.
#[must_use]
pub fn syns(flows: std::ops::Range<u32>) -> Vec<Vec<u8>> {
    flows.map(|flow| frames::tcp((GATEWAY_MAC, NODE_MAC), frames::client(flow), (VIP, 80), true)).collect()
}

/// Later segments of the same flows.
#[must_use]
pub fn acks(flows: std::ops::Range<u32>) -> Vec<Vec<u8>> {
    flows.map(|flow| frames::tcp((GATEWAY_MAC, NODE_MAC), frames::client(flow), (VIP, 80), false)).collect()
}

/// Segments from the pod to stations elsewhere: what MAC rewriting alone is for.
#[must_use]
pub fn from_pod(flows: std::ops::Range<u32>) -> Vec<Vec<u8>> {
    flows
        .map(|flow| {
            let (address, port) = frames::client(flow);
            frames::tcp((POD_MAC, INSIDE_MAC), (POD, port), (address, 80), false)
        })
        .collect()
}
