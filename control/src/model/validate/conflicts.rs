//! Services against each other: who claims what another has already.
//!
//! Of two that claim one thing, the first by namespace and name keeps it; both are named.

use std::collections::BTreeMap;
use std::net::IpAddr;

use levee_api::net::Protocol;

use super::{About, Report, service};
use crate::model::{Node, Object, ObjectName, Place, Service, Sourced};

/// What only one Service can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    Address(IpAddr, u16, Protocol),
    NodePort(u16, Protocol),
}

impl std::fmt::Display for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Claim::Address(address, port, protocol) => write!(f, "address {address} with {protocol} port {port}"),
            Claim::NodePort(port, protocol) => write!(f, "{protocol} node port {port}"),
        }
    }
}

impl Service {
    fn claims(&self) -> impl Iterator<Item = Claim> {
        self.ports.iter().flat_map(|port| {
            let addresses = self.cluster_ips.values().chain(&self.load_balancer_ips);
            let vips = addresses.map(|address| Claim::Address(*address, port.port.get(), port.protocol));
            vips.chain(port.node_port.map(|node_port| Claim::NodePort(node_port.get(), port.protocol)))
        })
    }
}

/// The Services that are in nobody's way.
pub(super) fn services(
    candidates: BTreeMap<ObjectName, (Service, &Sourced)>,
    nodes: &BTreeMap<String, Node>,
    report: &mut Report,
) -> BTreeMap<ObjectName, Service> {
    let owners: BTreeMap<IpAddr, &str> = nodes
        .iter()
        .flat_map(|(name, node)| node.addresses.iter().map(move |address| (*address, name.as_str())))
        .collect();
    let mut claimed: BTreeMap<Claim, &Sourced> = BTreeMap::new();
    let mut services = BTreeMap::new();
    for (name, (mut service, sourced)) in candidates {
        let mut about = report.about(sourced);
        // Some balancers report the nodes' addresses as the Service's (k3s does). Taking such an address whole would cut
        // the node off, so it is never a VIP; but the Service is not wrong.
        service.load_balancer_ips.retain(|address| match owners.get(address) {
            Some(node) => {
                about.notice(format!("{address} is an address of Node {node}, so it is not served as a VIP"));
                false
            }
            None => true,
        });
        if is_in_the_way(&service, nodes, &owners, &mut about) {
            continue;
        }
        if let Some((claim, other)) = service.claims().find_map(|claim| Some((claim, *claimed.get(&claim)?))) {
            let (place, help) = match claim {
                Claim::Address(address, ..) => {
                    (place(sourced, address), "give one of the two another address or another port")
                }
                Claim::NodePort(..) => (None, "give one of the two another `nodePort`"),
            };
            about.refuse_with(
                place,
                format!("it claims {claim}, which {} has already ({})", other.key(), other.place()),
                help,
            );
            continue;
        }
        for claim in service.claims() {
            claimed.insert(claim, sourced);
        }
        services.insert(name, service);
    }
    services
}

/// Whether a VIP of the Service is an address of a node or could be one of its pods'.
fn is_in_the_way(
    service: &Service,
    nodes: &BTreeMap<String, Node>,
    owners: &BTreeMap<IpAddr, &str>,
    about: &mut About<'_, '_>,
) -> bool {
    for address in service.cluster_ips.values().chain(&service.load_balancer_ips) {
        let place = place(about.sourced, *address);
        if let Some(node) = owners.get(address) {
            about.refuse_with(
                place,
                format!("its address {address} is an address of Node {node}"),
                "levee takes a Service's address whole, which would cut the node off: give the Service another one",
            );
            return true;
        }
        let pods = nodes.iter().find_map(|(name, node)| {
            node.pod_cidrs.iter().find(|cidr| cidr.contains(address)).map(|cidr| (name, cidr))
        });
        if let Some((node, cidr)) = pods {
            about.refuse_with(
                place,
                format!("its address {address} is among the pods of Node {node} ({cidr})"),
                "give it an address outside of every `podCIDR`",
            );
            return true;
        }
    }
    false
}

fn place(sourced: &Sourced, address: IpAddr) -> Option<Place> {
    match &sourced.object {
        Object::Service(object) => service::place_of(object, address),
        _ => None,
    }
}
