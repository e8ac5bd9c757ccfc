//! A port of either kind, for workers that serve both.

use std::os::fd::BorrowedFd;

use af_xdp::{Frame, FramePool};

use super::Port;
use super::host::HostPort;
use super::xdp::XdpPort;

/// See the module's documentation.
// A worker has a handful of them, and moves none.
#[allow(clippy::large_enum_variant)]
pub enum AnyPort {
    /// A queue of an interface.
    Xdp(XdpPort),
    /// This host's own IP stack.
    Host(HostPort),
}

/// The same call to either; the branch is taken once a batch and always the same way.
macro_rules! either {
    ($self:ident, $port:ident => $call:expr) => {
        match $self {
            AnyPort::Xdp($port) => $call,
            AnyPort::Host($port) => $call,
        }
    };
}

impl Port for AnyPort {
    #[inline]
    fn receive(&mut self, into: &mut Vec<Frame>, max: usize) -> usize {
        either!(self, port => port.receive(into, max))
    }

    #[inline]
    fn transmit(&mut self, from: &mut Vec<Frame>) -> usize {
        either!(self, port => port.transmit(from))
    }

    #[inline]
    fn reclaim(&mut self, pool: &mut FramePool) {
        either!(self, port => port.reclaim(pool));
    }

    #[inline]
    fn flush(&mut self) {
        either!(self, port => port.flush());
    }

    fn sending(&self) -> bool {
        either!(self, port => port.sending())
    }

    fn pass(&mut self, frame: &[u8]) -> bool {
        either!(self, port => port.pass(frame))
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        either!(self, port => port.readiness())
    }
}
