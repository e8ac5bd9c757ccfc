//! The cluster as Kubernetes describes it: Nodes, Services and EndpointSlices as YAML in a directory.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use levee_api::net::Protocol;
use levee_api::program::Mode;

use crate::dual::{self, v6};
use crate::lab::Lab;
use crate::node::{Node, Pod};

/// A directory of objects, which control processes watch.
pub struct Cluster {
    directory: PathBuf,
}

/// A Service with one port, and its endpoints.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its name, in the namespace `default`.
    pub name: String,
    /// Address inside the cluster.
    pub cluster_ip: Ipv4Addr,
    /// Address for clients outside.
    pub vip: Option<Ipv4Addr>,
    /// Protocol of its port.
    pub protocol: Protocol,
    /// Number of its port.
    pub port: u16,
    /// Number of the endpoints' port.
    pub target_port: u16,
    /// Port on each node's own address.
    pub node_port: Option<u16>,
    /// `healthCheckNodePort`.
    pub health_check: Option<u16>,
    /// How a balancer reaches the endpoints (annotation `levee.dev/mode`).
    pub mode: Option<Mode>,
    /// Whether `externalTrafficPolicy` is `Local`.
    pub local: bool,
    /// Seconds for which a client stays with an endpoint.
    pub affinity: Option<u32>,
    /// Whether it has IPv6 too, by the addresses that [`v6`] says.
    pub both: bool,
    /// Where it leads.
    pub endpoints: Vec<Endpoint>,
}

/// One endpoint of a Service.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Address of its pod.
    pub address: Ipv4Addr,
    /// Node of its pod.
    pub node: String,
    /// What its conditions say.
    pub state: State,
}

/// Conditions of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Takes new connections.
    Ready,
    /// Finishes those that it has.
    Terminating,
}

impl Endpoint {
    /// A ready endpoint: a pod on a node.
    #[must_use]
    pub fn of(node: &Node, pod: &Pod) -> Endpoint {
        Endpoint { address: pod.address, node: node.name(), state: State::Ready }
    }
}

impl Service {
    /// A Service of TCP port 80 towards port 8080, without endpoints.
    #[must_use]
    pub fn new(name: &str, cluster_ip: Ipv4Addr) -> Service {
        Service {
            name: name.to_owned(),
            cluster_ip,
            vip: None,
            protocol: Protocol::Tcp,
            port: 80,
            target_port: 8080,
            node_port: None,
            health_check: None,
            mode: None,
            local: false,
            affinity: None,
            both: false,
            endpoints: Vec::new(),
        }
    }

    /// It and its slice, as YAML.
    #[must_use]
    pub fn yaml(&self) -> String {
        let protocol = self.protocol.to_string().to_uppercase();
        let Service { name, cluster_ip, port, target_port, .. } = self;
        let mut text = format!("apiVersion: v1\nkind: Service\nmetadata:\n  namespace: default\n  name: {name}\n");
        if let Some(mode) = self.mode {
            let _ = writeln!(text, "  annotations:\n    levee.dev/mode: {mode}");
        }
        let kind = match (self.vip, self.node_port) {
            (Some(_), _) => "LoadBalancer",
            (None, Some(_)) => "NodePort",
            (None, None) => "ClusterIP",
        };
        let _ = writeln!(text, "spec:\n  type: {kind}\n  clusterIP: {cluster_ip}");
        if self.both {
            let _ = writeln!(text, "  clusterIPs: [{cluster_ip}, '{}']", v6(*cluster_ip));
            text.push_str("  ipFamilyPolicy: RequireDualStack\n  ipFamilies: [IPv4, IPv6]\n");
        } else {
            let _ = writeln!(text, "  clusterIPs: [{cluster_ip}]\n  ipFamilies: [IPv4]");
        }
        if self.local {
            text.push_str("  externalTrafficPolicy: Local\n");
        }
        if let Some(port) = self.health_check {
            let _ = writeln!(text, "  healthCheckNodePort: {port}");
        }
        if let Some(seconds) = self.affinity {
            let _ = writeln!(text, "  sessionAffinity: ClientIP");
            let _ = writeln!(text, "  sessionAffinityConfig:\n    clientIP:\n      timeoutSeconds: {seconds}");
        }
        let _ = writeln!(text, "  ports:\n    - name: main\n      protocol: {protocol}\n      port: {port}");
        let _ = writeln!(text, "      targetPort: {target_port}");
        if let Some(port) = self.node_port {
            let _ = writeln!(text, "      nodePort: {port}");
        }
        if let Some(vip) = self.vip {
            let _ = writeln!(text, "status:\n  loadBalancer:\n    ingress:\n      - ip: {vip}\n        ipMode: VIP");
            if self.both {
                let _ = writeln!(text, "      - ip: '{}'\n        ipMode: VIP", v6(vip));
            }
        }
        self.slice(&mut text, "IPv4", |address| address.to_string());
        if self.both {
            self.slice(&mut text, "IPv6", |address| format!("'{}'", v6(address)));
        }
        text
    }

    /// The endpoints of one family.
    fn slice(&self, text: &mut String, family: &str, written: impl Fn(Ipv4Addr) -> String) {
        let protocol = self.protocol.to_string().to_uppercase();
        let Service { name, target_port, .. } = self;
        let suffix = family.to_lowercase();
        let _ = write!(
            text,
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  namespace: default\n  \
             name: {name}-{suffix}\n  labels:\n    kubernetes.io/service-name: {name}\naddressType: {family}\nports:\n  \
             - name: main\n    protocol: {protocol}\n    port: {target_port}\nendpoints:"
        );
        text.push_str(if self.endpoints.is_empty() { " []\n" } else { "\n" });
        for Endpoint { address, node, state } in &self.endpoints {
            let terminating = *state == State::Terminating;
            let _ = writeln!(
                text,
                "  - addresses: [{}]\n    nodeName: {node}\n    \
                 conditions: {{ready: {}, serving: true, terminating: {terminating}}}",
                written(*address),
                !terminating
            );
        }
    }
}

impl Cluster {
    /// A cluster of these nodes, without Services; its ClusterIPs lie in 10.96.0.0/16.
    #[must_use]
    pub fn new<'a>(lab: &Lab, nodes: impl IntoIterator<Item = &'a Node>) -> Cluster {
        Cluster::of_families(lab, nodes, false)
    }

    /// The same with IPv6 beside IPv4.
    #[must_use]
    pub fn with_both<'a>(lab: &Lab, nodes: impl IntoIterator<Item = &'a Node>) -> Cluster {
        Cluster::of_families(lab, nodes, true)
    }

    fn of_families<'a>(lab: &Lab, nodes: impl IntoIterator<Item = &'a Node>, both: bool) -> Cluster {
        let directory = lab.directory().join("cluster");
        fs::create_dir_all(&directory).expect("the lab's directory can be written");
        let mut text = "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata:\n  name: kubernetes\nspec:\n  \
                        cidrs: [10.96.0.0/16]\n"
            .to_owned();
        if both {
            text = text.replace("[10.96.0.0/16]", "[10.96.0.0/16, '2001:db8:96::/48']");
        }
        for node in nodes {
            let _ = write!(
                text,
                "---\napiVersion: v1\nkind: Node\nmetadata:\n  name: {}\nspec:\n  podCIDR: {cidr}\n  podCIDRs: [{cidr}{}]\n\
                 status:\n  addresses:\n    - {{type: InternalIP, address: {}}}\n",
                node.name(),
                if both { format!(", '{}'", dual::pod_cidr(node)) } else { String::new() },
                node.address(),
                cidr = node.pod_cidr()
            );
            if both {
                let _ = writeln!(text, "    - {{type: InternalIP, address: '{}'}}", v6(node.address()));
            }
        }
        let cluster = Cluster { directory };
        cluster.write("nodes.yaml", &text);
        cluster
    }

    /// Writes a Service and its slice, in place of what it was before.
    pub fn apply(&self, service: &Service) {
        self.write(&format!("{}.yaml", service.name), &service.yaml());
    }

    /// Writes a file, whole or not at all: who watches never reads half of it.
    pub fn write(&self, file: &str, text: &str) {
        // A name that is no YAML's, so that it is not read before it has its own.
        let temporary = self.directory.join(format!(".{file}.new"));
        fs::write(&temporary, text).expect("the lab's directory can be written");
        fs::rename(&temporary, self.directory.join(file)).expect("a file can be renamed in its directory");
    }

    /// Removes a file.
    pub fn remove(&self, file: &str) {
        fs::remove_file(self.directory.join(file)).expect("the file was written before");
    }

    /// Where the objects are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_what_levee_itself_reads_without_complaint() {
        let service = Service {
            vip: Some(Ipv4Addr::new(192, 0, 2, 250)),
            node_port: Some(30080),
            mode: Some(Mode::Dnat),
            local: true,
            affinity: Some(60),
            both: true,
            endpoints: [(2, State::Ready), (3, State::Terminating)]
                .map(|(last, state)| Endpoint {
                    address: Ipv4Addr::new(10, 244, 1, last),
                    node: "node-1".into(),
                    state,
                })
                .to_vec(),
            ..Service::new("web", Ipv4Addr::new(10, 96, 0, 10))
        };
        let directory = std::env::temp_dir().join(format!("levee-cluster-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a temporary directory can be written");
        let cluster = Cluster { directory };
        cluster.apply(&service);
        cluster.apply(&Service::new("empty", Ipv4Addr::new(10, 96, 0, 11)));
        let read = levee_control::offline::load(&[cluster.directory()]);
        fs::remove_dir_all(cluster.directory()).expect("it is ours");
        let read = read.unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
        assert_eq!(read.services().count(), 2);
    }
}
