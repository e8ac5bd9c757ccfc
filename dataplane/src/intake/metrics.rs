//! The dataplane's metrics: every family, declared once, and the page of them all.
//!
//! ```text
//!  Subject: counters, status, ports, vips, neighbours, events, measures ──page()──► GET /metrics
//! ```
//!
//! The page is made of the same reports that the other paths answer with, so it cannot say anything else than they do. Making it costs the
//! packet's way nothing, and no change waits for it: what it reads are the workers' own atomics, and locks held for the time of a copy.
//!
//! Labels are bounded: interfaces, queues and workers by the configuration, words by closed lists, frontends by [`MOST_FRONTENDS`].
//! There are no addresses of clients, pods or neighbours in them. Packets by service are not here: to count them would be work for every
//! packet.

use std::collections::BTreeMap;

use levee_api::families;
use levee_api::metrics::{Exposition, Family};
use levee_api::program::Side;
use levee_api::report::{Counters, Port, Queue, VipEntry};

use levee_api::term::TermStatus;

use super::subject::Subject;
use crate::counters::Counter;

/// Frontends that are told one by one. Those that the fabric can reach come first; a cluster's 25,000 ClusterIPs would be half the
/// memory of a Prometheus.
pub const MOST_FRONTENDS: usize = 1000;

families! {
    BUILD = Family::gauge("levee_build_info", "Always 1; the label says which version runs.").by(&["version"], "1 a version");
    UPTIME = Family::gauge("levee_uptime_seconds", "Time since the dataplane started.");
    HEALTHY = Family::gauge("levee_healthy", "1 if GET /v1/health finds nothing wrong, 0 otherwise.");
    PROBLEMS = Family::gauge("levee_problems", "Number of things that GET /v1/health finds wrong.");

    RECEIVED = Family::counter("levee_frames_received_total", Counter::Rx.meaning());
    FRAMES = Family::counter(
        "levee_frames_total",
        "Frames by how they ended. Their sum, with those that wait, is levee_frames_received_total whenever workers are between batches.",
    )
    .by(&["outcome"], "4: forwarded, hairpinned, passed, dropped");
    DROPPED = Family::counter("levee_dropped_frames_total", "Dropped frames by reason; see docs/counters.md.")
        .by(&["reason"], "1 a reason, zeros too");
    WAITING = Family::gauge("levee_waiting_frames", Counter::Waiting.meaning());
    RECEIVED_BYTES = Family::counter("levee_received_bytes_total", Counter::RxBytes.meaning());
    FORWARDED_BYTES = Family::counter("levee_forwarded_bytes_total", Counter::ForwardedBytes.meaning());
    HANDED_OVER = Family::counter("levee_handed_over_frames_total", Counter::HandedOver.meaning());
    TAKEN_OVER = Family::counter("levee_taken_over_frames_total", Counter::TakenOver.meaning());
    UNTRACKED = Family::counter("levee_untracked_frames_total", Counter::Untracked.meaning());
    OVER_LIMIT = Family::counter("levee_untracked_over_limit_frames_total", Counter::OverLimit.meaning());
    BY_CONNECTION = Family::counter("levee_flows_by_connection_id_total", Counter::ByConnection.meaning());
    ARP_ANSWERED = Family::counter("levee_arp_answered_total", Counter::ArpAnswered.meaning());
    NDP_ANSWERED = Family::counter("levee_ndp_answered_total", Counter::NdpAnswered.meaning());
    ECHO_ANSWERED = Family::counter("levee_echo_answered_total", Counter::EchoAnswered.meaning());
    RESETS_SENT = Family::counter("levee_resets_sent_total", Counter::ResetsSent.meaning());
    UNREACHABLES_SENT = Family::counter("levee_unreachables_sent_total", Counter::UnreachablesSent.meaning());
    TOO_BIGS_SENT = Family::counter("levee_too_bigs_sent_total", Counter::TooBigsSent.meaning());
    TIME_EXCEEDEDS_SENT = Family::counter("levee_time_exceededs_sent_total", Counter::TimeExceededsSent.meaning());
    WRAPPED = Family::counter("levee_wrapped_packets_total", Counter::Wrapped.meaning());
    UNWRAPPED = Family::counter("levee_unwrapped_packets_total", Counter::Unwrapped.meaning());
    ANNOUNCED = Family::counter("levee_announced_total", Counter::Announced.meaning());
    NOT_ANNOUNCED = Family::counter("levee_not_announced_total", Counter::NotAnnounced.meaning());
    ESTABLISHED = Family::counter("levee_forwarded_established_total", Counter::Established.meaning());
    OPENING = Family::counter("levee_forwarded_opening_total", Counter::Opening.meaning());
    FLOWS_CREATED = Family::counter("levee_flows_created_total", Counter::FlowsCreated.meaning());
    FLOWS_EXPIRED = Family::counter("levee_flows_expired_total", Counter::FlowsExpired.meaning());

    FLOWS = Family::gauge("levee_flows", "Flows that are tracked.").by(&["worker"], "1 a worker");
    FLOW_CAPACITY = Family::gauge("levee_flow_capacity", "Flows that there is room for.").by(&["worker"], "1 a worker");
    ALIVE = Family::gauge("levee_worker_alive", "1 if the worker's loop has turned within the last seconds, 0 otherwise.")
        .by(&["worker"], "1 a worker");
    WORKER_GENERATION =
        Family::gauge("levee_worker_generation", "Generation that the worker runs.").by(&["worker"], "1 a worker");
    GENERATION = Family::gauge("levee_generation", "Generation that every worker runs; 0 before the first program.");
    APPLY = Family::histogram(
        "levee_program_apply_seconds",
        "Time from when a program or delta was read until every worker ran it.",
    )
    .by(&["kind"], "2: full, delta");
    REFUSED = Family::counter("levee_programs_refused_total", "Programs and deltas that were not taken, or not run in time.")
        .by(&["reason"], "3: stale, invalid, unavailable");

    SERVICES = Family::gauge("levee_services", "Services that are programmed, one for each port and family.");
    VIPS = Family::gauge("levee_vips", "VIPs that are programmed.");
    BACKENDS = Family::gauge("levee_backends", "Backends, over all services.");
    CANDIDATES = Family::gauge("levee_frontend_candidates", "Backends that new flows to the frontend may get.")
        .by(FRONTEND, "1 a frontend, at most 1,000; those that the fabric can reach first");
    DRAINING = Family::gauge("levee_frontend_draining", "Backends of the frontend that only keep the flows that they have.")
        .by(FRONTEND, "1 a frontend, at most 1,000; those that the fabric can reach first");
    NOT_TOLD = Family::gauge("levee_frontends_not_told", "Frontends beyond the first 1,000, which are not told one by one.");

    ANNOUNCED_ADDRESSES = Family::gauge("levee_announced_addresses", "Addresses that are announced now, in a term or without.");
    TERM_LEFT = Family::gauge(
        "levee_term_left_seconds",
        "Time for which announcements may go on if nobody renews the term; 0 if none runs, or none is needed.",
    );
    TERM_LAPSES = Family::counter(
        "levee_term_lapses_total",
        "Terms that ran out while they named addresses: levee-control was dead, stopped or cut off.",
    );
    TERM_CHANGES = Family::counter("levee_term_addresses_total", "Addresses that terms have begun or stopped to name.")
        .by(&["change"], "2: gained, lost");

    PORT_UP = Family::gauge("levee_port_up", "1 if the interface is up and has carrier, 0 otherwise.").by(&["port"], "1 a port");
    PORT = Family::gauge("levee_port_info", "Always 1; the labels say how the interface is driven.")
        .by(&["port", "role", "mode", "attached", "take"], "1 a port");
    QUEUE_RECEIVED = Family::counter("levee_queue_received_frames_total", "Frames that levee took from the queue.")
        .by(QUEUE, "1 a queue");
    QUEUE_SENT = Family::counter("levee_queue_sent_frames_total", "Frames that levee gave to the queue.").by(QUEUE, "1 a queue");
    QUEUE_DROPPED = Family::counter(
        "levee_queue_dropped_frames_total",
        "Frames that the kernel dropped before levee saw them, for want of memory or because they were too long (XDP_STATISTICS, rx_dropped).",
    )
    .by(QUEUE, "1 a queue");
    QUEUE_RING_FULL = Family::counter(
        "levee_queue_ring_full_frames_total",
        "Frames that the kernel dropped because the receive ring was full (XDP_STATISTICS, rx_ring_full): the worker is too slow.",
    )
    .by(QUEUE, "1 a queue");
    QUEUE_FILL_EMPTY = Family::counter(
        "levee_queue_fill_ring_empty_total",
        "Times that the kernel found no frame to fill (XDP_STATISTICS, rx_fill_ring_empty_descs): raise memory.frames.",
    )
    .by(QUEUE, "1 a queue");
    QUEUE_INVALID =
        Family::counter("levee_queue_invalid_descriptors_total", "Descriptors that the kernel refused. A bug; report it.")
            .by(QUEUE, "1 a queue");
    STEERED = Family::counter(
        "levee_steered_frames_total",
        "Frames by what the interface's XDP program saw in them: taken for levee (all, address4, address6, shared_port, arp_target, \
         arp_sender, neighbour_target, neighbour_source) or left to the kernel (the others). A frame that was to be taken and found no socket is under \
         no_socket besides.",
    )
    .by(&["port", "class"], "15 a port");

    NEIGHBOURS = Family::gauge("levee_neighbours", "Neighbours by the kernel's word for their state.")
        .by(&["port", "state"], "1 a port and state that is there, at most 10 a port");
    EVENTS = Family::counter("levee_events_total", "Events by kind; vip-conflict is one told conflict about an address.")
        .by(&["kind"], "1 a kind, zeros too");
}

const QUEUE: &[&str] = &["port", "queue"];
const FRONTEND: &[&str] = &["address", "port", "protocol", "from", "service"];

/// Where a counter stands: a family of its own, or an outcome of [`FRAMES`].
enum Place {
    Family(&'static Family),
    Outcome,
}

/// A new counter does not compile without a place.
fn place(counter: Counter) -> Place {
    Place::Family(match counter {
        Counter::Forwarded | Counter::Hairpinned | Counter::Passed => return Place::Outcome,
        Counter::Rx => &RECEIVED,
        Counter::HandedOver => &HANDED_OVER,
        Counter::TakenOver => &TAKEN_OVER,
        Counter::Waiting => &WAITING,
        Counter::ArpAnswered => &ARP_ANSWERED,
        Counter::NdpAnswered => &NDP_ANSWERED,
        Counter::EchoAnswered => &ECHO_ANSWERED,
        Counter::ResetsSent => &RESETS_SENT,
        Counter::UnreachablesSent => &UNREACHABLES_SENT,
        Counter::TooBigsSent => &TOO_BIGS_SENT,
        Counter::TimeExceededsSent => &TIME_EXCEEDEDS_SENT,
        Counter::Wrapped => &WRAPPED,
        Counter::Unwrapped => &UNWRAPPED,
        Counter::Announced => &ANNOUNCED,
        Counter::NotAnnounced => &NOT_ANNOUNCED,
        Counter::FlowsCreated => &FLOWS_CREATED,
        Counter::FlowsExpired => &FLOWS_EXPIRED,
        Counter::Untracked => &UNTRACKED,
        Counter::OverLimit => &OVER_LIMIT,
        Counter::ByConnection => &BY_CONNECTION,
        Counter::RxBytes => &RECEIVED_BYTES,
        Counter::ForwardedBytes => &FORWARDED_BYTES,
        Counter::Established => &ESTABLISHED,
        Counter::Opening => &OPENING,
    })
}

/// The page.
pub(super) fn page(subject: &dyn Subject) -> String {
    let mut page = Exposition::default();
    status(&mut page, subject);
    counters(&mut page, &subject.counters());
    frontends(&mut page, subject.vips());
    term(&mut page, &subject.term());
    ports(&mut page, &subject.ports());
    measures(&mut page, subject);
    neighbours(&mut page, subject);
    let mut events = page.begin(&EVENTS);
    for (kind, count) in subject.events().counts() {
        events.sample(&[kind.word()], count);
    }
    page.finish()
}

fn status(page: &mut Exposition, subject: &dyn Subject) {
    let status = subject.status();
    page.begin(&BUILD).sample(&[&status.version], 1);
    page.single(&UPTIME, status.uptime_seconds);
    page.single(&HEALTHY, u8::from(status.health.healthy));
    page.single(&PROBLEMS, status.health.problems.len());
    page.single(&GENERATION, status.generation);
    page.single(&SERVICES, status.services);
    page.single(&VIPS, status.vips);
    page.single(&BACKENDS, status.backends);
    let mut by_worker = |family, value: fn(&levee_api::report::WorkerStatus) -> u64| {
        let mut samples = page.begin(family);
        for worker in &status.workers {
            samples.sample(&[&worker.worker.to_string()], value(worker));
        }
    };
    by_worker(&FLOWS, |worker| worker.flows);
    by_worker(&FLOW_CAPACITY, |worker| worker.flow_capacity);
    by_worker(&ALIVE, |worker| worker.alive.into());
    by_worker(&WORKER_GENERATION, |worker| worker.generation);
}

fn counters(page: &mut Exposition, counters: &Counters) {
    let total = |name: &str| counters.totals.get(name).copied().unwrap_or(0);
    let mut outcomes = page.begin(&FRAMES);
    let outcome = |counter: &&Counter| matches!(place(**counter), Place::Outcome);
    for counter in Counter::ALL.iter().filter(outcome) {
        outcomes.sample(&[counter.name()], total(counter.name()));
    }
    outcomes.sample(&["dropped"], total("dropped"));
    let mut drops = page.begin(&DROPPED);
    for (reason, frames) in &counters.drops {
        drops.sample(&[reason], frames);
    }
    for counter in Counter::ALL {
        if let Place::Family(family) = place(*counter) {
            page.single(family, total(counter.name()));
        }
    }
}

fn frontends(page: &mut Exposition, mut vips: Vec<VipEntry>) {
    // Stable: else in the order of addresses.
    vips.sort_by_key(|vip| vip.from == Side::Pods);
    let left_out = vips.len().saturating_sub(MOST_FRONTENDS);
    vips.truncate(MOST_FRONTENDS);
    let mut by_frontend = |family, value: fn(&VipEntry) -> usize| {
        let mut samples = page.begin(family);
        for vip in &vips {
            let from = match vip.from {
                Side::Any => "any",
                Side::Uplink => "uplink",
                Side::Pods => "pods",
                Side::Tunnel => "tunnel",
            };
            let (address, port) = (vip.address.to_string(), vip.ports());
            samples.sample(&[&address, &port, &vip.protocol.to_string(), from, &vip.service], value(vip));
        }
    };
    by_frontend(&CANDIDATES, |vip| vip.candidates);
    by_frontend(&DRAINING, |vip| vip.draining);
    page.single(&NOT_TOLD, left_out);
}

fn term(page: &mut Exposition, term: &TermStatus) {
    page.single(&ANNOUNCED_ADDRESSES, term.announced);
    page.single(&TERM_LEFT, term.left_ms.map_or(0.0, |left| left as f64 / 1000.0));
    page.single(&TERM_LAPSES, term.lapses);
    let mut changes = page.begin(&TERM_CHANGES);
    changes.sample(&["gained"], term.gained);
    changes.sample(&["lost"], term.lost);
}

fn ports(page: &mut Exposition, ports: &[Port]) {
    let mut up = page.begin(&PORT_UP);
    for port in ports {
        up.sample(&[&port.interface], u8::from(port.up));
    }
    let mut info = page.begin(&PORT);
    for port in ports {
        info.sample(&[&port.interface, &port.role.to_string(), &port.mode, &port.attached, &port.take], 1);
    }
    let mut by_queue = |family, value: fn(&Queue) -> u64| {
        let mut samples = page.begin(family);
        for port in ports {
            for queue in &port.queues {
                samples.sample(&[&port.interface, &queue.queue.to_string()], value(queue));
            }
        }
    };
    by_queue(&QUEUE_RECEIVED, |queue| queue.rx_frames);
    by_queue(&QUEUE_SENT, |queue| queue.tx_frames);
    by_queue(&QUEUE_DROPPED, |queue| queue.rx_dropped);
    by_queue(&QUEUE_RING_FULL, |queue| queue.rx_ring_full);
    by_queue(&QUEUE_FILL_EMPTY, |queue| queue.fill_ring_empty);
    by_queue(&QUEUE_INVALID, |queue| queue.invalid_descriptors);
}

fn measures(page: &mut Exposition, subject: &dyn Subject) {
    let measures = subject.measures();
    let mut steered = page.begin(&STEERED);
    for (port, classes) in &measures.steered {
        for (class, frames) in classes {
            steered.sample(&[port, class], frames);
        }
    }
    let programming = &measures.programming;
    let mut apply = page.begin(&APPLY);
    apply.histogram(&["full"], &programming.programs);
    apply.histogram(&["delta"], &programming.deltas);
    let mut refused = page.begin(&REFUSED);
    refused.sample(&["stale"], programming.stale);
    refused.sample(&["invalid"], programming.invalid);
    refused.sample(&["unavailable"], programming.unavailable);
}

fn neighbours(page: &mut Exposition, subject: &dyn Subject) {
    let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
    for neighbour in subject.neighbours() {
        *counts.entry((neighbour.port, neighbour.state)).or_default() += 1;
    }
    let mut samples = page.begin(&NEIGHBOURS);
    for ((port, state), count) in &counts {
        samples.sample(&[port, state], count);
    }
}
