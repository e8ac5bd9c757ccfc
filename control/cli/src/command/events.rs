//! `levee events`: what happened, and with `--follow` what happens.

use std::io::{self, Write as _};
use std::time::{Duration, UNIX_EPOCH};

use levee_api::report::Event;

use crate::arguments::Format;
use crate::client::{Client, Patience};
use crate::failure::Failure;
use crate::output::{Column, Row, column, item, list};

pub(super) fn show(client: &Client, format: Format, follow: bool) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    if !follow {
        let mut events: Vec<Event> = Vec::new();
        client.stream("/v1/events", Patience::Bounded, |event| {
            events.push(event);
            Ok(true)
        })?;
        list(&mut stdout, format, &events)?;
        return Ok(stdout.flush()?);
    }
    client.stream("/v1/events?follow=true", Patience::ForEver, |event: Event| {
        if format.is_for_people() {
            writeln!(stdout, "{}  {:16} {}", time(&event), event.kind, event.message)?;
        } else {
            item(&mut stdout, format, &event)?;
        }
        stdout.flush()?;
        Ok(true)
    })
}

impl Row for Event {
    const COLUMNS: &'static [Column<Self>] = &[
        column("TIME", time),
        column("KIND", |event| event.kind.clone()),
        column("MESSAGE", |event| event.message.clone()),
    ];
}

/// RFC 3339, UTC.
fn time(event: &Event) -> String {
    match UNIX_EPOCH.checked_add(Duration::from_secs(event.time)) {
        Some(time) => humantime::format_rfc3339_seconds(time).to_string(),
        None => event.time.to_string(),
    }
}
