//! A port over an AF_XDP socket.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use af_xdp::{Frame, FramePool, Socket};

use super::Port;

/// A way to the kernel for frames that are its own: a TAP device.
pub trait ToKernel: Send + Sync {
    /// Gives it a frame; false if it was not taken.
    fn write(&self, frame: &[u8]) -> bool;
}

/// Frames that went through a queue. Written by its worker alone, with a load and a store; read by anybody. On lines of its own:
/// those of several queues are made one after the other, and belong to different workers.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Traffic {
    /// Received.
    pub received: AtomicU64,
    /// Given to be sent.
    pub sent: AtomicU64,
}

impl Traffic {
    #[inline]
    pub(super) fn add(count: &AtomicU64, frames: usize) {
        if frames > 0 {
            count.store(count.load(Ordering::Relaxed).wrapping_add(frames as u64), Ordering::Relaxed);
        }
    }
}

/// See the module's documentation.
pub struct XdpPort {
    socket: Socket,
    traffic: Arc<Traffic>,
    kernel: Option<Arc<dyn ToKernel>>,
}

impl XdpPort {
    /// A port over a bound socket, with a way to the kernel if there is one.
    #[must_use]
    pub fn new(socket: Socket, kernel: Option<Arc<dyn ToKernel>>) -> Self {
        XdpPort { socket, traffic: Arc::default(), kernel }
    }

    /// What goes through it, for other threads to read.
    #[must_use]
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// The socket, for its statistics.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        &self.socket
    }
}

impl Port for XdpPort {
    #[inline]
    fn receive(&mut self, into: &mut Vec<Frame>, max: usize) -> usize {
        let received = self.socket.receive(into, max);
        Traffic::add(&self.traffic.received, received);
        received
    }

    #[inline]
    fn transmit(&mut self, from: &mut Vec<Frame>) -> usize {
        let sent = self.socket.transmit(from);
        Traffic::add(&self.traffic.sent, sent);
        sent
    }

    #[inline]
    fn reclaim(&mut self, pool: &mut FramePool) {
        self.socket.complete(pool);
        self.socket.fill(pool);
    }

    #[inline]
    fn flush(&mut self) {
        // An interface that is down or gone: its frames stay in the ring, the port's carrier says why, and forwarding
        // to other ports goes on.
        let _ = self.socket.kick();
        let _ = self.socket.wake_receiver();
    }

    fn sending(&self) -> bool {
        self.socket.outstanding() > 0
    }

    fn pass(&mut self, frame: &[u8]) -> bool {
        self.kernel.as_ref().is_some_and(|kernel| kernel.write(frame))
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }
}
