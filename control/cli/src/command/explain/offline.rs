//! A dataplane's tables as they would be, were these objects its cluster.
//!
//! What the kernel of a real node would add is stood in for by the least that decides nothing: one uplink that leads
//! everywhere, one port for pods, next hops that are still to be resolved (a packet waits for those, and is forwarded), and
//! the node's own addresses as its Node object has them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use levee_api::diagnostic::Diagnostic;
use levee_api::explain::{Explanation, Question};
use levee_api::net::{Mac, PortRange};
use levee_control::compile::{self, View};
use levee_control::model::ValidatedCluster;
use levee_control::notice::Notice;
use levee_control::offline;
use levee_dataplane::tables::master::{Master, Refusal, Setup};
use levee_dataplane::tables::snat::{INWARD, SnatRange};
use levee_dataplane::tables::{Port, Tables};
use levee_dataplane::verdict::PortId;

use crate::failure::Failure;

/// As the dataplane's configuration has it by default.
const SNAT_PORTS: PortRange = PortRange { first: 61000, last: 65535 };

/// The IPv4 dummy address (RFC 7600, section 4.8) and one of the IPv6 discard prefix (RFC 6666): the sources of translated flows on
/// a dataplane whose own addresses are not known. No answer shows them.
const NOBODY: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 0, 8)), IpAddr::V6(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1))];

/// Answers a question as the dataplane of a view would.
pub(super) fn explain(cluster: &[PathBuf], view: &View, question: &Question) -> Result<Explanation, Failure> {
    let cluster = offline::load(cluster).map_err(Failure::Input)?;
    let (tables, notices) = tables(&cluster, view)?;
    // What the objects have wrong by themselves is the business of `levee check`; a node that is not there changes every answer.
    for notice in notices.iter().filter(|notice| notice.object == format!("Node {}", view.node)) {
        eprintln!("note: {notice}");
    }
    levee_dataplane::explain::explain(&tables, question).map_err(|error| Failure::argument("--packet", error))
}

fn tables(cluster: &ValidatedCluster, view: &View) -> Result<(Tables, Vec<Notice>), Failure> {
    let (program, notices) = offline::compile(cluster, view);
    let node = cluster.node(&view.node);
    let own = NOBODY.map(|nobody| {
        let mut internal = node.into_iter().flat_map(|node| &node.internal_ips);
        internal.find(|address| address.is_ipv4() == nobody.is_ipv4()).copied().unwrap_or(nobody)
    });
    let port = |name: &str, role, last| Port {
        name: name.into(),
        role,
        mac: Mac([2, 0, 0, 0, 0, last]),
        passes: true,
        mtu: 1500,
    };
    let uplink = port("uplink", levee_api::net::Role::Uplink, 1);
    let mut ports = vec![uplink];
    if view.role == compile::Role::Node {
        ports.push(port("pods", levee_api::net::Role::Pods, 2));
        ports.push(port("host", levee_api::net::Role::Host, 3));
    }
    let mut master = Master::new(Setup {
        ports,
        snat: own.map(|address| SnatRange { address: address.into(), ports: SNAT_PORTS }).into(),
        host_snat: if view.role == compile::Role::Node { INWARD.to_vec() } else { Vec::new() },
        tunnel_ends: own.map(Into::into).into(),
        multicast: Vec::new(),
        gateways: Vec::new(),
        mss_clamp: 0,
        workers: 1,
    });
    master.load(program).map_err(|refusal| match refusal {
        Refusal::Invalid(reasons) => {
            let refused = |reason| Diagnostic::new("--cluster", reason).help("no dataplane would take this program");
            Failure::Input(reasons.into_iter().map(refused).collect())
        }
        Refusal::Stale { generation } => {
            Failure::argument("--cluster", format!("generation {generation} is programmed"))
        }
    })?;
    if let Some(node) = node {
        master.set_kernel_addresses(node.addresses.iter().copied());
    }
    let everywhere = [
        IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
    ];
    master.set_routes(everywhere.map(|net| (net, PortId(0), None)));
    Ok((master.snapshot(), notices))
}
