//! The port to this host's own IP stack: a TAP device.
//!
//! ```text
//!   processes ─► kernel's routes ─► levee-host ─ read ─► worker
//!   processes ◄─ kernel's stack  ◄─ levee-host ◄─ write ─┘
//! ```
//!
//! What the kernel routes into the device is received here, and what is sent here the kernel receives. The link has two ends and no
//! ARP: frames go from the device's own MAC to the device's own MAC, both ways. The device, and every route through it, goes with
//! the process.
//!
//! It is no fast path: each frame is a system call and a copy. While nothing comes it costs a worker that is busy one read(2) in
//! [`REST`] turns, and one that sleeps nothing.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use af_xdp::tap::TapDevice;
use af_xdp::{Frame, FramePool, Umem};

use super::Port;
use super::xdp::Traffic;

/// Frames that are kept to be read into.
const READY: usize = 64;
/// Turns that pass after a look at which there was nothing, before the next.
const REST: u32 = 8;

/// See the module's documentation.
pub struct HostPort {
    device: TapDevice,
    umem: Arc<Umem>,
    traffic: Arc<Traffic>,
    /// To be read into.
    ready: Vec<Frame>,
    /// Written; the pool's at the next turn.
    written: Vec<Frame>,
    rest: u32,
    /// Somebody has removed the device.
    gone: bool,
}

impl HostPort {
    /// Over a device that is up.
    #[must_use]
    pub fn new(device: TapDevice, umem: &Arc<Umem>) -> Self {
        HostPort {
            device,
            umem: Arc::clone(umem),
            traffic: Arc::default(),
            ready: Vec::with_capacity(READY),
            written: Vec::with_capacity(READY),
            rest: 0,
            gone: false,
        }
    }

    /// What goes through it, for other threads to read.
    #[must_use]
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// The next frame, if there is one.
    fn read(&mut self) -> Option<Frame> {
        let mut frame = self.ready.pop()?;
        let start = self.umem.data_start();
        let room = self.umem.chunk_mut(&mut frame).get_mut(start..).unwrap_or_default();
        match self.device.read(room) {
            Ok(Some(length)) if frame.set_range(start, length).is_ok() => return Some(frame),
            Ok(_) => {}
            Err(_) => self.gone = true,
        }
        self.ready.push(frame);
        None
    }
}

impl Port for HostPort {
    fn receive(&mut self, into: &mut Vec<Frame>, max: usize) -> usize {
        if self.gone || self.rest > 0 {
            self.rest = self.rest.saturating_sub(1);
            return 0;
        }
        let before = into.len();
        while into.len() - before < max
            && let Some(frame) = self.read()
        {
            into.push(frame);
        }
        let received = into.len() - before;
        if received == 0 {
            self.rest = REST;
        }
        Traffic::add(&self.traffic.received, received);
        received
    }

    /// Takes them all. What the kernel has no room for is lost, as on a wire.
    fn transmit(&mut self, from: &mut Vec<Frame>) -> usize {
        let count = from.len();
        let mut taken = 0;
        for frame in from.drain(..) {
            taken += usize::from(self.device.write(self.umem.bytes(&frame)).unwrap_or(false));
            self.written.push(frame);
        }
        Traffic::add(&self.traffic.sent, taken);
        count
    }

    fn reclaim(&mut self, pool: &mut FramePool) {
        pool.give_all(&mut self.written);
        let missing = READY.saturating_sub(self.ready.len());
        pool.take_many(&mut self.ready, missing);
    }

    fn flush(&mut self) {}

    fn sending(&self) -> bool {
        false
    }

    fn pass(&mut self, frame: &[u8]) -> bool {
        self.device.write(frame).unwrap_or(false)
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        // One that is gone is always ready, with nothing but an error.
        Some(self.device.as_fd()).filter(|_| !self.gone)
    }
}
