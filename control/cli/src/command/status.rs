//! `levee status`: both daemons at a glance. One that cannot be asked leaves the other's half standing.

use std::io::Write;

use levee_api::report::{Status, WorkerStatus};
use serde::Serialize;
use serde_json::Value;

use crate::arguments::{Format, Watch};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Column, Row, column, count, duration, list, value};
use crate::repeat::repeat;

/// What programs get: each daemon's own words, or why there are none.
#[derive(Serialize)]
struct Both {
    dataplane: Option<Status>,
    dataplane_error: Option<String>,
    control: Option<Value>,
    control_error: Option<String>,
}

pub(super) fn show(dataplane: &Client, control: &Client, format: Format, watch: Watch) -> Result<(), Failure> {
    repeat(watch.watch, |out| {
        let asked = dataplane.get::<Status>("/v1/status");
        let controls = control.get::<Value>("/v1/status");
        if format.is_for_people() {
            match &asked {
                Ok(status) => dataplane_half(out, format, status)?,
                Err(failure) => writeln!(out, "dataplane   cannot be asked: {failure}")?,
            }
            writeln!(out)?;
            control_half(out, &controls, asked.as_ref().ok())?;
            return asked.map(|_| ());
        }
        let said = |failure: &Failure| failure.to_string();
        let both = Both {
            dataplane_error: asked.as_ref().err().map(said),
            dataplane: asked.as_ref().ok().cloned(),
            control_error: controls.as_ref().err().map(said),
            control: controls.ok(),
        };
        value(out, format, &both)?;
        asked.map(|_| ())
    })
}

fn dataplane_half(out: &mut impl Write, format: Format, status: &Status) -> Result<(), Failure> {
    let up = duration(status.uptime_seconds);
    writeln!(out, "dataplane   levee-dataplane {}, process {}, up {up}", status.version, status.pid)?;
    if status.health.healthy {
        writeln!(out, "health      well")?;
    }
    for problem in &status.health.problems {
        writeln!(out, "health      PROBLEM: {problem}")?;
    }
    match status.generation {
        0 => writeln!(out, "generation  0: nothing was programmed yet")?,
        generation => writeln!(out, "generation  {generation}")?,
    }
    let size = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    writeln!(
        out,
        "programmed  {}, {}, {}",
        count(size(status.services), "service", "services"),
        count(size(status.vips), "VIP", "VIPs"),
        count(size(status.backends), "backend", "backends"),
    )?;
    writeln!(out, "flows       {} of {} tracked", status.flows, status.flow_capacity)?;
    if !status.workers.is_empty() {
        writeln!(out)?;
        list(out, format, &status.workers)?;
    }
    Ok(())
}

/// Control is asked for what it says of itself; a dataplane goes on without it, so its absence is told and no failure.
fn control_half(
    out: &mut impl Write,
    asked: &Result<Value, Failure>,
    dataplane: Option<&Status>,
) -> Result<(), Failure> {
    let _ = dataplane;
    match asked {
        Ok(status) => writeln!(out, "control     {status}")?,
        Err(failure) => {
            writeln!(out, "control     cannot be asked, and nothing new is programmed without it: {failure}")?
        }
    }
    Ok(())
}

impl Row for WorkerStatus {
    const COLUMNS: &'static [Column<Self>] = &[
        column("WORKER", |worker| worker.worker.to_string()),
        column("CORE", |worker| worker.core.to_string()),
        column("GENERATION", |worker| worker.generation.to_string()),
        column("FLOWS", |worker| worker.flows.to_string()),
        column("ROOM FOR", |worker| worker.flow_capacity.to_string()),
        column("ALIVE", |worker| if worker.alive { "yes" } else { "NO" }.to_owned()),
    ];
}
