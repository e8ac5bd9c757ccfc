//! The named frames of `tests/fixtures/frames/*.bin`: one place says what they are, others read the files.
//!
//! After a change here: `LEVEE_WRITE_FIXTURES=1 cargo test -p levee-dataplane --test frames fixtures`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::{env, fs};

use etherparse::{ArpOperation, EtherType, Icmpv4Type, Icmpv6Type, IpNumber, TcpOptionElement, ip_number};
use levee_dataplane::parse::parse;
use levee_dataplane::reason::Reason;

use crate::build::*;

pub(crate) struct Fixture {
    pub(crate) name: &'static str,
    pub(crate) frame: Vec<u8>,
    /// What `parse` says to it.
    pub(crate) outcome: Result<(), Reason>,
}

const SERVICE: EtherType = EtherType::PROVIDER_BRIDGING;
const CUSTOMER: EtherType = EtherType::VLAN_TAGGED_FRAME;

/// `frame` with `bytes` at `at`.
fn patched(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

pub(crate) fn all() -> Vec<Fixture> {
    let mut all = Vec::new();
    let mut good = |name, frame| all.push(Fixture { name, frame, outcome: Ok(()) });

    let v4 = |protocol, payload: &[u8]| ethernet(EtherType::IPV4, &ipv4(protocol, payload));
    let v6 = |protocol, payload: &[u8]| ethernet(EtherType::IPV6, &ipv6(protocol, payload));
    let arp_frame = |packet: &[u8]| padded(ethernet(EtherType::ARP, packet));
    let syn = tcp_with(V4, &[], |tcp| tcp.syn = true);
    let syn_v6 = tcp_with(V6, &[], |tcp| tcp.syn = true);
    let data = tcp_with(V4, &payload(100), |tcp| (tcp.ack, tcp.psh, tcp.acknowledgment_number) = (true, true, 77));
    let data_v6 = tcp_with(V6, &payload(100), |tcp| (tcp.ack, tcp.acknowledgment_number) = (true, 77));
    let query = udp(V4, &payload(33));
    let query_v6 = udp(V6, &payload(33));

    // TCP
    good("tcp_syn", padded(v4(IpNumber::TCP, &syn)));
    good("tcp_data", v4(IpNumber::TCP, &data));
    good("tcp_fin", padded(v4(IpNumber::TCP, &tcp_with(V4, &[], |tcp| (tcp.fin, tcp.ack) = (true, true)))));
    good("tcp_rst", padded(v4(IpNumber::TCP, &tcp_with(V4, &[], |tcp| tcp.rst = true))));
    good(
        "tcp_options",
        v4(
            IpNumber::TCP,
            &tcp_with(V4, &[], |tcp| {
                tcp.syn = true;
                tcp.set_options(&[
                    TcpOptionElement::MaximumSegmentSize(1460),
                    TcpOptionElement::SelectiveAcknowledgementPermitted,
                    TcpOptionElement::Timestamp(1, 0),
                    TcpOptionElement::Noop,
                    TcpOptionElement::WindowScale(7),
                ])
                .unwrap();
            }),
        ),
    );
    // As a veth pair hands it over: the pseudo header's sum, 0xc000 + 0x0207 + 0x0a60 + 0x0001 + 6 + 120.
    good("tcp_partial_checksum", patched(v4(IpNumber::TCP, &data), 34 + 16, &0xcce6_u16.to_be_bytes()));

    // UDP, SCTP, ICMP, others
    good("udp", v4(IpNumber::UDP, &query));
    good("udp_zero_checksum", patched(v4(IpNumber::UDP, &query), 34 + 6, &[0, 0]));
    good("udp_padded", padded(v4(IpNumber::UDP, &udp(V4, b"x"))));
    good("udp_partial_checksum", patched(v4(IpNumber::UDP, &query), 34 + 6, &0xcca2_u16.to_be_bytes()));
    good("sctp", v4(IpNumber::SCTP, &sctp(CLIENT_PORT, VIP_PORT, &payload(20))));
    let echo = etherparse::IcmpEchoHeader { id: 0x1234, seq: 1 };
    good("icmp_echo", v4(IpNumber::ICMP, &icmp(Icmpv4Type::EchoRequest(echo), &payload(56))));
    good("icmp_echo_reply", v4(IpNumber::ICMP, &icmp(Icmpv4Type::EchoReply(echo), &payload(56))));
    let unreachable = Icmpv4Type::DestinationUnreachable(etherparse::icmpv4::DestUnreachableHeader::Port);
    good("icmp_unreachable", v4(IpNumber::ICMP, &icmp(unreachable, &ipv4(IpNumber::UDP, &query)[..28])));
    good("ipv4_gre", v4(IpNumber::GRE, &payload(40)));
    good("giant", v4(IpNumber::UDP, &udp(V4, &payload(8972))));

    // ARP
    good("arp_request", arp_frame(&arp(ArpOperation::REQUEST, CLIENT, [0; 6], VIP)));
    good("arp_reply", arp_frame(&arp(ArpOperation::REPLY, CLIENT, NODE_MAC, VIP)));
    good("arp_probe", arp_frame(&arp(ArpOperation::REQUEST, [0; 4], [0; 6], VIP)));
    good("arp_gratuitous", arp_frame(&arp(ArpOperation::REQUEST, CLIENT, [0; 6], CLIENT)));

    // IPv4
    let options = |ip: &mut etherparse::Ipv4Header| {
        // Record route, one address (RFC 791, 3.1), and end of options.
        ip.options = [7, 7, 4, 0, 0, 0, 0, 0].into();
        ip.set_payload_len(syn.len()).unwrap();
    };
    good("ipv4_options", ethernet(EtherType::IPV4, &ipv4_with(IpNumber::TCP, &syn, options)));
    let fragment = |offset: u16, more: bool, payload: &[u8]| {
        ethernet(
            EtherType::IPV4,
            &ipv4_with(IpNumber::UDP, payload, |ip| {
                ip.dont_fragment = false;
                ip.fragment_offset = offset.try_into().unwrap();
                ip.more_fragments = more;
            }),
        )
    };
    let long = udp(V4, &payload(120));
    good("ipv4_fragment_first", fragment(0, true, &long[..64]));
    good("ipv4_fragment_later", fragment(8, false, &long[64..]));

    // IPv6
    good("ipv6_tcp", v6(IpNumber::TCP, &data_v6));
    good("ipv6_udp", v6(IpNumber::UDP, &query_v6));
    good("ipv6_icmp_echo", v6(IpNumber::IPV6_ICMP, &icmp_v6(V6, Icmpv6Type::EchoRequest(echo), &payload(56))));
    good("ipv6_hbh", v6(ip_number::IPV6_HOP_BY_HOP, &extension(IpNumber::TCP, &PADDING, &syn_v6)));
    let routing = |kind, segments_left| [kind, segments_left, 0, 0, 0, 0];
    good("ipv6_routing", v6(ip_number::IPV6_ROUTE, &extension(IpNumber::TCP, &routing(0, 0), &syn_v6)));
    good("ipv6_in_transit", v6(ip_number::IPV6_ROUTE, &extension(IpNumber::TCP, &routing(4, 1), &syn_v6)));
    let dest = |next, rest: &[u8]| extension(next, &PADDING, rest);
    good("ipv6_destination_options", v6(ip_number::IPV6_DEST_OPTIONS, &dest(IpNumber::UDP, &query_v6)));
    let frag = |offset, more, rest: &[u8]| v6(ip_number::IPV6_FRAG, &ipv6_fragment(IpNumber::UDP, offset, more, rest));
    let long = udp(V6, &payload(120));
    good("ipv6_fragment_first", frag(0, true, &long[..64]));
    good("ipv6_fragment_later", frag(8, false, &long[64..]));
    good("ipv6_fragment_atomic", frag(0, false, &long));
    good("ipv6_no_next_header", v6(ip_number::IPV6_NO_NEXT_HEADER, &[]));
    // Neighbour Discovery
    let link = |kind: u8| [&[kind, 1][..], &CLIENT_MAC].concat();
    let ndp = |kind, flags: u8, content: &[u8], change: &dyn Fn(&mut etherparse::Ipv6Header)| {
        discovery(kind, flags, content, change)
    };
    let to_group = |ip: &mut etherparse::Ipv6Header| ip.destination = SOLICITED_NODE;
    let to_all = |ip: &mut etherparse::Ipv6Header| ip.destination = ALL_NODES;
    let probe = |ip: &mut etherparse::Ipv6Header| (ip.source, ip.destination) = ([0; 16], SOLICITED_NODE);
    let asking = [&VIP_V6[..], &link(1)].concat();
    let telling = [&CLIENT_V6[..], &link(2)].concat();
    good("ipv6_neighbour_solicitation", ndp(135, 0, &asking, &to_group));
    good("ipv6_neighbour_solicitation_unicast", ndp(135, 0, &VIP_V6, &|_| ()));
    good("ipv6_neighbour_probe", ndp(135, 0, &VIP_V6, &probe));
    good("ipv6_neighbour_advertisement", ndp(136, 0x60, &telling, &|_| ()));
    good("ipv6_neighbour_announcement", ndp(136, 0x20, &telling, &to_all));
    good("ipv6_neighbour_nonce", ndp(135, 0, &[&VIP_V6[..], &[14, 1, 1, 2, 3, 4, 5, 6]].concat(), &probe));
    good("ipv6_router_solicitation", ndp(133, 0, &link(1), &to_all));
    let mtu = [5, 1, 0, 0, 0, 0, 5, 0xdc];
    good("ipv6_router_advertisement", ndp(134, 64, &[&[0; 8][..], &link(1), &mtu].concat(), &to_all));
    good("ipv6_redirect", ndp(137, 0, &[&VIP_V6[..], &CLIENT_V6, &link(2)].concat(), &|_| ()));
    let tag = [(CUSTOMER, 0, 100)];
    good("vlan_ndp", tagged(&tag, EtherType::IPV6, &ndp(135, 0, &asking, &to_group)[14..]));

    // Ethernet
    good("vlan", tagged(&[(CUSTOMER, 5, 100)], EtherType::IPV4, &ipv4(IpNumber::TCP, &data)));
    good(
        "vlan_arp",
        padded(tagged(&[(CUSTOMER, 0, 100)], EtherType::ARP, &arp(ArpOperation::REQUEST, CLIENT, [0; 6], VIP))),
    );
    good("qinq", tagged(&[(SERVICE, 1, 200), (CUSTOMER, 5, 100)], EtherType::IPV4, &ipv4(IpNumber::TCP, &data)));
    good("lldp", padded(ethernet(EtherType(0x88cc), &payload(30))));
    good("llc_stp", padded(ethernet(EtherType(38), &payload(38))));

    let mut bad = |name, reason, frame| all.push(Fixture { name, frame, outcome: Err(reason) });
    bad("empty", Reason::Runt, Vec::new());
    bad("runt", Reason::Runt, v4(IpNumber::TCP, &syn)[..13].to_vec());
    bad("triple_vlan", Reason::VlanTooDeep, {
        let tags = [(SERVICE, 0, 300), (CUSTOMER, 0, 200), (CUSTOMER, 0, 100)];
        tagged(&tags, EtherType::IPV4, &ipv4(IpNumber::TCP, &data))
    });
    bad("vlan_cut", Reason::Runt, tagged(&[(CUSTOMER, 0, 100)], EtherType::IPV4, &[])[..17].to_vec());
    bad("source_mac_group", Reason::SourceMacInvalid, patched(v4(IpNumber::TCP, &data), 6, &[0x03]));
    bad("source_mac_zero", Reason::SourceMacInvalid, patched(v4(IpNumber::TCP, &data), 6, &[0; 6]));

    let request = arp(ArpOperation::REQUEST, CLIENT, [0; 6], VIP);
    bad("arp_short", Reason::Runt, ethernet(EtherType::ARP, &request[..27]));
    bad("arp_wrong_size", Reason::ArpMalformed, patched(arp_frame(&request), 14 + 4, &[8]));
    bad("arp_wrong_protocol_size", Reason::ArpMalformed, patched(arp_frame(&request), 14 + 5, &[16]));
    bad("arp_wrong_hardware", Reason::ArpMalformed, patched(arp_frame(&request), 14, &[0, 6]));
    bad("arp_wrong_protocol", Reason::ArpMalformed, patched(arp_frame(&request), 14 + 2, &[0x86, 0xdd]));
    bad("arp_rarp_operation", Reason::ArpMalformed, patched(arp_frame(&request), 14 + 6, &[0, 3]));

    let good_v4 = v4(IpNumber::TCP, &data);
    bad("ipv4_short", Reason::Runt, good_v4[..33].to_vec());
    bad("ipv4_bad_version", Reason::Ipv4Malformed, patched(good_v4.clone(), 14, &[0x55]));
    bad("ipv4_bad_ihl", Reason::Ipv4Malformed, patched(good_v4.clone(), 14, &[0x44]));
    bad("ipv4_ihl_past_packet", Reason::Ipv4Malformed, {
        let short = ipv4_with(IpNumber::TCP, &[], |ip| ip.total_len = 20);
        patched(padded(ethernet(EtherType::IPV4, &short)), 14, &[0x4f])
    });
    let claiming = |length| ethernet(EtherType::IPV4, &ipv4_with(IpNumber::TCP, &data, |ip| ip.total_len = length));
    bad("ipv4_lying_length", Reason::Ipv4Malformed, claiming(141));
    bad("ipv4_length_under_header", Reason::Ipv4Malformed, claiming(19));
    bad("ipv4_bad_checksum", Reason::Ipv4Checksum, patched(good_v4.clone(), 14 + 8, &[63]));

    bad("tcp_short", Reason::TransportMalformed, v4(IpNumber::TCP, &data[..19]));
    bad("tcp_bad_offset", Reason::TransportMalformed, patched(good_v4.clone(), 34 + 12, &[0x40]));
    bad("tcp_offset_past_end", Reason::TransportMalformed, patched(v4(IpNumber::TCP, &syn), 34 + 12, &[0x60]));
    bad("tcp_tiny_fragment", Reason::TransportMalformed, {
        let tiny = ipv4_with(IpNumber::TCP, &syn[..8], |ip| (ip.dont_fragment, ip.more_fragments) = (false, true));
        padded(ethernet(EtherType::IPV4, &tiny))
    });
    bad("udp_short", Reason::TransportMalformed, padded(v4(IpNumber::UDP, &query[..7])));
    bad("udp_lying_length", Reason::TransportMalformed, patched(v4(IpNumber::UDP, &query), 34 + 4, &[0, 42]));
    bad("udp_zero_length", Reason::TransportMalformed, patched(v4(IpNumber::UDP, &query), 34 + 4, &[0, 0]));
    bad("icmp_short", Reason::TransportMalformed, padded(v4(IpNumber::ICMP, &payload(7))));
    bad("sctp_short", Reason::TransportMalformed, padded(v4(IpNumber::SCTP, &payload(11))));

    let good_v6 = v6(IpNumber::TCP, &data_v6);
    bad("ipv6_short", Reason::Runt, good_v6[..53].to_vec());
    bad("ipv6_bad_version", Reason::Ipv6Malformed, patched(good_v6.clone(), 14, &[0x40]));
    bad("ipv6_lying_length", Reason::Ipv6Malformed, patched(good_v6.clone(), 14 + 4, &[0, 121]));
    bad("ipv6_zero_length", Reason::TransportMalformed, patched(good_v6, 14 + 4, &[0, 0]));
    bad("ipv6_mapped", Reason::Ipv6Malformed, {
        let mapped =
            |ip: &mut etherparse::Ipv6Header| ip.source = std::net::Ipv4Addr::from(CLIENT).to_ipv6_mapped().octets();
        ethernet(EtherType::IPV6, &ipv6_with(IpNumber::TCP, &syn_v6, mapped))
    });
    let hop_by_hop = |next, rest: &[u8]| v6(ip_number::IPV6_HOP_BY_HOP, &extension(next, &PADDING, rest));
    bad("ipv6_source_route", Reason::Ipv6SourceRoute, {
        v6(ip_number::IPV6_ROUTE, &extension(IpNumber::TCP, &routing(0, 1), &syn_v6))
    });
    bad("ipv6_hbh_twice", Reason::Ipv6ChainInvalid, {
        hop_by_hop(ip_number::IPV6_HOP_BY_HOP, &extension(IpNumber::TCP, &PADDING, &syn_v6))
    });
    bad("ipv6_hbh_past_end", Reason::Ipv6Malformed, patched(hop_by_hop(IpNumber::TCP, &[]), 14 + 40 + 1, &[1]));
    bad("ipv6_long_chain", Reason::Ipv6ChainInvalid, {
        let options = ip_number::IPV6_DEST_OPTIONS;
        let chain = (0..5).fold(dest(IpNumber::TCP, &syn_v6), |rest, _| dest(options, &rest));
        v6(options, &chain)
    });
    bad("ndp_hop_limit", Reason::NdpHopLimit, patched(ndp(135, 0, &asking, &to_group), 14 + 7, &[254]));
    bad("ndp_checksum", Reason::NdpChecksum, patched(ndp(135, 0, &asking, &to_group), 54 + 2, &[0, 1]));
    bad("ndp_code", Reason::NdpMalformed, patched(ndp(135, 0, &asking, &to_group), 54 + 1, &[1]));
    bad("ndp_short", Reason::NdpMalformed, ndp(135, 0, &VIP_V6[..15], &to_group));
    bad("ndp_redirect_short", Reason::NdpMalformed, ndp(137, 0, &asking, &|_| ()));
    bad("ndp_group_target", Reason::NdpMalformed, ndp(135, 0, &ALL_NODES, &to_group));
    let option = |bytes: &[u8]| ndp(135, 0, &[&VIP_V6[..], bytes].concat(), &to_group);
    bad("ndp_option_of_length_0", Reason::NdpOption, option(&[1, 0, 0, 0, 0, 0, 0, 0]));
    bad("ndp_option_past_end", Reason::NdpOption, option(&[1, 2, 0, 0, 0, 0, 0, 0]));
    bad("ndp_option_cut", Reason::NdpOption, option(&[1]));
    bad("ndp_long_mac", Reason::NdpOption, option(&[1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    bad("ndp_many_options", Reason::NdpOption, option(&[14, 1, 0, 0, 0, 0, 0, 0].repeat(33)));
    bad("ndp_probe_with_mac", Reason::NdpMalformed, ndp(135, 0, &asking, &probe));
    bad("ndp_probe_unicast", Reason::NdpMalformed, ndp(135, 0, &VIP_V6, &|ip| ip.source = [0; 16]));
    bad("ndp_solicited_group", Reason::NdpMalformed, ndp(136, 0x60, &telling, &to_all));
    bad("ndp_mapped_target", Reason::NdpMalformed, {
        ndp(135, 0, &std::net::Ipv4Addr::from(VIP).to_ipv6_mapped().octets(), &to_group)
    });
    bad("ndp_fragment", Reason::NdpFragmented, {
        let whole = ndp(135, 0, &asking, &to_group);
        let packet =
            ipv6_with(ip_number::IPV6_FRAG, &ipv6_fragment(IpNumber::IPV6_ICMP, 0, true, &whole[54..]), |ip| {
                (ip.hop_limit, ip.destination) = (255, SOLICITED_NODE);
            });
        ethernet(EtherType::IPV6, &packet)
    });
    bad("ipv6_tiny_fragment", Reason::TransportMalformed, {
        v6(ip_number::IPV6_FRAG, &ipv6_fragment(IpNumber::TCP, 0, true, &syn_v6[..8]))
    });
    all
}

#[test]
fn files_are_what_is_written_here() {
    let directory = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/frames"));
    let expected: BTreeMap<String, Vec<u8>> =
        all().into_iter().map(|fixture| (format!("{}.bin", fixture.name), fixture.frame)).collect();
    assert_eq!(expected.len(), all().len(), "two fixtures have one name");
    if env::var_os("LEVEE_WRITE_FIXTURES").is_some() {
        fs::create_dir_all(&directory).unwrap();
        for (name, frame) in &expected {
            fs::write(directory.join(name), frame).unwrap();
        }
    }
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "bin") {
            found.insert(path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap());
        }
    }
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&expected), "files in {} and fixtures here differ", directory.display());
    for (name, frame) in expected {
        assert_eq!(found[&name], frame, "{name}: run with LEVEE_WRITE_FIXTURES=1 after a change");
    }
}

#[test]
fn each_is_accepted_or_refused_for_its_own_reason() {
    for fixture in all() {
        assert_eq!(parse(&fixture.frame).map(|_| ()), fixture.outcome, "{}", fixture.name);
    }
}
