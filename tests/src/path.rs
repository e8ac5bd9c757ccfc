//! A client and a backend that are routers away from the balancer, so that somebody on the way has something to say.
//!
//! ```text
//!   client ── 1500 ── outer ── hop ── inner ══ fabric ══ balancer
//!   198.51.100.2                   192.0.2.201    ║      192.0.2.230, VIP 192.0.2.250
//!                                                 ║
//!   backend ── 1500 ── beyond ── hop ── before ═══╝
//!   203.0.113.2                    192.0.2.202    ║
//!                                                 ╚═════ direct 192.0.2.203, holds the VIP without saying so
//! ```
//!
//! Either hop can be narrowed. What is too big for it is told by the router before it: `inner` tells whoever sends to the client
//! about packets from the VIP, `before` whoever sends to the backend. The way from the backend to the client leads over the
//! balancer, as `dnat` needs it. With [`node`], the backend is a node that a tunnel leads to.

pub mod balanced;
pub mod kernel;
pub mod node;

use std::net::Ipv4Addr;

use levee_api::net::Mac;

use crate::dual::enable;
use crate::fabric::Fabric;
use crate::lab::Lab;
use crate::namespace::Namespace;
use crate::node::Host;

/// The client's address.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// The backend's address.
pub const BACKEND: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
/// An address for a Service.
pub const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 250);

/// See the module.
pub struct Path {
    /// Far from the balancer, towards the left.
    pub client: Namespace,
    /// Where levee belongs.
    pub balancer: Host,
    /// Far from the balancer, towards the right.
    pub backend: Namespace,
    /// A backend on the segment, for `dsr`.
    pub direct: Host,
    outer: Namespace,
    inner: Host,
    before: Host,
    beyond: Namespace,
    /// What connects them.
    pub fabric: Fabric,
    /// What owns them.
    pub lab: Lab,
}

/// Connects two namespaces by a wire of their own.
fn wire(one: (&Namespace, &str, &str), other: (&Namespace, &str, &str)) {
    let ((one, name, address), (other, other_name, other_address)) = (one, other);
    one.ip_batch(&format!(
        "link add name {name} type veth peer name {other_name} netns {}
         addr add {address} dev {name}
         link set {name} up",
        other.name()
    ));
    other.ip_batch(&format!(
        "addr add {other_address} dev {other_name}
         link set {other_name} up"
    ));
}

impl Path {
    /// With wide hops; or `None` where there can be no lab. `queues`: of the balancer's interface.
    #[must_use]
    pub fn start(queues: u8) -> Option<Path> {
        let lab = Lab::start()?;
        let fabric = Fabric::new(&lab);
        let (client, outer) = (lab.namespace("client"), lab.namespace("outer"));
        let (backend, beyond) = (lab.namespace("backend"), lab.namespace("beyond"));
        let inner = Host::new(&lab, &fabric, "inner", 201);
        let before = Host::new(&lab, &fabric, "before", 202);
        let direct = Host::new(&lab, &fabric, "direct", 203);
        let balancer = Host::with_queues(&lab, &fabric, "balancer", 230, queues);
        wire((&client, "eth0", "198.51.100.2/24"), (&outer, "client", "198.51.100.1/24"));
        wire((&outer, "hop", "10.0.1.1/30"), (&inner.namespace, "hop", "10.0.1.2/30"));
        wire((&before.namespace, "hop", "10.0.2.1/30"), (&beyond, "hop", "10.0.2.2/30"));
        wire((&beyond, "backend", "203.0.113.1/24"), (&backend, "eth0", "203.0.113.2/24"));
        for router in [&outer, &inner.namespace, &before.namespace, &beyond] {
            router.sysctl("net.ipv4.ip_forward", "1");
            // Every packet that is too big is to be told of.
            router.sysctl("net.ipv4.icmp_ratelimit", "0");
            router.sysctl("net.ipv4.conf.all.send_redirects", "0");
        }
        client.ip("route add default via 198.51.100.1");
        outer.ip("route add default via 10.0.1.2");
        inner.namespace.ip("route add 198.51.100.0/24 via 10.0.1.1");
        before.namespace.ip_batch(
            "route add 203.0.113.0/24 via 10.0.2.2
             route add 198.51.100.0/24 via 192.0.2.230",
        );
        beyond.ip("route add default via 10.0.2.1");
        backend.ip("route add default via 203.0.113.1");
        balancer.namespace.ip_batch(
            "route add 198.51.100.0/24 via 192.0.2.201
             route add 203.0.113.0/24 via 192.0.2.202",
        );
        direct.namespace.sysctl("net.ipv4.conf.all.arp_ignore", "1");
        direct.namespace.sysctl("net.ipv4.conf.all.arp_announce", "2");
        direct.namespace.ip_batch(&format!(
            "addr add {VIP}/32 dev lo
             route add 198.51.100.0/24 via 192.0.2.201"
        ));
        let path = Path { client, balancer, backend, direct, outer, inner, before, beyond, fabric, lab };
        path.add_ipv6();
        Some(path)
    }

    /// The same once more, with the addresses of [`crate::dual`].
    fn add_ipv6(&self) {
        let Path { client, outer, inner, before, beyond, backend, direct, balancer, .. } = self;
        let stations: [(&Namespace, &[&str], &str); 8] = [
            (client, &["eth0"], "addr add 2001:db8:198::2/64 dev eth0 nodad\nroute add default via 2001:db8:198::1"),
            (
                outer,
                &["client", "hop"],
                "addr add 2001:db8:198::1/64 dev client nodad
                 addr add 2001:db8:1:1::1/64 dev hop nodad
                 route add default via 2001:db8:1:1::2",
            ),
            (
                &inner.namespace,
                &["eth0", "hop"],
                "addr add 2001:db8::201/64 dev eth0 nodad
                 addr add 2001:db8:1:1::2/64 dev hop nodad
                 route add 2001:db8:198::/64 via 2001:db8:1:1::1",
            ),
            (
                &before.namespace,
                &["eth0", "hop"],
                "addr add 2001:db8::202/64 dev eth0 nodad
                 addr add 2001:db8:1:2::1/64 dev hop nodad
                 route add 2001:db8:203::/64 via 2001:db8:1:2::2
                 route add 2001:db8:198::/64 via 2001:db8::230",
            ),
            (
                beyond,
                &["backend", "hop"],
                "addr add 2001:db8:203::1/64 dev backend nodad
                 addr add 2001:db8:1:2::2/64 dev hop nodad
                 route add default via 2001:db8:1:2::1",
            ),
            (backend, &["eth0"], "addr add 2001:db8:203::2/64 dev eth0 nodad\nroute add default via 2001:db8:203::1"),
            (
                &direct.namespace,
                &["lo", "eth0"],
                "addr add 2001:db8::203/64 dev eth0 nodad
                 addr add 2001:db8::250/128 dev lo nodad
                 route add 2001:db8:198::/64 via 2001:db8::201",
            ),
            (
                &balancer.namespace,
                &["eth0"],
                "addr add 2001:db8::230/64 dev eth0 nodad
                 route add 2001:db8:198::/64 via 2001:db8::201
                 route add 2001:db8:203::/64 via 2001:db8::202",
            ),
        ];
        for (station, interfaces, lines) in stations {
            for interface in interfaces {
                enable(station, interface);
            }
            if interfaces.contains(&"hop") {
                station.sysctl("net.ipv6.conf.all.forwarding", "1");
                station.sysctl("net.ipv6.icmp.ratelimit", "0");
            }
            station.ip_batch(lines);
        }
    }

    /// The MACs that the client and the backend send to: each its router's.
    ///
    /// # Panics
    /// If an interface has none.
    #[must_use]
    pub fn gateways(&self) -> (Mac, Mac) {
        let mac = |router: &Namespace, interface: &str| {
            let text = router.run(&format!("cat /sys/class/net/{interface}/address"));
            text.trim().parse().expect("an interface has a MAC")
        };
        (mac(&self.outer, "client"), mac(&self.beyond, "backend"))
    }

    /// A station on the segment that the packets of 198.18.0.0/15 come from, and where those to it end.
    #[must_use]
    pub fn strangers(&self) -> Host {
        let strangers = Host::new(&self.lab, &self.fabric, "strangers", 210);
        strangers.namespace.ip("route add blackhole 198.18.0.0/15");
        for station in [&self.balancer, &self.direct] {
            station.namespace.ip("route add 198.18.0.0/15 via 192.0.2.210");
        }
        // As those to the client, they pass the balancer.
        self.before.namespace.ip("route add 198.18.0.0/15 via 192.0.2.230");
        strangers
    }

    /// Has routers keep to themselves what is too big, as careless firewalls do.
    pub fn hide_what_is_too_big(&self) {
        for router in [&self.outer, &self.inner.namespace, &self.before.namespace, &self.beyond] {
            let file = router.directory().join(format!("{}-silent.nft", router.name()));
            let rules = "add table inet silent
                add chain inet silent out { type filter hook output priority 0 ; }
                add rule inet silent out icmp type destination-unreachable icmp code frag-needed drop
                add rule inet silent out icmpv6 type packet-too-big drop\n";
            std::fs::write(&file, rules).expect("the lab's directory can be written");
            router.run(&format!("nft -f {}", file.display()));
        }
    }

    /// How wide the hops are towards the client and towards the backend, in bytes. Whatever somebody has learnt of the ones
    /// before is forgotten.
    pub fn narrow(&self, client_side: u16, backend_side: u16) {
        let hops = [
            (&self.outer, client_side),
            (&self.inner.namespace, client_side),
            (&self.before.namespace, backend_side),
            (&self.beyond, backend_side),
        ];
        for (router, mtu) in hops {
            router.ip(&format!("link set hop mtu {mtu}"));
        }
        for end in [&self.client, &self.backend, &self.direct.namespace, &self.inner.namespace, &self.before.namespace]
        {
            end.ip("route flush cache");
            end.ip("-6 route flush cache");
        }
    }
}
