//! The HTTP surface: routes, and what is around every request.

mod binary;
mod body;
mod exposition;
mod extract;
mod media;
mod observe;
mod page;
mod problem;
mod publish;
mod query;
mod sse;
mod status;
mod subscribe;
mod topics;

use axum::{
    Router,
    extract::Request,
    middleware,
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, Method};
use synapse_hub_core::Code;
use tower_http::cors::{AllowOrigin, Any, CorsLayer};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{app::App, grpc};

/// Every route, with its description. There is no other way to add one, so none is undocumented.
pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(publish::publish, subscribe::events))
        .routes(routes!(topics::list))
        .routes(routes!(topics::describe, topics::create, topics::delete))
        .routes(routes!(topics::trim))
        .routes(routes!(status::info))
        .routes(routes!(status::root))
        .routes(routes!(status::health))
        .routes(routes!(status::livez))
        .routes(routes!(status::readyz))
        .routes(routes!(status::metrics))
        .routes(routes!(status::openapi))
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Synapse",
        description = "The event hub: typed events in, filtered events out. Failed requests are answered with \
                       application/problem+json and a stable `code`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "events", description = "Publish and subscribe"),
        (name = "topics", description = "Topics and their settings"),
        (name = "hub", description = "The hub itself"),
    ),
)]
struct Description;

/// The whole service: HTTP, and gRPC beside it.
pub(crate) fn service(routes: Router<App>, grpc: Router, app: App) -> Router {
    let mut router =
        routes.with_state(app.clone()).merge(grpc).fallback(unknown).method_not_allowed_fallback(wrong_method);
    if let Some(cors) = cors(&app.config.http.cors_origins) {
        router = router.layer(cors);
    }
    router.layer(middleware::from_fn_with_state(app, observe::observe))
}

async fn unknown(request: Request) -> Response {
    if observe::is_grpc(request.headers()) {
        return grpc::status(&grpc::no_method(request.uri().path())).into_http();
    }
    let shown: String = request.uri().path().chars().take(120).collect();
    let what = format!("there is nothing at {shown}; see / for what there is, and /openapi.json for all of it");
    problem::Failure::new(Code::RouteNotFound, what).into_response()
}

async fn wrong_method(request: Request) -> Response {
    let what = format!("{} is not possible here; see /openapi.json for what is", request.method());
    problem::Failure::new(Code::MethodNotAllowed, what).into_response()
}

/// Lets web pages of these origins use the hub.
fn cors(origins: &[String]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let origin = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    let exposed = [observe::REQUEST_ID.clone(), http::header::RETRY_AFTER];
    let methods = [Method::GET, Method::POST, Method::PUT, Method::DELETE];
    Some(CorsLayer::new().allow_origin(origin).allow_methods(methods).allow_headers(Any).expose_headers(exposed))
}
