//! With levee on every node: what the fabric carries, and to whom.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use levee_api::net::Mac;
use levee_tests::levee::{Take, at};
use levee_tests::traffic::{EchoServer, bulk, connect_many, udp_round_trips};
use levee_tests::{Arp, Captured, Census, Direction, Kind, Node, Scene};

const CONNECTIONS: usize = 100;

/// Two nodes with pods, and six that have nothing to do with them.
const PODS: [u8; 8] = [2, 2, 0, 0, 0, 0, 0, 0];

/// Every frame that left a node: none shows any MAC but the node's.
fn assert_contract(node: &Node, frames: &[Captured]) {
    let mac = node.wire().mac;
    let mut seen = 0;
    for frame in frames.iter().filter(|f| f.direction == Direction::In && *f.interface == *node.wire().port) {
        assert_eq!(frame.bytes.get(6..12), Some(&mac.0[..]), "a source that is not {mac}: {:02x?}", frame.bytes);
        if let Some(arp) = Arp::of(&frame.bytes) {
            assert_eq!(arp.sender.0, mac, "{arp:?}");
        }
        seen += 1;
    }
    assert!(seen > 0, "nothing left {}", node.name());
}

#[test]
fn no_bystander_hears_anything_while_pods_talk_in_both_directions() {
    let Some(scene) = Scene::start(&PODS, Take::Owned) else { return };
    let (one, two) = (&scene.nodes[0].pods()[0], &scene.nodes[1].pods()[0]);
    let _echoes = [one, two].map(|pod| EchoServer::start(&pod.namespace, 7));
    scene.fabric.wait_until_quiet();
    let tap = scene.fabric.tap();
    for (client, server) in [(one, two), (two, one)] {
        let outcome = connect_many(&client.namespace, at(server.address, 7), CONNECTIONS);
        assert_eq!(outcome.succeeded, CONNECTIONS, "{outcome}");
        let outcome = udp_round_trips(&client.namespace, at(server.address, 7), CONNECTIONS, 1400);
        assert_eq!(outcome.succeeded, CONNECTIONS, "{outcome}");
    }
    let frames = tap.frames();
    for node in &scene.nodes[2..] {
        let census = Census::towards(node.wire().mac, &node.wire().port, &frames);
        assert_eq!(census.flooded(), 0, "{} heard {census}", node.name());
    }
    for node in &scene.nodes[..2] {
        let census = Census::towards(node.wire().mac, &node.wire().port, &frames);
        assert!(census.own >= CONNECTIONS * 8, "the taps hear what is there: {census}");
        assert_contract(node, &frames);
    }
}

#[test]
fn it_stays_so_after_the_switches_have_forgotten_every_station() {
    let Some(scene) = Scene::start(&PODS, Take::Owned) else { return };
    let (client, server) = (&scene.nodes[0].pods()[0], &scene.nodes[1].pods()[0]);
    let _echo = EchoServer::start(&server.namespace, 7);
    assert_eq!(connect_many(&client.namespace, at(server.address, 7), 1).succeeded, 1);
    scene.fabric.wait_until_quiet();
    let tap = scene.fabric.tap();
    scene.fabric.forget();
    let outcome = connect_many(&client.namespace, at(server.address, 7), CONNECTIONS);
    assert_eq!(outcome.succeeded, CONNECTIONS, "{outcome}");
    let frames = tap.frames();
    for node in &scene.nodes[2..] {
        // The first SYN: nobody has heard the server's node since. Its answer teaches the switches. (What the kernels say
        // to each other to see whether they are still there is ARP, and has the same fate once.)
        let flooded = frames
            .iter()
            .filter(|frame| frame.direction == Direction::Out && *frame.interface == *node.wire().port)
            .filter(|frame| Kind::of(&frame.bytes, node.wire().mac) == Kind::UnknownUnicast)
            .filter(|frame| Arp::of(&frame.bytes).is_none())
            .count();
        assert!(flooded <= 2, "{} heard {flooded}", node.name());
    }
}

#[test]
fn bulk_data_arrives_whole_whatever_offloads_its_sender_counts_on() {
    let Some(scene) = Scene::start(&[1, 1], Take::Owned) else { return };
    let (client, server) = (&scene.nodes[0].pods()[0], &scene.nodes[1].pods()[0]);
    let _echo = EchoServer::start(&server.namespace, 7);
    let rate = bulk(&client.namespace, at(server.address, 7), 20_000_000);
    let rate = rate.unwrap_or_else(|error| panic!("{error}\n{}", scene.dataplanes[0].counters()));
    // A thousandth of what a debug build does on a busy machine, but a hundred times what retransmissions alone would.
    assert!(rate > 500_000.0, "{rate:.0} bytes per second");
}

#[test]
fn what_goes_to_a_pod_that_is_not_there_ends_at_its_node() {
    let Some(scene) = Scene::start(&[1, 1, 0], Take::Owned) else { return };
    let client = &scene.nodes[0].pods()[0];
    scene.fabric.wait_until_quiet();
    let tap = scene.fabric.tap();
    let nobody = at(Ipv4Addr::new(10, 244, 2, 99), 7);
    let outcome = connect_many(&client.namespace, nobody, 1);
    assert_eq!(outcome.succeeded, 0, "{outcome}");
    let frames = tap.frames();
    let census = Census::towards(scene.nodes[2].wire().mac, "node-3", &frames);
    assert_eq!(census.flooded(), 0, "{census}");
    assert!(Census::towards(scene.nodes[1].wire().mac, "node-2", &frames).own > 0, "its node did get them");
    scene.dataplanes[1].wait_for("them counted", |dataplane| dataplane.counter("next_hop_unresolved") > 0);
}

#[test]
fn traffic_between_pods_of_one_node_stays_there() {
    let Some(scene) = Scene::start(&[2, 0], Take::Owned) else { return };
    let [client, server] = scene.nodes[0].pods() else { panic!("two pods were asked for") };
    let _echo = EchoServer::start(&server.namespace, 7);
    scene.fabric.wait_until_quiet();
    let tap = scene.fabric.tap();
    let outcome = connect_many(&client.namespace, at(server.address, 7), CONNECTIONS);
    assert_eq!(outcome.succeeded, CONNECTIONS, "{outcome}");
    let pods: BTreeSet<Ipv4Addr> = [client.address, server.address].into();
    for frame in tap.frames() {
        let destination = frame.bytes.get(30..34).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map(Ipv4Addr::from);
        assert!(!destination.is_some_and(|address| pods.contains(&address)), "on the fabric: {:02x?}", frame.bytes);
    }
}

#[test]
fn what_pods_broadcast_does_not_reach_the_fabric() {
    let Some(scene) = Scene::start(&[1, 0], Take::Owned) else { return };
    let pod = &scene.nodes[0].pods()[0];
    scene.fabric.wait_until_quiet();
    let tap = scene.fabric.tap();
    let injector = levee_tests::inject::Injector::new(&pod.namespace, "eth0");
    let before = scene.dataplanes[0].counter("dropped");
    let groups = [Mac::BROADCAST, Mac([1, 0, 0x5e, 0, 0, 251]), Mac([0x33, 0x33, 0, 0, 0, 1])];
    for group in groups {
        // A UDP datagram to the group, well-formed as far as anybody looks.
        let mut frame = group.0.to_vec();
        frame.extend(pod.mac.0);
        frame.extend([8, 0, 0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0]);
        frame.extend(pod.address.octets());
        frame.extend([255, 255, 255, 255, 0x14, 0xe9, 0x14, 0xe9, 0, 8, 0, 0]);
        frame.resize(60, 0);
        injector.send(&frame);
    }
    injector.send(&levee_tests::inject::arp_request(pod.mac, pod.address, pod.address));
    // An unknown protocol to everybody.
    let mut frame = Mac::BROADCAST.0.to_vec();
    frame.extend(pod.mac.0);
    frame.extend([0x88, 0xb5]);
    frame.resize(60, 0xee);
    injector.send(&frame);
    scene.dataplanes[0].wait_for("their drops counted", |dataplane| dataplane.counter("dropped") >= before + 4);
    let mine: Vec<_> = tap
        .frames()
        .into_iter()
        .filter(|frame| frame.direction == Direction::In && &*frame.interface == "node-1")
        .filter(|frame| frame.bytes.first().is_some_and(|first| first & 1 == 1))
        .filter(|frame| Arp::of(&frame.bytes).is_none_or(|arp| arp.sender.1 == pod.address))
        .collect();
    assert!(mine.is_empty(), "{mine:02x?}\n{}", scene.dataplanes[0].counters());
}
