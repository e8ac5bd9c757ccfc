//! Rules 1–11: which Services, which slices, and how they come together.

use crate::asked::*;

#[test]
fn rule_01_a_service_of_another_proxy_is_not_ours() {
    let node = on_node("rule_01_another_proxys_service", "node-1");
    // An address inside the service range that none of ours has.
    node.tcp(POD, "10.96.0.10:80").drops("pods", "service_unallocated", None);
}

#[test]
fn rule_02_headless_slices_are_not_looked_at() {
    let node = on_node("rule_02_headless_slices", "node-1");
    node.tcp(POD, "10.96.0.10:80").reaches_from_pod(WEB, &["10.244.2.10:8080"]);
}

#[test]
fn rule_03_services_without_a_cluster_ip_have_nothing_to_balance() {
    let node = on_node("rule_03_services_without_a_cluster_ip", "node-1");
    // Clients of a headless Service talk to its pods.
    node.tcp(POD, "10.244.2.10:8080").is_plain("pods");
    node.tcp(POD, "10.96.0.10:80").drops("pods", "service_unallocated", None);
}

#[test]
fn rule_04_each_family_has_the_address_at_its_own_place() {
    let node = on_node("rule_04_families", "node-1");
    node.tcp(POD, "10.96.0.10:80").reaches_from_pod(WEB, &["10.244.1.10:8080"]);
}

#[test]
fn rule_05_ports_are_joined_by_name_and_slices_may_give_one_name_several_numbers() {
    let node = on_node("rule_05_named_ports", "node-3");
    let pod = "10.244.3.5";
    node.tcp(pod, "10.96.0.10:80").reaches_from_pod(WEB, &["10.244.1.10:8080", "10.244.2.10:9090"]);
    node.tcp(pod, "10.96.0.10:9100").reaches_from_pod("default/web:metrics", &["10.244.1.10:9100", "10.244.2.10:9100"]);
    node.udp(pod, "10.96.0.10:53").reaches_from_pod("default/web:dns", &["10.244.1.10:5353", "10.244.2.10:5354"]);
    // A target port is not a port of the Service; nor is a port of another protocol.
    node.tcp(pod, "10.96.0.10:8080").is_closed("pods");
    node.tcp(pod, "10.96.0.10:53").is_closed("pods");
    node.udp(pod, "10.96.0.10:80").is_closed("pods");
}

#[test]
fn rule_06_a_slice_belongs_to_the_service_in_its_label() {
    let node = on_node("rule_06_slices_by_label", "node-1");
    node.tcp(POD, "10.96.0.10:80").reaches_from_pod(WEB, &["10.244.3.10:8080"]);
}

#[test]
fn rule_07_slices_of_other_families_are_not_for_this_one() {
    let node = on_node("rule_07_other_families", "node-1");
    node.tcp(POD, "10.96.0.10:80").reaches_from_pod(WEB, &["10.244.3.10:8080"]);
}

#[test]
fn rule_08_an_empty_port_name_is_a_name_and_a_port_without_number_is_none() {
    let node = on_node("rule_08_slice_ports", "node-1");
    // As kube-proxy writes a port without a name.
    node.tcp(POD, "10.96.0.10:80").reaches_from_pod("default/web", &["10.244.1.10:8080"]);
}

#[test]
fn rule_09_only_the_first_address_counts() {
    let node = on_node("rule_09_first_address", "node-1");
    node.tcp(POD, "10.96.0.10:80").reaches_from_pod(WEB, &["10.244.1.10:8080"]);
}

#[test]
fn rule_10_absent_conditions_mean_ready() {
    let node = on_node("rule_10_absent_conditions", "node-2");
    node.tcp(FAR_POD, "10.96.0.10:80")
        .reaches_from_pod(WEB, &["10.244.1.10:8080", "10.244.1.11:8080", "10.244.1.12:8080"]);
}

#[test]
fn rule_11_an_endpoint_that_is_there_twice_counts_once_and_lives() {
    let node = on_node("rule_11_one_entry", "node-2");
    node.tcp(FAR_POD, "10.96.0.10:80").reaches_from_pod(WEB, &["10.244.1.10:8080", "10.244.1.11:8080"]);
}
