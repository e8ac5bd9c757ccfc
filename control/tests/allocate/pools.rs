use std::sync::Arc;

use levee_control::model::{Object, Origin, Pool, Sourced, ValidatedCluster, validate};
use levee_control::watch::read;

/// As if an API server had sent it.
fn live(yaml: &str) -> ValidatedCluster {
    let reading = read("cluster", yaml.as_bytes());
    assert!(reading.mistakes.is_empty(), "{}", reading.mistakes[0]);
    let origin = Origin::of_cluster(Arc::from("kubernetes"));
    let objects: Vec<Sourced> =
        reading.objects.into_iter().map(|sourced| Sourced { origin: origin.clone(), ..sourced }).collect();
    let validation = validate(&objects, Vec::new());
    assert!(validation.refused.is_empty(), "in a cluster, objects are refused by themselves");
    validation.cluster
}

fn pool(name: &str, addresses: &str, in_force: &str) -> String {
    let status =
        if in_force.is_empty() { String::new() } else { format!("status: {{inForce: {{addresses: [{in_force}]}}}}\n") };
    format!(
        "---\napiVersion: levee.dev/v1alpha1\nkind: AddressPool\nmetadata: {{name: {name}, uid: u-{name}}}\nspec: {{addresses: [{addresses}]}}\n{status}"
    )
}

const NODE: &str = "---\napiVersion: v1\nkind: Node\nmetadata: {name: n1}\nspec: {podCIDR: 10.244.0.0/24}\nstatus: {addresses: [{type: InternalIP, address: 192.0.2.7}]}\n";

fn ranges(cluster: &ValidatedCluster, name: &str) -> Vec<String> {
    let in_force = cluster.balanced().pools[name].in_force.as_ref();
    in_force.map(|pool| pool.ranges.iter().map(ToString::to_string).collect()).unwrap_or_default()
}

fn refused<'a>(cluster: &'a ValidatedCluster, name: &str) -> &'a str {
    let Pool { refused, .. } = &cluster.balanced().pools[name];
    refused.as_deref().unwrap_or_default()
}

#[test]
fn a_bad_change_of_a_pool_leaves_the_last_good_one_in_force() {
    // Two that have nothing wrong; `b` then wants what `a` has, and `a` is never asked, although its name comes first.
    for wants in ["198.51.100.1", "198.51.100.0-198.51.100.9", "127.0.0.1", "192.0.2.7", "10.244.0.9"] {
        let cluster =
            live(&format!("{NODE}{}{}", pool("b", "198.51.100.1", "198.51.100.1"), pool("a", wants, "203.0.113.1")));
        if wants == "198.51.100.1" || wants.contains('-') {
            let why = refused(&cluster, "a");
            assert!(why.contains("overlaps 198.51.100.1 of AddressPool b"), "{why}");
        }
        assert!(!refused(&cluster, "a").is_empty(), "{wants}");
        assert_eq!(
            (ranges(&cluster, "a"), ranges(&cluster, "b")),
            (vec!["203.0.113.1".into()], vec!["198.51.100.1".into()])
        );
        let notices: Vec<String> = cluster.notices().iter().map(ToString::to_string).collect();
        assert!(
            notices[0].starts_with("AddressPool a: refused, and what was good last stays in force: "),
            "{notices:?}"
        );
        let refusals = &cluster.balanced().refusals;
        assert_eq!((refusals.len(), refusals[0].uid.as_deref()), (1, Some("u-a")));
    }
}

#[test]
fn a_new_pool_in_anothers_way_is_refused_and_both_are_named() {
    let cluster = live(&format!("{}{}", pool("a", "192.0.2.0/24", ""), pool("z", "192.0.2.9", "192.0.2.9")));
    assert_eq!(
        (ranges(&cluster, "a"), ranges(&cluster, "z")),
        (vec![], vec!["192.0.2.9".into()]),
        "who was first stays"
    );
    assert!(refused(&cluster, "a").contains("192.0.2.0-192.0.2.255 overlaps 192.0.2.9 of AddressPool z"));
    for (addresses, expected) in [
        ("192.0.2.0/24", "contains 192.0.2.7, an address of Node n1"),
        ("10.244.0.128/25", "the pods of Node n1"),
        ("10.96.4.0/24", "a range of ClusterIPs (10.96.0.0/16)"),
    ] {
        let cidr = "---\napiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: s}\nspec: {cidrs: [10.96.0.0/16]}\n";
        let cluster = live(&format!("{NODE}{cidr}{}", pool("a", addresses, "")));
        assert!(refused(&cluster, "a").contains(expected), "{}", refused(&cluster, "a"));
    }
}

#[test]
fn a_node_cannot_undo_a_pool_in_force() {
    let cluster = live(&format!("{NODE}{}", pool("a", "192.0.2.0-192.0.2.9", "192.0.2.0-192.0.2.9")));
    assert_eq!((ranges(&cluster, "a"), refused(&cluster, "a")), (vec!["192.0.2.0-192.0.2.9".into()], ""));
    let pool = cluster.balanced().pools["a"].in_force.as_ref().unwrap();
    let withheld: Vec<_> = pool.withheld.iter().map(|(range, why)| format!("{range}: {why}")).collect();
    assert_eq!(withheld, ["192.0.2.7: an address of Node n1"]);
}

#[test]
fn pools_may_change_places() {
    let cluster = live(&format!("{}{}", pool("a", "192.0.2.2", "192.0.2.1"), pool("b", "192.0.2.1", "192.0.2.2")));
    assert_eq!((ranges(&cluster, "a"), ranges(&cluster, "b")), (vec!["192.0.2.2".into()], vec!["192.0.2.1".into()]));
    assert_eq!((refused(&cluster, "a"), refused(&cluster, "b")), ("", ""));
}

#[test]
fn a_file_is_not_believed_what_was_in_force() {
    let reading = read("f.yaml", pool("a", "192.0.2.1", "203.0.113.1").as_bytes());
    assert!(matches!(reading.objects[0].object, Object::AddressPool(_)));
    let cluster = validate(&reading.objects, Vec::new()).cluster;
    assert_eq!(ranges(&cluster, "a"), ["192.0.2.1"]);
}
