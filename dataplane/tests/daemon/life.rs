//! A daemon between a fabric and a pod: it starts, forwards, is programmed, ends, is killed, and leaves nothing behind.

use super::node::{Daemon, Node, attempt, inside, wait};
use super::{in_namespace, ip};

const PROGRAM: &str = r#"{
    "generation": 1,
    "local": {"prefixes": ["10.1.0.0/24"], "pods": [{"address": "10.1.0.5"}]},
    "service_ranges": ["10.96.0.0/16"],
    "vips": [{"address": "10.96.0.1", "announce": true}]
}"#;

#[test]
fn it_forwards_answers_for_what_it_is_given_and_leaves_nothing_behind() {
    in_namespace(|| {
        let node = Node::new();
        let daemon = Daemon::start(&node, "");
        assert!(attempt(node.fabric, "ping -c 1 -W 1 10.96.0.1").is_err(), "nobody has the VIP yet");
        let (status, applied) = daemon.ask("PUT", "/v1/program", PROGRAM);
        assert_eq!((status, applied["generation"].as_u64()), (200, Some(1)));

        // Through levee, both ways, by MACs that the fabric knows.
        inside(node.pod, "ping -c 2 -i 0.2 -W 2 10.2.0.5");
        inside(node.fabric, "ping -c 2 -i 0.2 -W 2 -I 10.2.0.5 10.1.0.5");
        inside(node.fabric, "ip route add 10.96.0.0/16 dev far0");
        inside(node.fabric, "ping -c 1 -W 2 10.96.0.1");
        let node_mac = mac("eth0");
        let seen = inside(node.fabric, "ip neigh show 10.1.0.5 dev far0");
        assert!(seen.contains(&node_mac), "the fabric knows the pod by the node's MAC {node_mac}: {seen}");

        // The kernel beside it.
        inside(node.fabric, "ping -c 1 -W 2 192.0.2.10");

        let (_, status) = daemon.ask("GET", "/v1/status", "");
        assert_eq!(status["generation"], 1);
        assert_eq!(status["workers"][0]["alive"], true);
        let (_, ports) = daemon.ask("GET", "/v1/ports", "");
        assert_eq!(ports[0]["interface"], "eth0");
        assert!(ports[0]["queues"][0]["tx_frames"].as_u64() > Some(3), "{ports}");
        let (_, neighbours) = daemon.ask("GET", "/v1/neighbours", "");
        assert!(neighbours.to_string().contains("192.0.2.1"), "{neighbours}");
        let (_, counters) = daemon.ask("GET", "/v1/counters", "");
        let total = |name: &str| counters["totals"][name].as_u64().expect("a counter");
        let ended = total("forwarded") + total("hairpinned") + total("passed") + total("dropped") + total("waiting");
        assert_eq!(total("rx"), ended, "{counters}");
        assert!(total("echo_answered") >= 1 && total("announced") >= 3, "{counters}");

        // While it runs: no rights but one thread's, checksums finished by their sender, the gateway kept by the kernel.
        let rights = rights(daemon.child.id());
        assert!(
            rights.iter().all(|(name, rights)| *rights == if name == "neighbours" { 1 << 12 } else { 0 }),
            "{rights:?}"
        );
        assert!(offload().contains("off"));
        assert!(ip("neigh show").contains("managed"));

        let socket = daemon.socket().to_owned();
        assert_eq!(daemon.stop(), Some(0));
        assert!(!socket.exists());
        assert!(offload().contains("on"), "the offload is put back");
        let left = ip("neigh show");
        assert!(!left.contains("managed"), "the neighbours are given back: {left}");
        assert!(!ip("link show").contains("levee-tap"));
        assert!(!ip("link show").contains("xdp"), "no program is left");
    });
}

#[test]
fn metrics_say_what_the_other_paths_say_and_need_no_rights() {
    in_namespace(|| {
        ip("link set lo up");
        let node = Node::new();
        let daemon = Daemon::start(&node, "metrics: 127.0.0.1:9464\n");
        daemon.ask("PUT", "/v1/program", PROGRAM);
        inside(node.fabric, "ip route add 10.96.0.0/16 dev far0");
        inside(node.fabric, "ping -c 5 -i 0.1 -W 2 10.96.0.1");
        inside(node.pod, "ping -c 5 -i 0.1 -W 2 10.2.0.5");

        let pid = daemon.child.id();
        let page = || inside(pid, "curl -sS -m 10 http://127.0.0.1:9464/metrics");
        let told = |page: &str, name: &str, label: &str, value: &str| {
            let samples = levee_api::metrics::parse(page).unwrap_or_else(|error| panic!("{error}\n{page}"));
            let has = |sample: &&levee_api::metrics::Sample| sample.name == name && sample.labels[label] == value;
            samples.iter().find(has).map(|sample| sample.value)
        };
        // Until nothing comes in between the two.
        wait("metrics that are the counters", || {
            let (page, (_, counters)) = (page(), daemon.ask("GET", "/v1/counters", ""));
            let drops = counters["drops"].as_object().expect("drops");
            let same = |name, label, word: &str, frames: &serde_json::Value| {
                let told = told(&page, name, label, word);
                assert!(told.is_some(), "{name} {word}");
                told == frames.as_f64()
            };
            drops.iter().all(|(reason, frames)| same("levee_dropped_frames_total", "reason", reason, frames))
                && ["forwarded", "hairpinned", "passed", "dropped"]
                    .into_iter()
                    .all(|outcome| same("levee_frames_total", "outcome", outcome, &counters["totals"][outcome]))
        });
        let page = page();
        assert!(told(&page, "levee_frames_total", "outcome", "forwarded") >= Some(10.0), "{page}");
        assert!(told(&page, "levee_steered_frames_total", "class", "address4") >= Some(5.0), "{page}");
        assert!(told(&page, "levee_queue_sent_frames_total", "port", "levee0") >= Some(5.0), "{page}");
        assert_eq!(told(&page, "levee_program_apply_seconds_count", "kind", "full"), Some(1.0));
        assert_eq!(told(&page, "levee_worker_generation", "worker", "0"), Some(1.0));
        assert_eq!(told(&page, "levee_port_up", "port", "eth0"), Some(1.0));
        for probe in ["livez", "readyz"] {
            assert_eq!(inside(pid, &format!("curl -sS -m 10 http://127.0.0.1:9464/{probe}")), "ok\n");
        }
        assert_eq!(daemon.ask("GET", "/metrics", "").0, 200);

        // A second one for the same address says so, and ends.
        let other = node.scratch.0.join("other.sock");
        let text = std::fs::read_to_string(node.config("metrics: 127.0.0.1:9464\n")).expect("the configuration");
        let config = node.scratch.write("other.yaml", text.replace("dataplane.sock", "other.sock"));
        let output = super::daemon().arg("--config").arg(config).output().expect("the daemon");
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("cannot listen on 127.0.0.1:9464") && !other.exists(), "{said}");
        assert_eq!(daemon.stop(), Some(0));
    });
}

#[test]
fn killed_it_leaves_the_kernel_in_charge_and_its_successor_starts_over_what_is_left() {
    in_namespace(|| {
        let node = Node::new();
        let mut daemon = Daemon::start(&node, "");
        daemon.ask("PUT", "/v1/program", PROGRAM);
        inside(node.pod, "ping -c 1 -W 2 10.2.0.5");
        daemon.child.kill().expect("kill");
        daemon.child.wait().expect("wait");
        assert!(daemon.socket().exists(), "a stale socket is left");
        assert!(!ip("link show").contains("xdp"), "the links went with the process");
        inside(node.fabric, "ping -c 1 -W 2 192.0.2.10");

        let successor = Daemon::start(&node, "idle: poll\n");
        let (_, status) = successor.ask("GET", "/v1/status", "");
        assert_eq!(status["generation"], 0, "it starts from nothing");
        successor.ask("PUT", "/v1/program", PROGRAM);
        inside(node.pod, "ping -c 1 -W 2 10.2.0.5");

        // A second one with the same socket ends at once, and harms nothing.
        let mut second = Daemon::spawn(&node, "");
        let status = second.child.wait().expect("wait");
        assert_eq!(status.code(), Some(1));
        assert!(second.log().contains("another levee-dataplane answers on this socket"), "{}", second.log());
        inside(node.pod, "ping -c 1 -W 2 10.2.0.5");
        assert_eq!(successor.stop(), Some(0));
    });
}

#[test]
fn two_workers_with_a_port_each_forward_for_each_other() {
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() < 2) {
        eprintln!("SKIPPED: needs two cores");
        return;
    }
    in_namespace(|| {
        let node = Node::new();
        let daemon = Daemon::start(&node, "workers: [0, 1]\n");
        assert_eq!(daemon.ask("PUT", "/v1/program", PROGRAM).0, 200);
        inside(node.pod, "ping -c 5 -i 0.1 -W 2 10.2.0.5");
        let (_, ports) = daemon.ask("GET", "/v1/ports", "");
        assert_ne!(ports[0]["queues"][0]["worker"], ports[1]["queues"][0]["worker"], "{ports}");
        let (_, status) = daemon.ask("GET", "/v1/status", "");
        let workers = status["workers"].as_array().expect("workers");
        assert!(workers.iter().all(|worker| worker["generation"] == 1 && worker["alive"] == true), "{status}");
        assert_eq!((&workers[0]["core"], &workers[1]["core"]), (&0.into(), &1.into()));
        let (_, counters) = daemon.ask("GET", "/v1/counters", "");
        let total = |name: &str| counters["totals"][name].as_u64().expect("a counter");
        let ended = total("forwarded") + total("hairpinned") + total("passed") + total("dropped") + total("waiting");
        assert_eq!(total("rx"), ended, "{counters}");
        assert!(total("handed_over") >= 10 && total("handed_over") == total("taken_over"), "{counters}");
        assert_eq!(daemon.stop(), Some(0));
    });
}

#[test]
fn what_changes_in_the_kernel_is_followed() {
    in_namespace(|| {
        let node = Node::new();
        let daemon = Daemon::start(&node, "announce_interval: 1s\n");
        daemon.ask("PUT", "/v1/program", PROGRAM);
        // A route that was not there.
        inside(node.fabric, "ip addr add 10.3.0.5/32 dev far0");
        assert!(attempt(node.pod, "ping -c 1 -W 1 10.3.0.5").is_err());
        ip("route add 10.3.0.0/16 via 192.0.2.1");
        wait("the new route", || attempt(node.pod, "ping -c 1 -W 1 10.3.0.5").is_ok());
        // A link that goes down and comes back.
        ip("link set eth0 down");
        wait("bad health", || daemon.ask("GET", "/v1/health", "").0 == 503);
        ip("link set eth0 up");
        ip("route add 10.2.0.0/16 via 192.0.2.1");
        wait("good health", || daemon.ask("GET", "/v1/health", "").0 == 200);
        wait("forwarding", || attempt(node.pod, "ping -c 1 -W 1 10.2.0.5").is_ok());
        let (_, events) = daemon.ask("GET", "/v1/events", "");
        let events = events.to_string();
        assert!(events.contains("link-down") && events.contains("link-up"), "{events}");
        // Another MAC: the fabric is told, and answers come back to it.
        ip("link set eth0 address 02:00:00:00:00:42");
        wait("the new MAC", || attempt(node.pod, "ping -c 1 -W 1 10.2.0.5").is_ok());
        let seen = || inside(node.fabric, "ip neigh show 10.1.0.5 dev far0");
        wait("the fabric's new MAC", || seen().contains("02:00:00:00:00:42"));
        assert!(daemon.ask("GET", "/v1/events", "").1.to_string().contains("link-changed"));
        // The node's MAC is shown again and again.
        let announced = || daemon.ask("GET", "/v1/counters", "").1["totals"]["announced"].as_u64();
        let before = announced();
        wait("announcements", || announced() >= before.map(|count| count + 2));
        assert_eq!(daemon.stop(), Some(0));
    });
}

#[test]
fn somebody_else_with_a_vip_is_told() {
    in_namespace(|| {
        let node = Node::new();
        let daemon = Daemon::start(&node, "");
        daemon.ask("PUT", "/v1/program", PROGRAM);
        // Taking the address makes its new owner announce it, or answer for it.
        inside(node.fabric, "ip addr add 10.96.0.1/32 dev far0");
        wait("the conflict", || {
            let _ = attempt(node.fabric, "arping -c 1 -w 1 -U -I far0 10.96.0.1");
            let _ = attempt(node.fabric, "ping -c 1 -W 1 -I 10.96.0.1 192.0.2.77");
            daemon.ask("GET", "/v1/events", "").1.to_string().contains("vip-conflict")
        });
        let (_, counters) = daemon.ask("GET", "/v1/counters", "");
        assert!(counters["drops"]["arp_conflict"].as_u64() >= Some(1), "{counters}");
    });
}

#[test]
fn bad_programs_are_refused_while_it_forwards_on() {
    in_namespace(|| {
        let node = Node::new();
        let daemon = Daemon::start(&node, "");
        daemon.ask("PUT", "/v1/program", PROGRAM);
        assert_eq!(daemon.ask("PATCH", "/v1/program", r#"{"base": 7, "generation": 8}"#).0, 409);
        assert_eq!(daemon.ask("PUT", "/v1/program", r#"{"generation": 0}"#).0, 422);
        let twice = r#"{"generation": 2, "services": [
            {"name": "a", "protocol": "tcp", "frontends": [{"address": "10.96.0.9", "port": 1, "mode": "nat"}], "backends": []},
            {"name": "b", "protocol": "tcp", "frontends": [{"address": "10.96.0.9", "port": 1, "mode": "nat"}], "backends": []}]}"#;
        let (status, problem) = daemon.ask("PUT", "/v1/program", twice);
        assert_eq!(status, 422);
        assert!(problem["error"].as_str().is_some_and(|error| error.contains("both want")), "{problem}");
        assert_eq!(daemon.ask("GET", "/v1/program", "").1["generation"], 1);
        inside(node.pod, "ping -c 1 -W 2 10.2.0.5");
        assert_eq!(daemon.stop(), Some(0));
    });
}

fn mac(interface: &str) -> String {
    let link = ip(&format!("-o link show {interface}"));
    let mac = link.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next());
    mac.expect("a MAC").to_owned()
}

fn offload() -> String {
    let output = std::process::Command::new("ethtool").args(["-k", "levee1"]).output().expect("ethtool");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.lines().find(|line| line.starts_with("tx-checksumming")).expect("the feature").to_owned()
}

/// The effective capabilities of each thread, by its name.
fn rights(pid: u32) -> Vec<(String, u64)> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("threads").flatten();
    let of = |path: std::path::PathBuf| {
        let name = std::fs::read_to_string(path.join("comm")).ok()?;
        let status = std::fs::read_to_string(path.join("status")).ok()?;
        let rights = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        Some((name.trim().to_owned(), u64::from_str_radix(rights.trim(), 16).ok()?))
    };
    threads.filter_map(|thread| of(thread.path())).collect()
}

#[test]
fn flows_are_listed_filtered_explained_and_flushed() {
    const SERVICES: &str = r#"{
        "generation": 3,
        "local": {"prefixes": ["10.1.0.0/24"], "pods": [{"address": "10.1.0.5"}]},
        "service_ranges": ["10.96.0.0/16"],
        "vips": [{"address": "10.96.0.1"}],
        "services": [
            {"name": "kube-system/dns:dns", "protocol": "udp",
             "frontends": [{"address": "10.96.0.1", "port": 53, "mode": "dnat"}],
             "backends": [{"address": "10.2.0.5", "port": 5353, "pools": ["cluster"]}]},
            {"name": "default/log:log", "protocol": "udp",
             "frontends": [{"address": "10.96.0.1", "port": 514, "mode": "nat"}],
             "backends": [{"address": "10.2.0.5", "port": 5514, "pools": ["cluster"]}, {"address": "10.2.0.6", "port": 1, "pools": []}]}
        ]}"#;
    in_namespace(|| {
        let node = Node::new();
        let daemon = Daemon::start(&node, "");
        assert_eq!(daemon.ask("PUT", "/v1/program", SERVICES).0, 200);
        let send = |port: u16| {
            let script = format!("echo question > /dev/udp/10.96.0.1/{port}");
            let sent = std::process::Command::new("nsenter")
                .args(["-n", "-t", &node.pod.to_string(), "bash", "-c", &script])
                .status()
                .expect("bash");
            assert!(sent.success());
        };
        let flows = |query: &str| -> Vec<serde_json::Value> {
            let (status, body) = daemon.ask("GET", &format!("/v1/flows{query}"), "");
            assert_eq!(status, 200, "{body}");
            // One line is a value by itself, more are text; none is empty.
            match body {
                serde_json::Value::String(lines) => {
                    lines.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
                }
                one => vec![one],
            }
        };
        assert_eq!(flows("").len(), 0);
        send(53);
        send(514);
        wait("two flows", || flows("").len() == 2);
        let dns = flows("?service=kube-system/dns:dns");
        assert_eq!(dns.len(), 1);
        let flow = &dns[0];
        assert_eq!(
            (&flow["backend"], &flow["mode"], &flow["snat"]),
            (&"10.2.0.5:5353".into(), &"dnat".into(), &().into())
        );
        assert!(flow["client"].as_str().is_some_and(|client| client.starts_with("10.1.0.5:")), "{flow}");
        assert!(flow["expires_seconds"].as_u64().is_some_and(|seconds| (170..=180).contains(&seconds)), "{flow}");
        assert!(flows("?port=514")[0]["snat"].as_str().is_some_and(|snat| snat.starts_with("192.0.2.10:")));
        assert_eq!(flows("?frontend=10.96.0.1&protocol=udp").len(), 2);
        assert_eq!(
            flows("?protocol=tcp").len() + flows("?client=10.1.0.6").len() + flows("?backend=10.2.0.6").len(),
            0
        );

        // A packet of a tracked flow, and one of a new one.
        let question = |source: &str| format!(r#"{{"packet": "udp {source} > 10.96.0.1:53"}}"#);
        let client = flow["client"].as_str().expect("a client").to_owned();
        let (_, tracked) = daemon.ask("POST", "/v1/explain", &question(&client));
        assert_eq!((&tracked["verdict"], &tracked["reason"]), (&"forward".into(), &"tracked_flow".into()), "{tracked}");
        let (_, new) = daemon.ask("POST", "/v1/explain", &question("10.1.0.5:1"));
        assert_eq!((&new["verdict"], &new["reason"]), (&"forward".into(), &"service".into()), "{new}");

        let (_, vips) = daemon.ask("GET", "/v1/vips", "");
        assert_eq!(vips.as_array().map(Vec::len), Some(2), "one entry a frontend, though it is for both sides: {vips}");
        assert_eq!((&vips[1]["port"], &vips[1]["from"], &vips[1]["draining"]), (&514.into(), &"any".into(), &1.into()));
        let (_, backends) = daemon.ask("GET", "/v1/backends", "");
        assert_eq!(backends.as_array().map(Vec::len), Some(3), "{backends}");
        assert!(backends.to_string().contains("draining"), "{backends}");

        assert_eq!(daemon.ask("DELETE", "/v1/flows?port=53", "").1["flows"], 1);
        assert_eq!(flows("").len(), 1);
        assert_eq!(daemon.ask("DELETE", "/v1/flows", "").1["flows"], 1);
        assert_eq!(flows("").len(), 0);
        assert_eq!(daemon.stop(), Some(0));
    });
}
