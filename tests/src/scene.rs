//! A fabric of nodes with levee on each, ready for traffic: what most tests begin with.

use std::net::Ipv4Addr;

use levee_api::program::{Local, Program};

use crate::dual;
use crate::fabric::Fabric;
use crate::lab::Lab;
use crate::levee::{Dataplane, Ports, Take};
use crate::node::{Host, Node, Uplink};

/// Dropped from the top: first the daemons, then what they run on.
pub struct Scene {
    /// The dataplane of each node, in their order.
    pub dataplanes: Vec<Dataplane>,
    /// The nodes, from 1.
    pub nodes: Vec<Node>,
    /// What connects them.
    pub fabric: Fabric,
    /// What owns them.
    pub lab: Lab,
}

impl Scene {
    /// One node with levee for each number of pods, knowing nothing but its own pods' prefix; or `None` where there can be
    /// no lab.
    #[must_use]
    pub fn start(pods: &[u8], take: Take) -> Option<Scene> {
        let mut scene = Scene::without_levee(pods)?;
        scene.start_levee(take);
        for (node, dataplane) in scene.nodes.iter().zip(&scene.dataplanes) {
            dataplane.program(&Program { generation: 1, local: local(node), ..Program::default() });
        }
        scene.wait_for_each_other();
        Some(scene)
    }

    /// The same with IPv6 beside IPv4.
    #[must_use]
    pub fn start_with_both(pods: &[u8], take: Take) -> Option<Scene> {
        let mut scene = Scene::without_levee(pods)?;
        let all: Vec<&Node> = scene.nodes.iter().collect();
        for node in &scene.nodes {
            dual::add_to_node(node, &all);
        }
        scene.start_levee(take);
        for (node, dataplane) in scene.nodes.iter().zip(&scene.dataplanes) {
            dataplane.program(&Program { generation: 1, local: dual::local_of_both(node), ..Program::default() });
        }
        scene.wait_for_each_other();
        for (node, dataplane) in scene.nodes.iter().zip(&scene.dataplanes) {
            let others = scene.nodes.iter().map(Node::address).filter(|address| *address != node.address());
            dataplane.wait_for_neighbours(&others.map(dual::v6).collect::<Vec<_>>());
        }
        Some(scene)
    }

    /// The same before levee's daemons are started, wired for them.
    #[must_use]
    pub fn without_levee(pods: &[u8]) -> Option<Scene> {
        let lab = Lab::start()?;
        let fabric = Fabric::new(&lab);
        let mut nodes: Vec<_> = (1u8..).zip(pods).map(|(index, pods)| Node::new(&lab, &fabric, index, *pods)).collect();
        let routes = routes(&nodes);
        for node in &mut nodes {
            node.connect(Uplink::Levee, &routes);
        }
        Some(Scene { dataplanes: Vec::new(), nodes, fabric, lab })
    }

    /// Starts a dataplane on each node.
    pub fn start_levee(&mut self, take: Take) {
        self.dataplanes = self.nodes.iter().map(|node| Dataplane::start(node.namespace(), Ports::Node(take))).collect();
    }

    /// Waits until each node knows the MACs of those to which its routes lead.
    pub fn wait_for_each_other(&self) {
        for (node, dataplane) in self.nodes.iter().zip(&self.dataplanes) {
            let others = self.nodes.iter().map(Node::address).filter(|address| *address != node.address());
            dataplane.wait_for_neighbours(&others.collect::<Vec<_>>());
        }
    }

    /// What leads to the pods of each node.
    #[must_use]
    pub fn routes(&self) -> Vec<(Ipv4Addr, String)> {
        routes(&self.nodes)
    }

    /// A host on the fabric that knows its way to the pods.
    #[must_use]
    pub fn host(&self, name: &str, number: u8) -> Host {
        let host = Host::new(&self.lab, &self.fabric, name, number);
        host.route_to_pods(&self.routes());
        host
    }
}

/// What leads to the pods of each of these nodes.
#[must_use]
pub fn routes(nodes: &[Node]) -> Vec<(Ipv4Addr, String)> {
    nodes.iter().map(|node| (node.address(), node.pod_cidr())).collect()
}

/// The part of a program that says which pods are here.
#[must_use]
pub fn local(node: &Node) -> Local {
    Local { prefixes: vec![node.pod_cidr().parse().expect("a node's prefix is one")], pods: Vec::new() }
}
