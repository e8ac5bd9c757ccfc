//! What to write: (cluster, allocation, who announces what, the time) → writes, each with the events that go with it.
//!
//! Pure. What is already as it should be is not written again, so a plan for what was just written is empty. An event goes
//! with the write that changes what it tells of, so it is told once, also after a restart: the only memory is the status.

use std::collections::BTreeMap;
use std::net::IpAddr;

use levee_api::net::{Family, Protocol};
use serde_json::{Value, json};

use crate::allocate::{self, Allocation, Assignment, Problem};
use crate::model::external::{
    Address, AddressPoolStatus, Condition, Ingress, IngressPort, IpMode, LoadBalancerStatus, ServiceStatus,
    TransportProtocol, Usage,
};
use crate::model::{AddressPool, Balanced, Identity, Kind, LoadBalancer, ObjectName, Placed, Pool};

use super::event::{About, Event, Weight, cut};

/// Conditions of a Service; each carries `observedGeneration` where Services have a generation.
///
/// It has every address that it should have.
pub const ALLOCATED: &str = "levee.dev/AddressAllocated";
/// Each of its addresses is answered for by one balancer, as the announcers' Leases say.
pub const ANNOUNCED: &str = "levee.dev/Announced";
/// Each balancer that announces one of its addresses has said that its dataplane serves it.
pub const PROGRAMMED: &str = "levee.dev/Programmed";
/// Condition of an AddressPool: its `spec` is in force.
pub const ACCEPTED: &str = "Accepted";

/// Who announces what, as the leader knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announcers {
    /// It cannot be known, for this reason.
    Unknown(String),
    /// By address. One that is not here is announced by nobody.
    Known(BTreeMap<IpAddr, Announcer>),
}

/// The holder of an address's Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcer {
    /// Its name: a Node's.
    pub name: String,
}

/// What a write is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The status of a Service.
    Service(ObjectName),
    /// The status of an AddressPool.
    Pool(String),
}

/// A status to be written, to one state of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Whose.
    pub target: Target,
    /// The state of it that this was found from; any other, and it must not be written.
    pub resource_version: Box<str>,
    /// What is there.
    pub before: Status,
    /// What should be there.
    pub after: Status,
    /// The patch that makes it so: a strategic merge patch for a Service, a merge patch for an AddressPool.
    pub patch: Value,
    /// What to tell when it is done.
    pub events: Vec<Event>,
}

/// A status of either kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Of a Service.
    Service(ServiceStatus),
    /// Of an AddressPool.
    Pool(AddressPoolStatus),
}

/// Finds everything that is not as it should be. `now` is written as RFC 3339. First pools, of which the addresses are, then
/// Services.
#[must_use]
pub fn plan(
    balanced: &Balanced,
    allocation: &Allocation,
    announcers: &Announcers,
    class_required: bool,
    now: &str,
) -> Vec<Write> {
    let services = balanced.services.iter().filter(|(_, service)| service.identity.live);
    let services = services.filter_map(|(name, service)| {
        if !service.is_wanted {
            return cleared(name, service);
        }
        if !allocate::is_ours(service.class.as_deref(), class_required) {
            return None;
        }
        let assignment = allocation.services.get(name)?;
        Planned { name, service, assignment, now }.write(announcers)
    });
    let pools = balanced.pools.iter().filter(|(_, pool)| pool.identity.live);
    let pools = pools.filter_map(|(name, pool)| accepted(name, pool, allocation.pools.get(name), now));
    pools.chain(services).collect()
}

struct Planned<'a> {
    name: &'a ObjectName,
    service: &'a LoadBalancer,
    assignment: &'a Assignment,
    now: &'a str,
}

impl Planned<'_> {
    fn write(&self, announcers: &Announcers) -> Option<Write> {
        let Planned { name, service, assignment, .. } = self;
        let before = &service.status;
        let mut events = Vec::new();
        let ingress = self.ingress();
        let conditions =
            [self.allocated(&mut events), self.announced(announcers, &mut events), self.programmed(announcers)];
        let after = ServiceStatus {
            load_balancer: LoadBalancerStatus { ingress },
            conditions: merged(&before.conditions, &conditions),
        };
        let new: Vec<String> = assignment
            .addresses
            .values()
            .filter(|(address, _)| !service.holds.iter().any(|held| held.address == *address))
            .map(|(address, _)| format!("{:?}", address.to_string()))
            .collect();
        if !new.is_empty() {
            events.insert(0, self.event(Weight::Normal, "IPAllocated", format!("Assigned IP [{}]", new.join(" "))));
        }
        for (address, problem) in assignment.withdrawn.iter().rev() {
            let message = format!("current IP {:?} is not allowed any more: {problem}", address.to_string());
            events.insert(0, self.event(Weight::Warning, "ClearAssignment", message));
        }
        if is_same(before, &after) {
            return None;
        }
        let resource_version = service.identity.resource_version.clone()?;
        let changed = conditions.iter().filter(|condition| !before.conditions.contains(condition));
        let changed: Vec<Value> = changed.map(condition_json).collect();
        let ingress: Vec<Value> = after.load_balancer.ingress.iter().map(ingress_json).collect();
        let patch = json!({
            "metadata": {"resourceVersion": resource_version},
            "status": {
                "loadBalancer": {"ingress": if ingress.is_empty() { Value::Null } else { ingress.into() }},
                "conditions": changed,
            },
        });
        Some(Write {
            target: Target::Service((*name).clone()),
            resource_version,
            before: Status::Service(before.clone()),
            after: Status::Service(after),
            patch,
            events,
        })
    }

    fn ingress(&self) -> Vec<Ingress> {
        let ports: Vec<IngressPort> = self
            .service
            .ports
            .iter()
            .filter_map(|(protocol, port)| {
                let protocol = match protocol {
                    Protocol::Tcp => TransportProtocol::Tcp,
                    Protocol::Udp => TransportProtocol::Udp,
                    Protocol::Sctp => TransportProtocol::Sctp,
                    // Kubernetes knows no such port; no Service has one.
                    Protocol::Any => return None,
                };
                // Whatever protocol it is of, it is balanced.
                Some(IngressPort { port: port.get(), protocol: Some(protocol), error: None })
            })
            .collect();
        let ingress = |(address, _): &(IpAddr, String)| Ingress {
            ip: Some(Placed { value: Address(*address), place: None }),
            hostname: None,
            ip_mode: Some(IpMode::VIP),
            ports: ports.clone(),
        };
        self.assignment.addresses.values().map(ingress).collect()
    }

    fn allocated(&self, events: &mut Vec<Event>) -> Condition {
        let has: Vec<String> = self
            .assignment
            .addresses
            .values()
            .map(|(address, pool)| format!("{address} of AddressPool {pool}"))
            .collect();
        let problems: Vec<String> = self.assignment.problems.iter().map(ToString::to_string).collect();
        let condition = match self.assignment.problems.first() {
            None => self.condition(ALLOCATED, "True", "Allocated", has.join(", ")),
            Some(problem) => {
                let keeps = if has.is_empty() { String::new() } else { format!("; it has {}", has.join(", ")) };
                self.condition(ALLOCATED, "False", problem.reason(), problems.join("; ") + &keeps)
            }
        };
        let told = self.before(ALLOCATED);
        let is_news = told.is_none_or(|told| (&told.status, &told.message) != (&condition.status, &condition.message));
        if let Some(problem) = self.assignment.problems.first().filter(|_| is_news) {
            let (reason, what) = match problem {
                Problem::AskedWrong(_) => ("LoadBalancerFailed", "invalid request for".to_owned()),
                _ => ("AllocationFailed", "Failed to allocate IP for".to_owned()),
            };
            let message = format!("{what} {:?}: {}", self.name.to_string(), problems.join("; "));
            events.push(self.event(Weight::Warning, reason, message));
        }
        condition
    }

    fn announced(&self, announcers: &Announcers, events: &mut Vec<Event>) -> Condition {
        let known = match announcers {
            Announcers::Known(known) => known,
            Announcers::Unknown(why) => return self.condition(ANNOUNCED, "Unknown", "Unknown", why.clone()),
        };
        let addresses = || self.assignment.addresses.values().map(|(address, _)| address);
        if addresses().next().is_none() {
            return self.condition(ANNOUNCED, "False", "NoAddress", "it has no address".to_owned());
        }
        let by: Vec<String> =
            addresses().filter_map(|address| Some(format!("{address} by {}", known.get(address)?.name))).collect();
        let nobody: Vec<String> =
            addresses().filter(|address| !known.contains_key(address)).map(ToString::to_string).collect();
        let told = self.before(ANNOUNCED);
        if nobody.is_empty() {
            let condition = self.condition(ANNOUNCED, "True", "Announced", by.join(", "));
            if told.is_none_or(|told| (&told.status, &told.message) != (&condition.status, &condition.message)) {
                let mut nodes: Vec<&str> =
                    addresses().filter_map(|address| Some(known.get(address)?.name.as_str())).collect();
                nodes.sort_unstable();
                nodes.dedup();
                for node in nodes {
                    let message = format!("announcing from node {node:?} with protocol \"layer2\"");
                    events.push(self.event(Weight::Normal, "nodeAssigned", message));
                }
            }
            return condition;
        }
        let message = format!("no balancer announces {}", nobody.join(", "));
        if told.is_some_and(|told| told.status == "True") {
            events.push(self.event(Weight::Warning, "NotAnnounced", message.clone()));
        }
        self.condition(ANNOUNCED, "False", "NoAnnouncer", message)
    }

    fn programmed(&self, announcers: &Announcers) -> Condition {
        let known = match announcers {
            Announcers::Known(known) => known,
            Announcers::Unknown(why) => return self.condition(PROGRAMMED, "Unknown", "Unknown", why.clone()),
        };
        let mut addresses = self.assignment.addresses.values().map(|(address, _)| address).peekable();
        if addresses.peek().is_none() {
            return self.condition(PROGRAMMED, "False", "NoAddress", "it has no address".to_owned());
        }
        let missing: Vec<String> =
            addresses.filter(|address| !known.contains_key(address)).map(ToString::to_string).collect();
        if missing.is_empty() {
            let message = "whoever announces its addresses serves them";
            return self.condition(PROGRAMMED, "True", "Programmed", message.to_owned());
        }
        let message = format!("no balancer has said that it serves {}", missing.join(", "));
        self.condition(PROGRAMMED, "Unknown", "NotReported", message)
    }

    fn before(&self, kind: &str) -> Option<&Condition> {
        self.service.status.conditions.iter().find(|condition| condition.kind == kind)
    }

    fn condition(&self, kind: &str, status: &str, reason: &str, message: String) -> Condition {
        condition(&self.service.status.conditions, &self.service.identity, (kind, status, reason), message, self.now)
    }

    fn event(&self, weight: Weight, reason: &'static str, message: String) -> Event {
        Event {
            about: About::service(self.name, self.service.identity.uid.as_deref()),
            weight,
            reason,
            message: cut(message),
        }
    }
}

/// A condition, which has been so since it was found so.
fn condition(
    before: &[Condition],
    identity: &Identity,
    (kind, status, reason): (&str, &str, &str),
    message: String,
    now: &str,
) -> Condition {
    let told = before.iter().find(|condition| condition.kind == kind);
    let since = told.filter(|told| told.status == status && !told.last_transition_time.is_empty());
    Condition {
        kind: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: cut(message),
        observed_generation: identity.generation,
        last_transition_time: since.map_or_else(|| now.to_owned(), |told| told.last_transition_time.clone()),
    }
}

/// Others' conditions as they are, and ours in their places.
fn merged(before: &[Condition], ours: &[Condition]) -> Vec<Condition> {
    let new = |condition: &Condition| ours.iter().find(|new| new.kind == condition.kind).unwrap_or(condition).clone();
    let added = ours.iter().filter(|new| !before.iter().any(|condition| condition.kind == new.kind)).cloned();
    before.iter().map(new).chain(added).collect()
}

/// A Service that is no load balancer any more keeps nothing of that time.
fn cleared(name: &ObjectName, service: &LoadBalancer) -> Option<Write> {
    let resource_version = service.identity.resource_version.clone()?;
    let before = service.status.clone();
    let is_ours = |condition: &&Condition| [ALLOCATED, ANNOUNCED, PROGRAMMED].contains(&condition.kind.as_str());
    let delete: Vec<Value> = before
        .conditions
        .iter()
        .filter(is_ours)
        .map(|condition| json!({"$patch": "delete", "type": condition.kind}))
        .collect();
    let others = before.conditions.iter().filter(|condition| !is_ours(condition)).cloned().collect();
    let after = ServiceStatus { load_balancer: LoadBalancerStatus::default(), conditions: others };
    if delete.is_empty() {
        return None;
    }
    let patch = json!({
        "metadata": {"resourceVersion": resource_version},
        "status": {"loadBalancer": {"ingress": null}, "conditions": delete},
    });
    Some(Write {
        target: Target::Service(name.clone()),
        resource_version,
        before: Status::Service(before),
        after: Status::Service(after),
        patch,
        events: Vec::new(),
    })
}

fn accepted(name: &str, pool: &Pool, usage: Option<&BTreeMap<Family, Usage>>, now: &str) -> Option<Write> {
    let resource_version = pool.identity.resource_version.clone()?;
    let before = &pool.status;
    let condition = |status, reason, message| {
        condition(&before.conditions, &pool.identity, (ACCEPTED, status, reason), message, now)
    };
    let accepted = match (&pool.refused, &pool.in_force) {
        (None, _) => condition("True", "InForce", "its spec is in force".to_owned()),
        (Some(why), Some(_)) => condition("False", "Refused", format!("{why}; what was good last stays in force")),
        (Some(why), None) => condition("False", "Refused", format!("{why}; no address of it is given")),
    };
    let told = before.conditions.iter().find(|condition| condition.kind == ACCEPTED);
    let mut events = Vec::new();
    // That it is refused is told with all other refusals.
    if accepted.status == "True" && told.is_some_and(|told| told.status == "False") {
        let about = About::of(Kind::AddressPool, None, name, pool.identity.uid.as_deref());
        events.push(Event { about, weight: Weight::Normal, reason: "Accepted", message: accepted.message.clone() });
    }
    let of = |family| usage.and_then(|usage| usage.get(&family)).copied();
    let good = pool.in_force.clone().map(|in_force| AddressPool { withheld: BTreeMap::new(), ..in_force });
    let is_recorded = good.is_none() || good == pool.recorded;
    let after = AddressPoolStatus {
        in_force: before.in_force.clone(),
        conditions: merged(&before.conditions, std::slice::from_ref(&accepted)),
        ipv4: of(Family::Ipv4),
        ipv6: of(Family::Ipv6),
    };
    if is_recorded && after == *before {
        return None;
    }
    let mut status = json!({
        // A merge patch replaces lists whole.
        "conditions": after.conditions.iter().map(condition_json).collect::<Vec<_>>(),
        "ipv4": after.ipv4,
        "ipv6": after.ipv6,
    });
    if let (false, Some(good), Some(status)) = (is_recorded, &good, status.as_object_mut()) {
        // A merge patch would keep what is not in force any more: first nothing, then this.
        status.insert("inForce".to_owned(), spec_json(good));
    }
    Some(Write {
        target: Target::Pool(name.to_owned()),
        patch: json!({"metadata": {"resourceVersion": resource_version}, "status": status}),
        resource_version,
        before: Status::Pool(before.clone()),
        after: Status::Pool(after),
        events,
    })
}

/// A pool's `spec`, every key of it, so that a merge patch leaves nothing of another.
fn spec_json(pool: &AddressPool) -> Value {
    json!({
        "addresses": pool.ranges.iter().map(|range| range.notation()).collect::<Vec<_>>(),
        "autoAssign": pool.auto_assign,
        "namespaces": pool.namespaces,
        "serviceSelector": pool.service_selector,
        "sharing": if pool.shares_across_namespaces { "Cluster" } else { "Namespace" },
    })
}

/// Whether two statuses say the same: an absent `ipMode` is `VIP`, which older servers do not keep.
fn is_same(a: &ServiceStatus, b: &ServiceStatus) -> bool {
    let plain = |status: &ServiceStatus| {
        let mut status = status.clone();
        for ingress in &mut status.load_balancer.ingress {
            ingress.ip_mode.get_or_insert(IpMode::VIP);
            if let Some(ip) = &mut ingress.ip {
                ip.place = None;
            }
            for port in &mut ingress.ports {
                port.protocol.get_or_insert(TransportProtocol::Tcp);
            }
        }
        status
    };
    plain(a) == plain(b)
}

fn ingress_json(ingress: &Ingress) -> Value {
    let ports = ingress.ports.iter().map(|port| {
        let protocol = match port.protocol {
            Some(TransportProtocol::Udp) => "UDP",
            Some(TransportProtocol::Sctp) => "SCTP",
            Some(TransportProtocol::Tcp) | None => "TCP",
        };
        let mut value = json!({"port": port.port, "protocol": protocol});
        if let (Some(error), Some(value)) = (&port.error, value.as_object_mut()) {
            value.insert("error".to_owned(), json!(error));
        }
        value
    });
    let ip = ingress.ip.map(|ip| ip.value.0.to_string());
    json!({"ip": ip, "ipMode": "VIP", "ports": ports.collect::<Vec<_>>()})
}

fn condition_json(condition: &Condition) -> Value {
    let Condition { kind, status, reason, message, observed_generation, last_transition_time } = condition;
    let mut value = json!({
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": last_transition_time,
    });
    if let (Some(generation), Some(value)) = (observed_generation, value.as_object_mut()) {
        value.insert("observedGeneration".to_owned(), json!(generation));
    }
    value
}
