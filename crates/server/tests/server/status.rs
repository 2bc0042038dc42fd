//! Health, information, metrics, descriptions.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use synapse_hub_core::Code;
use synapse_hub_proto::v1;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::support::{hub, hub_with, ok, refused};

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_works_says_so_everywhere() {
    let hub = hub().await;
    let health = ok(hub.get("/health")).await;
    assert_eq!((&health["status"], &health["service"]), (&json!("healthy"), &json!("synapse")));
    assert_eq!(hub.get("/livez").send().await.unwrap().text().await.unwrap(), "ok\n");
    assert_eq!(hub.get("/readyz").send().await.unwrap().text().await.unwrap(), "ok\n");
    let verbose = hub.get("/readyz?verbose").send().await.unwrap();
    assert_eq!(verbose.status(), StatusCode::OK);
    let verbose = verbose.text().await.unwrap();
    assert!(verbose.contains("[+] backend") && verbose.ends_with("readyz check passed\n"), "{verbose}");
    let mut grpc = HealthClient::new(hub.channel().await);
    for service in ["", "synapse.v1.EventService"] {
        let status = grpc.check(HealthCheckRequest { service: service.into() }).await.unwrap().into_inner();
        assert_eq!(status.status(), ServingStatus::Serving);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hub_describes_itself() {
    let hub = hub_with(|config| config.hub_id = "hub-7".into()).await;
    let info = ok(hub.get("/v1/info")).await;
    assert_eq!((&info["hub_id"], &info["ready"]), (&json!("hub-7"), &json!(true)));
    assert_eq!(info["limits"]["body_bytes"], 8 << 20);
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    let over_grpc = hub.info().await.info(v1::InfoRequest {}).await.unwrap().into_inner();
    assert_eq!((over_grpc.hub_id.as_str(), over_grpc.ready), ("hub-7", true));
    assert_eq!(over_grpc.backend, info["backend"].as_str().unwrap());
    assert!(over_grpc.limits.iter().any(|limit| limit.name == "json_depth" && limit.value == 64));
    let links = ok(hub.get("/")).await;
    assert_eq!(links["links"]["openapi"], "/openapi.json");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_is_described_and_every_description_is_a_route() {
    let hub = hub().await;
    let described = ok(hub.get("/openapi.json")).await;
    let paths = described["paths"].as_object().unwrap();
    let wanted = [
        ("/", vec!["get"]),
        ("/health", vec!["get"]),
        ("/livez", vec!["get"]),
        ("/metrics", vec!["get"]),
        ("/openapi.json", vec!["get"]),
        ("/readyz", vec!["get"]),
        ("/v1/info", vec!["get"]),
        ("/v1/topics", vec!["get"]),
        ("/v1/topics/{topic}", vec!["delete", "get", "put"]),
        ("/v1/topics/{topic}/events", vec!["get", "post"]),
        ("/v1/topics/{topic}/trim", vec!["post"]),
    ];
    assert_eq!(paths.len(), wanted.len());
    for (path, methods) in wanted {
        let operations = paths[path].as_object().unwrap();
        let mut known: Vec<&str> = operations.keys().map(String::as_str).collect();
        known.sort_unstable();
        assert_eq!(known, methods, "{path}");
        for (method, operation) in operations {
            assert!(!operation["summary"].as_str().unwrap().is_empty(), "{method} {path}");
            let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).unwrap();
            let response = hub.request(method.clone(), &path.replace("{topic}", "t")).send().await.unwrap();
            let problem: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default();
            let code = problem["code"].as_str().unwrap_or_default();
            assert!(!matches!(code, "route_not_found" | "method_not_allowed"), "{method} {path}");
        }
        // What is not described is not there.
        for method in ["GET", "PUT", "POST", "DELETE", "PATCH"] {
            if !methods.contains(&method.to_ascii_lowercase().as_str()) {
                let request = hub.request(method.parse().unwrap(), &path.replace("{topic}", "t"));
                assert_eq!(refused(request).await.0, 405, "{method} {path}");
            }
        }
    }
    let schemas = &described["components"]["schemas"];
    let codes = schemas["ProblemCode"]["enum"].as_array().unwrap();
    assert_eq!(codes.len(), Code::ALL.len());
    assert!(Code::ALL.iter().all(|code| codes.contains(&json!(code.as_str()))));
    assert_references_exist(&described, &described);
}

fn assert_references_exist(value: &Value, whole: &Value) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("$ref") {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(whole.pointer(pointer).is_some(), "{reference} is not there");
            }
            members.values().for_each(|value| assert_references_exist(value, whole));
        }
        Value::Array(items) => items.iter().for_each(|value| assert_references_exist(value, whole)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_events_are_counted() {
    let hub = hub().await;
    hub.publish_numbers("t", 0..3).await;
    assert_eq!(refused(hub.post("/v1/topics/t/events", "application/json", "{}")).await.0, 422);
    assert_eq!(refused(hub.get("/nowhere")).await.0, 404);
    hub.page("t", "").await;
    hub.topics().await.list_topics(v1::ListTopicsRequest::default()).await.unwrap();
    let text = hub.get("/metrics").send().await.unwrap().text().await.unwrap();
    for line in [
        "synapse_http_requests_total{method=\"POST\",route=\"/v1/topics/{topic}/events\",status=\"200\"} 1",
        "synapse_http_requests_total{method=\"POST\",route=\"/v1/topics/{topic}/events\",status=\"422\"} 1",
        "synapse_http_requests_total{method=\"GET\",route=\"none\",status=\"404\"} 1",
        "synapse_http_request_seconds_count{route=\"/v1/topics/{topic}/events\"} 3",
        "synapse_grpc_calls_total{method=\"ListTopics\",code=\"ok\"} 1",
        "synapse_http_requests_total{method=\"POST\",route=\"/synapse.v1.TopicService\",status=\"200\"} 1",
        "synapse_events_published_total{topic=\"t\",type=\"tick\"} 3",
        "synapse_events_delivered_total{topic=\"t\",type=\"tick\"} 3",
        "synapse_events_refused_total{code=\"invalid_event\"} 1",
    ] {
        assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
    }
    assert!(text.contains("synapse_connections "));
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_come_in_the_format_that_is_asked_for_and_both_are_described() {
    let hub = hub().await;
    hub.publish_numbers("t", 0..1).await;
    let get = async |accept: Option<&str>| {
        let request = hub.get("/metrics");
        let request = accept.into_iter().fold(request, |request, accept| request.header("accept", accept));
        let response = request.send().await.unwrap();
        let media = response.headers()["content-type"].to_str().unwrap().to_owned();
        (media, response.text().await.unwrap())
    };
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
    let (media, text) = get(Some(prometheus)).await;
    assert!(media.starts_with("application/openmetrics-text") && text.ends_with("# EOF\n"), "{media}");
    for accept in [None, Some("*/*"), Some("text/plain; version=0.0.4")] {
        let (media, text) = get(accept).await;
        assert!(media.starts_with("text/plain; version=0.0.4"), "{accept:?}: {media}");
        assert!(text.contains("# TYPE synapse_events_published_total counter\n"), "{text}");
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
    }
    let described = ok(hub.get("/openapi.json")).await;
    let contents = |path: &str, status: &str| {
        let content = described["paths"][path]["get"]["responses"][status]["content"].as_object().unwrap();
        content.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(contents("/metrics", "200"), ["text/plain", "application/openmetrics-text"]);
    assert_eq!(contents("/readyz", "default"), ["application/problem+json"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_describes_itself_by_reflection() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let hub = hub().await;
    let mut client = ServerReflectionClient::new(hub.channel().await);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut responses = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        responses.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list of services")
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    for name in ["synapse.v1.EventService", "synapse.v1.TopicService", "synapse.v1.HubService", "grpc.health.v1.Health"]
    {
        assert!(names.iter().any(|known| known == name), "{name} is not in {names:?}");
    }
}
