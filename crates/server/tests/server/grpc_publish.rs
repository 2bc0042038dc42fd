//! Publishing over gRPC: unary and pipelined.

use prost::Message as _;
use synapse_hub_proto::v1::{self, publish_request::Payload};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, codec::CompressionEncoding};

use crate::support::{hub, hub_with, numbers};

fn flat(topic: &str, numbers: std::ops::Range<u64>) -> v1::PublishRequest {
    let events = numbers.map(|n| format!(r#"{{"event":"tick","n":{n}}}"#).into()).collect();
    v1::PublishRequest {
        topic: topic.into(),
        payload: Some(Payload::Flat(v1::FlatBatch { events })),
        ..v1::PublishRequest::default()
    }
}

fn code(status: &tonic::Status) -> &str {
    status.metadata().get("synapse-error-code").map_or("none", |code| code.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_stored_in_both_forms_and_answered_with_positions() {
    let hub = hub().await;
    let mut client = hub.events().await;
    let response = client.publish(v1::PublishRequest { request_id: 9, ..flat("t", 0..3) }).await.unwrap().into_inner();
    assert_eq!((response.request_id, response.positions.len(), response.ids.len()), (9, 3, 3));
    assert!(response.partitions.is_empty() && response.refused.is_empty() && response.error.is_none());
    assert!(!response.durability.is_empty());
    let event = v1::Event {
        id: "mine".into(),
        source: "s".into(),
        r#type: "tick".into(),
        time_unix_nanos: 1_000_000_000,
        subject: "about".into(),
        extensions: vec![v1::Attribute { name: "priority".into(), value: "high".into() }],
        data: r#"{"n":3}"#.into(),
        ..v1::Event::default()
    };
    let batch = v1::EventBatch { events: vec![event] }.encode_to_vec().into();
    let request = v1::PublishRequest { payload: Some(Payload::Batch(batch)), ..flat("t", 0..0) };
    let response = client.publish(request).await.unwrap().into_inner();
    assert_eq!((response.positions.len(), response.ids.len()), (1, 0), "ids are told when the hub gave any");
    let page = hub.page("t", "format=cloudevents&filter.n=3").await;
    assert_eq!(page["events"][0]["id"], "mine");
    assert_eq!(
        (page["events"][0]["subject"].as_str(), page["events"][0]["priority"].as_str()),
        (Some("about"), Some("high"))
    );
    assert_eq!(numbers(&hub.page("t", "").await), [0, 1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_context_of_a_call_goes_to_its_events() {
    let hub = hub().await;
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut request = Request::new(flat("t", 0..1));
    request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    hub.events().await.publish(request).await.unwrap();
    assert_eq!(hub.page("t", "format=cloudevents").await["events"][0]["traceparent"], traceparent);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_carry_the_stable_code() {
    let hub = hub_with(|config| {
        config.limits.body_bytes = 10_000;
        config.limits.batch_events = 3;
        config.topics.auto_create = false;
    })
    .await;
    let mut client = hub.events().await;
    let garbage = v1::PublishRequest { payload: Some(Payload::Batch(vec![0xff; 9].into())), ..flat("t", 0..0) };
    for (request, grpc, expected) in [
        (flat("", 0..1), Code::InvalidArgument, "invalid_topic"),
        (flat("a b", 0..1), Code::InvalidArgument, "invalid_topic"),
        (flat("t", 0..1), Code::NotFound, "topic_not_found"),
        (flat("t", 0..0), Code::InvalidArgument, "empty_batch"),
        (v1::PublishRequest { payload: None, ..flat("t", 0..0) }, Code::InvalidArgument, "empty_batch"),
        (flat("t", 0..4), Code::InvalidArgument, "batch_too_large"),
        (garbage, Code::InvalidArgument, "invalid_event"),
        (v1::PublishRequest { durability: 9, ..flat("t", 0..1) }, Code::InvalidArgument, "invalid_argument"),
        (v1::PublishRequest { producer_id: "p".into(), ..flat("t", 0..1) }, Code::InvalidArgument, "invalid_argument"),
        (v1::PublishRequest { producer_sequence: 1, ..flat("t", 0..1) }, Code::InvalidArgument, "invalid_argument"),
    ] {
        let status = client.publish(request.clone()).await.unwrap_err();
        assert_eq!((status.code(), code(&status)), (grpc, expected), "{request:?}: {status:?}");
        assert!(!status.message().contains('['), "{status:?}");
        assert!(status.metadata().contains_key("x-request-id"));
    }
    let huge = vec![format!(r#"{{"event":"t","pad":"{}"}}"#, "x".repeat(200_000)).into()];
    let huge = v1::PublishRequest { payload: Some(Payload::Flat(v1::FlatBatch { events: huge })), ..flat("t", 0..0) };
    let status = client.publish(huge).await.unwrap_err();
    assert_eq!((status.code(), code(&status)), (Code::InvalidArgument, "body_too_large"), "{status:?}");
    assert!(status.message().contains("limits.body_bytes"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_events_are_named_and_nothing_is_stored_unless_partly_was_asked_for() {
    let hub = hub().await;
    let mut client = hub.events().await;
    let events = ["{\"event\":\"tick\",\"n\":0}", "{\"n\":1}", "{\"event\":\"tick\",\"timestamp\":\"soon\"}"];
    let events = events.map(|text| text.to_owned().into()).to_vec();
    let request = v1::PublishRequest { payload: Some(Payload::Flat(v1::FlatBatch { events })), ..flat("t", 0..0) };
    let whole = client.publish(request.clone()).await.unwrap().into_inner();
    assert_eq!(whole.positions, ["", "", ""]);
    let refused: Vec<_> = whole.refused.iter().map(|one| (one.index, one.code.as_str(), one.field.as_str())).collect();
    assert_eq!(refused, [(1, "invalid_event", "event"), (2, "invalid_timestamp", "timestamp")]);
    let error = whole.error.unwrap();
    assert_eq!((error.code.as_str(), error.retryable), ("batch_refused", false));
    let part = client.publish(v1::PublishRequest { partial: true, ..request }).await.unwrap().into_inner();
    assert!(!part.positions[0].is_empty() && part.positions[1].is_empty() && part.error.is_none());
    assert_eq!(part.refused.len(), 2);
    assert_eq!(numbers(&hub.page("t", "").await), [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_answers_in_order_and_goes_on_after_a_failed_batch() {
    let hub = hub().await;
    let mut client = hub.events().await;
    let mut requests =
        vec![flat("t", 0..2), flat("", 2..3), flat("a b", 0..1), flat("u", 10..11), flat("", 11..12), flat("t", 3..4)];
    requests[1].producer_sequence = 5;
    requests.iter_mut().enumerate().for_each(|(index, request)| request.request_id = index as u64);
    let mut responses = client.publish_stream(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let mut answers = Vec::new();
    while let Some(response) = responses.message().await.unwrap() {
        answers.push((response.request_id, response.positions.len(), response.error.map(|error| error.code)));
    }
    let failed = |code: &str| Some(code.to_owned());
    let expected = [
        (0, 2, None),
        (1, 0, failed("invalid_argument")),
        (2, 0, failed("invalid_topic")),
        (3, 1, None),
        (4, 1, None),
        (5, 1, None),
    ];
    assert_eq!(answers, expected);
    assert_eq!(numbers(&hub.page("t", "").await), [0, 1, 3]);
    assert_eq!(numbers(&hub.page("u", "").await), [10, 11], "an empty topic repeats the one before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipelined_stream_keeps_its_order_and_its_batches_are_stored_once() {
    const BATCHES: u64 = 500;
    let hub = hub().await;
    let mut client = hub.events().await;
    let mut all = Vec::new();
    // The second round sends the same numbers again, as after lost replies.
    for _ in 0..2 {
        let (sender, receiver) = tokio::sync::mpsc::channel(16);
        let mut responses = client.publish_stream(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        let from = BATCHES - 50;
        let first = if all.is_empty() { 1 } else { from + 1 };
        tokio::spawn(async move {
            for sequence in first..=BATCHES {
                let numbers = (sequence - 1) * 10..sequence * 10;
                let request = v1::PublishRequest {
                    producer_id: "p".into(),
                    producer_sequence: sequence,
                    request_id: sequence,
                    ..flat("t", numbers)
                };
                sender.send(request).await.unwrap();
            }
        });
        let mut positions = Vec::new();
        for sequence in first..=BATCHES {
            let response = responses.message().await.unwrap().unwrap();
            assert_eq!((response.request_id, &response.error), (sequence, &None));
            assert_eq!(response.duplicate, !all.is_empty());
            positions.push(response.positions);
        }
        assert!(responses.message().await.unwrap().is_none());
        all.push((first, positions));
    }
    let (first, again) = (&all[0].1, &all[1].1);
    assert_eq!(first[first.len() - again.len()..], again[..]);
    let mut seen = Vec::new();
    let mut from = "earliest".to_owned();
    loop {
        let page = hub.page("t", &format!("limit=10000&replay_from={from}")).await;
        seen.extend(numbers(&page));
        from = page["cursor"].as_str().unwrap().to_owned();
        if page["more"] == false {
            break;
        }
    }
    assert_eq!(seen, (0..BATCHES * 10).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_garbage_or_too_large_messages_fails_with_a_code() {
    let hub = hub_with(|config| config.limits.body_bytes = 10_000).await;
    let mut client = hub.events().await;
    let huge = vec![format!(r#"{{"event":"t","pad":"{}"}}"#, "x".repeat(200_000)).into()];
    let huge = v1::PublishRequest { payload: Some(Payload::Flat(v1::FlatBatch { events: huge })), ..flat("t", 0..0) };
    let mut responses = client.publish_stream(tokio_stream::iter([flat("t", 0..1), huge])).await.unwrap().into_inner();
    assert_eq!(responses.message().await.unwrap().unwrap().positions.len(), 1, "what came before is still answered");
    let status = responses.message().await.unwrap_err();
    assert_eq!((status.code(), code(&status)), (Code::InvalidArgument, "body_too_large"), "{status:?}");
    assert!(status.message().contains("limits.body_bytes"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_messages_are_taken_within_the_limit_and_answers_are_not_compressed_unasked() {
    let hub = hub_with(|config| config.limits.body_bytes = 100_000).await;
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let mut client = hub.events().await.send_compressed(encoding).accept_compressed(encoding);
        let response = client.publish(flat("t", 0..1)).await.unwrap();
        assert_eq!(response.metadata().get("grpc-encoding"), None, "most clients say that they accept gzip");
        let bomb = vec![format!(r#"{{"event":"t","pad":"{}"}}"#, "x".repeat(20_000_000)).into()];
        let bomb =
            v1::PublishRequest { payload: Some(Payload::Flat(v1::FlatBatch { events: bomb })), ..flat("t", 0..0) };
        let status = client.publish(bomb).await.unwrap_err();
        assert_eq!(code(&status), "body_too_large", "{status:?}");
    }
    assert_eq!(numbers(&hub.page("t", "").await), [0, 0]);
}
