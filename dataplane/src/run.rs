//! The threads of a dataplane, from the first frame to the last.
//!
//! | thread | does | rights |
//! |---|---|---|
//! | main | control socket, metrics, signals | none |
//! | `worker-N`, one a core | frames | none; CAP_SYS_NICE until it has its place on the core |
//! | `director` | program, tables, steering, announcements | none |
//! | `neighbours` | netlink; keeps and puts back what was changed in the kernel | CAP_NET_ADMIN |
//!
//! **The end.** Told to stop, it detaches the XDP programs first, so that the kernel has the next frame; then workers send what is
//! decided and end; then the kernel gets its neighbour table and offloads back; then open requests are answered.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use af_xdp::schedule::Schedule;
use crossbeam_channel::{Receiver, bounded};
use levee_api::net::Role;
use rustix::thread::gettid;
use tokio::sync::{mpsc, oneshot};

use crate::announce::Uplink;
use crate::boot::{Booted, rights};
use crate::config::{self, Config, Scheduling};
use crate::decide::{Memory, Places};
use crate::director::{self, Director, Message, Shares};
use crate::events::{Events, Kind};
use crate::flows::affinity::Affinities;
use crate::flows::{Flows, Millis, Timeouts};
use crate::hash::Key;
use crate::headers::Vlans;
use crate::intake::{self, rights::Policy};
use crate::limits::{Errors, Ledger, Limit, Newcomers, Replies};
use crate::mem::publication;
use crate::neighbours::{self, PortNames};
use crate::place;
use crate::running::{PortFacts, Running, WorkerFacts};
use crate::tables::master::{Master, Setup};
use crate::verdict::PortId;
use crate::ways::Ways;
use crate::worker::{Handle, Handover, Idle, Notices, Parts, Shared, Worker};

/// Changes that may wait for the director. A Kubernetes control process sends one at a time; the neighbours' thread waits.
const INBOX: usize = 256;

/// Runs a dataplane until `stop`, and says whether it ended because it was told to.
///
/// # Errors
/// No threads, no memory for flows. What runs ends with the process.
pub async fn run(booted: Booted, config: &Config, stop: impl Future<Output = ()>) -> io::Result<Outcome> {
    let started = Instant::now();
    let events = Events::default();
    let halt = Arc::new(AtomicBool::new(false));
    let (inbox_sender, inbox) = bounded::<Message>(INBOX);
    let (notices, noticed) = Notices::new();
    let (ended_sender, mut ended) = mpsc::channel::<String>(8);

    // Before any other thread: they inherit both. A worker that alone went before others would go before the director, too.
    place::leave_to_workers(&config.workers.iter().map(|core| core.value).collect::<Vec<_>>());
    if let Scheduling::Fair { nice, slice } = config.scheduling {
        place::go_first(Schedule::Fair { nice, slice }, "levee", &events);
        place::weigh_session(nice);
    }

    // The neighbours' thread is the only one that is started before rights are given up.
    let names = port_names(config, &booted.facts);
    let host = host(&booted);
    let (asking, asked) = neighbours::asking();
    let (stop_neighbours, neighbours_stopped) = oneshot::channel::<()>();
    let kernel = inbox_sender.clone();
    let offloads = booted.offloads;
    let neighbours = spawn("neighbours", Ended::new("neighbours", &ended_sender), move || {
        rights::keep_net_admin()?;
        // Switched on again here, where there is the right to.
        let _offloads = offloads;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let tell = move |updates| drop(kernel.send(Message::Kernel(updates)));
        runtime.block_on(neighbours::run(names, host, asked, tell, async { drop(neighbours_stopped.await) }))
    })?;
    rights::keep_sys_nice()?;

    let multicast = config.multicast.iter().map(|group| (*group).into()).collect();
    let setup = Setup {
        ports: booted.ports,
        snat: booted.snat,
        host_snat: booted.host_snat,
        tunnel_ends: booted.tunnel_ends,
        multicast,
        gateways: config.ports.iter().flat_map(|port| &port.gateways).map(|gateway| gateway.value).collect(),
        mss_clamp: config.mss_clamp,
        workers: config.workers.len(),
    };
    let master = Master::new(setup);
    let (publisher, readers) = publication::channel(master.snapshot(), booted.workers.len());
    let shared = Shared::new(booted.workers.len(), &booted.umem)?;
    let handovers = Handover::between(booted.workers.len(), &booted.umem);
    let senders = senders(booted.facts.len(), &booted.workers);

    let key = random_key()?;
    let ways = Arc::new(Ways::new(random_key()?));
    let mut beginning = Vec::new();
    let mut facts = Vec::new();
    let mut worker_threads = Vec::new();
    let workers = booted.workers.into_iter().zip(readers).zip(handovers).zip(&config.workers).enumerate();
    for (index, ((((lanes, pool), tables), handover), core)) in workers {
        let Some(waker) = shared.waker(index) else { continue };
        let idle = match config.idle {
            config::Idle::Sleep => Idle::sleep(waker),
            config::Idle::Poll => Idle::spin(waker),
        };
        let senders = senders.iter().map(|of_port| of_port.get(index % of_port.len().max(1)).copied()).collect();
        let (shared, notices, ways, config) = (shared.clone(), notices.clone(), Arc::clone(&ways), config.clone());
        let name = format!("worker-{index}");
        let ended = Ended::new(&name, &ended_sender);
        let (halt, core, events) = (Arc::clone(&halt), core.value, events.clone());
        let thread = Arc::new(AtomicI32::new(0));
        facts.push(WorkerFacts { core, thread: Arc::clone(&thread) });
        let (tell, told) = bounded::<io::Result<Handle>>(1);
        beginning.push(told);
        worker_threads.push(spawn(&name, ended, move || {
            place::take(core, config.scheduling, &events);
            thread.store(gettid().as_raw_nonzero().get(), Ordering::Relaxed);
            rights::drop_all()?;
            // Here, on its core: memory is of the node of whoever touches it first (Documentation/admin-guide/mm/numa_memory_policy.rst).
            let memory = match memory(&config, &ways) {
                Ok(memory) => memory,
                Err(error) => return tell.send(Err(error)).map_err(io::Error::other),
            };
            let (mut worker, handle) = Worker::new(Parts {
                worker: index,
                senders,
                lanes,
                pool,
                memory,
                tables,
                shared,
                handover,
                notices,
                idle,
                epoch: started,
                key,
            });
            if tell.send(Ok(handle)).is_ok() {
                worker.run(&halt);
            }
            Ok(())
        })?);
    }
    rights::drop_all()?;
    let handles = match begun(&beginning) {
        Ok(handles) => handles,
        Err(error) => {
            halt.store(true, Ordering::Relaxed);
            return Err(error);
        }
    };

    let mut steering = booted.steering;
    steering.add(Box::new(asking.clone()));
    let shares = Arc::new(Shares::default());
    let director = Director::new(director::Parts {
        master,
        publisher,
        handles: handles.clone(),
        steering,
        groups: booted.groups,
        asking,
        announce_interval: config.announce_interval,
        uplinks: uplinks(config),
        epoch: started,
        shares: Arc::clone(&shares),
        events: events.clone(),
    });
    let director = spawn("director", Ended::new("director", &ended_sender), move || {
        director.run(&inbox, &noticed);
        Ok(())
    })?;

    let subject = Arc::new(Running {
        inbox: inbox_sender.clone(),
        handles,
        workers: facts,
        shares,
        ports: booted.facts,
        events: events.clone(),
        started,
        ways,
        timeouts: timeouts(config),
        programming: Mutex::default(),
    });
    let own_uid = rustix::process::geteuid().as_raw();
    let policy = Policy::new(own_uid, config.program_uids.clone());
    events.record(
        Kind::Started,
        format!("levee-dataplane {} runs, process {}", env!("CARGO_PKG_VERSION"), std::process::id()),
    );
    ready();
    watchdog(&subject);

    let mut outcome = Outcome::Stopped;
    let listener = booted.listening.listener()?;
    let links = booted.links;
    // Ends with the runtime: nobody minds a scrape that breaks off at the end.
    if let Some(metrics) = booted.metrics {
        tokio::spawn(intake::serve_metrics(metrics, Arc::clone(&subject) as Arc<dyn intake::Subject>)?);
    }
    intake::serve(listener, subject, policy, async {
        tokio::select! {
            () = stop => {}
            Some(thread) = ended.recv() => outcome = Outcome::Failed(thread),
        }
        stopping();
        events.record(Kind::Stopping, "detaching, and sending what is decided");
        let end = move || {
            drop(links);
            // First what leads this host's own traffic to a worker, and then the worker, with whom `levee-host` goes.
            drop(stop_neighbours);
            join(neighbours);
            halt.store(true, Ordering::Relaxed);
            for thread in worker_threads {
                join(thread);
            }
            // The director may have ended, or be full of work; it ends with its inbox in any case.
            let _ = inbox_sender.send_timeout(Message::Stop, Duration::from_secs(1));
            join(director);
        };
        if tokio::task::spawn_blocking(end).await.is_err() {
            tracing::error!("the end did not go as it should");
        }
    })
    .await?;
    drop(booted.listening);
    Ok(outcome)
}

/// The workers, once each has its memory.
fn begun(workers: &[Receiver<io::Result<Handle>>]) -> io::Result<Vec<Handle>> {
    let of = |(worker, told): (usize, &Receiver<io::Result<Handle>>)| {
        let told = told.recv().unwrap_or_else(|_| Err(io::Error::other("it ended before it began")));
        told.map_err(|error| io::Error::new(error.kind(), format!("worker {worker} cannot begin: {error}")))
    };
    workers.iter().enumerate().map(of).collect()
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was told to.
    Stopped,
    /// This thread ended by itself.
    Failed(String),
}

/// Says that a thread ended, however it did.
struct Ended {
    name: String,
    sender: mpsc::Sender<String>,
}

impl Ended {
    fn new(name: &str, sender: &mpsc::Sender<String>) -> Self {
        Ended { name: name.to_owned(), sender: sender.clone() }
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        // Full: enough threads have ended to be noticed. Closed: nobody minds any more.
        let _ = self.sender.try_send(std::mem::take(&mut self.name));
    }
}

fn spawn(
    name: &str,
    ended: Ended,
    work: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        if let Err(error) = work() {
            tracing::error!(%error, thread = ended.name, "failed");
        }
        drop(ended);
    })
}

fn join(thread: JoinHandle<()>) {
    let name = thread.thread().name().unwrap_or_default().to_owned();
    if thread.join().is_err() {
        tracing::error!(name, "panicked");
    }
}

fn port_names(config: &Config, facts: &[PortFacts]) -> Vec<PortNames> {
    let bridges = config.ports.iter().map(|port| port.neighbours.as_ref()).chain(std::iter::repeat(None));
    let ports = facts.iter().zip(bridges).zip(0..);
    ports
        .map(|((facts, bridge), id)| PortNames {
            port: PortId(id),
            interface: facts.interface.clone(),
            index: facts.ifindex,
            neighbours: bridge.map_or_else(|| facts.interface.clone(), |bridge| bridge.value.clone()),
        })
        .collect()
}

/// What is said on each uplink, and where.
fn uplinks(config: &Config) -> BTreeMap<PortId, Uplink> {
    let vlans = |tags: &Vec<u16>| {
        let tag = |at: usize| tags.get(at).copied().unwrap_or(0);
        Vlans { count: u8::try_from(tags.len()).unwrap_or(0), tci: [tag(0), tag(1)] }
    };
    let uplinks = config.ports.iter().zip(0..).filter(|(port, _)| port.role == Role::Uplink);
    let uplink = |port: &config::Port| Uplink {
        segment: port.segment.as_ref().map(|segment| segment.value.as_str().into()),
        vlans: port.vlans.iter().map(vlans).collect(),
    };
    uplinks.map(|(port, id)| (PortId(id), uplink(port))).collect()
}

/// The port to this host's own IP stack, as the neighbours' thread needs to know it.
fn host(booted: &Booted) -> Option<neighbours::Host> {
    let of_role = |role| booted.facts.iter().zip(0..).filter(move |(facts, _)| facts.role == role);
    let (facts, _) = of_role(Role::Host).next()?;
    let inward = booted.host_snat.iter().map(|range| range.address.into()).collect();
    let uplinks = of_role(Role::Uplink).map(|(_, id)| PortId(id)).collect();
    Some(neighbours::Host { index: facts.ifindex, inward, uplinks, sources: booted.addresses.clone() })
}

/// For each port, the workers that have a queue of it.
fn senders<P>(ports: usize, workers: &[(Vec<(PortId, P)>, af_xdp::FramePool)]) -> Vec<Vec<usize>> {
    let having = |port| {
        let with = workers.iter().enumerate().filter(move |(_, (lanes, _))| lanes.iter().any(|(id, _)| *id == port));
        with.map(|(worker, _)| worker).collect()
    };
    (0..ports).map(|port| having(PortId(u8::try_from(port).unwrap_or(u8::MAX)))).collect()
}

fn timeouts(config: &Config) -> Timeouts {
    // Validated to be at most a week: fits.
    let millis = |time: Duration| Millis::try_from(time.as_millis()).unwrap_or(Millis::MAX);
    let times = &config.timeouts;
    Timeouts {
        syn: millis(times.tcp_syn),
        established: millis(times.tcp_established),
        closing: millis(times.tcp_closing),
        closed: millis(times.tcp_closed),
        udp: millis(times.udp),
    }
}

fn memory(config: &Config, ways: &Arc<Ways>) -> io::Result<Memory> {
    let capacity = config.flow_capacity as usize;
    Ok(Memory {
        flows: Flows::new(capacity, random_key()?, timeouts(config))?,
        affinities: Affinities::new(capacity / 4, random_key()?)?,
        arp: Limit::new(config.arp_rate, random_key()?),
        replies: Replies::new(config.reply_rate, random_key()?),
        errors: Errors::new(config.error_rate, random_key()?),
        newcomers: Newcomers {
            of_vip: ledger(share(config.new_flows_of_vip, config.workers.len()))?,
            of_source: ledger(config.new_flows_of_source)?,
        },
        places: Places::default(),
        ways: Arc::clone(ways),
        created: 0,
        untracked: 0,
        over_limit: 0,
        by_connection: 0,
    })
}

/// One worker's part of a rate that all of them have together; never 0, which would be no limit.
fn share(rate: u32, workers: usize) -> u32 {
    rate.div_ceil(u32::try_from(workers.max(1)).unwrap_or(u32::MAX))
}

/// 0 is no limit.
fn ledger(rate: u32) -> io::Result<Option<Ledger>> {
    if rate == 0 { Ok(None) } else { Ok(Some(Ledger::new(rate, random_key()?))) }
}

fn random_key() -> io::Result<Key> {
    let mut words = [0u64; 2];
    for word in &mut words {
        let mut bytes = [0u8; 8];
        // Short reads happen only above 256 bytes (getrandom(2)).
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        *word = u64::from_ne_bytes(bytes);
    }
    Ok(Key(words))
}

/// Tells systemd that all is alive, for as long as it is, where the unit has `WatchdogSec`: workers that turn, by what the director
/// feels, and this thread.
fn watchdog(subject: &Arc<Running>) {
    let Some(period) = sd_notify::watchdog_enabled() else { return };
    let subject = Arc::clone(subject);
    // Ends with the runtime.
    tokio::spawn(async move {
        loop {
            if intake::probes::live(&intake::Subject::status(subject.as_ref())).is_empty() {
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
            }
            tokio::time::sleep((period / 3).max(Duration::from_millis(100))).await;
        }
    });
}

/// Nobody else waits for these; without systemd they do nothing.
fn ready() {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
}

fn stopping() {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
}
