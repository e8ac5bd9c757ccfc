//! levee beside its peers, in one run: what `./scripts/bench peers` prints.
//!
//! ```text
//!  Field (built once) ─► rounds of Scores ─┐
//!                        Times at 10 % ────┤
//!                        Flood of SYNs ────┼─► Results ─► bars ─► figures.md, JSON, SVG, the exit status
//!                        Changes ──────────┤
//!                        Idle, memory ─────┤
//!                        Pipeline, Pause ──┘
//! ```
//!
//! | noun | what it is |
//! |---|---|
//! | [`Results`] | everything that was measured; `told` says it as Markdown, JSON and pictures |
//! | [`bars`] | what levee is to reach, and whether it does |
//! | [`Times`] | how long frames are under way at a tenth of the load |
//! | [`Flood`] | what becomes of established flows while nearly all frames begin others |
//! | [`Changes`] | what changing one backend takes, and what it takes from those who forward |
//! | [`Idle`] | what levee costs when there is nothing to do, and what Services cost in memory |
//! | [`Pipeline`] | what a packet takes without a kernel: with more flows, with more of everything, when it begins one |
//! | [`Pause`] | the longest that a turn takes |
//! | [`Machine`] | where all this was measured |
//! | [`plot`] | the pictures |
//!
//! What levee is measured with is what a user has: its binary, a configuration, programs over its control socket.

pub mod bars;
mod changes;
mod flood;
mod idle;
mod machine;
mod pause;
pub mod pipeline;
pub mod plot;
mod results;
mod times;
mod told;

pub use bars::{Bar, Verdict};
pub use changes::{Changes, Kept, change};
pub use flood::{Flood, flood};
pub use idle::{Idle, idle, per_flow};
pub use machine::Machine;
pub use pause::{Kind, Pause};
pub use pipeline::Pipeline;
pub use results::{Results, Row};
pub use times::{Times, time};

use serde_json::{Value, json};

use crate::control::quantile;
use crate::throughput::spread;

/// Middle, least and most of what was measured several times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The one in the middle.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    /// Of some figures; `None` of none.
    #[must_use]
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut figures = figures.into_iter().filter(|figure| figure.is_finite()).peekable();
        figures.peek()?;
        let (median, least, most) = spread(figures);
        Some(Spread { median, least, most })
    }

    /// Of sorted figures; `None` of none. Its median is one that was measured.
    #[must_use]
    pub fn middle(sorted: &[f64]) -> Option<Spread> {
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        Some(Spread { median: quantile(sorted, 0.5), least, most })
    }

    /// For `--json`.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({ "median": self.median, "least": self.least, "most": self.most })
    }

    /// One figure, measured once.
    #[must_use]
    pub fn one(figure: f64) -> Spread {
        Spread { median: figure, least: figure, most: figure }
    }
}
