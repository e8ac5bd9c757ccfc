//! A Linux bridge with the rules that the demo's fabric has before levee comes: sources of what leaves become the node's MAC, also
//! inside ARP, and what comes back is told whose it is by its address.

use super::{Contestant, Offer, On, Running};
use crate::throughput::seen::Seen;
use crate::throughput::topology::{FAR, NEXT_MAC, OUT_MAC, POD, POD_MAC, Topology};

/// See the module.
pub struct Bridge(pub On);

impl Contestant for Bridge {
    fn name(&self) -> String {
        self.0.name("Linux bridge, ebtables".into())
    }

    fn key(&self) -> String {
        self.0.key("linux_bridge_ebtables")
    }

    fn place(&self) -> Option<String> {
        Some("bridge".into())
    }

    fn prepare(&self, topology: &Topology) {
        let forwarder = &topology.forwarder;
        forwarder.ip_batch(
            "addr flush dev in0
             addr flush dev out0
             link add br0 type bridge
             link set in0 master br0
             link set out0 master br0
             link set br0 up",
        );
        // The pod's peer is known: the bridge floods nothing here.
        forwarder.run(&format!("bridge fdb replace {NEXT_MAC} dev out0 master static"));
        forwarder.run(&format!("ebtables -t nat -A POSTROUTING -o out0 -j snat --to-source {OUT_MAC} --snat-arp"));
        for whose in [format!("IPv4 --ip-dst {POD}"), format!("ARP --arp-ip-dst {POD}")] {
            let rule = format!("PREROUTING -i out0 -p {whose} -j dnat --to-destination {POD_MAC}");
            forwarder.run(&format!("ebtables -t nat -A {rule}"));
        }
    }

    fn offer(&self) -> Offer {
        Offer::from_pod(NEXT_MAC)
    }

    fn start(&self, topology: &Topology, core: usize) -> Running {
        self.0.start(topology, core)
    }

    fn judge(&self, frame: &Seen) -> Result<(), String> {
        frame.has_macs(OUT_MAC, NEXT_MAC)?;
        frame.goes_to(FAR)
    }
}
