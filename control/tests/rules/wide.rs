//! What a Service serves besides its ports: ranges of ports, and its addresses whole.

use levee_api::net::{Family, Protocol};
use levee_api::program::{Mode, Pool, Side};
use levee_api::tunnel::Tunnel;
use levee_control::compile::View;

use super::common::{Compiled, HERE, backends, named_web, on, on_balancer, on_node, slice, slice_with};

fn annotated(annotations: &str, spec: &str) -> String {
    named_web(&format!("annotations: {{{annotations}}}"), spec, "192.0.2.80")
}

const RANGES: &str = "levee.dev/port-ranges: 'sip=5060-5080, rtp=10000-20000/UDP'";
const WHOLE: &str = "levee.dev/whole-address: 'true'";

/// Where a service is reached from a side, as `address ports mode`.
fn reached(compiled: &Compiled, name: &str, protocol: Protocol, from: Side) -> Vec<String> {
    let service = compiled.find(name, protocol, Family::Ipv4).unwrap_or_else(|| panic!("no {name}"));
    let of = service.frontends.iter().filter(|frontend| frontend.from == from);
    of.map(|frontend| {
        let ports = frontend.ports().map_or("all".to_owned(), |ports| ports.to_string());
        format!("{} {ports} {}", frontend.address, frontend.mode)
    })
    .collect()
}

#[test]
fn a_range_is_a_service_of_its_own_at_every_address_but_the_nodes() {
    let yaml = HERE.to_owned()
        + &annotated(RANGES, "type: LoadBalancer")
        + &slice("s", &["10.244.1.1 here", "10.244.2.1 there"]);
    let compiled = on_balancer(&yaml);
    let both = ["10.96.0.10 10000-20000 nat", "192.0.2.80 10000-20000 nat"];
    assert_eq!(reached(&compiled, "default/web:rtp", Protocol::Udp, Side::Any), both);
    assert_eq!(reached(&compiled, "default/web:sip", Protocol::Tcp, Side::Any).len(), 2);
    assert_eq!(reached(&compiled, "default/web:http", Protocol::Tcp, Side::Any).len(), 2, "ports are as they were");
    let rtp = compiled.find("default/web:rtp", Protocol::Udp, Family::Ipv4).unwrap();
    assert_eq!(backends(rtp, |backend| backend.pools == [Pool::Cluster]), ["10.244.1.1:0", "10.244.2.1:0"]);

    let compiled = on_node(&yaml);
    assert_eq!(reached(&compiled, "default/web:rtp", Protocol::Udp, Side::Uplink), both);
    let all = reached(&compiled, "default/web:rtp", Protocol::Udp, Side::Pods);
    assert_eq!(all, both.map(|text| text.replace("nat", "dnat")), "and no node port");
}

#[test]
fn policies_modes_and_tunnels_are_those_of_its_ports() {
    let endpoints = slice("s", &["10.244.1.1 here", "10.244.2.1 there"]);
    let local = annotated(WHOLE, "type: LoadBalancer\nexternalTrafficPolicy: Local") + &endpoints;
    let compiled = on_node(&(HERE.to_owned() + &local));
    let whole = compiled.find("default/web:*", Protocol::Any, Family::Ipv4).unwrap();
    let at = |from| {
        whole.frontends.iter().find(|frontend| frontend.address.to_string() == "192.0.2.80" && frontend.from == from)
    };
    assert_eq!(at(Side::Uplink).map(|frontend| (frontend.mode, frontend.pool)), Some((Mode::Dnat, Pool::Local)));
    assert_eq!(backends(whole, |backend| backend.pools.contains(&Pool::Local)), ["10.244.1.1:0"]);
    assert_eq!(reached(&on_balancer(&local), "default/web:*", Protocol::Any, Side::Any)[1], "192.0.2.80 all dnat");

    // A packet that is left as it is has the port that was chosen, whatever the ordinary ports lead to.
    let dsr = annotated(&format!("{WHOLE}, levee.dev/mode: dsr"), "type: LoadBalancer") + &endpoints;
    let compiled = on_balancer(&dsr);
    assert_eq!(reached(&compiled, "default/web:*", Protocol::Any, Side::Any)[1], "192.0.2.80 all dsr");
    assert_eq!(
        reached(&compiled, "default/web:http", Protocol::Tcp, Side::Any)[1],
        "192.0.2.80 80 nat",
        "target port 8080"
    );

    let tunnel = annotated(&format!("{RANGES}, levee.dev/mode: tunnel"), "type: LoadBalancer")
        + &slice("s", &["10.244.1.1 here"]);
    let view = |view: View| View { tunnels: vec![Tunnel::default()], ..view };
    let compiled = on(&(HERE.to_owned() + &tunnel), &view(View::balancer("b")));
    assert_eq!(reached(&compiled, "default/web:rtp", Protocol::Udp, Side::Any)[1], "192.0.2.80 10000-20000 tunnel");
    let compiled = on(&(HERE.to_owned() + &tunnel), &view(View::node("here")));
    assert_eq!(reached(&compiled, "default/web:rtp", Protocol::Udp, Side::Tunnel), ["192.0.2.80 10000-20000 dnat"]);
}

#[test]
fn endpoints_are_all_of_the_service_whatever_their_ports() {
    let yaml = annotated(WHOLE, "type: LoadBalancer")
        + &slice("a", &["10.244.1.1 ready=false serving=true terminating=true"])
        + &slice_with(
            "b",
            "IPv4",
            "kubernetes.io/service-name: web",
            "{name: other, port: 9}",
            &["10.244.1.1", "10.244.1.2"],
        )
        + &slice_with("c", "IPv6", "kubernetes.io/service-name: web", "{name: http, port: 9}", &["2001:db8::1"]);
    let compiled = on_balancer(&yaml);
    let whole = compiled.find("default/web:*", Protocol::Any, Family::Ipv4).unwrap();
    assert_eq!(
        backends(whole, |backend| backend.pools == [Pool::Cluster]),
        ["10.244.1.1:0", "10.244.1.2:0"],
        "rule 11"
    );
    assert!(compiled.tells("Service default/web", "room for one client with each endpoint"), "{:?}", compiled.notices);
    assert!(on_balancer(&annotated(RANGES, "")).notices.iter().all(|notice| !notice.message.contains("room for one")));
}

#[test]
fn the_example_is_what_its_comments_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/examples/ranges.yaml");
    let compiled = on_balancer(&std::fs::read_to_string(path).unwrap());
    let sip = |name, protocol| reached(&compiled, name, protocol, Side::Any)[1].clone();
    assert!(sip("media/sip:rtp", Protocol::Udp).ends_with(" 10000-20000 dnat"));
    assert!(sip("media/sip:5061-5080", Protocol::Tcp).ends_with(" 5061-5080 dnat"));
    assert!(sip("media/sip:sip", Protocol::Udp).ends_with(" 5060 dnat"));
    assert!(sip("edge/vpn:*", Protocol::Any).ends_with(" all dsr"));
    let vpn = compiled.find("edge/vpn:*", Protocol::Any, Family::Ipv4).unwrap();
    assert!(vpn.affinity.is_some() && vpn.backends.len() == 2);
}
