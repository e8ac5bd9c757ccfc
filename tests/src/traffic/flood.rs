//! SYNs by the ten thousand, from addresses that nobody has.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use etherparse::PacketBuilder;
use levee_api::net::Mac;

use crate::inject::Injector;
use crate::namespace::Namespace;

/// Between two bursts.
const PERIOD: Duration = Duration::from_millis(2);

/// Whom a flood pretends to come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sources {
    /// 198.18.0.0/15, which is for such tests (RFC 2544, C.2.2): each SYN from another address, and another port.
    Many,
    /// One address, each SYN from another port.
    One(Ipv4Addr),
}

/// A flood that is under way. Dropped, it ends.
pub struct SynFlood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl SynFlood {
    /// Starts to send `rate` SYNs a second out of `eth0` of a namespace. `macs`: of the sender, and of who is flooded.
    ///
    /// # Panics
    /// If there is no such interface.
    #[must_use]
    pub fn start(from: &Namespace, macs: (Mac, Mac), sources: Sources, target: (Ipv4Addr, u16), rate: u64) -> SynFlood {
        let injector = Injector::new(from, "eth0");
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = std::thread::spawn({
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            move || {
                let begin = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    let due = begin.elapsed().as_micros() as u64 * rate / 1_000_000;
                    // Late is late: what could not be sent in time is not sent all at once.
                    for _ in 0..due.saturating_sub(sent.load(Ordering::Relaxed)).min(rate / 100) {
                        let number = sent.fetch_add(1, Ordering::Relaxed);
                        injector.try_send(&syn(macs, sources, target, number));
                    }
                    std::thread::sleep(PERIOD);
                }
            }
        });
        SynFlood { stop, sent, thread: Some(thread) }
    }

    /// How many it has sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends it: how many it has sent.
    #[must_use]
    pub fn finish(mut self) -> u64 {
        self.end();
        self.sent()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for SynFlood {
    fn drop(&mut self) {
        self.end();
    }
}

/// The frame of one SYN: no two of the first 2³² of a flood are of one flow.
fn syn(macs: (Mac, Mac), sources: Sources, target: (Ipv4Addr, u16), number: u64) -> Vec<u8> {
    // Odd factors walk through all values before they repeat one.
    let scattered = (number as u32).wrapping_mul(0x9e37_79b1);
    let source = match sources {
        Sources::Many => Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 0).to_bits() | scattered >> 15),
        Sources::One(address) => address,
    };
    let port = match sources {
        Sources::Many => (scattered & 0x7fff) as u16 + 1024,
        Sources::One(_) => (number % 60_000) as u16 + 1024,
    };
    let builder = PacketBuilder::ethernet2(macs.0.0, macs.1.0).ipv4(source.octets(), target.0.octets(), 64);
    let builder = builder.tcp(port, target.1, scattered, 64_240).syn();
    let mut frame = Vec::with_capacity(60);
    builder.write(&mut frame, &[]).expect("a vector takes everything");
    // The shortest that Ethernet has.
    frame.resize(60, 0);
    frame
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_syns_are_of_one_flow() {
        let macs = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        for sources in [Sources::Many, Sources::One(Ipv4Addr::new(198, 18, 0, 7))] {
            let flow = |number| syn(macs, sources, (Ipv4Addr::new(192, 0, 2, 250), 80), number)[26..38].to_vec();
            let flows: BTreeSet<_> = (0..50_000).map(flow).collect();
            assert_eq!(flows.len(), 50_000, "{sources:?}");
        }
    }
}
