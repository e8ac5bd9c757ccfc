//! Settings of the kernel that work against levee, or that it rests on when levee is away.

use levee_dataplane::config::Snat;

use super::{Finding, Host};

/// `snat`'s ports, where the configuration does not say.
const SNAT_PORTS: (u16, u16) = (61000, 65535);

pub(super) fn check(host: &Host<'_>) -> Vec<Finding> {
    let mut findings = vec![ports(host)];
    findings.extend(reverse_path(host));
    if host.pods().is_some() || host.config.is_none() {
        findings.push(forwarding(host));
    }
    if host.pods().is_some() {
        findings.extend(bridged(host));
    }
    findings.extend(answers(host));
    findings.extend(busy_poll(host));
    findings
}

/// Ports that the kernel would give to its own connections must not be those that levee takes frames for.
fn ports(host: &Host<'_>) -> Finding {
    let key = "net.ipv4.ip_local_port_range";
    let range = || {
        let mut numbers = host.facts.sysctl(key)?.split_whitespace().map(|number| number.parse::<u16>().ok());
        Some((numbers.next()??, numbers.next()??))
    };
    let Some((first, last)) = range() else {
        return Finding::warn("sysctl", format!("{key} cannot be read"), "is /proc mounted?");
    };
    let of = |snat: &Snat| (snat.ports.first, snat.ports.last);
    let listed: Vec<(u16, u16)> = host.config.map_or_else(Vec::new, |config| config.snat.iter().map(of).collect());
    let taken = if listed.is_empty() { vec![SNAT_PORTS] } else { listed };
    match taken.iter().find(|(low, high)| *low <= last && *high >= first) {
        Some((low, high)) => Finding::fail(
            "sysctl",
            format!(
                "{key} is {first}-{last}, and `snat` takes the ports {low}-{high}: replies to the host itself would be levee's"
            ),
            format!("sysctl -w {key}=\"32768 {}\", or an address of its own for `snat`", SNAT_PORTS.0 - 1),
        ),
        None => Finding::ok("sysctl", format!("{key} is {first}-{last}, apart from `snat`'s")),
    }
}

fn reverse_path(host: &Host<'_>) -> Vec<Finding> {
    let all = host.facts.sysctl("net.ipv4.conf.all.rp_filter").unwrap_or("0");
    let mut strict = Vec::new();
    for looked in &host.ports {
        // The larger of the two counts (Documentation/networking/ip-sysctl.rst), and 2 is the loose one.
        let own = host.facts.sysctl(&format!("net.ipv4.conf.{}.rp_filter", looked.interface.name.replace('.', "/")));
        if own.unwrap_or("0").max(all) == "1" {
            strict.push(looked.interface.name.as_str());
        }
    }
    if strict.is_empty() {
        return vec![Finding::ok("sysctl", "rp_filter is not strict")];
    }
    let set: Vec<String> =
        strict.iter().map(|name| format!("net.ipv4.conf.{}.rp_filter=2", name.replace('.', "/"))).collect();
    vec![Finding::warn(
        "sysctl",
        format!(
            "rp_filter is strict on {}: the kernel drops what comes in by another way than it would answer by (`dsr`, two uplinks)",
            strict.join(", ")
        ),
        format!("sysctl -w {}", set.join(" ")),
    )]
}

fn forwarding(host: &Host<'_>) -> Finding {
    let key = "net.ipv4.ip_forward";
    match host.facts.sysctl(key) {
        Some("0") => Finding::warn(
            "sysctl",
            format!("{key} is 0: while levee is away, a node's pods reach nothing beyond it"),
            format!("sysctl -w {key}=1"),
        ),
        Some(_) => Finding::ok("sysctl", format!("{key} is on: the kernel can stand in for levee")),
        None => Finding::warn("sysctl", format!("{key} cannot be read"), "is /proc mounted?"),
    }
}

/// What passes the pods' bridge, or does not, by the rules of another layer.
fn bridged(host: &Host<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (key, who) in [
        ("net.bridge.bridge-nf-call-iptables", "iptables"),
        ("net.bridge.bridge-nf-call-ip6tables", "ip6tables"),
        ("net.bridge.bridge-nf-call-arptables", "arptables"),
    ] {
        if host.facts.sysctl(key) == Some("1") {
            findings.push(Finding::warn(
                "sysctl",
                format!("{key} is 1: frames between pods and levee visit {who}, and its FORWARD chain may drop them"),
                format!("sysctl -w {key}=0, unless kube-proxy's iptables mode still serves pods here"),
            ));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok("sysctl", "bridged frames do not visit iptables"));
    }
    findings
}

/// kube-proxy's IPVS mode gives every load-balancer address to an interface of every node, and the kernel answers ARP for any of its
/// addresses on any interface.
fn answers(host: &Host<'_>) -> Option<Finding> {
    host.facts.interface("kube-ipvs0")?;
    if host.facts.sysctl("net.ipv4.conf.all.arp_ignore").unwrap_or("0") != "0" {
        return Some(Finding::ok("sysctl", "kube-proxy's IPVS mode, and ARP for its addresses is not answered"));
    }
    Some(Finding::fail(
        "sysctl",
        "kube-proxy's IPVS mode has load-balancer addresses on kube-ipvs0, and this host answers ARP for them as well as the balancers",
        "strictARP: true in kube-proxy's configuration (sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2)",
    ))
}

/// Documentation/networking/af_xdp.rst: preferred busy polling does nothing while interrupts are not deferred.
fn busy_poll(host: &Host<'_>) -> Vec<Finding> {
    if host.config.is_none_or(|config| config.busy_poll.is_none()) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for looked in &host.ports {
        let name = &looked.interface.name;
        let off = |value: Option<u64>| value.unwrap_or_default() == 0;
        if off(looked.interface.deferred_interrupts) || off(looked.interface.flush_timeout) {
            findings.push(Finding::warn(
                "sysctl",
                format!("`busy_poll` is set, and {name} does not defer its interrupts"),
                format!(
                    "echo 2 > /sys/class/net/{name}/napi_defer_hard_irqs; echo 200000 > /sys/class/net/{name}/gro_flush_timeout"
                ),
            ));
        }
    }
    findings
}
