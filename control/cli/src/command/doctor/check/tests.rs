//! Each rule on facts of a lab's node, which were recorded by `levee doctor -o json`, with what it is about changed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use levee_dataplane::config::{self, Config};

use super::{Finding, Host, all};
use crate::command::doctor::Level;
use crate::command::doctor::facts::{Attached, Chain, Facts, HugePages, Interface};

const NODE: &str = include_str!("../../../../../../configs/dataplane-node.yaml");

/// The recorded node, mended where the lab leaves what a host should not.
fn fit() -> Facts {
    let recorded = include_str!("../../../../tests/doctor/lab-node.json");
    let mut facts: Facts = serde_json::from_str(recorded).unwrap();
    for key in ["iptables", "ip6tables", "arptables"] {
        facts.sysctl.insert(format!("net.bridge.bridge-nf-call-{key}"), "0".to_owned());
    }
    facts.sysctl.insert("net.ipv4.ip_forward".to_owned(), "1".to_owned());
    facts.interrupts.retain(|interrupt| interrupt.cores == [0]);
    for peer in ["fabric", "levee1"] {
        interface(&mut facts, peer).gro = Some(true);
    }
    facts
}

fn interface<'a>(facts: &'a mut Facts, name: &str) -> &'a mut Interface {
    facts.interfaces.iter_mut().find(|interface| interface.name == name).unwrap()
}

fn config(yaml: &str) -> Config {
    config::read("dataplane.yaml", yaml.as_bytes()).unwrap_or_else(|mistakes| panic!("{}", mistakes[0]))
}

fn findings(facts: &Facts, yaml: &str) -> Vec<Finding> {
    let config = config(yaml);
    all(&Host::new(facts, Some(&config), &[]).unwrap())
}

#[test]
fn a_fit_host_has_nothing_to_mend() {
    let found = findings(&fit(), NODE);
    let bad: Vec<_> = found.iter().filter(|finding| finding.level != Level::Ok).collect();
    assert!(bad.is_empty(), "{bad:?}");
    // Each check has its say.
    for check in [
        "kernel",
        "right",
        "memory",
        "interface",
        "xdp",
        "mtu",
        "offload",
        "core",
        "interrupt",
        "bridge",
        "sysctl",
        "filter",
    ] {
        assert!(found.iter().any(|finding| finding.check == check), "{check}");
    }
}

/// A change of the facts, more configuration, and what is then found.
type Case = (fn(&mut Facts), &'static str, Level, &'static str, &'static str, &'static str);

const CASES: &[Case] = &[
    (|f| f.kernel = "5.15.0-91-generic".into(), "", Level::Fail, "kernel", "older than 5.16", "newer kernel"),
    (|f| f.kernel = "6.1.0".into(), "", Level::Ok, "kernel", "Linux 6.1.0", ""),
    (|f| f.kernel = "x".into(), "", Level::Warn, "kernel", "`x` is no version", "5.16"),
    (|f| f.af_xdp = Some(false), "", Level::Fail, "kernel", "without AF_XDP", "CONFIG_XDP_SOCKETS=y"),
    (
        |f| drop(f.sysctl.insert("net.core.bpf_jit_enable".into(), "0".into())),
        "",
        Level::Warn,
        "kernel",
        "interpreted",
        "bpf_jit_enable=1",
    ),
    (|f| f.bounding = !(1 << 39), "", Level::Fail, "right", "can have BPF", "capabilities"),
    (|f| f.effective = 1 << 12, "", Level::Warn, "right", "has not NET_RAW, BPF", "as root"),
    (
        |f| f.effective = 0,
        "",
        Level::Fail,
        "memory",
        "8 MiB may be locked, and frames take 32 MiB",
        "LimitMEMLOCK=infinity",
    ),
    (|f| f.effective = 0, "memory: {frames: 2048}", Level::Ok, "memory", "frames take 4 MiB", ""),
    (|_| {}, "memory: {huge_pages: true}", Level::Fail, "memory", "0 huge pages", "vm.nr_hugepages=16"),
    (
        |f| f.huge_pages = [(2048, HugePages { reserved: 40, free: 10 })].into(),
        "memory: {huge_pages: true}",
        Level::Fail,
        "memory",
        "10 huge pages",
        "vm.nr_hugepages=46",
    ),
    (
        |f| f.huge_pages = [(2048, HugePages { reserved: 40, free: 16 })].into(),
        "memory: {huge_pages: true}",
        Level::Ok,
        "memory",
        "frames take 16",
        "",
    ),
    (|f| interface(f, "eth0").up = false, "", Level::Warn, "interface", "eth0: veth, down", "ip link set eth0 up"),
    (|f| interface(f, "eth0").ethernet = false, "", Level::Fail, "interface", "not Ethernet", "MAC"),
    (
        |f| {
            let bridge = interface(f, "br-ex").index;
            interface(f, "eth0").master = Some(bridge);
        },
        "",
        Level::Fail,
        "interface",
        "a member of the bridge br-ex",
        "ip link set eth0 nomaster",
    ),
    (
        |f| interface(f, "eth0").xdp = Some(Attached { mode: "skb".into(), program: 7 }),
        "",
        Level::Fail,
        "xdp",
        "eth0: another XDP program is attached: number 7, skb",
        "xdpgeneric off",
    ),
    (
        |f| {
            let eth0 = interface(f, "eth0");
            eth0.xdp = Some(Attached { mode: "native".into(), program: 7 });
            eth0.levee = true;
        },
        "",
        Level::Ok,
        "xdp",
        "levee's own program",
        "",
    ),
    (|f| interface(f, "eth0").xdp_features = None, "", Level::Warn, "xdp", "not told before Linux 6.3", "port list"),
    (|f| interface(f, "eth0").xdp_features = Some(0), "", Level::Warn, "xdp", "has no XDP", "another NIC"),
    (|f| interface(f, "eth0").xdp_features = Some(0xf), "", Level::Ok, "xdp", "without a copy", ""),
    (
        |f| {
            let eth0 = interface(f, "eth0");
            (eth0.kind, eth0.driver) = (None, Some("r8169".into()));
        },
        "",
        Level::Warn,
        "xdp",
        "each frame is copied",
        "another NIC",
    ),
    (|f| interface(f, "eth0").mtu = 3000, "", Level::Warn, "mtu", "room for 1770", "frame_size: 4096"),
    (|f| interface(f, "levee0").mtu = 3000, "", Level::Fail, "mtu", "levee0: frames of 3000", "frame_size: 4096"),
    (|f| interface(f, "eth0").mtu = 9000, "", Level::Fail, "mtu", "frames of 9000", "ip link set eth0 mtu 1770"),
    (
        |f| interface(f, "eth0").mtu = 9000,
        "memory: {frame_size: 4096}",
        Level::Fail,
        "mtu",
        "room for 3818",
        "mtu 3818",
    ),
    (
        |f| {
            let eth0 = interface(f, "eth0");
            (eth0.mtu, eth0.xdp_features) = (3600, Some(3));
        },
        "memory: {frame_size: 4096}",
        Level::Warn,
        "mtu",
        "above 3498",
        "mtu 3498",
    ),
    (|f| interface(f, "br-ex").mtu = 1400, "", Level::Warn, "mtu", "br-ex has 1400, and levee0 has 1500", "mtu 1400"),
    (|f| interface(f, "eth0").lro = Some(true), "", Level::Fail, "offload", "eth0: LRO", "ethtool -K eth0 lro off"),
    (|f| interface(f, "levee1").gro = Some(false), "", Level::Warn, "offload", "levee1: without GRO", "levee1 gro on"),
    (|f| interface(f, "eth0").peer = None, "", Level::Warn, "offload", "another namespace", "tx off gro on"),
    (|f| drop(f.cores.remove(&1)), "", Level::Fail, "core", "core 1 is not online", "cpu1/online"),
    (|_| {}, "idle: poll", Level::Warn, "core", "`idle: poll` on core 1", "isolcpus=1"),
    (|f| f.isolated = vec![1], "idle: poll", Level::Ok, "core", "each is online", ""),
    (
        |f| (f.isolated, f.tickless) = (vec![1], Some(vec![2])),
        "idle: poll",
        Level::Warn,
        "core",
        "core 1 is isolated, and its tick",
        "nohz_full=1",
    ),
    (|f| (f.isolated, f.tickless) = (vec![1], Some(vec![1])), "", Level::Ok, "core", "each is online", ""),
    (
        |f| f.cores.get_mut(&1).unwrap().governor = Some("schedutil".into()),
        "",
        Level::Warn,
        "core",
        "core 1 follows its load (governor `schedutil`)",
        "echo performance > /sys/devices/system/cpu/cpu1/",
    ),
    (
        |f| f.cores.get_mut(&1).unwrap().governor = Some("performance".into()),
        "",
        Level::Ok,
        "core",
        "each is online",
        "",
    ),
    (
        |_| {},
        "scheduling: {policy: fifo}",
        Level::Warn,
        "core",
        "a real-time worker on core 1, which is not isolated",
        "isolcpus=1",
    ),
    (|f| f.isolated = vec![1], "scheduling: {policy: fifo}", Level::Ok, "core", "each is online", ""),
    (
        |f| {
            f.isolated = vec![1];
            f.kernel = "6.6.0".into();
            f.sysctl.insert("kernel.sched_rt_runtime_us".into(), "950000".into());
        },
        "scheduling: {policy: round-robin}",
        Level::Warn,
        "core",
        "stopped for 50 ms of each second",
        "kernel.sched_rt_runtime_us=-1",
    ),
    (
        |f| f.kernel = "6.11.0".into(),
        "scheduling: {slice: 1ms}",
        Level::Warn,
        "core",
        "nothing to a kernel before 6.12",
        "remove the key",
    ),
    (|f| f.bounding &= !(1 << 23), "", Level::Warn, "right", "can have SYS_NICE", "add this capability"),
    (
        |f| {
            interface(f, "eth0").numa = Some(1);
        },
        "",
        Level::Warn,
        "core",
        "queue 0 of eth0 is on NUMA node 1, and its worker's core 1 on 0",
        "node1/cpulist",
    ),
    (
        |f| f.interrupts[0].cores = vec![1],
        "",
        Level::Warn,
        "interrupt",
        "core 1 is a worker's, and gets interrupts of others: 24 (ACPI:Ged)",
        "echo 0 > /proc/irq/24/smp_affinity_list",
    ),
    (
        |f| {
            f.interrupts[0].cores = vec![1];
            interface(f, "eth0").interrupts = vec![24];
        },
        "",
        Level::Ok,
        "interrupt",
        "core 1: no other device's",
        "",
    ),
    (
        |f| f.processes = vec!["irqbalance".into()],
        "",
        Level::Warn,
        "interrupt",
        "irqbalance",
        "IRQBALANCE_BANNED_CPULIST",
    ),
    (
        |f| interface(f, "levee1").master = None,
        "",
        Level::Fail,
        "bridge",
        "levee1, the other end of levee0, is not on br-ex",
        "ip link set levee1 master br-ex up",
    ),
    (
        |f| {
            let bridge = interface(f, "br-ex").index;
            let mut nic = interface(f, "eth0").clone();
            (nic.name, nic.index, nic.kind, nic.master) = ("eth1".into(), 99, None, Some(bridge));
            f.interfaces.push(nic);
        },
        "",
        Level::Fail,
        "bridge",
        "eth1 is on br-ex: the bridge forwards around levee",
        "ip link set eth1 nomaster",
    ),
    (|f| interface(f, "br-ex").bridge.as_mut().unwrap().stp = true, "", Level::Warn, "bridge", "STP", "stp_state 0"),
    (
        |f| interface(f, "br-ex").bridge.as_mut().unwrap().vlan_filtering = true,
        "",
        Level::Warn,
        "bridge",
        "VLANs",
        "vlan_filtering 0",
    ),
    (
        |f| interface(f, "br-ex").addresses = vec!["fe80::1".parse().unwrap(), "10.0.1.1".parse().unwrap()],
        "",
        Level::Warn,
        "bridge",
        "br-ex has 10.0.1.1; what pods send whose gateway it is goes to the kernel",
        "`gateways: [10.0.1.1]` at levee0",
    ),
    (|f| interface(f, "br-ex").bridge = None, "", Level::Warn, "bridge", "br-ex is no bridge", "neighbour table"),
    (
        |f| drop(f.sysctl.insert("net.ipv4.ip_local_port_range".into(), "1024\t65535".into())),
        "",
        Level::Fail,
        "sysctl",
        "1024-65535, and `snat` takes the ports 61000-65535",
        "32768 60999",
    ),
    (
        |f| drop(f.sysctl.insert("net.ipv4.conf.eth0.rp_filter".into(), "1".into())),
        "",
        Level::Warn,
        "sysctl",
        "rp_filter is strict on eth0",
        "net.ipv4.conf.eth0.rp_filter=2",
    ),
    (
        |f| {
            f.sysctl.insert("net.ipv4.conf.all.rp_filter".into(), "1".into());
            f.sysctl.insert("net.ipv4.conf.eth0.rp_filter".into(), "2".into());
        },
        "",
        Level::Warn,
        "sysctl",
        "rp_filter is strict on levee0",
        "",
    ),
    (
        |f| drop(f.sysctl.insert("net.ipv4.ip_forward".into(), "0".into())),
        "",
        Level::Warn,
        "sysctl",
        "ip_forward is 0",
        "net.ipv4.ip_forward=1",
    ),
    (
        |f| drop(f.sysctl.insert("net.bridge.bridge-nf-call-iptables".into(), "1".into())),
        "",
        Level::Warn,
        "sysctl",
        "visit iptables",
        "bridge-nf-call-iptables=0",
    ),
    (
        |f| f.interfaces.push(Interface { name: "kube-ipvs0".into(), index: 98, ..Interface::default() }),
        "",
        Level::Fail,
        "sysctl",
        "answers ARP for them as well as the balancers",
        "strictARP: true",
    ),
    (
        |f| {
            f.interfaces.push(Interface { name: "kube-ipvs0".into(), index: 98, ..Interface::default() });
            f.sysctl.insert("net.ipv4.conf.all.arp_ignore".into(), "1".into());
        },
        "",
        Level::Ok,
        "sysctl",
        "is not answered",
        "",
    ),
    (
        |_| {},
        "busy_poll: {microseconds: 20, budget: 64}",
        Level::Warn,
        "sysctl",
        "eth0 does not defer its interrupts",
        "napi_defer_hard_irqs",
    ),
    (|f| f.chains = None, "", Level::Warn, "filter", "could not be listed", "nft list chains"),
    (
        |f| f.chains = Some(vec![chain("netdev", Some("eth0"))]),
        "",
        Level::Warn,
        "filter",
        "table netdev t, chain c: rules at ingress of a port of levee's",
        "nft list chain netdev t c",
    ),
    (
        |f| f.chains = Some(vec![chain("netdev", Some("eth7"))]),
        "",
        Level::Ok,
        "filter",
        "no rules on levee's ports",
        "",
    ),
    (
        |f| f.chains = Some(vec![chain("bridge", None)]),
        "",
        Level::Warn,
        "filter",
        "rules of a bridge",
        "nft list chain bridge t c",
    ),
    (|f| f.processes = vec!["kube-proxy".into()], "", Level::Ok, "filter", "kube-proxy runs", ""),
];

fn chain(family: &str, device: Option<&str>) -> Chain {
    Chain {
        family: family.to_owned(),
        table: "t".to_owned(),
        name: "c".to_owned(),
        hook: "ingress".to_owned(),
        device: device.map(str::to_owned),
    }
}

#[test]
fn each_rule_finds_what_it_is_about_and_says_what_to_do() {
    for (change, more, level, check, message, fix) in CASES {
        let mut facts = fit();
        change(&mut facts);
        let found = findings(&facts, &format!("{NODE}\n{more}\n"));
        let is_it = |finding: &&Finding| {
            finding.check == *check && finding.level == *level && finding.message.contains(message)
        };
        let it = found.iter().find(is_it);
        let it = it.unwrap_or_else(|| panic!("no {level:?} {check} with `{message}`: {found:#?}"));
        assert!(it.fix.as_deref().unwrap_or_default().contains(fix), "{it:?}");
        // What is wrong has a fix, what is right none.
        for finding in &found {
            let has_fix = finding.fix.as_ref().is_some_and(|fix| !fix.is_empty());
            assert_eq!(has_fix, finding.level != Level::Ok, "{finding:?}");
        }
    }
}

#[test]
fn without_a_configuration_interfaces_are_those_that_are_named_or_have_a_device() {
    let mut facts = fit();
    let names =
        |host: Host<'_>| -> Vec<String> { host.ports.iter().map(|looked| looked.interface.name.clone()).collect() };
    assert_eq!(names(Host::new(&facts, None, &[]).unwrap()), [""; 0], "nothing but veths, and no way out");
    interface(&mut facts, "eth0").default_route = true;
    assert_eq!(names(Host::new(&facts, None, &[]).unwrap()), ["eth0"]);
    assert_eq!(names(Host::new(&facts, None, &["levee0".to_owned()]).unwrap()), ["levee0"]);
    assert!(Host::new(&facts, None, &["eth9".to_owned()]).err().unwrap().contains("no interface `eth9`"));
    // A balancer's configuration asks nothing about bridges.
    let balancer = config(include_str!("../../../../../../configs/dataplane-balancer.yaml"));
    let found = all(&Host::new(&facts, Some(&balancer), &[]).unwrap());
    assert!(!found.iter().any(|finding| finding.check == "bridge"), "{found:?}");
}
