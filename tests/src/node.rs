//! Stations: nodes with pods, and hosts with one wire.
//!
//! ```text
//!  before levee (Uplink::Bridged)              with levee (Uplink::Levee)
//!
//!  pod ─┐                                      pod ─┐
//!  pod ─┴─ br-ex ── eth0 ═══ fabric            pod ─┴─ br-ex ── levee1 ══ levee0 [levee] eth0 ═══ fabric
//!            │       └ ebtables: source                                              │
//!         node's IP    MAC := node's                                             node's IP (the kernel's)
//! ```
//!
//! Node *i* is 192.0.2.*i* with pods in 10.244.*i*.0/24, out of a pod network 10.244.0.0/16 that every pod believes to be
//! on its own link: pods ask for each other by ARP. Everything else they send to 169.254.1.1, which no machine has.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use levee_api::net::Mac;

use crate::fabric::{Fabric, Wire, finish_checksums};
use crate::lab::Lab;
use crate::namespace::Namespace;

/// What the node's bridge does to ARP that pods send through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArpPayload {
    /// Nothing: the Ethernet source becomes the node's, the sender inside ARP stays the pod's. This is the flood.
    Left,
    /// It is rewritten too (`--snat-arp`), and what comes in is rewritten to each pod: the control of the experiment.
    Rewritten,
}

/// How a node's pods reach the fabric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uplink {
    /// `eth0` is not connected to anything.
    Apart,
    /// `eth0` is a port of `br-ex`, with a rule that rewrites source MACs.
    Bridged(ArpPayload),
    /// `eth0` is levee's uplink and keeps the node's address; `levee0` is levee's port towards `br-ex`.
    Levee,
}

/// A cluster node.
pub struct Node {
    index: u8,
    namespace: Namespace,
    wire: Wire,
    pods: Vec<Pod>,
    uplink: Uplink,
}

/// A pod of a node, in a namespace of its own; its interface is `eth0`.
#[derive(Clone)]
pub struct Pod {
    /// As it was named.
    pub name: String,
    /// Its address, out of its node's prefix.
    pub address: Ipv4Addr,
    /// Its MAC.
    pub mac: Mac,
    /// Where it runs.
    pub namespace: Namespace,
}

/// A station with one wire, `eth0`.
pub struct Host {
    /// Its address.
    pub address: Ipv4Addr,
    /// Where it is.
    pub namespace: Namespace,
    /// How it is connected.
    pub wire: Wire,
}

/// The interface of levee that serves the pods' bridge, and the bridge's end of the pair.
const PODS_PORT: (&str, &str) = ("levee0", "levee1");

impl Node {
    /// Node `index` (1 to 199) with `pods` pods, called `<index>-<number>`. Its uplink is apart.
    #[must_use]
    pub fn new(lab: &Lab, fabric: &Fabric, index: u8, pods: u8) -> Node {
        assert!((1..200).contains(&index), "nodes are numbered 1 to 199, not {index}");
        let name = format!("node-{index}");
        let namespace = lab.namespace(&name);
        let wire = fabric.plug(&namespace, "eth0", Mac([2, b'n', b'o', b'd', 0, index]), &name);
        namespace.ip_batch(
            "link add br-ex type bridge stp_state 0 forward_delay 0 mcast_snooping 0
             link set br-ex up",
        );
        // A node forwards: that is what it does for its pods beside levee, and when levee is gone.
        namespace.sysctl("net.ipv4.ip_forward", "1");
        // Between two stations of one link it does so without telling them to talk directly.
        namespace.sysctl("net.ipv4.conf.all.send_redirects", "0");
        namespace.sysctl("net.ipv4.conf.default.send_redirects", "0");
        let mut node = Node { index, namespace, wire, pods: Vec::new(), uplink: Uplink::Apart };
        node.pods = (1..=pods).map(|number| node.make_pod(lab, number)).collect();
        node
    }

    fn make_pod(&self, lab: &Lab, number: u8) -> Pod {
        let name = format!("pod-{}-{number}", self.index);
        let namespace = lab.namespace(&name);
        // .1 is left free: it is where many networks have a gateway.
        let address = Ipv4Addr::new(10, 244, self.index, number + 1);
        let mac = Mac([2, b'p', b'o', b'd', self.index, number]);
        self.namespace.ip_batch(&format!(
            "link add pod{number} type veth peer name eth0 address {mac} netns {}
             link set pod{number} master br-ex up",
            namespace.name()
        ));
        namespace.ip_batch(&format!(
            "addr add {address}/16 dev eth0
             link set eth0 up
             route add default via 169.254.1.1 dev eth0 onlink"
        ));
        Pod { name, address, mac, namespace }
    }

    /// Number of the node.
    #[must_use]
    pub fn index(&self) -> u8 {
        self.index
    }

    /// Name of the node in cluster objects: `node-<index>`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("node-{}", self.index)
    }

    /// The node's own address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, self.index)
    }

    /// Where its pods' addresses come from, as text.
    #[must_use]
    pub fn pod_cidr(&self) -> String {
        format!("10.244.{}.0/24", self.index)
    }

    /// Its pods.
    #[must_use]
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// Where it is.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// How its pods reach the fabric.
    #[must_use]
    pub fn uplink(&self) -> Uplink {
        self.uplink
    }

    /// How it is connected to the fabric.
    #[must_use]
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Connects the node, in place of how it was connected before. Pods forget their neighbours, since those have moved.
    ///
    /// `others` are the nodes to whose pods a CNI would install routes; only [`Uplink::Levee`] needs them.
    pub fn connect(&mut self, uplink: Uplink, others: &[(Ipv4Addr, String)]) {
        self.disconnect();
        let address = self.address();
        match uplink {
            Uplink::Apart => {}
            Uplink::Bridged(arp) => {
                let mac = self.wire.mac;
                self.namespace.ip_batch(&format!(
                    "link set eth0 master br-ex
                     link set br-ex address {mac}
                     addr add {address}/24 dev br-ex"
                ));
                let also = if arp == ArpPayload::Rewritten { "--snat-arp" } else { "" };
                self.namespace.run(&format!("ebtables -t nat -A POSTROUTING -o eth0 -j snat --to-source {mac} {also}"));
                if arp == ArpPayload::Rewritten {
                    self.translate_to_pods();
                }
            }
            Uplink::Levee => {
                let (levee, bridge) = PODS_PORT;
                let mut lines = format!(
                    "link add {levee} type veth peer name {bridge}
                     link set {bridge} master br-ex up
                     link set {levee} up
                     addr add {address}/24 dev eth0
                     route add {} dev br-ex\n",
                    self.pod_cidr()
                );
                for (gateway, prefix) in others.iter().filter(|(gateway, _)| *gateway != address) {
                    let _ = writeln!(lines, "route add {prefix} via {gateway} dev eth0");
                }
                self.namespace.ip_batch(&lines);
                finish_checksums(&self.namespace, bridge);
                self.namespace.run(&format!("ethtool -K {bridge} gro on"));
            }
        }
        for pod in &self.pods {
            pod.namespace.ip("neigh flush all");
        }
        self.uplink = uplink;
    }

    /// Peers send to the node's MAC: has the bridge told whose each frame is.
    fn translate_to_pods(&self) {
        for Pod { address, mac, .. } in &self.pods {
            for which in [format!("IPv4 --ip-dst {address}"), format!("ARP --arp-ip-dst {address}")] {
                let rule = format!("PREROUTING -i eth0 -p {which} -j dnat --to-destination {mac}");
                self.namespace.run(&format!("ebtables -t nat -A {rule}"));
            }
        }
    }

    fn disconnect(&mut self) {
        let address = self.address();
        match self.uplink {
            Uplink::Apart => {}
            Uplink::Bridged(_) => {
                self.namespace.run("ebtables -t nat -F");
                self.namespace.ip_batch(&format!(
                    "addr del {address}/24 dev br-ex
                     link set eth0 nomaster"
                ));
            }
            Uplink::Levee => {
                // Routes go with the address, and the pair goes with one of its ends.
                self.namespace.ip_batch(&format!(
                    "link del {}
                     route del {} dev br-ex
                     addr del {address}/24 dev eth0",
                    PODS_PORT.0,
                    self.pod_cidr()
                ));
            }
        }
        self.uplink = Uplink::Apart;
    }
}

impl Host {
    /// A station at 192.0.2.`number` (200 to 239 are free for them; VIPs of the tests lie above).
    #[must_use]
    pub fn new(lab: &Lab, fabric: &Fabric, name: &str, number: u8) -> Host {
        Host::with_queues(lab, fabric, name, number, 1)
    }

    /// The same with several queues on its interface.
    #[must_use]
    pub fn with_queues(lab: &Lab, fabric: &Fabric, name: &str, number: u8, queues: u8) -> Host {
        assert!((200..240).contains(&number), "hosts are numbered 200 to 239, not {number}");
        let namespace = lab.namespace(name);
        let address = Ipv4Addr::new(192, 0, 2, number);
        let mac = Mac([2, b'h', b'o', b's', b't', number]);
        let wire = fabric.plug_with_queues(&namespace, "eth0", mac, name, queues);
        namespace.ip(&format!("addr add {address}/24 dev eth0"));
        Host { address, namespace, wire }
    }

    /// Installs routes to pods' prefixes, as a CNI or a fabric's router would.
    pub fn route_to_pods(&self, nodes: &[(Ipv4Addr, String)]) {
        let mut lines = String::new();
        for (gateway, prefix) in nodes {
            let _ = writeln!(lines, "route add {prefix} via {gateway} dev eth0");
        }
        self.namespace.ip_batch(&lines);
    }
}
