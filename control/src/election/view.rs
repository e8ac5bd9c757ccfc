//! What a balancer has seen of the Leases, and since when. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::names::{About, Notes};
use crate::lease::{Labels, Moment, Record, name_in};

/// A Lease, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// What it is about.
    pub about: About,
    /// What it says.
    pub record: Record,
    /// Its annotations.
    pub notes: Labels,
}

/// What the watch says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Everything that there is.
    All(Vec<Object>),
    /// One is new or changed.
    Changed(Object),
    /// One is gone, as of this version.
    Gone(About, String),
    /// Nothing can be seen for now.
    Nothing,
}

/// Another balancer, or this one.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its heartbeat.
    pub record: Record,
    /// What it says.
    pub notes: Notes,
    /// Since when it was seen unchanged.
    pub since: Moment,
    /// Since when it was seen alive and ready, without a break.
    pub ready_since: Option<Moment>,
}

/// An address's Lease.
#[derive(Debug, Clone)]
pub struct Claim {
    /// What it says.
    pub record: Record,
    /// Since when it was seen unchanged.
    pub since: Moment,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct View {
    /// Since when everything can be seen; `None` if it cannot.
    contact: Option<Moment>,
    /// Balancers by name.
    pub members: BTreeMap<String, Member>,
    /// Addresses.
    pub claims: BTreeMap<IpAddr, Claim>,
    /// Balancers whose heartbeat was deleted, and when that was seen.
    absent: BTreeMap<String, Moment>,
    /// Counts changes that matter: not mere heartbeats.
    pub changes: u64,
}

/// Whether a version is older than another. They are numbers of one etcd, though a client should rather not know it; where they
/// are not, nothing is older.
fn is_older(version: &str, than: &str) -> bool {
    matches!((version.parse::<u64>(), than.parse::<u64>()), (Ok(a), Ok(b)) if a < b)
}

impl View {
    /// Takes in what was seen.
    pub fn see(&mut self, seen: Seen, now: Moment) {
        match seen {
            Seen::All(objects) => {
                let names: Vec<About> = objects.iter().map(|object| object.about.clone()).collect();
                self.members.retain(|name, _| names.contains(&About::Balancer(name.clone())));
                let there: std::collections::BTreeSet<IpAddr> = names
                    .iter()
                    .filter_map(|about| match about {
                        About::Address(address) => Some(*address),
                        About::Balancer(_) => None,
                    })
                    .collect();
                self.claims.retain(|address, _| there.contains(address));
                for object in objects {
                    self.put(object, now);
                }
                // After a time of blindness, everybody gets the time to show a sign of life.
                self.contact = Some(now);
                for member in self.members.values_mut() {
                    member.since = now;
                    member.ready_since = member.notes.ready.is_ok().then_some(now);
                }
                self.changes += 1;
            }
            Seen::Changed(object) => self.put(object, now),
            Seen::Gone(About::Balancer(name), version) => {
                if self.members.get(&name).is_some_and(|member| !is_older(&version, &member.record.version)) {
                    self.members.remove(&name);
                    self.absent.insert(name, now);
                    self.changes += 1;
                }
            }
            Seen::Gone(About::Address(address), version) => {
                if self.claims.get(&address).is_some_and(|claim| !is_older(&version, &claim.record.version)) {
                    self.claims.remove(&address);
                    self.changes += 1;
                }
            }
            Seen::Nothing => {
                self.contact = None;
                self.changes += 1;
            }
        }
    }

    /// Takes in one object, from the watch or from an answer, whichever is newer.
    pub fn put(&mut self, object: Object, now: Moment) {
        let Object { about, record, notes } = object;
        match about {
            About::Balancer(name) => {
                let before = self.members.get(&name);
                if before.is_some_and(|member| {
                    member.record.version == record.version || is_older(&record.version, &member.record.version)
                }) {
                    return;
                }
                let notes = Notes::of(&notes);
                let same = before.is_some_and(|before| {
                    before.record.holder == record.holder
                        && before.notes.ready.is_ok() == notes.ready.is_ok()
                        && self.is_alive(before, now)
                });
                let ready_since = match before {
                    Some(before) if same => before.ready_since,
                    _ => (notes.ready.is_ok() && record.holder.is_some()).then_some(now),
                };
                self.changes += u64::from(!same);
                self.absent.remove(&name);
                self.members.insert(name, Member { record, notes, since: now, ready_since });
            }
            About::Address(address) => {
                if self.claims.get(&address).is_some_and(|claim| {
                    claim.record.version == record.version || is_older(&record.version, &claim.record.version)
                }) {
                    return;
                }
                self.changes += 1;
                self.claims.insert(address, Claim { record, since: now });
            }
        }
    }

    /// Since when everything can be seen, if it can.
    #[must_use]
    pub fn contact(&self) -> Option<Moment> {
        self.contact
    }

    /// For how long a balancer was seen without a heartbeat's Lease, while one would have been seen.
    #[must_use]
    pub fn absence(&self, name: &str, now: Moment) -> Duration {
        let since = self.absent.get(name).copied().unwrap_or_default();
        self.contact.map_or(Duration::ZERO, |contact| now.since(contact.max(since)))
    }

    /// For how long a heartbeat was seen unchanged, while changes would have been seen.
    #[must_use]
    pub fn quiet(&self, member: &Member, now: Moment) -> Duration {
        self.contact.map_or(Duration::ZERO, |contact| now.since(contact.max(member.since)))
    }

    /// Whether a member shows signs of life, as far as can be seen.
    #[must_use]
    pub fn is_alive(&self, member: &Member, now: Moment) -> bool {
        member.record.holder.is_some() && self.quiet(member, now) < member.record.duration
    }

    /// The member that an identity is of, whichever process of it this is.
    #[must_use]
    pub fn member_of(&self, identity: &str) -> Option<&Member> {
        self.members.get(name_in(identity))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::since_boot(Duration::from_millis(millis))
    }

    fn heartbeat(version: &str, ready: bool) -> Object {
        let duration = Duration::from_secs(1);
        let record = Record { version: version.into(), holder: Some("b_1".into()), duration, transitions: 0 };
        let ready = if ready { Ok(()) } else { Err("sick".into()) };
        Object { about: About::Balancer("b".into()), record, notes: Notes { ready, ..Notes::default() }.annotations() }
    }

    #[test]
    fn who_is_blind_sees_nobody_die_and_gives_everybody_time_afterwards() {
        let mut view = View::default();
        view.see(Seen::All(vec![heartbeat("1", true)]), at(0));
        view.see(Seen::Nothing, at(100));
        assert!(view.is_alive(&view.members["b"], at(60_000)));
        view.see(Seen::All(vec![heartbeat("1", true)]), at(60_000));
        assert!(view.is_alive(&view.members["b"], at(60_999)));
        assert!(!view.is_alive(&view.members["b"], at(61_000)));
    }

    #[test]
    fn heartbeats_are_no_changes_and_older_ones_are_nothing() {
        let mut view = View::default();
        view.see(Seen::All(vec![heartbeat("10", true)]), at(0));
        let changes = view.changes;
        view.see(Seen::Changed(heartbeat("11", true)), at(200));
        view.see(Seen::Changed(heartbeat("9", false)), at(300));
        assert_eq!(
            (view.changes, view.members["b"].since, view.members["b"].ready_since),
            (changes, at(200), Some(at(0)))
        );
        view.see(Seen::Changed(heartbeat("12", false)), at(400));
        assert_eq!((view.changes, view.members["b"].ready_since), (changes + 1, None));
        // Back after it was as good as dead: a beginning.
        view.see(Seen::Changed(heartbeat("13", true)), at(500));
        view.see(Seen::Changed(heartbeat("14", true)), at(5_000));
        assert_eq!(view.members["b"].ready_since, Some(at(5_000)));
    }
}
