//! `quic_lb`: how servers make connection IDs that name them, by names that Services' annotations refer to.
//!
//! Keys are in files of their own, so that the configuration can be shown to anybody and a Secret can be mounted. They are followed as
//! the configuration is; a new key wants a new `rotation` beside the old one, for as long as connections of the old one live.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::path::{Path, PathBuf};

use levee_api::diagnostic::Diagnostic;
use levee_api::quic::{self, Key, Server};
use serde::Deserialize;

use super::Config;
use crate::model::{Origin, Placed, is_object_name};
use crate::watch::files::{self, Fingerprint};

/// Of a key.
const DIGITS: usize = 32;

/// One entry, as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    name: Placed<String>,
    rotation: u8,
    server_id_length: u8,
    nonce_length: u8,
    key_file: Option<Placed<PathBuf>>,
    #[serde(default)]
    encodes_length: bool,
    #[serde(default)]
    servers: Vec<Server>,
}

/// Configurations by name, and where their keys are.
pub(super) type Named = (BTreeMap<String, quic::Config>, BTreeMap<String, PathBuf>);

/// Judges the section. Keys stay hidden until [`keys`] has read them.
pub(super) fn read(entries: Vec<Placed<Entry>>, origin: &Origin, mistakes: &mut Vec<Diagnostic>) -> Named {
    let (mut configs, mut key_files) = (BTreeMap::new(), BTreeMap::new());
    for Placed { value: entry, place } in entries {
        let Entry { name, rotation, server_id_length, nonce_length, key_file, encodes_length, servers } = entry;
        let config = quic::Config { rotation, server_id_length, nonce_length, key: None, encodes_length, servers };
        if !is_object_name(&name.value) {
            let shown: String = name.value.chars().take(60).collect();
            mistakes.push(
                origin
                    .diagnostic(name.place, format!("`{shown}` cannot be the name of a configuration"))
                    .help("expected lower-case letters, digits, `-` and `.`, since Services' annotations refer to it"),
            );
        } else if let Err(message) = config.check() {
            mistakes.push(
                origin
                    .diagnostic(place, format!("`{}`: {message}", name.value))
                    .help("see docs/quic.md for what it means"),
            );
        } else if let Slot::Vacant(slot) = configs.entry(name.value.clone()) {
            let key = key_file.as_ref().map(|_| Key::HIDDEN);
            key_files.extend(key_file.map(|file| (name.value, file.value)));
            slot.insert(quic::Config { key, ..config });
        } else {
            let message = format!("`{}` is here for the second time", name.value);
            mistakes.push(origin.diagnostic(name.place, message).help("give each configuration a name of its own"));
        }
    }
    (configs, key_files)
}

/// Reads the keys of a configuration.
///
/// # Errors
/// For each file that has none: which, and what was expected. No part of what it has is shown.
pub(super) fn keys(config: &mut Config) -> Result<(), Vec<Diagnostic>> {
    let mut mistakes = Vec::new();
    for (name, file) in &config.key_files {
        match key(file) {
            Ok(key) => config.view.quic.entry(name.clone()).and_modify(|config| config.key = Some(key)),
            Err(mistake) => {
                mistakes.push(mistake);
                continue;
            }
        };
    }
    if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
}

fn key(file: &Path) -> Result<Key, Diagnostic> {
    let name = file.display().to_string();
    if !Fingerprint::is_regular(file) {
        // To read a FIFO or a terminal could take for ever.
        return Err(Diagnostic::new(name, "this is no file").help("expected one with 32 hexadecimal digits"));
    }
    let bytes = files::read_bytes(file).map_err(|error| files::unreadable(file, &error))?;
    let text = String::from_utf8_lossy(&bytes);
    text.trim().parse().map_err(|what: String| {
        let (line, column) = place(&text);
        Diagnostic::new(name, what)
            .at(line, column)
            .help("make one with `openssl rand -hex 16`, and give it to the servers too")
    })
}

/// Line and column of the first character that cannot stand there in a key, or that is missing.
fn place(text: &str) -> (usize, usize) {
    let key = text.trim_start();
    let good = key.chars().take(DIGITS).take_while(char::is_ascii_hexdigit).count();
    let before = text.get(..text.len() - key.len() + good).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use crate::config::{load, read};

    const SOURCES: &str = "sources: [{path: /a}]\nnode: n\n";
    const GOOD: &str = "{name: blue, rotation: 0, server_id_length: 4, nonce_length: 6, encodes_length: true}";

    #[test]
    fn configurations_have_names() {
        let yaml = format!(
            "{SOURCES}quic_lb:\n  - {GOOD}\n  - {{name: listed, rotation: 1, server_id_length: 3, nonce_length: 4, servers: [{{id: c4605e, address: 10.0.0.1}}]}}\n"
        );
        let config = read("control.yaml", yaml.as_bytes(), "host").expect("good");
        assert_eq!(config.view.quic.keys().collect::<Vec<_>>(), ["blue", "listed"]);
        assert_eq!(config.view.quic["listed"].servers[0].id.to_string(), "c4605e");
        assert!(config.view.quic["blue"].encodes_length && config.view.quic["blue"].key.is_none());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (entry, expected) in [
            (GOOD.replace("blue", "Blue"), "control.yaml:3:18: `Blue` cannot be the name"),
            (GOOD.replace("rotation: 0", "rotation: 7"), "control.yaml:3:11: `blue`: rotation 7: expected 0 to 6"),
            (GOOD.replace("nonce_length: 6", "nonce_length: 16"), "together they may be 19 at most"),
            (GOOD.replace("nonce_length: 6", "nonce_length: 300"), "control.yaml:3:"),
            (GOOD.replace("encodes_length", "encode_length"), "unknown key `encode_length`"),
            (GOOD.replace('}', ", servers: [{id: c460, address: 10.0.0.1}]}"), "server ID c460 has not 4 octets"),
            (GOOD.replace('}', ", servers: [{id: xyz, address: 10.0.0.1}]}"), "`xyz` is no server ID"),
            (format!("{GOOD}, {GOOD}"), "`blue` is here for the second time"),
        ] {
            let yaml = format!("{SOURCES}quic_lb: [{entry}]\n");
            let mistakes = read("control.yaml", yaml.as_bytes(), "host").expect_err(&yaml);
            assert!(mistakes[0].to_string().contains(expected), "{yaml}\n{}\n{expected}", mistakes[0]);
        }
    }

    #[test]
    fn keys_come_from_files_and_are_not_shown() {
        let directory = tempfile::tempdir().expect("a directory");
        let (file, key) = (directory.path().join("control.yaml"), directory.path().join("blue.key"));
        let entry = GOOD.replace('}', &format!(", key_file: {}}}", key.display()));
        std::fs::write(&file, format!("{SOURCES}quic_lb: [{entry}]\n")).expect("written");
        let told = |what: &str| {
            let mistakes = load(&file).expect_err(what);
            assert!(mistakes[0].to_string().contains("blue.key"), "{}", mistakes[0]);
            mistakes[0].to_string()
        };
        told("no such file");
        std::fs::write(&key, "8f95f09245765f80256934e50c66207\n").expect("written");
        assert!(told("a digit is missing").contains("32 hexadecimal digits"));
        assert!(!told("a digit is missing").contains("8f95"));
        for (text, expected) in [
            ("8f95f09245765f80256934e50c66207\n", "blue.key:1:32: not a key: expected 32"),
            ("\n  8f95f0g245765f80256934e50c66207f", "blue.key:2:9: not a key"),
            ("8f95f09245765f80256934e50c66207f0", "blue.key:1:33: not a key"),
            ("", "blue.key:1:1: not a key"),
            ("\u{0}\u{fffd}", "blue.key:1:1: not a key"),
        ] {
            std::fs::write(&key, text).expect("written");
            assert!(told(text).contains(expected), "{}", told(text));
        }
        std::fs::remove_file(&key).expect("it was written");
        std::fs::create_dir(&key).expect("there is nothing else of this name");
        told("a directory");
        std::fs::remove_dir(&key).expect("it is empty");
        std::fs::write(&key, "8f95f09245765f80256934e50c66207f\n").expect("written");
        let config = load(&file).expect("good");
        let blue = config.view.quic["blue"].key.as_ref().and_then(|key| key.octets()).expect("it is known");
        assert_eq!(blue[..2], [0x8f, 0x95]);
        assert!(!format!("{config:?}").contains("8f95"));
    }
}
