//! How much is answered: by one, and by all together.

use super::*;

/// Answers of each of `sources`' first packets to what makes `frame`, and how many the limit held back.
fn answered(lab: &mut Lab, sources: std::ops::Range<u32>, frame: impl Fn([u8; 4]) -> Vec<u8>) -> (usize, u64) {
    let before = lab.count(Reason::ReplyRateLimited);
    let sources = sources.map(|source| Ipv4Addr::from_bits(0xcb00_0000 + source).octets());
    let sent = sources.map(|source| lab.arrive(UPLINK, &frame(source)).len()).sum();
    (sent, lab.count(Reason::ReplyRateLimited) - before)
}

fn closed(source: [u8; 4]) -> Vec<u8> {
    tcp((PEER, NODE), (source, VIP), (4000, 81), "S")
}

fn unreachable(source: [u8; 4]) -> Vec<u8> {
    udp((PEER, NODE), (source, VIP), (4000, 81))
}

fn ping(source: [u8; 4]) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(PEER.0, NODE.0).ipv4(source, VIP, 64).icmpv4_echo_request(7, 9);
    builder.write(&mut frame, b"data").unwrap();
    frame
}

#[test]
fn a_flood_of_forged_sources_is_not_turned_round_at_its_own_rate() {
    for frame in [closed, unreachable, ping] {
        let mut lab = Lab::new(1, program(Mode::Nat, &[]));
        assert_eq!(answered(&mut lab, 0..10_000, frame), (100, 9_900));
        lab.now += 500;
        assert_eq!(answered(&mut lab, 10_000..20_000, frame), (50, 9_950), "half a second later");
    }
}

#[test]
fn all_kinds_of_answers_share_one_limit() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[]));
    assert_eq!(answered(&mut lab, 0..50, closed), (50, 0));
    assert_eq!(answered(&mut lab, 50..80, unreachable), (30, 0));
    assert_eq!(answered(&mut lab, 80..180, ping), (20, 80));
}

#[test]
fn one_source_cannot_spend_what_is_there_for_all() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[]));
    let one = (0..200).map(|_| lab.arrive(UPLINK, &unreachable(CLIENT)).len()).sum::<usize>();
    assert_eq!((one, lab.count(Reason::ReplyRateLimited)), (10, 190));
    assert_eq!(answered(&mut lab, 0..50, closed), (50, 0));
}
