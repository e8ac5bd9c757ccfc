//! Whether a program can be run: everything that would make two answers possible, or none, is refused before it is taken.

use std::net::IpAddr;

use levee_api::net::{Family, Mac, Protocol};
use levee_api::program::{Frontend, Generation, Local, Mode, Service, Vip};
use levee_api::tunnel::Tunnel;

/// Backends are numbered by 16 bits, and one number is kept free.
const MOST_BACKENDS: usize = 65_534;

/// What is wrong with one service by itself, in words.
pub(super) fn service(service: &Service) -> Result<(), String> {
    let wrong = |what: String| Err(format!("service `{}` ({}): {what}", service.name, service.protocol));
    if service.name.is_empty() {
        return wrong("it has no name".into());
    }
    if service.backends.len() > MOST_BACKENDS {
        return wrong(format!("{} backends; {MOST_BACKENDS} is the most", service.backends.len()));
    }
    let Some(first) = service.frontends.first() else {
        return wrong("it has no frontend: nobody could reach it".into());
    };
    if Family::of(first.address) != service.family {
        return wrong(format!("it is said to be {:?}, but frontend {} is not", service.family, first.address));
    }
    for frontend in &service.frontends {
        ports(frontend, service.protocol).or_else(&wrong)?;
        if frontend.address.is_ipv4() != first.address.is_ipv4() {
            return wrong(format!(
                "frontends {} and {} are of different families; a service is of one",
                first.address, frontend.address
            ));
        }
        address("frontend", frontend.address).or_else(&wrong)?;
        if let Some(range) = frontend.source_ranges.iter().find(|range| Family::of(range.addr()) != service.family) {
            return wrong(format!("source range {range} is of another family than frontend {}", frontend.address));
        }
    }
    for (index, backend) in service.backends.iter().enumerate() {
        match (backend.port, service.is_wide()) {
            (0, false) => return wrong(format!("backend {} has port 0", backend.address)),
            (port @ 1.., true) => {
                return wrong(format!(
                    "backend {} has port {port}, but clients choose the port of this service: give it port 0",
                    backend.address
                ));
            }
            _ => {}
        }
        if backend.address.is_ipv4() != first.address.is_ipv4() {
            return wrong(format!("backend {} is of another family than frontend {}", backend.address, first.address));
        }
        address("backend", backend.address).or_else(&wrong)?;
        match backend.via {
            Some(via) => {
                address("the far end of a tunnel,", via.address).or_else(&wrong)?;
                if via.mac.is_some_and(|mac: Mac| !mac.is_station()) {
                    return wrong(format!("the MAC behind tunnel {} is a group address or all zero", via.address));
                }
            }
            None if service.frontends.iter().any(|frontend| frontend.mode == Mode::Tunnel) => {
                return wrong(format!(
                    "mode `tunnel` needs to know each backend's node; backend {} has no `via`",
                    backend.address
                ));
            }
            None => {}
        }
        let same = |other: &levee_api::program::Backend| (other.address, other.port) == (backend.address, backend.port);
        // Quadratic only over what is equal so far; lists come sorted from `canonical`, so neighbours suffice there.
        if service.backends.get(index + 1).is_some_and(same) {
            return wrong(format!("backend {}:{} is listed twice", backend.address, backend.port));
        }
    }
    quic(service).or_else(&wrong)?;
    if service.affinity.is_some_and(|affinity| affinity.timeout_seconds == 0) {
        return wrong("affinity with a timeout of 0 seconds; leave it out, or give 1 to 86400".into());
    }
    Ok(())
}

/// What is wrong with a frontend's ports.
fn ports(frontend: &Frontend, protocol: Protocol) -> Result<(), String> {
    let address = frontend.address;
    match (protocol, frontend.port, frontend.last_port) {
        (Protocol::Any, 0, None) => Ok(()),
        (Protocol::Any, ..) => Err(format!("protocol `any` is an address whole: give frontend {address} port 0")),
        (_, 0, _) => Err(format!("frontend {address} has port 0; a whole address has protocol `any`")),
        (_, first, Some(last)) if last < first => {
            Err(format!("frontend {address}: ports {first} to {last} are no range"))
        }
        _ => Ok(()),
    }
}

/// What is wrong with how its connection IDs are to be read.
fn quic(service: &Service) -> Result<(), String> {
    if service.protocol != Protocol::Udp && !service.quic.is_empty() {
        return Err("it has `quic`, which only UDP can have".into());
    }
    for (index, config) in service.quic.iter().enumerate() {
        config.check().map_err(|what| format!("quic: {what}"))?;
        if service.quic.iter().skip(index + 1).any(|other| other.rotation == config.rotation) {
            return Err(format!("quic: two configurations of rotation {}", config.rotation));
        }
    }
    Ok(())
}

/// What is wrong with the node's part.
pub(super) fn local(local: &Local) -> Result<(), String> {
    for pod in &local.pods {
        address("pod", pod.address)?;
        if pod.mac.is_some_and(|mac: Mac| !mac.is_station()) {
            return Err(format!("pod {}: its MAC is a group address or all zero", pod.address));
        }
    }
    Ok(())
}

/// Most tunnels: what is received is compared with each.
const MOST_TUNNELS: usize = 8;

/// What is wrong with tunnels.
pub(super) fn tunnels(tunnels: &[Tunnel]) -> Result<(), String> {
    if tunnels.len() > MOST_TUNNELS {
        return Err(format!("{} tunnels; {MOST_TUNNELS} is the most", tunnels.len()));
    }
    for (index, tunnel) in tunnels.iter().enumerate() {
        tunnel.check()?;
        for end in &tunnel.addresses {
            address("the end of a tunnel,", *end)?;
        }
        // What is received must be one tunnel's: they are told apart by port, and without one by the lack of it.
        let same = |other: &&Tunnel| other.udp_port() == tunnel.udp_port();
        if let Some(other) = tunnels.iter().skip(index + 1).find(same) {
            let by = match tunnel.udp_port() {
                0 => "without a port".to_owned(),
                port => format!("on port {port}"),
            };
            return Err(format!(
                "tunnels `{}` and `{}` are both {by}: one cannot tell what comes in",
                tunnel.kind, other.kind
            ));
        }
    }
    Ok(())
}

/// What is wrong with a VIP.
pub(super) fn vip(vip: &Vip) -> Result<(), String> {
    address("VIP", vip.address)
}

/// A generation must move on.
pub(super) fn generation(new: Generation, base: Generation) -> Result<(), String> {
    if new > base { Ok(()) } else { Err(format!("generation {new} is not greater than {base}")) }
}

fn address(what: &str, address: IpAddr) -> Result<(), String> {
    let refused = match address {
        IpAddr::V4(v4) => v4.is_broadcast(),
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_some(),
    };
    if refused || address.is_unspecified() || address.is_loopback() || address.is_multicast() {
        return Err(format!("{what} {address} is not an address that a packet on a wire can be sent to"));
    }
    Ok(())
}
