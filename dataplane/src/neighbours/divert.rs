//! What this host's own processes send to Services, led to levee: routes and rules. Pure.
//!
//! ```text
//!  ip rule   1: iif lo, to an address of ours, tcp or udp, node ports ─► table 76    while there are node ports
//!            2: local                                                                in place of 0, as long as 1
//!            3: iif lo ─► table 76
//!  table 76  service ranges, VIPs, levee's own address, our addresses with node ports ─► levee-host
//! ```
//!
//! `iif lo` is what the host sends itself (ip-rule(8)): what it forwards goes as it always did, and the main table is not touched.
//! A node port is on an address of the host, which the table `local` would find before any other; so `local` moves behind the
//! rules for node ports, and nothing comes between them. All of it bears our mark (`proto 76`).
//!
//! Routes go with the device, and the device with the process, however that ends. Rules stay after a `kill -9`, and lead to an
//! empty table, which is as if they were not there; the next daemon takes them over, or away. One that is told to stop takes
//! them away itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use levee_api::net::{Family, PortRange, Protocol};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage, RulePortRange};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::Diverted;
use super::view::MARK;

/// Our routing table, by the number of our mark.
const TABLE: u8 = 76;
/// `RT_TABLE_LOCAL` (rtnetlink(7)).
const LOCAL: u8 = 255;
/// Where rules stand: before all others but somebody's who chose the same, so that nothing comes between.
const NODE_PORTS: u32 = 1;
const MOVED_LOCAL: u32 = 2;
const SERVICES: u32 = 3;
/// `iif` of what this host sends itself.
const LOOPBACK: &str = "lo";
/// Rules for node ports of one address and protocol, at most: the kernel walks them for every packet that it routes. Ports are
/// usually of one range (30000-32767 by default), so one rule does; what it covers besides, levee gives back.
const MOST_RANGES: usize = 4;

/// A way that leads, or led, to levee; or how the kernel finds its own addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// In our table: a prefix, sent from this address.
    Route(IpNet, IpAddr),
    /// The table `local` at our preference, in place of its own.
    MovedLocal(Family),
    /// The table `local` where the kernel puts it.
    Local(Family),
    /// Node ports of an address of ours.
    NodePorts(IpAddr, Protocol, PortRange),
    /// Our table for what this host sends.
    Services(Family),
}

/// What is to be done to the kernel's tables, one at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Add(Way),
    Remove(Way),
    /// A rule with our mark that this version would not make.
    Clear(Box<RuleMessage>),
}

/// What is there, and what is to be.
#[derive(Debug, Default)]
pub(super) struct Diversion {
    seen: BTreeSet<Way>,
    strays: Vec<RuleMessage>,
}

impl Diversion {
    /// Takes one message of the kernel, from a dump or a notification. Says whether it is about any of this.
    pub(super) fn apply(&mut self, message: &RouteNetlinkMessage) -> bool {
        let (seen, there) = match message {
            RouteNetlinkMessage::NewRoute(route) => (read_route(route), true),
            RouteNetlinkMessage::DelRoute(route) => (read_route(route), false),
            RouteNetlinkMessage::NewRule(rule) => (read_rule(rule), true),
            RouteNetlinkMessage::DelRule(rule) => (read_rule(rule), false),
            _ => return false,
        };
        match seen {
            Seen::Way(way) if there => self.seen.insert(way),
            Seen::Way(way) => self.seen.remove(&way),
            Seen::Stray(rule) if there => {
                self.strays.push(rule);
                true
            }
            Seen::Stray(_) | Seen::Other => false,
        }
    }

    /// What there is left to do until `wanted` is all there is of ours, in the order in which nothing is ever missing that was
    /// there before: the table `local` stands in one place before it leaves the other.
    pub(super) fn steps(&self, wanted: &BTreeSet<Way>) -> Vec<Step> {
        let missing = |way: &&Way| !self.seen.contains(way);
        let surplus = |way: &&Way| !wanted.contains(way);
        let is_route = |way: &&Way| matches!(way, Way::Route(..));
        let is_rule = |way: &&Way| matches!(way, Way::NodePorts(..) | Way::Services(_));
        let mut steps: Vec<Step> = self.strays.iter().map(|rule| Step::Clear(Box::new(rule.clone()))).collect();
        // Two routes to one prefix cannot be told apart by who removes one: the old goes before the new comes.
        let old = |way: &Way| {
            let Way::Route(net, _) = *way else { return None };
            self.seen.iter().find(|seen| matches!(seen, Way::Route(there, _) if *there == net) && *seen != way)
        };
        for route in wanted.iter().filter(is_route).filter(missing) {
            steps.extend(old(route).map(|old| Step::Remove(*old)));
            steps.push(Step::Add(*route));
        }
        for family in [Family::Ipv4, Family::Ipv6] {
            if wanted.contains(&Way::MovedLocal(family)) && self.seen.contains(&Way::Local(family)) {
                steps.extend(Some(Way::MovedLocal(family)).filter(|way| missing(&way)).map(Step::Add));
                steps.push(Step::Remove(Way::Local(family)));
            }
        }
        steps.extend(wanted.iter().filter(is_rule).filter(missing).map(|rule| Step::Add(*rule)));
        steps.extend(self.seen.iter().filter(is_rule).filter(surplus).map(|rule| Step::Remove(*rule)));
        for family in [Family::Ipv4, Family::Ipv6] {
            if !wanted.contains(&Way::MovedLocal(family)) && self.seen.contains(&Way::MovedLocal(family)) {
                steps.extend(Some(Way::Local(family)).filter(|way| missing(&way)).map(Step::Add));
                steps.push(Step::Remove(Way::MovedLocal(family)));
            }
        }
        for route in self.seen.iter().filter(is_route).filter(surplus) {
            let step = Step::Remove(*route);
            if !steps.contains(&step) {
                steps.push(step);
            }
        }
        steps
    }

    /// A step was done. The kernel says so too, later.
    pub(super) fn done(&mut self, step: &Step) {
        match step {
            Step::Add(way) => drop(self.seen.insert(*way)),
            Step::Remove(way) => drop(self.seen.remove(way)),
            Step::Clear(rule) => self.strays.retain(|stray| stray != &**rule),
        }
    }
}

/// What is to be there: of each family what is sent from its source, and nothing of one that has none.
pub(super) fn ways(diverted: &Diverted, inward: &[IpAddr], sources: &[IpAddr]) -> BTreeSet<Way> {
    let mut ways = BTreeSet::new();
    let mut ports: BTreeMap<(IpAddr, Protocol), BTreeSet<u16>> = BTreeMap::new();
    for source in sources {
        let of = |address: IpAddr| address.is_ipv4() == source.is_ipv4();
        // Levee's own addresses: the way back from backends of this host, whatever else there is.
        let own = inward.iter().copied().map(IpNet::from);
        let nets = diverted.nets.iter().map(IpNet::trunc).chain(own).filter(|net| of(net.addr()));
        ways.extend(nets.map(|net| Way::Route(net, *source)));
        ways.insert(Way::Services(Family::of(*source)));
        for (address, protocol, port) in diverted.ports.iter().filter(|(address, ..)| of(*address)) {
            ports.entry((*address, *protocol)).or_default().insert(*port);
        }
    }
    for ((address, protocol), ports) in ports {
        // From itself to itself, as without levee.
        ways.insert(Way::Route(address.into(), address));
        ways.insert(Way::MovedLocal(Family::of(address)));
        ways.extend(ranges(&ports).into_iter().map(|range| Way::NodePorts(address, protocol, range)));
    }
    ways
}

/// At most [`MOST_RANGES`] ranges that hold all of these ports: apart at the widest gaps.
fn ranges(ports: &BTreeSet<u16>) -> Vec<PortRange> {
    let mut gaps: Vec<(u16, u16)> = ports.iter().zip(ports.iter().skip(1)).map(|(a, b)| (*a, *b)).collect();
    gaps.sort_by_key(|(before, after)| std::cmp::Reverse(after - before));
    gaps.retain(|(before, after)| after - before > 1);
    gaps.truncate(MOST_RANGES - 1);
    gaps.sort_unstable();
    let firsts = ports.first().copied().into_iter().chain(gaps.iter().map(|(_, after)| *after));
    let lasts = gaps.iter().map(|(before, _)| *before).chain(ports.last().copied());
    firsts.zip(lasts).map(|(first, last)| PortRange { first, last }).collect()
}

impl Way {
    /// What tells the kernel of it.
    pub(super) fn message(&self, device: u32) -> Message {
        match self {
            Way::Route(net, source) => {
                let mut message = RouteMessage::default();
                message.header.address_family = netlink_family(Family::of(*source));
                message.header.table = TABLE;
                message.header.destination_prefix_length = net.prefix_len();
                message.header.protocol = MARK;
                message.header.scope = RouteScope::Link;
                message.header.kind = RouteType::Unicast;
                message.attributes = vec![
                    RouteAttribute::Destination(net.addr().into()),
                    RouteAttribute::PrefSource((*source).into()),
                    RouteAttribute::Oif(device),
                ];
                Message::Route(Box::new(message))
            }
            Way::Local(family) => rule(*family, LOCAL, 0, RouteProtocol::Kernel, Vec::new()),
            Way::MovedLocal(family) => rule(*family, LOCAL, MOVED_LOCAL, MARK, Vec::new()),
            Way::Services(family) => {
                rule(*family, TABLE, SERVICES, MARK, vec![RuleAttribute::Iifname(LOOPBACK.to_owned())])
            }
            Way::NodePorts(address, protocol, ports) => {
                let selectors = vec![
                    RuleAttribute::Iifname(LOOPBACK.to_owned()),
                    RuleAttribute::Destination(*address),
                    RuleAttribute::IpProtocol(i32::from(protocol.number()).into()),
                    RuleAttribute::DestinationPortRange(RulePortRange { start: ports.first, end: ports.last }),
                ];
                rule(Family::of(*address), TABLE, NODE_PORTS, MARK, selectors)
            }
        }
    }
}

/// A message about a way.
pub(super) enum Message {
    Route(Box<RouteMessage>),
    Rule(Box<RuleMessage>),
}

fn netlink_family(family: Family) -> AddressFamily {
    match family {
        Family::Ipv4 => AddressFamily::Inet,
        Family::Ipv6 => AddressFamily::Inet6,
    }
}

fn rule(family: Family, table: u8, priority: u32, protocol: RouteProtocol, selectors: Vec<RuleAttribute>) -> Message {
    let mut message = RuleMessage::default();
    message.header.family = netlink_family(family);
    message.header.action = RuleAction::ToTable;
    message.header.table = table;
    for selector in &selectors {
        if let RuleAttribute::Destination(address) = selector {
            message.header.dst_len = IpNet::from(*address).prefix_len();
        }
    }
    message.attributes = selectors;
    message.attributes.extend([
        RuleAttribute::Priority(priority),
        RuleAttribute::Table(table.into()),
        RuleAttribute::Protocol(protocol),
    ]);
    Message::Rule(Box::new(message))
}

enum Seen {
    Way(Way),
    Stray(RuleMessage),
    Other,
}

/// A route of our table.
fn read_route(message: &RouteMessage) -> Seen {
    let (mut table, mut net, mut source) = (u32::from(message.header.table), None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Destination(address) => net = address_of(address),
            RouteAttribute::PrefSource(address) => source = address_of(address),
            _ => {}
        }
    }
    let header: &RouteHeader = &message.header;
    if table != u32::from(TABLE) || header.protocol != MARK || header.kind != RouteType::Unicast {
        return Seen::Other;
    }
    let unspecified: IpAddr = match header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        _ => Ipv6Addr::UNSPECIFIED.into(),
    };
    let net = IpNet::new(net.unwrap_or(unspecified), header.destination_prefix_length).ok();
    match (net, source) {
        (Some(net), Some(source)) => Seen::Way(Way::Route(net, source)),
        _ => Seen::Other,
    }
}

fn address_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// A rule of ours, or the kernel's for the table `local`.
fn read_rule(message: &RuleMessage) -> Seen {
    let family = match message.header.family {
        AddressFamily::Inet => Family::Ipv4,
        AddressFamily::Inet6 => Family::Ipv6,
        _ => return Seen::Other,
    };
    let (mut table, mut priority, mut marked) = (u32::from(message.header.table), 0, false);
    let (mut from_here, mut address, mut protocol, mut ports) = (false, None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::Priority(number) => priority = *number,
            RuleAttribute::Protocol(by) => marked = *by == MARK,
            RuleAttribute::Iifname(name) => from_here = name == LOOPBACK,
            RuleAttribute::Destination(to) => address = Some(*to),
            RuleAttribute::IpProtocol(number) => protocol = u8::try_from(i32::from(*number)).ok(),
            RuleAttribute::DestinationPortRange(range) => {
                ports = Some(PortRange { first: range.start, last: range.end })
            }
            _ => {}
        }
    }
    let protocol = protocol.and_then(Protocol::from_number);
    let way = match (u8::try_from(table).ok(), priority, from_here, address, protocol, ports) {
        (Some(LOCAL), 0, false, None, None, None) if !marked => Some(Way::Local(family)),
        (Some(LOCAL), MOVED_LOCAL, false, None, None, None) if marked => Some(Way::MovedLocal(family)),
        (Some(TABLE), SERVICES, true, None, None, None) if marked => Some(Way::Services(family)),
        (Some(TABLE), NODE_PORTS, true, Some(address), Some(protocol), Some(ports)) if marked => {
            Some(Way::NodePorts(address, protocol, ports))
        }
        _ => None,
    };
    match way {
        Some(way) => Seen::Way(way),
        None if marked => Seen::Stray(message.clone()),
        None => Seen::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const INWARD: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 76, 1));
    const DEVICE: u32 = 7;

    fn diverted(nets: &[&str], ports: &[&str]) -> Diverted {
        let port = |text: &&str| {
            let at: std::net::SocketAddr = text.parse().unwrap();
            (at.ip(), Protocol::Tcp, at.port())
        };
        Diverted {
            nets: nets.iter().map(|net| net.parse().unwrap()).collect(),
            ports: ports.iter().map(port).collect(),
        }
    }

    /// Does what is to be done on a table that is a set, and looks that `local` is never missing.
    fn carry_out(diversion: &mut Diversion, wanted: &BTreeSet<Way>) {
        let steps = diversion.steps(wanted);
        for step in &steps {
            diversion.done(step);
            let there = [Way::Local(Family::Ipv4), Way::MovedLocal(Family::Ipv4)];
            assert!(there.iter().any(|way| diversion.seen.contains(way)), "{steps:?}");
        }
        assert_eq!(diversion.steps(wanted), [], "done is done");
    }

    #[test]
    fn the_kernels_own_table_moves_only_while_there_are_node_ports() {
        let mut diversion = Diversion { seen: [Way::Local(Family::Ipv4)].into(), strays: Vec::new() };
        let local = |diversion: &Diversion| {
            let there = |way| diversion.seen.contains(&way);
            (there(Way::Local(Family::Ipv4)), there(Way::MovedLocal(Family::Ipv4)))
        };
        carry_out(&mut diversion, &ways(&diverted(&["10.96.0.0/16"], &[]), &[INWARD], &[HERE]));
        assert_eq!(local(&diversion), (true, false));
        let node_ports = diverted(&["10.96.0.0/16"], &["192.0.2.1:30080", "192.0.2.1:30081"]);
        carry_out(&mut diversion, &ways(&node_ports, &[INWARD], &[HERE]));
        assert_eq!(local(&diversion), (false, true));
        let range = PortRange { first: 30080, last: 30081 };
        assert!(diversion.seen.contains(&Way::NodePorts(HERE, Protocol::Tcp, range)));
        carry_out(&mut diversion, &BTreeSet::new());
        assert_eq!(diversion.seen, [Way::Local(Family::Ipv4)].into());
    }

    #[test]
    fn every_way_is_read_back_as_it_was_written() {
        let (inward6, here6): (IpAddr, IpAddr) = ("fd76::1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        let diverted = diverted(
            &["10.96.0.0/16", "203.0.113.9/32", "fd00:96::/112"],
            &["192.0.2.1:80", "192.0.2.1:30080", "[2001:db8::1]:30080"],
        );
        let mut all = ways(&diverted, &[INWARD, inward6], &[HERE, here6]);
        all.extend([Way::Local(Family::Ipv4), Way::Local(Family::Ipv6)]);
        assert_eq!(all.len(), 16);
        for way in &all {
            let seen = match way.message(DEVICE) {
                Message::Route(route) => read_route(&route),
                Message::Rule(rule) => read_rule(&rule),
            };
            assert!(matches!(seen, Seen::Way(read) if read == *way), "{way:?}");
        }
        assert!(ways(&diverted, &[INWARD, inward6], &[]).is_empty(), "nothing is sent from nowhere");
    }

    #[test]
    fn a_route_from_another_source_takes_the_place_of_the_old_one() {
        let mut diversion = Diversion { seen: [Way::Local(Family::Ipv4)].into(), strays: Vec::new() };
        let diverted = diverted(&["10.96.0.0/16"], &[]);
        carry_out(&mut diversion, &ways(&diverted, &[], &[HERE]));
        let (net, other): (IpNet, IpAddr) = ("10.96.0.0/16".parse().unwrap(), "192.0.2.9".parse().unwrap());
        let steps = diversion.steps(&ways(&diverted, &[], &[other]));
        assert_eq!(steps, [Step::Remove(Way::Route(net, HERE)), Step::Add(Way::Route(net, other))]);
    }

    #[test]
    fn a_rule_that_bears_our_mark_and_is_none_of_ours_is_cleared() {
        let Message::Rule(mut old) = Way::Services(Family::Ipv4).message(DEVICE) else { panic!("a rule") };
        old.attributes.push(RuleAttribute::FwMark(1));
        old.attributes.retain(|attribute| !matches!(attribute, RuleAttribute::Iifname(_)));
        let mut diversion = Diversion::default();
        assert!(diversion.apply(&RouteNetlinkMessage::NewRule(*old.clone())));
        assert_eq!(diversion.steps(&BTreeSet::new()), [Step::Clear(old.clone())]);
        diversion.done(&Step::Clear(old));
        assert_eq!(diversion.steps(&BTreeSet::new()), []);
    }

    proptest! {
        #[test]
        fn ranges_hold_all_ports_and_are_few(ports in proptest::collection::btree_set(1u16.., 1..40)) {
            let ranges = ranges(&ports);
            prop_assert!(ranges.len() <= MOST_RANGES);
            prop_assert!(ports.iter().all(|port| ranges.iter().any(|range| range.contains(*port))));
            prop_assert!(ranges.windows(2).all(|pair| pair[0].last < pair[1].first));
            prop_assert!(ranges.iter().all(|range| ports.contains(&range.first) && ports.contains(&range.last)));
        }
    }
}
