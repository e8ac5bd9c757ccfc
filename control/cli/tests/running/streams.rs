//! What goes on until it is interrupted.

use crate::double::flow;
use crate::server::Dataplane;

#[test]
fn events_are_followed() {
    let dataplane = Dataplane::start();
    let mut following = dataplane.follow(&["events", "--follow"]);
    assert!(following.line().contains("Z  started          it is a double"));
    let file = dataplane.directory.file("program.yaml", "generation: 5");
    dataplane.prints(&["program", "apply", &file]);
    assert!(following.line().ends_with("programmed       generation 5"));
    let mut following = dataplane.follow(&["events", "--follow", "-o", "json"]);
    for kind in ["started", "programmed"] {
        let event: serde_json::Value = serde_json::from_str(&following.line()).expect("a line of JSON");
        assert_eq!(event["kind"], kind);
    }
}

#[test]
fn changes_of_flows_are_followed() {
    let dataplane = Dataplane::start();
    let mut following = dataplane.follow(&["flow", "watch", "--interval", "100ms"]);
    let line = |mark: &str, port: u16, state: &str| {
        format!("{mark} tcp 198.51.100.7:{port} > 192.0.2.80:80 > 10.244.1.10:8080  {state}  nat  default/web:http")
    };
    assert_eq!(following.line(), line("=", 40_000, "established"));
    assert_eq!(following.line(), line("=", 40_001, "established"));
    dataplane.double.flows.lock().expect("lock").push(flow(40_002));
    assert_eq!(following.line(), line("+", 40_002, "established"));
    dataplane.double.flows.lock().expect("lock")[0].state = "closing".into();
    assert_eq!(following.line(), line("~", 40_000, "closing"));
    dataplane.double.flows.lock().expect("lock").remove(0);
    assert_eq!(following.line(), line("-", 40_000, "closing"));
}

#[test]
fn changes_of_flows_are_lines_of_json() {
    let dataplane = Dataplane::start();
    let mut following = dataplane.follow(&["flow", "watch", "--client", "198.51.100.7", "-o", "json"]);
    let change: serde_json::Value = serde_json::from_str(&following.line()).expect("a line of JSON");
    assert_eq!((&change["change"], &change["flow"]["client"]), (&"present".into(), &"198.51.100.7:40000".into()));
}

#[test]
fn lists_are_shown_again_and_again() {
    let dataplane = Dataplane::start();
    let mut following = dataplane.follow(&["drops", "--watch", "100ms"]);
    for _ in 0..3 {
        assert_eq!(following.line(), "REASON  FRAMES  MEANING");
        assert_eq!(following.line(), "runt    2       It is a runt.");
    }
    let mut following = dataplane.follow(&["vip", "list", "-w", "-o", "json"]);
    assert_eq!(following.line(), "[");
}

#[test]
fn who_watches_sees_a_daemon_come_back() {
    let dataplane = Dataplane::start();
    let socket = dataplane.directory.path("dataplane.sock");
    let away = dataplane.directory.path("away.sock");
    let mut following = dataplane.follow(&["drops", "--watch", "100ms"]);
    assert_eq!(following.line(), "REASON  FRAMES  MEANING");
    std::fs::rename(&socket, &away).expect("moved");
    while !following.line().contains("there is no such socket") {}
    std::fs::rename(&away, &socket).expect("moved back");
    while following.line() != "REASON  FRAMES  MEANING" {}
}
