//! How long a flow is kept without a packet.

use super::Millis;
use super::state::State;

/// How long a flow of each state is kept without a packet, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// A TCP flow of which only the SYN has been seen.
    pub syn: Millis,
    /// An established TCP flow.
    pub established: Millis,
    /// A TCP flow that one end has closed.
    pub closing: Millis,
    /// A TCP flow that both ends have closed, or one has reset, or whose backend is gone.
    pub closed: Millis,
    /// UDP.
    pub udp: Millis,
}

impl Default for Timeouts {
    /// Those of the configuration: `timeouts` says what each is for. Linux conntrack's order of magnitude
    /// (`nf_conntrack_proto_tcp.c`, `tcp_timeouts`), but that an established flow is kept for 2 h 4 min and a closing one for four minutes
    /// (RFC 5382, REQ-5: at least), not five days and two.
    fn default() -> Self {
        Timeouts { syn: 60_000, established: 7_440_000, closing: 240_000, closed: 10_000, udp: 180_000 }
    }
}

impl Timeouts {
    /// For a state.
    #[inline]
    #[must_use]
    pub fn of(&self, state: State) -> Millis {
        match state {
            State::Syn => self.syn,
            State::Established => self.established,
            State::ClosedByClient | State::ClosedByBackend => self.closing,
            State::Reset | State::Closed | State::Dead => self.closed,
            State::Udp => self.udp,
        }
    }
}
