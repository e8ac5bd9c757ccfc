//! The thread around a [`Balancer`]: carries what it asks for, and tells it what happens.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::api::{WatchEvent, WatchParams};
use levee_api::term::TermStatus;
use tokio::sync::{mpsc, oneshot, watch};

use super::names::{About, LABEL};
use super::owners::{object, status};
use super::peers::{Peers, Word, verify};
use super::view::{Object, Seen};
use super::{Ask, Balancer, ElectionStatus, Settings, Task, dataplane};
use crate::lease::{Answered, Labels, Leases, Moment, Outcome, Write, identity};
use crate::watch::cluster::Access;

/// How long a list of Leases may take.
const LIST: Duration = Duration::from_secs(5);

/// A watch on which nothing came for so long is dead: heartbeats come several times a second.
const SILENCE: Duration = Duration::from_secs(3);

/// How long the server lets a watch last.
const WATCH_SECONDS: u32 = 240;

/// Pause after a failure, so that a server that refuses is not asked in a storm.
const PAUSE: Duration = Duration::from_millis(100);

/// A connection that has confirmed nothing for so long is made anew, with credentials read again.
const RECONNECT: Duration = Duration::from_secs(5);

/// How often the status is told when nothing happens.
const TELL: Duration = Duration::from_millis(500);

/// How long giving everything up may take at the end.
const LAST: Duration = Duration::from_secs(2);

/// What an election needs to know, once.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The API server.
    pub kubeconfig: Option<PathBuf>,
    /// Where the Leases are.
    pub namespace: String,
    /// This balancer's Node.
    pub node: String,
    /// Times.
    pub settings: Settings,
    /// The dataplane's socket.
    pub dataplane: PathBuf,
    /// Where peers reach this one; without it, at the Node's own address.
    pub peer_address: Option<IpAddr>,
    /// The UDP port for peers; 0: nobody is asked for promises and none are given.
    pub peer_port: u16,
}

/// What it needs to know as it goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Addresses to be announced, that the dataplane is programmed to serve; unknown before it is.
    pub addresses: Option<BTreeSet<IpAddr>>,
    /// Why this balancer is to own nothing.
    pub excluded: Option<String>,
    /// The Node's own address.
    pub address: Option<IpAddr>,
}

/// A running election.
#[derive(Debug)]
pub struct Elected {
    /// How it stands.
    pub status: watch::Receiver<ElectionStatus>,
    stop: Option<oneshot::Sender<()>>,
    ended: oneshot::Receiver<()>,
}

impl Elected {
    /// Gives everything up, and waits for that, but not for ever.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        let _ = tokio::time::timeout(LAST + PAUSE, self.ended).await;
    }
}

/// Something that came back.
enum Came {
    Client(Result<Leases, String>),
    Beaten(Answered),
    Verified(String, Result<Option<Object>, ()>),
    Written(IpAddr, Write, Answered),
    Deleted(IpAddr, String, bool),
    Termed(Result<TermStatus, String>),
}

/// Starts the election of a balancer, on a thread of its own.
///
/// # Errors
/// The system has no more threads, or the port is taken.
pub fn start(setup: Setup, wanted: watch::Receiver<Wanted>) -> std::io::Result<Elected> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let peers = match setup.peer_port {
        0 => None,
        port => {
            // Sockets are the runtime's from the beginning.
            let _runtime = runtime.enter();
            Some(Peers::bind(setup.peer_address, port)?)
        }
    };
    let (told, status) = watch::channel(ElectionStatus::default());
    let (stop, stopped) = oneshot::channel();
    let (end, ended) = oneshot::channel();
    std::thread::Builder::new().name("election".to_owned()).spawn(move || {
        runtime.block_on(Run::new(setup, peers, told).run(wanted, stopped));
        let _ = end.send(());
    })?;
    Ok(Elected { status, stop: Some(stop), ended })
}

struct Run {
    setup: Setup,
    balancer: Balancer,
    peers: Option<Arc<Peers>>,
    leases: Option<Leases>,
    connecting: bool,
    /// When the API server last confirmed something, or was connected to.
    confirmed: Moment,
    told: watch::Sender<ElectionStatus>,
    last_told: Moment,
    came: mpsc::UnboundedSender<Came>,
    coming: Option<mpsc::UnboundedReceiver<Came>>,
    seen: mpsc::Sender<Seen>,
    seeing: Option<mpsc::Receiver<Seen>>,
    watching: Option<tokio::task::JoinHandle<()>>,
    logged: Logged,
}

/// What was logged last, so that it is logged once.
#[derive(Default, PartialEq, Eq)]
struct Logged {
    announced: BTreeSet<IpAddr>,
    ready: Option<Result<(), String>>,
    outlasting: bool,
    trouble: Option<String>,
}

impl Run {
    fn new(setup: Setup, peers: Option<Peers>, told: watch::Sender<ElectionStatus>) -> Run {
        let (came, coming) = mpsc::unbounded_channel();
        let (seen, seeing) = mpsc::channel(1024);
        Run {
            balancer: Balancer::new(&setup.node, identity(&setup.node), setup.settings.clone(), None),
            setup,
            peers: peers.map(Arc::new),
            leases: None,
            connecting: false,
            confirmed: Moment::now(),
            told,
            last_told: Moment::default(),
            came,
            coming: Some(coming),
            seen,
            seeing: Some(seeing),
            watching: None,
            logged: Logged::default(),
        }
    }

    async fn run(mut self, mut wanted: watch::Receiver<Wanted>, mut stopped: oneshot::Receiver<()>) {
        let (Some(mut coming), Some(mut seeing)) = (self.coming.take(), self.seeing.take()) else { return };
        let mut last: Option<Moment> = None;
        self.want(&wanted.borrow_and_update().clone());
        loop {
            let now = Moment::now();
            if self.balancer.is_stopped() || last.is_some_and(|last| last <= now) {
                break;
            }
            self.connect(now);
            let (tasks, wake) = self.balancer.step(now);
            for task in tasks {
                self.carry(task);
            }
            self.tell(now);
            let wake = last.map_or(wake, |last| wake.min(last));
            let peers = self.peers.clone();
            tokio::select! {
                Some(came) = coming.recv() => {
                    self.take(came);
                    while let Ok(came) = coming.try_recv() {
                        self.take(came);
                    }
                }
                Some(seen) = seeing.recv() => {
                    self.balancer.see(seen, Moment::now());
                    while let Ok(seen) = seeing.try_recv() {
                        self.balancer.see(seen, Moment::now());
                    }
                }
                Ok(()) = wanted.changed(), if last.is_none() => {
                    let wanted = wanted.borrow_and_update().clone();
                    self.want(&wanted);
                }
                packet = hear(peers.as_deref()) => self.heard(&packet).await,
                () = tokio::time::sleep(wake.since(now).min(TELL)) => {}
                _ = &mut stopped, if last.is_none() => {
                    self.balancer.stop();
                    last = Some(Moment::now() + LAST);
                }
            }
        }
        if let Some(watching) = self.watching.take() {
            watching.abort();
        }
    }

    fn want(&mut self, wanted: &Wanted) {
        self.balancer.want(wanted.addresses.clone());
        self.balancer.exclude(wanted.excluded.clone());
        let address = self.setup.peer_address.or(wanted.address);
        let peer = self.peers.as_ref().zip(address).map(|(peers, address)| peers.told(address));
        self.balancer.set_peer(peer);
    }

    fn connect(&mut self, now: Moment) {
        if self.leases.is_some() && now.since(self.confirmed) > RECONNECT {
            self.leases = None;
        }
        if self.leases.is_some() || self.connecting {
            return;
        }
        self.connecting = true;
        let (access, namespace) = (Access::new(self.setup.kubeconfig.clone()), self.setup.namespace.clone());
        self.spawn(async move { Came::Client(access.client().await.map(|client| Leases::new(client, &namespace))) });
    }

    fn spawn(&self, work: impl Future<Output = Came> + Send + 'static) {
        let came = self.came.clone();
        tokio::spawn(async move {
            let _ = came.send(work.await);
        });
    }

    fn carry(&mut self, task: Task) {
        let terms = self.setup.settings.terms;
        let leases = self.leases.clone();
        let missing = || async {
            tokio::time::sleep(PAUSE).await;
            Answered { outcome: Outcome::Failed, why: Some("there is no connection to the API server".to_owned()) }
        };
        match task {
            Task::Heartbeat(step, notes) => {
                let about = About::Balancer(self.setup.node.clone());
                self.spawn(async move {
                    Came::Beaten(match leases {
                        Some(leases) => {
                            leases.carry(&about.name(), &step, &terms, &about.labels(), &notes.annotations()).await
                        }
                        None => missing().await,
                    })
                });
            }
            Task::Verify(name) => self.spawn(async move {
                let about = About::Balancer(name.clone());
                let read = match leases {
                    Some(leases) => leases.get(&about.name(), terms.patience()).await.map_err(drop),
                    None => {
                        missing().await;
                        Err(())
                    }
                };
                Came::Verified(name, read.map(|lease| lease.as_ref().and_then(object)))
            }),
            Task::Write(address, write) => self.spawn(async move {
                let about = About::Address(address);
                let answered = match leases {
                    Some(leases) => leases.write(&about.name(), &write, &terms, &about.labels(), &Labels::new()).await,
                    None => missing().await,
                };
                Came::Written(address, write, answered)
            }),
            Task::Delete(address, version) => self.spawn(async move {
                let name = About::Address(address).name();
                let done = match leases {
                    Some(leases) => {
                        let answered = leases.delete(&name, &version, terms.patience()).await;
                        matches!(answered.outcome, Outcome::Read(None))
                    }
                    None => false,
                };
                Came::Deleted(address, version, done)
            }),
            Task::Term(term) => {
                let socket = self.setup.dataplane.clone();
                self.spawn(async move { Came::Termed(dataplane::give(&socket, &term, terms.patience()).await) });
            }
            Task::Ask(Ask { of, peer, number }) => {
                let Some(peers) = self.peers.clone() else { return };
                let word = Word { to: of, from: self.balancer.identity().to_owned(), number, promise: false };
                tokio::spawn(async move { peers.say(&word, &peer).await });
            }
        }
    }

    fn take(&mut self, came: Came) {
        let now = Moment::now();
        match came {
            Came::Client(Ok(leases)) => {
                self.connecting = false;
                self.confirmed = now;
                if let Some(watching) = self.watching.take() {
                    watching.abort();
                }
                self.watching = Some(tokio::spawn(follow(leases.clone(), self.seen.clone())));
                self.leases = Some(leases);
            }
            Came::Client(Err(why)) => {
                self.trouble(Some(why));
                // Not at once again.
                let came = self.came.clone();
                let (access, namespace) = (Access::new(self.setup.kubeconfig.clone()), self.setup.namespace.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(RECONNECT / 5).await;
                    let client = access.client().await.map(|client| Leases::new(client, &namespace));
                    let _ = came.send(Came::Client(client));
                });
            }
            Came::Beaten(answered) => {
                if answered.why.is_none() {
                    self.confirmed = now;
                    self.trouble(None);
                } else if answered.outcome == Outcome::Failed && self.leases.is_some() {
                    self.trouble(answered.why);
                }
                self.balancer.beaten(answered.outcome, now);
            }
            Came::Verified(name, answer) => self.balancer.verified(&name, answer, now),
            Came::Written(address, write, answered) => {
                if let (Outcome::Failed, Some(why)) = (&answered.outcome, &answered.why) {
                    tracing::debug!(%address, "its Lease cannot be written: {why}");
                }
                self.balancer.written(address, &write, &answered.outcome, now);
            }
            Came::Deleted(address, version, done) => self.balancer.deleted(address, version, done, now),
            Came::Termed(answer) => self.balancer.termed(answer.map(|status| status.problems)),
        }
    }

    async fn heard(&mut self, packet: &[u8]) {
        let now = Moment::now();
        let peer_of = |from: &str| {
            let member = self.balancer.view().member_of(from)?;
            member.notes.peer.clone().filter(|_| member.record.holder.as_deref() == Some(from))
        };
        let Some(word) = verify(packet, peer_of).filter(|word| word.to == self.balancer.identity()) else { return };
        if word.promise {
            self.balancer.promised(&word.from, word.number, now);
        } else if self.balancer.asked(&word.from, now)
            && let (Some(peer), Some(peers)) = (peer_of_again(&self.balancer, &word.from), &self.peers)
        {
            let answer = Word { to: word.from, from: word.to, number: word.number, promise: true };
            peers.say(&answer, &peer).await;
        }
    }

    fn trouble(&mut self, why: Option<String>) {
        if self.logged.trouble.is_some() != why.is_some() {
            match &why {
                Some(why) => tracing::warn!("election: the API server confirms nothing: {why}"),
                None => tracing::info!("election: the API server confirms again"),
            }
        }
        self.logged.trouble = why;
    }

    /// Logs what is news, and tells how it stands.
    fn tell(&mut self, now: Moment) {
        let announced = self.balancer.announced(now);
        let ready = self.balancer.ready();
        let outlasting = self.balancer.is_outlasting(now);
        let news = announced != self.logged.announced
            || self.logged.ready.as_ref() != Some(&ready)
            || outlasting != self.logged.outlasting;
        if news {
            for address in announced.difference(&self.logged.announced) {
                tracing::info!(%address, "election: ours now");
            }
            for address in self.logged.announced.difference(&announced) {
                tracing::info!(%address, "election: not ours any more");
            }
            match (&ready, &self.logged.ready) {
                (Err(why), Some(Ok(()))) => tracing::warn!("election: everything is given up: {why}"),
                (Err(why), _) if self.logged.ready.as_ref() != Some(&ready) => {
                    tracing::info!("election: nothing is taken: {why}");
                }
                (Ok(()), Some(Err(_)) | None) => tracing::info!("election: fit to own addresses"),
                _ => {}
            }
            if outlasting != self.logged.outlasting {
                if outlasting {
                    tracing::warn!("election: the API server is gone for all of us; going on by each other's promises");
                } else {
                    tracing::info!("election: no longer going on by promises");
                }
            }
            self.logged = Logged { announced, ready: Some(ready), outlasting, trouble: self.logged.trouble.take() };
        }
        if news || now.since(self.last_told) >= TELL {
            self.last_told = now;
            self.told.send_replace(status(&self.balancer, now));
        }
    }
}

fn peer_of_again(balancer: &Balancer, from: &str) -> Option<String> {
    balancer.view().member_of(from)?.notes.peer.clone()
}

async fn hear(peers: Option<&Peers>) -> Vec<u8> {
    match peers {
        Some(peers) => peers.hear().await,
        None => std::future::pending().await,
    }
}

/// Says what there is of the election's Leases and what becomes of it, until nobody listens: for a [`Balancer`], and for
/// [`Owners`](super::Owners).
pub async fn follow(leases: Leases, seen: mpsc::Sender<Seen>) {
    loop {
        let Err(why) = follow_once(&leases, &seen).await else { return };
        tracing::debug!("election: the Leases cannot be watched: {why}");
        if seen.send(Seen::Nothing).await.is_err() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Until it fails; well, if nobody listens any more.
async fn follow_once(leases: &Leases, seen: &mpsc::Sender<Seen>) -> Result<(), String> {
    let (items, mut version) = leases.list(LABEL, LIST).await?;
    if seen.send(Seen::All(items.iter().filter_map(object).collect())).await.is_err() {
        return Ok(());
    }
    let params = WatchParams::default().labels(LABEL).timeout(WATCH_SECONDS);
    loop {
        let begun = tokio::time::timeout(LIST, leases.api().watch(&params, &version)).await;
        let stream = begun.map_err(|_| "no answer".to_owned())?.map_err(|error| error.to_string())?;
        let mut stream = Box::pin(stream);
        loop {
            let next = tokio::time::timeout(SILENCE, stream.next()).await;
            let event = match next.map_err(|_| format!("silent for {} s", SILENCE.as_secs()))? {
                // The server ends a watch after its time.
                None => break,
                Some(event) => event.map_err(|error| error.to_string())?,
            };
            let said = match event {
                WatchEvent::Added(lease) | WatchEvent::Modified(lease) => {
                    version = lease.metadata.resource_version.clone().unwrap_or(version);
                    object(&lease).map(Seen::Changed)
                }
                WatchEvent::Deleted(lease) => {
                    version = lease.metadata.resource_version.clone().unwrap_or(version);
                    object(&lease).map(|object| Seen::Gone(object.about, object.record.version))
                }
                WatchEvent::Bookmark(bookmark) => {
                    version = bookmark.metadata.resource_version;
                    None
                }
                WatchEvent::Error(status) => return Err(status.message),
            };
            if let Some(said) = said
                && seen.send(said).await.is_err()
            {
                return Ok(());
            }
        }
    }
}
