//! What does not fit out of the port that it would leave by is turned round with the news of what would (RFC 1812, 5.2.7.1; RFC
//! 4443, 3.2): levee is a router for it, and a packet that is simply gone makes a black hole.
//!
//! It fragments nothing. A sender that allows fragments gets the same news as one that does not, and makes them itself from
//! then on: hosts follow it in either case (`ip_rt_update_pmtu` in Linux), and a router that cuts pays for every packet.

use super::{Decision, Memory, Scene, limited};
use crate::headers::{Headers, Network};
use crate::verdict::{Reply, Verdict};

/// Smallest MTU that is believed: what Linux believes (`net.ipv4.route.min_pmtu`). IPv4 allows 68, and an attacker who can
/// forge errors would ask for that.
const MTU_FLOOR_V4: u32 = 552;
/// No link that IPv6 runs over has less (RFC 8200, 5), and a smaller one is to be ignored (RFC 8201, 4).
const MTU_FLOOR_V6: u32 = 1280;

/// Smallest MTU that is believed of a family.
pub(super) const fn mtu_floor(v4: bool) -> u32 {
    if v4 { MTU_FLOOR_V4 } else { MTU_FLOOR_V6 }
}

/// Leaves what fits as it was decided.
#[inline(always)]
pub(super) fn fits(decision: Decision, headers: &Headers, scene: &Scene<'_>, memory: &mut Memory) -> Decision {
    // The narrowest port decides for nearly all: only where ports differ is there anything to look at.
    if headers.length.saturating_sub(headers.l3) <= scene.tables.narrowest {
        return decision;
    }
    does_it(decision, headers, scene, memory)
}

#[cold]
fn does_it(decision: Decision, headers: &Headers, scene: &Scene<'_>, memory: &mut Memory) -> Decision {
    let (Decision::Ends(Verdict::Forward(port, _)), Network::Ip(ip)) = (&decision, &headers.network) else {
        return decision;
    };
    let Some(out) = scene.tables.port(*port) else { return decision };
    if ip.end.saturating_sub(headers.l3) <= out.mtu || ip.destination.is_multicast() {
        return decision;
    }
    let mtu = out.mtu;
    limited(ip, scene, memory, |mac| Reply::TooBig { mac, mtu })
}
