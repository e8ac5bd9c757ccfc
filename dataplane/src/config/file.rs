//! The configuration file, word for word: serde types with the place of every value that can be wrong.

use std::net::IpAddr;
use std::time::Duration;

use levee_api::net::{PortRange, Role};
use levee_api::yaml::Spanned;
use serde::{Deserialize, Deserializer};

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) ports: Spanned<Vec<Port>>,
    pub(super) host: Option<bool>,
    pub(super) workers: Spanned<Vec<Spanned<usize>>>,
    pub(super) socket: Option<Spanned<String>>,
    pub(super) socket_group: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) program_uids: Vec<u32>,
    #[serde(default)]
    pub(super) snat: Vec<Snat>,
    pub(super) announce_interval: Option<Spanned<Time>>,
    #[serde(default)]
    pub(super) multicast: Vec<Spanned<IpAddr>>,
    #[serde(default)]
    pub(super) arp: Rate,
    #[serde(default)]
    pub(super) replies: Rate,
    #[serde(default)]
    pub(super) errors: Rate,
    pub(super) mss_clamp: Option<Spanned<u32>>,
    #[serde(default)]
    pub(super) new_flows: NewFlows,
    #[serde(default)]
    pub(super) flows: Flows,
    #[serde(default)]
    pub(super) timeouts: Timeouts,
    #[serde(default)]
    pub(super) memory: Memory,
    pub(super) busy_poll: Option<BusyPoll>,
    #[serde(default)]
    pub(super) idle: Idle,
    #[serde(default)]
    pub(super) scheduling: Scheduling,
    #[serde(default)]
    pub(super) rings: Rings,
    pub(super) metrics: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Port {
    pub(super) interface: Spanned<String>,
    pub(super) role: Role,
    pub(super) queues: Option<Spanned<Vec<Spanned<u32>>>>,
    #[serde(default)]
    pub(super) mode: Mode,
    #[serde(default)]
    pub(super) attach: Attach,
    pub(super) take: Option<Take>,
    pub(super) neighbours: Option<Spanned<String>>,
    pub(super) gateways: Option<Spanned<Vec<Spanned<IpAddr>>>>,
    pub(super) segment: Option<Spanned<String>>,
    pub(super) vlans: Option<Spanned<Vec<Spanned<Tags>>>>,
}

/// A VLAN, as switches know it: by a tag, by two, or by none.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(
    untagged,
    expecting = "not a VLAN: expected a tag from 1 to 4094, a pair of them such as `[100, 20]`, outer first, or `untagged`"
)]
pub(super) enum Tags {
    Two([u16; 2]),
    One(u16),
    None(Untagged),
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Untagged {
    Untagged,
}

impl Tags {
    /// Outer first.
    pub(super) fn tags(self) -> Vec<u16> {
        match self {
            Tags::None(Untagged::Untagged) => Vec::new(),
            Tags::One(tag) => vec![tag],
            Tags::Two(tags) => tags.into(),
        }
    }
}

/// How frames are exchanged with the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Zero-copy if the driver can.
    #[default]
    Auto,
    /// Zero-copy, or do not start.
    ZeroCopy,
    /// Copy.
    Copy,
}

/// How the XDP program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attach {
    /// Native if the driver can.
    #[default]
    Auto,
    /// In the driver, or do not start.
    Native,
    /// In the network stack: slow, works with any driver.
    Skb,
}

/// What a worker does while no frame comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Idle {
    /// Sleep until one does.
    #[default]
    Sleep,
    /// Look again at once.
    Poll,
}

/// The class that the kernel schedules workers in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Policy {
    #[default]
    Fair,
    Fifo,
    RoundRobin,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scheduling {
    #[serde(default)]
    pub(super) policy: Policy,
    pub(super) nice: Option<Spanned<i32>>,
    pub(super) slice: Option<Spanned<Time>>,
    pub(super) priority: Option<Spanned<u32>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rings {
    pub(super) receive: Option<Spanned<u32>>,
    pub(super) transmit: Option<Spanned<u32>>,
}

/// Which frames of an interface are levee's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Take {
    /// Those for addresses that levee owns.
    Owned,
    /// All.
    All,
}

impl std::fmt::Display for Take {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Take::Owned => "owned",
            Take::All => "all",
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Snat {
    pub(super) address: Spanned<IpAddr>,
    pub(super) ports: Option<Spanned<PortRange>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rate {
    pub(super) rate: Option<Spanned<u32>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewFlows {
    pub(super) per_vip: Option<Spanned<u32>>,
    pub(super) per_source: Option<Spanned<u32>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Flows {
    pub(super) capacity: Option<Spanned<u32>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Timeouts {
    pub(super) tcp_syn: Option<Spanned<Time>>,
    pub(super) tcp_established: Option<Spanned<Time>>,
    pub(super) tcp_closing: Option<Spanned<Time>>,
    pub(super) tcp_closed: Option<Spanned<Time>>,
    pub(super) udp: Option<Spanned<Time>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Memory {
    pub(super) frames: Option<Spanned<u32>>,
    pub(super) frame_size: Option<Spanned<u32>>,
    #[serde(default)]
    pub(super) huge_pages: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BusyPoll {
    pub(super) microseconds: Option<Spanned<u32>>,
    pub(super) budget: Option<Spanned<u32>>,
}

/// A duration with its unit, as people write it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Time(pub(super) Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text).map(Time).map_err(|_| {
            serde::de::Error::custom(format_args!(
                "`{}` is not a duration: expected a number with its unit, such as `60s`, `500ms` or `2h 4min`",
                text.chars().take(40).collect::<String>()
            ))
        })
    }
}
