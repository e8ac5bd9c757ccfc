//! `overlay: flannel`: how a balancer that is no part of it reaches pods (rule 31).

use std::net::IpAddr;

use levee_api::net::{Family, Protocol};
use levee_api::program::{Mode, Side, Via};
use levee_api::tunnel::Tunnel;
use levee_control::compile::{Overlay, View};

use crate::common::{Compiled, named_web, on, slice, slice_with};

/// A Node as kubeadm and flannel leave it, with both families.
const WORKER: &str = r#"---
apiVersion: v1
kind: Node
metadata:
  name: worker-1
  uid: 5f1e7e5e-8a24-4a0e-9c3d-3a8c0e1f7b11
  resourceVersion: "48213"
  creationTimestamp: "2026-03-02T09:14:08Z"
  labels:
    beta.kubernetes.io/arch: amd64
    kubernetes.io/hostname: worker-1
  annotations:
    flannel.alpha.coreos.com/backend-data: '{"VNI":1,"VtepMAC":"8e:3f:2a:91:c0:5d"}'
    flannel.alpha.coreos.com/backend-type: vxlan
    flannel.alpha.coreos.com/backend-v6-data: '{"VNI":1,"VtepMAC":"de:11:07:5a:b8:03"}'
    flannel.alpha.coreos.com/kube-subnet-manager: "true"
    flannel.alpha.coreos.com/public-ip: 192.0.2.1
    flannel.alpha.coreos.com/public-ipv6: 2001:db8::1
    kubeadm.alpha.kubernetes.io/cri-socket: unix:///var/run/containerd/containerd.sock
    node.alpha.kubernetes.io/ttl: "0"
    volumes.kubernetes.io/controller-managed-attach-detach: "true"
spec:
  podCIDR: 10.244.1.0/24
  podCIDRs: [10.244.1.0/24, 2001:db8:244:1::/64]
status:
  addresses:
    - {type: InternalIP, address: 192.0.2.1}
    - {type: InternalIP, address: 2001:db8::1}
    - {type: Hostname, address: worker-1}
"#;

/// Services of type LoadBalancer with this metadata and spec, two endpoints on the worker.
fn cluster(metadata: &str, spec: &str) -> String {
    let service = named_web(metadata, &format!("type: LoadBalancer\n{spec}"), "192.0.2.80");
    WORKER.to_owned() + &service + &slice("s", &["10.244.1.1 worker-1", "10.244.1.2 worker-1"])
}

fn by_flannel(yaml: &str) -> Compiled {
    let tunnels = vec![Tunnel { port: Some(8472), ..Tunnel::default() }];
    on(yaml, &View { tunnels, overlay: Some(Overlay::Flannel), ..View::balancer("balancer-1") })
}

fn vias(compiled: &Compiled) -> Vec<Option<Via>> {
    compiled.service("default/web:http").backends.iter().map(|backend| backend.via).collect()
}

fn vtep(address: &str, mac: &str) -> Option<Via> {
    Some(Via { address: address.parse().unwrap(), mac: Some(mac.parse().unwrap()) })
}

#[test]
fn rule_31_packets_for_pods_are_wrapped_for_the_endpoint_that_flannel_names() {
    for (spec, mode) in [("", Mode::Nat), ("externalTrafficPolicy: Local", Mode::Dnat)] {
        let compiled = by_flannel(&cluster("", spec));
        assert_eq!(compiled.frontend("192.0.2.80:80", Side::Uplink).mode, mode);
        assert_eq!(vias(&compiled), [vtep("192.0.2.1", "8e:3f:2a:91:c0:5d"); 2]);
        assert_eq!(compiled.program.tunnels[0].udp_port(), 8472);
        assert!(!compiled.tells("Service default/web", "overlay"), "{:?}", compiled.notices);
    }
    // Without a word of it in the configuration, annotations are annotations.
    let view = View { tunnels: vec![Tunnel::default()], ..View::balancer("balancer-1") };
    assert_eq!(vias(&on(&cluster("", ""), &view)), [None, None]);
}

#[test]
fn rule_31_each_family_has_its_own_endpoint() {
    let service = named_web("", "type: LoadBalancer\nclusterIP: fd00::10\nipFamilies: [IPv6]", "2001:db8::80");
    let ports = "{name: http, port: 8080}";
    let labels = "kubernetes.io/service-name: web";
    let endpoints = slice_with("s6", "IPv6", labels, ports, &["2001:db8:244:1::1 worker-1"]);
    let compiled = by_flannel(&(WORKER.to_owned() + &service + &endpoints));
    let service = compiled.find("default/web:http", Protocol::Tcp, Family::Ipv6).expect("it has IPv6");
    assert_eq!(service.backends[0].via, vtep("2001:db8::1", "de:11:07:5a:b8:03"));
}

#[test]
fn rule_31_modes_that_leave_packets_alone_are_not_the_overlays() {
    let compiled = by_flannel(&cluster("annotations: {levee.dev/mode: tunnel}", ""));
    assert_eq!(compiled.frontend("192.0.2.80:80", Side::Uplink).mode, Mode::Nat);
    assert!(compiled.tells("Service default/web", "`tunnel` is not to be had together with `overlay`"));
    assert_eq!(vias(&compiled), [vtep("192.0.2.1", "8e:3f:2a:91:c0:5d"); 2]);
    let same = cluster("annotations: {levee.dev/mode: dsr}", "ports: [{name: http, port: 8080}]");
    let compiled = by_flannel(&same);
    assert_eq!(compiled.frontend("192.0.2.80:8080", Side::Uplink).mode, Mode::Dsr);
    assert_eq!(vias(&compiled), [None, None]);
}

#[test]
fn rule_31_what_flannel_does_not_say_or_says_wrong_is_told_and_routed() {
    let data = r#"'{"VNI":1,"VtepMAC":"8e:3f:2a:91:c0:5d"}'"#;
    for (from, to, expected) in [
        ("backend-type: vxlan", "backend-type: wireguard", "its backend is `wireguard`"),
        (data, "'{}'", "is not what VXLAN has"),
        (data, "'[1'", "is not what VXLAN has"),
        ("\"VNI\":1", "\"VNI\":7", "Node worker-1 is on network 7, and `tunnels` has 1"),
        ("public-ip: 192.0.2.1", "public-ip: 224.0.0.1", "is no IPv4 address of a station"),
        ("flannel.alpha.coreos.com/public-ip: ", "flannel.example.com/public-ip: ", "has no annotations of flannel's"),
    ] {
        let yaml = cluster("", "").replacen(from, to, 1);
        let compiled = by_flannel(&yaml);
        assert_eq!(vias(&compiled), [None, None], "{to}");
        assert!(compiled.tells("Service default/web", expected), "{to}: {:?}", compiled.notices);
        assert!(
            compiled.tells("Service default/web", "10.244.1.1, and 1 more is not reached"),
            "{:?}",
            compiled.notices
        );
    }
    let nobody: IpAddr = "10.244.9.1".parse().unwrap();
    let service = named_web("", "type: LoadBalancer", "192.0.2.80");
    let compiled =
        by_flannel(&(WORKER.to_owned() + &service + &slice("s", &["10.244.1.1 worker-1", "10.244.9.1 gone"])));
    let without: Vec<_> =
        compiled.service("default/web:http").backends.iter().filter(|backend| backend.via.is_none()).collect();
    assert_eq!(without.iter().map(|backend| backend.address).collect::<Vec<_>>(), [nobody]);
}
