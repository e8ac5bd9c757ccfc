use super::*;

const NODE: &str = "\
ports:
  - interface: eth0
    role: uplink
  - interface: levee0
    role: pods
    neighbours: br-ex
workers: [1]
";

fn machine() -> Machine {
    let interface = |name: &str, index, queues| Interface {
        name: name.to_owned(),
        index,
        mac: Some(levee_api::net::Mac([2, 0, 0, 0, 0, 1])),
        mtu: 1500,
        queues,
        up: true,
        addresses: Vec::new(),
        peer: None,
    };
    Machine {
        interfaces: vec![interface("eth0", 2, 4), interface("levee0", 3, 1), interface("br-ex", 4, 1)],
        cores: vec![0, 1, 2, 3, 4, 5, 6, 7],
    }
}

/// All that is wrong, as it is printed.
fn wrong(yaml: &str) -> String {
    let found = match read("dataplane.yaml", yaml.as_bytes()) {
        Ok(config) => config.against(&machine()),
        Err(found) => found,
    };
    found.iter().map(|diagnostic| format!("{diagnostic}\n")).collect()
}

#[test]
fn the_shortest_configuration_has_every_default() {
    let config = read("dataplane.yaml", NODE.as_bytes()).unwrap();
    assert_eq!(config.against(&machine()), []);
    assert_eq!(config.ports[0].take, Take::Owned);
    assert_eq!(config.ports[1].take, Take::All);
    assert_eq!(config.ports[0].queues, None);
    assert_eq!(config.socket, PathBuf::from("/run/levee/dataplane.sock"));
    assert_eq!(config.announce_interval, Duration::from_secs(60));
    // Those of RFC 5382 and RFC 4787 are at least what these ask for.
    let Timeouts { tcp_syn, tcp_established, tcp_closing, tcp_closed, udp } = config.timeouts;
    let seconds = [tcp_syn, tcp_established, tcp_closing, tcp_closed, udp].map(|time| time.as_secs());
    assert_eq!(seconds, [60, 7440, 240, 10, 180]);
    // What runs without a configuration (tests, `levee explain`) has the same.
    let flows = crate::flows::Timeouts::default();
    let of_flows = [flows.syn, flows.established, flows.closing, flows.closed, flows.udp];
    assert_eq!(of_flows.map(u64::from), seconds.map(|seconds| seconds * 1000));
    assert_eq!(config.memory, Memory { frames: None, frame_size: 2048, huge_pages: false });
    assert_eq!(config.workers[0].value, 1);
    assert_eq!(config.scheduling, Scheduling::Fair { nice: -20, slice: None });
    assert_eq!(config.rings, Rings { receive: 4096, transmit: 2048 });
    assert_eq!((config.frames(1), config.frames(3)), (8192, 3 * 8192));
}

#[test]
fn rings_are_as_large_as_there_are_frames_for() {
    let rings = Rings { receive: 4096, transmit: 2048 };
    for (frames, receive, transmit) in [
        (usize::MAX, 4096, 2048),
        (8192, 4096, 2048),
        (8191, 2048, 1024),
        (2048, 1024, 512),
        (1024, 512, 256),
        (0, 64, 64),
    ] {
        assert_eq!(rings.within(frames), Rings { receive, transmit }, "{frames} frames");
    }
    let whole = Rings { receive: 65_536, transmit: 64 };
    assert_eq!(whole.within(usize::try_from(whole.frames()).unwrap() * 2), whole);
}

#[test]
fn a_real_time_worker_has_a_priority() {
    let scheduling = |yaml: &str| {
        let config = read("dataplane.yaml", format!("{NODE}scheduling: {yaml}\n").as_bytes());
        config.unwrap_or_else(|mistakes| panic!("{}", mistakes[0])).scheduling
    };
    assert_eq!(scheduling("{policy: fifo}"), Scheduling::Fifo { priority: 1 });
    assert_eq!(scheduling("{policy: round-robin, priority: 50}"), Scheduling::RoundRobin { priority: 50 });
    assert!(scheduling("{policy: fifo}").is_real_time());
    assert!(!scheduling("{nice: 0}").is_real_time());
}

#[test]
fn every_key_is_read() {
    let yaml = "\
ports:
  - {interface: eth0, role: uplink, queues: [0, 3], mode: zero-copy, attach: native, take: all, segment: a, vlans: [untagged, 10, [100, 20]]}
  - {interface: levee0, role: pods, mode: copy, attach: skb, take: owned, neighbours: br-ex, gateways: [10.244.1.1, 'fe80::1']}
workers: [2, 5]
socket: /tmp/levee.sock
socket_group: adm
program_uids: [1000]
snat: [{address: 192.168.0.11}, {address: 192.168.0.12, ports: 1024-2047}]
announce_interval: 1min 30s
multicast: [224.0.0.251]
arp: {rate: 7}
replies: {rate: 8}
errors: {rate: 9}
mss_clamp: 1360
flows: {capacity: 4096}
timeouts: {tcp_syn: 1s, tcp_established: 5h, tcp_closing: 3s, tcp_closed: 4s, udp: 2min}
memory: {frames: 16384, frame_size: 4096, huge_pages: true}
busy_poll: {microseconds: 30, budget: 32}
idle: poll
scheduling: {policy: fair, nice: -5, slice: 3ms}
rings: {receive: 8192, transmit: 1024}
metrics: '[::1]:9464'
";
    let config = read("dataplane.yaml", yaml.as_bytes()).unwrap();
    let queues: Vec<_> = config.ports[0].queues.as_ref().unwrap().iter().map(|queue| queue.value).collect();
    assert_eq!(queues, [0, 3]);
    assert_eq!((config.ports[0].mode, config.ports[1].mode), (Mode::ZeroCopy, Mode::Copy));
    assert_eq!((config.ports[0].attach, config.ports[1].attach), (Attach::Native, Attach::Skb));
    assert_eq!((config.ports[0].take, config.ports[1].take), (Take::All, Take::Owned));
    assert_eq!(config.ports[0].segment.as_ref().map(|segment| segment.value.as_str()), Some("a"));
    assert_eq!(config.ports[0].vlans, [vec![], vec![10], vec![100, 20]]);
    let gateways: Vec<_> = config.ports[1].gateways.iter().map(|gateway| gateway.value.to_string()).collect();
    assert_eq!(gateways, ["10.244.1.1", "fe80::1"]);
    assert_eq!(config.snat[0].ports, PortRange { first: 61000, last: 65535 });
    assert_eq!(config.snat[1].ports, PortRange { first: 1024, last: 2047 });
    assert_eq!(config.announce_interval, Duration::from_secs(90));
    assert_eq!((config.arp_rate, config.reply_rate, config.error_rate, config.flow_capacity), (7, 8, 9, 4096));
    assert_eq!(config.mss_clamp, 1360);
    assert_eq!(config.timeouts.udp, Duration::from_secs(120));
    assert_eq!(config.timeouts.tcp_established, Duration::from_secs(5 * 3600));
    assert_eq!(config.memory, Memory { frames: Some(16384), frame_size: 4096, huge_pages: true });
    assert_eq!(config.busy_poll, Some(BusyPoll { microseconds: 30, budget: 32 }));
    assert_eq!(config.program_uids, [1000]);
    assert_eq!(config.idle, Idle::Poll);
    assert_eq!(config.scheduling, Scheduling::Fair { nice: -5, slice: Some(Duration::from_millis(3)) });
    assert_eq!(config.rings, Rings { receive: 8192, transmit: 1024 });
    assert_eq!(config.metrics.unwrap().value.to_string(), "[::1]:9464");
    assert_eq!(config.socket_group.unwrap().value, "adm");
}

/// Each mistake: what is put in the place of what, and what the message must hold, its place first.
#[test]
fn every_mistake_has_a_place_and_advice() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("role: uplink", "rolle: uplink", &["dataplane.yaml:3:5", "rolle"]),
        ("role: uplink", "role: upling", &["dataplane.yaml:3:", "upling", "uplink"]),
        ("workers: [1]", "workers: one", &["dataplane.yaml:7:10"]),
        ("workers: [1]", "", &["dataplane.yaml:1:1", "workers"]),
        ("workers: [1]", "workers: []", &["dataplane.yaml:7:10", "no workers", "workers: [1]"]),
        ("workers: [1]", "workers: [1, 1]", &["dataplane.yaml:7:14", "core 1 is listed twice"]),
        ("workers: [1]", "workers: [5000]", &["dataplane.yaml:7:11", "5000 is not a core"]),
        ("workers: [1]", "workers: [64]", &["dataplane.yaml:7:11", "no core 64", "0, 1, 2"]),
        ("workers: [1]", "workers: [0,1,2,3,4,5]", &["dataplane.yaml:7:21", "core 5 would have no queue", "5 queues"]),
        ("eth0", "eth9", &["dataplane.yaml:2:16", "no interface `eth9`", "eth0, levee0, br-ex"]),
        ("interface: eth0", "interface: levee0", &["dataplane.yaml:4:16", "`levee0` already is a port, on line 2"]),
        ("interface: eth0", "role: uplink\n  - role: uplink", &["dataplane.yaml:2:5", "interface"]),
        ("eth0", "a-name-of-16-byt", &["dataplane.yaml:2:16", "not an interface name"]),
        ("eth0", "../etc", &["dataplane.yaml:2:16", "not an interface name"]),
        ("br-ex", "br-int", &["dataplane.yaml:6:17", "no interface `br-int`"]),
        ("role: uplink", "role: pods", &["dataplane.yaml:2:3", "no port has the role `uplink`"]),
        ("role: uplink", "role: uplink\n    neighbours: br-ex", &["dataplane.yaml:4:17", "stands at an uplink"]),
        ("role: uplink", "role: uplink\n    gateways: [10.0.1.1]", &["dataplane.yaml:4:15", "no pods are at"]),
        (
            "role: uplink",
            "role: uplink\n    vlans: [4095]",
            &["dataplane.yaml:4:13", "4095 is not a VLAN's tag", "untagged"],
        ),
        ("role: uplink", "role: uplink\n    vlans: [10, 10]", &["dataplane.yaml:4:17", "listed twice"]),
        ("role: uplink", "role: uplink\n    vlans: []", &["dataplane.yaml:4:12", "0 VLANs"]),
        ("role: uplink", "role: uplink\n    vlans: [ten]", &["dataplane.yaml:4:13", "not a VLAN", "untagged"]),
        ("role: pods", "role: pods\n    vlans: [10]", &["dataplane.yaml:6:12", "no uplink"]),
        ("role: pods", "role: pods\n    segment: a", &["dataplane.yaml:6:14", "no uplink"]),
        ("role: pods", "role: pods\n    gateways: [224.0.0.1]", &["dataplane.yaml:6:16", "cannot be a gateway"]),
        ("role: uplink", "role: uplink\n    queues: []", &["dataplane.yaml:4:13", "has no queues", "queues: [0, 1]"]),
        ("role: uplink", "role: uplink\n    queues: [0, 0]", &["dataplane.yaml:4:17", "listed twice"]),
        ("role: uplink", "role: uplink\n    queues: [4]", &["dataplane.yaml:4:14", "no queue 4", "ethtool -l eth0"]),
        ("role: uplink", "role: uplink\n    queues: [-1]", &["dataplane.yaml:4:14"]),
        ("workers: [1]", "workers: [1]\nsnat: [{address: 10.0.0.300}]", &["dataplane.yaml:8:18"]),
        ("workers: [1]", "workers: [1]\nsnat: [{address: 224.0.0.1}]", &["dataplane.yaml:8:18", "source of a packet"]),
        (
            "workers: [1]",
            "workers: [1]\nsnat: [{address: 10.0.0.1, ports: 9-3}]",
            &["dataplane.yaml:8:35", "not a port range", "61000-65535"],
        ),
        (
            "workers: [1]",
            "workers: [1]\nsnat: [{address: 10.0.0.1}, {address: 10.0.0.1, ports: 65535}]",
            &["dataplane.yaml:8:39", "overlaps"],
        ),
        ("workers: [1]", "workers: [1]\nmulticast: [10.0.0.1]", &["dataplane.yaml:8:13", "not a multicast group"]),
        ("workers: [1]", "workers: [1]\nannounce_interval: 60", &["dataplane.yaml:8:20", "with its unit", "60s"]),
        ("workers: [1]", "workers: [1]\nannounce_interval: 2days", &["dataplane.yaml:8:20", "1s to 1h", "1m"]),
        ("workers: [1]", "workers: [1]\ntimeouts: {udp: 0s}", &["dataplane.yaml:8:17", "timeouts.udp"]),
        ("workers: [1]", "workers: [1]\nmemory: {frame_size: 3000}", &["dataplane.yaml:8:22", "2048 or 4096"]),
        ("workers: [1]", "workers: [1]\nmemory: {frames: 5}", &["dataplane.yaml:8:18", "memory.frames"]),
        ("workers: [1]", "workers: [1]\nflows: {capacity: 1}", &["dataplane.yaml:8:19", "flows.capacity"]),
        ("workers: [1]", "workers: [1]\nsocket: levee.sock", &["dataplane.yaml:8:9", "absolute path"]),
        (
            "workers: [1]",
            "workers: [1]\nmetrics: localhost:9464",
            &["dataplane.yaml:8:10", "`localhost:9464`", "[::1]:9464"],
        ),
        ("workers: [1]", "workers: [1]\nmetrics: 127.0.0.1:0", &["dataplane.yaml:8:10", "not an address and port"]),
        ("workers: [1]", "workers: [1]\nmetrics: 9464", &["dataplane.yaml:8:10"]),
        ("workers: [1]", "workers: [1]\nscheduling: {policy: real}", &["dataplane.yaml:8:", "real", "fifo"]),
        ("workers: [1]", "workers: [1]\nscheduling: {nice: -21}", &["dataplane.yaml:8:20", "-21", "-20 to 19"]),
        ("workers: [1]", "workers: [1]\nscheduling: {nice: high}", &["dataplane.yaml:8:20"]),
        ("workers: [1]", "workers: [1]\nscheduling: {slice: 1s}", &["dataplane.yaml:8:21", "100us to 100ms"]),
        ("workers: [1]", "workers: [1]\nscheduling: {slice: 3}", &["dataplane.yaml:8:21", "with its unit"]),
        ("workers: [1]", "workers: [1]\nscheduling: {priority: 5}", &["dataplane.yaml:8:24", "policy: fair", "nice"]),
        (
            "workers: [1]",
            "workers: [1]\nscheduling: {policy: fifo, priority: 100}",
            &["dataplane.yaml:8:38", "1 to 99"],
        ),
        (
            "workers: [1]",
            "workers: [1]\nscheduling: {policy: fifo, nice: -5}",
            &["dataplane.yaml:8:34", "no meaning", "priority"],
        ),
        (
            "workers: [1]",
            "workers: [1]\nscheduling: {policy: round-robin, slice: 1ms}",
            &["dataplane.yaml:8:42", "no meaning", "priority"],
        ),
        ("workers: [1]", "workers: [1]\nscheduling: {nicest: 1}", &["dataplane.yaml:8:14", "nicest"]),
        (
            "workers: [1]",
            "workers: [1]\nrings: {receive: 3000}",
            &["dataplane.yaml:8:18", "power of two", "2048 or 4096"],
        ),
        ("workers: [1]", "workers: [1]\nrings: {transmit: 32}", &["dataplane.yaml:8:19", "64 to 65536"]),
        ("workers: [1]", "workers: [1]\nrings: {rx: 2048}", &["dataplane.yaml:8:9", "rx"]),
        ("workers: [1]", "workers: [1]\nworkers: [2]", &["dataplane.yaml:8:1", "workers"]),
    ];
    let mut failures = Vec::new();
    for (from, to, expected) in cases {
        assert!(NODE.contains(from), "{from}");
        let told = wrong(&NODE.replace(from, to));
        for part in expected.iter().filter(|part| !told.contains(**part)) {
            failures.push(format!("`{to}` was told as\n{told}without `{part}`\n"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.concat());
}

#[test]
fn a_socket_path_that_the_kernel_would_cut_is_refused() {
    let told = wrong(&format!("{NODE}socket: /{}\n", "x".repeat(107)));
    assert!(told.contains("dataplane.yaml:8:9") && told.contains("108 bytes"), "{told}");
}

#[test]
fn a_frame_that_would_not_fit_is_told_with_the_way_out() {
    let config = read("dataplane.yaml", NODE.as_bytes()).unwrap();
    let mut machine = machine();
    machine.interfaces[1].mtu = 3000;
    let told = config.against(&machine)[0].to_string();
    assert!(told.contains("dataplane.yaml:4:16") && told.contains("frame_size: 4096"), "{told}");
    machine.interfaces[1].mtu = 9000;
    let told = config.against(&machine)[0].to_string();
    assert!(told.contains("ip link set levee0 mtu 3818"), "{told}");
}

#[test]
fn several_mistakes_are_told_at_once() {
    let told = wrong("ports: []\nworkers: [9999]\nsocket: x\n");
    assert_eq!(told.matches("dataplane.yaml:").count(), 3, "{told}");
}

#[test]
fn what_is_no_yaml_is_refused() {
    let mut truncated = NODE.as_bytes().to_vec();
    truncated.truncate(NODE.find("role: pods").unwrap() + 3);
    for bytes in [&truncated[..], b"", b"\0\x01\x7fELF\0\0", b"\xff\xfe\x00", b"ports: [", b"- a\n- b\n", b"42"] {
        let found = check("dataplane.yaml", bytes);
        assert_eq!(found.len(), 1, "{bytes:?}");
        assert!(found[0].help.is_some() || found[0].line.is_some(), "{}", found[0]);
    }
}

#[test]
fn every_truncation_is_a_configuration_or_a_diagnostic() {
    for end in 0..NODE.len() {
        let found = check("dataplane.yaml", &NODE.as_bytes()[..end]);
        let whole = end >= NODE.len() - 1;
        assert_eq!(found.is_empty(), whole, "{end}: {found:?}");
    }
}

#[test]
fn a_huge_file_is_refused_at_once() {
    let started = std::time::Instant::now();
    let found = check("dataplane.yaml", &vec![b'#'; 100 << 20]);
    assert_eq!(found.len(), 1);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[test]
fn the_reference_states_the_defaults() {
    let reference = read("reference", include_bytes!("../../../configs/dataplane-reference.yaml")).unwrap();
    let shortest = read("reference", NODE.as_bytes()).unwrap();
    // The same, but for where things stand.
    let text = |config: &Config| format!("{config:?}");
    let places = |text: String| -> String {
        let mut words = text.split_inclusive(' ').collect::<Vec<_>>();
        for index in 1..words.len() {
            if matches!(words[index - 1], "line: " | "column: ") {
                words[index] = "_ ";
            }
        }
        words.concat()
    };
    assert_eq!(places(text(&reference)), places(text(&shortest)));
    // And it leaves out no key: those without a default of their own stand in comments.
    let yaml = include_str!("../../../configs/dataplane-reference.yaml");
    for key in [
        "queues",
        "socket_group",
        "snat",
        "frames",
        "busy_poll",
        "microseconds",
        "budget",
        "metrics",
        "slice",
        "priority",
        "gateways",
        "segment",
        "vlans",
    ] {
        assert!(yaml.contains(&format!("{key}: ")), "{key}");
    }
}

#[test]
fn the_examples_are_good() {
    for (file, bytes) in [
        ("dataplane-node.yaml", &include_bytes!("../../../configs/dataplane-node.yaml")[..]),
        ("dataplane-balancer.yaml", include_bytes!("../../../configs/dataplane-balancer.yaml")),
    ] {
        let config = read(file, bytes).unwrap();
        assert_eq!(config.against(&machine()), [], "{file}");
    }
}
