//! What is refused, and how that is told.

use reqwest::{Method, StatusCode, header};
use serde_json::json;

use crate::support::{hub, hub_with, ok, problem, refused};

const EVENTS: &str = "/v1/topics/t/events";

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_publish_wrongly_has_its_code() {
    let hub = hub_with(|config| {
        config.limits.body_bytes = 10_000;
        config.limits.event_bytes = 1000;
        config.limits.batch_events = 3;
        config.limits.json_depth = 4;
    })
    .await;
    let json = "application/json";
    let big = format!(r#"{{"event":"t","pad":"{}"}}"#, "x".repeat(1000));
    let huge = format!(r#"{{"event":"t","pad":"{}"}}"#, "x".repeat(10_000));
    for (media, body, status, code) in [
        (json, "", 400, "empty_batch"),
        (json, "  \n", 400, "empty_batch"),
        (json, "[]", 400, "empty_batch"),
        ("application/x-ndjson", "\n\n", 400, "empty_batch"),
        ("application/cloudevents+json", "", 400, "empty_batch"),
        (json, "{", 400, "invalid_json"),
        (json, r#"{"event":"t"} x"#, 400, "invalid_json"),
        (json, r#"[{"event":"t"}"#, 400, "invalid_json"),
        (json, r#"[{"event":"t"},]"#, 400, "invalid_json"),
        (json, "nonsense", 400, "invalid_json"),
        (json, "17", 422, "invalid_event"),
        (json, r#"{"event":5}"#, 422, "invalid_event"),
        (json, r#"{"model":"t"}"#, 422, "invalid_event"),
        (json, r#"{"event":"t","timestamp":"yesterday"}"#, 422, "invalid_timestamp"),
        (json, r#"{"event":"t","a":[[[[1]]]]}"#, 400, "json_too_deep"),
        (json, "[[[[[[1]]]]]]", 400, "json_too_deep"),
        (json, &big, 413, "event_too_large"),
        (json, &huge, 413, "body_too_large"),
        (json, r#"[{"event":"t"},{"event":"t"},{"event":"t"},{"event":"t"}]"#, 413, "batch_too_large"),
        ("application/x-ndjson", "{}\n{}\n{}\n{}", 413, "batch_too_large"),
        ("application/cloudevents-batch+json", "[1,2,3,4]", 413, "batch_too_large"),
        ("application/cloudevents-batch+json", "{}", 400, "invalid_json"),
        ("application/cloudevents+json", "[]", 422, "invalid_event"),
        ("application/cloudevents+avro", "x", 415, "unsupported_media_type"),
        ("application/x-www-form-urlencoded", "{}", 415, "unsupported_media_type"),
        ("text/plain", "{}", 415, "unsupported_media_type"),
        ("application/json; charset=utf-16", "{}", 415, "unsupported_media_type"),
        ("", "{", 400, "invalid_json"),
    ] {
        let told = refused(hub.post(EVENTS, media, body.to_owned())).await;
        assert_eq!((told.0, told.1.as_str()), (status, code), "{media}: {}", &body[..body.len().min(80)]);
    }
    let not_utf8 = hub.post(EVENTS, json, b"{\"event\":\"\xff\"}".to_vec());
    assert_eq!(refused(not_utf8).await, (400, "invalid_json".into()));
    let twice = hub.post(EVENTS, json, "{}").header(header::CONTENT_TYPE, "text/plain");
    assert_eq!(refused(twice).await, (400, "invalid_argument".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_problem_says_where_and_what_to_do() {
    let hub = hub().await;
    let lines = "{\"event\":\"t\"}\n{\"event\":\"t\",\"timestamp\":\"soon\"}";
    let (status, told) = problem(hub.post(EVENTS, "application/x-ndjson", lines)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(told["code"], "batch_refused");
    assert_eq!((&told["topic"], &told["index"], &told["field"]), (&json!("t"), &json!(1), &json!("timestamp")));
    assert!(told["detail"].as_str().unwrap().contains("partial"), "{told}");
    assert_eq!(told["refused"][0]["code"], "invalid_timestamp");
    assert!(told["refused"][0]["detail"].as_str().unwrap().contains("RFC 3339"), "{told}");
    let (_, told) = problem(hub.post(EVENTS, "application/json", r#"{"event":"t","timestamp":"soon"}"#)).await;
    assert_eq!(
        (&told["code"], &told["field"], told.get("refused")),
        (&json!("invalid_timestamp"), &json!("timestamp"), None)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_read_strictly() {
    let hub = hub().await;
    ok(hub.post(EVENTS, "application/json", r#"{"event":"t"}"#)).await;
    for (method, path, field) in [
        (Method::POST, "/v1/topics/t/events?partical=true", "partical"),
        (Method::POST, "/v1/topics/t/events?partial=true&partial=false", "partial"),
        (Method::POST, "/v1/topics/t/events?partial=maybe", "partial"),
        (Method::GET, "/v1/topics/t/events?filters=%7B%7D", "filters"),
        (Method::GET, "/v1/topics/t/events?limit=0", "limit"),
        (Method::GET, "/v1/topics/t/events?limit=many", "limit"),
        (Method::GET, "/v1/topics/t/events?format=xml", "format"),
        (Method::GET, "/v1/topics/t/events?event_names=true", "event_names"),
        (Method::GET, "/v1/topics/t/events?filter.a=%ff", "filter.a"),
        (Method::GET, "/v1/topics/t/events?filter=%7B%7D&filter.a=1", "filter"),
        (Method::GET, "/v1/topics/t/events?replay_from=earliest&replay_from=latest", "replay_from"),
        (Method::GET, "/v1/topics?limt=1", "limt"),
        (Method::GET, "/v1/topics/t?x=1", "x"),
        (Method::DELETE, "/v1/topics/t?really=true", "really"),
        (Method::GET, "/readyz?loud", "loud"),
    ] {
        let (status, told) = problem(hub.request(method, path)).await;
        assert_eq!(
            (status.as_u16(), &told["code"], &told["field"]),
            (400, &json!("invalid_argument"), &json!(field)),
            "{path}"
        );
    }
    for (headers, field) in [
        (&[("synapse-producer-id", "p")][..], "synapse-producer-sequence"),
        (&[("synapse-producer-sequence", "1")], "synapse-producer-id"),
        (&[("synapse-producer-id", "p"), ("synapse-producer-sequence", "x")], "synapse-producer-sequence"),
        (&[("synapse-producer-id", "p"), ("synapse-producer-sequence", "0")], "producer_sequence"),
        (&[("synapse-producer-id", ""), ("synapse-producer-sequence", "1")], "producer_id"),
    ] {
        let request = hub.post(EVENTS, "application/json", r#"{"event":"t"}"#);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let (status, told) = problem(request).await;
        assert_eq!((status.as_u16(), &told["field"]), (400, &json!(field)), "{headers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_points_cursors_and_filters_that_cannot_be_are_told_apart() {
    let hub = hub().await;
    ok(hub.post(EVENTS, "application/json", r#"{"event":"t"}"#)).await;
    let many = (0..70).map(|n| format!("filter=%7B%22n%22%3A{n}%7D&")).collect::<String>();
    let many = format!("/v1/topics/t/events?{many}");
    for (path, status, code) in [
        ("/v1/topics/a%20b/events", 400, "invalid_topic"),
        ("/v1/topics/a%2Fb/events", 400, "invalid_topic"),
        ("/v1/topics/%ff/events", 400, "invalid_topic"),
        ("/v1/topics/a,,b/events", 400, "invalid_topic"),
        ("/v1/topics/a.%3E.b/events", 400, "invalid_topic"),
        ("/v1/topics/synapse:x/events", 400, "invalid_topic"),
        ("/v1/topics/t/events?replay_from=soon", 400, "invalid_replay_point"),
        ("/v1/topics/t/events?until=soon", 400, "invalid_replay_point"),
        ("/v1/topics/t,u/events?replay_from=42", 400, "invalid_replay_point"),
        ("/v1/topics/t/events?replay_from=t@1", 400, "invalid_cursor"),
        ("/v1/topics/t/events?last_event_id=nonsense", 400, "invalid_cursor"),
        ("/v1/topics/t/events?filter=%7B", 400, "invalid_filter"),
        (
            "/v1/topics/t/events?filter=%7B%22n%22%3A%5B%7B%22numeric%22%3A%5B%22~%22%2C1%5D%7D%5D%7D",
            400,
            "invalid_filter",
        ),
        (many.as_str(), 400, "too_many_filters"),
        ("/v1/topics?pattern=a.%3E.b", 400, "invalid_topic"),
    ] {
        let told = refused(hub.get(path)).await;
        assert_eq!((told.0, told.1.as_str()), (status, code), "{path}");
        let told = refused(hub.get(path).header(header::ACCEPT, "text/event-stream")).await;
        assert_eq!((told.0, told.1.as_str()), (status, code), "{path}, as a stream");
    }
    let wildcard = refused(hub.post("/v1/topics/a.*/events", "application/json", "{}")).await;
    assert_eq!(wildcard, (400, "invalid_topic".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_nobody_made_is_not_found_when_topics_are_not_made_by_publishing() {
    let hub = hub_with(|config| config.topics.auto_create = false).await;
    for request in [
        hub.post("/v1/topics/gone/events", "application/json", r#"{"event":"t"}"#),
        hub.get("/v1/topics/gone/events"),
        hub.get("/v1/topics/gone/events").header(header::ACCEPT, "text/event-stream"),
        hub.get("/v1/topics/gone"),
        hub.request(Method::DELETE, "/v1/topics/gone"),
        hub.post("/v1/topics/gone/trim", "application/json", r#"{"keep_events":1}"#),
    ] {
        let (status, told) = problem(request).await;
        assert_eq!((status.as_u16(), &told["code"], &told["topic"]), (404, &json!("topic_not_found"), &json!("gone")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_paths_and_methods_are_problems_too() {
    let hub = hub().await;
    assert_eq!(refused(hub.get("/nowhere")).await, (404, "route_not_found".into()));
    assert_eq!(refused(hub.get("/v1/topics/t/events/")).await, (404, "route_not_found".into()));
    assert_eq!(refused(hub.request(Method::POST, "/health")).await, (405, "method_not_allowed".into()));
    assert_eq!(refused(hub.request(Method::PATCH, "/v1/topics/t")).await, (405, "method_not_allowed".into()));
    assert_eq!(refused(hub.get("/v1/topics/t/trim")).await, (405, "method_not_allowed".into()));
    let response = hub.request(Method::PATCH, "/v1/topics/t").send().await.unwrap();
    let allowed = response.headers()[header::ALLOW].to_str().unwrap().to_owned();
    assert!(["GET", "PUT", "DELETE"].iter().all(|method| allowed.contains(method)), "{allowed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_keeps_the_id_it_came_with() {
    let hub = hub().await;
    let response = hub.get("/livez").header("x-request-id", "mine-42").send().await.unwrap();
    assert_eq!(response.headers()["x-request-id"], "mine-42");
    let (_, told) = problem(hub.get("/nowhere").header("x-request-id", "mine-43")).await;
    assert_eq!(told["request_id"], "mine-43");
    for of_no_use in ["", "a b", &"x".repeat(200)] {
        let response = hub.get("/livez").header("x-request-id", of_no_use).send().await.unwrap();
        let given = response.headers()["x-request-id"].to_str().unwrap();
        assert!(given.len() == 32 && given != of_no_use, "{given}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_subscriptions_is_told_as_retryable() {
    let hub = hub_with(|config| config.limits.subscriptions = 1).await;
    ok(hub.post(EVENTS, "application/json", r#"{"event":"t"}"#)).await;
    let open = crate::support::EventSource::open(hub.get(EVENTS)).await;
    let (status, told) = problem(hub.get(EVENTS).header(header::ACCEPT, "text/event-stream")).await;
    assert_eq!(
        (status.as_u16(), &told["code"], &told["retryable"]),
        (503, &json!("too_many_subscriptions"), &json!(true))
    );
    assert!(told["retry_after_ms"].as_u64().unwrap() > 0);
    drop(open);
    crate::support::eventually("the place is free again", async || {
        hub.get(EVENTS).send().await.unwrap().status().is_success()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_damage_to_a_body_is_taken_for_a_defect_of_the_hub() {
    let hub = hub().await;
    let cloudevent = r#"{"specversion":"1.0","id":"1","source":"s","type":"t","time":"2025-01-01T00:00:00Z","data":{"a":[1,"\u00fc"]}}"#;
    let flat = r#"{"event":"t","timestamp":"2025-01-01T00:00:00Z","id":"1","a":[1,{"b":"\ud83d\ude00"}]}"#;
    let whole = [
        ("application/json", flat.to_owned()),
        ("application/json", format!("[{flat},{flat}]")),
        ("application/x-ndjson", format!("{flat}\n{flat}")),
        ("application/cloudevents+json", cloudevent.to_owned()),
        ("application/cloudevents-batch+json", format!("[{cloudevent},{cloudevent}]")),
    ];
    // A fixed sequence, so that a failure can be had again.
    let mut seed = 7u32;
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as usize % below
    };
    for round in 0..400 {
        let (media, text) = &whole[round % whole.len()];
        let mut body = text.clone().into_bytes();
        for _ in 0..=random(3) {
            let at = random(body.len());
            match random(4) {
                0 => body[at] = random(256) as u8,
                1 => drop(body.remove(at)),
                2 => body.truncate(at.max(1)),
                _ => body.insert(at, b"{}[]\",:\\0\0"[random(9)]),
            }
        }
        let response = hub.post(EVENTS, media, body.clone()).send().await.unwrap();
        let status = response.status();
        assert!(!status.is_server_error(), "{media}: {}: {status}", String::from_utf8_lossy(&body));
        if !status.is_success() {
            assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        }
    }
}
