//! Rules 17–25: which endpoints are used.

use levee_api::program::{Pool, Side, WhenEmpty};

use crate::common::*;

const GOING: &str = "ready=false serving=true terminating=true";
const GONE: &str = "ready=false serving=false terminating=true";

#[test]
fn rule_17_ready_is_the_controllers_word() {
    // `publishNotReadyAddresses` made it true, although the pod does not serve.
    let endpoints = slice("s", &["10.244.1.1 ready=true serving=false"]);
    let compiled = on_node(&(web("publishNotReadyAddresses: true") + &endpoints));
    assert_eq!(compiled.pool(Pool::Cluster), ["10.244.1.1:8080"]);
}

#[test]
fn rule_18_policy_cluster_uses_the_ready_or_else_the_serving_and_terminating() {
    let some = slice("s", &["10.244.1.1", &format!("10.244.1.2 {GOING}"), "10.244.1.3 ready=false serving=false"]);
    let compiled = on_node(&(web("") + &some));
    assert_eq!(compiled.pool(Pool::Cluster), ["10.244.1.1:8080"]);
    assert_eq!(compiled.draining(), ["10.244.1.2:8080", "10.244.1.3:8080"]);
    let none = slice("s", &[&format!("10.244.1.1 {GONE}"), &format!("10.244.1.2 {GOING}"), "10.244.1.3 ready=false"]);
    let compiled = on_node(&(web("") + &none));
    assert_eq!(compiled.pool(Pool::Cluster), ["10.244.1.2:8080"]);
}

#[test]
fn rule_19_policy_local_uses_the_local_ready_or_else_the_local_serving_and_terminating() {
    let spec = "internalTrafficPolicy: Local";
    let ready = slice("s", &["10.244.1.1 here", &format!("10.244.1.2 here {GOING}"), "10.244.2.1 there"]);
    assert_eq!(on_node(&(web(spec) + &ready)).pool(Pool::Local), ["10.244.1.1:8080"]);
    let going = slice("s", &[&format!("10.244.1.2 here {GOING}"), "10.244.2.1 there"]);
    assert_eq!(on_node(&(web(spec) + &going)).pool(Pool::Local), ["10.244.1.2:8080"]);
    let gone = slice("s", &[&format!("10.244.1.2 here {GONE}"), "10.244.2.1 there"]);
    assert!(on_node(&(web(spec) + &gone)).pool(Pool::Local).is_empty());
}

#[test]
fn rule_20_each_set_is_computed_where_a_policy_needs_it() {
    let endpoints = slice("s", &["10.244.1.1 here", "10.244.2.1 there"]);
    // Both policies Cluster: no Local set.
    assert!(on_node(&(web("") + &endpoints)).pool(Pool::Local).is_empty());
    // Internal Local, not reachable from outside: no Cluster set.
    let compiled = on_node(&(web("internalTrafficPolicy: Local") + &endpoints));
    assert!(compiled.pool(Pool::Cluster).is_empty());
    assert_eq!(compiled.draining(), ["10.244.2.1:8080"]);
    // Internal Local, reachable from outside: both.
    let compiled = on_node(&(web("internalTrafficPolicy: Local\ntype: NodePort") + &endpoints));
    assert_eq!(compiled.pool(Pool::Cluster).len(), 2);
    assert_eq!(compiled.pool(Pool::Local), ["10.244.1.1:8080"]);
    // External Local.
    let compiled = on_node(&(web("externalTrafficPolicy: Local\ntype: NodePort") + &endpoints));
    assert_eq!(compiled.pool(Pool::Local), ["10.244.1.1:8080"]);
    assert_eq!(compiled.pool(Pool::Cluster).len(), 2);
}

#[test]
fn rule_21_node_ports_addresses_and_external_ips_are_reachable_from_outside() {
    let endpoints = slice("s", &["10.244.1.1 here", "10.244.2.1 there"]);
    let internal = "internalTrafficPolicy: Local\nports: [{name: http, port: 80}]\n";
    let without = web(internal);
    let node_port = web("internalTrafficPolicy: Local\ntype: NodePort");
    let address = named_web("", &format!("{internal}type: LoadBalancer"), "192.0.2.80");
    let external_ip = web(&format!("{internal}externalIPs: [192.0.2.9]"));
    for (yaml, reachable) in [(without, false), (node_port, true), (address, true), (external_ip, true)] {
        let compiled = on_node(&(yaml.clone() + &endpoints));
        assert_eq!(!compiled.pool(Pool::Cluster).is_empty(), reachable, "{yaml}");
    }
}

#[test]
fn rule_22_the_external_policy_counts_for_node_ports_and_load_balancers_only() {
    let endpoints = slice("s", &["10.244.2.1 there"]);
    let compiled = on_node(&(HERE.to_owned() + &web("externalTrafficPolicy: Local") + &endpoints));
    assert!(compiled.pool(Pool::Local).is_empty());
    assert_eq!(compiled.frontend("10.96.0.10:80", Side::Pods).pool, Pool::Cluster);
    // A node port of a ClusterIP Service is nothing.
    assert!(compiled.try_frontend("172.16.0.1:30080", Side::Uplink).is_none());
    // An absent internal policy is Cluster.
    assert_eq!(compiled.pool(Pool::Cluster), ["10.244.2.1:8080"]);
}

#[test]
fn rule_23_hints_are_followed_if_every_ready_endpoint_has_them_and_one_names_us() {
    let pool = |endpoints: &[&str]| on_node(&(HERE.to_owned() + &web("") + &slice("s", endpoints))).pool(Pool::Cluster);
    // Zones.
    assert_eq!(pool(&["10.244.1.1 zones=a", "10.244.2.1 zones=b"]), ["10.244.1.1:8080"]);
    assert_eq!(pool(&["10.244.1.1 zones=a", "10.244.2.1 zones=b,a"]).len(), 2);
    // One has none; nobody names ours.
    assert_eq!(pool(&["10.244.1.1 zones=a", "10.244.2.1"]).len(), 2);
    assert_eq!(pool(&["10.244.1.1 zones=c", "10.244.2.1 zones=b"]).len(), 2);
    // One that is not ready has no say.
    assert_eq!(pool(&["10.244.1.1 zones=a", "10.244.2.1 zones=b", "10.244.2.2 ready=false"]), ["10.244.1.1:8080"]);
    // Nodes come before zones.
    assert_eq!(pool(&["10.244.1.1 nodes=here", "10.244.2.1 nodes=there"]), ["10.244.1.1:8080"]);
    let both = "10.244.1.1 zones=b nodes=here";
    let both = slice("s", &[both, "10.244.2.1 zones=a nodes=there"])
        .replace("hints: {forZones: [{name: b}]}\n    hints: {", "hints: {forZones: [{name: b}], ")
        .replace("hints: {forZones: [{name: a}]}\n    hints: {", "hints: {forZones: [{name: a}], ");
    assert_eq!(on_node(&(HERE.to_owned() + &web("") + &both)).pool(Pool::Cluster), ["10.244.1.1:8080"]);
    // Hints that name other nodes only leave the zones' hints in force.
    let zones = both.replace("name: here", "name: elsewhere");
    assert_eq!(on_node(&(HERE.to_owned() + &web("") + &zones)).pool(Pool::Cluster), ["10.244.2.1:8080"]);
    // If no hinted endpoint is ready any more, the last resort of rule 18 knows no hints.
    assert_eq!(pool(&[&format!("10.244.2.1 zones=b {GOING}")]), ["10.244.2.1:8080"]);
}

#[test]
fn rule_23_load_balancer_addresses_have_everybody_also_on_nodes() {
    let service = named_web("", "type: LoadBalancer", "192.0.2.80");
    let compiled = on_node(&(HERE.to_owned() + &service + &slice("s", &["10.244.1.1 zones=a", "10.244.2.1 zones=b"])));
    for from in [Side::Pods, Side::Uplink] {
        let pool = |at| compiled.frontend(at, from).pool;
        assert_eq!(pool("192.0.2.80:80"), Pool::All, "{from:?}");
        assert_eq!((pool("10.96.0.10:80"), pool("172.16.0.1:30080")), (Pool::Cluster, Pool::Cluster), "{from:?}");
    }
    assert_eq!(compiled.pool(Pool::All).len(), 2);
    assert_eq!(compiled.pool(Pool::Cluster), ["10.244.1.1:8080"]);
    // Without hints, one pool does for both.
    let compiled = on_node(&(HERE.to_owned() + &service + &slice("s", &["10.244.1.1", "10.244.2.1"])));
    assert_eq!(compiled.frontend("192.0.2.80:80", Side::Uplink).pool, Pool::Cluster);
    assert!(compiled.pool(Pool::All).is_empty());
}

#[test]
fn rule_23_balancers_ignore_hints() {
    let service = named_web("", "type: LoadBalancer", "192.0.2.80");
    let yaml = HERE.to_owned() + &service + &slice("s", &["10.244.1.1 zones=a", "10.244.2.1 zones=b"]);
    let a_balancer_on_a_node = levee_control::compile::View::balancer("here");
    assert_eq!(on(&yaml, &a_balancer_on_a_node).pool(Pool::Cluster).len(), 2);
}

#[test]
fn rule_24_traffic_distribution_itself_is_not_read() {
    let endpoints = slice("s", &["10.244.1.1 here", "10.244.2.1 there"]);
    let compiled = on_node(&(HERE.to_owned() + &web("trafficDistribution: PreferSameNode") + &endpoints));
    assert_eq!(compiled.pool(Pool::Cluster).len(), 2);
}

#[test]
fn rule_25_endpoints_anywhere_are_another_thing_than_endpoints_here() {
    let when_empty = |endpoints: &[&str]| {
        let compiled = on_node(&(web("internalTrafficPolicy: Local") + &slice("s", endpoints)));
        compiled.frontend("10.96.0.10:80", Side::Pods).when_empty
    };
    assert_eq!(when_empty(&["10.244.2.1 there"]), WhenEmpty::Drop);
    assert_eq!(when_empty(&[&format!("10.244.2.1 there {GOING}")]), WhenEmpty::Drop);
    assert_eq!(when_empty(&[&format!("10.244.2.1 there {GONE}")]), WhenEmpty::Reject);
}
