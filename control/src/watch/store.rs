//! What all sources together say now.
//!
//! Each source first lists everything it has, then says what changes; it may list anew at any time. Until a list is
//! complete, the one before it holds, so nothing vanishes while a source reads again (rule 15), and an object that is in the
//! old and the new list never does (rule 14). Nothing is compiled before every source has had its first full list.
//!
//! An object is judged when it comes in and forgotten but for what it amounts to. Which keys have something else under them
//! than when they were [told](Store::tell) last is remembered, so that one change costs one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use levee_api::diagnostic::Diagnostic;

use crate::model::{Judged, Key, Kind, Refusal, Register, Sourced};
use crate::notice::Notice;

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
}

impl Listing {
    fn keys(&self) -> impl Iterator<Item = &Key> {
        self.objects.keys().chain(self.refused.keys())
    }

    fn add(&mut self, judged: Arc<Judged>) {
        *self.counts.entry(judged.key().kind).or_default() += 1;
        self.objects.entry(judged.key().clone()).or_default().push(judged);
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
    /// Whether notices about no object may be others.
    noticed: bool,
}

impl Store {
    /// For so many sources, of which none has said anything.
    #[must_use]
    pub fn new(sources: usize) -> Self {
        let sources = (0..sources).map(|_| Source::default()).collect();
        Store { sources, untold: BTreeSet::new(), noticed: false }
    }

    /// Takes in what a source says. Returns whether what holds now may have changed.
    pub fn handle(&mut self, source: SourceId, event: Event) -> bool {
        let Some(source) = self.sources.get_mut(source) else { return false };
        match event {
            Event::ListBegins => {
                source.next = Some(Listing::default());
                false
            }
            Event::Listed(sourced) => {
                if let Some(next) = &mut source.next {
                    next.add(Arc::new(Judged::of(&sourced)));
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
                let Some(next) = source.next.take() else { return false };
                self.noticed = true;
                self.untold.extend(next.keys().cloned());
                if let Some(before) = source.current.replace(next) {
                    self.untold.extend(before.objects.into_keys().chain(before.refused.into_keys()));
                }
                source.failed.clear();
                true
            }
            Event::Changed(sourced) => match &mut source.current {
                Some(current) => {
                    let judged = Arc::new(Judged::of(&sourced));
                    let key = judged.key().clone();
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
