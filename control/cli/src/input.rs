//! Files that are given on the command line: bytes, with names for diagnostics.

use std::io::{self, Read as _};
use std::path::Path;

use levee_api::diagnostic::Diagnostic;
use levee_api::yaml::SIZE_LIMIT;
use levee_control::watch::files;

/// A file's name for people, and its bytes: at most one more than are ever accepted.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// Reads a file; `-` is standard input.
pub(crate) fn read(path: &Path) -> Result<Input, Diagnostic> {
    if path == Path::new("-") {
        let name = "<stdin>".to_owned();
        let mut bytes = Vec::new();
        return match io::stdin().take(SIZE_LIMIT as u64 + 1).read_to_end(&mut bytes) {
            Ok(_) => Ok(Input { name, bytes }),
            Err(error) => Err(Diagnostic::new(name, format!("it cannot be read: {error}"))),
        };
    }
    match files::read_bytes(path) {
        Ok(bytes) => Ok(Input { name: path.display().to_string(), bytes }),
        Err(error) => Err(files::unreadable(path, &error)),
    }
}
