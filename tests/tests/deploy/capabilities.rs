//! The dataplane is started with exactly the rights that each manifest and the unit give it, and then with each one less.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use levee_tests::levee::{binary, cli};
use levee_tests::{Daemon, Namespace, Scene};

use super::{container, object, read};

/// A process's rights.
struct Rights {
    /// As setpriv writes them: `net_raw`.
    capabilities: Vec<String>,
    /// Groups besides its own.
    groups: &'static [&'static str],
    /// Bytes that may be locked without a right to it; `None` is what this test may.
    locked: Option<u64>,
    /// Whether /proc/sys is read-only, as in a container.
    contained: bool,
}

fn of_manifest(name: &str) -> (Rights, String) {
    let spec = object("DaemonSet", name)["spec"]["template"]["spec"].clone();
    let security = &container(&spec, "levee-dataplane")["securityContext"];
    assert_eq!(security["capabilities"]["drop"], serde_json::json!(["ALL"]));
    assert_eq!(
        (security["allowPrivilegeEscalation"].as_bool(), security["runAsUser"].as_u64()),
        (Some(false), Some(0))
    );
    let added = security["capabilities"]["add"].as_array().unwrap().iter();
    let capabilities = added.map(|name| name.as_str().unwrap().to_lowercase()).collect();
    assert_eq!(spec["securityContext"]["fsGroup"], 65532);
    // What a runtime sets is unknown, so it is as little as can be.
    let rights = Rights { capabilities, groups: &["65532"], locked: Some(65536), contained: true };
    let data = object("ConfigMap", name)["data"]["dataplane.yaml"].as_str().unwrap().to_owned();
    (rights, data)
}

fn of_unit() -> (Rights, String) {
    let unit = read("configs/systemd/levee-dataplane.service");
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let names = line.split_whitespace().map(|name| name.strip_prefix("CAP_").unwrap().to_lowercase());
    assert!(unit.contains("LimitMEMLOCK=infinity") && unit.contains("NoNewPrivileges=yes"));
    let rights = Rights { capabilities: names.collect(), groups: &[], locked: None, contained: false };
    // A node, whose socket is for a group.
    (rights, read("configs/dataplane-node.yaml") + "socket_group: \"65532\"\n")
}

/// The shipped configuration, made small, for this machine, with its socket in the lab.
fn configure(namespace: &Namespace, shipped: &str, frames: u32) -> (std::path::PathBuf, std::path::PathBuf) {
    let file = |ending: &str| namespace.directory().join(format!("{}-deploy.{ending}", namespace.name()));
    let (configuration, socket) = (file("yaml"), file("sock"));
    assert!(shipped.contains("workers: [1]"), "{shipped}");
    let text = shipped.replace("workers: [1]", "workers: [0]");
    let text =
        format!("{text}\nsocket: {}\nflows: {{capacity: 16384}}\nmemory: {{frames: {frames}}}\n", socket.display());
    fs::write(&configuration, text).unwrap();
    (configuration, socket)
}

fn start(namespace: &Namespace, rights: &Rights, configuration: &Path) -> Daemon {
    let mut command = namespace.command("sh");
    // `ip netns exec` has made a mount namespace of its own already.
    let script = if rights.contained {
        "set -e; mkdir -p \"$LEVEE_SYSCTL\"; mount --bind /proc/sys/net \"$LEVEE_SYSCTL\"; \
         mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys; exec \"$@\""
    } else {
        "exec \"$@\""
    };
    command.args(["-c", script, "sh"]);
    if rights.contained {
        command.env("LEVEE_SYSCTL", namespace.directory().join(format!("{}-sysctl", namespace.name())));
    }
    if let Some(locked) = rights.locked {
        command.args(["prlimit", &format!("--memlock={locked}")]);
    }
    let bounding: String = rights.capabilities.iter().map(|name| format!(",+{name}")).collect();
    command.args(["setpriv", "--no-new-privs", "--inh-caps=-all", &format!("--bounding-set=-all{bounding}")]);
    match rights.groups {
        [] => command.arg("--clear-groups"),
        groups => command.args(["--groups", &groups.join(",")]),
    };
    command.arg(binary("levee-dataplane")).arg("--config").arg(configuration);
    namespace.start("deploy", command)
}

/// Whether it comes up; if it ends instead, what it said.
fn comes_up(namespace: &Namespace, rights: &Rights, shipped: &str) -> Result<Daemon, String> {
    // More than a limit of 64 KiB, less than the 8 MiB that are usual.
    let (configuration, socket) = configure(namespace, shipped, 2048);
    let mut daemon = start(namespace, rights, &configuration);
    let answers = || cli(&socket, None).arg("status").output().unwrap().status.success();
    for _ in 0..400 {
        if answers() {
            return Ok(daemon);
        }
        if !daemon.is_running() {
            return Err(daemon.log());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("it neither answers nor ends:\n{}", daemon.log());
}

fn sysctl(namespace: &Namespace, key: &str) -> String {
    let output = namespace.try_run(&format!("cat /proc/sys/net/ipv4/conf/levee-tap0/{key}"));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// With all of them it comes up; with one less, for each, it does not, and names that one. Without a worker's place before others it
/// comes up as well, but says what it lacks.
fn are_exact(rights: Rights, shipped: &str) {
    if Command::new("setpriv").arg("--version").output().is_err() {
        eprintln!("SKIPPED: there is no setpriv (util-linux)");
        return;
    }
    let Some(scene) = Scene::without_levee(&[1]) else { return };
    let namespace = scene.nodes[0].namespace();
    let mut running = comes_up(namespace, &rights, shipped).unwrap_or_else(|log| panic!("with all of them:\n{log}"));
    if shipped.contains("role: pods") {
        assert_eq!((sysctl(namespace, "rp_filter").as_str(), sysctl(namespace, "arp_ignore").as_str()), ("2", "8"));
    }
    assert!(running.stop(Duration::from_secs(10)).success(), "{}", running.log());
    for missing in &rights.capabilities {
        let capabilities = rights.capabilities.iter().filter(|name| *name != missing).cloned().collect();
        let fewer = Rights { capabilities, ..rights };
        let before = running.log().len();
        let said = match comes_up(namespace, &fewer, shipped) {
            Ok(fewer) if missing == "sys_nice" => fewer.log()[before..].to_owned(),
            Ok(_) => panic!("it comes up without {missing} too: take it out"),
            Err(log) => log[before..].to_owned(),
        };
        let named = match missing.as_str() {
            "chown" => "cannot give it to its group".to_owned(),
            other => format!("CAP_{}", other.to_uppercase()),
        };
        assert!(said.contains(&named), "without {missing}:\n{said}");
    }
}

#[test]
fn a_nodes_are_enough_and_none_is_too_many() {
    let (rights, shipped) = of_manifest("levee-node");
    are_exact(rights, &shipped);
}

#[test]
fn a_balancers_are_enough_and_none_is_too_many() {
    let (rights, shipped) = of_manifest("levee-balancer");
    are_exact(rights, &shipped);
}

#[test]
fn the_units_are_enough_and_none_is_too_many() {
    let (rights, shipped) = of_unit();
    are_exact(rights, &shipped);
}
