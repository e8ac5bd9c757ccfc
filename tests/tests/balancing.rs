//! Services: each way to reach a backend, with real clients and servers, on a balancer and on a node.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use levee_api::net::{Family, Protocol};
use levee_api::program::{Affinity, Backend, Frontend, Mode, Pool, Program, Service, Side, Vip, WhenEmpty};
use levee_tests::levee::{Dataplane, Ports, Take, at, cores};
use levee_tests::scene::local;
use levee_tests::traffic::{Curl, EchoServer, Load, Nginx, bulk, connect, datagram, udp_round_trips};
use levee_tests::{Host, Pod, Scene};

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 250);
const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
const EVERY_POOL: [Pool; 2] = [Pool::Cluster, Pool::Local];

fn service(name: &str, frontends: Vec<Frontend>, backends: &[SocketAddr]) -> Service {
    let backend =
        |at: &SocketAddr| Backend { address: at.ip(), port: at.port(), pools: EVERY_POOL.to_vec(), via: None };
    Service {
        name: format!("default/{name}:main"),
        protocol: Protocol::Tcp,
        family: Family::Ipv4,
        frontends,
        backends: backends.iter().map(backend).collect(),
        affinity: None,
        quic: Vec::new(),
        flows: Default::default(),
    }
}

fn frontend(address: Ipv4Addr, port: u16, mode: Mode) -> Frontend {
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

fn program(generation: u64, services: Vec<Service>) -> Program {
    let vips = vec![Vip { address: VIP.into(), announce: true }];
    Program { generation, vips, services, ..Program::default() }
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
        Balanced::start_with(take, 1)
    }

    fn start_with(take: Take, workers: u8) -> Option<Balanced> {
        let scene = Scene::start(&[1, 1, 1], Take::Owned)?;
        let balancer = Host::with_queues(&scene.lab, &scene.fabric, "balancer", 230, workers);
        balancer.route_to_pods(&scene.routes());
        let client = scene.host("client", 201);
        let on_cores: Vec<_> = (0..usize::from(workers)).collect();
        let dataplane = Dataplane::start_with(&balancer.namespace, Ports::Balancer(take), &on_cores, "");
        let pods: Vec<_> = scene.nodes.iter().map(|node| node.pods()[0].clone()).collect();
        let servers = pods.iter().map(|pod| Nginx::start(&pod.namespace, &pod.name, 8080)).collect();
        Some(Balanced { _servers: servers, dataplane, balancer, client, pods, scene })
    }

    fn backends(&self) -> Vec<SocketAddr> {
        self.pods.iter().map(|pod| at(pod.address, 8080)).collect()
    }

    /// 300 requests by four clients at once, all answered, by every server a fair share of them.
    fn assert_balanced(&self, names: &[String]) -> BTreeSet<String> {
        let tally = Curl::many(&self.client.namespace, at(VIP, 80), 4, 75);
        assert_eq!(tally.answered(), 300, "{tally}\n{}", self.dataplane.counters());
        for name in names {
            // A hundred each are expected; under 50 has a probability of 10⁻⁹.
            assert!(tally.by_server.get(name) >= Some(&50), "{tally}");
        }
        tally.by_client.into_keys().collect()
    }

    fn names(&self) -> Vec<String> {
        self.pods.iter().map(|pod| pod.name.clone()).collect()
    }
}

#[test]
fn rules_31_and_36_nat_reaches_backends_from_a_balancer_and_hides_the_client() {
    let Some(lab) = Balanced::start(Take::Owned) else { return };
    lab.dataplane.program(&program(1, vec![service("web", vec![frontend(VIP, 80, Mode::Nat)], &lab.backends())]));
    assert_eq!(lab.assert_balanced(&lab.names()), [lab.balancer.address.to_string()].into());
}

#[test]
fn nat_works_where_the_whole_uplink_is_taken() {
    let Some(lab) = Balanced::start(Take::All) else { return };
    lab.dataplane.program(&program(1, vec![service("web", vec![frontend(VIP, 80, Mode::Nat)], &lab.backends())]));
    assert_eq!(lab.assert_balanced(&lab.names()), [lab.balancer.address.to_string()].into());
}

#[test]
fn two_workers_share_flows_whose_replies_come_in_on_the_other_ones_queue() {
    if cores() < 2 {
        eprintln!("SKIPPED: two workers need two cores");
        return;
    }
    let Some(lab) = Balanced::start_with(Take::Owned, 2) else { return };
    let _echo = EchoServer::start(&lab.pods[0].namespace, 7);
    let echo = service("echo", vec![frontend(VIP, 7, Mode::Nat)], &[at(lab.pods[0].address, 7)]);
    let web = service("web", vec![frontend(VIP, 80, Mode::Nat)], &lab.backends());
    lab.dataplane.program(&program(1, vec![echo, web]));
    for _ in 0..2 {
        assert_eq!(lab.assert_balanced(&lab.names()), [lab.balancer.address.to_string()].into());
    }
    for _ in 0..4 {
        bulk(&lab.client.namespace, at(VIP, 7), 2_000_000)
            .unwrap_or_else(|error| panic!("{error}\n{}", lab.dataplane.counters()));
    }
    let status = lab.dataplane.get("/v1/status");
    let flows: Vec<_> = (0..2).map(|worker| status["workers"][worker]["flows"].as_u64().unwrap_or(0)).collect();
    assert!(flows.iter().all(|flows| *flows > 50), "both have flows: {flows:?}");
    assert!(
        lab.dataplane.counter("handed_over") > 0,
        "and hand over what is the other's: {}",
        lab.dataplane.counters()
    );
    assert_eq!(lab.dataplane.counter("handed_over"), lab.dataplane.counter("taken_over"));
}

#[test]
fn rule_31_dnat_keeps_the_clients_address_where_the_way_back_passes_the_balancer() {
    let Some(lab) = Balanced::start(Take::All) else { return };
    // The client lives in another network, whose way from the nodes leads over the balancer.
    let address = Ipv4Addr::new(198, 51, 100, 1);
    lab.client.namespace.ip_batch(&format!(
        "addr flush dev eth0
         addr add {address}/32 dev eth0
         route add 192.0.2.0/24 dev eth0"
    ));
    lab.balancer.namespace.ip("route add 198.51.100.0/24 dev eth0");
    for node in &lab.scene.nodes {
        node.namespace().ip(&format!("route add 198.51.100.0/24 via {} dev eth0", lab.balancer.address));
    }
    lab.dataplane.program(&program(1, vec![service("web", vec![frontend(VIP, 80, Mode::Dnat)], &lab.backends())]));
    assert_eq!(lab.assert_balanced(&lab.names()), [address.to_string()].into());
}

#[test]
fn dsr_lets_backends_on_the_segment_answer_clients_themselves() {
    let Some(lab) = Balanced::start(Take::Owned) else { return };
    // Each backend holds the VIP, without saying so.
    let hosts: Vec<_> = (1..=3u8).map(|n| lab.scene.host(&format!("direct-{n}"), 210 + n)).collect();
    let mut servers = Vec::new();
    for host in &hosts {
        host.namespace.sysctl("net.ipv4.conf.all.arp_ignore", "1");
        host.namespace.sysctl("net.ipv4.conf.all.arp_announce", "2");
        host.namespace.ip(&format!("addr add {VIP}/32 dev lo"));
        servers.push(Nginx::start(&host.namespace, &host.wire.port, 80));
    }
    let backends: Vec<_> = hosts.iter().map(|host| at(host.address, 80)).collect();
    lab.dataplane.program(&program(1, vec![service("web", vec![frontend(VIP, 80, Mode::Dsr)], &backends)]));
    let names: Vec<_> = hosts.iter().map(|host| host.wire.port.clone()).collect();
    assert_eq!(lab.assert_balanced(&names), [lab.client.address.to_string()].into());
}

#[test]
fn rule_35_a_client_with_affinity_stays_with_its_server() {
    affinity_holds(1);
}

#[test]
fn affinity_holds_whichever_of_two_workers_a_connection_comes_in_on() {
    if cores() < 2 {
        eprintln!("SKIPPED: two workers need two cores");
        return;
    }
    affinity_holds(2);
}

fn affinity_holds(workers: u8) {
    let Some(lab) = Balanced::start_with(Take::Owned, workers) else { return };
    let mut web = service("web", vec![frontend(VIP, 80, Mode::Nat)], &lab.backends());
    web.affinity = Some(Affinity { timeout_seconds: 60 });
    lab.dataplane.program(&program(1, vec![web]));
    let tally = Curl::many(&lab.client.namespace, at(VIP, 80), 4, 25);
    assert_eq!(tally.answered(), 100, "{tally}");
    assert_eq!(tally.by_server.len(), 1, "{tally}");
    // Other clients have servers of their own: twenty of them do not all have the same but with probability 3⁻¹⁹.
    let mut servers = BTreeSet::new();
    for last in 101..=120 {
        lab.client.namespace.ip(&format!("addr add 192.0.2.{last}/32 dev eth0"));
        let answer =
            lab.client.namespace.run(&format!("curl -s --max-time 5 --interface 192.0.2.{last} http://{VIP}/"));
        servers.extend(answer.split(' ').next().map(str::to_owned));
    }
    assert!(servers.len() > 1, "{servers:?}");
    assert_eq!(lab.dataplane.counter("handed_over") > 0, workers > 1, "{}", lab.dataplane.counters());
}

#[test]
fn taking_a_backend_out_under_load_fails_no_request() {
    let Some(lab) = Balanced::start(Take::Owned) else { return };
    let web = service("web", vec![frontend(VIP, 80, Mode::Nat)], &lab.backends());
    lab.dataplane.program(&program(1, vec![web.clone()]));
    let load = Load::start(&lab.client.namespace, at(VIP, 80), 4);
    std::thread::sleep(Duration::from_millis(300));
    // First it drains: no new flows, those that it has go on. Then it is gone.
    let mut draining = web.clone();
    draining.backends[0].pools.clear();
    lab.dataplane.program(&program(2, vec![draining]));
    std::thread::sleep(Duration::from_millis(300));
    let mut without = web;
    let gone = without.backends.remove(0);
    lab.dataplane.program(&program(3, vec![without]));
    std::thread::sleep(Duration::from_millis(300));
    let tally = load.finish();
    assert_eq!(tally.failures, [""; 0], "{tally}\n{}", lab.dataplane.counters());
    assert!(tally.answered() >= 100, "{tally}");
    let tally = Curl::many(&lab.client.namespace, at(VIP, 80), 2, 50);
    assert_eq!(tally.answered(), 100, "{tally}");
    assert_eq!(tally.by_server.get(&lab.pods[0].name), None, "{gone:?} is gone: {tally}");
}

#[test]
fn rules_26_to_28_vips_answer_pings_and_refuse_at_once_what_they_do_not_have() {
    let Some(lab) = Balanced::start(Take::Owned) else { return };
    let web = service("web", vec![frontend(VIP, 80, Mode::Nat)], &lab.backends());
    let nobody = service("nobody", vec![frontend(VIP, 81, Mode::Nat)], &[]);
    let mut drops = service("drops", vec![frontend(VIP, 82, Mode::Nat)], &[]);
    drops.frontends[0].when_empty = WhenEmpty::Drop;
    lab.dataplane.program(&program(1, vec![web, nobody, drops]));
    let client = &lab.client.namespace;
    assert_eq!(client.pings(VIP, 5, 1000), 5);
    let soon = Duration::from_millis(500);
    for (port, what) in [(81, "a Service without endpoints"), (8080, "a port that no Service has")] {
        let (result, time) = connect(client, at(VIP, port));
        assert_eq!(result, Err(ErrorKind::ConnectionRefused), "{what}");
        assert!(time < soon, "{what}: refused after {time:?}");
        assert_eq!(datagram(client, at(VIP, port)), ErrorKind::ConnectionRefused, "{what}, by UDP");
    }
    let (result, time) = connect(client, at(VIP, 82));
    assert_eq!(result, Err(ErrorKind::TimedOut), "dropped, since somebody elsewhere has endpoints; {time:?}");
    let (result, _) = connect(client, at(VIP, 80));
    assert_eq!(result, Ok(()));
}

#[test]
fn explain_tells_what_then_happens() {
    let Some(lab) = Balanced::start(Take::Owned) else { return };
    lab.dataplane.program(&program(1, vec![service("web", vec![frontend(VIP, 80, Mode::Nat)], &lab.backends())]));
    let mut servers = BTreeSet::new();
    for port in 20001..20021 {
        let packet = format!("tcp {}:{port} > {VIP}:80", lab.client.address);
        let output = lab.dataplane.cli().args(["-o", "json", "explain", "--packet", &packet]).output();
        let told: serde_json::Value =
            serde_json::from_slice(&output.expect("levee can be run").stdout).expect("one JSON object");
        assert_eq!(told["verdict"], "forward", "{told}");
        assert_eq!(told["candidates"].as_array().map(Vec::len), Some(3), "{told}");
        let answer = lab.client.namespace.run(&format!("curl -s --max-time 5 --local-port {port} http://{VIP}/"));
        let server = lab.pods.iter().find(|pod| answer.starts_with(&pod.name)).expect("one of them answered");
        assert_eq!(told["backend"], format!("{}:8080", server.address), "{told}");
        servers.insert(server.name.clone());
    }
    assert!(servers.len() > 1, "{servers:?}");
}

#[test]
fn bulk_data_passes_nat_whole() {
    let Some(lab) = Balanced::start(Take::Owned) else { return };
    let _echo = EchoServer::start(&lab.pods[0].namespace, 7);
    let backend = at(lab.pods[0].address, 7);
    lab.dataplane.program(&program(1, vec![service("echo", vec![frontend(VIP, 7, Mode::Nat)], &[backend])]));
    let rate = bulk(&lab.client.namespace, at(VIP, 7), 20_000_000);
    let rate = rate.unwrap_or_else(|error| panic!("{error}\n{}", lab.dataplane.counters()));
    assert!(rate > 500_000.0, "{rate:.0} bytes per second");
}

#[test]
fn udp_is_balanced_and_echoed() {
    let Some(lab) = Balanced::start(Take::Owned) else { return };
    let _echoes: Vec<_> = lab.pods.iter().map(|pod| EchoServer::start(&pod.namespace, 7)).collect();
    let backends: Vec<_> = lab.pods.iter().map(|pod| at(pod.address, 7)).collect();
    let mut echo = service("echo", vec![frontend(VIP, 53, Mode::Nat)], &backends);
    echo.protocol = Protocol::Udp;
    lab.dataplane.program(&program(1, vec![echo]));
    for length in [1, 512, 1472] {
        let outcome = udp_round_trips(&lab.client.namespace, at(VIP, 53), 60, length);
        assert_eq!(outcome.succeeded, 60, "{length} bytes: {outcome}\n{}", lab.dataplane.counters());
    }
    let flows = lab.dataplane.get("/v1/status")["flows"].as_u64();
    assert!(flows >= Some(100), "each client port is a flow: {flows:?}");
}

#[test]
fn rule_33_pods_reach_services_through_their_own_node_and_themselves_through_one() {
    let Some(scene) = Scene::start(&[2, 1], Take::Owned) else { return };
    let (node, far) = (&scene.nodes[0], &scene.nodes[1].pods()[0]);
    let [one, two] = node.pods() else { panic!("two pods were asked for") };
    let _servers: Vec<_> = [one, two, far].map(|pod| Nginx::start(&pod.namespace, &pod.name, 8080)).into();
    let services: Vec<_> = [(81, one), (82, two), (83, far)]
        .map(|(port, pod)| {
            let frontend = Frontend { from: Side::Pods, ..frontend(CLUSTER_IP, port, Mode::Dnat) };
            service(&pod.name, vec![frontend], &[at(pod.address, 8080)])
        })
        .into();
    scene.dataplanes[0].program(&Program {
        generation: 2,
        local: local(node),
        service_ranges: vec!["10.96.0.0/16".parse().expect("a prefix")],
        vips: vec![Vip { address: CLUSTER_IP.into(), announce: false }],
        tunnels: Vec::new(),
        services,
        ..Program::default()
    });
    for (port, server, what) in [(82, two, "a pod beside it"), (83, far, "a pod far away"), (81, one, "itself")] {
        let tally = Curl::many(&one.namespace, at(CLUSTER_IP, port), 1, 20);
        assert_eq!(tally.by_server.get(&server.name), Some(&20), "{what}: {tally}\n{}", scene.dataplanes[0].counters());
        if port == 83 {
            assert_eq!(
                tally.by_client.into_keys().collect::<Vec<_>>(),
                [one.address.to_string()],
                "its address is kept"
            );
        }
    }
    let (result, _) = connect(&one.namespace, at(CLUSTER_IP, 84));
    assert_eq!(result, Err(ErrorKind::ConnectionRefused));
    let (result, _) = connect(&one.namespace, at(Ipv4Addr::new(10, 96, 0, 99), 80));
    assert_eq!(result, Err(ErrorKind::TimedOut), "an address inside of the range that no Service has");
}

#[test]
fn a_node_port_is_levees_and_the_rest_of_the_address_the_kernels() {
    for take in [Take::Owned, Take::All] {
        let Some(scene) = Scene::start(&[1, 1], take) else { return };
        let (node, pods) = (&scene.nodes[0], scene.nodes.iter().map(|node| &node.pods()[0]));
        let _servers: Vec<_> = pods.clone().map(|pod| Nginx::start(&pod.namespace, &pod.name, 8080)).collect();
        let backends: Vec<_> = pods.map(|pod| at(pod.address, 8080)).collect();
        let on_the_node = frontend(node.address(), 30080, Mode::Nat);
        scene.dataplanes[0].program(&Program {
            generation: 2,
            local: local(node),
            services: vec![service("web", vec![on_the_node], &backends)],
            ..Program::default()
        });
        // As sshd would: the kernel's own, on the same address and NIC.
        let _ssh = EchoServer::start(node.namespace(), 22);
        let client = scene.host("client", 201);
        let tally = Curl::many(&client.namespace, at(node.address(), 30080), 2, 50);
        assert_eq!(
            (tally.answered(), tally.by_server.len()),
            (100, 2),
            "{take:?}: {tally}\n{}",
            scene.dataplanes[0].counters()
        );
        for (what, from) in [
            ("a host", &client.namespace),
            ("its own pod", &node.pods()[0].namespace),
            ("a pod elsewhere", &scene.nodes[1].pods()[0].namespace),
        ] {
            let outcome = levee_tests::traffic::connect_many(from, at(node.address(), 22), 20);
            assert_eq!(outcome.succeeded, 20, "{take:?}, {what}: {outcome}\n{}", scene.dataplanes[0].counters());
        }
        assert_eq!(client.namespace.pings(node.address(), 3, 56), 3, "{take:?}");
        let (result, _) = connect(&client.namespace, at(node.address(), 30081));
        assert_eq!(result, Err(ErrorKind::ConnectionRefused), "{take:?}: by the kernel");
    }
}
