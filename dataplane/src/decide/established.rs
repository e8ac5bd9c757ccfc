//! Packets of flows that are simply going on: found, followed and sent, without a word about what else they could be.
//!
//! What makes that right is the flow's stamp. When it was begun, or last looked at, [`classify`](fn@crate::classify::classify) said what its packets are,
//! and `decide` where they go. Both say so again unless the flow's service, an address, a route or a neighbour has changed
//! since: then the stamp is older than the change, and the packet goes the whole way, which renews it.

use super::Memory;
use crate::ends::{Ends, Tuple};
use crate::flows::{Coming, FlowId};
use crate::tables::{Tables, is_newer};
use crate::verdict::Course;

/// Where a plain IPv4 packet goes, if it is of the established flow that it is most likely of, and nothing has changed about that.
#[inline(always)]
pub fn likely(
    candidate: FlowId,
    packet: (Ends, u8),
    coming: Coming,
    tables: &Tables,
    memory: &mut Memory,
) -> Option<Course> {
    memory.flows.follow_v4(candidate, packet, coming, |stamp, service| holds(tables, stamp, service))
}

/// The same of any plain packet, wherever its flow stands; and the first 96 bits of its new addresses.
#[inline(never)]
pub fn established(
    tuple: &Tuple,
    coming: Coming,
    tables: &Tables,
    memory: &mut Memory,
) -> Option<(Course, [[u32; 3]; 2])> {
    memory.flows.follow(tuple, coming, |stamp, service| holds(tables, stamp, service))
}

/// Whether what a flow of a service remembers as of a stamp is so still.
#[cold]
#[inline(never)]
fn holds(tables: &Tables, stamp: u32, service: u32) -> bool {
    !is_newer(tables.hops_stamp, stamp) && !is_newer(tables.service_changed(service), stamp)
}
