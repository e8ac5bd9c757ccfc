//! A program as a programmer keeps it: by key, services shared, so that a change costs what changes and not the whole.
//!
//! ```text
//!   Plan ──apply(&Change)──► Plan′        and the way back: a Change from Plan′ to Plan
//! ```
//!
//! `compile` says what changes; `program` keeps what is wanted and the way from there back to what runs. A [`Plan`] holds the
//! only copy of each service that this process has: everybody else holds references. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use levee_api::program::{Delta, Generation, Local, Program, Service, ServiceKey, Vip};
use levee_api::tunnel::Tunnel;

/// A whole program, without a generation. In canonical order by what it is made of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// See [`Program::local`].
    pub local: Arc<Local>,
    /// See [`Program::service_ranges`].
    pub service_ranges: Arc<Vec<IpNet>>,
    /// See [`Program::announce_in_term`].
    pub announce_in_term: bool,
    /// See [`Program::tunnels`].
    pub tunnels: Arc<Vec<Tunnel>>,
    /// VIPs, and whether each is announced.
    pub vips: BTreeMap<IpAddr, bool>,
    /// Services.
    pub services: BTreeMap<ServiceKey, Arc<Service>>,
}

/// What is another in one plan than in another: of each key that is named, what there is afterwards; `None`: nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// The new [`Plan::local`], if it is another.
    pub local: Option<Arc<Local>>,
    /// The new [`Plan::service_ranges`], if they are others.
    pub service_ranges: Option<Arc<Vec<IpNet>>>,
    /// The new [`Plan::announce_in_term`], if it is another.
    pub announce_in_term: Option<bool>,
    /// The new [`Plan::tunnels`], if they are others.
    pub tunnels: Option<Arc<Vec<Tunnel>>>,
    /// VIPs.
    pub vips: BTreeMap<IpAddr, Option<bool>>,
    /// Services.
    pub services: BTreeMap<ServiceKey, Option<Arc<Service>>>,
}

impl Plan {
    /// Makes a change. Returns the way back, which names only what really is another now.
    pub fn apply(&mut self, change: Change) -> Change {
        let Change { local, service_ranges, announce_in_term, tunnels, vips, services } = change;
        Change {
            local: local.filter(|local| *local != self.local).map(|local| std::mem::replace(&mut self.local, local)),
            service_ranges: service_ranges
                .filter(|ranges| *ranges != self.service_ranges)
                .map(|ranges| std::mem::replace(&mut self.service_ranges, ranges)),
            announce_in_term: announce_in_term
                .filter(|in_term| *in_term != self.announce_in_term)
                .map(|in_term| std::mem::replace(&mut self.announce_in_term, in_term)),
            tunnels: tunnels
                .filter(|tunnels| *tunnels != self.tunnels)
                .map(|tunnels| std::mem::replace(&mut self.tunnels, tunnels)),
            vips: replace(&mut self.vips, vips),
            services: replace(&mut self.services, services),
        }
    }

    /// What leads from this plan to another.
    #[must_use]
    pub fn to(&self, other: &Plan) -> Change {
        Change {
            local: (self.local != other.local).then(|| Arc::clone(&other.local)),
            service_ranges: (self.service_ranges != other.service_ranges).then(|| Arc::clone(&other.service_ranges)),
            announce_in_term: (self.announce_in_term != other.announce_in_term).then_some(other.announce_in_term),
            tunnels: (self.tunnels != other.tunnels).then(|| Arc::clone(&other.tunnels)),
            vips: difference(&self.vips, &other.vips),
            services: difference(&self.services, &other.services),
        }
    }

    /// The whole as it is sent.
    #[must_use]
    pub fn program(&self, generation: Generation) -> Program {
        Program {
            generation,
            local: Local::clone(&self.local),
            service_ranges: self.service_ranges.to_vec(),
            announce_in_term: self.announce_in_term,
            vips: self.vips.iter().map(|(address, announce)| Vip { address: *address, announce: *announce }).collect(),
            services: self.services.values().map(|service| Service::clone(service)).collect(),
            tunnels: self.tunnels.to_vec(),
        }
    }

    /// What a dataplane is told that runs `base`: `back` is the way from this plan to what it runs.
    #[must_use]
    pub fn delta(&self, back: &Change, base: Generation, generation: Generation) -> Delta {
        let mut delta = Delta {
            base,
            generation,
            local: back.local.is_some().then(|| Local::clone(&self.local)),
            service_ranges: back.service_ranges.is_some().then(|| self.service_ranges.to_vec()),
            announce_in_term: back.announce_in_term.is_some().then_some(self.announce_in_term),
            tunnels: back.tunnels.is_some().then(|| self.tunnels.to_vec()),
            ..Delta::default()
        };
        for address in back.vips.keys() {
            match self.vips.get(address) {
                Some(announce) => delta.upsert_vips.push(Vip { address: *address, announce: *announce }),
                None => delta.remove_vips.push(*address),
            }
        }
        for key in back.services.keys() {
            match self.services.get(key) {
                Some(service) => delta.upsert_services.push(Service::clone(service)),
                None => delta.remove_services.push(key.clone()),
            }
        }
        delta
    }
}

impl From<Program> for Plan {
    /// The generation is of no account.
    fn from(program: Program) -> Self {
        let Program { generation: _, local, service_ranges, announce_in_term, vips, services, tunnels } =
            program.canonical();
        Plan {
            local: Arc::new(local),
            service_ranges: Arc::new(service_ranges),
            announce_in_term,
            tunnels: Arc::new(tunnels),
            vips: vips.into_iter().map(|vip| (vip.address, vip.announce)).collect(),
            services: services.into_iter().map(|service| (service.key(), Arc::new(service))).collect(),
        }
    }
}

impl Change {
    /// Whether it names nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Change::default()
    }

    /// This one, and then `next`: where both name something, what `next` says of it.
    #[must_use]
    pub fn then(mut self, next: Change) -> Change {
        self.vips.extend(next.vips);
        self.services.extend(next.services);
        Change {
            local: next.local.or(self.local),
            service_ranges: next.service_ranges.or(self.service_ranges),
            announce_in_term: next.announce_in_term.or(self.announce_in_term),
            tunnels: next.tunnels.or(self.tunnels),
            vips: self.vips,
            services: self.services,
        }
    }

    /// Without what a plan is already: what is left is what it would really change.
    #[must_use]
    pub fn without(mut self, plan: &Plan) -> Change {
        self.vips.retain(|address, announce| plan.vips.get(address) != announce.as_ref());
        self.services.retain(|key, service| plan.services.get(key) != service.as_ref());
        Change {
            local: self.local.filter(|local| *local != plan.local),
            service_ranges: self.service_ranges.filter(|ranges| *ranges != plan.service_ranges),
            announce_in_term: self.announce_in_term.filter(|in_term| *in_term != plan.announce_in_term),
            tunnels: self.tunnels.filter(|tunnels| *tunnels != plan.tunnels),
            vips: self.vips,
            services: self.services,
        }
    }
}

/// Puts in what is new, and gives back what was there before, of what is another now.
fn replace<K: Ord + Clone, V: PartialEq>(
    map: &mut BTreeMap<K, V>,
    new: BTreeMap<K, Option<V>>,
) -> BTreeMap<K, Option<V>> {
    let mut back = BTreeMap::new();
    for (key, value) in new {
        if map.get(&key) == value.as_ref() {
            continue;
        }
        let old = match value {
            Some(value) => map.insert(key.clone(), value),
            None => map.remove(&key),
        };
        back.insert(key, old);
    }
    back
}

fn difference<K: Ord + Clone, V: PartialEq + Clone>(
    one: &BTreeMap<K, V>,
    other: &BTreeMap<K, V>,
) -> BTreeMap<K, Option<V>> {
    let gone = one.keys().filter(|key| !other.contains_key(*key)).map(|key| (key.clone(), None));
    let new = other.iter().filter(|(key, value)| one.get(*key) != Some(value));
    gone.chain(new.map(|(key, value)| (key.clone(), Some(value.clone())))).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use levee_api::net::{Family, Protocol};
    use proptest::prelude::*;

    fn plan() -> impl Strategy<Value = Plan> {
        let ranges = proptest::option::of(0..2u8);
        let vips = proptest::collection::btree_map(0..5u8, any::<bool>(), 0..4);
        let services = proptest::collection::btree_map(0..5u8, proptest::option::of(1..3u32), 0..4);
        let networks = proptest::option::of(1..3u32);
        (ranges, any::<bool>(), networks, vips, services).prop_map(|(ranges, announce_in_term, vni, vips, services)| {
            let service = |name: u8, timeout: Option<u32>| Service {
                name: format!("default/{name}"),
                protocol: Protocol::Tcp,
                family: Family::Ipv4,
                frontends: Vec::new(),
                backends: Vec::new(),
                affinity: timeout.map(|timeout_seconds| levee_api::program::Affinity { timeout_seconds }),
                quic: Vec::new(),
                flows: Default::default(),
            };
            let program = Program {
                announce_in_term,
                tunnels: vni.map(|vni| Tunnel { vni: Some(vni), ..Tunnel::default() }).into_iter().collect(),
                service_ranges: ranges.map(|last| IpNet::from(IpAddr::from([10, 96, last, 0]))).into_iter().collect(),
                vips: vips
                    .into_iter()
                    .map(|(last, announce)| Vip { address: IpAddr::from([192, 0, 2, last]), announce })
                    .collect(),
                services: services.into_iter().map(|(name, timeout)| service(name, timeout)).collect(),
                ..Program::default()
            };
            program.into()
        })
    }

    proptest! {
        #[test]
        fn a_change_leads_there_and_its_return_leads_back(one in plan(), other in plan()) {
            let mut walker = one.clone();
            let back = walker.apply(one.to(&other));
            prop_assert_eq!(&walker, &other);
            prop_assert_eq!(&back, &other.to(&one), "it names what changed and nothing else");
            walker.apply(back);
            prop_assert_eq!(&walker, &one);
        }

        #[test]
        fn two_changes_are_one_and_what_comes_to_nothing_is_nothing(a in plan(), b in plan(), c in plan()) {
            let both = a.to(&b).then(b.to(&c)).without(&a);
            prop_assert_eq!(&both, &a.to(&c));
            prop_assert!(a.to(&b).then(b.to(&a)).without(&a).is_empty());
        }

        #[test]
        fn the_delta_is_the_one_that_comparing_programs_gives(one in plan(), other in plan()) {
            let delta = other.delta(&other.to(&one), 1, 2);
            prop_assert_eq!(&delta, &Delta::between(&one.program(1), &other.program(2)));
            prop_assert_eq!(Plan::from(other.program(7)), other);
        }
    }
}
