//! What kube-proxy writes in its nftables mode for a [`Services`]: the same table, sets, maps, chains, hooks and priorities, rule by
//! rule (Kubernetes 1.33, `pkg/proxy/nftables/proxier.go`; `TestOverallNFTablesRules` beside it shows the result).
//!
//! ```text
//!  prerouting ─► services ─vmap @service-ips─► service-…  ─numgen vmap─► endpoint-…: dnat to 10.128.0.1:8080
//!                                              │ client outside of the pods' range
//!  postrouting ─► masquerading ◄─ mark 0x4000 ◄┘ mark-for-masquerade
//! ```
//!
//! One step of a verdict map for the Service, one for the endpoint, whatever their numbers are: that is what makes this mode
//! fast, and this the peer to be measured beside. Only a flow's first packet comes this way; conntrack rewrites all others.
//!
//! The hash in a chain's name is ours: a name's worth to the kernel is that it is nobody else's.
//!
//! [`transactions`] is pure, text for `nft -f`; [`load`] has a namespace's kernel take it.

use std::fmt::Write as _;

use levee_tests::Namespace;

use super::feed;
use super::topology::OUT_ADDRESS;
use crate::services::{ENDPOINTS, PODS_RANGE, PORT, SERVICES_RANGE, Services, TARGET_PORT};

/// Services in one transaction. For each set without a name, which is what a Service's endpoints are chosen by, the kernel walks
/// through the whole transaction (`__nft_set_trans_bind`): 25,000 in one take minutes. For each transaction, nft(8) asks for all
/// chains that there are: few at a time take minutes, too.
const AT_ONCE: usize = 2_500;

/// What is there whatever the cluster is. Chains come before the maps that lead to them.
fn base() -> String {
    format!(
        r#"table ip kube-proxy {{
	comment "rules for kube-proxy"

	set cluster-ips {{ type ipv4_addr; comment "Active ClusterIPs"; }}
	set nodeport-ips {{ type ipv4_addr; comment "IPs that accept NodePort traffic"; elements = {{ {OUT_ADDRESS} }}; }}
	map firewall-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; comment "destinations that are subject to LoadBalancerSourceRanges"; }}
	map no-endpoint-nodeports {{ type inet_proto . inet_service : verdict; comment "vmap to drop or reject packets to service nodeports with no endpoints"; }}
	map no-endpoint-services {{ type ipv4_addr . inet_proto . inet_service : verdict; comment "vmap to drop or reject packets to services with no endpoints"; }}
	map service-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; comment "ClusterIP, ExternalIP and LoadBalancer IP traffic"; }}
	map service-nodeports {{ type inet_proto . inet_service : verdict; comment "NodePort traffic"; }}

	chain cluster-ips-check {{
		ip daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"
		ip daddr {{ {SERVICES_RANGE} }} drop comment "Drop traffic to unallocated ClusterIPs"
	}}
	chain firewall-check {{ ip daddr . meta l4proto . th dport vmap @firewall-ips; }}
	chain mark-for-masquerade {{ meta mark set meta mark or 0x4000; }}
	chain masquerading {{
		meta mark and 0x4000 == 0 return
		meta mark set meta mark xor 0x4000
		masquerade fully-random
	}}
	chain nodeport-endpoints-check {{ ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports; }}
	chain reject-chain {{ comment "helper for @no-endpoint-services / @no-endpoint-nodeports"; reject; }}
	chain service-endpoints-check {{ ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }}
	chain services {{
		ip daddr . meta l4proto . th dport vmap @service-ips
		ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
	}}

	chain filter-prerouting-pre-dnat {{ type filter hook prerouting priority -110; ct state new jump firewall-check; }}
	chain filter-output-pre-dnat {{ type filter hook output priority -110; ct state new jump firewall-check; }}
	chain filter-forward {{
		type filter hook forward priority 0
		ct state new jump service-endpoints-check
		ct state new jump cluster-ips-check
	}}
	chain filter-input {{
		type filter hook input priority 0
		ct state new jump nodeport-endpoints-check
		ct state new jump service-endpoints-check
	}}
	chain filter-output {{
		type filter hook output priority 0
		ct state new jump service-endpoints-check
		ct state new jump cluster-ips-check
	}}
	chain nat-prerouting {{ type nat hook prerouting priority -100; jump services; }}
	chain nat-output {{ type nat hook output priority -100; jump services; }}
	chain nat-postrouting {{ type nat hook postrouting priority 100; jump masquerading; }}
}}
"#
    )
}

/// The whole of it, in the order in which the kernel can take it: what leads somewhere after where it leads to.
#[must_use]
pub fn transactions(services: Services) -> Vec<String> {
    let within = |chains: &str| format!("table ip kube-proxy {{\n{chains}}}\n");
    let (mut endpoints, mut chains) = (String::new(), Vec::with_capacity(services.count as usize));
    let (mut addresses, mut frontends) = (String::new(), String::new());
    for service in 0..services.count {
        let vip = Services::vip(service);
        let (namespace, name, port) = Services::name(service);
        let name = format!("{namespace}/{name}/tcp/{port}");
        let chain = format!("service-{}-{name}", hash(&name));
        let mut choices = String::new();
        for (number, endpoint) in Services::endpoints(service).enumerate() {
            let name = format!("{name}__{endpoint}/{TARGET_PORT}");
            let chain = format!("endpoint-{}-{name}", hash(&name));
            let _ = writeln!(
                endpoints,
                "\tchain {chain} {{\n\t\tip saddr {endpoint} jump mark-for-masquerade\n\
                 \t\tmeta l4proto tcp dnat to {endpoint}:{TARGET_PORT}\n\t}}"
            );
            let _ = write!(choices, "{}{number} : goto {chain}", if number == 0 { "" } else { ", " });
        }
        chains.push(format!(
            "\tchain {chain} {{\n\t\tip daddr {vip} tcp dport {PORT} ip saddr != {PODS_RANGE} jump mark-for-masquerade\n\
             \t\tnumgen random mod {ENDPOINTS} vmap {{ {choices} }}\n\t}}\n"
        ));
        let comma = if service == 0 { "" } else { ",\n" };
        let _ = write!(addresses, "{comma}{vip}");
        let _ = write!(frontends, "{comma}{vip} . tcp . {PORT} : goto {chain}");
    }
    let mut transactions = vec![base(), within(&endpoints)];
    transactions.extend(chains.chunks(AT_ONCE).map(|chains| within(&chains.concat())));
    transactions.push(format!(
        "add element ip kube-proxy cluster-ips {{ {addresses} }}\nadd element ip kube-proxy service-ips {{ {frontends} }}\n"
    ));
    transactions
}

/// Has the kernel take all of it, in a namespace that has none of it.
///
/// # Panics
/// If nft refuses.
pub fn load(namespace: &Namespace, services: Services) {
    for transaction in transactions(services) {
        feed(namespace.command("nft").args(["-f", "-"]), &transaction);
    }
}

/// Eight letters and digits out of a name, as kube-proxy's chains have them: FNV-1a, in base 32.
fn hash(name: &str) -> String {
    let mut hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut text = String::with_capacity(8);
    for _ in 0..8 {
        let letter = match (hash & 31) as u8 {
            letter @ 0..26 => b'A' + letter,
            digit => b'2' + digit - 26,
        };
        text.push(char::from(letter));
        hash >>= 5;
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
    use std::time::Duration;

    use levee_tests::Lab;

    use super::*;
    use crate::throughput::topology::in_path;

    #[test]
    fn a_service_is_written_as_kube_proxy_writes_it() {
        let text = transactions(Services { count: 2 }).concat();
        let chain = |kind: &str, name: &str| format!("{kind}-{}-{name}", hash(name));
        let service = chain("service", "bench/web-1/tcp/http");
        let first = chain("endpoint", "bench/web-1/tcp/http__10.128.0.11/8080");
        let second = chain("endpoint", "bench/web-1/tcp/http__10.128.0.12/8080");
        for expected in [
            format!(
                "\tchain {service} {{\n\t\tip daddr 10.96.0.2 tcp dport 80 ip saddr != 10.128.0.0/10 jump mark-for-masquerade\n"
            ),
            format!("\t\tnumgen random mod 10 vmap {{ 0 : goto {first}, 1 : goto {second}, 2 : "),
            format!(
                "\tchain {first} {{\n\t\tip saddr 10.128.0.11 jump mark-for-masquerade\n\t\tmeta l4proto tcp dnat to 10.128.0.11:8080\n\t}}\n"
            ),
            format!("10.96.0.2 . tcp . 80 : goto {service}"),
        ] {
            assert!(text.contains(&expected), "{expected}\nis not in\n{text}");
        }
    }

    #[test]
    fn every_chain_has_a_name_of_its_own_that_the_kernel_has_room_for() {
        let text = transactions(Services { count: 2000 }).concat();
        let names: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("\tchain ")?.split_once(" {").map(|(name, _)| name))
            .filter(|name| name.starts_with("service-") || name.starts_with("endpoint-"))
            .filter(|name| name.contains("bench"))
            .collect();
        assert_eq!(names.len(), 2000 * 11);
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        // NFT_NAME_MAXLEN less its end (include/uapi/linux/netfilter/nf_tables.h).
        assert!(names.iter().all(|name| name.len() < 128));
    }

    #[test]
    fn what_is_always_there_is_there_once_and_first() {
        let many = transactions(Services { count: 2 * AT_ONCE as u32 + 1 });
        assert_eq!(many.len(), 6, "the base, endpoints, three times Services, elements");
        assert!(many[0].contains("type nat hook prerouting") && !many[1..].concat().contains("hook"));
        assert_eq!(many[1].matches("dnat to").count(), 10 * (2 * AT_ONCE + 1));
    }

    /// nft itself takes every transaction, and a client's connection to a Service ends at one of its endpoints, its own address
    /// hidden, as kube-proxy has it.
    #[test]
    fn a_connection_goes_to_an_endpoint() {
        let Some(lab) = Lab::start() else { return };
        if !in_path("nft") {
            eprintln!("SKIPPED: `nft` is missing: apt-get install nftables");
            return;
        }
        let (client, node, pods) = (lab.namespace("client"), lab.namespace("node"), lab.namespace("pods"));
        node.ip_batch(&format!(
            "link add c0 type veth peer name eth0 netns {}
             link add p0 type veth peer name eth0 netns {}
             addr add 198.51.100.1/24 dev c0
             addr add {OUT_ADDRESS}/24 dev p0
             link set c0 up
             link set p0 up
             route add {PODS_RANGE} dev p0
             route add default via 192.0.2.2",
            client.name(),
            pods.name()
        ));
        client.ip_batch("addr add 198.51.100.2/24 dev eth0\nlink set eth0 up\nroute add default via 198.51.100.1");
        pods.ip_batch(&format!(
            "addr add 192.0.2.2/24 dev eth0\nlink set eth0 up\nroute add local {PODS_RANGE} dev lo\n"
        ));
        node.sysctl("net.ipv4.ip_forward", "1");
        load(&node, Services { count: 3 });
        let listener = pods.enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, TARGET_PORT)).unwrap());
        let mut chosen = BTreeSet::new();
        for _ in 0..40 {
            let to = SocketAddr::from((Services::vip(1), PORT));
            let connection = client.enter(|| TcpStream::connect_timeout(&to, Duration::from_secs(10)));
            connection.expect("somebody listens at every endpoint");
            let (accepted, from) = listener.accept().unwrap();
            assert_eq!(from.ip(), IpAddr::from(OUT_ADDRESS), "it is masqueraded");
            chosen.insert(accepted.local_addr().unwrap().ip());
        }
        let endpoints: BTreeSet<_> = Services::endpoints(1).map(IpAddr::from).collect();
        // Five or fewer of ten in forty draws: once in some million runs.
        assert!(chosen.is_subset(&endpoints) && chosen.len() > 5, "{chosen:?}");
        // Nobody has a Service of that number, and another port of one is refused rather than waited for.
        let elsewhere = SocketAddr::from((Services::vip(1), PORT + 1));
        let refused = client.enter(|| TcpStream::connect_timeout(&elsewhere, Duration::from_secs(10)));
        assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    }
}
