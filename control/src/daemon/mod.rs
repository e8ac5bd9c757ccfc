//! The daemon: sources in, programs out, and a socket that tells how it stands.
//!
//! ```text
//!   sources ──events──► Store ──(due?)──► Register ──Changes──► Compiler ──Change──► Sync ──► Transport
//!                                             │                                        │
//!                                             ▼                                        ▼
//!                                                Standing, read by the status socket
//! ```
//!
//! Each of these remembers what it has and takes in what changes, so that one changed slice costs one Service, however many
//! there are. A change that comes after a while of nothing goes through at once; those that come while it does are taken
//! together, the last state winning (rule 16).
//!
//! One thread turns the loop; sources read on their own. Bad input changes nothing but the standing: the program that was
//! compiled last goes on being wanted, and the dataplane goes on running it.

mod checks;
pub mod metrics;
mod socket;
mod standing;
mod status;

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use levee_api::diagnostic::Diagnostic;
use levee_api::program::Generation;
pub use levee_socket::BindError;
use levee_socket::Listening;
use tokio::sync::{mpsc, oneshot, watch};

use crate::allocate::Addresses;
use crate::compile::{Compiler, Role, Size, compile};
use crate::config::{self, Config};
use crate::election::{self, Wanted};
use crate::lease::Terms;
use crate::model::{Kind, Register};
use crate::notice::Notice;
use crate::plan::Change;
use crate::program::{Link, Outcome, Settings, Step, Sync, Transport};
use crate::publish::{self, Order};
use crate::watch::cluster::Access;
use crate::watch::{Closed, ClusterSource, Event, FileSource, Outlet, Source, SourceId, Store, cluster, follow};

pub use status::{Dataplane, DataplaneState, Health, SourceStatus, Status};

use checks::HealthChecks;
use metrics::Metrics;
use standing::Standing;

/// Two programs are at least so long apart (rule 16): at most a hundred a second, whatever happens in the cluster.
const PACE: Duration = Duration::from_millis(10);

/// Batches of events that wait to be taken in before sources wait themselves.
const BACKLOG: usize = 64;

/// Questions who has which address that wait. People ask them.
const QUESTIONS: usize = 4;

/// How long a request that is under way may take to end when the process is told to.
const DRAIN: Duration = Duration::from_secs(2);

/// Diagnostics and notices of one kind that are logged at a time; the status has them all.
const LOGGED: usize = 20;

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No status socket.
    #[error(transparent)]
    Socket(#[from] BindError),
    /// The listener of `metrics`.
    #[error(
        "metrics: cannot listen on {address}: {source}\n  help: `ss -ltnp` shows who does; set another `metrics` address, one of this machine's"
    )]
    Metrics {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// A source has no thread to run on.
    #[error("source {name}: cannot start: {source}")]
    Source {
        /// Its name.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// The candidate for assigning addresses has no thread to run on.
    #[error("allocate: cannot start: {0}")]
    Allocate(#[source] io::Error),
    /// The thread of the election, or its port.
    #[error(
        "announce: the election cannot start: {0}\n  help: is the UDP port `peer_port` taken? `ss -lunp` shows by whom"
    )]
    Election(#[source] io::Error),
    /// The runtime refuses the socket.
    #[error("the status socket: {0}")]
    Serve(#[source] io::Error),
}

/// Runs until `stop` is done. `ready` is called once, when the status socket answers and every source has said something,
/// good or bad: a daemon that waits for its input to be mended is up. `path` is the configuration's file, which is followed.
///
/// # Errors
/// It cannot start; see [`Error`]. Once it runs, nothing ends it but `stop`.
pub async fn run(
    path: &Path,
    config: Config,
    transport: impl Transport,
    ready: impl FnOnce(),
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let sources: Vec<Box<dyn Source>> = config.sources.iter().flat_map(|source| sources_of(source, &config)).collect();
    let names: Vec<String> = sources.iter().map(|source| source.name()).collect();
    let (ask, mut asked) = mpsc::channel(QUESTIONS);
    let standing = Arc::new(Standing::new(&config, names, ask));

    let listening = Listening::bind(&config.socket, config.socket_group.as_deref(), "levee-control")?;
    let metrics = Arc::new(Metrics::default());
    let router = status::router(Arc::clone(&standing), Arc::clone(&metrics));
    let server = socket::serve(&listening, router).map_err(Error::Serve)?;
    if let Some(address) = config.metrics {
        let router = status::metrics_router(Arc::clone(&standing), Arc::clone(&metrics));
        // Ends with the runtime: nobody minds a scrape that breaks off at the end.
        tokio::spawn(socket::serve_tcp(address, router).map_err(|source| Error::Metrics { address, source })?);
    }

    let (events, mut inlet) = mpsc::channel(BACKLOG);
    let count = sources.len();
    for (id, source) in sources.into_iter().enumerate() {
        let name = source.name();
        source.start(Outlet::new(id, events.clone())).map_err(|source| Error::Source { name, source })?;
    }

    let (orders, candidate) = match candidate(&config, &standing)? {
        Some((orders, candidate)) => (Some(orders), Some(candidate)),
        None => (None, None),
    };

    let (configs, mut new_configs) = mpsc::channel(1);
    let followed = path.to_owned();
    std::thread::Builder::new()
        .name("watch-config".to_owned())
        .spawn(move || {
            let say = |config| configs.blocking_send(config).map_err(|_| Closed);
            follow(&followed, || configs.is_closed(), config::load_to_follow, say);
        })
        .map_err(|source| Error::Source { name: path.display().to_string(), source })?;

    let (wants, wanted) = watch::channel(Wanted::default());
    let elected = match election_of(&config) {
        Some(setup) => {
            let elected = election::start(setup, wanted).map_err(Error::Election)?;
            standing.elects(elected.status.clone());
            Some(elected)
        }
        None => None,
    };

    let mut turn = Turn {
        // Without a dataplane nothing is compiled, and nobody is told of its health.
        checks: HealthChecks::new(config.dataplane.clone().unwrap_or_default()),
        wants,
        compiler: Compiler::new(config.view.clone()),
        config,
        config_mistakes: Vec::new(),
        store: Store::new(count),
        register: Register::default(),
        heard: vec![false; count],
        sync: Sync::new(Settings::default()),
        standing,
        metrics,
        orders,
        burst: None,
        compiled: None,
        triggers: Vec::new(),
        mistakes_told: BTreeSet::new(),
        notices_told: BTreeSet::new(),
        linked: (Link::Unknown, None),
    };
    turn.store.count_triggers(SystemTime::now());
    let mut ready = Some(ready);
    let mut stop = pin!(stop);
    let mut server = pin!(server);
    let mut under_way: Option<Pin<Box<dyn Future<Output = Outcome>>>> = None;
    loop {
        let now = Instant::now();
        turn.compile_if_due(now);
        if turn.has_heard_all()
            && let Some(ready) = ready.take()
        {
            ready();
        }
        let until = match turn.next_step(now) {
            Some(Step::Send(request)) => {
                turn.metrics.sent(&request);
                under_way = Some(Box::pin(transport.carry(request)));
                None
            }
            Some(Step::WaitUntil(until)) => Some(until),
            Some(Step::WaitForAnswer) | None => None,
        };
        turn.publish();
        let wake = until.into_iter().chain(turn.compile_at()).min();
        tokio::select! {
            Some(config) = new_configs.recv() => turn.reconfigure(config, Instant::now()),
            Some((source, batch)) = inlet.recv() => {
                let now = Instant::now();
                turn.take_in(source, batch, now);
                // What has been said by now is taken together.
                while let Ok((source, batch)) = inlet.try_recv() {
                    turn.take_in(source, batch, now);
                }
            }
            outcome = answer(&mut under_way) => {
                under_way = None;
                turn.metrics.answered(&outcome, transport.sent());
                turn.sync.finished(Instant::now(), outcome);
                turn.log_link();
                turn.tell_if_in_step();
            }
            Some(answer) = asked.recv() => drop(oneshot::Sender::send(answer, turn.addresses())),
            () = sleep_until(wake) => {}
            () = &mut server => {}
            () = &mut stop => break,
        }
    }
    if let Some(elected) = elected {
        // Somebody else is to have the addresses before nobody renews their term.
        elected.stop().await;
    }
    if let Some(request) = under_way {
        // Better that the dataplane's answer finds us; but it keeps its word without us, too.
        let _ = tokio::time::timeout(DRAIN, request).await;
    }
    // Without orders the candidate gives its Lease back, so that another need not wait until it runs out.
    drop(turn);
    if let Some(candidate) = candidate {
        let _ = tokio::time::timeout(DRAIN, tokio::task::spawn_blocking(|| candidate.join())).await;
    }
    Ok(())
}

/// The election of this configuration's balancer, by the first cluster that it watches. None without a dataplane to announce by.
fn election_of(config: &Config) -> Option<election::Setup> {
    let kubeconfig = config.sources.iter().find_map(|source| match source {
        config::Source::Kubernetes(kubeconfig) => Some(kubeconfig.clone()),
        config::Source::Path(_) => None,
    });
    let announce = config.announce.as_ref()?;
    Some(election::Setup {
        kubeconfig: kubeconfig.flatten(),
        namespace: announce.namespace.clone(),
        node: config.view.node.clone(),
        settings: announce.settings.clone(),
        dataplane: config.dataplane.clone()?,
        peer_address: announce.peer_address,
        peer_port: announce.peer_port,
    })
}

type Orders = watch::Sender<Option<Order>>;

/// Starts the candidate for assigning addresses, if this process is to be one.
fn candidate(config: &Config, standing: &Standing) -> Result<Option<(Orders, JoinHandle<()>)>, Error> {
    let kubeconfig = config.sources.iter().find_map(|source| match source {
        config::Source::Kubernetes(kubeconfig) => Some(kubeconfig.clone()),
        config::Source::Path(_) => None,
    });
    let (Some(allocate), Some(kubeconfig), Some(publishing)) = (&config.allocate, kubeconfig, standing.publishing())
    else {
        return Ok(None);
    };
    let settings = publish::Settings {
        access: Access::new(kubeconfig),
        namespace: allocate.namespace.clone(),
        lease: allocate.name.clone(),
        name: config.view.node.clone(),
        terms: Terms::leader(),
    };
    let (orders, new_orders) = watch::channel(None);
    let candidate = publish::start(settings, new_orders, publishing).map_err(Error::Allocate)?;
    Ok(Some((orders, candidate)))
}

/// Those that run for an entry of the configuration: for a cluster, one for each kind of object.
fn sources_of(source: &config::Source, config: &Config) -> Vec<Box<dyn Source>> {
    match source {
        config::Source::Path(path) => vec![Box::new(FileSource::new(path))],
        config::Source::Kubernetes(kubeconfig) => {
            let with_pods = config.view.role == Role::Node && config.dataplane.is_some();
            ClusterSource::all(kubeconfig.clone(), &config.view.node, with_pods)
                .into_iter()
                .map(|source| Box::new(source) as Box<dyn Source>)
                .collect()
        }
    }
}

/// What is under way, or for ever.
async fn answer(under_way: &mut Option<Pin<Box<dyn Future<Output = Outcome>>>>) -> Outcome {
    match under_way {
        Some(request) => request.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake.into()).await,
        None => std::future::pending().await,
    }
}

/// What the loop turns.
struct Turn {
    /// What the election is told.
    wants: watch::Sender<Wanted>,
    config: Config,
    config_mistakes: Vec<Diagnostic>,
    store: Store,
    register: Register,
    compiler: Compiler,
    /// Ports on which balancers outside of the cluster ask for endpoints here.
    checks: HealthChecks,
    /// Which sources have said something, and it was taken in.
    heard: Vec<bool>,
    sync: Sync,
    standing: Arc<Standing>,
    metrics: Arc<Metrics>,
    /// To the candidate for assigning addresses, if this process is one.
    orders: Option<Orders>,
    /// First event that has not been compiled yet.
    burst: Option<Instant>,
    /// When events were compiled last.
    compiled: Option<Instant>,
    /// What triggered changes that were compiled and may not run yet (rule 40).
    triggers: Vec<SystemTime>,
    /// What was logged about the input, so that it is logged once.
    mistakes_told: BTreeSet<String>,
    notices_told: BTreeSet<String>,
    /// What was logged about the dataplane.
    linked: (Link, Option<Generation>),
}

impl Turn {
    fn has_heard_all(&self) -> bool {
        self.burst.is_none() && self.heard.iter().all(|heard| *heard)
    }

    fn take_in(&mut self, source: SourceId, events: Vec<Event>, now: Instant) {
        if let Some(heard) = self.heard.get_mut(source) {
            *heard = true;
        }
        let lists = events.iter().filter(|event| matches!(event, Event::ListComplete)).count();
        self.metrics.listed(lists as u64);
        let mut changed = false;
        for event in events {
            changed |= self.store.handle(source, event);
        }
        if changed {
            self.burst.get_or_insert(now);
        }
    }

    /// The configuration's file has changed, or one of its keys', or was read for the first time.
    fn reconfigure(&mut self, config: Result<Config, Vec<Diagnostic>>, now: Instant) {
        match config {
            Ok(config) => {
                self.config_mistakes.clear();
                let waiting = self.config.needs_restart(&config);
                if !waiting.is_empty() {
                    tracing::warn!("changes of {} count after a restart", waiting.join(", "));
                }
                if self.config.view != config.view {
                    tracing::info!(node = config.view.node, role = %config.view.role, "the configuration has changed");
                    self.config.view = config.view;
                    self.standing.reconfigured(&self.config.view);
                }
            }
            Err(mistakes) => self.config_mistakes = mistakes,
        }
        self.burst.get_or_insert(now);
    }

    fn compile_at(&self) -> Option<Instant> {
        self.burst.map(|first| self.compiled.map_or(first, |last| first.max(last + PACE)))
    }

    fn compile_if_due(&mut self, now: Instant) {
        if self.compile_at().is_none_or(|at| at > now) {
            return;
        }
        let first = self.burst.take();
        // A source that fails keeps what it said last, and does not hold up the others.
        let mut mistakes = self.config_mistakes.clone();
        mistakes.extend(self.store.failures());
        let begun = Instant::now();
        let judged = self.store.tell(&mut self.register);
        self.metrics.holds(Kind::ALL.into_iter().map(|kind| (kind, self.store.count(kind))).collect(), judged);
        if self.store.is_complete() {
            self.register.settle();
            let refused = self.register.refused();
            if refused.is_empty() {
                let is_new = self.accept();
                self.triggers.append(&mut self.store.take_triggers());
                // What changes no packet's way is through already.
                self.tell_if_in_step();
                self.metrics.compiled(mistakes.is_empty(), begun.elapsed(), first.filter(|_| is_new));
            }
            mistakes.extend(refused);
        }
        log_news("bad input; the last good state stays", &mistakes, &mut self.mistakes_told);
        self.standing.judged(mistakes, self.store.completeness(), &self.store.failing());
        self.compiled = Some(Instant::now());
    }

    /// Tells whoever assigns addresses.
    fn order(&mut self, changed: bool) {
        let class_required = self.config.view.class_required;
        let Some(orders) = &self.orders else { return };
        if changed || orders.borrow().as_ref().is_none_or(|order| order.class_required != class_required) {
            let balanced = Arc::clone(self.register.cluster().balanced());
            orders.send_replace(Some(Order { balanced, class_required }));
        }
    }

    /// Who has which address.
    fn addresses(&self) -> Addresses {
        Addresses::of(self.register.cluster().balanced(), self.config.view.class_required)
    }

    /// What to do for the dataplane, if there is one.
    fn next_step(&mut self, now: Instant) -> Option<Step> {
        self.config.dataplane.is_some().then(|| self.sync.step(now))
    }

    /// Compiles what has changed. Returns whether the program is another one now.
    fn accept(&mut self) -> bool {
        let changes = self.register.take_changes();
        self.order(changes.balanced);
        if self.config.dataplane.is_none() {
            let notices = self.register.cluster().notices().to_vec();
            log_news("notice", &notices, &mut self.notices_told);
            self.standing.compiled(Size::default(), Some(notices));
            return false;
        }
        let cluster = self.register.cluster();
        let change: Change = if *self.compiler.view() == self.config.view {
            self.compiler.update(cluster, &changes)
        } else {
            self.compiler.look_from(self.config.view.clone(), cluster)
        };
        let notices = self.compiler.news(cluster);
        if let Some(notices) = &notices {
            log_news("notice", notices, &mut self.notices_told);
        }
        let size = self.compiler.size();
        self.standing.compiled(size, notices);
        self.checks.want(self.compiler.health_checks());
        self.metrics.services_compiled(self.compiler.compiled());
        self.tell_of_the_node();
        let is_new = self.sync.want(change);
        if is_new {
            tracing::info!(services = size.services, vips = size.vips, "compiled; the dataplane will be told");
        }
        is_new
    }

    /// Everything that was compiled runs.
    fn tell_if_in_step(&mut self) {
        if *self.sync.link() == Link::InStep {
            self.metrics.in_step(Instant::now());
            self.tell_what_runs();
            self.metrics.programmed(&std::mem::take(&mut self.triggers), SystemTime::now());
        }
    }

    /// The dataplane runs what is wanted: these addresses can be announced.
    fn tell_what_runs(&self) {
        if self.wants.is_closed() {
            return;
        }
        let Some(plan) = self.sync.wanted() else { return };
        let addresses: BTreeSet<IpAddr> =
            plan.vips.iter().filter(|(_, announce)| **announce).map(|(address, _)| *address).collect();
        self.wants.send_if_modified(|wanted| {
            let news = wanted.addresses.as_ref() != Some(&addresses);
            wanted.addresses = Some(addresses);
            news
        });
    }

    /// What the cluster says of our own Node.
    fn tell_of_the_node(&self) {
        let node = self.register.cluster().node(&self.config.view.node);
        let address = node.and_then(|node| node.internal_ips.first().copied());
        let why = "its Node has the label node.kubernetes.io/exclude-from-external-load-balancers";
        let excluded = node.is_some_and(|node| node.excluded).then(|| why.to_owned());
        self.wants.send_if_modified(|wanted| {
            let news = wanted.address != address || wanted.excluded != excluded;
            (wanted.address, wanted.excluded) = (address, excluded);
            news
        });
    }

    fn log_link(&mut self) {
        let now = (self.sync.link().clone(), self.sync.generation());
        if now == self.linked {
            return;
        }
        match &now.0 {
            // On the way to one of the others.
            Link::Unknown | Link::Reached => return,
            Link::InStep => tracing::info!(generation = now.1, "the dataplane is in step"),
            Link::Refused(message) => {
                tracing::error!("the dataplane refuses the program and runs what it had: {message}")
            }
            Link::Unreachable(message) => tracing::warn!("the dataplane cannot be reached: {message}"),
        }
        self.linked = now;
    }

    fn publish(&self) {
        self.standing.dataplane(self.sync.link(), self.sync.generation());
        self.standing.unanswered(self.checks.problems());
    }
}

/// Logs what was not logged the last time.
fn log_news<T: ToString>(what: &str, news: &[T], told: &mut BTreeSet<String>) {
    let now: BTreeSet<String> = news.iter().map(ToString::to_string).collect();
    let fresh: Vec<_> = now.difference(told).collect();
    for line in fresh.iter().take(LOGGED) {
        tracing::warn!("{what}: {line}");
    }
    if let Some(more) = fresh.len().checked_sub(LOGGED).filter(|more| *more > 0) {
        tracing::warn!("{what}: and {more} more; the status socket has them all");
    }
    *told = now;
}

/// Everything that is wrong with a configuration's sources, and what is worth telling of them, without running: for
/// `--check`.
///
/// # Errors
/// What is wrong.
pub fn check(config: &Config) -> Result<Vec<Notice>, Vec<Diagnostic>> {
    let (mut paths, mut notices, mut mistakes) = (Vec::new(), Vec::new(), Vec::new());
    for source in &config.sources {
        match source {
            config::Source::Path(path) => paths.push(path.as_path()),
            config::Source::Kubernetes(kubeconfig) => {
                mistakes.extend(kubeconfig.as_deref().and_then(|path| cluster::check(path).err()));
                notices
                    .push(Notice::new(source.to_string(), "the API server was not asked; a check is of files alone"));
            }
        }
    }
    match crate::offline::load(&paths) {
        Ok(_) if !mistakes.is_empty() => return Err(mistakes),
        // Without the cluster's objects, what is missing among the files says nothing.
        Ok(_) if !notices.is_empty() => {}
        Ok(cluster) => notices.extend(compile(&cluster, &config.view).1),
        Err(more) => return Err(mistakes.into_iter().chain(more).collect()),
    }
    Ok(notices)
}
