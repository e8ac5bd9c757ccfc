//! AddressPools against each other, and against what else has addresses.
//!
//! ```text
//!  spec as before ────────────────────────────► in force: nobody's mistake takes away what is given to Services
//!  spec changed ──► in nobody's way? ──yes────► in force
//!                        └──no──► what was in force before stays, and the reason is told
//!  new pool ──────► in nobody's way? ──yes────► in force
//!                        └──no──► refused
//! ```
//!
//! What was in force before is in the pool's status, so that a restart of everything does not lose it. A node that gets an
//! address inside of a pool in force cannot undo the pool either: that address is withheld.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

use super::judged::{Judged, Sound};
use super::pool::{Candidate, Wrong};
use super::register::{Book, Stage};
use super::{About, Findings};
use crate::model::external::AddressRange;
use crate::model::{AddressPool, Key, Kind, Node, Place, Pool};

/// After every other address in the order of `IpAddr`.
const GREATEST: IpAddr = IpAddr::V6(Ipv6Addr::from_bits(u128::MAX));

/// Ranges that pools in force have, by first address, with their owners.
///
/// No two overlap, so of those that begin before the end of another range, the last is the only one that can meet it.
#[derive(Default)]
struct Taken<'a>(BTreeMap<AddressRange, &'a Judged>);

impl<'a> Taken<'a> {
    fn meets(&self, range: &AddressRange) -> Option<(&AddressRange, &'a Judged)> {
        let end = AddressRange { first: range.last, last: GREATEST, is_prefix: true };
        let (other, owner) = self.0.range(..=end).next_back()?;
        (range.first <= other.last).then_some((other, *owner))
    }
}

/// Every AddressPool that there is. They are few: where one changes, all are looked at again.
#[derive(Debug, Default)]
pub(super) struct Pools {
    candidates: BTreeMap<String, Arc<Judged>>,
    /// Those that were set since they were looked at.
    set: BTreeSet<String>,
    /// What nodes or ClusterIPs have changed.
    moved: bool,
}

impl Pools {
    /// A pool is another one now, or is not there.
    pub(super) fn set(&mut self, key: &Key, judged: Option<Arc<Judged>>) {
        self.set.insert(key.name.clone());
        match judged {
            Some(judged) => drop(self.candidates.insert(key.name.clone(), judged)),
            None => drop(self.candidates.remove(&key.name)),
        }
    }

    /// What nodes or ClusterIPs have is something else now.
    pub(super) fn ground_has_changed(&mut self) {
        self.moved |= !self.candidates.is_empty();
    }

    /// Decides which pools are in force, if that could be others than before.
    pub(super) fn settle(
        &mut self,
        nodes: &BTreeMap<String, Node>,
        service_cidrs: &BTreeSet<IpNet>,
        book: &mut Book,
    ) -> Option<BTreeMap<String, Pool>> {
        let set = std::mem::take(&mut self.set);
        if !std::mem::take(&mut self.moved) && set.is_empty() {
            return None;
        }
        let mut found: BTreeMap<String, Findings> = set.into_iter().map(|name| (name, Findings::default())).collect();
        let pools = settle(&self.candidates, nodes, service_cidrs, &mut found);
        for (name, findings) in found {
            book.enter(Stage::Conflicts, &Key { kind: Kind::AddressPool, namespace: None, name }, findings);
        }
        Some(pools)
    }
}

fn settle(
    judged: &BTreeMap<String, Arc<Judged>>,
    nodes: &BTreeMap<String, Node>,
    service_cidrs: &BTreeSet<IpNet>,
    found: &mut BTreeMap<String, Findings>,
) -> BTreeMap<String, Pool> {
    let candidates = judged.iter().filter_map(|(name, judged)| match &judged.sound {
        Sound::Pool(candidate, _) => Some((name.clone(), (Candidate::clone(candidate), &**judged))),
        _ => None,
    });
    let mut candidates: BTreeMap<String, (Candidate, &Judged)> = candidates.collect();
    let mut taken = Taken::default();
    let mut pools: BTreeMap<String, AddressPool> = BTreeMap::new();
    // Those that have not changed; then those that have; then those that are new.
    let rank = |candidate: &Candidate| match (&candidate.old, &candidate.new) {
        (Some(_), None) => 0,
        (Some(old), Some(new)) => u8::from(old != new),
        (None, _) => 2,
    };
    let mut order: Vec<(u8, String)> = candidates.iter().map(|(name, (one, _))| (rank(one), name.clone())).collect();
    order.sort();
    for (rank, name) in order {
        let Some((candidate, judged)) = candidates.get_mut(&name) else { continue };
        let judged = *judged;
        let mut about = About { findings: found.entry(name.clone()).or_default(), subject: judged.subject() };
        let mut chosen = None;
        if let Some(new) = candidate.new.clone().filter(|_| rank > 0) {
            match wrong(&new, judged, &taken, nodes, service_cidrs) {
                None => chosen = Some(new),
                Some(wrong) => candidate.refuse(&mut about, wrong),
            }
        }
        if let Some(old) = candidate.old.clone().filter(|_| chosen.is_none()) {
            match overlap(&old, judged, &taken) {
                None => chosen = Some(old),
                Some(wrong) => {
                    candidate.old = None;
                    candidate.refuse(&mut about, wrong);
                }
            }
        }
        if let Some(mut pool) = chosen {
            pool.withheld = withheld(&pool, nodes, service_cidrs);
            taken.0.extend(pool.ranges.iter().map(|range| (*range, judged)));
            pools.insert(name, pool);
        }
    }
    let finished = |(name, (candidate, _)): (String, (Candidate, &Judged))| {
        let Candidate { identity, status, recorded, refused, .. } = candidate;
        let in_force = pools.remove(&name);
        (name, Pool { identity, in_force, recorded, refused, status })
    };
    candidates.into_iter().map(finished).collect()
}

/// Whom a pool would be in the way of.
fn wrong(
    pool: &AddressPool,
    judged: &Judged,
    taken: &Taken<'_>,
    nodes: &BTreeMap<String, Node>,
    service_cidrs: &BTreeSet<IpNet>,
) -> Option<Wrong> {
    if let Some(wrong) = overlap(pool, judged, taken) {
        return Some(wrong);
    }
    let (range, why) = foreign(pool, nodes, service_cidrs).next()?;
    let help = if why.contains("address of Node") {
        "leave the nodes' own addresses out, with ranges around them"
    } else {
        "take addresses that nobody else gives out"
    };
    let message = match pool.ranges.iter().find(|own| own.contains(range.first)) {
        Some(own) => format!("{own} contains {range}, {why}"),
        None => format!("it contains {range}, {why}"),
    };
    let place = pool.ranges.iter().find(|own| own.contains(range.first)).and_then(|own| place_of(judged, *own));
    Some(Wrong { place, message, help: Some(help) })
}

fn overlap(pool: &AddressPool, judged: &Judged, taken: &Taken<'_>) -> Option<Wrong> {
    let mut before: Option<&AddressRange> = None;
    for range in &pool.ranges {
        let place = place_of(judged, *range);
        if let Some((other, owner)) = taken.meets(range) {
            let message = format!("{range} overlaps {other} of {} ({})", owner.key(), owner.place());
            return Some(Wrong { place, message, help: Some("an address can be in one pool only") });
        }
        // In order of their first addresses.
        if let Some(other) = before.filter(|other| range.first <= other.last) {
            let message = format!("{range} overlaps {other} of the same pool");
            return Some(Wrong { place, message, help: Some("remove one of the two") });
        }
        before = Some(range);
    }
    None
}

/// What of a pool is given to nobody, and why.
fn withheld(
    pool: &AddressPool,
    nodes: &BTreeMap<String, Node>,
    service_cidrs: &BTreeSet<IpNet>,
) -> BTreeMap<AddressRange, String> {
    let ends = pool.ranges.iter().flat_map(AddressRange::ends);
    let ends = ends.map(|(address, what)| (AddressRange::one(address), what.to_owned()));
    ends.chain(foreign(pool, nodes, service_cidrs)).collect()
}

/// What a pool has in common with nodes, their pods, and ClusterIPs.
fn foreign(
    pool: &AddressPool,
    nodes: &BTreeMap<String, Node>,
    service_cidrs: &BTreeSet<IpNet>,
) -> impl Iterator<Item = (AddressRange, String)> {
    let of_nodes = nodes.iter().flat_map(|(name, node)| {
        let addresses =
            node.addresses.iter().map(move |address| (AddressRange::one(*address), ("an address of", name)));
        let pods = node.pod_cidrs.iter().map(move |cidr| (range_of(cidr), ("the pods of", name)));
        addresses.chain(pods)
    });
    let of_services = service_cidrs.iter().map(|cidr| (range_of(cidr), format!("a range of ClusterIPs ({cidr})")));
    let of_nodes = of_nodes.map(|(range, (what, name))| (range, format!("{what} Node {name}")));
    let common = move |(other, why): (AddressRange, String)| {
        // IPv4 and IPv6 addresses have an order between them, so ranges of two families never meet.
        let meets = pool.ranges.iter().filter(move |own| own.first <= other.last && other.first <= own.last);
        meets.map(move |own| {
            let (first, last) = (own.first.max(other.first), own.last.min(other.last));
            (AddressRange { first, last, is_prefix: false }, why.clone())
        })
    };
    of_nodes.chain(of_services).flat_map(common)
}

fn range_of(cidr: &IpNet) -> AddressRange {
    AddressRange { first: cidr.network(), last: cidr.broadcast(), is_prefix: true }
}

fn place_of(judged: &Judged, range: AddressRange) -> Option<Place> {
    match &judged.sound {
        Sound::Pool(_, places) => places.iter().find(|(other, _)| *other == range).map(|(_, place)| *place),
        _ => None,
    }
}
