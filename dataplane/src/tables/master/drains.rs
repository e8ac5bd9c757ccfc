//! Backends that drain: until when they keep the flows that they have.
//!
//! A backend in no pool gets no new flows and keeps its own until they end, or for `drain_seconds` where its service says so. The
//! time begins when it leaves its last pool, and is forgotten when it is in one again. When it is over, the service is compiled anew with
//! the backend marked: its flows then find that it is gone, at their next packet, like those of a backend that was deleted; but its own
//! packets are still known for what they are, and answered.
//!
//! The one clock is the director's, which says how long the dataplane has run and asks when to come again.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use levee_api::program::{self, Backend, Delta, ServiceKey};

use super::Master;

/// One backend that drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Drain {
    /// When it was first seen to.
    since: Option<Duration>,
    /// Its time is over.
    over: bool,
}

/// Backends that drain, by service and endpoint.
#[derive(Debug, Default)]
pub(super) struct Drains(BTreeMap<ServiceKey, BTreeMap<(IpAddr, u16), Drain>>);

/// What there is to tell of a backend that drains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draining {
    /// Its service.
    pub service: ServiceKey,
    /// Its address.
    pub address: IpAddr,
    /// Its port; 0 where clients choose that.
    pub port: u16,
    /// Since when.
    pub since: Duration,
    /// Until when its flows go on; without, until they end.
    pub until: Option<Duration>,
}

impl Drains {
    /// A service is there, or is another one now.
    pub(super) fn set(&mut self, service: &program::Service) {
        let key = service.key();
        let mut known = self.0.remove(&key).unwrap_or_default();
        let draining = service.backends.iter().filter(|backend| backend.pools.is_empty());
        let drains: BTreeMap<_, _> = draining
            .map(|backend| {
                ((backend.address, backend.port), known.remove(&(backend.address, backend.port)).unwrap_or_default())
            })
            .collect();
        if !drains.is_empty() {
            self.0.insert(key, drains);
        }
    }

    /// A service is gone.
    pub(super) fn remove(&mut self, key: &ServiceKey) {
        self.0.remove(key);
    }

    /// Whether a backend's time is over.
    pub(super) fn is_over(&self, key: &ServiceKey, backend: &Backend) -> bool {
        self.0.get(key).and_then(|drains| drains.get(&(backend.address, backend.port))).is_some_and(|drain| drain.over)
    }
}

impl Master {
    fn patience(&self, key: &ServiceKey) -> Option<Duration> {
        let seconds = self.services.get(key)?.program.flows.drain_seconds?;
        Some(Duration::from_secs(seconds.into()))
    }

    /// Begins and ends the time of backends that drain. Returns those whose time is over now; with any, the tables have changed.
    pub fn follow_drains(&mut self, now: Duration) -> Vec<Draining> {
        let mut drains = std::mem::take(&mut self.drains);
        let (mut over, mut ended) = (Vec::new(), Vec::new());
        for (key, backends) in &mut drains.0 {
            let patience = self.patience(key);
            let mut any = false;
            for ((address, port), drain) in backends.iter_mut().filter(|(_, drain)| !drain.over) {
                let since = *drain.since.get_or_insert(now);
                drain.over = patience.is_some_and(|patience| now.saturating_sub(since) >= patience);
                if drain.over {
                    any = true;
                    let (address, port) = (*address, *port);
                    ended.push(Draining { service: key.clone(), address, port, since, until: Some(now) });
                }
            }
            over.extend(any.then(|| self.services.get(key).map(|entry| entry.program.clone())).flatten());
        }
        self.drains = drains;
        if over.is_empty() {
            return ended;
        }
        // The same services under the same generation: what they come to is another.
        let generation = self.generation;
        self.commit(Delta { base: generation, generation, upsert_services: over, ..Delta::default() });
        ended
    }

    /// When [`Master::follow_drains`] should be called next.
    #[must_use]
    pub fn next_drain(&self) -> Option<Duration> {
        let of_service = |(key, backends): (&ServiceKey, &BTreeMap<_, Drain>)| {
            let patience = self.patience(key)?;
            let since = backends.values().filter(|drain| !drain.over).filter_map(|drain| drain.since).min()?;
            since.checked_add(patience)
        };
        self.drains.0.iter().filter_map(of_service).min()
    }

    /// Backends whose flows still have time.
    #[must_use]
    pub fn draining(&self) -> Vec<Draining> {
        let all = self.drains.0.iter().flat_map(|(key, backends)| backends.iter().map(move |drain| (key, drain)));
        all.filter(|(_, (_, drain))| !drain.over)
            .filter_map(|(key, ((address, port), drain))| {
                let since = drain.since?;
                let until = self.patience(key).and_then(|patience| since.checked_add(patience));
                Some(Draining { service: key.clone(), address: *address, port: *port, since, until })
            })
            .collect()
    }
}
