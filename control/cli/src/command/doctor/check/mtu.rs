//! Whether the frames of an interface fit into levee's.

use super::{Finding, Host, Looked};

/// Bytes of each frame that are the kernel's (`XDP_PACKET_HEADROOM`).
const HEADROOM: u32 = 256;

/// Ethernet header and two VLAN tags.
const FRAMING: u32 = 14 + 2 * 4;

/// Above it, a native program must take frames in several buffers: a page less headroom, `skb_shared_info` and framing.
const SINGLE_BUFFER: u32 = 4096 - HEADROOM - 320 - FRAMING;

/// The driver can give frames in several buffers (`NETDEV_XDP_ACT_RX_SG`).
const SEVERAL_BUFFERS: u64 = 1 << 5;

pub(super) fn check(host: &Host<'_>) -> Vec<Finding> {
    let size = host.config.map_or(2048, |config| config.memory.frame_size);
    let mut findings: Vec<Finding> = host.ports.iter().map(|looked| one(*looked, size)).collect();
    findings.extend(host.pods().and_then(|(pods, port)| {
        let bridge = host.facts.interface(&port.neighbours.as_ref()?.value)?;
        (bridge.mtu != pods.mtu).then(|| {
            Finding::warn(
                "mtu",
                format!("{} has {}, and {} has {}", bridge.name, bridge.mtu, pods.name, pods.mtu),
                format!("ip link set {} mtu {}, and its other end too", pods.name, bridge.mtu),
            )
        })
    }));
    findings
}

fn one(looked: Looked<'_>, frame_size: u32) -> Finding {
    let (name, mtu) = (&looked.interface.name, looked.interface.mtu);
    let room = frame_size - HEADROOM - FRAMING;
    let most = 4096 - HEADROOM - FRAMING;
    if mtu > room {
        let message =
            format!("{name}: frames of {mtu} bytes, and levee's have room for {room}: longer ones are dropped");
        let fix = if mtu <= most {
            "`memory: {frame_size: 4096}` in the configuration".to_owned()
        } else {
            format!("ip link set {name} mtu {room}; or up to {most} with `memory: {{frame_size: 4096}}`")
        };
        // Where all frames are levee's, its own check refuses; elsewhere only those for its addresses are lost.
        return if looked.is_taken_whole() || mtu > most {
            Finding::fail("mtu", message, fix)
        } else {
            Finding::warn("mtu", message, fix)
        };
    }
    let in_one = looked.interface.xdp_features.is_some_and(|features| features & SEVERAL_BUFFERS == 0);
    if mtu > SINGLE_BUFFER && in_one {
        return Finding::warn(
            "mtu",
            format!("{name}: above {SINGLE_BUFFER} its driver attaches no native program, and {mtu} is above"),
            format!("ip link set {name} mtu {SINGLE_BUFFER}"),
        );
    }
    Finding::ok("mtu", format!("{name}: {mtu}, room for {room}"))
}
