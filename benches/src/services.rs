//! The Services that everybody balances: so many of them, numbered, each of ten endpoints. Who forwards is told of them in its own
//! words ([`Services::program`] is levee's, [`crate::throughput::kube_proxy`] nftables'); addresses are the same for all.
//!
//! Service `n` is 10.96.0.1 + `n`, port 80, out of Kubernetes' usual range. Its endpoints are the next ten addresses from
//! 10.128.0.1 on, port 8080.

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::IpNet;
use levee_api::program::{Backend, Mode, Pool, Program, Service, Vip};

use crate::rig;

/// Endpoints of each Service.
pub const ENDPOINTS: u32 = 10;

/// Port of every Service.
pub const PORT: u16 = 80;

/// Port of every endpoint.
pub const TARGET_PORT: u16 = 8080;

/// Where Services' addresses come from.
pub const SERVICES_RANGE: &str = "10.96.0.0/12";

/// Where pods are: clients outside of it are masqueraded by kube-proxy. levee's `nat` does that for everybody.
pub const PODS_RANGE: &str = "10.128.0.0/10";

/// The most Services that both ranges have room for.
pub const MOST: u32 = 100_000;

/// So many Services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Services {
    /// 1 to [`MOST`].
    pub count: u32,
}

impl Services {
    /// The address of a Service.
    #[must_use]
    pub fn vip(service: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(Ipv4Addr::new(10, 96, 0, 1).to_bits() + service)
    }

    /// The addresses of its endpoints.
    pub fn endpoints(service: u32) -> impl Iterator<Item = Ipv4Addr> {
        let first = Ipv4Addr::new(10, 128, 0, 1).to_bits() + service * ENDPOINTS;
        (first..first + ENDPOINTS).map(Ipv4Addr::from_bits)
    }

    /// What Kubernetes would call it: namespace, Service, port.
    #[must_use]
    pub fn name(service: u32) -> (&'static str, String, &'static str) {
        ("bench", format!("web-{service}"), "http")
    }

    /// One Service as levee is told of it, reached by rewriting both ends.
    #[must_use]
    pub fn service(service: u32) -> Service {
        let (namespace, name, port) = Services::name(service);
        Service {
            backends: Services::endpoints(service).map(backend).collect(),
            ..rig::service(&format!("{namespace}/{name}:{port}"), Services::vip(service), PORT, Mode::Nat, 0)
        }
    }

    /// All of it, as levee is told of it.
    ///
    /// # Panics
    /// Never: the range is a constant.
    #[must_use]
    pub fn program(self) -> Program {
        Program {
            generation: 1,
            service_ranges: vec![SERVICES_RANGE.parse::<IpNet>().expect("a prefix")],
            vips: (0..self.count)
                .map(|service| Vip { address: Services::vip(service).into(), announce: false })
                .collect(),
            services: (0..self.count).map(Services::service).collect(),
            ..Program::default()
        }
    }
}

impl fmt::Display for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            1 => f.write_str("1 Service"),
            count @ ..1000 => write!(f, "{count} Services"),
            count => write!(f, "{},{:03} Services", count / 1000, count % 1000),
        }
    }
}

/// An endpoint that takes flows, as levee is told of it.
#[must_use]
pub fn backend(address: Ipv4Addr) -> Backend {
    Backend { address: address.into(), port: TARGET_PORT, pools: vec![Pool::Cluster], via: None }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn addresses_are_each_ones_own_and_in_their_ranges() {
        let inside = |range: &str, address: Ipv4Addr| {
            range.parse::<IpNet>().unwrap().contains(&IpNet::from(std::net::IpAddr::from(address)))
        };
        let last = MOST - 1;
        assert!(inside(SERVICES_RANGE, Services::vip(last)));
        assert!(Services::endpoints(last).all(|address| inside(PODS_RANGE, address)));
        let all: BTreeSet<_> = (0..1000).flat_map(Services::endpoints).collect();
        assert_eq!(all.len(), 10_000);
    }

    #[test]
    fn numbers_are_written_as_people_read_them() {
        let text = |count| Services { count }.to_string();
        assert_eq!(
            [text(1), text(100), text(5_000), text(25_000)],
            ["1 Service", "100 Services", "5,000 Services", "25,000 Services"]
        );
    }

    #[test]
    fn levee_is_told_of_all_of_it() {
        let program = Services { count: 3 }.program();
        assert_eq!((program.services.len(), program.vips.len()), (3, 3));
        assert_eq!(program.services[2].backends.len(), 10);
        assert_eq!(program.services[2].frontends[0].address, std::net::IpAddr::from([10, 96, 0, 3]));
        assert_eq!(program.services[2].backends[0].address, std::net::IpAddr::from([10, 128, 0, 21]));
    }
}
