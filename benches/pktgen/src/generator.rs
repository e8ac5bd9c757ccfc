//! A generator, and its running.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use af_xdp::interface;
use af_xdp::xdp::{Program, TestRun};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns};
use nix::unistd::Pid;

use crate::config::Config;
use crate::error::Error;
use crate::program::{CONTROL, Maps, STATE, State, load, nanoseconds};

/// Runs of the first system call where it is not known for how long: enough to know how long one takes.
const FIRST_CALL: u32 = 1 << 16;
/// Time of a run, rather too low: then there are too many, and those that are left when it is over cost little.
const RUN: f64 = 100e-9;
/// Runs of any: at some 30 ns for each that has nothing to do, a stop waits no longer than two seconds.
const MOST: f64 = (1 << 26) as f64;
/// How long a system call is to take. Each costs milliseconds before the first frame and sends nothing then; but none can be
/// ended early, only be left with nothing to do.
const CALL: Duration = Duration::from_millis(500);
/// What is of known length is one call, without a pause, up to this.
const LONGEST_CALL: Duration = Duration::from_secs(5);

/// Between two looks at a stream that has not begun, or has a number of frames to send.
const SHORT: Duration = Duration::from_micros(200);
/// Between two looks at one that has a time to send for. Who looks takes somebody off a core for it, on a machine of few cores who
/// forwards; so seldom.
const LONG: Duration = Duration::from_millis(100);

/// A program that the kernel has verified, and that nobody runs yet.
pub struct Generator {
    program: Program,
    maps: Arc<Maps>,
    longest: usize,
    config: Config,
    namespace: File,
}

impl Generator {
    /// Sends out of an interface of the network namespace that the calling thread is in.
    ///
    /// Needs CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and, to run in that namespace, CAP_SYS_ADMIN. A veth takes the frames only if
    /// its other end has an XDP program or `ethtool -K IF gro on`; if not, the kernel drops them all, and says so nowhere but in
    /// that end's `ethtool -S`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a configuration that makes no sense; otherwise what the kernel says.
    pub fn new(config: Config) -> Result<Generator, Error> {
        config.check()?;
        let namespace = "/proc/thread-self/ns/net";
        let namespace = File::open(namespace).map_err(|error| Error::system(namespace, error))?;
        let loaded = load(&config, interface::index(&config.interface)?)?;
        Ok(Generator {
            program: loaded.program,
            maps: Arc::new(loaded.maps),
            longest: loaded.longest,
            config,
            namespace,
        })
    }

    /// Starts to send, on a thread of its own.
    ///
    /// # Errors
    /// [`Error::System`] if there can be no thread.
    pub fn start(self) -> Result<Stream, Error> {
        let (stop, maps) = (Arc::new(AtomicBool::new(false)), Arc::clone(&self.maps));
        let (stopped, duration) = (Arc::clone(&stop), self.config.duration);
        let started = Instant::now();
        let thread = std::thread::Builder::new().name("pktgen".into()).spawn(move || self.run(&stopped));
        let thread = thread.map_err(|error| Error::system("start a thread", error))?;
        Ok(Stream { stop, maps, started, duration, thread: Some(thread) })
    }

    /// Sends as [`Config::opening`] says, waits until it has, and starts.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open_and_start(self, rate: f64, times: u32) -> Result<Stream, Error> {
        let namespace = self.namespace.try_clone().map_err(|error| Error::system("dup", error))?;
        let opening = self.config.opening(rate, times);
        let opened = std::thread::scope(|scope| {
            let work = || {
                setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|error| Error::system("setns", error))?;
                Generator::new(opening)?.start()?.wait()
            };
            scope.spawn(work).join().map_err(|_| Error::Gone)
        });
        opened??;
        self.start()
    }

    fn run(&self, stop: &AtomicBool) -> Result<(), Error> {
        let namespace = self.namespace.try_clone().map_err(|error| Error::system("dup", error))?;
        setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|error| Error::system("setns", error))?;
        if let Some(core) = self.config.core {
            pin(core)?;
        }
        let frame = vec![0; self.longest];
        let known = self.config.length();
        let target = known.map_or(CALL, |length| length.mul_f64(1.1).clamp(CALL, LONGEST_CALL));
        let mut runs = known.map_or(FIRST_CALL, |length| calls_runs(length.min(LONGEST_CALL)));
        while !stop.load(Ordering::Relaxed) && !self.enough()? {
            let how = TestRun { repeat: runs, live_frames: true, batch: batch(self.config.rate), ..TestRun::default() };
            let start = Instant::now();
            self.program.test_run(&frame, how)?;
            let took = start.elapsed().as_secs_f64().max(1e-6);
            // Not by large steps: the first call may have met a busy moment.
            let fitting = f64::from(runs) * (target.as_secs_f64() / took).clamp(0.1, 256.0);
            runs = fitting.clamp(f64::from(FIRST_CALL), MOST) as u32;
        }
        Ok(())
    }

    fn enough(&self) -> Result<bool, Error> {
        Ok(self.config.frames.is_some_and(|frames| Sent::of(&self.maps).is_ok_and(|sent| sent.frames >= frames)))
    }
}

/// Runs that surely last so long.
fn calls_runs(time: Duration) -> u32 {
    (time.as_secs_f64() * 1.1 / RUN).clamp(f64::from(FIRST_CALL), MOST) as u32
}

/// Frames that are made before any of them leaves: few where there is time, so that none waits long for others; the kernel's
/// own choice where there is none.
fn batch(rate: Option<f64>) -> u32 {
    /// How long a frame may wait for others.
    const WAIT: f64 = 5e-6;
    rate.map_or(0, |rate| (rate * WAIT).clamp(1.0, 64.0) as u32)
}

/// What has been sent. A frame counts when it has been written and handed to the interface: whatever happens to it on the wire,
/// even at its very beginning, is the wire's loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// Frames.
    pub frames: u64,
    /// Their bytes on the wire, check sequences included.
    pub bytes: u64,
    /// Those that began flows.
    pub begun: u64,
    /// Those with a stamp.
    pub stamps: u64,
    /// When the first was sent, in nanoseconds of `CLOCK_MONOTONIC`; 0 before.
    pub first: u64,
    /// When the last was sent. An unpaced generator looks at the clock once in 64 frames.
    pub last: u64,
    /// Time for which a paced generator should have sent and did not, beyond what [`Config::catch_up`] lets it make good.
    pub behind: Duration,
}

impl Sent {
    fn of(maps: &Maps) -> Result<Sent, Error> {
        let state = maps.state.get(0)?.unwrap_or([0; STATE]);
        let field = |field: State| {
            let bytes = state.get(field as usize..).and_then(|rest| rest.first_chunk::<8>());
            bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
        };
        match field(State::Broken) {
            0 => {}
            broken => return Err(Error::invalid("program", format!("could not write {broken} frames"))),
        }
        Ok(Sent {
            frames: field(State::Frames),
            bytes: field(State::Bytes),
            begun: field(State::Begun),
            stamps: field(State::Stamps),
            first: field(State::First),
            last: field(State::Last),
            behind: Duration::from_nanos(nanoseconds(field(State::Behind))),
        })
    }

    /// From the first to the last.
    #[must_use]
    pub fn time(&self) -> Duration {
        Duration::from_nanos(self.last.saturating_sub(self.first))
    }

    /// Frames a second, in the mean over [`Sent::time`]; 0 if there were less than two.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let seconds = self.time().as_secs_f64();
        if seconds > 0.0 { (self.frames - 1) as f64 / seconds } else { 0.0 }
    }

    /// Frames a second since an earlier look at the same stream.
    #[must_use]
    pub fn rate_since(&self, earlier: &Sent) -> f64 {
        let seconds = Duration::from_nanos(self.last.saturating_sub(earlier.last)).as_secs_f64();
        if seconds > 0.0 { (self.frames - earlier.frames) as f64 / seconds } else { 0.0 }
    }
}

/// A generator that sends, until it has sent what it was to, is stopped, or is dropped.
#[must_use = "it stops when it is dropped"]
pub struct Stream {
    stop: Arc<AtomicBool>,
    maps: Arc<Maps>,
    started: Instant,
    duration: Option<Duration>,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Stream {
    /// What has been sent so far.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn sent(&self) -> Result<Sent, Error> {
        Sent::of(&self.maps)
    }

    /// Whether it still sends.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Waits until it has sent what its configuration says; one that has neither a number nor a duration, for ever.
    ///
    /// # Errors
    /// What the kernel said, if it did not run to its end.
    pub fn wait(mut self) -> Result<Sent, Error> {
        let mut begun = None;
        while self.runs() {
            let mut pause = SHORT;
            if let Some(duration) = self.duration {
                // Time is from the first frame on: the kernel needs a while before it.
                if begun.is_none() && self.sent()?.first > 0 {
                    begun = Some(Instant::now());
                }
                if let Some(begun) = begun {
                    let left = duration.saturating_sub(begun.elapsed());
                    if left.is_zero() {
                        break;
                    }
                    pause = left.min(LONG);
                }
            }
            std::thread::sleep(pause);
        }
        self.end()
    }

    /// Stops it. The last frame has left at once; the call itself may take up to a second more.
    ///
    /// # Errors
    /// What the kernel said, if it had stopped before.
    pub fn stop(mut self) -> Result<Sent, Error> {
        self.end()
    }

    /// Since [`Generator::start`].
    #[must_use]
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    fn end(&mut self) -> Result<Sent, Error> {
        self.stop.store(true, Ordering::Relaxed);
        let mut control = [0; CONTROL];
        control[0] = 1;
        self.maps.control.set(0, &control)?;
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| Error::Gone)??;
        }
        Sent::of(&self.maps)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Whoever wanted to know has asked.
        let _ = self.end();
    }
}

/// Binds the calling thread to a core.
///
/// # Errors
/// [`Error::System`] if there is no such core.
pub fn pin(core: usize) -> Result<(), Error> {
    let mut set = CpuSet::new();
    let bound = set.set(core).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
    bound.map_err(|error| Error::system(format!("run on core {core}"), error))
}
