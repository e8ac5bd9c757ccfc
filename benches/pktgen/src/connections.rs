//! Connections: how fast they begin, how fast they end, how many there can be. RFC 9693.
//!
//! | figure | RFC 9693 | here |
//! |---|---|---|
//! | maximum connection establishment rate | section 4.5 | the fastest rate of new flows at which each of them is established, found by [`Search`] without loss |
//! | its validation | section 4.6 | each flow is asked once more, both ways, when all are there |
//! | connection tear-down rate | section 4.8 | flows in the table over the time that the device takes to forget all of them on demand |
//! | closing rate | not the RFC's | the fastest rate of FINs at which each flow is closed from both sides |
//! | connection tracking table capacity | section 4.9 | the most flows that are all there when all have been begun, found by [`Search`] in steps of doubling and halving |
//! | emptied between trials | section 4.4 | by the device, on demand |
//!
//! Where this departs from the RFC, and why: it establishes by UDP, one frame for each connection, so that only the device keeps
//! state. Here they are TCP's handshakes, all three segments of them, since that is what a balancer is for; sources come in
//! order and not pseudorandomly (section 2), since a device that hashes with a secret key cannot tell.

use std::time::{Duration, Instant};

use crate::config::{Config, Segment, Traffic};
use crate::ends::{Answered, Clients, Server};
use crate::error::Error;
use crate::generator::{Generator, Sent};
use crate::search::{Found, Search, Trial};

/// How long after the last frame answers may still come.
const PATIENCE: Duration = Duration::from_secs(2);
/// Nothing new for so long, and it is over.
const QUIET: Duration = Duration::from_millis(100);

/// The device under test: what has to be asked of it besides frames.
pub trait Device {
    /// Forgets all connections; says how many there were, and how long that took, from the demand until they were gone.
    ///
    /// # Errors
    /// What is to be shown to whoever measures.
    fn clear(&mut self) -> Result<(u64, Duration), Error>;
}

/// Where clients and servers are. Each function is called on the thread that measures.
pub trait Place {
    /// Runs something in the network namespace of the generator and the clients.
    fn with_clients<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R;
    /// Runs something in that of the server.
    fn with_server<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R;
    /// The interface at which the server is.
    fn server(&self) -> &str;
}

/// One kind of frames to all flows, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Round {
    /// What was sent.
    pub sent: Sent,
    /// Flows for which the answer came.
    pub answered: u64,
}

/// Clients, a server, and a generator between them, for one trial: what was seen of flows before is forgotten with it.
pub struct Ends<'p, P> {
    place: &'p P,
    config: Config,
    flows: u32,
    clients: Clients,
    server: Server,
}

impl<'p, P: Place> Ends<'p, P> {
    /// For so many flows, with the interface, MACs, traffic and core of a configuration.
    ///
    /// # Errors
    /// [`Error::Invalid`] if that is not one traffic, or has no room for the flows; otherwise what the kernel says.
    pub fn attach(place: &'p P, config: &Config, flows: u32) -> Result<Ends<'p, P>, Error> {
        let [traffic] = config.traffic.as_slice() else {
            return Err(Error::invalid("traffic", format!("expected one, got {}", config.traffic.len())));
        };
        let config = Config { frames: Some(flows.into()), stamp_every: 0, duration: None, ..config.clone() };
        let per_client = config.flows_per_client;
        let clients = place.with_clients(|| Clients::attach(&config.interface, traffic, flows, per_client))?;
        let at = place.server().to_owned();
        let server = place.with_server(|| Server::attach(&at))?;
        Ok(Ends { place, config, flows, clients, server })
    }

    /// Begins every flow, once.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn establish(&self, rate: f64) -> Result<Round, Error> {
        let config = Config { beginning: 0..self.flows, established: 0..0, syn: 1.0, ..self.at(rate) };
        self.round(config, |answered| answered.established)
    }

    /// Asks every flow, once, and counts those whose server answers.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn validate(&self, rate: f64) -> Result<Round, Error> {
        let config = Config { established: 0..self.flows, syn: 0.0, segment: Segment::Request, ..self.at(rate) };
        self.round(config, |answered| answered.requests)
    }

    /// Ends every flow, once, and counts those that their server ends as well.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn close(&self, rate: f64) -> Result<Round, Error> {
        let config = Config { established: 0..self.flows, syn: 0.0, segment: Segment::Finish, ..self.at(rate) };
        self.round(config, |answered| answered.finished)
    }

    /// What both ends have seen, for messages.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn story(&self) -> Result<String, Error> {
        Ok(format!("{:?}, {:?}", self.clients.answered()?, self.server.served()?))
    }

    fn at(&self, rate: f64) -> Config {
        Config { rate: Some(rate), ..self.config.clone() }
    }

    fn round(&self, config: Config, of: impl Fn(&Answered) -> u64) -> Result<Round, Error> {
        let before = of(&self.clients.answered()?);
        let sent = self.place.with_clients(|| Generator::new(config)?.start()?.wait())?;
        let (mut answered, mut last, start) = (before, Instant::now(), Instant::now());
        while start.elapsed() < PATIENCE && last.elapsed() < QUIET && answered - before < u64::from(self.flows) {
            std::thread::sleep(Duration::from_millis(2));
            let now = of(&self.clients.answered()?);
            if now > answered {
                (answered, last) = (now, Instant::now());
            }
        }
        Ok(Round { sent, answered: answered - before })
    }
}

impl Round {
    /// As a trial of a search.
    #[must_use]
    pub fn trial(&self, rate: f64) -> Trial {
        Trial { rate, offered: self.sent.rate(), sent: self.sent.frames, received: self.answered }
    }
}

/// How connections are measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Flows of each trial of a rate.
    pub flows: u32,
    /// A rate at which nothing is lost: what a trial needs before or after what it measures is done at this.
    pub gentle: f64,
    /// How rates are searched. What a trial needs beforehand has as many chances as a trial.
    pub search: Search,
}

/// Section 4.5 with 4.6: the fastest rate at which each of `plan.flows` is established, and is there afterwards.
///
/// # Errors
/// What the kernel or the device says.
pub fn establishment_rate<P: Place, D: Device>(
    place: &P,
    device: &mut D,
    config: &Config,
    plan: &Plan,
) -> Result<Found, Error> {
    plan.search.run(|rate| {
        device.clear()?;
        let ends = Ends::attach(place, config, plan.flows)?;
        let round = ends.establish(rate)?;
        let mut trial = round.trial(rate);
        if round.answered == u64::from(plan.flows) {
            trial.received = ends.validate(plan.gentle)?.answered;
        }
        Ok(trial)
    })
}

/// The fastest rate at which each of `plan.flows` is closed by both ends.
///
/// # Errors
/// What the kernel or the device says; [`Error::Invalid`] if flows cannot be established at the gentle rate.
pub fn closing_rate<P: Place, D: Device>(
    place: &P,
    device: &mut D,
    config: &Config,
    plan: &Plan,
) -> Result<Found, Error> {
    plan.search.run(|rate| {
        let ends = established(place, device, config, plan)?;
        Ok(ends.close(rate)?.trial(rate))
    })
}

/// Section 4.8: `plan.flows` established, then forgotten on demand. What the device says that it has forgotten, and the time.
///
/// # Errors
/// As [`closing_rate`].
pub fn tear_down<P: Place, D: Device>(
    place: &P,
    device: &mut D,
    config: &Config,
    plan: &Plan,
) -> Result<(u64, Duration), Error> {
    let _ends = established(place, device, config, plan)?;
    device.clear()
}

fn established<'p, P: Place, D: Device>(
    place: &'p P,
    device: &mut D,
    config: &Config,
    plan: &Plan,
) -> Result<Ends<'p, P>, Error> {
    let mut chances = plan.search.chances;
    loop {
        device.clear()?;
        let ends = Ends::attach(place, config, plan.flows)?;
        let round = ends.establish(plan.gentle)?;
        if round.answered == u64::from(plan.flows) {
            return Ok(ends);
        }
        if chances == 0 {
            let why = format!(
                "{} of {} flows were established at {} per second: {}",
                round.answered,
                plan.flows,
                plan.gentle,
                ends.story()?
            );
            return Err(Error::invalid("gentle rate", why));
        }
        chances -= 1;
    }
}

/// Section 4.9: the most flows, up to `most`, that are all established at the gentle rate and all there afterwards. In the
/// result, rates are numbers of flows.
///
/// # Errors
/// What the kernel or the device says.
pub fn capacity<P: Place, D: Device>(
    place: &P,
    device: &mut D,
    config: &Config,
    plan: &Plan,
    most: u32,
) -> Result<Found, Error> {
    let search = Search { lowest: 1.0, highest: f64::from(most), ..Search::lossless(1.0, f64::from(most)) };
    search.run(|flows| {
        device.clear()?;
        let number = flows.round() as u32;
        let ends = Ends::attach(place, config, number)?;
        let round = ends.establish(plan.gentle)?;
        let there =
            if round.answered == u64::from(number) { ends.validate(plan.gentle)?.answered } else { round.answered };
        Ok(Trial { rate: flows, offered: number.into(), sent: number.into(), received: there })
    })
}

/// One traffic for a device that balances: TCP from many clients to one server.
#[must_use]
pub fn traffic(to: std::net::SocketAddr) -> Traffic {
    let from = if to.is_ipv4() { "198.18.0.0/15" } else { "2001:2::/48" };
    Traffic::tcp(from.parse().unwrap_or_default(), to)
}
