//! Who announces what: for people, and for whoever only wants to know.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::names::About;
use super::view::{Seen, View};
use super::{Balancer, Object};
use crate::lease::{Moment, name_in};

/// Who announces each address, as anybody sees it who follows the Leases ([`follow`](super::follow)).
#[derive(Debug, Default)]
pub struct Owners {
    view: View,
}

impl Owners {
    /// Takes in what was seen.
    pub fn see(&mut self, seen: Seen, now: Moment) {
        self.view.see(seen, now);
    }

    /// The Node whose balancer announces the address: the address's Lease names it, and it shows signs of life. An owner on its
    /// way to another is nobody for a moment.
    #[must_use]
    pub fn announcer(&self, address: IpAddr, now: Moment) -> Option<&str> {
        owner(&self.view, address).filter(|identity| is_alive(&self.view, identity, now)).map(name_in)
    }

    /// Whether something may be another than when it was this number: heartbeats alone do not count.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.view.changes
    }
}

fn owner(view: &View, address: IpAddr) -> Option<&str> {
    view.claims.get(&address)?.record.holder.as_deref()
}

fn is_alive(view: &View, identity: &str, now: Moment) -> bool {
    view.member_of(identity)
        .is_some_and(|member| member.record.holder.as_deref() == Some(identity) && view.is_alive(member, now))
}

/// The election, as one balancer sees it: part of `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ElectionStatus {
    /// How this process is called in Leases.
    pub identity: String,
    /// Why it takes no addresses; absent if it does.
    pub not_ready: Option<String>,
    /// Milliseconds until it stops by itself, if nothing is confirmed any more; absent if it may announce nothing.
    pub term_left_ms: Option<u64>,
    /// Whether it goes on by its peers' promises, because the API server confirms nothing.
    pub outlasting: bool,
    /// Whether the Leases can be watched.
    pub in_contact: bool,
    /// Addresses taken since the start.
    pub taken: u64,
    /// Addresses given up or lost since the start.
    pub given: u64,
    /// Balancers, this one among them.
    pub members: Vec<MemberStatus>,
    /// Addresses that have a Lease, or should.
    pub addresses: Vec<AddressStatus>,
}

/// One balancer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its Node.
    pub node: String,
    /// Whether it shows signs of life.
    pub alive: bool,
    /// Why it takes no addresses; absent if it does.
    pub not_ready: Option<String>,
}

/// One address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressStatus {
    /// The address.
    pub address: IpAddr,
    /// The Node whose balancer owns it; absent if none does.
    pub owner: Option<String>,
    /// Whether this one announces it.
    pub ours: bool,
    /// In words: who has it, for what reason, or what it waits for.
    pub why: String,
}

/// How it stands.
pub(super) fn status(balancer: &Balancer, now: Moment) -> ElectionStatus {
    let view = balancer.view();
    let announced = balancer.announced(now);
    let tenure = balancer.tenure(now);
    let members = view.members.iter().map(|(node, member)| MemberStatus {
        node: node.clone(),
        alive: view.is_alive(member, now),
        not_ready: member.notes.ready.as_ref().err().cloned(),
    });
    let wanted = balancer.wanted();
    let mut addresses: Vec<IpAddr> = view.claims.keys().chain(wanted.into_iter().flatten()).copied().collect();
    addresses.sort();
    addresses.dedup();
    let addresses = addresses.into_iter().map(|address| {
        let owner = owner(view, address);
        let ours = announced.contains(&address);
        let why = if ours {
            "announced by this balancer".to_owned()
        } else if !wanted.is_some_and(|wanted| wanted.contains(&address)) {
            "no Service has it; its Lease will be deleted".to_owned()
        } else {
            match owner {
                None => "nobody's: free to be taken".to_owned(),
                Some(identity) if identity == balancer.identity() => {
                    format!(
                        "being given up: {}",
                        balancer.ready().err().unwrap_or_else(|| "another should have it".into())
                    )
                }
                Some(identity) if is_alive(view, identity, now) => format!("announced by {}", name_in(identity)),
                Some(identity) => format!("{} had it and shows no sign of life: being taken over", name_in(identity)),
            }
        };
        AddressStatus { address, owner: owner.map(name_in).map(str::to_owned), ours, why }
    });
    let (taken, given) = balancer.transitions();
    ElectionStatus {
        identity: balancer.identity().to_owned(),
        not_ready: balancer.ready().err(),
        term_left_ms: tenure.map(|tenure| u64::try_from(tenure.until.since(now).as_millis()).unwrap_or(u64::MAX)),
        outlasting: balancer.is_outlasting(now),
        in_contact: view.contact().is_some(),
        taken,
        given,
        members: members.collect(),
        addresses: addresses.collect(),
    }
}

/// The object that a Lease is, if it is one of the election's.
pub(super) fn object(lease: &k8s_openapi::api::coordination::v1::Lease) -> Option<Object> {
    Some(Object {
        about: About::of(lease.metadata.name.as_deref()?)?,
        record: crate::lease::record(lease),
        notes: lease.metadata.annotations.clone().unwrap_or_default(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::election::names::Notes;
    use crate::lease::Record;

    #[test]
    fn an_announcer_is_who_the_lease_names_and_who_lives() {
        let at = |millis| Moment::since_boot(Duration::from_millis(millis));
        let record = |holder: &str| Record {
            // Another holder is another version.
            version: holder.len().to_string() + holder,
            holder: Some(holder.into()),
            duration: Duration::from_secs(1),
            transitions: 0,
        };
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let heartbeat = Object {
            about: About::Balancer("lb-1".into()),
            record: record("lb-1_7"),
            notes: Notes::default().annotations(),
        };
        let of =
            |identity| Object { about: About::Address(address), record: record(identity), notes: Default::default() };
        let mut owners = Owners::default();
        owners.see(Seen::All(vec![heartbeat.clone(), of("lb-1_7")]), at(0));
        assert_eq!(owners.announcer(address, at(500)), Some("lb-1"));
        assert_eq!(owners.announcer(address, at(1000)), None, "no sign of life");
        owners.see(Seen::All(vec![heartbeat, of("lb-1_6")]), at(2000));
        assert_eq!(owners.announcer(address, at(2000)), None, "an earlier process of it");
    }
}
