//! A flow, as everybody but its table sees it: a value, copied out of the table and stored back.

use levee_api::net::Role;
use levee_api::program::Mode;

use super::Millis;
use super::state::State;
use crate::address::Address;
use crate::ends::{Ends, Tuple};
use crate::verdict::{Endpoint, NextHop};

/// Which way a packet of a flow goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client.
    Forward,
    /// From the backend.
    Reverse,
}

/// One flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    pub(super) tuple: Tuple,
    pub(super) backend: Endpoint,
    pub(super) source: Endpoint,
    pub(super) last: Millis,
    pub(super) mode: Mode,
    /// The side that the client's packets come in on.
    pub from: Role,
    /// Where it is in its life.
    pub state: State,
    /// Slot of its service.
    pub service_slot: u32,
    /// [`Tables::stamp`](crate::tables::Tables::stamp) as of which its service has its backend, and its next hops hold.
    pub stamp: u32,
    /// Which of its service's tunnels leads to its backend; 0 if none does.
    pub via: u16,
    /// Towards the backend.
    pub forward_hop: Option<NextHop>,
    /// Towards the client.
    pub reverse_hop: Option<NextHop>,
    /// Whether a packet of its backend's has come by, ever.
    pub answered: bool,
}

/// A flow of IPv4 that a SYN opens, in a mode in which replies pass: what there is to know of it, as it stands on the wire.
#[derive(Debug, Clone, Copy)]
pub struct Opening {
    /// What the client's packets carry.
    pub forward: Ends,
    /// What the backend's carry: from it, to what it sees as the sender.
    pub reverse: Ends,
    /// Protocol number.
    pub protocol: u8,
    /// `Nat` or `Dnat`.
    pub mode: Mode,
    /// As of [`Flow`].
    pub from: Role,
    /// As of [`Flow`].
    pub service_slot: u32,
    /// As of [`Flow`].
    pub stamp: u32,
    /// Towards the backend.
    pub hop: NextHop,
}

impl Flow {
    /// A new flow. `source` is what the backend sees as the sender: the client itself, except with `nat`; and with `tunnel`,
    /// where the tunnel ends.
    #[must_use]
    pub fn new(tuple: &Tuple, backend: Endpoint, source: Endpoint, mode: Mode, state: State, now: Millis) -> Self {
        Flow {
            tuple: *tuple,
            backend,
            source,
            last: now,
            mode,
            from: Role::Uplink,
            state,
            service_slot: 0,
            stamp: 0,
            via: 0,
            forward_hop: None,
            reverse_hop: None,
            answered: false,
        }
    }

    /// The client.
    #[inline]
    #[must_use]
    pub fn client(&self) -> Endpoint {
        self.tuple.source
    }

    /// What the client sends to.
    #[inline]
    #[must_use]
    pub fn frontend(&self) -> Endpoint {
        self.tuple.destination
    }

    /// Where it is sent.
    #[inline]
    #[must_use]
    pub fn backend(&self) -> Endpoint {
        self.backend
    }

    /// What the backend sees as the sender.
    #[inline]
    #[must_use]
    pub fn source(&self) -> Endpoint {
        if self.mode == Mode::Tunnel { self.client() } else { self.source }
    }

    /// The far end of the tunnel, with `tunnel`: whatever its service's backends are now.
    #[inline]
    #[must_use]
    pub fn far_end(&self) -> Option<Address> {
        (self.mode == Mode::Tunnel).then_some(self.source.address)
    }

    /// Whether replies come by here on their way to the client.
    #[inline]
    #[must_use]
    pub fn replies_pass(&self) -> bool {
        matches!(self.mode, Mode::Nat | Mode::Dnat)
    }

    /// What it counts as: [`State::taken_for`].
    #[inline]
    #[must_use]
    pub fn taken_for(&self) -> State {
        self.state.taken_for(self.replies_pass(), self.answered)
    }

    /// How the backend is reached.
    #[inline]
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Protocol number.
    #[inline]
    #[must_use]
    pub fn protocol(&self) -> u8 {
        self.tuple.protocol
    }

    /// When its last packet came.
    #[inline]
    #[must_use]
    pub fn last(&self) -> Millis {
        self.last
    }

    /// Notes a packet.
    #[inline]
    pub fn touch(&mut self, now: Millis) {
        self.last = now;
    }

    /// Whether all of its addresses are of IPv4.
    #[inline]
    pub(super) fn is_v4(&self) -> bool {
        [self.tuple.source, self.tuple.destination, self.backend, self.source].iter().all(|end| end.address.is_v4())
    }

    /// The tuple of the client's packets.
    #[inline]
    #[must_use]
    pub fn forward(&self) -> Tuple {
        self.tuple
    }

    /// The reply's tuple; none where replies do not pass.
    #[inline]
    #[must_use]
    pub fn reverse(&self) -> Option<Tuple> {
        self.replies_pass().then_some(Tuple {
            source: self.backend,
            destination: self.source,
            protocol: self.tuple.protocol,
        })
    }
}
