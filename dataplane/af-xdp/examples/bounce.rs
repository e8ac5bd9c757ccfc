//! Sends every frame back with its MAC addresses swapped, or on to another interface, as fast as AF_XDP goes.
//!
//! ```text
//! cargo run --release -p af-xdp --example bounce -- IFACE [--to IFACE2] [--queue N] [--copy|--zero-copy|--auto] [--seconds N]
//! ```
//!
//! With `--to`, frames go both ways between the two interfaces, in one UMEM, without a copy of ours. It takes the
//! *whole* traffic of the queue for as long as it runs (the kernel has it back when it ends, however it ends), and a
//! core: it never sleeps. Needs root, or CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF.
//!
//! Try it without a network card:
//!
//! ```text
//! ip netns add far; ip link add near type veth peer name far netns far; ip link set near up; ip -n far link set far up
//! cargo run -p af-xdp --example bounce -- near &
//! ip netns exec far ping -c1 -I far 192.0.2.1        # its ARP requests come back; see tcpdump -eni far
//! ```

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use af_xdp::xdp::{Attach, Link, Program, XskMap, redirect_all};
use af_xdp::{Frame, FramePool, KickError, Mode, Socket, SocketConfig, Umem, UmemConfig, interface};

/// Frames per round: the usual NAPI budget.
const BATCH: usize = 64;

struct Options {
    from: String,
    to: Option<String>,
    queue: u32,
    mode: Mode,
    seconds: Option<u64>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options { from: String::new(), to: None, queue: 0, mode: Mode::Auto, seconds: None };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} wants a value"));
            match argument.as_str() {
                "--to" => options.to = Some(value()?),
                "--queue" => options.queue = value()?.parse().map_err(|error| format!("--queue: {error}"))?,
                "--seconds" => options.seconds = Some(value()?.parse().map_err(|error| format!("--seconds: {error}"))?),
                "--copy" => options.mode = Mode::Copy,
                "--zero-copy" => options.mode = Mode::ZeroCopy,
                "--auto" => options.mode = Mode::Auto,
                name if !name.starts_with('-') && options.from.is_empty() => options.from = name.to_owned(),
                other => return Err(format!("unexpected `{other}`")),
            }
        }
        if options.from.is_empty() { Err("which interface?".to_owned()) } else { Ok(options) }
    }
}

/// An interface's queue, and all that makes its frames come here.
struct Port {
    socket: Socket,
    _map: XskMap,
    _program: Program,
    _link: Link,
}

impl Port {
    fn open(umem: &Arc<Umem>, pool: &mut FramePool, name: &str, options: &Options) -> Result<Port, Box<dyn Error>> {
        let index = interface::index(name)?;
        let mut config = SocketConfig::new(index, options.queue);
        config.mode = options.mode;
        let mut socket = Socket::open(umem, &config)?;
        // First frames, then the map, then the program: so nothing is lost in between.
        socket.fill(pool);
        let map = XskMap::new("bounce", options.queue + 1)?;
        map.insert(options.queue, &socket)?;
        let program = Program::load("bounce", &redirect_all(&map)?, false)?;
        let link = program.attach(index, Attach::NativeOrGeneric)?;
        let copies = if socket.zero_copy() { "zero-copy" } else { "copy" };
        let memory =
            if socket.shares_registration() { "shares the UMEM's registration" } else { "registered the UMEM" };
        println!("{name} queue {}: {} XDP, {copies}, {memory}", options.queue, link.mode());
        Ok(Port { socket, _map: map, _program: program, _link: link })
    }
}

/// Exchanges destination and source; a frame from the kernel is never shorter.
#[inline]
fn swap_macs(frame: &mut [u8]) {
    if let Some((destination, rest)) = frame.split_first_chunk_mut::<6>()
        && let Some(source) = rest.first_chunk_mut::<6>()
    {
        std::mem::swap(destination, source);
    }
}

/// Takes what a port has received, behind what is still waiting to be sent, and swaps its addresses. Says how many
/// frames were received.
#[inline]
fn receive(umem: &Umem, from: &mut Socket, batch: &mut Vec<Frame>) -> u64 {
    let waiting = batch.len();
    let received = from.receive(batch, BATCH.saturating_sub(waiting));
    for frame in batch.iter_mut().skip(waiting) {
        swap_macs(umem.bytes_mut(frame));
    }
    received as u64
}

/// One turn of a port: what was sent comes back, what may be received is topped up, `batch` goes out.
#[inline]
fn turn(socket: &mut Socket, pool: &mut FramePool, batch: &mut Vec<Frame>) -> Result<(), KickError> {
    socket.complete(pool);
    socket.fill(pool);
    socket.transmit(batch);
    socket.kick()?;
    socket.wake_receiver()
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let (umem, mut pool) = Umem::new(UmemConfig::default())?;
    println!("{} frames of {} bytes, huge pages: {}", umem.frames(), umem.frame_size(), umem.huge_pages());
    let mut near = Port::open(&umem, &mut pool, &options.from, options)?;
    let mut far = options.to.as_deref().map(|name| Port::open(&umem, &mut pool, name, options)).transpose()?;
    let (mut there, mut back) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));

    let start = Instant::now();
    let (mut rounds, mut received, mut shown, mut shown_at) = (0u64, 0u64, 0u64, start);
    loop {
        received += receive(&umem, &mut near.socket, &mut there);
        match &mut far {
            None => turn(&mut near.socket, &mut pool, &mut there)?,
            Some(far) => {
                received += receive(&umem, &mut far.socket, &mut back);
                turn(&mut far.socket, &mut pool, &mut there)?;
                turn(&mut near.socket, &mut pool, &mut back)?;
            }
        }
        // The clock is dearer than a round; look at it now and then.
        rounds += 1;
        if rounds % 4096 == 0 && shown_at.elapsed() >= Duration::from_secs(1) {
            println!("{:.3} Mpps", (received - shown) as f64 / shown_at.elapsed().as_secs_f64() / 1e6);
            (shown, shown_at) = (received, Instant::now());
            if options.seconds.is_some_and(|seconds| start.elapsed() >= Duration::from_secs(seconds)) {
                break;
            }
        }
    }
    println!("received {received} in {:.1} s", start.elapsed().as_secs_f64());
    for port in std::iter::once(&near).chain(&far) {
        println!("{:?} {:?} {:?}", port.socket.counters(), port.socket.statistics()?, port.socket.held());
    }
    pool.give_all(&mut there);
    pool.give_all(&mut back);
    Ok(())
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("bounce: {problem}");
            eprintln!("usage: bounce IFACE [--to IFACE2] [--queue N] [--copy|--zero-copy|--auto] [--seconds N]");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bounce: {error}");
            ExitCode::FAILURE
        }
    }
}
