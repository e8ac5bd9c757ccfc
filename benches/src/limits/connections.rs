//! levee's `nat` as the device under test of [`levee_pktgen::connections`].
//!
//! ```text
//!  ┌ source ─────────────┐    ┌ forwarder ──────────┐    ┌ sink ──────────────────┐
//!  │ generator, Clients  g0 ══ in0   levee     out0 ══ s0  Server: every backend  │
//!  └─────────────────────┘    └─────────────────────┘    └────────────────────────┘
//! ```

use std::net::IpAddr;
use std::time::{Duration, Instant};

use levee_pktgen::connections::{Device, Place, traffic};
use levee_pktgen::{Config, Error};
use levee_tests::levee::Dataplane;

use super::CATCH_UP;
use crate::services::{PORT, Services};
use crate::throughput::topology::{CLIENTS, IN_MAC, NEXT, POD, POD_MAC, SNAT, Topology};

/// How long the device may take to forget.
const PATIENCE: Duration = Duration::from_secs(10);
/// For so long a flow is kept, in whatever state: longer than any trial, so that flows go when they are asked to and not on
/// their own, however slow the machine.
const AGE: &str = "1h";

impl Place for Topology {
    fn with_clients<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.source.enter(work)
    }

    fn with_server<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.sink.enter(work)
    }

    fn server(&self) -> &str {
        "s0"
    }
}

/// levee, balancing one Service of ten endpoints.
pub struct Levee {
    /// The process.
    pub dataplane: Dataplane,
}

impl Levee {
    /// Starts it with room for so many flows, on the topology's way; from then on what reaches the sink is no longer dropped
    /// there.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(topology: &Topology, core: usize, capacity: u32) -> Levee {
        topology.sink.run("nft delete table netdev sink");
        topology.forwarder.ip(&format!("route add {CLIENTS} via {POD} dev in0"));
        let dataplane = Dataplane::start_as(&topology.forwarder, |socket| {
            format!(
                "ports:\n  - {{interface: in0, role: uplink}}\n  - {{interface: out0, role: uplink}}\n\
                 workers: [{core}]\nidle: poll\nsocket: {}\nflows: {{capacity: {capacity}}}\n\
                 timeouts: {{tcp_syn: {AGE}, tcp_closing: {AGE}, tcp_closed: {AGE}}}\n\
                 snat: [{{address: {SNAT}, ports: 1024-65535}}]\n",
                socket.display()
            )
        });
        dataplane.program(&Services { count: 1 }.program());
        dataplane.wait_for_generation(1);
        dataplane.wait_for_neighbours(&[IpAddr::from(NEXT), POD.into()]);
        Levee { dataplane }
    }

    /// Flows that it has.
    #[must_use]
    pub fn flows(&self) -> u64 {
        self.dataplane.get("/v1/status")["flows"].as_u64().unwrap_or_default()
    }
}

impl Device for Levee {
    fn clear(&mut self) -> Result<(u64, Duration), Error> {
        let (had, start) = (self.flows(), Instant::now());
        let failed = |why: String| Error::Invalid { what: "DELETE /v1/flows", why };
        let (status, answer) = self.dataplane.request("DELETE", "/v1/flows", None);
        if status != 200 {
            return Err(failed(format!("{status}: {answer}")));
        }
        let took = start.elapsed();
        while self.flows() > 0 {
            if start.elapsed() > PATIENCE {
                return Err(failed(format!("{} of {had} flows are still there", self.flows())));
            }
        }
        Ok((had, took))
    }
}

/// Frames of connections to it, from a core.
#[must_use]
pub fn config(source: usize) -> Config {
    let to = (Services::vip(0), PORT).into();
    Config { core: Some(source), catch_up: CATCH_UP, ..Config::new("g0", (POD_MAC, IN_MAC), traffic(to)) }
}
