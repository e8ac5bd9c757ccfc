//! A network namespace per test, without a name: it goes away with the thread that made it, whatever happens to the
//! test.

#![allow(unsafe_code, dead_code, unreachable_pub)]

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use af_xdp::xdp::{Attach, Link, Program, XskMap, redirect_all};
use af_xdp::{Frame, FramePool, HugePages, Socket, SocketConfig, Umem, UmemConfig};

/// Runs a test in a thread with a network namespace of its own; says so loudly where that cannot be.
pub fn in_namespace(test: impl FnOnce() + Send + 'static) {
    // SAFETY: reads a number.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("SKIPPED: needs root for a network namespace, AF_XDP sockets and bpf(2)");
        return;
    }
    if Command::new("ip").arg("-V").output().is_err() {
        eprintln!("SKIPPED: needs `ip` (apt-get install iproute2)");
        return;
    }
    let thread = std::thread::spawn(move || {
        // SAFETY: affects this thread only, which ends with the test.
        let done = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        assert_eq!(done, 0, "unshare(CLONE_NEWNET): {}", std::io::Error::last_os_error());
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// `ip ...`, which must succeed.
pub fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A veth pair, both ends here and up, without the kernel's own IPv6 chatter.
pub fn veth(one: &str, other: &str, options: &str) {
    ip(&format!("link add {one} {options} type veth peer name {other} {options}"));
    for end in [one, other] {
        // /proc/sys/net is that of the writing thread's namespace.
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{end}/disable_ipv6"), "1").unwrap();
        ip(&format!("link set {end} up"));
    }
}

/// Small memory for a test.
pub fn umem(frames: u32) -> (Arc<Umem>, FramePool) {
    Umem::new(UmemConfig { frames, huge_pages: HugePages::No, ..UmemConfig::default() }).unwrap()
}

/// A socket that gets everything that comes in on queue 0 of an interface.
pub struct Tap {
    pub link: Link,
    pub program: Program,
    pub map: XskMap,
    pub socket: Socket,
}

/// Opens one, its fill ring filled.
pub fn tap(umem: &Arc<Umem>, pool: &mut FramePool, name: &str) -> Tap {
    let interface = af_xdp::interface::index(name).unwrap();
    let mut socket = Socket::open(umem, &SocketConfig::new(interface, 0)).unwrap();
    socket.fill(pool);
    let (link, program, map) = redirect(&socket, interface, false);
    Tap { link, program, map, socket }
}

/// Sends everything on queue 0 of an interface to a socket.
pub fn redirect(socket: &Socket, interface: u32, frags: bool) -> (Link, Program, XskMap) {
    let map = XskMap::new("sockets", 4).unwrap();
    map.insert(0, socket).unwrap();
    let program = Program::load("redirect_all", &redirect_all(&map).unwrap(), frags).unwrap();
    let link = program.attach(interface, Attach::Native).unwrap();
    (link, program, map)
}

/// Frames with a number in them, of an EtherType that nobody else uses (IEEE 802 local experimental).
pub fn numbered(umem: &Umem, pool: &mut FramePool, numbers: std::ops::Range<u32>, len: usize) -> Vec<Frame> {
    let mut bytes = vec![0u8; len];
    bytes[..6].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
    bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    bytes[12..14].copy_from_slice(&[0x88, 0xb5]);
    numbers
        .map(|number| {
            bytes[14..18].copy_from_slice(&number.to_be_bytes());
            let mut frame = pool.take().expect("pool is empty");
            umem.write(&mut frame, &bytes).unwrap();
            frame
        })
        .collect()
}

/// The number in such a frame.
pub fn number(umem: &Umem, frame: &Frame) -> Option<u32> {
    let bytes = umem.bytes(frame);
    (bytes.get(12..14)? == [0x88, 0xb5]).then(|| u32::from_be_bytes(bytes[14..18].try_into().unwrap()))
}

/// Sends all frames and waits until all are completed.
pub fn send_all(socket: &mut Socket, frames: &mut Vec<Frame>, pool: &mut FramePool) {
    wait_for("frames to be sent", || {
        socket.transmit(frames);
        socket.kick().unwrap();
        socket.complete(pool);
        frames.is_empty() && socket.outstanding() == 0
    });
}

/// Receives until `enough` says so of what has been received.
pub fn receive_until(socket: &mut Socket, into: &mut Vec<Frame>, mut enough: impl FnMut(&[Frame]) -> bool) {
    wait_for("frames to be received", || {
        socket.receive(into, 64);
        socket.wake_receiver().unwrap();
        enough(into)
    });
}

/// Tries again until it is so; fails after 30 s, as a machine may have much else to do.
pub fn wait_for(what: &str, mut it_is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !it_is_so() {
        assert!(Instant::now() < deadline, "waited 30 s for {what}");
        std::thread::yield_now();
    }
}
