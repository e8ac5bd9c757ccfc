//! As JSON: everything, for programs.

use serde_json::{Value, json};

use crate::peers::bars::{Limit, Verdict, bars};
use crate::peers::times::QUANTILES;
use crate::peers::{Changes, Flood, Kept, Pause, Results, Spread, Times};

impl Results {
    /// All of it as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let maybe = |of: Option<Spread>| of.as_ref().map(Spread::json);
        let bars: Vec<_> = bars(self)
            .iter()
            .map(|bar| {
                let (at_least, at_most) = match bar.limit {
                    Limit::AtLeast(limit) => (Some(limit), None),
                    Limit::AtMost(limit) => (None, Some(limit)),
                    Limit::Told => (None, None),
                };
                json!({
                    "what": bar.what, "unit": bar.unit, "at_least": at_least, "at_most": at_most,
                    "measured": bar.measured.as_ref().ok().map(Spread::json), "reason": bar.measured.as_ref().err(),
                    "met": (bar.limit != Limit::Told).then(|| bar.verdict() == Verdict::Met),
                })
            })
            .collect();
        let rows: serde_json::Map<String, Value> = self
            .rows
            .iter()
            .map(|row| {
                let rounds: Vec<_> = row
                    .scores
                    .iter()
                    .map(|score| json!({ "mpps": score.arrived, "sent_mpps": score.sent, "core": score.core, "core_busy": score.busy }))
                    .collect();
                let mpps = maybe(Spread::of(row.scores.iter().map(|score| score.arrived)));
                (row.key.clone(), json!({ "name": row.name, "mpps": mpps, "rounds": rounds }))
            })
            .collect();
        let times: serde_json::Map<String, Value> = self
            .times
            .iter()
            .filter_map(|rounds| {
                let of = |quantile: fn(&Times) -> f64| maybe(Spread::of(rounds.iter().map(quantile)));
                let quantiles: serde_json::Map<_, _> =
                    QUANTILES.iter().map(|(name, quantile)| ((*name).to_owned(), json!(of(*quantile)))).collect();
                Some((rounds.first()?.key.clone(), Value::Object(quantiles)))
            })
            .collect();
        let changes = self.changes.as_ref().map(|changes| {
            let at = |sorted: &[f64]| json!({ "count": sorted.len(), "p50": Changes::at(sorted, 0.5), "p99": Changes::at(sorted, 0.99), "most": Changes::at(sorted, 1.0) });
            let kept = |kept: &Kept| json!({ "of": maybe(kept.spread()), "sure": kept.sure(), "windows": kept.0 });
            json!({
                "services": changes.services.count, "alone_us": at(&changes.alone), "loaded_us": at(&changes.loaded),
                "per_second": changes.rate, "kept": kept(&changes.kept), "kept_of_all": kept(&changes.kept_of_all),
            })
        });
        let flood = |flood: &Flood| {
            json!({
                "syns": flood.syns, "most_per_second": flood.most, "per_second": flood.rate,
                "established": { "sent": flood.established.0, "lost": flood.established.1 },
                "begun": { "sent": flood.begun.0, "arrived": flood.begun.1 },
                "ring_full": flood.unseen, "dropped": flood.dropped.iter().map(|(reason, count)| (reason.clone(), json!(count))).collect::<serde_json::Map<_, _>>(),
            })
        };
        let floods: serde_json::Map<String, Value> = self
            .floods
            .iter()
            .filter_map(|rounds| {
                let first = rounds.first()?;
                Some((format!("{}_syns_{}", first.key, first.syns), rounds.iter().map(flood).collect()))
            })
            .collect();
        json!({
            "machine": self.machine.json(),
            "plan": { "rounds": self.plan.rounds, "seconds": self.plan.window.as_secs_f64(), "services": self.services },
            "bars": bars,
            "throughput": rows,
            "skipped": self.missing.iter().map(|(key, _, reason)| (key.clone(), json!(reason))).collect::<serde_json::Map<_, _>>(),
            "latency_us": { "frames_per_second": self.tenth, "of": times },
            "floods": floods,
            "changes": changes,
            "idle": self.idle.iter().map(|idle| json!({
                "idle": idle.how, "services": idle.services.count, "core": idle.core, "resident_bytes": idle.resident,
            })).collect::<Vec<_>>(),
            "memory_per_service_bytes": self.memory_per_service(),
            "memory_per_flow_bytes": self.per_flow,
            "pipeline": self.pipeline.json(),
            "pauses": self.pauses.iter().map(Pause::json).collect::<Vec<_>>(),
        })
    }
}
