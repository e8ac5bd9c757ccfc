//! Who is who: the addresses, MACs and services that every story is about. Few of each, so that they meet often.
//!
//! ```text
//!   fabric 192.0.2.0/24          node: uplink 192.0.2.1                pods 10.244.1.0/24
//!   .2  other node, 10.244.2/24      VIPs 10.96.0.1, 10.96.0.2,           .10 MAC programmed
//!   .3  unknown,    10.244.3/24           198.51.100.1 (announced)        .11 MAC from the kernel
//!   .7  client                       SNAT 192.0.2.1:61000-61007,          .12 MAC unknown
//!   .254 gateway                          198.51.100.9:61000-61003
//! ```
//!
//! In a scene that is `wide` there are, besides: [`WHOLE`] and what is left of 198.51.100.1, served whole; [`RANGE`]; a range of TCP on
//! 10.96.0.2 that other services have ports of; and [`QUIC`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use levee_api::net::{Family, Mac, PortRange, Protocol, Role};
use levee_api::program::{
    Affinity, Backend, Frontend, Local, Mode, Pod, Pool, Program, Service, Side, Via, Vip, WhenEmpty,
};
use levee_api::quic::{Config, Key};
use levee_api::tunnel::{Encapsulation, Tunnel};
use levee_dataplane::tables::Port;
use levee_dataplane::tables::master::{Master, Setup};
use levee_dataplane::tables::snat::{INWARD, SnatRange};
use levee_dataplane::verdict::PortId;

use crate::script::Scene;

/// The client of the named frames in `tests/fixtures/frames`.
pub const CLIENT_MAC: Mac = Mac([0x02, 0, 0x5e, 0x10, 0, 0x01]);
/// The node of the named frames: the uplink's MAC.
pub const UPLINK_MAC: Mac = Mac([0x02, 0, 0x5e, 0x10, 0, 0x02]);
/// The MAC of the other port: towards the pods, or a second uplink.
pub const INNER_MAC: Mac = Mac([0x02, 0, 0x5e, 0x10, 0, 0x03]);
/// A pod's.
pub const POD_MAC: Mac = Mac([0x02, 0, 0x5e, 0x10, 1, 0x10]);
/// The first port: always an uplink.
pub const UPLINK: PortId = PortId(0);
/// The second: pods on a node, another uplink on a balancer.
pub const INNER: PortId = PortId(1);
/// The third, if there is one: the host's own stack. Both ends of that link have its MAC.
pub const HOST: PortId = PortId(2);
/// Its MAC.
pub const HOST_MAC: Mac = Mac([0x02, 0, 0x5e, 0x10, 0, 0x04]);
/// Shared with the kernel.
pub const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// The other node, which wraps packets for this one.
pub const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// A VIP that is served whole.
pub const WHOLE: Ipv4Addr = Ipv4Addr::new(10, 96, 7, 7);
/// A VIP of which a range of UDP ports is served.
pub const RANGE: (Ipv4Addr, PortRange) = (Ipv4Addr::new(10, 96, 0, 1), PortRange { first: 40000, last: 61003 });
/// Where a service is whose backends make connection IDs.
pub const QUIC: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 96, 0, 2), 443);

/// MACs that frames come from and go to, besides those of the ports.
pub const MACS: [Mac; 8] = [
    CLIENT_MAC,
    UPLINK_MAC,
    INNER_MAC,
    POD_MAC,
    Mac::BROADCAST,
    Mac::ZERO,
    Mac([0x01, 0, 0x5e, 1, 1, 1]),
    Mac([0x02, 0, 0x5e, 0x10, 0, 0x77]),
];

/// Addresses that packets come from and go to.
pub const ADDRESSES: [Ipv4Addr; 24] = [
    Ipv4Addr::new(192, 0, 2, 7),
    Ipv4Addr::new(10, 96, 0, 1),
    Ipv4Addr::new(10, 244, 1, 10),
    Ipv4Addr::new(10, 244, 2, 10),
    Ipv4Addr::new(10, 96, 0, 2),
    Ipv4Addr::new(198, 51, 100, 1),
    NODE,
    Ipv4Addr::new(10, 244, 1, 11),
    Ipv4Addr::new(10, 244, 1, 12),
    Ipv4Addr::new(10, 244, 3, 10),
    Ipv4Addr::new(198, 51, 100, 9),
    Ipv4Addr::new(192, 0, 2, 50),
    Ipv4Addr::new(203, 0, 113, 9),
    Ipv4Addr::new(192, 0, 2, 77),
    Ipv4Addr::new(192, 0, 2, 2),
    Ipv4Addr::new(192, 0, 2, 3),
    Ipv4Addr::new(192, 0, 2, 254),
    Ipv4Addr::new(10, 96, 7, 7),
    Ipv4Addr::new(239, 1, 2, 3),
    Ipv4Addr::new(224, 0, 0, 251),
    Ipv4Addr::BROADCAST,
    Ipv4Addr::UNSPECIFIED,
    Ipv4Addr::LOCALHOST,
    Ipv4Addr::new(203, 0, 113, 10),
];

/// Ports that packets come from and go to.
pub const PORTS: [u16; 16] =
    [40000, 80, 8080, 61000, 53, 30080, 40001, 61007, 61004, 61003, 443, 81, 82, 0, 65535, 61001];

/// Backends that services may have.
pub const BACKENDS: [(Ipv4Addr, u16); 6] = [
    (Ipv4Addr::new(10, 244, 1, 10), 8080),
    (Ipv4Addr::new(10, 244, 2, 10), 8080),
    (Ipv4Addr::new(10, 244, 1, 11), 8080),
    (Ipv4Addr::new(10, 244, 3, 10), 8080),
    (Ipv4Addr::new(192, 0, 2, 50), 80),
    (NODE, 8080),
];

/// The ports of a scene.
#[must_use]
pub fn ports(scene: &Scene) -> Vec<Port> {
    let inner = if scene.node { Role::Pods } else { Role::Uplink };
    let mut ports = vec![
        Port { name: "eth0".into(), role: Role::Uplink, mac: UPLINK_MAC, passes: scene.passes, mtu: 1500 },
        Port { name: "levee0".into(), role: inner, mac: INNER_MAC, passes: true, mtu: 1500 },
    ];
    if scene.host {
        ports.push(Port { name: "levee-host".into(), role: Role::Host, mac: HOST_MAC, passes: false, mtu: 1500 });
    }
    ports
}

/// The director at the beginning of a scene: the program loaded, and what the kernel says.
///
/// # Panics
/// If the program is refused.
#[must_use]
pub fn director(scene: &Scene) -> Master {
    let range =
        |address: Ipv4Addr, last| SnatRange { address: address.into(), ports: PortRange { first: 61000, last } };
    let mut master = Master::new(Setup {
        ports: ports(scene),
        snat: if scene.snat {
            let four = [range(NODE, 61007), range(Ipv4Addr::new(198, 51, 100, 9), 61003)];
            let six = [(NODE, 61007), (Ipv4Addr::new(198, 51, 100, 9), 61003)];
            let six = six.map(|(address, last)| SnatRange {
                address: twin(address).into(),
                ports: PortRange { first: 61000, last },
            });
            [four, six].concat()
        } else {
            Vec::new()
        },
        host_snat: if scene.host { INWARD.to_vec() } else { Vec::new() },
        tunnel_ends: [IpAddr::from(NODE), twin(NODE).into()].map(Into::into).into(),
        // `ff05::1:0:0/96`: the twins of 239.1.0.0/16.
        multicast: vec![net("239.1.0.0/16"), net("ff05::1:0:0/96")],
        gateways: Vec::new(),
        mss_clamp: 0,
        workers: scene.workers,
    });
    master.set_kernel_addresses([NODE.into(), twin(NODE).into()]);
    master.set_routes(routes(true));
    for (port, address, mac) in neighbours() {
        master.set_neighbour(port, address, Some(mac));
        master.set_neighbour(port, twin_of(address), Some(mac));
    }
    master.load(program(scene)).expect("a program that can be run");
    master
}

/// The kernel's routes, with the default route or without.
#[must_use]
pub fn routes(default: bool) -> Vec<(IpNet, PortId, Option<IpAddr>)> {
    let via = |last| Some(IpAddr::from([192, 0, 2, last]));
    let mut routes = vec![
        (net("192.0.2.0/24"), UPLINK, None),
        (net("10.244.2.0/24"), UPLINK, via(2)),
        (net("10.244.3.0/24"), UPLINK, via(3)),
        (net("203.0.113.10/32"), INNER, None),
    ];
    if default {
        routes.push((net("0.0.0.0/0"), UPLINK, via(254)));
    }
    let twins: Vec<_> = routes.iter().map(|(net, port, via)| (twin_net(*net), *port, via.map(twin_of))).collect();
    routes.extend(twins);
    routes
}

/// The IPv6 address that somebody has besides: everybody in a story has two names, and speaks by one of them.
#[must_use]
pub fn twin(address: Ipv4Addr) -> Ipv6Addr {
    match address.octets() {
        [0, 0, 0, 0] => Ipv6Addr::UNSPECIFIED,
        [127, 0, 0, 1] => Ipv6Addr::LOCALHOST,
        [255, 255, 255, 255] => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
        [group @ 224..=239, a, b, c] => {
            let scope = if group == 239 { 0xff05 } else { 0xff02 };
            Ipv6Addr::new(scope, 0, 0, 0, 0, a.into(), b.into(), c.into())
        }
        [a, b, c, d] => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, a.into(), b.into(), c.into(), d.into()),
    }
}

fn twin_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => twin(v4).into(),
        v6 => v6,
    }
}

/// The twins of a prefix of whole bytes: each byte of an address is two of its twin.
fn twin_net(of: IpNet) -> IpNet {
    let length = if of.prefix_len() == 0 { 0 } else { 64 + 2 * of.prefix_len() };
    IpNet::new(if length == 0 { Ipv6Addr::UNSPECIFIED.into() } else { twin_of(of.addr()) }, length).expect("a prefix")
}

/// The same service for twins, by a name that comes behind all others.
fn twin_service(service: &Service) -> Service {
    let mut six = service.clone();
    six.name = format!("z6/{}", six.name.replace('/', "-"));
    six.family = Family::Ipv6;
    for frontend in &mut six.frontends {
        frontend.address = twin_of(frontend.address);
    }
    for backend in &mut six.backends {
        backend.address = twin_of(backend.address);
    }
    six
}

fn neighbours() -> [(PortId, IpAddr, Mac); 5] {
    [
        (UPLINK, IpAddr::from([192, 0, 2, 2]), Mac([0x02, 0, 0x5e, 0x10, 0, 0x22])),
        (UPLINK, IpAddr::from([192, 0, 2, 7]), CLIENT_MAC),
        (UPLINK, IpAddr::from([192, 0, 2, 50]), Mac([0x02, 0, 0x5e, 0x10, 0, 0x50])),
        (UPLINK, IpAddr::from([192, 0, 2, 254]), Mac([0x02, 0, 0x5e, 0x10, 0, 0xfe])),
        (INNER, IpAddr::from([10, 244, 1, 11]), Mac([0x02, 0, 0x5e, 0x10, 1, 0x11])),
    ]
}

/// The program at the beginning of a scene.
#[must_use]
pub fn program(scene: &Scene) -> Program {
    let local =
        if scene.node { Local { prefixes: vec![net("10.244.1.0/24")], pods: pods() } } else { Local::default() };
    let vip = |address: [u8; 4], announce| Vip { address: address.into(), announce };
    let any = |address: [u8; 4], port, mode| front(address, port, Side::Any, mode, Pool::Cluster, WhenEmpty::Reject);
    let services = [
        service("default/web:http", Protocol::Tcp, vec![any([10, 96, 0, 1], 80, scene.mode)], &[0, 1, 2, 3], None),
        service("kube-system/dns:dns", Protocol::Udp, vec![any([10, 96, 0, 1], 53, scene.mode)], &[0, 1, 4], None),
        service("default/direct:http", Protocol::Tcp, vec![any([10, 96, 0, 2], 80, Mode::Dsr)], &[0, 1], None),
        service("default/shop:https", Protocol::Tcp, vec![any([10, 96, 0, 2], 443, scene.mode)], &[0, 1, 4], Some(30)),
        service("default/none:http", Protocol::Tcp, vec![any([10, 96, 0, 2], 81, Mode::Nat)], &[], None),
        service(
            "default/edge:http",
            Protocol::Tcp,
            vec![
                front([198, 51, 100, 1], 80, Side::Uplink, Mode::Dnat, Pool::Local, WhenEmpty::Drop),
                front([198, 51, 100, 1], 80, Side::Pods, Mode::Nat, Pool::Cluster, WhenEmpty::Reject),
                front(NODE.octets(), 30080, Side::Any, Mode::Nat, Pool::Cluster, WhenEmpty::Reject),
            ],
            &[0, 1, 2, 5],
            None,
        ),
        service("default/log:syslog", Protocol::Udp, vec![any([198, 51, 100, 1], 82, Mode::Nat)], &[0, 1, 4], Some(1)),
    ];
    let mut vips = vec![vip([10, 96, 0, 1], !scene.node), vip([10, 96, 0, 2], false), vip([198, 51, 100, 1], true)];
    let mut services = services.to_vec();
    if scene.wide {
        vips.push(vip(WHOLE.octets(), scene.node));
        services.extend(wide(scene));
    }
    let twins = vips.iter().map(|vip| Vip { address: twin_of(vip.address), ..vip.clone() }).collect();
    // Those come behind all others, twins first; and what is unwrapped is for pods of this node.
    let unwrapped =
        [("zz/a:http", Protocol::Tcp, 80), ("zz/b:dns", Protocol::Udp, 53)].map(|(name, protocol, port)| {
            let front = front([10, 96, 0, 1], port, Side::Tunnel, Mode::Dnat, Pool::Local, WhenEmpty::Drop);
            service(name, protocol, vec![front], &[0, 2], None)
        });
    let mut services: Vec<_> = services.iter().cloned().chain(services.iter().map(twin_service)).collect();
    if scene.tunnel.is_some() {
        let backends = services.iter_mut().flat_map(|service| &mut service.backends);
        backends.for_each(|backend| backend.via = Some(via(backend.address, scene.crossed)));
        services.extend(unwrapped.iter().cloned().chain(unwrapped.iter().map(twin_service)));
    }
    let local =
        Local { prefixes: local.prefixes.iter().flat_map(|net| [*net, twin_net(*net)]).collect(), pods: local.pods };
    Program {
        generation: 1,
        local,
        service_ranges: vec![net("10.96.0.0/16"), twin_net(net("10.96.0.0/16"))],
        vips: [vips, twins].concat(),
        announce_in_term: false,
        tunnels: tunnels(scene),
        services,
    }
    .canonical()
}

/// Services whose clients choose the port, and the one of QUIC. (The names come behind those of the others.)
fn wide(scene: &Scene) -> [Service; 5] {
    let any = |address: Ipv4Addr, ports: PortRange, mode| Frontend {
        last_port: (ports.first != 0).then_some(ports.last),
        ..front(address.octets(), ports.first, Side::Any, mode, Pool::Cluster, WhenEmpty::Reject)
    };
    let whole = PortRange { first: 0, last: 0 };
    let edge = |from, mode, pool, when_empty| front([198, 51, 100, 1], 0, from, mode, pool, when_empty);
    let edges = vec![
        edge(Side::Uplink, Mode::Dnat, Pool::Local, WhenEmpty::Drop),
        edge(Side::Pods, Mode::Nat, Pool::Cluster, WhenEmpty::Reject),
    ];
    let beside = any(QUIC.0, PortRange { first: 82, last: 8080 }, Mode::Nat);
    let quic = front(QUIC.0.octets(), QUIC.1, Side::Any, scene.mode, Pool::Cluster, WhenEmpty::Reject);
    let mut services = [
        service("media/all:any", Protocol::Any, vec![any(WHOLE, whole, scene.mode)], &[0, 1, 2, 4], None),
        service("media/edge:any", Protocol::Any, edges, &[0, 1, 2], None),
        service("media/relay:udp", Protocol::Udp, vec![any(RANGE.0, RANGE.1, scene.mode)], &[0, 1, 4, 5], Some(30)),
        service("media/web:tcp", Protocol::Tcp, vec![beside], &[0, 1, 4], None),
        service("media/quic:quic", Protocol::Udp, vec![quic], &[0, 1, 2, 4], None),
    ];
    for service in services.iter_mut().filter(|service| service.is_wide()) {
        service.backends.iter_mut().for_each(|backend| backend.port = 0);
    }
    if let Some(quic) = services.last_mut() {
        quic.quic = connections().to_vec();
    }
    services
}

/// How backends make connection IDs: in the clear, in one block of AES, and in four passes over two halves of unequal length.
#[must_use]
pub fn connections() -> [Config; 3] {
    let config = |rotation, server_id_length, nonce_length, key: Option<[u8; 16]>, encodes_length| Config {
        rotation,
        server_id_length,
        nonce_length,
        key: key.map(Key::new),
        encodes_length,
        servers: Vec::new(),
    };
    [config(0, 4, 4, None, true), config(1, 4, 12, Some([7; 16]), false), config(2, 8, 5, Some([9; 16]), true)]
}

/// Packets are wrapped for the first, and what the other node has wrapped is unwrapped, of every kind.
fn tunnels(scene: &Scene) -> Vec<Tunnel> {
    let mut kinds: Vec<_> = Encapsulation::ALL.into_iter().filter(|_| scene.tunnel.is_some()).collect();
    kinds.sort_by_key(|kind| Some(*kind) != scene.tunnel);
    let peers = [IpAddr::from(PEER), twin(PEER).into()].map(IpNet::from);
    kinds.into_iter().map(|kind| Tunnel { kind, peers: peers.into(), ..Tunnel::default() }).collect()
}

/// The far end that a backend is behind: the other nodes, or itself where it is a neighbour. If `crossed`, of the other family.
#[must_use]
pub fn via(backend: IpAddr, crossed: bool) -> Via {
    let four = |address: Ipv4Addr| match address.octets() {
        [10, 244, 3, _] => Ipv4Addr::new(192, 0, 2, 3),
        [192, 0, 2, 50] => address,
        _ => PEER,
    };
    let (far_end, six) = match backend {
        IpAddr::V4(address) => (four(address), false),
        // Only backends are asked for, and they are twins.
        IpAddr::V6(address) => {
            let named = BACKENDS.iter().find(|(name, _)| twin(*name) == address);
            (named.map_or(PEER, |(name, _)| four(*name)), true)
        }
    };
    Via { address: if six != crossed { twin(far_end).into() } else { far_end.into() }, mac: None }
}

/// Pods that are known one by one.
#[must_use]
pub fn pods() -> Vec<Pod> {
    let both =
        [(Ipv4Addr::new(10, 244, 1, 10), POD_MAC), (Ipv4Addr::new(192, 0, 2, 77), Mac([0x02, 0, 0x5e, 0x10, 1, 0x77]))];
    both.into_iter()
        .flat_map(|(address, mac)| [IpAddr::from(address), twin(address).into()].map(|address| (address, mac)))
        .map(|(address, mac)| Pod { address, mac: Some(mac) })
        .collect()
}

/// One of [`BACKENDS`].
#[must_use]
pub fn backend(family: Family, index: usize, pools: &[Pool]) -> Backend {
    let (address, port) = BACKENDS[index % BACKENDS.len()];
    let address = if family == Family::Ipv4 { address.into() } else { twin(address).into() };
    Backend { address, port, pools: pools.to_vec(), via: None }
}

fn front(address: [u8; 4], port: u16, from: Side, mode: Mode, pool: Pool, when_empty: WhenEmpty) -> Frontend {
    Frontend { address: address.into(), port, from, mode, pool, when_empty, last_port: None, source_ranges: Vec::new() }
}

fn service(
    name: &str,
    protocol: Protocol,
    frontends: Vec<Frontend>,
    backends: &[usize],
    affinity: Option<u32>,
) -> Service {
    let pools = |index| if [0, 2].contains(&index) { vec![Pool::Cluster, Pool::Local] } else { vec![Pool::Cluster] };
    Service {
        name: name.into(),
        protocol,
        family: Family::Ipv4,
        frontends,
        backends: backends.iter().map(|index| backend(Family::Ipv4, *index, &pools(*index))).collect(),
        affinity: affinity.map(|timeout_seconds| Affinity { timeout_seconds }),
        quic: Vec::new(),
        flows: Default::default(),
    }
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}
