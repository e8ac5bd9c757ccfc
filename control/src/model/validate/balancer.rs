//! What a Service of type LoadBalancer asks for, and what it has.
//!
//! Nothing is refused here: a request that makes no sense is the allocator's to answer, and the Service's other addresses are
//! served all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use levee_api::net::Family;

use crate::model::annotations::{ADDRESSES, POOL, SHARE_KEY};
use crate::model::external::{self, IpFamilyPolicy, ServiceType, address};
use crate::model::{Asked, Held, Identity, LoadBalancer, Service};

/// What the conditions that we write begin with.
const OURS: &str = "levee.dev/";

/// What the Service is to the allocator, if it is anything.
pub(super) fn of(object: &external::Service, service: &Service, live: bool) -> Option<LoadBalancer> {
    let is_wanted = object.spec.kind == ServiceType::LoadBalancer;
    let has_traces = object.status.conditions.iter().any(|condition| condition.kind.starts_with(OURS));
    if !is_wanted && !has_traces {
        return None;
    }
    let families: BTreeSet<Family> = service.cluster_ips.keys().copied().collect();
    let annotation = |name: &str| {
        let value = object.metadata.annotations.get(name).map(|value| value.trim());
        value.filter(|value| !value.is_empty()).map(str::to_owned)
    };
    Some(LoadBalancer {
        identity: Identity::of(&object.metadata, live),
        is_wanted,
        class: service.class.clone(),
        asked: asked(annotation(ADDRESSES), object.spec.load_balancer_ip.as_deref(), &families),
        families,
        needs_every_family: object.spec.ip_family_policy != Some(IpFamilyPolicy::PreferDualStack),
        ports: service.ports.iter().map(|port| (port.protocol, port.port)).collect(),
        wide: service.wide.clone(),
        labels: object.metadata.labels.clone(),
        pool: annotation(POOL),
        share_key: annotation(SHARE_KEY),
        holds: if is_wanted { Held::of(&object.status) } else { Vec::new() },
        status: object.status.clone(),
    })
}

fn asked(annotation: Option<String>, field: Option<&str>, families: &BTreeSet<Family>) -> Asked {
    let field = field.map(str::trim).filter(|field| !field.is_empty());
    let (what, text) = match (&annotation, field) {
        (None, None) => return Asked::Any,
        (Some(_), Some(_)) => {
            return Asked::Wrong(format!(
                "it has both the annotation `{ADDRESSES}` and `spec.loadBalancerIP`, which is deprecated: remove that one"
            ));
        }
        (Some(text), None) => (format!("annotation `{ADDRESSES}`"), text.as_str()),
        (None, Some(text)) => ("`spec.loadBalancerIP`".to_owned(), text),
    };
    // More are not worth reading: there are two families.
    let mut addresses: BTreeMap<Family, IpAddr> = BTreeMap::new();
    for word in text.split(',').take(3) {
        let shown: String = word.trim().chars().take(60).collect();
        let address = match address(&shown) {
            Ok(address) => address,
            Err(why) => return Asked::Wrong(format!("{what}: {why}")),
        };
        let family = Family::of(address);
        if !families.contains(&family) {
            return Asked::Wrong(format!("{what}: {address} is of {family}, of which the Service has no ClusterIP"));
        }
        if let Some(other) = addresses.insert(family, address) {
            return Asked::Wrong(format!(
                "{what}: {other} and {address} are both of {family}; ask for one of each family"
            ));
        }
    }
    Asked::For(addresses)
}
