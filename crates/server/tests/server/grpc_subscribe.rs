//! Subscribing over gRPC.

use std::time::Duration;

use prost::Message as _;
use serde_json::json;
use synapse_hub_proto::v1::{self, ended::Reason, subscribe_response::Item};
use tonic::{Code, Streaming};

use crate::support::{PATIENCE, TestHub, hub, hub_with, ok};

fn request(topics: &[&str], from: &str) -> v1::SubscribeRequest {
    v1::SubscribeRequest {
        topics: topics.iter().map(|topic| topic.to_string()).collect(),
        replay_from: from.into(),
        ..v1::SubscribeRequest::default()
    }
}

async fn subscribe(hub: &TestHub, request: v1::SubscribeRequest) -> Streaming<v1::SubscribeResponse> {
    hub.events().await.subscribe(request).await.unwrap().into_inner()
}

async fn next(stream: &mut Streaming<v1::SubscribeResponse>) -> Item {
    let message = tokio::time::timeout(PATIENCE, stream.message()).await.expect("the stream hangs");
    message.unwrap().expect("the stream has ended").item.unwrap()
}

async fn started(stream: &mut Streaming<v1::SubscribeResponse>) -> String {
    match next(stream).await {
        Item::Started(started) => started.cursor,
        other => panic!("{other:?} came first"),
    }
}

/// The numbers of the next events, and the cursor after the last.
async fn numbers(stream: &mut Streaming<v1::SubscribeResponse>, count: usize) -> (Vec<u64>, String) {
    let (mut numbers, mut cursor) = (Vec::new(), String::new());
    while numbers.len() < count {
        let Item::Delivery(delivery) = next(stream).await else { continue };
        let batch = v1::EventBatch::decode(delivery.batch).unwrap();
        assert_eq!(batch.events.len(), delivery.positions.len());
        for event in &batch.events {
            numbers.push(serde_json::from_slice::<serde_json::Value>(&event.data).unwrap()["n"].as_u64().unwrap());
        }
        let last = delivery.positions.last().unwrap();
        let comma = if delivery.cursor_rest.is_empty() { "" } else { "," };
        cursor = format!("{}/{}@{last}{comma}{}", delivery.topic, delivery.partition, delivery.cursor_rest);
    }
    (numbers, cursor)
}

#[tokio::test(flavor = "multi_thread")]
async fn replay_runs_into_live_and_resumes_by_cursor() {
    let hub = hub().await;
    hub.publish_numbers("a", 0..3).await;
    hub.publish_numbers("b", 10..12).await;
    let mut stream = subscribe(&hub, request(&["a", "b"], "earliest")).await;
    started(&mut stream).await;
    let (mut seen, _) = numbers(&mut stream, 5).await;
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 10, 11]);
    hub.publish_numbers("a", 3..4).await;
    let (seen, cursor) = numbers(&mut stream, 1).await;
    assert_eq!(seen, [3]);
    drop(stream);
    hub.publish_numbers("b", 12..13).await;
    let mut stream = subscribe(&hub, request(&["a", "b"], &cursor)).await;
    assert_eq!(started(&mut stream).await.split(',').count(), 2);
    assert_eq!(numbers(&mut stream, 1).await.0, [12]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_flat_form_carries_what_the_flat_object_has_no_place_for() {
    let hub = hub().await;
    hub.publish("t", &json!([{"event": "a", "n": 1}, {"event": "a", "n": 2}])).await;
    let event = r#"{"specversion":"1.0","id":"1","source":"s","type":"b","subject":"about","myext":"x",
        "traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","expirytime":"2100-01-01T00:00:00Z","data":{"n":3}}"#;
    ok(hub.post("/v1/topics/t/events", "application/cloudevents+json", event)).await;
    hub.publish("t", &json!({"event": "a", "n": 4})).await;
    let wanted =
        v1::SubscribeRequest { format: v1::Format::Flat.into(), until: "latest".into(), ..request(&["t"], "earliest") };
    let mut stream = subscribe(&hub, wanted).await;
    started(&mut stream).await;
    let (mut texts, mut types, mut beyond) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        match next(&mut stream).await {
            Item::Delivery(delivery) => {
                assert!(delivery.batch.is_empty());
                assert_eq!(delivery.type_counts.iter().sum::<u32>() as usize, delivery.flat.len());
                let runs = delivery.types.iter().zip(&delivery.type_counts);
                types.extend(runs.flat_map(|(kind, count)| std::iter::repeat_n(kind.clone(), *count as usize)));
                for attributes in delivery.attributes {
                    let text = &delivery.flat[attributes.index as usize];
                    assert_eq!(serde_json::from_slice::<serde_json::Value>(text).unwrap()["n"], 3);
                    beyond.extend(attributes.attributes.into_iter().map(|one| (one.name, one.value)));
                }
                texts.extend(delivery.flat);
            }
            Item::Ended(ended) => {
                assert_eq!(ended.reason(), Reason::Until);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(types, ["a", "a", "b", "a"]);
    let flat: serde_json::Value = serde_json::from_slice(&texts[2]).unwrap();
    assert_eq!((&flat["event"], &flat["id"], &flat["n"]), (&json!("b"), &json!("1"), &json!(3)));
    beyond.sort();
    let names: Vec<&str> = beyond.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["expirytime", "myext", "subject", "traceparent"]);
    assert_eq!(beyond[0].1, "2100-01-01T00:00:00Z");
    assert!(stream.message().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_limits_gaps_and_heartbeats_are_as_asked() {
    let hub = hub_with(|config| config.subscriptions.heartbeat = Duration::from_millis(50)).await;
    let positions = hub.publish_numbers("t", 0..20).await;
    ok(hub.post("/v1/topics/t/trim", "application/json", r#"{"keep_events":10}"#)).await;
    let filters = vec![r#"{"n":[{"numeric":[">=",15]}]}"#.to_owned(), r#"{"n":[12]}"#.to_owned()];
    let wanted = v1::SubscribeRequest { filters, batch_events_max: 2, ..request(&["t"], &positions[3]) };
    let mut stream = subscribe(&hub, wanted).await;
    started(&mut stream).await;
    let Item::Gap(gap) = next(&mut stream).await else { panic!("no gap") };
    assert_eq!(
        (gap.topic.as_str(), gap.lost, gap.reason.as_str(), &gap.earliest),
        ("t", Some(7), "trimmed", &positions[10])
    );
    let mut seen = Vec::new();
    while seen.len() < 6 {
        let Item::Delivery(delivery) = next(&mut stream).await else { continue };
        assert!(delivery.positions.len() <= 2);
        seen.extend(delivery.positions);
    }
    assert_eq!(seen, [12, 15, 16, 17, 18, 19].map(|n| positions[n].clone()));
    let Item::Heartbeat(heartbeat) = next(&mut stream).await else { panic!("no heartbeat") };
    assert!(heartbeat.cursor.contains(positions[19].as_str()), "{}", heartbeat.cursor);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_subscribed_to_has_its_code() {
    let hub = hub_with(|config| {
        config.limits.subscriptions = 1;
        config.topics.auto_create = false;
    })
    .await;
    let mut client = hub.events().await;
    let with = |change: &dyn Fn(&mut v1::SubscribeRequest)| {
        let mut request = request(&["t"], "earliest");
        change(&mut request);
        request
    };
    for (request, grpc, expected) in [
        (with(&|_| {}), Code::NotFound, "topic_not_found"),
        (with(&|request| request.topics.clear()), Code::InvalidArgument, "invalid_argument"),
        (with(&|request| request.topics[0] = "a b".into()), Code::InvalidArgument, "invalid_topic"),
        (with(&|request| request.filters.push("{".into())), Code::InvalidArgument, "invalid_filter"),
        (with(&|request| request.filters = vec!["{\"a\":1}".into(); 65]), Code::InvalidArgument, "too_many_filters"),
        (with(&|request| request.replay_from = "soon".into()), Code::InvalidArgument, "invalid_replay_point"),
        (with(&|request| request.until = "x@y".into()), Code::InvalidArgument, "invalid_cursor"),
        (with(&|request| request.format = 9), Code::InvalidArgument, "invalid_argument"),
    ] {
        let status = client.subscribe(request).await.unwrap_err();
        assert_eq!(status.metadata().get("synapse-error-code").unwrap(), expected, "{status:?}");
        assert_eq!(status.code(), grpc);
    }
    ok(hub.request(reqwest::Method::PUT, "/v1/topics/t")).await;
    let _open = subscribe(&hub, request(&["t"], "latest")).await;
    let status = client.subscribe(request(&["t"], "latest")).await.unwrap_err();
    assert_eq!(
        (status.code(), status.metadata().get("synapse-error-code").unwrap().to_str().unwrap()),
        (Code::ResourceExhausted, "too_many_subscriptions")
    );
    assert!(status.metadata().get("synapse-retry-after-ms").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_does_not_read_holds_no_memory_and_holds_up_nobody() {
    let hub = hub().await;
    hub.publish_numbers("t", 0..1).await;
    let mut slow = subscribe(&hub, request(&["t"], "latest")).await;
    started(&mut slow).await;
    let mut fast = subscribe(&hub, request(&["t"], "latest")).await;
    started(&mut fast).await;
    // More than all windows between the hub and the slow client hold.
    let pad = "x".repeat(100_000);
    for n in 0..200 {
        hub.publish("t", &json!({"event": "tick", "n": n, "pad": pad})).await;
    }
    assert_eq!(numbers(&mut fast, 200).await.0, (0..200).collect::<Vec<_>>());
    assert_eq!(numbers(&mut slow, 200).await.0, (0..200).collect::<Vec<_>>(), "and it loses nothing");
}
