//! A table that is full of flows that do not give way: what becomes of who comes then, in each mode.

use levee_api::program::{MidStream, Via};
use levee_api::tunnel::Tunnel;

use super::*;

/// What the table of [`Lab`] has room for.
const ROOM: u32 = 1024;

/// A service in this mode, beside another one whose connections have taken all there is.
fn full(mode: Mode, mid_stream: MidStream) -> Lab {
    let mut program = program(mode, &[REMOTE_IP]);
    for service in &mut program.services {
        service.flows.mid_stream = Some(mid_stream);
        if mode == Mode::Tunnel {
            service.backends[0].via = Some(Via { address: [192, 168, 0, 11].into(), mac: None });
            program.tunnels = vec![Tunnel::default()];
        }
    }
    let mut other = service(Protocol::Tcp, Mode::Dnat, &[REMOTE_IP]);
    (other.name, other.frontends[0].port) = ("default/other:http".into(), 81);
    program.services.push(other);
    let mut lab = Lab::new(1, program);
    for number in 0..ROOM {
        let client = Ipv4Addr::from_bits(0xcb00_0000 + number).octets();
        lab.one(UPLINK, &tcp((PEER, NODE), (client, VIP), (1000, 81), "S"));
        lab.one(UPLINK, &tcp((PEER, NODE), (REMOTE_IP, client), (8080, 1000), "SA"));
        lab.one(UPLINK, &tcp((PEER, NODE), (client, VIP), (1000, 81), "A"));
    }
    assert_eq!(lab.workers[0].memory().flows.len(), ROOM as usize);
    lab
}

/// How one frame of a new client's ends.
fn ends(lab: &mut Lab, frame: &[u8]) -> &'static str {
    let get = |lab: &Lab, counter| lab.handles[0].counters.get(counter);
    let before = (lab.drops(), get(lab, Counter::Untracked), get(lab, Counter::Hairpinned));
    let sent = lab.arrive(UPLINK, frame);
    assert_eq!(lab.workers[0].memory().flows.len(), ROOM as usize, "nobody has come and nobody has gone");
    match (get(lab, Counter::Untracked) - before.1, get(lab, Counter::Hairpinned) - before.2, sent.len()) {
        (1, 0, 1) => "goes untracked",
        (0, 1, 1) if tcp_flags_of(&sent[0].1).0 => "is reset",
        (0, 0, 0) => lab.drops().into_iter().find(|drop| !before.0.contains(drop)).unwrap().0,
        other => panic!("{other:?}, {:?}", lab.drops()),
    }
}

#[test]
fn who_finds_no_room_is_told_so_as_the_mode_has_it() {
    const FULL: &str = "flow_table_full";
    const GOES: &str = "goes untracked";
    const RESET: &str = "is reset";
    const DROPPED: &str = "mid_stream";
    for (mode, mid_stream, syn, segment, datagram) in [
        // Answers are translated: without a flow, nothing goes.
        (Mode::Nat, MidStream::Hash, FULL, RESET, FULL),
        (Mode::Nat, MidStream::Reset, FULL, RESET, FULL),
        (Mode::Nat, MidStream::Drop, FULL, DROPPED, FULL),
        (Mode::Dnat, MidStream::Hash, FULL, FULL, FULL),
        (Mode::Dnat, MidStream::Reset, FULL, RESET, FULL),
        (Mode::Dnat, MidStream::Drop, FULL, DROPPED, FULL),
        // Answers do not pass: what the hash finds again needs no flow,
        (Mode::Dsr, MidStream::Hash, GOES, GOES, GOES),
        (Mode::Tunnel, MidStream::Hash, GOES, GOES, GOES),
        // and where segments of no flow are refused, a connection without one would end at its second packet.
        (Mode::Dsr, MidStream::Reset, FULL, RESET, FULL),
        (Mode::Dsr, MidStream::Drop, FULL, DROPPED, FULL),
        (Mode::Tunnel, MidStream::Reset, FULL, RESET, FULL),
        (Mode::Tunnel, MidStream::Drop, FULL, DROPPED, FULL),
    ] {
        let mut lab = full(mode, mid_stream);
        let of_tcp = |flags| tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), flags);
        assert_eq!(ends(&mut lab, &of_tcp("S")), syn, "SYN, {mode}, {mid_stream:?}");
        assert_eq!(ends(&mut lab, &of_tcp("A")), segment, "segment, {mode}, {mid_stream:?}");
        let of_udp = udp((PEER, NODE), (CLIENT, VIP), (4000, 80));
        assert_eq!(ends(&mut lab, &of_udp), datagram, "datagram, {mode}, {mid_stream:?}");
        // Whose flows they are is not disturbed by any of it.
        lab.one(UPLINK, &tcp((PEER, NODE), ([203, 0, 0, 0], VIP), (1000, 81), "A"));
    }
}
