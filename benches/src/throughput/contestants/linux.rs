//! The kernel's own forwarding, without a rule.

use super::{Contestant, Offer, On, Running};
use crate::throughput::seen::Seen;
use crate::throughput::topology::{FAR, IN_MAC, NEXT_MAC, OUT_MAC, Topology};

/// See the module.
pub struct Linux(pub On);

impl Contestant for Linux {
    fn name(&self) -> String {
        self.0.name("Linux forwarding".into())
    }

    fn key(&self) -> String {
        self.0.key("linux_forwarding")
    }

    fn place(&self) -> Option<String> {
        Some("linux".into())
    }

    fn offer(&self) -> Offer {
        Offer::from_pod(IN_MAC)
    }

    fn start(&self, topology: &Topology, core: usize) -> Running {
        self.0.start(topology, core)
    }

    fn judge(&self, frame: &Seen) -> Result<(), String> {
        frame.has_macs(OUT_MAC, NEXT_MAC)?;
        frame.goes_to(FAR)
    }
}
