//! What is known of a host: values as the kernel gives them, judged nowhere in here. Whatever could not be read is absent.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Facts {
    /// `/proc/sys/kernel/osrelease`.
    pub(super) kernel: String,
    /// Whether `/proc/net/protocols` has `XDP`.
    pub(super) af_xdp: Option<bool>,
    /// `CapEff` of this process.
    pub(super) effective: u64,
    /// `CapBnd` of this process: what a daemon that is started here can have.
    pub(super) bounding: u64,
    /// RLIMIT_MEMLOCK, bytes; absent if there is none.
    pub(super) locked_memory: Option<u64>,
    /// Huge pages by their size in KiB.
    pub(super) huge_pages: BTreeMap<u64, HugePages>,
    /// Cores that are online.
    pub(super) cores: BTreeMap<usize, Core>,
    /// Cores that the scheduler leaves alone.
    pub(super) isolated: Vec<usize>,
    /// Cores without a tick while one task runs; absent if the kernel cannot (CONFIG_NO_HZ_FULL).
    pub(super) tickless: Option<Vec<usize>>,
    /// Interrupts that fire on a core of this host.
    pub(super) interrupts: Vec<Interrupt>,
    /// Names of processes that matter: `irqbalance`, `kube-proxy`.
    pub(super) processes: Vec<String>,
    /// Under `/proc/sys`, such as `net.ipv4.ip_forward`; an interface's dots are `/`, as in sysctl(8).
    pub(super) sysctl: BTreeMap<String, String>,
    /// Interfaces.
    pub(super) interfaces: Vec<Interface>,
    /// Base chains of nftables; absent if they could not be listed.
    pub(super) chains: Option<Vec<Chain>>,
}

/// One size of huge pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HugePages {
    pub(super) reserved: u64,
    pub(super) free: u64,
}

/// A core.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Core {
    /// It and those that share its execution units.
    pub(super) siblings: Vec<usize>,
    /// NUMA node.
    pub(super) numa: Option<u32>,
    /// Who chooses its frequency; absent if it has but one, or a hypervisor does.
    #[serde(default)]
    pub(super) governor: Option<String>,
}

/// An interrupt line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Interrupt {
    pub(super) number: u32,
    /// The last column of `/proc/interrupts`: `mlx5_comp3@pci:0000:01:00.0`, `eth0-TxRx-3`.
    pub(super) name: String,
    /// `effective_affinity_list`.
    pub(super) cores: Vec<usize>,
}

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) index: u32,
    /// Its kind, if it is no hardware: `veth`, `bridge`, `bond`.
    pub(super) kind: Option<String>,
    pub(super) driver: Option<String>,
    pub(super) ethernet: bool,
    pub(super) up: bool,
    pub(super) mtu: u32,
    /// Receive queues that are in use.
    pub(super) queues: u32,
    /// Its addresses.
    pub(super) addresses: Vec<IpAddr>,
    /// Index of the interface that it is a member of.
    pub(super) master: Option<u32>,
    /// Index of a veth's other end, if that is in the same namespace.
    pub(super) peer: Option<u32>,
    pub(super) numa: Option<u32>,
    /// Whether it leads to the default gateway.
    pub(super) default_route: bool,
    /// The XDP program on it: its mode and id.
    pub(super) xdp: Option<Attached>,
    /// Whether a running levee-dataplane says that the port is its.
    pub(super) levee: bool,
    /// What the driver says it can, by `NETDEV_A_DEV_XDP_FEATURES`; absent before Linux 6.3.
    pub(super) xdp_features: Option<u64>,
    /// Large receive offload; absent if the driver does not say.
    pub(super) lro: Option<bool>,
    /// Generic receive offload.
    pub(super) gro: Option<bool>,
    /// Transmit checksum offload.
    pub(super) tx_checksum: Option<bool>,
    /// Interrupts of its device, by `/sys/class/net/IF/device/msi_irqs`.
    pub(super) interrupts: Vec<u32>,
    /// `napi_defer_hard_irqs`.
    pub(super) deferred_interrupts: Option<u64>,
    /// `gro_flush_timeout`, nanoseconds.
    pub(super) flush_timeout: Option<u64>,
    /// If it is a bridge.
    pub(super) bridge: Option<Bridge>,
}

/// An XDP program on an interface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Attached {
    /// `native`, `skb`, `hardware` or `multiple`.
    pub(super) mode: String,
    /// The kernel's number of the program.
    pub(super) program: u32,
}

/// A bridge's settings, from `/sys/class/net/IF/bridge`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bridge {
    pub(super) stp: bool,
    pub(super) vlan_filtering: bool,
}

/// A base chain of nftables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Chain {
    pub(super) family: String,
    pub(super) table: String,
    pub(super) name: String,
    pub(super) hook: String,
    /// Of the families `netdev` and `inet`.
    #[serde(default)]
    pub(super) device: Option<String>,
}

impl Facts {
    pub(super) fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.name == name)
    }

    pub(super) fn by_index(&self, index: u32) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.index == index)
    }

    pub(super) fn sysctl(&self, key: &str) -> Option<&str> {
        self.sysctl.get(key).map(String::as_str)
    }

    pub(super) fn runs(&self, process: &str) -> bool {
        self.processes.iter().any(|name| name == process)
    }
}
