//! What the kernel knows of the network around: routes, neighbours, links, addresses.
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
//! All of it runs on one slow thread, which keeps CAP_NET_ADMIN: the kernel checks it whenever a neighbour is installed.
//! When notifications were lost (ENOBUFS), or the kernel drops routes without a word, everything is read anew.

mod netlink;
mod view;
mod wanted;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use levee_api::net::Mac;
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

/// What the director asks for; clones share one queue.
#[derive(Debug, Clone)]
pub struct Asking {
    standing: watch::Sender<Arc<BTreeSet<Key>>>,
    resolve: mpsc::Sender<Key>,
}

/// The other end of [`Asking`].
#[derive(Debug)]
pub struct Asked {
    standing: watch::Receiver<Arc<BTreeSet<Key>>>,
    resolve: mpsc::Receiver<Key>,
}

/// Requests to resolve that may wait. Workers repeat theirs, so one that finds no room is not lost for ever.
const RESOLVE_QUEUE: usize = 1024;

/// A pair of ends.
#[must_use]
pub fn asking() -> (Asking, Asked) {
    let (standing_sender, standing) = watch::channel(Arc::default());
    let (resolve_sender, resolve) = mpsc::channel(RESOLVE_QUEUE);
    (Asking { standing: standing_sender, resolve: resolve_sender }, Asked { standing, resolve })
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
