//! An echo server for TCP and UDP, and clients that count.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::namespace::Namespace;

/// How long a client waits for a connection, and then for its echo. Longer than the first two retransmissions of a SYN
/// (1 s, 3 s): one lost frame is slow, not a failure, and the count of frames tells of it.
const PATIENCE: Duration = Duration::from_secs(4);

/// Echoes one message per TCP connection, and every UDP datagram. Dropped, it ends.
pub struct EchoServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl EchoServer {
    /// Listens on a port of every address of the namespace.
    ///
    /// # Panics
    /// If the port is taken.
    #[must_use]
    pub fn start(namespace: &Namespace, port: u16) -> EchoServer {
        // Of both families.
        EchoServer::at(namespace, SocketAddr::from(([0u16; 8], port)))
    }

    /// Listens on one address, which is then also the source of its answers.
    ///
    /// # Panics
    /// If the port is taken, or the address is not the namespace's.
    #[must_use]
    pub fn at(namespace: &Namespace, address: SocketAddr) -> EchoServer {
        let (listener, datagrams) = namespace.enter(|| {
            let listener = TcpListener::bind(address).expect("the port is free");
            let datagrams = UdpSocket::bind(address).expect("the port is free");
            (listener, datagrams)
        });
        listener.set_nonblocking(true).expect("sockets can be non-blocking");
        datagrams.set_nonblocking(true).expect("sockets can be non-blocking");
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                while !stop.load(Ordering::Relaxed) {
                    serve(&listener, &datagrams);
                }
            }
        });
        EchoServer { stop, thread: Some(thread) }
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits a moment for either socket and serves what has come.
fn serve(listener: &TcpListener, datagrams: &UdpSocket) {
    let mut ready =
        [PollFd::new(listener.as_fd(), PollFlags::POLLIN), PollFd::new(datagrams.as_fd(), PollFlags::POLLIN)];
    let _ = poll(&mut ready, PollTimeout::from(20u8));
    while let Ok((connection, _)) = listener.accept() {
        // A client that says nothing holds up nobody else.
        std::thread::spawn(move || echo(connection));
    }
    let mut buffer = [0; 65_536];
    while let Ok((length, peer)) = datagrams.recv_from(&mut buffer) {
        let _ = datagrams.send_to(&buffer[..length], peer);
    }
}

/// Sends back what comes until the client has said all.
fn echo(mut connection: TcpStream) {
    let _ = connection.set_read_timeout(Some(PATIENCE));
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = connection.read(&mut buffer) {
        if connection.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
}

/// Failures after which there is no point in waiting for more of them.
const ENOUGH: usize = 5;

/// How many attempts came to what end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Echoed in full.
    pub succeeded: usize,
    /// The errors of the others, in words. After five no further attempt is made.
    pub failures: Vec<String>,
}

impl Outcome {
    /// Attempts that come one after the other, on a thread in the client's namespace.
    fn of(client: &Namespace, attempts: usize, attempt: impl Fn(usize) -> std::io::Result<()> + Sync) -> Outcome {
        client.enter(|| {
            let mut outcome = Outcome::default();
            for number in 0..attempts {
                match attempt(number) {
                    Ok(()) => outcome.succeeded += 1,
                    Err(error) => outcome.failures.push(format!("attempt {number}: {error}")),
                }
                if outcome.failures.len() == ENOUGH {
                    break;
                }
            }
            outcome
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} succeeded, {} failed", self.succeeded, self.failures.len())?;
        self.failures.first().map_or(Ok(()), |first| write!(f, " (the first: {first})"))
    }
}

/// Makes `count` short TCP connections one after the other: connect, say something, hear it echoed, close.
#[must_use]
pub fn connect_many(client: &Namespace, server: SocketAddr, count: usize) -> Outcome {
    Outcome::of(client, count, |number| connect_once(server, number))
}

/// Sends `length` bytes over one TCP connection, hears them echoed meanwhile, and compares: the rate in bytes per second
/// and direction.
///
/// # Errors
/// What went wrong, with the place of the first byte that is not as it was said.
pub fn bulk(client: &Namespace, server: SocketAddr, length: usize) -> std::io::Result<f64> {
    // No period that a segment size could hide behind.
    let said: Vec<u8> = (0..length).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    client.enter(|| {
        let start = std::time::Instant::now();
        let connection = TcpStream::connect_timeout(&server, PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        let mut heard = Vec::with_capacity(length);
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| {
                let mut connection = &connection;
                connection.write_all(&said)?;
                connection.shutdown(Shutdown::Write)
            });
            (&connection).read_to_end(&mut heard)?;
            sending.join().expect("writing does not panic")
        })?;
        if heard != said {
            let at = heard.iter().zip(&said).position(|(heard, said)| heard != said).unwrap_or(heard.len().min(length));
            let what = format!("of {length} bytes {} came back, the first {at} of them right", heard.len());
            return Err(std::io::Error::new(ErrorKind::InvalidData, what));
        }
        Ok(length as f64 / start.elapsed().as_secs_f64())
    })
}

fn connect_once(server: SocketAddr, number: usize) -> std::io::Result<()> {
    let mut connection = TcpStream::connect_timeout(&server, PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let said = format!("connection {number}\n");
    connection.write_all(said.as_bytes())?;
    connection.shutdown(Shutdown::Write)?;
    let mut heard = String::new();
    connection.read_to_string(&mut heard)?;
    if heard == said { Ok(()) } else { Err(std::io::Error::new(ErrorKind::InvalidData, format!("heard {heard:?}"))) }
}

/// Sends `count` datagrams of `length` bytes, each from a socket (and port) of its own, and waits for each echo.
#[must_use]
pub fn udp_round_trips(client: &Namespace, server: SocketAddr, count: usize, length: usize) -> Outcome {
    Outcome::of(client, count, |number| udp_once(server, number, length))
}

fn udp_once(server: SocketAddr, number: usize, length: usize) -> std::io::Result<()> {
    let any = if server.is_ipv4() { "0.0.0.0" } else { "::" };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut said = vec![0x5a; length];
    for (byte, value) in said.iter_mut().zip(number.to_be_bytes()) {
        *byte = value;
    }
    socket.send(&said)?;
    let mut heard = vec![0; length + 1];
    let length = socket.recv(&mut heard)?;
    if heard[..length] == said[..] { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
}
