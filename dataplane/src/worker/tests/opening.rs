//! SYNs that take their own way come to the same end as by the long one: batches of them, played to both.

use levee_api::program::Affinity;
use proptest::prelude::*;

use super::established::Twins;
use super::*;
use crate::limits::Ledger;

/// What may be another with a service, and what makes a SYN wait, or go without.
#[derive(Debug, Clone, Copy)]
struct World {
    mode: Mode,
    affinity: bool,
    few_allowed: bool,
    limited: bool,
    clamped: bool,
    /// SNAT ports.
    ports: u16,
}

#[derive(Debug, Clone)]
enum Step {
    Syns { from: PortId, clients: Vec<(u8, u8)>, ttl: u8 },
    Segment { client: (u8, u8), flags: &'static str },
    Backends(u8),
    Gateway(Option<u8>),
    Pause(Millis),
}

fn world() -> impl Strategy<Value = World> {
    let rarely = || proptest::bool::weighted(0.15);
    let mode = prop_oneof![4 => Just(Mode::Nat), 3 => Just(Mode::Dnat), 1 => Just(Mode::Dsr)];
    let ports = prop_oneof![Just(3u16), Just(40), Just(1000)];
    (mode, rarely(), rarely(), rarely(), rarely(), ports).prop_map(
        |(mode, affinity, few_allowed, limited, clamped, ports)| World {
            mode,
            affinity,
            few_allowed,
            limited,
            clamped,
            ports,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let from = prop_oneof![4 => Just(UPLINK), 1 => Just(PODS)];
    let ttl = prop_oneof![9 => Just(64u8), 1 => Just(1)];
    // The last of them are no clients: see `address`.
    let clients = proptest::collection::vec((0..11u8, 0..4u8), 1..40);
    let flags = prop_oneof![Just("A"), Just("FA"), Just("R"), Just("SA"), Just("SP"), Just("SF")];
    prop_oneof![
        10 => (from, clients, ttl).prop_map(|(from, clients, ttl)| Step::Syns { from, clients, ttl }),
        3 => ((0..8u8, 0..4u8), flags).prop_map(|(client, flags)| Step::Segment { client, flags }),
        1 => (0..8u8).prop_map(Step::Backends),
        1 => proptest::option::of(any::<u8>()).prop_map(Step::Gateway),
        2 => prop_oneof![Just(1u32), Just(300), Just(70_000)].prop_map(Step::Pause),
    ]
}

fn address(client: u8) -> [u8; 4] {
    match client {
        // Whom nobody may be on a wire: a VIP, nobody, oneself.
        8 => VIP,
        9 => [0, 0, 0, 1],
        10 => [127, 0, 0, 1],
        client => [192, 0, 2, client],
    }
}

fn segment(from: PortId, (client, port): (u8, u8), ttl: u8, flags: &str) -> Vec<u8> {
    let (macs, source) = if from == PODS { ((POD, INSIDE), POD_IP) } else { ((PEER, NODE), address(client)) };
    let ip = PacketBuilder::ethernet2(macs.0.0, macs.1.0).ipv4(source, VIP, ttl);
    // As Linux opens connections: a maximum segment size, and no more.
    let tcp = ip.tcp(40_000 + u16::from(port) + 100 * u16::from(client), 80, 1000, 4096);
    let tcp = tcp.options_raw(&[2, 4, 5, 0xb4]).unwrap();
    let mut frame = Vec::new();
    with_flags(tcp, flags).write(&mut frame, b"").unwrap();
    frame
}

fn services(world: World, which: u8) -> Vec<Service> {
    // Some of a batch leave by one port, some by the other.
    let all = [[10, 244, 2, 5], [10, 244, 2, 6], POD_IP];
    let backends: Vec<[u8; 4]> =
        all.into_iter().zip(0..).filter(|(_, index)| which >> index & 1 == 1).map(|(backend, _)| backend).collect();
    let mut service = service(Protocol::Tcp, world.mode, &backends);
    service.affinity = world.affinity.then_some(Affinity { timeout_seconds: 100 });
    if world.few_allowed {
        service.frontends[0].source_ranges = vec!["192.0.2.0/30".parse().unwrap()];
    }
    vec![service]
}

/// Plays it, and says how many took the way of SYNs.
fn story(world: World, steps: &[Step]) -> u64 {
    let program = Program { services: services(world, 0b111), ..program(world.mode, &[]) };
    let lab = || {
        let mut lab = Lab::with(1, program.clone(), |setup| {
            setup.snat[0].ports.last = setup.snat[0].ports.first + world.ports - 1;
            setup.mss_clamp = if world.clamped { 1400 } else { 0 };
        });
        if world.limited {
            let limit = |rate| Some(Ledger::new(rate, MAGLEV_KEY));
            lab.workers[0].bench.memory.newcomers = Newcomers { of_vip: limit(40), of_source: limit(5) };
        }
        lab
    };
    let mut twins = Twins { short: lab(), long: lab() };
    for step in steps {
        match step {
            Step::Syns { from, clients, ttl } => {
                let syns: Vec<_> = clients.iter().map(|client| segment(*from, *client, *ttl, "S")).collect();
                twins.play_all(*from, &syns);
            }
            Step::Segment { client, flags } => {
                twins.play(UPLINK, &segment(UPLINK, *client, 64, flags));
            }
            Step::Backends(which) => {
                let upsert_services = services(world, *which);
                twins.both(|lab| {
                    lab.amend(Delta { upsert_services: upsert_services.clone(), ..Delta::default() });
                });
            }
            Step::Gateway(last) => {
                twins.both(|lab| {
                    let mac = last.map(|last| Mac([2, 0, 0, 0, 2, last]));
                    lab.master.set_neighbour(UPLINK, [192, 168, 0, 2].into(), mac);
                    lab.publish();
                });
            }
            Step::Pause(time) => twins.both(|lab| lab.now += time),
        }
        // What has waited goes, or is given up, before anything else comes.
        assert_eq!(twins.short.settle(), twins.long.settle());
        assert_eq!(Twins::flows(&twins.short), Twins::flows(&twins.long), "after {step:?}");
        let begun = |lab: &Lab| lab.handles[0].counters.get(Counter::FlowsCreated);
        assert_eq!(begun(&twins.short), begun(&twins.long), "after {step:?}");
    }
    let counters = &twins.long.handles[0].counters;
    assert_eq!(counters.get(Counter::Opening), 0, "the long way is the long way");
    twins.short.handles[0].counters.get(Counter::Opening)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn the_way_of_syns_is_the_long_one(world in world(), steps in proptest::collection::vec(step(), 1..30)) {
        story(world, &steps);
    }
}

const ORDINARY: World =
    World { mode: Mode::Nat, affinity: false, few_allowed: false, limited: false, clamped: false, ports: 1000 };

#[test]
fn ordinary_syns_take_it_and_what_is_special_does_not() {
    let syns = |clients: std::ops::Range<u8>| Step::Syns {
        from: UPLINK,
        clients: clients.map(|client| (client, 0)).collect(),
        ttl: 64,
    };
    // The first of all tells what they are to.
    for mode in [Mode::Nat, Mode::Dnat] {
        assert_eq!(story(World { mode, ..ORDINARY }, &[syns(0..1), syns(1..8)]), 7, "{mode:?}");
    }
    assert_eq!(story(ORDINARY, &[syns(0..1), syns(0..8), syns(0..8)]), 7, "again is not the first time");
    assert_eq!(story(ORDINARY, &[syns(0..1), syns(1..11)]), 7, "three are no clients");
    assert_eq!(story(ORDINARY, &[syns(0..8)]), 7, "of the first batch, too, only the first goes the long way");
    assert_eq!(
        story(ORDINARY, &[syns(0..1), Step::Backends(1), syns(1..8)]),
        6,
        "the first of a batch after a change finds it out anew"
    );
    assert_eq!(story(ORDINARY, &[syns(0..1), Step::Backends(1), syns(1..2), syns(2..8)]), 6);
    for special in [
        World { mode: Mode::Dsr, ..ORDINARY },
        World { affinity: true, ..ORDINARY },
        World { few_allowed: true, ..ORDINARY },
        World { clamped: true, ..ORDINARY },
    ] {
        assert_eq!(story(special, &[syns(0..1), syns(1..8)]), 0, "{special:?}");
    }
    let limited = World { limited: true, ..ORDINARY };
    let many =
        Step::Syns { from: UPLINK, clients: (0..4).map(|port| (1, port)).chain([(1, 4), (1, 5)]).collect(), ttl: 64 };
    assert_eq!(story(limited, &[syns(0..1), many]), 5, "beyond its rate, a source is held to it there too");
}

/// One of a connection that is there, of one that is over, and of two that are one, all in a batch.
#[test]
fn what_is_in_the_table_by_then_is_seen() {
    let syns = |clients: &[(u8, u8)]| Step::Syns { from: UPLINK, clients: clients.to_vec(), ttl: 64 };
    let steps = [
        syns(&[(0, 0)]),
        syns(&[(1, 0), (1, 0), (2, 0), (1, 0)]),
        Step::Segment { client: (1, 0), flags: "A" },
        Step::Segment { client: (2, 0), flags: "R" },
        syns(&[(1, 0), (2, 0), (3, 0)]),
    ];
    assert_eq!(story(ORDINARY, &steps), 3);
}
