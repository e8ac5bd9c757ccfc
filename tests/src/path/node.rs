//! A node in the backend's place: reached through a tunnel, and answering clients past the balancer.
//!
//! ```text
//!   before ── hop ── beyond ── 203.0.113.2 [levee] ── levee0 ══ levee1 ─ br-ex ─ pod 10.244.1.2
//!      │                        and 2001:db8:203::2                          and 2001:db8:244:1::2
//!      └─ 198.51.100.0/24 via inner, not over the balancer
//! ```
//!
//! So both directions of a connection meet routers of their own: what is wrapped meets `before`, answers meet `beyond` and `inner`.

use std::net::Ipv4Addr;

use levee_api::program::Local;

use super::Path;
use crate::dual::enable;
use crate::fabric::finish_checksums;
use crate::namespace::Namespace;

/// The far end of the tunnel: the backend's address, which is the node's now.
pub const NODE: Ipv4Addr = super::BACKEND;
/// Its pod.
pub const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);

impl Path {
    /// Makes a node of the backend, for a dataplane with ports of a node, and returns its pod.
    ///
    /// # Panics
    /// If it cannot be wired.
    #[must_use]
    pub fn node_in_the_backends_place(&self) -> Namespace {
        let (node, pod) = (&self.backend, self.lab.namespace("pod"));
        node.ip_batch(&format!(
            "link add br-ex type bridge stp_state 0 forward_delay 0 mcast_snooping 0
             link set br-ex up
             link add levee0 type veth peer name levee1
             link set levee1 master br-ex up
             link set levee0 up
             link add pod1 type veth peer name eth0 netns {}
             link set pod1 master br-ex up
             route add 10.244.1.0/24 dev br-ex",
            pod.name()
        ));
        finish_checksums(node, "levee1");
        node.run("ethtool -K levee1 gro on");
        // Native XDP on the node's end of the wire asks for it.
        self.beyond.run("ethtool -K backend gro on");
        finish_checksums(&self.beyond, "backend");
        for interface in ["lo", "br-ex"] {
            enable(node, interface);
        }
        node.sysctl("net.ipv4.ip_forward", "1");
        node.ip("route add 2001:db8:244:1::/64 dev br-ex");
        for interface in ["lo", "eth0"] {
            enable(&pod, interface);
        }
        pod.ip_batch(&format!(
            "addr add {POD}/16 dev eth0
             link set eth0 up
             route add default via 169.254.1.1 dev eth0 onlink
             addr add 2001:db8:244:1::2/48 dev eth0 nodad
             route add default via 2001:db8:169::1 dev eth0 onlink"
        ));
        self.before.namespace.ip_batch(
            "route replace 198.51.100.0/24 via 192.0.2.201
             route replace 2001:db8:198::/64 via 2001:db8::201",
        );
        pod
    }
}

/// The part of the node's program that says which pods are there.
///
/// # Panics
/// Never: they are prefixes.
#[must_use]
pub fn local() -> Local {
    let prefixes = ["10.244.1.0/24", "2001:db8:244:1::/64"].map(|net| net.parse().expect("a prefix"));
    Local { prefixes: prefixes.into(), pods: Vec::new() }
}
