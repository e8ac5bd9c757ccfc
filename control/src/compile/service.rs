//! One Service to its part of a program.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use levee_api::net::{Family, Protocol};
use levee_api::program::{Affinity, Backend, FlowPolicy, Frontend, Mode, Service as Programmed, Vip};
use levee_api::quic::Config;

use super::frontends::{Address, frontends};
use super::select::{all_listen_on, gather, gather_all, is_of, select};
use super::{Context, Role, quic};
use crate::allocate::is_ours;
use crate::model::{EndpointSlice, External, ObjectName, Service, ServicePort, TrafficPolicy, flows};
use crate::notice::Notice;

/// The dataplane numbers a service's backends with 16 bits and refuses a program with more of them, so one Service out of all
/// proportion would hold up the others.
const MOST_BACKENDS: usize = 65_534;

/// What one Service adds to a program.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CompiledService {
    /// One for each port and family.
    pub services: Vec<Programmed>,
    /// Its addresses, those without endpoints or ports for a side included (rule 28).
    pub vips: Vec<Vip>,
    /// What its owner should know.
    pub notices: Vec<Notice>,
    /// Where its health check is answered, and how many endpoints of that family are here (rule 39).
    pub health_checks: BTreeMap<SocketAddr, usize>,
}

/// Compiles one Service with its slices, whatever else there is in the cluster.
#[must_use]
pub fn service<'a>(
    name: &ObjectName,
    object: &Service,
    slices: impl Iterator<Item = &'a EndpointSlice> + Clone,
    context: &Context<'_>,
) -> CompiledService {
    let mut compiled = CompiledService::default();
    let mut work = Work { name, object, context, notices: &mut compiled.notices };
    let asked = work.asked_mode();
    let balanced = work.serves_load_balancer_ips();
    let open_to = work.open_to();
    let connections = work.quic();
    let flows = work.flows();
    work.tell_of_what_is_not_served();
    compiled.health_checks = health_checks(object, slices.clone(), context);

    for (family, cluster_ip) in &object.cluster_ips {
        let balancer_ips: Vec<_> =
            object.load_balancer_ips.iter().filter(is_of(*family)).filter(|_| balanced).copied().collect();
        compiled.vips.push(Vip { address: *cluster_ip, announce: false });
        compiled.vips.extend(
            balancer_ips.iter().map(|address| Vip { address: *address, announce: context.role == Role::Balancer }),
        );
        for front in fronts(object) {
            let endpoints = match front.port {
                Some(port) => gather(port, *family, slices.clone()),
                None => gather_all(*family, slices.clone()),
            };
            let node_port = front.port.and_then(|port| port.node_port);
            // Rule 21: an address or a node port that the Service has, whether or not this dataplane serves it.
            let external = node_port.is_some() || !object.load_balancer_ips.is_empty() || object.has_external_ips;
            let tunnelled = context.tunnels && asked == Some(Mode::Tunnel);
            let mut selection = select(&endpoints, front.protocol, object, external, tunnelled, context);
            if selection.backends.len() > MOST_BACKENDS {
                work.notice(format!(
                    "{front} has {} endpoints of {family}; the first {MOST_BACKENDS} by address are used",
                    selection.backends.len()
                ));
                selection.backends.truncate(MOST_BACKENDS);
            }
            let mut modes =
                Modes { work: &mut work, asked, front: &front, family: *family, backends: &selection.backends };
            let (internal_mode, external_mode) = modes.in_and_out();
            // By an overlay, what is wrapped was translated before; without one, it is the client's own packet.
            let wraps =
                if context.wraps_for_overlay() { external_mode != Mode::Dsr } else { external_mode == Mode::Tunnel };
            if !wraps {
                selection.backends.iter_mut().for_each(|backend| backend.via = None);
            } else if let Some((address, why)) = selection.beside.first() {
                let others = match selection.beside.len() {
                    1 => String::new(),
                    count => format!(", and {} more", count - 1),
                };
                work.notice(format!("{address}{others} is not reached by the overlay, but by route: {why}"));
            }

            let number = front.first;
            let mut list: Vec<Frontend> = frontends(
                Address::Cluster,
                (*cluster_ip, number),
                context.role,
                object.internal_policy,
                internal_mode,
                &selection,
            );
            let mut add = |kind, at, ranges: Option<&Vec<IpNet>>| {
                let added = frontends(kind, at, context.role, object.external_policy, external_mode, &selection);
                let source_ranges = ranges.cloned().unwrap_or_default();
                list.extend(
                    added.into_iter().map(|frontend| Frontend { source_ranges: source_ranges.clone(), ..frontend }),
                );
            };
            for address in &balancer_ips {
                add(Address::LoadBalancer, (*address, number), open_to.get(family));
            }
            if let Some(node_port) = node_port {
                for address in context.node_port_addresses.iter().filter(is_of(*family)) {
                    add(Address::NodePort, (*address, node_port.get()), None);
                }
            }
            list.iter_mut().for_each(|frontend| frontend.last_port = front.last);
            let quic = if front.protocol == Protocol::Udp { connections.clone() } else { Vec::new() };
            for shared in quic.iter().filter_map(|config| quic::shared(config, &selection.backends)) {
                work.notice(shared);
            }
            compiled.services.push(Programmed {
                name: front.named(name),
                protocol: front.protocol,
                family: *family,
                frontends: list,
                backends: selection.backends,
                affinity: object.affinity.map(|timeout_seconds| Affinity { timeout_seconds }),
                quic,
                flows,
            });
        }
    }
    compiled
}

/// Rule 39, on the addresses that node ports are served on, whoever the Service's load balancer is: it is who asks.
fn health_checks<'a>(
    object: &Service,
    slices: impl Iterator<Item = &'a EndpointSlice>,
    context: &Context<'_>,
) -> BTreeMap<SocketAddr, usize> {
    let Some(port) = object.health_check_node_port else { return BTreeMap::new() };
    let endpoints = slices.flat_map(|slice| &slice.endpoints);
    let here = endpoints.filter(|endpoint| endpoint.ready && endpoint.node.as_deref() == Some(context.node));
    let here: BTreeSet<IpAddr> = here.map(|endpoint| endpoint.address).collect();
    let at = |address: &IpAddr| {
        let of_its_family = here.iter().filter(|endpoint| endpoint.is_ipv4() == address.is_ipv4());
        (SocketAddr::new(*address, port.get()), of_its_family.count())
    };
    context.node_port_addresses.iter().map(at).collect()
}

/// What of a Service is one service of the program, in each family: a port, a range of ports, or all the rest of its addresses.
struct Front<'a> {
    /// Empty for a port without a name.
    name: &'a str,
    protocol: Protocol,
    /// Its first port; 0 for all the rest.
    first: u16,
    /// Its last port, if it is a range.
    last: Option<u16>,
    /// The port, if it is one of `spec.ports`.
    port: Option<&'a ServicePort>,
}

fn fronts(object: &Service) -> impl Iterator<Item = Front<'_>> {
    let ports = object.ports.iter().map(|port| Front {
        name: &port.name,
        protocol: port.protocol,
        first: port.port.get(),
        last: None,
        port: Some(port),
    });
    let ranges = object.wide.ranges.iter().map(|range| Front {
        name: &range.name,
        protocol: range.protocol,
        first: range.ports.first,
        last: Some(range.ports.last),
        port: None,
    });
    // No port can have this name.
    let whole = Front { name: "*", protocol: Protocol::Any, first: 0, last: None, port: None };
    ports.chain(ranges).chain(object.wide.whole.then_some(whole))
}

impl Front<'_> {
    /// `namespace/name:port`, or `namespace/name` for a port without a name, as kube-proxy writes it.
    fn named(&self, service: &ObjectName) -> String {
        if self.name.is_empty() { service.to_string() } else { format!("{service}:{}", self.name) }
    }
}

impl fmt::Display for Front<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.first, self.last) {
            (0, _) => f.write_str("all the rest of its addresses"),
            (first, Some(last)) => write!(f, "{} ports {first}-{last}", self.protocol),
            (port, None) => write!(f, "port {port}"),
        }
    }
}

/// What is at hand while one Service is compiled.
struct Work<'w> {
    name: &'w ObjectName,
    object: &'w Service,
    context: &'w Context<'w>,
    notices: &'w mut Vec<Notice>,
}

impl Work<'_> {
    fn notice(&mut self, message: impl Into<String>) {
        self.notices.push(Notice::new(format!("Service {}", self.name), message));
    }

    fn asked_mode(&mut self) -> Option<Mode> {
        match self.object.mode.as_deref() {
            None => None,
            Some("nat") => Some(Mode::Nat),
            Some("dnat") => Some(Mode::Dnat),
            Some("dsr") => Some(Mode::Dsr),
            Some("tunnel") if self.context.overlay.is_some() => {
                self.notice("mode `tunnel` is not to be had together with `overlay`, whose endpoints unwrap for pods alone; the default is used");
                None
            }
            Some("tunnel") if !self.context.tunnels => {
                self.notice(match self.context.role {
                    Role::Balancer => "mode `tunnel` needs `tunnels` in the configuration; the default is used",
                    Role::Node => "balancers may wrap its packets, and nothing is unwrapped here without `tunnels` in the configuration",
                });
                None
            }
            Some("tunnel") => Some(Mode::Tunnel),
            Some(other) => {
                let shown: String = other.chars().take(40).collect();
                self.notice(format!(
                    "annotation `levee.dev/mode` is `{shown}`; expected `nat`, `dnat`, `dsr` or `tunnel`; the default is used"
                ));
                None
            }
        }
    }

    /// By what its servers make connection IDs that name them.
    fn quic(&mut self) -> Vec<Config> {
        let Some(annotation) = &self.object.quic else { return Vec::new() };
        if self.object.ports.iter().all(|port| port.protocol != Protocol::Udp) {
            self.notice("annotation `levee.dev/quic-lb` is for ports of UDP, of which it has none");
            return Vec::new();
        }
        let (configs, notices) = quic::named(annotation, self.context.quic);
        notices.into_iter().for_each(|notice| self.notice(notice));
        configs
    }

    /// What the configuration says, or the Service's annotations.
    fn flows(&mut self) -> FlowPolicy {
        let mut policy = self.context.flows;
        if let Some(text) = &self.object.drain {
            match flows::drain(text) {
                Ok(seconds) => policy.drain_seconds = seconds,
                Err(why) => self.notice(format!("annotation `levee.dev/drain`: {why}; the default is used")),
            }
        }
        if let Some(text) = &self.object.mid_stream {
            match flows::mid_stream(text) {
                Ok(word) => policy.mid_stream = Some(word),
                Err(why) => self.notice(format!("annotation `levee.dev/mid-stream`: {why}; the default is used")),
            }
        }
        policy
    }

    /// Rule 41: another's addresses are not even VIPs.
    fn serves_load_balancer_ips(&mut self) -> bool {
        let ours = is_ours(self.object.class.as_deref(), self.context.class_required);
        if self.object.external != External::LoadBalancer || !ours {
            return false;
        }
        if self.object.load_balancer_ips.is_empty() {
            self.notice("it is of type LoadBalancer, but has no address in `status.loadBalancer.ingress` yet");
            return false;
        }
        true
    }

    /// Rule 34: who may use the load-balancer addresses of each family. A family that is not there is open to all.
    fn open_to(&mut self) -> BTreeMap<Family, Vec<IpNet>> {
        let ranges = &self.object.source_ranges;
        let mut open_to: BTreeMap<Family, Vec<IpNet>> = BTreeMap::new();
        if self.object.external != External::LoadBalancer || ranges.iter().any(|range| range.prefix_len() == 0) {
            return open_to;
        }
        for range in ranges {
            open_to.entry(Family::of(range.addr())).or_default().push(range.trunc());
        }
        for family in self.object.cluster_ips.keys().filter(|_| !ranges.is_empty()) {
            if !open_to.contains_key(family) {
                self.notice(format!(
                    "`loadBalancerSourceRanges` has no range of {family}, which leaves its addresses of {family} open to all"
                ));
            }
        }
        open_to
    }

    fn tell_of_what_is_not_served(&mut self) {
        if self.object.has_external_ips {
            self.notice("`externalIPs` is deprecated and not served; use type LoadBalancer");
        }
        let has_node_ports = self.object.ports.iter().any(|port| port.node_port.is_some())
            || self.object.health_check_node_port.is_some();
        if has_node_ports && self.context.role == Role::Node && self.context.node_port_addresses.is_empty() {
            self.notice(format!(
                "its node ports are not served here: Node {} has no address of type InternalIP",
                self.context.node
            ));
        }
    }
}

/// How a balancer reaches the backends of one port.
struct Modes<'m, 'w> {
    work: &'m mut Work<'w>,
    asked: Option<Mode>,
    front: &'m Front<'w>,
    family: Family,
    backends: &'m [Backend],
}

impl Modes<'_, '_> {
    /// For its ClusterIP and for its load-balancer addresses. On a node, all that counts is whether balancers wrap what they
    /// send here.
    fn in_and_out(&mut self) -> (Mode, Mode) {
        if self.work.context.role == Role::Node {
            return (Mode::Nat, self.asked.filter(|mode| *mode == Mode::Tunnel).unwrap_or(Mode::Nat));
        }
        let keeps_client = self.work.object.external_policy == TrafficPolicy::Local;
        let asked = match self.asked {
            // A packet that is left as it is arrives with the Service's port, so the backend must listen on that.
            Some(Mode::Dsr) if self.front.port.is_some() && !all_listen_on(self.backends, self.front.first) => {
                let instead = if keeps_client { Mode::Dnat } else { Mode::Nat };
                self.work.notice(format!(
                    "mode `dsr` needs backends that listen on the Service's port, {}; {} {} uses `{instead}`",
                    self.front.first, self.family, self.front
                ));
                None
            }
            Some(Mode::Tunnel) => self.tunnel(keeps_client),
            asked => asked,
        };
        let external = match (asked, keeps_client) {
            (Some(Mode::Nat), true) => {
                self.work.notice(
                    "mode `nat` hides the client's address, which `externalTrafficPolicy: Local` keeps; `dnat` is used",
                );
                Mode::Dnat
            }
            (Some(mode), _) => mode,
            (None, true) => Mode::Dnat,
            (None, false) => Mode::Nat,
        };
        if external == Mode::Nat
            && self.front.protocol == Protocol::Any
            && !self.work.object.load_balancer_ips.is_empty()
        {
            self.work.notice(
                "its addresses are served whole in mode `nat`, which in protocols without ports (ESP, GRE, …) has room for one client with \
                 each endpoint; annotation `levee.dev/mode` may say `dnat`, `dsr` or `tunnel`",
            );
        }
        // For `dsr`, backends hold the load-balancer address; nobody gives them the ClusterIP. For `tunnel`, nodes expect to
        // unwrap what is for load-balancer addresses.
        let internal = asked.filter(|mode| !matches!(mode, Mode::Dsr | Mode::Tunnel)).unwrap_or(Mode::Nat);
        (internal, external)
    }

    /// A packet is wrapped for a node, so each backend must be on one whose address is known.
    fn tunnel(&mut self, keeps_client: bool) -> Option<Mode> {
        let Some(lost) = self.backends.iter().find(|backend| backend.via.is_none()) else { return Some(Mode::Tunnel) };
        let instead = if keeps_client { Mode::Dnat } else { Mode::Nat };
        self.work.notice(format!(
            "mode `tunnel` needs the Node of each endpoint, with an address of type InternalIP; {} has none; {} {} uses `{instead}`",
            lost.address, self.family, self.front
        ));
        None
    }
}
