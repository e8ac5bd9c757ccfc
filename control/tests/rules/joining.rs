//! Rules 1–16: what is watched, and how it is joined.

use levee_api::net::{Family, Protocol};
use levee_api::program::Pool;
use levee_control::compile::{View, compile};
use levee_control::model::{ObjectName, validate};
use levee_control::watch::{Event, Store, read};

use crate::common::*;

#[test]
fn rule_01_services_of_another_proxy_are_skipped() {
    let label = "labels: {service.kubernetes.io/service-proxy-name: other}";
    assert!(on_node(&named_web(label, "", "")).program.services.is_empty());
    // The label decides, whatever its value.
    let label = "labels: {service.kubernetes.io/service-proxy-name: ''}";
    assert!(on_node(&named_web(label, "", "")).program.services.is_empty());
    assert_eq!(on_node(&web("")).program.services.len(), 1);
}

#[test]
fn rule_02_slices_of_headless_services_are_skipped() {
    let labels = "kubernetes.io/service-name: web, service.kubernetes.io/headless: ''";
    let headless = slice_with("s", "IPv4", labels, "{name: http, port: 8080}", &["10.244.1.1"]);
    let compiled = on_node(&(web("") + &headless));
    assert!(compiled.service("default/web:http").backends.is_empty());
}

#[test]
fn rule_03_external_names_and_headless_services_are_skipped() {
    for spec in ["type: ExternalName\nexternalName: a.example\nclusterIP: ''", "clusterIP: None", "clusterIP: ''"] {
        let compiled = on_node(&web(spec));
        assert!(compiled.program.services.is_empty() && compiled.program.vips.is_empty(), "{spec}");
    }
    assert!(on_node(&web("clusterIP: ''")).tells("Service default/web", "no `clusterIP` yet"));
}

#[test]
fn rule_04_each_family_has_the_cluster_ip_in_its_place() {
    let dual = "clusterIP: fd00::10\nclusterIPs: [fd00::10, 10.96.0.10]\nipFamilies: [IPv6, IPv4]";
    let compiled = on_node(&web(dual));
    let address = |family| {
        compiled.find("default/web:http", Protocol::Tcp, family).map(|service| service.frontends[0].address.to_string())
    };
    assert_eq!(address(Family::Ipv4).as_deref(), Some("10.96.0.10"));
    assert_eq!(address(Family::Ipv6).as_deref(), Some("fd00::10"));
    // No address in a family's place: the Service does not exist in it.
    let compiled = on_node(&web("clusterIPs: [10.96.0.10]\nipFamilies: [IPv4, IPv6]"));
    assert!(compiled.find("default/web:http", Protocol::Tcp, Family::Ipv6).is_none());
    // A file written by hand has the one field only.
    assert_eq!(on_node(&web("clusterIP: fd00::10")).program.services[0].family, Family::Ipv6);
}

#[test]
fn rule_05_port_name_and_protocol_join_service_and_slice() {
    let dns = web(
        "ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}, {name: http, port: 80}]",
    );
    // Two slices give one name different numbers; `other` is nobody's; `dns` of TCP is no port of the Service.
    let one = slice_with(
        "one",
        "IPv4",
        "kubernetes.io/service-name: web",
        "{name: dns, port: 5353, protocol: UDP}, {name: http, port: 8080}, {name: other, port: 1}, {name: dns, port: 9}",
        &["10.244.1.1"],
    );
    let two = slice_with(
        "two",
        "IPv4",
        "kubernetes.io/service-name: web",
        "{name: http, port: 9090, protocol: TCP}",
        &["10.244.1.2"],
    );
    let compiled = on_node(&(dns + &one + &two));
    assert_eq!(compiled.pool(Pool::Cluster), ["10.244.1.1:8080", "10.244.1.2:9090"]);
    let udp = compiled.find("default/web:dns", Protocol::Udp, Family::Ipv4).expect("dns");
    assert_eq!(backends(udp, |_| true), ["10.244.1.1:5353"]);
    assert!(compiled.service("default/web:dns-tcp").backends.is_empty());
}

#[test]
fn rule_05_a_port_without_a_name_is_joined_by_the_empty_name() {
    let service = web("ports: [{port: 80}]");
    let slice = slice_with("s", "IPv4", "kubernetes.io/service-name: web", "{name: '', port: 8080}", &["10.244.1.1"]);
    let compiled = on_node(&(service + &slice));
    // Named as kube-proxy names it.
    assert_eq!(backends(compiled.service("default/web"), |_| true), ["10.244.1.1:8080"]);
}

#[test]
fn rule_05_a_service_of_another_namespace_is_another() {
    let compiled =
        on_node(&(web("") + &slice("s", &["10.244.1.1"]).replace("name: s\n", "name: s\n  namespace: other\n")));
    assert!(compiled.service("default/web:http").backends.is_empty());
}

#[test]
fn rule_06_a_slice_without_its_label_is_ignored_and_reported() {
    let compiled =
        on_node(&(web("") + &slice_with("s", "IPv4", "app: web", "{name: http, port: 8080}", &["10.244.1.1"])));
    assert!(compiled.service("default/web:http").backends.is_empty());
    assert!(compiled.tells("EndpointSlice default/s", "kubernetes.io/service-name"));
}

#[test]
fn rule_07_slices_of_another_family_or_of_names_are_ignored() {
    let label = "kubernetes.io/service-name: web";
    let port = "{name: http, port: 8080}";
    let v6 = slice_with("six", "IPv6", label, port, &["fd00:1::1"]);
    let names = slice_with("names", "FQDN", label, port, &["a.example"]);
    let v4 = slice("four", &["10.244.1.1"]);
    let compiled = on_node(&(web("") + &v6 + &names + &v4));
    assert_eq!(compiled.pool(Pool::Cluster), ["10.244.1.1:8080"]);
    let dual = web("clusterIPs: [10.96.0.10, fd00::10]\nipFamilies: [IPv4, IPv6]");
    let compiled = on_node(&(dual + &v6 + &names + &v4));
    let six = compiled.find("default/web:http", Protocol::Tcp, Family::Ipv6).expect("IPv6");
    assert_eq!(backends(six, |_| true), ["[fd00:1::1]:8080"]);
}

#[test]
fn rule_08_slice_ports_without_name_or_number_are_ignored() {
    let service = web("ports: [{port: 80}]");
    let label = "kubernetes.io/service-name: web";
    for port in ["{port: 8080}", "{name: '', port: 0}", "{name: ''}", "{name: '', port: null}"] {
        let compiled = on_node(&(service.clone() + &slice_with("s", "IPv4", label, port, &["10.244.1.1"])));
        assert!(compiled.service("default/web").backends.is_empty(), "{port}");
        assert!(compiled.tells("EndpointSlice default/s", "ignored"), "{port}");
    }
}

#[test]
fn rule_09_only_the_first_address_counts() {
    let slice = slice("s", &["10.244.1.1", "10.244.1.3"])
        .replace("['10.244.1.1']", "['10.244.1.1', '10.244.1.2']")
        .replace("['10.244.1.3']", "[]");
    assert_eq!(on_node(&(web("") + &slice)).pool(Pool::Cluster), ["10.244.1.1:8080"]);
}

#[test]
fn rule_10_absent_conditions_mean_ready_serving_and_not_terminating() {
    // Ready, because the condition is absent.
    let ready = slice("s", &["10.244.1.1 serving=true", "10.244.1.2 ready=false"]);
    assert_eq!(on_node(&(web("") + &ready)).pool(Pool::Cluster), ["10.244.1.1:8080"]);
    // `conditions: null`, as Go writes an empty structure.
    let null = slice("s", &["10.244.1.1"]).replace("conditions: {}", "conditions: null");
    assert_eq!(on_node(&(web("") + &null)).pool(Pool::Cluster), ["10.244.1.1:8080"]);
    // Serving, because the condition is absent: the last resort of rule 18.
    let serving = slice("s", &["10.244.1.1 ready=false terminating=true"]);
    assert_eq!(on_node(&(web("") + &serving)).pool(Pool::Cluster), ["10.244.1.1:8080"]);
    // Not terminating, because the condition is absent: no resort.
    let not_terminating = slice("s", &["10.244.1.1 ready=false serving=true"]);
    assert!(on_node(&(web("") + &not_terminating)).pool(Pool::Cluster).is_empty());
}

#[test]
fn rule_11_of_two_accounts_of_one_endpoint_the_one_not_terminating_wins() {
    let going = ["10.244.1.1 ready=false serving=true terminating=true"];
    // Another one that is ready, or the last resort of rule 18 would take the one that is going.
    let staying = ["10.244.1.1 ready=true", "10.244.1.2 ready=true"];
    for (first, second) in [(&going[..], &staying[..]), (&staying[..], &going[..])] {
        let compiled = on_node(&(web("") + &slice("a", first) + &slice("b", second)));
        assert_eq!(compiled.pool(Pool::Cluster), ["10.244.1.1:8080", "10.244.1.2:8080"]);
        assert_eq!(compiled.service("default/web:http").backends.len(), 2);
    }
}

#[test]
fn rule_12_local_is_what_names_this_node() {
    let spec = "internalTrafficPolicy: Local";
    let endpoints = slice("s", &["10.244.1.1 here", "10.244.2.1 there", "10.244.3.1"]);
    assert_eq!(on_node(&(web(spec) + &endpoints)).pool(Pool::Local), ["10.244.1.1:8080"]);
}

#[test]
fn rule_13_the_same_state_gives_the_same_bytes() {
    let documents = [
        web("type: NodePort"),
        slice("a", &["10.244.1.2 here", "10.244.1.1 here"]),
        slice("b", &["10.244.2.1 there"]),
        HERE.to_owned(),
    ];
    let reversed: String = documents.iter().rev().map(String::as_str).collect();
    let bytes = |yaml: &str| serde_json::to_vec(&on_node(yaml).program).expect("json");
    assert_eq!(bytes(&documents.concat()), bytes(&reversed));
}

/// What a store makes of a sequence of events, compiled.
fn backends_of(store: &Store) -> Vec<String> {
    let validation = validate(store.objects(), store.notices());
    let (program, _) = compile(&validation.cluster, &View::node("here"));
    program.services.iter().flat_map(|service| backends(service, |_| true)).collect()
}

fn objects(yaml: &str) -> Vec<Event> {
    read("test.yaml", yaml.as_bytes()).objects.into_iter().map(|object| Event::Listed(Box::new(object))).collect()
}

fn list(store: &mut Store, source: usize, yaml: &str) {
    store.handle(source, Event::ListBegins);
    for event in objects(yaml) {
        store.handle(source, event);
    }
    store.handle(source, Event::ListComplete);
}

#[test]
fn rule_14_an_endpoint_that_moves_between_slices_never_vanishes() {
    let mut store = Store::new(1);
    list(&mut store, 0, &(web("") + &slice("a", &["10.244.1.1"]) + &slice("b", &["10.244.1.2"])));
    // The controller adds it to the one before it takes it out of the other, and it is one endpoint meanwhile.
    let steps =
        [slice("b", &["10.244.1.1", "10.244.1.2"]), slice("a", &[]).replace("endpoints:\n", "endpoints: null\n")];
    for step in steps {
        for event in objects(&step) {
            if let Event::Listed(object) = event {
                store.handle(0, Event::Changed(object));
            }
        }
        assert_eq!(backends_of(&store), ["10.244.1.1:8080", "10.244.1.2:8080"]);
    }
}

#[test]
fn rule_15_nothing_is_whole_before_every_source_is_and_a_new_list_replaces_the_old_at_once() {
    let mut store = Store::new(2);
    list(&mut store, 0, &web(""));
    assert!(!store.is_complete(), "EndpointSlices have not been listed yet");
    list(&mut store, 1, &slice("a", &["10.244.1.1"]));
    assert!(store.is_complete());
    // A list anew, after 410: until it is complete, nothing has changed.
    assert!(!store.handle(1, Event::ListBegins));
    assert_eq!(backends_of(&store), ["10.244.1.1:8080"]);
    for event in objects(&slice("a", &["10.244.1.1", "10.244.1.2"])) {
        assert!(!store.handle(1, event));
        assert_eq!(backends_of(&store), ["10.244.1.1:8080"]);
    }
    assert!(store.handle(1, Event::ListComplete));
    assert_eq!(backends_of(&store), ["10.244.1.1:8080", "10.244.1.2:8080"]);
    // A list that fails on its way changes nothing either.
    store.handle(1, Event::ListBegins);
    store.handle(1, Event::Failed(Vec::new()));
    store.handle(1, Event::ListComplete);
    assert_eq!(backends_of(&store), ["10.244.1.1:8080", "10.244.1.2:8080"]);
}

#[test]
fn rule_16_a_burst_ends_where_its_last_state_does() {
    let mut store = Store::new(1);
    list(&mut store, 0, &web(""));
    for round in 0..100 {
        let address = format!("10.244.1.{}", round % 7 + 1);
        for event in objects(&slice("a", &[&address])) {
            if let Event::Listed(object) = event {
                store.handle(0, Event::Changed(object));
            }
        }
    }
    let once = on_node(&(web("") + &slice("a", &["10.244.1.2"])));
    assert_eq!(backends_of(&store), once.pool(Pool::Cluster));
}

#[test]
fn names_join_within_a_namespace() {
    let cluster = cluster(&(web("") + &slice("a", &["10.244.1.1"])));
    let name = ObjectName { namespace: "default".to_owned(), name: "web".to_owned() };
    assert_eq!(cluster.slices(&name).count(), 1);
}
