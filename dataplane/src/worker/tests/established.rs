//! The short way and the long one come to the same end: the same story, played to a worker that takes either, and to one that is
//! given each frame where the long way begins.

use levee_api::program::Via;
use levee_api::tunnel::Tunnel;
use proptest::prelude::*;

use super::*;
use crate::verdict::Endpoint;
use crate::wire::ethernet;
use crate::wire::ipv4::{DONT_FRAGMENT, Ipv4Header};

/// Both workers, each with a world of its own.
pub(super) struct Twins {
    pub(super) short: Lab,
    pub(super) long: Lab,
}

impl Twins {
    pub(super) fn new(program: Program) -> Self {
        Twins { short: Lab::new(1, program.clone()), long: Lab::new(1, program) }
    }

    pub(super) fn both(&mut self, mut change: impl FnMut(&mut Lab)) {
        change(&mut self.short);
        change(&mut self.long);
    }

    /// What comes out, after comparing.
    pub(super) fn play(&mut self, port: PortId, frame: &[u8]) -> Vec<(PortId, Vec<u8>)> {
        self.play_all(port, &[frame.to_vec()])
    }

    /// The same of some frames that come in one batch.
    pub(super) fn play_all(&mut self, port: PortId, frames: &[Vec<u8>]) -> Vec<(PortId, Vec<u8>)> {
        for frame in frames {
            assert!(self.short.workers[0].port_mut(usize::from(port.0)).unwrap().deliver(frame));
        }
        let sent = self.short.settle();
        let now = self.long.now;
        let lab = &mut self.long;
        let Worker { tables, lanes, bench, .. } = &mut lab.workers[0];
        for frame in frames {
            let mut held = bench.pool.take().expect("a frame");
            lab.umem.write(&mut held, frame).unwrap();
            bench.counters.add(Counter::Rx, 1);
            bench.process(held, port, tables.current(), now, lanes);
        }
        assert_eq!(sent, self.long.settle(), "{:?} {:?}", self.short.drops(), self.long.drops());
        assert_eq!(self.short.drops(), self.long.drops());
        sent
    }

    pub(super) fn flows(lab: &Lab) -> Vec<(Endpoint, Endpoint, &'static str, Millis)> {
        let flows = lab.workers[0].memory().flows.page(0, 2048).0;
        let mut flows: Vec<_> =
            flows.map(|(_, flow)| (flow.client(), flow.backend(), flow.state.name(), flow.last())).collect();
        flows.sort_by_key(|(client, ..)| (client.address, client.port));
        flows
    }
}

#[derive(Debug, Clone)]
enum Step {
    Packet {
        client: u8,
        v6: bool,
        udp: bool,
        from: PortId,
        flags: &'static str,
        ttl: u8,
        may_fragment: bool,
        stray: bool,
    },
    /// Between a pod and a station elsewhere, without a service.
    Plain {
        out: bool,
        port: u8,
        flags: &'static str,
    },
    /// A backend answers what came out last, in this manner.
    Answer {
        flags: &'static str,
        ttl: u8,
    },
    /// Packets from the fabric in one batch.
    Batch(Vec<Step>),
    Backends(u8),
    Gateway(u8),
    NoVip,
    Vip,
    Pause(Millis),
}

fn flags() -> impl Strategy<Value = &'static str> {
    prop_oneof![3 => Just("A"), 2 => Just("S"), 2 => Just("PA"), 1 => Just("F"), 1 => Just("FA"), 1 => Just("R")]
}

fn ttl() -> impl Strategy<Value = u8> {
    prop_oneof![6 => Just(64u8), 1 => Just(1), 1 => Just(2)]
}

fn packet() -> impl Strategy<Value = Step> {
    // Few flows, so that most packets are not their first.
    let rarely = || proptest::bool::weighted(0.3);
    (0..2u8, rarely(), any::<bool>(), rarely(), flags(), ttl(), 0..16u8).prop_map(
        |(client, v6, udp, pods, flags, ttl, odd)| Step::Packet {
            client,
            v6,
            udp,
            from: if pods { PODS } else { UPLINK },
            flags,
            ttl,
            may_fragment: odd == 0,
            stray: odd == 1,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let from_fabric = packet()
        .prop_filter_map("from pods", |packet| matches!(packet, Step::Packet { from: UPLINK, .. }).then_some(packet));
    prop_oneof![
        20 => packet(),
        8 => proptest::collection::vec(from_fabric, 2..20).prop_map(Step::Batch),
        4 => (any::<bool>(), 0..3u8, flags()).prop_map(|(out, port, flags)| Step::Plain { out, port, flags }),
        8 => (flags(), ttl()).prop_map(|(flags, ttl)| Step::Answer { flags, ttl }),
        1 => (0..8u8).prop_map(Step::Backends),
        1 => any::<u8>().prop_map(Step::Gateway),
        1 => Just(Step::NoVip),
        1 => Just(Step::Vip),
        1 => (1..200_000u32).prop_map(Step::Pause),
    ]
}

const VIP_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0x96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// How all Services of a story are reached: in which mode, and whether through a tunnel.
#[derive(Debug, Clone, Copy)]
struct Way {
    mode: Mode,
    wrapped: bool,
}

impl From<Mode> for Way {
    fn from(mode: Mode) -> Self {
        Way { mode, wrapped: mode == Mode::Tunnel }
    }
}

/// Services of both families and protocols, with those of three backends that a bit of `which` is set for.
fn services(Way { mode, wrapped }: Way, which: u8) -> Vec<Service> {
    let chosen = |index: &u8| which >> index & 1 == 1;
    let families = [Family::Ipv4, Family::Ipv6];
    let each = families.into_iter().flat_map(|family| [(family, Protocol::Tcp), (family, Protocol::Udp)]);
    each.map(|(family, protocol)| {
        let backends = (0..3u8).filter(chosen).map(|index| Backend {
            address: match family {
                Family::Ipv4 => [10, 244, 2, 5 + index].into(),
                Family::Ipv6 => ipv6_of(2, index).into(),
            },
            port: 8080,
            pools: vec![Pool::Cluster],
            via: wrapped.then_some(Via { address: [192, 168, 0, 11].into(), mac: None }),
        });
        let backends = backends.collect();
        let mut service = Service { family, backends, ..service(protocol, mode, &[]) };
        if family == Family::Ipv6 {
            service.name = "default/web6:http".into();
            service.frontends[0].address = VIP_V6.into();
        }
        service
    })
    .collect()
}

fn ipv6_of(net: u8, host: u8) -> [u8; 16] {
    [0x20, 1, 0xd, 0xb8, 0, net, 0, 0, 0, 0, 0, 0, 0, 0, 0, host + 0x10]
}

fn frame(step: &Step) -> Vec<u8> {
    let Step::Packet { client, v6, udp, from, flags, ttl, may_fragment, stray } = *step else { panic!("{step:?}") };
    let (source, station) = if from == PODS { (POD, INSIDE) } else { (PEER, NODE) };
    let station = if stray { PEER } else { station };
    let link = PacketBuilder::ethernet2(source.0, station.0);
    let ip = match (v6, from == PODS) {
        (false, false) => link.ipv4([192, 0, 2, client], VIP, ttl),
        (false, true) => link.ipv4(POD_IP, VIP, ttl),
        (true, false) => link.ipv6(ipv6_of(0xff, client), VIP_V6, ttl),
        (true, true) => link.ipv6(ipv6_of(1, 0), VIP_V6, ttl),
    };
    let mut frame = Vec::new();
    let port = 40_000 + u16::from(client);
    if udp {
        ip.udp(port, 80).write(&mut frame, b"a question of some length").unwrap();
    } else {
        let tcp = ip.tcp(port, 80, 1000, 4096);
        with_flags(tcp, flags).write(&mut frame, b"").unwrap();
    }
    if may_fragment && !v6 {
        let mut header = Ipv4Header::new_checked_mut(&mut frame[ethernet::LEN..]).unwrap();
        header.set_flags_offset(header.flags_offset() & !DONT_FRAGMENT);
        header.fill_checksum();
    }
    frame
}

/// The answer to a packet that came out, as its receiver makes it.
fn answer(sent: &[u8], flags: &str, ttl: u8) -> Vec<u8> {
    let packet = SlicedPacket::from_ethernet(sent).unwrap();
    let Some(etherparse::LinkSlice::Ethernet2(link)) = &packet.link else { panic!("no Ethernet") };
    let back = PacketBuilder::ethernet2(link.destination(), link.source());
    let ip = match packet.net.as_ref().unwrap() {
        etherparse::NetSlice::Ipv4(ip) => back.ipv4(ip.header().destination(), ip.header().source(), ttl),
        etherparse::NetSlice::Ipv6(ip) => back.ipv6(ip.header().destination(), ip.header().source(), ttl),
        etherparse::NetSlice::Arp(_) => panic!("ARP"),
    };
    let mut frame = Vec::new();
    match packet.transport.unwrap() {
        etherparse::TransportSlice::Tcp(tcp) => {
            let tcp = ip.tcp(tcp.destination_port(), tcp.source_port(), 5000, 4096);
            with_flags(tcp, flags).write(&mut frame, b"").unwrap();
        }
        etherparse::TransportSlice::Udp(udp) => {
            ip.udp(udp.destination_port(), udp.source_port()).write(&mut frame, b"an answer of some length").unwrap();
        }
        _ => {}
    }
    frame
}

fn story(way: impl Into<Way>, steps: &[Step]) -> u64 {
    let way = way.into();
    let program = Program {
        tunnels: vec![Tunnel { addresses: vec![NODE_IP.into()], ..Tunnel::default() }],
        local: Local {
            prefixes: vec!["10.244.1.0/24".parse().unwrap(), "2001:db8:1::/48".parse().unwrap()],
            pods: vec![
                Pod { address: POD_IP.into(), mac: Some(POD) },
                Pod { address: ipv6_of(1, 0).into(), mac: Some(POD) },
            ],
        },
        vips: [IpAddr::from(VIP), VIP_V6.into()].map(|address| Vip { address, announce: true }).into(),
        services: services(way, 0b111),
        ..program(way.mode, &[])
    };
    let mut twins = Twins::new(program);
    let mut last = Vec::new();
    for step in steps {
        match step {
            Step::Packet { from, .. } => {
                let sent = twins.play(*from, &frame(step));
                if let [(port, frame)] = &sent[..] {
                    last = vec![(*port, frame.clone())];
                }
            }
            Step::Batch(packets) => {
                twins.play_all(UPLINK, &packets.iter().map(frame).collect::<Vec<_>>());
            }
            Step::Plain { out, port, flags } => {
                let ports = (4000 + u16::from(*port), 80);
                if *out {
                    twins.play(PODS, &tcp((POD, INSIDE), (POD_IP, REMOTE_IP), ports, flags));
                } else {
                    twins.play(UPLINK, &tcp((PEER, NODE), (REMOTE_IP, POD_IP), (ports.1, ports.0), flags));
                }
            }
            Step::Answer { flags, ttl } => {
                if let [(port, sent)] = &last[..] {
                    let back = answer(sent, flags, *ttl);
                    if !back.is_empty() {
                        twins.play(*port, &back);
                    }
                }
            }
            Step::Backends(which) => {
                twins.both(|lab| lab.amend(Delta { upsert_services: services(way, *which), ..Delta::default() }));
            }
            Step::Gateway(last) => twins.both(|lab| {
                lab.master.set_neighbour(UPLINK, [192, 168, 0, 2].into(), Some(Mac([2, 0, 0, 0, 2, *last])));
                lab.publish();
            }),
            Step::NoVip => twins.both(|lab| {
                let remove_services = services(way, 0b111).iter().map(Service::key).collect();
                lab.amend(Delta { remove_vips: vec![VIP.into()], remove_services, ..Delta::default() });
            }),
            Step::Vip => twins.both(|lab| {
                let upsert_vips = vec![Vip { address: VIP.into(), announce: true }];
                lab.amend(Delta { upsert_vips, upsert_services: services(way, 0b111), ..Delta::default() });
            }),
            Step::Pause(time) => twins.both(|lab| lab.now += time),
        }
        assert_eq!(Twins::flows(&twins.short), Twins::flows(&twins.long), "after {step:?}");
    }
    twins.short.handles[0].counters.get(Counter::Established)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn the_short_way_is_the_long_one(
        mode in prop_oneof![Just(Mode::Nat), Just(Mode::Dnat), Just(Mode::Dsr), Just(Mode::Tunnel)],
        wrapped in proptest::bool::weighted(0.2),
        steps in proptest::collection::vec(step(), 1..100),
    ) {
        story(Way { mode, wrapped: wrapped || mode == Mode::Tunnel }, &steps);
    }
}

#[test]
fn what_simply_goes_on_takes_it_both_ways_in_both_families() {
    let packet = |v6, udp, flags| Step::Packet {
        client: 1,
        v6,
        udp,
        from: UPLINK,
        flags,
        ttl: 64,
        may_fragment: false,
        stray: false,
    };
    let on = Step::Answer { flags: "A", ttl: 64 };
    for mode in [Mode::Nat, Mode::Dnat] {
        for v6 in [false, true] {
            let udp = |_| packet(v6, true, "");
            // The first packet of each direction is told its next hop.
            assert_eq!(story(mode, &[udp(0), udp(1), on.clone(), udp(2), on.clone()]), 3, "UDP {mode:?} {v6}");
            let tcp = [packet(v6, false, "S"), on.clone(), packet(v6, false, "A"), packet(v6, false, "PA"), on.clone()];
            // The SYN, its answer and the first ACK are followed closely.
            assert_eq!(story(mode, &tcp), 2, "TCP {mode:?} {v6}");
        }
    }
    let change = [
        packet(false, true, ""),
        packet(false, true, ""),
        Step::Gateway(9),
        packet(false, true, ""),
        packet(false, true, ""),
    ];
    assert_eq!(story(Mode::Nat, &change), 2, "the first after a change goes the long way");
}

/// A node's own pods may reach by `dnat` what it reaches through a tunnel.
#[test]
fn what_is_wrapped_goes_the_long_way_in_every_mode() {
    let packet = Step::Packet {
        client: 1,
        v6: false,
        udp: true,
        from: UPLINK,
        flags: "",
        ttl: 64,
        may_fragment: false,
        stray: false,
    };
    for mode in [Mode::Nat, Mode::Dnat, Mode::Dsr, Mode::Tunnel] {
        assert_eq!(
            story(Way { mode, wrapped: true }, &[packet.clone(), packet.clone(), packet.clone()]),
            0,
            "{mode:?}"
        );
    }
}

#[test]
fn what_only_gets_other_macs_is_remembered_until_something_changes() {
    let plain = |out| Step::Plain { out, port: 0, flags: "A" };
    assert_eq!(story(Mode::Nat, &[plain(true), plain(true), plain(false), plain(false), plain(true)]), 3);
    assert_eq!(story(Mode::Nat, &[plain(true), Step::Gateway(7), plain(true), plain(true)]), 1);
    assert_eq!(story(Mode::Nat, &[plain(true), Step::Backends(1), plain(true), plain(true)]), 1);
}
