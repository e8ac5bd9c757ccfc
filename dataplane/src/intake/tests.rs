//! The socket against a fake dataplane: friendly clients, hostile ones, and those without rights.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use levee_api::explain::{Explanation, Fate, Question};
use levee_api::metrics::Sample;
use levee_api::net::{Family, Protocol, Role};
use levee_api::program::{Applied, Delta, Mode, Program, ServiceKey, Side};
use levee_api::report::*;
use levee_api::term::{Term, TermStatus};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::rights::Policy;
use super::*;
use crate::counters::Counter;
use crate::events::{Events, Kind};
use crate::reason::Reason;

/// Remembers programs, and has more flows than fit into any socket buffer.
#[derive(Default)]
struct Fake {
    program: Mutex<Arc<Program>>,
    term: Mutex<Option<Term>>,
    events: Events,
    counters: crate::counters::Counters,
}

const FLOWS: usize = 200_000;

fn flow(number: usize) -> Flow {
    Flow {
        worker: 0,
        protocol: Protocol::Tcp,
        number: None,
        client: ([192, 0, 2, 7], number as u16).into(),
        frontend: ([10, 96, 0, 1], 80).into(),
        backend: ([10, 1, 0, (number % 3) as u8], 8080).into(),
        snat: None,
        service: "default/web:http".to_owned(),
        mode: Mode::Nat,
        state: "established".to_owned(),
        idle_seconds: 1,
        expires_seconds: 2,
    }
}

impl Fake {
    fn programmed(&self) -> Arc<Program> {
        Arc::clone(&self.program.lock().unwrap())
    }
}

impl Subject for Fake {
    fn status(&self) -> Status {
        Status {
            version: "test".to_owned(),
            pid: 1,
            uptime_seconds: 2,
            generation: self.programmed().generation,
            health: self.health(),
            workers: Vec::new(),
            services: 0,
            vips: 0,
            backends: 0,
            flows: 0,
            flow_capacity: 0,
        }
    }
    fn health(&self) -> Health {
        Health { healthy: false, problems: vec!["it is a fake".to_owned()] }
    }
    fn program(&self) -> Pending<'_, Result<Arc<Program>, String>> {
        Box::pin(async { Ok(self.programmed()) })
    }
    fn counters(&self) -> Counters {
        crate::counters::report([&self.counters])
    }
    fn drops(&self) -> Vec<Drop> {
        Vec::new()
    }
    fn vips(&self) -> Vec<VipEntry> {
        // ClusterIPs, and at the very end one that the fabric reaches.
        (0..metrics::MOST_FRONTENDS + 2)
            .map(|number| VipEntry {
                address: ([10, 96, (number >> 8) as u8, number as u8]).into(),
                port: 80,
                last_port: None,
                protocol: Protocol::Tcp,
                from: if number > metrics::MOST_FRONTENDS { Side::Any } else { Side::Pods },
                service: "default/web:http".to_owned(),
                mode: Mode::Nat,
                announced: false,
                candidates: number,
                draining: 1,
            })
            .collect()
    }
    fn backends(&self) -> Vec<BackendEntry> {
        Vec::new()
    }
    fn drains(&self) -> Vec<Drain> {
        let service = ServiceKey { name: "default/web:http".to_owned(), protocol: Protocol::Tcp, family: Family::Ipv4 };
        let drain = |last: u8| Drain {
            service: service.clone(),
            address: ([10, 1, 0, last], 8080).into(),
            draining_seconds: 3,
            left_seconds: Some(57),
            flows: 0,
        };
        vec![drain(2), drain(99)]
    }
    fn tunnels(&self) -> Vec<TunnelEntry> {
        Vec::new()
    }
    fn neighbours(&self) -> Vec<Neighbour> {
        let neighbour = |last, state: &str| Neighbour {
            address: [192, 0, 2, last].into(),
            mac: None,
            port: "eth0".to_owned(),
            state: state.to_owned(),
        };
        vec![neighbour(1, "reachable"), neighbour(2, "stale"), neighbour(3, "reachable")]
    }
    fn ports(&self) -> Vec<Port> {
        Vec::new()
    }
    fn explain(&self, question: Question) -> Pending<'_, Result<Explanation, String>> {
        Box::pin(async move {
            let packet: levee_api::explain::Packet = question.packet.parse()?;
            Ok(Explanation {
                packet: packet.to_string(),
                from: Role::Uplink,
                verdict: Fate::Pass,
                reason: "not_ours".to_owned(),
                service: None,
                candidates: Vec::new(),
                backend: None,
                tunnel: None,
                mode: None,
                client_address_kept: None,
            })
        })
    }
    fn load(&self, program: Program) -> Pending<'_, Result<Applied, Refusal>> {
        Box::pin(async move {
            if program.generation == 0 {
                return Err(Refusal::Invalid(vec!["generation 0".to_owned(), "second reason".to_owned()]));
            }
            let generation = program.generation;
            *self.program.lock().unwrap() = Arc::new(program);
            self.events.record(Kind::Programmed, format!("generation {generation}"));
            Ok(Applied { generation })
        })
    }
    fn amend(&self, delta: Delta) -> Pending<'_, Result<Applied, Refusal>> {
        Box::pin(async move {
            let old = self.programmed();
            if old.generation != delta.base {
                return Err(Refusal::Stale { generation: old.generation });
            }
            self.load(delta.apply(&old)).await
        })
    }
    fn term(&self) -> TermStatus {
        let holder = self.term.lock().unwrap().as_ref().map(|term| term.holder.clone());
        TermStatus { needed: true, holder, left_ms: Some(250), ..TermStatus::default() }
    }
    fn announce(&self, term: Term) -> Pending<'_, Result<(), Refusal>> {
        Box::pin(async move {
            if term.number == 0 {
                return Err(Refusal::Invalid(vec!["too late".to_owned()]));
            }
            *self.term.lock().unwrap() = Some(term);
            Ok(())
        })
    }
    fn flows(&self, filter: FlowFilter, cursor: Option<FlowCursor>) -> Pending<'_, Result<FlowPage, String>> {
        Box::pin(async move {
            let start = cursor.map_or(0, |cursor| cursor.position as usize);
            let end = (start + limits::FLOW_PAGE).min(FLOWS);
            let flows = (start..end).map(flow).filter(|flow| filter.matches(flow)).collect();
            let next = (end < FLOWS).then_some(FlowCursor { worker: 0, position: end as u64 });
            Ok(FlowPage { flows, next })
        })
    }
    fn flush(&self, _: FlowFilter) -> Pending<'_, Result<Flushed, String>> {
        Box::pin(async { Ok(Flushed { flows: 3 }) })
    }
    fn events(&self) -> &Events {
        &self.events
    }
    fn measures(&self) -> Measures {
        let mut programming = Programming::default();
        programming.note(true, &Ok(Applied { generation: 1 }), Duration::from_millis(7));
        programming.note(false, &Ok(Applied { generation: 2 }), Duration::from_micros(300));
        programming.note(false, &Err(Refusal::Stale { generation: 2 }), Duration::ZERO);
        Measures { steered: vec![("eth0".to_owned(), vec![("address4", 5)])], programming }
    }
}

/// A server on a socket of its own, gone with this.
struct Server {
    path: PathBuf,
    fake: Arc<Fake>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

fn socket_path() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("levee-intake-{}-{number}", std::process::id())).join("dataplane.sock")
}

impl Server {
    fn start() -> Self {
        Self::with_policy(Policy::new(nix::unistd::getuid().as_raw(), Vec::new()))
    }

    fn with_policy(policy: Policy) -> Self {
        let path = socket_path();
        let fake = Arc::new(Fake::default());
        let subject = Arc::clone(&fake);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let listening = Listening::bind(&path, None, "levee-dataplane").unwrap();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let listener = listening.listener().unwrap();
            runtime.block_on(serve(listener, subject, policy, async { drop(stopped.await) })).unwrap();
        });
        Server { path, fake, stop: Some(stop), thread: Some(thread) }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.path).await.unwrap()
    }

    /// One request, one connection: status code and body.
    async fn ask(&self, method: &str, path: &str, body: &[u8]) -> (u16, String) {
        let mut stream = self.connect().await;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: levee\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // A server that refuses early need not read on.
        let _ = stream.write_all(body).await;
        answer(&mut stream).await
    }
}

impl std::ops::Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().unwrap().join();
        let _ = std::fs::remove_dir_all(self.path.parent().unwrap());
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

async fn answer(stream: &mut UnixStream) -> (u16, String) {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    split(&answer)
}

fn split(answer: &[u8]) -> (u16, String) {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    (head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0), body.to_owned())
}

/// All open descriptors of this process, which must not run other tests beside.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

// --- Friendly --------------------------------------------------------------------------------------------------------

/// Every route, once, with the body that it needs.
const ROUTES: &[(&str, &str, &str, u16)] = &[
    ("GET", "/v1/status", "", 200),
    ("GET", "/v1/health", "", 503),
    ("GET", "/v1/program", "", 200),
    ("PUT", "/v1/program", r#"{"generation": 5}"#, 200),
    ("PATCH", "/v1/program", r#"{"base": 5, "generation": 6}"#, 200),
    ("GET", "/v1/term", "", 200),
    ("PUT", "/v1/term", r#"{"holder": "a", "number": 1, "until": 5, "addresses": ["192.0.2.1"]}"#, 200),
    ("GET", "/v1/counters", "", 200),
    ("GET", "/v1/drops", "", 200),
    ("GET", "/v1/vips", "", 200),
    ("GET", "/v1/backends", "", 200),
    ("GET", "/v1/drains", "", 200),
    ("GET", "/v1/tunnels", "", 200),
    ("GET", "/v1/flows", "", 200),
    ("DELETE", "/v1/flows", "", 200),
    ("GET", "/v1/neighbours", "", 200),
    ("GET", "/v1/ports", "", 200),
    ("GET", "/v1/events", "", 200),
    ("POST", "/v1/explain", r#"{"packet": "tcp 192.0.2.7:1 > 10.96.0.1:80"}"#, 200),
    ("GET", "/metrics", "", 200),
    ("GET", "/livez", "", 200),
    ("GET", "/readyz", "", 200),
    ("GET", "/openapi.json", "", 200),
];

#[tokio::test]
async fn every_route_answers_and_the_document_has_exactly_these() {
    let server = Server::start();
    for (method, path, body, expected) in ROUTES {
        let (status, answer) = server.ask(method, path, body.as_bytes()).await;
        assert_eq!(status, *expected, "{method} {path}: {}", answer.chars().take(200).collect::<String>());
    }
    let (_, answer) = server.ask("GET", "/openapi.json", b"").await;
    let document: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let documented: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
        })
        .collect();
    let handled: BTreeSet<_> =
        ROUTES.iter().map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(documented, handled);
    // And nothing is handled that the document does not have.
    let paths: BTreeSet<_> = ROUTES.iter().map(|(_, path, ..)| *path).collect();
    for path in paths {
        for method in ["GET", "PUT", "PATCH", "POST", "DELETE"] {
            if !handled.contains(&(method.to_owned(), path.to_owned())) {
                let (status, answer) = server.ask(method, path, b"").await;
                assert_eq!(status, 405, "{method} {path}");
                assert!(answer.contains("openapi.json"), "{answer}");
            }
        }
    }
}

#[test]
fn every_reference_of_the_document_is_defined_in_it() {
    let document = serde_json::to_value(document()).unwrap();
    let text = document.to_string();
    let references: BTreeSet<_> =
        text.split(r##""$ref":"#/components/schemas/"##).skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(references.len() > 20, "{references:?}");
    for reference in references {
        assert!(document["components"]["schemas"].get(reference).is_some(), "{reference} is not defined");
    }
}

/// The one sample of a family with these labels.
fn value(page: &[Sample], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let of = |sample: &&Sample| {
        sample.name == name
            && labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|of| of == value))
    };
    let found: Vec<_> = page.iter().filter(of).collect();
    assert!(found.len() < 2, "{name} {labels:?}: {found:?}");
    found.first().map(|sample| sample.value)
}

#[tokio::test]
async fn metrics_have_every_reason_and_counter_with_the_values_of_the_other_paths() {
    let server = Server::start();
    // Each another number, and the sums as workers keep them.
    for (counter, number) in Counter::ALL.iter().zip(100..) {
        server.fake.counters.add(*counter, number);
    }
    for (reason, number) in Reason::ALL.iter().zip(1..) {
        (0..number).for_each(|_| server.fake.counters.note_drop(*reason));
    }
    server.fake.events.record(Kind::AddressConflict, "one");
    let (status, text) = server.ask("GET", "/metrics", b"").await;
    assert_eq!(status, 200);
    let page = levee_api::metrics::parse(&text).unwrap();
    let (_, body) = server.ask("GET", "/v1/counters", b"").await;
    let counters: Counters = serde_json::from_str(&body).unwrap();

    for (reason, frames) in &counters.drops {
        let told = value(&page, "levee_dropped_frames_total", &[("reason", reason)]);
        assert_eq!(told, Some(*frames as f64), "{reason}");
    }
    assert_eq!(counters.drops.len(), Reason::ALL.len());
    // Every counter's value is there, under one name and no other; all values differ.
    let totals: BTreeSet<u64> = counters.totals.values().copied().collect();
    assert_eq!(totals.len(), Counter::ALL.len() + 1);
    for (name, total) in &counters.totals {
        let told: Vec<_> = page
            .iter()
            .filter(|sample| sample.value == *total as f64 && !sample.name.starts_with("levee_frontend"))
            .map(|sample| sample.name.as_str())
            .collect();
        assert_eq!(told.len(), 1, "{name} is {total}: {told:?}");
    }
    assert_eq!(value(&page, "levee_frames_received_total", &[]), Some(counters.totals["rx"] as f64));
    for outcome in ["forwarded", "hairpinned", "passed", "dropped"] {
        let told = value(&page, "levee_frames_total", &[("outcome", outcome)]);
        assert_eq!(told, Some(counters.totals[outcome] as f64), "{outcome}");
    }

    assert_eq!(value(&page, "levee_neighbours", &[("state", "reachable"), ("port", "eth0")]), Some(2.0));
    assert_eq!(value(&page, "levee_events_total", &[("kind", "vip-conflict")]), Some(1.0));
    assert_eq!(value(&page, "levee_events_total", &[("kind", "link-down")]), Some(0.0));
    assert_eq!(value(&page, "levee_steered_frames_total", &[("class", "address4")]), Some(5.0));
    assert_eq!(value(&page, "levee_program_apply_seconds_sum", &[("kind", "full")]), Some(0.007));
    assert_eq!(value(&page, "levee_program_apply_seconds_bucket", &[("kind", "delta"), ("le", "0.0005")]), Some(1.0));
    assert_eq!(value(&page, "levee_programs_refused_total", &[("reason", "stale")]), Some(1.0));
    assert_eq!(value(&page, "levee_healthy", &[]), Some(0.0));
}

#[tokio::test]
async fn metrics_have_a_help_and_a_type_for_each_family_and_a_bound_for_frontends() {
    assert_eq!(levee_api::metrics::unconventional(metrics::FAMILIES), Vec::<String>::new());
    let server = Server::start();
    let (_, text) = server.ask("GET", "/metrics", b"").await;
    for family in metrics::FAMILIES {
        assert_eq!(text.matches(&format!("# HELP {} {}\n", family.name, family.help)).count(), 1, "{}", family.name);
        assert_eq!(text.matches(&format!("# TYPE {} {}\n", family.name, family.kind)).count(), 1, "{}", family.name);
    }
    assert_eq!(text.matches("# TYPE ").count(), metrics::FAMILIES.len());
    let page = levee_api::metrics::parse(&text).unwrap();
    let frontends: Vec<_> = page.iter().filter(|sample| sample.name == "levee_frontend_candidates").collect();
    assert_eq!(frontends.len(), metrics::MOST_FRONTENDS);
    assert_eq!(
        (frontends[0].value as usize, frontends[0].labels["from"].as_str()),
        (metrics::MOST_FRONTENDS + 1, "any")
    );
    assert_eq!(value(&page, "levee_frontends_not_told", &[]), Some(2.0));
}

#[tokio::test]
async fn by_tcp_there_are_metrics_and_probes_and_nothing_else() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_metrics(listener, Arc::new(Fake::default())).unwrap());
    let ask = |method: &'static str, path: &'static str| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: levee\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = ask("GET", "/metrics").await;
    let (head, page) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(levee_api::metrics::parse(page).unwrap().len() > 100);
    assert!(ask("GET", "/livez").await.ends_with("\r\n\r\nok\n"));
    let unready = ask("GET", "/readyz").await;
    assert!(
        unready.starts_with("HTTP/1.1 503 ") && unready.ends_with("\r\n\r\nnothing was programmed yet\n"),
        "{unready}"
    );
    for (method, path, _, _) in ROUTES.iter().filter(|(_, path, ..)| !["/metrics", "/livez", "/readyz"].contains(path))
    {
        let answer = ask(method, path).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{method} {path}: {answer}");
    }
    assert!(ask("PUT", "/metrics").await.starts_with("HTTP/1.1 405 "));

    // Its places are few, and given back.
    let mut held = Vec::new();
    for _ in 0..limits::SCRAPERS {
        held.push(TcpStream::connect(address).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    // Sends nothing: a close over what was not read would be a reset, which may overtake the answer.
    let mut refused = String::new();
    TcpStream::connect(address).await.unwrap().read_to_string(&mut refused).await.unwrap();
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    drop(held);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(ask("GET", "/livez").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_program_is_taken_changed_and_read_back() {
    let server = Server::start();
    let (status, body) =
        server.ask("PUT", "/v1/program", br#"{"generation": 7, "vips": [{"address": "10.96.0.1"}]}"#).await;
    assert_eq!((status, body.as_str()), (200, r#"{"generation":7}"#));
    let delta = br#"{"base": 7, "generation": 8, "remove_vips": ["10.96.0.1"]}"#;
    assert_eq!(server.ask("PATCH", "/v1/program", delta).await.0, 200);
    let (_, body) = server.ask("GET", "/v1/program", b"").await;
    let program: Program = serde_json::from_str(&body).unwrap();
    assert_eq!(program, Program { generation: 8, ..Program::default() });
    // A stale generation says which one is programmed.
    let (status, body) = server.ask("PATCH", "/v1/program", delta).await;
    assert_eq!(status, 409);
    let problem: Problem = serde_json::from_str(&body).unwrap();
    assert_eq!(problem.generation, Some(8));
    // A contradiction says all that is wrong, and nothing changes.
    let (status, body) = server.ask("PUT", "/v1/program", br#"{"generation": 0}"#).await;
    assert_eq!(status, 422);
    assert!(body.contains("generation 0") && body.contains("second reason"), "{body}");
    assert_eq!(server.fake.programmed().generation, 8);
}

#[tokio::test]
async fn what_drains_is_told_with_the_flows_that_it_still_has() {
    let server = Server::start();
    let (status, body) = server.ask("GET", "/v1/drains", b"").await;
    assert_eq!(status, 200);
    let drains: Vec<Drain> = serde_json::from_str(&body).unwrap();
    let seen: Vec<_> =
        drains.iter().map(|drain| (drain.address.to_string(), drain.flows, drain.left_seconds)).collect();
    assert_eq!(
        seen,
        [("10.1.0.2:8080".to_owned(), (FLOWS / 3) as u64, Some(57)), ("10.1.0.99:8080".to_owned(), 0, Some(57))]
    );
}

#[tokio::test]
async fn flows_come_as_lines_and_are_filtered() {
    let server = Server::start();
    let (status, body) = server.ask("GET", "/v1/flows?backend=10.1.0.2&protocol=tcp", b"").await;
    assert_eq!(status, 200);
    // The body is chunked: lines with the word are flows, the others are chunk sizes.
    let flows = body.matches(r#""backend":"10.1.0.2:8080""#).count();
    assert_eq!(flows, FLOWS / 3);
    assert!(!body.contains("10.1.0.1:8080"));
    for query in ["?backend=ten", "?protocol=gre", "?port=70000", "?colour=red"] {
        let (status, body) = server.ask("GET", &format!("/v1/flows{query}"), b"").await;
        assert_eq!(status, 400, "{query}");
        assert!(body.contains("openapi.json"), "{body}");
    }
}

#[tokio::test]
async fn events_are_told_and_followed() {
    let server = Server::start();
    server.fake.events.record(Kind::LinkUp, "eth0 is up");
    let (_, body) = server.ask("GET", "/v1/events", b"").await;
    assert!(body.contains(r#""kind":"link-up","message":"eth0 is up""#), "{body}");
    let mut stream = server.connect().await;
    stream.write_all(b"GET /v1/events?follow=true HTTP/1.1\r\nhost: levee\r\n\r\n").await.unwrap();
    read_until(&mut stream, "eth0 is up").await;
    server.fake.events.record(Kind::LinkDown, "eth0 is down");
    read_until(&mut stream, "eth0 is down").await;
}

async fn read_until(stream: &mut UnixStream, what: &str) {
    let mut seen = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&seen).contains(what) {
            let mut some = [0; 4096];
            let count = stream.read(&mut some).await.unwrap();
            assert!(count > 0, "closed before `{what}`: {}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&some[..count]);
        }
    };
    tokio::time::timeout(Duration::from_secs(5), reading).await.unwrap();
}

#[tokio::test]
async fn explain_answers_or_says_what_it_expected() {
    let server = Server::start();
    let (status, body) = server.ask("POST", "/v1/explain", br#"{"packet": "nonsense"}"#).await;
    assert_eq!(status, 422);
    assert!(body.contains("expected `PROTOCOL"), "{body}");
    let (status, body) = server.ask("POST", "/v1/explain", br#"{"paket": "x"}"#).await;
    assert_eq!(status, 400);
    assert!(body.contains("paket") && body.contains("not a Question"), "{body}");
}

// --- Hostile ---------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn garbage_is_refused_and_harms_nobody() {
    let server = Server::start();
    let mut noise = vec![0u8; 64 << 10];
    for (index, byte) in noise.iter_mut().enumerate() {
        *byte = (index * 7919 + index / 251) as u8;
    }
    for garbage in [
        &noise[..],
        b"\r\n\r\n\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /v1/status HTTP/9.9\r\n\r\n",
        b"PUT /v1/program HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"PUT /v1/program HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"PUT /v1/program HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ] {
        let mut stream = server.connect().await;
        let _ = stream.write_all(garbage).await;
        let _ = stream.shutdown().await;
        let (status, _) = tokio::time::timeout(Duration::from_secs(5), answer(&mut stream)).await.unwrap();
        assert!(matches!(status, 0 | 400..=499), "{status}");
    }
    for body in ["", "{", "[]", "null", r#"{"generation": -1}"#, r#"{"generation": 1, "vipps": []}"#, "\u{0}"] {
        let (status, told) = server.ask("PUT", "/v1/program", body.as_bytes()).await;
        assert_eq!(status, 400, "{body}");
        assert!(told.contains("not a Program"), "{told}");
    }
    assert_eq!(server.ask("GET", "/v1/status", b"").await.0, 200);
    assert_eq!(server.fake.programmed().generation, 0);
}

#[tokio::test]
async fn a_body_of_a_gigabyte_is_refused_before_it_is_read() {
    let server = Server::start();
    let mut stream = server.connect().await;
    stream
        .write_all(
            b"PUT /v1/program HTTP/1.1\r\nhost: levee\r\nconnection: close\r\ncontent-length: 1073741824\r\n\r\n",
        )
        .await
        .unwrap();
    let (status, body) = tokio::time::timeout(Duration::from_secs(5), answer(&mut stream)).await.unwrap();
    assert_eq!(status, 413, "{body}");
}

#[tokio::test]
async fn a_gigabyte_in_chunks_is_cut_off_at_the_limit() {
    let server = Server::start();
    let stream = server.connect().await;
    let (mut reader, mut writer) = stream.into_split();
    let sending = tokio::spawn(async move {
        let head =
            b"PUT /v1/program HTTP/1.1\r\nhost: levee\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut sent = 0;
        if writer.write_all(head).await.is_ok() {
            let mut chunk = b"100000\r\n".to_vec();
            chunk.resize(chunk.len() + (1 << 20), b' ');
            chunk.extend_from_slice(b"\r\n");
            while sent < 1 << 30 && writer.write_all(&chunk).await.is_ok() {
                sent += 1 << 20;
            }
        }
        sent
    });
    let mut told = Vec::new();
    let _ = reader.read_to_end(&mut told).await;
    drop(reader);
    let sent = sending.await.unwrap();
    assert!(sent <= limits::PROGRAM_BODY + (4 << 20), "{sent} bytes were taken");
    let (status, body) = split(&told);
    assert_eq!(status, 413, "{body}");
}

#[tokio::test]
async fn ten_thousand_connections_cost_a_bounded_number_of_descriptors() {
    if std::env::var_os("NEXTEST").is_none() {
        eprintln!("SKIPPED: descriptors are counted by process, so each test needs its own: use cargo nextest");
        return;
    }
    let server = Server::start();
    let before = descriptors();
    let mut most = 0;
    let mut refused = 0;
    // Clients in this process cost descriptors too, so they are opened in rounds, and the server's are what is above.
    for _ in 0..50 {
        let mut clients = Vec::new();
        for _ in 0..200 {
            clients.push(server.connect().await);
        }
        // Wait until the server has seen the last: it was refused, or it has a place.
        tokio::time::sleep(Duration::from_millis(20)).await;
        most = most.max(descriptors().saturating_sub(before + clients.len()));
        for mut client in clients.into_iter().skip(limits::PROGRAMMERS) {
            let mut told = [0; 512];
            if let Ok(Ok(count)) = tokio::time::timeout(Duration::from_millis(200), client.read(&mut told)).await {
                refused += usize::from(split(&told[..count]).0 == 503);
            }
        }
        // The places are given back when the clients are gone.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(most <= limits::PROGRAMMERS + 8, "{most} descriptors");
    assert!(refused > 8000, "only {refused} were refused");
    let deadline = Instant::now() + Duration::from_secs(5);
    while server.ask("GET", "/v1/status", b"").await.0 != 200 {
        assert!(Instant::now() < deadline, "the socket did not recover");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_slow_reader_is_cut_off_and_others_are_served() {
    let server = Server::start();
    let mut slow = server.connect().await;
    slow.write_all(b"GET /v1/flows HTTP/1.1\r\nhost: levee\r\n\r\n").await.unwrap();
    let started = Instant::now();
    assert_eq!(server.ask("GET", "/v1/status", b"").await.0, 200);
    assert!(started.elapsed() < Duration::from_secs(2));
    // It reads nothing for longer than a write may wait; then what was buffered comes, and the end, and not all flows.
    tokio::time::sleep(limits::WRITE_TIME + Duration::from_secs(1)).await;
    let mut seen = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(5), slow.read_to_end(&mut seen)).await.unwrap();
    assert!(seen.len() < FLOWS * 100, "{} bytes", seen.len());
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off() {
    let server = Server::start();
    let mut stream = server.connect().await;
    stream.write_all(b"GET /v1/status HTT").await.unwrap();
    let patience = limits::HEAD_TIME + Duration::from_secs(2);
    let ended = tokio::time::timeout(patience, answer(&mut stream)).await;
    assert!(ended.is_ok(), "still open after {patience:?}");
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let server = Server::start();
    let mut stream = server.connect().await;
    stream.write_all(b"GET /v1/status HTTP/1.1\r\nhost: levee\r\n\r\n").await.unwrap();
    let patience = limits::HEAD_TIME + Duration::from_secs(2);
    let (status, _) = tokio::time::timeout(patience, answer(&mut stream)).await.expect("still open");
    assert_eq!(status, 200);
}

// --- Rights and files ------------------------------------------------------------------------------------------------

#[tokio::test]
async fn who_may_only_read_may_read_but_not_program() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: a client of another user needs root");
        return;
    }
    let Ok(curl) = std::process::Command::new("curl").arg("--version").output() else {
        eprintln!("SKIPPED: a client of another user needs curl");
        return;
    };
    assert!(curl.status.success());
    let server = Server::with_policy(Policy::new(0, vec![65533]));
    for path in [server.path.clone(), server.path.parent().unwrap().to_owned()] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    }
    let run = |uid: u32, arguments: &[&str]| {
        use std::os::unix::process::CommandExt as _;
        let output = std::process::Command::new("curl")
            .args(["-sS", "-w", "\n%{http_code}", "--unix-socket"])
            .arg(&server.path)
            .args(arguments)
            .uid(uid)
            .gid(uid)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let put: &[&str] = &["-X", "PUT", "-d", r#"{"generation": 3}"#, "http://levee/v1/program"];
    let told = run(65534, put);
    assert!(told.ends_with("403") && told.contains("program_uids"), "{told}");
    assert!(run(65534, &["-X", "DELETE", "http://levee/v1/flows"]).ends_with("403"));
    assert!(run(65534, &["http://levee/v1/status"]).ends_with("200"));
    assert_eq!(server.fake.programmed().generation, 0);
    assert!(run(65533, put).ends_with("200"));
    assert_eq!(server.fake.programmed().generation, 3);
}

#[tokio::test]
async fn stopping_lets_an_open_request_end_and_drops_a_stream() {
    let mut server = Server::start();
    let mut follower = server.connect().await;
    follower.write_all(b"GET /v1/events?follow=true HTTP/1.1\r\nhost: levee\r\n\r\n").await.unwrap();
    assert_eq!(server.ask("GET", "/v1/status", b"").await.0, 200);
    let started = Instant::now();
    drop(server.stop.take());
    let (status, _) = tokio::time::timeout(Duration::from_secs(5), answer(&mut follower)).await.unwrap();
    assert_eq!(status, 200);
    assert!(started.elapsed() < Duration::from_secs(4));
}
