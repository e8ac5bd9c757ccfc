//! The least that AF_XDP can do: the example of the `af-xdp` crate, which swaps MACs and has no idea of anything else.

use std::time::Duration;

use levee_tests::levee::binary;

use super::{Contestant, Offer, Running};
use crate::throughput::seen::Seen;
use crate::throughput::topology::{FAR, IN_MAC, POD_MAC, Topology};

/// See the module.
pub struct Bounce;

impl Contestant for Bounce {
    fn name(&self) -> String {
        "bare AF_XDP bounce".into()
    }

    fn key(&self) -> String {
        "bounce".into()
    }

    fn offer(&self) -> Offer {
        Offer::from_pod(IN_MAC)
    }

    fn start(&self, topology: &Topology, core: usize) -> Running {
        let mut command = topology.forwarder.command("taskset");
        command.args(["-c", &core.to_string()]).arg(binary("examples/bounce")).args(["in0", "--to", "out0"]);
        let mut daemon = topology.forwarder.start("bounce", command);
        daemon.wait_until("both interfaces are taken", Duration::from_secs(20), |daemon| {
            daemon.log().contains("in0 queue") && daemon.log().contains("out0 queue")
        });
        Running::Process(daemon)
    }

    fn judge(&self, frame: &Seen) -> Result<(), String> {
        frame.has_macs(IN_MAC, POD_MAC)?;
        frame.goes_to(FAR)
    }
}
