//! `levee doctor`: whether a host is fit for levee, before it is installed there.
//!
//! ```text
//!  /proc, /sys, netlink, ethtool ─read─► Facts ─┐
//!                                               ├─check::*─► Findings ─► people, programs, exit status
//!  levee-dataplane's configuration ─────────────┘
//! ```
//!
//! Reading and judging are apart: [`read`] changes nothing on the host and knows no rule, [`check`] is pure, one file a noun, and tried on
//! facts that were recorded. `-o json` prints the facts too, so that somebody else can judge them later.

mod check;
mod facts;
mod read;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use levee_dataplane::boot;
use levee_dataplane::config::{self, Config};
use serde::{Deserialize, Serialize};

use self::check::Host;
use self::facts::Facts;
use crate::arguments::Format;
use crate::client::Client;
use crate::failure::Failure;
use crate::input::{self, Input};
use crate::output::value;

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Level {
    /// As it should be.
    Ok,
    /// levee works, but slower, or not in every case.
    Warn,
    /// levee does not work, or does harm.
    Fail,
}

/// One judgement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Finding {
    level: Level,
    /// Which check: the name of its file.
    check: String,
    /// What it says, with the values that it saw.
    message: String,
    /// What to do; a command where there is one.
    fix: Option<String>,
}

impl Finding {
    fn ok(check: &str, message: impl Into<String>) -> Self {
        Finding { level: Level::Ok, check: check.to_owned(), message: message.into(), fix: None }
    }

    fn warn(check: &str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Finding { level: Level::Warn, check: check.to_owned(), message: message.into(), fix: Some(fix.into()) }
    }

    fn fail(check: &str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Finding { level: Level::Fail, ..Finding::warn(check, message, fix) }
    }
}

/// What programs get.
#[derive(Debug, Serialize)]
struct Report<'a> {
    /// Nothing failed.
    fit: bool,
    findings: &'a [Finding],
    facts: &'a Facts,
}

/// Which interfaces, where no configuration says.
pub(super) struct Scope {
    pub(super) config: Option<PathBuf>,
    pub(super) interfaces: Vec<String>,
}

pub(super) fn run(dataplane: &Client, format: Format, scope: &Scope) -> Result<(), Failure> {
    let config = scope.config.as_deref().map(configuration).transpose()?;
    let facts = read::facts(dataplane)?;
    let mut findings = match &config {
        Some(config) => against_this_machine(config)?,
        None => Vec::new(),
    };
    let host = Host::new(&facts, config.as_ref(), &scope.interfaces)
        .map_err(|missing| Failure::argument("--interface", missing))?;
    findings.extend(check::all(&host));
    let fit = findings.iter().all(|finding| finding.level != Level::Fail);
    let out = &mut io::stdout().lock();
    if format.is_for_people() {
        for finding in &findings {
            let level = match finding.level {
                Level::Ok => "OK",
                Level::Warn => "WARN",
                Level::Fail => "FAIL",
            };
            writeln!(out, "{level:<5} {:<10} {}", finding.check, finding.message)?;
            if let Some(fix) = &finding.fix {
                writeln!(out, "{:16} fix: {fix}", "")?;
            }
        }
        let count = |level| findings.iter().filter(|finding| finding.level == level).count();
        writeln!(out, "\n{} OK, {} WARN, {} FAIL", count(Level::Ok), count(Level::Warn), count(Level::Fail))?;
    } else {
        value(out, format, &Report { fit, findings: &findings, facts: &facts })?;
    }
    if fit { Ok(()) } else { Err(Failure::Told(1)) }
}

fn configuration(path: &Path) -> Result<Config, Failure> {
    let Input { name, bytes } = input::read(path)?;
    config::read(&name, &bytes).map_err(Failure::Input)
}

/// What the dataplane itself would refuse here.
fn against_this_machine(config: &Config) -> Result<Vec<Finding>, Failure> {
    let wrong = config.against(&boot::look()?);
    if wrong.is_empty() {
        return Ok(vec![Finding::ok("config", format!("{} is good for this host", config.file))]);
    }
    let findings = wrong.into_iter().map(|wrong| {
        let place = match (wrong.line, wrong.column) {
            (Some(line), Some(column)) => format!("{}:{line}:{column}: ", wrong.file),
            _ => format!("{}: ", wrong.file),
        };
        Finding::fail("config", place + &wrong.message, wrong.help.unwrap_or_default())
    });
    Ok(findings.collect())
}
