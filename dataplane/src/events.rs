//! What an operator should hear of: a short memory of events, and a stream of new ones.
//!
//! The slow threads record; the control socket tells (`GET /v1/events`). Each event is logged too, so that the journal has
//! what the memory has forgotten. Never called on the packet path: it takes a lock and reads the clock.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use levee_api::report::Event;
use tokio::sync::broadcast;

/// Events remembered: some hours of an unquiet system, 100 KiB.
const REMEMBERED: usize = 1024;

/// The closed set of words in [`Event::kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The dataplane runs.
    Started,
    /// The dataplane drains and ends.
    Stopping,
    /// A program or delta was taken, and every worker runs it.
    Programmed,
    /// A program or delta was refused.
    ProgramRefused,
    /// An interface of a port came up.
    LinkUp,
    /// An interface of a port went down.
    LinkDown,
    /// An interface of a port has another MAC.
    LinkChanged,
    /// Another station says that an address of ours is at its MAC.
    AddressConflict,
    /// The kernel's routes or neighbours could not be followed, and were read anew.
    KernelResync,
    /// A term names other addresses than the one before.
    Announcing,
    /// A term has run out: nobody renews it.
    TermLapsed,
    /// The time of a backend that drained is over: its flows end.
    Drained,
    /// Something that levee could do without failed.
    Degraded,
}

impl Kind {
    /// Every kind, in order.
    pub const ALL: [Kind; 13] = [
        Kind::Started,
        Kind::Stopping,
        Kind::Programmed,
        Kind::ProgramRefused,
        Kind::LinkUp,
        Kind::LinkDown,
        Kind::LinkChanged,
        Kind::AddressConflict,
        Kind::KernelResync,
        Kind::Announcing,
        Kind::TermLapsed,
        Kind::Drained,
        Kind::Degraded,
    ];

    /// The word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Started => "started",
            Kind::Stopping => "stopping",
            Kind::Programmed => "programmed",
            Kind::ProgramRefused => "program-refused",
            Kind::LinkUp => "link-up",
            Kind::LinkDown => "link-down",
            Kind::LinkChanged => "link-changed",
            Kind::AddressConflict => "vip-conflict",
            Kind::KernelResync => "kernel-resync",
            Kind::Drained => "drained",
            Kind::Announcing => "announcing",
            Kind::TermLapsed => "term-lapsed",
            Kind::Degraded => "degraded",
        }
    }
}

/// The memory and the stream. Clones share both.
#[derive(Debug, Clone)]
pub struct Events {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    remembered: Mutex<VecDeque<Event>>,
    stream: broadcast::Sender<Event>,
    /// By [`Kind`], forgotten ones too.
    counts: [AtomicU64; Kind::ALL.len()],
}

impl Default for Events {
    fn default() -> Self {
        let (stream, _) = broadcast::channel(REMEMBERED);
        Events { shared: Arc::new(Shared { remembered: Mutex::default(), stream, counts: Default::default() }) }
    }
}

impl Events {
    /// Remembers, tells and logs an event.
    pub fn record(&self, kind: Kind, message: impl Into<String>) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let event = Event { time, kind: kind.word().to_owned(), message: message.into() };
        tracing::info!(kind = kind.word(), "{}", event.message);
        if let Some(count) = self.shared.counts.get(kind as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let mut remembered = self.shared.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() == REMEMBERED {
            remembered.pop_front();
        }
        remembered.push_back(event.clone());
        // Told under the lock, so that `follow` neither misses nor repeats one. An error says that nobody listens.
        let _ = self.shared.stream.send(event);
    }

    /// How many there were of each kind since the start.
    #[must_use]
    pub fn counts(&self) -> [(Kind, u64); Kind::ALL.len()] {
        Kind::ALL
            .map(|kind| (kind, self.shared.counts.get(kind as usize).map_or(0, |count| count.load(Ordering::Relaxed))))
    }

    /// The events remembered, oldest first.
    #[must_use]
    pub fn remembered(&self) -> Vec<Event> {
        self.follow().0
    }

    /// The events remembered, and those to come.
    #[must_use]
    pub fn follow(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let remembered = self.shared.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        (remembered.iter().cloned().collect(), self.shared.stream.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_numbered_in_order_and_counted_beyond_the_memory() {
        let events = Events::default();
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
            (0..=index * 200).for_each(|_| events.record(kind, ""));
        }
        for (index, (kind, count)) in events.counts().into_iter().enumerate() {
            assert_eq!((kind, count), (Kind::ALL[index], index as u64 * 200 + 1));
        }
    }

    #[test]
    fn the_memory_is_bounded_and_the_stream_continues_it() {
        let events = Events::default();
        for number in 0..REMEMBERED + 5 {
            events.record(Kind::LinkUp, number.to_string());
        }
        let (remembered, mut stream) = events.follow();
        assert_eq!(remembered.len(), REMEMBERED);
        assert_eq!(remembered[0].message, "5");
        events.record(Kind::LinkDown, "last");
        assert_eq!(stream.try_recv().unwrap().message, "last");
        assert!(stream.try_recv().is_err());
    }
}
