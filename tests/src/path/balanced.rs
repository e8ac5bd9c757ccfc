//! levee in the balancer's place, with one Service of the path's VIP that its backend serves.

use levee_api::net::{Family, Protocol};
use levee_api::program::{Backend, Frontend, Mode, Pool, Program, Service, Side, Vip, WhenEmpty};

use super::{BACKEND, Path, VIP};
use crate::dual::of;
use crate::levee::{Dataplane, Ports, Take};

/// What is balanced.
#[derive(Debug, Clone, Copy)]
pub struct Balanced {
    /// How its backend is reached.
    pub mode: Mode,
    /// Of VIP and backend.
    pub family: Family,
    /// Its protocol.
    pub protocol: Protocol,
    /// The port that clients know, and the one that is served.
    pub ports: (u16, u16),
}

impl Balanced {
    /// Begins to.
    ///
    /// # Panics
    /// If levee does not start.
    #[must_use]
    pub fn start(self, path: &Path) -> Dataplane {
        let Balanced { mode, family, protocol, ports: (known, served) } = self;
        // Answers of `dnat` are to the client's own address, and for the balancer to take.
        let take = if mode == Mode::Dnat { Take::All } else { Take::Owned };
        let dataplane = Dataplane::start(&path.balancer.namespace, Ports::Balancer(take));
        dataplane.program(&Program {
            generation: 1,
            vips: vec![Vip { address: of(family, VIP), announce: true }],
            services: vec![Service {
                name: "default/served:main".into(),
                protocol,
                family,
                frontends: vec![Frontend {
                    address: of(family, VIP),
                    port: known,
                    last_port: None,
                    from: Side::Any,
                    mode,
                    pool: Pool::Cluster,
                    when_empty: WhenEmpty::Reject,
                    source_ranges: Vec::new(),
                }],
                backends: vec![Backend {
                    address: of(family, BACKEND),
                    port: served,
                    pools: vec![Pool::Cluster],
                    via: None,
                }],
                affinity: None,
                quic: Vec::new(),
                flows: Default::default(),
            }],
            ..Program::default()
        });
        dataplane
    }
}
