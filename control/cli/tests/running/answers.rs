//! What people and programs read.

use serde_json::json;

use crate::server::{Dataplane, http, said, say_once};

#[test]
fn status_shows_both_halves() {
    let dataplane = Dataplane::start();
    let control = json!({
        "version": "0.1.0", "pid": 42, "uptime_seconds": 60, "node": "node-1", "role": "node",
        "health": {"healthy": true, "problems": []},
        "sources": [{"name": "/etc/levee/cluster.d", "complete": true}],
        "compiled_seconds_ago": 5, "services": 1, "vips": 2, "backends": 3,
        "mistakes": [{"file": "a.yaml", "line": 3, "column": 7, "message": "wrong", "help": null}],
        "notices": [{"object": "Service default/web", "message": "worth telling"}],
        "dataplane": {"socket": "/run/levee/dataplane.sock", "state": "in-step", "generation": 7, "message": null},
    });
    let server = say_once(&dataplane.directory.path("control.sock"), http("200 OK", &control.to_string()));
    assert_eq!(
        dataplane.prints(&["status"]),
        "dataplane   levee-dataplane 0.1.0, process 4711, up 1h 2m\n\
         health      PROBLEM: eth1 is down\n\
         generation  0: nothing was programmed yet\n\
         programmed  1 service, 2 VIPs, 3 backends\n\
         flows       2 of 1024 tracked\n\
         \n\
         WORKER  CORE  SCHEDULED       GENERATION  FLOWS  ROOM FOR  ALIVE\n\
         0       2     fair, nice -20  0           2      1024      yes\n\
         \n\
         control     levee-control 0.1.0, process 42, up 1m\n\
         compiles    for node `node-1`\n\
         health      well\n\
         source      /etc/levee/cluster.d\n\
         compiled    5s ago: 1 service, 2 VIPs, 3 backends\n\
         MISTAKE     a.yaml:3:7: wrong\n\
         note        Service default/web: worth telling\n\
         dataplane   in step, told generation 7 and runs 0\n"
    );
    server.join().expect("asked");
    let wide = dataplane.prints(&["status", "-o", "wide"]);
    assert!(wide.contains("ALIVE  SLICE    RECEIVED  FORWARDED  DROPPED  HANDED OVER  TAKEN OVER\n"), "{wide}");
    assert!(wide.contains("yes    2800 µs  1000      900        98       7            5\n"), "{wide}");
}

#[test]
fn status_without_control_shows_the_dataplanes_half_and_is_no_failure() {
    let dataplane = Dataplane::start();
    let printed = dataplane.prints(&["status"]);
    assert!(printed.contains("control     cannot be asked, and without it nothing new is programmed: "), "{printed}");
    assert!(printed.contains("levee-control is not running"), "{printed}");
    let both = dataplane.json(&["status"]);
    assert_eq!((&both["dataplane"]["pid"], &both["control"]), (&json!(4711), &json!(null)));
    assert!(both["control_error"].as_str().expect("why").contains("there is no such socket"), "{both}");
}

#[test]
fn metrics_are_the_daemons_page_and_samples_for_programs() {
    let dataplane = Dataplane::start();
    let page = dataplane.prints(&["metrics"]);
    assert!(page.starts_with("# HELP levee_build_info "), "{page}");
    assert!(page.contains("\nlevee_dropped_frames_total{reason=\"runt\"} 2\n"), "{page}");
    let samples = dataplane.json(&["metrics"]);
    let runt = samples.as_array().expect("a list").iter().find(|sample| sample["labels"]["reason"] == "runt");
    assert_eq!(
        runt.expect("a reason"),
        &json!({
            "family": "levee_dropped_frames_total", "kind": "counter", "name": "levee_dropped_frames_total",
            "labels": {"reason": "runt"}, "value": 2.0,
        })
    );
    let page = "# HELP levee_control_x X.\n# TYPE levee_control_x gauge\nlevee_control_x 1\n";
    let server = say_once(&dataplane.directory.path("control.sock"), http("200 OK", page));
    assert_eq!(dataplane.prints(&["metrics", "--control"]), page);
    server.join().expect("asked");
}

#[test]
fn lists_are_tables_with_more_columns_for_wide_screens() {
    let dataplane = Dataplane::start();
    assert_eq!(
        dataplane.prints(&["vip", "list"]),
        "ADDRESS     PORT  PROTOCOL  FROM  SERVICE           MODE  ANNOUNCED  CANDIDATES\n\
         192.0.2.80  80    tcp       any   default/web:http  nat   yes        2\n"
    );
    assert!(dataplane.prints(&["vip", "list", "-o", "wide"]).contains("CANDIDATES  DRAINING\n"));
    assert_eq!(
        dataplane.prints(&["backend", "list"]),
        "SERVICE             PROTOCOL  BACKEND           STATE     POOLS\n\
         default/web:http    tcp       10.244.1.10:8080  active    cluster,local\n\
         default/other:http  tcp       10.244.1.10:8080  draining  -\n"
    );
    assert_eq!(
        dataplane.prints(&["backend", "draining"]),
        "SERVICE           PROTOCOL  BACKEND           FLOWS  DRAINS FOR  LEFT\n\
         default/web:http  tcp       10.244.1.10:8080  2      3s          57s\n"
    );
    assert_eq!(
        dataplane.prints(&["tunnel", "list"]),
        "FAR END     KIND   PORT  INTERFACE  BACKENDS  MTU   LEARNT  FOR\n\
         172.16.0.1  vxlan  4789  eth0       2         1500  1400    5m 1s\n\
         172.16.0.2  vxlan  4789  -          2         -     -       -\n"
    );
    assert!(dataplane.prints(&["tunnel", "list", "-o", "wide"]).contains("FOR    SOURCE      OVERHEAD\n"));
    assert_eq!(
        dataplane.prints(&["neigh", "list"]),
        "ADDRESS     MAC                PORT  STATE\n\
         172.16.0.1  02:00:00:00:00:01  eth0  reachable\n\
         172.16.0.2  -                  eth0  incomplete\n"
    );
    assert_eq!(
        dataplane.prints(&["port", "list"]),
        "INTERFACE  ROLE    MAC                LINK  TAKE   MODE       ATTACHED  QUEUE  WORKER  RX  TX  MISSED  RX RING  TX RING\n\
         eth0       uplink  02:00:00:00:00:01  up    owned  zero-copy  native    0      0       10  8   6       4096     2048\n"
    );
    let wide = dataplane.prints(&["port", "list", "-o", "wide"]);
    assert!(wide.contains("TX RING  FILL RING  COMPLETION RING  IFINDEX"), "{wide}");
    assert_eq!(
        dataplane.prints(&["flow", "list"]),
        "PROTOCOL  CLIENT              FRONTEND       BACKEND           MODE  STATE        IDLE  SERVICE\n\
         tcp       198.51.100.7:40000  192.0.2.80:80  10.244.1.10:8080  nat   established  3s    default/web:http\n\
         tcp       198.51.100.7:40001  192.0.2.80:80  10.244.1.10:8080  nat   established  3s    default/web:http\n"
    );
    let wide = dataplane.prints(&["flow", "list", "-o", "wide"]);
    assert!(wide.contains("172.16.0.1:61000  2h 3m"), "{wide}");
}

#[test]
fn programs_get_what_the_daemon_said() {
    let dataplane = Dataplane::start();
    assert_eq!(dataplane.json(&["vip", "list"])[0]["address"], "192.0.2.80");
    let ports = dataplane.json(&["port", "list"]);
    assert_eq!(ports[0]["queues"][0]["rx_ring_full"], 2);
    assert_eq!(ports[0]["rings"], json!({ "receive": 4096, "fill": 4096, "transmit": 2048, "completion": 2048 }));
    let status = dataplane.json(&["status"]);
    assert_eq!(
        status["dataplane"]["workers"][0]["scheduling"],
        json!({ "policy": "fair", "nice": -20, "slice_microseconds": 2800 })
    );
    assert_eq!(dataplane.json(&["neigh", "list"])[1]["mac"], json!(null));
    assert_eq!(dataplane.json(&["flow", "list"])[1]["client"], "198.51.100.7:40001");
    assert_eq!(dataplane.json(&["counters"])["totals"]["rx"], 10);
    assert_eq!(dataplane.json(&["events"])[0]["kind"], "started");
    // All reasons, with and without `--all`.
    assert_eq!(dataplane.json(&["drops"]).as_array().expect("an array").len(), 2);
    let only = dataplane.json(&["backend", "list", "--service", "default/other:http"]);
    assert_eq!(only.as_array().expect("an array").len(), 1);
    assert_eq!(
        dataplane.prints(&["drops", "-o", "yaml"]),
        "- reason: runt\n  frames: 2\n  meaning: It is a runt.\n- reason: giant\n  frames: 0\n  meaning: It is a giant.\n"
    );
}

#[test]
fn drops_have_their_meaning_and_counters_their_drops() {
    let dataplane = Dataplane::start();
    assert_eq!(dataplane.prints(&["drops"]), "REASON  FRAMES  MEANING\nrunt    2       It is a runt.\n");
    assert!(dataplane.prints(&["drops", "--all"]).contains("giant   0       It is a giant."));
    assert_eq!(
        dataplane.prints(&["counters"]),
        "COUNTER    FRAMES\ndropped    2\nforwarded  8\nrx         10\n\nDROPPED AS  FRAMES\nrunt        2\n"
    );
}

#[test]
fn flows_are_filtered_limited_and_flushed() {
    let dataplane = Dataplane::start();
    let flows = |arguments: &[&str]| {
        let listed = dataplane.json(&[&["flow", "list"], arguments].concat());
        listed.as_array().expect("an array").len()
    };
    assert_eq!(flows(&[]), 2);
    for (filter, found) in [
        (["--client", "198.51.100.7"], 2),
        (["--client", "198.51.100.8"], 0),
        (["--frontend", "192.0.2.80"], 2),
        (["--backend", "10.244.1.10"], 2),
        (["--port", "8080"], 2),
        (["--port", "81"], 0),
        (["--protocol", "tcp"], 2),
        (["--protocol", "udp"], 0),
        (["--service", "default/web:http"], 2),
        (["--service", "default/web:http&x=1"], 0),
        (["--limit", "1"], 1),
        (["--limit", "0"], 2),
    ] {
        assert_eq!(flows(&filter), found, "{filter:?}");
    }
    let cut = dataplane.levee(&["flow", "list", "--limit", "1"]);
    assert!(said(&cut).contains("there are more than 1; use a filter, or `--limit 0` for all"), "{}", said(&cut));

    // Everything only if it is said.
    let all = dataplane.levee(&["flow", "flush"]);
    assert_eq!(all.status.code(), Some(2));
    assert!(said(&all).contains("say `--all`"), "{}", said(&all));
    assert_eq!(dataplane.prints(&["flow", "flush", "--client", "198.51.100.8"]), "0 flows forgotten\n");
    dataplane.double.flows.lock().expect("lock").pop();
    assert_eq!(dataplane.prints(&["flow", "flush", "--port", "80"]), "1 flow forgotten\n");
    assert_eq!(dataplane.json(&["flow", "flush", "--all"]), json!({"flows": 0}));
}

#[test]
fn a_program_is_applied_and_comes_back() {
    let dataplane = Dataplane::start();
    let program = "\
generation: 7
service_ranges: [10.96.0.0/16]
vips: [{address: 10.96.0.10, announce: true}]
services:
  - name: default/web:http
    protocol: tcp
    frontends: [{address: 10.96.0.10, port: 80, mode: nat}]
    backends: [{address: 10.244.1.10, port: 8080, pools: [cluster]}]
";
    let file = dataplane.directory.file("program.yaml", program);
    assert_eq!(
        dataplane.prints(&["program", "check", &file]),
        format!("{file}: program of generation 7, 1 service: ok\n")
    );
    assert_eq!(dataplane.double.programmed().generation, 0, "checking applies nothing");
    assert_eq!(dataplane.prints(&["program", "apply", &file]), "generation 7 runs on every worker\n");
    // What `get` prints, `apply` takes, in either form.
    for format in ["yaml", "json", "table"] {
        let got = dataplane.prints(&["program", "get", "-o", format]);
        let again = dataplane.directory.file("again", &got);
        let before = dataplane.double.programmed();
        dataplane.prints(&["program", "apply", &again]);
        assert_eq!(dataplane.double.programmed(), before, "{got}");
    }
    // Edited, it is another program, and so of another generation: whoever has programmed this one must see that.
    let edited = dataplane.prints(&["program", "get"]).replace("port: 8080", "port: 8081");
    let edited = dataplane.directory.file("edited.yaml", &edited);
    assert_eq!(dataplane.prints(&["program", "apply", &edited]), "generation 8 runs on every worker\n");
    assert_eq!(dataplane.double.programmed().services[0].backends[0].port, 8081);
    let refused = dataplane.directory.file("refused.yaml", "generation: 13");
    let output = dataplane.levee(&["program", "apply", &refused]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("worker 0 does not turn"), "{}", said(&output));
}

#[test]
fn a_program_that_no_dataplane_would_take_never_leaves() {
    let dataplane = Dataplane::start();
    for (program, place, message) in [
        ("generation: 0", "1:13", "generation 0"),
        ("generation: x", "1:13", "a whole number"),
        ("generation: 1\nvisp: []", "2:1", "unknown key `visp`"),
        ("generation: 1\nvips:\n  - {address: 127.0.0.1}", "3:15", "VIP 127.0.0.1"),
        (
            "generation: 1\nservices:\n  - {name: a, protocol: tcp, frontends: [{address: 10.0.0.1, port: 80, mode: nat}], backends: []}\n  \
             - {name: b, protocol: tcp, frontends: [{address: 10.0.0.1, port: 80, mode: nat}], backends: []}",
            "4:12",
            "services `a` and `b` both want tcp 10.0.0.1 port 80",
        ),
    ] {
        let file = dataplane.directory.file("program.yaml", program);
        for command in ["check", "apply"] {
            let output = dataplane.levee(&["program", command, &file]);
            assert_eq!(output.status.code(), Some(2), "{program}");
            assert!(said(&output).starts_with(&format!("{file}:{place}: ")), "{program}: {}", said(&output));
            assert!(said(&output).contains(message), "{}", said(&output));
        }
    }
    assert_eq!(dataplane.double.programmed().generation, 0);
}

#[test]
fn a_running_dataplane_explains() {
    let dataplane = Dataplane::start();
    let packet = "tcp 192.0.2.7:40000 > 10.96.0.1:80";
    let printed = dataplane.prints(&["explain", "--packet", packet]);
    assert_eq!(
        printed,
        format!(
            "packet      {packet}, in from uplink\nverdict     drop: counted under this reason (no_local_backend)\n\
             service     default/web:http\n"
        )
    );
    let answer = dataplane.json(&["explain", "--packet", packet, "--from", "pods"]);
    assert_eq!(answer["from"], "pods");
    // What is wrong with the question only the dataplane knows.
    let output = dataplane.levee(&["explain", "--packet", "tcp 192.0.2.7:40000 > 10.96.0.1:9"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("no port of role pods"), "{}", said(&output));
}
