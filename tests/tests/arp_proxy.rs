//! ARP: what levee answers, what it leaves alone, and what a storm of questions costs.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use levee_api::net::Mac;
use levee_api::program::{Program, Vip};
use levee_api::report::Event;
use levee_tests::inject::{Injector, arp_request};
use levee_tests::levee::{Dataplane, Ports, Take, at};
use levee_tests::scene::local;
use levee_tests::traffic::{EchoServer, connect_many};
use levee_tests::{Arp, Census, Direction, Namespace, Scene, Tap};

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 250);

/// The MACs that arping hears for an address; none if nobody answers within a second and a half.
fn answers(namespace: &Namespace, target: Ipv4Addr) -> Vec<Mac> {
    let output = namespace.try_run(&format!("arping -f -c 2 -w 1 -I eth0 {target}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let between = |line: &str| line.split(['[', ']']).nth(1).and_then(|mac| mac.to_lowercase().parse().ok());
    text.lines().filter(|line| line.contains("reply from")).filter_map(between).collect()
}

/// ARP replies on a wire of the fabric.
fn replies(tap: &Tap, port: &str, direction: Direction) -> Vec<Arp> {
    let frames = tap.frames();
    let on_it = frames.iter().filter(|frame| &*frame.interface == port && frame.direction == direction);
    on_it.filter_map(|frame| Arp::of(&frame.bytes)).filter(|arp| arp.operation == 2).collect()
}

#[test]
fn the_fabric_is_told_the_nodes_mac_for_pods_and_vips_and_for_nothing_else() {
    let Some(scene) = Scene::start(&[1, 1], Take::Owned) else { return };
    let node = &scene.nodes[0];
    scene.dataplanes[0].program(&Program {
        generation: 2,
        local: local(node),
        vips: vec![Vip { address: VIP.into(), announce: true }],
        ..Program::default()
    });
    let host = scene.host("asker", 201);
    let mac = node.wire().mac;
    assert_eq!(answers(&host.namespace, node.pods()[0].address), [mac], "a pod");
    assert_eq!(answers(&host.namespace, VIP), [mac], "a VIP");
    assert_eq!(answers(&host.namespace, node.address()), [mac], "the node's own address, by its kernel");
    assert_eq!(
        answers(&host.namespace, scene.nodes[1].pods()[0].address),
        [scene.nodes[1].wire().mac],
        "another's pod"
    );
    assert_eq!(answers(&host.namespace, Ipv4Addr::new(192, 0, 2, 249)), [], "nobody's address");
    assert_eq!(answers(&host.namespace, Ipv4Addr::new(10, 244, 77, 7)), [], "nobody's pod");
}

#[test]
fn replies_are_well_formed_and_go_to_the_asker_alone() {
    let Some(scene) = Scene::start(&[1, 0], Take::Owned) else { return };
    let (node, pod) = (&scene.nodes[0], &scene.nodes[0].pods()[0]);
    let host = scene.host("asker", 201);
    scene.fabric.wait_until_quiet();
    let tap = scene.fabric.tap();
    let injector = Injector::new(&host.namespace, "eth0");
    // An ordinary request, then a probe before an address is taken (RFC 5227, 2.1.1): its sender is 0.0.0.0.
    for sender in [host.address, Ipv4Addr::UNSPECIFIED] {
        tap.clear();
        injector.send(&arp_request(host.wire.mac, sender, pod.address));
        std::thread::sleep(Duration::from_millis(300));
        let expected = Arp {
            ethernet: (node.wire().mac, host.wire.mac),
            operation: 2,
            sender: (node.wire().mac, pod.address),
            target: (host.wire.mac, sender),
        };
        // The nodes' kernels ask each other too, whether they are still there.
        let about_it: Vec<_> =
            replies(&tap, "node-1", Direction::In).into_iter().filter(|arp| arp.sender.1 == pod.address).collect();
        assert_eq!(about_it, [expected], "asked by {sender}");
        let bystander = &scene.nodes[1];
        let census = Census::towards(bystander.wire().mac, &bystander.wire().port, &tap.frames());
        assert_eq!((census.unknown_unicast, census.arp_broadcast), (0, 1), "the question, not the answer: {census}");
    }
}

#[test]
fn duplicate_address_detection_on_the_fabric_finds_pods_and_vips() {
    let Some(scene) = Scene::start(&[1], Take::Owned) else { return };
    let node = &scene.nodes[0];
    scene.dataplanes[0].program(&Program {
        generation: 2,
        local: local(node),
        vips: vec![Vip { address: VIP.into(), announce: true }],
        ..Program::default()
    });
    let host = scene.host("asker", 201);
    for (address, taken) in [(node.pods()[0].address, true), (VIP, true), (Ipv4Addr::new(192, 0, 2, 249), false)] {
        // arping -D: 0 if nobody has the address, 1 if somebody answers.
        let status = host.namespace.try_run(&format!("arping -D -c 2 -w 2 -I eth0 {address}")).status;
        assert_eq!(status.code(), Some(i32::from(taken)), "{address}");
    }
}

#[test]
fn pods_are_told_about_the_world_and_left_alone_with_each_other() {
    let Some(scene) = Scene::start(&[2, 1], Take::Owned) else { return };
    let [one, two] = scene.nodes[0].pods() else { panic!("two pods were asked for") };
    let far = &scene.nodes[1].pods()[0];
    let levee0 = scene.nodes[0].namespace().run("cat /sys/class/net/levee0/address").trim().parse::<Mac>();
    let levee0 = levee0.expect("an interface has a MAC");
    let tap = scene.fabric.tap();
    for target in
        [far.address, Ipv4Addr::new(169, 254, 1, 1), Ipv4Addr::new(10, 96, 0, 10), Ipv4Addr::new(203, 0, 113, 9)]
    {
        assert_eq!(answers(&one.namespace, target), [levee0], "{target} is not on this node");
    }
    assert_eq!(answers(&one.namespace, two.address), [two.mac], "pods of one node answer for themselves, once");
    assert_eq!(answers(&one.namespace, Ipv4Addr::new(10, 244, 1, 99)), [], "an address of this node that no pod has");
    // A pod that starts makes sure that nobody has its address (RFC 5227), and tells everybody (gratuitous ARP).
    let status = one.namespace.try_run(&format!("arping -D -c 2 -w 2 -I eth0 {}", one.address)).status;
    assert_eq!(status.code(), Some(0), "levee does not claim a pod's own address");
    one.namespace.try_run(&format!("arping -U -c 2 -w 2 -I eth0 {}", one.address));
    let asked: Vec<_> =
        tap.frames().iter().filter(|f| f.direction == Direction::In).filter_map(|f| Arp::of(&f.bytes)).collect();
    let of_pods: Vec<_> = asked.iter().filter(|arp| arp.sender.1.octets()[0] == 10).collect();
    assert!(of_pods.is_empty(), "no pod's ARP is on the fabric: {of_pods:?}");
}

#[test]
fn a_storm_of_questions_is_limited_and_forwarding_goes_on() {
    let Some(scene) = Scene::start(&[1, 1], Take::Owned) else { return };
    let (client, server) = (&scene.nodes[0].pods()[0], &scene.nodes[1].pods()[0]);
    let _echo = EchoServer::start(&server.namespace, 7);
    let host = scene.host("asker", 201);
    let injector = Injector::new(&host.namespace, "eth0");
    let question = arp_request(host.wire.mac, host.address, server.address);
    assert_eq!(connect_many(&client.namespace, at(server.address, 7), 1).succeeded, 1);
    let tap = scene.fabric.tap();
    let dataplane = &scene.dataplanes[1];
    let limited_before = dataplane.counter("arp_rate_limited");
    let start = Instant::now();
    let (outcome, sent) = std::thread::scope(|scope| {
        let traffic = scope.spawn(|| connect_many(&client.namespace, at(server.address, 7), 200));
        let mut sent = 0u64;
        // Some 20,000 a second: four hundred times what one source may ask.
        while !traffic.is_finished() {
            for _ in 0..20 {
                injector.send(&question);
                sent += 1;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        (traffic.join().expect("it does not panic"), sent)
    });
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(outcome.succeeded, 200, "{outcome}");
    assert!(seconds < 10.0, "200 connections took {seconds:.1} s beside {sent} questions");
    let answered = replies(&tap, "node-2", Direction::In).iter().filter(|arp| arp.target.1 == host.address).count();
    let limit = 50.0 * (seconds + 2.0);
    assert!(answered >= 1 && (answered as f64) <= limit, "{answered} answers to {sent} questions in {seconds:.1} s");
    dataplane.wait_for("what it refused counted", |dataplane| {
        dataplane.counter("arp_rate_limited") - limited_before + answered as u64 >= sent * 9 / 10
    });
}

#[test]
fn vips_and_nodes_announce_themselves() {
    let Some(scene) = Scene::start(&[1, 0], Take::Owned) else { return };
    let (node, mac) = (&scene.nodes[0], scene.nodes[0].wire().mac);
    let tap = scene.fabric.tap();
    let announced = |address: Ipv4Addr| {
        let frames = tap.frames();
        let from = frames.iter().filter(|frame| frame.direction == Direction::In && &*frame.interface == "node-1");
        from.filter_map(|frame| Arp::of(&frame.bytes))
            .any(|arp| arp.sender == (mac, address) && arp.target.1 == address && arp.ethernet == (mac, Mac::BROADCAST))
    };
    assert!(!announced(VIP));
    scene.dataplanes[0].program(&Program {
        generation: 2,
        local: local(node),
        vips: vec![Vip { address: VIP.into(), announce: true }],
        ..Program::default()
    });
    scene.dataplanes[0].wait_for("its VIP announced", |_| announced(VIP));
    tap.clear();
    // The wire is pulled and put back: who listens at the other end may be another switch.
    scene.fabric.set_carrier(node.wire(), false);
    std::thread::sleep(Duration::from_millis(500));
    scene.fabric.set_carrier(node.wire(), true);
    scene.dataplanes[0].wait_for("its VIP announced once more", |_| announced(VIP));
}

#[test]
fn the_nodes_mac_is_shown_to_the_switches_again_and_again() {
    let Some(scene) = Scene::without_levee(&[1]) else { return };
    let node = &scene.nodes[0];
    let ports = Ports::Node(Take::Owned);
    let _dataplane = Dataplane::start_with(node.namespace(), ports, &[0], "announce_interval: 1s\n");
    // The announcements of the start come first.
    std::thread::sleep(Duration::from_millis(2500));
    let tap = scene.fabric.tap();
    std::thread::sleep(Duration::from_millis(3500));
    let frames = tap.frames();
    let heard = frames.iter().filter(|frame| frame.direction == Direction::In && &*frame.interface == "node-1").count();
    assert!((3..=4).contains(&heard), "{heard} frames in 3.5 s");
}

/// ARP announcements of an address that a wire of the fabric has brought in, by the MAC that it is said to be at.
fn announcements(tap: &Tap, port: &str, address: Ipv4Addr) -> Vec<Mac> {
    let frames = tap.frames();
    let from = frames.iter().filter(|frame| frame.direction == Direction::In && &*frame.interface == port);
    let said = from.filter_map(|frame| Arp::of(&frame.bytes));
    let said =
        said.filter(|arp| arp.ethernet.1 == Mac::BROADCAST && (arp.sender.1, arp.target.1) == (address, address));
    said.map(|arp| arp.sender.0).collect()
}

#[test]
fn at_its_start_a_node_says_twice_where_it_is() {
    let Some(scene) = Scene::without_levee(&[1]) else { return };
    let node = &scene.nodes[0];
    let tap = scene.fabric.tap();
    let dataplane = Dataplane::start(node.namespace(), Ports::Node(Take::Owned));
    let said = || announcements(&tap, "node-1", node.address());
    dataplane.wait_for("both announcements", |_| said().len() >= 2);
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(said(), [node.wire().mac; 2]);
}

#[test]
fn switches_learn_the_nodes_mac_in_each_vlan_of_its_trunk() {
    let Some(scene) = Scene::without_levee(&[1]) else { return };
    let (node, fabric) = (&scene.nodes[0], scene.fabric.namespace());
    if !fabric.try_run("ip link set br0 type bridge vlan_filtering 1").status.success() {
        eprintln!("SKIPPED: this kernel's bridge knows no VLANs (CONFIG_BRIDGE_VLAN_FILTERING)");
        return;
    }
    for vlan in [10, 20] {
        fabric.run(&format!("bridge vlan add vid {vlan} dev node-1"));
    }
    let dataplane = Dataplane::start_as(node.namespace(), |socket| {
        format!(
            "ports:
  - {{interface: eth0, role: uplink, vlans: [untagged, 10]}}
  - {{interface: levee0, role: pods, neighbours: br-ex}}
workers: [0]
socket: {}
flows: {{capacity: 16384}}
memory: {{frames: 8192}}
announce_interval: 1s
",
            socket.display()
        )
    });
    let learnt = |vlan: u16| {
        let table = fabric.run("bridge fdb show br br0");
        let here = format!("{} dev node-1 vlan {vlan} ", node.wire().mac);
        table.lines().any(|line| line.starts_with(&here) && !line.contains("permanent"))
    };
    dataplane.wait_for("the MAC known in both VLANs", |_| learnt(1) && learnt(10));
    assert!(!learnt(20), "which it was not told of");
}

#[test]
fn of_two_uplinks_on_one_segment_one_answers_and_the_other_takes_over() {
    let Some(scene) = Scene::without_levee(&[]) else { return };
    let balancer = scene.host("balancer", 230);
    let other = scene.fabric.plug(&balancer.namespace, "eth1", Mac([2, 0, 0, 0, 0, 231]), "balancer-2");
    let dataplane = Dataplane::start_as(&balancer.namespace, |socket| {
        format!(
            "ports:
  - {{interface: eth0, role: uplink, segment: fabric}}
  - {{interface: eth1, role: uplink, segment: fabric}}
workers: [0]
socket: {}
flows: {{capacity: 16384}}
memory: {{frames: 8192}}
",
            socket.display()
        )
    });
    let asker = scene.host("asker", 201);
    let tap = scene.fabric.tap();
    let said = |wire: &levee_tests::Wire| announcements(&tap, &wire.port, VIP);
    dataplane.program(&Program {
        generation: 1,
        vips: vec![Vip { address: VIP.into(), announce: true }],
        ..Program::default()
    });
    dataplane.wait_for("the VIP announced twice", |_| said(&balancer.wire).len() == 2);
    assert_eq!(answers(&asker.namespace, VIP), [balancer.wire.mac], "one answer, though both hear the question");
    assert_eq!(said(&other), []);
    // Its wire is pulled.
    tap.clear();
    scene.fabric.set_carrier(&balancer.wire, false);
    dataplane.wait_for("the other to speak", |_| !said(&other).is_empty());
    assert_eq!(answers(&asker.namespace, VIP), [other.mac]);
    scene.fabric.set_carrier(&balancer.wire, true);
    tap.clear();
    dataplane.wait_for("the first to speak again", |_| !said(&balancer.wire).is_empty());
    assert_eq!(answers(&asker.namespace, VIP), [balancer.wire.mac]);
    // What one says the other hears, and takes nobody for a thief.
    let events = dataplane.cli().args(["-o", "json", "events"]).output().expect("levee can be run");
    let events: Vec<Event> = serde_json::from_slice(&events.stdout).expect("a list of events");
    assert!(events.iter().all(|event| event.kind != "vip-conflict"), "{events:?}");
    assert_eq!(dataplane.counter("arp_conflict"), 0);
}

#[test]
fn pods_reach_the_world_by_a_gateway_inside_their_prefix() {
    let Some(scene) = Scene::without_levee(&[1]) else { return };
    let (node, pod) = (&scene.nodes[0], &scene.nodes[0].pods()[0]);
    let gateway = Ipv4Addr::new(10, 244, 1, 1);
    let dataplane = Dataplane::start_as(node.namespace(), |socket| {
        format!(
            "ports:
  - {{interface: eth0, role: uplink}}
  - {{interface: levee0, role: pods, neighbours: br-ex, gateways: [{gateway}]}}
workers: [0]
socket: {}
flows: {{capacity: 16384}}
memory: {{frames: 8192}}
",
            socket.display()
        )
    });
    dataplane.program(&Program { generation: 1, local: local(node), ..Program::default() });
    let host = scene.host("far", 201);
    // As CNIs lay pods out: the node's prefix on the link, its first address as the gateway.
    pod.namespace.ip_batch(&format!(
        "addr flush dev eth0
         addr add {}/24 dev eth0
         route add default via {gateway}",
        pod.address
    ));
    let levee0 = node.namespace().run("cat /sys/class/net/levee0/address").trim().parse::<Mac>();
    assert_eq!(answers(&pod.namespace, gateway), [levee0.expect("an interface has a MAC")]);
    pod.namespace.run(&format!("ping -c 1 -W 3 {gateway}"));
    pod.namespace.run(&format!("ping -c 2 -i 0.2 -W 3 {}", host.address));
}

#[test]
fn a_sweep_of_claims_does_not_make_levee_flood_the_fabric() {
    let Some(scene) = Scene::start(&[1, 1], Take::Owned) else { return };
    let dataplane = &scene.dataplanes[0];
    let host = scene.host("thief", 201);
    scene.fabric.wait_until_quiet();
    let tap = scene.fabric.tap();
    let injector = Injector::new(&host.namespace, "eth0");
    let mac = scene.nodes[0].wire().mac;
    for number in 0..20_000_u32 {
        let [.., last] = number.to_be_bytes();
        let claimed = Ipv4Addr::new(10, 244, 1, last);
        let mut claim = arp_request(host.wire.mac, claimed, claimed);
        // To the node alone, so that it is no flood already.
        claim[..6].copy_from_slice(&mac.0);
        injector.send(&claim);
    }
    // A full ring may lose some of them.
    dataplane.wait_for("the claims counted", |dataplane| {
        dataplane.counter("arp_conflict") + dataplane.counter("arp_rate_limited") >= 10_000
    });
    // A program is taken as ever.
    dataplane.program(&Program { generation: 2, local: local(&scene.nodes[0]), ..Program::default() });
    std::thread::sleep(Duration::from_millis(500));
    let said: usize = (0..=255).map(|last| announcements(&tap, "node-1", Ipv4Addr::new(10, 244, 1, last)).len()).sum();
    // One in ten seconds; and a few bouts of those.
    assert!(said <= 3, "{said} announcements, where one pod is there to be defended");
    let output = dataplane.cli().args(["-o", "json", "events"]).output().expect("levee can be run");
    let events: Vec<Event> = serde_json::from_slice(&output.stdout).expect("a list of events");
    let told = events.iter().filter(|event| event.kind == "vip-conflict").count();
    assert!((1..=18).contains(&told), "{events:?}");
}

#[test]
fn somebody_else_who_claims_a_vip_is_seen_and_reported() {
    let Some(scene) = Scene::start(&[1], Take::Owned) else { return };
    let dataplane = &scene.dataplanes[0];
    dataplane.program(&Program {
        generation: 2,
        local: local(&scene.nodes[0]),
        vips: vec![Vip { address: VIP.into(), announce: true }],
        ..Program::default()
    });
    let host = scene.host("thief", 201);
    assert_eq!(dataplane.counter("arp_conflict"), 0);
    scene.fabric.wait_until_quiet();
    let tap = scene.fabric.tap();
    // A gratuitous ARP: "the VIP is at my MAC".
    Injector::new(&host.namespace, "eth0").send(&arp_request(host.wire.mac, VIP, VIP));
    dataplane.wait_for("the conflict counted", |dataplane| dataplane.counter("arp_conflict") > 0);
    // RFC 5227, 2.4 (b): one announcement, which takes back what the claim has put into caches.
    dataplane.wait_for("the VIP defended", |_| !announcements(&tap, "node-1", VIP).is_empty());
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(announcements(&tap, "node-1", VIP), [scene.nodes[0].wire().mac]);
    let output = dataplane.cli().args(["-o", "json", "events"]).output().expect("levee can be run");
    let events: Vec<Event> = serde_json::from_slice(&output.stdout).expect("a list of events");
    let told = events.iter().find(|event| event.kind == "vip-conflict");
    let told = told.unwrap_or_else(|| panic!("no conflict is told: {events:?}"));
    for word in [VIP.to_string(), host.wire.mac.to_string()] {
        assert!(told.message.contains(&word), "`{word}` is not in: {}", told.message);
    }
}
