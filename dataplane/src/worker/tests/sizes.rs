//! Packets that do not fit where they would go, and SYNs that must not offer what does not fit.

use etherparse::{Icmpv4Header, Icmpv4Type, Ipv4Header, TcpOptionElement, icmpv4};

use super::*;

/// A UDP datagram in a frame, of an IP packet of this length.
fn sized(macs: (Mac, Mac), ips: ([u8; 4], [u8; 4]), ports: (u16, u16), length: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(macs.0.0, macs.1.0).ipv4(ips.0, ips.1, 64).udp(ports.0, ports.1);
    builder.write(&mut frame, &vec![7; length - 28]).unwrap();
    frame
}

fn too_big(frame: &[u8]) -> ([u8; 4], [u8; 4], u16) {
    let (ip, message) = Ipv4Header::from_slice(&frame[14..]).unwrap();
    let (icmp, quoted) = Icmpv4Header::from_slice(&message[..usize::from(ip.total_len) - 20]).unwrap();
    assert_eq!(icmp.checksum, Icmpv4Header::with_checksum(icmp.icmp_type.clone(), quoted).checksum);
    assert_eq!(usize::from(ip.total_len), 576);
    match icmp.icmp_type {
        Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu }) => {
            (ip.source, ip.destination, next_hop_mtu)
        }
        other => panic!("{other:?}"),
    }
}

/// The fabric carries 1,500 bytes, the pods' bridge 1,400.
fn narrow(mode: Mode, backends: &[[u8; 4]]) -> Lab {
    Lab::with(1, program(mode, backends), |setup| setup.ports[1].mtu = 1400)
}

#[test]
fn what_does_not_fit_comes_back_with_the_news_of_what_would() {
    let mut lab = narrow(Mode::Dnat, &[POD_IP]);
    lab.one(UPLINK, &sized((PEER, NODE), (CLIENT, VIP), (4000, 80), 1400));
    let (port, frame) = lab.one(UPLINK, &sized((PEER, NODE), (CLIENT, VIP), (4000, 80), 1401));
    assert_eq!((port, too_big(&frame)), (UPLINK, (VIP, CLIENT, 1400)));
    // A packet that is no service's, too: it would be gone without a word.
    let (port, frame) = lab.one(UPLINK, &sized((PEER, NODE), (REMOTE_IP, POD_IP), (4000, 9), 1500));
    assert_eq!((port, too_big(&frame)), (UPLINK, (POD_IP, REMOTE_IP, 1400)));
    // The other way there is room, and beside a wide port a narrow one means nothing.
    lab.one(PODS, &sized((POD, INSIDE), (POD_IP, REMOTE_IP), (4000, 9), 1500));
    assert_eq!(lab.drops(), []);
}

#[test]
fn a_reply_that_does_not_fit_is_told_to_the_backend() {
    let mut lab = narrow(Mode::Nat, &[REMOTE_IP]);
    let (_, sent) = lab.one(PODS, &sized((POD, INSIDE), (POD_IP, VIP), (4000, 80), 500));
    let source = read(&sent).2;
    let (port, frame) = lab.one(UPLINK, &sized((PEER, NODE), (REMOTE_IP, source.0), (8080, source.1), 1500));
    assert_eq!((port, too_big(&frame)), (UPLINK, (NODE_IP, REMOTE_IP, 1400)));
}

#[test]
fn syns_of_services_offer_no_more_than_the_clamp_both_ways_and_others_what_they_like() {
    let mut lab = Lab::with(1, program(Mode::Nat, &[REMOTE_IP]), |setup| setup.mss_clamp = 1360);
    let syn = |macs: (Mac, Mac), ips: ([u8; 4], [u8; 4]), ports: (u16, u16), acknowledges: bool| {
        let mut frame = Vec::new();
        let mut tcp =
            PacketBuilder::ethernet2(macs.0.0, macs.1.0).ipv4(ips.0, ips.1, 64).tcp(ports.0, ports.1, 1, 9).syn();
        if acknowledges {
            tcp = tcp.ack(1);
        }
        let options = [TcpOptionElement::Noop, TcpOptionElement::MaximumSegmentSize(1460)];
        tcp.options(&options).unwrap().write(&mut frame, &[]).unwrap();
        frame
    };
    let offered = |frame: &[u8]| u16::from_be_bytes([frame[14 + 20 + 20 + 3], frame[14 + 20 + 20 + 4]]);
    let (_, sent) = lab.one(UPLINK, &syn((PEER, NODE), (CLIENT, VIP), (4000, 80), false));
    let source = read(&sent).2;
    assert_eq!(offered(&sent), 1360);
    let (_, sent) = lab.one(UPLINK, &syn((PEER, NODE), (REMOTE_IP, source.0), (8080, source.1), true));
    assert_eq!((read(&sent).2, offered(&sent)), ((VIP, 80), 1360));
    let (_, sent) = lab.one(PODS, &syn((POD, INSIDE), (POD_IP, REMOTE_IP), (4000, 9), false));
    assert_eq!(offered(&sent), 1460);
}
