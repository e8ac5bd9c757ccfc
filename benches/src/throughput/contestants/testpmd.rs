//! DPDK's testpmd over its own AF_XDP driver (`net_af_xdp`), rewriting MACs: Debian's package `dpdk-dev`.
//!
//! Without huge pages, which are the machine's to give; the driver registers its memory with the sockets either way.

use std::time::{Duration, Instant};

use levee_tests::Daemon;
use nix::sys::signal::Signal;

use super::{Contestant, Offer, Running};
use crate::throughput::seen::Seen;
use crate::throughput::topology::{FAR, IN_MAC, NEXT_MAC, OUT_MAC, POD_MAC, Topology, in_path};

const PROGRAM: &str = "dpdk-testpmd";

/// See the module.
pub struct Testpmd;

impl Contestant for Testpmd {
    fn name(&self) -> String {
        "DPDK testpmd, net_af_xdp, mac".into()
    }

    fn key(&self) -> String {
        "dpdk_testpmd".into()
    }

    fn missing(&self) -> Option<String> {
        (!in_path(PROGRAM)).then(|| format!("{PROGRAM} is missing: apt-get install dpdk-dev"))
    }

    fn offer(&self) -> Offer {
        Offer::from_pod(IN_MAC)
    }

    fn start(&self, topology: &Topology, core: usize) -> Running {
        // By lines, or what it says would be seen when it ends.
        let mut command = topology.forwarder.command("stdbuf");
        command.args(["-oL", PROGRAM]);
        // Where it leaves files of its own, which go with the lab.
        command.env("RUNTIME_DIRECTORY", topology.forwarder.directory());
        let main = usize::from(core == 0);
        command.args(["--no-pci", "--no-huge", "--no-telemetry", "-m", "512", "--log-level", "lib.eal:warning"]);
        command.args(["-l", &format!("{main},{core}"), "--main-lcore", &main.to_string()]);
        command.args(["--file-prefix", topology.forwarder.name()]);
        for (number, interface) in ["in0", "out0"].iter().enumerate() {
            command.arg(format!("--vdev=net_af_xdp{number},iface={interface}"));
        }
        command.args(["--", "--forward-mode=mac", "--nb-cores=1", "--burst=64", "--rxd=2048", "--txd=2048"]);
        command.arg("--total-num-mbufs=16384");
        // It prints statistics every so often rather than asking what to do next.
        command.args(["--stats-period=3600", "--no-lsc-interrupt"]);
        command.args([format!("--eth-peer=0,{POD_MAC}"), format!("--eth-peer=1,{NEXT_MAC}")]);
        let mut process =
            Process { daemon: topology.forwarder.start("testpmd", command), topology: topology.forwarder.clone() };
        process.daemon.wait_until("it forwards", Duration::from_secs(30), |daemon| {
            daemon.log().contains("mac packet forwarding - ports=2")
        });
        // It says so before its core is at it: the first hundredth of a second went to nobody.
        std::thread::sleep(Duration::from_millis(500));
        Running::Testpmd(process)
    }

    fn judge(&self, frame: &Seen) -> Result<(), String> {
        frame.has_macs(OUT_MAC, NEXT_MAC)?;
        frame.goes_to(FAR)
    }
}

/// A running testpmd. Its XDP programs outlive it when it is killed, so it is asked to end, and they are taken off; as is the
/// promiscuous mode, which outlives it always.
pub struct Process {
    daemon: Daemon,
    topology: levee_tests::Namespace,
}

impl Process {
    pub(super) fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    pub(super) fn log(&self) -> String {
        self.daemon.log()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.daemon.is_running() {
            self.daemon.signal(Signal::SIGTERM);
        }
        let end = Instant::now() + Duration::from_secs(5);
        while self.daemon.is_running() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.daemon.kill();
        for interface in ["in0", "out0"] {
            let _ = self.topology.try_run(&format!("ip link set dev {interface} promisc off xdp off"));
        }
    }
}
