//! The one writer: owns the program and what the kernel says, and hands workers each new snapshot.
//!
//! ```text
//!  intake ──Load, Amend──►┐                          ┌─► publication ─► workers
//!  neighbours ──Kernel───►│ director: Master, ───────┼─► steering (XDP maps)
//!  workers ───Notices────►┘ one thread               ├─► neighbours: what is wanted
//!                                                    ├─► groups that uplinks hear
//!                                                    └─► announcements, by a worker
//! ```
//!
//! **Order.** An address that is gained is in the tables of every worker before its frames are steered to levee; one that is lost is
//! no longer steered before it leaves the tables. So no frame reaches a worker that does not know what to do with it, but for those
//! already in a ring. A programmer is answered when all of this has happened.
//!
//! It never sees a frame, and forwarding never waits for it. Others read what it [`Shares`]; nobody else writes.

mod conflicts;
mod groups;
mod shares;
mod steering;
mod terms;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, select};
use levee_api::program::{Applied, Delta, Generation, Program};
use levee_api::term::Term;
use tokio::sync::oneshot;

use self::conflicts::Conflicts;
pub use self::groups::Groups;
pub use self::shares::{LinkState, Shares};
pub use self::steering::{Steer, Steering};
use self::terms::Terms;
pub use self::terms::{TermFacts, boot_millis};
use crate::announce::{Announcement, Announcer, Line, Ours, Uplink};
use crate::events::{Events, Kind};
use crate::intake::Refusal;
use crate::mem::publication::Publisher;
use crate::neighbours::{self, Asking, Update};
use crate::rewrite::announce::{self, announcement};
use crate::tables::master::{self, Draining, Master};
use crate::tables::{NeighbourKey, Tables};
use crate::verdict::PortId;
use crate::worker::{Claim, Command, Handle, Noticed};
use levee_api::net::Role;

/// Something for the director to do.
pub enum Message {
    /// A whole program.
    Load(Program, Answer),
    /// A change of it.
    Amend(Delta, Answer),
    /// What to announce, and for how long.
    Announce(Term, TermAnswer),
    /// The program is asked for.
    Show(oneshot::Sender<Arc<Program>>),
    /// What the kernel says has changed.
    Kernel(Vec<Update>),
    /// End.
    Stop,
}

/// Where the answer to a program goes. Whoever asked may have gone away.
pub type Answer = oneshot::Sender<Result<Applied, Refusal>>;

/// Where the answer to a term goes.
pub type TermAnswer = oneshot::Sender<Result<(), Refusal>>;

/// Messages taken between two publications. More wait: under a storm of changes, workers get one snapshot for many.
const AT_ONCE: usize = 256;

/// How long the director looks without a pause whether workers have taken a snapshot, giving way to whoever wants its core: they take it with
/// their next batch, in some 10 to 100 µs under load, and who sleeps is not waited for. A pause of its own would take 50 µs and more.
const GLANCE: Duration = Duration::from_micros(150);

/// How often it looks after that: as often as it has waited so far, which makes the answer at most twice as late as the workers
/// were, but at least this often.
const WATCH: Duration = Duration::from_millis(1);

/// A programmer waits this long for the workers, less than the control socket waits for the director.
const WORKER_PATIENCE: Duration = Duration::from_secs(20);

/// How often the workers' pulse is felt: a loop that has not turned in between is not alive. Idle workers turn ten times a second.
const PULSE: Duration = Duration::from_secs(1);

/// Backends whose draining ends at once that are told one by one: a rollout's worth. More would push everything else out of the memory of
/// events.
const DRAINED_TOLD: usize = 20;

/// What a director is made of.
pub struct Parts {
    /// Program and kernel, empty yet.
    pub master: Master,
    /// The workers' snapshots.
    pub publisher: Publisher<Tables>,
    /// The workers.
    pub handles: Vec<Handle>,
    /// XDP maps of the ports that are shared with the kernel.
    pub steering: Steering,
    /// Where questions of IPv6 are heard.
    pub groups: Groups,
    /// The neighbours' room.
    pub asking: Asking,
    /// How often the node's MAC is shown.
    pub announce_interval: Duration,
    /// How it is, by uplink.
    pub uplinks: BTreeMap<PortId, Uplink>,
    /// Zero of the workers' clock.
    pub epoch: Instant,
    /// What others may read.
    pub shares: Arc<Shares>,
    /// Where to tell what happens.
    pub events: Events,
}

/// See the module's documentation.
pub struct Director {
    master: Master,
    publisher: Publisher<Tables>,
    handles: Vec<Handle>,
    steering: Steering,
    groups: Groups,
    asking: Asking,
    announcer: Announcer,
    uplinks: BTreeMap<PortId, Uplink>,
    terms: Terms,
    /// Zero of all times that are told.
    epoch: Instant,
    /// Who waits for every worker to run what the term names.
    term_answers: Vec<TermAnswer>,
    shares: Arc<Shares>,
    events: Events,
    changed: Changed,
    /// Published and not yet taken by every worker, and who waits for it.
    waiting: Option<Waiting>,
    felt: Instant,
    turns: Vec<u64>,
    conflicts: Conflicts,
    addresses: Vec<neighbours::Address>,
    stopping: bool,
}

/// What changed since the last publication.
#[derive(Default)]
struct Changed {
    tables: bool,
    /// A link: what is announced, and where, may be something else.
    links: bool,
    answers: Vec<(Answer, Generation)>,
}

struct Waiting {
    version: u64,
    since: Instant,
    answers: Vec<(Answer, Generation)>,
}

impl Director {
    /// Puts a director together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let now = Instant::now();
        Director {
            turns: vec![0; parts.handles.len()],
            epoch: parts.epoch,
            terms: Terms::new(parts.master.tables().term.clone(), parts.epoch),
            term_answers: Vec::new(),
            master: parts.master,
            publisher: parts.publisher,
            handles: parts.handles,
            steering: parts.steering,
            groups: parts.groups,
            asking: parts.asking,
            announcer: Announcer::new(parts.announce_interval, now),
            uplinks: parts.uplinks,
            shares: parts.shares,
            events: parts.events,
            // What was given at the start is published, steered and wanted too.
            changed: Changed { tables: true, links: true, answers: Vec::new() },
            waiting: None,
            felt: now,
            conflicts: Conflicts::default(),
            addresses: Vec::new(),
            stopping: false,
        }
    }

    /// Runs until told to stop, or until nobody is left to tell it anything.
    pub fn run(mut self, inbox: &Receiver<Message>, noticed: &Noticed) {
        let mut workers_are_there = true;
        while !self.stopping {
            let wake = self.next_wake();
            if workers_are_there {
                select! {
                    recv(inbox) -> message => match message {
                        Ok(message) => self.take(message),
                        Err(_) => break,
                    },
                    // Workers are gone: only possible at the end, and must not spin until it is told.
                    recv(noticed.neighbours) -> key => match key {
                        Ok(key) => self.resolve(key),
                        Err(_) => workers_are_there = false,
                    },
                    recv(noticed.claims) -> claim => match claim {
                        Ok(claim) => self.claimed(&claim),
                        Err(_) => workers_are_there = false,
                    },
                    default(wake) => {}
                }
            } else {
                match inbox.recv_timeout(wake) {
                    Ok(message) => self.take(message),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            for message in inbox.try_iter().take(AT_ONCE) {
                self.take(message);
            }
            for key in noticed.neighbours.try_iter().take(AT_ONCE) {
                self.resolve(key);
            }
            for claim in noticed.claims.try_iter().take(AT_ONCE) {
                self.claimed(&claim);
            }
            self.settle(Instant::now());
        }
        for (answer, _) in self.changed.answers.into_iter().chain(self.waiting.into_iter().flat_map(|w| w.answers)) {
            let _ = answer.send(Err(Refusal::Unavailable("the dataplane is stopping".to_owned())));
        }
    }

    fn next_wake(&self) -> Duration {
        let now = Instant::now();
        let due = self.announcer.next().min(self.felt + PULSE).saturating_duration_since(now);
        let drain = self.master.next_drain().map(|at| (self.epoch + at).saturating_duration_since(now));
        let due = drain.map_or(due, |drain| drain.min(due));
        let due = self.terms.next(boot_millis()).map_or(due, |lapse| lapse.min(due));
        let due = self.conflicts.next().map_or(due, |untold| untold.saturating_duration_since(now).min(due));
        if self.waiting.is_none() && self.publisher.version() <= self.publisher.seen() {
            return due;
        }
        let waited = self.waiting.as_ref().map_or(WATCH, |waiting| now.saturating_duration_since(waiting.since));
        due.min(waited.clamp(GLANCE, WATCH))
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Load(program, answer) => {
                let generation = program.generation;
                let outcome = self.master.load(program);
                self.programmed(outcome, generation, answer);
            }
            Message::Amend(delta, answer) => {
                let generation = delta.generation;
                let outcome = self.master.amend(delta);
                self.programmed(outcome, generation, answer);
            }
            Message::Announce(term, answer) => self.announce_in_term(term, answer),
            Message::Show(answer) => {
                let _ = answer.send(Arc::new(self.master.program()));
            }
            Message::Kernel(updates) => {
                for update in updates {
                    self.update(update);
                }
                self.shares.followed();
            }
            Message::Stop => self.stopping = true,
        }
    }

    fn announce_in_term(&mut self, term: Term, answer: TermAnswer) {
        let holder = term.holder.clone();
        if let Err(why) = self.terms.accept(term, boot_millis()) {
            let _ = answer.send(Err(Refusal::Invalid(vec![why])));
            return;
        }
        self.name_what_the_term_names(|announced| format!("{announced} by a term of {holder}"));
        self.term_answers.push(answer);
    }

    /// Brings the tables to what the term names, and tells of it if that is something else than before.
    fn name_what_the_term_names(&mut self, tell: impl FnOnce(&str) -> String) {
        let addresses = self.terms.addresses().cloned().unwrap_or_default();
        if self.master.set_term(&addresses) {
            self.changed.tables = true;
            let announced = match addresses.len() {
                0 => "no address is announced".to_owned(),
                1..=4 => {
                    format!("announced: {}", addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
                }
                many => format!("{many} addresses are announced"),
            };
            self.events.record(Kind::Announcing, tell(&announced));
        }
        self.shares.term(self.master.needs_term(), self.master.announced().len(), self.terms.facts.clone());
    }

    fn programmed(&mut self, outcome: Result<(), master::Refusal>, generation: Generation, answer: Answer) {
        let refusal = match outcome {
            Ok(()) => {
                self.changed.tables = true;
                self.changed.answers.push((answer, generation));
                return;
            }
            Err(master::Refusal::Stale { generation }) => Refusal::Stale { generation },
            Err(master::Refusal::Invalid(reasons)) => {
                let first = reasons.first().map_or("", String::as_str);
                let message = format!("generation {generation} was refused, for {} reasons: {first}", reasons.len());
                self.events.record(Kind::ProgramRefused, message);
                Refusal::Invalid(reasons)
            }
        };
        let _ = answer.send(Err(refusal));
    }

    fn update(&mut self, update: Update) {
        match update {
            Update::Routes(routes) => {
                self.changed.tables |= self.master.set_routes(routes);
            }
            Update::Addresses(addresses) => {
                self.changed.tables |= self.master.set_kernel_addresses(addresses.iter().map(|own| own.address));
                // They may have moved to another port.
                self.changed.links |= self.addresses != addresses;
                self.addresses = addresses;
            }
            Update::Neighbour { key, mac, state } => {
                self.changed.tables |= self.master.set_neighbour(key.0, key.1, mac);
                self.shares.neighbour(key, mac, state);
            }
            Update::Link { port, up, mac } => {
                let before = self.shares.link(port, LinkState { up, mac });
                let name = self.port_name(port);
                if before.up != up {
                    let (kind, word) = if up { (Kind::LinkUp, "up") } else { (Kind::LinkDown, "down") };
                    self.events.record(kind, format!("{name} is {word}"));
                }
                if mac.is_station() && self.master.tables().port(port).is_some_and(|port| port.mac != mac) {
                    self.master.set_port_mac(port, mac);
                    self.events.record(Kind::LinkChanged, format!("{name} has another MAC now: {mac}"));
                    self.changed.tables = true;
                }
                self.changed.tables |= self.master.set_standing_by(self.standing_by());
                self.changed.links = true;
            }
            Update::Diverted(problem) => {
                if self.shares.diversion(problem.clone())
                    && let Some(problem) = problem
                {
                    self.events.record(Kind::Degraded, problem);
                }
            }
            Update::Resynchronised => {
                self.events.record(Kind::KernelResync, "the kernel's routes and neighbours were read anew");
            }
        }
    }

    fn resolve(&mut self, key: NeighbourKey) {
        self.asking.resolve((key.port, key.address.into()));
    }

    fn claimed(&mut self, claim: &Claim) {
        let (address, now) = (IpAddr::from(claim.address), Instant::now());
        let in_use = self.master.tables().is_in_use(claim.address);
        if !self.conflicts.is_news(address, in_use, now) {
            return;
        }
        let (mac, name) = (claim.mac, self.port_name(claim.port));
        let whose = if in_use { "which is ours" } else { "which no pod has, but its prefix is this node's" };
        let message = format!("{mac} on {name} says that it has {address}, {whose}; find and stop it");
        self.events.record(Kind::AddressConflict, message);
        if in_use {
            // RFC 5227, 2.4 (b): defended with one announcement, at most every DEFEND_INTERVAL.
            let Claim { port, vlans, .. } = *claim;
            self.announcer.again(Announcement { port, address, vlans }, now);
        }
    }

    fn tell_untold(&mut self, now: Instant) {
        if let Some(count) = self.conflicts.untold(now) {
            let (counters, pause) = ("`arp_conflict`, `ndp_conflict`", conflicts::PAUSE.as_secs());
            let message = format!("and {count} more claims to addresses of ours within {pause} s ({counters})");
            self.events.record(Kind::AddressConflict, message);
        }
    }

    /// Brings everybody up to date.
    fn settle(&mut self, now: Instant) {
        self.tell_untold(now);
        self.lapse_term();
        // Before what has changed is published: so who asks finds what drains as it runs.
        self.end_drains(now);
        let changed = std::mem::take(&mut self.changed);
        self.follow_around(changed.links, now);
        if changed.tables {
            self.publish(changed.answers, now);
        }
        self.look_who_has_taken_it(now);
        if changed.tables {
            // Nobody waits for those that sleep; but they may hold frames that wait for what has changed.
            for handle in &self.handles {
                handle.waker.wake();
            }
        }
        self.publisher.reclaim();
        self.announce(now);
        if now - self.felt >= PULSE {
            self.felt = now;
            self.feel();
        }
    }

    /// A term that nobody renews ends.
    fn lapse_term(&mut self) {
        let Some((holder, addresses)) = self.terms.lapse(boot_millis()) else { return };
        if addresses > 0 {
            let message = format!(
                "the term of {holder} has run out, of {addresses} addresses: levee-control is dead, stopped, or cut off from \
                 the cluster. ARP for them is not answered any more; traffic that arrives is served"
            );
            self.events.record(Kind::TermLapsed, message);
        }
        self.name_what_the_term_names(str::to_owned);
    }

    /// Backends whose time to drain is over lose their flows.
    fn end_drains(&mut self, now: Instant) {
        let ended = self.master.follow_drains(now.saturating_duration_since(self.epoch));
        self.changed.tables |= !ended.is_empty();
        for Draining { service, address, port, .. } in ended.iter().take(DRAINED_TOLD) {
            let (name, backend) = (&service.name, SocketAddr::new(*address, *port));
            let message =
                format!("{backend} of {name} ({}) has drained for as long as it may: its flows end", service.protocol);
            self.events.record(Kind::Drained, message);
        }
        if let Some(more) = ended.len().checked_sub(DRAINED_TOLD).filter(|more| *more > 0) {
            self.events.record(Kind::Drained, format!("and {more} more backends with them"));
        }
    }

    /// What follows from a change outside of the tables: what is steered, who is wanted and heard, what is announced.
    fn follow_around(&mut self, links: bool, now: Instant) {
        let around = self.master.take_around();
        if around.steered {
            self.steering.aim(self.master.steered());
            // What is lost is no longer steered before the tables lose it.
            self.report_steering(Steering::narrow);
        }
        if around.wanted {
            self.asking.standing(self.master.wanted_neighbours());
        }
        if around.steered || around.announced {
            let master = &self.master;
            let alone = master.announced().into_iter().chain(master.pods()).chain(master.own_sources());
            self.groups.hear(alone, master.has_ipv6_prefix());
        }
        if around.announced || links {
            self.shares.term(self.master.needs_term(), self.master.announced().len(), self.terms.facts.clone());
            self.announcer.set(self.ours(), now);
        }
    }

    /// Gives workers the tables as they are now, and looks for a moment whether they take them.
    fn publish(&mut self, answers: Vec<(Answer, Generation)>, now: Instant) {
        let version = self.publisher.publish(self.master.snapshot());
        self.shares.publish(self.master.snapshot());
        self.shares.drains(self.master.draining());
        let waiting = self.waiting.get_or_insert_with(|| Waiting { version, since: now, answers: Vec::new() });
        waiting.version = version;
        waiting.answers.extend(answers);
        let glance = Instant::now();
        while self.publisher.seen() < version && glance.elapsed() < GLANCE {
            std::thread::yield_now();
        }
    }

    /// Answers those who wait: all workers run it, or have not for too long.
    fn look_who_has_taken_it(&mut self, now: Instant) {
        if self.publisher.version() <= self.publisher.seen() {
            self.taken();
            self.terms.in_force(boot_millis());
            for answer in self.term_answers.drain(..) {
                let _ = answer.send(Ok(()));
            }
        } else if let Some(waiting) = self.waiting.as_mut().filter(|waiting| now - waiting.since > WORKER_PATIENCE) {
            waiting.since = now;
            for (answer, generation) in waiting.answers.drain(..) {
                let reason =
                    format!("generation {generation} was taken, but not every worker runs it; see GET /v1/health");
                let _ = answer.send(Err(Refusal::Unavailable(reason)));
            }
        }
    }

    /// Every worker runs what was published last.
    fn taken(&mut self) {
        self.report_steering(Steering::widen);
        let Some(waiting) = self.waiting.take() else { return };
        self.shares.run(self.master.generation());
        let generations: Vec<Generation> = waiting.answers.iter().map(|(_, generation)| *generation).collect();
        for (answer, generation) in waiting.answers {
            let _ = answer.send(Ok(Applied { generation }));
        }
        // Telling takes longer than answering: it writes the log.
        for generation in generations {
            self.events.record(Kind::Programmed, format!("generation {generation} runs"));
        }
    }

    fn report_steering(&mut self, step: impl FnOnce(&mut Steering) -> Result<(), String>) {
        match step(&mut self.steering) {
            Ok(()) => drop(self.shares.steering(None)),
            Err(error) => {
                if self.shares.steering(Some(error.clone())) {
                    self.events.record(Kind::Degraded, error);
                }
            }
        }
    }

    /// Of the uplinks of one segment, all that are up but the first.
    fn standing_by(&self) -> Vec<PortId> {
        let mut spoken_for = BTreeSet::new();
        let up = self.uplinks.iter().filter(|(port, _)| self.shares.link_state(**port).up);
        let in_segments = up.filter_map(|(port, uplink)| Some((*port, uplink.segment.as_deref()?)));
        in_segments.filter(|(_, segment)| !spoken_for.insert(*segment)).map(|(port, _)| port).collect()
    }

    /// What announcements may be about.
    fn ours(&self) -> Ours {
        // The node's own IPv6 addresses are the kernel's to advertise: only it knows whether the node is a router, and to say
        // that it is none would take it out of others' lists of routers (RFC 4861, 7.2.5).
        let own = |port| -> Vec<IpAddr> {
            let own = self.addresses.iter().filter(|own| own.port == Some(port) && own.address.is_ipv4());
            own.map(|own| own.address).filter(|own| !own.is_loopback() && !own.is_unspecified()).collect()
        };
        let ports = self.master.tables().ports.iter().zip(0..);
        Ours {
            uplinks: ports
                .filter(|(port, id)| port.role == Role::Uplink && self.shares.link_state(PortId(*id)).up)
                .map(|(_, id)| {
                    let (id, vlans) = (PortId(id), self.uplinks.get(&PortId(id)).cloned().unwrap_or_default().vlans);
                    (id, Line { own: own(id), vlans, speaks: !self.master.tables().stands_by(id) })
                })
                .collect(),
            addresses: self.master.announced().into_iter().chain(self.master.pods()).collect(),
        }
    }

    fn announce(&mut self, now: Instant) {
        // Before every worker knows that an address is ours, an answer to the announcement could not be served.
        if self.publisher.version() > self.publisher.seen() {
            return;
        }
        for said in self.announcer.due(now) {
            let Announcement { port, address, vlans } = said;
            let Some(mac) = self.master.tables().port(port).map(|port| port.mac) else { continue };
            let mut frame = [0; announce::ROOM];
            let Some(length) = announcement(mac, address, vlans, &mut frame) else { continue };
            let sent = self.handles.first().is_some_and(|handle| {
                handle.ask(Command::Inject(port, frame.get(..length).unwrap_or_default().into())).is_ok()
            });
            if !sent {
                self.announcer.again(said, now + PULSE);
            }
        }
    }

    fn feel(&mut self) {
        self.steering.retry();
        for (handle, last) in self.handles.iter().zip(&mut self.turns) {
            let turns = handle.pulse.turns.load(std::sync::atomic::Ordering::Relaxed);
            if self.shares.alive(handle.worker, turns != *last) && turns == *last {
                self.events.record(Kind::Degraded, format!("worker {} does not turn", handle.worker));
            }
            *last = turns;
        }
    }

    fn port_name(&self, port: PortId) -> Arc<str> {
        self.master.tables().port(port).map_or_else(|| "?".into(), |port| Arc::clone(&port.name))
    }
}

#[cfg(test)]
mod tests;
