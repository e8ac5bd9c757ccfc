//! What a running dataplane says about itself. Times are seconds since the dataplane started unless a field says otherwise.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::explain::Carries;
use crate::net::{Mac, PortRange, Protocol, Role};
use crate::program::{Generation, Mode, ServiceKey};
use crate::tunnel::Encapsulation;

/// `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Status {
    /// Version of the binary.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Seconds since start.
    pub uptime_seconds: u64,
    /// The generation that every worker runs; 0 before the first program.
    pub generation: Generation,
    /// Whether new programs are taken and workers are running.
    pub health: Health,
    /// One entry a worker.
    pub workers: Vec<WorkerStatus>,
    /// Number of services programmed.
    pub services: usize,
    /// Number of VIPs programmed.
    pub vips: usize,
    /// Number of backends, over all services.
    pub backends: usize,
    /// Flows tracked now, over all workers.
    pub flows: u64,
    /// Flows that there is room for, over all workers.
    pub flow_capacity: u64,
}

/// `GET /v1/health`: 200 when `healthy`, 503 otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Health {
    /// Everything below holds.
    pub healthy: bool,
    /// What is wrong, in words; empty when healthy.
    pub problems: Vec<String>,
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkerStatus {
    /// Index, from 0.
    pub worker: usize,
    /// The core it is pinned to.
    pub core: usize,
    /// How the kernel schedules its thread: as it says now, not as it was asked. Absent while there is no such thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduling: Option<Scheduling>,
    /// The generation it runs.
    pub generation: Generation,
    /// Flows it tracks.
    pub flows: u64,
    /// Flows it has room for.
    pub flow_capacity: u64,
    /// Whether its loop has turned within the last second.
    pub alive: bool,
    /// Frames that it took from rings.
    #[serde(default)]
    pub received: u64,
    /// Frames that it decided to send on.
    #[serde(default)]
    pub forwarded: u64,
    /// Frames that it dropped.
    #[serde(default)]
    pub dropped: u64,
    /// Frames that it gave to other workers, which own their flow or the way out.
    #[serde(default)]
    pub handed_over: u64,
    /// Frames that it was given by other workers.
    #[serde(default)]
    pub taken_over: u64,
}

/// How the kernel schedules a thread (sched(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "policy", rename_all = "kebab-case")]
pub enum Scheduling {
    /// `SCHED_OTHER`: a share of its core by weight.
    Fair {
        /// -20, the most weight, to 19.
        nice: i8,
        /// How long it asks to run at a time, in microseconds; absent before Linux 6.12.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        slice_microseconds: Option<u64>,
    },
    /// `SCHED_FIFO`: before all that are scheduled fairly.
    Fifo {
        /// 1 to 99, the highest.
        priority: u8,
    },
    /// `SCHED_RR`: the same, taking turns with its equals.
    RoundRobin {
        /// 1 to 99, the highest.
        priority: u8,
    },
    /// None that levee asks for: somebody else has changed it.
    Other,
}

impl fmt::Display for Scheduling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scheduling::Fair { nice, .. } => write!(f, "fair, nice {nice}"),
            Scheduling::Fifo { priority } => write!(f, "fifo, priority {priority}"),
            Scheduling::RoundRobin { priority } => write!(f, "round-robin, priority {priority}"),
            Scheduling::Other => f.write_str("other"),
        }
    }
}

/// `GET /v1/counters`: totals over all workers, by name; the same for each port.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Counters {
    /// Frames and what became of them: `rx`, `forwarded`, `hairpinned`, `passed`, `dropped`, and side counts.
    pub totals: BTreeMap<String, u64>,
    /// Dropped frames by reason. The sum is `dropped`.
    pub drops: BTreeMap<String, u64>,
}

/// One reason for drops, with its documentation: `GET /v1/drops`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Drop {
    /// The counter's name.
    pub reason: String,
    /// Frames.
    pub frames: u64,
    /// What it means, and what to look at.
    pub meaning: String,
}

/// One port: `GET /v1/ports`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Port {
    /// The interface.
    pub interface: String,
    /// Its kernel index.
    pub ifindex: u32,
    /// What it faces.
    pub role: Role,
    /// Its MAC.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub mac: Mac,
    /// Carrier and administrative state.
    pub up: bool,
    /// `all` or `owned`.
    pub take: String,
    /// How frames are really exchanged with the driver: `zero-copy` or `copy`, as granted, not as asked. `tap` with the node's own
    /// IP stack.
    pub mode: String,
    /// How the XDP program is attached: `native` or `skb`; or `routes`, where the kernel's lead here.
    pub attached: String,
    /// Slots of the rings of each of its queues; absent where there are none, with the node's own IP stack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rings: Option<Rings>,
    /// One entry a queue.
    pub queues: Vec<Queue>,
}

/// Slots of the four rings of a queue: as many frames can be in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rings {
    /// Frames that were received, and wait for the worker.
    pub receive: u32,
    /// Frames that wait to be received into.
    pub fill: u32,
    /// Frames that wait to be sent.
    pub transmit: u32,
    /// Frames that were sent, and wait for the worker to take them back.
    pub completion: u32,
}

/// One queue of a port, as the kernel counts it (`struct xdp_statistics`) and as levee does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Queue {
    /// Queue of the interface.
    pub queue: u32,
    /// The worker that serves it.
    pub worker: usize,
    /// Frames received.
    pub rx_frames: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Frames that the kernel dropped before levee saw them.
    pub rx_dropped: u64,
    /// … because the receive ring was full.
    pub rx_ring_full: u64,
    /// … because the fill ring was empty.
    pub fill_ring_empty: u64,
    /// Descriptors that the kernel refused.
    pub invalid_descriptors: u64,
}

/// One frontend address and port: `GET /v1/vips`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VipEntry {
    /// Address.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub address: IpAddr,
    /// Port; 0 if the address is served whole.
    pub port: u16,
    /// Last port, of a range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_port: Option<u16>,
    /// Protocol.
    pub protocol: Protocol,
    /// `any`, `uplink` or `pods`.
    pub from: crate::program::Side,
    /// Service behind it.
    pub service: String,
    /// How backends are reached.
    pub mode: Mode,
    /// Whether this dataplane announces the address.
    pub announced: bool,
    /// Backends that new flows may get.
    pub candidates: usize,
    /// Backends that only keep what they have.
    pub draining: usize,
}

/// One backend of one service: `GET /v1/backends`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BackendEntry {
    /// The service.
    pub service: ServiceKey,
    /// Address and port.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub address: SocketAddr,
    /// `active`; `draining`, while it only keeps the flows that it has; or `drained`, when the time for that is over.
    pub state: String,
    /// Pools in which new flows may choose it.
    pub pools: Vec<crate::program::Pool>,
    /// MAC of the next hop towards it, if resolved.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub next_hop: Option<Mac>,
}

/// A backend that gets no new flows and keeps those that it has: `GET /v1/drains`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Drain {
    /// The service.
    pub service: ServiceKey,
    /// Address and port; port 0 where clients choose it.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub address: SocketAddr,
    /// Seconds since it began.
    pub draining_seconds: u64,
    /// Seconds until its flows are ended; absent: until they end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_seconds: Option<u64>,
    /// Flows that it has, those included that have ended and are remembered for some seconds.
    pub flows: u64,
}

/// The far end of a tunnel that backends are behind: `GET /v1/tunnels`. Lengths are of whole outer IP packets, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TunnelEntry {
    /// Where wrapped packets are sent.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub far_end: IpAddr,
    /// What is put in front of them.
    pub kind: Encapsulation,
    /// UDP port that they are sent to; absent with `ipip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Where they come from; absent if this host has no address of the far end's family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub source: Option<IpAddr>,
    /// The interface that they leave by; absent without a route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Backends behind it, of all services.
    pub backends: usize,
    /// Of an outer packet, what is not the client's.
    pub overhead: u16,
    /// The longest packet by configuration: the tunnel's `mtu`, or the interface's if that is less, or the only one that there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// The longest packet that a router on the way has let through, if one has said so lately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learnt: Option<LearntMtu>,
}

/// What a router has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LearntMtu {
    /// The MTU.
    pub mtu: u16,
    /// Seconds for which it is believed, unless it is said again.
    pub left_seconds: u64,
}

/// One flow: a line of `GET /v1/flows` (NDJSON).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Flow {
    /// Worker that owns it.
    pub worker: usize,
    /// Protocol; `any` is one without ports.
    pub protocol: Protocol,
    /// The number of a protocol without ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u8>,
    /// Client.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub client: SocketAddr,
    /// What the client sends to.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub frontend: SocketAddr,
    /// Where it is sent.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub backend: SocketAddr,
    /// The source that the backend sees, if it is not the client.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub snat: Option<SocketAddr>,
    /// Service.
    pub service: String,
    /// How the backend is reached.
    pub mode: Mode,
    /// `syn`, `established`, `closing`, `closed`, `reset`, `dead` or `udp`.
    pub state: String,
    /// Seconds since its last packet.
    pub idle_seconds: u64,
    /// Seconds until it is forgotten if no packet comes.
    pub expires_seconds: u64,
}

impl Flow {
    /// What its packets carry.
    #[must_use]
    pub fn carries(&self) -> Carries {
        self.number.map_or(Carries::Ports(self.protocol), Carries::Other)
    }
}

impl VipEntry {
    /// Its port or ports, or `all`.
    #[must_use]
    pub fn ports(&self) -> String {
        match (self.port, self.last_port) {
            (0, _) => "all".to_owned(),
            (first, last) => PortRange { first, last: last.unwrap_or(first) }.to_string(),
        }
    }
}

/// Filter of `GET /v1/flows` and `DELETE /v1/flows`; absent fields match all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema, utoipa::IntoParams))]
#[serde(deny_unknown_fields)]
pub struct FlowFilter {
    /// Client address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(value_type = Option<String>), schema(value_type = Option<String>))]
    pub client: Option<IpAddr>,
    /// Frontend address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(value_type = Option<String>), schema(value_type = Option<String>))]
    pub frontend: Option<IpAddr>,
    /// Frontend or backend port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Backend address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", param(value_type = Option<String>), schema(value_type = Option<String>))]
    pub backend: Option<IpAddr>,
    /// Protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Service name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

impl FlowFilter {
    /// Whether the flow is one that is asked for.
    #[must_use]
    pub fn matches(&self, flow: &Flow) -> bool {
        self.client.is_none_or(|client| flow.client.ip() == client)
            && self.frontend.is_none_or(|frontend| flow.frontend.ip() == frontend)
            && self.port.is_none_or(|port| flow.frontend.port() == port || flow.backend.port() == port)
            && self.backend.is_none_or(|backend| flow.backend.ip() == backend)
            && self.protocol.is_none_or(|protocol| flow.protocol == protocol)
            && self.service.as_ref().is_none_or(|service| flow.service == *service)
    }
}

/// The answer of `DELETE /v1/flows`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Flushed {
    /// Flows forgotten.
    pub flows: u64,
}

/// One neighbour that levee sends to or has asked for: `GET /v1/neighbours`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Neighbour {
    /// Its address.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub address: IpAddr,
    /// Its MAC, once resolved.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub mac: Option<Mac>,
    /// Port through which it is reached.
    pub port: String,
    /// The kernel's word: `reachable`, `stale`, `incomplete`, `failed`, …; `programmed` where the program gave the MAC.
    pub state: String,
}

/// Something worth telling an operator: a line of `GET /v1/events` (NDJSON).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event {
    /// Seconds since the Unix epoch.
    pub time: u64,
    /// A closed set of words: `vip-conflict`, `link-up`, `link-down`, `programmed`, `program-refused`, …
    pub kind: String,
    /// In words.
    pub message: String,
}

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// What is wrong, what was expected, what to do.
    pub error: String,
    /// The generation that the workers run, where it matters (409).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
}
