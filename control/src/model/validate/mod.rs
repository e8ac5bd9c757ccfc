//! From objects as written to a [`ValidatedCluster`].
//!
//! ```text
//!   Sourced ──judge──► Judged ──set──► Register ──settle──► ValidatedCluster + Changes
//!            by itself         one key          against the others: only those that a change can concern
//! ```
//!
//! Every object is judged by itself (`service`, `slice`, `node`, `pool`), once, when it comes in; then against the others
//! (`conflicts`, `pools`). A [`Register`] is kept up to date as objects come and go; [`validate`] is one that is given everything at
//! once. Which way led there does not matter: the same set gives the same answer (`control/tests/properties.rs`).

mod balancer;
mod conflicts;
mod flannel;
mod judged;
mod node;
mod pool;
mod pools;
mod register;
mod service;
mod slice;

use std::net::IpAddr;
use std::sync::Arc;

use levee_api::diagnostic::Diagnostic;

use super::{Key, Origin, Place, Refusal, Sourced, ValidatedCluster};
use crate::notice::Notice;

pub use judged::Judged;
pub use register::{Changes, Register};

/// What became of a set of objects.
#[derive(Debug, Clone, Default)]
pub struct Validation {
    /// Everything that is sound.
    pub cluster: ValidatedCluster,
    /// What was left out of files, and why; what was left out of a live cluster is among the cluster's notices. Where this is not empty, a source that is edited by people keeps its last good state.
    pub refused: Vec<Diagnostic>,
}

/// What can be judged: an object as it was read, or one that was judged already.
pub trait Judge {
    /// The verdict.
    fn judged(&self) -> Arc<Judged>;
}

impl Judge for Sourced {
    fn judged(&self) -> Arc<Judged> {
        Arc::new(Judged::of(self))
    }
}

impl Judge for Arc<Judged> {
    fn judged(&self) -> Arc<Judged> {
        Arc::clone(self)
    }
}

/// Judges a set of objects. `notices` are those that were made while reading them; they become the cluster's.
#[must_use]
pub fn validate<'a, J: Judge + 'a>(objects: impl IntoIterator<Item = &'a J>, notices: Vec<Notice>) -> Validation {
    let mut judged: Vec<Arc<Judged>> = objects.into_iter().map(Judge::judged).collect();
    judged.sort_by(|a, b| a.key().cmp(b.key()));
    let mut register = Register::default();
    register.note(notices);
    for same in judged.chunk_by(|a, b| a.key() == b.key()) {
        if let Some(first) = same.first() {
            register.set(first.key(), same.iter().cloned(), None);
        }
    }
    register.settle();
    Validation { refused: register.refused(), cluster: register.into_cluster() }
}

/// What is found while judging.
#[derive(Debug, Clone, PartialEq, Default)]
struct Findings {
    refused: Vec<Diagnostic>,
    notices: Vec<Notice>,
    /// What was refused of a live cluster.
    refusals: Vec<Refusal>,
}

/// Whom findings are about.
#[derive(Debug, Clone, Copy)]
struct Subject<'s> {
    key: &'s Key,
    origin: &'s Origin,
    uid: Option<&'s str>,
    /// Of its name.
    place: Option<Place>,
}

/// What is found about one object.
struct About<'f, 's> {
    findings: &'f mut Findings,
    subject: Subject<'s>,
}

impl About<'_, '_> {
    fn refuse(&mut self, place: Option<Place>, message: impl AsRef<str>) {
        if self.subject.origin.live {
            return self.refuse_live(message.as_ref(), "as if it were not there");
        }
        let message = format!("{}: {}", self.subject.key, message.as_ref());
        // A value without a place of its own is told at the object's name.
        let place = place.or(self.subject.place);
        self.findings.refused.push(self.subject.origin.diagnostic(place, message));
    }

    fn refuse_with(&mut self, place: Option<Place>, message: impl AsRef<str>, help: &str) {
        if self.subject.origin.live {
            return self.refuse(place, format!("{}; {help}", message.as_ref()));
        }
        self.refuse(place, message);
        if let Some(diagnostic) = self.findings.refused.pop() {
            self.findings.refused.push(diagnostic.help(help));
        }
    }

    /// Refuses an object of a live cluster; `instead` says what is done about it.
    fn refuse_live(&mut self, why: &str, instead: &str) {
        self.notice(format!("refused, {instead}: {why}"));
        let (key, uid) = (self.subject.key.clone(), self.subject.uid.map(Into::into));
        self.findings.refusals.push(Refusal { key, uid, why: why.to_owned() });
    }

    fn notice(&mut self, message: impl Into<String>) {
        self.findings.notices.push(Notice::new(self.subject.key.to_string(), message));
    }

    /// Names go into the names of services, into log lines and onto screens: only what Kubernetes allows in one
    /// (RFC 1123 subdomain), so that `namespace/name:port` has one reading.
    fn name_is_sound(&mut self) -> bool {
        let Key { namespace, name, .. } = self.subject.key;
        for (what, text) in [("name", Some(name)), ("namespace", namespace.as_ref())] {
            if let Some(text) = text.filter(|text| !is_object_name(text)) {
                let shown: String = text.chars().take(60).collect();
                self.refuse_with(
                    None,
                    format!("`{shown}` is no {what}"),
                    "expected 1 to 253 lower-case letters, digits, `-` and `.`",
                );
                return false;
            }
        }
        true
    }
}

/// Whether Kubernetes allows this as the name of an object of a kind that we read (RFC 1123, a subdomain; not to the letter:
/// where dots and dashes stand does not matter to us).
pub(crate) fn is_object_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte))
}

/// Why an address can be neither a VIP nor an endpoint: packets to it never cross a wire, or go to many, or anywhere.
fn unfit(address: IpAddr) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    if address.is_unspecified() {
        Some("the unspecified address")
    } else if address.is_loopback() {
        Some("a loopback address")
    } else if address.is_multicast() || address == IpAddr::V4(std::net::Ipv4Addr::BROADCAST) {
        Some("a multicast or broadcast address")
    } else if link_local {
        Some("a link-local address")
    } else {
        None
    }
}
