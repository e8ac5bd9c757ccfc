//! `pktgen`: sends and receives, in the network namespace that it is started in.
//!
//! ```text
//! ip netns exec b pktgen receive --in s0 --seconds 12 &
//! ip netns exec a pktgen send --out g0 --to-mac 02:00:00:00:00:01 --to 10.96.0.1:80 --rate 500000 --seconds 10 --stamp-every 64
//! ```

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use levee_api::net::{Mac, Protocol};
use levee_pktgen::{Config, Error, Generator, Received, Receiver, Segment, Sizes, Traffic};
use serde_json::{Value, json};

/// levee's packet generator: XDP live frames, paced and counted. Needs root.
#[derive(Parser)]
#[command(version, max_term_width = 110)]
struct Options {
    #[command(subcommand)]
    command: Command,
    /// Answer in JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Send frames out of an interface, on one core.
    Send(Send),
    /// Count, time and drop everything that arrives at an interface.
    Receive(Receive),
}

#[derive(Args)]
struct Send {
    /// Interface that frames go out of. If it is a veth, its other end wants `ethtool -K IF gro on`.
    #[arg(long, value_name = "IF")]
    out: String,
    /// MAC that frames are for: the device under test's.
    #[arg(long, value_name = "MAC")]
    to_mac: Mac,
    /// MAC that frames are from.
    #[arg(long, value_name = "MAC", default_value = "02:00:00:00:00:01")]
    from_mac: Mac,
    /// Address and port that frames are for; up to four times, for both families, sharing the frames equally.
    #[arg(long, value_name = "ADDRESS:PORT", required = true)]
    to: Vec<SocketAddr>,
    /// Servers at consecutive addresses from each `--to` on.
    #[arg(long, value_name = "N", default_value_t = 1)]
    servers: u32,
    /// Clients' addresses, counted from the first. Once for each family that there is to send to. [default: 198.18.0.0/15,
    /// 2001:2::/48]
    #[arg(long, value_name = "PREFIX")]
    from: Vec<IpNet>,
    /// TCP segments or UDP datagrams.
    #[arg(long, value_enum, default_value_t = Transport::Tcp)]
    protocol: Transport,
    /// Flows that are under way, taking turns.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    flows: u32,
    /// Begin each of them twice before the frames that count, at this rate. Needed by whoever follows flows.
    #[arg(long, value_name = "PER_SECOND")]
    open: Option<f64>,
    /// Part of the frames that begin a flow, from 0 to 1 (TCP: SYNs).
    #[arg(long, value_name = "PART", default_value_t = 0.0)]
    syn: f64,
    /// Flows that begin, before the first of them begins again.
    #[arg(long, value_name = "N", default_value_t = 1 << 20)]
    syn_flows: u32,
    /// Flows of one client's address; a power of two.
    #[arg(long, value_name = "N", default_value_t = 64)]
    flows_per_client: u32,
    /// Bytes of a frame with its check sequence, `imix`, or lengths with weights: `64:7,594:4,1518:1`.
    #[arg(long, value_name = "BYTES", default_value = "64", value_parser = sizes)]
    size: Sizes,
    /// Frames a second. [default: as many as can be]
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<f64>,
    /// Milliseconds that may be caught up by sending faster, where the machine was busy.
    #[arg(long, value_name = "MS", default_value_t = 0.1)]
    catch_up: f64,
    /// For how long.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    seconds: f64,
    /// At most so many frames.
    #[arg(long, value_name = "N")]
    frames: Option<u64>,
    /// One frame in so many carries the time, for `receive`. Needs a rate.
    #[arg(long, value_name = "N", default_value_t = 0)]
    stamp_every: u16,
    /// The core to run on, which it takes for itself.
    #[arg(long, value_name = "N")]
    core: Option<usize>,
}

#[derive(Args)]
struct Receive {
    /// Interface to take everything from.
    #[arg(long = "in", value_name = "IF")]
    at: String,
    /// For how long; without, until the process is ended, with a line each second.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// Frames that were sent: says how many are lost, and ends with status 1 if any are.
    #[arg(long, value_name = "N")]
    expect: Option<u64>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Transport {
    Tcp,
    Udp,
}

/// Seconds on a command line: more than none, and not longer than a month.
fn time(seconds: f64) -> Result<Duration, Error> {
    Duration::try_from_secs_f64(seconds).ok().filter(|time| *time <= Duration::from_secs(31 * 86_400)).ok_or_else(
        || Error::Invalid { what: "time", why: format!("expected seconds, from 0 to a month of them, got {seconds}") },
    )
}

fn sizes(text: &str) -> Result<Sizes, String> {
    if text == "imix" {
        return Ok(Sizes::imix());
    }
    let wrong = || format!("expected bytes, `imix`, or bytes and weights as in `64:7,1518:1`, got `{text}`");
    let one = |part: &str| {
        let (bytes, weight) = part.split_once(':').unwrap_or((part, "1"));
        Some((bytes.parse().ok()?, weight.parse().ok()?))
    };
    text.split(',').map(one).collect::<Option<Vec<(u16, u16)>>>().map(Sizes::mix).ok_or_else(wrong)
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match &options.command {
        Command::Send(send) => send.run(options.json),
        Command::Receive(receive) => receive.run(options.json),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("pktgen: {error}");
            ExitCode::from(2)
        }
    }
}

/// Writes a line, or as JSON; who reads no longer is told nothing.
fn say(as_json: bool, text: &str, value: &Value) {
    let mut out = std::io::stdout().lock();
    let _ = if as_json { writeln!(out, "{value}") } else { writeln!(out, "{text}") };
}

impl Send {
    fn config(&self) -> Result<Config, Error> {
        let from = |to: &SocketAddr| {
            let given = self.from.iter().find(|from| from.addr().is_ipv4() == to.is_ipv4()).copied();
            let ours = if to.is_ipv4() { "198.18.0.0/15" } else { "2001:2::/48" };
            given.or_else(|| ours.parse().ok()).unwrap_or_default()
        };
        let protocol = match self.protocol {
            Transport::Tcp => Protocol::Tcp,
            Transport::Udp => Protocol::Udp,
        };
        let traffic = self.to.iter().map(|to| Traffic { from: from(to), to: *to, servers: self.servers, protocol });
        let beginning = self.flows..self.flows.saturating_add(if self.syn > 0.0 { self.syn_flows } else { 0 });
        Ok(Config {
            interface: self.out.clone(),
            macs: (self.from_mac, self.to_mac),
            traffic: traffic.collect(),
            established: 0..self.flows,
            beginning,
            syn: self.syn,
            segment: Segment::Acknowledgement,
            flows_per_client: self.flows_per_client,
            sizes: self.size.clone(),
            rate: self.rate,
            catch_up: time(self.catch_up / 1e3)?,
            frames: self.frames,
            duration: Some(time(self.seconds)?),
            stamp_every: self.stamp_every,
            core: self.core,
        })
    }

    fn run(&self, as_json: bool) -> Result<ExitCode, Error> {
        let generator = Generator::new(self.config()?)?;
        let stream = match self.open {
            Some(rate) => generator.open_and_start(rate, 2)?,
            None => generator.start()?,
        };
        let sent = stream.wait()?;
        let text = format!(
            "sent {} frames, {} bytes, in {:.3} s: {:.6} Mpps, {:.3} Gbit/s; {} began flows, {} were stamped; {:?} behind",
            sent.frames,
            sent.bytes,
            sent.time().as_secs_f64(),
            sent.rate() / 1e6,
            sent.rate() * sent.bytes as f64 / sent.frames.max(1) as f64 * 8.0 / 1e9,
            sent.begun,
            sent.stamps,
            sent.behind
        );
        let value = json!({
            "frames": sent.frames, "bytes": sent.bytes, "seconds": sent.time().as_secs_f64(), "rate": sent.rate(),
            "begun": sent.begun, "stamps": sent.stamps, "behind_seconds": sent.behind.as_secs_f64(),
        });
        say(as_json, &text, &value);
        Ok(ExitCode::SUCCESS)
    }
}

impl Receive {
    fn run(&self, as_json: bool) -> Result<ExitCode, Error> {
        let receiver = Receiver::attach(&self.at)?;
        let end = self.seconds.map(time).transpose()?.map(|time| Instant::now() + time);
        let (mut before, mut looked) = (Received::default(), Instant::now());
        while end.is_none_or(|end| Instant::now() < end) {
            let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            std::thread::sleep(left.min(Duration::from_secs(1)));
            if end.is_none() {
                let (now, time) = (receiver.received()?, looked.elapsed());
                looked = Instant::now();
                report(as_json, &now.since(&before), Some(time));
                before = now;
            }
        }
        let all = receiver.received()?;
        report(as_json, &all, None);
        let Some(expected) = self.expect else { return Ok(ExitCode::SUCCESS) };
        let lost = expected.saturating_sub(all.frames);
        let part = if expected > 0 { lost as f64 / expected as f64 } else { 0.0 };
        say(
            as_json,
            &format!("lost {lost} of {expected}: {:.6} %", part * 100.0),
            &json!({ "lost": lost, "part": part }),
        );
        Ok(if lost > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn report(as_json: bool, what: &Received, time: Option<Duration>) {
    let rate = time.map(|time| what.frames as f64 / time.as_secs_f64());
    let at = |part| what.latency.quantile(part);
    let words = |part| at(part).map_or_else(|| "–".to_owned(), |time| format!("{time:?}"));
    let text = format!(
        "received {} frames, {} bytes{}; {} SYNs; {} timed: p50 {}, p99 {}, p99.9 {}, most {}",
        what.frames,
        what.bytes,
        rate.map_or_else(String::new, |rate| format!(", {:.6} Mpps", rate / 1e6)),
        what.syns,
        what.latency.samples(),
        words(0.5),
        words(0.99),
        words(0.999),
        words(1.0)
    );
    let nanoseconds = |part| at(part).map(|time| time.as_nanos() as u64);
    let value = json!({
        "frames": what.frames, "bytes": what.bytes, "rate": rate, "segments": what.segments, "syns": what.syns, "stamps": what.stamps,
        "latency_ns": {
            "samples": what.latency.samples(), "p50": nanoseconds(0.5), "p99": nanoseconds(0.99), "p99_9": nanoseconds(0.999),
            "most": nanoseconds(1.0),
        },
    });
    say(as_json, &text, &value);
}
