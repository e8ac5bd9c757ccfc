use std::collections::BTreeMap;
use std::sync::Arc;

use levee_control::allocate::allocate;
use levee_control::model::{Balanced, Held, Origin, Sourced, validate};
use levee_control::publish::plan::{Announcer, Announcers, Status, Target, Write, plan};
use levee_control::watch::read;
use serde_json::json;

const NOW: &str = "2026-11-20T09:00:00Z";
const LATER: &str = "2026-11-20T10:00:00Z";

/// As if an API server had sent it.
fn live(yaml: &str) -> Balanced {
    let reading = read("cluster", yaml.as_bytes());
    assert!(reading.mistakes.is_empty(), "{}", reading.mistakes[0]);
    let origin = Origin::of_cluster(Arc::from("kubernetes"));
    let objects: Vec<Sourced> =
        reading.objects.into_iter().map(|sourced| Sourced { origin: origin.clone(), ..sourced }).collect();
    Balanced::clone(validate(&objects, Vec::new()).cluster.balanced())
}

const POOL: &str = "---
apiVersion: levee.dev/v1alpha1
kind: AddressPool
metadata: {name: public, resourceVersion: '7', generation: 3}
spec: {addresses: [192.0.2.7, '2001:db8::7']}
";

const WEB: &str = "---
apiVersion: v1
kind: Service
metadata: {name: web, uid: u-1, resourceVersion: '42', generation: 5}
spec:
  type: LoadBalancer
  clusterIPs: [10.96.0.10, 'fd00::10']
  ports: [{name: a, port: 80}, {name: b, port: 53, protocol: UDP}, {name: c, port: 5000, protocol: SCTP}]
";

fn nobody() -> Announcers {
    Announcers::Known(BTreeMap::new())
}

fn announced(by: &[(&str, &str)]) -> Announcers {
    let one = |(address, name): &(&str, &str)| (address.parse().unwrap(), Announcer { name: (*name).to_owned() });
    Announcers::Known(by.iter().map(one).collect())
}

fn planned(balanced: &Balanced, announcers: &Announcers, now: &str) -> Vec<Write> {
    plan(balanced, &allocate(balanced, false), announcers, false, now)
}

/// As it is when these were written, and the server has given them another version.
fn written(balanced: &Balanced, writes: &[Write]) -> Balanced {
    let mut after = balanced.clone();
    for write in writes {
        match (&write.target, &write.after) {
            (Target::Service(name), Status::Service(status)) => {
                let service = after.services.get_mut(name).unwrap();
                service.holds = Held::of(status);
                service.status = status.clone();
                service.identity.resource_version = Some("43".into());
            }
            (Target::Pool(name), Status::Pool(status)) => {
                let pool = after.pools.get_mut(name).unwrap();
                pool.status = status.clone();
                pool.recorded = pool.in_force.clone().map(|mut good| {
                    good.withheld.clear();
                    good
                });
            }
            other => panic!("{other:?}"),
        }
    }
    after
}

fn of_web(writes: &[Write]) -> &Write {
    writes.iter().find(|write| matches!(write.target, Target::Service(_))).expect("something is to be written")
}

fn events(write: &Write) -> Vec<String> {
    write.events.iter().map(|event| format!("{:?} {}: {}", event.weight, event.reason, event.message)).collect()
}

/// `Status Reason: message` of a condition in what is to be written.
fn condition(write: &Write, kind: &str) -> String {
    let Status::Service(status) = &write.after else { panic!("{write:?}") };
    let found = status.conditions.iter().find(|condition| condition.kind == kind).expect(kind);
    format!("{} {}: {}", found.status, found.reason, found.message)
}

#[test]
fn a_status_says_addresses_ports_and_conditions_and_nothing_is_written_twice() {
    let balanced = live(&format!("{POOL}{WEB}"));
    let writes = planned(&balanced, &nobody(), NOW);
    assert_eq!(writes.len(), 2);
    let write = of_web(&writes);
    assert_eq!(write.patch["metadata"], json!({"resourceVersion": "42"}));
    let ports = json!([
        {"port": 80, "protocol": "TCP"},
        {"port": 53, "protocol": "UDP"},
        {"port": 5000, "protocol": "SCTP"},
    ]);
    let ingress = write.patch["status"]["loadBalancer"]["ingress"].as_array().unwrap();
    assert_eq!(ingress.len(), 2);
    assert_eq!(ingress[0], json!({"ip": "192.0.2.7", "ipMode": "VIP", "ports": ports}));
    assert_eq!(ingress[1]["ip"], "2001:db8::7");
    let first = &write.patch["status"]["conditions"][0];
    assert_eq!(
        *first,
        json!({"type": "levee.dev/AddressAllocated", "status": "True", "reason": "Allocated", "observedGeneration": 5,
            "message": "192.0.2.7 of AddressPool public, 2001:db8::7 of AddressPool public", "lastTransitionTime": NOW})
    );
    assert_eq!(events(write), ["Normal IPAllocated: Assigned IP [\"192.0.2.7\" \"2001:db8::7\"]"]);
    assert_eq!(planned(&written(&balanced, &writes), &nobody(), LATER), []);
}

#[test]
fn who_announces_is_told_when_it_changes() {
    let balanced = live(&format!("{POOL}{WEB}"));
    let unknown = Announcers::Unknown("nobody has looked yet".to_owned());
    let writes = planned(&balanced, &unknown, NOW);
    assert_eq!(condition(of_web(&writes), "levee.dev/Announced"), "Unknown Unknown: nobody has looked yet");
    let before = written(&balanced, &writes);

    let one = announced(&[("192.0.2.7", "b1"), ("2001:db8::7", "b2")]);
    let writes = planned(&before, &one, NOW);
    assert_eq!(condition(of_web(&writes), "levee.dev/Announced"), "True Announced: 192.0.2.7 by b1, 2001:db8::7 by b2");
    assert!(condition(of_web(&writes), "levee.dev/Programmed").starts_with("True"));
    assert_eq!(
        events(of_web(&writes)),
        [
            "Normal nodeAssigned: announcing from node \"b1\" with protocol \"layer2\"",
            "Normal nodeAssigned: announcing from node \"b2\" with protocol \"layer2\""
        ]
    );
    let before = written(&before, &writes);
    assert_eq!(planned(&before, &one, LATER), []);

    // It moves: `Announced` goes on being true, since it first was.
    let moved = announced(&[("192.0.2.7", "b2"), ("2001:db8::7", "b2")]);
    let writes = planned(&before, &moved, LATER);
    let announced = &of_web(&writes).patch["status"]["conditions"][0];
    assert_eq!((&announced["status"], &announced["lastTransitionTime"]), (&json!("True"), &json!(NOW)));
    assert_eq!(of_web(&writes).patch["status"]["conditions"].as_array().unwrap().len(), 1, "others are as they were");
    let before = written(&before, &writes);

    let writes = planned(&before, &nobody(), LATER);
    assert_eq!(
        condition(of_web(&writes), "levee.dev/Announced"),
        "False NoAnnouncer: no balancer announces 192.0.2.7, 2001:db8::7"
    );
    assert_eq!(events(of_web(&writes)), ["Warning NotAnnounced: no balancer announces 192.0.2.7, 2001:db8::7"]);
}

#[test]
fn rule_41_another_classs_service_is_not_touched_nor_what_others_say_of_ours() {
    let theirs = WEB.replace("  type:", "  loadBalancerClass: example.com/other\n  type:");
    assert!(
        planned(&live(&format!("{POOL}{theirs}")), &nobody(), NOW)
            .iter()
            .all(|write| write.target == Target::Pool("public".into()))
    );
    // A condition of somebody else's, and an address of no pool.
    let ours = format!(
        "{WEB}status: {{loadBalancer: {{ingress: [{{ip: 203.0.113.9}}]}}, conditions: [{{type: example.com/a, status: 'True'}}]}}\n"
    );
    let balanced = live(&format!("{POOL}{ours}"));
    let writes = planned(&balanced, &nobody(), NOW);
    let write = of_web(&writes);
    let Status::Service(after) = &write.after else { panic!("{write:?}") };
    assert_eq!(after.conditions[0].kind, "example.com/a");
    let kinds = write.patch["status"]["conditions"].as_array().unwrap().iter();
    assert!(kinds.clone().all(|condition| condition["type"].as_str().unwrap().starts_with("levee.dev/")));
    assert_eq!(
        events(write)[0],
        "Warning ClearAssignment: current IP \"203.0.113.9\" is not allowed any more: 203.0.113.9 is in no AddressPool"
    );
}

#[test]
fn what_is_no_load_balancer_any_more_keeps_nothing_of_that_time() {
    let before = WEB.replace("LoadBalancer", "ClusterIP")
        + "status: {conditions: [{type: levee.dev/AddressAllocated, status: 'True'}, {type: example.com/a, status: 'True'}]}\n";
    let writes = planned(&live(&format!("{POOL}{before}")), &nobody(), NOW);
    let write = of_web(&writes);
    assert_eq!(
        write.patch["status"],
        json!({"loadBalancer": {"ingress": null},
            "conditions": [{"$patch": "delete", "type": "levee.dev/AddressAllocated"}]})
    );
    let never = WEB.replace("LoadBalancer", "ClusterIP");
    assert!(live(&never).services.is_empty());
}

#[test]
fn a_pools_status_says_what_is_in_force_and_how_much_is_left() {
    let balanced = live(POOL);
    let writes = planned(&balanced, &nobody(), NOW);
    let status = &writes[0].patch["status"];
    assert_eq!(
        status["inForce"],
        json!({"addresses": ["192.0.2.7", "2001:db8::7"], "autoAssign": true, "namespaces": [],
            "serviceSelector": {}, "sharing": "Namespace"})
    );
    assert_eq!(status["ipv4"], json!({"total": 1, "assigned": 0, "free": 1}));
    assert_eq!(status["conditions"][0]["observedGeneration"], 3);
    assert_eq!(planned(&written(&balanced, &writes), &nobody(), LATER), []);
    // What is told as a prefix is read as one.
    let prefix = POOL.replace("192.0.2.7,", "192.0.2.0/28,");
    let writes = planned(&live(&prefix), &nobody(), NOW);
    assert_eq!(writes[0].patch["status"]["inForce"]["addresses"][0], "192.0.2.0/28");
}

#[test]
fn a_message_is_never_longer_than_a_server_takes() {
    let long = "ä".repeat(2_000);
    let web = WEB.replace(
        "uid: u-1",
        &format!("uid: u-1, annotations: {{levee.dev/pool: '{long}', levee.dev/addresses: '{long}'}}"),
    );
    let writes = planned(&live(&format!("{POOL}{web}")), &nobody(), NOW);
    let write = of_web(&writes);
    assert!(condition(write, "levee.dev/AddressAllocated").len() < 1_024);
    assert!(write.events.iter().all(|event| event.message.len() < 1_024));
}
