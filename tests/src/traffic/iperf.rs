//! iperf3: as much as there is room for, over TCP or UDP.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use crate::daemon::Daemon;
use crate::lab::in_path;
use crate::namespace::Namespace;

/// A server of iperf3.
pub struct Iperf {
    /// The process, with its log.
    pub daemon: Daemon,
}

/// What one run has moved, as the server saw it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moved {
    /// Bytes that arrived.
    pub bytes: u64,
    /// Datagrams that were sent; 0 for TCP.
    pub datagrams: u64,
    /// Those that did not arrive.
    pub lost: u64,
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Connections at once, each as fast as it can.
    Tcp {
        /// How many.
        connections: u8,
    },
    /// Flows of datagrams at once.
    Udp {
        /// How many.
        flows: u8,
        /// Megabits per second and flow.
        megabits: u16,
    },
}

impl Iperf {
    /// Listens on a port of every address of the namespace, of both families.
    ///
    /// # Panics
    /// If iperf3 is missing or will not start.
    #[must_use]
    pub fn start(namespace: &Namespace, port: u16) -> Iperf {
        assert!(in_path("iperf3"), "`iperf3` is missing: apt-get install iperf3 (scripts/test does it)");
        let mut command = namespace.command("iperf3");
        command.args(["--server", "--forceflush", "--port", &port.to_string()]);
        let mut daemon = namespace.start("iperf3", command);
        daemon.wait_until("it listens", Duration::from_secs(5), |daemon| daemon.log().contains("Server listening"));
        Iperf { daemon }
    }

    /// Sends to a server for some seconds, from a namespace.
    ///
    /// # Errors
    /// As iperf3 says.
    ///
    /// # Panics
    /// If its report cannot be read.
    pub fn run(client: &Namespace, server: SocketAddr, stream: Stream, seconds: u8) -> Result<Moved, String> {
        let mut command = client.command("iperf3");
        command.args(["--json", "--time", &seconds.to_string(), "--connect-timeout", "5000"]);
        command.args(["--client", &server.ip().to_string(), "--port", &server.port().to_string()]);
        match stream {
            Stream::Tcp { connections } => command.args(["--parallel", &connections.to_string()]),
            // Datagrams that fit, tunnel or not: how fragments fare is another test's to say.
            Stream::Udp { flows, megabits } => command.args([
                "--udp",
                "--length",
                "1200",
                "--parallel",
                &flows.to_string(),
                "--bitrate",
                &format!("{megabits}M"),
            ]),
        };
        let output = command.stdin(Stdio::null()).output().expect("iperf3 can be run");
        let text = String::from_utf8_lossy(&output.stdout);
        let report: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        if let Some(error) = report["error"].as_str() {
            return Err(error.to_owned());
        }
        let end = &report["end"];
        let of = |part: &serde_json::Value, name: &str| part[name].as_u64().unwrap_or(0);
        Ok(match stream {
            Stream::Tcp { .. } => Moved { bytes: of(&end["sum_received"], "bytes"), datagrams: 0, lost: 0 },
            Stream::Udp { .. } => Moved {
                bytes: of(&end["sum"], "bytes"),
                datagrams: of(&end["sum"], "packets"),
                lost: of(&end["sum"], "lost_packets"),
            },
        })
    }
}
