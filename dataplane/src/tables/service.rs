//! One service port as workers see it: backends in order, and a Maglev table for each pool that is asked for.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::sync::Arc;

use ipnet::IpNet;
use levee_api::net::{Protocol, Role};
use levee_api::program::{self, FlowPolicy, MidStream, Mode, Pool, Side, Via, WhenEmpty};

use super::connections::Connections;
use super::lpm::Lpm;
use super::map::Key;
use super::tunnel::Remote;
use crate::address::Address;
use crate::hash::MAGLEV_KEY;
use crate::maglev::Maglev;
use crate::verdict::Endpoint;

/// A service, immutable.
pub struct Service {
    /// Never given to another service while this dataplane runs, so that a flow can tell a new service in an old slot.
    pub id: u32,
    /// Its place in [`Tables::services`](super::Tables::services).
    pub slot: u32,
    /// `namespace/name:port`.
    pub name: Arc<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Milliseconds after which a client without new connections is forgotten, if clients stay with a backend.
    pub affinity_ms: Option<u64>,
    /// Clients choose the port, and backends have none of their own: theirs is 0.
    pub keeps_port: bool,
    /// What becomes of its flows when something ends.
    pub flows: FlowPolicy,
    /// Sorted by endpoint.
    pub backends: Box<[Backend]>,
    /// Far ends of tunnels to its backends, each once.
    vias: Box<[Remote]>,
    cluster: Option<Maglev>,
    all: Option<Maglev>,
    local: Option<Maglev>,
    /// Whom QUIC connection IDs name.
    pub connections: Connections,
    /// What [`Clients`] name: each list of ranges once.
    ranges: Box<[Lpm<()>]>,
}

/// Who may begin flows at a frontend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// Everybody.
    All,
    /// Those in this list of ranges of the service.
    In(u16),
}

/// A backend of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backend {
    /// Address and port.
    pub endpoint: Endpoint,
    /// New flows of [`Pool::Cluster`] may choose it.
    pub in_cluster: bool,
    /// New flows of [`Pool::All`] may choose it.
    pub in_all: bool,
    /// New flows of [`Pool::Local`] may choose it.
    pub in_local: bool,
    /// Names the far end of the tunnel to it, for [`Service::via`]; 0 if it is reached without.
    pub via: u16,
    /// It has drained for as long as it may: no flow is its any more.
    pub drained: bool,
}

impl Backend {
    /// The pools that it is in; none while it drains.
    pub fn pools(&self) -> impl Iterator<Item = Pool> + use<> {
        let backend = *self;
        [Pool::Cluster, Pool::All, Pool::Local].into_iter().filter(move |pool| backend.is_in(*pool))
    }

    /// Whether new flows of the pool may choose it.
    #[must_use]
    pub fn is_in(&self, pool: Pool) -> bool {
        match pool {
            Pool::Cluster => self.in_cluster,
            Pool::All => self.in_all,
            Pool::Local => self.in_local,
        }
    }
}

impl Service {
    /// Compiles a service. The program has been validated: families agree, and there are at most 65,535 backends. A table whose
    /// candidates are those of another pool, or those that the same service had before, is that one and not built again: a
    /// thousand backends take milliseconds.
    #[must_use]
    pub fn new(id: u32, slot: u32, service: &program::Service, before: Option<&Service>) -> Self {
        let vias: BTreeSet<Via> = service.backends.iter().filter_map(|backend| backend.via).collect();
        let vias: Vec<Via> = vias.into_iter().collect();
        let mut backends: Vec<Backend> = service
            .backends
            .iter()
            .map(|backend| Backend {
                endpoint: Endpoint { address: backend.address.into(), port: backend.port },
                in_cluster: backend.pools.contains(&Pool::Cluster),
                in_all: backend.pools.contains(&Pool::All),
                in_local: backend.pools.contains(&Pool::Local),
                // There are no more far ends than backends, which are fewer than 65,535.
                via: backend.via.and_then(|via| vias.binary_search(&via).ok()).map_or(0, |index| index as u16 + 1),
                drained: false,
            })
            .collect();
        backends.sort_unstable_by_key(|backend| order(backend.endpoint));
        backends.dedup_by_key(|backend| backend.endpoint);
        let mut built: Vec<(Candidates, Option<Maglev>)> = before.map(Service::tables).unwrap_or_default();
        let mut table = |pool| {
            if !service.frontends.iter().any(|frontend| frontend.pool == pool) {
                return None;
            }
            let candidates = candidates(&backends, pool);
            if let Some((_, table)) = built.iter().find(|(same, _)| *same == candidates) {
                return table.clone();
            }
            let table = Maglev::build(&candidates);
            built.push((candidates, table.clone()));
            table
        };
        let (cluster, all, local) = (table(Pool::Cluster), table(Pool::All), table(Pool::Local));
        Service {
            id,
            slot,
            name: service.name.as_str().into(),
            protocol: service.protocol,
            keeps_port: service.is_wide(),
            flows: service.flows,
            affinity_ms: service.affinity.map(|affinity| u64::from(affinity.timeout_seconds) * 1000),
            vias: vias.into_iter().map(Remote::from).collect(),
            cluster,
            all,
            local,
            connections: Connections::new(&service.quic, &backends),
            backends: backends.into(),
            ranges: lists(service).map(|list| list.iter().map(|net| (*net, ())).collect()).collect(),
        }
    }

    /// Its Maglev tables, with what each was built from.
    fn tables(&self) -> Vec<(Candidates, Option<Maglev>)> {
        let tables = [(Pool::Cluster, &self.cluster), (Pool::All, &self.all), (Pool::Local, &self.local)];
        let there = tables.into_iter().filter(|(_, table)| table.is_some());
        there.map(|(pool, table)| (candidates(&self.backends, pool), table.clone())).collect()
    }

    /// The same, with those backends marked whose time to drain is over.
    #[must_use]
    pub fn with_drained(mut self, is_over: impl Fn(Endpoint) -> bool) -> Self {
        for backend in self.backends.iter_mut().filter(|backend| backend.pools().next().is_none()) {
            backend.drained = is_over(backend.endpoint);
        }
        self
    }

    /// What becomes of a TCP segment of no flow that begins nothing.
    #[inline]
    #[must_use]
    pub fn mid_stream(&self, mode: Mode) -> MidStream {
        match (self.flows.mid_stream, mode) {
            (Some(MidStream::Drop), _) => MidStream::Drop,
            // Its translation is lost, and by another one its backend would not know it.
            (_, Mode::Nat) | (None, Mode::Dnat) => MidStream::Reset,
            (None, Mode::Dsr | Mode::Tunnel) => MidStream::Hash,
            (Some(policy), _) => policy,
        }
    }

    /// Whether a client may begin a flow.
    #[inline]
    #[must_use]
    pub fn admits(&self, clients: Clients, address: Address) -> bool {
        match clients {
            Clients::All => true,
            Clients::In(list) => self.ranges.get(usize::from(list)).is_some_and(|ranges| ranges.contains(address)),
        }
    }

    /// The backend that a new flow with this hash gets.
    #[inline]
    #[must_use]
    pub fn pick(&self, pool: Pool, hash: u64) -> Option<&Backend> {
        let table = match pool {
            Pool::Cluster => self.cluster.as_ref(),
            Pool::All => self.all.as_ref(),
            Pool::Local => self.local.as_ref(),
        };
        self.backends.get(usize::from(table?.pick(hash)?))
    }

    /// Where a backend gets what a client sends to an endpoint.
    #[inline]
    #[must_use]
    pub fn target(&self, backend: &Backend, frontend: Endpoint) -> Endpoint {
        let port = if self.keeps_port { frontend.port } else { backend.endpoint.port };
        Endpoint { port, ..backend.endpoint }
    }

    /// The backend with this endpoint, if flows are its: also while it drains.
    #[must_use]
    pub fn backend(&self, endpoint: Endpoint) -> Option<&Backend> {
        self.known(endpoint).filter(|backend| !backend.drained)
    }

    /// Whether the time of the backend with this endpoint is over.
    #[must_use]
    pub fn has_drained(&self, endpoint: Endpoint) -> bool {
        self.known(endpoint).is_some_and(|backend| backend.drained)
    }

    fn known(&self, endpoint: Endpoint) -> Option<&Backend> {
        let endpoint = if self.keeps_port { Endpoint { port: 0, ..endpoint } } else { endpoint };
        let index = self.backends.binary_search_by_key(&order(endpoint), |backend| order(backend.endpoint)).ok()?;
        self.backends.get(index)
    }

    /// The far end that [`Backend::via`] names.
    #[inline]
    #[must_use]
    pub fn via(&self, via: u16) -> Option<&Remote> {
        self.vias.get(usize::from(via).checked_sub(1)?)
    }

    /// What names the far end with this address, if one of the backends is behind it.
    #[must_use]
    pub fn via_to(&self, address: Address) -> Option<u16> {
        self.vias.iter().zip(1..).find(|(remote, _)| remote.address == address).map(|(_, via)| via)
    }

    /// Far ends of tunnels to its backends.
    pub fn vias(&self) -> impl Iterator<Item = Address> {
        self.vias.iter().map(|remote| remote.address)
    }

    /// The hash that chooses a backend: the five-tuple, or the client's address alone where clients stay.
    #[inline]
    #[must_use]
    pub fn hash(&self, client: Endpoint, frontend: Endpoint) -> u64 {
        if self.affinity_ms.is_some() {
            MAGLEV_KEY.address(client.address, 0)
        } else {
            let ports = u32::from(client.port) << 16 | u32::from(frontend.port);
            // Of a whole address, too: a client's flows of several protocols are told apart by their ports, if they have some.
            MAGLEV_KEY.tuple(client.address, frontend.address, ports, self.protocol.number())
        }
    }
}

/// Those of a service's backends that a pool may choose, by their numbers.
type Candidates = Vec<(u16, Endpoint)>;

fn candidates(backends: &[Backend], pool: Pool) -> Candidates {
    let numbered = backends.iter().zip(0u16..);
    numbered.filter(|(backend, _)| backend.is_in(pool)).map(|(backend, index)| (index, backend.endpoint)).collect()
}

/// The lists of ranges that a service's frontends have, each once.
fn lists(service: &program::Service) -> impl Iterator<Item = &Vec<IpNet>> {
    let lists: BTreeSet<_> = service.frontends.iter().map(|frontend| &frontend.source_ranges).collect();
    lists.into_iter().filter(|list| !list.is_empty())
}

/// Who may begin flows at one of a service's frontends.
#[must_use]
pub fn clients(service: &program::Service, frontend: &program::Frontend) -> Clients {
    match lists(service).position(|list| *list == frontend.source_ranges) {
        // More lists than that is more frontends than ports; a list that had no number would admit nobody.
        Some(list) => Clients::In(u16::try_from(list).unwrap_or(u16::MAX)),
        None => Clients::All,
    }
}

fn order(endpoint: Endpoint) -> (Address, u16) {
    (endpoint.address, endpoint.port)
}

/// What a packet to a service is recognised by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrontendKey {
    /// Destination address.
    pub address: Address,
    /// Destination port.
    pub port: u16,
    /// Protocol number.
    pub protocol: u8,
    /// The side that it came in on: uplink or pods. What the node itself sends is served as what its pods send.
    pub from: Role,
}

impl FrontendKey {
    /// The key of a packet that came in on a port of this role.
    #[inline]
    #[must_use]
    pub fn new(address: Address, port: u16, protocol: u8, ingress: Role) -> Self {
        let from = if ingress == Role::Host { Role::Pods } else { ingress };
        FrontendKey { address, port, protocol, from }
    }
}

impl Key for FrontendKey {
    #[inline]
    fn hash(&self) -> u64 {
        MAGLEV_KEY.address(self.address, u64::from(self.port) << 16 | u64::from(self.protocol) << 8 | side(self.from))
    }
}

/// A side as a number, for hashes of keys that have one.
#[inline]
pub(super) const fn side(from: Role) -> u64 {
    match from {
        Role::Uplink => 0,
        Role::Pods | Role::Host => 1,
        Role::Tunnel => 2,
    }
}

/// What a service does for packets to one of its frontends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frontend {
    /// Slot of the service.
    pub service: u32,
    /// How backends are reached.
    pub mode: Mode,
    /// Which are candidates.
    pub pool: Pool,
    /// What happens where there are none.
    pub when_empty: WhenEmpty,
    /// Who may begin flows.
    pub clients: Clients,
    /// Whether packets may have a QUIC connection ID that names their backend.
    pub by_connection: bool,
}

#[cfg(test)]
impl Frontend {
    /// One of a service by `nat`, with nothing special about it.
    pub fn plainest(service: u32) -> Self {
        Frontend {
            service,
            mode: Mode::Nat,
            pool: Pool::Cluster,
            when_empty: WhenEmpty::Reject,
            clients: Clients::All,
            by_connection: false,
        }
    }
}

/// The roles of ports whose packets a side stands for.
#[must_use]
pub fn roles(side: Side) -> &'static [Role] {
    match side {
        Side::Any => &[Role::Uplink, Role::Pods],
        Side::Uplink => &[Role::Uplink],
        Side::Pods => &[Role::Pods],
        Side::Tunnel => &[Role::Tunnel],
    }
}

/// The fragment header of IPv6 (RFC 8200, 4.5), which is nobody's transport protocol.
const FRAGMENT: u8 = 44;

/// An address, a port and a protocol: how a reply of a backend is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackendKey {
    /// Where the backend listens.
    pub endpoint: Endpoint,
    /// Protocol number.
    pub protocol: u8,
}

impl BackendKey {
    /// Some backend at an address, whatever its port: what a fragment of a packet with this protocol is recognised by. Fragments of
    /// IPv6 do not know their packet's protocol (RFC 8200, 4.5: only what the first one names counts), so that for all of them one key
    /// stands, under the number of the fragment header.
    #[must_use]
    pub fn fragments(address: Address, protocol: u8) -> Self {
        BackendKey::address(address, if address.is_v4() { protocol } else { FRAGMENT })
    }

    /// Some backend at an address whose port clients choose: any packet from there may be a reply.
    #[must_use]
    pub fn any(address: Address) -> Self {
        BackendKey::address(address, Protocol::Any.number())
    }

    /// No backend has port 0 of its own.
    fn address(address: Address, protocol: u8) -> Self {
        BackendKey { endpoint: Endpoint { address, port: 0 }, protocol }
    }
}

impl Key for BackendKey {
    #[inline]
    fn hash(&self) -> u64 {
        MAGLEV_KEY.address(self.endpoint.address, u64::from(self.endpoint.port) << 8 | u64::from(self.protocol))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use levee_api::net::Family;
    use levee_api::program::Frontend;

    use super::*;

    #[test]
    fn tables_of_the_same_candidates_are_one_and_are_kept_while_those_stay() {
        let frontend = |pool, port| Frontend {
            address: [10, 96, 0, 1].into(),
            port,
            last_port: None,
            from: Side::Any,
            mode: Mode::Nat,
            pool,
            when_empty: WhenEmpty::Reject,
            source_ranges: Vec::new(),
        };
        let backend = |last: u8, pools: &[Pool]| program::Backend {
            address: [10, 244, 0, last].into(),
            port: 8080,
            pools: pools.to_vec(),
            via: None,
        };
        let every = [Pool::Cluster, Pool::All, Pool::Local];
        let mut program = program::Service {
            name: "s".into(),
            protocol: Protocol::Tcp,
            family: Family::Ipv4,
            frontends: vec![frontend(Pool::Cluster, 80), frontend(Pool::All, 81), frontend(Pool::Local, 82)],
            backends: vec![backend(1, &every), backend(2, &every[..2])],
            affinity: None,
            quic: Vec::new(),
            flows: Default::default(),
        };
        let one = |one: &Option<Maglev>, other: &Option<Maglev>| {
            one.as_ref().unwrap().is_shared_with(other.as_ref().unwrap())
        };
        let first = Service::new(1, 0, &program, None);
        assert!(one(&first.cluster, &first.all) && !one(&first.cluster, &first.local));
        // One that drains is nobody's candidate, but it has a number: tables of those before it stay, others do not.
        program.backends.push(backend(3, &[]));
        program.affinity = Some(program::Affinity { timeout_seconds: 10 });
        let second = Service::new(1, 0, &program, Some(&first));
        assert!(one(&second.cluster, &first.cluster) && one(&second.local, &first.local));
        program.backends.insert(0, backend(0, &[]));
        let third = Service::new(1, 0, &program, Some(&second));
        assert!(!one(&third.cluster, &first.cluster), "numbers have moved");
        let from_nothing = Service::new(1, 0, &program, None);
        assert_eq!(
            (third.cluster, third.all, third.local),
            (from_nothing.cluster, from_nothing.all, from_nothing.local)
        );
    }
}
