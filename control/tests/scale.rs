//! What one change costs, counted and not timed: one object judged, one Service compiled, one service sent, and as much memory
//! asked for among four thousand Services as among one thousand.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use levee_api::program::Delta;
use levee_control::compile::{Compiler, View};
use levee_control::model::external::ClusterIp;
use levee_control::model::{Object, Register, Sourced};
use levee_control::program::{Outcome, Request, Settings, Step, Sync};
use levee_control::watch::{Event, Store, read};

const SERVICES: usize = 1_000;

/// An object as it is written, in a cluster that has an API server.
fn object(yaml: &str) -> Sourced {
    let mut reading = read("t.yaml", yaml.as_bytes());
    assert!(reading.mistakes.is_empty(), "{:?}", reading.mistakes);
    let mut object = reading.objects.remove(0);
    object.origin.live = true;
    object
}

fn node(name: &str, last: u8, heartbeat: u32) -> Sourced {
    object(&format!(
        "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}, resourceVersion: '{heartbeat}'}}\n\
         spec: {{podCIDRs: [10.244.{last}.0/24]}}\nstatus:\n  addresses: [{{type: InternalIP, address: 172.16.0.{last}}}]\n  \
         conditions: [{{type: Ready, status: 'True', lastHeartbeatTime: '{heartbeat}'}}]\n"
    ))
}

/// Many of one kind: read once, and renamed.
struct Patterns {
    service: Sourced,
    slice: Sourced,
}

impl Patterns {
    fn new() -> Self {
        let service = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}\n";
        let endpoints: String =
            (1..=10).map(|last| format!("  - {{addresses: [10.244.2.{last}], nodeName: there}}\n")).collect();
        let slice = format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: s, labels: {{kubernetes.io/service-name: s}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: 8080}}]\nendpoints:\n{endpoints}"
        );
        Patterns { service: object(service), slice: object(&slice) }
    }

    fn service(&self, number: usize) -> Sourced {
        let mut sourced = self.service.clone();
        let Object::Service(object) = &mut sourced.object else { panic!("a Service") };
        object.metadata.name.value = format!("s{number}");
        let address = IpAddr::from(Ipv4Addr::from(0x0a60_0000 + u32::try_from(number).unwrap() + 1));
        object.spec.cluster_ip.as_mut().unwrap().value = ClusterIp::Address(address);
        sourced
    }

    /// With so many of its endpoints.
    fn slice(&self, number: usize, endpoints: usize) -> Sourced {
        let mut sourced = self.slice.clone();
        let Object::EndpointSlice(object) = &mut sourced.object else { panic!("a slice") };
        object.metadata.name.value = format!("s{number}-abcde");
        object.metadata.labels.insert("kubernetes.io/service-name".into(), format!("s{number}"));
        object.endpoints.truncate(endpoints);
        sourced
    }
}

/// The way of a change, from its event to what is sent.
struct Way {
    store: Store,
    register: Register,
    compiler: Compiler,
    sync: Sync,
    now: Instant,
}

impl Way {
    /// With so many Services, all of which run.
    fn with(patterns: &Patterns, services: usize) -> Way {
        let (now, compiler) = (Instant::now(), Compiler::new(View::node("here")));
        let (store, register, sync) = (Store::new(1), Register::default(), Sync::new(Settings::default()));
        let mut way = Way { store, register, compiler, sync, now };
        assert_eq!(way.sync.step(now), Step::Send(Request::Status));
        way.sync.finished(now, Outcome::Status { generation: 0, pid: 1 });
        way.list(patterns, services);
        assert!(matches!(way.goes(), (_, _, Some(Request::Full(program))) if program.services.len() == services));
        way
    }

    fn list(&mut self, patterns: &Patterns, services: usize) {
        self.store.handle(0, Event::ListBegins);
        for (name, last) in [("here", 1), ("there", 2)] {
            self.store.handle(0, Event::Listed(Box::new(node(name, last, 0))));
        }
        for number in 0..services {
            self.store.handle(0, Event::Listed(Box::new(patterns.service(number))));
            self.store.handle(0, Event::Listed(Box::new(patterns.slice(number, 10))));
        }
        self.store.handle(0, Event::ListComplete);
    }

    /// How many objects are judged, how many Services compiled, and what is sent.
    fn goes(&mut self) -> (usize, u64, Option<Request>) {
        let compiled = self.compiler.compiled();
        let judged = self.store.tell(&mut self.register);
        self.register.settle();
        let changes = self.register.take_changes();
        let change = self.compiler.update(self.register.cluster(), &changes);
        self.sync.want(change);
        let sent = match self.sync.step(self.now) {
            Step::Send(request) => {
                let (Request::Full(levee_api::program::Program { generation, .. })
                | Request::Delta(Delta { generation, .. })) = request
                else {
                    panic!("no program")
                };
                self.sync.finished(self.now, Outcome::Applied { generation });
                Some(request)
            }
            _ => None,
        };
        (judged, self.compiler.compiled() - compiled, sent)
    }

    fn after(&mut self, event: Event) -> (usize, u64, Option<Request>) {
        self.store.handle(0, event);
        self.goes()
    }
}

fn changed(object: Sourced) -> Event {
    Event::Changed(Box::new(object))
}

#[test]
fn one_changed_slice_is_one_object_one_service_and_one_service_sent() {
    let patterns = Patterns::new();
    let mut way = Way::with(&patterns, SERVICES);
    let (judged, compiled, sent) = way.after(changed(patterns.slice(500, 9)));
    assert_eq!((judged, compiled), (1, 1));
    let Some(Request::Delta(delta)) = sent else { panic!("{sent:?}") };
    let names: Vec<&str> = delta.upsert_services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["default/s500:http"]);
    let bytes = serde_json::to_vec(&delta).unwrap().len();
    assert!(bytes < 1_500, "{bytes} bytes");
    let alone = Delta { upsert_services: Vec::new(), ..delta };
    assert!(alone.is_empty(), "{alone:?}");
    // There and back before it was sent is nothing to send.
    way.store.handle(0, changed(patterns.slice(7, 3)));
    assert_eq!(way.after(changed(patterns.slice(7, 10))), (1, 0, None));
}

#[test]
fn what_says_the_same_again_costs_nothing() {
    let patterns = Patterns::new();
    let mut way = Way::with(&patterns, SERVICES);
    // A Node's heartbeat, every few seconds from each of them.
    assert!(!way.store.handle(0, changed(node("there", 2, 77))), "not even a reason to look");
    assert_eq!(way.goes(), (0, 0, None));
    assert_eq!(way.after(changed(patterns.slice(3, 10))), (0, 0, None));
    // Everything listed anew, as after 410.
    way.list(&patterns, SERVICES);
    assert_eq!(way.goes(), (0, 0, None));
    // Another Node's prefix is nobody's business here, unless a VIP is inside.
    assert_eq!(way.after(changed(node("there", 9, 0))), (1, 0, None));
}

#[test]
fn one_service_more_or_less_is_one() {
    let patterns = Patterns::new();
    let mut way = Way::with(&patterns, SERVICES);
    way.store.handle(0, changed(patterns.slice(SERVICES, 10)));
    let (judged, compiled, sent) = way.after(changed(patterns.service(SERVICES)));
    assert_eq!((judged, compiled), (2, 1));
    assert!(
        matches!(sent, Some(Request::Delta(delta)) if delta.upsert_services.len() == 1 && delta.upsert_vips.len() == 1)
    );
    let (judged, compiled, sent) = way.after(Event::Gone(patterns.service(SERVICES).key()));
    assert_eq!((judged, compiled), (1, 0));
    assert!(
        matches!(sent, Some(Request::Delta(delta)) if delta.remove_services.len() == 1 && delta.remove_vips.len() == 1)
    );
    // Our own Node is in every Service's context.
    let (judged, compiled, _) = way.after(changed(node("here", 7, 0)));
    assert_eq!((judged, compiled), (1, SERVICES as u64));
}

#[test]
fn a_change_among_four_times_as_many_asks_for_no_more_memory() {
    let patterns = Patterns::new();
    let cost = |services: usize| {
        let mut way = Way::with(&patterns, services);
        // The first one may find lists to grow.
        way.after(changed(patterns.slice(1, 9)));
        let event = changed(patterns.slice(services / 2, 9));
        allocation_counter::measure(|| drop(way.after(event)))
    };
    let (few, many) = (cost(SERVICES), cost(4 * SERVICES));
    assert!(many.count_total <= few.count_total + 20, "{} allocations, then {}", few.count_total, many.count_total);
    assert!(many.bytes_total <= few.bytes_total + 8_192, "{} bytes, then {}", few.bytes_total, many.bytes_total);
}
