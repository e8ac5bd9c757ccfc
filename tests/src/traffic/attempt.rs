//! Attempts to reach a port that may not be served: how they end.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::Namespace;

/// How a connection attempt ends within 5 s, and how soon.
///
/// # Errors
/// As the kernel says.
pub fn connect(client: &Namespace, server: SocketAddr) -> (Result<(), ErrorKind>, Duration) {
    let start = Instant::now();
    let result = client.enter(|| TcpStream::connect_timeout(&server, Duration::from_secs(5)));
    (result.map(drop).map_err(|error| error.kind()), start.elapsed())
}

/// How a datagram to a port ends that nobody serves.
///
/// # Panics
/// If somebody answers.
pub fn datagram(client: &Namespace, server: SocketAddr) -> ErrorKind {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    client.enter(|| {
        let socket = UdpSocket::bind((any, 0)).expect("a port is free");
        socket.connect(server).expect("it is an address");
        socket.set_read_timeout(Some(Duration::from_secs(2))).expect("it is a duration");
        socket.send(b"anybody?").expect("it can be sent");
        socket.recv(&mut [0; 16]).map(drop).expect_err("nobody answers").kind()
    })
}
