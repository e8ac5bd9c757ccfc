//! What the control socket speaks for.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use levee_api::explain::{Explanation, Question};
use levee_api::metrics::Histogram;
use levee_api::program::{Applied, Delta, Generation, Program};
use levee_api::report::{
    BackendEntry, Counters, Drain, Drop, Flow, FlowFilter, Flushed, Health, Neighbour, Port, Status, TunnelEntry,
    VipEntry,
};

use levee_api::term::{Term, TermStatus};

use crate::events::Events;

/// An answer that takes its time.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A dataplane, as its control socket sees it. Reading anything but the program never waits for whoever programs.
pub trait Subject: Send + Sync + 'static {
    /// `GET /v1/status`.
    fn status(&self) -> Status;
    /// `GET /v1/health`.
    fn health(&self) -> Health;
    /// `GET /v1/program`: the last one that was taken. In line with those who program.
    fn program(&self) -> Pending<'_, Result<Arc<Program>, String>>;
    /// `GET /v1/counters`.
    fn counters(&self) -> Counters;
    /// `GET /v1/drops`: every reason, in the order of the counters.
    fn drops(&self) -> Vec<Drop>;
    /// `GET /v1/vips`.
    fn vips(&self) -> Vec<VipEntry>;
    /// `GET /v1/backends`.
    fn backends(&self) -> Vec<BackendEntry>;
    /// `GET /v1/drains`, without the flows: those are counted of [`Subject::flows`].
    fn drains(&self) -> Vec<Drain>;
    /// `GET /v1/tunnels`.
    fn tunnels(&self) -> Vec<TunnelEntry>;
    /// `GET /v1/neighbours`.
    fn neighbours(&self) -> Vec<Neighbour>;
    /// `GET /v1/ports`.
    fn ports(&self) -> Vec<Port>;
    /// `POST /v1/explain`; or what is wrong with the question.
    fn explain(&self, question: Question) -> Pending<'_, Result<Explanation, String>>;
    /// `PUT /v1/program`: answers when every worker runs it.
    fn load(&self, program: Program) -> Pending<'_, Result<Applied, Refusal>>;
    /// `PATCH /v1/program`: answers when every worker runs it.
    fn amend(&self, delta: Delta) -> Pending<'_, Result<Applied, Refusal>>;
    /// `GET /v1/term`.
    fn term(&self) -> TermStatus;
    /// `PUT /v1/term`: answers when every worker runs it.
    fn announce(&self, term: Term) -> Pending<'_, Result<(), Refusal>>;
    /// `GET /v1/flows`, a page at a time. `None` starts.
    fn flows(&self, filter: FlowFilter, cursor: Option<FlowCursor>) -> Pending<'_, Result<FlowPage, String>>;
    /// `DELETE /v1/flows`.
    fn flush(&self, filter: FlowFilter) -> Pending<'_, Result<Flushed, String>>;
    /// `GET /v1/events`.
    fn events(&self) -> &Events;
    /// What `GET /metrics` tells beside all of the above.
    fn measures(&self) -> Measures;
}

/// What only metrics tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measures {
    /// By interface, frames that its XDP program has seen by class. An interface that cannot be asked is not there.
    pub steered: Vec<(String, Vec<(&'static str, u64)>)>,
    /// Programs and deltas.
    pub programming: Programming,
}

/// What became of programs and deltas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Programming {
    /// Programs, from when each was read until every worker ran it.
    pub programs: Histogram,
    /// Deltas, likewise.
    pub deltas: Histogram,
    /// Deltas against another generation.
    pub stale: u64,
    /// Refused for what they say.
    pub invalid: u64,
    /// Not run by every worker in time, or there was no time for them.
    pub unavailable: u64,
}

impl Programming {
    /// One was run, or was not. `time` is how long that took.
    pub fn note(&mut self, whole: bool, outcome: &Result<Applied, Refusal>, time: Duration) {
        match outcome {
            Ok(_) if whole => self.programs.observe(time),
            Ok(_) => self.deltas.observe(time),
            Err(Refusal::Stale { .. }) => self.stale += 1,
            Err(Refusal::Invalid(_)) => self.invalid += 1,
            Err(Refusal::Unavailable(_)) => self.unavailable += 1,
        }
    }
}

/// Why a program or a delta was not taken. The old one goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The delta was made against another generation than the one that is programmed: 409.
    Stale {
        /// The one that is.
        generation: Generation,
    },
    /// It contradicts itself: 422. Every reason.
    Invalid(Vec<String>),
    /// Taken, but not run by every worker in time, or the dataplane is stopping: 503.
    Unavailable(String),
}

/// Where the next page of flows starts; opaque outside of the subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowCursor {
    /// The worker.
    pub worker: usize,
    /// The place in its table.
    pub position: u64,
}

/// Some flows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowPage {
    /// Those that the filter matches, possibly none though more follow.
    pub flows: Vec<Flow>,
    /// Where to go on; `None` at the end.
    pub next: Option<FlowCursor>,
}
