//! Frames from parts: each function takes what comes behind its header, and returns both together.

use etherparse::{
    ArpEthIpv4Packet, ArpOperation, EtherType, Ethernet2Header, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type,
    IpNumber, Ipv4Header, Ipv6Header, Ipv6RawExtHeader, SingleVlanHeader, TcpHeader, UdpHeader, VlanId, VlanPcp,
};

pub(crate) const CLIENT_MAC: [u8; 6] = [0x02, 0, 0x5e, 0x10, 0, 0x01];
pub(crate) const NODE_MAC: [u8; 6] = [0x02, 0, 0x5e, 0x10, 0, 0x02];
pub(crate) const CLIENT: [u8; 4] = [192, 0, 2, 7];
pub(crate) const VIP: [u8; 4] = [10, 96, 0, 1];
/// 2001:db8::7
pub(crate) const CLIENT_V6: [u8; 16] = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
/// 2001:db8:96::1
pub(crate) const VIP_V6: [u8; 16] = [0x20, 0x01, 0x0d, 0xb8, 0, 0x96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
pub(crate) const CLIENT_PORT: u16 = 40000;
pub(crate) const VIP_PORT: u16 = 80;

/// Of either family; source and destination.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Addresses {
    V4([u8; 4], [u8; 4]),
    V6([u8; 16], [u8; 16]),
}

pub(crate) const V4: Addresses = Addresses::V4(CLIENT, VIP);
pub(crate) const V6: Addresses = Addresses::V6(CLIENT_V6, VIP_V6);

pub(crate) fn ethernet(ether_type: EtherType, packet: &[u8]) -> Vec<u8> {
    let header = Ethernet2Header { source: CLIENT_MAC, destination: NODE_MAC, ether_type };
    [&header.to_bytes()[..], packet].concat()
}

/// `tags`: TPID, priority, VLAN identifier, outer first.
pub(crate) fn tagged(tags: &[(EtherType, u8, u16)], mut ether_type: EtherType, packet: &[u8]) -> Vec<u8> {
    let mut rest = packet.to_vec();
    for (tpid, priority, id) in tags.iter().rev() {
        let header = SingleVlanHeader {
            pcp: VlanPcp::try_new(*priority).unwrap(),
            drop_eligible_indicator: false,
            vlan_id: VlanId::try_new(*id).unwrap(),
            ether_type,
        };
        rest = [&header.to_bytes()[..], &rest].concat();
        ether_type = *tpid;
    }
    ethernet(ether_type, &rest)
}

pub(crate) fn arp(operation: ArpOperation, sender: [u8; 4], target_mac: [u8; 6], target: [u8; 4]) -> Vec<u8> {
    let packet =
        ArpEthIpv4Packet { operation, sender_mac: CLIENT_MAC, sender_ipv4: sender, target_mac, target_ipv4: target };
    packet.to_bytes().to_vec()
}

/// `change` is made before the header's checksum.
pub(crate) fn ipv4_with(protocol: IpNumber, payload: &[u8], change: impl FnOnce(&mut Ipv4Header)) -> Vec<u8> {
    let mut header = Ipv4Header::new(payload.len() as u16, 64, protocol, CLIENT, VIP).unwrap();
    header.identification = 0x1234;
    header.dont_fragment = true;
    change(&mut header);
    header.header_checksum = header.calc_header_checksum();
    [&header.to_bytes()[..], payload].concat()
}

pub(crate) fn ipv4(protocol: IpNumber, payload: &[u8]) -> Vec<u8> {
    ipv4_with(protocol, payload, |_| ())
}

pub(crate) fn ipv6_with(next_header: IpNumber, payload: &[u8], change: impl FnOnce(&mut Ipv6Header)) -> Vec<u8> {
    let mut header = Ipv6Header {
        traffic_class: 0,
        flow_label: 0x4_5678.try_into().unwrap(),
        payload_length: payload.len() as u16,
        next_header,
        hop_limit: 64,
        source: CLIENT_V6,
        destination: VIP_V6,
    };
    change(&mut header);
    [&header.to_bytes()[..], payload].concat()
}

pub(crate) fn ipv6(next_header: IpNumber, payload: &[u8]) -> Vec<u8> {
    ipv6_with(next_header, payload, |_| ())
}

/// An extension header with `content` behind its first two bytes: 6 bytes, or 8 more each.
pub(crate) fn extension(next_header: IpNumber, content: &[u8], rest: &[u8]) -> Vec<u8> {
    let header = Ipv6RawExtHeader::new_raw(next_header, content).unwrap();
    [&header.to_bytes()[..], rest].concat()
}

/// Options of one PadN (RFC 8200, 4.2), for 8 bytes of extension header.
pub(crate) const PADDING: [u8; 6] = [1, 4, 0, 0, 0, 0];

pub(crate) fn ipv6_fragment(next_header: IpNumber, offset: u16, more: bool, rest: &[u8]) -> Vec<u8> {
    let header = etherparse::Ipv6FragmentHeader::new(next_header, offset.try_into().unwrap(), more, 0x1234_5678);
    [&header.to_bytes()[..], rest].concat()
}

/// `change` is made before the checksum.
pub(crate) fn tcp_with(addresses: Addresses, payload: &[u8], change: impl FnOnce(&mut TcpHeader)) -> Vec<u8> {
    let mut header = TcpHeader::new(CLIENT_PORT, VIP_PORT, 0x0102_0304, 65000);
    change(&mut header);
    header.checksum = match addresses {
        Addresses::V4(from, to) => header.calc_checksum_ipv4_raw(from, to, payload).unwrap(),
        Addresses::V6(from, to) => header.calc_checksum_ipv6_raw(from, to, payload).unwrap(),
    };
    [&header.to_bytes()[..], payload].concat()
}

pub(crate) fn udp_with(addresses: Addresses, payload: &[u8], source: u16, destination: u16) -> Vec<u8> {
    let length = (UdpHeader::LEN + payload.len()) as u16;
    let mut header = UdpHeader { source_port: source, destination_port: destination, length, checksum: 0 };
    header.checksum = match addresses {
        Addresses::V4(from, to) => header.calc_checksum_ipv4_raw(from, to, payload).unwrap(),
        Addresses::V6(from, to) => header.calc_checksum_ipv6_raw(from, to, payload).unwrap(),
    };
    [&header.to_bytes()[..], payload].concat()
}

pub(crate) fn udp(addresses: Addresses, payload: &[u8]) -> Vec<u8> {
    udp_with(addresses, payload, CLIENT_PORT, VIP_PORT)
}

pub(crate) fn icmp(kind: Icmpv4Type, payload: &[u8]) -> Vec<u8> {
    [&Icmpv4Header::with_checksum(kind, payload).to_bytes()[..], payload].concat()
}

pub(crate) fn icmp_v6(addresses: Addresses, kind: Icmpv6Type, payload: &[u8]) -> Vec<u8> {
    let Addresses::V6(from, to) = addresses else { panic!("ICMPv6 over IPv4") };
    let header = Icmpv6Header::with_checksum(kind, from, to, payload).unwrap();
    [&header.to_bytes()[..], payload].concat()
}

/// `ff02::1`
pub(crate) const ALL_NODES: [u8; 16] = [0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// `ff02::1:ff00:1`: of the VIP.
pub(crate) const SOLICITED_NODE: [u8; 16] = [0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 1];

/// A message of Neighbour Discovery in its frame, with a right checksum: `flags` is its fifth byte. `change` is made before.
pub(crate) fn discovery(kind: u8, flags: u8, content: &[u8], change: &dyn Fn(&mut Ipv6Header)) -> Vec<u8> {
    let change = |ip: &mut Ipv6Header| {
        ip.hop_limit = 255;
        change(ip);
    };
    let mut header = None;
    ipv6_with(IpNumber::IPV6_ICMP, &[], |ip| {
        change(ip);
        header = Some(ip.clone());
    });
    let ip = header.expect("it was called");
    let raw = Icmpv6Type::Unknown { type_u8: kind, code_u8: 0, bytes5to8: [flags, 0, 0, 0] };
    let message = icmp_v6(Addresses::V6(ip.source, ip.destination), raw, content);
    ethernet(EtherType::IPV6, &ipv6_with(IpNumber::IPV6_ICMP, &message, change))
}

/// An SCTP INIT-like chunk of `payload` behind the common header, with its CRC32c, bit by bit (RFC 9260, appendix A).
pub(crate) fn sctp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet =
        [&source.to_be_bytes()[..], &destination.to_be_bytes(), &[1, 2, 3, 4, 0, 0, 0, 0], payload].concat();
    let crc = crc32c(&packet).to_le_bytes();
    packet[8..12].copy_from_slice(&crc);
    packet
}

pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    })
}

/// Bytes that are not alike.
pub(crate) fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 7 + 3) as u8).collect()
}

/// To the shortest length of a frame on a wire.
pub(crate) fn padded(mut frame: Vec<u8>) -> Vec<u8> {
    frame.resize(frame.len().max(60), 0);
    frame
}
