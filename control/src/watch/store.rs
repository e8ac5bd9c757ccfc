//! What all sources together say now.
//!
//! Each source first lists everything it has, then says what changes; it may list anew at any time. Until a list is
//! complete, the one before it holds, so nothing vanishes while a source reads again (rule 15), and an object that is in the
//! old and the new list never does (rule 14). Nothing is compiled before every source has had its first full list.
//!
//! An object is judged when it comes in and forgotten but for what it amounts to. Which keys have something else under them
//! than when they were [told](Store::tell) last is remembered, so that one change costs one; an object that is listed again, as
//! all are after 410, is no change.
//!
//! When endpoints changed is what their controller says in an annotation; who measures how long it takes until packets follow
//! begins there (rule 40). As with kube-proxy, only what changes endpoints counts, and only from [`Store::count_triggers`] on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use levee_api::diagnostic::Diagnostic;

use crate::model::{Judged, Key, Kind, Object, Refusal, Register, Sourced};
use crate::notice::Notice;

/// When what made a slice change happened.
const TRIGGER: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// A place that objects come from, by its index in the configuration.
pub type SourceId = usize;

/// What a source says.
#[derive(Debug, Clone)]
pub enum Event {
    /// A whole list begins, which will replace what the source has said so far.
    ListBegins,
    /// An object of the list.
    Listed(Box<Sourced>),
    /// Something worth telling about the list.
    Noticed(Notice),
    /// The list is whole, and holds from now on.
    ListComplete,
    /// An object is new or changed.
    Changed(Box<Sourced>),
    /// An object is gone.
    Gone(Key),
    /// An object, listed or changed, cannot be read: it is as if it were not there, and the others are unaffected.
    Refused(Refusal),
    /// The source cannot say what there is; what it said last holds.
    Failed(Vec<Diagnostic>),
    /// The source can say again what there is, and nothing was missed meanwhile.
    Recovered,
}

/// What a source listed. A key may be there more than once, in several files: to judge that is the model's business.
#[derive(Debug, Default)]
struct Listing {
    objects: BTreeMap<Key, Vec<Arc<Judged>>>,
    notices: Vec<Notice>,
    /// Objects that cannot be read.
    refused: BTreeMap<Key, Refusal>,
    /// How many objects there are.
    counts: BTreeMap<Kind, usize>,
    /// Of slices in a list that is being received: what made them change, of those that may have changed since triggers count.
    triggers: BTreeMap<Key, SystemTime>,
}

impl Listing {
    fn add(&mut self, judged: Arc<Judged>) {
        *self.counts.entry(judged.key().kind).or_default() += 1;
        self.objects.entry(judged.key().clone()).or_default().push(judged);
    }

    /// Puts what was there before in the place of what says the same, and returns what says something else.
    fn settle(&mut self, before: Listing) -> BTreeSet<Key> {
        let Listing { objects, mut refused, .. } = before;
        let mut others: BTreeSet<Key> = self.objects.keys().cloned().collect();
        for (key, old) in objects {
            match self.objects.get_mut(&key) {
                Some(new) if *new == old => {
                    others.remove(&key);
                    *new = old;
                }
                _ => drop(others.insert(key)),
            }
        }
        for (key, refusal) in &self.refused {
            if refused.remove(key).as_ref() != Some(refusal) {
                others.insert(key.clone());
            }
        }
        others.extend(refused.into_keys());
        others
    }

    /// Returns whether there was something.
    fn remove(&mut self, key: &Key) -> bool {
        let was_refused = self.refused.remove(key).is_some();
        let Some(objects) = self.objects.remove(key) else { return was_refused };
        if let Some(count) = self.counts.get_mut(&key.kind) {
            *count -= objects.len();
        }
        true
    }
}

/// One source's objects.
#[derive(Debug, Default)]
struct Source {
    /// What holds; `None` before the first list was complete.
    current: Option<Listing>,
    /// The list that is being received.
    next: Option<Listing>,
    failed: Vec<Diagnostic>,
}

/// All sources' objects.
#[derive(Debug)]
pub struct Store {
    sources: Vec<Source>,
    /// What may be something else than when it was told last.
    untold: BTreeSet<Key>,
    /// Names of nodes that objects share.
    names: BTreeSet<Arc<str>>,
    /// Whether notices about no object may be others.
    noticed: bool,
    /// From when on triggers count, if they do.
    since: Option<SystemTime>,
    /// Those of changes that were taken in.
    triggers: Vec<SystemTime>,
}

impl Store {
    /// For so many sources, of which none has said anything.
    #[must_use]
    pub fn new(sources: usize) -> Self {
        let sources = (0..sources).map(|_| Source::default()).collect();
        let (untold, names, triggers) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        Store { sources, untold, names, noticed: false, since: None, triggers }
    }

    /// What triggered changes is remembered from now on, if it happened after this.
    pub fn count_triggers(&mut self, since: SystemTime) {
        self.since = Some(since);
    }

    /// When those changes of endpoints were triggered that were taken in since this was asked last.
    pub fn take_triggers(&mut self) -> Vec<SystemTime> {
        std::mem::take(&mut self.triggers)
    }

    /// Takes in what a source says. Returns whether what holds now may have changed.
    pub fn handle(&mut self, source: SourceId, event: Event) -> bool {
        let Some(source) = self.sources.get_mut(source) else { return false };
        let trigger = match &event {
            Event::Listed(sourced) | Event::Changed(sourced) => self.since.and_then(|since| trigger(sourced, since)),
            _ => None,
        };
        match event {
            Event::ListBegins => {
                source.next = Some(Listing::default());
                false
            }
            Event::Listed(sourced) => {
                if let Some(next) = &mut source.next {
                    next.triggers.extend(trigger.map(|trigger| (sourced.key(), trigger)));
                    next.add(judge(&sourced, &mut self.names));
                }
                false
            }
            Event::Noticed(notice) => {
                if let Some(next) = &mut source.next {
                    next.notices.push(notice);
                }
                false
            }
            Event::ListComplete => {
                let Some(mut next) = source.next.take() else { return false };
                self.noticed = true;
                let is_first = source.current.is_none();
                let others = next.settle(source.current.take().unwrap_or_default());
                let triggers = std::mem::take(&mut next.triggers).into_iter().filter(|(key, _)| others.contains(key));
                // What was there when we came was not waiting for us.
                self.triggers.extend(triggers.map(|(_, trigger)| trigger).filter(|_| !is_first));
                self.untold.extend(others);
                source.current = Some(next);
                self.names.retain(|name| Arc::strong_count(name) > 1);
                source.failed.clear();
                true
            }
            Event::Changed(sourced) => match &mut source.current {
                Some(current) => {
                    let judged = judge(&sourced, &mut self.names);
                    let key = judged.key().clone();
                    if current.objects.get(&key).is_some_and(|before| before.as_slice() == [Arc::clone(&judged)]) {
                        return false;
                    }
                    self.triggers.extend(trigger);
                    current.remove(&key);
                    current.add(judged);
                    self.untold.insert(key);
                    true
                }
                None => false,
            },
            Event::Gone(key) => {
                let was_there = source.current.as_mut().is_some_and(|current| current.remove(&key));
                if was_there {
                    self.untold.insert(key);
                }
                was_there
            }
            Event::Refused(refusal) => match (&mut source.next, &mut source.current) {
                (Some(next), _) => {
                    next.refused.insert(refusal.key.clone(), refusal);
                    false
                }
                (None, Some(current)) => {
                    current.remove(&refusal.key);
                    self.untold.insert(refusal.key.clone());
                    current.refused.insert(refusal.key.clone(), refusal);
                    true
                }
                (None, None) => false,
            },
            Event::Failed(mistakes) => {
                source.next = None;
                source.failed = mistakes;
                true
            }
            Event::Recovered => !std::mem::take(&mut source.failed).is_empty(),
        }
    }

    /// Which sources have had their first full list.
    #[must_use]
    pub fn completeness(&self) -> Vec<bool> {
        self.sources.iter().map(|source| source.current.is_some()).collect()
    }

    /// Whether every source has had its first full list (rule 15).
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.sources.iter().all(|source| source.current.is_some())
    }

    /// What holds now.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<Judged>> {
        self.current().flat_map(|listing| listing.objects.values().flatten())
    }

    /// How many objects there are of a kind, good and bad ones.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        self.current().filter_map(|listing| listing.counts.get(&kind)).sum()
    }

    /// Tells a register, which this store alone tells, what is something else than the last time. Returns under how many keys.
    pub fn tell(&mut self, register: &mut Register) -> usize {
        let untold = std::mem::take(&mut self.untold);
        for key in &untold {
            let objects = self.current().filter_map(|listing| listing.objects.get(key)).flatten();
            let refused = self.current().find_map(|listing| listing.refused.get(key));
            register.set(key, objects.cloned(), refused);
        }
        if std::mem::take(&mut self.noticed) {
            register.note(self.current().flat_map(|listing| listing.notices.iter().cloned()).collect());
        }
        untold.len()
    }

    /// What is worth telling about it.
    #[must_use]
    pub fn notices(&self) -> Vec<Notice> {
        let told = self.current().flat_map(|listing| listing.notices.iter().cloned());
        let notices: BTreeSet<Notice> = told.chain(self.refusals().map(Refusal::notice)).collect();
        notices.into_iter().collect()
    }

    /// Objects of live clusters that cannot be read.
    pub fn refusals(&self) -> impl Iterator<Item = &Refusal> {
        self.current().flat_map(|listing| listing.refused.values())
    }

    /// Which sources cannot say what there is now.
    #[must_use]
    pub fn failing(&self) -> Vec<bool> {
        self.sources.iter().map(|source| !source.failed.is_empty()).collect()
    }

    /// Why sources cannot say what there is now.
    #[must_use]
    pub fn failures(&self) -> Vec<Diagnostic> {
        self.sources.iter().flat_map(|source| &source.failed).cloned().collect()
    }

    fn current(&self) -> impl Iterator<Item = &Listing> {
        self.sources.iter().filter_map(|source| source.current.as_ref())
    }
}

fn judge(sourced: &Sourced, names: &mut BTreeSet<Arc<str>>) -> Arc<Judged> {
    let mut judged = Judged::of(sourced);
    judged.share(names);
    Arc::new(judged)
}

/// What triggered a slice's last change, if that was after a time.
fn trigger(sourced: &Sourced, since: SystemTime) -> Option<SystemTime> {
    let text = matches!(sourced.object, Object::EndpointSlice(_))
        .then(|| sourced.object.meta().annotations.get(TRIGGER))??;
    humantime::parse_rfc3339(text).ok().filter(|trigger| *trigger > since)
}
