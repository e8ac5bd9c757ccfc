//! Reads a host. Nothing on it is changed, no module is loaded, no socket bound; what cannot be read is left out.

mod link;
mod netdev;
mod proc;

use std::collections::BTreeMap;
use std::io;

use levee_api::report::Port;

use super::facts::{Chain, Facts};
use crate::client::Client;

/// Settings that checks ask for; those of interfaces come to them.
const SYSCTLS: [&str; 10] = [
    "kernel.sched_rt_runtime_us",
    "net.core.bpf_jit_enable",
    "net.ipv4.ip_forward",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.conf.all.rp_filter",
    "net.ipv4.conf.all.arp_ignore",
    "net.ipv4.conf.all.arp_announce",
    "net.bridge.bridge-nf-call-iptables",
    "net.bridge.bridge-nf-call-ip6tables",
    "net.bridge.bridge-nf-call-arptables",
];

/// Everything that is known of this host. `dataplane` is asked which ports are its, if it runs.
pub(super) fn facts(dataplane: &Client) -> io::Result<Facts> {
    let mut interfaces = link::interfaces()?;
    let features = netdev::xdp_features().unwrap_or_default();
    let levees: Vec<Port> = dataplane.get("/v1/ports").unwrap_or_default();
    let mut sysctl = BTreeMap::new();
    let mut note = |key: String| {
        if let Some(value) = proc::sysctl(&key) {
            sysctl.insert(key, value);
        }
    };
    SYSCTLS.iter().for_each(|key| note((*key).to_owned()));
    for interface in &mut interfaces {
        interface.xdp_features = features.get(&interface.index).copied();
        interface.levee = levees.iter().any(|port| port.ifindex == interface.index);
        note(format!("net.ipv4.conf.{}.rp_filter", interface.name.replace('.', "/")));
    }
    let (effective, bounding) = proc::capabilities();
    Ok(Facts {
        kernel: proc::word("/proc/sys/kernel/osrelease").unwrap_or_default(),
        af_xdp: proc::has_af_xdp(),
        effective,
        bounding,
        locked_memory: proc::locked_memory(),
        huge_pages: proc::huge_pages(),
        cores: proc::cores(),
        isolated: proc::numbers(&proc::word("/sys/devices/system/cpu/isolated").unwrap_or_default()),
        tickless: proc::word("/sys/devices/system/cpu/nohz_full").map(|list| proc::numbers(&list)),
        interrupts: proc::interrupts(),
        processes: proc::processes(&["irqbalance", "kube-proxy"]),
        sysctl,
        interfaces,
        chains: chains(),
    })
}

/// What `nft` lists: only chains, since rules may be many thousands. `None` if it is not there or may not.
fn chains() -> Option<Vec<Chain>> {
    let output = std::process::Command::new("nft").args(["-j", "list", "chains"]).output().ok()?;
    output.status.success().then_some(())?;
    let listed: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    let chains = listed.get("nftables")?.as_array()?.iter().filter_map(|entry| entry.get("chain"));
    // Those that others jump to have no hook.
    let base = chains.filter_map(|chain| {
        let word = |key: &str| Some(chain.get(key)?.as_str()?.to_owned());
        Some(Chain {
            family: word("family")?,
            table: word("table")?,
            name: word("name")?,
            hook: word("hook")?,
            device: word("dev"),
        })
    });
    Some(base.collect())
}
