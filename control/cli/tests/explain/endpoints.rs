//! Rules 17–25: which endpoints are used.

use crate::asked::*;

#[test]
fn rule_17_ready_is_the_controllers_word() {
    let node = on_node("rule_17_publish_not_ready", "node-2");
    node.tcp(FAR_POD, "10.96.0.10:80").reaches_from_pod(WEB, &["10.244.1.10:8080"]);
}

#[test]
fn rule_18_if_nobody_is_ready_those_that_serve_and_terminate_are_used() {
    let last = ["10.244.1.10:8080", "10.244.2.10:8080"];
    let node = on_node("rule_18_terminating_fallback", "node-3");
    node.tcp("10.244.3.5", "10.96.0.10:80").reaches_from_pod(WEB, &last);
    node.tcp(OUTSIDE, "192.0.2.80:80").forwards("uplink", WEB, "nat", &last);
    node.tcp(OUTSIDE, "172.16.0.3:30080").forwards("uplink", WEB, "nat", &last);
    on_balancer("rule_18_terminating_fallback").tcp(OUTSIDE, "192.0.2.80:80").forwards("uplink", WEB, "nat", &last);
}

#[test]
fn rule_18_while_one_is_ready_those_that_terminate_get_nothing_new() {
    let node = on_node("rule_18_ready_first", "node-1");
    node.tcp(POD, "10.96.0.10:80").reaches_from_pod(WEB, &["10.244.2.10:8080"]);
    on_balancer("rule_18_ready_first").tcp(OUTSIDE, "192.0.2.80:80").forwards(
        "uplink",
        WEB,
        "nat",
        &["10.244.2.10:8080"],
    );
}

#[test]
fn rule_19_policy_local_falls_back_to_what_terminates_here() {
    let here = on_node("rule_19_local_terminating", "node-1");
    let last = ["10.244.1.10:8080"];
    here.tcp(OUTSIDE, "192.0.2.80:80").forwards("uplink", WEB, "dnat", &last);
    here.tcp(OUTSIDE, "172.16.0.1:30080").forwards("uplink", WEB, "dnat", &last);
    // Client and endpoint are on one bridge: answers would not come back this way with the client's address.
    here.tcp(POD, "10.96.0.10:80").forwards("pods", WEB, "nat", &last);
    let there = on_node("rule_19_local_terminating", "node-2");
    there.tcp(OUTSIDE, "192.0.2.80:80").forwards("uplink", WEB, "dnat", &["10.244.2.10:8080"]);
    // On node-3 there is neither.
    let nowhere = on_node("rule_19_local_terminating", "node-3");
    nowhere.tcp(OUTSIDE, "192.0.2.80:80").drops("uplink", "no_local_backend", Some(WEB));
}

#[test]
fn rule_22_the_external_policy_of_a_cluster_ip_counts_for_nothing() {
    let node = on_node("rule_22_external_policy_of_a_cluster_ip", "node-1");
    node.tcp(POD, "10.96.0.10:80").reaches_from_pod(WEB, &["10.244.2.10:8080"]);
    node.tcp(OUTSIDE, "10.96.0.10:80").forwards("uplink", WEB, "nat", &["10.244.2.10:8080"]);
}

#[test]
fn rule_23_hints_are_followed_if_every_ready_endpoint_has_one_and_not_on_balancers() {
    let zone_a = ["10.244.1.10:8080", "10.244.2.10:8080"];
    on_node("rule_23_zone_hints", "node-1").tcp(POD, "10.96.0.10:80").reaches_from_pod(WEB, &zone_a);
    let zone_b = on_node("rule_23_zone_hints", "node-3");
    zone_b.tcp(OUTSIDE, "10.96.0.10:80").forwards("uplink", WEB, "nat", &["10.244.3.10:8080"]);
    on_balancer("rule_23_zone_hints").tcp(OUTSIDE, "192.0.2.80:80").forwards("uplink", WEB, "nat", &ALL);
    let some = on_node("rule_23_hints_of_some", "node-2");
    some.tcp(FAR_POD, "10.96.0.10:80").reaches_from_pod(WEB, &["10.244.1.10:8080", "10.244.3.10:8080"]);
}
