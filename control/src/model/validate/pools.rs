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

use ipnet::IpNet;

use super::Report;
use super::pool::{Candidate, Wrong};
use crate::model::external::AddressRange;
use crate::model::{AddressPool, Node, Object, Place, Pool, Sourced};

/// After every other address in the order of `IpAddr`.
const GREATEST: IpAddr = IpAddr::V6(Ipv6Addr::from_bits(u128::MAX));

/// Ranges that pools in force have, by first address, with their owners.
///
/// No two overlap, so of those that begin before the end of another range, the last is the only one that can meet it.
#[derive(Default)]
struct Taken<'a>(BTreeMap<AddressRange, &'a Sourced>);

impl<'a> Taken<'a> {
    fn meets(&self, range: &AddressRange) -> Option<(&AddressRange, &'a Sourced)> {
        let end = AddressRange { first: range.last, last: GREATEST, is_prefix: true };
        let (other, owner) = self.0.range(..=end).next_back()?;
        (range.first <= other.last).then_some((other, *owner))
    }
}

/// Decides which pools are in force.
pub(super) fn settle(
    mut candidates: BTreeMap<String, Candidate<'_>>,
    nodes: &BTreeMap<String, Node>,
    service_cidrs: &BTreeSet<IpNet>,
    report: &mut Report,
) -> BTreeMap<String, Pool> {
    let mut taken = Taken::default();
    let mut pools: BTreeMap<String, AddressPool> = BTreeMap::new();
    // Those that have not changed; then those that have; then those that are new.
    let rank = |candidate: &Candidate<'_>| match (&candidate.old, &candidate.new) {
        (Some(_), None) => 0,
        (Some(old), Some(new)) => u8::from(old != new),
        (None, _) => 2,
    };
    let mut order: Vec<(u8, String)> = candidates.iter().map(|(name, one)| (rank(one), name.clone())).collect();
    order.sort();
    for (rank, name) in order {
        let Some(candidate) = candidates.get_mut(&name) else { continue };
        let sourced = candidate.sourced;
        let mut chosen = None;
        if let Some(new) = candidate.new.clone().filter(|_| rank > 0) {
            match wrong(&new, sourced, &taken, nodes, service_cidrs) {
                None => chosen = Some(new),
                Some(wrong) => candidate.refuse(&mut report.about(sourced), wrong),
            }
        }
        if let Some(old) = candidate.old.clone().filter(|_| chosen.is_none()) {
            match overlap(&old, sourced, &taken) {
                None => chosen = Some(old),
                Some(wrong) => {
                    candidate.old = None;
                    candidate.refuse(&mut report.about(sourced), wrong);
                }
            }
        }
        if let Some(mut pool) = chosen {
            pool.withheld = withheld(&pool, nodes, service_cidrs);
            taken.0.extend(pool.ranges.iter().map(|range| (*range, sourced)));
            pools.insert(name, pool);
        }
    }
    let finished = |(name, candidate): (String, Candidate<'_>)| {
        let Candidate { identity, status, refused, .. } = candidate;
        let in_force = pools.remove(&name);
        (name, Pool { identity, in_force, refused, status })
    };
    candidates.into_iter().map(finished).collect()
}

/// Whom a pool would be in the way of.
fn wrong(
    pool: &AddressPool,
    sourced: &Sourced,
    taken: &Taken<'_>,
    nodes: &BTreeMap<String, Node>,
    service_cidrs: &BTreeSet<IpNet>,
) -> Option<Wrong> {
    if let Some(wrong) = overlap(pool, sourced, taken) {
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
    let place = pool.ranges.iter().find(|own| own.contains(range.first)).and_then(|own| place_of(sourced, *own));
    Some(Wrong { place, message, help: Some(help) })
}

fn overlap(pool: &AddressPool, sourced: &Sourced, taken: &Taken<'_>) -> Option<Wrong> {
    let mut before: Option<&AddressRange> = None;
    for range in &pool.ranges {
        let place = place_of(sourced, *range);
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

fn place_of(sourced: &Sourced, range: AddressRange) -> Option<Place> {
    match &sourced.object {
        Object::AddressPool(object) => object.spec.addresses.iter().find(|placed| placed.value == range)?.place,
        _ => None,
    }
}
