//! A small cluster in words, and what its program says.

use std::fmt::Write as _;

use levee_api::net::{Family, Protocol};
use levee_api::program::{Backend, Frontend, Pool, Program, Service, Side};
use levee_control::compile::{View, compile};
use levee_control::model::{ValidatedCluster, validate};
use levee_control::notice::Notice;
use levee_control::watch::read;

/// Service `default/web`: ClusterIP 10.96.0.10, port `http` 80. `spec` is added to its `spec`, one key a line.
pub(crate) fn web(spec: &str) -> String {
    named_web("", spec, "")
}

/// The same with more `metadata`, and with load-balancer addresses.
pub(crate) fn named_web(metadata: &str, spec: &str, addresses: &str) -> String {
    let mut yaml = "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: web\n".to_owned();
    for line in metadata.lines() {
        let _ = writeln!(yaml, "  {line}");
    }
    yaml += "spec:\n";
    if !spec.contains("clusterIP") {
        yaml += "  clusterIP: 10.96.0.10\n";
    }
    if !spec.contains("ports:") {
        yaml += "  ports: [{name: http, port: 80, targetPort: 8080, nodePort: 30080}]\n";
    }
    for line in spec.lines() {
        let _ = writeln!(yaml, "  {line}");
    }
    if !addresses.is_empty() {
        yaml += "status:\n  loadBalancer:\n    ingress:\n";
        for address in addresses.split(' ') {
            let _ = writeln!(yaml, "    - ip: {address}");
        }
    }
    yaml
}

/// An IPv4 slice of `default/web` with target port 8080. An endpoint is an address and, after it, the node that it is on,
/// conditions (`ready=false`), or hints (`zones=a,b`, `nodes=n`).
pub(crate) fn slice(name: &str, endpoints: &[&str]) -> String {
    slice_with(name, "IPv4", "kubernetes.io/service-name: web", "{name: http, port: 8080}", endpoints)
}

/// A slice with other address type, labels and ports.
pub(crate) fn slice_with(name: &str, kind: &str, labels: &str, ports: &str, endpoints: &[&str]) -> String {
    let mut yaml = format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}\n  labels: {{{labels}}}\n\
         addressType: {kind}\nports: [{ports}]\nendpoints:\n"
    );
    for endpoint in endpoints {
        let mut words = endpoint.split(' ');
        let _ = write!(yaml, "  - addresses: ['{}']\n    conditions: {{", words.next().expect("address"));
        let words: Vec<_> = words.collect();
        let conditions: Vec<_> = words
            .iter()
            .filter_map(|word| word.split_once('='))
            .filter(|(name, _)| !name.ends_with('s'))
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        yaml += &format!("{}}}\n", conditions.join(", "));
        for word in words {
            let list =
                |names: &str| names.split(',').map(|name| format!("{{name: {name}}}")).collect::<Vec<_>>().join(", ");
            if let Some(zones) = word.strip_prefix("zones=") {
                let _ = writeln!(yaml, "    hints: {{forZones: [{}]}}", list(zones));
            } else if let Some(nodes) = word.strip_prefix("nodes=") {
                let _ = writeln!(yaml, "    hints: {{forNodes: [{}]}}", list(nodes));
            } else if !word.contains('=') {
                let _ = writeln!(yaml, "    nodeName: {word}");
            }
        }
    }
    yaml
}

/// Node `here`, in zone `a`, at 172.16.0.1, with pods in 10.244.1.0/24.
pub(crate) const HERE: &str = "---
apiVersion: v1
kind: Node
metadata: {name: here, labels: {topology.kubernetes.io/zone: a}}
spec: {podCIDRs: [10.244.1.0/24]}
status: {addresses: [{type: InternalIP, address: 172.16.0.1}, {type: Hostname, address: here}]}
";

pub(crate) fn cluster(yaml: &str) -> ValidatedCluster {
    let reading = read("test.yaml", yaml.as_bytes());
    assert!(reading.mistakes.is_empty(), "{}\n{yaml}", reading.mistakes.first().expect("one"));
    let validation = validate(&reading.objects, reading.notices);
    assert!(validation.refused.is_empty(), "{}\n{yaml}", validation.refused.first().expect("one"));
    validation.cluster
}

/// What node `here` and a balancer make of it.
pub(crate) fn on_node(yaml: &str) -> Compiled {
    on(yaml, &View::node("here"))
}

pub(crate) fn on_balancer(yaml: &str) -> Compiled {
    on(yaml, &View::balancer("balancer-1"))
}

pub(crate) fn on(yaml: &str, view: &View) -> Compiled {
    let (program, notices) = compile(&cluster(yaml), view);
    Compiled { program, notices }
}

pub(crate) struct Compiled {
    pub(crate) program: Program,
    pub(crate) notices: Vec<Notice>,
}

impl Compiled {
    /// The service of this name, IPv4 TCP.
    pub(crate) fn service(&self, name: &str) -> &Service {
        self.find(name, Protocol::Tcp, Family::Ipv4)
            .unwrap_or_else(|| panic!("no service {name} in {:#?}", self.program.services))
    }

    pub(crate) fn find(&self, name: &str, protocol: Protocol, family: Family) -> Option<&Service> {
        self.program
            .services
            .iter()
            .find(|service| service.name == name && service.protocol == protocol && service.family == family)
    }

    /// Backends of `default/web:http` that new flows may get out of a pool.
    pub(crate) fn pool(&self, pool: Pool) -> Vec<String> {
        backends(self.service("default/web:http"), |backend| backend.pools.contains(&pool))
    }

    /// Backends of `default/web:http` that only keep what they have.
    pub(crate) fn draining(&self) -> Vec<String> {
        backends(self.service("default/web:http"), |backend| backend.pools.is_empty())
    }

    /// The one frontend that serves packets to `address:port` from a side.
    pub(crate) fn frontend(&self, at: &str, from: Side) -> &Frontend {
        self.try_frontend(at, from).unwrap_or_else(|| panic!("nothing serves {at} in {:#?}", self.program))
    }

    pub(crate) fn try_frontend(&self, at: &str, from: Side) -> Option<&Frontend> {
        let mut found = self
            .program
            .services
            .iter()
            .flat_map(|service| &service.frontends)
            .filter(|frontend| format!("{}:{}", frontend.address, frontend.port) == at)
            .filter(|frontend| frontend.from == Side::Any || from == Side::Any || frontend.from == from);
        let first = found.next()?;
        assert!(from == Side::Any || found.next().is_none(), "two frontends serve {at} from {from:?}");
        Some(first)
    }

    /// Whether any notice about an object contains this.
    pub(crate) fn tells(&self, object: &str, text: &str) -> bool {
        self.notices.iter().any(|notice| notice.object == object && notice.message.contains(text))
    }

    pub(crate) fn vips(&self) -> Vec<(String, bool)> {
        self.program.vips.iter().map(|vip| (vip.address.to_string(), vip.announce)).collect()
    }
}

pub(crate) fn backends(service: &Service, which: impl Fn(&Backend) -> bool) -> Vec<String> {
    service
        .backends
        .iter()
        .filter(|backend| which(backend))
        .map(|backend| std::net::SocketAddr::new(backend.address, backend.port).to_string())
        .collect()
}
