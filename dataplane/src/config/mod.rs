//! The dataplane's configuration file: one screen of YAML, read once, at start.
//!
//! ```text
//!  bytes ─yaml─► file::File ─validate─► Config ─against Machine─► boot
//!          │                    │                      │
//!          ▼ wrong key or type  ▼ wrong by itself      ▼ wrong on this machine
//!          Diagnostic           Diagnostic             Diagnostic           (file:line:column, what to do)
//! ```
//!
//! Holding a [`Config`] proves that it is free of contradictions: names are well-formed and unique, numbers are in range,
//! addresses are of the right kind. Only whether the machine has those interfaces, queues and cores is still open;
//! [`Config::against`] says. Nothing here opens a file, a device or a socket: `levee check` uses [`check`] offline.
//!
//! Every key beyond `ports` and `workers` is optional. The comment at each field of [`Config`] gives its unit, default and
//! reason; `configs/` has working examples.

mod file;
mod machine;
mod validate;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use levee_api::diagnostic::Diagnostic;
use levee_api::net::{PortRange, Role};

pub use file::{Attach, Idle, Mode, Take};
pub use machine::{Interface, Machine};

/// Reads, and validates by itself, what stands in a configuration file. `file` names it in diagnostics.
///
/// # Errors
/// Everything that is wrong with it; one diagnostic if it is no YAML of the right form, all of them if it is.
pub fn read(file: &str, bytes: &[u8]) -> Result<Config, Vec<Diagnostic>> {
    let parsed = levee_api::yaml::parse(file, bytes).map_err(|diagnostic| vec![diagnostic])?;
    validate::validate(file, parsed)
}

/// What is wrong with a configuration file, without a look at the machine.
#[must_use]
pub fn check(file: &str, bytes: &[u8]) -> Vec<Diagnostic> {
    read(file, bytes).err().unwrap_or_default()
}

/// A configuration without contradictions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Its file, for diagnostics.
    pub file: String,
    /// `ports`: at least one, and at least one uplink. The order gives each its [`PortId`](crate::verdict::PortId).
    pub ports: Vec<Port>,
    /// `host`: whether what this node's own processes send to Services is balanced, and backends on its own network are reached.
    /// levee makes an interface for that, `levee-host`, and rules and routes of its own that lead there. Default: where there is a
    /// port of role `pods`, which is where nothing else balances.
    pub host: bool,
    /// `workers`: the cores that poll, each wholly ours. Queues are dealt out to them in turn, port by port.
    pub workers: Vec<Placed<usize>>,
    /// `socket`: the control socket. Default `/run/levee/dataplane.sock`: `/run` is emptied at boot, so no stale one outlives a crash of the machine.
    pub socket: PathBuf,
    /// `socket_group`: who, besides root, may read from the socket. Default: nobody; the socket then is root's alone.
    pub socket_group: Option<Placed<String>>,
    /// `program_uids`: users that may program, besides root and the daemon's own. Default: none.
    pub program_uids: Vec<u32>,
    /// `snat`: sources that `nat` rewrites to. Default (empty): the first uplink's first IPv4 address with ports
    /// 61000-65535, which lie above Linux's default `ip_local_port_range` (32768-60999), so the kernel never uses them.
    pub snat: Vec<Snat>,
    /// `announce_interval`: how often the node's MAC is shown to the switches. Default 60 s: five times within the 300 s after
    /// which switches usually forget a MAC, so that four lost announcements in a row do no harm.
    pub announce_interval: Duration,
    /// `multicast`: groups that pods may send to the fabric, out of the first uplink. Default: none; pods' multicast stays on the node. What the
    /// fabric sends to groups is the kernel's, and does not come to pods.
    pub multicast: Vec<IpAddr>,
    /// `arp.rate`: ARP frames per second and source that are answered; the rest is dropped as `arp_rate_limited`. Default 50:
    /// a host with a full table of neighbours asks for each of them about twice a minute.
    pub arp_rate: u32,
    /// `replies.rate`: RSTs, unreachables, echo replies and "too big" per second and worker, whoever asks, of which one source (IPv6: one
    /// /64) has a tenth; the rest is dropped as `reply_rate_limited`.
    /// Default 10,000: enough for a rolling restart's refusals, too few to make an amplifier.
    pub reply_rate: u32,
    /// `new_flows.per_vip`: flows per second that may begin at one VIP and port, over all workers; beyond it, `dsr` and `tunnel` send
    /// on by hash without a flow, `nat` and `dnat` drop. Default 0: no limit but the table's size.
    pub new_flows_of_vip: u32,
    /// `new_flows.per_source`: flows per second that one IPv4 address or IPv6 /64 may begin at each worker; beyond it, they are dropped.
    /// Default 0: no limit, since thousands of clients can be behind one address.
    pub new_flows_of_source: u32,
    /// `errors.rate`: ICMP errors per second that are sent on about one flow, or from one sender about flows that are not
    /// known, and ten times that from all of these; the rest is dropped as `icmp_rate_limited`. Default 100: each one tells its receiver all there is to tell.
    pub error_rate: u32,
    /// `mss_clamp`: the largest segment that SYNs to and from services may offer, in bytes over IPv4; 20 less over IPv6. For paths on
    /// which "too big" is lost. Default: as the ends offer, 0 here.
    pub mss_clamp: u16,
    /// `flows.capacity`: flows that each worker has room for, 64 bytes each, faulted in at start; one of IPv6 counts as two. Default 1,048,576, at most 16,777,216.
    pub flow_capacity: u32,
    /// `timeouts`.
    pub timeouts: Timeouts,
    /// `memory`.
    pub memory: Memory,
    /// `busy_poll`: default none; the drivers' interrupts feed the rings.
    pub busy_poll: Option<BusyPoll>,
    /// `idle`. Default `sleep`: a worker that found nothing for about 100 µs waits to be woken, which costs the first frame after a
    /// pause some 10 to 50 µs and saves a core. Under load it never does. `poll` is for cores that are isolated for it.
    pub idle: Idle,
    /// `scheduling`: how the kernel schedules workers beside other tasks of their cores.
    pub scheduling: Scheduling,
    /// `rings`.
    pub rings: Rings,
    /// `metrics`: address and port on which Prometheus reads `/metrics`, without TLS and by whoever gets there. Default none: the
    /// control socket has the same page.
    pub metrics: Option<Placed<SocketAddr>>,
}

/// A value and where it stands in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
}

/// One interface that levee takes frames from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// `interface`: its name.
    pub interface: Placed<String>,
    /// `role`: what it faces.
    pub role: Role,
    /// `queues`. Default (`None`): every queue that the interface has.
    pub queues: Option<Vec<Placed<u32>>>,
    /// `mode`. Default `auto`: zero-copy where the driver can, copy elsewhere; `levee port list` says which.
    pub mode: Mode,
    /// `attach`. Default `auto`: native where the driver can, `skb` elsewhere.
    pub attach: Attach,
    /// `take`. Default `owned` for uplinks, which levee shares with the kernel; `all` for pods, where the kernel has no
    /// business: what is the kernel's nevertheless comes to it through a TAP device.
    pub take: Take,
    /// `neighbours` (role `pods` only): the kernel interface whose neighbour table knows the pods, their bridge. Default: the port's own interface.
    pub neighbours: Option<Placed<String>>,
    /// `gateways` (role `pods` only): addresses of no machine that pods send to what is not on their link, also inside the pods' prefix. levee
    /// answers pods for them, with the port's MAC, and their pings. Default: none; pods are answered for whatever is not on this node.
    pub gateways: Vec<Placed<IpAddr>>,
    /// `segment` (uplinks only): what the broadcast domain is called that several uplinks lead to; of those with one name, the first that is
    /// up answers for pods and VIPs. Default: each uplink leads to one of its own, and each answers.
    pub segment: Option<Placed<String>>,
    /// `vlans` (uplinks only): those in which levee announces, each by its tags, outer first: none, one or two. Default: without a tag.
    pub vlans: Vec<Vec<u16>>,
}

/// An address and ports that flows are hidden behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snat {
    /// `address`: one that routers of the fabric lead to this node.
    pub address: IpAddr,
    /// `ports`: shared out among the workers. Default 61000-65535.
    pub ports: PortRange,
}

/// How long a flow without packets is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// `tcp_syn`. Default 60 s: Linux gives up on an unanswered SYN's last but one retry at 63 s.
    pub tcp_syn: Duration,
    /// `tcp_established`. Default 2 h 4 min: the least that RFC 5382 (REQ-5) allows, longer than TCP's two hours of keep-alive.
    pub tcp_established: Duration,
    /// `tcp_closing`, after the first FIN. Default 4 min: two maximum segment lifetimes (RFC 5382, REQ-5).
    pub tcp_closing: Duration,
    /// `tcp_closed`, after both FINs or a RST. Default 10 s: what still flies goes to the same backend.
    pub tcp_closed: Duration,
    /// `udp`. Default 3 min; RFC 4787 (REQ-5) asks for two or more.
    pub udp: Duration,
}

/// The place of a worker among the tasks that want its core. `docs/decisions/0031-scheduling.md` has the reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheduling {
    /// `policy: fair` (the default): a share of the core, by weight.
    Fair {
        /// `nice`, from -20, the greatest weight, to 19. Default -20: 98.9 % of the core beside an ordinary task that computes.
        nice: i8,
        /// `slice`: how long it asks to run at a time, 0.1 to 100 ms; the shorter, the sooner it runs after a sleep (Linux 6.12). Default:
        /// as everybody's.
        slice: Option<Duration>,
    },
    /// `policy: fifo`: before every ordinary task, for cores that are isolated for it.
    Fifo {
        /// `priority`, 1 to 99. Default 1: before whatever is not real time itself.
        priority: u8,
    },
    /// `policy: round-robin`: the same, taking turns with others of its priority.
    RoundRobin {
        /// `priority`, as above.
        priority: u8,
    },
}

impl Scheduling {
    /// Whether ordinary tasks of its core wait for it.
    #[must_use]
    pub fn is_real_time(self) -> bool {
        !matches!(self, Scheduling::Fair { .. })
    }
}

/// Slots of each queue's rings, powers of two. With few frames (`memory.frames`) they are smaller: a half and a quarter of a queue's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rings {
    /// `rings.receive`: frames that wait for the worker, 64 to 65,536. They are what a worker that is taken off its core does not lose: the
    /// rate times the time. Default 4,096: 5 ms of 800,000 frames a second, longer than a tick of a kernel with HZ=250.
    pub receive: u32,
    /// `rings.transmit`: frames that wait to be sent, 64 to 65,536. Default 2,048.
    pub transmit: u32,
}

impl Rings {
    /// Frames for each queue, where `memory.frames` does not say. A frame that was received or may be is in one of two rings, never in
    /// both; then those that wait to be sent; and as many again in the worker's hands, waiting for next hops or on their way to others.
    #[must_use]
    pub fn frames(self) -> u32 {
        self.receive + 2 * self.transmit
    }

    /// With so many frames for each queue: what was asked for, or as much of it as there are frames for.
    #[must_use]
    pub fn within(self, frames: usize) -> Rings {
        let frames = u32::try_from(frames).unwrap_or(u32::MAX);
        // The next lower power of two; 64 is one batch.
        let most = |part: u32| 1 << (frames / part).max(64).ilog2();
        Rings { receive: self.receive.min(most(2)), transmit: self.transmit.min(most(4)) }
    }
}

/// The memory that frames lie in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// `memory.frames`: number of frames, over all queues. Default (`None`): [`Rings::frames`] for each, 8,192 with the default rings.
    pub frames: Option<u32>,
    /// `memory.frame_size`: bytes, 2048 or 4096, of which the kernel takes 256 for itself. Default 2048: an MTU of 1500 with two VLAN tags fits.
    pub frame_size: u32,
    /// `memory.huge_pages`: whether to take it from the kernel's reserved huge pages (fewer TLB misses). Default false: most hosts reserve none.
    pub huge_pages: bool,
}

/// `SO_PREFER_BUSY_POLL` and its fellows: the worker itself runs the driver's receive loop, and interrupts stay off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BusyPoll {
    /// `busy_poll.microseconds`: how long one call may look for frames. Default 20 (the kernel's documentation's value).
    pub microseconds: u32,
    /// `busy_poll.budget`: frames one call may take. Default 64 (one NAPI budget).
    pub budget: u32,
}

impl Config {
    /// Number of frames with so many queues.
    #[must_use]
    pub fn frames(&self, queues: usize) -> u32 {
        let queues = u32::try_from(queues).unwrap_or(u32::MAX);
        self.memory.frames.unwrap_or_else(|| queues.saturating_mul(self.rings.frames()))
    }

    /// What is wrong with the configuration on this machine: interfaces and cores that it does not have, ports without queues.
    #[must_use]
    pub fn against(&self, machine: &Machine) -> Vec<Diagnostic> {
        machine::against(self, machine)
    }
}

/// A diagnostic at a value's place.
pub(crate) fn at<T>(file: &str, place: &Placed<T>, message: impl Into<String>, help: impl Into<String>) -> Diagnostic {
    Diagnostic::new(file, message).at(place.line, place.column).help(help)
}

#[cfg(test)]
mod tests;
