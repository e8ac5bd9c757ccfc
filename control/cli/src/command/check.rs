//! `levee check`: every file of ours, judged offline by whoever will read it.
//!
//! ```text
//!  FILE… ─► recognise ─┬─ Kubernetes objects ─► all together, one cluster ─► levee_control
//!                      ├─ a control configuration ─────────────────────────► levee_control
//!                      ├─ a dataplane configuration ───────────────────────► levee_dataplane
//!                      └─ a program ───────────────────────────────────────► levee_dataplane
//! ```

mod recognise;

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use levee_api::diagnostic::Diagnostic;
use levee_control::compile::{View, compile};
use levee_control::model::{ValidatedCluster, validate};
use levee_control::notice::Notice;
use levee_control::watch::{self, files};
use serde::Serialize;

use self::recognise::{Kind, recognise};
use super::program;
use crate::arguments::Format;
use crate::failure::Failure;
use crate::input::{self, Input};
use crate::output::value;

/// What was found.
#[derive(Debug, Default, Serialize)]
struct Findings {
    /// Whether nothing is wrong.
    ok: bool,
    files: Vec<Checked>,
    mistakes: Vec<Diagnostic>,
    notices: Vec<Notice>,
}

/// A file, and what it was taken for.
#[derive(Debug, Serialize)]
struct Checked {
    file: String,
    kind: Option<Kind>,
}

pub(super) fn run(format: Format, paths: &[PathBuf], here: bool) -> Result<(), Failure> {
    let findings = check(paths, here);
    if !format.is_for_people() {
        value(&mut io::stdout().lock(), format, &findings)?;
        return if findings.ok { Ok(()) } else { Err(Failure::Told(2)) };
    }
    let mut stdout = io::stdout().lock();
    let wrong: BTreeSet<&str> = findings.mistakes.iter().map(|mistake| mistake.file.as_str()).collect();
    for Checked { file, kind } in &findings.files {
        if let (Some(kind), false) = (kind, wrong.contains(file.as_str())) {
            writeln!(stdout, "{file}: {kind}: ok")?;
        }
    }
    stdout.flush()?;
    for notice in &findings.notices {
        eprintln!("note: {notice}");
    }
    if findings.ok { Ok(()) } else { Err(Failure::Input(findings.mistakes)) }
}

/// Checks all of it, so that an operator sees every mistake at once.
fn check(paths: &[PathBuf], here: bool) -> Findings {
    let mut findings = Findings::default();
    let mut objects = Vec::new();
    for path in paths {
        for input in read(path, &mut findings.mistakes) {
            let kind = match recognise(&input) {
                Ok(kind) => Some(kind),
                Err(mistake) => {
                    findings.mistakes.push(mistake);
                    None
                }
            };
            let Input { name, bytes } = &input;
            match kind {
                Some(Kind::Dataplane) => findings.mistakes.extend(dataplane(name, bytes, here)),
                // Any host will do: whether this one's name could be a Node's is not the file's fault.
                Some(Kind::Control) => {
                    let judged = levee_control::config::read(name, bytes, "localhost");
                    findings.mistakes.extend(judged.err().unwrap_or_default());
                }
                Some(Kind::Program) => findings.mistakes.extend(program::judge(name, bytes).err().unwrap_or_default()),
                Some(Kind::Kubernetes) | None => {}
            }
            findings.files.push(Checked { file: name.clone(), kind });
            if kind == Some(Kind::Kubernetes) {
                objects.push(input);
            }
        }
    }
    if !objects.is_empty() {
        kubernetes(&objects, &mut findings);
    }
    findings.ok = findings.mistakes.is_empty();
    findings
}

/// A dataplane's configuration by itself and, if asked for, on this machine.
fn dataplane(file: &str, bytes: &[u8], here: bool) -> Vec<Diagnostic> {
    let config = match levee_dataplane::config::read(file, bytes) {
        Ok(config) => config,
        Err(mistakes) => return mistakes,
    };
    if !here {
        return Vec::new();
    }
    match levee_dataplane::boot::look() {
        Ok(machine) => config.against(&machine),
        Err(error) => vec![
            Diagnostic::new(file, format!("this machine cannot be looked at: {error}"))
                .help("is /sys mounted? without `--here`, the file is judged by itself"),
        ],
    }
}

/// The files that a path stands for, as far as they can be read.
fn read(path: &Path, mistakes: &mut Vec<Diagnostic>) -> Vec<Input> {
    let files = if path == Path::new("-") {
        vec![path.to_owned()]
    } else {
        match files::files(path) {
            Ok(files) => files,
            Err(error) => {
                mistakes.push(files::unreadable(path, &error));
                return Vec::new();
            }
        }
    };
    if files.is_empty() {
        let name = path.display().to_string();
        mistakes.push(
            Diagnostic::new(name, "there is no file here whose name ends in .yaml, .yml or .json")
                .help("name a file, or a directory with some; directories inside are not looked into"),
        );
    }
    let mut inputs = Vec::new();
    for file in files {
        match input::read(&file) {
            Ok(input) => inputs.push(input),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    inputs
}

/// All objects as one cluster, as the control process would read them.
fn kubernetes(inputs: &[Input], findings: &mut Findings) {
    let (mut objects, mut notices, mut mistakes) = (Vec::new(), Vec::new(), Vec::new());
    for Input { name, bytes } in inputs {
        let reading = watch::read(name, bytes);
        objects.extend(reading.objects);
        notices.extend(reading.notices);
        mistakes.extend(reading.mistakes);
    }
    if !mistakes.is_empty() {
        // Judged without the documents that cannot be read, the others would be blamed for what is in those.
        findings.mistakes.extend(mistakes);
        findings.notices.extend(notices);
        return;
    }
    let validation = validate(&objects, notices);
    findings.notices.extend(views(&validation.cluster));
    findings.mistakes.extend(validation.refused);
}

/// What compiling has to tell, on a balancer and on a node: of nodes, the first stands for all.
fn views(cluster: &ValidatedCluster) -> BTreeSet<Notice> {
    let node = cluster.nodes().next().map(|(name, _)| View::node(name));
    let views = [View::balancer("")].into_iter().chain(node);
    views.flat_map(|view| compile(cluster, &view).1).collect()
}
