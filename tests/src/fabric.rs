//! The layer-2 segment: a learning bridge in a namespace of its own, and a wire to each station.

use std::time::{Duration, Instant};

use levee_api::net::Mac;

use crate::lab::Lab;
use crate::namespace::Namespace;
use crate::tap::Tap;

/// A learning bridge that floods what it does not know, as every switch does.
pub struct Fabric {
    namespace: Namespace,
}

/// One station's connection: `port` is its end in the fabric, where the [`Tap`] hears it.
#[derive(Debug, Clone)]
pub struct Wire {
    /// Name of the fabric's port.
    pub port: String,
    /// Name of the station's interface.
    pub interface: String,
    /// The station's MAC.
    pub mac: Mac,
}

impl Fabric {
    /// A fabric without stations.
    #[must_use]
    pub fn new(lab: &Lab) -> Fabric {
        let namespace = lab.namespace("fabric");
        // No spanning tree and no multicast snooping: a frame on a wire was put there by a station.
        namespace.ip_batch(
            "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0
             link set br0 up",
        );
        Fabric { namespace }
    }

    /// Connects a station: `interface` in its namespace becomes one end of a wire whose other end, `port`, is here.
    #[must_use]
    pub fn plug(&self, station: &Namespace, interface: &str, mac: Mac, port: &str) -> Wire {
        self.plug_with_queues(station, interface, mac, port, 1)
    }

    /// The same with several queues at both ends: frames of different flows come in on different ones.
    #[must_use]
    pub fn plug_with_queues(&self, station: &Namespace, interface: &str, mac: Mac, port: &str, queues: u8) -> Wire {
        let both = format!("numtxqueues {queues} numrxqueues {queues}");
        self.namespace.ip_batch(&format!(
            "link add name {port} {both} type veth peer name {interface} {both} address {mac} netns {}
             link set dev {port} master br0 up",
            station.name()
        ));
        station.ip(&format!("link set {interface} up"));
        finish_checksums(&self.namespace, port);
        // NAPI on this end is what native XDP_TX and redirects on the other one need; in return this end gathers
        // segments, which the bridge cuts up again before they leave.
        self.namespace.run(&format!("ethtool -K {port} gro on"));
        Wire { port: port.to_owned(), interface: interface.to_owned(), mac }
    }

    /// Hears every wire.
    #[must_use]
    pub fn tap(&self) -> Tap {
        Tap::start(&self.namespace)
    }

    /// Waits until nobody has spoken to everybody for a while: what levee announces when it starts or gains an address, it
    /// says twice, 2 s apart.
    ///
    /// # Panics
    /// If there is no end to it.
    pub fn wait_until_quiet(&self) {
        const QUIET: Duration = Duration::from_millis(2500);
        let end = Instant::now() + 8 * QUIET;
        let tap = self.tap();
        let mut since = Instant::now();
        while since.elapsed() < QUIET {
            std::thread::sleep(Duration::from_millis(50));
            let frames = tap.frames();
            if frames.iter().any(|frame| frame.bytes.first().is_some_and(|first| first & 1 == 1)) {
                since = Instant::now();
                tap.clear();
            }
            assert!(Instant::now() < end, "the fabric is not quiet: {:02x?}", frames.last().map(|frame| &frame.bytes));
        }
    }

    /// Forgets every station, as a switch does after its ageing time.
    pub fn forget(&self) {
        self.namespace.run("bridge fdb flush dev br0 dynamic");
    }

    /// Takes a wire's carrier away, or gives it back.
    pub fn set_carrier(&self, wire: &Wire, up: bool) {
        self.namespace.ip(&format!("link set {} {}", wire.port, if up { "up" } else { "down" }));
    }

    /// Where it lives.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}

/// A veth hands over checksums that its sender left to the hardware, and there is none: have them finished on this end
/// before they cross to whoever reads them from an AF_XDP socket.
pub(crate) fn finish_checksums(namespace: &Namespace, interface: &str) {
    namespace.run(&format!("ethtool -K {interface} tx off"));
}
