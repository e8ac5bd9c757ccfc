//! One Node, or one Pod, by itself.

use super::{About, flannel, unfit};
use crate::model::external::{self, Prefix, address};
use crate::model::{Node, Placed, Pod};

/// The zone that topology hints speak of (rule 23).
const ZONE: &str = "topology.kubernetes.io/zone";

/// Who has it is not to be sent traffic from outside (Kubernetes' well-known labels).
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

pub(super) fn validate(object: &external::Node, about: &mut About<'_, '_>) -> Option<Node> {
    let pod_cidrs = || object.spec.pod_cidr.iter().chain(&object.spec.pod_cidrs);
    // Every address inside is taken for a pod of this node.
    if let Some(Placed { place, value: Prefix(cidr) }) = pod_cidrs().find(|cidr| cidr.value.0.prefix_len() == 0) {
        about.refuse(*place, format!("its pods' prefix `{cidr}` is the whole world"));
        return None;
    }
    let mut node = Node {
        pod_cidrs: pod_cidrs().map(|cidr| cidr.value.0).collect(),
        zone: object.metadata.labels.get(ZONE).cloned().filter(|zone| !zone.is_empty()),
        excluded: object.metadata.labels.contains_key(EXCLUDED),
        overlay: flannel::overlay(&object.metadata),
        ..Node::default()
    };
    for listed in &object.status.addresses {
        let internal = listed.kind == "InternalIP";
        if !internal && listed.kind != "ExternalIP" {
            continue;
        }
        match address(&listed.address.value) {
            Ok(address) => {
                node.addresses.insert(address);
                if internal {
                    node.internal_ips.insert(address);
                }
            }
            Err(error) => {
                about.refuse(listed.address.place, error);
                return None;
            }
        }
    }
    Some(node)
}

/// The pod, if it holds addresses of its own: it is on a node, not on the node's own network, and has not ended.
pub(super) fn validate_pod(object: &external::Pod, about: &mut About<'_, '_>) -> Option<Pod> {
    let ended = matches!(object.status.phase.as_deref(), Some("Succeeded" | "Failed"));
    if ended || object.spec.host_network == Some(true) {
        return None;
    }
    let node = object.spec.node_name.clone().filter(|node| !node.is_empty())?;
    let listed = || object.status.pod_ip.iter().chain(object.status.pod_ips.iter().map(|pod_ip| &pod_ip.ip));
    for ip in listed() {
        if let Some(what) = unfit(ip.value.0) {
            about.refuse(ip.place, format!("`{}` is {what} and cannot be a pod's", ip.value.0));
            return None;
        }
    }
    Some(Pod { node, addresses: listed().map(|ip| ip.value.0).collect() })
}
