//! Connections: taken, counted, bounded, served.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt as _;

use super::limits;
use super::rights::{Policy, Rights};
use super::subject::Subject;

/// The whole answer to somebody for whom there is no place.
const NO_PLACE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\n\
    content-length: 59\r\n\r\n{\"error\":\"too many connections; close some, or try later\"}\n";

/// Pause after `accept` failed: out of descriptors, mostly, and trying on at once would burn the core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long open requests get to end when the dataplane stops.
const DRAIN: Duration = Duration::from_secs(2);

/// Serves until `stop` is done, then lets open requests end.
///
/// # Errors
/// The listener cannot be used by this runtime.
pub async fn serve(
    listener: std::os::unix::net::UnixListener,
    subject: Arc<dyn Subject>,
    policy: Policy,
    stop: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    let router = super::routes::router(subject);
    let places = Places::new();
    let (stopping, stopped) = watch::channel(false);
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the control socket cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(peer) = stream.peer_cred() else { continue };
        let rights = policy.of(&peer);
        match places.take(rights) {
            Some(place) => {
                tokio::spawn(converse(stream, router.clone(), rights, place, stopped.clone()));
            }
            // Best effort, and never a wait: the socket's buffer is empty, so this fits or the peer is gone.
            None => drop(stream.try_write(NO_PLACE)),
        }
    }
    drop(listener);
    // Nobody left to hear it is as good.
    let _ = stopping.send(true);
    if tokio::time::timeout(DRAIN, places.all_free()).await.is_err() {
        tracing::info!("the control socket closes with requests still open");
    }
    Ok(())
}

/// Serves metrics by TCP, for as long as it is polled. Whoever can connect may read them; nothing else is there.
///
/// # Errors
/// The listener cannot be used by this runtime.
pub fn serve_metrics(
    listener: std::net::TcpListener,
    subject: Arc<dyn Subject>,
) -> std::io::Result<impl Future<Output = ()> + Send> {
    let listener = TcpListener::from_std(listener)?;
    let router = super::routes::metrics_router(subject);
    let places = Arc::new(Semaphore::new(limits::SCRAPERS));
    Ok(async move {
        // Nobody says so; a connection ends with the runtime.
        let (_stopping, stopped) = watch::channel(false);
        loop {
            match listener.accept().await {
                Ok((stream, _)) => match Arc::clone(&places).try_acquire_owned() {
                    Ok(place) => {
                        tokio::spawn(converse(stream, router.clone(), Rights::Read, place, stopped.clone()));
                    }
                    Err(_) => drop(stream.try_write(NO_PLACE)),
                },
                Err(error) => {
                    tracing::warn!(%error, "the listener of metrics cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}

/// How many more connections there may be.
struct Places {
    readers: Arc<Semaphore>,
    programmers: Arc<Semaphore>,
}

impl Places {
    fn new() -> Self {
        Places {
            readers: Arc::new(Semaphore::new(limits::READERS)),
            programmers: Arc::new(Semaphore::new(limits::PROGRAMMERS)),
        }
    }

    fn take(&self, rights: Rights) -> Option<OwnedSemaphorePermit> {
        let places = match rights {
            Rights::Read => &self.readers,
            Rights::Program => &self.programmers,
        };
        Arc::clone(places).try_acquire_owned().ok()
    }

    async fn all_free(&self) {
        // An error would say that the semaphore was closed, which nobody does.
        let _ = self.readers.acquire_many(limits::READERS as u32).await;
        let _ = self.programmers.acquire_many(limits::PROGRAMMERS as u32).await;
    }
}

/// Serves one connection until either side closes it or a limit does.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    router: Router,
    rights: Rights,
    _place: OwnedSemaphorePermit,
    mut stopped: watch::Receiver<bool>,
) {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits::WRITE_TIME));
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(rights);
        let router = router.clone();
        async move { Ok::<_, Infallible>(answer(router, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HEAD_TIME)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async { drop(stopped.wait_for(|stopped| *stopped).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a control connection ended early");
    }
}

async fn answer(router: Router, request: Request<Incoming>) -> axum::response::Response {
    match router.oneshot(request.map(Body::new)).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
