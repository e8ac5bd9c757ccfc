//! How the driver would give frames to levee, and whether somebody else's program is in the way.

use levee_dataplane::config::{Attach, Mode};

use super::{Finding, Host, Looked};

// include/uapi/linux/netdev.h
const BASIC: u64 = 1;
const REDIRECT: u64 = 1 << 1;
const ZERO_COPY: u64 = 1 << 3;

pub(super) fn check(host: &Host<'_>) -> Vec<Finding> {
    host.ports.iter().flat_map(|looked| [foreign(*looked), mode(*looked)]).flatten().collect()
}

fn foreign(Looked { interface, .. }: Looked<'_>) -> Option<Finding> {
    let attached = interface.xdp.as_ref()?;
    let name = &interface.name;
    if interface.levee {
        return Some(Finding::ok("xdp", format!("{name}: levee's own program is attached, {}", attached.mode)));
    }
    Some(Finding::fail(
        "xdp",
        format!("{name}: another XDP program is attached: number {}, {}", attached.program, attached.mode),
        format!(
            "end what attached it (`bpftool prog show id {}`), or ip link set dev {name} {} off",
            attached.program,
            if attached.mode == "skb" { "xdpgeneric" } else { "xdp" }
        ),
    ))
}

fn mode(Looked { interface, port }: Looked<'_>) -> Option<Finding> {
    let name = &interface.name;
    let wanted = port.map_or(Mode::Auto, |port| port.mode);
    let attach = port.map_or(Attach::Auto, |port| port.attach);
    Some(match interface.xdp_features {
        None => Finding::warn(
            "xdp",
            format!("{name}: what its driver can do for XDP is not told before Linux 6.3"),
            "start levee-dataplane: `levee port list` says what was granted",
        ),
        Some(features) if features & ZERO_COPY != 0 => {
            Finding::ok("xdp", format!("{name}: native XDP, frames without a copy"))
        }
        Some(_) if wanted == Mode::ZeroCopy => Finding::fail(
            "xdp",
            format!("{name}: `mode: zero-copy` is configured, and its driver cannot"),
            "`mode: auto`, or another NIC",
        ),
        Some(features) if features & (BASIC | REDIRECT) == BASIC | REDIRECT => match interface.kind.as_deref() {
            Some("veth") => Finding::ok("xdp", format!("{name}: native XDP; a veth copies each frame")),
            _ => Finding::warn(
                "xdp",
                format!("{name}: native XDP, but each frame is copied: its driver has no zero-copy"),
                "a newer kernel or another NIC, if a core is not enough",
            ),
        },
        Some(_) if attach == Attach::Native => Finding::fail(
            "xdp",
            format!("{name}: `attach: native` is configured, and its driver cannot"),
            "`attach: auto`, or another NIC",
        ),
        Some(_) => Finding::warn(
            "xdp",
            format!("{name}: its driver has no XDP; the generic one works, at a third of the speed"),
            "a newer kernel or another NIC",
        ),
    })
}
