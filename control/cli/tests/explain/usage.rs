//! How questions are asked, and what is said about bad ones.

use std::process::Output;

use crate::asked::*;

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn explain(more: &[&str]) -> Output {
    levee(["explain"].iter().chain(more))
}

#[test]
fn people_get_words() {
    let (nodes, cluster) = (file("nodes"), file("load_balancer"));
    let (nodes, cluster) = (nodes.display().to_string(), cluster.display().to_string());
    let asked = |packet: &str| {
        let output = explain(&["--cluster", &nodes, &cluster, "--node", "node-1", "--packet", packet]);
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).expect("text")
    };
    assert_eq!(
        asked("tcp 198.51.100.7:40000 > 192.0.2.80:81"),
        "packet      tcp 198.51.100.7:40000 > 192.0.2.80:81, in from uplink\n\
         verdict     reject: answered with TCP RST or ICMP port unreachable (closed_port)\n"
    );
    let forwarded = asked("tcp 10.244.1.5:40000 > 192.0.2.80:80");
    for line in [
        "verdict     forward: rewritten and sent on (service)\n",
        "service     default/web:http\n",
        "mode        dnat: the backend sees the client's own address\n",
        "candidates  10.244.1.10:8080\n            10.244.2.10:8080\n            10.244.3.10:8080\n",
    ] {
        assert!(forwarded.contains(line), "{forwarded}");
    }
}

#[test]
fn the_side_can_be_said() {
    let node = on_node("load_balancer", "node-1");
    // A packet with a pod's address that comes in on the uplink, and one from the pods' side whose source is no pod's.
    let packet = format!("tcp {POD}:40000 > 10.96.0.10:80");
    node.ask(&packet, &["--from", "uplink"]).forwards("uplink", WEB, "nat", &ALL);
    node.ask("tcp 198.51.100.7:40000 > 10.96.0.10:80", &["--from", "pods"]).reaches_from_pod(WEB, &ALL);
}

#[test]
fn a_balancer_has_no_pods_side() {
    let nodes = file("nodes").display().to_string();
    let packet = "tcp 198.51.100.7:40000 > 10.96.0.10:80";
    let output =
        explain(&["--cluster", &nodes, "--node", "b", "--role", "balancer", "--packet", packet, "--from", "pods"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("no port of role pods"), "{}", said(&output));
}

#[test]
fn a_directory_is_a_cluster_too() {
    let directory = tests_directory("explain-directory");
    for name in ["nodes", "load_balancer"] {
        std::fs::copy(file(name), directory.join(format!("{name}.yaml"))).expect("copied");
    }
    let path = directory.display().to_string();
    let packet = "tcp 198.51.100.7:40000 > 192.0.2.80:80";
    let output = explain(&["--cluster", &path, "--node", "node-1", "--packet", packet, "-o", "json"]);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(answer["service"], WEB);
    std::fs::remove_dir_all(directory).expect("removed");
}

#[test]
fn a_node_that_is_not_there_is_told_and_the_answer_still_given() {
    let nodes = file("nodes").display().to_string();
    let packet = "tcp 10.244.1.5:40000 > 203.0.113.1:80";
    let output = explain(&["--cluster", &nodes, "--node", "node-9", "--packet", packet, "-o", "json"]);
    assert!(output.status.success());
    assert!(said(&output).contains("Node node-9: there is no such Node"), "{}", said(&output));
}

#[test]
fn what_the_control_configuration_says_can_be_said() {
    let node = on_node("load_balancer", "node-1");
    let packet = format!("tcp {POD}:40000 > 10.112.0.1:80");
    node.ask(&packet, &[]).is_plain("pods");
    node.ask(&packet, &["--service-cidr", "10.112.0.0/16"]).drops("pods", "service_unallocated", None);
    let packet = format!("tcp {OUTSIDE}:40000 > 192.0.2.80:80");
    let balancer = on_balancer("load_balancer");
    balancer.ask(&packet, &[]).forwards("uplink", WEB, "nat", &ALL);
    balancer.ask(&packet, &["--load-balancer-class-required"]).passes("uplink");
}

#[test]
fn bad_packets_say_what_is_expected() {
    let nodes = file("nodes").display().to_string();
    for packet in ["", "tcp", "gre 1.2.3.4:1 > 5.6.7.8:2", "tcp 1.2.3.4 > 5.6.7.8:9", "tcp 1.2.3.4:5 > [::1]:9"] {
        for place in [&["--cluster", &nodes, "--node", "node-1"][..], &["--socket", "/nowhere"]] {
            let output = explain(&[place, &["--packet", packet]].concat());
            assert_eq!(output.status.code(), Some(2), "{packet}");
            assert!(said(&output).contains("expected `PROTOCOL SOURCE:PORT > DESTINATION:PORT`"), "{}", said(&output));
        }
    }
}

#[test]
fn bad_clusters_are_told_with_their_place() {
    let directory = tests_directory("explain-bad");
    let bad = directory.join("bad.yaml");
    std::fs::write(&bad, "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  clusterIP: 10.96.0.300\n")
        .expect("written");
    let path = bad.display().to_string();
    let output = explain(&["--cluster", &path, "--node", "n", "--packet", "icmp 1.2.3.4 > 5.6.7.8"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).starts_with(&format!("{path}:5:14: ")), "{}", said(&output));
    let output = explain(&["--cluster", "/nowhere", "--node", "n", "--packet", "icmp 1.2.3.4 > 5.6.7.8"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("/nowhere: there is no such file"), "{}", said(&output));
    std::fs::remove_dir_all(directory).expect("removed");
}

#[test]
fn a_cluster_needs_a_node_and_a_node_a_cluster() {
    for arguments in [&["--cluster", "x"][..], &["--node", "x"], &["--role", "balancer"]] {
        let output = explain(&[arguments, &["--packet", "icmp 1.2.3.4 > 5.6.7.8"]].concat());
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    }
}

#[test]
fn tunnels_and_where_they_lead_are_told() {
    let directory = tests_directory("explain-tunnel");
    let service = "---
apiVersion: v1
kind: Service
metadata: {name: web, annotations: {levee.dev/mode: tunnel}}
spec: {type: LoadBalancer, clusterIP: 10.96.0.10, ports: [{name: http, port: 80, targetPort: 8080}]}
status: {loadBalancer: {ingress: [{ip: 192.0.2.80}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.244.7.1], nodeName: worker-7, conditions: {ready: true}}]
---
apiVersion: v1
kind: Node
metadata:
  name: worker-7
  annotations:
    flannel.alpha.coreos.com/backend-type: vxlan
    flannel.alpha.coreos.com/backend-data: '{\"VNI\":1,\"VtepMAC\":\"8e:3f:2a:91:c0:5d\"}'
    flannel.alpha.coreos.com/public-ip: 203.0.113.7
spec: {podCIDR: 10.244.7.0/24}
status: {addresses: [{type: InternalIP, address: 192.0.2.7}]}
";
    let file = directory.join("cluster.yaml");
    std::fs::write(&file, service).expect("written");
    let path = file.display().to_string();
    let packet = "tcp 198.51.100.7:40000 > 192.0.2.80:80";
    let asked = |more: &[&str]| {
        let role = ["--cluster", &path, "--node", "balancer-1", "--role", "balancer", "--packet", packet];
        let output = explain(&[&role[..], more].concat());
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).expect("text")
    };
    let tunnel = asked(&["--tunnel", "geneve"]);
    assert!(tunnel.contains("tunnel      geneve to 192.0.2.7\n"), "{tunnel}");
    assert!(tunnel.contains("mode        tunnel: the backend sees the client's own address"), "{tunnel}");
    let flannel = asked(&["--overlay-flannel"]);
    assert!(flannel.contains("tunnel      vxlan to 203.0.113.7\n"), "{flannel}");
    assert!(flannel.contains("mode        nat"), "{flannel}");
    let neither = asked(&[]);
    assert!(!neither.contains("\ntunnel ") && neither.contains("mode        nat"), "{neither}");
    std::fs::remove_dir_all(directory).expect("removed");
}
