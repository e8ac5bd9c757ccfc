//! Which backend a QUIC connection ID names, for one service.
//!
//! A server ID that two backends have names neither: their packets go by hash, as if nobody had told. So a mistake in a
//! configuration sends nobody to the wrong server for long, and `levee-control` tells of it.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use levee_api::quic::Config;

use super::service::Backend;
use crate::quic::{Code, ConnectionId};

/// The configurations of a service: at most seven.
#[derive(Default)]
pub struct Connections(Box<[Servers]>);

/// Servers by their IDs, under one configuration.
struct Servers {
    code: Code,
    /// Sorted by ID.
    backends: Box<[(u128, u16)]>,
}

impl Connections {
    /// Of a service with these backends, in order. The program has been validated: each configuration has a rotation of its own.
    #[must_use]
    pub fn new(configs: &[Config], backends: &[Backend]) -> Self {
        Connections(configs.iter().map(|config| Servers::new(config, backends)).collect())
    }

    /// Whether none is to be read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The index of the backend that a connection ID names.
    #[inline]
    #[must_use]
    pub fn backend(&self, id: ConnectionId<'_>) -> Option<u16> {
        let rotation = id.octets.first()? >> 5;
        let Servers { code, backends } = self.0.iter().find(|servers| servers.code.rotation() == rotation)?;
        let server = code.server_id(id)?;
        let at = backends.binary_search_by_key(&server, |(id, _)| *id).ok()?;
        backends.get(at).map(|(_, backend)| *backend)
    }
}

impl Servers {
    fn new(config: &Config, backends: &[Backend]) -> Self {
        let mut named: Vec<(u128, u16)> = Vec::new();
        for (backend, index) in backends.iter().zip(0..) {
            for id in config.server_ids(backend.endpoint.address.into()) {
                named.push((id.octets().iter().fold(0, |number, octet| number << 8 | u128::from(*octet)), index));
            }
        }
        named.sort_unstable();
        named.dedup();
        let alone = |id: &u128| {
            let first = named.partition_point(|(other, _)| other < id);
            named.get(first + 1).is_none_or(|(next, _)| next != id)
        };
        Servers { code: Code::new(config), backends: named.iter().filter(|(id, _)| alone(id)).copied().collect() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use levee_api::quic::Server;

    use super::*;
    use crate::address::Address;
    use crate::verdict::Endpoint;

    fn backends(addresses: &[[u8; 4]]) -> Vec<Backend> {
        let backend = |octets: &[u8; 4]| Backend {
            endpoint: Endpoint { address: Address::v4(u32::from_be_bytes(*octets)), port: 443 },
            in_cluster: true,
            in_all: true,
            in_local: false,
            via: 0,
            drained: false,
        };
        addresses.iter().map(backend).collect()
    }

    fn config(rotation: u8, server_id_length: u8, servers: Vec<Server>) -> Config {
        Config { rotation, server_id_length, nonce_length: 4, key: None, encodes_length: false, servers }
    }

    fn named(connections: &Connections, octets: &[u8]) -> Option<u16> {
        connections.backend(ConnectionId { octets, exact: false })
    }

    #[test]
    fn each_configuration_has_its_own_names() {
        let backends = backends(&[[10, 244, 1, 1], [10, 244, 1, 2]]);
        let listed = Server { id: "c4605e".parse().unwrap(), address: [10, 244, 1, 1].into() };
        let connections = Connections::new(&[config(0, 4, Vec::new()), config(5, 3, vec![listed])], &backends);
        assert_eq!(named(&connections, &[0, 10, 244, 1, 2, 9, 9, 9, 9]), Some(1));
        assert_eq!(named(&connections, &[0, 10, 244, 1, 3, 9, 9, 9, 9]), None, "nobody's");
        assert_eq!(named(&connections, &[5 << 5, 0xc4, 0x60, 0x5e, 9, 9, 9, 9]), Some(0));
        assert_eq!(named(&connections, &[1 << 5, 10, 244, 1, 2, 9, 9, 9, 9]), None, "no such configuration");
        assert_eq!(named(&connections, &[7 << 5, 10, 244, 1, 2, 9, 9, 9, 9]), None, "not routable");
        assert!(Connections::new(&[], &backends).is_empty());
    }

    #[test]
    fn an_id_of_two_names_neither_and_an_address_with_two_ports_is_two() {
        let mut backends = backends(&[[10, 244, 1, 7], [10, 244, 2, 7], [10, 244, 2, 8]]);
        let short = Connections::new(&[config(0, 1, Vec::new())], &backends);
        assert_eq!(named(&short, &[0, 7, 9, 9, 9, 9]), None);
        assert_eq!(named(&short, &[0, 8, 9, 9, 9, 9]), Some(2));
        backends[2].endpoint = Endpoint { port: 444, ..backends[0].endpoint };
        let two = Connections::new(&[config(0, 4, Vec::new())], &backends);
        assert_eq!(named(&two, &[0, 10, 244, 1, 7, 9, 9, 9, 9]), None);
        assert_eq!(named(&two, &[0, 10, 244, 2, 7, 9, 9, 9, 9]), Some(1));
    }
}
