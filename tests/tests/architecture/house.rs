//! Rules of the house: `unsafe`, length, words that must not be committed, links, files that must be there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::none_of;
use crate::source::{files, files_ending, identifiers, relative, root, tokens};

/// Where `unsafe` may be.
const HOMES_OF_UNSAFE: &[&str] = &["dataplane/af-xdp/", "dataplane/src/mem/"];

/// Lines at which a file is too long to be one noun.
const TOO_LONG: usize = 800;

/// Sources of which each test that includes them uses a part.
const PARTLY_USED: &[&str] = &["tests/common/mod.rs", "tests/loom/"];

/// What a clean clone must have; those in the second list must be executable.
const FILES: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    "deny.toml",
    "rust-toolchain.toml",
];
const SCRIPTS: &[&str] = &[
    "scripts/demo",
    "scripts/demo-kubernetes",
    "scripts/test",
    "scripts/bench",
    "scripts/pktgen-kernel",
    "scripts/fuzz",
    "scripts/image-root",
    "scripts/kube-apiserver",
    "scripts/manifests",
    ".ci/run",
];

fn sources() -> Vec<PathBuf> {
    files_ending(&root(), ".rs")
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn unsafe_has_two_homes() {
    let mut complaints = Vec::new();
    for path in sources() {
        let file = relative(&path);
        if HOMES_OF_UNSAFE.iter().any(|home| file.starts_with(home)) {
            continue;
        }
        let mut names = Vec::new();
        identifiers(&tokens(&path), &mut names);
        for (line, name) in names.iter().filter(|(_, name)| ["unsafe", "unsafe_code"].contains(&name.as_str())) {
            complaints.push(format!(
                "{file}:{line}: `{name}` outside of {HOMES_OF_UNSAFE:?}. Use a safe function of one of them, or give them one."
            ));
        }
    }
    none_of(&complaints);
}

#[test]
fn a_file_is_one_noun() {
    let long = sources().into_iter().map(|path| (relative(&path), text(&path).lines().count()));
    let complaints: Vec<_> = long
        .filter(|(_, lines)| *lines > TOO_LONG)
        .map(|(file, lines)| format!("{file}: {lines} lines, and {TOO_LONG} are the limit. Split it by nouns."))
        .collect();
    none_of(&complaints);
}

/// Tests' inner files: their module is what they test.
fn is_part_of_a_test(path: &Path) -> bool {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    let inside_tests = parts.iter().rposition(|part| part == "tests").is_some_and(|at| at + 2 < parts.len());
    path.ends_with("tests.rs") || (inside_tests && !path.ends_with("main.rs"))
}

#[test]
fn every_file_begins_with_its_manual() {
    let complaints: Vec<_> = sources()
        .into_iter()
        .filter(|path| !is_part_of_a_test(path) && !text(path).lines().any(|line| line.starts_with("//!")))
        .map(|path| {
            format!("{}: no `//!` at its head. Say what it is, who uses it, and what it never does.", relative(&path))
        })
        .collect();
    none_of(&complaints);
}

#[test]
fn nothing_unfinished_is_committed() {
    let mut complaints = Vec::new();
    for path in sources() {
        let file = relative(&path);
        let mut names = Vec::new();
        identifiers(&tokens(&path), &mut names);
        for (line, name) in names {
            if ["todo!", "unimplemented!", "dbg!"].contains(&name.as_str()) {
                complaints
                    .push(format!("{file}:{line}: `{name}`. Finish it, or leave it out and say so in the documents."));
            }
            if name == "dead_code" && !PARTLY_USED.iter().any(|place| file.contains(place)) {
                complaints.push(format!("{file}:{line}: `dead_code` is allowed here. Remove what nobody calls."));
            }
        }
        for (number, line) in text(&path).lines().enumerate() {
            if line.trim() == "#[ignore]" {
                complaints.push(format!(
                    "{file}:{}: a test is ignored without a reason. Write `#[ignore = \"why, and who runs it\"]`.",
                    number + 1
                ));
            }
        }
    }
    none_of(&complaints);
}

#[test]
fn what_a_clean_clone_needs_is_there() {
    let mut complaints = Vec::new();
    for file in FILES.iter().chain(SCRIPTS).filter(|file| !root().join(file).is_file()) {
        complaints.push(format!("{file} is missing: users and CI look for it."));
    }
    for script in SCRIPTS.iter().filter(|file| root().join(file).is_file()) {
        let mode = root().join(script).metadata().expect("it is a file").permissions().mode();
        if mode & 0o111 == 0 {
            complaints.push(format!("{script} is not executable: chmod +x {script}"));
        }
    }
    none_of(&complaints);
}

/// Links `[text](target)` of a document, with their lines; code does not link.
fn links(document: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (number, line) in document.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        let mut rest = prose.as_str();
        while let (false, Some(at)) = (in_code, rest.find("](")) {
            rest = &rest[at + 2..];
            let target = rest.split([')', ' ']).next().unwrap_or_default();
            found.push((number + 1, target.to_owned()));
        }
    }
    found
}

/// The names under which a document's headings are linked to, as GitHub and others make them.
fn anchors(document: &str) -> Vec<String> {
    let slug = |heading: &str| -> String {
        let kept = heading.trim().to_lowercase();
        kept.chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect()
    };
    document.lines().filter(|line| line.starts_with('#')).map(|line| slug(line.trim_start_matches('#'))).collect()
}

#[test]
fn links_in_documents_are_alive() {
    let mut complaints = Vec::new();
    for path in files_ending(&root(), ".md") {
        let document = text(&path);
        for (line, link) in links(&document) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) =
                link.split_once('#').map_or((link.as_str(), None), |(file, anchor)| (file, Some(anchor)));
            let target = if file.is_empty() { path.clone() } else { path.with_file_name("").join(file) };
            let place = format!("{}:{line}", relative(&path));
            if !target.exists() {
                complaints.push(format!("{place}: `{link}` leads nowhere. Mend the link or write the file."));
            } else if let Some(anchor) = anchor.filter(|_| target.is_file())
                && !anchors(&text(&target)).iter().any(|name| name == anchor)
            {
                complaints.push(format!("{place}: {} has no heading `#{anchor}`.", relative(&target)));
            }
        }
    }
    none_of(&complaints);
}

#[test]
fn nothing_points_to_one_persons_machine() {
    // Built from pieces, so that this file does not match itself.
    let private = ["/ho", "/ro"].map(|start| format!("{start}{}", if start == "/ho" { "me/" } else { "ot/" }));
    let mut complaints = Vec::new();
    for path in files(&root()) {
        let Ok(content) = fs::read_to_string(&path) else { continue };
        for (number, line) in content.lines().enumerate() {
            let begins_a_path = |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "./_-}".contains(c));
            if private.iter().any(|place| line.match_indices(place.as_str()).any(|(at, _)| begins_a_path(at))) {
                complaints.push(format!(
                    "{}:{}: a path that one machine has. Use one relative to the repository.",
                    relative(&path),
                    number + 1
                ));
            }
        }
    }
    none_of(&complaints);
}

#[test]
fn links_and_anchors_are_read_as_they_are_meant() {
    let document = "# One `two`, three\n[a](b.md#one-two-three) `[no](link)` [c](d)\n```\n[no](either)\n```\n";
    assert_eq!(links(document), [(2, "b.md#one-two-three".to_owned()), (2, "d".to_owned())]);
    assert_eq!(anchors(document), ["one-two-three"]);
}
