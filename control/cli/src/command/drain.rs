//! `levee drain`: waits for the control process beside a dataplane to end.
//!
//! Told to stop, a control process gives away what it announces, and then removes its socket; until then its dataplane has to go on
//! forwarding. Where nothing else keeps that order (the containers of a pod are told to stop at the same time), this does, in the
//! dataplane's preStop hook.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// Between two looks: short beside the pause before the kubelet's SIGTERM, long beside what a look costs.
const LOOK: Duration = Duration::from_millis(100);

pub(super) fn run(socket: &Path, at_most: Duration) -> Result<(), Failure> {
    let end = Instant::now() + at_most;
    loop {
        match UnixStream::connect(socket) {
            Ok(_) => {}
            // It has removed its socket, or was killed.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(());
            }
            Err(error) => {
                let message = format!("{}: cannot be looked at: {error}", socket.display());
                return Err(Failure::daemon(message, "run as root, or as a member of the socket's group"));
            }
        }
        if Instant::now() >= end {
            let waited = humantime::format_duration(at_most);
            return Err(Failure::daemon(
                format!("{}: levee-control still answers after {waited}", socket.display()),
                "was it told to stop? what it announces is lost when its dataplane ends now, until another takes over",
            ));
        }
        std::thread::sleep(LOOK);
    }
}
