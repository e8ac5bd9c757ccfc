//! Rules 26–41: what happens to a packet, and to whom Services belong.

use std::net::IpAddr;

use levee_api::net::{Family, Protocol};
use levee_api::program::{Affinity, FlowPolicy, MidStream, Mode, Pool, Side, WhenEmpty};
use levee_api::tunnel::Tunnel;
use levee_control::compile::{Compiler, Role, View};

use crate::common::*;

fn balanced(spec: &str) -> String {
    HERE.to_owned() + &named_web("", &format!("type: LoadBalancer\n{spec}"), "192.0.2.80")
}

#[test]
fn rule_26_without_any_usable_endpoint_every_kind_of_address_rejects() {
    for spec in ["", "externalTrafficPolicy: Local\ninternalTrafficPolicy: Local"] {
        // No slice at all, and one with nobody usable.
        for endpoints in [String::new(), slice("s", &["10.244.1.1 here ready=false serving=false"])] {
            let yaml = balanced(spec) + &endpoints;
            let compiled = on_node(&yaml);
            for at in ["10.96.0.10:80", "192.0.2.80:80", "172.16.0.1:30080"] {
                for from in [Side::Pods, Side::Uplink] {
                    assert_eq!(compiled.frontend(at, from).when_empty, WhenEmpty::Reject, "{at} {from:?} {spec}");
                }
            }
            assert!(compiled.pool(Pool::Cluster).is_empty() && compiled.pool(Pool::Local).is_empty());
            let compiled = on_balancer(&yaml);
            assert_eq!(compiled.frontend("192.0.2.80:80", Side::Uplink).when_empty, WhenEmpty::Reject);
        }
    }
}

#[test]
fn rule_27_policy_local_with_endpoints_elsewhere_only_drops() {
    let endpoints = slice("s", &["10.244.2.1 there"]);
    let compiled = on_node(&(balanced("externalTrafficPolicy: Local") + &endpoints));
    for at in ["192.0.2.80:80", "172.16.0.1:30080"] {
        let frontend = compiled.frontend(at, Side::Uplink);
        assert_eq!((frontend.pool, frontend.when_empty), (Pool::Local, WhenEmpty::Drop), "{at}");
    }
    assert!(compiled.pool(Pool::Local).is_empty());
    // The ClusterIP has its own policy.
    assert_eq!(compiled.frontend("10.96.0.10:80", Side::Pods).pool, Pool::Cluster);
    let compiled = on_node(&(web("internalTrafficPolicy: Local") + &endpoints));
    let frontend = compiled.frontend("10.96.0.10:80", Side::Pods);
    assert_eq!((frontend.pool, frontend.when_empty), (Pool::Local, WhenEmpty::Drop));
}

#[test]
fn rule_28_service_addresses_are_whole_and_the_ranges_around_them_known() {
    let cidr = "---\napiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: k}\nspec: {cidrs: [10.96.0.0/16]}\n";
    let yaml = balanced("") + cidr;
    let view = View { service_cidrs: vec!["10.97.1.1/16".parse().unwrap()], ..View::node("here") };
    let compiled = on(&yaml, &view);
    // An address that is a VIP rejects ports that it does not have; node addresses stay the kernel's but for the port.
    assert_eq!(compiled.vips(), [("10.96.0.10".to_owned(), false), ("192.0.2.80".to_owned(), false)]);
    let ranges: Vec<_> = compiled.program.service_ranges.iter().map(ToString::to_string).collect();
    assert_eq!(ranges, ["10.96.0.0/16", "10.97.0.0/16"]);
}

#[test]
fn rule_29_load_balancer_addresses_are_those_of_mode_vip() {
    let status = "status:\n  loadBalancer:\n    ingress:\n      - {ip: 192.0.2.1}\n      - {ip: 192.0.2.2, ipMode: VIP}\n      - {ip: 192.0.2.3, ipMode: Proxy}\n      - {hostname: lb.example}\n";
    let compiled = on_balancer(&(web("type: LoadBalancer") + status));
    assert_eq!(
        compiled.vips(),
        [("10.96.0.10".to_owned(), false), ("192.0.2.1".to_owned(), true), ("192.0.2.2".to_owned(), true)]
    );
    assert!(compiled.try_frontend("192.0.2.3:80", Side::Uplink).is_none());
    // Addresses of a family that the Service does not have, and those that are a node's own, are told.
    let compiled = on_balancer(&(HERE.to_owned() + &named_web("", "type: LoadBalancer", "2001:db8::1 172.16.0.1")));
    assert!(compiled.tells("Service default/web", "2001:db8::1 is not served"));
    assert!(compiled.tells("Service default/web", "172.16.0.1 is an address of Node here"));
    // Left over from a time when it was of another type.
    assert_eq!(on_balancer(&(web("type: NodePort") + status)).vips().len(), 1);
}

#[test]
fn rule_30_external_ips_are_reported_and_not_served() {
    let compiled = on_node(&web("externalIPs: [192.0.2.9]"));
    assert!(compiled.tells("Service default/web", "externalIPs"));
    assert!(compiled.try_frontend("192.0.2.9:80", Side::Any).is_none());
}

#[test]
fn rule_31_policy_cluster_may_hide_the_client_and_local_keeps_it() {
    let endpoints = slice("s", &["10.244.1.1 here"]);
    let mode = |spec: &str, at: &str, from| on_node(&(balanced(spec) + &endpoints)).frontend(at, from).mode;
    for at in ["192.0.2.80:80", "172.16.0.1:30080"] {
        assert_eq!(mode("", at, Side::Uplink), Mode::Nat);
        assert_eq!(mode("externalTrafficPolicy: Local", at, Side::Uplink), Mode::Dnat);
        // From pods, the way back passes here anyway.
        assert_eq!(mode("", at, Side::Pods), Mode::Dnat);
    }
    let on_balancers = |metadata: &str, spec: &str| {
        let service = named_web(metadata, &format!("type: LoadBalancer\n{spec}"), "192.0.2.80");
        on_balancer(&(service + &endpoints)).frontend("192.0.2.80:80", Side::Uplink).mode
    };
    let local = "externalTrafficPolicy: Local";
    assert_eq!(on_balancers("", ""), Mode::Nat);
    assert_eq!(on_balancers("", local), Mode::Dnat);
    assert_eq!(on_balancers("annotations: {levee.dev/mode: dnat}", ""), Mode::Dnat);
    assert_eq!(on_balancers("annotations: {levee.dev/mode: nat}", local), Mode::Dnat);
    // The default of a word that is none.
    assert_eq!(on_balancers("annotations: {levee.dev/mode: fast}", ""), Mode::Nat);
}

#[test]
fn rule_31_direct_return_needs_the_services_port_at_the_backend() {
    let annotated = |spec: &str| named_web("annotations: {levee.dev/mode: dsr}", spec, "192.0.2.80");
    let same = slice_with("s", "IPv4", "kubernetes.io/service-name: web", "{name: http, port: 80}", &["10.244.1.1"]);
    let compiled = on_balancer(&(annotated("type: LoadBalancer") + &same));
    assert_eq!(compiled.frontend("192.0.2.80:80", Side::Uplink).mode, Mode::Dsr);
    assert_eq!(compiled.frontend("10.96.0.10:80", Side::Uplink).mode, Mode::Nat);
    let compiled = on_balancer(&(annotated("type: LoadBalancer") + &slice("s", &["10.244.1.1"])));
    assert_eq!(compiled.frontend("192.0.2.80:80", Side::Uplink).mode, Mode::Nat);
    assert!(compiled.tells("Service default/web", "`dsr` needs backends that listen on the Service's port, 80"));
    let local = annotated("type: LoadBalancer\nexternalTrafficPolicy: Local");
    let compiled = on_balancer(&(local + &slice("s", &["10.244.1.1"])));
    assert_eq!(compiled.frontend("192.0.2.80:80", Side::Uplink).mode, Mode::Dnat);
}

/// As somebody sees it whose dataplane has a tunnel.
fn with_tunnel(view: View, yaml: &str) -> Compiled {
    let peers = if view.role == Role::Node { vec!["192.0.2.0/28".parse().unwrap()] } else { Vec::new() };
    on(yaml, &View { tunnels: vec![Tunnel { peers, ..Tunnel::default() }], ..view })
}

#[test]
fn rule_31_a_tunnel_leads_to_the_node_of_each_endpoint_and_ends_there() {
    let service = named_web("annotations: {levee.dev/mode: tunnel}", "type: LoadBalancer", "192.0.2.80");
    let yaml = HERE.to_owned() + &service + &slice("s", &["10.244.1.1 here", "10.244.1.2 here"]);

    let compiled = with_tunnel(View::balancer("balancer-1"), &yaml);
    let frontend = compiled.frontend("192.0.2.80:80", Side::Uplink);
    assert_eq!((frontend.mode, frontend.pool), (Mode::Tunnel, Pool::Cluster));
    assert_eq!(compiled.frontend("10.96.0.10:80", Side::Uplink).mode, Mode::Nat, "its nodes unwrap no ClusterIP");
    let backends = &compiled.service("default/web:http").backends;
    assert!(backends.iter().all(|backend| backend.via.unwrap().address == IpAddr::from([172, 16, 0, 1])));
    assert_eq!(compiled.program.tunnels.len(), 1);

    let compiled = with_tunnel(View::node("here"), &yaml);
    let frontend = compiled.frontend("192.0.2.80:80", Side::Tunnel);
    assert_eq!((frontend.mode, frontend.pool, frontend.when_empty), (Mode::Dnat, Pool::Local, WhenEmpty::Drop));
    assert_eq!(compiled.frontend("192.0.2.80:80", Side::Uplink).mode, Mode::Nat, "besides what comes without");
    assert_eq!(compiled.pool(Pool::Local).len(), 2);
    assert!(compiled.service("default/web:http").backends.iter().all(|backend| backend.via.is_none()));
    assert_eq!(compiled.program.tunnels[0].addresses, [IpAddr::from([172, 16, 0, 1])], "where balancers send to");
}

#[test]
fn rule_31_without_a_tunnel_or_a_node_the_default_is_used_and_told() {
    let service = |spec: &str| named_web("annotations: {levee.dev/mode: tunnel}", spec, "192.0.2.80");
    let plain = service("type: LoadBalancer") + &slice("s", &["10.244.1.1 here", "10.244.2.1 there"]);
    let compiled = on_balancer(&plain);
    assert_eq!(compiled.frontend("192.0.2.80:80", Side::Uplink).mode, Mode::Nat);
    assert!(compiled.tells("Service default/web", "`tunnel` needs `tunnels` in the configuration"));
    let local = service("type: LoadBalancer\nexternalTrafficPolicy: Local") + &slice("s", &["10.244.2.1 there"]);
    for (yaml, mode) in [(plain, Mode::Nat), (local, Mode::Dnat)] {
        let compiled = with_tunnel(View::balancer("balancer-1"), &(HERE.to_owned() + &yaml));
        assert_eq!(compiled.frontend("192.0.2.80:80", Side::Uplink).mode, mode);
        assert!(compiled.tells("Service default/web", "10.244.2.1 has none"));
        let backends = &compiled.service("default/web:http").backends;
        assert!(backends.iter().all(|backend| backend.via.is_none()));
    }
}

#[test]
fn what_becomes_of_flows_is_said_by_annotations_or_else_by_the_configuration() {
    let endpoints = slice("s", &["10.244.1.1"]);
    let annotated =
        |text: &str| named_web(&format!("annotations: {{{text}}}"), "type: LoadBalancer", "192.0.2.80") + &endpoints;
    let flows = |yaml: &str, view: &View| on(yaml, view).service("default/web:http").flows;
    let balancer = View::balancer("b");
    assert_eq!(flows(&annotated(""), &balancer), FlowPolicy::default());
    let both = annotated("levee.dev/drain: 5m, levee.dev/mid-stream: drop");
    let said = FlowPolicy { drain_seconds: Some(300), mid_stream: Some(MidStream::Drop) };
    assert_eq!(flows(&both, &balancer), said);
    let configured =
        View { flows: FlowPolicy { drain_seconds: Some(60), mid_stream: Some(MidStream::Hash) }, ..balancer.clone() };
    assert_eq!(flows(&annotated(""), &configured), configured.flows);
    assert_eq!(flows(&both, &configured), said);
    let none = flows(&annotated("levee.dev/drain: none"), &configured);
    assert_eq!(none, FlowPolicy { drain_seconds: None, ..configured.flows });
    let wrong = on(&annotated("levee.dev/drain: soon, levee.dev/mid-stream: pass"), &configured);
    assert_eq!(wrong.service("default/web:http").flows, configured.flows);
    assert!(wrong.tells("Service default/web", "annotation `levee.dev/drain`: `soon` is no time to drain"));
    assert!(wrong.tells("Service default/web", "annotation `levee.dev/mid-stream`: `pass` is no word"));
}

#[test]
fn rule_32_with_local_pods_of_this_node_reach_the_clusters_endpoints() {
    let endpoints = slice("s", &["10.244.1.1 here", "10.244.2.1 there"]);
    let compiled = on_node(&(balanced("externalTrafficPolicy: Local") + &endpoints));
    assert_eq!(compiled.frontend("192.0.2.80:80", Side::Pods).pool, Pool::Cluster);
    assert_eq!(compiled.frontend("192.0.2.80:80", Side::Uplink).pool, Pool::Local);
    assert_eq!(compiled.pool(Pool::Cluster).len(), 2);
    assert_eq!(compiled.pool(Pool::Local), ["10.244.1.1:8080"]);
}

#[test]
fn rule_33_a_pod_may_reach_itself() {
    // It is a candidate of the frontends that it uses itself, in a mode whose source the dataplane rewrites on a hairpin.
    let compiled = on_node(&(HERE.to_owned() + &web("") + &slice("s", &["10.244.1.1 here"])));
    let frontend = compiled.frontend("10.96.0.10:80", Side::Pods);
    assert_eq!((frontend.mode, frontend.pool), (Mode::Dnat, Pool::Cluster));
    assert_eq!(compiled.pool(Pool::Cluster), ["10.244.1.1:8080"]);
}

#[test]
fn rule_34_source_ranges_guard_load_balancer_addresses_and_a_missing_family_is_told() {
    let endpoints = slice("s", &["10.244.1.1 here"]);
    let ranges = |compiled: &Compiled, at: &str, side| -> Vec<String> {
        compiled.frontend(at, side).source_ranges.iter().map(ToString::to_string).collect()
    };
    for view in [View::node("here"), View::balancer("b")] {
        let side = if view.role == Role::Node { Side::Uplink } else { Side::Any };
        let compiled = on(&(balanced("loadBalancerSourceRanges: [' 198.51.100.7/24 ']") + &endpoints), &view);
        assert_eq!(ranges(&compiled, "192.0.2.80:80", side), ["198.51.100.0/24"]);
        assert!(ranges(&compiled, "10.96.0.10:80", side).is_empty(), "the ClusterIP has none");
        // Any /0 allows all.
        let open = on(&(balanced("loadBalancerSourceRanges: [198.51.100.0/24, 0.0.0.0/0]") + &endpoints), &view);
        assert!(ranges(&open, "192.0.2.80:80", side).is_empty());
    }
    // Node ports have no ranges.
    let compiled = on_node(&(balanced("loadBalancerSourceRanges: [198.51.100.0/24]") + &endpoints));
    assert!(ranges(&compiled, "172.16.0.1:30080", Side::Uplink).is_empty());
    let dual =
        "clusterIPs: [10.96.0.10, fd00::10]\nipFamilies: [IPv4, IPv6]\nloadBalancerSourceRanges: [198.51.100.0/24]";
    assert!(on_node(&balanced(dual)).tells("Service default/web", "no range of IPv6"));
}

#[test]
fn rule_35_client_affinity_has_its_timeout() {
    let affinity = |spec: &str| on_node(&web(spec)).service("default/web:http").affinity;
    assert_eq!(affinity(""), None);
    assert_eq!(affinity("sessionAffinity: None"), None);
    assert_eq!(affinity("sessionAffinity: ClientIP"), Some(Affinity { timeout_seconds: 10_800 }));
    let timeout = "sessionAffinity: ClientIP\nsessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}";
    assert_eq!(affinity(timeout), Some(Affinity { timeout_seconds: 60 }));
    // All addresses of a port share the state because they are frontends of one service.
    let compiled = on_node(&balanced("sessionAffinity: ClientIP"));
    assert_eq!(compiled.program.services.len(), 1);
    assert_eq!(compiled.service("default/web:http").frontends.len(), 6);
}

#[test]
fn rule_36_without_affinity_every_candidate_is_equal() {
    let compiled = on_node(&(web("") + &slice("s", &["10.244.1.2", "10.244.1.1", "10.244.2.1 there"])));
    let service = compiled.service("default/web:http");
    assert!(service.affinity.is_none());
    assert!(service.backends.iter().all(|backend| backend.pools == [Pool::Cluster]));
}

#[test]
fn rule_37_udp_leaves_an_endpoint_that_stopped_if_another_serves() {
    let service = web("ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]");
    let backends_of = |endpoints: &[&str], protocol| {
        let ports = "{name: http, port: 8080}, {name: dns, port: 5353, protocol: UDP}";
        let slice = slice_with("s", "IPv4", "kubernetes.io/service-name: web", ports, endpoints);
        let compiled = on_node(&(service.clone() + &slice));
        let name = if protocol == Protocol::Udp { "default/web:dns" } else { "default/web:http" };
        let service = compiled.find(name, protocol, Family::Ipv4).expect("service").clone();
        (
            backends(&service, |backend| !backend.pools.is_empty()),
            backends(&service, |backend| backend.pools.is_empty()),
        )
    };
    let none: [&str; 0] = [];
    // Stopped, another serves: UDP flows move at once, connections stay.
    let stopped = ["10.244.1.1", "10.244.1.2 ready=false serving=false"];
    let (active, draining) = backends_of(&stopped, Protocol::Udp);
    assert_eq!((active.as_slice(), draining.as_slice()), (&["10.244.1.1:5353".to_owned()][..], &[][..]));
    assert_eq!(backends_of(&stopped, Protocol::Tcp).1, ["10.244.1.2:8080"]);
    // Terminating and serving: both stay.
    let going = ["10.244.1.1", "10.244.1.2 ready=false serving=true terminating=true"];
    assert_eq!(backends_of(&going, Protocol::Udp).1, ["10.244.1.2:5353"]);
    assert_eq!(backends_of(&going, Protocol::Tcp).1, ["10.244.1.2:8080"]);
    // Stopped, and nobody else serves: nowhere to move to.
    let (active, draining) = backends_of(&["10.244.1.2 ready=false serving=false"], Protocol::Udp);
    assert_eq!(
        (active.as_slice(), draining.as_slice()),
        (none.map(String::from).as_slice(), &["10.244.1.2:5353".to_owned()][..])
    );
}

#[test]
fn rule_38_an_endpoint_that_left_its_slices_is_no_backend() {
    let before = on_node(&(web("") + &slice("s", &["10.244.1.1", "10.244.1.2"])));
    let after = on_node(&(web("") + &slice("s", &["10.244.1.1"])));
    assert_eq!(before.service("default/web:http").backends.len(), 2);
    assert_eq!(backends(after.service("default/web:http"), |_| true), ["10.244.1.1:8080"]);
}

#[test]
fn rule_39_health_checks_count_the_ready_endpoints_that_are_here() {
    let checks = |spec: &str, endpoints: &[&str], view: View| {
        let cluster = cluster(&(balanced(spec) + &slice("s", endpoints)));
        let mut compiler = Compiler::new(view);
        compiler.everything(&cluster);
        let of_web = compiler.health_checks().values().flatten();
        of_web.map(|(at, local)| (at.to_string(), *local)).collect::<Vec<_>>()
    };
    let (node, spec) = (|| View::node("here"), "externalTrafficPolicy: Local\nhealthCheckNodePort: 32000");
    let at = |local| vec![("172.16.0.1:32000".to_owned(), local)];
    assert_eq!(checks(spec, &["10.244.1.1 here", "10.244.1.2 here", "10.244.2.1 there"], node()), at(2));
    // Ready is asked for: what only serves while it terminates is about to go.
    assert_eq!(checks(spec, &["10.244.1.1 here ready=false serving=true terminating=true"], node()), at(0));
    assert_eq!(checks(spec, &["10.244.2.1 there"], node()), at(0));
    // Whoever balances for it asks, also one of another class.
    assert_eq!(checks(&format!("{spec}\nloadBalancerClass: example.com/lb"), &["10.244.1.1 here"], node()), at(1));
    // It is in force for policy Local alone, and a balancer is no node.
    assert_eq!(checks("healthCheckNodePort: 32000", &["10.244.1.1 here"], node()), []);
    assert_eq!(checks(spec, &["10.244.1.1 here"], View::balancer("here")), []);
}

#[test]
fn rule_41_services_of_another_class_get_no_address_from_us() {
    let endpoints = slice("s", &["10.244.1.1 here"]);
    let serves = |spec: &str, class_required: bool| {
        let view = View { class_required, ..View::balancer("b") };
        let compiled = on(&(balanced(spec) + &endpoints), &view);
        let vip = compiled.vips().iter().any(|(address, _)| address == "192.0.2.80");
        assert_eq!(vip, compiled.try_frontend("192.0.2.80:80", Side::Uplink).is_some());
        // Its ClusterIP is served all the same.
        assert!(compiled.try_frontend("10.96.0.10:80", Side::Uplink).is_some());
        vip
    };
    assert!(serves("", false));
    assert!(!serves("", true));
    assert!(serves("loadBalancerClass: levee.dev/levee", true));
    assert!(!serves("loadBalancerClass: example.com/other", false));
}

#[test]
fn a_balancer_treats_policy_local_as_one_hop_to_all_ready_endpoints() {
    let endpoints = slice("s", &["10.244.1.1 here", "10.244.2.1 there"]);
    let compiled = on_balancer(&(balanced("externalTrafficPolicy: Local") + &endpoints));
    let frontend = compiled.frontend("192.0.2.80:80", Side::Uplink);
    assert_eq!((frontend.pool, frontend.mode, frontend.from), (Pool::Cluster, Mode::Dnat, Side::Any));
    assert_eq!(compiled.pool(Pool::Cluster).len(), 2);
}

#[test]
fn a_balancer_has_no_node_ports_and_no_pods() {
    let compiled = on(&(balanced("") + &slice("s", &["10.250.0.1 here"])), &View::balancer("here"));
    assert!(compiled.try_frontend("172.16.0.1:30080", Side::Uplink).is_none());
    assert_eq!(compiled.program.local, levee_api::program::Local::default());
}

#[test]
fn what_lives_here_is_told_by_the_node_its_pods_and_its_endpoints() {
    let pod = |name: &str, address: &str, more: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{nodeName: here{more}}}\n\
             status: {{podIP: {address}, podIPs: [{{ip: {address}}}]}}\n"
        )
    };
    let yaml = HERE.to_owned()
        + &pod("inside", "10.244.1.7", "")
        + &pod("outside", "10.250.0.7", "")
        + &pod("host", "172.16.0.1", ", hostNetwork: true")
        + &pod("done", "10.250.0.8", "").replace("status: {", "status: {phase: Succeeded, ")
        + &pod("elsewhere", "10.250.0.9", "").replace("nodeName: here", "nodeName: there")
        + &web("")
        + &slice("s", &["10.250.0.1 here", "10.244.1.1 here", "10.250.0.2 there", "172.16.0.1 here"]);
    let local = on_node(&yaml).program.local;
    let prefixes: Vec<_> = local.prefixes.iter().map(ToString::to_string).collect();
    let pods: Vec<_> = local.pods.iter().map(|pod| pod.address.to_string()).collect();
    assert_eq!(prefixes, ["10.244.1.0/24"]);
    assert_eq!(pods, ["10.250.0.1", "10.250.0.7"]);
}

#[test]
fn a_node_that_is_not_there_is_told() {
    let compiled = on_node(&web(""));
    assert!(compiled.tells("Node here", "no such Node"));
    let compiled = on_node(&web("type: NodePort"));
    assert!(compiled.tells("Service default/web", "node ports are not served here"));
}

#[test]
fn a_service_out_of_all_proportion_does_not_hold_up_the_others() {
    let addresses: Vec<String> =
        (0..65_600u32).map(|n| format!("10.{}.{}.{}", 100 + n / 65_025, n / 255 % 255, n % 255 + 1)).collect();
    let endpoints: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let compiled = on_node(&(web("") + &slice("s", &endpoints)));
    assert_eq!(compiled.service("default/web:http").backends.len(), 65_534);
    assert!(compiled.tells("Service default/web", "the first 65534 by address are used"));
}

#[test]
fn sctp_ports_are_served_as_others_are() {
    let endpoints = slice_with(
        "s",
        "IPv4",
        "kubernetes.io/service-name: web",
        "{name: s, port: 8081, protocol: SCTP}",
        &["10.244.1.1"],
    );
    let ports = "ports: [{name: http, port: 80}, {name: s, port: 81, protocol: SCTP}]";
    let compiled = on_node(&(web(ports) + &endpoints));
    let service = compiled.program.services.iter().find(|service| service.name == "default/web:s").unwrap();
    assert_eq!((service.protocol, service.backends.len()), (Protocol::Sctp, 1));
    assert_eq!(service.backends[0].port, 8081);
}

#[test]
fn rule_21_a_load_balancer_may_do_without_node_ports() {
    // `allocateLoadBalancerNodePorts: false`: its ports have none, and its addresses are served all the same.
    let spec = "allocateLoadBalancerNodePorts: false\nports: [{name: http, port: 80, targetPort: 8080}]";
    let compiled = on_node(&(balanced(spec) + &slice("s", &["10.244.1.1 here", "10.244.2.1 there"])));
    let frontends = &compiled.service("default/web:http").frontends;
    let mut addresses: Vec<_> = frontends.iter().map(|frontend| frontend.address.to_string()).collect();
    addresses.dedup();
    assert_eq!(addresses, ["10.96.0.10", "192.0.2.80"]);
    assert_eq!(compiled.pool(Pool::Cluster).len(), 2);
}
