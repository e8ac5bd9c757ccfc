//! A daemon that is not there, or not what it should be: exit status 1, the socket's name, and what to do.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Output;

use crate::server::{Directory, http, levee_at, said, say_once};

fn ask(socket: &Path, arguments: &[&str]) -> Output {
    levee_at(socket, Path::new("/nowhere/control.sock"), arguments).output().expect("levee runs")
}

/// Every command that needs the dataplane.
const COMMANDS: [&[&str]; 13] = [
    &["vip", "list"],
    &["backend", "list"],
    &["backend", "draining"],
    &["tunnel", "list"],
    &["flow", "list"],
    &["flow", "watch"],
    &["flow", "flush", "--all"],
    &["neigh", "list"],
    &["port", "list"],
    &["drops"],
    &["counters"],
    &["events", "--follow"],
    &["explain", "--packet", "icmp 192.0.2.7 > 10.96.0.1"],
];

#[test]
fn no_daemon() {
    let directory = Directory::new();
    let socket = directory.path("none.sock");
    for command in COMMANDS.iter().chain(&[&["program", "get"][..]]) {
        let output = ask(&socket, command);
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        let name = socket.display();
        assert!(said(&output).starts_with(&format!("levee: {name}: there is no such socket\n")), "{}", said(&output));
        assert!(said(&output).contains("levee-dataplane is not running"), "{}", said(&output));
        assert!(output.stdout.is_empty());
    }
    let output = ask(&socket, &["status"]);
    assert_eq!(output.status.code(), Some(1));
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("dataplane   cannot be asked: ") && printed.contains("control     cannot"), "{printed}");
}

#[test]
fn a_socket_that_a_dead_daemon_left() {
    let directory = Directory::new();
    let socket = directory.path("stale.sock");
    drop(UnixListener::bind(&socket).expect("bound"));
    let output = ask(&socket, &["vip", "list"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("nobody listens on this socket"), "{}", said(&output));
    assert!(said(&output).contains("journalctl -u levee-dataplane"), "{}", said(&output));
}

#[test]
fn not_a_socket() {
    let directory = Directory::new();
    directory.file("file", "");
    let output = ask(&directory.path("file"), &["vip", "list"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("help: "), "{}", said(&output));
}

#[test]
fn another_program_listens() {
    for (answer, told) in [
        ("SSH-2.0-OpenSSH_9.9\r\n".to_owned(), "the answer broke off"),
        (http("200 OK", "{}"), "the answer is not the one expected"),
        (http("200 OK", "[{\"address\": 1}]"), "the answer is not the one expected"),
        (http("404 Not Found", "<html>"), "refused with 404 Not Found"),
        (http("403 Forbidden", "{\"error\": \"this user may read, not program\"}"), "this user may read, not program"),
        (http("503 Service Unavailable", "{\"error\": \"no room\"}"), "no room\n  help: try again in a moment"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n[".to_owned(), "the answer broke off"),
        (String::new(), "the answer broke off"),
    ] {
        let directory = Directory::new();
        let socket = directory.path("other.sock");
        let server = say_once(&socket, answer.clone());
        let output = ask(&socket, &["vip", "list"]);
        assert_eq!(output.status.code(), Some(1), "{answer}");
        assert!(said(&output).contains(told), "{answer}: {}", said(&output));
        server.join().expect("asked");
    }
}

#[test]
fn a_stream_that_breaks_off_is_no_success() {
    let directory = Directory::new();
    let socket = directory.path("cut.sock");
    let server = say_once(&socket, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"time\": 1, \"kind\": \"star");
    let output = ask(&socket, &["events"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("in the middle of a line"), "{}", said(&output));
    server.join().expect("asked");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let output = std::process::Command::new("sh")
        .args(["-c", "\"$1\" completions bash | head -n 1", "sh", env!("CARGO_BIN_EXE_levee")])
        .output()
        .expect("sh runs");
    assert!(said(&output).is_empty(), "{}", said(&output));
}
