//! nginx that answers with its name and the client's address, and curl that counts who answered.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::daemon::Daemon;
use crate::lab::in_path;
use crate::namespace::Namespace;

/// An HTTP server whose every answer is one line: `<name> <client's address>`.
pub struct Nginx {
    /// The process, with its log.
    pub daemon: Daemon,
}

impl Nginx {
    /// Starts nginx on a port of every address of the namespace, and waits until it listens.
    ///
    /// # Panics
    /// If nginx is missing or will not start.
    #[must_use]
    pub fn start(namespace: &Namespace, name: &str, port: u16) -> Nginx {
        assert!(in_path("nginx"), "`nginx` is missing: apt-get install nginx-light (scripts/test does it)");
        let directory = namespace.directory().join(format!("nginx-{name}"));
        fs::create_dir_all(&directory).expect("the lab's directory can be written");
        let at = directory.display();
        // One process, everything it writes inside the lab, and no connection kept: each request is a flow.
        let configuration = format!(
            "daemon off; master_process off; pid {at}/pid; error_log stderr info;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_timeout 0; default_type text/plain;
  client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
  uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
  server {{ listen {port} backlog=1024; listen [::]:{port} backlog=1024; return 200 \"{name} $remote_addr\\n\"; }}
}}
"
        );
        let path = directory.join("nginx.conf");
        fs::write(&path, configuration).expect("the lab's directory can be written");
        let mut command = namespace.command("nginx");
        command.arg("-c").arg(&path).arg("-p").arg(&directory).args(["-e", "stderr"]);
        let mut daemon = namespace.start(&format!("nginx-{name}"), command);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        daemon.wait_until("it listens", Duration::from_secs(5), |_| {
            namespace.enter(|| std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())
        });
        Nginx { daemon }
    }
}

/// Who answered how often.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answers, by the server's name.
    pub by_server: BTreeMap<String, usize>,
    /// Answers, by the client's address as the server saw it.
    pub by_client: BTreeMap<String, usize>,
    /// Requests that had no answer, as curl tells of them.
    pub failures: Vec<String>,
}

impl Tally {
    /// Requests that were answered.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.by_server.values().sum()
    }

    /// Adds another one's counts.
    pub fn merge(&mut self, other: Tally) {
        for (mine, theirs) in [(&mut self.by_server, other.by_server), (&mut self.by_client, other.by_client)] {
            for (name, count) in theirs {
                *mine.entry(name).or_default() += count;
            }
        }
        self.failures.extend(other.failures);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answered", self.answered())?;
        for (name, count) in &self.by_server {
            write!(f, ", {name} {count}")?;
        }
        write!(f, ", {} failed", self.failures.len())?;
        self.failures.first().map_or(Ok(()), |first| write!(f, " (the first: {first})"))
    }
}

/// One running curl process that makes many requests, each on a connection of its own.
pub struct Curl {
    child: Child,
    requests: usize,
}

impl Curl {
    /// Starts it.
    ///
    /// # Panics
    /// If curl is missing.
    #[must_use]
    pub fn start(client: &Namespace, server: SocketAddr, requests: usize) -> Curl {
        assert!(in_path("curl"), "`curl` is missing: apt-get install curl (scripts/test does it)");
        let mut command = client.command("curl");
        command.args(["--silent", "--show-error", "--no-keepalive", "--max-time", "20", "--connect-timeout", "5"]);
        command.args(["--header", "Connection: close", "--noproxy", "*"]);
        command.arg(format!("http://{server}/[1-{requests}]"));
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("curl can be run");
        Curl { child, requests }
    }

    /// Waits for its end and counts.
    ///
    /// # Panics
    /// If its output cannot be read.
    #[must_use]
    pub fn finish(self) -> Tally {
        let output = self.child.wait_with_output().expect("curl's output can be read");
        let mut tally = Tally::default();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            if let Some((server, client)) = line.split_once(' ') {
                *tally.by_server.entry(server.to_owned()).or_default() += 1;
                *tally.by_client.entry(client.to_owned()).or_default() += 1;
            }
        }
        tally.failures.extend(String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned));
        // What curl does not own up to is still not an answer.
        while tally.answered() + tally.failures.len() < self.requests {
            tally.failures.push("no answer, and no word about it".to_owned());
        }
        tally
    }

    /// Several of them at once, to the end.
    #[must_use]
    pub fn many(client: &Namespace, server: SocketAddr, processes: usize, requests_each: usize) -> Tally {
        let running: Vec<_> = (0..processes).map(|_| Curl::start(client, server, requests_each)).collect();
        let mut total = Tally::default();
        for curl in running {
            total.merge(curl.finish());
        }
        total
    }
}

/// Requests that go on, by several curl processes at once, until they are told to end.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Tally>>,
}

impl Load {
    /// Requests that one process makes before the next takes over and looks whether to go on.
    const BATCH: usize = 25;

    /// Starts it.
    #[must_use]
    pub fn start(client: &Namespace, server: SocketAddr, processes: usize) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let one = || {
            let (client, stop) = (client.clone(), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut tally = Tally::default();
                while !stop.load(Ordering::Relaxed) {
                    tally.merge(Curl::start(&client, server, Load::BATCH).finish());
                }
                tally
            })
        };
        Load { threads: (0..processes).map(|_| one()).collect(), stop }
    }

    /// Ends it, and counts.
    ///
    /// # Panics
    /// If curl could not be run.
    #[must_use]
    pub fn finish(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut total = Tally::default();
        for thread in self.threads {
            total.merge(thread.join().expect("curl can be run"));
        }
        total
    }
}
