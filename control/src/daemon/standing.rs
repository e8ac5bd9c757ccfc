//! How the daemon stands: written by its loop, read by the status socket.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use levee_api::diagnostic::Diagnostic;
use levee_api::program::Generation;

use super::status::{Dataplane, DataplaneState, Health, SourceStatus, Status};
use crate::compile::{Size, View};
use crate::config::Config;
use crate::notice::Notice;
use crate::program::Link;

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

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Standing {
    started: Instant,
    sources: Vec<String>,
    socket: PathBuf,
    inner: Mutex<Inner>,
}

impl Standing {
    pub(super) fn new(config: &Config, sources: Vec<String>) -> Self {
        Standing {
            started: Instant::now(),
            socket: config.dataplane.clone(),
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
        if !inner.programmed {
            missing.push(format!("the dataplane at {} does not run what was compiled", self.socket.display()));
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
                socket: self.socket.display().to_string(),
                state,
                generation: inner.generation,
                message,
            },
        }
    }
}
