//! A real API server in a namespace of the lab, by `scripts/kube-apiserver`, and kubectl.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

use serde_json::Value;

use crate::lab::live;
use crate::namespace::Namespace;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/kube-apiserver");

/// Something that a ServiceAccount may do, or does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission {
    /// Who.
    pub account: String,
    /// API group; empty for the oldest one.
    pub group: String,
    /// With a subresource after a slash.
    pub resource: String,
    /// What.
    pub verb: String,
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Permission { account, group, resource, verb } = self;
        let dot = if group.is_empty() { "" } else { "." };
        write!(f, "{account}: {verb} {resource}{dot}{group}")
    }
}

/// What manifests permit to ServiceAccounts.
#[must_use]
pub fn permitted(objects: &[Value]) -> BTreeSet<Permission> {
    let words = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|word| word.as_str().map(str::to_owned)).collect()
    };
    let mut all = BTreeSet::new();
    for binding in
        objects.iter().filter(|object| object["kind"].as_str().is_some_and(|kind| kind.ends_with("RoleBinding")))
    {
        let role = objects.iter().find(|object| {
            object["kind"] == binding["roleRef"]["kind"] && object["metadata"]["name"] == binding["roleRef"]["name"]
        });
        for rule in role.into_iter().flat_map(|role| role["rules"].as_array().into_iter().flatten()) {
            for subject in binding["subjects"].as_array().into_iter().flatten() {
                for group in words(&rule["apiGroups"]) {
                    for resource in words(&rule["resources"]) {
                        all.extend(words(&rule["verbs"]).into_iter().map(|verb| Permission {
                            account: subject["name"].as_str().unwrap_or_default().to_owned(),
                            group: group.clone(),
                            resource: resource.clone(),
                            verb,
                        }));
                    }
                }
            }
        }
    }
    all
}

/// An API server and its etcd. They end with this.
pub struct ApiServer {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    directory: PathBuf,
    namespace: Namespace,
}

impl ApiServer {
    /// Whether one was built.
    #[must_use]
    pub fn is_built() -> bool {
        Command::new(SCRIPT).arg("is-built").stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    /// Starts one on an address of the namespace, with `configs/kubernetes/install.yaml` applied, and waits until it is ready.
    ///
    /// # Panics
    /// If it does not become so.
    #[must_use]
    pub fn start(namespace: &Namespace, address: Ipv4Addr) -> ApiServer {
        let directory = namespace.directory().join("api");
        let mut command = namespace.command(SCRIPT);
        command.arg("run").arg(&directory).env("LEVEE_API_ADDRESS", address.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("bash is there");
        live().processes.insert(child.id().cast_signed());
        let orders = child.stdin.take();
        let mut answers = BufReader::new(child.stdout.take().expect("asked for"));
        let mut line = String::new();
        let _ = answers.read_line(&mut line);
        assert_eq!(line.trim(), "ready", "see what scripts/kube-apiserver says above");
        ApiServer { child, orders, answers, directory, namespace: namespace.clone() }
    }

    /// Has the script do something, such as `stop-api`, and waits until it is done.
    ///
    /// # Panics
    /// If it is not.
    pub fn order(&mut self, order: &str) {
        writeln!(self.orders.as_mut().expect("it runs"), "{order}").expect("the script reads on");
        let mut line = String::new();
        let _ = self.answers.read_line(&mut line);
        assert_eq!(line.trim(), "done", "{order}: see what scripts/kube-apiserver says above");
    }

    /// The port that it listens on.
    ///
    /// # Panics
    /// If its own kubeconfig does not name it.
    #[must_use]
    pub fn port(&self) -> u16 {
        let variables = self.variables();
        let port = variables.iter().find(|(name, _)| name == "KUBERNETES_SERVICE_PORT");
        port.and_then(|(_, port)| port.parse().ok()).expect("a port")
    }

    /// kubectl, as one who may do everything.
    #[must_use]
    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("kubectl can be run")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.namespace.command("kubectl");
        command.arg("--kubeconfig").arg(self.kubeconfig("admin"));
        command.arg("--cache-dir").arg(self.directory.join("kubectl")).args(arguments);
        command
    }

    /// `kubectl apply -f -`.
    ///
    /// # Panics
    /// If it is refused.
    pub fn apply(&self, objects: &str) -> String {
        self.apply_by(&["apply", "-f", "-"], objects)
    }

    /// The same, merged by the server: kubectl knows slices as a built-in kind, which this server does not have, and would
    /// send changes of one in a form that it does not take.
    ///
    /// # Panics
    /// If it is refused.
    pub fn apply_on_server(&self, objects: &str) -> String {
        self.apply_by(&["apply", "--server-side", "--force-conflicts", "-f", "-"], objects)
    }

    fn apply_by(&self, arguments: &[&str], objects: &str) -> String {
        let mut command = self.command(arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl can be run");
        child.stdin.take().expect("asked for").write_all(objects.as_bytes()).expect("kubectl reads all");
        let output = child.wait_with_output().expect("kubectl ends");
        assert!(output.status.success(), "kubectl apply: {}\n{objects}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Of `admin`, or of a ServiceAccount.
    #[must_use]
    pub fn kubeconfig(&self, who: &str) -> PathBuf {
        self.directory.join(format!("{who}.kubeconfig"))
    }

    /// A ServiceAccount's token, and the certificate of the server's authority: what a kubelet gives to a pod.
    ///
    /// # Panics
    /// If there is no such account.
    #[must_use]
    pub fn token(&self, account: &str) -> (String, String) {
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let kubeconfig = read(&self.kubeconfig(account));
        let token = kubeconfig.split("token: \"").nth(1).and_then(|rest| rest.split('"').next());
        let token = token.unwrap_or_else(|| panic!("no token: {kubeconfig}")).to_owned();
        (token, read(&self.directory.join("ca.crt")))
    }

    /// What ServiceAccounts of levee's have asked for so far, with the status of the answer.
    #[must_use]
    pub fn asked(&self) -> Vec<(Permission, u64)> {
        let log = fs::read_to_string(self.directory.join("audit.log")).unwrap_or_default();
        let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let asked = events.filter_map(|event| {
            let account = event["user"]["username"].as_str()?.strip_prefix("system:serviceaccount:levee-system:")?;
            let about = &event["objectRef"];
            let subresource = about["subresource"].as_str().map(|name| format!("/{name}")).unwrap_or_default();
            let permission = Permission {
                account: account.to_owned(),
                group: about["apiGroup"].as_str().unwrap_or_default().to_owned(),
                resource: about["resource"].as_str()?.to_owned() + &subresource,
                verb: event["verb"].as_str()?.to_owned(),
            };
            Some((permission, event["responseStatus"]["code"].as_u64().unwrap_or_default()))
        });
        asked.collect()
    }

    /// What a kubelet tells each container about it.
    ///
    /// # Panics
    /// If its own kubeconfig does not name it.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, String)> {
        let kubeconfig = fs::read_to_string(self.kubeconfig("admin")).expect("it was written");
        let server =
            kubeconfig.split("https://").nth(1).and_then(|rest| rest.split('"').next()).expect("it names a server");
        let (host, port) = server.rsplit_once(':').expect("an address and a port");
        [("KUBERNETES_SERVICE_HOST", host), ("KUBERNETES_SERVICE_PORT", port)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.child.wait();
        live().processes.remove(&self.child.id().cast_signed());
    }
}
