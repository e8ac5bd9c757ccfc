//! SCTP through levee: an association's handshake and its first data between raw sockets, for a kernel need not have SCTP. Each packet's CRC32c
//! is computed anew where it arrives; its chunks are as they were sent, addresses in them (multihoming) too: see `docs/limits.md`.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use levee_api::net::{Family, Protocol};
use levee_api::program::Mode;
use levee_tests::Namespace;
use levee_tests::dual::of;
use levee_tests::path::balanced::Balanced;
use levee_tests::path::{CLIENT, Path, VIP};
use rustix::net::{AddressFamily, SocketType, socket};

/// The client's port, the Service's, and the backend's: each is changed on its way.
const FROM: u16 = 40_132;
const PORT: u16 = 3868;
const SERVED: u16 = 3869;

/// CRC32c over a packet with its field zero (RFC 9260, appendix A), a bit at a time, as the definition has it.
fn crc32c(packet: &[u8]) -> u32 {
    let octets = packet.iter().enumerate().map(|(at, octet)| if (8..12).contains(&at) { 0 } else { *octet });
    !octets.fold(u32::MAX, |crc, octet| {
        (0..8).fold(crc ^ u32::from(octet), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

/// A packet with one chunk (RFC 9260, 3): type, and what is in it.
fn packet(ports: (u16, u16), tag: u32, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut packet = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    packet.extend(tag.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend([kind, if kind == 0 { 3 } else { 0 }]);
    packet.extend((4 + content.len() as u16).to_be_bytes());
    packet.extend(content);
    packet.resize(packet.len().next_multiple_of(4), 0);
    let crc = crc32c(&packet);
    packet[8..12].copy_from_slice(&crc.to_le_bytes());
    packet
}

/// What is said and what is answered: a name, the verification tag, the chunk; and the chunk that answers it.
type Exchange = (&'static str, u32, u8, Vec<u8>, u8, Vec<u8>);

/// A raw socket for SCTP; of IPv4 it hears the IP header too.
struct Raw(UdpSocket);

impl Raw {
    fn open(namespace: &Namespace, family: Family) -> Raw {
        let domain = if family == Family::Ipv4 { AddressFamily::INET } else { AddressFamily::INET6 };
        let protocol = NonZeroU32::new(132).map(rustix::net::Protocol::from_raw);
        let socket = namespace.enter(|| socket(domain, SocketType::RAW, protocol)).expect("we are root");
        let socket = UdpSocket::from(socket);
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("it is a duration");
        Raw(socket)
    }

    fn send(&self, to: IpAddr, packet: &[u8]) {
        self.0.send_to(packet, SocketAddr::new(to, 0)).expect("it can be sent");
    }

    /// The next packet from elsewhere, and from whom it is.
    fn receive(&self, what: &str) -> (IpAddr, Vec<u8>) {
        let end = Instant::now() + Duration::from_secs(3);
        let mut buffer = [0; 2_000];
        while Instant::now() < end {
            let Ok((length, from)) = self.0.recv_from(&mut buffer) else { continue };
            let header = if from.is_ipv4() { usize::from(buffer[0] & 15) * 4 } else { 0 };
            return (from.ip(), buffer[header..length].to_vec());
        }
        panic!("{what} does not arrive");
    }
}

fn ports(packet: &[u8]) -> (u16, u16) {
    (u16::from_be_bytes([packet[0], packet[1]]), u16::from_be_bytes([packet[2], packet[3]]))
}

#[test]
fn an_association_is_made_and_carries_data_through_nat_and_dnat() {
    let both = [Family::Ipv4, Family::Ipv6];
    for (mode, family) in [Mode::Nat, Mode::Dnat].into_iter().flat_map(|mode| both.map(|family| (mode, family))) {
        let Some(path) = Path::start(1) else { return };
        let _dataplane = Balanced { mode, family, protocol: Protocol::Sctp, ports: (PORT, SERVED) }.start(&path);
        let (client_at, vip) = (of(family, CLIENT), of(family, VIP));
        let (client, backend) = (Raw::open(&path.client, family), Raw::open(&path.backend, family));
        // Initiate tag, window, streams, TSN; and an address parameter (3.3.2.1) that nobody is to touch.
        let init = |tag: u32| [&tag.to_be_bytes()[..], &[0, 1, 0, 0, 0, 2, 0, 2, 0, 0, 0, 9]].concat();
        let parameter = [0, 5, 0, 8, 198, 51, 100, 2];
        let cookie = [0, 7, 0, 12, 1, 2, 3, 4, 5, 6, 7, 8];
        let exchanges: [Exchange; 3] = [
            (
                "INIT",
                0,
                1,
                [&init(0x1111)[..], &parameter].concat(),
                2,
                [&init(0x2222)[..], &parameter, &cookie].concat(),
            ),
            ("COOKIE ECHO", 0x2222, 10, cookie[4..].to_vec(), 11, Vec::new()),
            (
                "DATA",
                0x2222,
                0,
                [&[0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 46][..], &[0x5a; 1_101]].concat(),
                3,
                vec![0, 0, 0, 9, 0, 1, 0, 0, 0, 0, 0, 0],
            ),
        ];
        for (name, tag, asks, asked, answers, answered) in exchanges {
            let what = format!("{mode}, {family:?}, {name}");
            client.send(vip, &packet((FROM, PORT), tag, asks, &asked));
            let (from, heard) = backend.receive(&what);
            let (source, destination) = ports(&heard);
            let translated = if mode == Mode::Nat { of(family, path.balancer.address) } else { client_at };
            assert_eq!((from, destination), (translated, SERVED), "{what}");
            assert_eq!(source == FROM, mode == Mode::Dnat, "{what}");
            // The very packet that its sender would have made for these ports, checksum and all.
            assert_eq!(heard, packet((source, SERVED), tag, asks, &asked), "{what}");
            backend.send(from, &packet((SERVED, source), 0x1111, answers, &answered));
            let (from, heard) = client.receive(&format!("{what}: the answer"));
            assert_eq!(from, vip, "{what}");
            assert_eq!(heard, packet((PORT, FROM), 0x1111, answers, &answered), "{what}");
        }
        println!("{mode}, {family:?}: INIT, INIT ACK, COOKIE ECHO, COOKIE ACK, DATA, SACK");
    }
}
