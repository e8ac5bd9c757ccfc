//! Where devices end: throughput as RFC 2544 searches it, connections as RFC 9693 counts them.
//!
//! Contestants, their places and their frames are those of the throughput bench. There the generator offers as much as it can and
//! what arrives is counted; here it is paced, and what counts is where loss begins.

pub mod connections;

use std::time::{Duration, Instant};

use levee_pktgen::search::{Found, Search, Trial};
use levee_pktgen::{Config, Error, Generator, Sizes};

use crate::throughput::topology::Topology;
use crate::throughput::{Entry, OPENING, Plan};

/// What a machine that is not ours alone keeps back and sends late still fits into everybody's rings.
const CATCH_UP: Duration = Duration::from_millis(1);

/// RFC 2544, section 26.1: the highest rate at which no more than 0.001 % is lost, by trials of the plan's window, each that fails
/// repeated `chances` times. What has arrived is what the sink's interface has received.
///
/// # Errors
/// What the generator says.
///
/// # Panics
/// If the contestant does not start.
pub fn throughput(entry: &Entry, sizes: &Sizes, chances: u32, plan: &Plan) -> Result<Found, Error> {
    let (contestant, topology) = (&entry.contestant, &entry.topology);
    let _running = contestant.start(topology, plan.forwarder);
    let offer = contestant.offer();
    let base = Config { catch_up: CATCH_UP, ..offer.config(plan.source) };
    if offer.opened() {
        let opening = base.opening(OPENING.0, OPENING.1);
        topology.source.enter(|| Generator::new(opening)?.start()?.wait())?;
    }
    let search = Search { chances, precision: 0.02, ..Search::between(50_000.0, 6e6) };
    search.run(|rate| {
        let config = Config { rate: Some(rate), duration: Some(plan.window), sizes: sizes.clone(), ..base.clone() };
        let before = topology.arrived();
        let sent = topology.source.enter(|| Generator::new(config)?.start()?.wait())?;
        settle(topology);
        let received = topology.arrived() - before;
        eprintln!("  {:>9.0} offered of {rate:>9.0}: {received} of {} arrived", sent.rate(), sent.frames);
        Ok(Trial { rate, offered: sent.rate(), sent: sent.frames, received })
    })
}

/// Waits until nothing arrives any more.
fn settle(topology: &Topology) {
    let end = Instant::now() + Duration::from_secs(2);
    let mut last = topology.arrived();
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(30));
        let now = topology.arrived();
        if now == last {
            break;
        }
        last = now;
    }
}
