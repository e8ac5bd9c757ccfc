//! Rules 26–41: what happens to a packet.

use crate::asked::*;

#[test]
fn rule_26_no_endpoint_rejects_on_every_kind_of_address() {
    let node = on_node("rule_26_no_endpoint_rejects", "node-1");
    let empty = "default/empty:http";
    for source in [POD, FAR_POD, OUTSIDE] {
        let from = if source == POD { "pods" } else { "uplink" };
        for address in ["10.96.0.20:80", "192.0.2.20:80", "172.16.0.1:30020"] {
            node.tcp(source, address).rejects(from, empty);
        }
        for address in ["10.96.0.20:53", "192.0.2.20:53", "172.16.0.1:30053"] {
            node.udp(source, address).rejects(from, "default/empty:dns");
        }
        // Endpoints that are there but neither ready nor serving are nobody; the policies do not matter.
        for address in ["10.96.0.21:80", "192.0.2.21:80", "172.16.0.1:30021"] {
            node.tcp(source, address).rejects(from, "default/down:http");
        }
    }
    let balancer = on_balancer("rule_26_no_endpoint_rejects");
    for (address, service) in [
        ("10.96.0.20:80", empty),
        ("192.0.2.20:80", empty),
        ("10.96.0.21:80", "default/down:http"),
        ("192.0.2.21:80", "default/down:http"),
    ] {
        balancer.tcp(OUTSIDE, address).rejects("uplink", service);
    }
    balancer.udp(OUTSIDE, "192.0.2.20:53").rejects("uplink", "default/empty:dns");
}

#[test]
fn rule_27_local_policy_with_endpoints_elsewhere_drops() {
    let node = on_node("rule_27_local_policy_elsewhere_drops", "node-1");
    for source in [OUTSIDE, FAR_POD] {
        node.tcp(source, "192.0.2.80:80").drops("uplink", "no_local_backend", Some(WEB));
        node.tcp(source, "172.16.0.1:30080").drops("uplink", "no_local_backend", Some(WEB));
        node.tcp(source, "10.96.0.10:80").drops("uplink", "no_local_backend", Some(WEB));
    }
    // internalTrafficPolicy: Local, for the pods here.
    node.tcp(POD, "10.96.0.10:80").drops("pods", "no_local_backend", Some(WEB));
    // Where there is one, it alone gets everything.
    let there = on_node("rule_27_local_policy_elsewhere_drops", "node-2");
    there.tcp(OUTSIDE, "192.0.2.80:80").forwards("uplink", WEB, "dnat", &["10.244.2.10:8080"]);
    there.tcp(OUTSIDE, "172.16.0.2:30080").forwards("uplink", WEB, "dnat", &["10.244.2.10:8080"]);
    there.tcp(FAR_POD, "10.96.0.10:80").forwards("pods", WEB, "nat", &["10.244.2.10:8080"]);
}

#[test]
fn a_balancer_has_no_local_pods_and_policy_local_means_one_hop_with_the_clients_address() {
    let all = ["10.244.2.10:8080", "10.244.3.10:8080"];
    let balancer = on_balancer("rule_27_local_policy_elsewhere_drops");
    balancer.tcp(OUTSIDE, "192.0.2.80:80").forwards("uplink", WEB, "dnat", &all);
    balancer.tcp(FAR_POD, "192.0.2.80:80").forwards("uplink", WEB, "dnat", &all);
}

#[test]
fn rule_28_an_unknown_port_of_a_vip_rejects_and_never_leaves() {
    for address in ["10.96.0.10", "192.0.2.80"] {
        let node = on_node("load_balancer", "node-1");
        node.tcp(POD, &format!("{address}:81")).is_closed("pods");
        node.tcp(FAR_POD, &format!("{address}:81")).is_closed("uplink");
        node.tcp(OUTSIDE, &format!("{address}:81")).is_closed("uplink");
        node.udp(OUTSIDE, &format!("{address}:80")).is_closed("uplink");
        node.udp(POD, &format!("{address}:80")).is_closed("pods");
        // The backends' port is not the Service's.
        node.tcp(POD, &format!("{address}:8080")).is_closed("pods");
        let balancer = on_balancer("load_balancer");
        balancer.tcp(OUTSIDE, &format!("{address}:81")).is_closed("uplink");
        balancer.udp(OUTSIDE, &format!("{address}:80")).is_closed("uplink");
        // Port unreachable, as for UDP.
        balancer.sctp(OUTSIDE, &format!("{address}:80")).is_closed("uplink");
        node.sctp(POD, &format!("{address}:80")).is_closed("pods");
    }
}

#[test]
fn rule_28_an_unallocated_service_address_drops() {
    let node = on_node("load_balancer", "node-1");
    for source in [POD, FAR_POD, OUTSIDE] {
        let from = if source == POD { "pods" } else { "uplink" };
        node.tcp(source, "10.96.77.77:80").drops(from, "service_unallocated", None);
        node.udp(source, "10.96.77.77:53").drops(from, "service_unallocated", None);
        node.ping(source, "10.96.77.77").drops(from, "service_unallocated", None);
    }
    let balancer = on_balancer("load_balancer");
    balancer.tcp(OUTSIDE, "10.96.77.77:80").drops("uplink", "service_unallocated", None);
    // Beside the range begins the world.
    node.tcp(POD, "10.97.0.1:80").is_plain("pods");
}

#[test]
fn rule_28_a_ping_to_a_vip_is_answered() {
    let node = on_node("load_balancer", "node-1");
    for address in ["10.96.0.10", "192.0.2.80"] {
        node.ping(POD, address).is_answered("pods");
        node.ping(FAR_POD, address).is_answered("uplink");
        node.ping(OUTSIDE, address).is_answered("uplink");
        on_balancer("load_balancer").ping(OUTSIDE, address).is_answered("uplink");
    }
    // The address is there even if nobody is behind it.
    on_balancer("rule_26_no_endpoint_rejects").ping(OUTSIDE, "192.0.2.20").is_answered("uplink");
}

#[test]
fn rule_29_addresses_of_mode_proxy_and_host_names_are_ignored() {
    let balancer = on_balancer("rule_29_ip_mode_proxy");
    balancer.tcp(OUTSIDE, "192.0.2.1:80").forwards("uplink", WEB, "nat", &ALL);
    balancer.tcp(OUTSIDE, "192.0.2.2:80").forwards("uplink", WEB, "nat", &ALL);
    balancer.tcp(OUTSIDE, "192.0.2.3:80").passes("uplink");
    balancer.ping(OUTSIDE, "192.0.2.3").passes("uplink");
    let node = on_node("rule_29_ip_mode_proxy", "node-1");
    node.tcp(POD, "192.0.2.2:80").reaches_from_pod(WEB, &ALL);
    // The proxy in front must see it.
    node.tcp(POD, "192.0.2.3:80").is_plain("pods");
    node.tcp(OUTSIDE, "192.0.2.3:80").passes("uplink");
}

#[test]
fn rule_30_external_ips_are_not_served() {
    let node = on_node("rule_30_external_ips", "node-1");
    node.tcp(POD, "192.0.2.90:80").is_plain("pods");
    node.tcp(OUTSIDE, "192.0.2.90:80").passes("uplink");
    on_balancer("rule_30_external_ips").tcp(OUTSIDE, "192.0.2.90:80").passes("uplink");
}

#[test]
fn rule_31_policy_local_keeps_the_clients_address() {
    let node = on_node("rule_31_local_keeps_the_client", "node-1");
    node.tcp(OUTSIDE, "192.0.2.80:80").forwards("uplink", WEB, "dnat", &["10.244.1.10:8080"]);
    node.tcp(OUTSIDE, "172.16.0.1:30080").forwards("uplink", WEB, "dnat", &["10.244.1.10:8080"]);
    node.tcp(FAR_POD, "192.0.2.80:80").forwards("uplink", WEB, "dnat", &["10.244.1.10:8080"]);
    let both = ["10.244.1.10:8080", "10.244.2.10:8080"];
    on_balancer("rule_31_local_keeps_the_client").tcp(OUTSIDE, "192.0.2.80:80").forwards("uplink", WEB, "dnat", &both);
    // The ClusterIP has a policy of its own.
    node.tcp(OUTSIDE, "10.96.0.10:80").forwards("uplink", WEB, "nat", &both);
}

#[test]
fn rule_31_ways_to_reach_a_backend_are_the_balancers_to_choose() {
    let balancer = on_balancer("rule_31_modes");
    let same_port = ["10.244.1.10:80", "10.244.2.10:80", "10.244.3.10:80"];
    balancer.tcp(OUTSIDE, "192.0.2.81:80").forwards("uplink", "default/asked:http", "dnat", &ALL);
    balancer.tcp(OUTSIDE, "192.0.2.82:80").forwards("uplink", "default/direct:http", "dsr", &same_port);
    // Nobody gives backends the ClusterIP, so it cannot go by dsr.
    balancer.tcp(OUTSIDE, "10.96.0.12:80").forwards("uplink", "default/direct:http", "nat", &same_port);
    // On a node, the annotation has no say.
    let node = on_node("rule_31_modes", "node-1");
    node.tcp(OUTSIDE, "192.0.2.81:80").forwards("uplink", "default/asked:http", "nat", &ALL);
    node.tcp(OUTSIDE, "192.0.2.82:80").forwards("uplink", "default/direct:http", "nat", &same_port);
}

#[test]
fn rule_32_with_policy_local_pods_of_this_node_reach_all_endpoints() {
    let node = on_node("rule_31_local_keeps_the_client", "node-3");
    let pod = "10.244.3.5";
    let both = ["10.244.1.10:8080", "10.244.2.10:8080"];
    node.tcp(pod, "192.0.2.80:80").reaches_from_pod(WEB, &both);
    node.tcp(pod, "172.16.0.3:30080").reaches_from_pod(WEB, &both);
    // Pods of other nodes come from outside.
    node.tcp(FAR_POD, "192.0.2.80:80").drops("uplink", "no_local_backend", Some(WEB));
}

#[test]
fn rule_33_a_pod_reaches_itself_with_its_source_rewritten() {
    let node = on_node("rule_33_hairpin", "node-1");
    let itself = "10.244.1.10";
    for address in ["10.96.0.10:80", "192.0.2.80:80", "172.16.0.1:30080"] {
        node.tcp(itself, address).forwards("pods", WEB, "nat", &["10.244.1.10:8080"]);
        // A neighbour on the same bridge would be answered directly, so its source is rewritten too.
        node.tcp(POD, address).forwards("pods", WEB, "nat", &["10.244.1.10:8080"]);
    }
    // On another node, nothing is in the way.
    on_node("rule_33_hairpin", "node-2").tcp(FAR_POD, "10.96.0.10:80").reaches_from_pod(WEB, &["10.244.1.10:8080"]);
}

#[test]
fn rule_34_source_ranges_guard_load_balancer_addresses_and_nothing_else() {
    for place in [on_node("rule_34_source_ranges", "node-1"), on_balancer("rule_34_source_ranges")] {
        place.tcp(OUTSIDE, "192.0.2.80:80").drops("uplink", "source_not_allowed", Some(WEB));
        place.tcp("203.0.113.7", "192.0.2.80:80").forwards("uplink", WEB, "nat", &ALL);
        place.tcp(OUTSIDE, "10.96.0.10:80").forwards("uplink", WEB, "nat", &ALL);
    }
    // Node ports have no ranges.
    let node = on_node("rule_34_source_ranges", "node-1");
    node.tcp(OUTSIDE, "172.16.0.1:30080").forwards("uplink", WEB, "nat", &ALL);
}

#[test]
fn rule_35_a_client_with_affinity_gets_one_endpoint_on_every_address() {
    let node = on_node("rule_35_affinity", "node-1");
    let chosen = node.tcp(OUTSIDE, "192.0.2.80:80").backend().to_owned();
    for port in [1, 1024, 40_001, 65_535] {
        for address in ["192.0.2.80:80", "10.96.0.10:80", "172.16.0.1:30080"] {
            let answer = node.ask(&format!("tcp {OUTSIDE}:{port} > {address}"), &[]);
            answer.forwards("uplink", WEB, "nat", &ALL);
            assert_eq!(answer.backend(), chosen);
        }
    }
    // Another client may get another one, and of some clients one does.
    let others: Vec<_> =
        (1..9).map(|client| node.tcp(&format!("198.51.100.{client}"), "192.0.2.80:80").backend().to_owned()).collect();
    assert!(others.iter().any(|other| *other != chosen), "{others:?}");
}

#[test]
fn rule_37_udp_goes_to_who_is_ready_and_to_nobody_that_stopped() {
    let node = on_node("rule_37_udp_endpoint_stopped", "node-1");
    node.udp(POD, "10.96.0.53:53").reaches_from_pod("default/dns:dns", &["10.244.3.10:5353"]);
    node.tcp(POD, "10.96.0.53:53").is_closed("pods");
}

#[test]
fn rule_41_a_load_balancer_of_another_class_keeps_its_addresses() {
    let balancer = on_balancer("rule_41_class_of_another");
    balancer.tcp(OUTSIDE, "192.0.2.80:80").passes("uplink");
    let node = on_node("rule_41_class_of_another", "node-1");
    node.tcp(POD, "192.0.2.80:80").is_plain("pods");
    node.tcp(POD, "10.96.0.10:80").reaches_from_pod(WEB, &ALL);
    node.tcp(OUTSIDE, "172.16.0.1:30080").forwards("uplink", WEB, "nat", &ALL);
}
