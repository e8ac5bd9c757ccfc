//! Everything that takes rights: devices, memory, XDP programs, sockets. [`boot`] yields one value; [`run`](crate::run::run) needs
//! none of the rights any more, but for the neighbours' thread, which keeps CAP_NET_ADMIN.
//!
//! ```text
//!  Config, Machine ─► memory (memfd) ─► sockets ─► fill rings ─► maps ─► TAP ─► attach ─► levee-host ─► Booted
//! ```
//!
//! The order is the one in which no frame is dropped: rings are filled and sockets are in the maps before the program is attached.
//! Everything in [`Booted`] is a descriptor or plain data, so that another process could be handed it; whatever it made goes with
//! it: the XDP links detach, the TAP devices vanish, the offloads are put back.

mod host;
mod machine;
mod offload;
pub mod rights;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use af_xdp::tap::TapDevice;
use af_xdp::xdp::{self, LinkMode};
use af_xdp::{FramePool, FrameSize, HugePages, RingSizes, Socket, SocketConfig, Umem, UmemConfig};
use levee_api::net::{Family, Mac, PortRange, Role};

use crate::address::Address;
use crate::config::{self, Attach, Config, Interface, Machine, Mode, Rings, Take};
use crate::director::{Groups, Steer, Steering};
use crate::intake::{BindError, Listening};
use crate::port::any::AnyPort;
use crate::port::steer::{self, SteeringSet};
use crate::port::xdp::{ToKernel, XdpPort};
use crate::running::{PortFacts, QueueFacts};
use crate::tables;
use crate::tables::master::Steered;
use crate::tables::snat::{INWARD, SnatRange};
use crate::verdict::PortId;

pub use machine::look;
pub use offload::Offloads;

/// Default SNAT ports: above Linux's default `ip_local_port_range`.
const SNAT_PORTS: PortRange = PortRange { first: 61000, last: 65535 };

/// Why there is no dataplane: what was tried, on what, why not, and what helps.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// AF_XDP, XDP or a device.
    #[error("{what}: {source}{}", .source.help().map(|help| format!("\n  help: {help}")).unwrap_or_default())]
    Device {
        /// Which port, or what else.
        what: String,
        /// Why not.
        source: af_xdp::Error,
    },
    /// The control socket.
    #[error(transparent)]
    Socket(#[from] BindError),
    /// The listener of `metrics`.
    #[error(
        "metrics: cannot listen on {address}: {source}\n  help: `ss -ltnp` shows who does; set another `metrics` address, one of this machine's"
    )]
    Metrics {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The rest of the system.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}

/// What a dataplane runs on.
pub struct Booted {
    /// Frames' memory.
    pub umem: Arc<Umem>,
    /// By worker: queues, each with its port, and frames.
    pub workers: Vec<(Vec<(PortId, AnyPort)>, FramePool)>,
    /// Ports as tables have them.
    pub ports: Vec<tables::Port>,
    /// Ports as reports have them.
    pub facts: Vec<PortFacts>,
    /// Which frames are taken.
    pub steering: Steering,
    /// Where questions of IPv6 are heard.
    pub groups: Groups,
    /// The attachments; frames come until they are dropped.
    pub links: Vec<xdp::Link>,
    /// Source addresses for `nat`.
    pub snat: Vec<SnatRange>,
    /// Those towards this host's own IP stack; none if there is no port to it.
    pub host_snat: Vec<SnatRange>,
    /// The first uplink's first address of each family.
    pub addresses: Vec<IpAddr>,
    /// The first uplink's own addresses, where tunnels end that do not say where.
    pub tunnel_ends: Vec<Address>,
    /// The control socket.
    pub listening: Listening,
    /// Where metrics are read by TCP, if anywhere.
    pub metrics: Option<TcpListener>,
    /// Offloads that were switched off.
    pub offloads: Offloads,
}

/// A TAP device that frames are passed to.
#[derive(Debug)]
struct Tap(TapDevice);

impl ToKernel for Tap {
    fn write(&self, frame: &[u8]) -> bool {
        // A frame that the device refuses is as lost as one for which it has no room.
        self.0.write(frame).unwrap_or(false)
    }
}

/// The maps of one port, as the director steers them.
struct PortSteering {
    interface: String,
    steering: steer::Steering,
    take: steer::Take,
}

impl Steer for PortSteering {
    fn steer(&mut self, wanted: &Steered) -> Result<(), String> {
        let set = SteeringSet {
            take: self.take,
            own: wanted.owned.clone(),
            // On an address of the kernel's inside an owned prefix, too, only levee's ports are taken.
            share: wanted.shared.union(&wanted.kernel).copied().collect(),
            ports: wanted.ports.clone(),
            ip_in_ip: wanted.ip_in_ip,
            far_ports: wanted.far_ports.clone(),
        };
        self.steering.apply(&set).map_err(|error| format!("{}: steering: {error}", self.interface))
    }
}

/// Opens everything. The configuration has been found good [`against`](Config::against) the machine.
///
/// # Errors
/// See [`BootError`]; what was opened until then is closed again.
pub fn boot(config: &Config, machine: &Machine) -> Result<Booted, BootError> {
    // First, so that a second daemon with the same configuration stops here and harms nothing.
    let group = config.socket_group.as_ref().map(|group| group.value.as_str());
    let listening = Listening::bind(&config.socket, group, "levee-dataplane")?;
    let metrics = config.metrics.as_ref().map(|metrics| bind_metrics(metrics.value)).transpose()?;
    rights::raise_memory_limit();
    let mut offloads = Offloads::default();

    let plan = Plan::new(config, machine);
    let (umem, mut pool) = memory(config, &plan)?;
    let workers = config.workers.len();
    let mut lanes: Vec<(Vec<(PortId, AnyPort)>, FramePool)> =
        (0..workers).map(|_| (Vec::new(), FramePool::empty(&umem))).collect();
    let per_queue = pool.free() / plan.queues().max(1);

    let mut booted = Assembled::default();
    for port in &plan.ports {
        let tap = match port.config.take {
            Take::All => Some(Arc::new(Tap(tap(port)?))),
            Take::Owned => None,
        };
        let mut steering =
            port.tell(steer::Steering::new(port.interface.queues, port.interface.mtu > SINGLE_BUFFER_MTU))?;
        let mut queues = Vec::new();
        let mut mode = "zero-copy";
        for (queue, worker) in &port.queues {
            let mut socket = port.tell(Socket::open(&umem, &socket_config(config, port, *queue, per_queue)))?;
            let Some((lane, frames)) = lanes.get_mut(*worker) else { continue };
            // Every frame of the pool is split off it, so this cannot fail for another UMEM's.
            let _ = frames.merge(pool.split(per_queue));
            socket.fill(frames);
            port.tell(steering.insert_socket(*queue, &socket))?;
            if !socket.zero_copy() {
                mode = "copy";
            }
            let kernel = tap.clone().map(|tap| tap as Arc<dyn ToKernel>);
            let lane_port = XdpPort::new(socket, kernel);
            queues.push(QueueFacts {
                queue: *queue,
                worker: *worker,
                observer: Some(lane_port.socket().observer()),
                traffic: Arc::clone(lane_port.traffic()),
            });
            lane.push((port.id, AnyPort::Xdp(lane_port)));
        }
        let take = match (port.config.take, port.config.role) {
            (Take::Owned, _) => steer::Take::Owned,
            (Take::All, Role::Uplink) => steer::Take::Ip,
            (Take::All, Role::Pods | Role::Host | Role::Tunnel) => steer::Take::All,
        };
        port.tell(steering.set_take(take))?;
        offloads.finish_checksums_towards(port.interface, machine);
        let link = port.tell(steering.attach(port.interface.index, attach(port.config.attach)))?;
        let attached = match link.mode() {
            LinkMode::Native => "native",
            LinkMode::Generic => "skb",
        };
        let rings = ring_sizes(config, per_queue);
        tracing::info!(interface = port.interface.name, role = %port.config.role, mode, attached, take = %port.config.take, queues = queues.len(), receive = rings.rx, transmit = rings.tx, "port");
        let observer = steering.observer();
        booted.add(port, link, tap.is_some(), PortSteering { interface: port.interface.name.clone(), steering, take });
        booted.facts.push(PortFacts {
            interface: port.interface.name.clone(),
            ifindex: port.interface.index,
            role: port.config.role,
            take: port.config.take,
            mode,
            attached,
            rings: Some(rings),
            queues,
            steering: Some(observer),
        });
    }
    if config.host {
        let mtus = plan.ports.iter().map(|port| port.interface.mtu);
        let ipv6 = uplink_address(config, machine, Family::Ipv6).is_some();
        let made = host::host(&umem, mtus.min().unwrap_or(1500), ipv6, 0)?;
        if let Some((lane, _)) = lanes.first_mut() {
            lane.push((PortId(u8::try_from(booted.ports.len()).unwrap_or(u8::MAX)), AnyPort::Host(made.port)));
        }
        booted.ports.push(made.table);
        booted.facts.push(made.facts);
    }
    Ok(Booted {
        umem,
        workers: lanes,
        ports: booted.ports,
        facts: booted.facts,
        steering: Steering::new(booted.steering),
        groups: groups(&plan),
        links: booted.links,
        snat: snat(config, machine),
        tunnel_ends: uplink_addresses(config, machine).map(Address::from).collect(),
        host_snat: if config.host { INWARD.to_vec() } else { Vec::new() },
        addresses: [Family::Ipv4, Family::Ipv6]
            .into_iter()
            .filter_map(|family| uplink_address(config, machine, family))
            .collect(),
        listening,
        metrics,
        offloads,
    })
}

/// The right to hear all groups is needed now, whether or not there will be IPv6.
fn groups(plan: &Plan<'_>) -> Groups {
    let uplinks = plan.ports.iter().filter(|port| port.config.role == Role::Uplink);
    let all = af_xdp::groups::Groups::open();
    if let Err(error) = &all {
        tracing::warn!(%error, "questions for pods by IPv6 may not be heard");
    }
    Groups::new(all.ok(), uplinks.map(|port| port.interface.index).collect())
}

fn bind_metrics(address: SocketAddr) -> Result<TcpListener, BootError> {
    let bind = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().map_err(|source| BootError::Metrics { address, source })
}

/// Frames of a larger MTU come in several buffers; the program must say that it knows (net/core/dev.c, ERANGE): a page less the kernel's
/// headroom (256), its `skb_shared_info` (320) and the Ethernet header with two tags (22).
const SINGLE_BUFFER_MTU: u32 = 4096 - 256 - 320 - 22;

#[derive(Default)]
struct Assembled {
    ports: Vec<tables::Port>,
    facts: Vec<PortFacts>,
    steering: Vec<Box<dyn Steer>>,
    links: Vec<xdp::Link>,
}

impl Assembled {
    fn add(&mut self, port: &PlannedPort<'_>, link: xdp::Link, passes: bool, steering: PortSteering) {
        self.ports.push(tables::Port {
            name: port.interface.name.as_str().into(),
            role: port.config.role,
            mac: port.interface.mac.unwrap_or(Mac::ZERO),
            passes,
            mtu: u16::try_from(port.interface.mtu).unwrap_or(u16::MAX),
        });
        self.links.push(link);
        self.steering.push(Box::new(steering));
    }
}

/// Which worker serves which queue.
struct Plan<'a> {
    ports: Vec<PlannedPort<'a>>,
}

struct PlannedPort<'a> {
    id: PortId,
    config: &'a config::Port,
    interface: &'a Interface,
    /// Queue, worker.
    queues: Vec<(u32, usize)>,
}

impl<'a> Plan<'a> {
    /// Deals the queues out to the workers in turn, port by port.
    fn new(config: &'a Config, machine: &'a Machine) -> Self {
        let mut turn = (0..config.workers.len()).cycle();
        let ports = config.ports.iter().zip(0..).filter_map(|(port, id)| {
            let interface = machine.interface(&port.interface.value)?;
            let queues = match &port.queues {
                Some(listed) => listed.iter().map(|queue| queue.value).collect(),
                None => (0..interface.queues).collect::<Vec<u32>>(),
            };
            let queues = queues.into_iter().zip(turn.by_ref()).collect();
            Some(PlannedPort { id: PortId(id), config: port, interface, queues })
        });
        Plan { ports: ports.collect() }
    }

    fn queues(&self) -> usize {
        self.ports.iter().map(|port| port.queues.len()).sum()
    }
}

impl PlannedPort<'_> {
    fn tell<T>(&self, outcome: Result<T, af_xdp::Error>) -> Result<T, BootError> {
        outcome.map_err(|source| BootError::Device { what: format!("port {}", self.interface.name), source })
    }
}

fn memory(config: &Config, plan: &Plan<'_>) -> Result<(Arc<Umem>, FramePool), BootError> {
    let frames = config.frames(plan.queues());
    let memory = UmemConfig {
        frames,
        frame_size: if config.memory.frame_size == 4096 { FrameSize::Bytes4096 } else { FrameSize::Bytes2048 },
        huge_pages: if config.memory.huge_pages { HugePages::Require } else { HugePages::No },
        memfd: true,
        ..UmemConfig::default()
    };
    Umem::new(memory).map_err(|source| BootError::Device { what: format!("memory for {frames} frames"), source })
}

/// Slots of a queue's rings that has so many frames. The kernel makes them so, or refuses the socket.
fn ring_sizes(config: &Config, frames: usize) -> RingSizes {
    let Rings { receive, transmit } = config.rings.within(frames);
    RingSizes { fill: receive, rx: receive, tx: transmit, completion: transmit }
}

fn socket_config(config: &Config, port: &PlannedPort<'_>, queue: u32, frames: usize) -> SocketConfig {
    let rings = ring_sizes(config, frames);
    SocketConfig {
        rings,
        mode: match port.config.mode {
            Mode::Auto => af_xdp::Mode::Auto,
            Mode::ZeroCopy => af_xdp::Mode::ZeroCopy,
            Mode::Copy => af_xdp::Mode::Copy,
        },
        busy_poll: config.busy_poll.map(|busy| af_xdp::BusyPoll { micros: busy.microseconds, budget: busy.budget }),
        tx_budget: Some(rings.tx.min(256)),
        ..SocketConfig::new(port.interface.index, queue)
    }
}

fn attach(attach: Attach) -> xdp::Attach {
    match attach {
        Attach::Auto => xdp::Attach::NativeOrGeneric,
        Attach::Native => xdp::Attach::Native,
        Attach::Skb => xdp::Attach::Generic,
    }
}

/// The IPv4 dummy address (RFC 7600, in IANA's registry of special-purpose addresses): never on a wire.
const DUMMY_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// The variable of the environment that names another place for `/proc/sys/net`: a container's own is read-only.
const SYSCTL_VARIABLE: &str = "LEVEE_SYSCTL";

/// A way to the kernel, with the port's MAC and MTU.
fn tap(port: &PlannedPort<'_>) -> Result<TapDevice, BootError> {
    let tap = port.tell(TapDevice::create("levee-tap%d"))?;
    let name = tap.name().to_owned();
    // What comes in here came in on another interface, and is answered there: the kernel must not mind, must not answer ARP a second
    // time, and has no other business here (Documentation/networking/ip-sysctl.rst). What it sends here nevertheless, nobody reads.
    // Not to mind is rp_filter 2: the larger of this and `all` counts, so 0 would say nothing. That in turn refuses everything on an
    // interface without an address (net/ipv4/fib_frontend.c, __fib_validate_source), so it gets the one that is nobody's.
    // Of IPv6 it takes what is sent to the host's addresses, without one of its own (addr_gen_mode 1: none), and asks nobody for any.
    // Best effort: IPv6 may not be there.
    let settings = [
        ("ipv4", "rp_filter", "2"),
        ("ipv4", "arp_ignore", "8"),
        ("ipv6", "addr_gen_mode", "1"),
        ("ipv6", "accept_ra", "0"),
        ("ipv6", "disable_ipv6", "0"),
    ];
    let sysctl = std::env::var(SYSCTL_VARIABLE).unwrap_or_else(|_| "/proc/sys/net".to_owned());
    for (family, key, value) in settings {
        match std::fs::write(format!("{sysctl}/{family}/conf/{name}/{key}"), value) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                tracing::debug!(%error, name, key, "is not there");
            }
            Err(error) => tracing::warn!(%error, name, key, value, "could not be set"),
            Ok(()) => {}
        }
    }
    port.tell(tap.set_address(DUMMY_ADDRESS))?;
    if let Some(mac) = port.interface.mac {
        port.tell(tap.set_mac(mac.0))?;
    }
    port.tell(tap.set_mtu(u16::try_from(port.interface.mtu).unwrap_or(u16::MAX)))?;
    port.tell(tap.set_up())?;
    Ok(tap)
}

/// The uplinks' addresses that others can answer to, in order.
fn uplink_addresses<'a>(config: &'a Config, machine: &'a Machine) -> impl Iterator<Item = IpAddr> + 'a {
    let uplinks = config.ports.iter().filter(|port| port.role == Role::Uplink);
    let interfaces = uplinks.filter_map(|port| machine.interface(&port.interface.value));
    interfaces.flat_map(|interface| &interface.addresses).copied().filter(|address| can_be_answered(*address))
}

/// What `snat` says; of a family that it does not name, the first uplink's first address that others can answer to.
fn snat(config: &Config, machine: &Machine) -> Vec<SnatRange> {
    let mut ranges: Vec<SnatRange> =
        config.snat.iter().map(|snat| SnatRange { address: snat.address.into(), ports: snat.ports }).collect();
    for family in [Family::Ipv4, Family::Ipv6] {
        if config.snat.iter().any(|snat| Family::of(snat.address) == family) {
            continue;
        }
        if let Some(address) = uplink_address(config, machine, family) {
            tracing::info!(%address, ports = %SNAT_PORTS, "`snat` is the uplink's own address");
            ranges.push(SnatRange { address: address.into(), ports: SNAT_PORTS });
        }
    }
    if ranges.is_empty() {
        tracing::warn!(
            "no uplink has an address and `snat` is not set: services that need `nat` will drop (no_snat_address)"
        );
    }
    ranges
}

/// Neither the host's own alone nor its link's.
fn can_be_answered(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    }
}

/// The first uplink's first address of a family that others can answer to.
fn uplink_address(config: &Config, machine: &Machine, family: Family) -> Option<IpAddr> {
    uplink_addresses(config, machine).find(|address| Family::of(*address) == family)
}
