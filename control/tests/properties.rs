//! What holds for every cluster: any order of the same objects ends in the same bytes, no endpoint strays into another
//! Service, and a program never contradicts itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::fmt::Write as _;

use levee_api::net::Family;
use levee_api::program::{Delta, Pool, Program, Side};
use levee_control::compile::{View, compile};
use levee_control::model::{Sourced, validate};
use levee_control::watch::{Event, Store, read};
use proptest::prelude::*;

/// One Service, number `index` of its cluster, with its slices; every endpoint's second octet is the number.
fn service(index: u8) -> impl Strategy<Value = Vec<String>> {
    let kind = prop_oneof![Just("ClusterIP"), Just("NodePort"), Just("LoadBalancer")];
    let policy = || prop_oneof![Just("Cluster"), Just("Local")];
    let slices = proptest::collection::vec(slice(index), 0..4);
    (kind, policy(), policy(), any::<bool>(), any::<bool>(), 0..4u8, slices).prop_map(
        move |(kind, internal, external, dual, affinity, address, slices)| {
            let clusters = if dual { format!("10.96.0.{index}, 'fd00::{index}'") } else { format!("10.96.0.{index}") };
            let mut service = format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: s{index}, namespace: n{}}}\nspec:\n  type: {kind}\n  \
                 clusterIPs: [{clusters}]\n  internalTrafficPolicy: {internal}\n  externalTrafficPolicy: {external}\n  \
                 sessionAffinity: {}\n  ports:\n    - {{name: a, port: 80, nodePort: 3{index:03}0}}\n    \
                 - {{name: b, port: 80, nodePort: 3{index:03}1, protocol: UDP}}\n",
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

fn objects(documents: &[String]) -> Vec<Sourced> {
    let mut objects = Vec::new();
    for document in documents {
        let reading = read("test.yaml", document.as_bytes());
        assert!(reading.mistakes.is_empty(), "{}\n{document}", reading.mistakes[0]);
        objects.extend(reading.objects);
    }
    objects
}

fn views() -> [View; 2] {
    [View::node("here"), View::balancer("balancer-1")]
}

fn program<'a>(objects: impl IntoIterator<Item = &'a Sourced>, view: &View) -> Program {
    compile(&validate(objects, Vec::new()).cluster, view).0
}

/// Program and notices as bytes.
fn bytes<'a>(objects: impl IntoIterator<Item = &'a Sourced>, view: &View) -> Vec<u8> {
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
                        Side::Pods => &[Side::Pods],
                        Side::Uplink => &[Side::Uplink],
                    };
                    for side in sides {
                        prop_assert!(
                            served.insert((*side, frontend.address, frontend.port, service.protocol)),
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
