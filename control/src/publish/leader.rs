//! The loop of a candidate: waits for its turn, looks at what there is right now, and then writes what the plan says.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt as _;
use tokio::sync::watch;

use super::announcers::Watcher;
use super::bulletin::Bulletin;
use super::desk::{Desk, behind};
use super::event::refusals;
use super::plan::{Announcers, Target, Write, plan};
use super::standing::Standing;
use super::writer::{Writer, Written};
use crate::allocate::allocate;
use crate::lease::{self, Held, Labels, Leases, Tenure, Terms};
use crate::model::{Balanced, ObjectName};
use crate::watch::cluster::Access;

/// Requests at a time.
const AT_ONCE: usize = 4;
/// Writes between two looks at what has changed meanwhile.
const CHUNK: usize = 32;
/// Pause after a failure, doubled after each further one up to …
const PAUSE: Duration = Duration::from_millis(500);
/// … this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long a new leader waits for its watch to show what a list has, before it lists anew.
const SETTLE: Duration = Duration::from_secs(3);
/// How often to look who announces what.
const LOOK: Duration = Duration::from_secs(2);

/// What a candidate is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The cluster.
    pub access: Access,
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub lease: String,
    /// What this process is called: its Node's name.
    pub name: String,
    /// Times of the Lease.
    pub terms: Terms,
}

/// The cluster as it was seen last, all of it.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// Who wants addresses, and which there are.
    pub balanced: Arc<Balanced>,
    /// Whether a Service without a class is somebody else's.
    pub class_required: bool,
}

/// Starts a candidate on a thread of its own. It ends, and gives the Lease back, when nobody can send orders any more.
///
/// # Errors
/// The system has no more threads.
pub fn start(
    settings: Settings,
    orders: watch::Receiver<Option<Order>>,
    standing: Arc<Standing>,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new()
        .name("allocate".to_owned())
        .spawn(move || runtime.block_on(run(settings, orders, standing)))
}

async fn run(settings: Settings, mut orders: watch::Receiver<Option<Order>>, standing: Arc<Standing>) {
    let mut pause = PAUSE;
    let client = loop {
        match settings.access.client().await {
            Ok(client) => break client,
            Err(why) => standing.failed(&why),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            closed = closed(&mut orders) => return closed,
        }
    };
    let me = lease::identity(&settings.name);
    let mut until_closed = orders.clone();
    // The Lease is given back when nothing is written any more: `finished` is dropped at the end of the work.
    let (finished, stop) = tokio::sync::oneshot::channel::<()>();
    let stop = async move { drop(stop.await) };
    let leases = Leases::new(client.clone(), &settings.namespace);
    let (held, holding) = lease::hold(leases.clone(), settings.lease, me, settings.terms, Labels::new(), stop);
    let seed = seed();
    let mut candidate = Candidate {
        writer: Writer::new(client, settings.name),
        watcher: Watcher::new(leases),
        announced: None,
        desk: Desk::new(Instant::now()),
        bulletin: Bulletin::new(seed, Instant::now()),
        pause: PAUSE,
        held,
        standing,
    };
    let work = async move {
        tokio::select! {
            () = candidate.work(orders) => {}
            () = closed(&mut until_closed) => {}
        }
        drop(finished);
    };
    tokio::join!(holding, work);
}

/// A number that no other process begins with.
fn seed() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Until nobody can send orders any more.
async fn closed(orders: &mut watch::Receiver<Option<Order>>) {
    while orders.changed().await.is_ok() {}
}

struct Candidate {
    writer: Writer,
    watcher: Watcher,
    /// The addresses that were given, and who announced them when that was written last.
    announced: Option<(Vec<IpAddr>, Announcers)>,
    desk: Desk,
    bulletin: Bulletin,
    pause: Duration,
    held: Held,
    standing: Arc<Standing>,
}

impl Candidate {
    async fn work(&mut self, mut orders: watch::Receiver<Option<Order>>) {
        let mut since = None;
        let mut floor: Option<Floor> = None;
        // Whether there may be something to write; else, when there may be next.
        let (mut is_due, mut next) = (true, None);
        loop {
            let tenure: Option<Tenure> = self.held.tenure();
            if since != tenure.map(|tenure| tenure.since) {
                since = tenure.map(|tenure| tenure.since);
                // Whatever this process remembers of its own writes, somebody else may have written since.
                (floor, is_due) = (None, true);
                self.bulletin.forget();
                self.standing.leads(since.is_some());
            }
            let now = Instant::now();
            is_due |= next.is_some_and(|next| next <= now) || self.has_other_announcers();
            let order = orders.borrow_and_update().clone();
            next = match (tenure, order) {
                (Some(_), Some(order)) if is_due => {
                    let settled = floor.as_mut().is_some_and(|floor| floor.is_reached(&order.balanced, now));
                    if settled { self.publish(&order).await } else { self.settle(&mut floor, now).await }
                }
                (Some(_), Some(_)) => next,
                _ => None,
            };
            let then = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            is_due = tokio::select! {
                changed = orders.changed() => if changed.is_err() { return } else { true },
                // When it is over nobody says so, but the next look comes soon after.
                going_on = self.held.changed() => if going_on { false } else { return },
                () = self.watcher.news() => false,
                () = then => true,
                // That an announcer shows no sign of life any more is no news to come.
                () = tokio::time::sleep(LOOK) => false,
            };
        }
    }

    /// Whether addresses that were given are announced by others than when that was written last.
    fn has_other_announcers(&mut self) -> bool {
        self.announced.as_ref().is_some_and(|(addresses, announcers)| self.watcher.announcers(addresses) != *announcers)
    }

    /// Looks at what there is right now, which the watch must have shown before anything is written.
    async fn settle(&mut self, floor: &mut Option<Floor>, now: Instant) -> Option<Instant> {
        if floor.as_ref().is_none_or(|floor| now >= floor.since + SETTLE) {
            match self.writer.states().await {
                // Those that a watch never shows (no `clusterIP` yet, say) were not written by anybody either.
                Ok(states) => {
                    let patient = floor.is_none();
                    *floor = Some(Floor { states, since: Instant::now(), patient });
                    self.pause = PAUSE;
                }
                Err(why) => return Some(self.failed(&why)),
            }
        }
        Some(Instant::now() + Duration::from_millis(100))
    }

    /// Writes what is due; says when to look again, if not only at the next change.
    async fn publish(&mut self, order: &Order) -> Option<Instant> {
        let seen = self.desk.seen(&order.balanced);
        let allocation = allocate(&seen, order.class_required);
        self.standing.allocated(&seen, &allocation);
        let given = allocation.services.values().flat_map(|service| service.addresses.values());
        let given: Vec<IpAddr> = given.map(|(address, _)| *address).collect();
        let announcers = self.watcher.announcers(&given);
        let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let plan = plan(&seen, &allocation, &announcers, order.class_required, &time);
        self.announced = Some((given, announcers));
        let (due, mut next) = self.desk.due(plan, CHUNK, Instant::now());
        let is_more = due.len() == CHUNK;
        // What is in force is recorded before anything of it is given, so that a bad change finds what to go back to.
        let (pools, services): (Vec<Write>, Vec<Write>) =
            due.into_iter().partition(|write| matches!(write.target, Target::Pool(_)));
        let of_pools = self.write(pools, &seen).await;
        if let Err(at) = self.write(services, &seen).await.and(of_pools) {
            return Some(at);
        }
        self.bulletin.refused(refusals(&order.balanced), Instant::now());
        match self.tell(&time).await {
            Ok(later) => next = next.into_iter().chain(later).min(),
            Err(at) => return Some(at),
        }
        self.standing.waits(self.desk.waiting(), self.bulletin.dropped);
        if is_more { Some(Instant::now()) } else { next }
    }

    /// Sends writes, as long as nobody else may. Gives when to try again, if something failed that concerns all.
    async fn write(&mut self, due: Vec<Write>, seen: &Balanced) -> Result<(), Instant> {
        for write in &due {
            self.desk.sent(write, seen, Instant::now());
        }
        let (writer, held) = (self.writer.clone(), self.held.clone());
        let mut answers = futures_util::stream::iter(due)
            .map(|write| {
                let (writer, held) = (&writer, &held);
                async move {
                    // Right before it is sent: all that waited in line may have taken longer than the Lease lasts.
                    let answer = if held.is_held() { Some(writer.write(&write).await) } else { None };
                    (write, answer)
                }
            })
            .buffer_unordered(AT_ONCE);
        let mut failure = None;
        while let Some((write, answer)) = answers.next().await {
            match answer {
                Some(Written::Done(made)) => {
                    self.standing.wrote(&write.target);
                    self.desk.written(&write, made.map(|made| *made));
                    self.bulletin.happened(write.events);
                    self.pause = PAUSE;
                }
                Some(Written::Outdated) => self.standing.outdated(),
                Some(Written::Refused(why)) => {
                    self.desk.refused(&write);
                    failure = Some(why);
                }
                Some(Written::Unknown(why)) => {
                    self.desk.lost(&write);
                    failure = Some(why);
                }
                None => self.desk.refused(&write),
            }
        }
        match failure {
            Some(why) => Err(self.failed(&why)),
            None => Ok(()),
        }
    }

    async fn tell(&mut self, now: &str) -> Result<Option<Instant>, Instant> {
        for _ in 0..CHUNK {
            let (name, event) = match self.bulletin.next(Instant::now()) {
                Ok(next) => next,
                Err(later) => return Ok(later),
            };
            if !self.held.is_held() {
                return Ok(None);
            }
            match self.writer.tell(&event, &name, now).await {
                Ok(()) => self.standing.told(),
                // An event is no status: it is not tried again.
                Err(why) => return Err(self.failed(&format!("an Event cannot be written: {why}"))),
            }
        }
        Ok(Some(Instant::now()))
    }

    /// Something failed that the next attempt meets, too, if it comes at once.
    fn failed(&mut self, why: &str) -> Instant {
        self.standing.failed(why);
        let at = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        at
    }
}

/// What there was when this leader began.
struct Floor {
    states: BTreeMap<ObjectName, String>,
    since: Instant,
    /// Whether to wait for Services that the watch does not show at all.
    patient: bool,
}

impl Floor {
    /// Whether the watch has shown all of it. Then nothing is left to wait for.
    fn is_reached(&mut self, balanced: &Balanced, now: Instant) -> bool {
        let patient = self.patient && now < self.since + SETTLE;
        let behind = behind(balanced, &self.states).any(|name| patient || balanced.services.contains_key(name));
        if !behind {
            self.states = BTreeMap::new();
        }
        !behind
    }
}
