//! What no well-behaved station sends, into a running dataplane: it goes on, and every frame is accounted for.

use std::fs;
use std::path::Path;

use levee_api::net::Mac;
use levee_tests::Scene;
use levee_tests::inject::Injector;
use levee_tests::levee::{Dataplane, Take, at};
use levee_tests::traffic::{EchoServer, connect_many};

/// Each frame of `tests/fixtures/frames`, whole, and cut at every length.
fn frames() -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/frames");
    let files = fs::read_dir(&directory).expect("fixtures are there").flatten().map(|entry| entry.path());
    let mut all = Vec::new();
    for path in files.filter(|path| path.extension().is_some_and(|ending| ending == "bin")) {
        let whole = fs::read(&path).expect("a fixture can be read");
        // Beyond the headers one cut is like another.
        all.extend((0..whole.len().min(120)).map(|length| whole[..length].to_vec()));
        all.push(whole);
    }
    assert!(all.len() > 1000, "only {} frames of fixtures", all.len());
    all
}

/// Every frame that came in has ended in exactly one way.
fn is_accounted_for(dataplane: &Dataplane) -> bool {
    let count = |name| dataplane.counter(name);
    let ended: u64 = ["forwarded", "hairpinned", "passed", "dropped"].map(count).iter().sum();
    let drops = dataplane.get("/v1/counters")["drops"].clone();
    let by_reason: u64 = drops.as_object().into_iter().flatten().filter_map(|(_, frames)| frames.as_u64()).sum();
    count("rx") == ended && by_reason == count("dropped")
}

fn survives(take: Take) {
    let Some(mut scene) = Scene::start(&[1, 1], take) else { return };
    let (client, server) = (scene.nodes[0].pods()[0].clone(), scene.nodes[1].pods()[0].clone());
    let _echo = EchoServer::start(&server.namespace, 7);
    let attacker = scene.host("attacker", 201);
    let from_fabric = Injector::new(&attacker.namespace, "eth0");
    let from_pod = Injector::new(&client.namespace, "eth0");
    let node_mac = scene.nodes[0].wire().mac;
    let levee0 = scene.nodes[0].namespace().run("cat /sys/class/net/levee0/address");
    let levee0 = levee0.trim().parse::<Mac>().expect("an interface has a MAC");
    let before = scene.dataplanes[0].counter("rx");
    let mut sent = 0u64;
    for frame in frames() {
        for (injector, mac) in [(&from_fabric, node_mac), (&from_pod, levee0)] {
            // As it is, and addressed to levee.
            let mut addressed = frame.clone();
            if let Some(destination) = addressed.get_mut(..6) {
                destination.copy_from_slice(&mac.0);
            }
            sent += u64::from(injector.try_send(&frame)) + u64::from(injector.try_send(&addressed));
        }
    }
    assert!(sent > 2000, "only {sent} frames could be sent");
    scene.dataplanes[0].wait_for("every frame accounted for", is_accounted_for);
    let received = scene.dataplanes[0].counter("rx") - before;
    assert!(received > sent / 10, "{received} of {sent} came in: {}", scene.dataplanes[0].counters());
    let outcome = connect_many(&client.namespace, at(server.address, 7), 50);
    assert_eq!(outcome.succeeded, 50, "{outcome}\n{}", scene.dataplanes[0].counters());
    assert!(scene.dataplanes[0].daemon.is_running());
    assert_eq!(scene.dataplanes[0].request("GET", "/v1/health", None).0, 200);
}

#[test]
fn a_node_survives_every_fixture_and_every_cut_of_it() {
    survives(Take::Owned);
}

#[test]
fn a_node_that_takes_everything_survives_them_too() {
    survives(Take::All);
}
