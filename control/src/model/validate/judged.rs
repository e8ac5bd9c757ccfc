//! One object, judged by itself: what it amounts to. What is left of it when the rest is forgotten.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::pool::Candidate;
use super::{About, Findings, Subject, balancer, node, pool, service, slice};
use crate::model::annotations::{Unknown, unknown};
use crate::model::external::AddressRange;
use crate::model::{EndpointSlice, Key, LoadBalancer, Node, Object, ObjectName, Origin, Place, Pod, Service, Sourced};

/// See the [module](self).
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    key: Key,
    origin: Origin,
    uid: Option<Box<str>>,
    /// Of its name.
    place: Option<Place>,
    pub(super) sound: Sound,
    pub(super) findings: Findings,
}

/// What it amounts to, and where what others may want too was written: nowhere, unless in a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Sound {
    /// It is not used, or something is wrong with it.
    Nothing,
    Service {
        service: Arc<Service>,
        balancer: Option<Box<LoadBalancer>>,
        places: Vec<(IpAddr, Place)>,
    },
    /// The slice, and the Service that it is of.
    Slice(ObjectName, Arc<EndpointSlice>),
    Node(Node),
    Pod(Pod),
    Ranges(Vec<IpNet>),
    Pool(Box<Candidate>, Vec<(AddressRange, Place)>),
}

impl Judged {
    /// Judges an object.
    #[must_use]
    pub fn of(sourced: &Sourced) -> Self {
        let key = sourced.key();
        let kind = key.kind;
        let meta = sourced.object.meta();
        let mut judged = Judged {
            uid: meta.uid.clone(),
            place: meta.name.place,
            origin: sourced.origin.clone(),
            sound: Sound::Nothing,
            findings: Findings::default(),
            key,
        };
        let mut findings = Findings::default();
        let mut about = About { findings: &mut findings, subject: judged.subject() };
        // Those of a file were refused when it was read, at their own places.
        if about.subject.origin.live {
            for Unknown { message, help } in meta.annotations.keys().filter_map(|name| unknown(kind, name)) {
                about.notice(format!("{message}, which is passed over: {help}"));
            }
        }
        let sound = if about.name_is_sound() { sound(&sourced.object, &mut about) } else { None };
        judged.sound = sound.unwrap_or(Sound::Nothing);
        judged.findings = findings;
        judged
    }

    /// Lets it share the names of nodes with all others that were given the same `names`.
    pub fn share(&mut self, names: &mut BTreeSet<Arc<str>>) {
        let Sound::Slice(_, slice) = &mut self.sound else { return };
        let Some(slice) = Arc::get_mut(slice) else { return };
        for node in slice.endpoints.iter_mut().filter_map(|endpoint| endpoint.node.as_mut()) {
            match names.get(node) {
                Some(known) => *node = Arc::clone(known),
                None => drop(names.insert(Arc::clone(node))),
            }
        }
    }

    /// What names it.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Where it comes from.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// `FILE:LINE` of its name.
    pub(super) fn place(&self) -> String {
        self.origin.name(self.place)
    }

    pub(super) fn subject(&self) -> Subject<'_> {
        Subject { key: &self.key, origin: &self.origin, uid: self.uid.as_deref(), place: self.place }
    }

    /// By which of several objects of one key the first is told.
    pub(super) fn order(&self) -> (&Origin, Option<Place>) {
        (&self.origin, self.place)
    }
}

fn sound(object: &Object, about: &mut About<'_, '_>) -> Option<Sound> {
    let live = about.subject.origin.live;
    match object {
        Object::Service(object) => service::validate(object, about).map(|service| Sound::Service {
            balancer: balancer::of(object, &service, live).map(Box::new),
            service: Arc::new(service),
            places: service::places(object),
        }),
        Object::EndpointSlice(object) => {
            slice::validate(object, about).map(|(service, slice)| Sound::Slice(service, Arc::new(slice)))
        }
        Object::Node(object) => node::validate(object, about).map(Sound::Node),
        Object::Pod(object) => node::validate_pod(object, about).map(Sound::Pod),
        Object::ServiceCidr(object) => Some(Sound::Ranges(object.spec.cidrs.iter().map(|cidr| cidr.value.0).collect())),
        Object::AddressPool(object) => {
            let places = object.spec.addresses.iter().filter_map(|range| Some((range.value, range.place?))).collect();
            Some(Sound::Pool(Box::new(pool::validate(object, about)), places))
        }
    }
}
