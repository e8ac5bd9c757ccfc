//! YAML bytes to values, or a [`Diagnostic`] with line and column.
//!
//! Every YAML that levee reads comes through here: both daemons' configuration and the cluster's objects. So every
//! mistake is told in the same way, and every hostile input meets the same limits:
//!
//! ```text
//!  bytes ─text()─► &str ─documents()─► [Document] ─read::<T>()─► T
//!    │ too large       │ NUL, not UTF-8     │ lines counted from      │ syntax, wrong type, unknown or doubled key,
//!    ▼                 ▼                    │ the file's beginning    ▼ missing key, bombs of aliases
//!    Diagnostic        Diagnostic           │                         Diagnostic
//! ```
//!
//! It never opens a file: who reads one should stop at [`SIZE_LIMIT`] + 1 bytes, and [`text`] will refuse it. A type says
//! itself whether unknown keys are mistakes (`#[serde(deny_unknown_fields)]`). `#[serde(flatten)]` and untagged enums lose
//! the place of an error, so types that are read here do without.

use serde::de::{DeserializeOwned, DeserializeSeed};
use serde_saphyr::{Budget, Error, MessageFormatter, Options, UserMessageFormatter};

use crate::diagnostic::Diagnostic;
use crate::word;

pub use serde_saphyr::{Location, Spanned};

/// Largest file that is read, in bytes: 16 MiB, some 3,500 Services with ten endpoints each as `kubectl get -o yaml`
/// prints them. Reading takes some five times the file in memory, so a larger one would let a file starve the machine.
pub const SIZE_LIMIT: usize = 16 << 20;

/// Nested mappings and sequences. The deepest Kubernetes object that we read has some 8; each level costs stack.
const DEPTH_LIMIT: usize = 64;

/// Mappings, sequences and scalars of one document: as many as [`SIZE_LIMIT`] bytes of ordinary YAML hold, so that only
/// degenerate input (`[,,,,`) meets it.
const NODE_LIMIT: usize = 2_000_000;

/// Uses of aliases (`*name`), and nodes that all of them together may stand for. People share a few lists; the
/// "billion laughs" (a list of aliases to lists of aliases …) needs many times more.
const ALIAS_LIMIT: usize = 1_000;
const ALIAS_NODE_LIMIT: usize = 100_000;

/// Reads a file that holds exactly one document.
///
/// # Errors
/// Whatever is wrong with it, at its line and column. `file` names it there.
pub fn parse<T: DeserializeOwned>(file: &str, bytes: &[u8]) -> Result<T, Diagnostic> {
    let documents = documents(file, text(file, bytes)?);
    match documents.as_slice() {
        [] => Err(Diagnostic::new(file, "the file has no content").help("it must hold one YAML document")),
        [document] => document.read(),
        [_, second, ..] => Err(Diagnostic::new(file, "a second document begins here, where one was expected")
            .at(second.lines_before + 1, 1)
            .help("remove the line `---` and what follows it, or give it a file of its own")),
    }
}

/// The text in a file's bytes.
///
/// # Errors
/// More than [`SIZE_LIMIT`] bytes; bytes that are no text.
pub fn text<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str, Diagnostic> {
    if bytes.len() > SIZE_LIMIT {
        let limit = SIZE_LIMIT >> 20;
        return Err(Diagnostic::new(file, format!("the file is larger than {limit} MiB, and was not read"))
            .help("split it into several files in one directory, and name the directory"));
    }
    let not_text = |valid: &[u8], what: &str| {
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = valid.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        Diagnostic::new(file, format!("this is not text: {what}"))
            .at(line, column)
            .help("expected YAML in UTF-8; is this the right file?")
    };
    let valid = match std::str::from_utf8(bytes) {
        Ok(valid) => valid,
        Err(error) => {
            let (valid, rest) = bytes.split_at(error.valid_up_to());
            // A NUL says "binary" better than the first byte that breaks UTF-8 does, if it comes first.
            let (valid, what) = match valid.iter().position(|byte| *byte == 0) {
                Some(place) => (bytes.split_at(place).0, "it contains a NUL byte".to_owned()),
                None => (valid, format!("byte {:#04x} is not UTF-8", rest.first().copied().unwrap_or_default())),
            };
            return Err(not_text(valid, &what));
        }
    };
    match valid.find('\0') {
        Some(place) => Err(not_text(bytes.split_at(place).0, "it contains a NUL byte")),
        None => Ok(valid),
    }
}

/// One document of a file, not parsed yet.
#[derive(Debug, Clone, Copy)]
pub struct Document<'a> {
    file: &'a str,
    text: &'a str,
    /// Lines of the file before the document's own first.
    lines_before: usize,
}

/// Splits a text at its `---` and `...` lines. Documents without content (comments, blank lines) are left out.
///
/// Only a line that begins with the marker in its first column is one: YAML 1.2.2, section 9.1.2 forbids that inside any
/// scalar, so no parsing is needed to find them, and a mistake in one document leaves the others readable.
#[must_use]
pub fn documents<'a>(file: &'a str, text: &'a str) -> Vec<Document<'a>> {
    let mut documents = Vec::new();
    let mut rest = text;
    let mut lines_before = 0;
    while !rest.is_empty() {
        // This chunk: up to the `---` of the next, or past the `...` that ends it.
        let (mut length, mut lines) = (0, 0);
        let mut content = false;
        let mut started = false;
        for line in rest.split_inclusive('\n') {
            if is_marker(line, "---") {
                if content || started {
                    break;
                }
                started = true;
                content = has_content(line.trim_start_matches("---"));
            } else if !is_marker(line, "...") {
                // A directive (`%YAML 1.2`) belongs to the document after it; it is no content.
                content |= has_content(line) && (started || !line.starts_with('%'));
            }
            length += line.len();
            lines += 1;
            if is_marker(line, "...") {
                break;
            }
        }
        let (chunk, after) = rest.split_at(length);
        if content {
            documents.push(Document { file, text: chunk, lines_before });
        }
        rest = after;
        lines_before += lines;
    }
    documents
}

/// Whether the line is this document marker: alone, or with a blank after it.
fn is_marker(line: &str, marker: &str) -> bool {
    line.trim_start_matches('\u{feff}')
        .strip_prefix(marker)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Whether anything stands on the line but blanks and a comment.
fn has_content(line: &str) -> bool {
    let line = line.trim_start_matches('\u{feff}').trim();
    !line.is_empty() && !line.starts_with('#')
}

impl<'a> Document<'a> {
    /// The file that it is part of.
    #[must_use]
    pub fn file(&self) -> &'a str {
        self.file
    }

    /// Lines of the file before its own first: what to add to a place in it for a line of the file.
    #[must_use]
    pub fn lines_before(&self) -> usize {
        self.lines_before
    }

    /// Reads it as a value.
    ///
    /// # Errors
    /// The first thing that is wrong with it, in the file's own lines.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Diagnostic> {
        self.with(|deserializer| T::deserialize(deserializer))
    }

    /// Reads it as a seed directs: for documents whose parts say themselves of what type they are.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_seed<S: DeserializeSeed<'a>>(&self, seed: S) -> Result<S::Value, Diagnostic> {
        self.with(|deserializer| seed.deserialize(deserializer))
    }

    /// Something wrong at a place of this document, as a [`Spanned`] value in it gives the place.
    #[must_use]
    pub fn diagnostic(&self, place: Location, message: impl Into<String>) -> Diagnostic {
        let diagnostic = Diagnostic::new(self.file, message);
        match self.line_and_column(place) {
            Some((line, column)) => diagnostic.at(line, column),
            None => diagnostic,
        }
    }

    /// Line and column in the file, both from 1, of a place in this document; `None` where the place is not known.
    #[must_use]
    pub fn line_and_column(&self, place: Location) -> Option<(usize, usize)> {
        let line = usize::try_from(place.line()).ok().filter(|line| *line > 0)?;
        Some((self.lines_before + line, usize::try_from(place.column()).unwrap_or(1).max(1)))
    }

    fn with<T>(
        &self,
        read: impl for<'e> FnOnce(serde_saphyr::Deserializer<'a, 'e>) -> Result<T, Error>,
    ) -> Result<T, Diagnostic> {
        serde_saphyr::with_deserializer_from_str_with_options(self.text, options(), read)
            .map_err(|error| self.explain(&error))
    }

    fn explain(&self, error: &Error) -> Diagnostic {
        let place = error.location().unwrap_or(Location::UNKNOWN);
        let (message, help) = describe(error, self.word_at(place));
        let diagnostic = self.diagnostic(place, message);
        match help.or_else(|| self.cut_off_at(place)) {
            Some(help) => diagnostic.help(help),
            None => diagnostic,
        }
    }

    /// What stands at a place, to the end of its line at most: shown where a message alone does not name the value.
    fn word_at(&self, place: Location) -> Option<&'a str> {
        let line = usize::try_from(place.line()).ok()?.checked_sub(1)?;
        let column = usize::try_from(place.column()).ok()?.checked_sub(1)?;
        let line = self.text.lines().nth(line)?;
        let (start, _) = line.char_indices().nth(column)?;
        let word = line.get(start..)?.split(" #").next()?.trim();
        // In `[a, b]` or `{k: v}`, a plain scalar ends before these (YAML 1.2.2, section 7.3.3); elsewhere values that can be
        // wrong do not have them.
        let plain = !word.starts_with(['"', '\'', '[', '{']);
        let word = if plain { word.split([',', ']', '}']).next()?.trim() } else { word };
        // A whole mapping is no word; neither is half a screen.
        (!word.is_empty() && word.len() <= 60 && !word.contains(": ") && !word.ends_with(':')).then_some(word)
    }

    /// A hint for mistakes in the last line of a text that does not end with a newline: most such files were cut off.
    fn cut_off_at(&self, place: Location) -> Option<String> {
        let last = u64::try_from(self.text.lines().count()).ok()?;
        (place.line() >= last && !self.text.ends_with('\n'))
            .then(|| "this is the last line, and it does not end with a newline: is the file cut off?".to_owned())
    }
}

fn options() -> Options {
    let mut budget = Budget::default();
    budget.max_depth = DEPTH_LIMIT;
    budget.flow_nesting_limit = DEPTH_LIMIT;
    budget.max_nodes = NODE_LIMIT;
    budget.max_events = 2 * NODE_LIMIT;
    budget.max_aliases = ALIAS_LIMIT;
    budget.max_anchors = ALIAS_LIMIT;
    budget.max_merge_keys = ALIAS_LIMIT;
    budget.max_documents = 1;
    let mut options = Options::default();
    options.budget = Some(budget);
    options.alias_limits.max_total_replayed_events = ALIAS_NODE_LIMIT;
    // Diagnostics say the place themselves, and a snippet would copy the text.
    options.with_snippet = false;
    // `yes` is a text, as in YAML 1.2; for a switch it is an error instead of a guess.
    options.strict_booleans = true;
    options
}

/// What is wrong, in our words where they are better than the parser's, and what to do.
fn describe(error: &Error, word: Option<&str>) -> (String, Option<String>) {
    let here = |message: String| match word {
        Some(word) if !message.contains(word) => format!("{message}, at `{word}`"),
        _ => message,
    };
    match error {
        Error::WithSnippet { error, .. } | Error::AliasError { error, .. } => describe(error, word),
        Error::SerdeUnknownField { field, expected, .. } => unknown("key", field, expected),
        Error::SerdeUnknownVariant { variant, expected, .. } => unknown("value", variant, expected),
        Error::SerdeMissingField { field, .. } => {
            (format!("the key `{field}` is missing"), Some(format!("add `{field}:` to this mapping")))
        }
        Error::SerdeInvalidType { unexpected, expected, .. } => {
            (here(format!("wrong type: {unexpected}, expected {expected}")), None)
        }
        Error::SerdeInvalidValue { unexpected, expected, .. } => {
            (here(format!("wrong value: {unexpected}, expected {expected}")), None)
        }
        Error::InvalidScalar { ty, .. } => (here(format!("wrong type: expected {}", spoken(ty))), None),
        Error::Unexpected { expected, .. } => (here(format!("wrong type: expected {}", spoken(expected))), None),
        Error::Eof { .. } => {
            ("the document ends where a value was expected".to_owned(), Some("is the file cut off?".to_owned()))
        }
        Error::DuplicateMappingKey { key, .. } => (
            match key {
                Some(key) => format!("the key `{key}` is here for the second time in one mapping"),
                None => "a key is here for the second time in one mapping".to_owned(),
            },
            Some("keep one of the two".to_owned()),
        ),
        Error::UnknownAnchor { .. } => (
            here("an alias to an anchor that is not in this document".to_owned()),
            Some("quote the value if it is not meant as an alias".to_owned()),
        ),
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => (
            "the document goes beyond the limits for nesting, nodes or aliases, and was not read".to_owned(),
            Some(format!(
                "limits: {DEPTH_LIMIT} levels, {NODE_LIMIT} nodes, {ALIAS_LIMIT} aliases that stand for \
                 {ALIAS_NODE_LIMIT} nodes together; split it, or write shared parts out"
            )),
        ),
        // All that `std` and `ipnet` say, about addresses and prefixes alike.
        Error::Message { msg, .. } if msg == "invalid IP address syntax" => (
            here(msg.clone()),
            Some(
                "expected an address such as `192.0.2.7` or `2001:db8::7`; where a prefix belongs, one such as \
                 `192.0.2.0/24`"
                    .to_owned(),
            ),
        ),
        Error::Message { msg, .. } => (here(msg.clone()), None),
        other => (UserMessageFormatter.format_message(other).into_owned(), None),
    }
}

/// An unknown word, what it may be, and which of those it resembles.
fn unknown(what: &str, found: &str, expected: &[&'static str]) -> (String, Option<String>) {
    let list = expected.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    let message = match expected {
        [] => format!("unknown {what} `{found}`; none is expected here"),
        [only] => format!("unknown {what} `{found}`, expected `{only}`"),
        _ => format!("unknown {what} `{found}`, expected one of {list}"),
    };
    let likely = word::likely(found, expected.iter().copied());
    (message, likely.map(|word| format!("did you mean `{word}`?")))
}

/// The parser's name of a type, as people say it.
fn spoken(ty: &str) -> String {
    match ty {
        "bool" | "boolean" => "`true` or `false`".to_owned(),
        "u8" => "a whole number from 0 to 255".to_owned(),
        "u16" => "a whole number from 0 to 65535".to_owned(),
        "u32" | "u64" | "usize" => "a whole number, not negative".to_owned(),
        "i8" | "i16" | "i32" | "i64" => "a whole number".to_owned(),
        "mapping start" => "a mapping (`key: value`)".to_owned(),
        "sequence start" => "a list (`- item`)".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        name: String,
        address: Option<IpAddr>,
        #[serde(default)]
        ports: Vec<u16>,
        #[serde(default)]
        enabled: bool,
        kind: Option<Kind>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        Uplink,
        Pods,
    }

    fn told(yaml: &str) -> String {
        parse::<Sample>("f.yaml", yaml.as_bytes()).expect_err(yaml).to_string()
    }

    #[test]
    fn a_good_file_is_read() {
        let sample: Sample =
            parse("f.yaml", b"# a comment\nname: a\naddress: 192.0.2.1\nports: [80, 443]\nkind: pods\n").expect("good");
        assert_eq!(sample.ports, [80, 443]);
        assert_eq!(sample.kind, Some(Kind::Pods));
    }

    #[test]
    fn each_mistake_is_told_with_its_place_and_what_was_expected() {
        for (yaml, expected) in [
            ("name: a\nadress: 192.0.2.1\n", "f.yaml:2:1: unknown key `adress`, expected one of `name`, `address`"),
            ("name: a\nadress: 192.0.2.1\n", "help: did you mean `address`?"),
            ("name: a\nkind: uplnk\n", "f.yaml:2:7: unknown value `uplnk`, expected one of `uplink`, `pods`"),
            (
                "name: a\nports: [80, http]\n",
                "f.yaml:2:13: wrong type: expected a whole number from 0 to 65535, at `http",
            ),
            ("name: a\nports: [80, 65536]\n", "f.yaml:2:13: wrong type: expected a whole number from 0 to 65535"),
            ("name: a\nports: 80\n", "f.yaml:2:8: wrong type: "),
            ("name: a\nenabled: yes\n", "f.yaml:2:10: "),
            ("name: a\naddress: 192.0.2.300 # oops\n", "f.yaml:2:10: invalid IP address syntax, at `192.0.2.300`"),
            ("{name: a, address: 192.0.2.300}\n", "f.yaml:1:20: invalid IP address syntax, at `192.0.2.300`"),
            ("- a\n", "f.yaml:1:1: wrong type: expected a mapping (`key: value`), at `- a`"),
            ("name: a\nname: b\n", "f.yaml:2:1: the key `name` is here for the second time"),
            ("ports: [80]\n", "the key `name` is missing"),
            ("name: *nobody\n", "f.yaml:1:7: "),
            ("name: a\n---\nname: b\n", "f.yaml:2:1: a second document begins here"),
            ("", "f.yaml: the file has no content"),
            ("# nothing\n---\n...\n", "f.yaml: the file has no content"),
            ("just text\n", "f.yaml:1:1: wrong type: "),
        ] {
            let told = told(yaml);
            assert!(told.contains(expected), "{yaml}\n--- told:\n{told}\n--- expected:\n{expected}");
        }
    }

    #[test]
    fn every_truncation_is_told_or_is_a_shorter_file() {
        let whole = "name: \"a\"\nports: [80,\n  443]\nkind: uplink\n";
        for length in 0..whole.len() {
            let (cut, _) = whole.split_at(length);
            if let Err(diagnostic) = parse::<Sample>("f.yaml", cut.as_bytes()) {
                assert!(!diagnostic.message.is_empty());
                assert!(diagnostic.line.is_some() || !cut.contains("name"), "{cut:?}: {diagnostic}");
            }
        }
        let told = told("name: a\nports: [80,");
        assert!(told.contains("cut off"), "{told}");
    }

    #[test]
    fn what_is_no_text_is_told_at_its_place() {
        let told = |bytes: &[u8]| text("f.bin", bytes).expect_err("binary").to_string();
        assert!(told(b"name: a\n\x7fELF\0\0\xff").starts_with("f.bin:2:5: this is not text: it contains a NUL byte"));
        assert!(told(b"name: a\nname: \xff\0").starts_with("f.bin:2:7: this is not text: byte 0xff is not UTF-8"));
        assert!(told(&[0xff, 0xd8]).starts_with("f.bin:1:1: this is not text: byte 0xff"));
    }

    #[test]
    fn too_large_a_file_is_refused_unread() {
        let told = text("big.yaml", &vec![b'#'; SIZE_LIMIT + 1]).expect_err("large");
        assert!(told.message.contains("larger than 16 MiB"), "{told}");
        assert!(told.help.expect("help").contains("split it"));
        assert!(text("big.yaml", &vec![b'#'; SIZE_LIMIT]).is_ok());
    }

    #[test]
    fn bombs_are_refused() {
        let deep = format!("name: {}", "[".repeat(10_000));
        assert!(parse::<Sample>("f.yaml", deep.as_bytes()).is_err());
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let alias = format!("*a{}", level - 1);
            laughs += &format!("a{level}: &a{level} [{}]\n", [alias.as_str(); 10].join(", "));
        }
        // Ignored or not, the whole of it is walked.
        let told = parse::<std::collections::BTreeMap<String, serde::de::IgnoredAny>>("f.yaml", laughs.as_bytes())
            .expect_err("a billion")
            .to_string();
        assert!(told.contains("beyond the limits"), "{told}");
    }

    #[test]
    fn documents_keep_the_lines_of_the_file() {
        let yaml = "# head\n---\nname: a\n---\n# only a comment\n---\nname: b\nnmae: c\n...\n%YAML 1.2\n---\nname: d\n\
                    --- {name: e}\n--- # last\nname: f\nkind: none\n";
        let documents = documents("f.yaml", yaml);
        let read: Vec<_> = documents.iter().map(Document::read::<Sample>).collect();
        let names: Vec<_> = read.iter().map(|read| read.as_ref().map(|sample| sample.name.as_str()).ok()).collect();
        assert_eq!(names, [Some("a"), None, Some("d"), Some("e"), None]);
        assert_eq!(read[1].as_ref().expect_err("nmae").line, Some(8));
        assert_eq!(read[4].as_ref().expect_err("none").line, Some(16));
    }

    #[test]
    fn a_marker_inside_a_block_text_is_none_unless_in_the_first_column() {
        let documents = documents("f.yaml", "name: |\n  a\n  ---\n  b\n---x: 1\n");
        assert_eq!(documents.len(), 1);
    }

    #[test]
    fn a_spanned_value_knows_its_place_in_the_file() {
        #[derive(Deserialize)]
        struct Spans {
            name: Spanned<String>,
        }
        let documents = documents("f.yaml", "---\nname: a\n---\n\nname: b\n");
        let second = documents.last().expect("two");
        let spans: Spans = second.read().expect("good");
        assert_eq!(spans.name.value, "b");
        assert_eq!(second.line_and_column(spans.name.referenced), Some((5, 7)));
        assert_eq!(second.diagnostic(spans.name.referenced, "x").to_string(), "f.yaml:5:7: x");
    }

    #[test]
    fn windows_lines_and_a_byte_order_mark_are_read() {
        let documents = documents("f.yaml", "\u{feff}---\r\nname: a\r\n---\r\nname: b\r\n");
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[1].read::<Sample>().expect("good").name, "b");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_value_or_a_diagnostic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse::<Sample>("f.yaml", &bytes);
        }

        #[test]
        fn any_text_is_a_value_or_a_diagnostic(text in "[ \\n\\t:\\[\\]{}&*!|>'\"%@`#,?a-c0-9-]{0,60}") {
            let _ = parse::<Sample>("f.yaml", text.as_bytes());
        }

        #[test]
        fn no_line_is_lost_or_counted_twice(lines in proptest::collection::vec("(---|\\.\\.\\.|name: a|# c||--- x)", 0..20)) {
            let text = lines.join("\n");
            let mut previous = 0;
            for document in documents("f.yaml", &text) {
                let first = document.text.lines().next().unwrap_or_default();
                prop_assert_eq!(text.lines().nth(document.lines_before), Some(first));
                prop_assert!(document.lines_before >= previous);
                previous = document.lines_before + document.text.lines().count();
            }
        }
    }
}
