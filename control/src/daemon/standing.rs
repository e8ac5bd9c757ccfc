//! How the daemon stands: written by its loop, read by the status socket.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use levee_api::diagnostic::Diagnostic;
use levee_api::program::Generation;
use tokio::sync::{mpsc, oneshot, watch};

use super::status::{Dataplane, DataplaneState, Health, SourceStatus, Status};
use crate::allocate::Addresses;
use crate::compile::{Size, View};
use crate::config::Config;
use crate::election::ElectionStatus;
use crate::notice::Notice;
use crate::program::Link;
use crate::publish;

/// What became of the input that was accepted last.
#[derive(Debug)]
struct Compiled {
    at: Instant,
    size: Size,
    notices: Vec<Notice>,
}

#[derive(Debug)]
struct Inner {
    /// Ports for health checks that cannot be had.
    unanswered: Vec<Notice>,
    view: View,
    compiled: Option<Compiled>,
    mistakes: Vec<Diagnostic>,
    complete: Vec<bool>,
    /// Since when each source cannot say what there is.
    failing: Vec<Option<Instant>>,
    link: Link,
    generation: Option<Generation>,
    /// The dataplane that is there now has run what was wanted, once at least.
    programmed: bool,
}

/// A question to the loop, and where it answers.
pub(super) type Ask = mpsc::Sender<oneshot::Sender<Addresses>>;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Standing {
    started: Instant,
    sources: Vec<String>,
    /// Absent where there is no dataplane.
    socket: Option<PathBuf>,
    /// Asks the loop who has which address.
    ask: Ask,
    /// How the candidate for assigning addresses stands, if there is one.
    publishing: Option<Arc<publish::Standing>>,
    /// What the election says of itself, once there is one.
    election: OnceLock<watch::Receiver<ElectionStatus>>,
    inner: Mutex<Inner>,
}

impl Standing {
    pub(super) fn new(config: &Config, sources: Vec<String>, ask: Ask) -> Self {
        Standing {
            started: Instant::now(),
            socket: config.dataplane.clone(),
            ask,
            publishing: config
                .allocate
                .as_ref()
                .map(|lease| Arc::new(publish::Standing::new(&lease.namespace, &lease.name))),
            election: OnceLock::new(),
            inner: Mutex::new(Inner {
                unanswered: Vec::new(),
                view: config.view.clone(),
                compiled: None,
                mistakes: Vec::new(),
                complete: vec![false; sources.len()],
                failing: vec![None; sources.len()],
                link: Link::Unknown,
                generation: None,
                programmed: false,
            }),
            sources,
        }
    }

    /// Nothing in here can be left half-changed, so a panic elsewhere does not matter.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the candidate for assigning addresses stands, if there is one.
    pub(super) fn publishing(&self) -> Option<Arc<publish::Standing>> {
        self.publishing.clone()
    }

    /// What the candidate has written.
    pub(super) fn published(&self) -> publish::Tally {
        self.publishing.as_ref().map(|publishing| publishing.tally()).unwrap_or_default()
    }

    /// Who has which address: asked of the loop, which alone holds the cluster. `None` if it has ended.
    pub(super) async fn addresses(&self) -> Option<Addresses> {
        let (answer, answered) = oneshot::channel();
        self.ask.send(answer).await.ok()?;
        answered.await.ok()
    }

    /// There is an election, and this is how it stands.
    pub(super) fn elects(&self, election: watch::Receiver<ElectionStatus>) {
        let _ = self.election.set(election);
    }

    pub(super) fn reconfigured(&self, view: &View) {
        self.inner().view = view.clone();
    }

    /// Input was accepted. Without `notices`, they are what they were.
    pub(super) fn compiled(&self, size: Size, notices: Option<Vec<Notice>>) {
        let mut inner = self.inner();
        let before = inner.compiled.take().map(|compiled| compiled.notices).unwrap_or_default();
        inner.compiled = Some(Compiled { at: Instant::now(), size, notices: notices.unwrap_or(before) });
    }

    /// Ports for health checks that cannot be had now.
    pub(super) fn unanswered(&self, problems: Vec<Notice>) {
        self.inner().unanswered = problems;
    }

    pub(super) fn judged(&self, mistakes: Vec<Diagnostic>, complete: Vec<bool>, failing: &[bool]) {
        let mut inner = self.inner();
        inner.mistakes = mistakes;
        inner.complete = complete;
        for (since, failing) in inner.failing.iter_mut().zip(failing) {
            *since = failing.then(|| since.unwrap_or_else(Instant::now));
        }
    }

    pub(super) fn dataplane(&self, link: &Link, generation: Option<Generation>) {
        let mut inner = self.inner();
        match link {
            Link::InStep => inner.programmed = true,
            // Another one may come in its place.
            Link::Unreachable(_) => inner.programmed = false,
            // A change is on its way, or was not taken: it runs what it had.
            Link::Unknown | Link::Reached | Link::Refused(_) => {}
        }
        if inner.link != *link {
            inner.link = link.clone();
        }
        inner.generation = generation;
    }

    /// What is missing until the first sync is applied. What was applied stays so while an API server is away or input is bad.
    pub(super) fn missing(&self) -> Vec<String> {
        let inner = self.inner();
        let unread = self.sources.iter().zip(&inner.complete).filter(|(_, complete)| !**complete);
        let mut missing: Vec<String> =
            unread.map(|(source, _)| format!("{source} was not read completely yet")).collect();
        if inner.compiled.is_none() && missing.is_empty() {
            missing.push("nothing was compiled yet".to_owned());
        }
        if let Some(socket) = self.socket.as_ref().filter(|_| !inner.programmed) {
            missing.push(format!("the dataplane at {} does not run what was compiled", socket.display()));
        }
        missing
    }

    pub(super) fn status(&self) -> Status {
        let inner = self.inner();
        let (state, message) = match &inner.link {
            Link::Unknown => (DataplaneState::Unknown, None),
            Link::Reached => (DataplaneState::Reached, None),
            Link::InStep => (DataplaneState::InStep, None),
            Link::Refused(message) => (DataplaneState::Refused, Some(message.clone())),
            Link::Unreachable(message) => (DataplaneState::Unreachable, Some(message.clone())),
        };
        let sources: Vec<SourceStatus> = self
            .sources
            .iter()
            .zip(inner.complete.iter().zip(&inner.failing))
            .map(|(name, (complete, failing))| SourceStatus {
                name: name.clone(),
                complete: *complete,
                failing_seconds: failing.map(|since| since.elapsed().as_secs()),
            })
            .collect();
        let mut problems = Vec::new();
        if !inner.mistakes.is_empty() {
            problems.push(format!("mistakes in the input: {}; its last good state is in force", inner.mistakes.len()));
        } else if inner.compiled.is_none() {
            problems.push("not every source has been read completely yet".to_owned());
        }
        match (state, &message) {
            (DataplaneState::Refused, Some(message)) => {
                problems.push(format!("the dataplane refuses the program: {message}"))
            }
            (DataplaneState::Unreachable, Some(message)) => problems.push(format!("no dataplane: {message}")),
            _ => {}
        }
        let allocator = self.publishing.as_ref().map(|publishing| publishing.report());
        if let Some(failure) = allocator.as_ref().and_then(|allocator| allocator.failure.as_ref()) {
            problems.push(format!("the cluster cannot be told of addresses: {failure}"));
        }
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: self.started.elapsed().as_secs(),
            node: inner.view.node.clone(),
            role: inner.view.role,
            health: Health { healthy: problems.is_empty(), problems },
            sources,
            compiled_seconds_ago: inner.compiled.as_ref().map(|compiled| compiled.at.elapsed().as_secs()),
            services: inner.compiled.as_ref().map_or(0, |compiled| compiled.size.services),
            vips: inner.compiled.as_ref().map_or(0, |compiled| compiled.size.vips),
            backends: inner.compiled.as_ref().map_or(0, |compiled| compiled.size.backends),
            mistakes: inner.mistakes.clone(),
            notices: {
                let compiled = inner.compiled.iter().flat_map(|compiled| &compiled.notices);
                compiled.chain(&inner.unanswered).cloned().collect()
            },
            dataplane: Dataplane {
                socket: self.socket.as_ref().map_or_else(|| "none".to_owned(), |socket| socket.display().to_string()),
                state,
                generation: inner.generation,
                message,
            },
            allocator,
            election: self.election.get().map(|election| election.borrow().clone()),
        }
    }
}
