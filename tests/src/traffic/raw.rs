//! IP protocols that have no ports, by raw sockets: an echo server, and a client that counts.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, Protocol, SocketType, socket};

use super::Outcome;
use crate::namespace::Namespace;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// A socket that sends and hears whole packets of one IPv4 protocol. The kernel writes the header, and shows it.
struct Raw(UdpSocket);

impl Raw {
    fn open(namespace: &Namespace, protocol: u8) -> Raw {
        let protocol = NonZeroU32::new(protocol.into()).map(Protocol::from_raw);
        let fd = namespace.enter(|| socket(AddressFamily::INET, SocketType::RAW, protocol)).expect("we are root");
        // Only sending and receiving are used, which are the same for every kind of socket.
        let socket = UdpSocket::from(fd);
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("it is a duration");
        Raw(socket)
    }

    fn send(&self, to: Ipv4Addr, payload: &[u8]) -> io::Result<usize> {
        self.0.send_to(payload, SocketAddr::from((to, 0)))
    }

    /// A packet's source and what it carries.
    fn receive(&self) -> Option<(Ipv4Addr, Vec<u8>)> {
        let mut packet = [0; 65_535];
        let length = self.0.recv(&mut packet).ok()?;
        let (ip, payload) = etherparse::Ipv4HeaderSlice::from_slice(packet.get(..length)?)
            .ok()
            .and_then(|ip| Some((ip.source_addr(), packet.get(ip.slice().len()..length)?.to_vec())))?;
        Some((ip, payload))
    }
}

/// Sends back whatever of a protocol comes. Dropped, it ends.
pub struct RawEcho {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl RawEcho {
    /// In a namespace, on all its addresses.
    ///
    /// # Panics
    /// Without the right to raw sockets.
    #[must_use]
    pub fn start(namespace: &Namespace, protocol: u8) -> RawEcho {
        let socket = Raw::open(namespace, protocol);
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                while !stop.load(Ordering::Relaxed) {
                    if let Some((from, payload)) = socket.receive() {
                        let _ = socket.send(from, &payload);
                    }
                }
            }
        });
        RawEcho { stop, thread: Some(thread) }
    }
}

impl Drop for RawEcho {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Packets of a protocol, one after the other, each of which must come back from whom it was sent to.
///
/// # Panics
/// Without the right to raw sockets.
#[must_use]
pub fn raw_round_trips(client: &Namespace, protocol: u8, server: Ipv4Addr, count: usize, length: usize) -> Outcome {
    let socket = Raw::open(client, protocol);
    let mut outcome = Outcome::default();
    for number in 0..count {
        let payload: Vec<u8> = (0..length).map(|index| (index * 7 + number) as u8).collect();
        let sent = socket.send(server, &payload);
        let until = Instant::now() + PATIENCE;
        let mut answered = false;
        while sent.is_ok() && !answered && Instant::now() < until {
            answered = socket.receive().is_some_and(|answer| answer == (server, payload.clone()));
        }
        if answered {
            outcome.succeeded += 1;
        } else {
            outcome.failures.push(format!("packet {number} of protocol {protocol} to {server}: no answer ({sent:?})"));
        }
    }
    outcome
}
