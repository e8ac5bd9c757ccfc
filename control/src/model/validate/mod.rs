//! From objects as written to a [`ValidatedCluster`].
//!
//! Every object is judged by itself (`service`, `slice`, `node`, `pool`), then against the others (`conflicts`, `pools`). Objects
//! are taken in the order of their keys, so that the same set gives the same answer in whatever order it was read.

mod balancer;
mod conflicts;
mod node;
mod pool;
mod pools;
mod service;
mod slice;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use levee_api::diagnostic::Diagnostic;

use super::{Balanced, Key, Object, ObjectName, Place, Refusal, Sourced, ValidatedCluster};
use crate::notice::Notice;

/// What became of a set of objects.
#[derive(Debug, Clone, Default)]
pub struct Validation {
    /// Everything that is sound.
    pub cluster: ValidatedCluster,
    /// What was left out of files, and why; what was left out of a live cluster is among the cluster's notices. Where this is not empty, a source that is edited by people keeps its last good state.
    pub refused: Vec<Diagnostic>,
}

/// Judges a set of objects. `notices` are those that were made while reading them; they become the cluster's.
#[must_use]
pub fn validate<'a>(objects: impl IntoIterator<Item = &'a Sourced>, notices: Vec<Notice>) -> Validation {
    let mut report = Report { refused: Vec::new(), notices, refusals: Vec::new() };
    let objects = unique(objects, &mut report);
    let mut cluster = ValidatedCluster::default();
    let mut services = BTreeMap::new();
    let mut pools = BTreeMap::new();
    let mut balanced = Balanced::default();
    for sourced in objects.values() {
        let mut about = report.about(sourced);
        if !about.name_is_sound() {
            continue;
        }
        let name = ObjectName::of(sourced.object.meta());
        match &sourced.object {
            Object::Service(object) => {
                if let Some(service) = service::validate(object, &mut about) {
                    if let Some(balancer) = balancer::of(object, &service, sourced.origin.live) {
                        balanced.services.insert(name.clone(), balancer);
                    }
                    services.insert(name, (service, *sourced));
                }
            }
            Object::EndpointSlice(object) => {
                if let Some((service, slice)) = slice::validate(object, &mut about) {
                    cluster.slices.entry(service).or_default().insert(name.name, slice);
                }
            }
            Object::Node(object) => {
                if let Some(node) = node::validate(object, &mut about) {
                    cluster.nodes.insert(name.name, node);
                }
            }
            Object::Pod(object) => {
                if let Some(pod) = node::validate_pod(object, &mut about) {
                    cluster.pods.insert(name, pod);
                }
            }
            Object::ServiceCidr(object) => {
                cluster.service_cidrs.extend(object.spec.cidrs.iter().map(|cidr| cidr.value.0));
            }
            Object::AddressPool(object) => {
                pools.insert(name.name, pool::validate(object, sourced, &mut about));
            }
        }
    }
    cluster.services = conflicts::services(services, &cluster.nodes, &mut report);
    balanced.pools = pools::settle(pools, &cluster.nodes, &cluster.service_cidrs, &mut report);
    report.refusals.sort();
    balanced.refusals = report.refusals;
    cluster.balanced = Arc::new(balanced);
    report.notices.sort();
    report.notices.dedup();
    cluster.notices = report.notices;
    Validation { cluster, refused: report.refused }
}

/// One object for each key. Of several, none is taken by chance: the first by place stays, the others are refused.
fn unique<'a>(objects: impl IntoIterator<Item = &'a Sourced>, report: &mut Report) -> BTreeMap<Key, &'a Sourced> {
    let mut keyed: Vec<_> = objects.into_iter().map(|sourced| (sourced.key(), sourced)).collect();
    keyed.sort_by(|(a_key, a), (b_key, b)| {
        let place = |sourced: &Sourced| sourced.object.meta().name.place;
        (a_key, &a.origin, place(a)).cmp(&(b_key, &b.origin, place(b)))
    });
    let mut unique: BTreeMap<Key, &Sourced> = BTreeMap::new();
    for (key, sourced) in keyed {
        if let Some(first) = unique.get(&key) {
            let first = first.place();
            report.about(sourced).refuse_with(
                sourced.object.meta().name.place,
                format!("the same object is at {first} already"),
                "remove one of the two, or name it otherwise",
            );
        } else {
            unique.insert(key, sourced);
        }
    }
    unique
}

/// What is found while judging.
struct Report {
    refused: Vec<Diagnostic>,
    notices: Vec<Notice>,
    /// What was refused of a live cluster.
    refusals: Vec<Refusal>,
}

impl Report {
    fn about<'r, 'o>(&'r mut self, sourced: &'o Sourced) -> About<'r, 'o> {
        About { report: self, sourced }
    }
}

/// What is found about one object.
struct About<'r, 'o> {
    report: &'r mut Report,
    sourced: &'o Sourced,
}

impl About<'_, '_> {
    fn refuse(&mut self, place: Option<Place>, message: impl AsRef<str>) {
        if self.sourced.origin.live {
            return self.refuse_live(message.as_ref(), "as if it were not there");
        }
        let message = format!("{}: {}", self.sourced.key(), message.as_ref());
        // A value without a place of its own is told at the object's name.
        let place = place.or(self.sourced.object.meta().name.place);
        self.report.refused.push(self.sourced.origin.diagnostic(place, message));
    }

    fn refuse_with(&mut self, place: Option<Place>, message: impl AsRef<str>, help: &str) {
        if self.sourced.origin.live {
            return self.refuse(place, format!("{}; {help}", message.as_ref()));
        }
        self.refuse(place, message);
        if let Some(diagnostic) = self.report.refused.pop() {
            self.report.refused.push(diagnostic.help(help));
        }
    }

    /// Refuses an object of a live cluster; `instead` says what is done about it.
    fn refuse_live(&mut self, why: &str, instead: &str) {
        self.notice(format!("refused, {instead}: {why}"));
        let uid = self.sourced.object.meta().uid.clone();
        self.report.refusals.push(Refusal { key: self.sourced.key(), uid, why: why.to_owned() });
    }

    fn notice(&mut self, message: impl Into<String>) {
        self.report.notices.push(Notice::new(self.sourced.key().to_string(), message));
    }

    /// Names go into the names of services, into log lines and onto screens: only what Kubernetes allows in one
    /// (RFC 1123 subdomain), so that `namespace/name:port` has one reading.
    fn name_is_sound(&mut self) -> bool {
        let meta = self.sourced.object.meta();
        let namespace = meta.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        for (what, text) in [("name", Some(meta.name.value.as_str())), ("namespace", namespace)] {
            if let Some(text) = text.filter(|text| !is_object_name(text)) {
                let shown: String = text.chars().take(60).collect();
                self.refuse_with(
                    meta.name.place,
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
