//! Packets of flows that are simply going on: found, followed and sent, without a word about what else they could be.
//!
//! What makes that right is the flow's stamp. When it was begun, or last looked at, [`classify`](fn@crate::classify::classify) said what its packets are,
//! and `decide` where they go. Both say so again unless the flow's service, an address, a route or a neighbour has changed
//! since: then the stamp is older than the change, and the packet goes the whole way, which renews it.

use levee_api::net::Role;

use super::{Memory, Scene};
use crate::flows::{Course, FlowId, Tuple};
use crate::tables::is_newer;

/// Where a plain packet goes, if it is of an established flow about which nothing has changed. The side that it came in on must be
/// the fabric's or the pods', and it must have been sent to that port's MAC.
#[inline(always)]
pub fn established(
    candidate: Option<FlowId>,
    tuple: &Tuple,
    ingress: Role,
    scene: &Scene<'_>,
    memory: &mut Memory,
) -> Option<Course> {
    let tables = scene.tables;
    memory.flows.follow(candidate, tuple, ingress, tables.stamp(), scene.now, |stamp, service| {
        !is_newer(tables.hops_stamp, stamp) && !is_newer(tables.service_changed(service), stamp)
    })
}
