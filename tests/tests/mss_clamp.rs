//! `mss_clamp`: TCP over a hop of which nobody tells how narrow it is.

use std::net::SocketAddr;

use levee_api::net::{Family, Protocol};
use levee_api::program::{Backend, Frontend, Mode, Pool, Program, Service, Side, Vip, WhenEmpty};
use levee_tests::dual::of;
use levee_tests::levee::{Dataplane, Ports, Take};
use levee_tests::path::{BACKEND, Path, VIP};
use levee_tests::traffic::{EchoServer, bulk};

const ECHO: u16 = 7;
/// What the narrow hop carries.
const HOP: u16 = 1300;

fn service(family: Family) -> Service {
    let backend = Backend { address: of(family, BACKEND), port: ECHO, pools: vec![Pool::Cluster], via: None };
    Service {
        name: "default/echo:main".into(),
        protocol: Protocol::Tcp,
        family,
        frontends: vec![Frontend {
            address: of(family, VIP),
            port: ECHO,
            from: Side::Any,
            mode: Mode::Nat,
            pool: Pool::Cluster,
            when_empty: WhenEmpty::Reject,
            last_port: None,
            source_ranges: Vec::new(),
        }],
        backends: vec![backend],
        affinity: None,
        quic: Vec::new(),
        flows: Default::default(),
    }
}

#[test]
fn a_transfer_passes_a_silent_hop_if_segments_are_clamped_and_not_otherwise() {
    let both = [Family::Ipv4, Family::Ipv6];
    // Over IPv4; by levee's own account 20 less over IPv6.
    for (clamped, more) in [(false, String::new()), (true, format!("mss_clamp: {}\n", HOP - 40))] {
        let Some(path) = Path::start(1) else { return };
        if !path.client.try_run("nft --version").status.success() {
            eprintln!("SKIPPED: `nft` is missing: apt-get install nftables");
            return;
        }
        path.hide_what_is_too_big();
        let _echo = EchoServer::start(&path.backend, ECHO);
        let ports = Ports::Balancer(Take::Owned);
        let dataplane = Dataplane::start_with(&path.balancer.namespace, ports, &[0], &more);
        dataplane.program(&Program {
            generation: 1,
            vips: both.map(|family| Vip { address: of(family, VIP), announce: true }).into(),
            services: both.map(service).into(),
            ..Program::default()
        });
        for family in both {
            for (client_side, backend_side) in [(HOP, 1500), (1500, HOP)] {
                path.narrow(client_side, backend_side);
                let done = bulk(&path.client, SocketAddr::new(of(family, VIP), ECHO), 200_000);
                let sides = format!("{family:?}, {client_side} before the client, {backend_side} before the backend");
                println!("clamped: {clamped}, {sides}: {:?}", done.as_ref().map(|_| "200 kB each way"));
                assert_eq!(done.is_ok(), clamped, "{sides}: {done:?}; {}", dataplane.counters());
            }
        }
    }
}
