//! The ways to tunnels' far ends, as an operator sees them: what each should carry, and what a router has said that it does.

use std::collections::BTreeMap;

use levee_api::report::{LearntMtu, TunnelEntry};

use crate::address::Address;
use crate::flows::Millis;
use crate::tables::{Hop, Tables};
use crate::verdict::PortId;
use crate::ways::Ways;

/// Every far end that a backend is behind, in order.
pub(super) fn entries(tables: &Tables, ways: &Ways, now: Millis) -> Vec<TunnelEntry> {
    // Packets are wrapped for the first; the others only unwrap.
    let Some(tunnel) = tables.tunnels.first() else { return Vec::new() };
    let mut far_ends: BTreeMap<Address, usize> = BTreeMap::new();
    for (_, service) in tables.services.iter() {
        for remote in service.backends.iter().filter_map(|backend| service.via(backend.via)) {
            *far_ends.entry(remote.address).or_default() += 1;
        }
    }
    let entry = |(address, backends): (Address, usize)| {
        let v4 = address.is_v4();
        let out = way_out(tables, address).and_then(|port| tables.port(port));
        let overhead = tunnel.overhead(v4);
        TunnelEntry {
            far_end: address.into(),
            kind: tunnel.kind,
            port: (tunnel.port != 0).then_some(tunnel.port),
            source: tunnel.end(v4).map(Into::into),
            interface: out.map(|out| out.name.to_string()),
            backends,
            overhead,
            mtu: out.map(|out| tunnel.room(out, v4).saturating_add(overhead)).or(tunnel.mtu),
            learnt: ways.learnt(address, now).map(|(mtu, left)| LearntMtu {
                mtu,
                // Rounded up: with none left it is forgotten.
                left_seconds: u64::from(left.div_ceil(1000)),
            }),
        }
    };
    far_ends.into_iter().map(entry).collect()
}

/// The port that packets to an address leave by.
fn way_out(tables: &Tables, to: Address) -> Option<PortId> {
    match tables.hop(to) {
        Hop::To(port, _) => Some(port),
        Hop::Unresolved(key) => Some(key.port),
        Hop::Kernel | Hop::Broadcast | Hop::NoRoute => None,
    }
}
