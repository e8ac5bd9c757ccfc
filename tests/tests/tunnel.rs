//! Mode `tunnel`, end to end: the client's address is kept, pods are ordinary, and answers pass the balancer by.

use std::net::{IpAddr, Ipv4Addr};

use levee_api::net::{Family, Protocol};
use levee_api::program::{Backend, Frontend, Mode, Pool, Program, Service, Side, Via, Vip, WhenEmpty};
use levee_api::tunnel::{Encapsulation, Tunnel};
use levee_tests::levee::{Dataplane, Ports, Take, at};
use levee_tests::scene::local;
use levee_tests::traffic::{Curl, EchoServer, Nginx, bulk};
use levee_tests::{Captured, Direction, Scene};

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 240);

fn service(name: &str, port: u16, from: Side, mode: Mode, backends: Vec<Backend>) -> Service {
    let (pool, when_empty) = match from {
        Side::Tunnel => (Pool::Local, WhenEmpty::Drop),
        _ => (Pool::Cluster, WhenEmpty::Reject),
    };
    Service {
        name: format!("default/{name}"),
        protocol: Protocol::Tcp,
        family: Family::Ipv4,
        frontends: vec![Frontend {
            address: VIP.into(),
            port,
            from,
            mode,
            pool,
            when_empty,
            last_port: None,
            source_ranges: Vec::new(),
        }],
        backends,
        affinity: None,
    }
}

fn backend(address: Ipv4Addr, port: u16, via: Option<Via>) -> Backend {
    Backend { address: address.into(), port, pools: vec![Pool::Cluster, Pool::Local], via }
}

fn via(address: Ipv4Addr) -> Option<Via> {
    Some(Via { address: address.into(), mac: None })
}

/// Has every node unwrap, from this peer, packets of every kind for its own pod: nginx on 8080 and an echo server on 7.
fn program_nodes(scene: &Scene, peer: Ipv4Addr) {
    for (node, dataplane) in scene.nodes.iter().zip(&scene.dataplanes) {
        let pod = node.pods()[0].address;
        let unwrapped =
            |name, port, target| service(name, port, Side::Tunnel, Mode::Dnat, vec![backend(pod, target, None)]);
        dataplane.program(&Program {
            generation: 2,
            local: local(node),
            vips: vec![Vip { address: VIP.into(), announce: false }],
            services: vec![unwrapped("web", 80, 8080), unwrapped("echo", 7, 7)],
            tunnels: Encapsulation::ALL
                .map(|kind| Tunnel { kind, peers: vec![IpAddr::from(peer).into()], ..Tunnel::default() })
                .into(),
            ..Program::default()
        });
    }
}

/// Frames of IPv4 with these addresses outside.
fn between(frames: &[Captured], source: Ipv4Addr, destination: Ipv4Addr) -> impl Iterator<Item = &Captured> {
    frames.iter().filter(move |frame| {
        frame.bytes.get(12..14) == Some(&[8, 0])
            && frame.bytes.get(26..30) == Some(&source.octets())
            && frame.bytes.get(30..34) == Some(&destination.octets())
    })
}

#[test]
fn the_clients_address_is_kept_across_nodes_and_answers_pass_the_balancer_by() {
    let Some(scene) = Scene::start(&[1, 1, 1], Take::Owned) else { return };
    let balancer = scene.host("balancer", 230);
    let client = scene.host("client", 201);
    let dataplane = Dataplane::start(&balancer.namespace, Ports::Balancer(Take::Owned));
    let pods: Vec<_> = scene.nodes.iter().map(|node| node.pods()[0].clone()).collect();
    let _servers: Vec<_> = pods.iter().map(|pod| Nginx::start(&pod.namespace, &pod.name, 8080)).collect();
    let _echoes: Vec<_> = pods.iter().map(|pod| EchoServer::start(&pod.namespace, 7)).collect();
    program_nodes(&scene, balancer.address);

    println!(
        "{:>8} | requests | client seen by pods | VIP to client: from balancer, from nodes | 2 MB each way",
        "kind"
    );
    for (generation, kind) in (1..).zip(Encapsulation::ALL) {
        let backends = |port| -> Vec<_> {
            let nodes = scene.nodes.iter().zip(&pods);
            nodes.map(|(node, pod)| backend(pod.address, port, via(node.address()))).collect()
        };
        dataplane.program(&Program {
            generation,
            vips: vec![Vip { address: VIP.into(), announce: true }],
            services: vec![
                service("web", 80, Side::Any, Mode::Tunnel, backends(8080)),
                service("echo", 7, Side::Any, Mode::Tunnel, backends(7)),
            ],
            tunnels: vec![Tunnel { kind, ..Tunnel::default() }],
            ..Program::default()
        });
        let counters = || {
            let nodes: String = scene.dataplanes.iter().map(|node| format!("\n{}", node.counters())).collect();
            format!("{kind}: balancer {}{nodes}", dataplane.counters())
        };
        let tap = scene.fabric.tap();
        let tally = Curl::many(&client.namespace, at(VIP, 80), 2, 45);
        let frames = tap.frames();
        assert_eq!(tally.answered(), 90, "{tally}\n{}", counters());
        assert_eq!(tally.by_server.len(), 3, "every node's pod has some: {tally}");
        let seen: Vec<_> = tally.by_client.keys().cloned().collect();
        assert_eq!(seen, [client.address.to_string()], "what the pods saw");

        // Each packet once, where it came out of a station.
        let answers: Vec<_> =
            between(&frames, VIP, client.address).filter(|frame| frame.direction == Direction::In).collect();
        let from = |port: &str| answers.iter().filter(|frame| &*frame.interface == port).count();
        assert_eq!(from(&balancer.wire.port), 0, "answers pass the balancer by");
        let from_nodes: usize = scene.nodes.iter().map(|node| from(&node.wire().port)).sum();
        assert!(from_nodes >= 90 * 4, "they come from the nodes: {from_nodes}");
        for node in &scene.nodes {
            let others = answers.iter().filter(|frame| *frame.interface == *node.wire().port);
            assert!(others.into_iter().all(|frame| frame.bytes[6..12] == node.wire().mac.0), "under the node's MAC");
        }

        // Segments of full size do not fit behind the outer headers: the client is told, and sends smaller ones.
        bulk(&client.namespace, at(VIP, 7), 2_000_000).unwrap_or_else(|error| panic!("{error}\n{}", counters()));
        println!("{:>8} | {:>8} | {:>19} | {:>22} {:>15} | done", kind.to_string(), 90, seen.join(" "), 0, from_nodes);
        // What the client has learnt is forgotten, so that it is told anew.
        client.namespace.ip("route flush cache");
    }
    assert!(dataplane.counter("too_bigs_sent") >= 4, "{}", dataplane.counters());
    assert!(dataplane.counter("wrapped") > 0);
    assert!(scene.dataplanes.iter().all(|node| node.counter("unwrapped") > 0));
}

#[test]
fn levee_and_the_kernels_vxlan_device_understand_each_other_both_ways() {
    let Some(scene) = Scene::start(&[1], Take::Owned) else { return };
    let client = scene.host("client", 201);
    let peer = scene.host("peer", 202);
    let balancer = scene.host("balancer", 230);
    let device = "ip link add vxlan0 type vxlan id 1 dstport 4789 remote 192.0.2.1 local 192.0.2.202";
    if !peer.namespace.try_run(device).status.success() {
        eprintln!("SKIPPED: this kernel has no vxlan devices");
        return;
    }

    // The kernel wraps, levee unwraps: what the peer sends to the VIP goes through its device to node 1.
    let pod = &scene.nodes[0].pods()[0];
    let _server = Nginx::start(&pod.namespace, &pod.name, 8080);
    program_nodes(&scene, peer.address);
    peer.namespace.ip_batch(&format!(
        "link set vxlan0 up
         route add {VIP}/32 dev vxlan0 src {}
         neigh add {VIP} lladdr 02:00:00:00:00:99 nud permanent dev vxlan0",
        peer.address
    ));
    let tally = Curl::many(&peer.namespace, at(VIP, 80), 1, 20);
    assert_eq!(tally.answered(), 20, "{tally}\n{}", scene.dataplanes[0].counters());
    assert_eq!(tally.by_client.into_keys().collect::<Vec<_>>(), [peer.address.to_string()]);
    assert!(scene.dataplanes[0].counter("unwrapped") >= 20 * 4);
    // The same from somebody who is no peer.
    let before = scene.dataplanes[0].counter("tunnel_stranger");
    client.namespace.ip_batch(&format!(
        "link add vxlan0 type vxlan id 1 dstport 4789 remote 192.0.2.1 local {}
         link set vxlan0 up
         route add {VIP}/32 dev vxlan0 src {}
         neigh add {VIP} lladdr 02:00:00:00:00:99 nud permanent dev vxlan0",
        client.address, client.address
    ));
    let answer = client.namespace.try_run(&format!("curl -s --max-time 1 http://{VIP}/"));
    assert!(!answer.status.success(), "{answer:?}");
    assert!(scene.dataplanes[0].counter("tunnel_stranger") > before);
    client.namespace.ip("link del vxlan0");

    // Levee wraps, the kernel unwraps: a host that holds the VIP, behind its device.
    let host = scene.host("holder", 203);
    let mac = "02:00:00:00:00:0a";
    host.namespace.ip_batch(&format!(
        "link add vxlan0 address {mac} type vxlan id 7 dstport 8472 local {} nolearning
         link set vxlan0 up
         addr add {VIP}/32 dev lo",
        host.address
    ));
    host.namespace.sysctl("net.ipv4.conf.all.arp_ignore", "1");
    host.namespace.sysctl("net.ipv4.conf.all.arp_announce", "2");
    let _holder = Nginx::start(&host.namespace, "holder", 80);
    let dataplane = Dataplane::start(&balancer.namespace, Ports::Balancer(Take::Owned));
    let via = Some(Via { address: host.address.into(), mac: Some(mac.parse().expect("a MAC")) });
    dataplane.program(&Program {
        generation: 1,
        vips: vec![Vip { address: VIP.into(), announce: true }],
        services: vec![service("web", 80, Side::Any, Mode::Tunnel, vec![backend(host.address, 80, via)])],
        tunnels: vec![Tunnel { port: Some(8472), vni: Some(7), ..Tunnel::default() }],
        ..Program::default()
    });
    let tally = Curl::many(&client.namespace, at(VIP, 80), 1, 20);
    assert_eq!(tally.answered(), 20, "{tally}\n{}", dataplane.counters());
    assert_eq!(tally.by_server.into_keys().collect::<Vec<_>>(), ["holder"]);
    assert_eq!(tally.by_client.into_keys().collect::<Vec<_>>(), [client.address.to_string()]);

    // As an endpoint of an overlay like flannel's: the packet is translated, and then wrapped for the kernel of the pod's node.
    let pod_behind: Ipv4Addr = Ipv4Addr::new(10, 244, 77, 2);
    host.namespace.ip(&format!("addr add {pod_behind}/32 dev lo"));
    let via = Some(Via { address: host.address.into(), mac: Some(mac.parse().expect("a MAC")) });
    dataplane.program(&Program {
        generation: 2,
        vips: vec![Vip { address: VIP.into(), announce: true }],
        services: vec![service("web", 80, Side::Any, Mode::Nat, vec![backend(pod_behind, 80, via)])],
        tunnels: vec![Tunnel { port: Some(8472), vni: Some(7), ..Tunnel::default() }],
        ..Program::default()
    });
    let tally = Curl::many(&client.namespace, at(VIP, 80), 1, 20);
    assert_eq!(tally.answered(), 20, "{tally}\n{}", dataplane.counters());
    assert_eq!(tally.by_client.into_keys().collect::<Vec<_>>(), [balancer.address.to_string()]);
}
