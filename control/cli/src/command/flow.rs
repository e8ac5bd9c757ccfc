//! `levee flow list`, `watch` and `flush`: connections that are tracked.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use levee_api::net::Protocol;
use levee_api::report::{self, FlowFilter, Flushed};
use serde::Serialize;

use crate::arguments::{Flow, Format};
use crate::client::{Client, Patience};
use crate::failure::Failure;
use crate::output::{Column, Row, column, count, duration, item, list, or_dash, value, wide};
use crate::repeat::repeat;

/// As many rows as somebody may look at; columns are as wide as their widest word, so a table is held in memory whole.
const ROWS: usize = 1000;

pub(super) fn run(client: &Client, format: Format, command: Flow) -> Result<(), Failure> {
    match command {
        Flow::List { filter, limit, watch } => {
            let path = path(&filter.into());
            let limit = match limit {
                Some(0) => None,
                None if format.is_for_people() => Some(ROWS),
                limit => limit,
            };
            repeat(watch.watch, |out| show(client, format, &path, limit, out))
        }
        Flow::Watch { filter, interval } => follow(client, format, &path(&filter.into()), interval),
        Flow::Flush { filter, all } => {
            let filter = FlowFilter::from(filter);
            if filter == FlowFilter::default() && !all {
                return Err(Failure::argument(
                    "levee flow flush",
                    "no filter is given, so every flow would be forgotten: say `--all`, or which (`--help` lists filters)",
                ));
            }
            flush(client, format, &path(&filter))
        }
    }
}

fn path(filter: &FlowFilter) -> String {
    let FlowFilter { client, frontend, port, backend, protocol, service } = filter;
    let words = [
        ("client", client.map(|address| address.to_string())),
        ("frontend", frontend.map(|address| address.to_string())),
        ("port", port.map(|port| port.to_string())),
        ("backend", backend.map(|address| address.to_string())),
        ("protocol", protocol.map(|protocol| protocol.to_string())),
        ("service", service.clone()),
    ];
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(words.iter().filter_map(|(name, word)| Some((name, word.as_ref()?))));
    let query = query.finish();
    if query.is_empty() { "/v1/flows".to_owned() } else { format!("/v1/flows?{query}") }
}

fn show(client: &Client, format: Format, path: &str, limit: Option<usize>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let mut flows: Vec<report::Flow> = Vec::new();
    let mut more = false;
    client.stream(path, Patience::Bounded, |flow| {
        more = limit.is_some_and(|limit| flows.len() >= limit);
        if !more {
            flows.push(flow);
        }
        Ok(!more)
    })?;
    list(out, format, &flows)?;
    if more {
        eprintln!("levee: there are more than {}; use a filter, or `--limit 0` for all", flows.len());
    }
    Ok(())
}

fn flush(client: &Client, format: Format, path: &str) -> Result<(), Failure> {
    let flushed: Flushed = client.delete(path)?;
    let mut stdout = io::stdout().lock();
    if format.is_for_people() {
        writeln!(stdout, "{} forgotten", count(flushed.flows, "flow", "flows"))?;
        return Ok(());
    }
    value(&mut stdout, format, &flushed)
}

// --- Watching --------------------------------------------------------------------------------------------------------

/// What makes a flow the same flow when it is seen again.
type Identity = (Protocol, Option<u8>, SocketAddr, SocketAddr, SocketAddr);

fn identity(flow: &report::Flow) -> Identity {
    (flow.protocol, flow.number, flow.client, flow.frontend, flow.backend)
}

/// What happened to a flow between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Change {
    /// There, at the first look.
    Present,
    Begun,
    State,
    Ended,
}

#[derive(Debug, Serialize)]
struct Changed<'f> {
    change: Change,
    flow: &'f report::Flow,
}

/// What tells two looks apart, in the order of flows.
fn changes<'f>(
    before: Option<&'f BTreeMap<Identity, report::Flow>>,
    now: &'f BTreeMap<Identity, report::Flow>,
) -> Vec<Changed<'f>> {
    let Some(before) = before else {
        return now.values().map(|flow| Changed { change: Change::Present, flow }).collect();
    };
    let mut changes: Vec<_> = before
        .iter()
        .filter(|(identity, _)| !now.contains_key(*identity))
        .map(|(_, flow)| Changed { change: Change::Ended, flow })
        .collect();
    for (identity, flow) in now {
        match before.get(identity) {
            None => changes.push(Changed { change: Change::Begun, flow }),
            Some(old) if old.state != flow.state => changes.push(Changed { change: Change::State, flow }),
            Some(_) => {}
        }
    }
    changes
}

fn follow(client: &Client, format: Format, path: &str, interval: Duration) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let mut before = None;
    loop {
        let mut now = BTreeMap::new();
        client.stream(path, Patience::Bounded, |flow: report::Flow| {
            now.insert(identity(&flow), flow);
            Ok(true)
        })?;
        for change in changes(before.as_ref(), &now) {
            if format.is_for_people() {
                line(&mut stdout, &change)?;
            } else {
                item(&mut stdout, format, &change)?;
            }
        }
        stdout.flush()?;
        before = Some(now);
        thread::sleep(interval);
    }
}

fn line(out: &mut impl Write, Changed { change, flow }: &Changed<'_>) -> Result<(), Failure> {
    let mark = match change {
        Change::Present => "=",
        Change::Begun => "+",
        Change::State => "~",
        Change::Ended => "-",
    };
    let protocol = flow.carries();
    let report::Flow { client, frontend, backend, state, service, mode, .. } = flow;
    writeln!(out, "{mark} {protocol} {client} > {frontend} > {backend}  {state}  {mode}  {service}")?;
    Ok(())
}

impl Row for report::Flow {
    const COLUMNS: &'static [Column<Self>] = &[
        column("PROTOCOL", |flow| flow.carries().to_string()),
        column("CLIENT", |flow| flow.client.to_string()),
        column("FRONTEND", |flow| flow.frontend.to_string()),
        column("BACKEND", |flow| flow.backend.to_string()),
        column("MODE", |flow| flow.mode.to_string()),
        column("STATE", |flow| flow.state.clone()),
        column("IDLE", |flow| duration(flow.idle_seconds)),
        column("SERVICE", |flow| flow.service.clone()),
        wide("SEEN AS", |flow| or_dash(flow.snat.as_ref())),
        wide("EXPIRES", |flow| duration(flow.expires_seconds)),
        wide("WORKER", |flow| flow.worker.to_string()),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use levee_api::program::Mode;

    fn flow(client: u16, state: &str) -> report::Flow {
        report::Flow {
            worker: 0,
            protocol: Protocol::Tcp,
            number: None,
            client: ([192, 0, 2, 7], client).into(),
            frontend: ([10, 96, 0, 1], 80).into(),
            backend: ([10, 244, 1, 1], 8080).into(),
            snat: None,
            service: "default/web:http".into(),
            mode: Mode::Dnat,
            state: state.into(),
            idle_seconds: 0,
            expires_seconds: 60,
        }
    }

    fn look(flows: &[(u16, &str)]) -> BTreeMap<Identity, report::Flow> {
        flows.iter().map(|(client, state)| flow(*client, state)).map(|flow| (identity(&flow), flow)).collect()
    }

    #[test]
    fn only_what_changed_is_told() {
        let (before, now) = (
            look(&[(1, "syn"), (2, "established"), (3, "closing")]),
            look(&[(1, "established"), (2, "established"), (4, "syn")]),
        );
        let told = |changes: Vec<Changed<'_>>| -> Vec<_> {
            changes.into_iter().map(|changed| (changed.change, changed.flow.client.port())).collect()
        };
        assert_eq!(told(changes(Some(&before), &now)), [(Change::Ended, 3), (Change::State, 1), (Change::Begun, 4)]);
        assert_eq!(told(changes(Some(&now), &now)), []);
        assert_eq!(told(changes(None, &now)).len(), 3);
    }

    #[test]
    fn filters_are_query_strings_that_cannot_break_out() {
        let filter = FlowFilter {
            client: Some("2001:db8::1".parse().expect("an address")),
            port: Some(80),
            service: Some("default/web:http&port=81".into()),
            ..FlowFilter::default()
        };
        assert_eq!(
            path(&filter),
            "/v1/flows?client=2001%3Adb8%3A%3A1&port=80&service=default%2Fweb%3Ahttp%26port%3D81"
        );
        assert_eq!(path(&FlowFilter::default()), "/v1/flows");
    }
}
