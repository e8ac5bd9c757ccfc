use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use levee_api::net::{Family, Protocol};
use levee_control::allocate::{Allocation, allocate};
use levee_control::model::{AddressPool, Asked, Balanced, Held, LoadBalancer, ObjectName, Pool, PortKey};
use proptest::prelude::*;

use crate::cases::name;

/// Addresses 192.0.2.0-23 and 2001:db8::0-23; the last four are in no pool.
fn address(v6: bool, last: u8) -> IpAddr {
    if v6 { format!("2001:db8::{last:x}").parse().unwrap() } else { format!("192.0.2.{last}").parse().unwrap() }
}

fn addresses() -> impl Strategy<Value = BTreeMap<Family, IpAddr>> {
    let some = || proptest::option::weighted(0.4, 0..24_u8);
    (some(), some()).prop_map(|(four, six)| {
        let four = four.map(|last| (Family::Ipv4, address(false, last)));
        four.into_iter().chain(six.map(|last| (Family::Ipv6, address(true, last)))).collect()
    })
}

fn ports() -> impl Strategy<Value = BTreeSet<PortKey>> {
    let port = (prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)], 80..84_u16);
    proptest::collection::btree_set(port.prop_map(|(protocol, port)| (protocol, port.try_into().unwrap())), 1..3)
}

fn pools() -> impl Strategy<Value = BTreeMap<String, Pool>> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    proptest::collection::vec(flags, 4).prop_map(|flags| {
        let pools = flags.into_iter().enumerate().map(|(index, (auto_assign, shares, namespace, selects))| {
            let first = u8::try_from(index * 5).unwrap();
            let range = |v6| format!("{}-{}", address(v6, first), address(v6, first + 4)).parse().unwrap();
            let pool = AddressPool {
                ranges: [false, true].map(range).into(),
                auto_assign,
                namespaces: namespace.then(|| "n0".to_owned()).into_iter().collect(),
                service_selector: selects.then(|| ("l".to_owned(), "1".to_owned())).into_iter().collect(),
                shares_across_namespaces: shares,
                withheld: BTreeMap::from([(address(false, first).to_string().parse().unwrap(), "an end".to_owned())]),
            };
            (format!("p{index}"), Pool { in_force: Some(pool), ..Pool::default() })
        });
        pools.collect()
    })
}

fn service() -> impl Strategy<Value = LoadBalancer> {
    let asked = prop_oneof![
        3 => Just(Asked::Any),
        2 => addresses().prop_map(Asked::For),
        1 => Just(Asked::Wrong("nonsense".into())),
    ];
    let pool = proptest::option::weighted(0.3, 0..5_u8);
    let share = proptest::option::weighted(0.5, 0..2_u8);
    let holds = (addresses(), proptest::option::of(ports()));
    let families = prop_oneof![Just(vec![Family::Ipv4]), Just(vec![Family::Ipv4, Family::Ipv6])];
    (families, any::<bool>(), ports(), any::<bool>(), asked, pool, share, holds, 0..8_u8).prop_map(
        |(families, needs, ports, labelled, asked, pool, share, (holds, held_ports), class)| LoadBalancer {
            is_wanted: true,
            class: (class == 0).then(|| "example.com/other".to_owned()),
            families: families.into_iter().collect(),
            needs_every_family: needs,
            ports,
            labels: labelled.then(|| ("l".to_owned(), "1".to_owned())).into_iter().collect(),
            asked,
            pool: pool.map(|pool| format!("p{pool}")),
            share_key: share.map(|key| format!("k{key}")),
            holds: holds.into_values().map(|address| Held { address, ports: held_ports.clone() }).collect(),
            ..LoadBalancer::default()
        },
    )
}

fn balanced() -> impl Strategy<Value = Balanced> {
    (pools(), proptest::collection::vec(service(), 0..40)).prop_map(|(pools, services)| Balanced {
        services: services
            .into_iter()
            .enumerate()
            .map(|(index, service)| (name(&format!("n{}/s{index}", index % 3)), service))
            .collect(),
        pools,
        refusals: Vec::new(),
    })
}

/// As it is when the leader has written what was found.
fn written(balanced: &Balanced, allocation: &Allocation) -> Balanced {
    let mut after = balanced.clone();
    for (name, assignment) in &allocation.services {
        let service = after.services.get_mut(name).unwrap();
        let ports = Some(service.ports.clone());
        let held = assignment.addresses.values().map(|(address, _)| Held { address: *address, ports: ports.clone() });
        service.holds = held.collect();
        service.holds.sort();
    }
    after
}

/// Everybody's addresses, those of other classes included if they are in a pool.
fn tenants<'a>(
    balanced: &'a Balanced,
    allocation: &Allocation,
) -> BTreeMap<IpAddr, Vec<(&'a ObjectName, &'a LoadBalancer)>> {
    let mut tenants: BTreeMap<IpAddr, Vec<_>> = BTreeMap::new();
    for (name, assignment) in &allocation.services {
        for (address, _) in assignment.addresses.values() {
            tenants.entry(*address).or_default().push(balanced.services.get_key_value(name).unwrap());
        }
    }
    tenants
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn an_address_is_of_a_pool_that_is_for_the_service(balanced in balanced()) {
        let allocation = allocate(&balanced, false);
        for (name, assignment) in &allocation.services {
            let service = &balanced.services[name];
            prop_assert!(service.class.is_none());
            for (family, (address, pool)) in &assignment.addresses {
                let pool = balanced.pools[pool].in_force.as_ref().unwrap();
                prop_assert_eq!(Family::of(*address), *family);
                prop_assert!(service.families.contains(family));
                prop_assert!(pool.ranges.iter().any(|range| range.contains(*address)), "outside of its pool");
                prop_assert!(!pool.withheld.keys().any(|range| range.contains(*address)), "withheld");
                prop_assert!(pool.permits(name, service), "not for it");
            }
        }
    }

    #[test]
    fn no_address_is_given_twice_but_by_key_with_ports_that_differ(balanced in balanced()) {
        let allocation = allocate(&balanced, false);
        for (address, tenants) in tenants(&balanced, &allocation) {
            let pool = balanced.pools.values().filter_map(|pool| pool.in_force.as_ref());
            let pool = pool.into_iter().find(|pool| pool.ranges.iter().any(|range| range.contains(address))).unwrap();
            for (index, (name, service)) in tenants.iter().enumerate() {
                for (other_name, other) in &tenants[index + 1..] {
                    prop_assert!(service.share_key.is_some() && service.share_key == other.share_key);
                    prop_assert!(pool.shares_across_namespaces || name.namespace == other_name.namespace);
                    prop_assert!(service.ports.is_disjoint(&other.ports), "{address}: {name} and {other_name}");
                }
            }
            // Nor one that another implementation's Service had, while nobody of ours did.
            let theirs = balanced.services.values().filter(|service| service.class.is_some());
            for other in theirs.filter(|other| other.holds.iter().any(|held| held.address == address)) {
                let had = tenants.iter().any(|(_, service)| service.holds.iter().any(|held| held.address == address));
                prop_assert!(had, "{address} is another's: {:?}", other);
            }
        }
    }

    #[test]
    fn what_was_written_is_kept(balanced in balanced()) {
        let first = allocate(&balanced, false);
        let restarted = written(&balanced, &first);
        let second = allocate(&restarted, false);
        // A chain of moves may take more than one turn; then nothing changes any more.
        let settled = allocate(&written(&restarted, &second), false);
        for (name, assignment) in &settled.services {
            prop_assert_eq!(&assignment.addresses, &second.services[name].addresses);
            prop_assert_eq!(&assignment.withdrawn, &Vec::new());
        }
        // Whoever asks for nothing keeps what it has been given from the very first.
        for (name, assignment) in &first.services {
            let service = &balanced.services[name];
            if matches!(service.asked, Asked::Any) && service.pool.is_none() {
                for (family, has) in &assignment.addresses {
                    prop_assert_eq!(Some(has), second.services[name].addresses.get(family), "{}", name);
                }
            }
        }
    }

    #[test]
    fn whoever_comes_nobody_loses_what_was_written(balanced in balanced(), newcomer in service(), number in 0..3_u8) {
        let before = written(&balanced, &allocate(&balanced, false));
        let first = allocate(&before, false);
        let mut after = before.clone();
        // Before, among or after all others by name, with a status that claims anything but was never written by us.
        let newcomer = LoadBalancer { holds: Vec::new(), ..newcomer };
        after.services.insert(name(["a/a", "n1/s4x", "z/z"][usize::from(number)]), newcomer);
        let second = allocate(&after, false);
        for (name, assignment) in &first.services {
            let service = &balanced.services[name];
            if matches!(service.asked, Asked::Any) && service.pool.is_none() {
                for (family, has) in &assignment.addresses {
                    prop_assert_eq!(Some(has), second.services[name].addresses.get(family), "{}", name);
                }
            }
        }
    }

    #[test]
    fn who_goes_frees_what_it_had(balanced in balanced(), which in any::<prop::sample::Index>()) {
        prop_assume!(!balanced.services.is_empty());
        let before = written(&balanced, &allocate(&balanced, false));
        let gone = before.services.keys().nth(which.index(before.services.len())).unwrap().clone();
        let mut after = before.clone();
        let left = after.services.remove(&gone).unwrap();
        // The same under another name, which had nothing: what was its alone, it can have by asking.
        let alone = left.holds.iter().map(|held| held.address).find(|address| {
            !after.services.values().any(|other| other.holds.iter().any(|held| held.address == *address))
        });
        prop_assume!(left.class.is_none() && alone.is_some());
        let address = alone.unwrap();
        let mut quiet = after;
        quiet.services.retain(|_, service| !service.holds.is_empty());
        for service in quiet.services.values_mut() {
            (service.asked, service.pool) = (Asked::Any, None);
        }
        let asks = LoadBalancer {
            asked: Asked::For(BTreeMap::from([(Family::of(address), address)])),
            pool: None,
            holds: Vec::new(),
            ..left
        };
        let successor = ObjectName { namespace: gone.namespace, name: "successor".into() };
        quiet.services.insert(successor.clone(), asks);
        // Who still has a family without an address may not get this one first: who asks comes first.
        let allocation = allocate(&quiet, false);
        let has = &allocation.services[&successor].addresses;
        prop_assert_eq!(has.get(&Family::of(address)).map(|(address, _)| *address), Some(address));
    }

    #[test]
    fn counts_add_up(balanced in balanced()) {
        let allocation = allocate(&balanced, false);
        let tenants = tenants(&balanced, &allocation);
        for (name, usage) in &allocation.pools {
            let pool = balanced.pools[name].in_force.as_ref().unwrap();
            for (family, usage) in usage {
                let in_pool = |address: &&IpAddr| {
                    Family::of(**address) == *family && pool.ranges.iter().any(|range| range.contains(**address))
                };
                let ours = tenants.keys().filter(in_pool).count() as u64;
                prop_assert_eq!(usage.total, 5);
                prop_assert!(usage.assigned >= ours);
                prop_assert_eq!(usage.free + usage.assigned + u64::from(*family == Family::Ipv4), 5);
            }
        }
    }

    #[test]
    fn who_has_not_what_it_wants_is_told_why(balanced in balanced()) {
        for (name, assignment) in allocate(&balanced, false).services {
            let service = &balanced.services[&name];
            let missing = service.families.iter().any(|family| !assignment.addresses.contains_key(family));
            if missing && (service.needs_every_family || assignment.addresses.is_empty()) {
                prop_assert!(!assignment.problems.is_empty(), "{}", name);
            }
            if let Asked::For(asked) = &service.asked {
                for (family, address) in asked.iter().filter(|(family, _)| service.families.contains(family)) {
                    let has = assignment.addresses.get(family).is_some_and(|(has, _)| has == address);
                    prop_assert!(has || !assignment.problems.is_empty(), "{}", name);
                }
            }
        }
    }
}
