//! How slow threads speak with a worker: by bounded queues, never by a lock.
//!
//! ```text
//!   slow threads ──Command──►  worker        (flow lists, flushes, frames of levee's own)
//!   slow threads ◄──Notices──  worker        (a neighbour to resolve, a claim to an address of ours)
//!   other workers ──Message──► worker        (frames whose flow, or whose port, is this worker's)
//! ```
//!
//! A worker that sleeps is woken by its [`Waker`]; one that polls looks by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};

use af_xdp::Frame;
use crossbeam_channel::Sender;
use crossbeam_queue::ArrayQueue;

use super::waker::Waker;
use crate::counters::{Counter, Counters};
use crate::flows::{Flow, Millis};
use crate::verdict::PortId;

/// Something to be done by a worker between two batches.
pub enum Command {
    /// Copies a page of flows.
    Flows(FlowsQuery),
    /// Forgets flows.
    Flush(FlushQuery),
    /// Sends a frame of levee's own out of a port. It should be one that the uplink's contract allows; others are dropped.
    Inject(PortId, Box<[u8]>),
}

/// Asks for flows.
pub struct FlowsQuery {
    /// Entry to start at; 0 is the first.
    pub cursor: u32,
    /// Entries to look at, at most.
    pub looks: usize,
    /// Where they are put; its capacity should be `looks`, so that the worker allocates nothing.
    pub flows: Vec<Flow>,
    /// Where the answer goes; should have room for one.
    pub answer: Sender<FlowsAnswer>,
}

/// A page of flows.
pub struct FlowsAnswer {
    /// Copies.
    pub flows: Vec<Flow>,
    /// Where to go on; `None` at the end.
    pub next: Option<u32>,
    /// The worker's time, which the flows' times are measured by.
    pub now: Millis,
}

/// Asks for flows to be forgotten.
pub struct FlushQuery {
    /// Entry to start at.
    pub cursor: u32,
    /// Entries to look at, at most.
    pub looks: usize,
    /// Which flows.
    pub which: Box<dyn Fn(&Flow) -> bool + Send>,
    /// Where the answer goes: the query itself, to be sent again, with how many went and where to go on.
    pub answer: Sender<FlushAnswer>,
}

/// How far a flush came.
pub struct FlushAnswer {
    /// Flows forgotten.
    pub flushed: u64,
    /// Where to go on; `None` at the end.
    pub next: Option<u32>,
    /// The filter, given back.
    pub which: Box<dyn Fn(&Flow) -> bool + Send>,
}

/// A frame from another worker.
pub enum Message {
    /// Received on this port; its flow is yours.
    Process(PortId, Frame),
    /// Received on this port: an ICMP error about a flow that may be anybody's. So many workers after you have not been
    /// asked.
    Seek(PortId, Frame, usize),
    /// Received on this port: a fragment, of whose datagram you keep what belongs together, or own the flow.
    Fragment(PortId, Frame),
    /// Decided and rewritten; send it out of this port, whose queue is yours, and count it so.
    Transmit(PortId, Frame, Counter),
    /// Received on this port, whose queue is yours, and the kernel's: pass it.
    Pass(PortId, Frame),
}

/// What a worker shows of itself, written by it alone, every turn: so no other worker's may share a line with it (or, with x86's
/// prefetcher, which fetches lines in pairs, the line beside).
#[derive(Default)]
#[repr(align(128))]
pub struct Pulse {
    /// Turns of its loop.
    pub turns: AtomicU64,
    /// Flows in use.
    pub flows: AtomicU32,
    /// Flows that there is room for.
    pub flow_capacity: AtomicU32,
    /// The generation that it runs.
    pub generation: AtomicU64,
}

/// The slow threads' end of a worker.
#[derive(Clone)]
pub struct Handle {
    /// Index, from 0.
    pub worker: usize,
    /// Its counters.
    pub counters: Arc<Counters>,
    /// Its pulse.
    pub pulse: Arc<Pulse>,
    /// Its alarm clock; to be rung after a publication too.
    pub waker: Waker,
    pub(super) commands: Arc<ArrayQueue<Command>>,
}

impl Handle {
    /// Gives the worker something to do.
    ///
    /// # Errors
    /// The command, if too many are waiting.
    pub fn ask(&self, command: Command) -> Result<(), Command> {
        self.commands.push(command)?;
        self.waker.wake();
        Ok(())
    }
}
