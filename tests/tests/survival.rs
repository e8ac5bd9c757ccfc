//! What happens to traffic when a daemon dies, comes back, or is fed nonsense.

use std::net::Ipv4Addr;
use std::time::Duration;

use levee_tests::cluster::{Cluster, Endpoint, Service, State};
use levee_tests::levee::{Control, Dataplane, Ports, Role, Take, at};
use levee_tests::traffic::{Curl, EchoServer, Load, Nginx, Tally, connect_many};
use levee_tests::{Host, Scene};

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 250);
const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

/// Two nodes with an nginx pod on each, a balancer, all programmed by control processes from one directory of YAML.
struct World {
    controls: Vec<Control>,
    balancer: Dataplane,
    balancer_host: Host,
    client: Host,
    _servers: Vec<Nginx>,
    web: Service,
    cluster: Cluster,
    scene: Scene,
}

impl World {
    fn start() -> Option<World> {
        let mut scene = Scene::without_levee(&[1, 1])?;
        scene.start_levee(Take::Owned);
        let (balancer_host, client) = (scene.host("balancer", 230), scene.host("client", 201));
        let balancer = Dataplane::start(&balancer_host.namespace, Ports::Balancer(Take::Owned));
        let mut web = Service { vip: Some(VIP), ..Service::new("web", CLUSTER_IP) };
        web.endpoints = scene.nodes.iter().map(|node| Endpoint::of(node, &node.pods()[0])).collect();
        let servers = scene
            .nodes
            .iter()
            .map(|node| Nginx::start(&node.pods()[0].namespace, &node.pods()[0].name, 8080))
            .collect();
        let cluster = Cluster::new(&scene.lab, &scene.nodes);
        cluster.apply(&web);
        let mut controls: Vec<_> = scene
            .nodes
            .iter()
            .zip(&scene.dataplanes)
            .map(|(node, dataplane)| Control::start(node.namespace(), Role::Node, &node.name(), &cluster, dataplane))
            .collect();
        controls.push(Control::start(&balancer_host.namespace, Role::Balancer, "balancer", &cluster, &balancer));
        scene.wait_for_each_other();
        Some(World { controls, balancer, balancer_host, client, _servers: servers, web, cluster, scene })
    }

    fn requests(&self, count: usize) -> Tally {
        Curl::many(&self.client.namespace, at(VIP, 80), 2, count / 2)
    }

    fn assert_answered(&self, when: &str) {
        let tally = self.requests(40);
        assert_eq!(tally.answered(), 40, "{when}: {tally}\n{}", self.balancer.counters());
        assert_eq!(tally.by_server.len(), 2, "{when}: {tally}");
    }

    /// Waits until the balancer runs a later generation than this one.
    fn wait_after(&self, generation: u64) {
        self.balancer.wait_for_generation(generation + 1);
    }

    fn generation(&self) -> u64 {
        self.balancer.get("/v1/status")["generation"].as_u64().expect("status has a generation")
    }
}

#[test]
fn a_cluster_in_yaml_is_served_and_followed() {
    let Some(mut world) = World::start() else { return };
    world.assert_answered("at first");
    let pod = &world.scene.nodes[0].pods()[0];
    let tally = Curl::many(&pod.namespace, at(CLUSTER_IP, 80), 2, 20);
    assert_eq!((tally.answered(), tally.by_server.len()), (40, 2), "a pod, by the ClusterIP: {tally}");
    // One endpoint leaves, as Kubernetes lets it: it drains, and then it is gone. Nobody notices.
    let load = Load::start(&world.client.namespace, at(VIP, 80), 4);
    std::thread::sleep(Duration::from_millis(200));
    let generation = world.generation();
    world.web.endpoints[0].state = State::Terminating;
    world.cluster.apply(&world.web);
    world.wait_after(generation);
    std::thread::sleep(Duration::from_millis(300));
    let generation = world.generation();
    let gone = world.web.endpoints.remove(0);
    world.cluster.apply(&world.web);
    world.wait_after(generation);
    std::thread::sleep(Duration::from_millis(300));
    let tally = load.finish();
    assert_eq!(tally.failures, [""; 0], "{tally}\n{}", world.balancer.counters());
    assert!(tally.answered() >= 100, "{tally}");
    let tally = world.requests(40);
    assert_eq!((tally.answered(), tally.by_server.len()), (40, 1), "{gone:?} is gone: {tally}");
}

#[test]
fn when_the_dataplane_is_killed_the_kernel_has_the_traffic() {
    let Some(mut world) = World::start() else { return };
    let here = world.balancer_host.namespace.clone();
    // A kernel that could serve the VIP itself, if only it got the packets.
    let _fallback = Nginx::start(&here, "kernel", 80);
    here.ip(&format!("route add local {VIP}/32 dev lo"));
    world.assert_answered("by levee");
    world.balancer.daemon.kill();
    let tally = world.requests(20);
    assert_eq!(tally.by_server.get("kernel"), Some(&20), "{tally}");
    world.balancer.restart();
    world.balancer.wait_for_generation(1);
    world.assert_answered("by levee again, programmed anew by the control process that had stayed");
}

#[test]
fn a_node_whose_dataplane_is_killed_forwards_by_its_kernel() {
    let Some(mut scene) = Scene::start(&[1], Take::Owned) else { return };
    let host = scene.host("client", 201);
    let pod = scene.nodes[0].pods()[0].clone();
    let _echo = EchoServer::start(&pod.namespace, 7);
    assert_eq!(connect_many(&host.namespace, at(pod.address, 7), 10).succeeded, 10);
    let passed = scene.dataplanes[0].counter("forwarded");
    assert!(passed > 0, "levee forwarded them: {}", scene.dataplanes[0].counters());
    scene.dataplanes[0].daemon.kill();
    let outcome = connect_many(&host.namespace, at(pod.address, 7), 10);
    assert_eq!(outcome.succeeded, 10, "{outcome}");
}

#[test]
fn forwarding_does_not_need_the_control_process() {
    let Some(mut world) = World::start() else { return };
    let control = world.controls.last_mut().expect("the balancer has one");
    control.daemon.kill();
    world.assert_answered("without control");
    let generation = world.generation();
    let load = Load::start(&world.client.namespace, at(VIP, 80), 2);
    world.controls.last_mut().expect("the balancer has one").restart();
    let tally = load.finish();
    assert_eq!(tally.failures, [""; 0], "while control restarts: {tally}");
    assert!(tally.answered() >= 50, "while control restarts: {tally}");
    // What changes now is followed again.
    world.web.endpoints.truncate(1);
    world.cluster.apply(&world.web);
    world.wait_after(generation);
    world.balancer.wait_for("one candidate", |dataplane| {
        let vips = dataplane.get("/v1/vips");
        vips.as_array().into_iter().flatten().any(|vip| vip["address"] == VIP.to_string() && vip["candidates"] == 1)
    });
}

#[test]
fn bad_files_keep_the_last_good_state() {
    let Some(world) = World::start() else { return };
    let good = world.generation();
    for (what, text) in [
        ("a wrong type", "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\nspec:\n  ports: eighty\n".to_owned()),
        ("a truncated file", "apiVersion: v1\nkind: Service\nmetadata: {name: web".to_owned()),
        ("a binary file", String::from_utf8_lossy(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0]).into_owned()),
    ] {
        world.cluster.write("web.yaml", &text);
        // Long enough for the change to be seen; that nothing happens cannot be waited for.
        std::thread::sleep(Duration::from_millis(1500));
        world.assert_answered(what);
    }
    let control = world.controls.last().expect("the balancer has one");
    assert!(control.daemon.log().contains("web.yaml"), "the file is named in the log:\n{}", control.daemon.log());
    // Mended, and changed.
    let mut web = world.web.clone();
    web.endpoints.truncate(1);
    world.cluster.apply(&web);
    world.wait_after(good);
    let tally = world.requests(20);
    assert_eq!((tally.answered(), tally.by_server.len()), (20, 1), "{tally}");
}

#[test]
fn daemons_end_cleanly_when_they_are_told_to() {
    let Some(mut world) = World::start() else { return };
    for control in &mut world.controls {
        let status = control.daemon.stop(Duration::from_secs(10));
        assert!(status.success(), "{status}");
    }
    let sockets: Vec<_> = world.scene.dataplanes.iter().map(|dataplane| dataplane.socket().to_owned()).collect();
    for dataplane in &mut world.scene.dataplanes {
        let status = dataplane.daemon.stop(Duration::from_secs(10));
        assert!(status.success(), "{status}");
    }
    for socket in sockets {
        assert!(!socket.exists(), "{} is left", socket.display());
    }
}
