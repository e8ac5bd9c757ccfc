//! The rules of Services that speak of packets, on a node, with real packets: what `levee-control` makes of objects, and what
//! becomes of what is sent. `balancing` does the same for a balancer, and `host` for the node's own processes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use levee_api::net::Protocol;
use levee_tests::cluster::{Cluster, Endpoint, Service, State};
use levee_tests::levee::{Control, Dataplane, Role, Take, at};
use levee_tests::traffic::{Curl, EchoServer, Nginx};
use levee_tests::{Host, Namespace, Node, Pod, Scene};

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 250);
const WEB: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

/// Two nodes, the first with two pods, each with levee and its control process; a client whose way to VIPs is the first node.
struct Cast {
    _controls: Vec<Control>,
    cluster: Cluster,
    client: Host,
    scene: Scene,
}

impl Cast {
    fn start(services: impl FnOnce(&[Node]) -> Vec<Service>) -> Option<Cast> {
        let scene = Scene::start(&[2, 1], Take::Owned)?;
        let cluster = Cluster::new(&scene.lab, &scene.nodes);
        for service in services(&scene.nodes) {
            cluster.apply(&service);
        }
        let control = |(node, dataplane): (&Node, &Dataplane)| {
            let control = Control::start(node.namespace(), Role::Node, &node.name(), &cluster, dataplane);
            dataplane.wait_for_generation(2);
            control
        };
        let controls = scene.nodes.iter().zip(&scene.dataplanes).map(control).collect();
        let client = scene.host("client", 201);
        for vip in 250..=252 {
            client.namespace.ip(&format!("route add 192.0.2.{vip}/32 via {} dev eth0", scene.nodes[0].address()));
        }
        Some(Cast { _controls: controls, cluster, client, scene })
    }

    fn here(&self) -> &Node {
        &self.scene.nodes[0]
    }

    fn there(&self) -> &Node {
        &self.scene.nodes[1]
    }

    fn dataplane(&self) -> &Dataplane {
        &self.scene.dataplanes[0]
    }

    /// Writes an object of the caller's own, and waits until the first node's dataplane runs what comes of it.
    fn write(&self, file: &str, yaml: &str) {
        let generation = self.dataplane().get("/v1/status")["generation"].as_u64().expect("a number");
        self.cluster.write(file, yaml);
        self.dataplane().wait_for_generation(generation + 1);
    }
}

fn ready(node: &Node, pod: usize) -> Endpoint {
    Endpoint::of(node, &node.pods()[pod])
}

fn connect(client: &Namespace, server: SocketAddr, patience: Duration) -> Result<(), ErrorKind> {
    let result = client.enter(|| TcpStream::connect_timeout(&server, patience));
    result.map(drop).map_err(|error| error.kind())
}

/// What comes of a datagram.
fn datagram(client: &Namespace, server: SocketAddr) -> Result<(), ErrorKind> {
    client.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a port is free");
        socket.connect(server).expect("it is an address");
        socket.set_read_timeout(Some(Duration::from_secs(2))).expect("it is a duration");
        socket.send(b"anybody?").expect("it can be sent");
        socket.recv(&mut [0; 16]).map(drop).map_err(|error| error.kind())
    })
}

const PATIENCE: Duration = Duration::from_secs(5);
/// For what is to be dropped: longer than two of a SYN's retransmissions.
const DROPPED: Duration = Duration::from_millis(3500);

#[test]
fn rules_26_to_28_whom_nobody_serves_is_told_and_who_is_at_the_wrong_node_is_not() {
    let cast = Cast::start(|nodes| {
        let nobody =
            Service { vip: Some(VIP), node_port: Some(30_020), ..Service::new("nobody", Ipv4Addr::new(10, 96, 0, 20)) };
        let silent = Service {
            protocol: Protocol::Udp,
            vip: Some(VIP),
            node_port: Some(30_022),
            ..Service::new("silent", Ipv4Addr::new(10, 96, 0, 22))
        };
        let elsewhere = Service {
            vip: Some(Ipv4Addr::new(192, 0, 2, 251)),
            node_port: Some(30_021),
            local: true,
            endpoints: vec![ready(&nodes[1], 0)],
            ..Service::new("elsewhere", Ipv4Addr::new(10, 96, 0, 21))
        };
        vec![nobody, silent, elsewhere]
    });
    let Some(cast) = cast else { return };
    let _server = Nginx::start(&cast.there().pods()[0].namespace, "there", 8080);
    let (client, pod) = (&cast.client.namespace, &cast.here().pods()[0].namespace);
    let node = cast.here().address();

    // Rule 26, on every kind of address, from both sides.
    let refused = Err(ErrorKind::ConnectionRefused);
    for (from, what) in [(client, "from outside"), (pod, "from a pod")] {
        for server in [at(VIP, 80), at(node, 30_020)] {
            assert_eq!(connect(from, server, PATIENCE), refused, "rule 26, {server} {what}");
        }
        for server in [at(VIP, 80), at(node, 30_022)] {
            assert_eq!(datagram(from, server), refused, "rule 26, {server} {what}");
        }
        // Rule 28.
        assert_eq!(connect(from, at(VIP, 81), PATIENCE), refused, "rule 28 {what}");
        assert_eq!(from.pings(VIP, 3, 56), 3, "rule 28 {what}");
    }
    assert_eq!(connect(pod, at(Ipv4Addr::new(10, 96, 0, 20), 80), PATIENCE), refused, "rule 26, ClusterIP");
    let unallocated = at(Ipv4Addr::new(10, 96, 0, 99), 80);
    assert_eq!(connect(pod, unallocated, DROPPED), Err(ErrorKind::TimedOut), "rule 28, unallocated");
    assert!(cast.dataplane().counter("service_unallocated") > 0, "{}", cast.dataplane().counters());

    // Rule 27, and rule 32: the same address from outside and from here.
    let elsewhere = Ipv4Addr::new(192, 0, 2, 251);
    for server in [at(elsewhere, 80), at(node, 30_021)] {
        let before = cast.dataplane().counter("no_local_backend");
        assert_eq!(connect(client, server, DROPPED), Err(ErrorKind::TimedOut), "rule 27, {server}");
        assert!(cast.dataplane().counter("no_local_backend") > before, "{}", cast.dataplane().counters());
        assert_eq!(connect(pod, server, PATIENCE), Ok(()), "rule 32, {server}");
    }
}

#[test]
fn rules_31_34_and_36_local_keeps_the_client_and_ranges_guard_load_balancer_addresses() {
    let cast = Cast::start(|nodes| {
        let endpoints = vec![ready(&nodes[0], 0), ready(&nodes[0], 1), ready(&nodes[1], 0)];
        let cluster = Service {
            vip: Some(VIP),
            node_port: Some(30_030),
            endpoints: endpoints.clone(),
            ..Service::new("cluster", Ipv4Addr::new(10, 96, 0, 30))
        };
        let local = Service {
            vip: Some(Ipv4Addr::new(192, 0, 2, 251)),
            node_port: Some(30_031),
            local: true,
            endpoints,
            ..Service::new("local", Ipv4Addr::new(10, 96, 0, 31))
        };
        vec![cluster, local]
    });
    let Some(cast) = cast else { return };
    let pods: Vec<&Pod> = cast.scene.nodes.iter().flat_map(Node::pods).collect();
    let _servers: Vec<_> = pods.iter().map(|pod| Nginx::start(&pod.namespace, &pod.name, 8080)).collect();
    let (client, node) = (&cast.client.namespace, cast.here().address());
    let ask = |server| {
        let tally = Curl::many(client, server, 3, 30);
        assert_eq!(tally.answered(), 90, "{server}: {tally}\n{}", cast.dataplane().counters());
        let seen: Vec<_> = tally.by_client.keys().cloned().collect();
        (tally.by_server.len(), seen)
    };
    for server in [at(VIP, 80), at(node, 30_030)] {
        assert_eq!(ask(server), (3, vec![node.to_string()]), "rules 31 and 36, {server}");
    }
    for server in [at(Ipv4Addr::new(192, 0, 2, 251), 80), at(node, 30_031)] {
        assert_eq!(ask(server), (2, vec![cast.client.address.to_string()]), "rules 31 and 36, Local, {server}");
    }

    // Rule 34: who is not in the ranges is dropped at the load-balancer address, and at no other.
    let open_to = |range: &str| {
        let service = Service {
            vip: Some(VIP),
            node_port: Some(30_030),
            endpoints: vec![ready(cast.here(), 0)],
            ..Service::new("cluster", Ipv4Addr::new(10, 96, 0, 30))
        };
        let spec = format!("spec:\n  loadBalancerSourceRanges: [{range}]\n");
        cast.write("cluster.yaml", &service.yaml().replacen("spec:\n", &spec, 1));
    };
    open_to("198.51.100.0/24");
    assert_eq!(connect(client, at(VIP, 80), DROPPED), Err(ErrorKind::TimedOut), "rule 34");
    assert!(cast.dataplane().counter("source_not_allowed") > 0, "{}", cast.dataplane().counters());
    assert_eq!(connect(client, at(node, 30_030), PATIENCE), Ok(()), "rule 34: not for node ports");
    open_to("192.0.2.201/32");
    assert_eq!(connect(client, at(VIP, 80), PATIENCE), Ok(()), "rule 34: in the range");
}

#[test]
fn rules_37_and_38_flows_stay_with_who_serves_and_end_with_who_is_gone() {
    let udp = |endpoints| Service {
        protocol: Protocol::Udp,
        target_port: 7,
        vip: Some(VIP),
        endpoints,
        ..Service::new("udp", WEB)
    };
    let tcp = |endpoints| Service {
        port: 81,
        target_port: 7,
        vip: Some(VIP),
        endpoints,
        ..Service::new("tcp", Ipv4Addr::new(10, 96, 0, 11))
    };
    let Some(cast) = Cast::start(|nodes| vec![udp(vec![ready(&nodes[0], 0)]), tcp(vec![ready(&nodes[0], 0)])]) else {
        return;
    };
    let pods = cast.here().pods();
    let _echoes: Vec<_> = pods.iter().map(|pod| EchoServer::start(&pod.namespace, 7)).collect();
    let (socket, mut stream) = cast.client.namespace.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a port is free");
        let stream = TcpStream::connect_timeout(&at(VIP, 81), PATIENCE).expect("it is served");
        (socket, stream)
    });
    socket.connect(at(VIP, 80)).expect("it is an address");
    socket.set_read_timeout(Some(Duration::from_secs(2))).expect("it is a duration");
    stream.set_read_timeout(Some(Duration::from_secs(2))).expect("it is a duration");
    let mut talk = || {
        socket.send(b"udp").expect("it can be sent");
        assert_eq!(socket.recv(&mut [0; 8]).ok(), Some(3), "{}", cast.dataplane().counters());
        let mut heard = [0; 3];
        let spoken = stream.write_all(b"tcp").and_then(|()| stream.read_exact(&mut heard));
        let flows = cast.dataplane().cli().args(["-o", "json", "flow", "list"]).output().expect("levee can be run");
        let flows = String::from_utf8_lossy(&flows.stdout).into_owned();
        let at = |pod: &Pod, service: &str| {
            flows.split('}').any(|flow| {
                flow.contains(&format!("\"{}:7\"", pod.address))
                    && flow.contains(&format!("\"default/{service}:main\""))
            })
        };
        let which = |service: &str| (at(&pods[0], service), at(&pods[1], service));
        (which("udp"), spoken.map_err(|error| error.kind()))
    };
    assert_eq!(talk(), ((true, false), Ok(())));

    // The first terminates, and serves while it does: all that it has stays with it, and nothing new comes.
    let going = |state| Endpoint { state, ..ready(cast.here(), 0) };
    let both = |state| vec![going(state), ready(cast.here(), 1)];
    cast.write("udp.yaml", &udp(both(State::Terminating)).yaml());
    cast.write("tcp.yaml", &tcp(both(State::Terminating)).yaml());
    assert_eq!(talk(), ((true, false), Ok(())), "rule 37: it serves");

    // It serves no more, but is still listed: datagrams move at once, connections stay until they end.
    let stopped =
        |service: Service| service.yaml().replace("ready: false, serving: true", "ready: false, serving: false");
    cast.write("udp.yaml", &stopped(udp(both(State::Terminating))));
    cast.cluster.write("tcp.yaml", &stopped(tcp(both(State::Terminating))));
    let (udp_at, tcp_outcome) = talk();
    assert!(udp_at.1, "rule 37: datagrams have moved: {udp_at:?}");
    assert_eq!(tcp_outcome, Ok(()), "rule 37: the connection goes on");

    // It is gone: its connections are, too, and their clients are told.
    cast.write("tcp.yaml", &tcp(vec![ready(cast.here(), 1)]).yaml());
    let (_, tcp_outcome) = talk();
    assert_eq!(tcp_outcome, Err(ErrorKind::ConnectionReset), "rule 38");
}
