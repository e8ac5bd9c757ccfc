//! QUIC: a client that has changed its address stays with the backend that its connection ID names.

use levee_api::quic::{Config, ServerId};

use super::*;
use crate::quic::Code;

const BACKENDS: [[u8; 4]; 3] = [[10, 244, 2, 7], [10, 244, 3, 7], [10, 244, 4, 7]];

fn config() -> Config {
    Config {
        rotation: 2,
        server_id_length: 4,
        nonce_length: 6,
        key: Some("8f95f09245765f80256934e50c66207f".parse().unwrap()),
        encodes_length: false,
        servers: Vec::new(),
    }
}

fn lab(workers: usize, mode: Mode) -> Lab {
    let mut program = program(mode, &BACKENDS);
    program.services[1].quic = vec![config()];
    Lab::new(workers, program)
}

/// A connection ID of the backend's own making.
fn id(backend: [u8; 4], nonce: u8) -> Vec<u8> {
    let id = ServerId::of_address(backend.into(), 4);
    Code::new(&config()).connection_id(id.octets(), &[nonce; 6], nonce).unwrap()
}

fn datagram(client: ([u8; 4], u16), payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(PEER.0, NODE.0).ipv4(client.0, VIP, 64).udp(client.1, 80);
    builder.write(&mut frame, payload).unwrap();
    frame
}

/// A packet of an established connection: a short header.
fn short(client: ([u8; 4], u16), id: &[u8]) -> Vec<u8> {
    datagram(client, &[&[0x41], id, &[0xee; 30]].concat())
}

/// A client's first packet, with a connection ID of its own choice.
fn initial(client: ([u8; 4], u16), id: &[u8]) -> Vec<u8> {
    datagram(client, &[&[0xc3, 0, 0, 0, 1, id.len() as u8], id, &[0; 100]].concat())
}

/// The backend that a frame gets.
fn gets(lab: &mut Lab, frame: &[u8]) -> [u8; 4] {
    let (port, sent) = lab.one(UPLINK, frame);
    assert_eq!(port, UPLINK);
    read(&sent).3.0
}

fn named(lab: &Lab) -> u64 {
    lab.handles.iter().map(|handle| handle.counters.get(Counter::ByConnection)).sum()
}

#[test]
fn a_client_that_moves_stays_with_its_backend() {
    for (workers, mode) in [(1, Mode::Nat), (2, Mode::Nat), (1, Mode::Dnat), (2, Mode::Dnat)] {
        let mut lab = lab(workers, mode);
        let mut moves = 0;
        for port in 4000..4010 {
            let backend = gets(&mut lab, &initial((CLIENT, port), &[0xe3; 8]));
            let begun = named(&lab);
            assert_eq!(gets(&mut lab, &short((CLIENT, port), &id(backend, 1))), backend, "the same address");
            assert_eq!(named(&lab), begun, "which needs no connection ID");
            for (nonce, client) in [(2, (CLIENT, port + 1000)), (3, ([203, 0, 113, 9], port))] {
                assert_eq!(gets(&mut lab, &short(client, &id(backend, nonce))), backend, "{mode}, {client:?}");
                // And there, even when it says nothing that anybody understands.
                assert_eq!(gets(&mut lab, &short(client, &[0xff; 12])), backend);
                moves += 1;
            }
        }
        assert_eq!(named(&lab), moves);
    }
}

#[test]
fn a_long_header_names_its_backend_too_and_what_names_nobody_goes_by_hash() {
    let mut lab = lab(1, Mode::Nat);
    let mut other = Lab::new(1, program(Mode::Nat, &BACKENDS));
    for port in 4000..4030 {
        let backend = BACKENDS[usize::from(port) % 3];
        assert_eq!(gets(&mut lab, &initial((CLIENT, port), &id(backend, 7))), backend);
        let stranger = id([10, 244, 9, 9], 7);
        let cut = id(backend, 7)[..10].to_vec();
        let unroutable = [&[0xff], &id(backend, 7)[1..]].concat();
        for (at, what) in [(1000, stranger), (2000, cut), (3000, unroutable), (4000, vec![2 << 5])] {
            let client = (CLIENT, port + at);
            assert_eq!(gets(&mut lab, &initial(client, &what)), gets(&mut other, &initial(client, &what)), "{what:?}");
        }
        // No QUIC at all.
        let client = (CLIENT, port + 5000);
        assert_eq!(gets(&mut lab, &datagram(client, b"")), gets(&mut other, &datagram(client, b"")));
    }
    assert_eq!(named(&lab), 30);
    assert_eq!(named(&other), 0);
}

#[test]
fn one_that_drains_keeps_its_connections_and_one_that_is_gone_has_none() {
    let mut lab = lab(1, Mode::Nat);
    let mut service = lab.master.program().services[1].clone();
    service.backends[0].pools.clear();
    let drains = BACKENDS[0];
    lab.amend(Delta { upsert_services: vec![service.clone()], ..Delta::default() });
    assert_eq!(gets(&mut lab, &short((CLIENT, 4000), &id(drains, 1))), drains);
    service.backends.remove(0);
    lab.amend(Delta { upsert_services: vec![service], ..Delta::default() });
    for port in 4000..4010 {
        assert_ne!(gets(&mut lab, &short((CLIENT, port), &id(drains, 1))), drains);
    }
}

#[test]
fn where_only_backends_of_this_node_may_be_chosen_no_connection_id_names_another() {
    let mut program = program(Mode::Nat, &BACKENDS);
    program.services[1].quic = vec![config()];
    program.services[1].frontends[0].pool = Pool::Local;
    program.services[1].backends[0].pools = vec![Pool::Cluster, Pool::Local];
    let mut lab = Lab::new(1, program);
    assert_eq!(gets(&mut lab, &short((CLIENT, 4000), &id(BACKENDS[1], 1))), BACKENDS[0]);
    assert_eq!(named(&lab), 0);
}
