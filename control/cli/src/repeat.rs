//! `--watch`: showing the same again and again.

use std::io::{self, IsTerminal as _, Write as _};
use std::thread;
use std::time::Duration;

use crate::failure::Failure;

/// Shows once, or every `interval` until interrupted. On a terminal each picture replaces the one before, in one write.
///
/// Only the first failure ends it: who watches a daemon wants to see it come back.
pub(crate) fn repeat(
    interval: Option<Duration>,
    mut show: impl FnMut(&mut Vec<u8>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    const HOME_AND_CLEAR: &[u8] = b"\x1b[H\x1b[2J";
    let mut stdout = io::stdout().lock();
    let mut picture = Vec::new();
    let first = show(&mut picture);
    stdout.write_all(&picture)?;
    stdout.flush()?;
    first?;
    let Some(interval) = interval else { return Ok(()) };
    loop {
        thread::sleep(interval);
        picture.clear();
        if stdout.is_terminal() {
            picture.extend_from_slice(HOME_AND_CLEAR);
        }
        match show(&mut picture) {
            Ok(()) | Err(Failure::Told(_)) => {}
            Err(failure) => writeln!(picture, "levee: {failure}")?,
        }
        stdout.write_all(&picture)?;
        stdout.flush()?;
    }
}
