//! Who announces what, as the leader can know it: nobody says so yet.

use std::net::IpAddr;

use super::plan::Announcers;
use crate::lease::Leases;

/// Looks from time to time.
pub(super) struct Watcher;

impl Watcher {
    pub(super) fn new(_leases: Leases) -> Self {
        Watcher
    }

    /// Waits until something may be another than it was.
    pub(super) async fn news(&mut self) {
        std::future::pending().await
    }

    /// Who announces these addresses now.
    pub(super) fn announcers(&mut self, _addresses: &[IpAddr]) -> Announcers {
        Announcers::Unknown("balancers do not report to the leader".to_owned())
    }
}
