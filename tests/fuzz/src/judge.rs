//! What always holds. Everything here is read from bytes and public counters, by etherparse where it is a packet: nothing
//! that levee believes about a frame is believed.
//!
//! - Every frame of the UMEM is in exactly one place, and none was ever lost.
//! - Received = forwarded + hairpinned + passed + dropped + waiting, whenever all is quiet; what waits is counted.
//! - What leaves an uplink shows no MAC but the port's, in Ethernet, inside ARP and inside Neighbour Discovery, and goes to one
//!   station, unless it is an announcement or of a group of `multicast`. The counters of broken contracts, which mean bugs,
//!   stay 0.
//! - No ARP request leaves but announcements that somebody asked for, and no solicitation, nor anything of a router's.
//! - A checksum is wrong in what is sent only if one was wrong in what came.
//! - What is passed to the kernel is, byte for byte, what came; and where there is a way to the kernel it is found.
//! - Nothing is sent to one station, nor passed from pods, for an address of IPv4 that is no station's; nor passed from anywhere for one that
//!   is not many stations' either.
//! - A reply of a backend does not leave as it came if a flow translated it all the while that it was here. (What was
//!   decided before there was a flow, or while its backend was gone, may still be in a backlog.)
//! - An ICMP error that was translated tells whoever sent what it quotes; one that tells somebody else leaves as it came.
//! - What is unwrapped ends once, as what it carried; so it is counted, and so its checksums are judged.
//! - Each flow is found by both of its tuples, and is the only one so found; its source port is its worker's, and of a protocol
//!   without ports its source is an address of levee's alone.
//! - A flow begins with a backend of the service that the program means ([`oracle`](crate::oracle)), in the pool; where clients choose the
//!   port, at that port. No ICMP is a flow. A client whose first packet names a backend by its connection ID gets that one.
//! - What has no ports is sent with every byte behind its IP header as it came; SCTP, but for its ports and checksum.

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, Ipv6Addr};

use etherparse::{
    ArpPacketSlice, EtherType, Ethernet2HeaderSlice, Icmpv4Header, IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice,
    SingleVlanHeaderSlice, TcpHeaderSlice, UdpHeaderSlice,
};
use levee_api::net::{Mac, Role};
use levee_api::program::{Mode, Program, Service};
use levee_dataplane::flows::{Direction, Flow, Flows, Tuple};
use levee_dataplane::tables::service::FrontendKey;
use levee_dataplane::tables::{Port, Tables};
use levee_dataplane::verdict::{Endpoint, PortId};

use crate::connection::named;
use crate::oracle::{has_ports, serving};
use crate::sctp;

/// The counters that the judge compares, summed over workers.
#[derive(Debug, Clone, Copy)]
pub struct Totals {
    /// `rx`
    pub received: u64,
    /// `forwarded`
    pub forwarded: u64,
    /// `hairpinned`
    pub hairpinned: u64,
    /// `passed`
    pub passed: u64,
    /// All drops.
    pub dropped: u64,
    /// `waiting`
    pub waiting: u64,
    /// Drops that say "a bug; report it".
    pub bugs: u64,
    /// Drops because the way to the kernel failed.
    pub not_passed: u64,
}

/// A frame that came and may not have ended yet.
struct Input {
    frame: Vec<u8>,
    tuple: Option<Tuple>,
    /// A flow has translated such replies of a backend ever since it came.
    reply: bool,
}

/// See the module's documentation.
pub struct Judge {
    leaked: u64,
    inputs: Vec<Input>,
    /// Inputs with a wrong checksum that may still come out.
    wrong: usize,
    /// MACs that each port has had. A frame decided under the last one may still be in a backlog.
    shown: BTreeSet<(PortId, Mac)>,
    injected: Vec<Vec<u8>>,
    /// Every port has a way to the kernel.
    passes: bool,
    /// Each worker's flows when they were last looked at: client, frontend, backend and protocol.
    flows: Vec<HashSet<(Endpoint, Endpoint, Endpoint, u8)>>,
}

impl Judge {
    /// At the beginning of a scene.
    #[must_use]
    pub fn new(tables: &Tables) -> Self {
        Judge {
            leaked: af_xdp::Frame::leaked(),
            inputs: Vec::new(),
            wrong: 0,
            shown: tables.ports.iter().zip(0..).map(|(port, id)| (PortId(id), port.mac)).collect(),
            injected: Vec::new(),
            // (The host's own stack is no way to the kernel for what comes from it.)
            passes: tables.ports.iter().all(|port| port.passes || port.role == Role::Host),
            flows: vec![HashSet::new(); tables.workers],
        }
    }

    /// A port's MAC changes.
    pub fn shows(&mut self, port: PortId, mac: Mac) {
        self.shown.insert((port, mac));
    }

    /// A frame has come.
    pub fn received<'a>(&mut self, frame: &[u8], tables: &Tables, flows: impl Iterator<Item = &'a Flows>) {
        // What is unwrapped comes out with the checksums that it had inside.
        let inside = || carried(frame).is_some_and(|inner| inner.is_none_or(|inner| checksums(&inner) == Some(false)));
        if checksums(frame) == Some(false) || inside() {
            self.wrong += 1;
        }
        let tuple = tuple(frame);
        let reply = tuple.is_some_and(|tuple| translated(&tuple, tables, flows));
        self.inputs.push(Input { frame: frame.to_vec(), tuple, reply });
    }

    /// Tables or flows may be others now: what is no reply any more was none when it was decided, for all that we know.
    pub fn changed<'a>(&mut self, tables: &Tables, flows: impl Iterator<Item = &'a Flows> + Clone) {
        for input in &mut self.inputs {
            input.reply = input.reply && input.tuple.is_some_and(|tuple| translated(&tuple, tables, flows.clone()));
        }
    }

    /// A frame of levee's own is to be sent.
    pub fn injected(&mut self, frame: &[u8], port: Option<&Port>) {
        if port.is_some() {
            self.injected.push(frame.to_vec());
            self.wrong += usize::from(checksums(frame) == Some(false));
        }
    }

    /// A frame has been sent.
    ///
    /// # Panics
    /// If it should not have been.
    pub fn sent<'a>(&mut self, frame: &[u8], id: PortId, tables: &Tables, flows: impl Iterator<Item = &'a Flows>) {
        let own = self.injected.iter().any(|injected| injected == frame);
        let may_show = |mac: [u8; 6]| self.shown.contains(&(id, Mac(mac)));
        if let Err(wrong) = contract(frame, may_show) {
            panic!("sent out of {id:?}: {wrong}: {frame:02x?}");
        }
        let port = tables.port(id).expect("a port");
        let link = Link::of(frame).expect("judged by the contract");
        if port.role == Role::Uplink && !own {
            assert!(!link.arp_request, "an ARP request left {id:?}: {frame:02x?}");
            let told = link.discovery.as_ref().is_none_or(|discovery| discovery.kind == 136);
            assert!(told, "a question of Neighbour Discovery left {id:?}: {frame:02x?}");
            let group: ipnet::Ipv6Net = "ff05::1:0:0/96".parse().expect("a prefix");
            let allowed = !link.destination.is_multicast()
                || tuple_addresses(frame).is_some_and(|(_, to)| to.octets().starts_with(&[239, 1]))
                || ipv6(frame).is_some_and(|ip| group.contains(&Ipv6Addr::from(ip.to)));
            assert!(allowed, "sent to a group out of {id:?}: {frame:02x?}");
        }
        if let Some((_, to)) = tuple_addresses(frame) {
            let lost = !link.destination.is_multicast() && no_stations(to);
            assert!(own || !lost, "sent to one station out of {id:?}, for {to}: {frame:02x?}");
        }
        if checksums(frame) == Some(false) {
            assert!(self.wrong > 0, "a wrong checksum that did not come so: {frame:02x?}");
            self.wrong -= 1;
        }
        if let Some((protocol, body)) = untouchable(frame)
            && !own
            && (!matches!(protocol, 4 | 41) || tables.tunnels.is_empty())
        {
            let sent = Some((protocol, body));
            let came = |frame: &[u8]| untouchable(frame) == sent;
            let inside = |frame: &[u8]| carried(frame).flatten().is_some_and(|inner| came(&inner));
            let came = self.inputs.iter().any(|input| came(&input.frame) || inside(&input.frame));
            assert!(came, "protocol {protocol} was changed behind its IP header, out of {id:?}: {frame:02x?}");
        }
        if let Some((told, about)) = complaint(frame)
            && told != about
        {
            let packet = |frame: &[u8]| ipv4(frame).map(|ip| ip.payload.to_vec());
            let came = self.inputs.iter().any(|input| packet(&input.frame) == packet(frame));
            assert!(came, "an error about {about}'s packet was made to tell {told} out of {id:?}: {frame:02x?}");
        }
        if let Some(tuple) = tuple(frame) {
            let mut same = self.inputs.iter().filter(|input| input.tuple == Some(tuple)).peekable();
            let reply = same.peek().is_some() && same.all(|input| input.reply) && translated(&tuple, tables, flows);
            assert!(!reply, "a reply left untranslated out of {id:?}, {tuple:?}: {frame:02x?}");
        }
    }

    /// A frame of a port has been passed to the kernel.
    ///
    /// # Panics
    /// If it is not as it came, or should not have been passed.
    pub fn passed(&self, frame: &[u8], from: Role) {
        if let (Some((_, to)), Some(link)) = (tuple_addresses(frame), Link::of(frame)) {
            let for_many = to.is_multicast() || to.is_broadcast();
            let lost = !link.destination.is_multicast() && no_stations(to) && !(for_many && from == Role::Uplink);
            assert!(!lost, "passed from {from:?} to the kernel, for {to}: {frame:02x?}");
        }
        let came = self.inputs.iter().any(|input| input.frame == frame);
        assert!(came, "passed to the kernel, but did not come so: {frame:02x?}");
    }

    /// Frames have been counted.
    ///
    /// # Panics
    /// If one is missing, or there twice.
    pub fn frames(&self, held: usize, all: usize, leaked: u64) {
        assert_eq!(leaked, self.leaked, "a frame was dropped in the program");
        assert_eq!(held, all, "frames in all places together, and frames of the UMEM");
    }

    /// Nobody has anything to do.
    ///
    /// # Panics
    /// If something has not ended, or ended in a way that says "a bug".
    pub fn quiet(&mut self, totals: &Totals, pending: usize) {
        let ended = totals.forwarded + totals.hairpinned + totals.passed + totals.dropped;
        assert_eq!(totals.received, ended + totals.waiting, "each frame ends once: {totals:?}");
        assert_eq!(totals.bugs, 0, "the contract was broken, and the last look has caught it: {totals:?}");
        assert!(!self.passes || totals.not_passed == 0, "a way to the kernel was not found: {totals:?}");
        // Otherwise some are in backlogs, where the ring is full, or wait for a next hop, and come out later.
        if pending == 0 {
            self.inputs.clear();
            self.injected.clear();
            self.wrong = 0;
        }
    }

    /// The flows of a worker.
    ///
    /// # Panics
    /// If one cannot be found, or two are found as one.
    pub fn flows(&mut self, flows: &Flows, worker: usize, tables: &Tables, program: &Program) {
        let mut now = HashSet::new();
        for (id, flow) in flows.page(0, usize::MAX).0 {
            let key = (flow.client(), flow.frontend(), flow.backend(), flow.protocol());
            if self.flows.get(worker).is_some_and(|before| !before.contains(&key)) {
                self.begun(&flow, program);
            }
            now.insert(key);
            let forward = Tuple { source: flow.client(), destination: flow.frontend(), protocol: flow.protocol() };
            assert_eq!(flows.find(&forward), Some((id, Direction::Forward)), "{flow:?}");
            if flow.replies_pass() {
                let reverse = Tuple { source: flow.backend(), destination: flow.source(), protocol: flow.protocol() };
                assert_eq!(flows.find(&reverse), Some((id, Direction::Reverse)), "{flow:?}");
            }
            if flow.mode() == Mode::Nat && !has_ports(flow.protocol()) {
                let Endpoint { address, port } = flow.source();
                let mut ranges = [&tables.snat, &tables.host_snat].into_iter().flat_map(|sources| sources.ranges());
                assert!(port == 0 && ranges.any(|range| range.address == address), "{flow:?}");
                assert_eq!(worker, 0, "its answers are looked for elsewhere: {flow:?}");
            } else if flow.mode() == Mode::Nat {
                let range = tables.snat_range(flow.source().address, flow.source().port).expect("a range");
                assert_eq!(range.worker(flow.source().port, tables.workers), Some(worker), "{flow:?}");
            }
        }
        if let Some(before) = self.flows.get_mut(worker) {
            *before = now;
        }
    }

    /// A flow has begun, in the turn before this look.
    fn begun(&self, flow: &Flow, program: &Program) {
        let (to, backend) = (flow.frontend(), flow.backend());
        let served = serving(program, to.address.into(), to.port, flow.protocol(), flow.from);
        let served = served.unwrap_or_else(|| panic!("a flow began where nobody serves: {flow:?}"));
        let Some(chosen) = served.backend(backend.address.into(), backend.port, to.port) else {
            panic!("a flow began with a backend that is not of `{}`: {flow:?}", served.service.name);
        };
        assert!(served.may_choose(chosen), "a flow began with a backend that its pool has not: {flow:?}, {chosen:?}");
        if served.service.quic.is_empty() {
            return;
        }
        // Whatever has begun it is still among what came; what has no tuple may be a fragment of it, and those are not read.
        let forward = flow.forward();
        let between = Some((IpAddr::from(forward.source.address), IpAddr::from(forward.destination.address)));
        let may_be = |input: &&Input| input.tuple.is_none_or(|tuple| tuple == forward) && ends(&input.frame) == between;
        let mut said = self.inputs.iter().filter(may_be).map(|input| names(served.service, &input.frame));
        let Some(Some(first)) = said.next() else { return };
        let named = served.service.backends.iter().find(|backend| backend.address == first);
        if said.all(|other| other == Some(first)) && named.is_some_and(|named| served.may_choose(named)) {
            assert_eq!(IpAddr::from(backend.address), first, "its connection ID names another backend: {flow:?}");
        }
    }
}

/// The backend that a datagram's connection ID names.
fn names(service: &Service, frame: &[u8]) -> Option<IpAddr> {
    let payload = match (ipv4(frame), ipv6(frame)) {
        (Some(ip), _) if ip.whole && ip.header.protocol() == IpNumber::UDP => ip.payload,
        (_, Some(ip)) if ip.whole && ip.next == 17 => ip.payload,
        _ => return None,
    };
    named(service, payload.get(8..)?)
}

/// The addresses of an IP frame.
fn ends(frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match (ipv4(frame), ipv6(frame)) {
        (Some(ip), _) => Some((ip.header.source_addr().into(), ip.header.destination_addr().into())),
        (_, Some(ip)) => Some((ip.from.into(), ip.to.into())),
        _ => None,
    }
}

/// What nobody on the way may touch, of a whole packet in a protocol that levee knows no more of than ports: with the protocol's number.
fn untouchable(frame: &[u8]) -> Option<(u8, Vec<u8>)> {
    let (protocol, payload) = match (ipv4(frame), ipv6(frame)) {
        (Some(ip), _) if ip.whole => (ip.header.protocol().0, ip.payload),
        (_, Some(ip)) if ip.whole => (ip.next, ip.payload),
        _ => return None,
    };
    match protocol {
        1 | 6 | 17 | 58 => None,
        132 => Some((protocol, [payload.get(4..8)?, payload.get(12..)?].concat())),
        _ => Some((protocol, payload.to_vec())),
    }
}

/// Whether a flow of anybody's translates packets of this tuple, as replies.
fn translated<'a>(tuple: &Tuple, tables: &Tables, mut flows: impl Iterator<Item = &'a Flows>) -> bool {
    // A client that sends from an address of levee's own gets no replies: they are requests to that address.
    let Endpoint { address, port } = tuple.destination;
    let ours = tables.owner(address).vip
        || [Role::Uplink, Role::Pods]
            .into_iter()
            .any(|from| tables.frontends.get(&FrontendKey { address, port, protocol: tuple.protocol, from }).is_some());
    let source = tables.owner(tuple.source.address);
    let backend = tables.may_reply(tuple.source, tuple.protocol, source);
    let translates = |flows: &Flows| {
        matches!(flows.find(tuple), Some((id, Direction::Reverse))
            if flows.get(id).is_some_and(|flow| flow.mode() != Mode::Dsr))
    };
    !ours && backend && flows.any(translates)
}

/// What etherparse reads in front of a packet.
struct Link<'a> {
    destination: Mac,
    source: [u8; 6],
    /// Of ARP: `ar$sha`.
    arp_sender: Option<[u8; 6]>,
    arp_request: bool,
    /// The IPv4 packet, to the end of the frame.
    ipv4: Option<&'a [u8]>,
    /// The IPv6 packet, to the end of the frame.
    ipv6: Option<&'a [u8]>,
    discovery: Option<Discovery>,
}

/// A message of Neighbour Discovery, as far as it can be read.
struct Discovery {
    kind: u8,
    macs: Vec<[u8; 6]>,
}

impl Discovery {
    /// RFC 4861, 4.6: the options behind the fixed part of each message.
    fn of(packet: &[u8]) -> Option<Self> {
        let ip = read_ipv6(packet).filter(|ip| ip.whole && ip.next == 58)?;
        let kind = *ip.payload.first()?;
        let fixed = match kind {
            133 => 8,
            134 => 16,
            135 | 136 => 24,
            137 => 40,
            _ => return None,
        };
        let (mut rest, mut macs) = (ip.payload.get(fixed..)?, Vec::new());
        while let [option, length @ 1..=255, ..] = *rest {
            let bytes = rest.get(..usize::from(length) * 8)?;
            if matches!(option, 1 | 2) {
                macs.push(bytes[2..8].try_into().ok()?);
            }
            rest = &rest[bytes.len()..];
        }
        Some(Discovery { kind, macs })
    }
}

/// An IPv6 packet behind the extension headers that hide nothing.
struct Ipv6<'a> {
    from: [u8; 16],
    to: [u8; 16],
    next: u8,
    payload: &'a [u8],
    whole: bool,
}

fn ipv6(frame: &[u8]) -> Option<Ipv6<'_>> {
    read_ipv6(Link::of(frame)?.ipv6?)
}

fn read_ipv6(packet: &[u8]) -> Option<Ipv6<'_>> {
    let header = Ipv6HeaderSlice::from_slice(packet).ok()?;
    let mut payload = packet.get(40..40 + usize::from(header.payload_length()))?;
    let (mut next, mut whole) = (header.next_header().0, true);
    while whole && matches!(next, 0 | 43 | 44 | 60) {
        let length = if next == 44 { 8 } else { (usize::from(*payload.get(1)?) + 1) * 8 };
        // What a routing header says that is still to come is for others to read.
        whole = match next {
            43 => *payload.get(3)? == 0,
            44 => payload.get(2..4)?[0] == 0 && payload[3] & 0xf9 == 0,
            _ => true,
        };
        (next, payload) = (payload[0], payload.get(length..)?);
    }
    Some(Ipv6 { from: header.source(), to: header.destination(), next, payload, whole })
}

/// Whether the checksum of an IPv6 packet's transport is right.
fn checksum_of_ipv6(ip: &Ipv6<'_>) -> Option<bool> {
    if !ip.whole {
        return Some(true);
    }
    match ip.next {
        6 => {
            let tcp = TcpHeaderSlice::from_slice(ip.payload).ok()?;
            let data = ip.payload.get(tcp.slice().len()..)?;
            Some(tcp.calc_checksum_ipv6_raw(ip.from, ip.to, data).ok()? == tcp.checksum())
        }
        17 => {
            let udp = UdpHeaderSlice::from_slice(ip.payload).ok()?;
            let data = ip.payload.get(8..usize::from(udp.length()))?;
            let computed = udp.to_header().calc_checksum_ipv6_raw(ip.from, ip.to, data).ok()?;
            Some(udp.checksum() == 0 || udp.checksum() == computed)
        }
        132 => sctp::is_right(ip.payload),
        58 => {
            let length = (ip.payload.len() as u32).to_be_bytes();
            let mut sum = etherparse::checksum::Sum16BitWords::new().add_16bytes(ip.from).add_16bytes(ip.to);
            let sum = sum.add_4bytes(length).add_4bytes([0, 0, 0, 58]).add_slice(ip.payload);
            (ip.payload.len() >= 8).then(|| sum.ones_complement() == 0)
        }
        _ => Some(true),
    }
}

impl<'a> Link<'a> {
    fn of(frame: &'a [u8]) -> Option<Self> {
        let link = Ethernet2HeaderSlice::from_slice(frame).ok()?;
        let (mut rest, mut announced) = (frame.get(14..)?, link.ether_type());
        while [EtherType::VLAN_TAGGED_FRAME, EtherType::PROVIDER_BRIDGING].contains(&announced) {
            announced = SingleVlanHeaderSlice::from_slice(rest).ok()?.ether_type();
            rest = rest.get(4..)?;
        }
        let arp = match announced {
            EtherType::ARP => Some(ArpPacketSlice::from_slice(rest).ok()?.to_packet().try_eth_ipv4().ok()?),
            _ => None,
        };
        Some(Link {
            destination: Mac(link.destination()),
            source: link.source(),
            arp_sender: arp.as_ref().map(|arp| arp.sender_mac),
            arp_request: arp.is_some_and(|arp| arp.operation.0 == 1),
            ipv4: (announced == EtherType::IPV4).then_some(rest),
            ipv6: (announced == EtherType::IPV6).then_some(rest),
            discovery: if announced == EtherType::IPV6 { Discovery::of(rest) } else { None },
        })
    }
}

/// What a sent frame may show of MACs.
fn contract(frame: &[u8], may_show: impl Fn([u8; 6]) -> bool) -> Result<(), &'static str> {
    let link = Link::of(frame).ok_or("its link layer cannot be read")?;
    if !may_show(link.source) {
        return Err("its source is not the port's MAC");
    }
    if link.arp_sender.is_some_and(|sender| !may_show(sender)) {
        return Err("the ARP inside it shows another MAC");
    }
    if link.discovery.is_some_and(|discovery| !discovery.macs.into_iter().all(may_show)) {
        return Err("the Neighbour Discovery inside it shows another MAC");
    }
    if link.destination == Mac::ZERO {
        return Err("it is for nobody");
    }
    Ok(())
}

struct Ipv4<'a> {
    header: Ipv4HeaderSlice<'a>,
    payload: &'a [u8],
    whole: bool,
}

fn ipv4(frame: &[u8]) -> Option<Ipv4<'_>> {
    let packet = Link::of(frame)?.ipv4?;
    let header = Ipv4HeaderSlice::from_slice(packet).ok()?;
    let payload = packet.get(header.slice().len()..usize::from(header.total_len()))?;
    let whole = header.fragments_offset().value() == 0 && !header.more_fragments();
    Some(Ipv4 { header, payload, whole })
}

/// Whom an ICMP error tells, and whose packet it quotes.
fn complaint(frame: &[u8]) -> Option<(std::net::Ipv4Addr, std::net::Ipv4Addr)> {
    let ip = ipv4(frame).filter(|ip| ip.whole && ip.header.protocol() == IpNumber::ICMP)?;
    if !matches!(ip.payload.first()?, 3 | 11 | 12) {
        return None;
    }
    let quoted = Ipv4HeaderSlice::from_slice(ip.payload.get(8..)?).ok()?;
    Some((ip.header.destination_addr(), quoted.source_addr()))
}

/// The frame that could be made of what a tunnel's packet carries; `Some(None)`: it looks like one, but cannot be read here.
fn carried(frame: &[u8]) -> Option<Option<Vec<u8>>> {
    let (protocol, payload) = match (ipv4(frame), ipv6(frame)) {
        (Some(ip), _) if ip.whole => (ip.header.protocol().0, ip.payload),
        (_, Some(ip)) if ip.whole => (ip.next, ip.payload),
        _ => return None,
    };
    let of_type = |ethertype: [u8; 2], packet: &[u8]| Some([&[2; 12][..], &ethertype, packet].concat());
    let of_protocol = |protocol: u8, packet: &[u8]| match protocol {
        4 => of_type([0x08, 0x00], packet),
        41 => of_type([0x86, 0xdd], packet),
        _ => None,
    };
    let bridged =
        |at: usize| payload.get(at + 12..).and_then(|rest| of_type([*rest.first()?, *rest.get(1)?], &rest[2..]));
    match (protocol, payload.get(2..4)) {
        (4 | 41, _) => Some(of_protocol(protocol, payload)),
        (17, Some([0x12, 0xb5])) => Some(bridged(16)),
        (17, Some([0x17, 0xc1])) => Some(payload.get(8).and_then(|first| bridged(16 + usize::from(first & 0x3f) * 4))),
        (17, Some([0x17, 0xc0])) => Some(match payload.get(8..) {
            Some([first, protocol, ..]) if first >> 6 == 0 => {
                payload.get(12 + usize::from(first & 0x1f) * 4..).and_then(|inner| of_protocol(*protocol, inner))
            }
            Some(inner @ [first, ..]) => of_protocol(if first >> 4 == 4 { 4 } else { 41 }, inner),
            _ => None,
        }),
        _ => None,
    }
}

/// RFC 6890, 2.2: what may not be a packet's destination, and what may not be forwarded to a single one.
fn no_stations(to: std::net::Ipv4Addr) -> bool {
    let [first, ..] = to.octets();
    first == 0 || to.is_loopback() || to.is_multicast() || first >= 240
}

fn tuple_addresses(frame: &[u8]) -> Option<(std::net::Ipv4Addr, std::net::Ipv4Addr)> {
    ipv4(frame).map(|ip| (ip.header.source_addr(), ip.header.destination_addr()))
}

fn tuple(frame: &[u8]) -> Option<Tuple> {
    let (from, to, protocol, payload) = match (ipv4(frame), ipv6(frame)) {
        (Some(ip), _) if ip.whole => {
            let ends = (IpAddr::from(ip.header.source_addr()), IpAddr::from(ip.header.destination_addr()));
            (ends.0, ends.1, ip.header.protocol(), ip.payload)
        }
        (_, Some(ip)) if ip.whole => (ip.from.into(), ip.to.into(), IpNumber(ip.next), ip.payload),
        _ => return None,
    };
    let (source, destination) = match protocol {
        IpNumber::TCP => {
            let tcp = TcpHeaderSlice::from_slice(payload).ok()?;
            (tcp.source_port(), tcp.destination_port())
        }
        IpNumber::UDP => {
            let udp = UdpHeaderSlice::from_slice(payload).ok()?;
            (udp.source_port(), udp.destination_port())
        }
        IpNumber::SCTP => match *payload.get(..12)? {
            [a, b, c, d, ..] => (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])),
            _ => return None,
        },
        IpNumber::ICMP | IpNumber::IPV6_ICMP => return None,
        _ => (0, 0),
    };
    Some(Tuple {
        source: Endpoint { address: from.into(), port: source },
        destination: Endpoint { address: to.into(), port: destination },
        protocol: protocol.0,
    })
}

/// Whether every checksum of an IP frame is right, as far as the frame shows; `None` if it is none, or cannot be read.
fn checksums(frame: &[u8]) -> Option<bool> {
    if let Some(ip) = ipv6(frame) {
        return checksum_of_ipv6(&ip);
    }
    let ip = ipv4(frame)?;
    // etherparse's own computation for a header that was read forgets the reserved flag.
    if etherparse::checksum::Sum16BitWords::new().add_slice(ip.header.slice()).ones_complement() != 0 {
        return Some(false);
    }
    if !ip.whole {
        return Some(true);
    }
    let (from, to) = (ip.header.source(), ip.header.destination());
    match ip.header.protocol() {
        IpNumber::TCP => {
            let tcp = TcpHeaderSlice::from_slice(ip.payload).ok()?;
            let data = ip.payload.get(tcp.slice().len()..)?;
            Some(tcp.calc_checksum_ipv4_raw(from, to, data).ok()? == tcp.checksum())
        }
        IpNumber::UDP => {
            let udp = UdpHeaderSlice::from_slice(ip.payload).ok()?;
            let data = ip.payload.get(8..usize::from(udp.length()))?;
            let computed = udp.to_header().calc_checksum_ipv4_raw(from, to, data).ok()?;
            Some(udp.checksum() == 0 || udp.checksum() == computed)
        }
        IpNumber::ICMP => {
            let (header, data) = Icmpv4Header::from_slice(ip.payload).ok()?;
            Some(Icmpv4Header::with_checksum(header.icmp_type, data).checksum == header.checksum)
        }
        IpNumber::SCTP => sctp::is_right(ip.payload),
        _ => Some(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cast::{CLIENT_MAC, UPLINK_MAC};
    use crate::frames::fixtures;

    /// A named frame as if the node had sent it, changed.
    fn changed(change: impl Fn(&mut Vec<u8>)) -> Vec<Vec<u8>> {
        let good = fixtures().iter().filter(|frame| checksums(frame) == Some(true));
        good.map(|frame| {
            let mut frame = frame.clone();
            frame[6..12].copy_from_slice(&UPLINK_MAC.0);
            change(&mut frame);
            frame
        })
        .collect()
    }

    #[test]
    fn a_foreign_mac_is_seen_in_ethernet_and_inside_arp() {
        let may_show = |mac| mac == UPLINK_MAC.0;
        let mut seen = 0;
        for frame in changed(|_| ()) {
            // The client's, in options of Neighbour Discovery.
            let shown = Link::of(&frame).and_then(|link| link.discovery).is_some_and(|said| !said.macs.is_empty());
            seen += usize::from(shown);
            let expected = if shown { Err("the Neighbour Discovery inside it shows another MAC") } else { Ok(()) };
            assert_eq!(contract(&frame, may_show), expected);
        }
        assert!(seen > 3, "{seen}");
        for frame in changed(|frame| frame[6..12].copy_from_slice(&CLIENT_MAC.0)) {
            assert_eq!(contract(&frame, may_show), Err("its source is not the port's MAC"));
        }
        let mut arp = fixtures().iter().find(|frame| frame[12..14] == [8, 6]).expect("one with ARP").clone();
        arp[6..12].copy_from_slice(&UPLINK_MAC.0);
        assert_eq!(contract(&arp, may_show), Err("the ARP inside it shows another MAC"));
        arp[22..28].copy_from_slice(&UPLINK_MAC.0);
        assert_eq!(contract(&arp, may_show), Ok(()));
        arp[..6].fill(0);
        assert_eq!(contract(&arp, may_show), Err("it is for nobody"));
    }

    #[test]
    fn a_changed_byte_is_a_wrong_checksum() {
        let frames = changed(|frame| {
            let ttl = frame.windows(2).skip(14).position(|pair| pair == [0x40, 0x00]).map_or(22, |at| at + 14);
            frame[ttl] ^= 0x55;
        });
        let wrong = frames.iter().filter(|frame| checksums(frame) == Some(false)).count();
        assert!(wrong > 5, "{wrong} of {}", frames.len());
    }
}
