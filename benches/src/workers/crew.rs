//! Several workers over memory, as a dataplane has them: one UMEM, one snapshot of the tables, inboxes between them.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use af_xdp::{Umem, UmemConfig};
use levee_api::program::Mode;
use levee_dataplane::counters::Counter;
use levee_dataplane::flows::Flow;
use levee_dataplane::hash::Key;
use levee_dataplane::mem::publication::{self, Publisher};
use levee_dataplane::port::memory::MemoryPort;
use levee_dataplane::tables::Tables;
use levee_dataplane::verdict::Endpoint;
use levee_dataplane::worker::{BATCH, Handle, Handover, Idle, Notices, Parts, Shared, Worker};

use crate::frames;
use crate::rig::{self, GATEWAY_MAC, NODE_MAC, PODS, UPLINK};

/// Backends of the service.
const BACKENDS: u16 = 100;
/// Frames of each worker.
const FRAMES: usize = 4096;
/// Entries of each ring.
const RING: usize = 512;

/// A worker on its way to a thread, with what arrives at its queue again and again.
pub struct Hand {
    /// The worker.
    pub worker: Worker<MemoryPort>,
    /// What slow threads see of it.
    pub handle: Handle,
    /// What arrives, in turn.
    pub frames: Vec<Vec<u8>>,
}

/// See the module.
pub struct Crew {
    /// By index.
    pub hands: Vec<Hand>,
    /// Keeps the tables.
    _publisher: Publisher<Tables>,
}

/// What arrives at the workers' queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// How the service is reached.
    pub mode: Mode,
    /// Flows for each worker.
    pub flows: u32,
    /// Whether the backends' answers come by as well, one for each segment of a client's, to the queues in turn: of several
    /// workers, each then gets most of its answers by another's queue.
    pub answers: bool,
}

impl Crew {
    /// So many workers, their flows begun.
    ///
    /// # Panics
    /// Out of memory, or if frames are lost at the start.
    #[must_use]
    pub fn new(workers: usize, traffic: Traffic) -> Crew {
        let frames = u32::try_from(FRAMES * workers).expect("a handful of workers");
        let (umem, mut pool) = Umem::new(UmemConfig { frames, ..UmemConfig::default() }).expect("memory for frames");
        let shared = Shared::new(workers, &umem).expect("descriptors");
        let mut handovers = Handover::between(workers, &umem).into_iter();
        let master = rig::director_of(workers, traffic.mode, BACKENDS);
        let (publisher, readers) = publication::channel(master.snapshot(), workers);
        // Nobody listens: a notice that finds no room is not waited for.
        let (notices, _) = Notices::new();
        let capacity = (traffic.flows as usize * workers * 4).next_power_of_two();
        let mut hands: Vec<Hand> = readers
            .into_iter()
            .enumerate()
            .map(|(worker, tables)| {
                let port = || MemoryPort::new(&umem, RING).keep(false);
                let (mut worker, handle) = Worker::new(Parts {
                    worker,
                    lanes: vec![(UPLINK, port()), (PODS, port())],
                    senders: vec![Some(worker), Some(worker)],
                    pool: pool.split(FRAMES),
                    memory: rig::memory(capacity),
                    tables,
                    idle: Idle::spin(shared.waker(worker).expect("one for each worker")),
                    shared: shared.clone(),
                    handover: handovers.next().expect("one for each worker"),
                    notices: notices.clone(),
                    epoch: Instant::now(),
                    key: Key([1, 2]),
                });
                worker.turn(0);
                Hand { worker, handle, frames: Vec::new() }
            })
            .collect();
        begin(&mut hands, traffic);
        let answers = if traffic.answers { answers(&mut hands) } else { Vec::new() };
        let count = u32::try_from(workers).expect("a handful of workers");
        for (index, hand) in (0..count).zip(&mut hands) {
            // The same flows on the same queue as when they began, as RSS would have it; answers to the queues in turn.
            let mut acks = of_queue(index, count, traffic, false);
            let mut answers = answers.iter().skip(index as usize).step_by(workers).cloned();
            hand.frames = acks.drain(..).flat_map(|ack| [Some(ack), answers.next()]).flatten().collect();
        }
        Crew { hands, _publisher: publisher }
    }
}

/// What clients send to one of so many queues.
fn of_queue(queue: u32, queues: u32, traffic: Traffic, syn: bool) -> Vec<Vec<u8>> {
    let flows = (0..traffic.flows * queues).filter(|flow| flow % queues == queue);
    flows.map(|flow| frames::tcp((GATEWAY_MAC, NODE_MAC), frames::client(flow), (rig::VIP, 80), syn)).collect()
}

/// Each flow's first packet, on its queue.
fn begin(hands: &mut [Hand], traffic: Traffic) {
    let count = u32::try_from(hands.len()).expect("a handful of workers");
    for index in 0..hands.len() {
        let syns = of_queue(u32::try_from(index).unwrap_or(u32::MAX), count, traffic, true);
        for batch in syns.chunks(BATCH) {
            for frame in batch {
                let port = hands[index].worker.port_mut(0).expect("the uplink");
                assert!(port.deliver(frame), "the fill ring is empty");
            }
            // Twice, so that what is handed over is taken.
            for _ in 0..2 {
                hands.iter_mut().for_each(|hand| {
                    hand.worker.turn(0);
                });
            }
        }
    }
    let created: u64 = hands.iter().map(|hand| hand.handle.counters.get(Counter::FlowsCreated)).sum();
    assert_eq!(created, u64::from(traffic.flows * count), "every flow has begun");
}

/// A segment from the backend of each flow, in no order that a queue would see in it.
fn answers(hands: &mut [Hand]) -> Vec<Vec<u8>> {
    let mut answers = Vec::new();
    for Hand { worker, handle, .. } in hands {
        rig::each_flow(worker, handle, 0, |flow| answers.push(answer_of(flow)));
    }
    answers
}

fn answer_of(flow: &Flow) -> Vec<u8> {
    let end = |end: Endpoint| match IpAddr::from(end.address) {
        IpAddr::V4(address) => (address, end.port),
        IpAddr::V6(_) => (Ipv4Addr::UNSPECIFIED, 0),
    };
    frames::tcp((GATEWAY_MAC, NODE_MAC), end(flow.backend()), end(flow.source()), false)
}
