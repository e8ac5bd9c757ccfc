//! When levee speaks up by itself: gratuitous ARP and unsolicited neighbour advertisements, so that switches know the node's MAC and neighbours know who has an
//! address now. Pure: it says what is due, the director has a worker send it.
//!
//! | what | when | how often |
//! |---|---|---|
//! | everything of ours: the node's IPv4 addresses on the uplink, local pods, announced VIPs | at start, and when an uplink comes up | twice, 2 s apart |
//! | one address | when we gain it | twice, 2 s apart |
//! | one address | when somebody else claims it | once, at most every 10 s (RFC 5227, 2.4 (b); for IPv6 likewise) |
//! | the node's MAC | every `announce_interval` | one frame for each uplink: the node's first IPv4 address there, or else a VIP or pod |
//!
//! Twice, 2 s apart, is RFC 5227's ANNOUNCE_NUM and ANNOUNCE_INTERVAL (section 1.1): a frame can be lost, and a port that has just come up may
//! not forward yet. RFC 4861, 7.2.6, allows three for IPv6, at least a second apart. For the refresh a single broadcast frame is enough: every switch of the fabric sees it with the node's MAC as its
//! source, which is all that a switch learns from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::verdict::PortId;

/// RFC 5227, 1.1: ANNOUNCE_INTERVAL.
const REPEAT: Duration = Duration::from_secs(2);

/// Announcements taken out at once, so that a node with many pods does not fill a worker's queue: 110 pods are out within four looks.
const AT_ONCE: usize = 32;

/// What a port could announce.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ours {
    /// Uplinks that are up, each with the node's own IPv4 addresses on it.
    pub uplinks: BTreeMap<PortId, Vec<IpAddr>>,
    /// Pods of this node and VIPs that are announced: known on every uplink.
    pub addresses: BTreeSet<IpAddr>,
}

impl Ours {
    fn on(&self, port: PortId) -> impl Iterator<Item = IpAddr> + '_ {
        self.uplinks.get(&port).into_iter().flatten().chain(&self.addresses).copied()
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Announcer {
    interval: Duration,
    ours: Ours,
    /// Due at, and what.
    queue: BTreeSet<(Instant, PortId, IpAddr)>,
    refresh: Instant,
}

impl Announcer {
    /// Nothing to announce yet; the first refresh is due in one `interval`.
    #[must_use]
    pub fn new(interval: Duration, now: Instant) -> Self {
        Announcer { interval, ours: Ours::default(), queue: BTreeSet::new(), refresh: now + interval }
    }

    /// What is ours now. Whatever is new, on whatever port, is due at once.
    pub fn set(&mut self, ours: Ours, now: Instant) {
        if ours == self.ours {
            return;
        }
        let mut new = Vec::new();
        for port in ours.uplinks.keys() {
            let known: BTreeSet<IpAddr> =
                if self.ours.uplinks.contains_key(port) { self.ours.on(*port).collect() } else { BTreeSet::new() };
            new.extend(ours.on(*port).filter(|address| !known.contains(address)).map(|address| (*port, address)));
        }
        self.ours = ours;
        let still: BTreeSet<(PortId, IpAddr)> =
            self.ours.uplinks.keys().flat_map(|port| self.ours.on(*port).map(|address| (*port, address))).collect();
        // What is no longer ours must not be said again.
        self.queue.retain(|(_, port, address)| still.contains(&(*port, *address)));
        for (port, address) in new {
            self.queue.insert((now, port, address));
            self.queue.insert((now + REPEAT, port, address));
        }
    }

    /// What is due, at most a few; ask again soon.
    pub fn due(&mut self, now: Instant) -> Vec<(PortId, IpAddr)> {
        if now >= self.refresh {
            self.refresh = now + self.interval;
            for port in self.ours.uplinks.keys() {
                if let Some(address) = self.ours.on(*port).next() {
                    self.queue.insert((now, *port, address));
                }
            }
        }
        let mut due = Vec::new();
        while due.len() < AT_ONCE
            && let Some(first) = self.queue.first().copied().filter(|(at, ..)| *at <= now)
        {
            self.queue.remove(&first);
            due.push((first.1, first.2));
        }
        due
    }

    /// Due (again): it could not be sent, or is to be defended.
    pub fn again(&mut self, port: PortId, address: IpAddr, now: Instant) {
        self.queue.insert((now, port, address));
    }

    /// When something is due next.
    #[must_use]
    pub fn next(&self) -> Instant {
        self.queue.first().map_or(self.refresh, |(at, ..)| (*at).min(self.refresh))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPLINK: PortId = PortId(0);
    const OTHER: PortId = PortId(1);
    const MINUTE: Duration = Duration::from_secs(60);

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn ours(uplinks: &[(PortId, &[u8])], addresses: &[u8]) -> Ours {
        Ours {
            uplinks: uplinks
                .iter()
                .map(|(port, own)| (*port, own.iter().map(|last| address(*last)).collect()))
                .collect(),
            addresses: addresses.iter().map(|last| address(*last)).collect(),
        }
    }

    #[test]
    fn at_start_everything_is_said_twice() {
        let now = Instant::now();
        let mut announcer = Announcer::new(MINUTE, now);
        assert!(announcer.due(now).is_empty());
        announcer.set(ours(&[(UPLINK, &[1])], &[7, 8]), now);
        let all = vec![(UPLINK, address(1)), (UPLINK, address(7)), (UPLINK, address(8))];
        assert_eq!(announcer.due(now), all);
        assert!(announcer.due(now + REPEAT / 2).is_empty());
        assert_eq!(announcer.next(), now + REPEAT);
        assert_eq!(announcer.due(now + REPEAT), all);
        assert!(announcer.due(now + 2 * REPEAT).is_empty());
    }

    #[test]
    fn what_is_gained_is_said_and_what_is_lost_is_not() {
        let now = Instant::now();
        let mut announcer = Announcer::new(MINUTE, now);
        announcer.set(ours(&[(UPLINK, &[1])], &[7]), now);
        announcer.due(now);
        announcer.due(now + REPEAT);
        let later = now + 2 * REPEAT;
        announcer.set(ours(&[(UPLINK, &[1])], &[7, 9]), later);
        assert_eq!(announcer.due(later), [(UPLINK, address(9))]);
        announcer.set(ours(&[(UPLINK, &[1])], &[7]), later);
        assert!(announcer.due(later + REPEAT).is_empty());
    }

    #[test]
    fn an_uplink_that_comes_up_says_everything_and_the_other_says_nothing() {
        let now = Instant::now();
        let mut announcer = Announcer::new(MINUTE, now);
        announcer.set(ours(&[(UPLINK, &[1])], &[7]), now);
        announcer.due(now);
        announcer.due(now + REPEAT);
        let later = now + 2 * REPEAT;
        announcer.set(ours(&[(UPLINK, &[1]), (OTHER, &[2])], &[7]), later);
        assert_eq!(announcer.due(later), [(OTHER, address(2)), (OTHER, address(7))]);
    }

    #[test]
    fn the_mac_is_refreshed_with_one_frame_an_uplink() {
        let now = Instant::now();
        let mut announcer = Announcer::new(MINUTE, now);
        announcer.set(ours(&[(UPLINK, &[1]), (OTHER, &[])], &[7, 8]), now);
        announcer.due(now);
        announcer.due(now + REPEAT);
        let refresh = vec![(UPLINK, address(1)), (OTHER, address(7))];
        assert_eq!(announcer.next(), now + MINUTE);
        assert_eq!(announcer.due(now + MINUTE), refresh);
        assert!(announcer.due(now + MINUTE).is_empty());
        assert_eq!(announcer.due(now + 2 * MINUTE), refresh);
    }

    #[test]
    fn many_are_said_in_portions_and_what_was_not_sent_is_said_again() {
        let now = Instant::now();
        let mut announcer = Announcer::new(MINUTE, now);
        let many: Vec<u8> = (0..100).collect();
        announcer.set(ours(&[(UPLINK, &[])], &many), now);
        let first = announcer.due(now);
        assert_eq!(first.len(), AT_ONCE);
        announcer.again(first[0].0, first[0].1, now);
        assert_eq!(announcer.due(now)[0], first[0]);
    }
}
