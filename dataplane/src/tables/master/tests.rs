#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use levee_api::net::Family;
use levee_api::program::{Backend, Frontend, Mode, Pod, Pool, Side, WhenEmpty};
use proptest::prelude::*;

use super::*;

fn setup() -> Setup {
    let port = |name: &str, role, last| Port {
        name: name.into(),
        role,
        mac: Mac([2, 0, 0, 0, 0, last]),
        passes: false,
        mtu: 1500,
    };
    Setup {
        ports: vec![port("eth0", Role::Uplink, 1), port("levee0", Role::Pods, 2)],
        snat: vec![SnatRange { address: Address::v4(0xc0a8_0001), ports: PortRange { first: 61_000, last: 61_099 } }],
        host_snat: Vec::new(),
        tunnel_ends: Vec::new(),
        multicast: Vec::new(),
        gateways: Vec::new(),
        mss_clamp: 0,
        workers: 1,
    }
}

fn service(name: &str, address: u8, port: u16, backends: &[u8]) -> program::Service {
    program::Service {
        name: name.into(),
        protocol: Protocol::Tcp,
        family: Family::Ipv4,
        frontends: vec![Frontend {
            address: [10, 96, 0, address].into(),
            port,
            from: Side::Any,
            mode: Mode::Nat,
            pool: Pool::Cluster,
            when_empty: WhenEmpty::Reject,
            last_port: None,
            source_ranges: Vec::new(),
        }],
        backends: backends
            .iter()
            .map(|host| Backend {
                address: [10, 244, 0, *host].into(),
                port: 8080,
                pools: vec![Pool::Cluster],
                via: None,
            })
            .collect(),
        affinity: None,
        quic: Vec::new(),
        flows: Default::default(),
    }
}

fn program(generation: Generation, services: Vec<program::Service>) -> Program {
    let vips = (1..5).map(|host| Vip { address: [10, 96, 0, host].into(), announce: true }).collect();
    Program { generation, vips, services, ..Program::default() }
}

/// Everything that workers could see of a master's services, by what they would ask.
fn seen(tables: &Tables) -> Vec<String> {
    let mut seen: Vec<String> = tables
        .frontends
        .iter()
        .map(|(key, frontend)| {
            let service = tables.services.get(frontend.service).unwrap();
            let slots: Vec<_> = (0..64u64).map(|n| service.pick(frontend.pool, n << 58).map(|b| b.endpoint)).collect();
            let by_connection = (frontend.by_connection, service.connections.is_empty());
            format!("{key:?} {} {:?} {:?} {slots:?} {by_connection:?}", service.name, frontend.mode, service.backends)
        })
        .chain(tables.backends.iter().map(|(key, users)| format!("{key:?} {users}")))
        .chain(tables.owners.iter().map(|(address, owner)| format!("{address} {owner:?}")))
        .collect();
    seen.sort();
    seen
}

#[test]
fn a_service_keeps_its_identity_through_changes_and_a_new_one_in_its_slot_has_another() {
    let mut master = Master::new(setup());
    master.load(program(1, vec![service("a", 1, 80, &[1]), service("b", 2, 80, &[2])])).unwrap();
    let identity = |master: &Master, address| {
        let key = FrontendKey { address: Address::v4(address), port: 80, protocol: 6, from: Role::Uplink };
        let slot = master.tables.frontends.get(&key).unwrap().service;
        (slot, master.tables.services.get(slot).unwrap().id)
    };
    let before = identity(&master, 0x0a60_0001);
    master.load(program(2, vec![service("a", 1, 80, &[1, 3]), service("b", 2, 80, &[2])])).unwrap();
    assert_eq!(identity(&master, 0x0a60_0001), before);
    master.load(program(3, vec![service("b", 2, 80, &[2])])).unwrap();
    master.load(program(4, vec![service("c", 1, 80, &[1]), service("b", 2, 80, &[2])])).unwrap();
    let after = identity(&master, 0x0a60_0001);
    assert_eq!(after.0, before.0, "the slot is used again");
    assert_ne!(after.1, before.1);
}

#[test]
fn a_service_that_gains_or_loses_connection_ids_is_what_it_would_be_from_the_start() {
    let config = levee_api::quic::Config {
        rotation: 0,
        server_id_length: 4,
        nonce_length: 4,
        key: None,
        encodes_length: false,
        servers: Vec::new(),
    };
    let quic = |configs: &[levee_api::quic::Config]| program::Service {
        protocol: Protocol::Udp,
        quic: configs.to_vec(),
        ..service("a", 1, 443, &[1, 2])
    };
    let both = [config.clone(), levee_api::quic::Config { rotation: 1, ..config }];
    let mut walked = Master::new(setup());
    walked.load(program(1, vec![quic(&[])])).unwrap();
    for (generation, configs) in (2..).zip([&both[..1], &both, &both[1..], &[]]) {
        let next = program(generation, vec![quic(configs)]).canonical();
        let delta = Delta::between(&walked.program(), &next);
        walked.amend(delta).unwrap();
        let mut loaded = Master::new(setup());
        loaded.load(next).unwrap();
        assert_eq!(seen(&walked.tables), seen(&loaded.tables), "{configs:?}");
        let looked_at =
            walked.tables.frontends.iter().all(|(_, frontend)| frontend.by_connection != configs.is_empty());
        assert!(looked_at, "{configs:?}");
    }
}

#[test]
fn an_untouched_service_is_shared_between_snapshots() {
    let mut master = Master::new(setup());
    master.load(program(1, vec![service("a", 1, 80, &[1]), service("b", 2, 80, &[2])])).unwrap();
    let before = master.snapshot();
    let change = Delta { base: 1, generation: 2, upsert_services: vec![service("b", 2, 80, &[3])], ..Delta::default() };
    master.amend(change).unwrap();
    let after = master.snapshot();
    let shared = before.services.iter().zip(after.services.iter()).filter(|((_, a), (_, b))| Arc::ptr_eq(a, b)).count();
    assert_eq!(shared, 1);
    assert_ne!(before.services_stamp, after.services_stamp);
}

#[test]
fn a_bad_change_is_refused_whole_and_nothing_has_changed() {
    let mut master = Master::new(setup());
    master.load(program(5, vec![service("a", 1, 80, &[1]), service("b", 2, 80, &[2])])).unwrap();
    let before = seen(&master.tables);
    let refused = |master: &mut Master, delta: Delta, expected: &str| {
        let refusal = master.amend(Delta { generation: 6, ..delta }).unwrap_err();
        let Refusal::Invalid(messages) = refusal else { panic!("{refusal:?}") };
        assert!(messages.iter().any(|message| message.contains(expected)), "{messages:?}");
    };
    let upsert = |service| Delta { base: 5, upsert_services: vec![service], ..Delta::default() };
    refused(&mut master, upsert(service("c", 1, 80, &[1])), "services `a` and `c` both want tcp 10.96.0.1 port 80");
    refused(&mut master, upsert(service("c", 3, 0, &[])), "port 0");
    refused(&mut master, upsert(service("", 3, 80, &[])), "no name");
    refused(&mut master, upsert(service("c", 3, 80, &[1, 1])), "listed twice");
    let mut mixed = service("c", 3, 80, &[1]);
    mixed.backends[0].address = "2001:db8::1".parse().unwrap();
    refused(&mut master, upsert(mixed), "another family");
    let mut loopback = service("c", 3, 80, &[1]);
    loopback.backends[0].address = [127, 0, 0, 1].into();
    refused(&mut master, upsert(loopback), "127.0.0.1");
    let group =
        Local { pods: vec![Pod { address: [10, 0, 0, 1].into(), mac: Some(Mac::BROADCAST) }], ..Local::default() };
    refused(&mut master, Delta { base: 5, local: Some(group), ..Delta::default() }, "group address");
    let stale = master.amend(Delta { base: 4, generation: 6, ..Delta::default() });
    assert_eq!(stale, Err(Refusal::Stale { generation: 5 }));
    // What runs may be sent again, in any order; another program must not pass for it.
    let mut same = master.program();
    same.services.reverse();
    assert_eq!(master.load(same), Ok(()));
    let mut other = master.program();
    other.services[0].backends.clear();
    assert_eq!(master.load(other), Err(Refusal::Stale { generation: 5 }));
    assert_eq!((seen(&master.tables), master.generation()), (before, 5));
    // A frontend may move from one service to another in one change.
    let moved = Delta {
        base: 5,
        generation: 6,
        upsert_services: vec![service("a", 2, 80, &[1]), service("b", 1, 80, &[2])],
        ..Delta::default()
    };
    master.amend(moved).unwrap();
}

#[test]
fn hops_are_looked_up_anew_when_an_address_is_reached_in_another_way_and_only_then() {
    let mut master = Master::new(setup());
    let prefix = || vec!["10.244.0.0/24".parse().unwrap()];
    let local = |pods| Local { prefixes: prefix(), pods };
    master.load(Program { local: local(Vec::new()), ..program(1, vec![service("a", 1, 80, &[1])]) }).unwrap();
    let mut stamp = master.tables.hops_stamp;
    let mut amend = |delta: Delta, moves: bool, why: &str| {
        let base = master.generation();
        master.amend(Delta { base, generation: base + 1, ..delta }).unwrap();
        assert_eq!(master.tables.hops_stamp != stamp, moves, "{why}");
        stamp = master.tables.hops_stamp;
    };
    let upsert = |service| Delta { upsert_services: vec![service], ..Delta::default() };
    let vip = |address: [u8; 4]| Delta {
        upsert_vips: vec![Vip { address: address.into(), announce: true }],
        ..Delta::default()
    };
    amend(upsert(service("a", 1, 80, &[2])), false, "another backend is no other address");
    amend(upsert(service("b", 9, 80, &[2])), false, "a new Service is reached by the way that its address was");
    amend(vip([10, 96, 0, 77]), false, "and so is a new VIP outside of the pods' prefix");
    amend(vip([10, 244, 0, 2]), true, "one inside of it is no pod any more");
    let pod = |last: u8, mac| Pod { address: [10, 244, 0, last].into(), mac };
    let pods = |pods| Delta { local: Some(local(pods)), ..Delta::default() };
    amend(pods(vec![pod(7, None)]), false, "a pod in the pods' prefix was one before");
    amend(pods(vec![pod(7, Some(Mac([2, 0, 0, 0, 0, 7])))]), true, "now its MAC is known");
    amend(Delta { local: Some(Local::default()), ..Delta::default() }, true, "the prefix is gone");
}

#[test]
fn what_the_kernel_says_again_changes_nothing() {
    let mut master = Master::new(setup());
    let route = |gateway: u8| {
        [("10.244.0.0/16".parse::<IpNet>().unwrap(), PortId(0), Some(IpAddr::from([192, 0, 2, gateway])))]
    };
    let address = || [IpAddr::from([192, 168, 0, 1])];
    let (peer, mac) = (IpAddr::from([192, 0, 2, 9]), Mac([2, 0, 0, 0, 0, 9]));
    let mut told = |gateway, mac, port_mac| {
        let before = master.tables.hops_stamp;
        let changed = [
            master.set_routes(route(gateway)),
            master.set_kernel_addresses(address()),
            master.set_neighbour(PortId(0), peer, Some(mac)),
        ];
        master.set_port_mac(PortId(0), port_mac);
        (changed, master.tables.hops_stamp != before)
    };
    let own = Mac([2, 0, 0, 0, 0, 1]);
    assert_eq!(told(9, mac, own), ([true, true, true], true));
    assert_eq!(told(9, mac, own), ([false; 3], false), "the same routes, addresses and MACs again");
    assert_eq!(told(8, mac, own), ([true, false, false], true));
    assert_eq!(told(8, Mac([2, 0, 0, 0, 0, 8]), own), ([false, false, true], true));
    assert_eq!(told(8, Mac([2, 0, 0, 0, 0, 8]), mac), ([false; 3], true));
}

#[test]
fn the_kernels_address_in_the_pods_prefix_stays_the_kernels() {
    let mut master = Master::new(setup());
    let local = Local { prefixes: vec!["10.244.1.0/24".parse().unwrap()], pods: Vec::new() };
    master.set_kernel_addresses(["10.244.1.1".parse().unwrap(), "192.168.0.1".parse().unwrap()]);
    master.load(Program { local, ..program(1, Vec::new()) }).unwrap();
    let steered = master.steered();
    assert_eq!(steered.kernel, BTreeSet::from(["10.244.1.1".parse().unwrap()]));
    assert_eq!(steered.shared, BTreeSet::from(["192.168.0.1".parse().unwrap()]));
    assert!(steered.owned.contains(&"10.96.0.1/32".parse().unwrap()));
    assert!(!steered.owned.contains(&"192.168.0.1/32".parse().unwrap()));
}

fn services() -> impl Strategy<Value = Vec<program::Service>> {
    let one = (1..5u8, 80..83u16, proptest::collection::btree_set(1..6u8, 0..4));
    proptest::collection::btree_map(0..6u8, one, 0..6).prop_map(|services| {
        let mut taken = BTreeSet::new();
        services
            .into_iter()
            .filter(|(_, (address, port, _))| taken.insert((*address, *port)))
            .map(|(name, (address, port, backends))| {
                service(&format!("s{name}"), address, port, &backends.into_iter().collect::<Vec<_>>())
            })
            .collect()
    })
}

proptest! {
    /// However a program was reached, workers see the same.
    #[test]
    fn a_path_of_changes_ends_where_a_full_load_ends(steps in proptest::collection::vec((services(), any::<bool>()), 1..8)) {
        let mut walked = Master::new(setup());
        for (generation, (services, whole)) in (1..).zip(steps) {
            let next = program(generation, services).canonical();
            if whole || generation == 1 {
                walked.load(next.clone()).unwrap();
            } else {
                walked.amend(Delta::between(&walked.program(), &next)).unwrap();
            }
            prop_assert_eq!(walked.program(), next.clone());
            let mut fresh = Master::new(setup());
            fresh.load(next).unwrap();
            prop_assert_eq!(seen(&walked.tables), seen(&fresh.tables));
        }
    }
}

proptest! {
    /// A slot's stamp says when its service last came, changed or went; snapshots keep what they said.
    #[test]
    fn stamps_move_with_their_service_and_with_no_other(steps in proptest::collection::vec((services(), any::<bool>()), 1..8)) {
        let mut master = Master::new(setup());
        let mut model: BTreeMap<u32, u32> = BTreeMap::new();
        let mut past = Vec::new();
        for (generation, (services, whole)) in (1..).zip(steps) {
            let (next, before) = (program(generation, services).canonical(), master.snapshot());
            if whole || generation == 1 {
                master.load(next).unwrap();
            } else {
                master.amend(Delta::between(&master.program(), &next)).unwrap();
            }
            let after = master.snapshot();
            let there = |tables: &Tables, slot| tables.services.get(slot).map(Arc::as_ptr);
            for slot in (0..16).filter(|slot| there(&before, *slot) != there(&after, *slot)) {
                prop_assert_ne!(before.services_stamp, after.services_stamp);
                model.insert(slot, after.services_stamp);
            }
            past.push((after, model.clone()));
            for (tables, model) in &past {
                for slot in 0..16 {
                    prop_assert_eq!(tables.service_changed(slot), model.get(&slot).copied().unwrap_or(0));
                }
            }
        }
    }
}

/// What may happen to what is around the tables.
#[derive(Debug, Clone)]
enum Happening {
    Programmed(Vec<program::Service>, Vec<u8>, Vec<u8>),
    Routed(Vec<u8>),
    Addressed(Vec<u8>),
    InTerm(bool, Vec<u8>),
}

fn happening() -> impl Strategy<Value = Happening> {
    let few = || proptest::collection::btree_set(1..6u8, 0..4).prop_map(|few| few.into_iter().collect::<Vec<_>>());
    prop_oneof![
        4 => (services(), few(), few()).prop_map(|(services, vips, pods)| Happening::Programmed(services, vips, pods)),
        1 => few().prop_map(Happening::Routed),
        1 => few().prop_map(Happening::Addressed),
        1 => (any::<bool>(), few()).prop_map(|(in_term, few)| Happening::InTerm(in_term, few)),
    ]
}

proptest! {
    /// What is steered, wanted and announced follows every change; and what says that it is as before, is.
    #[test]
    fn what_is_around_the_tables_is_looked_at_again_when_it_may_have_changed(
        happenings in proptest::collection::vec((happening(), any::<bool>()), 1..12),
    ) {
        let mut master = Master::new(setup());
        let mut program = Program { generation: 0, ..Program::default() };
        let mut known: Option<(Steered, BTreeSet<_>, Vec<IpAddr>)> = None;
        for (happening, look) in happenings {
            // Backends, VIPs and addresses of the host come from the same few, so that they meet.
            let address = |last: &u8| IpAddr::from([10, 244, 0, *last]);
            match happening {
                Happening::Programmed(services, vips, pods) => {
                    let next = Program {
                        generation: program.generation + 1,
                        // Addresses of Services too, so that those are shared with the kernel, or not.
                        vips: vips
                            .iter()
                            .flat_map(|last| [address(last), IpAddr::from([10, 96, 0, *last])])
                            .map(|address| Vip { address, announce: vips.len() % 2 == 0 })
                            .collect(),
                        service_ranges: match pods.len() {
                            0 => Vec::new(),
                            1 => vec!["10.96.0.0/24".parse().unwrap()],
                            _ => vec!["10.244.0.0/30".parse().unwrap()],
                        },
                        local: Local { pods: pods.iter().map(|last| Pod { address: address(last), mac: None }).collect(), ..Local::default() },
                        services,
                        ..program.clone()
                    }
                    .canonical();
                    if program.generation == 0 {
                        master.load(next.clone()).unwrap();
                    } else {
                        master.amend(Delta::between(&program, &next)).unwrap();
                    }
                    program = next;
                }
                Happening::Routed(gateways) => {
                    master.set_routes(gateways.iter().map(|last| {
                        let net: IpNet = format!("10.244.0.{}/31", last & !1).parse().unwrap();
                        (net, PortId(0), last.is_multiple_of(3).then(|| IpAddr::from([192, 0, 2, *last])))
                    }));
                }
                Happening::Addressed(addresses) => drop(master.set_kernel_addresses(addresses.iter().map(address))),
                Happening::InTerm(in_term, addresses) => {
                    let next = Program { generation: program.generation + 1, announce_in_term: in_term, ..program.clone() };
                    if program.generation > 0 {
                        master.amend(Delta::between(&program, &next)).unwrap();
                        program = next;
                    }
                    master.set_term(&addresses.iter().map(address).collect());
                }
            }
            if !look {
                continue;
            }
            let around = master.take_around();
            let announced = master.announced().into_iter().chain(master.pods()).collect();
            let now = (master.steered(), master.wanted_neighbours(), announced);
            if let Some(known) = &known {
                prop_assert!(around.steered || known.0 == now.0);
                prop_assert!(around.wanted || known.1 == now.1);
                prop_assert!(around.announced || known.2 == now.2);
            }
            // Counted from the beginning, the same neighbours are wanted.
            master.wanted.move_all();
            master.take_around();
            prop_assert_eq!(&master.wanted_neighbours(), &now.1);
            known = Some(now);
            prop_assert_eq!(master.take_around(), Around::default());
            let size = &master.tables.size;
            let backends: usize = program.services.iter().map(|service| service.backends.len()).sum();
            prop_assert_eq!((size.services, size.vips, size.backends), (program.services.len(), program.vips.len(), backends));
        }
    }
}

#[test]
fn a_service_in_a_range_that_is_steered_whole_changes_nothing_of_that() {
    let mut master = Master::new(setup());
    let ranges = || vec!["10.96.0.0/24".parse().unwrap()];
    let bare = Program { generation: 1, service_ranges: ranges(), ..Program::default() };
    master.load(bare.clone()).unwrap();
    master.take_around();
    let steered = master.steered();
    let vip = |address: [u8; 4], announce| Vip { address: address.into(), announce };
    let mut then = |vips: Vec<Vip>, services: Vec<program::Service>| {
        let next = Program { generation: master.generation() + 1, vips, services, ..bare.clone() };
        master.amend(Delta::between(&master.program(), &next.canonical())).unwrap();
        (master.take_around(), master.steered() != steered)
    };
    let nothing = Around::default();
    let inside = || (vec![vip([10, 96, 0, 1], false)], vec![service("a", 1, 80, &[1])]);
    assert_eq!(then(inside().0, inside().1), (nothing, false), "it comes");
    assert_eq!(then(inside().0, vec![service("a", 1, 81, &[1])]), (nothing, false), "another port");
    assert_eq!(then(Vec::new(), Vec::new()), (nothing, false), "it goes");
    let steered_too = Around { steered: true, ..nothing };
    assert_eq!(then(Vec::new(), inside().1), (steered_too, true), "shared with the kernel");
    assert_eq!(then(inside().0, inside().1), (steered_too, false), "and no more");
    let announced = Around { announced: true, ..nothing };
    assert_eq!(then(vec![vip([10, 96, 0, 1], true)], inside().1), (announced, false), "announced");
    let all = Around { steered: true, announced: true, ..nothing };
    assert_eq!(then(vec![vip([10, 97, 0, 1], true)], Vec::new()), (all, true), "a VIP outside of the range");
}

#[test]
fn a_backend_more_or_less_is_nobodys_business_but_its_services() {
    let mut master = Master::new(setup());
    let gateway = IpAddr::from([192, 0, 2, 9]);
    master.set_routes([("10.244.0.0/16".parse().unwrap(), PortId(0), Some(gateway))]);
    let before = program(1, (1..5).map(|last| service(&format!("s{last}"), last, 80, &[1, 2])).collect());
    master.load(before.clone()).unwrap();
    assert_eq!(master.take_around(), Around::ALL);
    let after = Program {
        generation: 2,
        services: [&before.services[1..], &[service("s1", 1, 80, &[1, 3])]].concat(),
        ..before.clone()
    };
    master.amend(Delta::between(&before, &after.canonical())).unwrap();
    assert_eq!(master.take_around(), Around::default());
    assert_eq!(master.wanted_neighbours(), BTreeSet::from([(PortId(0), gateway)]));
}
