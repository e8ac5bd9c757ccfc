//! `levee doctor` in namespaces that are as hosts can be: it finds what is wrong, changes nothing, and says so with its exit status.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};

use levee_tests::levee::{Dataplane, Ports, Take, binary};
use levee_tests::{Namespace, Scene};
use serde_json::Value;

struct Host {
    scene: Scene,
    configuration: PathBuf,
}

impl Host {
    /// A node that is wired for levee, and mended where the lab differs from a good host.
    fn start() -> Option<Host> {
        let scene = Scene::without_levee(&[1])?;
        let node = scene.nodes[0].namespace();
        node.sysctl("net.ipv4.ip_forward", "1");
        let configuration = scene.lab.directory().join("doctor.yaml");
        let node_yaml = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/dataplane-node.yaml");
        fs::write(&configuration, fs::read_to_string(node_yaml).unwrap().replace("workers: [1]", "workers: [0]"))
            .unwrap();
        Some(Host { scene, configuration })
    }

    fn namespace(&self) -> &Namespace {
        self.scene.nodes[0].namespace()
    }

    /// Exit status, and findings.
    fn doctor_with(&self, socket: &Path) -> (i32, Vec<Value>) {
        let mut command = self.namespace().command(binary("levee"));
        command.args(["doctor", "-o", "json", "--config"]).arg(&self.configuration).arg("--socket").arg(socket);
        let output = command.output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        let status = output.status.code().unwrap();
        assert_eq!(report["fit"].as_bool().unwrap(), status == 0);
        (status, report["findings"].as_array().unwrap().clone())
    }

    fn doctor(&self) -> (i32, Vec<Value>) {
        self.doctor_with(Path::new("/nowhere/dataplane.sock"))
    }

    #[track_caller]
    fn expect(&self, level: &str, check: &str, message: &str) {
        let (status, findings) = self.doctor();
        let is_it = |finding: &&Value| {
            finding["level"] == level
                && finding["check"] == check
                && finding["message"].as_str().unwrap().contains(message)
        };
        assert!(findings.iter().any(|finding| is_it(&finding)), "no {level} {check} {message}: {findings:#?}");
        assert!((status == 1) == findings.iter().any(|finding| finding["level"] == "FAIL"), "{status}");
    }
}

#[test]
fn it_finds_what_is_wrong_with_a_host() {
    let Some(host) = Host::start() else { return };
    let namespace = host.namespace();
    let (status, findings) = host.doctor();
    let failed: Vec<_> = findings.iter().filter(|finding| finding["level"] == "FAIL").collect();
    assert!(status == 0 && failed.is_empty(), "{failed:#?}");

    namespace.ip("link set eth0 mtu 9000");
    host.expect("FAIL", "mtu", "eth0: frames of 9000 bytes, and levee's have room for 1770");
    namespace.ip("link set eth0 mtu 1500");
    namespace.sysctl("net.ipv4.conf.eth0.rp_filter", "1");
    host.expect("WARN", "sysctl", "rp_filter is strict on eth0");
    namespace.sysctl("net.ipv4.ip_local_port_range", "1024 65535");
    host.expect("FAIL", "sysctl", "1024-65535, and `snat` takes the ports");
    namespace.sysctl("net.ipv4.ip_local_port_range", "32768 60999");
    namespace.sysctl("net.ipv4.ip_forward", "0");
    host.expect("WARN", "sysctl", "ip_forward is 0");
    namespace.ip("link set levee1 nomaster");
    host.expect("FAIL", "bridge", "levee1, the other end of levee0, is not on br-ex");
    namespace.ip("link set levee1 master br-ex");
    namespace.ip("link set br-ex type bridge stp_state 1");
    host.expect("WARN", "bridge", "STP");
    namespace.ip("link set eth0 master br-ex");
    host.expect("FAIL", "interface", "a member of the bridge br-ex");
    namespace.ip("link set eth0 nomaster");
    namespace.ip("link add kube-ipvs0 type bridge");
    host.expect("FAIL", "sysctl", "answers ARP for them");
    namespace.sysctl("net.ipv4.conf.all.arp_ignore", "1");
    host.expect("OK", "sysctl", "is not answered");
    namespace.ip("link set levee0 down");
    host.expect("WARN", "interface", "levee0: veth, down");
    namespace.ip("link del levee0");
    host.expect("FAIL", "config", "doctor.yaml:10:16: this machine has no interface `levee0`");
}

#[test]
fn another_program_is_told_from_levees_own() {
    let Some(host) = Host::start() else { return };
    let dataplane = Dataplane::start(host.namespace(), Ports::Balancer(Take::Owned));
    // Whoever does not answer on the socket is somebody else.
    host.expect("FAIL", "xdp", "eth0: another XDP program is attached: number ");
    let (status, findings) = host.doctor_with(dataplane.socket());
    let own = |finding: &&Value| finding["message"].as_str().unwrap().contains("eth0: levee's own program");
    assert!(status == 0 && findings.iter().any(|finding| own(&finding)), "{findings:#?}");
}

#[test]
fn it_changes_nothing() {
    let Some(host) = Host::start() else { return };
    let look = || {
        let of = |line: &str| host.namespace().run(line);
        let settings = of("sysctl -a -r ^net\\.(ipv4|ipv6|bridge|core)\\.");
        // What the kernel counts or draws by itself.
        let settings: Vec<_> =
            settings.lines().filter(|line| !line.contains("random") && !line.contains("nf_conntrack_count")).collect();
        (of("ip link"), of("ip addr"), of("ip route"), of("ethtool -k eth0"), settings.join("\n"))
    };
    let before = look();
    let (status, findings) = host.doctor();
    assert!(status == 0 && findings.len() > 15, "{}", findings.len());
    assert_eq!(look(), before);
}

#[test]
fn bad_input_is_told_with_its_place() {
    let Some(host) = Host::start() else { return };
    fs::write(&host.configuration, "ports: [{interface: eth0, role: uplnk}]\nworkers: [0]\n").unwrap();
    let mut command = host.namespace().command(binary("levee"));
    let output = command.args(["doctor", "--config"]).arg(&host.configuration).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("doctor.yaml:1:") && said.contains("unknown value `uplnk`"), "{said}");
    let output = host.namespace().command(binary("levee")).args(["doctor", "--interface", "eth9"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no interface `eth9`"));
}
