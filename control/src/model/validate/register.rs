//! The cluster as it stands, kept up to date as objects come and go.
//!
//! What is set under one key concerns that object alone; [`Register::settle`] then looks at whom it concerns besides: those
//! that want the same address, port or prefix. A Node that says again what it said, as each does every few seconds, or a slice
//! that comes a second time, concerns nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use levee_api::diagnostic::Diagnostic;

use super::conflicts::Services;
use super::judged::{Judged, Sound};
use super::pools::Pools;
use super::{About, Findings};
use crate::model::{Key, Kind, LoadBalancer, ObjectName, Pod, Refusal, ValidatedCluster};
use crate::notice::Notice;

/// What is another in a cluster than it was.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Services that are others, or whose slices are.
    pub services: BTreeSet<ObjectName>,
    /// Nodes.
    pub nodes: BTreeSet<String>,
    /// Pods.
    pub pods: BTreeSet<ObjectName>,
    /// Ranges of ClusterIPs.
    pub service_cidrs: bool,
    /// What concerns addresses of load balancers.
    pub balanced: bool,
    /// What is worth telling.
    pub notices: bool,
}

impl Changes {
    /// Whether nothing is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }
}

/// Which judgement findings come from, in the order in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// There are several objects of one key.
    Doubles,
    /// The object by itself.
    Alone,
    /// The object against others.
    Conflicts,
}

/// What was found, by whom it is about: only of those about whom there is something.
#[derive(Debug, Default)]
pub(super) struct Book {
    refused: BTreeMap<(Stage, Key), Vec<Diagnostic>>,
    notices: BTreeMap<(Stage, Key), Vec<Notice>>,
    refusals: BTreeMap<(Stage, Key), Vec<Refusal>>,
    /// Whether notices or refusals have changed since the last look.
    fresh: bool,
}

impl Book {
    /// Puts findings in the place of those that there were.
    pub(super) fn enter(&mut self, stage: Stage, key: &Key, Findings { refused, notices, refusals }: Findings) {
        let place = (stage, key.clone());
        put(&mut self.refused, &place, refused);
        self.fresh |= put(&mut self.notices, &place, notices);
        self.fresh |= put(&mut self.refusals, &place, refusals);
    }
}

/// Puts a list in its place, if there is anything in it. Returns whether there was another.
fn put<K: Ord + Clone, V: PartialEq>(map: &mut BTreeMap<K, Vec<V>>, key: &K, list: Vec<V>) -> bool {
    if map.get(key).map_or(&[][..], Vec::as_slice) == list {
        return false;
    }
    if list.is_empty() {
        map.remove(key);
    } else {
        map.insert(key.clone(), list);
    }
    true
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Register {
    cluster: ValidatedCluster,
    /// The Service that each slice is filed under.
    filed: BTreeMap<ObjectName, ObjectName>,
    ranges: BTreeMap<String, Vec<IpNet>>,
    services: Services,
    pools: Pools,
    book: Book,
    /// Notices about no object.
    notices: Vec<Notice>,
    changes: Changes,
}

impl Register {
    /// What there is under a key now: nothing, one object, or several, of which the first by place is taken. `unreadable` is
    /// told of an object that is there and could not be read.
    pub fn set(&mut self, key: &Key, objects: impl IntoIterator<Item = Arc<Judged>>, unreadable: Option<&Refusal>) {
        let mut objects: Vec<Arc<Judged>> = objects.into_iter().collect();
        objects.sort_by(|a, b| a.order().cmp(&b.order()));
        let mut objects = objects.into_iter();
        let first = objects.next();
        let mut doubles = Findings::default();
        doubles.notices.extend(unreadable.map(Refusal::notice));
        doubles.refusals.extend(unreadable.cloned());
        for double in objects {
            let first = first.as_ref().map_or_else(String::new, |first| first.place());
            About { findings: &mut doubles, subject: double.subject() }.refuse_with(
                None,
                format!("the same object is at {first} already"),
                "remove one of the two, or name it otherwise",
            );
        }
        self.book.enter(Stage::Doubles, key, doubles);
        let alone = first.as_ref().map_or_else(Findings::default, |first| first.findings.clone());
        self.book.enter(Stage::Alone, key, alone);
        self.file(key, first);
    }

    /// Notices about no object, in the place of those that there were.
    pub fn note(&mut self, notices: Vec<Notice>) {
        self.book.fresh |= self.notices != notices;
        self.notices = notices;
    }

    fn file(&mut self, key: &Key, judged: Option<Arc<Judged>>) {
        let sound = judged.as_ref().map_or(&Sound::Nothing, |judged| &judged.sound);
        match key.kind {
            Kind::Service => {
                let (candidate, balancer) = match (sound, &judged) {
                    (Sound::Service { service, balancer, .. }, Some(judged)) => {
                        (Some((Arc::clone(service), Arc::clone(judged))), balancer.as_deref())
                    }
                    _ => (None, None),
                };
                self.services.set(key, candidate);
                self.file_balancer(ObjectName::named(key), balancer);
            }
            Kind::EndpointSlice => self.file_slice(key, sound),
            Kind::Node => {
                let node = match sound {
                    Sound::Node(node) => Some(node),
                    _ => None,
                };
                let before = self.cluster.nodes.get(&key.name);
                if before == node {
                    return;
                }
                self.services.ground(&key.name, before, node);
                self.pools.ground_has_changed();
                self.changes.nodes.insert(key.name.clone());
                match node {
                    Some(node) => drop(self.cluster.nodes.insert(key.name.clone(), node.clone())),
                    None => drop(self.cluster.nodes.remove(&key.name)),
                }
            }
            Kind::Pod => {
                let pod = match sound {
                    Sound::Pod(pod) => Some(pod),
                    _ => None,
                };
                self.file_pod(ObjectName::named(key), pod);
            }
            Kind::ServiceCidr => {
                let ranges = match sound {
                    Sound::Ranges(ranges) => ranges.clone(),
                    _ => Vec::new(),
                };
                if self.ranges.get(&key.name).map_or(&[][..], Vec::as_slice) == ranges {
                    return;
                }
                self.changes.service_cidrs = true;
                self.ranges.insert(key.name.clone(), ranges);
                self.pools.ground_has_changed();
                self.cluster.service_cidrs = self.ranges.values().flatten().copied().collect();
            }
            Kind::AddressPool => self.pools.set(key, judged.filter(|judged| matches!(judged.sound, Sound::Pool(..)))),
        }
    }

    fn file_slice(&mut self, key: &Key, sound: &Sound) {
        let name = ObjectName::named(key);
        let new = match sound {
            Sound::Slice(service, slice) => Some((service, slice)),
            _ => None,
        };
        let before = self.filed.get(&name);
        // A slice that changes its Service leaves the old one.
        if let Some(before) = before.filter(|before| new.is_none_or(|(service, _)| service != *before)) {
            if let Some(slices) = self.cluster.slices.get_mut(before) {
                slices.retain(|(slice, _)| **slice != *name.name);
                if slices.is_empty() {
                    self.cluster.slices.remove(before);
                }
            }
            self.changes.services.insert(before.clone());
            if new.is_none() {
                self.filed.remove(&name);
            }
        }
        let Some((service, slice)) = new else { return };
        let slices = self.cluster.slices.entry(service.clone()).or_default();
        match slices.binary_search_by(|(other, _)| (**other).cmp(name.name.as_str())) {
            Ok(place) => {
                let Some((_, there)) = slices.get_mut(place) else { return };
                if there == slice {
                    return;
                }
                *there = Arc::clone(slice);
            }
            Err(place) => slices.insert(place, (name.name.as_str().into(), Arc::clone(slice))),
        }
        self.changes.services.insert(service.clone());
        if self.filed.get(&name) != Some(service) {
            self.filed.insert(name, service.clone());
        }
    }

    fn file_balancer(&mut self, name: ObjectName, balancer: Option<&LoadBalancer>) {
        if self.cluster.balanced.services.get(&name) == balancer {
            return;
        }
        self.changes.balanced = true;
        // Copied first where somebody else still holds it.
        let services = &mut Arc::make_mut(&mut self.cluster.balanced).services;
        match balancer {
            Some(balancer) => drop(services.insert(name, balancer.clone())),
            None => drop(services.remove(&name)),
        }
    }

    fn file_pod(&mut self, name: ObjectName, pod: Option<&Pod>) {
        if self.cluster.pods.get(&name) == pod {
            return;
        }
        match pod {
            Some(pod) => drop(self.cluster.pods.insert(name.clone(), pod.clone())),
            None => drop(self.cluster.pods.remove(&name)),
        }
        self.changes.pods.insert(name);
    }

    /// Judges against each other those that a change since the last time concerns.
    pub fn settle(&mut self) {
        let changed = self.services.settle(&mut self.cluster.services, &mut self.book);
        self.changes.services.extend(changed);
        let pools = self.pools.settle(&self.cluster.nodes, &self.cluster.service_cidrs, &mut self.book);
        if let Some(pools) = pools.filter(|pools| *pools != self.cluster.balanced.pools) {
            Arc::make_mut(&mut self.cluster.balanced).pools = pools;
            self.changes.balanced = true;
        }
        if std::mem::take(&mut self.book.fresh) {
            let mut notices: Vec<Notice> =
                self.notices.iter().chain(self.book.notices.values().flatten()).cloned().collect();
            notices.sort();
            notices.dedup();
            if notices != self.cluster.notices {
                self.cluster.notices = notices;
                self.changes.notices = true;
            }
            let mut refusals: Vec<Refusal> = self.book.refusals.values().flatten().cloned().collect();
            refusals.sort();
            if refusals != self.cluster.balanced.refusals {
                Arc::make_mut(&mut self.cluster.balanced).refusals = refusals;
                self.changes.balanced = true;
            }
        }
    }

    /// Everything that is sound, as it was when [`Register::settle`] was called last.
    #[must_use]
    pub fn cluster(&self) -> &ValidatedCluster {
        &self.cluster
    }

    /// The same, for good.
    #[must_use]
    pub fn into_cluster(self) -> ValidatedCluster {
        self.cluster
    }

    /// What was left out of files, and why; see [`Validation::refused`](super::Validation::refused).
    #[must_use]
    pub fn refused(&self) -> Vec<Diagnostic> {
        self.book.refused.values().flatten().cloned().collect()
    }

    /// What is another since this was asked last.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }
}
