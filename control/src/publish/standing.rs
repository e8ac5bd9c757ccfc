//! How a candidate stands: written by its loop, read by status and metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use levee_api::net::Family;
use serde::{Deserialize, Serialize};

use super::plan::Target;
use crate::allocate::Allocation;
use crate::model::Balanced;
use crate::model::external::Usage;

/// What `GET /v1/status` says of a candidate.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Report {
    /// The Lease, as NAMESPACE/NAME.
    pub lease: String,
    /// Whether it is the leader, and writes.
    pub leads: bool,
    /// Services of type LoadBalancer that are ours.
    pub services: usize,
    /// Those of them that do not have every address that they should have.
    pub unassigned: usize,
    /// Pools whose `spec` is not in force.
    pub refused_pools: usize,
    /// Writes that the watch has not shown yet.
    pub waiting: usize,
    /// What failed last, until something succeeds.
    pub failure: Option<String>,
}

/// What is counted.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Statuses of Services that were written.
    pub services: u64,
    /// Statuses of AddressPools that were written.
    pub pools: u64,
    /// Events that were told.
    pub events: u64,
    /// Events that were not, because too many waited.
    pub dropped: u64,
    /// Writes to a state that was not the newest.
    pub outdated: u64,
    /// Requests that failed.
    pub failures: u64,
    /// Pools in force, by family.
    pub usage: BTreeMap<String, BTreeMap<Family, Usage>>,
}

#[derive(Debug, Default)]
struct Inner {
    report: Report,
    tally: Tally,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Standing(Mutex<Inner>);

impl Standing {
    /// Of a candidate for a Lease.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        let report = Report { lease: format!("{namespace}/{name}"), ..Report::default() };
        Standing(Mutex::new(Inner { report, tally: Tally::default() }))
    }

    /// Nothing in here can be left half-changed, so a panic elsewhere does not matter.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it stands.
    #[must_use]
    pub fn report(&self) -> Report {
        self.inner().report.clone()
    }

    /// What was counted.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.inner().tally.clone()
    }

    pub(super) fn leads(&self, leads: bool) {
        let mut inner = self.inner();
        if inner.report.leads != leads {
            tracing::info!(
                lease = inner.report.lease,
                "{}",
                if leads { "leads: assigns addresses" } else { "leads no more" }
            );
        }
        inner.report.leads = leads;
        if !leads {
            inner.report = Report { lease: std::mem::take(&mut inner.report.lease), ..Report::default() };
            inner.tally.usage.clear();
        }
    }

    pub(super) fn allocated(&self, balanced: &Balanced, allocation: &Allocation) {
        let mut inner = self.inner();
        inner.report.services = allocation.services.len();
        inner.report.unassigned = allocation.services.values().filter(|service| !service.problems.is_empty()).count();
        inner.report.refused_pools = balanced.pools.values().filter(|pool| pool.refused.is_some()).count();
        inner.tally.usage.clone_from(&allocation.pools);
    }

    pub(super) fn wrote(&self, target: &Target) {
        let mut inner = self.inner();
        match target {
            Target::Service(_) => inner.tally.services += 1,
            Target::Pool(_) => inner.tally.pools += 1,
        }
        inner.report.failure = None;
    }

    pub(super) fn told(&self) {
        self.inner().tally.events += 1;
    }

    pub(super) fn outdated(&self) {
        self.inner().tally.outdated += 1;
    }

    pub(super) fn waits(&self, waiting: usize, dropped: u64) {
        let mut inner = self.inner();
        (inner.report.waiting, inner.tally.dropped) = (waiting, dropped);
    }

    pub(super) fn failed(&self, why: &str) {
        let why: String = why.chars().take(300).collect();
        let mut inner = self.inner();
        inner.tally.failures += 1;
        if inner.report.failure.as_ref() != Some(&why) {
            tracing::warn!(lease = inner.report.lease, "the cluster cannot be told: {why}");
            inner.report.failure = Some(why);
        }
    }
}
