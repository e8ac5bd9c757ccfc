//! The node's own IP stack: its processes reach Services, and Services reach its processes.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use levee_api::net::{Family, Protocol};
use levee_api::program;
use levee_tests::cluster::{Cluster, Endpoint, Service, State};
use levee_tests::dual::{local_of_both, v6};
use levee_tests::levee::{Control, Dataplane, Role, Take, at};
use levee_tests::traffic::{Curl, EchoServer, Nginx, connect_many, udp_round_trips};
use levee_tests::{Namespace, Node, Scene};

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 250);
const WEB: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
const ECHO: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 11);
const HOSTED: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 12);

/// Two nodes with a pod each, both with levee and its control process.
struct Cast {
    controls: Vec<Control>,
    cluster: Cluster,
    scene: Scene,
}

impl Cast {
    fn start(services: impl FnOnce(&[Node]) -> Vec<Service>) -> Option<Cast> {
        let scene = Scene::start(&[1, 1], Take::Owned)?;
        let cluster = Cluster::new(&scene.lab, &scene.nodes);
        for service in services(&scene.nodes) {
            cluster.apply(&service);
        }
        let controls = scene
            .nodes
            .iter()
            .zip(&scene.dataplanes)
            .map(|(node, dataplane)| {
                // The scene's own program was generation 1.
                let control = Control::start(node.namespace(), Role::Node, &node.name(), &cluster, dataplane);
                dataplane.wait_for_generation(2);
                control
            })
            .collect();
        let cast = Cast { controls, cluster, scene };
        for (node, dataplane) in cast.scene.nodes.iter().zip(&cast.scene.dataplanes) {
            wait_for_ways(node, dataplane);
        }
        Some(cast)
    }

    fn dataplane(&self) -> &Dataplane {
        &self.scene.dataplanes[0]
    }
}

/// Routes follow a program within milliseconds, on another thread.
fn wait_for_ways(node: &Node, dataplane: &Dataplane) {
    dataplane.wait_for("its routes", |_| node.namespace().ip("route show table 76").contains("10.96.0.0/16"));
}

fn endpoint(node: &Node) -> Endpoint {
    Endpoint::of(node, &node.pods()[0])
}

/// On the node's own network.
fn hosted(node: &Node) -> Endpoint {
    Endpoint { address: node.address(), node: node.name(), state: State::Ready }
}

fn connect(client: &Namespace, server: SocketAddr) -> Result<(), ErrorKind> {
    let result = client.enter(|| TcpStream::connect_timeout(&server, Duration::from_secs(3)));
    result.map(drop).map_err(|error| error.kind())
}

/// All requests are answered, by this server, which sees this client.
#[track_caller]
fn assert_answered(cast: &Cast, what: &str, client: &Namespace, server: SocketAddr, by: &str, seen: Option<Ipv4Addr>) {
    let tally = Curl::many(client, server, 2, 15);
    assert_eq!(tally.by_server.get(by), Some(&30), "{what}: {tally}\n{}", cast.dataplane().counters());
    if let Some(seen) = seen {
        assert_eq!(tally.by_client.get(&seen.to_string()), Some(&30), "{what}: {:?}", tally.by_client);
    }
}

#[test]
fn rule_32_processes_of_a_node_are_balanced_as_its_pods_are() {
    let cast = Cast::start(|nodes| {
        let web = Service {
            vip: Some(VIP),
            node_port: Some(30080),
            // No endpoint here: from outside this would be dropped (rule 27).
            local: true,
            endpoints: vec![endpoint(&nodes[1])],
            ..Service::new("web", WEB)
        };
        let echo = Service {
            protocol: Protocol::Udp,
            target_port: 7,
            node_port: Some(30007),
            endpoints: nodes.iter().map(endpoint).collect(),
            ..Service::new("echo", ECHO)
        };
        let beside =
            Service { endpoints: vec![endpoint(&nodes[0])], ..Service::new("beside", Ipv4Addr::new(10, 96, 0, 13)) };
        vec![web, echo, beside]
    });
    let Some(cast) = cast else { return };
    let [here, there] = &cast.scene.nodes[..] else { panic!("two nodes were asked for") };
    let _servers: Vec<_> = [here, there].map(|node| Nginx::start(&node.pods()[0].namespace, &node.name(), 8080)).into();
    let _echoes: Vec<_> = [here, there].map(|node| EchoServer::start(&node.pods()[0].namespace, 7)).into();
    let process = here.namespace();
    let by = |what, server, by: &str| assert_answered(&cast, what, process, server, by, Some(here.address()));

    by("a ClusterIP", at(WEB, 80), "node-2");
    by("a load-balancer address with policy Local", at(VIP, 80), "node-2");
    by("a node port of its own, with policy Local", at(here.address(), 30080), "node-2");
    by("a pod beside it, by a ClusterIP", at(Ipv4Addr::new(10, 96, 0, 13), 80), "node-1");
    for server in [at(ECHO, 80), at(here.address(), 30007)] {
        for length in [1, 1400] {
            let outcome = udp_round_trips(process, server, 20, length);
            assert_eq!(outcome.succeeded, 20, "{server}, {length} bytes: {outcome}\n{}", cast.dataplane().counters());
        }
    }

    // Rules 26 and 28.
    assert_eq!(connect(process, at(WEB, 81)), Err(ErrorKind::ConnectionRefused), "a port that the Service has not");
    assert_eq!(process.pings(WEB, 3, 56), 3);
    cast.cluster.apply(&Service { endpoints: Vec::new(), ..Service::new("web", WEB) });
    cast.dataplane().wait_for("the Service without endpoints", |_| {
        connect(process, at(WEB, 80)) == Err(ErrorKind::ConnectionRefused)
    });

    // What is no Service's business goes as it always did: the kubelet's probes, and the node's own servers.
    let outcome = connect_many(process, at(here.pods()[0].address, 7), 20);
    assert_eq!(outcome.succeeded, 20, "a pod: {outcome}");
    let _ssh = EchoServer::start(process, 22);
    for client in [process, &here.pods()[0].namespace, there.namespace()] {
        let outcome = connect_many(client, at(here.address(), 22), 20);
        assert_eq!(outcome.succeeded, 20, "the node's own: {outcome}");
    }
}

#[test]
fn backends_on_the_network_of_the_node_that_balances_are_reached_from_everywhere() {
    let cast = Cast::start(|nodes| {
        let hosted =
            Service { node_port: Some(30081), endpoints: vec![hosted(&nodes[0])], ..Service::new("hosted", HOSTED) };
        let local = Service {
            vip: Some(VIP),
            local: true,
            ..Service { name: "local".into(), cluster_ip: WEB, ..hosted.clone() }
        };
        vec![hosted, Service { node_port: Some(30082), ..local }]
    });
    let Some(cast) = cast else { return };
    let [here, there] = &cast.scene.nodes[..] else { panic!("two nodes were asked for") };
    let _server = Nginx::start(here.namespace(), "hosted", 8080);
    let outside = cast.scene.host("client", 201);
    let levee = Some(Ipv4Addr::new(169, 254, 76, 1));
    let by = |what, client: &Namespace, server, seen| assert_answered(&cast, what, client, server, "hosted", seen);

    by("a pod here", &here.pods()[0].namespace, at(HOSTED, 80), levee);
    by("the node itself", here.namespace(), at(HOSTED, 80), levee);
    by("the node itself, by its node port", here.namespace(), at(here.address(), 30081), levee);
    by("a pod elsewhere", &there.pods()[0].namespace, at(HOSTED, 80), Some(there.pods()[0].address));
    by("another node", there.namespace(), at(HOSTED, 80), Some(there.address()));
    by("somebody outside", &outside.namespace, at(here.address(), 30081), levee);
    by("somebody outside, by another node", &outside.namespace, at(there.address(), 30081), None);
    by("somebody outside, with policy Local", &outside.namespace, at(here.address(), 30082), levee);
    // Without levee in between, as ever.
    by("somebody outside, directly", &outside.namespace, at(here.address(), 8080), Some(outside.address));
}

#[test]
fn rule_39_balancers_outside_are_told_whether_a_node_has_endpoints() {
    let web = |nodes: &[Node]| {
        let (vip, health_check) = (Some(VIP), Some(32_000));
        vec![Service {
            vip,
            health_check,
            local: true,
            endpoints: vec![endpoint(&nodes[0])],
            ..Service::new("web", WEB)
        }]
    };
    let Some(mut cast) = Cast::start(web) else { return };
    let here = cast.scene.nodes[0].address();
    let outside = cast.scene.host("client", 201);
    let probe = |node: Ipv4Addr| -> (String, serde_json::Value) {
        let line = format!("curl -s -i --max-time 5 http://{node}:32000/any/path");
        let answer = outside.namespace.run(&line).replace("\r\n", "\n");
        let (head, body) = answer.split_once("\n\n").expect("a head and a body");
        (head.to_owned(), serde_json::from_str(body).expect("JSON"))
    };
    let says = |local: usize, healthy: bool| {
        let service = serde_json::json!({"namespace": "default", "name": "web"});
        serde_json::json!({"service": service, "localEndpoints": local, "serviceProxyHealthy": healthy})
    };
    let (head, body) = probe(here);
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("x-load-balancing-endpoint-weight: 1"), "{head}");
    assert_eq!(body, says(1, true));
    let (head, body) = probe(cast.scene.nodes[1].address());
    assert!(head.starts_with("HTTP/1.1 503") && head.contains("x-load-balancing-endpoint-weight: 0"), "{head}");
    assert_eq!(body, says(0, true));

    // Without a healthy dataplane, endpoints are no use.
    cast.scene.dataplanes[0].daemon.kill();
    let (head, body) = probe(here);
    assert!(head.starts_with("HTTP/1.1 503"), "{head}");
    assert_eq!(body, says(1, false));
    cast.scene.dataplanes[0].restart();

    // A port that somebody else has is told of, and taken when it is free.
    let taken = EchoServer::start(cast.scene.nodes[0].namespace(), 32_001);
    let control = &cast.controls[0];
    let moved = |health_check| Service {
        vip: Some(VIP),
        health_check: Some(health_check),
        local: true,
        endpoints: vec![endpoint(&cast.scene.nodes[0])],
        ..Service::new("web", WEB)
    };
    cast.cluster.apply(&moved(32_001));
    let told = || control.get("/v1/status").1["notices"].to_string().contains("cannot be answered on 192.0.2.1:32001");
    cast.dataplane().wait_for("a word about the port", |_| told());
    drop(taken);
    cast.dataplane().wait_for("the port", |_| !told());
    assert_eq!(connect(&outside.namespace, at(here, 32_000)), Err(ErrorKind::ConnectionRefused), "the old one is free");
}

#[test]
fn ports_between_node_ports_stay_the_nodes_own() {
    // More node ports than the kernel is given rules: what lies between some of them comes to levee, which gives it back.
    let cast = Cast::start(|_| {
        (0..8u8)
            .map(|n| Service {
                node_port: Some(30_000 + 10 * u16::from(n)),
                ..Service::new(&format!("s{n}"), Ipv4Addr::new(10, 96, 1, n))
            })
            .collect()
    });
    let Some(cast) = cast else { return };
    let here = &cast.scene.nodes[0];
    let _own = EchoServer::start(here.namespace(), 30_065);
    let outcome = connect_many(here.namespace(), at(here.address(), 30_065), 20);
    assert_eq!(outcome.succeeded, 20, "{outcome}\n{}", cast.dataplane().counters());
    assert!(cast.dataplane().counter("passed") >= 20, "it went by levee: {}", cast.dataplane().counters());
    for port in [30_000, 30_070, 30_066] {
        assert_eq!(connect(here.namespace(), at(here.address(), port)), Err(ErrorKind::ConnectionRefused), "{port}");
    }
}

#[test]
fn rules_and_routes_go_with_levee() {
    let web = |nodes: &[Node]| {
        let endpoints = vec![endpoint(&nodes[1])];
        vec![Service { node_port: Some(30080), endpoints, ..Service::new("web", WEB) }]
    };
    let Some(mut cast) = Cast::start(web) else { return };
    let node = &cast.scene.nodes[0];
    let (process, untouched) = (node.namespace().clone(), "0:\tfrom all lookup local\n32766:\tfrom all lookup main\n");
    let _server = Nginx::start(&cast.scene.nodes[1].pods()[0].namespace, "node-2", 8080);
    let _ssh = EchoServer::start(&process, 22);
    assert_answered(&cast, "before", &process, at(node.address(), 30080), "node-2", None);
    assert!(!process.ip("rule").starts_with(untouched));

    // Killed: the device and the routes are gone at once, and rules without routes are as good as none.
    cast.scene.dataplanes[0].daemon.kill();
    assert_eq!(process.ip("route show table 76"), "");
    let outcome = connect_many(&process, at(node.address(), 22), 20);
    assert_eq!(outcome.succeeded, 20, "the kernel's own: {outcome}");
    assert_eq!(connect(&process, at(node.address(), 30080)), Err(ErrorKind::ConnectionRefused), "by the kernel");

    // The next one takes them over, and levee-control tells it everything again.
    cast.scene.dataplanes[0].restart();
    wait_for_ways(node, &cast.scene.dataplanes[0]);
    assert_answered(&cast, "after", &process, at(node.address(), 30080), "node-2", None);
    assert_eq!(process.ip("rule").matches("lookup 76").count(), 2, "{}", process.ip("rule"));
    // Somebody tidies up what he does not know, and levee sees it.
    process.ip("rule del pref 3");
    cast.scene.dataplanes[0].wait_for("its rule", |_| process.ip("rule").contains("3:\tfrom all iif lo lookup 76"));

    // Told to stop, it leaves nothing.
    cast.scene.dataplanes[0].daemon.stop(Duration::from_secs(10));
    assert!(process.ip("rule").starts_with(untouched), "{}", process.ip("rule"));
    assert!(!process.ip("link").contains("levee-host"));
}

#[test]
fn all_of_it_is_so_by_ipv6() {
    let Some(scene) = Scene::start_with_both(&[1, 1], Take::Owned) else { return };
    let (node, far) = (&scene.nodes[0], &scene.nodes[1].pods()[0]);
    let (process, own) = (node.namespace(), v6(node.address()));
    let service = |name: &str, at: SocketAddr, backend: SocketAddr| program::Service {
        name: format!("default/{name}:main"),
        protocol: Protocol::Tcp,
        family: Family::Ipv6,
        frontends: vec![program::Frontend {
            address: at.ip(),
            port: at.port(),
            from: program::Side::Any,
            mode: program::Mode::Nat,
            pool: program::Pool::Cluster,
            when_empty: program::WhenEmpty::Reject,
            last_port: None,
            source_ranges: Vec::new(),
        }],
        backends: vec![program::Backend {
            address: backend.ip(),
            port: backend.port(),
            pools: vec![program::Pool::Cluster],
            via: None,
        }],
        affinity: None,
        quic: Vec::new(),
        flows: Default::default(),
    };
    let (web, hosted, port) = (at(v6(WEB), 80), at(v6(HOSTED), 80), at(own, 30_080));
    scene.dataplanes[0].program(&program::Program {
        generation: 2,
        local: local_of_both(node),
        service_ranges: vec!["2001:db8:96::/64".parse().expect("a prefix")],
        vips: [web, hosted].map(|at| program::Vip { address: at.ip(), announce: false }).into(),
        services: vec![
            service("web", web, at(v6(far.address), 7)),
            service("hosted", hosted, at(own, 7)),
            service("port", port, at(v6(far.address), 7)),
        ],
        ..program::Program::default()
    });
    let routes = || process.ip("-6 route show table 76");
    scene.dataplanes[0].wait_for("its routes", |_| routes().contains("2001:db8:96::/64"));
    let _echoes = [process, &far.namespace].map(|namespace| EchoServer::start(namespace, 7));
    let pod = &node.pods()[0].namespace;
    for (what, client, server) in [
        ("a ClusterIP", process, web),
        ("a node port of its own", process, port),
        ("a backend on itself", process, hosted),
        ("a backend on the node, from a pod", pod, hosted),
    ] {
        let outcome = connect_many(client, server, 20);
        assert_eq!(outcome.succeeded, 20, "{what}: {outcome}\n{}\n{}", scene.dataplanes[0].counters(), routes());
    }
    let outcome = connect_many(process, at(v6(node.pods()[0].address), 22), 1);
    assert_eq!(outcome.succeeded, 0, "nobody listens there, and the kernel's own way says so: {outcome}");
}
