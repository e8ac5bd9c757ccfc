//! The checks: pure functions of what is known and what is configured, one file a noun.

mod bridge;
mod core;
mod filter;
mod interface;
mod interrupt;
mod kernel;
mod memory;
mod mtu;
mod offload;
mod right;
mod sysctl;
#[cfg(test)]
mod tests;
mod xdp;

use levee_api::net::Role;
use levee_dataplane::config::{Config, Port, Take};

use super::Finding;
use super::facts::{Facts, Interface};

/// What checks look at.
pub(super) struct Host<'a> {
    facts: &'a Facts,
    config: Option<&'a Config>,
    ports: Vec<Looked<'a>>,
}

/// An interface that levee is to have, and its port where a configuration names it.
#[derive(Clone, Copy)]
struct Looked<'a> {
    interface: &'a Interface,
    port: Option<&'a Port>,
}

impl Looked<'_> {
    /// Faces the fabric, as far as is known.
    fn is_uplink(&self) -> bool {
        self.port.is_none_or(|port| port.role == Role::Uplink)
    }

    fn is_taken_whole(&self) -> bool {
        self.port.is_some_and(|port| port.take == Take::All)
    }
}

impl<'a> Host<'a> {
    /// Which interfaces: those of the configuration; those that are named; else those with a device, or that lead to the default gateway.
    ///
    /// # Errors
    /// A named one is not there. (A configured one that is not is for the configuration's own check.)
    pub(super) fn new(facts: &'a Facts, config: Option<&'a Config>, named: &[String]) -> Result<Self, String> {
        let ports = match (config, named) {
            (Some(config), _) => {
                let ports = config.ports.iter().map(|port| (facts.interface(&port.interface.value), port));
                ports.filter_map(|(interface, port)| Some(Looked { interface: interface?, port: Some(port) })).collect()
            }
            (None, []) => {
                let hardware = |interface: &&Interface| {
                    interface.ethernet
                        && (interface.kind.is_none() && interface.driver.is_some() || interface.default_route)
                };
                facts.interfaces.iter().filter(hardware).map(|interface| Looked { interface, port: None }).collect()
            }
            (None, named) => {
                let look = |name: &String| match facts.interface(name) {
                    Some(interface) => Ok(Looked { interface, port: None }),
                    None => Err(format!("this host has no interface `{name}`; `ip link` shows those that it has")),
                };
                named.iter().map(look).collect::<Result<_, _>>()?
            }
        };
        Ok(Host { facts, config, ports })
    }

    /// Queues that levee would open sockets on: port, queue, worker.
    fn queues(&self) -> Vec<(Looked<'a>, u32, usize)> {
        let Some(config) = self.config else { return Vec::new() };
        let mut turn = (0..config.workers.len()).cycle();
        let mut all = Vec::new();
        for looked in &self.ports {
            let queues = match looked.port.and_then(|port| port.queues.as_ref()) {
                Some(listed) => listed.iter().map(|queue| queue.value).collect(),
                None => (0..looked.interface.queues).collect::<Vec<u32>>(),
            };
            // As boot deals them out.
            all.extend(queues.into_iter().zip(turn.by_ref()).map(|(queue, worker)| (*looked, queue, worker)));
        }
        all
    }

    /// The port towards the pods, if one is configured.
    fn pods(&self) -> Option<(&'a Interface, &'a Port)> {
        let of = self.ports.iter().filter_map(|looked| Some((looked.interface, looked.port?)));
        of.into_iter().find(|(_, port)| port.role == Role::Pods)
    }
}

/// All of them, in the order in which an operator would mend things.
pub(super) fn all(host: &Host<'_>) -> Vec<Finding> {
    let checks: [fn(&Host<'_>) -> Vec<Finding>; 12] = [
        kernel::check,
        right::check,
        memory::check,
        interface::check,
        xdp::check,
        mtu::check,
        offload::check,
        core::check,
        interrupt::check,
        bridge::check,
        sysctl::check,
        filter::check,
    ];
    checks.iter().flat_map(|check| check(host)).collect()
}
