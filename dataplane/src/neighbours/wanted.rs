//! Which neighbours levee has the kernel keep: those that stand, and those that packets asked for. Pure; time is handed in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::Key;

/// Neighbours kept because packets asked for them. A node's pods talk to some hundreds of hosts of their own subnet; an attacker
/// who scans a large one meets this bound, and not the kernel's (`gc_thresh3`, 1,024 by default, which managed entries
/// escape).
const ASKED_LIMIT: usize = 512;

/// Neighbours that stand, at most: gateways of a fabric of 2,000 nodes, and room. Past it, what is left out is resolved when a packet asks.
const STANDING_LIMIT: usize = 8192;

/// A neighbour that was asked for is asked for again at the earliest after this: workers repeat themselves.
const REPEAT: Duration = Duration::from_secs(1);

/// Requests that may pass at once, and that come free each second, over all neighbours: each costs a broadcast.
const BURST: u32 = 256;
const PER_SECOND: u32 = 128;

/// The set, and the budget for additions to it.
#[derive(Debug)]
pub struct Wanted {
    standing: BTreeSet<Key>,
    /// With the time of the last request.
    asked: BTreeMap<Key, Instant>,
    budget: u32,
    refilled: Instant,
}

impl Wanted {
    /// Nothing wanted, and a full budget.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Wanted { standing: BTreeSet::new(), asked: BTreeMap::new(), budget: BURST, refilled: now }
    }

    /// Whether the kernel is to keep it.
    #[must_use]
    pub fn contains(&self, key: &Key) -> bool {
        self.standing.contains(key) || self.asked.contains_key(key)
    }

    /// Everything that the kernel is to keep.
    pub fn iter(&self) -> impl Iterator<Item = Key> + '_ {
        self.standing.iter().chain(self.asked.keys().filter(|key| !self.standing.contains(key))).copied()
    }

    /// Takes a new standing set. Returns what is to be added and what to be dropped.
    pub fn stand(&mut self, mut standing: BTreeSet<Key>) -> (Vec<Key>, Vec<Key>) {
        if let Some(first_too_many) = standing.iter().nth(STANDING_LIMIT).copied() {
            standing.split_off(&first_too_many);
        }
        let add = standing.difference(&self.standing).filter(|key| !self.asked.contains_key(key)).copied().collect();
        let drop = self.standing.difference(&standing).filter(|key| !self.asked.contains_key(key)).copied().collect();
        self.standing = standing;
        (add, drop)
    }

    /// A packet asks. Returns whether the kernel is to be asked now, and whom it may forget instead.
    pub fn ask(&mut self, key: Key, now: Instant) -> (bool, Option<Key>) {
        if self.asked.get(&key).is_some_and(|last| now.duration_since(*last) < REPEAT) || !self.spend(now) {
            return (false, None);
        }
        self.asked.insert(key, now);
        let mut drop = None;
        if self.asked.len() > ASKED_LIMIT {
            // Rare, and a few hundred entries: a search costs less than a second index.
            let oldest = self.asked.iter().min_by_key(|(_, last)| **last).map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                self.asked.remove(&oldest);
                drop = Some(oldest).filter(|key| !self.standing.contains(key));
            }
        }
        (true, drop)
    }

    /// The kernel could not resolve it. Returns whether it is to be dropped: what stands is tried for ever.
    pub fn failed(&mut self, key: &Key) -> bool {
        self.asked.remove(key).is_some() && !self.standing.contains(key)
    }

    fn spend(&mut self, now: Instant) -> bool {
        let seconds = u32::try_from(now.duration_since(self.refilled).as_secs()).unwrap_or(u32::MAX);
        if seconds > 0 {
            self.budget = self.budget.saturating_add(seconds.saturating_mul(PER_SECOND)).min(BURST);
            self.refilled = now;
        }
        let left = self.budget.checked_sub(1);
        self.budget = left.unwrap_or(0);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::PortId;

    fn key(number: u32) -> Key {
        (PortId(0), std::net::Ipv4Addr::from_bits(number).into())
    }

    #[test]
    fn only_differences_are_done_and_what_was_asked_for_stays() {
        let now = Instant::now();
        let mut wanted = Wanted::new(now);
        assert_eq!(wanted.stand([key(1), key(2)].into()), (vec![key(1), key(2)], vec![]));
        assert_eq!(wanted.ask(key(3), now), (true, None));
        assert_eq!(wanted.stand([key(2), key(3)].into()), (vec![], vec![key(1)]));
        assert_eq!(wanted.stand(BTreeSet::new()), (vec![], vec![key(2)]));
        assert!(wanted.contains(&key(3)));
        assert!(wanted.failed(&key(3)));
        assert!(!wanted.contains(&key(3)));
    }

    #[test]
    fn no_program_makes_the_kernel_keep_any_number() {
        let mut wanted = Wanted::new(Instant::now());
        let (add, _) = wanted.stand((0..100_000).map(key).collect());
        assert_eq!(add.len(), STANDING_LIMIT);
        assert_eq!(wanted.iter().count(), STANDING_LIMIT);
    }

    #[test]
    fn what_stands_is_never_given_up() {
        let now = Instant::now();
        let mut wanted = Wanted::new(now);
        wanted.stand([key(1)].into());
        wanted.ask(key(1), now);
        assert!(!wanted.failed(&key(1)));
        assert!(wanted.contains(&key(1)));
        assert_eq!(wanted.iter().count(), 1);
    }

    #[test]
    fn a_repeated_question_waits() {
        let now = Instant::now();
        let mut wanted = Wanted::new(now);
        assert!(wanted.ask(key(1), now).0);
        assert!(!wanted.ask(key(1), now + REPEAT / 2).0);
        assert!(wanted.ask(key(1), now + REPEAT).0);
    }

    #[test]
    fn a_scan_is_bounded_in_rate_and_in_number() {
        let start = Instant::now();
        let mut wanted = Wanted::new(start);
        let passed = (0..10_000).filter(|number| wanted.ask(key(*number), start).0).count();
        assert_eq!(passed, BURST as usize);
        let mut dropped = 0;
        for second in 1..100u32 {
            for number in 0..1000 {
                dropped += usize::from(
                    wanted.ask(key(second * 1000 + number), start + Duration::from_secs(second.into())).1.is_some(),
                );
            }
        }
        assert_eq!(wanted.iter().count(), ASKED_LIMIT);
        assert_eq!(dropped, 99 * PER_SECOND as usize + BURST as usize - ASKED_LIMIT);
    }
}
