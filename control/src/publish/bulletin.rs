//! Events that are still to be told. Pure: time is handed in.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::event::Event;
use super::pace::Bucket;

/// Events a second, and at once: as many as client-go's recorders tell of one kind in one place.
const RATE: u32 = 10;
const BURST: u32 = 100;
/// Events that wait. Beyond, the newest are not told: a status says the same, and for longer.
const MOST: usize = 1_000;
/// A refusal that stands is told again, since events are forgotten by API servers (`--event-ttl`, an hour by default).
const AGAIN: Duration = Duration::from_secs(30 * 60);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Bulletin {
    /// With the name that each is told under.
    waiting: VecDeque<(String, Event)>,
    bucket: Bucket,
    /// Refusals that stand, and when they were told.
    standing: BTreeMap<String, Instant>,
    /// For names that no other event has.
    number: u64,
    pub(super) dropped: u64,
}

impl Bulletin {
    /// `seed` tells this process's events from those of others about the same object.
    pub(super) fn new(seed: u64, now: Instant) -> Self {
        Bulletin {
            waiting: VecDeque::new(),
            bucket: Bucket::new(RATE, BURST, now),
            standing: BTreeMap::new(),
            number: seed,
            dropped: 0,
        }
    }

    /// Something has happened.
    pub(super) fn happened(&mut self, events: Vec<Event>) {
        for event in events {
            self.number = self.number.wrapping_add(1);
            let name = event.name(self.number);
            self.add(name, event);
        }
    }

    /// These are refused. Each is told once, and again from time to time as long as it is.
    pub(super) fn refused(&mut self, events: impl Iterator<Item = Event>, now: Instant) {
        let mut standing = BTreeMap::new();
        for event in events {
            let name = format!("{}/{}", event.about.namespace(), event.name_by_content());
            let told = self.standing.get(&name).copied().filter(|told| now.saturating_duration_since(*told) < AGAIN);
            standing.insert(name, told.unwrap_or(now));
            if told.is_none() {
                self.add(event.name_by_content(), event);
            }
        }
        self.standing = standing;
    }

    fn add(&mut self, name: String, event: Event) {
        if self.waiting.len() < MOST {
            self.waiting.push_back((name, event));
        } else {
            self.dropped += 1;
        }
    }

    /// The next one to tell; or when there will be one.
    pub(super) fn next(&mut self, now: Instant) -> Result<(String, Event), Option<Instant>> {
        if self.waiting.is_empty() {
            return Err(None);
        }
        self.bucket.take(now).map_err(Some)?;
        self.waiting.pop_front().ok_or(None)
    }

    /// Another leader tells what there is to tell.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
        self.standing.clear();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::model::Kind;
    use crate::publish::event::{About, Weight};

    fn event(name: &str, message: &str) -> Event {
        let about = About::of(Kind::EndpointSlice, Some("default"), name, Some("u"));
        Event { about, weight: Weight::Warning, reason: "Refused", message: message.to_owned() }
    }

    fn told(bulletin: &mut Bulletin, now: Instant) -> usize {
        std::iter::from_fn(|| bulletin.next(now).ok()).count()
    }

    #[test]
    fn a_refusal_is_told_once_and_again_after_a_while() {
        let start = Instant::now();
        let mut bulletin = Bulletin::new(0, start);
        for _ in 0..3 {
            bulletin.refused([event("a", "no"), event("b", "no")].into_iter(), start);
        }
        assert_eq!(told(&mut bulletin, start), 2);
        bulletin.refused([event("a", "another reason")].into_iter(), start);
        assert_eq!(told(&mut bulletin, start), 1);
        bulletin.refused([event("a", "another reason"), event("b", "no")].into_iter(), start);
        assert_eq!(told(&mut bulletin, start), 1, "b was mended, and is refused anew");
        bulletin.refused([event("a", "another reason")].into_iter(), start + AGAIN);
        assert_eq!(told(&mut bulletin, start + AGAIN), 1);
    }

    #[test]
    fn a_flood_is_bounded_in_number_and_in_speed() {
        let start = Instant::now();
        let mut bulletin = Bulletin::new(7, start);
        bulletin.happened((0..5_000).map(|number| event("a", &number.to_string())).collect());
        assert_eq!((bulletin.dropped, told(&mut bulletin, start)), (4_000, 100));
        assert_eq!(told(&mut bulletin, start + Duration::from_secs(1)), 10);
        let (one, other) =
            (bulletin.next(start + Duration::from_secs(2)), bulletin.next(start + Duration::from_secs(2)));
        assert_ne!(one.expect("there").0, other.expect("there").0, "each has a name of its own");
    }
}
