//! What every source has in common: it runs by itself, and says what it sees through an outlet.

use std::io;

use tokio::sync::mpsc;

use super::{Event, SourceId};

/// A place that objects come from.
pub trait Source: Send {
    /// What people call it.
    fn name(&self) -> String;

    /// Starts it, on a thread or a task of its own, which ends when the outlet is closed. It says everything it has first:
    /// a list, or that it cannot say.
    ///
    /// # Errors
    /// The system has no more threads.
    fn start(self: Box<Self>, outlet: Outlet) -> io::Result<()>;
}

/// Where a source says what it sees. What is said together is taken in together.
#[derive(Debug, Clone)]
pub struct Outlet {
    source: SourceId,
    events: mpsc::Sender<(SourceId, Vec<Event>)>,
}

/// Nobody listens any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

impl Outlet {
    /// The outlet of one of several sources.
    #[must_use]
    pub fn new(source: SourceId, events: mpsc::Sender<(SourceId, Vec<Event>)>) -> Self {
        Outlet { source, events }
    }

    /// Says something, from a thread. Waits while the listener is behind, so that events do not pile up.
    ///
    /// # Errors
    /// Nobody listens any more.
    pub fn say(&self, events: Vec<Event>) -> Result<(), Closed> {
        self.events.blocking_send((self.source, events)).map_err(|_| Closed)
    }

    /// Says something, from a task. Waits as [`Outlet::say`] does.
    ///
    /// # Errors
    /// Nobody listens any more.
    pub async fn tell(&self, events: Vec<Event>) -> Result<(), Closed> {
        self.events.send((self.source, events)).await.map_err(|_| Closed)
    }

    /// Waits until nobody listens any more.
    pub async fn closed(&self) {
        self.events.closed().await;
    }

    /// Whether nobody listens any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.events.is_closed()
    }
}
