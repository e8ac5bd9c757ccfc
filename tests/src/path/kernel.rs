//! The kernel's own NAT in levee's place on a [`Path`], by nftables: what levee does is compared with it.

use std::net::{IpAddr, SocketAddr};

use levee_api::net::Family;
use levee_api::program::Mode;

use super::{BACKEND, Path, VIP};
use crate::dual::of;

/// Whether there is what it takes; says aloud if there is not.
#[must_use]
pub fn can_be_asked(path: &Path) -> bool {
    let there = path.client.try_run("nft --version").status.code() == Some(0);
    if !there {
        eprintln!("SKIPPED: `nft` is missing: apt-get install nftables");
    }
    there
}

/// Has the balancer's kernel translate what comes to the VIP at this UDP port, as levee would in `nat` or `dnat`.
///
/// # Panics
/// If `nft` cannot be run.
pub fn nat(path: &Path, mode: Mode, family: Family, port: u16) {
    let router = &path.balancer.namespace;
    let (vip, backend) = (of(family, VIP), of(family, BACKEND));
    let (table, prefix) = if family == Family::Ipv4 { ("ip", 32) } else { ("ip6", 128) };
    router.sysctl("net.ipv4.ip_forward", "1");
    router.sysctl("net.ipv4.conf.all.send_redirects", "0");
    router.sysctl("net.ipv4.conf.eth0.send_redirects", "0");
    router.sysctl("net.ipv6.conf.all.forwarding", "1");
    router.ip(&format!("addr add {vip}/{prefix} dev eth0 nodad"));
    // A route that leads back out of the same interface is no reason to tell of a better one.
    let redirects = if family == Family::Ipv6 {
        "add chain ip6 nat silent { type filter hook output priority 0 ; }
         add rule ip6 nat silent icmpv6 type nd-redirect drop\n"
    } else {
        ""
    };
    let mut rules = format!(
        "add table {table} nat
         {redirects}
         add chain {table} nat before {{ type nat hook prerouting priority dstnat ; }}
         add rule {table} nat before {table} daddr {vip} udp dport {port} dnat to {}\n",
        SocketAddr::new(backend, port)
    );
    if mode == Mode::Nat {
        let own = match of(family, path.balancer.address) {
            IpAddr::V4(own) => own.to_string(),
            IpAddr::V6(own) => format!("[{own}]"),
        };
        rules += &format!(
            "add chain {table} nat after {{ type nat hook postrouting priority srcnat ; }}
             add rule {table} nat after {table} daddr {backend} udp dport {port} snat to {own}:61000-65535\n"
        );
    }
    let file = router.directory().join("nat.nft");
    std::fs::write(&file, rules).expect("the lab's directory can be written");
    router.run(&format!("nft -f {}", file.display()));
}
