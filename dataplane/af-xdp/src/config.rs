//! What a socket should be.
//!
//! Every value has a default, a unit and a reason; [`SocketConfig::new`] is right for most. What was really granted is
//! said by the [`crate::Socket`].

use std::time::Duration;

use crate::error::Error;

/// How frames get between the driver and the UMEM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Zero-copy if the driver can, else copy. [`crate::Socket::zero_copy`] says which it became.
    Auto,
    /// The kernel copies. Every driver can.
    Copy,
    /// The NIC reads and writes the UMEM, or an error.
    ZeroCopy,
}

/// Whether the UMEM is registered once or once per socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// Share the registration of another socket of the UMEM (`XDP_SHARED_UMEM`) where that gives the mode that is
    /// asked for: a sharing socket gets copy or zero-copy, need_wakeup and multi-buffer as the first one has them.
    /// Else register anew.
    Share,
    /// Register anew. The pages count twice against RLIMIT_MEMLOCK.
    Own,
}

/// Number of slots of each ring, powers of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingSizes {
    /// Frames that wait to be filled. Too small: drops in bursts (`rx_fill_ring_empty`). Too large: frames wait out
    /// of the cache. Zero-copy drivers want at least their hardware ring's size.
    pub fill: u32,
    /// Received frames that wait for the program. At least `fill`, or bursts are dropped (`rx_ring_full`).
    pub rx: u32,
    /// Frames that wait to be sent.
    pub tx: u32,
    /// Frames that have been sent. At least `tx`, or sending stops while it is full.
    pub completion: u32,
}

impl Default for RingSizes {
    /// 2048 each: twice the kernel's usual NAPI backlog, and the size that the kernel's own samples use.
    fn default() -> Self {
        RingSizes { fill: 2048, rx: 2048, tx: 2048, completion: 2048 }
    }
}

impl RingSizes {
    pub(crate) fn check(self) -> Result<(), Error> {
        for (what, size) in [
            ("fill ring size", self.fill),
            ("rx ring size", self.rx),
            ("tx ring size", self.tx),
            ("completion ring size", self.completion),
        ] {
            // The upper limit keeps sums of two rings far from u32's end.
            if !size.is_power_of_two() || size > 1 << 20 {
                return Err(Error::invalid(what, format!("expected a power of two up to {}, got {size}", 1 << 20)));
            }
        }
        Ok(())
    }
}

/// Busy polling: the driver's work is done inside the socket's own calls, on the worker's core, instead of in an
/// interrupt. Wants `napi_defer_hard_irqs` and `gro_flush_timeout` set on the interface
/// (Documentation/networking/napi.rst).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BusyPoll {
    /// How long a call may poll, in microseconds (`SO_BUSY_POLL`). 20 is usual.
    pub micros: u32,
    /// Most packets per call (`SO_BUSY_POLL_BUDGET`). 64 is usual.
    pub budget: u32,
}

/// What a socket should be.
#[derive(Debug, Clone)]
pub struct SocketConfig {
    /// Interface index: [`crate::interface::index`].
    pub interface: u32,
    /// Receive and transmit queue, from 0.
    pub queue: u32,
    /// Ring sizes. Default 2048 each.
    pub rings: RingSizes,
    /// Default [`Mode::Auto`].
    pub mode: Mode,
    /// Let the kernel say when it wants to be woken, instead of always waking it (`XDP_USE_NEED_WAKEUP`). Default true.
    pub need_wakeup: bool,
    /// Accept packets of several buffers (`XDP_USE_SG`). This crate does not deliver them but counts them
    /// ([`crate::Counters::pieces`]), where without this the kernel counts them as dropped. Default false.
    pub multi_buffer: bool,
    /// Default none.
    pub busy_poll: Option<BusyPoll>,
    /// Most frames per `sendto` in copy mode, at least 32 (the kernel's default) and at most `rings.tx`; before Linux
    /// 6.17 it is always 32. Default 256, with which a kick a batch never gets EAGAIN.
    pub tx_budget: Option<u32>,
    /// Default [`Registration::Share`].
    pub registration: Registration,
    /// How long to try while the queue is busy, because a former socket is still closing. Default 1 s; up to 31 ms
    /// have been seen.
    pub busy_retry: Duration,
}

impl SocketConfig {
    /// The defaults, for one queue of one interface.
    #[must_use]
    pub fn new(interface: u32, queue: u32) -> Self {
        SocketConfig {
            interface,
            queue,
            rings: RingSizes::default(),
            mode: Mode::Auto,
            need_wakeup: true,
            multi_buffer: false,
            busy_poll: None,
            tx_budget: Some(256),
            registration: Registration::Share,
            busy_retry: Duration::from_secs(1),
        }
    }

    pub(crate) fn subject(&self) -> String {
        let name = crate::interface::name(self.interface);
        let name = name.unwrap_or_else(|_| format!("interface {}", self.interface));
        format!("{name} queue {}", self.queue)
    }
}
