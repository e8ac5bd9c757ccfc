//! What a change of a program costs in the dataplane alone: from the first byte of a request until its answer, which says that every
//! worker runs it.
//!
//! ```text
//!  this process ──PATCH /v1/program──► levee-dataplane (a namespace of its own, real AF_XDP sockets)
//!       t₀        one connection           │ its worker: asleep, polling, or forwarding all that a core can send
//!       t₁ ◄──────────200 OK───────────────┘
//! ```
//!
//! t₁ − t₀ is the figure: HTTP and JSON are in it, a control process and an API server are not (`control` has those). Programs grow by
//! deltas, as a cluster would; what a Service's backends and addresses are does not depend on how many there are.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use levee_api::net::{Family, Protocol};
use levee_api::program::{
    Backend, Delta, Frontend, Generation, Local, Mode, Pod, Pool, Program, Service, ServiceKey, Side, Vip, WhenEmpty,
};

use crate::control::ENDPOINTS;
use crate::throughput::topology::{POD, POD_MAC};

/// Services in one delta while a program grows: some 17 MB of JSON.
const AT_ONCE: usize = 20_000;

/// Service `number`: a VIP and port of its own, and [`ENDPOINTS`] backends of its own, on the routes of the bench's topology.
///
/// # Panics
/// Past a million.
#[must_use]
pub fn service(number: usize) -> Service {
    let index = u32::try_from(number).ok().filter(|index| *index < 1_000_000).expect("there are a million addresses");
    Service {
        name: format!("namespace-{}/service-{number}:http", number % 100),
        protocol: Protocol::Tcp,
        family: Family::Ipv4,
        frontends: vec![Frontend {
            address: vip(number),
            port: 80,
            last_port: None,
            from: Side::Any,
            mode: Mode::Nat,
            pool: Pool::Cluster,
            when_empty: WhenEmpty::Reject,
            source_ranges: Vec::new(),
        }],
        backends: (0..ENDPOINTS as u32).map(|endpoint| backend(index * ENDPOINTS as u32 + endpoint)).collect(),
        affinity: None,
        flows: Default::default(),
        quic: Vec::new(),
    }
}

/// Service `number`'s address.
#[must_use]
pub fn vip(number: usize) -> IpAddr {
    Ipv4Addr::from_bits(u32::from_be_bytes([10, 96, 0, 1]) + number as u32).into()
}

/// Ten million pods in 11.0.0.0/8 and after it: addresses that nothing else here has.
fn backend(number: u32) -> Backend {
    let address = Ipv4Addr::from_bits(u32::from_be_bytes([11, 0, 0, 1]) + number);
    Backend { address: address.into(), port: 8080, pools: vec![Pool::Cluster], via: None }
}

/// Somebody who programs one dataplane, over one connection.
pub struct Programmer {
    stream: UnixStream,
    generation: Generation,
    services: usize,
}

impl Programmer {
    /// Connects, and loads a program without Services.
    ///
    /// # Panics
    /// If the dataplane does not take it.
    #[must_use]
    pub fn new(socket: &Path) -> Programmer {
        let program = Program {
            generation: 1,
            local: Local {
                prefixes: vec!["10.244.1.0/24".parse().expect("a prefix")],
                pods: vec![Pod { address: POD.into(), mac: Some(POD_MAC) }],
            },
            service_ranges: vec!["10.96.0.0/12".parse().expect("a prefix")],
            ..Program::default()
        };
        Programmer::load(socket, &program)
    }

    /// Connects, and loads a program, of whose Services it knows nothing more.
    ///
    /// # Panics
    /// If the dataplane does not take it.
    #[must_use]
    pub fn load(socket: &Path, program: &Program) -> Programmer {
        let stream = UnixStream::connect(socket).unwrap_or_else(|error| panic!("{}: {error}", socket.display()));
        let mut programmer = Programmer { stream, generation: program.generation, services: 0 };
        programmer.send("PUT", &serde_json::to_vec(program).expect("programs can be written"));
        programmer
    }

    /// Connects to one that somebody else has programmed, and that is at this generation. Of its Services it knows nothing.
    ///
    /// # Panics
    /// If nobody listens.
    #[must_use]
    pub fn after(socket: &Path, generation: Generation) -> Programmer {
        let stream = UnixStream::connect(socket).unwrap_or_else(|error| panic!("{}: {error}", socket.display()));
        Programmer { stream, generation, services: 0 }
    }

    /// Services that there are.
    #[must_use]
    pub fn services(&self) -> usize {
        self.services
    }

    /// Adds Services until there are so many. Returns how long the dataplane took.
    pub fn grow_to(&mut self, services: usize) -> Duration {
        let mut took = Duration::ZERO;
        while self.services < services {
            let until = services.min(self.services + AT_ONCE);
            let new = self.services..until;
            took += self.amend(Delta {
                upsert_vips: new.clone().map(|number| Vip { address: vip(number), announce: false }).collect(),
                upsert_services: new.map(service).collect(),
                ..Delta::default()
            });
            self.services = until;
        }
        took
    }

    /// Takes one backend from a Service, or gives it back.
    pub fn change_backend(&mut self, number: usize, away: bool) -> Duration {
        let mut service = service(number);
        if away {
            service.backends.pop();
        }
        self.amend(Delta { upsert_services: vec![service], ..Delta::default() })
    }

    /// Adds a Service with an address that is new, or takes it away.
    pub fn change_service(&mut self, number: usize, away: bool) -> Duration {
        let (service, address) = (service(number), vip(number));
        self.amend(if away {
            let (name, protocol, family) = (service.name, service.protocol, service.family);
            Delta {
                remove_vips: vec![address],
                remove_services: vec![ServiceKey { name, protocol, family }],
                ..Delta::default()
            }
        } else {
            Delta {
                upsert_vips: vec![Vip { address, announce: false }],
                upsert_services: vec![service],
                ..Delta::default()
            }
        })
    }

    /// From one generation to the next. Returns the time from the request's first byte until its answer.
    ///
    /// # Panics
    /// If the dataplane does not take it.
    pub fn amend(&mut self, delta: Delta) -> Duration {
        let delta = Delta { base: self.generation, generation: self.generation + 1, ..delta };
        let body = serde_json::to_vec(&delta).expect("deltas can be written");
        let took = self.send("PATCH", &body);
        self.generation += 1;
        took
    }

    fn send(&mut self, method: &str, body: &[u8]) -> Duration {
        let mut request = format!(
            "{method} /v1/program HTTP/1.1\r\nhost: levee\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        let begun = Instant::now();
        self.stream.write_all(&request).expect("the dataplane reads");
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        while !is_whole(&answer) {
            let length = self.stream.read(&mut piece).expect("the dataplane answers");
            assert!(length > 0, "the dataplane has hung up: {}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&piece[..length]);
        }
        let took = begun.elapsed();
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        took
    }
}

/// Whether an answer's body is as long as its head says.
fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let length = String::from_utf8_lossy(&answer[..head]).lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    length.is_some_and(|length| answer.len() >= head + 4 + length)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn services_share_neither_addresses_nor_backends() {
        let services: Vec<Service> = [0, 1, 2, 999, 99_999].map(service).into();
        let addresses: BTreeSet<IpAddr> = services.iter().map(|service| service.frontends[0].address).collect();
        let backends: BTreeSet<IpAddr> =
            services.iter().flat_map(|service| &service.backends).map(|backend| backend.address).collect();
        assert_eq!((addresses.len(), backends.len()), (5, 5 * ENDPOINTS));
        assert!(addresses.is_disjoint(&backends));
    }

    #[test]
    fn an_answer_is_whole_when_its_length_is_there() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert!(is_whole(answer));
        assert!((0..answer.len()).all(|length| !is_whole(&answer[..length])));
    }
}
