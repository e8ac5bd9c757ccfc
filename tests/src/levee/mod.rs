//! The daemons under test, as a user runs them: a configuration file, the real binary, its socket.

mod control;
mod dataplane;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

pub use control::{Control, Role};
pub use dataplane::{Dataplane, Ports, Take, cores};

/// How long a daemon may take to be ready. It is a fraction of a second on an idle machine.
const START: Duration = Duration::from_secs(20);

/// A binary of this workspace, from the build that this code is of.
///
/// # Panics
/// If it was not built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let directory = std::env::var_os("LEVEE_BIN_DIR").map_or_else(
        || {
            let me = std::env::current_exe().expect("a process has an executable");
            let at = me.parent().expect("it lies in a directory").to_owned();
            // Tests lie in `deps`, beside which binaries do.
            if at.ends_with("deps") { at.parent().map(Path::to_owned).unwrap_or(at) } else { at }
        },
        PathBuf::from,
    );
    let path = directory.join(name);
    assert!(path.is_file(), "{} is not built: cargo build --workspace --bins", path.display());
    path
}

/// The command line, asking these sockets.
#[must_use]
pub fn cli(dataplane: &Path, control: Option<&Path>) -> Command {
    let mut command = Command::new(binary("levee"));
    command.env("LEVEE_SOCKET", dataplane);
    if let Some(control) = control {
        command.env("LEVEE_CONTROL_SOCKET", control);
    }
    command
}

/// One request on a daemon's socket, by curl as anybody could: the status and the body.
pub(crate) fn request(socket: &Path, method: &str, path: &str, body: Option<&str>) -> (u16, Value) {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "10", "--request", method, "--unix-socket"]).arg(socket);
    command.args(["--write-out", "\n%{http_code}"]).arg(format!("http://levee{path}"));
    if let Some(body) = body {
        let file = socket.with_extension("body");
        std::fs::write(&file, body).expect("the lab's directory can be written");
        command.args(["--header", "Content-Type: application/json", "--data-binary"]);
        command.arg(format!("@{}", file.display()));
    }
    let output = command.output().expect("curl can be run");
    let text = String::from_utf8_lossy(&output.stdout);
    let (body, status) = text.rsplit_once('\n').unwrap_or((&text, "0"));
    (status.trim().parse().unwrap_or(0), serde_json::from_str(body).unwrap_or(Value::String(body.to_owned())))
}

/// An address and a port, in short.
#[must_use]
pub fn at(address: impl Into<std::net::IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::from((address.into(), port))
}
