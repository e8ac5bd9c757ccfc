//! How what was measured is told, held against the bars: as Markdown (a terminal shows it as well), as JSON, as pictures, and as what was
//! missed.

mod json;
mod markdown;
mod pictures;
#[cfg(test)]
mod tests;

use super::bars::{Bar, Limit, Verdict, bars};
use super::{Results, Spread};

impl Results {
    /// Whether something is below what is wanted: what is missed, and what could not be measured although this machine could.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        let peers_alone =
            |bar: &Bar| self.missing.iter().any(|(key, name, _)| !key.starts_with("levee") && bar.what.contains(name));
        bars(self)
            .into_iter()
            .filter(|bar| match bar.verdict() {
                Verdict::Met => false,
                Verdict::Missed => true,
                Verdict::Unknown => !peers_alone(bar),
            })
            .map(|bar| match &bar.measured {
                Ok(spread) => {
                    format!("{}: {} where {} is wanted", bar.what, figure(spread.median, bar.unit), limit(&bar))
                }
                Err(reason) => format!("{}: no figure ({reason})", bar.what),
            })
            .collect()
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}

/// With its unit, and as many digits as it deserves.
fn figure(figure: f64, unit: &str) -> String {
    match unit {
        "" => format!("{figure:.2}"),
        "KiB" | "B" | "ns" | "µs" => format!("{figure:.1} {unit}"),
        _ => format!("{figure:.0} {unit}"),
    }
}

fn range(spread: &Spread, unit: &str) -> String {
    match unit {
        "" => format!("{:.2}–{:.2}", spread.least, spread.most),
        _ if spread.least.total_cmp(&spread.most).is_eq() => "–".into(),
        "ns" | "µs" => format!("{:.1}–{:.1}", spread.least, spread.most),
        _ => format!("{:.0}–{:.0}", spread.least, spread.most),
    }
}

fn limit(bar: &Bar) -> String {
    match bar.limit {
        Limit::AtLeast(least) => format!("≥ {}", figure(least, bar.unit)),
        Limit::AtMost(most) => format!("≤ {}", figure(most, bar.unit)),
        Limit::Told => "to be told".into(),
    }
}
