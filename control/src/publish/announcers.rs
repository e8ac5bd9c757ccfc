//! Who announces what, as the leader sees it in the election's Leases.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tokio::sync::mpsc;

use super::plan::{Announcer, Announcers};
use crate::election::names::About;
use crate::election::{Owners, Seen, follow};
use crate::lease::{Leases, Moment};

/// What was seen and is not taken in yet: some seconds of a dozen balancers' heartbeats.
const BACKLOG: usize = 1024;

/// Follows the Leases for as long as it is there.
pub(super) struct Watcher {
    seen: mpsc::Receiver<Seen>,
    owners: Owners,
    /// Balancers that take part; `None` while that cannot be seen.
    members: Option<BTreeSet<String>>,
}

impl Watcher {
    /// Must be made within a runtime.
    pub(super) fn new(leases: Leases) -> Self {
        let (tell, seen) = mpsc::channel(BACKLOG);
        tokio::spawn(follow(leases, tell));
        Watcher { seen, owners: Owners::default(), members: None }
    }

    /// Waits until something may be another than it was. Heartbeats alone are taken in and are no news.
    pub(super) async fn news(&mut self) {
        let before = (self.owners.changes(), self.members.clone());
        while (self.owners.changes(), &self.members) == (before.0, &before.1) {
            match self.seen.recv().await {
                Some(seen) => self.take_in(seen),
                None => std::future::pending().await,
            }
        }
    }

    fn take_in(&mut self, seen: Seen) {
        let name = |about: &About| match about {
            About::Balancer(name) => Some(name.clone()),
            About::Address(_) => None,
        };
        match (&seen, &mut self.members) {
            (Seen::All(objects), members) => {
                *members = Some(objects.iter().filter_map(|object| name(&object.about)).collect());
            }
            (Seen::Changed(object), Some(members)) => members.extend(name(&object.about)),
            (Seen::Gone(about, _), Some(members)) => {
                if let Some(name) = name(about) {
                    members.remove(&name);
                }
            }
            (Seen::Nothing, members) => *members = None,
            (_, None) => {}
        }
        self.owners.see(seen, Moment::now());
    }

    /// Who announces these addresses now. An owner without a sign of life is nobody.
    pub(super) fn announcers(&mut self, addresses: &[IpAddr]) -> Announcers {
        while let Ok(seen) = self.seen.try_recv() {
            self.take_in(seen);
        }
        match &self.members {
            None => return Announcers::Unknown("the balancers' Leases cannot be seen".to_owned()),
            Some(members) if members.is_empty() => {
                return Announcers::Unknown("no balancer takes part in an election".to_owned());
            }
            Some(_) => {}
        }
        let now = Moment::now();
        let announcer = |address: &IpAddr| {
            let name = self.owners.announcer(*address, now)?.to_owned();
            Some((*address, Announcer { name }))
        };
        Announcers::Known(addresses.iter().filter_map(announcer).collect())
    }
}
