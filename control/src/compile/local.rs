//! The pods of this node.

use std::collections::BTreeSet;
use std::net::IpAddr;

use levee_api::program::{Local, Pod};

use super::{Role, View};
use crate::model::ValidatedCluster;
use crate::notice::Notice;

/// Prefixes of the node's pods, and each pod that is known to be here but lies outside of them. MACs are left to the
/// dataplane, which asks the kernel.
pub(super) fn local(cluster: &ValidatedCluster, view: &View, notices: &mut Vec<Notice>) -> Local {
    if view.role == Role::Balancer {
        return Local::default();
    }
    let node = cluster.node(&view.node);
    if node.is_none() {
        notices.push(Notice::new(
            format!("Node {}", view.node),
            "there is no such Node among the objects, so its pods' prefixes and its node ports are not known",
        ));
    }
    let pod_cidrs = node.map(|node| &node.pod_cidrs);
    let of_pods = cluster.pods().filter(|(_, pod)| pod.node == view.node).flat_map(|(_, pod)| &pod.addresses);
    // Pods need not be among the objects; endpoints that are here say as much about those that serve something.
    let of_endpoints = cluster
        .all_slices()
        .flat_map(|slice| &slice.endpoints)
        .filter(|endpoint| endpoint.node.as_deref() == Some(view.node.as_str()))
        .map(|endpoint| &endpoint.address);
    // An endpoint on the host's network has the node's own address, which is the kernel's.
    let is_the_nodes = |address: &IpAddr| node.is_some_and(|node| node.addresses.contains(address));
    let is_inside = |address: &IpAddr| pod_cidrs.is_some_and(|cidrs| cidrs.iter().any(|cidr| cidr.contains(address)));
    let outside: BTreeSet<IpAddr> =
        of_pods.chain(of_endpoints).filter(|address| !is_the_nodes(address) && !is_inside(address)).copied().collect();
    Local {
        prefixes: pod_cidrs.into_iter().flatten().copied().collect(),
        pods: outside.into_iter().map(|address| Pod { address, mac: None }).collect(),
    }
}
