//! `rewrite::contract` and `rewrite::announce`.

use std::net::Ipv4Addr;

use etherparse::{ArpEthIpv4Packet, ArpOperation, EtherType, IpNumber};
use levee_api::net::Mac;
use levee_dataplane::headers::{Network, Vlans};
use levee_dataplane::parse::parse;
use levee_dataplane::reason::Reason;
use levee_dataplane::rewrite::announce::announcement;
use levee_dataplane::rewrite::{Groups, contract, forward};
use levee_dataplane::verdict::Rewrite;
use proptest::prelude::*;

use crate::build::*;
use crate::parsing::any_frame;
use crate::{fixtures, oracle};

const NODE: Mac = Mac([0x02, 0, 0x5e, 0x10, 0, 0xaa]);
const PEER: Mac = Mac([0x02, 0, 0x5e, 0x10, 0, 0xbb]);

fn from_node(frame: &[u8]) -> Vec<u8> {
    let rewrite =
        Rewrite { destination_mac: PEER, source_mac: NODE, source: None, destination: None, decrement_ttl: false };
    let mut out = frame.to_vec();
    forward(&parse(frame).unwrap(), &rewrite, &mut out).unwrap();
    out
}

#[test]
fn what_forward_leaves_keeps_the_contract() {
    for fixture in fixtures::all().into_iter().filter(|fixture| fixture.outcome.is_ok()) {
        let name = fixture.name;
        let out = from_node(&fixture.frame);
        assert_eq!(contract(&out, NODE, Groups::Refused), Ok(()), "{name}");
        assert_eq!(contract(&out, PEER, Groups::Refused), Err(Reason::UplinkContract), "{name}");
        assert_eq!(contract(&fixture.frame, NODE, Groups::Allowed), Err(Reason::UplinkContract), "{name}");
    }
}

#[test]
fn destinations() {
    let mut frame = from_node(&fixtures::all().remove(0).frame);
    frame[..6].fill(0);
    assert_eq!(contract(&frame, NODE, Groups::Allowed), Err(Reason::DestinationContract));
    for group in [[0xff; 6], [0x01, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]] {
        frame[..6].copy_from_slice(&group);
        assert_eq!(contract(&frame, NODE, Groups::Refused), Err(Reason::DestinationContract));
        assert_eq!(contract(&frame, NODE, Groups::Allowed), Ok(()));
    }
}

/// The demo's "before", in one frame: the Ethernet source rewritten, the sender inside ARP not; under any tags.
/// Its lengths say where the sender's MAC stands: where they are others, it is not seen, and so it does not leave.
#[test]
fn arp_of_another_form_is_not_seen_through() {
    let frame = ethernet(EtherType::ARP, &arp(ArpOperation::REPLY, VIP, [2, 0, 0, 0, 0, 1], CLIENT));
    let node = Mac(CLIENT_MAC);
    assert_eq!(contract(&frame, node, Groups::Refused), Ok(()));
    for (at, value) in [(15, 6), (17, 6), (18, 8), (18, 0x5d), (19, 16)] {
        let mut other = frame.clone();
        other[at] = value;
        assert_eq!(contract(&other, node, Groups::Refused), Err(Reason::UplinkContract), "byte {at}");
    }
}

#[test]
fn a_foreign_sender_inside_arp() {
    const TAG: (EtherType, u8, u16) = (EtherType::VLAN_TAGGED_FRAME, 0, 100);
    const OUTER: (EtherType, u8, u16) = (EtherType::PROVIDER_BRIDGING, 0, 200);
    for operation in [ArpOperation::REQUEST, ArpOperation::REPLY] {
        for tags in [&[][..], &[TAG], &[OUTER, TAG], &[OUTER, OUTER, TAG]] {
            let packet = arp(operation, CLIENT, [0; 6], VIP);
            let mut frame = tagged(tags, EtherType::ARP, &packet);
            frame[6..12].copy_from_slice(&NODE.0);
            assert_eq!(contract(&frame, NODE, Groups::Refused), Err(Reason::UplinkContract), "{tags:?}");
            let sender = frame.len() - 20;
            frame[sender..sender + 6].copy_from_slice(&NODE.0);
            // Behind more tags than two nobody has looked: refused.
            let expected = if tags.len() > 2 { Err(Reason::UplinkContract) } else { Ok(()) };
            assert_eq!(contract(&frame, NODE, Groups::Refused), expected, "{tags:?}");
            frame.pop();
            assert_eq!(contract(&frame[..frame.len() - 8], NODE, Groups::Refused), Err(Reason::UplinkContract));
        }
    }
}

#[test]
fn too_short_to_see() {
    let frame = from_node(&ethernet(EtherType::IPV4, &ipv4(IpNumber::TCP, &tcp_with(V4, &[], |_| ()))));
    for length in 0..14 {
        assert_eq!(contract(&frame[..length], NODE, Groups::Allowed), Err(Reason::UplinkContract), "{length}");
    }
}

/// RFC 5227, 3: a request for the sender's own address; as etherparse would write it.
#[test]
fn announcements() {
    let address = Ipv4Addr::from(VIP);
    let packet = ArpEthIpv4Packet {
        operation: ArpOperation::REQUEST,
        sender_mac: NODE.0,
        sender_ipv4: VIP,
        target_mac: [0; 6],
        target_ipv4: VIP,
    };
    type Tags<'a> = &'a [(EtherType, u8, u16)];
    let cases: [(Tags<'_>, Vlans); 3] = [
        (&[], Vlans::default()),
        (&[(EtherType::VLAN_TAGGED_FRAME, 5, 100)], Vlans { count: 1, tci: [5 << 13 | 100, 0] }),
        (
            &[(EtherType::PROVIDER_BRIDGING, 1, 200), (EtherType::VLAN_TAGGED_FRAME, 5, 100)],
            Vlans { count: 2, tci: [1 << 13 | 200, 5 << 13 | 100] },
        ),
    ];
    for (tags, vlans) in cases {
        let mut expected = padded(tagged(tags, EtherType::ARP, &packet.to_bytes()));
        expected[..6].fill(0xff);
        expected[6..12].copy_from_slice(&NODE.0);
        let mut out = [0xee; 64];
        assert_eq!(announcement(NODE, address.into(), vlans, &mut out), Some(60));
        assert_eq!(out[..60], expected);
        assert_eq!(out[60..], [0xee; 4]);
        assert_eq!(contract(&out[..60], NODE, Groups::Allowed), Ok(()));
        assert_eq!(contract(&out[..60], NODE, Groups::Refused), Err(Reason::DestinationContract));
        assert_eq!(oracle::headers(&out[..60]).unwrap().vlans, vlans);
    }
    assert_eq!(announcement(NODE, address.into(), Vlans::default(), &mut [0; 59]), None);
    assert_eq!(announcement(NODE, address.into(), Vlans { count: 3, tci: [0; 2] }, &mut [0; 64]), None);
}

/// RFC 4861, 7.2.6: to all nodes, unasked, and replacing what is known; as etherparse would write it.
#[test]
fn announcements_of_ipv6() {
    let content = [&VIP_V6[..], &[2, 1], &NODE.0].concat();
    let mut expected = discovery(136, 0x20, &content, &|ip| {
        (ip.source, ip.destination, ip.flow_label) = (VIP_V6, ALL_NODES, etherparse::Ipv6FlowLabel::ZERO);
    });
    expected[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    expected[6..12].copy_from_slice(&NODE.0);
    let mut out = [0xee; 128];
    let length = announcement(NODE, std::net::Ipv6Addr::from(VIP_V6).into(), Vlans::default(), &mut out).unwrap();
    assert_eq!(out[..length], expected);
    assert_eq!(contract(&expected, NODE, Groups::Allowed), Ok(()));
    assert_eq!(contract(&expected, NODE, Groups::Refused), Err(Reason::DestinationContract));
    assert_eq!(announcement(NODE, std::net::Ipv6Addr::LOCALHOST.into(), Vlans::default(), &mut [0; 85]), None);
    let tags = Vlans { count: 1, tci: [100, 0] };
    let length = announcement(NODE, std::net::Ipv6Addr::from(VIP_V6).into(), tags, &mut out).unwrap();
    assert_eq!(out[18..length], expected[14..]);
}

/// Each message that can show a MAC, under tags and behind extension headers.
#[test]
fn a_foreign_mac_inside_neighbour_discovery() {
    const TAG: (EtherType, u8, u16) = (EtherType::VLAN_TAGGED_FRAME, 0, 100);
    for (kind, fixed, option) in [(133, 0, 1), (134, 8, 1), (135, 16, 1), (136, 16, 2), (137, 32, 2), (136, 16, 1)] {
        for mac in [CLIENT_MAC, NODE.0] {
            let content = [&VIP_V6[..], &CLIENT_V6][..].concat()[..fixed].to_vec();
            let content = [&content[..], &[14, 1, 0, 0, 0, 0, 0, 0], &[option, 1], &mac].concat();
            let plain = discovery(kind, 0, &content, &|_| ());
            let message = &plain[54..];
            let behind = |next, rest: &[u8]| ethernet(EtherType::IPV6, &ipv6(next, rest));
            let icmp = IpNumber::IPV6_ICMP;
            let frames = [
                plain.clone(),
                tagged(&[TAG], EtherType::IPV6, &plain[14..]),
                behind(etherparse::ip_number::IPV6_HOP_BY_HOP, &extension(icmp, &PADDING, message)),
                behind(etherparse::ip_number::IPV6_FRAG, &ipv6_fragment(icmp, 0, true, message)),
                behind(etherparse::ip_number::IPV6_DEST_OPTIONS, &extension(icmp, &PADDING, message)),
            ];
            for mut frame in frames {
                frame[6..12].copy_from_slice(&NODE.0);
                let expected = if mac == NODE.0 { Ok(()) } else { Err(Reason::UplinkContract) };
                assert_eq!(contract(&frame, NODE, Groups::Refused), expected, "{kind} {frame:02x?}");
                frame.pop();
                assert_eq!(contract(&frame, NODE, Groups::Refused), Err(Reason::UplinkContract), "{kind}, cut");
            }
        }
    }
    let chain =
        (0..6).fold(udp(V6, b""), |rest, _| extension(etherparse::ip_number::IPV6_DEST_OPTIONS, &PADDING, &rest));
    let mut endless = ethernet(EtherType::IPV6, &ipv6(etherparse::ip_number::IPV6_DEST_OPTIONS, &chain));
    endless[6..12].copy_from_slice(&NODE.0);
    assert_eq!(contract(&endless, NODE, Groups::Refused), Err(Reason::UplinkContract));
}

proptest! {
    /// Whatever the bytes are: with another source, or with ARP from another sender, they do not leave.
    #[test]
    fn nothing_gets_past(frame in any_frame(), junk in prop::collection::vec(any::<u8>(), 0..80), arp: bool, groups: bool) {
        let groups = if groups { Groups::Allowed } else { Groups::Refused };
        let mut junk = if arp { ethernet(EtherType::ARP, &junk) } else { junk };
        if let Some(source) = junk.get_mut(6..12) {
            source.copy_from_slice(&NODE.0);
        }
        for frame in [frame, junk] {
            let passes = contract(&frame, NODE, groups).is_ok();
            prop_assert!(!passes || frame[6..12] == NODE.0);
            if let Ok(headers) = parse(&frame) && let Network::Arp(arp) = headers.network {
                prop_assert!(!passes || arp.sender_mac == NODE);
            }
            if let Ok(headers) = parse(&frame) && let Network::Discovery(said) = headers.network {
                prop_assert!(!passes || said.mac.is_none_or(|mac| mac == NODE));
            }
        }
    }
}
