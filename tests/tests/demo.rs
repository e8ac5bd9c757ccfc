//! The demos run to their end, and their verdict is good; interrupted, they leave nothing behind.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use levee_tests::Lab;
use levee_tests::kube::ApiServer;
use levee_tests::levee::{binary, cores};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn the_demo_ends_with_a_good_verdict() {
    // Only to know whether there can be a lab here, and to say so if not.
    let Some(_lab) = Lab::start() else { return };
    // A name that is reaped should this process be killed, and that no kept demo has.
    let name = format!("lv{}xdemo", std::process::id());
    let output = Command::new(binary("demo")).env("LEVEE_DEMO_NAME", &name).output().expect("it was built");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.lines().any(|line| line.starts_with("OK: ")), "{text}");
}

/// The cluster's demo, under a name of its own, where it can run.
fn kubernetes() -> Option<(Command, String)> {
    let _lab = Lab::start()?;
    if !ApiServer::is_built() {
        assert!(std::env::var_os("LEVEE_KUBE_REQUIRED").is_none(), "no kube-apiserver: scripts/kube-apiserver build");
        eprintln!("SKIPPED: there is no kube-apiserver here; `scripts/kube-apiserver build` makes one");
        return None;
    }
    if cores() < 2 {
        eprintln!("SKIPPED: the manifests' worker is on core 1, and this machine has one core");
        return None;
    }
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let name = format!("lv{}xk{number}", std::process::id());
    let mut command = Command::new(binary("demo-kubernetes"));
    command.env("LEVEE_DEMO_NAME", &name);
    Some((command, name))
}

/// Namespaces, files and cgroups under a name.
fn left(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for directory in ["/run/netns", "/tmp", "/sys/fs/cgroup", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/devices"] {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        found.extend(names.filter(|entry| entry.starts_with(name)).map(|entry| format!("{directory}/{entry}")));
    }
    found
}

#[test]
fn the_demo_with_a_cluster_ends_with_a_good_verdict() {
    let Some((mut command, name)) = kubernetes() else { return };
    let output = command.output().expect("it was built");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.lines().any(|line| line.starts_with("OK: ")), "{text}");
    assert_eq!(left(&name), [""; 0]);
}

#[test]
fn the_demo_with_a_cluster_leaves_nothing_when_it_is_interrupted() {
    let Some((mut command, name)) = kubernetes() else { return };
    let mut demo = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it was built");
    let mut lines = BufReader::new(demo.stdout.take().expect("asked for")).lines();
    let third = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("3. A Service")));
    assert!(third.is_some(), "its pods have started by then");
    assert!(left(&name).len() > 5, "{:?}", left(&name));
    kill(Pid::from_raw(demo.id().cast_signed()), Signal::SIGTERM).expect("it runs");
    assert_eq!(demo.wait().expect("it ends").code(), Some(130));
    assert_eq!(left(&name), [""; 0]);
}
