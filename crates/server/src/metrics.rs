//! What the server counts beyond the hub: requests, connections. Labels are bounded: routes are those that are
//! registered, methods and codes those that are known.

use std::time::Duration;

use http::{Method, StatusCode};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Unit,
};
use synapse_hub_hub::Metrics;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    method: &'static str,
    code: &'static str,
}

/// The server's own metrics.
#[derive(Clone)]
pub(crate) struct ServerMetrics {
    requests: Family<RequestLabels, Counter>,
    seconds: Family<RouteLabels, Histogram, fn() -> Histogram>,
    calls: Family<CallLabels, Counter>,
    /// Open connections.
    pub(crate) connections: Gauge,
    /// Connections that were turned away.
    pub(crate) connections_refused: Counter,
}

impl ServerMetrics {
    pub(crate) fn register(hub: &Metrics) -> Self {
        let metrics = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.000_1, 2.0, 18))),
            calls: Family::default(),
            connections: Gauge::default(),
            connections_refused: Counter::default(),
        };
        hub.register(|registry| {
            registry.register("http_requests", "Requests by method, route and status", metrics.requests.clone());
            registry.register_with_unit(
                "http_request",
                "From a request's headers to its response's headers, by route",
                Unit::Seconds,
                metrics.seconds.clone(),
            );
            registry.register("grpc_calls", "gRPC calls by method and code", metrics.calls.clone());
            registry.register("connections", "Open connections", metrics.connections.clone());
            registry.register(
                "connections_refused",
                "Connections turned away because of `http.connections`",
                metrics.connections_refused.clone(),
            );
        });
        metrics
    }

    /// Counts a request that was answered.
    pub(crate) fn request(&self, method: &Method, route: &str, status: StatusCode, took: Duration) {
        let labels = RequestLabels { method: method_label(method), route: route.to_owned(), status: status.as_u16() };
        self.requests.get_or_create(&labels).inc();
        self.seconds.get_or_create(&RouteLabels { route: route.to_owned() }).observe(took.as_secs_f64());
    }

    /// Counts a gRPC call that ended; `code` is `ok` or an error code.
    pub(crate) fn call(&self, method: &'static str, code: &'static str) {
        self.calls.get_or_create(&CallLabels { method, code }).inc();
    }
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}
