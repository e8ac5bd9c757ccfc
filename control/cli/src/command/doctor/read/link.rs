//! Interfaces, by rtnetlink, ethtool and `/sys/class/net`.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;

use af_xdp::ethtool::{self, Feature};
use futures_util::StreamExt as _;
use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, XdpAttached,
};
use netlink_packet_route::route::RouteAttribute;
use rtnetlink::{Handle, RouteMessageBuilder};

use super::proc::{number, word};
use crate::command::doctor::facts::{Attached, Bridge, Interface};

pub(super) fn interfaces() -> io::Result<Vec<Interface>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (connection, ask, _) = rtnetlink::new_connection()?;
        let connection = tokio::spawn(connection);
        let gateways = default_routes(&ask).await?;
        let mut interfaces = Vec::new();
        let mut links = ask.link().get().execute();
        while let Some(link) = links.next().await {
            let mut interface = of_link(&link.map_err(io::Error::other)?);
            interface.default_route = gateways.contains(&interface.index);
            complete(&mut interface);
            interfaces.push(interface);
        }
        connection.abort();
        for known in levee_dataplane::neighbours::interfaces(|_| 0).await? {
            if let Some(interface) = interfaces.iter_mut().find(|interface| interface.index == known.index) {
                interface.addresses = known.addresses;
            }
        }
        Ok(interfaces)
    })
}

/// Interfaces that a default route of IPv4 leads to.
async fn default_routes(ask: &Handle) -> io::Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    let mut routes = ask.route().get(RouteMessageBuilder::<std::net::Ipv4Addr>::new().build()).execute();
    while let Some(route) = routes.next().await {
        let route = route.map_err(io::Error::other)?;
        if route.header.destination_prefix_length == 0 {
            found.extend(route.attributes.iter().filter_map(|attribute| match attribute {
                RouteAttribute::Oif(index) => Some(*index),
                _ => None,
            }));
        }
    }
    Ok(found)
}

fn of_link(link: &LinkMessage) -> Interface {
    let mut interface = Interface {
        index: link.header.index,
        ethernet: link.header.link_layer_type == LinkLayerType::Ether,
        up: link.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        ..Interface::default()
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name = name.clone(),
            LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
            LinkAttribute::Controller(master) => interface.master = Some(*master),
            // A veth's other end; of another namespace, if that is said too.
            LinkAttribute::Link(peer) => interface.peer = Some(*peer),
            LinkAttribute::LinkInfo(infos) => {
                interface.kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(name_of(kind)),
                    _ => None,
                });
            }
            LinkAttribute::Xdp(xdp) => interface.xdp = attached(xdp),
            _ => {}
        }
    }
    let elsewhere = link.attributes.iter().any(|attribute| matches!(attribute, LinkAttribute::LinkNetNsId(_)));
    if elsewhere || interface.kind.as_deref() != Some("veth") {
        interface.peer = None;
    }
    interface
}

fn name_of(kind: &InfoKind) -> String {
    kind.to_string()
}

fn attached(xdp: &[LinkXdp]) -> Option<Attached> {
    let mode = xdp.iter().find_map(|entry| match entry {
        LinkXdp::Attached(XdpAttached::Driver) => Some("native"),
        LinkXdp::Attached(XdpAttached::SocketBuffer) => Some("skb"),
        LinkXdp::Attached(XdpAttached::Hardware) => Some("hardware"),
        LinkXdp::Attached(XdpAttached::Multiple) => Some("multiple"),
        _ => None,
    })?;
    let program = xdp.iter().find_map(|entry| match entry {
        LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) | LinkXdp::HwProgId(id) => Some(*id),
        _ => None,
    });
    Some(Attached { mode: mode.to_owned(), program: program.unwrap_or_default() })
}

/// What netlink does not say.
fn complete(interface: &mut Interface) {
    let name = &interface.name;
    let at = PathBuf::from("/sys/class/net").join(name);
    interface.driver = ethtool::driver(name).ok().filter(|driver| !driver.is_empty());
    interface.queues = af_xdp::interface::queues(name).unwrap_or_default();
    interface.lro = ethtool::large_receive_offload(name).ok();
    interface.gro = ethtool::feature(name, Feature::GenericReceiveOffload).ok();
    interface.tx_checksum = ethtool::feature(name, Feature::TransmitChecksum).ok();
    // -1 where there is but one.
    interface.numa = number::<i64>(at.join("device/numa_node")).and_then(|node| u32::try_from(node).ok());
    interface.deferred_interrupts = number(at.join("napi_defer_hard_irqs"));
    interface.flush_timeout = number(at.join("gro_flush_timeout"));
    let lines = fs::read_dir(at.join("device/msi_irqs")).into_iter().flatten().flatten();
    interface.interrupts = lines.filter_map(|line| line.file_name().to_str()?.parse().ok()).collect();
    interface.interrupts.sort_unstable();
    let on = |file: &str| word(at.join("bridge").join(file)).is_some_and(|value| value != "0");
    interface.bridge =
        at.join("bridge").is_dir().then(|| Bridge { stp: on("stp_state"), vlan_filtering: on("vlan_filtering") });
}
