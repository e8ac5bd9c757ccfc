//! Everything grows at once: Services, their backends, the nodes that these are on, and flows over all of them. What it costs a packet.
//!
//! ```text
//!   clients ──► flow n: Service n mod SERVICES ──Maglev──► one of its ten backends, on a node with 255 others
//!           ◄── what that answers, to a SNAT port
//! ```
//!
//! All tables are there, and all flows are established, both directions of `nat`. Then segments come in whose flows are drawn at random from
//! all, every other one a backend's answer: of what was looked at for a packet, caches have next to nothing when the next one comes.
//! With one Service, one backend and one flow they have everything. What lies between the two is what growing costs.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net};
use levee_api::net::Mac;
use levee_dataplane::counters::Counter;
use levee_dataplane::flows::Flow;
use levee_dataplane::tables::master::Master;
use levee_dataplane::verdict::Endpoint;

use crate::frames::{self, Segment, at_random};
use crate::rig::{self, GATEWAY, GATEWAY_MAC, NODE_MAC, Rig, UPLINK, deliver};
use crate::services::{ENDPOINTS, PORT, Services};

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Services.
    pub services: u32,
    /// Backends of all of them together: as many of each.
    pub backends: u32,
    /// Established flows.
    pub flows: u32,
}

impl Size {
    /// One of each.
    pub const LEAST: Size = Size { services: 1, backends: 1, flows: 1 };
    /// A million backends, and ten million flows.
    pub const MOST: Size = Size::of(100_000);
    /// From the one to the other.
    pub const STEPS: [Size; 5] = [Size::LEAST, Size::of(10), Size::of(1_000), Size::of(10_000), Size::MOST];

    /// A hundred flows a Service.
    const fn of(services: u32) -> Size {
        Size { services, backends: services * ENDPOINTS, flows: services * 100 }
    }

    /// What [`Display`](fmt::Display) has written.
    #[must_use]
    pub fn read(text: &str) -> Option<Size> {
        let mut parts = text.split(", ");
        let mut number = |unit: &str| parts.next()?.strip_suffix(unit)?.parse().ok();
        let size = Size { services: number(" Services")?, backends: number(" backends")?, flows: number(" flows")? };
        parts.next().is_none().then_some(size)
    }
}

/// For those who read it again; people are told by [`count`](crate::peers::plot::count).
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Size { services, backends, flows } = self;
        write!(f, "{services} Services, {backends} backends, {flows} flows")
    }
}

/// A worker with all that on it. See the module.
pub struct Growth {
    rig: Rig,
    size: Size,
    answers: Vec<Answer>,
    /// What it took to make all tables of the program.
    pub built: Duration,
}

/// Between whom a backend's answer goes: twelve bytes, because there are ten million of them.
#[derive(Clone, Copy)]
struct Answer {
    backend: Ipv4Addr,
    source: Ipv4Addr,
    ports: (u16, u16),
}

impl Growth {
    /// With all tables made, and all flows established.
    ///
    /// # Panics
    /// Out of memory, or if a flow does not begin.
    #[must_use]
    pub fn new(size: Size) -> Growth {
        let begun = Instant::now();
        let master = director(size);
        let built = begun.elapsed();
        let mut rig = Rig::with(master, (size.flows as usize).max(65_536));
        for syn in [true, false] {
            let mut segment = from_clients(syn);
            let mut flows = 0..size.flows;
            rig.time(UPLINK, size.flows.into(), |port| {
                let next = flows.next().into_iter();
                next.for_each(|flow| deliver(port, segment.between(frames::client(flow), frontend(flow, size))));
            });
        }
        let mut answers = Vec::with_capacity(size.flows as usize);
        rig.each_flow(|flow| answers.push(Answer::of(flow)));
        assert_eq!(answers.len(), size.flows as usize, "{size}: {:?}", rig.drops());
        // The first answer of each has its next hop looked up.
        let (mut segment, mut answered) = (from_backends(), answers.iter());
        rig.time(UPLINK, size.flows.into(), |port| {
            answered.next().into_iter().for_each(|answer| deliver(port, answer.made(&mut segment)));
        });
        Growth { rig, size, answers, built }
    }

    /// Flows at random, for [`play`](Self::play).
    pub fn packets(&self) -> impl Iterator<Item = u32> + use<> {
        at_random(self.size.flows)
    }

    /// Has so many packets come in, of these flows, and says how long the worker took for them.
    ///
    /// # Panics
    /// If one of them is not recognised as an established flow's.
    pub fn play(&mut self, flows: &mut impl Iterator<Item = u32>, packets: u64) -> Duration {
        let Growth { rig, size, answers, .. } = self;
        let (mut from_client, mut from_backend) = (from_clients(false), from_backends());
        let mut back = false;
        let counted =
            |rig: &Rig| [Counter::Forwarded, Counter::Established].map(|counter| rig.handle.counters.get(counter));
        let before = counted(rig);
        let taken = rig.time(UPLINK, packets, |port| {
            let Some(flow) = flows.next() else { return };
            back = !back;
            let frame = match answers.get(flow as usize).filter(|_| back) {
                Some(answer) => answer.made(&mut from_backend),
                None => from_client.between(frames::client(flow), frontend(flow, *size)),
            };
            deliver(port, frame);
        });
        let after = counted(rig);
        let [forwarded, followed] = [after[0] - before[0], after[1] - before[1]];
        assert_eq!(forwarded, packets, "{size}: {:?}", rig.drops());
        // One checksum in 65,536 may be an unfinished one (`checksum`), which the long way looks into.
        assert!(followed >= packets - packets.div_ceil(1_000), "{size}: {followed} of {packets}");
        taken
    }

    /// Backends that have flows.
    #[must_use]
    pub fn backends_in_use(&self) -> usize {
        self.answers.iter().map(|answer| answer.backend).collect::<BTreeSet<_>>().len()
    }
}

impl Answer {
    fn of(flow: &Flow) -> Answer {
        let address = |end: Endpoint| match IpAddr::from(end.address) {
            IpAddr::V4(address) => address,
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        };
        let (backend, source) = (flow.backend(), flow.source());
        Answer { backend: address(backend), source: address(source), ports: (backend.port, source.port) }
    }

    /// Of a segment.
    fn made<'s>(&self, segment: &'s mut Segment) -> &'s [u8] {
        let (from, to) = self.ports;
        segment.between((self.backend, from), (self.source, to))
    }
}

/// What the client of a flow sends to.
fn frontend(flow: u32, size: Size) -> (Ipv4Addr, u16) {
    (Services::vip(flow % size.services), PORT)
}

fn from_clients(syn: bool) -> Segment {
    Segment::new(frames::tcp((GATEWAY_MAC, NODE_MAC), frames::client(0), (Services::vip(0), PORT), syn))
}

/// An answer comes from its backend's node, whose MAC nobody asks about.
fn from_backends() -> Segment {
    Segment::new(frames::tcp((mac(0), NODE_MAC), frames::client(0), (Services::vip(0), PORT), false))
}

/// All Services, and a node for each 256 addresses of pods, as Kubernetes gives them out: a next hop each.
fn director(size: Size) -> Master {
    let mut program = Services { count: size.services }.program();
    for service in &mut program.services {
        service.backends.truncate((size.backends / size.services) as usize);
    }
    let pods =
        program.services.iter().flat_map(|service| &service.backends).filter_map(|backend| match backend.address {
            IpAddr::V4(address) => Some(Ipv4Net::new(address, 24).ok()?.trunc()),
            IpAddr::V6(_) => None,
        });
    let subnets: BTreeSet<Ipv4Net> = pods.collect();
    let nodes: Vec<(Ipv4Net, IpAddr, Mac)> =
        subnets.into_iter().zip(1..).map(|(subnet, number)| (subnet, node(number), mac(number))).collect();
    let mut master = rig::unprogrammed(1);
    let routes = nodes.iter().map(|(subnet, node, _)| (IpNet::from(*subnet), UPLINK, Some(*node)));
    master.set_routes(routes.chain([(IpNet::from(Ipv4Net::default()), UPLINK, Some(GATEWAY))]));
    for (_, node, mac) in &nodes {
        master.set_neighbour(UPLINK, *node, Some(*mac));
    }
    master.load(program.canonical()).expect("a program that can be run");
    master
}

fn node(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(u32::from_be_bytes([172, 16, 0, 0]) + number).into()
}

fn mac(node: u32) -> Mac {
    let [a, b, c, d] = node.to_be_bytes();
    Mac([2, 1, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_spread_over_everything_and_go_both_ways() {
        let size = Size { services: 600, backends: 6_000, flows: 20_000 };
        let mut growth = Growth::new(size);
        // Of 6,000, with 3.3 flows each in the mean, e^-3.3 get none: 4 %.
        assert!((5_600..6_000).contains(&growth.backends_in_use()), "{}", growth.backends_in_use());
        assert_eq!(growth.rig.master.tables().services.iter().count(), 600);
        let mut flows = growth.packets();
        growth.play(&mut flows, 20_000);
        assert!(growth.rig.drops().is_empty(), "{:?}", growth.rig.drops());
    }

    #[test]
    fn one_of_each_is_a_size_too() {
        let mut growth = Growth::new(Size::LEAST);
        assert_eq!(growth.backends_in_use(), 1);
        let mut flows = growth.packets();
        growth.play(&mut flows, 100);
    }

    #[test]
    fn a_size_is_read_as_it_was_written() {
        for size in Size::STEPS {
            assert_eq!(Size::read(&size.to_string()), Some(size));
        }
        for other in [
            "",
            "1 Services",
            "1 Services, 2 flows, 3 backends",
            "x Services, 1 backends, 1 flows",
            "1 Services, 1 backends, 1 flows, 1",
        ] {
            assert_eq!(Size::read(other), None, "{other}");
        }
    }
}
