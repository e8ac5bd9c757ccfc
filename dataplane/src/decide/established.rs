//! Packets of flows that are simply going on: found, followed and sent, without a word about what else they could be.
//!
//! What makes that right is the flow's stamp. When it was begun, or last looked at, [`classify`](fn@crate::classify::classify) said what its packets are,
//! and `decide` where they go. Both say so again unless the flow's service, an address, a route or a neighbour has changed
//! since: then the stamp is older than the change, and the packet goes the whole way, which renews it.

use levee_api::net::Role;

use super::{Memory, Scene};
use crate::ends::{Ends, Tuple};
use crate::flows::{Coming, FlowId};
use crate::tables::is_newer;
use crate::verdict::Course;

/// Where a plain IPv4 packet goes, if it is of the established flow that it is most likely of, and nothing has changed about that. It came
/// `from` the fabric's side or the pods', and was sent to that port's MAC.
#[inline(always)]
pub fn likely(
    candidate: Option<FlowId>,
    packet: (Ends, u8),
    from: Role,
    scene: &Scene<'_>,
    memory: &mut Memory,
) -> Option<Course> {
    memory.flows.follow_v4(candidate, packet, coming(from, scene), |stamp, service| holds(scene, stamp, service))
}

/// The same of any plain packet, wherever its flow stands.
#[inline(never)]
pub fn established(tuple: &Tuple, from: Role, scene: &Scene<'_>, memory: &mut Memory) -> Option<Course> {
    memory.flows.follow(tuple, coming(from, scene), |stamp, service| holds(scene, stamp, service))
}

#[inline(always)]
fn coming(from: Role, scene: &Scene<'_>) -> Coming {
    Coming { from, stamp: scene.tables.stamp(), now: scene.now }
}

/// Whether what a flow of a service remembers as of a stamp is so still.
#[inline(always)]
fn holds(scene: &Scene<'_>, stamp: u32, service: u32) -> bool {
    let tables = scene.tables;
    !is_newer(tables.hops_stamp, stamp) && !is_newer(tables.service_changed(service), stamp)
}
