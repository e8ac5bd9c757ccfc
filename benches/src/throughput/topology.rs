//! Three namespaces in a row: who sends, who forwards, who counts.
//!
//! ```text
//!  ┌ source ┐      ┌ forwarder ──────────┐      ┌ sink ─────────────────┐
//!  │     g0 ════════ in0            out0 ═════════ s0 ─► nft drop       │
//!  └────────┘      └─────────────────────┘      └───────────────────────┘
//!   core 0: the generator, and       core 1: who forwards, and the
//!   the kernel's receiving on in0    kernel's sending up to the drop
//! ```

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use levee_api::net::Mac;
use levee_tests::{Lab, Namespace};

use super::feed;
use crate::services::PODS_RANGE;

/// A pod behind `in0`.
pub const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 5);
/// Its MAC.
pub const POD_MAC: Mac = Mac([2, 0, 0, 0, 1, 5]);
/// A station behind `out0`: the route to everything.
pub const NEXT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
/// Its MAC, which is nobody's: the sink sees frames for others, and drops them.
pub const NEXT_MAC: Mac = Mac([2, 0, 0, 0, 2, 9]);
/// MAC of `in0`.
pub const IN_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
/// MAC of `out0`, which is the node's on its uplink.
pub const OUT_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
/// Address of `out0`: what the kernel masquerades as.
pub const OUT_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// What levee translates sources to.
pub const SNAT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
/// Clients of Services.
pub const CLIENTS: &str = "198.18.0.0/15";
/// A pod elsewhere.
pub const FAR: Ipv4Addr = Ipv4Addr::new(10, 245, 0, 1);
/// Frames' way.
pub struct Topology {
    /// Where frames come from.
    pub source: Namespace,
    /// Where they are forwarded.
    pub forwarder: Namespace,
    /// Where they end.
    pub sink: Namespace,
    _lab: Lab,
}

impl Topology {
    /// Builds it; `None`, said aloud, where the machine cannot have it.
    #[must_use]
    pub fn build() -> Option<Topology> {
        let lab = Lab::start()?;
        let (source, forwarder, sink) = (lab.namespace("source"), lab.namespace("forwarder"), lab.namespace("sink"));
        forwarder.ip_batch(&format!(
            "link add in0 address {IN_MAC} type veth peer name g0 netns {}
             link add out0 address {OUT_MAC} type veth peer name s0 netns {}
             addr add 10.244.1.1/24 dev in0
             addr add {OUT_ADDRESS}/24 dev out0
             link set in0 up
             link set out0 up",
            source.name(),
            sink.name()
        ));
        source.ip("link set g0 up");
        sink.ip("link set s0 up");
        forwarder.ip_batch(&format!(
            "neigh replace {NEXT} lladdr {NEXT_MAC} dev out0 nud permanent
             neigh replace {POD} lladdr {POD_MAC} dev in0 nud permanent
             route add 10.245.0.0/16 via {NEXT} dev out0
             route add {PODS_RANGE} via {NEXT} dev out0"
        ));
        forwarder.sysctl("net.ipv4.ip_forward", "1");
        // Receiving by NAPI, without which XDP frames cannot be sent into a veth; and nothing that gathers frames.
        forwarder.run("ethtool -K in0 gro on");
        sink.run("ethtool -K s0 gro off");
        // The cheapest end: before any protocol.
        let table =
            "table netdev sink { chain everything { type filter hook ingress device s0 priority 0; policy drop; }; }";
        feed(sink.command("nft").args(["-f", "-"]), table);
        Some(Topology { source, forwarder, sink, _lab: lab })
    }

    /// Has the kernel forward on a core, by handing over to it what has been received (`rps_cpus`): where levee works, and as with a
    /// NIC that interrupts that core. `None`: where it receives, which here is where the generator sends.
    ///
    /// # Panics
    /// If the kernel will not.
    pub fn steer_to(&self, core: Option<usize>) {
        let file = "/sys/class/net/in0/queues/rx-0/rps_cpus";
        feed(self.forwarder.command("tee").arg(file), &core.map_or_else(|| "0".into(), mask));
    }

    /// Frames that have reached the sink.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        received(&self.sink, "s0")
    }
}

/// Frames that an interface has received.
///
/// # Panics
/// If there is none of that name.
#[must_use]
pub fn received(namespace: &Namespace, interface: &str) -> u64 {
    // `/proc/net` shows the namespace of the thread that looks.
    let table = namespace.enter(|| fs::read_to_string("/proc/thread-self/net/dev")).expect("the kernel's table");
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'));
    let words = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    words.unwrap_or_else(|| panic!("{} has no interface {interface}:\n{table}", namespace.name()))
}

/// Whether a command can be found.
#[must_use]
pub fn in_path(command: &str) -> bool {
    let directories = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&directories).any(|directory| Path::new(&directory).join(command).is_file())
}

/// A set of one core, as the kernel reads them: words of 32, the first cores last.
fn mask(core: usize) -> String {
    let first = format!("{:x}", 1_u32 << (core % 32));
    std::iter::once(first).chain((0..core / 32).map(|_| "00000000".into())).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_as_the_kernel_reads_them() {
        assert_eq!([0, 1, 31, 32, 65].map(mask), ["1", "2", "80000000", "1,00000000", "2,00000000,00000000"]);
    }
}
