//! One connection: HTTP/1.1, HTTP/2 or gRPC, whichever it turns out to speak.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::{HttpConfig, codes};

/// What HTTP/2 begins with (RFC 9113, section 3.4).
const H2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How much an HTTP/1.1 connection buffers either way: the largest headers, and what a client that does not read holds up.
const H1_BUFFER_BYTES: usize = 64 << 10;
/// How long to wait for the rest of it.
const PREFACE_PAUSE: Duration = Duration::from_millis(10);
/// How many connections are being turned away at once, at most; more are just closed.
pub(super) const TURNED_AWAY_AT_ONCE: usize = 64;
/// How long turning one away may take.
const TURNING_AWAY: Duration = Duration::from_secs(1);

/// Who is at the other end of a request's connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// How connections are spoken with.
pub(super) struct Protocols {
    builder: Builder<TokioExecutor>,
    /// How long a new connection may be silent.
    first_bytes: Duration,
}

impl Protocols {
    pub(super) fn new(config: &HttpConfig) -> Self {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(config.header_timeout)
            .max_buf_size(H1_BUFFER_BYTES);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(config.keep_alive_interval)
            .keep_alive_timeout(config.keep_alive_timeout)
            .max_concurrent_streams(config.h2_streams)
            .initial_stream_window_size(config.h2_stream_window_bytes)
            .initial_connection_window_size(config.h2_connection_window_bytes)
            .max_header_list_size(config.h2_header_bytes);
        Self { builder, first_bytes: config.header_timeout }
    }
}

/// Serves a connection to its end. After `stop` it finishes the requests it has; `cut` ends it at once.
pub(super) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    service: Router,
    protocols: Arc<Protocols>,
    stop: CancellationToken,
    cut: CancellationToken,
) {
    // A connection on which nothing comes would otherwise hold its place for ever.
    tokio::select! {
        speaks = tokio::time::timeout(protocols.first_bytes, speaks(&stream)) => {
            if !matches!(speaks, Ok(Ok(true))) {
                return;
            }
        }
        () = stop.cancelled() => return,
    }
    let service = service.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        request
    });
    let mut connection =
        pin!(protocols.builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = cut.cancelled() => return,
            }
        }
        () = cut.cancelled() => return,
    };
    if let Err(error) = ended {
        // Clients come and go as they like.
        tracing::debug!(%peer, error, "a connection ended with an error");
    }
}

/// Waits until enough has come to tell the protocol; false when the client has closed instead.
async fn speaks(stream: &TcpStream) -> io::Result<bool> {
    let mut bytes = [0; H2_PREFACE.len()];
    loop {
        let known = stream.peek(&mut bytes).await?;
        if known == 0 || known == bytes.len() || !H2_PREFACE.starts_with(&bytes[..known]) {
            return Ok(known > 0);
        }
        // Rare: a client that sends the preface in pieces.
        tokio::time::sleep(PREFACE_PAUSE).await;
    }
}

/// Tells a client that there is no place for it.
pub(super) async fn turn_away(mut stream: TcpStream, connections: usize) {
    let code = synapse_hub_core::Code::Overloaded;
    let body = serde_json::json!({
        "type": format!("urn:synapse:problem:{code}"),
        "title": "Overloaded",
        "status": codes::http(code).as_u16(),
        "detail": format!("the hub serves {connections} connections already (`http.connections`); try another hub or later"),
        "code": code.as_str(),
        "retryable": code.retryable(),
    })
    .to_string();
    let response = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
         retry-after: 1\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = tokio::time::timeout(TURNING_AWAY, async {
        stream.write_all(response.as_bytes()).await?;
        stream.shutdown().await?;
        // What the client has sent is read, or closing would reset the connection before it has read the answer.
        let mut scratch = [0; 4096];
        while stream.read(&mut scratch).await? > 0 {}
        io::Result::Ok(())
    })
    .await;
}
