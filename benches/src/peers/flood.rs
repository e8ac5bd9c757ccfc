//! Established flows beside beginning ones: nineteen frames of twenty, or 999 of 1,000, are SYNs of flows that nobody has seen, more of them
//! than levee has room for, so that it has to forget flows all the time. It may forget none that is established.
//!
//! Both come from one generator, which mixes them frame by frame. Two of them, one for SYNs alone, would share the one core that there is for
//! sending: who forwards would see milliseconds of the one, then of the other, and never both. So 999 of 1,000 are as near to "nothing but
//! SYNs" as can be had where anything is to be seen of established flows in the very same batches.
//!
//! The rate is four fifths of what it does under such a mix: what a full ring loses is lost whatever it is, and no balancer can
//! choose there. Both are measured in each of several rounds, since one bad moment of the machine's would decide otherwise; who is
//! compared with levee as it is gets the same rate, in the same round.

use std::net::IpAddr;
use std::time::Duration;

use levee_pktgen::ends::Server;
use levee_pktgen::{Config, Generator, Receiver};
use levee_tests::levee::Dataplane;

use crate::throughput::contestants::{Contestant as _, FLOWS, Levee};
use crate::throughput::topology::{CLIENTS, NEXT, POD, Topology};
use crate::throughput::{OPENING, Plan};

/// Parts of the frames that are SYNs.
pub(super) const MIXES: [f64; 2] = [0.95, 0.999];

/// The part of its most that it is given.
const LOAD: f64 = 0.8;

/// Flows that begin before the first of them begins once more: all that the clients' addresses have.
const BEGINNING: u32 = 1 << 23;

/// What became of them in one round.
#[derive(Debug, Clone)]
pub struct Flood {
    /// As `--json` calls who was flooded.
    pub key: String,
    /// As tables call it.
    pub name: String,
    /// The part of all frames that were SYNs.
    pub syns: f64,
    /// Frames a second that levee did when it was given more than it can do.
    pub most: f64,
    /// Frames a second that it was then given.
    pub rate: f64,
    /// Frames of established flows that were sent, and that did not arrive.
    pub established: (u64, i64),
    /// SYNs that were sent, and that arrived.
    pub begun: (u64, u64),
    /// What levee itself dropped meanwhile, by reason.
    pub dropped: Vec<(String, u64)>,
    /// What the kernel dropped before levee saw it, for want of room in levee's rings.
    pub unseen: u64,
}

impl Flood {
    /// As tables call a part of the frames.
    #[must_use]
    pub fn share(syns: f64) -> String {
        format!("{} %", (syns * 1000.0).round() / 10.0)
    }
}

/// One round: of each mix, how much the first of these does of it, and what becomes of less than that with each of them.
///
/// # Panics
/// If levee does not start, or the kernel refuses the generator.
#[must_use]
pub fn flood(levees: &[Levee], topology: &Topology, plan: &Plan) -> Vec<Flood> {
    let Some(first) = levees.first() else { return Vec::new() };
    let of_mix = |syns: f64| {
        let most = given(first, topology, plan, (syns, None), plan.window).0;
        let rate = (most * LOAD).max(1000.0);
        levees
            .iter()
            .map(move |levee| Flood { most, ..given(levee, topology, plan, (syns, Some(rate)), 2 * plan.window).1 })
    };
    MIXES.into_iter().flat_map(of_mix).collect()
}

/// Established flows, then the mix at a rate, or as much as can be: frames a second that got through, and all about them.
fn given(
    levee: &Levee,
    topology: &Topology,
    plan: &Plan,
    (syns, rate): (f64, Option<f64>),
    duration: Duration,
) -> (f64, Flood) {
    // The way back to clients: a flow that nobody has answered is not established, whatever its client says.
    topology.forwarder.ip(&format!("route replace {CLIENTS} via {POD} dev in0"));
    let dataplane = levee.dataplane(topology, plan.forwarder);
    dataplane.wait_for_neighbours(&[IpAddr::from(NEXT), POD.into()]);
    let send = |config: Config| {
        let sent = topology.source.enter(|| Generator::new(config)?.start()?.wait());
        std::thread::sleep(Duration::from_millis(50));
        sent.unwrap_or_else(|error| panic!("{error}\n{}", dataplane.counters()))
    };
    let established = Config { rate: Some(OPENING.0), ..levee.offer().config(plan.source) };
    // A beginning may be lost where this machine is busy with something else: each comes several times.
    let server = topology.sink.enter(|| Server::attach("s0")).unwrap_or_else(|error| panic!("s0: {error}"));
    send(established.opening(OPENING.0, OPENING.1));
    send(Config { frames: Some(u64::from(FLOWS) * 8), ..established.clone() });
    let served = server.served().unwrap_or_else(|error| panic!("the server's counters: {error}"));
    assert!(served.syns >= u64::from(FLOWS), "{served:?}\n{}", dataplane.counters());
    drop(server);
    let receiver = topology.sink.enter(|| Receiver::attach("s0")).unwrap_or_else(|error| panic!("s0: {error}"));
    let received = || receiver.received().unwrap_or_else(|error| panic!("the receiver's counters: {error}"));
    let (before, dropped) = (received(), Dropped::now(&dataplane));
    let beginning = FLOWS..BEGINNING;
    let sent = send(Config { syn: syns, beginning, rate, duration: Some(duration), ..established });
    let (arrived, dropped) = (received().since(&before), Dropped::now(&dataplane).since(&dropped));
    let (of_established, that_arrived) = (sent.frames - sent.begun, arrived.segments.saturating_sub(arrived.syns));
    let through = arrived.frames as f64 / sent.time().as_secs_f64().max(1e-9);
    let flood = Flood {
        key: levee.key(),
        name: levee.name(),
        syns,
        most: through,
        rate: rate.unwrap_or(f64::INFINITY),
        established: (of_established, of_established.cast_signed() - that_arrived.cast_signed()),
        begun: (sent.begun, arrived.syns),
        dropped: dropped.by_reason,
        unseen: dropped.unseen,
    };
    (through, flood)
}

/// What was dropped so far, and by whom.
struct Dropped {
    by_reason: Vec<(String, u64)>,
    unseen: u64,
}

impl Dropped {
    fn now(dataplane: &Dataplane) -> Dropped {
        let (counters, ports) = (dataplane.get("/v1/counters"), dataplane.get("/v1/ports"));
        let drops = counters["drops"].as_object().into_iter().flatten();
        let queues = ports.as_array().into_iter().flatten().flat_map(|port| port["queues"].as_array()).flatten();
        let unseen =
            queues.flat_map(|queue| ["rx_dropped", "rx_ring_full"].map(|name| queue[name].as_u64().unwrap_or(0)));
        Dropped {
            by_reason: drops.filter_map(|(reason, count)| Some((reason.clone(), count.as_u64()?))).collect(),
            unseen: unseen.sum(),
        }
    }

    /// Those that came since.
    fn since(self, earlier: &Dropped) -> Dropped {
        let before =
            |reason: &String| earlier.by_reason.iter().find(|(name, _)| name == reason).map_or(0, |(_, count)| *count);
        let more = self.by_reason.iter().map(|(reason, count)| (reason.clone(), count - before(reason)));
        Dropped { by_reason: more.filter(|(_, count)| *count > 0).collect(), unseen: self.unseen - earlier.unseen }
    }
}
