use std::time::Duration;

use serde_json::json;

use crate::growth::Size;
use crate::peers::{Machine, Pause, Pipeline, Results, Row};
use crate::throughput::{Plan, Score};

fn score(arrived: f64) -> Score {
    Score { arrived, sent: 5.0, core: None, busy: 1.0 }
}

fn row(key: &str, name: &str, arrived: &[f64]) -> Row {
    Row { key: key.into(), name: name.into(), scores: arrived.iter().copied().map(score).collect() }
}

fn results() -> Results {
    Results {
        machine: Machine {
            processor: "a processor".into(),
            cores: 2,
            kernel: "6.18".into(),
            commit: "abc".into(),
            command: "it".into(),
        },
        plan: Plan { rounds: 3, window: Duration::from_secs(2), source: 0, forwarder: 1 },
        services: vec![1],
        rows: vec![
            row("bounce", "bounce", &[1.0, 1.0, 2.0]),
            row("levee_nat_1", "levee, nat", &[0.98, 0.99, 1.0]),
            row("linux_nftables_1", "nftables", &[0.5, 0.5, 0.6]),
        ],
        missing: vec![("dpdk_testpmd".into(), "testpmd".into(), "is missing\nand more".into())],
        tenth: 0.0,
        times: Vec::new(),
        floods: Vec::new(),
        changes: None,
        idle: Vec::new(),
        per_flow: None,
        pipeline: Pipeline::default(),
        pauses: Vec::new(),
    }
}

#[test]
fn ratios_are_those_of_the_same_round() {
    let ratio = results().ratio("levee_nat_1", "bounce").unwrap();
    assert_eq!((ratio.median, ratio.least, ratio.most), (0.98, 0.5, 0.99));
}

#[test]
fn the_better_of_two_is_the_one_to_be_measured_against() {
    let mut results = results();
    results.rows.push(row("linux_nftables_1_inline", "nftables, where it receives", &[0.6, 0.7, 0.5]));
    let keys = ["linux_nftables_1", "linux_nftables_1_inline"];
    assert_eq!(results.best(&keys), "linux_nftables_1_inline");
    assert_eq!(results.best(&["nobody", "linux_nftables_1"]), "linux_nftables_1");
    assert_eq!(results.best(&["nobody", "else"]), "nobody");
    assert!(results.markdown().contains("| levee, nat ÷ nftables, where it receives | 1.63 |"));
}

#[test]
fn who_had_half_of_its_core_is_measured_for_that_half() {
    let mut results = results();
    results.rows[1].scores = vec![Score { arrived: 0.5, sent: 5.0, core: Some(0.5), busy: 1.0 }; 3];
    assert_eq!(results.ratio("levee_nat_1", "bounce").unwrap().most, 1.0);
}

#[test]
fn a_missing_peer_is_no_failure_of_ours_but_anything_else_without_a_figure_is() {
    let failures = results().failures();
    assert!(!failures.iter().any(|failure| failure.contains("testpmd")), "{failures:?}");
    assert!(!failures.iter().any(|failure| failure.contains("levee, nat ÷ bounce")), "{failures:?}");
    assert!(failures.iter().any(|failure| failure.contains("levee_mac_rewriting") && failure.contains("no figure")));
    assert!(failures.iter().any(|failure| failure.contains("established flows") && failure.contains("no figure")));
}

#[test]
fn what_is_told_says_who_was_left_out_and_why() {
    let text = results().markdown();
    assert!(text.contains("| testpmd | SKIPPED: is missing |"), "{text}");
    assert!(text.contains("| levee, nat ÷ nftables | 1.96 |"), "{text}");
    let json = results().json();
    let bars = json["bars"].as_array().unwrap();
    let bar = |what: &str| bars.iter().find(|bar| bar["what"] == what).unwrap();
    assert_eq!(bar("levee, nat ÷ bounce")["met"], true);
    assert_eq!(bar("a packet of an established flow")["met"], false);
    assert_eq!(json["throughput"]["bounce"]["mpps"]["median"], 1.0);
    assert_eq!(json["skipped"]["dpdk_testpmd"], "is missing\nand more");
}

#[test]
fn what_was_measured_over_memory_is_held_against_its_bars() {
    let figures = json!([
        { "name": "pipeline/nat, 10000000 flows", "ns": 91.0 },
        { "name": "pipeline, new flows/nat, room", "ns": 149.9 },
        { "name": format!("growth/{}", Size::LEAST), "ns": 25.0, "least": 24.0, "most": 30.0 },
        { "name": format!("growth/{}", Size::MOST), "ns": 75.0, "least": 60.0, "most": 96.0 },
    ]);
    let pipeline = Pipeline::read(&figures, &json!({ "nat": 300 }));
    let results = Results { pipeline, per_flow: Some(64.1), ..results() };
    let text = results.markdown();
    for row in [
        "| over memory, nat, 1,000 established flows: a packet | not measured | – | ≤ 35.0 ns | not measured |",
        "| over memory, nat, 10 M established flows: a packet | 91.0 ns | – | ≤ 90.0 ns | **missed** |",
        "| over memory, nat, new flows only, room: a packet | 149.9 ns | – | ≤ 150.0 ns | met |",
        "| a packet of an established flow | 300 instructions | – | ≤ 300 instructions | met |",
        "| over memory, nat, a packet: 100,000 Services, 1 M backends, 10 M flows ÷ 1 Service, 1 backend, 1 flow \
         | 3.00 | 2.00–4.00 | ≤ 3.00 | met |",
        "| memory of room for a flow of IPv4 | 64.1 B | – | ≤ 64.0 B | **missed** |",
        "| 100,000 | 1 M | 10 M | 75.0 | 60.0–96.0 | 3.00 |",
    ] {
        assert!(text.contains(row), "{row} is not in\n{text}");
    }
    let names: Vec<_> = results.plots().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["throughput-by-services.svg", "ns-by-flows.svg"]);
}

#[test]
fn the_longest_turn_of_all_scenes_is_held_against_its_bar() {
    let pause =
        |scene, longest: f64| Pause { scene, turns: [vec![7.0; 10], vec![8.0, longest]].concat(), seen: 4000.0 };
    let told = |of: [f64; 2]| {
        let pauses = vec![pause("room", of[0]), pause("a full table", of[1])];
        let results = Results { pauses, ..results() };
        (results.markdown(), results.json())
    };
    let (text, json) = told([50.0, 30.0]);
    assert!(text.contains("new flows only, room: the longest turn | 50.0 µs | – | ≤ 50.0 µs | met |"), "{text}");
    assert!(text.contains("| a full table | 7.0 | 8.0 | 30.0 | 12 | 30.0 | 4000 |"), "{text}");
    assert_eq!(json["pauses"][1]["longest_us"], 30.0);
    let (text, _) = told([20.0, 50.1]);
    assert!(text.contains("a full table: the longest turn | 50.1 µs | – | ≤ 50.0 µs | **missed** |"), "{text}");
    let failures = results().failures();
    assert!(failures.iter().any(|failure| failure.contains("the longest turn: no figure")), "{failures:?}");
}

#[test]
fn there_is_a_picture_of_what_was_measured_and_of_nothing_else() {
    let names: Vec<_> = results().plots().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["throughput-by-services.svg"]);
}
