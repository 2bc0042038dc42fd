//! Server-sent events.

use std::time::Duration;

use reqwest::{Method, StatusCode, header};
use serde_json::json;

use crate::support::{EventSource, hub, hub_with, ok};

const EVENTS: &str = "/v1/topics/t/events";

#[tokio::test(flavor = "multi_thread")]
async fn replay_runs_into_live_and_a_reconnect_resumes_where_it_was() {
    let hub = hub().await;
    hub.publish_numbers("t", 0..5).await;
    let url = format!("{EVENTS}?replay_from=earliest");
    let mut source = EventSource::open(hub.get(&url)).await;
    let first = source.block().await.unwrap();
    assert_eq!(first.retry.as_deref(), Some("2000"));
    assert!(first.id.is_some_and(|id| !id.is_empty()) && first.data.is_none());
    assert_eq!(source.numbers(3).await, [0, 1, 2]);
    let last = source.next().await;
    assert_eq!(last.json()["n"], 3);
    drop(source);

    hub.publish_numbers("t", 5..7).await;
    let again = hub.get(&url).header("Last-Event-ID", last.id.clone().unwrap());
    let mut source = EventSource::open(again).await;
    assert_eq!(source.numbers(3).await, [4, 5, 6], "the header wins over the address");
    hub.publish_numbers("t", 7..8).await;
    assert_eq!(source.numbers(1).await, [7]);
    let by_parameter = hub.get(&format!("{EVENTS}?last_event_id={}", last.id.unwrap()));
    assert_eq!(EventSource::open(by_parameter).await.numbers(4).await, [4, 5, 6, 7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_saw_no_event_yet_misses_none_when_it_comes_back() {
    let hub = hub().await;
    hub.publish_numbers("t", 0..1).await;
    let mut source = EventSource::open(hub.get(EVENTS)).await;
    let id = source.block().await.unwrap().id.unwrap();
    drop(source);
    hub.publish_numbers("t", 1..2).await;
    let mut source = EventSource::open(hub.get(EVENTS).header("Last-Event-ID", id)).await;
    assert_eq!(source.numbers(1).await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_topics_and_wildcards_are_one_stream_with_one_cursor() {
    let hub = hub().await;
    hub.publish_numbers("pipeline.a", 0..2).await;
    hub.publish_numbers("other", 10..11).await;
    let mut source = EventSource::open(hub.get("/v1/topics/pipeline.*,other/events?replay_from=earliest")).await;
    let mut seen = source.numbers(3).await;
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 10]);
    hub.publish_numbers("pipeline.b", 20..21).await;
    let message = source.next().await;
    assert_eq!(message.json()["n"], 20);
    drop(source);
    hub.publish_numbers("pipeline.a", 2..3).await;
    let again = hub.get("/v1/topics/pipeline.*,other/events").header("Last-Event-ID", message.id.unwrap());
    assert_eq!(EventSource::open(again).await.numbers(1).await, [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_are_patterns_or_values() {
    let hub = hub().await;
    let events = json!([
        {"event": "tick", "n": 0, "model": "a", "ok": true, "version": "1.0"},
        {"event": "tick", "n": 1, "model": "b", "ok": false, "version": "1.0"},
        {"event": "tock", "n": 2, "model": "a", "ok": false, "metrics": {"loss": 0.5}},
    ]);
    hub.publish("t", &events).await;
    for (query, expected) in [
        ("filter.model=a", &[0, 2][..]),
        ("filter.model=a&filter.model=b", &[0, 1, 2]),
        ("filter.model=a&filter.event=tock", &[2]),
        ("filter.ok=false", &[1, 2]),
        ("filter.version=1.0", &[0, 1]),
        ("filter.metrics.loss=0.5", &[2]),
        ("filter=%7B%22model%22%3A%22b%22%7D", &[1]),
        ("filter=%7B%22model%22%3A%22b%22%7D&filter=%7B%22event%22%3A%5B%22tock%22%5D%7D", &[1, 2]),
        ("filter=%7B%22n%22%3A%5B%7B%22numeric%22%3A%5B%22%3E%22%2C0%5D%7D%5D%7D", &[1, 2]),
        ("filter=%7B%22metrics%22%3A%7B%22loss%22%3A%5B%7B%22exists%22%3Atrue%7D%5D%7D%7D", &[2]),
    ] {
        let mut source =
            EventSource::open(hub.get(&format!("{EVENTS}?replay_from=earliest&until=latest&{query}"))).await;
        assert_eq!(source.numbers(expected.len()).await, expected, "{query}");
        assert_eq!(source.next().await.event.as_deref(), Some("end"), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_may_be_named_by_type_and_written_as_cloudevents() {
    let hub = hub().await;
    hub.publish("t", &json!({"event": "model-ready", "n": 1, "id": "x", "source": "s"})).await;
    let mut plain = EventSource::open(hub.get(&format!("{EVENTS}?replay_from=earliest"))).await;
    assert_eq!(plain.next().await.event, None);
    let mut source =
        EventSource::open(hub.get(&format!("{EVENTS}?replay_from=earliest&event_names=true&format=cloudevents"))).await;
    let message = source.next().await;
    assert_eq!(message.event.as_deref(), Some("model-ready"));
    let event = message.json();
    assert_eq!(
        (&event["specversion"], &event["type"], &event["data"]),
        (&json!("1.0"), &json!("model-ready"), &json!({"n": 1}))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn json_with_line_breaks_is_one_message() {
    let hub = hub().await;
    let text = "{\n  \"event\": \"t\",\r\n  \"deep\": {\n    \"a\": [1,\n 2]\r }\n}";
    ok(hub.post(EVENTS, "application/json", text)).await;
    let mut source = EventSource::open(hub.get(&format!("{EVENTS}?replay_from=earliest"))).await;
    assert_eq!(source.next().await.json()["deep"], json!({"a": [1, 2]}));
}

#[tokio::test(flavor = "multi_thread")]
async fn trimmed_history_is_a_gap_that_a_reconnect_does_not_see_again() {
    let hub = hub().await;
    let positions = hub.publish_numbers("t", 0..10).await;
    ok(hub.post("/v1/topics/t/trim", "application/json", r#"{"keep_events":4}"#)).await;
    let mut source = EventSource::open(hub.get(&format!("{EVENTS}?replay_from={}", positions[1]))).await;
    let gap = source.next().await;
    assert_eq!(gap.event.as_deref(), Some("gap"));
    let told = gap.json();
    assert_eq!((&told["topic"], &told["partition"], &told["reason"]), (&json!("t"), &json!(0), &json!("trimmed")));
    assert_eq!((&told["earliest"], &told["lost"]), (&json!(positions[6]), &json!(5)));
    assert_eq!(told["cursor"], gap.id.clone().unwrap());
    assert_eq!(source.numbers(4).await, [6, 7, 8, 9]);
    drop(source);
    let mut source = EventSource::open(hub.get(EVENTS).header("Last-Event-ID", gap.id.unwrap())).await;
    assert_eq!(source.numbers(4).await, [6, 7, 8, 9]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bounded_stream_ends_and_an_event_source_is_told_not_to_come_back() {
    let hub = hub().await;
    hub.publish_numbers("t", 0..3).await;
    let url = format!("{EVENTS}?replay_from=earliest&until=latest");
    let mut source = EventSource::open(hub.get(&url)).await;
    assert_eq!(source.numbers(3).await, [0, 1, 2]);
    let end = source.next().await;
    assert_eq!((end.event.as_deref(), end.json()["reason"].as_str()), (Some("end"), Some("until")));
    assert!(!end.json()["cursor"].as_str().unwrap().is_empty());
    assert_eq!(source.block().await, None);
    let again =
        hub.get(&url).header(header::ACCEPT, "text/event-stream").header("Last-Event-ID", end.id.clone().unwrap());
    assert_eq!(again.send().await.unwrap().status(), StatusCode::NO_CONTENT);
    let from_there = format!("{EVENTS}?replay_from={}", end.json()["cursor"].as_str().unwrap());
    hub.publish_numbers("t", 3..4).await;
    assert_eq!(EventSource::open(hub.get(&from_there)).await.numbers(1).await, [3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_of_a_deleted_topic_are_told() {
    let hub = hub().await;
    hub.publish_numbers("t", 0..1).await;
    let mut source = EventSource::open(hub.get(EVENTS)).await;
    source.block().await.unwrap();
    let response = hub.request(Method::DELETE, "/v1/topics/t").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let end = source.next().await;
    assert_eq!((end.event.as_deref(), end.json()["reason"].as_str()), (Some("end"), Some("topic_deleted")));
    assert_eq!(source.block().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_stream_stays_alive_and_its_cursor_moves_on() {
    let hub = hub_with(|config| config.subscriptions.heartbeat = Duration::from_millis(100)).await;
    hub.publish_numbers("t", 0..1).await;
    let mut source = EventSource::open(hub.get(&format!("{EVENTS}?filter.n=99"))).await;
    let start = source.block().await.unwrap().id.unwrap();
    hub.publish_numbers("t", 1..5).await;
    let mut heartbeat = source.block().await.unwrap();
    while heartbeat.id.as_ref() == Some(&start) {
        heartbeat = source.block().await.unwrap();
    }
    assert_eq!((heartbeat.comment.as_deref(), &heartbeat.data), (Some("heartbeat"), &None));
    drop(source);
    let mut source = EventSource::open(hub.get(EVENTS).header("Last-Event-ID", heartbeat.id.unwrap())).await;
    hub.publish_numbers("t", 5..6).await;
    assert_eq!(source.numbers(1).await, [5], "what was not wanted is not read again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plus_in_a_time_may_be_written_as_it_is() {
    let hub = hub().await;
    hub.publish_numbers("t", 0..1).await;
    for from in
        ["2020-01-01T00:00:00+02:00", "2020-01-01T00:00:00%2B02:00", "2020-01-01%2000:00:00", "2020-01-01+00:00:00"]
    {
        assert_eq!(crate::support::numbers(&hub.page("t", &format!("replay_from={from}")).await), [0], "{from}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn web_pages_of_allowed_origins_may_subscribe() {
    let hub = hub_with(|config| config.http.cors_origins = vec!["https://console.example".into()]).await;
    hub.publish_numbers("t", 0..1).await;
    let asked = |origin: &'static str| hub.get(EVENTS).header(header::ORIGIN, origin);
    let allowed = asked("https://console.example").send().await.unwrap();
    assert_eq!(allowed.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://console.example");
    let other = asked("https://evil.example").send().await.unwrap();
    assert_eq!(other.headers().get(header::ACCESS_CONTROL_ALLOW_ORIGIN), None);
    let preflight = hub
        .request(Method::OPTIONS, EVENTS)
        .header(header::ORIGIN, "https://console.example")
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
        .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "content-type")
        .send()
        .await
        .unwrap();
    assert!(preflight.status().is_success());
    assert!(preflight.headers().contains_key(header::ACCESS_CONTROL_ALLOW_METHODS));
}
