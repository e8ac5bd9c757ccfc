//! The image, and that its containers run as the manifests say: with nothing but its files, as those users, with those rights, under
//! the runtime's seccomp profile.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use levee_tests::container::{Image, Pod, Surroundings};
use levee_tests::levee::{binary, cli, cores};
use levee_tests::{Lab, Namespace, Scene};

use super::{object, path, read};

#[test]
fn the_containerfile_builds_what_the_workspace_is_and_ends_in_nothing_but_that() {
    let file = read("Containerfile");
    let instructions: Vec<Vec<&str>> = file
        .lines()
        .filter(|line| !line.starts_with('#') && !line.starts_with(' ') && !line.is_empty())
        .map(|line| line.split_whitespace().collect())
        .collect();
    let all = |name: &str| instructions.iter().filter(|words| words[0] == name).collect::<Vec<_>>();
    let [build, last] = all("FROM")[..] else { panic!("two stages: {instructions:?}") };
    let toolchain = read("rust-toolchain.toml");
    let version = toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).unwrap().trim_matches('"');
    assert_eq!(build[1], format!("docker.io/library/rust:{version}-slim-bookworm"));
    assert_eq!(last[..], ["FROM", "scratch"]);
    assert!(all("RUN")[0].join(" ").contains("cargo build --release --locked"));
    assert_eq!(all("USER")[0][1], "65532:65532");
    assert_eq!(all("COPY").last().unwrap()[..], ["COPY", "--from=build", "/image", "/"]);
}

#[test]
fn its_root_has_all_that_the_binaries_need_and_no_shell() {
    let Some(lab) = Lab::start() else { return };
    let output = Command::new(path("scripts/image-root"))
        .arg(binary("levee").parent().unwrap())
        .arg(lab.directory())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let root = lab.directory().join("image");
    for name in ["levee", "levee-control", "levee-dataplane"] {
        let output =
            Command::new("chroot").arg(&root).arg(format!("/usr/bin/{name}")).arg("--version").output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(!root.join("bin/sh").exists() && !root.join("usr/bin/sh").exists());
    assert_eq!(fs::read_dir(root.join("usr/bin")).unwrap().count(), 3);
}

#[test]
fn buildah_makes_the_image_of_binaries_that_are_there() {
    let Some(lab) = Lab::start() else { return };
    if Command::new("buildah").arg("--version").output().is_err() {
        eprintln!("SKIPPED: there is no buildah, so the Containerfile was read only");
        return;
    }
    let image = Command::new(path("scripts/image-root"))
        .arg(binary("levee").parent().unwrap())
        .arg(lab.directory().join("local"))
        .output()
        .unwrap();
    assert!(image.status.success());
    // An empty context: what is copied comes from the one that takes the place of the stage `build`.
    let (context, iid) = (lab.directory().join("context"), lab.directory().join("iid"));
    fs::create_dir(&context).unwrap();
    let output = Command::new("buildah")
        .args(["--storage-driver", "vfs", "--root"])
        .arg(lab.directory().join("store"))
        .arg("--runroot")
        .arg(lab.directory().join("runroot"))
        .args(["build", "--isolation", "chroot", "--tag", "levee:test", "--build-context"])
        .arg(format!("build={}", lab.directory().join("local").display()))
        .arg("--iidfile")
        .arg(&iid)
        .arg("--file")
        .arg(path("Containerfile"))
        .arg(&context)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(fs::read_to_string(iid).unwrap().starts_with("sha256:"));
}

/// What a client on the node gets from a daemon's listener.
fn probe(namespace: &Namespace, port: u16, page: &str) -> String {
    let output = namespace.try_run(&format!("curl -s -m 5 http://127.0.0.1:{port}/{page}"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..400 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("not within 20 s: {what}");
}

const CLUSTER: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: default}\nspec:\n  type: LoadBalancer\n  \
    clusterIP: 10.96.0.10\n  clusterIPs: [10.96.0.10]\n  ipFamilies: [IPv4]\n  ports: [{name: http, port: 80, targetPort: 8080}]\n\
    status:\n  loadBalancer: {ingress: [{ip: 192.0.2.250}]}\n";

/// Both containers of a pod, as shipped; but levee-control reads a file instead of an API server.
fn runs_as_shipped(name: &str) {
    if cores() < 2 {
        eprintln!("SKIPPED: the manifests' worker is on core 1, and this machine has one core");
        return;
    }
    let Some(scene) = Scene::without_levee(&[1]) else { return };
    let image = match Image::build(&scene.lab) {
        Ok(image) => image,
        Err(reason) => {
            assert!(std::env::var_os("LEVEE_LAB_REQUIRED").is_none(), "{reason}");
            eprintln!("SKIPPED: {reason}");
            return;
        }
    };
    let namespace = scene.nodes[0].namespace();
    let mut map = object("ConfigMap", name);
    let control =
        map["data"]["control.yaml"].as_str().unwrap().replace("kubernetes: {}", "path: /etc/levee/cluster.yaml");
    map["data"]["control.yaml"] = control.into();
    map["data"]["cluster.yaml"] = CLUSTER.into();
    let spec = &object("DaemonSet", name)["spec"]["template"]["spec"];
    let surroundings = Surroundings { node: "node-1".to_owned(), maps: vec![map], ..Surroundings::default() };
    let pod = Pod::named(namespace, name, &image, spec, surroundings);

    let mut dataplane = pod.start("levee-dataplane");
    eventually("the dataplane lives", || {
        assert!(dataplane.daemon.is_running(), "{}", dataplane.daemon.log());
        probe(namespace, 9464, "livez") == "ok\n"
    });
    assert_eq!(probe(namespace, 9464, "readyz"), "nothing was programmed yet\n");
    let mut control = pod.start("levee-control");
    eventually("the dataplane is ready", || {
        assert!(control.daemon.is_running(), "{}", control.daemon.log());
        probe(namespace, 9464, "readyz") == "ok\n"
    });
    eventually("control is ready", || probe(namespace, 9465, "readyz") == "ok\n");
    let socket = pod.sockets().join("dataplane.sock");
    let listed = cli(&socket, None).args(["vip", "list"]).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout);
    assert!(listed.contains("192.0.2.250"), "{listed}");
    // Nothing that it wanted to set was refused.
    let log = dataplane.daemon.log();
    assert!(!log.contains("could not be set"), "{log}");

    // The end of a pod: the dataplane waits for levee-control, which is told at the same time.
    let waiting = std::thread::scope(|scope| {
        let hook = scope.spawn(|| dataplane.prepare_to_stop());
        std::thread::sleep(Duration::from_millis(300));
        assert!(!hook.is_finished(), "levee-control is still there");
        control.stop(Duration::from_secs(10));
        hook.join().unwrap()
    });
    assert!(waiting.status.success(), "{}", String::from_utf8_lossy(&waiting.stderr));
    dataplane.stop(Duration::from_secs(10));
    assert!(!Path::new(&socket).exists());
}

#[test]
fn a_nodes_pod_runs_as_shipped() {
    runs_as_shipped("levee-node");
}

#[test]
fn a_balancers_pod_runs_as_shipped() {
    runs_as_shipped("levee-balancer");
}
