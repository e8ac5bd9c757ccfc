//! Who has which address, for people: of a running levee-control, or of files.

use std::collections::BTreeSet;
use std::net::IpAddr;

use levee_api::net::Family;
use serde::{Deserialize, Serialize};

use super::allocate;
use crate::model::Balanced;

/// Pools, and the Services that have or want addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Addresses {
    /// One for each pool and family.
    pub pools: Vec<PoolEntry>,
    /// One for each Service and address, or for a Service without any.
    pub services: Vec<AddressEntry>,
}

/// The addresses of one family of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolEntry {
    /// Its name.
    pub pool: String,
    /// Absent if it is not in force.
    pub family: Option<Family>,
    /// In its ranges; those of large IPv6 prefixes end the scale.
    pub total: u64,
    /// Given to Services.
    pub assigned: u64,
    /// Left. The rest is withheld: ends of prefixes, addresses of nodes.
    pub free: u64,
    /// Whether Services that name no pool get addresses of it.
    pub auto_assign: bool,
    /// Why its `spec` is not in force.
    pub refused: Option<String>,
}

/// An address of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressEntry {
    /// NAMESPACE/NAME.
    pub service: String,
    /// Absent if it has none.
    pub address: Option<IpAddr>,
    /// The pool that it is of.
    pub pool: Option<String>,
    /// Whether it stands in the Service's status; what does not was found just now, and in files it stays so.
    pub in_status: bool,
    /// Why the Service does not have what it asks for or needs.
    pub problem: Option<String>,
}

impl Addresses {
    /// Of a cluster.
    #[must_use]
    pub fn of(balanced: &Balanced, class_required: bool) -> Self {
        let allocation = allocate(balanced, class_required);
        let mut report = Addresses::default();
        for (name, pool) in &balanced.pools {
            let auto_assign = pool.in_force.as_ref().is_some_and(|pool| pool.auto_assign);
            let entry = |family, (total, assigned, free)| PoolEntry {
                pool: name.clone(),
                family,
                total,
                assigned,
                free,
                auto_assign,
                refused: pool.refused.clone(),
            };
            match allocation.pools.get(name) {
                Some(usage) => report
                    .pools
                    .extend(usage.iter().map(|(family, of)| entry(Some(*family), (of.total, of.assigned, of.free)))),
                None => report.pools.push(entry(None, (0, 0, 0))),
            }
        }
        for (name, assignment) in &allocation.services {
            let held: BTreeSet<IpAddr> = balanced
                .services
                .get(name)
                .map(|service| service.holds.iter().map(|held| held.address).collect())
                .unwrap_or_default();
            let problems: Vec<String> = assignment.problems.iter().map(ToString::to_string).collect();
            let entry = |address: Option<IpAddr>, pool: Option<String>| AddressEntry {
                service: name.to_string(),
                address,
                pool,
                in_status: address.is_some_and(|address| held.contains(&address)),
                problem: (!problems.is_empty()).then(|| problems.join("; ")),
            };
            let before = report.services.len();
            let given = assignment.addresses.values();
            report.services.extend(given.map(|(address, pool)| entry(Some(*address), Some(pool.clone()))));
            // In files, what a status says is served, whatever pools say.
            let is_served = |address: &&IpAddr| {
                balanced.services.get(name).is_some_and(|service| !service.identity.live)
                    && !assignment.addresses.values().any(|(given, _)| given == *address)
            };
            report.services.extend(held.iter().filter(is_served).map(|address| entry(Some(*address), None)));
            if report.services.len() == before {
                report.services.push(entry(None, None));
            }
        }
        report
    }
}
