//! What levee is to reach, beside others in the same run, and whether it does.

use super::{Results, Spread};
use crate::throughput::contestants::inline;

/// One demand.
#[derive(Debug, Clone)]
pub struct Bar {
    /// Of what.
    pub what: String,
    /// What is wanted.
    pub limit: Limit,
    /// Of the figure; empty for a ratio.
    pub unit: &'static str,
    /// What was measured, or why it was not.
    pub measured: Result<Spread, String>,
}

/// What is wanted of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The median is within the limit.
    Met,
    /// It is not.
    Missed,
    /// There is no figure.
    Unknown,
}

impl Bar {
    /// What came of it.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match (&self.measured, self.limit) {
            (Err(_), _) => Verdict::Unknown,
            (Ok(spread), Limit::AtLeast(least)) if spread.median >= least => Verdict::Met,
            (Ok(spread), Limit::AtMost(most)) if spread.median <= most => Verdict::Met,
            // Not a number is no success either.
            (Ok(_), _) => Verdict::Missed,
        }
    }
}

/// All demands on a run. Where the kernel was measured in two places, the one in which it did more is the one that counts.
#[must_use]
pub fn bars(results: &Results) -> Vec<Bar> {
    let ratio = |ours: &str, theirs: &str, least: f64| Bar {
        what: format!("{} ÷ {}", results.name(ours), results.name(theirs)),
        limit: Limit::AtLeast(least),
        unit: "",
        measured: results.ratio(ours, theirs),
    };
    let better = |one: &'_ str, other: &'_ str| results.best(&[one, other]).to_owned();
    let first = results.services.first().copied().unwrap_or(1);
    let nat = format!("levee_nat_{first}");
    let mut bars = vec![ratio(&nat, "bounce", 0.97), ratio(&nat, "dpdk_testpmd", 1.0)];
    for services in &results.services {
        let theirs = format!("linux_nftables_{services}");
        bars.push(ratio(&format!("levee_nat_{services}"), &better(&theirs, &inline(&theirs)), 1.8));
    }
    let bridge = "linux_bridge_ebtables";
    bars.push(ratio("levee_mac_rewriting", &better(bridge, &inline(bridge)), 1.5));
    bars.push(Bar {
        what: "frames of established flows lost while others begin as fast as can be".into(),
        limit: Limit::AtMost(0.0),
        unit: "frames",
        measured: results
            .flood
            .as_ref()
            .map(|flood| Spread::one(flood.established.1 as f64))
            .ok_or_else(|| "not measured".into()),
    });
    for (name, quantile) in super::results::QUANTILES {
        bars.push(Bar {
            what: format!(
                "latency at a tenth of the load, {name}: {} ÷ {}",
                results.name(&nat),
                results.name("linux_forwarding")
            ),
            limit: Limit::AtMost(1.0),
            unit: "",
            measured: results.latency_ratio(&nat, "linux_forwarding", quantile),
        });
    }
    let changes = results.changes.as_ref();
    bars.push(Bar {
        what: format!(
            "one backend changed, {}: from the request to all workers on it",
            changes.map_or_else(|| "most Services".into(), |changes| changes.services.to_string())
        ),
        limit: Limit::AtMost(200.0),
        unit: "µs",
        measured: changes
            .map(|changes| Spread {
                median: super::Changes::at(&changes.alone, 0.5),
                least: super::Changes::at(&changes.alone, 0.0),
                most: super::Changes::at(&changes.alone, 1.0),
            })
            .ok_or_else(|| "not measured".into()),
    });
    bars.push(Bar {
        what: "forwarding while backends change ÷ without changes".into(),
        limit: Limit::AtLeast(0.99),
        unit: "",
        measured: changes.and_then(|changes| changes.kept).ok_or_else(|| "not measured".into()),
    });
    bars.push(Bar {
        what: "memory of a Service with ten backends".into(),
        limit: Limit::AtMost(8.0),
        unit: "KiB",
        measured: results
            .memory_per_service()
            .map(|bytes| Spread::one(bytes / 1024.0))
            .ok_or_else(|| "not measured".into()),
    });
    bars
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(limit: Limit, measured: Result<f64, &str>) -> Verdict {
        let measured = measured.map(Spread::one).map_err(str::to_owned);
        Bar { what: String::new(), limit, unit: "", measured }.verdict()
    }

    #[test]
    fn a_limit_itself_is_within_it() {
        assert_eq!(verdict(Limit::AtLeast(0.97), Ok(0.97)), Verdict::Met);
        assert_eq!(verdict(Limit::AtLeast(0.97), Ok(0.969)), Verdict::Missed);
        assert_eq!(verdict(Limit::AtMost(0.0), Ok(0.0)), Verdict::Met);
        assert_eq!(verdict(Limit::AtMost(0.0), Ok(1.0)), Verdict::Missed);
    }

    #[test]
    fn no_figure_is_no_success() {
        assert_eq!(verdict(Limit::AtMost(1.0), Err("no such peer here")), Verdict::Unknown);
        assert_eq!(verdict(Limit::AtMost(1.0), Ok(f64::NAN)), Verdict::Missed);
        assert_eq!(verdict(Limit::AtLeast(1.0), Ok(f64::NAN)), Verdict::Missed);
    }
}
