//! levee-control's sources against a real kube-apiserver and etcd: TLS, RBAC, watches, 410 are the real thing.
//!
//! Each test has a server of its own (`scripts/kube-apiserver`, some 3 s), and watches it as one of the ServiceAccounts that
//! `configs/kubernetes/install.yaml` makes: a permission that is missing there fails these tests. Where no server was built
//! they say SKIPPED, loudly; with `LEVEE_KUBE_REQUIRED` set they fail. `LEVEE_TEST_KUBECONFIG` names another cluster, which is
//! then watched once, and only read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod addresses;
mod common;
mod deploy;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use common::{Admin, Server, Watched, Wire, eventually, node, page, service, slice, status};
use futures_util::StreamExt as _;
use levee_control::compile::View;
use serde_json::json;

fn view() -> View {
    View::node("node-1")
}

/// A node, and Services with endpoints.
fn fill(admin: &Admin, services: &[&str]) {
    admin.apply(&node("node-1", 1));
    for name in services {
        admin.apply(&service(name));
        admin.apply(&slice(name, &["10.244.1.10", "10.244.1.11"]));
    }
}

#[test]
fn rule_15_the_first_sync_is_what_the_same_objects_in_files_are() {
    let Some(server) = Server::start() else { return };
    let admin = server.admin();
    fill(&admin, &["web", "other"]);
    admin.apply(&node("node-2", 2));
    let mut balanced = service("balanced");
    balanced["spec"]["type"] = "LoadBalancer".into();
    balanced["spec"]["externalTrafficPolicy"] = "Local".into();
    balanced["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.80"}]}});
    admin.apply(&balanced);
    admin.apply(&slice("balanced", &["10.244.1.20"]));
    let pod = |name: &str, node: &str, address: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
            "spec": {"nodeName": node, "containers": [{"name": "a", "image": "a"}]},
            "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}})
    };
    admin.apply(&pod("here", "node-1", "10.99.0.1"));
    admin.apply(&pod("there", "node-2", "10.99.0.2"));
    admin.apply(&json!({"apiVersion": "levee.dev/v1alpha1", "kind": "AddressPool", "metadata": {"name": "a"},
        "spec": {"addresses": ["192.0.2.0/24"]}}));

    let watched = Watched::new(&server.kubeconfig("levee-node"), view());
    eventually("every kind was listed", || watched.is_complete());
    let program = watched.compiled().unwrap().0;
    assert_eq!(program, admin.program_of_files(&view()));
    // … and that is not nothing.
    assert_eq!(watched.backends("default/web:http").unwrap(), ["10.244.1.10", "10.244.1.11"]);
    assert!(program.vips.iter().any(|vip| vip.address.to_string() == "192.0.2.80"), "{:?}", program.vips);
    let pods: Vec<String> = program.local.pods.iter().map(|pod| pod.address.to_string()).collect();
    assert_eq!(pods, ["10.99.0.1"], "this node's pods alone");
    assert_eq!(watched.failures(), [""; 0]);
}

#[test]
fn changes_arrive_and_deletions_too() {
    let Some(server) = Server::start() else { return };
    let admin = server.admin();
    fill(&admin, &["web", "other"]);
    let watched = Watched::new(&server.kubeconfig("levee-node"), view());
    eventually("the first sync", || watched.backends("default/web:http").is_some());
    admin.apply(&slice("web", &["10.244.1.11"]));
    eventually("one endpoint less", || watched.backends("default/web:http").unwrap() == ["10.244.1.11"]);
    admin.delete(&service("other"));
    eventually("one Service less", || watched.backends("default/other:http").is_none());
    fill(&admin, &["third"]);
    eventually("a new Service", || watched.backends("default/third:http").is_some_and(|all| all.len() == 2));
    assert_eq!(watched.compiled().unwrap().0, admin.program_of_files(&view()));
    assert_eq!(watched.lists("services"), 1, "watched, not listed again");
}

#[test]
fn rule_16_a_burst_of_a_thousand_changes_ends_in_the_right_program() {
    let Some(server) = Server::start() else { return };
    let admin = server.admin();
    let names: Vec<String> = (0..50).map(|number| format!("s{number}")).collect();
    fill(&admin, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let watched = Watched::new(&server.kubeconfig("levee-node"), view());
    eventually("the first sync", || watched.is_complete());
    // Twenty changes of each of fifty slices; those of one slice one after another, those of different ones at once.
    admin.block_on(futures_util::stream::iter(&names).for_each_concurrent(16, async |name| {
        for change in 0..20 {
            admin.apply_async(&slice(name, &[format!("10.244.1.{}", 20 + change).as_str()])).await;
        }
    }));
    for name in &names {
        let service = format!("default/{name}:http");
        eventually("the last state", || watched.backends(&service).unwrap() == ["10.244.1.39"]);
    }
    assert_eq!(watched.compiled().unwrap().0, admin.program_of_files(&view()));
    assert_eq!(watched.failures(), [""; 0]);
}

#[test]
fn rule_15_nothing_is_lost_or_vanishes_when_history_was_compacted() {
    let Some(mut server) = Server::start() else { return };
    let admin = server.admin();
    fill(&admin, &["stays", "goes"]);
    let wire = Wire::to(&server.kubeconfig("levee-node"));
    let watched = Watched::new(&wire.kubeconfig, view());
    eventually("the first sync", || watched.backends("default/goes:http").is_some());
    assert_eq!(watched.lists("services"), 1);
    watched.keep_an_eye_on("Service default/stays");
    watched.keep_an_eye_on("EndpointSlice default/stays-1");

    wire.cut();
    admin.delete(&service("goes"));
    admin.delete(&slice("goes", &[]));
    fill(&admin, &["comes"]);
    admin.apply(&slice("stays", &["10.244.1.12"]));
    // Neither etcd nor the API server's cache knows any more what happened.
    server.order("compact");
    server.order("stop-api");
    server.order("start-api");
    eventually("it is told", || {
        watched.failures().iter().any(|failure| failure.contains("services cannot be watched"))
    });
    assert!(watched.backends("default/goes:http").is_some(), "the last good state goes on");
    wire.mend();

    eventually("what came", || watched.backends("default/comes:http").is_some_and(|all| all.len() == 2));
    eventually("what changed", || watched.backends("default/stays:http").unwrap() == ["10.244.1.12"]);
    eventually("what went", || watched.backends("default/goes:http").is_none());
    eventually("all is well", || watched.failures().is_empty());
    assert!(watched.lists("services") >= 2, "it was 410, so all were listed anew");
    assert!(watched.was_always_there("Service default/stays"));
    assert!(watched.was_always_there("EndpointSlice default/stays-1"));
    assert_eq!(watched.compiled().unwrap().0, server.admin().program_of_files(&view()));
}

#[test]
fn the_api_server_may_go_away_and_come_back() {
    let Some(mut server) = Server::start() else { return };
    let admin = server.admin();
    fill(&admin, &["web"]);
    // The daemon itself; that it has no dataplane does not matter here.
    let directory = tempfile::tempdir().unwrap();
    let (config, socket) = (directory.path().join("control.yaml"), directory.path().join("control.sock"));
    let text = format!(
        "node: node-1\nsources: [{{kubernetes: {{kubeconfig: {}}}}}]\ndataplane: {}/none.sock\nsocket: {}\n",
        server.kubeconfig("levee-node").display(),
        directory.path().display(),
        socket.display()
    );
    std::fs::write(&config, text).unwrap();
    let mut control = Command::new(env!("CARGO_BIN_EXE_levee-control"))
        .arg("--config")
        .arg(&config)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let ask = || status(&socket).unwrap();
    // A kind that this server does not have is asked for every 30 s only.
    let failing = || -> Vec<Option<u64>> {
        let sources = ask().sources.into_iter().filter(|source| !source.name.ends_with("servicecidrs"));
        sources.map(|source| source.failing_seconds).collect()
    };
    eventually("the first sync", || status(&socket).is_some_and(|status| status.backends == 2));

    server.order("stop-api");
    eventually("it is stale", || failing().iter().all(Option::is_some));
    eventually("and says for how long", || failing().iter().all(|seconds| *seconds >= Some(2)));
    let stale = ask();
    assert_eq!((stale.services > 0, stale.backends), (true, 2), "the last good state is in force");
    assert!(!stale.health.healthy && stale.sources.iter().all(|source| source.complete));
    // A probe must not end it for that, and what is missing is not the API server's.
    assert_eq!(page(&socket, "/livez"), Some("ok\n".to_owned()));
    let missing = page(&socket, "/readyz").unwrap();
    assert!(missing.starts_with("the dataplane at ") && missing.lines().count() == 1, "{missing}");

    server.order("start-api");
    server.admin().apply(&slice("web", &["10.244.1.13"]));
    eventually("it catches up", || ask().backends == 1);
    eventually("nothing is stale", || failing().iter().all(Option::is_none));
    assert!(ask().mistakes.iter().all(|mistake| mistake.message.contains("servicecidrs")), "{:?}", ask().mistakes);
    control.kill().unwrap();
    control.wait().unwrap();
}

#[test]
fn what_is_not_permitted_is_told_and_no_more_is_permitted_than_is_used() {
    let Some(server) = Server::start() else { return };
    let watched = Watched::new(&server.kubeconfig("nobody"), view());
    eventually("every kind is forbidden that the server has", || watched.failures().len() >= 5);
    assert!(!watched.is_complete());
    for failure in watched.failures() {
        assert!(failure.contains("forbidden") && failure.contains("install.yaml"), "{failure}");
    }
    let levee = Admin::new(&server.kubeconfig("levee-node"));
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "default"}});
    let code = |result: kube::Result<()>| match result.unwrap_err() {
        kube::Error::Api(status) => status.code,
        error => panic!("{error}"),
    };
    assert_eq!(code(levee.block_on(levee.api(&secret).list(&Default::default())).map(drop)), 403);
    let object = serde_json::from_value(service("mine")).unwrap();
    assert_eq!(code(levee.block_on(levee.api(&service("mine")).create(&Default::default(), &object)).map(drop)), 403);
}

#[test]
fn a_hostile_object_is_refused_by_itself() {
    let Some(server) = Server::start() else { return };
    let admin = server.admin();
    fill(&admin, &["web", "form", "sense"]);
    // Listed …
    let mut form = slice("form", &["10.244.1.12"]);
    form["ports"][0]["port"] = "everything".into();
    admin.apply(&form);
    let watched = Watched::new(&server.kubeconfig("levee-node"), view());
    eventually("the first sync", || watched.backends("default/web:http").is_some_and(|all| all.len() == 2));
    // … and changed while it is watched: an address that no endpoint may have.
    admin.apply(&slice("sense", &["127.0.0.1"]));
    for (name, expected) in [("form", "ports[0].port"), ("sense", "127.0.0.1")] {
        let about = format!("EndpointSlice default/{name}-1: ");
        eventually(name, || {
            watched.notices().iter().any(|notice| notice.starts_with(&about) && notice.contains(expected))
        });
        let told: Vec<_> = watched.notices().into_iter().filter(|notice| notice.starts_with(&about)).collect();
        assert!(told[0].contains("refused"), "{told:?}");
        assert_eq!(watched.backends(&format!("default/{name}:http")).unwrap(), [""; 0]);
    }
    assert_eq!(watched.backends("default/web:http").unwrap().len(), 2, "others are unaffected");
    assert_eq!(watched.failures(), [""; 0]);
    // Mended, it counts again, and nothing is said of it any more.
    admin.apply(&slice("form", &["10.244.1.12"]));
    eventually("it counts again", || watched.backends("default/form:http").unwrap() == ["10.244.1.12"]);
    assert!(!watched.notices().iter().any(|notice| notice.contains("form-1")), "{:?}", watched.notices());
}

#[test]
fn another_cluster_is_read_completely() {
    let Some(kubeconfig) = std::env::var_os("LEVEE_TEST_KUBECONFIG").map(PathBuf::from) else {
        eprintln!("SKIPPED: LEVEE_TEST_KUBECONFIG names no cluster");
        return;
    };
    let watched = Watched::new(&kubeconfig, view());
    eventually("every kind was listed", || watched.is_complete());
    assert_eq!(watched.failures(), [""; 0]);
    let admin = Admin::new(&kubeconfig);
    eventually("as from files", || watched.compiled().unwrap().0 == admin.program_of_files(&view()));
}
