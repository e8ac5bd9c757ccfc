//! The device of the port to this host's own IP stack.

use std::sync::Arc;

use af_xdp::Umem;
use af_xdp::tap::TapDevice;
use levee_api::net::{Mac, Role};

use super::{BootError, DUMMY_ADDRESS};
use crate::config::Take;
use crate::port::host::HostPort;
use crate::running::{PortFacts, QueueFacts};
use crate::tables;

/// Its name.
const NAME: &str = "levee-host";

/// What is made for it.
pub(super) struct Made {
    /// For a worker.
    pub(super) port: HostPort,
    /// For tables.
    pub(super) table: tables::Port,
    /// For reports.
    pub(super) facts: PortFacts,
}

/// Makes the device, with room for packets of `mtu` bytes, and for IPv6 where uplinks have it, to be served by `worker`. What leads packets to it, and has the kernel
/// take what comes from it, is the neighbours' business: it can change while the dataplane runs.
pub(super) fn host(umem: &Arc<Umem>, mtu: u32, ipv6: bool, worker: usize) -> Result<Made, BootError> {
    let tell = |source| BootError::Device { what: format!("port {NAME}"), source };
    let device = TapDevice::create(NAME).map_err(tell)?;
    // Best effort: it may not be there at all. What it says of itself on a new link is dropped.
    let off = if ipv6 { "0" } else { "1" };
    if let Err(error) = std::fs::write(format!("/proc/sys/net/ipv6/conf/{NAME}/disable_ipv6"), off) {
        tracing::debug!(%error, NAME, ipv6, "IPv6 could not be switched on or off");
    }
    device.set_noarp().map_err(tell)?;
    // Without one, nothing that comes in would be believed where rp_filter is on (net/ipv4/fib_frontend.c).
    device.set_address(DUMMY_ADDRESS).map_err(tell)?;
    device.set_mtu(u16::try_from(mtu).unwrap_or(u16::MAX)).map_err(tell)?;
    device.set_up().map_err(tell)?;
    let (index, mac) = (device.index(), Mac(device.mac().map_err(tell)?));
    let port = HostPort::new(device, umem);
    tracing::info!(interface = NAME, role = %Role::Host, mtu, "port");
    let facts = PortFacts {
        interface: NAME.to_owned(),
        ifindex: index,
        role: Role::Host,
        take: Take::All,
        mode: "tap",
        attached: "routes",
        rings: None,
        queues: vec![QueueFacts { queue: 0, worker, observer: None, traffic: Arc::clone(port.traffic()) }],
        steering: None,
    };
    let table = tables::Port {
        name: NAME.into(),
        role: Role::Host,
        mac,
        passes: true,
        mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
    };
    Ok(Made { port, table, facts })
}
