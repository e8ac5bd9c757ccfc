//! Copies of the publication's source over loom's types: one as it is, and one for each seeded mistake.

use std::path::Path;
use std::{env, fs};

const SOURCE: &str = "../../dataplane/src/mem/publication.rs";

/// What is changed for each mistake: a name, what stands there, and what is put there instead.
const MISTAKES: &[(&str, &str, &str)] = &[
    ("reclaims_too_early", "*replaced_by > seen", "*replaced_by > seen + 1"),
    ("waits_for_one_reader_only", ".min().unwrap_or(u64::MAX)", ".max().unwrap_or(u64::MAX)"),
    ("retires_nothing", "self.retired.push((version, old));", "drop(old);"),
    (
        "reports_before_it_moves_on",
        "        self.value = value;\n        self.version = version;\n",
        "        if let Some(seen) = self.shared.seen.get(self.index) {\n            seen.store(version, Ordering::Release);\n        }\n        \
         self.value = value;\n        self.version = version;\n",
    ),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SOURCE}");
    let source = fs::read_to_string(SOURCE).unwrap_or_else(|error| panic!("{SOURCE}: {error}"));
    // Inner documentation cannot stand where the copy is included, and its own tests are run where they are.
    let text: String = source.lines().filter(|line| !line.starts_with("//!")).flat_map(|line| [line, "\n"]).collect();
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let text = replaced(text, "use std::sync::{", "use loom::sync::{");
    let out = env::var("OUT_DIR").expect("cargo sets it");
    let write = |name: &str, text: &str| {
        let path = Path::new(&out).join(name).with_extension("rs");
        fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    };
    write("as_it_is", &text);
    for (name, there, instead) in MISTAKES {
        write(name, &replaced(&text, there, instead));
    }
}

/// A mistake that no longer applies would be no test.
fn replaced(text: &str, there: &str, instead: &str) -> String {
    assert_eq!(
        text.matches(there).count(),
        1,
        "{SOURCE} has changed: look for `{there}` and adapt tests/loom/build.rs"
    );
    text.replace(there, instead)
}
