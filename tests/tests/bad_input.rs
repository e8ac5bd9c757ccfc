//! Bad files, given to the real programs: each gets a message with file, line, column and advice, and exit status 2.
//!
//! What each message says in detail is tested beside the code that says it; here it is that users get to see it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use levee_tests::levee::binary;

/// A directory that goes away.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Files {
        let path = std::env::temp_dir().join(format!("levee-bad-input-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a temporary directory can be made");
        Files(path)
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).expect("a temporary file can be written");
        path
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(program: &str, arguments: &[&str], file: &Path) -> Output {
    Command::new(binary(program)).args(arguments).arg(file).output().expect("it was built")
}

/// Status 2, and standard error that has all of this.
fn assert_refused(output: &Output, expected: &[String], what: &str) {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert_eq!(output.status.code(), Some(2), "{what}: {text}");
    for expected in expected {
        assert!(text.contains(expected), "{what}: `{expected}` is not in:\n{text}");
    }
    assert!(text.len() < 10_000, "{what}: a message of {} bytes", text.len());
}

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {namespace: default, name: web}\nspec:\n  \
                       clusterIP: 10.96.0.10\n  ports:\n    - {name: main, port: 80}\n";

/// What, the text, and the line and column that are to be named; 0 where the file as a whole is meant.
const CLUSTER: &[(&str, &str, (usize, usize))] = &[
    (
        "a wrong key",
        "apiVersion: levee.dev/v1alpha1\nkind: AddressPool\nmetadata: {name: a}\nspec:\n  adresses: []\n",
        (5, 3),
    ),
    (
        "a wrong type",
        "apiVersion: v1\nkind: Service\nmetadata: {namespace: d, name: w}\nspec:\n  ports: eighty\n",
        (5, 10),
    ),
    (
        "a wrong address",
        "apiVersion: v1\nkind: Service\nmetadata: {namespace: d, name: w}\nspec:\n  clusterIP: 10.96.0.300\n  ports:\n    - {port: 80}\n",
        (5, 14),
    ),
    ("a truncated file", "apiVersion: v1\nkind: Service\nmetadata: {namespace: default, name: \"we", (3, 0)),
];

#[test]
fn levee_check_refuses_bad_clusters() {
    let files = Files::new("cluster");
    for (what, text, (line, column)) in CLUSTER {
        let file = files.write("bad.yaml", text.as_bytes());
        let place = if *column == 0 { format!("bad.yaml:{line}") } else { format!("bad.yaml:{line}:{column}:") };
        assert_refused(&run("levee", &["check"], &file), &[place], what);
    }
    let good = files.write("bad.yaml", SERVICE.as_bytes());
    let output = run("levee", &["check"], &good);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn two_services_with_one_address_and_port_are_refused_with_both_named() {
    let files = Files::new("twice");
    let file =
        files.write("twice.yaml", format!("{SERVICE}---\n{}", SERVICE.replace("name: web", "name: other")).as_bytes());
    let expected = ["twice.yaml:", "10.96.0.10", "web", "other"].map(str::to_owned);
    assert_refused(&run("levee", &["check"], &file), &expected, "one address and port");
}

#[test]
fn huge_and_binary_files_are_refused_soon_and_in_few_words() {
    let files = Files::new("huge");
    let binary_file = files.write("binary.yaml", &fs::read(binary("levee")).expect("it was built")[..100_000]);
    // A hundred megabytes, of which the disk holds none.
    let huge = files.write("huge.yaml", b"");
    fs::File::options()
        .write(true)
        .open(&huge)
        .and_then(|file| file.set_len(100_000_000))
        .expect("files can be sparse");
    for file in [&binary_file, &huge] {
        let name = file.file_name().expect("it has one").to_string_lossy().into_owned();
        let start = std::time::Instant::now();
        for (program, arguments) in [
            ("levee", &["check"][..]),
            ("levee-dataplane", &["--check", "--config"]),
            ("levee-control", &["--check", "--config"]),
        ] {
            assert_refused(&run(program, arguments, file), std::slice::from_ref(&name), program);
        }
        assert!(start.elapsed().as_secs() < 10, "{name} took {:?}", start.elapsed());
    }
}

#[test]
fn the_dataplane_refuses_bad_configurations() {
    let files = Files::new("dataplane");
    for (what, text, place) in [
        ("a wrong key", "ports:\n  - interface: lo\n    roll: uplink\nworkers: [0]\n", "bad.yaml:3:5:"),
        (
            "a duplicate interface",
            "ports:\n  - {interface: lo, role: uplink}\n  - {interface: lo, role: uplink}\nworkers: [0]\n",
            "bad.yaml:3:",
        ),
        ("a missing interface", "ports:\n  - interface: nonesuch0\n    role: uplink\nworkers: [0]\n", "bad.yaml:2:16:"),
        (
            "a port without queues",
            "ports:\n  - interface: lo\n    role: uplink\n    queues: []\nworkers: [0]\n",
            "bad.yaml:4:13:",
        ),
        (
            "a core that does not exist",
            "ports:\n  - interface: lo\n    role: uplink\nworkers: [100000]\n",
            "bad.yaml:4:11:",
        ),
    ] {
        let file = files.write("bad.yaml", text.as_bytes());
        let output = run("levee-dataplane", &["--check", "--config"], &file);
        assert_refused(&output, &[place.to_owned(), "help:".to_owned()], what);
    }
}

#[test]
fn control_refuses_bad_configurations() {
    let files = Files::new("control");
    for (what, text, place) in [
        ("a wrong key", "sources:\n  - path: /tmp\nrolle: node\n", "bad.yaml:3:1:"),
        ("a wrong role", "sources:\n  - path: /tmp\nrole: noode\n", "bad.yaml:3:7:"),
        ("a truncated file", "sources: [{path: /tm", "bad.yaml:1"),
    ] {
        let file = files.write("bad.yaml", text.as_bytes());
        assert_refused(&run("levee-control", &["--check", "--config"], &file), &[place.to_owned()], what);
    }
}
