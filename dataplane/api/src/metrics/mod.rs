//! Metrics as Prometheus reads them: families, each declared once, and the text exposition format 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! ```text
//!  families! { … }  ──► FAMILIES ──► docs/metrics.md
//!       │
//!       ▼
//!  Exposition::begin(&FAMILY).sample(labels, value) ──► text ──► GET /metrics ──► Prometheus
//!                                                                            └──► parse ──► levee metrics -o json
//! ```
//!
//! Both daemons already keep what they count, in the form that forwarding and programming want it; a page is made of that when somebody
//! asks. So there is no registry here, which would be a second place for every number.
//!
//! Values are written as they are given. A counter is a `u64` that wraps at 2^64; Prometheus reads it as a 64-bit float.

mod histogram;
mod parse;

use std::fmt::{self, Display, Write as _};

pub use histogram::Histogram;
pub use parse::{Sample, parse};

/// The `content-type` of a page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a family's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until its process ends.
    Counter,
    /// Is what it is now.
    Gauge,
    /// How often a time was at most so long.
    Histogram,
}

impl Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        })
    }
}

/// A name under which one thing is told, once for each value of its labels.
#[derive(Debug)]
pub struct Family {
    /// Its name; by Prometheus's conventions, with its base unit, and `_total` for counters.
    pub name: &'static str,
    /// What its values are.
    pub kind: Kind,
    /// What it tells.
    pub help: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// How many series it has, in words; what bounds them.
    pub series: &'static str,
}

impl Family {
    const fn new(kind: Kind, name: &'static str, help: &'static str) -> Self {
        Family { name, kind, help, labels: &[], series: "1" }
    }

    /// A counter without labels.
    #[must_use]
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Counter, name, help)
    }

    /// A gauge without labels.
    #[must_use]
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Gauge, name, help)
    }

    /// A histogram without labels.
    #[must_use]
    pub const fn histogram(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Histogram, name, help)
    }

    /// The same with labels, and the bound of what they make.
    #[must_use]
    pub const fn by(self, labels: &'static [&'static str], series: &'static str) -> Self {
        Family { labels, series, ..self }
    }
}

/// Declares families, each once, and `FAMILIES`, the list of them all, which documents and tests are made from.
#[macro_export]
macro_rules! families {
    ($($family:ident = $declared:expr;)+) => {
        $(static $family: $crate::metrics::Family = $declared;)+

        /// Every family, in the order of the page.
        pub static FAMILIES: &[&$crate::metrics::Family] = &[$(&$family),+];
    };
}

/// A page that is being written.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// Begins a family. Each may be begun once; its samples follow before the next one's.
    pub fn begin<'p>(&'p mut self, family: &'static Family) -> Samples<'p> {
        let Family { name, kind, help, .. } = family;
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(self.text, "# HELP {name} {}\n# TYPE {name} {kind}", Escaped { text: help, quotes: false });
        Samples { text: &mut self.text, family }
    }

    /// A family without labels, whole.
    pub fn single(&mut self, family: &'static Family, value: impl Display) {
        self.begin(family).sample(&[], value);
    }

    /// The page.
    #[must_use]
    pub fn finish(self) -> String {
        self.text
    }
}

/// The samples of one family.
#[derive(Debug)]
pub struct Samples<'p> {
    text: &'p mut String,
    family: &'static Family,
}

impl Samples<'_> {
    /// Adds a sample, by the values of the family's labels in their order.
    pub fn sample(&mut self, labels: &[&str], value: impl Display) {
        self.line("", labels, None, value);
    }

    /// Adds the samples of a histogram.
    pub fn histogram(&mut self, labels: &[&str], histogram: &Histogram) {
        for (bound, count) in histogram.buckets() {
            self.line("_bucket", labels, Some(bound), count);
        }
        self.line("_sum", labels, None, histogram.sum().as_secs_f64());
        self.line("_count", labels, None, histogram.count());
    }

    fn line(&mut self, suffix: &str, labels: &[&str], bound: Option<&str>, value: impl Display) {
        debug_assert_eq!(labels.len(), self.family.labels.len(), "{}", self.family.name);
        let named = self.family.labels.iter().copied().zip(labels.iter().copied());
        let all = named.chain(bound.map(|bound| ("le", bound)));
        let _ = write!(self.text, "{}{suffix}", self.family.name);
        let mut opening = '{';
        for (name, text) in all {
            let _ = write!(self.text, "{opening}{name}=\"{}\"", Escaped { text, quotes: true });
            opening = ',';
        }
        let closing = if opening == ',' { "}" } else { "" };
        let _ = writeln!(self.text, "{closing} {value}");
    }
}

/// A text in which nothing ends its line, nor, in a label, the quotes around it.
struct Escaped<'t> {
    text: &'t str,
    quotes: bool,
}

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.text.chars() {
            match character {
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '"' if self.quotes => f.write_str("\\\"")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// Families as rows of a document's table.
#[must_use]
pub fn table(families: &[&Family]) -> String {
    let mut text = String::from("| family | type | labels | series | what it tells |\n|---|---|---|---|---|\n");
    for Family { name, kind, help, labels, series } in families {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(text, "| `{name}` | {kind} | {} | {series} | {help} |", labels.join(", "));
    }
    text
}

/// What breaks the conventions of names, in words: for the tests of those who declare families.
#[must_use]
pub fn unconventional(families: &[&Family]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (index, family) in families.iter().enumerate() {
        let Family { name, kind, help, labels, series } = family;
        let mut complain = |what: &str| complaints.push(format!("{name}: {what}"));
        let is_word =
            |word: &str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !name.starts_with("levee_") || !is_word(name) || !labels.iter().all(|label| is_word(label)) {
            complain("names are lower-case words joined by `_`, and begin with `levee_`");
        }
        if name.ends_with("_total") != (*kind == Kind::Counter) {
            complain("counters, and nothing else, end in `_total`");
        }
        if *kind == Kind::Histogram && !name.ends_with("_seconds") {
            complain("a histogram is of times, in seconds");
        }
        if !help.ends_with('.') || help.contains('|') {
            complain("the help is a sentence, and stands in a table");
        }
        if labels.is_empty() != (*series == "1") {
            complain("labels make series, and what bounds their number must be said");
        }
        if families.iter().take(index).any(|other| other.name == *name) {
            complain("declared twice");
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    // `FAMILIES` is for others everywhere but here.
    #![allow(unreachable_pub)]

    use super::*;
    use std::time::Duration;

    families! {
        FRAMES = Family::counter("levee_frames_total", "Frames.").by(&["port", "outcome"], "two a port");
        UP = Family::gauge("levee_up", "With a \\ and\na second line.");
        TIME = Family::histogram("levee_time_seconds", "How long.").by(&["kind"], "1 a kind");
    }

    #[test]
    fn a_page_is_what_the_format_says() {
        let mut page = Exposition::default();
        let mut frames = page.begin(&FRAMES);
        frames.sample(&["eth0", "sent"], 7);
        frames.sample(&["a\"b\\c\nd", "sent"], u64::MAX);
        page.single(&UP, 1);
        let mut histogram = Histogram::default();
        histogram.observe(Duration::from_millis(3));
        histogram.observe(Duration::from_secs(600));
        page.begin(&TIME).histogram(&["full"], &histogram);
        let text = page.finish();
        let start = "# HELP levee_frames_total Frames.\n\
             # TYPE levee_frames_total counter\n\
             levee_frames_total{port=\"eth0\",outcome=\"sent\"} 7\n\
             levee_frames_total{port=\"a\\\"b\\\\c\\nd\",outcome=\"sent\"} 18446744073709551615\n\
             # HELP levee_up With a \\\\ and\\na second line.\n\
             # TYPE levee_up gauge\n\
             levee_up 1\n\
             # HELP levee_time_seconds How long.\n\
             # TYPE levee_time_seconds histogram\n\
             levee_time_seconds_bucket{kind=\"full\",le=\"0.0001\"} 0\n";
        assert!(text.starts_with(start), "{text}");
        let end = "levee_time_seconds_bucket{kind=\"full\",le=\"300\"} 1\n\
             levee_time_seconds_bucket{kind=\"full\",le=\"+Inf\"} 2\n\
             levee_time_seconds_sum{kind=\"full\"} 600.003\n\
             levee_time_seconds_count{kind=\"full\"} 2\n";
        assert!(text.ends_with(end), "{text}");
        assert!(text.contains("le=\"0.0025\"} 0\n") && text.contains("le=\"0.005\"} 1\n"), "{text}");

        let samples = parse(&text).expect("our own page");
        assert_eq!(samples.len(), 2 + 1 + 19 + 2);
        assert_eq!(samples[1].labels["port"], "a\"b\\c\nd");
        assert_eq!((samples[2].name.as_str(), samples[2].value), ("levee_up", 1.0));
        assert_eq!((samples[3].family.as_str(), samples[3].kind.as_str()), ("levee_time_seconds", "histogram"));
    }

    #[test]
    fn conventions_are_kept_and_breaches_are_found() {
        assert_eq!(unconventional(FAMILIES), Vec::<String>::new());
        let bad = Family::gauge("levee_frames_total", "No sentence");
        let worse = Family::histogram("Levee_time", "A sentence.").by(&["kind"], "1");
        let complaints = unconventional(&[&FRAMES, &bad, &worse]).join("\n");
        for part in
            ["end in `_total`", "is a sentence", "declared twice", "lower-case", "in seconds", "bounds their number"]
        {
            assert!(complaints.contains(part), "{part}: {complaints}");
        }
    }
}
