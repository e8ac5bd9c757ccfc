//! No rule in particular: every kind of address of an ordinary Service, asked from everywhere.

use crate::asked::*;

#[test]
fn a_cluster_ip_is_balanced_wherever_the_packet_comes_from() {
    let node = on_node("plain_cluster_ip", "node-1");
    // The way back of this node's pods passes here, so they are seen as they are.
    node.tcp(POD, "10.96.0.10:80").reaches_from_pod(WEB, &ALL);
    node.tcp(FAR_POD, "10.96.0.10:80").forwards("uplink", WEB, "nat", &ALL);
    node.tcp(OUTSIDE, "10.96.0.10:80").forwards("uplink", WEB, "nat", &ALL);
    on_balancer("plain_cluster_ip").tcp(OUTSIDE, "10.96.0.10:80").forwards("uplink", WEB, "nat", &ALL);
}

#[test]
fn a_load_balancer_address_is_balanced_wherever_the_packet_comes_from() {
    let node = on_node("load_balancer", "node-1");
    node.tcp(POD, "192.0.2.80:80").reaches_from_pod(WEB, &ALL);
    node.tcp(FAR_POD, "192.0.2.80:80").forwards("uplink", WEB, "nat", &ALL);
    node.tcp(OUTSIDE, "192.0.2.80:80").forwards("uplink", WEB, "nat", &ALL);
    let balancer = on_balancer("load_balancer");
    balancer.tcp(OUTSIDE, "192.0.2.80:80").forwards("uplink", WEB, "nat", &ALL);
    balancer.tcp(FAR_POD, "192.0.2.80:80").forwards("uplink", WEB, "nat", &ALL);
}

#[test]
fn a_node_port_is_balanced_on_the_nodes_own_address_alone() {
    let node = on_node("load_balancer", "node-1");
    node.tcp(OUTSIDE, "172.16.0.1:30080").forwards("uplink", WEB, "nat", &ALL);
    node.tcp(FAR_POD, "172.16.0.1:30080").forwards("uplink", WEB, "nat", &ALL);
    node.tcp(POD, "172.16.0.1:30080").reaches_from_pod(WEB, &ALL);
    // Another node's address is that node's business; the port is not one of the Service's addresses.
    node.tcp(POD, "172.16.0.2:30080").is_plain("pods");
    node.tcp(OUTSIDE, "172.16.0.2:30080").passes("uplink");
    node.tcp(POD, "10.96.0.10:30080").is_closed("pods");
    // A balancer serves no node ports.
    on_balancer("load_balancer").tcp(OUTSIDE, "172.16.0.1:30080").passes("uplink");
}

#[test]
fn the_rest_of_a_nodes_address_is_the_kernels() {
    let node = on_node("load_balancer", "node-1");
    for source in [OUTSIDE, FAR_POD] {
        node.tcp(source, "172.16.0.1:22").passes("uplink");
        // Same number, other protocol.
        node.udp(source, "172.16.0.1:30080").passes("uplink");
        node.ping(source, "172.16.0.1").passes("uplink");
    }
    node.tcp(POD, "172.16.0.1:22").passes("pods");
    node.ping(POD, "172.16.0.1").passes("pods");
}

#[test]
fn rule_32_what_the_node_itself_sends_to_services_is_balanced_and_comes_from_levee() {
    let node = on_node("load_balancer", "node-1");
    for address in ["10.96.0.10:80", "192.0.2.80:80", "172.16.0.1:30080"] {
        node.tcp("172.16.0.1", address).forwards("host", WEB, "nat", &ALL);
    }
    node.tcp("172.16.0.1", "192.0.2.80:81").is_closed("host");
    for address in ["203.0.113.1:443", "10.244.1.10:8080"] {
        node.tcp("172.16.0.1", address).is_own_traffic();
    }
    // Another node's does.
    node.tcp("172.16.0.2", "192.0.2.80:80").forwards("uplink", WEB, "nat", &ALL);
}

#[test]
fn what_is_no_service_goes_its_way() {
    let node = on_node("load_balancer", "node-1");
    // Out into the world, to a pod of another node, and to pods here.
    node.tcp(POD, "203.0.113.1:443").is_plain("pods");
    node.tcp(POD, "10.244.2.10:8080").is_plain("pods");
    node.ping(POD, "10.244.2.10").is_plain("pods");
    node.tcp(OUTSIDE, "10.244.1.10:8080").is_plain("uplink");
    node.udp(FAR_POD, "10.244.1.10:53").is_plain("uplink");
    // What is for nobody here, the kernel has.
    node.tcp(OUTSIDE, "203.0.113.1:443").passes("uplink");
    node.tcp(OUTSIDE, "10.244.2.10:8080").passes("uplink");
    let balancer = on_balancer("load_balancer");
    balancer.tcp(OUTSIDE, "203.0.113.1:443").passes("uplink");
    balancer.tcp(OUTSIDE, "10.244.1.10:8080").passes("uplink");
}

#[test]
fn both_families_of_a_service_are_balanced_alike() {
    let node = on_node("rule_04_families", "node-1");
    let backend = ["[fd00:244:1::10]:8080"];
    // Its /64 is not in the cluster's Nodes, so what is a pod is known from the endpoints alone.
    node.tcp("[fd00:244:2::5]", "[fd00:96::10]:80").forwards("uplink", WEB, "nat", &backend);
    node.ask("tcp [fd00:244:1::5]:40000 > [fd00:96::10]:80", &["--from", "pods"])
        .forwards("pods", WEB, "nat", &backend);
    node.ping("fd00:244:2::5", "fd00:96::10").is_answered("uplink");
    node.tcp("[fd00:244:2::5]", "[fd00:96::10]:81").is_closed("uplink");
    node.ask("udp [fe80::5]:40000 > [fd00:96::10]:80", &["--from", "pods"]).drops("pods", "ipv6_scope", None);
    on_balancer("rule_04_families").ping("fd00::1", "fd00:96::10").is_answered("uplink");
}

#[test]
fn an_address_of_two_services_is_told_apart_by_port_and_protocol() {
    for place in [on_node("shared_address", "node-3"), on_balancer("shared_address")] {
        place.tcp(OUTSIDE, "192.0.2.80:80").forwards("uplink", WEB, "nat", &["10.244.1.10:8080"]);
        place.udp(OUTSIDE, "192.0.2.80:53").forwards("uplink", "default/dns:dns", "nat", &["10.244.2.10:5353"]);
        place.tcp(OUTSIDE, "192.0.2.80:53").forwards("uplink", "default/dns:dns-tcp", "nat", &["10.244.2.10:5353"]);
        place.udp(OUTSIDE, "192.0.2.80:80").is_closed("uplink");
        // Their ClusterIPs are not shared.
        place.tcp(OUTSIDE, "10.96.0.53:80").is_closed("uplink");
    }
}

#[test]
fn endpoints_on_the_hosts_own_network_are_endpoints() {
    let servers = ["172.16.0.2:6443", "172.16.0.3:6443"];
    let node = on_node("host_network", "node-1");
    node.tcp(POD, "10.96.0.1:443").reaches_from_pod("default/kubernetes:https", &servers);
}

#[test]
fn an_endpoint_on_this_nodes_own_network_is_an_endpoint_too_and_sees_levee() {
    // It would answer the client itself, from an address that the client never asked; so levee stands in between.
    let node = on_node("host_network", "node-2");
    let (api, agent) = ("default/kubernetes:https", "default/agent:http");
    for source in [FAR_POD, "172.16.0.2"] {
        let answer = node.tcp(source, "10.96.0.1:443");
        // By which of the two is its way kept or not.
        let (from, mode) = match (source == FAR_POD, answer.backend()) {
            (true, "172.16.0.3:6443") => ("pods", "dnat"),
            (true, _) => ("pods", "nat"),
            (false, _) => ("host", "nat"),
        };
        answer.forwards(from, api, mode, &["172.16.0.2:6443", "172.16.0.3:6443"]);
    }
    node.tcp(FAR_POD, "10.96.0.2:80").forwards("pods", agent, "nat", &["172.16.0.2:9100"]);
    // So it does for what the node itself sends.
    node.tcp("172.16.0.2", "10.96.0.2:80").forwards("host", agent, "nat", &["172.16.0.2:9100"]);
    on_node("host_network", "node-1").tcp(POD, "10.96.0.2:80").reaches_from_pod(agent, &["172.16.0.2:9100"]);
}

#[test]
fn pods_are_known_by_their_objects_and_by_being_endpoints_too() {
    // Addresses from outside of the nodes' prefixes, as some networks give them.
    let node = on_node("pods_outside_of_prefixes", "node-1");
    let (pod, endpoint) = ("10.250.0.7", "10.250.0.10");
    node.tcp(pod, "10.96.0.10:80").forwards("pods", WEB, "nat", &["10.250.0.10:8080"]);
    node.tcp(OUTSIDE, &format!("{pod}:8080")).is_plain("uplink");
    node.tcp(endpoint, "203.0.113.1:443").is_plain("pods");
    // On another node, both are somebody else's.
    let other = on_node("pods_outside_of_prefixes", "node-2");
    other.tcp(pod, "10.96.0.10:80").forwards("uplink", WEB, "nat", &["10.250.0.10:8080"]);
    other.tcp(OUTSIDE, &format!("{pod}:8080")).passes("uplink");
}

#[test]
fn the_same_question_has_the_same_answer_everywhere() {
    // Tables are built from the backends alone: nodes and balancers agree, so a failover moves nothing.
    let client = "198.51.100.7";
    let chosen: Vec<_> = (0..8)
        .map(|number| {
            let packet = format!("tcp {client}:{} > 192.0.2.80:80", 40_000 + number);
            let on = |place: Place| place.ask(&packet, &[]).backend().to_owned();
            let here = on(on_balancer("load_balancer"));
            assert_eq!(on(on_node("load_balancer", "node-1")), here);
            assert_eq!(on(on_node("load_balancer", "node-3")), here);
            here
        })
        .collect();
    // And connections of one client spread.
    assert!(chosen.iter().any(|backend| *backend != chosen[0]), "{chosen:?}");
}
