//! Whether the kernel has what levee is made of.

use super::{Finding, Host};

/// Managed neighbours (`NTF_MANAGED`), on which next hops rest.
const OLDEST: (u32, u32) = (5, 16);

fn version(kernel: &str) -> Option<(u32, u32)> {
    let mut numbers = kernel.split(|character: char| !character.is_ascii_digit()).map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Whether a kernel surely is older than this.
pub(super) fn is_before(kernel: &str, needed: (u32, u32)) -> bool {
    version(kernel).is_some_and(|version| version < needed)
}

pub(super) fn check(host: &Host<'_>) -> Vec<Finding> {
    let kernel = &host.facts.kernel;
    let version = match version(kernel) {
        Some(version) if version >= OLDEST => Finding::ok("kernel", format!("Linux {kernel}")),
        Some(_) => Finding::fail(
            "kernel",
            format!("Linux {kernel} is older than 5.16, whose managed neighbours levee needs"),
            "install a newer kernel",
        ),
        None => Finding::warn(
            "kernel",
            format!("`{kernel}` is no version that is known"),
            "levee needs Linux 5.16 or newer",
        ),
    };
    let af_xdp = match host.facts.af_xdp {
        Some(true) => Finding::ok("kernel", "AF_XDP is built in"),
        Some(false) => Finding::fail(
            "kernel",
            "this kernel was built without AF_XDP (/proc/net/protocols has no XDP)",
            "install a kernel with CONFIG_XDP_SOCKETS=y",
        ),
        None => {
            Finding::warn("kernel", "whether there is AF_XDP cannot be seen (/proc/net/protocols)", "is /proc mounted?")
        }
    };
    let jit = match host.facts.sysctl("net.core.bpf_jit_enable") {
        Some("0") => Finding::warn(
            "kernel",
            "BPF programs are interpreted, for each frame",
            "sysctl -w net.core.bpf_jit_enable=1",
        ),
        Some(_) => Finding::ok("kernel", "BPF programs are compiled"),
        // It is not there where the JIT is always on, or where there is no BPF; attaching will say.
        None => Finding::ok("kernel", "whether BPF programs are compiled is not told (always, mostly)"),
    };
    vec![version, af_xdp, jit]
}
