//! Serving HTTP with a limit on everything: connections, header size and time, requests in flight, whole-request time.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{
    Router,
    extract::Request,
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use metrics::Gauge;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

use crate::{
    meters::{self, Counted},
    problem::Problem,
    trace,
};

/// Most connections at once to a listener; more are answered 503 at once.
const CONNECTIONS_MAX: usize = 4_096;
/// Connections that have not been accepted yet. A burst must not wait for the second try of a client's kernel.
const BACKLOG: u32 = 4_096;
/// For whoever is one too many, before a request of theirs is read.
const TOO_MANY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
/// From the connection, or the answer before, to the end of a request's headers.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest request line and headers together.
const HEADER_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
/// How long requests in flight may take once the process is draining.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(15);
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Binds a listener.
///
/// # Errors
/// The address is taken or not ours; the message names the setting.
pub fn bind(setting: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().with_context(|| format!("cannot listen on {address} (setting {setting})"))
}

/// Serves until the token is cancelled, then stops accepting and lets requests in flight end, for at most 15 s.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    serve_at_most(CONNECTIONS_MAX, listener, router, shutdown).await;
}

async fn serve_at_most(
    connections_max: usize,
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
) {
    let builder = Arc::new(connection_builder());
    let connections = Arc::new(Semaphore::new(connections_max));
    let graceful = GracefulShutdown::new();
    let gauge = metrics::gauge!("orderfleet_http_connections");
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, or a connection that was gone before it was accepted.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
            metrics::counter!("orderfleet_http_connections_refused_total").increment(1);
            // What does not fit into an empty socket at once is not worth a task.
            let _ = stream.try_write(TOO_MANY);
            continue;
        };
        let open = Counted::new(&gauge);
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
            drop((permit, open));
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still in flight after {} s", DRAIN_TIMEOUT.as_secs());
    }
}

/// HTTP/1.1 alone: whoever connects has five seconds to send headers, and a listener that also waited to see whether
/// HTTP/2 is spoken would wait without end for one that sends nothing.
fn connection_builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    builder
}

/// Limits of a public listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests worked on at once; more are answered 503 at once.
    pub concurrency_max: usize,
    /// A request that takes longer is answered 503.
    pub request_timeout: Duration,
}

/// Puts the limits, an answer for a panic, a span and a meter around routes. Apply to everything but the health routes.
pub fn limited(router: Router, limits: Limits) -> Router {
    let permits = Arc::new(Semaphore::new(limits.concurrency_max));
    let gauge = metrics::gauge!("orderfleet_http_requests_in_flight");
    let limit = move |request: Request, next: Next| {
        let (permits, gauge) = (Arc::clone(&permits), gauge.clone());
        async move { limited_request(&permits, &gauge, limits, request, next).await }
    };
    // The first is the outermost. In one layer, as each boxes every request once more.
    router.layer((
        middleware::from_fn(meters::measured),
        middleware::from_fn(trace::serve),
        tower_http::catch_panic::CatchPanicLayer::custom(panicked),
        middleware::from_fn(limit),
    ))
}

async fn limited_request(
    permits: &Semaphore,
    gauge: &Gauge,
    limits: Limits,
    request: Request,
    next: Next,
) -> Response {
    let Ok(_permit) = permits.try_acquire() else {
        return overloaded("Too many requests at once").into_response();
    };
    let _in_flight = Counted::new(gauge);
    match tokio::time::timeout(limits.request_timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => unavailable("timeout", "The request took too long")
            .detail("it may still take effect: repeat the same body with the same key")
            .into_response(),
    }
}

/// A 503 for whoever finds no room, at once.
#[must_use]
pub fn overloaded(title: &'static str) -> Problem {
    unavailable("overloaded", title)
}

fn unavailable(kind: &str, title: &'static str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, kind, title).retry_after(1)
}

fn panicked(_: Box<dyn std::any::Any + Send + 'static>) -> Response {
    tracing::error!("a request handler panicked");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error").into_response()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;

    const ASKED: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

    /// What a connection is answered, once `request` is sent on it.
    async fn answer(connection: &mut TcpStream, request: &[u8]) -> String {
        // A connection that is closed already takes no more.
        let _ = connection.write_all(request).await;
        let mut read = vec![0; 1_024];
        let length = tokio::time::timeout(Duration::from_secs(10), connection.read(&mut read)).await;
        String::from_utf8_lossy(&read[..length.unwrap().unwrap_or(0)]).into_owned()
    }

    #[tokio::test]
    async fn one_connection_too_many_is_answered_503_at_once_and_the_next_is_served_once_one_has_ended() {
        let listener = bind("test", "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(|| async { "served" }));
        tokio::spawn(serve_at_most(2, listener, router, CancellationToken::new()));

        let mut kept = Vec::new();
        for _ in 0..2 {
            let mut connection = TcpStream::connect(address).await.unwrap();
            assert!(answer(&mut connection, ASKED).await.contains("200 OK"));
            kept.push(connection);
        }
        let mut refused = TcpStream::connect(address).await.unwrap();
        assert_eq!(answer(&mut refused, b"").await.as_bytes(), TOO_MANY, "without having asked for anything");
        assert!(answer(&mut kept[0], ASKED).await.contains("200 OK"), "who is served stays so");

        kept.pop();
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let mut next = TcpStream::connect(address).await.unwrap();
            if answer(&mut next, ASKED).await.contains("200 OK") {
                break;
            }
            assert!(Instant::now() < deadline, "room again after one has ended");
        }
    }
}
