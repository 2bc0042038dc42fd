//! Around every request: its id, its log line, its metrics, its problem body, and what to do when a handler panics.

use std::{panic::AssertUnwindSafe, time::Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use futures::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use synapse_hub_core::{Code, Error};
use uuid::Uuid;

use super::problem::{self, Failure};
use crate::{app::App, grpc, serve::Peer, trace};

/// The header that carries a request's id, both ways.
pub(crate) static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that is taken over from a client, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 128;

pub(crate) async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers());
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>().cloned();
    let peer = request.extensions().get::<Peer>().copied();
    let is_grpc = is_grpc(request.headers());
    let traceparent = trace::parent(request.headers());
    let uri = is_grpc.then(|| request.uri().clone());

    let outcome = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let mut response = outcome.unwrap_or_else(|panic| panicked(panic.as_ref(), is_grpc));

    let id_text = id.to_str().unwrap_or_default();
    let route = path.as_ref().map_or("none", |path| route_label(path.as_str()));
    let mut code = "";
    if let Some(failure) = response.extensions_mut().remove::<Failure>() {
        code = failure.error.code().as_str();
        // What is wrong with the backend is said once by those who watch it, not by every request that meets it.
        if failure.error.code() == Code::Internal {
            tracing::error!(request_id = id_text, %method, route, error = ?failure.error, "a request failed");
        }
        problem::render(failure, id_text, &mut response);
    }
    let took = started.elapsed();
    let status = response.status();
    app.metrics.request(&method, route, status, took);
    tracing::debug!(
        request_id = id_text,
        %method,
        route,
        status = status.as_u16(),
        code,
        peer = peer.map(|Peer(peer)| tracing::field::display(peer)),
        trace = traceparent.as_deref(),
        took_us = took.as_micros() as u64,
        "request"
    );
    if let Some(uri) = uri {
        grpc::complete_error(response.headers_mut(), uri.path());
    }
    response.headers_mut().insert(&REQUEST_ID, id);
    response
}

pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|media| media.as_bytes().starts_with(b"application/grpc"))
}

/// The name of a route in logs and metrics: that of gRPC methods is their service's.
fn route_label(matched: &str) -> &str {
    matched.strip_suffix("/{*rest}").unwrap_or(matched)
}

/// The client's id where it is of use, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(&REQUEST_ID).filter(|id| {
        let bytes = id.as_bytes();
        (1..=REQUEST_ID_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
    });
    given.cloned().unwrap_or_else(|| {
        let mut text = [0; uuid::fmt::Simple::LENGTH];
        let text: &str = Uuid::now_v7().simple().encode_lower(&mut text);
        HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("none"))
    })
}

fn panicked(panic: &(dyn std::any::Any + Send), is_grpc: bool) -> Response {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(panic = text.unwrap_or("no text"), "a request handler panicked");
    let error = Error::new(Code::Internal, "the hub failed over this request; its log has more under the request's id");
    if is_grpc {
        return grpc::status(&error).into_http();
    }
    Failure::from(error).into_response()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::{Router, body::Body, middleware, routing};
    use http_body_util::BodyExt as _;
    use synapse_hub_hub::{Hub, HubOptions};
    use tower::ServiceExt as _;

    use super::*;
    use crate::{Config, metrics::ServerMetrics};

    /// A service of these routes with nothing behind it.
    async fn observed(routes: Router) -> Router {
        let hub = Hub::start(Arc::new(synapse_hub_memory::Memory::new()), HubOptions::default()).await.unwrap();
        let metrics = ServerMetrics::register(hub.metrics());
        let app = App::new(hub, Config::default(), metrics, bytes::Bytes::new());
        routes.layer(middleware::from_fn_with_state(app, observe))
    }

    /// Keeps what is logged.
    #[derive(Clone, Default)]
    struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn requests_that_meet_a_broken_backend_do_not_flood_the_log() {
        let failing = |code| routing::get(async move || Failure::new(code, "on purpose"));
        let routes =
            Router::new().route("/denied", failing(Code::BackendDenied)).route("/defect", failing(Code::Internal));
        let router = observed(routes).await;
        let log = Log::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_writer(move || writer.clone()).finish();
        let _logging = tracing::subscriber::set_default(subscriber);
        for _ in 0..50 {
            let request = Request::get("/denied").body(Body::empty()).unwrap();
            assert_eq!(router.clone().oneshot(request).await.unwrap().status(), 502);
        }
        router.oneshot(Request::get("/defect").body(Body::empty()).unwrap()).await.unwrap();
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("ERROR") && text.contains("/defect"), "{text}");
    }

    #[tokio::test]
    async fn a_handler_that_panics_fails_only_its_own_request() {
        let routes = Router::new()
            .route("/bad", routing::get(async || -> &'static str { panic!("on purpose") }))
            .route("/good", routing::get(async || "good"));
        let router = observed(routes).await;
        let ask = |path: &str, media: &str| {
            let request = Request::get(path).header(header::CONTENT_TYPE, media).body(Body::empty()).unwrap();
            router.clone().oneshot(request)
        };
        let failed = ask("/bad", "application/json").await.unwrap();
        assert_eq!(failed.status(), 500);
        assert_eq!(failed.headers()[header::CONTENT_TYPE], problem::MEDIA_TYPE);
        let text = failed.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&text).unwrap()["code"], "internal");
        let failed = ask("/bad", "application/grpc").await.unwrap();
        assert_eq!((failed.status(), &failed.headers()["grpc-status"]), (http::StatusCode::OK, &HeaderValue::from(13)));
        assert_eq!(failed.headers()["synapse-error-code"], "internal");
        assert_eq!(ask("/good", "application/json").await.unwrap().status(), 200);
    }
}
