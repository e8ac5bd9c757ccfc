//! Copies of what workers share, over loom's types: of each source one as it is, and one for each seeded mistake.
//!
//! ```text
//!   OUT_DIR/publication/as_it_is.rs, reclaims_too_early.rs, …    mem/publication.rs
//!   OUT_DIR/sleep/as_it_is.rs, wakes_without_a_fence.rs, …       worker/waker.rs and worker/idle.rs, each a module of it
//! ```

use std::path::Path;
use std::{env, fs};

/// What is changed in a source: what stands there, once, and what is put there instead.
type Change = (&'static str, &'static str);

/// A source under the dataplane's `src/`, and what makes it one over loom's types.
struct Source {
    path: &'static str,
    changes: &'static [Change],
}

const PUBLICATION: Source = Source {
    path: "mem/publication.rs",
    changes: &[
        ("use std::sync::{", "use loom::sync::{"),
        // The model must know that this thread can do nothing until another does.
        ("std::hint::spin_loop();", "loom::thread::yield_now();"),
    ],
};

const WAKER: Source = Source {
    path: "worker/waker.rs",
    changes: &[
        ("use std::sync::Arc;", "use loom::sync::Arc;"),
        ("use std::sync::atomic::{", "use loom::sync::atomic::{"),
    ],
};

const IDLE: Source = Source {
    path: "worker/idle.rs",
    changes: &[
        // The same steps, the fewest of each.
        ("const SEARCH: Duration = Duration::from_micros(100);", "const SEARCH: Duration = Duration::ZERO;"),
    ],
};

/// What is changed for each mistake: a name, and the change.
const PUBLICATION_MISTAKES: &[(&str, Change)] = &[
    ("reclaims_too_early", ("*replaced_by <= held", "*replaced_by <= held + 1")),
    (
        "waits_for_one_reader_only",
        (
            "seat.held.load(Ordering::Acquire)).min().unwrap_or(u64::MAX);\n        // The oldest",
            "seat.held.load(Ordering::Acquire)).max().unwrap_or(u64::MAX);\n        // The oldest",
        ),
    ),
    ("retires_nothing", ("self.retired.push_back((version, old));", "drop(old);")),
    (
        "reports_before_it_moves_on",
        (
            "        self.value = value;\n        self.version = version;\n",
            "        if let Some(seat) = self.shared.seats.get(self.index) {\n            seat.held.store(version, Ordering::Release);\n        }\n        \
             self.value = value;\n        self.version = version;\n",
        ),
    ),
    (
        "comes_back_unseen",
        (
            "seat.away.store(false, Ordering::Relaxed);\n        }\n        fence(Ordering::SeqCst);",
            "seat.away.store(false, Ordering::Relaxed);\n        }",
        ),
    ),
    (
        "looks_for_sleepers_too_early",
        ("        fence(Ordering::SeqCst);\n        self.retired", "        self.retired"),
    ),
    (
        "comes_back_to_an_old_value",
        ("while self.shared.version.load(Ordering::Acquire) != self.version {", "if false {"),
    ),
    (
        "gives_up_when_the_writer_is_at_it",
        (
            "while self.shared.version.load(Ordering::Acquire) != self.version {\n            self.move_on();\n            loom::thread::yield_now();",
            "if self.shared.version.load(Ordering::Acquire) != self.version {\n            self.move_on();",
        ),
    ),
];

const WAKER_MISTAKES: &[(&str, Change)] = &[
    (
        "wakes_without_a_fence",
        (
            "        fence(Ordering::SeqCst);\n        if self.0.sleeping.load(Ordering::Relaxed) {",
            "        if self.0.sleeping.load(Ordering::Relaxed) {",
        ),
    ),
    (
        "sleeps_without_a_fence",
        (
            "        self.0.sleeping.store(true, Ordering::Relaxed);\n        fence(Ordering::SeqCst);",
            "        self.0.sleeping.store(true, Ordering::Relaxed);",
        ),
    ),
];

const IDLE_MISTAKES: &[(&str, Change)] = &[
    ("sleeps_without_saying_so", ("self.waker.prepare();", "")),
    ("works_with_the_flag_up", ("if let Stage::AboutToSleep = self.stage {", "if false {")),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    write("publication", "as_it_is", &PUBLICATION.over_loom());
    for (name, change) in PUBLICATION_MISTAKES {
        write("publication", name, &PUBLICATION.replaced(&PUBLICATION.over_loom(), change));
    }
    let (waker, idle) = (WAKER.over_loom(), IDLE.over_loom());
    write("sleep", "as_it_is", &modules(&waker, &idle));
    for (name, change) in WAKER_MISTAKES {
        write("sleep", name, &modules(&WAKER.replaced(&waker, change), &idle));
    }
    for (name, change) in IDLE_MISTAKES {
        write("sleep", name, &modules(&waker, &IDLE.replaced(&idle, change)));
    }
}

impl Source {
    fn over_loom(&self) -> String {
        let path = format!("../../dataplane/src/{}", self.path);
        println!("cargo::rerun-if-changed={path}");
        let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        // Inner documentation cannot stand where the copy is included, and its own tests are run where they are.
        let text: String =
            source.lines().filter(|line| !line.starts_with("//!")).flat_map(|line| [line, "\n"]).collect();
        let text = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
        self.changes.iter().fold(text, |text, change| self.replaced(&text, change))
    }

    /// A mistake that no longer applies would be no test.
    fn replaced(&self, text: &str, (there, instead): &Change) -> String {
        assert_eq!(
            text.matches(there).count(),
            1,
            "{} has changed: look for `{there}` and adapt tests/loom/build.rs",
            self.path
        );
        text.replace(there, instead)
    }
}

/// Beside each other as in the dataplane, with the test's alarm in the place of the kernel's.
fn modules(waker: &str, idle: &str) -> String {
    // The test plays the worker that the modules are children of.
    let [waker, idle] = [waker, idle].map(|text| text.replace("pub(super)", "pub(crate)"));
    format!(
        "mod alarm {{ pub(super) use crate::{{Alarm, Room}}; }}\npub mod waker {{\n{waker}}}\npub mod idle {{\n{idle}}}\n"
    )
}

fn write(model: &str, name: &str, text: &str) {
    let directory = Path::new(&env::var("OUT_DIR").expect("cargo sets it")).join(model);
    let path = directory.join(name).with_extension("rs");
    let written = fs::create_dir_all(&directory).and_then(|()| fs::write(&path, text));
    written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
