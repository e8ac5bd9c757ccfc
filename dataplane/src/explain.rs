//! One packet's fate in words, by the very code that decides on packets.
//!
//! The question's headers go through `classify` and `decide` with a snapshot and an empty memory: the answer is what a
//! new flow gets. Whether a flow is tracked already only its worker knows; the control socket asks it beforehand.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use levee_api::explain::{Carries, Explanation, Fate, Packet, Question};
use levee_api::net::{Mac, Protocol, Role};
use levee_api::program::Mode;

use crate::address::Address;
use crate::classify::{Class, Plain, classify};
use crate::decide::{Decision, Memory, Places, Scene, decide};
use crate::flows::affinity::Affinities;
use crate::flows::{Flow, Flows, Timeouts};
use crate::hash::MAGLEV_KEY;
use crate::headers::{Fragment, Headers, Icmp, Ip, Network, Ports, Tcp, Transport, Udp, Vlans, tcp_flags};
use crate::limits::{Errors, Limit, Newcomers, Replies};
use crate::quic::ConnectionId;
use crate::reason::Reason;
use crate::tables::Tables;
use crate::tables::service::Service;
use crate::verdict::{Endpoint, PortId, Reply, Verdict};
use crate::ways::Ways;

/// Answers a question from a snapshot.
///
/// # Errors
/// What is wrong with the question, and what was expected.
pub fn explain(tables: &Tables, question: &Question) -> Result<Explanation, String> {
    let packet: Packet = question.packet.parse()?;
    let source = Address::from(packet.source.ip());
    let owner = tables.owner(source);
    if question.from.is_none() && owner.kernel && tables.port_with(Role::Host).is_none() {
        return Ok(own_traffic(&packet));
    }
    let from = question.from.unwrap_or_else(|| match owner {
        _ if owner.kernel => Role::Host,
        _ if tables.is_local_pod(source, owner) => Role::Pods,
        _ => Role::Uplink,
    });
    let ingress = tables.port_with(from).ok_or_else(|| {
        format!("this dataplane has no port of role {from}: leave `from` out, or name the other side")
    })?;
    let headers = headers(&packet, tables, ingress);
    let class = by_connection(classify(&headers, tables, ingress), &packet, tables);
    let mut memory = memory()?;
    let mut scene = Scene { tables, ingress, worker: 0, now: 0 };
    let mut decision = decide(&class, &headers, &scene, &mut memory);
    if let Decision::HandOver(worker) = decision {
        scene.worker = worker;
        decision = decide(&class, &headers, &scene, &mut memory);
    }
    let service = match &class {
        Class::Service(frontend) | Class::Connection(frontend, _) => {
            tables.services.get(frontend.service).map(|service| (service, frontend.pool))
        }
        _ => None,
    };
    let (verdict, reason) = match fate(&decision, &class) {
        (Fate::Forward, _) if memory.by_connection > 0 => (Fate::Forward, "connection_id"),
        // Where only owned addresses are taken from the fabric, the others never come here: the kernel has them.
        (Fate::Drop, reason) if from == Role::Uplink && reason == Reason::NotOwned.name() => (Fate::Pass, "kernel"),
        (Fate::Drop, reason)
            if from == Role::Uplink
                && reason == Reason::MartianDestination.name()
                && tables.port(ingress).is_some_and(|port| !port.passes) =>
        {
            (Fate::Pass, "kernel")
        }
        // The kernel routes here only what is levee's, and has its own ways for the rest.
        _ if from == Role::Host && matches!(class, Class::Plain(_) | Class::Reply(_)) => (Fate::Pass, "own_traffic"),
        ends => ends,
    };
    // What was chosen for a packet that ends otherwise, it does not get.
    let flow = memory
        .flows
        .page(0, memory.flows.capacity())
        .0
        .next()
        .map(|(_, flow)| flow)
        .filter(|_| verdict == Fate::Forward);
    Ok(Explanation {
        packet: packet.to_string(),
        from,
        verdict,
        reason: reason.into(),
        service: service.map(|(service, _)| service.name.to_string()),
        // A packet that is refused or dropped has none, whoever there is for others.
        candidates: service.filter(|_| verdict == Fate::Forward).map_or_else(Vec::new, |(service, pool)| {
            let candidates = service.backends.iter().filter(|backend| backend.is_in(pool));
            let mut candidates: Vec<_> = candidates.map(|backend| text(backend.endpoint)).collect();
            // As texts: so that whoever reads them can tell that they are sorted.
            candidates.sort_unstable();
            candidates
        }),
        backend: flow.map(|flow| text(flow.backend())),
        tunnel: flow.and_then(|flow| tunnel(service?.0, flow.backend(), tables)),
        mode: flow.map(|flow| flow.mode()),
        client_address_kept: flow.map(|flow| flow.mode() != Mode::Nat),
    })
}

/// What a worker does with the bytes, here with what is asked about.
fn by_connection(class: Class, packet: &Packet, tables: &Tables) -> Class {
    let Class::Service(frontend) = class else { return class };
    let named = packet.connection_id.as_deref().and_then(|octets| {
        // As of a short header: what follows it in the packet is not known.
        tables.services.get(frontend.service)?.connections.backend(ConnectionId { octets, exact: false })
    });
    named.map_or(class, |backend| Class::Connection(frontend, backend))
}

/// The tunnel that leads to a backend.
fn tunnel(service: &Service, backend: Endpoint, tables: &Tables) -> Option<String> {
    let remote = service.via(service.backend(backend)?.via)?;
    let kind = tables.tunnels.first()?.kind;
    Some(format!("{kind} to {}", std::net::IpAddr::from(remote.address)))
}

/// What the node itself sends leaves by its kernel, where there is no port of role `host`: XDP sees only what comes in.
fn own_traffic(packet: &Packet) -> Explanation {
    Explanation {
        packet: packet.to_string(),
        from: Role::Uplink,
        verdict: Fate::Pass,
        reason: "own_traffic".into(),
        service: None,
        candidates: Vec::new(),
        backend: None,
        tunnel: None,
        mode: None,
        client_address_kept: None,
    }
}

/// Overlays what a tracked flow says on what a new flow would get.
pub fn with_flow(explanation: &mut Explanation, flow: &Flow) {
    if explanation.service.is_some() && matches!(explanation.verdict, Fate::Forward | Fate::Reject) {
        explanation.verdict = Fate::Forward;
        explanation.reason = "tracked_flow".into();
        explanation.backend = Some(text(flow.backend()));
        explanation.mode = Some(flow.mode());
        explanation.client_address_kept = Some(flow.mode() != Mode::Nat);
    }
}

fn fate(decision: &Decision, class: &Class) -> (Fate, &'static str) {
    match decision {
        Decision::Ends(Verdict::Forward(..) | Verdict::Wrap(..))
        | Decision::Awaits(_)
        | Decision::HandOver(_)
        | Decision::Seek => (Fate::Forward, forward_reason(class)),
        Decision::Ends(Verdict::Hairpin(Reply::TcpReset { .. } | Reply::PortUnreachable { .. })) => match class {
            Class::Service(_) | Class::Connection(..) => (Fate::Reject, "no_endpoints"),
            _ => (Fate::Reject, "closed_port"),
        },
        Decision::Ends(Verdict::Hairpin(Reply::Echo { .. })) => (Fate::Hairpin, "ping"),
        Decision::Ends(Verdict::Hairpin(Reply::TooBig { .. })) => (Fate::Reject, "too_big"),
        Decision::Ends(Verdict::Hairpin(Reply::TimeExceeded { .. })) => (Fate::Reject, "time_exceeded"),
        Decision::Unwrap(_) => (Fate::Forward, "tunnelled"),
        Decision::Ends(Verdict::Hairpin(Reply::ArpIsAt { .. })) => (Fate::Hairpin, "arp"),
        Decision::Ends(Verdict::Hairpin(Reply::NeighbourIsAt { .. })) => (Fate::Hairpin, "ndp"),
        Decision::Ends(Verdict::Pass) => (Fate::Pass, "kernel"),
        Decision::Ends(Verdict::Drop(reason)) => (Fate::Drop, reason.name()),
    }
}

fn forward_reason(class: &Class) -> &'static str {
    match class {
        Class::Service(_) | Class::Connection(..) => "service",
        Class::Plain(Plain::Multicast(_)) => "multicast",
        _ => "plain",
    }
}

fn text(endpoint: Endpoint) -> String {
    SocketAddr::new(endpoint.address.into(), endpoint.port).to_string()
}

/// As small as it gets, and without limits: one question, one packet.
fn memory() -> Result<Memory, String> {
    let out_of_memory = |error: std::io::Error| format!("out of memory: {error}");
    Ok(Memory {
        // One of IPv6 takes two entries.
        flows: Flows::new(2, MAGLEV_KEY, Timeouts::default()).map_err(out_of_memory)?,
        affinities: Affinities::new(1, MAGLEV_KEY).map_err(out_of_memory)?,
        arp: Limit::new(1, MAGLEV_KEY),
        replies: Replies::new(1, MAGLEV_KEY),
        errors: Errors::new(1, MAGLEV_KEY),
        newcomers: Newcomers::default(),
        places: Places::default(),
        ways: Arc::new(Ways::new(MAGLEV_KEY)),
        created: 0,
        untracked: 0,
        over_limit: 0,
        by_connection: 0,
    })
}

/// The MAC that what is sent to more than one station bears (RFC 1112, 6.4; RFC 2464, 7; RFC 894); `None` of what is for one.
fn mac_of_many(to: IpAddr) -> Option<Mac> {
    match to {
        IpAddr::V4(Ipv4Addr::BROADCAST) => Some(Mac::BROADCAST),
        IpAddr::V4(group) if group.is_multicast() => {
            let [_, b, c, d] = group.octets();
            Some(Mac([0x01, 0x00, 0x5e, b & 0x7f, c, d]))
        }
        IpAddr::V6(group) if group.is_multicast() => {
            let [.., a, b, c, d] = group.octets();
            Some(Mac([0x33, 0x33, a, b, c, d]))
        }
        _ => None,
    }
}

/// The first packet of what is asked about: a SYN, a datagram, an echo request, something.
fn headers(packet: &Packet, tables: &Tables, ingress: PortId) -> Headers {
    const ETHERNET: u16 = 14;
    let v4 = packet.source.is_ipv4();
    let ports = Ports { source: packet.source.port(), destination: packet.destination.port() };
    let protocol = packet.carries.number(v4);
    let transport = match packet.carries {
        Carries::Ports(Protocol::Tcp) => {
            Transport::Tcp(Tcp { ports, sequence: 0, acknowledgement: 0, flags: tcp_flags::SYN, payload: 0 })
        }
        Carries::Ports(Protocol::Udp) => Transport::Udp(Udp { ports }),
        Carries::Ports(Protocol::Sctp) => Transport::Sctp(ports),
        Carries::Ping => Transport::Icmp(Icmp { kind: if v4 { 8 } else { 128 }, code: 0 }),
        Carries::Other(_) | Carries::Ports(Protocol::Any) => Transport::Other,
    };
    let l4 = ETHERNET + if v4 { 20 } else { 40 };
    Headers {
        destination: mac_of_many(packet.destination.ip())
            .unwrap_or_else(|| tables.port(ingress).map_or(Mac::ZERO, |port| port.mac)),
        // Locally administered, unicast: somebody.
        source: Mac([2, 0, 0, 0, 0, 1]),
        vlans: Vlans::default(),
        ethertype: if v4 { 0x0800 } else { 0x86dd },
        l3: ETHERNET,
        length: l4 + 20,
        network: Network::Ip(Ip {
            source: packet.source.ip().into(),
            destination: packet.destination.ip().into(),
            protocol,
            ttl: packet.ttl,
            tos: 0,
            fragment: Fragment::Whole,
            l4,
            end: l4 + 20,
            transport,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Port;
    use crate::tables::master::{Master, Setup};
    use levee_api::program::{Backend, Frontend, Pool, Program, Service, Side, Vip, WhenEmpty};

    fn tables(backends: &[&str]) -> Tables {
        tables_of(program(backends))
    }

    fn tables_of(program: Program) -> Tables {
        let mut master = Master::new(Setup {
            ports: vec![Port {
                name: "eth0".into(),
                role: Role::Uplink,
                mac: Mac([2, 0, 0, 0, 0, 9]),
                passes: false,
                mtu: 1500,
            }],
            workers: 2,
            ..Setup::default()
        });
        master.load(program).expect("a program");
        let everywhere = "0.0.0.0/0".parse().expect("a prefix");
        master.set_routes([(everywhere, PortId(0), None)]);
        master.snapshot()
    }

    fn program(backends: &[&str]) -> Program {
        let address = "10.96.0.1".parse().expect("an address");
        Program {
            generation: 1,
            vips: vec![Vip { address, announce: true }],
            services: vec![Service {
                name: "default/web:http".into(),
                protocol: Protocol::Tcp,
                family: levee_api::net::Family::Ipv4,
                frontends: vec![Frontend {
                    address,
                    port: 80,
                    from: Side::Any,
                    mode: Mode::Dnat,
                    pool: Pool::Cluster,
                    when_empty: WhenEmpty::Reject,
                    last_port: None,
                    source_ranges: Vec::new(),
                }],
                backends: backends
                    .iter()
                    .map(|backend| Backend {
                        address: backend.parse().expect("an address"),
                        port: 8080,
                        pools: vec![Pool::Cluster],
                        via: None,
                    })
                    .collect(),
                affinity: None,
                flows: Default::default(),
                quic: Vec::new(),
            }],
            ..Program::default()
        }
    }

    fn ask(tables: &Tables, packet: &str) -> Explanation {
        explain(tables, &Question { packet: packet.into(), from: None }).expect(packet)
    }

    #[test]
    fn a_service_names_its_candidates_and_the_backend_that_this_packet_gets() {
        let answer = ask(&tables(&["10.244.2.2", "10.244.1.1"]), "tcp 192.0.2.7:40000 > 10.96.0.1:80");
        assert_eq!((answer.verdict, answer.service.as_deref()), (Fate::Forward, Some("default/web:http")));
        assert_eq!(answer.candidates, ["10.244.1.1:8080", "10.244.2.2:8080"]);
        assert!(answer.candidates.contains(&answer.backend.expect("a backend")));
        assert_eq!((answer.mode, answer.client_address_kept), (Some(Mode::Dnat), Some(true)));
    }

    #[test]
    fn a_connection_id_that_names_a_backend_is_why() {
        let mut program = program(&["10.244.2.2", "10.244.1.1"]);
        let service = program.services.first_mut().expect("one");
        service.protocol = Protocol::Udp;
        service.quic = vec![levee_api::quic::Config {
            rotation: 0,
            server_id_length: 4,
            nonce_length: 4,
            key: None,
            encodes_length: true,
            servers: Vec::new(),
        }];
        let tables = tables_of(program);
        for (id, backend) in [("080af4020201020304", "10.244.2.2:8080"), ("080af4010101020304", "10.244.1.1:8080")] {
            let answer = ask(&tables, &format!("udp 192.0.2.7:40000 > 10.96.0.1:80 cid {id}"));
            assert_eq!((answer.reason.as_str(), answer.backend.as_deref()), ("connection_id", Some(backend)));
            assert!(answer.packet.ends_with(id));
        }
        let answer = ask(&tables, "udp 192.0.2.7:40000 > 10.96.0.1:80 cid 080af4020301020304");
        assert_eq!((answer.verdict, answer.reason.as_str()), (Fate::Forward, "service"));
    }

    #[test]
    fn what_is_refused_or_answered_or_not_ours_says_so() {
        let empty = tables(&[]);
        let fate = |packet| {
            let answer = ask(&empty, packet);
            (answer.verdict, answer.reason)
        };
        assert_eq!(fate("tcp 192.0.2.7:40000 > 10.96.0.1:80"), (Fate::Reject, "no_endpoints".into()));
        assert_eq!(fate("tcp 192.0.2.7:40000 > 10.96.0.1:81"), (Fate::Reject, "closed_port".into()));
        assert_eq!(fate("udp 192.0.2.7:40000 > 10.96.0.1:80"), (Fate::Reject, "closed_port".into()));
        assert_eq!(fate("icmp 192.0.2.7 > 10.96.0.1"), (Fate::Hairpin, "ping".into()));
        let one = ask(&tables(&["10.244.1.1"]), "tcp 192.0.2.7:40000 > 10.96.0.1:80 ttl 1");
        assert_eq!((one.verdict, one.reason.as_str(), one.backend), (Fate::Reject, "time_exceeded", None));
        assert_eq!(fate("tcp 192.0.2.7:40000 > 203.0.113.1:80"), (Fate::Pass, "kernel".into()));
        assert!(explain(&empty, &Question { packet: "tcp".into(), from: None }).is_err());
    }

    /// A node whose pods may send to 239.1.0.0/16 and ff05::/16.
    fn node() -> Tables {
        let port = |name: &str, role, last| Port {
            name: name.into(),
            role,
            mac: Mac([2, 0, 0, 0, 0, last]),
            passes: true,
            mtu: 1500,
        };
        let mut master = Master::new(Setup {
            ports: vec![port("eth0", Role::Uplink, 9), port("levee0", Role::Pods, 8)],
            multicast: ["239.1.0.0/16", "ff05::/16"].map(|net| net.parse().expect("a prefix")).into(),
            workers: 1,
            ..Setup::default()
        });
        master.load(program(&[])).expect("a program");
        master.set_kernel_addresses(["127.0.0.1", "::1"].map(|own| own.parse().expect("an address")));
        let near = "192.0.2.0/24".parse().expect("a prefix");
        let far = "10.9.0.0/16".parse().expect("a prefix");
        let gateway = "192.0.2.1".parse().expect("an address");
        master.set_routes([(near, PortId(0), None), (far, PortId(0), Some(gateway))]);
        master.snapshot()
    }

    #[test]
    fn what_is_for_many_is_asked_about_with_the_mac_that_it_has_on_a_wire() {
        for (to, mac) in [
            ("224.0.0.251", [0x01, 0, 0x5e, 0, 0, 0xfb]),
            // The highest bit of the 24 is not in the MAC.
            ("239.129.2.3", [0x01, 0, 0x5e, 1, 2, 3]),
            ("ff02::1:ff28:9c5a", [0x33, 0x33, 0xff, 0x28, 0x9c, 0x5a]),
            ("255.255.255.255", [0xff; 6]),
        ] {
            assert_eq!(mac_of_many(to.parse().expect("an address")), Some(Mac(mac)), "{to}");
        }
        assert_eq!(mac_of_many("192.0.2.1".parse().expect("an address")), None);
        assert_eq!(mac_of_many("2001:db8::1".parse().expect("an address")), None);
    }

    #[test]
    fn of_what_pods_send_to_groups_and_martians_it_says_what_the_worker_does() {
        let node = node();
        let fate = |packet: &str, from| {
            let answer = explain(&node, &Question { packet: packet.into(), from: Some(from) }).expect(packet);
            (answer.verdict, answer.reason)
        };
        for (to, ends) in [
            ("224.0.0.251:5353", (Fate::Drop, "pod_multicast")),
            ("239.1.2.3:5000", (Fate::Forward, "multicast")),
            ("255.255.255.255:67", (Fate::Drop, "pod_broadcast")),
            ("127.0.0.1:10250", (Fate::Drop, "martian_destination")),
            ("240.0.0.1:9", (Fate::Drop, "martian_destination")),
            ("0.0.0.0:9", (Fate::Drop, "martian_destination")),
            ("192.0.2.255:9", (Fate::Drop, "martian_destination")),
            ("192.0.2.254:9", (Fate::Forward, "plain")),
            ("10.9.255.255:9", (Fate::Forward, "plain")),
        ] {
            let (verdict, reason) = fate(&format!("udp 10.244.1.10:4000 > {to}"), Role::Pods);
            assert_eq!((verdict, reason.as_str()), ends, "{to}");
        }
        for (to, ends) in [
            ("[ff05::2]:5000", (Fate::Forward, "multicast")),
            ("[ff02::fb]:5353", (Fate::Drop, "pod_multicast")),
            ("[::1]:10250", (Fate::Drop, "ipv6_scope")),
        ] {
            let (verdict, reason) = fate(&format!("udp [2001:db8::7]:4000 > {to}"), Role::Pods);
            assert_eq!((verdict, reason.as_str()), ends, "{to}");
        }
        // From the fabric, groups are the kernel's, and its loopback is nobody's.
        let from_outside = |to: &str| fate(&format!("udp 192.0.2.7:4000 > {to}"), Role::Uplink);
        assert_eq!(from_outside("224.0.0.251:5353"), (Fate::Pass, "kernel".into()));
        assert_eq!(from_outside("127.0.0.1:10250"), (Fate::Drop, "martian_destination".into()));
        assert_eq!(ask(&tables(&[]), "tcp 192.0.2.7:4000 > 127.0.0.1:80").verdict, Fate::Pass, "it is not taken");
    }
}
