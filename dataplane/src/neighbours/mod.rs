//! What the kernel knows of the network around: routes, neighbours, links, addresses; and what it is told of levee.
//!
//! ```text
//!            notifications                        Update
//!  kernel ─────────────────► netlink ─► View ───────────────► director ─► tables
//!    ▲                          ▲   (pure: what changed)         │
//!    └── managed neighbours ────┴──── Wanted ◄──── Standing, Resolve
//!                                   (pure: which to add, which to drop)
//! ```
//!
//! Next hops are the kernel's to find and keep: any CNI that installs routes is understood, and levee never broadcasts an
//! ARP request of its own. Those that are needed in any case (gateways, backends) are installed as *managed* neighbours
//! (`NTF_EXT_MANAGED`, Linux 5.16), which the kernel resolves at once and keeps fresh with unicast probes; those that a
//! packet asks for are managed for as long as they answer, a bounded number of them. Where the kernel knows no managed
//! neighbours, it is asked to resolve (`NTF_USE`) and asked again while they are wanted.
//!
//! A port of role `uplink` has its own interface's neighbours; one of role `pods` has those of the pods' bridge. Only the
//! main routing table counts, and of several routes to one prefix that of the least metric; of several next hops of one
//! route the first. Both families alike; of IPv6, what is link-local stays the kernel's.
//!
//! Where there is a port to this host's own IP stack, what its processes send to Services is led there ([`divert`]).
//!
//! All of it runs on one slow thread, which keeps CAP_NET_ADMIN: the kernel checks it whenever a neighbour is installed.
//! When notifications were lost (ENOBUFS), or the kernel drops routes without a word, everything is read anew.

mod divert;
mod netlink;
mod view;
mod wanted;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use levee_api::net::{Mac, Protocol};
use tokio::sync::{mpsc, watch};

use crate::verdict::PortId;

pub use netlink::{interfaces, run};
pub use wanted::Wanted;

/// A neighbour: the port that it is reached through, and its address.
pub type Key = (PortId, IpAddr);

/// Prefix, port, gateway.
pub type Route = (IpNet, Option<PortId>, Option<IpAddr>);

/// A port, as this room sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortNames {
    /// The port.
    pub port: PortId,
    /// Its own interface: whose link state and MAC it has, and routes through which lead out of it.
    pub interface: String,
    /// The index that it had when its sockets were bound. One of the same name that is made anew is not the port: it counts as down
    /// until the dataplane is started again.
    pub index: u32,
    /// The interface whose neighbour table it uses; the same for an uplink, the bridge for pods.
    pub neighbours: String,
}

/// A change of what the kernel knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// All routes: prefix, port, gateway. Those that lead elsewhere have no port: they hide less exact ones through ports.
    Routes(Vec<Route>),
    /// All addresses of this host.
    Addresses(Vec<Address>),
    /// One neighbour.
    Neighbour {
        /// Which.
        key: Key,
        /// Its MAC, while the kernel would send to it.
        mac: Option<Mac>,
        /// The kernel's word for its state; `None` when the kernel has forgotten it.
        state: Option<&'static str>,
    },
    /// The interface of a port.
    Link {
        /// Which.
        port: PortId,
        /// Administratively up, with carrier.
        up: bool,
        /// Its MAC.
        mac: Mac,
    },
    /// Whether what this host sends to Services is led to levee: if not, why not, and what helps.
    Diverted(Option<String>),
    /// Notifications were lost, or the kernel changed something without one: everything was read anew.
    Resynchronised,
}

/// An address of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The address.
    pub address: IpAddr,
    /// The port on whose interface it is, if it is on one's.
    pub port: Option<PortId>,
}

/// The port to this host's own IP stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Index of its interface.
    pub index: u32,
    /// Levee's addresses on it.
    pub inward: Vec<IpAddr>,
    /// The uplinks, one of whose addresses is what the host's processes send from …
    pub uplinks: Vec<PortId>,
    /// … one of these, while it is there; at most one a family.
    pub sources: Vec<IpAddr>,
}

/// What of this host's own sending is to be led to levee.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diverted {
    /// Whole prefixes: service ranges and VIPs.
    pub nets: BTreeSet<IpNet>,
    /// Ports of the host's own addresses: node ports.
    pub ports: BTreeSet<(IpAddr, Protocol, u16)>,
}

/// What the director asks for; clones share one queue.
#[derive(Debug, Clone)]
pub struct Asking {
    standing: watch::Sender<Arc<BTreeSet<Key>>>,
    diverted: watch::Sender<Arc<Diverted>>,
    resolve: mpsc::Sender<Key>,
}

/// The other end of [`Asking`].
#[derive(Debug)]
pub struct Asked {
    standing: watch::Receiver<Arc<BTreeSet<Key>>>,
    diverted: watch::Receiver<Arc<Diverted>>,
    resolve: mpsc::Receiver<Key>,
}

/// Requests to resolve that may wait. Workers repeat theirs, so one that finds no room is not lost for ever.
const RESOLVE_QUEUE: usize = 1024;

/// A pair of ends.
#[must_use]
pub fn asking() -> (Asking, Asked) {
    let (standing_sender, standing) = watch::channel(Arc::default());
    let (resolve_sender, resolve) = mpsc::channel(RESOLVE_QUEUE);
    let (diverted_sender, diverted) = watch::channel(Arc::default());
    let asking = Asking { standing: standing_sender, diverted: diverted_sender, resolve: resolve_sender };
    (asking, Asked { standing, diverted, resolve })
}

impl Asking {
    /// The neighbours that are to be known at all times, in place of those named before.
    pub fn standing(&self, keys: BTreeSet<Key>) {
        self.standing.send_if_modified(|standing| {
            let changed = **standing != keys;
            if changed {
                *standing = Arc::new(keys);
            }
            changed
        });
    }

    /// What is to be led to levee, in place of what was before.
    pub fn divert(&self, to: Diverted) {
        self.diverted.send_if_modified(|diverted| {
            let changed = **diverted != to;
            if changed {
                *diverted = Arc::new(to);
            }
            changed
        });
    }

    /// A packet waits for this neighbour.
    pub fn resolve(&self, key: Key) {
        // Full: the neighbours' thread is behind, and more would not help it.
        let _ = self.resolve.try_send(key);
    }
}

#[cfg(test)]
impl Asked {
    /// What stands, and what was asked for since the last look.
    pub(crate) fn look(&mut self) -> (BTreeSet<Key>, Vec<Key>) {
        let resolve = std::iter::from_fn(|| self.resolve.try_recv().ok()).collect();
        ((**self.standing.borrow()).clone(), resolve)
    }
}

#[cfg(test)]
mod tests;
