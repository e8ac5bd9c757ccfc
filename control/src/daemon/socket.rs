//! The status socket: made, guarded, served and removed; and the TCP listener of metrics. They only tell, so whoever can open them may
//! read.

use std::convert::Infallible;
use std::fs::Permissions;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

/// Connections at a time; one more is closed at once. A person with a few shells and a probe need five.
const CONNECTIONS: usize = 32;

/// The same for TCP: two scrapers and a probe need three.
const SCRAPERS: usize = 8;

/// Time to send a request's head; an idle connection is closed after it.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// Longest life of a connection, whatever it does: bounds a reader that never reads.
const LIFE: Duration = Duration::from_secs(60);

/// Pause after `accept` failed: out of descriptors, mostly, and trying on at once would burn the core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why there is no status socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process answers there.
    #[error("{0}: another levee-control answers on this socket; stop it, or set another `socket`")]
    InUse(PathBuf),
    /// Something else stands in the way.
    #[error("{0}: exists and is not a socket; remove it, or set another `socket`")]
    NotASocket(PathBuf),
    /// `socket_group` names nobody.
    #[error("group `{0}` does not exist; `getent group` lists those that do")]
    NoGroup(String),
    /// The system refused.
    #[error("{path}: cannot {what}: {source}")]
    Io {
        /// The path.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// A listening socket. Its file goes when this goes.
#[derive(Debug)]
pub(super) struct Listening {
    listener: StdListener,
    path: PathBuf,
}

impl Drop for Listening {
    fn drop(&mut self) {
        // Nobody can be told, and the next start removes a stale file by itself.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Listens at `path`: mode 0660, owned by `group` if there is one. A file that a dead process left is removed; one that
/// somebody still answers on is not.
pub(super) fn bind(path: &Path, group: Option<&str>) -> Result<Listening, BindError> {
    let io_error = |what| move |source| BindError::Io { path: path.to_owned(), what, source };
    let gid = group.map(gid_of).transpose()?;
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(io_error("create its directory"))?;
    }
    remove_stale(path)?;
    // Between here and `chmod`, its mode is the umask's; what could be read in that instant is a status.
    let listener = StdListener::bind(path).map_err(io_error("listen"))?;
    let listening = Listening { listener, path: path.to_owned() };
    if let Some(gid) = gid {
        std::os::unix::fs::chown(path, None, Some(gid)).map_err(io_error("give it to its group"))?;
    }
    std::fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(io_error("set its mode"))?;
    listening.listener.set_nonblocking(true).map_err(io_error("make it non-blocking"))?;
    Ok(listening)
}

fn remove_stale(path: &Path) -> Result<(), BindError> {
    let io_error = |what| move |source| BindError::Io { path: path.to_owned(), what, source };
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("look at it")(error)),
    };
    if !kind.is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path) {
        // The one error that says nobody listens; a full backlog (EAGAIN) does not.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(io_error("remove the stale socket"))
        }
        Ok(_) | Err(_) => Err(BindError::InUse(path.to_owned())),
    }
}

fn gid_of(name: &str) -> Result<u32, BindError> {
    if let Ok(gid) = name.parse() {
        return Ok(gid);
    }
    match nix::unistd::Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) | Err(_) => Err(BindError::NoGroup(name.to_owned())),
    }
}

/// Serves for ever, within the limits.
pub(super) fn serve(listening: &Listening, router: Router) -> io::Result<impl Future<Output = ()> + use<>> {
    let listener = UnixListener::from_std(listening.listener.try_clone()?)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    Ok(async move {
        loop {
            let accepted = listener.accept().await;
            took(accepted.map(|(stream, _)| stream), &router, &places).await;
        }
    })
}

/// The same by TCP, for whoever can connect: metrics.
pub(super) fn serve_tcp(address: SocketAddr, router: Router) -> io::Result<impl Future<Output = ()> + use<>> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(SCRAPERS));
    Ok(async move {
        loop {
            let accepted = listener.accept().await;
            took(accepted.map(|(stream, _)| stream), &router, &places).await;
        }
    })
}

/// A connection, if it is one and there is a place for it.
async fn took<S>(accepted: io::Result<S>, router: &Router, places: &Arc<Semaphore>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stream = match accepted {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(%error, "a listener cannot accept");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            return;
        }
    };
    let Ok(place) = Arc::clone(places).try_acquire_owned() else { return };
    let router = router.clone();
    tokio::spawn(async move {
        let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
            let router = router.clone();
            async move {
                match router.oneshot(request.map(Body::new)).await {
                    Ok(response) => Ok::<_, Infallible>(response),
                    Err(never) => match never {},
                }
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(16 << 10)
            .serve_connection(TokioIo::new(stream), service);
        // A connection that ends early, by either side, is its own business.
        let _ = tokio::time::timeout(LIFE, connection).await;
        drop(place);
    });
}
