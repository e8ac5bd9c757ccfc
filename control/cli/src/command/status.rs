//! `levee status`: both daemons at a glance. One that cannot be asked leaves the other's half standing.

use std::io::Write;

use levee_api::program::Generation;
use levee_api::report::{Health, Scheduling, Status, WorkerStatus};
use levee_control::daemon::{DataplaneState, Status as Control};
use serde::Serialize;

use crate::arguments::{Format, Watch};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{Column, Row, column, count, duration, list, or_dash, value, wide};
use crate::repeat::repeat;

/// What programs get: each daemon's own words, or why there are none.
#[derive(Serialize)]
struct Both {
    dataplane: Option<Status>,
    dataplane_error: Option<String>,
    control: Option<Control>,
    control_error: Option<String>,
}

pub(super) fn show(dataplane: &Client, control: &Client, format: Format, watch: Watch) -> Result<(), Failure> {
    repeat(watch.watch, |out| {
        let asked = dataplane.get::<Status>("/v1/status");
        let controls = control.get::<Control>("/v1/status");
        if format.is_for_people() {
            match &asked {
                Ok(status) => dataplane_half(out, format, status)?,
                Err(failure) => writeln!(out, "dataplane   cannot be asked: {failure}")?,
            }
            writeln!(out)?;
            control_half(out, &controls, asked.as_ref().ok().map(|status| status.generation))?;
            return told(asked);
        }
        let said = |failure: &Failure| failure.to_string();
        let both = Both {
            dataplane_error: asked.as_ref().err().map(said),
            dataplane: asked.as_ref().ok().cloned(),
            control_error: controls.as_ref().err().map(said),
            control: controls.ok(),
        };
        value(out, format, &both)?;
        told(asked)
    })
}

/// Without the dataplane it is a failure, about which all was said.
fn told(asked: Result<Status, Failure>) -> Result<(), Failure> {
    asked.map(drop).map_err(|_| Failure::Told(1))
}

fn dataplane_half(out: &mut impl Write, format: Format, status: &Status) -> Result<(), Failure> {
    let up = duration(status.uptime_seconds);
    writeln!(out, "dataplane   levee-dataplane {}, process {}, up {up}", status.version, status.pid)?;
    health(out, &status.health)?;
    match status.generation {
        0 => writeln!(out, "generation  0: nothing was programmed yet")?,
        generation => writeln!(out, "generation  {generation}")?,
    }
    writeln!(
        out,
        "programmed  {}, {}, {}",
        count(status.services, "service", "services"),
        count(status.vips, "VIP", "VIPs"),
        count(status.backends, "backend", "backends"),
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
    asked: &Result<Control, Failure>,
    runs: Option<Generation>,
) -> Result<(), Failure> {
    let status = match asked {
        Ok(status) => status,
        Err(failure) => {
            writeln!(out, "control     cannot be asked, and without it nothing new is programmed: {failure}")?;
            return Ok(());
        }
    };
    let up = duration(status.uptime_seconds);
    writeln!(out, "control     levee-control {}, process {}, up {up}", status.version, status.pid)?;
    writeln!(out, "compiles    for {} `{}`", status.role, status.node)?;
    health(out, &status.health)?;
    for source in &status.sources {
        let how = match (source.complete, source.failing_seconds) {
            (true, None) => String::new(),
            (true, Some(seconds)) => format!(" (STALE: cannot be read for {})", duration(seconds)),
            (false, _) => " (not read completely yet)".to_owned(),
        };
        writeln!(out, "source      {}{how}", source.name)?;
    }
    match status.compiled_seconds_ago {
        Some(seconds) => writeln!(
            out,
            "compiled    {} ago: {}, {}, {}",
            duration(seconds),
            count(status.services, "service", "services"),
            count(status.vips, "VIP", "VIPs"),
            count(status.backends, "backend", "backends"),
        )?,
        None => writeln!(out, "compiled    nothing yet")?,
    }
    for mistake in &status.mistakes {
        writeln!(out, "MISTAKE     {mistake}")?;
    }
    for notice in &status.notices {
        writeln!(out, "note        {notice}")?;
    }
    if let Some(allocator) = &status.allocator {
        let lacking = match allocator.unassigned {
            0 => String::new(),
            number => format!(", {number} without all they should have"),
        };
        match allocator.leads {
            true => writeln!(
                out,
                "addresses   leads by Lease {}: {}{lacking}",
                allocator.lease,
                count(allocator.services, "Service", "Services")
            )?,
            false => writeln!(out, "addresses   candidate for Lease {}, another leads", allocator.lease)?,
        }
    }
    if status.dataplane.socket == "none" {
        return Ok(());
    }
    let generation = status.dataplane.generation;
    let message = status.dataplane.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
    let generation = match (generation, runs) {
        // It is programmed by somebody else, or was restarted and is being told.
        (Some(told), Some(runs)) if told != runs => format!(", told generation {told} and runs {runs}"),
        (Some(told), _) => format!(", generation {told}"),
        (None, _) => String::new(),
    };
    writeln!(out, "dataplane   {}{generation}{message}", state(status.dataplane.state))?;
    if let Some(election) = &status.election {
        writeln!(out, "election    {}", super::owners::line(election))?;
    }
    Ok(())
}

fn state(state: DataplaneState) -> &'static str {
    match state {
        DataplaneState::Unknown => "not asked yet",
        DataplaneState::InStep => "in step",
        DataplaneState::Reached => "reached, NOT in step yet",
        DataplaneState::Refused => "REFUSES what was compiled last",
        DataplaneState::Unreachable => "UNREACHABLE",
    }
}

fn health(out: &mut impl Write, health: &Health) -> Result<(), Failure> {
    if health.healthy {
        writeln!(out, "health      well")?;
    }
    for problem in &health.problems {
        writeln!(out, "health      PROBLEM: {problem}")?;
    }
    Ok(())
}

impl Row for WorkerStatus {
    const COLUMNS: &'static [Column<Self>] = &[
        column("WORKER", |worker| worker.worker.to_string()),
        column("CORE", |worker| worker.core.to_string()),
        column("SCHEDULED", |worker| or_dash(worker.scheduling.as_ref())),
        column("GENERATION", |worker| worker.generation.to_string()),
        column("FLOWS", |worker| worker.flows.to_string()),
        column("ROOM FOR", |worker| worker.flow_capacity.to_string()),
        column("ALIVE", |worker| if worker.alive { "yes" } else { "NO" }.to_owned()),
        wide("SLICE", slice),
        wide("RECEIVED", |worker| worker.received.to_string()),
        wide("FORWARDED", |worker| worker.forwarded.to_string()),
        wide("DROPPED", |worker| worker.dropped.to_string()),
        wide("HANDED OVER", |worker| worker.handed_over.to_string()),
        wide("TAKEN OVER", |worker| worker.taken_over.to_string()),
    ];
}

/// How long a worker asks to run at a time, where it has a share of its core.
fn slice(worker: &WorkerStatus) -> String {
    let micros = match worker.scheduling {
        Some(Scheduling::Fair { slice_microseconds, .. }) => slice_microseconds,
        _ => None,
    };
    or_dash(micros.map(|micros| format!("{micros} µs")).as_ref())
}
