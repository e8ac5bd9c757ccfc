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
    /// Linux conntrack's order of magnitude (`nf_conntrack_proto_tcp.c`, `tcp_timeouts`), with one difference: an
    /// established flow is kept for two hours (RFC 5382, REQ-5: at least 2 h 4 min), not five days.
    fn default() -> Self {
        Timeouts { syn: 60_000, established: 7_440_000, closing: 120_000, closed: 10_000, udp: 120_000 }
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
