//! Checksums that senders leave to hardware that is not there.
//!
//! A veth pair has no wire, so a sender with transmit checksum offload leaves the checksum unfinished, and a socket on the other end
//! gets the frame like that. Where that sender's end is ours to see (a veth whose peer is in this namespace: the bridge's end of levee's own
//! pair), its offload is switched off, and on again at the end. Frames of other namespaces' veths need it on their end: `ethtool -K IF tx off`.

use af_xdp::ethtool::{self, Feature};

use crate::config::{Interface, Machine};

/// Offloads that were switched off; dropping this puts them back.
#[derive(Debug, Default)]
pub struct Offloads {
    off: Vec<String>,
}

impl Offloads {
    /// Has checksums of what is sent towards `interface` be finished by their sender. Best effort, with a word in the log.
    pub fn finish_checksums_towards(&mut self, interface: &Interface, machine: &Machine) {
        if !ethtool::driver(&interface.name).is_ok_and(|driver| driver == "veth") {
            return;
        }
        let Some(peer) = machine.interfaces.iter().find(|other| Some(other.index) == interface.peer) else {
            tracing::info!(
                interface = interface.name,
                "the other end of this veth is in another namespace: if checksums arrive unfinished, `ethtool -K IF tx off` there"
            );
            return;
        };
        match ethtool::set_feature(&peer.name, Feature::TransmitChecksum, false) {
            Ok(true) => {
                tracing::info!(interface = peer.name, "transmit checksum offload is off while levee runs");
                self.off.push(peer.name.clone());
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, interface = peer.name, "transmit checksum offload stays on"),
        }
    }
}

impl Drop for Offloads {
    fn drop(&mut self) {
        for name in &self.off {
            if let Err(error) = ethtool::set_feature(name, Feature::TransmitChecksum, true) {
                tracing::warn!(%error, interface = name, "transmit checksum offload could not be put back");
            }
        }
    }
}
