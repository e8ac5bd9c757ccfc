//! The command line: two processes in two namespaces, and what it says of mistakes.

use std::process::{Command, Stdio};

use levee_tests::Lab;

const PKTGEN: &str = env!("CARGO_BIN_EXE_pktgen");

#[test]
fn one_sends_and_the_other_counts() {
    let Some(lab) = Lab::start() else { return };
    let (source, sink) = (lab.namespace("source"), lab.namespace("sink"));
    source.ip(&format!("link add g0 type veth peer name s0 netns {}", sink.name()));
    source.ip("link set g0 up");
    sink.ip("link set s0 up");
    let receive = |expected: &str| {
        let mut command = sink.command(PKTGEN);
        command.args(["receive", "--in", "s0", "--seconds", "4", "--json", "--expect", expected]);
        command.stdout(Stdio::piped()).spawn().unwrap()
    };
    let send = || {
        // Until the other has attached its program; without one the wire takes nothing.
        std::thread::sleep(std::time::Duration::from_millis(1500));
        let mut command = source.command(PKTGEN);
        command.args([
            "send",
            "--out",
            "g0",
            "--to-mac",
            "02:00:00:00:00:02",
            "--to",
            "10.96.0.1:80",
            "--to",
            "[2001:db8::1]:80",
        ]);
        command.args([
            "--frames",
            "2000",
            "--rate",
            "5000",
            "--syn",
            "0.5",
            "--stamp-every",
            "4",
            "--catch-up",
            "5000",
            "--json",
        ]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    for (expected, lost, status) in [("2000", 0, 0), ("2500", 500, 1)] {
        let receiver = receive(expected);
        let sent = send();
        let output = receiver.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [received, verdict] = lines.as_slice() else { panic!("{text}") };
        assert_eq!((&sent["frames"], &received["frames"]), (&2000.into(), &2000.into()), "{text}");
        assert_eq!((&sent["begun"], &sent["stamps"]), (&received["syns"], &received["stamps"]), "{sent} {text}");
        assert_eq!(received["latency_ns"]["samples"], received["stamps"]);
        assert_eq!((&verdict["lost"], output.status.code()), (&lost.into(), Some(status)), "{text}");
    }
}

#[test]
fn mistakes_are_named() {
    let send = ["send", "--out", "lo", "--to-mac", "02:00:00:00:00:02", "--to", "10.96.0.1:80"];
    for (more, expected) in [
        (&["--size", "63"][..], "sizes: expected 64 to 1518 bytes"),
        (&["--size", "imax"], "expected bytes, `imix`"),
        (&["--rate", "0"], "rate: expected 1 to 1e9"),
        (&["--syn", "2"], "syn: expected a share"),
        (&["--seconds", "nan"], "time: expected seconds"),
        (&["--stamp-every", "8"], "expected a rate as well"),
        (&["--from", "2001:db8::/64", "--from", "198.18.0.0/30"], "has no room for 16 clients"),
    ] {
        let output = Command::new(PKTGEN).args(send).args(more).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{more:?}: {said}");
        assert!(said.contains(expected), "{more:?}: {said}");
    }
}
