//! Whom a program means: read from the program alone, one frontend after the other, by the rules of its documentation. What levee's
//! tables find by hash and by search must be the same.

use std::net::IpAddr;

use levee_api::net::Role;
use levee_api::program::{Backend, Frontend, Program, Service, Side};

/// What serves a packet.
#[derive(Debug, Clone, Copy)]
pub struct Served<'a> {
    /// The service.
    pub service: &'a Service,
    /// And its frontend.
    pub frontend: &'a Frontend,
}

/// Protocols that have ports here.
#[must_use]
pub const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, 6 | 17 | 132)
}

/// What serves a packet to this address and port that came in on such a port: a service that has the port by itself, else one that
/// has it in a range, else one that has all of the address.
#[must_use]
pub fn serving(program: &Program, to: IpAddr, port: u16, protocol: u8, from: Role) -> Option<Served<'_>> {
    if matches!(protocol, 1 | 58) && (protocol == 58) == to.is_ipv6() {
        return None;
    }
    let sees = |side| match side {
        Side::Any => from != Role::Tunnel,
        Side::Uplink => from == Role::Uplink,
        Side::Pods => matches!(from, Role::Pods | Role::Host),
        Side::Tunnel => from == Role::Tunnel,
    };
    let rank = |served: &Served<'_>| {
        let of = served.service.protocol.number() == protocol && has_ports(protocol);
        match (served.frontend.port, served.frontend.last_port) {
            (0, _) => Some(2),
            (first, None) => (of && first == port).then_some(0),
            (first, Some(last)) => (of && (first..=last).contains(&port)).then_some(1),
        }
    };
    let all = program.services.iter().flat_map(|service| {
        let here = service.frontends.iter().filter(|frontend| frontend.address == to && sees(frontend.from));
        here.map(move |frontend| Served { service, frontend })
    });
    all.filter(|served| rank(served).is_some()).min_by_key(rank)
}

impl<'a> Served<'a> {
    /// The backend that is at an address and port, if the client has sent to `chosen`: who has no port of its own has that one.
    #[must_use]
    pub fn backend(&self, address: IpAddr, port: u16, chosen: u16) -> Option<&'a Backend> {
        let at = |backend: &&Backend| {
            backend.address == address && port == if backend.port == 0 { chosen } else { backend.port }
        };
        self.service.backends.iter().find(at)
    }

    /// Whether new flows may go to a backend.
    #[must_use]
    pub fn may_choose(&self, backend: &Backend) -> bool {
        // One that drains keeps the connections that name it.
        backend.pools.contains(&self.frontend.pool) || !self.service.quic.is_empty() && backend.pools.is_empty()
    }
}
