//! The same for IPv6, where a header of its own says what a fragment is of, and where each may name another header to follow: with
//! options among what was cut, and without, and with names that only the first one's counts of (RFC 8200, 4.5).

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use etherparse::{Ipv6Header, UdpHeader};

use super::super::ipv6::{CLIENT, POD_2_IP, POD_IP, REMOTE_IP, VIP, address, program, read, udp};
use super::super::*;
use super::arrive_all;

const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const OPTIONS: u8 = 60;
const FRAGMENT: u8 = 44;

/// Destination options: eight bytes that are padding (RFC 8200, 4.2), before the header with this number.
const fn padding(next: u8) -> [u8; 8] {
    [next, 0, 1, 4, 0, 0, 0, 0]
}

/// What stands around a datagram's fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dress {
    Plain,
    /// In front of the fragment header, for each router.
    HopByHop,
    /// Behind it, and so in the first fragment alone: that one is found to be of UDP, and the others to be of options.
    Options,
    /// Only the first one says what it is of; the others name protocols as they like.
    Names,
}

const DRESSES: [Dress; 4] = [Dress::Plain, Dress::HopByHop, Dress::Options, Dress::Names];

type Addresses = (Ipv6Addr, Ipv6Addr);

/// One frame with this header, and then this.
fn frame(macs: (Mac, Mac), ips: Addresses, next: u8, rest: &[u8]) -> Vec<u8> {
    let ip = Ipv6Header {
        payload_length: rest.len() as u16,
        next_header: etherparse::IpNumber(next),
        hop_limit: 64,
        source: ips.0.octets(),
        destination: ips.1.octets(),
        ..Ipv6Header::default()
    };
    let link = Ethernet2Header { source: macs.0.0, destination: macs.1.0, ether_type: EtherType::IPV6 };
    [&link.to_bytes()[..], &ip.to_bytes(), rest].concat()
}

/// A fragment of something that begins with the header `next`.
fn fragment(macs: (Mac, Mac), ips: Addresses, next: u8, place: (usize, bool), id: u32, data: &[u8]) -> Vec<u8> {
    let field = (place.0 as u16 | u16::from(place.1)).to_be_bytes();
    frame(macs, ips, FRAGMENT, &[&[next, 0, field[0], field[1]][..], &id.to_be_bytes(), data].concat())
}

/// A datagram of 8,000 bytes, in fragments.
fn fragments(dress: Dress, macs: (Mac, Mac), ips: Addresses, ports: (u16, u16), id: u32) -> Vec<Vec<u8>> {
    let data: Vec<u8> = (0..8_000).map(|index| (index * 7 + 3) as u8).collect();
    let length = (8 + data.len()) as u16;
    let mut header = UdpHeader { source_port: ports.0, destination_port: ports.1, length, checksum: 0 };
    header.checksum = header.calc_checksum_ipv6_raw(ips.0.octets(), ips.1.octets(), &data).unwrap();
    let datagram = [&header.to_bytes()[..], &data].concat();
    let (first, datagram) = match dress {
        Dress::Options => (OPTIONS, [&padding(UDP)[..], &datagram].concat()),
        _ => (UDP, datagram),
    };
    let chunks: Vec<_> = datagram.chunks(1432).collect();
    let one = |(index, chunk): (usize, &&[u8])| {
        let next = if dress == Dress::Names && index > 0 { [6, OPTIONS, ICMPV6][index % 3] } else { first };
        let mut frame = fragment(macs, ips, next, (index * 1432, index + 1 < chunks.len()), id, chunk);
        if dress == Dress::HopByHop {
            frame.splice(54..54, padding(FRAGMENT));
            let length = u16::from_be_bytes([frame[18], frame[19]]) + 8;
            frame[18..20].copy_from_slice(&length.to_be_bytes());
            frame[20] = 0;
        }
        frame
    };
    chunks.iter().enumerate().map(one).collect()
}

/// Puts fragments together as their receiver does; each datagram as a whole frame without a fragment header.
fn together(frames: &[(PortId, Vec<u8>)]) -> Vec<Vec<u8>> {
    type Parts<'a> = BTreeMap<u16, (u8, &'a [u8])>;
    let mut datagrams: BTreeMap<(Addresses, u32), Parts<'_>> = BTreeMap::new();
    for (_, frame) in frames {
        let (ip, rest) = Ipv6Header::from_slice(&frame[14..]).unwrap();
        let rest = &rest[..usize::from(ip.payload_length)];
        let header = if ip.next_header.0 == 0 { &rest[8..] } else { rest };
        let field = u16::from_be_bytes([header[2], header[3]]);
        let id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let parts = datagrams.entry(((ip.source.into(), ip.destination.into()), id)).or_default();
        assert_eq!(parts.insert(field & 0xfff8, (header[0], &header[8..])), None, "twice");
    }
    let macs = |frame: &[u8]| (Mac(frame[6..12].try_into().unwrap()), Mac(frame[..6].try_into().unwrap()));
    let whole = datagrams.into_iter().map(|((ips, _), parts)| {
        let data: Vec<u8> = parts.values().flat_map(|part| part.1).copied().collect();
        frame(macs(&frames[0].1), ips, parts[&0].0, &data)
    });
    whole.collect()
}

fn request(dress: Dress, id: u32) -> Vec<Vec<u8>> {
    fragments(dress, (PEER, NODE), (CLIENT, VIP), (4000, 80), id)
}

#[test]
fn eight_kilobytes_pass_both_ways_in_every_mode_and_dress_on_any_queue_in_any_order() {
    for (mode, workers) in [Mode::Nat, Mode::Dnat, Mode::Dsr].into_iter().flat_map(|mode| [(mode, 1), (mode, 4)]) {
        let mut lab = Lab::new(workers, program(mode, &[REMOTE_IP]));
        for (turn, dress) in (0..workers * 6).flat_map(|turn| DRESSES.map(|dress| (turn, dress))) {
            let queue = turn % workers;
            let mut parts = request(dress, turn as u32);
            parts.rotate_left(turn / workers);
            let sent = arrive_all(&mut lab, queue, &parts);
            assert_eq!(sent.len(), 6, "{mode:?} {dress:?} {workers} {turn}: {:?}", lab.drops());
            let whole = together(&sent);
            assert_eq!(whole.len(), 1);
            let (macs, source, destination, _) = read(&whole[0]);
            assert_eq!(macs, (NODE, PEER));
            assert_eq!(destination, if mode == Mode::Dsr { (VIP, 80) } else { (REMOTE_IP, 8080) });
            if mode == Mode::Dsr {
                assert_eq!(source, (CLIENT, 4000));
                continue;
            }
            let answer = ((PEER, NODE), (REMOTE_IP, source.0), (8080, source.1));
            let mut parts = fragments(dress, answer.0, answer.1, answer.2, turn as u32);
            parts.rotate_right(turn / workers);
            let sent = arrive_all(&mut lab, (queue + 1) % workers, &parts);
            assert_eq!(sent.len(), 6, "{mode:?} {dress:?} {workers} {turn}: {:?}", lab.drops());
            let whole = together(&sent);
            assert_eq!((read(&whole[0]).1, read(&whole[0]).2), ((VIP, 80), (CLIENT, 4000)));
        }
        assert_eq!(lab.drops(), []);
    }
}

/// A reply of which only a later fragment comes has nothing in it that says of which flow it is, nor even that it is UDP.
#[test]
fn nothing_of_a_backends_reply_leaves_untranslated() {
    for dress in DRESSES {
        let mut lab = Lab::new(1, program(Mode::Dnat, &[POD_IP]));
        lab.one(UPLINK, &udp((PEER, NODE), (CLIENT, VIP), (4000, 80)));
        let parts = fragments(dress, (POD, INSIDE), (POD_IP, CLIENT), (8080, 4000), 5);
        for part in &parts[1..] {
            assert_eq!(lab.arrive(PODS, part), [], "{dress:?}: it waits for its first");
        }
        let sent = lab.arrive(PODS, &parts[0]);
        let whole = together(&sent);
        assert_eq!((whole.len(), read(&whole[0]).1, read(&whole[0]).2), (1, (VIP, 80), (CLIENT, 4000)), "{dress:?}");
        assert_eq!(arrive_all(&mut lab, 0, &[]), []);
        for part in &fragments(dress, (POD, INSIDE), (POD_IP, CLIENT), (8080, 4000), 6)[1..] {
            assert_eq!(lab.arrive(PODS, part), []);
        }
        lab.now = 500;
        assert_eq!(lab.settle(), []);
        assert_eq!(lab.drops(), [(Reason::FragmentOrphan.name(), 5)], "{dress:?}");
    }
}

#[test]
fn a_first_fragment_that_comes_twice_costs_nobody_its_datagram() {
    for (mode, dress) in [Mode::Nat, Mode::Dnat].into_iter().flat_map(|mode| DRESSES.map(|dress| (mode, dress))) {
        let mut lab = Lab::new(1, program(mode, &[REMOTE_IP]));
        let twice = |mut parts: Vec<Vec<u8>>| {
            parts.insert(3, parts[0].clone());
            parts
        };
        let whole = |mut sent: Vec<(PortId, Vec<u8>)>| {
            assert_eq!(sent.remove(3), sent[0], "the same bytes, identification and all");
            let whole = together(&sent);
            assert_eq!(whole.len(), 1);
            (read(&whole[0]).1, read(&whole[0]).2)
        };
        let (source, destination) = whole(arrive_all(&mut lab, 0, &twice(request(dress, 1))));
        assert_eq!(destination, (REMOTE_IP, 8080));
        let answer = fragments(dress, (PEER, NODE), (REMOTE_IP, source.0), (8080, source.1), 1);
        assert_eq!(whole(arrive_all(&mut lab, 0, &twice(answer))), ((VIP, 80), (CLIENT, 4000)));
        assert_eq!(lab.drops(), []);
    }
}

#[test]
fn duplicates_overlaps_and_nonsense_end_each_under_its_own_name() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[REMOTE_IP]));
    let parts = request(Dress::Plain, 1);
    let part =
        |at: usize, more: bool, data: usize| fragment((PEER, NODE), (CLIENT, VIP), UDP, (at, more), 1, &vec![7; data]);
    lab.one(UPLINK, &parts[0]);
    lab.one(UPLINK, &parts[1]);
    lab.dropped(UPLINK, &parts[1], Reason::FragmentDuplicate);
    lab.dropped(UPLINK, &part(3200, true, 1), Reason::FragmentMalformed);
    lab.dropped(UPLINK, &part(3200, true, 0), Reason::FragmentMalformed);
    lab.dropped(UPLINK, &part(65_528, false, 1000), Reason::FragmentMalformed);
    lab.dropped(UPLINK, &part(2856, true, 1432), Reason::FragmentOverlap);
    lab.dropped(UPLINK, &parts[3], Reason::FragmentOverlap);
    let sent = arrive_all(&mut lab, 0, &parts);
    assert_eq!(sent.len(), 6, "{:?}", lab.drops());
}

#[test]
fn what_becomes_of_the_first_becomes_of_all() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[REMOTE_IP]));
    // A port that the VIP has not: answered once, and the rest ends, whatever it says to be of.
    let parts = fragments(Dress::Names, (PEER, NODE), (CLIENT, VIP), (4000, 81), 1);
    let (_, answer) = lab.one(UPLINK, &parts[0]);
    assert_eq!(answer[54..56], [1, 4]);
    for part in &parts[1..] {
        lab.dropped(UPLINK, part, Reason::NoReplyAllowed);
    }
    // A ping, with options in front of it and without.
    for (id, next, ahead) in [(2, ICMPV6, &[][..]), (3, OPTIONS, &padding(ICMPV6)[..])] {
        let ping = [ahead, &[128, 0, 0, 0, 0, 1, 0, 1], &[0; 1_016]].concat();
        let of = |place, data| fragment((PEER, NODE), (CLIENT, VIP), next, place, id, data);
        lab.dropped(UPLINK, &of((0, true), &ping), Reason::VipPingFragment);
        lab.dropped(UPLINK, &of((ping.len(), false), &[0; 9]), Reason::VipPingFragment);
    }
}

#[test]
fn a_backends_own_fragments_pass_as_they_are() {
    for dress in DRESSES {
        let mut lab = Lab::new(2, program(Mode::Dnat, &[POD_IP]));
        let to = address(9, 9);
        for (index, part) in fragments(dress, (POD, INSIDE), (POD_IP, to), (5000, 53), 77).iter().enumerate() {
            let sent = lab.arrive_at(index % 2, PODS, part);
            assert_eq!(sent.len(), 1, "{dress:?}: {:?}", lab.drops());
            assert_eq!((sent[0].0, &sent[0].1[14..]), (UPLINK, &part[14..]), "identification and all");
        }
        // Of others nobody keeps anything: they need no order.
        let parts = fragments(dress, (POD, INSIDE), (POD_2_IP, to), (5000, 53), 77);
        assert_eq!(lab.arrive(PODS, &parts[3]).len(), 1);
    }
}

#[test]
fn two_clients_behind_one_address_never_share_an_identification() {
    for workers in [1, 4] {
        let mut lab = Lab::new(workers, program(Mode::Nat, &[REMOTE_IP]));
        let of = |client| fragments(Dress::Plain, (PEER, NODE), (address(0xffff, client), VIP), (4000, 80), 1);
        let mut sent = Vec::new();
        for (one, other) in of(7).iter().zip(&of(8)) {
            sent.extend(lab.arrive_at(0, UPLINK, one));
            sent.extend(lab.arrive_at(workers - 1, UPLINK, other));
        }
        let whole = together(&sent);
        assert_eq!(whole.len(), 2);
        for datagram in &whole {
            let _ = read(datagram);
        }
        assert_eq!(lab.drops(), []);
    }
}

/// RFC 6946: it is a whole packet, and mixes with no fragments of its identification.
#[test]
fn an_atomic_fragment_is_whole() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[REMOTE_IP]));
    let parts = request(Dress::Plain, 9);
    lab.one(UPLINK, &parts[0]);
    let whole = udp((PEER, NODE), (CLIENT, VIP), (4000, 80));
    let atomic = fragment((PEER, NODE), (CLIENT, VIP), UDP, (0, false), 9, &whole[54..]);
    let (_, sent) = lab.one(UPLINK, &atomic);
    assert_eq!(read(&together(&[(UPLINK, sent)])[0]).2, (REMOTE_IP, 8080));
    assert_eq!(arrive_all(&mut lab, 0, &parts[1..]).len(), 5);
}
