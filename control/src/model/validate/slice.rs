//! One EndpointSlice by itself.

use std::num::NonZeroU16;

use levee_api::net::{Family, Protocol};

use super::{About, unfit};
use crate::model::external::{self, AddressType, address};
use crate::model::{Endpoint, EndpointSlice, ObjectName, SlicePort};

/// The Service that a slice is of (rule 6).
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Slices of headless Services (rule 2).
const HEADLESS: &str = "service.kubernetes.io/headless";

/// The slice and the Service that it belongs to, unless it is not used or something is wrong.
pub(super) fn validate(
    object: &external::EndpointSlice,
    about: &mut About<'_, '_>,
) -> Option<(ObjectName, EndpointSlice)> {
    if object.metadata.labels.contains_key(HEADLESS) {
        return None;
    }
    let Some(service) = object.metadata.labels.get(SERVICE_NAME).filter(|name| !name.is_empty()) else {
        about.notice(format!("it has no label `{SERVICE_NAME}`, so it belongs to no Service and is ignored"));
        return None;
    };
    let family = match object.address_type {
        AddressType::IPv4 => Family::Ipv4,
        AddressType::IPv6 => Family::Ipv6,
        // Rule 7.
        AddressType::FQDN => return None,
    };
    let service = ObjectName { name: service.clone(), ..ObjectName::of(&object.metadata) };
    let ports = ports(object, about);
    let mut endpoints = Vec::with_capacity(object.endpoints.len());
    for endpoint in &object.endpoints {
        // Rule 9.
        let Some(text) = endpoint.addresses.first() else { continue };
        let address = match address(&text.value) {
            Ok(address) => address,
            Err(error) => {
                about.refuse(text.place, error);
                return None;
            }
        };
        if Family::of(address) != family {
            about.refuse_with(
                text.place,
                format!("`{address}` is not {family}, the `addressType` of its slice"),
                "put endpoints of the other family into a slice of their own",
            );
            return None;
        }
        if let Some(what) = unfit(address) {
            about.refuse(text.place, format!("`{address}` is {what} and cannot be an endpoint"));
            return None;
        }
        let names = |list: &[external::Named]| {
            let mut names: Vec<String> = list.iter().map(|named| named.name.clone()).collect();
            names.sort();
            names.into_boxed_slice()
        };
        endpoints.push(Endpoint {
            address,
            // Rule 10.
            ready: endpoint.conditions.ready.unwrap_or(true),
            serving: endpoint.conditions.serving.unwrap_or(true),
            terminating: endpoint.conditions.terminating.unwrap_or(false),
            node: endpoint.node_name.as_deref().filter(|node| !node.is_empty()).map(Into::into),
            for_nodes: names(&endpoint.hints.for_nodes),
            for_zones: names(&endpoint.hints.for_zones),
        });
    }
    endpoints.sort();
    Some((service, EndpointSlice { family, ports, endpoints }))
}

/// Rule 8.
fn ports(object: &external::EndpointSlice, about: &mut About<'_, '_>) -> Vec<SlicePort> {
    let mut ports = Vec::new();
    for port in &object.ports {
        match (&port.name, port.port.and_then(NonZeroU16::new)) {
            (Some(name), Some(number)) => ports.push(SlicePort {
                name: name.clone(),
                protocol: port.protocol.map_or(Protocol::Tcp, Protocol::from),
                port: number,
            }),
            (None, _) => {
                about.notice("a port without a name is ignored; for the Service port without one write `name: \"\"`")
            }
            (Some(name), None) => about.notice(format!("its port `{name}` has no number and is ignored")),
        }
    }
    ports.sort();
    ports.dedup();
    ports
}
