//! ICMP errors about flows, in every mode, from either side; and those that nobody should believe.

use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type, IpNumber, Ipv4Header, icmpv4};

use super::*;

const ROUTER: [u8; 4] = [203, 0, 113, 9];

/// What a router says about an IP packet: `quoted`, cut after `cut` bytes.
pub(super) fn error(to: [u8; 4], kind: Icmpv4Type, quoted: &[u8], cut: usize) -> Vec<u8> {
    error_from(ROUTER, to, kind, quoted, cut)
}

pub(super) fn error_from(from: [u8; 4], to: [u8; 4], kind: Icmpv4Type, quoted: &[u8], cut: usize) -> Vec<u8> {
    let quoted = &quoted[..quoted.len().min(cut)];
    let message = [&Icmpv4Header::with_checksum(kind, quoted).to_bytes()[..], quoted].concat();
    let mut ip = Ipv4Header::new(message.len() as u16, 60, IpNumber::ICMP, from, to).unwrap();
    ip.header_checksum = ip.calc_header_checksum();
    let link = Ethernet2Header { source: PEER.0, destination: NODE.0, ether_type: EtherType::IPV4 };
    [&link.to_bytes()[..], &ip.to_bytes(), &message].concat()
}

pub(super) fn too_big(mtu: u16) -> Icmpv4Type {
    Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu })
}

/// The IP packet in a frame.
pub(super) fn packet(frame: &[u8]) -> &[u8] {
    &frame[14..]
}

/// Outer source and destination, type and code, and the quoted endpoints, after all checksums have been summed up.
#[derive(Debug, PartialEq)]
pub(super) struct Told {
    by: [u8; 4],
    pub(super) to: [u8; 4],
    pub(super) kind: (u8, u8),
    pub(super) about: (([u8; 4], u16), ([u8; 4], u16)),
}

pub(super) fn read_error(frame: &[u8]) -> Told {
    let (ip, message) = Ipv4Header::from_slice(&frame[14..]).unwrap();
    assert_eq!(ip.header_checksum, ip.calc_header_checksum());
    let message = &message[..usize::from(ip.total_len) - 20];
    let (icmp, quoted) = Icmpv4Header::from_slice(message).unwrap();
    assert_eq!(icmp.checksum, Icmpv4Header::with_checksum(icmp.icmp_type.clone(), quoted).checksum);
    let (inner, transport) = Ipv4Header::from_slice(quoted).unwrap();
    assert_eq!(inner.header_checksum, inner.calc_header_checksum());
    if usize::from(inner.total_len) == quoted.len() {
        // The whole packet is quoted: its own checksum can be summed up.
        let whole = [&frame[..14], quoted].concat();
        let _ = read(&whole);
    }
    let port = |at: usize| u16::from_be_bytes([transport[at], transport[at + 1]]);
    Told {
        by: ip.source,
        to: ip.destination,
        kind: (message[0], message[1]),
        about: ((inner.source, port(0)), (inner.destination, port(2))),
    }
}

/// Lets a client reach a backend, and gives what the backend got.
fn begin(lab: &mut Lab, protocol: &str) -> Vec<u8> {
    let request = match protocol {
        "tcp" => tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "S"),
        _ => udp((PEER, NODE), (CLIENT, VIP), (4000, 80)),
    };
    lab.one(UPLINK, &request).1
}

fn answer(protocol: &str, from: ([u8; 4], u16), to: ([u8; 4], u16)) -> Vec<u8> {
    match protocol {
        "tcp" => tcp((PEER, NODE), (from.0, to.0), (from.1, to.1), "SA"),
        _ => udp((PEER, NODE), (from.0, to.0), (from.1, to.1)),
    }
}

#[test]
fn a_client_sides_error_reaches_the_backend_as_if_about_its_own_packet() {
    for (mode, protocol, cut) in [Mode::Nat, Mode::Dnat, Mode::Dsr]
        .into_iter()
        .flat_map(|mode| ["tcp", "udp"].map(|protocol| (mode, protocol)))
        .flat_map(|(mode, protocol)| [28, 600].map(|cut| (mode, protocol, cut)))
    {
        let mut lab = Lab::new(1, program(mode, &[REMOTE_IP]));
        let (_, _, source, backend, _) = read(&begin(&mut lab, protocol));
        // What the client got, and a router before it could not send on.
        let reply = answer(protocol, (VIP, 80), (CLIENT, 4000));
        let (port, frame) = lab.one(UPLINK, &error(VIP, too_big(1300), packet(&reply), cut));
        assert_eq!(port, UPLINK);
        assert_eq!(&frame[..12], [PEER.0, NODE.0].as_flattened());
        let told = read_error(&frame);
        let expected = match mode {
            // Its sender is hidden, as the client is: an answer from there would pass nobody who could translate it.
            Mode::Nat => Told { by: NODE_IP, to: REMOTE_IP, kind: (3, 4), about: (backend, source) },
            Mode::Dnat => Told { by: ROUTER, to: REMOTE_IP, kind: (3, 4), about: (backend, (CLIENT, 4000)) },
            Mode::Dsr | Mode::Tunnel => Told { by: ROUTER, to: VIP, kind: (3, 4), about: ((VIP, 80), (CLIENT, 4000)) },
        };
        assert_eq!(told, expected, "{mode:?} {protocol} {cut}");
        assert_eq!(frame[22], 59, "levee is a router on its way");
        assert_eq!(frame[14 + 20 + 6..][..2], 1300u16.to_be_bytes(), "the MTU is the message");
    }
}

#[test]
fn a_backend_sides_error_reaches_the_client_as_if_about_its_own_packet() {
    for (mode, protocol, cut) in [Mode::Nat, Mode::Dnat]
        .into_iter()
        .flat_map(|mode| ["tcp", "udp"].map(|protocol| (mode, protocol)))
        .flat_map(|(mode, protocol)| [28, 600].map(|cut| (mode, protocol, cut)))
    {
        let mut lab = Lab::new(1, program(mode, &[REMOTE_IP]));
        let request = begin(&mut lab, protocol);
        let source = read(&request).2;
        let (_, frame) = lab.one(UPLINK, &error(source.0, too_big(1300), packet(&request), cut));
        assert_eq!(
            read_error(&frame),
            Told { by: VIP, to: CLIENT, kind: (3, 4), about: ((CLIENT, 4000), (VIP, 80)) },
            "{mode:?} {protocol} {cut}"
        );
    }
}

#[test]
fn every_kind_of_error_passes_and_none_keeps_a_flow_alive() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[REMOTE_IP]));
    let request = begin(&mut lab, "udp");
    let source = read(&request).2;
    lab.now = 100_000;
    for kind in [
        Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port),
        Icmpv4Type::TimeExceeded(icmpv4::TimeExceededCode::TtlExceededInTransit),
        Icmpv4Type::ParameterProblem(icmpv4::ParameterProblemHeader::PointerIndicatesError(9)),
    ] {
        let (_, frame) = lab.one(UPLINK, &error(source.0, kind, packet(&request), 600));
        assert_eq!(read_error(&frame).about, ((CLIENT, 4000), (VIP, 80)));
    }
    lab.now = Timeouts::default().udp + 1000;
    for _ in 0..128 {
        lab.settle();
    }
    lab.dropped(UPLINK, &error(source.0, too_big(1300), packet(&request), 600), Reason::IcmpNoFlow);
}

#[test]
fn errors_that_nobody_should_believe_are_dropped_each_under_its_own_name() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[REMOTE_IP]));
    let request = begin(&mut lab, "tcp");
    let reply = answer("tcp", (VIP, 80), (CLIENT, 4000));
    let quoted = packet(&reply);
    // Another than its quoted sender is told.
    let mut foreign = program(Mode::Nat, &[REMOTE_IP]);
    foreign.vips.push(Vip { address: [10, 96, 0, 2].into(), announce: true });
    let other = error([10, 96, 0, 2], too_big(1300), quoted, 600);
    let mut two_vips = Lab::new(1, foreign);
    begin(&mut two_vips, "tcp");
    two_vips.dropped(UPLINK, &other, Reason::IcmpSpoofed);
    // No flow: another client port, another frontend's port.
    let guess = answer("tcp", (VIP, 80), (CLIENT, 4001));
    lab.dropped(UPLINK, &error(VIP, too_big(1300), packet(&guess), 600), Reason::IcmpNoFlow);
    let guess = answer("tcp", (VIP, 81), (CLIENT, 4000));
    lab.dropped(UPLINK, &error(VIP, too_big(1300), packet(&guess), 600), Reason::IcmpNoFlow);
    // A ping that this VIP answered is no flow either.
    let pong = [
        &[0; 0][..],
        &Icmpv4Header::with_checksum(Icmpv4Type::EchoReply(IcmpEchoHeader { id: 1, seq: 1 }), &[]).to_bytes(),
    ]
    .concat();
    let ip = Ipv4Header::new(8, 64, IpNumber::ICMP, VIP, CLIENT).unwrap();
    lab.dropped(UPLINK, &error(VIP, too_big(1300), &[&ip.to_bytes()[..], &pong].concat(), 600), Reason::IcmpNoFlow);
    // Absurd MTUs.
    for mtu in [0, 1, 68, 551] {
        lab.dropped(UPLINK, &error(VIP, too_big(mtu), quoted, 600), Reason::IcmpMtu);
    }
    assert_eq!(lab.arrive(UPLINK, &error(VIP, too_big(552), quoted, 600)).len(), 1);
    // Errors about errors, cut too short, no packet at all, or broken on the way.
    let nested = error(CLIENT, too_big(1300), quoted, 600);
    lab.dropped(UPLINK, &error(VIP, too_big(1300), packet(&nested), 600), Reason::IcmpNested);
    for cut in [0, 4, 20, 27] {
        lab.dropped(UPLINK, &error(VIP, too_big(1300), quoted, cut), Reason::IcmpMalformed);
    }
    lab.dropped(UPLINK, &error(VIP, too_big(1300), &[0xff; 64], 600), Reason::IcmpMalformed);
    let mut broken = error(VIP, too_big(1300), quoted, 600);
    *broken.last_mut().unwrap() ^= 1;
    lab.dropped(UPLINK, &broken, Reason::IcmpMalformed);
    // A later fragment has no ports to be known by.
    let mut later = quoted.to_vec();
    later[7] = 0x10;
    lab.dropped(UPLINK, &error(VIP, too_big(1300), &later, 600), Reason::IcmpMalformed);
    // Redirects and source quench are nobody's to send.
    for kind in [4, 5] {
        let kind = Icmpv4Type::Unknown { type_u8: kind, code_u8: 0, bytes5to8: [0; 4] };
        lab.dropped(UPLINK, &error(VIP, kind, quoted, 600), Reason::VipIcmp);
    }
    drop(request);
}

#[test]
fn a_flood_of_errors_about_one_flow_is_limited_and_does_not_touch_another() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[REMOTE_IP]));
    begin(&mut lab, "tcp");
    begin(&mut lab, "udp");
    let reply = answer("tcp", (VIP, 80), (CLIENT, 4000));
    let sent: usize = (0..50).map(|_| lab.arrive(UPLINK, &error(VIP, too_big(1300), packet(&reply), 600)).len()).sum();
    assert_eq!(sent, 20);
    assert_eq!(lab.count(Reason::IcmpRateLimited), 30);
    let other = tcp((PEER, NODE), ([192, 0, 2, 8], VIP), (4000, 80), "S");
    lab.one(UPLINK, &other);
    let reply = answer("tcp", (VIP, 80), ([192, 0, 2, 8], 4000));
    lab.one(UPLINK, &error(VIP, too_big(1300), packet(&reply), 600));
}

#[test]
fn an_error_finds_its_flow_on_whichever_worker_it_is() {
    for mode in [Mode::Nat, Mode::Dnat, Mode::Dsr] {
        let mut lab = Lab::new(4, program(mode, &[REMOTE_IP]));
        for (client_port, at) in (4000..4012).zip((0..4).cycle()) {
            let request = tcp((PEER, NODE), (CLIENT, VIP), (client_port, 80), "S");
            let sent = lab.arrive_at(at, UPLINK, &request).remove(0).1;
            let (_, _, source, _, _) = read(&sent);
            let reply = answer("tcp", (VIP, 80), (CLIENT, client_port));
            for queue in 0..4 {
                let sent = lab.arrive_at(queue, UPLINK, &error(VIP, too_big(1300), packet(&reply), 28));
                assert_eq!(sent.len(), 1, "{mode:?}: {:?}", lab.drops());
                let about = if mode == Mode::Dsr { (VIP, 80) } else { (REMOTE_IP, 8080) };
                assert_eq!(read_error(&sent[0].1).about.0, about);
                if mode != Mode::Dsr {
                    let back =
                        lab.arrive_at(queue, UPLINK, &error(source.0, too_big(1300), packet(&request_of(source)), 28));
                    assert_eq!(back.len(), 1, "{mode:?}: {:?}", lab.drops());
                    assert_eq!(read_error(&back[0].1).about, ((CLIENT, client_port), (VIP, 80)));
                }
            }
        }
        // What nobody knows is asked of everybody once, and ends.
        let stranger = answer("tcp", (VIP, 80), ([192, 0, 2, 99], 1));
        let sent = lab.arrive_at(0, UPLINK, &error(VIP, too_big(1300), packet(&stranger), 28));
        assert_eq!(sent.len(), usize::from(mode != Mode::Nat), "{:?}", lab.drops());
        assert_eq!(lab.count(Reason::IcmpNoFlow), u64::from(mode == Mode::Nat));
    }
}

/// The packet that a backend got from this source.
fn request_of(source: ([u8; 4], u16)) -> Vec<u8> {
    tcp((NODE, PEER), (source.0, REMOTE_IP), (source.1, 8080), "S")
}

#[test]
fn another_balancers_flow_has_the_same_backend_here() {
    const BACKENDS: [[u8; 4]; 3] = [[10, 244, 2, 5], [10, 244, 2, 6], [10, 244, 2, 7]];
    for mode in [Mode::Dnat, Mode::Dsr] {
        let mut one = Lab::new(1, program(mode, &BACKENDS));
        let mut other = Lab::new(1, program(mode, &BACKENDS));
        let mut backends = std::collections::BTreeSet::new();
        for client_port in 4000..4020 {
            let sent = one.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (client_port, 80), "S")).1;
            let reply = answer("tcp", (VIP, 80), (CLIENT, client_port));
            let about =
                error_from([203, 0, 113, 10 + (client_port % 16) as u8], VIP, too_big(1300), packet(&reply), 28);
            let told = read_error(&other.one(UPLINK, &about).1);
            if mode == Mode::Dnat {
                assert_eq!(told.to, read(&sent).3.0);
                assert_eq!(told.about, (read(&sent).3, (CLIENT, client_port)));
            } else {
                assert_eq!((told.to, told.about), (VIP, ((VIP, 80), (CLIENT, client_port))));
            }
            backends.insert(told.to);
        }
        assert_eq!(backends.len() > 1, mode == Mode::Dnat);
        assert!(other.workers[0].memory().flows.is_empty(), "an error begins no flow");
    }
}

#[test]
fn errors_about_what_is_no_flow_of_ours_are_routed_as_they_are() {
    let mut lab = Lab::new(1, program(Mode::Dnat, &[REMOTE_IP]));
    let direct = tcp((POD, INSIDE), (POD_IP, [10, 244, 9, 9]), (4000, 80), "S");
    let sent = lab.one(PODS, &direct).1;
    let about = error(POD_IP, too_big(1300), packet(&sent), 600);
    let (port, frame) = lab.one(UPLINK, &about);
    assert_eq!((port, &frame[14..]), (PODS, &about[14..]));
    // Also one about a packet to a backend that was asked directly.
    let direct = tcp((POD, INSIDE), (POD_IP, REMOTE_IP), (4000, 8080), "S");
    let sent = lab.one(PODS, &direct).1;
    let about = error(POD_IP, too_big(1300), packet(&sent), 600);
    let (port, frame) = lab.one(UPLINK, &about);
    assert_eq!((port, &frame[14..]), (PODS, &about[14..]));
}

#[test]
fn forged_errors_about_nobodys_flows_are_bounded_together_and_take_nothing_from_true_ones() {
    let mut lab = Lab::new(2, program(Mode::Nat, &[REMOTE_IP]));
    begin(&mut lab, "tcp");
    let forged = |sender: u32, broken: bool| {
        let about = answer("tcp", (VIP, 80), ((sender | 0x0b00_0000).to_be_bytes(), 4000));
        let mut frame = error_from((sender | 0x0c00_0000).to_be_bytes(), VIP, too_big(1300), packet(&about), 28);
        if broken {
            *frame.last_mut().unwrap() ^= 1;
        }
        frame
    };
    let asked = |lab: &Lab| lab.handles.iter().map(|handle| handle.counters.get(Counter::HandedOver)).sum::<u64>();
    let before = asked(&lab);
    for sender in 0..2000 {
        assert_eq!(lab.arrive(UPLINK, &forged(sender, false)), []);
    }
    assert_eq!(asked(&lab) - before, 200, "ten times errors.rate, whoever they say they are from");
    assert_eq!((lab.count(Reason::IcmpNoFlow), lab.count(Reason::IcmpRateLimited)), (200, 1800));
    let reply = answer("tcp", (VIP, 80), (CLIENT, 4000));
    assert_eq!(lab.arrive(UPLINK, &error(VIP, too_big(1300), packet(&reply), 28)).len(), 1, "{:?}", lab.drops());
    // One whose checksum is wrong is taken to nobody.
    lab.now = 10_000;
    let before = asked(&lab);
    lab.dropped(UPLINK, &forged(3000, true), Reason::IcmpMalformed);
    assert_eq!(asked(&lab), before);
}

/// The frame with another TTL.
fn with_ttl(frame: &[u8], ttl: u8) -> Vec<u8> {
    let (mut ip, rest) = Ipv4Header::from_slice(&frame[14..]).unwrap();
    ip.time_to_live = ttl;
    ip.header_checksum = ip.calc_header_checksum();
    [&frame[..14], &ip.to_bytes(), rest].concat()
}

#[test]
fn whose_ttl_ends_here_is_told_so_on_both_sides_in_every_mode() {
    for (mode, protocol) in
        [Mode::Nat, Mode::Dnat, Mode::Dsr].into_iter().flat_map(|mode| ["tcp", "udp"].map(|protocol| (mode, protocol)))
    {
        let mut lab = Lab::new(1, program(mode, &[REMOTE_IP]));
        let request = match protocol {
            "tcp" => tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "S"),
            _ => udp((PEER, NODE), (CLIENT, VIP), (4000, 80)),
        };
        let (port, frame) = lab.one(UPLINK, &with_ttl(&request, 1));
        assert_eq!((port, &frame[..12]), (UPLINK, [PEER.0, NODE.0].as_flattened()));
        let expected = Told { by: VIP, to: CLIENT, kind: (11, 0), about: ((CLIENT, 4000), (VIP, 80)) };
        assert_eq!(read_error(&frame), expected, "{mode:?} {protocol}");
        assert!(lab.workers[0].memory().flows.is_empty(), "it has begun nothing");

        let (_, _, source, backend, ttl) = read(&lab.one(UPLINK, &with_ttl(&request, 2)).1);
        assert_eq!(ttl, 1);
        lab.one(UPLINK, &with_ttl(&request, 1));
        if mode != Mode::Dsr {
            let reply = answer(protocol, backend, source);
            let (_, frame) = lab.one(UPLINK, &with_ttl(&reply, 1));
            let told = read_error(&frame);
            assert_eq!(
                (told.to, told.kind, told.about),
                (REMOTE_IP, (11, 0), (backend, source)),
                "{mode:?} {protocol}"
            );
        }
        let told = lab.handles[0].counters.get(Counter::TimeExceededsSent);
        assert_eq!(told, if mode == Mode::Dsr { 2 } else { 3 });
    }
}

#[test]
fn nobody_is_told_about_an_error_and_nobody_too_often() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[REMOTE_IP]));
    begin(&mut lab, "tcp");
    let reply = answer("tcp", (VIP, 80), (CLIENT, 4000));
    let about = error(VIP, too_big(1300), packet(&reply), 600);
    lab.dropped(UPLINK, &with_ttl(&about, 1), Reason::TtlExceeded);
    let request = with_ttl(&udp((PEER, NODE), (CLIENT, VIP), (4000, 80)), 1);
    let told: usize = (0..2000).map(|_| lab.arrive(UPLINK, &request).len()).sum();
    assert!(told > 0 && told < 2000, "{told}: replies.rate holds");
    assert_eq!(lab.count(Reason::ReplyRateLimited), 2000 - told as u64);
}
