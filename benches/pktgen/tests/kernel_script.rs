//! `scripts/pktgen-kernel`: what it would write, what it refuses, and what a linter says of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/pktgen-kernel")
}

fn run(words: &[&str]) -> Output {
    Command::new(script()).args(words).output().expect("bash can be run")
}

const USUAL: [&str; 6] = ["--device", "eth1", "--to-mac", "02:00:00:00:00:01", "--to", "10.96.0.1"];

/// What it would write, without where: `FILE < LINE`.
fn would_write(more: &[&str]) -> Vec<String> {
    let output = run(&[&USUAL, more, &["--dry-run"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.replace("/proc/net/pktgen/", "")).collect()
}

#[test]
fn one_core_by_hand() {
    let expected = "\
pgctrl < reset
kpktgend_0 < add_device eth1@0
eth1@0 < count 0
eth1@0 < clone_skb 0
eth1@0 < burst 32
eth1@0 < pkt_size 60
eth1@0 < dst_mac 02:00:00:00:00:01
eth1@0 < dst_min 10.96.0.1
eth1@0 < dst_max 10.96.0.1
eth1@0 < src_min 198.18.0.0
eth1@0 < src_max 198.18.3.255
eth1@0 < udp_src_min 1024
eth1@0 < udp_src_max 1024
eth1@0 < udp_dst_min 80
eth1@0 < udp_dst_max 80
eth1@0 < flag UDPCSUM
eth1@0 < flag NO_TIMESTAMP
eth1@0 < queue_map_min 0
eth1@0 < queue_map_max 0
pgctrl < start
sleep 10
pgctrl < stop
result: eth1@0";
    assert_eq!(would_write(&[]).join("\n"), expected);
}

#[test]
fn cores_share_flows_and_rate_and_have_a_queue_each() {
    let lines =
        would_write(&["--cores", "2,5,7", "--flows", "131072", "--rate", "3000001", "--size", "1518", "--burst", "1"]);
    let of = |core: &str, what: &str| {
        let start = format!("eth1@{core} < {what} ");
        let found: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix(&start)).collect();
        assert_eq!(found.len(), 1, "{start}: {found:?}");
        found[0].to_owned()
    };
    let ranges: Vec<_> = ["2", "5", "7"].iter().map(|core| (of(core, "src_min"), of(core, "src_max"))).collect();
    assert_eq!(ranges[0], ("198.18.0.0".into(), "198.18.170.169".into()));
    assert_eq!(ranges[1], ("198.18.170.170".into(), "198.19.85.84".into()));
    assert_eq!(ranges[2], ("198.19.85.85".into(), "198.19.255.255".into()));
    for (queue, core) in ["2", "5", "7"].into_iter().enumerate() {
        assert_eq!(
            (of(core, "ratep"), of(core, "pkt_size"), of(core, "burst")),
            ("1000000".into(), "1514".into(), "1".into())
        );
        assert_eq!((of(core, "queue_map_min"), of(core, "queue_map_max")), (queue.to_string(), queue.to_string()));
    }
}

#[test]
fn over_ipv6_flows_are_ports() {
    let lines = would_write(&["--to", "2001:db8::1", "--flows", "1000"]);
    for line in ["dst6 2001:db8::1", "src6 2001:2::1", "udp_src_min 1024", "udp_src_max 2024", "pkt_size 78"] {
        assert!(lines.contains(&format!("eth1@0 < {line}")), "{line}: {lines:#?}");
    }
    assert!(!lines.iter().any(|line| line.contains("src_min 198")), "{lines:#?}");
}

#[test]
fn what_makes_no_sense_is_refused_and_nothing_is_written() {
    for (words, expected) in [
        (vec![], "--device: which interface"),
        (vec!["--device", "../eth1"], "no name of an interface"),
        (vec!["--device", "eth1"], "--to-mac: expected six pairs"),
        ([&USUAL[..], &["--to-mac", "02:00"]].concat(), "--to-mac: expected six pairs"),
        ([&USUAL[..], &["--to", "10.96.0.256"]].concat(), "--to: expected an IPv4 or IPv6 address"),
        ([&USUAL[..], &["--to", "web.example"]].concat(), "--to: expected an IPv4 or IPv6 address"),
        ([&USUAL[..], &["--flows", "131073"]].concat(), "--flows: expected a number from 1 to 131072"),
        ([&USUAL[..], &["--size", "63"]].concat(), "--size: expected a number from 64"),
        ([&USUAL[..], &["--rate", "many"]].concat(), "--rate: expected a number"),
        ([&USUAL[..], &["--rate", "1", "--cores", "1,2"]].concat(), "less than one for each"),
        ([&USUAL[..], &["--cores", "1,1"]].concat(), "is there twice"),
        ([&USUAL[..], &["--cores", "1;reboot"]].concat(), "--cores: expected numbers"),
        ([&USUAL[..], &["--seconds"]].concat(), "--seconds wants a value"),
        ([&USUAL[..], &["--syn", "1"]].concat(), "unexpected `--syn`"),
    ] {
        let words = [words, vec!["--dry-run"]].concat();
        // A value that is missing takes the next word for one; then that is what is wrong.
        let words = if expected.starts_with("--seconds wants") { words[..words.len() - 1].to_vec() } else { words };
        let output = run(&words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
        assert!(said.contains(expected), "{words:?}: {said}");
        assert!(output.stdout.is_empty(), "{words:?}");
    }
}

#[test]
fn a_machine_that_cannot_is_told_why() {
    let output = run(&["--device", "lo", "--to-mac", "02:00:00:00:00:01", "--to", "10.96.0.1"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    // As another user it does not come so far.
    assert!(said.contains("is no NIC but virtual") || said.contains("needs root"), "{said}");
}

#[test]
fn help_is_its_manual() {
    let output = run(&["--help"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.starts_with("Drives Linux's own packet generator"), "{text}");
    assert!(!text.contains("set -euo"), "{text}");
}

#[test]
fn shellcheck_has_no_complaint() {
    match Command::new("shellcheck").arg(script()).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
        Err(error) => eprintln!("SKIPPED: shellcheck cannot be run: {error}"),
    }
}
