//! What the leader remembers between a write and the watch that shows it. Pure: time is handed in.
//!
//! ```text
//!            base ──write──► (in flight) ──answer──► written
//!  watch:    base … base … base … base … base … written        or another's change
//!            └──────── overlay: as if it were written ────────┘└─ what the watch says
//! ```
//!
//! A write carries the resourceVersion that it was found from, its base, and changes nothing else. So as long as the watch shows the
//! base, the object may be as it was written, and is taken so: the address that it was given is not given to another. As soon
//! as the watch shows anything else, that is later.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pace::{Attempts, Bucket};
use super::plan::{Status, Target, Write};
use crate::model::{AddressPool, Balanced, Held, ObjectName};

/// Writes a second, and at once. client-go gives a controller 5 and 10, which would take hours where a pool is new to 25,000
/// Services; these take eight minutes, and a server ten milliseconds of each second.
const RATE: u32 = 50;
const BURST: u32 = 100;

/// A pool's counts follow its Services no faster.
const POOL_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Overlay {
    base: Box<str>,
    after: Status,
    /// There was no answer: it may or may not have been written. Its address stays reserved, and it is sent again.
    uncertain: bool,
    /// What was recorded as in force by it, of a pool.
    recorded: Option<AddressPool>,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Desk {
    overlays: BTreeMap<Target, Overlay>,
    /// What a server made of what it was asked to write, where that is something else: it does not know a field, say.
    made_of: BTreeMap<Target, (Status, Status)>,
    attempts: Attempts<Target>,
    bucket: Bucket,
}

impl Desk {
    pub(super) fn new(now: Instant) -> Self {
        Desk {
            overlays: BTreeMap::new(),
            made_of: BTreeMap::new(),
            attempts: Attempts::default(),
            bucket: Bucket::new(RATE, BURST, now),
        }
    }

    /// The cluster as it is when everything that was sent is done.
    pub(super) fn seen(&mut self, balanced: &Arc<Balanced>) -> Arc<Balanced> {
        self.overlays.retain(|target, overlay| version(balanced, target) == Some(&*overlay.base));
        self.made_of.retain(|target, _| version(balanced, target).is_some());
        if self.overlays.is_empty() {
            return Arc::clone(balanced);
        }
        let mut seen = Balanced::clone(balanced);
        for (target, overlay) in &self.overlays {
            match (target, &overlay.after) {
                (Target::Service(name), Status::Service(status)) => {
                    if let Some(service) = seen.services.get_mut(name) {
                        service.holds = if service.is_wanted { Held::of(status) } else { Vec::new() };
                        if !overlay.uncertain {
                            service.status = status.clone();
                        }
                    }
                }
                (Target::Pool(name), Status::Pool(status)) if !overlay.uncertain => {
                    if let Some(pool) = seen.pools.get_mut(name) {
                        pool.status = status.clone();
                        pool.recorded.clone_from(&overlay.recorded);
                    }
                }
                _ => {}
            }
        }
        Arc::new(seen)
    }

    /// Those of a plan that may be sent now, no more than so many; and when to look again if there are others.
    pub(super) fn due(&mut self, plan: Vec<Write>, most: usize, now: Instant) -> (Vec<Write>, Option<Instant>) {
        self.attempts.forget(now);
        let (mut due, mut next): (Vec<Write>, Option<Instant>) = (Vec::new(), None);
        for write in plan {
            // It was asked for, and this is what the server makes of it.
            if self
                .made_of
                .get(&write.target)
                .is_some_and(|(asked, made)| *asked == write.after && *made == write.before)
                || self.overlays.get(&write.target).is_some_and(|overlay| !overlay.uncertain)
            {
                continue;
            }
            let least = if matches!(write.target, Target::Pool(_)) { POOL_PAUSE } else { Duration::ZERO };
            let wait = self.attempts.not_before(&write.target, least).filter(|at| *at > now);
            let wait = match wait {
                Some(at) => Some(at),
                None if due.len() >= most => Some(now),
                None => self.bucket.take(now).err(),
            };
            match wait {
                Some(at) => next = Some(next.map_or(at, |next| next.min(at))),
                None => due.push(write),
            }
        }
        (due, next)
    }

    /// A write is being sent.
    pub(super) fn sent(&mut self, write: &Write, balanced: &Balanced, now: Instant) {
        self.attempts.made(&write.target, now);
        let recorded = match &write.target {
            Target::Pool(name) => balanced.pools.get(name).and_then(|pool| {
                let good = pool.in_force.clone().map(|good| AddressPool { withheld: BTreeMap::new(), ..good });
                good.or_else(|| pool.recorded.clone())
            }),
            Target::Service(_) => None,
        };
        let overlay =
            Overlay { base: write.resource_version.clone(), after: write.after.clone(), uncertain: false, recorded };
        self.overlays.insert(write.target.clone(), overlay);
    }

    /// It was written, and this is what the server made of it.
    pub(super) fn written(&mut self, write: &Write, made: Option<Status>) {
        match made {
            Some(made) if made != write.after => {
                self.made_of.insert(write.target.clone(), (write.after.clone(), made));
            }
            _ => drop(self.made_of.remove(&write.target)),
        }
    }

    /// There was no answer.
    pub(super) fn lost(&mut self, write: &Write) {
        if let Some(overlay) = self.overlays.get_mut(&write.target) {
            overlay.uncertain = true;
        }
    }

    /// It was not written, for certain.
    pub(super) fn refused(&mut self, write: &Write) {
        self.overlays.remove(&write.target);
    }

    /// How many writes the watch has not shown yet.
    pub(super) fn waiting(&self) -> usize {
        self.overlays.len()
    }
}

fn version<'a>(balanced: &'a Balanced, target: &Target) -> Option<&'a str> {
    let identity = match target {
        Target::Service(name) => balanced.services.get(name).map(|service| &service.identity),
        Target::Pool(name) => balanced.pools.get(name).map(|pool| &pool.identity),
    };
    identity?.resource_version.as_deref()
}

/// Services of which a watch has not shown yet what a list has: what was written before that list may still be unknown.
pub(super) fn behind<'a>(
    balanced: &'a Balanced,
    states: &'a BTreeMap<ObjectName, String>,
) -> impl Iterator<Item = &'a ObjectName> {
    let lags = |(name, state): &(&ObjectName, &String)| {
        let seen = balanced.services.get(*name).and_then(|service| service.identity.resource_version.as_deref());
        match (seen.map(str::parse::<u64>), state.parse::<u64>()) {
            // Versions are numbers that grow (etcd's revisions; since Kubernetes 1.35 that is part of the API).
            (Some(Ok(seen)), Ok(state)) => seen < state,
            (Some(_), _) => seen != Some(state.as_str()),
            (None, _) => !balanced.refusals.iter().any(|refusal| {
                refusal.key.namespace.as_ref() == Some(&name.namespace) && refusal.key.name == name.name
            }),
        }
    };
    states.iter().filter(lags).map(|(name, _)| name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use levee_api::net::Family;

    use super::*;
    use crate::allocate::allocate;
    use crate::model::{Identity, LoadBalancer, Pool};
    use crate::publish::plan::{Announcers, plan};

    fn name(name: &str) -> ObjectName {
        ObjectName { namespace: "default".into(), name: name.into() }
    }

    fn service(version: &str) -> LoadBalancer {
        let identity = Identity { resource_version: Some(version.into()), live: true, ..Identity::default() };
        let families = [Family::Ipv4].into();
        LoadBalancer { identity, is_wanted: true, families, needs_every_family: true, ..LoadBalancer::default() }
    }

    /// One address, and these Services.
    fn balanced(services: &[(&str, LoadBalancer)]) -> Arc<Balanced> {
        let ranges = ["192.0.2.1".parse().unwrap()].into();
        let pool = AddressPool { ranges, auto_assign: true, ..AddressPool::default() };
        Arc::new(Balanced {
            services: services.iter().map(|(text, service)| (name(text), service.clone())).collect(),
            pools: [("a".to_owned(), Pool { in_force: Some(pool), ..Pool::default() })].into(),
            refusals: Vec::new(),
        })
    }

    fn planned(desk: &mut Desk, balanced: &Arc<Balanced>) -> Vec<Write> {
        let seen = desk.seen(balanced);
        plan(&seen, &allocate(&seen, false), &Announcers::Unknown("?".into()), false, "2026-11-20T09:00:00Z")
    }

    fn addresses(write: &Write) -> usize {
        let Status::Service(status) = &write.after else { panic!("{write:?}") };
        status.load_balancer.ingress.len()
    }

    #[test]
    fn an_address_under_way_is_not_given_to_another() {
        let now = Instant::now();
        let mut desk = Desk::new(now);
        let before = balanced(&[("web", service("1"))]);
        let writes = planned(&mut desk, &before);
        desk.sent(&writes[0], &before, now);
        // The watch shows another Service, whose name comes first, and not yet what was written.
        let other = balanced(&[("web", service("1")), ("a", service("2"))]);
        for lost in [false, true] {
            if lost {
                desk.lost(&writes[0]);
            }
            let plan = planned(&mut desk, &other);
            let for_other = plan.iter().find(|write| write.target == Target::Service(name("a"))).unwrap();
            assert_eq!(addresses(for_other), 0, "the one address is under way to `web`");
            let again = plan.iter().any(|write| write.target == Target::Service(name("web")));
            assert_eq!(again, lost, "what was lost is sent again");
        }
        // It was refused for certain: the first by name gets it.
        desk.refused(&writes[0]);
        let plan = planned(&mut desk, &other);
        assert_eq!((addresses(&plan[0]), plan[0].target.clone()), (1, Target::Service(name("a"))));
    }

    #[test]
    fn what_the_watch_shows_counts_as_soon_as_it_is_anything_else() {
        let now = Instant::now();
        let mut desk = Desk::new(now);
        let before = balanced(&[("web", service("1"))]);
        let writes = planned(&mut desk, &before);
        desk.sent(&writes[0], &before, now);
        desk.written(&writes[0], Some(writes[0].after.clone()));
        assert_eq!((desk.waiting(), planned(&mut desk, &before).len()), (1, 0));
        // Somebody has taken it away again.
        let after = balanced(&[("web", service("3"))]);
        let again = planned(&mut desk, &after);
        assert_eq!((desk.waiting(), &*again[0].resource_version), (0, "3"));
    }

    #[test]
    fn what_a_server_makes_of_a_status_is_not_sent_for_ever() {
        let now = Instant::now();
        let mut desk = Desk::new(now);
        let before = balanced(&[("web", service("1"))]);
        let writes = planned(&mut desk, &before);
        let (due, _) = desk.due(writes, 8, now);
        desk.sent(&due[0], &before, now);
        // A server that has no conditions.
        let Status::Service(mut made) = due[0].after.clone() else { panic!() };
        made.conditions.clear();
        desk.written(&due[0], Some(Status::Service(made.clone())));
        let after = LoadBalancer { holds: Held::of(&made), status: made, ..service("2") };
        let shown = balanced(&[("web", after)]);
        let again = planned(&mut desk, &shown);
        assert_eq!(again.len(), 1);
        assert_eq!(desk.due(again, 8, now), (Vec::new(), None));
    }

    #[test]
    fn a_quarrel_is_slowed_down_and_a_plan_is_sent_in_pieces() {
        let now = Instant::now();
        let mut desk = Desk::new(now);
        let mut sent = 0;
        for version in 0..20 {
            let shown = balanced(&[("web", service(&version.to_string()))]);
            let plan = planned(&mut desk, &shown);
            let (due, next) = desk.due(plan, 8, now);
            for write in &due {
                desk.sent(write, &shown, now);
                sent += 1;
            }
            assert_eq!(due.is_empty(), next.is_some());
        }
        assert_eq!(sent, 4, "and then it waits");

        let names: Vec<String> = (0..300).map(|number| format!("s{number}")).collect();
        let many: Vec<(&str, LoadBalancer)> = names.iter().map(|name| (name.as_str(), service("1"))).collect();
        let many = balanced(&many);
        let plan = planned(&mut desk, &many);
        let (due, next) = desk.due(plan, 32, now);
        assert_eq!((due.len(), next), (32, Some(now)));
        let plan = planned(&mut desk, &many);
        let (due, next) = desk.due(plan, 300, now);
        assert!(due.len() < 100 && next.is_some_and(|next| next > now), "{} {next:?}", due.len());
    }

    #[test]
    fn a_new_leader_waits_for_what_a_list_has() {
        let states = |version: &str| BTreeMap::from([(name("web"), version.to_owned())]);
        let shown = balanced(&[("web", service("10"))]);
        assert_eq!(behind(&shown, &states("9")).count(), 0);
        assert_eq!(behind(&shown, &states("10")).count(), 0);
        assert_eq!(behind(&shown, &states("11")).count(), 1, "10 is later than 9, and 11 than 10");
        assert_eq!(behind(&balanced(&[]), &states("1")).count(), 1);
    }
}
