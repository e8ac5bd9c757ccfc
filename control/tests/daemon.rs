//! The real daemon between real files and a dataplane's double on a real socket.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use levee_api::metrics::{Sample, parse};
use levee_api::program::{Applied, Delta, Program};
use levee_api::report::{Health, Problem, Status as DataplaneStatus};
use levee_control::daemon::metrics::FAMILIES;
use levee_control::daemon::{DataplaneState, Status};
use tempfile::TempDir;

const CLUSTER: &str = include_str!("../../tests/fixtures/cluster/cluster.yaml");

/// How long anything may take that should take a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Inside {
    pid: u32,
    program: Program,
    seen: Vec<&'static str>,
    refuse: bool,
}

type Shared = Arc<Mutex<Inside>>;

/// A dataplane as the protocol says it is, on a thread of its own; gone when it is dropped.
struct Dataplane {
    inside: Shared,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Dataplane {
    fn start(socket: &Path, pid: u32) -> Self {
        let inside: Shared = Arc::new(Mutex::new(Inside { pid, ..Inside::default() }));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let _ = fs::remove_file(socket);
        let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let router = Router::new()
            .route("/v1/status", get(status))
            .route("/v1/program", axum::routing::put(full).patch(delta))
            .layer(axum::extract::DefaultBodyLimit::max(64 << 20))
            .with_state(Arc::clone(&inside));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::UnixListener::from_std(listener).unwrap();
                tokio::select! {
                    served = async { axum::serve(listener, router).await } => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        Dataplane { inside, stop: Some(stop), thread: Some(thread) }
    }

    fn program(&self) -> Program {
        self.inside.lock().unwrap().program.clone()
    }

    fn seen(&self, what: &str) -> usize {
        self.inside.lock().unwrap().seen.iter().filter(|seen| **seen == what).count()
    }

    /// Addresses and ports of the web Service's backends.
    fn backends(&self) -> Vec<String> {
        let backends = |program: &Program| -> Vec<String> {
            let all = program.services.iter().flat_map(|service| &service.backends);
            all.map(|backend| backend.address.to_string()).collect()
        };
        backends(&self.program())
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn status(State(inside): State<Shared>) -> Json<DataplaneStatus> {
    let inside = inside.lock().unwrap();
    Json(DataplaneStatus {
        version: "0".to_owned(),
        pid: inside.pid,
        uptime_seconds: 0,
        generation: inside.program.generation,
        health: Health { healthy: true, problems: Vec::new() },
        workers: Vec::new(),
        services: 0,
        vips: 0,
        backends: 0,
        flows: 0,
        flow_capacity: 0,
    })
}

async fn full(State(inside): State<Shared>, Json(program): Json<Program>) -> Response {
    let mut inside = inside.lock().unwrap();
    inside.seen.push("full");
    if program.generation <= inside.program.generation {
        return conflict(&inside);
    }
    take(&mut inside, program)
}

async fn delta(State(inside): State<Shared>, Json(delta): Json<Delta>) -> Response {
    let mut inside = inside.lock().unwrap();
    inside.seen.push("delta");
    if delta.base != inside.program.generation {
        return conflict(&inside);
    }
    let program = delta.apply(&inside.program);
    take(&mut inside, program)
}

fn take(inside: &mut Inside, program: Program) -> Response {
    if inside.refuse {
        let problem = Problem { error: "no room for so many VIPs".to_owned(), generation: None };
        return (StatusCode::UNPROCESSABLE_ENTITY, Json(problem)).into_response();
    }
    inside.program = program;
    Json(Applied { generation: inside.program.generation }).into_response()
}

fn conflict(inside: &Inside) -> Response {
    let problem = Problem { error: "stale".to_owned(), generation: Some(inside.program.generation) };
    (StatusCode::CONFLICT, Json(problem)).into_response()
}

/// A directory with a cluster, a configuration, and sockets.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Place { directory: tempfile::tempdir().unwrap() };
        fs::create_dir(place.path("cluster.d")).unwrap();
        place.write("cluster.d/cluster.yaml", CLUSTER);
        place.write(
            "control.yaml",
            &format!(
                "node: node-1\nsources: [{{path: {0}/cluster.d}}]\ndataplane: {0}/dataplane.sock\nsocket: {0}/control.sock\n",
                place.directory.path().display()
            ),
        );
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// As `mv` of a finished file does it.
    fn write(&self, name: &str, text: &str) {
        let staged = self.path(".staged");
        fs::write(&staged, text).unwrap();
        fs::rename(staged, self.path(name)).unwrap();
    }

    fn dataplane(&self, pid: u32) -> Dataplane {
        Dataplane::start(&self.path("dataplane.sock"), pid)
    }

    fn control(&self) -> Control {
        self.control_with(|command| command.env_remove("NOTIFY_SOCKET"))
    }

    fn control_with(&self, more: impl FnOnce(&mut Command) -> &mut Command) -> Control {
        let mut command = Command::new(env!("CARGO_BIN_EXE_levee-control"));
        command.arg("--config").arg(self.path("control.yaml"));
        let child = more(&mut command).stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        Control { child, socket: self.path("control.sock") }
    }

    fn check(&self) -> Output {
        Command::new(env!("CARGO_BIN_EXE_levee-control"))
            .arg("--check")
            .arg("--config")
            .arg(self.path("control.yaml"))
            .output()
            .unwrap()
    }
}

/// The running daemon; killed when it is dropped.
struct Control {
    child: Child,
    socket: PathBuf,
}

impl Control {
    /// The page of metrics, from the socket, by the name and labels of each sample.
    fn metrics(&self) -> Vec<Sample> {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        parse(&page(&mut stream, "/metrics")).unwrap()
    }

    fn status(&self) -> Option<Status> {
        let mut stream = UnixStream::connect(&self.socket).ok()?;
        stream.write_all(b"GET /v1/status HTTP/1.1\r\nhost: levee\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        Some(serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}")))
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }
}

fn page(stream: &mut (impl Read + Write), path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nhost: levee\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    if path == "/metrics" {
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/plain; version=0.0.4"), "{head}");
    }
    body.to_owned()
}

/// The value of the one sample that has this name and, if it is not "", a label with this value.
fn value(samples: &[Sample], name: &str, label: &str) -> f64 {
    let of = |sample: &&Sample| {
        sample.name == name && (label.is_empty() || sample.labels.values().any(|value| value == label))
    };
    let found: Vec<_> = samples.iter().filter(of).collect();
    assert_eq!(found.len(), 1, "{name} {label}: {found:?}");
    found[0].value
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

const ALL: [&str; 3] = ["10.244.1.10", "10.244.2.10", "10.244.3.10"];

fn without_node_3() -> String {
    let cut = CLUSTER.find("  - addresses: [10.244.3.10]").unwrap();
    CLUSTER[..cut].to_owned()
}

#[test]
fn a_change_of_the_file_becomes_a_delta() {
    let place = Place::new();
    let dataplane = place.dataplane(1);
    let control = place.control();
    eventually("the first program", || dataplane.backends() == ALL);
    assert_eq!((dataplane.program().generation, dataplane.seen("full"), dataplane.seen("delta")), (1, 1, 0));
    eventually("in step", || control.status().unwrap().dataplane.state == DataplaneState::InStep);

    place.write("cluster.d/cluster.yaml", &without_node_3());
    eventually("the change", || dataplane.backends() == ALL[..2]);
    assert_eq!((dataplane.program().generation, dataplane.seen("full"), dataplane.seen("delta")), (2, 1, 1));
    // Written in place instead of renamed.
    fs::write(place.path("cluster.d/cluster.yaml"), CLUSTER).unwrap();
    eventually("the change back", || dataplane.backends() == ALL);
    // A second file adds to the first.
    place.write(
        "cluster.d/more.yaml",
        "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: b}\nspec: {cidrs: [10.97.0.0/16]}\n",
    );
    eventually("the second file", || dataplane.program().service_ranges.len() == 2);
    fs::remove_file(place.path("cluster.d/more.yaml")).unwrap();
    eventually("one file again", || dataplane.program().service_ranges.len() == 1);
    assert_eq!(dataplane.seen("full"), 1);
    let status = control.status().unwrap();
    assert!(status.health.healthy, "{:?}", status.health);
    assert_eq!((status.services, status.vips, status.backends, status.mistakes.len()), (1, 2, 3, 0));
    // The dataplane runs it a moment before its answer is heard.
    let generation = || control.status().unwrap().dataplane.generation;
    eventually("the answer", || generation() == Some(dataplane.program().generation));
}

#[test]
fn metrics_follow_a_change_to_the_dataplane_and_tell_what_fails() {
    let place = Place::new();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = fs::read_to_string(place.path("control.yaml")).unwrap();
    place.write("control.yaml", &format!("{config}metrics: {address}\n"));
    let dataplane = place.dataplane(1);
    let control = place.control();
    eventually("in step", || control.status().is_some_and(|status| status.dataplane.state == DataplaneState::InStep));
    let first = control.metrics();
    // Of pools there are none here; control/tests/kube/addresses.rs has some.
    for family in FAMILIES.iter().filter(|family| family.name != "levee_control_pool_addresses") {
        assert!(first.iter().any(|sample| sample.family == family.name), "{} is not there", family.name);
    }
    assert_eq!(value(&first, "levee_control_requests_total", "full"), 1.0);
    assert_eq!(value(&first, "levee_control_requests_total", "delta"), 0.0);
    assert_eq!(value(&first, "levee_control_answers_total", "applied"), 1.0);
    assert_eq!(value(&first, "levee_control_dataplane_state", "in_step"), 1.0);
    assert_eq!(value(&first, "levee_control_programming_seconds_count", ""), 1.0);
    assert_eq!(value(&first, "levee_control_dataplane_behind_seconds", ""), 0.0);
    let status = control.status().unwrap();
    assert_eq!(value(&first, "levee_control_services", "") as usize, status.services);
    assert_eq!(value(&first, "levee_control_backends", "") as usize, status.backends);
    assert_eq!(value(&first, "levee_control_notices", "") as usize, status.notices.len());
    assert_eq!(value(&first, "levee_control_objects", "Service") as usize, CLUSTER.matches("kind: Service\n").count());

    place.write("cluster.d/cluster.yaml", &without_node_3());
    eventually("the change", || value(&control.metrics(), "levee_control_programming_seconds_count", "") == 2.0);
    let second = control.metrics();
    assert_eq!(value(&second, "levee_control_requests_total", "delta"), 1.0);
    assert!(value(&second, "levee_control_lists_total", "") > value(&first, "levee_control_lists_total", ""));
    let took = value(&second, "levee_control_programming_seconds_sum", "");
    assert!(took > 0.0 && took < PATIENCE.as_secs_f64(), "{took}");
    assert_eq!(
        value(&second, "levee_control_network_programming_seconds_count", ""),
        0.0,
        "nobody says what triggered it"
    );
    // Of what was read again, one slice is another, and one Service with it.
    let compiled = |page| value(page, "levee_control_services_compiled_total", "");
    assert_eq!(compiled(&second) - compiled(&first), 1.0);
    assert_eq!(
        value(&second, "levee_control_sent_bytes_total", "full"),
        value(&first, "levee_control_sent_bytes_total", "full")
    );
    assert!(value(&second, "levee_control_sent_bytes_total", "delta") > 0.0);

    // Rule 40: who does say it is measured from there.
    let trigger = std::time::SystemTime::now();
    let annotation = format!(
        "  annotations: {{endpoints.kubernetes.io/last-change-trigger-time: '{}'}}\n",
        humantime::format_rfc3339_nanos(trigger)
    );
    let annotated = CLUSTER.replacen(
        "kind: EndpointSlice\nmetadata:\n",
        &format!("kind: EndpointSlice\nmetadata:\n{annotation}"),
        1,
    );
    assert_ne!(annotated, CLUSTER);
    place.write("cluster.d/cluster.yaml", &annotated);
    let count = "levee_control_network_programming_seconds_count";
    eventually("rule 40", || value(&control.metrics(), count, "") == 1.0);
    let second = control.metrics();
    let took = value(&second, "levee_control_network_programming_seconds_sum", "");
    assert!(
        took > value(&second, "levee_control_compile_seconds_sum", "") / 10.0
            && took < trigger.elapsed().unwrap().as_secs_f64(),
        "{took}"
    );

    // Bad input is a mistake, and no newer success.
    place.write("cluster.d/cluster.yaml", "\0");
    eventually("a mistake", || value(&control.metrics(), "levee_control_mistakes", "") == 1.0);
    let third = control.metrics();
    let compiled = "levee_control_last_compile_timestamp_seconds";
    assert_eq!(value(&third, compiled, ""), value(&second, compiled, ""));
    // What cannot be brought to a dataplane leaves it behind, and says so.
    drop(dataplane);
    place.write("cluster.d/cluster.yaml", &without_node_3());
    eventually("behind", || value(&control.metrics(), "levee_control_dataplane_behind_seconds", "") > 0.1);
    let fourth = control.metrics();
    assert!(value(&fourth, "levee_control_answers_total", "unreachable") > 0.0);
    assert_eq!(value(&fourth, "levee_control_programming_seconds_count", ""), 3.0);

    // By TCP: the same, probes, and nothing else.
    let by_tcp = |path| page(&mut std::net::TcpStream::connect(address).unwrap(), path);
    assert_eq!(parse(&by_tcp("/metrics")).unwrap().len(), fourth.len());
    assert_eq!(by_tcp("/livez"), "ok\n");
    assert!(by_tcp("/v1/status").contains("no such path"));
    drop(control);

    let _taken = std::net::TcpListener::bind(address).unwrap();
    let mut refused = place.control();
    let mut said = String::new();
    refused.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains(&format!("metrics: cannot listen on {address}")), "{said}");
}

#[test]
fn it_lives_from_the_start_and_is_ready_while_a_dataplane_runs_what_it_compiled() {
    let place = Place::new();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = fs::read_to_string(place.path("control.yaml")).unwrap();
    place.write("control.yaml", &format!("{config}metrics: {address}\n"));
    // Not readable yet, and no dataplane there.
    place.write("cluster.d/cluster.yaml", "\0");
    let control = place.control();
    eventually("it answers", || control.status().is_some());
    let by_tcp = |path| page(&mut std::net::TcpStream::connect(address).unwrap(), path);
    let by_socket = |path| page(&mut UnixStream::connect(&control.socket).unwrap(), path);
    let ready = || by_tcp("/readyz");
    let missing = ready();
    assert!(missing.contains("was not read completely yet") && missing.contains("does not run"), "{missing}");
    assert_eq!((by_tcp("/livez"), by_socket("/livez")), ("ok\n".to_owned(), "ok\n".to_owned()));

    place.write("cluster.d/cluster.yaml", CLUSTER);
    eventually("only the dataplane is missing", || ready().lines().count() == 1 && ready().contains("does not run"));
    assert_eq!(by_tcp("/livez"), "ok\n");
    let dataplane = place.dataplane(1);
    eventually("it is ready", || ready() == "ok\n");
    assert_eq!(by_socket("/readyz"), "ok\n");
    // Bad input leaves what was applied in force.
    place.write("cluster.d/cluster.yaml", "\0");
    eventually("the mistake is seen", || !control.status().unwrap().mistakes.is_empty());
    assert_eq!(ready(), "ok\n");
    drop(dataplane);
    eventually("it is not ready", || ready().contains("does not run"));
    assert_eq!(by_tcp("/livez"), "ok\n", "ending it would not bring a dataplane back");
    let _dataplane = place.dataplane(2);
    eventually("it is ready again", || ready() == "ok\n");
}

#[test]
fn a_config_map_that_is_turned_over_is_read_again() {
    let place = Place::new();
    // As the kubelet lays it out: names are links through `..data`, which alone is replaced.
    fs::remove_file(place.path("cluster.d/cluster.yaml")).unwrap();
    let lay = |version: &str, text: &str| {
        fs::create_dir(place.path(&format!("cluster.d/..{version}"))).unwrap();
        fs::write(place.path(&format!("cluster.d/..{version}/cluster.yaml")), text).unwrap();
        std::os::unix::fs::symlink(format!("..{version}"), place.path("cluster.d/..data_tmp")).unwrap();
        fs::rename(place.path("cluster.d/..data_tmp"), place.path("cluster.d/..data")).unwrap();
    };
    lay("1", CLUSTER);
    std::os::unix::fs::symlink("..data/cluster.yaml", place.path("cluster.d/cluster.yaml")).unwrap();
    let dataplane = place.dataplane(1);
    let _control = place.control();
    eventually("the first version", || dataplane.backends() == ALL);
    lay("2", &without_node_3());
    fs::remove_dir_all(place.path("cluster.d/..1")).unwrap();
    eventually("the second version", || dataplane.backends() == ALL[..2]);
}

#[test]
fn bad_input_changes_nothing_and_is_told() {
    let place = Place::new();
    let dataplane = place.dataplane(1);
    let control = place.control();
    eventually("the first program", || dataplane.backends() == ALL);
    for (bad, expected) in [
        (CLUSTER.replace("10.96.0.10", "10.96.0.300"), "`10.96.0.300` is not an IP address"),
        (CLUSTER.replace("10.244.3.10", "fd00::1"), "is not IPv4"),
        (CLUSTER[..CLUSTER.find("10.244.2.10").unwrap()].to_owned(), "cut off"),
        ("\0\0\0".to_owned(), "not text"),
        (CLUSTER.replace("targetPort:", "targetPrt:").replace("spec:", "spce:"), "unknown key `spce` in "),
    ] {
        assert_ne!(bad, CLUSTER);
        place.write("cluster.d/cluster.yaml", &bad);
        eventually(expected, || {
            let status = control.status().unwrap();
            status.mistakes.iter().any(|mistake| mistake.to_string().contains(expected)) && !status.health.healthy
        });
        assert_eq!(dataplane.backends(), ALL);
    }
    fs::remove_file(place.path("cluster.d/cluster.yaml")).unwrap();
    eventually("an empty directory", || {
        control.status().unwrap().mistakes[0].message.contains("there is no file here")
    });
    assert_eq!((dataplane.backends(), dataplane.program().generation), (ALL.map(String::from).to_vec(), 1));
    place.write("cluster.d/cluster.yaml", &without_node_3());
    eventually("good input again", || dataplane.backends() == ALL[..2]);
    eventually("healthy again", || control.status().unwrap().health.healthy);
}

#[test]
fn the_configuration_is_followed_too() {
    let place = Place::new();
    let dataplane = place.dataplane(1);
    let control = place.control();
    eventually("the first program", || dataplane.backends() == ALL);
    let prefixes = || dataplane.program().local.prefixes.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(prefixes(), ["10.244.1.0/24"]);
    let config = fs::read_to_string(place.path("control.yaml")).unwrap();
    place.write("control.yaml", &config.replace("node: node-1", "node: node-2"));
    eventually("the other node's program", || prefixes() == ["10.244.2.0/24"]);
    assert_eq!(control.status().unwrap().node, "node-2");
    place.write("control.yaml", &config.replace("node: node-1", "nod: node-1"));
    eventually("the mistake", || {
        control.status().unwrap().mistakes.iter().any(|mistake| mistake.to_string().contains("unknown key `nod`"))
    });
    // Objects are followed meanwhile, and the last good configuration is in force.
    place.write("cluster.d/cluster.yaml", &without_node_3());
    eventually("the change", || dataplane.backends() == ALL[..2]);
    assert_eq!(prefixes(), ["10.244.2.0/24"]);
    place.write("control.yaml", &config);
    eventually("the first configuration", || prefixes() == ["10.244.1.0/24"]);
    eventually("healthy", || control.status().unwrap().health.healthy);
}

#[test]
fn key_files_are_followed_as_the_configuration_is() {
    const KEYS: [&str; 3] =
        ["8f95f09245765f80256934e50c66207f", "00112233445566778899aabbccddeeff", "ffeeddccbbaa99887766554433221100"];
    let place = Place::new();
    let dataplane = place.dataplane(1);
    place.write(
        "cluster.d/quic.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {namespace: default, name: h3, annotations: {levee.dev/quic-lb: blue}}\n\
         spec: {type: ClusterIP, clusterIP: 10.96.0.99, clusterIPs: [10.96.0.99], ipFamilies: [IPv4], \
         ports: [{name: h3, port: 443, protocol: UDP}]}\n",
    );
    // As a Secret is mounted: what is turned over is a link beside the file.
    let mount = |version: &str, content: &str| {
        fs::create_dir(place.path(version)).unwrap();
        fs::write(place.path(&format!("{version}/blue.key")), content).unwrap();
        std::os::unix::fs::symlink(version, place.path("..new")).unwrap();
        fs::rename(place.path("..new"), place.path("..data")).unwrap();
    };
    mount("..1", KEYS[0]);
    std::os::unix::fs::symlink("..data/blue.key", place.path("blue.key")).unwrap();
    let config = fs::read_to_string(place.path("control.yaml")).unwrap();
    let quic = format!(
        "quic_lb: [{{name: blue, rotation: 0, server_id_length: 4, nonce_length: 6, key_file: {}}}]\n",
        place.path("blue.key").display()
    );
    place.write("control.yaml", &format!("{config}{quic}"));
    let control = place.control();
    let key = || {
        let program = dataplane.program();
        let mut configs = program.services.iter().flat_map(|service| &service.quic);
        configs.next().and_then(|config| config.key.as_ref()?.octets().copied())
    };
    let is = |text: &str| Some(u128::from_str_radix(text, 16).unwrap().to_be_bytes());
    eventually("the first key", || key() == is(KEYS[0]));
    mount("..2", KEYS[1]);
    eventually("the second key", || key() == is(KEYS[1]));
    mount("..3", "nothing\n");
    let mistakes = || {
        let mistakes = control.status().unwrap().mistakes;
        mistakes.iter().map(ToString::to_string).collect::<String>()
    };
    eventually("the mistake", || mistakes().contains("blue.key:1:1: not a key: expected 32 hexadecimal digits"));
    // Objects are followed meanwhile, and the last good key is in force.
    place.write("cluster.d/cluster.yaml", &without_node_3());
    eventually("the change", || dataplane.backends() == ALL[..2]);
    assert_eq!(key(), is(KEYS[1]));
    mount("..4", KEYS[2]);
    eventually("the third key", || key() == is(KEYS[2]));
    eventually("healthy", || control.status().unwrap().health.healthy);
}

#[test]
fn either_side_may_be_restarted() {
    let place = Place::new();
    // Control first: it waits for the dataplane.
    let control = place.control();
    eventually("no dataplane", || {
        control.status().is_some_and(|status| status.dataplane.state == DataplaneState::Unreachable)
    });
    let dataplane = place.dataplane(1);
    eventually("the first program", || dataplane.backends() == ALL);
    place.write("cluster.d/cluster.yaml", &without_node_3());
    eventually("generation 2", || dataplane.program().generation == 2);
    // The dataplane anew, and empty: it gets everything without being asked for.
    drop(dataplane);
    let dataplane = place.dataplane(2);
    eventually("everything again", || dataplane.backends() == ALL[..2]);
    assert_eq!((dataplane.seen("full"), dataplane.seen("delta")), (1, 0));
    // Control anew, killed: it goes on above the generation that the dataplane runs.
    let before = dataplane.program().generation;
    drop(control);
    assert_eq!(dataplane.backends(), ALL[..2], "the dataplane keeps what it has");
    place.write("cluster.d/cluster.yaml", CLUSTER);
    let control = place.control();
    eventually("what changed meanwhile", || dataplane.backends() == ALL);
    assert_eq!(dataplane.program().generation, before + 1);
    // Somebody else programs the dataplane: 409 for the next delta, then everything.
    dataplane.inside.lock().unwrap().program = Program { generation: 100, ..Program::default() };
    eventually("ours again", || dataplane.backends() == ALL);
    assert!(dataplane.program().generation > 100);
    // SIGTERM ends it well, its socket gone; SIGHUP does not end it.
    control.signal("HUP");
    std::thread::sleep(Duration::from_millis(100));
    assert!(control.status().is_some());
    let mut control = control;
    control.signal("TERM");
    assert!(control.child.wait().unwrap().success());
    assert!(!place.path("control.sock").exists());
}

#[test]
fn a_refusal_by_the_dataplane_is_told_and_another_program_is_tried() {
    let place = Place::new();
    let dataplane = place.dataplane(1);
    dataplane.inside.lock().unwrap().refuse = true;
    let control = place.control();
    eventually("the refusal", || {
        control.status().is_some_and(|status| {
            status.dataplane.state == DataplaneState::Refused
                && status
                    .dataplane
                    .message
                    .as_deref()
                    .is_some_and(|message| message.contains("no room for so many VIPs"))
                && !status.health.healthy
        })
    });
    dataplane.inside.lock().unwrap().refuse = false;
    place.write("cluster.d/cluster.yaml", &without_node_3());
    eventually("the next program", || dataplane.backends() == ALL[..2]);
    eventually("healthy", || control.status().unwrap().health.healthy);
}

#[test]
fn systemd_is_told_when_it_is_up_and_when_it_stops() {
    let place = Place::new();
    let notified = UnixDatagram::bind(place.path("notify.sock")).unwrap();
    notified.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = || {
        let mut buffer = [0; 256];
        let length = notified.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    };
    // Bad input and no dataplane: it is up all the same, and says what is the matter to those who ask.
    place.write("cluster.d/cluster.yaml", "kind: [");
    let mut control =
        place.control_with(|command| command.env("NOTIFY_SOCKET", place.path("notify.sock")).args(["--log", "json"]));
    assert_eq!(hear(), "READY=1");
    assert!(!control.status().unwrap().mistakes.is_empty());
    control.signal("TERM");
    assert_eq!(hear(), "STOPPING=1");
    assert!(control.child.wait().unwrap().success());
    let mut log = String::new();
    control.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["level"].is_string() && line["fields"]["message"].is_string(), "{line}");
    }
    assert!(log.contains("bad input"), "{log}");
}

#[test]
fn a_second_daemon_on_the_same_socket_is_refused() {
    let place = Place::new();
    let control = place.control();
    eventually("the first one", || control.status().is_some());
    let mut second = place.control();
    assert_eq!(second.child.wait().unwrap().code(), Some(1));
    let mut log = String::new();
    second.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(log.contains("another levee-control answers on this socket"), "{log}");
    assert!(control.status().is_some(), "the first one's socket is still there");
}

#[test]
fn check_says_what_is_wrong_and_ends_with_status_2() {
    let place = Place::new();
    let good = place.check();
    assert!(good.status.success(), "{good:?}");
    assert!(String::from_utf8_lossy(&good.stdout).contains("control.yaml: good"));
    for (file, text, expected) in [
        ("cluster.d/cluster.yaml", CLUSTER.replace("port: 80\n", "port: http\n"), "cluster.yaml:58:13: "),
        ("control.yaml", "sources: [{path: /nowhere}]\n".to_owned(), "/nowhere: there is no such file or directory"),
        ("control.yaml", "sorces: []\n".to_owned(), "control.yaml:1:1: unknown key `sorces`"),
    ] {
        place.write(file, &text);
        let bad = place.check();
        assert_eq!(bad.status.code(), Some(2), "{bad:?}");
        let told = String::from_utf8_lossy(&bad.stderr).into_owned();
        assert!(told.contains(expected), "{told}");
    }
    // A daemon with a bad configuration does not start either.
    let mut control = place.control();
    assert_eq!(control.child.wait().unwrap().code(), Some(2));
}

#[test]
fn the_status_socket_bounds_what_a_client_may_do() {
    let place = Place::new();
    let control = place.control();
    eventually("up", || control.status().is_some());
    let say = |text: &[u8]| {
        let mut stream = UnixStream::connect(&control.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.write_all(text);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    assert!(say(b"GET /nothing HTTP/1.1\r\nhost: l\r\nconnection: close\r\n\r\n").starts_with("HTTP/1.1 404"));
    assert!(
        say(b"PUT /v1/status HTTP/1.1\r\nhost: l\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            .starts_with("HTTP/1.1 405")
    );
    assert!(say(b"\0\xff garbage\r\n\r\n").starts_with("HTTP/1.1 400"));
    say(&[b'x'; 100_000]);
    // More connections than there are places, all silent: it answers when they are gone.
    let silent: Vec<_> = (0..100).filter_map(|_| UnixStream::connect(&control.socket).ok()).collect();
    drop(silent);
    eventually("answers again", || control.status().is_some());
}
