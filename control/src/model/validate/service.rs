//! One Service by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;

use levee_api::net::{Family, Protocol};

use super::{About, unfit};
use crate::model::annotations::{DRAIN, MID_STREAM, MODE, PORT_RANGES, QUIC, WHOLE_ADDRESS};
use crate::model::external::{self, ClusterIp, IpMode, ServiceType, SessionAffinity};
use crate::model::wide::{Wide, is_port_name};
use crate::model::{External, Place, Placed, Service, ServicePort, TrafficPolicy};

/// Another proxy is asked to serve it (rule 1).
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// What the API server fills in where `timeoutSeconds` is absent (rule 35), and the most that it accepts: a day.
const AFFINITY_DEFAULT: u32 = 10_800;
const AFFINITY_MOST: u32 = 86_400;

/// The Service, unless there is nothing to balance or something is wrong.
pub(super) fn validate(object: &external::Service, about: &mut About<'_, '_>) -> Option<Service> {
    let external::ServiceSpec { kind, .. } = object.spec;
    if object.metadata.labels.contains_key(PROXY_NAME) || kind == ServiceType::ExternalName {
        return None;
    }
    let cluster_ips = cluster_ips(&object.spec, about)?;
    let ports = ports(&object.spec, kind, about)?;
    let wide = wide(object, &ports, about)?;
    let external = match kind {
        ServiceType::LoadBalancer => External::LoadBalancer,
        ServiceType::NodePort => External::NodePorts,
        ServiceType::ClusterIP | ServiceType::ExternalName => External::No,
    };
    let external_policy = object.spec.external_traffic_policy.unwrap_or_default();
    Some(Service {
        load_balancer_ips: if external == External::LoadBalancer {
            load_balancer_ips(&object.status, &cluster_ips, about)?
        } else {
            BTreeSet::new()
        },
        cluster_ips,
        ports,
        external,
        external_policy: if external == External::No { TrafficPolicy::Cluster } else { external_policy },
        internal_policy: object.spec.internal_traffic_policy.unwrap_or_default(),
        affinity: affinity(&object.spec, about)?,
        source_ranges: object.spec.load_balancer_source_ranges.iter().map(|range| range.value.0).collect(),
        health_check_node_port: object
            .spec
            .health_check_node_port
            .and_then(NonZeroU16::new)
            .filter(|_| external == External::LoadBalancer && external_policy == TrafficPolicy::Local),
        class: object.spec.load_balancer_class.clone().filter(|class| !class.is_empty()),
        mode: object.metadata.annotations.get(MODE).cloned(),
        quic: object.metadata.annotations.get(QUIC).cloned(),
        drain: object.metadata.annotations.get(DRAIN).cloned(),
        mid_stream: object.metadata.annotations.get(MID_STREAM).cloned(),
        has_external_ips: !object.spec.external_ips.is_empty(),
        wide,
    })
}

/// Rule 4: the address of a family stands where the family stands in `ipFamilies`. A file written by hand may leave out
/// `clusterIPs`, `ipFamilies` or both; then the addresses say it.
fn cluster_ips(spec: &external::ServiceSpec, about: &mut About<'_, '_>) -> Option<BTreeMap<Family, IpAddr>> {
    let listed: Vec<Placed<ClusterIp>> = match (spec.cluster_ip, spec.cluster_ips.as_slice()) {
        (one, []) => one.into_iter().collect(),
        (Some(one), [first, ..]) if one.value != first.value => {
            about.refuse_with(
                one.place,
                "`clusterIP` is not the first of `clusterIPs`",
                "leave one of the two out, or make them agree",
            );
            return None;
        }
        (_, several) => several.to_vec(),
    };
    match listed.first().map(|first| first.value) {
        Some(ClusterIp::Headless) => return None,
        None | Some(ClusterIp::Unset) => {
            about.notice("it has no `clusterIP` yet, so it is not served");
            return None;
        }
        Some(ClusterIp::Address(_)) => {}
    }
    let mut ips = BTreeMap::new();
    for (index, Placed { value, place }) in listed.iter().enumerate() {
        let ClusterIp::Address(address) = *value else {
            about.refuse(*place, "expected an address: the ones before it are addresses");
            return None;
        };
        if let Some(what) = unfit(address) {
            about.refuse(*place, format!("`{address}` is {what} and cannot be a ClusterIP"));
            return None;
        }
        let family = match spec.ip_families.get(index) {
            Some(family) => Family::from(family.value),
            None if spec.ip_families.is_empty() => Family::of(address),
            None => continue,
        };
        if family != Family::of(address) {
            about.refuse_with(
                *place,
                format!("`{address}` is not {family}, which stands in its place in `ipFamilies`"),
                "`clusterIPs` and `ipFamilies` must be in one order",
            );
            return None;
        }
        if ips.insert(family, address).is_some() {
            about.refuse(*place, format!("a second ClusterIP of {family}; there can be one for each family"));
            return None;
        }
    }
    Some(ips)
}

fn ports(spec: &external::ServiceSpec, kind: ServiceType, about: &mut About<'_, '_>) -> Option<Vec<ServicePort>> {
    let mut ports = Vec::new();
    let mut numbers: BTreeSet<(u16, Protocol)> = BTreeSet::new();
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for port in &spec.ports {
        let protocol = port.protocol.map_or(Protocol::Tcp, Protocol::from);
        let name = port.name.as_deref().unwrap_or_default();
        let external::Port(number) = port.port.value;
        if !numbers.insert((number.get(), protocol)) {
            about.refuse(port.port.place, format!("port {number} of {protocol} is here twice"));
            return None;
        }
        if !names.insert(name) {
            about.refuse_with(
                port.port.place,
                if name.is_empty() {
                    "a second port without a name".to_owned()
                } else {
                    format!("a second port `{name}`")
                },
                "where a Service has several ports, each needs a name of its own",
            );
            return None;
        }
        if !is_port_name(name) {
            let shown: String = name.chars().take(60).collect();
            about.refuse_with(
                port.port.place,
                format!("`{shown}` is no name for a port"),
                "expected lower-case letters, digits and `-`",
            );
            return None;
        }
        let node_port = port.node_port.map_or(0, |port| port.value);
        ports.push(ServicePort {
            name: name.to_owned(),
            protocol,
            port: number,
            node_port: NonZeroU16::new(node_port)
                .filter(|_| matches!(kind, ServiceType::NodePort | ServiceType::LoadBalancer)),
        });
    }
    if ports.is_empty() {
        about.refuse_with(None, "it has no `ports`", "add at least one, or make it headless (`clusterIP: None`)");
        return None;
    }
    ports.sort();
    Some(ports)
}

/// What it serves besides its ports, by annotation.
fn wide(object: &external::Service, ports: &[ServicePort], about: &mut About<'_, '_>) -> Option<Wide> {
    let annotation = |name| object.metadata.annotations.get(name).map(String::as_str);
    let wide = match Wide::read(annotation(WHOLE_ADDRESS), annotation(PORT_RANGES)) {
        Ok(wide) => wide,
        Err(why) => {
            about.refuse(None, why);
            return None;
        }
    };
    // A range and a port of one name and protocol would be one and the same to whoever looks for them.
    let twice = |port: &&ServicePort| {
        wide.ranges.iter().any(|range| (range.protocol, &range.name) == (port.protocol, &port.name))
    };
    if let Some(port) = ports.iter().find(twice) {
        about.refuse_with(
            None,
            format!("annotation `{PORT_RANGES}`: `{}` is the name of one of its `ports`", port.name),
            "give the range another name",
        );
        return None;
    }
    Some(wide)
}

/// Rule 29.
fn load_balancer_ips(
    status: &external::ServiceStatus,
    cluster_ips: &BTreeMap<Family, IpAddr>,
    about: &mut About<'_, '_>,
) -> Option<BTreeSet<IpAddr>> {
    let mut ips = BTreeSet::new();
    for ingress in &status.load_balancer.ingress {
        let Some(Placed { value: external::Address(address), place }) = ingress.ip else { continue };
        if ingress.ip_mode == Some(IpMode::Proxy) {
            continue;
        }
        if let Some(what) = unfit(address) {
            about.refuse(place, format!("`{address}` is {what} and cannot be a load-balancer address"));
            return None;
        }
        if cluster_ips.values().any(|ip| *ip == address) {
            about.refuse(place, format!("`{address}` is its ClusterIP and its load-balancer address at once"));
            return None;
        }
        if !cluster_ips.contains_key(&Family::of(address)) {
            about.notice(format!(
                "its load-balancer address {address} is not served: it has no ClusterIP of {}",
                Family::of(address)
            ));
            continue;
        }
        ips.insert(address);
    }
    Some(ips)
}

/// Rule 35. The outer `None` is a refusal.
fn affinity(spec: &external::ServiceSpec, about: &mut About<'_, '_>) -> Option<Option<u32>> {
    if spec.session_affinity != Some(SessionAffinity::ClientIP) {
        return Some(None);
    }
    let timeout = spec
        .session_affinity_config
        .as_ref()
        .and_then(|config| config.client_ip.as_ref())
        .and_then(|client_ip| client_ip.timeout_seconds);
    let Some(Placed { value, place }) = timeout else { return Some(Some(AFFINITY_DEFAULT)) };
    if (1..=AFFINITY_MOST).contains(&value) {
        return Some(Some(value));
    }
    about.refuse(place, format!("`timeoutSeconds` is {value}; expected 1 to {AFFINITY_MOST}"));
    None
}

/// Where a Service's addresses were written, in a file.
pub(super) fn places(object: &external::Service) -> Vec<(IpAddr, Place)> {
    let cluster = object.spec.cluster_ip.iter().chain(&object.spec.cluster_ips).filter_map(|ip| match ip.value {
        ClusterIp::Address(address) => Some((address, ip.place?)),
        _ => None,
    });
    let ingress = object.status.load_balancer.ingress.iter().filter_map(|ingress| ingress.ip);
    cluster.chain(ingress.filter_map(|ip| Some((ip.value.0, ip.place?)))).collect()
}
