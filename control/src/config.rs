//! The control process's configuration file: one screen of YAML.
//!
//! A running daemon follows it: what it says of the view (`node`, `role`, `service_cidrs`, …) is in force at once; sources and
//! sockets are opened at start, and a change of them waits for a restart.
//!
//! Every key but `sources` is optional. The comment at each field of [`Config`] gives its default and reason; `configs/` has
//! working examples.

mod announce;
mod flows;
mod quic;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;
use levee_api::diagnostic::Diagnostic;
use levee_api::tunnel::{Encapsulation, Tunnel};
use levee_api::yaml;
use serde::Deserialize;

pub use announce::Announce;

use crate::compile::{Overlay, Role, View};
use crate::model::{Origin, Placed, is_object_name};
use crate::watch::files;

/// The variable of the environment that names the Node, where the file does not.
const NODE_VARIABLE: &str = "LEVEE_NODE";

/// What stands in the place of a dataplane's socket where there is no dataplane.
const NO_DATAPLANE: &str = "none";

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    node: Option<Placed<String>>,
    #[serde(default)]
    role: Role,
    sources: Placed<Vec<Placed<Entry>>>,
    dataplane: Option<Placed<PathBuf>>,
    socket: Option<Placed<PathBuf>>,
    socket_group: Option<Placed<String>>,
    metrics: Option<Placed<String>>,
    announce: Option<Placed<announce::Section>>,
    #[serde(default)]
    service_cidrs: Vec<Placed<String>>,
    drain: Option<Placed<String>>,
    mid_stream: Option<Placed<String>>,
    #[serde(default)]
    load_balancer_class_required: bool,
    allocate: Option<Placed<AllocateEntry>>,
    #[serde(default)]
    tunnels: Vec<Placed<Tunnel>>,
    #[serde(default)]
    quic_lb: Vec<Placed<quic::Entry>>,
    overlay: Option<Placed<Overlay>>,
}

/// `allocate`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AllocateEntry {
    #[serde(default)]
    lease: LeaseEntry,
}

/// A Lease.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaseEntry {
    namespace: Option<Placed<String>>,
    name: Option<Placed<String>>,
}

/// `allocate`: be a candidate for assigning addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocate {
    /// `lease.namespace`. Default `levee-system`.
    pub namespace: String,
    /// `lease.name`: candidates of one cluster must have the same. Default `levee-allocator`.
    pub name: String,
}

/// One entry of `sources`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    path: Option<Placed<PathBuf>>,
    kubernetes: Option<Kubernetes>,
}

/// A cluster's API server.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kubernetes {
    kubeconfig: Option<Placed<PathBuf>>,
}

/// One entry of `sources`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `path`: a file, or a directory of files.
    Path(PathBuf),
    /// `kubernetes`: the API server of a cluster, by `kubeconfig`; without it the one that this process is a pod of.
    Kubernetes(Option<PathBuf>),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Path(path) => write!(f, "{}", path.display()),
            Source::Kubernetes(Some(path)) => write!(f, "kubernetes by {}", path.display()),
            Source::Kubernetes(None) => f.write_str("kubernetes"),
        }
    }
}

/// A configuration without contradictions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `node`, `role`, `service_cidrs`, `load_balancer_class_required`: whose program is compiled, and how.
    ///
    /// `node` is the name of the Node that the dataplane runs on. Default: the environment's `LEVEE_NODE`, or the host's name, which
    /// is the Node's name unless the kubelet was told otherwise. `role` is `node` (default) or `balancer`. `service_cidrs` are ranges of ClusterIPs,
    /// beside those that ServiceCIDR objects give. `load_balancer_class_required` leaves Services of type LoadBalancer
    /// without a `loadBalancerClass` to somebody else; default false, since most clusters have one implementation.
    /// `tunnels` are those that end at the dataplane, for Services of mode `tunnel`: on a balancer the first is what packets are
    /// wrapped in; on a node, all are unwrapped, from their `peers`. Default none. `overlay: flannel`, on a balancer, has packets
    /// for pods wrapped in the first tunnel for the endpoint that flannel says their Node has. Default none: pods are routed to.
    /// `quic_lb` is how servers of QUIC make connection IDs that name them, for Services annotated `levee.dev/quic-lb`. Default none.
    /// `drain` is how long a backend that gets no new flows keeps those that it has, default until they end; `mid_stream` is what becomes
    /// of TCP segments of no flow: `reset`, `hash` or `drop`, default `hash` on a node, and on a balancer `hash` for modes `dsr` and
    /// `tunnel` and `reset` for others.
    pub view: View,
    /// `quic_lb[].key_file`, by the configuration's name.
    pub key_files: BTreeMap<String, PathBuf>,
    /// `sources`: files and directories of objects, and the API servers of clusters; at least one.
    pub sources: Vec<Source>,
    /// `dataplane`: its control socket. Default `/run/levee/dataplane.sock`, which is the dataplane's own default. `none`: there is no
    /// dataplane here; this process only assigns addresses.
    pub dataplane: Option<PathBuf>,
    /// `allocate`: whether, and under which Lease, this process may be the one that assigns addresses to Services of type
    /// LoadBalancer and writes their status. Default: it is not.
    pub allocate: Option<Allocate>,
    /// `socket`: where this process tells its status. Default `/run/levee/control.sock`.
    pub socket: PathBuf,
    /// `socket_group`: who, besides root, may read from the socket. Default: nobody.
    pub socket_group: Option<String>,
    /// `metrics`: address and port on which Prometheus reads `/metrics`, without TLS and by whoever gets there. Default none: the
    /// socket has the same page.
    pub metrics: Option<SocketAddr>,
    /// `announce`: how balancers settle who announces an address; absent where nobody else could. Default: elected by a balancer
    /// that watches a cluster.
    pub announce: Option<Announce>,
}

impl Config {
    /// The keys in which another configuration differs and that count at start only.
    #[must_use]
    pub fn needs_restart(&self, other: &Config) -> Vec<&'static str> {
        // Keys are in the view, once they are read.
        let Config { view, key_files: _, sources, dataplane, allocate, socket, socket_group, metrics, announce } = self;
        // Whose Pods an API server is asked for is settled when it is asked.
        let asks = sources.iter().any(|source| matches!(source, Source::Kubernetes(_)));
        [
            ("node", asks && view.node != other.view.node),
            ("role", asks && view.role != other.view.role),
            ("sources", *sources != other.sources),
            ("dataplane", *dataplane != other.dataplane),
            ("allocate", *allocate != other.allocate),
            ("socket", *socket != other.socket),
            ("socket_group", *socket_group != other.socket_group),
            ("metrics", *metrics != other.metrics),
            ("announce", *announce != other.announce),
        ]
        .into_iter()
        .filter_map(|(key, differs)| differs.then_some(key))
        .collect()
    }
}

/// Reads and judges a configuration file, on this host.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(path: &Path) -> Result<Config, Vec<Diagnostic>> {
    let mut config = load_without_keys(path)?;
    quic::keys(&mut config)?;
    Ok(config)
}

/// The same for whoever reads it again when it changes: with the files that keys are in, if it could be read that far.
pub(crate) fn load_to_follow(path: &Path) -> (Result<Config, Vec<Diagnostic>>, Option<Vec<PathBuf>>) {
    match load_without_keys(path) {
        Ok(mut config) => {
            let files = config.key_files.values().cloned().collect();
            (quic::keys(&mut config).map(|()| config), Some(files))
        }
        Err(mistakes) => (Err(mistakes), None),
    }
}

fn load_without_keys(path: &Path) -> Result<Config, Vec<Diagnostic>> {
    let bytes = files::read_bytes(path).map_err(|error| vec![files::unreadable(path, &error)])?;
    // A pod is told by its manifest, since a host's name need not be its Node's. Else the kernel's own word; a host without a name is
    // told of it where it matters.
    let host = std::env::var(NODE_VARIABLE)
        .or_else(|_| std::fs::read_to_string("/proc/sys/kernel/hostname"))
        .unwrap_or_default();
    read(&path.display().to_string(), &bytes, host.trim())
}

/// Reads and judges a configuration, without its key files. `file` names it in diagnostics; `host` is the host's name.
///
/// # Errors
/// Everything that is wrong with it; one diagnostic if it is no YAML of the right form.
pub fn read(file: &str, bytes: &[u8], host: &str) -> Result<Config, Vec<Diagnostic>> {
    let parsed: File = yaml::parse(file, bytes).map_err(|mistake| vec![mistake])?;
    // One document, so its lines are the file's.
    let origin = Origin { file: Arc::from(file), lines_before: 0, live: false };
    let mut mistakes = Vec::new();

    let node = match &parsed.node {
        Some(node) if is_object_name(&node.value) => node.value.clone(),
        Some(node) => {
            let shown: String = node.value.chars().take(60).collect();
            mistakes.push(
                origin
                    .diagnostic(node.place, format!("`{shown}` is no name of a Node"))
                    .help("expected lower-case letters, digits, `-` and `.`, as `kubectl get nodes` shows it"),
            );
            String::new()
        }
        None if is_object_name(&host.to_ascii_lowercase()) => host.to_ascii_lowercase(),
        None => {
            mistakes.push(
                Diagnostic::new(
                    file,
                    format!("`node` is missing, and the host's name, `{host}`, is no name of a Node"),
                )
                .help("add `node:` with the name that `kubectl get nodes` shows"),
            );
            String::new()
        }
    };
    let mut service_cidrs = Vec::new();
    for cidr in &parsed.service_cidrs {
        match cidr.value.parse::<IpNet>() {
            Ok(net) if net == net.trunc() => service_cidrs.push(net),
            Ok(net) => mistakes.push(
                origin
                    .diagnostic(cidr.place, format!("`{}` has bits beyond its prefix", cidr.value))
                    .help(format!("write `{}`", net.trunc())),
            ),
            Err(_) => mistakes.push(
                origin
                    .diagnostic(cidr.place, format!("`{}` is not an IP prefix", cidr.value))
                    .help("expected one such as `10.96.0.0/12`; the API server's flag is `--service-cluster-ip-range`"),
            ),
        }
    }
    let flows = flows::read(parsed.drain.as_ref(), parsed.mid_stream.as_ref(), parsed.role, &origin, &mut mistakes);
    let mut tunnels: Vec<Tunnel> = Vec::new();
    for Placed { value: tunnel, place } in parsed.tunnels {
        if let Err(message) = tunnel.check() {
            mistakes.push(origin.diagnostic(place, message).help("see `tunnels` in the example configurations"));
        } else if let Some(other) = tunnels.iter().find(|other| other.udp_port() == tunnel.udp_port()) {
            let message = format!("tunnel `{}` has the port of tunnel `{}`", tunnel.kind, other.kind);
            mistakes
                .push(origin.diagnostic(place, message).help("give one of them another `port`, on both of its ends"));
        } else if parsed.role == Role::Node && tunnel.peers.is_empty() {
            let message = format!("tunnel `{}` has no `peers`, so nothing would be unwrapped", tunnel.kind);
            mistakes.push(
                origin.diagnostic(place, message).help("list the addresses of the balancers: `peers: [192.0.2.0/28]`"),
            );
        } else {
            tunnels.push(tunnel);
        }
    }
    if let Some(Placed { value: Overlay::Flannel, place }) = parsed.overlay {
        let wraps = tunnels.first().is_some_and(|tunnel| tunnel.kind == Encapsulation::Vxlan);
        if parsed.role != Role::Balancer {
            mistakes.push(
                origin
                    .diagnostic(place, "`overlay` is for balancers; on a node, its kernel is part of the overlay")
                    .help("remove it, or say `role: balancer`"),
            );
        } else if !wraps {
            mistakes.push(
                origin
                    .diagnostic(place, "`overlay: flannel` needs a `vxlan` as the first of `tunnels`")
                    .help("flannel's is `tunnels: [{kind: vxlan, port: 8472, vni: 1}]`"),
            );
        }
    }
    if parsed.sources.value.is_empty() {
        mistakes.push(
            origin
                .diagnostic(parsed.sources.place, "`sources` is empty, so there is nothing to watch")
                .help("add an entry such as `- path: /etc/levee/cluster.d`"),
        );
    }
    let mut sources: Vec<Source> = Vec::new();
    for Placed { value: entry, place } in &parsed.sources.value {
        let (source, path) = match (&entry.path, &entry.kubernetes) {
            (Some(path), None) => (Source::Path(path.value.clone()), Some(path)),
            (None, Some(kubernetes)) => {
                let path = kubernetes.kubeconfig.as_ref();
                (Source::Kubernetes(path.map(|path| path.value.clone())), path)
            }
            _ => {
                mistakes.push(origin.diagnostic(*place, "a source is either a `path` or `kubernetes`").help(
                    "expected `path: /etc/levee/cluster.d`, `kubernetes: {kubeconfig: FILE}` or `kubernetes: {}`",
                ));
                continue;
            }
        };
        let place = path.map_or(*place, |path| path.place);
        if sources.contains(&source) {
            let message = format!("`{source}` is here for the second time");
            mistakes.push(origin.diagnostic(place, message).help("remove one of the two"));
        } else if path.is_some_and(|path| path.value.as_os_str().is_empty()) {
            mistakes.push(origin.diagnostic(place, "an empty path").help("name a file or a directory"));
        } else {
            sources.push(source);
        }
    }
    let mut socket = |socket: &Option<Placed<PathBuf>>, default: &str| {
        let Some(Placed { value, place }) = socket else { return PathBuf::from(default) };
        // `sun_path` has 108 bytes, the last of them 0 (unix(7)).
        if value.as_os_str().is_empty() || value.as_os_str().len() > 107 {
            mistakes
                .push(origin.diagnostic(*place, "the path of a socket has 1 to 107 bytes").help("choose another one"));
        }
        value.clone()
    };
    let has_none = parsed.dataplane.as_ref().is_some_and(|dataplane| dataplane.value.as_os_str() == NO_DATAPLANE);
    let dataplane = (!has_none).then(|| socket(&parsed.dataplane, "/run/levee/dataplane.sock"));
    let own = socket(&parsed.socket, "/run/levee/control.sock");
    if has_none && parsed.allocate.is_none() {
        let place = parsed.dataplane.as_ref().and_then(|dataplane| dataplane.place);
        mistakes.push(
            origin
                .diagnostic(place, "`dataplane: none` without `allocate`: there is nothing to do")
                .help("name the dataplane's socket, or add `allocate: {}` to assign addresses in a cluster"),
        );
    }
    let clusters = sources.iter().filter(|source| matches!(source, Source::Kubernetes(_))).count();
    let allocate = parsed.allocate.as_ref().map(|Placed { value: AllocateEntry { lease }, place }| {
        if clusters != 1 {
            mistakes.push(
                origin
                    .diagnostic(*place, format!("`allocate` needs one `kubernetes` source, and there are {clusters}"))
                    .help("addresses of Services in files need nobody to assign them: every levee finds the same"),
            );
        }
        let mut named = |entry: &Option<Placed<String>>, default: &str| match entry {
            Some(entry) if !is_object_name(&entry.value) => {
                let shown: String = entry.value.chars().take(60).collect();
                mistakes.push(
                    origin
                        .diagnostic(entry.place, format!("`{shown}` is no name of an object"))
                        .help("expected lower-case letters, digits, `-` and `.`"),
                );
                String::new()
            }
            Some(entry) => entry.value.clone(),
            None => default.to_owned(),
        };
        Allocate { namespace: named(&lease.namespace, "levee-system"), name: named(&lease.name, "levee-allocator") }
    });
    if dataplane.as_ref() == Some(&own) {
        let place = parsed.socket.as_ref().or(parsed.dataplane.as_ref()).and_then(|socket| socket.place);
        mistakes.push(
            origin
                .diagnostic(place, "`socket` and `dataplane` are the same path")
                .help("`dataplane` is where the dataplane listens; `socket` is where this process does"),
        );
    }
    let metrics = parsed.metrics.as_ref().and_then(|metrics| {
        let address = metrics.value.parse().ok().filter(|address: &SocketAddr| address.port() != 0);
        if address.is_none() {
            let shown: String = metrics.value.chars().take(60).collect();
            mistakes.push(
                origin
                    .diagnostic(metrics.place, format!("`{shown}` is not an address and port to listen on"))
                    .help("write both, such as `127.0.0.1:9465` or `[::1]:9465`"),
            );
        }
        address
    });
    let watches = sources.iter().any(|source| matches!(source, Source::Kubernetes(_)));
    let watched_by_balancer = watches && parsed.role == Role::Balancer;
    let announce = announce::read(parsed.announce.as_ref(), watched_by_balancer, &origin, &mut mistakes);
    let (quic, key_files) = quic::read(parsed.quic_lb, &origin, &mut mistakes);
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let class_required = parsed.load_balancer_class_required;
    Ok(Config {
        view: View {
            node,
            role: parsed.role,
            service_cidrs,
            class_required,
            tunnels,
            quic,
            elected: announce.is_some(),
            flows,
            overlay: parsed.overlay.map(|overlay| overlay.value),
        },
        key_files,
        sources,
        dataplane,
        allocate,
        socket: own,
        socket_group: parsed.socket_group.map(|group| group.value),
        metrics,
        announce,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn told(yaml: &str) -> String {
        let mistakes = read("control.yaml", yaml.as_bytes(), "host").expect_err(yaml);
        mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn sources_alone_are_enough() {
        let config = read("control.yaml", b"sources: [{path: /etc/levee/cluster.d}]\n", "Node-7").expect("good");
        assert_eq!((config.view.node.as_str(), config.view.role), ("node-7", Role::Node));
        assert_eq!(config.dataplane, Some(PathBuf::from("/run/levee/dataplane.sock")));
        assert_eq!(config.allocate, None);
        assert_eq!(config.socket, PathBuf::from("/run/levee/control.sock"));
    }

    #[test]
    fn what_becomes_of_flows_follows_the_role_unless_it_is_said() {
        use levee_api::program::{FlowPolicy, MidStream};
        let flows = |more: &str| {
            read("c.yaml", format!("sources: [{{path: /a}}]\n{more}").as_bytes(), "host")
                .map(|config| config.view.flows)
        };
        assert_eq!(flows(""), Ok(FlowPolicy { drain_seconds: None, mid_stream: Some(MidStream::Hash) }));
        assert_eq!(flows("role: balancer\n"), Ok(FlowPolicy::default()));
        let said = FlowPolicy { drain_seconds: Some(90), mid_stream: Some(MidStream::Drop) };
        assert_eq!(flows("drain: 1m 30s\nmid_stream: drop\n"), Ok(said));
        let wrong = flows("drain: never\nmid_stream: pass\n").expect_err("neither is a word");
        assert!(wrong[0].to_string().contains("c.yaml:2:8: `drain`: `never` is no time to drain"), "{}", wrong[0]);
        assert!(wrong[1].to_string().contains("c.yaml:3:13: `mid_stream`: `pass` is no word"), "{}", wrong[1]);
    }

    #[test]
    fn a_cluster_is_a_source_by_kubeconfig_or_from_within() {
        let yaml = b"sources: [{kubernetes: {kubeconfig: /a}}, {kubernetes: {}}, {path: /b}]\n";
        let config = read("control.yaml", yaml, "host").expect("good");
        let expected = [Source::Kubernetes(Some("/a".into())), Source::Kubernetes(None), Source::Path("/b".into())];
        assert_eq!(config.sources, expected);
        let other = Config { view: View::node("other"), ..config.clone() };
        assert_eq!(config.needs_restart(&other), ["node"]);
    }

    #[test]
    fn a_process_may_only_assign_addresses() {
        let yaml = b"sources: [{kubernetes: {}}]\ndataplane: none\nallocate: {}\n";
        let config = read("control.yaml", yaml, "host").expect("good");
        let lease = Allocate { namespace: "levee-system".into(), name: "levee-allocator".into() };
        assert_eq!((config.dataplane, config.allocate), (None, Some(lease)));
        let yaml = b"sources: [{kubernetes: {}}]\nallocate: {lease: {namespace: a, name: b}}\n";
        let config = read("control.yaml", yaml, "host").expect("good");
        assert!(config.dataplane.is_some(), "beside its dataplane");
        assert_eq!(config.allocate, Some(Allocate { namespace: "a".into(), name: "b".into() }));
    }

    #[test]
    fn the_shipped_examples_are_good() {
        for (name, text) in [
            ("control-node.yaml", include_str!("../../configs/control-node.yaml")),
            ("control-balancer.yaml", include_str!("../../configs/control-balancer.yaml")),
        ] {
            let config = read(name, text.as_bytes(), "host").unwrap_or_else(|mistakes| panic!("{}", mistakes[0]));
            assert_eq!(config.view.role == Role::Balancer, name.contains("balancer"));
        }
    }

    #[test]
    fn a_host_without_a_usable_name_needs_one() {
        let mistakes = read("control.yaml", b"sources: [{path: /a}]\n", "(none)").expect_err("no name");
        assert!(
            mistakes[0].to_string().contains("`node` is missing, and the host's name, `(none)`"),
            "{}",
            mistakes[0]
        );
    }

    #[test]
    fn tunnels_are_judged_with_their_place() {
        let sources = "sources: [{path: /a}]\nnode: n\n";
        let tunnels = |text: &str| format!("{sources}{text}");
        let good = tunnels(
            "tunnels:\n  - kind: vxlan\n    peers: [192.0.2.10, 2001:db8::/64]\n  - {kind: gue, peers: [192.0.2.10]}\n",
        );
        let config = read("c.yaml", good.as_bytes(), "host").expect("good");
        assert_eq!(config.view.tunnels.len(), 2);
        assert_eq!(config.view.tunnels[0].peers[0].to_string(), "192.0.2.10/32");
        for (text, expected) in [
            ("tunnels: [{kind: vxlan}]\n", "control.yaml:3:11: tunnel `vxlan` has no `peers`"),
            ("overlay: flannel\n", "`overlay` is for balancers"),
            ("role: balancer\noverlay: flannel\n", "needs a `vxlan` as the first of `tunnels`"),
            (
                "role: balancer\ntunnels: [{kind: gue}]\noverlay: flannel\n",
                "tunnels: [{kind: vxlan, port: 8472, vni: 1}]",
            ),
            ("role: balancer\noverlay: calico\n", "flannel"),
            ("tunnels: [{kind: ipip, port: 4, peers: [192.0.2.1]}]\n", "uses no UDP"),
            ("tunnels: [{kind: vxlan, vni: 16777216, peers: [192.0.2.1]}]\n", "expected 0 to 16777215"),
            ("tunnels: [{kind: vxlan, peers: [nobody]}]\n", "`nobody` is neither an address nor a prefix"),
            (
                "tunnels: [{kind: vxlan, peers: [192.0.2.1]}, {kind: gue, port: 4789, peers: [192.0.2.1]}]\n",
                "tunnel `gue` has the port of tunnel `vxlan`",
            ),
        ] {
            let told = told(&tunnels(text));
            assert!(told.contains(expected), "{told}");
        }
    }

    #[test]
    fn each_mistake_is_told_with_its_place() {
        let sources = "sources: [{path: /a}]\n";
        for (yaml, expected) in [
            ("node: a\n".to_owned(), "the key `sources` is missing"),
            ("sources: []\n".to_owned(), "control.yaml:1:10: `sources` is empty"),
            ("sources: [{path: /a}, {path: /a}]\n".to_owned(), "control.yaml:1:30: `/a` is here for the second time"),
            ("sources: [{pth: /a}]\n".to_owned(), "control.yaml:1:12: unknown key `pth`, expected"),
            (
                "sources: [{kubernetes: }]\n".to_owned(),
                "control.yaml:1:11: a source is either a `path` or `kubernetes`",
            ),
            ("sources: [{path: /a, kubernetes: {}}]\n".to_owned(), "control.yaml:1:11: a source is either"),
            ("sources: [{kubernetes: {kubeconfg: /a}}]\n".to_owned(), "control.yaml:1:25: unknown key `kubeconfg`"),
            ("sources: [{kubernetes: {kubeconfig: ''}}]\n".to_owned(), "control.yaml:1:37: an empty path"),
            ("sources: [{kubernetes: {}}, {kubernetes: {}}]\n".to_owned(), "1:29: `kubernetes` is here for the second"),
            ("sources: [/a]\n".to_owned(), "control.yaml:1:11: wrong type"),
            (format!("{sources}rol: node\n"), "control.yaml:2:1: unknown key `rol`, expected one of `node`, `role`"),
            (
                format!("{sources}role: nod\n"),
                "control.yaml:2:7: unknown value `nod`, expected one of `node`, `balancer`",
            ),
            (format!("{sources}node: a b\n"), "control.yaml:2:7: `a b` is no name of a Node"),
            (format!("{sources}service_cidrs: [10.96.0.1/12]\n"), "control.yaml:2:17: `10.96.0.1/12` has bits beyond"),
            (format!("{sources}service_cidrs: [10.96.0.0]\n"), "control.yaml:2:17: `10.96.0.0` is not an IP prefix"),
            (
                format!("{sources}socket: /run/levee/dataplane.sock\n"),
                "control.yaml:2:9: `socket` and `dataplane` are the same",
            ),
            (
                format!("{sources}socket: /{}\n", "x".repeat(107)),
                "control.yaml:2:9: the path of a socket has 1 to 107 bytes",
            ),
            (format!("{sources}dataplane: none\n"), "control.yaml:2:12: `dataplane: none` without `allocate`"),
            (format!("{sources}allocate: {{}}\n"), "control.yaml:2:11: `allocate` needs one `kubernetes` source"),
            (
                "sources: [{kubernetes: {}}]\nallocate: {lease: {name: A b}}\n".to_owned(),
                "control.yaml:2:26: `A b` is no name of an object",
            ),
            (format!("{sources}allocate: {{leas: {{}}}}\n"), "control.yaml:2:12: unknown key `leas`"),
            (format!("{sources}metrics: localhost\n"), "control.yaml:2:10: `localhost` is not an address and port"),
            (format!("{sources}metrics: 127.0.0.1:0\n"), "control.yaml:2:10: `127.0.0.1:0` is not an address and port"),
            (format!("{sources}load_balancer_class_required: 1\n"), "control.yaml:2:31: "),
            (format!("{sources}---\n{sources}"), "control.yaml:2:1: a second document"),
        ] {
            let told = told(&yaml);
            assert!(told.contains(expected), "{yaml}\n--- told:\n{told}\n--- expected:\n{expected}");
        }
    }
}
