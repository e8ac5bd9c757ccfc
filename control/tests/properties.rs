//! What holds for every cluster: any order of the same objects ends in the same bytes, no endpoint strays into another
//! Service, and a program never contradicts itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use levee_api::net::Family;
use levee_api::program::{Delta, Pool, Program, Side};
use levee_api::tunnel::Tunnel;
use levee_control::compile::{Compiler, View, compile};
use levee_control::model::{Judge, Key, Register, Sourced, validate};
use levee_control::plan::Plan;
use levee_control::watch::{Event, Store, read};
use proptest::prelude::*;

/// One Service, number `index` of its cluster, with its slices; every endpoint's second octet is the number.
fn service(index: u8) -> impl Strategy<Value = Vec<String>> {
    let kind = prop_oneof![Just("ClusterIP"), Just("NodePort"), Just("LoadBalancer")];
    let policy = || prop_oneof![Just("Cluster"), Just("Local")];
    let slices = proptest::collection::vec(slice(index), 0..4);
    let wide = (0..4usize, any::<bool>());
    (kind, (policy(), policy()), any::<bool>(), any::<bool>(), 0..4u8, slices, wide).prop_map(
        move |(kind, (internal, external), dual, affinity, address, slices, (wide, own))| {
            // Ranges of some overlap others' on one address; with ports of its own, nothing else of a Service does.
            let wide = [
                "",
                "levee.dev/port-ranges: 'r=79-90/UDP, 100-101'",
                "levee.dev/port-ranges: 90-95/UDP",
                "levee.dev/whole-address: 'true'",
            ][wide];
            let port = if own { 80 + u16::from(index) } else { 80 };
            let clusters = if dual { format!("10.96.0.{index}, 'fd00::{index}'") } else { format!("10.96.0.{index}") };
            let mut service = format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: s{index}, namespace: n{}, annotations: {{{wide}}}}}\nspec:\n  type: {kind}\n  \
                 clusterIPs: [{clusters}]\n  internalTrafficPolicy: {internal}\n  externalTrafficPolicy: {external}\n  \
                 sessionAffinity: {}\n  ports:\n    - {{name: a, port: {port}, nodePort: 3{index:03}0}}\n    \
                 - {{name: b, port: {port}, nodePort: 3{index:03}1, protocol: UDP}}\n",
                index % 2,
                if affinity { "ClientIP" } else { "None" },
            );
            if address > 0 {
                // Services share addresses; some would claim the same, and are refused.
                let _ = writeln!(service, "status: {{loadBalancer: {{ingress: [{{ip: 192.0.2.{address}}}]}}}}");
            }
            let mut documents = vec![service];
            documents.extend(slices.into_iter().enumerate().map(|(number, slice)| {
                format!(
                    "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: s{index}-{number}\n  \
                     namespace: n{}\n  labels: {{kubernetes.io/service-name: s{index}}}\n{slice}",
                    index % 2
                )
            }));
            documents
        },
    )
}

fn slice(index: u8) -> impl Strategy<Value = String> {
    let condition = || proptest::option::of(any::<bool>());
    let node = prop_oneof![Just("here"), Just("there")];
    let zone = prop_oneof![Just(""), Just("a"), Just("b")];
    let endpoint = (0..6u8, condition(), condition(), condition(), node, zone);
    let port = prop_oneof![Just("8080"), Just("9090")];
    (proptest::collection::vec(endpoint, 0..5), any::<bool>(), port).prop_map(move |(endpoints, six, port)| {
        let mut slice = format!(
            "addressType: {}\nports: [{{name: a, port: {port}}}, {{name: b, port: 53, protocol: UDP}}]\nendpoints:\n",
            if six { "IPv6" } else { "IPv4" }
        );
        for (host, ready, serving, terminating, node, zone) in endpoints {
            let address = if six { format!("fd00:{index}::{host}") } else { format!("10.{index}.0.{host}") };
            let mut conditions = Vec::new();
            for (name, value) in [("ready", ready), ("serving", serving), ("terminating", terminating)] {
                conditions.extend(value.map(|value| format!("{name}: {value}")));
            }
            let hints =
                if zone.is_empty() { String::new() } else { format!(", hints: {{forZones: [{{name: {zone}}}]}}") };
            let _ = writeln!(
                slice,
                "  - {{addresses: ['{address}'], nodeName: {node}, conditions: {{{}}}{hints}}}",
                conditions.join(", ")
            );
        }
        slice
    })
}

/// The documents of a cluster, one object each.
fn documents() -> impl Strategy<Value = Vec<String>> {
    let nodes = "apiVersion: v1\nkind: Node\nmetadata: {name: here, labels: {topology.kubernetes.io/zone: a}}\n\
                 spec: {podCIDRs: [10.0.0.0/17]}\nstatus: {addresses: [{type: InternalIP, address: 172.16.0.1}]}\n";
    (service(1), service(2), service(3), service(4)).prop_map(move |(a, b, c, d)| {
        let mut documents = vec![nodes.to_owned()];
        documents.extend([a, b, c, d].into_iter().flatten());
        documents
    })
}

/// What else a cluster has, some of it in the way of Services: Nodes with a VIP for an address, or VIPs among their pods; pods;
/// ranges; pools that overlap. And a Service that wants what the first has, and a slice that is now of one Service, now of
/// another.
fn surroundings() -> impl Strategy<Value = Vec<String>> {
    let here = (0..3u8, 1..3u8).prop_map(|(zone, last)| {
        format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: here, labels: {{topology.kubernetes.io/zone: '{}'}}}}\n\
             spec: {{podCIDRs: [10.0.0.0/17]}}\nstatus: {{addresses: [{{type: InternalIP, address: 172.16.0.{last}}}]}}\n",
            ["", "a", "b"][usize::from(zone)]
        )
    });
    let there = (prop_oneof![Just("192.0.2.1"), Just("10.96.0.2"), Just("172.16.0.9")], any::<bool>()).prop_map(
        |(address, among)| {
            let cidr = if among { "10.96.0.2/31" } else { "10.200.0.0/24" };
            format!(
                "apiVersion: v1\nkind: Node\nmetadata: {{name: there}}\nspec: {{podCIDRs: [{cidr}]}}\n\
                 status: {{addresses: [{{type: InternalIP, address: {address}}}]}}\n"
            )
        },
    );
    let pod = (prop_oneof![Just("here"), Just("there")], 1..3u8).prop_map(|(node, last)| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: pod, namespace: n1}}\nspec: {{nodeName: {node}}}\n\
             status: {{phase: Running, podIP: 10.210.0.{last}}}\n"
        )
    });
    let range = (0..2u8).prop_map(|second| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {{name: a}}\nspec: {{cidrs: [10.9{second}.0.0/16]}}\n"
        )
    });
    let pool = |name: &'static str| {
        (0..3u8).prop_map(move |last| {
            format!(
                "apiVersion: levee.dev/v1alpha1\nkind: AddressPool\nmetadata: {{name: {name}}}\n\
                 spec: {{addresses: [198.51.100.{last}-198.51.100.{}]}}\n",
                last + 1
            )
        })
    };
    let rival = (0..3u8, any::<bool>()).prop_map(|(wants, first)| {
        let ip = ["10.96.0.1", "10.96.0.2", "10.96.0.77"][usize::from(wants)];
        let name = if first { "a" } else { "z" };
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: n0}}\nspec:\n  type: NodePort\n  \
             clusterIPs: [{ip}]\n  ports: [{{name: a, port: 80, nodePort: 30030}}]\n"
        )
    });
    let wanderer = (1..4u8, any::<bool>()).prop_map(|(of, headless)| {
        let headless = if headless { ", service.kubernetes.io/headless: ''" } else { "" };
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: wanderer\n  namespace: n1\n  \
             labels: {{kubernetes.io/service-name: s{of}{headless}}}\naddressType: IPv4\nports: [{{name: a, port: 8080}}]\n\
             endpoints: [{{addresses: [10.220.0.1], nodeName: here}}]\n"
        )
    });
    (here, there, pod, range, (pool("a"), pool("b")), rival, wanderer).prop_map(
        |(here, there, pod, range, (a, b), rival, wanderer)| vec![here, there, pod, range, a, b, rival, wanderer],
    )
}

/// A whole cluster, by key. With several of them, each object has several states, one of which may be that it is not there.
fn state() -> impl Strategy<Value = BTreeMap<Key, Sourced>> {
    let services = (service(1), service(2), service(3), service(4));
    let all = (services, surroundings()).prop_map(|((a, b, c, d), more)| {
        let documents: Vec<String> = [a, b, c, d, more].concat();
        objects(&documents)
    });
    (all, proptest::collection::vec(0..5u8, 40)).prop_map(|(objects, there)| {
        let there = there.into_iter().cycle();
        objects
            .into_iter()
            .zip(there)
            .filter(|(_, there)| *there > 0)
            .map(|(object, _)| (object.key(), object))
            .collect()
    })
}

fn objects(documents: &[String]) -> Vec<Sourced> {
    let mut objects = Vec::new();
    for document in documents {
        let reading = read("test.yaml", document.as_bytes());
        assert!(reading.mistakes.is_empty(), "{}\n{document}", reading.mistakes[0]);
        objects.extend(reading.objects);
    }
    objects
}

/// Two of those who look at a cluster. The balancer is on no Node, so that nothing of the cluster brings it what comes from its
/// configuration alone.
fn views() -> [View; 2] {
    let tunnels = || vec![Tunnel::default()];
    [
        View { tunnels: tunnels(), ..View::node("here") },
        View { tunnels: tunnels(), elected: true, ..View::balancer("balancer-1") },
    ]
}

fn program<'a, J: Judge + 'a>(objects: impl IntoIterator<Item = &'a J>, view: &View) -> Program {
    compile(&validate(objects, Vec::new()).cluster, view).0
}

/// Program and notices as bytes.
fn bytes<'a, J: Judge + 'a>(objects: impl IntoIterator<Item = &'a J>, view: &View) -> Vec<u8> {
    serde_json::to_vec(&compile(&validate(objects, Vec::new()).cluster, view)).expect("json")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_order_of_the_same_objects_ends_in_the_same_bytes(
        (documents, shuffled) in documents().prop_flat_map(|documents| (Just(documents.clone()), Just(documents).prop_shuffle())),
    ) {
        let (objects, shuffled) = (objects(&documents), objects(&shuffled));
        for view in views() {
            prop_assert_eq!(bytes(&objects, &view), bytes(&shuffled, &view));
        }
    }

    #[test]
    fn any_batching_of_the_same_events_ends_in_the_same_bytes(
        before in documents(),
        after in documents(),
        breaks in proptest::collection::vec(any::<bool>(), 64),
    ) {
        let (before, after) = (objects(&before), objects(&after));
        let mut store = Store::new(1);
        store.handle(0, Event::ListBegins);
        for object in &before {
            store.handle(0, Event::Listed(Box::new(object.clone())));
        }
        store.handle(0, Event::ListComplete);
        let kept: BTreeSet<_> = after.iter().map(Sourced::key).collect();
        let gone = before.iter().map(Sourced::key).filter(|key| !kept.contains(key)).map(Event::Gone);
        let changed = after.iter().map(|object| Event::Changed(Box::new(object.clone())));
        for (event, compile_between) in gone.chain(changed).zip(breaks.into_iter().cycle()) {
            store.handle(0, event);
            if compile_between {
                // What is computed on the way must leave no trace.
                let _ = program(store.objects(), &View::node("here"));
            }
        }
        for view in views() {
            prop_assert_eq!(bytes(store.objects(), &view), bytes(&after, &view));
        }
    }

    #[test]
    fn what_is_kept_up_to_date_is_what_is_computed_at_once(
        states in proptest::collection::vec(state(), 3),
        steps in proptest::collection::vec((any::<prop::sample::Index>(), 0..3usize, 0..4u8), 1..80),
        live in any::<bool>(),
    ) {
        let keys: Vec<Key> = states.iter().flat_map(BTreeMap::keys).cloned().collect::<BTreeSet<_>>().into_iter().collect();
        let mut store = Store::new(1);
        store.handle(0, Event::ListBegins);
        store.handle(0, Event::ListComplete);
        let mut register = Register::default();
        let mut followed = views().map(|view| (Compiler::new(view), Plan::default()));
        let mut there: BTreeMap<Key, Sourced> = BTreeMap::new();
        let last = steps.len() - 1;
        for (step, (key, state, stop)) in steps.into_iter().enumerate() {
            let key = key.get(&keys);
            match states[state].get(key) {
                Some(object) => {
                    let mut object = object.clone();
                    object.origin.live = live;
                    there.insert(key.clone(), object.clone());
                    store.handle(0, Event::Changed(Box::new(object)));
                }
                None => {
                    there.remove(key);
                    store.handle(0, Event::Gone(key.clone()));
                }
            }
            // Some changes are taken together.
            if stop > 0 && step != last {
                continue;
            }
            prop_assert!(store.tell(&mut register) <= keys.len());
            register.settle();
            let at_once = validate(there.values(), Vec::new());
            prop_assert_eq!(register.refused(), at_once.refused);
            prop_assert_eq!(register.cluster(), &at_once.cluster);
            let changes = register.take_changes();
            for (compiler, plan) in &mut followed {
                let change = compiler.update(register.cluster(), &changes);
                plan.apply(change);
                let (program, notices) = compile(&at_once.cluster, compiler.view());
                let size = (program.services.len(), program.vips.len(), program.services.iter().map(|service| service.backends.len()).sum());
                prop_assert_eq!((compiler.size().services, compiler.size().vips, compiler.size().backends), size);
                prop_assert_eq!(&plan.program(1), &program);
                prop_assert_eq!(compiler.notices(register.cluster()), notices);
            }
            // What nothing has changed is not looked at again.
            prop_assert_eq!(store.tell(&mut register), 0);
            register.settle();
            prop_assert!(register.take_changes().is_empty());
        }
    }

    /// Against conflicts judged in the plainest way: one Service after another, by name, each against all before it.
    #[test]
    fn of_those_that_claim_one_thing_the_first_by_name_keeps_it(state in state()) {
        let accepted = validate(state.values(), Vec::new()).cluster;
        let alone = |object: &Sourced| validate([object], Vec::new()).cluster;
        let mut claimed: BTreeSet<(String, u16, String)> = BTreeSet::new();
        let nodes: Vec<_> = accepted.nodes().map(|(_, node)| node.clone()).collect();
        for object in state.values() {
            let cluster = alone(object);
            let Some((name, service)) = cluster.services().next() else { continue };
            let is_a_nodes = |address: &std::net::IpAddr| nodes.iter().any(|node| node.addresses.contains(address));
            let balanced = service.load_balancer_ips.iter().filter(|address| !is_a_nodes(address));
            let addresses: Vec<_> = service.cluster_ips.values().chain(balanced).copied().collect();
            let in_the_way = addresses.iter().any(|address| {
                is_a_nodes(address) || nodes.iter().any(|node| node.pod_cidrs.iter().any(|cidr| cidr.contains(address)))
            });
            let claims: Vec<_> = service.ports.iter().flat_map(|port| {
                let on = |place: String, number: u16| (place, number, port.protocol.to_string());
                let vips = addresses.iter().map(move |address| on(address.to_string(), port.port.get()));
                vips.chain(port.node_port.map(|number| on("node".to_owned(), number.get()))).collect::<Vec<_>>()
            }).collect();
            // A range is each of its ports, apart from those by themselves.
            let ranges = service.wide.ranges.iter().flat_map(|range| {
                let every = move |port| (port, format!("range of {}", range.protocol));
                (range.ports.first..=range.ports.last).map(every)
            });
            let wide: Vec<_> = ranges.chain(service.wide.whole.then(|| (0, "whole".to_owned()))).collect();
            let wide = addresses.iter().flat_map(|address| wide.iter().map(|(port, what)| (address.to_string(), *port, what.clone())));
            let claims: Vec<_> = claims.into_iter().chain(wide).collect();
            let good = !in_the_way && claims.iter().all(|claim| !claimed.contains(claim));
            if good {
                claimed.extend(claims);
            }
            prop_assert_eq!(accepted.service(name).is_some(), good, "{}", name);
        }
    }

    #[test]
    fn all_balancers_do_the_same_and_offer_the_same_candidates_wherever_they_stand(documents in documents()) {
        let objects = objects(&documents);
        let one = program(&objects, &View::balancer("balancer-1"));
        prop_assert_eq!(&one, &program(&objects, &View::balancer("balancer-2")));
        // One that shares a machine with pods differs in what is local to it, and in nothing else.
        let mut beside_pods = program(&objects, &View::balancer("here"));
        for (service, other) in beside_pods.services.iter_mut().zip(&one.services) {
            for (backend, other) in service.backends.iter_mut().zip(&other.backends) {
                backend.pools.clone_from(&other.pools);
            }
            for (frontend, other) in service.frontends.iter_mut().zip(&other.frontends) {
                if frontend.pool == Pool::Local {
                    frontend.when_empty = other.when_empty;
                }
            }
        }
        let cluster = |program: &Program| -> Vec<_> {
            let backends = program.services.iter().flat_map(|service| service.backends.iter().map(move |backend| (service.key(), backend)));
            backends.filter(|(_, backend)| backend.pools.contains(&Pool::Cluster)).map(|(key, backend)| (key, backend.address)).collect()
        };
        prop_assert_eq!(cluster(&program(&objects, &View::balancer("here"))), cluster(&one));
        prop_assert_eq!(beside_pods, one);
    }

    #[test]
    fn no_endpoint_of_another_service_ever_appears(documents in documents()) {
        let objects = objects(&documents);
        for view in views() {
            for service in program(&objects, &view).services {
                let index = service.name.split(['s', ':']).nth(1).unwrap().to_owned();
                for backend in &service.backends {
                    let address = backend.address.to_string();
                    prop_assert!(
                        address.starts_with(&format!("10.{index}.")) || address.starts_with(&format!("fd00:{index}:")),
                        "{} has {}", service.name, address
                    );
                }
            }
        }
    }

    #[test]
    fn a_program_does_not_contradict_itself(documents in documents()) {
        let objects = objects(&documents);
        for view in views() {
            let program = program(&objects, &view);
            prop_assert_eq!(program.clone().canonical(), program.clone());
            let mut keys = BTreeSet::new();
            let mut served = BTreeSet::new();
            for service in &program.services {
                prop_assert!(keys.insert(service.key()), "{} twice", service.name);
                let mut backends = BTreeSet::new();
                for backend in &service.backends {
                    prop_assert_eq!(Family::of(backend.address), service.family);
                    prop_assert!(backends.insert((backend.address, backend.port)));
                }
                for frontend in &service.frontends {
                    prop_assert_eq!(Family::of(frontend.address), service.family);
                    let sides: &[Side] = match frontend.from {
                        Side::Any => &[Side::Pods, Side::Uplink],
                        Side::Tunnel => &[Side::Tunnel],
                        Side::Pods => &[Side::Pods],
                        Side::Uplink => &[Side::Uplink],
                    };
                    for side in sides {
                        prop_assert!(
                            served.insert((*side, frontend.address, frontend.port, frontend.last_port, service.protocol)),
                            "{:?} is served twice", frontend
                        );
                    }
                }
            }
            let vips: BTreeSet<_> = program.vips.iter().map(|vip| vip.address).collect();
            prop_assert_eq!(vips.len(), program.vips.len());
            prop_assert!(!vips.contains(&"172.16.0.1".parse().unwrap()));
        }
    }

    #[test]
    fn a_delta_leads_from_one_program_to_the_next(before in documents(), after in documents()) {
        let (before, after) = (objects(&before), objects(&after));
        for view in views() {
            let old = program(&before, &view);
            let new = Program { generation: 2, ..program(&after, &view) };
            let delta = Delta::between(&old, &new);
            prop_assert_eq!(delta.apply(&old), new.clone());
            let same = Program { generation: 3, ..new.clone() };
            prop_assert!(Delta::between(&new, &same).is_empty());
        }
    }

    #[test]
    fn any_text_after_a_good_beginning_is_objects_or_mistakes(rest in "[ \\n:\\-\\[\\]{}&*!|>'\"%@`#,?a-z0-9./]{0,80}") {
        let reading = read("t.yaml", format!("apiVersion: v1\nkind: Service\nmetadata: {{name: a}}\nspec:\n{rest}").as_bytes());
        let _ = validate(&reading.objects, reading.notices);
    }
}
