//! Whole workers over memory: real frames in, real frames out, etherparse as the reader of what came out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod change;
mod errors;
mod established;
mod flood;
mod fragments;
mod full;
mod ipv6;
mod martians;
mod opening;
mod quic;
mod ranges;
mod refusals;
mod resets;
mod sctp;
mod sizes;
mod snat;
mod workers;

use std::net::{IpAddr, Ipv4Addr};

use af_xdp::{FrameSize, UmemConfig};
use etherparse::{ArpEthIpv4Packet, ArpOperation, EtherType, Ethernet2Header, PacketBuilder, SlicedPacket};
use levee_api::net::{Family, Mac, PortRange, Protocol};
use levee_api::program::{
    Affinity, Backend, Delta, Frontend, Local, Mode, Pod, Pool, Program, Service, Side, Vip, WhenEmpty,
};

mod tunnel;
mod ways;

use super::*;
use crate::decide::Places;
use crate::flows::affinity::Affinities;
use crate::flows::{Flows, Timeouts};
use crate::hash::MAGLEV_KEY;
use crate::headers::Vlans;
use crate::limits::{Errors, Limit, Newcomers, Replies};
use crate::mem::publication::{self, Publisher};
use crate::port::memory::MemoryPort;
use crate::tables::master::{Master, Setup};
use crate::tables::snat::SnatRange;
use crate::ways::Ways;

const NODE: Mac = Mac([2, 0, 0, 0, 0, 0x01]);
const INSIDE: Mac = Mac([2, 0, 0, 0, 0, 0x02]);
const POD: Mac = Mac([2, 0, 0, 0, 1, 0x05]);
const POD_2: Mac = Mac([2, 0, 0, 0, 1, 0x06]);
const PEER: Mac = Mac([2, 0, 0, 0, 2, 0x01]);

const POD_IP: [u8; 4] = [10, 244, 1, 5];
const POD_2_IP: [u8; 4] = [10, 244, 1, 6];
const REMOTE_IP: [u8; 4] = [10, 244, 2, 5];
const NODE_IP: [u8; 4] = [192, 168, 0, 1];
const VIP: [u8; 4] = [10, 96, 0, 1];
const CLIENT: [u8; 4] = [192, 0, 2, 7];

const UPLINK: PortId = PortId(0);
const PODS: PortId = PortId(1);

/// A node, or a balancer, without a kernel.
struct Lab {
    umem: Arc<Umem>,
    master: Master,
    publisher: Publisher<Tables>,
    workers: Vec<Worker<MemoryPort>>,
    handles: Vec<Handle>,
    notices: Noticed,
    shared: Shared,
    now: Millis,
}

fn program(mode: Mode, backends: &[[u8; 4]]) -> Program {
    Program {
        generation: 1,
        local: Local {
            prefixes: vec!["10.244.1.0/24".parse().unwrap()],
            pods: vec![
                Pod { address: POD_IP.into(), mac: Some(POD) },
                Pod { address: POD_2_IP.into(), mac: Some(POD_2) },
            ],
        },
        service_ranges: vec!["10.96.0.0/16".parse().unwrap()],
        vips: vec![Vip { address: VIP.into(), announce: true }],
        services: [Protocol::Tcp, Protocol::Udp].map(|protocol| service(protocol, mode, backends)).into(),
        ..Program::default()
    }
}

fn service(protocol: Protocol, mode: Mode, backends: &[[u8; 4]]) -> Service {
    Service {
        name: "default/web:http".into(),
        protocol,
        family: Family::Ipv4,
        frontends: vec![Frontend {
            address: VIP.into(),
            port: 80,
            from: Side::Any,
            mode,
            pool: Pool::Cluster,
            when_empty: WhenEmpty::Reject,
            last_port: None,
            source_ranges: Vec::new(),
        }],
        backends: backends
            .iter()
            .map(|address| Backend { address: (*address).into(), port: 8080, pools: vec![Pool::Cluster], via: None })
            .collect(),
        affinity: None,
        quic: Vec::new(),
        flows: Default::default(),
    }
}

impl Lab {
    fn new(workers: usize, program: Program) -> Self {
        Lab::with(workers, program, |_| ())
    }

    /// The same with something else set up.
    fn with(workers: usize, program: Program, change: impl FnOnce(&mut Setup)) -> Self {
        let port =
            |name: &str, role, mac, passes| crate::tables::Port { name: name.into(), role, mac, passes, mtu: 1500 };
        let mut setup = Setup {
            ports: vec![port("eth0", Role::Uplink, NODE, false), port("levee0", Role::Pods, INSIDE, true)],
            snat: [IpAddr::from(NODE_IP), ipv6::NODE_IP.into()]
                .map(|own| SnatRange { address: own.into(), ports: PortRange { first: 61_000, last: 61_999 } })
                .into(),
            host_snat: Vec::new(),
            tunnel_ends: vec![Ipv4Addr::from(NODE_IP).into()],
            multicast: vec!["239.1.0.0/16".parse().unwrap(), "ff05::/16".parse().unwrap()],
            gateways: Vec::new(),
            mss_clamp: 0,
            workers,
        };
        change(&mut setup);
        let passes: Vec<bool> = setup.ports.iter().map(|port| port.passes).collect();
        let mut master = Master::new(setup);
        master.set_kernel_addresses([IpAddr::from(NODE_IP), ipv6::NODE_IP.into(), ipv6::LINK_LOCAL.into()]);
        let gateway = IpAddr::from([192, 168, 0, 2]);
        // As routers announce themselves: the gateway of IPv6 is a link-local address.
        let gateway_v6 = IpAddr::from(ipv6::GATEWAY);
        let everywhere = [("0.0.0.0/0", gateway), ("::/0", gateway_v6)];
        master.set_routes(everywhere.map(|(net, gateway)| (net.parse().unwrap(), UPLINK, Some(gateway))));
        master.set_neighbour(UPLINK, gateway, Some(PEER));
        master.set_neighbour(UPLINK, gateway_v6, Some(PEER));
        master.load(program).unwrap();
        let (publisher, readers) = publication::channel(master.snapshot(), workers);
        let config = UmemConfig { frames: 1024, frame_size: FrameSize::Bytes2048, ..UmemConfig::default() };
        let (umem, mut pool) = Umem::new(config).unwrap();
        let shared = Shared::new(workers, &umem).unwrap();
        let mut handovers = Handover::between(workers, &umem).into_iter();
        let (notice, notices) = Notices::new();
        let ways = Arc::new(Ways::new(MAGLEV_KEY));
        let (workers, handles) = readers
            .into_iter()
            .enumerate()
            .map(|(worker, tables)| {
                // One queue each of both ports, as RSS gives it.
                let lanes = vec![
                    (UPLINK, MemoryPort::new(&umem, 64).passes(passes[0])),
                    (PODS, MemoryPort::new(&umem, 64).passes(passes[1])),
                ];
                let (mut worker, handle) = Worker::new(Parts {
                    worker,
                    lanes,
                    senders: vec![Some(worker), Some(worker)],
                    pool: pool.split(1024 / shared.workers()),
                    memory: Memory {
                        flows: Flows::new(1024, MAGLEV_KEY, Timeouts::default()).unwrap(),
                        affinities: Affinities::new(64, MAGLEV_KEY).unwrap(),
                        arp: Limit::new(50, MAGLEV_KEY),
                        replies: Replies::new(100, MAGLEV_KEY),
                        errors: Errors::new(20, MAGLEV_KEY),
                        newcomers: Newcomers::default(),
                        places: Places::default(),
                        ways: Arc::clone(&ways),
                        created: 0,
                        untracked: 0,
                        over_limit: 0,
                        by_connection: 0,
                    },
                    tables,
                    shared: shared.clone(),
                    handover: handovers.next().unwrap(),
                    notices: notice.clone(),
                    idle: Idle::spin(Waker::new().unwrap()),
                    epoch: Instant::now(),
                    key: MAGLEV_KEY,
                });
                worker.turn(0);
                (worker, handle)
            })
            .unzip();
        Lab { umem, master, publisher, workers, handles, notices, shared, now: 0 }
    }

    fn publish(&mut self) {
        self.publisher.publish(self.master.snapshot());
    }

    fn amend(&mut self, delta: Delta) {
        let base = self.master.generation();
        self.master.amend(Delta { base, generation: base + 1, ..delta }).unwrap();
        self.publish();
    }

    /// Lets a frame arrive at a worker's queue of a port, and gives what all workers then send, in order, with its port.
    fn arrive_at(&mut self, worker: usize, port: PortId, frame: &[u8]) -> Vec<(PortId, Vec<u8>)> {
        assert!(self.workers[worker].port_mut(usize::from(port.0)).unwrap().deliver(frame));
        self.settle()
    }

    fn arrive(&mut self, port: PortId, frame: &[u8]) -> Vec<(PortId, Vec<u8>)> {
        self.arrive_at(0, port, frame)
    }

    fn settle(&mut self) -> Vec<(PortId, Vec<u8>)> {
        let mut sent = Vec::new();
        for _ in 0..3 {
            for worker in &mut self.workers {
                worker.turn(self.now);
                for (lane, port) in [UPLINK, PODS].into_iter().enumerate() {
                    while let Some(frame) = worker.port_mut(lane).unwrap().sent() {
                        sent.push((port, frame));
                    }
                }
            }
        }
        self.conserve();
        sent
    }

    /// One frame in, one frame out.
    fn one(&mut self, port: PortId, frame: &[u8]) -> (PortId, Vec<u8>) {
        let mut sent = self.arrive(port, frame);
        assert_eq!(sent.len(), 1, "{:?}", self.drops());
        sent.remove(0)
    }

    /// Nothing comes out, and the reason is this.
    fn dropped(&mut self, port: PortId, frame: &[u8], reason: Reason) {
        let before = self.count(reason);
        assert_eq!(self.arrive(port, frame), []);
        assert_eq!(self.count(reason), before + 1, "{:?}", self.drops());
    }

    fn count(&self, reason: Reason) -> u64 {
        self.handles.iter().map(|handle| handle.counters.dropped(reason)).sum()
    }

    fn drops(&self) -> Vec<(&'static str, u64)> {
        let all = Reason::ALL.iter().map(|reason| (reason.name(), self.count(*reason)));
        all.filter(|(_, count)| *count > 0).collect()
    }

    /// Frames wherever one can be.
    fn frames(&mut self) -> usize {
        let mut frames = self.shared.frames();
        for worker in &mut self.workers {
            frames += worker.frames();
            frames += (0..2).map(|lane| worker.port_mut(lane).unwrap().held()).sum::<usize>();
        }
        frames
    }

    /// Every frame of the UMEM is in exactly one place, and every received frame has exactly one end.
    fn conserve(&mut self) {
        assert_eq!(self.frames(), self.umem.frames() as usize);
        let sum = |counter| self.handles.iter().map(|handle| handle.counters.get(counter)).sum::<u64>();
        let dropped: u64 = self.handles.iter().map(|handle| handle.counters.dropped_total()).sum();
        let ended = sum(Counter::Forwarded) + sum(Counter::Hairpinned) + sum(Counter::Passed) + dropped;
        assert_eq!(sum(Counter::Rx), ended + sum(Counter::Waiting));
    }
}

fn tcp(macs: (Mac, Mac), ips: ([u8; 4], [u8; 4]), ports: (u16, u16), flags: &str) -> Vec<u8> {
    let tcp = PacketBuilder::ethernet2(macs.0.0, macs.1.0).ipv4(ips.0, ips.1, 64).tcp(ports.0, ports.1, 1000, 4096);
    let mut frame = Vec::new();
    with_flags(tcp, flags).write(&mut frame, b"").unwrap();
    frame
}

type TcpBuilder = etherparse::PacketBuilderStep<etherparse::TcpHeader>;

/// `S`, `A`, `F`, `R` and `P`.
fn with_flags(mut tcp: TcpBuilder, flags: &str) -> TcpBuilder {
    for flag in flags.chars() {
        tcp = match flag {
            'S' => tcp.syn(),
            'A' => tcp.ack(2000),
            'F' => tcp.fin(),
            'R' => tcp.rst(),
            _ => tcp.psh(),
        };
    }
    tcp
}

fn udp(macs: (Mac, Mac), ips: ([u8; 4], [u8; 4]), ports: (u16, u16)) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(macs.0.0, macs.1.0).ipv4(ips.0, ips.1, 64).udp(ports.0, ports.1);
    builder.write(&mut frame, b"hello").unwrap();
    frame
}

fn arp(operation: ArpOperation, source: Mac, sender: (Mac, [u8; 4]), target: (Mac, [u8; 4])) -> Vec<u8> {
    let destination = if operation == ArpOperation::REQUEST { Mac::BROADCAST } else { target.0 };
    let header = Ethernet2Header { source: source.0, destination: destination.0, ether_type: EtherType::ARP };
    let packet = ArpEthIpv4Packet {
        operation,
        sender_mac: sender.0.0,
        sender_ipv4: sender.1,
        target_mac: target.0.0,
        target_ipv4: target.1,
    };
    let mut frame = header.to_bytes().to_vec();
    frame.extend_from_slice(&packet.to_bytes());
    frame
}

/// (source MAC, destination MAC, source ip:port, destination ip:port, TTL).
type Seen = (Mac, Mac, ([u8; 4], u16), ([u8; 4], u16), u8);

/// What a frame says, after every checksum has been summed up again.
fn read(frame: &[u8]) -> Seen {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(etherparse::LinkSlice::Ethernet2(link)) = packet.link else { panic!("no Ethernet") };
    let Some(etherparse::NetSlice::Ipv4(ip)) = packet.net else { panic!("no IPv4") };
    let header = ip.header();
    assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
    let (source, destination) = match packet.transport.unwrap() {
        etherparse::TransportSlice::Tcp(tcp) => {
            assert_eq!(tcp.calc_checksum_ipv4(header.source(), header.destination()).unwrap(), tcp.checksum());
            (tcp.source_port(), tcp.destination_port())
        }
        etherparse::TransportSlice::Udp(udp) => {
            let header_only = udp.to_header();
            let sum = header_only.calc_checksum_ipv4_raw(header.source(), header.destination(), udp.payload()).unwrap();
            assert_eq!(sum, udp.checksum());
            (udp.source_port(), udp.destination_port())
        }
        other => panic!("{other:?}"),
    };
    let macs = (Mac(link.source()), Mac(link.destination()));
    (macs.0, macs.1, (header.source(), source), (header.destination(), destination), header.ttl())
}

fn tcp_flags_of(frame: &[u8]) -> (bool, bool) {
    match SlicedPacket::from_ethernet(frame).unwrap().transport.unwrap() {
        etherparse::TransportSlice::Tcp(tcp) => (tcp.rst(), tcp.ack()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn macs_are_rewritten_both_ways_and_nothing_else() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[]));
    let (port, frame) = lab.one(PODS, &tcp((POD, INSIDE), (POD_IP, REMOTE_IP), (4000, 80), "S"));
    assert_eq!(port, UPLINK);
    assert_eq!(read(&frame), (NODE, PEER, (POD_IP, 4000), (REMOTE_IP, 80), 64));
    let (port, frame) = lab.one(UPLINK, &tcp((PEER, NODE), (REMOTE_IP, POD_IP), (80, 4000), "SA"));
    assert_eq!(port, PODS);
    assert_eq!(read(&frame), (INSIDE, POD, (REMOTE_IP, 80), (POD_IP, 4000), 64));
    // A peer that still has the pod's own MAC is helped; another station's frame is not ours.
    let (port, _) = lab.one(UPLINK, &tcp((PEER, POD), (REMOTE_IP, POD_IP), (80, 4000), "A"));
    assert_eq!(port, PODS);
    lab.dropped(UPLINK, &tcp((PEER, POD), (CLIENT, REMOTE_IP), (80, 4000), "A"), Reason::OtherStation);
}

#[test]
fn traffic_between_pods_stays_on_the_node_and_groups_leave_only_by_leave() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[]));
    lab.dropped(PODS, &tcp((POD, POD_2), (POD_IP, POD_2_IP), (1, 2), "S"), Reason::PodToPod);
    let (port, frame) = lab.one(PODS, &tcp((POD, INSIDE), (POD_IP, POD_2_IP), (1, 2), "S"));
    assert_eq!((port, read(&frame).1), (PODS, POD_2));
    lab.dropped(PODS, &udp((POD, Mac::BROADCAST), (POD_IP, [255; 4]), (68, 67)), Reason::PodBroadcast);
    let group = Mac([1, 0, 0x5e, 1, 0, 1]);
    lab.dropped(PODS, &udp((POD, group), (POD_IP, [239, 2, 0, 1]), (1, 2)), Reason::PodMulticast);
    let (port, frame) = lab.one(PODS, &udp((POD, group), (POD_IP, [239, 1, 0, 1]), (1, 2)));
    assert_eq!((port, read(&frame).0, read(&frame).1), (UPLINK, NODE, group));
}

#[test]
fn arp_is_answered_on_both_sides_and_never_crosses() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[]));
    let ask = |sender: (Mac, [u8; 4]), target| arp(ArpOperation::REQUEST, sender.0, sender, (Mac::ZERO, target));
    for target in [POD_IP, [10, 244, 1, 77], VIP] {
        let (port, reply) = lab.one(UPLINK, &ask((PEER, REMOTE_IP), target));
        assert_eq!(port, UPLINK);
        assert_eq!(reply[..42], arp(ArpOperation::REPLY, NODE, (NODE, target), (PEER, REMOTE_IP))[..]);
    }
    // A probe for an address in use is answered; announcements and other people's addresses are not.
    assert_eq!(lab.arrive(UPLINK, &ask((PEER, [0; 4]), VIP)).len(), 1);
    lab.dropped(UPLINK, &ask((PEER, REMOTE_IP), [192, 168, 0, 9]), Reason::ArpIgnored);
    lab.dropped(UPLINK, &ask((PEER, REMOTE_IP), REMOTE_IP), Reason::ArpIgnored);
    // Towards pods: everything that is not here.
    let (port, reply) = lab.one(PODS, &ask((POD, POD_IP), REMOTE_IP));
    assert_eq!((port, &reply[..42]), (PODS, &arp(ArpOperation::REPLY, INSIDE, (INSIDE, REMOTE_IP), (POD, POD_IP))[..]));
    for target in [POD_2_IP, NODE_IP, [10, 244, 1, 99], POD_IP] {
        lab.dropped(PODS, &ask((POD, POD_IP), target), Reason::PodArpKept);
    }
    lab.dropped(PODS, &ask((POD, [0; 4]), [10, 244, 7, 7]), Reason::PodArpKept);
    lab.dropped(PODS, &arp(ArpOperation::REPLY, POD, (POD, POD_IP), (PEER, REMOTE_IP)), Reason::PodArpKept);
}

#[test]
fn a_vip_that_somebody_else_claims_is_a_conflict_that_is_told() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[]));
    let claim = arp(ArpOperation::REQUEST, PEER, (PEER, VIP), (Mac::ZERO, VIP));
    lab.dropped(UPLINK, &claim, Reason::ArpConflict);
    let told = lab.notices.claims.try_recv().unwrap();
    assert_eq!(told, Claim { port: UPLINK, vlans: Vlans::default(), address: Ipv4Addr::from(VIP).into(), mac: PEER });
    // Our own announcement, come back to us: by a loop, or from another port of ours on the same segment.
    for own in [NODE, INSIDE] {
        lab.dropped(UPLINK, &arp(ArpOperation::REQUEST, own, (own, VIP), (Mac::ZERO, VIP)), Reason::ArpIgnored);
    }
    assert!(lab.notices.claims.is_empty());
}

fn ping_between(macs: (Mac, Mac), addresses: ([u8; 4], [u8; 4])) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(macs.0.0, macs.1.0).ipv4(addresses.0, addresses.1, 64);
    let mut frame = Vec::new();
    builder.icmpv4_echo_request(7, 1).write(&mut frame, b"hello, gateway").unwrap();
    frame
}

#[test]
fn pods_have_a_gateway_inside_their_prefix_that_answers_arp_and_pings() {
    const GATEWAY: [u8; 4] = [10, 244, 1, 1];
    let ask = |sender: (Mac, [u8; 4])| arp(ArpOperation::REQUEST, sender.0, sender, (Mac::ZERO, GATEWAY));
    let mut without = Lab::new(1, program(Mode::Nat, &[]));
    without.dropped(PODS, &ask((POD, POD_IP)), Reason::PodArpKept);

    let mut lab = Lab::with(1, program(Mode::Nat, &[]), |setup| setup.gateways = vec![GATEWAY.into()]);
    let (port, reply) = lab.one(PODS, &ask((POD, POD_IP)));
    assert_eq!((port, &reply[..42]), (PODS, &arp(ArpOperation::REPLY, INSIDE, (INSIDE, GATEWAY), (POD, POD_IP))[..]));
    let (port, echo) = lab.one(PODS, &ping_between((POD, INSIDE), (POD_IP, GATEWAY)));
    assert_eq!((port, &echo[26..30], &echo[30..34], echo[34]), (PODS, &GATEWAY[..], &POD_IP[..], 0));
    // It is the pods' own: no pod may have it, and the fabric does not see it.
    lab.dropped(PODS, &ask((POD, GATEWAY)), Reason::ArpConflict);
    assert_eq!(lab.notices.claims.try_recv().unwrap().address, Ipv4Addr::from(GATEWAY).into());
    lab.dropped(UPLINK, &ask((PEER, REMOTE_IP)), Reason::ArpIgnored);
    lab.dropped(UPLINK, &ping_between((PEER, NODE), (REMOTE_IP, GATEWAY)), Reason::NotOwned);
    // Where the kernel has it, the kernel answers.
    lab.master.set_kernel_addresses([IpAddr::from(NODE_IP), IpAddr::from(GATEWAY)]);
    lab.publish();
    lab.dropped(PODS, &ask((POD, POD_IP)), Reason::PodArpKept);
}

#[test]
fn an_uplink_that_stands_by_answers_for_nobody_and_serves_what_comes() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[]));
    let ask = |target| arp(ArpOperation::REQUEST, PEER, (PEER, REMOTE_IP), (Mac::ZERO, target));
    let claim = arp(ArpOperation::REQUEST, PEER, (PEER, VIP), (Mac::ZERO, VIP));
    assert!(lab.master.set_standing_by(vec![UPLINK]) && !lab.master.set_standing_by(vec![UPLINK]));
    lab.publish();
    for target in [POD_IP, VIP] {
        lab.dropped(UPLINK, &ask(target), Reason::ArpIgnored);
    }
    lab.dropped(UPLINK, &claim, Reason::ArpIgnored);
    let (port, _) = lab.one(UPLINK, &tcp((PEER, NODE), (REMOTE_IP, POD_IP), (4000, 80), "S"));
    assert_eq!(port, PODS, "whoever still has its MAC is served");
    lab.master.set_standing_by(Vec::new());
    lab.publish();
    assert_eq!(lab.arrive(UPLINK, &ask(VIP)).len(), 1);
}

#[test]
fn a_storm_of_arp_is_limited_by_source_and_does_not_touch_others() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[]));
    let storm = arp(ArpOperation::REQUEST, PEER, (PEER, REMOTE_IP), (Mac::ZERO, VIP));
    let answered = (0..200).filter(|_| !lab.arrive(UPLINK, &storm).is_empty()).count();
    assert_eq!(answered, 50);
    assert_eq!(lab.count(Reason::ArpRateLimited), 150);
    // So are claims, however many addresses one station claims, and however many stations claim one. Two of these are pods.
    let ours = |number: u8| [10, 244, 1, number];
    let claim = |mac: Mac, claimed| arp(ArpOperation::REQUEST, mac, (mac, claimed), (Mac::ZERO, claimed));
    let thief = Mac([2, 0, 0, 0, 9, 9]);
    (0..200).for_each(|number| drop(lab.arrive(UPLINK, &claim(thief, ours(number)))));
    assert_eq!((lab.count(Reason::ArpConflict), lab.notices.claims.try_iter().count()), (52, 52));
    (0..200).for_each(|number| drop(lab.arrive(UPLINK, &claim(Mac([2, 0, 0, 0, 8, number]), VIP))));
    assert_eq!((lab.count(Reason::ArpConflict), lab.notices.claims.try_iter().count()), (102, 50));
    assert_eq!(lab.count(Reason::ArpRateLimited), 150 + 148 + 150);
    let other = arp(ArpOperation::REQUEST, POD, (POD, CLIENT), (Mac::ZERO, VIP));
    assert_eq!(lab.arrive(UPLINK, &other).len(), 1);
    assert_eq!(lab.arrive(PODS, &tcp((POD, INSIDE), (POD_IP, REMOTE_IP), (4000, 80), "S")).len(), 1);
}

#[test]
fn nat_hides_the_client_and_undoes_it_on_the_way_back() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[REMOTE_IP]));
    for protocol in ["tcp", "udp"] {
        let request = match protocol {
            "tcp" => tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "S"),
            _ => udp((PEER, NODE), (CLIENT, VIP), (4000, 80)),
        };
        let (port, frame) = lab.one(UPLINK, &request);
        let (source_mac, destination_mac, source, destination, ttl) = read(&frame);
        assert_eq!((port, source_mac, destination_mac, ttl), (UPLINK, NODE, PEER, 63));
        assert_eq!((source.0, destination), (NODE_IP, (REMOTE_IP, 8080)));
        assert!((61_000..=61_999).contains(&source.1));
        let reply = match protocol {
            "tcp" => tcp((PEER, NODE), (REMOTE_IP, NODE_IP), (8080, source.1), "SA"),
            _ => udp((PEER, NODE), (REMOTE_IP, NODE_IP), (8080, source.1)),
        };
        let (port, frame) = lab.one(UPLINK, &reply);
        assert_eq!(port, UPLINK);
        assert_eq!(read(&frame), (NODE, PEER, (VIP, 80), (CLIENT, 4000), 63));
    }
    lab.dropped(UPLINK, &tcp((PEER, NODE), (REMOTE_IP, NODE_IP), (8080, 61_500), "A"), Reason::NoSnatFlow);
}

#[test]
fn dnat_keeps_the_client_and_its_replies_are_known_by_their_backend() {
    let mut lab = Lab::new(1, program(Mode::Dnat, &[REMOTE_IP]));
    let (port, frame) = lab.one(PODS, &tcp((POD, INSIDE), (POD_IP, VIP), (4000, 80), "S"));
    assert_eq!(port, UPLINK);
    assert_eq!(read(&frame), (NODE, PEER, (POD_IP, 4000), (REMOTE_IP, 8080), 63));
    let (port, frame) = lab.one(UPLINK, &tcp((PEER, NODE), (REMOTE_IP, POD_IP), (8080, 4000), "SA"));
    assert_eq!(port, PODS);
    assert_eq!(read(&frame), (INSIDE, POD, (VIP, 80), (POD_IP, 4000), 63));
    // The same backend, asked directly, is not translated.
    let (_, frame) = lab.one(UPLINK, &tcp((PEER, NODE), (REMOTE_IP, POD_IP), (8080, 4001), "SA"));
    assert_eq!(read(&frame).2, (REMOTE_IP, 8080));
}

#[test]
fn a_pod_reaches_itself_and_its_neighbour_through_a_service() {
    for backend in [POD_IP, POD_2_IP] {
        let mut lab = Lab::new(1, program(Mode::Dnat, &[backend]));
        let (port, frame) = lab.one(PODS, &tcp((POD, INSIDE), (POD_IP, VIP), (4000, 80), "S"));
        let (_, _, source, destination, _) = read(&frame);
        assert_eq!((port, source.0, destination), (PODS, NODE_IP, (backend, 8080)), "its source is rewritten");
        let (port, frame) = lab.one(PODS, &tcp((POD_2, INSIDE), (backend, NODE_IP), (8080, source.1), "SA"));
        assert_eq!(port, PODS);
        assert_eq!(read(&frame), (INSIDE, POD, (VIP, 80), (POD_IP, 4000), 63));
    }
}

#[test]
fn a_backend_reaches_itself_through_a_balancer_under_another_address() {
    let mut lab = Lab::new(1, program(Mode::Dnat, &[REMOTE_IP]));
    let (_, frame) = lab.one(UPLINK, &tcp((PEER, NODE), (REMOTE_IP, VIP), (4000, 80), "S"));
    let (_, _, source, destination, _) = read(&frame);
    assert_eq!((source.0, destination), (NODE_IP, (REMOTE_IP, 8080)));
    let (_, frame) = lab.one(UPLINK, &tcp((PEER, NODE), (REMOTE_IP, NODE_IP), (8080, source.1), "SA"));
    assert_eq!((read(&frame).2, read(&frame).3), ((VIP, 80), (REMOTE_IP, 4000)));
}

#[test]
fn a_checksum_that_was_left_to_hardware_is_finished() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[REMOTE_IP]));
    for (ingress, macs, source, destination) in
        [(PODS, (POD, INSIDE), POD_IP, REMOTE_IP), (UPLINK, (PEER, NODE), CLIENT, VIP)]
    {
        let mut frame = tcp(macs, (source, destination), (4000, 80), "S");
        // What a kernel leaves: the sum of the pseudo header, not inverted (`skb_checksum_help` would do the rest).
        let words = [source, destination].concat();
        let words = words.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
        let sum = words.sum::<u32>() + 6 + 20;
        let unfinished = ((sum & 0xffff) + (sum >> 16)) as u16;
        frame[50..52].copy_from_slice(&unfinished.to_be_bytes());
        let (_, sent) = lab.one(ingress, &frame);
        read(&sent);
    }
}

#[test]
fn dsr_changes_only_macs() {
    let mut lab = Lab::new(1, program(Mode::Dsr, &[REMOTE_IP]));
    let (port, frame) = lab.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "S"));
    assert_eq!(port, UPLINK);
    assert_eq!(read(&frame), (NODE, PEER, (CLIENT, 4000), (VIP, 80), 63));
}

#[test]
fn what_cannot_be_served_is_refused_at_once() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[]));
    // No endpoints, and a closed port.
    for port in [80, 81] {
        let (_, frame) = lab.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, port), "S"));
        assert_eq!(tcp_flags_of(&frame), (true, true));
        assert_eq!((read(&frame).2, read(&frame).3), ((VIP, port), (CLIENT, 4000)));
        let (_, frame) = lab.one(UPLINK, &udp((PEER, NODE), (CLIENT, VIP), (4000, port)));
        let packet = SlicedPacket::from_ethernet(&frame).unwrap();
        assert!(matches!(packet.transport, Some(etherparse::TransportSlice::Icmpv4(_))));
    }
    lab.dropped(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 81), "R"), Reason::NoReplyAllowed);
    lab.dropped(UPLINK, &tcp((PEER, NODE), (CLIENT, [10, 96, 0, 9]), (4000, 80), "S"), Reason::ServiceUnallocated);
}

#[test]
fn only_clients_in_the_ranges_may_begin_and_flows_that_there_are_go_on() {
    let mut start = program(Mode::Nat, &[REMOTE_IP]);
    let mut lab = Lab::new(1, start.clone());
    lab.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "S"));
    for service in &mut start.services {
        service.frontends[0].source_ranges =
            vec!["203.0.113.0/24".parse().unwrap(), "198.51.100.7/32".parse().unwrap()];
    }
    lab.amend(Delta { upsert_services: start.services, ..Delta::default() });
    lab.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "A"));
    lab.dropped(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4001, 80), "S"), Reason::SourceNotAllowed);
    lab.dropped(UPLINK, &udp((PEER, NODE), (CLIENT, VIP), (4001, 80)), Reason::SourceNotAllowed);
    for client in [[203, 0, 113, 9], [198, 51, 100, 7]] {
        lab.one(UPLINK, &tcp((PEER, NODE), (client, VIP), (4001, 80), "S"));
    }
    lab.dropped(UPLINK, &tcp((PEER, NODE), ([198, 51, 100, 8], VIP), (4001, 80), "S"), Reason::SourceNotAllowed);
}

#[test]
fn a_vip_answers_ping() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[]));
    let mut ping = Vec::new();
    let builder = PacketBuilder::ethernet2(PEER.0, NODE.0).ipv4(CLIENT, VIP, 64).icmpv4_echo_request(7, 9);
    builder.write(&mut ping, b"data").unwrap();
    let (_, frame) = lab.one(UPLINK, &ping);
    let packet = SlicedPacket::from_ethernet(&frame).unwrap();
    let Some(etherparse::TransportSlice::Icmpv4(icmp)) = packet.transport else { panic!("{packet:?}") };
    let echo = etherparse::IcmpEchoHeader { id: 7, seq: 9 };
    assert_eq!(icmp.icmp_type(), etherparse::Icmpv4Type::EchoReply(echo));
    let whole = etherparse::Icmpv4Header::with_checksum(icmp.icmp_type(), icmp.payload());
    assert_eq!(whole.checksum, icmp.checksum());
}

fn without_backend(mode: Mode, keep: &[[u8; 4]]) -> Delta {
    let upsert = [Protocol::Tcp, Protocol::Udp].map(|protocol| service(protocol, mode, keep));
    Delta { upsert_services: upsert.into(), ..Delta::default() }
}

#[test]
fn a_flow_of_a_deleted_backend_is_reset_and_a_udp_flow_moves_at_once() {
    let other = [10, 244, 3, 5];
    let mut lab = Lab::new(1, program(Mode::Nat, &[REMOTE_IP]));
    lab.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "S"));
    lab.one(UPLINK, &udp((PEER, NODE), (CLIENT, VIP), (4000, 80)));
    lab.amend(without_backend(Mode::Nat, &[other]));
    let (_, frame) = lab.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "A"));
    assert!(tcp_flags_of(&frame).0);
    let (_, frame) = lab.one(UPLINK, &udp((PEER, NODE), (CLIENT, VIP), (4000, 80)));
    assert_eq!(read(&frame).3, (other, 8080));
    let (_, frame) = lab.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "S"));
    assert_eq!(read(&frame).3, (other, 8080), "a new connection with the same ports");
}

#[test]
fn a_draining_backend_keeps_its_flows_and_gets_no_new_ones() {
    let other = [10, 244, 3, 5];
    let mut lab = Lab::new(1, program(Mode::Nat, &[REMOTE_IP]));
    lab.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "S"));
    let mut draining = service(Protocol::Tcp, Mode::Nat, &[REMOTE_IP, other]);
    draining.backends[0].pools.clear();
    lab.amend(Delta { upsert_services: vec![draining], ..Delta::default() });
    let (_, frame) = lab.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "A"));
    assert_eq!(read(&frame).3, (REMOTE_IP, 8080));
    for port in 4001..4030 {
        let (_, frame) = lab.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (port, 80), "S"));
        assert_eq!(read(&frame).3, (other, 8080));
    }
}

#[test]
fn a_client_with_affinity_stays_until_its_timeout() {
    let backends: Vec<[u8; 4]> = (1..=20).map(|host| [10, 244, 2, host]).collect();
    let mut start = program(Mode::Nat, &backends);
    for service in &mut start.services {
        service.affinity = Some(Affinity { timeout_seconds: 10 });
    }
    let mut lab = Lab::new(2, start.clone());
    let connect = |lab: &mut Lab, port: u16, queue| {
        let sent = lab.arrive_at(queue, UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (port, 80), "S"));
        read(&sent[0].1).3.0
    };
    let chosen = connect(&mut lab, 4000, 0);
    // More backends: Maglev alone would move some clients; this one stays, whatever queue it comes in on.
    for service in &mut start.services {
        for host in 21..=200 {
            service.backends.push(Backend {
                address: [10, 244, 2, host].into(),
                port: 8080,
                pools: vec![Pool::Cluster],
                via: None,
            });
        }
    }
    lab.amend(Delta { upsert_services: start.services, ..Delta::default() });
    for port in 4001..4040 {
        assert_eq!(connect(&mut lab, port, usize::from(port % 2)), chosen);
    }
}

#[test]
fn a_frame_waits_for_its_next_hop_and_goes_when_it_is_known() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[]));
    let direct = "10.244.2.0/24".parse().unwrap();
    lab.master.set_routes([(direct, UPLINK, None)]);
    lab.publish();
    let frame = tcp((POD, INSIDE), (POD_IP, REMOTE_IP), (4000, 80), "S");
    assert_eq!(lab.arrive(PODS, &frame), []);
    let key = crate::tables::NeighbourKey { port: UPLINK, address: Ipv4Addr::from(REMOTE_IP).into() };
    assert_eq!(lab.notices.neighbours.try_recv(), Ok(key));
    assert_eq!(lab.arrive(PODS, &frame), []);
    assert!(lab.notices.neighbours.is_empty(), "asked once");
    lab.master.set_neighbour(UPLINK, REMOTE_IP.into(), Some(PEER));
    lab.publish();
    let sent = lab.settle();
    assert_eq!(sent.len(), 2);
    assert_eq!(read(&sent[0].1).1, PEER);
    // One that nobody answers for is given up, and a burst is bounded.
    lab.master.set_neighbour(UPLINK, REMOTE_IP.into(), None);
    lab.publish();
    for _ in 0..20 {
        lab.arrive(PODS, &frame);
    }
    assert_eq!(lab.count(Reason::NextHopQueueFull), 4);
    lab.now += 1_000;
    assert_eq!(lab.settle(), []);
    assert_eq!(lab.count(Reason::NextHopUnresolved), 16);
}

#[test]
fn replies_that_land_on_another_queue_are_handed_over() {
    for mode in [Mode::Nat, Mode::Dnat] {
        let mut lab = Lab::new(2, program(mode, &[REMOTE_IP]));
        for port in 4000..4040 {
            let queue = usize::from(port % 2);
            let (ingress, macs, client) =
                if mode == Mode::Nat { (UPLINK, (PEER, NODE), CLIENT) } else { (PODS, (POD, INSIDE), POD_IP) };
            let sent = lab.arrive_at(queue, ingress, &tcp(macs, (client, VIP), (port, 80), "S"));
            let (_, _, source, ..) = read(&sent[0].1);
            for queue in [0, 1] {
                let reply = tcp((PEER, NODE), (REMOTE_IP, source.0), (8080, source.1), "SA");
                let sent = lab.arrive_at(queue, UPLINK, &reply);
                assert_eq!(sent.len(), 1, "{:?}", lab.drops());
                assert_eq!((read(&sent[0].1).2, read(&sent[0].1).3), ((VIP, 80), (client, port)));
            }
        }
        let handed: u64 = lab.handles.iter().map(|handle| handle.counters.get(Counter::HandedOver)).sum();
        assert!(handed >= 40, "{handed}");
    }
}

#[test]
fn the_kernels_frames_are_passed_where_there_is_a_way() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[]));
    let ssh = tcp((POD, INSIDE), (POD_IP, NODE_IP), (4000, 22), "S");
    assert_eq!(lab.arrive(PODS, &ssh), []);
    assert_eq!(lab.workers[0].port_mut(1).unwrap().passed(), [ssh]);
    lab.dropped(UPLINK, &tcp((PEER, NODE), (CLIENT, NODE_IP), (4000, 22), "S"), Reason::NotOwned);
}

#[test]
fn a_full_transmit_ring_drops_under_its_own_name_and_loses_no_frame() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[]));
    lab.workers[0].port_mut(0).unwrap().tx_room = 0;
    for _ in 0..300 {
        lab.arrive(PODS, &tcp((POD, INSIDE), (POD_IP, REMOTE_IP), (4000, 80), "S"));
    }
    assert_eq!(lab.count(Reason::TxFull), 300 - BACKLOG as u64);
    lab.workers[0].port_mut(0).unwrap().tx_room = 64;
    assert!(!lab.settle().is_empty());
}

#[test]
fn flows_are_listed_and_flushed_by_command_and_frames_of_our_own_are_sent() {
    let mut lab = Lab::new(1, program(Mode::Nat, &[REMOTE_IP]));
    lab.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "S"));
    let (answer, answers) = crossbeam_channel::bounded(1);
    let query = FlowsQuery { cursor: 0, looks: 4096, flows: Vec::with_capacity(4096), answer };
    assert!(lab.handles[0].ask(Command::Flows(query)).is_ok());
    lab.settle();
    let page = answers.recv().unwrap();
    assert_eq!((page.flows.len(), page.next), (1, None));
    assert_eq!(page.flows[0].backend().port, 8080);
    let (answer, answers) = crossbeam_channel::bounded(1);
    let query = FlushQuery { cursor: 0, looks: 4096, which: Box::new(|_| true), answer };
    assert!(lab.handles[0].ask(Command::Flush(query)).is_ok());
    lab.settle();
    assert_eq!(answers.recv().unwrap().flushed, 1);
    let (_, frame) = lab.one(UPLINK, &tcp((PEER, NODE), (CLIENT, VIP), (4000, 80), "A"));
    assert!(tcp_flags_of(&frame).0, "with `nat`, what is in the middle and unknown is reset");

    let announcement = arp(ArpOperation::REQUEST, NODE, (NODE, VIP), (Mac::ZERO, VIP));
    let foreign = arp(ArpOperation::REQUEST, POD, (POD, VIP), (Mac::ZERO, VIP));
    for frame in [announcement.clone(), foreign] {
        assert!(lab.handles[0].ask(Command::Inject(UPLINK, frame.into())).is_ok());
    }
    assert_eq!(lab.settle(), [(UPLINK, announcement)]);
}
