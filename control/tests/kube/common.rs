//! A real API server for each test, what is written to it, and the sources that watch it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use levee_api::program::Program;
use levee_control::compile::{View, compile};
use levee_control::model::{Kind, validate};
use levee_control::offline;
use levee_control::watch::{ClusterSource, Event, Outlet, Source as _, Store};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long anything may take that should take a second.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/kube-apiserver");

/// What is watched here, as RBAC calls it.
const PLURALS: [(Kind, &str); 6] = [
    (Kind::Service, "services"),
    (Kind::EndpointSlice, "endpointslices"),
    (Kind::Node, "nodes"),
    (Kind::Pod, "pods"),
    (Kind::ServiceCidr, "servicecidrs"),
    (Kind::AddressPool, "addresspools"),
];

#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// An API server of the test's own; stopped when it is dropped, and also when the test's process is killed.
pub(crate) struct Server {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    directory: TempDir,
}

impl Server {
    /// `None`, and said loudly, where none was built.
    pub(crate) fn start() -> Option<Server> {
        let built = Command::new(SCRIPT).arg("is-built").stderr(Stdio::null()).status().unwrap().success();
        if !built {
            assert!(
                std::env::var_os("LEVEE_KUBE_REQUIRED").is_none(),
                "no kube-apiserver: scripts/kube-apiserver build"
            );
            eprintln!("SKIPPED: there is no kube-apiserver here; `scripts/kube-apiserver build` makes one");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(SCRIPT)
            .arg("run")
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut server = Server { child, orders, answers, directory };
        server.hear("ready");
        Some(server)
    }

    fn hear(&mut self, expected: &str) {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), expected, "see what scripts/kube-apiserver says above");
    }

    pub(crate) fn order(&mut self, order: &str) {
        writeln!(self.orders.as_mut().unwrap(), "{order}").unwrap();
        self.hear("done");
    }

    pub(crate) fn kubeconfig(&self, who: &str) -> PathBuf {
        self.directory.path().join(format!("{who}.kubeconfig"))
    }

    pub(crate) fn admin(&self) -> Admin {
        Admin::new(&self.kubeconfig("admin"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.child.wait();
    }
}

/// Who may do everything.
pub(crate) struct Admin {
    runtime: tokio::runtime::Runtime,
    client: Client,
}

impl Admin {
    pub(crate) fn new(kubeconfig: &Path) -> Admin {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(async {
            let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
            Client::try_from(config).unwrap()
        });
        Admin { runtime, client }
    }

    pub(crate) fn api(&self, object: &Value) -> Api<DynamicObject> {
        let (version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let plural = format!("{}s", kind.to_lowercase());
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), &plural);
        match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    pub(crate) async fn apply_async(&self, object: &Value) {
        let (api, name) = (self.api(object), object["metadata"]["name"].as_str().unwrap());
        let created = api.create(&PostParams::default(), &serde_json::from_value(object.clone()).unwrap()).await;
        if let Err(kube::Error::Api(status)) = &created
            && status.code == 409
        {
            api.patch(name, &PatchParams::default(), &Patch::Merge(object)).await.unwrap();
        } else {
            created.unwrap();
        }
        // Kinds with a status take it by a request of its own.
        if object.get("status").is_some() {
            let status = json!({"status": object["status"]});
            api.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
        }
    }

    /// Creates an object, or changes it.
    pub(crate) fn apply(&self, object: &Value) {
        self.runtime.block_on(self.apply_async(object));
    }

    /// The object as it is now.
    pub(crate) fn get(&self, object: &Value) -> Value {
        let name = object["metadata"]["name"].as_str().unwrap();
        serde_json::to_value(self.runtime.block_on(self.api(object).get(name)).unwrap()).unwrap()
    }

    /// Events about an object, as `kubectl describe` finds them: reason and message.
    pub(crate) fn events(&self, object: &Value) -> Vec<String> {
        let object = self.get(object);
        let uid = object["metadata"]["uid"].as_str().unwrap();
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
        let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"namespace": namespace}});
        let params = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
        let list = self.runtime.block_on(self.api(&event).list(&params)).unwrap();
        let words = list.items.into_iter().map(|event| serde_json::to_value(event).unwrap());
        let word = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().replace('"', "");
        words
            .map(|event| format!("{} {}: {}", word(&event, "type"), word(&event, "reason"), word(&event, "message")))
            .collect()
    }

    pub(crate) fn delete(&self, object: &Value) {
        let name = object["metadata"]["name"].as_str().unwrap();
        self.runtime.block_on(self.api(object).delete(name, &DeleteParams::default())).unwrap();
    }

    pub(crate) fn block_on<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(what)
    }

    /// Everything that is watched, as it is now, written to a file as `kubectl get -o yaml` does, and compiled from there.
    pub(crate) fn program_of_files(&self, view: &View) -> Program {
        let mut items = Vec::new();
        for (kind, plural) in PLURALS {
            let (group, version) = kind.api_version().split_once('/').unwrap_or(("", kind.api_version()));
            let gvk = GroupVersionKind::gvk(group, version, kind.name());
            let api: Api<DynamicObject> =
                Api::all_with(self.client.clone(), &ApiResource::from_gvk_with_plural(&gvk, plural));
            match self.block_on(api.list(&ListParams::default())) {
                Ok(list) => items.extend(list.items.into_iter().map(|object| {
                    let mut value = serde_json::to_value(object).unwrap();
                    value["apiVersion"] = kind.api_version().into();
                    value["kind"] = kind.name().into();
                    value
                })),
                // This server is too old for it.
                Err(kube::Error::Api(status)) if status.code == 404 && kind == Kind::ServiceCidr => {}
                Err(error) => panic!("{plural}: {error}"),
            }
        }
        let directory = tempfile::tempdir().unwrap();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        fs::write(directory.path().join("all.json"), list.to_string()).unwrap();
        let cluster = offline::load(&[directory.path()]).unwrap_or_else(|mistakes| panic!("{}", mistakes[0]));
        compile(&cluster, view).0
    }
}

/// The sources of a node's levee-control, and what they have said so far.
pub(crate) struct Watched {
    inside: Arc<Mutex<Inside>>,
    view: View,
}

struct Inside {
    store: Store,
    names: Vec<String>,
    lists: Vec<usize>,
    /// After each batch of events.
    seen: BTreeMap<String, Vec<bool>>,
}

impl Watched {
    pub(crate) fn new(kubeconfig: &Path, view: View) -> Watched {
        let sources = ClusterSource::all(Some(kubeconfig.to_owned()), &view.node, true);
        let names: Vec<String> = sources.iter().map(|source| source.name()).collect();
        let (events, mut inlet) = tokio::sync::mpsc::channel(64);
        for (id, source) in sources.into_iter().enumerate() {
            Box::new(source).start(Outlet::new(id, events.clone())).unwrap();
        }
        let lists = vec![0; names.len()];
        let store = Store::new(names.len());
        let inside = Arc::new(Mutex::new(Inside { store, names, lists, seen: BTreeMap::new() }));
        let taking = Arc::downgrade(&inside);
        std::thread::spawn(move || {
            while let Some((source, batch)) = inlet.blocking_recv() {
                // The test is over, and the sources end with the inlet.
                let Some(inside) = taking.upgrade() else { return };
                let mut inside = inside.lock().unwrap();
                for event in batch {
                    inside.lists[source] += usize::from(matches!(event, Event::ListComplete));
                    inside.store.handle(source, event);
                    let Inside { store, seen, .. } = &mut *inside;
                    for (key, seen) in seen {
                        seen.push(store.objects().any(|object| object.key().to_string() == *key));
                    }
                }
            }
        });
        Watched { inside, view }
    }

    /// From now on, remembers after each event whether this object is there.
    pub(crate) fn keep_an_eye_on(&self, key: &str) {
        self.inside.lock().unwrap().seen.insert(key.to_owned(), Vec::new());
    }

    pub(crate) fn was_always_there(&self, key: &str) -> bool {
        let inside = self.inside.lock().unwrap();
        let seen = &inside.seen[key];
        !seen.is_empty() && seen.iter().all(|there| *there)
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.inside.lock().unwrap().store.is_complete()
    }

    pub(crate) fn failures(&self) -> Vec<String> {
        self.inside.lock().unwrap().store.failures().iter().map(ToString::to_string).collect()
    }

    /// How many lists of a kind were complete.
    pub(crate) fn lists(&self, plural: &str) -> usize {
        let inside = self.inside.lock().unwrap();
        inside.names.iter().zip(&inside.lists).find(|(name, _)| name.ends_with(plural)).unwrap().1.to_owned()
    }

    /// What the dataplane would be told now, and what the owners of objects.
    pub(crate) fn compiled(&self) -> Option<(Program, Vec<String>)> {
        let inside = self.inside.lock().unwrap();
        if !inside.store.is_complete() {
            return None;
        }
        let validation = validate(inside.store.objects(), inside.store.notices());
        assert!(validation.refused.is_empty(), "{:?}", validation.refused);
        let (program, notices) = compile(&validation.cluster, &self.view);
        Some((program, notices.iter().map(ToString::to_string).collect()))
    }

    pub(crate) fn backends(&self, service: &str) -> Option<Vec<String>> {
        let program = self.compiled()?.0;
        let service = program.services.iter().find(|candidate| candidate.name == service)?;
        Some(service.backends.iter().map(|backend| backend.address.to_string()).collect())
    }

    pub(crate) fn notices(&self) -> Vec<String> {
        self.compiled().map_or_else(Vec::new, |(_, notices)| notices)
    }
}

/// A wire to an API server that can be cut and mended.
pub(crate) struct Wire {
    state: Arc<Mutex<WireState>>,
    pub(crate) kubeconfig: PathBuf,
}

#[derive(Default)]
struct WireState {
    cut: bool,
    through: Vec<TcpStream>,
}

impl Wire {
    /// To the server that a kubeconfig names; another kubeconfig beside it leads through the wire.
    pub(crate) fn to(kubeconfig: &Path) -> Wire {
        let text = fs::read_to_string(kubeconfig).unwrap();
        let server = text.split("https://").nth(1).unwrap().split('"').next().unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let through = kubeconfig.with_extension("through-wire");
        fs::write(&through, text.replace(&server, &listener.local_addr().unwrap().to_string())).unwrap();
        let state = Arc::new(Mutex::new(WireState::default()));
        let held = Arc::clone(&state);
        let server: SocketAddr = server.parse().unwrap();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, mut held) = (client.unwrap(), held.lock().unwrap());
                if held.cut {
                    continue;
                }
                let Ok(upstream) = TcpStream::connect(server) else { continue };
                for (from, to) in [(&client, &upstream), (&upstream, &client)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                held.through.extend([client, upstream]);
            }
        });
        Wire { state, kubeconfig: through }
    }

    pub(crate) fn cut(&self) {
        let mut state = self.state.lock().unwrap();
        state.cut = true;
        for stream in state.through.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn mend(&self) {
        self.state.lock().unwrap().cut = false;
    }
}

/// `GET`s a page of a daemon's socket.
pub(crate) fn page(socket: &Path, path: &str) -> Option<String> {
    let mut stream = std::os::unix::net::UnixStream::connect(socket).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: levee\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.split_once("\r\n\r\n")?.1.to_owned())
}

/// `GET /v1/status` of a daemon.
pub(crate) fn status(socket: &Path) -> Option<levee_control::daemon::Status> {
    serde_json::from_str(&page(socket, "/v1/status")?).ok()
}

pub(crate) fn node(name: &str, number: u8) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
        "spec": {"podCIDRs": [format!("10.244.{number}.0/24")], "podCIDR": format!("10.244.{number}.0/24")},
        "status": {"addresses": [{"type": "InternalIP", "address": format!("172.16.0.{number}")}]}})
}

pub(crate) fn service(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080}]}})
}

pub(crate) fn slice(service: &str, addresses: &[&str]) -> Value {
    let endpoints: Vec<Value> = addresses
        .iter()
        .map(|address| json!({"addresses": [address], "nodeName": "node-1", "conditions": {"ready": true}}))
        .collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("{service}-1"), "namespace": "default",
            "labels": {"kubernetes.io/service-name": service}},
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints})
}
