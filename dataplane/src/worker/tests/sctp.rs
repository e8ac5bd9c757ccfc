//! SCTP: addresses and ports are translated, and the CRC32c follows ports alone.

use etherparse::{IpNumber, Ipv4Header};

use super::*;

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

/// An INIT chunk of some length, or whatever: nobody looks.
fn sctp(macs: (Mac, Mac), ips: ([u8; 4], [u8; 4]), ports: (u16, u16)) -> Vec<u8> {
    let mut packet = [&ports.0.to_be_bytes()[..], &ports.1.to_be_bytes(), &[0; 8], &[1, 0, 0, 20], &[7; 16]].concat();
    let crc = crc32c(&packet);
    packet[8..12].copy_from_slice(&crc.to_le_bytes());
    let mut ip = Ipv4Header::new(packet.len() as u16, 64, IpNumber::SCTP, ips.0, ips.1).unwrap();
    ip.header_checksum = ip.calc_header_checksum();
    let link = Ethernet2Header { source: macs.0.0, destination: macs.1.0, ether_type: EtherType::IPV4 };
    [&link.to_bytes()[..], &ip.to_bytes(), &packet].concat()
}

/// An address and a port.
type Side = ([u8; 4], u16);

/// Source, destination, and the checksum as it stands there, found right.
fn read_sctp(frame: &[u8]) -> (Side, Side, u32) {
    let (ip, packet) = Ipv4Header::from_slice(&frame[14..]).unwrap();
    assert_eq!(ip.header_checksum, ip.calc_header_checksum());
    let mut packet = packet[..usize::from(ip.total_len) - 20].to_vec();
    let stored = u32::from_le_bytes(packet[8..12].try_into().unwrap());
    packet[8..12].fill(0);
    assert_eq!(stored, crc32c(&packet));
    let port = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    ((ip.source, port(0)), (ip.destination, port(2)), stored)
}

#[test]
fn associations_are_balanced_and_their_checksum_is_touched_only_where_ports_change() {
    for (mode, target) in [(Mode::Nat, 8080), (Mode::Dnat, 8080), (Mode::Dnat, 80), (Mode::Dsr, 80)] {
        let mut program = program(mode, &[REMOTE_IP]);
        let mut service = service(Protocol::Sctp, mode, &[REMOTE_IP]);
        service.backends[0].port = target;
        program.services = vec![service];
        let mut lab = Lab::new(1, program);
        let init = sctp((PEER, NODE), (CLIENT, VIP), (4000, 80));
        let (_, sent) = lab.one(UPLINK, &init);
        let (from, to, checksum) = read_sctp(&sent);
        match mode {
            Mode::Nat => assert_eq!((from.0, to), (NODE_IP, (REMOTE_IP, target))),
            Mode::Dnat => assert_eq!((from, to), ((CLIENT, 4000), (REMOTE_IP, target))),
            _ => assert_eq!((from, to), ((CLIENT, 4000), (VIP, 80))),
        }
        if mode != Mode::Nat && target == 80 {
            assert_eq!(checksum, read_sctp(&init).2, "addresses are not covered");
        }
        if mode == Mode::Dsr {
            continue;
        }
        let (_, answer) = lab.one(UPLINK, &sctp((PEER, NODE), (REMOTE_IP, from.0), (target, from.1)));
        let (from, to, _) = read_sctp(&answer);
        assert_eq!((from, to), ((VIP, 80), (CLIENT, 4000)));
    }
}
