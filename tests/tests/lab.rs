//! The lab itself: it cleans up, it hears everything, it tells success from failure.

use std::fs;
use std::io::BufRead;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use levee_tests::traffic::{Curl, EchoServer, Nginx, connect_many, udp_round_trips};
use levee_tests::{Direction, Fabric, Host, Lab, Namespace, Tap};

fn exists(namespace: &str) -> bool {
    Path::new("/run/netns").join(namespace).exists()
}

fn sleeper(namespace: &Namespace) -> std::process::Command {
    let mut command = namespace.command("sleep");
    command.arg("1000");
    command
}

#[test]
fn nothing_is_left_after_a_lab() {
    let Some(lab) = Lab::start() else { return };
    let directory = lab.directory().to_owned();
    let namespace = lab.namespace("a");
    let name = namespace.name().to_owned();
    let daemon = namespace.start("sleeper", sleeper(&namespace));
    let pid = daemon.pid();
    assert!(exists(&name) && directory.exists() && Path::new(&format!("/proc/{pid}")).exists());
    drop((daemon, namespace, lab));
    assert!(!exists(&name) && !directory.exists() && !Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn nothing_is_left_after_a_panic() {
    let Some(lab) = Lab::start() else { return };
    let namespace = lab.namespace("a");
    let name = namespace.name().to_owned();
    let outcome = catch_unwind(AssertUnwindSafe(move || {
        let _lab = lab;
        let _daemon = namespace.start("sleeper", sleeper(&namespace));
        namespace.run("false");
    }));
    let message = *outcome.expect_err("`false` fails").downcast::<String>().expect("a formatted message");
    assert!(message.contains("false") && message.contains("exit status: 1"), "{message}");
    assert!(!exists(&name));
}

/// Runs the test below in a process of its own, and gives it once its lab stands, with the name of its namespace.
fn child_with_a_lab() -> (std::process::Child, String) {
    let mut child = Command::new(std::env::current_exe().expect("a test is an executable"))
        .args(["--ignored", "--exact", "--nocapture", "a_lab_that_waits_to_be_killed"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("a test can be run");
    let output = std::io::BufReader::new(child.stdout.take().expect("asked for"));
    let line = output.lines().map_while(Result::ok).find(|line| line.starts_with("namespace: "));
    let name = line.expect("the child names its namespace")["namespace: ".len()..].to_owned();
    assert!(exists(&name));
    (child, name)
}

#[test]
fn a_failing_test_leaves_what_its_wires_carried() {
    let Some(lab) = Lab::start() else { return };
    let output = Command::new(std::env::current_exe().expect("a test is an executable"))
        .args(["--ignored", "--exact", "--nocapture", "a_test_with_a_tap_that_fails"])
        .env("LEVEE_LAB_PCAP", lab.directory())
        .output()
        .expect("a test can be run");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("what the wires carried is in"), "{text}");
    let mut files = fs::read_dir(lab.directory()).expect("it is there").flatten().map(|entry| entry.path());
    assert!(files.any(|file| file.extension().is_some_and(|ending| ending == "pcap")), "{text}");
}

#[test]
#[ignore = "it fails: another runs it as a child process"]
fn a_test_with_a_tap_that_fails() {
    let Some(lab) = Lab::start() else { return };
    let _tap = Tap::start(&lab.namespace("a"));
    panic!("as it should");
}

#[test]
#[ignore = "it waits for ever: others run it as a child process"]
fn a_lab_that_waits_to_be_killed() {
    let Some(lab) = Lab::start() else { return };
    let namespace = lab.namespace("a");
    let _daemon = namespace.start("sleeper", sleeper(&namespace));
    println!("namespace: {}", namespace.name());
    std::thread::sleep(Duration::from_secs(1000));
}

#[test]
fn nothing_is_left_after_sigterm() {
    let Some(_lab) = Lab::start() else { return };
    let (mut child, name) = child_with_a_lab();
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it runs");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert!(!exists(&name));
}

#[test]
fn what_sigkill_leaves_is_reaped_by_the_next_lab() {
    let Some(_lab) = Lab::start() else { return };
    let (mut child, name) = child_with_a_lab();
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    // Another test's lab may have been faster than this one's.
    let _next = Lab::start();
    let end = Instant::now() + Duration::from_secs(5);
    while exists(&name) {
        assert!(Instant::now() < end, "{name} is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn hosts_reach_each_other_and_the_tap_hears_it_once_a_wire_and_direction() {
    let Some(lab) = Lab::start() else { return };
    let fabric = Fabric::new(&lab);
    let [a, b] = [("a", 201), ("b", 202)].map(|(name, number)| Host::new(&lab, &fabric, name, number));
    a.namespace.wait_for_ping(IpAddr::V4(b.address), Duration::from_secs(3));
    let tap = fabric.tap();
    a.namespace.run(&format!("ping -n -c 5 -i 0.01 {}", b.address));
    let frames = tap.frames();
    let count = |port: &str, direction, kind: u8| {
        let echo = |bytes: &[u8]| {
            bytes.get(12..14) == Some(&[8, 0]) && bytes.get(23) == Some(&1) && bytes.get(34) == Some(&kind)
        };
        frames.iter().filter(|f| &*f.interface == port && f.direction == direction && echo(&f.bytes)).count()
    };
    for (port, direction, kind) in
        [("a", Direction::In, 8), ("b", Direction::Out, 8), ("b", Direction::In, 0), ("a", Direction::Out, 0)]
    {
        assert_eq!(count(port, direction, kind), 5, "ICMP type {kind} {direction:?} at {port}");
    }
    assert_eq!(count("a", Direction::Out, 8), 0, "a request does not come back");
    let file = lab.directory().join("wires.pcap");
    tap.write_pcap(&file);
    let bytes = fs::read(&file).expect("written");
    assert!(bytes.len() >= 24 + 20 * (16 + 98), "{} bytes for 20 frames and more", bytes.len());
    tap.clear();
    a.namespace.run("ip neigh show");
    assert!(tap.frames().len() < frames.len());
}

#[test]
fn traffic_counts_success_and_failure() {
    let Some(lab) = Lab::start() else { return };
    let fabric = Fabric::new(&lab);
    let [a, b] = [("a", 201), ("b", 202)].map(|(name, number)| Host::new(&lab, &fabric, name, number));
    let at = |port| SocketAddr::from((b.address, port));
    let echo = EchoServer::start(&b.namespace, 7);
    let outcome = connect_many(&a.namespace, at(7), 20);
    assert_eq!(outcome.succeeded, 20, "{outcome}");
    let outcome = udp_round_trips(&a.namespace, at(7), 20, 1000);
    assert_eq!(outcome.succeeded, 20, "{outcome}");
    drop(echo);
    let outcome = connect_many(&a.namespace, at(7), 2);
    assert_eq!((outcome.succeeded, outcome.failures.len()), (0, 2), "{outcome}");
    assert!(outcome.failures[0].contains("refused"), "{outcome}");

    let nginx = Nginx::start(&b.namespace, "web", 80);
    let tally = Curl::many(&a.namespace, at(80), 2, 25);
    assert_eq!((tally.answered(), tally.failures.len()), (50, 0), "{tally}");
    assert_eq!(tally.by_server.get("web"), Some(&50));
    assert_eq!(tally.by_client.get(&a.address.to_string()), Some(&50));
    drop(nginx);
    let tally = Curl::many(&a.namespace, at(80), 1, 2);
    assert_eq!((tally.answered(), tally.failures.len()), (0, 2), "{tally}");
}

#[test]
fn the_outside_is_not_touched() {
    let links = || {
        let output = Command::new("ip").args(["-o", "link", "show"]).output();
        // States and counters may change by themselves; names may not.
        let text = String::from_utf8(output.expect("`ip` can be run").stdout).expect("text");
        text.lines().filter_map(|line| line.split(": ").nth(1).map(str::to_owned)).collect::<Vec<_>>()
    };
    let before = links();
    let Some(lab) = Lab::start() else { return };
    let fabric = Fabric::new(&lab);
    let host = Host::new(&lab, &fabric, "a", 201);
    assert_eq!(host.address, Ipv4Addr::new(192, 0, 2, 201));
    assert_eq!(links(), before);
}
