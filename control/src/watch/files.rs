//! Files and directories of objects.
//!
//! A directory stands for the files in it whose names end in `.yaml`, `.yml` or `.json` and do not begin with a dot, in the
//! order of their names; not for directories in it. Symbolic links are followed, which is how Kubernetes mounts a
//! ConfigMap: `web.yaml → ..data/web.yaml`, `..data → ..2026_01_01…`, and an update replaces `..data` alone.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use levee_api::diagnostic::Diagnostic;
use levee_api::yaml;

use super::read::{Reading, read};

/// Endings of the names of files that are read in a directory.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// Reads every object in a file or directory.
#[must_use]
pub fn read_path(path: &Path) -> Reading {
    let mut reading = Reading::default();
    let files = match files(path) {
        Ok(files) => files,
        Err(error) => {
            reading.mistakes.push(unreadable(path, &error));
            return reading;
        }
    };
    if files.is_empty() {
        reading.mistakes.push(
            Diagnostic::new(
                path.display().to_string(),
                "there is no file here whose name ends in .yaml, .yml or .json",
            )
            .help(
                "to say that the cluster is empty, put a file here with `apiVersion: v1`, `kind: List` and `items: []`",
            ),
        );
    }
    for file in files {
        let one = read_file(&file);
        reading.objects.extend(one.objects);
        reading.notices.extend(one.notices);
        reading.mistakes.extend(one.mistakes);
    }
    reading
}

fn read_file(path: &Path) -> Reading {
    match read_bytes(path) {
        Ok(bytes) => read(&path.display().to_string(), &bytes),
        Err(error) => Reading { mistakes: vec![unreadable(path, &error)], ..Reading::default() },
    }
}

/// A file's bytes, or the first [`yaml::SIZE_LIMIT`] + 1 of them, which is as many as it takes to refuse it.
///
/// # Errors
/// Those of the file system.
pub fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(yaml::SIZE_LIMIT as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The files that a path stands for.
///
/// # Errors
/// Those of the file system.
pub fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        let hidden = file.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let ours = file.extension().is_some_and(|ending| ENDINGS.iter().any(|ours| ending == *ours));
        // A link to nowhere is kept, so that reading it says so; a directory or a FIFO is passed over.
        if ours && !hidden && fs::metadata(&file).map_or(true, |metadata| metadata.is_file()) {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// That a path cannot be read, and what to do.
#[must_use]
pub fn unreadable(path: &Path, error: &io::Error) -> Diagnostic {
    let name = path.display().to_string();
    match error.kind() {
        io::ErrorKind::NotFound => {
            Diagnostic::new(name, "there is no such file or directory").help("check the path, or create it")
        }
        io::ErrorKind::PermissionDenied => {
            Diagnostic::new(name, "permission denied").help("let the user that levee runs as read it")
        }
        _ => Diagnostic::new(name, format!("it cannot be read: {error}")),
    }
}

/// What tells one state of a path from another without reading: of each file its name, device, inode, size and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint(Vec<(PathBuf, Result<[u64; 3], io::ErrorKind>, i128)>);

impl Fingerprint {
    /// Of a path as it is now.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let files = match files(path) {
            Ok(files) => files,
            Err(error) => return Fingerprint(vec![(path.to_owned(), Err(error.kind()), 0)]),
        };
        let state = |file: PathBuf| match fs::metadata(&file) {
            Ok(metadata) => {
                let time = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
                (file, Ok([metadata.dev(), metadata.ino(), metadata.size()]), time)
            }
            Err(error) => (file, Err(error.kind()), 0),
        };
        Fingerprint(files.into_iter().map(state).collect())
    }

    /// Whether every file is a regular one: to read anything else may take for ever.
    #[must_use]
    pub fn is_regular(path: &Path) -> bool {
        fs::metadata(path).map_or(true, |metadata| metadata.is_file() || metadata.is_dir())
    }
}
