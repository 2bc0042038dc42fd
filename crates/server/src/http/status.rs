//! The hub itself: health, readiness, metrics, information.

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use indexmap::IndexMap;
use serde::Serialize;
use synapse_hub_core::Timestamp;
use synapse_hub_hub::HubHealth;
use utoipa::ToSchema;

use super::{
    exposition, media,
    problem::{Problem, Result},
    query::Query,
};
use crate::{VERSION, app::App, catalog};

/// Whether the hub works.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HealthView {
    /// `healthy` or `unhealthy`.
    status: &'static str,
    /// `synapse`.
    service: &'static str,
    /// The hub's version.
    version: &'static str,
    /// The backend's name.
    backend: &'static str,
    /// Events can be read.
    readable: bool,
    /// Events can be stored.
    writable: bool,
    /// What is wrong or unusual, a sentence each.
    notes: Vec<String>,
    /// For how many seconds the hub has been running.
    uptime_seconds: u64,
}

/// The hub, its backend and its limits.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InfoView {
    /// The hub's version.
    version: &'static str,
    /// Names this hub among those that share a backend.
    hub_id: String,
    /// The backend's name.
    backend: &'static str,
    /// The backend's version, where it has one.
    backend_version: Option<String>,
    /// The hub's clock.
    time: String,
    /// The backend's clock, where it has one of its own.
    backend_time: Option<String>,
    /// It can do its work.
    ready: bool,
    /// What is wrong or unusual, a sentence each.
    notes: Vec<String>,
    /// The limits in force, by name.
    #[schema(value_type = std::collections::BTreeMap<String, u64>)]
    limits: IndexMap<&'static str, u64>,
    /// Open subscriptions.
    subscriptions: usize,
    /// For how many milliseconds the hub has been running.
    uptime_ms: u64,
}

/// Where to go from here.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Links {
    /// `synapse`.
    service: &'static str,
    /// The hub's version.
    version: &'static str,
    /// Addresses on this hub, by what they are.
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    links: IndexMap<&'static str, &'static str>,
}

/// What is here
#[utoipa::path(get, path = "/", tag = "hub", responses((status = 200, description = "Where to go", body = Links)))]
pub(crate) async fn root() -> Json<Links> {
    let links = [
        ("publish", "POST /v1/topics/{topic}/events"),
        ("subscribe", "GET /v1/topics/{topic}/events"),
        ("topics", "/v1/topics"),
        ("info", "/v1/info"),
        ("health", "/health"),
        ("readiness", "/readyz?verbose"),
        ("metrics", "/metrics"),
        ("openapi", "/openapi.json"),
    ];
    Json(Links { service: "synapse", version: VERSION, links: links.into() })
}

/// The hub, its backend and its limits
#[utoipa::path(get, path = "/v1/info", tag = "hub", responses((status = 200, description = "The hub", body = InfoView)))]
pub(crate) async fn info(State(app): State<App>) -> Json<InfoView> {
    let HubHealth { ready, backend, health } = app.hub.health().await;
    Json(InfoView {
        version: VERSION,
        hub_id: app.hub.options().hub_id.clone(),
        backend,
        backend_version: health.version,
        time: Timestamp::now().to_string(),
        backend_time: health.time.map(|time| time.to_string()),
        ready,
        notes: health.notes,
        limits: app.hub.limits().named().into_iter().collect(),
        subscriptions: app.hub.open_subscriptions(),
        uptime_ms: catalog::millis(app.hub.uptime()),
    })
}

/// Whether the hub works
///
/// Asks the backend.
#[utoipa::path(
    get,
    path = "/health",
    tag = "hub",
    responses(
        (status = 200, description = "It works", body = HealthView),
        (status = 503, description = "It does not", body = HealthView),
    ),
)]
pub(crate) async fn health(State(app): State<App>) -> Response {
    let HubHealth { ready, backend, health } = app.hub.health().await;
    let mut notes = health.notes;
    if app.hub.shutting_down().is_cancelled() {
        notes.push("the hub is stopping".into());
    }
    let view = HealthView {
        status: if ready { "healthy" } else { "unhealthy" },
        service: "synapse",
        version: VERSION,
        backend,
        readable: health.readable,
        writable: health.writable,
        notes,
        uptime_seconds: app.hub.uptime().as_secs(),
    };
    (status(ready), Json(view)).into_response()
}

/// Whether the process lives
///
/// Asks nobody.
#[utoipa::path(get, path = "/livez", tag = "hub", responses((status = 200, description = "It lives", body = String)))]
pub(crate) async fn livez() -> &'static str {
    "ok\n"
}

/// Whether requests should be sent here
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "hub",
    params(("verbose" = Option<bool>, Query, description = "Say what was checked")),
    responses(
        (status = 200, description = "They should", body = String),
        (status = 503, description = "They should not", body = String),
        (status = "default", description = "Not possible", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn readyz(State(app): State<App>, request: Request) -> Result<Response> {
    let mut query = Query::parse(request.uri())?;
    let verbose = query.flag("verbose")?;
    query.finish("verbose")?;
    let HubHealth { ready, backend, health } = app.hub.health().await;
    if !verbose {
        return Ok((status(ready), if ready { "ok\n" } else { "not ready\n" }).into_response());
    }
    let stopping = app.hub.shutting_down().is_cancelled();
    let checks = [("read", health.readable), ("write", health.writable)];
    let mut text = format!("{} hub {}\n", mark(!stopping), if stopping { "is stopping" } else { "ok" });
    for (what, works) in checks {
        text += &format!("{} backend {backend} {what} {}\n", mark(works), if works { "ok" } else { "failed" });
    }
    health.notes.iter().for_each(|note| text += &format!("    {note}\n"));
    text += if ready { "readyz check passed\n" } else { "readyz check failed\n" };
    Ok((status(ready), text).into_response())
}

/// Metrics
///
/// In the text format of Prometheus, or as OpenMetrics where `Accept` names it.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "hub",
    responses((
        status = 200,
        description = "Metrics",
        content((String = "text/plain"), (String = "application/openmetrics-text")),
    )),
)]
pub(crate) async fn metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    let text = app.hub.metrics().registry_text();
    let (media, text) = if media::accepts(&headers, "application/openmetrics-text") {
        (exposition::OPENMETRICS, text)
    } else {
        (exposition::PROMETHEUS, exposition::prometheus(&text))
    };
    ([(header::CONTENT_TYPE, media), (header::VARY, "accept")], text).into_response()
}

/// This description
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "hub",
    responses((status = 200, description = "The OpenAPI description of this interface", body = Object)),
)]
pub(crate) async fn openapi(State(app): State<App>) -> Response {
    let mut response = app.openapi.clone().into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn status(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn mark(works: bool) -> &'static str {
    if works { "[+]" } else { "[-]" }
}
