//! Packets that may name their backend themselves: those of QUIC.

use af_xdp::Frame;

use super::Bench;
use crate::classify::Class;
use crate::headers::{Headers, Network};
use crate::quic::destination;
use crate::tables::Tables;
use crate::tables::service::Frontend;

/// Length of a UDP header.
const UDP: usize = 8;

impl Bench {
    /// What a packet's class becomes once it has been looked at for a connection ID, where there may be one.
    #[inline]
    pub(super) fn named(&self, class: Class, frame: &Frame, headers: &Headers, tables: &Tables) -> Class {
        match class {
            Class::Service(frontend) if frontend.by_connection => self.by_connection(frontend, frame, headers, tables),
            class => class,
        }
    }

    /// The class of a packet to a service whose backends make connection IDs that name them. One that names nobody is like any other.
    #[inline(never)]
    fn by_connection(&self, frontend: Frontend, frame: &Frame, headers: &Headers, tables: &Tables) -> Class {
        let Network::Ip(ip) = &headers.network else { return Class::Service(frontend) };
        // The program has these only where the protocol is UDP.
        let datagram = self.umem.bytes(frame).get(usize::from(ip.l4) + UDP..usize::from(ip.end));
        let named = datagram.and_then(destination).and_then(|id| {
            let service = tables.services.get(frontend.service)?;
            service.connections.backend(id)
        });
        named.map_or(Class::Service(frontend), |backend| Class::Connection(frontend, backend))
    }
}
