//! IPv6 beside IPv4, with real kernels, clients and servers: pods of two nodes, Neighbour Discovery, and Services in each mode.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use levee_api::net::{Family, Mac, Protocol};
use levee_api::program::{Backend, Frontend, Mode, Pool, Program, Service, Side, Vip, WhenEmpty};
use levee_tests::dual::{add_to_host, add_to_node, local_of_both, v6};
use levee_tests::inject::{Injector, discovery, solicitation};
use levee_tests::levee::{Dataplane, Ports, Take, at};
use levee_tests::traffic::{Curl, EchoServer, Nginx, bulk, connect, connect_many, datagram, udp_round_trips};
use levee_tests::{
    ArpPayload, Captured, Census, Direction, Fabric, Host, Lab, Namespace, Ndp, Node, Pod, Scene, Tap, Uplink,
};

const CONNECTIONS: usize = 50;
const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 250);
const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

/// Frames of pods' Neighbour Discovery, by their IPv6 source or their MACs, that are on the fabric.
fn discovery_of_pods(frames: &[Captured], nodes: &[Node]) -> Vec<Ndp> {
    let shown: Vec<Mac> = nodes.iter().flat_map(Node::pods).map(|pod| pod.mac).collect();
    let all = frames.iter().filter(|frame| frame.direction == Direction::In).filter_map(|frame| Ndp::of(&frame.bytes));
    // What levee says of a pod comes from the node's MAC, and shows no other.
    all.filter(|said| shown.contains(&said.ethernet.0) || said.mac.is_some_and(|mac| shown.contains(&mac))).collect()
}

fn assert_pings(from: &Namespace, to: Ipv6Addr) {
    assert_eq!(from.pings(to, 3, 56), 3, "{to}");
}

/// A hundred TCP connections and datagrams each way between pods of two nodes, and what six other nodes heard of it.
fn talk(fabric: &Fabric, nodes: &[Node]) -> Vec<Census> {
    let (one, two) = (&nodes[0].pods()[0], &nodes[1].pods()[0]);
    let _echoes = [one, two].map(|pod| EchoServer::start(&pod.namespace, 7));
    let tap = fabric.tap();
    for (client, server) in [(one, two), (two, one)] {
        let server = at(v6(server.address), 7);
        let outcome = connect_many(&client.namespace, server, CONNECTIONS);
        assert_eq!(outcome.succeeded, CONNECTIONS, "{outcome}");
        let outcome = udp_round_trips(&client.namespace, server, CONNECTIONS, 1400);
        assert_eq!(outcome.succeeded, CONNECTIONS, "{outcome}");
    }
    let frames = tap.frames();
    nodes[2..].iter().map(|node| Census::towards(node.wire().mac, &node.wire().port, &frames)).collect()
}

#[test]
fn without_levee_every_bystander_hears_what_pods_say_by_ipv6() {
    let Some(lab) = Lab::start() else { return };
    let fabric = Fabric::new(&lab);
    let mut nodes: Vec<_> = (1..=4).map(|i| Node::new(&lab, &fabric, i, u8::from(i <= 2))).collect();
    for node in &mut nodes {
        node.connect(Uplink::Bridged(ArpPayload::Left), &[]);
        add_to_node(node, &[]);
    }
    for census in talk(&fabric, &nodes) {
        assert!(census.unknown_unicast >= CONNECTIONS * 8, "{census}");
    }
}

#[test]
fn with_levee_no_bystander_hears_anything_and_no_question_of_a_pod_leaves_its_node() {
    let Some(scene) = Scene::start_with_both(&[2, 2, 0, 0, 0, 0, 0, 0], Take::Owned) else { return };
    scene.fabric.wait_until_quiet();
    let tap = scene.fabric.tap();
    for census in talk(&scene.fabric, &scene.nodes) {
        assert_eq!(census.flooded(), 0, "{census}\n{}", scene.dataplanes[0].counters());
    }
    let [one, two] = scene.nodes[0].pods() else { panic!("two pods were asked for") };
    assert_pings(&one.namespace, v6(scene.nodes[1].pods()[0].address));
    assert_pings(&one.namespace, v6(two.address));
    assert_pings(&one.namespace, v6(scene.nodes[0].address()));
    assert_pings(&one.namespace, v6(scene.nodes[1].address()));
    let frames = tap.frames();
    assert_eq!(discovery_of_pods(&frames, &scene.nodes), []);
    for node in &scene.nodes[..2] {
        for frame in frames.iter().filter(|f| f.direction == Direction::In && *f.interface == *node.wire().port) {
            assert_eq!(frame.bytes.get(6..12), Some(&node.wire().mac.0[..]), "{:02x?}", frame.bytes);
            if let Some(said) = Ndp::of(&frame.bytes) {
                assert!(said.mac.is_none_or(|mac| mac == node.wire().mac), "{said:?}");
            }
        }
    }
    let rate = {
        let server = &scene.nodes[1].pods()[1];
        let _echo = EchoServer::start(&server.namespace, 9);
        bulk(&one.namespace, at(v6(server.address), 9), 10_000_000)
    };
    assert!(rate.unwrap_or_else(|error| panic!("{error}\n{}", scene.dataplanes[0].counters())) > 500_000.0);
}

/// A question to the station with this MAC, about this address.
type Question = Box<dyn Fn(Mac, Ipv6Addr) -> Vec<u8>>;

/// What a station hears in answer, within half a second.
fn answers(tap: &Tap, injector: &Injector, asker: Mac, question: &[u8]) -> Vec<Ndp> {
    tap.clear();
    injector.send(question);
    std::thread::sleep(Duration::from_millis(500));
    let heard = tap
        .frames()
        .into_iter()
        .filter(|frame| frame.direction == Direction::Out)
        .filter_map(|frame| Ndp::of(&frame.bytes));
    let to_it = heard.filter(|said| said.kind == 136 && (said.ethernet.1 == asker || said.ethernet.1.is_multicast()));
    // A bridge sends a group's frame out of every port: each is meant once.
    let mut once: Vec<Ndp> = Vec::new();
    to_it.for_each(|said| {
        if !once.contains(&said) {
            once.push(said)
        }
    });
    once
}

/// The same requests to levee and to a kernel that proxies, and the same answers: `proxy_ndp` is the reference.
#[test]
fn the_fabric_is_answered_as_the_kernels_own_proxy_answers_it() {
    let Some(scene) = Scene::start_with_both(&[1], Take::Owned) else { return };
    let pod = v6(scene.nodes[0].pods()[0].address);
    let asker = scene.host("asker", 201);
    let twin = scene.host("twin", 202);
    add_to_host(&asker, &scene.nodes);
    add_to_host(&twin, &[]);
    let proxied: Ipv6Addr = "2001:db8:244:9::2".parse().expect("an address");
    twin.namespace.sysctl("net.ipv6.conf.all.forwarding", "1");
    twin.namespace.sysctl("net.ipv6.conf.all.proxy_ndp", "1");
    twin.namespace.sysctl("net.ipv6.conf.eth0.proxy_ndp", "1");
    twin.namespace.sysctl("net.ipv6.neigh.eth0.proxy_delay", "0");
    twin.namespace.ip(&format!("neigh add proxy {proxied} dev eth0"));
    // What is asked of the target alone is forwarded, and caught on its way (`ip6_forward`, net/ipv6/ip6_output.c).
    twin.namespace.ip(&format!("-6 route add {proxied} dev eth0"));
    scene.fabric.wait_until_quiet();
    let tap = scene.fabric.tap();
    let injector = Injector::new(&asker.namespace, "eth0");
    let mac = asker.wire.mac;
    let cases: [(&str, Question); 6] = [
        ("asked of the group", Box::new(move |_, target| solicitation(mac, v6(Ipv4Addr::new(192, 0, 2, 201)), target))),
        (
            "asked of it alone",
            Box::new(move |to, target| {
                discovery((mac, to), (v6(Ipv4Addr::new(192, 0, 2, 201)), target), 135, 0, &target.octets())
            }),
        ),
        ("a probe", Box::new(move |_, target| solicitation(mac, Ipv6Addr::UNSPECIFIED, target))),
        (
            "hop limit 254",
            Box::new(move |_, target| {
                let mut frame = solicitation(mac, v6(Ipv4Addr::new(192, 0, 2, 201)), target);
                frame[21] = 254;
                frame
            }),
        ),
        (
            "an option of length 0",
            Box::new(move |_, target| {
                let mut frame = solicitation(mac, v6(Ipv4Addr::new(192, 0, 2, 201)), target);
                let content = [&target.octets()[..], &[1, 0], &mac.0].concat();
                let group = Ipv6Addr::from(<[u8; 16]>::try_from(&frame[38..54]).expect("sixteen bytes"));
                let to = Mac(<[u8; 6]>::try_from(&frame[..6]).expect("six bytes"));
                frame = discovery((mac, to), (v6(Ipv4Addr::new(192, 0, 2, 201)), group), 135, 0, &content);
                frame
            }),
        ),
        (
            "a wrong checksum",
            Box::new(move |_, target| {
                let mut frame = solicitation(mac, v6(Ipv4Addr::new(192, 0, 2, 201)), target);
                frame[56] ^= 1;
                frame
            }),
        ),
    ];
    for (name, question) in cases {
        let node = scene.nodes[0].wire().mac;
        let levee = answers(&tap, &injector, mac, &question(node, pod));
        let kernel = answers(&tap, &injector, mac, &question(twin.wire.mac, proxied));
        // But for the source (see docs/decisions/0014-ndp.md) and whose MAC it is, all is the same.
        let said = |answers: &[Ndp]| -> Vec<_> {
            answers.iter().map(|said| (said.kind, said.flags, said.hop_limit, said.ip.1)).collect()
        };
        println!("{name}: levee {:?}, proxy_ndp {:?}", said(&levee), said(&kernel));
        assert_eq!(said(&levee), said(&kernel), "{name}\nlevee:  {levee:?}\nkernel: {kernel:?}");
        for (answers, target, from) in [(&levee, pod, node), (&kernel, proxied, twin.wire.mac)] {
            for answer in answers {
                assert_eq!((answer.target, answer.ethernet.0), (target, from), "{name}");
                // Who was asked by unicast is known by MAC, and may leave it out (7.2.4): the kernel does.
                let omitted = name == "asked of it alone" && answer.mac.is_none();
                assert!(answer.mac == Some(from) || omitted, "{name}: {answer:?}");
                // A probe's answer is for all nodes; levee sends it to the asker alone (RFC 6085).
                assert!(answer.ethernet.1 == mac || name == "a probe" && from == twin.wire.mac, "{name}: {answer:?}");
            }
        }
    }
    let counters = |name| scene.dataplanes[0].counter(name);
    assert_eq!((counters("ndp_hop_limit"), counters("ndp_option"), counters("ndp_checksum")), (1, 1, 1));
}

/// The state of an address in a namespace: whether it is in use, and whether it was found to be somebody else's.
fn settled(namespace: &Namespace, address: Ipv6Addr) -> (bool, bool) {
    let end = Instant::now() + Duration::from_secs(8);
    loop {
        let text = namespace.ip(&format!("-6 addr show dev eth0 to {address}"));
        let failed = text.contains("dadfailed");
        if failed || !text.contains("tentative") {
            return (!failed && text.contains(&address.to_string()), failed);
        }
        assert!(Instant::now() < end, "{address} stays tentative: {text}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// RFC 4862, 5.4, by the pods' own kernels.
#[test]
fn duplicate_address_detection_in_pods_and_on_the_fabric() {
    let Some(scene) = Scene::start_with_both(&[1], Take::Owned) else { return };
    let node = &scene.nodes[0];
    scene.dataplanes[0].program(&Program {
        generation: 2,
        local: local_of_both(node),
        vips: [VIP, CLUSTER_IP].map(|vip| Vip { address: v6(vip).into(), announce: true }).into(),
        ..Program::default()
    });
    let pod = &node.pods()[0].namespace;
    let host = scene.host("asker", 201);
    add_to_host(&host, &scene.nodes);
    for namespace in [pod, &host.namespace] {
        namespace.sysctl("net.ipv6.conf.eth0.accept_dad", "1");
        namespace.sysctl("net.ipv6.conf.eth0.dad_transmits", "1");
    }
    let free: Ipv6Addr = "2001:db8:244:1::77".parse().expect("an address");
    let elsewhere: Ipv6Addr = "2001:db8:244:9::77".parse().expect("an address");
    for (namespace, who, address, taken) in [
        (pod, "a pod", free, false),
        (pod, "a pod", elsewhere, false),
        (pod, "a pod", v6(CLUSTER_IP), true),
        (&host.namespace, "a host", v6(VIP), true),
        (&host.namespace, "a host", v6(node.pods()[0].address), true),
        (&host.namespace, "a host", elsewhere, false),
    ] {
        namespace.ip(&format!("-6 addr add {address}/128 dev eth0"));
        let outcome = settled(namespace, address);
        assert_eq!(outcome, (!taken, taken), "{who} takes {address}\n{}", scene.dataplanes[0].counters());
    }
}

#[test]
fn what_pods_may_not_say_stays_on_their_node() {
    let Some(scene) = Scene::start_with_both(&[1], Take::Owned) else { return };
    let pod = &scene.nodes[0].pods()[0];
    scene.fabric.wait_until_quiet();
    let tap = scene.fabric.tap();
    let injector = Injector::new(&pod.namespace, "eth0");
    let (link_local, all): (Ipv6Addr, Ipv6Addr) = ("fe80::1".parse().expect("one"), "ff02::1".parse().expect("one"));
    let macs = (pod.mac, Mac([0x33, 0x33, 0, 0, 0, 1]));
    let link = [&[1, 1][..], &pod.mac.0].concat();
    injector.send(&discovery(macs, (link_local, all), 134, 64, &[&[0; 8], &link[..]].concat()));
    injector.send(&discovery(
        macs,
        (link_local, all),
        137,
        0,
        &[&v6(VIP).octets()[..], &v6(pod.address).octets()].concat(),
    ));
    injector.send(&discovery(macs, (v6(pod.address), all), 136, 0x20, &v6(pod.address).octets()));
    scene.dataplanes[0].wait_for("all of them counted", |dataplane| {
        dataplane.counter("pod_router_advertisement") == 1
            && dataplane.counter("pod_redirect") == 1
            && dataplane.counter("pod_ndp_kept") >= 1
    });
    let left: Vec<_> = tap
        .frames()
        .into_iter()
        .filter(|f| f.direction == Direction::In && f.bytes.get(12..14) == Some(&[0x86, 0xdd]))
        .collect();
    assert!(left.is_empty(), "{left:02x?}");
}

fn frontend(address: Ipv6Addr, port: u16, mode: Mode) -> Frontend {
    Frontend {
        address: address.into(),
        port,
        from: Side::Any,
        mode,
        pool: Pool::Cluster,
        when_empty: WhenEmpty::Reject,
        last_port: None,
        source_ranges: Vec::new(),
    }
}

fn service(name: &str, frontend: Frontend, backends: &[SocketAddr]) -> Service {
    let pools = vec![Pool::Cluster, Pool::Local];
    let backend = |at: &SocketAddr| Backend { address: at.ip(), port: at.port(), pools: pools.clone(), via: None };
    Service {
        name: format!("default/{name}:main"),
        protocol: Protocol::Tcp,
        family: Family::Ipv6,
        frontends: vec![frontend],
        backends: backends.iter().map(backend).collect(),
        affinity: None,
        quic: Vec::new(),
        flows: Default::default(),
    }
}

fn program(services: Vec<Service>) -> Program {
    let vips = vec![Vip { address: v6(VIP).into(), announce: true }];
    Program { generation: 1, vips, services, ..Program::default() }
}

/// Three nodes with an nginx pod on each, a balancer, and a client.
struct Balanced {
    _servers: Vec<Nginx>,
    dataplane: Dataplane,
    balancer: Host,
    client: Host,
    pods: Vec<Pod>,
    scene: Scene,
}

impl Balanced {
    fn start(take: Take) -> Option<Balanced> {
        let scene = Scene::start_with_both(&[1, 1, 1], Take::Owned)?;
        let (balancer, client) = (scene.host("balancer", 230), scene.host("client", 201));
        for host in [&balancer, &client] {
            add_to_host(host, &scene.nodes);
        }
        let dataplane = Dataplane::start(&balancer.namespace, Ports::Balancer(take));
        let pods: Vec<_> = scene.nodes.iter().map(|node| node.pods()[0].clone()).collect();
        let servers = pods.iter().map(|pod| Nginx::start(&pod.namespace, &pod.name, 8080)).collect();
        Some(Balanced { _servers: servers, dataplane, balancer, client, pods, scene })
    }

    fn backends(&self, port: u16) -> Vec<SocketAddr> {
        self.pods.iter().map(|pod| at(v6(pod.address), port)).collect()
    }

    /// Requests by several clients at once, all answered, each server a fair share; gives whom the servers saw.
    fn assert_balanced(&self, names: &[String]) -> BTreeSet<String> {
        let tally = Curl::many(&self.client.namespace, at(v6(VIP), 80), 4, 50);
        assert_eq!(tally.answered(), 200, "{tally}\n{}", self.dataplane.counters());
        for name in names {
            assert!(tally.by_server.get(name) >= Some(&25), "{tally}");
        }
        tally.by_client.into_keys().collect()
    }

    fn names(&self) -> Vec<String> {
        self.pods.iter().map(|pod| pod.name.clone()).collect()
    }
}

#[test]
fn nat_reaches_backends_from_a_balancer_with_its_own_address() {
    for take in [Take::Owned, Take::All] {
        let Some(lab) = Balanced::start(take) else { return };
        let web = service("web", frontend(v6(VIP), 80, Mode::Nat), &lab.backends(8080));
        let mut echo = service("echo", frontend(v6(VIP), 53, Mode::Nat), &lab.backends(7));
        echo.protocol = Protocol::Udp;
        lab.dataplane.program(&program(vec![web, echo]));
        assert_eq!(lab.assert_balanced(&lab.names()), [v6(lab.balancer.address).to_string()].into());
        let _echoes: Vec<_> = lab.pods.iter().map(|pod| EchoServer::start(&pod.namespace, 7)).collect();
        for length in [1, 512, 1452] {
            let outcome = udp_round_trips(&lab.client.namespace, at(v6(VIP), 53), 30, length);
            assert_eq!(outcome.succeeded, 30, "{take:?}, {length} bytes: {outcome}\n{}", lab.dataplane.counters());
        }
        // The kernel's own on the same address and NIC.
        assert_pings(&lab.client.namespace, v6(lab.balancer.address));
        let _ssh = EchoServer::start(&lab.balancer.namespace, 22);
        let outcome = connect_many(&lab.client.namespace, at(v6(lab.balancer.address), 22), 20);
        assert_eq!(outcome.succeeded, 20, "{take:?}: {outcome}\n{}", lab.dataplane.counters());
    }
}

#[test]
fn dnat_keeps_the_clients_address_where_the_way_back_passes_the_balancer() {
    let Some(lab) = Balanced::start(Take::All) else { return };
    let address = v6(Ipv4Addr::new(198, 51, 100, 1));
    lab.client.namespace.ip("-6 addr flush dev eth0 scope global");
    lab.client.namespace.ip_batch(&format!(
        "addr add {address}/128 dev eth0 nodad
         route add 2001:db8::/64 dev eth0"
    ));
    lab.balancer.namespace.ip("-6 route add 2001:db8:198::/64 dev eth0");
    for node in &lab.scene.nodes {
        node.namespace().ip(&format!("-6 route add 2001:db8:198::/64 via {} dev eth0", v6(lab.balancer.address)));
    }
    lab.dataplane.program(&program(vec![service("web", frontend(v6(VIP), 80, Mode::Dnat), &lab.backends(8080))]));
    assert_eq!(lab.assert_balanced(&lab.names()), [address.to_string()].into());
}

#[test]
fn dsr_lets_backends_on_the_segment_answer_clients_themselves() {
    let Some(lab) = Balanced::start(Take::Owned) else { return };
    // Each backend holds the VIP where nobody asks for it: ND is answered for an interface's own addresses alone.
    let hosts: Vec<_> = (1..=3u8).map(|n| lab.scene.host(&format!("direct-{n}"), 210 + n)).collect();
    let mut servers = Vec::new();
    for host in &hosts {
        add_to_host(host, &[]);
        host.namespace.ip(&format!("-6 addr add {}/128 dev lo nodad", v6(VIP)));
        servers.push(Nginx::start(&host.namespace, &host.wire.port, 80));
    }
    let backends: Vec<_> = hosts.iter().map(|host| at(v6(host.address), 80)).collect();
    lab.dataplane.program(&program(vec![service("web", frontend(v6(VIP), 80, Mode::Dsr), &backends)]));
    let names: Vec<_> = hosts.iter().map(|host| host.wire.port.clone()).collect();
    assert_eq!(lab.assert_balanced(&names), [v6(lab.client.address).to_string()].into());
}

#[test]
fn vips_answer_pings_and_refuse_at_once_what_they_do_not_have() {
    let Some(lab) = Balanced::start(Take::Owned) else { return };
    let nobody = service("nobody", frontend(v6(VIP), 81, Mode::Nat), &[]);
    lab.dataplane.program(&program(vec![nobody]));
    let client = &lab.client.namespace;
    assert_pings(client, v6(VIP));
    for (port, what) in [(81, "a Service without endpoints"), (8080, "a port that no Service has")] {
        let (result, time) = connect(client, at(v6(VIP), port));
        assert_eq!(result, Err(ErrorKind::ConnectionRefused), "{what}");
        assert!(time < Duration::from_millis(500), "{what}: refused after {time:?}");
        assert_eq!(datagram(client, at(v6(VIP), port)), ErrorKind::ConnectionRefused, "{what}, by UDP");
    }
}

#[test]
fn pods_reach_services_through_their_own_node_and_themselves_through_one() {
    let Some(scene) = Scene::start_with_both(&[2, 1], Take::Owned) else { return };
    let (node, far) = (&scene.nodes[0], &scene.nodes[1].pods()[0]);
    let [one, two] = node.pods() else { panic!("two pods were asked for") };
    let _servers: Vec<_> = [one, two, far].map(|pod| Nginx::start(&pod.namespace, &pod.name, 8080)).into();
    let cluster_ip = v6(CLUSTER_IP);
    let services = [(81, one), (82, two), (83, far)].map(|(port, pod)| {
        let frontend = Frontend { from: Side::Pods, ..frontend(cluster_ip, port, Mode::Dnat) };
        service(&pod.name, frontend, &[at(v6(pod.address), 8080)])
    });
    scene.dataplanes[0].program(&Program {
        generation: 2,
        local: local_of_both(node),
        vips: vec![Vip { address: cluster_ip.into(), announce: false }],
        services: services.into(),
        ..Program::default()
    });
    for (port, server, what) in [(82, two, "a pod beside it"), (83, far, "a pod far away"), (81, one, "itself")] {
        let tally = Curl::many(&one.namespace, at(cluster_ip, port), 1, 20);
        assert_eq!(tally.by_server.get(&server.name), Some(&20), "{what}: {tally}\n{}", scene.dataplanes[0].counters());
        if port == 83 {
            let clients: Vec<_> = tally.by_client.into_keys().collect();
            assert_eq!(clients, [v6(one.address).to_string()], "its address is kept");
        }
    }
    let (result, _) = connect(&one.namespace, at(cluster_ip, 84));
    assert_eq!(result, Err(ErrorKind::ConnectionRefused));
}

#[test]
fn vips_announce_themselves_when_they_are_gained() {
    let Some(scene) = Scene::start_with_both(&[1], Take::Owned) else { return };
    let (node, mac) = (&scene.nodes[0], scene.nodes[0].wire().mac);
    let host = scene.host("client", 201);
    add_to_host(&host, &scene.nodes);
    // It has had the address elsewhere: takeover is what makes it forget.
    let thief = Mac([2, 0, 0, 0, 0, 0x66]);
    host.namespace.ip(&format!("-6 neigh add {} lladdr {thief} dev eth0 nud reachable", v6(VIP)));
    scene.dataplanes[0].program(&Program {
        generation: 2,
        local: local_of_both(node),
        vips: vec![Vip { address: v6(VIP).into(), announce: true }],
        ..Program::default()
    });
    scene.dataplanes[0].wait_for("its VIP at its own MAC in a neighbour's cache", |_| {
        host.namespace.ip(&format!("-6 neigh show {}", v6(VIP))).contains(&mac.to_string())
    });
    assert_pings(&host.namespace, v6(VIP));
}

/// A NIC, and a switch that snoops, let in only groups that somebody has joined.
#[test]
fn the_groups_of_what_is_answered_for_are_heard_on_the_uplink() {
    let Some(scene) = Scene::start_with_both(&[1], Take::Owned) else { return };
    let node = &scene.nodes[0];
    let joined = || node.namespace().ip("maddr show dev eth0").contains("ff02::1:ff00:250");
    let hears_all = || node.namespace().ip("-d link show eth0").contains("allmulti 1");
    assert!(hears_all() && !joined(), "its pods are known by their prefix");
    let program = |generation, local, vips: &[Ipv4Addr]| Program {
        generation,
        local,
        vips: vips.iter().map(|vip| Vip { address: v6(*vip).into(), announce: true }).collect(),
        ..Program::default()
    };
    let tap = scene.fabric.tap();
    scene.dataplanes[0].program(&program(2, local_of_both(node), &[VIP]));
    assert!(joined());
    // The kernel tells switches: a report of MLDv2 (RFC 3810) to ff02::16, behind a router alert.
    let reported = |frame: &Captured| {
        frame.bytes.starts_with(&[0x33, 0x33, 0, 0, 0, 0x16])
            && frame.bytes.windows(4).any(|four| four == [0xff, 0, 2, 0x50])
    };
    scene.dataplanes[0].wait_for("its group reported", |_| tap.frames().iter().any(reported));
    scene.dataplanes[0].program(&program(3, levee_tests::scene::local(node), &[]));
    assert!(!joined() && !hears_all());
}
