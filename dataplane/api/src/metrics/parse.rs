//! A page read back, strictly: what levee's daemons write is held to the format, and `levee metrics -o json` shows it.
//!
//! Stricter than Prometheus, which also takes samples without a type, families in pieces, and times. Levee writes none of these.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// One line with a value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// Its family; the same as `name`, but for histograms.
    pub family: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// Reads a page.
///
/// # Errors
/// The first line that is not as it must be, by its number, and what was expected.
pub fn parse(text: &str) -> Result<Vec<Sample>, String> {
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("the last line has no end: it was cut off".to_owned());
    }
    let mut page = Page::default();
    for (number, line) in (1..).zip(text.lines()) {
        page.line(line).map_err(|error| format!("line {number}: {error}: {line}"))?;
    }
    page.family_ends().map_err(|error| format!("{error}, at the end"))?;
    Ok(page.samples)
}

#[derive(Default)]
struct Page {
    samples: Vec<Sample>,
    families: BTreeSet<String>,
    series: BTreeSet<(String, BTreeMap<String, String>)>,
    /// The family whose lines are being read: its name, and its type once that was read.
    family: Option<(String, Option<String>)>,
    /// Of the histogram that is being read: the count of the bucket before.
    bucket: Option<f64>,
}

impl Page {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or("expected a name and a help text")?;
            self.family_ends()?;
            check_name(name)?;
            if help.is_empty() || !self.families.insert(name.to_owned()) {
                return Err(format!("expected a help text, and each family once; `{name}`"));
            }
            self.family = Some((name.to_owned(), None));
            return Ok(());
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or("expected a name and a type")?;
            return match &mut self.family {
                Some((family, of @ None)) if family == name && ["counter", "gauge", "histogram"].contains(&kind) => {
                    *of = Some(kind.to_owned());
                    Ok(())
                }
                _ => Err("expected the type of the family whose help stands above, once".to_owned()),
            };
        }
        self.sample(line)
    }

    fn sample(&mut self, line: &str) -> Result<(), String> {
        let Some((family, Some(kind))) = &self.family else {
            return Err("expected `# HELP` and `# TYPE` before samples".to_owned());
        };
        let (series, value) = line.rsplit_once(' ').ok_or("expected a value")?;
        let value: f64 = value.parse().map_err(|_| format!("`{value}` is no number"))?;
        let (name, labels) = match series.split_once('{') {
            Some((name, rest)) => (name, labels(rest.strip_suffix('}').ok_or("expected `}` before the value")?)?),
            None => (series, BTreeMap::new()),
        };
        let suffix = name.strip_prefix(family.as_str()).ok_or_else(|| format!("expected a sample of `{family}`"))?;
        let may = if kind == "histogram" { &["_bucket", "_sum", "_count"][..] } else { &[""] };
        if !may.contains(&suffix) {
            return Err(format!("expected a sample of the {kind} `{family}`"));
        }
        if kind != "gauge" && (value.is_nan() || value < 0.0) {
            return Err("only gauges may be less than nothing".to_owned());
        }
        match (suffix, labels.get("le")) {
            ("_bucket", Some(_)) => {
                if self.bucket.is_some_and(|before| before > value) {
                    return Err("a bucket holds what the one before it holds".to_owned());
                }
                self.bucket = Some(value);
            }
            ("_bucket", None) => return Err("expected a bound, `le`".to_owned()),
            ("_count", _) if self.bucket.take() != Some(value) => {
                return Err("the last bucket holds all, which `_count` counts".to_owned());
            }
            _ => {}
        }
        if !self.series.insert((name.to_owned(), labels.clone())) {
            return Err("expected each series once".to_owned());
        }
        let (family, kind) = (family.clone(), kind.clone());
        self.samples.push(Sample { family, kind, name: name.to_owned(), labels, value });
        Ok(())
    }

    fn family_ends(&mut self) -> Result<(), String> {
        match self.family.take() {
            Some((name, None)) => Err(format!("`{name}` has no type")),
            _ if self.bucket.is_some() => Err("a histogram without `_count`".to_owned()),
            _ => Ok(()),
        }
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let may = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.bytes().next().is_some_and(|first| !first.is_ascii_digit()) && name.bytes().all(may) {
        return Ok(());
    }
    Err(format!("`{name}` is no name"))
}

/// What stands between braces.
fn labels(mut text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut labels = BTreeMap::new();
    loop {
        let (name, rest) = text.split_once("=\"").ok_or("expected `name=\"value\"`")?;
        check_name(name)?;
        let mut value = String::new();
        let mut characters = rest.char_indices();
        let end = loop {
            match characters.next() {
                Some((end, '"')) => break end,
                Some((_, '\\')) => match characters.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, escaped @ ('\\' | '"'))) => value.push(escaped),
                    _ => return Err("expected `\\\\`, `\\\"` or `\\n`".to_owned()),
                },
                Some((_, other)) => value.push(other),
                None => return Err("a label's value has no end".to_owned()),
            }
        };
        if labels.insert(name.to_owned(), value).is_some() {
            return Err(format!("the label `{name}` stands twice"));
        }
        match rest.split_at_checked(end + 1) {
            Some((_, "")) => return Ok(labels),
            Some((_, more)) => text = more.strip_prefix(',').ok_or("expected `,` between labels")?,
            None => return Err("a label's value has no end".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# HELP a_total A.\n# TYPE a_total counter\na_total{x=\"1\",y=\"}, \\\"\"} 3\n\
        # HELP t_seconds T.\n# TYPE t_seconds histogram\nt_seconds_bucket{le=\"1\"} 1\nt_seconds_bucket{le=\"+Inf\"} 2\n\
        t_seconds_sum 1.5\nt_seconds_count 2\n";

    #[test]
    fn a_good_page_is_read() {
        let samples = parse(GOOD).expect("good");
        assert_eq!(samples.len(), 5);
        assert_eq!(samples[0].labels["y"], "}, \"");
        assert_eq!(samples[3].value, 1.5);
        assert_eq!(parse(""), Ok(Vec::new()));
    }

    #[test]
    fn every_breach_is_told() {
        for (from, to, expected) in [
            ("# HELP a_total A.\n", "", "line 1: expected the type of the family"),
            ("# TYPE a_total counter\n", "", "line 2: expected `# HELP` and `# TYPE`"),
            ("# TYPE a_total counter\n", "# TYPE a_total meter\n", "line 2: expected the type"),
            ("} 3\n", "} 3\na_total{x=\"1\",y=\"}, \\\"\"} 3\n", "line 4: expected each series once"),
            ("} 3\n", "} three\n", "line 3: `three` is no number"),
            ("} 3\n", "} -3\n", "line 3: only gauges"),
            ("a_total{", "b_total{", "line 3: expected a sample of `a_total`"),
            ("a_total{", "a_total_sum{", "line 3: expected a sample of the counter"),
            ("x=\"1\",", "x=\"1\"", "line 3: expected `,`"),
            ("x=\"1\"", "x=1", "line 3: "),
            ("x=\"1\"", "y=\"1\"", "line 3: the label `y` stands twice"),
            ("{le=\"1\"} 1", "{le=\"1\"} 3", "line 7: a bucket holds"),
            ("t_seconds_count 2", "t_seconds_count 3", "line 9: the last bucket"),
            ("t_seconds_count 2\n", "", "a histogram without `_count`, at the end"),
            ("# HELP t_seconds T.", "# HELP a_total T.", "line 4: expected a help text, and each family once"),
            ("t_seconds_count 2\n", "t_seconds_count 2", "the last line has no end"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let told = parse(&GOOD.replacen(from, to, 1)).expect_err(expected);
            assert!(told.contains(expected), "{from:?} → {to:?}: {told}");
        }
    }

    #[test]
    fn no_cut_or_changed_page_panics() {
        for end in 0..GOOD.len() {
            let _ = parse(&GOOD[..end]);
            for byte in ["{", "}", "\"", "\\", " ", "\n", "é"] {
                let _ = parse(&format!("{}{byte}{}", &GOOD[..end], &GOOD[end..]));
            }
        }
    }
}
