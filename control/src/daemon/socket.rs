//! The status socket, served; and the TCP listener of metrics. They only tell, so whoever can open them may
//! read.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use levee_socket::Listening;
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

/// Serves for ever, within the limits.
pub(super) fn serve(listening: &Listening, router: Router) -> io::Result<impl Future<Output = ()> + use<>> {
    let listener = UnixListener::from_std(listening.listener()?)?;
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
