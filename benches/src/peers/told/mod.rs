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
                Verdict::Met | Verdict::Told => false,
                Verdict::Missed => true,
                Verdict::Unknown => !peers_alone(bar),
            })
            .map(|bar| match &bar.measured {
                Ok(spread) => {
                    format!("{}: {} where {} is wanted", bar.what, held(&bar, spread).0, limit(&bar))
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

/// How near to its limit a figure gets a digit more, so that rounding does not hide on which side of it it is.
const NEAR: f64 = 0.02;

/// As many digits as a figure of this unit deserves.
fn digits(unit: &str) -> usize {
    match unit {
        "" => 2,
        "KiB" | "B" | "ns" | "µs" => 1,
        _ => 0,
    }
}

/// With its unit.
fn figure(figure: f64, unit: &str) -> String {
    with_digits(figure, unit, digits(unit))
}

fn with_digits(figure: f64, unit: &str, digits: usize) -> String {
    if unit.is_empty() { format!("{figure:.digits$}") } else { format!("{figure:.digits$} {unit}") }
}

/// What was measured of a bar, and between what and what it was.
fn held(bar: &Bar, spread: &Spread) -> (String, String) {
    let digits = match bar.limit {
        Limit::AtLeast(limit) | Limit::AtMost(limit) if (spread.median - limit).abs() <= NEAR * limit.abs() => {
            // A count of whole things has no more to tell.
            digits(bar.unit) + usize::from(digits(bar.unit) > 0)
        }
        _ => digits(bar.unit),
    };
    (with_digits(spread.median, bar.unit, digits), range(spread, digits))
}

/// None of what was measured once.
fn range(spread: &Spread, digits: usize) -> String {
    let Spread { least, most, .. } = spread;
    if least.total_cmp(most).is_eq() { "–".into() } else { format!("{least:.digits$}–{most:.digits$}") }
}

fn limit(bar: &Bar) -> String {
    match bar.limit {
        Limit::AtLeast(least) => format!("≥ {}", figure(least, bar.unit)),
        Limit::AtMost(most) => format!("≤ {}", figure(most, bar.unit)),
        Limit::Told => "to be told".into(),
    }
}
