//! A tap on all wires of a namespace: one packet socket hears every interface, in both directions, in order.
//!
//! In the fabric's namespace that is the whole segment: `Out` on the port called `node-3` is what node 3's wire carries
//! *towards* node 3. Frames that a node sends through AF_XDP are heard too, as `In`, since the fabric's end of a wire is
//! an ordinary interface. (On the interface that has the XDP program they are not: do not tap there.)
//!
//! With `LEVEE_LAB_PCAP=DIRECTORY` in its environment, a test that fails leaves there what its taps have heard.
//!
//! A tap that has lost frames cannot prove that there were none, so losing one is a panic, never a smaller number.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, IoSliceMut, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recvmsg, setsockopt,
    socket, sockopt,
};
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::{DataLink, PcapError};

use crate::namespace::Namespace;

/// Bytes kept of a frame: a whole one at any MTU that the lab uses; segments not yet cut up (GSO) may be longer.
const SNAP: usize = 2048;

/// Room for what the kernel hears while this thread does not run: some 30,000 frames at the kernel's 2 kB a frame.
const BUFFER: usize = 64 << 20;

/// Names the directory that failing tests leave their wires' frames in.
const SAVE_TO: &str = "LEVEE_LAB_PCAP";

/// Which way a frame went, as seen from the namespace of the tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Came out of the wire.
    In,
    /// Went onto the wire.
    Out,
}

/// One frame on one wire.
#[derive(Debug, Clone)]
pub struct Captured {
    /// Since the Unix epoch.
    pub time: Duration,
    /// Interface, by name.
    pub interface: Arc<str>,
    /// Which way.
    pub direction: Direction,
    /// Its first bytes: all, unless the frame is longer than any MTU of the lab.
    pub bytes: Vec<u8>,
    /// Its length on the wire.
    pub length: usize,
}

/// See the module. Dropped, it stops listening.
pub struct Tap {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    namespace: String,
}

#[derive(Default)]
struct Shared {
    frames: Mutex<Vec<Captured>>,
    /// Raised by whoever wants to know that everything until now was read …
    asked: AtomicU64,
    /// … and followed by the listener whenever it finds the socket empty.
    answered: AtomicU64,
    lost: AtomicU64,
    stop: AtomicBool,
}

impl Tap {
    /// Starts to listen on every interface that the namespace has now or gets later.
    ///
    /// # Panics
    /// If the kernel gives no packet socket.
    #[must_use]
    pub fn start(namespace: &Namespace) -> Tap {
        let socket = namespace.enter(|| {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)
                .expect("root gets a packet socket");
            setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).expect("root may have a large buffer");
            setsockopt(&socket, sockopt::RxqOvfl, &1).expect("every kernel tells of lost frames");
            socket
        });
        let shared = Arc::new(Shared::default());
        let thread = std::thread::spawn({
            let (shared, namespace) = (Arc::clone(&shared), namespace.clone());
            move || listen(&socket, &namespace, &shared)
        });
        Tap { shared, thread: Some(thread), namespace: namespace.name().to_owned() }
    }

    /// Everything heard since the start or the last [`Tap::clear`].
    ///
    /// # Panics
    /// If frames were lost.
    #[must_use]
    pub fn frames(&self) -> Vec<Captured> {
        self.settle();
        self.shared.frames.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets what was heard so far.
    pub fn clear(&self) {
        self.settle();
        self.shared.frames.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Waits until the listener has read everything that the kernel had for it when this was called.
    fn settle(&self) {
        let ticket = self.shared.asked.fetch_add(1, Ordering::SeqCst) + 1;
        while self.shared.answered.load(Ordering::SeqCst) < ticket {
            let alive = self.thread.as_ref().is_some_and(|thread| !thread.is_finished());
            assert!(alive, "the tap's listener has died");
            std::thread::sleep(Duration::from_millis(1));
        }
        let lost = self.shared.lost.load(Ordering::SeqCst);
        assert_eq!(lost, 0, "the tap has lost {lost} frames: its counts would be wrong");
    }

    /// Writes what was heard to a file that tcpdump and Wireshark read.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn write_pcap(&self, path: &Path) {
        self.settle();
        self.save(path).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }

    fn save(&self, path: &Path) -> Result<(), PcapError> {
        let header = PcapHeader { datalink: DataLink::ETHERNET, ..PcapHeader::default() };
        let mut writer =
            PcapWriter::with_header(BufWriter::new(File::create(path).map_err(PcapError::IoError)?), header)?;
        for frame in self.shared.frames.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let length = u32::try_from(frame.length).unwrap_or(u32::MAX);
            writer.write_packet(&PcapPacket::new(frame.time, length, &frame.bytes))?;
        }
        writer.into_writer().flush().map_err(PcapError::IoError)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if let (true, Some(directory)) = (std::thread::panicking(), std::env::var_os(SAVE_TO)) {
            let path = Path::new(&directory).join(format!("{}.pcap", self.namespace));
            match self.save(&path) {
                Ok(()) => eprintln!("what the wires carried is in {}", path.display()),
                Err(error) => eprintln!("cannot write {}: {error}", path.display()),
            }
        }
    }
}

/// The listener's whole life.
fn listen(socket: &OwnedFd, namespace: &Namespace, shared: &Shared) {
    let mut names = BTreeMap::new();
    let mut buffer = vec![0; SNAP];
    let mut control = nix::cmsg_space!(u32);
    while !shared.stop.load(Ordering::SeqCst) {
        let ticket = shared.asked.load(Ordering::SeqCst);
        loop {
            let mut slices = [IoSliceMut::new(&mut buffer)];
            let flags = MsgFlags::MSG_TRUNC | MsgFlags::MSG_DONTWAIT;
            let (length, address) =
                match recvmsg::<LinkAddr>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags) {
                    Ok(message) => {
                        for message in message.cmsgs().into_iter().flatten() {
                            if let ControlMessageOwned::RxqOvfl(lost) = message {
                                shared.lost.store(u64::from(lost), Ordering::SeqCst);
                            }
                        }
                        (message.bytes, message.address)
                    }
                    Err(Errno::EINTR) => continue,
                    Err(Errno::EAGAIN) => break,
                    // An interface went down: said once, and there may be others.
                    Err(Errno::ENETDOWN) => continue,
                    Err(error) => panic!("packet socket: {error}"),
                };
            let Some(address) = address else { continue };
            let index = u32::try_from(address.ifindex()).unwrap_or(0);
            let interface = names.entry(index).or_insert_with(|| interface_name(namespace, index));
            let outgoing = i32::from(address.pkttype()) == i32::from(nix::libc::PACKET_OUTGOING);
            let captured = Captured {
                time: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
                interface: Arc::clone(interface),
                direction: if outgoing { Direction::Out } else { Direction::In },
                bytes: buffer[..length.min(SNAP)].to_vec(),
                length,
            };
            shared.frames.lock().unwrap_or_else(PoisonError::into_inner).push(captured);
        }
        shared.answered.store(ticket, Ordering::SeqCst);
        let _ = poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], PollTimeout::from(5u8));
    }
}

fn interface_name(namespace: &Namespace, index: u32) -> Arc<str> {
    namespace.enter(|| {
        let all = nix::net::if_::if_nameindex().expect("the kernel lists its interfaces");
        let found = all.iter().find(|interface| interface.index() == index);
        found.map_or_else(|| format!("gone-{index}").into(), |interface| interface.name().to_string_lossy().into())
    })
}
