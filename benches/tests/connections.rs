//! What the limits bench measures of levee, in the small: connections begin, answer, end and are forgotten, and each is accounted for.

use std::time::Duration;

use levee_benches::limits::connections::{Levee, config};
use levee_benches::throughput::topology::Topology;
use levee_pktgen::Config;
use levee_pktgen::connections::{self, Device, Ends, establishment_rate, tear_down};
use levee_pktgen::search::Search;

const FLOWS: u32 = 500;
const ROOM: u32 = 1_024;
/// Connections a second that a build without optimisation manages beside others.
const GENTLE: f64 = 2_000.0;

#[test]
fn connections_through_levees_nat_are_counted_one_by_one() {
    let Some(topology) = Topology::build() else { return };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut levee = Levee::start(&topology, cores - 1, ROOM);
    // Wherever there is time, and late rather than never: what is sent is the matter here, not when.
    let config = Config { core: None, catch_up: Duration::from_secs(10), ..config(0) };

    let ends = Ends::attach(&topology, &config, FLOWS).unwrap();
    let begun = ends.establish(GENTLE).unwrap();
    let story = || format!("{}; {}", ends.story().unwrap(), levee.dataplane.counters());
    assert_eq!((begun.sent.frames, begun.answered), (500, 500), "{}", story());
    assert_eq!(levee.flows(), 500, "{}", story());
    assert_eq!(ends.validate(GENTLE).unwrap().answered, 500, "{}", story());
    assert_eq!(ends.close(GENTLE).unwrap().answered, 500, "{}", story());
    drop(ends);
    let (had, _) = levee.clear().unwrap();
    assert_eq!((had, levee.flows()), (500, 0), "closed flows are kept for a while, and forgotten on demand");

    let search = Search { chances: 2, precision: 0.5, ..Search::lossless(GENTLE / 4.0, GENTLE) };
    let how = connections::Plan { flows: FLOWS, gentle: GENTLE, search };
    let rate = establishment_rate(&topology, &mut levee, &config, &how).unwrap();
    assert_eq!(rate.best.map(|trial| trial.received), Some(500), "{rate:?}; {}", levee.dataplane.counters());
    let (forgotten, took) = tear_down(&topology, &mut levee, &config, &how).unwrap();
    assert_eq!(forgotten, 500);
    assert!(took > Duration::ZERO);

    // More than there is room for: an established flow gives way to nobody, so as many as there is room for stay.
    let ends = Ends::attach(&topology, &config, ROOM * 3 / 2).unwrap();
    ends.establish(GENTLE).unwrap();
    let there = ends.validate(GENTLE).unwrap().answered;
    let story = || format!("{}; {}", ends.story().unwrap(), levee.dataplane.counters());
    assert!(there <= u64::from(ROOM) && there > u64::from(ROOM) * 9 / 10, "{there}: {}", story());
    assert!(levee.flows() <= u64::from(ROOM), "{}: {}", levee.flows(), story());
}
