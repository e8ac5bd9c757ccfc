//! Who announces what, as the leader can know it: nobody says so yet.

use super::plan::Announcers;
use crate::lease::Leases;

/// Looks from time to time.
pub(super) struct Watcher {
    _leases: Leases,
}

impl Watcher {
    pub(super) fn new(leases: Leases) -> Self {
        Watcher { _leases: leases }
    }

    pub(super) async fn look(&mut self) -> Announcers {
        Announcers::Unknown("balancers do not report to the leader".to_owned())
    }
}
