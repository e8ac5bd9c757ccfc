//! Rooms: the modules of the two daemons, and what each may use.
//!
//! A room is a module right below its crate's root, with all that is inside. The tables below are the whole truth: a room
//! that is not listed is a complaint, so nobody adds one without saying where it stands.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::none_of;
use crate::source::{PathUse, files_ending, paths, relative, root, tokens, without_tests};

/// One room: its name, the rooms of its crate that it may use (`*`: it stands above them all), and what it must never name.
struct Room {
    name: &'static str,
    uses: &'static [&'static str],
    never: &'static [&'static [&'static str]],
}

/// The world outside: files, sockets, threads, processes.
const IO: &[&str] = &[
    "std::fs",
    "std::io::Read",
    "std::io::Write",
    "std::io::stdout",
    "std::io::stderr",
    "std::io::stdin",
    "std::os",
    "std::process",
    "std::thread",
    "std::env",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::net::ToSocketAddrs",
    "libc",
    "nix",
    "rustix",
    "rtnetlink",
    "netlink_sys",
    "hyper",
    "axum",
];

/// What reads a clock: time comes in as an argument.
const CLOCKS: &[&str] = &["std::time::Instant", "std::time::SystemTime", "std::time::UNIX_EPOCH"];

/// Reading a clock, for rooms that may hold times which they were given.
const NOW: &[&str] = &["Instant::now", "SystemTime::now", "std::time::Instant::now", "std::time::SystemTime::now"];

/// What may wait for somebody else.
const LOCKS: &[&str] =
    &["std::sync::Mutex", "std::sync::RwLock", "std::sync::Condvar", "std::sync::mpsc", "tokio", "futures_util"];

/// What writes for people.
const LOGS: &[&str] = &["tracing", "log"];

/// What gives a different answer each time.
const CHANCE: &[&str] =
    &["std::collections::HashMap", "std::collections::HashSet", "std::hash::RandomState", "rand", "getrandom"];

/// AF_XDP itself: for those who hold frames.
const DEVICES: &[&str] = &["af_xdp"];

/// The packet's way: per packet there is no clock, no lock, no log, and nobody outside.
const PACKET_WAY: &[&[&str]] = &[IO, CLOCKS, LOCKS, LOGS, CHANCE];

/// … and where bytes or values are all there is, no devices either.
const PURE: &[&[&str]] = &[IO, CLOCKS, LOCKS, LOGS, CHANCE, DEVICES];

const DATAPLANE: &[Room] = &[
    // Words that the others speak with. They use nothing but each other.
    Room { name: "address", uses: &[], never: PURE },
    Room { name: "reason", uses: &[], never: PURE },
    Room { name: "hash", uses: &["address"], never: PURE },
    Room { name: "checksum", uses: &[], never: PURE },
    Room { name: "ends", uses: &["address", "checksum"], never: PURE },
    Room { name: "headers", uses: &["address", "ends"], never: PURE },
    Room { name: "verdict", uses: &["address", "checksum", "ends", "reason"], never: PURE },
    Room { name: "maglev", uses: &["address", "hash", "verdict"], never: PURE },
    // The stages of the packet's way.
    Room { name: "wire", uses: &["checksum"], never: PURE },
    Room { name: "parse", uses: &["address", "checksum", "ends", "headers", "reason", "wire"], never: PURE },
    Room { name: "classify", uses: &["address", "headers", "reason", "tables", "verdict"], never: PURE },
    Room {
        name: "decide",
        uses: &[
            "address", "classify", "ends", "flows", "hash", "headers", "limits", "reason", "tables", "verdict", "ways",
        ],
        never: PURE,
    },
    Room {
        name: "rewrite",
        uses: &["address", "checksum", "ends", "headers", "reason", "verdict", "wire"],
        never: PURE,
    },
    Room { name: "quic", uses: &[], never: PURE },
    Room { name: "tables", uses: &["address", "hash", "maglev", "mem", "quic", "reason", "verdict"], never: PURE },
    Room {
        name: "flows",
        uses: &["address", "checksum", "ends", "hash", "headers", "mem", "tables", "verdict"],
        never: PURE,
    },
    Room { name: "fragments", uses: &["address", "flows", "hash", "headers", "reason", "verdict"], never: PURE },
    Room { name: "limits", uses: &["address", "flows", "hash", "verdict"], never: PURE },
    // Shared by all workers, and atomic.
    Room { name: "ways", uses: &["address", "flows", "hash"], never: PURE },
    Room { name: "counters", uses: &["reason"], never: PURE },
    // Frames, and nothing of what they mean.
    Room { name: "port", uses: &[], never: &[CLOCKS, LOCKS, LOGS, CHANCE] },
    // The one that composes them all. It reads the clock once a batch, and sleeps on descriptors when there is none.
    Room {
        name: "worker",
        uses: &[
            "address",
            "classify",
            "config",
            "counters",
            "decide",
            "ends",
            "flows",
            "fragments",
            "hash",
            "headers",
            "limits",
            "mem",
            "parse",
            "port",
            "quic",
            "reason",
            "rewrite",
            "tables",
            "verdict",
            "ways",
            "wire",
        ],
        never: &[LOCKS, LOGS, CHANCE],
    },
    Room { name: "mem", uses: &[], never: &[CLOCKS, LOGS, CHANCE, DEVICES] },
    // Beside it: read once at start, or on slow threads. None of them holds a frame.
    Room { name: "config", uses: &["flows", "verdict"], never: PURE },
    Room { name: "events", uses: &[], never: &[DEVICES] },
    Room { name: "intake", uses: &["counters", "events", "tables"], never: &[DEVICES] },
    Room { name: "neighbours", uses: &["config", "verdict"], never: &[DEVICES, CHANCE] },
    // The packet's way without a packet: its stages, asked a question.
    Room {
        name: "explain",
        uses: &[
            "address", "classify", "decide", "flows", "hash", "headers", "limits", "quic", "reason", "tables",
            "verdict", "ways",
        ],
        never: PURE,
    },
    Room { name: "announce", uses: &["headers", "verdict"], never: &[IO, NOW, LOCKS, LOGS, CHANCE, DEVICES] },
    // The slow thread that turns programs and neighbours into tables.
    Room {
        name: "director",
        uses: &[
            "address",
            "announce",
            "config",
            "counters",
            "events",
            "explain",
            "flows",
            "headers",
            "intake",
            "mem",
            "neighbours",
            "port",
            "reason",
            "rewrite",
            "tables",
            "verdict",
            "worker",
        ],
        never: &[CHANCE],
    },
    // Devices, rights and memory are taken by the first; the second needs none of them any more.
    Room { name: "boot", uses: &["*"], never: &[CHANCE] },
    Room { name: "place", uses: &["config", "events"], never: &[CHANCE, CLOCKS] },
    Room { name: "run", uses: &["*"], never: &[CHANCE] },
    Room { name: "running", uses: &["*"], never: &[CHANCE] },
];

/// Everything that makes compiling a function of what it is given.
const DETERMINISTIC: &[&[&str]] = PACKET_WAY;

/// The dataplane's socket: for those who program it.
const TRANSPORT: &[&str] = &["hyper", "hyper_util", "std::os::unix::net", "tokio::net"];

const KUBERNETES: &[&str] = &["kube", "k8s_openapi"];

const CONTROL: &[Room] = &[
    Room { name: "notice", uses: &[], never: DETERMINISTIC },
    Room { name: "model", uses: &["notice"], never: DETERMINISTIC },
    Room { name: "plan", uses: &[], never: DETERMINISTIC },
    Room { name: "allocate", uses: &["model", "notice"], never: DETERMINISTIC },
    Room { name: "compile", uses: &["allocate", "model", "notice", "plan"], never: DETERMINISTIC },
    Room { name: "watch", uses: &["model", "notice"], never: &[TRANSPORT] },
    Room { name: "offline", uses: &["compile", "config", "model", "notice", "watch"], never: &[TRANSPORT] },
    // What only one may do: a pure elector, and the one way to the API server's Leases.
    Room { name: "lease", uses: &[], never: &[TRANSPORT, CLOCKS] },
    // Decides who announces what, and carries it: to Leases, to peers, to the dataplane's socket.
    Room { name: "election", uses: &["lease", "program", "watch"], never: &[CLOCKS] },
    // Knows which files it names, and the host's name.
    Room {
        name: "config",
        uses: &["compile", "election", "lease", "model", "watch"],
        never: &[CLOCKS, LOCKS, LOGS, CHANCE, KUBERNETES],
    },
    // Knows no object: it brings a program to a dataplane, whatever it was compiled from.
    Room { name: "program", uses: &["plan"], never: &[KUBERNETES, CHANCE] },
    // Tells the cluster. Of the dataplane it knows nothing.
    Room {
        name: "publish",
        uses: &["allocate", "election", "lease", "model", "notice", "watch"],
        never: &[TRANSPORT, CHANCE],
    },
    Room { name: "daemon", uses: &["*"], never: &[KUBERNETES] },
];

/// Rooms of the dataplane that no packet passes: start, and the slow threads. All others are on the packet's way, a new one too.
const BESIDE_PACKETS: &[&str] =
    &["announce", "boot", "config", "director", "events", "explain", "intake", "neighbours", "place", "run", "running"];

/// Lints without which one bad byte could end a worker.
const PACKET_PATH_LINTS: &[&str] = &["unwrap_used", "expect_used", "panic", "indexing_slicing"];

/// The files of each room of a crate, by room; the crate's root and binary stand above all rooms.
fn rooms(source: &Path) -> BTreeMap<String, Vec<PathBuf>> {
    let mut rooms: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for file in files_ending(source, ".rs") {
        let inside = file.strip_prefix(source).expect("found there").with_extension("");
        let first = inside.iter().next().expect("a file has a name").to_string_lossy().into_owned();
        if !["lib", "main", "bin"].contains(&first.as_str()) {
            rooms.entry(first).or_default().push(file);
        }
    }
    rooms
}

/// Whether a file is compiled for tests only, by the habit of this repository: `tests.rs` or in `tests/` of its room.
fn is_test(source: &Path, file: &Path) -> bool {
    file.strip_prefix(source).is_ok_and(|inside| inside.with_extension("").iter().any(|part| part == "tests"))
}

/// The room that a path leads to, if it stays in its crate: `crate::room::…`, or `super::…` out of the room.
fn target(path: &PathUse, depth: usize) -> Option<&str> {
    let supers = path.segments.iter().take_while(|segment| *segment == "super").count();
    if supers == depth && depth > 0 {
        return path.segments.get(supers).map(String::as_str);
    }
    if path.segments.first().is_some_and(|first| first == "crate") {
        path.segments.get(1).map(String::as_str)
    } else {
        None
    }
}

/// How many `super` lead from a file's module to the crate's root.
fn depth(source: &Path, file: &Path) -> usize {
    let inside = file.strip_prefix(source).expect("found there");
    let parts = inside.iter().count();
    if inside.file_name().is_some_and(|name| name == "mod.rs") { parts - 1 } else { parts }
}

fn complaints(source: &Path, table: &[Room]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, files) in rooms(source) {
        let Some(room) = table.iter().find(|room| room.name == name) else {
            complaints.push(format!(
                "{}: `{name}` is a room that the table does not know. Add it to tests/tests/architecture/rooms.rs with \
                 what it may use, and to the code map in ARCHITECTURE.md; or put the code into the room it belongs to.",
                relative(source)
            ));
            continue;
        };
        for file in files.iter().filter(|file| !is_test(source, file)) {
            for path in paths(&without_tests(tokens(file))) {
                let place = format!("{}:{}", relative(file), path.line);
                let written = path.segments.join("::");
                if let Some(other) = target(&path, depth(source, file)) {
                    let is_room = table.iter().any(|room| room.name == other);
                    let may = room.uses.contains(&other) || room.uses == ["*"];
                    if is_room && other != name && !may {
                        complaints.push(format!(
                            "{place}: `{written}`: room `{name}` may not use `{other}`, only {:?}. Have the value handed \
                             in as an argument, or move the code to a room that may.",
                            room.uses
                        ));
                    }
                }
                if let Some(forbidden) =
                    room.never.iter().flat_map(|list| list.iter()).find(|list| path.starts_with(list))
                {
                    complaints.push(format!(
                        "{place}: `{written}`: room `{name}` must not know `{forbidden}`. Take what is needed as an \
                         argument, and leave the world outside to the slow side."
                    ));
                }
            }
        }
    }
    for room in table {
        let module = [source.join(format!("{}.rs", room.name)), source.join(room.name).join("mod.rs")];
        if !module.iter().any(|path| path.exists()) {
            complaints.push(format!(
                "{}: the table has a room `{}` that does not exist. Take it out of tests/tests/architecture/rooms.rs.",
                relative(source),
                room.name
            ));
        }
    }
    complaints
}

#[test]
fn the_dataplanes_rooms_use_only_what_they_may() {
    none_of(&complaints(&root().join("dataplane/src"), DATAPLANE));
}

#[test]
fn controls_rooms_use_only_what_they_may() {
    none_of(&complaints(&root().join("control/src"), CONTROL));
}

#[test]
fn the_code_map_has_every_room() {
    let map = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("there is an ARCHITECTURE.md");
    let missing = DATAPLANE.iter().chain(CONTROL).map(|room| room.name).filter(|name| {
        // As a word of code, or as a path: `decide`, `decide.rs`, `worker/`, `control::watch`.
        let words = map.split(|c: char| !c.is_alphanumeric() && c != '_');
        !words.into_iter().any(|word| word == *name)
    });
    let complaint = |name| format!("ARCHITECTURE.md: room `{name}` is not in the code map. Say there what it is.");
    none_of(&missing.map(complaint).collect::<Vec<_>>());
}

#[test]
fn the_packets_way_denies_what_could_end_it() {
    let source = root().join("dataplane/src");
    let mut complaints = Vec::new();
    for (_, files) in rooms(&source).iter().filter(|(name, _)| !BESIDE_PACKETS.contains(&name.as_str())) {
        // An attribute on a module covers what is inside, so the room's first file speaks for all of it …
        let first = files.iter().find(|file| depth(&source, file) == 1).expect("a room has a root");
        let text = std::fs::read_to_string(first).expect("it was listed");
        let attribute = text.lines().find(|line| line.starts_with("#![deny(clippy::")).unwrap_or_default();
        for lint in PACKET_PATH_LINTS.iter().filter(|lint| !attribute.contains(&format!("clippy::{lint}"))) {
            complaints.push(format!(
                "{}: the packet's way must not panic on anything: add `clippy::{lint}` to a `#![deny(…)]` at the top; or, \
                 if no packet passes there, the room to BESIDE_PACKETS in tests/tests/architecture/rooms.rs.",
                relative(first)
            ));
        }
        // … unless somebody further in takes it back outside of tests.
        for file in files.iter().filter(|file| !is_test(&source, file)) {
            let mut names = Vec::new();
            crate::source::identifiers(&without_tests(tokens(file)), &mut names);
            let mut before = "";
            for (line, name) in &names {
                if PACKET_PATH_LINTS.contains(&name.as_str()) && before == "allow" {
                    complaints.push(format!(
                        "{}:{line}: `{name}` is allowed on the packet's way. Use `get`, `first_chunk` or \
                         `split_at_checked`, and give the other case a reason to drop.",
                        relative(file)
                    ));
                }
                if name != "clippy" && !PACKET_PATH_LINTS.contains(&name.as_str()) {
                    before = name;
                }
            }
        }
    }
    none_of(&complaints);
}

#[test]
fn broken_rules_are_found() {
    let source = std::env::temp_dir().join(format!("levee-rooms-{}", std::process::id()));
    std::fs::create_dir_all(source.join("b")).expect("a temporary directory can be written");
    let write = |file: &str, text: &str| std::fs::write(source.join(file), text).expect("it can be written");
    write("lib.rs", "//! Above all rooms.\nuse crate::a::x;");
    write("a.rs", "use crate::b::{x, y};\nfn now() { super::c::f(std::time::Instant::now()) }");
    write("b/mod.rs", "use super::c;");
    write("b/inner.rs", "use super::sibling;\nuse super::super::a;\n#[cfg(test)]\nmod tests { use crate::c; }");
    write("c.rs", "");
    write("stranger.rs", "");
    let table = [
        Room { name: "a", uses: &["b"], never: PURE },
        Room { name: "b", uses: &["c"], never: PURE },
        Room { name: "c", uses: &[], never: PURE },
        Room { name: "gone", uses: &[], never: PURE },
    ];
    let found = complaints(&source, &table);
    std::fs::remove_dir_all(&source).expect("it is ours");
    for expected in [
        "a.rs:2: `super::c::f`: room `a` may not use `c`",
        "a.rs:2: `std::time::Instant::now`: room `a` must not know `std::time::Instant`",
        "b/inner.rs:2: `super::super::a`: room `b` may not use `a`",
        "`stranger` is a room that the table does not know",
        "a room `gone` that does not exist",
    ] {
        assert!(found.iter().any(|complaint| complaint.contains(expected)), "{expected}\nis not among {found:#?}");
    }
    assert_eq!(found.len(), 5, "{found:#?}");
}
