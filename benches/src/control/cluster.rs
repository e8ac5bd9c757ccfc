//! A real API server in a namespace, and the objects in it.

use std::io::{BufRead, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use levee_tests::{Lab, Namespace};
use serde_json::{Value, json};

use super::ENDPOINTS;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/kube-apiserver");

/// Writes under way at a time while objects are made.
const AT_ONCE: usize = 48;

/// Nodes of the cluster, over which endpoints are spread.
const NODES: usize = 100;

/// An API server with Nodes, and Services of [`ENDPOINTS`] endpoints each. Gone when it is dropped.
pub struct Cluster {
    namespace: Namespace,
    server: Child,
    kubeconfigs: PathBuf,
    services: usize,
}

impl Cluster {
    /// Starts one without Services; `None`, said aloud, where none was built.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(lab: &Lab) -> Option<Cluster> {
        let built = Command::new(SCRIPT).arg("is-built").stderr(Stdio::null()).status();
        if !built.is_ok_and(|status| status.success()) {
            println!("SKIPPED: there is no kube-apiserver here; `scripts/kube-apiserver build` makes one");
            return None;
        }
        let namespace = lab.namespace("api");
        let kubeconfigs = lab.directory().join("api");
        let mut command = namespace.command(SCRIPT);
        command.arg("run").arg(&kubeconfigs).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut server = command.spawn().expect("the script can be run");
        let mut line = String::new();
        let answers = server.stdout.take().expect("asked for");
        BufReader::new(answers).read_line(&mut line).expect("it says something");
        assert_eq!(line.trim(), "ready", "see what scripts/kube-apiserver says above");
        let cluster = Cluster { namespace, server, kubeconfigs, services: 0 };
        let nodes: Vec<Value> = (1..=NODES).map(node).collect();
        cluster.work(async |client| {
            create(&client, &nodes).await?;
            for node in &nodes {
                let status = Patch::Merge(json!({"status": node["status"]}));
                let name = node["metadata"]["name"].as_str().unwrap_or_default();
                api(&client, node).patch_status(name, &PatchParams::default(), &status).await?;
            }
            Ok(())
        });
        Some(cluster)
    }

    /// Where it runs; who watches it must run there too.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// With what levee-control may do in it.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfigs.join("levee-node.kubeconfig")
    }

    /// Services that there are.
    #[must_use]
    pub fn services(&self) -> usize {
        self.services
    }

    /// Makes Services and their slices until there are so many. Returns how long that took.
    ///
    /// # Panics
    /// If the API server refuses one.
    pub fn grow_to(&mut self, services: usize) -> Duration {
        let begun = Instant::now();
        let new: Vec<Value> =
            (self.services..services).flat_map(|number| [service(number), slice(number, ENDPOINTS)]).collect();
        self.work(async |client| create(&client, &new).await);
        self.services = self.services.max(services);
        begun.elapsed()
    }

    /// Does something as a member of system:masters, on a thread in the server's namespace.
    ///
    /// # Panics
    /// If it fails.
    pub fn work<T: Send>(&self, work: impl AsyncFnOnce(Client) -> kube::Result<T> + Send) -> T {
        let kubeconfig = self.kubeconfigs.join("admin.kubeconfig");
        self.namespace.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let client = client(&kubeconfig).await;
                work(client).await.unwrap_or_else(|error| panic!("the API server: {error}"))
            })
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The end of its input ends it, and it ends etcd.
        drop(self.server.stdin.take().map(|mut orders| orders.flush()));
        let _ = self.server.wait();
    }
}

async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("the script wrote it");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("the script's kubeconfigs are good")).expect("a client")
}

async fn create(client: &Client, objects: &[Value]) -> kube::Result<()> {
    let writes = futures_util::stream::iter(objects.iter().map(async |object: &Value| {
        let typed = serde_json::from_value(object.clone()).map_err(kube::Error::SerdeError)?;
        api(client, object).create(&PostParams::default(), &typed).await.map(drop)
    }));
    writes.buffer_unordered(AT_ONCE).try_collect().await
}

/// Gives a Service's slice so many endpoints; the answer is back when this returns.
///
/// # Errors
/// The API server's.
pub(super) async fn set_endpoints(client: &Client, number: usize, endpoints: usize) -> kube::Result<()> {
    let slice = slice(number, endpoints);
    let patch = Patch::Merge(json!({"endpoints": slice["endpoints"]}));
    api(client, &slice).patch(&name_of_slice(number), &PatchParams::default(), &patch).await.map(drop)
}

fn api(client: &Client, object: &Value) -> Api<DynamicObject> {
    let word = |name: &str| object[name].as_str().unwrap_or_default();
    let (group, version) = word("apiVersion").split_once('/').unwrap_or(("", word("apiVersion")));
    let plural = format!("{}s", word("kind").to_lowercase());
    let gvk = GroupVersionKind::gvk(group, version, word("kind"));
    let resource = ApiResource::from_gvk_with_plural(&gvk, &plural);
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// Node 1 is the lab's; the pods of the others lie in 10.128.0.0/9.
fn node(number: usize) -> Value {
    let cidr = if number == 1 { "10.244.1.0/24".to_owned() } else { format!("10.{}.0.0/16", 128 + number) };
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("node-{number}")},
        "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
        "status": {"addresses": [{"type": "InternalIP", "address": format!("192.0.2.{number}")}]}})
}

fn service(number: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": format!("service-{number}"), "namespace": "default", "labels": {"app": format!("app-{number}")}},
        "spec": {"selector": {"app": format!("app-{number}")},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]}})
}

fn name_of_slice(number: usize) -> String {
    format!("service-{number}-abcde")
}

fn slice(number: usize, endpoints: usize) -> Value {
    let endpoint = |index: usize| {
        let pod = number * ENDPOINTS + index;
        // Not on node 1: its pods would be this machine's to reach.
        let (node, host) = (2 + pod % (NODES - 1), pod / (NODES - 1) + 1);
        let address = Ipv4Addr::from([10, (128 + node) as u8, (host >> 8) as u8, host as u8]);
        json!({"addresses": [address.to_string()], "nodeName": format!("node-{node}"),
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "targetRef": {"kind": "Pod", "namespace": "default", "name": format!("app-{number}-6f9c7d5b8-{index:05}"),
                "uid": format!("{number:08x}-0000-4000-8000-{index:012x}")}})
    };
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": name_of_slice(number), "namespace": "default",
            "labels": {"kubernetes.io/service-name": format!("service-{number}"), "app": format!("app-{number}")}},
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": (0..endpoints).map(endpoint).collect::<Vec<_>>()})
}
