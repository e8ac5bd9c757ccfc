//! Frames that wait for a next hop: few, and not for long.
//!
//! What is lost when the first packet to a neighbour is dropped is a second of everybody's time (RFC 6298's first
//! retransmission), so a handful is kept while the kernel asks (RFC 1122, 2.3.2.2, wants at least the latest). A scan of
//! addresses that nobody has must cost nothing more: the number is bounded, by neighbour and in all.

use af_xdp::Frame;

use crate::flows::Millis;
use crate::tables::NeighbourKey;
use crate::verdict::PortId;

/// Frames in all, for one worker.
const MOST: usize = 128;
/// Frames for one neighbour: a burst of connections from one node to another.
const MOST_FOR_ONE: usize = 16;
/// The kernel asks three times, a second apart (`mcast_solicit`, `retrans_time_ms` in `net/ipv4/arp.c`); what the first
/// answer does not bring in time, TCP will repeat.
const PATIENCE: Millis = 1_000;

struct Held {
    frame: Frame,
    ingress: PortId,
    key: NeighbourKey,
    since: Millis,
}

/// See the module's documentation.
pub(super) struct Waiting {
    held: Vec<Held>,
}

/// What became of a frame that had to wait.
pub(super) enum Wait {
    /// It waits, and is the first to wait for its neighbour: ask for it.
    First,
    /// It waits with others.
    Queued,
    /// There was no room.
    Full(Frame),
}

impl Waiting {
    pub(super) fn new() -> Self {
        Waiting { held: Vec::with_capacity(MOST) }
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn add(&mut self, frame: Frame, ingress: PortId, key: NeighbourKey, now: Millis) -> Wait {
        let same = self.held.iter().filter(|held| held.key == key).count();
        if same >= MOST_FOR_ONE || self.held.len() >= MOST {
            return Wait::Full(frame);
        }
        self.held.push(Held { frame, ingress, key, since: now });
        if same == 0 { Wait::First } else { Wait::Queued }
    }

    /// Takes out, in the order of their arrival, the frames for which `ready` says yes.
    pub(super) fn release(&mut self, ready: impl Fn(&NeighbourKey) -> bool, into: &mut Vec<(PortId, Frame)>) {
        self.take(|held| ready(&held.key), into);
    }

    /// Takes out the frames that have waited too long.
    pub(super) fn expire(&mut self, now: Millis, into: &mut Vec<(PortId, Frame)>) {
        self.take(|held| now.wrapping_sub(held.since) >= PATIENCE, into);
    }

    fn take(&mut self, which: impl Fn(&Held) -> bool, into: &mut Vec<(PortId, Frame)>) {
        into.extend(self.held.extract_if(.., |held| which(held)).map(|held| (held.ingress, held.frame)));
    }
}
