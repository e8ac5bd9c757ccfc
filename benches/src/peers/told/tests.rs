use std::time::Duration;

use serde_json::json;

use crate::growth::Size;
use crate::peers::pipeline::{CHANGED, LOOKUP};
use crate::peers::{Changes, Flood, Idle, Kept, Kind, Machine, Pause, Pipeline, Results, Row, Times};
use crate::services::Services;
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
            date: "2026-11-20".into(),
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
    results.rows.push(row("linux_nftables_1_inline", "nftables, inline", &[0.6, 0.7, 0.5]));
    let keys = ["linux_nftables_1", "linux_nftables_1_inline"];
    assert_eq!(results.best(&keys), "linux_nftables_1_inline");
    assert_eq!(results.best(&["nobody", "linux_nftables_1"]), "linux_nftables_1");
    assert_eq!(results.best(&["nobody", "else"]), "nobody");
    assert!(results.markdown().contains("| levee, nat ÷ nftables, inline | 1.63 |"));
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
        { "name": "pipeline, new flows/nat, a full table of 10 M", "ns": 140.0 },
        { "name": "pipeline, new flows/nat, a table of 1 M with room", "ns": 150.04 },
        { "name": CHANGED, "ns": 61.5 },
        { "name": format!("{LOOKUP}/100000"), "ns": 21.5, "least": 21.0, "most": 22.0 },
        { "name": format!("growth/{}", Size::LEAST), "ns": 25.0, "least": 24.0, "most": 30.0 },
        { "name": format!("growth/{}", Size::MOST), "ns": 75.0, "least": 60.0, "most": 96.0 },
    ]);
    let pipeline = Pipeline::read(&figures, &json!({ "nat": 300 }));
    let results = Results { pipeline, per_flow: Some(64.1), ..results() };
    let text = results.markdown();
    for row in [
        "| over memory, nat, 1,000 established flows: a packet | not measured | – | ≤ 35.0 ns | not measured |",
        "| over memory, nat, 10 M established flows: a packet | 91.00 ns | – | ≤ 90.0 ns | **missed** |",
        "| over memory, nat, new flows only, a table of 65,536 with room: a packet | not measured | – | ≤ 150.0 ns | not measured |",
        "| over memory, nat, new flows only, a table of 1 M with room: a packet | 150.04 ns | – | ≤ 150.0 ns | **missed** |",
        "| over memory, nat, new flows only, a full table of 10 M: a packet | 140.0 ns | – | ≤ 150.0 ns | met |",
        "| new flows only, into a full table of 10 M | 140.0 | 140.0–140.0 |",
        "each packet the first of its flow since tables were changed | 61.5 | 61.5–61.5 |",
        "| 100,000 | 21.5 | 21.0–22.0 | – | – |",
        "| a packet of an established flow | 300 instructions | – | ≤ 300 instructions | met |",
        "| over memory, nat, a packet: 100,000 Services, 1 M backends, 10 M flows ÷ 1 Service, 1 backend, 1 flow \
         | 3.000 | 2.000–4.000 | ≤ 3.00 | met |",
        "| memory of room for a flow of IPv4 | 64.10 B | – | ≤ 64.0 B | **missed** |",
        "| 100,000 | 1 M | 10 M | 75.0 | 60.0–96.0 | 3.00 |",
    ] {
        assert!(text.contains(row), "{row} is not in\n{text}");
    }
    let names: Vec<_> = results.plots().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["throughput-by-services.svg", "ns-by-flows.svg"]);
}

fn pause(kind: Kind, scene: &'static str, longest: f64) -> Pause {
    Pause { kind, scene, turns: [vec![7.0; 10], vec![8.0, longest]].concat(), seen: 4000.0 }
}

#[test]
fn the_longest_turn_of_each_kind_is_held_against_its_bar() {
    let told = |of: [f64; 3]| {
        let pauses = vec![
            pause(Kind::Batch, "room", of[0]),
            pause(Kind::Batch, "a full table", of[1]),
            pause(Kind::Lanes, "room", of[2]),
        ];
        let results = Results { pauses, ..results() };
        (results.markdown(), results.json())
    };
    let (text, json) = told([50.0, 30.0, 60.0]);
    for row in [
        "| over memory, the longest turn, a batch, room | 50.00 µs | – | ≤ 50.0 µs | met |",
        "| over memory, the longest turn, three batches: uplink, pods, another worker, room | 60.0 µs | – | ≤ 50.0 µs | **missed** |",
        "| a batch | a full table | 7.0 | 8.0 | 30.0 | 12 | 30.0 | 4000 |",
    ] {
        assert!(text.contains(row), "{row} is not in\n{text}");
    }
    assert_eq!(json["pauses"][1]["longest_us"], 30.0);
    let (text, _) = told([20.0, 50.04, 30.0]);
    assert!(text.contains("a batch, a full table | 50.04 µs | – | ≤ 50.0 µs | **missed** |"), "{text}");
    let failures = results().failures();
    let unknown =
        failures.iter().filter(|failure| failure.contains("the longest turn, ") && failure.contains("no figure"));
    assert_eq!(unknown.count(), Kind::ALL.len(), "{failures:?}");
}

fn times(key: &str, name: &str, micros: [f64; 3]) -> Vec<Times> {
    let [p50, p99, p999] = micros;
    vec![Times { key: key.into(), name: name.into(), frames: (10, 10), p50, p99, p999 }]
}

#[test]
fn latency_is_held_against_both_places_in_which_linux_forwards() {
    let results = Results {
        times: vec![
            times("levee_nat_1", "levee, nat", [2.0, 3.3, 19.5]),
            times("linux_forwarding", "Linux", [11.8, 27.9, 172.0]),
            times("linux_forwarding_inline", "Linux, inline", [2.0, 2.2, 5.2]),
        ],
        rows: vec![
            row("levee_nat_1", "levee, nat", &[1.0]),
            row("linux_forwarding", "Linux", &[0.6]),
            row("linux_forwarding_inline", "Linux, inline", &[0.8]),
        ],
        ..results()
    };
    let text = results.markdown();
    for row in [
        "| latency at a tenth of the load, p99: levee, nat ÷ Linux | 0.12 | – | ≤ 1.00 | met |",
        "| latency at a tenth of the load, p50: levee, nat ÷ Linux, inline | 1.000 | – | ≤ 1.00 | met |",
        "| latency at a tenth of the load, p99: levee, nat ÷ Linux, inline | 1.50 | – | ≤ 1.00 | **missed** |",
        "| latency at a tenth of the load, p99.9: levee, nat ÷ Linux, inline | 3.75 | – | ≤ 1.00 | **missed** |",
    ] {
        assert!(text.contains(row), "{row} is not in\n{text}");
    }
    assert!(text.contains("No NIC works like that"), "{text}");
    let failures = results.failures();
    assert!(failures.iter().any(|failure| failure.contains("p99.9: levee, nat ÷ Linux, inline: 3.75")), "{failures:?}");
}

fn flooded(syns: f64, lost: [i64; 3]) -> Vec<Flood> {
    let round = |lost| Flood {
        key: "levee_nat_1".into(),
        name: "levee, nat".into(),
        syns,
        most: 800_000.0,
        rate: 640_000.0,
        established: (1000, lost),
        begun: (19_000, 18_990),
        dropped: vec![("flow_table_full".into(), 10)],
        unseen: 0,
    };
    lost.map(round).into()
}

#[test]
fn each_mix_of_a_flood_is_called_what_it_is_and_has_its_bar() {
    let results = Results { floods: vec![flooded(0.95, [0, 0, 7]), flooded(0.999, [1, 1, 0])], ..results() };
    let (text, json) = (results.markdown(), results.json());
    let lost = |syns| {
        format!(
            "| frames of established flows lost, {syns} % of all frames SYNs of new ones, at four fifths of the most |"
        )
    };
    for row in [
        format!("{} 0 frames | 0–7 | ≤ 0 frames | met |", lost("95")),
        format!("{} 1 frames | 0–1 | ≤ 0 frames | **missed** |", lost("99.9")),
        "| levee, nat | 99.9 % | 640000 | 800000 | 1000 | 1 | 0–1 | 19000 | 18990 | 0 | flow_table_full 30 in all rounds |".into(),
    ] {
        assert!(text.contains(&row), "{row} is not in\n{text}");
    }
    assert_eq!(json["floods"]["levee_nat_1_syns_0.999"][0]["established"]["lost"], 1);
}

fn changed(kept: &[f64]) -> Results {
    let changes = Changes {
        services: Services { count: 25_000 },
        alone: vec![50.0, 54.0, 60.0],
        loaded: vec![1900.0, 2000.0, 5000.0],
        rate: 83.4,
        kept: Kept(kept.to_vec()),
        kept_of_all: Kept(vec![0.9]),
    };
    Results { changes: Some(changes), ..results() }
}

#[test]
fn what_changes_take_is_told_to_a_thousandth_where_its_bar_is_near() {
    let (text, json) = (changed(&[0.982, 0.9894, 0.997]).markdown(), changed(&[0.982, 0.9894, 0.997]).json());
    for row in [
        "| one backend changed, 25,000 Services, nothing else to do, p50: from the request to all workers on it | 54.0 µs | 50.0–60.0 | ≤ 200.0 µs | met |",
        "| one backend changed, 25,000 Services, nothing else to do, p99: from the request to all workers on it | 60.0 µs | – | to be told | told |",
        "| one backend changed, 25,000 Services, under full load on the same two cores, p50: from the request to all workers on it | 2000.0 µs | – | to be told | told |",
        "| forwarding while one backend after another changes, 83 times a second, ÷ without changes | 0.989 | 0.982–0.997 | ≥ 0.99 | **missed** |",
        "| for the time that the worker had its core | 3 | 0.989 | 0.982–0.997 | 0.982–0.997 |",
    ] {
        assert!(text.contains(row), "{row} is not in\n{text}");
    }
    assert_eq!(json["changes"]["kept"]["of"]["median"], 0.9894);
    assert!(changed(&[0.9901]).markdown().contains("÷ without changes | 0.990 | – | ≥ 0.99 | met |"));
    // What has no limit cannot be missed.
    assert!(!changed(&[0.9901]).failures().iter().any(|failure| failure.contains("one backend changed")));
}

#[test]
fn every_table_has_as_many_cells_in_a_row_as_it_has_headings() {
    let all = Results {
        times: vec![times("levee_nat_1", "levee, nat", [2.0, 3.3, 19.5])],
        floods: vec![flooded(0.95, [0; 3])],
        pauses: Kind::ALL.map(|kind| pause(kind, "room", 9.0)).into(),
        idle: vec![Idle { how: "poll", services: Services { count: 1 }, core: 1.0, resident: 1 << 20 }],
        pipeline: Pipeline::read(
            &json!([
                { "name": "pipeline/nat, 1000 flows", "ns": 10.0 },
                { "name": format!("{LOOKUP}/1"), "ns": 5.0 },
                { "name": format!("growth/{}", Size::LEAST), "ns": 14.0 },
            ]),
            &json!({}),
        ),
        ..changed(&[0.99])
    };
    let text = all.markdown();
    let (mut tables, mut cells) = (0, None);
    for line in text.lines() {
        let (is_row, here) = (line.starts_with('|'), line.matches('|').count());
        match cells {
            Some(cells) if is_row => assert_eq!(here, cells, "{line}"),
            None if is_row => tables += 1,
            _ => {}
        }
        cells = is_row.then(|| cells.unwrap_or(here));
    }
    assert_eq!(tables, 11, "{text}");
}

#[test]
fn there_is_a_picture_of_what_was_measured_and_of_nothing_else() {
    let names: Vec<_> = results().plots().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["throughput-by-services.svg"]);
}
