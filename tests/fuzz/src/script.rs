//! What happens in a story: a scene, then steps, each drawn from the bytes.

use std::net::IpAddr;

use arbitrary::{Result, Unstructured};
use levee_api::net::Mac;
use levee_api::program::{MidStream, Mode, Pool};
use levee_api::quic::Config;
use levee_api::tunnel::Encapsulation;
use levee_dataplane::flows::Millis;
use levee_dataplane::verdict::PortId;

use crate::cast::{self, ADDRESSES, BACKENDS, INNER, INNER_MAC, MACS, PORTS, UPLINK, UPLINK_MAC};
use crate::frames;
use crate::stage::Stage;

/// How bytes are read. What was kept once is to mean the same for ever, so what is drawn may only change in a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Edition {
    /// Without a mark.
    First,
    /// Behind [`Edition::MARK`]: routers complain about what was sent, and more is fragmented.
    Second,
    /// Behind [`Edition::THIRD`]: tunnels begin and end here, and the host's own stack may have a port.
    Third,
    /// Behind [`Edition::FOURTH`]: ranges of ports, whole addresses, and connection IDs of QUIC.
    Fourth,
    /// Behind [`Edition::FIFTH`]: what fragments of IPv6 are of begins with options, or is named as somebody likes.
    Fifth,
}

impl Edition {
    /// What a story of the second edition begins with.
    pub const MARK: &[u8] = b"2\n";
    /// What one of the third begins with.
    pub const THIRD: &[u8] = b"3\n";
    /// What one of the fourth begins with.
    pub const FOURTH: &[u8] = b"4\n";
    /// What one of the fifth begins with.
    pub const FIFTH: &[u8] = b"5\n";

    /// The edition of some bytes, and what it reads.
    #[must_use]
    pub fn of(bytes: &[u8]) -> (Edition, &[u8]) {
        let marks = [
            (Edition::Second, Edition::MARK),
            (Edition::Third, Edition::THIRD),
            (Edition::Fourth, Edition::FOURTH),
            (Edition::Fifth, Edition::FIFTH),
        ];
        let marked = |(edition, mark)| Some((edition, bytes.strip_prefix(mark)?));
        marks.into_iter().find_map(marked).unwrap_or((Edition::First, bytes))
    }
}

/// What stays the same throughout a story.
#[derive(Debug, Clone)]
pub struct Scene {
    /// A node, with pods behind its second port; otherwise a balancer with two uplinks.
    pub node: bool,
    /// One or two.
    pub workers: usize,
    /// Which worker has which port's queue.
    pub layout: Layout,
    /// Whether the uplink has a way to the kernel.
    pub passes: bool,
    /// Whether there are source addresses for `nat`.
    pub snat: bool,
    /// How most services reach their backends at first.
    pub mode: Mode,
    /// Entries in each worker's flow table.
    pub flows: usize,
    /// Entries in each port's rings.
    pub ring: usize,
    /// ARP answers and other answers a second, for each asker.
    pub rate: u32,
    /// The worker's clock at the beginning.
    pub now: Millis,
    /// Whether everybody speaks IPv6, from the [twins](crate::cast::twin) of their addresses.
    pub six: bool,
    /// The kind of tunnel that packets are wrapped for; those of all kinds are unwrapped.
    pub tunnel: Option<Encapsulation>,
    /// Whether the family of tunnels' ends is the other one.
    pub crossed: bool,
    /// Whether the host's own stack has a port.
    pub host: bool,
    /// Whether there are services of ranges of ports, of whole addresses, and of QUIC.
    pub wide: bool,
}

/// Who has which queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Every worker has a queue of every port.
    Every,
    /// The first port is the first worker's, the second the last one's.
    Apart,
    /// Both are the first worker's.
    First,
}

/// One thing that happens.
#[derive(Debug, Clone)]
pub enum Step {
    /// Frames arrive at a port's queue; then perhaps everything runs until it is quiet.
    Arrive {
        /// Which queue, of all that there are.
        queue: usize,
        /// The frame.
        frame: Vec<u8>,
        /// How often it comes.
        copies: usize,
        /// Whether the workers get a turn.
        run: bool,
    },
    /// One worker turns once.
    Turn(usize),
    /// Time passes.
    Wait(Millis),
    /// The transmit rings have this much room.
    Room(usize),
    /// A backend of a service comes with these pools, or goes.
    Backend {
        /// Which service, of those that there are.
        service: usize,
        /// Which of [`BACKENDS`].
        backend: usize,
        /// `None`: it goes.
        pools: Option<Vec<Pool>>,
    },
    /// A service of the first program goes, or comes back.
    Service(usize),
    /// A service reaches its backends differently.
    Reach(usize, Mode),
    /// A VIP goes or comes back.
    Vip(usize),
    /// The node's pods go or come back.
    Pods,
    /// A neighbour's MAC becomes known, another, or unknown.
    Neighbour(PortId, IpAddr, Option<Mac>),
    /// The node's address is the kernel's, or not.
    Kernel(bool),
    /// There is a default route, or not.
    Route(bool),
    /// The kernel reports another MAC for a port.
    PortMac(PortId, Mac),
    /// The ranges of a service end elsewhere: perhaps where another one has begun, which is refused.
    Range(usize, u16),
    /// A service's backends make connection IDs by these configurations.
    Quic(usize, Vec<Config>),
    /// What becomes of a service's segments that are of no flow.
    MidStream(usize, Option<MidStream>),
    /// Somebody flushes flows of a protocol, or all.
    Flush(Option<u8>),
    /// Somebody sends a frame of levee's own.
    Inject(PortId, Vec<u8>),
}

const MODES: [Mode; 3] = [Mode::Nat, Mode::Dnat, Mode::Dsr];
/// With tunnels.
const ALL_MODES: [Mode; 4] = [Mode::Tunnel, Mode::Nat, Mode::Dnat, Mode::Dsr];

impl Scene {
    /// Draws a scene.
    pub fn draw(source: &mut Unstructured<'_>, edition: Edition) -> Result<Self> {
        // Told by the story's length: it costs no byte, and stories that once failed stay what they were.
        let six = matches!(source.len() % 5, 0 | 3);
        let workers = source.int_in_range(1..=2)?;
        let third = edition >= Edition::Third;
        let tunnel = if third && source.ratio(7, 8)? { Some(*source.choose(&Encapsulation::ALL)?) } else { None };
        let modes = if tunnel.is_some() { &ALL_MODES[..] } else { &MODES[..] };
        Ok(Scene {
            tunnel,
            crossed: third && source.ratio(1, 4)?,
            host: third && source.arbitrary()?,
            wide: edition >= Edition::Fourth && source.ratio(15, 16)?,
            node: source.arbitrary()?,
            workers,
            layout: *source.choose(&[Layout::Every, Layout::Apart, Layout::First])?,
            passes: source.ratio(2, 3)?,
            snat: source.ratio(7, 8)?,
            mode: *source.choose(modes)?,
            flows: *source.choose(&[64, 4, 1])?,
            ring: *source.choose(&[32, 64, 4])?,
            rate: *source.choose(&[1000, 2])?,
            now: *source.choose(&[0, 1000, Millis::MAX - 5000])?,
            six,
        })
    }
}

impl Step {
    /// Draws what happens next.
    pub fn draw(source: &mut Unstructured<'_>, stage: &Stage, edition: Edition) -> Result<Self> {
        let port = |source: &mut Unstructured<'_>| Ok(if source.arbitrary()? { UPLINK } else { INNER });
        let fourth = edition >= Edition::Fourth;
        let service = |source: &mut Unstructured<'_>, most| {
            if fourth {
                source.choose(stage.places()).copied()
            } else {
                Ok(stage.service(source.int_in_range(0..=most)?))
            }
        };
        let services = if edition >= Edition::Third { 8 } else { 6 };
        Ok(match source.int_in_range(0..=if fourth { 43u8 } else { 39 })? {
            0..=13 => {
                let queue = source.choose_index(stage.queues())?;
                let frame = frames::draw(source, stage.mac(queue), stage.tongue(), edition)?;
                let storm = source.ratio(1, 16)?;
                let copies = if storm { source.int_in_range(1..=64)? } else { 1 };
                Step::Arrive { queue, frame, copies, run: source.ratio(3, 4)? }
            }
            14..=23 => {
                // Whoever got it answers, there where it went, or on another queue of that port.
                let Some((port, sent)) = stage.sent(source.arbitrary::<u8>()?.into()) else { return Ok(Step::Wait(1)) };
                let frame = frames::answer(source, sent, edition)?.unwrap_or_default();
                let queue = stage.queue_of(port, source.arbitrary::<u8>()?.into());
                Step::Arrive { queue, frame, copies: 1, run: source.ratio(7, 8)? }
            }
            24 => Step::Turn(source.int_in_range(0..=1)?),
            25 | 26 => Step::Wait(*source.choose(&[1, 100, 1_001, 10_000, 61_000, 241_000, 8_000_000])?),
            27 => Step::Room(*source.choose(&[64, 0, 1, 4])?),
            28..=30 => {
                let pools = [
                    None,
                    Some(vec![]),
                    Some(vec![Pool::Cluster]),
                    Some(vec![Pool::Local]),
                    Some(vec![Pool::Cluster, Pool::Local]),
                ];
                Step::Backend {
                    service: service(source, services)?,
                    backend: source.choose_index(BACKENDS.len())?,
                    pools: source.choose(&pools)?.clone(),
                }
            }
            31 => Step::Service(service(source, services)?),
            32 => {
                let modes = if edition >= Edition::Third { &ALL_MODES[..] } else { &MODES[..] };
                Step::Reach(service(source, 6)?, *source.choose(modes)?)
            }
            33 if fourth => match source.int_in_range(0..=3usize)? {
                0 if source.arbitrary()? => Step::Pods,
                vip => Step::Vip(if stage.six() { 4 } else { 0 } + vip),
            },
            33 => match source.int_in_range(0..=3u8)? {
                3 => Step::Pods,
                vip => Step::Vip(if stage.six() { 3 } else { 0 } + usize::from(vip)),
            },
            34 | 35 => {
                let macs = [None, Some(MACS[7]), Some(MACS[3])];
                Step::Neighbour(port(source)?, stage.of_family(*source.choose(&ADDRESSES)?), *source.choose(&macs)?)
            }
            36 => match source.int_in_range(0..=3u8)? {
                0 | 1 => Step::Kernel(source.arbitrary()?),
                _ => Step::Route(source.arbitrary()?),
            },
            37 => Step::PortMac(port(source)?, *source.choose(&[UPLINK_MAC, INNER_MAC, MACS[7]])?),
            38 if fourth => Step::Flush(*source.choose(&[None, Some(6), Some(17), Some(50)])?),
            38 => Step::Flush(*source.choose(&[None, Some(6), Some(17)])?),
            40 => Step::Range(service(source, 0)?, *source.choose(&PORTS)?),
            41 => {
                let all = cast::connections();
                let first = source.int_in_range(0..=all.len())?;
                Step::Quic(service(source, 0)?, all[first..].to_vec())
            }
            42 => {
                let policies = [None, Some(MidStream::Reset), Some(MidStream::Hash), Some(MidStream::Drop)];
                Step::MidStream(service(source, 0)?, *source.choose(&policies)?)
            }
            _ => {
                let to = port(source)?;
                let mac = stage.port_mac(to);
                let frame = if source.ratio(3, 4)? {
                    let address = *source.choose(&ADDRESSES)?;
                    let mut frame = vec![0; levee_dataplane::rewrite::announce::ROOM];
                    let vlans = levee_dataplane::headers::Vlans::default();
                    let length = levee_dataplane::rewrite::announce::announcement(
                        mac,
                        stage.of_family(address),
                        vlans,
                        &mut frame,
                    );
                    frame.truncate(length.unwrap_or_default());
                    frame
                } else {
                    frames::draw(source, mac, stage.tongue(), edition)?
                };
                Step::Inject(to, frame)
            }
        })
    }
}
