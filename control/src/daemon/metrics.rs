//! The control process's metrics: every family, declared once, what the loop tallies for them, and the page.
//!
//! ```text
//!  loop ──took_in, compiled, sent, answered──► Metrics ─┐
//!  loop ──────────────────────────────────────► Standing ┴─page()──► GET /metrics
//! ```
//!
//! The loop adds to a tally under a lock that is held for the time of an addition or a copy. Labels are closed lists, but for sources, which
//! the configuration bounds: no object has a series of its own.
//!
//! Programming latency is there twice: from this process's own sight of a change, which is what levee can do something about, and
//! from the annotation `endpoints.kubernetes.io/last-change-trigger-time` (rule 40), which is what users feel.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use levee_api::families;
use levee_api::metrics::{Exposition, Family, Histogram};

use super::status::{DataplaneState, Status};
use crate::election::ElectionStatus;
use crate::model::Kind;
use crate::program::{Outcome, Request, Sent};
use crate::publish;

families! {
    BUILD = Family::gauge("levee_control_build_info", "Always 1; the label says which version runs.")
        .by(&["version"], "1 a version");
    UPTIME = Family::gauge("levee_control_uptime_seconds", "Time since the control process started.");
    HEALTHY = Family::gauge("levee_control_healthy", "1 if GET /v1/health finds nothing wrong, 0 otherwise.");
    PROBLEMS = Family::gauge("levee_control_problems", "Number of things that GET /v1/health finds wrong.");

    SOURCE_COMPLETE = Family::gauge(
        "levee_control_source_complete",
        "1 if the source was read completely at least once, 0 otherwise. Nothing is compiled before all were.",
    )
    .by(&["source"], "1 a source");
    LISTS = Family::counter("levee_control_lists_total", "Lists that sources have read completely: the first, and every re-sync.");
    OBJECTS = Family::gauge("levee_control_objects", "Objects that are read, by kind, good ones and bad ones.")
        .by(&["kind"], "6: the kinds that are read");
    MISTAKES = Family::gauge(
        "levee_control_mistakes",
        "Mistakes in the input, refused objects among them; while there are any, the last good state of files stays in force.",
    );
    NOTICES = Family::gauge("levee_control_notices", "Notices about the input that is in force; GET /v1/status has them.");

    COMPILED = Family::gauge(
        "levee_control_last_compile_timestamp_seconds",
        "Unix time at which the newest state of every source was compiled last; it stands still while there are mistakes. 0 before the first.",
    );
    COMPILE = Family::histogram(
        "levee_control_compile_seconds",
        "Time to validate and compile what changes, and what it concerns besides.",
    );
    JUDGED = Family::counter(
        "levee_control_objects_judged_total",
        "Objects that were validated against others: those that are new, changed or gone.",
    );
    SERVICES_COMPILED = Family::counter(
        "levee_control_services_compiled_total",
        "Services that were compiled: those that are others, or whose slices are; all of them when our Node is another.",
    );
    SERVICES = Family::gauge("levee_control_services", "Services in the program, one for each port and family.");
    VIPS = Family::gauge("levee_control_vips", "VIPs in the program.");
    BACKENDS = Family::gauge("levee_control_backends", "Backends in the program, over all services.");

    STATE = Family::gauge("levee_control_dataplane_state", "1 for how the dataplane stands, 0 for how it does not.")
        .by(&["state"], "5: unknown, reached, in_step, refused, unreachable");
    GENERATION = Family::gauge("levee_control_dataplane_generation", "Generation that the dataplane runs, as far as is known; else 0.");
    BEHIND = Family::gauge(
        "levee_control_dataplane_behind_seconds",
        "Time since the first change that the dataplane does not run yet; 0 when it runs everything that was compiled.",
    );
    REQUESTS = Family::counter("levee_control_requests_total", "Requests to the dataplane.")
        .by(&["request"], "3: status, full, delta");
    SENT = Family::counter("levee_control_sent_bytes_total", "Bytes of programs sent to the dataplane, as JSON, without HTTP's heads.")
        .by(&["request"], "2: full, delta");
    ANSWERS = Family::counter(
        "levee_control_answers_total",
        "What became of them: conflict means that the dataplane is programmed whole again, refused that it keeps what it had, \
         unreachable that there was no answer, or one without sense.",
    )
    .by(&["answer"], "5: status, applied, conflict, refused, unreachable");
    LEADER = Family::gauge(
        "levee_control_allocator_leader",
        "1 if this process is the one that assigns addresses to Services; 0 if it is not, or no candidate.",
    );
    WANTING = Family::gauge(
        "levee_control_allocator_unassigned_services",
        "Services of type LoadBalancer that do not have every address that they should have, as the leader finds; else 0.",
    );
    REFUSED_POOLS = Family::gauge(
        "levee_control_allocator_refused_pools",
        "AddressPools whose spec is not in force, as the leader finds; else 0. What was good last is in force, if there was any.",
    );
    POOL_ADDRESSES = Family::gauge(
        "levee_control_pool_addresses",
        "Addresses of a pool in force, as the leader finds; 2^63 - 1 for more. What is neither assigned nor free is withheld.",
    )
    .by(&["pool", "family", "state"], "6 an AddressPool: total, assigned and free of each family");
    WRITES = Family::counter("levee_control_allocator_writes_total", "What this process has written to the cluster, as the leader.")
        .by(&["object"], "3: service, pool, event");
    WRITES_OUTDATED = Family::counter(
        "levee_control_allocator_outdated_writes_total",
        "Writes that changed nothing because the object had changed meanwhile; they are found anew.",
    );
    WRITES_FAILED = Family::counter("levee_control_allocator_failures_total", "Requests to the API server, as the leader, that failed.");
    EVENTS_DROPPED = Family::counter(
        "levee_control_allocator_dropped_events_total",
        "Events that were not told because too many waited; the statuses have what matters.",
    );

    OWNED = Family::gauge("levee_control_announced_addresses", "Addresses that this balancer announces, by election; 0 where nothing is elected.");
    ELECTED = Family::gauge("levee_control_elected_addresses", "Addresses that the election is about.");
    TAKEN = Family::counter("levee_control_addresses_taken_total", "Addresses that this balancer has taken: free ones, and from others.");
    GIVEN = Family::counter("levee_control_addresses_given_total", "Addresses that this balancer has given up or lost.");
    TERM = Family::gauge(
        "levee_control_term_left_seconds",
        "Time until this balancer stops announcing by itself, if nothing is confirmed any more; 0 if it may announce nothing.",
    );
    OUTLASTING = Family::gauge(
        "levee_control_outlasting",
        "1 while it goes on by the promises of the other balancers because the API server confirms nothing, 0 otherwise.",
    );
    MEMBERS = Family::gauge("levee_control_balancers_alive", "Balancers that show signs of life, this one among them.");
    PROGRAMMING = Family::histogram(
        "levee_control_programming_seconds",
        "Time from the first event of a burst that changes the program until every worker of the dataplane runs the result.",
    );
    NETWORK_PROGRAMMING = Family::histogram(
        "levee_control_network_programming_seconds",
        "Time from what made endpoints change, by their slice's annotation endpoints.kubernetes.io/last-change-trigger-time, until every \
         worker of the dataplane runs it: once for each changed slice, as kubeproxy_network_programming_duration_seconds. By two clocks, \
         this machine's and that of whoever wrote the annotation.",
    );
}

/// The tally, shared by the loop and the socket.
#[derive(Debug, Default)]
pub(super) struct Metrics(Mutex<Tally>);

#[derive(Debug, Clone, Default)]
struct Tally {
    lists: u64,
    objects: BTreeMap<Kind, usize>,
    judged: u64,
    services_compiled: u64,
    compiled_at: Option<SystemTime>,
    compile: Histogram,
    /// The first change that the dataplane does not run yet.
    behind_since: Option<Instant>,
    programming: Histogram,
    network_programming: Histogram,
    status_requests: u64,
    programs: u64,
    deltas: u64,
    sent: Sent,
    statuses: u64,
    applied: u64,
    conflicts: u64,
    refused: u64,
    unreachable: u64,
}

impl Metrics {
    /// Nothing in here can be left half-changed, so a panic elsewhere does not matter.
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many lists were taken in.
    pub(super) fn listed(&self, lists: u64) {
        self.tally().lists += lists;
    }

    /// So many objects of each kind are there, and so many had to be looked at.
    pub(super) fn holds(&self, objects: BTreeMap<Kind, usize>, judged: usize) {
        let mut tally = self.tally();
        tally.objects = objects;
        tally.judged += judged as u64;
    }

    /// So many Services had to be compiled so far.
    pub(super) fn services_compiled(&self, services: u64) {
        self.tally().services_compiled = services;
    }

    /// Input was compiled, the newest that there is or the last that was good; that took so long. If the program is another one now: because
    /// of a change at this time.
    pub(super) fn compiled(&self, newest: bool, time: Duration, changed_since: Option<Instant>) {
        let mut tally = self.tally();
        if newest {
            tally.compiled_at = Some(SystemTime::now());
        }
        tally.compile.observe(time);
        tally.behind_since = tally.behind_since.or(changed_since);
    }

    pub(super) fn sent(&self, request: &Request) {
        let mut tally = self.tally();
        match request {
            Request::Status => tally.status_requests += 1,
            Request::Full(_) => tally.programs += 1,
            Request::Delta(_) => tally.deltas += 1,
        }
    }

    /// What became of a request; so much was sent so far.
    pub(super) fn answered(&self, outcome: &Outcome, sent: Sent) {
        let mut tally = self.tally();
        tally.sent = sent;
        match outcome {
            Outcome::Status { .. } => tally.statuses += 1,
            Outcome::Applied { .. } => tally.applied += 1,
            Outcome::Conflict { .. } => tally.conflicts += 1,
            Outcome::Refused(_) => tally.refused += 1,
            Outcome::Unreachable(_) => tally.unreachable += 1,
        }
    }

    /// The dataplane runs what was compiled last.
    pub(super) fn in_step(&self, now: Instant) {
        let mut tally = self.tally();
        if let Some(since) = tally.behind_since.take() {
            tally.programming.observe(now.saturating_duration_since(since));
        }
    }

    /// The dataplane runs what was triggered at these times.
    pub(super) fn programmed(&self, triggers: &[SystemTime], now: SystemTime) {
        let mut tally = self.tally();
        for trigger in triggers {
            // A clock that is ahead of ours makes a time of none.
            tally.network_programming.observe(now.duration_since(*trigger).unwrap_or_default());
        }
    }

    /// The page.
    pub(super) fn page(&self, status: &Status, published: &publish::Tally) -> String {
        let tally = self.tally().clone();
        let mut page = Exposition::default();
        page.begin(&BUILD).sample(&[&status.version], 1);
        page.single(&UPTIME, status.uptime_seconds);
        page.single(&HEALTHY, u8::from(status.health.healthy));
        page.single(&PROBLEMS, status.health.problems.len());
        let mut complete = page.begin(&SOURCE_COMPLETE);
        for source in &status.sources {
            complete.sample(&[&source.name], u8::from(source.complete));
        }
        page.single(&LISTS, tally.lists);
        let mut objects = page.begin(&OBJECTS);
        for kind in Kind::ALL {
            objects.sample(&[kind.name()], tally.objects.get(&kind).copied().unwrap_or(0));
        }
        page.single(&MISTAKES, status.mistakes.len());
        page.single(&NOTICES, status.notices.len());
        let compiled_at = tally.compiled_at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        page.single(&COMPILED, compiled_at.map_or(0.0, |at| at.as_secs_f64()));
        page.begin(&COMPILE).histogram(&[], &tally.compile);
        page.single(&JUDGED, tally.judged);
        page.single(&SERVICES_COMPILED, tally.services_compiled);
        page.single(&SERVICES, status.services);
        page.single(&VIPS, status.vips);
        page.single(&BACKENDS, status.backends);
        dataplane(&mut page, status, &tally);
        allocator(&mut page, status, published);
        page.finish()
    }
}

fn allocator(page: &mut Exposition, status: &Status, published: &publish::Tally) {
    let report = status.allocator.clone().unwrap_or_default();
    page.single(&LEADER, u8::from(report.leads));
    page.single(&WANTING, report.unassigned);
    page.single(&REFUSED_POOLS, report.refused_pools);
    let mut addresses = page.begin(&POOL_ADDRESSES);
    for (pool, families) in &published.usage {
        for (family, usage) in families {
            let family = family.to_string();
            for (state, number) in [("total", usage.total), ("assigned", usage.assigned), ("free", usage.free)] {
                addresses.sample(&[pool, &family, state], number);
            }
        }
    }
    let mut writes = page.begin(&WRITES);
    writes.sample(&["service"], published.services);
    writes.sample(&["pool"], published.pools);
    writes.sample(&["event"], published.events);
    page.single(&WRITES_OUTDATED, published.outdated);
    page.single(&WRITES_FAILED, published.failures);
    page.single(&EVENTS_DROPPED, published.dropped);
}

fn election(page: &mut Exposition, election: Option<&ElectionStatus>) {
    let nothing = ElectionStatus::default();
    let election = election.unwrap_or(&nothing);
    page.single(&OWNED, election.addresses.iter().filter(|address| address.ours).count());
    page.single(&ELECTED, election.addresses.len());
    page.single(&TAKEN, election.taken);
    page.single(&GIVEN, election.given);
    page.single(&TERM, election.term_left_ms.map_or(0.0, |left| left as f64 / 1000.0));
    page.single(&OUTLASTING, u8::from(election.outlasting));
    page.single(&MEMBERS, election.members.iter().filter(|member| member.alive).count());
}

fn dataplane(page: &mut Exposition, status: &Status, tally: &Tally) {
    let mut states = page.begin(&STATE);
    for (state, name) in [
        (DataplaneState::Unknown, "unknown"),
        (DataplaneState::Reached, "reached"),
        (DataplaneState::InStep, "in_step"),
        (DataplaneState::Refused, "refused"),
        (DataplaneState::Unreachable, "unreachable"),
    ] {
        states.sample(&[name], u8::from(status.dataplane.state == state));
    }
    page.single(&GENERATION, status.dataplane.generation.unwrap_or(0));
    page.single(&BEHIND, tally.behind_since.map_or(0.0, |since| since.elapsed().as_secs_f64()));
    election(page, status.election.as_ref());
    let mut requests = page.begin(&REQUESTS);
    requests.sample(&["status"], tally.status_requests);
    requests.sample(&["full"], tally.programs);
    requests.sample(&["delta"], tally.deltas);
    let mut sent = page.begin(&SENT);
    sent.sample(&["full"], tally.sent.full);
    sent.sample(&["delta"], tally.sent.delta);
    let mut answers = page.begin(&ANSWERS);
    answers.sample(&["status"], tally.statuses);
    answers.sample(&["applied"], tally.applied);
    answers.sample(&["conflict"], tally.conflicts);
    answers.sample(&["refused"], tally.refused);
    answers.sample(&["unreachable"], tally.unreachable);
    page.begin(&PROGRAMMING).histogram(&[], &tally.programming);
    page.begin(&NETWORK_PROGRAMMING).histogram(&[], &tally.network_programming);
}
