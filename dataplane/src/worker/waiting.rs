//! Frames that wait for something: few, and not for long. For a next hop ([`Patience::NEXT_HOP`]), or for the first fragment
//! of their datagram ([`Patience::FIRST_FRAGMENT`]).
//!
//! What is lost when the first packet to a neighbour is dropped is a second of everybody's time (RFC 6298's first
//! retransmission), so a handful is kept while the kernel asks (RFC 1122, 2.3.2.2, wants at least the latest). A datagram is lost
//! whole with any of its fragments, and a fabric with several paths lets them overtake each other. A scan of addresses that
//! nobody has, and a flood of fragments without a first, must cost nothing more: the number is bounded, by what is waited
//! for and in all.

use af_xdp::Frame;

use crate::flows::Millis;
use crate::verdict::PortId;

/// How many may wait, and how long.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    /// Frames in all, for one worker.
    most: usize,
    /// Frames for the same thing.
    most_for_one: usize,
    time: Millis,
}

impl Patience {
    /// A burst of connections from one node to another. The kernel asks three times, a second apart (`mcast_solicit`,
    /// `retrans_time_ms` in `net/ipv4/arp.c`); what the first answer does not bring in time, TCP will repeat.
    pub(super) const NEXT_HOP: Patience = Patience { most: 128, most_for_one: 16, time: 1_000 };
    /// The longest datagram in fragments of 1,500 bytes. Paths differ by milliseconds; a first fragment that is half a second
    /// late is lost.
    pub(super) const FIRST_FRAGMENT: Patience = Patience { most: 128, most_for_one: 45, time: 500 };
}

struct Held<K> {
    frame: Frame,
    ingress: PortId,
    key: K,
    since: Millis,
}

/// See the module's documentation. `K`: what is waited for.
pub(super) struct Waiting<K> {
    held: Vec<Held<K>>,
    patience: Patience,
}

/// What became of a frame that had to wait.
pub(super) enum Wait {
    /// It waits, and is the first to wait for this: ask for it.
    First,
    /// It waits with others.
    Queued,
    /// There was no room.
    Full(Frame),
}

impl<K: Copy + PartialEq> Waiting<K> {
    pub(super) fn new(patience: Patience) -> Self {
        Waiting { held: Vec::with_capacity(patience.most), patience }
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn add(&mut self, frame: Frame, ingress: PortId, key: K, now: Millis) -> Wait {
        // Before anything is counted: a flood finds it full.
        if self.held.len() >= self.patience.most {
            return Wait::Full(frame);
        }
        let same = self.held.iter().filter(|held| held.key == key).count();
        if same >= self.patience.most_for_one {
            return Wait::Full(frame);
        }
        self.held.push(Held { frame, ingress, key, since: now });
        if same == 0 { Wait::First } else { Wait::Queued }
    }

    /// Takes out, in the order of their arrival, the frames for which `ready` says yes.
    pub(super) fn release(&mut self, ready: impl Fn(&K) -> bool, into: &mut Vec<(PortId, Frame)>) {
        self.take(|held| ready(&held.key), into);
    }

    /// Takes out the frames that have waited too long.
    pub(super) fn expire(&mut self, now: Millis, into: &mut Vec<(PortId, Frame)>) {
        let time = self.patience.time;
        self.take(|held| now.wrapping_sub(held.since) >= time, into);
    }

    fn take(&mut self, which: impl Fn(&Held<K>) -> bool, into: &mut Vec<(PortId, Frame)>) {
        into.extend(self.held.extract_if(.., |held| which(held)).map(|held| (held.ingress, held.frame)));
    }
}
