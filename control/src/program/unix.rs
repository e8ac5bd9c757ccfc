//! Requests over the dataplane's Unix socket: HTTP/1.1 and JSON.
//!
//! A connection for each request: to connect to a Unix socket costs microseconds, and there is no stale connection to detect.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use levee_api::program::Applied;
use levee_api::report::{Problem, Status};
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::{Outcome, Request, Sent, Transport};

/// Longest time for a status: the dataplane answers it in microseconds, from a thread that never waits for workers.
const STATUS_TIME: Duration = Duration::from_secs(2);

/// Longest time for a program. The dataplane allows itself 30 s for the body and 30 s until all workers run it.
const PROGRAM_TIME: Duration = Duration::from_secs(65);

/// Largest answer that is read, in bytes: a status with a few thousand workers would fit.
const ANSWER_LIMIT: usize = 1 << 20;

/// Talks to the dataplane at the other end of a socket.
#[derive(Debug, Clone)]
pub struct UnixTransport {
    wire: Arc<Wire>,
}

#[derive(Debug)]
struct Wire {
    socket: PathBuf,
    full: AtomicU64,
    delta: AtomicU64,
}

impl UnixTransport {
    /// Of the socket at a path; nothing is opened yet.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        UnixTransport {
            wire: Arc::new(Wire { socket: socket.into(), full: AtomicU64::new(0), delta: AtomicU64::new(0) }),
        }
    }
}

impl Transport for UnixTransport {
    fn carry(&self, request: Request) -> impl Future<Output = Outcome> + 'static {
        let wire = Arc::clone(&self.wire);
        async move {
            let limit = if request == Request::Status { STATUS_TIME } else { PROGRAM_TIME };
            match tokio::time::timeout(limit, converse(&wire, &request)).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(message)) => Outcome::Unreachable(message),
                Err(_) => {
                    Outcome::Unreachable(format!("{}: no answer within {} s", wire.socket.display(), limit.as_secs()))
                }
            }
        }
    }

    fn sent(&self) -> Sent {
        Sent { full: self.wire.full.load(Ordering::Relaxed), delta: self.wire.delta.load(Ordering::Relaxed) }
    }
}

/// One request and its answer. An error is in words, for people.
async fn converse(wire: &Wire, request: &Request) -> Result<Outcome, String> {
    let socket: &Path = &wire.socket;
    let in_words = |what: &str, error: &dyn std::fmt::Display| format!("{}: {what}: {error}", socket.display());
    let (method, path, body) = match request {
        Request::Status => (Method::GET, "/v1/status", Ok(Vec::new())),
        Request::Full(program) => (Method::PUT, "/v1/program", serde_json::to_vec(program)),
        Request::Delta(delta) => (Method::PATCH, "/v1/program", serde_json::to_vec(delta)),
    };
    let body = body.map_err(|error| in_words("cannot write JSON", &error))?;
    let length = body.len() as u64;
    match request {
        Request::Status => {}
        Request::Full(_) => drop(wire.full.fetch_add(length, Ordering::Relaxed)),
        Request::Delta(_) => drop(wire.delta.fetch_add(length, Ordering::Relaxed)),
    }
    let (status, body) = exchange(socket, method, path, body).await?;
    understand(request, status, &body).map_err(|error| in_words("an answer that makes no sense", &error))
}

/// Whether a dataplane answers at this socket and says that it is healthy.
pub async fn is_healthy(socket: &Path) -> bool {
    let asked = exchange(socket, Method::GET, "/v1/health", Vec::new());
    matches!(tokio::time::timeout(STATUS_TIME, asked).await, Ok(Ok((StatusCode::OK, _))))
}

/// Says one thing and hears the answer. An error is in words, for people.
pub(crate) async fn exchange(
    socket: &Path,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<(StatusCode, Bytes), String> {
    let in_words = |what: &str, error: &dyn std::fmt::Display| format!("{}: {what}: {error}", socket.display());
    let request_head = hyper::Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "levee")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| in_words("cannot form a request", &error))?;

    let stream = UnixStream::connect(socket).await.map_err(|error| in_words("cannot connect", &error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| in_words("no HTTP", &error))?;
    let exchange = async {
        let response = sender.send_request(request_head).await.map_err(|error| in_words("no answer", &error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_LIMIT)
            .collect()
            .await
            .map_err(|error| in_words("the answer broke off", &error))?;
        Ok::<_, String>((head.status, body.to_bytes()))
    };
    let mut exchange = pin!(exchange);
    // The connection does the work while the exchange waits for it. A connection that ends (the dataplane closes it after
    // its answer, perhaps) has handed over what it had, so the exchange then ends too, either way.
    tokio::select! {
        answer = &mut exchange => answer,
        _ = connection => exchange.await,
    }
}

fn understand(request: &Request, status: StatusCode, body: &[u8]) -> Result<Outcome, String> {
    fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
        serde_json::from_slice(body).map_err(|error| error.to_string())
    }
    match (request, status) {
        (Request::Status, StatusCode::OK) => {
            let Status { generation, pid, .. } = read(body)?;
            Ok(Outcome::Status { generation, pid })
        }
        (_, StatusCode::OK) => {
            let Applied { generation } = read(body)?;
            Ok(Outcome::Applied { generation })
        }
        (_, StatusCode::CONFLICT) => {
            let Problem { generation, .. } = read(body)?;
            Ok(Outcome::Conflict { generation })
        }
        // It is too busy, or not well: to ask again is right.
        (_, status) if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            Err(format!("{status}{}", problem(body)))
        }
        (_, status) => Ok(Outcome::Refused(format!("{status}{}", problem(body)))),
    }
}

/// What a refusal says, or nothing if it says nothing.
fn problem(body: &[u8]) -> String {
    serde_json::from_slice::<Problem>(body).map_or_else(|_| String::new(), |problem| format!(": {}", problem.error))
}
