//! The kernel's own balancer, as kube-proxy sets it up in its IPVS mode: addresses on a dummy interface, masquerading, round robin.
//!
//! Many kernels have no IPVS, that of levee's own figures among them; then this is skipped, aloud. Like everybody, it is measured
//! only after a look at what it makes of frames.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Contestant, Offer, On, Running, translated};
use crate::services::{PODS_RANGE, PORT, Services, TARGET_PORT};
use crate::throughput::feed;
use crate::throughput::seen::Seen;
use crate::throughput::topology::{NEXT_MAC, OUT_ADDRESS, OUT_MAC, Topology, in_path};

/// See the module.
pub struct Ipvs {
    /// What it balances.
    pub services: Services,
    /// Where.
    pub on: On,
}

impl Contestant for Ipvs {
    fn name(&self) -> String {
        self.on.name(format!("Linux, IPVS, {}", self.services))
    }

    fn key(&self) -> String {
        self.on.key(&format!("linux_ipvs_{}", self.services.count))
    }

    fn missing(&self) -> Option<String> {
        if !Path::new("/proc/net/ip_vs").exists() {
            // Where it is a module, asking loads it.
            let _ = Command::new("modprobe").arg("ip_vs_rr").output();
        }
        if !Path::new("/proc/net/ip_vs").exists() {
            return Some("this kernel has no IPVS (CONFIG_IP_VS)".into());
        }
        (!in_path("ipvsadm")).then(|| "ipvsadm is missing: apt-get install ipvsadm".into())
    }

    fn place(&self) -> Option<String> {
        Some(format!("ipvs {}", self.services.count))
    }

    fn prepare(&self, topology: &Topology) {
        let forwarder = &topology.forwarder;
        let (mut addresses, mut services) = (String::from("link add kube-ipvs0 type dummy\n"), String::new());
        for service in 0..self.services.count {
            let vip = Services::vip(service);
            let _ = writeln!(addresses, "addr add {vip}/32 dev kube-ipvs0");
            let _ = writeln!(services, "-A -t {vip}:{PORT} -s rr");
            for endpoint in Services::endpoints(service) {
                let _ = writeln!(services, "-a -t {vip}:{PORT} -r {endpoint}:{TARGET_PORT} -m");
            }
        }
        forwarder.ip_batch(&addresses);
        feed(forwarder.command("ipvsadm").arg("-R"), &services);
        forwarder.sysctl("net.ipv4.vs.conntrack", "1");
        feed(
            forwarder.command("nft").args(["-f", "-"]),
            &format!(
                "table ip kube-proxy {{ chain postrouting {{ type nat hook postrouting priority 100; \
                 ip saddr != {PODS_RANGE} masquerade fully-random; }}; }}"
            ),
        );
        let off = forwarder.enter(|| fs::write("/proc/sys/net/netfilter/nf_conntrack_checksum", "0"));
        off.expect("conntrack is there with the rule");
    }

    fn offer(&self) -> Offer {
        Offer::to(self.services, true)
    }

    fn start(&self, topology: &Topology, core: usize) -> Running {
        self.on.start(topology, core)
    }

    fn judge(&self, frame: &Seen) -> Result<(), String> {
        frame.has_macs(OUT_MAC, NEXT_MAC)?;
        translated(frame, self.services, OUT_ADDRESS)
    }
}
