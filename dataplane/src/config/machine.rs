//! What a configuration needs of the machine: interfaces with queues, and cores.

use std::net::IpAddr;

use levee_api::diagnostic::Diagnostic;
use levee_api::net::Mac;

use super::{Config, Take, at};

/// Bytes of each frame that the kernel keeps to itself (`XDP_PACKET_HEADROOM`, `include/uapi/linux/bpf.h`).
const HEADROOM: u32 = 256;
/// Ethernet header and two VLAN tags.
const FRAMING: u32 = 14 + 2 * 4;

/// A machine, as far as a configuration asks. Who fills it in, looks; this module never does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Machine {
    /// Interfaces of the network namespace.
    pub interfaces: Vec<Interface>,
    /// Cores that are online, sorted.
    pub cores: Vec<usize>,
}

/// One network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Name.
    pub name: String,
    /// Kernel index.
    pub index: u32,
    /// MAC, if it is an Ethernet device.
    pub mac: Option<Mac>,
    /// Bytes of network layer that one frame may carry.
    pub mtu: u32,
    /// Receive queues.
    pub queues: u32,
    /// Administratively up, with carrier.
    pub up: bool,
    /// Addresses, in the kernel's order: the first is the one that it would send from.
    pub addresses: Vec<IpAddr>,
    /// Interface at the other end, if it is a veth whose peer is in the same namespace.
    pub peer: Option<u32>,
}

impl Machine {
    /// The interface of this name.
    #[must_use]
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.name == name)
    }
}

pub(super) fn against(config: &Config, machine: &Machine) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let file = config.file.as_str();
    let missing = |name: &super::Placed<String>| {
        at(
            file,
            name,
            format!("this machine has no interface `{}`", name.value),
            format!("it has: {}", list(machine.interfaces.iter().map(|interface| &interface.name))),
        )
    };
    let mut queues = 0;
    for port in &config.ports {
        if let Some(bridge) = &port.neighbours
            && machine.interface(&bridge.value).is_none()
        {
            found.push(missing(bridge));
        }
        let Some(interface) = machine.interface(&port.interface.value) else {
            found.push(missing(&port.interface));
            continue;
        };
        let name = &interface.name;
        if interface.mac.is_none() {
            let message = format!("interface `{name}` is not an Ethernet device");
            found.push(at(file, &port.interface, message, "name one that has a MAC address"));
        }
        let room = config.memory.frame_size - HEADROOM;
        if interface.mtu + FRAMING > room && port.take == Take::All {
            found.push(at(
                file,
                &port.interface,
                format!(
                    "interface `{name}` has an MTU of {}, and frames have room for {}",
                    interface.mtu,
                    room - FRAMING
                ),
                if config.memory.frame_size < 4096 && interface.mtu + FRAMING <= 4096 - HEADROOM {
                    "set `memory: {frame_size: 4096}`".to_owned()
                } else {
                    format!("`ip link set {name} mtu {}`, or less", 4096 - HEADROOM - FRAMING)
                },
            ));
        }
        match &port.queues {
            None => queues += interface.queues as usize,
            Some(listed) => {
                queues += listed.len();
                for queue in listed.iter().filter(|queue| queue.value >= interface.queues) {
                    let message = format!("interface `{name}` has no queue {}", queue.value);
                    let help = format!("it has {}, counted from 0; see `ethtool -l {name}`", interface.queues);
                    found.push(at(file, queue, message, help));
                }
            }
        }
    }
    for core in config.workers.iter().filter(|core| !machine.cores.contains(&core.value)) {
        let message = format!("this machine has no core {}", core.value);
        found.push(at(file, core, message, format!("it has: {}", list(machine.cores.iter()))));
    }
    if found.is_empty()
        && let Some(core) = config.workers.get(queues)
    {
        found.push(at(
            file,
            core,
            format!("the worker on core {} would have no queue: there are {queues} queues in all", core.value),
            "remove the core, or give the interfaces more queues (`ethtool -L`)",
        ));
    }
    found
}

/// `a, b, c`, or `none`.
fn list(items: impl Iterator<Item = impl ToString>) -> String {
    let items: Vec<_> = items.map(|item| item.to_string()).collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}
