//! Who forwards: one file each.
//!
//! Those in user space take turns in one forwarder's place; each that the kernel runs has a [`Topology`] of its own, where its rules
//! are, made once. All places are alike. What a contestant claims to do to a frame is looked at before it is measured
//! ([`Contestant::judge`]): a fast forwarder of nothing would win otherwise.

mod bounce;
mod bridge;
mod ipvs;
mod levee;
mod linux;
mod nftables;
mod testpmd;
mod work;

use std::net::Ipv4Addr;

use levee_api::net::Mac;
use levee_pktgen::{Config, Traffic};
use levee_tests::Daemon;
use levee_tests::levee::Dataplane;

pub use bounce::Bounce;
pub use bridge::Bridge;
pub use ipvs::Ipvs;
pub use levee::{Levee, ROOM, Way};
pub use linux::Linux;
pub use nftables::Nftables;
pub use testpmd::Testpmd;
pub use work::Work;

use super::seen::Seen;
use super::topology::{CLIENTS, FAR, IN_MAC, POD, POD_MAC, Topology};
use crate::services::{PORT, Services};

/// Flows that are sent to each.
pub const FLOWS: u32 = 1024;

/// One of them.
pub trait Contestant {
    /// As tables call it.
    fn name(&self) -> String;

    /// As `--json` calls it.
    fn key(&self) -> String;

    /// Why this machine cannot have it, if so.
    fn missing(&self) -> Option<String> {
        None
    }

    /// Where it is, if not where all in user space take turns: the name of a place that the kernel has been told what to do in.
    fn place(&self) -> Option<String> {
        None
    }

    /// What its place needs, once.
    fn prepare(&self, _: &Topology) {}

    /// What is sent to it.
    fn offer(&self) -> Offer;

    /// Starts it on a core.
    ///
    /// # Panics
    /// If it does not start.
    fn start(&self, topology: &Topology, core: usize) -> Running;

    /// Whether a frame at the sink is what it should have made of what was sent.
    ///
    /// # Errors
    /// What is wrong with it.
    fn judge(&self, frame: &Seen) -> Result<(), String>;
}

/// Where the kernel forwards. It does more in one or in the other, which depends on what the work is; so it is measured in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// The core that user space forwards on; frames are handed over to it (`rps_cpus`) by the one that they are received on. So it is
    /// with a NIC, whose interrupt wakes a core.
    ItsCore,
    /// The core that frames are received on, which over veth is the sender's: forwarding is a function call of who sends. Nothing is handed
    /// over, nobody is woken, and all work is one core's. No NIC works like that.
    Receiving,
}

/// The key of the same contestant on the sender's core.
#[must_use]
pub fn inline(key: &str) -> String {
    format!("{key}_inline")
}

impl On {
    fn name(self, name: String) -> String {
        match self {
            On::ItsCore => format!("{name}, handed to a core of its own"),
            On::Receiving => format!("{name}, inline on the sender's core"),
        }
    }

    fn key(self, key: &str) -> String {
        match self {
            On::ItsCore => key.to_owned(),
            On::Receiving => inline(key),
        }
    }

    fn start(self, topology: &Topology, core: usize) -> Running {
        topology.steer_to((self == On::ItsCore).then_some(core));
        Running::Kernel
    }
}

/// What is sent to a contestant: 64-byte TCP of [`FLOWS`] flows.
#[derive(Debug, Clone)]
pub struct Offer {
    macs: (Mac, Mac),
    traffic: Traffic,
    /// Whether flows begin with a SYN. Conntrack would take later segments, to which nobody answers, for no part of the flow;
    /// a flow that it first sees in the middle is good enough for it (`nf_conntrack_tcp_loose`, on by default).
    opened: bool,
}

impl Offer {
    /// From many clients to the first Services of a cluster.
    fn to(services: Services, opened: bool) -> Offer {
        let to = (Services::vip(0), PORT).into();
        let from = CLIENTS.parse().expect("a prefix");
        let traffic = Traffic { servers: services.count.min(FLOWS), ..Traffic::tcp(from, to) };
        Offer { macs: (POD_MAC, IN_MAC), traffic, opened }
    }

    /// From the pod to one elsewhere, by this station on its segment.
    fn from_pod(by: Mac) -> Offer {
        let from = ipnet::Ipv4Net::from(POD).into();
        Offer { macs: (POD_MAC, by), traffic: Traffic::tcp(from, (FAR, PORT).into()), opened: false }
    }

    /// Whether flows have to be begun before their frames are sent.
    #[must_use]
    pub fn opened(&self) -> bool {
        self.opened
    }

    /// For the generator, sending out of `g0` on a core.
    #[must_use]
    pub fn config(&self, core: usize) -> Config {
        Config {
            established: 0..FLOWS,
            flows_per_client: if self.traffic.from.prefix_len() == 32 { FLOWS } else { 64 },
            core: Some(core),
            ..Config::new("g0", self.macs, self.traffic.clone())
        }
    }

    /// The server of a flow, as the generator chooses it.
    #[must_use]
    pub fn servers(&self) -> u32 {
        self.traffic.servers
    }
}

/// One that runs; it ends when this is dropped.
pub enum Running {
    /// levee.
    Levee(Box<Dataplane>),
    /// Another process, and what is left to do after its end.
    Process(Daemon),
    /// testpmd, which has to be ended in its own way.
    Testpmd(testpmd::Process),
    /// The kernel.
    Kernel,
}

impl Running {
    fn pid(&self) -> Option<u32> {
        match self {
            Running::Levee(dataplane) => Some(dataplane.daemon.pid()),
            Running::Process(daemon) => Some(daemon.pid()),
            Running::Testpmd(process) => Some(process.pid()),
            Running::Kernel => None,
        }
    }

    /// What its threads have done so far; `None` for the kernel, whose work is everybody's.
    #[must_use]
    pub fn work(&self) -> Option<Work> {
        Work::of(self.pid()?)
    }

    /// What to show if it does not forward.
    #[must_use]
    pub fn story(&self) -> String {
        match self {
            Running::Levee(dataplane) => format!("{}\n{}", dataplane.counters(), dataplane.daemon.log()),
            Running::Process(daemon) => daemon.log(),
            Running::Testpmd(process) => process.log(),
            Running::Kernel => String::new(),
        }
    }
}

/// Whether a translated frame is to be had of this cluster: an endpoint's, under one of these sources.
fn translated(frame: &Seen, services: Services, source: Ipv4Addr) -> Result<(), String> {
    let endpoint =
        (0..services.count.min(FLOWS)).any(|service| Services::endpoints(service).any(|address| address == frame.to.0));
    if !endpoint || frame.to.1 != crate::services::TARGET_PORT {
        return Err(format!("{}:{} is no endpoint", frame.to.0, frame.to.1));
    }
    if frame.from.0 != source {
        return Err(format!("its source is {}, not {source}", frame.from.0));
    }
    Ok(())
}
