//! Mode `tunnel`, end to end: the client's address is kept, pods are ordinary, and answers pass the balancer by.

use std::net::{IpAddr, Ipv4Addr};

use levee_api::net::{Family, Protocol};
use levee_api::program::{Backend, Frontend, Mode, Pool, Program, Service, Side, Via, Vip, WhenEmpty};
use levee_api::tunnel::{Encapsulation, Tunnel};
use levee_tests::dual::{add_to_host, enable, local_of_both, of};
use levee_tests::levee::{Dataplane, Ports, Take, at};

use levee_tests::traffic::{Curl, EchoServer, Nginx, bulk};
use levee_tests::{Captured, Direction, Host, Scene};

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 240);

fn service(name: &str, (family, port): (Family, u16), from: Side, mode: Mode, backends: Vec<Backend>) -> Service {
    let (pool, when_empty) = match from {
        Side::Tunnel => (Pool::Local, WhenEmpty::Drop),
        _ => (Pool::Cluster, WhenEmpty::Reject),
    };
    Service {
        name: format!("default/{name}"),
        protocol: Protocol::Tcp,
        family,
        frontends: vec![Frontend {
            address: of(family, VIP),
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
        quic: Vec::new(),
        flows: Default::default(),
    }
}

fn backend(address: IpAddr, port: u16, via: Option<Via>) -> Backend {
    Backend { address, port, pools: vec![Pool::Cluster, Pool::Local], via }
}

fn via(address: IpAddr) -> Option<Via> {
    Some(Via { address, mac: None })
}

/// Has every node unwrap, from this peer, packets of every kind for its own pod: nginx on 8080 and an echo server on 7.
fn program_nodes(scene: &Scene, family: Family, peer: Ipv4Addr) {
    for (node, dataplane) in scene.nodes.iter().zip(&scene.dataplanes) {
        let pod = of(family, node.pods()[0].address);
        let unwrapped = |name, port, target| {
            service(name, (family, port), Side::Tunnel, Mode::Dnat, vec![backend(pod, target, None)])
        };
        let peers = [Family::Ipv4, Family::Ipv6].map(|family| of(family, peer).into());
        dataplane.program(&Program {
            generation: 2,
            local: local_of_both(node),
            vips: vec![Vip { address: of(family, VIP), announce: false }],
            services: vec![unwrapped("web", 80, 8080), unwrapped("echo", 7, 7)],
            tunnels: Encapsulation::ALL.map(|kind| Tunnel { kind, peers: peers.into(), ..Tunnel::default() }).into(),
            ..Program::default()
        });
    }
}

/// Frames of IP with these addresses outside.
fn between(frames: &[Captured], source: IpAddr, destination: IpAddr) -> impl Iterator<Item = &Captured> {
    frames.iter().filter(move |frame| match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.bytes.get(12..14) == Some(&[8, 0])
                && frame.bytes.get(26..30) == Some(&source.octets())
                && frame.bytes.get(30..34) == Some(&destination.octets())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            frame.bytes.get(12..14) == Some(&[0x86, 0xdd])
                && frame.bytes.get(22..38) == Some(&source.octets())
                && frame.bytes.get(38..54) == Some(&destination.octets())
        }
        _ => false,
    })
}

/// ICMPv6 at once behind the header: where a VIP is, says the balancer from that VIP.
fn is_discovery(frame: &Captured) -> bool {
    frame.bytes.get(12..14) == Some(&[0x86, 0xdd]) && frame.bytes.get(20) == Some(&58)
}

#[test]
fn the_clients_address_is_kept_across_nodes_and_answers_pass_the_balancer_by() {
    address_is_kept(Family::Ipv4, Family::Ipv4);
}

#[test]
fn so_it_is_in_ipv6_over_ipv6() {
    address_is_kept(Family::Ipv6, Family::Ipv6);
}

#[test]
fn so_it_is_in_ipv4_over_ipv6() {
    address_is_kept(Family::Ipv4, Family::Ipv6);
}

#[test]
fn so_it_is_in_ipv6_over_ipv4() {
    address_is_kept(Family::Ipv6, Family::Ipv4);
}

/// By every kind of tunnel: clients and pods of one family, ends of tunnels of another, or the same.
fn address_is_kept(inner: Family, outer: Family) {
    let Some(scene) = Scene::start_with_both(&[1, 1, 1], Take::Owned) else { return };
    let balancer = scene.host("balancer", 230);
    let client = scene.host("client", 201);
    add_to_host(&balancer, &scene.nodes);
    add_to_host(&client, &scene.nodes);
    let dataplane = Dataplane::start(&balancer.namespace, Ports::Balancer(Take::Owned));
    let pods: Vec<_> = scene.nodes.iter().map(|node| node.pods()[0].clone()).collect();
    let _servers: Vec<_> = pods.iter().map(|pod| Nginx::start(&pod.namespace, &pod.name, 8080)).collect();
    let _echoes: Vec<_> = pods.iter().map(|pod| EchoServer::start(&pod.namespace, 7)).collect();
    program_nodes(&scene, inner, balancer.address);
    let (vip, client_address) = (of(inner, VIP), of(inner, client.address));

    println!(
        "{inner:?} in {outer:?}\n{:>8} | requests | client seen by pods | VIP to client: from balancer, from nodes | 2 MB each way",
        "kind"
    );
    for (generation, kind) in (1..).zip(Encapsulation::ALL) {
        let backends = |port| -> Vec<_> {
            let nodes = scene.nodes.iter().zip(&pods);
            nodes.map(|(node, pod)| backend(of(inner, pod.address), port, via(of(outer, node.address())))).collect()
        };
        dataplane.program(&Program {
            generation,
            vips: vec![Vip { address: vip, announce: true }],
            services: vec![
                service("web", (inner, 80), Side::Any, Mode::Tunnel, backends(8080)),
                service("echo", (inner, 7), Side::Any, Mode::Tunnel, backends(7)),
            ],
            tunnels: vec![Tunnel { kind, ..Tunnel::default() }],
            ..Program::default()
        });
        let counters = || {
            let nodes: String = scene.dataplanes.iter().map(|node| format!("\n{}", node.counters())).collect();
            format!("{kind}: balancer {}{nodes}", dataplane.counters())
        };
        let tap = scene.fabric.tap();
        let tally = Curl::many(&client.namespace, at(vip, 80), 2, 45);
        let frames = tap.frames();
        assert_eq!(tally.answered(), 90, "{tally}\n{}", counters());
        assert_eq!(tally.by_server.len(), 3, "every node's pod has some: {tally}");
        let seen: Vec<_> = tally.by_client.keys().cloned().collect();
        assert_eq!(seen, [client_address.to_string()], "what the pods saw");
        for node in &scene.nodes {
            let wrapped = between(&frames, of(outer, balancer.address), of(outer, node.address()));
            assert!(wrapped.count() > 0, "{kind}: nothing went to {} in {outer:?}", node.name());
        }

        // Each packet once, where it came out of a station.
        let answers: Vec<_> = between(&frames, vip, client_address)
            .filter(|frame| frame.direction == Direction::In && !is_discovery(frame))
            .collect();
        let from = |port: &str| answers.iter().filter(|frame| &*frame.interface == port).count();
        assert_eq!(from(&balancer.wire.port), 0, "answers pass the balancer by");
        let from_nodes: usize = scene.nodes.iter().map(|node| from(&node.wire().port)).sum();
        assert!(from_nodes >= 90 * 4, "they come from the nodes: {from_nodes}");
        for node in &scene.nodes {
            let others = answers.iter().filter(|frame| *frame.interface == *node.wire().port);
            assert!(others.into_iter().all(|frame| frame.bytes[6..12] == node.wire().mac.0), "under the node's MAC");
        }

        // Segments of full size do not fit behind the outer headers: the client is told, and sends smaller ones.
        bulk(&client.namespace, at(vip, 7), 2_000_000).unwrap_or_else(|error| panic!("{error}\n{}", counters()));
        println!("{:>8} | {:>8} | {:>19} | {:>22} {:>15} | done", kind.to_string(), 90, seen.join(" "), 0, from_nodes);
        // What the client has learnt is forgotten, so that it is told anew.
        for family in ["-4", "-6"] {
            client.namespace.ip(&format!("{family} route flush cache"));
        }
    }
    assert!(dataplane.counter("too_bigs_sent") >= 4, "{}", dataplane.counters());
    assert!(dataplane.counter("wrapped") > 0);
    assert!(scene.dataplanes.iter().all(|node| node.counter("unwrapped") > 0));
}

#[test]
fn levee_and_the_kernels_vxlan_device_understand_each_other_both_ways() {
    understand_each_other(Family::Ipv4);
}

/// Where the kernel, by default, drops what comes without a UDP checksum.
#[test]
fn so_they_do_over_ipv6() {
    understand_each_other(Family::Ipv6);
}

fn understand_each_other(family: Family) {
    let Some(scene) = Scene::start_with_both(&[1], Take::Owned) else { return };
    let client = scene.host("client", 201);
    let peer = scene.host("peer", 202);
    let holder = scene.host("holder", 203);
    let balancer = scene.host("balancer", 230);
    for host in [&client, &peer, &holder, &balancer] {
        add_to_host(host, &scene.nodes);
    }
    let vip = of(family, VIP);
    let prefix = if family == Family::Ipv4 { 32 } else { 128 };
    let node = of(family, scene.nodes[0].address());
    // A device that wraps what is sent to the VIP for the node.
    let wraps = |host: &Host| {
        let own = of(family, host.address);
        let made = host
            .namespace
            .try_run(&format!("ip link add vxlan0 type vxlan id 1 dstport 4789 remote {node} local {own}"));
        if !made.status.success() {
            eprintln!("SKIPPED: this kernel has no vxlan devices");
            return false;
        }
        if family == Family::Ipv6 {
            enable(&host.namespace, "vxlan0");
        }
        host.namespace.ip_batch(&format!(
            "link set vxlan0 up
             route add {vip}/{prefix} dev vxlan0 src {own}
             neigh add {vip} lladdr 02:00:00:00:00:99 nud permanent dev vxlan0"
        ));
        true
    };

    // The kernel wraps, levee unwraps: what the peer sends to the VIP goes through its device to node 1.
    let pod = &scene.nodes[0].pods()[0];
    let _server = Nginx::start(&pod.namespace, &pod.name, 8080);
    program_nodes(&scene, family, peer.address);
    if !wraps(&peer) {
        return;
    }
    let tally = Curl::many(&peer.namespace, at(vip, 80), 1, 20);
    assert_eq!(tally.answered(), 20, "{tally}\n{}", scene.dataplanes[0].counters());
    assert_eq!(tally.by_client.into_keys().collect::<Vec<_>>(), [of(family, peer.address).to_string()]);
    assert!(scene.dataplanes[0].counter("unwrapped") >= 20 * 4);
    // The same from somebody who is no peer.
    let before = scene.dataplanes[0].counter("tunnel_stranger");
    assert!(wraps(&client));
    let answer = client.namespace.try_run(&format!("curl -s --max-time 1 http://{}/", at(vip, 80)));
    assert!(!answer.status.success(), "{answer:?}");
    assert!(scene.dataplanes[0].counter("tunnel_stranger") > before);
    client.namespace.ip("link del vxlan0");

    // Levee wraps, the kernel unwraps: a host that holds the VIP, behind its device.
    let mac = "02:00:00:00:00:0a";
    let far_end = of(family, holder.address);
    holder.namespace.ip_batch(&format!(
        "link add vxlan0 address {mac} type vxlan id 7 dstport 8472 local {far_end} nolearning
         addr add {vip}/{prefix} dev lo"
    ));
    if family == Family::Ipv6 {
        enable(&holder.namespace, "vxlan0");
    }
    holder.namespace.ip("link set vxlan0 up");
    holder.namespace.sysctl("net.ipv4.conf.all.arp_ignore", "1");
    holder.namespace.sysctl("net.ipv4.conf.all.arp_announce", "2");
    let _holder = Nginx::start(&holder.namespace, "holder", 80);
    let dataplane = Dataplane::start(&balancer.namespace, Ports::Balancer(Take::Owned));
    let via = Some(Via { address: far_end, mac: Some(mac.parse().expect("a MAC")) });
    dataplane.program(&Program {
        generation: 1,
        vips: vec![Vip { address: vip, announce: true }],
        services: vec![service("web", (family, 80), Side::Any, Mode::Tunnel, vec![backend(far_end, 80, via)])],
        tunnels: vec![Tunnel { port: Some(8472), vni: Some(7), ..Tunnel::default() }],
        ..Program::default()
    });
    let tally = Curl::many(&client.namespace, at(vip, 80), 1, 20);
    assert_eq!(tally.answered(), 20, "{tally}\n{}", dataplane.counters());
    assert_eq!(tally.by_server.into_keys().collect::<Vec<_>>(), ["holder"]);
    assert_eq!(tally.by_client.into_keys().collect::<Vec<_>>(), [of(family, client.address).to_string()]);

    // As an endpoint of an overlay like flannel's: the packet is translated, and then wrapped for the kernel of the pod's node.
    let pod_behind = of(family, Ipv4Addr::new(10, 244, 77, 2));
    holder.namespace.ip(&format!("addr add {pod_behind}/{prefix} dev lo"));
    dataplane.program(&Program {
        generation: 2,
        vips: vec![Vip { address: vip, announce: true }],
        services: vec![service("web", (family, 80), Side::Any, Mode::Nat, vec![backend(pod_behind, 80, via)])],
        tunnels: vec![Tunnel { port: Some(8472), vni: Some(7), ..Tunnel::default() }],
        ..Program::default()
    });
    let tally = Curl::many(&client.namespace, at(vip, 80), 1, 20);
    assert_eq!(tally.answered(), 20, "{tally}\n{}", dataplane.counters());
    assert_eq!(tally.by_client.into_keys().collect::<Vec<_>>(), [of(family, balancer.address).to_string()]);
}
