//! Addresses of Services of type LoadBalancer, from real levee-control processes by a real API server, under the permissions that
//! `configs/kubernetes/base/allocator/rbac.yaml` grants: one that is missing fails these tests.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use levee_control::lease::Terms;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{Admin, Server, eventually, node, page, service, slice, status};

/// A levee-control that only assigns addresses.
struct Allocator {
    child: Child,
    socket: PathBuf,
    _directory: TempDir,
}

impl Allocator {
    fn start(server: &Server, more: &str) -> Allocator {
        Allocator::start_by(&server.kubeconfig("levee-allocator"), more)
    }

    fn start_by(kubeconfig: &Path, more: &str) -> Allocator {
        let directory = tempfile::tempdir().unwrap();
        let (config, socket) = (directory.path().join("control.yaml"), directory.path().join("control.sock"));
        let text = format!(
            "node: node-1\nsources: [{{kubernetes: {{kubeconfig: {}}}}}]\ndataplane: none\nallocate: {{}}\nsocket: {}\n{more}",
            kubeconfig.display(),
            socket.display()
        );
        std::fs::write(&config, text).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_levee-control"))
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(directory.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        Allocator { child, socket, _directory: directory }
    }

    fn leads(&self) -> bool {
        self.report().is_some_and(|report| report.leads)
    }

    fn report(&self) -> Option<levee_control::publish::Report> {
        status(&self.socket)?.allocator
    }

    /// As a machine that loses its power.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Allocator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pool(name: &str, addresses: &[&str]) -> Value {
    json!({"apiVersion": "levee.dev/v1alpha1", "kind": "AddressPool", "metadata": {"name": name},
        "spec": {"addresses": addresses}})
}

fn balanced(name: &str, annotations: &Value) -> Value {
    let mut service = service(name);
    service["spec"]["type"] = "LoadBalancer".into();
    service["metadata"]["annotations"] = annotations.clone();
    service
}

fn plain(name: &str) -> Value {
    balanced(name, &json!({}))
}

fn address(admin: &Admin, service: &Value) -> Option<String> {
    Some(admin.get(service)["status"]["loadBalancer"]["ingress"][0]["ip"].as_str()?.to_owned())
}

/// `Status Reason: message` of a condition.
fn condition(admin: &Admin, object: &Value, kind: &str) -> String {
    let object = admin.get(object);
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == kind);
    found.map_or_else(String::new, |found| {
        let word = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        format!("{} {}: {}", word("status"), word("reason"), word("message"))
    })
}

const ALLOCATED: &str = "levee.dev/AddressAllocated";

fn has_event(admin: &Admin, object: &Value, expected: &str) -> bool {
    admin.events(object).iter().any(|event| event.contains(expected))
}

#[test]
fn an_address_is_assigned_and_told_and_kept_over_a_restart_of_everything() {
    let Some(mut server) = Server::start() else { return };
    let admin = server.admin();
    admin.apply(&node("node-1", 1));
    let (web, public) = (plain("web"), pool("public", &["192.0.2.0/24"]));
    admin.apply(&web);
    admin.apply(&public);
    let allocator = Allocator::start(&server, "");
    eventually("an address", || address(&admin, &web).is_some());
    let has = address(&admin, &web).unwrap();

    let object = admin.get(&web);
    let ingress = &object["status"]["loadBalancer"]["ingress"];
    assert_eq!(ingress[0]["ports"], json!([{"port": 80, "protocol": "TCP"}]));
    assert_eq!(condition(&admin, &web, ALLOCATED), format!("True Allocated: {has} of AddressPool public"));
    for kind in ["levee.dev/Announced", "levee.dev/Programmed"] {
        let found = condition(&admin, &web, kind);
        assert!(!found.is_empty() && !found.starts_with("True"), "nobody announces it: {kind} {found}");
    }
    eventually("an event", || has_event(&admin, &web, &format!("Normal IPAllocated: Assigned IP [{has}]")));
    eventually("the pool's status", || {
        admin.get(&public)["status"]["ipv4"] == json!({"total": 256, "assigned": 1, "free": 253})
    });
    assert_eq!(condition(&admin, &public, "Accepted"), "True InForce: its spec is in force");
    assert_eq!(admin.get(&public)["status"]["inForce"]["addresses"], json!(["192.0.2.0/24"]));

    // A balancer announces it, as its Leases say: its heartbeat, and the address's.
    let lease = |name: &str| {
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": name, "namespace": "levee-system", "labels": {"levee.dev/lease": "any"},
                "annotations": {"levee.dev/ready": "true"}},
            "spec": {"holderIdentity": "b1_7", "leaseDurationSeconds": 3600}})
    };
    admin.apply(&lease("levee-balancer-b1"));
    admin.apply(&lease(&format!("levee-address-{}", has.replace('.', "-"))));
    let announced = format!("True Announced: {has} by b1");
    eventually("it is announced", || condition(&admin, &web, "levee.dev/Announced") == announced);
    assert!(condition(&admin, &web, "levee.dev/Programmed").starts_with("True"));
    eventually("an event", || {
        has_event(&admin, &web, "Normal nodeAssigned: announcing from node b1 with protocol layer2")
    });

    let page = page(&allocator.socket, "/metrics").unwrap();
    for expected in [
        "levee_control_allocator_leader 1",
        "levee_control_allocator_unassigned_services 0",
        "levee_control_allocator_writes_total{object=\"service\"}",
        "levee_control_pool_addresses{pool=\"public\",family=\"IPv4\",state=\"free\"} 253",
    ] {
        assert!(page.contains(expected), "{expected}\n{page}");
    }

    // Everything dies. What is there says enough: nothing is written, whoever comes.
    let versions = |admin: &Admin| {
        [&web, &public].map(|object| admin.get(object)["metadata"]["resourceVersion"].as_str().unwrap().to_owned())
    };
    let before = versions(&admin);
    allocator.kill();
    server.order("stop-api");
    server.order("start-api");
    let admin = server.admin();
    let allocator = Allocator::start(&server, "");
    // Its name comes before the other's.
    let first = plain("a");
    admin.apply(&first);
    eventually("another leader", || allocator.leads());
    eventually("a second address", || address(&admin, &first).is_some());
    assert_eq!(address(&admin, &web), Some(has.clone()));
    assert_eq!(versions(&admin)[0], before[0], "what is as it should be is not written");
    assert_ne!(address(&admin, &first), Some(has));
    assert_eq!(admin.events(&web).len(), 2, "nor told again: {:?}", admin.events(&web));
}

#[test]
fn requests_sharing_and_exhaustion() {
    let Some(server) = Server::start() else { return };
    let admin = server.admin();
    admin.apply(&pool("public", &["192.0.2.1-192.0.2.2"]));
    admin.apply(&pool("other", &["198.51.100.7"]));
    let _allocator = Allocator::start(&server, "");

    let asks = balanced("asks", &json!({"levee.dev/addresses": "192.0.2.2"}));
    admin.apply(&asks);
    eventually("what it asks for", || address(&admin, &asks).as_deref() == Some("192.0.2.2"));
    let from = balanced("from", &json!({"levee.dev/pool": "other"}));
    admin.apply(&from);
    eventually("the pool that it asks for", || address(&admin, &from).as_deref() == Some("198.51.100.7"));

    // Two share, a third has a port that one of them has.
    let shares = |name: &str, port: u16| {
        let mut service = balanced(name, &json!({"levee.dev/share-key": "k"}));
        service["spec"]["ports"] = json!([{"name": "a", "port": port}]);
        service
    };
    let (web, tls, again) = (shares("share-web", 80), shares("share-tls", 443), shares("share-again", 443));
    admin.apply(&web);
    admin.apply(&tls);
    for service in [&web, &tls] {
        eventually("a shared address", || address(&admin, service).as_deref() == Some("192.0.2.1"));
    }
    admin.apply(&again);
    eventually("it is full", || {
        condition(&admin, &again, ALLOCATED).starts_with("False PoolExhausted: every address of IPv4 is in use")
    });
    eventually("and told", || {
        has_event(&admin, &again, "Warning AllocationFailed: Failed to allocate IP for default/share-again")
    });
    assert_eq!(address(&admin, &again), None);

    // Another namespace is another key's.
    admin.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "theirs"}}));
    let mut theirs = shares("theirs", 8080);
    theirs["metadata"]["namespace"] = "theirs".into();
    theirs["metadata"]["annotations"]["levee.dev/addresses"] = "192.0.2.1".into();
    admin.apply(&theirs);
    eventually("denied", || condition(&admin, &theirs, ALLOCATED).contains("of another namespace"));
    let mut open = pool("public", &["192.0.2.1-192.0.2.2"]);
    open["spec"]["sharing"] = "Cluster".into();
    admin.apply(&open);
    eventually("allowed", || address(&admin, &theirs).as_deref() == Some("192.0.2.1"));

    // One goes, and whoever waits has its place.
    admin.delete(&asks);
    eventually("room", || address(&admin, &again).as_deref() == Some("192.0.2.2"));
    assert!(condition(&admin, &again, ALLOCATED).starts_with("True Allocated"));

    // What is no load balancer any more keeps nothing of that time.
    let mut other = service("from");
    other["spec"]["type"] = "ClusterIP".into();
    admin.apply(&other);
    eventually("its address is free", || {
        admin.get(&from)["status"]["loadBalancer"] == json!({}) && condition(&admin, &from, ALLOCATED).is_empty()
    });
}

#[test]
fn when_the_leader_is_killed_another_takes_over_within_the_leases_bound() {
    let Some(server) = Server::start() else { return };
    let admin = server.admin();
    admin.apply(&pool("public", &["192.0.2.0/24"]));
    let first = Allocator::start(&server, "");
    eventually("a leader", || first.leads());
    let second = Allocator::start(&server, "");
    eventually("a candidate", || second.report().is_some());
    let web = plain("web");
    admin.apply(&web);
    eventually("an address", || address(&admin, &web).is_some());
    assert!(!second.leads(), "one leads");
    let holds = address(&admin, &web);

    let killed = Instant::now();
    first.kill();
    let other = plain("other");
    admin.apply(&other);
    // The Lease runs out after `duration` from when the other has seen it change, `retry` at most before the kill; the other looks
    // every `retry`; then it lists, and writes.
    let terms = Terms::leader();
    let bound = terms.duration() + terms.retry() * 2 + Duration::from_secs(3);
    eventually("an address by the other", || address(&admin, &other).is_some());
    let took = killed.elapsed();
    eprintln!("taken over after {took:?}; the bound is {bound:?}");
    assert!(took <= bound, "{took:?}");
    assert!(second.leads());
    assert_eq!(address(&admin, &web), holds);
    assert_ne!(address(&admin, &other), holds);

    // One that is told to stop gives its Lease back: nobody waits for it to run out.
    let third = Allocator::start(&server, "");
    eventually("a candidate", || third.report().is_some());
    let told = Instant::now();
    let id = second.child.id().to_string();
    assert!(Command::new("kill").arg("-TERM").arg(id).status().unwrap().success());
    eventually("another leader", || third.leads());
    assert!(told.elapsed() < terms.duration() / 2, "{:?}", told.elapsed());
}

#[test]
fn wrong_and_hostile_objects_are_refused_each_by_itself_with_an_event() {
    let Some(server) = Server::start() else { return };
    let admin = server.admin();
    admin.apply(&node("node-1", 1));
    let (public, good) = (pool("public", &["192.0.2.0/24"]), plain("good"));
    admin.apply(&public);
    admin.apply(&good);
    let allocator = Allocator::start(&server, "");
    eventually("an address", || address(&admin, &good).is_some());
    let has = address(&admin, &good);

    // A pool's change that is wrong in form, in sense, and in another's way: what was good last stays in force.
    admin.apply(&pool("second", &["198.51.100.0/24"]));
    for (addresses, expected) in [
        (json!(["192.0.2.9-192.0.2.1"]), "ends before it begins"),
        (json!(["127.0.0.1"]), "a loopback address"),
        (json!(["172.16.0.1"]), "an address of Node node-1"),
        (json!(["198.51.100.7"]), "overlaps 198.51.100.0-198.51.100.255 of AddressPool second"),
    ] {
        let mut bad = public.clone();
        bad["spec"]["addresses"] = addresses;
        admin.apply(&bad);
        eventually(expected, || {
            let accepted = condition(&admin, &public, "Accepted");
            accepted.starts_with("False Refused") && accepted.contains(expected) && accepted.contains("stays in force")
        });
        eventually("an event", || {
            admin.events(&public).iter().any(|event| event.contains("Warning Refused") && event.contains(expected))
        });
        assert_eq!(address(&admin, &good), has);
        assert_eq!(admin.get(&public)["status"]["inForce"]["addresses"], json!(["192.0.2.0/24"]));
    }
    // … and after a restart, too: a new Service gets an address of what was good last.
    allocator.kill();
    let allocator = Allocator::start(&server, "");
    let late = plain("late");
    admin.apply(&late);
    eventually("an address", || address(&admin, &late).is_some_and(|address| address.starts_with("192.0.2.")));
    assert_eq!(allocator.report().unwrap().refused_pools, 1);
    admin.apply(&public);
    eventually("it is mended", || condition(&admin, &public, "Accepted").starts_with("True"));

    // Requests that make no sense.
    for (name, asked, field, expected) in [
        ("text", "\u{202e}anything", None, "InvalidRequest: annotation `levee.dev/addresses`: "),
        ("nodes", "172.16.0.1", None, "AddressInNoPool: 172.16.0.1 is in no AddressPool"),
        ("taken", has.as_deref().unwrap(), None, "AddressInUse: "),
        ("both", "192.0.2.77", Some("192.0.2.77"), "InvalidRequest: it has both"),
    ] {
        let mut wrong = balanced(name, &json!({"levee.dev/addresses": asked}));
        if let Some(field) = field {
            wrong["spec"]["loadBalancerIP"] = field.into();
        }
        admin.apply(&wrong);
        eventually(name, || condition(&admin, &wrong, ALLOCATED).starts_with(&format!("False {expected}")));
        eventually("an event", || admin.events(&wrong).iter().any(|event| event.starts_with("Warning ")));
        assert_eq!(address(&admin, &wrong), None);
    }

    // Objects that are no load balancer's: refused in form, and in sense.
    let mut form = slice("form", &["10.244.1.12"]);
    form["ports"][0]["port"] = "everything".into();
    let sense = slice("sense", &["127.0.0.1"]);
    for (object, expected) in [(&form, "ports[0].port"), (&sense, "127.0.0.1")] {
        admin.apply(object);
        eventually(expected, || {
            admin.events(object).iter().any(|event| event.contains("Refused") && event.contains(expected))
        });
        assert_eq!(admin.events(object).len(), 1);
    }

    // Somebody writes what only the leader should: it is put right, and nobody else has moved.
    let theft = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "thief", "namespace": "default"},
        "spec": {"type": "LoadBalancer", "ports": [{"name": "a", "port": 80}]},
        "status": {"loadBalancer": {"ingress": [{"ip": has}]}}});
    admin.apply(&theft);
    eventually("another address", || address(&admin, &theft).is_some_and(|address| Some(address) != has));
    assert_eq!(address(&admin, &good), has);
}

#[test]
fn what_is_not_ours_is_not_touched() {
    let Some(server) = Server::start() else { return };
    let admin = server.admin();
    admin.apply(&pool("public", &["192.0.2.0/24"]));
    // This server has no `loadBalancerClass`; where one is required, a Service without one is as much another's.
    let theirs = plain("theirs");
    let cluster_ip = service("inside");
    for object in [&theirs, &cluster_ip] {
        admin.apply(object);
    }
    let allocator = Allocator::start(&server, "load_balancer_class_required: true\n");
    let before: Vec<Value> = [&theirs, &cluster_ip].map(|object| admin.get(object)).into();
    eventually("it leads", || allocator.leads());
    eventually("it works", || condition(&admin, &pool("public", &[]), "Accepted").starts_with("True"));
    std::thread::sleep(Duration::from_secs(1));
    let after: Vec<Value> = [&theirs, &cluster_ip].map(|object| admin.get(object)).into();
    assert_eq!(before, after, "no address, no condition, nothing");
    assert_eq!(admin.events(&theirs), [""; 0]);
}

#[test]
fn the_allocator_may_do_what_it_does_and_no_more() {
    let Some(server) = Server::start() else { return };
    let admin = server.admin();
    let web = plain("web");
    admin.apply(&web);
    let allocator = Admin::new(&server.kubeconfig("levee-allocator"));
    let code = |result: kube::Result<()>| match result.unwrap_err() {
        kube::Error::Api(status) => status.code,
        error => panic!("{error}"),
    };
    let patch = kube::api::Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
    let api = allocator.api(&web);
    assert_eq!(code(allocator.block_on(api.patch("web", &Default::default(), &patch)).map(drop)), 403);
    assert_eq!(code(allocator.block_on(api.delete("web", &Default::default())).map(drop)), 403);
    let lease = |namespace: &str, name: &str| json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name, "namespace": namespace}});
    for lease in [lease("levee-system", "another"), lease("kube-system", "levee-allocator")] {
        let name = lease["metadata"]["name"].as_str().unwrap();
        assert_eq!(code(allocator.block_on(allocator.api(&lease).get(name)).map(drop)), 403);
    }
    // Without a permission it says so, and nothing is assigned.
    admin.apply(&pool("public", &["192.0.2.0/24"]));
    let helpless = Allocator::start_by(&server.kubeconfig("levee-node"), "");
    eventually("it is there", || helpless.report().is_some());
    std::thread::sleep(Duration::from_secs(3));
    assert!(!helpless.leads());
    assert_eq!(address(&admin, &web), None);
}
