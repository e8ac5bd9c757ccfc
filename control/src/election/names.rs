//! How the election's Leases are called and labelled, and what their annotations say.
//!
//! | Lease | one for each | written |
//! |---|---|---|
//! | `levee-balancer-<node>` | balancer: its heartbeat | several times a second, by it |
//! | `levee-address-<192-0-2-1>` | address | when its owner changes |

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::lease::Labels;

const BALANCER: &str = "levee-balancer-";
const ADDRESS: &str = "levee-address-";

/// The label by which they are listed and watched.
pub const LABEL: &str = "levee.dev/lease";

const READY: &str = "levee.dev/ready";
const WHY: &str = "levee.dev/why";
const MEMBERS: &str = "levee.dev/members";
const KEEPS: &str = "levee.dev/keeps-seconds";
const PEER: &str = "levee.dev/peer";

/// What a Lease of ours is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum About {
    /// A balancer, by its Node's name.
    Balancer(String),
    /// An address.
    Address(IpAddr),
}

impl About {
    /// The Lease's name.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            About::Balancer(node) => format!("{BALANCER}{node}"),
            About::Address(IpAddr::V4(address)) => format!("{ADDRESS}{}", address.to_string().replace('.', "-")),
            // All eight groups: a name must not end with a dash, and `::` could.
            About::Address(IpAddr::V6(address)) => {
                let groups: Vec<String> = address.segments().iter().map(|group| format!("{group:x}")).collect();
                format!("{ADDRESS}{}", groups.join("-"))
            }
        }
    }

    /// What a Lease of this name is about, if it is one of ours.
    #[must_use]
    pub fn of(name: &str) -> Option<About> {
        if let Some(node) = name.strip_prefix(BALANCER) {
            return (!node.is_empty()).then(|| About::Balancer(node.to_owned()));
        }
        let parts: Vec<&str> = name.strip_prefix(ADDRESS)?.split('-').collect();
        match parts.len() {
            4 => parts.join(".").parse().ok().map(About::Address),
            8 => parts.join(":").parse::<Ipv6Addr>().ok().map(|address| About::Address(address.into())),
            _ => None,
        }
    }

    /// Its labels.
    #[must_use]
    pub fn labels(&self) -> Labels {
        let kind = match self {
            About::Balancer(_) => "balancer",
            About::Address(_) => "address",
        };
        [(LABEL, kind), ("app.kubernetes.io/managed-by", "levee")].map(|(a, b)| (a.to_owned(), b.to_owned())).into()
    }
}

/// What a heartbeat says beside that there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notes {
    /// Whether it takes addresses; if not, why.
    pub ready: Result<(), String>,
    /// The others that it sees alive, by identity: without a promise of each it does not outlast its Lease.
    pub members: BTreeSet<String>,
    /// How long it may outlast its Lease on their promises. Nothing: it does not.
    pub keeps: Duration,
    /// Where it can be asked for a promise, and the key that it signs with.
    pub peer: Option<String>,
}

impl Default for Notes {
    fn default() -> Self {
        Notes { ready: Ok(()), members: BTreeSet::new(), keeps: Duration::ZERO, peer: None }
    }
}

impl Notes {
    /// As annotations. Those without a value are taken out.
    #[must_use]
    pub fn annotations(&self) -> Labels {
        let members: Vec<&str> = self.members.iter().map(String::as_str).collect();
        let mut notes = vec![
            (READY, self.ready.is_ok().to_string()),
            // For people, and to be read by them.
            (WHY, self.ready.as_ref().err().map(|why| why.chars().take(200).collect()).unwrap_or_default()),
            (MEMBERS, members.join(",")),
            (KEEPS, self.keeps.as_secs().to_string()),
        ];
        notes.extend(self.peer.clone().map(|peer| (PEER, peer)));
        notes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// What annotations say; what is missing or senseless is read as the safer of two.
    #[must_use]
    pub fn of(annotations: &Labels) -> Notes {
        let text = |name: &str| annotations.get(name).map_or("", String::as_str);
        Notes {
            ready: if text(READY) == "true" { Ok(()) } else { Err(text(WHY).to_owned()) },
            members: text(MEMBERS).split(',').filter(|member| !member.is_empty()).map(str::to_owned).collect(),
            keeps: Duration::from_secs(text(KEEPS).parse().unwrap_or(0)),
            peer: annotations.get(PEER).cloned(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for address in ["192.0.2.1", "2001:db8::", "::1", "2001:db8:1:2:3:4:5:6"] {
            let about = About::Address(address.parse().unwrap());
            assert_eq!(About::of(&about.name()), Some(about));
        }
        let about = About::Balancer("lb-1.example".into());
        assert_eq!(about.name(), "levee-balancer-lb-1.example");
        assert_eq!(About::of(&about.name()), Some(about));
        assert_eq!(About::Address("2001:db8::".parse().unwrap()).name(), "levee-address-2001-db8-0-0-0-0-0-0");
        for other in ["levee-balancer-", "levee-address-1-2-3", "levee-address-1-2-3-400", "levee-allocator", ""] {
            assert_eq!(About::of(other), None, "{other}");
        }
    }

    #[test]
    fn notes_are_read_as_they_are_written_and_senseless_ones_promise_nothing() {
        let notes = Notes {
            ready: Err("no uplink is up".into()),
            members: ["a_1".to_owned(), "b_2".to_owned()].into(),
            keeps: Duration::from_secs(900),
            peer: Some("192.0.2.1:9466 abcd".into()),
        };
        assert_eq!(Notes::of(&notes.annotations()), notes);
        assert_eq!(Notes::of(&Notes::default().annotations()), Notes::default());
        let senseless = [(READY, "yes"), (KEEPS, "long")].map(|(a, b)| (a.to_owned(), b.to_owned())).into();
        let read = Notes::of(&senseless);
        assert!(read.ready.is_err() && read.keeps.is_zero());
    }
}
