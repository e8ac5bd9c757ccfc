//! A director with a real worker over memory, which turns only when a test says so.

use std::sync::Mutex;

use af_xdp::{FrameSize, Umem, UmemConfig};
use levee_api::net::{Mac, PortRange};
use levee_api::program::{Local, Pod, Vip};

use std::net::Ipv4Addr;

use super::*;
use crate::decide::{Memory, Places};
use crate::flows::affinity::Affinities;
use crate::flows::{Flows, Timeouts};
use crate::hash::MAGLEV_KEY;
use crate::headers::Vlans;
use crate::limits::{Errors, Limit, Newcomers, Replies};
use crate::mem::publication;
use crate::neighbours::Asked;
use crate::port::memory::MemoryPort;
use crate::tables::master::{Setup, Steered};
use crate::tables::snat::SnatRange;
use crate::tables::{Hop, Port};
use crate::ways::Ways;
use crate::worker::{Handover, Idle, Notices, Parts as WorkerParts, Shared, Worker};

const UPLINK: PortId = PortId(0);
const NODE: Mac = Mac([2, 0, 0, 0, 0, 1]);
const PEER: Mac = Mac([2, 0, 0, 0, 0, 9]);

/// Remembers what it was told, and whether the worker ran the tables of a generation then.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Steered>>>);

impl Steer for Told {
    fn steer(&mut self, wanted: &Steered) -> Result<(), String> {
        self.0.lock().unwrap().push(wanted.clone());
        Ok(())
    }
}

impl Told {
    fn owns(&self, address: &str) -> bool {
        let net = address.parse::<IpAddr>().unwrap().into();
        self.0.lock().unwrap().last().is_some_and(|steered| steered.owned.contains(&net))
    }
}

struct Lab {
    worker: Worker<MemoryPort>,
    inbox: crossbeam_channel::Sender<Message>,
    notices: Notices,
    told: Told,
    asked: Asked,
    shares: Arc<Shares>,
    events: Events,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Lab {
    fn new() -> Self {
        Lab::with(BTreeMap::new())
    }

    /// The same with something said of the uplink.
    fn with(uplinks: BTreeMap<PortId, Uplink>) -> Self {
        let mut master = Master::new(Setup {
            ports: vec![Port { name: "eth0".into(), role: Role::Uplink, mac: NODE, passes: false, mtu: 1500 }],
            snat: vec![SnatRange {
                address: Ipv4Addr::new(192, 0, 2, 10).into(),
                ports: PortRange { first: 61000, last: 61999 },
            }],
            host_snat: Vec::new(),
            tunnel_ends: Vec::new(),
            multicast: Vec::new(),
            gateways: Vec::new(),
            mss_clamp: 0,
            workers: 1,
        });
        master.set_kernel_addresses([IpAddr::from([192, 0, 2, 10])]);
        let (publisher, mut readers) = publication::channel(master.snapshot(), 1);
        let config = UmemConfig { frames: 256, frame_size: FrameSize::Bytes2048, ..UmemConfig::default() };
        let (umem, pool) = Umem::new(config).unwrap();
        let shared = Shared::new(1, &umem).unwrap();
        let epoch = Instant::now();
        let (notices, noticed) = Notices::new();
        let (worker, handle) = Worker::new(WorkerParts {
            worker: 0,
            lanes: vec![(UPLINK, MemoryPort::new(&umem, 64))],
            senders: vec![Some(0)],
            pool,
            memory: Memory {
                flows: Flows::new(64, MAGLEV_KEY, Timeouts::default()).unwrap(),
                affinities: Affinities::new(64, MAGLEV_KEY).unwrap(),
                arp: Limit::new(50, MAGLEV_KEY),
                replies: Replies::new(50, MAGLEV_KEY),
                errors: Errors::new(50, MAGLEV_KEY),
                newcomers: Newcomers::default(),
                places: Places::default(),
                ways: Arc::new(Ways::new(MAGLEV_KEY)),
                created: 0,
                untracked: 0,
                over_limit: 0,
                by_connection: 0,
            },
            tables: readers.remove(0),
            idle: Idle::spin(shared.waker(0).unwrap()),
            shared,
            handover: Handover::between(1, &umem).remove(0),
            notices: notices.clone(),
            epoch,
            key: MAGLEV_KEY,
        });
        let (told, shares, events) = (Told::default(), Arc::new(Shares::default()), Events::default());
        let (asking, asked) = neighbours::asking();
        let director = Director::new(Parts {
            master,
            publisher,
            handles: vec![handle],
            steering: Steering::new(vec![Box::new(told.clone())]),
            groups: Groups::default(),
            asking,
            announce_interval: Duration::from_secs(60),
            uplinks,
            epoch,
            shares: Arc::clone(&shares),
            events: events.clone(),
        });
        let (inbox, messages) = crossbeam_channel::bounded(64);
        let thread = std::thread::spawn(move || director.run(&messages, &noticed));
        Lab { worker, inbox, notices, told, asked, shares, events, thread: Some(thread) }
    }

    fn load(&self, program: Program) -> oneshot::Receiver<Result<Applied, Refusal>> {
        let (answer, answered) = oneshot::channel();
        self.inbox.send(Message::Load(program, answer)).unwrap();
        answered
    }

    /// Lets the worker turn until something holds.
    fn turn_until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !holds(self) {
            assert!(Instant::now() < deadline, "not in time: {what}");
            self.worker.turn(0);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits, without a turn of the worker, until something holds.
    fn wait_until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !holds(self) {
            assert!(Instant::now() < deadline, "not in time: {what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn sent(&mut self) -> Option<Vec<u8>> {
        self.worker.port_mut(0).unwrap().sent()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.inbox.send(Message::Stop);
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

fn program(generation: Generation, vips: &[&str]) -> Program {
    let vips = vips.iter().map(|vip| Vip { address: vip.parse().unwrap(), announce: true }).collect();
    let pods = vec![Pod { address: IpAddr::from([10, 1, 0, 5]), mac: None }];
    Program { generation, vips, local: Local { prefixes: Vec::new(), pods }, ..Program::default() }
}

/// The sender of an ARP announcement.
fn announced(frame: &[u8]) -> Ipv4Addr {
    assert_eq!(frame[..6], Mac::BROADCAST.0);
    assert_eq!(frame[6..12], NODE.0);
    assert_eq!(frame[28..32], frame[38..42], "sender and target of an announcement are one");
    Ipv4Addr::new(frame[28], frame[29], frame[30], frame[31])
}

#[test]
fn a_programmer_is_answered_when_the_worker_runs_it_and_frames_are_steered_only_then() {
    let mut lab = Lab::new();
    let mut answer = lab.load(program(3, &["10.96.0.1"]));
    lab.wait_until("published", |lab| lab.shares.tables().generation == 3);
    std::thread::sleep(Duration::from_millis(50));
    assert!(answer.try_recv().is_err(), "the worker has not turned");
    assert!(!lab.told.owns("10.96.0.1"), "the worker does not know the address yet");
    let mut taken = None;
    lab.turn_until("an answer", |_| {
        taken = answer.try_recv().ok();
        taken.is_some()
    });
    assert_eq!(taken, Some(Ok(Applied { generation: 3 })));
    assert!(lab.told.owns("10.96.0.1") && lab.told.owns("10.1.0.5"));
    assert!(lab.events.remembered().iter().any(|event| event.kind == "programmed"));

    // What is lost is no longer steered though the worker has not turned.
    let mut answer = lab.load(program(4, &["10.96.0.2"]));
    lab.wait_until("narrowed", |lab| !lab.told.owns("10.96.0.1"));
    assert!(!lab.told.owns("10.96.0.2"));
    assert!(answer.try_recv().is_err());
    lab.turn_until("an answer", |_| answer.try_recv().is_ok());
    assert!(lab.told.owns("10.96.0.2"));
}

#[test]
fn what_is_refused_changes_nothing() {
    let mut lab = Lab::new();
    let refused = lab.load(program(0, &["10.96.0.1"])).blocking_recv().unwrap();
    assert!(matches!(refused, Err(Refusal::Invalid(reasons)) if !reasons.is_empty()));
    let (answer, answered) = oneshot::channel();
    let delta = Delta { base: 9, generation: 10, ..Delta::default() };
    lab.inbox.send(Message::Amend(delta, answer)).unwrap();
    assert_eq!(answered.blocking_recv().unwrap(), Err(Refusal::Stale { generation: 0 }));
    let (answer, answered) = oneshot::channel();
    lab.inbox.send(Message::Show(answer)).unwrap();
    assert_eq!(*answered.blocking_recv().unwrap(), Program::default());
    assert!(lab.events.remembered().iter().any(|event| event.kind == "program-refused"));
    lab.turn_until("nothing more", |_| true);
}

#[test]
fn what_the_kernel_says_reaches_the_tables_and_what_is_wanted_reaches_the_kernel() {
    let mut lab = Lab::new();
    let gateway = IpAddr::from([192, 0, 2, 1]);
    let key = (UPLINK, gateway);
    let everywhere = ("0.0.0.0/0".parse().unwrap(), Some(UPLINK), Some(gateway));
    let elsewhere = ("172.17.0.0/16".parse().unwrap(), None, None);
    let routes = Update::Routes(vec![everywhere, elsewhere]);
    lab.inbox.send(Message::Kernel(vec![routes])).unwrap();
    lab.turn_until("a standing wish", |lab| lab.asked.look().0.contains(&key));
    let there = Update::Neighbour { key, mac: Some(PEER), state: Some("reachable") };
    lab.inbox.send(Message::Kernel(vec![there])).unwrap();
    let resolved = NeighbourKey { port: UPLINK, address: gateway.into() };
    lab.turn_until("a MAC", |lab| lab.shares.tables().resolved(&resolved));
    assert_eq!(lab.shares.neighbours()[&key], (Some(PEER), "reachable"));
    let hop = |text: &str| lab.shares.tables().hop(text.parse::<IpAddr>().unwrap().into());
    assert_eq!(hop("198.51.100.1"), Hop::To(UPLINK, PEER));
    assert_eq!(hop("172.17.0.2"), Hop::Kernel, "a more exact route leads elsewhere");
    lab.inbox.send(Message::Kernel(vec![Update::Neighbour { key, mac: None, state: None }])).unwrap();
    lab.turn_until("no MAC", |lab| !lab.shares.tables().resolved(&resolved));
    assert!(lab.shares.neighbours().is_empty());
    // A worker's question goes on to the kernel.
    lab.notices.resolve(resolved);
    lab.turn_until("a question", |lab| lab.asked.look().1.contains(&key));
}

#[test]
fn announcements_come_at_link_up_and_when_an_address_is_gained() {
    let mut lab = Lab::new();
    let mut answer = lab.load(program(1, &[]));
    lab.turn_until("an answer", |_| answer.try_recv().is_ok());
    assert_eq!(lab.sent(), None, "no uplink is up");
    let own = neighbours::Address { address: IpAddr::from([192, 0, 2, 10]), port: Some(UPLINK) };
    let up = Update::Link { port: UPLINK, up: true, mac: NODE };
    lab.inbox.send(Message::Kernel(vec![Update::Addresses(vec![own]), up])).unwrap();
    let mut said = Vec::new();
    lab.turn_until("the node's address and the pod's", |lab| {
        said.extend(lab.sent().map(|frame| announced(&frame)));
        said.len() == 2
    });
    assert!(said.contains(&Ipv4Addr::new(192, 0, 2, 10)) && said.contains(&Ipv4Addr::new(10, 1, 0, 5)), "{said:?}");
    let mut answer = lab.load(program(2, &["10.96.0.1"]));
    lab.turn_until("an answer", |_| answer.try_recv().is_ok());
    let mut said = None;
    lab.turn_until("the VIP", |lab| {
        said = lab.sent().map(|frame| announced(&frame));
        said.is_some()
    });
    assert_eq!(said, Some(Ipv4Addr::new(10, 96, 0, 1)));
    assert!(lab.events.remembered().iter().any(|event| event.kind == "link-up"));
}

#[test]
fn on_a_trunk_each_vlan_is_told() {
    let vlans = [(0, [0, 0]), (1, [10, 0]), (2, [100, 20])].map(|(count, tci)| Vlans { count, tci });
    let mut lab = Lab::with([(UPLINK, Uplink { segment: None, vlans: vlans.into() })].into());
    let own = neighbours::Address { address: IpAddr::from([192, 0, 2, 10]), port: Some(UPLINK) };
    let up = Update::Link { port: UPLINK, up: true, mac: NODE };
    lab.inbox.send(Message::Kernel(vec![Update::Addresses(vec![own]), up])).unwrap();
    let mut answer = lab.load(program(1, &[]));
    lab.turn_until("an answer", |_| answer.try_recv().is_ok());
    let mut said = Vec::new();
    lab.turn_until("the node's address, and the pod's three times", |lab| {
        said.extend(lab.sent());
        said.len() == 4
    });
    let mut tags: Vec<&[u8]> = said.iter().map(|frame| &frame[12..frame.len().min(22)]).collect();
    tags.sort_unstable();
    let arp = [8, 6, 0, 1, 8, 0, 6, 4, 0, 1];
    let one = [0x81, 0, 0, 10, 8, 6, 0, 1, 8, 0];
    let two = [0x88, 0xa8, 0, 100, 0x81, 0, 0, 20, 8, 6];
    assert_eq!(tags, [&arp, &arp, &one, &two], "the node's own address is of the untagged VLAN");
}

fn request(asker: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = [[0xff; 6], PEER.0].concat();
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(PEER.0.iter().chain(&asker.octets()).chain(&[0; 6]).chain(&target.octets()));
    frame.resize(60, 0);
    frame
}

#[test]
fn what_needs_a_term_is_announced_in_one_and_no_longer() {
    let mut lab = Lab::new();
    let up = Update::Link { port: UPLINK, up: true, mac: NODE };
    lab.inbox.send(Message::Kernel(vec![up])).unwrap();
    let mut answer = lab.load(Program { announce_in_term: true, ..program(1, &["10.96.0.1", "10.96.0.2"]) });
    lab.turn_until("an answer", |_| answer.try_recv().is_ok());
    let vip = Ipv4Addr::new(10, 96, 0, 1);
    let announces = |lab: &Lab| lab.shares.tables().owner(vip.into()).announce;
    assert!(!announces(&lab), "no term names it");
    assert!(lab.shares.announcing().0);

    let give = |lab: &Lab, number, until, addresses: &[Ipv4Addr]| {
        let (answer, answered) = oneshot::channel();
        let addresses = addresses.iter().map(|address| IpAddr::from(*address)).collect();
        lab.inbox.send(Message::Announce(Term { holder: "a".into(), number, until, addresses }, answer)).unwrap();
        answered
    };
    let mut answer = give(&lab, 1, boot_millis() + 400, &[vip]);
    let mut said = Vec::new();
    lab.turn_until("an answer, and a gratuitous ARP at once", |lab| {
        said.extend(lab.sent().map(|frame| announced(&frame)));
        said.contains(&vip) && answer.try_recv().is_ok()
    });
    assert!(announces(&lab));
    assert!(!said.contains(&Ipv4Addr::new(10, 96, 0, 2)), "only what the term names: {said:?}");
    // An older one does not count.
    let mut late = give(&lab, 1, boot_millis() + 60_000, &[]);
    let mut refused = None;
    lab.turn_until("a refusal", |_| late.try_recv().map(|answer| refused = Some(answer)).is_ok());
    assert!(matches!(refused, Some(Err(Refusal::Invalid(_)))));

    // The worker stops by the deadline alone: this one has not even taken the director's next snapshot.
    let ask = |lab: &mut Lab, now: u32| {
        lab.worker.port_mut(0).unwrap().deliver(&request(Ipv4Addr::new(192, 0, 2, 1), vip));
        lab.worker.turn(now);
        lab.sent().is_some_and(|frame| frame.get(20..22) == Some(&[0, 2][..]))
    };
    while lab.sent().is_some() {}
    assert!(ask(&mut lab, 0), "answered in the term");
    assert!(!ask(&mut lab, u32::MAX / 4), "and not after it");
    lab.wait_until("withdrawn by its own clock", |lab| !announces(lab));
    let events = lab.events.remembered();
    let lapsed = events.iter().find(|event| event.kind == "term-lapsed").expect("told");
    assert!(lapsed.message.contains("1 addresses") && lapsed.message.contains("traffic that arrives is served"));
    let (_, count, facts) = lab.shares.announcing();
    assert_eq!((count, facts.lapses, facts.gained, facts.lost), (0, 1, 1, 1));
}

fn claims(claimed: Ipv4Addr, mac: Mac) -> Vec<u8> {
    let mut frame = request(claimed, claimed);
    frame[6..12].copy_from_slice(&mac.0);
    frame[22..28].copy_from_slice(&mac.0);
    frame
}

fn conflicts(lab: &Lab) -> Vec<String> {
    let events = lab.events.remembered();
    events.into_iter().filter(|event| event.kind == "vip-conflict").map(|event| event.message).collect()
}

/// A lab that has said all that it says at the start.
fn lab_of(program: Program) -> Lab {
    let mut lab = Lab::new();
    lab.inbox.send(Message::Kernel(vec![Update::Link { port: UPLINK, up: true, mac: NODE }])).unwrap();
    let everything = program.vips.len() + program.local.pods.len();
    let mut answer = lab.load(program);
    lab.turn_until("an answer", |_| answer.try_recv().is_ok());
    let mut said = 0;
    // Twice, two seconds apart.
    lab.turn_until("everything announced", |lab| {
        said += usize::from(lab.sent().is_some());
        said == 2 * everything
    });
    lab
}

#[test]
fn a_claim_is_told_once_and_answered_by_one_announcement() {
    let mut lab = lab_of(program(1, &["10.96.0.1"]));
    let vip = Ipv4Addr::new(10, 96, 0, 1);
    for _ in 0..20 {
        lab.worker.port_mut(0).unwrap().deliver(&claims(vip, PEER));
    }
    let mut said = Vec::new();
    let start = Instant::now();
    lab.turn_until("an event, and time for more than one", |lab| {
        said.extend(lab.sent().map(|frame| announced(&frame)));
        !conflicts(lab).is_empty() && start.elapsed() > Duration::from_millis(500)
    });
    let told = conflicts(&lab);
    assert_eq!((told.len(), said), (1, vec![vip]));
    for word in ["10.96.0.1", &PEER.to_string(), "eth0"] {
        assert!(told[0].contains(word), "{told:?}");
    }
}

#[test]
fn a_storm_of_claims_floods_neither_fabric_nor_events_and_next_hops_are_found() {
    let mut lab = lab_of(Program {
        local: Local { prefixes: vec!["10.1.0.0/16".parse().unwrap()], ..program(1, &[]).local },
        ..program(1, &["10.96.0.1"])
    });
    let [vip, pod] = [[10, 96, 0, 1], [10, 1, 0, 5]].map(Ipv4Addr::from);
    let wanted = NeighbourKey { port: UPLINK, address: Ipv4Addr::new(192, 0, 2, 77).into() };
    let mut said = Vec::new();
    for number in 0..60_000_u32 {
        // One station, and a new one for every second frame; sometimes about what is in use.
        let [_, _, high, low] = number.to_be_bytes();
        let mac = if number % 2 == 0 { PEER } else { Mac([2, 7, 7, 7, high, low]) };
        let claimed = match number % 1000 {
            500 => vip,
            502 => pod,
            _ => Ipv4Addr::new(10, 1, high, low),
        };
        lab.worker.port_mut(0).unwrap().deliver(&claims(claimed, mac));
        if number % 32 == 0 {
            // A millisecond for some ten frames.
            lab.worker.turn(number / 10);
            said.extend(lab.sent().map(|frame| announced(&frame)));
        }
        if number == 30_000 {
            lab.notices.resolve(wanted);
        }
    }
    lab.turn_until("the neighbour asked for", |lab| lab.asked.look().1.contains(&(UPLINK, wanted.address.into())));
    let start = Instant::now();
    lab.turn_until("what was begun", |lab| {
        said.extend(lab.sent().map(|frame| announced(&frame)));
        start.elapsed() > Duration::from_millis(200)
    });
    said.sort_unstable();
    assert_eq!(said, [pod, vip], "each once; not one address that nobody has");
    let told = conflicts(&lab);
    assert!(told.len() <= 2 + 4, "{told:?}");
    assert!([vip, pod].iter().all(|address| told.iter().any(|told| told.contains(&address.to_string()))), "{told:?}");
}

#[test]
fn a_worker_that_does_not_turn_is_told_and_comes_back() {
    let mut lab = Lab::new();
    lab.turn_until("a first turn", |_| true);
    lab.wait_until("not alive", |lab| !lab.shares.is_alive(0));
    lab.turn_until("alive", |lab| lab.shares.is_alive(0));
}

#[test]
fn at_the_end_whoever_waits_is_told() {
    let lab = Lab::new();
    let answer = lab.load(program(1, &[]));
    drop(lab);
    assert!(matches!(answer.blocking_recv().unwrap(), Err(Refusal::Unavailable(_))));
}
