//! How many frames a second get through, end to end over veth, by levee and by those beside it, in one run.
//!
//! Contestants take turns, several rounds of it, so that whatever the machine does meanwhile happens to all of them; what
//! counts is a ratio within each round, for the time that each had its core, and the median of those. Absolute figures are of
//! this machine and hour.
//!
//! | noun | what it is |
//! |---|---|
//! | [`Topology`] | who sends, who forwards, who counts: three namespaces |
//! | [`Contestant`] | who forwards; one file each |
//! | [`Field`] | all of them, each in its place |
//! | [`Seen`] | a frame at the sink: what a contestant has made of what was sent |
//! | [`Score`] | what one did in one round |
//! | [`kube_proxy`] | the rules that kube-proxy would write |

pub mod contestants;
mod cpu;
mod field;
pub mod kube_proxy;
pub mod seen;
pub mod topology;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use levee_pktgen::{Generator, Stream};
use levee_tests::Tap;

use self::contestants::{Contestant, FLOWS, Offer};
use self::cpu::Cpu;
pub use self::field::{Entry, Field};
use self::seen::Seen;
use self::topology::Topology;

/// Frames a second at which flows are begun, and how often each is: none may be lost in a full ring.
pub(crate) const OPENING: (f64, u32) = (100_000.0, 3);

/// Frames that are looked at before a contestant is measured.
const LOOKED_AT: u32 = 256;

/// What one contestant did in one round.
#[derive(Debug, Clone, Copy)]
pub struct Score {
    /// Millions of frames a second that reached the sink.
    pub arrived: f64,
    /// Millions of frames a second that were sent.
    pub sent: f64,
    /// The part of its core that it had; less than 1 where the machine had other things to do. `None` for the kernel.
    pub core: Option<f64>,
    /// The part of the forwarder's core that was busy with anything.
    pub busy: f64,
}

impl Score {
    /// Millions of frames for each second that it had its core: what arrived, where the core was all its own. So a busy
    /// machine disturbs a comparison less. One that is never idle, as everybody is here who polls.
    #[must_use]
    pub fn deserved(&self) -> f64 {
        self.arrived / self.core.unwrap_or(1.0)
    }

    /// The part of what was sent that did not arrive.
    #[must_use]
    pub fn lost(&self) -> f64 {
        (1.0 - self.arrived / self.sent).max(0.0)
    }
}

/// Where things run and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Times that each contestant gets its turn.
    pub rounds: usize,
    /// How long each is measured.
    pub window: Duration,
    /// The generator's core.
    pub source: usize,
    /// The contestant's core.
    pub forwarder: usize,
}

/// Has a generator send an offer: as many frames as can be, or so many a second.
///
/// # Panics
/// If the kernel refuses.
pub fn send(topology: &Topology, offer: &Offer, core: usize, rate: Option<f64>) -> Stream {
    let config = levee_pktgen::Config { rate, ..offer.config(core) };
    let stream = topology.source.enter(|| {
        let generator = Generator::new(config)?;
        if offer.opened() { generator.open_and_start(OPENING.0, OPENING.1) } else { generator.start() }
    });
    stream.unwrap_or_else(|error| panic!("the generator does not send: {error}"))
}

/// Looks at what a contestant makes of some frames, sent slowly.
///
/// # Errors
/// What is wrong with one of them, or how few came.
///
/// # Panics
/// If it does not start.
pub fn prove(contestant: &dyn Contestant, topology: &Topology, plan: &Plan) -> Result<(), String> {
    let running = contestant.start(topology, plan.forwarder);
    let tap = Tap::start(&topology.sink);
    let config = levee_pktgen::Config {
        rate: Some(10_000.0),
        frames: Some(LOOKED_AT.into()),
        ..contestant.offer().config(plan.source)
    };
    let offer = contestant.offer();
    let sent = topology.source.enter(|| {
        let generator = Generator::new(config)?;
        let stream = if offer.opened() { generator.open_and_start(OPENING.0, 1)? } else { generator.start()? };
        stream.wait()
    });
    sent.map_err(|error| error.to_string())?;
    // Beginnings as well: one of each flow.
    let expected = LOOKED_AT + if offer.opened() { FLOWS } else { 0 };
    let patience = Instant::now() + Duration::from_secs(5);
    let judge = |frame: &levee_tests::Captured| match Seen::read(&frame.bytes)? {
        Some(seen) => contestant.judge(&seen).map(|()| 1),
        None => Ok(0),
    };
    loop {
        let right: Result<u32, String> = tap.frames().iter().map(judge).sum();
        let right = right.map_err(|problem| format!("{problem}\n{}", running.story()))?;
        if right >= expected {
            return Ok(());
        }
        if Instant::now() > patience {
            return Err(format!("{right} frames of {expected} arrived\n{}", running.story()));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// One contestant's turn.
///
/// # Panics
/// If it does not start, or forwards nothing at all.
#[must_use]
pub fn measure(contestant: &dyn Contestant, topology: &Topology, plan: &Plan) -> Score {
    let running = contestant.start(topology, plan.forwarder);
    let stream = send(topology, &contestant.offer(), plan.source, None);
    let sent = || stream.sent().unwrap_or_else(|error| panic!("the generator's counters: {error}"));
    // Until caches are warm.
    let patience = Instant::now() + Duration::from_secs(10);
    while sent().frames == 0 && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(plan.window / 4);
    let look = || (Instant::now(), topology.arrived(), sent(), running.work(), Cpu::now(plan.forwarder));
    let before = look();
    std::thread::sleep(plan.window);
    let after = look();
    let seconds = (after.0 - before.0).as_secs_f64();
    let rate = |before: u64, after: u64| (after - before) as f64 / seconds / 1e6;
    let core = before.3.zip(after.3).map(|(before, after)| after.most_since(&before).as_secs_f64() / seconds);
    let score = Score {
        arrived: rate(before.1, after.1),
        sent: rate(before.2.frames, after.2.frames),
        core,
        busy: after.4.busy_since(&before.4),
    };
    if let Err(error) = stream.stop() {
        panic!("the generator: {error}");
    }
    assert!(score.arrived > 0.0, "{} forwards nothing: {}", contestant.name(), running.story());
    score
}

/// Runs a command with something to read.
///
/// # Panics
/// If it fails, with what it says.
pub fn feed(command: &mut Command, input: &str) {
    let run = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = run.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut pipe = child.stdin.take().expect("asked for");
    // Who fails early reads no more; what it then says is worth more than this.
    let _ = pipe.write_all(input.as_bytes());
    drop(pipe);
    let output = child.wait_with_output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let story: String = String::from_utf8_lossy(&output.stderr).chars().take(2000).collect();
    assert!(output.status.success(), "{command:?}: {}: {story}", output.status);
}

/// Middle, least and most of some figures.
///
/// # Panics
/// If there are none.
#[must_use]
pub fn spread(figures: impl IntoIterator<Item = f64>) -> (f64, f64, f64) {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    let median =
        if figures.len() % 2 == 1 { figures[middle] } else { f64::midpoint(figures[middle - 1], figures[middle]) };
    (median, figures[0], figures[figures.len() - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(spread([3.0, 1.0, 2.0]), (2.0, 1.0, 3.0));
        assert_eq!(spread([4.0, 1.0, 2.0, 3.0]), (2.5, 1.0, 4.0));
    }
}
