//! A node's turn at its fullest: a batch from each queue, and one that another worker hands over.
//!
//! ```text
//!   uplink ──64 SYNs, nat────► ┐
//!   pods ────64 SYNs, nat────► ├─ one turn of this worker
//!   inbox ───64 SYNs, dnat───► ┘
//!     ▲ other worker ◄─192 SYNs, dnat── its own queue of the uplink; half of these flows are not its own
//! ```
//!
//! The owner of a flow through `nat` is who receives its first packet, so newcomers come from another worker only where the owner is a hash of
//! the client: through `dnat`.

use std::net::Ipv4Addr;
use std::time::Duration;

use levee_api::program::{Delta, Mode, Vip};
use levee_dataplane::port::memory::MemoryPort;
use levee_dataplane::worker::{BATCH, Worker};

use crate::frames::{self, Segment};
use crate::rig::{GATEWAY_MAC, INSIDE_MAC, NODE_MAC, POD_MAC, Rig, VIP, deliver, director_of, service, syn};

/// What is reached by `dnat`.
const OTHER_VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 3);

/// Batches that the other worker receives for each that it is to hand over: with half of that at least one, and its inbox never empty.
const RECEIVED: usize = 3;

/// Lanes' places in a rig.
const UPLINK: usize = 0;
const PODS: usize = 1;

/// Who hands over, and what comes in.
pub(super) struct Lanes {
    other: Worker<MemoryPort>,
    from_outside: Segment,
    from_pods: Segment,
    to_other: Segment,
    /// Flows so far, of each lane.
    begun: [u32; 3],
}

impl Lanes {
    /// Two workers with room for so many flows each.
    pub(super) fn new(backends: u16, room: usize) -> (Rig, Lanes) {
        let mut master = director_of(2, Mode::Nat, backends);
        let base = master.generation();
        let delta = Delta {
            base,
            generation: base + 1,
            upsert_vips: vec![Vip { address: OTHER_VIP.into(), announce: false }],
            upsert_services: vec![service("default/seen:http", OTHER_VIP, 80, Mode::Dnat, backends)],
            ..Delta::default()
        };
        master.amend(delta).expect("a change that can be made");
        let (rig, other) = Rig::beside(master, room);
        let to = |macs, vip| Segment::new(frames::tcp(macs, frames::client(0), (vip, 80), true));
        let lanes = Lanes {
            other,
            from_outside: syn(),
            from_pods: to((POD_MAC, INSIDE_MAC), VIP),
            to_other: to((GATEWAY_MAC, NODE_MAC), OTHER_VIP),
            begun: [0; 3],
        };
        (rig, lanes)
    }

    /// Has a batch come in by each lane, and says how long the one turn took that all of them are in.
    pub(super) fn turn(&mut self, rig: &mut Rig) -> Duration {
        let Lanes { other, from_outside, from_pods, to_other, begun } = self;
        for _ in 0..RECEIVED {
            let port = other.port_mut(UPLINK).expect("a queue of the uplink");
            for flow in next(&mut begun[2]) {
                deliver(port, to_other.of(flow));
            }
            other.turn(rig.now());
        }
        let port = rig.worker.port_mut(UPLINK).expect("the uplink");
        next(&mut begun[0]).for_each(|flow| deliver(port, from_outside.of(flow)));
        let port = rig.worker.port_mut(PODS).expect("the pods' port");
        next(&mut begun[1]).for_each(|flow| deliver(port, from_pods.between(pod(flow), (VIP, 80))));
        rig.turn()
    }
}

/// A batch of flows.
fn next(begun: &mut u32) -> std::ops::Range<u32> {
    let first = *begun;
    *begun += BATCH as u32;
    first..*begun
}

/// A pod's address and port: two hundred pods.
fn pod(flow: u32) -> (Ipv4Addr, u16) {
    (Ipv4Addr::new(10, 244, 1, 5 + (flow % 200) as u8), 1024 + (flow / 200) as u16)
}
