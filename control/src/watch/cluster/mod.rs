//! A cluster's API server: one [`ClusterSource`] for each kind of object that is read.
//!
//! ```text
//!        ┌────────────────────────────── 410, or the first time ──────────────────────────────┐
//!        ▼                                                                                    │
//!   list, page by page ──► ListBegins, Listed …, ListComplete ──► watch for 45 s ──► Changed, Gone
//!        │ cannot                                                  ▲    │ cannot      Recovered
//!        └──► Failed, wait, again                                  └────┴──► (Failed, wait,) again from where it was
//! ```
//!
//! The kinds do not wait for each other: each has its own thread, connection and list, and the [`Store`](super::Store) puts
//! them together. A list replaces the one before only when it is whole (rule 15), so neither a lost connection nor a
//! compacted history makes anything vanish. The server ends every watch after [`WATCH`]; a connection on which it does not is
//! dead, and given up.
//!
//! An object that cannot be read is refused by itself, under its own name: in a cluster whoever may write one object must
//! not be able to stop all others. Objects are read by the same code as those in files.
//!
//! It writes nothing, and needs no permission but `list` and `watch` of the kinds: `configs/kubernetes/base/node/rbac.yaml`.

mod connect;
mod follow;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Outlet, Source};
use crate::model::Kind;

pub use connect::{Access, check};

/// How long the server lets one watch last. It says when the time is over, so silence beyond it is a dead connection.
pub const WATCH: Duration = Duration::from_secs(45);

/// Objects of one kind, from an API server.
#[derive(Debug, Clone)]
pub struct ClusterSource {
    access: Access,
    kind: Kind,
    /// Of Pods, only those of this node.
    node: String,
}

impl ClusterSource {
    /// One source for each kind that the dataplane of `node` needs. Pods only `with_pods`: a balancer has none, and to watch
    /// them all would be most of a cluster's traffic.
    #[must_use]
    pub fn all(kubeconfig: Option<PathBuf>, node: &str, with_pods: bool) -> Vec<ClusterSource> {
        let access = Access::new(kubeconfig);
        let kinds = Kind::ALL.into_iter().filter(|kind| with_pods || *kind != Kind::Pod);
        kinds.map(|kind| ClusterSource { access: access.clone(), kind, node: node.to_owned() }).collect()
    }
}

impl Source for ClusterSource {
    fn name(&self) -> String {
        format!("{}: {}", self.access, plural(self.kind))
    }

    fn start(self: Box<Self>, outlet: Outlet) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // 15 bytes are what Linux shows of a thread's name.
        std::thread::Builder::new().name("watch-cluster".to_owned()).spawn(move || {
            let name = Arc::from(self.name());
            let follower = follow::Follower::new(self.access, self.kind, &self.node, name, outlet.clone());
            runtime.block_on(async {
                tokio::select! {
                    () = outlet.closed() => {}
                    _ = follower.run() => {}
                }
            });
        })?;
        Ok(())
    }
}

/// As the API's paths and RBAC call a kind.
const fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Service => "services",
        Kind::EndpointSlice => "endpointslices",
        Kind::Node => "nodes",
        Kind::Pod => "pods",
        Kind::ServiceCidr => "servicecidrs",
        Kind::AddressPool => "addresspools",
    }
}

/// Whether a cluster may do without a kind: ServiceCIDRs are served since 1.33, AddressPools where their CRD is installed.
const fn is_optional(kind: Kind) -> bool {
    matches!(kind, Kind::ServiceCidr | Kind::AddressPool)
}
