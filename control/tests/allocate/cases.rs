use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use levee_api::net::{Family, Protocol};
use levee_control::allocate::{Allocation, allocate};
use levee_control::model::{AddressPool, Asked, Balanced, Held, LoadBalancer, ObjectName, Pool};

pub(crate) fn name(text: &str) -> ObjectName {
    let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
    ObjectName { namespace: namespace.to_owned(), name: name.to_owned() }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// IPv4, TCP port 80.
fn service() -> LoadBalancer {
    LoadBalancer {
        is_wanted: true,
        families: BTreeSet::from([Family::Ipv4]),
        needs_every_family: true,
        ports: ports(&[80]),
        ..LoadBalancer::default()
    }
}

fn ports(numbers: &[u16]) -> BTreeSet<(Protocol, std::num::NonZeroU16)> {
    numbers.iter().map(|number| (Protocol::Tcp, (*number).try_into().unwrap())).collect()
}

fn holding(addresses: &[&str]) -> LoadBalancer {
    LoadBalancer { holds: addresses.iter().map(|text| Held { address: ip(text), ports: None }).collect(), ..service() }
}

fn asking(addresses: &[&str]) -> LoadBalancer {
    let asked = addresses.iter().map(|text| (Family::of(ip(text)), ip(text))).collect();
    LoadBalancer { asked: Asked::For(asked), ..service() }
}

fn sharing(key: &str, numbers: &[u16]) -> LoadBalancer {
    LoadBalancer { share_key: Some(key.to_owned()), ports: ports(numbers), ..service() }
}

fn pool(ranges: &[&str]) -> AddressPool {
    let ranges = ranges.iter().map(|range| range.parse().unwrap()).collect();
    AddressPool { ranges, auto_assign: true, ..AddressPool::default() }
}

pub(crate) fn balanced(pools: &[(&str, AddressPool)], services: &[(&str, LoadBalancer)]) -> Balanced {
    let in_force = |pool: &AddressPool| Pool { in_force: Some(pool.clone()), ..Pool::default() };
    Balanced {
        services: services.iter().map(|(at, service)| (name(at), service.clone())).collect(),
        pools: pools.iter().map(|(name, pool)| ((*name).to_owned(), in_force(pool))).collect(),
        refusals: Vec::new(),
    }
}

fn given(pools: &[(&str, AddressPool)], services: &[(&str, LoadBalancer)]) -> Given {
    Given(allocate(&balanced(pools, services), false))
}

struct Given(Allocation);

impl Given {
    fn has(&self, at: &str) -> Vec<String> {
        self.0.services[&name(at)].addresses.values().map(|(address, _)| address.to_string()).collect()
    }

    fn problem(&self, at: &str) -> String {
        let problems = &self.0.services[&name(at)].problems;
        problems.iter().map(|problem| format!("{}: {problem}", problem.reason())).collect::<Vec<_>>().join("; ")
    }

    fn free(&self, pool: &str) -> u64 {
        self.0.pools[pool][&Family::Ipv4].free
    }
}

#[test]
fn each_family_of_a_service_gets_an_address() {
    let dual = LoadBalancer { families: BTreeSet::from([Family::Ipv4, Family::Ipv6]), ..service() };
    let both = [("a", pool(&["192.0.2.7", "2001:db8::7"]))];
    assert_eq!(given(&both, &[("web", dual.clone())]).has("web"), ["192.0.2.7", "2001:db8::7"]);
    // Without IPv6 addresses, one that needs both has what there is, and is told.
    let four = [("a", pool(&["192.0.2.7"]))];
    let one = given(&four, &[("web", dual.clone())]);
    assert_eq!(one.has("web"), ["192.0.2.7"]);
    assert_eq!(one.problem("web"), "NoPool: no AddressPool has addresses of IPv6 for this Service");
    let content = given(&four, &[("web", LoadBalancer { needs_every_family: false, ..dual })]);
    assert_eq!((content.has("web"), content.problem("web")), (vec!["192.0.2.7".to_owned()], String::new()));
}

#[test]
fn what_a_status_has_is_kept_whoever_comes() {
    let pools = [("a", pool(&["192.0.2.0-192.0.2.1"]))];
    let services = [("zeta", holding(&["192.0.2.0"])), ("alpha", service()), ("beta", asking(&["192.0.2.0"]))];
    let given = given(&pools, &services);
    assert_eq!(given.has("zeta"), ["192.0.2.0"]);
    assert_eq!(given.has("alpha"), ["192.0.2.1"]);
    assert_eq!(
        given.problem("beta"),
        "AddressInUse: 192.0.2.0 is Service default/zeta's; to share it, both need the same annotation `levee.dev/share-key`"
    );
}

#[test]
fn a_pool_that_is_empty_says_so_and_a_service_that_goes_makes_room() {
    let pools = [("a", pool(&["192.0.2.1"])), ("manual", AddressPool { auto_assign: false, ..pool(&["192.0.2.2"]) })];
    let full = given(&pools, &[("first", holding(&["192.0.2.1"])), ("second", service())]);
    assert_eq!(full.problem("second"), "PoolExhausted: every address of IPv4 is in use in AddressPool a");
    assert_eq!((full.free("a"), full.free("manual")), (0, 1));
    assert_eq!(given(&pools, &[("second", service())]).has("second"), ["192.0.2.1"]);
}

#[test]
fn a_request_moves_a_service_when_it_can_be_met_and_until_then_it_keeps_what_it_has() {
    let pools = [("a", pool(&["192.0.2.0/28"])), ("b", pool(&["198.51.100.1"]))];
    let moves = |asked: LoadBalancer, others: &[(&str, LoadBalancer)]| {
        let mover = LoadBalancer { holds: holding(&["192.0.2.3"]).holds, ..asked };
        given(&pools, &[&[("web", mover)], others].concat())
    };
    assert_eq!(moves(asking(&["192.0.2.9"]), &[]).has("web"), ["192.0.2.9"]);
    for (asked, others, expected) in [
        (
            asking(&["192.0.2.9"]),
            vec![("other", holding(&["192.0.2.9"]))],
            "AddressInUse: 192.0.2.9 is Service default/other's",
        ),
        (asking(&["203.0.113.1"]), vec![], "AddressInNoPool: 203.0.113.1 is in no AddressPool"),
        (LoadBalancer { asked: Asked::Wrong("no".into()), ..service() }, vec![], "InvalidRequest: no"),
        (
            LoadBalancer { pool: Some("c".into()), ..service() },
            vec![],
            "NoSuchPool: there is no AddressPool `c` in force",
        ),
        (
            LoadBalancer { pool: Some("b".into()), ..service() },
            vec![("other", holding(&["198.51.100.1"]))],
            "PoolExhausted: ",
        ),
        (
            LoadBalancer { pool: Some("b".into()), ..asking(&["192.0.2.9"]) },
            vec![],
            "AddressOfOtherPool: 192.0.2.9 is of AddressPool a, and annotation `levee.dev/pool` asks for `b`",
        ),
    ] {
        let given = moves(asked, &others);
        assert_eq!(given.has("web"), ["192.0.2.3"], "{expected}");
        assert!(given.problem("web").starts_with(expected), "{}", given.problem("web"));
    }
    assert_eq!(moves(LoadBalancer { pool: Some("b".into()), ..service() }, &[]).has("web"), ["198.51.100.1"]);
}

#[test]
fn who_moves_makes_room_for_who_waits() {
    let pools = [("a", pool(&["192.0.2.1-192.0.2.3"]))];
    let mover = |has: &str, to: &str| LoadBalancer { holds: holding(&[has]).holds, ..asking(&[to]) };
    let services = [("a", mover("192.0.2.1", "192.0.2.2")), ("b", mover("192.0.2.2", "192.0.2.3"))];
    let given = given(&pools, &services);
    assert_eq!((given.has("a"), given.has("b")), (vec!["192.0.2.2".to_owned()], vec!["192.0.2.3".to_owned()]));
}

#[test]
fn an_address_is_shared_by_key_in_one_namespace_with_ports_that_differ() {
    let pools = [("a", pool(&["192.0.2.1-192.0.2.3"]))];
    let given = given(
        &pools,
        &[
            ("one/web", sharing("k", &[80])),
            ("one/tls", sharing("k", &[443])),
            ("one/again", sharing("k", &[443, 8443])),
            ("two/dns", sharing("k", &[53])),
        ],
    );
    assert_eq!(given.has("one/web"), given.has("one/tls"));
    let mut all = [given.has("one/web"), given.has("one/again"), given.has("two/dns")].concat();
    all.sort();
    assert_eq!(all, ["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
}

#[test]
fn a_pool_may_let_all_namespaces_share() {
    let one = [("a", pool(&["192.0.2.1"]))];
    let services = [
        ("one/web", sharing("k", &[80])),
        ("two/tls", LoadBalancer { share_key: Some("k".into()), ports: ports(&[443]), ..asking(&["192.0.2.1"]) }),
    ];
    assert_eq!(
        given(&one, &services).problem("one/web"),
        "PoolExhausted: every address of IPv4 is in use in AddressPool a"
    );
    let holding = LoadBalancer { holds: holding(&["192.0.2.1"]).holds, ..sharing("k", &[80]) };
    let denied = given(&one, &[("one/web", holding), services[1].clone()]);
    assert_eq!(
        denied.problem("two/tls"),
        "AddressInUse: 192.0.2.1 is Service one/web's, of another namespace; to share it, its AddressPool needs `sharing: Cluster`"
    );
    let open = [("a", AddressPool { shares_across_namespaces: true, ..pool(&["192.0.2.1"]) })];
    let shared = given(&open, &services);
    assert_eq!(
        (shared.has("one/web"), shared.has("two/tls")),
        (vec!["192.0.2.1".to_owned()], vec!["192.0.2.1".to_owned()])
    );
}

#[test]
fn a_new_port_gets_nobody_off_a_shared_address() {
    let pools = [("a", pool(&["192.0.2.1-192.0.2.2"]))];
    let wrote = |written: &[u16], now: &[u16]| LoadBalancer {
        holds: vec![Held { address: ip("192.0.2.1"), ports: Some(ports(written)) }],
        ..sharing("k", now)
    };
    let given = given(&pools, &[("a", wrote(&[80], &[80, 443])), ("b", wrote(&[443], &[443]))]);
    assert_eq!((given.has("a"), given.has("b")), (vec!["192.0.2.2".to_owned()], vec!["192.0.2.1".to_owned()]));
    let withdrawn = &given.0.services[&name("a")].withdrawn;
    assert_eq!(withdrawn.len(), 1);
    assert_eq!(withdrawn[0].1.to_string(), "192.0.2.1 is Service default/b's, which has tcp port 443 too");
}

#[test]
fn pools_are_for_whom_they_say() {
    let labelled = |service: LoadBalancer| LoadBalancer {
        labels: BTreeMap::from([("tier".to_owned(), "gold".to_owned())]),
        ..service
    };
    let gold =
        AddressPool { service_selector: BTreeMap::from([("tier".into(), "gold".into())]), ..pool(&["192.0.2.1"]) };
    let theirs = AddressPool { namespaces: BTreeSet::from(["theirs".into()]), ..pool(&["192.0.2.2"]) };
    let pools = [("open", pool(&["192.0.2.3-192.0.2.9"])), ("gold", gold), ("theirs", theirs)];
    let given = given(
        &pools,
        &[
            ("ours/gold", labelled(service())),
            ("theirs/plain", service()),
            ("ours/bold", LoadBalancer { pool: Some("theirs".into()), ..service() }),
            ("ours/bolder", asking(&["192.0.2.2"])),
            ("ours/relabelled", holding(&["192.0.2.1"])),
        ],
    );
    assert_eq!(given.has("ours/gold"), ["192.0.2.1"], "what is for some comes before what is for all");
    assert_eq!(given.has("theirs/plain"), ["192.0.2.2"]);
    assert!(
        given.problem("ours/bold").starts_with("PoolNotPermitted: AddressPool theirs"),
        "{}",
        given.problem("ours/bold")
    );
    assert!(given.problem("ours/bolder").starts_with("PoolNotPermitted: 192.0.2.2 is of AddressPool theirs"));
    let moved = &given.0.services[&name("ours/relabelled")];
    assert_eq!(moved.addresses[&Family::Ipv4].1, "open", "what it had was for others");
    assert_eq!(moved.withdrawn[0].1.reason(), "PoolNotPermitted");
}

#[test]
fn rule_41_another_classs_service_is_left_alone_and_its_address_is_not_given() {
    let pools = [("a", pool(&["192.0.2.1-192.0.2.2"]))];
    let theirs = LoadBalancer { class: Some("example.com/other".into()), ..holding(&["192.0.2.1"]) };
    let services = [
        ("theirs", theirs),
        ("ours", LoadBalancer { class: Some("levee.dev/levee".into()), ..service() }),
        ("plain", service()),
    ];
    let given = given(&pools, &services);
    assert_eq!(given.has("ours"), ["192.0.2.2"]);
    assert!(!given.0.services.contains_key(&name("theirs")));
    assert_eq!(given.has("plain"), [""; 0]);
    // … without a class, too, where one is required.
    let required = allocate(&balanced(&pools, &services), true);
    assert_eq!(required.services.keys().cloned().collect::<Vec<_>>(), [name("ours")]);
}

#[test]
fn a_name_finds_its_old_address_again() {
    let pools = [("a", pool(&["192.0.2.0/24"]))];
    let before = given(&pools, &[("a", service()), ("web", service()), ("z", service())]);
    let after = given(&pools, &[("web", service())]);
    assert_eq!(before.has("web"), after.has("web"));
    assert_eq!(before.free("a"), 256 - 3);
}

#[test]
fn many_services_cost_no_square() {
    let count = 20_000_u32;
    let names: Vec<String> = (0..count).map(|number| format!("n{}/s{number}", number % 50)).collect();
    let services = |share: bool| -> Vec<(&str, LoadBalancer)> {
        let one = || if share { sharing("k", &[80]) } else { service() };
        names.iter().map(|name| (name.as_str(), one())).collect()
    };
    for (share, range, expected) in
        [(false, "10.0.0.0-10.0.78.31", 20_000), (false, "10.0.0.0-10.0.0.99", 100), (true, "10.0.0.0/16", 20_000)]
    {
        let balanced = balanced(&[("a", pool(&[range]))], &services(share));
        let start = std::time::Instant::now();
        let allocation = allocate(&balanced, false);
        let took = start.elapsed();
        let given = allocation.services.values().filter(|service| !service.addresses.is_empty()).count();
        assert_eq!(given, expected);
        // Unoptimised and on a busy machine; a square of 20,000 would take minutes.
        assert!(took < std::time::Duration::from_secs(10), "{took:?} for {range}");
    }
}
