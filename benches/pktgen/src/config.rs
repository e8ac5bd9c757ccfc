//! What is to be sent.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use ipnet::IpNet;
use levee_api::net::{Mac, Protocol};

use crate::error::Error;

/// Least and most bytes of a frame, its check sequence included (IEEE 802.3, 3.2.7 and 3.2.8).
const FRAME: std::ops::RangeInclusive<u16> = 64..=1518;

/// The first port of a client; those below are for servers.
pub(crate) const FIRST_PORT: u16 = 1024;

/// Everything about one generator. Start from [`Config::new`].
///
/// # Examples
/// ```
/// use levee_pktgen::{Config, Sizes, Traffic};
/// use levee_api::net::Mac;
///
/// let to = Traffic::tcp("198.18.0.0/15".parse().unwrap(), "10.96.0.1:80".parse().unwrap());
/// let config = Config {
///     established: 0..100_000,
///     sizes: Sizes::imix(),
///     rate: Some(500_000.0),
///     ..Config::new("g0", (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])), to)
/// };
/// assert!(config.check().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where frames go out, by name: in the network namespace of the thread that makes the generator.
    pub interface: String,
    /// Frames' source and destination.
    pub macs: (Mac, Mac),
    /// From whom to whom; equal shares of the frames. At most [`Config::MOST_TRAFFIC`].
    pub traffic: Vec<Traffic>,
    /// Numbers of the flows that are under way, of each traffic; they take turns. Each is a client's address and port.
    pub established: Range<u32>,
    /// Numbers of the flows that begin: each frame of these is of the next one (TCP: a SYN), and after the last comes the
    /// first again.
    pub beginning: Range<u32>,
    /// The part of all frames that begin a flow, from 0 to 1, kept to a thousandth.
    pub syn: f64,
    /// What the others are, if they are TCP's.
    pub segment: Segment,
    /// Flows of one client before the next address: a power of two, at most 32,768.
    pub flows_per_client: u32,
    /// How long frames are.
    pub sizes: Sizes,
    /// Frames a second; `None` for as many as can be.
    pub rate: Option<f64>,
    /// How far behind its schedule a paced generator may catch up, by sending faster. What it is later by is left out and
    /// counted ([`crate::Sent::behind`]). More keeps the mean, less keeps away bursts.
    pub catch_up: Duration,
    /// Stop by itself after so many frames.
    pub frames: Option<u64>,
    /// Stop by itself after this time.
    pub duration: Option<Duration>,
    /// One frame in so many carries a number and the time (of a paced generator, whose clock is read anyway); 0 for none.
    /// Those are made longer where a frame has no room for them, by up to 26 bytes.
    pub stamp_every: u16,
    /// The core that it runs on; `None` for wherever.
    pub core: Option<usize>,
}

/// What a TCP segment of an established flow is. All have the sequence numbers that follow on the generator's own SYN, and on
/// [`crate::ends::Server`]'s answer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// ACK, with whatever payload the frame's length leaves room for.
    Acknowledgement,
    /// PSH and ACK: asks for an answer.
    Request,
    /// FIN and ACK: the client is done.
    Finish,
}

/// From whom to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic {
    /// Clients, counted from its first address.
    pub from: IpNet,
    /// The first server.
    pub to: SocketAddr,
    /// Servers at consecutive addresses; flow n goes to the one of number n modulo this.
    pub servers: u32,
    /// TCP or UDP.
    pub protocol: Protocol,
}

impl Traffic {
    /// TCP to one server.
    #[must_use]
    pub fn tcp(from: IpNet, to: SocketAddr) -> Traffic {
        Traffic { from, to, servers: 1, protocol: Protocol::Tcp }
    }

    /// UDP to one server.
    #[must_use]
    pub fn udp(from: IpNet, to: SocketAddr) -> Traffic {
        Traffic { protocol: Protocol::Udp, ..Traffic::tcp(from, to) }
    }
}

/// How long frames are, on the wire: with their check sequence, as RFC 2544 (section 9) counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes(Vec<(u16, u16)>);

impl Sizes {
    /// All of one length. A frame whose headers need more (TCP over IPv6: 78) is that much longer.
    #[must_use]
    pub fn fixed(bytes: u16) -> Sizes {
        Sizes(vec![(bytes, 1)])
    }

    /// The "simple IMIX" of testers: 7 of 64 bytes to 4 of 594 to 1 of 1518, 353.8 in the mean.
    #[must_use]
    pub fn imix() -> Sizes {
        Sizes(vec![(64, 7), (594, 4), (1518, 1)])
    }

    /// Lengths with their weights.
    #[must_use]
    pub fn mix(of: impl Into<Vec<(u16, u16)>>) -> Sizes {
        Sizes(of.into())
    }

    pub(crate) fn all(&self) -> &[(u16, u16)] {
        &self.0
    }
}

impl Config {
    /// Kinds of traffic that one generator has room for.
    pub const MOST_TRAFFIC: usize = 4;

    /// 64-byte frames of 1,024 established flows, as many as can be, until stopped.
    #[must_use]
    pub fn new(interface: &str, macs: (Mac, Mac), traffic: Traffic) -> Config {
        Config {
            interface: interface.to_owned(),
            macs,
            traffic: vec![traffic],
            established: 0..1024,
            beginning: 0..0,
            syn: 0.0,
            segment: Segment::Acknowledgement,
            flows_per_client: 64,
            sizes: Sizes::fixed(64),
            rate: None,
            catch_up: Duration::from_micros(100),
            frames: None,
            duration: None,
            stamp_every: 0,
            core: None,
        }
    }

    /// The same with the beginnings of its established flows alone, each `times` times, so that whoever follows flows knows
    /// them. Slow enough, none gets lost.
    #[must_use]
    pub fn opening(&self, rate: f64, times: u32) -> Config {
        let flows = u64::from(self.established.end.saturating_sub(self.established.start));
        Config {
            beginning: self.established.clone(),
            established: 0..0,
            syn: 1.0,
            sizes: Sizes::fixed(64),
            rate: Some(rate),
            frames: Some(flows * self.traffic.len() as u64 * u64::from(times)),
            duration: None,
            stamp_every: 0,
            ..self.clone()
        }
    }

    /// How long it will send, if that is known.
    pub(crate) fn length(&self) -> Option<Duration> {
        let frames = self.frames.zip(self.rate).and_then(|(frames, rate)| {
            // No frames at all, or a month of them, are told apart elsewhere.
            Duration::try_from_secs_f64(frames as f64 / rate).ok()
        });
        [frames, self.duration].into_iter().flatten().min()
    }

    /// Whether it makes sense.
    ///
    /// # Errors
    /// [`Error::Invalid`] with what does not, and what was expected.
    pub fn check(&self) -> Result<(), Error> {
        if self.traffic.is_empty() || self.traffic.len() > Self::MOST_TRAFFIC {
            return Err(Error::invalid(
                "traffic",
                format!("expected 1 to {} kinds, got {}", Self::MOST_TRAFFIC, self.traffic.len()),
            ));
        }
        if !(0.0..=1.0).contains(&self.syn) {
            return Err(Error::invalid("syn", format!("expected a share from 0 to 1, got {}", self.syn)));
        }
        for (what, flows, wanted) in
            [("established", &self.established, self.syn < 1.0), ("beginning", &self.beginning, self.syn > 0.0)]
        {
            if wanted && flows.is_empty() {
                return Err(Error::invalid(
                    what,
                    format!(
                        "no flows, although {} of the frames are theirs",
                        if what == "beginning" { self.syn } else { 1.0 - self.syn }
                    ),
                ));
            }
        }
        if !self.flows_per_client.is_power_of_two() || self.flows_per_client > 32_768 {
            return Err(Error::invalid(
                "flows_per_client",
                format!("expected a power of two up to 32768, got {}", self.flows_per_client),
            ));
        }
        let flows = self.established.end.max(self.beginning.end);
        for traffic in &self.traffic {
            traffic.check(flows.div_ceil(self.flows_per_client))?;
        }
        if self.sizes.all().is_empty() || self.sizes.all().len() > 8 {
            return Err(Error::invalid("sizes", format!("expected 1 to 8 lengths, got {}", self.sizes.all().len())));
        }
        for (bytes, weight) in self.sizes.all() {
            if !FRAME.contains(bytes) || !(1..=1000).contains(weight) {
                return Err(Error::invalid(
                    "sizes",
                    format!("expected 64 to 1518 bytes with a weight of 1 to 1000, got {bytes} with {weight}"),
                ));
            }
        }
        if let Some(rate) = self.rate
            && !(1.0..=1e9).contains(&rate)
        {
            return Err(Error::invalid("rate", format!("expected 1 to 1e9 frames a second, got {rate}")));
        }
        if self.catch_up > Duration::from_secs(10) {
            return Err(Error::invalid("catch_up", format!("expected at most 10 s, got {:?}", self.catch_up)));
        }
        if self.stamp_every > 0 && self.rate.is_none() {
            return Err(Error::invalid(
                "stamp_every",
                "expected a rate as well: of an unpaced generator all latency is its queues'",
            ));
        }
        Ok(())
    }
}

impl Traffic {
    /// Whether there is room for so many clients.
    fn check(&self, clients: u32) -> Result<(), Error> {
        if self.from.addr().is_ipv4() != self.to.is_ipv4() {
            return Err(Error::invalid("traffic", format!("{} and {} are of two families", self.from, self.to)));
        }
        if self.protocol == Protocol::Sctp {
            return Err(Error::invalid("traffic", "expected tcp or udp, got sctp"));
        }
        let bits = u32::from(self.from.max_prefix_len() - self.from.prefix_len());
        if bits < 32 && clients > 1 << bits {
            return Err(Error::invalid("traffic", format!("{} has no room for {clients} clients", self.from)));
        }
        let room = (u32::MAX - low_32(self.to.ip())).min((1 << 24) - 1);
        if self.servers == 0 || self.servers - 1 > room {
            let why = format!("expected 1 to {} servers from {}, got {}", room + 1, self.to, self.servers);
            return Err(Error::invalid("traffic", why));
        }
        if u32::MAX - low_32(self.from.network()) < clients.saturating_sub(1) {
            return Err(Error::invalid("traffic", format!("{} ends before {clients} clients", self.from)));
        }
        Ok(())
    }
}

/// The last 32 bits of an address: what varies.
pub(crate) fn low_32(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(address) => address.to_bits() as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let to = Traffic::tcp("198.18.0.0/15".parse().unwrap(), "10.96.0.1:80".parse().unwrap());
        Config::new("g0", (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])), to)
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let refused = |what: &str, config: Config| {
            let error = config.check().expect_err(what).to_string();
            assert!(error.starts_with(what), "{what}: {error}");
        };
        assert!(config().check().is_ok());
        refused("traffic", Config { traffic: vec![], ..config() });
        refused("syn", Config { syn: 1.1, beginning: 0..1, ..config() });
        refused("syn", Config { syn: f64::NAN, ..config() });
        refused("beginning", Config { syn: 0.5, ..config() });
        refused("established", Config { established: 5..5, ..config() });
        refused("flows_per_client", Config { flows_per_client: 100, ..config() });
        refused("sizes", Config { sizes: Sizes::fixed(63), ..config() });
        refused("sizes", Config { sizes: Sizes::mix([]), ..config() });
        refused("rate", Config { rate: Some(0.0), ..config() });
        refused("stamp_every", Config { stamp_every: 64, ..config() });
        // 2^17 clients of 64 flows fit into a /15, one more does not.
        assert!(Config { established: 0..1 << 23, ..config() }.check().is_ok());
        refused("traffic", Config { established: 0..(1 << 23) + 1, ..config() });
        let six = Traffic { to: "[2001:db8::1]:80".parse().unwrap(), ..config().traffic[0].clone() };
        refused("traffic", Config { traffic: vec![six], ..config() });
    }

    #[test]
    fn opening_begins_each_flow() {
        let opening = Config { established: 7..1007, ..config() }.opening(10_000.0, 2);
        assert_eq!((opening.beginning.clone(), opening.frames, opening.syn), (7..1007, Some(2000), 1.0));
        assert!(opening.check().is_ok());
    }
}
