//! Which endpoints a service port has, and which of them it may use: rules 5–12, 17–20, 23–25, 37, 38.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use levee_api::net::{Family, Protocol};
use levee_api::program::{Backend, Pool, Via};

use super::{Context, Role};
use crate::model::{Endpoint, EndpointSlice, Service, ServicePort, TrafficPolicy};

/// The endpoints of a service port in one family, by address and target port.
pub(super) type Endpoints<'a> = BTreeMap<SocketAddr, &'a Endpoint>;

/// Gathers them out of the slices. An endpoint that two slices list (it is being moved between them, rule 14) is one.
pub(super) fn gather<'a>(
    port: &ServicePort,
    family: Family,
    slices: impl Iterator<Item = &'a EndpointSlice>,
) -> Endpoints<'a> {
    let mut endpoints: Endpoints<'a> = BTreeMap::new();
    for slice in slices.filter(|slice| slice.family == family) {
        // Rule 5: joined by the port's name and protocol; the number is the target.
        let joined =
            slice.ports.iter().filter(|candidate| candidate.name == port.name && candidate.protocol == port.protocol);
        for target in joined {
            for endpoint in &slice.endpoints {
                let key = SocketAddr::new(endpoint.address, target.port.get());
                endpoints.entry(key).and_modify(|known| *known = preferred(known, endpoint)).or_insert(endpoint);
            }
        }
    }
    endpoints
}

/// The endpoints of a Service in one family, whatever their ports: for ranges and whole addresses, of which each gets what the client has
/// chosen.
pub(super) fn gather_all<'a>(family: Family, slices: impl Iterator<Item = &'a EndpointSlice>) -> Endpoints<'a> {
    let mut endpoints: Endpoints<'a> = BTreeMap::new();
    for endpoint in slices.filter(|slice| slice.family == family).flat_map(|slice| &slice.endpoints) {
        let key = SocketAddr::new(endpoint.address, 0);
        endpoints.entry(key).and_modify(|known| *known = preferred(known, endpoint)).or_insert(endpoint);
    }
    endpoints
}

/// Rule 11: of two accounts of one endpoint, the one that is not terminating. Between equals the choice is arbitrary, but
/// it must not depend on the order of the slices.
fn preferred<'a>(a: &'a Endpoint, b: &'a Endpoint) -> &'a Endpoint {
    let rank = |endpoint: &'a Endpoint| (endpoint.terminating, !endpoint.ready, !endpoint.serving, endpoint);
    if rank(a) <= rank(b) { a } else { b }
}

/// What a service port may use.
pub(super) struct Selection {
    /// Every endpoint that the dataplane should know, with the pools that it is in.
    pub(super) backends: Vec<Backend>,
    /// There is an endpoint somewhere that would do, if policy let us (rule 25).
    pub(super) any: bool,
    /// The Local pool is empty.
    pub(super) no_local: bool,
    /// The pool that has everybody whom hints do not leave out: for load-balancer addresses, which are the same everywhere.
    pub(super) everybody: Pool,
    /// Endpoints that the overlay does not lead to, and why.
    pub(super) beside: Vec<(IpAddr, String)>,
}

/// Evaluates policies and conditions. `external` says whether the port is reachable from outside (rule 21).
pub(super) fn select(
    endpoints: &Endpoints<'_>,
    protocol: Protocol,
    service: &Service,
    external: bool,
    tunnelled: bool,
    context: &Context<'_>,
) -> Selection {
    // Rule 20.
    let uses_cluster = service.internal_policy == TrafficPolicy::Cluster || external;
    // What balancers wrap for this node goes to endpoints that are here, whatever the policy.
    let uses_local = service.internal_policy == TrafficPolicy::Local
        || service.external_policy == TrafficPolicy::Local
        || tunnelled && context.role == Role::Node;
    let topology = Topology::of(endpoints, context);
    let is_local = |endpoint: &Endpoint| endpoint.node.as_deref() == Some(context.node);

    // Rule 18.
    let (cluster, all) = if uses_cluster {
        let all = usable(endpoints, |_| true, |_| true);
        (usable(endpoints, |endpoint| topology.allows(endpoint, context), |_| true), all)
    } else {
        Default::default()
    };
    // Where hints leave nobody out, one pool is enough.
    let hinted = cluster != all;
    // Rule 19.
    let local = if uses_local { usable(endpoints, is_local, is_local) } else { Vec::new() };

    let serving_elsewhere = endpoints.values().any(|endpoint| endpoint.ready || endpoint.serving);
    let mut backends = Vec::with_capacity(endpoints.len());
    let mut beside = Vec::new();
    for (key, endpoint) in endpoints {
        let mut pools = Vec::new();
        if cluster.binary_search(key).is_ok() {
            pools.push(Pool::Cluster);
        }
        if hinted && all.binary_search(key).is_ok() {
            pools.push(Pool::All);
        }
        if local.binary_search(key).is_ok() {
            pools.push(Pool::Local);
        }
        // Rule 37: flows without connections need not stay with an endpoint that has stopped, if another serves. They move
        // when it is no backend any more (rule 38). Connections end by themselves.
        let stopped = !endpoint.ready && !endpoint.serving;
        if stopped && protocol == Protocol::Udp && serving_elsewhere {
            continue;
        }
        let node = endpoint.node.as_deref().filter(|_| tunnelled && context.role == Role::Balancer);
        let end = node.and_then(|node| context.tunnel_end(node, Family::of(key.ip())));
        let mut via = end.map(|address| Via { address, mac: None });
        if let Some(node) = endpoint.node.as_deref().filter(|_| context.wraps_for_overlay()) {
            match context.vtep(node, Family::of(key.ip())) {
                Ok(vtep) => via = Some(vtep),
                Err(why) => beside.push((key.ip(), why)),
            }
        }
        backends.push(Backend { address: key.ip(), port: key.port(), pools, via });
    }
    let any = !usable(endpoints, |_| true, |_| true).is_empty();
    let everybody = if hinted { Pool::All } else { Pool::Cluster };
    Selection { backends, any, no_local: local.is_empty(), everybody, beside }
}

/// Ready endpoints that are `wanted`; if there is none, those that are serving while they terminate and are `wanted_last`.
/// Sorted by address.
fn usable(
    endpoints: &Endpoints<'_>,
    wanted: impl Fn(&Endpoint) -> bool,
    wanted_last: impl Fn(&Endpoint) -> bool,
) -> Vec<SocketAddr> {
    let pick = |condition: &dyn Fn(&Endpoint) -> bool| -> Vec<SocketAddr> {
        endpoints.iter().filter(|(_, endpoint)| condition(endpoint)).map(|(key, _)| *key).collect()
    };
    let ready = pick(&|endpoint| endpoint.ready && wanted(endpoint));
    if !ready.is_empty() {
        return ready;
    }
    pick(&|endpoint| endpoint.serving && endpoint.terminating && wanted_last(endpoint))
}

/// Which hints are followed (rule 23).
enum Topology {
    None,
    Node,
    Zone,
}

impl Topology {
    /// Hints of one kind count only if every ready endpoint has some and one of them names us; else a node or zone that the
    /// hints forgot would have no endpoints.
    fn of(endpoints: &Endpoints<'_>, context: &Context<'_>) -> Self {
        if context.role == Role::Balancer {
            return Topology::None;
        }
        let ready = || endpoints.values().filter(|endpoint| endpoint.ready);
        let all_and_us = |hints: fn(&Endpoint) -> &[String], us: &str| {
            ready().all(|endpoint| !hints(endpoint).is_empty())
                && ready().any(|endpoint| hints(endpoint).iter().any(|hint| hint == us))
        };
        if all_and_us(|endpoint| &endpoint.for_nodes, context.node) {
            Topology::Node
        } else if context.zone.is_some_and(|zone| all_and_us(|endpoint| &endpoint.for_zones, zone)) {
            Topology::Zone
        } else {
            Topology::None
        }
    }

    fn allows(&self, endpoint: &Endpoint, context: &Context<'_>) -> bool {
        match self {
            Topology::None => true,
            Topology::Node => endpoint.for_nodes.iter().any(|node| node == context.node),
            Topology::Zone => endpoint.for_zones.iter().any(|zone| Some(zone.as_str()) == context.zone),
        }
    }
}

/// Whether every backend listens on this port: only then can a packet be left as it is (`dsr`).
pub(super) fn all_listen_on(backends: &[Backend], port: u16) -> bool {
    backends.iter().all(|backend| backend.port == port)
}

/// Whether an address is of a family.
pub(super) fn is_of(family: Family) -> impl Fn(&&IpAddr) -> bool {
    move |address| Family::of(**address) == family
}
