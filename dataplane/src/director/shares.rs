//! What the director lets others read: small, and locked for the time of a copy.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use levee_api::net::Mac;
use levee_api::program::Generation;

use super::terms::TermFacts;
use crate::neighbours::Key;
use crate::tables::Tables;
use crate::tables::master::Draining;
use crate::verdict::PortId;

/// A port's link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkState {
    /// Administratively up, with carrier.
    pub up: bool,
    /// Its MAC.
    pub mac: Mac,
}

/// A neighbour's MAC, while it has one, and the kernel's word for its state.
pub(crate) type NeighbourState = (Option<Mac>, &'static str);

/// See the module's documentation.
#[derive(Default)]
pub struct Shares {
    tables: Mutex<Tables>,
    neighbours: Mutex<BTreeMap<Key, NeighbourState>>,
    links: Mutex<BTreeMap<PortId, LinkState>>,
    steering: Mutex<Option<String>>,
    diversion: Mutex<Option<String>>,
    dead: Mutex<Vec<usize>>,
    followed: AtomicBool,
    running: AtomicU64,
    term: Mutex<(bool, usize, TermFacts)>,
    draining: Mutex<Vec<Draining>>,
}

/// Each value is replaced whole, so a panic elsewhere leaves none half-written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shares {
    /// The tables published last. A handful of reference counts.
    #[must_use]
    pub fn tables(&self) -> Tables {
        lock(&self.tables).clone()
    }

    /// The kernel's neighbours on ports.
    #[must_use]
    pub fn neighbours(&self) -> BTreeMap<Key, NeighbourState> {
        lock(&self.neighbours).clone()
    }

    /// A port's link.
    #[must_use]
    pub fn link_state(&self, port: PortId) -> LinkState {
        lock(&self.links).get(&port).copied().unwrap_or_default()
    }

    /// Whether a worker's loop has turned within the last seconds.
    #[must_use]
    pub fn is_alive(&self, worker: usize) -> bool {
        !lock(&self.dead).contains(&worker)
    }

    /// The generation that every worker runs, or will before its next frame.
    #[must_use]
    pub fn running(&self) -> Generation {
        self.running.load(Ordering::Acquire)
    }

    /// What is wrong besides dead workers, in words.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> =
            lock(&self.steering).iter().chain(lock(&self.diversion).iter()).cloned().collect();
        if !self.followed.load(Ordering::Relaxed) {
            problems.push("the kernel's routes and neighbours have not been read yet".to_owned());
        }
        problems
    }

    /// Whether VIPs need a term, how many addresses are announced, and how the term stands.
    #[must_use]
    pub fn announcing(&self) -> (bool, usize, TermFacts) {
        lock(&self.term).clone()
    }

    pub(super) fn term(&self, needed: bool, announced: usize, facts: TermFacts) {
        *lock(&self.term) = (needed, announced, facts);
    }

    /// Backends that drain, as of the tables published last.
    #[must_use]
    pub fn draining(&self) -> Vec<Draining> {
        lock(&self.draining).clone()
    }

    pub(super) fn drains(&self, draining: Vec<Draining>) {
        *lock(&self.draining) = draining;
    }

    pub(super) fn publish(&self, tables: Tables) {
        // The old one is let go outside of the lock: it may be large.
        let old = std::mem::replace(&mut *lock(&self.tables), tables);
        drop(old);
    }

    pub(super) fn neighbour(&self, key: Key, mac: Option<Mac>, state: Option<&'static str>) {
        let mut neighbours = lock(&self.neighbours);
        match state {
            Some(state) => neighbours.insert(key, (mac, state)),
            None => neighbours.remove(&key),
        };
    }

    /// Returns what it was before.
    pub(super) fn link(&self, port: PortId, state: LinkState) -> LinkState {
        lock(&self.links).insert(port, state).unwrap_or_default()
    }

    /// Returns whether that is news.
    pub(super) fn steering(&self, error: Option<String>) -> bool {
        let mut steering = lock(&self.steering);
        let news = *steering != error;
        *steering = error;
        news
    }

    /// Returns whether that is news.
    pub(super) fn diversion(&self, problem: Option<String>) -> bool {
        let mut diversion = lock(&self.diversion);
        let news = *diversion != problem;
        *diversion = problem;
        news
    }

    /// Returns whether that is news.
    pub(super) fn alive(&self, worker: usize, alive: bool) -> bool {
        let mut dead = lock(&self.dead);
        let was_dead = dead.contains(&worker);
        if alive {
            dead.retain(|other| *other != worker);
        } else if !was_dead {
            dead.push(worker);
        }
        was_dead == alive
    }

    pub(super) fn run(&self, generation: Generation) {
        self.running.store(generation, Ordering::Release);
    }

    pub(super) fn followed(&self) {
        self.followed.store(true, Ordering::Relaxed);
    }
}
