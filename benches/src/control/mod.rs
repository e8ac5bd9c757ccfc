//! What a change of the cluster costs, from the API server's answer to the write until every worker runs it.
//!
//! ```text
//!  ┌ api ───────────────────────────────────────┐      ┌ node-1 ───────────┐      ┌ router ┐
//!  │ etcd ◄─ kube-apiserver ──watch──► levee-control ──►│ levee-dataplane  eth0 ═══ eth0     │
//!  │            ▲ writes: [`Cluster`]           │  UDS │  │ GET /v1/events  │      │ the way │
//!  └────────────┼───────────────────────────────┘      └──┼────────────────┘      │ to pods │
//!               └── this process: answered at t₀          └► "generation runs" heard at t₁  └─┘
//! ```
//!
//! t₁ − t₀ is the figure. t₁ is when the dataplane's own event is *heard* over its socket, so nothing is polled, and what
//! telling costs is in the figure and not left out. Changes are made one at a time, after everything is still; after each, the
//! number of backends that the dataplane has must be the one that the change makes. The parts of a change come from both
//! daemons' own histograms, read before and after it: their sums are exact, whatever the buckets are.
//!
//! Everything runs in namespaces of a [`levee_tests::Lab`], the API server too, and goes with it.

mod cluster;
mod stage;

pub use cluster::Cluster;
pub use stage::{Burst, Cold, Parts, Stage};

/// Endpoints of each Service.
pub const ENDPOINTS: usize = 10;

/// The value below which this part of the sorted values lies; 0 of none.
#[must_use]
pub fn quantile(sorted: &[f64], part: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * part).round() as usize).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_value_that_was_measured() {
        let values: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!((quantile(&values, 0.5), quantile(&values, 0.99), quantile(&values, 1.0)), (50.0, 99.0, 100.0));
        assert_eq!((quantile(&[], 0.5), quantile(&[7.0], 0.99)), (0.0, 7.0));
    }
}
