//! `levee check`: what is right is said to be, and each kind of bad input has its place, what was expected, what to do, and
//! exit status 2.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

/// A directory of its own for a test, gone with it.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("levee-check-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Directory(path)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, content).expect("written");
        path.display().to_string()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn check<A: AsRef<std::ffi::OsStr>>(arguments: &[A]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_levee")).arg("check").args(arguments).output().expect("levee runs")
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The content is wrong at a place (`LINE:COLUMN`, or nothing for the file as a whole), with these words.
#[track_caller]
fn is_wrong(content: impl AsRef<[u8]>, place: &str, words: &[&str]) {
    let directory = Directory::new();
    let file = directory.file("input", content);
    let output = check(&[&file]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    let place = if place.is_empty() { String::new() } else { format!("{place}:") };
    assert!(said.lines().any(|line| line.starts_with(&format!("{file}:{place} "))), "not at `{place}`: {said}");
    for word in words {
        assert!(said.contains(word), "no `{word}` in: {said}");
    }
    assert!(said.contains("\n  help: ") || said.contains("expected"), "nothing to do in: {said}");
}

const DATAPLANE: &str = "\
ports:
  - interface: eth0
    role: uplink
  - interface: levee0
    role: pods
workers: [2]
";

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {namespace: default, name: web}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.10
  ports: [{name: http, port: 80}]
status: {loadBalancer: {ingress: [{ip: 192.0.2.80}]}}
";

const SLICE: &str = "\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: default, name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
  - addresses: [10.244.1.10]
";

#[test]
fn what_we_ship_is_right() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let configs: Vec<_> = std::fs::read_dir(root.join("configs"))
        .expect("configs")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    assert!(configs.len() >= 2, "{configs:?}");
    for path in configs.iter().chain(&[root.join("tests/fixtures/cluster")]) {
        let output = check(&[path]);
        assert!(output.status.success(), "{}: {}", path.display(), said(&output));
        assert!(printed(&output).ends_with(": ok\n"), "{}", printed(&output));
    }
}

#[test]
fn every_kind_of_file_is_known_by_its_content() {
    let directory = Directory::new();
    let files = [
        directory.file("a", DATAPLANE),
        directory.file("b", "sources: [{path: /etc/levee/cluster.d}]\nnode: node-1\n"),
        directory.file("c", "{\"generation\": 1, \"services\": []}"),
        directory.file("d", format!("{SERVICE}---\n{SLICE}")),
        directory.file(
            "e",
            "apiVersion: levee.dev/v1alpha1\nkind: AddressPool\nmetadata: {name: pool}\nspec: {addresses: [192.0.2.0/24]}\n",
        ),
    ];
    let output = check(&files);
    assert!(output.status.success(), "{}", said(&output));
    let kinds =
        ["dataplane configuration", "control configuration", "program", "Kubernetes objects", "Kubernetes objects"];
    let expected: String = files.iter().zip(kinds).map(|(file, kind)| format!("{file}: {kind}: ok\n")).collect();
    assert_eq!(printed(&output), expected);
}

#[test]
fn directories_and_standard_input_are_read() {
    let directory = Directory::new();
    directory.file("web.yaml", SERVICE);
    directory.file("slices.json", "{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": []}");
    directory.file("notes.txt", "not ours");
    let output = check(&[&directory.0]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(printed(&output).lines().count(), 2, "{}", printed(&output));

    let mut child = Command::new(env!("CARGO_BIN_EXE_levee"))
        .args(["check", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("levee runs");
    child.stdin.take().expect("a pipe").write_all(b"ports: []\nworkers: [1]\n").expect("written");
    let output = child.wait_with_output().expect("ended");
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).starts_with("<stdin>:1:8: "), "{}", said(&output));
}

#[test]
fn programs_get_one_object() {
    let directory = Directory::new();
    let right = directory.file("right", DATAPLANE);
    let wrong = directory.file("wrong", "ports: []\nworkers: [2]\n");
    let output = check(&[&right, &wrong, &"-o".to_owned(), &"json".to_owned()]);
    assert_eq!(output.status.code(), Some(2));
    let findings: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(findings["ok"], json!(false));
    assert_eq!(findings["files"], json!([{"file": right, "kind": "dataplane"}, {"file": wrong, "kind": "dataplane"}]));
    let mistake = &findings["mistakes"][0];
    assert_eq!((&mistake["file"], &mistake["line"], &mistake["column"]), (&json!(wrong), &json!(1), &json!(8)));
    assert!(said(&output).is_empty(), "{}", said(&output));
}

#[test]
fn what_is_not_wrong_but_worth_telling_is_told() {
    let directory = Directory::new();
    let file = directory
        .file("web.yaml", SERVICE.replace("type: LoadBalancer", "type: LoadBalancer\n  externalIPs: [192.0.2.9]"));
    let output = check(&[&file]);
    assert!(output.status.success());
    assert!(said(&output).contains("note: Service default/web: `externalIPs`"), "{}", said(&output));
}

#[test]
fn all_mistakes_of_all_files_are_told() {
    let directory = Directory::new();
    let files = [
        directory.file("a", "ports: []\nworkers: [2, 2]\n"),
        directory.file("b", SERVICE.replace("10.96.0.10", "10.96.0.300")),
        directory.file("c", DATAPLANE),
        "/nowhere/d".to_owned(),
    ];
    let output = check(&files);
    assert_eq!(output.status.code(), Some(2));
    for place in [
        format!("{}:1:8: ", files[0]),
        format!("{}:2:14: ", files[0]),
        format!("{}:6:14: ", files[1]),
        "/nowhere/d: ".into(),
    ] {
        assert!(said(&output).lines().any(|line| line.starts_with(&place)), "{place}: {}", said(&output));
    }
    assert_eq!(printed(&output), format!("{}: dataplane configuration: ok\n", files[2]));
}

// --- Bad input, kind by kind -----------------------------------------------------------------------------------------

#[test]
fn a_wrong_key() {
    is_wrong(
        DATAPLANE.replace("interface: eth0", "interfaces: eth0"),
        "2:5",
        &["`interfaces`", "did you mean `interface`?"],
    );
    is_wrong(format!("{DATAPLANE}time_outs: {{}}\n"), "7:1", &["`time_outs`", "did you mean `timeouts`?"]);
    is_wrong("sources: [{paths: /x}]\n", "1:12", &["`paths`", "did you mean `path`?"]);
    is_wrong("generation: 1\nservice: []\n", "2:1", &["`service`"]);
    is_wrong(
        SERVICE.replace("  type: LoadBalancer", "  externalTrafficPolcy: Local\n  type: LoadBalancer"),
        "5:3",
        &["`externalTrafficPolcy`", "did you mean `externalTrafficPolicy`?"],
    );
    is_wrong(SERVICE.replace("port: 80", "protcol: UDP, port: 80"), "7:24", &["did you mean `protocol`?"]);
    is_wrong(SERVICE.replace("kind: Service", "kind: Servce"), "2:7", &["`Servce`", "did you mean `Service`?"]);
    let annotated = SERVICE.replace("name: web}", "name: web, annotations: {levee.dev/mdoe: dsr}}");
    is_wrong(annotated, "3:57", &["`levee.dev/mdoe`", "did you mean `levee.dev/mode`?"]);
}

#[test]
fn a_wrong_type() {
    is_wrong(DATAPLANE.replace("workers: [2]", "workers: two"), "6:10", &["two"]);
    is_wrong(DATAPLANE.replace("workers: [2]", "workers: [two]"), "6:11", &["two"]);
    is_wrong(SERVICE.replace("port: 80", "port: http"), "7:30", &["http"]);
    is_wrong(SERVICE.replace("port: 80", "port: 65536"), "7:30", &["65536"]);
    is_wrong("generation: one\n", "1:13", &["one"]);
}

#[test]
fn a_wrong_address() {
    is_wrong(format!("{DATAPLANE}snat: [{{address: 192.0.2.256}}]\n"), "7:18", &["192.0.2.256"]);
    is_wrong(SERVICE.replace("10.96.0.10", "10.96.0"), "6:14", &["10.96.0"]);
    is_wrong(SLICE.replace("10.244.1.10", "10.244.1.10:80"), "7:17", &["10.244.1.10:80"]);
    is_wrong("sources: [{path: /x}]\nservice_cidrs: [10.96.0.1/16]\n", "2:17", &["10.96.0.1/16", "10.96.0.0/16"]);
}

#[test]
fn a_doubled_or_missing_interface() {
    is_wrong(DATAPLANE.replace("levee0", "eth0"), "4:16", &["eth0"]);
    is_wrong(DATAPLANE.replace("interface: eth0\n    ", ""), "2:5", &["interface"]);
}

#[test]
fn a_port_without_queues() {
    is_wrong(DATAPLANE.replace("role: uplink", "role: uplink\n    queues: []"), "4:13", &["queue"]);
}

#[test]
fn a_core_that_no_machine_has() {
    is_wrong(DATAPLANE.replace("[2]", "[99999]"), "6:11", &["99999"]);
}

#[test]
fn what_this_machine_does_not_have() {
    let directory = Directory::new();
    let file = directory.file("input", DATAPLANE.replace("eth0", "nosuch0").replace("[2]", "[1000]"));
    // It may be meant for another machine.
    assert!(check(&[&file]).status.success());
    let output = check(&["--here", &file]);
    assert_eq!(output.status.code(), Some(2));
    for words in [":2:16: this machine has no interface `nosuch0`", ":6:11: ", "1000", "help: "] {
        assert!(said(&output).contains(words), "no `{words}` in: {}", said(&output));
    }
}

#[test]
fn two_services_with_one_address_and_port() {
    let other = SERVICE.replace("name: web", "name: other").replace("10.96.0.10", "10.96.0.11");
    is_wrong(format!("{SERVICE}---\n{other}"), "8:40", &["192.0.2.80", "default/other", "default/web"]);
    // In two files, too.
    let directory = Directory::new();
    let files = [directory.file("a.yaml", SERVICE), directory.file("b.yaml", other)];
    let output = check(&files);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("192.0.2.80"), "{}", said(&output));
}

#[test]
fn an_endpoint_outside_of_its_family() {
    is_wrong(SLICE.replace("10.244.1.10", "'fd00::1'"), "7:17", &["fd00::1", "IPv4"]);
    is_wrong(SLICE.replace("IPv4", "IPv5"), "4:14", &["IPv5"]);
}

#[test]
fn a_truncated_file() {
    let (start, _) = DATAPLANE.split_at(DATAPLANE.find("uplink").expect("there") - 2);
    is_wrong(start, "3:5", &["cut off?"]);
    is_wrong("ports: [{interface: eth0, role: upl", "1:9", &["cut off?"]);
    is_wrong("{\"generation\": 1, \"services\": [", "1:31", &["cut off?"]);
}

#[test]
fn a_huge_file() {
    // 100 MB of what could be YAML, and of nothing at all: neither is read whole.
    let directory = Directory::new();
    let path = directory.0.join("huge.yaml");
    let file = std::fs::File::create(&path).expect("created");
    file.set_len(100_000_000).expect("a hole");
    let started = std::time::Instant::now();
    let output = check(&[&path]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("the file is larger than 16 MiB, and was not read"), "{}", said(&output));
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
    is_wrong("# much ado\n".repeat(10_000_000), "", &["larger than 16 MiB"]);
}

#[test]
fn a_binary_file() {
    let binary = std::fs::read(env!("CARGO_BIN_EXE_levee")).expect("this binary");
    is_wrong(binary.get(..100_000).expect("long enough"), "1:8", &["this is not text", "is this the right file?"]);
    is_wrong(b"ports:\n  - \xff\xfe\n", "2:5", &["byte 0xff is not UTF-8"]);
}

#[test]
fn nothing_of_ours() {
    is_wrong("", "", &["no content"]);
    is_wrong("# a comment\n---\n", "", &["no content"]);
    is_wrong("name: ci\non: [push]\n", "1:1", &["`name`", "dataplane configuration"]);
    is_wrong("- a\n- b\n", "1:1", &["a mapping"]);
    is_wrong("apiVersion: v1\nmetadata: {name: web}\n", "1:1", &["`kind` is missing"]);
    is_wrong("apiVersion: levee.dev/v1\nkind: AddressPool\n", "1:13", &["levee.dev/v1alpha1"]);
}

#[test]
fn a_file_that_cannot_be_read() {
    let directory = Directory::new();
    let output = check(&[&directory.0]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("no file here whose name ends in .yaml, .yml or .json"), "{}", said(&output));
    // A bomb of aliases ends early.
    let bomb: String = (1..40).map(|n| format!("a{n}: &a{n} [{}]\n", format!("*a{},", n - 1).repeat(9))).collect();
    let file = directory.file("bomb.yaml", format!("a0: &a0 [1]\n{bomb}"));
    let output = check(&[&file]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("limits for nesting, nodes or aliases"), "{}", said(&output));
}
