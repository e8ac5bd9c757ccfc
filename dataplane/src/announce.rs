//! When levee speaks up by itself: gratuitous ARP and unsolicited neighbour advertisements, so that switches know the node's MAC and neighbours know who has an
//! address now. Pure: it says what is due, the director has a worker send it.
//!
//! | what | when | how often |
//! |---|---|---|
//! | everything of ours: the node's IPv4 addresses on the uplink, local pods, announced VIPs | at start, and when an uplink comes up | twice, 2 s apart |
//! | one address | when we gain it | twice, 2 s apart |
//! | one address | when somebody else claims it | once, at most every 10 s (RFC 5227, 2.4 (b); for IPv6 likewise) |
//! | the node's MAC | every `announce_interval` | one frame for each uplink and VLAN: the node's first IPv4 address there, or else a VIP or pod |
//!
//! **VLANs.** A switch learns where a MAC is in each VLAN by itself, so everything is said in each that the uplink's `vlans` names; but for the
//! node's own addresses, which are in that of untagged frames.
//!
//! **Segments.** Where several uplinks lead to one broadcast domain (`segment`), one of them speaks of pods and VIPs, the first that is up:
//! two would name two MACs for one address, and neighbours would go from one to the other. When it goes down the next one says all anew.
//!
//! Twice, 2 s apart, is RFC 5227's ANNOUNCE_NUM and ANNOUNCE_INTERVAL (section 1.1): a frame can be lost, and a port that has just come up may
//! not forward yet. RFC 4861, 7.2.6, allows three for IPv6, at least a second apart. For the refresh a single broadcast frame is enough: every switch of the fabric sees it with the node's MAC as its
//! source, which is all that a switch learns from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::headers::Vlans;
use crate::verdict::PortId;

/// RFC 5227, 1.1: ANNOUNCE_INTERVAL.
const REPEAT: Duration = Duration::from_secs(2);

/// Announcements taken out at once, so that a node with many pods does not fill a worker's queue: 110 pods are out within four looks.
const AT_ONCE: usize = 32;

/// What the configuration says of announcements on an uplink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    /// Uplinks with one name are wires to one broadcast domain: one of them, the first that is up, speaks for all.
    pub segment: Option<Arc<str>>,
    /// Each VLAN in which switches are to know the MAC; without a tag, that of untagged frames.
    pub vlans: Vec<Vlans>,
}

impl Default for Uplink {
    fn default() -> Self {
        Uplink { segment: None, vlans: vec![Vlans::default()] }
    }
}

/// An uplink that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The node's own IPv4 addresses on it.
    pub own: Vec<IpAddr>,
    /// The VLANs to speak in.
    pub vlans: Vec<Vlans>,
    /// Whether pods and VIPs are said to be here; otherwise another uplink of its segment says so.
    pub speaks: bool,
}

/// What a port could announce.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ours {
    /// Uplinks that are up.
    pub uplinks: BTreeMap<PortId, Line>,
    /// Pods of this node and VIPs that are announced: known on every uplink that speaks.
    pub addresses: BTreeSet<IpAddr>,
}

/// One frame: this address is at this port's MAC, in this VLAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Announcement {
    /// The port to send it out of.
    pub port: PortId,
    /// The address.
    pub address: IpAddr,
    /// The tags that it bears.
    pub vlans: Vlans,
}

impl Ours {
    /// All that there is to say. The node's own addresses are its kernel's, whose interface is that of untagged frames.
    fn all(&self) -> impl Iterator<Item = Announcement> + '_ {
        self.uplinks.iter().flat_map(move |(port, line)| {
            line.vlans.iter().flat_map(move |vlans| {
                let own = line.own.iter().filter(|_| vlans.count == 0);
                let shared = self.addresses.iter().filter(|_| line.speaks);
                own.chain(shared).map(|address| Announcement { port: *port, address: *address, vlans: *vlans })
            })
        })
    }

    /// One frame for each uplink and VLAN. The node's own address comes first: nobody's way to it changes by it.
    fn refresh(&self) -> impl Iterator<Item = Announcement> + '_ {
        self.uplinks.iter().flat_map(move |(port, line)| {
            let address = line.own.first().or_else(|| self.addresses.first().filter(|_| line.speaks)).copied();
            let vlans = line.vlans.iter().copied();
            vlans.filter_map(move |vlans| Some(Announcement { port: *port, address: address?, vlans }))
        })
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Announcer {
    interval: Duration,
    ours: Ours,
    /// Due at, and what.
    queue: BTreeSet<(Instant, Announcement)>,
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
        let before: BTreeSet<Announcement> = self.ours.all().collect();
        self.ours = ours;
        let all: BTreeSet<Announcement> = self.ours.all().collect();
        // What is no longer ours must not be said again. In which VLAN does not matter: somebody may have claimed it in another one.
        let still: BTreeSet<(PortId, IpAddr)> = all.iter().map(|said| (said.port, said.address)).collect();
        self.queue.retain(|(_, said)| still.contains(&(said.port, said.address)));
        for new in all.difference(&before) {
            self.queue.insert((now, *new));
            self.queue.insert((now + REPEAT, *new));
        }
    }

    /// What is due, at most a few; ask again soon.
    pub fn due(&mut self, now: Instant) -> Vec<Announcement> {
        if now >= self.refresh {
            self.refresh = now + self.interval;
            self.queue.extend(self.ours.refresh().map(|said| (now, said)));
        }
        let mut due = Vec::new();
        while due.len() < AT_ONCE
            && let Some(first) = self.queue.first().copied().filter(|(at, ..)| *at <= now)
        {
            self.queue.remove(&first);
            due.push(first.1);
        }
        due
    }

    /// Due (again): it could not be sent, or is to be defended.
    pub fn again(&mut self, said: Announcement, now: Instant) {
        self.queue.insert((now, said));
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

    fn line(own: Vec<IpAddr>) -> Line {
        Line { own, vlans: Uplink::default().vlans, speaks: true }
    }

    /// What is said without a tag.
    fn says(port: PortId, last: u8) -> Announcement {
        Announcement { port, address: address(last), vlans: Vlans::default() }
    }

    fn ours(uplinks: &[(PortId, &[u8])], addresses: &[u8]) -> Ours {
        Ours {
            uplinks: uplinks
                .iter()
                .map(|(port, own)| (*port, line(own.iter().map(|last| address(*last)).collect())))
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
        let all = vec![says(UPLINK, 1), says(UPLINK, 7), says(UPLINK, 8)];
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
        assert_eq!(announcer.due(later), [says(UPLINK, 9)]);
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
        assert_eq!(announcer.due(later), [says(OTHER, 2), says(OTHER, 7)]);
    }

    #[test]
    fn the_mac_is_refreshed_with_one_frame_an_uplink() {
        let now = Instant::now();
        let mut announcer = Announcer::new(MINUTE, now);
        announcer.set(ours(&[(UPLINK, &[1]), (OTHER, &[])], &[7, 8]), now);
        announcer.due(now);
        announcer.due(now + REPEAT);
        let refresh = vec![says(UPLINK, 1), says(OTHER, 7)];
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
        announcer.again(first[0], now);
        assert_eq!(announcer.due(now)[0], first[0]);
    }

    #[test]
    fn every_vlan_hears_of_what_is_shared_and_of_the_mac() {
        let now = Instant::now();
        let mut announcer = Announcer::new(MINUTE, now);
        let [untagged, ten, pair] =
            [(0, [0, 0]), (1, [10, 0]), (2, [100, 20])].map(|(count, tci)| Vlans { count, tci });
        let mut trunk = ours(&[(UPLINK, &[1])], &[7]);
        trunk.uplinks.get_mut(&UPLINK).unwrap().vlans = vec![untagged, ten, pair];
        announcer.set(trunk, now);
        let in_all = |last| [untagged, ten, pair].map(|vlans| Announcement { vlans, ..says(UPLINK, last) });
        let mut said = vec![says(UPLINK, 1)];
        said.extend(in_all(7));
        assert_eq!(announcer.due(now), said, "the node's own address is of the untagged VLAN");
        announcer.due(now + REPEAT);
        assert_eq!(announcer.due(now + MINUTE), in_all(1), "switches learn in each VLAN by itself");
    }

    #[test]
    fn of_two_uplinks_on_a_segment_one_speaks_and_the_other_takes_over() {
        let now = Instant::now();
        let mut announcer = Announcer::new(MINUTE, now);
        let mut both = ours(&[(UPLINK, &[1]), (OTHER, &[])], &[7, 8]);
        both.uplinks.get_mut(&OTHER).unwrap().speaks = false;
        announcer.set(both.clone(), now);
        assert_eq!(announcer.due(now), [says(UPLINK, 1), says(UPLINK, 7), says(UPLINK, 8)]);
        announcer.due(now + REPEAT);
        assert_eq!(announcer.due(now + MINUTE), [says(UPLINK, 1)], "who is silent draws nobody to its MAC");
        // The first goes down.
        announcer.set(ours(&[(OTHER, &[])], &[7, 8]), now + MINUTE);
        assert_eq!(announcer.due(now + MINUTE), [says(OTHER, 7), says(OTHER, 8)]);
        announcer.due(now + MINUTE + REPEAT);
        // And comes back.
        announcer.set(both, now + MINUTE + REPEAT);
        assert_eq!(announcer.due(now + MINUTE + REPEAT), [says(UPLINK, 1), says(UPLINK, 7), says(UPLINK, 8)]);
    }
}
