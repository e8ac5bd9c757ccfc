//! What levee is to reach, beside others in the same run, and whether it does.

use super::flood::MIXES;
use super::pause::Kind;
use super::plot::count;
use super::times::QUANTILES;
use super::{Changes, Flood, Results, Spread};
use crate::growth::Size;
use crate::newcomers::Table;
use crate::throughput::contestants::{ROOM, inline};

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
    /// That it is known.
    Told,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The median is within the limit.
    Met,
    /// There is no limit, and it is known.
    Told,
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
            (Ok(spread), Limit::Told) if spread.median.is_finite() => Verdict::Told,
            // Not a number is no success either.
            (Ok(_), _) => Verdict::Missed,
        }
    }
}

/// A packet over memory, with so many established flows: nanoseconds at most.
const ESTABLISHED: [(u32, f64); 4] = [(1_000, 35.0), (100_000, 50.0), (1_000_000, 70.0), (10_000_000, 90.0)];

/// One that begins a flow: nanoseconds at most.
const BEGINNING: f64 = 150.0;

/// A turn in which all packets begin flows: microseconds at most, ever.
const PAUSE: f64 = 50.0;

/// Instructions of one of an established flow, at most.
const INSTRUCTIONS: f64 = 300.0;

/// How many times as long a packet may take with most of everything as with one of each.
const GROWN: f64 = 3.0;

/// Bytes that room for a flow may take.
const FLOW: f64 = 64.0;

/// All demands on a run. Of throughput the place in which the kernel did more is the one that counts; of latency each of both does, with a
/// bar of its own, since the two are not the same work ([`On`](crate::throughput::contestants::On)).
#[must_use]
pub fn bars(results: &Results) -> Vec<Bar> {
    [over_memory(results), beside_others(results), under_changes(results), in_memory(results)].concat()
}

/// Without a kernel, and without others.
fn over_memory(results: &Results) -> Vec<Bar> {
    let pipeline = &results.pipeline;
    let at_most = |what: String, most: f64, unit: &'static str, measured: Option<Spread>| Bar {
        what,
        limit: Limit::AtMost(most),
        unit,
        measured: measured.ok_or_else(|| "not measured".into()),
    };
    let mut bars: Vec<Bar> = ESTABLISHED
        .iter()
        .map(|(flows, most)| {
            let what = format!("over memory, nat, {} established flows: a packet", count(f64::from(*flows)));
            at_most(what, *most, "ns", pipeline.with_flows(*flows))
        })
        .collect();
    for table in Table::ALL {
        let what = format!("over memory, nat, new flows only, {table}: a packet");
        bars.push(at_most(what, BEGINNING, "ns", pipeline.beginning_in(table)));
    }
    for kind in Kind::ALL {
        let of_it = results.pauses.iter().filter(|pause| pause.kind == kind);
        let longest = of_it.max_by(|one, other| one.longest().total_cmp(&other.longest()));
        let into = longest.map_or_else(String::new, |pause| format!(", {}", pause.scene));
        bars.push(at_most(
            format!("over memory, the longest turn, {kind}{into}"),
            PAUSE,
            "µs",
            longest.map(|pause| Spread::one(pause.longest())),
        ));
    }
    let instructions = pipeline.instructions.map(|count| Spread::one(count.into()));
    bars.push(at_most("a packet of an established flow".into(), INSTRUCTIONS, "instructions", instructions));
    let [most, least] = [Size::MOST, Size::LEAST].map(|Size { services, backends, flows }| {
        let of =
            |number: u32, one: &str| format!("{} {one}{}", count(number.into()), if number == 1 { "" } else { "s" });
        format!("{}, {}, {}", of(services, "Service"), of(backends, "backend"), of(flows, "flow"))
    });
    bars.push(at_most(format!("over memory, nat, a packet: {most} ÷ {least}"), GROWN, "", pipeline.grown()));
    bars
}

/// The same work done by others, in the same run.
fn beside_others(results: &Results) -> Vec<Bar> {
    let ratio = |ours: &str, theirs: &str, least: f64| Bar {
        what: format!("{} ÷ {}", results.name(ours), results.name(theirs)),
        limit: Limit::AtLeast(least),
        unit: "",
        measured: results.ratio(ours, theirs),
    };
    let better = |one: &'_ str, other: &'_ str| results.best(&[one, other]).to_owned();
    let nat = nat(results);
    let mut bars = vec![ratio(&nat, "bounce", 0.97), ratio(&nat, "dpdk_testpmd", 1.0)];
    for services in &results.services {
        let theirs = format!("linux_nftables_{services}");
        bars.push(ratio(&format!("levee_nat_{services}"), &better(&theirs, &inline(&theirs)), 1.8));
    }
    let bridge = "linux_bridge_ebtables";
    bars.push(ratio("levee_mac_rewriting", &better(bridge, &inline(bridge)), 1.5));
    for syns in MIXES {
        let of_levee = |rounds: &&Vec<Flood>| rounds.iter().any(|flood| flood.key == nat && flood.syns == syns);
        let lost = |rounds: &Vec<Flood>| Spread::of(rounds.iter().map(|flood| flood.established.1 as f64));
        bars.push(Bar {
            what: format!(
                "frames of established flows lost, {} of all frames SYNs of new ones, at four fifths of the most",
                Flood::share(syns)
            ),
            limit: Limit::AtMost(0.0),
            unit: "frames",
            measured: results.floods.iter().find(of_levee).and_then(lost).ok_or_else(|| "not measured".into()),
        });
    }
    let linux = "linux_forwarding";
    for theirs in [linux.to_owned(), inline(linux)] {
        for (name, quantile) in QUANTILES {
            bars.push(Bar {
                what: format!(
                    "latency at a tenth of the load, {name}: {} ÷ {}",
                    results.name(&nat),
                    results.name(&theirs)
                ),
                limit: Limit::AtMost(1.0),
                unit: "",
                measured: results.latency_ratio(&nat, &theirs, quantile),
            });
        }
    }
    bars
}

/// levee with the fewest Services.
fn nat(results: &Results) -> String {
    format!("levee_nat_{}", results.services.first().copied().unwrap_or(1))
}

/// While the program changes.
fn under_changes(results: &Results) -> Vec<Bar> {
    let changes = results.changes.as_ref();
    let services = changes.map_or_else(|| "most Services".into(), |changes| changes.services.to_string());
    let not_measured = || "not measured".to_owned();
    let one = |when: &str, quantile: &str, limit, measured: Option<Spread>| Bar {
        what: format!("one backend changed, {services}, {when}, {quantile}: from the request to all workers on it"),
        limit,
        unit: "µs",
        measured: measured.ok_or_else(not_measured),
    };
    let at = |sorted: &[f64], part| Spread::one(Changes::at(sorted, part));
    let (alone, loaded) = ("nothing else to do", "under full load on the same two cores");
    let rate = changes.map_or_else(String::new, |changes| format!(", {:.0} times a second,", changes.rate));
    vec![
        one(alone, "p50", Limit::AtMost(200.0), changes.and_then(|changes| Spread::middle(&changes.alone))),
        one(alone, "p99", Limit::Told, changes.map(|changes| at(&changes.alone, 0.99))),
        one(loaded, "p50", Limit::Told, changes.map(|changes| at(&changes.loaded, 0.5))),
        one(loaded, "p99", Limit::Told, changes.map(|changes| at(&changes.loaded, 0.99))),
        Bar {
            what: format!("forwarding while one backend after another changes{rate} ÷ without changes"),
            limit: Limit::AtLeast(0.99),
            unit: "",
            measured: changes.and_then(|changes| changes.kept.spread()).ok_or_else(not_measured),
        },
    ]
}

/// What it takes of the machine's memory.
fn in_memory(results: &Results) -> Vec<Bar> {
    let bar = |what: String, limit: Limit, unit: &'static str, measured: Option<f64>| Bar {
        what,
        limit,
        unit,
        measured: measured.map(Spread::one).ok_or_else(|| "not measured".into()),
    };
    let per_service = results.memory_per_service().map(|bytes| bytes / 1024.0);
    let fixed = results.idle.iter().min_by_key(|idle| idle.services.count);
    let of = fixed.map_or_else(|| "few Services".into(), |idle| idle.services.to_string());
    vec![
        bar("memory of room for a flow of IPv4".into(), Limit::AtMost(FLOW), "B", results.per_flow),
        bar("memory of a Service with ten backends".into(), Limit::AtMost(8.0), "KiB", per_service),
        bar(
            format!("memory of the dataplane with {of} and room for {} flows", count(f64::from(ROOM))),
            Limit::Told,
            "MiB",
            fixed.map(|idle| idle.resident as f64 / f64::from(1 << 20)),
        ),
    ]
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
        assert_eq!(verdict(Limit::Told, Ok(f64::NAN)), Verdict::Missed);
        assert_eq!(verdict(Limit::Told, Ok(7.0)), Verdict::Told);
    }
}
