//! Fragments of services' packets: each goes where its first one went, and is put together again as one that was never cut.

mod ipv6;

use std::collections::BTreeMap;

use etherparse::{IpNumber, Ipv4Header, UdpHeader};

use super::*;

/// A datagram of so many bytes, in fragments of at most `cut` bytes of data each.
pub(super) fn fragments(
    macs: (Mac, Mac),
    ips: ([u8; 4], [u8; 4]),
    ports: (u16, u16),
    length: usize,
    cut: usize,
    identification: u16,
) -> Vec<Vec<u8>> {
    let data: Vec<u8> = (0..length).map(|index| (index * 7 + 3) as u8).collect();
    let mut header =
        UdpHeader { source_port: ports.0, destination_port: ports.1, length: (8 + length) as u16, checksum: 0 };
    header.checksum = header.calc_checksum_ipv4_raw(ips.0, ips.1, &data).unwrap();
    let datagram = [&header.to_bytes()[..], &data].concat();
    let link = Ethernet2Header { source: macs.0.0, destination: macs.1.0, ether_type: EtherType::IPV4 };
    let chunks: Vec<_> = datagram.chunks(cut).collect();
    (0..chunks.len())
        .map(|index| {
            let mut ip = Ipv4Header::new(chunks[index].len() as u16, 64, IpNumber::UDP, ips.0, ips.1).unwrap();
            ip.identification = identification;
            ip.dont_fragment = false;
            ip.fragment_offset = ((index * cut / 8) as u16).try_into().unwrap();
            ip.more_fragments = index + 1 < chunks.len();
            ip.header_checksum = ip.calc_header_checksum();
            [&link.to_bytes()[..], &ip.to_bytes(), chunks[index]].concat()
        })
        .collect()
}

/// Puts fragments together as their receiver does, by (source, destination, identification); each datagram as a whole frame.
pub(super) fn together(frames: &[(PortId, Vec<u8>)]) -> Vec<Vec<u8>> {
    type Parts<'a> = BTreeMap<u16, &'a [u8]>;
    let mut datagrams: BTreeMap<([u8; 4], [u8; 4], u16), Parts<'_>> = BTreeMap::new();
    for (_, frame) in frames {
        let (ip, rest) = Ipv4Header::from_slice(&frame[14..]).unwrap();
        assert_eq!(ip.header_checksum, ip.calc_header_checksum());
        let data = &rest[..usize::from(ip.total_len) - ip.header_len()];
        let parts = datagrams.entry((ip.source, ip.destination, ip.identification)).or_default();
        assert_eq!(parts.insert(ip.fragment_offset.value(), data), None, "twice");
    }
    let whole = datagrams.into_iter().map(|((source, destination, _), parts)| {
        let data: Vec<u8> = parts.values().copied().flatten().copied().collect();
        let mut ip = Ipv4Header::new(data.len() as u16, 63, IpNumber::UDP, source, destination).unwrap();
        ip.header_checksum = ip.calc_header_checksum();
        let link = &frames[0].1[..14];
        [link, &ip.to_bytes(), &data].concat()
    });
    whole.collect()
}

/// Changes the IP header of a frame.
fn change(frame: &mut [u8], change: impl FnOnce(&mut Ipv4Header)) {
    let mut ip = Ipv4Header::from_slice(&frame[14..]).unwrap().0;
    change(&mut ip);
    ip.header_checksum = ip.calc_header_checksum();
    frame[14..34].copy_from_slice(&ip.to_bytes());
}

pub(super) fn arrive_all(lab: &mut Lab, queue: usize, frames: &[Vec<u8>]) -> Vec<(PortId, Vec<u8>)> {
    frames.iter().flat_map(|frame| lab.arrive_at(queue, UPLINK, frame)).collect()
}

fn request(identification: u16) -> Vec<Vec<u8>> {
    fragments((PEER, NODE), (CLIENT, VIP), (4000, 80), 8_000, 1480, identification)
}

#[test]
fn eight_kilobytes_pass_both_ways_in_every_mode_on_any_queue_in_any_order() {
    for (mode, workers) in [Mode::Nat, Mode::Dnat, Mode::Dsr].into_iter().flat_map(|mode| [(mode, 1), (mode, 4)]) {
        let mut lab = Lab::new(workers, program(mode, &[REMOTE_IP]));
        for turn in 0..workers * 6 {
            let queue = turn % workers;
            let mut parts = request(turn as u16);
            parts.rotate_left(turn / workers);
            let sent = arrive_all(&mut lab, queue, &parts);
            assert_eq!(sent.len(), 6, "{mode:?} {workers} {turn}: {:?}", lab.drops());
            let whole = together(&sent);
            assert_eq!(whole.len(), 1);
            let (source_mac, destination_mac, source, destination, _) = read(&whole[0]);
            assert_eq!((source_mac, destination_mac), (NODE, PEER));
            assert_eq!(destination, if mode == Mode::Dsr { (VIP, 80) } else { (REMOTE_IP, 8080) });
            if mode == Mode::Dsr {
                assert_eq!(source, (CLIENT, 4000));
                continue;
            }
            let mut parts = fragments((PEER, NODE), (REMOTE_IP, source.0), (8080, source.1), 8_000, 1480, turn as u16);
            parts.rotate_right(turn / workers);
            let sent = arrive_all(&mut lab, (queue + 1) % workers, &parts);
            assert_eq!(sent.len(), 6, "{mode:?} {workers} {turn}: {:?}", lab.drops());
            let whole = together(&sent);
            assert_eq!((read(&whole[0]).2, read(&whole[0]).3), ((VIP, 80), (CLIENT, 4000)));
        }
        assert_eq!(lab.drops(), []);
    }
}

#[test]
fn fragments_without_a_first_wait_a_moment_in_bounded_number() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[REMOTE_IP]));
    assert_eq!(arrive_all(&mut lab, 0, &request(1)[1..]), []);
    assert_eq!(lab.handles[0].counters.get(Counter::Waiting), 5);
    lab.now = 499;
    lab.settle();
    assert_eq!(lab.count(Reason::FragmentOrphan), 0);
    lab.now = 500;
    lab.settle();
    assert_eq!(lab.count(Reason::FragmentOrphan), 5);
    for identification in 2..52 {
        assert_eq!(arrive_all(&mut lab, 0, &request(identification)[1..]), []);
    }
    assert_eq!(lab.count(Reason::FragmentQueueFull), 250 - 128);
    // A flood of them does not touch datagrams that come in order.
    let sent = arrive_all(&mut lab, 0, &request(60));
    assert_eq!(sent.len(), 6);
    let _ = read(&together(&sent)[0]);
    lab.now = 1_000;
    lab.settle();
    assert_eq!(lab.count(Reason::FragmentOrphan), 5 + 128);
}

#[test]
fn duplicates_overlaps_and_nonsense_end_each_under_its_own_name() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[REMOTE_IP]));
    let parts = request(1);
    lab.one(UPLINK, &parts[0]);
    lab.one(UPLINK, &parts[1]);
    lab.dropped(UPLINK, &parts[1], Reason::FragmentDuplicate);
    let altered = |frame: &[u8], offset: u16, more: bool, data: usize| {
        let (mut ip, rest) = Ipv4Header::from_slice(&frame[14..]).unwrap();
        ip.fragment_offset = offset.try_into().unwrap();
        ip.more_fragments = more;
        ip.set_payload_len(data).unwrap();
        ip.header_checksum = ip.calc_header_checksum();
        [&frame[..14], &ip.to_bytes(), &rest[..data]].concat()
    };
    // One byte that is not the last, and the ping of death.
    lab.dropped(UPLINK, &altered(&parts[2], 400, true, 1), Reason::FragmentMalformed);
    lab.dropped(UPLINK, &altered(&parts[2], 400, true, 0), Reason::FragmentMalformed);
    lab.dropped(UPLINK, &altered(&parts[2], 8191, false, 1000), Reason::FragmentMalformed);
    // A tail that begins inside of what was there ends all of it.
    lab.dropped(UPLINK, &altered(&parts[2], 369, true, 1480), Reason::FragmentOverlap);
    lab.dropped(UPLINK, &parts[3], Reason::FragmentOverlap);
    // The datagram may come once more.
    let sent = arrive_all(&mut lab, 0, &parts);
    assert_eq!(sent.len(), 6, "{:?}", lab.drops());
}

/// What comes out of a datagram whose first fragment came twice: for its receiver there is one datagram, and a duplicate in it.
fn whole_but_for_a_duplicate(mut sent: Vec<(PortId, Vec<u8>)>, at: usize) -> Vec<u8> {
    let again = sent.remove(at);
    assert_eq!(again, sent[0], "the same bytes, identification and all");
    let mut whole = together(&sent);
    assert_eq!(whole.len(), 1);
    whole.remove(0)
}

#[test]
fn a_first_fragment_that_comes_twice_costs_nobody_its_datagram() {
    for (mode, workers) in [Mode::Nat, Mode::Dnat, Mode::Dsr].into_iter().flat_map(|mode| [(mode, 1), (mode, 4)]) {
        let mut lab = Lab::new(workers, program(mode, &[REMOTE_IP]));
        // Behind the one before the last, and right behind itself.
        for (at, queue) in [(5, 0), (1, workers - 1)] {
            let twice = |mut parts: Vec<Vec<u8>>| {
                parts.insert(at, parts[0].clone());
                parts
            };
            let sent = arrive_all(&mut lab, queue, &twice(request(at as u16)));
            assert_eq!(sent.len(), 7, "{mode:?} {workers} {at}: {:?}", lab.drops());
            let (.., source, destination, _) = read(&whole_but_for_a_duplicate(sent, at));
            if mode == Mode::Dsr {
                assert_eq!((source, destination), ((CLIENT, 4000), (VIP, 80)));
                continue;
            }
            assert_eq!(destination, (REMOTE_IP, 8080));
            let answer = fragments((PEER, NODE), (REMOTE_IP, source.0), (8080, source.1), 8_000, 1480, at as u16);
            let sent = arrive_all(&mut lab, queue, &twice(answer));
            assert_eq!(sent.len(), 7, "{mode:?} {workers} {at}: {:?}", lab.drops());
            let (.., source, destination, _) = read(&whole_but_for_a_duplicate(sent, at));
            assert_eq!((source, destination), ((VIP, 80), (CLIENT, 4000)));
        }
        assert_eq!(lab.drops(), []);
    }
}

#[test]
fn what_becomes_of_the_first_becomes_of_all() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[REMOTE_IP]));
    // A port that the VIP has not: answered once, and the rest ends.
    let parts = fragments((PEER, NODE), (CLIENT, VIP), (4000, 81), 4_000, 1480, 1);
    let (_, answer) = lab.one(UPLINK, &parts[0]);
    assert_eq!(answer[34..36], [3, 3]);
    lab.dropped(UPLINK, &parts[1], Reason::NoReplyAllowed);
    lab.dropped(UPLINK, &parts[2], Reason::NoReplyAllowed);
    // No backend that may be told: dropped, for the reason of the first.
    let mut closed = program(Mode::Nat, &[]);
    for service in &mut closed.services {
        service.frontends[0].when_empty = WhenEmpty::Drop;
    }
    let mut lab = Lab::new(1, closed);
    for part in request(1) {
        lab.dropped(UPLINK, &part, Reason::NoLocalBackend);
    }
}

#[test]
fn a_ping_in_fragments_is_refused_as_such() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[REMOTE_IP]));
    for (offset, more) in [(0u16, true), (185, false)] {
        let mut ip = Ipv4Header::new(1480, 64, etherparse::IpNumber::ICMP, CLIENT, VIP).unwrap();
        (ip.fragment_offset, ip.more_fragments) = (offset.try_into().unwrap(), more);
        ip.header_checksum = ip.calc_header_checksum();
        let link = Ethernet2Header { source: PEER.0, destination: NODE.0, ether_type: EtherType::IPV4 };
        let mut message = vec![0; 1480];
        message[0] = 8;
        lab.dropped(UPLINK, &[&link.to_bytes()[..], &ip.to_bytes(), &message].concat(), Reason::VipPingFragment);
    }
}

#[test]
fn a_backends_own_fragments_pass_as_they_are() {
    let mut lab = Lab::new(2, program(Mode::Dnat, &[POD_IP]));
    let parts = fragments((POD, INSIDE), (POD_IP, [10, 244, 9, 9]), (5000, 53), 8_000, 1480, 77);
    for (index, part) in parts.iter().enumerate() {
        let sent = lab.arrive_at(index % 2, PODS, part);
        assert_eq!(sent.len(), 1, "{:?}", lab.drops());
        assert_eq!((sent[0].0, &sent[0].1[14..]), (UPLINK, &part[14..]), "identification and all");
    }
    // Of others nobody keeps anything: they need no order.
    let parts = fragments((POD, INSIDE), (POD_2_IP, [10, 244, 9, 9]), (5000, 53), 8_000, 1480, 77);
    assert_eq!(lab.arrive(PODS, &parts[3]).len(), 1);
}

/// RFC 6864, 5.3.1: two clients use the same identification towards the same VIP, and behind it there is one address.
#[test]
fn two_clients_behind_one_address_never_share_an_identification() {
    for workers in [1, 4] {
        let mut lab = Lab::new(workers, program(Mode::Nat, &[REMOTE_IP]));
        let of = |client: u8| fragments((PEER, NODE), ([192, 0, 2, client], VIP), (4000, 80), 4_000, 1480, 1);
        let mut sent = Vec::new();
        for (one, other) in of(7).iter().zip(&of(8)) {
            sent.extend(lab.arrive_at(0, UPLINK, one));
            sent.extend(lab.arrive_at(workers - 1, UPLINK, other));
        }
        // Whole ones that may yet be fragmented, too.
        for client in 9..200 {
            let mut whole = udp((PEER, NODE), ([192, 0, 2, client], VIP), (4000, 80));
            change(&mut whole, |ip| ip.dont_fragment = false);
            sent.extend(lab.arrive_at(usize::from(client) % workers, UPLINK, &whole));
        }
        let whole = together(&sent);
        assert_eq!(whole.len(), 2 + 191);
        for datagram in &whole {
            let _ = read(datagram);
        }
        assert_eq!(lab.drops(), []);
    }
}

#[test]
fn an_atomic_datagram_keeps_what_nobody_reads() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[REMOTE_IP]));
    let mut frame = udp((PEER, NODE), (CLIENT, VIP), (4000, 80));
    change(&mut frame, |ip| (ip.identification, ip.dont_fragment) = (0xabcd, true));
    let sent = lab.one(UPLINK, &frame).1;
    assert_eq!(sent[18..20], [0xab, 0xcd]);
}
