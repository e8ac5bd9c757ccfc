//! Where a service port is reached, from which side, and how its backends are reached from there: the table of
//! [`compile`](super), and rules 26, 27, 31, 32.

use std::net::IpAddr;

use levee_api::program::{Frontend, Mode, Pool, Side, WhenEmpty};

use super::Role;
use super::select::Selection;
use crate::model::TrafficPolicy;

/// What kind of address a frontend is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Address {
    /// For clients in the cluster: the internal policy counts.
    Cluster,
    /// For clients outside: the external policy counts.
    LoadBalancer,
    /// For clients outside, on an address that is the node's own.
    NodePort,
}

/// The frontends of one address and port. `mode` is how balancers reach the backends.
pub(super) fn frontends(
    kind: Address,
    (address, port): (IpAddr, u16),
    role: Role,
    policy: TrafficPolicy,
    mode: Mode,
    selection: &Selection,
) -> Vec<Frontend> {
    let frontend = |from: Side, mode: Mode, pool: Pool| Frontend {
        address,
        port,
        from,
        mode,
        pool,
        when_empty: when_empty(pool, selection),
        last_port: None,
        source_ranges: Vec::new(),
    };
    let local = policy == TrafficPolicy::Local;
    match (role, kind) {
        // One pool for every side: the endpoints here, or all.
        (Role::Node, Address::Cluster) => {
            let pool = if local { Pool::Local } else { Pool::Cluster };
            vec![frontend(Side::Pods, Mode::Dnat, pool), frontend(Side::Uplink, Mode::Nat, pool)]
        }
        // Rule 32: for what this node sends itself, an external address is a detour to the cluster's endpoints.
        (Role::Node, Address::LoadBalancer | Address::NodePort) => {
            let pool = if kind == Address::LoadBalancer { selection.everybody } else { Pool::Cluster };
            let mut list = vec![
                frontend(Side::Pods, Mode::Dnat, pool),
                if local {
                    frontend(Side::Uplink, Mode::Dnat, Pool::Local)
                } else {
                    frontend(Side::Uplink, Mode::Nat, pool)
                },
            ];
            // What a balancer wrapped for this node is for an endpoint here. If it has just gone, the balancer will soon know,
            // and where to send a retry: a refusal would end what can still be had.
            if mode == Mode::Tunnel && kind == Address::LoadBalancer {
                let unwrapped = frontend(Side::Tunnel, Mode::Dnat, Pool::Local);
                list.push(Frontend { when_empty: WhenEmpty::Drop, ..unwrapped });
            }
            list
        }
        // A balancer is not the node that an internal policy speaks of: nothing is local to it.
        (Role::Balancer, Address::Cluster) => {
            vec![frontend(Side::Any, mode, if local { Pool::Local } else { Pool::Cluster })]
        }
        // Policy Local: no second hop, and the client's address is kept; that is the mode's business, not the pool's.
        (Role::Balancer, Address::LoadBalancer) => vec![frontend(Side::Any, mode, Pool::Cluster)],
        (Role::Balancer, Address::NodePort) => Vec::new(),
    }
}

/// Rule 26: nobody anywhere, and the client is told so. Rule 27: somebody, but not for this pool, and the packet is dropped,
/// because it was sent to the wrong node and a retry may find the right one.
fn when_empty(pool: Pool, selection: &Selection) -> WhenEmpty {
    match pool {
        Pool::Local if selection.no_local && selection.any => WhenEmpty::Drop,
        Pool::Local | Pool::Cluster | Pool::All => WhenEmpty::Reject,
    }
}
