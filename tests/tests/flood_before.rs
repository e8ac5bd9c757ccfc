//! Without levee: the flood is real, the lab reproduces it, and the lab's instruments tell it from its absence.

use std::net::SocketAddr;

use levee_tests::traffic::{EchoServer, connect_many};
use levee_tests::{ArpPayload, Census, Fabric, Lab, Node, Uplink};

const NODES: u8 = 8;
const CONNECTIONS: usize = 100;

/// 100 TCP connections from a pod of node 1 to a pod of node 2, and what the six other nodes heard meanwhile.
fn bystanders(arp: ArpPayload) -> Option<Vec<Census>> {
    let lab = Lab::start()?;
    let fabric = Fabric::new(&lab);
    let mut nodes: Vec<_> = (1..=NODES).map(|i| Node::new(&lab, &fabric, i, u8::from(i <= 2))).collect();
    for node in &mut nodes {
        node.connect(Uplink::Bridged(arp), &[]);
    }
    let (client, server) = (&nodes[0].pods()[0], &nodes[1].pods()[0]);
    let _echo = EchoServer::start(&server.namespace, 7);
    let tap = fabric.tap();
    let outcome = connect_many(&client.namespace, SocketAddr::from((server.address, 7)), CONNECTIONS);
    assert_eq!(outcome.succeeded, CONNECTIONS, "{outcome}");
    let frames = tap.frames();
    Some(nodes[2..].iter().map(|node| Census::towards(node.wire().mac, &node.wire().port, &frames)).collect())
}

#[test]
fn rewriting_the_ethernet_source_alone_floods_every_bystander() {
    let Some(all) = bystanders(ArpPayload::Left) else { return };
    for census in all {
        // A connection is at least SYN, SYN/ACK, ACK, data, FIN and their acknowledgements, and every one is flooded:
        // neither pod's MAC is ever a source on the fabric.
        assert!(census.unknown_unicast >= CONNECTIONS * 8, "{census}");
        assert!(census.arp_broadcast >= 1, "the pod's own question is broadcast: {census}");
    }
}

#[test]
fn rewriting_the_arp_payload_too_leaves_only_the_questions() {
    let Some(all) = bystanders(ArpPayload::Rewritten) else { return };
    for census in all {
        assert_eq!(census.unknown_unicast, 0, "{census}");
        // Each pod may ask once for the other.
        assert!((1..=2).contains(&census.arp_broadcast), "{census}");
    }
}
