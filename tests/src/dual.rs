//! IPv6 beside IPv4: every station of a lab gets a second address, with the numbers of its first.
//!
//! | station | IPv4 | IPv6 |
//! |---|---|---|
//! | node *i* | 192.0.2.*i* | 2001:db8::*i* |
//! | pod *n* of node *i* | 10.244.*i*.*n* | 2001:db8:244:*i*::*n* |
//! | host *n* | 192.0.2.*n* | 2001:db8::*n* |
//! | client, backend of a [`Path`](crate::path::Path) | 198.51.100.2, 203.0.113.2 | 2001:db8:198::2, 2001:db8:203::2 |
//! | gateway of every pod | 169.254.1.1 | 2001:db8:169::1, which no machine has |
//!
//! Decimal digits stand for themselves. Addresses are there at once, and nobody asks for routers: what is heard on a wire was
//! caused by the test.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use levee_api::net::Family;
use levee_api::program::Local;

use crate::namespace::Namespace;
use crate::node::{Host, Node, Uplink};
use crate::scene::local;

/// What every pod believes to be on its own link.
const POD_NETWORK: u8 = 48;
/// The part of it that is one node's.
const NODE_PREFIX: u8 = 64;

/// The IPv6 address that goes with an IPv4 address of the lab.
///
/// # Panics
/// If it is not one of the lab's.
#[must_use]
pub fn v6(address: Ipv4Addr) -> Ipv6Addr {
    let text = match address.octets() {
        [192, 0, 2, number] => format!("2001:db8::{number}"),
        [10, 244, node, number] => format!("2001:db8:244:{node}::{number}"),
        [10, 96, high, low] => format!("2001:db8:96:{high}::{low}"),
        [198, 51, 100, number] => format!("2001:db8:198::{number}"),
        [203, 0, 113, number] => format!("2001:db8:203::{number}"),
        _ => panic!("{address} is no address of the lab"),
    };
    text.parse().expect("decimal digits are hexadecimal ones")
}

/// The address of a family that goes with an IPv4 address of the lab.
///
/// # Panics
/// If it is not one of the lab's, as [`v6`] does.
#[must_use]
pub fn of(family: Family, address: Ipv4Addr) -> IpAddr {
    match family {
        Family::Ipv4 => address.into(),
        Family::Ipv6 => v6(address).into(),
    }
}

/// Where the IPv6 addresses of a node's pods come from.
#[must_use]
pub fn pod_cidr(node: &Node) -> String {
    format!("2001:db8:244:{}::/{NODE_PREFIX}", node.index())
}

/// The part of a program that says which pods are here, in both families.
#[must_use]
pub fn local_of_both(node: &Node) -> Local {
    let mut both = local(node);
    both.prefixes.push(pod_cidr(node).parse().expect("a node's prefix is one"));
    both
}

/// Switches IPv6 on, on one interface. Its link-local address comes by itself.
pub fn enable(namespace: &Namespace, interface: &str) {
    for (key, value) in [
        ("accept_ra", "0"),
        ("router_solicitations", "0"),
        ("accept_dad", "0"),
        ("dad_transmits", "0"),
        ("disable_ipv6", "0"),
    ] {
        namespace.sysctl(&format!("net.ipv6.conf.{interface}.{key}"), value);
    }
}

/// Gives a node and its pods IPv6, as it is connected now. `others` are the nodes to whose pods a CNI would install routes.
pub fn add_to_node(node: &Node, others: &[&Node]) {
    let namespace = node.namespace();
    enable(namespace, "lo");
    let address = v6(node.address());
    // It may have had IPv6 as it was connected before.
    namespace.ip("-6 addr flush dev br-ex scope global");
    let mut lines = String::new();
    match node.uplink() {
        Uplink::Bridged(_) => {
            enable(namespace, "br-ex");
            let _ = writeln!(lines, "addr add {address}/64 dev br-ex nodad");
        }
        Uplink::Apart | Uplink::Levee => {
            enable(namespace, "eth0");
            enable(namespace, "br-ex");
            let _ = writeln!(lines, "addr add {address}/64 dev eth0 nodad\nroute add {} dev br-ex", pod_cidr(node));
            for other in others.iter().filter(|other| other.index() != node.index()) {
                let _ = writeln!(lines, "route add {} via {} dev eth0", pod_cidr(other), v6(other.address()));
            }
        }
    }
    namespace.sysctl("net.ipv6.conf.all.forwarding", "1");
    namespace.ip_batch(&lines);
    for pod in node.pods() {
        enable(&pod.namespace, "lo");
        enable(&pod.namespace, "eth0");
        pod.namespace.ip_batch(&format!(
            "addr replace {}/{POD_NETWORK} dev eth0 nodad
             route replace default via 2001:db8:169::1 dev eth0 onlink",
            v6(pod.address)
        ));
    }
}

/// Gives a host IPv6, and routes to the pods of nodes.
pub fn add_to_host(host: &Host, nodes: &[Node]) {
    enable(&host.namespace, "lo");
    enable(&host.namespace, "eth0");
    let mut lines = format!("addr add {}/64 dev eth0 nodad\n", v6(host.address));
    for node in nodes {
        let _ = writeln!(lines, "route add {} via {} dev eth0", pod_cidr(node), v6(node.address()));
    }
    host.namespace.ip_batch(&lines);
}
