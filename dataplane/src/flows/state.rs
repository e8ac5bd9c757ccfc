//! Where a flow is in its life: enough of TCP (RFC 9293, 3.3.2) to know how long to keep it.
//!
//! ```text
//!            ACK of the client's                  FIN of one         FIN of the other
//!    Syn ─────────────────────────► Established ────────────► ClosedBy… ────────────► Closed
//!     ▲                               ▲      │                   │
//!     │ ACK of the backend's          │      └─────── RST ───────┤
//!     └──────────────────────── Reset ◄──────────────────────────┘
//!                               │     ▲
//!                               └─────┘ ACK of the client's: to Established
//! ```
//!
//! A RST is nobody's word: sequence numbers are not followed, so one that its receiver ignores or challenges (RFC 5961, 3.2) looks like
//! one that ends the connection. What is heard afterwards tells: whoever believes a RST has nothing to say but RSTs. So the client's next ACK
//! makes a reset flow established again, and an ACK of the backend's, half open: that it was under way before the client's RST is likely.
//! `docs/decisions/0033-resets.md` says what this does not protect.

use super::Direction;
use crate::headers::tcp_flags::{ACK, FIN, RST, SYN};

/// A flow's state. Its number is what stands in an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Zeroable)]
#[repr(u8)]
pub enum State {
    /// TCP: one end has sent a RST, and nobody has said anything since.
    Reset = 0,
    /// TCP: half open. The client has sent one segment and nothing after it: a SYN, or, where connections are taken up in their
    /// middle, any other.
    Syn,
    /// TCP: the client has sent FIN.
    ClosedByClient,
    /// TCP: the backend has sent FIN.
    ClosedByBackend,
    /// TCP: both have.
    Closed,
    /// TCP: its backend is gone; what still comes is answered with RST, so that the client learns of it.
    Dead,
    /// TCP: the client has sent another, which acknowledges. That is its word alone: whether a flow that says so is kept as one that
    /// is, depends on whether its backend has answered ([`taken_for`](Self::taken_for)).
    Established,
    /// UDP.
    Udp,
}

impl State {
    /// All of them, in the order of their numbers.
    pub const ALL: [State; 8] = [
        State::Reset,
        State::Syn,
        State::ClosedByClient,
        State::ClosedByBackend,
        State::Closed,
        State::Dead,
        State::Established,
        State::Udp,
    ];

    /// The state after a TCP segment with these flags.
    #[inline]
    #[must_use]
    pub fn after(self, flags: u8, direction: Direction) -> Self {
        use Direction::{Forward, Reverse};
        use State::{Closed, ClosedByBackend, ClosedByClient, Dead, Established, Reset, Syn, Udp};
        if matches!(self, Udp | Dead) {
            return self;
        }
        if flags & RST != 0 {
            // What is over stays so: the last ACK of a connection that was closed is not a word about a RST.
            return if self == Closed { Closed } else { Reset };
        }
        if flags & FIN != 0 {
            return match (self, direction) {
                (Syn | Established | ClosedByClient | Reset, Forward) => ClosedByClient,
                (Syn | Established | ClosedByBackend, Reverse) => ClosedByBackend,
                // One of the backend's that was under way before the client's RST, too.
                _ => Closed,
            };
        }
        match (self, direction) {
            (Syn | Reset, Forward) if flags & (ACK | SYN) == ACK => Established,
            (Reset, Reverse) if flags & (ACK | SYN) == ACK => Syn,
            _ => self,
        }
    }

    /// What it is taken for where it is asked how long a flow is kept, and who makes room: one whose answers pass here, and to whose
    /// client nobody has answered, is half open, whatever that client says.
    #[inline]
    #[must_use]
    pub fn taken_for(self, replies_pass: bool, answered: bool) -> Self {
        if self == State::Established && replies_pass && !answered { State::Syn } else { self }
    }

    /// How much a flow is worth when the table is full: 0 is nothing. `None`: never evicted, if its answers pass here.
    #[inline]
    #[must_use]
    pub fn worth(self) -> Option<u8> {
        match self {
            State::Reset | State::Closed | State::Dead => Some(0),
            State::Syn => Some(1),
            State::ClosedByClient | State::ClosedByBackend => Some(2),
            State::Udp => Some(3),
            State::Established => None,
        }
    }

    /// As reports say it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Reset => "reset",
            State::Syn => "syn",
            State::Established => "established",
            State::ClosedByClient | State::ClosedByBackend => "closing",
            State::Closed => "closed",
            State::Dead => "dead",
            State::Udp => "udp",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Forward, Reverse};

    #[test]
    fn their_numbers_are_their_places() {
        assert!(State::ALL.iter().zip(0..).all(|(state, number)| *state as usize == number));
    }

    #[test]
    fn a_connection_is_followed_from_syn_to_both_fins() {
        let steps = [
            (SYN, Forward, State::Syn),
            (SYN | ACK, Reverse, State::Syn),
            (ACK, Forward, State::Established),
            (ACK, Reverse, State::Established),
            (FIN | ACK, Forward, State::ClosedByClient),
            (ACK, Reverse, State::ClosedByClient),
            (FIN | ACK, Reverse, State::Closed),
            (ACK, Forward, State::Closed),
        ];
        let mut state = State::Syn;
        for (flags, direction, expected) in steps {
            state = state.after(flags, direction);
            assert_eq!(state, expected);
        }
    }

    #[test]
    fn a_reset_ends_it_from_either_side_and_a_repeated_fin_does_not() {
        assert_eq!(State::Established.after(RST, Reverse), State::Reset);
        assert_eq!(State::Syn.after(RST | ACK, Reverse), State::Reset);
        assert_eq!(State::Reset.after(RST, Forward), State::Reset);
        assert_eq!(State::ClosedByClient.after(FIN | ACK, Forward), State::ClosedByClient);
        assert_eq!(State::ClosedByBackend.after(FIN | ACK, Reverse), State::ClosedByBackend);
        assert_eq!(State::Udp.after(RST, Forward), State::Udp);
        assert_eq!(State::Dead.after(RST, Forward), State::Dead);
    }

    #[test]
    fn whom_a_reset_did_not_convince_speaks_on() {
        // The client's word is enough, as at the beginning; the backend's may have been under way.
        assert_eq!(State::Reset.after(ACK, Forward), State::Established);
        assert_eq!(State::Reset.after(ACK, Reverse), State::Syn);
        assert_eq!(State::Reset.after(FIN | ACK, Forward), State::ClosedByClient);
        assert_eq!(State::Reset.after(FIN | ACK, Reverse), State::Closed);
        // A handshake is no such word.
        for direction in [Forward, Reverse] {
            assert_eq!(State::Reset.after(SYN, direction), State::Reset);
            assert_eq!(State::Reset.after(SYN | ACK, direction), State::Reset);
        }
    }

    #[test]
    fn what_both_have_closed_stays_closed_whatever_is_still_under_way() {
        for direction in [Forward, Reverse] {
            for flags in [ACK, RST, RST | ACK, FIN | ACK, SYN | ACK] {
                assert_eq!(State::Closed.after(flags, direction), State::Closed, "{flags:#x} {direction:?}");
            }
        }
    }
}
