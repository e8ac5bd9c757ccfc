//! A daemon's control socket, asked: HTTP/1.1 over a Unix socket, one connection a request.
//!
//! Blocking for its callers: a runtime of one thread runs for as long as one request does. Every wait has an end, but for
//! the next line of a stream that is followed. Whatever goes wrong comes back as a [`Failure`] that names the socket and
//! says what to do.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use levee_api::report::Problem;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::failure::Failure;

/// Time to be let in. The kernel connects at once, or says why not; only a full backlog waits.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// Time for an answer to begin, and between two parts of it. Reading never waits for a worker that forwards.
const ANSWER_TIME: Duration = Duration::from_secs(15);

/// Time for a program: the daemon itself gives reading one, waiting for its turn and running it 30 s each.
const PROGRAM_TIME: Duration = Duration::from_secs(100);

/// Largest answer that is read whole: four times the largest program that a daemon takes.
const LARGEST_ANSWER: usize = 256 << 20;

/// Which daemon a socket belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Daemon {
    Dataplane,
    Control,
}

impl Daemon {
    /// As its unit and its process are named.
    fn name(self) -> &'static str {
        match self {
            Daemon::Dataplane => "levee-dataplane",
            Daemon::Control => "levee-control",
        }
    }

    /// How another socket of its kind is named to us.
    fn option(self) -> &'static str {
        match self {
            Daemon::Dataplane => "`--socket` or LEVEE_SOCKET",
            Daemon::Control => "`--control-socket` or LEVEE_CONTROL_SOCKET",
        }
    }
}

/// One daemon's socket.
#[derive(Debug)]
pub(crate) struct Client {
    daemon: Daemon,
    socket: PathBuf,
    runtime: Runtime,
}

impl Client {
    /// Not connected yet: each request is by itself, so that a daemon may come and go in between.
    pub(crate) fn new(daemon: Daemon, socket: PathBuf) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Client { daemon, socket, runtime })
    }

    /// `GET`s a value.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.whole(Method::GET, path, Bytes::new(), ANSWER_TIME)
    }

    /// `GET`s a page of text.
    pub(crate) fn text(&self, path: &str) -> Result<String, Failure> {
        self.runtime.block_on(async {
            let response = self.ask(Method::GET, path, Bytes::new(), ANSWER_TIME).await?;
            let bytes = self.body(response).await?;
            String::from_utf8(bytes.into()).map_err(|error| self.unexpected(&error))
        })
    }

    /// `GET`s what stands in line with programs that are being taken.
    pub(crate) fn get_in_line<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.whole(Method::GET, path, Bytes::new(), PROGRAM_TIME)
    }

    /// `DELETE`s, and reads what was.
    pub(crate) fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.whole(Method::DELETE, path, Bytes::new(), ANSWER_TIME)
    }

    /// `POST`s a question.
    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.whole(Method::POST, path, self.json(body)?, ANSWER_TIME)
    }

    /// `PUT`s a program.
    pub(crate) fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.whole(Method::PUT, path, self.json(body)?, PROGRAM_TIME)
    }

    /// `GET`s NDJSON, a value at a time, until it ends or `each` says so by returning `false`.
    pub(crate) fn stream<T: DeserializeOwned>(
        &self,
        path: &str,
        patience: Patience,
        mut each: impl FnMut(T) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        self.runtime.block_on(async {
            let mut body = self.ask(Method::GET, path, Bytes::new(), ANSWER_TIME).await?.into_body();
            let mut line = Vec::new();
            loop {
                let part = match patience {
                    Patience::Bounded => self.in_time(ANSWER_TIME, body.frame()).await?,
                    Patience::ForEver => body.frame().await,
                };
                let Some(part) = part else { break };
                let part = part.map_err(|error| self.broke_off(&error))?;
                let Ok(data) = part.into_data() else { continue };
                for piece in data.split_inclusive(|byte| *byte == b'\n') {
                    line.extend_from_slice(piece);
                    if piece.ends_with(b"\n") {
                        if !each(self.value(&line)?)? {
                            return Ok(());
                        }
                        line.clear();
                    }
                }
            }
            // A last line without its end was cut off.
            if line.is_empty() { Ok(()) } else { Err(self.broke_off(&"in the middle of a line")) }
        })
    }

    fn whole<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        patience: Duration,
    ) -> Result<T, Failure> {
        self.runtime.block_on(async {
            let response = self.ask(method, path, body, patience).await?;
            let bytes = self.body(response).await?;
            self.value(&bytes)
        })
    }

    /// One request; the answer's head says that it succeeded.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        patience: Duration,
    ) -> Result<Response<Incoming>, Failure> {
        let stream = match timeout(CONNECT_TIME, UnixStream::connect(&self.socket)).await {
            Ok(connected) => connected.map_err(|error| self.unreachable(&error))?,
            Err(_) => return Err(self.silent(CONNECT_TIME)),
        };
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broke_off(&error))?;
        // Ends with the runtime, or with the connection.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "levee")
            .header(header::CONNECTION, "close")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| Failure::argument("request", error.to_string()))?;
        let response = self.in_time(patience, sender.send_request(request)).await?;
        let response = response.map_err(|error| self.broke_off(&error))?;
        if response.status().is_success() { Ok(response) } else { Err(self.refused(response).await) }
    }

    async fn body(&self, response: Response<Incoming>) -> Result<Bytes, Failure> {
        let whole = Limited::new(response.into_body(), LARGEST_ANSWER).collect();
        match self.in_time(ANSWER_TIME, whole).await? {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) => Err(self.broke_off(&error)),
        }
    }

    async fn in_time<T>(&self, patience: Duration, future: impl Future<Output = T>) -> Result<T, Failure> {
        timeout(patience, future).await.map_err(|_| self.silent(patience))
    }

    fn json(&self, body: &impl Serialize) -> Result<Bytes, Failure> {
        let bytes = serde_json::to_vec(body).map_err(|error| Failure::argument("request", error.to_string()))?;
        Ok(bytes.into())
    }

    fn value<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, Failure> {
        serde_json::from_slice(bytes).map_err(|error| self.unexpected(&error))
    }

    // --- What can go wrong -------------------------------------------------------------------------------------------

    fn unreachable(&self, error: &io::Error) -> Failure {
        let (daemon, option, socket) = (self.daemon.name(), self.daemon.option(), self.socket.display());
        match error.kind() {
            io::ErrorKind::NotFound => Failure::daemon(
                format!("{socket}: there is no such socket"),
                format!(
                    "{daemon} is not running (`systemctl start {daemon}`), or listens elsewhere: name its socket by {option}"
                ),
            ),
            io::ErrorKind::ConnectionRefused => Failure::daemon(
                format!("{socket}: nobody listens on this socket"),
                format!("{daemon} has ended without removing it; `journalctl -u {daemon}` may say why"),
            ),
            io::ErrorKind::PermissionDenied => Failure::daemon(
                format!("{socket}: permission denied"),
                format!(
                    "run as root, or as a member of the group that `socket_group` names in {daemon}'s configuration"
                ),
            ),
            _ => Failure::daemon(
                format!("{socket}: it cannot be connected to: {error}"),
                format!("is this the socket of {daemon}? name another by {option}"),
            ),
        }
    }

    /// An answer of another form.
    pub(crate) fn unexpected(&self, error: &dyn std::fmt::Display) -> Failure {
        let (daemon, socket) = (self.daemon.name(), self.socket.display());
        Failure::daemon(
            format!("{socket}: the answer is not the one expected: {error}"),
            format!("is it {daemon} that listens there, and of this version ({})?", env!("CARGO_PKG_VERSION")),
        )
    }

    fn silent(&self, patience: Duration) -> Failure {
        let (daemon, socket, seconds) = (self.daemon.name(), self.socket.display(), patience.as_secs());
        Failure::daemon(
            format!("{socket}: no answer within {seconds} s"),
            format!("is {daemon} stopped, or its machine overloaded? `journalctl -u {daemon}` may say more"),
        )
    }

    fn broke_off(&self, error: &dyn std::fmt::Display) -> Failure {
        let (daemon, socket) = (self.daemon.name(), self.socket.display());
        Failure::daemon(
            format!("{socket}: the answer broke off: {error}"),
            format!("did {daemon} end meanwhile, or does another program listen there?"),
        )
    }

    /// The daemon's own words say what to do.
    async fn refused(&self, response: Response<Incoming>) -> Failure {
        let (socket, status) = (self.socket.display().to_string(), response.status());
        let Ok(body) = self.body(response).await else {
            return Failure::Daemon { message: format!("{socket}: refused with {status}"), help: None };
        };
        let problem: Result<Problem, _> = serde_json::from_slice(&body);
        let message = match problem {
            Ok(problem) => format!("{socket}: {}", problem.error),
            Err(_) => format!("{socket}: refused with {status}"),
        };
        let help = (status == StatusCode::SERVICE_UNAVAILABLE).then(|| "try again in a moment".to_owned());
        Failure::Daemon { message, help }
    }
}

/// How long to wait for the next part of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// As for any answer.
    Bounded,
    /// Nothing need happen.
    ForEver,
}
