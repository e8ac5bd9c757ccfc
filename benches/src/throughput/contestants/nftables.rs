//! The kernel with conntrack and the rules that kube-proxy writes in its nftables mode: what levee's `nat` takes the place of.

use super::{Contestant, Offer, On, Running, translated};
use crate::services::Services;
use crate::throughput::kube_proxy;
use crate::throughput::seen::Seen;
use crate::throughput::topology::{NEXT_MAC, OUT_ADDRESS, OUT_MAC, Topology};

/// See the module.
pub struct Nftables {
    /// What it balances.
    pub services: Services,
    /// Where.
    pub on: On,
}

impl Contestant for Nftables {
    fn name(&self) -> String {
        self.on.name(format!("Linux, kube-proxy's nftables, {}", self.services))
    }

    fn key(&self) -> String {
        self.on.key(&format!("linux_nftables_{}", self.services.count))
    }

    fn place(&self) -> Option<String> {
        Some(format!("nftables {}", self.services.count))
    }

    fn prepare(&self, topology: &Topology) {
        kube_proxy::load(&topology.forwarder, self.services);
        // To Linux' advantage: a NIC would have verified the checksums that conntrack looks at, and the generator is no NIC.
        topology.forwarder.sysctl("net.netfilter.nf_conntrack_checksum", "0");
    }

    fn offer(&self) -> Offer {
        Offer::to(self.services, false)
    }

    fn start(&self, topology: &Topology, core: usize) -> Running {
        self.on.start(topology, core)
    }

    fn judge(&self, frame: &Seen) -> Result<(), String> {
        frame.has_macs(OUT_MAC, NEXT_MAC)?;
        translated(frame, self.services, OUT_ADDRESS)
    }
}
