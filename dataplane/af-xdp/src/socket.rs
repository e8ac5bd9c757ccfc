//! An AF_XDP socket: one queue of one interface, bound to a UMEM.
//!
//! ```text
//!                       your worker                                the kernel
//!
//!              .--- fill() ------> [ fill ring       ] ------.
//!   FramePool <                                               >  queue N of IFACE
//!      ^       '--- receive() <--- [ rx ring         ] <-----'   (what the XDP program redirects)
//!      |
//!      |       .--- transmit() --> [ tx ring         ] ------.
//!      '------<                                               >  queue N of IFACE
//!               '-- complete() <-- [ completion ring ] <-----'
//! ```
//!
//! All four rings belong to one [`Socket`], which has one owner. Several sockets, on any interfaces and queues, may
//! be bound to one UMEM: a frame that one has received is sent by another without a copy. A round of a worker is:
//!
//! ```text
//! complete(pool); fill(pool); receive(batch); ...; transmit(batch); kick()
//! ```
//!
//! A socket's memory budget: it holds at most `rings.fill` frames for receiving and `rings.tx` for sending; what is
//! in the program's hands comes on top.
//!
//! Closing is asynchronous in the kernel: for some 30 ms after a drop the queue is still busy, and [`Socket::open`]
//! waits for that. The frames that the kernel has when a socket is dropped are lost to the UMEM, and counted by
//! [`Umem::lost`].

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use memmap2::MmapOptions;

use crate::config::{Mode, Registration, RingSizes, SocketConfig};
use crate::error::{Error, KickError};
use crate::frame::Frame;
use crate::mapped::{Desc, Mapped};
use crate::pool::FramePool;
use crate::queues::{Counters, Held, Queues};
use crate::umem::{Peer, PeerMode, Umem};

// Socket options that libc 0.2 lacks: include/uapi/asm-generic/socket.h and include/uapi/linux/if_xdp.h.
const SO_BUSY_POLL: libc::c_int = 46;
const SO_PREFER_BUSY_POLL: libc::c_int = 69;
const SO_BUSY_POLL_BUDGET: libc::c_int = 70;
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// The kernel's own number of frames per `sendto` in copy mode, and the least that may be asked for (`TX_BATCH_SIZE`,
/// net/xdp/xsk.c).
const TX_BATCH_SIZE: u32 = 32;

/// What the kernel has counted for a socket (`XDP_STATISTICS`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Frames dropped for other reasons than a full ring: too long, no memory.
    pub rx_dropped: u64,
    /// Fill ring entries that were not of the UMEM.
    pub rx_invalid: u64,
    /// Transmit descriptors that were not of the UMEM.
    pub tx_invalid: u64,
    /// Frames dropped because the rx ring was full: the program is too slow.
    pub rx_ring_full: u64,
    /// Times that the kernel found no frame to fill: top up more often, or with more.
    pub rx_fill_ring_empty: u64,
    /// Times that the kernel was asked to send and found nothing.
    pub tx_ring_empty: u64,
}

/// A bound AF_XDP socket and its rings. See the [module](self).
#[derive(Debug)]
pub struct Socket {
    queues: Queues<Mapped<u64>, Mapped<Desc>>,
    // After the rings, so that they are unmapped before it is closed.
    fd: Arc<OwnedFd>,
    interface: u32,
    queue: u32,
    zero_copy: bool,
    need_wakeup: bool,
    shared: bool,
    tx_budget: u32,
}

impl Socket {
    /// Makes a socket, registers the UMEM or shares its registration, and binds it.
    ///
    /// Nothing is received before frames have been given ([`Socket::fill`]), the socket is in the map of an XDP
    /// program, and the program is attached; in that order no frame is dropped. Needs CAP_NET_RAW; using it
    /// afterwards needs nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] for ring sizes that cannot be; [`Error::System`] with the call that failed. EBUSY only
    /// after `busy_retry`.
    pub fn open(umem: &Arc<Umem>, config: &SocketConfig) -> Result<Socket, Error> {
        config.rings.check()?;
        umem.with_peers(|peers| {
            let (socket, mode) = Self::open_with(umem, config, peers)?;
            let fd = Arc::clone(&socket.fd);
            Ok((socket, fd, mode))
        })
    }

    fn open_with(umem: &Arc<Umem>, config: &SocketConfig, peers: &[Peer]) -> Result<(Socket, PeerMode), Error> {
        let taken = |peer: &Peer| peer.mode.interface == config.interface && peer.mode.queue == config.queue;
        let peer = match config.registration {
            Registration::Own => None,
            // A second socket on one queue would share its rings too, which is not offered; registering anew, it
            // learns that the queue is busy.
            Registration::Share if peers.iter().any(taken) => None,
            Registration::Share => peers.iter().find(|peer| Self::may_share(config, peer)),
        };
        let shared = Self::bind(umem, config, peer);
        let bound = match shared {
            // This driver cannot do what the first socket's can: a registration of its own will find what it can.
            Err(ref error)
                if peer.is_some() && config.mode == Mode::Auto && error.errno() == Some(libc::EOPNOTSUPP) =>
            {
                Self::bind(umem, config, None)
            }
            other => other,
        };
        let socket = bound?;
        let mode = PeerMode {
            interface: config.interface,
            queue: config.queue,
            zero_copy: socket.zero_copy,
            need_wakeup: socket.need_wakeup,
            multi_buffer: config.multi_buffer,
        };
        Ok((socket, mode))
    }

    /// Whether sharing the peer's registration gives what is asked for.
    fn may_share(config: &SocketConfig, peer: &Peer) -> bool {
        let mode = match config.mode {
            Mode::Copy => !peer.mode.zero_copy,
            Mode::ZeroCopy => peer.mode.zero_copy,
            // Another driver may be able to do more than the peer's, which only a registration of its own can find out.
            Mode::Auto => peer.mode.zero_copy || peer.mode.interface == config.interface,
        };
        mode && peer.mode.need_wakeup == config.need_wakeup && peer.mode.multi_buffer == config.multi_buffer
    }

    fn bind(umem: &Arc<Umem>, config: &SocketConfig, peer: Option<&Peer>) -> Result<Socket, Error> {
        let subject = || config.subject();
        // SAFETY: makes a descriptor; no memory is involved.
        let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(Error::last("socket(AF_XDP)", subject()));
        }
        // SAFETY: the call above made it, and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        if peer.is_none() {
            let registration = libc::xdp_umem_reg {
                addr: umem.base(),
                len: umem.address(umem.frames() - 1) + umem.frame_size() as u64,
                chunk_size: umem.frame_size() as u32,
                headroom: u32::from(umem.config().headroom),
                flags: 0,
                tx_metadata_len: 0,
            };
            set(&fd, libc::SOL_XDP, libc::XDP_UMEM_REG, &registration)
                .map_err(|source| Error::from_io("setsockopt(XDP_UMEM_REG)", umem.subject(), source))?;
        }
        let rings = config.rings;
        for (option, size, call) in [
            (libc::XDP_UMEM_FILL_RING, rings.fill, "setsockopt(XDP_UMEM_FILL_RING)"),
            (libc::XDP_UMEM_COMPLETION_RING, rings.completion, "setsockopt(XDP_UMEM_COMPLETION_RING)"),
            (libc::XDP_RX_RING, rings.rx, "setsockopt(XDP_RX_RING)"),
            (libc::XDP_TX_RING, rings.tx, "setsockopt(XDP_TX_RING)"),
        ] {
            set(&fd, libc::SOL_XDP, option, &size).map_err(|source| Error::from_io(call, subject(), source))?;
        }
        let mut tx_budget = TX_BATCH_SIZE;
        if let Some(wanted) = config.tx_budget {
            let wanted = wanted.clamp(TX_BATCH_SIZE, rings.tx.max(TX_BATCH_SIZE));
            // An older kernel says ENOPROTOOPT and a ring of fewer than 32 slots EACCES; either keeps the default.
            if set(&fd, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &wanted).is_ok() {
                tx_budget = wanted;
            }
        }
        if let Some(busy) = config.busy_poll {
            for (option, value, call) in [
                (SO_PREFER_BUSY_POLL, 1, "setsockopt(SO_PREFER_BUSY_POLL)"),
                (SO_BUSY_POLL, busy.micros, "setsockopt(SO_BUSY_POLL)"),
                (SO_BUSY_POLL_BUDGET, busy.budget, "setsockopt(SO_BUSY_POLL_BUDGET)"),
            ] {
                set(&fd, libc::SOL_SOCKET, option, &value).map_err(|source| Error::from_io(call, subject(), source))?;
            }
        }
        let queues = map_rings(&fd, umem, rings, &config.subject())?;
        let deadline = Instant::now() + config.busy_retry;
        while let Err(error) = bind_fd(&fd, config, peer) {
            if error.errno() != Some(libc::EBUSY) || Instant::now() >= deadline {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let zero_copy = granted_zero_copy(&fd, &config.subject())?;
        Ok(Socket {
            queues,
            fd: Arc::new(fd),
            interface: config.interface,
            queue: config.queue,
            zero_copy,
            need_wakeup: config.need_wakeup,
            shared: peer.is_some(),
            tx_budget,
        })
    }

    /// Takes over a socket that is bound already, such as one that was handed over by another process with its UMEM
    /// ([`Umem::adopt`]). The rings are taken up where they stand. Needs no capability.
    ///
    /// # Errors
    /// [`Error::System`] if it is not an AF_XDP socket or its rings are smaller than `config.rings`.
    ///
    /// # Safety
    /// `fd` is bound to the memory of `umem`, its rings have exactly the sizes in `config.rings`, and nobody else
    /// uses them any more: a frame that comes out of its rings is taken to be nobody else's.
    pub unsafe fn adopt(fd: OwnedFd, umem: &Arc<Umem>, config: &SocketConfig) -> Result<Socket, Error> {
        config.rings.check()?;
        let queues = map_rings(&fd, umem, config.rings, &config.subject())?;
        let zero_copy = granted_zero_copy(&fd, &config.subject())?;
        Ok(Socket {
            queues,
            fd: Arc::new(fd),
            interface: config.interface,
            queue: config.queue,
            zero_copy,
            need_wakeup: config.need_wakeup,
            shared: false,
            tx_budget: config.tx_budget.unwrap_or(TX_BATCH_SIZE),
        })
    }

    /// The UMEM that it is bound to.
    #[inline]
    #[must_use]
    pub fn umem(&self) -> &Arc<Umem> {
        self.queues.umem()
    }

    /// Interface index.
    #[must_use]
    pub fn interface(&self) -> u32 {
        self.interface
    }

    /// Queue, from 0.
    #[must_use]
    pub fn queue(&self) -> u32 {
        self.queue
    }

    /// Whether zero-copy was granted (`XDP_OPTIONS`); if not, the kernel copies.
    #[must_use]
    pub fn zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// Whether it shares the registration of another socket.
    #[must_use]
    pub fn shares_registration(&self) -> bool {
        self.shared
    }

    /// Most frames that one kick sends in copy mode.
    #[must_use]
    pub fn tx_budget(&self) -> u32 {
        self.tx_budget
    }

    /// Takes up to `max` received frames into `into`, and says how many. Allocates only if `into` has no room for them.
    #[inline]
    pub fn receive(&mut self, into: &mut Vec<Frame>, max: usize) -> usize {
        self.queues.receive(into, max)
    }

    /// Gives frames to the kernel to be sent, from the front of `from`, as many as the ring has room for, and says
    /// how many. The rest stay. Call [`Socket::kick`] afterwards.
    ///
    /// Frames shorter than an Ethernet header are not sent ([`Counters::runts`]). A frame of another UMEM stays, and
    /// what is behind it too ([`Counters::foreign`]).
    #[inline]
    pub fn transmit(&mut self, from: &mut Vec<Frame>) -> usize {
        self.queues.transmit(from)
    }

    /// Tops the fill ring up from the pool, and says by how many.
    #[inline]
    pub fn fill(&mut self, pool: &mut FramePool) -> usize {
        self.queues.fill(pool)
    }

    /// Takes frames that have been sent back into the pool, and says how many.
    #[inline]
    pub fn complete(&mut self, pool: &mut FramePool) -> usize {
        self.queues.complete(pool)
    }

    /// Asks the kernel to send, if there is anything outstanding and it wants to be asked. Call it every round, not
    /// only after transmitting: in copy mode one call sends at most [`Socket::tx_budget`] frames.
    ///
    /// # Errors
    /// If the interface is down ([`KickError::is_link_down`]) or gone. EAGAIN, EBUSY and ENOBUFS are no
    /// errors: the kernel has done some of it, and the next call goes on.
    #[inline]
    pub fn kick(&mut self) -> Result<(), KickError> {
        if self.queues.in_tx() == 0 || (self.need_wakeup && self.queues.tx_flags() & libc::XDP_RING_NEED_WAKEUP == 0) {
            return Ok(());
        }
        self.queues.counters.kicks += 1;
        // SAFETY: no address and no data are given.
        let done =
            unsafe { libc::sendto(self.fd.as_raw_fd(), std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0) };
        self.kicked(done, "sendto")
    }

    /// Asks the kernel to go on receiving, if it wants to be asked: with need_wakeup when the fill ring had run
    /// empty, and always with busy polling.
    ///
    /// # Errors
    /// As [`Socket::kick`].
    #[inline]
    pub fn wake_receiver(&mut self) -> Result<(), KickError> {
        if self.need_wakeup && self.queues.fill_flags() & libc::XDP_RING_NEED_WAKEUP == 0 {
            return Ok(());
        }
        self.queues.counters.kicks += 1;
        // SAFETY: no buffer is given.
        let done = unsafe {
            libc::recvfrom(
                self.fd.as_raw_fd(),
                std::ptr::null_mut(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        };
        self.kicked(done, "recvfrom")
    }

    #[inline]
    fn kicked(&mut self, done: libc::ssize_t, call: &'static str) -> Result<(), KickError> {
        if done >= 0 {
            return Ok(());
        }
        match io::Error::last_os_error().raw_os_error().unwrap_or(0) {
            libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::EINTR => {
                self.queues.counters.kicks_again += 1;
                Ok(())
            }
            errno => Err(KickError { call, errno }),
        }
    }

    /// Sleeps until something has been received, at most for `timeout`. Says whether something has.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses, which it does not for a socket that is open.
    pub fn poll(&self, timeout: Duration) -> Result<bool, Error> {
        let mut set = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let millis = timeout.as_millis().min(i32::MAX as u128) as libc::c_int;
        // SAFETY: one pollfd, ours.
        let ready = unsafe { libc::poll(&raw mut set, 1, millis) };
        if ready < 0 {
            let source = io::Error::last_os_error();
            if source.kind() == io::ErrorKind::Interrupted {
                return Ok(false);
            }
            return Err(Error::from_io("poll", format!("interface {} queue {}", self.interface, self.queue), source));
        }
        Ok(set.revents & libc::POLLIN != 0)
    }

    /// Frames given to be sent and not completed yet.
    #[inline]
    #[must_use]
    pub fn outstanding(&self) -> u32 {
        self.queues.in_tx()
    }

    /// Frames that the rings and the kernel hold.
    #[must_use]
    pub fn held(&self) -> Held {
        self.queues.held()
    }

    /// What this socket has met.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.queues.counters
    }

    /// What the kernel has counted.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses, which it does not for a socket that is open.
    pub fn statistics(&self) -> Result<Statistics, Error> {
        self.observer().statistics()
    }

    /// A look at this socket for another thread than the one that owns it. It keeps the socket open.
    #[must_use]
    pub fn observer(&self) -> Observer {
        Observer { fd: Arc::clone(&self.fd), interface: self.interface, queue: self.queue }
    }
}

/// Reads a socket's statistics while its owner uses it: the kernel counts, and its rings are not touched.
#[derive(Debug, Clone)]
pub struct Observer {
    fd: Arc<OwnedFd>,
    interface: u32,
    queue: u32,
}

impl Observer {
    /// What the kernel has counted.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses, which it does not for a socket that is open.
    pub fn statistics(&self) -> Result<Statistics, Error> {
        let mut raw = libc::xdp_statistics {
            rx_dropped: 0,
            rx_invalid_descs: 0,
            tx_invalid_descs: 0,
            rx_ring_full: 0,
            rx_fill_ring_empty_descs: 0,
            tx_ring_empty_descs: 0,
        };
        get(&self.fd, libc::XDP_STATISTICS, &mut raw).map_err(|source| {
            let subject = format!("interface {} queue {}", self.interface, self.queue);
            Error::from_io("getsockopt(XDP_STATISTICS)", subject, source)
        })?;
        Ok(Statistics {
            rx_dropped: raw.rx_dropped,
            rx_invalid: raw.rx_invalid_descs,
            tx_invalid: raw.tx_invalid_descs,
            rx_ring_full: raw.rx_ring_full,
            rx_fill_ring_empty: raw.rx_fill_ring_empty_descs,
            tx_ring_empty: raw.tx_ring_empty_descs,
        })
    }
}

impl AsFd for Socket {
    /// To put it into a map of sockets, to poll it with others, or to hand it over.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn bind_fd(fd: &OwnedFd, config: &SocketConfig, peer: Option<&Peer>) -> Result<(), Error> {
    // A sharing bind takes no other flag: all of them come from the first socket.
    let flags = if peer.is_some() {
        libc::XDP_SHARED_UMEM
    } else {
        let mode = match config.mode {
            Mode::Auto => 0,
            Mode::Copy => libc::XDP_COPY,
            Mode::ZeroCopy => libc::XDP_ZEROCOPY,
        };
        let wakeup = if config.need_wakeup { libc::XDP_USE_NEED_WAKEUP } else { 0 };
        let multi_buffer = if config.multi_buffer { libc::XDP_USE_SG } else { 0 };
        mode | wakeup | multi_buffer
    };
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: flags,
        sxdp_ifindex: config.interface,
        sxdp_queue_id: config.queue,
        sxdp_shared_umem_fd: peer.map_or(0, |peer| peer.fd.as_raw_fd() as u32),
    };
    let len = size_of::<libc::sockaddr_xdp>() as libc::socklen_t;
    // SAFETY: a whole sockaddr_xdp of ours, with its length, which the kernel only reads.
    if unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) } != 0 {
        return Err(Error::last("bind(AF_XDP)", config.subject()));
    }
    Ok(())
}

fn granted_zero_copy(fd: &OwnedFd, subject: &str) -> Result<bool, Error> {
    let mut options = libc::xdp_options { flags: 0 };
    get(fd, libc::XDP_OPTIONS, &mut options)
        .map_err(|source| Error::from_io("getsockopt(XDP_OPTIONS)", subject, source))?;
    Ok(options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0)
}

fn map_rings(
    fd: &OwnedFd,
    umem: &Arc<Umem>,
    sizes: RingSizes,
    subject: &str,
) -> Result<Queues<Mapped<u64>, Mapped<Desc>>, Error> {
    let none = || libc::xdp_ring_offset { producer: 0, consumer: 0, desc: 0, flags: 0 };
    let mut offsets = libc::xdp_mmap_offsets { rx: none(), tx: none(), fr: none(), cr: none() };
    get(fd, libc::XDP_MMAP_OFFSETS, &mut offsets)
        .map_err(|source| Error::from_io("getsockopt(XDP_MMAP_OFFSETS)", subject, source))?;
    let fill = map_ring(fd, libc::XDP_UMEM_PGOFF_FILL_RING, &offsets.fr, sizes.fill, subject)?;
    let completion = map_ring(fd, libc::XDP_UMEM_PGOFF_COMPLETION_RING, &offsets.cr, sizes.completion, subject)?;
    let rx = map_ring(fd, libc::XDP_PGOFF_RX_RING as u64, &offsets.rx, sizes.rx, subject)?;
    let tx = map_ring(fd, libc::XDP_PGOFF_TX_RING as u64, &offsets.tx, sizes.tx, subject)?;
    Ok(Queues::new(Arc::clone(umem), fill, completion, rx, tx))
}

fn map_ring<T: Copy>(
    fd: &OwnedFd,
    page_offset: u64,
    offsets: &libc::xdp_ring_offset,
    size: u32,
    subject: &str,
) -> Result<Mapped<T>, Error> {
    let len = offsets.desc as usize + size as usize * size_of::<T>();
    let map = MmapOptions::new().offset(page_offset).len(len).populate().map_raw(fd);
    let map = map.map_err(|source| Error::from_io("mmap(ring)", subject, source))?;
    Mapped::new(map, offsets, size)
}

/// setsockopt with a plain value.
fn set<T: Copy>(fd: &OwnedFd, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads the value's own bytes, `len` of them.
    let done = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const *value).cast(), len) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// getsockopt of SOL_XDP into one of the kernel's structures, all of which are integers.
fn get<T>(fd: &OwnedFd, option: libc::c_int, value: &mut T) -> io::Result<()> {
    let wanted = size_of::<T>() as libc::socklen_t;
    let mut len = wanted;
    // SAFETY: the kernel writes at most `len` bytes into the value, any bytes being a value of it.
    let done =
        unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_XDP, option, (&raw mut *value).cast(), &raw mut len) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    if len != wanted {
        // Before Linux 5.4 the structures were shorter and their fields meant other things.
        return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
    }
    Ok(())
}
