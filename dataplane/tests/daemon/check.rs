//! `--check`: status 2 and a message with a place for every bad input, before anything is opened.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{Scratch, daemon, in_namespace, ip};

/// Exit status and what was said.
fn check(path: &Path) -> (Option<i32>, String) {
    let output = daemon().arg("--check").arg("--config").arg(path).output().expect("the daemon");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

fn refused(path: &Path, expected: &[&str]) {
    let (status, said) = check(path);
    assert_eq!(status, Some(2), "{said}");
    for part in expected {
        assert!(said.contains(part), "without `{part}`:\n{said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

const GOOD: &str = "ports: [{interface: eth0, role: uplink}]\nworkers: [0]\n";

#[test]
fn bad_files_are_told_with_their_place() {
    let scratch = Scratch::new();
    refused(&scratch.write("key.yaml", GOOD.replace("role", "rolle")), &["key.yaml:1:", "rolle"]);
    refused(&scratch.write("type.yaml", GOOD.replace("[0]", "zero")), &["type.yaml:2:10"]);
    refused(
        &scratch.write("queue.yaml", GOOD.replace("eth0", "eth0, queues: []")),
        &["queue.yaml:1:", "has no queues"],
    );
    refused(&scratch.write("cut.yaml", &GOOD[..20]), &["cut.yaml:1:"]);
    refused(&scratch.write("binary.yaml", b"\x7fELF\x02\x01\x01\0\0\0\0"), &["binary.yaml:1:", "not text"]);
    refused(&scratch.write("empty.yaml", ""), &["empty.yaml", "no content"]);
    refused(&scratch.0.join("missing.yaml"), &["missing.yaml", "cannot be read"]);
    refused(&scratch.0, &["cannot be read"]);
}

#[test]
fn a_file_without_end_is_refused_at_once() {
    let scratch = Scratch::new();
    let path = scratch.write("large.yaml", "");
    let file = std::fs::File::options().write(true).open(&path).expect("the file");
    file.set_len(100 << 20).expect("a sparse file");
    let started = Instant::now();
    refused(&path, &["large.yaml", "larger than"]);
    refused(Path::new("/dev/zero"), &["larger than"]);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn what_the_machine_does_not_have_is_told() {
    in_namespace(|| {
        let scratch = Scratch::new();
        refused(&scratch.write("interface.yaml", GOOD), &["interface.yaml:1:21", "no interface `eth0`", "it has: lo"]);
        ip("link add eth0 type veth peer name far0");
        let (status, said) = check(&scratch.write("good.yaml", GOOD));
        assert_eq!(status, Some(0), "{said}");
        refused(&scratch.write("core.yaml", GOOD.replace("[0]", "[1000]")), &["core.yaml:2:11", "no core 1000"]);
        refused(
            &scratch.write("queue.yaml", GOOD.replace("eth0", "eth0, queues: [77]")),
            &["queue.yaml:1:36", "has no queue 77"],
        );
        refused(&scratch.write("lo.yaml", GOOD.replace("eth0", "lo")), &["lo.yaml:1:21", "not an Ethernet device"]);
        let twice = GOOD.replace(
            "[{interface: eth0, role: uplink}]",
            "[{interface: eth0, role: uplink}, {interface: eth0, role: pods}]",
        );
        refused(&scratch.write("twice.yaml", twice), &["twice.yaml:1:54", "already is a port, on line 1"]);
    });
}

/// As `levee-control` has them.
#[test]
fn the_command_line_is_that_of_both_daemons() {
    let said = |arguments: &[&str]| {
        let output = daemon().args(arguments).output().expect("the daemon");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        String::from_utf8(output.stderr).expect("text")
    };
    let told = said(&["--check", "--log", "json", "--config", "/nowhere/levee.yaml"]);
    assert!(told.starts_with("/nowhere/levee.yaml: cannot be read: "), "{told}");
    let told = said(&["--log", "xml"]);
    assert!(told.contains("possible values: text, json"), "{told}");
    if Path::new("/etc/levee/dataplane.yaml").exists() {
        eprintln!("SKIPPED: this machine has a configuration in the place where none is expected");
        return;
    }
    let told = said(&["--check"]);
    assert!(told.starts_with("/etc/levee/dataplane.yaml: cannot be read: "), "{told}");
}
