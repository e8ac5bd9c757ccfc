//! The pods of this node.

use std::collections::BTreeSet;
use std::net::IpAddr;

use levee_api::program::{Local, Pod};

use super::{Role, View};
use crate::model::Node;
use crate::notice::Notice;

/// Prefixes of the node's pods, and each pod that is known to be `here` but lies outside of them. MACs are left to the
/// dataplane, which asks the kernel.
pub(super) fn local<'a>(view: &View, node: Option<&Node>, here: impl Iterator<Item = &'a IpAddr>) -> Local {
    if view.role == Role::Balancer {
        return Local::default();
    }
    let pod_cidrs = node.map(|node| &node.pod_cidrs);
    // An endpoint on the host's network has the node's own address, which is the kernel's.
    let is_the_nodes = |address: &IpAddr| node.is_some_and(|node| node.addresses.contains(address));
    let is_inside = |address: &IpAddr| pod_cidrs.is_some_and(|cidrs| cidrs.iter().any(|cidr| cidr.contains(address)));
    let outside: BTreeSet<IpAddr> =
        here.filter(|address| !is_the_nodes(address) && !is_inside(address)).copied().collect();
    Local {
        prefixes: pod_cidrs.into_iter().flatten().copied().collect(),
        pods: outside.into_iter().map(|address| Pod { address, mac: None }).collect(),
    }
}

/// What is missing, where the objects have no Node of ours.
pub(super) fn notice(view: &View, node: Option<&Node>) -> Option<Notice> {
    let message = "there is no such Node among the objects, so its pods' prefixes and its node ports are not known";
    (view.role == Role::Node && node.is_none()).then(|| Notice::new(format!("Node {}", view.node), message))
}
