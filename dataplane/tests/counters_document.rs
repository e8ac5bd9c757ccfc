//! `docs/counters.md` is made from the lists in the code, and this test keeps it so.
//!
//! `LEVEE_UPDATE_DOCS=1 cargo test -p levee-dataplane --test counters_document` writes it anew.

use std::fmt::Write;
use std::path::Path;

use levee_dataplane::counters::Counter;
use levee_dataplane::reason::Reason;

fn document() -> String {
    let mut text = String::from(
        "# Counters\n\n\
         Made from `dataplane/src/counters.rs` and `dataplane/src/reason.rs`; do not edit it here.\n\n\
         Always true, between two batches: `rx` = `forwarded` + `hairpinned` + `passed` + `dropped` + `waiting`, summed over \
         all workers.\n\n\
         ## What becomes of frames\n\n| counter | what it counts |\n|---|---|\n",
    );
    for counter in Counter::ALL {
        let _ = writeln!(text, "| `{}` | {} |", counter.name(), counter.meaning());
    }
    text.push_str("\n## Why frames are dropped\n\n`levee drops` shows these; their sum is `dropped`.\n\n");
    text.push_str("| reason | what it means |\n|---|---|\n");
    for reason in Reason::ALL {
        let _ = writeln!(text, "| `{}` | {} |", reason.name(), reason.meaning());
    }
    text
}

#[test]
fn the_document_says_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/counters.md");
    if std::env::var_os("LEVEE_UPDATE_DOCS").is_some() {
        std::fs::write(&path, document()).expect("docs/counters.md can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == document(),
        "docs/counters.md is not what the code says; run \
         `LEVEE_UPDATE_DOCS=1 cargo test -p levee-dataplane --test counters_document`"
    );
}
