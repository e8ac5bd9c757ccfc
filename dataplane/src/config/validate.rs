//! From what stands in the file to what holds together: every mistake is found, not only the first.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use levee_api::diagnostic::Diagnostic;
use levee_api::net::{PortRange, Role};
use levee_api::yaml::Spanned;

use super::file::{self, File, Policy, Take, Time};
use crate::flows::{self, Millis};

use super::{BusyPoll, Config, Memory, Placed, Port, Rings, Scheduling, Snat, Timeouts, at};

/// Most ports: a [`PortId`](crate::verdict::PortId) is one byte, and nobody has more NICs.
const MAX_PORTS: usize = 16;
/// The kernel's affinity masks, as libc knows them, end here (`CPU_SETSIZE`).
const MAX_CORE: usize = 1023;
/// `IFNAMSIZ` without the closing NUL (`include/uapi/linux/if.h`).
const MAX_INTERFACE_NAME: usize = 15;
/// `sun_path` without the closing NUL (unix(7)).
const MAX_SOCKET_PATH: usize = 107;
/// Most VLANs of an uplink: each address is announced in each of them.
const MAX_VLANS: usize = 64;
/// Above Linux's default `ip_local_port_range`.
const DEFAULT_SNAT_PORTS: PortRange = PortRange { first: 61000, last: 65535 };

/// Weights of ordinary tasks (sched(7)).
const NICE: RangeInclusive<i32> = -20..=19;
/// Priorities of real-time tasks (sched(7)).
const PRIORITY: RangeInclusive<u32> = 1..=99;
/// What the kernel takes for a slice (`__setparam_fair` in `kernel/sched/syscalls.c`).
const SLICE: RangeInclusive<Duration> = Duration::from_micros(100)..=Duration::from_millis(100);

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
/// Longest timeout: a week. Flow tables count time in coarse ticks of 32 bits.
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Collects diagnostics of one file.
struct Checker<'a> {
    file: &'a str,
    found: Vec<Diagnostic>,
}

pub(super) fn validate(file: &str, raw: File) -> Result<Config, Vec<Diagnostic>> {
    let mut checker = Checker { file, found: Vec::new() };
    let config = checker.config(raw);
    if checker.found.is_empty() { Ok(config) } else { Err(checker.found) }
}

fn placed<T>(spanned: Spanned<T>) -> Placed<T> {
    let (line, column) = (spanned.referenced.line(), spanned.referenced.column());
    Placed {
        value: spanned.value,
        line: usize::try_from(line).unwrap_or_default(),
        column: usize::try_from(column).unwrap_or_default(),
    }
}

impl Checker<'_> {
    fn refuse<T>(&mut self, place: &Placed<T>, message: impl Into<String>, help: impl Into<String>) {
        self.found.push(at(self.file, place, message, help));
    }

    fn config(&mut self, raw: File) -> Config {
        let ports = self.ports(raw.ports);
        let workers = self.workers(raw.workers);
        let announce_interval = self.time("announce_interval", raw.announce_interval, 60 * SECOND, SECOND..=HOUR);
        Config {
            file: self.file.to_owned(),
            host: raw.host.unwrap_or_else(|| ports.iter().any(|port| port.role == Role::Pods)),
            ports,
            workers,
            socket: self.socket(raw.socket),
            socket_group: raw.socket_group.map(placed),
            program_uids: raw.program_uids,
            snat: self.snat(raw.snat),
            announce_interval,
            multicast: self.multicast(raw.multicast),
            arp_rate: self.number("arp.rate", raw.arp.rate, 50, 1..=1_000_000),
            reply_rate: self.number("replies.rate", raw.replies.rate, 10_000, 1..=10_000_000),
            new_flows_of_vip: self.number("new_flows.per_vip", raw.new_flows.per_vip, 0, 0..=100_000_000),
            new_flows_of_source: self.number("new_flows.per_source", raw.new_flows.per_source, 0, 0..=100_000_000),
            error_rate: self.number("errors.rate", raw.errors.rate, 100, 1..=1_000_000),
            mss_clamp: u16::try_from(self.number("mss_clamp", raw.mss_clamp, 0, 536..=65_495)).unwrap_or(0),
            flow_capacity: self.number("flows.capacity", raw.flows.capacity, 1 << 20, 1024..=crate::flows::MOST as u32),
            timeouts: self.timeouts(raw.timeouts),
            memory: self.memory(raw.memory),
            busy_poll: raw.busy_poll.map(|busy| BusyPoll {
                microseconds: self.number("busy_poll.microseconds", busy.microseconds, 20, 1..=1_000_000),
                budget: self.number("busy_poll.budget", busy.budget, 64, 1..=4096),
            }),
            idle: raw.idle,
            scheduling: self.scheduling(raw.scheduling),
            rings: Rings {
                receive: self.ring("rings.receive", raw.rings.receive, 4096),
                transmit: self.ring("rings.transmit", raw.rings.transmit, 2048),
            },
            metrics: raw.metrics.map(|metrics| self.metrics(placed(metrics))),
        }
    }

    fn ports(&mut self, raw: Spanned<Vec<file::Port>>) -> Vec<Port> {
        let raw = placed(raw);
        if raw.value.len() > MAX_PORTS {
            let count = raw.value.len();
            self.refuse(&raw, format!("{count} ports, where at most {MAX_PORTS} are supported"), "remove some of them");
        }
        if !raw.value.iter().any(|port| port.role == Role::Uplink) {
            self.refuse(
                &raw,
                "no port has the role `uplink`, where at least one was expected",
                "add the interface that faces the fabric: `- {interface: eth0, role: uplink}`",
            );
        }
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        raw.value.into_iter().map(|port| self.port(port, &mut seen)).collect()
    }

    fn port(&mut self, raw: file::Port, seen: &mut BTreeMap<String, usize>) -> Port {
        let interface = placed(raw.interface);
        self.interface_name(&interface);
        if let Some(line) = seen.insert(interface.value.clone(), interface.line) {
            let message = format!("interface `{}` already is a port, on line {line}", interface.value);
            self.refuse(&interface, message, "remove one of the two, and list all of its queues in the other");
        }
        if raw.role == Role::Tunnel {
            self.refuse(
                &interface,
                "no interface has the role `tunnel`",
                "remove it here: tunnels end where the program's `tunnels` say",
            );
        }
        if raw.role == Role::Host {
            self.refuse(
                &interface,
                "a port of role `host` is levee's own, made by itself",
                "remove it here, and write `host: true` beside `ports`",
            );
        }
        let queues = raw.queues.map(|queues| self.queues(&interface, placed(queues)));
        let neighbours = raw.neighbours.map(placed);
        if let Some(bridge) = &neighbours {
            self.interface_name(bridge);
            if raw.role != Role::Pods {
                self.refuse(
                    bridge,
                    "`neighbours` stands at an uplink, where it has no meaning",
                    "remove it: an uplink's neighbours are those of its own interface",
                );
            }
        }
        let gateways = self.gateways(raw.role, raw.gateways);
        let segment = raw.segment.map(placed);
        if let Some(segment) = segment.as_ref().filter(|_| raw.role != Role::Uplink) {
            self.only_at_uplinks(segment, "segment");
        }
        let vlans = self.vlans(raw.role, raw.vlans);
        let default_take = match raw.role {
            Role::Uplink => Take::Owned,
            Role::Pods | Role::Host | Role::Tunnel => Take::All,
        };
        Port {
            interface,
            role: raw.role,
            queues,
            mode: raw.mode,
            attach: raw.attach,
            take: raw.take.unwrap_or(default_take),
            neighbours,
            gateways,
            segment,
            vlans,
        }
    }

    fn only_at_uplinks<T>(&mut self, place: &Placed<T>, key: &str) {
        let message = format!("`{key}` stands at a port that is no uplink, where it has no meaning");
        self.refuse(place, message, "remove it, or write it at the port with the role `uplink`");
    }

    fn gateways(&mut self, role: Role, raw: Option<Spanned<Vec<Spanned<IpAddr>>>>) -> Vec<Placed<IpAddr>> {
        let Some(raw) = raw.map(placed) else { return Vec::new() };
        if role != Role::Pods {
            let message = "`gateways` stands at a port that no pods are at";
            self.refuse(&raw, message, "write it at the port with the role `pods`");
        }
        let gateways: Vec<_> = raw.value.into_iter().map(placed).collect();
        for (index, gateway) in gateways.iter().enumerate() {
            if !is_unicast(gateway.value) {
                let message = format!("`{}` cannot be a gateway", gateway.value);
                self.refuse(gateway, message, "give the address that pods have in their default route");
            }
            if gateways.iter().take(index).any(|other| other.value == gateway.value) {
                self.refuse(gateway, format!("{} is listed twice", gateway.value), "remove one of the two");
            }
        }
        gateways
    }

    fn vlans(&mut self, role: Role, raw: Option<Spanned<Vec<Spanned<file::Tags>>>>) -> Vec<Vec<u16>> {
        let Some(raw) = raw.map(placed) else { return vec![Vec::new()] };
        if role != Role::Uplink {
            self.only_at_uplinks(&raw, "vlans");
        }
        if raw.value.is_empty() || raw.value.len() > MAX_VLANS {
            let message = format!("{} VLANs, where 1 to {MAX_VLANS} were expected", raw.value.len());
            self.refuse(&raw, message, "list them, such as `vlans: [untagged, 10]`, or remove `vlans`");
        }
        let mut vlans: Vec<Vec<u16>> = Vec::new();
        for vlan in raw.value {
            let place = placed(vlan);
            let tags = place.value.tags();
            if let Some(tag) = tags.iter().find(|tag| !(1..=4094).contains(*tag)) {
                let message = format!("{tag} is not a VLAN's tag: expected 1 to 4094");
                self.refuse(&place, message, "write `untagged` for frames without a tag");
            }
            if vlans.contains(&tags) {
                self.refuse(&place, "this VLAN is listed twice", "remove one of the two");
            }
            vlans.push(tags);
        }
        vlans
    }

    /// What the kernel takes for a name (`dev_valid_name` in `net/core/dev.c`).
    fn interface_name(&mut self, name: &Placed<String>) {
        let bytes = name.value.as_bytes();
        let legal = !bytes.is_empty()
            && bytes.len() <= MAX_INTERFACE_NAME
            && !matches!(bytes, b"." | b"..")
            && bytes.iter().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':'));
        if !legal {
            self.refuse(
                name,
                format!(
                    "`{}` is not an interface name: expected 1 to {MAX_INTERFACE_NAME} characters without blanks, `/` and `:`",
                    name.value.escape_debug()
                ),
                "`ip link` lists the interfaces of this machine",
            );
        }
    }

    fn queues(&mut self, interface: &Placed<String>, raw: Placed<Vec<Spanned<u32>>>) -> Vec<Placed<u32>> {
        if raw.value.is_empty() {
            let message = format!("port `{}` has no queues, where at least one was expected", interface.value);
            self.refuse(&raw, message, "list them, such as `queues: [0, 1]`, or remove `queues` to take all of them");
        }
        let queues: Vec<_> = raw.value.into_iter().map(placed).collect();
        for (index, queue) in queues.iter().enumerate() {
            if queues.iter().take(index).any(|other| other.value == queue.value) {
                self.refuse(queue, format!("queue {} is listed twice", queue.value), "remove one of the two");
            }
        }
        queues
    }

    fn workers(&mut self, raw: Spanned<Vec<Spanned<usize>>>) -> Vec<Placed<usize>> {
        let raw = placed(raw);
        if raw.value.is_empty() {
            self.refuse(&raw, "no workers, where at least one was expected", "list cores, such as `workers: [1]`");
        }
        let workers: Vec<_> = raw.value.into_iter().map(placed).collect();
        for (index, core) in workers.iter().enumerate() {
            if core.value > MAX_CORE {
                let message = format!("{} is not a core: expected 0 to {MAX_CORE}", core.value);
                self.refuse(core, message, "`lscpu -e` lists the cores of this machine");
            }
            if workers.iter().take(index).any(|other| other.value == core.value) {
                let message = format!("core {} is listed twice: two workers would share it", core.value);
                self.refuse(core, message, "give each worker a core of its own");
            }
        }
        workers
    }

    fn socket(&mut self, raw: Option<Spanned<String>>) -> PathBuf {
        let Some(path) = raw.map(placed) else { return PathBuf::from("/run/levee/dataplane.sock") };
        if !path.value.starts_with('/') || path.value.ends_with('/') || path.value.contains('\0') {
            let message = format!("`{}` is not an absolute path of a file", path.value.escape_debug());
            self.refuse(&path, message, "write it from the root, such as `/run/levee/dataplane.sock`");
        }
        if path.value.len() > MAX_SOCKET_PATH {
            let message = format!(
                "the path has {} bytes, where the kernel takes at most {MAX_SOCKET_PATH} for a socket",
                path.value.len()
            );
            self.refuse(&path, message, "put it into a directory with a shorter name");
        }
        PathBuf::from(path.value)
    }

    fn metrics(&mut self, raw: Placed<String>) -> Placed<SocketAddr> {
        let address = raw.value.parse().ok().filter(|address: &SocketAddr| address.port() != 0);
        if address.is_none() {
            let shown: String = raw.value.chars().take(60).collect();
            let message = format!("`{}` is not an address and port to listen on", shown.escape_debug());
            self.refuse(&raw, message, "write both, such as `127.0.0.1:9464` or `[::1]:9464`");
        }
        let value = address.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into());
        Placed { value, line: raw.line, column: raw.column }
    }

    fn snat(&mut self, raw: Vec<file::Snat>) -> Vec<Snat> {
        let mut taken: Vec<Snat> = Vec::new();
        for snat in raw {
            let address = placed(snat.address);
            if !is_unicast(address.value) {
                let message = format!("`{}` cannot be the source of a packet", address.value);
                self.refuse(&address, message, "give an address of this node that the fabric routes to it");
            }
            let ports = snat.ports.map_or(DEFAULT_SNAT_PORTS, |ports| ports.value);
            let overlap = taken.iter().find(|other| {
                other.address == address.value && other.ports.first <= ports.last && ports.first <= other.ports.last
            });
            if let Some(other) = overlap {
                let message = format!("{} {ports} overlaps with {} {}", address.value, other.address, other.ports);
                self.refuse(&address, message, "give each range of ports once");
            }
            taken.push(Snat { address: address.value, ports });
        }
        taken
    }

    fn multicast(&mut self, raw: Vec<Spanned<IpAddr>>) -> Vec<IpAddr> {
        raw.into_iter()
            .map(|group| {
                let group = placed(group);
                if !group.value.is_multicast() {
                    self.refuse(
                        &group,
                        format!("`{}` is not a multicast group", group.value),
                        "expected an address in 224.0.0.0/4 or ff00::/8",
                    );
                }
                group.value
            })
            .collect()
    }

    fn timeouts(&mut self, raw: file::Timeouts) -> Timeouts {
        let mut time =
            |name, value, default: Millis| self.time(name, value, Duration::from_millis(default.into()), SECOND..=WEEK);
        let default = flows::Timeouts::default();
        Timeouts {
            tcp_syn: time("timeouts.tcp_syn", raw.tcp_syn, default.syn),
            tcp_established: time("timeouts.tcp_established", raw.tcp_established, default.established),
            tcp_closing: time("timeouts.tcp_closing", raw.tcp_closing, default.closing),
            tcp_closed: time("timeouts.tcp_closed", raw.tcp_closed, default.closed),
            udp: time("timeouts.udp", raw.udp, default.udp),
        }
    }

    fn memory(&mut self, raw: file::Memory) -> Memory {
        let frame_size = raw.frame_size.map(placed);
        if let Some(size) = &frame_size
            && !matches!(size.value, 2048 | 4096)
        {
            let message = format!("`memory.frame_size` is {}, where 2048 or 4096 was expected", size.value);
            self.refuse(size, message, "4096 holds frames of an MTU up to 3,800; the default is 2048");
        }
        Memory {
            frames: raw.frames.map(|frames| self.number("memory.frames", Some(frames), 0, 1024..=1 << 24)),
            frame_size: frame_size.map_or(2048, |size| size.value),
            huge_pages: raw.huge_pages,
        }
    }

    fn scheduling(&mut self, raw: file::Scheduling) -> Scheduling {
        let priority = raw.priority.as_ref().map(|priority| placed(priority.clone()));
        let value = self.number("scheduling.priority", raw.priority, 1, PRIORITY);
        let value = u8::try_from(value).unwrap_or(1);
        let nice = raw.nice.map(placed);
        if let Some(nice) = nice.as_ref().filter(|nice| !NICE.contains(&nice.value)) {
            let (least, most) = (NICE.start(), NICE.end());
            let message = format!("`scheduling.nice` is {}, where {least} to {most} was expected", nice.value);
            self.refuse(nice, message, "remove the key to take the default, -20, which is the greatest weight");
        }
        let slice = raw.slice.as_ref().map(|slice| placed(slice.clone()));
        let asked = raw.slice.is_some();
        let length = self.time("scheduling.slice", raw.slice, *SLICE.start(), SLICE);
        if raw.policy == Policy::Fair {
            if let Some(priority) = &priority {
                self.refuse(
                    priority,
                    "`scheduling.priority` has no meaning with `policy: fair`",
                    "write `nice`, -20 to 19, in its place, or `policy: fifo` beside it",
                );
            }
            let nice = nice.and_then(|nice| i8::try_from(nice.value).ok()).unwrap_or(-20);
            return Scheduling::Fair { nice, slice: asked.then_some(length) };
        }
        let help = "write `priority`, 1 to 99, in its place, or remove `policy`";
        if let Some(nice) = &nice {
            self.refuse(nice, "`scheduling.nice` has no meaning for a real-time worker", help);
        }
        if let Some(slice) = &slice {
            self.refuse(slice, "`scheduling.slice` has no meaning for a real-time worker", help);
        }
        if raw.policy == Policy::Fifo {
            Scheduling::Fifo { priority: value }
        } else {
            Scheduling::RoundRobin { priority: value }
        }
    }

    fn ring(&mut self, name: &str, raw: Option<Spanned<u32>>, default: u32) -> u32 {
        let place = raw.as_ref().map(|raw| placed(raw.clone()));
        let size = self.number(name, raw, default, 64..=65_536);
        if let Some(place) = place.filter(|place| place.value == size && !size.is_power_of_two()) {
            let (lower, higher) = (1 << size.ilog2(), size.next_power_of_two());
            let message = format!("`{name}` is {size}, where a power of two was expected");
            self.refuse(&place, message, format!("write {lower} or {higher}"));
        }
        size
    }

    fn number(&mut self, name: &str, raw: Option<Spanned<u32>>, default: u32, range: RangeInclusive<u32>) -> u32 {
        let Some(value) = raw.map(placed) else { return default };
        if !range.contains(&value.value) {
            let (least, most) = (range.start(), range.end());
            let message = format!("`{name}` is {}, where {least} to {most} was expected", value.value);
            self.refuse(&value, message, format!("remove the key to take the default, {default}"));
        }
        value.value
    }

    fn time(
        &mut self,
        name: &str,
        raw: Option<Spanned<Time>>,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(Placed { value: Time(value), line, column }) = raw.map(placed) else { return default };
        if !range.contains(&value) {
            let show = humantime::format_duration;
            let (least, most) = (show(*range.start()), show(*range.end()));
            self.refuse(
                &Placed { value, line, column },
                format!("`{name}` is {}, where {least} to {most} was expected", show(value)),
                format!("remove the key to take the default, {}", show(default)),
            );
        }
        value
    }
}

/// May stand as the source of a packet on a wire.
fn is_unicast(address: IpAddr) -> bool {
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || matches!(address, IpAddr::V4(v4) if v4.is_broadcast()))
}
